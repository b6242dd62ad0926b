//! Syncs that run by themselves.
//!
//! A schedule belongs to nobody: whichever process sees it due first claims it in the store, holds the claim while
//! its sync runs, and gives it back with what became of it. A process that dies loses its claim within [`LEASE`], and
//! the run is made up for elsewhere. However many runs were missed, one makes up for all of them, since it reads on
//! from where the last one stopped. Who claims a schedule of seconds polls the source until the next run: see
//! [`super::polling`].

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{
    EngineError,
    polling::{WHOLE_EVERY, no_time},
    shared::Shared,
    syncs::{MAX_HOURS, Syncs, check},
};
use crate::{
    backoff::Backoff,
    domain::TableName,
    fault::Fault,
    next_step::{NextStep, Remark},
    source::Condition,
    store::{RunOutcome, Schedule, ScheduledRun, SyncRequest, SyncState},
};

/// How often the store is asked for what is due.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Longest pause while the store can't be asked.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// How long a polled schedule is left alone after a run or a poll that did not succeed, unless the source asks for more.
const POLL_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(5);

/// When a run is tried again that another sync of the table was in the way of, if the next one is not due before.
const BUSY_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(15);

/// How long a claim holds, and so how soon another process goes on with the schedule of one that was killed; and how often
/// it is renewed, and so how soon it is seen that another process replaced or removed the schedule.
const LEASE: Duration = Duration::from_secs(20);
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Whoever runs schedules asks for what is due every few seconds.
const OVERDUE_MINUTES: i64 = 2;

/// How many runs in a row may be skipped or reach their limit, and for how long in any case, before it counts as a problem.
const TOLERATED_RUNS: f64 = 10.0;
const TOLERATED_AT_LEAST: TimeDelta = TimeDelta::minutes(15);

/// Seconds between two runs at least and at most: a week.
const SECONDS: std::ops::RangeInclusive<f64> = 0.25..=604_800.0;

/// A schedule as a user sees it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ScheduleStatus {
    pub table: String,
    pub every_seconds: f64,
    /// How far the first run looks back, in hours; later ones go on where the last one that read everything began, less an
    /// overlap.
    pub hours_ago: u32,
    /// New events to append in a run at most.
    pub limit: u32,
    /// Only rows that meet all of these.
    pub conditions: Vec<Condition>,
    pub created_by: String,
    pub next_due_at: DateTime<Utc>,
    /// Host and process that run it just now.
    pub running_on: Option<String>,
    pub last_run: Option<ScheduledRun>,
    /// When the last run that read everything began.
    pub last_success_at: Option<DateTime<Utc>>,
    /// How long it has been due, by the store's clock.
    #[serde(skip)]
    late: TimeDelta,
    /// How long ago it was made or last replaced, by the store's clock.
    #[serde(skip)]
    pub(super) age: TimeDelta,
    /// What keeps this process from running what is due.
    #[serde(skip)]
    hindrance: Option<Remark>,
}

impl ScheduleStatus {
    /// Whether it brings all rows of its table. Only then is that reconciled at night, which appends every row.
    pub fn is_of_all_rows(&self) -> bool {
        self.conditions.is_empty()
    }

    /// What is wrong with it: its last run failed, other syncs leave it no room, it falls behind, or nobody runs what is due.
    pub fn problem(&self) -> Option<Remark> {
        if let Some(run) = self.last_run.as_ref().filter(|run| run.outcome == RunOutcome::Failed) {
            let error = run.error.as_deref().unwrap_or("the sync tells why");
            return Some(format!("the scheduled sync of {} failed: {error}", self.table).into());
        }
        if let Some(problem) = self.starved().or_else(|| self.limited()) {
            return Some(problem);
        }
        let late = self.late.num_minutes();
        (self.running_on.is_none() && late >= OVERDUE_MINUTES).then(|| {
            let problem = format!("the scheduled sync of {} is overdue by {late} minutes", self.table);
            match self.hindrance.clone() {
                Some(Remark { problem: cause, next_step }) => {
                    Remark { problem: format!("{problem}: {cause}"), next_step }
                }
                None => Remark::new(problem, NextStep::StartWorker),
            }
        })
    }

