//! The log port: the ordered, partitioned record of events, and the dead letters beside it.
//!
//! A position is *accepted* nowhere in this port: [`Log::append`] returns only when every record is durable.

pub mod embedded;
pub mod kafka;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{fault::Fault, identity::Identity};

/// The two topics sluice writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Events,
    DeadLetters,
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Decides the partition: records of one key keep their order.
    pub key: Bytes,
    pub value: Bytes,
    pub headers: Vec<(&'static str, Bytes)>,
}

impl NewRecord {
    /// Bytes it takes in a log, generously: what a broker adds to a record and its headers is counted in.
    pub fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len() + 16).sum::<usize>();
        self.key.len() + self.value.len() + headers + 256
    }
}

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    /// When the record was appended, if the log knows.
    pub appended_at: Option<DateTime<Utc>>,
    pub key: Option<Bytes>,
    /// `None` for a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Bytes)>,
    /// It has some that are no text; none of them are in `headers`.
    pub has_unreadable_headers: bool,
}

/// The header of a record whose content was erased.
const ERASED: &str = "erased";

impl Record {
    /// Whether its content was erased, and only its place is left.
    pub fn is_erased(&self) -> bool {
        self.value.is_none() && self.headers.iter().any(|(name, _)| name == ERASED)
    }
}

/// An offset in a partition of the events topic. Whether it is that of a record or the next one to read is said
/// where it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub partition: i32,
    pub offset: i64,
}

/// What a partition holds: offsets `low..high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Extent {
    pub partition: i32,
    /// The first offset that still exists.
    pub low: i64,
    /// One past the last offset that a reader can get to: what an open transaction holds back lies beyond it.
    pub high: i64,
}

/// How many records there are in all.
pub fn records_in(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| u64::try_from(extent.high - extent.low).unwrap_or_default()).sum()
}

/// What a topic's configuration says of its records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicLimits {
    /// How long they are kept; `None` for ever.
    pub retention: Option<Duration>,
    /// How many bytes of them a partition keeps; `None` however many.
    pub retention_bytes: Option<u64>,
    /// The largest; `None` where only the setting bounds it, or the user may not ask.
    pub max_message_bytes: Option<usize>,
    /// Of records with one key only the last are kept.
    pub is_compacted: bool,
}

/// How the events topic is spread, and what the log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFacts {
    pub partitions: usize,
    /// Copies of each partition, the fewest of any; `None` where there are no brokers to hold copies.
    pub replicas: Option<usize>,
    /// Partitions with a copy that is behind.
    pub under_replicated: usize,
    pub events: TopicLimits,
    pub letters: TopicLimits,
}

/// Where reading of an assigned partition starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// This offset, as kept by the sink itself.
    Offset(i64),
    /// The first record, whatever the consumer group committed: the sink has nothing of this partition.
    Beginning,
    /// What the consumer group committed, else the first record.
    Committed,
    /// The same, but nothing beyond this offset, which is as far as the sink knows to be.
    NotBeyond(i64),
}

/// Where reading of a partition really starts, and what it was decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    pub partition: i32,
    pub offset: i64,
    /// What was asked for, by the sink or else by what the group committed; `None` where neither has anything.
    pub asked: Option<i64>,
    /// What the group committed.
    pub committed: Option<i64>,
    /// What the partition holds.
    pub extent: Extent,
}

impl Started {
    /// An offset the log no longer holds (retention), or does not hold yet (it was cut), becomes the first that
    /// exists. `is_cut` where the log was seen to begin again below what had been read.
    fn resolve(at: StartAt, committed: Option<i64>, extent: Extent, is_cut: bool) -> Self {
        let asked = match at {
            StartAt::Offset(offset) => Some(offset),
            StartAt::Beginning => None,
            StartAt::Committed => committed,
            StartAt::NotBeyond(reached) => committed.map(|committed| committed.min(reached)),
        };
        let held = |offset: &i64| !is_cut && (extent.low..=extent.high).contains(offset);
        let offset = asked.filter(held).unwrap_or(extent.low);
        Self { partition: extent.partition, offset, asked, committed, extent }
    }

    /// Offsets `from..to` that were removed before they were read.
    pub fn removed(&self) -> Option<(i64, i64)> {
        self.asked.filter(|asked| *asked < self.offset).map(|asked| (asked, self.offset))
    }

