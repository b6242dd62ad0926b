//! What was appended of every entity, beside what the store has of it: what a reconciliation compares.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Appended, Settled, StoredEvent};
use crate::{domain::Table, fault::Fault, log::Position};

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
    /// Of those, the ones of which nothing was appended since a while ago.
    pub settled: u64,
    /// With an open dead letter.
    pub parked: u64,
    /// Of those, the ones that a sink could not take.
    pub refused: u64,
    /// Those that each of the sinks may lack since a letter explains it: an open one of that sink, or one of a row that made
    /// no event, for as long as that row is the newest, also where the letter was discarded. The first sink is the store,
    /// which knows what it lacks: an entity that it has in any version is not counted.
    pub explained: [u64; 2],
    /// At the source, with a letter, open or discarded, that tells why no event was ever made of them: their key is unusable.
    pub unusable: u64,
    /// Erased, and never to be read again: some of them may still stand at the source.
    pub erased: u64,
    /// When the last of them was erased, if any was.
    pub last_erasure: Option<DateTime<Utc>>,
}

/// An entity in the store of which nothing was ever appended to this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    pub key: String,
    pub versao: i64,
}

/// A letter that was parked for an entity, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedLetter {
    pub entity: String,
    pub letter: Uuid,
    /// The sink that could not take it; `None` where the row never became an event.
    pub sink: Option<String>,
    /// Where the letter is.
    pub at: Position,
    pub settled: Option<Settled>,
}

/// Some of the store's entities, looked through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StrangerPage {
    pub strangers: Vec<Stranger>,
    /// Where to look on; `None` behind the last entity.
    pub last: Option<String>,
}

/// The events of some of the store's entities.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntityEvents {
    pub events: Vec<StoredEvent>,
    /// Where to read on; `None` behind the last entity.
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

    /// How many entities of a table the store has, how many were appended to a log, how many have an open letter among
    /// `letters`, and how many of them each of the `sinks` may lack, the store before the index: in one question.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn tally(
        &self,
        log: &str,
        letters: &str,
        table: Table,
        sinks: [&str; 2],
        settled: DateTime<Utc>,
    ) -> Result<Tally, Fault>;

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

    /// Removes rows of a table whose keys, as [`Ledger::strangers`] tells them, are none: no event could do it.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn remove_strays(&self, table: Table, keys: &[String]) -> Result<(), Fault>;

    /// The events that carry the next `limit` entities of a table, in the order that suits the store, each with its entity's
    /// version; those that are not stored any more are left out.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn entity_events(
        &self,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntityEvents, Fault>;

    /// Counts the rollups anew in the windows of events that were stored since an instant of the store's clock.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn recount(&self, since: DateTime<Utc>) -> Result<(), Fault>;

    /// The letters that were parked for these entities, without those whose rows came mended.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn parked(&self, log: &str, table: Table, keys: &[String]) -> Result<Vec<ParkedLetter>, Fault>;
}
