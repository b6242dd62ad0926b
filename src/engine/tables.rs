//! What is there of each table, from the source to both sinks, and what of that somebody should know: pure.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ScheduleStatus,
    counts::{Counted, SETTLED_AFTER},
    reconcile::{DeleteLimits, ReconcileSettings},
    syncs::MAX_HOURS,
};
use crate::{
    domain::Table,
    fault::Fault,
    next_step::{NextStep, Remark},
    store::{AHEAD, Reconciliation, SyncProgress, SyncRecord, SyncState, Tally},
};

/// Fewest rows that could not be taken that are told as a problem, where they are a tenth of the table or more.
const MANY_REFUSED: u64 = 8;

/// A table with a schedule of all its rows is reconciled each night. What runs before that counted may be so no more.
const RECONCILED_WITHIN: TimeDelta = TimeDelta::hours(36);

/// A table, place by place. What is absent is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TableStatus {
    pub table: String,
    /// Rows at the source, as far as the key sees them.
    pub source: Option<u64>,
    /// Rows in the store.
    pub store: Option<u64>,
    /// Rows in the index.
    pub index: Option<u64>,
    /// Rows with an open dead letter.
    pub parked: Option<u64>,
    /// Rows at the source that no sync has read yet, as far as is known: those that were read and made no event are none.
    pub unread: Option<u64>,
    /// How old these counts are.
    pub counted_seconds_ago: Option<i64>,
    /// Since the last sync that succeeded ended; absent where there was none.
    pub synced_seconds_ago: Option<i64>,
    /// The last reconciliation; absent where there was none.
    pub reconciled: Option<LastReconciliation>,
}

/// What became of the last reconciliation of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastReconciliation {
    pub outcome: SyncState,
    /// Absent where its time is still to come: a clock was ahead then.
    pub seconds_ago: Option<i64>,
    /// Differences that it could neither mend nor explain; absent where nothing was compared.
    pub unexplained: Option<u64>,
    /// Since the last one that succeeded; absent where none did, or where its time is still to come.
    pub succeeded_seconds_ago: Option<i64>,
}

impl LastReconciliation {
    /// What came of it, for people.
    pub(crate) fn told(&self) -> String {
        let outcome = self.outcome.as_str();
        match self.unexplained {
            Some(unexplained) => format!("{outcome}, {unexplained} unexplained"),
            None => format!("{outcome}, nothing was compared"),
        }
    }
}

/// What is known of a table.
pub(super) struct Facts<'a> {
    pub(super) table: Table,
    pub(super) counted: Option<&'a Counted>,
    /// Its latest syncs, as the store's `latest_syncs` tells them; `None` where it did not.
    pub(super) syncs: Option<&'a [SyncRecord]>,
    pub(super) schedule: Option<&'a ScheduleStatus>,
    /// The log as it is now, where it is known.
    pub(super) log: Option<&'a str>,
    /// The lags of the store and of the index, as far as they are known.
    pub(super) lags: [Option<i64>; 2],
    /// The sinks' names.
    pub(super) sinks: [&'a str; 2],
    pub(super) reconcile: ReconcileSettings,
    pub(super) now: DateTime<Utc>,
}

/// A table, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) status: TableStatus,
    pub(super) problems: Vec<Remark>,
    /// Rows that no sync read: a gap in what is here, though a setup whose syncs look back a while only is as it was meant.
    pub(super) unread: Option<Remark>,
    /// That nights passed that were to reconcile it.
    pub(super) unreconciled: Option<Remark>,
    /// What kept a place from being counted.
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Remark>,
}

