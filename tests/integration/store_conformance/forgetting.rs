//! What a store forgets by age, and what it keeps for whoever asks.

use chrono::{TimeDelta, Utc};
use sluice::{
    domain::TableName,
    log::Extent,
    store::{
        Appended, NewSync, ParkedEntity, Reconciliation, Resolution, Settled, Store, SyncProgress, SyncState,
    },
};
use uuid::Uuid;

use crate::support::{
    on_each_adapter,
    stores::{Embedded, LOG, Postgres, StoreBench, begun, ended, new_sync},
    table,
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    old_syncs_are_forgotten_but_for_those_that_somebody_asks_for,
    settled_letters_are_forgotten_below_a_place_but_for_those_that_are_open_or_explain_a_row,
    rows_that_made_no_event_are_forgotten_where_no_letter_tells_of_them,
    open_letters_that_the_log_does_not_hold_are_counted_until_their_table_is_proven,
}

async fn ran(store: &dyn Store, new: NewSync, state: SyncState) -> Uuid {
    let id = new.id;
    let sluice::store::Begun::Started { lease, .. } = store.begin_sync(new).await.expect("it answers") else {
        panic!("it is busy");
    };
    lease.finish(ended(state)).await.expect("it finishes");
    id
}

async fn old_syncs_are_forgotten_but_for_those_that_somebody_asks_for<B: StoreBench>() {
    let bench = B::new().await;
    let store = &*bench.open();
    let leads = table("leads");
    let reconciliation = || {
        let mut new = new_sync(leads);
        new.request.reconcile = Some(Reconciliation::default());
        new
    };
    let unneeded = [
        ran(store, new_sync(leads), SyncState::Failed).await,
        ran(store, reconciliation(), SyncState::Succeeded).await,
        ran(store, reconciliation(), SyncState::Interrupted).await,
        ran(store, new_sync(leads), SyncState::Succeeded).await,
    ];
    let kept = [
        ran(store, reconciliation(), SyncState::Succeeded).await,
        ran(store, new_sync(leads), SyncState::Succeeded).await,
        ran(store, reconciliation(), SyncState::Failed).await,
        ran(store, new_sync(leads), SyncState::Cancelled).await,
    ];
    let of_another_table = ran(store, new_sync(table("chat_sessions")), SyncState::Failed).await;
    let running = new_sync(leads);
    let running_id = running.id;
    let lease = store.begin_sync(running).await.expect("it answers");
    let names = [TableName::from(leads), TableName::from(table("chat_sessions"))];
    let latest = async || {
        let mut ids: Vec<Uuid> =
            store.latest_syncs(&names).await.expect("the latest").iter().map(|sync| sync.id).collect();
        ids.sort_unstable();
        ids
    };
    let before = latest().await;

    let past = Utc::now() - TimeDelta::hours(1);
    assert_eq!(store.forget_syncs(past, 100).await.expect("an answer"), 0, "they are younger");
    let later = Utc::now() + TimeDelta::hours(1);
    assert_eq!(store.forget_syncs(later, 3).await.expect("forgotten"), 3, "no more than it may");
    assert!(store.sync(unneeded[3]).await.expect("an answer").is_some(), "the oldest go first");
    assert_eq!(store.forget_syncs(later, 3).await.expect("forgotten"), 1);
    for id in unneeded {
        assert!(store.sync(id).await.expect("an answer").is_none());
    }
    for id in kept.into_iter().chain([of_another_table, running_id]) {
        assert!(store.sync(id).await.expect("an answer").is_some(), "{id}");
    }
    assert_eq!(latest().await, before);
    assert_eq!(store.forget_syncs(later, 3).await.expect("an answer"), 0);
    drop(lease);
}

/// What is remembered of a row that made no event: its letter, in the place of an event.
fn unmade(entity: impl Into<String>, letter: Uuid, versao: i64) -> Appended {
    Appended { entity: entity.into(), event: letter, versao, removed: false }
}

async fn settled_letters_are_forgotten_below_a_place_but_for_those_that_are_open_or_explain_a_row<
    B: StoreBench,
