use std::process::ExitCode;

use clap::Args;

use super::{Failure, output};
use crate::{config::Settings, parts};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Also make the Postgres login that questions run under: it may read the tables that can be queried, and nothing
    /// else. Its password is kept in the data folder
    #[arg(long)]
    create_reader: bool,
    /// Give that login a new password; what uses the old one is shut out
    #[arg(long, requires = "create_reader")]
    new_password: bool,
}

/// Brings every part up to date.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    // Before the first migration there is nothing to compare with.
    let known = engine.notices().await.unwrap_or_default();
    engine.prepare().await?;
    output::line("Tables, templates, indices and topics are up to date.")?;
    for notice in engine.notices().await?.iter().filter(|notice| !known.contains(notice)) {
        output::line(format_args!("note: {}", notice.sentence()))?;
    }
    if options.create_reader {
        output::line(parts::create_reader(settings, options.new_password).await?)?;
    }
    Ok(ExitCode::SUCCESS)
}
