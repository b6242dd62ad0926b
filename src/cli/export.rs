use std::{
    fs::{self, File},
    io::{self, Seek as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tempfile::NamedTempFile;
use tokio::sync::watch;

use super::{Failure, ending, next_step::worded, output};
use crate::{
    config::Settings,
    engine::{Engine, ExportOf, ExportRequest, WrittenExport},
    export::Format,
    index::{IndexName, SearchRequest, Sort},
    mcp::export_mask,
    parts,
};

/// How long the store may take from some rows to the next, as for `sql`.
const STEP: Duration = Duration::from_mins(1);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A table as `sluice tables` lists them, or eventos_raw or eventos_agregados
    table: Option<String>,
    /// The same, for --search also eventos
    #[arg(long = "table", value_name = "TABLE", conflicts_with = "table")]
    named: Option<String>,
    /// Instead of a table one SELECT
    #[arg(long, value_name = "SELECT", conflicts_with_all = ["table", "named", "search"])]
    sql: Option<String>,
    /// Only what this finds in the table, in Lucene's syntax
    #[arg(long, value_name = "QUERY")]
    search: Option<String>,
    /// csv, excel (as Excel opens it in Brazil: semicolons, decimal commas) or ndjson; by default as the file's name ends
    #[arg(long)]
    format: Option<Format>,
    /// The file to write; without it, or with -, standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file where it exists
    #[arg(long, requires = "output")]
    force: bool,
    /// Write e-mail addresses, phone numbers and IP addresses instead of masking them (also SLUICE_REVEAL_PII=true)
    #[arg(long)]
    reveal_pii: bool,
}

impl Options {
    fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    fn format(&self) -> Format {
        let end = self.file().and_then(|path| path.extension()).unwrap_or_default();
        self.format.unwrap_or(if end == "ndjson" || end == "jsonl" { Format::Ndjson } else { Format::Csv })
    }

    fn table_name(&self) -> Option<String> {
        self.table.as_ref().or(self.named.as_ref()).map(|name| name.replace('-', "_"))
    }

    fn of(&self, settings: &Settings, engine: &Engine) -> Result<ExportOf, Failure> {
        let table = self.table_name();
        match (&self.sql, &self.search, table) {
            (Some(sql), ..) => Ok(ExportOf::Sql(sql.clone())),
            (None, None, Some(table)) => Ok(engine.exports.of_table(&table)?),
            (None, Some(query), table) => {
                let catalog = settings.catalog;
                let name = table.as_deref().unwrap_or("leads");
                let index = IndexName::from_name(catalog, name)
                    .ok_or_else(|| format!("--table {name}: there are eventos, {}", catalog.names()))?;
                Ok(ExportOf::Search(SearchRequest {
                    index,
                    query: Some(query.clone()),
                    sort: Sort::Newest,
                    from: 0,
                    size: 0,
                    count_by: Vec::new(),
                    count_by_day: false,
                    zone: settings.zone,
                }))
            }
            (None, None, None) => {
                Err("name a table, as in `sluice export leads`, or give --sql or --search".into())
            }
        }
    }
}

/// Writes all rows into a draft and lets it be the file, or the output, once it is whole.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    if let Some(path) = options.file() {
        if path.extension().is_some_and(|end| end == "xlsx" || end == "xls") {
            let name = path.display();
            return Err(format!(
                "{name}: workbooks are not written; --format excel with a name in .csv is opened by Excel"
            )
            .into());
        }
        check_target(path, options.force)?;
    }
    let engine = parts::engine(settings).await?;
    let request = ExportRequest {
        of: options.of(settings, &engine)?,
        format: options.format(),
        mask: Arc::new(export_mask(settings.catalog, options.reveal_pii || settings.mcp.reveal_pii)),
        step: STEP,
    };
    // Without a name until it is whole: of a program that is killed nothing stays.
    let nameless = match options.file() {
        Some(path) => tempfile::tempfile_in(folder_of(path)).map_err(|error| unwritable(path, &error))?,
        None => tempfile::tempfile()?,
    };
    let mut written = write(&engine, &request, nameless).await?;
    if let Some(warning) = &written.warning {
        output::note(format_args!("warning: {warning}"));
    }
    let lacks = match &request.of {
        ExportOf::Sql(statement) => {
            let lacks = engine.questions.store_lacks().await;
            lacks.into_iter().chain(engine.questions.trimmed_in(statement).await).collect()
        }
        ExportOf::Search(search) => engine.questions.index_lacks(search.index).await,
    };
    for lack in lacks.into_iter().chain(engine.questions.parked(options.table_name().as_deref()).await) {
        output::note(format_args!("warning: {}", lack.worded(worded)));
    }
    let whereto = match options.file() {
        Some(path) => {
            put(&mut written.file, path, options.force)?;
            format!(" in {}", path.display())
        }
        None => {
            output::file(&mut written.file)?;
            String::new()
        }
    };
    output::note(format_args!("{} rows, complete{whereto}", written.rows));
    Ok(ExitCode::SUCCESS)
}

/// Whoever ends the program leaves no draft behind.
async fn write(engine: &Engine, request: &ExportRequest, file: File) -> Result<WrittenExport, Failure> {
    let (seen, rows) = watch::channel(0);
    let stop = ending::signals();
    tokio::select! {
        written = engine.exports.write(request, file, &seen) => written.map_err(|error| {
            output::note(format_args!("the export failed after {} rows; nothing was written", *rows.borrow()));
            error.into()
        }),
        () = stop => Err("it was asked to end; nothing was written".into()),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_target(path: &Path, force: bool) -> Result<(), Failure> {
    let name = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{name}: {error}").into()),
        Ok(_) if !force => Err(exists(path)),
        Ok(found) if !found.is_file() => {
            Err(format!("{name} is no file; name one, or - for standard output").into())
        }
        Ok(_) => Ok(()),
    }
}

fn put(whole: &mut File, path: &Path, force: bool) -> Result<(), Failure> {
    let copied = NamedTempFile::with_prefix_in(".sluice-export-", folder_of(path)).and_then(|mut named| {
        whole.rewind()?;
        io::copy(whole, named.as_file_mut())?;
        named.as_file().sync_all()?;
        Ok(named.into_temp_path())
    });
    let draft = copied.map_err(|error| unwritable(path, &error))?;
    let put = if force { draft.persist(path) } else { draft.persist_noclobber(path) };
    put.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => unwritable(path, &error.error),
    })
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    format!("{}: it can't be written: {error}", path.display()).into()
}

fn exists(path: &Path) -> Failure {
    format!("{} exists; name another file, or replace it with --force", path.display()).into()
}
