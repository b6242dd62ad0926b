//! Keys that are texts, whatever stands in them: whatever a key of Postgres may be is an entity in every part.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice::{
    domain::{Catalog, JsonObject, Table, TableName},
    engine::{EntityKey, LetterFilter, SyncPhase},
    index::{IndexName, SearchRequest, Sort},
    source::sample::SampleColumn,
    store::Reconciliation,
};

use crate::support::{
    finished,
    folder::TestFolder,
    on_each_adapter,
    place::{Embedded, Place, Real, rows, value},
    request,
    rows::{minutes_ago, object},
    sync,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_row_of_any_text_key_goes_the_whole_way_is_found_changed_proven_and_removed,
}

const ORDERS: &str = r#"
    name = "pedidos"
    about = "orders"
    entity = "pedido"
    key = { column = "codigo", type = "text" }
    time = { modified = "mudou_em" }
    event = { categoria = "vendas", evento = "pedido" }
    columns = [{ name = "mudou_em", type = "timestamp" }, { name = "nota", type = "text" }]
"#;

/// As long as a key may be, of letters that no server makes shorter by compressing them.
fn longest(last: char) -> String {
    let mut state: u64 = 7;
    let mut text: String = (0..2_047)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + u8::try_from((state >> 40) % 94).expect("a letter"))
        })
        .collect();
    text.push(last);
    text
}

fn keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "",
        " ",
        "\t",
        "a\nb",
        "a\r\n|b",
        "\u{1}\u{7f}",
        "\"a\",(b)\\",
        "%2F/../?#&=",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "ção/1",
        "\u{202e}a",
        "*",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.extend(["é".repeat(300), "é".repeat(301), "x".repeat(513), longest('a'), longest('b')]);
    keys
}

fn row(key: &str, note: &str) -> JsonObject {
    object(json!({"codigo": key, "nota": note, "mudou_em": minutes_ago(5)}))
}

/// The keys of the index's documents, and the whole of what each says.
async fn found(engine: &sluice::engine::Engine, table: Table, query: Option<&str>) -> Vec<(String, Value)> {
    let request = SearchRequest {
        index: IndexName::Entities(table),
        query: query.map(str::to_owned),
        sort: Sort::Newest,
        from: 0,
        size: 100,
        count_by: Vec::new(),
        count_by_day: false,
        zone: chrono_tz::Tz::UTC,
    };
    let answer = engine.questions.search(&request).await.expect("an answer");
    answer.hits.into_iter().map(|hit| (hit.id, Value::Object(hit.source))).collect()
}

