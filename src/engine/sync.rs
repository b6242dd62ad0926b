//! A sync: reads source rows and appends their events to the log.
//!
//! It remembers an event only after the log has acknowledged it, and moves the coverage only over rows that were
//! all appended; whatever interrupts it, the next one reads again what is not remembered. It first looks into the log
//! for what of that was appended all the same, so that no event stands there twice; [`super::read_back`] says where
//! that ends. A row that is parked as a dead letter at that moment may be parked twice, as the same letter.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    appender::Appender,
    erased::Erased,
    metrics::Flow,
    page::{RecordLimits, TOLERATED_SKEW},
    patience::patiently,
    window::Window,
};
use crate::{
    domain::Table,
    fail_point,
    fault::{Fault, FaultKind},
    log::{Extent, Log, Position, Topic},
    source::{Page, PageToken, RowQuery, Scope, Source, description::hides_nothing},
    store::{Coverage, Owed, Store, SyncEnd, SyncLease, SyncProgress, SyncRequest, SyncState},
    traces::{self, Span},
};

/// Fewest rows worth a round trip, however small the limit.
const MIN_PAGE: u32 = 100;

/// One sync, ready to run.
pub(super) struct SyncRun {
    pub(super) id: Uuid,
    pub(super) table: Table,
    pub(super) request: SyncRequest,
    pub(super) source: Arc<dyn Source>,
    pub(super) log: Arc<dyn Log>,
    /// The log's identity.
    pub(super) log_id: String,
    /// The identity of where its dead letters are.
    pub(super) letters: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) appender: Arc<Appender>,
    pub(super) erased: Arc<Erased>,
    pub(super) coverage: Option<Coverage>,
    /// What of the table's history was lost from a log, and is read again.
    pub(super) owed: Option<Owed>,
    /// Where an earlier sync that broke off may have appended more than it remembered.
    pub(super) unremembered: Option<Vec<Position>>,
    pub(super) page_size: u32,
    /// How far behind the coverage a sync that resumes reads again.
    pub(super) overlap: TimeDelta,
    pub(super) cancel: CancellationToken,
    pub(super) progress: watch::Sender<SyncProgress>,
    pub(super) reads: Arc<Flow>,
    /// Versions that a sink has of entities, where those are not what was appended: the next ones are larger.
    pub(super) newer_than: HashMap<String, i64>,
    /// How long the source asked to be left alone, where this failed for that.
    pub(super) retry_after: Arc<OnceLock<Duration>>,
}

/// Why reading stopped, when nothing failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Exhausted,
    LimitReached,
    Cancelled,
}

/// What became of reading.
struct Reading {
    window: Window,
    /// The last modification time among the rows that are in the log now.
    read_up_to: Option<DateTime<Utc>>,
    outcome: Result<Stopped, Fault>,
}

impl SyncRun {
    /// Runs to the end and gives the lease back. The outcome is in the store; only a store that can't be told is
    /// an error.
    ///
    /// # Errors
    /// When the store could not record the end; the sync then shows as interrupted.
    pub(super) async fn run(self, mut lease: Box<dyn SyncLease>) -> Result<SyncState, Fault> {
        let table = self.table;
        info!(sync_id = %self.id, %table, hours_ago = self.request.hours_ago, limit = self.request.limit, "sync started");
        let mut progress = SyncProgress::default();
        let mut reading = self.read(&mut *lease, &mut progress).await;
        if let Ok(Stopped::Exhausted | Stopped::LimitReached) = reading.outcome
            && let Err(fault) = self.await_what_stood(&mut progress).await
        {
            reading.outcome = Err(fault);
        }
        let (state, error) = match &reading.outcome {
            Ok(Stopped::Cancelled) => (SyncState::Cancelled, None),
            Ok(stopped) => {
                progress.more = *stopped == Stopped::LimitReached;
                (SyncState::Succeeded, None)
            }
            // What passes by itself was not waited for. What was appended may not be remembered: the next sync looks for it.
            Err(fault) if fault.kind == FaultKind::Transient && self.cancel.is_cancelled() => {
                (SyncState::Interrupted, Some(fault.to_string()))
            }
            Err(fault) => {
                if let Some(asked) = fault.retry_after {
                    self.retry_after.set(asked).ok();
                }
                (SyncState::Failed, Some(fault.to_string()))
            }
        };
        // What was read before a failure or a cancellation is covered all the same.
        let exhausted = matches!(reading.outcome, Ok(Stopped::Exhausted));
        let coverage = reading.window.covered(reading.read_up_to, exhausted);
        if let Some(error) = &error {
            warn!(sync_id = %self.id, %table, error, "sync failed");
        }
        for misfit in &progress.misfits {
            warn!(
                sync_id = %self.id, %table, column = misfit.column, values = misfit.values, expected = misfit.expected,
                "values do not fit their column and are null there; they stay in dados"
            );
        }
        if progress.shared_keys > 0 {
            warn!(
                sync_id = %self.id, %table, key = table.key_source(), rows = progress.shared_keys,
                "rows share their key with other rows: it is not unique, and of such rows only one is kept"
            );
        }
        if progress.without_key > 0 {
            warn!(
                sync_id = %self.id, %table, key = table.key_source(), rows = progress.without_key,
                "rows have no key: no event can be made of them, and some are parked as dead letters"
            );
        }
        if progress.erased > 0 {
            warn!(
                sync_id = %self.id, %table, rows = progress.erased,
                "rows of erased entities still stand at the source and were left out: delete them there"
            );
        }
        info!(
            sync_id = %self.id, %table, ?state, rows_read = progress.rows_read, appended = progress.appended,
            unchanged = progress.unchanged, dead_letters = progress.dead_letters, ahead = progress.ahead, "sync ended"
        );
        fail_point::pass("sync.read");
        lease.finish(SyncEnd { state, progress, error, coverage }).await?;
        fail_point::pass("sync.finished");
        if exhausted && reading.window.reaches_owed() {
            self.settle_owed().await?;
        }
        Ok(state)
    }

