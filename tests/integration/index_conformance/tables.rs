//! Tables that somebody defined: columns of every kind, keys of every type, and definitions that change.

use chrono_tz::Tz;
use serde_json::{Value, json};
use sluice::{
    domain::{Catalog, Definition, Table},
    fault::FaultKind,
    index::{Index, IndexName, SearchError, Unfilled},
    next_step::NextStep,
    sink::{Applied, Sink},
};

use super::{NEVER, hits, of_text, only};
use crate::support::{
    elasticsearch::Corner,
    events::{applied, fault},
    indices::{Embedded, IndexBench, entities, request, search},
    on_each_adapter,
};

on_each_adapter! {
    embedded: Embedded, elasticsearch: Corner;
    a_table_with_a_column_of_every_kind_is_searched_by_each,
    keys_of_any_type_and_text_find_their_documents,
    a_column_that_is_added_is_searched_and_the_documents_there_are_stay,
    a_column_that_documents_lack_is_told_until_the_index_is_rebuilt,
    a_column_of_another_type_is_refused_until_the_index_is_rebuilt,
    a_table_that_is_added_before_another_leaves_the_members_of_metadata_as_they_are,
    a_process_with_an_earlier_definition_writes_nothing_once_another_has_prepared_the_index,
    a_rebuild_that_an_earlier_definition_began_is_made_by_the_one_that_asks_for_it,
}

/// A table of one's own, as a file of the user's defines it.
fn defined(name: &str, key: &str, rest: &str) -> Definition {
    let toml = format!(
        "name = \"{name}\"\nabout = \"x\"\nentity = \"um_{name}\"\nkey = {{ column = \"codigo\", type = \"{key}\" }}\n{rest}"
    );
    Definition::parse(&toml).unwrap_or_else(|error| panic!("{toml}: {error}"))
}

fn catalog_of(definitions: Vec<Definition>) -> (Catalog, Table) {
    let catalog = Catalog::of(definitions, Tz::America__Sao_Paulo);
    (catalog, catalog.tables().last().expect("a table"))
}

