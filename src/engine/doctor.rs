//! Examines every part as a person setting sluice up would, and says of each finding what to do.

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use std::sync::Arc;

use super::{
    Alerts, Project, Rebuilds, Schedules, counts::Counts, drains::Drains, forget, housekeeping,
    letters::Letters, operations, page::TOLERATED_SKEW, questions::index_lacks, shared::Shared,
    status::within, tables::Facts,
};
use crate::{
    config::KafkaSettings,
    domain::{Table, TableName},
    fault::Fault,
    log::{LogFacts, TopicLimits, records_in},
    next_step::{NextStep, Remark},
    sink::Sink,
    source::{BEGINNING, RowQuery, Scope},
    store::TOLD_FOR,
};

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// Works, but somebody should know.
    Warning,
    Failed,
}

/// One check of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    pub part: String,
    pub check: String,
    pub outcome: Outcome,
    pub detail: String,
    /// What to do, where anything is to be done.
    #[schemars(with = "Option<String>")]
    pub next_step: Option<NextStep>,
}

impl Finding {
    pub(super) fn ok(part: &str, check: &str, detail: impl Into<String>) -> Self {
        Self::new(part, check, Outcome::Ok, detail.into(), None)
    }

    pub(super) fn warning(
        part: &str,
        check: &str,
        detail: impl Into<String>,
        next_step: impl Into<NextStep>,
    ) -> Self {
        Self::new(part, check, Outcome::Warning, detail.into(), Some(next_step.into()))
    }

    pub(super) fn failed(part: &str, check: &str, fault: Fault) -> Self {
        // What is not made yet is no failure: a setup that is new has nothing.
        let outcome = if fault.advice == NextStep::Migrate { Outcome::Warning } else { Outcome::Failed };
        Self::new(part, check, outcome, fault.message, Some(fault.advice))
    }

    pub(super) fn new(
        part: &str,
        check: &str,
        outcome: Outcome,
        detail: String,
        next_step: Option<NextStep>,
    ) -> Self {
        Self { part: part.to_owned(), check: check.to_owned(), outcome, detail, next_step }
    }
}

/// Examines; changes nothing.
pub struct Doctor {
    pub(super) shared: Arc<Shared>,
    pub(super) project: Arc<Project>,
    pub(super) drains: Arc<Drains>,
    pub(super) rebuilds: Arc<Rebuilds>,
    pub(super) letters: Arc<Letters>,
    pub(super) schedules: Arc<Schedules>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) counts: Arc<Counts>,
}

impl Doctor {
    /// Examines every part; changes nothing. Never fails: a part that does is a finding.
    pub async fn examine(&self) -> Vec<Finding> {
        let (source, log, sinks) = tokio::join!(
            self.examine_source(),
            self.examine_log(),
            futures::future::join_all(self.shared.sinks.iter().map(|sink| examine_sink(&**sink))),
        );
        let mut findings = source;
        findings.extend(log);
        findings.extend(sinks.into_iter().flatten());
        findings.extend(self.examine_lag().await);
        if self.drains.started() {
            findings.extend(operations::drain_findings(&self.drains.reports()));
        }
        findings.extend(self.examine_operations().await);
        findings.extend(operations::trace_findings().await);
        findings.extend(self.shared.settings.open_file.as_deref().map(operations::open_file_finding));
        findings
    }

    async fn examine_source(&self) -> Vec<Finding> {
        let part = self.shared.source.name();
        let health = match within(part, self.shared.source.health()).await {
            Ok(health) => health,
            Err(fault) => return vec![Finding::failed(part, "reachable", fault)],
        };
        let mut findings =
            vec![Finding::ok(part, "reachable", format!("{} with a {} key", health.host, health.key))];
        findings.extend(health.clock.map(|clock| skew(part, clock, Utc::now())));
        findings.extend(
            health
                .warnings
                .iter()
                .map(|warning| Finding::warning(part, warning.about, &warning.problem, warning.next_step)),
        );
        for table in self.shared.catalog.tables() {
            let scope = Scope::Changed;
            let query = RowQuery {
                table,
                scope,
                since: BEGINNING,
                created_since: None,
                conditions: Vec::new(),
                page_size: 1,
            };
            let check = format!("{table} readable");
            findings.push(match within(part, self.shared.source.page(&query, None)).await {
                Ok(_) => Finding::ok(part, &check, "a page was read"),
                Err(fault) => Finding::failed(part, &check, fault),
            });
            findings.extend(self.examine_definition(table).await);
            let now = health.clock.unwrap_or_else(Utc::now);
            if let Ok(Some(ahead @ 1..)) =
                within(part, self.shared.source.rows_since(table, now + TOLERATED_SKEW)).await
            {
                findings.push(Finding::warning(
                    part,
                    &format!("{table} dated ahead"),
                    format!("{ahead} rows say that they were changed later than the server's time"),
                    "a client's clock wrote them; they are read at every sync until the column is mended at the source",
                ));
            }
        }
        findings
    }

