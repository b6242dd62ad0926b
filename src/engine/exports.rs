//! Exports: every row of a statement or a search in a file.
//!
//! # Guarantee
//!
//! A file is somebody's once all rows are in it: the part says how many there were, the file is counted again, and
//! nobody was erased meanwhile. What fails before leaves no file behind. Memory holds some rows, however many there
//! are. One export runs at a time, so that questions keep a place, and none runs for ever.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::{timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{EngineError, shared::Shared};
use crate::{
    data_folder::DataFolder,
    domain::{Members, json},
    export::{Column, Encoder, Format, KeptExport, KeptExports, Reader, Times, Writer},
    fault::{Fault, FaultKind},
    index::{IndexName, SearchRequest},
    store::{
        QueryColumn, QueryLimits, StreamedRows, StreamedValue,
        tables::{Column as StoreColumn, StoreTable},
    },
    streaming::Streamed,
};

/// What faults call this part.
const PART: &str = "export";

/// The largest row, in bytes.
const MAX_ROW: usize = 4 << 20;

/// Rows that are masked and written together, and about as many bytes.
const BATCH_ROWS: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// How long an export waits for the one that runs, and how long it may run.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
const WHOLE_TIMEOUT: Duration = Duration::from_mins(10);

/// How long it is remembered why one failed.
const REMEMBERED: Duration = Duration::from_hours(1);

/// How often it is looked for files that expired.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// What an entity's table has for sluice alone.
const OWN_COLUMNS: [&str; 3] = ["versao", "evento_id", "processado_em"];

/// Where files lie, for how long, and how large each may be.
#[derive(Debug, Clone)]
pub struct ExportSettings {
    pub folder: PathBuf,
    /// What the folder is in, where this process has it open: nothing is made in one that replaced it.
    pub data_folder: Option<Arc<DataFolder>>,
    pub lifetime: TimeDelta,
    pub max_bytes: u64,
}

/// What is exported.
#[derive(Debug, Clone)]
pub enum ExportOf {
    Sql(String),
    Search(SearchRequest),
}

/// What may leave of rows.
pub trait ExportMask: Send + Sync {
    /// Contacts leave as they are.
    fn shows_contacts(&self) -> bool;
    /// The same rows as answers show them. `store` is the name of the store that was asked.
    fn masked(
        &self,
        of: &ExportOf,
        store: &'static str,
        columns: &[QueryColumn],
        rows: Vec<Vec<Value>>,
    ) -> Vec<Vec<Value>>;
}

/// An export that somebody wants.
#[derive(Clone)]
pub struct ExportRequest {
    pub of: ExportOf,
    pub format: Format,
    pub mask: Arc<dyn ExportMask>,
    /// How long the store may take from some rows to the next.
    pub step: Duration,
}

/// A file that is whole.
#[derive(Debug)]
pub struct WrittenExport {
    pub file: File,
    pub rows: u64,
    pub bytes: u64,
    /// What the operator should mend, although the statement was answered.
    pub warning: Option<String>,
    erasures: Uuid,
}

/// How an export stands.
#[derive(Debug, Clone)]
pub enum ExportState {
    /// So many rows are written.
    Running(u64),
    Done(KeptExport),
}

/// Sees how many rows are written.
#[async_trait]
pub trait ExportWatcher: Send {
    async fn saw(&mut self, rows: u64);
}

type Outcome = Option<Result<KeptExport, EngineError>>;

/// An export of this process.
struct Begun {
    owner: String,
    of: ExportOf,
    table: Option<String>,
    at: Instant,
    rows: watch::Receiver<u64>,
    outcome: watch::Receiver<Outcome>,
    cancel: CancellationToken,
}

/// Makes files of rows, and keeps those of clients.
pub struct Exports {
    shared: Arc<Shared>,
    place: Semaphore,
    begun: Mutex<HashMap<Uuid, Begun>>,
}

/// Rows of a store, or documents of an index whose members become rows.
enum Rows {
    Store(Streamed<Vec<StreamedValue>>),
    Index(Streamed<String>, Vec<QueryColumn>),
}

impl Rows {
    async fn next(&mut self) -> Result<Option<Vec<StreamedValue>>, Fault> {
        match self {
            Self::Store(rows) => rows.next().await,
            Self::Index(documents, columns) => {
                Ok(documents.next().await?.map(|document| values(&document, columns)))
            }
        }
    }
}

