//! The topic: made anew, cut, grown, with holes.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use sluice::{
    domain::{Catalog, Event, Json, ManualEvent},
    engine::{RebuildPhase, SyncPhase},
    index::IndexName,
    store::{NoticeKind, SyncFilter},
};

use super::{after_its_own, healed, told};
use crate::support::{
    Pipeline, eventually, finished, request,
    rows::{config, delete_topics_for_good, leads},
    sync, table,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_while_nothing_runs_is_filled_from_the_source_and_read_from_its_beginning() {
    let pipeline = Pipeline::new().await;
    let topic = &pipeline.variables["KAFKA_TOPIC"];
    let rows = leads(250);
    pipeline.source.set_rows(table("leads"), rows[..150].to_vec());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    let waited_for = sync(&engine, request(table("leads"))).await;
    assert_eq!(waited_for.appended, 150);
    let left_alone = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("that both are in every sink is remembered", async || {
        pipeline.number("SELECT count(*) FROM sluice_syncs WHERE drained").await == 2
    })
    .await;
    engine.shut_down().await;
    drop(engine);

    delete_topics_for_good(&[topic]).await;
    pipeline.source.set_rows(table("leads"), rows);
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    healed(&pipeline, &engine, 250).await;
    told(&engine, NoticeKind::LogReplaced).await;
    let filter = SyncFilter { limit: 100, ..SyncFilter::default() };
    let (listed, _) = engine.syncs.list(filter).await.expect("syncs");
    let recent = engine.inspection.status().await.recent_syncs;
    for id in [waited_for.sync_id, left_alone] {
        let told = listed.iter().find(|sync| sync.sync_id == id).expect("it is listed");
        assert_eq!((told.state, &told.error), (SyncPhase::Done, &None), "what was done stays done");
        let told = recent.iter().find(|sync| sync.sync_id == id).expect("it is recent");
        assert_eq!(told.state, SyncPhase::Done, "{told:?}");
    }
    let again = after_its_own(&engine, async || engine.syncs.start(request(table("leads"))).await).await;
    assert_eq!((again.state, again.appended), (SyncPhase::Done, 0), "{again:?}");
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
    let before = sync(&engine, request(table("leads"))).await;

    delete_topics_for_good(&[topic]).await;
    pipeline.source.set_rows(table("leads"), rows);
    // Another process makes it anew, before the drains of this one may have noticed anything.
    let other = pipeline.engine().await;
    other.prepare().await.expect("the topic is there again");
    healed(&pipeline, &engine, 250).await;
    told(&engine, NoticeKind::LogReplaced).await;
    let status = engine.syncs.status(before.sync_id).await.expect("a status");
    assert!(status.is_final(), "a sync into the old topic is over: {status:?}");
    engine.shut_down().await;
    other.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_removed_before_a_sink_had_them_are_told_end_the_sync_and_come_again_from_the_source() {
    let pipeline = Pipeline::new().await;
    let rows = leads(150);
    pipeline.source.set_rows(table("leads"), rows[..50].to_vec());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    engine.shut_down().await;
    drop(engine);

    pipeline.source.set_rows(table("leads"), rows);
    let appending = pipeline.engine().await;
    let id = appending.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("all is appended", async || {
        appending.syncs.status(id).await.expect("a status").state == SyncPhase::Draining
    })
    .await;
    remove_everything(&pipeline.variables["KAFKA_TOPIC"], 3).await;
    let problems = appending.inspection.status().await.problems;
    let is_told = |part: &str| {
        let about = format!("removed from the log before {part}");
        problems.iter().any(|problem| problem.to_string().contains(&about))
    };
    assert!(is_told("postgres") && is_told("elasticsearch"), "before any drain is there: {problems:?}");

    let engine = pipeline.engine().await;
    engine.start_drains().await;
    let lost = finished(&engine, id).await;
    assert_eq!(lost.state, SyncPhase::Failed, "{lost:?}");
    assert!(lost.error.is_some_and(|error| error.contains("removed from the log")));
    healed(&pipeline, &engine, 150).await;
    told(&engine, NoticeKind::RecordsRemoved).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

/// As retention would, all at once.
pub(super) async fn remove_everything(topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::End).expect("listed");
    }
    admin.delete_records(&all, &AdminOptions::new()).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_beyond_the_logs_end_is_told_and_the_log_read_from_its_beginning() {
    let pipeline = Pipeline::new().await;
    let rows = leads(90);
    pipeline.source.set_rows(table("leads"), rows[..60].to_vec());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    engine.shut_down().await;
    drop(engine);
    pipeline.execute("UPDATE sluice_offsets SET next_offset = next_offset + 1000").await;

    pipeline.source.set_rows(table("leads"), rows);
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    let read = after_its_own(&engine, async || engine.syncs.start(request(table("leads"))).await).await;
    assert_eq!(read.state, SyncPhase::Done);
    healed(&pipeline, &engine, 90).await;
    told(&engine, NoticeKind::LogCut).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_transactions_and_aborted_records_are_no_lag_and_no_rebuild_waits_for_them() {
    let pipeline = Pipeline::new().await;
    let topic = &pipeline.variables["KAFKA_TOPIC"];
    pipeline.source.set_rows(table("leads"), leads(30));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    let manual = ManualEvent {
        id: None,
        usuario: "ana".to_owned(),
        evento: "teste".to_owned(),
        valor: 1.0,
        metadata: Json::empty_object(),
    };
    let event = Event::manual(manual, chrono::Utc::now()).encode();
    let (topic_name, payload) = (topic.clone(), event.to_vec());
    tokio::task::spawn_blocking(move || transactions(&topic_name, &payload)).await.expect("produced");

    eventually("nothing is left to apply", async || {
        let lag = engine.drains.lag().await.expect("the lag");
        lag.iter().all(|lag| lag.total == 0)
            && pipeline.number("SELECT count(*) FROM eventos_raw").await == 31
    })
    .await;
    let all: Vec<IndexName> = IndexName::all(Catalog::built_in()).collect();
    engine.rebuilds.begin(&all).await.expect("a rebuild");
    let rebuilt = engine.rebuilds.wait_for(&all, Duration::from_mins(1)).await;
    assert!(rebuilt.iter().all(|rebuild| rebuild.phase == RebuildPhase::Done), "{rebuilt:?}");
    assert_eq!(
        (pipeline.hits("leads", "*").await, engine.inspection.status().await.dead_letters),
        (30, Some(0))
    );
    engine.shut_down().await;
    pipeline.clean_up().await;
}

/// One that is committed, and one that is aborted in every partition.
fn transactions(topic: &str, event: &[u8]) {
    let mut config = config();
    config.set("transactional.id", topic);
    let producer: BaseProducer = config.create().expect("a producer");
    let long = Duration::from_secs(30);
    producer.init_transactions(long).expect("transactions");
    producer.begin_transaction().expect("begun");
    producer.send(BaseRecord::to(topic).key("a").payload(event)).map_err(|(error, _)| error).expect("sent");
    producer.commit_transaction(long).expect("committed");
    producer.begin_transaction().expect("begun");
    for partition in 0..3 {
        let record = BaseRecord::<str, str>::to(topic).partition(partition).key("b").payload("nunca");
        producer.send(record).map_err(|(error, _)| error).expect("sent");
    }
    producer.flush(long).expect("sent");
    producer.abort_transaction(long).expect("aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_under_live_drains_are_drained_within_seconds() {
    let pipeline = Pipeline::new().await;
    let rows = leads(2_000);
    pipeline.source.set_rows(table("leads"), rows[..50].to_vec());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
    let more = NewPartitions::new(&pipeline.variables["KAFKA_TOPIC"], 6);
    admin.create_partitions([&more], &AdminOptions::new()).await.expect("an answer");
    let added = tokio::time::Instant::now();
    eventually("the new ones are drained", async || {
        engine.drains.reports().iter().all(|report| report.partitions.len() == 6)
    })
    .await;
    assert!(added.elapsed() < Duration::from_secs(40), "after {:?}", added.elapsed());
    // The producer learns of them in its own time.
    let mut there = 50;
    eventually("records go into the new partitions and are applied", async || {
        there = (there + 10).min(rows.len());
        pipeline.source.set_rows(table("leads"), rows[..there].to_vec());
        sync(&engine, request(table("leads"))).await;
        pipeline.number("SELECT count(*) FROM eventos_raw WHERE particao > 2").await > 0
    })
    .await;
    healed(&pipeline, &engine, i64::try_from(there).expect("a small number")).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}
