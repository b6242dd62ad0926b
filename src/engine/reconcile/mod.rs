//! A reconciliation: reads a whole table, appends what differs from what was appended last, removes what is gone, and
//! then proves both sinks: the same keys in the same versions as were appended, each with its newest event. What somebody
//! else writes into a sink under a right version, and the older events, are not looked at.
//!
//! It promises that nothing is taken for deleted because it was not shown: every row that the reading did not show is
//! asked for by its key, and again right before its removal is appended; a source that shows fewer rows than it counts
//! is read again, and then it is an error. That nothing counts as proven that was not compared. And that whatever it
//! repairs goes through the log, so that both sinks, a rebuild and a replay come to the same; but for what stands for no
//! entity at all, which no event could remove, and which is removed from the sink that has it.
//!
//! What it appended stays when it is cancelled or ends with its process, and counts as unchanged in the next one, which
//! reads the whole table anew, or goes on where it is asked to: see [`kept`]. One that ends with its process is interrupted,
//! not cancelled: nobody decided against it, and the night's is made up for.
//!
//! It holds the table's lease like a sync, so neither runs beside the other, and what was appended stands still while it
//! is compared. What is held in memory is one page, two sets of keys of fixed size, the keys of at most as many rows as may
//! be removed, and what rows without a usable key have as one, of which each is a dead letter.

mod gone;
mod guard;
mod kept;
mod keys;
mod nightly;
mod parked;
mod prove;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

pub(super) use gone::{in_halves, key_requests};
pub use guard::DeleteLimits;
use keys::KeySet;

use super::{
    EngineError, dead_letters, lag,
    page::{Misfits, RecordLimits},
    patience::patiently,
    reading,
    shared::Shared,
    sync::SyncRun,
    syncs::{MAX_HOURS, Syncs},
};
use crate::{
    domain::{Row, Table, TableName},
    fail_point,
    fault::{Fault, FaultKind},
    index::Index,
    log::{Extent, Position},
    sink::Sink,
    source::{BEGINNING, Page, PageToken, RowQuery, Scope},
    store::{
        Control, Coverage, INTERRUPTED, ReconcileReport, ReconcileStep, Reconciliation, SyncEnd, SyncLease,
        SyncProgress, SyncRequest, SyncState,
    },
};

/// How reconciliations work.
#[derive(Debug, Clone, Copy)]
pub struct ReconcileSettings {
    pub deletes: DeleteLimits,
    /// Rows read in a second at most, so that a project serves others as well; `None` for as fast as it can.
    pub rows_per_second: Option<u32>,
    /// How long a sink may apply nothing, while there is something to apply, before it can't be proven.
    pub stalled_after: Duration,
    /// The hour of the day from which a table with a schedule is reconciled.
    pub hour: Option<u32>,
}

/// How often it is looked how far the sinks are.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Entities compared in one question.
const RANGE: u32 = 5_000;

/// Rows asked for by key in one request.
const KEYS: usize = 100;

/// Passes over the sinks: the first repairs, the second repairs what that left, the last only looks.
const PASSES: u32 = 3;

/// What a reconciliation needs besides what a sync does.
pub(super) struct Reconcile {
    pub(super) run: SyncRun,
    pub(super) asked: Reconciliation,
    pub(super) index: Arc<dyn Index>,
    /// Each with what its consumer groups are named after.
    pub(super) sinks: Vec<(Arc<dyn Sink>, String)>,
    pub(super) settings: ReconcileSettings,
    /// Rows that may still be removed; known once the table was read.
    pub(super) allowed: u64,
    /// Rows that were appended at some time and not removed since.
    pub(super) known: u64,
    /// The reading was begun by another run.
    is_resumed: bool,
    pub(super) misfits: Misfits,
    pub(super) limits: RecordLimits,
    /// Cancelled when the process is asked to end.
    closing: CancellationToken,
}

