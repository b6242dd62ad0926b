//! Trimming old events, and what becomes of those that are delivered again.

use std::collections::HashSet;

use sluice::{
    domain::{Event, removal_id},
    sink::Applied,
    store::{AlertRule, EVENTS, EventFilter, EventName, EventOrder, NewAlert, Store},
};
use uuid::Uuid;

use crate::support::{
    on_each_adapter,
    stores::{Embedded, Postgres, StoreBench, apply, instant, lead, lead_with, manual},
    table,
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    a_trimmed_event_is_neither_stored_nor_counted_when_it_is_delivered_again,
    an_event_that_was_never_stored_is_stored_and_counted_however_old,
    content_that_comes_back_is_stored_and_not_counted_again,
    content_that_had_come_back_before_the_store_heard_of_it_is_stored,
    content_that_came_back_and_went_again_stays_away,
    what_a_row_is_or_was_when_the_kept_time_began_stays,
    what_alerts_still_have_to_look_at_or_to_send_stays,
    nothing_that_adds_the_rollup_up_anew_loses_what_trimmed_events_gave,
    an_erasure_forgets_what_was_trimmed_of_the_erased,
    trimming_beside_drains_counts_every_event_once,
}

/// Between the versions of `minutes` below 100 and those from 100 on.
fn below() -> i64 {
    lead(1, 100, "").entidade.versao
}

/// Trims all that may go, page by page, and tells how many.
async fn trim(store: &dyn Store, below: i64) -> u64 {
    let (mut trimmed, mut after) = (0, None);
    loop {
        let page = store.trimmable(below, after).await.expect("a page");
        trimmed += store.trim(&page.events, below).await.expect("trimmed");
        after = page.next;
        if after.is_none() {
            return trimmed;
        }
    }
}

async fn names<B: StoreBench>(bench: &B) -> Vec<String> {
    let found = bench.open().events(&EventFilter::default(), EventOrder::Oldest, None, 200).await;
    let name = |event: sluice::store::StoredEvent| {
        let row: serde_json::Value = serde_json::from_str(event.dados.as_str()).expect("JSON");
        row["nome"].as_str().unwrap_or(&event.evento).to_owned()
    };
    found.expect("events").events.into_iter().map(name).collect()
}

async fn rollup<B: StoreBench>(bench: &B) -> Vec<String> {
    bench
        .texts(
            "SELECT janela_inicio || ' ' || evento || ' ' || total || ' ' || CAST(soma_valor AS integer)
             FROM eventos_agregados ORDER BY 1",
        )
        .await
}

fn name_of(event: &Event) -> EventName {
    EventName { tipo_evento: event.tipo_evento.clone(), entidade: event.entidade.id.clone(), id: event.id }
}

fn of_all() -> Vec<Event> {
    vec![lead(1, 0, "a"), lead(1, 10, "b"), lead(1, 20, "c"), lead(1, 200, "d"), lead(2, 0, "só")]
}

