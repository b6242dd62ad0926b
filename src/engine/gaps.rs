//! What lies between a sink and the records it is given: offsets that no reader is ever given, and records that are gone.

use chrono::Utc;

use crate::{
    log::{Extent, Position, Started},
    store::{Notice, NoticeKind},
};

/// What a start showed of one sink and one partition.
pub(super) fn notices_of_start(sink: &str, log: &str, stored: Option<i64>, started: &Started) -> Vec<Notice> {
    let notice = |kind, (from, to)| Notice {
        kind,
        part: sink.to_owned(),
        log: log.to_owned(),
        partition: Some(started.partition),
        from,
        to,
        noticed_at: Utc::now(),
    };
    let mut notices = Vec::new();
    notices.extend(started.removed().map(|range| notice(NoticeKind::RecordsRemoved, range)));
    notices.extend(started.cut().map(|range| notice(NoticeKind::LogCut, range)));
    // A sink's own offset moves before the group's does, so only one that was restored is behind.
    let committed = started.committed.filter(|committed| *committed <= started.extent.high);
    if let (Some(stored), Some(committed)) = (stored, committed)
        && stored < committed
        && notices.is_empty()
    {
        notices.push(notice(NoticeKind::StoreWentBack, (committed, stored)));
    }
    notices
}

/// Offsets that a batch passes over, by partition: `next` is where the sink stands.
pub(super) fn jumps(
    next: impl Fn(i32) -> Option<i64>,
    records: impl Iterator<Item = Position>,
) -> Vec<Extent> {
    let mut reached: Vec<(i32, i64)> = Vec::new();
    let mut jumps = Vec::new();
    for Position { partition, offset } in records {
        let at = match reached.iter_mut().find(|(known, _)| *known == partition) {
            Some(at) => at,
            None => {
                let Some(next) = next(partition) else { continue };
                reached.push((partition, next));
                // Just pushed.
                let Some(at) = reached.last_mut() else { continue };
                at
            }
        };
        if offset > at.1 {
            jumps.push(Extent { partition, low: at.1, high: offset });
        }
        at.1 = offset + 1;
    }
    jumps
}

/// What of the jumps the log does not hold any more.
pub(super) fn removed(jumps: &[Extent], extents: &[Extent]) -> Vec<Extent> {
    let removed = jumps.iter().filter_map(|jump| {
        let low = extents.iter().find(|extent| extent.partition == jump.partition)?.low;
        Some(Extent { high: jump.high.min(low), ..*jump }).filter(|removed| removed.low < removed.high)
    });
    removed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: i64) -> Position {
        Position { partition, offset }
    }

    fn extent(partition: i32, low: i64, high: i64) -> Extent {
        Extent { partition, low, high }
    }

    #[test]
    fn a_jump_is_what_no_record_of_the_batch_fills() {
        let next = |partition| [Some(5), Some(0), None].get(usize::try_from(partition).ok()?).copied()?;
        let records = [at(0, 5), at(1, 3), at(0, 6), at(0, 9), at(1, 4), at(2, 70)];
        assert_eq!(jumps(next, records.into_iter()), [extent(1, 0, 3), extent(0, 7, 9)]);
    }

    #[test]
    fn removed_is_what_lies_below_the_first_offset_and_a_mark_of_a_transaction_is_not() {
        let jumps = [extent(0, 7, 9), extent(1, 0, 50)];
        assert_eq!(removed(&jumps, &[extent(0, 0, 20), extent(1, 40, 60)]), [extent(1, 0, 40)]);
    }

    #[test]
    fn a_start_tells_a_restored_store_from_one_whose_records_are_gone() {
        let kinds = |stored: Option<i64>, committed, low, high| {
            let extent = extent(0, low, high);
            let offset = stored.filter(|stored| (low..=high).contains(stored)).unwrap_or(low);
            let started = Started { partition: 0, offset, asked: stored, committed, extent };
            notices_of_start("postgres", "c/eventos", stored, &started)
                .iter()
                .map(|notice| (notice.kind, notice.from, notice.to))
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(Some(30), Some(30), 0, 50), []);
        assert_eq!(kinds(Some(40), Some(30), 0, 50), [], "the group lags");
        assert_eq!(kinds(Some(20), Some(30), 0, 50), [(NoticeKind::StoreWentBack, 30, 20)]);
        assert_eq!(kinds(Some(5), Some(5), 10, 50), [(NoticeKind::RecordsRemoved, 5, 10)]);
        assert_eq!(kinds(Some(90), Some(90), 0, 50), [(NoticeKind::LogCut, 90, 50)]);
        assert_eq!(kinds(None, None, 0, 50), []);
    }
}
