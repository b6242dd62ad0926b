use std::process::ExitCode;

use clap::Args;

use super::Failure;
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
    let status = parts::engine(settings).await?.status().await;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(if status.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(status: &PipelineStatus) {
    for part in [&status.source, &status.log].into_iter().chain(&status.sinks) {
        print_part(part);
    }
    for lag in &status.lag {
        println!(
            "lag            {}: {} records, from the {}",
            lag.sink,
            lag.total,
            lag.offsets_from.replace('_', " ")
        );
    }
    if let Some(letters) = status.dead_letters {
        println!("dead letters   {letters}");
    }
    for sync in &status.recent_syncs {
        println!(
            "sync           {} of {}: {:?}, {} new, {} unchanged, at {}",
            sync.sync_id,
            sync.table,
            sync.state,
            sync.appended,
            sync.unchanged,
            sync.started_at.format("%Y-%m-%d %H:%M:%SZ")
        );
    }
    for warning in &status.warnings {
        println!("warning        {warning}");
    }
    for problem in &status.problems {
        println!("problem        {problem}");
    }
}

fn print_part(part: &PartStatus) {
    let counts: Vec<String> =
        part.counts.iter().map(|count| format!("{} {}", count.count, count.name)).collect();
    let mark = if part.ok { "ok" } else { "FAILS" };
    println!("{:<14} {mark} {} {}", part.name, part.detail, counts.join(", "));
}
