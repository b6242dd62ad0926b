//! How the pipeline is: every part asked at once, each answering for itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant as TokioInstant;
use uuid::Uuid;

use super::{
    Alerts, Appender, DrainElsewhere, Drains, EngineMetrics, LagSummary, Letters, RebuildStatus, Rebuilds,
    ScheduleStatus, Schedules, SinkMetrics, SinkPause, SyncPhase, SyncStatus, Syncs, TableStatus, columns,
    counts::Counts,
    forget, housekeeping,
    questions::unfilled,
    shared::Shared,
    standing::{Standing, Standings},
    stats::DrainReport,
    tables::{Facts, Judged, blindness},
};
use crate::{
    deadline,
    domain::{Table, TableName},
    fault::{Fault, FaultKind},
    log::records_in,
    next_step::{NextStep, Remark},
    sink::Sink,
    source::description::named_in_vain,
    store::{HousekeepingPass, Notice, PoolUse, SyncFilter, SyncRecord, SyncState, TOLD_FOR},
};

/// How long a part may take to answer before it counts as failed. A status is no longer in the making: Prometheus waits
/// for 10 s, and shows nothing at all of one that comes later.
const PART_TIMEOUT: Duration = Duration::from_secs(6);

/// How much longer a part is given to say why it has no answer.
const GRACE: Duration = Duration::from_secs(1);

/// Syncs that a status shows.
const RECENT_SYNCS: u32 = 5;

/// The whole pipeline's state.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PipelineStatus {
    /// Nothing in `problems`: every part answers, every drain and schedule does its work, and as far as can be counted
    /// all rows that syncs are to read are in both sinks or on their way.
    pub healthy: bool,
    /// Every part answers, the store and the log have room to write, and every drain of this process runs, whatever the tables
    /// and schedules are like.
    #[serde(skip)]
    pub ready: bool,
    /// What is wrong and what to do about it; empty when all is well.
    #[schemars(with = "Vec<String>")]
    pub problems: Vec<Remark>,
    /// What an operator should know although nothing fails.
    #[schemars(with = "Vec<String>")]
    pub warnings: Vec<Remark>,
    pub source: PartStatus,
    pub log: PartStatus,
    pub sinks: Vec<PartStatus>,
    /// Each table's rows, from the source to both sinks, as they were counted last.
    pub tables: Vec<TableStatus>,
    /// The drains of this process; other workers have their own.
    pub drains: Vec<DrainReport>,
    /// The drains of other processes, by their own word of the last half minute.
    pub drains_elsewhere: Vec<DrainElsewhere>,
    pub lag: Vec<LagSummary>,
    /// Sinks that an operator paused, in whatever process.
    pub paused: Vec<SinkPause>,
    /// Syncs that run by themselves.
    pub schedules: Vec<ScheduleStatus>,
    /// What was found replaced, cut or restored within the last week.
    pub notices: Vec<Notice>,
    /// Dead letters that nobody replayed or discarded yet; absent when log or store could not be asked.
    pub dead_letters: Option<u64>,
    /// Since when the oldest of them waits; told as a warning.
    #[serde(skip)]
    #[schemars(skip)]
    pub oldest_dead_letter_at: Option<DateTime<Utc>>,
    /// The latest syncs, newest first.
    pub recent_syncs: Vec<RecentSync>,
    /// Rebuilds of indices that are under way, in whatever process, and those that this process ran.
    pub rebuilds: Vec<RebuildStatus>,
    /// What became of what is old; doctor tells it to people.
    #[serde(skip)]
    #[schemars(skip)]
    pub housekeeping: Vec<HousekeepingPass>,
    pub checked_at: DateTime<Utc>,
}

/// A sync in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecentSync {
    pub sync_id: Uuid,
    pub table: String,
    pub state: SyncPhase,
    /// It is a reconciliation.
    pub reconciles: bool,
    pub rows_read: u64,
    pub appended: u64,
    pub unchanged: u64,
    /// Records of it that the sink that is furthest behind has still to apply; absent where that is not known.
    pub pending: Option<i64>,
    pub started_at: DateTime<Utc>,
    pub error: Option<String>,
}

