//! What every place that events are drained into must do, be it a store or an index.
//!
//! A sink promises that applying the same batch again changes nothing, and that when [`Sink::apply`] returns
//! `Ok` the batch is durable.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    domain::{ErasureLedger, Event, Table},
    fault::Fault,
    identity::Identity,
    log::{Position, StartAt},
};

/// An event at its place in the log.
#[derive(Debug, Clone)]
pub struct SinkEvent {
    pub position: Position,
    pub event: Event,
    /// The table whose entity the event carries; a manual event carries none.
    pub table: Option<Table>,
    /// The record's value, as it stands in the log.
    pub raw: Bytes,
}

impl SinkEvent {
    /// Whether its entity was erased.
    pub fn is_erased(&self, ledger: &ErasureLedger) -> bool {
        self.table.is_some_and(|table| ledger.holds(table, &self.event.entidade.id))
    }

    /// Whether it is an event of no table, or has a key of the type that its table's keys have now.
    pub fn has_key(&self) -> bool {
        self.table.is_none_or(|table| table.key.kind.is_key(&self.event.entidade.id))
    }

    /// Why no sink takes its key. An event of before the table's key was replaced is taken, and makes no entity.
    pub fn key_problem(&self) -> Option<&'static str> {
        let is_taken = self.has_key() || self.event.is_of_row();
        (!is_taken).then_some("entidade.id is no key of its table in the one spelling it has everywhere")
    }
}

/// A run of consecutive offsets of one partition that a batch covers, dead letters and holes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub partition: i32,
    /// The epoch the sink gave with the claim.
    pub epoch: i64,
    /// The offset the sink must stand at for this batch to be the right one.
    pub first: i64,
    /// Where the sink stands afterwards.
    pub next: i64,
}

/// What is applied in one go.
#[derive(Debug, Clone, Default)]
pub struct SinkBatch {
    /// Ascending by offset within each partition.
    pub events: Vec<SinkEvent>,
    /// One a partition. May cover offsets without an event.
    pub spans: Vec<Span>,
}

impl SinkBatch {
    /// The newest event of every entity of a table in this batch, in the order of their offsets; of before the table's key was
    /// replaced there is none.
    ///
    /// One statement can't upsert the same row twice, and a version that a later one replaces need not be written.
    pub fn newest_of(&self, table: Table) -> Vec<&SinkEvent> {
        let mut newest: HashMap<&str, usize> = HashMap::new();
        for (i, candidate) in self.events.iter().enumerate() {
            if candidate.table != Some(table) || !candidate.has_key() {
                continue;
            }
            newest
                .entry(&candidate.event.entidade.id)
                .and_modify(|held| {
                    // On equal versions the later offset wins, as it would event by event.
                    if self.events[*held].event.entidade.versao <= candidate.event.entidade.versao {
                        *held = i;
                    }
                })
                .or_insert(i);
        }
        let mut chosen: Vec<usize> = newest.into_values().collect();
        chosen.sort_unstable();
        chosen.into_iter().map(|i| &self.events[i]).collect()
    }
}

/// A partition this process may write, until somebody else claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub partition: i32,
    /// Handed back in every [`Span`]; a later claim of the partition makes it worthless.
    pub epoch: i64,
    /// Where reading must start.
    pub start: StartAt,
}

/// What a batch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Events that were not there before.
    pub inserted: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Entities created or moved forward.
    pub entities: u64,
    /// Entities that already had this version or a later one.
    pub stale: u64,
    /// Pieces of the events' rows that the sink can't hold and replaced: NUL characters, lone surrogates, numbers beyond
    /// any it knows. Counted at each delivery.
    pub replaced: u64,
    /// Events left out because their entity was erased.
    pub erased: u64,
}

/// An event a sink can never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its place in the log.
    pub position: Position,
    /// The sink's reason, without the event's values.
    pub reason: String,
}

/// Why a batch was not applied.
#[derive(Debug, Clone)]
pub enum ApplyError {
    /// These events can never be applied, the others can: park them, then apply the batch without them.
    /// Never empty.
    Rejected(Vec<Rejection>),
    Fault(Fault),
}

impl From<Fault> for ApplyError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// How a sink is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinkHealth {
    pub version: String,
    /// The server's time, as far as it told; `None` for a part of this machine.
    pub clock: Option<DateTime<Utc>>,
}

/// A place events are drained into.
#[async_trait]
pub trait Sink: Send + Sync {
    /// `postgres`, `elasticsearch`: part of the consumer group's name, so it never changes.
    fn name(&self) -> &'static str;

