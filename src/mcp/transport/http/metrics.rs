//! What is told in Prometheus' text format. docs/metrics.md is made of the same descriptions.

mod families;
mod page;
mod process;

use self::{
    families::{self as told, COUNTERS, OF_TABLES},
    page::Page,
};
use super::connections::Connections;
use crate::{
    engine::{DrainState, EngineMetrics, PipelineStatus},
    store::{NoticeKind, PoolUse, SyncState},
};

pub(crate) use self::families::documentation;

/// What an instant's numbers look like to Prometheus. What is not known is left out.
pub(super) fn text(
    status: &PipelineStatus,
    metrics: &EngineMetrics,
    pool: Option<PoolUse>,
    sessions: &[(&str, usize)],
    connections: &Connections,
) -> String {
    let mut page = Page::default();
    page.one(&told::BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one(&told::HEALTHY, &[], u8::from(status.healthy));
    page.many(&told::PART_UP, status.parts().map(|part| ([("part", part.name.as_str())], u8::from(part.ok))));
    write_sinks(&mut page, status, metrics);
    write_tables(&mut page, status);
    let schedules = status
        .schedules
        .iter()
        .map(|schedule| ([("table", schedule.table.as_str())], u8::from(schedule.problem().is_some())));
    page.many(&told::SCHEDULE_FAILING, schedules);
    let whole = status
        .schedules
        .iter()
        .map(|schedule| ([("table", schedule.table.as_str())], u8::from(schedule.is_of_all_rows())));
    page.many(&told::SCHEDULE_WHOLE, whole);
    write_housekeeping(&mut page, status);
    page.many(&told::DEAD_LETTERS, status.dead_letters.map(|letters| ([], letters)));
    let oldest = status.oldest_dead_letter_at.map(|since| {
        let age = status.checked_at - since;
        ([], age.num_seconds().max(0))
    });
    page.many(&told::DEAD_LETTER_AGE, oldest);
    page.many(
        &told::NOTICES,
        NoticeKind::ALL.into_iter().map(|kind| {
            let count = status.notices.iter().filter(|notice| notice.kind == kind).count();
            ([("kind", kind.as_str())], count)
        }),
    );
    page.histogram(&told::SOURCE_PAGE, &[], &metrics.source.since_start);
    page.one(&told::SOURCE_ROWS, &[], metrics.source.items);
    page.histogram(&told::APPEND, &[], &metrics.log.since_start);
    page.one(&told::APPENDED, &[], metrics.log.items);
    if let Some(PoolUse { open, idle, most }) = pool {
        let uses = [("used", open.saturating_sub(idle)), ("idle", idle), ("most", most)];
        page.many(&told::POOL, uses.into_iter().map(|(state, count)| ([("state", state)], count)));
    }
    page.many(&told::SESSIONS, sessions.iter().map(|(transport, open)| ([("transport", *transport)], *open)));
    let (cut, refused) = connections.crowded_out();
    page.one(&told::CONNECTIONS, &[], connections.count() as u64);
    page.one(&told::CONNECTIONS_CUT, &[], cut);
    page.one(&told::CONNECTIONS_REFUSED, &[], refused);
    let lost = crate::logging::lost();
    page.many(&told::LOG_LOST, lost.into_iter().map(|(outlet, lines)| ([("outlet", outlet)], lines)));
    if let Some((sent, dropped)) = crate::traces::counts() {
        page.one(&told::SPANS_SENT, &[], sent);
        let dropped = dropped.into_iter().map(|(loss, count)| ([("reason", loss.as_str())], count));
        page.many(&told::SPANS_DROPPED, dropped);
    }
    page.one(&told::STARTED, &[], metrics.started_at.timestamp());
    process::write(&mut page);
    page.text()
}

fn write_sinks(page: &mut Page, status: &PipelineStatus, metrics: &EngineMetrics) {
    let lags = status.lag.iter().filter_map(|lag| Some(([("sink", lag.sink.as_str())], lag.total?)));
    page.many(&told::LAG, lags);
    for (family, of) in &COUNTERS {
        let counts = metrics.sinks.iter().map(|sink| ([("sink", sink.drain.sink.as_str())], of(&sink.drain)));
        page.many(family, counts);
    }
    // A server may leave the drains to workers, who tell the numbers of theirs only where they are asked to.
    let runs = DrainState::Running;
    let runs_elsewhere = |name: &str| {
        status.drains_elsewhere.iter().any(|drain| drain.sink == name && drain.state == runs.as_str())
    };
    let running = metrics.sinks.iter().map(|sink| {
        let name = sink.drain.sink.as_str();
        ([("sink", name)], u8::from(sink.drain.state == runs || runs_elsewhere(name)))
    });
    page.many(&told::DRAIN_RUNNING, running);
    for sink in &metrics.sinks {
        let (labels, times) = ([("sink", sink.drain.sink.as_str())], &sink.times.since_start);
        page.histogram(&told::APPLY, &labels, &times.apply);
        page.histogram(&told::APPENDED_TO_APPLIED, &labels, &times.appended_to_applied);
        page.histogram(&told::CHANGED_TO_APPLIED, &labels, &times.changed_to_applied);
    }
}

fn write_housekeeping(page: &mut Page, status: &PipelineStatus) {
    let passes = || status.housekeeping.iter().map(|pass| ([("task", pass.task.as_str())], pass));
    page.many(&told::REMOVED, passes().map(|(task, pass)| (task, pass.removed_in_all)));
    page.many(&told::HOUSEKEEPING_OK, passes().map(|(task, pass)| (task, u8::from(pass.error.is_none()))));
    let ages = passes().filter_map(|(task, pass)| {
        Some((task, (status.checked_at - pass.succeeded_at?).num_seconds().max(0)))
    });
    page.many(&told::HOUSEKEEPING_AGE, ages);
}

fn write_tables(page: &mut Page, status: &PipelineStatus) {
    for (family, of) in &OF_TABLES {
        let known =
            status.tables.iter().filter_map(|table| Some(([("table", table.table.as_str())], of(table)?)));
        page.many(family, known);
    }
    for table in &status.tables {
        let of_table = [("table", table.table.as_str())];
        page.many(&told::COUNTED_AGE, table.counted_seconds_ago.map(|age| (of_table, age)));
        let outcome = table.reconciled.as_ref().map(|reconciled| reconciled.outcome);
        let is_well = outcome.map(|outcome| outcome == SyncState::Succeeded);
        page.many(&told::RECONCILE_OK, is_well.map(|is_well| (of_table, u8::from(is_well))));
    }
}
