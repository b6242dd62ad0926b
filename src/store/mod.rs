//! The store port: a sink that also keeps what the engine must remember between runs, that is syncs, how far each
//! table has been read, and who is reading it now.

mod alerts;
mod arrivals;
mod erasures;
mod forgetting;
mod housekeeping;
mod layout;
mod ledger;
mod notices;
mod operations;
pub mod postgres;
mod questions;
mod readable;
mod refusals;
mod rollup;
pub mod sqlite;
pub mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use alerts::{
    Alert, AlertFired, AlertRule, Alerts, Attempt, EPISODES, Episode, EpisodeFired, MAX_WAITING, NewAlert,
    Outgoing, RowFired, TOLD_WITHIN, Version, rows_of,
};
pub use arrivals::{ArrivalCount, ArrivalsQuestion, MAX_COUNTS};
pub use erasures::{ErasedRows, Erasures};
pub use forgetting::Forgetting;
pub use housekeeping::{EVENTS, EventName, Housekeeping, HousekeepingPass, TrimCursor, TrimPage};
pub use ledger::{EntityEvents, Entry, Ledger, ParkedLetter, Stranger, StrangerPage, Tally};
pub use questions::{
    AccessWarning, EventCursor, EventFilter, EventOrder, EventPage, QueryAnswer, QueryColumn, QueryLimits,
    QuestionAccess, Questions, StoredChange, StoredEntity, StoredEvent, StreamedRows, StreamedValue,
    readable,
};
pub use readable::Readable;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use notices::lost_with;
pub use notices::{Notice, NoticeKind, Notices, Owed, TOLD_FOR};
pub use operations::{
    DrainBeat, Operations, ParkedEntity, Pause, Resolution, RunOutcome, Schedule, ScheduledRun, Settled,
    StoreFacts, SyncFilter,
};

use crate::{
    domain::{Catalog, Table, TableName, can_be_added_up},
    fault::{Fault, FaultKind},
    log::Position,
    sink::{Sink, SinkBatch, SinkEvent},
    source::Condition,
};

/// How a sync stands. What the sinks have of it is not part of this: see the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Reading rows and appending events.
    Running,
    /// Everything it read is in the log.
    Succeeded,
    /// Stopped by an error; what it had appended stays.
    Failed,
    /// Stopped on request, between two pages.
    Cancelled,
    /// Its process ended before it did.
    Interrupted,
}

impl SyncState {
    const ALL: [Self; 5] = [Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Interrupted];

    /// The state's name in the tables of syncs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What an interrupted sync's record says.
pub(crate) const INTERRUPTED: &str = "its process ended, or lost its connection, before the sync did; what it appended stays and counts as unchanged \
                           next time: begin it again, which reads all that this one was to read";

/// What was asked of a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequest {
    pub table: TableName,
    /// How far back to look, in hours.
    pub hours_ago: u32,
    /// New events to append at most; rows that were appended before do not count. [`Self::NO_LIMIT`] for all there are.
    pub limit: u32,
    /// Only rows that meet all of these.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Read on from where earlier syncs stopped, where that lies in the window: what schedules do. Otherwise the
    /// window is read whole.
    #[serde(default)]
    pub resume: bool,
    /// Append also what was appended before: what a lost log is made from.
    #[serde(default)]
    pub reappend: bool,
    /// Not a sync of a window, but a reconciliation of the whole table: the rest of the request does not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<Reconciliation>,
    /// A poll between two runs of a schedule: it reads what changed since then, whatever the window, and covers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

/// How far clocks may differ: a sync that is dated later than that from now was begun by one that was ahead.
pub const AHEAD: TimeDelta = TimeDelta::minutes(1);

impl SyncRequest {
    /// The limit of a sync that ends only once the source has no more.
    pub const NO_LIMIT: u32 = u32::MAX;
}

/// What was asked of a reconciliation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Somebody agreed that so many rows are gone, however large a part of the table they are.
    #[serde(default)]
    pub allow_deletes: Option<u64>,
    /// Go on with the reading of the one before, where it was broken off less than a day ago.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resume: bool,
}

/// What a reconciliation is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReconcileStep {
    /// Reading the whole table and appending what differs.
    #[default]
    Reading,
    /// Asking the source for the rows it did not show.
    Looking,
    /// Waiting until both sinks have applied the log.
    Waiting,
    /// Comparing both sinks with what was appended, and repairing what differs.
    Proving,
    Ended,
}

