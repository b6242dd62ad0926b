//! sluice's own log: JSON lines on stderr and, by settings, in rotated files and in a data stream of Elasticsearch or
//! OpenSearch. docs/logs.md has the words they use.
//!
//! Guarantee: whoever says something waits for nobody. A line goes into queues of bounded size, and threads of their own write
//! these; a disk that is full, a server that is down and a client that does not read stderr cost lines, never time, and lines
//! that are lost are counted and told. Only what may stand on stderr is kept, and nobody's secrets are in it.

mod files;
mod folder;
mod hub;
mod line;
mod outlet;
mod panics;
mod queue;
mod read;
mod stream;
mod vocabulary;

use std::{
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tracing::Level;

use self::{
    files::{ADVICE, Files, Limits},
    hub::{Hub, STDERR},
    line::Entry,
    outlet::Made,
    stream::Stream,
};
pub(crate) use self::{
    line::Lines,
    panics::expecting_panics,
    read::{Filter, FolderReader, LEVELS, LogLine},
    vocabulary::{FIELDS, Field, HOST, Kind, LABELS, LEVEL, PID, SEQUENCE, TIMESTAMP, name_of},
};
use crate::{
    config::{LogSettings, Settings},
    fault::Fault,
    index::elasticsearch::LogStream,
    parts,
};

/// Whose words these are, where the log speaks of itself.
const TARGET: &str = "sluice::logging";

/// How long a process that ends waits for its last lines to be written.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

static HUB: LazyLock<Arc<Hub>> = LazyLock::new(|| Arc::new(Hub::new()));

/// Why the log can't be kept where it is to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("SLUICE_LOG_DIR: {folder} can't be used: {error}; {ADVICE}")]
    Folder { folder: String, error: io::Error },
    #[error("SLUICE_LOG_ELASTICSEARCH: {0}")]
    Elasticsearch(Fault),
    #[error("no thread for the log: {0}; raise the limit of processes (ulimit -u)")]
    Thread(io::Error),
}

/// The layer that makes lines of events.
pub(crate) fn lines() -> Lines {
    Lines(HUB.clone())
}

/// Has panics told as lines, instead of as Rust does.
pub(crate) fn hear_panics() {
    panics::hear(HUB.clone());
}

/// Has a thread write stderr: the client of a process that serves may not read it.
///
/// # Errors
/// When there can't be another thread.
pub(crate) fn leave_stderr() -> Result<(), LogError> {
    HUB.leave_stderr().map_err(LogError::Thread)
}

/// Keeps the lines of a command as the settings say, those from before included. What serves does not begin where the folder
/// can't be written; any other command says so and goes on, since whoever typed it may be another user.
///
/// # Errors
/// When the settings can't be used. A server need not be up yet.
pub(crate) fn keep(settings: &Settings, role: &str, serves: bool) -> Result<(), LogError> {
    let logs = &settings.logs;
    let age = retention(logs);
    let mut outlets: Vec<(&str, Made)> = Vec::new();
    if let Some(folder) = &logs.dir {
        let limits = Limits { bytes: logs.file_bytes, files: logs.files, age };
        let files = Files::open(folder, role, limits)
            .map_err(|error| LogError::Folder { folder: folder.display().to_string(), error });
        match files {
            Ok(files) => outlets.push(("files", Box::new(|| Box::new(files)))),
            Err(error) if serves => return Err(error),
            Err(error) => tracing::warn!(%error, "this command's log is not kept in files"),
        }
    }
    if let Some(server) = settings.elasticsearch.as_ref().filter(|_| logs.elasticsearch) {
        let stream = LogStream::new(server, age, &FIELDS).map_err(LogError::Elasticsearch)?;
        outlets.push(("elasticsearch", Box::new(|| Box::new(Stream::new(stream)))));
    }
    HUB.keep(role, &parts::host(), outlets).map_err(LogError::Thread)
}

/// How long lines are kept.
pub(crate) fn retention(logs: &LogSettings) -> Duration {
    Duration::from_hours(24 * u64::from(logs.days))
}

/// Writes what waits, as far as that takes not long. The last thing a process does.
pub(crate) fn finish() {
    finish_within(FINISH_WITHIN);
}

pub(crate) fn finish_within(within: Duration) {
    HUB.finish(within);
}

/// Keeps why a process that serves ends, which is told on stderr by other means.
pub(crate) fn keep_failure(failure: &str) {
    let entry = Entry::own(Level::ERROR, "the process ends because it failed").with("error", failure);
    HUB.hear(entry, Some(STDERR));
}

/// How many lines each outlet lost since the process began.
pub(crate) fn lost() -> Vec<(&'static str, u64)> {
    HUB.lost()
}

/// What files and streams are handed of what is said meanwhile.
#[cfg(test)]
pub(crate) fn kept_of(say: impl FnOnce(Lines)) -> String {
    use std::sync::{Mutex, PoisonError};

    struct Kept(Arc<Mutex<String>>);

    impl outlet::Outlet for Kept {
        fn write(&mut self, lines: &[Arc<str>]) -> Result<outlet::Written, outlet::Problem> {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for line in lines {
                kept.extend([line, "\n"]);
            }
            Ok(outlet::Written::default())
        }
    }

    let (hub, kept) = (Arc::new(Hub::new()), Arc::new(Mutex::new(String::new())));
    let outlet = Kept(kept.clone());
    hub.keep("worker", "um", vec![("files", Box::new(|| Box::new(outlet)))]).expect("a thread");
    say(Lines(hub.clone()));
    hub.finish(Duration::from_mins(1));
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.clone()
}
