//! A sync: reads source rows and appends their events to the log.
//!
//! It remembers an event only after the log has acknowledged it, and moves the coverage only over rows that were
//! all appended; whatever interrupts it, the next one reads again what is not remembered, and nothing is appended
//! that was appended before.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{dead_letters, metrics::Flow, window::Window};
use crate::{
    domain::{Dados, ENVELOPE_VERSION, Event, JsonObject, Table},
    fault::Fault,
    log::{Log, NewRecord, Position, Topic},
    source::{Page, RowQuery, Source},
    store::{Appended, Control, Coverage, SyncEnd, SyncLease, SyncProgress, SyncRequest, SyncState},
};

/// The furthest a sync may look back.
pub(super) const MOST_HOURS: u32 = 24 * 366 * 10;

/// Fewest rows worth a round trip, however small the limit.
const SMALLEST_PAGE: u32 = 100;

/// One sync, ready to run.
pub struct SyncRun {
    pub id: Uuid,
    pub request: SyncRequest,
    pub source: Arc<dyn Source>,
    pub log: Arc<dyn Log>,
    pub coverage: Option<Coverage>,
    pub page_size: u32,
    pub cancel: CancellationToken,
    pub progress: watch::Sender<SyncProgress>,
    pub reads: Arc<Flow>,
    pub appends: Arc<Flow>,
}

/// Why reading stopped, when nothing failed.
enum Stopped {
    Exhausted,
    LimitReached,
    Cancelled,
}

/// A row that will be appended.
struct Outgoing {
    record: NewRecord,
    key: Appended,
    updated_at: Option<DateTime<Utc>>,
    dead: bool,
}

impl SyncRun {
    /// Runs to the end and gives the lease back. The outcome is in the store; only a store that can't be told is
    /// an error.
    ///
    /// # Errors
    /// When the store could not record the end; the sync then shows as interrupted.
    pub async fn run(self, mut lease: Box<dyn SyncLease>) -> Result<SyncState, Fault> {
        let table = self.request.table;
        info!(sync_id = %self.id, %table, hours_ago = self.request.hours_ago, limit = self.request.limit, "sync started");
        let window = Window::plan(Utc::now(), &self.request, self.coverage);
        let mut progress = SyncProgress::default();
        let mut read_up_to = None;
        let outcome = self.read(&mut *lease, &window, &mut progress, &mut read_up_to).await;
        let (state, error) = match outcome {
            Ok(Stopped::Cancelled) => (SyncState::Cancelled, None),
            Ok(stopped) => {
                progress.more = matches!(stopped, Stopped::LimitReached);
                (SyncState::Succeeded, None)
            }
            Err(fault) => (SyncState::Failed, Some(fault.to_string())),
        };
        // What was read before a failure or a cancellation is covered all the same.
        let coverage = window.covered(read_up_to);
        if let Some(error) = &error {
            warn!(sync_id = %self.id, %table, error, "sync failed");
        }
        info!(
            sync_id = %self.id, %table, ?state, rows_read = progress.rows_read, appended = progress.appended,
            unchanged = progress.unchanged, dead_letters = progress.dead_letters, "sync ended"
        );
        lease.finish(SyncEnd { state, progress, error, coverage }).await?;
        Ok(state)
    }

    async fn read(
        &self,
        lease: &mut dyn SyncLease,
        window: &Window,
        progress: &mut SyncProgress,
        read_up_to: &mut Option<DateTime<Utc>>,
    ) -> Result<Stopped, Fault> {
        let query = RowQuery {
            table: self.request.table,
            since: window.since,
            status: self.request.status.clone(),
            min_messages: self.request.min_messages,
            page_size: self.page_size.min(self.request.limit.max(SMALLEST_PAGE)),
        };
        let mut after = None;
        loop {
            let begun = Instant::now();
            let page = self.cancel.run_until_cancelled(self.source.page(&query, after.as_ref()));
            let Some(page) = page.await else { return Ok(Stopped::Cancelled) };
            let page = page?;
            self.reads.passed(page.rows.len() as u64, begun.elapsed());
            let next = page.next.clone();
            let page_watermark = page.watermark;
            let left = u64::from(self.request.limit) - progress.appended;
            let (last_taken, cut) = self.append_page(lease, page, left, progress).await?;
            // A page that was cut proves only what was taken of it.
            *read_up_to = (*read_up_to).max(if cut { last_taken } else { page_watermark });
            if cut {
                return Ok(Stopped::LimitReached);
            }
            let Some(token) = next else { return Ok(Stopped::Exhausted) };
            after = Some(token);
            if self.cancel.is_cancelled() {
                return Ok(Stopped::Cancelled);
            }
        }
    }

