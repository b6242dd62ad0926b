//! A member of a consumer group.
//!
//! No record of a partition is delivered before its [`LogReader::start`] nor after its revocation was reported, and
//! after a start the first record delivered is at or after the offset asked for. librdkafka drops what was fetched
//! before a seek; the reader checks that again, because everything above it relies on it.
//!
//! A partition that the group takes is let go once its revocation was dealt with: whoever has it next may begin only
//! then. One that the group gives is accepted at once, so that nobody's rebalance waits for a sink, but is fetched
//! only once the sink has said from where: that is when it is assigned to the client. (Assigned, paused, sought and
//! resumed, its fetching began up to a second later: a resumption wakes nobody in librdkafka.)

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
    types::RDKafkaRespErr,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use super::{
    PART, admin, blocking,
    client::{self, Config},
    faults::fault,
    password::{Password, Version},
    refusals::Refusals,
};
use crate::{
    fault::Fault,
    log::{BatchLimits, Delivery, LogReader, Position, Record, StartAt, Started},
    logging::expecting_panics,
};

/// How long to wait for one more record once a batch has begun: a fetch arrives in bursts.
const LINGER: Duration = Duration::from_millis(5);

/// How long that goes on: where records keep coming one by one, what has come does not wait until a batch is full.
const LINGERS_AT_MOST: Duration = Duration::from_millis(100);

/// A seek is refused until the assignment has reached the fetcher.
const SEEK_AGAIN: Duration = Duration::from_millis(20);

/// What the group gave, and what it wants back.
#[derive(Default)]
struct Given {
    /// Whether each partition is fetched.
    partitions: HashMap<i32, bool>,
    /// Whether a revocation waits until it was dealt with.
    holds_on: bool,
    /// Revoked and fetched; not let go yet.
    leaving: Option<TopicPartitionList>,
}

fn lock(given: &Mutex<Given>) -> MutexGuard<'_, Given> {
    given.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For as long as it stands, revocations wait until they were dealt with.
struct HoldingOn(Arc<Mutex<Given>>);

impl HoldingOn {
    fn to(given: &Arc<Mutex<Given>>) -> Self {
        lock(given).holds_on = true;
        Self(given.clone())
    }
}

impl Drop for HoldingOn {
    fn drop(&mut self) {
        lock(&self.0).holds_on = false;
    }
}

/// Tells the reader of every change of its assignment.
struct GroupContext {
    changes: mpsc::UnboundedSender<Delivery>,
    given: Arc<Mutex<Given>>,
    /// Wakes who waits for a record, and would hear of a change only when it came or the wait was over.
    changed: Arc<Notify>,
    refusals: Arc<Refusals>,
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.refusals.hear(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::forward_error(&error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        change: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers = numbers(partitions);
        let mut given = lock(&self.given);
        let outcome = if change == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            given.partitions.extend(numbers.iter().map(|&partition| (partition, false)));
            if !numbers.is_empty() {
                self.tell(Delivery::Assigned(numbers));
            }
            consumer.incremental_assign(&TopicPartitionList::new())
        } else {
            let mut fetched = TopicPartitionList::new();
            for element in partitions.elements() {
                if given.partitions.remove(&element.partition()) == Some(true) {
                    fetched.add_partition(element.topic(), element.partition());
                }
            }
            self.tell(Delivery::Revoked(numbers));
            if given.holds_on {
                given.leaving = Some(fetched);
                return;
            }
            consumer.incremental_unassign(&fetched)
        };
        if let Err(error) = outcome {
            warn!(%error, "a change of the group's partitions failed");
        }
    }
}

