//! One SQL statement of somebody else's.
//!
//! Guarantee: it reads, and only the tables it may; see [`guard`]. It runs in a thread of its own on a connection of
//! its own, which end with it. The caller has the answer, or is told that there is none, at the deadline, whatever
//! the thread does then: a call of one function that takes long can't be interrupted, and keeps its place until it
//! is done. There are two places, so questions never take the machine from the drains and syncs.

mod aggregates;
mod answer;
mod decimals;
mod dialect;
mod functions;
mod guard;
mod postgres;
mod times;
mod to_char;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, Error, ErrorCode, InterruptHandle};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

pub(crate) use self::dialect::readings;
use self::dialect::{Columns, Kind, Translated};
use super::PART;
use crate::{
    domain::Catalog,
    embedded::{EmbeddedDb, MemoryPressure},
    fault::{Fault, FaultKind},
    next_step::NextStep,
    store::{
        QueryAnswer, QueryLimits, StreamedRows, readable, refused_statement, slow_statement,
        tables::{Column, StoreTable, tables},
    },
    streaming,
};

/// Questions that run at the same time.
const MAX_RUNNING: usize = 2;

/// How long an interrupted question gets to end by itself, which it nearly always does within milliseconds.
const GRACE: Duration = Duration::from_millis(250);

/// What to do when memory runs out.
const NARROWER: &str = "select, sort or group fewer rows and columns, or add LIMIT, and ask again";

/// Enough for the deepest statement that is parsed, also where nothing is optimized.
const STACK: usize = 32 << 20;

/// Answers SQL over the readable tables of the embedded file.
pub(super) struct QueryRunner {
    db: Arc<EmbeddedDb>,
    catalog: Catalog,
    readable: Arc<Readable>,
    slots: Arc<Semaphore>,
}

/// What a question may read, and what SQLite's types do not tell of it.
struct Readable {
    tables: Vec<&'static str>,
    columns: HashMap<&'static str, Columns>,
}

impl Readable {
    fn of(catalog: Catalog) -> Self {
        let columns = |table: StoreTable| {
            let named = |column: &Column| (column.name.to_lowercase(), Kind::of_column(column.kind));
            (table.table, Columns::new(table.columns.iter().map(named).collect()))
        };
        Self { tables: readable(catalog), columns: tables(catalog).into_iter().map(columns).collect() }
    }

    fn columns(&self, table: &str) -> Columns {
        let found = self.columns.iter().find(|(name, _)| name.eq_ignore_ascii_case(table));
        found.map(|(_, columns)| columns.clone()).unwrap_or_default()
    }

    /// The primary key, on which all columns of a row depend.
    fn key(&self, table: &str) -> Vec<String> {
        if table.eq_ignore_ascii_case("eventos_agregados") {
            return ["janela_inicio", "categoria", "evento"].map(str::to_owned).to_vec();
        }
        self.columns(table).iter().take(1).map(|(name, _)| name.clone()).collect()
    }

    fn has(&self, table: &str) -> bool {
        self.tables.iter().any(|name| name.eq_ignore_ascii_case(table))
    }
}

impl QueryRunner {
    pub(super) fn new(db: Arc<EmbeddedDb>, catalog: Catalog) -> Self {
        Self {
            db,
            catalog,
            readable: Arc::new(Readable::of(catalog)),
            slots: Arc::new(Semaphore::new(MAX_RUNNING)),
        }
    }