    /// Appends what is new of a page, up to `left` events. Returns the modification time of the last row that is
    /// in the log now, and whether rows were left out.
    async fn append_page(
        &self,
        lease: &mut dyn SyncLease,
        page: Page,
        left: u64,
        progress: &mut SyncProgress,
    ) -> Result<(Option<DateTime<Utc>>, bool), Fault> {
        let rows = page.rows.len() as u64;
        let outgoing: Vec<Outgoing> =
            page.rows.into_iter().map(|row| self.outgoing(row, page.read_at)).collect();
        let keys: Vec<Appended> = outgoing.iter().map(|row| row.key).collect();
        let known =
            if self.request.full { std::collections::HashSet::new() } else { lease.unchanged(&keys).await? };

        let mut taken = Vec::new();
        let mut letters = Vec::new();
        // Forgetting all but the last content of an entity keeps the memory true when a page shows a row twice.
        let mut remembered: HashMap<Uuid, Appended> = HashMap::new();
        let mut last_taken = None;
        let mut cut = false;
        for row in outgoing {
            if known.contains(&row.key) {
                progress.unchanged += 1;
            } else if row.dead {
                letters.push(row.record);
                remembered.insert(row.key.entity, row.key);
            } else if (taken.len() as u64) < left {
                taken.push(row.record);
                remembered.insert(row.key.entity, row.key);
            } else {
                cut = true;
                break;
            }
            last_taken = last_taken.max(row.updated_at);
        }
        let (appended, parked) = (taken.len() as u64, letters.len() as u64);
        if parked > 0 {
            self.log.append(Topic::DeadLetters, letters).await?;
        }
        if appended > 0 {
            let begun = Instant::now();
            let positions = self.log.append(Topic::Events, taken).await?;
            self.appends.passed(appended, begun.elapsed());
            raise_targets(&mut progress.targets, &positions);
        }
        progress.pages += 1;
        progress.rows_read += rows;
        progress.appended += appended;
        progress.dead_letters += parked;
        let remembered: Vec<Appended> = remembered.into_values().collect();
        if lease.checkpoint(progress, &remembered).await? == Control::Cancel {
            self.cancel.cancel();
        }
        self.progress.send_replace(progress.clone());
        Ok((last_taken, cut))
    }

    fn outgoing(&self, row: JsonObject, read_at: DateTime<Utc>) -> Outgoing {
        let table = self.request.table;
        // The row itself is the dead letter if it can't be typed.
        match Event::from_row(table, row.clone(), read_at) {
            Ok(event) => Outgoing {
                key: Appended { entity: event.entidade.id, event: event.id },
                updated_at: match &event.dados {
                    Dados::Lead(lead) => lead.updated_at,
                    Dados::ChatSession(_) | Dados::Manual(_) => None,
                },
                record: event_record(&event, self.id),
                dead: false,
            },
            Err(error) => {
                warn!(sync_id = %self.id, %error, "source row parked as a dead letter");
                let id = dead_letters::row_letter_id(table, &row);
                Outgoing {
                    key: Appended { entity: id, event: id },
                    updated_at: None,
                    record: dead_letters::from_row(table, &row, &error, self.id, read_at),
                    dead: true,
                }
            }
        }
    }
}

/// The record of an event: keyed by its entity, so that one entity's events keep their order.
pub fn event_record(event: &Event, sync_id: Uuid) -> NewRecord {
    let mut record = record(event, sync_id);
    record.headers.push(("sync_id", Bytes::from(sync_id.to_string())));
    record
}

/// The record of a hand-made event, which is its own trace.
pub(super) fn manual_record(event: &Event) -> NewRecord {
    record(event, event.id)
}

fn record(event: &Event, trace: Uuid) -> NewRecord {
    NewRecord {
        key: Bytes::from(event.entidade.id.to_string()),
        value: event.encode(),
        headers: vec![
            ("schema", Bytes::from_static(ENVELOPE_VERSION.as_bytes())),
            ("traceparent", Bytes::from(traceparent(trace, event.id))),
        ],
    }
}

/// W3C Trace Context: the sync is the trace, the event the span.
fn traceparent(sync_id: Uuid, event_id: Uuid) -> String {
    let span = event_id.as_u64_pair().1;
    format!("00-{}-{span:016x}-01", sync_id.simple())
}

pub(super) fn raise_targets(targets: &mut Vec<Position>, appended: &[Position]) {
    for position in appended {
        let next = position.offset + 1;
        match targets.iter_mut().find(|target| target.partition == position.partition) {
            Some(target) => target.offset = target.offset.max(next),
            None => targets.push(Position { partition: position.partition, offset: next }),
        }
    }
    targets.sort_unstable();
}

/// The limits a request must keep.
///
/// # Errors
/// Names the field, the value and the valid range.
pub fn check(request: &SyncRequest) -> Result<(), (&'static str, String)> {
    const MOST_EVENTS: u32 = 1_000_000;
    if request.hours_ago == 0 || request.hours_ago > MOST_HOURS {
        return Err((
            "hours_ago",
            format!("{} is out of range; give 1 to {MOST_HOURS} hours", request.hours_ago),
        ));
    }
    if request.limit == 0 || request.limit > MOST_EVENTS {
        return Err(("limit", format!("{} is out of range; give 1 to {MOST_EVENTS} events", request.limit)));
    }
    if request.table == Table::ChatSessions && request.status.is_some() {
        return Err(("status", "chat sessions have no status; leave it out".to_owned()));
    }
    if request.table == Table::Leads && request.min_messages.is_some() {
        return Err(("min_messages", "leads have no messages; leave it out".to_owned()));
    }
    if request.status.as_deref().is_some_and(|status| status.trim().is_empty()) {
        return Err(("status", "is empty; leave it out to sync every status".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_next_offset_of_each_partition() {
        let mut targets = Vec::new();
        let at = |partition, offset| Position { partition, offset };
        raise_targets(&mut targets, &[at(1, 5), at(0, 2), at(1, 4)]);
        raise_targets(&mut targets, &[at(1, 6)]);
        assert_eq!(targets, [at(0, 3), at(1, 7)]);
    }

    #[test]
    fn a_traceparent_has_the_form_of_w3c_trace_context() {
        let header = traceparent(Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(header, "00-00000000000000000000000000000001-0000000000000002-01");
    }

    #[test]
    fn a_request_out_of_range_names_the_field_and_the_range() {
        let request = SyncRequest {
            table: Table::Leads,
            hours_ago: 0,
            limit: 1,
            status: None,
            min_messages: None,
            full: false,
        };
        let (field, problem) = check(&request).expect_err("zero hours");
        assert_eq!(field, "hours_ago");
        assert!(problem.contains("1 to"), "{problem}");
    }
}
