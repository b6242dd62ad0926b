//! How far each sink is behind the log, and what keeps it there. Whoever tells of it, be it status, a wait or an answer
//! from the sink, tells the same.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    DrainElsewhere, DrainReport, SinkLag, SinkPause, drains::Drains, lag, shared::Shared, stats::DrainState,
    status::within,
};
use crate::{
    fault::{Fault, FaultKind},
    log::Extent,
    next_step::{NextStep, Remark},
    sink::Sink,
};

/// How long what was found out holds for answers: each would ask every part otherwise.
const RECENT: Duration = Duration::from_secs(2);

/// How long an answer waits to learn how far its sink is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a drain may fail before nobody waits for it any more: where a person is needed, and where it may pass.
const HOPELESS_AFTER: TimeDelta = TimeDelta::seconds(10);
const TIRED_AFTER: TimeDelta = TimeDelta::seconds(60);

/// How many records of the log a sink has still to apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LagSummary {
    pub sink: String,
    /// Absent where it is not known.
    pub total: Option<i64>,
}

/// A sink as it stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) sink: &'static str,
    pub(super) lag: Result<SinkLag, Fault>,
    pub(super) pause: Option<SinkPause>,
    /// Where this process drains it.
    here: Option<DrainReport>,
    elsewhere: Vec<DrainElsewhere>,
    /// Of an index that has nothing and that nobody fills: what the store has events of that is not defined here. With those
    /// definitions it is another index, which may have all of the log.
    undefined: Vec<String>,
}

/// Every sink as it stands, and what of it could not be told.
#[derive(Debug, Clone)]
pub(super) struct Standings {
    pub(super) sinks: Vec<Standing>,
    /// The drains of other processes.
    pub(super) elsewhere: Vec<DrainElsewhere>,
    /// Why the store did not tell which sinks are paused and which drains run.
    pub(super) untold: Option<Fault>,
}

impl Standings {
    /// The log that the sinks are behind, where it is known.
    pub(super) fn log(&self) -> Option<&str> {
        self.sinks.iter().find_map(|sink| Some(sink.lag.as_ref().ok()?.log.as_str()))
    }
}

impl Standing {
    pub(super) fn summary(&self) -> LagSummary {
        LagSummary { sink: self.sink.to_owned(), total: self.lag.as_ref().ok().map(|lag| lag.total) }
    }

    /// Whether any process drains it, well or not.
    pub(super) fn is_drained(&self) -> bool {
        let idle = DrainState::Stopped.as_str();
        let here = self.here.iter().any(|drain| drain.state != DrainState::Stopped);
        here || self.elsewhere.iter().any(|drain| drain.state != idle)
    }

    /// Why nothing moves, where that is known.
    fn cause(&self) -> Option<Remark> {
        if let Some(pause) = &self.pause {
            return Some(pause.remark());
        }
        if let Some(drain) = self.here.as_ref().filter(|drain| !drain.is_well()) {
            return Some(drain.problem().into());
        }
        let is_well = |drain: &DrainElsewhere| drain.problem().is_none();
        let fails = self.elsewhere.iter().find_map(DrainElsewhere::problem);
        if let Some(problem) = fails.filter(|_| !self.elsewhere.iter().any(is_well)) {
            return Some(problem.into());
        }
        (!self.is_drained())
            .then(|| Remark::new(format!("no process drains {}", self.sink), NextStep::StartWorker))
    }

