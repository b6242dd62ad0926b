//! Removing by itself what is older than it is to be kept: one process at a time, once an hour, task after task.
//!
//! A task that is to be done so is a [`Task`]: whether it is asked for, and what one pass of it does. What came of its last
//! pass is kept in the store, so that every process can tell.

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Finding, forget, shared::Shared, trim};
use crate::{
    backoff::Backoff,
    fault::{Fault, FaultKind},
    next_step::{NextStep, Remark},
    store::{self, HousekeepingPass},
};

/// How often it is looked what is due, and how long that rests at most while the store can't be asked.
const LOOK_EVERY: Duration = Duration::from_mins(1);
const MAX_PAUSE: Duration = Duration::from_mins(10);

/// How often each task is done, and how soon again where it failed.
const EVERY: TimeDelta = TimeDelta::hours(1);
const AGAIN_AFTER: TimeDelta = TimeDelta::minutes(5);

/// A task that nobody has done for so long is a problem.
const LATE_AFTER: TimeDelta = TimeDelta::hours(3);

/// The right to keep house, how long it holds, and how often it is renewed.
const RIGHT: &str = "housekeeping";
const LEASE: Duration = Duration::from_mins(1);
const RENEW_EVERY: Duration = Duration::from_secs(15);

/// How far this machine's clock, by which age is told, may be ahead of others', and how long those are waited for.
const TOLERATED_SKEW: TimeDelta = TimeDelta::minutes(10);
const CLOCKS_TELL_WITHIN: Duration = Duration::from_secs(10);

/// What is done by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Old events whose rows have moved on leave the store and the index.
    Events,
    /// Letters that were settled long ago leave the log and the store.
    Letters,
    /// Syncs of long ago are forgotten.
    Syncs,
    /// Old records leave the embedded log.
    Records,
}

impl Task {
    const ALL: [Self; 4] = [Self::Events, Self::Letters, Self::Syncs, Self::Records];

    fn name(self) -> &'static str {
        match self {
            Self::Events => store::EVENTS,
            Self::Letters => "letters",
            Self::Syncs => "syncs",
            Self::Records => "records of the log",
        }
    }

    /// Whether the settings ask for it.
    fn is_wanted(self, shared: &Shared) -> bool {
        self.kept(shared).is_some()
    }

    /// How long what it removes is kept; `None` for ever.
    fn kept(self, shared: &Shared) -> Option<TimeDelta> {
        let settings = &shared.settings;
        match self {
            Self::Events => settings.events_retention,
            Self::Letters => settings.letters_retention,
            Self::Syncs => settings.syncs_retention,
            Self::Records => settings.log_retention,
        }
    }
}

/// How long events are kept, and what became of those that are older.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Retention {
    /// Days that events are kept whose rows have moved on; absent where they are kept for ever.
    pub days: Option<i64>,
    /// Events removed so far: of each row only the newest from before the kept days is left.
    pub trimmed: u64,
    /// When old events were last removed, as far as there were any.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Why the last pass did not remove all of them.
    pub last_error: Option<String>,
}

/// What removing old events came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Trimmed {
    /// Events that were removed, or would be.
    pub events: u64,
    /// Of rows that moved on before this instant.
    pub before: DateTime<Utc>,
    /// Nothing was removed.
    pub dry_run: bool,
}

/// Keeps house.
pub struct Housekeeping {
    pub(super) shared: Arc<Shared>,
}

impl Housekeeping {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Does what is due from now on, until the engine shuts down.
    pub fn start(self: &Arc<Self>) {
        if Task::ALL.iter().any(|task| task.is_wanted(&self.shared)) {
            let (housekeeping, closing) = (self.clone(), self.shared.closing.clone());
            self.shared.tasks.spawn(async move {
                closing.run_until_cancelled(housekeeping.keep_looking()).await;
            });
        }
    }

