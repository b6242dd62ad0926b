//! How the pipeline is: every part asked at once, each answering for itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Appender, Drains, EngineMetrics, Letters, RebuildStatus, Rebuilds, ScheduleStatus, Schedules, SinkLag,
    SinkMetrics, SinkPause, SyncStatus, Syncs, shared::Shared, stats::DrainReport,
};
use crate::{
    fault::Fault,
    log::records_in,
    next_step::{NextStep, Remark},
    sink::Sink,
};

/// How long one part may take to answer before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(8);

/// The whole pipeline's state.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PipelineStatus {
    /// Every part answers and every drain runs.
    pub healthy: bool,
    /// What is wrong and what to do about it; empty when all is well.
    #[schemars(with = "Vec<String>")]
    pub problems: Vec<Remark>,
    /// What an operator should know although nothing fails.
    #[schemars(with = "Vec<String>")]
    pub warnings: Vec<Remark>,
    pub source: PartStatus,
    pub log: PartStatus,
    pub sinks: Vec<PartStatus>,
    /// The drains of this process; other workers have their own.
    pub drains: Vec<DrainReport>,
    pub lag: Vec<SinkLag>,
    /// Sinks that an operator paused, in whatever process.
    pub paused: Vec<SinkPause>,
    /// Syncs that run by themselves.
    pub schedules: Vec<ScheduleStatus>,
    /// Dead letters that nobody replayed or discarded yet; absent when log or store could not be asked.
    pub dead_letters: Option<u64>,
    /// The latest syncs, newest first.
    pub recent_syncs: Vec<SyncStatus>,
    /// Rebuilds of indices that this process runs or ran.
    pub rebuilds: Vec<RebuildStatus>,
    pub checked_at: DateTime<Utc>,
}

/// One part's state.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PartStatus {
    pub name: String,
    pub ok: bool,
    /// Version, host or topic: what was reached.
    pub detail: String,
    /// Rows, documents or records by table, index or topic.
    pub counts: Vec<Count>,
    pub error: Option<String>,
}

/// Something counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Count {
    pub name: String,
    pub count: u64,
}

impl PipelineStatus {
    /// Has a front find its words for what can be done.
    #[must_use]
    pub fn worded(mut self, words: fn(&NextStep) -> String) -> Self {
        self.problems.iter_mut().chain(&mut self.warnings).for_each(|remark| remark.word(words));
        self
    }
}

impl PartStatus {
    fn failed(name: &str, fault: &Fault) -> Self {
        Self {
            name: name.to_owned(),
            ok: false,
            detail: String::new(),
            counts: Vec::new(),
            error: Some(fault.to_string()),
        }
    }
}

/// Tells how everything is.
pub struct Inspection {
    pub(super) shared: Arc<Shared>,
    pub(super) appender: Arc<Appender>,
    pub(super) syncs: Arc<Syncs>,
    pub(super) schedules: Arc<Schedules>,
    pub(super) drains: Arc<Drains>,
    pub(super) letters: Arc<Letters>,
    pub(super) rebuilds: Arc<Rebuilds>,
    pub(super) started: Instant,
}

impl Inspection {
    /// What this process measured; asks no part.
    pub fn metrics(&self) -> EngineMetrics {
        let sinks = self
            .drains
            .stats()
            .map(|stats| SinkMetrics { drain: stats.report(), times: stats.times() })
            .collect();
        EngineMetrics {
            uptime_seconds: self.started.elapsed().as_secs(),
            source: self.syncs.reads(),
            log: self.appender.report(),
            sinks,
            measured_at: Utc::now(),
        }
    }

