//! What a user can do next, without the words of any front: a tool's name is known to [`crate::mcp`] alone, a
//! command's to [`crate::cli`]; each words the same step in its own terms.
//!
//! What is displayed here names neither: it is what logs say, and what is stored with a sync that failed.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// In words that hold for everybody, or that a front has found.
    Words(String),
    /// Look at the pipeline's status.
    SeeStatus,
    /// Look which syncs there were.
    ListSyncs,
    /// Wait for a sync that runs, or stop it.
    FollowSync(Uuid),
    /// Bring in the first rows of all.
    FirstSync {
        table: String,
    },
    /// Bring in what is new.
    Sync {
        table: String,
    },
    /// Compare a table with its sinks, and mend them.
    Reconcile {
        table: String,
    },
    /// As [`NextStep::Reconcile`], which failed because so many rows are gone that somebody must allow their removal.
    AllowDeletes {
        table: String,
        rows: u64,
    },
    /// Look for an entity in the store, or sync its table.
    FindEntity {
        table: String,
    },
    /// Read every row of a table again.
    SyncWhole {
        table: String,
    },
    /// Define a table that nobody has defined.
    DefineTable {
        name: String,
    },
    ListLetters,
    /// See why letters were parked, then replay or discard them.
    SettleLetters,
    ResumeSink {
        sink: String,
    },
    /// A sink is behind: look whether it catches up, and whether anything drains into it.
    WatchLag,
    /// Restart the process that drains; this one does not.
    RestartDrainingProcess,
    /// Start a process that writes what this one only reads.
    StartWriter,
    /// Start a process that drains and runs schedules.
    StartWorker,
    /// Bring the tables, templates and topics up to date.
    Migrate,
    /// Build an index anew from the log, so that all of its columns are filled.
    FillIndex {
        index: String,
    },
    /// Build an index anew from the log, or give a column its old type back.
    RebuildIndex {
        index: String,
    },
}

/// What a process needs that has other definitions than what is written was made with.
pub(crate) const SAME_DEFINITIONS: &str = "give every process the same table definitions, then restart whatever still runs with the older ones; \
     where this process has the right ones, restart it, or run the migrations with them";

/// Before anybody allows deletions.
pub(crate) const LOOK_AT_SOURCE: &str =
    "look at the source: a key that sees only some rows looks the same; if they are really gone";

impl NextStep {
    /// Has a front find its words for it.
    pub fn word(&mut self, words: fn(&Self) -> String) {
        *self = Self::Words(words(self));
    }
}

impl From<&str> for NextStep {
    fn from(words: &str) -> Self {
        Self::Words(words.to_owned())
    }
}

impl From<String> for NextStep {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl fmt::Display for NextStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::SeeStatus => f.write_str("look at the pipeline's status"),
            Self::ListSyncs => f.write_str("look which syncs there were"),
            Self::FollowSync(_) => f.write_str("wait for it, or stop it"),
            Self::FirstSync { table } => write!(f, "sync the whole of {table}: it makes all that is needed"),
            Self::Sync { table } => write!(f, "sync {table}"),
            Self::Reconcile { table } => {
                write!(f, "reconcile {table}: that finds what is missing or gone, and mends it")
            }
            Self::AllowDeletes { table, rows } => {
                write!(f, "{LOOK_AT_SOURCE}, reconcile {table} and allow {rows} deletions")
            }
            Self::FindEntity { table } => {
                write!(f, "check it, look for it in the store, or bring in what is new with a sync of {table}")
            }
            Self::SyncWhole { table } => write!(f, "sync the whole of {table} again"),
            Self::DefineTable { name } => write!(f, "define {name}, if the project has it"),
            Self::ListLetters => f.write_str("look which dead letters there are"),
            Self::SettleLetters => {
                f.write_str("see why they were parked, mend the cause, then replay or discard them")
            }
            Self::ResumeSink { sink } => write!(f, "resume {sink} once it may be drained again"),
            Self::WatchLag => f.write_str("if it does not shrink, look whether a drain runs and at its last error"),
            Self::RestartDrainingProcess => f.write_str("restart the process that drains it"),
            Self::StartWriter => {
                f.write_str("start a process that drains, with the same definitions: it brings the index up to date")
            }
            Self::StartWorker => f.write_str("start a process that drains and runs schedules"),
            Self::Migrate => f.write_str(
                "run the migrations with this process's table definitions; a process that drains does so when it starts",
            ),
            Self::FillIndex { index } => write!(f, "rebuild the index {index} from the log"),
            Self::RebuildIndex { index } => write!(
                f,
                "rebuild the index {index} from the log, or give the column its old type back in the table's definition"
            ),
        }
    }
}

