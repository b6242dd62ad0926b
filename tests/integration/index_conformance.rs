//! What every index promises, on each adapter: the embedded one, which needs nothing, and Elasticsearch or OpenSearch.

use bytes::Bytes;
use chrono_tz::Tz;
use serde_json::{Value, json};
use sluice::{
    domain::{Catalog, Definition, Json, Table},
    fault::FaultKind,
    index::{Index, IndexName, SearchError, Sort},
    log::Position,
    sink::{Applied, ApplyError, SinkEvent},
};
use uuid::Uuid;

use crate::support::{
    elasticsearch::Corner,
    events::{LOG, applied, batch, event, lead, manual, session},
    indices::{Embedded, IndexBench, entities, request, search},
    on_each_adapter, table,
};

on_each_adapter! {
    embedded: Embedded, elasticsearch: Corner;
    an_applied_batch_is_visible_after_make_visible,
    the_same_batch_again_changes_nothing_not_even_after_reopening,
    of_equal_versions_the_later_wins,
    a_stale_version_never_goes_back_within_a_batch_or_across_reopening,
    the_same_event_twice_in_a_batch_is_one_document_and_one_duplicate,
    poison_is_rejected_by_place_and_its_neighbours_are_applied,
    unknown_columns_of_any_name_and_type_are_kept_and_never_rejected,
    no_json_that_a_project_can_send_parks_a_row,
    a_table_with_a_column_of_every_kind_is_searched_by_each,
    keys_of_any_type_and_text_find_their_documents,
    a_column_that_is_added_is_searched_and_the_documents_there_are_stay,
    a_column_of_another_type_is_refused_until_the_index_is_rebuilt,
    every_query_finds_what_the_search_servers_find,
    a_query_that_is_not_understood_is_refused_and_never_answered_with_zero,
    values_are_counted_by_field_and_by_day,
    hits_are_sorted_and_paged_without_gap_or_repeat,
    a_rebuild_serves_only_when_it_is_told_to_and_leaves_nothing_behind,
    a_rebuild_is_joined_by_whoever_begins_it_again_and_can_be_given_up,
}

const NEVER: Applied = Applied { inserted: 0, duplicates: 0, entities: 0, stale: 0, replaced: 0 };

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x5f0c_2f6e_7f0a_4f7a_9a55_0000_0000_0000 + n)
}

async fn hits(index: &dyn Index, of: IndexName, query: &str) -> u64 {
    index.make_visible().await.expect("visible");
    search(index, of, query).await.total
}

/// The only document that matches.
async fn only(index: &dyn Index, of: IndexName, query: &str) -> Value {
    index.make_visible().await.expect("visible");
    let mut answer = search(index, of, query).await;
    assert_eq!((answer.total, answer.hits.len()), (1, 1), "{query}");
    Value::Object(answer.hits.remove(0).source)
}

/// Without when it was written.
fn unstamped(mut document: Value) -> Value {
    document.as_object_mut().expect("an object").remove("processado_em");
    document
}

// --- what every sink promises ---------------------------------------------------------------------------------------

async fn an_applied_batch_is_visible_after_make_visible<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let events = vec![
        lead(1, id(1), 1, json!({"nome": "Ana", "status_lead": "novo"})),
        lead(2, id(1), 2, json!({"nome": "Ana", "status_lead": "qualificado", "corretor": "Bia"})),
        session(3, json!({"id": id(2), "total_messages": 4, "ip_address": "10.0.0.1"})),
        manual(4, json!({"nota": 1})),
    ];
    let outcome = applied(&*index, events.clone()).await;
    assert_eq!(outcome, Applied { inserted: 4, entities: 2, ..NEVER });
    index.make_visible().await.expect("visible");
    let health = index.health().await.expect("health");
    let counts = [("eventos".to_owned(), 4), ("leads".to_owned(), 1), ("chat_sessions".to_owned(), 1)];
    assert_eq!(health.counts, counts);
    let stored = only(&*index, entities("leads"), "*").await;
    assert_eq!(stored["status_lead"], "qualificado");
    assert_eq!(stored["metadata"]["corretor"], "Bia");
    assert_eq!(stored["evento_id"], json!(events[1].event.id));
    let envelope: Value = serde_json::from_slice(&events[3].raw).expect("JSON");
    let stored = only(&*index, IndexName::Eventos, "tipo_evento:manual").await;
    assert!(stored["processado_em"].is_string());
    assert_eq!(unstamped(stored), envelope);
}

