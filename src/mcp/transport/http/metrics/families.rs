//! What each metric is called and means.

use std::fmt::Write as _;

use crate::engine::{DrainReport, TableStatus};

/// A metric with all its series.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// `gauge`, `counter` or `histogram`.
    pub(super) kind: &'static str,
    /// The names of its labels.
    pub(super) labels: &'static str,
    pub(super) help: &'static str,
}

const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", labels, help }
}

const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Family {
    Family { name, kind: "counter", labels, help }
}

const fn histogram(name: &'static str, labels: &'static str, help: &'static str) -> Family {
    Family { name, kind: "histogram", labels, help }
}

macro_rules! families {
    ($($name:ident = $family:expr;)*) => {
        $(pub(super) static $name: Family = $family;)*
        /// Those whose values are told one by one.
        static OTHERS: [&Family; [$(stringify!($name)),*].len()] = [$(&$name),*];
    };
}

families! {
    BUILD = gauge("sluice_build_info", "version", "1; the release is the label");
    STARTED = gauge("process_start_time_seconds", "", "When the process began, in seconds since 1970");
    HEALTHY = gauge("sluice_healthy", "", "1 where get_pipeline_status finds no problem");
    PART_UP = gauge("sluice_part_up", "part", "1 while the part answers");
    LAG = gauge("sluice_sink_lag_records", "sink", "Records a sink has still to apply; left out where that is not known");
    DRAIN_RUNNING = gauge("sluice_drain_running", "sink", "1 while a drain reads and applies, in this process or another");
    CHANGED_TO_APPLIED = histogram(
        "sluice_changed_to_applied_seconds", "sink",
        "From the time that a row says it was changed at until its event was applied; an index shows it within its refresh \
         interval, and a first sync counts rows of long ago"
    );
    APPENDED_TO_APPLIED = histogram("sluice_appended_to_applied_seconds", "sink", "From a record's append to its being applied");
    APPLY = histogram("sluice_apply_seconds", "sink", "How long applying a batch took");
    SOURCE_PAGE = histogram("sluice_source_page_seconds", "", "How long the source took to answer with a page");
    SOURCE_ROWS = counter("sluice_source_rows_total", "", "Rows that syncs of this process read");
    APPEND = histogram("sluice_append_seconds", "", "How long the log took to acknowledge a batch of events");
    APPENDED = counter("sluice_appended_events_total", "", "Events that this process appended");
    COUNTED_AGE = gauge("sluice_table_counted_age_seconds", "table", "How old the counts of rows are");
    RECONCILE_OK = gauge("sluice_table_reconcile_ok", "table", "1 where the last reconciliation succeeded; 0 where it failed, broke off or was cancelled");
    SCHEDULE_FAILING = gauge(
        "sluice_schedule_failing",
        "table",
        "1 while the last run of a scheduled sync failed, runs are skipped or reach their limit for long, or nobody runs what is due"
    );
    SCHEDULE_WHOLE = gauge(
        "sluice_schedule_whole",
        "table",
        "1 where a schedule has no conditions: only then is its table reconciled at night"
    );
    REMOVED = counter("sluice_housekeeping_removed_total", "task", "What was removed for its age, by whatever process");
    HOUSEKEEPING_OK = gauge("sluice_housekeeping_ok", "task", "1 where the last removal of what is old did all it was to do");
    HOUSEKEEPING_AGE = gauge("sluice_housekeeping_success_age_seconds", "task", "How long ago all that was old was removed");
    DEAD_LETTERS = gauge("sluice_dead_letters", "", "Open dead letters; left out where that is not known");
    DEAD_LETTER_AGE = gauge(
        "sluice_dead_letter_age_seconds",
        "",
        "How long the oldest open dead letter waits; left out where there is none"
    );
    NOTICES = gauge("sluice_notices", "kind", "Times within a week that a part was found replaced, cut or restored");
    POOL = gauge("sluice_store_connections", "state", "Connections of the pool to PostgreSQL: used, idle, and the most there may be");
    SESSIONS = gauge("sluice_mcp_sessions", "transport", "MCP sessions open now");
    CONNECTIONS = gauge("sluice_http_connections", "", "Connections open now");
    CONNECTIONS_CUT = counter("sluice_http_connections_cut_total", "", "Idle connections cut to make room");
    CONNECTIONS_REFUSED = counter("sluice_http_connections_refused_total", "", "Connections there was no room for");
    LOG_LOST = counter(
        "sluice_log_lines_lost_total", "outlet",
        "Lines of this process's own log that files or elasticsearch could not keep, or stderr while nobody read it"
    );
    SPANS_SENT = counter("sluice_trace_spans_sent_total", "", "Spans that a collector took; left out where traces are off");
    SPANS_DROPPED = counter(
        "sluice_trace_spans_dropped_total", "reason",
        "Spans that were lost: full (they came faster than they were taken), refused, crowded (a batch of more pages than spans \
         are made for), ended (the process did)"
    );
    PROCESSOR = counter("process_cpu_seconds_total", "", "Processor time of this process (Linux)");
    RESIDENT = gauge("process_resident_memory_bytes", "", "Memory of this process that is resident (Linux)");
    THREADS = gauge("process_threads", "", "Threads of this process (Linux)");
    OPEN_FILES = gauge("process_open_fds", "", "Open file descriptors of this process (Linux)");
}

