//! Applying a batch: on its way into the sink, landed, or called off.

use std::{
    collections::{BTreeSet, HashSet},
    panic::resume_unwind,
    sync::Arc,
    time::Instant,
};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    LOOK_EVERY, LOOK_IDLE_EVERY, MIN_BATCH, STANDS_BY_AFTER, Session,
    batch::{self, Batch, Decoded, Read},
};
use crate::{
    engine::{gaps, trim},
    fail_point,
    fault::Fault,
    log::{Extent, Position, Record},
    sink::{Applied, ApplyError, Rejection, Sink, SinkBatch, SinkEvent, Span},
    traces::Taken,
};

/// Records of a batch that are applied as one, beside others.
pub(super) struct Lane {
    records: Vec<Record>,
    /// When the rows they are of say that they were changed.
    changed_at: Vec<DateTime<Utc>>,
    pub(super) batch: SinkBatch,
    /// Of erased entities.
    erased: Vec<SinkEvent>,
}

pub(super) type Outcome = Result<Applied, ApplyError>;

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
