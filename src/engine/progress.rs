//! How far a sync has come, through the log and into every sink.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{Engine, EngineError, group_of, lag};
use crate::{
    fault::Fault,
    log::Position,
    sink::Sink,
    store::{ColumnMisfits, ReconcileReport, SyncFilter, SyncRecord, SyncState},
};

/// How often a waiting caller looks again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A sync's state as a user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncPhase {
    /// Reading rows and appending events.
    Running,
    /// Everything is in the log; a sink has not applied all of it yet.
    Draining,
    /// Everything it appended is queryable in every sink.
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
    /// Records the sink still has to apply before it has everything of this sync; absent when it could not be asked.
    pub pending: Option<i64>,
    /// Everything of this sync can be queried here.
    pub queryable: bool,
    /// Why the sink could not be asked.
    pub error: Option<String>,
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
    /// Values that did not fit their columns: null there, kept in `dados`.
    pub misfits: Vec<ColumnMisfits>,
    /// Rows that say they were changed later than the server's time: they are read at every sync.
    pub ahead: u64,
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
            SyncPhase::Failed | SyncPhase::Cancelled | SyncPhase::Interrupted => {
                self.sinks.iter().all(|sink| sink.queryable)
            }
        }
    }

    fn new(record: SyncRecord, sinks: Vec<SinkProgress>) -> Self {
        let state = match record.state {
            SyncState::Running => SyncPhase::Running,
            SyncState::Succeeded if sinks.iter().all(|sink| sink.queryable) => SyncPhase::Done,
            SyncState::Succeeded => SyncPhase::Draining,
            SyncState::Failed => SyncPhase::Failed,
            SyncState::Cancelled => SyncPhase::Cancelled,
            SyncState::Interrupted => SyncPhase::Interrupted,
        };
        Self {
            sync_id: record.id,
            table: record.request.table.0,
            state,
            rows_read: record.progress.rows_read,
            appended: record.progress.appended,
            unchanged: record.progress.unchanged,
            dead_letters: record.progress.dead_letters,
            misfits: record.progress.misfits,
            ahead: record.progress.ahead,
            more: record.progress.more,
            reconcile: record.progress.reconcile,
            sinks,
            started_at: record.started_at,
            finished_at: record.finished_at,
            owner: record.owner,
            error: record.error,
        }
    }
}

/// Hears how a sync goes on while somebody waits for it.
#[async_trait]
pub trait SyncWatcher: Send {
    async fn saw(&mut self, status: &SyncStatus);
}

impl Engine {
    /// How a sync is.
    ///
    /// # Errors
    /// When it is unknown or the store can't be reached.
    pub async fn sync_status(&self, id: Uuid) -> Result<SyncStatus, EngineError> {
        let record = self.known_sync(id).await?;
        Ok(self.status_of(record).await)
    }