    /// What was owed when this began was read to its end.
    pub(super) async fn settle_owed(&self) -> Result<(), Fault> {
        let Some(owed) = &self.owed else { return Ok(()) };
        self.store.settle_owed(owed).await?;
        info!(sync_id = %self.id, table = %self.table, from = %owed.from, "what a log had lost is read again");
        Ok(())
    }

    /// Rows that were appended before are no more in a sink than those that are appended now, so the sync is done only
    /// once everything that stands in the log at its end is applied.
    async fn await_what_stood(&self, progress: &mut SyncProgress) -> Result<(), Fault> {
        let extents = self.extents().await?;
        let end = |extent: &Extent| Position { partition: extent.partition, offset: extent.high };
        let ends: Vec<Position> = extents.iter().filter(|extent| extent.high > 0).map(end).collect();
        raise(&mut progress.targets, &ends);
        Ok(())
    }

    async fn read(&self, lease: &mut dyn SyncLease, progress: &mut SyncProgress) -> Reading {
        let owed = self.owed.as_ref().map(|owed| owed.from);
        let plan = |now, local| {
            Window::plan(now, local, self.table, &self.request, self.coverage, owed, self.overlap)
        };
        let began = Utc::now();
        let mut reading =
            Reading { window: plan(began, began), read_up_to: None, outcome: Ok(Stopped::Exhausted) };
        reading.outcome = async {
            let limits = self.record_limits().await?;
            if let Some(from) = &self.unremembered {
                self.read_back(lease, from, progress).await?;
            }
            let known = self.recall_columns().await?;
            let mut query = RowQuery {
                table: self.table,
                scope: Scope::Changed,
                since: reading.window.since,
                created_since: reading.window.created_since(),
                conditions: self.request.conditions.clone(),
                page_size: self.page_size.min(self.request.limit.max(MIN_PAGE)),
            };
            let mut fetched = self.fetch(&query, None).await;
            if let Some(Ok((page, _))) = &fetched {
                self.remember_columns(known.as_ref()).await?;
                self.warn_of_names_that_hide_nothing();
                let is_off = (page.read_at - Utc::now()).abs() > TOLERATED_SKEW;
                let mut by_creation = self.goes_by_creation(page);
                reading.window = plan(page.read_at, began);
                if by_creation {
                    reading.window.read_by_creation();
                }
                let (since, created_since) = (reading.window.since, reading.window.created_since());
                let is_other = since != query.since || created_since != query.created_since;
                if is_other && is_off || since < query.since && by_creation {
                    (query.since, query.created_since) = (since, created_since);
                    fetched = self.fetch(&query, None).await;
                    by_creation = matches!(&fetched, Some(Ok((page, _))) if self.goes_by_creation(page));
                }
                if by_creation {
                    reading.window.read_by_creation();
                    self.warn_of_reading_by_creation();
                }
                reading.window.read_since(query.since);
            }
            let Some(first) = fetched.transpose()? else { return Ok(Stopped::Cancelled) };
            self.append_pages(lease, &query, first, limits, progress, &mut reading.read_up_to).await
        }
        .await;
        reading
    }