impl Facts<'_> {
    fn syncs(&self) -> impl Iterator<Item = &SyncRecord> {
        let name = self.table.name();
        self.syncs.into_iter().flatten().filter(move |sync| sync.request.table.0 == name)
    }

    /// The latest of these; one whose time is still to come only where there is no other.
    fn latest<'a>(&self, syncs: impl Iterator<Item = &'a SyncRecord>) -> Option<&'a SyncRecord> {
        syncs.max_by_key(|sync| (true_at(sync) <= self.now + AHEAD, sync.started_at))
    }

    fn last_success(&self) -> Option<&SyncRecord> {
        self.latest(self.syncs().filter(|sync| sync.state == SyncState::Succeeded))
    }

    fn reconciliations(&self) -> impl Iterator<Item = &SyncRecord> {
        self.syncs().filter(|sync| sync.request.reconcile.is_some())
    }

    /// The latest reconciliation that succeeded.
    fn last_proof(&self) -> Option<&SyncRecord> {
        self.latest(self.reconciliations().filter(|sync| sync.state == SyncState::Succeeded))
    }

    fn seconds_since(&self, at: DateTime<Utc>) -> i64 {
        (self.now - at).num_seconds().max(0)
    }

    /// How long ago it was that what a run tells was true; `None` where that is still to come.
    fn age(&self, sync: &SyncRecord) -> Option<i64> {
        let at = true_at(sync);
        (at <= self.now + AHEAD).then(|| self.seconds_since(at))
    }

    fn is_recent(&self, sync: &SyncRecord) -> bool {
        self.age(sync).is_some_and(|age| age < RECONCILED_WITHIN.num_seconds())
    }

    /// Whether whoever syncs the table wants all of its rows.
    fn is_wanted_whole(&self) -> bool {
        match (self.schedule, self.last_success()) {
            (Some(schedule), _) => schedule.conditions.is_empty(),
            (None, Some(sync)) => sync.request.conditions.is_empty(),
            (None, None) => false,
        }
    }

    pub(super) fn judge(&self) -> Judged {
        let mut judged = self.judge_all();
        let last = self.latest(self.reconciliations());
        let failed = last.filter(|sync| sync.state == SyncState::Failed);
        // Whoever reconciled again without it would be refused for ever.
        if let Some(rows) = failed.and_then(|sync| sync.progress.reconcile.as_ref()?.unallowed()) {
            let remarks = judged.problems.iter_mut().chain(&mut judged.warnings);
            let remarks = remarks.chain(&mut judged.unread).chain(&mut judged.unreconciled);
            for step in remarks.filter_map(|remark| remark.next_step.as_mut()) {
                if let NextStep::Reconcile { table } = step {
                    *step = NextStep::AllowDeletes { table: std::mem::take(table), rows };
                }
            }
        }
        judged
    }

    fn judge_all(&self) -> Judged {
        let mut judged = Judged::default();
        let name = self.table.name().to_owned();
        judged.status.table.clone_from(&name);
        judged.status.synced_seconds_ago = self.last_success().and_then(|sync| self.age(sync));
        self.judge_runs(&mut judged);
        let Some(counted) = self.counted else {
            judged.warnings.push(format!("the rows of {name} are not counted yet").into());
            return judged;
        };
        let status = &mut judged.status;
        status.counted_seconds_ago = Some(self.seconds_since(counted.at));
        status.source = counted.source.as_ref().ok().copied().flatten();
        status.index = counted.index.as_ref().ok().copied();
        let faults =
            [counted.source.as_ref().err(), counted.store.as_ref().err(), counted.index.as_ref().err()];
        judged.faults.extend(faults.into_iter().flatten().cloned());
        if matches!(counted.source, Ok(None)) {
            let problem = format!(
                "the source can't count {name} in time, so it is not known how many rows are missing"
            );
            judged.warnings.push(Remark::new(problem, NextStep::Reconcile { table: name.clone() }));
        }
        let Ok(tally) = counted.store else { return judged };
        let status = &mut judged.status;
        (status.store, status.parked) = (Some(tally.entities), Some(tally.parked));
        if counted.is_moved {
            let problem = format!(
                "{name} is read from another project or table, or by another key, than what is here came from, and was not synced \
                 since: what is not read of it is unknown"
            );
            judged.problems.push(Remark::new(problem, NextStep::FirstSync { table: name }));
        } else if let Some(source) = status.source {
            self.judge_source(source, tally, counted.changed_since, &mut judged);
        }
        self.judge_sinks(tally, counted, &mut judged);
        judged
    }

    /// What became of the last sync and the last reconciliation.
    fn judge_runs(&self, judged: &mut Judged) {
        let reconciled = self.latest(self.reconciliations());
        judged.status.reconciled = reconciled.map(|sync| LastReconciliation {
            outcome: sync.state,
            seconds_ago: self.age(sync),
            unexplained: sync.progress.reconcile.as_ref().and_then(|report| {
                let is_compared = !report.sinks.is_empty() || report.unexplained > 0;
                is_compared.then_some(report.unexplained)
            }),
            succeeded_seconds_ago: self.last_proof().and_then(|sync| self.age(sync)),
        });
        judged.unreconciled = self.unreconciled(judged.status.reconciled.as_ref());
        for (what, run) in [("sync", self.last_success()), ("reconciliation", reconciled)] {
            let Some(run) = run.filter(|run| self.age(run).is_none()) else { continue };
            let at = true_at(run).format("%Y-%m-%dT%H:%M:%SZ");
            let problem = format!(
                "the last {what} of {table} ended at {at}, which is still to come: a clock was ahead then, or is behind now, and \
                 nobody knows how old what is here is",
                table = self.table
            );
            judged.warnings.push(Remark::new(problem, format!("set the clocks, then make another {what}")));
        }
        let last = self.latest(self.syncs());
        let is_told = |sync: &&SyncRecord| reconciled.is_none_or(|reconciled| reconciled.id != sync.id);
        let runs = [("reconciliation", reconciled), ("sync", last.filter(is_told))];
        for (what, run) in runs.into_iter().filter_map(|(what, run)| Some((what, run?))) {
            let error = run.error.as_deref().unwrap_or("its record tells no reason");
            let problem = format!("the last {what} of {} {}: {error}", self.table, run.state.as_str());
            match run.state {
                SyncState::Failed => judged.problems.push(problem.into()),
                SyncState::Interrupted => judged.warnings.push(problem.into()),
                SyncState::Cancelled if run.request.reconcile.is_some() => {
                    let problem = format!("the last reconciliation of {} was cancelled", self.table);
                    let table = self.table.name().to_owned();
                    judged.warnings.push(Remark::new(problem, NextStep::Reconcile { table }));
                }
                SyncState::Running | SyncState::Succeeded | SyncState::Cancelled => {}
            }
        }
    }

    /// That it was not reconciled lately, although it is to be each night.
    fn unreconciled(&self, last: Option<&LastReconciliation>) -> Option<Remark> {
        let (Some(_), Some(_)) = (self.reconcile.hour, self.syncs) else { return None };
        let schedule = self.schedule.filter(|schedule| schedule.is_of_all_rows())?;
        let problem = unreconciled(&schedule.table, schedule.age, last)?;
        Some(Remark::new(problem, NextStep::Reconcile { table: schedule.table.clone() }))
    }

    /// Rows at the source that no event can be made of, as letters and the last sync tell them: no more than there are.
    fn refused(&self, tally: Tally) -> u64 {
        tally.unusable + self.last_success().map_or(0, |sync| sync.progress.without_key)
    }

    /// Those of them that the last reconciliation saw at the source.
    fn unkeyed(&self, tally: Tally) -> u64 {
        let seen = self
            .last_proof()
            .filter(|proof| self.is_recent(proof))
            .and_then(|sync| sync.progress.reconcile.as_ref())
            .map_or(0, |report| report.unkeyed);
        seen.min(self.refused(tally))
    }

    /// The most that the latest runs counted at the source of what they leave out. Of a run that is long ago, rows that came
    /// since would pass for what it counted.
    fn left_out(&self, counted: impl Fn(&SyncProgress) -> u64) -> u64 {
        let runs = self.last_success().into_iter().chain(self.last_proof());
        let runs = runs.filter(|run| self.is_recent(run));
        runs.map(|sync| counted(&sync.progress)).max().unwrap_or_default()
    }

    /// Of the erased entities those that may stand at the source although no run counted them there: a reconciliation that
    /// began since the last erasure counted all that do.
    fn uncounted_erasures(&self, tally: Tally) -> u64 {
        let began = self.last_proof().map(|proof| proof.started_at.min(true_at(proof)));
        if began > tally.last_erasure { 0 } else { tally.erased }
    }

    /// Whether a sync of the whole table would bring nothing more: the last one was that, or rows are left out each time.
    fn was_read_whole(&self) -> bool {
        let leaves_out = |proof: &SyncRecord| {
            proof.progress.shared_keys + proof.progress.erased > 0 && !self.is_of_old_log(proof)
        };
        let has_read = |sync: &SyncRecord| {
            sync.request.reconcile.is_none() && has_read_whole(sync) && !self.is_of_old_log(sync)
        };
        self.last_success().is_some_and(has_read) || self.last_proof().is_some_and(leaves_out)
    }

    /// Whether another log stands in the place of the one that it appended to: what was read then counts as not read.
    fn is_of_old_log(&self, sync: &SyncRecord) -> bool {
        self.log.is_some_and(|log| log != sync.log)
    }

    /// Since when rows are counted as read, where that is not for ever.
    fn read_since(&self) -> &'static str {
        let is_old = self.last_success().is_some_and(|sync| self.is_of_old_log(sync));
        if is_old { " since the log was made anew" } else { "" }
    }

    /// What the source has against what was read of it.
    fn judge_source(&self, source: u64, tally: Tally, changed_since: Option<u64>, judged: &mut Judged) {
        let table = self.table.name().to_owned();
        if let Some(blind) = blindness(self.table, source, tally.appended, self.reconcile.deletes) {
            judged.problems.push(blind);
        } else if source < tally.appended {
            let gone = tally.appended - source;
            let problem =
                format!("{gone} rows of {table} that were read before are not at the source any more");
            judged.warnings.push(Remark::new(problem, NextStep::Reconcile { table: table.clone() }));
        }
        let (refused, unkeyed) = (self.refused(tally), self.unkeyed(tally));
        // Letters that were discarded were looked at.
        let unusable = refused.saturating_sub(tally.unusable.saturating_sub(tally.parked));
        if are_many(unusable, source) {
            let problem = format!(
                "{unusable} rows of {table} have no usable key, of {source} at the source: no event can be made of them, and they \
                 are too many for their own content to be at fault; look whether the key in the table's definition is the \
                 project's, and of its type; of those that are mended there a reconciliation settles the letters"
            );
            judged.problems.push(Remark::new(problem, NextStep::ListLetters));
        } else if unkeyed > 0 {
            let problem = format!(
                "{unkeyed} rows of {table} have no usable key: no event can be made of them, and they are nowhere but at the \
                 source and among the dead letters, which a reconciliation settles once they are mended there"
            );
            judged.warnings.push(Remark::new(problem, NextStep::ListLetters));
        }
        let left = source.saturating_sub(tally.appended + unkeyed);
        let shared = self.left_out(|progress| progress.shared_keys).min(left);
        if shared > 0 {
            let problem = format!(
                "{shared} rows of {table} at the source have the key of another row: {} is not unique there, and of such rows \
                 only one is kept",
                self.table.key_source()
            );
            let advice = "give each row a key of its own at the source and reconcile the table then, or name a column that is \
                          unique as the key of the table's definition";
            judged.warnings.push(Remark::new(problem, advice));
        }
        let left = left - shared;
        let erased = self.left_out(|progress| progress.erased).min(tally.erased).min(left);
        if erased > 0 {
            let problem =
                format!("{erased} rows of {table} at the source are of erased entities and were left out");
            judged.warnings.push(Remark::new(problem, "delete them at the source, then reconcile the table"));
        }
        let (unread, refused) = (left - erased, refused - unkeyed);
        let erased = self.uncounted_erasures(tally).saturating_sub(erased);
        judged.status.unread = Some(unread.saturating_sub(refused));
        if unread == 0 {
            return;
        }
        // A table without a time of change is read whole each time: what made no event has come since, or a letter tells of it.
        let time = &self.table.definition().time;
        let is_timed = time.modified.is_some() || time.created.is_some();
        let new = if is_timed {
            changed_since.unwrap_or_default().min(unread)
        } else {
            unread.saturating_sub(refused)
        };
        let missed = unread - new;
        if missed > 0 && missed <= erased + refused {
            let mut problem = format!("{missed} of {source} rows of {table} at the source made no event; ");
            if erased > 0 {
                let _ =
                    write!(problem, "{erased} of the table were erased here: delete them at the source; ");
            }
            if refused > 0 {
                let _ = write!(problem, "{refused} have no usable key, as dead letters tell; ");
            }
            problem.push_str("a reconciliation tells whether others are among them");
            judged.warnings.push(Remark::new(problem, NextStep::Reconcile { table: table.clone() }));
            return;
        }
        let whole = || NextStep::SyncWhole { table: table.clone() };
        if self.last_success().is_none() {
            let problem = format!("none of the {source} rows of {table} at the source was ever read");
            judged.warnings.push(Remark::new(problem, whole()));
        } else if !self.is_wanted_whole() {
            let problem = format!("{unread} of {source} rows of {table} at the source are not read");
            judged.warnings.push(Remark::new(problem, whole()));
        } else if missed > 0 && self.was_read_whole() {
            let problem = format!(
                "{missed} of {source} rows of {table} at the source made no event, although the whole table was read: they came \
                 since with an older time, have keys of other rows, or are of erased entities"
            );
            judged.unread = Some(Remark::new(problem, NextStep::Reconcile { table: table.clone() }));
        } else if missed > 0 {
            let since = self.read_since();
            let problem =
                format!("{missed} of {source} rows of {table} at the source were read by no sync{since}");
            judged.unread = Some(Remark::new(problem, whole()));
        } else if self.schedule.is_none() {
            let problem = format!("{new} rows of {table} came since its last sync, and it has no schedule");
            judged.warnings.push(Remark::new(problem, NextStep::Sync { table: table.clone() }));
        }
    }

    /// What the sinks have against what they were given.
    fn judge_sinks(&self, tally: Tally, counted: &Counted, judged: &mut Judged) {
        let held = [Some(tally.entities), counted.index.as_ref().ok().copied()];
        let (appended, refused) = (tally.appended, tally.refused);
        let are_many_refused = are_many(refused, appended);
        let ended = || self.syncs().filter(|sync| sync.finished_at.is_some());
        let ended_lately =
            || ended().filter(|sync| sync.finished_at.is_some_and(|at| counted.at - at <= SETTLED_AFTER));
        let is_quiet = counted.is_quiet && ended().next().is_some();
        let is_settled = is_quiet && ended_lately().next().is_none();
        let changed_lately: u64 = ended_lately().map(changes).sum();
        let mut is_lacking = false;
        let is_level = [0, 1].map(|sink: usize| counted.is_level[sink] && self.lags[sink] == Some(0));
        let sinks = self.sinks.into_iter().zip(held).zip(is_level).zip(tally.explained);
        for (((sink, held), is_sink_level), explained) in sinks {
            let Some(held) = held.filter(|_| is_sink_level) else { continue };
            let table = self.table.name().to_owned();
            // While rows are appended, those of which none was lately are still to be there.
            let expected = if counted.is_quiet { appended } else { tally.settled };
            if are_many_refused && held < expected {
                is_lacking = true;
                let problem = format!(
                    "{sink} has {held} of the {expected} rows of {table} that were read: {refused} are parked as dead letters, too \
                     many for their own content to be at fault"
                );
                judged.problems.push(Remark::new(problem, NextStep::ListLetters));
            } else if held + explained < expected {
                let problem = format!("{sink} has {held} of the {expected} rows of {table} that were read");
                judged.problems.push(Remark::new(problem, NextStep::Reconcile { table }));
            } else if !is_quiet {
                // What was applied may not be remembered yet.
            } else if sink == self.sinks[1] && is_level[0] && held > appended.max(tally.entities) {
                // While the store is filled anew it can't tell. An erasure that was not complete, another setup's documents, or what somebody wrote by hand.
                let surplus = held - appended.max(tally.entities);
                if is_settled || surplus > changed_lately {
                    let problem =
                        format!("{sink} has {surplus} rows of {table} that nobody read, or that were erased");
                    judged.problems.push(Remark::new(problem, NextStep::Reconcile { table }));
                } else {
                    // What was removed may be counted still.
                    let problem = format!(
                        "{sink} has {surplus} rows of {table} more than there are to be, which may be of the run that just ended, or \
                         of somebody who was erased"
                    );
                    judged.warnings.push(Remark::new(problem, "ask again in some seconds"));
                }
            } else if is_settled && held > appended {
                let surplus = held - appended;
                let since = self.read_since();
                let problem = format!("{sink} has {surplus} rows of {table} that no sync read{since}");
                judged.warnings.push(Remark::new(problem, NextStep::Reconcile { table }));
            }
        }
        if are_many_refused && !is_lacking {
            let problem = format!(
                "{refused} of the {appended} rows of {} that were read are parked as dead letters, so that a sink has older \
                 versions of them at best: too many for their own content to be at fault",
                self.table
            );
            judged.problems.push(Remark::new(problem, NextStep::ListLetters));
        }
    }
}

