//! Every field that a line may have, what it holds and how it is indexed. docs/logs.md has the same table, and a test finds
//! every field that the code names in it.

/// How a field is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Date,
    /// Compared as a whole.
    Keyword,
    /// A whole number.
    Long,
    /// Words.
    Text,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Keyword => "keyword",
            Self::Long => "long",
            Self::Text => "text",
        }
    }
}

/// A field of the lines.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    #[cfg_attr(not(test), expect(dead_code, reason = "docs/logs.md is made of it by a test"))]
    pub(crate) about: &'static str,
}

const fn field(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, about }
}

pub(crate) const TIMESTAMP: &str = "@timestamp";
pub(crate) const LEVEL: &str = "log.level";
pub(crate) const MESSAGE: &str = "message";
pub(crate) const ERROR: &str = "error.message";
pub(crate) const LOGGER: &str = "log.logger";
pub(crate) const ROLE: &str = "service.node.role";
pub(crate) const SERVICE: &str = "service.name";
pub(crate) const VERSION: &str = "service.version";
pub(crate) const HOST: &str = "host.name";
pub(crate) const PID: &str = "process.pid";
pub(crate) const SEQUENCE: &str = "event.sequence";

/// The object that holds what libraries name themselves; no part of it is indexed.
pub(crate) const LABELS: &str = "labels";

/// Those that every line has, or that have a name of the Elastic Common Schema; then sluice's own.
pub(crate) static FIELDS: [Field; 108] = {
    use Kind::{Date, Keyword, Long, Text};
    [
        field(TIMESTAMP, Date, "when it happened, in UTC"),
        field(LEVEL, Keyword, "error, warn, info, debug or trace"),
        field(MESSAGE, Text, "what happened; one text for one kind of happening"),
        field(ERROR, Text, "why something failed, and what to do"),
        field(LOGGER, Keyword, "the module that says so, or librdkafka"),
        field(SERVICE, Keyword, "sluice; in files and the stream"),
        field(VERSION, Keyword, "the release; in files and the stream"),
        field(ROLE, Keyword, "the command: serve, worker, sync, …; in files and the stream"),
        field(HOST, Keyword, "the machine; in files and the stream"),
        field(PID, Long, "the process; in files and the stream"),
        field(
            SEQUENCE,
            Long,
            "the number of the line in its process: a number that is missing is a line that was lost; in files and the stream",
        ),
        field("table", Keyword, "the table it is about"),
        field("sink", Keyword, "the sink: postgres, elasticsearch, sqlite or tantivy"),
        field("index", Keyword, "the index"),
        field("partition", Long, "the partition of the topic"),
        field("partitions", Keyword, "several of them"),
        field("offset", Long, "the record's place in its partition"),
        field("group", Keyword, "the consumer group"),
        field("sync_id", Keyword, "the sync or the reconciliation"),
        field("rebuild", Keyword, "the rebuild of an index"),
        field("next", Keyword, "the rebuild that follows it"),
        field("alert", Keyword, "the alert, by its name"),
        field("target", Keyword, "the webhook, by its name"),
        field("tool", Keyword, "the tool that was called"),
        field("request_id", Keyword, "the HTTP request, as its answer's x-request-id says, or the call"),
        field("session", Long, "the MCP session, counted in its process"),
        field("method", Keyword, "the method of the HTTP request"),
        field("path", Keyword, "its path, where it is one that sluice serves"),
        field("client", Keyword, "whose token it came with, by its name"),
        field("peer", Keyword, "the address it came from"),
        field("status", Long, "the status of the answer, in HTTP"),
        field("code", Long, "the code of a refusal, in JSON-RPC"),
        field("elapsed", Keyword, "how long it took"),
        field("pause", Keyword, "how long until it is tried again"),
        field("seconds", Long, "for how long so far"),
        field("failures", Long, "failures since the last success"),
        field("reason", Text, "why something was refused"),
        field("problem", Text, "what is wrong"),
        field("advice", Text, "what to do"),
        field("notice", Text, "how a part was found replaced, cut or restored"),
        field("kind", Keyword, "the kind of the failure"),
        field("outcome", Keyword, "how a scheduled run ended"),
        field("state", Keyword, "how a sync ended"),
        field("what", Keyword, "what was asked for"),
        field("facility", Keyword, "the part of librdkafka that says so"),
        field("place", Keyword, "the part's address, without secrets"),
        field("address", Keyword, "the address that is served"),
        field("id", Keyword, "the id of the part, or of what is sent"),
        field("name", Keyword, "the name of what is meant"),
        field("column", Keyword, "the column"),
        field("columns", Keyword, "several of them"),
        field("expected", Keyword, "the type that was expected of it"),
        field("values", Long, "values that did not fit it"),
        field("key", Keyword, "the key's column"),
        field("store", Keyword, "the store, or how many entities it has"),
        field("tables", Keyword, "tables of the database"),
        field("tokens", Long, "tokens that may connect"),
        field("file", Keyword, "a file"),
        field("folder", Keyword, "a folder"),
        field("setting", Keyword, "a setting, by name"),
        field("settings", Keyword, "settings, by name, that a file gives"),
        field("overridden_by_the_environment", Keyword, "those that the environment has, too"),
        field("not_taken", Keyword, "what is no setting of sluice's"),
        field("from", Keyword, "the time, or the place in the log, it begins from"),
        field("began", Keyword, "when it began"),
        field("hours_ago", Long, "hours that a sync looks back"),
        field("limit", Long, "rows that a sync reads at most"),
        field("allow_deletes", Keyword, "removals that were allowed"),
        field("rows", Long, "rows"),
        field("events", Long, "events"),
        field("task", Keyword, "the task of housekeeping"),
        field("removed", Long, "what it removed"),
        field("rows_read", Long, "rows that were read"),
        field("source_rows", Long, "rows at the source"),
        field("records", Long, "records of the log"),
        field("documents", Long, "documents of the index"),
        field("entities", Long, "entities"),
        field("related", Long, "entities that belong to them"),
        field("appended", Long, "events appended"),
        field("unchanged", Long, "rows that were as they had been"),
        field("dead_letters", Long, "events that were parked"),
        field("parked", Long, "rows whose dead letters are open"),
        field("settled", Long, "dead letters that are settled"),
        field("mended", Long, "dead letters whose rows came mended"),
        field("gone", Long, "rows that are gone at the source"),
        field("deleted", Long, "entities removed"),
        field("repaired", Long, "entities repaired"),
        field("different", Long, "entities that differ"),
        field("repairs", Long, "times they were repaired"),
        field("unexplained", Long, "differences that are left"),
        field("found", Long, "what was found"),
        field("count", Long, "how many"),
        field("counted", Long, "rows that the source counts"),
        field("shown", Long, "rows that it showed"),
        field("ahead", Long, "rows that were changed in the future, by what they say"),
        field("complete", Keyword, "whether all was erased"),
        field("calls", Long, "calls of tools that were cut"),
        field("connections", Long, "connections"),
        field("allowed", Long, "connections there may be"),
        field("cut", Long, "idle connections that were cut to make room"),
        field("refused", Long, "connections that were refused"),
        field("most", Long, "sessions there may be"),
        field("waiting", Long, "messages that wait for a client"),
        field("forgotten", Keyword, "processes that were heard of no more"),
        field("pid", Long, "PostgreSQL's process"),
        field("signal", Keyword, "a signal that a test sends"),
        field("lines", Long, "lines of the log that were lost"),
        field("outlet", Keyword, "where they could not be written: files, elasticsearch or stderr"),
    ]
};

