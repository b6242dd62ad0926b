//! The command line, one file a subcommand.

mod bench;
mod client_config;
mod demo;
mod docs;
mod doctor;
mod logging;
mod migrate;
mod offer;
mod sample;
mod search;
mod serve;
mod sql;
mod status;
mod sync;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Settings, SettingsError};

/// Moves leads and chat sessions from Supabase through Kafka into Postgres and Elasticsearch, once each.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve MCP on stdin and stdout, and drain the topic into both sinks (default)
    Serve(serve::Options),
    /// Drain the topic into both sinks, without MCP
    Worker,
    /// Read what is new in Supabase and append it to the topic
    Sync(sync::Options),
    /// Ask every part how it is; exits with 1 when something is wrong
    Status(status::Options),
    /// Examine every part and say what to do; exits with 1 when something fails
    Doctor(doctor::Options),
    /// Show the whole way on the embedded parts, with sample data and nothing else
    Demo(demo::Options),
    /// Search the index
    Search(search::Options),
    /// Ask the store by one read-only SQL statement
    Sql(sql::Options),
    /// Create or update tables, templates, indices and topics
    Migrate(migrate::Options),
    /// Measure the way from the topic to each sink; see tools/bench
    Bench(bench::Options),
    /// Serve a sample Supabase with generated data, to try sluice without a project
    Sample(sample::Options),
    /// Print what to put into an MCP client's configuration, or merge it into the client's file
    ClientConfig(client_config::Options),
    /// Print MCP_DOCUMENTATION.md
    #[command(hide = true)]
    Docs,
}

/// Something a command could not do, told to a person.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs a command to its end.
pub fn run(arguments: Arguments) -> ExitCode {
    let command = arguments.command.unwrap_or(Command::Serve(serve::Options::default()));
    // Long-running commands log what they do; to a person at a terminal only what goes wrong matters.
    let level = match command {
        Command::Serve(_) | Command::Worker => "info",
        _ => "warn",
    };
    logging::start(level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve(options) => serve::run(&settings()?, &options).await,
            Command::Worker => worker::run(&settings()?).await,
            Command::Sync(options) => sync::run(&settings()?, &options).await,
            Command::Status(options) => status::run(&settings()?, &options).await,
            Command::Doctor(options) => doctor::run(&settings()?, &options).await,
            Command::Demo(options) => demo::run(settings()?, &options).await,
            Command::Search(options) => search::run(&settings()?, &options).await,
            Command::Sql(options) => sql::run(&settings()?, &options).await,
            Command::Migrate(options) => migrate::run(&settings()?, &options).await,
            Command::Bench(options) => bench::run(&settings()?, &options).await,
            Command::Sample(options) => sample::run(&options).await,
            Command::Docs => docs::run(),
            Command::ClientConfig(options) => {
                read_env_file()?;
                client_config::run(&options)
            }
        }
    });
    // What still blocks by then, such as a read of stdin, must not hold the process.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::FAILURE
    })
}

/// Loads the settings from the environment, and from `.env` for what is not set there.
fn settings() -> Result<Settings, Failure> {
    read_env_file()?;
    Settings::load(std::env::vars()).map_err(|error: SettingsError| error.into())
}

/// Puts what `.env` sets, and the environment does not, into the environment.
fn read_env_file() -> Result<(), Failure> {
    let path = std::path::Path::new(".env");
    if path.exists() {
        dotenvy::from_path(path).map_err(|error| match error {
            // The line would show a secret.
            dotenvy::Error::LineParse(_, position) => {
                format!(".env: can't be read near character {position} of a line; quote values with special characters")
            }
            other => format!(".env: {other}"),
        })?;
    }
    Ok(())
}

/// Returns when the process is asked to end.
async fn asked_to_stop() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    interrupted.await.ok();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }
}
