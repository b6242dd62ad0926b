//! Forgetting by age: syncs of long ago, letters that were settled long ago, and records of the embedded log that every sink
//! has applied.
//!
//! Guarantee: nothing goes that somebody still needs. A letter goes only with all before it in its partition, so none that is
//! open; a record only when store and index have applied it, and while no index is being built. The log goes first and what the
//! store knows of it afterwards: interrupted in between, the next pass goes on.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Finding, lag, letters, shared::Shared, status::within};
use crate::{
    fault::Fault,
    log::{Extent, Position, Topic, TopicLimits},
    next_step::NextStep,
};

/// Syncs forgotten in one statement.
const SYNCS: u32 = 1_000;

/// Letters read at a time: each may be as large as a record.
const LETTERS: i64 = 32;

/// How long before an open letter is lost doctor warns of it.
const LOST_SOON: TimeDelta = TimeDelta::days(7);

/// Records removed in one transaction.
const RECORDS: i64 = 1_000;

/// Forgets the syncs that began before an instant; `told` hears how many each time.
pub(super) async fn syncs(
    shared: &Shared,
    before: DateTime<Utc>,
    told: impl Fn(u64) + Send,
) -> Result<(), Fault> {
    loop {
        let forgotten = shared.store.forget_syncs(before, SYNCS).await?;
        told(forgotten);
        if forgotten < u64::from(SYNCS) {
            return Ok(());
        }
    }
}

/// Removes the letters that were settled before an instant, up to the first of each partition that was not.
pub(super) async fn letters(
    shared: &Shared,
    before: DateTime<Utc>,
    told: impl Fn(u64) + Send,
) -> Result<(), Fault> {
    let log = shared.ready_log().await?;
    let id = log.dead_letters_identity().await?.to_string();
    let events = log.identity().await?.to_string();
    for extent in log.dead_letter_extents().await? {
        let mut low = extent.low;
        // Of those that the topic's own retention took, or that went before and explained a row then.
        shared.store.forget_letters(&id, &events, Extent { low: 0, high: low, ..extent }).await?;
        while low < extent.high {
            let range = Extent { low, high: (low + LETTERS).min(extent.high), ..extent };
            let settled = shared.store.settled(&id, range).await?;
            let old = settled.iter().filter(|known| known.at < before).map(|known| known.offset);
            let range = Extent { high: end_of_run(low, old), ..range };
            if range.high == low {
                break;
            }
            // A topic made anew has other letters in these places.
            let read = letters::read(shared, &id, &[range]).await?;
            let closed = read.iter().filter(|letter| letter.resolution.is_some());
            let end = end_of_run(low, closed.map(|letter| letter.record.offset));
            if end == low {
                break;
            }
            let below = Position { partition: extent.partition, offset: end };
            log.remove(Topic::DeadLetters, below).await?;
            shared.store.forget_letters(&id, &events, Extent { low, high: end, ..extent }).await?;
            told((end - low).unsigned_abs());
            low = end;
        }
    }
    Ok(())
}

/// The first number from `low` on that is not among these.
fn end_of_run(low: i64, numbers: impl Iterator<Item = i64>) -> i64 {
    let numbers: BTreeSet<i64> = numbers.collect();
    let mut end = low;
    while numbers.contains(&end) {
        end += 1;
    }
    end
}

/// Removes the records of the embedded log that were appended before an instant and that every sink has applied.
pub(super) async fn records(
    shared: &Shared,
    before: DateTime<Utc>,
    told: impl Fn(u64) + Send,
) -> Result<(), Fault> {
    for old in old_records(shared, before).await? {
        let mut low = old.low;
        while low < old.applied {
            let end = (low + RECORDS).min(old.applied);
            // An index may have been begun meanwhile: it reads all that there is.
            if !shared.index.rebuilds().await?.is_empty() {
                return Ok(());
            }
            shared.log.remove(Topic::Events, Position { partition: old.partition, offset: end }).await?;
            told((end - low).unsigned_abs());
            low = end;
        }
    }
    Ok(())
}

/// Records of a partition that are older than they are to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OldRecords {
    partition: i32,
    low: i64,
    /// Up to here every sink has them.
    applied: i64,
    /// Up to here they are old.
    high: i64,
}

/// How many records are older than they are to be kept and stay because a sink has not applied them.
pub(super) async fn kept_records(shared: &Shared, before: DateTime<Utc>) -> Result<u64, Fault> {
    let old = old_records(shared, before).await?;
    Ok(old.iter().map(|old| (old.high - old.applied).unsigned_abs()).sum())
}

async fn old_records(shared: &Shared, before: DateTime<Utc>) -> Result<Vec<OldRecords>, Fault> {
    let (log, extents) = (&shared.log, shared.log.extents().await?);
    let (older, is_built) = (log.older(before).await?, !shared.index.rebuilds().await?.is_empty());
    let mut sinks = Vec::new();
    for sink in &shared.sinks {
        let reading = shared.reading(&**sink).await?;
        let standing = lag::standing(&**log, &reading.log.to_string(), &**sink, &reading.group).await?;
        sinks.push(standing.next);
    }
    let offset = |known: &[Position], partition| {
        known.iter().find(|at| at.partition == partition).map_or(0, |at| at.offset)
    };
    let old = |extent: &Extent| {
        let (partition, low) = (extent.partition, extent.low);
        let high = offset(&older, partition).clamp(low, extent.high);
        let applied = sinks.iter().map(|next| offset(next, partition)).min().unwrap_or_default();
        let applied = if is_built { low } else { applied.clamp(low, high) };
        OldRecords { partition, low, applied, high }
    };
    Ok(extents.iter().map(old).collect())
}

