//! What is written to is replaced under the same name: recognized, told, and made up for from what is still there.

use sluice::{
    engine::{Engine, SyncPhase},
    store::NoticeKind,
};

use crate::support::{
    Pipeline, eventually, request,
    rows::{delete_topics_for_good, leads},
    sync, table,
};

async fn lag_is_none(engine: &Engine) -> bool {
    engine.lag().await.is_ok_and(|lag| lag.iter().all(|lag| lag.total == 0))
}

async fn noticed(engine: &Engine, kind: NoticeKind) -> bool {
    let status = engine.status().await;
    status.notices.iter().any(|notice| notice.kind == kind && status.warnings.contains(&notice.sentence()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_while_nothing_runs_is_filled_from_the_source_and_read_from_its_beginning() {
    let pipeline = Pipeline::new().await;
    let topic = &pipeline.variables["KAFKA_TOPIC"];
    let rows = leads(250);
    pipeline.source.set_rows(table("leads"), rows[..150].to_vec());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 150);
    engine.shut_down().await;
    drop(engine);

    delete_topics_for_good(&[topic]).await;
    pipeline.source.set_rows(table("leads"), rows);
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    let again = sync(&engine, request(table("leads"))).await;
    assert_eq!((again.state, again.appended), (SyncPhase::Done, 250), "{again:?}");
    pipeline.assert_events_in_full(250).await;
    assert!(lag_is_none(&engine).await);
    assert!(noticed(&engine, NoticeKind::LogReplaced).await, "{:?}", engine.status().await.warnings);
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_live_drains_loses_none_of_its_first_records() {
    let pipeline = Pipeline::new().await;
    let topic = &pipeline.variables["KAFKA_TOPIC"];
    let rows = leads(250);
    pipeline.source.set_rows(table("leads"), rows[..150].to_vec());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    delete_topics_for_good(&[topic]).await;
    // Another process makes it anew and appends, before the drains of this one may have noticed anything.
    let other = pipeline.engine().await;
    other.prepare().await.expect("the topic is there again");
    pipeline.source.set_rows(table("leads"), rows);
    let id = other.start_sync(request(table("leads"))).await.expect("a sync");
    eventually("both sinks have all of it", async || {
        other.sync_status(id).await.expect("a status").state == SyncPhase::Done
    })
    .await;
    pipeline.assert_events_in_full(250).await;
    assert!(noticed(&engine, NoticeKind::LogReplaced).await, "{:?}", engine.status().await.warnings);
    engine.shut_down().await;
    other.shut_down().await;
    pipeline.clean_up().await;
}
