//! Syncs, their leases and what they remember.

use std::{collections::HashSet, time::Duration};

use sluice::{
    domain::Table,
    fault::FaultKind,
    log::Position,
    store::{
        Appended, Begun, Control, Coverage, NewSync, Store, SyncEnd, SyncLease, SyncProgress, SyncRequest,
        SyncState, postgres::PgStore,
    },
};
use uuid::Uuid;

use super::{LOG, instant, migrated};
use crate::support::postgres::TestDatabase;

fn new_sync(table: Table) -> NewSync {
    let request =
        SyncRequest { table, hours_ago: 24, limit: 100, status: None, min_messages: None, full: false };
    NewSync { id: Uuid::now_v7(), request, log: LOG.to_owned(), owner: "host/1".to_owned() }
}

async fn begun(store: &PgStore, table: Table) -> (Uuid, Box<dyn SyncLease>, Option<Coverage>) {
    let new = new_sync(table);
    let id = new.id;
    match store.begin_sync(new).await.expect("the store answers") {
        Begun::Started { lease, coverage } => (id, lease, coverage),
        Begun::Busy(record) => panic!("busy: {record:?}"),
    }
}

/// The server sees the end of a session a moment after the client closed it.
async fn begun_soon(store: &PgStore, table: Table) -> (Uuid, Box<dyn SyncLease>) {
    for _ in 0..100 {
        let new = new_sync(table);
        let id = new.id;
        if let Begun::Started { lease, .. } = store.begin_sync(new).await.expect("the store answers") {
            return (id, lease);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lease is not given back");
}

async fn end_sessions(database: &TestDatabase, name: &str) {
    database
        .execute(&format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = '{name}'"
        ))
        .await;
}

fn ended(state: SyncState) -> SyncEnd {
    SyncEnd { state, progress: SyncProgress::default(), error: None, coverage: None }
}

async fn state(store: &PgStore, id: Uuid) -> SyncState {
    store.sync(id).await.expect("the store answers").expect("the sync is known").state
}

#[tokio::test]
async fn one_sync_of_a_table_runs_at_a_time_and_the_second_is_told_who() {
    let (database, store) = migrated().await;
    let other = PgStore::connect(&database.settings()).expect("a store");
    let (id, lease, _) = begun(&store, Table::Leads).await;
    let Begun::Busy(Some(running)) = other.begin_sync(new_sync(Table::Leads)).await.expect("it answers")
    else {
        panic!("two syncs of one table");
    };
    assert_eq!((running.id, running.owner.as_str(), running.state), (id, "host/1", SyncState::Running));
    begun(&other, Table::ChatSessions).await;

    lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");
    assert_eq!(state(&other, id).await, SyncState::Succeeded);
    begun(&other, Table::Leads).await;
}

#[tokio::test]
async fn many_that_ask_at_once_get_one_lease() {
    let (database, store) = migrated().await;
    let stores: Vec<PgStore> =
        (0..8).map(|_| PgStore::connect(&database.settings()).expect("a store")).collect();
    let outcomes =
        futures::future::join_all(stores.iter().map(|s| s.begin_sync(new_sync(Table::Leads)))).await;
    let started = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Begun::Started { .. }))).count();
    assert_eq!(started, 1);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(
        store.recent_syncs(10).await.expect("it answers").len(),
        1,
        "only a sync that runs is remembered"
    );
}

#[tokio::test]
async fn a_sync_remembers_its_progress_and_its_end() {
    let (_database, store) = migrated().await;
    let (id, mut lease, _) = begun(&store, Table::Leads).await;
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
    assert_eq!(store.sync(Uuid::now_v7()).await.expect("it answers"), None);
}

#[tokio::test]
async fn a_dropped_lease_is_free_and_its_sync_interrupted() {
    let (_database, store) = migrated().await;
    let (first, lease, _) = begun(&store, Table::Leads).await;
    drop(lease);
    let (second, _lease) = begun_soon(&store, Table::Leads).await;
    let record = store.sync(first).await.expect("it answers").expect("it is known");
    assert_eq!(record.state, SyncState::Interrupted);
    assert!(record.error.is_some() && record.finished_at.is_some());
    assert_eq!(state(&store, second).await, SyncState::Running);
}