    /// Removes the old events now, or tells how many there are.
    ///
    /// # Errors
    /// When events are kept for ever, another process is at it, or a part can't be reached: what was removed stays so.
    pub async fn trim(&self, dry_run: bool) -> Result<Trimmed, Fault> {
        let Some(kept) = self.shared.settings.events_retention else {
            return Err(Fault::misconfigured(
                self.shared.store.name(),
                "events are kept for ever",
                "set SLUICE_EVENTS_RETENTION_DAYS to the days they are to be kept",
            ));
        };
        self.shared.ready_store().await?;
        let before = Utc::now() - kept;
        let events = if dry_run {
            self.check_clock().await?;
            trim::count(&self.shared, before).await?
        } else {
            let removed = self.run(Task::Events).await?;
            removed.ok_or_else(|| {
                Fault::new(
                    self.shared.store.name(),
                    FaultKind::Invalid,
                    "another process is removing what is old just now, or is the one that writes",
                    "look again in a minute, or leave it to that process",
                )
            })?
        };
        Ok(Trimmed { events, before, dry_run })
    }

    /// How long events are kept, and what became of those that are older.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn retention(&self) -> Result<Retention, Fault> {
        Ok(retention(&self.shared, self.shared.store.passes().await?))
    }

    async fn keep_looking(&self) {
        let mut backoff = Backoff::new(LOOK_EVERY, MAX_PAUSE);
        loop {
            let looked = AssertUnwindSafe(self.look()).catch_unwind().await;
            let looked = looked.unwrap_or_else(|_| {
                let part = self.shared.store.name();
                Err(Fault::transient(part, "removing what is old panicked", "it is tried again; report this"))
            });
            let pause = match looked {
                Ok(()) => {
                    backoff.reset();
                    LOOK_EVERY
                }
                Err(fault) => {
                    if backoff.failures() == 0 {
                        warn!(error = %fault, "what is old is not removed; it is tried again");
                    }
                    backoff.next_pause(fault.retry_after)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&self) -> Result<(), Fault> {
        let passes = self.shared.ready_store().await?.passes().await?;
        let mut failed = None;
        for task in Task::ALL.into_iter().filter(|task| task.is_wanted(&self.shared)) {
            if is_due(of(&passes, task), Utc::now()) {
                // One task's failing keeps none of the others from being done.
                failed = self.run(task).await.err().or(failed);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// One pass of a task, and what it removed; `None` where another process keeps house.
    async fn run(&self, task: Task) -> Result<Option<u64>, Fault> {
        let store = &self.shared.store;
        if !self.hold(LEASE).await? {
            return Ok(None);
        }
        let removed = AtomicU64::new(0);
        let passing = async {
            self.check_clock().await?;
            self.pass(task, &removed).await
        };
        let outcome = tokio::select! {
            outcome = passing => outcome,
            fault = self.lose() => Err(fault),
        };
        let removed = removed.into_inner();
        let error = outcome.as_ref().err().map(ToString::to_string);
        info!(task = task.name(), removed, error, "housekeeping");
        store.keep_pass(task.name(), removed, error.as_deref()).await?;
        self.hold(Duration::ZERO).await?;
        outcome.map(|()| Some(removed))
    }

    /// Sees that this machine's clock is not ahead of the store's and the source's, as far as they tell: what is young would be
    /// removed for good.
    async fn check_clock(&self) -> Result<(), Fault> {
        let Shared { store, source, .. } = &*self.shared;
        let (of_store, of_source) = tokio::join!(
            timeout(CLOCKS_TELL_WITHIN, store.health()),
            timeout(CLOCKS_TELL_WITHIN, source.health())
        );
        let of_store = of_store.ok().and_then(Result::ok).and_then(|health| health.clock);
        let of_source = of_source.ok().and_then(Result::ok).and_then(|health| health.clock);
        let now = Utc::now();
        for (part, clock) in [(store.name(), of_store), (source.name(), of_source)] {
            let Some(ahead) = clock.map(|clock| now - clock).filter(|ahead| *ahead > TOLERATED_SKEW) else {
                continue;
            };
            let problem = format!(
                "nothing is removed for its age: this machine's clock is {} minutes ahead of that of {part}",
                ahead.num_minutes()
            );
            return Err(Fault::misconfigured(part, problem, "set both machines' clocks by NTP"));
        }
        Ok(())
    }

    async fn pass(&self, task: Task, removed: &AtomicU64) -> Result<(), Fault> {
        let Some(kept) = task.kept(&self.shared) else { return Ok(()) };
        let (shared, before) = (&self.shared, Utc::now() - kept);
        let told = |count| {
            removed.fetch_add(count, Ordering::Relaxed);
        };
        match task {
            Task::Events => trim::trim(shared, before, told).await,
            Task::Letters => forget::letters(shared, before, told).await,
            Task::Syncs => forget::syncs(shared, before, told).await,
            Task::Records => forget::records(shared, before, told).await,
        }
    }

    /// Takes the right to keep house, or holds it on, for so long; whether this process has it.
    async fn hold(&self, lease: Duration) -> Result<bool, Fault> {
        let wanted = BTreeSet::from([RIGHT.to_owned()]);
        let held = self.shared.store.hold_leases(&self.shared.settings.owner, &wanted, lease).await?;
        Ok(held.contains(RIGHT))
    }

    /// Holds the right on; ends where it is lost.
    async fn lose(&self) -> Fault {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.hold(LEASE).await {
                Ok(true) => {}
                Ok(false) => {
                    return Fault::transient(
                        self.shared.store.name(),
                        "another process has taken over what removes what is old",
                        "it goes on there",
                    );
                }
                Err(fault) => return fault,
            }
        }
    }
}

fn of(passes: &[HousekeepingPass], task: Task) -> Option<&HousekeepingPass> {
    passes.iter().find(|pass| pass.task == task.name())
}

/// Whether a task is to be done now.
fn is_due(last: Option<&HousekeepingPass>, now: DateTime<Utc>) -> bool {
    let Some(last) = last else { return true };
    let rest = if last.error.is_some() { AGAIN_AFTER } else { EVERY };
    // A time to come was told by a clock that was put right since.
    last.ended_at.is_none_or(|ended| now - ended >= rest || ended - now > rest)
}

fn retention(shared: &Shared, passes: Vec<HousekeepingPass>) -> Retention {
    let pass = passes.into_iter().find(|pass| pass.task == Task::Events.name());
    Retention {
        days: shared.settings.events_retention.map(|kept| kept.num_days()),
        trimmed: pass.as_ref().map_or(0, |pass| pass.removed_in_all),
        last_success_at: pass.as_ref().and_then(|pass| pass.succeeded_at),
        last_error: pass.and_then(|pass| pass.error),
    }
}

/// What is wrong with tasks that this process's settings ask for.
pub(super) fn problems(shared: &Shared, passes: &[HousekeepingPass], now: DateTime<Utc>) -> Vec<Remark> {
    let wanted = Task::ALL.into_iter().filter(|task| task.is_wanted(shared));
    wanted.filter_map(|task| problem(task, of(passes, task)?, now)).collect()
}

fn problem(task: Task, last: &HousekeepingPass, now: DateTime<Utc>) -> Option<Remark> {
    let is_asked_for = task != Task::Syncs;
    let task = task.name();
    if let Some(error) = &last.error {
        return Some(format!("old {task} are not removed: {error}").into());
    }
    if !is_asked_for {
        // Done unless somebody forbids it: where no process stays, nothing grows either.
        return None;
    }
    let ended = last.ended_at.filter(|ended| now - *ended > LATE_AFTER)?;
    let problem = format!("old {task} were last removed at {}", ended.format("%Y-%m-%dT%H:%M:%SZ"));
    Some(Remark::new(problem, NextStep::StartWorker))
}

/// What doctor says of what is removed for its age.
pub(super) fn findings(shared: &Shared, passes: Vec<HousekeepingPass>) -> Vec<Finding> {
    let others = Task::ALL.into_iter().filter(|task| *task != Task::Events && task.is_wanted(shared));
    let failing = others.filter_map(|task| {
        let Remark { problem, next_step } = problem(task, of(&passes, task)?, Utc::now())?;
        let step = next_step.unwrap_or_else(|| "mend what it says; it is tried again by itself".into());
        Some(Finding::warning(shared.store.name(), &format!("retention of {}", task.name()), problem, step))
    });
    let mut findings: Vec<Finding> = failing.collect();
    findings.push(finding(shared, passes));
    findings
}

/// What doctor says of the age of events.
fn finding(shared: &Shared, passes: Vec<HousekeepingPass>) -> Finding {
    const CHECK: &str = "retention of events";
    let part = shared.store.name();
    let problem = of(&passes, Task::Events).and_then(|pass| problem(Task::Events, pass, Utc::now()));
    let Retention { days, trimmed, last_success_at, .. } = retention(shared, passes);
    let gone = if trimmed > 0 { format!("; {trimmed} were removed so far") } else { String::new() };
    let Some(days) = days else { return Finding::ok(part, CHECK, format!("kept for ever{gone}")) };
    if let Some(Remark { problem, next_step }) = problem {
        let step = next_step.unwrap_or_else(|| "mend what it says; it is tried again by itself".into());
        return Finding::warning(part, CHECK, problem, step);
    }
    let Some(last) = last_success_at else {
        return Finding::warning(
            part,
            CHECK,
            format!("{days} days, and older ones were never removed yet"),
            NextStep::StartWorker,
        );
    };
    Finding::ok(
        part,
        CHECK,
        format!("{days} days, last removed at {}{gone}", last.format("%Y-%m-%dT%H:%M:%SZ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(ended_at: Option<DateTime<Utc>>, error: Option<&str>) -> HousekeepingPass {
        HousekeepingPass {
            task: store::EVENTS.to_owned(),
            ended_at,
            succeeded_at: None,
            removed: 0,
            removed_in_all: 0,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn a_task_is_due_after_an_hour_and_soon_again_where_it_failed() {
        let now = Utc::now();
        let ago = |minutes| Some(now - TimeDelta::minutes(minutes));
        assert!(is_due(None, now) && is_due(Some(&pass(None, None)), now));
        assert!(!is_due(Some(&pass(ago(59), None)), now) && is_due(Some(&pass(ago(60), None)), now));
        assert!(is_due(Some(&pass(ago(5), Some("down"))), now));
        assert!(!is_due(Some(&pass(ago(4), Some("down"))), now));
        assert!(!is_due(Some(&pass(ago(-5), None)), now), "clocks may differ a little");
        assert!(is_due(Some(&pass(ago(-600), None)), now), "a clock that was wrong stops nothing for ever");
    }

    #[test]
    fn a_task_that_fails_or_that_nobody_does_is_a_problem() {
        let now = Utc::now();
        let told = |pass: &HousekeepingPass| problem(Task::Events, pass, now).map(|remark| remark.problem);
        let failed = told(&pass(Some(now), Some("elasticsearch: no answer")));
        assert!(failed.is_some_and(|told| told.contains("elasticsearch: no answer")));
        assert!(told(&pass(Some(now - TimeDelta::hours(4)), None)).is_some());
        assert_eq!(told(&pass(Some(now - TimeDelta::hours(2)), None)), None);
        assert_eq!(told(&pass(None, None)), None, "trimmed by hand, and no pass yet");
        let syncs = |error| problem(Task::Syncs, &pass(Some(now - TimeDelta::hours(9)), error), now);
        assert!(syncs(None).is_none() && syncs(Some("no answer")).is_some(), "nobody asked for it");
    }
}
