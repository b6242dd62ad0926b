//! Schedules of seconds: between two runs the source is asked, with one small question each time, whether anything
//! changed, and only what did is read.
//!
//! A run reads again what the overlap asks for, once a minute. What a poll reads counts for nothing in that: it moves no
//! coverage, so a row that is committed later than it says is found by the runs as if nobody had polled in between.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    EngineError,
    schedules::{Ended, Schedules},
};
use crate::{
    domain::Table,
    fault::Fault,
    source::LatestChange,
    store::{RunOutcome, Schedule, SyncRequest},
};

/// Schedules are polled that are due more often than their whole overlap is to be read.
pub(super) const WHOLE_EVERY: Duration = Duration::from_mins(1);

/// How long a sink is waited for until what a poll brought is made visible in it.
const VISIBLE_WITHIN: Duration = Duration::from_secs(5);

/// How far behind the last change a poll reads again: of rows written at once the later one may show first.
const NEAR: TimeDelta = TimeDelta::seconds(10);

/// When that is looked for once more after a change.
const SETTLE_AFTER: TimeDelta = TimeDelta::seconds(1);

/// Rows that say they were changed further ahead are none of the polls' business: they would hide all others. More than
/// the server's time is cut by in its answers.
const AHEAD: TimeDelta = TimeDelta::seconds(3);

/// What of a table the polls have read.
struct Seen {
    to: DateTime<Utc>,
    last: Option<DateTime<Utc>>,
    /// How far this machine's clock is ahead of the server's.
    clock_ahead: TimeDelta,
    settle_at: Option<DateTime<Utc>>,
}

impl Seen {
    /// Everything was read by a run that began then.
    fn from(began: DateTime<Utc>) -> Self {
        Self { to: began - NEAR, last: None, clock_ahead: TimeDelta::days(-1), settle_at: None }
    }

    /// After which and up to which instant changes are asked for.
    fn question(&self, now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        (self.to, now - self.clock_ahead + AHEAD)
    }

    /// From where to read after an answer; nothing where nothing changed.
    fn hear(&mut self, asked: DateTime<Utc>, latest: LatestChange) -> Option<DateTime<Utc>> {
        self.clock_ahead = asked - latest.asked_at;
        if latest.asked_at < self.to {
            // The run began by a clock that is ahead: what the server wrote since then seems older.
            self.to = latest.asked_at - NEAR;
        }
        let is_news = latest.at.is_some() && latest.at != self.last;
        let is_due = self.settle_at.is_some_and(|at| at <= asked);
        (is_news || is_due).then(|| self.to - NEAR)
    }

    /// What the answer told of was read.
    fn read(&mut self, asked: DateTime<Utc>, latest: LatestChange, is_new: bool) {
        if let Some(at) = latest.at {
            self.to = self.to.max(at.min(latest.asked_at));
            self.last = Some(at);
        }
        // What says that it was changed ahead hides what others change until then.
        let ahead = latest.at.filter(|at| *at - latest.asked_at > SETTLE_AFTER);
        let shows = ahead.map_or(asked, |at| asked.max(at + self.clock_ahead));
        self.settle_at = is_new.then(|| shows + SETTLE_AFTER);
    }
}

impl Schedules {
    /// Polls a claimed schedule's table until its next run is due or the claim is `lost`; how a poll ended that did not
    /// succeed.
    pub(super) async fn poll(
        &self,
        schedule: &Schedule,
        began: DateTime<Utc>,
        lost: &CancellationToken,
    ) -> Option<Ended> {
        // Of a table that is not defined here no schedule is claimed.
        let table = self.shared.catalog.get(&schedule.request.table.0)?;
        self.poll_table(schedule, table, began, lost).await.err()
    }

