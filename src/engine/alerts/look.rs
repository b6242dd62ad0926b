//! Looking whether alerts fire.

use std::{
    collections::BTreeSet,
    iter,
    sync::Weak,
    time::{Duration, Instant},
};

use chrono::Utc;
use tracing::warn;
use uuid::Uuid;

use super::{Alerts, caught, rule};
use crate::{
    backoff::Backoff,
    domain::TableName,
    engine::{
        ScheduleStatus,
        tables::{Facts, Judged},
    },
    fault::Fault,
    store::{Alert, AlertRule, EPISODES, RowFired, Version, rows_of},
};

/// How often the queue is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Longest pause while the store can't be asked.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How often what is no row is looked at: every part is asked.
const JUDGE_EVERY: Duration = Duration::from_secs(5);

const TIDY_EVERY: Duration = Duration::from_mins(10);

/// How long the right to look holds, and how often it is renewed.
const LEASE: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Versions looked at together.
const PAGE: u32 = 500;

/// When something was done last.
#[derive(Default)]
struct Done {
    asked: Option<Instant>,
    /// What this process had the right to look at when it asked.
    held: BTreeSet<String>,
    judged: Option<Instant>,
    tidied: Option<Instant>,
}

fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}

pub(super) async fn keep_looking(alerts: Weak<Alerts>) {
    let mut backoff = Backoff::new(LOOK_EVERY, MAX_PAUSE);
    let mut done = Done::default();
    while let Some(here) = alerts.upgrade() {
        let pause = match caught("looking at the alerts", here.look(&mut done)).await {
            Ok(()) => {
                backoff.reset();
                LOOK_EVERY
            }
            Err(fault) => {
                if backoff.failures() == 0 {
                    warn!(error = %fault, "alerts are not looked at; it is tried again");
                }
                backoff.next_pause(fault.retry_after)
            }
        };
        drop(here);
        tokio::time::sleep(pause).await;
    }
}

impl Alerts {
    async fn look(&self, done: &mut Done) -> Result<(), Fault> {
        let store = self.shared.ready_store().await?;
        let alerts = store.alerts(false).await?;
        if alerts.is_empty() && store.queued_versions(&[], 1).await?.is_empty() {
            return Ok(());
        }
        let known = self.known(&alerts);
        let wanted = known.iter().map(rows_of).chain(iter::once(EPISODES.to_owned())).collect();
        if is_due(done.asked, RENEW_EVERY) || done.held != wanted {
            let asked = Instant::now();
            done.held = store.hold_leases(&self.shared.settings.owner, &wanted, LEASE).await?;
            done.asked = Some(asked);
        }
        if done.held.is_empty() {
            return Ok(());
        }
        let held = known.into_iter().filter(|table| done.held.contains(&rows_of(table)));
        self.look_at_rows(&held.map(|table| table.0).collect::<Vec<_>>()).await?;
        if !done.held.contains(EPISODES) {
            return Ok(());
        }
        if is_due(done.judged, JUDGE_EVERY) {
            done.judged = Some(Instant::now());
            self.judge(&alerts).await?;
        }
        if is_due(done.tidied, TIDY_EVERY) {
            done.tidied = Some(Instant::now());
            store.tidy_outbox().await?;
        }
        Ok(())
    }

    /// The tables whose rows this process can look at: it has their definitions, with every column that an alert asks for.
    fn known(&self, alerts: &[Alert]) -> BTreeSet<TableName> {
        let tables: BTreeSet<&TableName> = alerts.iter().filter_map(|alert| alert.rule.table()).collect();
        let understands = |alert: &Alert| match &alert.rule {
            AlertRule::Row { table, conditions } => {
                let defined = self.shared.catalog.get(&table.0);
                defined.is_some_and(|table| conditions.iter().all(|one| rule::check(table, one).is_ok()))
            }
            _ => true,
        };
        let known = tables
            .into_iter()
            .filter(|table| alerts.iter().filter(|alert| alert.rule.table() == Some(table)).all(understands));
        known.cloned().collect()
    }

