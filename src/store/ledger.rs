//! What was appended of every entity, beside what the store has of it: what a reconciliation compares.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Appended;
use crate::{domain::Table, fault::Fault};

/// An entity as it was appended last, and as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub appended: Appended,
    /// The version in the table of entities; `None` where it is not there.
    pub held: Option<i64>,
    /// The event is among the stored events.
    pub has_event: bool,
}

/// How many entities of a table there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// In the store.
    pub entities: u64,
    /// Appended to the log, and not removed since.
    pub appended: u64,
    /// With an open dead letter.
    pub parked: u64,
}

/// An entity in the store of which nothing was ever appended to this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    pub key: String,
    pub versao: i64,
}

/// How far a reading of a whole table has come, for whoever goes on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedReading {
    /// The server's time when it began.
    pub began_at: DateTime<Utc>,
    /// The key of the last row that was shown, as the source spells it.
    pub after: String,
    /// What was shown so far; its meaning is the engine's.
    pub keys: Vec<u8>,
    /// Rows without a usable key.
    pub unkeyed: u64,
    /// Rows of erased entities.
    pub erased: u64,
}

/// Some of the store's entities, looked through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StrangerPage {
    pub strangers: Vec<Stranger>,
    /// Where to look on; `None` behind the last entity.
    pub last: Option<String>,
}

/// The part of the store port that a reconciliation reads.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The next `limit` entities that were appended to a log, in the order of their keys' bytes, each with what the store
    /// has of it: one question a range, whether it differs or not. Rows that were parked because they have no key are
    /// none.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn entries(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Entry>, Fault>;

    /// How many entities of a table the store has, how many were appended to a log, and how many have an open letter among
    /// `letters`: in one question.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn tally(&self, log: &str, letters: &str, table: Table) -> Result<Tally, Fault>;

    /// How many entities of a table the store has.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn entity_count(&self, table: Table) -> Result<u64, Fault>;

    /// Looks through the next `limit` entities of a table, in the order that suits the store, for those of which nothing
    /// was appended to a log.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn strangers(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<StrangerPage, Fault>;

    /// The reading of a table into a log that was left off.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn saved_reading(&self, log: &str, table: Table) -> Result<Option<SavedReading>, Fault>;

    /// Keeps how far a reading is, or forgets that there is one.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn save_reading(
        &self,
        log: &str,
        table: Table,
        reading: Option<&SavedReading>,
    ) -> Result<(), Fault>;

    /// Those of these entities that have an open dead letter.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn parked(&self, log: &str, table: Table, keys: &[String]) -> Result<HashSet<String>, Fault>;
}