impl RecentSync {
    fn of(record: SyncRecord, sinks: &[Standing]) -> Self {
        let of_sink = |sink: &Standing| match sink.lag.as_ref().ok()? {
            lag if lag.log == record.log => Some(lag.pending(&record.progress.targets)),
            _ => record.drained.then_some(0),
        };
        let pending: Option<Vec<i64>> = sinks.iter().map(of_sink).collect();
        let pending = pending.map(|each| each.into_iter().max().unwrap_or_default());
        Self {
            state: match record.state {
                SyncState::Running => SyncPhase::Running,
                SyncState::Succeeded if pending == Some(0) => SyncPhase::Done,
                SyncState::Succeeded => SyncPhase::Draining,
                SyncState::Failed => SyncPhase::Failed,
                SyncState::Cancelled => SyncPhase::Cancelled,
                SyncState::Interrupted => SyncPhase::Interrupted,
            },
            sync_id: record.id,
            table: record.request.table.0,
            reconciles: record.request.reconcile.is_some(),
            rows_read: record.progress.rows_read,
            appended: record.progress.appended,
            unchanged: record.progress.unchanged,
            pending,
            started_at: record.started_at,
            error: record.error,
        }
    }
}

/// One part's state.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PartStatus {
    pub name: String,
    pub ok: bool,
    /// Version, host or topic: what was reached.
    pub detail: String,
    /// Records of the topic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Count>,
    pub error: Option<String>,
}

/// Something counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Count {
    pub name: String,
    pub count: u64,
}

impl PipelineStatus {
    /// Has a front find its words for what can be done.
    #[must_use]
    pub fn worded(mut self, words: fn(&NextStep) -> String) -> Self {
        self.problems.iter_mut().chain(&mut self.warnings).for_each(|remark| remark.word(words));
        self
    }
}

impl PipelineStatus {
    /// Whether all that is wrong is that nothing was synced yet.
    pub fn is_fresh(&self) -> bool {
        matches!(&*self.problems, [only] if matches!(only.next_step, Some(NextStep::FirstSync { .. })))
    }

    /// Every part.
    pub fn parts(&self) -> impl Iterator<Item = &PartStatus> {
        [&self.source, &self.log].into_iter().chain(&self.sinks)
    }
}

impl PartStatus {
    fn failed(name: &str, fault: &Fault) -> Self {
        Self {
            name: name.to_owned(),
            ok: false,
            detail: String::new(),
            counts: Vec::new(),
            error: Some(fault.to_string()),
        }
    }
}

/// Tells how everything is.
pub struct Inspection {
    pub(super) shared: Arc<Shared>,
    pub(super) appender: Arc<Appender>,
    pub(super) syncs: Arc<Syncs>,
    pub(super) schedules: Arc<Schedules>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) drains: Arc<Drains>,
    pub(super) letters: Arc<Letters>,
    pub(super) rebuilds: Arc<Rebuilds>,
    pub(super) counts: Arc<Counts>,
    pub(super) started: Instant,
    pub(super) started_at: DateTime<Utc>,
}

impl Inspection {
    /// What this process measured; asks no part.
    pub fn metrics(&self) -> EngineMetrics {
        let sinks = self
            .drains
            .stats()
            .map(|stats| SinkMetrics { drain: stats.report(), times: stats.times() })
            .collect();
        EngineMetrics {
            uptime_seconds: self.started.elapsed().as_secs(),
            started_at: self.started_at,
            source: self.syncs.reads(),
            log: self.appender.report(),
            sinks,
            measured_at: Utc::now(),
        }
    }

    /// The connections to the store's server; nothing where there is no server.
    pub fn pool(&self) -> Option<PoolUse> {
        self.shared.store.pool()
    }

