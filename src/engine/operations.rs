//! What doctor makes of what it was told of operations: a store fit to be written, pauses, open dead letters, schedules.

use super::{Finding, Outcome, ScheduleStatus, SinkPause};
use crate::{
    fault::Fault,
    next_step::NextStep,
    store::{AccessWarning, QuestionAccess, Schedule, StoreFacts},
};

pub(super) fn store_findings(part: &str, facts: &StoreFacts) -> Vec<Finding> {
    let writable = match &facts.unwritable {
        None => Finding::ok(part, "writable", "this user may write every table"),
        Some(reason) => {
            let step =
                "connect to the primary, as a user that owns the tables or was granted INSERT and UPDATE";
            Finding::new(part, "writable", Outcome::Failed, reason.clone(), Some(step.into()))
        }
    };
    let migrated = match facts.pending_migrations {
        0 => Finding::ok(part, "migrated", "every migration of this release was run"),
        pending => Finding::warning(
            part,
            "migrated",
            format!("{pending} migrations of this release were not run"),
            NextStep::Migrate,
        ),
    };
    vec![writable, migrated]
}

pub(super) fn access_findings(part: &str, access: QuestionAccess) -> Vec<Finding> {
    let mut findings: Vec<Finding> = access
        .warnings
        .into_iter()
        .map(|AccessWarning { about, problem, next_step }| Finding::warning(part, about, problem, next_step))
        .collect();
    match access.refused {
        Some(fault) => findings.push(Finding::failed(part, "questions", fault)),
        None if findings.iter().all(|finding| finding.check != "questions") => {
            findings.push(Finding::ok(part, "questions", access.summary));
        }
        None => {}
    }
    findings
}

pub(super) fn letters_finding(part: &str, topic: &str, open: Result<u64, Fault>) -> Finding {
    match open {
        Ok(0) => Finding::ok(part, "dead letters", "none open"),
        Ok(letters) => Finding::warning(
            part,
            "dead letters",
            format!("{letters} open in {topic}"),
            NextStep::SettleLetters,
        ),
        Err(fault) => Finding::failed(part, "dead letters", fault),
    }
}

pub(super) fn pause_findings(part: &str, pauses: Result<Vec<SinkPause>, Fault>) -> Vec<Finding> {
    match pauses {
        Ok(pauses) => pauses
            .iter()
            .map(|pause| {
                let since = pause.since.format("%Y-%m-%dT%H:%M:%SZ");
                let detail = format!("by {} since {since}", pause.paused_by);
                let resume = NextStep::ResumeSink { sink: pause.sink.clone() };
                Finding::warning(&pause.sink, "paused", detail, resume)
            })
            .collect(),
        Err(fault) => vec![Finding::failed(part, "pauses", fault)],
    }
}

pub(super) fn schedule_findings(schedules: Result<Vec<Schedule>, Fault>) -> Vec<Finding> {
    const PART: &str = "schedules";
    match schedules {
        Err(fault) => vec![Finding::failed(PART, "last runs", fault)],
        Ok(schedules) => schedules
            .into_iter()
            .map(ScheduleStatus::from)
            .map(|schedule| match schedule.failure() {
                Some(failure) => Finding::warning(
                    PART,
                    &schedule.table,
                    failure,
                    "mend the cause; the next run makes up for it",
                ),
                None => {
                    let every = format!("every {} minutes", schedule.every_minutes);
                    Finding::ok(PART, &schedule.table, every)
                }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_can_not_be_written_fails_and_one_that_is_behind_is_warned_about() {
        let outcomes =
            |facts| store_findings("postgres", &facts).iter().map(|f| f.outcome).collect::<Vec<_>>();
        let well = StoreFacts { unwritable: None, pending_migrations: 0 };
        assert_eq!(outcomes(well), [Outcome::Ok, Outcome::Ok]);
        let ill = StoreFacts { unwritable: Some("the server is a standby".into()), pending_migrations: 2 };
        assert_eq!(outcomes(ill), [Outcome::Failed, Outcome::Warning]);
    }
}
