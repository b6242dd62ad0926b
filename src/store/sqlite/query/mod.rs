//! One SQL statement of somebody else's.
//!
//! Guarantee: it reads, and only the tables it may; see [`guard`]. It runs in a thread of its own on a connection of
//! its own, which end with it. The caller has the answer, or is told that there is none, at the deadline, whatever
//! the thread does then: a call of one function that takes long can't be interrupted, and keeps its place until it
//! is done. There are two places, so questions never take the machine from the drains and syncs.

mod answer;
mod dialect;
mod functions;
mod guard;
mod postgres;
mod times;
mod to_char;

use std::{
    collections::HashMap,
    sync::{
        Arc,
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

use self::dialect::Kind;
use super::PART;
use crate::{
    domain::Catalog,
    embedded::{EmbeddedDb, MemoryPressure},
    fault::{Fault, FaultKind},
    next_step::NextStep,
    store::{QueryAnswer, QueryLimits, readable, refused_statement, slow_statement, tables::tables},
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
    /// Columns whose values are not what SQLite takes them for.
    kinds: HashMap<String, Kind>,
}

impl Readable {
    fn of(catalog: Catalog) -> Self {
        let mut kinds: HashMap<String, Option<Kind>> = HashMap::new();
        for column in tables(catalog).iter().flat_map(|table| &table.columns) {
            let kind = Kind::of_column(column.kind);
            let known = kinds.entry(column.name.to_lowercase()).or_insert(kind);
            // A name that means two things means nothing.
            if *known != kind {
                *known = None;
            }
        }
        let kinds = kinds.into_iter().filter_map(|(name, kind)| Some((name, kind?)));
        Self { tables: readable(catalog), kinds: kinds.collect() }
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
        let slot = self.slot(&limits).await?;
        let deadline = Deadline::new(limits.timeout, self.db.pressure());
        let question = Question {
            sql: sql.to_owned(),
            limits,
            catalog: self.catalog,
            readable: self.readable.clone(),
            deadline: deadline.clone(),
        };
        let (db, (opened, handle), (sent, mut answer)) =
            (self.db.clone(), oneshot::channel(), oneshot::channel());
        // Not one of the runtime's threads: those hold up the end of the process.
        thread::Builder::new()
            .name("sql".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let answered = question.ask(&db, opened);
                drop(slot);
                let _ = sent.send(answered);
            })
            .map_err(|error| {
                Fault::transient(PART, format!("sql: no thread for it: {error}"), "try again")
            })?;
        let running = Running { deadline, handle };
        if let Ok(answered) = timeout(limits.timeout, &mut answer).await {
            return answered.unwrap_or_else(|_| Err(broken()));
        }
        drop(running);
        match timeout(GRACE, answer).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(broken())),
            Err(_) => Err(slow_statement(PART, &limits)),
        }
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
    at: Instant,
    given_up: Arc<AtomicBool>,
    pressure: Arc<MemoryPressure>,
    /// How often memory had been asked back when the question came.
    asked_before: u64,
}

impl Deadline {
    fn new(timeout: Duration, pressure: Arc<MemoryPressure>) -> Self {
        let asked_before = pressure.asked();
        Self { at: Instant::now() + timeout, given_up: Arc::default(), pressure, asked_before }
    }

    fn is_over(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) || self.memory_is_needed() || Instant::now() > self.at
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
    fn ask(self, db: &EmbeddedDb, opened: oneshot::Sender<InterruptHandle>) -> Result<QueryAnswer, Fault> {
        if self.sql.len() > guard::MAX_STATEMENT {
            return Err(refused_statement(
                PART,
                self.catalog,
                format!("it is longer than {} bytes", guard::MAX_STATEMENT),
            ));
        }
        let sql = match dialect::translate(&self.sql, &self.readable) {
            Ok(sql) => sql,
            Err((what, instead)) => {
                return Err(foreign(
                    format!("{what} is not known to this store, which speaks SQLite's dialect"),
                    &instead,
                ));
            }
        };
        let answered = db.reader().and_then(|mut connection| {
            let _ = opened.send(connection.get_interrupt_handle());
            self.answer(&mut connection, &sql)
        });
        answered.unwrap_or_else(|error| Err(self.fault(&error)))
    }

    /// The inner error is one of the statement's, the outer one is SQLite's.
    fn answer(&self, connection: &mut Connection, sql: &str) -> rusqlite::Result<Result<QueryAnswer, Fault>> {
        guard::restrict(connection, &self.readable, self.deadline.clone())?;
        answer::answer(connection, self.catalog, sql, &self.limits, &self.deadline)
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
