//! What each drain reports of itself: counters, its state, its last error and last success.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    histogram::Histogram,
    recent::{Distribution, Rate, Recent},
};
use crate::{
    fault::{Fault, FaultKind},
    log::Record,
    sink::Applied,
};

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
    /// An operator paused the sink.
    Paused,
}

impl DrainState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing off",
            Self::Paused => "paused",
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
    /// Events left out because their entity was erased.
    pub erased: u64,
    /// Events parked as dead letters.
    pub dead_letters: u64,
    pub batches: u64,
    /// Failures that were or will be tried again.
    pub retries: u64,
    /// Times the drain was started anew, because it ended or because an operator asked.
    pub restarts: u64,
    /// Events a second over the last minute.
    pub events_per_second: f64,
    pub last_success_at: Option<DateTime<Utc>>,
    /// Since when it has failed; absent where it does its work.
    pub failing_since: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    pub last_error_at: Option<DateTime<Utc>>,
    /// Whether the last error passes by itself or needs a person.
    #[serde(skip)]
    pub last_kind: Option<FaultKind>,
}

impl DrainReport {
    /// What is wrong with it, where it is not well.
    pub(super) fn problem(&self) -> String {
        let error = self.last_error.as_deref().unwrap_or("no error yet");
        format!("the drain into {} is {}: {error}", self.sink, self.state.as_str())
    }

    /// It does its work, is about to, or was told not to.
    pub fn is_well(&self) -> bool {
        let works = matches!(self.state, DrainState::Running | DrainState::Starting | DrainState::Paused);
        works && self.failing_since.is_none()
    }
}

/// How a sink's work is distributed, over the last five minutes.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct SinkTimes {
    /// Records in a batch.
    pub batch_records: Distribution,
    /// How long applying a batch took, in milliseconds.
    pub apply_ms: Distribution,
    /// From appended to applied, for each record, in milliseconds; the log's clock and ours must agree.
    pub end_to_end_ms: Distribution,
    #[serde(skip)]
    pub since_start: SinkHistograms,
}

/// A sink's times since the process began.
#[derive(Debug, Clone, Default)]
pub struct SinkHistograms {
    /// Applying a batch.
    pub apply: Histogram,
    /// From appended to applied, for each record.
    pub appended_to_applied: Histogram,
    /// From the time that a row says it was changed at to applied, for each event of a row.
    pub changed_to_applied: Histogram,
}

