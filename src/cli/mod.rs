//! The command line, one file a subcommand.

mod alerts;
mod bench;
mod client_config;
mod dashboards;
mod demo;
mod docs;
mod doctor;
mod empty;
mod ending;
mod environment;
mod erase;
mod export;
mod logging;
mod logs;
mod migrate;
mod next_step;
mod offer;
mod output;
mod reconcile;
mod report;
mod rows;
mod sample;
mod search;
mod serve;
mod sql;
mod status;
mod sync;
mod tables;
mod trim;
mod worker;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::{environment::Environment, output::OutputError};
use crate::{config::Settings, private_files};

/// Moves leads and chat sessions from Supabase through Kafka into Postgres and Elasticsearch, once each.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None, max_term_width = 80)]
pub struct Arguments {
    /// Read settings from this file; what the environment sets goes first (also SLUICE_ENV_FILE)
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
    /// What the command is called, which the log says of each line.
    #[arg(skip)]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve MCP on stdin and stdout, and drain the topic into both sinks (default)
    Serve(serve::Options),
    /// Drain the topic into both sinks, without MCP
    Worker(worker::Options),
    /// Read what is new in Supabase and append it to the topic
    Sync(sync::Options),
    /// Prove that both sinks have what the source has, mend what differs, remove what is gone
    Reconcile(reconcile::Options),
    /// Erase a person from both sinks and the dead letters, for good, and say what remains where
    Erase(erase::Options),
    /// Remove the events that are older than they are to be kept, now
    Trim(trim::Options),
    /// List the tables that are defined, check them, or define others from the project
    Tables(tables::Options),
    /// List the alerts, create or delete one
    Alerts(alerts::Options),
    /// Ask every part how it is; exits with 1 when something is wrong
    Status(status::Options),
    /// Examine every part and say what to do; exits with 1 when something fails
    Doctor(doctor::Options),
    /// Show the log that is kept in files or in Elasticsearch, and follow it
    Logs(logs::Options),
    /// Show the whole way on the embedded parts, with sample data and nothing else
    Demo(demo::Options),
    /// Report how many leads arrived, against the period before
    Report(report::Options),
    /// Search the index
    Search(search::Options),
    /// Ask the store by one read-only SQL statement
    Sql(sql::Options),
    /// Write every row of a table, a statement or a search into a CSV or NDJSON file
    Export(export::Options),
    /// Create or update tables, templates, indices and topics
    Migrate(migrate::Options),
    /// Measure the way from the topic to each sink; see tools/bench
    Bench(bench::Options),
    /// Serve a sample Supabase with generated data, to try sluice without a project
    Sample(sample::Options),
    /// Print what to put into an MCP client's configuration, or merge it into the client's file
    ClientConfig(client_config::Options),
    /// Print a dashboard to import into Kibana or Grafana
    Dashboards(dashboards::Options),
    /// Print MCP_DOCUMENTATION.md
    #[command(hide = true)]
    Docs(docs::Options),
}

/// Something a command could not do, told to a person.
type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Command {
    /// Whether the current folder's file of settings is this command's, when a person typed it. Clients start a
    /// server over stdio in whatever folder they are in.
    fn reads_folders_file(&self) -> bool {
        match self {
            Self::Serve(options) => options.is_over_http(),
            Self::Sample(_) | Self::Docs(_) => false,
            _ => true,
        }
    }
}

impl Arguments {
    /// What was typed; ends the process where that is no command.
    pub fn typed() -> Self {
        let matches = takes_negative_numbers(Self::command()).get_matches();
        let mut arguments = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        matches.subcommand_name().unwrap_or("serve").clone_into(&mut arguments.name);
        arguments
    }
}

/// Has `--hours -1` be a wrong value of that option, not an option that nobody knows.
fn takes_negative_numbers(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| {
        let is_option = !argument.is_positional() && argument.get_action().takes_values();
        if is_option { argument.allow_negative_numbers(true) } else { argument }
    });
    command.mut_subcommands(takes_negative_numbers)
}

/// What a server over stdio that a person started at a terminal is waiting for.
const WAITS: &str = "sluice waits for an MCP client's messages on stdin; Ctrl-C ends it. `sluice client-config` tells a client \
    how to start it, `sluice demo` shows what it does, `sluice --help` lists all commands.";

