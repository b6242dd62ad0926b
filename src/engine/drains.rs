//! The drains as an operator meets them: how far each is, paused, resumed, started anew. A pause is kept in the
//! store, and every worker of the sink obeys it within seconds.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::future::{join_all, try_join_all};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use super::{
    EngineError, SinkProgress,
    drain::Drain,
    lag::{self, SinkLag},
    shared::Shared,
    standing::Standing,
    stats::{DrainReport, DrainStats},
    supervisor::{Restart, Supervisor},
};
use crate::{
    fault::Fault,
    log::Position,
    next_step::{NextStep, Remark},
    sink::Sink,
    store::{Notice, NoticeKind},
};

/// How long a call waits for a drain to do as it is told.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a waiting caller looks again.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is told of a sync whose topic is gone.
const GONE: &str = "the topic it appended to was deleted and made anew since; what this sink had not applied of it is read \
                    from the source again";

/// Whether a record below one of these targets was removed before the sink had applied it.
pub(super) fn removes(notice: &Notice, sink: &str, log: &str, targets: &[Position]) -> bool {
    notice.kind == NoticeKind::RecordsRemoved
        && notice.part == sink
        && notice.log == log
        && targets
            .iter()
            .any(|target| notice.partition == Some(target.partition) && notice.from < target.offset)
}

/// A sink that an operator paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkPause {
    pub sink: String,
    pub paused_by: String,
    pub since: DateTime<Utc>,
}

impl SinkPause {
    /// What is to be said of it.
    pub(super) fn remark(&self) -> Remark {
        let Self { sink, paused_by, .. } = self;
        let since = self.since.format("%Y-%m-%dT%H:%M:%SZ");
        let problem = format!(
            "{sink} is paused by {paused_by} since {since}; what it has not applied waits in the log"
        );
        Remark::new(problem, NextStep::ResumeSink { sink: sink.clone() })
    }
}

/// One drain for each sink.
pub struct Drains {
    pub(super) shared: Arc<Shared>,
    supervisor: Supervisor,
    /// What was found out last of every sink, for answers.
    pub(super) recent: Mutex<HashMap<&'static str, (Instant, Option<Standing>)>>,
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
        Self { supervisor: Supervisor::new(drains.collect()), shared, recent: Mutex::default() }
    }

    pub(super) async fn start(&self) {
        let shared = self.shared.clone();
        let pauses = move || {
            let shared = shared.clone();
            async move { shared.ready_store().await?.pauses().await }
        };
        self.supervisor.start(pauses).await;
    }

    /// Tells every drain to end after the batch in hand.
    pub(super) fn begin_stop(&self) {
        self.supervisor.begin_stop();
    }

    /// Returns when every drain has.
    pub(super) async fn stopped(&self) {
        self.supervisor.stopped().await;
    }

    /// Gives up on those that have not; returns what that leaves behind.
    pub(super) fn cut(&self) -> Vec<String> {
        self.supervisor.cut()
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
        tokio::try_join!(self.shared.ready_log(), self.shared.ready_store())?;
        self.lag_as_it_is().await
    }

    /// As [`Drains::lag`], of topics and tables that may not be there: this creates neither.
    ///
    /// # Errors
    /// When the log or a sink can't be reached, or has nothing yet.
    pub async fn lag_as_it_is(&self) -> Result<Vec<SinkLag>, Fault> {
        let extents = self.shared.log.extents().await?;
        try_join_all(self.shared.sinks.iter().map(|sink| self.lag_into(&**sink, &extents))).await
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
        let log_id = self.shared.log.identity().await?.to_string();
        let until = tokio::time::Instant::now() + patience;
        let asked_at = Utc::now();
        loop {
            let sinks = self.progress_to(&log_id, targets, asked_at, true, false).await;
            let done = sinks.iter().all(|sink| sink.queryable);
            if done || tokio::time::Instant::now() + LOOK_EVERY > until {
                return Ok(sinks);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How far each sink is from having everything below `targets`, which are all there will be when `ended`, and which
    /// each was seen to have when `drained`. What was removed before `since` is made up for by what was appended since.
    pub(super) async fn progress_to(
        &self,
        log_id: &str,
        targets: &[Position],
        since: DateTime<Utc>,
        ended: bool,
        drained: bool,
    ) -> Vec<SinkProgress> {
        let sinks = self.shared.sinks.iter();
        join_all(sinks.map(|sink| self.sink_progress(&**sink, log_id, targets, since, ended, drained))).await
    }

    async fn sink_progress(
        &self,
        sink: &dyn Sink,
        log_id: &str,
        targets: &[Position],
        since: DateTime<Utc>,
        ended: bool,
        drained: bool,
    ) -> SinkProgress {
        let asked = async {
            let reading = self.shared.reading(sink).await?;
            let is_gone = log_id != reading.log.to_string();
            // What is not there, or not all of it, is made anew and has nothing then, whatever it keeps of offsets.
            let is_made = !reading.sink.is_empty();
            if is_gone && drained && is_made {
                // It went from the log after the sink had it.
                return Ok((Some(0), None));
            }
            let standing = lag::standing(&*self.shared.log, log_id, sink, &reading.group).await?;
            if is_gone && !standing.from_store {
                // The group's offsets went with the topic.
                return Ok((None, ended.then(|| GONE.to_owned())));
            }
            let next = if is_made { standing.next } else { Vec::new() };
            let pending = lag::pending(&lag::Standing { next, ..standing }, targets);
            if ended && pending > 0 && is_gone {
                return Ok((Some(pending), Some(GONE.to_owned())));
            }
            if ended && pending == 0 && !targets.is_empty() {
                let removals = self.shared.store.every_notice(&[NoticeKind::RecordsRemoved], since).await?;
                if let Some(removed) =
                    removals.iter().find(|notice| removes(notice, sink.name(), log_id, targets))
                {
                    return Ok((Some(0), Some(removed.sentence())));
                }
            }
            // Applied is not yet visible where an index refreshes in its own time.
            if pending == 0 && ended && !targets.is_empty() {
                sink.make_visible().await?;
            }
            Ok::<_, Fault>((Some(pending), None))
        };
        let (pending, lost, error) = match asked.await {
            Ok((pending, why_lost)) => (pending, why_lost.is_some(), why_lost),
            Err(fault) => (None, false, Some(fault.to_string())),
        };
        let queryable = pending == Some(0) && ended && !lost;
        SinkProgress { sink: sink.name().to_owned(), queryable, lost, pending, error }
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
