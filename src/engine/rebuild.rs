//! Builds an index anew from the log while the old one serves.
//!
//! A rebuild reads the log from its beginning in a consumer group of its own. When it has read what was there, the
//! new index takes the old one's place in one step. What the ordinary drain had in hand at that moment may have gone
//! into the old index only: so the rebuild reads on to the end that the log had after the change, and only then is
//! the old index removed. The new index itself remembers the rebuild and the group how far it is, so a process that
//! starts goes on with what another has left.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{EngineError, drain::Drain, reading::Reading, shared::Shared, stats::DrainStats, supervisor};
use crate::{
    backoff::Backoff,
    fail_point,
    fault::{Fault, FaultKind},
    index::{Index, IndexName, Rebuild},
    log::{Extent, Log, Position},
};

/// How often it is looked how far a rebuild is.
const LOOK: Duration = Duration::from_millis(250);

/// How a rebuild stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildPhase {
    /// The old index serves, the new one is being filled.
    Building,
    /// The new index serves; what was under way meanwhile is being caught up on.
    Finishing,
    Done,
}

/// A rebuild, as of now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RebuildStatus {
    pub id: Uuid,
    #[schemars(with = "String")]
    pub index: IndexName,
    pub phase: RebuildPhase,
    /// Records of the log still to be read in this phase; absent before the log was asked.
    pub pending: Option<u64>,
    pub started_at: DateTime<Utc>,
    /// What went wrong last; it is tried again by itself.
    pub last_error: Option<String>,
}

impl RebuildStatus {
    fn of(rebuild: &Rebuild) -> Self {
        Self {
            id: rebuild.id,
            index: rebuild.index,
            phase: if rebuild.serves { RebuildPhase::Finishing } else { RebuildPhase::Building },
            pending: None,
            started_at: rebuild.started_at,
            last_error: None,
        }
    }
}

/// The indices that are built anew.
pub struct Rebuilds {
    shared: Arc<Shared>,
    /// The latest of each index that this process runs or ran.
    latest: Mutex<HashMap<IndexName, watch::Receiver<RebuildStatus>>>,
}

impl Rebuilds {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, latest: Mutex::default() }
    }

    /// Begins to build indices anew from the log, or joins the rebuilds that are under way.
    ///
    /// # Errors
    /// When the log no longer holds its first records, so that documents would be lost; when log or index can't be
    /// reached or refuse.
    pub async fn begin(&self, indices: &[IndexName]) -> Result<Vec<RebuildStatus>, EngineError> {
        let extents = self.shared.log.extents().await?;
        if let Some(cut) = extents.iter().find(|extent| extent.low > 0) {
            return Err(EngineError::Invalid {
                field: "index",
                problem: format!(
                    "the log begins at record {} of partition {}: what was removed before it would be missing in an index made from it",
                    cut.low, cut.partition
                ),
            });
        }
        let mut begun = Vec::new();
        for index in indices {
            let rebuild = self.shared.index.begin_rebuild(*index).await?;
            begun.push(self.follow(rebuild));
        }
        Ok(begun)
    }

    /// The rebuilds that this process runs or ran, the latest of each index.
    pub fn latest(&self) -> Vec<RebuildStatus> {
        self.lock_latest().values().map(|status| status.borrow().clone()).collect()
    }

    /// The indices that are being built anew, by whatever process.
    ///
    /// # Errors
    /// When the index can't be reached.
    pub async fn under_way(&self) -> Result<Vec<IndexName>, Fault> {
        Ok(self.shared.index.rebuilds().await?.into_iter().map(|rebuild| rebuild.index).collect())
    }

    /// Waits until the rebuilds of these indices are done, for at most `patience`.
    pub async fn wait_for(&self, indices: &[IndexName], patience: Duration) -> Vec<RebuildStatus> {
        let watched: Vec<_> = self
            .lock_latest()
            .iter()
            .filter(|(index, _)| indices.contains(index))
            .map(|(_, s)| s.clone())
            .collect();
        let all_done = async {
            for mut status in watched.clone() {
                // An error means that it ended with this process's work.
                status.wait_for(|status| status.phase == RebuildPhase::Done).await.ok();
            }
        };
        tokio::time::timeout(patience, all_done).await.ok();
        watched.iter().map(|status| status.borrow().clone()).collect()
    }

    /// Takes up what a process that is gone has begun.
    pub(super) fn resume(self: &Arc<Self>) {
        let rebuilds = self.clone();
        self.shared.tasks.spawn(async move {
            let Shared { index, settings, closing, .. } = &*rebuilds.shared;
            let mut backoff = Backoff::new(settings.pauses.0, settings.pauses.1);
            while let Some(found) = closing.run_until_cancelled(index.rebuilds()).await {
                match found {
                    Ok(found) => {
                        for rebuild in found {
                            rebuilds.follow(rebuild);
                        }
                        return;
                    }
                    Err(fault) => {
                        let pause = backoff.next_pause(fault.retry_after);
                        closing.run_until_cancelled(tokio::time::sleep(pause)).await;
                    }
                }
            }
        });
    }

    /// Runs a rebuild, unless this process does already.
    fn follow(&self, rebuild: Rebuild) -> RebuildStatus {
        let mut rebuilds = self.lock_latest();
        if let Some(status) = rebuilds.get(&rebuild.index)
            && status.borrow().id == rebuild.id
        {
            return status.borrow().clone();
        }
        let (sender, receiver) = watch::channel(RebuildStatus::of(&rebuild));
        rebuilds.insert(rebuild.index, receiver);
        let status = sender.borrow().clone();
        let Shared { catalog, log, store, index, settings, tasks, closing, .. } = &*self.shared;
        let drain = Drain {
            catalog: *catalog,
            store: store.clone(),
            log: log.clone(),
            sink: index.rebuild_sink(&rebuild),
            group: format!("{}.rebuild-{}", self.shared.group_of(&**index), rebuild.id),
            limits: settings.batch,
            pauses: settings.pauses,
            stats: Arc::new(DrainStats::new(index.name())),
            parks: false,
        };
        let run = Run { log: log.clone(), index: index.clone(), rebuild, drain, status: sender };
        tasks.spawn(run.run(closing.clone()));
        status
    }

    fn lock_latest(&self) -> MutexGuard<'_, HashMap<IndexName, watch::Receiver<RebuildStatus>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One rebuild, run by this process.
