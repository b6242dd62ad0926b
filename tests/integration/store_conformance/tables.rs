//! Tables of entities: made from any definition, changed with it, and never to a row's harm.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sluice::{
    domain::{Catalog, Event, Json},
    embedded::EmbeddedDb,
    fault::{Fault, FaultKind},
    sink::{Applied, ApplyError, Sink},
    store::{QueryLimits, Store, StoredEntity, sqlite::SqliteStore},
};

use crate::support::{
    folder::TestFolder,
    on_each_adapter,
    stores::{
        Embedded, LOG, Postgres, StoreBench, apply, apply_of, batch_of, catalog, claimed, from_row, lead,
        verbatim,
    },
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    a_table_of_every_kind_of_column_keeps_each_value_and_its_type,
    keys_of_each_type_keep_their_type_and_their_value,
    a_table_of_many_columns_and_a_hard_name_is_written_and_read,
    a_column_that_a_definition_gains_is_added_and_filled_without_losing_a_row,
    a_fill_that_was_interrupted_is_done_by_the_next_to_begin,
    a_changed_type_is_refused_and_each_way_out_works,
    a_changed_key_is_refused_and_each_way_out_works,
    a_changed_entity_is_refused_also_to_who_does_not_write,
    a_table_of_somebody_else_is_left_alone,
    tables_are_made_by_several_processes_at_once,
    a_process_with_another_definition_writes_nothing,
    a_trigger_that_somebody_added_is_told,
}

const KINDS: [&str; 8] = ["text", "integer", "number", "boolean", "timestamp", "date", "json", "list"];

const LIMITS: QueryLimits =
    QueryLimits { rows: 100, bytes: 100_000, timeout: std::time::Duration::from_secs(10), verbatim: false };

/// A table of 35 columns: four of each kind, and three whose names are hard.
fn every_kind() -> String {
    let mut toml = "name = 'order'\nabout = 'every kind of column, under a word of SQL'\nentity = 'pedido'\n\
        key = { column = 'number', from = 'id', type = 'bigint', meaning = 'its number' }\n\
        time = { created = 'timestamp_0' }\nevent = { categoria = 'loja', evento = 'pedido_{text_0}', valor = 'number_0' }\n"
        .to_owned();
    for kind in KINDS {
        for i in 0..4 {
            let _ =
                writeln!(toml, "[[columns]]\nname = '{kind}_{i}'\nfrom = 'de {kind} {i}'\ntype = '{kind}'");
        }
    }
    let long = "l".repeat(63);
    for (name, more) in
        [("user", "lookup = true"), ("select", "refers_to = 'order'"), (&*long, "lookup = true")]
    {
        let _ = writeln!(toml, "[[columns]]\nname = '{name}'\ntype = 'text'\nmeaning = 'it''s hard'\n{more}");
    }
    toml.replace("'it''s hard'", "\"it's hard\"")
}

/// A row in which each column of a kind holds the value for it.
fn row_of(id: &str, value: impl Fn(&str, usize) -> String) -> Json {
    let mut text = format!("{{\"id\":{id}");
    for kind in KINDS {
        for i in 0..4 {
            let _ = write!(text, ",\"de {kind} {i}\":{}", value(kind, i));
        }
    }
    verbatim(text + "}")
}

async fn entity(store: &dyn Store, catalog: Catalog, table: &str, key: &str) -> StoredEntity {
    let table = catalog.get(table).expect("a table");
    store.entity(table, key).await.expect("it answers").unwrap_or_else(|| panic!("no {table} {key}"))
}