/// The oldest letter that nobody settled, and since when it waits.
pub(super) async fn oldest_open(shared: &Shared) -> Result<Option<(Position, DateTime<Utc>)>, Fault> {
    let log = &shared.log;
    let id = log.dead_letters_identity().await?.to_string();
    let mut oldest = None;
    for extent in log.dead_letter_extents().await? {
        let Some(low) = shared.store.first_open(&id, extent).await? else { continue };
        let range = Extent { low, high: low + 1, ..extent };
        let parked = log.records(Topic::DeadLetters, &[range]).await?.pop().and_then(|one| one.appended_at);
        let found = parked.map(|at| (Position { partition: extent.partition, offset: low }, at));
        oldest = oldest.into_iter().chain(found).min_by_key(|(_, at)| *at);
    }
    Ok(oldest)
}

/// What doctor says of ages: whether a letter is lost before it is settled, and whether old records can't be removed.
pub(super) async fn findings(shared: &Shared) -> Vec<Finding> {
    let log = shared.log.name();
    let mut findings = Vec::new();
    let (oldest, facts) = tokio::join!(within(log, oldest_open(shared)), within(log, shared.log.facts()));
    if let Ok(Some((at, since))) = oldest {
        let limits = facts.map(|facts| facts.letters).unwrap_or_default();
        findings.push(letter_finding(log, at, since, limits, Utc::now()));
    }
    if let Some(kept) = shared.settings.log_retention {
        let old = within(log, kept_records(shared, Utc::now() - kept)).await;
        // Whatever kept it from being told is a finding already.
        if let Ok(old @ 1..) = old {
            findings.push(Finding::warning(
                log,
                "old records",
                format!(
                    "{old} records are older than {} days and stay: a sink has not applied them, or an index is being built",
                    kept.num_days()
                ),
                NextStep::SeeStatus,
            ));
        }
    }
    findings
}

fn letter_finding(
    log: &str,
    at: Position,
    since: DateTime<Utc>,
    limits: TopicLimits,
    now: DateTime<Utc>,
) -> Finding {
    const CHECK: &str = "oldest dead letter";
    let waits = format!("{}-{} waits since {}", at.partition, at.offset, since.format("%Y-%m-%dT%H:%M:%SZ"));
    let gone = limits.retention.and_then(|kept| since.checked_add_signed(TimeDelta::from_std(kept).ok()?));
    match gone.filter(|gone| *gone - now < LOST_SOON) {
        None if let Some(bytes) = limits.retention_bytes => Finding::warning(
            log,
            CHECK,
            format!(
                "{waits}, and the topic's retention removes it once it holds more than {bytes} bytes, though nobody settled it"
            ),
            NextStep::SettleLetters,
        ),
        None => Finding::ok(log, CHECK, waits),
        Some(gone) => Finding::warning(
            log,
            CHECK,
            format!(
                "{waits}, and from {} on the topic's retention removes it though nobody settled it",
                gone.format("%Y-%m-%dT%H:%M:%SZ")
            ),
            NextStep::SettleLetters,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Outcome;

    #[test]
    fn a_run_ends_before_the_first_that_is_missing() {
        assert_eq!(end_of_run(5, [7, 5, 6, 9].into_iter()), 8);
        assert_eq!(end_of_run(5, [6, 7].into_iter()), 5);
        assert_eq!(end_of_run(5, std::iter::empty()), 5);
    }

    #[test]
    fn an_open_letter_that_the_topic_removes_within_a_week_is_warned_about() {
        let now = Utc::now();
        let (at, since) = (Position { partition: 0, offset: 7 }, now - TimeDelta::days(30));
        let told = |kept: Option<u64>| {
            let retention = kept.map(|days| Duration::from_hours(24 * days));
            let limits = TopicLimits { retention, ..TopicLimits::default() };
            let finding = letter_finding("kafka", at, since, limits, now);
            (finding.outcome, finding.detail)
        };
        assert!(told(None).1.starts_with("0-7 waits since "));
        for (kept, outcome) in [(None, Outcome::Ok), (Some(38), Outcome::Ok), (Some(36), Outcome::Warning)] {
            assert_eq!(told(kept).0, outcome, "{kept:?} days");
        }
        assert!(told(Some(10)).1.contains("though nobody settled it"), "it may be gone any moment");
        assert_eq!(told(Some(u64::MAX / 86_400_000)).0, Outcome::Ok, "for ever, in other words");
        let bounded = TopicLimits { retention_bytes: Some(1_000), ..TopicLimits::default() };
        assert_eq!(letter_finding("kafka", at, since, bounded, now).outcome, Outcome::Warning, "by its size");
    }
}
