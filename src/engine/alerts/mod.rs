//! Alerts: what somebody wants to be told of, told once each.
//!
//! Rows are looked at in the order they were applied, from a queue in the store; a row fires an alert once, when it arrives
//! or later comes to meet what the alert asks for. Anything else (lag, late or failed runs, dead letters) fires once an
//! episode, and once when it is over. One process looks at a time; whichever knows a target sends what is for it. Nothing
//! here holds the pipeline up: what can't be sent waits in the outbox, bounded, and is told of.

mod look;
mod request;
mod rule;
mod send;
mod trial;

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::OnceCell;

pub use request::{AlertRequest, AlertTerms, When};
pub use trial::{Trial, TrialFired};

use super::{Drains, EngineError, Letters, Schedules, shared::Shared, table_named};
use crate::{
    domain::TableName,
    fault::Fault,
    next_step::{NextStep, Remark},
    store::{Alert, AlertFired, AlertRule, EPISODES, NewAlert, Outgoing, rows_of},
};

/// The longest name of an alert, in characters.
const MAX_NAME: usize = 60;

/// Alerts there may be: each is asked about every new version of its table.
const MAX_ALERTS: usize = 100;

/// What is told of what was told last.
const RECENT: u32 = 20;

/// How long an alert may wait for anybody to try to send it.
const UNSENT_AFTER: TimeDelta = TimeDelta::minutes(5);

/// How soon a process that looks takes a new alert up; status and doctor wait this long for it.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(4);

/// How alerts leave.
#[async_trait]
pub trait Channel: Send + Sync {
    /// The targets that are known here, by name.
    fn targets(&self) -> Vec<String>;

    /// Sends one.
    async fn send(&self, outgoing: &Outgoing) -> Delivery;
}

/// What became of sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    Taken,
    /// Later may do.
    Failed {
        error: String,
        retry_after: Option<Duration>,
    },
    /// This will never be taken, though others may.
    Refused {
        error: String,
    },
}

/// An alert as a user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AlertStatus {
    pub name: String,
    /// What it waits for, in words.
    pub condition: String,
    /// The webhook it goes to; absent where only those who follow sluice://alerts hear of it.
    pub target: Option<String>,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    /// What it told or is to tell.
    pub fired: u64,
    pub last_fired_at: Option<DateTime<Utc>>,
    /// What it waits for is so just now and was told; of rows never.
    pub going_on: bool,
    /// What is still to be sent.
    pub waiting: u64,
    /// What of the last week never arrived.
    pub lost: u64,
    /// Why it does not reach its target.
    pub problem: Option<String>,
}

impl From<Alert> for AlertStatus {
    fn from(alert: Alert) -> Self {
        Self {
            problem: problem(&alert, Utc::now()),
            condition: alert.rule.to_string(),
            going_on: alert.episode.told.is_some(),
            name: alert.name,
            target: alert.target,
            created_by: alert.created_by,
            created_at: alert.created_at,
            fired: alert.fired,
            last_fired_at: alert.last_fired_at,
            waiting: alert.waiting,
            lost: alert.lost,
        }
    }
}

/// The alerts, of whatever process.
pub struct Alerts {
    shared: Arc<Shared>,
    drains: Arc<Drains>,
    schedules: Arc<Schedules>,
    letters: Arc<Letters>,
    channel: OnceCell<Arc<dyn Channel>>,
}

impl Alerts {
    pub(super) fn new(
        shared: Arc<Shared>,
        drains: Arc<Drains>,
        schedules: Arc<Schedules>,
        letters: Arc<Letters>,
    ) -> Self {
        Self { shared, drains, schedules, letters, channel: OnceCell::new() }
    }

    /// Looks and sends from now on, until the engine shuts down.
    pub fn start(self: &Arc<Self>, channel: Arc<dyn Channel>) {
        if self.channel.set(channel.clone()).is_err() {
            return;
        }
        let closing = self.shared.closing.clone();
        let looking = look::keep_looking(Arc::downgrade(self));
        self.shared.tasks.spawn({
            let closing = closing.clone();
            async move { closing.run_until_cancelled(looking).await }
        });
        for target in channel.targets() {
            let closing = closing.clone();
            let sending = send::keep_sending(Arc::downgrade(self), channel.clone(), target);
            self.shared.tasks.spawn(async move { closing.run_until_cancelled(sending).await });
        }
    }

