//! Parses the command line, loads the settings and hands over.

use std::process::ExitCode;

/// What is freed goes back to the system within a second: a worker that has nothing to do holds little.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sluice::cli::run(sluice::cli::Arguments::typed())
}