/// Runs a command to its end.
pub fn run(arguments: Arguments) -> ExitCode {
    private_files::for_owner_only();
    let command = arguments.command.unwrap_or(Command::Serve(serve::Options::default()));
    let folders_file = command.reads_folders_file() && environment::is_typed();
    if matches!(&command, Command::Serve(options) if options.is_over_stdio()) && environment::is_typed() {
        output::note(WAITS);
    }
    match environment::gather(arguments.env_file.as_deref(), folders_file) {
        Ok(environment) => run_in(command, &arguments.name, environment),
        Err(failure) => told(&failure),
    }
}

fn run_in(command: Command, name: &str, environment: Environment) -> ExitCode {
    let serves = matches!(command, Command::Serve(_) | Command::Worker(_));
    // Long-running commands log what they do; to a person at a terminal only what goes wrong matters.
    let level = if serves { "info" } else { "warn" };
    logging::start(level, environment.variables.get("SLUICE_LOG"));
    if serves && let Err(error) = crate::logging::leave_stderr() {
        return told(&error.into());
    }
    environment.log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return told(&format!("the runtime could not be started: {error}").into()),
    };
    let _last_lines = WrittenInPanics;
    let outcome = runtime.block_on(async {
        let outcome = Box::pin(carry_out(command, name, environment)).await;
        crate::traces::finish().await;
        outcome
    });
    // What still blocks by then, such as a read of stdin, must not hold the process.
    runtime.shutdown_background();
    if let (true, Err(failure)) = (serves, &outcome) {
        crate::logging::keep_failure(&next_step::failure(failure));
    }
    crate::logging::finish();
    outcome.unwrap_or_else(|failure| told(&failure))
}

/// Has the lines that tell of a panic written before it ends the process.
struct WrittenInPanics;

impl Drop for WrittenInPanics {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::logging::finish();
        }
    }
}

async fn carry_out(command: Command, name: &str, environment: Environment) -> Result<ExitCode, Failure> {
    let serves = matches!(command, Command::Serve(_) | Command::Worker(_));
    let keep = |settings: Settings| -> Result<Settings, Failure> {
        crate::logging::keep(&settings, name, serves)?;
        crate::traces::start(&settings.traces);
        Ok(settings)
    };
    let settings = || keep(Settings::from_variables(environment.variables.clone())?);
    match command {
        // Who asks these to end while they begin is heard, too.
        Command::Serve(options) => {
            let stop = ending::signals();
            serve::run(&settings()?, &options, stop).await
        }
        Command::Worker(options) => {
            let stop = ending::signals();
            worker::run(&settings()?, &options, stop).await
        }
        Command::Sync(options) => sync::run(&settings()?, &options).await,
        Command::Reconcile(options) => reconcile::run(&settings()?, &options).await,
        Command::Erase(options) => erase::run(&settings()?, &options).await,
        Command::Trim(options) => trim::run(&settings()?, &options).await,
        Command::Tables(options) => tables::run(&settings()?, &options).await,
        Command::Status(options) => status::run(&settings()?, &options).await,
        Command::Alerts(options) => alerts::run(&settings()?, &options).await,
        Command::Doctor(options) => doctor::run(&settings()?, &options).await,
        // Whoever reads the log adds nothing to it.
        Command::Logs(options) => {
            logs::run(&Settings::from_variables(environment.variables.clone())?, &options).await
        }
        // Whatever real parts are named, a demonstration writes nothing there.
        Command::Demo(options) => {
            demo::run(keep(Settings::from_variables(environment.variables.without_parts())?)?, &options).await
        }
        Command::Report(options) => report::run(&settings()?, &options).await,
        Command::Search(options) => search::run(&settings()?, &options).await,
        Command::Sql(options) => sql::run(&settings()?, &options).await,
        Command::Export(options) => export::run(&settings()?, &options).await,
        Command::Migrate(options) => migrate::run(&settings()?, &options).await,
        Command::Bench(options) => bench::run(&settings()?, &options).await,
        Command::Sample(options) => {
            environment.variables.check()?;
            sample::run(&options).await
        }
        Command::Dashboards(options) => dashboards::run(&settings()?, &options),
        Command::Docs(options) => docs::run(&options),
        Command::ClientConfig(options) => client_config::run(&options, &environment),
    }
}

/// Tells a person why a command failed. That nobody reads the output on is no failure to tell of.
fn told(failure: &Failure) -> ExitCode {
    if failure.downcast_ref::<OutputError>().is_some_and(OutputError::nobody_reads) {
        return ExitCode::from(output::NOBODY_READS);
    }
    output::note(format_args!("error: {}", next_step::failure(failure)));
    ExitCode::FAILURE
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
