//! The drain: reads the log and applies it to one sink, for ever.
//!
//! It promises that a record's offset moves only after the sink has made the record durable or the log has
//! acknowledged its dead letter, that a passing fault is retried without limit, and that one bad record never holds
//! up its neighbours. It holds one batch at a time; after any fault it drops the batch and reads it again, so there
//! is no state that could disagree with the sink's.
//!
//! Nothing of an erased entity is applied. A store sees to that within its transaction. Of a sink that can't, the drain
//! leaves such records out by the ledger as it was before the batch, removes what earlier deliveries of them brought, and
//! commits only what was applied by the ledger as it is: after an erasure, what is not committed is read again. While the
//! store does not answer, the last known ledger holds and nothing is committed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::Utc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    dead_letters,
    erased::Erased,
    gaps,
    reading::Reading,
    stats::{DrainState, DrainStats},
};
use crate::{
    backoff::Backoff,
    domain::{Catalog, ErasureLedger, Event, TableName},
    fail_point,
    fault::{Fault, FaultKind},
    log::{BatchLimits, Delivery, Extent, Log, LogReader, Position, Record, StartAt, Topic},
    sink::{Applied, ApplyError, Rejection, Sink, SinkBatch, SinkEvent, Span},
    store::{Notice, NoticeKind, ParkedEntity, Store},
};

/// How often it is looked whether log and sink are still those that the drain began with.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Fewest records a batch is cut down to while a sink keeps failing.
const MIN_BATCH: usize = 100;

/// How long a group may refuse commits: a rebalance ends within the session timeout of a member that died amid it,
/// and begins again at most a few times.
const REFUSED_FOR: Duration = Duration::from_mins(1);

/// How long reading a failed batch again may take: longer, and its records are gone from the log.
const READ_AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// What a drain needs.
#[derive(Clone)]
pub struct Drain {
    pub catalog: Catalog,
    pub log: Arc<dyn Log>,
    pub sink: Arc<dyn Sink>,
    /// Where it is noted which entities have open letters.
    pub store: Arc<dyn Store>,
    /// What the name of this sink's consumer group begins with; the rest says which log and which sink these are.
    pub group: String,
    pub limits: BatchLimits,
    /// First and longest pause after a fault.
    pub pauses: (Duration, Duration),
    pub stats: Arc<DrainStats>,
    /// Whether what the sink can never take becomes a dead letter. Where a record is only read again it was one
    /// before, and is passed over.
    pub parks: bool,
}

/// A partition this drain owns.
#[derive(Debug, Clone, Copy)]
struct Held {
    epoch: i64,
    /// Where the sink stands.
    next: i64,
}

struct Session<'a> {
    drain: &'a Drain,
    reading: Reading,
    /// The log's identity.
    log_id: String,
    /// When it was last looked whether `reading` still holds.
    looked: Instant,
    /// When it was last looked whether nothing but holes is left.
    passed: Instant,
    /// It does not: this run ends, and the next one begins anew.
    replaced: bool,
    /// Pieces that the store has still to remember.
    unmet: Option<Reading>,
    reader: Box<dyn LogReader>,
    held: BTreeMap<i32, Held>,
    /// Assigned, but the claim failed so far.
    unclaimed: HashSet<i32>,
    /// Applied, but the group does not know yet.
    uncommitted: BTreeMap<i32, i64>,
    /// Since when the group has refused every commit.
    refused_since: Option<Instant>,
    /// Partitions whose batch failed, and since when it may be read again: that nothing comes before is no success.
    owed: Option<(HashSet<i32>, Instant)>,
    /// Records whose dead letter is acknowledged while their batch is not applied yet.
    parked: HashSet<Position>,
    /// Letters that are acknowledged while the store does not know of them yet.
    unnoted: Vec<ParkedEntity>,
    backoff: Backoff,
    batch_records: usize,
    erased: Erased,
    /// The ledger that everything uncommitted was applied by; empty for a sink that obeys it by itself.
    ledger: Arc<ErasureLedger>,
}

/// What a batch is made of.
#[derive(Default)]
struct Read {
    batch: SinkBatch,
    undecodable: Vec<Rejection>,
    /// Of erased entities.
    erased: Vec<SinkEvent>,
}

