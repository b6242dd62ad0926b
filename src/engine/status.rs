//! How the pipeline is: every part asked at once, each answering for itself.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    DrainElsewhere, Engine, RebuildStatus, ScheduleStatus, SinkLag, SinkPause, SyncStatus, stats::DrainReport,
};
use crate::{fault::Fault, log::records_in, sink::Sink};

/// How long one part may take to answer before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(8);

/// The whole pipeline's state.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PipelineStatus {
    /// Every part answers and every drain runs.
    pub healthy: bool,
    /// What is wrong and what to do about it; empty when all is well.
    pub problems: Vec<String>,
    /// What an operator should know although nothing fails.
    pub warnings: Vec<String>,
    pub source: PartStatus,
    pub log: PartStatus,
    pub sinks: Vec<PartStatus>,
    /// The drains of this process; other workers have their own.
    pub drains: Vec<DrainReport>,
    /// The drains of other processes, by their own word of the last half minute.
    pub drains_elsewhere: Vec<DrainElsewhere>,
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

impl Engine {
    /// Asks every part. Never fails: a part that does is in the answer.
    pub async fn status(&self) -> PipelineStatus {
        if self.drains_here() {
            // The drains are doing the same just now; a fault shows in the answers below.
            within(self.store.name(), self.prepare()).await.ok();
        }
        let ((source, mut warnings), log, dead_letters, sinks, lag, syncs, paused, schedules, elsewhere) = tokio::join!(
            self.source_status(),
            self.log_status(),
            within(self.log.name(), self.open_letters()),
            join_all(self.sinks().iter().map(|sink| sink_status(&**sink))),
            within(self.log.name(), self.lag_as_it_is()),
            within(self.store.name(), self.recent_syncs(5)),
            within(self.store.name(), self.paused_sinks()),
            within(self.store.name(), self.schedules()),
            within(self.store.name(), self.drains_elsewhere()),
        );
        let dead_letters = dead_letters.ok();
        let drains = self.drain_reports();
        let mut problems: Vec<String> =
            [&source, &log].into_iter().chain(&sinks).filter_map(|part| part.error.clone()).collect();
        if self.drains_here() {
            problems.extend(drains.iter().filter(|drain| !drain.is_well()).map(|drain| {
                let error = drain.last_error.as_deref().unwrap_or("no error yet");
                format!("the drain into {} is {}: {error}", drain.sink, drain.state.as_str())
            }));
        }
        let drains_elsewhere = elsewhere.unwrap_or_default();
        problems.extend(drains_elsewhere.iter().filter_map(DrainElsewhere::problem));
        if let Some(letters) = dead_letters.filter(|letters| *letters > 0) {
            warnings.push(format!(
                "{letters} dead letters wait in {}; list_dead_letters shows why, replay_dead_letters gives them another try",
                self.dead_letter_topic()
            ));
        }
        let (paused, schedules) = (paused.unwrap_or_default(), schedules.unwrap_or_default());
        problems.extend(schedules.iter().filter_map(ScheduleStatus::failure));
        warnings.extend(paused.iter().map(|pause| {
            format!(
                "{} is paused by {} since {}; what it has not applied waits in the log until resume_sink",
                pause.sink,
                pause.paused_by,
                pause.since.format("%Y-%m-%dT%H:%M:%SZ")
            )
        }));
        PipelineStatus {
            healthy: problems.is_empty(),
            problems,
            warnings,
            source,
            log,
            sinks,
            drains,
            drains_elsewhere,
            lag: lag.unwrap_or_default(),
            paused,
            schedules,
            dead_letters,
            recent_syncs: syncs.unwrap_or_default(),
            rebuilds: self.rebuilds(),
            checked_at: Utc::now(),
        }
    }

    /// The source, and its warnings.
    async fn source_status(&self) -> (PartStatus, Vec<String>) {
        let name = self.source.name();
        match within(name, self.source.health()).await {
            Ok(health) => {
                let part = PartStatus {
                    name: name.to_owned(),
                    ok: true,
                    detail: format!("{} with a {} key", health.host, health.key),
                    counts: Vec::new(),
                    error: None,
                };
                (part, health.warnings.iter().map(ToString::to_string).collect())
            }
            Err(fault) => (PartStatus::failed(name, &fault), Vec::new()),
        }
    }

    async fn log_status(&self) -> PartStatus {
        let name = self.log.name();
        let asked = within(name, async {
            let identity = self.log.identity().await?;
            let extents = self.log.extents().await?;
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
