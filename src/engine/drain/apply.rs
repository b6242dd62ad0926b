//! Applying a batch: parking what the sink refuses, and leaving out whom somebody erased.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    panic::resume_unwind,
    sync::Arc,
    time::Instant,
};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug, warn};
use uuid::Uuid;

use super::{
    LOOK_EVERY, LOOK_IDLE_EVERY, MIN_BATCH, STANDS_BY_AFTER, Session,
    batch::{self, Batch, Decoded, Read},
};
use crate::{
    domain::TableName,
    engine::{dead_letters, erased, gaps, trim},
    fail_point,
    fault::Fault,
    log::{Extent, Position, Record, Topic},
    sink::{Applied, ApplyError, Rejection, Sink, SinkBatch, SinkEvent, Span},
    store::ParkedEntity,
    traces::Taken,
};

/// Records of a batch that are applied as one, beside others.
struct Lane {
    records: Vec<Record>,
    /// When the rows they are of say that they were changed.
    changed_at: Vec<DateTime<Utc>>,
    batch: SinkBatch,
    /// Of erased entities.
    erased: Vec<SinkEvent>,
}

type Outcome = Result<Applied, ApplyError>;

/// A batch on its way into the sink.
pub(super) struct Flight {
    partitions: BTreeSet<i32>,
    /// When it was taken up.
    begun: Instant,
    taken: Option<Taken>,
    /// What no batch beside it may have.
    marks: HashSet<u64>,
    applying: AbortOnDropHandle<Vec<(Lane, Outcome)>>,
}

/// What is on its way when one fails is waited for: nothing of a batch is written after it was given back.
async fn apply(sink: Arc<dyn Sink>, log: String, lanes: Vec<Lane>) -> Vec<(Lane, Outcome)> {
    let outcomes = join_all(lanes.iter().map(|lane| sink.apply(&log, &lane.batch))).await;
    lanes.into_iter().zip(outcomes).collect()
}

