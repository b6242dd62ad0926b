//! Applying a batch: parking what the sink refuses, and leaving out whom somebody erased.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use chrono::Utc;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    LOOK_EVERY, LOOK_IDLE_EVERY, STANDS_BY_AFTER, Session,
    batch::{self, Batch, Decoded, Read},
};
use crate::{
    domain::TableName,
    engine::{dead_letters, gaps, trim},
    fail_point,
    fault::{Fault, FaultKind},
    log::{Extent, Position, Record, Topic},
    sink::{Applied, ApplyError, Rejection, SinkBatch, Span},
    store::ParkedEntity,
    traces::Taken,
};

impl Session<'_> {
    pub(super) async fn apply(&mut self, batch: Batch) -> Result<(), Fault> {
        let begun = Instant::now();
        fail_point::pass("drain.fetched");
        self.obey().await;
        let partitions = batch.partitions().clone();
        if partitions.is_empty() {
            return Ok(()); // all of them went
        }
        if partitions.iter().any(|partition| !self.held.contains_key(partition)) {
            // An erasure was made since: they are read again with those before them. The reader is past all of them, also
            // those of partitions of which nothing was to be read again.
            let owed = self.owed.take().map(|(partitions, _)| partitions).unwrap_or_default();
            self.give_back(owed.into_iter().chain(partitions), FaultKind::Transient);
            return Ok(());
        }
        let outcome = match batch.decoded().await {
            Ok((records, decoded)) => {
                let changed_at: Vec<_> = decoded.iter().filter_map(Decoded::changed_at).collect();
                // What is only read again was traced before.
                let taken = if self.drain.parks { Taken::up(&records) } else { None };
                let applied = self.try_apply(&records, decoded).await;
                if let Some(taken) = taken {
                    let (log, sink) = (&*self.drain.log, self.drain.sink.name());
                    taken.ended(log, &self.reading.group, sink, applied.as_ref().err());
                }
                applied.map(|(applied, spans)| (records, changed_at, applied, spans))
            }
            Err(fault) => Err(fault),
        };
        match outcome {
            Ok((records, changed_at, applied, spans)) => {
                fail_point::pass("drain.applied");
                self.moved(spans);
                self.parked.clear();
                self.batch_records = (self.batch_records * 2).min(self.drain.limits.records);
                self.drain.stats.applied(&records, &changed_at, applied, begun.elapsed());
                self.succeeded();
                Ok(())
            }
            Err(fault) => {
                self.give_back(partitions.into_iter(), fault.kind);
                Err(fault)
            }
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
            self.drain.note_removed(&self.log_id, &gaps::removed(&[jump], &extents)).await?;
            let left = Extent { low: held.next.max(extent.low), ..*extent };
            if left.low == left.high || self.drain.log.holds_none(left).await? {
                spans.push(Span {
                    partition: extent.partition,
                    epoch: held.epoch,
                    first: held.next,
                    next: extent.high,
                });
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
            Ok(_) => self.moved(batch.spans),
            Err(ApplyError::Fault(fault)) => {
                self.give_back(batch.spans.iter().map(|span| span.partition), fault.kind);
                return Err(fault);
            }
            // Nothing to reject.
            Err(ApplyError::Rejected(_)) => {}
        }
        Ok(has_all)
    }

    /// The sink stands where these spans end.
    fn moved(&mut self, spans: Vec<Span>) {
        self.has_all = false;
        for span in spans {
            if let Some(held) = self.held.get_mut(&span.partition) {
                held.next = span.next;
            }
            self.uncommitted.insert(span.partition, span.next);
        }
    }

    /// Applies a batch, parking what the sink refuses until it takes the rest.
    async fn try_apply(
        &mut self,
        records: &[Record],
        decoded: Vec<Decoded>,
    ) -> Result<(Applied, Vec<Span>), Fault> {
        let positions =
            records.iter().map(|record| Position { partition: record.partition, offset: record.offset });
        let jumps = gaps::jumps(|partition| self.held.get(&partition).map(|held| held.next), positions);
        if !jumps.is_empty() {
            let extents = self.drain.log.extents().await?;
            self.drain.note_removed(&self.log_id, &gaps::removed(&jumps, &extents)).await?;
        }
        let Read { mut batch, mut undecodable, undefined, erased } =
            batch::assemble(records, decoded, &self.held, &self.parked, &self.ledger);
        if self.drain.sink.name() == self.drain.store.name() {
            undecodable.extend(undefined);
        } else {
            // The indices of one definition more are read into from the beginning of the log: parked here, these would be
            // parked again at each definition. The store never reads them again, so it is where they are parked.
            self.undefined += undefined.len();
        }
        self.park(records, undecodable).await?;
        loop {
            match self.drain.sink.apply(&self.log_id, &batch).await {
                Ok(mut applied) => {
                    if !erased.is_empty() {
                        // An earlier delivery may have got in before the erasure was known.
                        self.drain.sink.discard(&erased).await?;
                        applied.erased += u64::try_from(erased.len()).unwrap_or(u64::MAX);
                    }
                    trim::leave_out(&*self.drain.store, &*self.drain.sink, &batch.events).await?;
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

    /// Takes note of erasures; whether it is known for certain that there are no others. What was applied by an older
    /// ledger and is not committed is read again.
    pub(super) async fn obey(&mut self) -> bool {
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
    pub(super) async fn note_parked(&mut self) -> Result<(), Fault> {
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
}
