//! The adapters of the log port, and what tests of logs do to any of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sluice::{
    config::KafkaSettings,
    embedded::EmbeddedDb,
    log::{
        BatchLimits, Delivery, Log, LogReader, NewRecord, Record, StartAt, embedded::EmbeddedLog,
        kafka::KafkaLog,
    },
};
use uuid::Uuid;

use super::{folder::TestFolder, rows::delete_topics, service};

pub const LIMITS: BatchLimits =
    BatchLimits { records: 500, bytes: 1 << 20, wait: Duration::from_millis(200) };
pub const PARTITIONS: i32 = 3;

/// A log of a test's own, on one adapter.
pub trait LogBench: Sized {
    async fn new() -> Self;
    /// A handle, as a process has it. One at a time.
    async fn open(&self) -> Arc<dyn Log>;
    async fn clean_up(self);
}

/// The log in a file of a temporary folder.
pub struct Embedded(TestFolder);

impl LogBench for Embedded {
    async fn new() -> Self {
        Self(TestFolder::new())
    }

    async fn open(&self) -> Arc<dyn Log> {
        Arc::new(EmbeddedLog::new(EmbeddedDb::open(self.0.path(), "test").expect("an open folder")))
    }

    async fn clean_up(self) {}
}

/// The log on topics of the broker that `KAFKA_BOOTSTRAP_SERVERS` names.
pub struct Kafka(pub KafkaSettings);

impl LogBench for Kafka {
    async fn new() -> Self {
        Self(settings())
    }

    async fn open(&self) -> Arc<dyn Log> {
        let log = KafkaLog::connect(&self.0).expect("a log");
        log.ensure_topics().await.expect("topics");
        Arc::new(log)
    }

    async fn clean_up(self) {
        delete_topics(&[&self.0.topic, &self.0.dead_letter_topic]).await;
    }
}

/// Topics that nobody else uses.
pub fn settings() -> KafkaSettings {
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
        session_timeout: Duration::from_secs(10),
        max_message_bytes: KafkaSettings::MAX_MESSAGE_BYTES,
        retention_days: None,
    }
}

pub fn record(key: usize, value: usize) -> NewRecord {
    NewRecord {
        key: Bytes::from(format!("k{key}")),
        value: Bytes::from(format!("v{value}")),
        headers: vec![("schema", Bytes::from_static(b"1"))],
    }
}

/// `count` records with as many keys.
pub fn records(count: usize) -> Vec<NewRecord> {
    (0..count).map(|n| record(n, n)).collect()
}

/// Waits until the group has given this reader partitions, and starts each.
pub async fn join(reader: &mut dyn LogReader, at: StartAt) -> Vec<i32> {
    loop {
        if let Delivery::Assigned(partitions) = reader.next(LIMITS).await.expect("a delivery") {
            let starts: Vec<_> = partitions.iter().map(|partition| (*partition, at)).collect();
            reader.start(&starts).await.expect("started");
            return partitions;
        }
    }
}

/// Reads until `count` records have come.
pub async fn read(reader: &mut dyn LogReader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        if let Delivery::Records(batch) = reader.next(LIMITS).await.expect("a delivery") {
            assert!(batch.len() <= LIMITS.records);
            records.extend(batch);
        }
    }
    records
}