    /// What an answer from this sink lacks, and why; `None` where it lacks nothing.
    pub(super) fn behind(&self) -> Option<Remark> {
        let sink = self.sink;
        match &self.lag {
            Ok(_) if !self.undefined.is_empty() => {
                let problem = format!(
                    "the store has events of tables that are not defined here: {}; without their definitions it can't be told \
                     what {sink} has",
                    self.undefined.join(", ")
                );
                let advice = "put their definitions back where this process reads them (SLUICE_TABLES_DIR)";
                Some(Remark::new(problem, advice))
            }
            Ok(lag) if lag.removed() > 0 => {
                let removed = lag.removed();
                let problem = format!(
                    "{removed} records were removed from the log before {sink} had applied them; once a worker notices, the \
                     next syncs append all rows again"
                );
                Some(Remark { problem, next_step: self.cause().and_then(|cause| cause.next_step) })
            }
            Ok(lag) if lag.total == 0 => self.pause.as_ref().map(SinkPause::remark),
            Ok(lag) => {
                let behind = format!("{} records of the log are not in {sink} yet", lag.total);
                Some(match self.cause() {
                    Some(cause) => Remark { problem: format!("{behind}: {}", cause.problem), ..cause },
                    None => behind.into(),
                })
            }
            Err(fault) => {
                let remark = fault.remark();
                let problem =
                    format!("whether {sink} has all of the log could not be told: {}", remark.problem);
                Some(Remark { problem, ..remark })
            }
        }
    }

    /// What is left to apply and stays so until somebody does something.
    pub(super) fn stuck(&self) -> Option<Remark> {
        let lag = self.lag.as_ref().ok()?;
        if lag.removed() == 0 {
            self.cause().filter(|_| lag.total > 0)?;
        }
        self.behind()
    }

    /// As [`Standing::stuck`], where no drain tells of it.
    pub(super) fn unattended(&self) -> Option<Remark> {
        self.stuck().filter(|_| self.pause.is_some() || !self.is_drained())
    }

    /// Whether it never applied a record, and nobody is about to.
    fn is_abandoned(&self) -> bool {
        let never = |lag: &SinkLag| lag.partitions.iter().all(|partition| partition.next_offset.is_none());
        self.unattended().is_some() && self.pause.is_none() && self.lag.as_ref().is_ok_and(never)
    }

    /// Why it is no use to wait here for what is left to apply.
    fn obstacle(&self) -> Option<Remark> {
        if let Some(pause) = &self.pause {
            return Some(pause.remark());
        }
        let now = Utc::now();
        if let Some((drain, since)) = self.here.as_ref().and_then(|drain| Some((drain, drain.failing_since?)))
        {
            let needs_a_person = drain.last_kind == Some(FaultKind::Misconfigured);
            let patience = if needs_a_person { HOPELESS_AFTER } else { TIRED_AFTER };
            return (now - since > patience).then(|| Remark::from(drain.problem()));
        }
        // However well a drain here is, what another's holds is not for it to apply.
        let moves = |drain: &DrainReport| drain.last_success_at.is_some_and(|at| now - at <= TIRED_AFTER);
        let is_stuck =
            |drain: &DrainElsewhere| drain.failing_since.is_some_and(|since| now - since > TIRED_AFTER);
        if self.here.as_ref().is_some_and(moves) || !self.elsewhere.iter().all(is_stuck) {
            return None;
        }
        self.elsewhere.iter().find_map(DrainElsewhere::problem).map(Remark::from)
    }
}

impl Drains {
    /// Every sink as it stands, one independent of the other.
    pub(super) async fn standings(&self) -> Standings {
        let Shared { store, index, .. } = &*self.shared;
        let mut standings = self.standings_of(None).await;
        let of_index = standings.sinks.iter_mut().find(|standing| standing.sink == index.name());
        if let Some(standing) = of_index.filter(|standing| standing.is_abandoned()) {
            standing.undefined = within(store.name(), store.undefined_kinds()).await.unwrap_or_default();
        }
        standings
    }

