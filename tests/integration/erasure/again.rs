//! An erasure that could not reach everything is made again, and what refers to the person goes with it.

use std::sync::atomic::{AtomicU8, Ordering};

use sluice::store::SyncRequest;

use super::*;
use crate::support::fake_http::{FakeHttp, Reply};

on_each_adapter! {
    embedded: Embedded, real: Real;
    what_was_never_read_of_whom_refers_to_the_erased_never_comes,
    what_waits_in_the_log_may_refer_to_the_erased_and_is_told,
}

/// What the index refuses.
const NOTHING: u8 = 0;
const EVERYTHING: u8 = 1;
const REMOVING_SESSIONS: u8 = 2;

/// Zuleica and the others, as an engine meets them whose index refuses what a test says.
async fn with_a_refusing_index() -> (Real, Arc<Engine>, Arc<AtomicU8>, FakeHttp) {
    let (mut place, engine) = with_zuleica::<Real>().await;
    engine.shut_down().await;
    drop(engine);
    delete_at_source(&place);
    let refuses = Arc::new(AtomicU8::new(NOTHING));
    let server: url::Url = place.0.variables["ELASTICSEARCH_URL"].parse().expect("a URL");
    let door = FakeHttp::start({
        let refuses = refuses.clone();
        move |_, request| {
            let is_refused = match refuses.load(Ordering::SeqCst) {
                EVERYTHING => true,
                REMOVING_SESSIONS => {
                    request.path.starts_with("/_bulk") && {
                        let lines = request.lines();
                        lines.iter().any(|line| line.contains("delete") && line.contains("chat_sessions-0"))
                    }
                }
                _ => false,
            };
            if is_refused { Reply::Answer(503, "{}") } else { Reply::Forward(server.clone()) }
        }
    })
    .await;
    place.set("ELASTICSEARCH_URL", door.url.as_str());
    let engine = place.engine().await;
    (place, engine, refuses, door)
}

async fn refused(engine: &Engine, request: &ErasureRequest) {
    let report = engine.erasures.erase(request, "a test").await.expect("erased as far as it can be");
    let of_index = report.removed.iter().find(|one| one.place == "elasticsearch").expect("told");
    assert!(!report.complete && of_index.error.is_some(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_the_erased_leaves_an_index_that_did_not_answer_the_first_time() {
    let (place, engine, refuses, _door) = with_a_refusing_index().await;
    refuses.store(EVERYTHING, Ordering::SeqCst);
    refused(&engine, &by_key()).await;
    refuses.store(NOTHING, Ordering::SeqCst);
    let report = erased(&engine, &by_key()).await;
    assert_eq!(report.related, 1, "the store knows nothing of her session any more: {report:?}");
    assert_nothing_of_her(&place, &engine).await;
    assert_eq!(documents(&engine, IndexName::Entities(table("chat_sessions")), None).await.len(), 10);
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_what_referred_to_the_erased_and_was_removed_since_leave_the_index_the_second_time() {
    let (place, engine, refuses, _door) = with_a_refusing_index().await;
    engine.start_drains().await;
    let gone = engine.syncs.reconcile(&table("chat_sessions").into(), Reconciliation::default()).await;
    let gone = finished(&engine, gone.expect("started")).await;
    assert_eq!(gone.reconcile.expect("a report").deleted, 1, "her session is gone at the source");
    refuses.store(EVERYTHING, Ordering::SeqCst);
    refused(&engine, &by_key()).await;
    refuses.store(NOTHING, Ordering::SeqCst);
    erased(&engine, &by_key()).await;
    assert_nothing_of_her(&place, &engine).await;
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_an_address_names_stays_in_the_index_until_what_refers_to_them_is_gone() {
    let (place, engine, refuses, _door) = with_a_refusing_index().await;
    refuses.store(REMOVING_SESSIONS, Ordering::SeqCst);
    refused(&engine, &by_email(EMAIL)).await;
    refuses.store(NOTHING, Ordering::SeqCst);
    // By the address again: nobody need have kept her key.
    let report = erased(&engine, &by_email(EMAIL)).await;
    assert_eq!((report.keys.as_slice(), report.related), ([id(700)].as_slice(), 1), "{report:?}");
    assert_nothing_of_her(&place, &engine).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn what_was_never_read_of_whom_refers_to_the_erased_never_comes<P: Place>() {
    let (place, engine) = with_zuleica::<P>().await;
    let mut unread = session(801, 5, 2);
    unread.insert("lead_id".to_owned(), json!(id(700)));
    place.source().upsert(table("chat_sessions"), vec![unread, session(802, 5, 2)]);
    let report = erased(&engine, &by_key()).await;
    assert_eq!(report.related, 2, "the one that was read and the one that was not: {report:?}");
    let everything = SyncRequest { reappend: true, ..request(table("chat_sessions")) };
    let synced = sync(&engine, everything).await;
    assert_eq!((synced.state, synced.erased, synced.appended), (SyncPhase::Done, 2, 11), "{synced:?}");
    assert_nothing_of_her(&place, &engine).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn what_waits_in_the_log_may_refer_to_the_erased_and_is_told<P: Place>() {
    let (place, engine) = with_zuleica::<P>().await;
    let sinks: Vec<String> = engine.drains.reports().into_iter().map(|report| report.sink).collect();
    for sink in &sinks {
        engine.drains.pause(sink, "a test").await.expect("paused");
    }
    let mut waiting = session(801, 5, 2);
    waiting.insert("lead_id".to_owned(), json!(id(700)));
    place.source().upsert(table("chat_sessions"), vec![waiting]);
    let started = engine.syncs.start(request(table("chat_sessions"))).await.expect("a sync");
    eventually("it is in the log", async || {
        engine.syncs.status(started).await.expect("a status").state == SyncPhase::Draining
    })
    .await;
    // It is nowhere but there.
    let mut rows = place.source().rows(table("chat_sessions"));
    rows.retain(|row| row["id"] != json!(id(801)));
    place.source().set_rows(table("chat_sessions"), rows);
    let report = engine.erasures.erase(&by_key(), "a test").await.expect("erased");
    let of_store = report.removed.first().expect("the store");
    let told = of_store.error.as_deref().unwrap_or_default();
    assert!(!report.complete && told.contains("erase again once it has"), "{report:?}");
    for sink in &sinks {
        engine.drains.resume(sink).await.expect("resumed");
    }
    assert_eq!(finished(&engine, started).await.state, SyncPhase::Done);
    let report = erased(&engine, &by_key()).await;
    assert_eq!(report.related, 2, "the session of before stands at the source: {report:?}");
    let dump = place.dump().await;
    assert!(!dump.contains(&id(801)) && !dump.contains(&id(800)), "nothing of either is left");
    engine.shut_down().await;
    place.clean_up().await;
}