/// Shared between a drain, its supervisor and whoever asks.
#[derive(Debug)]
pub struct DrainStats {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    report: DrainReport,
    rate: Rate,
    batch_records: Recent,
    apply: Recent,
    end_to_end: Recent,
    since_start: SinkHistograms,
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
            erased: 0,
            dead_letters: 0,
            batches: 0,
            retries: 0,
            restarts: 0,
            events_per_second: 0.0,
            last_success_at: None,
            failing_since: None,
            last_error: None,
            last_error_at: None,
            last_kind: None,
        };
        Self {
            inner: Mutex::new(Inner {
                report,
                rate: Rate::new(Instant::now()),
                batch_records: Recent::new(),
                apply: Recent::new(),
                end_to_end: Recent::new(),
                since_start: SinkHistograms::default(),
            }),
        }
    }

    /// The account as of now.
    pub fn report(&self) -> DrainReport {
        let mut inner = self.lock();
        inner.report.events_per_second = inner.rate.per_second(Instant::now());
        inner.report.clone()
    }

    /// The distributions as of now.
    pub fn times(&self) -> SinkTimes {
        let now = Instant::now();
        let mut inner = self.lock();
        SinkTimes {
            batch_records: inner.batch_records.values(now),
            apply_ms: inner.apply.milliseconds(now),
            end_to_end_ms: inner.end_to_end.milliseconds(now),
            since_start: inner.since_start.clone(),
        }
    }

    pub(super) fn set_state(&self, state: DrainState) {
        let mut inner = self.lock();
        inner.report.state = state;
        // One that starts again has not worked yet.
        if !matches!(state, DrainState::Starting | DrainState::BackingOff) {
            inner.report.failing_since = None;
        }
    }

    pub(super) fn set_partitions(&self, partitions: Vec<i32>) {
        self.lock().report.partitions = partitions;
    }

    /// A batch of these records was applied, with the events of rows that say they were changed then.
    pub(super) fn applied(
        &self,
        records: &[Record],
        changed_at: &[DateTime<Utc>],
        applied: Applied,
        took: Duration,
    ) {
        let (now, clock) = (Instant::now(), Utc::now());
        let mut inner = self.lock();
        inner.report.state = DrainState::Running;
        inner.report.failing_since = None;
        inner.report.inserted += applied.inserted;
        inner.report.duplicates += applied.duplicates;
        inner.report.entities += applied.entities;
        inner.report.stale += applied.stale;
        inner.report.erased += applied.erased;
        inner.report.batches += 1;
        inner.report.last_success_at = Some(clock);
        inner.rate.add(now, applied.inserted + applied.duplicates);
        inner.batch_records.record(now, records.len() as u64);
        inner.apply.record_time(now, took);
        inner.since_start.apply.record(took);
        // A clock that is ahead writes in our future.
        let since = |at: DateTime<Utc>| (clock - at).to_std().unwrap_or_default();
        for appended_at in records.iter().filter_map(|record| record.appended_at) {
            inner.end_to_end.record_time(now, since(appended_at));
            inner.since_start.appended_to_applied.record(since(appended_at));
        }
        for changed_at in changed_at {
            inner.since_start.changed_to_applied.record(since(*changed_at));
        }
    }

    pub(super) fn parked(&self, letters: u64) {
        self.lock().report.dead_letters += letters;
    }

    pub(super) fn failed(&self, fault: &Fault) {
        let mut inner = self.lock();
        inner.report.state = DrainState::BackingOff;
        inner.report.retries += 1;
        inner.report.last_error = Some(fault.to_string());
        let now = Utc::now();
        inner.report.failing_since.get_or_insert(now);
        inner.report.last_error_at = Some(now);
        inner.report.last_kind = Some(fault.kind);
    }

    pub(super) fn restarted(&self) {
        self.lock().report.restarts += 1;
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
    fn an_error_stays_visible_after_the_drain_recovers() {
        let stats = DrainStats::new("postgres");
        stats.failed(&Fault::transient("postgres", "no connection", "start it"));
        assert_eq!(stats.report().state, DrainState::BackingOff);
        let since = stats.report().failing_since.expect("it fails");
        stats.set_state(DrainState::Starting);
        stats.failed(&Fault::transient("postgres", "no connection", "start it"));
        assert_eq!(stats.report().failing_since, Some(since), "starting anew is no success");
        let applied = Applied { inserted: 5, duplicates: 1, ..Applied::default() };
        stats.applied(&[], &[], applied, Duration::from_millis(3));
        let report = stats.report();
        assert_eq!((report.state, report.failing_since), (DrainState::Running, None));
        assert_eq!(report.last_error.as_deref(), Some("postgres: no connection; start it"));
        assert!(report.last_success_at.is_some() && report.events_per_second > 0.0);
    }

    #[test]
    fn a_batch_is_measured_from_append_to_apply() {
        let stats = DrainStats::new("postgres");
        let record = |seconds| Record {
            partition: 0,
            offset: 0,
            appended_at: Some(Utc::now() - chrono::TimeDelta::seconds(seconds)),
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let changed_at = [Utc::now() - chrono::TimeDelta::seconds(20)];
        let took = Duration::from_millis(30);
        stats.applied(&[record(2), record(-60)], &changed_at, Applied::default(), took);
        let times = stats.times();
        let SinkHistograms { apply, appended_to_applied, changed_to_applied } = &times.since_start;
        assert_eq!((apply.count(), appended_to_applied.count(), changed_to_applied.count()), (1, 2, 1));
        assert!((20.0..30.0).contains(&changed_to_applied.seconds()), "{changed_to_applied:?}");
        assert_eq!((times.batch_records.count, times.end_to_end_ms.count), (1, 2));
        assert!(times.end_to_end_ms.max >= 1900.0 && times.apply_ms.p50 >= 29.0, "{times:?}");
    }
}