    async fn look_at_rows(&self, tables: &[String]) -> Result<(), Fault> {
        let store = &self.shared.store;
        loop {
            let versions = store.queued_versions(tables, PAGE).await?;
            if versions.is_empty() {
                return Ok(());
            }
            // Only now: whatever alert a version was queued for was made before it was queued.
            let alerts = store.alerts(false).await?;
            let fired: Vec<RowFired> =
                versions.iter().flat_map(|version| self.fired_by(version, &alerts)).collect();
            let positions: Vec<i64> = versions.iter().map(|version| version.position).collect();
            store.take_versions(&positions, &fired).await?;
        }
    }

    fn fired_by(&self, version: &Version, alerts: &[Alert]) -> Vec<RowFired> {
        // What is not defined here is taken from the queue only where no alert watches it any more.
        let Some(table) = self.shared.catalog.get(&version.table.0) else { return Vec::new() };
        // Whose event is gone was erased.
        let Some(row) = &version.row else { return Vec::new() };
        let fires = |alert: &&Alert| match &alert.rule {
            AlertRule::Row { table: of, conditions } => {
                *of == version.table
                    && version.position > alert.queued_from
                    && rule::begins(table, conditions, row, version.before.as_ref())
            }
            _ => false,
        };
        let told = alerts.iter().filter(fires);
        told.map(|alert| RowFired { id: Uuid::now_v7(), alert: alert.id, position: version.position })
            .collect()
    }

    /// Looks at what is no row.
    async fn judge(&self, alerts: &[Alert]) -> Result<(), Fault> {
        for alert in alerts {
            let minutes = match alert.rule {
                AlertRule::Row { .. } => continue,
                AlertRule::Lag { minutes, .. } | AlertRule::Late { minutes } => minutes,
                AlertRule::DeadLetters { .. } => 0,
            };
            let wrong = match self.wrong(&alert.rule).await {
                Ok(wrong) => wrong,
                Err(fault) => {
                    // Not known is neither begun nor over.
                    warn!(alert = alert.name, error = %fault, "whether an alert fires could not be told");
                    continue;
                }
            };
            let Some((to, fired)) = rule::advance(alert, minutes, wrong.as_deref(), Utc::now()) else {
                continue;
            };
            self.shared.store.move_episode(alert, to, fired.as_ref()).await?;
        }
        Ok(())
    }

    /// What is wrong of what a rule is about; nothing where all is well.
    pub(super) async fn wrong(&self, rule: &AlertRule) -> Result<Option<String>, Fault> {
        let told = match rule {
            AlertRule::Row { .. } => Vec::new(),
            AlertRule::Lag { records, .. } => self.behind(*records).await,
            AlertRule::Late { .. } => self.late().await?,
            AlertRule::DeadLetters { above } => {
                let open = self.letters.open_count_as_it_is().await?;
                if open > *above { vec![format!("{open} dead letters are open")] } else { Vec::new() }
            }
        };
        Ok((!told.is_empty()).then(|| told.join("; ")))
    }

    async fn behind(&self, records: u64) -> Vec<String> {
        let standings = self.drains.standings().await;
        let told = standings.sinks.iter().filter_map(|sink| match &sink.lag {
            Ok(lag) => (lag.total.unsigned_abs() > records)
                .then(|| format!("{} is {} records behind", sink.sink, lag.total)),
            // Whoever asks for lag wants to hear when nobody can tell it.
            Err(fault) => Some(format!("how far {} is behind can't be told: {}", sink.sink, fault.message)),
        });
        told.collect()
    }

    async fn late(&self) -> Result<Vec<String>, Fault> {
        let (store, now) = (&self.shared.store, Utc::now());
        let names: Vec<TableName> = self.shared.catalog.tables().map(TableName::from).collect();
        let (schedules, latest) = tokio::try_join!(self.schedules.known(), store.latest_syncs(&names))?;
        let mut told: Vec<String> =
            schedules.iter().filter_map(ScheduleStatus::problem).map(|remark| remark.problem).collect();
        for table in self.shared.catalog.tables() {
            let of_table = |schedule: &&ScheduleStatus| schedule.table == table.name();
            let facts = Facts {
                table,
                counted: None,
                syncs: Some(&latest),
                schedule: schedules.iter().find(of_table),
                log: None,
                lags: [None, None],
                sinks: self.shared.sink_names(),
                reconcile: self.shared.settings.reconcile,
                now,
            };
            let Judged { problems, unreconciled, .. } = facts.judge();
            told.extend(problems.into_iter().chain(unreconciled).map(|remark| remark.problem));
        }
        Ok(told)
    }
}
