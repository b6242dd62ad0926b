//! The drains as an operator meets them: how far each is, paused, resumed, started anew. A pause is kept in the
//! store, and every worker of the sink obeys it within seconds.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::future::{join_all, try_join_all};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    EngineError, SinkProgress,
    drain::Drain,
    lag::{self, SinkLag},
    shared::Shared,
    stats::{DrainReport, DrainStats},
    supervisor::{Restart, Supervisor},
};
use crate::{fault::Fault, log::Position, sink::Sink};

/// How long a call waits for a drain to do as it is told.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a waiting caller looks again.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A sink that an operator paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkPause {
    pub sink: String,
    pub paused_by: String,
    pub since: DateTime<Utc>,
}

/// One drain for each sink.
pub struct Drains {
    shared: Arc<Shared>,
    supervisor: Supervisor,
}

impl Drains {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let drains = shared.sinks.iter().map(|sink| Drain {
            catalog: shared.catalog,
            log: shared.log.clone(),
            sink: sink.clone(),
            store: shared.store.clone(),
            group: shared.group_of(&**sink),
            limits: shared.settings.batch,
            pauses: shared.settings.pauses,
            stats: Arc::new(DrainStats::new(sink.name())),
            parks: true,
        });
        Self { supervisor: Supervisor::new(drains.collect()), shared }
    }

    pub(super) async fn start(&self) {
        let shared = self.shared.clone();
        let pauses = move || {
            let shared = shared.clone();
            async move { shared.ready_store().await?.pauses().await }
        };
        self.supervisor.start(pauses).await;
    }

    pub(super) async fn stop(&self) {
        self.supervisor.stop().await;
    }

    /// Whether this process drains at all.
    pub(super) fn started(&self) -> bool {
        self.supervisor.started()
    }

    /// How each drain of this process is.
    pub fn reports(&self) -> Vec<DrainReport> {
        self.stats().map(DrainStats::report).collect()
    }

    /// What each drain of this process measured.
    pub(super) fn stats(&self) -> impl Iterator<Item = &DrainStats> {
        self.supervisor.stats()
    }

    /// Every sink's lag.
    ///
    /// # Errors
    /// When the log or a sink can't be reached.
    pub async fn lag(&self) -> Result<Vec<SinkLag>, Fault> {
        self.shared.ready_log().await?;
        self.lag_as_it_is().await
    }

    /// As [`Drains::lag`], of topics that may not be there: doctor never creates topics.
    pub(super) async fn lag_as_it_is(&self) -> Result<Vec<SinkLag>, Fault> {
        let log = &*self.shared.log;
        let log_id = log.identity().await?;
        let extents = log.extents().await?;
        try_join_all(self.shared.sinks.iter().map(|sink| async {
            let group = self.shared.group_of(&**sink);
            let standing = lag::standing(log, &log_id, &**sink, &group).await?;
            Ok(lag::lag_of(sink.name(), &group, &standing, &extents))
        }))
        .await
    }

    /// Waits until everything below `targets` is queryable in every sink, but no longer than `patience`, and
    /// returns how far each then is.
    ///
    /// # Errors
    /// When the log can't be reached.
    pub async fn wait_for(
        &self,
        targets: &[Position],
        patience: Duration,
    ) -> Result<Vec<SinkProgress>, Fault> {
        let log_id = self.shared.log.identity().await?;
        let until = tokio::time::Instant::now() + patience;
        loop {
            let sinks = self.progress_to(&log_id, targets, true).await;
            let done = sinks.iter().all(|sink| sink.queryable);
            if done || tokio::time::Instant::now() + LOOK_EVERY > until {
                return Ok(sinks);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How far each sink is from having everything below `targets`, which are all there will be when `ended`.
    pub(super) async fn progress_to(
        &self,
        log_id: &str,
        targets: &[Position],
        ended: bool,
    ) -> Vec<SinkProgress> {
        join_all(self.shared.sinks.iter().map(|sink| self.sink_progress(&**sink, log_id, targets, ended)))
            .await
    }

    async fn sink_progress(
        &self,
        sink: &dyn Sink,
        log_id: &str,
        targets: &[Position],
        ended: bool,
    ) -> SinkProgress {
        let asked = async {
            let group = self.shared.group_of(sink);
            let standing = lag::standing(&*self.shared.log, log_id, sink, &group).await?;
            let pending = lag::pending(&standing, targets);
            // Applied is not yet visible where an index refreshes in its own time.
            if pending == 0 && ended && !targets.is_empty() {
                sink.make_visible().await?;
            }
            Ok::<_, Fault>(pending)
        };
        let (pending, error) = match asked.await {
            Ok(pending) => (Some(pending), None),
            Err(fault) => (None, Some(fault.to_string())),
        };
        let queryable = pending == Some(0) && ended;
        SinkProgress { sink: sink.name().to_owned(), queryable, pending, error }
    }

    /// The sinks that are paused, whichever processes drain them.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn paused(&self) -> Result<Vec<SinkPause>, Fault> {
        self.shared.ready_store().await?;
        self.known_pauses().await
    }

    /// As [`Drains::paused`], on a store that may not be migrated yet.
    pub(super) async fn known_pauses(&self) -> Result<Vec<SinkPause>, Fault> {
        let known = self.shared.store.pauses().await?;
        let paused = self.shared.sinks.iter().filter_map(|sink| {
            let group = self.shared.group_of(&**sink);
            let pause = known.iter().find(|pause| pause.consumer_group == group)?;
            Some(SinkPause {
                sink: sink.name().to_owned(),
                paused_by: pause.paused_by.clone(),
                since: pause.since,
            })
        });
        Ok(paused.collect())
    }

    /// Pauses a sink in every process; this one's drain has stopped when the call returns, unless its sink keeps it
    /// waiting.
    ///
    /// # Errors
    /// When there is no such sink or the store can't be reached.
    pub async fn pause(&self, sink: &str, by: &str) -> Result<SinkPause, EngineError> {
        let group = self.shared.group_of(self.shared.sink("sink", sink)?);
        let by = format!("{by} on {}", self.shared.settings.owner);
        let pause = self.shared.ready_store().await?.pause(&group, &by).await?;
        self.supervisor.apply_pause(sink, false, CONTROL_TIMEOUT).await;
        Ok(SinkPause { sink: sink.to_owned(), paused_by: pause.paused_by, since: pause.since })
    }

    /// Ends a sink's pause in every process. `false` when it was not paused.
    ///
    /// # Errors
    /// When there is no such sink or the store can't be reached.
    pub async fn resume(&self, sink: &str) -> Result<bool, EngineError> {
        let group = self.shared.group_of(self.shared.sink("sink", sink)?);
        let resumed = self.shared.ready_store().await?.resume(&group).await?;
        self.supervisor.apply_pause(sink, true, CONTROL_TIMEOUT).await;
        Ok(resumed)
    }

    /// Ends this process's drain of a sink cleanly and starts it anew; its last error is kept. `false` when it has
    /// not ended yet because its sink is slow to answer.
    ///
    /// # Errors
    /// When there is no such sink, it is paused, or this process drains nothing.
    pub async fn restart(&self, sink: &str) -> Result<bool, EngineError> {
        self.shared.sink("service", sink)?;
        match self.supervisor.restart(sink, CONTROL_TIMEOUT).await {
            Restart::Restarted => Ok(true),
            Restart::Ending => Ok(false),
            Restart::Paused => Err(EngineError::Paused { sink: sink.to_owned() }),
            Restart::NotHere => Err(EngineError::NotDrainedHere { sink: sink.to_owned() }),
        }
    }
}
