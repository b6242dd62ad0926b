//! Syncs as remembered, and the lease that lets one sync of a table run at a time.
//!
//! Only one process writes the file, so a lease is a lock in that process; a sync that counts as running without
//! one is of a process that ended.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, types::Type};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{PART, rows::instant};
use crate::{
    domain::{ErasureLedger, TableName},
    embedded::EmbeddedDb,
    fault::Fault,
    store::{
        AHEAD, Appended, Control, Coverage, INTERRUPTED, NewSync, SyncEnd, SyncFilter, SyncLease,
        SyncProgress, SyncRecord, SyncState, lost_lease,
    },
};

const COLUMNS: &str =
    "id, request, state, progress, log, owner, started_at, finished_at, error, cancel_requested, drained";

/// The sync that has each table's lease. Entered before the sync's row is written and left after the row says how
/// it ended, so a running row of a sync that is not here belongs to nobody.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<TableName, Uuid>>>);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<TableName, Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, id: Uuid) -> bool {
        self.lock().values().any(|held| *held == id)
    }
}

pub(super) struct SqliteLease {
    db: Arc<EmbeddedDb>,
    leases: Leases,
    id: Uuid,
    table: TableName,
    log: String,
}

impl SqliteLease {
    /// Takes the table's lease, unless another sync has it.
    pub(super) fn take(db: Arc<EmbeddedDb>, leases: &Leases, new: &NewSync) -> Option<Self> {
        let table = new.request.table.clone();
        let mut held = leases.lock();
        if held.contains_key(&table) {
            return None;
        }
        held.insert(table.clone(), new.id);
        Some(Self { db, leases: leases.clone(), id: new.id, table, log: new.log.clone() })
    }
}

impl Drop for SqliteLease {
    /// Finished or not, the table is free.
    fn drop(&mut self) {
        self.leases.lock().remove(&self.table);
    }
}

/// A sync's id is there already.
pub(super) struct UsedId;

/// Marks what earlier processes left running, and writes the new sync.
pub(super) fn register(
    db: &Transaction<'_>,
    leases: &Leases,
    new: &NewSync,
) -> rusqlite::Result<Result<(), UsedId>> {
    interrupt(db, leases)?;
    let written = db.execute(
        "INSERT INTO sluice_syncs (id, table_name, log, request, state, progress, owner, started_at)
         VALUES (?, ?, ?, ?, 'running', ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        params![
            new.id.to_string(),
            new.request.table.0,
            new.log,
            json(&new.request),
            json(&SyncProgress::default()),
            new.owner,
            instant(Utc::now())
        ],
    )?;
    Ok(if written == 1 { Ok(()) } else { Err(UsedId) })
}

/// The syncs that count as running although nobody has their lease.
pub(super) fn left_running(db: &Connection, leases: &Leases) -> rusqlite::Result<Vec<Uuid>> {
    let mut statement = db.prepare_cached("SELECT id FROM sluice_syncs WHERE state = 'running'")?;
    let running: Vec<Uuid> =
        statement.query_map([], |row| parsed(row, 0))?.collect::<rusqlite::Result<_>>()?;
    Ok(running.into_iter().filter(|id| !leases.holds(*id)).collect())
}

/// Marks them.
pub(super) fn interrupt(db: &Transaction<'_>, leases: &Leases) -> rusqlite::Result<()> {
    for id in left_running(db, leases)? {
        db.execute(
            "UPDATE sluice_syncs SET state = 'interrupted', finished_at = ?2, error = ?3 WHERE id = ?1",
            params![id.to_string(), instant(Utc::now()), INTERRUPTED],
        )?;
    }
    Ok(())
}

/// The syncs to be shown as interrupted, where this process is the one that writes: what others run is theirs to tell.
///
/// One that ends meanwhile may be among them: its row has left the state `running` when it is read after this.
fn left(db: &Connection, leases: Option<&Leases>) -> rusqlite::Result<Vec<Uuid>> {
    leases.map_or(Ok(Vec::new()), |leases| left_running(db, leases))
}

fn shown(mut record: SyncRecord, left: &[Uuid]) -> SyncRecord {
    if record.state == SyncState::Running && left.contains(&record.id) {
        record.state = SyncState::Interrupted;
        record.error = Some(INTERRUPTED.to_owned());
    }
    record
}

pub(super) fn by_id(
    db: &Connection,
    leases: Option<&Leases>,
    id: Uuid,
) -> rusqlite::Result<Option<SyncRecord>> {
    let left = left(db, leases)?;
    let sql = format!("SELECT {COLUMNS} FROM sluice_syncs WHERE id = ?");
    let read = db.prepare_cached(&sql)?.query_row([id.to_string()], record).optional()?;
    Ok(read.map(|read| shown(read, &left)))
}

/// As the store's `latest_syncs`.
pub(super) fn latest(
    db: &Connection,
    leases: Option<&Leases>,
    tables: &[TableName],
) -> rusqlite::Result<Vec<SyncRecord>> {
    let mut latest: Vec<SyncRecord> = Vec::new();
    for table in tables {
        let filter = SyncFilter { table: Some(table.clone()), limit: 1, ..SyncFilter::default() };
        let wanted = [
            SyncFilter { state: Some(SyncState::Succeeded), ..filter.clone() },
            SyncFilter { state: Some(SyncState::Succeeded), only_reconciliations: true, ..filter.clone() },
            SyncFilter { only_reconciliations: true, limit: 2, ..filter.clone() },
            SyncFilter { limit: 2, ..filter },
        ];
        for filter in &wanted {
            let find = |until| -> rusqlite::Result<Option<SyncRecord>> {
                let found = listed(db, leases, &SyncFilter { until, ..filter.clone() })?;
                // At most one of a table runs.
                Ok(found.into_iter().find(|record| record.state != SyncState::Running))
            };
            let found = match find(Some(Utc::now() + AHEAD))? {
                None => find(None)?,
                found => found,
            };
            latest.extend(found.filter(|found| latest.iter().all(|known| known.id != found.id)));
        }
    }
    Ok(latest)
}

pub(super) fn running(db: &Connection, table: &TableName) -> rusqlite::Result<Option<SyncRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM sluice_syncs WHERE table_name = ? AND state = 'running'");
    db.prepare_cached(&sql)?.query_row([&table.0], record).optional()
}