/// Why it stops before its end.
enum Stop {
    Cancelled,
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A table as it was read, or as far as it was.
struct Reading {
    of: kept::Of,
    keys: KeySet,
    unkeyed: u64,
    /// What they have as a key, as their letters name them; of a reading that is gone on with not all of it.
    unusable: HashSet<String>,
    /// Rows of erased entities, which are nowhere else.
    erased: u64,
    /// Rows whose key the row before them has.
    repeated: u64,
    /// When reading began, by the server's clock or by this machine's, whichever is behind.
    began: Option<DateTime<Utc>>,
    /// Rows that the source counted before.
    counted: Option<u64>,
    /// The last key that was shown.
    last: Option<String>,
    /// Where to go on.
    next: Option<PageToken>,
    is_whole: bool,
    /// Rows that the source counted after; `None` where it could not.
    ended_at: Option<u64>,
    /// Rows that another reconciliation was shown, whose reading this goes on with.
    earlier: Option<u64>,
}

impl Reading {
    fn new(of: kept::Of) -> Self {
        Self {
            of,
            keys: KeySet::new(),
            unkeyed: 0,
            unusable: HashSet::new(),
            erased: 0,
            repeated: 0,
            began: None,
            counted: None,
            last: None,
            next: None,
            is_whole: false,
            ended_at: None,
            earlier: None,
        }
    }

    /// Rows that were shown and are no entities of their own.
    fn without_entity(&self) -> u64 {
        self.unkeyed + self.erased + self.repeated
    }

    fn tell(&self, progress: &mut SyncProgress) {
        (progress.shared_keys, progress.erased) = (self.repeated, self.erased);
        let reported = report(progress);
        (reported.source_rows, reported.unkeyed) = (self.keys.len(), self.unkeyed);
    }
}

impl Syncs {
    /// Starts a reconciliation in the background; it is followed, waited for and cancelled as a sync is.
    ///
    /// # Errors
    /// As [`Syncs::start`].
    pub async fn reconcile(&self, table: &TableName, asked: Reconciliation) -> Result<Uuid, EngineError> {
        let request = SyncRequest {
            table: table.clone(),
            hours_ago: MAX_HOURS,
            limit: 1_000_000,
            conditions: Vec::new(),
            resume: false,
            reappend: false,
            reconcile: Some(asked),
            since: None,
        };
        self.start(request).await
    }
}

impl Reconcile {
    /// What a run needs to be a reconciliation.
    pub(super) fn new(shared: &Shared, run: SyncRun, asked: Reconciliation) -> Self {
        let sinks = shared.sinks.iter().map(|sink| (sink.clone(), shared.group_of(&**sink)));
        Self {
            run,
            asked,
            index: shared.index.clone(),
            sinks: sinks.collect(),
            settings: shared.settings.reconcile,
            allowed: 0,
            known: 0,
            is_resumed: false,
            misfits: Misfits::new(),
            limits: RecordLimits::default(),
            closing: shared.closing.clone(),
        }
    }

    /// Runs to the end and gives the lease back. The outcome is in the store; only a store that can't be told is an
    /// error.
    ///
    /// # Errors
    /// When the store could not record the end; the reconciliation then shows as interrupted.
    pub(super) async fn run(mut self, mut lease: Box<dyn SyncLease>) -> Result<SyncState, Fault> {
        let (id, table) = (self.run.id, self.run.table);
        info!(sync_id = %id, %table, allow_deletes = self.asked.allow_deletes, "reconciliation started");
        let mut progress =
            SyncProgress { reconcile: Some(ReconcileReport::default()), ..SyncProgress::default() };
        let mut coverage = None;
        let outcome = self.steps(&mut *lease, &mut progress, &mut coverage).await;
        let (state, error) = match outcome {
            Ok(()) => (SyncState::Succeeded, None),
            Err(Stop::Cancelled) if self.closing.is_cancelled() => {
                (SyncState::Interrupted, Some(INTERRUPTED.to_owned()))
            }
            Err(Stop::Cancelled) => (SyncState::Cancelled, None),
            // What passes by itself is not waited for once the process is asked to end.
            Err(Stop::Fault(fault)) if fault.kind == FaultKind::Transient && self.closing.is_cancelled() => {
                (SyncState::Interrupted, Some(fault.to_string()))
            }
            Err(Stop::Fault(fault)) => (SyncState::Failed, Some(fault.to_string())),
        };
        if let Some(error) = &error {
            warn!(sync_id = %id, %table, ?state, error, "reconciliation did not reach its end");
        }
        let report = report(&mut progress);
        info!(
            sync_id = %id, %table, ?state, source_rows = report.source_rows, gone = report.gone,
            deleted = report.deleted, repaired = report.repaired, parked = report.parked,
            unexplained = report.unexplained, "reconciliation ended"
        );
        if state == SyncState::Succeeded {
            report.step = ReconcileStep::Ended;
        }
        lease.finish(SyncEnd { state, progress, error, coverage }).await?;
        // A reading that another run began may be older than the debt.
        if state == SyncState::Succeeded && !self.is_resumed {
            self.run.settle_owed().await?;
        }
        Ok(state)
    }

