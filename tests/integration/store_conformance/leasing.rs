//! Syncs, their leases and what they remember.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sluice::{
    domain::{Table, TableName},
    fault::FaultKind,
    identity::Identity,
    log::Position,
    source::BEGINNING,
    store::{
        Appended, Begun, Control, Coverage, NewSync, Notice, NoticeKind, Store, SyncEnd, SyncLease,
        SyncProgress, SyncState,
    },
};
use uuid::Uuid;

use crate::support::{
    condition, on_each_adapter,
    stores::{Embedded, LOG, Postgres, StoreBench, begun, ended, instant, new_sync, state},
    table,
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    one_sync_of_a_table_runs_at_a_time_and_the_second_is_told_who,
    many_that_ask_at_once_get_one_lease,
    a_sync_remembers_its_progress_and_its_end,
    a_dropped_lease_is_free_and_its_sync_interrupted,
    a_running_sync_of_a_live_process_is_never_taken_for_interrupted,
    a_cancel_reaches_the_sync_at_its_next_checkpoint,
    coverage_is_what_the_last_sync_left_for_each_table_and_log,
    what_was_appended_last_of_each_entity_is_remembered,
    a_table_that_nobody_here_defines_has_a_lease_too,
    an_id_that_was_used_before_is_refused_and_the_lease_is_free_again,
    a_notice_is_found_by_its_kind_however_many_came_since,
    whatever_was_read_is_owed_but_what_was_read_by_conditions_alone,
}

async fn begun_soon(store: &dyn Store, table: Table) -> (Uuid, Box<dyn SyncLease>) {
    let new = new_sync(table);
    (new.id, begun_with(store, new).await)
}

async fn one_sync_of_a_table_runs_at_a_time_and_the_second_is_told_who<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let other = bench.open();
    let (id, lease, _) = begun(&*store, table("leads")).await;
    let Begun::Busy(Some(running)) = other.begin_sync(new_sync(table("leads"))).await.expect("it answers")
    else {
        panic!("two syncs of one table");
    };
    assert_eq!((running.id, running.owner.as_str(), running.state), (id, "host/1", SyncState::Running));
    begun(&*other, table("chat_sessions")).await;

    lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");
    assert_eq!(state(&*other, id).await, SyncState::Succeeded);
    begun(&*other, table("leads")).await;
}

async fn many_that_ask_at_once_get_one_lease<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let stores: Vec<Arc<dyn Store>> = (0..8).map(|_| bench.open()).collect();
    let outcomes =
        futures::future::join_all(stores.iter().map(|s| s.begin_sync(new_sync(table("leads"))))).await;
    let started = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Begun::Started { .. }))).count();
    assert_eq!(started, 1);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(
        store.recent_syncs(10).await.expect("it answers").len(),
        1,
        "only a sync that runs is remembered"
    );
}

async fn a_sync_remembers_its_progress_and_its_end<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let (id, mut lease, _) = begun(&*store, table("leads")).await;
    let progress = SyncProgress {
        pages: 2,
        rows_read: 1_500,
        appended: 3,
        targets: vec![Position { partition: 1, offset: 42 }],
        ..SyncProgress::default()
    };
    lease.checkpoint(&progress, &[]).await.expect("it is remembered");
    let record = store.sync(id).await.expect("it answers").expect("it is known");
    assert_eq!((record.state, &record.progress), (SyncState::Running, &progress));
    assert_eq!(record.finished_at, None);

    let end = SyncEnd {
        state: SyncState::Failed,
        progress: SyncProgress { pages: 3, ..progress.clone() },
        error: Some("supabase: 401".to_owned()),
        coverage: None,
    };
    lease.finish(end).await.expect("it finishes");
    let record = &store.recent_syncs(1).await.expect("it answers")[0];
    assert_eq!((record.id, record.state, record.progress.pages), (id, SyncState::Failed, 3));
    assert_eq!(record.error.as_deref(), Some("supabase: 401"));
    assert!(record.finished_at >= Some(record.started_at));
    assert_eq!(record.log, LOG);
    let undrained = store.undrained_syncs(10).await.expect("it answers");
    assert_eq!((undrained.as_slice(), record.drained), (std::slice::from_ref(record), false));
    store.note_drained(&[id]).await.expect("noted");
    assert_eq!(store.undrained_syncs(10).await.expect("it answers"), []);
    let meet = async |piece: &str| {
        let piece = Identity { place: "elasticsearch/leads".to_owned(), id: piece.to_owned() };
        store.meet_sink(&piece).await.expect("met");
        store.sync(id).await.expect("it answers").is_some_and(|record| record.drained)
    };
    assert!(meet("a").await && meet("a").await, "it is the index that had it");
    assert!(!meet("b").await, "the index in its place has nothing");
    store.note_drained(&[id]).await.expect("noted");
    let fill = async |index: &str| {
        store.meet_index(index).await.expect("met");
        store.sync(id).await.expect("it answers").is_some_and(|record| record.drained)
    };
    assert!(fill("b").await && fill("b").await, "it is the index that had it");
    assert!(!fill("c").await, "the index at another place has nothing");
    let notices = store.notices(DateTime::UNIX_EPOCH).await.expect("the notices");
    assert!(notices.iter().all(|notice| notice.part == "elasticsearch/leads"), "{notices:?}");
    assert_eq!(store.sync(Uuid::now_v7()).await.expect("it answers"), None);
}

