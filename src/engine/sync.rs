//! A sync: reads source rows and appends their events to the log.
//!
//! It remembers an event only after the log has acknowledged it, and moves the coverage only over rows that were
//! all appended; whatever interrupts it, the next one reads again what is not remembered. Events of the page in hand
//! may then be appended again: they are the same events, and change nothing in a sink.
//!
//! An entity's version is given here: the server's time at reading, or one more than its last version if that is
//! larger. No clock that a client writes decides order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{dead_letters, metrics::Flow, window::Window};
use crate::{
    domain::{ColumnKind, ENVELOPE_VERSION, Event, Json, Misfit, SourceRow, Table, TableName, micros},
    fault::Fault,
    log::{Log, NewRecord, Position, Topic},
    source::{Page, RowQuery, Scope, Source},
    store::{
        Appended, ColumnMisfits, Control, Coverage, ParkedEntity, Store, SyncEnd, SyncLease, SyncProgress,
        SyncRequest, SyncState,
    },
};

/// The furthest a sync may look back.
pub const MAX_HOURS: u32 = 24 * 366 * 10;

/// Fewest rows worth a round trip, however small the limit.
const MIN_PAGE: u32 = 100;

/// Bytes of records appended in one go: a page of large rows goes in several.
const MAX_APPEND_BYTES: usize = 32 << 20;

/// How far a clock may be from the server's: this machine's before the window is planned anew by the server's, a
/// client's before its row counts as dated ahead.
pub(super) const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(30);

/// One sync, ready to run.
pub struct SyncRun {
    pub id: Uuid,
    pub table: Table,
    pub request: SyncRequest,
    pub source: Arc<dyn Source>,
    pub log: Arc<dyn Log>,
    /// The log's identity.
    pub log_id: String,
    pub store: Arc<dyn Store>,
    pub coverage: Option<Coverage>,
    pub page_size: u32,
    /// How far behind the coverage a sync that resumes reads again.
    pub overlap: TimeDelta,
    pub cancel: CancellationToken,
    pub progress: watch::Sender<SyncProgress>,
    pub reads: Arc<Flow>,
    pub appends: Arc<Flow>,
    /// Versions that a sink has of entities, where those are not what was appended: the next ones are larger.
    pub newer_than: HashMap<String, i64>,
}

/// Why reading stopped, when nothing failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    Exhausted,
    LimitReached,
    Cancelled,
}

/// What became of reading.
struct Reading {
    window: Window,
    /// The last modification time among the rows that are in the log now.
    read_up_to: Option<DateTime<Utc>>,
    outcome: Result<Stopped, Fault>,
}

