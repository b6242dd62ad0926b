use std::process::ExitCode;

use clap::Args;

use super::{
    Failure,
    ending::{self, Ending},
    output,
};
use crate::{config::Settings, parts};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only tell how many there are
    #[arg(long)]
    dry_run: bool,
    /// Print it as one JSON object
    #[arg(long)]
    json: bool,
}

/// Removes the events that are older than they are to be kept, as a worker does once an hour.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    let ending = Ending::new(ending::signals());
    let trimmed = tokio::select! {
        trimmed = engine.housekeeping.trim(options.dry_run) => trimmed?,
        () = ending.asked() => return Err("ended on request; what was removed until then stays so".into()),
    };
    engine.shut_down().await;
    if options.json {
        output::json(&trimmed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let done = if trimmed.dry_run { "would be removed" } else { "removed" };
    output::line(format_args!(
        "{} events {done}, of rows that changed again before {}",
        trimmed.events,
        trimmed.before.format("%Y-%m-%dT%H:%M:%SZ")
    ))?;
    Ok(ExitCode::SUCCESS)
}
