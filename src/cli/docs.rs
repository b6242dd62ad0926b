use std::process::ExitCode;

use super::Failure;
use crate::mcp;

/// Prints the documentation of what MCP clients are offered.
pub(super) fn run() -> Result<ExitCode, Failure> {
    print!("{}", mcp::documentation()?);
    Ok(ExitCode::SUCCESS)
}