async fn the_same_batch_again_changes_nothing_not_even_after_reopening<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let events = vec![lead(1, id(1), 1, json!({"nome": "Ana"})), manual(2, json!({}))];
    applied(&*index, events.clone()).await;
    let before = only(&*index, entities("leads"), "*").await;
    // An equal version is written again, with what is there already.
    let same = Applied { duplicates: 2, entities: 1, ..NEVER };
    assert_eq!(applied(&*index, events.clone()).await, same);
    drop(index);
    let index = bench.prepared().await;
    assert_eq!(applied(&*index, events).await, same);
    assert_eq!(unstamped(only(&*index, entities("leads"), "*").await), unstamped(before));
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 2);
}

async fn of_equal_versions_the_later_wins<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let named = |offset, name: &str| lead(offset, id(1), 7, json!({"nome": name}));
    let outcome = applied(&*index, vec![named(1, "primeira"), named(2, "segunda")]).await;
    assert_eq!(outcome, Applied { inserted: 2, entities: 1, ..NEVER });
    assert_eq!(only(&*index, entities("leads"), "*").await["nome"], "segunda");
    let outcome = applied(&*index, vec![named(3, "terceira")]).await;
    assert_eq!(outcome, Applied { inserted: 1, entities: 1, ..NEVER });
    assert_eq!(only(&*index, entities("leads"), "*").await["nome"], "terceira");
    assert_eq!(hits(&*index, entities("leads"), "nome:segunda").await, 0);
}

async fn a_stale_version_never_goes_back_within_a_batch_or_across_reopening<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let unordered =
        vec![lead(5, id(1), 9, json!({"nome": "nova"})), lead(6, id(1), 8, json!({"nome": "velha"}))];
    assert_eq!(applied(&*index, unordered).await, Applied { inserted: 2, entities: 1, ..NEVER });
    drop(index);
    let index = bench.prepared().await;
    let stale = applied(&*index, vec![lead(3, id(1), 4, json!({"nome": "mais velha"}))]).await;
    assert_eq!(stale, Applied { inserted: 1, stale: 1, ..NEVER });
    assert_eq!(only(&*index, entities("leads"), "*").await["nome"], "nova");
    let newer = applied(&*index, vec![lead(7, id(1), 10, json!({"nome": "mais nova"}))]).await;
    assert_eq!(newer, Applied { inserted: 1, entities: 1, ..NEVER });
    assert_eq!(only(&*index, entities("leads"), "*").await["nome"], "mais nova");
    assert_eq!(hits(&*index, entities("leads"), "nome:velha").await, 0);
}

async fn the_same_event_twice_in_a_batch_is_one_document_and_one_duplicate<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let event = lead(1, id(1), 1, json!({}));
    let mut copy = event.clone();
    copy.position.offset = 2;
    let outcome = applied(&*index, vec![event, copy]).await;
    assert_eq!(outcome, Applied { inserted: 1, duplicates: 1, entities: 1, ..NEVER });
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 1);
}

async fn poison_is_rejected_by_place_and_its_neighbours_are_applied<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let neighbours = [lead(6, id(1), 1, json!({})), lead(8, id(2), 1, json!({}))];
    let poison = lead(7, id(3), -2, json!({"nome": "segredo"}));
    let events = vec![neighbours[0].clone(), poison, neighbours[1].clone()];
    let Err(ApplyError::Rejected(rejections)) = index.apply(LOG, &batch(events)).await else {
        panic!("the poison was taken");
    };
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].position, Position { partition: 0, offset: 7 });
    assert!(!rejections[0].reason.contains("segredo"), "{}", rejections[0].reason);
    let outcome = applied(&*index, neighbours.to_vec()).await;
    assert_eq!((outcome.inserted + outcome.duplicates, outcome.entities + outcome.stale), (2, 2));
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 2);
    assert_eq!(hits(&*index, entities("leads"), "*").await, 2);
}