    /// What had been reached and where the log ends now, where that is before it.
    pub fn cut(&self) -> Option<(i64, i64)> {
        self.asked.filter(|asked| *asked > self.offset).map(|asked| (asked, self.extent.high))
    }
}

/// What a reader has to say next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// These partitions are ours now, or ours still and must be started again because the log was cut below what had
    /// been delivered. Nothing of them is delivered until [`LogReader::start`].
    Assigned(Vec<i32>),
    /// These partitions are ours no more: whatever of them is held and not applied must be forgotten.
    Revoked(Vec<i32>),
    /// Records of started partitions, in order within each.
    Records(Vec<Record>),
    /// Nothing came within the wait.
    Idle,
}

/// How much one [`Delivery::Records`] may hold, and how long to wait for the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    pub records: usize,
    /// Bytes of keys and values; the record that crosses it is still included.
    pub bytes: usize,
    /// How long to wait for anything at all.
    pub wait: Duration,
}

/// The log port.
#[async_trait]
pub trait Log: Send + Sync {
    /// `kafka`, `embedded`: what status and faults call it.
    fn name(&self) -> &'static str;

    /// The name of the topic of events.
    fn topic(&self) -> &str;

    /// Which log this is now: cluster and topic by name, and the id the topic got when it was created. Offsets of one
    /// log mean nothing in another, and one made anew under the same name is another.
    ///
    /// # Errors
    /// When the log can't be reached or its topic is not there.
    async fn identity(&self) -> Result<Identity, Fault>;

    /// As [`Log::identity`], of where the dead letters are.
    ///
    /// # Errors
    /// When the log can't be reached or its topic is not there.
    async fn dead_letters_identity(&self) -> Result<Identity, Fault>;

    /// Whether both topics are there.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn is_made(&self) -> Result<bool, Fault>;

    /// Creates the topics that are missing; leaves those that exist as they are.
    ///
    /// # Errors
    /// When the log can't be reached or refuses.
    async fn ensure_topics(&self) -> Result<(), Fault>;

    /// Appends records and returns, in the same order, the offset each one got. Returns only when all are durable.
    ///
    /// # Errors
    /// When any record could not be made durable; some of the others may have been appended all the same.
    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, Fault>;

    /// Joins a consumer group of the events topic.
    ///
    /// # Errors
    /// When the reader can't be made; an unreachable log is reported by the reader itself.
    async fn reader(&self, group: &str) -> Result<Box<dyn LogReader>, Fault>;

    /// What every partition of the events topic holds.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn extents(&self) -> Result<Vec<Extent>, Fault>;

    /// The next offset each partition's group would read, where it ever committed one.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn committed(&self, group: &str) -> Result<Vec<Position>, Fault>;

    /// The largest record that can be appended, in bytes as [`NewRecord::size`] counts them: the smaller of the
    /// setting and of what the topic allows.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn max_record(&self, topic: Topic) -> Result<usize, Fault>;

    /// Whether of events of one row only the last are kept, so that any that is missing may have been there. Nothing is
    /// appended to such a log.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn is_compacted(&self) -> Result<bool, Fault> {
        Ok(false)
    }

    /// The records of these offsets, in order within each partition, without a consumer group. Ranges are the
    /// caller's to keep small: all of their records are held at once.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn records(&self, topic: Topic, ranges: &[Extent]) -> Result<Vec<Record>, Fault>;

    /// Whether no reader is ever given a record of these offsets: they hold nothing but the marks of transactions,
    /// records that were aborted, and what compaction or retention left of others. The range must end where
    /// [`Log::extents`] said that the partition ends, or before.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn holds_none(&self, range: Extent) -> Result<bool, Fault>;

    /// What every partition of the dead letters' topic holds.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn dead_letter_extents(&self) -> Result<Vec<Extent>, Fault>;

    /// The number of dead letters the log holds.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn dead_letter_count(&self) -> Result<u64, Fault> {
        Ok(records_in(&self.dead_letter_extents().await?))
    }

    /// Empties the records of entities whose events bear this `tipo_evento`, and these dead letters; their places stay.
    /// `None` where a log can't change what it holds: its records stay until its retention removes them.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn erase(
        &self,
        _tipo_evento: &str,
        _keys: &[String],
        _letters: &[Position],
    ) -> Result<Option<u64>, Fault> {
        Ok(None)
    }

    /// The first offset of each partition of the events topic that was not appended before an instant, of a log that removes
    /// nothing by itself; nothing of one whose brokers do.
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn older(&self, _before: DateTime<Utc>) -> Result<Vec<Position>, Fault> {
        Ok(Vec::new())
    }

    /// Whether [`Log::erase`] empties records: read again, they tell nothing of whom they were about.
    fn can_erase(&self) -> bool {
        false
    }

    /// Removes the records of a partition below an offset for good. Its first offset moves there; every other stays what it is.
    ///
    /// # Errors
    /// When the log can't be reached or refuses.
    async fn remove(&self, topic: Topic, below: Position) -> Result<(), Fault>;

    /// Whether it is files that somebody may restore from an older copy, so that it gives out offsets a second time and no
    /// reader can tell. What brokers keep is cut or made anew, which its readers tell.
    fn may_go_back(&self) -> bool {
        false
    }

    /// Why nothing can be appended although the log answers, where that can be told without writing.
    fn shortage(&self) -> Option<Fault> {
        None
    }

    /// Has a log that may go back be another from now on, with the records that it holds: what anybody remembers of its
    /// offsets counts for nothing.
    ///
    /// # Errors
    /// When the log can't be reached or refuses.
    async fn renew(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// How the topics are kept.
    ///
    /// # Errors
    /// When the log can't be reached or does not tell.
    async fn facts(&self) -> Result<LogFacts, Fault>;
}

