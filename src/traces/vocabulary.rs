//! Every attribute that a span may have. docs/traces.md has the same table, and a test finds it there.

use opentelemetry::{KeyValue, Value};

/// An attribute of spans.
pub(crate) struct Attribute {
    name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "docs/traces.md is made of it by a test"))]
    of: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "docs/traces.md is made of it by a test"))]
    about: &'static str,
}

impl Attribute {
    pub(crate) fn is(&self, value: impl Into<Value>) -> KeyValue {
        KeyValue::new(self.name, value)
    }

    /// A number, as far as the protocol can tell it.
    pub(crate) fn counts(&self, number: impl TryInto<i64>) -> KeyValue {
        self.is(number.try_into().unwrap_or(i64::MAX))
    }
}

macro_rules! attributes {
    ($($constant:ident = $name:literal, $of:literal, $about:literal;)*) => {
        $(pub(crate) static $constant: Attribute = Attribute { name: $name, of: $of, about: $about };)*
        #[cfg(test)]
        static ALL: [&Attribute; [$($name),*].len()] = [$(&$constant),*];
    };
}

attributes! {
    TABLE = "sluice.table", "sync, reconcile, read", "the table";
    SYNC = "sluice.sync.id", "sync, reconcile", "the sync, as its status and the log name it";
    SYNC_STATE = "sluice.sync.state", "sync, reconcile", "how it ended: succeeded, failed, cancelled or interrupted";
    ROWS_READ = "sluice.sync.rows_read", "sync, reconcile", "rows that were read";
    APPENDED = "sluice.sync.appended", "sync, reconcile", "events that were appended";
    PAGE_ROWS = "sluice.page.rows", "read", "rows of the page";
    HTTP_STATUS = "http.response.status_code", "read", "the status of the source's last answer";
    HTTP_BYTES = "http.response.body.size", "read", "how large it was, in bytes, after decompression";
    HTTP_RESENDS = "http.request.resend_count", "read", "how often the source was asked again";
    SYSTEM = "messaging.system", "send, process", "kafka, or embedded";
    TOPIC = "messaging.destination.name", "send, process", "the topic";
    OPERATION = "messaging.operation.name", "send, process", "send, or process";
    OPERATION_TYPE = "messaging.operation.type", "send, process", "the same";
    MESSAGES = "messaging.batch.message_count", "send, process", "records that were sent; of the page, records in the batch that was applied";
    GROUP = "messaging.consumer.group.name", "process", "the consumer group";
    SINK = "sluice.sink", "process", "postgres, elasticsearch, sqlite or tantivy";
    BATCH = "sluice.batch.records", "process", "records of the whole batch, of whatever pages";
    METHOD = "mcp.method.name", "tools/call", "tools/call";
    TOOL = "gen_ai.tool.name", "tools/call", "the tool";
    ERROR = "error.type", "all", "where it failed: the part and the kind of the fault, such as postgres transient, or tool_error";
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _};

    use super::*;

    #[test]
    fn the_documentation_has_every_attribute_as_it_is() {
        let mut names = BTreeSet::new();
        let mut table = String::from("| attribute | of | what it is |\n|---|---|---|\n");
        for Attribute { name, of, about } in ALL {
            assert!(names.insert(name), "{name} is there twice");
            let _ = writeln!(table, "| `{name}` | {of} | {about} |");
        }
        let documented = include_str!("../../docs/traces.md");
        assert!(documented.contains(&table), "docs/traces.md is stale; its table is\n{table}");
    }
}