#[tokio::test]
async fn a_lease_whose_session_ended_says_so_and_can_write_nothing() {
    let (database, store) = migrated().await;
    let (first, mut lease, _) = begun(&store, Table::Leads).await;
    end_sessions(&database, "sluice sync leads").await;
    assert_eq!(state(&store, first).await, SyncState::Interrupted, "seen although nobody began another");

    let (second, _held, _) = begun(&store, Table::Leads).await;
    let fault = lease.checkpoint(&SyncProgress::default(), &[]).await.expect_err("the lease is lost");
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(fault.message.contains("the lease is lost"), "{fault}");
    lease.finish(ended(SyncState::Succeeded)).await.expect_err("the lease is lost");
    assert_eq!(state(&store, first).await, SyncState::Interrupted);
    assert_eq!(state(&store, second).await, SyncState::Running);
}

#[tokio::test]
async fn a_running_sync_of_a_live_process_is_never_taken_for_interrupted() {
    let (database, store) = migrated().await;
    let other = PgStore::connect(&database.settings()).expect("a store");
    let watch = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..150 {
            seen.extend(other.recent_syncs(50).await.expect("it answers").into_iter().map(|r| r.state));
        }
        seen
    });
    while !watch.is_finished() {
        let (_, lease) = begun_soon(&store, Table::ChatSessions).await;
        lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");
    }
    let seen = watch.await.expect("the watcher ends");
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|state| *state != SyncState::Interrupted), "{seen:?}");
}

#[tokio::test]
async fn a_cancel_reaches_the_sync_at_its_next_checkpoint() {
    let (database, store) = migrated().await;
    let (id, mut lease, _) = begun(&store, Table::Leads).await;
    let progress = SyncProgress::default();
    assert_eq!(lease.checkpoint(&progress, &[]).await.expect("it answers"), Control::GoOn);
    let other = PgStore::connect(&database.settings()).expect("a store");
    assert!(other.request_cancel(id).await.expect("it answers"));
    assert_eq!(lease.checkpoint(&progress, &[]).await.expect("it answers"), Control::Cancel);
    lease.finish(ended(SyncState::Cancelled)).await.expect("it finishes");
    assert!(!other.request_cancel(id).await.expect("it answers"), "it runs no more");
    assert!(!other.request_cancel(Uuid::now_v7()).await.expect("it answers"), "it never ran");
}

#[tokio::test]
async fn coverage_is_what_the_last_sync_left_for_each_table_and_log() {
    let (_database, store) = migrated().await;
    assert_eq!(store.coverage(Table::Leads, LOG).await.expect("it answers"), None);
    let covered =
        Coverage { from: instant("2026-05-01T00:00:00Z"), to: instant("2026-05-02T00:00:00.000001Z") };
    let (_, lease, before) = begun(&store, Table::Leads).await;
    assert_eq!(before, None);
    let end = SyncEnd { coverage: Some(covered), ..ended(SyncState::Succeeded) };
    lease.finish(end).await.expect("it finishes");

    let (_, lease) = begun_soon(&store, Table::Leads).await;
    lease.finish(ended(SyncState::Failed)).await.expect("it finishes");
    assert_eq!(store.coverage(Table::Leads, LOG).await.expect("it answers"), Some(covered), "untouched");
    assert_eq!(store.coverage(Table::ChatSessions, LOG).await.expect("it answers"), None);
    assert_eq!(store.coverage(Table::Leads, "other").await.expect("it answers"), None);
    let (_, _lease, again) = begun(&store, Table::Leads).await;
    assert_eq!(again, Some(covered));
}

#[tokio::test]
async fn only_an_entity_s_newest_appended_content_counts_as_unchanged() {
    let (_database, store) = migrated().await;
    let pair = |entity, event| Appended { entity: Uuid::from_u128(entity), event: Uuid::from_u128(event) };
    let progress = SyncProgress::default();
    let (_, mut lease, _) = begun(&store, Table::Leads).await;
    lease.checkpoint(&progress, &[pair(1, 10), pair(2, 20), pair(1, 11)]).await.expect("it is remembered");
    let asked = [pair(1, 10), pair(1, 11), pair(2, 20), pair(3, 30)];
    let unchanged = lease.unchanged(&asked).await.expect("it answers");
    assert_eq!(unchanged, HashSet::from([pair(1, 11), pair(2, 20)]));
    lease.checkpoint(&progress, &[pair(2, 21)]).await.expect("it is remembered");
    assert_eq!(lease.unchanged(&asked).await.expect("it answers"), HashSet::from([pair(1, 11)]));
    let (_, mut sessions, _) = begun(&store, Table::ChatSessions).await;
    assert!(sessions.unchanged(&asked).await.expect("it answers").is_empty(), "tables do not mix");
}
