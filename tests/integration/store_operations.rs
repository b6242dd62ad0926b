//! What every store remembers for operators: one suite, the embedded store and a real server.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use sluice::{
    domain::Table,
    embedded::EmbeddedDb,
    log::Extent,
    sink::Sink,
    store::{
        Operations, Resolution, RunOutcome, ScheduledRun, Settled, Store, postgres::PgStore,
        sqlite::SqliteStore,
    },
};
use uuid::Uuid;

use crate::support::{postgres::TestDatabase, request};

const LOG: &str = "cluster/eventos";
const LEASE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn postgres_keeps_what_operators_ask_for() {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&database.settings()).expect("a store");
    assert!(store.facts().await.is_err(), "nothing was migrated yet");
    store.prepare().await.expect("migrations run");
    keeps_its_promises(&store).await;
    store.close().await;
}

#[tokio::test]
async fn the_embedded_store_keeps_what_operators_ask_for() {
    let folder = std::env::temp_dir().join(format!("sluice-ops-{}", Uuid::new_v4().simple()));
    let db = EmbeddedDb::open(&folder, "a test").expect("a folder");
    let store = SqliteStore::new(db);
    keeps_its_promises(&store).await;
    drop(store);
    std::fs::remove_dir_all(&folder).expect("the folder is removed");
}

async fn keeps_its_promises(store: &dyn Store) {
    pauses(store).await;
    letters(store).await;
    schedules(store).await;
    let facts = store.facts().await.expect("facts");
    assert_eq!((facts.unwritable, facts.pending_migrations), (None, 0));
}

async fn pauses(store: &dyn Store) {
    let first = store.pause("g.postgres", "ana").await.expect("paused");
    let second = store.pause("g.postgres", "bia").await.expect("paused");
    assert_eq!((&second, second.paused_by.as_str()), (&first, "ana"), "the first pause stays");
    assert_eq!(store.pauses().await.expect("pauses"), [first]);
    assert!(store.resume("g.postgres").await.expect("resumed"));
    assert!(!store.resume("g.postgres").await.expect("an answer"));
    assert_eq!(store.pauses().await.expect("pauses"), []);
}

async fn letters(store: &dyn Store) {
    let settled = |offset, letter, settled| Resolution {
        partition: 0,
        offset,
        letter: Uuid::from_u128(letter),
        settled,
        by: "ana".to_owned(),
        at: "2026-05-01T12:00:00Z".parse().expect("an instant"),
    };
    let (replayed, discarded) = (settled(3, 1, Settled::Replayed), settled(5, 2, Settled::Discarded));
    store.settle(LOG, &[replayed.clone(), discarded.clone()]).await.expect("settled");
    store.settle(LOG, &[settled(3, 1, Settled::Discarded)]).await.expect("an answer");
    let extent = |low, high| Extent { partition: 0, low, high };
    assert_eq!(store.settled(LOG, extent(0, 5)).await.expect("letters"), [replayed], "the first word stays");
    assert_eq!(store.settled_count(LOG, &[extent(0, 9)]).await.expect("a count"), 2);
    assert_eq!(store.settled_count(LOG, &[extent(4, 9)]).await.expect("a count"), 1);
    assert_eq!(store.settled_count("other", &[extent(0, 9)]).await.expect("a count"), 0);
    // Another letter at the same place: the topic is a new one.
    let newer = settled(5, 9, Settled::Replayed);
    store.settle(LOG, std::slice::from_ref(&newer)).await.expect("settled");
    assert_eq!(store.settled(LOG, extent(5, 6)).await.expect("letters"), [newer]);
}

async fn schedules(store: &dyn Store) {
    let leads = request(Table::Leads);
    store.put_schedule(&leads, 10, "ana").await.expect("scheduled");
    let claimed = store.claim_schedule("one", LEASE).await.expect("an answer").expect("it is due");
    assert_eq!((&claimed.request, claimed.every_minutes), (&leads, 10));
    assert_eq!(claimed.claimed_by.as_deref(), Some("one"));
    assert!(store.claim_schedule("two", LEASE).await.expect("an answer").is_none(), "it is held");
    assert!(store.renew_schedule(Table::Leads, "one", LEASE).await.expect("renewed"));
    assert!(!store.renew_schedule(Table::Leads, "two", LEASE).await.expect("an answer"));

    let run = ScheduledRun {
        outcome: RunOutcome::Succeeded,
        sync_id: Some(Uuid::from_u128(7)),
        began_at: "2026-05-01T12:00:00Z".parse().expect("an instant"),
        ended_at: "2026-05-01T12:01:00Z".parse().expect("an instant"),
        more: false,
        error: None,
    };
    let next = "2999-01-01T00:00:00Z".parse().expect("an instant");
    store.finish_schedule(&claimed, "two", &run, next).await.expect("an answer");
    assert!(store.schedules().await.expect("schedules")[0].last_run.is_none(), "it is not two's");
    store.finish_schedule(&claimed, "one", &run, next).await.expect("finished");
    let kept = store.schedules().await.expect("schedules").remove(0);
    assert_eq!((&kept.last_run, kept.next_due_at), (&Some(run.clone()), next));
    assert_eq!((kept.claimed_by, kept.last_success_at), (None, Some(run.began_at)));
    assert!(store.claim_schedule("two", LEASE).await.expect("an answer").is_none(), "it is not due");

    // Replaced while it runs: the run that ends does not put the new time off.
    store.put_schedule(&leads, 5, "ana").await.expect("replaced");
    let claimed = store.claim_schedule("one", LEASE).await.expect("an answer").expect("it is due");
    store.put_schedule(&leads, 7, "bia").await.expect("replaced");
    let replaced = store.schedules().await.expect("schedules").remove(0);
    let failed = ScheduledRun { outcome: RunOutcome::Failed, ..run };
    store.finish_schedule(&claimed, "one", &failed, Utc::now() + TimeDelta::days(1)).await.expect("finished");
    let after = store.schedules().await.expect("schedules").remove(0);
    assert_eq!((after.next_due_at, after.every_minutes), (replaced.next_due_at, 7));
    assert!(after.last_success_at.is_some(), "a failure takes no success away");

    // A claim that was left behind.
    let left = store.claim_schedule("one", Duration::ZERO).await.expect("an answer");
    assert!(left.is_some());
    let taken = store.claim_schedule("two", LEASE).await.expect("an answer").expect("nobody holds it");
    assert_eq!(taken.claimed_by.as_deref(), Some("two"));
    assert!(store.remove_schedule(Table::Leads).await.expect("removed"));
    assert!(!store.remove_schedule(Table::Leads).await.expect("an answer"));
}