/// What a reconciliation found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReconcileReport {
    pub step: ReconcileStep,
    /// When the reading began that it went on with: what is proven is what the source had then. What was inserted, changed or
    /// deleted since may be lacking; a sync brings what has a new time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_from: Option<DateTime<Utc>>,
    /// Rows read, each key once.
    pub source_rows: u64,
    /// Rows that could not be told apart because they have no usable key; they are dead letters.
    pub unkeyed: u64,
    /// Rows read that the source no longer counted at the end: deleted meanwhile, which the next one finds.
    #[serde(default)]
    pub deleted_meanwhile: u64,
    /// Rows the source did not show and, asked by key, does not have.
    pub gone: u64,
    /// Removals appended for them.
    pub deleted: u64,
    /// Entities that a sink did not have as they were appended: appended again.
    pub repaired: u64,
    /// Entities that a sink can't take; an open dead letter tells why, or one that was discarded where the row makes no
    /// event.
    pub parked: u64,
    /// Entities that a sink still has otherwise than they were appended, although they were appended again: 0, or the
    /// reconciliation failed.
    pub unexplained: u64,
    /// The first of the differences, by key.
    pub differences: Vec<Difference>,
    /// What was compared in each sink; empty as long as nothing was.
    pub sinks: Vec<SinkProof>,
}

impl ReconcileReport {
    /// How many removals somebody must allow, where it failed because too many rows are gone.
    pub fn unallowed(&self) -> Option<u64> {
        // Of a reading that was gone on with the number is not known.
        let known = self.resumed_from.is_none();
        self.gone.checked_sub(self.deleted).filter(|left| known && *left > 0)
    }
}

/// How a sink has an entity, when not as it was appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Difference {
    pub sink: String,
    pub key: String,
    pub problem: DifferenceKind,
    /// What mends it was appended, or it was removed; otherwise nothing was done about it.
    pub mended: bool,
}

/// What is wrong with an entity in a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The sink has not got it.
    Missing,
    /// The sink has another version.
    OtherVersion,
    /// The sink has it although it was removed, or nobody appended it.
    Surplus,
    /// The sink has not got the newest event of the entity.
    WithoutEvent,
}

/// What was compared in a sink in the last pass over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SinkProof {
    pub sink: String,
    /// Entities it has.
    pub entities: u64,
    /// Entities that differ.
    pub different: u64,
    /// Same keys and versions as were appended, each with its newest event, but for those that are parked. Contents and
    /// older events are not compared.
    pub proven: bool,
}

/// What a sync has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncProgress {
    pub pages: u64,
    /// Rows the source returned.
    pub rows_read: u64,
    /// Events appended to the log, acknowledged.
    pub appended: u64,
    /// Rows whose current content had been appended before.
    pub unchanged: u64,
    /// Rows that could not become an event and went to the dead letters.
    pub dead_letters: u64,
    /// Values of appended rows that did not fit their columns and are null there, by column.
    #[serde(default)]
    pub misfits: Vec<ColumnMisfits>,
    /// Columns of the definition that earlier rows had and rows have no more, by their names at the source.
    #[serde(default)]
    pub lost_columns: Vec<String>,
    /// Rows that say they were changed later than the server's time: they are read each time.
    #[serde(default)]
    pub ahead: u64,
    /// Rows whose key another row of the same answer has: the key is not unique.
    #[serde(default)]
    pub shared_keys: u64,
    /// Rows that have no key: some are parked, all are counted.
    #[serde(default)]
    pub without_key: u64,
    /// Rows left out because their entity was erased.
    #[serde(default)]
    pub erased: u64,
    /// The next offset after the last event appended to each partition.
    pub targets: Vec<Position>,
    /// Where each partition ended when all that this sync had appended was remembered: what it appended behind may
    /// not be. Empty before it appended anything.
    #[serde(default)]
    pub remembered: Vec<Position>,
    /// The limit was reached and the source has more.
    pub more: bool,
    /// Events were appended again, since then, that the store had lost and had counted: their rollups are to be counted
    /// anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recount_since: Option<DateTime<Utc>>,
    /// Of a reconciliation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<ReconcileReport>,
}

/// The columns that the rows of a table have, by their names at the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowColumns {
    /// Those of the rows that were read last.
    pub now: BTreeSet<String>,
    /// Those that earlier rows had, and these have not, each with the columns of the last rows that had it.
    pub gone: BTreeMap<String, BTreeSet<String>>,
}