/// That a table was not reconciled lately, of which all rows are synced by a schedule of this `age`.
fn unreconciled(table: &str, age: TimeDelta, last: Option<&LastReconciliation>) -> Option<String> {
    match last {
        None => (age > RECONCILED_WITHIN).then(|| {
            format!("{table} has had a schedule for {} hours and was never reconciled", age.num_hours())
        }),
        Some(LastReconciliation { succeeded_seconds_ago: Some(seconds), .. }) => (*seconds
            > RECONCILED_WITHIN.num_seconds())
        .then(|| format!("{table} was reconciled {} hours ago, not last night", seconds / 3600)),
        // That it failed is among the problems; one whose time is still to come succeeded.
        Some(LastReconciliation { outcome: SyncState::Failed | SyncState::Succeeded, .. }) => None,
        Some(last) => Some(format!("no reconciliation of {table} succeeded yet; the last: {}", last.told())),
    }
}

/// What is to be said where the source shows so few of the rows that were read from it before that more than deletions
/// are behind it.
pub(super) fn blindness(table: Table, source: u64, appended: u64, limits: DeleteLimits) -> Option<Remark> {
    let missing = appended.checked_sub(source)?;
    (missing > limits.allowed(Reconciliation::default(), appended, source)).then(|| {
        Remark::new(
            format!(
                "the source shows {source} rows of {table}, and {appended} were read from it before: a key that row-level \
                 security keeps from seeing the others looks like this, and so does a restored or emptied table, or one whose key \
                 was replaced here by another column"
            ),
            NextStep::Reconcile { table: table.name().to_owned() },
        )
    })
}

