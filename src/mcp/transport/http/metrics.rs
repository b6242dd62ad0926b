//! Prometheus' text format.

use std::fmt::{Display, Write as _};

use super::connections::Connections;
use crate::{
    engine::{DrainReport, DrainState, PartStatus, PipelineStatus, SinkMetrics, TableStatus},
    store::NoticeKind,
};

/// What a drain counts, under its name and with its explanation.
type Counter = (&'static str, &'static str, fn(&DrainReport) -> u64);
const COUNTERS: [Counter; 9] = [
    ("sluice_drain_inserted_total", "Events applied that were not there before", |drain| drain.inserted),
    ("sluice_drain_duplicates_total", "Events that were there already", |drain| drain.duplicates),
    ("sluice_drain_entities_total", "Entities created or moved forward", |drain| drain.entities),
    ("sluice_drain_stale_total", "Entities left alone, having this version or a later one", |drain| {
        drain.stale
    }),
    ("sluice_drain_erased_total", "Events left out because their entity was erased", |drain| drain.erased),
    ("sluice_drain_dead_letters_total", "Events parked as dead letters", |drain| drain.dead_letters),
    ("sluice_drain_batches_total", "Batches applied", |drain| drain.batches),
    ("sluice_drain_retries_total", "Failures tried again", |drain| drain.retries),
    ("sluice_drain_restarts_total", "Times a drain was started anew", |drain| drain.restarts),
];

/// What is told of a table, where it is known.
type OfTable = (&'static str, &'static str, fn(&TableStatus) -> Option<i64>);
const OF_TABLES: [OfTable; 7] = [
    ("sluice_table_source_rows", "Rows at the source", |table| whole(table.source)),
    ("sluice_table_store_rows", "Entities in the store", |table| whole(table.store)),
    ("sluice_table_index_rows", "Entities in the index", |table| whole(table.index)),
    ("sluice_table_parked_rows", "Rows whose dead letters are open", |table| whole(table.parked)),
    ("sluice_table_unread_rows", "Rows at the source that no sync read yet", |table| whole(table.unread)),
    ("sluice_table_sync_age_seconds", "Time since the last sync that succeeded", |table| {
        table.synced_seconds_ago
    }),
    ("sluice_table_reconcile_age_seconds", "Time since the last reconciliation, whatever its end", |table| {
        Some(table.reconciled.as_ref()?.seconds_ago)
    }),
];

fn whole(rows: Option<u64>) -> Option<i64> {
    i64::try_from(rows?).ok()
}

/// What an instant's numbers look like to Prometheus.
pub(super) fn text(
    status: &PipelineStatus,
    sinks: &[SinkMetrics],
    sessions: &[(&str, usize)],
    connections: &Connections,
) -> String {
    let mut page = Page::default();
    let parts: Vec<&PartStatus> = [&status.source, &status.log].into_iter().chain(&status.sinks).collect();
    page.family("sluice_part_up", "gauge", "1 while the part answers", "part", &parts, |part| {
        (part.name.as_str(), u8::from(part.ok))
    });
    let known_lags: Vec<(&str, i64)> =
        status.lag.iter().filter_map(|lag| Some((lag.sink.as_str(), lag.total?))).collect();
    page.family(
        "sluice_sink_lag_records",
        "gauge",
        "Records a sink has still to apply",
        "sink",
        &known_lags,
        |lag| *lag,
    );
    if let Some(letters) = status.dead_letters {
        let _ = writeln!(
            page.0,
            "# HELP sluice_dead_letters Dead letters in the log\n# TYPE sluice_dead_letters gauge\nsluice_dead_letters {letters}"
        );
    }
    let mut notices: Vec<(&str, usize)> = Vec::new();
    for kind in NoticeKind::ALL {
        notices.push((kind.as_str(), status.notices.iter().filter(|notice| notice.kind == kind).count()));
    }
    page.family(
        "sluice_notices",
        "gauge",
        "Times within a week that a part was found replaced, cut or restored",
        "kind",
        &notices,
        |notice| *notice,
    );
    for (name, help, of) in OF_TABLES {
        let known: Vec<(&str, i64)> =
            status.tables.iter().filter_map(|table| Some((table.table.as_str(), of(table)?))).collect();
        page.family(name, "gauge", help, "table", &known, |table| *table);
    }
    let now = status.checked_at;
    page.family(
        "sluice_schedule_failing",
        "gauge",
        "1 while the last run of a scheduled sync failed or nobody runs what is due",
        "table",
        &status.schedules,
        |schedule| (schedule.table.as_str(), u8::from(schedule.problem(now).is_some())),
    );
    add_drains(&mut page, status, sinks);
    page.family("sluice_mcp_sessions", "gauge", "Sessions open now", "transport", sessions, |session| {
        *session
    });
    let (cut, refused) = connections.crowded_out();
    for (name, kind, help, value) in [
        ("sluice_http_connections", "gauge", "Connections open now", connections.count() as u64),
        ("sluice_http_connections_cut_total", "counter", "Idle connections cut to make room", cut),
        ("sluice_http_connections_refused_total", "counter", "Connections there was no room for", refused),
    ] {
        let _ = writeln!(page.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    page.family(
        "sluice_build_info",
        "gauge",
        "1 for the version that runs",
        "version",
        &[env!("CARGO_PKG_VERSION")],
        |version| (*version, 1),
    );
    if let Some(bytes) = resident_memory() {
        let name = "process_resident_memory_bytes";
        let _ = writeln!(
            page.0,
            "# HELP {name} Memory that is not swapped out\n# TYPE {name} gauge\n{name} {bytes}"
        );
    }
    page.0
}

fn add_drains(page: &mut Page, status: &PipelineStatus, sinks: &[SinkMetrics]) {
    for (name, help, of) in COUNTERS {
        page.family(name, "counter", help, "sink", sinks, |sink| (sink.drain.sink.as_str(), of(&sink.drain)));
    }
    // A server may leave the drains to workers, which serve no numbers.
    let runs = DrainState::Running;
    let runs_elsewhere = |name: &str| {
        status.drains_elsewhere.iter().any(|drain| drain.sink == name && drain.state == runs.as_str())
    };
    page.family(
        "sluice_drain_running",
        "gauge",
        "1 while a drain reads and applies, in this process or another",
        "sink",
        sinks,
        |sink| {
            let name = sink.drain.sink.as_str();
            (name, u8::from(sink.drain.state == runs || runs_elsewhere(name)))
        },
    );
    // Of a sink to which nothing came, nothing is known.
    let busy: Vec<&SinkMetrics> = sinks.iter().filter(|sink| sink.times.end_to_end_ms.count > 0).collect();
    page.family(
        "sluice_sink_delay_p50_seconds",
        "gauge",
        "From appended to applied, the median of the last five minutes' records",
        "sink",
        &busy,
        |sink| (sink.drain.sink.as_str(), sink.times.end_to_end_ms.p50 / 1000.0),
    );
    page.family(
        "sluice_sink_delay_p99_seconds",
        "gauge",
        "From appended to applied, all but the slowest hundredth of the last five minutes' records",
        "sink",
        &busy,
        |sink| (sink.drain.sink.as_str(), sink.times.end_to_end_ms.p99 / 1000.0),
    );
}

/// What the system says, where it does.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// One metric with a line for each of its series; label values are names of this program's own, never a user's text.
    fn family<'a, T, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        series: &'a [T],
        of: impl Fn(&'a T) -> (&'a str, V),
    ) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for one in series {
            let (of_what, value) = of(one);
            let _ = writeln!(self.0, "{name}{{{label}=\"{of_what}\"}} {value}");
        }
    }
}