    /// Which store or index this is now, piece by piece: where one of them was emptied, made anew or restored, or is
    /// another of the same name, its identity is another.
    ///
    /// # Errors
    /// When the sink can't be reached or is not prepared.
    async fn identities(&self) -> Result<Vec<Identity>, Fault>;

    /// Brings tables or templates up to date. Safe to repeat, and for several processes at once.
    ///
    /// # Errors
    /// When the sink can't be reached or refuses.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Takes partitions of a log over from whoever wrote them before and tells where to read on.
    ///
    /// # Errors
    /// When the sink can't be reached.
    async fn claim(&self, log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault>;

    /// Applies a batch as a whole.
    ///
    /// # Errors
    /// [`ApplyError::Rejected`] for events that can never be applied; otherwise a fault, after which nothing of
    /// the batch counts as applied. A fault of kind [`crate::fault::FaultKind::Fenced`] means a claim was lost.
    async fn apply(&self, log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError>;

    /// How many batches, each of partitions of its own, are worth applying at the same time.
    fn lanes(&self) -> usize {
        1
    }

    /// Whether a batch may be begun with before the one that came before it has ended. Only of the same event, or of equal
    /// versions of one entity, the order then matters; those are never under way in two batches.
    fn takes_any_order(&self) -> bool {
        false
    }

    /// Whether [`Sink::apply`] itself leaves out what is about erased entities. Where it does not, whoever applies does,
    /// and sees to it with [`Sink::discard`] that nothing came in before it knew of the erasure.
    fn obeys_erasures(&self) -> bool {
        false
    }

    /// What stays of deleted content where it is kept, and for how long; `None` where nothing does.
    fn left_behind(&self) -> Option<&'static str> {
        None
    }

    /// Removes what events of erased entities brought, whether it is there or not: the events and the entities they carry. An
    /// index may remove the entities' other events with them.
    ///
    /// # Errors
    /// When the sink can't be reached.
    async fn discard(&self, events: &[SinkEvent]) -> Result<(), Fault>;

    /// Removes events wherever they stand, and not the entities they carried: what a store has trimmed. What is removed is
    /// visible.
    ///
    /// # Errors
    /// When the sink can't be reached; then some may be gone.
    async fn remove_events(&self, ids: &[Uuid]) -> Result<(), Fault>;

    /// The next offset this sink needs of each partition, where it keeps them itself; `None` when the consumer
    /// group's committed offsets are the truth.
    ///
    /// # Errors
    /// When the sink can't be reached.
    async fn applied(&self, log: &str) -> Result<Option<Vec<Position>>, Fault>;

    /// How far the sink itself is, where it notes that although the group's offsets are the truth: it went back where it is
    /// behind them.
    ///
    /// # Errors
    /// When the sink can't be reached.
    async fn reached(&self, _log: &str) -> Result<Vec<Position>, Fault> {
        Ok(Vec::new())
    }

    /// Makes everything applied so far visible to queries.
    ///
    /// # Errors
    /// When the sink can't be reached.
    async fn make_visible(&self) -> Result<(), Fault>;

    /// Asks for the version: nothing that takes the longer the more the sink holds.
    ///
    /// # Errors
    /// When the sink can't be reached.
    async fn health(&self) -> Result<SinkHealth, Fault>;

    /// Counts the documents or rows of `eventos` or `eventos_raw`, and of every table of the catalog.
    ///
    /// # Errors
    /// When the sink can't be reached or is not prepared.
    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault>;
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::{Catalog, Json, SourceRow};

    fn leads() -> Table {
        Catalog::built_in().get("leads").expect("leads")
    }

    fn lead_at(offset: i64, id: u128, versao: i64) -> SinkEvent {
        let row = Json::from(&serde_json::json!({"id": uuid::Uuid::from_u128(id)}));
        let row = SourceRow::read(leads(), row).expect("a row");
        let (event, _) = row.event(DateTime::UNIX_EPOCH, versao);
        SinkEvent {
            position: Position { partition: 0, offset },
            table: Some(leads()),
            raw: event.encode(),
            event,
        }
    }

    #[test]
    fn newest_of_keeps_the_highest_version_and_the_later_of_equals() {
        let batch = SinkBatch {
            events: vec![lead_at(1, 1, 2), lead_at(2, 2, 1), lead_at(3, 1, 1), lead_at(4, 2, 1)],
            spans: Vec::new(),
        };
        let offsets: Vec<_> = batch.newest_of(leads()).iter().map(|e| e.position.offset).collect();
        assert_eq!(offsets, [1, 4]);
        let sessions = Catalog::built_in().get("chat_sessions").expect("chat_sessions");
        assert!(batch.newest_of(sessions).is_empty());
    }
}
