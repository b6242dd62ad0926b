//! What only Kafka has of the log: topics with settings of their own, retention, foreign producers, outages.
//! Everything else is in `log_conformance`.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    producer::{FutureProducer, FutureRecord},
};
use sluice::{
    config::KafkaSettings,
    fault::FaultKind,
    log::{BatchLimits, Delivery, Log, StartAt, Topic, kafka::KafkaLog},
};

use tokio::task::JoinSet;

use crate::support::{
    logs::{Kafka, LogBench, join, read, records, settings},
    rows::config,
};

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
    Kafka(settings).clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_to_keep_their_records_as_long_as_the_setting_says() {
    let settings = KafkaSettings { retention_days: Some(30), ..settings() };
    let log = KafkaLog::connect(&settings).expect("a log");
    log.ensure_topics().await.expect("topics");
    let month = Some(Duration::from_hours(30 * 24));
    let facts = log.facts().await.expect("facts");
    assert_eq!((facts.events.retention, facts.letters.retention), (month, month));
    Kafka(settings).clean_up().await;
    let bench = Kafka::new().await;
    let facts = bench.open().await.facts().await.expect("facts");
    let limits = [facts.events, facts.letters].map(|of| (of.retention, of.retention_bytes));
    assert_eq!(limits, [(None, None); 2], "for ever unless somebody says so");
    bench.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_appended_to_a_topic_that_somebody_had_compacted() {
    let settings = settings();
    let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
    let compacted = NewTopic::new(&settings.topic, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact,delete")
        .set("retention.bytes", "100000000");
    admin.create_topics(&[compacted], &AdminOptions::new()).await.expect("created");
    let log = KafkaLog::connect(&settings).expect("a log");
    log.ensure_topics().await.expect("topics");
    let events = log.facts().await.expect("facts").events;
    assert!(log.is_compacted().await.expect("told") && events.is_compacted);
    assert_eq!(events.retention_bytes, Some(100_000_000));
    let fault = log.append(Topic::Events, records(3)).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.message.contains("the topic is compacted"), "{fault}");
    log.append(Topic::DeadLetters, records(1)).await.expect("these are kept");

    let kept = AlterConfig::new(ResourceSpecifier::Topic(&settings.topic)).set("cleanup.policy", "delete");
    admin.alter_configs(&[kept], &AdminOptions::new()).await.expect("altered");
    let log = KafkaLog::connect(&settings).expect("a log");
    log.append(Topic::Events, records(3)).await.expect("appended");
    Kafka(settings).clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_the_log_does_not_hold_become_the_first_it_holds() {
    let bench = Kafka::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(300)).await.expect("appended");
    let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
    let mut cut = TopicPartitionList::new();
    cut.add_partition_offset(&bench.0.topic, 0, Offset::Offset(20)).expect("listed");
    admin.delete_records(&cut, &AdminOptions::new()).await.expect("the beginning is removed");

    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let began =
        reader.start(&[(0, StartAt::Offset(5)), (1, StartAt::Offset(1_000_000))]).await.expect("started");
    let began: Vec<_> = began.iter().map(|at| (at.partition, at.offset, at.removed(), at.cut())).collect();
    let end = log.extents().await.expect("extents")[1].high;
    assert_eq!(began, [(0, 20, Some((5, 20)), None), (1, 0, None, Some((1_000_000, end)))]);
    reader.close().await;
    bench.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_record_without_key_value_or_headers_comes_as_it_is() {
    let bench = Kafka::new().await;
    let log = bench.open().await;
    let producer: FutureProducer = config().create().expect("a producer");
    let record = FutureRecord::<(), ()>::to(&bench.0.topic);
    producer.send(record, Duration::from_secs(20)).await.expect("the record is appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let records = read(&mut *reader, 1).await;
    assert_eq!((&records[0].key, &records[0].value, records[0].headers.len()), (&None, &None, 0));
    reader.close().await;
    bench.clean_up().await;
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
        assert!(fault.advice.to_string().contains("KAFKA_BOOTSTRAP_SERVERS"), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holding_lasts_as_long_as_asked_while_a_rebalance_waits_and_keeps_the_membership() {
    let bench = Kafka::new().await;
    let log = bench.open().await;
    let mut first = log.reader("g").await.expect("a reader");
    join(&mut *first, StartAt::Beginning).await;
    let mut second = log.reader("g").await.expect("a reader");
    let joining = tokio::spawn(async move {
        let partitions = join(&mut *second, StartAt::Beginning).await;
        (second, partitions)
    });
    // The first gives partitions up meanwhile, or the second would never get any.
    let begun = std::time::Instant::now();
    first.hold(Duration::from_secs(8)).await.expect("held");
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
    let (second, partitions) = joining.await.expect("joined");
    assert!(begun.elapsed() < Duration::from_secs(20), "the second joined meanwhile: {:?}", begun.elapsed());
    assert!(!partitions.is_empty());
    let delivery = first.next(crate::support::logs::LIMITS).await.expect("a delivery");
    assert!(matches!(delivery, Delivery::Revoked(_)), "{delivery:?}");
    second.close().await;
    first.close().await;
    bench.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_go_to_another_member_once_their_revocation_was_dealt_with() {
    let bench = Kafka::new().await;
    let log = bench.open().await;
    let mut first = log.reader("g").await.expect("a reader");
    join(&mut *first, StartAt::Beginning).await;
    // Its joining is what makes the group take some of the first one's.
    let mut second = log.reader("g").await.expect("another");
    let limits = crate::support::logs::LIMITS;
    let revoked = async {
        loop {
            if let Delivery::Revoked(partitions) = first.next(limits).await.expect("a delivery") {
                break partitions;
            }
        }
    };
    let joining = tokio::spawn(async move {
        let partitions = join(&mut *second, StartAt::Beginning).await;
        (second, partitions)
    });
    assert!(!revoked.await.is_empty());
    // Longer than a rebalance takes.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!joining.is_finished(), "they were given while they may still be written");
    let going_on = async {
        loop {
            first.next(limits).await.expect("a delivery");
        }
    };
    let (second, partitions) = tokio::select! {
        joined = tokio::time::timeout(Duration::from_secs(30), joining) => joined.expect("in time").expect("joined"),
        () = going_on => unreachable!(),
    };
    assert!(!partitions.is_empty());
    first.close().await;
    second.close().await;
    bench.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_keep_coming_one_by_one_are_delivered_before_a_batch_is_full() {
    let bench = Kafka::new().await;
    let log = bench.open().await;
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    // More often than one is waited for.
    let appending: JoinSet<()> = (0..20)
        .map(|_| {
            let log = log.clone();
            async move {
                loop {
                    log.append(Topic::Events, records(1)).await.expect("appended");
                }
            }
        })
        .collect();
    let limits = BatchLimits { records: 100_000, bytes: usize::MAX, wait: Duration::from_secs(5) };
    for _ in 0..3 {
        let next = tokio::time::timeout(Duration::from_secs(2), reader.next(limits));
        assert!(matches!(next.await.expect("in time"), Ok(Delivery::Records(_))));
    }
    drop(appending);
    reader.close().await;
    bench.clean_up().await;
}
