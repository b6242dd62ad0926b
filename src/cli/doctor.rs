use std::process::ExitCode;

use clap::Args;

use super::{Failure, empty, next_step::worded, output};
use crate::{config::Settings, engine::Outcome, parts};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print the findings as a JSON array
    #[arg(long)]
    json: bool,
    /// Fail where something is to be looked at, too
    #[arg(long)]
    strict: bool,
}

/// Examines every part and prints what was found and what to do.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    let mut findings = engine.doctor.examine().await;
    findings.iter_mut().filter_map(|finding| finding.next_step.as_mut()).for_each(|step| step.word(worded));
    if options.json {
        output::pretty_json(&findings)?;
    } else {
        for finding in &findings {
            let mark = match finding.outcome {
                Outcome::Ok => "ok",
                Outcome::Warning => "WARNING",
                Outcome::Failed => "FAILED",
            };
            let (part, check, detail) = (&finding.part, &finding.check, &finding.detail);
            // Below each other where a terminal is too narrow for columns of their own.
            if output::width().is_some_and(|width| width < 120) {
                output::entry(format_args!("{mark:<8} {part}, {check}: {detail}"), 9)?;
            } else {
                output::line(format_args!("{mark:<8} {part:<14} {check:<22} {detail}"))?;
            }
            if let Some(step) = &finding.next_step {
                let indent = if output::width().is_some_and(|width| width < 120) { 9 } else { 47 };
                output::entry(format_args!("{:indent$}→ {step}", ""), indent + 2)?;
            }
        }
    }
    empty::note(&engine, settings).await;
    let fails = |outcome| match outcome {
        Outcome::Ok => false,
        Outcome::Warning => options.strict,
        Outcome::Failed => true,
    };
    let failed = findings.iter().any(|finding| fails(finding.outcome));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
