//! Reads kept lines: which of them somebody asked for, and those of files in the order of their time.
//!
//! Guarantee: whatever stands in the files, reading goes on. A line that is no JSON or is cut off is a line of its own, one
//! that is too long is cut, and a file that is deleted meanwhile is passed over. Who follows misses no line, however often files
//! are rotated meanwhile, as long as the oldest of them is not deleted before it was read.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{
    folder::{LogFile, files},
    vocabulary::{ERROR, LEVEL, LOGGER, MESSAGE, ROLE, TIMESTAMP},
};

/// A longer line is cut: none of sluice's is.
const MAX_LINE: usize = 256 * 1024;

const CHUNK: usize = 64 * 1024;

/// The levels, the most urgent first.
pub(crate) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Which lines somebody asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) since: Option<DateTime<Utc>>,
    /// The least urgent of [`LEVELS`].
    pub(crate) level: Option<String>,
    /// What the module's name begins with.
    pub(crate) target: Option<String>,
    pub(crate) command: Option<String>,
    /// Fields and what they are.
    pub(crate) fields: Vec<(String, String)>,
    /// What stands somewhere in the line, whatever its case.
    pub(crate) text: Option<String>,
}

impl Filter {
    /// The levels that are asked for; nothing where all are.
    pub(crate) fn levels(&self) -> Option<&'static [&'static str]> {
        let least = self.level.as_deref()?;
        Some(&LEVELS[..=LEVELS.iter().position(|level| *level == least)?])
    }

    /// Whether a line is asked for.
    pub(crate) fn matches(&self, line: &LogLine) -> bool {
        let text =
            self.text.as_deref().is_none_or(|text| line.raw.to_lowercase().contains(&text.to_lowercase()));
        let since = self.since.is_none_or(|since| line.at.is_some_and(|at| at >= since));
        let asks_for_fields = self.level.is_some()
            || self.target.is_some()
            || self.command.is_some()
            || !self.fields.is_empty();
        text && since && line.fields.as_ref().map_or(!asks_for_fields, |fields| self.has(fields))
    }

    fn has(&self, fields: &Map<String, Value>) -> bool {
        let of = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        self.levels().is_none_or(|levels| levels.contains(&of(LEVEL)))
            && self.target.as_deref().is_none_or(|target| of(LOGGER).starts_with(target))
            && self.command.as_deref().is_none_or(|command| of(ROLE) == command)
            && self.fields.iter().all(|(name, wanted)| match fields.get(name) {
                Some(Value::String(text)) => text == wanted,
                Some(other) => wanted.parse().is_ok_and(|wanted: Value| *other == wanted),
                None => false,
            })
    }
}

/// A line as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct LogLine {
    /// Of one that says nothing of its time, the time of the line before.
    pub(crate) at: Option<DateTime<Utc>>,
    pub(crate) raw: String,
    /// `None` for what is no JSON object.
    pub(crate) fields: Option<Map<String, Value>>,
}

impl LogLine {
    pub(crate) fn parse(raw: String, before: Option<DateTime<Utc>>) -> Self {
        let fields: Option<Map<String, Value>> = serde_json::from_str(&raw).ok();
        let at = fields.as_ref().and_then(|fields| fields.get(TIMESTAMP)?.as_str()?.parse().ok());
        Self { at: at.or(before), raw, fields }
    }

    /// The line as an object, whatever it is.
    pub(crate) fn object(&self) -> Value {
        match &self.fields {
            Some(fields) => Value::Object(fields.clone()),
            None => json!({ MESSAGE: self.raw, ERROR: "this is no line of sluice's, or a part of one" }),
        }
    }
}

/// The lines of a folder's files.
#[derive(Debug)]
pub(crate) struct FolderReader {
    folder: PathBuf,
    since: Option<DateTime<Utc>>,
    writers: BTreeMap<String, WriterReader>,
}

/// The lines that one writer wrote, file by file.
#[derive(Debug, Default)]
struct WriterReader {
    /// Files after the one that is open.
    next: Vec<(LogFile, PathBuf)>,
    last: Option<DateTime<Utc>>,
    file: Option<File>,
    bytes: Vec<u8>,
    is_cut: bool,
    /// All that was written before the next file began.
    is_read: bool,
    before: Option<DateTime<Utc>>,
    /// The line to hand out.
    line: Option<LogLine>,
}