    /// Of one sink, or of all.
    async fn standings_of(&self, only: Option<&str>) -> Standings {
        let Shared { log, store, .. } = &*self.shared;
        let asked = self.shared.sinks.iter().filter(|sink| only.is_none_or(|only| only == sink.name()));
        // At once: a store that hangs must not use up the others' time.
        let lags = async {
            let extents = within(log.name(), log.extents()).await;
            let lags = asked.clone().map(async |sink| match &extents {
                Ok(extents) => within(sink.name(), self.lag_into(&**sink, extents)).await,
                Err(fault) => Err(fault.clone()),
            });
            futures::future::join_all(lags).await
        };
        let (lags, pauses, elsewhere) = tokio::join!(
            lags,
            within(store.name(), self.known_pauses()),
            within(store.name(), self.elsewhere()),
        );
        let untold = pauses.as_ref().err().or(elsewhere.as_ref().err()).cloned();
        let (pauses, elsewhere) = (pauses.unwrap_or_default(), elsewhere.unwrap_or_default());
        let reports = if self.started() { self.reports() } else { Vec::new() };
        let standing = |(sink, lag): (&Arc<dyn Sink>, _)| {
            let name = sink.name();
            Standing {
                sink: name,
                lag,
                pause: pauses.iter().find(|pause| pause.sink == name).cloned(),
                here: reports.iter().find(|report| report.sink == name).cloned(),
                elsewhere: elsewhere.iter().filter(|drain| drain.sink == name).cloned().collect(),
                undefined: Vec::new(),
            }
        };
        let sinks = asked.clone().zip(lags).map(standing).collect();
        Standings { sinks, elsewhere, untold }
    }

    pub(super) async fn lag_into(&self, sink: &dyn Sink, extents: &[Extent]) -> Result<SinkLag, Fault> {
        let reading = self.shared.reading(sink).await?;
        let log = reading.log.to_string();
        let standing = lag::standing(&*self.shared.log, &log, sink, &reading.group).await?;
        Ok(lag::lag_of(sink.name(), &log, &reading.group, &standing, extents))
    }