impl Exports {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, place: Semaphore::new(1), begun: Mutex::default() }
    }

    /// The statement that has every row of a table.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn of_table(&self, name: &str) -> Result<ExportOf, EngineError> {
        let Some(table) = StoreTable::named(self.shared.catalog, name) else {
            let known = crate::store::readable(self.shared.catalog).join(", ");
            return Err(EngineError::Invalid {
                field: "table",
                problem: format!("there is no table '{name}'; there are {known}"),
            });
        };
        let columns: Vec<String> = exported(&table).map(|column| format!("\"{}\"", column.name)).collect();
        Ok(ExportOf::Sql(format!("SELECT {} FROM \"{}\"", columns.join(", "), table.table)))
    }

    /// Writes every row into an empty file. What was written is of no use where it fails.
    ///
    /// # Errors
    /// When the statement or the search may not be asked, a part fails, the file grows too large or can't be written,
    /// or somebody is erased meanwhile.
    pub async fn write(
        &self,
        request: &ExportRequest,
        file: File,
        seen: &watch::Sender<u64>,
    ) -> Result<WrittenExport, EngineError> {
        let Ok(Ok(_place)) = timeout(TURN_TIMEOUT, self.place.acquire()).await else {
            let problem = "another export is running, and one runs at a time";
            return Err(Fault::transient(PART, problem, "wait for its end and try again").into());
        };
        match timeout(WHOLE_TIMEOUT, self.write_all(request, file, seen)).await {
            Ok(written) => written,
            Err(_) => {
                let minutes = WHOLE_TIMEOUT.as_secs() / 60;
                let problem = format!("it took longer than {minutes} minutes and was stopped");
                Err(Fault::new(PART, FaultKind::Invalid, problem, "export parts of it, by a range of time")
                    .into())
            }
        }
    }

    async fn write_all(
        &self,
        request: &ExportRequest,
        file: File,
        seen: &watch::Sender<u64>,
    ) -> Result<WrittenExport, EngineError> {
        let erasures = self.shared.erased.ledger().await?.version();
        let store = self.shared.store.name();
        let (columns, warning, mut rows, total) = self.rows(request).await?;
        let named = columns.iter().map(|column| Column {
            name: column.name.clone(),
            times: match (&*column.kind, &request.of) {
                ("timestamptz", _) => Times::Instants,
                ("timestamp", _) => Times::Local,
                ("any", ExportOf::Sql(_)) => Times::Zoned,
                _ => Times::None,
            },
        });
        let encoder = Encoder::new(request.format, named.collect(), self.shared.settings.zone);
        let max_bytes = self.shared.exports.max_bytes;
        let mut writer = Writer::begin(file, request.format, encoder, max_bytes).map_err(unwritten)?;
        let columns = Arc::new(columns);
        loop {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < BATCH_ROWS && bytes < BATCH_BYTES {
                let Some(row) = rows.next().await? else { break };
                bytes += row.iter().map(size).sum::<usize>();
                batch.push(row);
            }
            if batch.is_empty() {
                break;
            }
            let (request, columns) = (request.clone(), columns.clone());
            let written = spawn_blocking(move || {
                for row in masked(&request, store, &columns, batch) {
                    writer.row(&row)?;
                }
                Ok(writer)
            });
            writer = written.await.map_err(|_| broken())?.map_err(unwritten)?;
            seen.send_replace(writer.rows());
        }
        let finished = spawn_blocking(|| writer.finish()).await.map_err(|_| broken())?;
        let (file, rows, bytes) = finished.map_err(unwritten)?;
        if let Some(total) = total.filter(|total| *total != rows) {
            let problem = format!("the index told of {total} documents and gave {rows}");
            return Err(Fault::transient(PART, problem, "try again").into());
        }
        if self.shared.erased.ledger().await?.version() != erasures {
            return Err(erased_meanwhile().into());
        }
        Ok(WrittenExport { file, rows, bytes, warning, erasures })
    }

    async fn rows(
        &self,
        request: &ExportRequest,
    ) -> Result<(Vec<QueryColumn>, Option<String>, Rows, Option<u64>), EngineError> {
        match &request.of {
            ExportOf::Sql(statement) => {
                let limits =
                    QueryLimits { rows: usize::MAX, bytes: MAX_ROW, timeout: request.step, verbatim: true };
                let store = self.shared.ready_store().await?;
                let StreamedRows { columns, warning, rows } = store.stream(statement, limits).await?;
                Ok((columns, warning, Rows::Store(rows), None))
            }
            ExportOf::Search(search) => {
                let found = self.shared.index.scan(search).await?;
                let columns = document_columns(search.index);
                Ok((columns.clone(), None, Rows::Index(found.documents, columns), Some(found.total)))
            }
        }
    }

    /// Begins an export for a client; what comes of it is asked for by its id. `name` is what files of it are called,
    /// `table` the one that was named.
    pub fn start(
        self: &Arc<Self>,
        request: ExportRequest,
        owner: &str,
        name: &str,
        table: Option<String>,
    ) -> Uuid {
        let id = Uuid::now_v7();
        let (seen, rows) = watch::channel(0);
        let (ended, outcome) = watch::channel(None);
        let cancel = CancellationToken::new();
        let begun = Begun {
            owner: owner.to_owned(),
            of: request.of.clone(),
            table,
            at: Instant::now(),
            rows,
            outcome,
            cancel: cancel.clone(),
        };
        let mut known = self.lock();
        known.retain(|_, begun| begun.outcome.borrow().is_none() || begun.at.elapsed() < REMEMBERED);
        known.insert(id, begun);
        drop(known);
        let (exports, owner, name) = (self.clone(), owner.to_owned(), name.to_owned());
        self.shared.tasks.spawn(async move {
            let kept = tokio::select! {
                kept = exports.write_kept(id, &request, &owner, &name, &seen) => kept,
                () = cancel.cancelled() => Err(stopped("whoever wanted it took that back")),
                () = exports.shared.closing.cancelled() => Err(stopped("the server ended")),
            };
            if let Err(error) = &kept {
                exports.shared.exports.discard(id);
                tracing::debug!(%error, %id, "an export failed");
            }
            ended.send_replace(Some(kept));
        });
        id
    }

    async fn write_kept(
        &self,
        id: Uuid,
        request: &ExportRequest,
        owner: &str,
        name: &str,
        seen: &watch::Sender<u64>,
    ) -> Result<KeptExport, EngineError> {
        let kept_exports = &self.shared.exports;
        if let Some(folder) = &self.shared.settings.exports.data_folder {
            folder.check_place()?;
        }
        let draft = kept_exports.draft(id).map_err(|error| unusable(&error))?;
        let written = self.write(request, draft, seen).await?;
        let made_at = Utc::now();
        let kept = KeptExport {
            id,
            owner: owner.to_owned(),
            shows_contacts: request.mask.shows_contacts(),
            name: name.to_owned(),
            format: request.format,
            rows: written.rows,
            bytes: written.bytes,
            erasures: written.erasures,
            made_at,
            expires_at: made_at + kept_exports.lifetime,
        };
        kept_exports.keep(&kept).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => erased_meanwhile(),
            _ => unusable(&error),
        })?;
        Ok(kept)
    }

    /// What an export of this process is of, and the table that was named for it; `None` where it is not this owner's.
    pub fn asked(&self, id: Uuid, owner: &str) -> Option<(ExportOf, Option<String>)> {
        let begun = self.lock();
        let begun = begun.get(&id).filter(|begun| begun.owner == owner)?;
        Some((begun.of.clone(), begun.table.clone()))
    }

    /// Stops an export of this process when it is cancelled.
    pub fn cancellation(&self, id: Uuid) -> Option<CancellationToken> {
        self.lock().get(&id).map(|begun| begun.cancel.clone())
    }

    /// How an export stands once it has ended, or after `patience`; `None` where this reader has none of that id.
    ///
    /// # Errors
    /// Why it failed; or when its file can't be read.
    pub async fn wait_for(
        &self,
        id: Uuid,
        reader: &Reader,
        patience: Duration,
        watcher: &mut dyn ExportWatcher,
    ) -> Result<Option<ExportState>, EngineError> {
        let deadline = tokio::time::Instant::now() + patience;
        let begun = self
            .lock()
            .get(&id)
            .filter(|begun| begun.owner == reader.owner)
            .map(|begun| (begun.rows.clone(), begun.outcome.clone()));
        let Some((mut rows, mut outcome)) = begun else {
            return Ok(self.open(id, reader).await?.map(|(kept, _)| ExportState::Done(kept)));
        };
        loop {
            let ended = outcome.borrow().clone();
            if let Some(ended) = ended {
                return match ended {
                    Err(error) => Err(error),
                    Ok(_) => Ok(self.open(id, reader).await?.map(|(kept, _)| ExportState::Done(kept))),
                };
            }
            let next = timeout_at(deadline, async {
                tokio::select! {
                    _ = outcome.changed() => None,
                    _ = rows.changed() => Some(*rows.borrow_and_update()),
                }
            });
            match next.await {
                Ok(Some(rows)) => watcher.saw(rows).await,
                Ok(None) if outcome.has_changed().is_err() && outcome.borrow().is_none() => {
                    return Err(stopped("it broke off"));
                }
                Ok(None) => {}
                Err(_) => return Ok(Some(ExportState::Running(*rows.borrow()))),
            }
        }
    }

    /// A whole file that this reader may have. One that was made before an erasure is removed.
    ///
    /// # Errors
    /// When the file, or the ledger of erasures, can't be read.
    pub async fn open(&self, id: Uuid, reader: &Reader) -> Result<Option<(KeptExport, File)>, EngineError> {
        let found = self.shared.exports.find(id, reader).map_err(|error| unusable(&error))?;
        let Some((kept, file)) = found else { return Ok(None) };
        if self.shared.erased.ledger().await?.version() != kept.erasures {
            self.shared.exports.remove(&kept).map_err(|error| unusable(&error))?;
            return Ok(None);
        }
        Ok(Some((kept, file)))
    }

    /// Where a file lies, for whoever is at this machine.
    pub fn path(&self, kept: &KeptExport) -> PathBuf {
        self.shared.exports.path(kept)
    }

    /// Removes what expired, now and from time to time.
    pub fn keep_sweeping(self: &Arc<Self>) {
        let exports = self.clone();
        self.shared.tasks.spawn(async move {
            loop {
                let erasures = exports.shared.erased.ledger().await.ok().map(|ledger| ledger.version());
                if let Err(error) = exports.shared.exports.sweep(erasures) {
                    tracing::warn!(%error, "exports that expired can't be removed");
                }
                if timeout(SWEEP_INTERVAL, exports.shared.closing.cancelled()).await.is_ok() {
                    return;
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ExportSettings {
    pub(super) fn kept(&self) -> KeptExports {
        KeptExports::new(self.folder.clone(), self.lifetime, self.max_bytes)
    }
}

/// The columns of a table that people want.
fn exported(table: &StoreTable) -> impl Iterator<Item = &StoreColumn> {
    let is_event = table.table == "eventos_raw";
    table.columns.iter().filter(move |column| is_event || !OWN_COLUMNS.contains(&column.name))
}

fn document_columns(index: IndexName) -> Vec<QueryColumn> {
    let column = |name: &str, kind: &str| QueryColumn { name: name.to_owned(), kind: kind.to_owned() };
    match index {
        IndexName::Entities(table) => {
            exported(&StoreTable::of(table)).map(|of| column(of.name, of.kind)).collect()
        }
        IndexName::Eventos => {
            let kind = |name| if name == "timestamp" { "timestamptz" } else { "any" };
            let members = index.telling().into_iter().chain(["dados"]);
            members.map(|name| column(name, kind(name))).collect()
        }
    }
}

/// A document's members as a row.
fn values(document: &str, columns: &[QueryColumn]) -> Vec<StreamedValue> {
    let members = Members::of(document).unwrap_or_default();
    let value = |column: &QueryColumn| {
        let text = members.get(&column.name).unwrap_or("null");
        // A row that no server takes as JSON is held as its text.
        match json::text(text).filter(|_| column.name == "dados") {
            Some(row) => StreamedValue::of_json(&row),
            None => StreamedValue::of_json(text),
        }
    };
    columns.iter().map(value).collect()
}

/// The rows as they may leave: what was not changed keeps its digits.
fn masked(
    request: &ExportRequest,
    store: &'static str,
    columns: &[QueryColumn],
    rows: Vec<Vec<StreamedValue>>,
) -> Vec<Vec<StreamedValue>> {
    let shown = rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    let leaving = request.mask.masked(&request.of, store, columns, shown);
    let pairs = rows.into_iter().zip(leaving);
    pairs
        .map(|(row, leaving)| {
            let value = |(before, shown): (StreamedValue, Value)| {
                let exact = before.exact.filter(|_| before.shown == shown);
                StreamedValue { shown, exact }
            };
            row.into_iter().zip(leaving).map(value).collect()
        })
        .collect()
}

/// A value as answers have it. Of a line break, whose other half a terminal would obey, the line is left.
fn shown(value: &StreamedValue) -> Value {
    match &value.shown {
        Value::String(text) => Value::from(text.replace("\r\n", "\n")),
        other => other.clone(),
    }
}

fn size(value: &StreamedValue) -> usize {
    match (&value.exact, &value.shown) {
        (Some(text), _) | (None, Value::String(text)) => text.len(),
        _ => 8,
    }
}

fn erased_meanwhile() -> Fault {
    Fault::transient(PART, "somebody was erased while it was made, and may be in it", "export again")
}

fn stopped(why: &str) -> EngineError {
    Fault::transient(PART, format!("it was stopped: {why}"), "export again").into()
}

fn broken() -> EngineError {
    Fault::transient(PART, "writing ended badly", "report this with the log lines before it").into()
}

fn unwritten(error: crate::export::WriteError) -> EngineError {
    use crate::export::WriteError;
    let advice = match error {
        WriteError::TooLarge(_) => {
            "export parts of it, by a range of time, or fewer columns; the operator can raise SLUICE_EXPORT_MAX_MIB"
        }
        WriteError::Disk(_) => "free some room on the disk and check that the folder can be written",
        WriteError::Differs { .. } => "check the disk, and export again",
    };
    Fault::new(PART, FaultKind::Invalid, format!("it is not complete: {error}"), advice).into()
}

fn unusable(error: &io::Error) -> Fault {
    Fault::misconfigured(
        PART,
        format!("the folder of exports can't be used: {error}"),
        "check that exports in the data folder is this user's and can be written, or set SLUICE_DATA_DIR to another",
    )
}
