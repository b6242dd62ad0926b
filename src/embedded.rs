//! The one SQLite file that the embedded log and the embedded store share.
//!
//! Every change is a transaction that is on disk when the call returns. One process may write: it holds the folder,
//! and any other that opens it can read, is told who writes, and takes over when that process has ended. Where the folder
//! is deleted or replaced under a process, that process writes and reads no more until it is started again: SQLite would go
//! on in a file that no name leads to any more, and all of it would be gone with the process.

use std::{
    convert::Infallible,
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono_tz::Tz;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, config::DbConfig,
    functions::FunctionFlags,
};

use crate::{
    data_folder::{DataFolder, FULL},
    domain::parse_instant,
    fault::{Fault, FaultKind},
    next_step::NextStep,
    private_files::{self, FileId},
    store,
};

/// What faults call this part.
pub const PART: &str = "embedded";

/// The file in the data folder.
const FILE: &str = "sluice.db";

/// What was written and is not in it yet. Closing the file ends it, so it stays only behind a process that was killed, or
/// while another one reads.
const JOURNAL: &str = "sluice.db-wal";

/// How long to look for damage before opening; what is larger is looked at as far as that goes.
const EXAMINED_WITHIN: Duration = Duration::from_secs(5);

/// Steps of SQLite between two looks at the clock.
const STEPS: i32 = 10_000;

/// Numbered migrations; a file's place is its number.
const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/sqlite/0001_tables.sql"),
    include_str!("../migrations/sqlite/0002_operations.sql"),
    include_str!("../migrations/sqlite/0003_columns.sql"),
];

/// How long to wait for another process to have made the file it holds.
const MADE_WITHIN: Duration = Duration::from_secs(5);

/// The most memory SQLite takes in this process, whatever is asked of it: ten times what writing and reading take.
const MAX_HEAP: i64 = 256 << 20;

/// What whoever writes keeps of the file in memory.
const WRITERS_CACHE_KIB: i64 = 16 << 10;

/// A statement looks at the clock often, but not within one step.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(5);

/// Less is no room: a batch and the journal take more.
const LITTLE_ROOM: u64 = 1 << 20;

/// How long a refused write counts that none followed: drains and schedules write more often while they are refused.
const REFUSED_FOR: Duration = Duration::from_mins(1);

/// Connections kept for the next question: as many as ask at once in an idle server.
const IDLE_READERS: usize = 4;

/// An open file.
pub struct EmbeddedDb {
    /// Readers wait neither for the writer nor for each other.
    readers: Arc<Mutex<Vec<Connection>>>,
    /// Once this process holds the folder.
    writer: Mutex<Option<Arc<Mutex<Connection>>>>,
    /// Which file was opened.
    file: FileId,
    pressure: Arc<MemoryPressure>,
    /// A table was made anew that somebody dropped under this process: whoever drains begins anew.
    remade: Arc<AtomicBool>,
    /// When the disk refused a write, and what that was told as; the next write that it takes ends it.
    refused: Arc<Mutex<Option<(Instant, Fault)>>>,
    /// The last to go: nobody else takes the folder before the connections are closed.
    folder: Arc<DataFolder>,
}

/// SQLite's memory is limited for the whole process, and one statement of somebody else's can take it all. So a call
/// of sluice's own that gets none asks for it back, and tries again; statements of others end when they are asked.
#[derive(Default)]
pub struct MemoryPressure {
    asked: AtomicU64,
}

impl MemoryPressure {
    /// How often memory was asked back.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn outlasted<T>(&self, mut attempt: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let until = Instant::now() + GIVEN_BACK_WITHIN;
        loop {
            match attempt() {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::OutOfMemory)
                        && Instant::now() < until =>
                {
                    self.asked.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(10));
                }
                outcome => return outcome,
            }
        }
    }
}

impl EmbeddedDb {
    /// As [`EmbeddedDb::in_folder`], for a folder that nothing else is in.
    ///
    /// # Errors
    /// As [`EmbeddedDb::in_folder`], and when the folder can't be made.
    pub fn open(folder: &Path, owner: &str) -> Result<Arc<Self>, Fault> {
        Self::in_folder(DataFolder::open(folder, owner)?)
    }