impl Drain {
    /// Runs until `stop`.
    ///
    /// # Errors
    /// When the sink or the log can't even be prepared; the supervisor starts it again.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), Fault> {
        self.stats.set_state(DrainState::Starting);
        let Some(mut session) = stop.run_until_cancelled(self.open()).await.transpose()? else {
            return Ok(());
        };
        self.stats.set_state(DrainState::Running);
        info!(sink = self.sink.name(), group = session.reading.group, "drain started");
        // Stopping waits for the batch in hand: what was applied is also committed.
        while !stop.is_cancelled() && !session.replaced {
            session.step(stop).await;
        }
        if !session.replaced {
            session.commit_pending().await.ok();
        }
        session.reader.close().await;
        self.stats.set_partitions(Vec::new());
        self.stats.set_state(DrainState::Stopped);
        info!(sink = self.sink.name(), "drain stopped");
        Ok(())
    }

    /// Has the store remember log and sink; says so where one of them is another than it was.
    async fn meet(&self, reading: &Reading) -> Result<(), Fault> {
        if self.store.meet_log(&reading.log).await?.is_some() {
            warn!(
                place = reading.log.place,
                id = reading.log.id,
                "the log was made anew since it was last met"
            );
        }
        for piece in &reading.sink {
            if self.store.meet_sink(piece).await?.is_some() {
                warn!(place = piece.place, id = piece.id, "it was made anew since it was last met");
            }
        }
        Ok(())
    }

    /// Has the store remember what is told to operators, before anything moves past it.
    async fn note(&self, notice: &Notice) -> Result<(), Fault> {
        warn!(sink = self.sink.name(), notice = notice.sentence(), "noticed");
        self.store.note(notice).await
    }

    async fn note_removed(&self, log: &str, removed: &[Extent]) -> Result<(), Fault> {
        for gone in removed {
            let notice = Notice {
                kind: NoticeKind::RecordsRemoved,
                part: self.sink.name().to_owned(),
                log: log.to_owned(),
                partition: Some(gone.partition),
                from: gone.low,
                to: gone.high,
                noticed_at: Utc::now(),
            };
            self.note(&notice).await?;
        }
        Ok(())
    }

    async fn open(&self) -> Result<Session<'_>, Fault> {
        self.sink.prepare().await?;
        self.log.ensure_topics().await?;
        let reading = Reading::of(&*self.log, &*self.sink, &self.group).await?;
        let reader = self.log.reader(&reading.group).await?;
        let erased = Erased::new(self.store.clone());
        let ledger = if self.sink.obeys_erasures() { Arc::default() } else { erased.ledger().await? };
        Ok(Session {
            erased,
            ledger,
            drain: self,
            log_id: reading.log.to_string(),
            unmet: Some(reading.clone()),
            reading,
            looked: Instant::now(),
            passed: Instant::now(),
            replaced: false,
            reader,
            held: BTreeMap::new(),
            unclaimed: HashSet::new(),
            uncommitted: BTreeMap::new(),
            refused_since: None,
            owed: None,
            parked: HashSet::new(),
            unnoted: Vec::new(),
            backoff: Backoff::new(self.pauses.0, self.pauses.1),
            batch_records: self.limits.records,
        })
    }
}