    pub(super) async fn query(&self, sql: &str, limits: QueryLimits) -> Result<QueryAnswer, Fault> {
        let (sent, mut answer) = oneshot::channel();
        let running = self
            .run(sql, limits, move |question, db, opened| {
                let answered = question.ask(db, opened, |connection, translated| {
                    answer::answer(
                        connection,
                        question.catalog,
                        translated,
                        &question.limits,
                        &question.deadline,
                    )
                });
                let _ = sent.send(answered);
            })
            .await?;
        if let Ok(answered) = timeout(limits.timeout, &mut answer).await {
            return answered.unwrap_or_else(|_| Err(broken()));
        }
        drop(running);
        match timeout(GRACE, answer).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(broken())),
            Err(_) => Err(slow_statement(PART, &limits)),
        }
    }

    pub(super) async fn stream(&self, sql: &str, limits: QueryLimits) -> Result<StreamedRows, Fault> {
        let (begun, columns) = oneshot::channel();
        let (mut sending, mut rows) = streaming::stream(PART);
        let running = self
            .run(sql, limits, move |question, db, opened| {
                let outcome = question.ask(db, opened, |connection, translated| {
                    answer::stream(
                        connection,
                        question.catalog,
                        translated,
                        &question.limits,
                        &question.deadline,
                        begun,
                        &mut sending,
                    )
                });
                sending.finish_blocking(outcome);
            })
            .await?;
        match timeout(limits.timeout, columns).await {
            Ok(Ok(columns)) => {
                Ok(StreamedRows { columns, warning: None, rows: rows.guarded(Mutex::new(running)) })
            }
            // It ended before it began.
            Ok(Err(_)) => Err(rows.next().await.err().unwrap_or_else(broken)),
            Err(_) => Err(slow_statement(PART, &limits)),
        }
    }

    /// Runs a question in a thread of its own.
    async fn run(
        &self,
        sql: &str,
        limits: QueryLimits,
        work: impl FnOnce(&Question, &EmbeddedDb, oneshot::Sender<InterruptHandle>) + Send + 'static,
    ) -> Result<Running, Fault> {
        let slot = self.slot(&limits).await?;
        let deadline = Deadline::new(limits.timeout, self.db.pressure());
        let question = Question {
            sql: sql.to_owned(),
            limits,
            catalog: self.catalog,
            readable: self.readable.clone(),
            deadline: deadline.clone(),
        };
        let (db, (opened, handle)) = (self.db.clone(), oneshot::channel());
        // Not one of the runtime's threads: those hold up the end of the process.
        thread::Builder::new()
            .name("sql".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                work(&question, &db, opened);
                drop(slot);
            })
            .map_err(|error| {
                Fault::transient(PART, format!("sql: no thread for it: {error}"), "try again")
            })?;
        Ok(Running { deadline, handle })
    }

    /// A place among those that run. Several short questions at once are answered one after the other; behind long
    /// ones the caller is told.
    async fn slot(&self, limits: &QueryLimits) -> Result<OwnedSemaphorePermit, Fault> {
        match timeout(limits.timeout / 3, self.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(Fault::transient(
                PART,
                format!("sql: {MAX_RUNNING} other statements are running, as many as may at once"),
                "wait for their answers and ask again; narrower statements end sooner",
            )),
        }
    }
}

/// When a question must have ended, or that it must end now: nobody waits for it any more, or its memory is needed.
#[derive(Clone)]
struct Deadline {
    at: Arc<Mutex<Instant>>,
    given_up: Arc<AtomicBool>,
    pressure: Arc<MemoryPressure>,
    /// How often memory had been asked back when the question came.
    asked_before: u64,
}

impl Deadline {
    fn new(timeout: Duration, pressure: Arc<MemoryPressure>) -> Self {
        let asked_before = pressure.asked();
        Self {
            at: Arc::new(Mutex::new(Instant::now() + timeout)),
            given_up: Arc::default(),
            pressure,
            asked_before,
        }
    }

    fn is_over(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) || self.memory_is_needed() || Instant::now() > *self.lock()
    }

    /// What has run so far was a step of something longer.
    fn begin_anew(&self, timeout: Duration) {
        *self.lock() = Instant::now() + timeout;
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_is_needed(&self) -> bool {
        self.pressure.asked() != self.asked_before
    }
}