    /// Opens or creates the folder's file. While another process holds the folder, only reading works.
    ///
    /// # Errors
    /// When the file can't be created, opened or migrated.
    pub fn in_folder(folder: Arc<DataFolder>) -> Result<Arc<Self>, Fault> {
        let writer = match folder.holder() {
            Ok(Some(_)) => None,
            // An error is told by whoever needs the lock.
            Ok(None) | Err(_) => Some(writer(&folder, "opening sluice.db")?),
        };
        let reader = made(folder.path()).map_err(|error| fault("opening sluice.db for reading", &error))?;
        let file = FileId::at(&folder.path().join(FILE))
            .map_err(|error| folder.unseen(&error))?
            .ok_or_else(|| folder.give_up())?;
        Ok(Arc::new(Self {
            folder,
            readers: Arc::new(Mutex::new(vec![reader])),
            writer: Mutex::new(writer),
            file,
            pressure: Arc::default(),
            remade: Arc::default(),
            refused: Arc::default(),
        }))
    }

    /// The folder of the file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What keeps the disk from taking anything, as far as its room and the last write tell.
    pub fn shortage(&self) -> Option<Fault> {
        let folder = self.folder();
        if let Some(room) = DataFolder::room(folder).filter(|room| *room < LITTLE_ROOM) {
            return Some(Fault::misconfigured(
                PART,
                format!("the disk of {} is full: {} KiB are left", folder.display(), room / 1024),
                "free some room on it; nothing is lost, and what waits goes on by itself",
            ));
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|(at, _)| at.elapsed() < REFUSED_FOR).map(|(_, fault)| fault.clone())
    }

    /// Whether this process may write; asking takes over a folder that has become free.
    pub fn is_writable(&self) -> bool {
        self.writer("taking over sluice.db").is_ok()
    }

    fn writer(&self, what: &str) -> Result<Arc<Mutex<Connection>>, Fault> {
        let mut held = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(fault) = self.look() {
            *held = None;
            return Err(fault);
        }
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        Ok(held.insert(writer(&self.folder, what)?).clone())
    }

