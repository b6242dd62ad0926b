use std::process::ExitCode;

use clap::Args;

use super::{Failure, output};
use crate::mcp;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print docs/metrics.md instead
    #[arg(long)]
    metrics: bool,
}

/// Prints the documentation of what MCP clients are offered, or of the metrics.
pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let text =
        if options.metrics { mcp::transport::http::metrics_documentation() } else { mcp::documentation()? };
    output::lines(text)?;
    Ok(ExitCode::SUCCESS)
}