    async fn steps(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        coverage: &mut Option<Coverage>,
    ) -> Result<(), Stop> {
        let run = &self.run;
        let letters = patiently(&run.cancel, || run.log.dead_letter_extents()).await?;
        run.check_letters().await?;
        self.limits = run.record_limits().await?;
        progress.recount_since = self.owed_recount().await?;
        if let Some(from) = self.run.unremembered.clone() {
            self.run.read_back(lease, &from, progress).await?;
        }
        self.forget_lost_rows(&letters).await?;
        let reading = self.read_whole(lease, progress).await?;
        *coverage = self.covered(&reading);
        fail_point::pass("reconcile.read");
        self.enter(ReconcileStep::Looking, lease, progress).await?;
        let gone = self.find_gone(lease, progress, &reading).await?;
        fail_point::pass("reconcile.gone_found");
        self.remove_gone(lease, progress, gone).await?;
        self.settle_gone(lease, progress, &reading).await?;
        for pass in 1..=PASSES {
            self.enter(ReconcileStep::Waiting, lease, progress).await?;
            self.wait_applied(lease, progress).await?;
            fail_point::pass("reconcile.waited");
            if let Some(since) = progress.recount_since {
                self.run.store.recount(since).await?;
                progress.recount_since = None;
            }
            self.enter(ReconcileStep::Proving, lease, progress).await?;
            let is_proven = self.prove(lease, progress, pass < PASSES).await?;
            fail_point::pass("reconcile.proved");
            if is_proven {
                self.run.store.keep_reading(&self.run.table.into(), None).await?;
                // What another run read it read before it was known which letters are gone.
                return if self.is_resumed { Ok(()) } else { self.settle_lost_letters(&letters).await };
            }
        }
        let report = report(progress);
        Err(Stop::Fault(Fault::transient(
            self.run.store.name(),
            format!(
                "reconciling {}: {} entities are still not as they were appended, although they were appended again",
                self.run.table, report.unexplained
            ),
            "the report names the first of them; look at the sinks' last errors, and report this if there are none",
        )))
    }

    /// Rows that made no event, and whose letters are gone, are read as new: no sink has them, so that nothing else would tell
    /// of them any more.
    async fn forget_lost_rows(&self, letters: &[Extent]) -> Result<(), Stop> {
        let SyncRun { id, table, store, letters: log, log_id, .. } = &self.run;
        let count = store.forget_lost_rows(log, letters, log_id, &TableName::from(*table)).await?;
        if count > 0 {
            info!(
                sync_id = %id, %table, count,
                "letters of rows that made no event are gone: rows that are still wrong are parked again"
            );
        }
        Ok(())
    }

    /// What letters were about that were gone when the run began is proven to be there, as far as no newer event followed it,
    /// or was parked again.
    async fn settle_lost_letters(&self, letters: &[Extent]) -> Result<(), Stop> {
        // Letters of a topic made anew meanwhile would count as gone.
        self.run.check_letters().await?;
        let SyncRun { id, table, store, letters: log, .. } = &self.run;
        let settled = store.settle_lost_letters(log, letters, &TableName::from(*table)).await?;
        if settled > 0 {
            warn!(
                sync_id = %id, %table, count = settled,
                "dead letters are gone that nobody had settled; of their events those are in no sink that newer ones of \
                 their row followed"
            );
        }
        Ok(())
    }

