use std::process::ExitCode;

use clap::Args;

use super::{Failure, next_step::worded, output};
use crate::{config::Settings, engine::Outcome, parts};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print the findings as a JSON array
    #[arg(long)]
    json: bool,
}

/// Examines every part and prints what was found and what to do.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let mut findings = parts::engine(settings).await?.doctor.examine().await;
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
            output::line(format_args!(
                "{mark:<8} {:<14} {:<22} {}",
                finding.part, finding.check, finding.detail
            ))?;
            if let Some(step) = &finding.next_step {
                output::line(format_args!("{:<8} {:<14} {:<22} → {step}", "", "", ""))?;
            }
        }
    }
    let failed = findings.iter().any(|finding| finding.outcome == Outcome::Failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
