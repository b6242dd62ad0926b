//! What a store keeps for alerts: the alerts themselves, a queue of new versions that are to be looked at, and an outbox.
//!
//! Guarantee: a version of a row is queued in the transaction that applies it, where an alert watches its table, and leaves
//! the queue in the transaction that writes what it fired into the outbox. So a kill loses nothing and repeats nothing,
//! whatever order transactions commit in and whatever clocks say. An entity fires an alert once, an episode of anything else
//! once and once when it is over: the outbox holds no second one.

use std::{collections::BTreeSet, fmt, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{Json, Table, TableName},
    fault::Fault,
    source::Condition,
};

/// What an alert may leave waiting: what fires beyond it is counted as lost, and told.
pub const MAX_WAITING: i64 = 1_000;

/// How long it is tried to tell something.
pub const TOLD_WITHIN: Duration = Duration::from_hours(72);

/// How long what was told of an episode is kept; what was told of an entity is kept as long as its alert.
pub(super) const EPISODES_KEPT_FOR: Duration = Duration::from_hours(30 * 24);

/// How long whoever sends something has for it, before somebody else may.
pub(super) const SENDING_FOR: Duration = Duration::from_secs(15);

/// The right to look at what is no row.
pub const EPISODES: &str = "alerts";

/// The right to look at the rows of a table.
pub fn rows_of(table: &TableName) -> String {
    format!("{EPISODES}/{table}")
}

/// What somebody wants to be told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "when", rename_all = "snake_case")]
pub enum AlertRule {
    /// A row that meets all of these, when it arrives or when it comes to.
    Row { table: TableName, conditions: Vec<Condition> },
    /// A sink that has more than so many records still to apply, for so long.
    Lag { records: u64, minutes: u32 },
    /// A sync or a reconciliation that failed or is late, for so long.
    Late { minutes: u32 },
    /// More than so many dead letters that are open.
    DeadLetters { above: u64 },
}

/// An alert as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub id: Uuid,
    pub name: String,
    /// The name of the webhook it goes to; those that follow the alerts hear of it without any.
    pub target: Option<String>,
    pub rule: AlertRule,
    /// What was queued up to here came before it.
    pub queued_from: i64,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    pub episode: Episode,
    /// Since when its target has taken nothing.
    pub failing_since: Option<DateTime<Utc>>,
    /// Why it did not take the last it was sent; nothing once it takes one.
    pub last_error: Option<String>,
    /// What it told, or is to tell.
    pub fired: u64,
    pub last_fired_at: Option<DateTime<Utc>>,
    /// What is to be sent, and since when the oldest of it has waited.
    pub waiting: u64,
    pub waiting_since: Option<DateTime<Utc>>,
    /// What of the last week was never sent: too much waited, the target refused it, or it was tried for days.
    pub lost: u64,
}

/// How far what is no row has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Episode {
    /// Since when its condition has held.
    pub since: Option<DateTime<Utc>>,
    /// What was told of and is not over.
    pub told: Option<Uuid>,
}

/// An alert before it is kept.
#[derive(Debug, Clone)]
pub struct NewAlert {
    pub name: String,
    pub target: Option<String>,
    pub rule: AlertRule,
    pub by: String,
}

impl fmt::Display for AlertRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasting =
            |minutes: u32| if minutes > 0 { format!(" for {minutes} minutes") } else { String::new() };
        match self {
            Self::Row { table, conditions } if conditions.is_empty() => write!(f, "a new row of {table}"),
            Self::Row { table, conditions } => {
                let each = conditions
                    .iter()
                    .map(|one| format!("{} {} {}", one.column, one.compare.sign(), one.value));
                write!(f, "a row of {table} that comes to have {}", each.collect::<Vec<_>>().join(" and "))
            }
            Self::Lag { records, minutes } => {
                write!(f, "a sink more than {records} records behind{}", lasting(*minutes))
            }
            Self::Late { minutes } => {
                write!(f, "a sync or reconciliation late or failed{}", lasting(*minutes))
            }
            Self::DeadLetters { above } => write!(f, "more than {above} open dead letters"),
        }
    }
}

impl AlertRule {
    /// The table whose versions are queued for it.
    pub fn table(&self) -> Option<&TableName> {
        match self {
            Self::Row { table, .. } => Some(table),
            _ => None,
        }
    }
}

/// A version of a row, and the one before it.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its place in the queue; of what was not queued the time it was stored, in microseconds.
    pub position: i64,
    pub table: TableName,
    pub entity: String,
    pub event: Uuid,
    /// `None` where its event is not there any more.
    pub row: Option<Json>,
    pub before: Option<Json>,
    pub stored_at: Option<DateTime<Utc>>,
}