    /// That its runs have been skipped for long, where they have.
    fn starved(&self) -> Option<Remark> {
        let run = self.last_run.as_ref().filter(|run| run.outcome == RunOutcome::Skipped)?;
        let (table, minutes) = (&self.table, self.long_since_success()?.num_minutes());
        let problem = format!("the scheduled sync of {table} has not run for {minutes} minutes");
        Some(match run.sync_id {
            Some(id) => {
                Remark::new(format!("{problem}: sync {id} of the table runs"), NextStep::FollowSync(id))
            }
            None => Remark::new(
                format!("{problem}: another sync of the table runs each time"),
                NextStep::ListSyncs,
            ),
        })
    }

    /// That its limit has kept its runs from reading everything for long, where it has.
    fn limited(&self) -> Option<Remark> {
        self.last_run.as_ref().filter(|run| run.more)?;
        let (table, limit, minutes) = (&self.table, self.limit, self.long_since_success()?.num_minutes());
        Some(Remark::new(
            format!(
                "the scheduled sync of {table} is behind: it reached its limit of {limit} again, and none of its runs has read \
                 everything for {minutes} minutes"
            ),
            "schedule it with a larger limit, or more often: the nightly reconciliation waits for a run that reads everything",
        ))
    }

    /// How long ago a run read everything, where that is long for a schedule like this.
    fn long_since_success(&self) -> Option<TimeDelta> {
        let since_success = self.last_success_at.map_or(self.age, |at| self.age.min(Utc::now() - at));
        let tolerated = Duration::try_from_secs_f64(self.every_seconds * TOLERATED_RUNS).ok()?;
        let tolerated = TOLERATED_AT_LEAST.max(TimeDelta::from_std(tolerated).ok()?);
        (since_success >= tolerated).then_some(since_success)
    }
}

impl From<Schedule> for ScheduleStatus {
    fn from(schedule: Schedule) -> Self {
        Self {
            table: schedule.request.table.0,
            every_seconds: schedule.every.as_secs_f64(),
            hours_ago: schedule.request.hours_ago,
            limit: schedule.request.limit,
            conditions: schedule.request.conditions,
            created_by: schedule.created_by,
            next_due_at: schedule.next_due_at,
            running_on: schedule.claimed_by,
            last_run: schedule.last_run,
            last_success_at: schedule.last_success_at,
            late: schedule.late,
            age: schedule.age,
            hindrance: None,
        }
    }
}

/// The syncs that run by themselves, of whatever process.
pub struct Schedules {
    pub(super) shared: Arc<Shared>,
    pub(super) syncs: Arc<Syncs>,
    /// Wakes who looks for what is due.
    due: Arc<Notify>,
    /// Why it could not be done when this process last looked for what is due.
    hindrance: Mutex<Option<Fault>>,
    /// Tells who polls that a schedule is another now.
    pub(super) replaced: watch::Sender<()>,
}

impl Schedules {
    pub(super) fn new(shared: Arc<Shared>, syncs: Arc<Syncs>) -> Self {
        Self {
            shared,
            syncs,
            due: Arc::default(),
            hindrance: Mutex::default(),
            replaced: watch::Sender::new(()),
        }
    }

    /// Runs what is due from now on, until the engine shuts down.
    pub fn start(self: &Arc<Self>) {
        let (schedules, shared) = (Arc::downgrade(self), self.shared.clone());
        self.shared.tasks.spawn(async move {
            shared.closing.run_until_cancelled(keep_scheduling(schedules, &shared.tasks)).await;
        });
    }

