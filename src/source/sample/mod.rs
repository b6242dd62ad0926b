//! A sample Supabase: an HTTP server of ours that answers as PostgREST does, for tests and demonstrations.
//!
//! It evaluates the query language for real and refuses what it does not understand, so that a query that works
//! here is one that PostgREST understands, too.

mod column;
mod failure;
mod filter;
mod generate;
mod project;
mod server;
mod source;
mod table;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::{
    column::SampleColumn,
    failure::Failure,
    generate::Generator,
    project::{Beginning, SampleProject},
    source::SampleSource,
};
use self::{
    server::{Hook, PUBLIC, State},
    table::{Row, SampleTable, row_of, row_of_text},
};
use crate::domain::{Catalog, Json, JsonObject, Table, json::to_value};

/// Keys the sample server takes. They open nothing else.
pub mod keys {
    pub const SECRET: &str = "sb_secret_sample";
    pub const PUBLISHABLE: &str = "sb_publishable_sample";
    /// A legacy key with the role `service_role`.
    pub const SERVICE_ROLE: &str = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.sample";
    /// A legacy key with the role `anon`.
    pub const ANON: &str = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.sample";
}

/// The cap of a real project.
const MAX_ROWS: usize = 1000;

/// What the server does instead of answering.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Answers with a refusal.
    Refuse(Failure),
    /// Never answers.
    Hang,
    /// Answers well, but only after a while.
    Delay(Duration),
    /// Answers half of what it should, with 200.
    CutOff,
    /// Answers with a page for people, with 200.
    WebPage,
    /// Shows no rows, though it counts them.
    NoRows,
}

/// A request as it came, without its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    pub path: String,
    /// Decoded names and values.
    pub query: Vec<(String, String)>,
    /// The schema it named.
    pub schema: String,
    /// The names of the headers that carried a key.
    pub key_headers: Vec<String>,
    pub user_agent: String,
    pub accept_encoding: String,
    pub at: std::time::Instant,
}

