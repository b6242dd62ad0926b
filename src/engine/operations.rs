//! What the doctor finds of operations: a store fit to be written, pauses, open dead letters, schedules.

use super::{Engine, Finding, Outcome, ScheduleStatus, status::within};
use crate::{
    fault::Fault,
    store::{AccessWarning, QuestionAccess, StoreFacts},
};

impl Engine {
    /// Changes nothing, so a store that was never migrated is a finding.
    pub(super) async fn examine_operations(&self) -> Vec<Finding> {
        let part = self.store.name();
        let mut findings = match within(part, self.store.facts()).await {
            Ok(facts) => store_findings(part, &facts),
            Err(fault) => return vec![Finding::failed(part, "writable and migrated", fault)],
        };
        match within(part, self.store.question_access()).await {
            Ok(access) => {
                findings.extend(access.into_iter().flat_map(|access| access_findings(part, access)));
            }
            Err(fault) => findings.push(Finding::failed(part, "questions", fault)),
        }
        let (letters, pauses, schedules, elsewhere) = tokio::join!(
            within(self.log.name(), self.count_open_letters()),
            within(part, self.known_pauses()),
            within(part, self.store.schedules()),
            within(part, self.drains_elsewhere()),
        );
        findings.push(match letters {
            Ok(0) => Finding::ok(self.log.name(), "dead letters", "none open"),
            Ok(letters) => Finding::warning(
                self.log.name(),
                "dead letters",
                format!("{letters} open in {}", self.dead_letter_topic()),
                "list_dead_letters shows why; mend the cause, then replay_dead_letters or discard_dead_letters",
            ),
            Err(fault) => Finding::failed(self.log.name(), "dead letters", fault),
        });
        match pauses {
            Ok(pauses) => findings.extend(pauses.iter().map(|pause| {
                let since = pause.since.format("%Y-%m-%dT%H:%M:%SZ");
                let detail = format!("by {} since {since}", pause.paused_by);
                Finding::warning(
                    &pause.sink,
                    "paused",
                    detail,
                    "call resume_sink once it may be drained again",
                )
            })),
            Err(fault) => findings.push(Finding::failed(part, "pauses", fault)),
        }
        let failing = elsewhere.into_iter().flatten();
        findings.extend(failing.filter_map(|drain| {
            let problem = drain.problem()?;
            let next_step = "mend what the error names; the drain tries again by itself".to_owned();
            Some(Finding::new(&drain.sink, "drained elsewhere", Outcome::Failed, problem, Some(next_step)))
        }));
        findings.extend(schedule_findings(
            schedules.map(|schedules| schedules.into_iter().map(ScheduleStatus::from).collect()),
        ));
        findings
    }
}

fn store_findings(part: &str, facts: &StoreFacts) -> Vec<Finding> {
    let writable = match &facts.unwritable {
        None => Finding::ok(part, "writable", "this user may write every table"),
        Some(reason) => {
            let step =
                "connect to the primary, as a user that owns the tables or was granted INSERT and UPDATE";
            Finding::new(part, "writable", Outcome::Failed, reason.clone(), Some(step.to_owned()))
        }
    };
    let migrated = match facts.pending_migrations {
        0 => Finding::ok(part, "migrated", "every migration of this release was run"),
        pending => Finding::warning(
            part,
            "migrated",
            format!("{pending} migrations of this release were not run"),
            "run `sluice migrate`; a worker does so when it starts",
        ),
    };
    vec![writable, migrated]
}

fn access_findings(part: &str, access: QuestionAccess) -> Vec<Finding> {
    let mut findings: Vec<Finding> = access
        .warnings
        .into_iter()
        .map(|AccessWarning { about, problem, next_step }| Finding::warning(part, about, problem, &next_step))
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

fn schedule_findings(schedules: Result<Vec<ScheduleStatus>, Fault>) -> Vec<Finding> {
    const PART: &str = "schedules";
    match schedules {
        Err(fault) => vec![Finding::failed(PART, "last runs", fault)],
        Ok(schedules) => schedules
            .iter()
            .map(|schedule| match schedule.failure() {
                Some(failure) => Finding::new(
                    PART,
                    &schedule.table,
                    Outcome::Failed,
                    failure,
                    Some("mend the cause; the next run makes up for it".to_owned()),
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
