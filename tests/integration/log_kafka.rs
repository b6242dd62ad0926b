//! The log's promises, on a real broker.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use sluice::{
    config::KafkaSettings,
    fault::FaultKind,
    log::{
        BatchLimits, Delivery, Log, LogReader, NewRecord, Position, Record, StartAt, Topic, kafka::KafkaLog,
    },
};
use uuid::Uuid;

use crate::support::{
    rows::{config, delete_topics},
    service,
};

const LIMITS: BatchLimits = BatchLimits { records: 500, bytes: 1 << 20, wait: Duration::from_millis(200) };
const PARTITIONS: i32 = 3;

fn settings() -> KafkaSettings {
    let id = Uuid::new_v4().simple().to_string();
    KafkaSettings {
        bootstrap_servers: service("KAFKA_BOOTSTRAP_SERVERS"),
        topic: format!("t-{id}"),
        dead_letter_topic: format!("t-{id}.dlq"),
        partitions: PARTITIONS,
        replication_factor: 1,
        security_protocol: "plaintext".to_owned(),
        sasl_mechanism: None,
        sasl_username: None,
        sasl_password: None,
        ssl_ca_location: None,
        timeout: Duration::from_secs(20),
    }
}

async fn log() -> (KafkaSettings, KafkaLog) {
    let settings = settings();
    let log = KafkaLog::connect(&settings).expect("a log");
    log.ensure_topics().await.expect("topics");
    (settings, log)
}

async fn clean_up(settings: &KafkaSettings) {
    delete_topics(&[&settings.topic, &settings.dead_letter_topic]).await;
}

fn record(key: usize, value: usize) -> NewRecord {
    NewRecord {
        key: Bytes::from(format!("k{key}")),
        value: Bytes::from(format!("v{value}")),
        headers: vec![("schema", Bytes::from_static(b"1"))],
    }
}

/// `count` records with as many keys.
fn records(count: usize) -> Vec<NewRecord> {
    (0..count).map(|n| record(n, n)).collect()
}

/// Waits until the group has given this reader partitions, and starts each.
async fn join(reader: &mut dyn LogReader, at: StartAt) -> Vec<i32> {
    loop {
        if let Delivery::Assigned(partitions) = reader.next(LIMITS).await.expect("a delivery") {
            let starts: Vec<_> = partitions.iter().map(|partition| (*partition, at)).collect();
            reader.start(&starts).await.expect("started");
            return partitions;
        }
    }
}

