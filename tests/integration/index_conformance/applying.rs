//! What is written, however often and by whomever, and whatever it holds.

use chrono::DateTime;
use serde_json::{Value, json};
use sluice::{
    domain::Event,
    index::IndexName,
    log::Position,
    sink::{Applied, ApplyError, SinkEvent},
};
use uuid::Uuid;

use super::{NEVER, hits, id, of_text, only, unstamped};
use crate::support::{
    elasticsearch::Corner,
    events::{LOG, applied, batch, lead, manual, session},
    indices::{Embedded, IndexBench, entities, search},
    on_each_adapter, table,
};

on_each_adapter! {
    embedded: Embedded, elasticsearch: Corner;
    an_applied_batch_is_visible_after_make_visible,
    the_same_batch_again_changes_nothing_not_even_after_reopening,
    of_equal_versions_the_later_wins,
    a_removal_delivered_again_changes_nothing_and_one_of_an_equal_version_wins,
    a_stale_version_never_goes_back_within_a_batch_or_across_reopening,
    the_same_event_twice_in_a_batch_is_one_document_and_one_duplicate,
    poison_is_rejected_by_place_and_its_neighbours_are_applied,
    unknown_columns_of_any_name_and_type_are_kept_and_never_rejected,
    no_json_that_a_project_can_send_parks_a_row,
}

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
    let counted = index.counts().await.expect("counts");
    let counts = [("eventos".to_owned(), 4), ("leads".to_owned(), 1), ("chat_sessions".to_owned(), 1)];
    assert_eq!(counted, counts);
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
    let same = Applied { duplicates: 2, stale: 1, ..NEVER };
    assert_eq!(applied(&*index, events.clone()).await, same);
    drop(index);
    let index = bench.prepared().await;
    assert_eq!(applied(&*index, events).await, same);
    assert_eq!(only(&*index, entities("leads"), "*").await, before, "processado_em included");
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
    let again = applied(&*index, vec![named(3, "terceira")]).await;
    assert_eq!(again, Applied { duplicates: 1, stale: 1, ..NEVER });
    // Delivered again from further back, and not all of it seen by searches yet.
    for (offset, name) in [(2, "segunda"), (3, "terceira"), (2, "segunda"), (3, "terceira")] {
        let again = applied(&*index, vec![named(offset, name)]).await;
        assert_eq!(again, Applied { duplicates: 1, entities: 1, ..NEVER }, "{name}");
    }
    assert_eq!(only(&*index, entities("leads"), "*").await["nome"], "terceira");
}

async fn a_removal_delivered_again_changes_nothing_and_one_of_an_equal_version_wins<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let there = lead(1, id(1), 7, json!({"nome": "Ana"}));
    let mut gone = there.clone();
    gone.position.offset = 2;
    let table = gone.table.expect("a table");
    gone.event = Event::removal(table, &id(1).to_string(), id(3), DateTime::UNIX_EPOCH, 7);
    let removed = Applied { inserted: 1, entities: 1, ..NEVER };
    assert_eq!(applied(&*index, vec![there.clone()]).await, removed);
    assert_eq!(applied(&*index, vec![gone.clone()]).await, removed);
    assert_eq!(hits(&*index, entities("leads"), "*").await, 0);
    let again = Applied { duplicates: 1, stale: 1, ..NEVER };
    assert_eq!(applied(&*index, vec![gone]).await, again);
    let mut back = there;
    back.position.offset = 3;
    assert_eq!(applied(&*index, vec![back]).await, Applied { duplicates: 1, entities: 1, ..NEVER });
    assert_eq!(hits(&*index, entities("leads"), "nome:Ana").await, 1);
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
        "\"nome\": \"Ana\",\n  \"localizacao\": {\r\n\t\"uf\":\n\"SP\"}".to_owned(),
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
    let replaced = hits(&*index, entities("leads"), "nome.keyword:\"a\u{fffd}b\"").await;
    assert_eq!(replaced, 2, "a lone surrogate and a NUL, as Postgres has them");
    let again = applied(&*index, events).await;
    assert_eq!(again, Applied { duplicates: count, stale: count, ..NEVER });
}
