//! The names of the files that lines are kept in: `<writer>.<time it begins at>.jsonl`. No file is ever renamed, so whoever
//! follows one finds the next by its name.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, NaiveDateTime, SubsecRound as _, TimeDelta, Utc};

const FORMAT: &str = "%Y%m%dT%H%M%S%.6fZ";
const ENDING: &str = ".jsonl";

/// Writers that are processes of their own role; all other commands are [`OTHERS`].
const ROLES: [&str; 2] = ["serve", "worker"];
const OTHERS: &str = "cli";

/// A file, by what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogFile {
    pub(super) writer: String,
    pub(super) begins: DateTime<Utc>,
}

/// What the files of a process are called after.
pub(super) fn writer_of(role: &str) -> &str {
    if ROLES.contains(&role) { role } else { OTHERS }
}

impl LogFile {
    /// The file that follows others of the same writer, whatever the clock says.
    pub(super) fn after(writer: &str, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        let begins = now.trunc_subsecs(6);
        let begins = last.map_or(begins, |last| begins.max(last + TimeDelta::microseconds(1)));
        Self { writer: writer.to_owned(), begins }
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}{ENDING}", self.writer, self.begins.format(FORMAT))
    }

    /// `None` for what somebody else put there.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (writer, begins) = name.strip_suffix(ENDING)?.split_once('.')?;
        let (role, number) =
            writer.split_once('-').map_or((writer, None), |(role, number)| (role, Some(number)));
        let is_ours = ROLES.contains(&role) || role == OTHERS;
        let is_number = number
            .is_none_or(|number| number.parse::<u32>().is_ok_and(|parsed| parsed.to_string() == number));
        if !is_ours || !is_number {
            return None;
        }
        let begins = NaiveDateTime::parse_from_str(begins, FORMAT).ok()?.and_utc();
        let file = Self { writer: writer.to_owned(), begins };
        (file.name() == name).then_some(file)
    }
}

/// The files of each writer, the oldest first.
///
/// # Errors
/// When the folder can't be read.
pub(super) fn files(folder: &Path) -> io::Result<BTreeMap<String, Vec<(LogFile, PathBuf)>>> {
    let mut files: BTreeMap<String, Vec<(LogFile, PathBuf)>> = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(file) = entry.file_name().to_str().and_then(LogFile::parse) {
            files.entry(file.writer.clone()).or_default().push((file, entry.path()));
        }
    }
    for files in files.values_mut() {
        files.sort_by_key(|(file, _)| file.begins);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_somebody_elses_is_none() {
        let now = DateTime::from_timestamp(1_764_164_701, 123_456_789).expect("a time");
        let file = LogFile::after("worker-2", None, now);
        assert_eq!(file.name(), "worker-2.20251126T134501.123456Z.jsonl");
        assert_eq!(LogFile::parse(&file.name()), Some(file.clone()));
        let next = LogFile::after("worker-2", Some(file.begins), now - TimeDelta::hours(1));
        assert!(next.begins > file.begins && next.name() > file.name(), "a clock that went back");
        for name in [
            "worker.jsonl",
            "worker.log",
            "worker-x.20251126T134501.123456Z.jsonl",
            "worker-02.20251126T134501.123456Z.jsonl",
            "nginx.20251126T134501.123456Z.jsonl",
            "worker.20251126T134501.123456Z.jsonl.gz",
            "worker.20251126T134501Z.jsonl",
        ] {
            assert_eq!(LogFile::parse(name), None, "{name}");
        }
    }

    #[test]
    fn every_other_command_shares_the_files_of_commands() {
        assert_eq!(["serve", "worker", "sync", "doctor"].map(writer_of), ["serve", "worker", "cli", "cli"]);
    }
}