impl Session<'_> {
    /// One delivery, dealt with; a fault is reported and waited out here, so the loop above has no error to handle.
    async fn step(&mut self, stop: &CancellationToken) {
        if let Err(fault) = self.advance(stop).await {
            let sink = self.drain.sink.name();
            let pause = self.backoff.next_pause(fault.retry_after);
            self.drain.stats.failed(&fault);
            warn!(sink, error = %fault, kind = ?fault.kind, failures = self.backoff.failures(), ?pause, "drain backs off");
            stop.run_until_cancelled(self.wait_out(pause)).await;
            if let Some((_, since)) = &mut self.owed {
                *since = Instant::now();
            }
        }
    }

    async fn advance(&mut self, stop: &CancellationToken) -> Result<(), Fault> {
        self.look().await?;
        if self.replaced {
            return Ok(());
        }
        // In this order: a sink without offsets of its own is read on from the group's.
        self.note_parked().await?;
        self.commit_pending().await?;
        self.claim_assigned().await?;
        let limits = BatchLimits { records: self.batch_records, ..self.drain.limits };
        let Some(delivery) = stop.run_until_cancelled(self.reader.next(limits)).await else {
            return Ok(());
        };
        match delivery? {
            Delivery::Assigned(partitions) => {
                debug!(sink = self.drain.sink.name(), ?partitions, "partitions assigned");
                self.unclaimed.extend(partitions);
            }
            Delivery::Revoked(partitions) => {
                debug!(sink = self.drain.sink.name(), ?partitions, "partitions revoked");
                self.forget(&partitions);
            }
            Delivery::Records(records) => self.apply(records).await?,
            Delivery::Idle if self.owes_a_batch() || self.is_refused_for_long() => {}
            Delivery::Idle => {
                self.pass_holes().await?;
                self.succeeded();
            }
        }
        Ok(())
    }

    /// Looks whether log and sink are still those that this run began with, and has the store remember them.
    async fn look(&mut self) -> Result<(), Fault> {
        if let Some(reading) = self.unmet.take()
            && let Err(fault) = self.drain.meet(&reading).await
        {
            // An index is drained while the store is down.
            debug!(sink = self.drain.sink.name(), error = %fault, "the store could not be told of log and sink");
            self.unmet = Some(reading);
        }
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        let now = Reading::of(&*self.drain.log, &*self.drain.sink, &self.drain.group).await;
        self.looked = Instant::now();
        let now = match now {
            Ok(now) => now,
            // Something of the sink was deleted: the next run makes it anew.
            Err(fault) if fault.part == self.drain.sink.name() && fault.kind == FaultKind::Misconfigured => {
                warn!(sink = self.drain.sink.name(), error = %fault, "the sink is not what it was: beginning anew");
                self.drain.stats.failed(&fault);
                self.replaced = true;
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        for identity in now.replaced(&self.reading) {
            warn!(
                sink = self.drain.sink.name(),
                place = identity.place,
                id = identity.id,
                "what is drained, or drained into, was replaced: beginning anew"
            );
            self.replaced = true;
        }
        Ok(())
    }

    async fn claim_assigned(&mut self) -> Result<(), Fault> {
        if self.unclaimed.is_empty() {
            return Ok(());
        }
        let partitions: Vec<i32> = self.unclaimed.iter().copied().collect();
        let claims = self.drain.sink.claim(&self.log_id, &partitions).await?;
        fail_point::pass("drain.claimed");
        let starts: Vec<(i32, StartAt)> = claims.iter().map(|claim| (claim.partition, claim.start)).collect();
        let began = self.reader.start(&starts).await?;
        for claim in claims {
            let Some(at) = began.iter().find(|at| at.partition == claim.partition) else {
                continue; // revoked meanwhile
            };
            let stored = match claim.start {
                StartAt::Offset(stored) | StartAt::NotBeyond(stored) => Some(stored),
                StartAt::Beginning | StartAt::Committed => None,
            };
            for notice in gaps::notices_of_start(self.drain.sink.name(), &self.log_id, stored, at) {
                self.drain.note(&notice).await?;
            }
            let next = match claim.start {
                // The sink compares with what it stored, even where the log made reading begin elsewhere.
                StartAt::Offset(stored) => stored,
                StartAt::Committed | StartAt::NotBeyond(_) if at.committed.is_some() => at.offset,
                // It has nothing: what the log removed is missing here, as after any other jump.
                StartAt::Beginning | StartAt::Committed | StartAt::NotBeyond(_) => 0,
            };
            self.held.insert(claim.partition, Held { epoch: claim.epoch, next });
            // What is read again is committed again.
            if self.uncommitted.get(&claim.partition).is_some_and(|&offset| at.offset < offset) {
                self.uncommitted.remove(&claim.partition);
            }
        }
        self.unclaimed.clear();
        self.report_partitions();
        Ok(())
    }

    async fn apply(&mut self, records: Vec<Record>) -> Result<(), Fault> {
        let begun = Instant::now();
        fail_point::pass("drain.fetched");
        self.obey().await;
        if records.iter().any(|record| !self.held.contains_key(&record.partition)) {
            // An erasure was made since: they are read again with those before them. The reader is past all of them, also
            // those of partitions of which nothing was to be read again.
            let owed = self.owed.take().map(|(partitions, _)| partitions).unwrap_or_default();
            let again = owed.into_iter().chain(records.iter().map(|record| record.partition));
            self.give_back(again, FaultKind::Transient);
            return Ok(());
        }
        let outcome = self.try_apply(&records).await;
        match outcome {
            Ok((applied, spans)) => {
                fail_point::pass("drain.applied");
                self.moved(spans);
                self.parked.clear();
                self.batch_records = (self.batch_records * 2).min(self.drain.limits.records);
                self.drain.stats.applied(&records, applied, begun.elapsed());
                self.succeeded();
                Ok(())
            }
            Err(fault) => {
                self.give_back(records.iter().map(|record| record.partition), fault.kind);
                Err(fault)
            }
        }
    }

    /// Moves past offsets that no reader is ever given, once nothing else is left: they are no lag.
    async fn pass_holes(&mut self) -> Result<(), Fault> {
        if self.passed.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.passed = Instant::now();
        let extents = self.drain.log.extents().await?;
        let mut spans = Vec::new();
        for extent in &extents {
            let Some(held) = self.held.get(&extent.partition).filter(|held| held.next < extent.high) else {
                continue;
            };
            let jump = Extent { low: held.next, ..*extent };
            self.drain.note_removed(&self.log_id, &gaps::removed(&[jump], &extents)).await?;
            let left = Extent { low: held.next.max(extent.low), ..*extent };
            if left.low == left.high || self.drain.log.holds_none(left).await? {
                spans.push(Span {
                    partition: extent.partition,
                    epoch: held.epoch,
                    first: held.next,
                    next: extent.high,
                });
            }
        }
        if spans.is_empty() {
            return Ok(());
        }
        let batch = SinkBatch { events: Vec::new(), spans };
        match self.drain.sink.apply(&self.log_id, &batch).await {
            Ok(_) => self.moved(batch.spans),
            Err(ApplyError::Fault(fault)) => {
                self.give_back(batch.spans.iter().map(|span| span.partition), fault.kind);
                return Err(fault);
            }
            // Nothing to reject.
            Err(ApplyError::Rejected(_)) => {}
        }
        Ok(())
    }

    /// The sink stands where these spans end.
    fn moved(&mut self, spans: Vec<Span>) {
        for span in spans {
            if let Some(held) = self.held.get_mut(&span.partition) {
                held.next = span.next;
            }
            self.uncommitted.insert(span.partition, span.next);
        }
    }

    /// Applies a batch, parking what the sink refuses until it takes the rest.
    async fn try_apply(&mut self, records: &[Record]) -> Result<(Applied, Vec<Span>), Fault> {
        let positions =
            records.iter().map(|record| Position { partition: record.partition, offset: record.offset });
        let jumps = gaps::jumps(|partition| self.held.get(&partition).map(|held| held.next), positions);
        if !jumps.is_empty() {
            let extents = self.drain.log.extents().await?;
            self.drain.note_removed(&self.log_id, &gaps::removed(&jumps, &extents)).await?;
        }
        let Read { mut batch, undecodable, erased } = self.read(records);
        self.park(records, undecodable).await?;
        loop {
            match self.drain.sink.apply(&self.log_id, &batch).await {
                Ok(mut applied) => {
                    if !erased.is_empty() {
                        // An earlier delivery may have got in before the erasure was known.
                        self.drain.sink.discard(&erased).await?;
                        applied.erased += u64::try_from(erased.len()).unwrap_or(u64::MAX);
                    }
                    return Ok((applied, batch.spans));
                }
                Err(ApplyError::Fault(fault)) => return Err(fault),
                Err(ApplyError::Rejected(rejections)) => {
                    let before = batch.events.len();
                    let refused: HashSet<Position> = rejections.iter().map(|r| r.position).collect();
                    self.park(records, rejections).await?;
                    batch.events.retain(|event| !refused.contains(&event.position));
                    if batch.events.len() == before {
                        return Err(Fault::transient(
                            self.drain.sink.name(),
                            "the sink refused records that are not in the batch",
                            "report this: it is a defect of the sink's adapter",
                        ));
                    }
                }
            }
        }
    }

    fn read(&self, records: &[Record]) -> Read {
        let mut read = Read::default();
        let mut spans: BTreeMap<i32, Span> = BTreeMap::new();
        for record in records {
            let Some(held) = self.held.get(&record.partition) else { continue };
            let position = Position { partition: record.partition, offset: record.offset };
            spans
                .entry(record.partition)
                .or_insert(Span {
                    partition: record.partition,
                    epoch: held.epoch,
                    first: held.next,
                    next: held.next,
                })
                .next = record.offset + 1;
            if self.parked.contains(&position) || record.is_erased() {
                continue;
            }
            let decoded = Event::decode(record.value.as_ref()).map_err(|error| error.to_string());
            let known = decoded.and_then(|event| match event.table(self.drain.catalog) {
                Ok(table) => Ok((event, table)),
                Err(error) => Err(error.to_string()),
            });
            match known {
                Ok((event, table)) => {
                    let raw = record.value.clone().unwrap_or_else(Bytes::new);
                    let event = SinkEvent { position, event, table, raw };
                    let is_erased = event.is_erased(&self.ledger);
                    if is_erased { &mut read.erased } else { &mut read.batch.events }.push(event);
                }
                Err(reason) => read.undecodable.push(Rejection { position, reason }),
            }
        }
        read.batch.spans = spans.into_values().collect();
        read
    }

    /// Takes note of erasures; whether it is known for certain that there are no others. What was applied by an older
    /// ledger and is not committed is read again.
    async fn obey(&mut self) -> bool {
        if self.drain.sink.obeys_erasures() {
            return true;
        }
        match self.erased.ledger().await {
            Ok(ledger) => {
                if ledger.version() != self.ledger.version() {
                    self.ledger = ledger;
                    let again: Vec<i32> = std::mem::take(&mut self.uncommitted).into_keys().collect();
                    if !again.is_empty() {
                        self.give_back(again.into_iter(), FaultKind::Transient);
                    }
                }
                true
            }
            Err(fault) => {
                debug!(sink = self.drain.sink.name(), error = %fault, "it can't be told who was erased: nothing is committed");
                false
            }
        }
    }

    /// Returns once the log has acknowledged every letter.
    async fn park(&mut self, records: &[Record], rejections: Vec<Rejection>) -> Result<(), Fault> {
        if rejections.is_empty() {
            return Ok(());
        }
        if !self.drain.parks {
            self.parked.extend(rejections.into_iter().map(|rejection| rejection.position));
            return Ok(());
        }
        let sink = self.drain.sink.name();
        let now = Utc::now();
        let limit = self.drain.log.max_record(Topic::DeadLetters).await?;
        let by_position: HashMap<Position, &Record> = records
            .iter()
            .map(|record| (Position { partition: record.partition, offset: record.offset }, record))
            .collect();
        let (mut letters, mut entities) = (Vec::with_capacity(rejections.len()), Vec::new());
        for rejection in &rejections {
            if let Some(record) = by_position.get(&rejection.position) {
                let log = &self.log_id;
                letters.push(dead_letters::from_record(record, log, sink, &rejection.reason, limit, now));
                entities.push(dead_letters::entity_of(self.drain.catalog, record));
            }
        }
        let ids: Vec<Uuid> = letters.iter().map(dead_letters::new_letter_id).collect();
        let count = letters.len() as u64;
        let positions = self.drain.log.append(Topic::DeadLetters, letters).await?;
        fail_point::pass("drain.letters_appended");
        for rejection in &rejections {
            let Position { partition, offset } = rejection.position;
            warn!(sink, partition, offset, error = rejection.reason, "record parked as a dead letter");
        }
        for ((entity, letter), at) in entities.into_iter().zip(ids).zip(positions) {
            self.unnoted.extend(entity.map(|(table, entity)| ParkedEntity {
                sink: Some(sink.to_owned()),
                table: TableName::from(table),
                entity,
                partition: at.partition,
                offset: at.offset,
                letter,
            }));
        }
        self.parked.extend(rejections.into_iter().map(|rejection| rejection.position));
        self.drain.stats.parked(count);
        self.note_parked().await
    }

    /// Tells the store which entities have open letters; what it could not be told is told before anything else.
    async fn note_parked(&mut self) -> Result<(), Fault> {
        if !self.unnoted.is_empty() {
            // Their letters are never shown; their keys are not to be kept either.
            let (catalog, ledger) = (self.drain.catalog, self.erased.ledger().await?);
            let is_erased = |one: &ParkedEntity| {
                catalog.get(&one.table.0).is_some_and(|table| ledger.holds(table, &one.entity))
            };
            self.unnoted.retain(|one| !is_erased(one));
            let letters = self.drain.log.dead_letters_identity().await?.to_string();
            self.drain.store.note_parked(&letters, &self.unnoted).await?;
            self.unnoted.clear();
        }
        Ok(())
    }

    /// After a fault: the partitions of the batch will be read again, from where the sink stands.
    fn give_back(&mut self, partitions: impl Iterator<Item = i32>, kind: FaultKind) {
        let partitions: HashSet<i32> = partitions.collect();
        if kind == FaultKind::Fenced {
            self.parked.clear();
        }
        self.batch_records = (self.batch_records / 2).max(MIN_BATCH.min(self.drain.limits.records));
        self.owed = Some((partitions.clone(), Instant::now()));
        // A claim tells where to read on, and takes the partition back from a worker that is gone.
        for partition in partitions {
            if self.held.remove(&partition).is_some() {
                self.unclaimed.insert(partition);
            }
        }
        self.report_partitions();
    }

    async fn commit_pending(&mut self) -> Result<(), Fault> {
        if self.uncommitted.is_empty() || !self.obey().await || self.uncommitted.is_empty() {
            return Ok(());
        }
        let next: Vec<Position> =
            self.uncommitted.iter().map(|(&partition, &offset)| Position { partition, offset }).collect();
        match self.reader.commit(&next).await {
            Ok(()) => {
                fail_point::pass("drain.committed");
                self.uncommitted.clear();
                self.refused_since = None;
                Ok(())
            }
            // The group is moving partitions and takes nothing from anybody. Those that go are forgotten as they are
            // revoked; those that stay are committed afterwards, since nobody else will do it.
            Err(fault) if fault.kind == FaultKind::Fenced => {
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                debug!(sink = self.drain.sink.name(), error = %fault, "commit refused, repeated later");
                if self.is_refused_for_long() {
                    self.tell_refusal(&fault, since.elapsed());
                }
                // Whatever is revoked must be heard of.
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    fn owes_a_batch(&self) -> bool {
        self.owed.as_ref().is_some_and(|(_, since)| since.elapsed() < READ_AGAIN_WITHIN)
    }

    fn is_refused_for_long(&self) -> bool {
        self.refused_since.is_some_and(|since| since.elapsed() >= REFUSED_FOR)
    }

    fn tell_refusal(&self, fault: &Fault, refused_for: Duration) {
        let told = Fault::transient(
            fault.part,
            format!("{}, for {} s by now", fault.message, refused_for.as_secs()),
            "it is tried again, and what was applied is not lost; if it stays, look at the group's members and the brokers' logs",
        );
        if self.drain.stats.report().failing_since.is_none() {
            warn!(sink = self.drain.sink.name(), error = %told, "the group takes no commit");
        }
        self.drain.stats.failed(&told);
    }

    async fn wait_out(&mut self, pause: Duration) {
        if let Err(fault) = self.reader.hold(pause).await {
            debug!(sink = self.drain.sink.name(), error = %fault, "log failed while the drain was waiting");
            tokio::time::sleep(pause).await;
        }
    }

    fn forget(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.held.remove(partition);
            self.unclaimed.remove(partition);
            self.uncommitted.remove(partition);
        }
        self.parked.retain(|position| !partitions.contains(&position.partition));
        if self.uncommitted.is_empty() {
            self.refused_since = None;
        }
        // What failed is another's to apply now.
        self.owed.take_if(|(owed, _)| {
            owed.retain(|partition| !partitions.contains(partition));
            owed.is_empty()
        });
        self.report_partitions();
    }

    fn succeeded(&mut self) {
        self.owed = None;
        self.backoff.reset();
        self.drain.stats.set_state(DrainState::Running);
    }

    fn report_partitions(&self) {
        self.drain.stats.set_partitions(self.held.keys().copied().collect());
    }
}