    /// Why the source may not have shown all rows of a table: what its key may not see, and how many rows fewer it shows
    /// than were read before. Nothing where the key sees everything.
    pub async fn blind_spots(&self, table: &str) -> Vec<Remark> {
        let Some(spot) = self.shared.source.blind_spot() else { return Vec::new() };
        let Some(table) = self.shared.catalog.get(table) else { return Vec::new() };
        let counted = self.counts.latest(Some(Utc::now())).await;
        let fewer = counted.get(&table).and_then(|counted| {
            let (source, tally) = (counted.source.as_ref().ok()?.as_ref()?, counted.store.as_ref().ok()?);
            blindness(table, *source, tally.appended, self.shared.settings.reconcile.deletes)
        });
        fewer.into_iter().chain([Remark::new(spot.problem, spot.next_step)]).collect()
    }

    /// What documents of a sync's table have as an earlier definition made it: a sync brings no row anew that did not change.
    pub async fn unfilled(&self, sync: &SyncStatus) -> Option<Remark> {
        let index = &*self.shared.index;
        match within(index.name(), unfilled(index)).await {
            Ok(unfilled) => {
                unfilled.into_iter().find(|(of, _)| of.as_str() == sync.table).map(|(_, lack)| lack)
            }
            Err(fault) => Some(fault.remark()),
        }
    }

    /// Asks every part something cheap, and writes nothing. Never fails: a part that does is in the answer, as is one that
    /// does not answer in time.
    pub async fn status(&self) -> PipelineStatus {
        Box::pin(deadline::by(TokioInstant::now() + PART_TIMEOUT, self.inspect())).await
    }

