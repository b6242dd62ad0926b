//! Builds an index anew from the log, and from the store where the log lacks some, while the old one serves.
//!
//! A rebuild reads the log from where it begins in a consumer group of its own, and fills in what the store has where the
//! log has lost its beginning or was replaced, or the new index holds fewer than the store or not each document of the
//! old: see [`fill`]. It is refused where the new index still lacks documents of the old one that nobody erased. Otherwise the
//! new index takes the old one's place in one step. What the ordinary drain had in hand at that moment may have gone
//! into the old index only: so the rebuild reads on to the end that the log had after the change, and only then is
//! the old index removed. The new index itself remembers the rebuild and the group how far it is, so a process that
//! starts goes on with what another has left, or begins it anew where another definition began it.

mod fill;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use self::fill::{Filled, FromTheFirst};
use super::{EngineError, drain::Drain, reading::Reading, shared::Shared, stats::DrainStats, supervisor};
use crate::{
    backoff::Backoff,
    fail_point,
    fault::{Fault, FaultKind},
    index::{IndexName, Rebuild, another_definition},
    log::{Extent, Position},
    next_step::{NextStep, Remark, SAME_DEFINITIONS},
    store::{DrainBeat, NoticeKind},
};

/// How often it is looked how far a rebuild is.
const LOOK: Duration = Duration::from_millis(250);

/// How often it is looked whether another process has ended it.
const LOOK_FOR_END: Duration = Duration::from_secs(5);

/// Who begins a rebuild anew has ended it before, for a moment.
const BEGUN_ANEW_WITHIN: Duration = Duration::from_secs(5);

/// How often a process says that it runs a rebuild, and for how long that is believed.
const TELL_EVERY: Duration = Duration::from_secs(10);
const BELIEVED_FOR: Duration = Duration::from_secs(35);

/// How long a rebuild may fail, or lie about, before that is a problem.
const TOLD_AFTER: TimeDelta = TimeDelta::seconds(60);

/// How a rebuild stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildPhase {
    /// The old index serves, the new one is being filled.
    Building,
    /// The new index serves; what was under way meanwhile is being caught up on.
    Finishing,
    Done,
    /// The old index serves on: documents of it could be made of nothing any more.
    Refused,
}

impl RebuildPhase {
    fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Refused)
    }
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
    /// Since when it has not come on; absent where it does.
    pub failing_since: Option<DateTime<Utc>>,
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
            failing_since: None,
        }
    }

    /// Takes over what the process tells that runs it; says so where none does.
    fn hear(&mut self, beat: Option<&DrainBeat>, now: DateTime<Utc>) -> Option<Remark> {
        if let Some(beat) = beat {
            self.last_error.clone_from(&beat.last_error);
            self.failing_since = beat.failing_since;
            return None;
        }
        let index = self.index;
        (now - self.started_at > TOLD_AFTER).then(|| {
            let problem =
                format!("the index {index} was begun to be made anew, and no process goes on with it");
            Remark::new(problem, NextStep::StartWorker)
        })
    }

    /// What is wrong with it, where it has been for long.
    fn problem(&self, now: DateTime<Utc>) -> Option<Remark> {
        if self.phase == RebuildPhase::Refused {
            let (index, error) = (self.index, self.error());
            return Some(format!("the index {index} was not made anew: {error}").into());
        }
        self.failing_since.filter(|since| now - *since > TOLD_AFTER)?;
        self.failing().map(Remark::from)
    }

    /// What it fails with, where that may pass yet.
    pub(super) fn fails_lately(&self, now: DateTime<Utc>) -> Option<String> {
        self.failing().filter(|_| self.problem(now).is_none())
    }

    fn failing(&self) -> Option<String> {
        let (index, error) = (self.index, self.error());
        let since = self.failing_since?.format("%Y-%m-%dT%H:%M:%SZ");
        Some(format!(
            "making the index {index} anew has failed since {since}, and the old one serves on: {error}"
        ))
    }

    fn error(&self) -> &str {
        self.last_error.as_deref().unwrap_or("no error is known")
    }
}

/// The indices that are built anew.
pub struct Rebuilds {
    shared: Arc<Shared>,
    /// The latest of each index that this process runs or ran.
    latest: Mutex<HashMap<IndexName, watch::Receiver<RebuildStatus>>>,
    /// Indices whose rebuild somebody waited for in vain: who asks again wants to hear how it ended.
    awaited: Mutex<HashSet<IndexName>>,
    /// Why this process does not take up rebuilds that were under way when it started.
    unfit: Mutex<HashMap<Uuid, Fault>>,
}

