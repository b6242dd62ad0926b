use std::process::ExitCode;

use clap::Args;

use super::{Failure, ending, output};
use crate::source::sample::{Beginning, SampleProject, SampleServer, keys};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Port on 127.0.0.1
    #[arg(long, default_value_t = 54321)]
    port: u16,
    /// Leads to generate
    #[arg(long, default_value_t = Beginning::LEADS)]
    leads: usize,
    /// Chat sessions to generate
    #[arg(long, default_value_t = Beginning::SESSIONS)]
    sessions: usize,
    /// Of these leads, so many that no event can be made of: dead letters to try things with
    #[arg(long, default_value_t = 0)]
    broken: usize,
    /// The same seed makes the same rows
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Serves until the process is asked to end.
pub(super) async fn run(options: &Options) -> Result<ExitCode, Failure> {
    let stop = ending::signals();
    let server = SampleServer::start(options.port).await.map_err(|error| {
        format!("port {} on 127.0.0.1 can't be served: {error}; choose another with --port", options.port)
    })?;
    let beginning = Beginning::now(options.seed, options.leads, options.sessions).with_broken(options.broken);
    server.set_project(SampleProject::new(beginning));
    output::lines(format_args!("SUPABASE_URL={}\nSUPABASE_KEY={}\n", server.url(), keys::SECRET))?;
    stop.await;
    Ok(ExitCode::SUCCESS)
}