/// What a field of the code is called in a line; `None` for one that is no word of sluice's.
pub(crate) fn name_of(field: &str) -> Option<&'static str> {
    let name = if field == "error" { ERROR } else { field };
    FIELDS.iter().map(|known| known.name).find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

    use super::*;

    /// The arguments of a macro's call, of which `text` begins behind the parenthesis.
    fn arguments(text: &str) -> Vec<String> {
        let (mut found, mut depth, mut is_quoted, mut is_escaped) = (vec![String::new()], 1, false, false);
        for c in text.chars() {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                _ if is_quoted => {}
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 1 => {
                    found.push(String::new());
                    continue;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            found.last_mut().expect("one").push(c);
        }
        found.into_iter().map(|argument| argument.trim().to_owned()).collect()
    }

    /// The fields that a file's calls of `tracing`'s macros name.
    fn fields_in(code: &str) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        for called in ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "_span!("] {
            for (at, _) in code.match_indices(called) {
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if called != "_span!(" && code[..at].ends_with(is_word) {
                    continue;
                }
                let arguments = arguments(&code[at + called.len()..]);
                let named =
                    arguments.iter().take_while(|argument| !argument.starts_with('"') || called == "_span!(");
                for argument in named.filter(|argument| !argument.starts_with("target:")) {
                    let name =
                        argument.split('=').next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
                    if !name.is_empty() && name.chars().all(is_word) {
                        fields.insert(name.to_owned());
                    }
                }
            }
        }
        fields
    }

    fn code(folder: &Path, found: &mut String) {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            if path.is_dir() && name != "tests" {
                code(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !name.starts_with("tests")
            {
                let text = fs::read_to_string(&path).expect("text");
                found.push_str(text.split("#[cfg(test)]\nmod tests").next().expect("code"));
            }
        }
    }

    #[test]
    fn every_field_that_the_code_names_is_a_word_of_the_vocabulary() {
        let sample = "warn!(target: X, %table, error = %fault, ?pause, self.n, \"no {}, {a}\", b); info_span!(\"x\", id = 1)";
        let expected = ["error", "id", "pause", "table"].map(str::to_owned);
        assert_eq!(fields_in(sample), BTreeSet::from(expected));
        let mut all = String::new();
        code(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        let fields = fields_in(&all);
        assert!(fields.len() > 60, "{fields:?}");
        let unknown: Vec<_> = fields.iter().filter(|field| name_of(field).is_none()).collect();
        assert!(unknown.is_empty(), "give them a line in FIELDS, or use a word that is there: {unknown:?}");
    }

    #[test]
    fn the_documentation_has_every_field_as_it_is() {
        let mut names = BTreeSet::new();
        let mut table = String::from("| field | indexed as | what it is |\n|---|---|---|\n");
        for Field { name, kind, about } in &FIELDS {
            assert!(names.insert(name), "{name} is there twice");
            let _ = writeln!(table, "| `{name}` | {} | {about} |", kind.name());
        }
        assert!(
            include_str!("../../docs/logs.md").contains(&table),
            "docs/logs.md is stale; its table is\n{table}"
        );
    }
}