    /// Every schedule, by table.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn list(&self) -> Result<Vec<ScheduleStatus>, Fault> {
        self.shared.ready_store().await?;
        self.known().await
    }

    /// As [`Schedules::list`], of a store that may not be migrated yet.
    pub(super) async fn known(&self) -> Result<Vec<ScheduleStatus>, Fault> {
        let schedules = self.shared.store.schedules().await?;
        let hindrance = self.hindrance().map(|fault| fault.remark());
        let known = schedules.into_iter().map(ScheduleStatus::from);
        let known = known.map(|schedule| {
            let hindrance = match self.shared.catalog.get(&schedule.table) {
                Some(_) => hindrance.clone(),
                None => Some(undefined(&schedule.table)),
            };
            ScheduleStatus { hindrance, ..schedule }
        });
        Ok(known.collect())
    }

    /// What keeps this process from running what is due.
    fn hindrance(&self) -> Option<Fault> {
        let met = || self.hindrance.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.shared.shortage().or_else(met)
    }

    /// Creates or replaces a table's schedule; its first run is due at once.
    ///
    /// # Errors
    /// When a value is out of range or the store can't be reached.
    pub async fn put(&self, request: &SyncRequest, every_seconds: f64, by: &str) -> Result<(), EngineError> {
        let invalid = |problem| Err(EngineError::Invalid { field: "every_seconds", problem });
        if !SECONDS.contains(&every_seconds) {
            let (min, max) = (SECONDS.start(), SECONDS.end());
            return invalid(format!(
                "{every_seconds} is out of range; give {min} to {max} seconds, or 0 to remove"
            ));
        }
        let every = Duration::from_secs_f64(every_seconds);
        let table = check(&self.shared, request)?;
        let time = &table.definition().time;
        if every < WHOLE_EVERY && time.modified.is_none() && time.created.is_none() {
            return invalid(no_time(table));
        }
        self.shared.ready_store().await?.put_schedule(request, every, by).await?;
        self.replaced.send_replace(());
        self.due.notify_one();
        Ok(())
    }

    /// Removes a table's schedule; a run that goes on ends as it would. `false` when there was none.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn remove(&self, table: &TableName) -> Result<bool, Fault> {
        let removed = self.shared.ready_store().await?.remove_schedule(table).await?;
        self.replaced.send_replace(());
        Ok(removed)
    }

    /// Claims and starts everything that is due.
    async fn run_due(self: Arc<Self>) -> Result<(), Fault> {
        loop {
            // A store that does not answer holds up no end; what is claimed is waited for.
            let ready = self.shared.closing.run_until_cancelled(self.shared.ready_store()).await;
            let Some(store) = ready.filter(|_| !self.shared.closing.is_cancelled()) else { return Ok(()) };
            let due = store?.claim_schedule(&self.shared.settings.owner, LEASE).await?;
            let Some(schedule) = due else { break };
            let schedules = self.clone();
            self.shared.tasks.spawn(async move { schedules.run(schedule).await });
        }
        Ok(())
    }

    async fn run(&self, schedule: Schedule) {
        let (began_at, table) = (Utc::now(), schedule.request.table.clone());
        let lost = CancellationToken::new();
        let ended = tokio::select! {
            ended = self.work(&schedule, began_at, &lost) => ended,
            never = self.hold(&schedule, &lost) => match never {},
        };
        let is_polled = schedule.every < WHOLE_EVERY;
        let ended_at = Utc::now();
        info!(%table, outcome = ?ended.outcome, sync_id = ?ended.sync_id, "scheduled sync ended");
        let run = ScheduledRun {
            outcome: ended.outcome,
            sync_id: ended.sync_id,
            began_at,
            ended_at,
            more: ended.more,
            error: ended.error,
        };
        // A run that was cut short by this process's end stays due.
        let is_cut = self.shared.closing.is_cancelled() && run.outcome == RunOutcome::Cancelled;
        let next_in = if is_cut || is_polled && run.outcome == RunOutcome::Succeeded {
            TimeDelta::zero()
        } else if is_polled {
            POLL_AGAIN_AFTER
        } else {
            until_next(schedule.late + (ended_at - began_at), schedule.every)
        };
        let next_in = match run.outcome {
            RunOutcome::Skipped => next_in.min(BUSY_AGAIN_AFTER),
            _ => ended.retry_after.map_or(next_in, |asked| next_in.max(asked)),
        };
        let finishing =
            self.shared.store.finish_schedule(&schedule, &run, next_in.to_std().unwrap_or_default());
        match finishing.await {
            Ok(true) => {}
            Ok(false) => {
                info!(%table, "the schedule was replaced or removed, or went to another process, while its sync ran: its end is not recorded");
            }
            Err(fault) => {
                error!(%table, error = %fault, "the end of a scheduled sync could not be recorded; it runs again");
            }
        }
        if is_polled {
            self.due.notify_one();
        }
    }

    /// Holds the claim on for as long as it is awaited; says so where it is `lost`.
    async fn hold(&self, schedule: &Schedule, lost: &CancellationToken) -> Infallible {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.shared.store.renew_schedule(schedule, LEASE).await {
                Ok(true) => {}
                Ok(false) => {
                    lost.cancel();
                    return std::future::pending().await;
                }
                Err(fault) => {
                    warn!(table = %schedule.request.table, error = %fault, "the claim on a schedule could not be renewed");
                }
            }
        }
    }

    /// The sync, the reconciliation if it is due, and what is polled until the next run.
    async fn work(&self, schedule: &Schedule, began_at: DateTime<Utc>, lost: &CancellationToken) -> Ended {
        let request = SyncRequest {
            hours_ago: reach(schedule.request.hours_ago, schedule.last_success_at, began_at),
            resume: true,
            ..schedule.request.clone()
        };
        let ended = match self.syncs.start(request).await {
            Ok(id) => self.follow(id).await,
            Err(error) => Ended::not_begun(error),
        };
        let is_whole = |ended: &Ended| ended.outcome == RunOutcome::Succeeded && !ended.more;
        let ended = if is_whole(&ended) {
            self.follow_reconciliation(schedule).await.unwrap_or(ended)
        } else {
            ended
        };
        if schedule.every >= WHOLE_EVERY || !is_whole(&ended) {
            return ended;
        }
        self.show(&ended);
        // What went wrong before is over: that is told first, and polling goes on with the next run, which begins at once.
        let was_well = schedule.last_run.as_ref().is_some_and(|run| run.outcome == RunOutcome::Succeeded);
        if was_well { self.poll(schedule, began_at, lost).await.unwrap_or(ended) } else { ended }
    }

    /// Reconciles the table if the night has come; what came of it, unless all is well. Where another sync is in its way the
    /// run counts as skipped, since the next one may be a day away.
    async fn follow_reconciliation(&self, schedule: &Schedule) -> Option<Ended> {
        let ended = match self.reconcile_if_due(schedule).await {
            Ok(None) => return None,
            Ok(Some(id)) => self.follow(id).await,
            Err(error) => Ended::not_begun(error),
        };
        (ended.outcome != RunOutcome::Succeeded).then_some(ended)
    }

    /// How a sync of this process ended.
    pub(super) async fn follow(&self, id: Uuid) -> Ended {
        let retry_after = self.syncs.retry_after(id);
        if let Some(mut progress) = self.syncs.progress(id) {
            // The sender goes with the sync.
            while progress.changed().await.is_ok() {}
        }
        let is_closing = self.shared.closing.is_cancelled();
        match self.syncs.known(id).await {
            Ok(record) => Ended {
                outcome: outcome_of(record.state, is_closing),
                sync_id: Some(id),
                error: record.error,
                more: record.progress.more,
                appended: record.progress.appended,
                retry_after: retry_after.and_then(|asked| asked.get().copied()).and_then(pause),
            },
            Err(error) => Ended::failed(Some(id), error.to_string(), error.retry_after()),
        }
    }
}