/// Values that did not fit, by column.
pub(super) type Misfits = BTreeMap<(&'static str, ColumnKind), u64>;

/// A row that will be appended.
struct Outgoing {
    record: NewRecord,
    /// What to remember of it.
    appended: Appended,
    modified: Option<DateTime<Utc>>,
    misfits: Vec<Misfit>,
    /// The letter's id where it goes to the dead letters.
    letter: Option<Uuid>,
}

/// What of a page is to be appended, in its order.
#[derive(Default)]
struct Taken {
    events: Vec<NewRecord>,
    letters: Vec<(NewRecord, Option<ParkedEntity>)>,
    /// By entity, so that of a row that a page shows twice the last content is remembered.
    appended: HashMap<String, Appended>,
    misfits: Misfits,
    unchanged: u64,
    ahead: u64,
    last_modified: Option<DateTime<Utc>>,
    /// The limit was reached before the page's end.
    cut: bool,
}

impl SyncRun {
    /// Runs to the end and gives the lease back. The outcome is in the store; only a store that can't be told is
    /// an error.
    ///
    /// # Errors
    /// When the store could not record the end; the sync then shows as interrupted.
    pub async fn run(self, mut lease: Box<dyn SyncLease>) -> Result<SyncState, Fault> {
        let table = self.table;
        info!(sync_id = %self.id, %table, hours_ago = self.request.hours_ago, limit = self.request.limit, "sync started");
        let mut progress = SyncProgress::default();
        let reading = self.read(&mut *lease, &mut progress).await;
        let (state, error) = match &reading.outcome {
            Ok(Stopped::Cancelled) => (SyncState::Cancelled, None),
            Ok(stopped) => {
                progress.more = *stopped == Stopped::LimitReached;
                (SyncState::Succeeded, None)
            }
            Err(fault) => (SyncState::Failed, Some(fault.to_string())),
        };
        // What was read before a failure or a cancellation is covered all the same.
        let exhausted = matches!(reading.outcome, Ok(Stopped::Exhausted));
        let coverage = reading.window.covered(reading.read_up_to, exhausted);
        if let Some(error) = &error {
            warn!(sync_id = %self.id, %table, error, "sync failed");
        }
        for misfit in &progress.misfits {
            warn!(
                sync_id = %self.id, %table, column = misfit.column, values = misfit.values, expected = misfit.expected,
                "values do not fit their column and are null there; they stay in dados"
            );
        }
        info!(
            sync_id = %self.id, %table, ?state, rows_read = progress.rows_read, appended = progress.appended,
            unchanged = progress.unchanged, dead_letters = progress.dead_letters, ahead = progress.ahead, "sync ended"
        );
        lease.finish(SyncEnd { state, progress, error, coverage }).await?;
        Ok(state)
    }

    async fn read(&self, lease: &mut dyn SyncLease, progress: &mut SyncProgress) -> Reading {
        let plan = |now| Window::plan(now, self.table, &self.request, self.coverage, self.overlap);
        let mut reading =
            Reading { window: plan(Utc::now()), read_up_to: None, outcome: Ok(Stopped::Exhausted) };
        reading.outcome = async {
            let limit = self.log.max_record(Topic::Events).await?;
            let known = self.recall_columns().await?;
            let mut query = RowQuery {
                table: self.table,
                scope: Scope::Changed,
                since: reading.window.since,
                conditions: self.request.conditions.clone(),
                page_size: self.page_size.min(self.request.limit.max(MIN_PAGE)),
            };
            let mut after = None;
            let mut misfits = Misfits::new();
            let mut is_first = true;
            loop {
                let begun = Instant::now();
                let page = self.cancel.run_until_cancelled(self.source.page(&query, after.as_ref()));
                let Some(page) = page.await else { return Ok(Stopped::Cancelled) };
                let page = page?;
                if is_first {
                    is_first = false;
                    self.remember_columns(known.as_ref()).await?;
                    let is_off = (page.read_at - Utc::now()).abs() > TOLERATED_SKEW;
                    reading.window = plan(page.read_at);
                    if is_off && reading.window.since != query.since {
                        query.since = reading.window.since;
                        continue;
                    }
                }
                self.reads.passed(page.rows.len() as u64, begun.elapsed());
                let (next, watermark) = (page.next.clone(), page.watermark);
                let left = u64::from(self.request.limit).saturating_sub(progress.appended);
                let (last_taken, cut) =
                    self.append_page(lease, page, left, limit, progress, &mut misfits).await?;
                // A page that was cut proves only what was taken of it.
                reading.read_up_to = reading.read_up_to.max(if cut { last_taken } else { watermark });
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
        .await;
        reading
    }

    /// What is selected decides a row's identity, so it must not depend on whether the project told this process of its
    /// columns.
    pub(super) async fn recall_columns(&self) -> Result<Option<Vec<String>>, Fault> {
        let known = self.store.known_columns(&self.table.into()).await?;
        if let Some(columns) = &known {
            self.source.seed_columns(self.table, columns.clone());
        }
        Ok(known)
    }

    pub(super) async fn remember_columns(&self, known: Option<&Vec<String>>) -> Result<(), Fault> {
        match self.source.columns(self.table) {
            Some(columns) if known != Some(&columns) => {
                self.store.remember_columns(&self.table.into(), &columns).await
            }
            _ => Ok(()),
        }
    }

    /// Appends what is new of a page, up to `left` events. Returns the modification time of the last row that is
    /// in the log now, and whether rows were left out.
    pub(super) async fn append_page(
        &self,
        lease: &mut dyn SyncLease,
        page: Page,
        left: u64,
        limit: usize,
        progress: &mut SyncProgress,
        misfits: &mut Misfits,
    ) -> Result<(Option<DateTime<Utc>>, bool), Fault> {
        let taken = self.take(lease, &page, left, limit).await?;
        let (appended, parked) = (taken.events.len() as u64, taken.letters.len() as u64);
        self.park(taken.letters).await?;
        if appended > 0 {
            let begun = Instant::now();
            for records in by_bytes(taken.events) {
                let positions = self.log.append(Topic::Events, records).await?;
                raise_targets(&mut progress.targets, &positions);
            }
            self.appends.passed(appended, begun.elapsed());
        }
        for (column, values) in taken.misfits {
            *misfits.entry(column).or_default() += values;
        }
        progress.pages += 1;
        progress.rows_read += page.rows.len() as u64;
        progress.appended += appended;
        progress.unchanged += taken.unchanged;
        progress.dead_letters += parked;
        progress.ahead += taken.ahead;
        progress.misfits = told(misfits);
        let remembered: Vec<Appended> = taken.appended.into_values().collect();
        if lease.checkpoint(progress, &remembered).await? == Control::Cancel {
            self.cancel.cancel();
        }
        if appended > 0 {
            let entities: Vec<String> = remembered.into_iter().map(|one| one.entity).collect();
            let table = TableName::from(self.table);
            let mended = self.store.settle_mended(&self.log_id, &table, &entities).await?;
            if mended > 0 {
                info!(sync_id = %self.id, table = %self.table, mended, "dead letters settled: their rows came again, mended");
            }
        }
        self.progress.send_replace(progress.clone());
        Ok((taken.last_modified, taken.cut))
    }

    /// Tells what is new of a page from what was appended before.
    async fn take(
        &self,
        lease: &mut dyn SyncLease,
        page: &Page,
        left: u64,
        limit: usize,
    ) -> Result<Taken, Fault> {
        let rows: Vec<_> = page.rows.iter().map(|row| SourceRow::read(self.table, row.clone())).collect();
        let entity = |(row, json): (&Result<SourceRow, _>, &Json)| match row {
            Ok(row) => row.key.clone(),
            Err(_) => dead_letters::row_letter_id(self.table, json).to_string(),
        };
        let mut entities: Vec<String> = rows.iter().zip(&page.rows).map(entity).collect();
        entities.sort_unstable();
        entities.dedup();
        let mut last = lease.last_appended(&entities).await?;
        let mut taken = Taken::default();
        for (row, json) in rows.into_iter().zip(&page.rows) {
            let modified = row.as_ref().ok().and_then(|row| row.modified);
            let mut outgoing = match row {
                Ok(row) => self.outgoing(&row, last.get(&row.key), page.read_at, limit),
                Err(error) => self.parked_row(json, &error, limit),
            };
            let known = last.get(&outgoing.appended.entity);
            let is_known = known.is_some_and(|known| known.event == outgoing.appended.event);
            // The same row is never parked twice.
            let is_unchanged = is_known && (!self.request.reappend || outgoing.letter.is_some());
            if is_unchanged {
                taken.unchanged += 1;
            } else if let Some(letter) = outgoing.letter {
                let entity = dead_letters::key_as_sent(self.table, json);
                let parked = entity.map(|entity| ParkedEntity {
                    table: TableName::from(self.table),
                    entity,
                    partition: 0,
                    offset: 0,
                    letter,
                });
                taken.letters.push((outgoing.record, parked));
            } else if (taken.events.len() as u64) < left {
                for misfit in outgoing.misfits.drain(..) {
                    *taken.misfits.entry((misfit.column, misfit.kind)).or_default() += 1;
                }
                taken.events.push(outgoing.record);
            } else {
                taken.cut = true;
                break;
            }
            taken.ahead += u64::from(modified.is_some_and(|at| at > page.read_at + TOLERATED_SKEW));
            taken.last_modified = taken.last_modified.max(outgoing.modified);
            if !is_unchanged {
                last.insert(outgoing.appended.entity.clone(), outgoing.appended.clone());
                taken.appended.insert(outgoing.appended.entity.clone(), outgoing.appended);
            }
        }
        Ok(taken)
    }

    fn outgoing(
        &self,
        row: &SourceRow,
        last: Option<&Appended>,
        read_at: DateTime<Utc>,
        limit: usize,
    ) -> Outgoing {
        let held = self.newer_than.get(&row.key).map_or(i64::MIN, |held| held.saturating_add(1));
        let versao =
            last.map_or(i64::MIN, |last| last.versao.saturating_add(1)).max(micros(read_at)).max(held);
        let appended = Appended { entity: row.key.clone(), event: row.event_id, versao, removed: false };
        let (event, misfits) = row.event(read_at, versao);
        let record = event_record(&event, self.id);
        let (record, letter) = if record.size() > limit {
            let letter = dead_letters::from_large_row(row, record.size(), limit, self.id, Utc::now());
            (letter, Some(dead_letters::row_letter_id(self.table, &row.json)))
        } else {
            (record, None)
        };
        Outgoing { record, appended, modified: row.modified, misfits, letter }
    }

    fn parked_row(&self, row: &Json, error: &crate::domain::RowError, limit: usize) -> Outgoing {
        let letter = dead_letters::row_letter_id(self.table, row);
        Outgoing {
            record: dead_letters::from_row(self.table, row, error, self.id, limit, Utc::now()),
            appended: Appended { entity: letter.to_string(), event: letter, versao: 0, removed: false },
            modified: None,
            misfits: Vec::new(),
            letter: Some(letter),
        }
    }

    /// Returns once the log has acknowledged every letter.
    async fn park(&self, letters: Vec<(NewRecord, Option<ParkedEntity>)>) -> Result<(), Fault> {
        if letters.is_empty() {
            return Ok(());
        }
        let (records, parked): (Vec<NewRecord>, Vec<Option<ParkedEntity>>) = letters.into_iter().unzip();
        let count = records.len();
        let positions = self.log.append(Topic::DeadLetters, records).await?;
        warn!(sync_id = %self.id, table = %self.table, count, "source rows parked as dead letters");
        let noted: Vec<ParkedEntity> = parked
            .into_iter()
            .zip(positions)
            .filter_map(|(parked, at)| {
                Some(ParkedEntity { partition: at.partition, offset: at.offset, ..parked? })
            })
            .collect();
        self.store.note_parked(&self.log_id, &noted).await
    }
}

/// Records in pieces that a log takes in one go.
pub(super) fn by_bytes(records: Vec<NewRecord>) -> Vec<Vec<NewRecord>> {
    let mut pieces: Vec<Vec<NewRecord>> = Vec::new();
    let mut bytes = usize::MAX;
    for record in records {
        let size = record.size();
        match pieces.last_mut() {
            Some(piece) if bytes + size <= MAX_APPEND_BYTES => {
                bytes += size;
                piece.push(record);
            }
            _ => {
                bytes = size;
                pieces.push(vec![record]);
            }
        }
    }
    pieces
}

fn told(misfits: &Misfits) -> Vec<ColumnMisfits> {
    misfits
        .iter()
        .map(|((column, kind), values)| ColumnMisfits {
            column: (*column).to_owned(),
            values: *values,
            expected: kind.plural().to_owned(),
        })
        .collect()
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
        key: Bytes::from(event.entidade.id.clone()),
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
pub fn check(table: Table, request: &SyncRequest) -> Result<(), (&'static str, String)> {
    const MAX_EVENTS: u32 = 1_000_000;
    if request.hours_ago == 0 || request.hours_ago > MAX_HOURS {
        return Err((
            "hours_ago",
            format!("{} is out of range; give 1 to {MAX_HOURS} hours", request.hours_ago),
        ));
    }
    if request.limit == 0 || request.limit > MAX_EVENTS {
        return Err(("limit", format!("{} is out of range; give 1 to {MAX_EVENTS} events", request.limit)));
    }
    for condition in &request.conditions {
        let column = table.definition().column(&condition.column);
        if column.is_none() && condition.column != table.key.column {
            let known: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            return Err((
                "filter",
                format!("{table} has no column '{}'; it has {}", condition.column, known.join(", ")),
            ));
        }
        if condition.value.trim().is_empty() {
            return Err(("filter", format!("the value of '{}' is empty; leave it out", condition.column)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Catalog;

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
    fn large_records_are_appended_in_pieces() {
        let record =
            |bytes| NewRecord { key: Bytes::new(), value: Bytes::from(vec![0; bytes]), headers: Vec::new() };
        let records = vec![record(1), record(MAX_APPEND_BYTES), record(1), record(1)];
        let sizes: Vec<usize> = by_bytes(records).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 2]);
    }

    #[test]
    fn a_request_out_of_range_names_the_field_and_the_range() {
        let leads = Catalog::built_in().get("leads").expect("leads");
        let mut request = SyncRequest {
            table: leads.into(),
            hours_ago: 0,
            limit: 1,
            conditions: Vec::new(),
            resume: false,
            reappend: false,
            reconcile: None,
        };
        let (field, problem) = check(leads, &request).expect_err("zero hours");
        assert_eq!(field, "hours_ago");
        assert!(problem.contains("1 to"), "{problem}");
        request.hours_ago = 1;
        request.conditions.push(crate::source::Condition {
            column: "statuss".into(),
            compare: crate::domain::Compare::Eq,
            value: "novo".into(),
        });
        let (field, problem) = check(leads, &request).expect_err("no such column");
        assert!(field == "filter" && problem.contains("'statuss'"), "{problem}");
    }
}
