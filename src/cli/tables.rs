//! `sluice tables`: which tables are defined, how they differ from the project's, and definitions of others.

use std::{io::Write as _, path::Path, process::ExitCode};

use clap::{Args, Subcommand};

use super::{Failure, output};
use crate::{
    config::Settings,
    domain::{Definition, KeyKind, Table, TableName},
    engine::{Engine, table_named},
    parts,
    source::description::{Basis, UNIQUE_KEY},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the definition of a table of the project; without a name, list the tables that have none
    Discover(Discover),
    /// Say what differs between definitions and project; exits with 1 when something must be mended
    Check {
        /// The table to check. Default: every one
        table: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Discover {
    /// The table or view, as the project calls it
    table: Option<String>,
    /// The schema it is in
    #[arg(long)]
    schema: Option<String>,
    /// Print the definition instead of writing it
    #[arg(long)]
    print: bool,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    match &options.command {
        None => {
            for table in settings.catalog.tables() {
                output::line(format_args!("{}", line(table)))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Discover(options)) => {
            let engine = parts::engine(settings).await?;
            match &options.table {
                Some(table) => discover(&engine, settings, table, options).await,
                None => list_undefined(&engine, options.schema.as_deref()).await,
            }
        }
        Some(Command::Check { table }) => {
            let engine = parts::engine(settings).await?;
            check(&engine, settings, table.as_deref()).await
        }
    }
}

fn line(table: Table) -> String {
    let key = match table.key.kind {
        KeyKind::Uuid => "uuid",
        KeyKind::Bigint => "bigint",
        KeyKind::Text => "text",
    };
    let source = match &table.source.schema {
        Some(schema) => format!("{schema}.{}", table.source_name()),
        None => table.source_name().to_owned(),
    };
    let reads = match (&table.time.modified, &table.time.created) {
        (Some(modified), _) => format!("read by {modified}"),
        (None, Some(created)) => format!("read whole from {created} on: it has no modification time"),
        (None, None) => "read whole: it has no time".to_owned(),
    };
    format!("{:<20} from {source}, {key} key, {} columns, {reads}", table.name(), table.columns.len())
}

async fn list_undefined(engine: &Engine, schema: Option<&str>) -> Result<ExitCode, Failure> {
    match engine.project.undefined_tables(schema).await? {
        None => {
            return Err(
                "the project does not tell which tables it has (its OpenAPI description is refused to this \
                        key); name one: sluice tables discover NAME"
                    .into(),
            );
        }
        Some(names) if names.is_empty() => output::line("Every table that the project serves is defined.")?,
        Some(names) => {
            output::line(format_args!(
                "Not defined yet; `sluice tables discover NAME` writes a definition:"
            ))?;
            for name in names {
                output::line(format_args!("  {name}"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn discover(
    engine: &Engine,
    settings: &Settings,
    table: &str,
    options: &Discover,
) -> Result<ExitCode, Failure> {
    let (definition, description) = engine.project.discover(options.schema.as_deref(), table).await?;
    let text = definition.to_toml()?;
    if options.print {
        output::lines(&text)?;
    } else {
        let path = settings.tables_dir.join(format!("{}.toml", definition.name));
        write(&path, &text, options.force)?;
        output::line(format_args!(
            "Wrote {}: {} columns. Read it through, then:",
            path.display(),
            definition.columns.len()
        ))?;
        output::line(format_args!("  sluice sync {} --wait", definition.name))?;
        if settings.tables_dir_is_default {
            output::line(format_args!(
                "Other machines need the file, too: in the same place there, or in SLUICE_TABLES_DIR."
            ))?;
        }
    }
    if let Basis::Rows(rows) = description.basis {
        output::note(format_args!(
            "The project does not describe itself to this key, so the types are guessed from {rows} rows: check them."
        ));
    }
    if let Some(doubt) = description.doubt_of_key(definition.key_source()) {
        output::note(format_args!("{doubt}; {UNIQUE_KEY}."));
    }
    notes(&definition);
    Ok(ExitCode::SUCCESS)
}

/// What a person should look at before the first sync.
fn notes(definition: &Definition) {
    if definition.time.modified.is_none() {
        output::note(format_args!(
            "No modification time was found: every sync reads the whole window. Set time.modified if there is one."
        ));
    }
    if !definition.never_read.is_empty() {
        output::note(format_args!(
            "Never read, as they look like secrets: {}.",
            definition.never_read.join(", ")
        ));
    }
}

/// Writes a new file; what is there is somebody's work.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| -> Failure { format!("{}: {error}", path.display()).into() };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let path = path.display();
            format!("{path} is there already; --force replaces it, --print shows what would be written")
                .into()
        }
        _ => failed(error),
    })?;
    file.write_all(text.as_bytes()).map_err(failed)
}

async fn check(engine: &Engine, settings: &Settings, table: Option<&str>) -> Result<ExitCode, Failure> {
    let tables: Vec<Table> = match table {
        Some(name) => vec![table_named(engine.catalog, &TableName(name.replace('-', "_")))?],
        None => settings.catalog.tables().collect(),
    };
    let mut must_mend = false;
    for table in tables {
        let differences = engine.project.check(table).await?;
        if differences.is_empty() {
            output::line(format_args!("{table}: fits the project's table"))?;
        }
        for difference in differences {
            must_mend |= !difference.is_hint;
            let mark = if difference.is_hint { "hint" } else { "mend" };
            output::line(format_args!("{table}: {mark}: {}; {}", difference.problem, difference.next_step))?;
        }
    }
    Ok(if must_mend { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
