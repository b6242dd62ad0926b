//! What a sync had appended and could not remember, read back from the log by the next one.
//!
//! Between the log's acknowledgement of a page and the store's memory of it a process may be killed, or the store be
//! lost. Each sync keeps, with what it remembers, where the log ended then. The next sync of the table reads on from
//! there before it asks the source, and remembers the table's events that it finds: their rows count as appended, so
//! none of them is appended again.
//!
//! Two things it can't do. A request that the killed process had sent may reach the broker after the log was read
//! back, and is appended again then. And more than [`MAX_READ_BACK`] records are not read: a table whose sync was
//! interrupted and that nobody synced for so long has the events of that one page twice in the topic. Either way the
//! events are the same ones, and change nothing in a sink.

use std::collections::HashMap;

use tracing::{info, warn};

use super::{erased, patience::patiently, sync::SyncRun};
use crate::{
    domain::Event,
    fail_point,
    fault::Fault,
    log::{Extent, Position, Record, Topic},
    store::{Appended, SyncLease, SyncProgress, SyncRecord, SyncState},
};

/// Records read at a time: all of them are held at once.
const CHUNK: i64 = 1_000;

/// Records read in all.
const MAX_READ_BACK: i64 = 200_000;

/// Syncs of the table that are looked at for the last one that remembered all it appended.
pub(super) const LOOK_BACK: u32 = 20;

/// Where the log is to be read back from; nothing where the earlier syncs of the table, newest first, remembered all
/// they appended to this log.
pub(super) fn unremembered(earlier: &[SyncRecord], log: &str) -> Option<Vec<Position>> {
    earlier
        .iter()
        .take_while(|sync| {
            matches!(sync.state, SyncState::Failed | SyncState::Interrupted | SyncState::Running)
        })
        .find(|sync| sync.log == log && !sync.progress.remembered.is_empty())
        .map(|sync| sync.progress.remembered.clone())
}

impl SyncRun {
    /// Remembers what an earlier sync appended behind these positions.
    pub(super) async fn read_back(
        &self,
        lease: &mut dyn SyncLease,
        from: &[Position],
        progress: &mut SyncProgress,
    ) -> Result<(), Fault> {
        let ranges = ranges(from, &self.extents().await?);
        let records: i64 = ranges.iter().map(|range| range.high - range.low).sum();
        if records > MAX_READ_BACK {
            warn!(
                sync_id = %self.id, table = %self.table, records,
                "an earlier sync did not remember the last page it appended, and the log has gone too far to look for it: \
                 that page's events may stand in it twice; no sink takes them twice"
            );
            return Ok(());
        }
        // Until all is read back, whoever comes after this sync begins where it did.
        progress.remembered = from.to_vec();
        let ledger = self.erased.ledger().await?;
        let mut found = 0;
        for range in ranges {
            let mut low = range.low;
            while low < range.high {
                let high = range.high.min(low + CHUNK);
                let chunk = [Extent { partition: range.partition, low, high }];
                let appended = self
                    .appended_in(patiently(&self.cancel, || self.log.records(Topic::Events, &chunk)).await?);
                let entities: Vec<String> = appended.keys().cloned().collect();
                // An erasure that was made before they came into the log left them there.
                let erased = entities.iter().filter(|key| ledger.holds(self.table, key));
                let erased: Vec<String> = erased.cloned().collect();
                erased::empty_appended(&*self.store, &*self.log, self.table, &erased).await?;
                let known = lease.last_appended(&entities).await?;
                let news: Vec<Appended> = appended
                    .into_values()
                    .filter(|one| !ledger.holds(self.table, &one.entity))
                    .filter(|one| known.get(&one.entity).is_none_or(|known| known.versao < one.versao))
                    .collect();
                found += news.len();
                lease.checkpoint(progress, &news).await?;
                fail_point::pass("sync.read_back");
                low = high;
            }
        }
        if found > 0 {
            info!(sync_id = %self.id, table = %self.table, found, "events that an earlier sync had appended are remembered now");
        }
        Ok(())
    }