/// Reads until `count` records have come.
async fn read(reader: &mut dyn LogReader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        if let Delivery::Records(batch) = reader.next(LIMITS).await.expect("a delivery") {
            assert!(batch.len() <= LIMITS.records);
            records.extend(batch);
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_appended_in_bulk_and_each_key_keeps_its_partition_and_order() {
    let (settings, log) = log().await;
    let sent: Vec<NewRecord> = (0..50_000).map(|n| record(n % 100, n)).collect();
    let positions = log.append(Topic::Events, sent).await.expect("appended");

    assert_eq!(positions.len(), 50_000);
    let mut last: HashMap<usize, Position> = HashMap::new();
    for (n, position) in positions.into_iter().enumerate() {
        if let Some(before) = last.insert(n % 100, position) {
            assert_eq!(before.partition, position.partition);
            assert!(before.offset < position.offset);
        }
    }
    let held: i64 = log.extents().await.expect("extents").iter().map(|extent| extent.high - extent.low).sum();
    assert_eq!(held, 50_000);
    clean_up(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_created_as_asked_and_existing_ones_left_alone() {
    let settings = settings();
    let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
    let existing = NewTopic::new(&settings.topic, 5, TopicReplication::Fixed(1));
    admin.create_topics(&[existing], &AdminOptions::new()).await.expect("created");
    let log = KafkaLog::connect(&settings).expect("a log");
    tokio::try_join!(log.ensure_topics(), log.ensure_topics()).expect("both are content");

    assert_eq!(log.extents().await.expect("extents").len(), 5);
    assert_eq!(log.dead_letter_count().await.expect("a count"), 0);
    log.append(Topic::DeadLetters, records(3)).await.expect("appended");
    assert_eq!(log.dead_letter_count().await.expect("a count"), 3);
    clean_up(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_before_a_start_and_reading_begins_where_it_says() {
    let (settings, log) = log().await;
    log.append(Topic::Events, records(300)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    let mut assigned = Vec::new();
    let mut quiet = 0;
    while assigned.is_empty() || quiet < 5 {
        match reader.next(LIMITS).await.expect("a delivery") {
            Delivery::Assigned(partitions) => assigned.extend(partitions),
            Delivery::Idle => quiet += 1,
            other => panic!("before the start: {other:?}"),
        }
    }
    let extents = log.extents().await.expect("extents");
    let starts: Vec<_> =
        extents.iter().map(|extent| (extent.partition, StartAt::Offset(extent.high - 10))).collect();
    let began = reader.start(&starts).await.expect("started");
    assert_eq!(began.len(), 3);
    for record in read(&mut *reader, 30).await {
        let extent = extents.iter().find(|extent| extent.partition == record.partition).expect("its extent");
        assert!(record.offset >= extent.high - 10);
        assert_eq!(record.headers, [("schema".to_owned(), Bytes::from_static(b"1"))]);
    }
    reader.close().await;
    clean_up(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_drops_what_was_fetched_and_delivers_from_there_in_order() {
    let (settings, log) = log().await;
    log.append(Topic::Events, records(3000)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    read(&mut *reader, 1200).await;
    for _ in 0..5 {
        let starts: Vec<_> = (0..PARTITIONS).map(|partition| (partition, StartAt::Offset(7))).collect();
        reader.start(&starts).await.expect("started");
        let mut next: HashMap<i32, i64> = (0..PARTITIONS).map(|partition| (partition, 7)).collect();
        for record in read(&mut *reader, 900).await {
            let next = next.get_mut(&record.partition).expect("a partition");
            assert_eq!(record.offset, *next, "no record is skipped or repeated");
            *next += 1;
        }
    }
    reader.close().await;
    clean_up(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holding_delivers_nothing_keeps_the_partitions_and_loses_nothing() {
    let (settings, log) = log().await;
    log.append(Topic::Events, records(2000)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let mut seen = read(&mut *reader, 100).await;
    reader.hold(Duration::from_secs(1)).await.expect("held");
    seen.extend(read(&mut *reader, 2000 - seen.len()).await);
    let mut next: HashMap<i32, i64> = HashMap::new();
    for record in seen {
        let next = next.entry(record.partition).or_default();
        assert_eq!(record.offset, *next);
        *next += 1;
    }
    reader.close().await;
    clean_up(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_commits_the_log_knows_and_the_next_reader_reads_on() {
    let (settings, log) = log().await;
    log.append(Topic::Events, records(300)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    assert_eq!(log.committed("g").await.expect("offsets"), []);
    let next: Vec<_> = (0..PARTITIONS).map(|partition| Position { partition, offset: 11 }).collect();
    reader.commit(&next).await.expect("committed");
    reader.close().await;

    assert_eq!(log.committed("g").await.expect("offsets"), next);
    assert_eq!(log.committed("other").await.expect("offsets"), []);
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Committed).await;
    let records = read(&mut *reader, 300 - 33).await;
    assert!(records.iter().all(|record| record.offset >= 11));
    reader.close().await;
    clean_up(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_the_log_does_not_hold_become_the_first_it_holds() {
    let (settings, log) = log().await;
    log.append(Topic::Events, records(300)).await.expect("appended");
    let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
    let mut cut = TopicPartitionList::new();
    cut.add_partition_offset(&settings.topic, 0, Offset::Offset(20)).expect("listed");
    admin.delete_records(&cut, &AdminOptions::new()).await.expect("the beginning is removed");

    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let began =
        reader.start(&[(0, StartAt::Offset(5)), (1, StartAt::Offset(1_000_000))]).await.expect("started");
    assert_eq!(began, [Position { partition: 0, offset: 20 }, Position { partition: 1, offset: 0 }]);
    reader.close().await;
    clean_up(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_moves_is_revoked_here_before_it_is_assigned_there() {
    let (settings, log) = log().await;
    let mut first = log.reader("g").await.expect("a reader");
    assert_eq!(join(&mut *first, StartAt::Beginning).await.len(), 3);
    let mut second = log.reader("g").await.expect("a reader");
    let mut kept = vec![0, 1, 2];
    let taken = loop {
        let one = tokio::select! {
            delivery = first.next(LIMITS) => (true, delivery),
            delivery = second.next(LIMITS) => (false, delivery),
        };
        match one {
            (true, Ok(Delivery::Revoked(gone))) => kept.retain(|partition| !gone.contains(partition)),
            (false, Ok(Delivery::Assigned(partitions))) => break partitions,
            (_, outcome) => drop(outcome.expect("a delivery")),
        }
    };
    assert!(
        !taken.is_empty() && taken.iter().all(|partition| !kept.contains(partition)),
        "{kept:?} {taken:?}"
    );
    log.append(Topic::Events, records(300)).await.expect("appended");
    for delivery in [first.next(LIMITS).await, first.next(LIMITS).await] {
        if let Delivery::Records(records) = delivery.expect("a delivery") {
            assert!(records.iter().all(|record| kept.contains(&record.partition)));
        }
    }
    first.close().await;
    second.close().await;
    clean_up(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_a_passing_fault_that_says_what_to_check() {
    let mut settings = settings();
    settings.bootstrap_servers = "127.0.0.1:9".to_owned();
    settings.timeout = Duration::from_secs(2);
    let log = KafkaLog::connect(&settings).expect("clients need no broker");
    for fault in [
        log.identity().await.expect_err("no broker"),
        log.extents().await.expect_err("no broker"),
        log.ensure_topics().await.expect_err("no broker"),
        log.append(Topic::Events, records(1)).await.expect_err("no broker"),
    ] {
        assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
        assert!(fault.advice.contains("KAFKA_BOOTSTRAP_SERVERS"), "{fault}");
    }
}
