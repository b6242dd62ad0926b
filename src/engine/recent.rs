//! What happened lately: rates over a minute, and how values were distributed over five.
//!
//! Both forget by themselves and take the same room however much is recorded.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::Serialize;

/// Window over which a rate is taken.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// A rate's resolution.
const RATE_STEP: Duration = Duration::from_secs(1);

/// A distribution is kept in slices, so that the oldest can be forgotten as a whole.
const SLICE: Duration = Duration::from_mins(1);
const SLICES: usize = 5;

/// Two digits: a percentile is told within one percent.
const DIGITS: u8 = 2;

/// An hour in microseconds: what took longer counts as an hour.
const MOST: u64 = 3_600_000_000;

/// How many things happened a second.
#[derive(Debug)]
pub(super) struct Rate {
    steps: VecDeque<(Instant, u64)>,
    since: Instant,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { steps: VecDeque::new(), since: now }
    }

    pub(super) fn add(&mut self, now: Instant, count: u64) {
        match self.steps.back_mut() {
            Some((begun, sum)) if now.duration_since(*begun) < RATE_STEP => *sum += count,
            _ => self.steps.push_back((now, count)),
        }
        self.forget(now);
    }

    /// A second, over the last minute or since the beginning; one decimal.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn per_second(&mut self, now: Instant) -> f64 {
        self.forget(now);
        let sum: u64 = self.steps.iter().map(|(_, count)| count).sum();
        let span = now.duration_since(self.since).min(RATE_WINDOW).as_secs_f64().max(1.0);
        (sum as f64 / span * 10.0).round() / 10.0
    }

    fn forget(&mut self, now: Instant) {
        while self.steps.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_WINDOW) {
            self.steps.pop_front();
        }
    }
}

/// How the values of the last five minutes are distributed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Distribution {
    /// Values in the window; the others are 0 when it is 0.
    pub count: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// The values of the last five minutes.
#[derive(Debug)]
pub(super) struct Recent {
    slices: VecDeque<(Instant, Histogram<u64>)>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { slices: VecDeque::with_capacity(SLICES) }
    }

    pub(super) fn record(&mut self, now: Instant, value: u64) {
        let is_over = self.slices.back().is_none_or(|(begun, _)| now.duration_since(*begun) >= SLICE);
        if is_over {
            self.forget(now);
            // Constant bounds that the library accepts; were it otherwise nothing would be recorded.
            let Ok(slice) = Histogram::new_with_bounds(1, MOST, DIGITS) else { return };
            self.slices.push_back((now, slice));
        }
        if let Some((_, slice)) = self.slices.back_mut() {
            slice.saturating_record(value);
        }
    }

    /// In microseconds; told in milliseconds by [`Recent::milliseconds`].
    pub(super) fn record_time(&mut self, now: Instant, took: Duration) {
        self.record(now, u64::try_from(took.as_micros()).unwrap_or(MOST));
    }

    pub(super) fn values(&mut self, now: Instant) -> Distribution {
        self.told_by(now, 1.0)
    }

    pub(super) fn milliseconds(&mut self, now: Instant) -> Distribution {
        self.told_by(now, 1000.0)
    }

    #[allow(clippy::cast_precision_loss)]
    fn told_by(&mut self, now: Instant, unit: f64) -> Distribution {
        self.forget(now);
        let Ok(mut all) = Histogram::<u64>::new_with_bounds(1, MOST, DIGITS) else {
            return Distribution::default();
        };
        for (_, slice) in &self.slices {
            // Of the same bounds, so it always fits.
            all.add(slice).ok();
        }
        if all.is_empty() {
            return Distribution::default();
        }
        let told = |value: u64| (value as f64 / unit * 10.0).round() / 10.0;
        Distribution {
            count: all.len(),
            p50: told(all.value_at_quantile(0.5)),
            p95: told(all.value_at_quantile(0.95)),
            p99: told(all.value_at_quantile(0.99)),
            max: told(all.max()),
        }
    }

    fn forget(&mut self, now: Instant) {
        let window = SLICE * u32::try_from(SLICES).unwrap_or(1);
        while self.slices.front().is_some_and(|(begun, _)| now.duration_since(*begun) >= window) {
            self.slices.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(told: f64, expected: f64) -> bool {
        (told - expected).abs() <= expected * 0.02
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute_and_takes_bounded_room() {
        let begun = Instant::now();
        let mut rate = Rate::new(begun);
        for millis in 0..120_000 {
            rate.add(begun + Duration::from_millis(millis), 2);
        }
        let now = begun + Duration::from_mins(2);
        assert!(close(rate.per_second(now), 2000.0), "{}", rate.per_second(now));
        assert!(rate.steps.len() <= 62, "{}", rate.steps.len());
        assert!(rate.per_second(now + Duration::from_mins(2)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_young_rate_is_taken_since_the_beginning() {
        let begun = Instant::now();
        let mut rate = Rate::new(begun);
        rate.add(begun, 100);
        assert!(close(rate.per_second(begun + Duration::from_secs(10)), 10.0));
    }

    #[test]
    fn percentiles_are_those_of_the_values_within_two_percent() {
        let now = Instant::now();
        let mut recent = Recent::new();
        for millis in 1..=1000 {
            recent.record_time(now, Duration::from_millis(millis));
        }
        let told = recent.milliseconds(now);
        assert_eq!(told.count, 1000);
        assert!(close(told.p50, 500.0) && close(told.p95, 950.0) && close(told.p99, 990.0), "{told:?}");
        assert!(close(told.max, 1000.0), "{told:?}");
    }

    #[test]
    fn values_are_forgotten_after_five_minutes_and_a_longest_one_is_no_error() {
        let begun = Instant::now();
        let mut recent = Recent::new();
        recent.record(begun, u64::MAX);
        recent.record(begun, 0);
        assert_eq!(recent.values(begun).count, 2);
        recent.record(begun + Duration::from_mins(4), 7);
        let later = recent.values(begun + Duration::from_mins(5));
        assert_eq!((later.count, later.max), (1, 7.0));
        assert_eq!(recent.values(begun + Duration::from_mins(20)), Distribution::default());
    }
}
