//! How far behind the sinks were, minute by minute over the last day: what the page draws. It begins with the process.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Json, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    engine::{Engine, SinkLag},
    fault::Fault,
};

const EVERY: Duration = Duration::from_mins(1);
/// Parts that were never used before are made within this time, and do not answer until then.
const FIRST: Duration = Duration::from_secs(5);
const KEPT: TimeDelta = TimeDelta::days(1);

/// How long a measurement may take: a minute without an answer is one of which nothing is known.
const LAG_TIMEOUT: Duration = Duration::from_secs(20);

/// From this age on the last measurement tells nothing of now.
const STALE_AFTER: TimeDelta = TimeDelta::seconds(90);

/// Points that are told: more could not be seen.
const MAX_POINTS: usize = 288;

/// What was measured.
#[derive(Default)]
pub(super) struct History {
    samples: Mutex<VecDeque<Sample>>,
}

/// Every sink at one moment; `None` where log or sinks did not answer.
struct Sample {
    at: DateTime<Utc>,
    sinks: Option<Vec<Behind>>,
    /// Where each partition of the log ended.
    ends: Vec<(i32, i64)>,
}

/// How far behind a sink is: records, and seconds that the oldest of them has waited at least.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Behind {
    sink: String,
    records: i64,
    waited: i64,
}

type Point = (DateTime<Utc>, Vec<Option<(i64, i64)>>);

/// The history as it is told: of each sink, at each moment, records and seconds.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    columns: Vec<String>,
    samples: Vec<Point>,
}

/// Measures until the server ends.
pub(super) async fn measure(engine: Arc<Engine>, history: Arc<History>, ended: CancellationToken) {
    let mut minutes = interval_at(Instant::now() + FIRST, EVERY);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while ended.run_until_cancelled(minutes.tick()).await.is_some() {
        let Some(lag) = ended.run_until_cancelled(answer(engine.drains.lag_as_it_is(), LAG_TIMEOUT)).await
        else {
            return;
        };
        history.take(Utc::now(), lag.as_deref());
    }
}

/// The lag, where it is told in time.
async fn answer(
    lag: impl Future<Output = Result<Vec<SinkLag>, Fault>>,
    timeout: Duration,
) -> Option<Vec<SinkLag>> {
    match tokio::time::timeout(timeout, lag).await {
        Ok(lag) => lag.inspect_err(|error| debug!(%error, "the lag is not known")).ok(),
        Err(_) => {
            debug!("the lag was not told in time");
            None
        }
    }
}

pub(super) async fn lag(State(history): State<Arc<History>>) -> Json<Told> {
    Json(history.told(Utc::now()))
}

impl History {
    fn take(&self, at: DateTime<Utc>, lag: Option<&[SinkLag]>) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        while samples.front().is_some_and(|first| first.at < at - KEPT) {
            samples.pop_front();
        }
        let behind = |lag: &SinkLag| Behind {
            sink: lag.sink.clone(),
            records: lag.total,
            waited: (at - waiting_since(&samples, lag).unwrap_or(at)).num_seconds(),
        };
        let sinks = lag.map(|sinks| sinks.iter().map(behind).collect());
        let log = lag.and_then(|sinks| sinks.first()).map(|sink| &sink.partitions);
        let ends = log.into_iter().flatten().map(|of| (of.partition, of.log_end_offset)).collect();
        samples.push_back(Sample { at, sinks, ends });
    }

    fn told(&self, now: DateTime<Utc>) -> Told {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let names = samples.iter().rev().find_map(|sample| sample.sinks.as_ref());
        let names: Vec<String> = names.into_iter().flatten().map(|sink| sink.sink.clone()).collect();
        let size = samples.len().div_ceil(MAX_POINTS).max(1);
        let samples: Vec<&Sample> = samples.iter().collect();
        let points = samples.chunks(size).map(|chunk| {
            let of = |name: &String| worst(chunk, name);
            (chunk[chunk.len() - 1].at, names.iter().map(of).collect())
        });
        let mut samples: Vec<Point> = points.collect();
        if samples.last().is_some_and(|(last, _)| now - *last > STALE_AFTER) {
            samples.push((now, vec![None; names.len()]));
        }
        Told { columns: std::iter::once("at".to_owned()).chain(names).collect(), samples }
    }
}

