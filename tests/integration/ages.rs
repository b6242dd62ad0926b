//! What is removed for its age besides events: letters that were settled, and records of the embedded log.

use serde_json::json;
use sluice::{
    engine::{Engine, LetterFilter, RebuildPhase, Selection, SyncPhase, event_record},
    index::IndexName,
    log::{Extent, Position, Topic, records_in},
    parts::Parts,
};
use uuid::Uuid;

use crate::support::{
    eventually, on_each_adapter,
    place::{Embedded, Place, Real, documents, value},
    request,
    rows::{lead, leads, minutes_ago, object},
    stores, sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    letters_that_were_settled_go_and_an_open_one_stays_and_is_told_of,
}

const LONG_AGO: &str = "UPDATE sluice_resolved_letters SET resolved_at = '2020-01-01T00:00:00.000000Z'";

/// What the last pass did is not known any more, so that the next one comes at once.
const DUE: &str = "DELETE FROM sluice_housekeeping";

async fn letters(engine: &Engine) -> Vec<i64> {
    let page = engine.letters.page(&LetterFilter::default(), None, 100).await.expect("letters");
    let mut offsets: Vec<i64> = page.letters.iter().map(|letter| letter.record.offset).collect();
    offsets.sort_unstable();
    offsets
}

async fn discard(engine: &Engine, offsets: &[i64]) {
    let these = offsets.iter().map(|&offset| Position { partition: 0, offset }).collect();
    let outcome = engine.letters.discard(&Selection::These(these), "ana").await.expect("discarded");
    assert_eq!(outcome.settled.len(), offsets.len(), "{outcome:?}");
}

async fn letters_that_were_settled_go_and_an_open_one_stays_and_is_told_of<P: Place>() {
    let mut place = P::new().await;
    place.set("SLUICE_LETTERS_RETENTION_DAYS", "30");
    let nameless = |n| object(json!({"nome": format!("sem id {n}"), "updated_at": minutes_ago(4)}));
    place.source().set_rows(table("leads"), (0..5).map(nameless).collect());
    let engine = place.engine().await;
    engine.prepare().await.expect("prepared");
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    assert_eq!(letters(&engine).await, [0, 1, 2, 3, 4]);
    discard(&engine, &[0, 1, 3]).await;
    place.execute(LONG_AGO).await;
    discard(&engine, &[2]).await;
    engine.housekeeping.start();
    eventually("what was settled long ago is gone", async || letters(&engine).await == [2, 3, 4]).await;
    assert_eq!(engine.letters.open_count().await.expect("a count"), 1);
    let status = engine.inspection.status().await;
    assert!(status.oldest_dead_letter_at.is_some(), "{status:?}");
    let told = |text: &str| status.warnings.iter().any(|warning| warning.problem.contains(text));
    assert!(told("1 dead letters wait") && told(", the oldest since "), "{:?}", status.warnings);
    let findings = engine.doctor.examine().await;
    let oldest = findings.iter().find(|finding| finding.check == "oldest dead letter").expect("a finding");
    assert!(oldest.detail.starts_with("0-4 waits since "), "{oldest:?}");

    // Once the open one is settled, too, nothing is left, and no place is given a second time.
    discard(&engine, &[4]).await;
    place.execute(LONG_AGO).await;
    place.execute(DUE).await;
    engine.shut_down().await;
    drop(engine);
    let engine = place.engine().await;
    engine.start_drains().await;
    engine.housekeeping.start();
    eventually("all are gone", async || letters(&engine).await.is_empty()).await;
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0);
    assert_eq!(engine.inspection.status().await.oldest_dead_letter_at, None);
    place.source().set_rows(table("leads"), vec![nameless(9)]);
    sync(&engine, request(table("leads"))).await;
    assert_eq!(letters(&engine).await, [5]);
    assert_eq!(engine.letters.open_count().await.expect("a count"), 1, "a new letter is open");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn extents(place: &Embedded) -> Vec<Extent> {
    let parts = Parts::open(&place.settings()).expect("the parts open");
    parts.log.extents().await.expect("extents")
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_the_embedded_log_go_once_both_sinks_have_them_and_nothing_else_changes() {
    let mut place = Embedded::new().await;
    place.set("SLUICE_EMBEDDED_LOG_RETENTION_DAYS", "1");
    place.source().set_rows(table("leads"), leads(40));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 40);
    engine.shut_down().await;
    drop(engine);
    let parts = Parts::open(&place.settings()).expect("the parts open");
    let records = (101..=110).map(|id| event_record(&stores::lead(id, 1, "mais"), Uuid::now_v7())).collect();
    parts.log.append(Topic::Events, records).await.expect("appended");
    drop(parts);
    place.execute("UPDATE log_records SET appended_at = 0 WHERE topic = 0").await;

    let engine = place.engine().await;
    engine.housekeeping.start();
    eventually("what both have is gone", async || records_in(&extents(&place).await) == 10).await;
    let findings = engine.doctor.examine().await;
    let finding = |check: &str| {
        let found = findings.iter().find(|finding| finding.check == check);
        found.unwrap_or_else(|| panic!("no {check} in {findings:?}")).detail.clone()
    };
    assert!(finding("old records").starts_with("10 records are older than 1 days and stay"));
    assert!(finding("retention").starts_with("records are kept for 1 days, and until"));
    engine.start_drains().await;
    eventually("they are applied", async || {
        engine.drains.lag().await.is_ok_and(|lag| lag.iter().all(|lag| lag.total == 0))
    })
    .await;
    place.execute(DUE).await;
    engine.shut_down().await;
    drop(engine);

    let engine = place.engine().await;
    engine.housekeeping.start();
    eventually("these are gone, too", async || records_in(&extents(&place).await) == 0).await;
    let ends: i64 = extents(&place).await.iter().map(|extent| extent.high).sum();
    assert_eq!(ends, 50, "every offset stays what it was");
    engine.start_drains().await;
    place.source().upsert(table("leads"), vec![lead(900, 0)]);
    let next = sync(&engine, request(table("leads"))).await;
    assert_eq!((next.state, next.appended), (SyncPhase::Done, 1), "{next:?}");
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, 51);
    let leads = IndexName::Entities(table("leads"));
    engine.rebuilds.begin(&[leads]).await.expect("a rebuild");
    let rebuilt = engine.rebuilds.wait_for(&[leads], std::time::Duration::from_mins(1)).await;
    assert!(rebuilt.iter().all(|rebuild| rebuild.phase == RebuildPhase::Done), "{rebuilt:?}");
    assert_eq!(documents(&engine, leads, None).await.len(), 51);
    assert!(engine.notices().await.expect("notices").is_empty(), "nothing was lost");
    engine.shut_down().await;
}
