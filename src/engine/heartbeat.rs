//! What every process tells of its drains, so that any other can say how the whole pipeline is.
//!
//! A process writes how its drains are into the store when that changes, and every few seconds that it still is so. A
//! word that is older than [`BELIEVED_FOR`] is of a process that is gone. A store that can't be written is told of by
//! whoever asks it, so nothing is lost by not telling there.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;
use tracing::debug;

use super::{Drains, stats::DrainReport};
use crate::{fault::Fault, next_step::NextStep, store::DrainBeat};

/// How often it is looked whether something changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it is said that nothing did.
const REPEAT_EVERY: Duration = Duration::from_secs(10);

/// How long a word is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(35);

/// How long the last word may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// A drain of another process, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DrainElsewhere {
    pub sink: String,
    /// Host and process that run it.
    pub owner: String,
    pub state: String,
    /// Since when it has failed; absent where it does its work.
    pub failing_since: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    /// When it said so.
    pub seen_at: DateTime<Utc>,
}

impl DrainElsewhere {
    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        let since = self.failing_since?.format("%Y-%m-%dT%H:%M:%SZ");
        let error = self.last_error.as_deref().unwrap_or("no error is known");
        Some(format!("the drain into {} on {} has failed since {since}: {error}", self.sink, self.owner))
    }
}

impl Drains {
    /// Tells others of this process's drains from now on, until they shut down.
    pub(super) fn start_heartbeat(self: &Arc<Self>) {
        let (drains, closing) = (Arc::downgrade(self), self.shared.closing.clone());
        let store = self.shared.store.clone();
        let owner = self.shared.settings.owner.clone();
        self.shared.tasks.spawn(async move {
            closing.run_until_cancelled(keep_telling(drains)).await;
            let forgotten = tokio::time::timeout(FAREWELL_TIMEOUT, store.forget_drains(&owner)).await;
            debug!(?forgotten, "the drains of this process are told of no more");
        });
    }

    /// The drains of other processes. Makes no table: a store that has none yet knows of no drain.
    pub(super) async fn elsewhere(&self) -> Result<Vec<DrainElsewhere>, Fault> {
        let beats = self.shared.store.drain_beats(BELIEVED_FOR).await?;
        let others = beats.into_iter().filter(|beat| beat.owner != self.shared.settings.owner);
        let of_sink = others.filter_map(|beat| {
            let sink = self
                .shared
                .sinks
                .iter()
                .find(|sink| self.shared.group_of(&***sink) == beat.consumer_group)?;
            Some(DrainElsewhere {
                sink: sink.name().to_owned(),
                owner: beat.owner,
                state: beat.state,
                failing_since: beat.failing_since,
                last_error: beat.last_error,
                seen_at: beat.seen_at,
            })
        });
        Ok(of_sink.collect())
    }

    /// Makes tables only where the word finds no place: a store that refuses a table of entities takes it all the same.
    async fn tell(&self, beats: &[DrainBeat]) -> Result<(), Fault> {
        match self.shared.store.report_drains(beats).await {
            Err(fault) if fault.advice == NextStep::Migrate => {
                self.shared.ready_store().await?.report_drains(beats).await
            }
            told => told,
        }
    }

    fn beats(&self) -> Vec<DrainBeat> {
        let beat = |report: DrainReport| {
            let sink = self.shared.sinks.iter().find(|sink| sink.name() == report.sink)?;
            Some(DrainBeat {
                consumer_group: self.shared.group_of(&**sink),
                owner: self.shared.settings.owner.clone(),
                state: report.state.as_str().to_owned(),
                last_error: report.failing_since.and(report.last_error),
                failing_since: report.failing_since,
                seen_at: DateTime::UNIX_EPOCH,
            })
        };
        self.reports().into_iter().filter_map(beat).collect()
    }
}

async fn keep_telling(drains: Weak<Drains>) {
    let mut told: Option<(Vec<DrainBeat>, Instant)> = None;
    while let Some(here) = drains.upgrade() {
        let beats = here.beats();
        let is_news = told.as_ref().is_none_or(|(last, at)| *last != beats || at.elapsed() >= REPEAT_EVERY);
        if is_news {
            match here.tell(&beats).await {
                Ok(()) => told = Some((beats, Instant::now())),
                Err(fault) => debug!(error = %fault, "how the drains are could not be told"),
            }
        }
        drop(here);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
