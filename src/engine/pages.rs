//! Pages on their way from the source into the log, three at a time: while one is appended and remembered, the next is
//! compared with what was appended before, and the one after it is read. They are appended in their order, each once the
//! one before is remembered.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use tokio::sync::{
    Mutex,
    mpsc::{Receiver, Sender, channel},
    watch,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    page::{self, Asked, Misfits, Rows, Taken},
    sync::{Stopped, SyncRun, raise},
};
use crate::{
    domain::{ErasureLedger, TableName},
    fail_point,
    fault::Fault,
    log::{Extent, NewRecord, Position, Topic},
    source::{Page, RowQuery},
    store::{Appended, Control, ParkedEntity, SyncLease, SyncProgress},
    traces::{self, Span},
};

/// Bytes of a page's rows behind which the next page is not read before it is compared.
const MAX_AHEAD: usize = 8 << 20;

/// A lease that pages take turns at.
pub(super) type SharedLease<'a> = Mutex<&'a mut dyn SyncLease>;

/// A page and the span that it was read in.
pub(super) type ReadPage = (Page, Span);

/// A page, compared with what was appended before.
pub(super) struct Compared {
    taken: Taken,
    /// Who was erased when it was compared.
    ledger: Arc<ErasureLedger>,
    rows: u64,
    without_key: u64,
    watermark: Option<DateTime<Utc>>,
    tells_changes: bool,
    is_last: bool,
}

impl SyncRun {
    /// Appends what is new of `first` and of the pages that follow it. `read_up_to` is raised to the modification time of the
    /// last row that is in the log.
    pub(super) async fn append_pages(
        &self,
        lease: &mut dyn SyncLease,
        query: &RowQuery,
        first: ReadPage,
        max_record: usize,
        progress: &mut SyncProgress,
        read_up_to: &mut Option<DateTime<Utc>>,
    ) -> Result<Stopped, Fault> {
        let lease = Mutex::new(lease);
        let left = u64::from(self.request.limit).saturating_sub(progress.appended);
        let over = CancellationToken::new();
        let (pages, read) = channel(1);
        let (ready, compared) = channel(1);
        let (counted, count) = watch::channel(0);
        let reading = over.run_until_cancelled(self.read_on(query, first, left, pages, count));
        let comparing = self.compare_pages(&lease, read, left, max_record, ready, counted);
        let appending = async {
            let outcome = self.append_compared(&lease, compared, progress, read_up_to).await;
            // What is compared is waited for: a call over the lease that is given up on would end it.
            over.cancel();
            outcome
        };
        tokio::join!(reading, comparing, appending).2
    }

    /// Reads on from a page, one page ahead of what is compared, unless its answer may not be wanted, behind `left` rows, or is
    /// likely to take much memory: then each page waits until the one before is compared.
    async fn read_on(
        &self,
        query: &RowQuery,
        first: ReadPage,
        left: u64,
        pages: Sender<Result<ReadPage, Fault>>,
        mut compared: watch::Receiver<u64>,
    ) {
        let (mut fetched, mut count, mut rows) = (Some(Ok(first)), 0, 0);
        while let Some(page) = fetched {
            let next = page.as_ref().ok().and_then(|(page, _)| page.next.clone());
            let told = page.as_ref().map_or(&[][..], |(page, _)| &page.rows);
            rows += told.len() as u64;
            let is_large = told.iter().map(|row| row.as_str().len()).sum::<usize>() > MAX_AHEAD;
            count += 1;
            if pages.send(page).await.is_err() {
                return;
            }
            let Some(next) = next else { return };
            let waits = rows >= left || is_large;
            if waits && compared.wait_for(|compared| *compared == count).await.is_err() {
                return;
            }
            let Ok(room) = pages.reserve().await else { return };
            fetched = self.fetch(query, Some(&next)).await;
            drop(room);
        }
    }