impl GroupContext {
    fn tell(&self, change: Delivery) {
        // The receiver is gone only when the reader is being closed.
        self.changes.send(change).ok();
        self.changed.notify_one();
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions
        .elements()
        .iter()
        .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
        .collect()
}

pub(super) struct KafkaReader {
    consumer: Arc<StreamConsumer<GroupContext>>,
    given: Arc<Mutex<Given>>,
    /// A revocation was reported: whoever asks for the next thing has dealt with it.
    is_dealt_with: bool,
    topic: String,
    group: String,
    timeout: Duration,
    password: Arc<Password>,
    /// The password's that the consumer was made with.
    version: Version,
    changes: mpsc::UnboundedReceiver<Delivery>,
    changed: Arc<Notify>,
    /// The lowest offset that may be delivered of each started partition.
    started: HashMap<i32, i64>,
    /// Partitions that began again below what had been delivered: somebody cut the log.
    cut: HashSet<i32>,
    /// Records that slipped in while delivery was held back.
    stash: VecDeque<Record>,
    copies: Copies,
}

impl KafkaReader {
    pub(super) fn join(
        mut config: Config,
        topic: &str,
        group: &str,
        timeout: Duration,
        session_timeout: Duration,
    ) -> Result<Self, Fault> {
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            // A worker that was killed is missed this long; the library beats from a thread of its own.
            .set("session.timeout.ms", session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (session_timeout / 5).as_millis().to_string())
            .set("max.poll.interval.ms", "300000")
            // How long a broker holds a fetch back while it has nothing: a record that comes ends it at once, and a
            // partition that is assigned meanwhile waits that long.
            .set("fetch.wait.max.ms", "500")
            // Bounds what is fetched ahead of the sink. It is looked at before a fetch, whose answer is compressed: as much as
            // comes at once is bounded, too, or it takes several times the room once it is unpacked.
            .set("queued.max.messages.kbytes", "2048")
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.max.bytes", "4194304")
            // A second as delivered: a queue of this size is empty before that.
            .set("fetch.queue.backoff.ms", "5");
        let (password, version) = (config.password.clone(), config.password.version());
        let (sender, rebalances) = mpsc::unbounded_channel();
        let changed = Arc::new(Notify::new());
        let given = Arc::new(Mutex::<Given>::default());
        let context = GroupContext {
            changes: sender,
            given: given.clone(),
            changed: changed.clone(),
            refusals: config.refusals.clone(),
        };
        let what = || format!("joining group {group}");
        let consumer: StreamConsumer<GroupContext> =
            config.create_with_context(context).map_err(|error| fault(&what(), &error))?;
        consumer.subscribe(&[topic]).map_err(|error| fault(&what(), &error))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            given,
            is_dealt_with: false,
            topic: topic.to_owned(),
            group: group.to_owned(),
            timeout,
            password,
            version,
            changes: rebalances,
            changed,
            started: HashMap::new(),
            cut: HashSet::new(),
            stash: VecDeque::new(),
            copies: Copies::default(),
        })
    }

    /// The oldest change of the assignment not reported yet.
    fn next_change(&mut self) -> Option<Delivery> {
        let change = self.changes.try_recv().ok().or_else(|| self.next_cut())?;
        if let Delivery::Assigned(partitions) | Delivery::Revoked(partitions) = &change {
            for partition in partitions {
                self.started.remove(partition);
                if matches!(change, Delivery::Revoked(_)) {
                    self.cut.remove(partition);
                }
            }
            self.is_dealt_with |= matches!(change, Delivery::Revoked(_));
            self.stash.retain(|record| !partitions.contains(&record.partition));
        }
        Some(change)
    }

    /// Has the group give what it took to others.
    fn let_go(&self) {
        let leaving = lock(&self.given).leaving.take();
        if let Some(Err(error)) = leaving.map(|leaving| self.consumer.incremental_unassign(&leaving)) {
            warn!(%error, "partitions that the group took could not be let go");
        }
    }

    /// Partitions that are ours and have to be started again.
    fn next_cut(&self) -> Option<Delivery> {
        let cut = self.cut.iter().filter(|partition| self.started.contains_key(partition));
        Some(Delivery::Assigned(cut.copied().collect())).filter(|cut| *cut != Delivery::Assigned(Vec::new()))
    }

    /// A record that may be delivered, or nothing.
    fn accept(&mut self, message: &BorrowedMessage<'_>) -> Option<Record> {
        let lowest = self.started.get_mut(&message.partition())?;
        if message.offset() < *lowest {
            // librdkafka goes back to the first record when the offset it wants is beyond the end.
            self.cut.insert(message.partition());
            return None;
        }
        *lowest = message.offset() + 1;
        Some(record_of(message, &mut self.copies))
    }

    async fn collect(&mut self, limits: BatchLimits) -> Result<Vec<Record>, Fault> {
        let mut batch: Vec<Record> = Vec::new();
        let mut bytes = 0;
        while let Some(record) = self.stash.pop_front() {
            bytes += size(&record);
            batch.push(record);
        }
        let (consumer, changed) = (self.consumer.clone(), self.changed.clone());
        let mut stream = consumer.stream();
        let until = Instant::now() + limits.wait;
        let mut lingers_until = None;
        while batch.len() < limits.records && bytes < limits.bytes && self.changes.is_empty() {
            if self.next_cut().is_some() {
                break;
            }
            let message = match stream.next().now_or_never() {
                Some(message) => message,
                None if batch.is_empty() => {
                    tokio::select! {
                        message = timeout_at(until, stream.next()) => match message {
                            Ok(message) => message,
                            Err(_) => break,
                        },
                        () = changed.notified() => continue,
                    }
                }
                None => {
                    let now = Instant::now();
                    let at_most = *lingers_until.get_or_insert(now + LINGERS_AT_MOST);
                    match timeout_at(at_most.min(now + LINGER), stream.next()).await {
                        Ok(message) => message,
                        Err(_) => break,
                    }
                }
            };
            match message {
                Some(Ok(message)) => {
                    if let Some(record) = self.accept(&message) {
                        bytes += size(&record);
                        batch.push(record);
                    }
                }
                // What was collected comes first; an error that stays will be met again.
                Some(Err(_)) if !batch.is_empty() => break,
                Some(Err(error)) => return Err(fault(&format!("reading {}", self.topic), &error)),
                None => break,
            }
        }
        Ok(batch)
    }

    fn list(&self, partitions: impl IntoIterator<Item = (i32, Offset)>) -> Result<TopicPartitionList, Fault> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in partitions {
            list.add_partition_offset(&self.topic, partition, offset)
                .map_err(|error| fault(&format!("naming {}/{partition}", self.topic), &error))?;
        }
        Ok(list)
    }

    async fn seek(&self, to: &[(i32, i64)]) -> Result<(), Fault> {
        let until = Instant::now() + self.timeout;
        let mut left: Vec<(i32, i64)> = to.to_vec();
        loop {
            let list =
                self.list(left.iter().map(|&(partition, offset)| (partition, Offset::Offset(offset))))?;
            let (consumer, patience) = (self.consumer.clone(), self.timeout);
            let what = format!("seeking in {}", self.topic);
            let answered = blocking(move || {
                consumer.seek_partitions(list, patience).map_err(|error| fault(&what, &error))
            })
            .await?;
            left.retain(|(partition, _)| {
                answered
                    .find_partition(&self.topic, *partition)
                    .is_some_and(|element| element.error().is_err())
            });
            let Some(&(partition, _)) = left.first() else { return Ok(()) };
            if Instant::now() > until {
                return Err(Fault::transient(
                    PART,
                    format!(
                        "seeking in {}/{partition} was refused for {} s",
                        self.topic,
                        self.timeout.as_secs()
                    ),
                    "tried again by itself; if it stays, look at the brokers' logs",
                ));
            }
            // librdkafka has no event for "the fetcher knows the partition".
            tokio::time::sleep(SEEK_AGAIN).await;
        }
    }
}

