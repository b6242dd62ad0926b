//! Reconciliations of tables with a schedule: one a day, by the first scheduled run after an hour of the night.

use chrono::{DateTime, Days, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use tracing::info;
use uuid::Uuid;

use crate::{
    domain::TableName,
    engine::{EngineError, schedules::Schedules, syncs::Syncs, table_named},
    fault::Fault,
    store::{Reconciliation, Schedule, SyncFilter, SyncRecord},
};

impl Syncs {
    /// The latest reconciliation of a table, however it ended.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn last_reconciliation(&self, table: &TableName) -> Result<Option<SyncRecord>, Fault> {
        let filter = SyncFilter {
            table: Some(table.clone()),
            only_reconciliations: true,
            limit: 1,
            ..SyncFilter::default()
        };
        Ok(self.shared.ready_store().await?.syncs(&filter).await?.into_iter().next())
    }
}

impl Schedules {
    /// Starts the night's reconciliation after a scheduled sync, unless there was one. `None` when none is due.
    pub(in crate::engine) async fn reconcile_if_due(
        &self,
        schedule: &Schedule,
    ) -> Result<Option<Uuid>, EngineError> {
        let Some(hour) = self.shared.settings.reconcile.hour else { return Ok(None) };
        let name = &schedule.request.table;
        let table = table_named(self.shared.catalog, name)?;
        let last = self.syncs.last_reconciliation(name).await?.map(|last| last.started_at);
        if !is_due(Utc::now(), hour, self.shared.settings.zone, last.or(schedule.last_success_at)) {
            return Ok(None);
        }
        info!(%table, "the table is due to be reconciled");
        self.syncs.reconcile(name, Reconciliation::default()).await.map(Some)
    }
}

/// Whether the hour has come since the table was last reconciled, or its schedule was first seen.
fn is_due(now: DateTime<Utc>, hour: u32, zone: Tz, last: Option<DateTime<Utc>>) -> bool {
    let (Some(last), Some(time)) = (last, NaiveTime::from_hms_opt(hour, 0, 0)) else { return false };
    let today = now.with_timezone(&zone).date_naive();
    let days = [Some(today), today.checked_sub_days(Days::new(1))];
    // On the day a clock is put forward the hour may not be: then the day before counts.
    let hours =
        days.into_iter().flatten().filter_map(|day| zone.from_local_datetime(&day.and_time(time)).earliest());
    let latest = hours.map(|hour| hour.to_utc()).find(|hour| *hour <= now);
    latest.is_some_and(|hour| last < hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("an instant")
    }

    fn due(now: &str, last: &str) -> bool {
        is_due(at(now), 3, Tz::America__Sao_Paulo, Some(at(last)))
    }

    #[test]
    fn a_table_is_due_once_from_the_hour_on() {
        // São Paulo is three hours behind UTC: its night hour is six there.
        assert!(!due("2026-05-02T05:59:00Z", "2026-05-01T06:10:00Z"), "not yet");
        assert!(due("2026-05-02T06:00:00Z", "2026-05-01T06:10:00Z"));
        assert!(!due("2026-05-02T06:15:00Z", "2026-05-02T06:00:00Z"), "it was");
        assert!(due("2026-05-04T12:00:00Z", "2026-05-02T06:00:00Z"), "missed nights are made up for by one");
        assert!(!is_due(at("2026-05-02T06:00:00Z"), 3, Tz::UTC, None), "not before its schedule ran once");
    }
}