    async fn inspect(&self) -> PipelineStatus {
        let Shared { log: log_port, store, sinks: sink_ports, catalog, .. } = &*self.shared;
        let (of_log, of_store) = (log_port.name(), store.name());
        let names: Vec<TableName> = catalog.tables().map(TableName::from).collect();
        let recent = SyncFilter { limit: RECENT_SYNCS, ..SyncFilter::default() };
        let (
            (source, source_warnings),
            log,
            dead_letters,
            sinks,
            standings,
            recent,
            latest,
            schedules,
            alerts,
            notices,
            made,
            rebuilds,
        ) = tokio::join!(
            self.source_status(),
            self.log_status(),
            within(of_log, self.letters.open_count_as_it_is()),
            join_all(sink_ports.iter().map(|sink| sink_status(&**sink))),
            self.drains.standings(),
            within(of_store, store.syncs(&recent)),
            within(of_store, store.latest_syncs(&names)),
            within(of_store, self.schedules.known()),
            within(of_store, self.alerts.problems()),
            within(of_store, store.notices(Utc::now() - TOLD_FOR)),
            within(of_store, store.identities()),
            within(self.shared.index.name(), self.rebuilds.judged()),
        );
        let now = Utc::now();
        let mut status = PipelineStatus {
            healthy: false,
            ready: false,
            problems: Vec::new(),
            warnings: source_warnings,
            source,
            log,
            sinks,
            tables: Vec::new(),
            drains: self.drains.reports(),
            drains_elsewhere: standings.elsewhere.clone(),
            lag: standings.sinks.iter().map(Standing::summary).collect(),
            paused: standings.sinks.iter().filter_map(|sink| sink.pause.clone()).collect(),
            schedules: Vec::new(),
            notices: Vec::new(),
            dead_letters: dead_letters.as_ref().ok().copied(),
            oldest_dead_letter_at: None,
            recent_syncs: Vec::new(),
            rebuilds: self.rebuilds.latest(),
            housekeeping: Vec::new(),
            checked_at: now,
        };
        self.judge_parts(&mut status);
        status.ready = status.problems.is_empty();
        self.judge_sinks(&mut status, &standings).await;
        let records = status.log.counts.first().map_or(0, |records| records.count);
        let is_unmade = made.is_err_and(|fault| fault.kind == FaultKind::Misconfigured);
        let was_synced = recent.as_ref().is_ok_and(|recent| !recent.is_empty());
        let is_fresh = records == 0 && (is_unmade || (recent.is_ok() && !was_synced));
        let first = catalog.tables().next().filter(|_| is_fresh && status.ready);
        if let Some(table) = first {
            let problem = "nothing was synced here yet";
            status
                .problems
                .push(Remark::new(problem, NextStep::FirstSync { table: table.name().to_owned() }));
            return status;
        }
        let mut faults = Vec::new();
        let rebuilds = or_fault(rebuilds, &mut faults).unwrap_or_default();
        status.rebuilds = rebuilds.0;
        status.problems.extend(rebuilds.1);
        faults.extend(dead_letters.err().into_iter().chain(standings.untold.clone()));
        faults.extend(standings.sinks.iter().filter_map(|sink| sink.lag.as_ref().err().cloned()));
        let (recent, latest) = (or_fault(recent, &mut faults), or_fault(latest, &mut faults));
        status.schedules = or_fault(schedules, &mut faults).unwrap_or_default();
        status.notices = or_fault(notices, &mut faults).unwrap_or_default();
        let alerts = or_fault(alerts, &mut faults).unwrap_or_default();
        let failing: Vec<String> =
            status.parts().filter(|part| !part.ok).map(|part| part.name.clone()).collect();
        self.counts.hear_failing(&failing);
        let is_new = |fault: &Fault| failing.iter().all(|part| part != fault.part);
        status.problems.extend(faults.iter().filter(|fault| is_new(fault)).map(Fault::remark));
        status.recent_syncs = recent
            .unwrap_or_default()
            .into_iter()
            .map(|record| RecentSync::of(record, &standings.sinks))
            .collect();
        self.judge_tables(&mut status, &standings, latest.as_deref(), is_new).await;
        let overdue = status.schedules.iter().filter_map(ScheduleStatus::problem);
        status.problems.extend(overdue.chain(alerts));
        self.judge_housekeeping(&mut status).await;
        self.judge_letters(&mut status).await;
        status.warnings.extend(status.notices.iter().map(|notice| Remark::from(notice.sentence())));
        [&mut status.problems, &mut status.warnings].into_iter().for_each(without_repetition);
        status.healthy = status.problems.is_empty();
        status
    }

    /// What is wrong with a sink although it answers: tables that the store can't hold as they are defined, columns that the
    /// index has not as they are, drains of other processes that fail, records that nobody applies.
    async fn judge_sinks(&self, status: &mut PipelineStatus, standings: &Standings) {
        let Shared { store, index, .. } = &*self.shared;
        let (refused, unfilled) = tokio::join!(
            within(store.name(), store.refused_tables()),
            within(index.name(), unfilled(&**index)),
        );
        // Whatever keeps them from telling is told of by what else they are asked.
        status.problems.extend(refused.unwrap_or_default().iter().map(|(_, fault)| fault.remark()));
        status.warnings.extend(unfilled.unwrap_or_default().into_iter().map(|(_, lack)| lack));
        let elsewhere = standings.elsewhere.iter().filter_map(DrainElsewhere::problem);
        status.problems.extend(elsewhere.map(Remark::from));
        for sink in &standings.sinks {
            match (sink.unattended(), &sink.pause) {
                (Some(stuck), _) => status.problems.push(stuck),
                (None, Some(pause)) => status.warnings.push(pause.remark()),
                (None, None) => {}
            }
        }
    }

    /// What is old and was not removed. A store that does not answer is told of already.
    async fn judge_housekeeping(&self, status: &mut PipelineStatus) {
        let store = &self.shared.store;
        status.housekeeping = within(store.name(), store.passes()).await.unwrap_or_default();
        let problems = housekeeping::problems(&self.shared, &status.housekeeping, status.checked_at);
        status.problems.extend(problems);
    }