impl Serialize for NextStep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something to be said, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub problem: String,
    pub next_step: Option<NextStep>,
}

impl Remark {
    pub fn new(problem: impl Into<String>, next_step: impl Into<NextStep>) -> Self {
        Self { problem: problem.into(), next_step: Some(next_step.into()) }
    }

    /// Has a front find its words for the step.
    pub fn word(&mut self, words: fn(&NextStep) -> String) {
        if let Some(step) = &mut self.next_step {
            step.word(words);
        }
    }

    /// As [`Remark::word`], as a text.
    #[must_use]
    pub fn worded(mut self, words: fn(&NextStep) -> String) -> String {
        self.word(words);
        self.to_string()
    }
}

impl From<String> for Remark {
    fn from(problem: String) -> Self {
        Self { problem, next_step: None }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        self.next_step.iter().try_for_each(|step| write!(f, "; {step}"))
    }
}

impl Serialize for Remark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// For the tests of whoever words steps.
#[cfg(test)]
pub(crate) mod testing {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    /// One of each.
    pub(crate) fn one_of_each() -> Vec<NextStep> {
        let table = || "leads".to_owned();
        let each = vec![
            NextStep::Words("try again".to_owned()),
            NextStep::SeeStatus,
            NextStep::ListSyncs,
            NextStep::FollowSync(Uuid::nil()),
            NextStep::FirstSync { table: table() },
            NextStep::Sync { table: table() },
            NextStep::Reconcile { table: table() },
            NextStep::AllowDeletes { table: table(), rows: 40 },
            NextStep::FindEntity { table: table() },
            NextStep::SyncWhole { table: table() },
            NextStep::DefineTable { name: table() },
            NextStep::ListLetters,
            NextStep::SettleLetters,
            NextStep::ResumeSink { sink: "postgres".to_owned() },
            NextStep::WatchLag,
            NextStep::RestartDrainingProcess,
            NextStep::StartWriter,
            NextStep::StartWorker,
            NextStep::Migrate,
            NextStep::FillIndex { index: table() },
            NextStep::RebuildIndex { index: table() },
        ];
        for step in &each {
            // A new step has no arm here: add it above, too.
            match step {
                NextStep::Words(_)
                | NextStep::SeeStatus
                | NextStep::ListSyncs
                | NextStep::FollowSync(_)
                | NextStep::FirstSync { .. }
                | NextStep::Sync { .. }
                | NextStep::Reconcile { .. }
                | NextStep::AllowDeletes { .. }
                | NextStep::FindEntity { .. }
                | NextStep::SyncWhole { .. }
                | NextStep::DefineTable { .. }
                | NextStep::ListLetters
                | NextStep::SettleLetters
                | NextStep::ResumeSink { .. }
                | NextStep::WatchLag
                | NextStep::RestartDrainingProcess
                | NextStep::StartWriter
                | NextStep::StartWorker
                | NextStep::Migrate
                | NextStep::FillIndex { .. }
                | NextStep::RebuildIndex { .. } => {}
            }
        }
        each
    }

    /// Every text in the code, with its file's path in `src`. Methods are called like what they do: only a name in a
    /// text is a tool's.
    pub(crate) fn texts_of_code() -> Vec<(PathBuf, String)> {
        let mut texts = Vec::new();
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        visit(root, &mut |path, code| {
            let path = path.strip_prefix(root).expect("in src");
            texts.extend(texts_in(code).into_iter().map(|text| (path.to_owned(), text)));
        });
        texts
    }

    fn visit(folder: &Path, look: &mut impl FnMut(&Path, &str)) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                visit(&path, look);
            } else if path.extension().is_some_and(|end| end == "rs") {
                look(&path, &fs::read_to_string(&path).expect("code"));
            }
        }
    }

    /// What stands between quotation marks, over lines.
    fn texts_in(code: &str) -> Vec<String> {
        let lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = lines.join("\n").replace(r"\\", "").replace(r#"\""#, "").replace("'\"'", "");
        code.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn a_text_over_two_lines_is_looked_through() {
        let code = "say(\"it is paused: \\\n  call it_again\"); // and\nengine.hold('\"')";
        assert_eq!(texts_in(code), ["it is paused: \\\n  call it_again"]);
    }
}