    /// The latest syncs, newest first.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn recent_syncs(&self, limit: u32) -> Result<Vec<SyncStatus>, Fault> {
        let records = self.ready_store().await?.recent_syncs(limit).await?;
        Ok(futures::future::join_all(records.into_iter().map(|record| self.status_of(record))).await)
    }

    /// Syncs, newest first, and the id to go on from when there are more.
    ///
    /// # Errors
    /// When the limit is out of range, `before` is unknown, or the store can't be reached.
    pub async fn list_syncs(
        &self,
        filter: SyncFilter,
    ) -> Result<(Vec<SyncStatus>, Option<Uuid>), EngineError> {
        const MOST: u32 = 100;
        if filter.limit == 0 || filter.limit > MOST {
            let problem = format!("{} is out of range; give 1 to {MOST} syncs", filter.limit);
            return Err(EngineError::Invalid { field: "limit", problem });
        }
        if let Some(before) = filter.before
            && self.ready_store().await?.sync(before).await?.is_none()
        {
            let problem = "is of no sync; give the next_cursor of the call before".to_owned();
            return Err(EngineError::Invalid { field: "cursor", problem });
        }
        let limit = filter.limit as usize;
        let mut records =
            self.ready_store().await?.syncs(&SyncFilter { limit: filter.limit + 1, ..filter }).await?;
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|record| record.id);
        let listed =
            futures::future::join_all(records.into_iter().map(|record| self.status_of(record))).await;
        Ok((listed, next))
    }

    /// Waits until everything the sync appended is queryable in every sink, but no longer than `patience`, and
    /// returns how it then is. `watcher` hears of every step.
    ///
    /// # Errors
    /// When the sync is unknown or the store can't be reached.
    pub async fn wait_for_sync(
        &self,
        id: Uuid,
        patience: Duration,
        watcher: &mut dyn SyncWatcher,
    ) -> Result<SyncStatus, EngineError> {
        let until = tokio::time::Instant::now() + patience;
        let mut last: Option<SyncStatus> = None;
        loop {
            let status = self.sync_status(id).await?;
            if last.as_ref() != Some(&status) {
                watcher.saw(&status).await;
            }
            if status.is_final() || tokio::time::Instant::now() + LOOK_EVERY > until {
                return Ok(status);
            }
            last = Some(status);
            self.look_again(id).await;
        }
    }

    pub(super) async fn known_sync(&self, id: Uuid) -> Result<SyncRecord, EngineError> {
        self.ready_store().await?.sync(id).await?.ok_or(EngineError::UnknownSync(id))
    }

    /// Returns when a sync of this process has progressed, or after a moment.
    async fn look_again(&self, id: Uuid) {
        let progress = self.lock_running().get(&id).map(|sync| sync.progress.clone());
        match progress {
            Some(mut progress) => {
                progress.mark_unchanged();
                tokio::time::timeout(LOOK_EVERY, progress.changed()).await.ok();
            }
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }

    async fn status_of(&self, record: SyncRecord) -> SyncStatus {
        let sinks = self.sinks.iter().map(|sink| self.progress_in(&**sink, &record));
        let sinks = futures::future::join_all(sinks).await;
        SyncStatus::new(record, sinks)
    }

    async fn progress_in(&self, sink: &dyn Sink, record: &SyncRecord) -> SinkProgress {
        let ended = record.state != SyncState::Running;
        self.progress_to(sink, &record.log, &record.progress.targets, ended).await
    }

    /// How far a sink is from having everything below `targets`, which are all there will be when `ended`.
    async fn progress_to(
        &self,
        sink: &dyn Sink,
        log: &str,
        targets: &[Position],
        ended: bool,
    ) -> SinkProgress {
        let asked = async {
            let group = group_of(&self.settings, sink);
            let standing = lag::standing(&*self.log, log, sink, &group).await?;
            let pending = lag::pending(&standing, targets);
            // Applied is not yet visible where an index refreshes in its own time.
            if pending == 0 && ended && !targets.is_empty() {
                sink.make_visible().await?;
            }
            Ok::<_, Fault>(pending)
        };
        let told = |pending, error| SinkProgress {
            sink: sink.name().to_owned(),
            queryable: pending == Some(0) && ended,
            pending,
            error,
        };
        match asked.await {
            Ok(pending) => told(Some(pending), None),
            Err(fault) => told(None, Some(fault.to_string())),
        }
    }

    /// Waits until everything below `targets` is queryable in every sink, but no longer than `patience`, and
    /// returns how far each then is.
    ///
    /// # Errors
    /// When the log can't be reached.
    pub async fn wait_for_positions(
        &self,
        targets: &[Position],
        patience: Duration,
    ) -> Result<Vec<SinkProgress>, Fault> {
        let log = self.log.identity().await?;
        let until = tokio::time::Instant::now() + patience;
        loop {
            let asked = self.sinks.iter().map(|sink| self.progress_to(&**sink, &log, targets, true));
            let sinks = futures::future::join_all(asked).await;
            let done = sinks.iter().all(|sink| sink.queryable);
            if done || tokio::time::Instant::now() + LOOK_EVERY > until {
                return Ok(sinks);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