    /// Dead letters that wait, and those that can't wait any more.
    async fn judge_letters(&self, status: &mut PipelineStatus) {
        let of_store = self.shared.store.name();
        match within(of_store, self.letters.lost()).await {
            Ok(lost) => status.problems.extend(lost),
            // Nobody knows: that alone is not well. Beside what keeps it from being told it would blame another part.
            Err(fault) if status.problems.is_empty() => status.problems.push(fault.remark()),
            Err(_) => {}
        }
        if let Some(letters) = status.dead_letters.filter(|letters| *letters > 0) {
            let (refusers, oldest) = tokio::join!(
                within(of_store, self.letters.refusers()),
                within(self.shared.log.name(), forget::oldest_open(&self.shared)),
            );
            status.oldest_dead_letter_at = oldest.ok().flatten().map(|(_, since)| since);
            let since = status.oldest_dead_letter_at.map_or_else(String::new, |since| {
                format!(", the oldest since {}", since.format("%Y-%m-%dT%H:%M:%SZ"))
            });
            let refusers = refusers.unwrap_or_default();
            let refusers = if refusers.is_empty() { refusers } else { format!(": {refusers}") };
            let problem = format!(
                "{letters} dead letters wait in {}{since}{refusers}",
                self.shared.settings.dead_letter_topic
            );
            status.warnings.push(Remark::new(problem, NextStep::SettleLetters));
        }
    }

    /// How each table stands. `is_new`: whether a fault is not told already by the part that has it.
    async fn judge_tables(
        &self,
        status: &mut PipelineStatus,
        standings: &Standings,
        latest: Option<&[SyncRecord]>,
        is_new: impl Fn(&Fault) -> bool,
    ) {
        let last_end = latest.iter().flat_map(|syncs| syncs.iter()).filter_map(|sync| sync.finished_at).max();
        let counted = self.counts.latest(last_end).await;
        let now = status.checked_at;
        if let Some(events) = self.counts.events().filter(|_| last_end.is_some()) {
            let is_erased =
                counted.values().any(|table| table.store.as_ref().is_ok_and(|tally| tally.erased > 0));
            let told = events.judge(&self.shared.sink_names(), is_erased);
            if events.is_problem(is_erased) {
                status.problems.extend(told);
            } else {
                status.warnings.extend(told);
            }
        }
        for table in self.shared.catalog.tables() {
            let of_table = |schedule: &&ScheduleStatus| schedule.table == table.name();
            let facts = Facts {
                table,
                counted: counted.get(&table),
                syncs: latest,
                schedule: status.schedules.iter().find(of_table),
                log: standings.log(),
                lags: [0, 1].map(|sink| standings.sinks.get(sink)?.summary().total),
                sinks: self.shared.sink_names(),
                reconcile: self.shared.settings.reconcile,
                now,
            };
            let Judged { status: of_table, problems, unread, unreconciled, faults, warnings } = facts.judge();
            status.tables.push(of_table);
            status.problems.extend(problems.into_iter().chain(unread));
            status.problems.extend(faults.iter().filter(|fault| is_new(fault)).map(Fault::remark));
            status.warnings.extend(warnings.into_iter().chain(unreconciled));
            status.warnings.extend(self.read_in_spite(table).await);
            status.warnings.extend(self.lost_columns(table).await);
        }
    }

    /// Names in `never_read` that are nearly a column's which is read, as far as the project told of its columns.
    async fn read_in_spite(&self, table: Table) -> Vec<Remark> {
        let Shared { source, store, .. } = &*self.shared;
        if table.never_read.is_empty() {
            return Vec::new();
        }
        let columns = match source.columns(table) {
            Some(columns) => columns,
            // A store that does not answer is told of already.
            None => {
                let known = within(store.name(), store.known_columns(&table.into())).await;
                known.ok().flatten().unwrap_or_default()
            }
        };
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let read = named_in_vain(table, &columns).into_iter().filter(|difference| !difference.is_hint);
        read.map(|one| Remark::new(format!("{table}: {}", one.problem), one.next_step)).collect()
    }