pub(super) fn listed(
    db: &Connection,
    leases: Option<&Leases>,
    filter: &SyncFilter,
) -> rusqlite::Result<Vec<SyncRecord>> {
    let left = left(db, leases)?;
    let sql = format!(
        "SELECT {COLUMNS} FROM sluice_syncs
         WHERE (?1 IS NULL OR table_name = ?1)
             AND (?2 IS NULL OR ?2 = CASE WHEN state = 'running' AND id IN (SELECT value FROM json_each(?6))
                                          THEN 'interrupted' ELSE state END)
             AND (?3 IS NULL
                  OR (started_at, id) < (SELECT c.started_at, c.id FROM sluice_syncs AS c WHERE c.id = ?3))
             AND (NOT ?5 OR json_extract(request, '$.reconcile') IS NOT NULL)
             AND (?7 IS NULL OR started_at <= ?7)
         ORDER BY started_at DESC, id DESC LIMIT ?4"
    );
    let state = filter.state.map(SyncState::as_str);
    let before = filter.before.map(|id| id.to_string());
    let mut statement = db.prepare_cached(&sql)?;
    let read = statement.query_map(
        params![
            filter.table.as_ref().map(|table| &table.0),
            state,
            before,
            filter.limit,
            filter.only_reconciliations,
            json(&left),
            filter.until.map(instant)
        ],
        record,
    )?;
    read.map(|read| Ok(shown(read?, &left))).collect()
}

pub(super) fn undrained(db: &Connection, limit: u32) -> rusqlite::Result<Vec<SyncRecord>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM sluice_syncs WHERE state <> 'running' AND NOT drained
         ORDER BY started_at DESC LIMIT ?"
    );
    db.prepare_cached(&sql)?.query_map([limit], record)?.collect()
}

pub(super) fn coverage(db: &Connection, table: &str, log: &str) -> rusqlite::Result<Option<Coverage>> {
    db.query_row(
        "SELECT covered_from, covered_to FROM sluice_coverage WHERE log = ? AND table_name = ?",
        params![log, table],
        |row| Ok(Coverage { from: time(row, 0)?, to: time(row, 1)? }),
    )
    .optional()
}