/// A running sample server; dropping it stops it.
#[derive(Debug)]
pub struct SampleServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl SampleServer {
    /// Starts an empty project on 127.0.0.1; port 0 takes any that is free.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        for table in Catalog::built_in().tables() {
            let name = (schema_of(table).to_owned(), table.source_name().to_owned());
            lock(&state)
                .tables
                .insert(name, SampleTable { columns: SampleColumn::of(table), rows: Vec::new() });
        }
        let stop = CancellationToken::new();
        let serving = axum::serve(listener, server::router(state.clone()))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the sample server ended");
            }
        });
        Ok(Self { address, state, stop, task })
    }

    /// What SUPABASE_URL has to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns when the server has ended.
    pub async fn ended(mut self) {
        (&mut self.task).await.ok();
    }

    /// Serves this project, as it is at the time of each request. Replaces all rows and caps pages as Supabase does.
    pub fn set_project(&self, project: SampleProject) {
        let mut state = self.lock();
        state.max_rows = Some(MAX_ROWS);
        state.set_project(project);
    }

    /// Lets `count` things happen to the project now, and remembers it in `folder`: leads change and come, chats
    /// begin and end.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn hurry(&self, folder: &Path, count: u64) -> std::io::Result<()> {
        self.lock().hurry(folder, count)
    }

    /// Makes a table, or makes it anew, with rows of JSON text: what serde's values can't hold is answered as it is.
    ///
    /// # Errors
    /// When a row is no JSON object.
    pub fn create_table(
        &self,
        schema: &str,
        name: &str,
        columns: Vec<SampleColumn>,
        rows: &[impl AsRef<str>],
    ) -> serde_json::Result<()> {
        let mut table = SampleTable { columns, rows: rows_of_text(rows)? };
        table.learn(&table.rows.clone());
        self.lock().tables.insert((schema.to_owned(), name.to_owned()), table);
        Ok(())
    }

    /// Replaces a table's rows. A column that is new to the table is added to it.
    pub fn set_rows(&self, table: Table, rows: Vec<JsonObject>) {
        self.lock().set_rows(schema_of(table), table.source_name(), rows.iter().map(row_of).collect());
    }

    /// As [`Self::set_rows`], with rows of JSON text.
    ///
    /// # Errors
    /// When a row is no JSON object.
    pub fn set_text_rows(&self, table: Table, rows: &[impl AsRef<str>]) -> serde_json::Result<()> {
        let rows = rows_of_text(rows)?;
        self.lock().set_rows(schema_of(table), table.source_name(), rows);
        Ok(())
    }

    /// Inserts rows, or replaces those with the same key.
    pub fn upsert(&self, table: Table, rows: Vec<JsonObject>) {
        let rows = rows.iter().map(row_of).collect();
        let key = table.definition().key_source();
        self.lock().upsert(schema_of(table), table.source_name(), key, rows);
    }

    /// Changes a row where it stands and sets its modification time to now, as a trigger would.
    pub fn change(&self, table: Table, id: &Value, changes: Value) {
        let definition = table.definition();
        let mut changes = changes.as_object().cloned().unwrap_or_default();
        if let Some(modified) = &definition.time.modified {
            let now = json!(generate::spelled(Utc::now()));
            changes.entry(definition.source_of(modified)).or_insert(now);
        }
        let key = (definition.key_source(), &Json::from(id));
        self.lock().change(schema_of(table), table.source_name(), key, &row_of(&changes));
    }

    /// A table's rows.
    pub fn rows(&self, table: Table) -> Vec<JsonObject> {
        let shown =
            |row: &Row| row.iter().map(|(name, value)| (name.clone(), to_value(value.as_str()))).collect();
        let mut state = self.lock();
        let table = state.table(schema_of(table), table.source_name());
        table.map(|table| table.rows.iter().map(shown).collect()).unwrap_or_default()
    }

    /// Takes a column out of a table.
    pub fn drop_column(&self, table: Table, column: &str) {
        self.lock().drop_column(schema_of(table), table.source_name(), column);
    }

    /// Takes a table away.
    pub fn drop_table(&self, table: Table) {
        self.lock().tables.remove(&(schema_of(table).to_owned(), table.source_name().to_owned()));
    }

    /// Sets the silent cap on a page's rows; Supabase's is 1,000.
    pub fn set_max_rows(&self, rows: Option<usize>) {
        self.lock().max_rows = rows;
    }

    /// Has every count come to so many, whatever is counted, as a proxy does that knows no filter.
    pub fn set_told_count(&self, rows: Option<usize>) {
        self.lock().told_count = rows;
    }

    /// Whether row-level security hides everything from keys of low privilege.
    pub fn set_row_level_security(&self, on: bool) {
        self.lock().row_level_security = on.then_some(0);
    }

    /// Has a policy show keys of low privilege one row in so many.
    pub fn show_one_in(&self, rows: usize) {
        self.lock().row_level_security = Some(rows);
    }

    /// Whether the project describes itself.
    pub fn set_openapi(&self, on: bool) {
        self.lock().openapi = on;
    }

    /// What to do with the next requests for the project's description of itself, one each.
    pub fn script_openapi(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().openapi_script.extend(faults);
    }

    /// How far the clock that answers are dated by is ahead of this machine's.
    pub fn set_clock(&self, ahead: TimeDelta) {
        self.lock().clock = ahead;
    }

    /// What to do with the next requests for rows, one each.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().script.extend(faults);
    }

    /// Calls this before each request for rows is answered, so that a test can change the project between two pages.
    pub fn before_each_answer(&self, hook: impl Fn(&SeenRequest) + Send + Sync + 'static) {
        self.lock().hook = Some(Hook(Arc::new(hook)));
    }

    /// Every request so far, and forgets them.
    pub fn take_requests(&self) -> Vec<SeenRequest> {
        std::mem::take(&mut self.lock().seen).into()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for SampleServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

fn schema_of(table: Table) -> &'static str {
    table.definition().source.schema.as_deref().unwrap_or(PUBLIC)
}

fn rows_of_text(rows: &[impl AsRef<str>]) -> serde_json::Result<Vec<Row>> {
    rows.iter().map(|row| row_of_text(row.as_ref())).collect()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
