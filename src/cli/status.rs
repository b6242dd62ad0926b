use std::process::ExitCode;

use clap::Args;

use super::{
    Failure,
    next_step::worded,
    output::{self, OutputError},
};
use crate::{
    config::Settings,
    engine::{PartStatus, PipelineStatus},
    parts,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks every part and prints the answers.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    // An empty folder is nothing to complain of; of real parts a question makes nothing.
    if settings.kafka.is_none() && settings.postgres.is_none() && settings.elasticsearch.is_none() {
        engine.prepare().await.ok();
    }
    let status = engine.inspection.status().await.worded(worded);
    if options.json {
        output::pretty_json(&status)?;
    } else {
        print(&status)?;
    }
    Ok(if status.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(status: &PipelineStatus) -> Result<(), OutputError> {
    for part in [&status.source, &status.log].into_iter().chain(&status.sinks) {
        print_part(part)?;
    }
    for lag in &status.lag {
        output::line(format_args!(
            "lag            {}: {} records, from the {}",
            lag.sink,
            lag.total,
            lag.offsets_from.replace('_', " ")
        ))?;
    }
    if let Some(letters) = status.dead_letters {
        output::line(format_args!("dead letters   {letters}"))?;
    }
    for sync in &status.recent_syncs {
        output::line(format_args!(
            "sync           {} of {}: {:?}, {} new, {} unchanged, at {}",
            sync.sync_id,
            sync.table,
            sync.state,
            sync.appended,
            sync.unchanged,
            sync.started_at.format("%Y-%m-%d %H:%M:%SZ")
        ))?;
    }
    for warning in &status.warnings {
        output::line(format_args!("warning        {warning}"))?;
    }
    for problem in &status.problems {
        output::line(format_args!("problem        {problem}"))?;
    }
    Ok(())
}

fn print_part(part: &PartStatus) -> Result<(), OutputError> {
    let counts: Vec<String> =
        part.counts.iter().map(|count| format!("{} {}", count.count, count.name)).collect();
    let mark = if part.ok { "ok" } else { "FAILS" };
    output::line(format_args!("{:<14} {mark} {} {}", part.name, part.detail, counts.join(", ")))
}
