//! Builds an index anew from the log, and from the store where the log lacks some, while the old one serves.
//!
//! A rebuild reads the log from where it begins in a consumer group of its own, and fills in what the store has where the
//! log has lost its beginning or the new index holds fewer than the store: see [`fill`]. Then the
//! new index takes the old one's place in one step. What the ordinary drain had in hand at that moment may have gone
//! into the old index only: so the rebuild reads on to the end that the log had after the change, and only then is
//! the old index removed. The new index itself remembers the rebuild and the group how far it is, so a process that
//! starts goes on with what another has left.

mod fill;

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

use self::fill::{Filled, FromTheFirst};
use super::{EngineError, drain::Drain, reading::Reading, shared::Shared, stats::DrainStats, supervisor};
use crate::{
    backoff::Backoff,
    fail_point,
    fault::{Fault, FaultKind},
    index::{IndexName, Rebuild},
    log::{Extent, Position},
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
    /// Records of the log, or rows of the store, still to be read; absent before the log was asked.
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

    /// Begins to build indices anew, or joins the rebuilds that are under way.
    ///
    /// # Errors
    /// When documents would be lost, because neither the log nor the store has what they were made of; when log, store or
    /// index can't be reached or refuse.
    pub async fn begin(&self, indices: &[IndexName]) -> Result<Vec<RebuildStatus>, EngineError> {
        self.shared.ready_store().await?;
        let extents = self.shared.log.extents().await?;
        let (under_way, ledger) = (self.under_way().await?, self.shared.erased.ledger().await?);
        for index in indices.iter().filter(|index| !under_way.contains(index)) {
            let lost = fill::would_lose(&self.shared, *index, &extents).await?;
            if lost > 0 {
                return Err(EngineError::Invalid {
                    field: "index",
                    problem: format!(
                        "{lost} documents of {index} would be lost: the log no longer holds what they were made of, and {0} \
                         holds fewer than the index; bring them back into {0} first (a reconciliation appends every row \
                         that the source has), or delete the index if it holds what it should not",
                        self.shared.store.name()
                    ),
                });
            }
        }
        let mut begun = Vec::new();
        for index in indices {
            let rebuild = self.shared.index.begin_rebuild(*index, ledger.version()).await?;
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
        let run = Run { shared: self.shared.clone(), rebuild, status: sender };
        self.shared.tasks.spawn(run.run(self.shared.closing.clone()));
        status
    }

    fn lock_latest(&self) -> MutexGuard<'_, HashMap<IndexName, watch::Receiver<RebuildStatus>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One rebuild, run by this process.
struct Run {
    shared: Arc<Shared>,
    rebuild: Rebuild,
    status: watch::Sender<RebuildStatus>,
}

/// How the steps of a rebuild ended.
enum Step {
    Done,
    /// What was built is not to be trusted.
    BeginAnew,
}

impl Run {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let (index, id) = (self.rebuild.index, self.rebuild.id);
            info!(%index, rebuild = %id, "rebuild begins");
            let drain = self.drain();
            let filled = stop.child_token();
            let filling = tokio::spawn(supervisor::keep_draining(drain.clone(), filled.clone()));
            let next = self.run_once(&drain, &stop).await;
            filled.cancel();
            filling.await.ok();
            let Some(next) = next else { break };
            warn!(%index, rebuild = %id, next = %next.id, "rebuild begins anew");
            self.status.send_replace(RebuildStatus::of(&next));
            self.rebuild = next;
        }
        if !stop.is_cancelled() {
            self.status.send_modify(|status| {
                status.phase = RebuildPhase::Done;
                status.pending = Some(0);
            });
            info!(index = %self.rebuild.index, rebuild = %self.rebuild.id, "rebuild is done");
        }
    }

    fn drain(&self) -> Drain {
        let Shared { catalog, log, store, index, settings, .. } = &*self.shared;
        let group = format!("{}.rebuild-{}", self.shared.group_of(&**index), self.rebuild.id);
        let sink = index.rebuild_sink(&self.rebuild);
        Drain {
            catalog: *catalog,
            store: store.clone(),
            log: log.clone(),
            sink: Arc::new(FromTheFirst { sink, log: log.clone(), group: group.clone() }),
            group,
            limits: settings.batch,
            pauses: settings.pauses,
            stats: Arc::new(DrainStats::new(index.name())),
            parks: false,
        }
    }

    /// The rebuild to go on with, where this one was begun anew.
    async fn run_once(&self, drain: &Drain, stop: &CancellationToken) -> Option<Rebuild> {
        let index = self.rebuild.index;
        let mut backoff = Backoff::new(drain.pauses.0, drain.pauses.1);
        loop {
            let attempt = async {
                match self.steps(drain).await {
                    Ok(Step::Done) => Ok(None),
                    Ok(Step::BeginAnew) => self.begin_anew().await.map(Some),
                    // Another process that ran it too was faster, or began it anew.
                    Err(fault) if fault.kind == FaultKind::Invalid => {
                        let rebuilds = self.shared.index.rebuilds().await?;
                        Ok(rebuilds.into_iter().find(|one| one.index == index && one.id != self.rebuild.id))
                    }
                    Err(fault) => Err(fault),
                }
            };
            match stop.run_until_cancelled(attempt).await? {
                Ok(next) => return next,
                Err(fault) => {
                    let pause = backoff.next_pause(fault.retry_after);
                    warn!(%index, error = %fault, ?pause, "rebuild backs off");
                    self.status.send_modify(|status| status.last_error = Some(fault.to_string()));
                    stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
    }

    async fn begin_anew(&self) -> Result<Rebuild, Fault> {
        let ledger = self.shared.erased.ledger().await?;
        self.shared.index.end_rebuild(&self.rebuild).await?;
        self.shared.index.begin_rebuild(self.rebuild.index, ledger.version()).await
    }

    /// Every step may be repeated, so a fault begins them again.
    async fn steps(&self, drain: &Drain) -> Result<Step, Fault> {
        let Shared { log, index, .. } = &*self.shared;
        fail_point::pass("rebuild.begun");
        if self.status.borrow().phase == RebuildPhase::Building {
            if !index.rebuilds().await?.iter().any(|one| one.id == self.rebuild.id) {
                return Err(Fault::new(
                    index.name(),
                    FaultKind::Invalid,
                    "the rebuild is over",
                    "begin another",
                ));
            }
            // Twice: what came while the bulk was read is little, and little is missing when the change comes.
            self.read_up_to(drain, log.extents().await?).await?;
            let stored = fill::stored(&self.shared, self.rebuild.index).await?;
            self.read_up_to(drain, log.extents().await?).await?;
            let is_cut = fill::is_cut(&log.extents().await?);
            if is_cut || fill::built(&*drain.sink, self.rebuild.index).await? < stored {
                let told = |left| self.status.send_modify(|status| status.pending = Some(left));
                if fill::fill(&self.shared, &self.rebuild, &*drain.sink, &told).await? == Filled::Overtaken {
                    return Ok(Step::BeginAnew);
                }
                self.read_up_to(drain, log.extents().await?).await?;
            }
            fail_point::pass("rebuild.filled");
            index.serve_rebuilt(&self.rebuild).await?;
            fail_point::pass("rebuild.served");
            self.status.send_modify(|status| status.phase = RebuildPhase::Finishing);
        }
        // Taken after the change: whatever went into the old index only lies before it.
        self.read_up_to(drain, log.extents().await?).await?;
        fail_point::pass("rebuild.caught_up");
        index.end_rebuild(&self.rebuild).await?;
        fail_point::pass("rebuild.ended");
        Ok(Step::Done)
    }

    async fn read_up_to(&self, drain: &Drain, ends: Vec<Extent>) -> Result<(), Fault> {
        let log = &*self.shared.log;
        loop {
            let reading = Reading::of(log, &*drain.sink, &drain.group).await?;
            // A topic that was made anew meanwhile may never reach what it had.
            let ends = reachable(&ends, &log.extents().await?);
            let pending = pending(&ends, &log.committed(&reading.group).await?);
            let report = drain.stats.report();
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
