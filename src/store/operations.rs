//! What operators ask for and what must outlive a process: paused sinks, settled dead letters, schedules.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{RowColumns, SyncRecord, SyncRequest, SyncState};
use crate::{
    domain::{Table, TableName},
    fault::Fault,
    log::Extent,
};

/// A sink that nobody drains until it is resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pause {
    pub consumer_group: String,
    /// Who asked for it.
    pub paused_by: String,
    pub since: DateTime<Utc>,
}

/// What a process says of one of its drains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainBeat {
    pub consumer_group: String,
    /// Host and process.
    pub owner: String,
    pub state: String,
    /// Since when it has failed; absent where it does its work.
    pub failing_since: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    /// When it was said, by the store's clock; not read when it is written.
    pub seen_at: DateTime<Utc>,
}

/// How a dead letter was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// Its event was appended to the log again.
    Replayed,
    /// Somebody decided that it is not needed.
    Discarded,
    /// The row came again with other content, and was taken.
    Mended,
    /// Whom it was about was erased.
    Erased,
}

impl Settled {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Mended => "mended",
            Self::Erased => "erased",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Replayed, Self::Discarded, Self::Mended, Self::Erased]
            .into_iter()
            .find(|settled| settled.as_str() == name)
    }
}

/// Who settles a letter whose row came mended.
pub(super) const MENDED_BY: &str = "sluice";

/// A dead letter that is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    pub partition: i32,
    pub offset: i64,
    /// The letter's own id: another letter at its place is not settled.
    pub letter: Uuid,
    pub settled: Settled,
    pub by: String,
    pub at: DateTime<Utc>,
}

/// A letter that is open because an entity's event can't be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEntity {
    /// The sink that can't take it; `None` where the row never became an event.
    pub sink: Option<String>,
    pub table: TableName,
    /// The row's key in its one spelling.
    pub entity: String,
    pub partition: i32,
    pub offset: i64,
    /// The letter's own id.
    pub letter: Uuid,
}

/// Which syncs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncFilter {
    pub table: Option<TableName>,
    pub state: Option<SyncState>,
    /// Only reconciliations.
    pub only_reconciliations: bool,
    /// Only those that started before this one.
    pub before: Option<Uuid>,
    /// Only those that started no later.
    pub until: Option<DateTime<Utc>>,
    pub limit: u32,
}

/// A sync that runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What to sync each time; the table's only schedule.
    pub request: SyncRequest,
    pub every: Duration,
    pub created_by: String,
    /// How long ago it was made or last replaced, by the store's clock.
    pub age: TimeDelta,
    pub next_due_at: DateTime<Utc>,
    /// How long it has been due, by the store's clock; less than nothing where it is not due.
    pub late: TimeDelta,
    /// The process that runs it now.
    pub claimed_by: Option<String>,
    /// Tells one claim from the next, also of the same process: whoever holds an older one holds nothing.
    pub claim: Option<Uuid>,
    pub last_run: Option<ScheduledRun>,
    /// When the last run that read everything began.
    pub last_success_at: Option<DateTime<Utc>>,
}

/// What became of a scheduled run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduledRun {
    pub outcome: RunOutcome,
    /// The sync that ran; where it was skipped, the one that ran already.
    pub sync_id: Option<Uuid>,
    pub began_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    /// The limit was reached; the next run goes on.
    #[serde(default)]
    pub more: bool,
    /// Why it was skipped or failed, and what to do.
    pub error: Option<String>,
}

impl ScheduledRun {
    /// When it began, if it read everything: what was written before is in the log.
    pub(super) fn success_at(&self) -> Option<DateTime<Utc>> {
        (self.outcome == RunOutcome::Succeeded && !self.more).then_some(self.began_at)
    }
}

/// How a scheduled run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Succeeded,
    /// Another sync of the table was running.
    Skipped,
    Failed,
    Cancelled,
}

/// Whether a store is fit to be written.
#[derive(Debug, Clone, Default)]
pub struct StoreFacts {
    /// Why it can't be written, if it can't, and what mends that.
    pub unfit: Option<Fault>,
    /// Nothing was ever made in it.
    pub is_fresh: bool,
    /// Tables that somebody dropped.
    pub dropped: Vec<String>,
    /// Migrations of this release that were not run yet, and tables that are not yet as their definitions say.
    pub pending_migrations: usize,
    /// Tables that can't become what their definitions say, or take no row as they are, and why.
    pub refused: Vec<(&'static str, Fault)>,
    /// Triggers, rules and row-level security that somebody added to its tables, which may keep from them what is written.
    pub additions: Vec<String>,
}

/// The part of the store port that operators use. Instants are the store's own.
#[async_trait]
pub trait Operations: Send + Sync {
    /// The sinks that are paused.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn pauses(&self) -> Result<Vec<Pause>, Fault>;

    /// Pauses a consumer group; one that is paused stays as it is. Returns the pause in force.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn pause(&self, group: &str, by: &str) -> Result<Pause, Fault>;

    /// Ends a pause. `false` when there was none.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn resume(&self, group: &str) -> Result<bool, Fault>;

    /// Keeps what a process says of its drains, in place of what it said before.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn report_drains(&self, beats: &[DrainBeat]) -> Result<(), Fault>;

    /// Forgets what a process said of its drains.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn forget_drains(&self, owner: &str) -> Result<(), Fault>;