async fn a_trimmed_event_is_neither_stored_nor_counted_when_it_is_delivered_again<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    apply(&*store, of_all()).await;
    let before = rollup(&bench).await;

    let page = store.trimmable(below(), None).await.expect("a page");
    let expected = [lead(1, 0, "a"), lead(1, 10, "b")].map(|event| event.id);
    assert_eq!(page.events.iter().copied().collect::<HashSet<_>>(), HashSet::from(expected));
    assert_eq!(trim(&*store, below()).await, 2);
    assert_eq!(trim(&*store, below()).await, 0);
    assert_eq!(
        names(&bench).await,
        ["só", "c", "d"],
        "what it was when the kept time began, and every change since"
    );
    assert_eq!(rollup(&bench).await, before);

    // All is delivered again, by the same worker and by another.
    for worker in [&store, &bench.open()] {
        let applied = apply(&**worker, of_all()).await;
        assert_eq!((applied.inserted, applied.duplicates), (0, 5));
    }
    assert_eq!(names(&bench).await, ["só", "c", "d"]);
    assert_eq!(rollup(&bench).await, before);
    let asked: Vec<EventName> = of_all().iter().map(name_of).collect();
    let trimmed = store.trimmed(&asked).await.expect("an answer");
    assert_eq!(trimmed.keys().copied().collect::<HashSet<_>>(), HashSet::from(expected));
    let stands_at = lead(1, 200, "d").entidade.versao;
    assert!(trimmed.values().all(|version| *version == stands_at), "where the row stood: {trimmed:?}");

    // What is told of it.
    assert_eq!(store.trimmed_of(table("leads"), &Uuid::from_u128(1).to_string()).await.expect("a count"), 2);
    assert_eq!(store.trimmed_of(table("leads"), &Uuid::from_u128(2).to_string()).await.expect("a count"), 0);
    let between = async |from: &str, to: &str| {
        let of = |text: &str| (!text.is_empty()).then(|| instant(text));
        store.trimmed_between(of(from), of(to)).await.expect("a count")
    };
    assert!(between("", "").await);
    assert!(between("2026-05-01T12:13:00Z", "").await, "of the window that it lies in");
    assert!(!between("2026-05-01T12:15:00Z", "").await);
    assert!(!between("", "2026-05-01T12:00:00Z").await);
    assert!(!between("2026-05-01T12:05:00Z", "2026-05-01T12:10:00Z").await);
    store.keep_pass(EVENTS, 2, None).await.expect("kept");
    store.keep_pass(EVENTS, 0, Some("the index is down")).await.expect("kept");
    let [pass] = &store.passes().await.expect("passes")[..] else { panic!("one pass") };
    assert_eq!((pass.removed, pass.removed_in_all, pass.error.as_deref()), (0, 2, Some("the index is down")));
    assert!(pass.succeeded_at.is_some_and(|succeeded| Some(succeeded) <= pass.ended_at));
}

async fn an_event_that_was_never_stored_is_stored_and_counted_however_old<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    apply(&*store, of_all()).await;
    assert_eq!(trim(&*store, below()).await, 2);
    // A letter that was parked for long: the row has moved on twice since.
    let applied = apply(&*store, vec![lead(1, 5, "parada")]).await;
    assert_eq!(applied, Applied { inserted: 1, stale: 1, ..Applied::default() });
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 6);
    assert_eq!(trim(&*store, below()).await, 1, "and goes the way of its like");
    apply(&*store, vec![lead(1, 5, "parada")]).await;
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 6);
}

/// The content of an earlier version, at a version of its own.
fn again(event: Event, minutes: i64) -> Event {
    let mut event = event;
    event.entidade.versao = lead(1, minutes, "").entidade.versao;
    event
}

async fn content_that_comes_back_is_stored_and_not_counted_again<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    apply(&*store, of_all()).await;
    trim(&*store, below()).await;
    let before = rollup(&bench).await;
    let first = || lead(1, 0, "a");

    // Both deliveries in one batch: the old one first.
    let applied = apply(&*store, vec![first(), again(first(), 300)]).await;
    assert_eq!((applied.inserted, applied.entities), (1, 1));
    let entity =
        store.entity(table("leads"), &first().entidade.id).await.expect("an answer").expect("a lead");
    assert_eq!((entity.evento_id, entity.row["nome"].as_str()), (first().id, Some("a")));
    let stored = names(&bench).await;
    assert_eq!(stored.iter().filter(|name| *name == "a").count(), 1, "{stored:?}");
    assert_eq!(rollup(&bench).await, before);
    assert!(store.trimmed(&[name_of(&first())]).await.expect("an answer").is_empty());

    // It is what the row is, so it stays, whatever the age; once the row moves on it goes again.
    assert_eq!(trim(&*store, i64::MAX).await, 2, "c and d");
    apply(&*store, vec![lead(1, 400, "e")]).await;
    assert_eq!(trim(&*store, i64::MAX).await, 1);
    assert_eq!(names(&bench).await, ["só", "e"]);
    apply(&*store, vec![first(), again(first(), 300)]).await;
    assert_eq!(names(&bench).await, ["só", "e"]);
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 6);
    assert_eq!(bench.number("SELECT sum(total) FROM sluice_trimmed_windows").await, 4);
}

