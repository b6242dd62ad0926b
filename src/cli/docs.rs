use std::process::ExitCode;

use super::{Failure, output};
use crate::mcp;

/// Prints the documentation of what MCP clients are offered.
pub(super) fn run() -> Result<ExitCode, Failure> {
    output::lines(mcp::documentation()?)?;
    Ok(ExitCode::SUCCESS)
}