impl RowColumns {
    /// Whether any row had the column.
    pub fn had(&self, source: &str) -> bool {
        self.now.contains(source) || self.gone.contains_key(source)
    }
}

/// Values that did not fit a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ColumnMisfits {
    pub column: String,
    pub values: u64,
    /// What they are not: `whole numbers`.
    pub expected: String,
}

/// A sync as remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncRecord {
    pub id: Uuid,
    pub request: SyncRequest,
    pub state: SyncState,
    pub progress: SyncProgress,
    /// The log that was appended to.
    pub log: String,
    /// Host and process that runs or ran it.
    pub owner: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it failed, what on, and what to do next.
    pub error: Option<String>,
    pub cancel_requested: bool,
    /// It ended, and every sink was seen to have what it appended, whatever became of its log since.
    pub drained: bool,
}

/// The connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    pub open: usize,
    /// Open, and used by nobody now.
    pub idle: usize,
    /// As many as there may be.
    pub most: usize,
}

/// The part of a table's history that is known to be in the log: every row last written in
/// `from..=to` (and committed in time to be seen) has been appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// A new sync, before it runs.
#[derive(Debug, Clone)]
pub struct NewSync {
    pub id: Uuid,
    pub request: SyncRequest,
    pub log: String,
    pub owner: String,
}

/// What asking for a sync came to.
pub enum Begun {
    Started {
        lease: Box<dyn SyncLease>,
        /// What earlier syncs of this table have covered in this log.
        coverage: Option<Coverage>,
    },
    /// Another sync of the table runs; `None` when it is ending just now.
    Busy(Option<Box<SyncRecord>>),
}

/// What an operator wants of a running sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    GoOn,
    Cancel,
}

/// What was appended last of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Appended {
    /// The row's key in its one spelling.
    pub entity: String,
    /// The event of its newest content.
    pub event: Uuid,
    /// The version that event was given; the next one is larger.
    pub versao: i64,
    /// That event says that the row is gone.
    pub removed: bool,
}

/// How a sync ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncEnd {
    pub state: SyncState,
    pub progress: SyncProgress,
    pub error: Option<String>,
    /// The table's coverage from now on, where this sync moved it.
    pub coverage: Option<Coverage>,
}

/// The right to sync one table, held by one process at a time. Everything is written over the connection that
/// holds the lock, so a lease that was lost can't write.
#[async_trait]
pub trait SyncLease: Send {
    /// What was appended to this log last of each of these entities; those never appended are left out. Takes as long
    /// whatever the number of remembered entities.
    ///
    /// # Errors
    /// When the store can't be reached or the lease is lost.
    async fn last_appended(&mut self, entities: &[String]) -> Result<HashMap<String, Appended>, Fault>;

    /// Remembers, in one transaction, what has been appended and acknowledged, and how far the sync is.
    ///
    /// # Errors
    /// When the store can't be reached or the lease is lost.
    async fn checkpoint(&mut self, progress: &SyncProgress, appended: &[Appended]) -> Result<Control, Fault>;

    /// Ends the sync and gives the lease back.
    ///
    /// # Errors
    /// When the store can't be reached or the lease is lost.
    async fn finish(self: Box<Self>, end: SyncEnd) -> Result<(), Fault>;
}

/// The store port.
#[async_trait]
pub trait Store:
    Sink + Questions + Operations + Notices + Ledger + Erasures + Alerts + Housekeeping + Forgetting
{
    /// As [`Sink::prepare`], but tables of entities that are there stay as they are, for whoever does not write them: other
    /// processes may, by definitions that this one lacks. Where only one process at a time can write, they may be changed.
    ///
    /// # Errors
    /// When the store can't be reached, or what is there can't become what the definitions say.
    async fn make_missing(&self) -> Result<(), Fault> {
        self.prepare().await
    }

    /// Takes the table's lease, or tells who has it. A sync of the table that still counts as running although
    /// nobody holds the lease is marked interrupted.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn begin_sync(&self, new: NewSync) -> Result<Begun, Fault>;

    /// A sync by its id. One that counts as running although nobody holds its table's lease is shown as interrupted.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn sync(&self, id: Uuid) -> Result<Option<SyncRecord>, Fault>;

    /// The latest syncs, newest first.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn recent_syncs(&self, limit: u32) -> Result<Vec<SyncRecord>, Fault> {
        self.syncs(&SyncFilter { limit, ..SyncFilter::default() }).await
    }

    /// The connections to the store's server; nothing where there is no server.
    fn pool(&self) -> Option<PoolUse> {
        None
    }

    /// Whether a column of numbers holds doubles only: what is none is null there.
    fn holds_doubles(&self) -> bool {
        false
    }

    /// Asks a running sync, in whatever process, to stop before its next page. `false` when it does not run.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn request_cancel(&self, id: Uuid) -> Result<bool, Fault>;

    /// How far a table has been read into this log.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn coverage(&self, table: Table, log: &str) -> Result<Option<Coverage>, Fault>;
}

