//! What every store remembers for operators: one suite, the embedded store and a real server.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use sluice::{
    domain::TableName,
    log::Extent,
    store::{
        Appended, DrainBeat, ParkedEntity, Resolution, RowColumns, RunOutcome, Schedule, ScheduledRun,
        Settled, Store, SyncFilter, SyncProgress, SyncRequest, SyncState,
    },
};
use uuid::Uuid;

use crate::support::{
    request,
    stores::{Embedded, Postgres, StoreBench, apply, begun, catalog, ended, lead},
    table,
};

const LOG: &str = "cluster/eventos";
const LEASE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn postgres_keeps_what_operators_ask_for() {
    let bench = Postgres::empty().await;
    assert!(bench.open().facts().await.expect("facts").is_fresh, "nothing was migrated yet");
    bench.open().prepare().await.expect("migrations run");
    keeps_its_promises(&bench).await;
}

#[tokio::test]
async fn the_embedded_store_keeps_what_operators_ask_for() {
    let bench = Embedded::empty().await;
    let facts = bench.open().facts().await.expect("facts");
    assert_eq!(
        (facts.unfit.is_none(), facts.pending_migrations),
        (true, 2),
        "no table of entities is made yet"
    );
    bench.open().prepare().await.expect("the tables are made");
    keeps_its_promises(&bench).await;
}

async fn keeps_its_promises<B: StoreBench>(bench: &B) {
    let store = &*bench.open();
    pauses(store).await;
    letters(store).await;
    mended(store).await;
    explained(store).await;
    columns(store).await;
    schedules(store).await;
    a_clock_that_was_ahead(bench).await;
    let facts = store.facts().await.expect("facts");
    assert_eq!((facts.unfit.is_none(), facts.pending_migrations), (true, 0));
    let pedidos = "name = 'pedidos'\nabout = 'x'\nentity = 'pedido'\nkey = { column = 'id', type = 'bigint' }\n\
                   event = { categoria = 'c', evento = 'e' }";
    let other = bench.open_with(catalog(&[pedidos])).facts().await.expect("facts");
    assert_eq!(other.pending_migrations, 1, "a table that another process defines is still to be made");
}

