//! A sync: reads source rows and appends their events to the log.
//!
//! It remembers an event only after the log has acknowledged it, and moves the coverage only over rows that were
//! all appended; whatever interrupts it, the next one reads again what is not remembered. It first looks into the log
//! for what of that was appended all the same, so that no event stands there twice; [`super::read_back`] says where
//! that ends. A row that is parked as a dead letter at that moment may be parked twice, as the same letter.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::OptionFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    appender::Appender,
    erased::Erased,
    metrics::Flow,
    page::{self, Asked, Misfits, Rows, TOLERATED_SKEW},
    patience::patiently,
    window::Window,
};
use crate::{
    domain::{ErasureLedger, Table, TableName},
    fail_point,
    fault::Fault,
    log::{Extent, Log, NewRecord, Position, Topic},
    source::{Page, PageToken, RowQuery, Scope, Source},
    store::{
        Appended, Control, Coverage, Owed, ParkedEntity, Store, SyncEnd, SyncLease, SyncProgress,
        SyncRequest, SyncState,
    },
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
enum Stopped {
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
        if let Some(owed) = self.owed.as_ref().filter(|_| exhausted && reading.window.reaches_owed()) {
            self.store.settle_owed(owed).await?;
            info!(sync_id = %self.id, %table, from = %owed.from, "what a log had lost is read again");
        }
        Ok(state)
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
            let limit = patiently(&self.cancel, || self.log.max_record(Topic::Events)).await?;
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
            let mut misfits = Misfits::new();
            let mut is_first = true;
            let mut fetched = self.fetch(&query, None).await;
            while let Some(page) = fetched {
                let (page, span) = page?;
                if is_first {
                    is_first = false;
                    self.remember_columns(known.as_ref()).await?;
                    let is_off = (page.read_at - Utc::now()).abs() > TOLERATED_SKEW;
                    reading.window = plan(page.read_at, began);
                    if is_off && reading.window.since != query.since {
                        query.since = reading.window.since;
                        fetched = self.fetch(&query, None).await;
                        continue;
                    }
                    reading.window.read_since(query.since);
                }
                let (next, watermark) = (page.next.clone(), page.watermark);
                let left = u64::from(self.request.limit).saturating_sub(progress.appended);
                let may_be_cut = left <= page.rows.len() as u64;
                let mut ahead =
                    pin!(OptionFuture::from(next.as_ref().map(|token| self.fetch(&query, Some(token)))));
                let appending =
                    span.around(self.append_page(lease, page, left, limit, progress, &mut misfits));
                // The source answers while the log does, unless its answer may not be wanted.
                let (appended, came) = if may_be_cut {
                    (appending.await, None)
                } else {
                    beside(appending, ahead.as_mut()).await
                };
                let (last_taken, cut) = appended?;
                // A page that was cut proves only what was taken of it.
                reading.read_up_to = reading.read_up_to.max(if cut { last_taken } else { watermark });
                if cut {
                    return Ok(Stopped::LimitReached);
                }
                if next.is_some() && self.cancel.is_cancelled() {
                    break;
                }
                let following = match came {
                    Some(following) => following,
                    None => ahead.await,
                };
                let Some(following) = following else { return Ok(Stopped::Exhausted) };
                fetched = following;
            }
            Ok(Stopped::Cancelled)
        }
        .await;
        reading
    }

    /// The page after a token, and the span that it was read in; none if the sync was cancelled meanwhile.
    async fn fetch(
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

    /// Appends what is new of a page, up to `left` events. Returns the modification time of the last row that is
    /// in the log now, and whether rows were left out.
    pub(super) async fn append_page(
        &self,
        lease: &mut dyn SyncLease,
        page: Page,
        left: u64,
        limit: usize,
        progress: &mut SyncProgress,
        misfits: &mut Misfits,
    ) -> Result<(Option<DateTime<Utc>>, bool), Fault> {
        let ledger = self.erased.ledger().await?;
        let rows = Rows::read(self.table, &page, &ledger);
        let mut last = lease.last_appended(&rows.entities()).await?;
        for (entity, held) in &self.newer_than {
            if let Some(last) = last.get_mut(entity) {
                last.versao = last.versao.max(*held);
            }
        }
        let asked = Asked {
            sync_id: self.id,
            reappend: self.request.reappend,
            events: left,
            max_record: limit,
            parent: traces::current(),
        };
        let taken = rows.take(asked, last);
        let (appended, parked) = (taken.events.len() as u64, taken.letters.len() as u64);
        self.park(taken.letters).await?;
        let remembered = self.append(lease, taken.events, progress).await?;
        self.check_log().await?;
        for (column, values) in taken.misfits {
            *misfits.entry(column).or_default() += values;
        }
        progress.pages += 1;
        progress.rows_read += page.rows.len() as u64;
        progress.without_key += page.without_key;
        progress.appended += appended;
        progress.unchanged += taken.unchanged;
        progress.dead_letters += parked;
        progress.ahead += taken.ahead;
        progress.shared_keys += taken.shared_keys;
        progress.erased += taken.erased;
        progress.misfits = page::named(misfits);
        let appended_now: Vec<Appended> = taken.appended.into_values().collect();
        let checkpointed = SyncProgress { remembered, ..progress.clone() };
        if lease.checkpoint(&checkpointed, &appended_now).await? == Control::Cancel {
            self.cancel.cancel();
        }
        progress.remembered = checkpointed.remembered;
        fail_point::pass("sync.remembered");
        self.forget_erased(&ledger, &appended_now).await?;
        if appended > 0 {
            let entities: Vec<String> = taken.mended.into_iter().collect();
            let table = TableName::from(self.table);
            let mended = self.store.settle_mended(&self.letters, &table, &entities).await?;
            if mended > 0 {
                info!(sync_id = %self.id, table = %self.table, mended, "dead letters settled: their rows came again, mended");
            }
        }
        self.progress.send_replace(progress.clone());
        Ok((taken.last_modified, taken.cut))
    }

    /// An erasure that was made while a page was appended found no mark of it.
    async fn forget_erased(&self, before: &ErasureLedger, appended: &[Appended]) -> Result<(), Fault> {
        let now = self.erased.ledger().await?;
        if now.version() == before.version() {
            return Ok(());
        }
        let erased = appended.iter().map(|one| one.entity.clone()).filter(|key| now.holds(self.table, key));
        let erased: Vec<String> = erased.collect();
        if !erased.is_empty() {
            self.store.erase(self.table, &erased, true).await?;
        }
        Ok(())
    }

    /// Appends events. Returns where the log ends once they are remembered, too; until then it is read back from where it
    /// ended before.
    pub(super) async fn append(
        &self,
        lease: &mut dyn SyncLease,
        events: Vec<NewRecord>,
        progress: &mut SyncProgress,
    ) -> Result<Vec<Position>, Fault> {
        let mut remembered = progress.remembered.clone();
        if events.is_empty() {
            return Ok(remembered);
        }
        if remembered.is_empty() || self.unremembered.as_ref() == Some(&remembered) {
            let end = |extent: &Extent| Position { partition: extent.partition, offset: extent.high };
            remembered = self.extents().await?.iter().map(end).collect();
            progress.remembered.clone_from(&remembered);
            lease.checkpoint(progress, &[]).await?;
            fail_point::pass("sync.ends_remembered");
        }
        let mut ends = Vec::new();
        let appending = self.appender.append(events, &mut ends).await;
        raise(&mut progress.targets, &ends);
        raise(&mut remembered, &ends);
        appending?;
        fail_point::pass("sync.appended");
        Ok(remembered)
    }

    pub(super) async fn extents(&self) -> Result<Vec<Extent>, Fault> {
        patiently(&self.cancel, || self.log.extents()).await
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

    /// Returns once the log has acknowledged every letter.
    async fn park(&self, letters: Vec<(NewRecord, Option<ParkedEntity>)>) -> Result<(), Fault> {
        if letters.is_empty() {
            return Ok(());
        }
        let (records, parked): (Vec<NewRecord>, Vec<Option<ParkedEntity>>) = letters.into_iter().unzip();
        let count = records.len();
        let positions = self.log.append(Topic::DeadLetters, records).await?;
        fail_point::pass("sync.letters_appended");
        warn!(sync_id = %self.id, table = %self.table, count, "source rows parked as dead letters");
        let noted: Vec<ParkedEntity> = parked
            .into_iter()
            .zip(positions)
            .filter_map(|(parked, at)| {
                Some(ParkedEntity { partition: at.partition, offset: at.offset, ..parked? })
            })
            .collect();
        self.store.note_parked(&self.letters, &noted).await
    }
}

/// Runs `main` to its end, and `other` as long; what `other` came to if it ended first.
async fn beside<A, B>(
    main: impl Future<Output = A>,
    mut other: Pin<&mut impl Future<Output = B>>,
) -> (A, Option<B>) {
    let (mut main, mut came) = (pin!(main), None);
    loop {
        tokio::select! {
            ended = &mut main => return (ended, came),
            other = &mut other, if came.is_none() => came = Some(other),
        }
    }
}

/// Moves positions on to those of the same partitions.
fn raise(positions: &mut Vec<Position>, to: &[Position]) {
    for at in to {
        match positions.iter_mut().find(|known| known.partition == at.partition) {
            Some(known) => known.offset = known.offset.max(at.offset),
            None => positions.push(*at),
        }
    }
    positions.sort_unstable();
}
