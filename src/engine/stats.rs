//! What each drain reports of itself: counters, its state, its last error and last success.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{fault::Fault, sink::Applied};

/// How a drain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    /// Not started in this process.
    Stopped,
    /// Preparing the sink or joining the group.
    Starting,
    /// Reading and applying, or waiting for records.
    Running,
    /// Something failed; it will try again by itself.
    BackingOff,
}

impl DrainState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing off",
        }
    }
}

/// A drain's account of itself.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct DrainReport {
    pub sink: String,
    pub state: DrainState,
    /// Partitions this process drains now.
    pub partitions: Vec<i32>,
    /// Events applied that were not there before, since the process started.
    pub inserted: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Entities created or moved forward.
    pub entities: u64,
    /// Entities left alone because they had this version or a later one.
    pub stale: u64,
    /// Events parked as dead letters.
    pub dead_letters: u64,
    pub batches: u64,
    /// Failures that were or will be tried again.
    pub retries: u64,
    /// Times the supervisor had to start the drain anew.
    pub restarts: u64,
    /// Events a second over the last minute.
    pub events_per_second: f64,
    pub last_success_at: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    pub last_error_at: Option<DateTime<Utc>>,
}

impl DrainReport {
    /// It does its work, or is about to.
    pub fn is_well(&self) -> bool {
        matches!(self.state, DrainState::Running | DrainState::Starting)
    }
}

/// Window over which the rate is taken.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// Shared between a drain, its supervisor and whoever asks.
#[derive(Debug)]
pub struct DrainStats {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    report: DrainReport,
    recent: VecDeque<(Instant, u64)>,
    since: Instant,
}

impl DrainStats {
    pub fn new(sink: &str) -> Self {
        let report = DrainReport {
            sink: sink.to_owned(),
            state: DrainState::Stopped,
            partitions: Vec::new(),
            inserted: 0,
            duplicates: 0,
            entities: 0,
            stale: 0,
            dead_letters: 0,
            batches: 0,
            retries: 0,
            restarts: 0,
            events_per_second: 0.0,
            last_success_at: None,
            last_error: None,
            last_error_at: None,
        };
        Self { inner: Mutex::new(Inner { report, recent: VecDeque::new(), since: Instant::now() }) }
    }

    /// The account as of now.
    #[allow(clippy::cast_precision_loss)]
    pub fn report(&self) -> DrainReport {
        let mut inner = self.lock();
        inner.forget_old();
        let events: u64 = inner.recent.iter().map(|(_, events)| events).sum();
        let span = inner.since.elapsed().min(RATE_WINDOW).as_secs_f64().max(1.0);
        inner.report.events_per_second = (events as f64 / span * 10.0).round() / 10.0;
        inner.report.clone()
    }

    pub(super) fn set_state(&self, state: DrainState) {
        self.lock().report.state = state;
    }

    pub(super) fn set_partitions(&self, partitions: Vec<i32>) {
        self.lock().report.partitions = partitions;
    }

    pub(super) fn applied(&self, applied: Applied) {
        let mut inner = self.lock();
        inner.report.state = DrainState::Running;
        inner.report.inserted += applied.inserted;
        inner.report.duplicates += applied.duplicates;
        inner.report.entities += applied.entities;
        inner.report.stale += applied.stale;
        inner.report.batches += 1;
        inner.report.last_success_at = Some(Utc::now());
        inner.recent.push_back((Instant::now(), applied.inserted + applied.duplicates));
        inner.forget_old();
    }

    pub(super) fn parked(&self, letters: u64) {
        self.lock().report.dead_letters += letters;
    }

    pub(super) fn failed(&self, fault: &Fault) {
        let mut inner = self.lock();
        inner.report.state = DrainState::BackingOff;
        inner.report.retries += 1;
        inner.report.last_error = Some(fault.to_string());
        inner.report.last_error_at = Some(Utc::now());
    }

    pub(super) fn restarted(&self) {
        self.lock().report.restarts += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Counters stay meaningful even if a holder panicked half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_old(&mut self) {
        while self.recent.front().is_some_and(|(at, _)| at.elapsed() > RATE_WINDOW) {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_visible_after_the_drain_recovers() {
        let stats = DrainStats::new("postgres");
        stats.failed(&Fault::transient("postgres", "no connection", "start it"));
        assert_eq!(stats.report().state, DrainState::BackingOff);
        stats.applied(Applied { inserted: 5, duplicates: 1, ..Applied::default() });
        let report = stats.report();
        assert_eq!(report.state, DrainState::Running);
        assert_eq!(report.last_error.as_deref(), Some("postgres: no connection; start it"));
        assert!(report.last_success_at.is_some() && report.events_per_second > 0.0);
    }
}