    async fn examine_log(&self) -> Vec<Finding> {
        let part = self.shared.log.name();
        let identity = match within(part, self.shared.log.identity()).await {
            Ok(identity) => identity,
            Err(fault) => return vec![Finding::failed(part, "reachable", fault)],
        };
        let mut findings = vec![Finding::ok(part, "reachable", identity.to_string())];
        findings.push(match within(part, self.shared.log.extents()).await {
            Ok(extents) => {
                let records = records_in(&extents);
                Finding::ok(
                    part,
                    "topic of events",
                    format!("{} partitions, {records} records", extents.len()),
                )
            }
            Err(fault) => Finding::failed(part, "topic of events", fault),
        });
        match within(part, self.shared.log.facts()).await {
            Ok(facts) => findings.extend(log_findings(part, facts, self.shared.settings.log_retention)),
            Err(fault) => findings.push(Finding::failed(part, "how the topic is kept", fault)),
        }
        findings.extend(self.shared.log.shortage().map(|fault| Finding::failed(part, "writable", fault)));
        findings
    }

    async fn examine_lag(&self) -> Vec<Finding> {
        match within(self.shared.log.name(), self.drains.lag_as_it_is()).await {
            Ok(lag) => lag
                .iter()
                .map(|lag| match lag.total {
                    0 => Finding::ok(&lag.sink, "lag", "none"),
                    records => Finding::warning(
                        &lag.sink,
                        "lag",
                        format!("{records} records behind"),
                        NextStep::WatchLag,
                    ),
                })
                .collect(),
            // Whatever kept the lag from being told is a finding already.
            Err(_) => Vec::new(),
        }
    }

    /// What the doctor says of a definition: each difference that is more than a hint.
    async fn examine_definition(&self, table: Table) -> Vec<Finding> {
        let part = self.shared.source.name();
        let check = format!("definition of {table}");
        match within(part, self.project.differences(table)).await {
            Ok(differences) => {
                let mut findings: Vec<Finding> = differences
                    .into_iter()
                    .filter(|difference| !difference.is_hint)
                    .map(|one| Finding::warning(part, &check, one.problem, one.next_step))
                    .collect();
                if findings.is_empty() {
                    findings.push(Finding::ok(part, &check, "fits the project's table"));
                }
                findings
            }
            // Whatever kept the project from telling is a finding already.
            Err(_) => Vec::new(),
        }
    }

    /// A store that was never migrated is a finding.
    async fn examine_operations(&self) -> Vec<Finding> {
        let Shared { store, log, settings, .. } = &*self.shared;
        let part = store.name();
        let mut findings = match within(part, store.facts()).await {
            // Every other question would be answered with the same, but what was noticed may still be told.
            Ok(facts) if facts.is_fresh || !facts.dropped.is_empty() => {
                let notices = within(part, store.notices(Utc::now() - TOLD_FOR)).await;
                let told = operations::notice_findings(part, Ok(notices.unwrap_or_default()));
                return operations::store_findings(part, facts).into_iter().chain(told).collect();
            }
            Ok(facts) => operations::store_findings(part, facts),
            Err(fault) => return vec![Finding::failed(part, "writable and migrated", fault)],
        };
        match within(part, store.question_access()).await {
            Ok(access) => {
                findings
                    .extend(access.into_iter().flat_map(|access| operations::access_findings(part, access)));
            }
            Err(fault) => findings.push(Finding::failed(part, "questions", fault)),
        }
        findings.extend(operations::notice_findings(
            part,
            within(part, store.notices(Utc::now() - TOLD_FOR)).await,
        ));
        let (letters, lost, pauses, schedules, alerts, elsewhere, kept) = tokio::join!(
            within(log.name(), self.letters.open_count_as_it_is()),
            within(part, self.letters.lost()),
            within(part, self.drains.known_pauses()),
            within(part, self.schedules.known()),
            within(part, self.alerts.problems()),
            within(part, self.drains.elsewhere()),
            within(part, store.passes()),
        );
        findings.extend(match kept {
            Ok(kept) => housekeeping::findings(&self.shared, kept),
            Err(fault) => vec![Finding::failed(part, "retention", fault)],
        });
        findings.push(operations::letters_finding(log.name(), &settings.dead_letter_topic, letters));
        findings.extend(operations::lost_letter_findings(log.name(), lost));
        findings.extend(forget::findings(&self.shared).await);
        findings.extend(operations::pause_findings(part, pauses));
        findings.extend(operations::elsewhere_findings(&elsewhere.unwrap_or_default()));
        findings.extend(operations::schedule_findings(schedules));
        findings.extend(operations::alert_findings(alerts));
        findings.extend(self.examine_tables().await);
        findings
    }