/// How a run ended, by what the store says of its sync.
fn outcome_of(state: SyncState, is_closing: bool) -> RunOutcome {
    match state {
        SyncState::Succeeded => RunOutcome::Succeeded,
        SyncState::Cancelled => RunOutcome::Cancelled,
        // Cut, it may still show as running: the store has not heard of it yet.
        SyncState::Interrupted | SyncState::Running if is_closing => RunOutcome::Cancelled,
        SyncState::Running | SyncState::Failed | SyncState::Interrupted => RunOutcome::Failed,
    }
}

/// What is told of a run's end.
pub(super) struct Ended {
    pub(super) outcome: RunOutcome,
    pub(super) sync_id: Option<Uuid>,
    error: Option<String>,
    pub(super) more: bool,
    pub(super) appended: u64,
    /// How long the source asked to be left alone.
    retry_after: Option<TimeDelta>,
}

impl Ended {
    /// What was to run could not be started.
    fn not_begun(error: EngineError) -> Self {
        let EngineError::Busy(running) = error else {
            return Self::failed(None, error.to_string(), error.retry_after());
        };
        Self {
            outcome: RunOutcome::Skipped,
            sync_id: running.map(|running| running.id),
            error: Some("another sync of the table was running; it is tried again soon".to_owned()),
            ..Self::failed(None, String::new(), None)
        }
    }

