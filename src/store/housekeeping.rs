//! Removing what is older than it is to be kept.
//!
//! An event is trimmed once its row has moved on, to a version that is itself older than the events that are kept: so of
//! each row stays what it was when the kept time began, and every change since. What was trimmed is remembered by its id.
//! A store promises that no batch is written beside a trimming, and that an event which was trimmed and is delivered again
//! is not counted a second time, nor stored, unless the row has that content again.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{domain::Table, fault::Fault, sink::SinkEvent};

/// The pass that trims events.
pub const EVENTS: &str = "events";

/// What came of the passes of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HousekeepingPass {
    pub task: String,
    /// When the last one ended; `None` before the first.
    pub ended_at: Option<DateTime<Utc>>,
    /// When the last one that did all it was to do ended.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// What the last one removed.
    pub removed: u64,
    pub removed_in_all: u64,
    /// Why the last one did not do all.
    pub error: Option<String>,
}

/// An event by its entity and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName {
    pub tipo_evento: String,
    /// The entity's key in its one spelling.
    pub entidade: String,
    pub id: Uuid,
}

impl From<&SinkEvent> for EventName {
    fn from(sink: &SinkEvent) -> Self {
        let event = &sink.event;
        Self { tipo_evento: event.tipo_evento.clone(), entidade: event.entidade.id.clone(), id: event.id }
    }
}

/// Where a walk over the events by their versions stands.
pub type TrimCursor = (i64, Uuid);

/// Some of the events below a version, looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrimPage {
    /// Those that may be trimmed.
    pub events: Vec<Uuid>,
    /// Where to look on; `None` behind the last event.
    pub next: Option<TrimCursor>,
}

/// The part of the store port that keeps house.
#[async_trait]
pub trait Housekeeping: Send + Sync {
    /// What came of the passes of every task.
    ///
    /// # Errors
    /// When the store can't be reached or is not migrated.
    async fn passes(&self) -> Result<Vec<HousekeepingPass>, Fault>;

    /// Keeps what came of a pass. [`EVENTS`] that were removed are added up where they are removed.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn keep_pass(&self, task: &str, removed: u64, error: Option<&str>) -> Result<(), Fault>;

    /// Looks at the next events below a version, in the order of their versions.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn trimmable(&self, below: i64, after: Option<TrimCursor>) -> Result<TrimPage, Fault>;

    /// Trims those of these events that still may be, in one transaction; tells how many they were.
    ///
    /// # Errors
    /// When the store can't be reached; then none was.
    async fn trim(&self, events: &[Uuid], below: i64) -> Result<u64, Fault>;

    /// Which of these events were trimmed and are not stored again: a delivery below the version that is told is of the
    /// past.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn trimmed(&self, events: &[EventName]) -> Result<HashMap<Uuid, i64>, Fault>;

    /// Whether any event was trimmed of the windows from an instant of their own time on and before another.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn trimmed_between(
        &self,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<bool, Fault>;

    /// How many events of an entity were trimmed.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn trimmed_of(&self, table: Table, key: &str) -> Result<u64, Fault>;
}