    /// Whether each table is in both sinks as the source has it, as far as counts tell, and what became of its last
    /// reconciliation.
    async fn examine_tables(&self) -> Vec<Finding> {
        let Shared { store, catalog, .. } = &*self.shared;
        let names: Vec<TableName> = catalog.tables().map(TableName::from).collect();
        let index = self.shared.index.name();
        let (latest, standings, schedules, rebuilds) = tokio::join!(
            within(store.name(), store.latest_syncs(&names)),
            self.drains.standings(),
            within(store.name(), self.schedules.known()),
            within(index, self.rebuilds.judged()),
        );
        let mut findings = operations::unattended_findings(&standings);
        // Whatever kept them from being told is a finding already.
        let (rebuilds, problems) = rebuilds.unwrap_or_default();
        let lately = rebuilds.iter().filter_map(|rebuild| rebuild.fails_lately(Utc::now()));
        findings.extend(lately.map(|problem| {
            Finding::warning(
                index,
                "rebuilds",
                problem,
                "it is tried again by itself; look again in a minute",
            )
        }));
        findings.extend(problems.into_iter().map(|Remark { problem, next_step }| {
            Finding::new(index, "rebuilds", Outcome::Failed, problem, next_step)
        }));
        let Ok(latest) = latest else { return findings };
        let schedules = schedules.unwrap_or_default();
        let counted = self.counts.latest(Some(Utc::now())).await;
        for table in catalog.tables() {
            let facts = Facts {
                table,
                counted: counted.get(&table),
                syncs: Some(&latest),
                schedule: schedules.iter().find(|schedule| schedule.table == table.name()),
                log: standings.log(),
                lags: [0, 1].map(|sink| standings.sinks.get(sink)?.summary().total),
                sinks: self.shared.sink_names(),
                reconcile: self.shared.settings.reconcile,
                now: Utc::now(),
            };
            findings.extend(operations::table_findings(facts.judge()));
        }
        match within(index, index_lacks(&*self.shared.index)).await {
            Ok(lacks) => findings.extend(lacks.into_iter().map(|(of, lack)| {
                Finding::new(index, of.as_str(), Outcome::Warning, lack.problem, lack.next_step)
            })),
            Err(fault) => findings.push(Finding::failed(index, "columns", fault)),
        }
        findings
    }
}

/// For how long, or how many bytes of, a topic's records are kept; `None` where its own retention removes none.
fn kept_by_topic(limits: TopicLimits) -> Option<String> {
    let hours = limits.retention.map(|kept| format!("for {} hours", kept.as_secs() / 3600));
    let bytes = limits.retention_bytes.map(|bytes| format!("up to {bytes} bytes of a partition"));
    let kept: Vec<String> = hours.into_iter().chain(bytes).collect();
    (!kept.is_empty()).then(|| kept.join(", and "))
}

fn log_findings(part: &str, facts: LogFacts, own: Option<TimeDelta>) -> Vec<Finding> {
    let mut findings = vec![match kept_by_topic(facts.events) {
        None if let Some(kept) = own => Finding::ok(
            part,
            "retention",
            format!("records are kept for {} days, and until every sink has applied them", kept.num_days()),
        ),
        None => Finding::ok(part, "retention", "records are kept for ever"),
        Some(kept) => Finding::warning(
            part,
            "retention",
            format!("records are kept {kept}"),
            "set the topic's retention.ms and retention.bytes to -1: what is gone from the log can't be drained, and indices are rebuilt from the store then",
        ),
    }];
    if facts.events.is_compacted {
        findings.push(Finding::new(
            part,
            "compaction",
            Outcome::Failed,
            "the topic is compacted: of events of one row only the last stays, and sinks never see the others".to_owned(),
            Some("set the topic's cleanup.policy to delete: until then nothing is appended; then sync all of each table".into()),
        ));
    }
    let is_small = |bytes: &usize| *bytes < KafkaSettings::MAX_MESSAGE_BYTES;
    if let Some(bytes) = facts.events.max_message_bytes.filter(is_small) {
        findings.push(Finding::warning(
            part,
            "largest record",
            format!("the topic takes records of at most {bytes} bytes"),
            "set the topic's max.message.bytes to that of KAFKA_MAX_MESSAGE_BYTES (8388608 unless set): larger rows are \
             parked as dead letters",
        ));
    }
    if let Some(bytes) = facts.letters.max_message_bytes.filter(is_small) {
        findings.push(Finding::warning(
            part,
            "largest dead letter",
            format!("the dead letters' topic takes records of at most {bytes} bytes"),
            "set that topic's max.message.bytes to that of KAFKA_MAX_MESSAGE_BYTES (8388608 unless set): of what is larger, \
             its letter holds the beginning alone",
        ));
    }
    if let Some(replicas) = facts.replicas {
        let detail = format!("{replicas} copies of each of {} partitions", facts.partitions);
        findings.push(match (replicas, facts.under_replicated) {
            (0 | 1, _) => Finding::warning(
                part,
                "replicas",
                "one copy of each partition",
                "losing its broker loses it: outside of a test, keep three copies",
            ),
            (_, 0) => Finding::ok(part, "replicas", detail),
            (_, behind) => Finding::warning(
                part,
                "replicas",
                format!("{detail}; {behind} partitions lack one"),
                "bring back the brokers that hold them",
            ),
        });
    }
    findings
}