/// A drain that was behind for longer than events are kept: the row is again what it was, since before the kept time began.
async fn content_that_had_come_back_before_the_store_heard_of_it_is_stored<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let first = || lead(1, 0, "a");
    apply(&*store, vec![first(), lead(1, 10, "b")]).await;
    assert_eq!(trim(&*store, below()).await, 1);
    let applied = apply(&*store, vec![again(first(), 50)]).await;
    assert_eq!((applied.inserted, applied.entities), (1, 1));
    assert_eq!(names(&bench).await, ["a", "b"]);
    assert!(store.trimmed(&[name_of(&first())]).await.expect("an answer").is_empty());
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 2);
}

async fn content_that_came_back_and_went_again_stays_away<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let first = || lead(1, 0, "a");
    let all = || vec![first(), lead(1, 10, "b"), again(first(), 150), lead(1, 200, "c")];
    apply(&*store, all()).await;
    assert_eq!(trim(&*store, below()).await, 1, "it stands there as it came first");
    apply(&*store, all()).await;
    assert_eq!(names(&bench).await, ["b", "c"]);
    let trimmed = store.trimmed(&[name_of(&first())]).await.expect("an answer");
    let is_of_the_past = |event: Event| trimmed[&first().id] > event.entidade.versao;
    assert!(is_of_the_past(first()) && is_of_the_past(again(first(), 150)), "in an index, too: {trimmed:?}");
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 3);
}

async fn what_a_row_is_or_was_when_the_kept_time_began_stays<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let removed = |n: u128, minutes: i64| {
        let of = lead(n, minutes, "");
        let (key, versao) = (of.entidade.id, of.entidade.versao);
        let id = removal_id(table("leads"), &key, versao - 1);
        Event::removal(table("leads"), &key, id, instant("2026-05-01T12:00:00Z"), versao)
    };
    let events = vec![
        // It is again what it was first.
        lead(1, 0, "a"),
        lead(1, 10, "b"),
        again(lead(1, 0, "a"), 20),
        // Gone.
        lead(2, 0, "x"),
        removed(2, 10),
        // Gone, and back.
        lead(3, 0, "y"),
        removed(3, 10),
        lead(3, 20, "z"),
        manual("anotado", serde_json::json!({})),
    ];
    apply(&*store, events.clone()).await;
    assert_eq!(trim(&*store, i64::MAX).await, 3, "x, y and the removal that was undone");
    let mut left = names(&bench).await;
    left.sort();
    assert_eq!(left, ["a", "anotado", "b", "lead_removido", "z"]);
    apply(&*store, events).await;
    assert_eq!(names(&bench).await.len(), 5);
    assert_eq!(bench.texts("SELECT nome FROM leads ORDER BY nome").await, ["a", "z"], "nobody came back");
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 8);
}

async fn what_alerts_still_have_to_look_at_or_to_send_stays<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let alert = NewAlert {
        name: "todos".to_owned(),
        target: None,
        rule: AlertRule::Row { table: table("leads").into(), conditions: Vec::new() },
        by: "teste".to_owned(),
    };
    assert!(store.create_alert(&alert).await.expect("created"));
    apply(&*store, of_all()).await;
    assert_eq!(trim(&*store, i64::MAX).await, 0, "nobody has looked at them yet");
    let waiting = store.queued_versions(&["leads".to_owned()], 100).await.expect("a queue");
    let positions: Vec<i64> = waiting.iter().map(|version| version.position).collect();
    store.take_versions(&positions, &[]).await.expect("taken");
    assert_eq!(trim(&*store, i64::MAX).await, 3);
    // What was trimmed is no news.
    apply(&*store, of_all()).await;
    assert_eq!(bench.number("SELECT count(*) FROM sluice_alert_queue").await, 0);
}