async fn unknown_columns_of_any_name_and_type_are_kept_and_never_rejected<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let odd = [
        json!({"extra": 1}),
        json!({"extra": "texto"}),
        json!({"extra": {"a": [1, {"b.": 2}]}}),
        json!({"extra": [{"": 1}, "x", null]}),
        json!({"": 1, " ": 2, ".": 3, "..": 4, "a..b": 5, ".a": 6, "a.": 7, "nome.x": 8}),
        json!({"empresa": {"a": 1}, "projeto": [[{"a": 1}]], "total_messages": "muitas"}),
        json!({"is_active": "talvez", "duration_seconds": {"s": 1}, "localizacao": "São Paulo"}),
        json!({"localizacao": [1, {"": 2}], "extra": "x".repeat(100_000)}),
    ];
    let mut events = Vec::new();
    for (i, columns) in (0..).zip(&odd) {
        events.push(lead(i, Uuid::new_v4(), 1, columns.clone()));
        events.push(manual(100 + i, columns.clone()));
    }
    let outcome = applied(&*index, events.clone()).await;
    assert_eq!(outcome, Applied { inserted: 16, entities: 8, ..NEVER });
    let of_row = format!("id:\"{}\"", events[10].event.entidade.id);
    let stored = only(&*index, entities("leads"), &of_row).await;
    assert_eq!(stored["metadata"]["coluna_empresa"], json!({"a": 1}));
    // What does not fit its field is kept beside it, and can't be asked for under that name.
    let far = json!({"id": id(1), "started_at": "9999-12-31T23:59:59-12:00", "ip_address": "oculto"});
    applied(&*index, vec![session(200, far)]).await;
    assert_eq!(only(&*index, entities("chat_sessions"), "*").await["ip_address"], "oculto");
    assert_eq!(hits(&*index, entities("chat_sessions"), "_exists_:ip_address").await, 0);
}

/// An event of a row's own text.
fn of_text(offset: i64, table: Table, row: &str) -> SinkEvent {
    let row = Json::try_from(Bytes::copy_from_slice(row.as_bytes()))
        .unwrap_or_else(|error| panic!("{row}: {error}"));
    let event = event(table, &row, 1);
    SinkEvent { position: Position { partition: 0, offset }, raw: event.encode(), event, table: Some(table) }
}

