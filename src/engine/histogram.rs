//! How long things took since the process began, counted into fixed buckets: what Prometheus sums over processes and time.

use std::time::Duration;

/// The buckets' upper bounds in seconds: from a fast call to a row that waited for a day.
const BOUNDS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0,
    86400.0,
];

/// Durations, counted.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

impl Histogram {
    pub(super) fn record(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.seconds += seconds;
    }

    /// Each upper bound in seconds, and how many took so long at most.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.into_iter().zip(self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How long all of them took.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_all_that_took_no_longer_and_what_took_longer_than_a_day_is_counted() {
        let mut histogram = Histogram::default();
        for seconds in [0.005, 0.3, 40.0, 100_000.0] {
            histogram.record(Duration::from_secs_f64(seconds));
        }
        let within = |bound: f64| {
            histogram.buckets().find(|(at, _)| (at - bound).abs() < 1e-9).map(|(_, count)| count)
        };
        assert_eq!(
            [within(0.005), within(0.25), within(0.5), within(60.0)],
            [Some(1), Some(1), Some(2), Some(3)]
        );
        assert_eq!((within(86_400.0), histogram.count()), (Some(3), 4));
        assert!((histogram.seconds() - 100_040.305).abs() < 1e-6, "{}", histogram.seconds());
    }
}