/// Has the store find that a table was dropped.
async fn make_dropped_tables(store: &dyn Store) {
    store.prepare().await.expect("the tables are made");
    store.recount(instant("2000-01-01T00:00:00Z")).await.expect("recounted");
}

async fn nothing_that_adds_the_rollup_up_anew_loses_what_trimmed_events_gave<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    apply(&*store, of_all()).await;
    let before = rollup(&bench).await;
    trim(&*store, below()).await;
    // One of them is stored again.
    apply(&*store, vec![again(lead(1, 0, "a"), 300)]).await;
    store.recount(instant("2000-01-01T00:00:00Z")).await.expect("recounted");
    assert_eq!(rollup(&bench).await, before);

    bench.execute("DROP TABLE eventos_agregados").await;
    make_dropped_tables(&*store).await;
    assert_eq!(rollup(&bench).await, before);

    bench.execute("DROP TABLE eventos_raw").await;
    make_dropped_tables(&*store).await;
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 2, "what was trimmed");
    apply(&*bench.open(), of_all()).await;
    assert_eq!(rollup(&bench).await, before);
    assert_eq!(names(&bench).await, ["só", "c", "d"]);
}

async fn an_erasure_forgets_what_was_trimmed_of_the_erased<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let mut events = of_all();
    events.push(lead_with(3, 0, serde_json::json!({"nome": "outra"})));
    events.push(lead_with(3, 10, serde_json::json!({"nome": "ainda"})));
    // Beside which every other is nothing, to a sum of doubles.
    let mut large = lead(1, 1, "imensa");
    large.valor = 1e17;
    events.push(large);
    apply(&*store, events.clone()).await;
    trim(&*store, below()).await;
    assert_eq!(bench.number("SELECT count(*) FROM sluice_trimmed").await, 4);
    let key = Uuid::from_u128(1).to_string();
    store.erase(table("leads"), std::slice::from_ref(&key), false).await.expect("erased").expect("known");
    assert_eq!(bench.number("SELECT count(*) FROM sluice_trimmed").await, 1, "of somebody else");
    let left = bench.texts("SELECT entidade_id FROM sluice_trimmed").await;
    assert!(!left.contains(&key));
    apply(&*store, events).await;
    assert_eq!(names(&bench).await, ["só", "ainda"]);
    // What they gave to the rollup is gone, too.
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 3);
    assert_eq!(bench.number("SELECT sum(total) FROM sluice_trimmed_windows").await, 1);
    let of_another = "SELECT count(*) FROM sluice_trimmed_windows AS w
        JOIN sluice_trimmed AS s ON s.janela_inicio = w.janela_inicio AND s.valor = w.soma_valor";
    assert_eq!(bench.number(of_another).await, 1);
}

async fn trimming_beside_drains_counts_every_event_once<B: StoreBench>() {
    const LEADS: u128 = 40;
    let bench = B::new().await;
    let (store, trimmer) = (bench.open(), bench.open());
    let versions: Vec<Event> =
        (0..5).flat_map(|n| (1..=LEADS).map(move |id| lead(id, n, &format!("v{n}")))).collect();
    let draining = async {
        // Each version three times, as by a group that was set back again and again.
        for _ in 0..3 {
            for batch in versions.chunks(25) {
                apply(&*store, batch.to_vec()).await;
            }
        }
    };
    let done = tokio_util::sync::CancellationToken::new();
    let trimming = async {
        while !done.is_cancelled() {
            trim(&*trimmer, below()).await;
        }
        trim(&*trimmer, below()).await;
    };
    tokio::join!(
        async {
            draining.await;
            done.cancel();
        },
        trimming
    );
    assert_eq!(bench.number("SELECT count(*) FROM eventos_raw").await, 40);
    assert_eq!(
        bench.number("SELECT count(*) FROM eventos_raw AS e JOIN leads AS l ON l.evento_id = e.id").await,
        40
    );
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 200);
    assert_eq!(bench.number("SELECT sum(total) FROM sluice_trimmed_windows").await, 160);
    assert_eq!(bench.number("SELECT count(*) FROM sluice_trimmed").await, 160);
}
