use std::{fmt::Write as _, process::ExitCode};

use clap::Args;

use super::{
    Failure,
    ending::{self, Ending},
    output,
    sync::{Bar, erased, followed, note_unfilled, shared_keys},
};
use crate::{
    config::Settings,
    domain::TableName,
    engine::{SyncPhase, SyncStatus},
    parts,
    store::{DifferenceKind, ReconcileStep, Reconciliation},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The table to reconcile, as `sluice tables` lists them
    table: String,
    /// Drain here, too: without a worker elsewhere nothing gets into the sinks, and they can't be proven
    #[arg(long)]
    wait: bool,
    /// Remove so many rows that are gone at the source, however large a part of the table they are
    #[arg(long, value_name = "NUMBER")]
    allow_deletes: Option<u64>,
    /// Go on where the last one was broken off, a day ago at most: what it proves is the table as it was when that
    /// one began
    #[arg(long)]
    resume: bool,
}

/// Runs one reconciliation and says what became of it.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    // Typed with a dash, as everything else on a command line.
    let table = TableName(options.table.replace('-', "_"));
    let ending = Ending::new(ending::signals());
    let asked = Reconciliation { allow_deletes: options.allow_deletes, resume: options.resume };
    let id = tokio::select! {
        id = engine.syncs.reconcile(&table, asked) => id?,
        () = ending.asked() => return Err("ended on request before the reconciliation had begun".into()),
    };
    let status = followed(&engine, id, options.wait, Bar::new(false), &ending).await?;
    for line in summary(&status, options.resume).lines() {
        output::line(line)?;
    }
    if status.state == SyncPhase::Done {
        note_unfilled(&engine, &status, &ending).await;
    }
    let failed = !matches!(status.state, SyncPhase::Done | SyncPhase::Draining);
    ending.told(failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn summary(status: &SyncStatus, resume: bool) -> String {
    let state = match status.state {
        SyncPhase::Done | SyncPhase::Draining => "done",
        // Nobody waits any more.
        SyncPhase::Running => "ended on request",
        SyncPhase::Failed => "failed",
        SyncPhase::Cancelled => "cancelled",
        SyncPhase::Interrupted => "interrupted",
    };
    let error = status.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let report = status.reconcile.clone().unwrap_or_default();
    // Only a reading that came to its end in one run tells what the source has.
    let is_whole = report.step != ReconcileStep::Reading && report.resumed_from.is_none();
    let of_source = if is_whole { "at the source" } else { "read" };
    let mut text = format!(
        "Reconciliation {} of {}: {state}{error}.\n{} rows {of_source}, {} appended, {} repaired, {} deleted, {} \
         parked, {} unexplained.",
        status.sync_id,
        status.table,
        report.source_rows,
        status.appended,
        report.repaired,
        report.deleted,
        report.parked,
        report.unexplained
    );
    if report.unkeyed > 0 {
        let _ = write!(
            text,
            "\n{} rows without a usable key: no event can be made of them, so they are in no sink; all are dead letters but \
             for those beyond 100 that have no key at all",
            report.unkeyed
        );
    }
    if report.deleted_meanwhile > 0 {
        let _ = write!(
            text,
            "\nAt least {} rows were deleted at the source while it was read: they are still here, and the next reconciliation \
             removes them.",
            report.deleted_meanwhile
        );
    }
    match report.resumed_from {
        Some(began) => {
            let began = began.format("%Y-%m-%dT%H:%M:%SZ");
            let _ = write!(
                text,
                "\nIt went on with a reading that began at {began}: this is the table as it was then. What was inserted, changed \
                 or deleted since may be lacking: a sync brings those with a new time, a reconciliation without --resume all."
            );
        }
        None if resume => {
            text.push_str("\nThere was no reading to go on with; the whole table was read anew.");
        }
        None => {}
    }
    if status.erased > 0 {
        let _ = write!(text, "\n{}", erased(status.erased));
    }
    if status.shared_keys > 0 {
        let _ = write!(text, "\n{}", shared_keys(status));
    }
    for sink in &report.sinks {
        let proven = if sink.proven { "as they were appended" } else { "not all as they were appended" };
        let _ = write!(
            text,
            "\n{}: {} entities compared by key, version and newest event, {proven}",
            sink.sink, sink.entities
        );
    }
    if report.sinks.is_empty() {
        let compared = report.step == ReconcileStep::Proving;
        text.push_str(if compared {
            "\nThe sinks were not compared to the end."
        } else {
            "\nNeither sink was compared."
        });
    }
    for difference in &report.differences {
        let mended = if difference.mended { "mended" } else { "left as it is" };
        let problem = told(difference.problem);
        let _ = write!(text, "\n{} in {}: {problem}, {mended}", difference.key, difference.sink);
    }
    if let Some(left) = report.unallowed().filter(|_| status.state == SyncPhase::Failed) {
        let _ = write!(text, "\nTo remove them all the same: --allow-deletes {left}");
    }
    text
}

fn told(problem: DifferenceKind) -> &'static str {
    match problem {
        DifferenceKind::Missing => "missing",
        DifferenceKind::OtherVersion => "another version",
        DifferenceKind::Surplus => "there although it is gone",
        DifferenceKind::WithoutEvent => "without its newest event",
    }
}