/// What it left behind counts for nothing once it is right: a schedule is due, and whoever held it is gone.
async fn a_clock_that_was_ahead<B: StoreBench>(bench: &B) {
    let store = &*bench.open();
    let leads = request(table("leads"));
    store.put_schedule(&leads, Duration::from_secs(1), "ana").await.expect("scheduled");
    bench
        .execute(
            "UPDATE sluice_schedules SET claimed_by = 'gone', next_due_at = '2999-01-01T00:00:00.000000Z',
                 decided_at = '2999-01-01T00:00:00.000000Z', claimed_until = '2999-01-01T00:00:00.000000Z'",
        )
        .await;
    let claimed = store.claim_schedule("one", LEASE).await.expect("an answer").expect("it is due");
    assert!(store.renew_schedule(&claimed, LEASE).await.expect("an answer"));
    assert!(store.remove_schedule(&leads.table).await.expect("removed"));

    let beat = DrainBeat {
        consumer_group: "g".to_owned(),
        owner: "one".to_owned(),
        state: "running".to_owned(),
        failing_since: None,
        last_error: None,
        seen_at: Utc::now(),
    };
    store.report_drains(std::slice::from_ref(&beat)).await.expect("told");
    assert_eq!(store.drain_beats(LEASE).await.expect("an answer").len(), 1);
    bench.execute("UPDATE sluice_drains SET seen_at = '2999-01-01T00:00:00.000000Z'").await;
    assert_eq!(store.drain_beats(LEASE).await.expect("an answer").len(), 0, "it may be long gone");

    let ran = async |state| {
        let (id, lease, _) = begun(store, table("leads")).await;
        lease.finish(ended(state)).await.expect("it finishes");
        id
    };
    let latest = async || {
        let latest = store.latest_syncs(std::slice::from_ref(&leads.table)).await.expect("an answer");
        latest.into_iter().map(|sync| sync.id).collect::<Vec<_>>()
    };
    bench.execute("DELETE FROM sluice_syncs").await;
    let ahead = ran(SyncState::Succeeded).await;
    bench.execute("UPDATE sluice_syncs SET started_at = '2999-01-01T00:00:00.000000Z'").await;
    assert_eq!(latest().await, [ahead], "there is no other");
    let failed = ran(SyncState::Failed).await;
    let mut both = latest().await;
    both.sort_unstable();
    assert_eq!(both, [ahead, failed], "the last that ended, and the only one that succeeded");
    let right = ran(SyncState::Succeeded).await;
    assert_eq!(latest().await, [right]);
    let filter =
        SyncFilter { until: Some(Utc::now() + TimeDelta::minutes(1)), limit: 9, ..SyncFilter::default() };
    let listed = store.syncs(&filter).await.expect("an answer");
    assert_eq!(listed.iter().map(|sync| sync.id).collect::<Vec<_>>(), [right, failed]);
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

async fn mended(store: &dyn Store) {
    let leads = TableName::from(table("leads"));
    let parked = |entity: &str, offset, letter| ParkedEntity {
        sink: None,
        table: leads.clone(),
        entity: entity.to_owned(),
        partition: 1,
        offset,
        letter: Uuid::from_u128(letter),
    };
    let settled = async || {
        let found = store.settled(LOG, Extent { partition: 1, low: 0, high: 99 }).await.expect("letters");
        let mut found: Vec<_> = found.iter().map(|one| (one.offset, one.settled, one.by.clone())).collect();
        found.sort_by_key(|one| one.0);
        found
    };
    let entities = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    assert_eq!(store.settle_mended(LOG, &leads, &entities(&["a"])).await.expect("none"), 0);
    store
        .note_parked(
            LOG,
            &[parked("a", 10, 20), parked("a", 11, 21), parked("b", 12, 22), parked("c", 13, 23)],
        )
        .await
        .expect("noted");
    store.note_parked(LOG, &[parked("a", 10, 20)]).await.expect("noted again");
    let discarded = Resolution {
        partition: 1,
        offset: 11,
        letter: Uuid::from_u128(21),
        settled: Settled::Discarded,
        by: "ana".to_owned(),
        at: "2026-05-01T12:00:00Z".parse().expect("an instant"),
    };
    store.settle(LOG, &[discarded]).await.expect("settled");
    let sessions = TableName::from(table("chat_sessions"));
    assert_eq!(store.settle_mended(LOG, &sessions, &entities(&["a", "b"])).await.expect("none"), 0);
    assert_eq!(store.settle_mended("other", &leads, &entities(&["a", "b"])).await.expect("none"), 0);
    let mended = entities(&["a", "b", "d", "a"]);
    assert_eq!(store.settle_mended(LOG, &leads, &mended).await.expect("settled"), 2);
    let sluice = "sluice".to_owned();
    assert_eq!(
        settled().await,
        [
            (10, Settled::Mended, sluice.clone()),
            (11, Settled::Discarded, "ana".to_owned()),
            (12, Settled::Mended, sluice.clone())
        ],
        "c is still broken, and the first word stays"
    );
    assert_eq!(store.settle_mended(LOG, &leads, &mended).await.expect("none"), 0, "once");
    // A letter of a new topic at a settled place.
    store.note_parked(LOG, &[parked("a", 12, 99)]).await.expect("noted");
    assert_eq!(store.settle_mended(LOG, &leads, &mended).await.expect("settled"), 1);
}

/// What each of two sinks may lack since a letter explains it.
async fn explained(store: &dyn Store) {
    const LETTERS: &str = "cluster/eventos.dlq";
    let leads = table("leads");
    let parked = |entity: &str, sink: Option<&str>, offset| ParkedEntity {
        sink: sink.map(str::to_owned),
        table: leads.into(),
        entity: entity.to_owned(),
        partition: 0,
        offset,
        letter: Uuid::from_u128(u128::try_from(offset).expect("an offset")),
    };
    let letters = [
        parked("first", Some("one"), 1),
        parked("second", Some("two"), 2),
        parked("third", Some("two"), 3),
        parked("unmade", None, 4),
        parked("made since", None, 5),
    ];
    store.note_parked(LETTERS, &letters).await.expect("noted");
    let (_, mut lease, _) = begun(store, leads).await;
    let appended = |entity: &str, event| Appended {
        entity: entity.to_owned(),
        event: Uuid::from_u128(event),
        versao: 7,
        removed: false,
    };
    let appended = [appended("unmade", 4), appended("made since", 99)];
    lease.checkpoint(&SyncProgress::default(), &appended).await.expect("remembered");
    lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");

    let explained = async || {
        let tally = store.tally(LOG, LETTERS, leads, ["one", "two"], Utc::now()).await.expect("a tally");
        (tally.parked, tally.refused, tally.explained)
    };
    assert_eq!(explained().await, (5, 3, [2, 3]));
    let settle = async |offset, settled| {
        let resolution = Resolution {
            partition: 0,
            offset,
            letter: Uuid::from_u128(u128::try_from(offset).expect("an offset")),
            settled,
            by: "ana".to_owned(),
            at: Utc::now(),
        };
        store.settle(LETTERS, &[resolution]).await.expect("settled");
    };
    settle(2, Settled::Discarded).await;
    settle(4, Settled::Discarded).await;
    assert_eq!(explained().await, (3, 2, [2, 2]), "no event was made of that row");

    let held = lead(1, 0, "Ana");
    let newer = [parked(&held.entidade.id, Some("one"), 6), parked(&held.entidade.id, Some("two"), 7)];
    apply(store, vec![held]).await;
    store.note_parked(LETTERS, &newer).await.expect("noted");
    let told = "the store has an older version of it, and knows; whether the index has one it does not";
    assert_eq!(explained().await, (4, 3, [2, 3]), "{told}");
}

async fn columns(store: &dyn Store) {
    let leads = TableName::from(table("leads"));
    assert_eq!(store.known_columns(&leads).await.expect("it answers"), None);
    for columns in [vec!["id".to_owned(), "Número \"x\"".to_owned()], vec!["id".to_owned()]] {
        store.remember_columns(&leads, &columns).await.expect("remembered");
        assert_eq!(store.known_columns(&leads).await.expect("it answers"), Some(columns));
    }
    assert_eq!(store.known_columns(&TableName("outra".to_owned())).await.expect("it answers"), None);

    let read = async |project| store.row_columns(&leads, project).await.expect("it answers");
    assert_eq!(read("a").await, RowColumns::default());
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let number = "Número \"x\"";
    let had = RowColumns { now: names(&["id", number]), ..RowColumns::default() };
    let gone = [(number.to_owned(), had.now.clone())].into();
    for columns in [had, RowColumns { now: names(&["id"]), gone }] {
        store.remember_row_columns(&leads, "a", &columns).await.expect("remembered");
        assert_eq!(read("a").await, columns);
    }
    assert_eq!(read("b").await, RowColumns::default(), "another project may never have had them");
}

async fn schedules(store: &dyn Store) {
    let leads = request(table("leads"));
    let name = leads.table.clone();
    let foreign = SyncRequest { table: TableName("pedidos".to_owned()), ..leads.clone() };
    store.put_schedule(&foreign, Duration::from_mins(10), "ana").await.expect("scheduled");
    let claimed = store.claim_schedule("one", LEASE).await.expect("an answer");
    assert!(claimed.is_none(), "it is left to a process that has the table's definition");
    assert!(store.remove_schedule(&foreign.table).await.expect("removed"));

    store.put_schedule(&leads, Duration::from_mins(10), "ana").await.expect("scheduled");
    let claimed = store.claim_schedule("one", LEASE).await.expect("an answer").expect("it is due");
    assert_eq!((&claimed.request, claimed.every), (&leads, Duration::from_mins(10)));
    assert_eq!(claimed.claimed_by.as_deref(), Some("one"));
    assert!(store.claim_schedule("two", LEASE).await.expect("an answer").is_none(), "it is held");
    assert!(store.renew_schedule(&claimed, LEASE).await.expect("renewed"));
    let of_another = Schedule { claim: Some(Uuid::from_u128(1)), ..claimed.clone() };
    assert!(!store.renew_schedule(&of_another, LEASE).await.expect("an answer"));

    let run = ScheduledRun {
        outcome: RunOutcome::Succeeded,
        sync_id: Some(Uuid::from_u128(7)),
        began_at: "2026-05-01T12:00:00Z".parse().expect("an instant"),
        ended_at: "2026-05-01T12:01:00Z".parse().expect("an instant"),
        more: false,
        error: None,
    };
    let (next, now) = (Duration::from_hours(24), Utc::now());
    assert!(!store.finish_schedule(&of_another, &run, next).await.expect("an answer"));
    assert!(store.schedules().await.expect("schedules")[0].last_run.is_none(), "it is not two's");
    assert!(store.finish_schedule(&claimed, &run, next).await.expect("finished"));
    let kept = store.schedules().await.expect("schedules").remove(0);
    assert_eq!(kept.last_run, Some(run.clone()));
    assert!(
        (kept.next_due_at - now - TimeDelta::days(1)).abs() < TimeDelta::minutes(5),
        "{}",
        kept.next_due_at
    );
    assert_eq!((kept.claimed_by, kept.last_success_at), (None, Some(run.began_at)));
    assert!(store.claim_schedule("two", LEASE).await.expect("an answer").is_none(), "it is not due");

    // Replaced while it runs: the claim is gone, also for the process that holds the next one.
    store.put_schedule(&leads, Duration::from_millis(250), "ana").await.expect("replaced");
    let claimed = store.claim_schedule("one", LEASE).await.expect("an answer").expect("it is due");
    store.put_schedule(&leads, Duration::from_secs(7), "bia").await.expect("replaced");
    let replaced = store.schedules().await.expect("schedules").remove(0);
    let again = store.claim_schedule("one", LEASE).await.expect("an answer").expect("it is due");
    assert!(!store.renew_schedule(&claimed, LEASE).await.expect("an answer"), "it was replaced");
    let failed = ScheduledRun { outcome: RunOutcome::Failed, ..run.clone() };
    store.finish_schedule(&claimed, &failed, next).await.expect("finished");
    let after = store.schedules().await.expect("schedules").remove(0);
    assert_eq!((after.next_due_at, after.every), (replaced.next_due_at, Duration::from_secs(7)));
    assert_eq!((after.claim, after.last_run), (again.claim, Some(run)), "the new claim holds");
    store.finish_schedule(&again, &failed, Duration::ZERO).await.expect("finished");
    let after = store.schedules().await.expect("schedules").remove(0);
    assert_eq!(after.last_run, Some(failed.clone()));
    assert!(after.last_success_at.is_some(), "a failure takes no success away");

    // A claim that was left behind.
    let left = store.claim_schedule("one", Duration::ZERO).await.expect("an answer");
    // A clock that is ahead takes it for lapsed at once: it is held all the same until somebody else takes it.
    let left = left.expect("it is due");
    assert!(left.claim.is_some() && left.late >= TimeDelta::zero(), "{left:?}");
    assert!(store.renew_schedule(&left, Duration::ZERO).await.expect("an answer"));
    assert!(store.finish_schedule(&left, &failed, Duration::ZERO).await.expect("finished"));
    store.claim_schedule("one", Duration::ZERO).await.expect("an answer").expect("it is due");
    let taken = store.claim_schedule("two", LEASE).await.expect("an answer").expect("nobody holds it");
    assert_eq!(taken.claimed_by.as_deref(), Some("two"));
    assert!(store.remove_schedule(&name).await.expect("removed"));
    assert!(!store.remove_schedule(&name).await.expect("an answer"));
}