    async fn compare_pages(
        &self,
        lease: &SharedLease<'_>,
        mut pages: Receiver<Result<ReadPage, Fault>>,
        mut left: u64,
        max_record: usize,
        ready: Sender<Result<(Compared, Span), Fault>>,
        counted: watch::Sender<u64>,
    ) {
        let mut before = HashMap::new();
        // With room behind it, the page before the last one is remembered.
        while let Ok(room) = ready.reserve().await {
            let Some(page) = pages.recv().await else { return };
            let compared = match page {
                Ok((page, span)) => {
                    let compared = span
                        .around(self.compare(lease, &page, left, max_record, std::mem::take(&mut before)))
                        .await;
                    compared.map(|compared| (compared, span))
                }
                Err(fault) => Err(fault),
            };
            let Ok((Compared { taken, .. }, _)) = &compared else { return room.send(compared) };
            left = left.saturating_sub(taken.events.len() as u64);
            before.clone_from(&taken.appended);
            let is_cut = taken.cut;
            room.send(compared);
            if is_cut {
                return;
            }
            counted.send_modify(|count| *count += 1);
        }
    }

    async fn append_compared(
        &self,
        lease: &SharedLease<'_>,
        mut pages: Receiver<Result<(Compared, Span), Fault>>,
        progress: &mut SyncProgress,
        read_up_to: &mut Option<DateTime<Utc>>,
    ) -> Result<Stopped, Fault> {
        let (mut misfits, mut told_changes) = (Misfits::new(), None);
        while let Some(page) = pages.recv().await {
            let (page, span) = page?;
            if *told_changes.get_or_insert(page.tells_changes) != page.tells_changes {
                return Err(Fault::transient(
                    self.source.name(),
                    format!("the column by which {} is read came or went while it was read", self.table),
                    "start the sync again",
                ));
            }
            let (is_last, watermark, cut) = (page.is_last, page.watermark, page.taken.cut);
            let last_taken = span.around(self.append_page(lease, page, progress, &mut misfits)).await?;
            // A page that was cut proves only what was taken of it.
            *read_up_to = (*read_up_to).max(if cut { last_taken } else { watermark });
            if cut {
                return Ok(Stopped::LimitReached);
            }
            if is_last {
                return Ok(Stopped::Exhausted);
            }
            if self.cancel.is_cancelled() {
                break;
            }
        }
        Ok(Stopped::Cancelled)
    }

    /// Tells what is new of a page, up to `left` events; `before` is what was appended of the page before it, which may not be
    /// remembered yet.
    pub(super) async fn compare(
        &self,
        lease: &SharedLease<'_>,
        page: &Page,
        left: u64,
        max_record: usize,
        before: HashMap<String, Appended>,
    ) -> Result<Compared, Fault> {
        let ledger = self.erased.ledger().await?;
        let rows = Rows::read(self.table, page, &ledger);
        let entities = rows.entities();
        let mut last = lease.lock().await.last_appended(&entities).await?;
        last.extend(before);
        for (entity, held) in &self.newer_than {
            if let Some(last) = last.get_mut(entity) {
                last.versao = last.versao.max(*held);
            }
        }
        let asked = Asked {
            sync_id: self.id,
            reappend: self.request.reappend,
            events: left,
            max_record,
            parent: traces::current(),
        };
        Ok(Compared {
            taken: rows.take(asked, last),
            ledger,
            rows: page.rows.len() as u64,
            without_key: page.without_key,
            watermark: page.watermark,
            tells_changes: page.tells_changes,
            is_last: page.next.is_none(),
        })
    }

    /// Appends what is new of a page and remembers it. Returns the modification time of the last row of it that is in the log
    /// now.
    pub(super) async fn append_page(
        &self,
        lease: &SharedLease<'_>,
        page: Compared,
        progress: &mut SyncProgress,
        misfits: &mut Misfits,
    ) -> Result<Option<DateTime<Utc>>, Fault> {
        let Compared { mut taken, mut ledger, .. } = page;
        let now = self.erased.ledger().await?;
        if now.version() != ledger.version() {
            taken.leave_out(self.table, &now);
            ledger = now;
        }
        let (appended, parked) = (taken.events.len() as u64, taken.letters.len() as u64);
        self.park(taken.letters).await?;
        let remembered = self.append(lease, taken.events, progress).await?;
        self.check_log().await?;
        for (column, values) in taken.misfits {
            *misfits.entry(column).or_default() += values;
        }
        progress.pages += 1;
        progress.rows_read += page.rows;
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
        if lease.lock().await.checkpoint(&checkpointed, &appended_now).await? == Control::Cancel {
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
        Ok(taken.last_modified)
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
        lease: &SharedLease<'_>,
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
            lease.lock().await.checkpoint(progress, &[]).await?;
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