    /// The newest event of each entity of this table among records.
    fn appended_in(&self, records: Vec<Record>) -> HashMap<String, Appended> {
        let mut newest: HashMap<String, Appended> = HashMap::new();
        let events = records.iter().filter_map(|record| Event::decode(record.value.as_ref()).ok());
        for event in events.filter(|event| event.tipo_evento == self.table.entity) {
            let one = Appended {
                entity: event.entidade.id.clone(),
                event: event.id,
                versao: event.entidade.versao,
                removed: event.entidade.removida,
            };
            match newest.get(&one.entity) {
                Some(known) if known.versao > one.versao => {}
                _ => {
                    newest.insert(one.entity.clone(), one);
                }
            }
        }
        newest
    }
}

/// What the log holds behind these positions, also in partitions that are newer than they.
fn ranges(from: &[Position], extents: &[Extent]) -> Vec<Extent> {
    let behind = |extent: &Extent| {
        let from = from.iter().find(|at| at.partition == extent.partition).map_or(0, |at| at.offset);
        Extent { low: from.clamp(extent.low, extent.high), ..*extent }
    };
    extents.iter().map(behind).filter(|range| range.low < range.high).collect()
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use uuid::Uuid;

    use super::*;
    use crate::{domain::Catalog, store::SyncRequest};

    fn sync(state: SyncState, remembered: Option<i64>) -> SyncRecord {
        let remembered = remembered.map(|offset| Position { partition: 0, offset });
        SyncRecord {
            id: Uuid::nil(),
            request: SyncRequest {
                table: Catalog::built_in().get("leads").expect("leads").into(),
                hours_ago: 1,
                limit: 1,
                conditions: Vec::new(),
                resume: false,
                reappend: false,
                reconcile: None,
                since: None,
            },
            state,
            progress: SyncProgress {
                remembered: remembered.into_iter().collect(),
                ..SyncProgress::default()
            },
            log: "log".to_owned(),
            owner: String::new(),
            started_at: Utc::now(),
            finished_at: None,
            error: None,
            cancel_requested: false,
            drained: false,
        }
    }

    #[test]
    fn the_log_is_read_back_from_where_the_last_sync_that_broke_off_remembered_it() {
        use SyncState::{Cancelled, Failed, Interrupted, Succeeded};
        let from = |earlier: &[SyncRecord]| unremembered(earlier, "log").map(|from| from[0].offset);
        assert_eq!(from(&[]), None);
        assert_eq!(from(&[sync(Interrupted, Some(7)), sync(Failed, Some(3))]), Some(7));
        assert_eq!(
            from(&[sync(Interrupted, None), sync(Failed, Some(3))]),
            Some(3),
            "killed before it appended"
        );
        for whole in [Succeeded, Cancelled] {
            assert_eq!(from(&[sync(whole, Some(9)), sync(Failed, Some(3))]), None, "{whole:?}");
            assert_eq!(from(&[sync(Failed, None), sync(whole, Some(9)), sync(Failed, Some(3))]), None);
        }
        assert_eq!(unremembered(&[sync(Failed, Some(3))], "another log"), None);
    }

    #[test]
    fn only_what_the_log_holds_is_read_back() {
        let extent = |partition, low, high| Extent { partition, low, high };
        let from = [Position { partition: 0, offset: 5 }, Position { partition: 1, offset: 9 }];
        let extents = [extent(0, 0, 8), extent(1, 0, 9), extent(2, 3, 4)];
        assert_eq!(ranges(&from, &extents), [extent(0, 5, 8), extent(2, 3, 4)]);
        assert_eq!(ranges(&from, &[extent(0, 6, 8)]), [extent(0, 6, 8)], "retention removed one");
        assert_eq!(ranges(&from, &[extent(0, 0, 2)]), [], "cut, or made anew");
    }
}