#[async_trait]
impl LogReader for KafkaReader {
    async fn next(&mut self, limits: BatchLimits) -> Result<Delivery, Fault> {
        if std::mem::take(&mut self.is_dealt_with) {
            self.let_go();
        }
        let _holding_on = HoldingOn::to(&self.given);
        if let Some(change) = self.next_change() {
            return Ok(change);
        }
        let mut batch = self.collect(limits).await?;
        if batch.is_empty() {
            return Ok(self.next_change().unwrap_or(Delivery::Idle));
        }
        if !self.changes.is_empty() || self.next_cut().is_some() {
            // The change is reported first, and forgets what it takes away of these.
            self.stash.extend(batch.drain(..));
            if let Some(change) = self.next_change() {
                return Ok(change);
            }
        }
        Ok(Delivery::Records(batch))
    }

    async fn start(&mut self, at: &[(i32, StartAt)]) -> Result<Vec<Started>, Fault> {
        let consumer = self.consumer.clone();
        let (topic, patience) = (self.topic.clone(), self.timeout);
        // Changes come while records are waited for, so this is so until the end.
        let fetched = lock(&self.given).partitions.clone();
        let wanted: Vec<_> =
            at.iter().copied().filter(|(partition, _)| fetched.contains_key(partition)).collect();
        let asked = blocking(move || {
            let mut list = TopicPartitionList::new();
            for (partition, _) in &wanted {
                list.add_partition(&topic, *partition);
            }
            let committed = if wanted.is_empty() {
                list
            } else {
                consumer
                    .committed_offsets(list, patience)
                    .map_err(|error| fault(&format!("reading the group's offsets of {topic}"), &error))?
            };
            let partitions: Vec<i32> = wanted.iter().map(|(partition, _)| *partition).collect();
            let extents = admin::extents(&*consumer, &topic, &partitions, patience)?;
            let answer = |(partition, start): (i32, StartAt)| {
                let committed = match committed.find_partition(&topic, partition).map(|e| e.offset()) {
                    Some(Offset::Offset(offset)) => Some(offset),
                    _ => None,
                };
                let extent = extents.iter().find(|extent| extent.partition == partition)?;
                Some((partition, start, committed, *extent))
            };
            Ok(wanted.into_iter().filter_map(answer).collect::<Vec<_>>())
        })
        .await?;
        let started: Vec<Started> = asked
            .into_iter()
            .map(|(partition, start, committed, extent)| {
                Started::resolve(start, committed, extent, self.cut.contains(&partition))
            })
            .collect();
        let begin: Vec<(i32, i64)> = started.iter().map(|at| (at.partition, at.offset)).collect();
        if begin.is_empty() {
            return Ok(Vec::new());
        }
        let stopped: Vec<i32> = begin.iter().map(|(partition, _)| *partition).collect();
        self.stash.retain(|record| !stopped.contains(&record.partition));
        let (again, first): (Vec<_>, Vec<_>) =
            begin.iter().copied().partition(|(partition, _)| fetched.get(partition) == Some(&true));
        if !again.is_empty() {
            self.seek(&again).await?;
        }
        if !first.is_empty() {
            let list =
                self.list(first.iter().map(|&(partition, offset)| (partition, Offset::Offset(offset))))?;
            // A pause outlives a revocation.
            self.consumer
                .resume(&list)
                .and_then(|()| self.consumer.incremental_assign(&list))
                .map_err(|error| fault(&format!("beginning to read {}", self.topic), &error))?;
            lock(&self.given).partitions.extend(first.iter().map(|&(partition, _)| (partition, true)));
        }
        self.cut.retain(|partition| !stopped.contains(partition));
        self.started.extend(begin);
        Ok(started)
    }

