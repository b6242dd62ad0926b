//! The embedded log, read as a test wants it read.

use std::ops::Deref;

use async_trait::async_trait;
use sluice::{
    fault::Fault,
    identity::Identity,
    log::{Extent, Log, LogFacts, LogReader, NewRecord, Position, Record, Topic, embedded::EmbeddedLog},
};

/// What a test has read instead of the log's own reader.
type Wrap = dyn Fn(Box<dyn LogReader>) -> Box<dyn LogReader> + Send + Sync;

/// The embedded log, but for its readers.
pub struct ReadLog {
    log: EmbeddedLog,
    wrap: Box<Wrap>,
}

impl ReadLog {
    /// `wrap` is given each reader of the log and returns the one that is read.
    pub fn new(
        log: EmbeddedLog,
        wrap: impl Fn(Box<dyn LogReader>) -> Box<dyn LogReader> + Send + Sync + 'static,
    ) -> Self {
        Self { log, wrap: Box::new(wrap) }
    }
}

impl Deref for ReadLog {
    type Target = EmbeddedLog;

    fn deref(&self) -> &EmbeddedLog {
        &self.log
    }
}

#[async_trait]
impl Log for ReadLog {
    fn name(&self) -> &'static str {
        self.log.name()
    }
    fn topic(&self) -> &str {
        self.log.topic()
    }
    async fn identity(&self) -> Result<Identity, Fault> {
        self.log.identity().await
    }
    async fn dead_letters_identity(&self) -> Result<Identity, Fault> {
        self.log.dead_letters_identity().await
    }
    async fn is_made(&self) -> Result<bool, Fault> {
        self.log.is_made().await
    }
    async fn ensure_topics(&self) -> Result<(), Fault> {
        self.log.ensure_topics().await
    }
    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, Fault> {
        self.log.append(topic, records).await
    }
    async fn reader(&self, group: &str) -> Result<Box<dyn LogReader>, Fault> {
        Ok((self.wrap)(self.log.reader(group).await?))
    }
    fn can_erase(&self) -> bool {
        self.log.can_erase()
    }
    async fn extents(&self) -> Result<Vec<Extent>, Fault> {
        self.log.extents().await
    }
    async fn committed(&self, group: &str) -> Result<Vec<Position>, Fault> {
        self.log.committed(group).await
    }
    async fn max_record(&self, topic: Topic) -> Result<usize, Fault> {
        self.log.max_record(topic).await
    }
    async fn records(&self, topic: Topic, ranges: &[Extent]) -> Result<Vec<Record>, Fault> {
        self.log.records(topic, ranges).await
    }
    async fn holds_none(&self, range: Extent) -> Result<bool, Fault> {
        self.log.holds_none(range).await
    }
    async fn dead_letter_extents(&self) -> Result<Vec<Extent>, Fault> {
        self.log.dead_letter_extents().await
    }
    async fn remove(&self, topic: Topic, below: Position) -> Result<(), Fault> {
        self.log.remove(topic, below).await
    }
    async fn facts(&self) -> Result<LogFacts, Fault> {
        self.log.facts().await
    }
}