    pub(super) fn failed(sync_id: Option<Uuid>, error: String, retry_after: Option<Duration>) -> Self {
        Self {
            outcome: RunOutcome::Failed,
            sync_id,
            error: Some(error),
            more: false,
            appended: 0,
            retry_after: retry_after.and_then(pause),
        }
    }
}

/// As long as somebody may ask for; nobody asks for more than a day in earnest.
fn pause(asked: Duration) -> Option<TimeDelta> {
    TimeDelta::from_std(asked.min(Duration::from_hours(24))).ok()
}

async fn keep_scheduling(schedules: Weak<Schedules>, tasks: &TaskTracker) {
    let mut backoff = Backoff::new(ASK_EVERY, MAX_PAUSE);
    while let Some(schedules) = schedules.upgrade() {
        let due = schedules.due.clone();
        // A task of its own, so that a panic ends one look and not the scheduler; and waited for at the end, since what it is
        // about to claim would be held by a process that is gone.
        let outcome = tasks.spawn(schedules.clone().run_due()).await.unwrap_or_else(|_| {
            Err(Fault::transient(
                "scheduler",
                "looking for what is due panicked",
                "report this with the log lines before it",
            ))
        });
        *schedules.hindrance.lock().unwrap_or_else(PoisonError::into_inner) = outcome.as_ref().err().cloned();
        drop(schedules);
        let pause = match outcome {
            Ok(()) => {
                backoff.reset();
                ASK_EVERY
            }
            Err(fault) => {
                if backoff.failures() == 0 {
                    warn!(error = %fault, "no scheduled sync runs while the store can't be asked");
                }
                backoff.next_pause(fault.retry_after)
            }
        };
        // What became due here is not waited for.
        tokio::time::timeout(pause, due.notified()).await.ok();
    }
}

/// How far a run must look back so that nothing since the last success is left out, in hours.
fn reach(hours_ago: u32, last_success: Option<DateTime<Utc>>, now: DateTime<Utc>) -> u32 {
    let since =
        last_success.map_or(0, |last| u32::try_from((now - last).num_hours() + 2).unwrap_or(MAX_HOURS));
    hours_ago.max(since).min(MAX_HOURS)
}

/// Why a process leaves the schedule of a table to others.
fn undefined(table: &str) -> Remark {
    Remark::new(
        format!("this process has no definition of {table}"),
        "start a process that has it and runs schedules, or remove the schedule",
    )
}

