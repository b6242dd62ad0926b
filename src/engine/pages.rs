//! Pages on their way from the source into the log: the next one is read while one is compared with what was appended before,
//! appended and remembered.

use std::pin::{Pin, pin};

use chrono::{DateTime, Utc};
use futures::future::OptionFuture;
use tracing::{info, warn};

use super::{
    erased,
    page::{self, Asked, Misfits, RecordLimits, Rows},
    sync::{Stopped, SyncRun, raise},
};
use crate::{
    domain::{ErasureLedger, Json, TableName},
    fail_point,
    fault::Fault,
    log::{Extent, NewRecord, Position, Topic},
    source::{Page, RowQuery},
    store::{Appended, Control, ParkedEntity, SyncLease, SyncProgress},
    traces::{self, Span},
};

/// Bytes of a page's rows behind which the next page is not read before they are appended: it is likely to take much memory.
const MAX_AHEAD: usize = 8 << 20;

/// A page and the span that it was read in.
pub(super) type ReadPage = (Page, Span);

impl SyncRun {
    /// Appends what is new of `first` and of the pages that follow it. `read_up_to` is raised to the modification time of the
    /// last row that is in the log.
    pub(super) async fn append_pages(
        &self,
        lease: &mut dyn SyncLease,
        query: &RowQuery,
        first: ReadPage,
        limits: RecordLimits,
        progress: &mut SyncProgress,
        read_up_to: &mut Option<DateTime<Utc>>,
    ) -> Result<Stopped, Fault> {
        let (mut misfits, told_changes) = (Misfits::new(), first.0.tells_changes);
        let mut fetched = Some(Ok(first));
        while let Some(page) = fetched {
            let (page, span) = page?;
            if page.tells_changes != told_changes {
                return Err(Fault::transient(
                    self.source.name(),
                    format!("the column by which {} is read came or went while it was read", self.table),
                    "start the sync again",
                ));
            }
            let left = u64::from(self.request.limit).saturating_sub(progress.appended);
            let bytes: usize = page.rows.iter().map(Json::size).sum();
            let mut ahead =
                pin!(OptionFuture::from(page.next.as_ref().map(|token| self.fetch(query, Some(token)))));
            let appending = span.around(self.append_page(lease, &page, left, limits, progress, &mut misfits));
            // The source answers while the log does, unless its answer may not be wanted.
            let (appended, came) = if left <= page.rows.len() as u64 || bytes > MAX_AHEAD {
                (appending.await, None)
            } else {
                beside(appending, ahead.as_mut()).await
            };
            let (last_taken, cut) = appended?;
            // A page that was cut proves only what was taken of it.
            *read_up_to = (*read_up_to).max(if cut { last_taken } else { page.watermark });
            if cut {
                return Ok(Stopped::LimitReached);
            }
            if page.next.is_some() && self.cancel.is_cancelled() {
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

    /// Appends what is new of a page, up to `left` events, and remembers it. Returns the modification time of the last row of
    /// it that is in the log now, and whether rows were left out.
    pub(super) async fn append_page(
        &self,
        lease: &mut dyn SyncLease,
        page: &Page,
        left: u64,
        limits: RecordLimits,
        progress: &mut SyncProgress,
        misfits: &mut Misfits,
    ) -> Result<(Option<DateTime<Utc>>, bool), Fault> {
        progress.lost_columns = self.meet_columns(page, progress.pages == 0).await?;
        let ledger = self.erased.ledger().await?;
        let rows = Rows::read(self.table, page, &ledger);
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
            limits,
            doubles: self.store.holds_doubles(),
            parent: traces::current(),
        };
        let taken = rows.take(asked, last);
        let (appended, parked) = (taken.events.len() as u64, taken.letters.len() as u64);
        let parked_now = self.park(taken.letters).await?;
        self.settle_erased(&ledger, parked_now).await?;
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

    /// An erasure that was made while letters were parked found none of them; one that is made from now on does.
    async fn settle_erased(
        &self,
        before: &ErasureLedger,
        mut parked: Vec<ParkedEntity>,
    ) -> Result<(), Fault> {
        if parked.is_empty() {
            return Ok(());
        }
        let now = self.erased.ledger().await?;
        parked.retain(|one| now.version() != before.version() && now.holds(self.table, &one.entity));
        if !parked.is_empty() {
            erased::settle_parked(&*self.store, &*self.log, &parked, &format!("sync {}", self.id)).await?;
            self.store.forget_erased().await?;
        }
        Ok(())
    }

    /// An erasure that was made while a page was appended found no mark and no record of it.
    async fn forget_erased(&self, before: &ErasureLedger, appended: &[Appended]) -> Result<(), Fault> {
        let now = self.erased.ledger().await?;
        if now.version() == before.version() {
            return Ok(());
        }
        let erased = appended.iter().map(|one| one.entity.clone()).filter(|key| now.holds(self.table, key));
        let erased: Vec<String> = erased.collect();
        if !erased.is_empty() {
            self.store.erase(self.table, &erased, true).await?;
            erased::empty_appended(&*self.store, &*self.log, self.table, &erased).await?;
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

    /// Returns once the log has acknowledged every letter, with those that name an entity.
    async fn park(
        &self,
        letters: Vec<(NewRecord, Option<ParkedEntity>)>,
    ) -> Result<Vec<ParkedEntity>, Fault> {
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        let (records, parked): (Vec<NewRecord>, Vec<Option<ParkedEntity>>) = letters.into_iter().unzip();
        let count = records.len();
        self.check_letters().await?;
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
        self.store.note_parked(&self.letters, &noted).await?;
        Ok(noted)
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