    /// Refuses once the folder was deleted or replaced under this process. What is open of it is closed then: neither is
    /// written into files that nobody finds any more, nor are they read beside those that are there now.
    ///
    /// # Errors
    /// That it was; or that it can't be told.
    pub fn check_place(&self) -> Result<(), Fault> {
        self.look().inspect_err(|_| {
            if self.folder.is_replaced() {
                self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        })
    }

    fn look(&self) -> Result<(), Fault> {
        let in_place = self.folder.check_place().and_then(|()| {
            let found = FileId::at(&self.folder().join(FILE)).map_err(|error| self.folder.unseen(&error))?;
            if found == Some(self.file) { Ok(()) } else { Err(self.folder.give_up()) }
        });
        if self.folder.is_replaced() {
            self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        in_place
    }

    /// Runs a change as one durable transaction; nothing of it stays when `work` fails.
    ///
    /// # Errors
    /// When another process holds the folder, or SQLite refuses.
    pub async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let Ok(outcome) = self.write_or_abort(what, move |db| work(db).map(Ok::<T, Infallible>)).await?;
        Ok(outcome)
    }

    /// As [`EmbeddedDb::write`], for a change that may turn out not to be ours to make: nothing of it stays when
    /// `work` returns an inner error either.
    ///
    /// # Errors
    /// When another process holds the folder, or SQLite refuses.
    pub async fn write_or_abort<T: Send + 'static, E: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<Result<T, E>> + Send + 'static,
    ) -> Result<Result<T, E>, Fault> {
        let (connection, pressure, remade) = (self.writer(what)?, self.pressure.clone(), self.remade.clone());
        let refused = self.refused.clone();
        blocking(what, move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let mut is_made = false;
            let outcome = loop {
                let attempt = pressure.outlasted(|| {
                    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                    let outcome = work(&transaction)?;
                    // Dropped uncommitted, a transaction is rolled back.
                    let committed = if outcome.is_ok() { transaction.commit() } else { Ok(()) };
                    Ok((outcome, committed))
                });
                match attempt {
                    // Somebody dropped it under this process, which alone may make it anew.
                    Err(error) if !is_made && lacks_table(&error) => {
                        migrate(&mut connection)?;
                        remade.store(true, Ordering::Relaxed);
                        is_made = true;
                    }
                    Err(error) => break Err(error),
                    // Whether a commit that failed is on disk is not known, so it is not tried again here.
                    Ok((outcome, committed)) => break committed.map(|()| outcome),
                }
            };
            let of_disk = outcome.as_ref().err().filter(|error| is_of_disk(error));
            *refused.lock().unwrap_or_else(PoisonError::into_inner) =
                of_disk.map(|error| (Instant::now(), fault(what, error)));
            outcome
        })
        .await
    }

    /// Moves what was written into the file and empties the journal beside it, so that neither holds what was deleted: in
    /// the file, deleted content is overwritten.
    ///
    /// # Errors
    /// When another process holds the folder, SQLite refuses, or a question that is under way keeps the journal for longer than
    /// it is waited for.
    pub async fn forget_old_pages(&self) -> Result<(), Fault> {
        const WHAT: &str = "emptying the journal";
        let connection = self.writer(WHAT)?;
        let is_kept = blocking(WHAT, move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        });
        if is_kept.await? {
            let problem = format!("{WHAT} failed: somebody still reads what is in it");
            return Err(Fault::transient(
                PART,
                problem,
                "try again once the question that reads it has ended",
            ));
        }
        Ok(())
    }

    /// Runs a question; it sees everything committed before it, and waits for no change and no other question.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        self.check_place()?;
        let (readers, folder, pressure) = (self.readers.clone(), self.folder.clone(), self.pressure.clone());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let remade = self.remade.clone();
        blocking(what, move || {
            let idle = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = idle.map_or_else(|| pressure.outlasted(|| reader(folder.path())), Ok)?;
            let mut outcome = pressure.outlasted(|| work(&connection));
            // Where this process holds the folder, it alone may make anew what somebody dropped.
            if let (Err(error), Some(writer)) = (&outcome, writer)
                && lacks_table(error)
                && migrate(&mut writer.lock().unwrap_or_else(PoisonError::into_inner))?
            {
                remade.store(true, Ordering::Relaxed);
                outcome = pressure.outlasted(|| work(&connection));
            }
            let outcome = outcome?;
            let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < IDLE_READERS {
                readers.push(connection);
            }
            Ok(outcome)
        })
        .await
    }

    /// Says whether a table was made anew that somebody dropped under this process.
    pub fn remade(&self) -> &AtomicBool {
        &self.remade
    }

    /// What statements of others must watch.
    pub fn pressure(&self) -> Arc<MemoryPressure> {
        self.pressure.clone()
    }

    /// A connection of the caller's own, which can read and do nothing else.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn reader(&self) -> rusqlite::Result<Connection> {
        reader(self.folder.path())
    }
}

/// Takes the folder, and opens and migrates its file.
fn writer(folder: &DataFolder, what: &str) -> Result<Arc<Mutex<Connection>>, Fault> {
    folder.hold(what)?;
    // SQLite would make it for whomever the umask lets in. Readers of this process may have it open: see there.
    private_files::make(&folder.path().join(FILE)).map_err(|error| {
        Fault::misconfigured(
            PART,
            format!("{what} failed: {FILE} in {} can't be opened: {error}", folder.path().display()),
            "check that it is a file that can be written, or set SLUICE_DATA_DIR to another folder",
        )
    })?;
    let has_journal = fs::metadata(folder.path().join(JOURNAL)).is_ok_and(|found| found.len() > 0);
    let opened = connect(folder.path(), OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
        .and_then(|mut connection| {
            if has_journal {
                examine(&mut connection, EXAMINED_WITHIN)?;
            }
            migrate(&mut connection)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
            Ok(connection)
        });
    opened
        .map(|connection| Arc::new(Mutex::new(connection)))
        .map_err(|error| fault("opening and migrating sluice.db", &error))
}

/// Looks whether file and journal belong together: whoever lays an older copy over a file, and leaves the journal beside it,
/// has SQLite write pages of one into the other. Whether all of it was looked at.
fn examine(connection: &mut Connection, within: Duration) -> rusqlite::Result<bool> {
    let began = Instant::now();
    connection.progress_handler(STEPS, Some(move || began.elapsed() >= within))?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(STEPS, None::<fn() -> bool>)?;
    match found {
        Ok(found) if found == "ok" => Ok(true),
        Ok(found) => {
            // Its first line only names the database.
            let found = found.lines().last().unwrap_or_default();
            Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some(format!(
                    "{FILE} and {JOURNAL} do not belong together, or the disk lost some of them: {found}"
                )),
            ))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            tracing::warn!(
                seconds = within.as_secs(),
                "sluice.db was left by a process that was killed, and is too large to look at all of it for damage"
            );
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(fault(what, &error)),
        Err(_) => Err(Fault::transient(
            PART,
            format!("{what} ended badly"),
            "report this with the log lines before it",
        )),
    }
}