async fn a_dropped_lease_is_free_and_its_sync_interrupted<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let (first, lease, _) = begun(&*store, table("leads")).await;
    drop(lease);
    let (second, _lease) = begun_soon(&*store, table("leads")).await;
    let record = store.sync(first).await.expect("it answers").expect("it is known");
    assert_eq!(record.state, SyncState::Interrupted);
    assert!(record.error.is_some() && record.finished_at.is_some());
    assert_eq!(state(&*store, second).await, SyncState::Running);
}

async fn a_running_sync_of_a_live_process_is_never_taken_for_interrupted<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let other = bench.open();
    let (_, lease) = begun_soon(&*store, table("chat_sessions")).await;
    lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");
    let watch = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..150 {
            seen.extend(other.recent_syncs(50).await.expect("it answers").into_iter().map(|r| r.state));
        }
        seen
    });
    while !watch.is_finished() {
        let (_, lease) = begun_soon(&*store, table("chat_sessions")).await;
        lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");
    }
    let seen = watch.await.expect("the watcher ends");
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|state| *state != SyncState::Interrupted), "{seen:?}");
}

async fn a_cancel_reaches_the_sync_at_its_next_checkpoint<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let (id, mut lease, _) = begun(&*store, table("leads")).await;
    let progress = SyncProgress::default();
    assert_eq!(lease.checkpoint(&progress, &[]).await.expect("it answers"), Control::GoOn);
    let other = bench.open();
    assert!(other.request_cancel(id).await.expect("it answers"));
    assert_eq!(lease.checkpoint(&progress, &[]).await.expect("it answers"), Control::Cancel);
    lease.finish(ended(SyncState::Cancelled)).await.expect("it finishes");
    assert!(!other.request_cancel(id).await.expect("it answers"), "it runs no more");
    assert!(!other.request_cancel(Uuid::now_v7()).await.expect("it answers"), "it never ran");
}

async fn coverage_is_what_the_last_sync_left_for_each_table_and_log<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    assert_eq!(store.coverage(table("leads"), LOG).await.expect("it answers"), None);
    let covered =
        Coverage { from: instant("2026-05-01T00:00:00Z"), to: instant("2026-05-02T00:00:00.000001Z") };
    let (_, lease, before) = begun(&*store, table("leads")).await;
    assert_eq!(before, None);
    let end = SyncEnd { coverage: Some(covered), ..ended(SyncState::Succeeded) };
    lease.finish(end).await.expect("it finishes");

    let (_, lease) = begun_soon(&*store, table("leads")).await;
    lease.finish(ended(SyncState::Failed)).await.expect("it finishes");
    assert_eq!(store.coverage(table("leads"), LOG).await.expect("it answers"), Some(covered), "untouched");
    assert_eq!(store.coverage(table("chat_sessions"), LOG).await.expect("it answers"), None);
    assert_eq!(store.coverage(table("leads"), "other").await.expect("it answers"), None);
    let (_, _lease, again) = begun(&*store, table("leads")).await;
    assert_eq!(again, Some(covered));
}

async fn what_was_appended_last_of_each_entity_is_remembered<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let one = |entity: &str, event, versao| Appended {
        entity: entity.to_owned(),
        event: Uuid::from_u128(event),
        versao,
        removed: false,
    };
    let of =
        |all: &[Appended]| all.iter().map(|one| (one.entity.clone(), one.clone())).collect::<HashMap<_, _>>();
    let asked = ["a", "ção/1", "-7", "nunca", "a"].map(str::to_owned);
    let progress = SyncProgress::default();
    let (_, mut lease, _) = begun(&*store, table("leads")).await;
    assert!(lease.last_appended(&[]).await.expect("it answers").is_empty());
    let page = [one("a", 10, 5), one("ção/1", 20, 1), one("-7", 30, i64::MAX), one("a", 11, 6)];
    lease.checkpoint(&progress, &page).await.expect("it is remembered");
    assert_eq!(
        lease.last_appended(&asked).await.expect("it answers"),
        of(&page[1..]),
        "the last of the page counts"
    );
    // The same content again, as when a row goes back to what it was.
    lease.checkpoint(&progress, &[one("a", 10, 9), one("-7", 30, 3)]).await.expect("it is remembered");
    let expected = of(&[one("a", 10, 9), one("ção/1", 20, 1), one("-7", 30, 3)]);
    assert_eq!(lease.last_appended(&asked).await.expect("it answers"), expected);
    let (_, mut sessions, _) = begun(&*store, table("chat_sessions")).await;
    assert!(sessions.last_appended(&asked).await.expect("it answers").is_empty(), "tables do not mix");
    let elsewhere = NewSync { log: "other".to_owned(), ..new_sync(table("leads")) };
    drop(lease);
    let mut other = begun_with(&*store, elsewhere).await;
    assert!(other.last_appended(&asked).await.expect("it answers").is_empty(), "nor do logs");
}