/// The most that a sink was behind within some minutes; nothing where it is not known of all of them.
fn worst(samples: &[&Sample], sink: &str) -> Option<(i64, i64)> {
    let of = |sample: &&Sample| {
        let found = sample.sinks.as_ref()?.iter().find(|behind| behind.sink == sink)?;
        Some((found.records, found.waited))
    };
    let known: Option<Vec<(i64, i64)>> = samples.iter().map(of).collect();
    known?.into_iter().reduce(|most, next| (most.0.max(next.0), most.1.max(next.1)))
}

/// When a record that the sink has still to apply was first seen in the log.
fn waiting_since(samples: &VecDeque<Sample>, lag: &SinkLag) -> Option<DateTime<Utc>> {
    let waits = |sample: &Sample| {
        lag.partitions.iter().any(|of| {
            let next = of.next_offset.unwrap_or_default().max(of.log_start_offset);
            let end = sample.ends.iter().find(|(partition, _)| *partition == of.partition);
            of.lag > 0 && end.is_some_and(|(_, end)| *end > next)
        })
    };
    samples.iter().find(|sample| waits(sample)).map(|sample| sample.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PartitionLag;

    fn lag(sink: &str, next: i64, end: i64) -> SinkLag {
        let partition = PartitionLag {
            partition: 0,
            next_offset: Some(next),
            log_start_offset: 0,
            log_end_offset: end,
            lag: end - next,
        };
        SinkLag {
            sink: sink.to_owned(),
            log: "log".to_owned(),
            consumer_group: "group".to_owned(),
            offsets_from: "store",
            total: end - next,
            partitions: vec![partition],
        }
    }

    fn minute(at: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(at * 60, 0).expect("a moment")
    }

    /// As it is told at the last measurement.
    fn told(history: &History) -> Told {
        let last = history.samples.lock().expect("no poison").back().map(|sample| sample.at);
        history.told(last.unwrap_or_default())
    }

    fn of_sink(history: &History) -> Vec<Option<(i64, i64)>> {
        told(history).samples.into_iter().map(|(_, sinks)| sinks.first().copied().flatten()).collect()
    }

    #[test]
    fn a_record_waits_from_when_it_was_first_seen_until_it_is_applied() {
        let history = History::default();
        for (at, next, end) in [(0, 5, 5), (1, 5, 9), (2, 5, 9), (3, 9, 12), (4, 12, 12)] {
            history.take(minute(at), Some(&[lag("postgres", next, end)]));
        }
        let expected = [(0, 0), (4, 0), (4, 60), (3, 0), (0, 0)].map(Some);
        assert_eq!(of_sink(&history), expected);
        assert_eq!(told(&history).columns, ["at", "postgres"]);
    }

    #[test]
    fn a_minute_without_an_answer_is_told_as_unknown_and_not_as_zero() {
        let history = History::default();
        assert_eq!(told(&history), Told { columns: vec!["at".to_owned()], samples: Vec::new() });
        history.take(minute(0), Some(&[lag("postgres", 0, 0)]));
        history.take(minute(1), None);
        assert_eq!(of_sink(&history), [Some((0, 0)), None]);
    }

    #[test]
    fn a_lag_that_is_no_longer_measured_is_not_told_as_that_of_now() {
        let history = History::default();
        history.take(minute(0), Some(&[lag("postgres", 0, 0)]));
        let told_after = |seconds| history.told(minute(0) + TimeDelta::seconds(seconds)).samples;
        assert_eq!(told_after(80), [(minute(0), vec![Some((0, 0))])]);
        assert_eq!(told_after(120), [(minute(0), vec![Some((0, 0))]), (minute(2), vec![None])]);
    }

    #[tokio::test]
    async fn a_part_that_hangs_keeps_no_minute_from_being_told() {
        assert_eq!(answer(std::future::pending(), Duration::ZERO).await, None);
    }

    #[test]
    fn a_day_is_told_by_the_worst_of_some_minutes_each_and_no_longer_kept() {
        let history = History::default();
        for at in 0..2000 {
            let next = if at == 1990 { 0 } else { 7 };
            history.take(
                minute(at),
                (at != 1000).then(|| [lag("postgres", next, 7)]).as_ref().map(|lags| &lags[..]),
            );
        }
        let told = told(&history);
        assert!(told.samples.len() <= MAX_POINTS, "{}", told.samples.len());
        assert!(told.samples[0].0 >= minute(2000 - 1440 - 1));
        assert_eq!(told.samples.last().map(|(at, _)| *at), Some(minute(1999)));
        let points = of_sink(&history);
        assert_eq!(
            points.iter().flatten().map(|(records, _)| records).max(),
            Some(&7),
            "a short lag is seen"
        );
        assert_eq!(points.iter().filter(|point| point.is_none()).count(), 1, "and so is a gap");
    }
}
