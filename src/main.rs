//! Parses the command line, loads the settings and hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::cli::run(sluice::cli::Arguments::typed())
}