    async fn hold(&mut self, pause: Duration) -> Result<(), Fault> {
        // Nothing is being written while somebody waits.
        self.let_go();
        let until = Instant::now() + pause;
        let held = self.list(self.started.keys().map(|&partition| (partition, Offset::Invalid)))?;
        let what = format!("pausing {}", self.topic);
        self.consumer.pause(&held).map_err(|error| fault(&what, &error))?;
        let consumer = self.consumer.clone();
        let mut stream = consumer.stream();
        // To the end, whatever changes meanwhile: the caller would fail at once again. Reading on is what keeps the
        // membership.
        loop {
            match timeout_at(until, stream.next()).await {
                Err(_) | Ok(None) => break,
                Ok(Some(Ok(message))) => {
                    // Fetched before the pause took effect; librdkafka will not hand it out again.
                    if let Some(record) = self.accept(&message) {
                        self.stash.push_back(record);
                    }
                }
                // The caller is waiting because something failed; more of the same changes nothing.
                Ok(Some(Err(error))) => debug!(%error, "log failed while reading was held"),
            }
        }
        drop(stream);
        // A change may have taken some of them; the rest go on.
        let assigned = self.consumer.assignment().map_err(|error| fault("reading the assignment", &error))?;
        let still = self.list(
            self.started
                .keys()
                .filter(|partition| assigned.find_partition(&self.topic, **partition).is_some())
                .map(|&partition| (partition, Offset::Invalid)),
        )?;
        self.consumer.resume(&still).map_err(|error| fault(&format!("resuming {}", self.topic), &error))
    }

    fn commit(&self, next: &[Position]) -> BoxFuture<'static, Result<(), Fault>> {
        let list = self.list(next.iter().map(|at| (at.partition, Offset::Offset(at.offset))));
        let consumer = self.consumer.clone();
        let what = format!("committing the offsets of group {}", self.group);
        let commit = move || match consumer.commit(&list?, CommitMode::Sync) {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
            Err(error) => Err(fault(&what, &error)),
        };
        blocking(commit).boxed()
    }

    fn is_outdated(&self) -> bool {
        self.password.version() != self.version
    }

    async fn close(self: Box<Self>) {
        let consumer = self.consumer.clone();
        drop(self);
        // Leaving the group polls until the broker has answered.
        blocking(move || {
            drop(consumer);
            Ok(())
        })
        .await
        .ok();
    }
}

/// Leaving the group waits for whatever was not let go.
impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Holds what is copied of many records, so that a record does not cost an allocation for each of its parts. What one of
/// them is kept for keeps the piece that it stands in.
#[derive(Default)]
pub(super) struct Copies(BytesMut);

impl Copies {
    const PIECE: usize = 256 << 10;

    fn of(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > Self::PIECE / 8 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(Self::PIECE);
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

pub(super) fn record_of(message: &BorrowedMessage<'_>, copies: &mut Copies) -> Record {
    let headers = headers_of(message, copies);
    Record {
        partition: message.partition(),
        offset: message.offset(),
        appended_at: message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis),
        key: message.key().map(|key| copies.of(key)),
        value: message.payload().map(|value| copies.of(value)),
        has_unreadable_headers: headers.is_none(),
        headers: headers.unwrap_or_default(),
    }
}

/// `None` where a name is not UTF-8. Any producer may write such a name, and the client panics instead of telling.
fn headers_of(message: &BorrowedMessage<'_>, copies: &mut Copies) -> Option<Vec<(String, Bytes)>> {
    let read = || {
        let headers = message.headers()?.iter();
        let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), copies.of(header.value.unwrap_or_default()))
        };
        Some(headers.map(owned).collect())
    };
    expecting_panics(read).map(Option::unwrap_or_default)
}

fn size(record: &Record) -> usize {
    record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len)
}