/// An event outside the spans would be written without the offset that proves it was.
fn check_spans(part: &'static str, batch: &SinkBatch) -> Result<(), Fault> {
    let covered = |partition: i32| batch.spans.iter().any(|span| span.partition == partition);
    if batch.events.iter().all(|event| covered(event.position.partition)) {
        return Ok(());
    }
    Err(Fault::new(
        part,
        FaultKind::Invalid,
        "apply: an event's partition is not among the batch's spans",
        "hand over a span for every partition of the batch",
    ))
}

/// The table an event's row goes to; that of all events where it has no other.
fn table_of(event: &SinkEvent) -> &'static str {
    event.table.map_or("eventos_raw", Table::name)
}

/// Why a row is refused that the server took, and that is not there.
fn kept_out(table: &str) -> String {
    format!("a trigger or a rule that somebody added keeps it out of {table} and says nothing")
}

/// What stands in the history of syncs where a value was that may name somebody who was erased.
const FORGOTTEN: &str = "***";

/// What an erasure learns when it leaves rows behind; none of it was done.
fn not_erased(part: &'static str, table: &str) -> Fault {
    Fault::misconfigured(
        part,
        format!(
            "erase: {table} is not as it was left: a trigger, rule or policy that somebody added undoes what is written there"
        ),
        "nothing was erased: drop it (doctor names it), then erase again",
    )
}

/// What a drain learns when somebody's rule refuses whatever a table is given.
fn refuses_everything(part: &'static str, table: &str, rows: usize, reason: &str) -> Fault {
    Fault::misconfigured(
        part,
        format!("apply: every row of {table} is refused, {rows} in sequence by now: {reason}"),
        "look at the triggers and constraints on sluice's tables: no single row is to blame, so none is parked",
    )
}

/// The tables whose rows a store's health counts.
fn counted(catalog: Catalog) -> impl Iterator<Item = &'static str> {
    std::iter::once("eventos_raw").chain(catalog.tables().map(Table::name))
}

/// What no store takes of an envelope, whoever wrote it. Events of the engine's own making have none of it.
fn envelope_problem(source: &SinkEvent) -> Option<&'static str> {
    let event = &source.event;
    if !can_be_added_up(event.valor) {
        return Some("valor is not a number that can be added up");
    }
    source.key_problem()
}

/// What a worker learns whose claim is gone.
fn fenced(part: &'static str, batch: &SinkBatch) -> Fault {
    let partitions: Vec<String> = batch.spans.iter().map(|span| span.partition.to_string()).collect();
    Fault::new(
        part,
        FaultKind::Fenced,
        format!("another worker has taken over or moved on one of the partitions {}", partitions.join(", ")),
        "the partitions are claimed again",
    )
}

/// What a sync learns whose lease is gone.
fn lost_lease(part: &'static str, table: &TableName) -> Fault {
    Fault::transient(
        part,
        format!("sync {table}: the lease is lost"),
        "start the sync again; what was appended stays",
    )
}

/// What a caller learns who begins a sync under an id that is there already.
fn used_id(part: &'static str, table: &TableName) -> Fault {
    Fault::new(
        part,
        FaultKind::Invalid,
        format!("begin a sync of {table}: its id was used before"),
        "use a new id",
    )
}

/// What a caller learns whose statement is not one that may be asked.
fn refused_statement(part: &'static str, catalog: Catalog, problem: impl std::fmt::Display) -> Fault {
    Fault::new(
        part,
        FaultKind::Invalid,
        format!("sql: {problem}"),
        format!("ask one SELECT (WITH is fine) over {}", readable(catalog).join(", ")),
    )
}

/// What a caller learns whose statement took too long.
fn slow_statement(part: &'static str, limits: &QueryLimits) -> Fault {
    Fault::new(
        part,
        FaultKind::Invalid,
        format!("sql: it took longer than {} s and was stopped", limits.timeout.as_secs_f32()),
        "narrow it: filter by timestamp, aggregate fewer rows, or read eventos_agregados instead of eventos_raw",
    )
}