impl FolderReader {
    /// # Errors
    /// When the folder can't be read.
    pub(crate) fn open(folder: &Path, since: Option<DateTime<Utc>>) -> io::Result<Self> {
        let mut reader = Self { folder: folder.to_owned(), since, writers: BTreeMap::new() };
        reader.look()?;
        Ok(reader)
    }

    /// Looks for files that were made since.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        for (writer, files) in files(&self.folder)? {
            let reader = self.writers.entry(writer).or_default();
            let is_new = |file: &LogFile| reader.last.is_none_or(|last| file.begins > last);
            reader.next = files.into_iter().filter(|(file, _)| is_new(file)).collect();
            // Of a file that was followed before then nothing is asked for.
            while let (Some(since), [_, (second, _), ..], None) = (self.since, &*reader.next, &reader.file)
                && second.begins <= since
            {
                reader.next.remove(0);
            }
        }
        Ok(())
    }

    /// The next line in the order of time; `None` where there is none yet. What is not ended by then is a line where
    /// `at_end` says that nothing is to be waited for.
    ///
    /// # Errors
    /// When a file can't be read.
    pub(crate) fn next(&mut self, at_end: bool) -> io::Result<Option<LogLine>> {
        let mut first: Option<&mut WriterReader> = None;
        for reader in self.writers.values_mut() {
            if reader.line.is_none() {
                reader.line = reader.read(at_end)?;
            }
            let is_earlier = |first: &&mut WriterReader| {
                reader.line.as_ref().map(|line| line.at) < first.line.as_ref().map(|line| line.at)
            };
            if reader.line.is_some() && first.as_ref().is_none_or(is_earlier) {
                first = Some(reader);
            }
        }
        Ok(first.and_then(|reader| reader.line.take()))
    }
}