impl Session<'_> {
    /// Has the sink begin with a batch.
    pub(super) async fn begin(&mut self, batch: Batch) -> Result<(), Fault> {
        let begun = Instant::now();
        fail_point::pass("drain.fetched");
        self.obey().await?;
        let partitions = batch.partitions().clone();
        if partitions.iter().any(|partition| !self.held.contains_key(partition)) {
            // An erasure was made since: they are read again with those before them. The reader is past all of them.
            self.give_back(partitions.into_iter());
            return Ok(());
        }
        let (records, decoded) = batch.decoded().await?;
        // What is only read again was traced before.
        let taken = if self.drain.parks { Taken::up(&records) } else { None };
        let lanes = match self.lanes(records, decoded).await {
            Ok(lanes) => lanes,
            Err(fault) => {
                self.tell_end(taken, Some(&fault));
                return Err(fault);
            }
        };
        let mut marks = HashSet::new();
        if self.drain.sink.takes_any_order() {
            marks = batch::marks(lanes.iter().flat_map(|lane| &lane.batch.events));
        }
        while self.flights.iter().any(|flight| !flight.marks.is_disjoint(&marks)) {
            if let Err(fault) = self.land().await {
                self.tell_end(taken, Some(&fault));
                return Err(fault);
            }
        }
        for span in lanes.iter().flat_map(|lane| &lane.batch.spans) {
            if let Some(held) = self.held.get_mut(&span.partition) {
                held.next = span.next;
            }
        }
        let applying = apply(self.drain.sink.clone(), self.log_id.clone(), lanes).in_current_span();
        let applying = AbortOnDropHandle::new(tokio::spawn(applying));
        self.flights.push_back(Flight { partitions, begun, taken, marks, applying });
        Ok(())
    }

    /// Waits until the oldest batch that is on its way is applied.
    pub(super) async fn land(&mut self) -> Result<(), Fault> {
        let Some(Flight { partitions, begun, taken, applying, .. }) = self.flights.pop_front() else {
            return Ok(());
        };
        let outcome = match applied_by(applying).await {
            Ok(outcomes) => self.landed(outcomes, begun).await,
            Err(fault) => Err(fault),
        };
        self.tell_end(taken, outcome.as_ref().err());
        match outcome {
            Ok(()) => {
                self.batch_records = (self.batch_records * 2).min(self.drain.limits.records);
                self.succeeded();
                Ok(())
            }
            Err(fault) => {
                self.batch_records = (self.batch_records / 2).max(MIN_BATCH.min(self.drain.limits.records));
                self.give_back(partitions.into_iter());
                self.call_off().await;
                Err(fault)
            }
        }
    }

    /// Waits until everything that is on its way is applied.
    pub(super) async fn land_all(&mut self) -> Result<(), Fault> {
        while !self.flights.is_empty() {
            self.land().await?;
        }
        Ok(())
    }

    /// Waits until nothing is on its way any more, and has all of it read again: what comes before it may be missing.
    pub(super) async fn call_off(&mut self) {
        while let Some(Flight { partitions, taken, applying, .. }) = self.flights.pop_front() {
            let outcome = applied_by(applying).await;
            self.tell_end(taken, outcome.as_ref().err());
            if let Ok(outcomes) = outcome {
                self.note_late(&outcomes).await.ok();
            }
            self.give_back(partitions.into_iter());
        }
        // Where it fails, it is done before anything else.
        self.discard_erased().await.ok();
    }

    /// Notes whoever was erased while these were written: a log that erases holds nothing any more by which they would be left
    /// out when it is read again.
    async fn note_late(&mut self, outcomes: &[(Lane, Outcome)]) -> Result<(), Fault> {
        if self.drain.sink.obeys_erasures() {
            return Ok(());
        }
        let events = outcomes.iter().flat_map(|(lane, _)| &lane.batch.events);
        match self.erased.ledger().await {
            Ok(ledger) if ledger.version() != self.ledger.version() => {
                self.undiscarded.extend(events.filter(|event| event.is_erased(&ledger)).cloned());
                Ok(())
            }
            Err(fault) if self.drain.log.can_erase() => {
                self.doubtful.extend(events.map(|event| (event.position, event.clone())));
                Err(fault)
            }
            // Of another log, it is not committed before that can be told, and read again as it was.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Removes what deliveries brought of erased entities.
    pub(super) async fn discard_erased(&mut self) -> Result<(), Fault> {
        if !self.doubtful.is_empty() {
            let ledger = self.erased.ledger().await?;
            let doubtful = std::mem::take(&mut self.doubtful).into_values();
            self.undiscarded.extend(doubtful.filter(|event| event.is_erased(&ledger)));
        }
        if !self.undiscarded.is_empty() {
            self.drain.sink.discard(&self.undiscarded).await?;
            self.undiscarded.clear();
        }
        Ok(())
    }

    fn tell_end(&self, taken: Option<Taken>, fault: Option<&Fault>) {
        if let Some(taken) = taken {
            taken.ended(&*self.drain.log, &self.reading.group, self.drain.sink.name(), fault);
        }
    }

    /// Moves past offsets that no reader is ever given, once nothing else is left: they are no lag. Whether it was found
    /// that nothing is left.
    pub(super) async fn pass_holes(&mut self) -> Result<bool, Fault> {
        if self.passed.elapsed() < if self.has_all { LOOK_IDLE_EVERY } else { LOOK_EVERY } {
            return Ok(false);
        }
        self.passed = Instant::now();
        self.has_all = false;
        let extents = self.drain.log.extents().await?;
        let mut spans = Vec::new();
        let mut has_all = !self.held.is_empty() || self.opened.elapsed() >= STANDS_BY_AFTER;
        for extent in &extents {
            let Some(held) = self.held.get(&extent.partition).filter(|held| held.next < extent.high) else {
                continue;
            };
            let jump = Extent { low: held.next, ..*extent };
            self.drain.note_removed(&self.log_id, vec![jump], &extents).await?;
            let (epoch, next) = (held.epoch, held.next);
            let left = Extent { low: next.max(extent.low), ..*extent };
            let mut is_passed = left.low == left.high;
            if !is_passed && self.drain.log.holds_none(left).await? {
                // Retention may have taken it since the extents were asked for.
                self.drain.note_removed(&self.log_id, vec![left], &self.drain.log.extents().await?).await?;
                is_passed = true;
            }
            if is_passed {
                spans.push(Span { partition: extent.partition, epoch, first: next, next: extent.high });
            } else {
                has_all = false;
            }
        }
        if spans.is_empty() {
            self.has_all = has_all;
            return Ok(has_all);
        }
        let batch = SinkBatch { events: Vec::new(), spans };
        match self.drain.sink.apply(&self.log_id, &batch).await {
            Ok(_) => {
                for span in &batch.spans {
                    self.held.entry(span.partition).and_modify(|held| held.next = span.next);
                }
                self.moved(&batch.spans);
            }
            Err(ApplyError::Fault(fault)) => {
                self.give_back(batch.spans.iter().map(|span| span.partition));
                return Err(fault);
            }
            // Nothing to reject.
            Err(ApplyError::Rejected(_)) => {}
        }
        Ok(has_all)
    }

    /// The sink stands where these spans end.
    fn moved(&mut self, spans: &[Span]) {
        self.has_all = false;
        self.uncommitted.extend(spans.iter().map(|span| (span.partition, span.next)));
    }

    /// What of a batch is to be applied, in as many lanes as the sink takes at a time.
    async fn lanes(&mut self, records: Vec<Record>, decoded: Vec<Decoded>) -> Result<Vec<Lane>, Fault> {
        let positions =
            records.iter().map(|record| Position { partition: record.partition, offset: record.offset });
        let jumps = gaps::jumps(|partition| self.held.get(&partition).map(|held| held.next), positions);
        if !jumps.is_empty() {
            let extents = self.drain.log.extents().await?;
            self.drain.note_removed(&self.log_id, jumps, &extents).await?;
        }
        let mut lanes = Vec::new();
        for (records, decoded) in batch::lanes(records, decoded, self.drain.sink.lanes()) {
            lanes.push(self.lane(records, decoded).await?);
        }
        Ok(lanes)
    }

    /// What became of a batch: what the sink refuses is parked, until it takes the rest.
    async fn landed(&mut self, mut outcomes: Vec<(Lane, Outcome)>, begun: Instant) -> Result<(), Fault> {
        while !outcomes.is_empty() {
            self.note_late(&outcomes).await?;
            let (mut refused, mut fault) = (Vec::new(), None);
            for (lane, outcome) in outcomes {
                let applied = match outcome {
                    Ok(applied) => self.applied(lane, applied, begun).await,
                    Err(ApplyError::Fault(fault)) => Err(fault),
                    Err(ApplyError::Rejected(rejections)) => {
                        refused.push((lane, rejections));
                        Ok(())
                    }
                };
                if let Err(met) = applied {
                    fault.get_or_insert(met);
                }
            }
            if let Some(fault) = fault {
                return Err(fault);
            }
            let mut lanes = Vec::with_capacity(refused.len());
            for (lane, rejections) in refused {
                lanes.push(self.without(lane, rejections).await?);
            }
            outcomes = apply(self.drain.sink.clone(), self.log_id.clone(), lanes).await;
        }
        Ok(())
    }

    /// What of these records is to be applied; what can't be read is parked.
    async fn lane(&mut self, records: Vec<Record>, decoded: Vec<Decoded>) -> Result<Lane, Fault> {
        let changed_at = decoded.iter().filter_map(Decoded::changed_at).collect();
        let Read { batch, mut undecodable, undefined, erased } =
            batch::assemble(&records, decoded, &self.held, &self.parked, &self.ledger);
        if self.drain.sink.name() == self.drain.store.name() {
            undecodable.extend(undefined);
        } else {
            // The indices of one definition more are read into from the beginning of the log: parked here, these would be
            // parked again at each definition. The store never reads them again, so it is where they are parked.
            self.undefined += undefined.len();
        }
        self.park(&records, undecodable).await?;
        Ok(Lane { records, changed_at, batch, erased })
    }

    /// The sink has it.
    async fn applied(&mut self, lane: Lane, mut applied: Applied, begun: Instant) -> Result<(), Fault> {
        let Lane { records, changed_at, batch, erased } = lane;
        // An earlier delivery may have got in before the erasure was known.
        self.undiscarded.extend(erased);
        applied.erased += u64::try_from(self.undiscarded.len()).unwrap_or(u64::MAX);
        self.discard_erased().await?;
        let (store, sink) = (&*self.drain.store, &*self.drain.sink);
        trim::leave_out(store, sink, &batch.events).await?;
        fail_point::pass("drain.applied");
        self.moved(&batch.spans);
        self.drain.stats.applied(&records, &changed_at, applied, begun.elapsed());
        Ok(())
    }

    /// The same without what the sink refused of it, which is parked.
    async fn without(&mut self, mut lane: Lane, rejections: Vec<Rejection>) -> Result<Lane, Fault> {
        let before = lane.batch.events.len();
        let refused: HashSet<Position> = rejections.iter().map(|rejection| rejection.position).collect();
        self.park(&lane.records, rejections).await?;
        lane.batch.events.retain(|event| !refused.contains(&event.position));
        if lane.batch.events.len() == before {
            return Err(Fault::transient(
                self.drain.sink.name(),
                "the sink refused records that are not in the batch",
                "report this: it is a defect of the sink's adapter",
            ));
        }
        Ok(lane)
    }

    /// Takes note of erasures; whether it is known for certain that there are no others. What was applied by an older
    /// ledger and is not committed is read again.
    pub(super) async fn obey(&mut self) -> Result<bool, Fault> {
        if self.drain.sink.obeys_erasures() {
            return Ok(true);
        }
        match self.erased.ledger().await {
            Ok(ledger) => {
                if ledger.version() != self.ledger.version() {
                    // What is on its way was made by the older one.
                    self.land_all().await?;
                    self.ledger = ledger;
                    let again: Vec<i32> = std::mem::take(&mut self.uncommitted).into_keys().collect();
                    if !again.is_empty() {
                        self.give_back(again.into_iter());
                    }
                }
                Ok(true)
            }
            Err(fault) => {
                debug!(sink = self.drain.sink.name(), error = %fault, "it can't be told who was erased: nothing is committed");
                Ok(false)
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
    pub(super) async fn note_parked(&mut self) -> Result<(), Fault> {
        if !self.unnoted.is_empty() {
            // An erasure that was made meanwhile found none of their letters, and their keys are not to be kept.
            let (catalog, ledger) = (self.drain.catalog, self.erased.ledger().await?);
            let is_erased = |one: &ParkedEntity| {
                catalog.get(&one.table.0).is_some_and(|table| ledger.holds(table, &one.entity))
            };
            let erased: Vec<ParkedEntity> =
                self.unnoted.iter().filter(|one| is_erased(one)).cloned().collect();
            let (store, log) = (&*self.drain.store, &*self.drain.log);
            if !erased.is_empty() {
                let by = format!("drain into {}", self.drain.sink.name());
                erased::settle_parked(store, log, &erased, &by).await?;
                store.forget_erased().await?;
            }
            self.unnoted.retain(|one| !is_erased(one));
            let letters = self.drain.log.dead_letters_identity().await?.to_string();
            self.drain.store.note_parked(&letters, &self.unnoted).await?;
            self.unnoted.clear();
        }
        Ok(())
    }
}

/// What became of the lanes of a batch.
async fn applied_by(
    applying: AbortOnDropHandle<Vec<(Lane, Outcome)>>,
) -> Result<Vec<(Lane, Outcome)>, Fault> {
    applying.await.map_err(|error| match error.try_into_panic() {
        // As if it had been applied here.
        Ok(panic) => resume_unwind(panic),
        Err(error) => Fault::transient("drain", format!("applying was cut: {error}"), "it is tried again"),
    })
}
