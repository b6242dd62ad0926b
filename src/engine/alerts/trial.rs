//! What an alert would have told last week.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AlertRequest, Alerts, rule};
use crate::{
    domain::Table,
    engine::{EngineError, table_named},
    fault::Fault,
    source::Condition,
    store::{AlertRule, SyncFilter, SyncState},
};

const LOOKS_BACK: TimeDelta = TimeDelta::days(7);

/// Versions read at a time, and at most.
const PAGE: u32 = 1_000;
const MAX_PAGES: usize = 200;

/// What is told of, of the latest.
const SHOWN: usize = 20;

/// Runs looked at.
const MAX_RUNS: u32 = 1_000;

/// What an alert would have told in the week before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trial {
    pub since: DateTime<Utc>,
    /// Absent where the past does not tell.
    pub would_have_fired: Option<u64>,
    /// The latest of them, or runs that failed.
    pub latest: Vec<TrialFired>,
    /// What is wrong now; absent where all is well, and of rows.
    pub now: Option<String>,
    /// What the past does not tell.
    pub note: Option<String>,
}

/// One that would have fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TrialFired {
    pub at: DateTime<Utc>,
    /// A row's key, or the table whose run failed.
    pub key: String,
}

impl Alerts {
    /// What an alert would have told in the last week; changes nothing.
    ///
    /// # Errors
    /// When the request can't be met, or the store can't be reached.
    pub async fn trial(&self, request: &AlertRequest) -> Result<Trial, EngineError> {
        self.check(request)?;
        self.shared.ready_store().await?;
        let since = Utc::now() - LOOKS_BACK;
        let mut trial = Trial { since, ..Trial::default() };
        match &request.rule {
            AlertRule::Row { table, conditions } => {
                let table = table_named(self.shared.catalog, table)?;
                self.rows_of_past(table, conditions, &mut trial).await?;
            }
            AlertRule::Late { .. } => {
                self.runs_of_past(&mut trial).await?;
                trial.note = Some(
                    "only runs that failed are remembered, not which were late, nor for how long".to_owned(),
                );
            }
            AlertRule::Lag { .. } => {
                trial.note = Some("how far sinks were behind is not remembered".to_owned());
            }
            AlertRule::DeadLetters { .. } => {
                trial.note = Some("how many dead letters were open is not remembered".to_owned());
            }
        }
        trial.now = self.wrong(&request.rule).await?;
        Ok(trial)
    }

    async fn rows_of_past(
        &self,
        table: Table,
        conditions: &[Condition],
        trial: &mut Trial,
    ) -> Result<(), Fault> {
        let (mut seen, mut after) = (HashSet::new(), None);
        for _ in 0..MAX_PAGES {
            let versions = self.shared.store.stored_versions(table, trial.since, after, PAGE).await?;
            for version in &versions {
                let Some((row, at)) = version.row.as_ref().zip(version.stored_at) else { continue };
                if rule::begins(table, conditions, row, version.before.as_ref())
                    && seen.insert(version.entity.clone())
                {
                    trial.latest.push(TrialFired { at, key: version.entity.clone() });
                    if trial.latest.len() > SHOWN {
                        trial.latest.remove(0);
                    }
                }
            }
            trial.would_have_fired = u64::try_from(seen.len()).ok();
            after = versions.last().and_then(|last| Some((last.stored_at?, last.event)));
            if versions.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
        trial.note = Some(format!(
            "more than {} versions came that week: only the first were looked at",
            MAX_PAGES * 1_000
        ));
        Ok(())
    }

    async fn runs_of_past(&self, trial: &mut Trial) -> Result<(), Fault> {
        let filter = SyncFilter { limit: MAX_RUNS, ..SyncFilter::default() };
        let runs = self.shared.store.syncs(&filter).await?;
        let mut failing: HashMap<String, bool> = HashMap::new();
        for run in runs.into_iter().rev().filter(|run| run.started_at >= trial.since) {
            let is_failed = run.state == SyncState::Failed;
            let table = run.request.table.0;
            let was_failing = failing.insert(table.clone(), is_failed).unwrap_or_default();
            if is_failed && !was_failing {
                trial.latest.push(TrialFired { at: run.finished_at.unwrap_or(run.started_at), key: table });
            }
        }
        let shown = trial.latest.len().min(SHOWN);
        trial.latest.drain(..trial.latest.len() - shown);
        Ok(())
    }
}