    /// Whether a page is not in the order that the definition asks for.
    fn goes_by_creation(&self, page: &Page) -> bool {
        self.table.time.modified.is_some() && !page.tells_changes
    }

    /// The page after a token, and the span that it was read in; none if the sync was cancelled meanwhile.
    pub(super) async fn fetch(
        &self,
        query: &RowQuery,
        after: Option<&PageToken>,
    ) -> Option<Result<(Page, Span), Fault>> {
        let reading = self.read_page(query, after);
        let page = self.cancel.run_until_cancelled(reading).await?;
        fail_point::pass("sync.page_read");
        Some(page)
    }

    /// Reads a page in a span of its own, which ends when it is read.
    pub(super) async fn read_page(
        &self,
        query: &RowQuery,
        after: Option<&PageToken>,
    ) -> Result<(Page, Span), Fault> {
        let (span, asked) = (Span::page(self.table), Instant::now());
        let page = span.around(self.source.page(query, after)).await;
        let page = page.inspect_err(|fault| span.fail(traces::kind_of(fault)))?;
        let rows = page.rows.len() as u64;
        self.reads.passed(rows, asked.elapsed());
        span.note(traces::PAGE_ROWS.counts(rows));
        span.end();
        Ok((page, span))
    }

    /// What is selected decides a row's identity, so it must not depend on whether the project told this process of its
    /// columns.
    pub(super) async fn recall_columns(&self) -> Result<Option<Vec<String>>, Fault> {
        let known = self.store.known_columns(&self.table.into()).await?;
        if let Some(columns) = &known {
            self.source.seed_columns(self.table, columns.clone());
        }
        Ok(known)
    }

    pub(super) async fn remember_columns(&self, known: Option<&Vec<String>>) -> Result<(), Fault> {
        match self.source.columns(self.table) {
            Some(columns) if known != Some(&columns) => {
                self.store.remember_columns(&self.table.into(), &columns).await
            }
            _ => Ok(()),
        }
    }

    fn warn_of_reading_by_creation(&self) {
        // A poll follows a run that told.
        let Some(modified) = self.table.time.modified.as_deref().filter(|_| self.request.since.is_none())
        else {
            return;
        };
        warn!(
            sync_id = %self.id, table = %self.table, column = self.table.source_of(modified),
            "the project has no such column, which is to tell when rows were modified: changes of rows that are older than \
             what is read are found by reconciliations alone"
        );
    }

    fn warn_of_names_that_hide_nothing(&self) {
        // A poll follows a run that told.
        let Some(columns) = self.source.columns(self.table).filter(|_| self.request.since.is_none()) else {
            return;
        };
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        for (name, column) in hides_nothing(self.table, &columns) {
            if let Some(column) = column {
                warn!(
                    sync_id = %self.id, table = %self.table, name, column,
                    "a name in never_read is no column's, and one that is nearly called so is read: write it as the project has it"
                );
            }
        }
    }

    pub(super) async fn extents(&self) -> Result<Vec<Extent>, Fault> {
        patiently(&self.cancel, || self.log.extents()).await
    }

    pub(super) async fn record_limits(&self) -> Result<RecordLimits, Fault> {
        let event = patiently(&self.cancel, || self.log.max_record(Topic::Events)).await?;
        let letter = patiently(&self.cancel, || self.log.max_record(Topic::DeadLetters)).await?;
        Ok(RecordLimits { event, letter })
    }

    /// What went into another topic than this sync began with is remembered of neither.
    pub(super) async fn check_log(&self) -> Result<(), Fault> {
        let now = patiently(&self.cancel, || self.log.identity()).await?.to_string();
        if now == self.log_id {
            return Ok(());
        }
        Err(Fault::transient(
            self.log.name(),
            format!("the topic was deleted and made anew while {} was synced", self.table),
            "start the sync again: it appends everything to the new topic",
        ))
    }

    /// A letter in another topic than this sync began with would be noted where it is not.
    pub(super) async fn check_letters(&self) -> Result<(), Fault> {
        let now = patiently(&self.cancel, || self.log.dead_letters_identity()).await?.to_string();
        if now == self.letters {
            return Ok(());
        }
        Err(Fault::transient(
            self.log.name(),
            format!("the dead letters' topic was deleted and made anew while {} was read", self.table),
            "start it again: it goes on with the new topic",
        ))
    }
}

/// Moves positions on to those of the same partitions.
pub(super) fn raise(positions: &mut Vec<Position>, to: &[Position]) {
    for at in to {
        match positions.iter_mut().find(|known| known.partition == at.partition) {
            Some(known) => known.offset = known.offset.max(at.offset),
            None => positions.push(*at),
        }
    }
    positions.sort_unstable();
}