/// A member of a consumer group, owned by one drain.
#[async_trait]
pub trait LogReader: Send {
    /// The next thing to act on. Whoever calls it has dealt with the one before: partitions whose revocation was reported are
    /// given to others from then on. Must be called at least every few minutes (or [`LogReader::hold`]), or the group
    /// takes the partitions away.
    ///
    /// # Errors
    /// A fault of the log; the reader stays usable and the call may be repeated.
    async fn next(&mut self, limits: BatchLimits) -> Result<Delivery, Fault>;

    /// Starts, or restarts, delivery of assigned partitions at the given places; what was fetched before and not
    /// yet delivered is dropped. Partitions that are not assigned any more are passed over. Returns where reading
    /// really begins: see [`Started`].
    ///
    /// # Errors
    /// When the log can't be reached.
    async fn start(&mut self, at: &[(i32, StartAt)]) -> Result<Vec<Started>, Fault>;

    /// Stays in the group for `pause` without delivering a record, however the assignment changes meanwhile.
    ///
    /// # Errors
    /// A fault of the log; the call may be repeated.
    async fn hold(&mut self, pause: Duration) -> Result<(), Fault>;

    /// Commits the next offset to read of each partition for the group; the reader may be read from meanwhile.
    ///
    /// # Errors
    /// When the group refuses (the partition is another's now) or the log can't be reached.
    fn commit(&self, next: &[Position]) -> BoxFuture<'static, Result<(), Fault>>;

    /// Whether it reads under a login that was changed meanwhile: another reader has to take its place.
    fn is_outdated(&self) -> bool {
        false
    }

    /// Leaves the group.
    async fn close(self: Box<Self>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_starts_where_it_was_asked_to_or_else_at_the_first_record_there_is() {
        let extent = Extent { partition: 1, low: 10, high: 50 };
        let started = |at, committed, is_cut| {
            let started = Started::resolve(at, committed, extent, is_cut);
            (started.offset, started.removed(), started.cut())
        };
        assert_eq!(started(StartAt::Offset(30), None, false), (30, None, None));
        assert_eq!(started(StartAt::Offset(50), None, false), (50, None, None), "everything is read");
        assert_eq!(started(StartAt::Beginning, Some(30), false), (10, None, None));
        assert_eq!(started(StartAt::Committed, Some(30), false), (30, None, None));
        assert_eq!(started(StartAt::Committed, None, false), (10, None, None));
        assert_eq!(started(StartAt::NotBeyond(20), Some(30), false), (20, None, None), "the sink went back");
        assert_eq!(started(StartAt::NotBeyond(40), Some(30), false), (30, None, None));
        assert_eq!(started(StartAt::NotBeyond(40), None, false), (10, None, None));
        assert_eq!(started(StartAt::Offset(4), None, false), (10, Some((4, 10)), None));
        assert_eq!(started(StartAt::Offset(90), None, false), (10, None, Some((90, 50))));
        assert_eq!(started(StartAt::Offset(30), None, true), (10, None, Some((30, 50))), "grown again since");
    }
}
