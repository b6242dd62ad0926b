//! What doctor makes of what it was told of operations: a store fit to be written, pauses, open dead letters, schedules.

use std::path::Path;

use super::{
    DrainElsewhere, DrainReport, Finding, Outcome, ScheduleStatus, SinkPause,
    standing::{Standing, Standings},
    tables::Judged,
};
use crate::{
    fault::Fault,
    next_step::{NextStep, Remark},
    store::{AccessWarning, Notice, NoticeKind, QuestionAccess, StoreFacts, SyncState, lost_with},
    traces,
};

/// Whether spans arrive, where traces are on.
pub(super) async fn trace_findings() -> Vec<Finding> {
    const PART: &str = "traces";
    let collector = traces::examine().await.map(|examined| match examined {
        Ok(detail) => Finding::ok(PART, "collector", detail),
        Err((problem, advice)) => Finding::warning(PART, "collector", problem, advice),
    });
    let dropped: Vec<_> = traces::counts().into_iter().flat_map(|(_, dropped)| dropped).collect();
    let lost: u64 = dropped.iter().map(|(_, count)| count).sum();
    let reasons: Vec<String> = dropped
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(loss, count)| format!("{} {count}", loss.as_str()))
        .collect();
    let lost = (lost > 0).then(|| {
        let detail = format!("{lost} spans were lost since this process began: {}", reasons.join(", "));
        Finding::warning(
            PART,
            "spans",
            detail,
            "look at the first line that the log has of it; OTEL_TRACES_SAMPLER makes fewer",
        )
    });
    collector.into_iter().chain(lost).collect()
}

/// A file of settings that holds a secret and is not its owner's alone.
pub(super) fn open_file_finding(path: &Path) -> Finding {
    Finding::warning(
        "settings",
        "file",
        format!("others than its owner may read or change {}, and it holds a secret", path.display()),
        "run `chmod 600` on it; one that is kept for another user's program to read has that user's group and `chmod 640`",
    )
}

/// What was found replaced, cut or restored lately.
pub(super) fn notice_findings(part: &str, notices: Result<Vec<Notice>, Fault>) -> Vec<Finding> {
    match notices {
        Ok(notices) => {
            let finding = |notice: &Notice| {
                let check = notice.kind.as_str().replace('_', " ");
                Finding::warning(&notice.part, &check, notice.sentence(), next_step(notice))
            };
            notices.iter().map(finding).collect()
        }
        Err(fault) => vec![Finding::failed(part, "notices", fault)],
    }
}

fn next_step(notice: &Notice) -> &'static str {
    const ERASE_AGAIN: &str =
        "erase again whom you erased since the state that was restored; otherwise nothing, once the lag is 0";
    match notice.kind {
        NoticeKind::RecordsRemoved => {
            "nothing, once the tables were synced again; give the topic a retention.ms and a retention.bytes of -1"
        }
        NoticeKind::SinkReplaced if notice.is_of_store() => ERASE_AGAIN,
        NoticeKind::StoreWentBack => ERASE_AGAIN,
        NoticeKind::LogReplaced | NoticeKind::SinkReplaced | NoticeKind::LogCut => {
            "nothing, once the lag is 0; find out who did it if you did not"
        }
        NoticeKind::StoreIsNew => {
            "erase again whom you erased while another store was filled; otherwise nothing, once the lag is 0"
        }
        NoticeKind::SourceReplaced => {
            "nothing, once it was synced again; rows that are only where it was read from before stay until it is reconciled"
        }
        NoticeKind::TableDropped => "do what it says, if it says so; find out who dropped it if you did not",
    }
}

