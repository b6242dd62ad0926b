//! How far a sync has come, through the log and into every sink.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::store::{ColumnMisfits, ReconcileReport, SyncRecord, SyncState};

/// A sync's state as a user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncPhase {
    /// Reading rows and appending events.
    Running,
    /// Everything is in the log; a sink has not applied all of it yet.
    Draining,
    /// Everything that stood in the log at its end is queryable in every sink: what it appended, and what earlier ones did.
    Done,
    /// Stopped by an error; what it had appended stays and is drained.
    Failed,
    /// Stopped on request, between two pages.
    Cancelled,
    /// Its process ended before it did.
    Interrupted,
}

/// One sink's share of a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkProgress {
    pub sink: String,
    /// Records the sink still has to apply of what stood in the log at the sync's end; absent when it could not be asked.
    pub pending: Option<i64>,
    /// All of that can be queried here.
    pub queryable: bool,
    /// Records of this sync are gone from the log and were never applied here.
    pub lost: bool,
    /// Why the sink could not be asked.
    pub error: Option<String>,
}

impl SinkProgress {
    /// Of a sink that nobody asked: nothing counts as there.
    pub(super) fn unasked(sink: &str) -> Self {
        Self { sink: sink.to_owned(), pending: None, queryable: false, lost: false, error: None }
    }
}

/// A sync and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SyncStatus {
    pub sync_id: Uuid,
    pub table: String,
    pub state: SyncPhase,
    /// Rows the source returned.
    pub rows_read: u64,
    /// New events appended to the log.
    pub appended: u64,
    /// Rows whose content had been appended before.
    pub unchanged: u64,
    /// Rows that could not become an event and were parked.
    pub dead_letters: u64,
    /// Rows of the table whose dead letters are open once it is done, those that a sink could not take among them. Absent
    /// until then, in lists, and where the store did not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<u64>,
    /// Values that did not fit their columns: null there, kept in `dados`.
    pub misfits: Vec<ColumnMisfits>,
    /// Columns of the definition that earlier rows had and rows have no more, by their names at the source: in rows
    /// that are read since, it is empty. Where one has another name now, the definition's `from` and `formerly` say so.
    pub lost_columns: Vec<String>,
    /// Rows that say they were changed later than the server's time: they are read at every sync.
    pub ahead: u64,
    /// Rows whose key another row of the same answer has: the key is not unique, of such rows only one is kept, and some
    /// may never be read.
    pub shared_keys: u64,
    /// Rows that have no key: no event can be made of them. Some are parked as dead letters; name another column as the
    /// key in the table's definition, or fill it at the source.
    pub without_key: u64,
    /// Rows of erased entities, left out: delete them at the source.
    pub erased: u64,
    /// The limit was reached and the source has more: call again to go on.
    pub more: bool,
    /// What a reconciliation found and did; absent of a sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<ReconcileReport>,
    pub sinks: Vec<SinkProgress>,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// Host and process that run it.
    pub owner: String,
    pub error: Option<String>,
}

impl SyncStatus {
    /// Nothing more will happen to it.
    pub fn is_final(&self) -> bool {
        match self.state {
            SyncPhase::Running | SyncPhase::Draining => false,
            SyncPhase::Done => true,
            // It waited for the sinks itself, as long as it was told to.
            _ if self.reconcile.is_some() => true,
            SyncPhase::Failed | SyncPhase::Cancelled | SyncPhase::Interrupted => {
                self.sinks.iter().all(|sink| sink.queryable || sink.lost)
            }
        }
    }

    pub(super) fn new(record: SyncRecord, sinks: Vec<SinkProgress>) -> Self {
        let state = match record.state {
            SyncState::Running => SyncPhase::Running,
            SyncState::Succeeded if sinks.iter().all(|sink| sink.queryable) => SyncPhase::Done,
            SyncState::Succeeded if sinks.iter().all(|sink| sink.queryable || sink.lost) => SyncPhase::Failed,
            SyncState::Succeeded => SyncPhase::Draining,
            SyncState::Failed => SyncPhase::Failed,
            SyncState::Cancelled => SyncPhase::Cancelled,
            SyncState::Interrupted => SyncPhase::Interrupted,
        };
        let lost = sinks.iter().find(|sink| sink.lost).and_then(|sink| sink.error.clone());
        Self {
            sync_id: record.id,
            table: record.request.table.0,
            state,
            rows_read: record.progress.rows_read,
            appended: record.progress.appended,
            unchanged: record.progress.unchanged,
            dead_letters: record.progress.dead_letters,
            parked: None,
            misfits: record.progress.misfits,
            lost_columns: record.progress.lost_columns,
            ahead: record.progress.ahead,
            shared_keys: record.progress.shared_keys,
            without_key: record.progress.without_key,
            erased: record.progress.erased,
            more: record.progress.more,
            reconcile: record.progress.reconcile,
            sinks,
            started_at: record.started_at,
            finished_at: record.finished_at,
            owner: record.owner,
            error: record.error.or(lost),
        }
    }
}

/// Hears how a sync goes on while somebody waits for it.
#[async_trait]
pub trait SyncWatcher: Send {
    async fn saw(&mut self, status: &SyncStatus);
}

/// Hears nothing of it.
#[async_trait]
impl SyncWatcher for () {
    async fn saw(&mut self, _: &SyncStatus) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::TableName,
        store::{SyncProgress, SyncRequest},
    };

    #[test]
    fn a_sync_whose_records_a_sink_lost_is_failed_also_where_every_sink_had_it_before() {
        let told = |drained, lost| {
            let request = SyncRequest {
                table: TableName("leads".to_owned()),
                hours_ago: 24,
                limit: 100,
                conditions: Vec::new(),
                resume: false,
                reappend: false,
                reconcile: None,
                since: None,
            };
            let record = SyncRecord {
                id: Uuid::nil(),
                request,
                state: SyncState::Succeeded,
                progress: SyncProgress::default(),
                log: "l".to_owned(),
                owner: "o".to_owned(),
                started_at: Utc::now(),
                finished_at: Some(Utc::now()),
                error: None,
                cancel_requested: false,
                drained,
            };
            let sink = |lost: bool| SinkProgress {
                sink: "s".to_owned(),
                pending: Some(0),
                queryable: !lost,
                lost,
                error: lost.then(|| "removed".to_owned()),
            };
            let status = SyncStatus::new(record, vec![sink(false), sink(lost)]);
            (status.state, status.error, status.sinks[1].queryable)
        };
        for drained in [true, false] {
            assert_eq!(told(drained, false), (SyncPhase::Done, None, true));
            assert_eq!(told(drained, true), (SyncPhase::Failed, Some("removed".to_owned()), false));
        }
    }
}