impl WriterReader {
    fn read(&mut self, at_end: bool) -> io::Result<Option<LogLine>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                if std::mem::take(&mut self.is_cut) {
                    continue;
                }
                return Ok(Some(self.line(&line[..end])));
            }
            if self.bytes.len() > MAX_LINE {
                let cut = std::mem::take(&mut self.bytes);
                if !std::mem::replace(&mut self.is_cut, true) {
                    return Ok(Some(self.line(&cut[..MAX_LINE])));
                }
            }
            let Some(file) = &mut self.file else {
                if self.next.is_empty() {
                    return Ok(None);
                }
                let (named, path) = self.next.remove(0);
                self.last = Some(named.begins);
                self.is_read = false;
                match File::open(path) {
                    Ok(file) => self.file = Some(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                continue;
            };
            let mut chunk = vec![0; CHUNK];
            let read = file.read(&mut chunk)?;
            if read > 0 {
                self.bytes.extend_from_slice(&chunk[..read]);
            } else if self.is_read || (at_end && self.next.is_empty()) {
                let rest = std::mem::take(&mut self.bytes);
                if self.is_read {
                    self.file = None;
                }
                if !rest.is_empty() && !std::mem::take(&mut self.is_cut) {
                    return Ok(Some(self.line(&rest)));
                }
                if self.file.is_some() {
                    return Ok(None);
                }
            } else if self.next.is_empty() {
                return Ok(None);
            } else {
                // What came since the end was seen and before the next file began is still read.
                self.is_read = true;
            }
        }
    }

    fn line(&mut self, bytes: &[u8]) -> LogLine {
        let line = LogLine::parse(String::from_utf8_lossy(bytes).into_owned(), self.before);
        self.before = line.at;
        line
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    fn line(second: u32, message: &str) -> String {
        json!({TIMESTAMP: format!("2026-11-26T13:45:{second:02}Z"), LEVEL: "info", MESSAGE: message})
            .to_string()
    }

    fn file(folder: &Path, writer: &str, second: u32, lines: &[&[u8]]) -> File {
        let begins = format!("2026-11-26T13:45:{second:02}Z").parse().expect("a time");
        let mut file =
            File::create(folder.join(LogFile::after(writer, None, begins).name())).expect("a file");
        for line in lines {
            file.write_all(line).expect("written");
        }
        file
    }

    fn all(reader: &mut FolderReader, at_end: bool) -> Vec<String> {
        let mut messages = Vec::new();
        while let Some(line) = reader.next(at_end).expect("readable") {
            messages.push(line.object()[MESSAGE].as_str().expect("a message").to_owned());
        }
        messages
    }

    #[test]
    fn lines_of_several_writers_and_files_come_in_the_order_of_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let lines =
            [line(1, "a"), line(2, "b"), line(3, "c"), line(4, "d"), line(5, "e")].map(|line| line + "\n");
        let bytes = |n: usize| lines[n].as_bytes();
        file(folder.path(), "worker", 0, &[bytes(0), bytes(2)]);
        file(folder.path(), "worker", 4, &[bytes(4)]);
        file(folder.path(), "serve", 0, &[bytes(1), bytes(3)]);
        fs::write(folder.path().join("other.log"), "x").expect("written");
        let mut reader = FolderReader::open(folder.path(), None).expect("readable");
        assert_eq!(all(&mut reader, true), ["a", "b", "c", "d", "e"]);
        let since = "2026-11-26T13:45:04Z".parse().ok();
        let mut reader = FolderReader::open(folder.path(), since).expect("readable");
        assert_eq!(all(&mut reader, true), ["b", "d", "e"], "the worker's first file is passed over");
    }

    #[test]
    fn hostile_lines_are_lines_of_their_own_and_reading_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let (huge, whole) = ("x".repeat(MAX_LINE * 3), line(2, "whole") + "\n");
        let lines: [&[u8]; 7] = [
            b"{\"@timestamp\":\"2026-11-26T13:4\n",
            b"no json \x1b[2J\xff\n",
            huge.as_bytes(),
            b"\n",
            b"[1]\n\n",
            whole.as_bytes(),
            b"{\"message\":\"half",
        ];
        file(folder.path(), "worker", 0, &lines);
        let mut reader = FolderReader::open(folder.path(), None).expect("readable");
        let read = all(&mut reader, true);
        assert_eq!(read.len(), 7, "{read:?}");
        assert!(read[2].len() == MAX_LINE && read[1].starts_with("no json"), "{:?}", read[1]);
        assert_eq!((&*read[5], &*read[6]), ("whole", "{\"message\":\"half"));
        let mut reader = FolderReader::open(folder.path(), None).expect("readable");
        assert_eq!(all(&mut reader, false).len(), 6, "what is not ended may go on");
    }

    #[test]
    fn who_follows_misses_no_line_over_rotations_and_waits_for_the_end_of_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = file(folder.path(), "worker", 0, &[(line(1, "a") + "\n").as_bytes()]);
        let mut reader = FolderReader::open(folder.path(), None).expect("readable");
        assert_eq!(all(&mut reader, false), ["a"]);
        let (begun, ended) = (line(2, "b"), "\n");
        first.write_all(begun.as_bytes()).expect("written");
        assert_eq!(all(&mut reader, false), Vec::<String>::new());
        first.write_all(ended.as_bytes()).expect("written");
        file(folder.path(), "worker", 3, &[(line(3, "c") + "\n").as_bytes()]);
        file(folder.path(), "worker", 4, &[(line(4, "d") + "\n").as_bytes()]);
        file(folder.path(), "serve-2", 4, &[(line(5, "e") + "\n").as_bytes()]);
        reader.look().expect("readable");
        assert_eq!(all(&mut reader, false), ["b", "c", "d", "e"]);
    }

    #[test]
    fn a_filter_takes_what_is_as_urgent_and_has_the_fields() {
        let line = LogLine::parse(
            json!({LEVEL: "warn", LOGGER: "sluice::engine::drain", "table": "leads", "offset": 7, ROLE: "worker", MESSAGE: "Drenagem"}).to_string(),
            None,
        );
        let filter = |set: fn(&mut Filter)| {
            let mut filter = Filter::default();
            set(&mut filter);
            filter.matches(&line)
        };
        assert!(filter(|filter| filter.level = Some("info".to_owned())));
        assert!(!filter(|filter| filter.level = Some("error".to_owned())));
        assert!(filter(|filter| filter.target = Some("sluice::engine".to_owned())));
        assert!(!filter(|filter| filter.target = Some("rmcp".to_owned())));
        assert!(filter(|filter| filter.fields =
            vec![("offset".to_owned(), "7".to_owned()), ("table".to_owned(), "leads".to_owned())]));
        assert!(!filter(|filter| filter.fields = vec![("sink".to_owned(), "postgres".to_owned())]));
        assert!(filter(|filter| filter.text = Some("drenagem".to_owned())));
        assert!(!filter(|filter| filter.command = Some("serve".to_owned())));
        assert!(!filter(|filter| filter.since = Some(Utc::now())), "it says nothing of its time");
        let stranger = LogLine::parse("{".to_owned(), None);
        assert!(Filter::default().matches(&stranger));
        assert!(!Filter { level: Some("trace".to_owned()), ..Filter::default() }.matches(&stranger));
    }
}