async fn examine_sink(sink: &dyn Sink) -> Vec<Finding> {
    let part = sink.name();
    let (health, counts) = tokio::join!(within(part, sink.health()), within(part, sink.counts()));
    let health = match health {
        Ok(health) => health,
        Err(fault) => return vec![Finding::failed(part, "reachable", fault)],
    };
    let holds = match counts {
        Ok(counts) => {
            let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            Finding::ok(part, "holds", counts.join(", "))
        }
        Err(fault) => Finding::failed(part, "prepared", fault),
    };
    let mut findings = vec![Finding::ok(part, "reachable", health.version), holds];
    findings.extend(health.clock.map(|clock| skew(part, clock, Utc::now())));
    findings
}

fn skew(part: &str, theirs: DateTime<Utc>, ours: DateTime<Utc>) -> Finding {
    let skew = (theirs - ours).abs();
    if skew <= TOLERATED_SKEW {
        return Finding::ok(part, "clock", format!("within {} s of ours", skew.num_seconds() + 1));
    }
    Finding::warning(
        part,
        "clock",
        format!("{} s away from ours", skew.num_seconds()),
        "set both machines' clocks by NTP: windows are planned by them",
    )
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_clock_that_is_off_is_a_warning_with_a_next_step() {
        let now = Utc::now();
        assert_eq!(skew("postgres", now + TimeDelta::seconds(2), now).outcome, Outcome::Ok);
        let off = skew("postgres", now - TimeDelta::minutes(5), now);
        assert_eq!((off.outcome, off.detail.as_str()), (Outcome::Warning, "300 s away from ours"));
        assert!(off.next_step.is_some());
    }

    #[test]
    fn a_topic_that_forgets_or_has_one_copy_is_warned_about() {
        let hour = std::time::Duration::from_hours(1);
        let limits = TopicLimits::default();
        let kept = |replicas, under_replicated, retention| {
            let events = TopicLimits { retention, ..limits };
            let facts = LogFacts { partitions: 3, replicas, under_replicated, events, letters: limits };
            log_findings("kafka", facts, None).iter().map(|finding| finding.outcome).collect::<Vec<_>>()
        };
        assert_eq!(kept(Some(3), 0, None), [Outcome::Ok, Outcome::Ok]);
        assert_eq!(kept(Some(3), 1, Some(hour)), [Outcome::Warning, Outcome::Warning]);
        assert_eq!(kept(Some(1), 0, None), [Outcome::Ok, Outcome::Warning]);
        assert_eq!(kept(None, 0, None), [Outcome::Ok], "a log without brokers");
        let of = |events, letters| {
            let facts = LogFacts { partitions: 3, replicas: None, under_replicated: 0, events, letters };
            log_findings("kafka", facts, None)
        };
        let compacted = TopicLimits { is_compacted: true, ..limits };
        assert_eq!(of(compacted, limits)[1].outcome, Outcome::Failed);
        let retention_bytes = Some(1_000);
        let told = |retention| of(TopicLimits { retention, retention_bytes, ..limits }, limits).remove(0);
        assert_eq!(told(None).outcome, Outcome::Warning);
        assert_eq!(told(None).detail, "records are kept up to 1000 bytes of a partition");
        assert_eq!(
            told(Some(hour)).detail,
            "records are kept for 1 hours, and up to 1000 bytes of a partition"
        );
        let small = TopicLimits { max_message_bytes: Some(1_048_588), ..limits };
        let check = |findings: Vec<Finding>| findings[1].check.clone();
        assert_eq!(check(of(small, limits)), "largest record");
        assert_eq!(check(of(limits, small)), "largest dead letter");
    }
}
