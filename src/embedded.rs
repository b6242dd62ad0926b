//! The one SQLite file that the embedded log and the embedded store share.
//!
//! Every change is a transaction that is on disk when the call returns. One process may write: it holds a lock on
//! the folder, and any other that opens it can read and is told who writes.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::fault::Fault;

/// What faults call this part.
pub const PART: &str = "embedded";

/// Numbered migrations; a file's place is its number.
const MIGRATIONS: [&str; 2] = [
    include_str!("../migrations/sqlite/0001_tables.sql"),
    include_str!("../migrations/sqlite/0002_operations.sql"),
];

/// An open folder.
pub struct EmbeddedDb {
    reader: Arc<Mutex<Connection>>,
    writer: Writer,
}

enum Writer {
    Ours {
        connection: Arc<Mutex<Connection>>,
        /// Unlocked by the system when the process ends, however it ends.
        _lock: File,
    },
    /// Who holds the folder.
    Theirs(String),
}

impl EmbeddedDb {
    /// Opens or creates the folder's file. Where another process holds the folder, only reading works.
    ///
    /// # Errors
    /// When the folder or its file can't be created, opened or migrated.
    pub fn open(folder: &Path, owner: &str) -> Result<Arc<Self>, Fault> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Fault::misconfigured(
                PART,
                format!("{what} in {} failed: {error}", folder.display()),
                "check that the folder can be written, or set SLUICE_DATA_DIR to another",
            )
        };
        fs::create_dir_all(folder).map_err(|error| failed("creating the data folder", &error))?;
        let writer = match hold(folder, owner).map_err(|error| failed("locking the data folder", &error))? {
            Ok(lock) => {
                let mut connection =
                    connect(folder, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
                        .map_err(|error| failed("opening sluice.db", &error))?;
                migrate(&mut connection).map_err(|error| failed("migrating sluice.db", &error))?;
                Writer::Ours { connection: Arc::new(Mutex::new(connection)), _lock: lock }
            }
            Err(holder) => Writer::Theirs(holder),
        };
        let reader = connect(folder, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|error| failed("opening sluice.db for reading", &error))?;
        Ok(Arc::new(Self { reader: Arc::new(Mutex::new(reader)), writer }))
    }

    /// Whether this process may write.
    pub fn is_writable(&self) -> bool {
        matches!(self.writer, Writer::Ours { .. })
    }

    /// Runs a change as one durable transaction; nothing of it stays when `work` fails.
    ///
    /// # Errors
    /// When another process holds the folder, or SQLite refuses.
    pub async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let connection = match &self.writer {
            Writer::Ours { connection, .. } => connection.clone(),
            Writer::Theirs(holder) => {
                return Err(Fault::misconfigured(
                    PART,
                    format!("{what} failed: the data folder is held by {holder}"),
                    "stop that process, use its tools, or set SLUICE_DATA_DIR to another folder",
                ));
            }
        };
        blocking(what, move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let outcome = work(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        })
        .await
    }

    /// Runs a question; it sees everything committed before it, and waits for no change.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let connection = self.reader.clone();
        blocking(what, move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    let outcome = tokio::task::spawn_blocking(work).await;
    let failed = |problem: String| {
        // SQLite's messages name tables and columns, never values.
        Fault::transient(
            PART,
            format!("{what} failed: {problem}"),
            "check the disk's room and the folder's permissions",
        )
    };
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The lock, or who has it.
fn hold(folder: &Path, owner: &str) -> std::io::Result<Result<File, String>> {
    let path = folder.join("sluice.lock");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            write!(file, "{owner}, since {}", Utc::now().format("%Y-%m-%dT%H:%M:%SZ"))?;
            file.flush()?;
            Ok(Ok(file))
        }
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            Ok(Err(if holder.is_empty() { "another process".to_owned() } else { holder }))
        }
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn connect(folder: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(folder.join("sluice.db"), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    if flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // An acknowledged record survives a power cut, as one does that all replicas of a topic have.
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len().max(done))?;
    transaction.commit()
}