async fn a_row_of_any_text_key_goes_the_whole_way_is_found_changed_proven_and_removed<P: Place>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    std::fs::write(tables.path().join("pedidos.toml"), ORDERS).expect("written");
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let catalog = Catalog::load(Some(tables.path()), chrono_tz::Tz::UTC).expect("a catalog");
    let orders = catalog.get("pedidos").expect("pedidos");
    let keys = keys();
    let mut all: Vec<JsonObject> = keys.iter().map(|key| row(key, "nova")).collect();
    let too_long = format!("{}c", longest('a'));
    all.push(row(&too_long, "longa"));
    place.source().create_table("public", "pedidos", SampleColumn::of(orders), &[""; 0]).expect("a table");
    place.source().set_rows(orders, all.clone());
    // Pages end amid the keys.
    place.source().set_max_rows(Some(3));

    let engine = place.engine().await;
    engine.start_drains().await;
    let first = sync(&engine, request(orders)).await;
    let count = keys.len() as u64;
    assert_eq!((first.state, first.appended, first.dead_letters), (SyncPhase::Done, count, 1), "{first:?}");
    let letters = engine.letters.page(&LetterFilter::default(), None, 10).await.expect("letters");
    let [letter] = &letters.letters[..] else { panic!("one letter: {letters:?}") };
    assert!(letter.header("error").is_some_and(|error| error.contains("at most 2048 bytes")), "{letter:?}");

    let expected: BTreeSet<String> = keys.iter().cloned().collect();
    let stored = rows(&engine, "SELECT codigo FROM pedidos").await;
    let stored: BTreeSet<String> =
        stored.into_iter().map(|mut row| row.remove(0).as_str().expect("a text").to_owned()).collect();
    assert_eq!(stored, expected);
    let indexed: BTreeSet<String> =
        found(&engine, orders, None).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(indexed, expected);
    for key in &keys {
        let history = engine.questions.entity(orders, &EntityKey::Key(key.clone())).await.expect("an entity");
        assert_eq!((&history.entity.key, history.events.len()), (key, 1), "{key:?}");
    }
    let quoted = longest('b').replace('\\', "\\\\").replace('"', "\\\"");
    let one = found(&engine, orders, Some(&format!("codigo:\"{quoted}\""))).await;
    assert_eq!(one.len(), 1, "a long key is found as a whole");

    // Every one changes, and each change finds its own document.
    for row in &mut all {
        row.insert("nota".to_owned(), json!("outra"));
        row.insert("mudou_em".to_owned(), json!(minutes_ago(2)));
    }
    place.source().set_rows(orders, all.clone());
    let second = sync(&engine, request(orders)).await;
    assert_eq!((second.appended, second.unchanged), (count, 0), "{second:?}");
    let changed = found(&engine, orders, None).await;
    assert_eq!(changed.len() as u64, count);
    assert!(changed.iter().all(|(_, source)| source["nota"] == "outra"), "{changed:?}");

    // The empty one, a long one and one with a line break go; the others are proven.
    let gone = ["", "a\nb", &longest('a')];
    all.retain(|row| !gone.contains(&row["codigo"].as_str().expect("a text")));
    place.source().set_rows(orders, all.clone());
    let asked = Reconciliation { allow_deletes: Some(3), ..Reconciliation::default() };
    let id = engine.syncs.reconcile(&TableName::from(orders), asked).await.expect("a reconciliation");
    let status = finished(&engine, id).await;
    let report = status.reconcile.as_ref().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(
        (status.state, report.deleted, report.unexplained, report.repaired),
        (SyncPhase::Done, 3, 0, 0)
    );
    assert!(report.sinks.iter().all(|sink| sink.proven), "{status:?}");
    assert_eq!(value(&engine, "SELECT count(*) FROM pedidos").await, json!(keys.len() - 3));
    assert_eq!(found(&engine, orders, None).await.len(), keys.len() - 3);
    engine.shut_down().await;
    drop(engine);

    let reconciled = place.command(&["reconcile", "pedidos", "--wait"]).output().await.expect("it runs");
    let reconciled = String::from_utf8(reconciled.stdout).expect("text");
    assert!(reconciled.contains("1 rows without a usable key: no event can be made of them"), "{reconciled}");
    let status = place.command(&["status"]).output().await.expect("it runs");
    let status = String::from_utf8(status.stdout).expect("text");
    assert!(status.contains("1 rows of pedidos have no usable key"), "{status}");
    assert!(!status.contains("read by no sync") && !status.contains("are not read"), "{status}");

    // The row without a usable key goes: a reconciliation settles its letter. It comes back as it was: it is parked again.
    let with_it = all.clone();
    all.retain(|row| row["codigo"] != too_long.as_str());
    place.source().set_rows(orders, all);
    let reconciled = place.command(&["reconcile", "pedidos", "--wait"]).output().await.expect("it runs");
    assert!(reconciled.status.success(), "{reconciled:?}");
    let status = place.command(&["status"]).output().await.expect("it runs");
    let status = String::from_utf8(status.stdout).expect("text");
    assert!(!status.contains("usable key") && status.contains("dead letters   0"), "{status}");
    place.source().set_rows(orders, with_it);
    let synced = place.command(&["sync", "pedidos", "--full", "--wait"]).output().await.expect("it runs");
    assert_eq!(synced.status.code(), Some(1), "a row is parked: {synced:?}");

    let told = place.command(&["sql", "SELECT codigo FROM pedidos"]).output().await.expect("it runs");
    let lines = String::from_utf8(told.stdout).expect("text");
    assert_eq!(lines.lines().count(), 1 + keys.len() - 3, "a line for each, whatever it holds: {lines}");
    place.clean_up().await;
}
