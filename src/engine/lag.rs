//! Lag: how many records of the log a sink has still to apply, from real offsets.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    fault::Fault,
    log::{Extent, Log, Position},
    sink::Sink,
};

/// A sink's lag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkLag {
    pub sink: String,
    /// The log that it is behind.
    #[serde(skip)]
    pub log: String,
    pub consumer_group: String,
    /// Where the offsets come from: `store` (committed with the rows) or `consumer_group`.
    pub offsets_from: &'static str,
    /// Records still to be applied, over all partitions.
    pub total: i64,
    pub partitions: Vec<PartitionLag>,
}

impl SinkLag {
    /// Records still to be applied before it has everything below `targets`.
    pub(super) fn pending(&self, targets: &[Position]) -> i64 {
        let next_of = |partition: i32| {
            let known = self.partitions.iter().find(|known| known.partition == partition);
            known.and_then(|known| known.next_offset).unwrap_or(0)
        };
        targets.iter().map(|target| (target.offset - next_of(target.partition)).max(0)).sum()
    }
}

/// One partition's lag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PartitionLag {
    pub partition: i32,
    /// The next offset the sink needs; absent when it never applied a record of this partition.
    pub next_offset: Option<i64>,
    /// The first offset the log still holds.
    pub log_start_offset: i64,
    /// One past the last offset of the log.
    pub log_end_offset: i64,
    pub lag: i64,
}

/// Where a sink stands in the log.
pub(super) struct Standing {
    pub from_store: bool,
    pub next: Vec<Position>,
}

pub(super) async fn standing(
    log: &dyn Log,
    log_id: &str,
    sink: &dyn Sink,
    group: &str,
) -> Result<Standing, Fault> {
    match sink.applied(log_id).await? {
        Some(next) => Ok(Standing { from_store: true, next }),
        None => {
            let (mut next, reached) = tokio::try_join!(log.committed(group), sink.reached(log_id))?;
            for at in &mut next {
                at.offset =
                    offset_in(&reached, at.partition).map_or(at.offset, |reached| at.offset.min(reached));
            }
            Ok(Standing { from_store: false, next })
        }
    }
}

pub(super) fn lag_of(sink: &str, log: &str, group: &str, standing: &Standing, extents: &[Extent]) -> SinkLag {
    let partitions: Vec<PartitionLag> = extents
        .iter()
        .map(|extent| {
            let next_offset = offset_in(&standing.next, extent.partition);
            // A sink ahead of the log means that the log was recreated: all of it is still to be read.
            let reads_from = next_offset.filter(|next| *next <= extent.high).unwrap_or(extent.low);
            PartitionLag {
                partition: extent.partition,
                next_offset,
                log_start_offset: extent.low,
                log_end_offset: extent.high,
                lag: extent.high - reads_from.max(extent.low),
            }
        })
        .collect();
    SinkLag {
        sink: sink.to_owned(),
        log: log.to_owned(),
        consumer_group: group.to_owned(),
        offsets_from: if standing.from_store { "store" } else { "consumer_group" },
        total: partitions.iter().map(|partition| partition.lag).sum(),
        partitions,
    }
}

/// Records a sink still has to apply before it has everything below `targets`.
pub(super) fn pending(standing: &Standing, targets: &[Position]) -> i64 {
    targets
        .iter()
        .map(|target| (target.offset - offset_in(&standing.next, target.partition).unwrap_or(0)).max(0))
        .sum()
}

fn offset_in(positions: &[Position], partition: i32) -> Option<i64> {
    positions.iter().find(|position| position.partition == partition).map(|position| position.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing_at(offset: Option<i64>) -> Standing {
        let next = offset.map(|offset| Position { partition: 0, offset }).into_iter().collect();
        Standing { from_store: true, next }
    }

    fn lag_at(offset: Option<i64>) -> i64 {
        let extents = [Extent { partition: 0, low: 10, high: 50 }];
        lag_of("postgres", "l", "g", &standing_at(offset), &extents).total
    }

    #[test]
    fn lag_counts_what_the_log_still_holds() {
        assert_eq!(lag_at(Some(30)), 20);
        assert_eq!(lag_at(Some(50)), 0);
        assert_eq!(lag_at(None), 40, "never applied: everything that exists");
        assert_eq!(lag_at(Some(3)), 40, "what retention removed can't be applied");
        assert_eq!(lag_at(Some(90)), 40, "a recreated log is read from its start");
    }

    #[test]
    fn pending_is_zero_only_when_every_target_is_reached() {
        let targets = [Position { partition: 0, offset: 5 }, Position { partition: 1, offset: 2 }];
        assert_eq!(pending(&standing_at(Some(9)), &targets), 2);
        assert_eq!(pending(&standing_at(Some(4)), &targets), 3);
        assert_eq!(pending(&standing_at(None), &[]), 0);
    }
}