async fn no_json_that_a_project_can_send_parks_a_row<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let (deep, digits, text) = (5_000, "9".repeat(2_000), "x".repeat(40_000));
    let odd = [
        r#""score_qualificacao": 1e999"#.to_owned(),
        format!(r#""score_qualificacao": {digits}, "nota": {digits}"#),
        format!(r#""score_qualificacao": 0.{digits}"#),
        format!(r#""localizacao": {}1{}"#, "[".repeat(deep), "]".repeat(deep)),
        format!(r#""localizacao": {}1{}"#, r#"{"a":"#.repeat(deep), "}".repeat(deep)),
        format!(r#""extra": {}1{}"#, "[".repeat(30), "]".repeat(30)),
        r#""nome": "a\ud800b", "email": "\udc00", "\ud800": 1, "origem": ["\ud83d"]"#.to_owned(),
        r#""nome": "a\u0000b", "x\u0000": "\u0000", "interesse": ["\u0000"]"#.to_owned(),
        r#""localizacao": {"a": 1, "a": 2}, "extra": {"b": [{"c": 1, "\u0063": 2}]}, "nome": {"x": 1, "x": 2}"#.to_owned(),
        format!(r#""nome": "{text}", "{}": 1"#, "n".repeat(60_000)),
        format!("\"nome\": \"Ana\",\n  \"localizacao\": {{\r\n\t\"uf\":\n\"SP\"}}"),
        r#""updated_at": "infinity", "created_at": 5, "interesse": {"a": 1}, "telefone": 1e999"#.to_owned(),
    ];
    let rows: Vec<String> =
        (0..).zip(&odd).map(|(n, odd)| format!(r#"{{"id":"{}",{odd}}}"#, id(n))).collect();
    let events: Vec<SinkEvent> = (0..).zip(&rows).map(|(n, row)| of_text(n, table("leads"), row)).collect();
    let count = rows.len() as u64;
    let outcome = applied(&*index, events.clone()).await;
    assert_eq!(outcome, Applied { inserted: count, entities: count, ..NEVER });
    index.make_visible().await.expect("visible");
    // Every hit can be shown, and what was found there is found under its name.
    assert_eq!(search(&*index, IndexName::Eventos, "*").await.hits.len() as u64, count);
    let shown = search(&*index, entities("leads"), "*").await.hits;
    assert_eq!(shown.len() as u64, count);
    let dados =
        only(&*index, IndexName::Eventos, &format!("entidade.id:\"{}\"", id(0))).await["dados"].clone();
    assert_eq!(dados["score_qualificacao"], "1e999", "every digit");
    let twice =
        only(&*index, IndexName::Eventos, &format!("entidade.id:\"{}\"", id(8))).await["dados"].clone();
    assert_eq!((&twice["localizacao"]["a"], &twice["extra"]["b"][0]["c"]), (&json!(2), &json!(2)));
    assert_eq!(
        hits(&*index, entities("leads"), "_exists_:score_qualificacao").await,
        1,
        "a fraction of any length"
    );
    assert_eq!(hits(&*index, entities("leads"), "nome:ana").await, 1);
    assert_eq!(hits(&*index, entities("leads"), "nome.keyword:\"a\u{fffd}b\"").await, 1);
    let again = applied(&*index, events).await;
    assert_eq!(again, Applied { duplicates: count, entities: count, ..NEVER });
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
    let rebuild = index.begin_rebuild(IndexName::Entities(before)).await.expect("a rebuild");
    applied(&*index.rebuild_sink(&rebuild), vec![of_text(1, before, r#"{"codigo":1,"nota":"antiga"}"#)])
        .await;
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
    assert_eq!(same, Applied { duplicates: 1, entities: 1, ..NEVER }, "versions and ids were kept");
    assert_eq!(index.rebuilds().await.expect("rebuilds")[0].id, rebuild.id);
    index.end_rebuild(&rebuild).await.expect("given up");
    drop(index);
    let index = bench.prepared_with(then).await;
    assert_eq!(hits(&*index, of, "*").await, 41);
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
    assert!(told.message.contains("nota") && told.advice.contains("rebuild this index"), "{told}");
    for of in [IndexName::Eventos, IndexName::Entities(after)] {
        let rebuild = index.begin_rebuild(of).await.expect("a rebuild");
        let outcome = applied(&*index.rebuild_sink(&rebuild), vec![of_text(1, after, row)]).await;
        assert_eq!(outcome.inserted + outcome.entities, 1);
        index.serve_rebuilt(&rebuild).await.expect("swapped");
        index.end_rebuild(&rebuild).await.expect("ended");
    }
    index.prepare().await.expect("prepared");
    assert_eq!(hits(&*index, IndexName::Entities(after), "nota:>72").await, 1);
    assert_eq!(hits(&*index, IndexName::Eventos, "metadata.nota:>72").await, 1);
}

// --- what every index promises --------------------------------------------------------------------------------------

/// Three leads, two sessions and a manual event; versions are seconds after 1970-01-12T13:46:40Z.
fn documents() -> Vec<SinkEvent> {
    vec![
        lead(
            1,
            id(1),
            1,
            json!({"nome": "João Conceição", "email": "joao@exemplo.com.br", "status_lead": "qualificado",
                   "score_qualificacao": 80, "nome_empresa": "Padaria São João", "origem": "indicação",
                   "interesse": ["casa", "apartamento novo", "casa"]}),
        ),
        lead(
            2,
            id(2),
            100_000,
            json!({"nome": "Ana Souza", "email": "ana@exemplo.com.br", "status_lead": "novo",
                   "score_qualificacao": 20, "origem": "site", "interesse": ["casa"]}),
        ),
        lead(
            3,
            id(3),
            200_000,
            json!({"nome": "Joana D'Ávila (SP)", "score_qualificacao": 50, "origem": ""}),
        ),
        session(
            4,
            json!({"id": id(4), "total_messages": 60, "is_active": true, "ip_address": "10.1.2.3",
                   "started_at": "2026-11-24T10:20:30Z", "pages_visited": ["/", "/contato"],
                   "perguntas_feitas": ["Qual o preço?", "Aceita permuta?"]}),
        ),
        session(
            5,
            json!({"id": id(5), "total_messages": 3, "is_active": false, "ip_address": "2001:db8::1",
                   "started_at": "2026-11-25T00:00:00Z"}),
        ),
        manual(6, json!({"nota": 1})),
    ]
}

async fn every_query_finds_what_the_search_servers_find<B: IndexBench>() {
    use IndexName::Eventos;
    let (leads, sessions) = (entities("leads"), entities("chat_sessions"));
    let bench = B::new();
    let index = bench.prepared().await;
    applied(&*index, documents()).await;
    index.make_visible().await.expect("visible");
    let mut wrong = Vec::new();
    for (of, query, expected) in [
        (Eventos, "*", 6),
        (Eventos, "*:*", 6),
        (Eventos, "categoria:vendas AND valor:>50", 1),
        (Eventos, "categoria:vendas AND valor:>=50", 2),
        (Eventos, "categoria:vendas && !valor:<50", 2),
        (Eventos, "categoria.keyword:engajamento", 2),
        (Eventos, "evento.keyword:lead_qualificado OR evento:chat_session", 3),
        (Eventos, "usuario.keyword:\"joao@exemplo.com.br\"", 1),
        (Eventos, "usuario:joao@exemplo.com.br", 2),
        (Eventos, "joao", 1),
        (Eventos, "JOÃO", 1),
        (Eventos, "joao souza", 2),
        (Eventos, "+joao souza", 1),
        (Eventos, "joao -souza", 1),
        (Eventos, "\"sao joao\"", 1),
        (Eventos, "metadata.empresa:padaria AND metadata.empresa.keyword:\"Padaria São João\"", 1),
        (Eventos, "metadata.total_messages:[50 TO *] AND metadata.is_active:true", 1),
        (Eventos, "timestamp:[1970-01-01 TO 1970-12-31]", 4),
        (Eventos, "timestamp:[1970-01-12 TO 1970-01-12]", 1),
        (Eventos, "timestamp:>1970-01-12", 4),
        (Eventos, "timestamp:>=1970-01-12", 5),
        (Eventos, "timestamp:{* TO 1970-01-13}", 2),
        (Eventos, "tipo_evento:lead", 3),
        (Eventos, "evento:lead_*", 3),
        (Eventos, "entidade.id:5f0c2f6e-7f0a-4f7a-9a55-000000000001", 1),
        (leads, "nome:joao AND nome:CONCEICAO", 1),
        (leads, "nome:conc*", 1),
        (leads, "nome:CONCEIÇ*", 1),
        (leads, "nome:jo?o", 1),
        (leads, "nome:*oa*", 2),
        (leads, "nome.keyword:Jo*", 2),
        (leads, "nome.keyword:jo*", 0),
        (leads, "nome.keyword:*\\(SP\\)", 1),
        (leads, "nome:joao~1", 1),
        (leads, "nome:joao~", 1),
        (leads, "nome:jaoo~1", 1),
        (leads, "nome:joana~", 1),
        (leads, "nome:joao~2", 2),
        (leads, "nome:\"joao conceicao\"", 1),
        (leads, "nome:\"conceicao joao\"", 0),
        (leads, "nome:\"conceicao joao\"~2", 1),
        (leads, "nome:(joao OR ana)", 2),
        (leads, "nome:(+joao -ana)", 1),
        (leads, "nome:joao^3 OR nome:ana", 2),
        (leads, "status_lead.keyword:novo AND score_qualificacao:<50", 1),
        (leads, "score_qualificacao:80", 1),
        (leads, "score_qualificacao:[20 TO 80}", 2),
        (leads, "score_qualificacao:{20 TO 80]", 2),
        (leads, "score_qualificacao:[20.5 TO *]", 2),
        (leads, "NOT status_lead:novo", 2),
        (leads, "NOT categoria:engajamento", 3),
        (leads, "_exists_:email", 2),
        (leads, "email:*", 2),
        (leads, "NOT _exists_:email", 1),
        (leads, "_exists_:origem.keyword", 3),
        (leads, "_exists_:metadata", 3),
        (leads, "origem:indicacao OR origem:site AND score_qualificacao:20", 1),
        (leads, "(origem:indicacao OR origem:site) AND score_qualificacao:>0", 2),
        (leads, "interesse:casa", 2),
        (leads, "interesse.keyword:\"apartamento novo\"", 1),
        (leads, "interesse:\"casa apartamento\"", 0),
        (leads, "nome.keyword:[A TO Jo]", 1),
        (leads, "updated_at:\"1970-01-12T13:46:41Z\"", 1),
        (leads, "valor:80.0", 1),
        (leads, "processado_em:>=now-1d", 3),
        (leads, "metadata.status_lead.keyword:novo", 1),
        (Eventos, "metadata.origem.keyword:site", 1),
        (Eventos, "processado_em:[now-1h TO now+1h]", 6),
        (leads, "nome:zzz", 0),
        (sessions, "ip_address:10.1.2.3", 1),
        (sessions, "ip_address:\"10.0.0.0/8\"", 1),
        (sessions, "ip_address:\"2001:db8::/32\"", 1),
        (sessions, "ip_address:[10.0.0.0 TO 10.255.255.255]", 1),
        (sessions, "is_active:false", 1),
        (sessions, "started_at:2026-11-24", 1),
        (sessions, "started_at:[2026-11-24T10:20:30Z TO 2026-11-25T00:00:00Z}", 1),
        (sessions, "started_at:[2026-11-24||/M TO 2026-11-24||/M]", 2),
        (sessions, "started_at:>now+100y", 0),
        (sessions, "perguntas_feitas:preco", 1),
        (sessions, "pages_visited.keyword:\"/contato\"", 1),
        (sessions, "perguntas_feitas:\"preco aceita\"", 0),
    ] {
        let found = search(&*index, of, query).await.total;
        let theirs = bench.asked_itself(of, query).await.unwrap_or(expected);
        if (found, theirs) != (expected, expected) {
            wrong.push(format!(
                "{of}: {query}: expected {expected}, found {found}, the server itself {theirs}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A month is all of it, where the servers' own reading is its first day.
    assert_eq!(search(&*index, sessions, "started_at:2026-11").await.total, 2);
}

async fn a_query_that_is_not_understood_is_refused_and_never_answered_with_zero<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    for query in
        ["origem:site", "valor:muito", "/jo.*/", "a AND", "(a", "usuario:*@exemplo.com", "a and b", "dados:x"]
    {
        let refused = index.search(&request(IndexName::Eventos, query)).await;
        assert!(matches!(refused, Err(SearchError::Query(_))), "{query}: {refused:?}");
    }
    let mut far = request(IndexName::Eventos, "*");
    far.from = 9_950;
    let refused = index.search(&far).await;
    assert!(matches!(refused, Err(SearchError::Request { field: "from", .. })), "{refused:?}");
    let mut uncountable = request(IndexName::Eventos, "*");
    uncountable.count_by = vec!["dados".into()];
    let refused = index.search(&uncountable).await;
    assert!(matches!(refused, Err(SearchError::Request { field: "count_by", .. })), "{refused:?}");
}

async fn values_are_counted_by_field_and_by_day<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    applied(&*index, documents()).await;
    index.make_visible().await.expect("visible");
    let mut asked = request(entities("leads"), "*");
    asked.size = 0;
    asked.count_by =
        ["interesse", "score_qualificacao", "valor", "status_lead.keyword"].map(str::to_owned).into();
    asked.count_by_day = true;
    let answer = index.search(&asked).await.expect("an answer");
    assert_eq!((answer.total, answer.hits.len()), (3, 0));
    let counted: Vec<Value> = answer
        .counts
        .iter()
        .map(|counts| counts.values.iter().map(|value| json!([value.value, value.count])).collect())
        .collect();
    assert_eq!(
        counted,
        [
            json!([["casa", 2], ["apartamento novo", 1]]),
            json!([[20.0, 1], [50.0, 1], [80.0, 1]]),
            json!([[20.0, 1], [50.0, 1], [80.0, 1]]),
            json!([["novo", 1], ["qualificado", 1]]),
        ]
    );
    let days: Vec<(&str, u64)> = answer.days.iter().map(|day| (day.day.as_str(), day.count)).collect();
    assert_eq!(days, [("1970-01-12", 1), ("1970-01-13", 1), ("1970-01-14", 1)]);

    let mut asked = request(entities("chat_sessions"), "total_messages:>0");
    asked.count_by = ["is_active", "started_at", "ip_address"].map(str::to_owned).into();
    let answer = index.search(&asked).await.expect("an answer");
    let first = |i: usize| answer.counts[i].values[0].value.clone();
    assert_eq!(first(0), json!(false));
    assert_eq!(first(1), json!("2026-11-24T10:20:30.000Z"));
    assert_eq!(first(2), json!("10.1.2.3"));

    let many = (0..30).map(|n| manual(100 + n, json!({"origem": format!("o{n:02}")}))).collect();
    applied(&*index, many).await;
    index.make_visible().await.expect("visible");
    let mut asked = request(IndexName::Eventos, "tipo_evento:manual");
    asked.count_by = vec!["metadata.origem".into()];
    let counts = index.search(&asked).await.expect("an answer").counts.remove(0);
    assert_eq!((counts.values.len(), counts.others), (20, 10));
    assert_eq!(counts.values[19].value, "o19", "equally frequent values are in order");
}

async fn hits_are_sorted_and_paged_without_gap_or_repeat<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    // Many with the same instant: only the id tells them apart.
    let events =
        (0..95).map(|n| lead(n, id(1000 + u128::from(n.unsigned_abs())), n / 30, json!({"nome": "Ana"})));
    applied(&*index, events.collect()).await;
    index.make_visible().await.expect("visible");
    for sort in [Sort::Oldest, Sort::Newest, Sort::Relevance] {
        let mut seen = Vec::new();
        let mut asked = request(entities("leads"), "nome:ana");
        (asked.sort, asked.size) = (sort, 10);
        while asked.from < 100 {
            let answer = index.search(&asked).await.expect("an answer");
            assert_eq!(answer.total, 95);
            seen.extend(answer.hits.into_iter().map(|hit| (hit.source["timestamp"].to_string(), hit.id)));
            asked.from += 10;
        }
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 95, "{sort:?}");
        match sort {
            Sort::Oldest => assert_eq!(seen, sorted),
            Sort::Newest => assert!(seen.is_sorted_by(|a, b| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1))),
            Sort::Relevance => {}
        }
    }
    // The rare word decides.
    let named =
        vec![lead(200, id(1), 1, json!({"nome": "Zuleica"})), lead(201, id(2), 9, json!({"nome": "Ana"}))];
    applied(&*index, named).await;
    index.make_visible().await.expect("visible");
    let mut asked = request(entities("leads"), "nome:ana nome:zuleica");
    asked.sort = Sort::Relevance;
    assert_eq!(index.search(&asked).await.expect("an answer").hits[0].id, id(1).to_string());
}

// --- rebuilding -----------------------------------------------------------------------------------------------------

async fn a_rebuild_serves_only_when_it_is_told_to_and_leaves_nothing_behind<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let documents = documents();
    applied(&*index, documents.clone()).await;
    let rebuild = index.begin_rebuild(entities("leads")).await.expect("a rebuild");
    let sink = index.rebuild_sink(&rebuild);
    let outcome = applied(&*sink, documents[..1].to_vec()).await;
    assert_eq!(outcome, Applied { entities: 1, ..NEVER }, "only what is rebuilt is written");
    assert_eq!(hits(&*index, entities("leads"), "*").await, 3, "the old one serves");

    index.serve_rebuilt(&rebuild).await.expect("swapped");
    index.serve_rebuilt(&rebuild).await.expect("swapped already");
    assert!(index.rebuilds().await.expect("rebuilds")[0].serves);
    assert_eq!(hits(&*index, entities("leads"), "*").await, 1, "the new one serves");
    assert_eq!(applied(&*sink, documents[..2].to_vec()).await, Applied { entities: 2, ..NEVER });
    assert_eq!(applied(&*index, documents).await, Applied { duplicates: 6, entities: 5, ..NEVER });

    index.end_rebuild(&rebuild).await.expect("ended");
    index.end_rebuild(&rebuild).await.expect("ended already");
    assert_eq!(index.rebuilds().await.expect("rebuilds"), []);
    assert_eq!(hits(&*index, entities("leads"), "*").await, 3);
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 6);
    drop((index, sink));
    let again = bench.prepared().await;
    assert_eq!(hits(&*again, entities("leads"), "*").await, 3);
    let next = again.begin_rebuild(entities("leads")).await.expect("another");
    assert_ne!(next.id, rebuild.id);
}

async fn a_rebuild_is_joined_by_whoever_begins_it_again_and_can_be_given_up<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    applied(&*index, documents()).await;
    let rebuild = index.begin_rebuild(IndexName::Eventos).await.expect("a rebuild");
    drop(index);
    let index = bench.prepared().await;
    assert_eq!(index.rebuilds().await.expect("rebuilds"), std::slice::from_ref(&rebuild));
    assert_eq!(index.begin_rebuild(IndexName::Eventos).await.expect("the same"), rebuild);
    index.end_rebuild(&rebuild).await.expect("given up");
    assert_eq!(index.rebuilds().await.expect("rebuilds"), []);
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 6, "the old one was never touched");
}
