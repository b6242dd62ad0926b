//! Forgetting what a store remembers of itself: the syncs of long ago, and what was decided about letters that the log holds no
//! more. What anything else still asks for stays, whatever its age.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{domain::TableName, fault::Fault, log::Extent};

/// The part of the store port that forgets.
#[async_trait]
pub trait Forgetting: Send + Sync {
    /// Forgets at most `limit` syncs that began before an instant and are over, and tells how many. Of each table stay the last
    /// that ended, the last that succeeded, the last reconciliation, and the last that proved the table.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn forget_syncs(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, Fault>;

    /// Forgets what was decided about letters in these places of a log. Letters there that nobody settled stay noted, and so
    /// do discarded ones of rows that made no event, while what was appended to the log `events` is remembered of the row: they
    /// are what explains it.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn forget_letters(&self, log: &str, events: &str, extent: Extent) -> Result<(), Fault>;

    /// The first letter of a partition that nobody settled.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn first_open(&self, log: &str, extent: Extent) -> Result<Option<i64>, Fault>;

    /// How many letters of each table were open and are in the log no more: those of other logs than this one, and those
    /// below what it holds of their partition.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn lost_letters(&self, log: &str, extents: &[Extent]) -> Result<Vec<(TableName, u64)>, Fault>;

    /// Forgets that rows of a table were read that made no event for the log `events`, where no letter of this log tells of
    /// them any more: those that are still wrong are parked again when they are read, unless a letter of theirs was settled by
    /// an erasure. Tells how many.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn forget_lost_rows(
        &self,
        log: &str,
        extents: &[Extent],
        events: &str,
        table: &TableName,
    ) -> Result<u64, Fault>;

    /// Settles, as mended, a table's letters that [`Forgetting::lost_letters`] counts; tells how many.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn settle_lost_letters(
        &self,
        log: &str,
        extents: &[Extent],
        table: &TableName,
    ) -> Result<u64, Fault>;
}