>() {
    let bench = B::new().await;
    let store = &*bench.open();
    let leads = TableName::from(table("leads"));
    let extent = |low, high| Extent { partition: 0, low, high };
    let first_open = async |low, high| store.first_open(LOG, extent(low, high)).await.expect("an answer");
    assert_eq!((first_open(0, 0).await, first_open(4, 9).await), (None, Some(4)));
    let letter = |offset: i64| Uuid::from_u128(u128::from(offset.unsigned_abs()) + 1);
    let parked_at = |offset| ParkedEntity {
        sink: None,
        table: leads.clone(),
        entity: format!("e{offset}"),
        partition: 0,
        offset,
        letter: letter(offset),
    };
    let settled = |offset| Resolution {
        partition: 0,
        offset,
        letter: letter(offset),
        settled: Settled::Discarded,
        by: "ana".to_owned(),
        at: Utc::now(),
    };
    store.note_parked(LOG, &(4..9).map(parked_at).collect::<Vec<_>>()).await.expect("noted");
    store.settle(LOG, &[4, 5, 7, 8].map(settled)).await.expect("settled");
    assert_eq!((first_open(4, 9).await, first_open(7, 9).await), (Some(6), None));
    assert_eq!(first_open(7, 10).await, Some(9), "behind all that are settled");

    for (log, partition) in [("other", 0), (LOG, 1)] {
        let elsewhere = Extent { partition, low: 0, high: 99 };
        store.forget_letters(log, LOG, elsewhere).await.expect("nothing");
    }
    assert_eq!(store.settled_count(LOG, &[extent(0, 99)]).await.expect("a count"), 4);
    // The first row is too large, another has no usable key; the second has made an event since.
    let (_, mut lease, _) = begun(store, table("leads")).await;
    let event = unmade("e5", Uuid::from_u128(99), 7);
    let rows = [unmade("e4", letter(4), 7), event, unmade(letter(7).to_string(), letter(7), 0)];
    lease.checkpoint(&SyncProgress::default(), &rows).await.expect("remembered");
    let left = async |events: &str, low| {
        store.forget_letters(LOG, events, extent(low, 8)).await.expect("forgotten");
        let left = store.settled(LOG, extent(0, 99)).await.expect("letters");
        left.iter().map(|one| one.offset).collect::<Vec<_>>()
    };
    assert_eq!(left(LOG, 0).await, [4, 7, 8]);
    let known = ["e4", "e5", "e7"].map(str::to_owned);
    let parked = async || store.parked(LOG, table("leads"), &known).await.expect("letters").len();
    assert_eq!(parked().await, 2, "they explain their rows");
    assert_eq!(left("another log", 5).await, [4, 8], "what was left before is not looked at");
    assert_eq!(left("another log", 0).await, [8]);
    assert_eq!(parked().await, 0);
    let noted = async || store.entities_with_letters(LOG, table("leads"), None, 10).await.expect("entities");
    assert_eq!(noted().await, ["e6", "e8"], "the rows may come mended, or go");
    let of_a_sink = ParkedEntity { sink: Some("postgres".to_owned()), ..parked_at(8) };
    store.note_parked(LOG, &[of_a_sink]).await.expect("noted");
    assert_eq!(noted().await, ["e6"], "of an event that was discarded nothing is left to settle");
    assert_eq!(store.settle_mended(LOG, &leads, &["e6".to_owned()]).await.expect("settled"), 1);
}

async fn rows_that_made_no_event_are_forgotten_where_no_letter_tells_of_them<B: StoreBench>() {
    let bench = B::new().await;
    let store = &*bench.open();
    let leads = TableName::from(table("leads"));
    let letter = Uuid::from_u128;
    let parked = |n: u128, offset| ParkedEntity {
        sink: None,
        table: leads.clone(),
        entity: format!("e{n}"),
        partition: 0,
        offset,
        letter: letter(n),
    };
    let of_a_sink = ParkedEntity { sink: Some("postgres".to_owned()), ..parked(7, 70) };
    let before = [parked(1, 10), parked(2, 20), parked(6, 60), of_a_sink, parked(8, 80), parked(9, 90)];
    store.note_parked("before", &before).await.expect("noted");
    // Below what the log holds, and there.
    store.note_parked(LOG, &[parked(3, 3), parked(4, 4), parked(5, 5), parked(6, 6)]).await.expect("noted");
    let (discarded, erased) = (Settled::Discarded, Settled::Erased);
    for (log, n, offset, settled) in
        [("before", 2, 20, discarded), (LOG, 4, 4, discarded), ("before", 9, 90, erased)]
    {
        let settled = Resolution {
            partition: 0,
            offset,
            letter: letter(n),
            settled,
            by: "ana".to_owned(),
            at: Utc::now(),
        };
        store.settle(log, &[settled]).await.expect("settled");
    }
    // Some are too large, of the others the key is unusable; the eighth has made an event since, the ninth was erased.
    let (_, mut lease, _) = begun(store, table("leads")).await;
    let mut rows: Vec<Appended> = (1..=9).map(|n| unmade(format!("e{n}"), letter(n), 5)).collect();
    for n in [2, 3, 5, 9] {
        rows[n - 1].entity = rows[n - 1].event.to_string();
    }
    rows[7].event = letter(99);
    lease.checkpoint(&SyncProgress::default(), &rows).await.expect("remembered");

    let extents = [Extent { partition: 0, low: 5, high: 9 }];
    let forget =
        async |events: &str| store.forget_lost_rows(LOG, &extents, events, &leads).await.expect("an answer");
    assert_eq!((forget("another log").await, forget(LOG).await, forget(LOG).await), (0, 3, 0));
    let entities: Vec<String> = rows.iter().map(|row| row.entity.clone()).collect();
    let last = lease.last_appended(&entities).await.expect("what was appended");
    for (n, row) in rows.into_iter().enumerate() {
        let event = if n < 3 { Uuid::nil() } else { row.event };
        assert_eq!(last[&row.entity], Appended { event, ..row }, "the {n}th");
    }
}

