//! How fast and how well everything goes, in numbers: the source's, the log's and each sink's.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    histogram::Histogram,
    recent::{Distribution, Rate, Recent},
    stats::{DrainReport, SinkTimes},
};

/// What this process measured of its own work. Rates are a second over the last minute, distributions are of the
/// last five minutes, counters are since the process started.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EngineMetrics {
    pub uptime_seconds: u64,
    /// Taken once: the clock may be set.
    #[serde(skip)]
    pub started_at: DateTime<Utc>,
    /// Pages and rows that syncs of this process read.
    pub source: FlowMetrics,
    /// Batches and events that this process appended.
    pub log: FlowMetrics,
    pub sinks: Vec<SinkMetrics>,
    pub measured_at: DateTime<Utc>,
}

/// Something that flows in calls: pages of rows, batches of events.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FlowMetrics {
    /// Pages read or batches appended.
    pub calls: u64,
    /// Rows or events.
    pub items: u64,
    pub items_per_second: f64,
    /// How long a call took, in milliseconds.
    pub call_ms: Distribution,
    /// The calls since the process began.
    #[serde(skip)]
    pub since_start: Histogram,
}

/// One sink's numbers.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SinkMetrics {
    #[serde(flatten)]
    pub drain: DrainReport,
    #[serde(flatten)]
    pub times: SinkTimes,
}

/// Counts a flow; shared by whoever contributes to it.
#[derive(Debug)]
pub struct Flow {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    calls: u64,
    items: u64,
    rate: Rate,
    took: Recent,
    since_start: Histogram,
}

impl Flow {
    pub(super) fn new() -> Self {
        let inner = Inner {
            calls: 0,
            items: 0,
            rate: Rate::new(Instant::now()),
            took: Recent::new(),
            since_start: Histogram::default(),
        };
        Self { inner: Mutex::new(inner) }
    }

    /// One call that succeeded.
    pub(super) fn passed(&self, items: u64, took: Duration) {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.calls += 1;
        inner.items += items;
        inner.rate.add(now, items);
        inner.took.record_time(now, took);
        inner.since_start.record(took);
    }

    pub(super) fn report(&self) -> FlowMetrics {
        let now = Instant::now();
        let mut inner = self.lock();
        FlowMetrics {
            calls: inner.calls,
            items: inner.items,
            items_per_second: inner.rate.per_second(now),
            call_ms: inner.took.milliseconds(now),
            since_start: inner.since_start.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Counters stay meaningful even if a holder panicked half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_counts_calls_and_items_and_tells_how_long_they_took() {
        let flow = Flow::new();
        flow.passed(100, Duration::from_millis(20));
        flow.passed(50, Duration::from_millis(40));
        let report = flow.report();
        assert_eq!((report.calls, report.items, report.call_ms.count), (2, 150, 2));
        assert!(report.items_per_second > 0.0 && report.call_ms.max >= 40.0, "{report:?}");
    }
}