/// Whether a run read every row of its table.
pub(super) fn has_read_whole(sync: &SyncRecord) -> bool {
    let request = &sync.request;
    let is_whole = request.hours_ago >= MAX_HOURS && request.conditions.is_empty() && request.since.is_none();
    sync.state == SyncState::Succeeded && (request.reconcile.is_some() || is_whole && !sync.progress.more)
}

/// How many rows of a sink a run may have changed.
fn changes(sync: &SyncRecord) -> u64 {
    sync.progress.appended + sync.progress.reconcile.as_ref().map_or(0, |report| report.deleted)
}

fn are_many(refused: u64, rows: u64) -> bool {
    refused >= MANY_REFUSED && refused * 10 >= rows
}

/// When what a run tells of a table was true.
fn true_at(sync: &SyncRecord) -> DateTime<Utc> {
    let resumed_from = sync.progress.reconcile.as_ref().and_then(|report| report.resumed_from);
    resumed_from.or(sync.finished_at).unwrap_or(sync.started_at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{Catalog, Definition},
        store::{ReconcileReport, Schedule, SyncRequest},
    };

    fn leads() -> Table {
        Catalog::built_in().get("leads").expect("leads")
    }

    fn sync(state: SyncState, minutes_ago: i64, reconcile: Option<Reconciliation>) -> SyncRecord {
        let started_at = Utc::now() - TimeDelta::minutes(minutes_ago);
        SyncRecord {
            id: Uuid::now_v7(),
            request: SyncRequest {
                table: leads().into(),
                hours_ago: 24,
                limit: 100,
                conditions: Vec::new(),
                resume: false,
                reappend: false,
                reconcile,
                since: None,
            },
            state,
            progress: SyncProgress::default(),
            log: "l".to_owned(),
            owner: "o".to_owned(),
            started_at,
            finished_at: Some(started_at),
            error: (state == SyncState::Failed).then(|| "supabase: no".to_owned()),
            cancel_requested: false,
            drained: false,
        }
    }

    /// Rows at the source, in the store, in the index, read, and changed since the last sync.
    fn counted([source, store, index, appended, changed]: [u64; 5]) -> Counted {
        Counted {
            at: Utc::now(),
            source: Ok(Some(source)),
            store: Ok(Tally {
                entities: store,
                appended,
                settled: appended,
                parked: 0,
                refused: 0,
                explained: [0; 2],
                unusable: 0,
                erased: 0,
                last_erasure: None,
            }),
            index: Ok(index),
            is_level: [true; 2],
            is_quiet: true,
            changed_since: Some(changed),
            is_moved: false,
        }
    }

    fn facts<'a>(counted: &'a Counted, syncs: &'a [SyncRecord]) -> Facts<'a> {
        Facts {
            table: leads(),
            counted: Some(counted),
            syncs: Some(syncs),
            schedule: None,
            log: Some("l"),
            lags: [Some(0), Some(0)],
            sinks: ["postgres", "elasticsearch"],
            reconcile: ReconcileSettings {
                deletes: DeleteLimits { rows: 10, percent: 10 },
                rows_per_second: None,
                stalled_after: Duration::from_mins(1),
                hour: Some(3),
            },
            now: Utc::now(),
        }
    }

    fn judged(counted: &Counted, syncs: &[SyncRecord]) -> Judged {
        facts(counted, syncs).judge()
    }

    fn problems(counts: [u64; 5]) -> Vec<String> {
        let judged = judged(&counted(counts), &[sync(SyncState::Succeeded, 5, None)]);
        judged.problems.iter().chain(&judged.unread).map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_that_no_night_reconciled_is_told_of_where_it_is_to_be_reconciled_each_night() {
        let syncs = [sync(SyncState::Succeeded, 5, None)];
        let schedule = ScheduleStatus::from(Schedule {
            request: syncs[0].request.clone(),
            every: Duration::from_hours(1),
            created_by: "ana".to_owned(),
            age: TimeDelta::hours(37),
            next_due_at: Utc::now(),
            late: TimeDelta::zero(),
            claimed_by: None,
            claim: None,
            last_run: None,
            last_success_at: None,
        });
        let counted = counted([50, 50, 50, 50, 0]);
        let told = |hour, schedule| {
            let facts = facts(&counted, &syncs);
            let reconcile = ReconcileSettings { hour, ..facts.reconcile };
            let judged = Facts { schedule, reconcile, ..facts }.judge();
            judged.unreconciled.and_then(|remark| remark.next_step)
        };
        let step = NextStep::Reconcile { table: "leads".to_owned() };
        assert_eq!(told(Some(3), Some(&schedule)), Some(step));
        assert_eq!((told(None, Some(&schedule)), told(Some(3), None)), (None, None));
    }

    #[test]
    fn a_table_that_no_night_reconciled_is_told_of_once_its_schedule_is_old_enough() {
        let told = |hours, last: Option<(SyncState, Option<i64>)>| {
            let last = last.map(|(outcome, succeeded)| LastReconciliation {
                outcome,
                seconds_ago: Some(60),
                unexplained: None,
                succeeded_seconds_ago: succeeded.map(|hours| hours * 3600),
            });
            unreconciled("leads", TimeDelta::hours(hours), last.as_ref()).is_some()
        };
        assert!(told(37, None) && !told(36, None));
        let succeeded = |hours| Some((SyncState::Succeeded, Some(hours)));
        assert!(told(99, succeeded(37)) && !told(99, succeeded(35)));
        assert!(told(1, Some((SyncState::Interrupted, None))));
        assert!(!told(99, Some((SyncState::Failed, None))), "it is among the problems");
        assert!(!told(99, Some((SyncState::Succeeded, None))), "its clock was ahead");
    }

    #[test]
    fn what_is_missing_is_told_while_syncs_come_one_after_the_other_but_for_what_they_brought_lately() {
        let just_now = [sync(SyncState::Succeeded, 0, None)];
        let told = |settled| {
            let mut counted = counted([50, 40, 50, 50, 0]);
            counted.store.as_mut().expect("counted").settled = settled;
            counted.is_quiet = false;
            judged(&counted, &just_now).problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(40), Vec::<String>::new());
        assert!(told(41)[0].starts_with("postgres has 40 of the 41 rows of leads"), "{:?}", told(41));
    }

    #[test]
    fn a_sink_that_lacks_much_of_a_table_is_not_well_although_letters_tell_why() {
        let told = |parked| {
            let mut counted = counted([100, 100, 100 - parked, 100, 0]);
            let tally = counted.store.as_mut().expect("counted");
            (tally.parked, tally.refused, tally.explained) = (parked, parked, [0, parked]);
            let judged = judged(&counted, &[sync(SyncState::Succeeded, 5, None)]);
            judged.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(9), Vec::<String>::new());
        assert_eq!(told(10).len(), 1);
        assert!(
            told(10)[0]
                .starts_with("elasticsearch has 90 of the 100 rows of leads that were read: 10 are parked")
        );
    }

    #[test]
    fn a_letter_of_one_sink_explains_nothing_that_the_other_lacks() {
        let told = |explained| {
            let mut counted = counted([100, 97, 100, 100, 0]);
            let tally = counted.store.as_mut().expect("counted");
            (tally.parked, tally.refused, tally.explained) = (3, 3, explained);
            let judged = judged(&counted, &[sync(SyncState::Succeeded, 5, None)]);
            judged.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told([3, 0]), Vec::<String>::new());
        assert!(told([0, 3])[0].starts_with("postgres has 97 of the 100 rows"), "{:?}", told([0, 3]));
    }

    #[test]
    fn a_sink_is_not_blamed_for_what_is_parked_while_rows_are_on_their_way_to_it() {
        let mut counted = counted([100, 90, 99, 100, 0]);
        counted.is_quiet = false;
        let tally = counted.store.as_mut().expect("counted");
        (tally.parked, tally.refused, tally.settled) = (10, 10, 99);
        let judged = judged(&counted, &[sync(SyncState::Succeeded, 0, None)]);
        let problems: Vec<String> = judged.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("postgres has 90 of the 99 rows"), "{problems:?}");
    }

    #[test]
    fn many_rows_whose_new_versions_a_sink_refused_are_a_problem_although_it_has_older_ones() {
        let told = |refused, parked| {
            let mut counted = counted([100, 100, 100, 100, 0]);
            let tally = counted.store.as_mut().expect("counted");
            (tally.parked, tally.refused) = (parked, refused);
            let judged = judged(&counted, &[sync(SyncState::Succeeded, 5, None)]);
            judged.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(9, 9), Vec::<String>::new());
        assert_eq!(told(0, 40), Vec::<String>::new(), "rows that became no event are told elsewhere");
        assert!(told(10, 10)[0].starts_with("10 of the 100 rows of leads that were read are parked"));
    }

    #[test]
    fn a_table_of_which_all_is_there_has_no_problem_and_new_rows_are_none() {
        assert_eq!(problems([50, 50, 50, 50, 0]), Vec::<String>::new());
        assert_eq!(problems([55, 50, 50, 50, 7]), Vec::<String>::new(), "they came since the last sync");
        assert_eq!(problems([48, 50, 50, 50, 0]), Vec::<String>::new(), "a few may have been deleted");
    }

    #[test]
    fn no_more_unread_rows_than_were_erased_are_a_warning_and_one_more_is_a_problem() {
        for (source, problems, warnings) in [(52, 0, 1), (53, 1, 0)] {
            let mut counted = counted([source, 50, 50, 50, 0]);
            counted.store = Ok(Tally {
                entities: 50,
                appended: 50,
                settled: 50,
                parked: 0,
                refused: 0,
                explained: [0; 2],
                unusable: 0,
                erased: 2,
                last_erasure: None,
            });
            let judged = judged(&counted, &[sync(SyncState::Succeeded, 5, None)]);
            let told = judged.problems.len() + usize::from(judged.unread.is_some());
            assert_eq!((told, judged.warnings.len()), (problems, warnings), "{source}");
            assert_eq!(judged.status.unread, Some(source - 50));
        }
    }

    #[test]
    fn rows_without_a_usable_key_are_told_as_what_they_are_and_hide_no_other() {
        let counted = |source| Counted {
            store: Ok(Tally {
                entities: 50,
                appended: 50,
                settled: 50,
                parked: 2,
                refused: 0,
                explained: [0; 2],
                unusable: 1,
                erased: 0,
                last_erasure: None,
            }),
            ..counted([source, 50, 50, 50, 0])
        };
        let mut read = sync(SyncState::Succeeded, 5, None);
        read.progress.without_key = 1;
        let mut proven = sync(SyncState::Succeeded, 3, Some(Reconciliation::default()));
        proven.progress.without_key = 1;
        proven.progress.reconcile = Some(ReconcileReport { unkeyed: 2, ..ReconcileReport::default() });
        let told = |source, syncs: &[SyncRecord]| {
            let judged = judged(&counted(source), syncs);
            assert_eq!(judged.warnings.len(), 1, "{judged:?}");
            (judged.warnings[0].to_string(), judged.unread.is_some(), judged.status.unread)
        };
        let (warning, is_problem, unread) = told(52, std::slice::from_ref(&read));
        assert!(
            warning.contains("2 have no usable key, as dead letters tell; a reconciliation"),
            "{warning}"
        );
        assert_eq!((is_problem, unread), (false, Some(0)));
        let both = [read, proven];
        let (warning, is_problem, unread) = told(52, &both);
        assert!(warning.contains("2 rows of leads have no usable key: no event can be made"), "{warning}");
        assert_eq!((is_problem, unread), (false, Some(0)));
        assert_eq!((told(53, &both).1, told(53, &both).2), (true, Some(1)), "one more is another");
    }

    #[test]
    fn rows_that_share_a_key_or_were_erased_are_told_as_that_and_hide_no_other() {
        let mut proven = sync(SyncState::Succeeded, 9, Some(Reconciliation::default()));
        (proven.progress.shared_keys, proven.progress.erased) = (1, 4);
        let told = |source, erased| {
            let mut counted = counted([source, 50, 50, 50, 0]);
            counted.store.as_mut().expect("counted").erased = erased;
            let syncs = [proven.clone(), sync(SyncState::Succeeded, 5, None)];
            let judged = judged(&counted, &syncs);
            let warnings: Vec<String> = judged.warnings.iter().map(ToString::to_string).collect();
            (warnings.join("\n"), judged.unread.is_some(), judged.status.unread)
        };
        let (warnings, is_problem, unread) = told(55, 4);
        assert!(
            warnings.contains("1 rows of leads at the source have the key of another row: id is"),
            "{warnings}"
        );
        assert!(warnings.contains("4 rows of leads at the source are of erased entities"), "{warnings}");
        assert_eq!((is_problem, unread), (false, Some(0)));
        assert_eq!((told(56, 4).1, told(56, 4).2), (true, Some(1)), "one more is another");
        assert_eq!(told(50, 4), (String::new(), false, Some(0)), "they were deleted since");
        assert_eq!((told(55, 0).1, told(55, 0).2), (true, Some(4)), "nobody is erased any more");
    }

    #[test]
    fn what_a_reconciliation_counted_long_ago_hides_no_row_that_came_since() {
        let told = |hours: i64| {
            let mut proven = sync(SyncState::Succeeded, hours * 60, Some(Reconciliation::default()));
            (proven.progress.shared_keys, proven.progress.erased) = (3, 2);
            proven.progress.reconcile = Some(ReconcileReport { unkeyed: 1, ..ReconcileReport::default() });
            let mut counted = counted([56, 50, 50, 50, 0]);
            let tally = counted.store.as_mut().expect("counted");
            (tally.erased, tally.unusable) = (2, 1);
            let judged = judged(&counted, &[proven, sync(SyncState::Succeeded, 5, None)]);
            (judged.status.unread, judged.unread.and_then(|remark| remark.next_step))
        };
        assert_eq!(told(35), (Some(0), None));
        let reconcile = NextStep::Reconcile { table: "leads".to_owned() };
        assert_eq!(told(37), (Some(5), Some(reconcile)), "a sync of the whole table counts fewer of them");
    }

    #[test]
    fn erasures_that_a_reconciliation_did_not_meet_at_the_source_explain_no_row_there() {
        let told = |minutes_ago| {
            let mut counted = counted([52, 50, 50, 50, 0]);
            let tally = counted.store.as_mut().expect("counted");
            tally.erased = 2;
            tally.last_erasure = Some(Utc::now() - TimeDelta::minutes(minutes_ago));
            let proven = sync(SyncState::Succeeded, 60, Some(Reconciliation::default()));
            judged(&counted, &[proven, sync(SyncState::Succeeded, 5, None)]).unread.is_some()
        };
        assert!(!told(59), "the reconciliation may have begun before");
        assert!(told(61));
    }

    #[test]
    fn many_rows_without_a_usable_key_are_a_problem_though_the_sinks_hold_as_many_of_other_keys() {
        let told = |unusable, parked| {
            let mut counted = counted([20, 20, 20, 20, 0]);
            let tally = counted.store.as_mut().expect("counted");
            (tally.unusable, tally.parked) = (unusable, parked);
            let judged = judged(&counted, &[sync(SyncState::Succeeded, 5, None)]);
            assert!(judged.problems.iter().all(|remark| !remark.problem.contains("  ")), "one line");
            judged.problems.iter().any(|remark| remark.problem.contains("no usable key"))
        };
        assert!(told(20, 20) && told(8, 9));
        assert!(!told(7, 7), "each may be at fault itself");
        assert!(!told(20, 0), "somebody discarded the letters");
    }

    #[test]
    fn rows_that_a_sync_of_the_whole_table_missed_are_found_by_a_reconciliation() {
        let mut whole = sync(SyncState::Succeeded, 5, None);
        whole.request.hours_ago = MAX_HOURS;
        let step = |whole: &SyncRecord| {
            let judged = judged(&counted([51, 50, 50, 50, 0]), std::slice::from_ref(whole));
            judged.unread.and_then(|remark| remark.next_step)
        };
        assert_eq!(step(&whole), Some(NextStep::Reconcile { table: "leads".to_owned() }));
        whole.progress.more = true;
        assert_eq!(step(&whole), Some(NextStep::SyncWhole { table: "leads".to_owned() }));
    }

    #[test]
    fn a_row_of_a_table_without_times_that_a_letter_tells_of_did_not_come_since() {
        let text = "name = 'so_id'\nabout = 'x'\nentity = 'so_id'\nkey = { column = 'id', type = 'text' }\n\
                    event = { categoria = 'c', evento = 'e' }\n";
        let definition = Definition::parse(text).expect("a definition");
        let catalog = Catalog::of(vec![definition], chrono_tz::Tz::UTC);
        let table = catalog.get("so_id").expect("so_id");
        let mut read = sync(SyncState::Succeeded, 5, None);
        read.request.table = table.into();
        let told = |source| {
            let mut counted = counted([source, 2, 2, 2, 0]);
            let tally = counted.store.as_mut().expect("counted");
            (tally.parked, tally.unusable) = (1, 1);
            let judged = Facts { table, ..facts(&counted, std::slice::from_ref(&read)) }.judge();
            let warnings: Vec<String> = judged.warnings.iter().map(ToString::to_string).collect();
            (judged.status.unread, warnings.join("\n"))
        };
        let (unread, warnings) = told(3);
        assert_eq!(unread, Some(0));
        assert!(warnings.contains("1 have no usable key") && !warnings.contains("came since"), "{warnings}");
        assert_eq!(told(4).0, Some(1));
    }

    #[test]
    fn a_sync_into_a_log_that_is_gone_read_nothing_for_the_log_of_now() {
        let counted = counted([60, 60, 60, 50, 0]);
        let mut sync = sync(SyncState::Succeeded, 60, None);
        sync.request.hours_ago = MAX_HOURS;
        let told = |log| {
            let judged = Facts { log, ..facts(&counted, std::slice::from_ref(&sync)) }.judge();
            let remarks = judged.unread.into_iter().chain(judged.warnings);
            remarks.map(|remark| remark.problem).collect::<Vec<_>>().join("\n")
        };
        let same = told(Some("l"));
        assert!(same.contains("although the whole table was read"), "{same}");
        assert!(!same.contains("made anew"), "{same}");
        let other = told(Some("m"));
        assert!(other.contains("were read by no sync since the log was made anew"), "{other}");
        assert!(other.contains("that no sync read since the log was made anew"), "{other}");
    }

    #[test]
    fn rows_that_are_missing_anywhere_are_a_problem_with_what_to_do() {
        for (counts, told) in [
            ([60, 50, 50, 50, 4], "6 of 60 rows of leads at the source were read by no sync"),
            ([50, 41, 50, 50, 0], "postgres has 41 of the 50 rows of leads that were read; reconcile"),
            ([50, 50, 0, 50, 0], "elasticsearch has 0 of the 50 rows"),
            ([50, 50, 53, 50, 0], "elasticsearch has 3 rows of leads that nobody read, or that were erased"),
            ([20, 50, 50, 50, 0], "the source shows 20 rows of leads, and 50 were read from it before"),
            ([0, 5, 5, 5, 0], "the source shows 0 rows of leads, and 5 were read from it before"),
        ] {
            let problems = problems(counts);
            assert!(problems.len() == 1 && problems[0].contains(told), "{counts:?}: {problems:?}");
        }
    }

    #[test]
    fn what_only_the_index_has_is_a_problem_right_after_a_sync_unless_the_sync_may_explain_it() {
        let told = |appended, deleted| {
            let mut just_now = sync(SyncState::Succeeded, 0, None);
            just_now.progress.appended = appended;
            just_now.progress.reconcile =
                (deleted > 0).then(|| ReconcileReport { deleted, ..ReconcileReport::default() });
            let judged = judged(&counted([50, 50, 52, 50, 0]), &[just_now]);
            let is_told = |remarks: &[Remark]| {
                remarks.iter().any(|one| one.problem.starts_with("elasticsearch has 2 rows of leads"))
            };
            [is_told(&judged.problems), is_told(&judged.warnings)]
        };
        assert_eq!([told(0, 0), told(1, 0)], [[true, false]; 2], "it brought less");
        assert_eq!(
            [told(2, 0), told(0, 2)],
            [[false, true]; 2],
            "it may be of the sync, and is not passed over"
        );
    }

    #[test]
    fn while_the_store_is_filled_anew_the_index_has_nothing_that_nobody_read() {
        let refilled = Counted { is_level: [false, true], ..counted([20, 0, 20, 0, 0]) };
        let told = judged(&refilled, &[sync(SyncState::Succeeded, 5, None)]);
        assert_eq!(told.problems, [], "{told:?}");
        assert!(told.warnings.iter().any(|one| one.problem.contains("that no sync read")), "{told:?}");
    }

    #[test]
    fn of_a_table_that_is_read_from_elsewhere_nothing_is_known_until_it_is_synced() {
        let moved = Counted { is_moved: true, ..counted([50, 50, 50, 50, 0]) };
        let told = judged(&moved, &[sync(SyncState::Succeeded, 5, None)]);
        assert_eq!((told.status.unread, told.problems.len()), (None, 1), "{told:?}");
    }

    #[test]
    fn a_sync_of_a_clock_that_was_ahead_is_told_of_until_there_is_another() {
        let ahead = sync(SyncState::Succeeded, -180, None);
        let told = judged(&counted([50, 50, 50, 50, 0]), std::slice::from_ref(&ahead));
        assert_eq!(told.status.synced_seconds_ago, None);
        assert!(told.warnings.iter().any(|warning| warning.problem.contains("is still to come")), "{told:?}");
        let told = judged(&counted([50, 50, 50, 50, 0]), &[ahead, sync(SyncState::Succeeded, 5, None)]);
        assert_eq!((told.status.synced_seconds_ago, told.warnings.len()), (Some(300), 0));
    }

    #[test]
    fn a_reconciliation_of_a_clock_that_was_ahead_has_no_age_and_hides_none_that_came_after_it() {
        let ahead = sync(SyncState::Succeeded, -180, Some(Reconciliation::default()));
        let all_there = counted([50, 50, 50, 50, 0]);
        let told = judged(&all_there, std::slice::from_ref(&ahead));
        let last = told.status.reconciled.expect("a reconciliation");
        assert_eq!((last.seconds_ago, last.succeeded_seconds_ago), (None, None));
        let is_told =
            |warning: &Remark| warning.problem.contains("the last reconciliation of leads ended at");
        assert!(told.warnings.iter().any(is_told), "{:?}", told.warnings);

        let failed = sync(SyncState::Failed, 5, Some(Reconciliation::default()));
        let told = judged(&all_there, &[ahead, failed]);
        let last = told.status.reconciled.expect("a reconciliation");
        assert_eq!((last.outcome, last.seconds_ago), (SyncState::Failed, Some(300)));
        assert_eq!(last.succeeded_seconds_ago, None, "nobody knows when");
        assert_eq!(told.problems.len(), 1, "{:?}", told.problems);
    }

    #[test]
    fn what_can_not_be_counted_is_unknown_and_told() {
        let uncounted = Counted { source: Ok(None), ..counted([1, 50, 50, 50, 0]) };
        let told = judged(&uncounted, &[sync(SyncState::Succeeded, 5, None)]);
        assert_eq!((told.status.source, told.status.unread), (None, None));
        assert!(told.warnings[0].problem.contains("can't count leads in time"), "{told:?}");
        let down = Counted {
            index: Err(Fault::transient("elasticsearch", "down", "start it")),
            ..counted([50, 50, 0, 50, 0])
        };
        let told = judged(&down, &[sync(SyncState::Succeeded, 5, None)]);
        assert_eq!((told.status.index, told.faults.len(), told.problems.len()), (None, 1, 0));
    }

    #[test]
    fn a_reconciliation_that_did_not_reach_its_end_proves_nothing_and_the_last_that_did_is_told_beside() {
        let proven = sync(SyncState::Succeeded, 90, Some(Reconciliation::default()));
        for state in [SyncState::Cancelled, SyncState::Interrupted] {
            let last = sync(state, 5, Some(Reconciliation::default()));
            let told = judged(&counted([50, 50, 50, 50, 0]), &[proven.clone(), last]);
            let expected = LastReconciliation {
                outcome: state,
                seconds_ago: Some(300),
                unexplained: None,
                succeeded_seconds_ago: Some(5_400),
            };
            assert_eq!(told.status.reconciled, Some(expected), "{told:?}");
            assert!(told.warnings.iter().any(|one| one.problem.contains("last reconciliation")), "{told:?}");
        }
    }

    #[test]
    fn a_reconciliation_that_asks_for_deletions_is_advised_with_them_until_one_succeeds() {
        let report = ReconcileReport { gone: 40, deleted: 10, ..ReconcileReport::default() };
        let mut asking = sync(SyncState::Failed, 5, Some(Reconciliation::default()));
        asking.progress.reconcile = Some(report);
        let advised = |counts, syncs: &[SyncRecord]| {
            let Judged { problems, warnings, .. } = judged(&counted(counts), syncs);
            let steps = problems.into_iter().chain(warnings).filter_map(|remark| remark.next_step);
            steps.collect::<Vec<_>>()
        };
        let read = sync(SyncState::Succeeded, 9, None);
        let allow = NextStep::AllowDeletes { table: "leads".to_owned(), rows: 30 };
        for counts in [[10, 50, 50, 50, 0], [48, 50, 50, 50, 0], [50, 41, 50, 50, 0]] {
            assert_eq!(
                advised(counts, &[read.clone(), asking.clone()]),
                std::slice::from_ref(&allow),
                "{counts:?}"
            );
        }
        let proven = sync(SyncState::Succeeded, 1, Some(Reconciliation::default()));
        let plain = NextStep::Reconcile { table: "leads".to_owned() };
        assert_eq!(advised([10, 50, 50, 50, 0], &[read, asking, proven]), [plain]);
    }

    #[test]
    fn the_last_sync_and_the_last_reconciliation_are_told_once_each() {
        let all_there = counted([50, 50, 50, 50, 0]);
        let failed = sync(SyncState::Failed, 1, Some(Reconciliation::default()));
        let told = judged(&all_there, &[sync(SyncState::Succeeded, 5, None), failed]);
        let problems: Vec<&str> = told.problems.iter().map(|remark| remark.problem.as_str()).collect();
        assert_eq!(problems, ["the last reconciliation of leads failed: supabase: no"]);
        assert_eq!(told.status.reconciled.map(|last| last.outcome), Some(SyncState::Failed));
        assert_eq!(told.status.synced_seconds_ago, Some(300));
    }
}