    /// What answers from a sink lack just now; `None` where they lack nothing.
    pub async fn behind(&self, sink: &'static str) -> Option<Remark> {
        let mut recent = self.recent.lock().await;
        let is_recent = recent.get(sink).is_some_and(|(at, _)| at.elapsed() < RECENT);
        if !is_recent {
            // One sink's answers don't wait for the other.
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, self.standings_of(Some(sink))).await;
            let standing = asked.ok().and_then(|mut asked| asked.sinks.pop());
            recent.insert(sink, (Instant::now(), standing));
        }
        match recent.get(sink).and_then(|(_, standing)| standing.as_ref()) {
            Some(standing) => standing.behind(),
            None => Some(Remark::new(
                format!("whether {sink} has all of the log could not be told in time"),
                NextStep::SeeStatus,
            )),
        }
    }

    /// As [`Drains::behind`], of every sink.
    pub async fn all_behind(&self) -> Vec<Remark> {
        let mut behind = Vec::new();
        for sink in &self.shared.sinks {
            behind.extend(self.behind(sink.name()).await);
        }
        behind
    }

    /// What keeps these sinks from what is left to apply, of those that nothing but a person brings on.
    pub async fn stuck(&self, sinks: &[&str]) -> Vec<Remark> {
        let standings = self.standings().await.sinks;
        standings.iter().filter(|one| sinks.contains(&one.sink)).filter_map(Standing::stuck).collect()
    }

    /// Why it is no use to wait here until these sinks have applied what is left.
    pub async fn obstacles(&self, sinks: &[&str]) -> Vec<Remark> {
        let standings = self.standings().await.sinks;
        standings.iter().filter(|one| sinks.contains(&one.sink)).filter_map(Standing::obstacle).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{DrainStats, PartitionLag};

    fn standing(total: i64) -> Standing {
        let lag = SinkLag {
            sink: "postgres".to_owned(),
            log: "l".to_owned(),
            consumer_group: "g".to_owned(),
            offsets_from: "store",
            total,
            partitions: Vec::<PartitionLag>::new(),
        };
        Standing {
            sink: "postgres",
            lag: Ok(lag),
            pause: None,
            here: None,
            elsewhere: Vec::new(),
            undefined: Vec::new(),
        }
    }

    fn report(failing: Option<&Fault>) -> DrainReport {
        let stats = DrainStats::new("postgres");
        stats.set_state(DrainState::Running);
        if let Some(fault) = failing {
            stats.failed(fault);
        }
        stats.report()
    }

    fn told(remark: Option<Remark>) -> String {
        remark.map(|remark| remark.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_sink_that_has_everything_lacks_nothing_and_one_that_drains_is_behind_without_a_cause() {
        assert_eq!(told(standing(0).behind()), "");
        let draining = Standing { here: Some(report(None)), ..standing(7) };
        assert_eq!(told(draining.behind()), "7 records of the log are not in postgres yet");
        assert!(draining.stuck().is_none(), "it is on its way");
    }

    #[test]
    fn what_keeps_a_sink_behind_is_told_with_what_to_do() {
        let stopped = told(standing(7).stuck());
        assert!(stopped.contains("no process drains postgres") && stopped.contains("start"), "{stopped}");
        let pause = SinkPause { sink: "postgres".to_owned(), paused_by: "ana".to_owned(), since: Utc::now() };
        let paused = Standing { pause: Some(pause), here: Some(report(None)), ..standing(7) };
        assert!(told(paused.stuck()).contains("paused by ana"), "{}", told(paused.stuck()));
        let undefined = Standing { undefined: vec!["pedido".to_owned()], ..standing(7) };
        let told_of_it = told(undefined.unattended());
        assert!(told_of_it.contains("not defined here: pedido"), "{told_of_it}");
        assert!(!told_of_it.contains("no process drains"), "{told_of_it}");
        let fault = Fault::transient("postgres", "no connection", "start it");
        let failing = Standing { here: Some(report(Some(&fault))), ..standing(7) };
        assert!(told(failing.stuck()).contains("no connection"), "{}", told(failing.stuck()));
    }

    #[test]
    fn a_wait_ends_where_another_s_drain_is_stuck_and_none_here_moves() {
        let elsewhere = |failing: Option<TimeDelta>| DrainElsewhere {
            sink: "postgres".to_owned(),
            owner: "host/7".to_owned(),
            state: "backing off".to_owned(),
            failing_since: failing.map(|failing| Utc::now() - failing),
            last_error: Some("made from another definition".to_owned()),
            seen_at: Utc::now(),
        };
        let stuck = elsewhere(Some(TIRED_AFTER * 2));
        let idle = Standing { here: Some(report(None)), elsewhere: vec![stuck.clone()], ..standing(7) };
        let obstacle = told(idle.obstacle());
        assert!(obstacle.contains("on host/7") && obstacle.contains("another definition"), "{obstacle}");
        let without = Standing { here: None, ..idle.clone() };
        assert_eq!(told(without.obstacle()), obstacle);

        let stats = DrainStats::new("postgres");
        stats.applied(&[], &[], crate::sink::Applied::default(), Duration::ZERO);
        let moving = Standing { here: Some(stats.report()), ..idle };
        assert_eq!(told(moving.obstacle()), "");
        for other in [elsewhere(None), elsewhere(Some(TimeDelta::seconds(1)))] {
            let both = Standing { elsewhere: vec![stuck.clone(), other], ..standing(7) };
            assert_eq!(told(both.obstacle()), "");
        }
        assert_eq!(told(Standing { here: Some(report(None)), ..standing(7) }.obstacle()), "");
    }

    #[test]
    fn a_lag_that_is_not_known_is_no_lag_of_zero() {
        let fault = Fault::transient("kafka", "no answer", "start it");
        let unknown = Standing { lag: Err(fault), ..standing(0) };
        assert!(told(unknown.behind()).contains("could not be told"), "{}", told(unknown.behind()));
        assert_eq!(unknown.summary().total, None);
    }
}