/// What an alert told, or is to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct AlertFired {
    pub alert: String,
    pub at: DateTime<Utc>,
    /// Of rows always fired; of anything else resolved when it is over.
    pub state: String,
    /// The row's table and key, where it is one.
    pub table: Option<String>,
    pub key: Option<String>,
    /// What was wrong.
    pub detail: Option<String>,
}

/// A row that fired an alert.
#[derive(Debug, Clone)]
pub struct RowFired {
    pub id: Uuid,
    pub alert: Uuid,
    /// The place of the version in the queue.
    pub position: i64,
}

/// Something else that began or is over.
#[derive(Debug, Clone)]
pub struct EpisodeFired {
    pub id: Uuid,
    pub subject: Uuid,
    pub is_over: bool,
    /// What is to be told.
    pub detail: String,
}

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// What a receiver tells repetitions by.
    pub id: Uuid,
    pub alert: String,
    pub rule: AlertRule,
    pub target: String,
    pub is_over: bool,
    pub table: Option<TableName>,
    /// The row's key.
    pub subject: String,
    /// The row as it fired; `None` where it is no row, or is not there any more.
    pub row: Option<Json>,
    pub detail: Option<String>,
    pub fired_at: DateTime<Utc>,
    pub attempts: u32,
}

/// What became of an attempt to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    /// It is tried again.
    Failed {
        error: String,
        again_in: Duration,
    },
    /// This will never be taken, though others may.
    Refused {
        error: String,
    },
}

/// The part of the store port that alerts use. Instants are the store's own.
#[async_trait]
pub trait Alerts: Send + Sync {
    /// Every alert, by name; what it told is counted only where that is asked for, since it takes a look at all of it.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn alerts(&self, counted: bool) -> Result<Vec<Alert>, Fault>;

    /// What was told last, or is to be, the newest first.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn recent_alerts(&self, limit: u32) -> Result<Vec<AlertFired>, Fault>;

    /// Keeps an alert: whatever is applied from now on is looked at, and nothing that was before. `false` where there is one
    /// of that name.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn create_alert(&self, alert: &NewAlert) -> Result<bool, Fault>;

    /// Removes an alert and what it has not told yet. `false` when there was none.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn delete_alert(&self, name: &str) -> Result<bool, Fault>;

    /// Takes the right to each of these, to look at [`EPISODES`] or [`rows_of`] a table or to keep house, or holds it on: one
    /// process at a time has it. Tells of which this one has it.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn hold_leases(
        &self,
        owner: &str,
        wanted: &BTreeSet<String>,
        lease: Duration,
    ) -> Result<BTreeSet<String>, Fault>;

    /// What some process has the right to.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn held_leases(&self) -> Result<BTreeSet<String>, Fault>;

    /// The next versions in the queue: of these tables, and of those that no alert watches any more.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn queued_versions(&self, tables: &[String], limit: u32) -> Result<Vec<Version>, Fault>;

    /// The next versions of a table that were stored since, after one, in the order they were stored.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn stored_versions(
        &self,
        table: Table,
        since: DateTime<Utc>,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: u32,
    ) -> Result<Vec<Version>, Fault>;

    /// Takes versions from the queue and puts what they fired into the outbox, in one transaction. What somebody else took,
    /// or erased, fires nothing.
    ///
    /// # Errors
    /// When the store can't be reached; then nothing was taken.
    async fn take_versions(&self, positions: &[i64], fired: &[RowFired]) -> Result<(), Fault>;

    /// Moves an alert on from the episode it is in, and puts what is to be told of it into the outbox, in one transaction.
    /// `false` where somebody else moved or removed it.
    ///
    /// # Errors
    /// When the store can't be reached; then nothing was moved.
    async fn move_episode(
        &self,
        alert: &Alert,
        to: Episode,
        fired: Option<&EpisodeFired>,
    ) -> Result<bool, Fault>;

    /// Takes the oldest of what is to be sent to a target, once it is due; whoever takes it has a quarter of a minute.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn take_outgoing(&self, target: &str) -> Result<Option<Outgoing>, Fault>;

    /// Keeps what became of an attempt, also for the target's alerts.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn sent(&self, outgoing: &Outgoing, attempt: &Attempt) -> Result<(), Fault>;

    /// Gives up on what has waited too long, and forgets episodes of long ago.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn tidy_outbox(&self) -> Result<(), Fault>;
}