async fn open_letters_that_the_log_does_not_hold_are_counted_until_their_table_is_proven<B: StoreBench>() {
    let bench = B::new().await;
    let store = &*bench.open();
    let parked = |name: &str, partition, offset: i64| ParkedEntity {
        sink: Some("postgres".to_owned()),
        table: TableName(name.to_owned()),
        entity: format!("e{offset}"),
        partition,
        offset,
        letter: Uuid::from_u128(u128::from(offset.unsigned_abs())),
    };
    // In another log; below what the log holds, there, in a partition that it has not, of another table, and settled.
    store.note_parked("before", &[parked("leads", 0, 7), parked("leads", 0, 8)]).await.expect("noted");
    let here = [
        parked("leads", 0, 4),
        parked("leads", 0, 5),
        parked("leads", 11, 4),
        parked("pedidos", 1, 4),
        parked("pedidos", 0, 3),
    ];
    store.note_parked(LOG, &here).await.expect("noted");
    let settled = Resolution {
        partition: 0,
        offset: 3,
        letter: Uuid::from_u128(3),
        settled: Settled::Discarded,
        by: "ana".to_owned(),
        at: Utc::now(),
    };
    store.settle(LOG, std::slice::from_ref(&settled)).await.expect("settled");
    for (name, entities) in [("leads", 2), ("pedidos", 1), ("chat_sessions", 0)] {
        let parked = store.parked_count(LOG, &TableName(name.to_owned())).await.expect("a count");
        assert_eq!(parked, entities, "{name}");
    }
    let extents = [0, 1, 10].map(|partition| Extent { partition, low: 5, high: 9 });
    let lost = async || {
        let lost = store.lost_letters(LOG, &extents).await.expect("a count");
        lost.into_iter().map(|(table, count)| (table.0, count)).collect::<Vec<_>>()
    };
    let named = |name: &str, count: u64| (name.to_owned(), count);
    assert_eq!(lost().await, [named("leads", 4), named("pedidos", 1)]);

    let leads = TableName::from(table("leads"));
    assert_eq!(store.settle_lost_letters(LOG, &extents, &leads).await.expect("settled"), 4);
    assert_eq!(lost().await, [named("pedidos", 1)]);
    let open = store.entities_with_letters(LOG, table("leads"), None, 10).await.expect("entities");
    assert_eq!(open, ["e5"], "what the log holds is open still");
    assert_eq!(store.settled_count(LOG, &[Extent { partition: 0, low: 0, high: 9 }]).await.expect("two"), 2);
    let refused_by = |sink: Option<&str>, offset| ParkedEntity {
        sink: sink.map(str::to_owned),
        ..parked("leads", 0, offset)
    };
    let mut noted: Vec<_> = (20..24).map(|offset| refused_by(Some("postgres"), offset)).collect();
    noted.extend([refused_by(None, 24), refused_by(Some("elasticsearch"), 25)]);
    store.note_parked("before", &noted).await.expect("noted");
    // What came mended first is settled by somebody, too.
    assert_eq!(store.settle_mended("before", &leads, &["e23".to_owned()]).await.expect("settled"), 1);
    for (offset, how) in [
        (20, Settled::Discarded),
        (21, Settled::Replayed),
        (22, Settled::Erased),
        (23, Settled::Discarded),
        (24, Settled::Discarded),
        (25, Settled::Discarded),
        (26, Settled::Discarded),
    ] {
        let letter =
            Resolution { offset, letter: parked("leads", 0, offset).letter, settled: how, ..settled.clone() };
        store.settle("before", &[letter]).await.expect("settled");
    }
    let elsewhere = async |sink: &str| store.settled_elsewhere(LOG, sink).await.expect("a count");
    assert_eq!(elsewhere("postgres").await, 4, "its event went unread");
    assert_eq!(elsewhere("elasticsearch").await, 1);
}