    /// Reads every row and appends what differs. A source that shows fewer rows than it counts is read again.
    async fn read_whole(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
    ) -> Result<Reading, Stop> {
        let table = self.run.table;
        let mut reading = self.begin_reading().await?;
        report(progress).resumed_from = reading.began;
        if reading.earlier.is_none() {
            reading.counted = self.cancellable(self.run.source.row_count(table)).await??;
        }
        let mut is_last = false;
        loop {
            self.read_pages(lease, progress, &mut reading).await?;
            self.keep(&reading).await?;
            let after = self.cancellable(self.run.source.row_count(table)).await??;
            reading.ended_at = after;
            let shown = reading.keys.len() + reading.without_entity();
            let counted = reading.counted.zip(after).map(|(before, after)| before.min(after));
            let Some(counted) = counted.filter(|counted| shown < *counted) else {
                let gone = after.map_or(0, |after| shown.saturating_sub(after));
                report(progress).deleted_meanwhile = gone;
                if gone > 0 {
                    warn!(sync_id = %self.run.id, %table, rows = gone, "rows were deleted at the source while it was read");
                }
                return Ok(reading);
            };
            if is_last {
                return Err(Stop::Fault(Fault::transient(
                    self.run.source.name(),
                    format!(
                        "reading the whole of {table}: the source counts {counted} rows and showed {shown}, twice; \
                         nothing was taken for deleted"
                    ),
                    "look whether a proxy between here and the source cuts answers, whether keys stand twice, and whether \
                     rows change their keys",
                )));
            }
            warn!(%table, counted, shown, "the source showed fewer rows than it counts; it is read again");
            reading = Reading { counted: after, ..Reading::new(reading.of) };
            report(progress).resumed_from = None;
            is_last = true;
        }
    }

    async fn read_pages(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        reading: &mut Reading,
    ) -> Result<(), Stop> {
        let table = self.run.table;
        let known = self.run.recall_columns().await?;
        let query = RowQuery {
            table,
            scope: Scope::Whole,
            since: BEGINNING,
            created_since: None,
            conditions: Vec::new(),
            page_size: self.run.page_size,
        };
        let (mut is_first, mut kept_at) = (true, None::<Instant>);
        while !reading.is_whole {
            let (asked_at, local) = (Instant::now(), Utc::now());
            let (page, span) = self.cancellable(self.run.read_page(&query, reading.next.as_ref())).await??;
            // By the clock that is behind: one that is ahead would claim rows that are still to be written.
            reading.began.get_or_insert(page.read_at.min(local));
            if std::mem::take(&mut is_first) {
                self.run.remember_columns(known.as_ref()).await?;
            }
            let (next, rows, keys) = (page.next.clone(), page.rows.len(), keys_of(table, &page));
            reading.unkeyed += page.without_key.saturating_sub(rows as u64);
            let without_key = page.rows.iter().zip(&keys).filter(|(_, key)| key.is_none());
            reading.unusable.extend(without_key.filter_map(|(row, _)| dead_letters::key_as_sent(table, row)));
            span.around(self.append(lease, progress, page)).await?;
            let ledger = self.run.erased.ledger().await?;
            for key in keys {
                match key {
                    // In the order of keys those that share one stand beside each other.
                    Some(key) if reading.last.as_ref() == Some(&key) => reading.repeated += 1,
                    Some(key) if ledger.holds(table, &key) => {
                        reading.erased += 1;
                        reading.last = Some(key);
                    }
                    Some(key) => {
                        reading.keys.add(&key);
                        reading.last = Some(key);
                    }
                    None => reading.unkeyed += 1,
                }
            }
            reading.tell(progress);
            (reading.is_whole, reading.next) = (next.is_none(), next);
            let is_due = kept_at.is_none_or(|at| at.elapsed() > kept::KEEP_EVERY);
            if is_due || self.run.cancel.is_cancelled() {
                self.keep(reading).await?;
                kept_at = Some(Instant::now());
            }
            fail_point::pass("reconcile.page_read");
            if !reading.is_whole {
                self.go_on()?;
                self.pace(rows, asked_at).await?;
            }
        }
        reading.tell(progress);
        Ok(())
    }

    /// Appends what of a page differs from what was appended last, or all of it where the run says so.
    async fn append(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        page: Page,
    ) -> Result<(), Fault> {
        let limits = self.limits;
        // Rows that are asked for again were counted as the table was read.
        let counted = (progress.shared_keys, progress.erased);
        let appended =
            self.run.append_page(lease, &page, u64::MAX, limits, progress, &mut self.misfits).await;
        (progress.shared_keys, progress.erased) = counted;
        appended.map(drop)
    }