    /// Columns that the rows of a table had and have no more.
    async fn lost_columns(&self, table: Table) -> Option<Remark> {
        let store = &self.shared.store;
        // A store that does not answer is told of already.
        let known = columns::known(&**store, &*self.shared.source, table);
        let known = within(store.name(), known).await.ok()?;
        columns::remark(table, &known)
    }

    /// What keeps a part or a drain from its work.
    fn judge_parts(&self, status: &mut PipelineStatus) {
        let failing = status.parts().filter_map(|part| Some(part.error.clone()?.into()));
        let mut problems: Vec<Remark> = failing.collect();
        problems.extend(self.shared.shortage().map(|fault| fault.remark()));
        if self.drains.started() {
            let ill = status.drains.iter().filter(|drain| !drain.is_well());
            problems.extend(ill.map(|drain| Remark::from(drain.problem())));
        }
        status.problems = problems;
    }

    /// The source, and its warnings.
    async fn source_status(&self) -> (PartStatus, Vec<Remark>) {
        let name = self.shared.source.name();
        match within(name, self.shared.source.health()).await {
            Ok(health) => {
                let part = PartStatus {
                    name: name.to_owned(),
                    ok: true,
                    detail: format!("{} with a {} key", health.host, health.key),
                    counts: Vec::new(),
                    error: None,
                };
                (part, health.warnings.iter().map(|warning| warning.to_string().into()).collect())
            }
            Err(fault) => (PartStatus::failed(name, &fault), Vec::new()),
        }
    }

    async fn log_status(&self) -> PartStatus {
        let name = self.shared.log.name();
        let asked = within(name, async {
            let identity = self.shared.log.identity().await?;
            let extents = self.shared.log.extents().await?;
            Ok((identity, extents))
        });
        match asked.await {
            Ok((identity, extents)) => PartStatus {
                name: name.to_owned(),
                ok: true,
                detail: format!("{identity}, {} partitions", extents.len()),
                counts: vec![Count { name: "records".to_owned(), count: records_in(&extents) }],
                error: None,
            },
            // Whoever misses the topic tells of it; the log answers.
            Err(_) if matches!(within(name, self.shared.log.is_made()).await, Ok(false)) => PartStatus {
                name: name.to_owned(),
                ok: true,
                detail: "the topic is not there".to_owned(),
                counts: Vec::new(),
                error: None,
            },
            Err(fault) => PartStatus::failed(name, &fault),
        }
    }
}

async fn sink_status(sink: &dyn Sink) -> PartStatus {
    match within(sink.name(), sink.health()).await {
        Ok(health) => PartStatus {
            name: sink.name().to_owned(),
            ok: true,
            detail: health.version,
            counts: Vec::new(),
            error: None,
        },
        Err(fault) => PartStatus::failed(sink.name(), &fault),
    }
}

/// A part's answer, of now or of the deadline that holds already.
pub(super) async fn within<T>(
    part: &'static str,
    asked: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let deadline = deadline::earlier(TokioInstant::now() + PART_TIMEOUT);
    let asked = deadline::by(deadline, asked);
    tokio::time::timeout_at(deadline + GRACE, asked).await.unwrap_or_else(|_| {
        Err(Fault::transient(
            part,
            format!("no answer within {} s", PART_TIMEOUT.as_secs()),
            "check that the server runs and that nothing on the way drops connections",
        ))
    })
}

/// What was told; else its fault is kept.
fn or_fault<T>(told: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    told.map_err(|fault| faults.push(fault)).ok()
}

fn without_repetition(remarks: &mut Vec<Remark>) {
    let mut known: Vec<String> = Vec::new();
    remarks.retain(|remark| {
        let is_new = !known.contains(&remark.problem);
        known.push(remark.problem.clone());
        is_new
    });
}