    /// Asks every part. Never fails: a part that does is in the answer.
    pub async fn status(&self) -> PipelineStatus {
        if self.drains.started() {
            // The drains are doing the same just now; a fault shows in the answers below.
            within(self.shared.store.name(), self.shared.prepare()).await.ok();
        }
        let ((source, mut warnings), log, dead_letters, sinks, lag, syncs, paused, schedules) = tokio::join!(
            self.source_status(),
            self.log_status(),
            within(self.shared.log.name(), self.letters.open_count()),
            join_all(self.shared.sinks.iter().map(|sink| sink_status(&**sink))),
            within(self.shared.log.name(), self.drains.lag_as_it_is()),
            within(self.shared.store.name(), self.syncs.recent(5)),
            within(self.shared.store.name(), self.drains.paused()),
            within(self.shared.store.name(), self.schedules.list()),
        );
        let dead_letters = dead_letters.ok();
        let drains = self.drains.reports();
        let parts = [&source, &log].into_iter().chain(&sinks);
        let mut problems: Vec<Remark> = parts.filter_map(|part| Some(part.error.clone()?.into())).collect();
        if self.drains.started() {
            problems.extend(drains.iter().filter(|drain| !drain.is_well()).map(|drain| {
                let error = drain.last_error.as_deref().unwrap_or("no error yet");
                format!("the drain into {} is {}: {error}", drain.sink, drain.state.as_str()).into()
            }));
        }
        if let Some(letters) = dead_letters.filter(|letters| *letters > 0) {
            let problem =
                format!("{letters} dead letters wait in {}", self.shared.settings.dead_letter_topic);
            warnings.push(Remark::new(problem, NextStep::SettleLetters));
        }
        let (paused, schedules) = (paused.unwrap_or_default(), schedules.unwrap_or_default());
        warnings.extend(schedules.iter().filter_map(ScheduleStatus::failure).map(Remark::from));
        warnings.extend(paused.iter().map(|pause| {
            let since = pause.since.format("%Y-%m-%dT%H:%M:%SZ");
            let problem = format!(
                "{} is paused by {} since {since}; what it has not applied waits in the log",
                pause.sink, pause.paused_by
            );
            Remark::new(problem, NextStep::ResumeSink { sink: pause.sink.clone() })
        }));
        PipelineStatus {
            healthy: problems.is_empty(),
            problems,
            warnings,
            source,
            log,
            sinks,
            drains,
            lag: lag.unwrap_or_default(),
            paused,
            schedules,
            dead_letters,
            recent_syncs: syncs.unwrap_or_default(),
            rebuilds: self.rebuilds.latest(),
            checked_at: Utc::now(),
        }
    }

    /// The source, and its warnings.
    async fn source_status(&self) -> (PartStatus, Vec<Remark>) {
        let name = self.shared.source.name();
        match within(name, self.shared.source.health()).await {
            Ok(health) => {
                let part = PartStatus {
                    name: name.to_owned(),
                    ok: true,
                    detail: format!("{} with a {} key", health.host, health.key),
                    counts: Vec::new(),
                    error: None,
                };
                (part, health.warnings.iter().map(|warning| warning.to_string().into()).collect())
            }
            Err(fault) => (PartStatus::failed(name, &fault), Vec::new()),
        }
    }

    async fn log_status(&self) -> PartStatus {
        let name = self.shared.log.name();
        let asked = within(name, async {
            let identity = self.shared.log.identity().await?;
            let extents = self.shared.log.extents().await?;
            Ok((identity, extents))
        });
        match asked.await {
            Ok((identity, extents)) => PartStatus {
                name: name.to_owned(),
                ok: true,
                detail: format!("{identity}, {} partitions", extents.len()),
                counts: vec![Count { name: "records".to_owned(), count: records_in(&extents) }],
                error: None,
            },
            Err(fault) => PartStatus::failed(name, &fault),
        }
    }
}

async fn sink_status(sink: &dyn Sink) -> PartStatus {
    match within(sink.name(), sink.health()).await {
        Ok(health) => PartStatus {
            name: sink.name().to_owned(),
            ok: true,
            detail: health.version,
            counts: health.counts.into_iter().map(|(name, count)| Count { name, count }).collect(),
            error: None,
        },
        Err(fault) => PartStatus::failed(sink.name(), &fault),
    }
}

pub(super) async fn within<T>(
    part: &'static str,
    asked: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        Err(Fault::transient(
            part,
            format!("no answer within {} s", PATIENCE.as_secs()),
            "check that the server runs and that nothing on the way drops connections",
        ))
    })
}