    /// Every row that said it was written before reading began is in the log.
    fn covered(&self, reading: &Reading) -> Option<Coverage> {
        self.run.table.time.modified.as_ref()?;
        Some(Coverage { from: BEGINNING, to: reading.began? })
    }

    /// Waits until every sink has applied what the log holds now, and shows it.
    async fn wait_applied(&self, lease: &mut dyn SyncLease, progress: &SyncProgress) -> Result<(), Stop> {
        let extents = self.run.extents().await?;
        let ends: Vec<Position> = extents
            .iter()
            .filter(|extent| extent.high > extent.low)
            .map(|extent| Position { partition: extent.partition, offset: extent.high })
            .collect();
        for (sink, base) in &self.sinks {
            let group = self.group_of(&**sink, base).await?;
            let (mut fewest, mut since) = (i64::MAX, Instant::now());
            loop {
                let standing = lag::standing(&*self.run.log, &self.run.log_id, &**sink, &group).await?;
                let pending = lag::pending(&standing, &ends);
                if pending == 0 {
                    break;
                }
                if pending < fewest {
                    (fewest, since) = (pending, Instant::now());
                } else if since.elapsed() > self.settings.stalled_after {
                    return Err(Stop::Fault(Fault::transient(
                        sink.name(),
                        format!(
                            "reconciling {}: {pending} records are still to be applied here and none was for {} s, so it \
                             can't be told whether the sink is complete",
                            self.run.table,
                            self.settings.stalled_after.as_secs()
                        ),
                        "start a worker, end the sink's pause or mend what keeps it from applying, then reconcile again",
                    )));
                }
                self.cancellable(tokio::time::sleep(LOOK_EVERY)).await?;
                if since.elapsed() > LOOK_EVERY * 10 {
                    self.heed(lease, progress).await?;
                }
            }
            sink.make_visible().await?;
        }
        Ok(())
    }

    /// The group that a sink is drained in. A drain that has just been started may still make what it drains into.
    async fn group_of(&self, sink: &dyn Sink, base: &str) -> Result<String, Stop> {
        let since = Instant::now();
        loop {
            match reading::Reading::of(&*self.run.log, sink, base).await {
                Ok(reading) => return Ok(reading.group),
                Err(fault) if fault.part == sink.name() && since.elapsed() < self.settings.stalled_after => {}
                Err(fault) => return Err(Stop::Fault(fault)),
            }
            self.cancellable(tokio::time::sleep(LOOK_EVERY)).await?;
        }
    }

    async fn enter(
        &self,
        step: ReconcileStep,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
    ) -> Result<(), Stop> {
        report(progress).step = step;
        self.heed(lease, progress).await
    }

    /// Tells how far it is, and hears whether it is to go on.
    async fn heed(&self, lease: &mut dyn SyncLease, progress: &SyncProgress) -> Result<(), Stop> {
        if lease.checkpoint(progress, &[]).await? == Control::Cancel {
            self.run.cancel.cancel();
        }
        self.run.progress.send_replace(progress.clone());
        self.go_on()
    }

    fn go_on(&self) -> Result<(), Stop> {
        if self.run.cancel.is_cancelled() { Err(Stop::Cancelled) } else { Ok(()) }
    }

    async fn cancellable<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        self.run.cancel.run_until_cancelled(work).await.ok_or(Stop::Cancelled)
    }

    /// Waits until so many rows may have been read since the page was asked for.
    async fn pace(&self, rows: usize, asked_at: Instant) -> Result<(), Stop> {
        let Some(per_second) = self.settings.rows_per_second else { return Ok(()) };
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let due = Duration::from_secs(1).saturating_mul(rows) / per_second.max(1);
        self.cancellable(tokio::time::sleep(due.saturating_sub(asked_at.elapsed()))).await
    }
}

/// The report that a reconciliation's progress carries.
fn report(progress: &mut SyncProgress) -> &mut ReconcileReport {
    progress.reconcile.get_or_insert_default()
}

/// The key of each row of a page, where it has one.
fn keys_of(table: Table, page: &Page) -> Vec<Option<String>> {
    page.rows.iter().map(|row| Row::of(table, row.as_str()).and_then(|row| row.key().ok())).collect()
}
