use std::process::ExitCode;

use super::{Failure, output};
use crate::{config::Settings, parts};

/// Brings every part up to date.
pub(super) async fn run(settings: &Settings) -> Result<ExitCode, Failure> {
    parts::engine(settings).await?.prepare().await?;
    output::line("Tables, templates, indices and topics are up to date.")?;
    Ok(ExitCode::SUCCESS)
}
