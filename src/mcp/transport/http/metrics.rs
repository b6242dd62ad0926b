//! Prometheus' text format.

use std::fmt::{Display, Write as _};

use super::connections::Connections;
use crate::{
    engine::{DrainReport, DrainState, PartStatus, PipelineStatus},
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

/// What an instant's numbers look like to Prometheus.
pub(super) fn text(
    status: &PipelineStatus,
    drains: &[DrainReport],
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
    for (name, help, of) in COUNTERS {
        page.family(name, "counter", help, "sink", drains, |drain| (drain.sink.as_str(), of(drain)));
    }
    page.family(
        "sluice_drain_running",
        "gauge",
        "1 while the drain reads and applies",
        "sink",
        drains,
        |drain| (drain.sink.as_str(), u8::from(drain.state == DrainState::Running)),
    );
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
    page.0
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