/// The server sees the end of a session a moment after the client closed it.
async fn begun_with(store: &dyn Store, new: NewSync) -> Box<dyn SyncLease> {
    for _ in 0..100 {
        if let Begun::Started { lease, .. } = store.begin_sync(new.clone()).await.expect("the store answers")
        {
            return lease;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lease is not given back");
}

async fn a_table_that_nobody_here_defines_has_a_lease_too<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let mut new = new_sync(table("leads"));
    new.request.table = TableName("tabela_de_outro".to_owned());
    let lease = begun_with(&*store, new.clone()).await;
    let again = store.begin_sync(NewSync { id: Uuid::now_v7(), ..new.clone() }).await.expect("it answers");
    assert!(matches!(again, Begun::Busy(Some(running)) if running.id == new.id));
    begun(&*store, table("leads")).await;
    assert_eq!(state(&*store, new.id).await, SyncState::Running, "it is not taken for interrupted");
    lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");
}

async fn an_id_that_was_used_before_is_refused_and_the_lease_is_free_again<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let (id, lease, _) = begun(&*store, table("leads")).await;
    lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");
    let again = NewSync { id, ..new_sync(table("leads")) };
    let outcome = store.begin_sync(again).await;
    assert_eq!(outcome.err().map(|fault| fault.kind), Some(FaultKind::Invalid));
    assert_eq!(state(&*store, id).await, SyncState::Succeeded, "the earlier one is left alone");
    begun_soon(&*store, table("leads")).await;
}

async fn a_notice_is_found_by_its_kind_however_many_came_since<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let noticed_at = instant("2026-05-01T00:00:00Z");
    let removed = Notice {
        kind: NoticeKind::RecordsRemoved,
        part: "postgres".to_owned(),
        log: LOG.to_owned(),
        partition: Some(0),
        from: 1,
        to: 5,
        noticed_at,
    };
    store.note(&removed).await.expect("noted");
    for from in 0..200 {
        let cut = Notice { kind: NoticeKind::LogCut, from, noticed_at: Utc::now(), ..removed.clone() };
        store.note(&cut).await.expect("noted");
    }
    let since = DateTime::UNIX_EPOCH;
    assert_eq!(store.notices(since).await.expect("the notices").len(), 200, "people read no more");
    let found = store.every_notice(&[NoticeKind::RecordsRemoved], since).await.expect("the notices");
    assert!(matches!(&found[..], [one] if (one.kind, one.to) == (removed.kind, 5)), "{found:?}");
    assert_eq!(store.every_notice(&NoticeKind::ALL, since).await.expect("the notices").len(), 201);
}

async fn whatever_was_read_is_owed_but_what_was_read_by_conditions_alone<B: StoreBench>() {
    let bench = B::new().await;
    let store = &*bench.open();
    let of = |name: &str| {
        let mut new = new_sync(table("leads"));
        new.request.table = TableName(name.to_owned());
        new
    };
    let ran = async |new: NewSync, end: SyncEnd| {
        begun_with(store, new).await.finish(end).await.expect("it finishes");
    };
    let from = instant("2026-05-01T00:00:00Z");
    let coverage = Some(Coverage { from, to: instant("2026-05-02T00:00:00Z") });
    ran(of("leads"), SyncEnd { coverage, ..ended(SyncState::Succeeded) }).await;
    // Its rows don't tell when they were changed, so nothing is covered.
    ran(of("chat_sessions"), ended(SyncState::Succeeded)).await;
    let mut filtered = of("filtrada");
    filtered.request.conditions = vec![condition(table("leads"), "status", "novo")];
    ran(filtered, ended(SyncState::Succeeded)).await;
    let mut poll = of("perguntada");
    poll.request.since = Some(from);
    ran(poll, ended(SyncState::Succeeded)).await;
    ran(of("proibida"), ended(SyncState::Failed)).await;

    let owed = async || store.owed().await.expect("the debts");
    let told = async || -> Vec<_> { owed().await.into_iter().map(|one| (one.table.0, one.from)).collect() };
    let notice = Notice {
        kind: NoticeKind::RecordsRemoved,
        part: "postgres".to_owned(),
        log: LOG.to_owned(),
        partition: Some(0),
        from: 1,
        to: 5,
        noticed_at: from,
    };
    store.note(&Notice { log: "cluster/outro".to_owned(), ..notice.clone() }).await.expect("noted");
    assert_eq!(told().await, [], "nothing was read into that one");
    store.note(&notice).await.expect("noted");
    let chats = || ("chat_sessions".to_owned(), BEGINNING);
    assert_eq!(told().await, [chats(), ("leads".to_owned(), from)]);

    for owed in owed().await {
        store.settle_owed(&owed).await.expect("settled");
    }
    for (name, id) in [("chat_sessions", "a"), ("filtrada", "a"), ("chat_sessions", "b"), ("filtrada", "b")] {
        let origin = Identity { place: format!("supabase/{name}"), id: id.to_owned() };
        store.meet_source(&TableName(name.to_owned()), &origin).await.expect("met");
    }
    assert_eq!(told().await, [chats()], "it is read from elsewhere");
}