    async fn poll_table(
        &self,
        schedule: &Schedule,
        table: Table,
        began: DateTime<Utc>,
        lost: &CancellationToken,
    ) -> Result<(), Ended> {
        let failed = |fault: &Fault| Ended::failed(None, fault.to_string(), fault.retry_after);
        let store = &self.shared.store;
        let until = Instant::now() + WHOLE_EVERY;
        let mut replaced = self.replaced.subscribe();
        let mut seen = Seen::from(began);
        let mut ticks = tokio::time::interval(schedule.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        store.forget_polls(&schedule.request.table).await.map_err(|fault| failed(&fault))?;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = replaced.changed() => return Ok(()),
                () = lost.cancelled() => return Ok(()),
                () = self.shared.closing.cancelled() => return Ok(()),
            }
            if Instant::now() >= until {
                return Ok(());
            }
            let asked = Utc::now();
            let (after, before) = seen.question(asked);
            let latest = tokio::select! {
                answer = self.shared.source.latest_change(table, after, before) => answer,
                _ = replaced.changed() => return Ok(()),
                () = lost.cancelled() => return Ok(()),
                () = self.shared.closing.cancelled() => return Ok(()),
            };
            let latest = latest.map_err(|fault| failed(&fault))?;
            let latest = latest.ok_or_else(|| Ended::failed(None, no_time(table), None))?;
            let Some(since) = seen.hear(asked, latest) else { continue };
            let request = SyncRequest { since: Some(since), resume: false, ..schedule.request.clone() };
            let id = match self.syncs.start(request).await {
                Ok(id) => id,
                // The question is put again.
                Err(EngineError::Busy(_)) => continue,
                Err(error) => return Err(Ended::failed(None, error.to_string(), error.retry_after())),
            };
            let ended = self.follow(id).await;
            if ended.outcome != RunOutcome::Succeeded || ended.more {
                return Err(ended);
            }
            seen.read(asked, latest, ended.appended > 0);
            self.show(&ended);
        }
    }

    /// Has what a sync appended made visible at once, also in an index that else does so in its own time.
    pub(super) fn show(&self, ended: &Ended) {
        let Some(id) = ended.sync_id.filter(|_| ended.appended > 0) else { return };
        debug!(sync_id = %id, appended = ended.appended, "changes are made visible");
        let (syncs, closing) = (self.syncs.clone(), self.shared.closing.clone());
        self.shared.tasks.spawn(async move {
            let waiting = async { syncs.wait_for(id, VISIBLE_WITHIN, &mut ()).await };
            closing.run_until_cancelled(waiting).await
        });
    }
}

/// Why a table can't be polled.
pub(super) fn no_time(table: Table) -> String {
    format!(
        "{table} has no column that tells when a row was changed or created; give {} seconds or more",
        WHOLE_EVERY.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(1) + TimeDelta::milliseconds(ms)
    }

    fn answer(ms: Option<i64>, asked_ms: i64) -> LatestChange {
        // An answer tells full seconds.
        LatestChange { at: ms.map(at), asked_at: at(asked_ms.div_euclid(1000) * 1000) }
    }

    #[test]
    fn a_change_is_read_once_and_once_more_for_what_was_committed_beside_it() {
        let mut seen = Seen::from(at(0));
        let quiet = answer(None, 250);
        assert_eq!(seen.hear(at(250), quiet), None);
        let change = answer(Some(400), 500);
        let since = seen.hear(at(500), change).expect("news");
        assert!(since <= at(400) - NEAR, "{since}");
        seen.read(at(500), change, true);
        assert_eq!(seen.hear(at(750), answer(Some(400), 750)), None, "it is known");
        assert!(seen.hear(at(1500), answer(None, 1500)).is_some(), "a second later it is looked again");
        seen.read(at(1500), answer(None, 1500), false);
        assert_eq!(seen.hear(at(1750), answer(None, 1750)), None);
        assert!(seen.hear(at(2000), answer(Some(1900), 2000)).is_some(), "a change of the same row is news");
    }

    #[test]
    fn a_change_that_could_not_be_read_is_news_again() {
        let mut seen = Seen::from(at(0));
        let change = answer(Some(400), 500);
        assert!(seen.hear(at(500), change).is_some());
        assert!(seen.hear(at(750), change).is_some());
    }

    #[test]
    fn rows_from_the_future_are_not_asked_for_and_hide_nothing() {
        let mut seen = Seen::from(at(0));
        seen.hear(at(250), answer(None, 250));
        let (after, before) = seen.question(at(500));
        assert!(after < at(0) && before <= at(500) + AHEAD + TimeDelta::seconds(1), "{before}");
        // One that is only a little ahead.
        let ahead = answer(Some(2500), 500);
        assert!(seen.hear(at(500), ahead).is_some());
        seen.read(at(500), ahead, true);
        assert!(seen.question(at(750)).0 <= at(500), "what is written now is still asked for");
        assert_eq!(seen.hear(at(1600), answer(Some(2500), 1600)), None);
        let later = seen.hear(at(4000), answer(Some(2500), 4000));
        assert!(later.is_some_and(|since| since <= at(500)), "once it is past, what it hid is looked for");
    }

    #[test]
    fn a_clock_that_is_ahead_of_the_servers_is_found_out_by_the_first_answer() {
        let mut seen = Seen::from(at(3_600_000));
        seen.hear(at(3_600_250), answer(None, 250));
        let (after, before) = seen.question(at(3_600_500));
        assert!(after < at(0) && before > at(500) && before < at(10_000), "{after} {before}");
    }
}