struct Run {
    log: Arc<dyn Log>,
    index: Arc<dyn Index>,
    rebuild: Rebuild,
    drain: Drain,
    status: watch::Sender<RebuildStatus>,
}

impl Run {
    async fn run(self, stop: CancellationToken) {
        let index = self.rebuild.index;
        info!(%index, rebuild = %self.rebuild.id, "rebuild begins");
        let filled = stop.child_token();
        let filling = tokio::spawn(supervisor::keep_draining(self.drain.clone(), filled.clone()));
        let mut backoff = Backoff::new(self.drain.pauses.0, self.drain.pauses.1);
        while let Some(outcome) = stop.run_until_cancelled(self.steps()).await {
            match outcome {
                Ok(()) => break,
                // Another process that ran it too was faster.
                Err(fault) if fault.kind == FaultKind::Invalid => break,
                Err(fault) => {
                    let pause = backoff.next_pause(fault.retry_after);
                    warn!(%index, error = %fault, ?pause, "rebuild backs off");
                    self.status.send_modify(|status| status.last_error = Some(fault.to_string()));
                    stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
        filled.cancel();
        filling.await.ok();
        if !stop.is_cancelled() {
            self.status.send_modify(|status| {
                status.phase = RebuildPhase::Done;
                status.pending = Some(0);
            });
            info!(%index, rebuild = %self.rebuild.id, "rebuild is done");
        }
    }

    /// Every step may be repeated, so a fault begins them again.
    async fn steps(&self) -> Result<(), Fault> {
        fail_point::pass("rebuild.begun");
        if self.status.borrow().phase == RebuildPhase::Building {
            // Twice: what came while the bulk was read is little, and little is missing when the change comes.
            for _ in 0..2 {
                self.read_up_to(self.log.extents().await?).await?;
            }
            fail_point::pass("rebuild.filled");
            self.index.serve_rebuilt(&self.rebuild).await?;
            fail_point::pass("rebuild.served");
            self.status.send_modify(|status| status.phase = RebuildPhase::Finishing);
        }
        // Taken after the change: whatever went into the old index only lies before it.
        self.read_up_to(self.log.extents().await?).await?;
        fail_point::pass("rebuild.caught_up");
        self.index.end_rebuild(&self.rebuild).await?;
        fail_point::pass("rebuild.ended");
        Ok(())
    }

    async fn read_up_to(&self, ends: Vec<Extent>) -> Result<(), Fault> {
        loop {
            let reading = Reading::of(&*self.log, &*self.drain.sink, &self.drain.group).await?;
            // A topic that was made anew meanwhile may never reach what it had.
            let ends = reachable(&ends, &self.log.extents().await?);
            let pending = pending(&ends, &self.log.committed(&reading.group).await?);
            let report = self.drain.stats.report();
            self.status.send_modify(|status| {
                status.pending = Some(pending);
                status.last_error =
                    report.last_error.filter(|_| !matches!(report.state, super::DrainState::Running));
            });
            if pending == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The ends, where the log still has them.
fn reachable(ends: &[Extent], now: &[Extent]) -> Vec<Extent> {
    let end = |end: &Extent| {
        let now = now.iter().find(|now| now.partition == end.partition)?;
        Some(Extent { low: now.low, high: end.high.min(now.high), ..*end })
    };
    ends.iter().filter_map(end).collect()
}

/// Records below the ends that are not read yet.
fn pending(ends: &[Extent], next: &[Position]) -> u64 {
    let pending = ends.iter().map(|end| {
        let next =
            next.iter().find(|next| next.partition == end.partition).map_or(end.low, |next| next.offset);
        u64::try_from(end.high - next.max(end.low)).unwrap_or_default()
    });
    pending.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_is_what_lies_between_the_group_and_the_ends() {
        let ends = [
            Extent { partition: 0, low: 0, high: 50 },
            Extent { partition: 1, low: 0, high: 0 },
            Extent { partition: 2, low: 7, high: 9 },
        ];
        let at = |partition, offset| Position { partition, offset };
        assert_eq!(pending(&ends, &[]), 52, "nothing is read, and an empty partition has nothing to read");
        assert_eq!(pending(&ends, &[at(0, 20), at(2, 9)]), 30);
        assert_eq!(pending(&ends, &[at(0, 90), at(2, 9)]), 0, "further than the ends");
    }
}