fn lacks_table(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.starts_with("no such table"),
        rusqlite::Error::SqlInputError { msg, .. } => msg.starts_with("no such table"),
        _ => false,
    }
}

/// Whether the disk refused, whatever was to be written.
fn is_of_disk(error: &rusqlite::Error) -> bool {
    use ErrorCode::{CannotOpen, DiskFull, ReadOnly, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(DiskFull | SystemIoFailure | ReadOnly | CannotOpen))
}

/// Whether an error passes by itself, and what to do about it.
fn fault(what: &str, error: &rusqlite::Error) -> Fault {
    // SQLite's own messages name tables and columns; those of conversions quote values.
    let message = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqliteFailure(code, None) => code.to_string(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        _ => "a stored row is not what sluice expects".to_owned(),
    };
    if lacks_table(error) {
        return Fault::misconfigured(PART, format!("{what} failed: {message}"), NextStep::Migrate);
    }
    let (kind, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (FaultKind::Transient, FULL),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (FaultKind::Transient, "another program uses sluice.db; it is tried again")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            FaultKind::Misconfigured,
            "sluice.db is damaged: end sluice, move sluice.db, sluice.db-wal and sluice.db-shm away, and sync again, or put a copy \
             of it in their place",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => (
            FaultKind::Misconfigured,
            "check that the folder can be written, or set SLUICE_DATA_DIR to another",
        ),
        // What SQLite says of a column that is not there.
        Some(ErrorCode::Unknown) => (
            FaultKind::Misconfigured,
            "run `sluice migrate` with this process's table definitions; if that does not help sluice.db was changed by \
             hand: undo it, or move the file away and sync again",
        ),
        _ => (FaultKind::Transient, "check the disk's room and the folder's permissions"),
    };
    Fault::new(PART, kind, format!("{what} failed: {message}"), advice)
}

fn connect(folder: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(folder.join(FILE), flags)?;
    if flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        // Until it is known to be sound: closing would write the journal into the file, whatever that does to it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    }
    connection.busy_timeout(Duration::from_secs(10))?;
    let computes = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("local_day", 2, computes, |context| {
        let (at, zone): (Option<String>, String) = (context.get(0)?, context.get(1)?);
        let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
        let at = at.and_then(|at| parse_instant(&at, Tz::UTC));
        Ok(at.map(|at| at.with_timezone(&zone).date_naive().to_string()))
    })?;
    // Answers with the limit of the whole process, which only ever gets lower.
    connection.pragma_update_and_check(None, "hard_heap_limit", MAX_HEAP, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(64);
    if flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // An acknowledged record survives a power cut, as one does that all replicas of a topic have.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // A batch changes pages all over its indices, which would be written out and read again before it ends.
        connection.pragma_update(None, "cache_size", -WRITERS_CACHE_KIB)?;
        // What is erased is gone from the disk, too. Next to nothing else is ever deleted.
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    }
    Ok(connection)
}