#[async_trait]
impl SyncLease for SqliteLease {
    async fn last_appended(&mut self, entities: &[String]) -> Result<HashMap<String, Appended>, Fault> {
        let (entities, log, table) = (entities.to_vec(), self.log.clone(), self.table.clone());
        self.db
            .read("looking for what was appended", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT event, versao, removed FROM sluice_appended WHERE log = ? AND table_name = ? AND entity = ?",
                )?;
                let mut known = HashMap::new();
                for entity in &entities {
                    let found = statement
                        .query_row(params![log, table.0, entity], |row| {
                            Ok((parsed(row, 0)?, row.get(1)?, row.get(2)?))
                        })
                        .optional()?;
                    if let Some((event, versao, removed)) = found {
                        let appended = Appended { entity: entity.clone(), event, versao, removed };
                        known.insert(entity.clone(), appended);
                    }
                }
                Ok(known)
            })
            .await
    }

    async fn checkpoint(&mut self, progress: &SyncProgress, appended: &[Appended]) -> Result<Control, Fault> {
        let (appended, progress) = (appended.to_vec(), progress.clone());
        let (id, log, table) = (self.id, self.log.clone(), self.table.clone());
        self.db
            .write_or_abort("writing a sync's progress", move |db| {
                let progress = without_erased_keys(db, &table, &progress)?;
                let cancel: Option<bool> = db
                    .query_row(
                        "UPDATE sluice_syncs SET progress = ? WHERE id = ? AND state = 'running'
                         RETURNING cancel_requested",
                        params![json(&progress), id.to_string()],
                        |row| row.get(0),
                    )
                    .optional()?;
                let Some(cancel) = cancel else { return Ok(Err(lost_lease(PART, &table))) };
                let mut remember = db.prepare_cached(
                    "INSERT INTO sluice_appended (log, table_name, entity, event, versao, removed)
                     VALUES (?, ?, ?, ?, ?, ?)
                     ON CONFLICT (log, table_name, entity)
                     DO UPDATE SET event = excluded.event, versao = excluded.versao, removed = excluded.removed",
                )?;
                for row in &appended {
                    remember.execute(params![
                        log,
                        table.0,
                        row.entity,
                        row.event.to_string(),
                        row.versao,
                        row.removed
                    ])?;
                }
                Ok(Ok(if cancel { Control::Cancel } else { Control::GoOn }))
            })
            .await?
    }

    async fn finish(self: Box<Self>, end: SyncEnd) -> Result<(), Fault> {
        let (id, log, table) = (self.id, self.log.clone(), self.table.clone());
        self
            .db
            .write_or_abort("writing a sync's end", move |db| {
                let progress = without_erased_keys(db, &table, &end.progress)?;
                let ended = db.execute(
                    "UPDATE sluice_syncs SET state = ?, progress = ?, error = ?, finished_at = ?
                     WHERE id = ? AND state = 'running'",
                    params![
                        end.state.as_str(),
                        json(&progress),
                        end.error,
                        instant(Utc::now()),
                        id.to_string()
                    ],
                )?;
                if ended == 0 {
                    return Ok(Err(lost_lease(PART, &table)));
                }
                if let Some(coverage) = end.coverage {
                    db.execute(
                        "INSERT INTO sluice_coverage (log, table_name, covered_from, covered_to) VALUES (?, ?, ?, ?)
                         ON CONFLICT (log, table_name)
                         DO UPDATE SET covered_from = excluded.covered_from, covered_to = excluded.covered_to",
                        params![log, table.0, instant(coverage.from), instant(coverage.to)],
                    )?;
                }
                Ok(Ok(()))
            })
            .await?
    }
}

/// What is written of a sync. A reconciliation names keys, and may hold some from before they were erased.
fn without_erased_keys(
    db: &Connection,
    table: &TableName,
    progress: &SyncProgress,
) -> rusqlite::Result<SyncProgress> {
    let mut progress = progress.clone();
    if let Some(report) = progress.reconcile.as_mut().filter(|report| !report.differences.is_empty()) {
        let salt: Vec<u8> = db.query_row("SELECT salt FROM sluice_erasure", [], |row| row.get(0))?;
        let mut erased = db.prepare_cached("SELECT 1 FROM sluice_erased WHERE digest = ?")?;
        let mut kept = Vec::new();
        for difference in mem::take(&mut report.differences) {
            if !erased.exists([ErasureLedger::digest(&salt, &table.0, &difference.key)])? {
                kept.push(difference);
            }
        }
        report.differences = kept;
    }
    Ok(progress)
}

fn record(row: &Row<'_>) -> rusqlite::Result<SyncRecord> {
    let state: String = row.get(2)?;
    let finished_at: Option<String> = row.get(7)?;
    Ok(SyncRecord {
        id: parsed(row, 0)?,
        request: from_json(row, 1)?,
        state: SyncState::from_name(&state).unwrap_or(SyncState::Interrupted),
        progress: from_json(row, 3)?,
        log: row.get(4)?,
        owner: row.get(5)?,
        started_at: time(row, 6)?,
        finished_at: finished_at.map(|_| time(row, 7)).transpose()?,
        error: row.get(8)?,
        cancel_requested: row.get(9)?,
        drained: row.get(10)?,
    })
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

pub(super) fn parsed(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(column)?;
    Uuid::parse_str(&text).map_err(|error| unreadable(column, error))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<DateTime<Utc>> {
    let text: String = row.get(column)?;
    DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc()).map_err(|error| unreadable(column, error))
}

pub(super) fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
