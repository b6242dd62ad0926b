//! Parses the command line, loads the settings and hands over.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    sluice::cli::run(sluice::cli::Arguments::parse())
}