async fn a_table_of_every_kind_of_column_keeps_each_value_and_its_type<B: StoreBench>() {
    let bench = B::empty().await;
    let catalog = catalog(&[&every_kind()]);
    let store = &*bench.open_with(catalog);
    store.prepare().await.expect("the table is made");
    store.prepare().await.expect("nothing is left to do");
    let table = catalog.get("order").expect("the table");
    let fits = |kind: &str, i: usize| {
        let values = match kind {
            "text" => [r#""ação\n\u00e9""#, r#""""#, "5511987654321", "true"],
            "integer" => ["9007199254740993", "-9223372036854775808", "\"7\"", "8.0"],
            "number" => ["72.50", "1234567890123456789012.5", "0.30000000000000004", "-1e-7"],
            "boolean" => ["true", "false", "\"true\"", "null"],
            "timestamp" => [
                r#""2026-05-01T09:00:00-03:00""#,
                r#""0001-01-01T00:00:00Z""#,
                r#""9999-12-31 23:59:59.999999+00""#,
                "null",
            ],
            "date" => [r#""2026-05-01""#, r#""0001-01-01""#, r#""2026-05-01T23:00:00-03:00""#, "null"],
            "json" => [r#"{"a": [1.50, "x"], "b": null}"#, "[]", "0", r#""só texto""#],
            _ => [r#"["a", 1, null, "", "\"{,}\\"]"#, "[]", r#""só um""#, "null"],
        };
        values[i].to_owned()
    };
    let shown = json!({
        "text": ["ação\né", "", "5511987654321", "true"],
        "integer": [9_007_199_254_740_993_i64, i64::MIN, 7, 8],
        "number": [72.5, "1234567890123456789012.5", 0.300_000_000_000_000_04, -1e-7],
        "boolean": [true, false, true, null],
        "timestamp": ["2026-05-01T12:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", null],
        "date": ["2026-05-01", "0001-01-01", "2026-05-01", null],
        "json": [{"a": [1.5, "x"], "b": null}, [], 0, "só texto"],
        "list": [["a", "1", "", "\"{,}\\"], [], ["só um"], null],
    });
    let unfit = |kind: &str, _: usize| {
        let value = match kind {
            "text" | "list" => r#"{"a": 1}"#,
            "integer" => "72.5",
            "number" => "\"muito\"",
            "boolean" => "1",
            "timestamp" | "date" => "\"ontem\"",
            _ => "null",
        };
        value.to_owned()
    };
    let events: Vec<Event> =
        [("1", row_of("1", fits)), ("2", row_of("2", unfit)), ("3", verbatim(r#"{"id": 3}"#))]
            .iter()
            .map(|(_, row)| from_row(table, row, 1))
            .collect();
    let applied = apply_of(catalog, store, events).await;
    assert_eq!(applied, Applied { inserted: 3, entities: 3, ..Applied::default() }, "misfits park no row");
    let counts = store.counts().await.expect("it answers");
    assert_eq!(counts, [("eventos_raw".to_owned(), 3), ("order".to_owned(), 3)]);

    let full = entity(store, catalog, "order", "1").await;
    assert_eq!(full.row["number"], 1);
    for kind in KINDS {
        for i in 0..4 {
            let (stored, sent) = (&full.row[&format!("{kind}_{i}")], &shown[kind][i]);
            // SQLite has the nearest number that it can compare; the event's row has every digit.
            let nearest = |value: &Value| value.to_string().trim_matches('"').parse::<f64>().ok();
            assert!(
                stored == sent || (kind == "number" && nearest(stored) == nearest(sent)),
                "{kind}_{i}: {stored}, not {sent}"
            );
        }
    }
    for key in ["2", "3"] {
        let row = entity(store, catalog, "order", key).await.row;
        assert!(row.iter().all(|(name, value)| name == "number" || value.is_null()), "{row:?}");
        assert_eq!(row.len(), 36);
    }
    let dados = bench.texts("SELECT CAST(dados AS text) FROM eventos_raw WHERE entidade_id = '2'").await;
    assert!(dados[0].contains("muito"), "what does not fit stays in dados: {dados:?}");

    // Each type counts as what it is.
    let sql = "SELECT sum(integer_2) + sum(number) AS soma, max(number_3) < 0, count(*) FROM \"order\" \
               WHERE boolean_0 AND number_0 > 72.4 AND timestamp_0 > '2026-05-01' AND date_0 < '2026-05-02'";
    let answer = store.query(sql, LIMITS).await.unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(answer.rows[0][0], 8);
    assert_eq!((answer.columns.len(), &answer.rows[0][2]), (3, &json!(1)));
    let answer = store.query("SELECT number_1, json_0, list_0 FROM \"order\" WHERE number = 1", LIMITS).await;
    let row = &answer.expect("an answer").rows[0];
    assert_eq!((&row[1], &row[2]), (&shown["json"][0], &shown["list"][0]));
    // Of SQLite's number, all that it can compare; every digit is in the event's row.
    assert!(
        row[0].to_string().contains("12345678901234567890") || row[0] == json!(1.234_567_890_123_456_8e21),
        "{row:?}"
    );
}

fn keyed(kind: &str) -> String {
    format!(
        "name = 'pedidos'\nabout = 'x'\nentity = 'pedido'\nkey = {{ column = 'id', type = '{kind}' }}\n\
         event = {{ categoria = 'c', evento = 'e' }}\ncolumns = [{{ name = 'nome', type = 'text' }}]"
    )
}

async fn keys_of_each_type_keep_their_type_and_their_value<B: StoreBench>() {
    let long = "é".repeat(256);
    for (kind, keys, next) in [
        ("bigint", vec!["9223372036854775806", "-5", "0", "10"], Some("9223372036854775807")),
        ("text", vec!["ção/1", "' OR true --", "NULL", "10", &*long], None),
        ("uuid", vec!["5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01"], None),
    ] {
        let bench = B::empty().await;
        let catalog = catalog(&[&keyed(kind)]);
        let store = &*bench.open_with(catalog);
        store.prepare().await.expect("the table is made");
        let table = catalog.get("pedidos").expect("the table");
        for round in 0..2 {
            let row = |key: &&str| {
                let id = if kind == "bigint" { (*key).to_owned() } else { json!(key).to_string() };
                from_row(table, &verbatim(format!("{{\"id\":{id},\"nome\":\"{round}\"}}")), round)
            };
            let applied = apply_of(catalog, store, keys.iter().map(row).collect()).await;
            assert_eq!(applied.entities, keys.len() as u64);
        }
        for key in &keys {
            let found = entity(store, catalog, "pedidos", key).await;
            assert_eq!((&*found.key, &found.row["nome"]), (*key, &json!("1")));
            let shown =
                if kind == "bigint" { json!(key.parse::<i64>().expect("a number")) } else { json!(key) };
            assert_eq!(found.row["id"], shown);
            let quoted = key.replace('\'', "''");
            let sql = format!("SELECT entidade_id FROM eventos_raw WHERE entidade_id = '{quoted}'");
            assert_eq!(bench.texts(&sql).await, [*key, *key]);
        }
        assert_eq!(store.entity(table, "não é chave\0").await.expect("it answers"), None);
        // What was once appended under a key that is none keeps none of the others from being compared.
        let none = ["zzz", "9223372036854775808", "-9223372036854775809", "00", "5f0c2f6e"];
        for key in none.iter().chain(&keys) {
            let (key, event) = (key.replace('\'', "''"), uuid::Uuid::new_v4());
            bench
                .execute(&format!(
                    "INSERT INTO sluice_appended (log, table_name, entity, event, versao)
                     VALUES ('{LOG}', 'pedidos', '{key}', '{event}', 1)"
                ))
                .await;
        }
        let entries = store.entries(LOG, table, None, 100).await.expect("entries");
        assert_eq!(entries.len(), keys.len() + none.len());
        for entry in entries {
            let is_there = keys.contains(&&*entry.appended.entity);
            assert_eq!(entry.held.is_some(), is_there, "{kind} {entry:?}");
        }
        if let Some(next) = next {
            assert_eq!(
                bench.number("SELECT max(id) + 1 FROM pedidos").await.to_string(),
                next,
                "a number is one"
            );
        }
    }
}

async fn a_table_of_many_columns_and_a_hard_name_is_written_and_read<B: StoreBench>() {
    let bench = B::empty().await;
    // As statements of ours name what they work with, and more columns than a function takes arguments.
    for name in ["escritos", "sluice", "novas", "t", "excluded"] {
        let columns: Vec<String> = (0..150).map(|i| format!("{{ name = 'c{i}', type = 'text' }}")).collect();
        let toml = pedidos(&columns.join(", ")).replace("'pedidos'", &format!("'{name}'"));
        let catalog = catalog(&[&toml]);
        let store = &*bench.open_with(catalog);
        store.prepare().await.expect("the table is made");
        let table = catalog.get(name).expect("the table");
        for versao in 0..2 {
            let row = format!(r#"{{"id":7,"c0":"a{versao}","c149":"z{versao}"}}"#);
            apply_of(catalog, store, vec![from_row(table, &verbatim(row), versao)]).await;
        }
        let row = entity(store, catalog, name, "7").await.row;
        assert_eq!((&row["c0"], &row["c149"], row.len()), (&json!("a1"), &json!("z1"), 151), "{name}");
    }
}

/// A table of one column, and of more.
fn pedidos(columns: &str) -> String {
    format!(
        "name = 'pedidos'\nabout = 'x'\nentity = 'pedido'\nkey = {{ column = 'id', type = 'bigint' }}\n\
         event = {{ categoria = 'c', evento = 'e' }}\ncolumns = [{columns}]"
    )
}

const NOME: &str = "{ name = 'nome', type = 'text' }";

fn pedido(id: u32, versao: i64) -> String {
    format!(
        r#"{{"id":{id},"nome":"n{id}","nota":"{versao}.50","cliente":{},"quando":"2026-05-0{}T09:00:00-03:00","extra":{{"a":[{id}]}},"itens":["a","{versao}"]}}"#,
        id % 7,
        versao + 1
    )
}

/// Rows in two versions each, more than are filled at a time.
async fn fill(store: &dyn Store, catalog: Catalog) {
    let table = catalog.get("pedidos").expect("the table");
    for versao in 0..2 {
        let events: Vec<Event> =
            (0..2_300).map(|id| from_row(table, &verbatim(pedido(id, versao)), versao)).collect();
        apply_of(catalog, store, events).await;
    }
}

async fn a_column_that_a_definition_gains_is_added_and_filled_without_losing_a_row<B: StoreBench>() {
    let wide = format!(
        "{NOME}, {{ name = 'nota', type = 'number' }}, {{ name = 'cliente', type = 'integer', refers_to = 'pedidos' }},
         {{ name = 'quando', type = 'timestamp' }}, {{ name = 'dia', from = 'quando', type = 'date' }},
         {{ name = 'extra', type = 'json' }}, {{ name = 'itens', type = 'list' }}, {{ name = 'apelido', from = 'nome', type = 'text', lookup = true }},
         {{ name = 'chave', from = 'nome', type = 'text' }}, {{ name = 't', from = 'nome', type = 'text' }}"
    );
    let (narrow, wide) = (catalog(&[&pedidos(NOME)]), catalog(&[&pedidos(&wide)]));
    let bench = B::empty().await;
    let store = bench.open_with(narrow);
    store.prepare().await.expect("the table is made");
    fill(&*store, narrow).await;
    let stamps =
        "SELECT id || ' ' || versao || ' ' || evento_id || ' ' || processado_em FROM pedidos ORDER BY id";
    let before = bench.texts(stamps).await;
    bench.execute("DELETE FROM eventos_raw WHERE entidade_id = '1500'").await;
    let store = bench.open_with(wide);
    store.prepare().await.expect("the columns are added");
    assert_eq!(bench.texts(stamps).await, before, "no row is lost, and none is moved");

    let fresh = B::empty().await;
    let made_at_once = fresh.open_with(wide);
    made_at_once.prepare().await.expect("the table is made");
    fill(&*made_at_once, wide).await;
    for id in [0, 1, 999, 1_000, 1_001, 2_299].map(|id: u32| id.to_string()) {
        let (filled, expected) =
            (entity(&*store, wide, "pedidos", &id).await, entity(&*made_at_once, wide, "pedidos", &id).await);
        assert_eq!(
            (&filled.row, filled.versao, filled.evento_id),
            (&expected.row, expected.versao, expected.evento_id)
        );
        assert!(filled.row.values().all(|value| !value.is_null()), "{filled:?}");
    }
    for column in ["nota", "cliente", "quando", "dia", "extra", "itens", "apelido"] {
        let empty =
            bench.texts(&format!("SELECT CAST(id AS text) FROM pedidos WHERE {column} IS NULL")).await;
        assert_eq!(empty, ["1500"], "{column}: only a row whose event is gone stays without");
    }
    let found = store.entities_by(wide.get("pedidos").expect("the table"), "apelido", "N2299", 9).await;
    assert_eq!(found.expect("it answers").len(), 1);

    // Left out for a while a column is not written; back again, or read from elsewhere, it is filled anew.
    let store = bench.open_with(narrow);
    store.prepare().await.expect("a column may be left out");
    let row = pedido(3, 5).replace("5.50", "9.50");
    apply_of(narrow, &*store, vec![from_row(narrow.get("pedidos").expect("the table"), &verbatim(row), 5)])
        .await;
    let moved = format!(
        "{NOME}, {{ name = 'nota', type = 'number' }}, {{ name = 'apelido', from = 'nota', type = 'text' }}"
    );
    let moved = catalog(&[&pedidos(&moved)]);
    let store = bench.open_with(moved);
    store.prepare().await.expect("the columns are filled");
    let row = entity(&*store, moved, "pedidos", "3").await.row;
    assert_eq!((&row["nota"], &row["apelido"]), (&json!(9.5), &json!("9.50")));
    assert_eq!(bench.number("SELECT count(*) FROM pedidos").await, 2_300);
}

async fn a_fill_that_was_interrupted_is_done_by_the_next_to_begin<B: StoreBench>() {
    let (narrow, wide) = (
        catalog(&[&pedidos(NOME)]),
        catalog(&[&pedidos(&format!("{NOME}, {{ name = 'nota', type = 'number' }}"))]),
    );
    let bench = B::empty().await;
    let store = bench.open_with(narrow);
    store.prepare().await.expect("the table is made");
    let table = narrow.get("pedidos").expect("the table");
    apply_of(narrow, &*store, vec![from_row(table, &verbatim(pedido(1, 0)), 0)]).await;
    bench.execute("ALTER TABLE eventos_raw RENAME COLUMN dados TO escondido").await;
    let store = bench.open_with(wide);
    store.prepare().await.expect_err("the events can't be read");
    bench.execute("ALTER TABLE eventos_raw RENAME COLUMN escondido TO dados").await;
    assert_eq!(store.facts().await.expect("facts").pending_migrations, 1, "the table is not whole");
    bench.open_with(wide).prepare().await.expect("the column is filled");
    assert_eq!(store.facts().await.expect("facts").pending_migrations, 0);
    assert_eq!(entity(&*store, wide, "pedidos", "1").await.row["nota"], 0.5);
}

async fn refused(store: &dyn Store) -> Fault {
    let fault = store.prepare().await.expect_err("it is refused");
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
    fault
}

/// The statement that an advice names; none where nobody could run it.
fn statement(fault: &Fault, begins: &str) -> Option<String> {
    let advice = fault.advice.to_string();
    let Some((_, rest)) = advice.split_once(begins) else {
        assert_eq!(fault.part, "sqlite", "no {begins} in {fault}");
        return None;
    };
    let end = rest.find(" (").into_iter().chain(rest.find(" and ")).min().unwrap_or(rest.len());
    Some(format!("{begins}{}", &rest[..end]))
}

async fn a_changed_type_is_refused_and_each_way_out_works<B: StoreBench>() {
    let with = |column: &str| catalog(&[&pedidos(&format!("{NOME}, {column}"))]);
    let old = with("{ name = 'nota', type = 'text' }");
    let new = with("{ name = 'nota', type = 'number' }");
    let beside = with("{ name = 'nota_numero', from = 'nota', type = 'number' }");
    let bench = B::empty().await;
    let store = bench.open_with(old);
    store.prepare().await.expect("the table is made");
    let event = from_row(old.get("pedidos").expect("the table"), &verbatim(pedido(1, 0)), 0);
    apply_of(old, &*store, vec![event.clone()]).await;

    let fault = refused(&*bench.open_with(new)).await;
    assert!(fault.message.contains("pedidos.nota is text here"), "{fault}");
    let told = async |catalog| bench.open_with(catalog).refused_tables().await.expect("an answer");
    assert!(matches!(&*told(new).await, [(_, told)] if told.message == fault.message));
    assert!(told(old).await.is_empty());
    assert_eq!(entity(&*store, old, "pedidos", "1").await.row["nota"], "0.50", "nothing was touched");
    let outcome =
        bench.open_with(new).apply(LOG, &batch_of(new, claimed(&*store).await, vec![event.clone()])).await;
    assert!(matches!(outcome, Err(ApplyError::Fault(fault)) if fault.kind == FaultKind::Misconfigured));
    bench.open_with(old).prepare().await.expect("undone, all is well");

    bench.open_with(beside).prepare().await.expect("another name is added beside it");
    assert_eq!(entity(&*bench.open_with(beside), beside, "pedidos", "1").await.row["nota_numero"], 0.5);

    let Some(statement) = statement(&fault, "ALTER TABLE ") else { return };
    bench.execute(&statement).await;
    let store = bench.open_with(new);
    store.prepare().await.expect("it is made anew");
    assert_eq!(entity(&*store, new, "pedidos", "1").await.row["nota"], 0.5);
    assert_eq!(apply_of(new, &*store, vec![event]).await.stale, 1);
}

async fn a_changed_key_is_refused_and_each_way_out_works<B: StoreBench>() {
    let bench = B::empty().await;
    let (old, new) = (catalog(&[&keyed("bigint")]), catalog(&[&keyed("text")]));
    let elsewhere = catalog(&[&keyed("bigint").replace("column = 'id'", "column = 'id', from = 'codigo'")]);
    let renamed = catalog(&[
        &keyed("text").replace("name = 'pedidos'", "name = 'pedidos_2'\nsource = { table = 'pedidos' }")
    ]);
    let store = bench.open_with(old);
    store.prepare().await.expect("the table is made");
    let event = from_row(old.get("pedidos").expect("the table"), &verbatim(pedido(1, 0)), 0);
    apply_of(old, &*store, vec![event.clone()]).await;
    bench.open_with(elsewhere).prepare().await.expect("how it is called at the source is no part of a key");
    let by_another_column = bench.open_with(catalog(&[&keyed("text").replace("'id'", "'codigo'")]));
    let fault = refused(&*by_another_column).await;
    let told = by_another_column.refused_tables().await.expect("an answer");
    assert!(matches!(&told[..], [(_, told)] if told.message == fault.message), "{told:?}");
    let fault = refused(&*bench.open_with(new)).await;
    assert!(fault.message.contains("'id bigint'") && fault.message.contains("'id text'"), "{fault}");
    assert_eq!(bench.number("SELECT count(*) FROM pedidos").await, 1, "nothing was touched");
    bench.open_with(renamed).prepare().await.expect("another name is a table beside it");
    let Some(statement) = statement(&fault, "DROP TABLE ") else { return };
    bench.execute(&statement).await;
    let store = bench.open_with(new);
    store.prepare().await.expect("it begins anew");
    assert_eq!(bench.number("SELECT count(*) FROM pedidos").await, 0);
    // What a sync with --rebuild-log appends again.
    let applied = apply_of(new, &*store, vec![event]).await;
    assert_eq!((applied.duplicates, applied.entities), (1, 1));
    assert_eq!(entity(&*store, new, "pedidos", "1").await.row["id"], "1");
}

/// An erasure would look for events of the new one, and leave those of the old.
async fn a_changed_entity_is_refused_also_to_who_does_not_write<B: StoreBench>() {
    let bench = B::empty().await;
    let old = catalog(&[&pedidos(NOME)]);
    let new = catalog(&[&pedidos(NOME).replace("entity = 'pedido'", "entity = 'encomenda'")]);
    bench.open_with(old).prepare().await.expect("the table is made");
    let fault = refused(&*bench.open_with(new)).await;
    assert!(fault.message.contains("those of the entity 'pedido'"), "{fault}");
    assert!(fault.advice.to_string().contains("undo that in the definition"), "{fault}");
    let asked = bench.open_with(new).make_missing().await.expect_err("an erasure is refused as well");
    assert_eq!(asked.message, fault.message);
    // An earlier build remembered none: it is the one that is defined, and remembered from then on.
    bench.execute("UPDATE sluice_tables SET layout = replace(layout, '(entity) pedido', '')").await;
    bench.open_with(old).prepare().await.expect("it goes on");
    refused(&*bench.open_with(new)).await;
}

async fn a_table_of_somebody_else_is_left_alone<B: StoreBench>() {
    let bench = B::new().await;
    bench
        .execute(
            "CREATE TABLE pedidos (id integer PRIMARY KEY, nome text); INSERT INTO pedidos VALUES (7, 'meu')",
        )
        .await;
    let own = catalog(&[&pedidos(NOME)]);
    let fault = refused(&*bench.open_with(own)).await;
    assert!(
        fault.message.contains("sluice did not make it") && fault.advice.to_string().contains("source ="),
        "{fault}"
    );
    assert_eq!(bench.texts("SELECT nome FROM pedidos").await, ["meu"]);
    bench.execute("CREATE VIEW clientes AS SELECT id, nome FROM pedidos").await;
    refused(&*bench.open_with(catalog(&[&pedidos(NOME).replace("'pedidos'", "'clientes'")]))).await;
    apply(&*bench.open(), vec![lead(1, 0, "Ana")]).await;
}

async fn tables_are_made_by_several_processes_at_once<B: StoreBench>() {
    let bench = B::empty().await;
    let narrow = catalog(&[&pedidos(NOME), &every_kind()]);
    let wide = catalog(&[&pedidos(&format!("{NOME}, {{ name = 'nota', type = 'number' }}")), &every_kind()]);
    for (at, catalog) in [narrow, wide, wide].into_iter().enumerate() {
        let stores: Vec<_> = (0..5).map(|_| bench.open_with(catalog)).collect();
        let outcomes = futures::future::join_all(stores.iter().map(|store| store.prepare())).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        if at == 0 {
            fill(&*stores[0], catalog).await;
        }
    }
    let rows = bench.number("SELECT count(*) FROM pedidos WHERE nota IS NOT NULL AND nome IS NOT NULL").await;
    assert_eq!(rows, 2_300);
}

async fn a_process_with_another_definition_writes_nothing<B: StoreBench>() {
    let bench = B::empty().await;
    let (narrow, wide) = (
        catalog(&[&pedidos(NOME)]),
        catalog(&[&pedidos(&format!("{NOME}, {{ name = 'nota', type = 'number' }}"))]),
    );
    let old = bench.open_with(narrow);
    old.prepare().await.expect("the table is made");
    let event = |catalog: Catalog, versao: i64| {
        from_row(catalog.get("pedidos").expect("the table"), &verbatim(pedido(1, versao)), versao)
    };
    apply_of(narrow, &*old, vec![event(narrow, 0)]).await;
    let new = bench.open_with(wide);
    new.prepare().await.expect("the column is added");
    let claim = claimed(&*old).await;
    let outcome = old.apply(LOG, &batch_of(narrow, claim, vec![event(narrow, 1)])).await;
    let Err(ApplyError::Fault(fault)) = outcome else { panic!("expected a fault, got {outcome:?}") };
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.message.contains("differ in: nota"), "{fault}");
    assert_eq!(
        entity(&*new, wide, "pedidos", "1").await.row["nota"],
        0.5,
        "its older value is not left behind"
    );
    assert_eq!(bench.number("SELECT count(*) FROM eventos_raw").await, 1, "and nothing else is written");
    apply_of(wide, &*new, vec![event(wide, 1)]).await;
    assert_eq!(entity(&*new, wide, "pedidos", "1").await.row["nota"], 1.5);
    let shown: Value = json!(entity(&*new, wide, "pedidos", "1").await.row);
    assert_eq!(shown, json!({"id": 1, "nome": "n1", "nota": 1.5}));
}

async fn a_trigger_that_somebody_added_is_told<B: StoreBench>() {
    let bench = B::new().await;
    let additions = async || bench.open().facts().await.expect("facts").additions;
    assert!(additions().await.is_empty(), "sluice adds none itself");
    bench.execute(&B::silent_trigger("UPDATE", "leads", "new.nome = 'calada'")).await;
    assert_eq!(additions().await, ["the trigger recusa on leads"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_an_embedded_folder_over_makes_its_tables_its_own() {
    let (narrow, wide) = (
        catalog(&[&pedidos(NOME)]),
        catalog(&[&pedidos(&format!("{NOME}, {{ name = 'nota', type = 'number' }}"))]),
    );
    let event = |catalog: Catalog, id: u32| {
        from_row(catalog.get("pedidos").expect("the table"), &verbatim(pedido(id, 0)), 0)
    };
    let folder = TestFolder::new();
    let opened = |owner: &str, catalog: Catalog| {
        SqliteStore::new(EmbeddedDb::open(folder.path(), owner).expect("an open folder"), catalog)
    };
    let one = opened("one", narrow);
    one.prepare().await.expect("the table is made");
    apply_of(narrow, &one, vec![event(narrow, 1)]).await;
    opened("another", narrow).prepare().await.expect("with the same definitions there is nothing to do");
    let two = opened("two", wide);
    let fault = two.prepare().await.expect_err("it can't make the column");
    assert!(fault.message.contains("differ in: nota"), "{fault}");
    drop(one);
    // It began long ago, and is not asked to prepare again.
    apply_of(wide, &two, vec![event(wide, 2)]).await;
    for key in ["1", "2"] {
        assert_eq!(entity(&two, wide, "pedidos", key).await.row["nota"], 0.5, "{key}");
    }
}