type OfDrain = fn(&DrainReport) -> u64;
type OfTable = fn(&TableStatus) -> Option<i64>;

/// What the drains of this process count since it began.
pub(super) static COUNTERS: [(Family, OfDrain); 9] = [
    (counter("sluice_drain_inserted_total", "sink", "Events applied that were not there before"), |drain| {
        drain.inserted
    }),
    (counter("sluice_drain_duplicates_total", "sink", "Events that were there already"), |drain| {
        drain.duplicates
    }),
    (counter("sluice_drain_entities_total", "sink", "Entities created or moved forward"), |drain| {
        drain.entities
    }),
    (
        counter(
            "sluice_drain_stale_total",
            "sink",
            "Entities left alone, having this version or a later one",
        ),
        |drain| drain.stale,
    ),
    (
        counter("sluice_drain_erased_total", "sink", "Events left out because their entity was erased"),
        |drain| drain.erased,
    ),
    (counter("sluice_drain_dead_letters_total", "sink", "Events parked as dead letters"), |drain| {
        drain.dead_letters
    }),
    (counter("sluice_drain_batches_total", "sink", "Batches applied"), |drain| drain.batches),
    (counter("sluice_drain_retries_total", "sink", "Failures tried again"), |drain| drain.retries),
    (counter("sluice_drain_restarts_total", "sink", "Times a drain was started anew"), |drain| {
        drain.restarts
    }),
];

/// What is told of each table, where it is known.
pub(super) static OF_TABLES: [(Family, OfTable); 7] = [
    (gauge("sluice_table_source_rows", "table", "Rows at the source, as they were counted last"), |table| {
        whole(table.source)
    }),
    (gauge("sluice_table_store_rows", "table", "Entities in the store"), |table| whole(table.store)),
    (gauge("sluice_table_index_rows", "table", "Entities in the index"), |table| whole(table.index)),
    (gauge("sluice_table_parked_rows", "table", "Rows whose dead letters are open"), |table| {
        whole(table.parked)
    }),
    (gauge("sluice_table_unread_rows", "table", "Rows at the source that no sync read yet"), |table| {
        whole(table.unread)
    }),
    (gauge("sluice_table_sync_age_seconds", "table", "Time since the last sync that succeeded"), |table| {
        table.synced_seconds_ago
    }),
    (
        gauge(
            "sluice_table_reconcile_age_seconds",
            "table",
            "Time since the last reconciliation that succeeded",
        ),
        |table| table.reconciled.as_ref()?.succeeded_seconds_ago,
    ),
];

fn whole(rows: Option<u64>) -> Option<i64> {
    i64::try_from(rows?).ok()
}

/// Every metric there is.
fn all() -> impl Iterator<Item = &'static Family> {
    let of_tables = OF_TABLES.iter().map(|(family, _)| family);
    OTHERS.into_iter().chain(of_tables).chain(COUNTERS.iter().map(|(family, _)| family))
}

/// The table of docs/metrics.md.
pub(crate) fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\n`sluice serve --http` tells them at `/metrics`, in Prometheus' text format; `examples/prometheus` scrapes them, with\n\
         alerts. Every process tells its own counters, histograms and drains; what is told of tables, lag, letters and parts is the same in\n\
         each. What is not known is left out, never 0. Made from the code by `tools/docs`.\n\n\
         | metric | kind | labels | what it is |\n|---|---|---|---|\n",
    );
    for Family { name, kind, labels, help } in all() {
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_is_made_of_the_descriptions() {
        let documented = include_str!("../../../../../docs/metrics.md");
        assert!(documented == documentation(), "docs/metrics.md is stale, run tools/docs");
    }

    #[test]
    fn every_name_is_given_once_and_ends_as_its_kind_asks() {
        let mut names = BTreeSet::new();
        for family in all() {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == "counter", "{}", family.name);
            assert!(family.kind != "histogram" || family.name.ends_with("_seconds"), "{}", family.name);
        }
    }
}