pub(super) fn store_findings(part: &str, facts: StoreFacts) -> Vec<Finding> {
    let StoreFacts { unfit, is_fresh, dropped, pending_migrations, refused, additions } = facts;
    let writable = match unfit {
        None => Finding::ok(part, "writable", "this user may write every table"),
        Some(fault) => Finding::failed(part, "writable", fault),
    };
    let migrated = match pending_migrations {
        _ if is_fresh => Finding::warning(part, "migrated", "nothing was made in it yet", NextStep::Migrate),
        _ if !dropped.is_empty() => {
            let ledger = dropped.iter().find(|table| table.starts_with("sluice_eras"));
            let lost = ledger.map(|table| format!(": {}", lost_with(table))).unwrap_or_default();
            let detail = format!("somebody dropped {}{lost}", dropped.join(", "));
            Finding::new(part, "migrated", Outcome::Failed, detail, Some(NextStep::Migrate))
        }
        0 => Finding::ok(part, "migrated", "every migration of this release was run"),
        pending => Finding::warning(
            part,
            "migrated",
            format!("{pending} migrations of this release were not run"),
            NextStep::Migrate,
        ),
    };
    let refused =
        refused.into_iter().map(|(table, fault)| Finding::failed(part, &format!("table {table}"), fault));
    let added = (!additions.is_empty()).then(|| {
        Finding::warning(
            part,
            "additions",
            format!("somebody added to the tables: {}", additions.join(", ")),
            "rows of events and entities that it keeps out are parked as dead letters, what it keeps out of sluice's own tables or the \
             rollup stops the drain, and what it changes of rows shows in no lag: drop it, unless it leaves every row as it is; then \
             replay the dead letters, by their ids also those that count as mended, and run \
             `sluice reconcile` for each table, which mends entities and tells of events that are missing",
        )
    });
    [writable, migrated].into_iter().chain(refused).chain(added).collect()
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

/// Letters that are gone though nobody settled them.
pub(super) fn lost_letter_findings(part: &str, lost: Result<Vec<Remark>, Fault>) -> Vec<Finding> {
    const CHECK: &str = "lost dead letters";
    let finding = |Remark { problem, next_step }: Remark| {
        Finding::new(part, CHECK, Outcome::Failed, problem, next_step)
    };
    match lost {
        Ok(lost) => lost.into_iter().map(finding).collect(),
        Err(fault) => vec![Finding::failed(part, CHECK, fault)],
    }
}

pub(super) fn pause_findings(part: &str, pauses: Result<Vec<SinkPause>, Fault>) -> Vec<Finding> {
    match pauses {
        Ok(pauses) => pauses
            .iter()
            .map(|pause| {
                let Remark { problem, .. } = pause.remark();
                let resume = NextStep::ResumeSink { sink: pause.sink.clone() };
                Finding::warning(&pause.sink, "paused", problem, resume)
            })
            .collect(),
        Err(fault) => vec![Finding::failed(part, "pauses", fault)],
    }
}

/// What a person does about a drain that fails.
const MEND: &str = "mend what the error names; the drain tries again by itself";

/// Drains of this process that do not do their work.
pub(super) fn drain_findings(drains: &[DrainReport]) -> Vec<Finding> {
    let ill = drains.iter().filter(|drain| !drain.is_well());
    ill.map(|drain| {
        Finding::new(&drain.sink, "drained here", Outcome::Failed, drain.problem(), Some(MEND.into()))
    })
    .collect()
}

/// Sinks that are behind and that no drain brings further. No part is broken by that: somebody paused a sink, or workers were
/// stopped to be replaced.
pub(super) fn unattended_findings(standings: &Standings) -> Vec<Finding> {
    let finding = |sink: &Standing| {
        let Remark { problem, next_step } = sink.unattended()?;
        Some(Finding::new(sink.sink, "up to date", Outcome::Warning, problem, next_step))
    };
    standings.sinks.iter().filter_map(finding).collect()
}

/// Drains of other processes that fail.
pub(super) fn elsewhere_findings(drains: &[DrainElsewhere]) -> Vec<Finding> {
    let finding = |drain: &DrainElsewhere| {
        let next_step = MEND.into();
        Some(Finding::new(
            &drain.sink,
            "drained elsewhere",
            Outcome::Failed,
            drain.problem()?,
            Some(next_step),
        ))
    };
    drains.iter().filter_map(finding).collect()
}

/// Alerts that are not told.
pub(super) fn alert_findings(problems: Result<Vec<Remark>, Fault>) -> Vec<Finding> {
    const PART: &str = "alerts";
    let finding = |Remark { problem, next_step }: Remark| {
        let mend = || "mend what it names; what waits is sent then".into();
        let step = Some(next_step.unwrap_or_else(mend));
        Finding::new(PART, "told", Outcome::Failed, problem, step)
    };
    match problems {
        Ok(problems) => problems.into_iter().map(finding).collect(),
        Err(fault) => vec![Finding::failed(PART, "told", fault)],
    }
}

pub(super) fn schedule_findings(schedules: Result<Vec<ScheduleStatus>, Fault>) -> Vec<Finding> {
    const PART: &str = "schedules";
    match schedules {
        Err(fault) => vec![Finding::failed(PART, "last runs", fault)],
        Ok(schedules) => schedules
            .into_iter()
            .map(|schedule| match schedule.problem() {
                Some(Remark { problem, next_step }) => {
                    let mend = || "mend the cause; the next run makes up for it".into();
                    let step = Some(next_step.unwrap_or_else(mend));
                    Finding::new(PART, &schedule.table, Outcome::Failed, problem, step)
                }
                None => {
                    let every = format!("every {} seconds", schedule.every_seconds);
                    Finding::ok(PART, &schedule.table, every)
                }
            })
            .collect(),
    }
}

/// What is there of a table, and what became of its last reconciliation.
pub(super) fn table_findings(judged: Judged) -> Vec<Finding> {
    const PART: &str = "tables";
    let Judged { status, problems, unread, unreconciled, warnings, .. } = judged;
    let told = |outcome| {
        let table = status.table.clone();
        move |remark: Remark| Finding::new(PART, &table, outcome, remark.problem, remark.next_step)
    };
    let mut findings: Vec<Finding> = problems.into_iter().map(told(Outcome::Failed)).collect();
    findings.extend(warnings.into_iter().chain(unread).map(told(Outcome::Warning)));
    let check = format!("{} reconciled", status.table);
    match status.reconciled {
        Some(last) if last.outcome == SyncState::Succeeded => {
            let ago = last.seconds_ago.map(|seconds| format!("{} minutes ago", seconds / 60));
            let ago = ago.unwrap_or_else(|| "at a time that is still to come".to_owned());
            findings.push(match unreconciled {
                Some(Remark { problem, next_step }) => {
                    Finding::new(PART, &check, Outcome::Warning, problem, next_step)
                }
                None => Finding::ok(PART, &check, format!("{ago}: {}", last.told())),
            });
        }
        None if status.synced_seconds_ago.is_some() => findings.push(Finding::warning(
            PART,
            &check,
            "never: rows that are gone, or that no sync sees, are not known of",
            NextStep::Reconcile { table: status.table.clone() },
        )),
        // One that failed is among the problems or the warnings.
        Some(_) | None => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::engine::tables::{LastReconciliation, TableStatus};

    #[test]
    fn a_reconciliation_of_long_ago_is_no_ok_where_nights_were_to_bring_others() {
        let ago = Some(400_000);
        let last = LastReconciliation {
            outcome: SyncState::Succeeded,
            seconds_ago: ago,
            unexplained: Some(0),
            succeeded_seconds_ago: ago,
        };
        let found = |unreconciled| {
            let status = TableStatus { reconciled: Some(last.clone()), ..TableStatus::default() };
            table_findings(Judged { status, unreconciled, ..Judged::default() }).pop().expect("a finding")
        };
        assert_eq!(found(None).outcome, Outcome::Ok);
        let told = found(Some("not last night".to_owned().into()));
        assert_eq!((told.outcome, told.detail.as_str()), (Outcome::Warning, "not last night"));
    }

    #[test]
    fn a_notice_that_says_to_erase_again_has_a_next_step_that_says_so_too() {
        for part in ["postgres", "postgres/leads", "sqlite", "sqlite/leads", "http://localhost:9200/leads"] {
            for kind in NoticeKind::ALL {
                let notice = Notice {
                    kind,
                    part: part.to_owned(),
                    log: String::new(),
                    partition: None,
                    from: 0,
                    to: 0,
                    noticed_at: Utc::now(),
                };
                let findings = notice_findings("postgres", Ok(vec![notice]));
                let step = findings[0].next_step.as_ref().expect("a next step").to_string();
                let says_so = step.contains("erase again") || step.contains("do what it says");
                let Finding { detail, .. } = &findings[0];
                assert!(says_so || !detail.contains("erase them again"), "{detail}: {step}");
            }
        }
    }

    #[test]
    fn a_drain_of_this_process_that_fails_is_a_failure_and_one_that_works_is_none() {
        let stats = crate::engine::stats::DrainStats::new("postgres");
        stats.failed(&Fault::transient("postgres", "no connection", "start it"));
        let found = drain_findings(&[stats.report()]);
        assert_eq!((found.len(), found[0].outcome), (1, Outcome::Failed), "{found:?}");
        assert!(found[0].detail.contains("no connection") && found[0].next_step.is_some(), "{found:?}");
        let well = crate::engine::stats::DrainStats::new("postgres");
        well.set_state(crate::engine::stats::DrainState::Running);
        assert_eq!(drain_findings(&[well.report()]), []);
    }

    #[test]
    fn a_store_that_can_not_be_written_fails_and_one_that_is_behind_is_warned_about() {
        let outcomes =
            |facts| store_findings("postgres", facts).iter().map(|f| f.outcome).collect::<Vec<_>>();
        assert_eq!(outcomes(StoreFacts::default()), [Outcome::Ok, Outcome::Ok]);
        let unfit = Some(Fault::misconfigured("postgres", "the server is a standby", "look for the primary"));
        let ill = StoreFacts { unfit, pending_migrations: 2, ..StoreFacts::default() };
        assert_eq!(outcomes(ill), [Outcome::Failed, Outcome::Warning]);
        let fresh = StoreFacts { is_fresh: true, ..StoreFacts::default() };
        assert_eq!(outcomes(fresh), [Outcome::Ok, Outcome::Warning]);
        let added =
            StoreFacts { additions: vec!["the trigger pula on leads".to_owned()], ..StoreFacts::default() };
        let added = store_findings("postgres", added).pop().expect("a finding");
        assert_eq!(
            (added.outcome, added.detail.contains("the trigger pula on leads")),
            (Outcome::Warning, true)
        );
        let dropped = StoreFacts { dropped: vec!["leads".to_owned()], ..StoreFacts::default() };
        assert_eq!(outcomes(dropped), [Outcome::Ok, Outcome::Failed]);
    }
}
