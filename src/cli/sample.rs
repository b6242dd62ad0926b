use std::process::ExitCode;

use chrono::Utc;
use clap::Args;

use super::{Failure, asked_to_stop};
use crate::{
    domain::Table,
    source::sample::{Generator, SampleServer, keys},
};

/// The cap of a real project.
const MAX_ROWS: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Port on 127.0.0.1
    #[arg(long, default_value_t = 54321)]
    port: u16,
    /// Leads to generate
    #[arg(long, default_value_t = 500)]
    leads: usize,
    /// Chat sessions to generate
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// The same seed makes the same rows
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Serves until the process is asked to end.
pub(super) async fn run(options: &Options) -> Result<ExitCode, Failure> {
    let server = SampleServer::start(options.port).await.map_err(|error| {
        format!("port {} on 127.0.0.1 can't be served: {error}; choose another with --port", options.port)
    })?;
    let mut generator = Generator::new(options.seed, Utc::now(), 24);
    let leads = generator.leads(options.leads);
    let sessions = generator.sessions(options.sessions, &leads);
    server.set_max_rows(Some(MAX_ROWS));
    server.set_rows(Table::ChatSessions, sessions);
    server.set_rows(Table::Leads, leads);
    println!("SUPABASE_URL={}", server.url());
    println!("SUPABASE_KEY={}", keys::SECRET);
    asked_to_stop().await;
    Ok(ExitCode::SUCCESS)
}