/// A connection that can only read.
fn reader(folder: &Path) -> rusqlite::Result<Connection> {
    connect(folder, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// The first reader. Whoever holds the folder may be making the file just now.
fn made(folder: &Path) -> rusqlite::Result<Connection> {
    let until = Instant::now() + MADE_WITHIN;
    loop {
        let opened = reader(folder).and_then(|connection| Ok((version(&connection)?, connection)));
        match opened {
            Ok((version, connection)) if version >= MIGRATIONS.len() => return Ok(connection),
            Err(error) if Instant::now() > until => return Err(error),
            // An older release may hold it; its tables are read as far as they go.
            Ok((_, connection)) if Instant::now() > until => return Ok(connection),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Runs what was not run yet, and once more what was where somebody dropped a table, which is returned: it changes nothing
/// of the others.
fn migrate(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = version(&transaction)?;
    let dropped = dropped(&transaction)?;
    let again = if dropped.is_empty() { done } else { 0 };
    for migration in MIGRATIONS.iter().skip(again) {
        transaction.execute_batch(migration)?;
    }
    store::sqlite::tables_were_dropped(&transaction, &dropped)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len().max(done))?;
    transaction.commit()?;
    Ok(!dropped.is_empty())
}

/// The tables that were made once and are not there.
pub(crate) fn dropped(connection: &Connection) -> rusqlite::Result<Vec<&'static str>> {
    let made = MIGRATIONS.iter().take(version(connection)?).flat_map(|sql| sql.lines());
    let named = |line: &'static str| line.strip_prefix("CREATE TABLE IF NOT EXISTS ")?.split(' ').next();
    let mut there = connection.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")?;
    let mut dropped = Vec::new();
    for table in made.filter_map(named) {
        if !there.exists([table])? {
            dropped.push(table);
        }
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use rusqlite::{Error, ffi};

    use super::*;

    #[test]
    fn a_full_disk_is_waited_for_and_a_missing_table_is_made_by_a_migration() {
        let full = fault("applying", &Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        assert_eq!(full.kind, FaultKind::Transient);
        assert!(full.to_string().contains("free some room"), "{full}");
        let connection = Connection::open_in_memory().expect("a database");
        let missing = connection.prepare("SELECT 1 FROM leads").expect_err("no such table");
        assert_eq!(fault("counting", &missing).advice, NextStep::Migrate);
    }

    #[tokio::test]
    async fn a_write_that_the_disk_refused_is_told_until_it_takes_one() {
        let place = tempfile::tempdir().expect("a folder");
        let db = EmbeddedDb::open(place.path(), "host, process 1").expect("an open folder");
        let write = async |code: Option<i32>| {
            let refusal = move || code.map(|code| Error::SqliteFailure(ffi::Error::new(code), None));
            db.write("adding", move |_| refusal().map_or(Ok(()), Err)).await
        };
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR, ffi::SQLITE_READONLY] {
            write(Some(code)).await.expect_err("refused");
            let told = db.shortage().expect("it is told").to_string();
            assert!(told.starts_with("embedded: adding failed: "), "{told}");
            write(None).await.expect("taken");
            assert!(db.shortage().is_none(), "it takes what is written");
        }
        write(Some(ffi::SQLITE_CONSTRAINT)).await.expect_err("refused");
        assert!(db.shortage().is_none(), "what was written is at fault");
    }

    #[tokio::test]
    async fn a_journal_that_somebody_reads_is_not_called_empty() {
        let place = tempfile::tempdir().expect("a folder");
        let db = EmbeddedDb::open(place.path(), "host, process 1").expect("an open folder");
        let add = async || {
            db.write("adding", |db| {
                db.execute_batch("CREATE TABLE IF NOT EXISTS t (a); INSERT INTO t VALUES (1)")
            })
            .await
            .expect("added");
        };
        add().await;
        let reader = db.reader().expect("a reader");
        reader.execute_batch("BEGIN; SELECT count(*) FROM t").expect("a question under way");
        add().await;
        let writer = db.writer("a test").expect("a writer");
        writer.lock().expect("the writer").busy_timeout(Duration::from_millis(1)).expect("a short patience");
        let told = db.forget_old_pages().await.expect_err("it is kept").to_string();
        assert!(told.contains("somebody still reads"), "{told}");
        reader.execute_batch("COMMIT").expect("the end");
        db.forget_old_pages().await.expect("emptied");
        assert_eq!(fs::metadata(place.path().join(JOURNAL)).expect("a journal").len(), 0);
    }

    #[test]
    fn a_file_too_large_to_look_at_in_time_is_opened_all_the_same() {
        let mut connection = Connection::open_in_memory().expect("a database");
        connection
            .execute_batch(
                "CREATE TABLE t (a TEXT);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                 INSERT INTO t SELECT hex(randomblob(20)) FROM n;",
            )
            .expect("filled");
        assert!(!examine(&mut connection, Duration::ZERO).expect("no damage is known"));
        assert!(examine(&mut connection, Duration::from_mins(5)).expect("no damage"));
    }
}