impl Rebuilds {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, latest: Mutex::default(), awaited: Mutex::default(), unfit: Mutex::default() }
    }

    /// Begins to build indices anew, or joins the rebuilds that are under way.
    ///
    /// # Errors
    /// When store or index can't be reached or refuse; when events of tables are to be built that are not defined here: then
    /// none was begun.
    pub async fn begin(&self, indices: &[IndexName]) -> Result<Vec<RebuildStatus>, EngineError> {
        self.shared.ready_store().await?;
        if indices.contains(&IndexName::Eventos)
            && !self.runs(IndexName::Eventos)
            && let Some(lack) = self.lacks_definitions().await?
        {
            return Err(lack.into());
        }
        let ledger = self.shared.erased.ledger().await?;
        let mut begun = Vec::new();
        for index in indices {
            let rebuild = self.shared.index.begin_rebuild(*index, ledger.version()).await?;
            begun.push(self.follow(rebuild));
        }
        Ok(begun)
    }

    /// Whether this process runs a rebuild of an index.
    fn runs(&self, index: IndexName) -> bool {
        self.lock_latest().get(&index).is_some_and(|status| !status.borrow().phase.is_over())
    }

    /// An index of events holds those of every table, and who builds it must know them all: what they have to be searched by
    /// is in their definitions.
    async fn lacks_definitions(&self) -> Result<Option<Fault>, Fault> {
        let Shared { index, store, .. } = &*self.shared;
        let undefined = store.undefined_kinds().await?;
        let lack = || {
            Fault::misconfigured(
                index.name(),
                format!(
                    "making the index {} anew: {} has events of tables that are not defined here: {}",
                    IndexName::Eventos,
                    store.name(),
                    undefined.join(", ")
                ),
                "rebuild it with a process that has the definitions of all tables (SLUICE_TABLES_DIR)",
            )
        };
        Ok((!undefined.is_empty()).then(lack))
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

    /// The rebuilds that are under way in whatever process, and those of this process that are over; with what is wrong.
    pub(super) async fn judged(&self) -> Result<(Vec<RebuildStatus>, Vec<Remark>), Fault> {
        let Shared { index, store, .. } = &*self.shared;
        let mut all = self.latest();
        let found = index.rebuilds().await?;
        let others = found.iter().filter(|one| all.iter().all(|known| known.id != one.id));
        let others: Vec<RebuildStatus> = others.map(RebuildStatus::of).collect();
        let beats = if others.is_empty() { Vec::new() } else { store.drain_beats(BELIEVED_FOR).await? };
        let now = Utc::now();
        let mut problems = Vec::new();
        let unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for mut status in others {
            let group = beat_of(status.id);
            let beat = beats.iter().find(|beat| beat.consumer_group == group);
            let unfit = unfit.get(&status.id).filter(|_| beat.is_none());
            let lies = status.hear(beat, now);
            problems.extend(unfit.map(Fault::remark).or(lies));
            all.push(status);
        }
        problems.extend(all.iter().filter_map(|status| status.problem(now)));
        Ok((all, problems))
    }

    /// Those of these indices of which somebody waited for the latest rebuild and has not heard yet how it ended.
    pub fn awaited(&self, indices: &[IndexName]) -> Vec<IndexName> {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        indices.iter().filter(|index| awaited.contains(index)).copied().collect()
    }

    /// Waits until the rebuilds of these indices are done, for at most `patience`. Until all are over, none of them is done
    /// with: see [`Rebuilds::awaited`].
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
                status.wait_for(|status| status.phase.is_over()).await.ok();
            }
        };
        tokio::time::timeout(patience, all_done).await.ok();
        let rebuilds: Vec<RebuildStatus> = watched.iter().map(|status| status.borrow().clone()).collect();
        let are_over = rebuilds.iter().all(|rebuild| rebuild.phase.is_over());
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        for RebuildStatus { index, .. } in &rebuilds {
            if are_over {
                awaited.remove(index);
            } else {
                awaited.insert(*index);
            }
        }
        rebuilds
    }

    /// Takes up what a process that is gone has begun.
    pub(super) fn resume(self: &Arc<Self>) {
        let rebuilds = self.clone();
        self.shared.tasks.spawn(async move {
            let Shared { settings, closing, .. } = &*rebuilds.shared;
            let mut backoff = Backoff::new(settings.pauses.0, settings.pauses.1);
            while let Some(found) = closing.run_until_cancelled(rebuilds.take_up()).await {
                match found {
                    Ok(()) => return,
                    Err(fault) => {
                        let pause = backoff.next_pause(fault.retry_after);
                        closing.run_until_cancelled(tokio::time::sleep(pause)).await;
                    }
                }
            }
        });
    }

    async fn take_up(&self) -> Result<(), Fault> {
        for rebuild in self.shared.index.rebuilds().await? {
            let (index, id) = (rebuild.index, rebuild.id);
            let fit = if index == IndexName::Eventos {
                self.shared.ready_store().await?;
                self.lacks_definitions().await?.map_or(Ok(rebuild), Err)
            } else if rebuild.serves || rebuild.differing.is_empty() {
                Ok(rebuild)
            } else {
                // Nobody with this definition could go on with it. Where a later one has prepared the index since, that is refused.
                self.shared.ready_store().await?;
                let ledger = self.shared.erased.ledger().await?;
                self.shared.index.begin_rebuild(index, ledger.version()).await
            };
            match fit {
                Ok(rebuild) => {
                    self.follow(rebuild);
                }
                Err(unfit) if unfit.kind == FaultKind::Misconfigured => {
                    warn!(%index, rebuild = %id, error = %unfit, "rebuild is left to others");
                    self.unfit.lock().unwrap_or_else(PoisonError::into_inner).insert(id, unfit);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
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
        let run = Run { shared: self.shared.clone(), rebuild, status: sender, failed: Mutex::default() };
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
    /// Why its steps had to be begun again, and since when they have been.
    failed: Mutex<Option<(DateTime<Utc>, String)>>,
}

/// What tells others that a rebuild is run.
fn beat_of(id: Uuid) -> String {
    format!("rebuild-{id}")
}

/// How the steps of a rebuild ended.
enum Step {
    Done,
    /// What was built is not to be trusted.
    BeginAnew,
    /// So many documents would be lost.
    Refuse(usize),
}

impl Run {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let (index, id) = (self.rebuild.index, self.rebuild.id);
            info!(%index, rebuild = %id, "rebuild begins");
            let drain = self.drain();
            let filled = stop.child_token();
            let filling = tokio::spawn(supervisor::keep_draining(drain.clone(), filled.clone()));
            let next = tokio::select! {
                next = self.run_once(&drain, &stop) => next,
                () = self.keep_telling() => None,
            };
            filled.cancel();
            filling.await.ok();
            let Some(next) = next else { break };
            warn!(%index, rebuild = %id, next = %next.id, "rebuild begins anew");
            self.status.send_replace(RebuildStatus::of(&next));
            self.rebuild = next;
        }
        if !stop.is_cancelled() && !self.status.borrow().phase.is_over() {
            self.status.send_modify(|status| {
                status.phase = RebuildPhase::Done;
                status.pending = Some(0);
                status.failing_since = None;
            });
            info!(index = %self.rebuild.index, rebuild = %self.rebuild.id, "rebuild is done");
        }
    }

    /// Tells other processes, for as long as it is awaited.
    async fn keep_telling(&self) {
        loop {
            let status = self.status.borrow().clone();
            let beat = DrainBeat {
                consumer_group: beat_of(self.rebuild.id),
                owner: self.shared.settings.owner.clone(),
                state: "running".to_owned(),
                failing_since: status.failing_since,
                last_error: status.last_error,
                seen_at: DateTime::UNIX_EPOCH,
            };
            if let Err(fault) = self.shared.store.report_drains(&[beat]).await {
                debug!(error = %fault, "how the rebuild is could not be told");
            }
            tokio::time::sleep(TELL_EVERY).await;
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
                    Ok(Step::Refuse(lost)) => self.refuse(lost).await.map(|()| None),
                    Err(fault) if fault.kind == FaultKind::Invalid => self.ended_elsewhere(fault).await,
                    Err(fault) => Err(fault),
                }
            };
            match stop.run_until_cancelled(attempt).await? {
                Ok(next) => return next,
                Err(fault) => {
                    let pause = backoff.next_pause(fault.retry_after);
                    warn!(%index, error = %fault, ?pause, "rebuild backs off");
                    let since = self.lock_failed().as_ref().map_or_else(Utc::now, |(since, _)| *since);
                    *self.lock_failed() = Some((since, fault.to_string()));
                    self.status.send_modify(|status| {
                        status.last_error = Some(fault.to_string());
                        status.failing_since = Some(since);
                    });
                    stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
    }

    async fn refuse(&self, lost: usize) -> Result<(), Fault> {
        let fault = fill::refusal(&self.shared, self.rebuild.index, lost).await?;
        self.shared.index.end_rebuild(&self.rebuild).await?;
        self.tell_refused(&fault);
        Ok(())
    }

    fn tell_refused(&self, fault: &Fault) {
        warn!(index = %self.rebuild.index, rebuild = %self.rebuild.id, error = %fault, "rebuild is refused");
        self.status.send_modify(|status| {
            status.phase = RebuildPhase::Refused;
            status.pending = None;
            status.failing_since = None;
            status.last_error = Some(fault.to_string());
        });
    }

    /// What became of a rebuild that is over, as `met` says: another process that ran it too was faster, began it anew, or
    /// gave it up. The rebuild to go on with, where there is one; one of another definition is left to those who have that, as
    /// it ends for nobody while a share of its records is read by somebody who may not write them.
    async fn ended_elsewhere(&self, met: Fault) -> Result<Option<Rebuild>, Fault> {
        let (index, until) = (&*self.shared.index, Instant::now() + BEGUN_ANEW_WITHIN);
        let (problem, advice) = loop {
            let mut under_way = index.rebuilds().await?.into_iter();
            match under_way.find(|one| one.index == self.rebuild.index) {
                Some(same) if same.id == self.rebuild.id => return Err(met),
                Some(next) if next.differing.is_empty() => return Ok(Some(next)),
                _ if index.serves_what_was_built(&self.rebuild).await? => return Ok(None),
                Some(next) => {
                    let differing = another_definition(next.index, &next.differing);
                    break (format!("began it anew: {differing}"), SAME_DEFINITIONS);
                }
                None if Instant::now() < until => tokio::time::sleep(LOOK).await,
                None => {
                    break (
                        "the index that serves is not the one it built".to_owned(),
                        "look at the status and the log of that process, which say why; then begin another",
                    );
                }
            }
        };
        let Rebuild { id, index: of, .. } = &self.rebuild;
        let told = format!("another process ended the rebuild {id} of {of}, and {problem}");
        self.tell_refused(&Fault::misconfigured(index.name(), told, advice));
        Ok(None)
    }

    fn lock_failed(&self) -> MutexGuard<'_, Option<(DateTime<Utc>, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.check_under_way().await?;
            // Twice: what came while the bulk was read is little, and little is missing when the change comes.
            self.read_up_to(drain, log.extents().await?).await?;
            let stored = fill::stored(&self.shared, self.rebuild.index).await?;
            self.read_up_to(drain, log.extents().await?).await?;
            let is_cut = fill::is_cut(&log.extents().await?);
            let is_less = fill::built(&*drain.sink, self.rebuild.index).await? < stored;
            if is_cut || is_less || self.was_log_replaced().await? || !self.lost(drain).await?.is_empty() {
                let told = |left| self.status.send_modify(|status| status.pending = Some(left));
                if fill::fill(&self.shared, &self.rebuild, &*drain.sink, &told).await? == Filled::Overtaken {
                    return Ok(Step::BeginAnew);
                }
                self.read_up_to(drain, log.extents().await?).await?;
                let lost = self.lost(drain).await?.len();
                if lost > 0 {
                    return Ok(Step::Refuse(lost));
                }
            }
            fail_point::pass("rebuild.filled");
            index.serve_rebuilt(&self.rebuild).await?;
            fail_point::pass("rebuild.served");
            *self.lock_failed() = None;
            self.status.send_modify(|status| status.phase = RebuildPhase::Finishing);
        }
        // Taken after the change: whatever went into the old index only lies before it.
        self.read_up_to(drain, log.extents().await?).await?;
        // Who hears that it is done may search at once.
        index.make_visible().await?;
        fail_point::pass("rebuild.caught_up");
        index.end_rebuild(&self.rebuild).await?;
        fail_point::pass("rebuild.ended");
        Ok(Step::Done)
    }

    /// # Errors
    /// Of kind [`FaultKind::Invalid`] when it is over; else when the index can't be reached.
    async fn check_under_way(&self) -> Result<(), Fault> {
        let index = &*self.shared.index;
        if index.rebuilds().await?.iter().any(|one| one.id == self.rebuild.id) {
            return Ok(());
        }
        Err(Fault::new(index.name(), FaultKind::Invalid, "the rebuild is over", "begin another"))
    }

    /// What the old index has and the new one has not, though it has read the log to its end.
    async fn lost(&self, drain: &Drain) -> Result<HashSet<String>, Fault> {
        let before = fill::lacking(&self.shared, &self.rebuild, &*drain.sink).await?;
        if before.is_empty() {
            return Ok(before);
        }
        // What the old index had from the log until here is in both now; what came since is in one of the two questions only.
        self.read_up_to(drain, self.shared.log.extents().await?).await?;
        let after = fill::lacking(&self.shared, &self.rebuild, &*drain.sink).await?;
        Ok(before.intersection(&after).cloned().collect())
    }

    /// Whether the log is known to be another than the one that store and index were first filled from.
    async fn was_log_replaced(&self) -> Result<bool, Fault> {
        let kinds = [NoticeKind::LogReplaced, NoticeKind::LogCut];
        Ok(!self.shared.store.every_notice(&kinds, DateTime::UNIX_EPOCH).await?.is_empty())
    }

    async fn read_up_to(&self, drain: &Drain, ends: Vec<Extent>) -> Result<(), Fault> {
        let log = &*self.shared.log;
        let mut looked = Instant::now();
        loop {
            let reading = Reading::of(log, &*drain.sink, &drain.group).await?;
            // A topic that was made anew meanwhile may never reach what it had.
            let ends = reachable(&ends, &log.extents().await?);
            let pending = pending(&ends, &log.committed(&reading.group).await?);
            let report = drain.stats.report();
            self.status.send_modify(|status| {
                status.pending = Some(pending);
                let of_drain = report.failing_since.zip(report.last_error);
                (status.failing_since, status.last_error) =
                    of_drain.or_else(|| self.lock_failed().clone()).unzip();
            });
            if pending == 0 {
                return Ok(());
            }
            if looked.elapsed() >= LOOK_FOR_END {
                looked = Instant::now();
                match self.check_under_way().await {
                    // With the rebuild went what it writes into: the drain would fail for ever.
                    Err(fault) if fault.kind == FaultKind::Invalid => return Err(fault),
                    // An index that does not answer is told of by the drain.
                    _ => {}
                }
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

    #[test]
    fn a_rebuild_that_nobody_runs_or_that_fails_for_long_or_is_refused_is_told() {
        let now = Utc::now();
        let begun = RebuildStatus {
            id: Uuid::nil(),
            index: IndexName::Eventos,
            phase: RebuildPhase::Building,
            pending: None,
            started_at: now - TimeDelta::minutes(5),
            last_error: None,
            failing_since: None,
        };
        let beat = |failing: Option<i64>| DrainBeat {
            consumer_group: beat_of(Uuid::nil()),
            owner: "o".to_owned(),
            state: "running".to_owned(),
            failing_since: failing.map(|seconds| now - TimeDelta::seconds(seconds)),
            last_error: failing.map(|_| "read-only".to_owned()),
            seen_at: now,
        };
        let told = |beat: Option<DrainBeat>, mut status: RebuildStatus| {
            let lies = status.hear(beat.as_ref(), now);
            lies.or_else(|| status.problem(now)).map(|remark| remark.to_string()).unwrap_or_default()
        };
        assert!(told(None, begun.clone()).contains("no process goes on with it; start a process"));
        let just_begun = RebuildStatus { started_at: now, ..begun.clone() };
        assert_eq!(told(None, just_begun), "");
        assert_eq!(told(Some(beat(None)), begun.clone()), "");
        assert_eq!(told(Some(beat(Some(30))), begun.clone()), "", "it may pass");
        let lately = |seconds| {
            let mut status = begun.clone();
            status.hear(Some(&beat(Some(seconds))), now);
            status.fails_lately(now)
        };
        assert!(
            lately(30).is_some_and(|told| told.ends_with(": read-only")),
            "who examines hears it at once"
        );
        assert_eq!(lately(90), None, "it is a problem by then");
        let failing = told(Some(beat(Some(90))), begun.clone());
        assert!(failing.contains("has failed since") && failing.ends_with(": read-only"), "{failing}");
        let refused = RebuildStatus {
            phase: RebuildPhase::Refused,
            last_error: Some("3 would be lost".to_owned()),
            ..begun
        };
        let refused = refused.problem(now).expect("told").to_string();
        assert_eq!(refused, "the index eventos was not made anew: 3 would be lost");
    }
}