    /// What processes said of their drains no longer than `within` ago.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn drain_beats(&self, within: Duration) -> Result<Vec<DrainBeat>, Fault>;

    /// Settles dead letters of a log; those that are settled stay as they are, unless they are erased.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn settle(&self, log: &str, letters: &[Resolution]) -> Result<(), Fault>;

    /// The settled letters of a log in these offsets.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn settled(&self, log: &str, extent: Extent) -> Result<Vec<Resolution>, Fault>;

    /// How many letters of a log are settled in these offsets.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn settled_count(&self, log: &str, extents: &[Extent]) -> Result<u64, Fault>;

    /// How many letters of other logs than this one, about what a sink could not take, were settled without a replay: their
    /// topics are gone.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn settled_elsewhere(&self, log: &str, sink: &str) -> Result<u64, Fault>;

    /// Remembers that letters are open for entities, so that they can settle themselves.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn note_parked(&self, log: &str, letters: &[ParkedEntity]) -> Result<(), Fault>;

    /// Settles, as mended, the open letters that were noted for these entities of a table; tells how many.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn settle_mended(&self, log: &str, table: &TableName, entities: &[String]) -> Result<u64, Fault>;

    /// The next `limit` entities of a table with letters in a log that are open, or that were discarded and are of rows that
    /// made no event, in an order that suits the store.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn entities_with_letters(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Fault>;

    /// How many letters of a log, from these offsets on, are open for entities, by the sink that could not take them;
    /// those of rows that made no event have none.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn open_by_sink(&self, log: &str, extents: &[Extent]) -> Result<Vec<(Option<String>, u64)>, Fault>;

    /// How many entities of a table have open letters in a log.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn parked_count(&self, log: &str, table: &TableName) -> Result<u64, Fault>;

    /// What the columns of a table were when the project last told, by their names there.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn known_columns(&self, table: &TableName) -> Result<Option<Vec<String>>, Fault>;

    /// Remembers what the project told of a table's columns.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn remember_columns(&self, table: &TableName, columns: &[String]) -> Result<(), Fault>;

    /// Which columns the rows of a table had in a project; none where none were read there.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn row_columns(&self, table: &TableName, project: &str) -> Result<RowColumns, Fault>;

    /// Remembers which columns the rows of a table have in a project.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn remember_row_columns(
        &self,
        table: &TableName,
        project: &str,
        columns: &RowColumns,
    ) -> Result<(), Fault>;

    /// The reading of a table that a reconciliation kept last, as it wrote it.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn kept_reading(&self, table: &TableName) -> Result<Option<String>, Fault>;

    /// Keeps a reading in place of the one before; `None` forgets it.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn keep_reading(&self, table: &TableName, reading: Option<String>) -> Result<(), Fault>;

    /// Syncs, newest first.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn syncs(&self, filter: &SyncFilter) -> Result<Vec<SyncRecord>, Fault>;

    /// The latest syncs that ended and are not known to be in every sink, of any log; newest first.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn undrained_syncs(&self, limit: u32) -> Result<Vec<SyncRecord>, Fault>;

    /// Remembers that every sink has what these syncs appended, until one is replaced.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn note_drained(&self, syncs: &[Uuid]) -> Result<(), Fault>;

    /// Of each of these tables the latest sync that succeeded, the latest reconciliation that did, and the latest of each
    /// that ended, whatever became of it; one that is several of these comes once. What a clock that was ahead says started
    /// later than now is the latest only where there is no other.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn latest_syncs(&self, tables: &[TableName]) -> Result<Vec<SyncRecord>, Fault>;

    /// Every schedule, by table.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn schedules(&self) -> Result<Vec<Schedule>, Fault>;

    /// Creates or replaces the table's schedule; it is due at once.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn put_schedule(&self, request: &SyncRequest, every: Duration, by: &str) -> Result<(), Fault>;

    /// Removes the table's schedule. `false` when there was none.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn remove_schedule(&self, table: &TableName) -> Result<bool, Fault>;

    /// Takes one schedule that is due and that nobody holds, for `lease`, of a table that this process has the definition
    /// of. Where a clock was ahead when its time was decided, it is due.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn claim_schedule(&self, owner: &str, lease: Duration) -> Result<Option<Schedule>, Fault>;

    /// Holds a claimed schedule on. `false` when it is not held any more by this claim.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn renew_schedule(&self, claimed: &Schedule, lease: Duration) -> Result<bool, Fault>;

    /// Gives a claimed schedule back with what became of it, and says in how long it is due again, by the store's clock.
    /// `false`, and nothing is written, when it is not held any more by this claim.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn finish_schedule(
        &self,
        claimed: &Schedule,
        run: &ScheduledRun,
        next_in: Duration,
    ) -> Result<bool, Fault>;

    /// Forgets the polls of a table that succeeded longer than an hour ago: there may be several a second.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn forget_polls(&self, table: &TableName) -> Result<(), Fault>;

    /// Why nothing can be written although questions are answered, where that can be told without writing.
    fn shortage(&self) -> Option<Fault> {
        None
    }

    /// The tables that can't become what their definitions say, or take no row as they are, and why: the cheap part of
    /// [`Operations::facts`].
    ///
    /// # Errors
    /// When the store can't be reached or is not migrated.
    async fn refused_tables(&self) -> Result<Vec<(&'static str, Fault)>, Fault>;

    /// Whether the store can be written and is migrated.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn facts(&self) -> Result<StoreFacts, Fault>;
}
