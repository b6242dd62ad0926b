//! Reconciliations of tables with a schedule: one a day, by the first scheduled run after an hour of the night. None of a
//! table whose schedule has conditions: it would bring all the rows that nobody asked for.
//!
//! Due again is one whose process ended under it, a few times a night; not one that failed or that somebody cancelled.

use chrono::{DateTime, Days, NaiveTime, Utc};
use chrono_tz::Tz;
use tracing::info;
use uuid::Uuid;

use crate::{
    domain::{TableName, in_zone},
    engine::{EngineError, schedules::Schedules, syncs::Syncs, table_named},
    fault::Fault,
    store::{AHEAD, Reconciliation, Schedule, SyncFilter, SyncRecord, SyncState},
};

/// How often in a night one is begun that its process does not outlive: it may be what ends the process.
const ATTEMPTS: u8 = 3;

impl Syncs {
    /// The latest reconciliation of a table, however it ended.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn last_reconciliation(&self, table: &TableName) -> Result<Option<SyncRecord>, Fault> {
        Ok(self.reconciliations(table, 1).await?.into_iter().next())
    }

    /// Reconciliations of a table, newest first, without those that a clock that was ahead says are still to come.
    async fn reconciliations(&self, table: &TableName, limit: u8) -> Result<Vec<SyncRecord>, Fault> {
        let filter = SyncFilter {
            table: Some(table.clone()),
            only_reconciliations: true,
            until: Some(Utc::now() + AHEAD),
            limit: limit.into(),
            ..SyncFilter::default()
        };
        self.shared.ready_store().await?.syncs(&filter).await
    }
}

impl Schedules {
    /// Starts the night's reconciliation after a scheduled sync, unless there was one. `None` when none is due.
    pub(in crate::engine) async fn reconcile_if_due(
        &self,
        schedule: &Schedule,
    ) -> Result<Option<Uuid>, EngineError> {
        let Some(hour) = self.shared.settings.reconcile.hour else { return Ok(None) };
        if !schedule.request.conditions.is_empty() {
            return Ok(None);
        }
        let name = &schedule.request.table;
        let table = table_named(self.shared.catalog, name)?;
        let latest = self.syncs.reconciliations(name, ATTEMPTS).await?;
        let last = match last_that_counts(latest.iter().map(|one| (one.state, one.started_at))) {
            None if latest.is_empty() => schedule.last_success_at,
            // It is owed since it was begun.
            last => last.or(Some(DateTime::UNIX_EPOCH)),
        };
        if !is_due(Utc::now(), hour, self.shared.settings.zone, last) {
            return Ok(None);
        }
        info!(%table, "the table is due to be reconciled");
        self.syncs.reconcile(name, Reconciliation::default()).await.map(Some)
    }
}

/// When the reconciliation began that the next is due by, of the latest, newest first.
fn last_that_counts(latest: impl Iterator<Item = (SyncState, DateTime<Utc>)>) -> Option<DateTime<Utc>> {
    let mut interrupted = 0;
    for (state, began) in latest {
        interrupted += u8::from(state == SyncState::Interrupted);
        if state != SyncState::Interrupted || interrupted == ATTEMPTS {
            return Some(began);
        }
    }
    None
}

/// Whether the hour has come since the table was last reconciled, or its schedule was first seen.
fn is_due(now: DateTime<Utc>, hour: u32, zone: Tz, last: Option<DateTime<Utc>>) -> bool {
    let (Some(last), Some(time)) = (last, NaiveTime::from_hms_opt(hour, 0, 0)) else { return false };
    let today = now.with_timezone(&zone).date_naive();
    let days = [Some(today), today.checked_sub_days(Days::new(1))];
    // An hour that the clocks skip comes when they are put forward.
    let mut hours = days.into_iter().flatten().filter_map(|day| in_zone(day.and_time(time), zone));
    let latest = hours.find(|hour| *hour <= now);
    // A time to come was told by a clock that was put right since.
    last > now + AHEAD || latest.is_some_and(|hour| last < hour)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("an instant")
    }

    fn due(now: &str, last: &str) -> bool {
        is_due(at(now), 3, Tz::America__Sao_Paulo, Some(at(last)))
    }

    #[test]
    fn one_that_its_process_did_not_outlive_is_made_up_for_a_few_times_a_night_and_no_other_is() {
        use SyncState::{Cancelled, Failed, Interrupted, Succeeded};
        let night = |hour| format!("2026-05-02T0{hour}:00:00Z");
        let due = |latest: &[(SyncState, &str)]| {
            let last = last_that_counts(latest.iter().map(|(state, began)| (*state, at(began))));
            is_due(at(&night(9)), 3, Tz::America__Sao_Paulo, last)
        };
        let before = (Succeeded, "2026-05-01T06:10:00Z");
        for state in [Failed, Cancelled, Succeeded] {
            assert!(!due(&[(state, &night(6)), before]), "{state:?}");
        }
        assert!(due(&[(Interrupted, &night(6)), before]));
        assert!(due(&[(Interrupted, &night(7)), (Interrupted, &night(6)), before]));
        assert!(!due(&[(Interrupted, &night(8)), (Interrupted, &night(7)), (Interrupted, &night(6))]));
        let earlier = (Interrupted, "2026-05-01T06:10:00Z");
        assert!(due(&[(Interrupted, &night(7)), (Interrupted, &night(6)), earlier]), "by the night before");
        assert!(!due(&[(Interrupted, &night(7)), (Failed, &night(6)), before]), "one reached its end");
    }

    #[test]
    fn a_table_is_due_once_from_the_hour_on() {
        // São Paulo is three hours behind UTC: its night hour is six there.
        assert!(!due("2026-05-02T05:59:00Z", "2026-05-01T06:10:00Z"), "not yet");
        assert!(due("2026-05-02T06:00:00Z", "2026-05-01T06:10:00Z"));
        assert!(!due("2026-05-02T06:15:00Z", "2026-05-02T06:00:00Z"), "it was");
        assert!(due("2026-05-04T12:00:00Z", "2026-05-02T06:00:00Z"), "missed nights are made up for by one");
        assert!(!is_due(at("2026-05-02T06:00:00Z"), 3, Tz::UTC, None), "not before its schedule ran once");
        assert!(!due("2026-05-02T06:15:00Z", "2026-05-02T06:15:30Z"), "clocks may differ a little");
        assert!(due("2026-05-02T06:15:00Z", "2026-05-09T06:00:00Z"), "a clock that was ahead puts none off");
    }

    #[test]
    fn a_night_whose_hour_the_clocks_skip_or_repeat_has_one_reconciliation_all_the_same() {
        for (hour, zone, before, skipped) in [
            (2, Tz::America__New_York, "2027-03-13T07:05:00Z", "2027-03-14T07:00:00Z"),
            (3, Tz::Europe__Helsinki, "2027-03-27T01:05:00Z", "2027-03-28T01:00:00Z"),
        ] {
            let (before, skipped) = (at(before), at(skipped));
            let due = |now, last| is_due(now, hour, zone, Some(last));
            assert!(!due(skipped - TimeDelta::minutes(1), before), "{zone}: not yet");
            assert!(due(skipped, before), "{zone}");
            assert!(!due(skipped + TimeDelta::hours(9), skipped), "{zone}: it was");
        }
        // One o'clock came at 05:00Z and at 06:00Z.
        let due = |now, last| is_due(at(now), 1, Tz::America__New_York, Some(at(last)));
        assert!(due("2026-11-01T05:00:00Z", "2026-10-31T05:05:00Z"));
        assert!(!due("2026-11-01T06:30:00Z", "2026-11-01T05:00:00Z"));
    }
}
