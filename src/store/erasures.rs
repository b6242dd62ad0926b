//! Erasing people from a store, and remembering that they were.
//!
//! A store promises that no batch is written beside an erasure: each is applied wholly before it, and what it brought is
//! removed, or wholly after it, and what is about the erased is left out.

use std::{borrow::Cow, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    domain::{ErasureLedger, Table},
    fault::Fault,
    sink::SinkBatch,
};

/// What an erasure removed from a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErasedRows {
    pub entities: u64,
    pub events: u64,
    /// What was remembered of the entities besides: marks of what was appended and removed, notes of parked rows.
    pub marks: u64,
    /// Keys that the ledger did not hold before.
    pub new: u64,
}

impl ErasedRows {
    /// Whether nothing was known of so many keys.
    pub(super) fn are_strangers(&self, keys: usize) -> bool {
        self.entities + self.events + self.marks == 0 && usize::try_from(self.new) == Ok(keys)
    }
}

/// The part of the store port that erases.
#[async_trait]
pub trait Erasures: Send + Sync {
    /// The ledger, where its version is another than the one that is `known`.
    ///
    /// # Errors
    /// When the store can't be reached or is not migrated.
    async fn erasures(&self, known: Option<Uuid>) -> Result<Option<ErasureLedger>, Fault>;

    /// The keys of a table's entities of which any version that is stored holds one of these texts in a column, in any case
    /// and whatever white space is around it; where entities are looked up by the column, also within a list. Every event is
    /// looked at, which takes what it takes, or no longer than `limit`.
    ///
    /// # Errors
    /// When the store can't be reached, or it takes longer.
    async fn keys_with(
        &self,
        table: Table,
        column: &str,
        values: &[String],
        limit: Option<Duration>,
    ) -> Result<Vec<String>, Fault>;

    /// Writes keys, each in its one spelling, into the ledger and removes whatever the store has of their entities:
    /// rows, events, marks, and what syncs were asked for by columns that may name them. The rollup is counted anew where
    /// events were in it. Repeating it changes nothing. `None` where
    /// neither the store nor its ledger has anything of them: then the ledger is not written, unless they are known
    /// `elsewhere`.
    ///
    /// # Errors
    /// When the store can't be reached; then nothing was removed.
    async fn erase(
        &self,
        table: Table,
        keys: &[String],
        elsewhere: bool,
    ) -> Result<Option<ErasedRows>, Fault>;

    /// Removes what erasing left in the store's files, where the store can.
    ///
    /// # Errors
    /// When something of it may still be there.
    async fn forget_erased(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// A batch without the events of entities that were erased.
pub(super) fn without_erased<'a>(batch: &'a SinkBatch, ledger: &ErasureLedger) -> Cow<'a, SinkBatch> {
    if batch.events.iter().any(|event| event.is_erased(ledger)) {
        let events = batch.events.iter().filter(|event| !event.is_erased(ledger)).cloned().collect();
        Cow::Owned(SinkBatch { events, spans: batch.spans.clone() })
    } else {
        Cow::Borrowed(batch)
    }
}