/// How long until the next run that keeps to the schedule's beat, of one that was due so long ago: by no clock but the
/// store's, since this machine's may be another.
fn until_next(late: TimeDelta, every: Duration) -> TimeDelta {
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    TimeDelta::milliseconds(every - late.num_milliseconds().max(0) % every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_was_cut_by_the_end_of_its_process_did_not_fail_though_the_store_shows_it_running() {
        for state in [SyncState::Running, SyncState::Interrupted] {
            assert_eq!(outcome_of(state, true), RunOutcome::Cancelled, "{state:?}");
            assert_eq!(outcome_of(state, false), RunOutcome::Failed, "{state:?}");
        }
        assert_eq!(outcome_of(SyncState::Failed, true), RunOutcome::Failed);
        assert_eq!(outcome_of(SyncState::Succeeded, true), RunOutcome::Succeeded);
    }

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
    }

    #[test]
    fn the_next_run_keeps_the_beat_and_missed_ones_are_made_up_for_once() {
        let next = |late| until_next(TimeDelta::minutes(late), Duration::from_mins(10)).num_minutes();
        assert_eq!((next(0), next(1), next(10), next(57)), (10, 9, 10, 3));
        assert_eq!(next(-500_000), 10, "a clock that was ahead had said when it is due");
    }

    /// A schedule of every minute whose last run came out so, made 500 minutes ago.
    fn status(last_run: Option<ScheduledRun>) -> ScheduleStatus {
        ScheduleStatus {
            table: "leads".to_owned(),
            every_seconds: 60.0,
            hours_ago: 24,
            limit: 100,
            conditions: Vec::new(),
            created_by: "ana".to_owned(),
            next_due_at: Utc::now(),
            running_on: None,
            last_run,
            last_success_at: None,
            late: TimeDelta::zero(),
            age: TimeDelta::minutes(500),
            hindrance: None,
        }
    }

    fn ended(outcome: RunOutcome, more: bool) -> ScheduledRun {
        let now = Utc::now();
        let sync_id = Some(Uuid::from_u128(7));
        ScheduledRun { outcome, sync_id, began_at: now, ended_at: now, more, error: None }
    }

    fn minutes_ago(minutes: i64) -> Option<DateTime<Utc>> {
        Some(Utc::now() - TimeDelta::minutes(minutes))
    }

    #[test]
    fn a_schedule_whose_runs_are_all_skipped_is_a_problem_after_ten_of_them_and_a_quarter_of_an_hour() {
        let skipped = |every_seconds, success: Option<i64>, age| {
            let status = ScheduleStatus {
                every_seconds,
                last_success_at: success.and_then(minutes_ago),
                age: TimeDelta::minutes(age),
                ..status(Some(ended(RunOutcome::Skipped, false)))
            };
            status.problem().map(|remark| remark.to_string())
        };
        assert_eq!(skipped(60.0, Some(14), 500), None);
        let told = skipped(60.0, Some(16), 500).expect("a problem");
        assert!(
            told.starts_with("the scheduled sync of leads has not run for 16 minutes: sync 0000"),
            "{told}"
        );
        assert_eq!(skipped(600.0, Some(99), 500), None);
        assert!(skipped(600.0, Some(101), 500).is_some());
        assert!(skipped(60.0, None, 16).is_some(), "none ever ran");
        assert_eq!(skipped(60.0, Some(500), 14), None, "it was replaced since");
    }

    #[test]
    fn a_schedule_whose_limit_never_suffices_is_a_problem_as_soon_as_one_whose_runs_are_skipped() {
        let told = |more, every_seconds, minutes| {
            let last_success_at = minutes_ago(minutes);
            let run = Some(ended(RunOutcome::Succeeded, more));
            let status = ScheduleStatus { every_seconds, last_success_at, ..status(run) };
            status.problem().map(|remark| remark.to_string())
        };
        assert_eq!((told(true, 60.0, 14), told(true, 600.0, 99)), (None, None), "it may catch up");
        let behind = told(true, 60.0, 16).expect("a problem");
        assert!(
            behind.contains("reached its limit of 100 again") && behind.contains("16 minutes"),
            "{behind}"
        );
        assert!(told(true, 600.0, 101).is_some());
        assert_eq!(told(false, 60.0, 16), None, "the last one read everything");
    }

    #[test]
    fn a_schedule_that_is_overdue_names_what_keeps_this_process_from_running_it() {
        let overdue = |hindrance: Option<Remark>| {
            let status = ScheduleStatus { late: TimeDelta::minutes(3), hindrance, ..status(None) };
            status.problem().expect("it is overdue")
        };
        assert_eq!(overdue(None).next_step, Some(NextStep::StartWorker));
        let full = Fault::transient("embedded", "the disk is full", "free some room");
        assert_eq!(
            overdue(Some(full.remark())).to_string(),
            "the scheduled sync of leads is overdue by 3 minutes: embedded: the disk is full; free some room"
        );
    }

    #[test]
    fn a_run_after_a_long_time_reaches_back_to_the_last_success() {
        let now = at(0) + TimeDelta::days(10);
        assert_eq!(reach(24, None, now), 24);
        assert_eq!(reach(24, Some(now - TimeDelta::minutes(5)), now), 24);
        assert_eq!(reach(24, Some(at(0)), now), 242, "an hour begun, and one for good measure");
        assert_eq!(reach(24, Some(now - TimeDelta::days(40_000)), now), MAX_HOURS);
    }
}
