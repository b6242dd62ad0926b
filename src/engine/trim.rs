//! Trimming: old events whose rows have moved on leave the index, then the store.
//!
//! Guarantee: the index never holds an event that the store trimmed, and an event is counted once in the rollup however
//! often it is delivered. A page leaves the index first, so a process that is killed between the two leaves events in the
//! store alone, and the next pass trims them; while the index does not answer, nothing is trimmed. What is delivered to an
//! index again after the store has trimmed it, by a rebuild or to one that was restored, is removed once it is written, and
//! before that is committed.

use std::{collections::HashSet, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{questions::Questions, shared::Shared, status::within};
use crate::{
    domain::{Table, micros},
    fail_point,
    fault::Fault,
    index::IndexName,
    next_step::Remark,
    sink::{Sink, SinkEvent},
    store::{EventFilter, EventName, Store, TrimPage},
};

/// Events are kept for a day at least: one that was never older than this was not trimmed.
const NEVER_TRIMMED: TimeDelta = TimeDelta::hours(12);

/// Trims the events of rows that moved on before an instant, page after page; `told` hears how many each time.
pub(super) async fn trim(
    shared: &Shared,
    before: DateTime<Utc>,
    told: impl Fn(u64) + Send,
) -> Result<(), Fault> {
    let (store, index, below) = (&shared.store, &shared.index, micros(before));
    let mut after = None;
    loop {
        let began = Instant::now();
        let TrimPage { events, next } = store.trimmable(below, after).await?;
        if !events.is_empty() {
            if is_rebuilt(shared).await? {
                return Err(Fault::transient(
                    index.name(),
                    "the index eventos is being built anew",
                    "old events are removed once it is done",
                ));
            }
            index.remove_events(&events).await?;
            fail_point::pass("trim.removed_from_index");
            let trimmed = store.trim(&events, below).await?;
            fail_point::pass("trim.trimmed");
            // An index that is behind, or that is being built since, may have been given them meanwhile.
            index.remove_events(&events).await?;
            told(trimmed);
            if trimmed < events.len() as u64 {
                // Their rows have this content again since the page was read: a reconciliation finds them, too.
                tracing::warn!(
                    events = events.len() as u64 - trimmed,
                    "events left the index and stay in the store: reconcile their tables"
                );
            }
        }
        after = next;
        if after.is_none() {
            return Ok(());
        }
        // As long as it took, the parts are left to those who drain and ask.
        tokio::time::sleep(began.elapsed()).await;
    }
}

async fn is_rebuilt(shared: &Shared) -> Result<bool, Fault> {
    Ok(shared.index.rebuilds().await?.iter().any(|rebuild| rebuild.index == IndexName::Eventos))
}

/// How many events would be trimmed.
pub(super) async fn count(shared: &Shared, before: DateTime<Utc>) -> Result<u64, Fault> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = shared.store.trimmable(micros(before), after).await?;
        count += page.events.len() as u64;
        after = page.next;
        if after.is_none() {
            return Ok(count);
        }
    }
}

/// Removes from an index those of the events just written that the store has trimmed; tells which. While the store does not
/// answer, an index that is up to date does without it: what is young was trimmed only where a row was twice what it is not.
pub(super) async fn leave_out(
    store: &dyn Store,
    sink: &dyn Sink,
    written: &[SinkEvent],
) -> Result<HashSet<Uuid>, Fault> {
    let youngest = micros(Utc::now() - NEVER_TRIMMED);
    let is_old = |sink: &SinkEvent| sink.event.entidade.versao < youngest;
    if sink.obeys_erasures() || written.is_empty() {
        return Ok(HashSet::new());
    }
    let names: Vec<EventName> = written.iter().map(EventName::from).collect();
    let mut trimmed = match store.trimmed(&names).await {
        Ok(trimmed) => trimmed,
        Err(fault) if written.iter().any(is_old) => return Err(fault),
        Err(_) => return Ok(HashSet::new()),
    };
    // What the row has again is stored again.
    for SinkEvent { event, .. } in written {
        if trimmed.get(&event.id).is_some_and(|below| event.entidade.versao >= *below) {
            trimmed.remove(&event.id);
        }
    }
    let ids: Vec<Uuid> = trimmed.into_keys().collect();
    sink.remove_events(&ids).await?;
    Ok(ids.into_iter().collect())
}

/// What answers about events lack because it was trimmed.
impl Questions {
    /// Of a question about stored events.
    pub async fn trimmed(&self, filter: &EventFilter) -> Option<Remark> {
        let table = filter.tipo_evento.as_deref().and_then(|tipo| self.shared.catalog.of_entity(tipo));
        match (table, &filter.entidade) {
            (Some(table), Some(key)) => self.trimmed_of(table, key).await,
            _ => self.trimmed_between(filter.from, filter.to).await,
        }
    }

    /// Of a statement: where it reads them at all.
    pub async fn trimmed_in(&self, statement: &str) -> Option<Remark> {
        if !statement.to_ascii_lowercase().contains("eventos_raw") {
            return None;
        }
        self.trimmed_between(None, None).await
    }

    pub(super) async fn trimmed_between(
        &self,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Option<Remark> {
        let store = &self.shared.store;
        let trimmed = within(store.name(), store.trimmed_between(from, to)).await;
        self.remark(trimmed.map(|trimmed| trimmed.then(|| "some asked for here".to_owned())))
    }

    /// Of an entity's history.
    pub(super) async fn trimmed_of(&self, table: Table, key: &str) -> Option<Remark> {
        let store = &self.shared.store;
        let trimmed = within(store.name(), store.trimmed_of(table, key)).await;
        self.remark(trimmed.map(|trimmed| (trimmed > 0).then(|| format!("{trimmed} of this row"))))
    }

    fn remark(&self, trimmed: Result<Option<String>, Fault>) -> Option<Remark> {
        let told = match trimmed {
            Ok(None) => return None,
            Ok(Some(which)) => {
                let day = self.shared.settings.events_retention.and_then(|kept| {
                    (Utc::now() - kept).with_timezone(&self.shared.settings.zone).date_naive().succ_opt()
                });
                let before = day.map_or_else(|| "long ago".to_owned(), |day| format!("before {day}"));
                format!(
                    "events from {before} were removed for their age, {which} among them: of each row only its newest from then \
                     is left"
                )
            }
            Err(fault) => format!("whether events were removed for their age could not be told: {fault}"),
        };
        Some(told.into())
    }
}