#[allow(clippy::too_many_lines)]
async fn a_table_with_a_column_of_every_kind_is_searched_by_each<B: IndexBench>() {
    let (catalog, pedidos) = catalog_of(vec![defined(
        "pedidos",
        "bigint",
        r#"
        [event]
        categoria = "vendas"
        evento = "pedido_{fase}"
        metadata = { fase = "fase", quanto = "quanto", quando = "quando", partes = "partes" }
        [[columns]]
        name = "fase"
        type = "text"
        [[columns]]
        name = "nota_fiscal"
        type = "text"
        search = "keyword"
        [[columns]]
        name = "origem_ip"
        type = "text"
        search = "ip"
        [[columns]]
        name = "segredo"
        type = "text"
        search = "none"
        [[columns]]
        name = "itens"
        type = "integer"
        [[columns]]
        name = "quanto"
        type = "number"
        [[columns]]
        name = "pago"
        type = "boolean"
        [[columns]]
        name = "quando"
        type = "timestamp"
        [[columns]]
        name = "entrega"
        type = "date"
        [[columns]]
        name = "extra"
        type = "json"
        [[columns]]
        name = "partes"
        type = "list"
        "#,
    )]);
    let bench = B::new();
    let index = bench.prepared_with(catalog).await;
    let row = r#"{"codigo": 9007199254740993, "fase": "Em São Paulo", "nota_fiscal": "NF 1/A", "origem_ip": "10.1.2.3",
        "segredo": "oculto", "itens": 9223372036854775807, "quanto": 12345678901234567890.125, "pago": true,
        "quando": "2026-05-01 09:30:00", "entrega": "2026-05-02", "extra": {"a": 1e999}, "partes": ["porta", "janela azul"]}"#;
    let nothing = r#"{"codigo": 2}"#;
    applied(&*index, vec![of_text(1, pedidos, row), of_text(2, pedidos, nothing)]).await;
    let of = IndexName::Entities(pedidos);
    let mut wrong = Vec::new();
    for (query, expected) in [
        ("codigo:9007199254740993", 1),
        ("fase:sao AND fase.keyword:\"Em São Paulo\"", 1),
        ("nota_fiscal:\"NF 1/A\"", 1),
        ("nota_fiscal:nf", 0),
        ("origem_ip:\"10.0.0.0/8\"", 1),
        ("itens:9223372036854775807", 1),
        ("itens:>9223372036854775806", 1),
        ("quanto:>1e19", 1),
        ("pago:true", 1),
        ("quando:[2026-05-01T12:30:00Z TO 2026-05-01T12:30:00Z]", 1),
        ("entrega:2026-05-02", 1),
        ("partes:janela", 1),
        ("partes.keyword:porta", 1),
        ("metadata.fase:paulo AND metadata.quanto:>1 AND metadata.partes:azul", 1),
        ("metadata.quando:2026-05-01", 1),
        ("evento:pedido_em AND categoria:vendas", 1),
        ("evento.keyword:pedido_sem_status", 1),
        ("NOT _exists_:quanto", 1),
        ("_exists_:metadata", 1),
    ] {
        let found = hits(&*index, of, query).await;
        if found != expected {
            wrong.push(format!("{query}: expected {expected}, found {found}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for stored in ["segredo:oculto", "extra:x"] {
        let refused = index.search(&request(of, stored)).await;
        assert!(matches!(refused, Err(SearchError::Query(_))), "{stored}: {refused:?}");
    }
    let document = only(&*index, of, "pago:true").await;
    assert_eq!(document["codigo"], 9_007_199_254_740_993_i64);
    assert_eq!(
        (&document["quanto"], &document["segredo"]),
        (&json!("12345678901234567890.125"), &json!("oculto"))
    );
    assert_eq!(document["extra"], json!({"a": "1e999"}));
    assert_eq!(
        hits(&*index, IndexName::Eventos, "metadata.quanto:>1e19 AND tipo_evento:um_pedidos").await,
        1
    );
    let mut asked = request(of, "*");
    asked.count_by = ["itens", "entrega", "pago", "partes"].map(str::to_owned).into();
    let counts = index.search(&asked).await.expect("an answer").counts;
    let first: Vec<&Value> = counts.iter().map(|counts| &counts.values[0].value).collect();
    assert_eq!(
        first,
        [&json!(i64::MAX), &json!("2026-05-02T00:00:00.000Z"), &json!(true), &json!("janela azul")]
    );
}

async fn keys_of_any_type_and_text_find_their_documents<B: IndexBench>() {
    let rule = "event = { categoria = \"c\", evento = \"e\" }";
    let (catalog, coisas) =
        catalog_of(vec![defined("numeros", "bigint", rule), defined("coisas", "text", rule)]);
    let numeros = catalog.get("numeros").expect("a table");
    let bench = B::new();
    let index = bench.prepared_with(catalog).await;
    let keys = ["ção/1", "a b", "\"q\"\\", "_x", &"é".repeat(256)];
    let texts = (0..).zip(keys).map(|(n, key)| of_text(n, coisas, &json!({"codigo": key}).to_string()));
    let numbers = [-5, 0, i64::MAX].map(|key| of_text(100, numeros, &json!({"codigo": key}).to_string()));
    let outcome = applied(&*index, texts.chain(numbers).collect()).await;
    assert_eq!(outcome, Applied { inserted: 8, entities: 8, ..NEVER });
    index.make_visible().await.expect("visible");
    let ids = async |table: Table| {
        let hits = search(&*index, IndexName::Entities(table), "*").await.hits;
        let mut ids: Vec<String> = hits.into_iter().map(|hit| hit.id).collect();
        ids.sort();
        ids
    };
    let mut expected = keys.map(str::to_owned);
    expected.sort();
    assert_eq!(ids(coisas).await, expected);
    assert_eq!(ids(numeros).await, ["-5", "0", "9223372036854775807"]);
    for key in keys {
        let quoted = key.replace('\\', "\\\\").replace('"', "\\\"");
        assert_eq!(
            hits(&*index, IndexName::Entities(coisas), &format!("codigo:\"{quoted}\"")).await,
            1,
            "{key}"
        );
    }
    let other = index.search(&request(entities("leads"), "*")).await;
    assert!(matches!(other, Err(SearchError::Request { field: "index", .. })), "{other:?}");
}

const RULE: &str = "event = { categoria = \"c\", evento = \"e\", metadata = { nota = \"nota\" } }\n";

async fn a_column_that_is_added_is_searched_and_the_documents_there_are_stay<B: IndexBench>() {
    let columns = |more: &str| format!("{RULE}columns = [{{ name = \"nota\", type = \"text\" }}{more}]");
    let (first, before) = catalog_of(vec![defined("coisas", "bigint", &columns(""))]);
    let bench = B::new();
    let index = bench.prepared_with(first).await;
    let rows =
        (1..=40).map(|n| of_text(n, before, &format!(r#"{{"codigo":{n},"nota":"antiga","cor":"azul"}}"#)));
    applied(&*index, rows.collect()).await;
    // A rebuild that is under way goes on all the same.
    let rebuild =
        index.begin_rebuild(IndexName::Entities(before), uuid::Uuid::nil()).await.expect("a rebuild");
    let known = of_text(1, before, r#"{"codigo":1,"nota":"antiga","cor":"azul"}"#);
    applied(&*index.rebuild_sink(&rebuild), vec![known]).await;
    drop(index);

    let (then, after) =
        catalog_of(vec![defined("coisas", "bigint", &columns(", { name = \"cor\", type = \"text\" }"))]);
    let index = bench.prepared_with(then).await;
    let of = IndexName::Entities(after);
    assert_eq!(hits(&*index, of, "nota:antiga").await, 40);
    let newer = of_text(41, after, r#"{"codigo":1,"nota":"antiga","cor":"verde"}"#);
    let newer = applied(&*index, vec![newer, of_text(42, after, r#"{"codigo":99,"cor":"verde"}"#)]).await;
    assert_eq!(newer, Applied { inserted: 2, entities: 2, ..NEVER });
    assert_eq!(hits(&*index, of, "cor:verde").await, 2);
    assert_eq!(hits(&*index, of, "nota:antiga").await, 40, "no document was lost or doubled");
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 42);
    let same =
        applied(&*index, vec![of_text(43, after, r#"{"codigo":1,"nota":"antiga","cor":"verde"}"#)]).await;
    assert_eq!(same, Applied { duplicates: 1, stale: 1, ..NEVER }, "versions and ids were kept");
    assert_eq!(index.rebuilds().await.expect("rebuilds")[0].id, rebuild.id);
    index.end_rebuild(&rebuild).await.expect("given up");
    drop(index);
    let index = bench.prepared_with(then).await;
    assert_eq!(hits(&*index, of, "*").await, 41);
}

async fn a_column_that_documents_lack_is_told_until_the_index_is_rebuilt<B: IndexBench>() {
    let columns = |more: &str| format!("{RULE}columns = [{{ name = \"nota\", type = \"text\" }}{more}]");
    let (first, before) = catalog_of(vec![defined("coisas", "bigint", &columns(""))]);
    let bench = B::new();
    let index = bench.prepared_with(first).await;
    assert_eq!(index.unfilled().await.expect("an answer"), []);
    let row = r#"{"codigo":1,"nota":"a","cor":"azul"}"#;
    applied(&*index, vec![of_text(1, before, row)]).await;
    // Without its event the document can't be made anew from what the index holds.
    let emptied = index.begin_rebuild(IndexName::Eventos, uuid::Uuid::nil()).await.expect("a rebuild");
    index.serve_rebuilt(&emptied).await.expect("swapped");
    index.end_rebuild(&emptied).await.expect("ended");
    drop(index);

    let more = r#", { name = "cor", type = "text" }"#;
    let (then, after) = catalog_of(vec![defined("coisas", "bigint", &columns(more))]);
    let of = IndexName::Entities(after);
    let next_step = NextStep::FillIndex { index: of.to_string() };
    let lacks_cor = [Unfilled { index: of, columns: vec!["cor".to_owned()], next_step }];
    let index = bench.prepared_with(then).await;
    assert_eq!(hits(&*index, of, "cor:azul").await, 0);
    assert_eq!(index.unfilled().await.expect("an answer"), lacks_cor);
    drop(index);
    let index = bench.prepared_with(then).await;
    assert_eq!(index.unfilled().await.expect("an answer").len(), 1, "whoever begins later knows it, too");

    let rebuild = index.begin_rebuild(of, uuid::Uuid::nil()).await.expect("a rebuild");
    applied(&*index.rebuild_sink(&rebuild), vec![of_text(1, after, row)]).await;
    index.serve_rebuilt(&rebuild).await.expect("swapped");
    index.end_rebuild(&rebuild).await.expect("ended");
    assert_eq!(hits(&*index, of, "cor:azul").await, 1);
    assert_eq!(index.unfilled().await.expect("an answer"), []);
    drop(index);
    let index = bench.prepared_with(then).await;
    assert_eq!(index.unfilled().await.expect("an answer"), [], "it was built by this definition");
    drop(index);

    let other = r#", { name = "cor", type = "text", from = "tom", formerly = ["cor"] }"#;
    let (last, _) = catalog_of(vec![defined("coisas", "bigint", &columns(other))]);
    let index = bench.prepared_with(last).await;
    assert_eq!(index.unfilled().await.expect("an answer"), lacks_cor);
}

async fn a_process_with_an_earlier_definition_writes_nothing_once_another_has_prepared_the_index<
    B: IndexBench,
>() {
    let columns = |from: &str| format!("{RULE}columns = [{{ name = \"nota\", type = \"text\"{from} }}]");
    let (first, before) = catalog_of(vec![defined("coisas", "bigint", &columns(""))]);
    let renamed = columns(r#", from = "tom", formerly = ["nota"]"#);
    let (then, after) = catalog_of(vec![defined("coisas", "bigint", &renamed)]);
    let bench = B::new();
    drop(bench.prepared_with(first).await);
    let old = bench.prepared_with(first).await;
    // There are no documents that could be told to be of the earlier definition.
    drop(bench.prepared_with(then).await);
    let rows = || vec![of_text(1, before, r#"{"codigo":1,"nota":"a"}"#)];
    let refused = fault(&*old, rows()).await;
    assert_eq!(refused.kind, FaultKind::Misconfigured);
    let told = refused.to_string();
    for part in ["differ in: nota", "the same table definitions", "has the right ones, restart it"] {
        assert!(told.contains(part), "{told}");
    }
    let rebuild = old.begin_rebuild(IndexName::Entities(before), uuid::Uuid::nil()).await;
    assert!(rebuild.is_err(), "{rebuild:?}");
    old.prepare().await.ok();
    assert_eq!(fault(&*old, rows()).await.message, refused.message, "it takes nothing back");
    drop(old);

    let new = bench.prepared_with(then).await;
    assert_eq!(new.unfilled().await.expect("an answer"), []);
    applied(&*new, vec![of_text(1, after, r#"{"codigo":1,"tom":"a"}"#)]).await;
    assert_eq!(hits(&*new, IndexName::Entities(after), "nota:a").await, 1);
}

async fn a_rebuild_that_an_earlier_definition_began_is_made_by_the_one_that_asks_for_it<B: IndexBench>() {
    let columns = |more: &str| format!("{RULE}columns = [{{ name = \"nota\", type = \"text\" }}{more}]");
    let (first, before) = catalog_of(vec![defined("coisas", "bigint", &columns(""))]);
    let bench = B::new();
    let index = bench.prepared_with(first).await;
    let row = r#"{"codigo":1,"nota":"a","cor":"azul"}"#;
    applied(&*index, vec![of_text(1, before, row)]).await;
    index.begin_rebuild(IndexName::Entities(before), uuid::Uuid::nil()).await.expect("a rebuild");
    drop(index);

    let (then, after) =
        catalog_of(vec![defined("coisas", "bigint", &columns(", { name = \"cor\", type = \"text\" }"))]);
    let of = IndexName::Entities(after);
    let index = bench.prepared_with(then).await;
    let rebuild = index.begin_rebuild(of, uuid::Uuid::nil()).await.expect("a rebuild");
    assert_eq!(index.rebuilds().await.expect("rebuilds"), std::slice::from_ref(&rebuild));
    applied(&*index.rebuild_sink(&rebuild), vec![of_text(1, after, row)]).await;
    index.serve_rebuilt(&rebuild).await.expect("swapped");
    index.end_rebuild(&rebuild).await.expect("ended");
    assert_eq!(index.unfilled().await.expect("an answer"), []);
    applied(&*index, vec![of_text(2, after, r#"{"codigo":2,"cor":"azul"}"#)]).await;
    assert_eq!(hits(&*index, of, "cor:azul").await, 2);
}

async fn a_column_of_another_type_is_refused_until_the_index_is_rebuilt<B: IndexBench>() {
    let columns = |kind: &str| format!("{RULE}columns = [{{ name = \"nota\", type = \"{kind}\" }}]");
    let (first, before) = catalog_of(vec![defined("coisas", "bigint", &columns("text"))]);
    let bench = B::new();
    let index = bench.prepared_with(first).await;
    let row = r#"{"codigo":1,"nota":"72.5"}"#;
    applied(&*index, vec![of_text(1, before, row)]).await;
    drop(index);

    let (then, after) = catalog_of(vec![defined("coisas", "bigint", &columns("number"))]);
    let index = bench.open_with(then);
    let told = index.prepare().await.expect_err("another type");
    assert_eq!(told.kind, FaultKind::Misconfigured);
    assert!(told.message.contains("nota") && told.advice.to_string().contains("rebuild the index"), "{told}");
    for of in [IndexName::Eventos, IndexName::Entities(after)] {
        let rebuild = index.begin_rebuild(of, uuid::Uuid::nil()).await.expect("a rebuild");
        let outcome = applied(&*index.rebuild_sink(&rebuild), vec![of_text(1, after, row)]).await;
        assert_eq!(outcome.inserted + outcome.entities, 1);
        index.serve_rebuilt(&rebuild).await.expect("swapped");
        index.end_rebuild(&rebuild).await.expect("ended");
    }
    index.prepare().await.expect("prepared");
    assert_eq!(hits(&*index, IndexName::Entities(after), "nota:>72").await, 1);
    assert_eq!(hits(&*index, IndexName::Eventos, "metadata.nota:>72").await, 1);
}

async fn a_table_that_is_added_before_another_leaves_the_members_of_metadata_as_they_are<B: IndexBench>() {
    let table = |name: &str, kind: &str| {
        defined(name, "bigint", &format!("{RULE}columns = [{{ name = \"nota\", type = \"{kind}\" }}]"))
    };
    let (first, only_x) = catalog_of(vec![table("x0", "integer")]);
    let bench = B::new();
    let index = bench.prepared_with(first).await;
    applied(&*index, vec![of_text(1, only_x, r#"{"codigo":1,"nota":7}"#)]).await;
    drop(index);

    let (both, x0) = catalog_of(vec![table("a0", "text"), table("x0", "integer")]);
    let a0 = both.get("a0").expect("a0");
    let index = bench.open_with(both);
    index.prepare().await.expect("the tables' indices are prepared all the same");
    let rows = vec![
        of_text(2, x0, r#"{"codigo":2,"nota":9}"#),
        of_text(3, a0, r#"{"codigo":3,"nota":"abc"}"#),
        of_text(4, a0, r#"{"codigo":4,"nota":"12"}"#),
    ];
    let outcome = applied(&*index, rows).await;
    assert_eq!(outcome, Applied { inserted: 3, entities: 3, ..NEVER });
    index.make_visible().await.expect("visible");
    drop(index);
    // Whoever only searches has prepared nothing.
    let index = bench.open_with(both);
    assert_eq!(hits(&*index, IndexName::Eventos, "metadata.nota:>=7").await, 3, "numbers as they were");
    let kept = only(&*index, IndexName::Eventos, "entidade.id:3").await;
    assert_eq!(kept["metadata"]["coluna_nota"], "abc", "what does not fit is kept beside it");
    assert_eq!(hits(&*index, IndexName::Entities(a0), "metadata.nota:abc").await, 1);

    let rebuild = index.begin_rebuild(IndexName::Eventos, uuid::Uuid::nil()).await.expect("a rebuild");
    applied(&*index.rebuild_sink(&rebuild), vec![of_text(3, a0, r#"{"codigo":3,"nota":"abc"}"#)]).await;
    index.serve_rebuilt(&rebuild).await.expect("swapped");
    index.end_rebuild(&rebuild).await.expect("ended");
    assert_eq!(
        hits(&*index, IndexName::Eventos, "metadata.nota:abc").await,
        1,
        "a rebuild follows the first"
    );
}

#[tokio::test]
async fn where_a_key_is_replaced_no_table_stops_that_need_not_and_a_rebuild_misses_no_document_of_the_former_key()
 {
    let keyed = |key: &str, column: &str| {
        let toml = format!(
            "name = \"coisas\"\nabout = \"x\"\nentity = \"coisa\"\nkey = {{ {key} }}\n\
             event = {{ categoria = \"c\", evento = \"e\" }}\ncolumns = [{{ {column} }}]\n"
        );
        catalog_of(vec![Definition::parse(&toml).unwrap_or_else(|error| panic!("{toml}: {error}"))])
    };
    let (slug, title) = ("= \"slug\", type = \"text\"", "= \"titulo\", type = \"text\"");
    let (big, whole) = ("= \"n\", type = \"bigint\"", "= \"n\", type = \"integer\"");
    let rows = [r#"{"slug":"a","titulo":"Casa Azul","n":7}"#, r#"{"slug":"b","titulo":"Casa Verde","n":8}"#];
    for ((key, column), (new_key, new_column), keeps) in [
        ((slug, title), (title, slug), Some(["slug", "titulo"])),
        ((big, title), (title, whole), Some(["n", "titulo"])),
        // Numbers have another order than keys.
        ((slug, whole), (big, slug), None),
    ] {
        let define = |key: &str, column: &str| keyed(&format!("column {key}"), &format!("name {column}"));
        let (first, before) = define(key, column);
        let corner = Corner::new();
        let index = corner.index_of(first);
        index.prepare().await.expect("prepared");
        applied(&index, (0..).zip(rows).map(|(n, row)| of_text(n, before, row)).collect()).await;

        let (then, after) = define(new_key, new_column);
        let of = IndexName::Entities(after);
        let index = corner.index_of(then);
        let anew = || vec![of_text(3, after, rows[0])];
        index.make_visible().await.expect("visible");
        match keeps {
            Some(kept) => {
                index.prepare().await.expect("what the index keeps takes every value");
                let unfilled = index.unfilled().await.expect("an answer").remove(0);
                assert_eq!((unfilled.index, unfilled.columns), (of, kept.map(str::to_owned).to_vec()));
                assert_eq!(applied(&index, anew()).await.entities, 1);
                assert_eq!(hits(&index, of, "*").await, 3);
                let page = index.versions(after, None, 10).await.expect("a page");
                assert_eq!((page.entities.len(), page.strays.len()), (1, 2), "{new_key}");
            }
            None => {
                let told = index.prepare().await.expect_err("another order").advice.to_string();
                assert!(told.contains("rebuild the index"), "{told}");
            }
        }

        let rebuild = index.begin_rebuild(of, uuid::Uuid::nil()).await.expect("a rebuild");
        let sink = index.rebuild_sink(&rebuild);
        applied(&*sink, anew()).await;
        sink.make_visible().await.expect("visible");
        let lacking = index.lacking_in(&rebuild, None).await.expect("compared");
        assert!(lacking.documents.is_empty() && lacking.next.is_none(), "{lacking:?}");
        // Put there by somebody else.
        let path = format!("{}/_doc/alheio?refresh=true", corner.alias("coisas"));
        assert_eq!(corner.ask("PUT", &path, Some(json!({"nota": 1}))).await.0, 201);
        let lacking = index.lacking_in(&rebuild, None).await.expect("compared").documents;
        assert_eq!(lacking.iter().map(|hit| &*hit.id).collect::<Vec<_>>(), ["alheio"]);

        index.serve_rebuilt(&rebuild).await.expect("swapped");
        index.end_rebuild(&rebuild).await.expect("ended");
        index.prepare().await.expect("prepared");
        assert_eq!(index.unfilled().await.expect("an answer"), []);
        assert_eq!(hits(&index, of, "*").await, 1);
    }
}