    /// Every alert, by name.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn list(&self) -> Result<Vec<AlertStatus>, Fault> {
        self.shared.ready_store().await?;
        let alerts = self.shared.store.alerts(true).await?;
        Ok(alerts.into_iter().map(AlertStatus::from).collect())
    }

    /// What was told last, or is to be, the newest first.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn recent(&self) -> Result<Vec<AlertFired>, Fault> {
        self.shared.ready_store().await?.recent_alerts(RECENT).await
    }

    /// The webhooks that an operator named.
    pub fn targets(&self) -> &[String] {
        &self.shared.settings.alert_targets
    }

    /// Makes an alert: it fires for what comes from now on. One of that name that is the same stays.
    ///
    /// # Errors
    /// When the request can't be met, there is another of that name, or the store can't be reached.
    pub async fn create(&self, request: AlertRequest, by: &str) -> Result<(), EngineError> {
        self.check(&request)?;
        let store = self.shared.ready_store().await?;
        let AlertRequest { name, target, rule } = request;
        let there = store.alerts(false).await?;
        if there.len() >= MAX_ALERTS {
            return invalid("name", format!("there are {MAX_ALERTS} alerts already; delete some"));
        }
        let new = NewAlert { name, target, rule, by: by.to_owned() };
        if store.create_alert(&new).await? {
            return Ok(());
        }
        let there = store.alerts(false).await?.into_iter().find(|alert| alert.name == new.name);
        if there.is_some_and(|there| there.rule == new.rule && there.target == new.target) {
            return Ok(());
        }
        invalid("name", format!("there is another alert '{}'; delete it, or give another name", new.name))
    }

    /// Removes an alert; what it has not told yet is told no more. `false` where there is none of that name.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn delete(&self, name: &str) -> Result<bool, Fault> {
        self.shared.ready_store().await?.delete_alert(name).await
    }

    fn check(&self, request: &AlertRequest) -> Result<(), EngineError> {
        let name = &request.name;
        let legal = |c: char| c.is_alphanumeric() || " -_.".contains(c);
        if name.trim().is_empty() || name.chars().count() > MAX_NAME || !name.chars().all(legal) {
            let problem = format!("must be 1 to {MAX_NAME} letters, digits, spaces or any of -_.");
            return invalid("name", problem);
        }
        let known: BTreeSet<&String> = self.shared.settings.alert_targets.iter().collect();
        if let Some(target) = request.target.as_ref().filter(|target| !known.contains(target)) {
            let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem = format!(
                "there is no '{target}'; SLUICE_ALERT_TARGETS, which only an operator sets, names {known}"
            );
            return invalid("target", problem);
        }
        match &request.rule {
            AlertRule::Row { table, conditions } => {
                let table = table_named(self.shared.catalog, table)?;
                conditions.iter().try_for_each(|condition| rule::check(table, condition))
            }
            AlertRule::Lag { minutes, .. } | AlertRule::Late { minutes } if *minutes > 7 * 24 * 60 => {
                invalid("minutes", "must be 10080 (a week) at most".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// What keeps alerts from being told, for status and doctor.
    pub(super) async fn problems(&self) -> Result<Vec<Remark>, Fault> {
        let (store, now) = (&self.shared.store, Utc::now());
        let alerts = store.alerts(true).await?;
        if alerts.is_empty() {
            return Ok(Vec::new());
        }
        let mut problems: Vec<Remark> = Vec::new();
        let ill = alerts.iter().filter_map(|alert| Some((&alert.name, problem(alert, now)?)));
        problems.extend(ill.map(|(name, problem)| format!("the alert '{name}': {problem}").into()));
        problems.extend(self.unlooked_of(&alerts).await?);
        Ok(problems)
    }

    /// Why alerts do not fire: what no process looks at.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn unlooked(&self) -> Result<Vec<Remark>, Fault> {
        let alerts = self.shared.ready_store().await?.alerts(false).await?;
        self.unlooked_of(&alerts).await
    }

    async fn unlooked_of(&self, alerts: &[Alert]) -> Result<Vec<Remark>, Fault> {
        let Some(newest) = alerts.iter().map(|alert| alert.created_at).max() else { return Ok(Vec::new()) };
        let asked = Instant::now();
        loop {
            let problems = unheld(alerts, &self.shared.store.held_leases().await?);
            let age = (Utc::now() - newest).to_std().unwrap_or_default();
            if problems.is_empty() || age.max(asked.elapsed()) >= TAKEN_UP_WITHIN {
                return Ok(problems);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What of the alerts is not among what some process has the right to look at.
fn unheld(alerts: &[Alert], held: &BTreeSet<String>) -> Vec<Remark> {
    if !held.contains(EPISODES) {
        let problem = format!("no process looks at the {} alerts", alerts.len());
        return vec![Remark::new(problem, NextStep::StartWorker)];
    }
    let tables: BTreeSet<&TableName> = alerts.iter().filter_map(|alert| alert.rule.table()).collect();
    let unheld = tables.into_iter().filter(|table| !held.contains(&rows_of(table)));
    unheld
        .map(|table| {
            Remark::new(
                format!("no process that looks at the alerts has the definition of {table}, or it lacks a column they ask for: its new rows wait"),
                "start one with that definition in its SLUICE_TABLES_DIR",
            )
        })
        .collect()
}

/// Why an alert does not reach its target.
fn problem(alert: &Alert, now: DateTime<Utc>) -> Option<String> {
    let target = alert.target.as_deref()?;
    // What was refused, or given up, ends a failure as far as this alert goes.
    let failing = alert.failing_since.zip(alert.last_error.as_ref()).filter(|_| alert.waiting > 0);
    let lost = match &alert.last_error {
        _ if alert.lost == 0 => String::new(),
        Some(error) if failing.is_none() => {
            format!("{} of the last week never arrived: {error}", alert.lost)
        }
        _ => format!("{} of the last week never arrived", alert.lost),
    };
    let failing = if let Some((since, error)) = failing {
        format!("'{target}' has taken none since {}: {error}", since.format("%Y-%m-%dT%H:%M:%SZ"))
    } else if let Some(since) = alert.waiting_since.filter(|since| now - *since > UNSENT_AFTER) {
        format!(
            "{} wait for '{target}' since {}: no process that runs has it in its SLUICE_ALERT_TARGETS, or more comes than it takes",
            alert.waiting,
            since.format("%Y-%m-%dT%H:%M:%SZ")
        )
    } else {
        String::new()
    };
    let told: Vec<String> = [failing, lost].into_iter().filter(|told| !told.is_empty()).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn invalid<T>(field: &'static str, problem: String) -> Result<T, EngineError> {
    Err(EngineError::Invalid { field, problem })
}

/// A panic ends one look and not all of them.
async fn caught<T>(what: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(Fault::transient("alerts", format!("{what} panicked"), "report this")))
}