/// Ends the question when dropped, be it at the deadline or because the caller has gone.
struct Running {
    deadline: Deadline,
    handle: oneshot::Receiver<InterruptHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.deadline.given_up.store(true, Ordering::Relaxed);
        if let Ok(handle) = self.handle.try_recv() {
            handle.interrupt();
        }
    }
}

/// A statement on its way through its thread.
struct Question {
    sql: String,
    limits: QueryLimits,
    catalog: Catalog,
    readable: Arc<Readable>,
    deadline: Deadline,
}

impl Question {
    /// The inner error of `then` is one of the statement's, the outer one is SQLite's.
    fn ask<T>(
        &self,
        db: &EmbeddedDb,
        opened: oneshot::Sender<InterruptHandle>,
        then: impl FnOnce(&Connection, &Translated<'_>) -> rusqlite::Result<Result<T, Fault>>,
    ) -> Result<T, Fault> {
        if self.sql.len() > guard::MAX_STATEMENT {
            return Err(refused_statement(
                PART,
                self.catalog,
                format!("it is longer than {} bytes", guard::MAX_STATEMENT),
            ));
        }
        let translated = match dialect::translate(&self.sql, &self.readable) {
            Ok(translated) => translated,
            Err((what, instead)) => {
                return Err(foreign(
                    format!("{what}: not known to this store, which speaks SQLite's dialect"),
                    &instead,
                ));
            }
        };
        db.check_place()?;
        let answered = db.reader().and_then(|mut connection| {
            let _ = opened.send(connection.get_interrupt_handle());
            guard::restrict(&mut connection, &self.readable, self.deadline.clone())?;
            then(&connection, &translated)
        });
        answered.unwrap_or_else(|error| Err(self.fault(&error)))
    }

    /// What went wrong, without a value: SQLite's own words name the statement's parts and the tables' columns.
    fn fault(&self, error: &Error) -> Fault {
        let (code, words) = match error {
            Error::SqlInputError { error, msg, .. } => (Some(error.code), msg.as_str()),
            Error::SqliteFailure(error, words) => {
                (Some(error.code), words.as_deref().unwrap_or("SQLite can't answer it"))
            }
            _ => (None, ""),
        };
        match code {
            Some(ErrorCode::OperationInterrupted) if self.deadline.memory_is_needed() => Fault::transient(
                PART,
                "sql: it was stopped because the running statements took all the memory there is for them",
                NARROWER,
            ),
            Some(ErrorCode::OperationInterrupted) => slow_statement(PART, &self.limits),
            Some(ErrorCode::AuthorizationForStatementDenied) => refused_statement(
                PART,
                self.catalog,
                "it would read another table, call a function that does more than compute, or change something",
            ),
            Some(ErrorCode::TooBig) => {
                refused_statement(PART, self.catalog, "it reads or makes a value that is too large")
            }
            Some(ErrorCode::OutOfMemory) => Fault::new(
                PART,
                FaultKind::Invalid,
                "sql: it needs more memory than a statement may take",
                NARROWER,
            ),
            Some(ErrorCode::Unknown) if words == aggregates::SEVERAL_ROWS => foreign(words, dialect::ONE_ROW),
            Some(ErrorCode::Unknown) => {
                let function = words.strip_prefix("no such function: ").and_then(dialect::hint);
                function.map_or_else(
                    || refused_statement(PART, self.catalog, words),
                    |instead| foreign(words, instead),
                )
            }
            _ => Fault::transient(PART, "sql: sluice.db can't be read just now", NextStep::SeeStatus),
        }
    }
}

/// What a caller learns who wrote what only PostgreSQL has.
fn foreign(problem: impl std::fmt::Display, instead: &str) -> Fault {
    Fault::new(PART, FaultKind::Invalid, format!("sql: {problem}"), format!("write {instead}"))
}

/// What a caller learns whose question ended by a mistake of this program.
fn broken() -> Fault {
    Fault::transient(PART, "sql: its thread ended without an answer", "report this, with the statement")
}
