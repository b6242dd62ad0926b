//! The lease on a table: one session, its advisory lock, and everything a running sync writes.
//!
//! Guarantee: at most one sync of a table runs, whatever the number of processes. The lock belongs to the session
//! and everything is written over it, so a lease that is lost can't write, and one that is dropped, or whose
//! process dies, is free as soon as the server sees the session end. This needs sessions: a pooler that hands a
//! server's sessions around (transaction pooling) can't stand in between.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, PgTransaction, error::DatabaseError, types::Json};
use uuid::Uuid;

use super::{
    connection::{Connector, bounded},
    erasures::without_erased_keys,
    faults::{self, PART},
    syncs::{self, lease_lock},
};
use crate::{
    domain::TableName,
    fault::Fault,
    store::{
        Appended, Begun, Control, Coverage, INTERRUPTED, NewSync, SyncEnd, SyncLease, SyncProgress,
        lost_lease, used_id,
    },
};

/// `OFFSET 0` keeps the look-up from being turned into a join.
const LAST_APPENDED: &str =
    "SELECT a.entity, a.event, a.versao, a.removed FROM unnest($3::text[]) AS r(entity)
    CROSS JOIN LATERAL (
        SELECT entity, event, versao, removed FROM sluice_appended
        WHERE log = $1 AND table_name = $2 AND entity = r.entity OFFSET 0
    ) AS a";

/// How often it is looked whether an erasure is over.
const ERASURE_PAUSE: Duration = Duration::from_millis(100);

/// What came of writing to a sync's row.
enum Written<T> {
    Done(T),
    /// The sync does not count as running any more.
    NotRunning,
    /// Somebody is being erased whom it may name: nothing was written.
    Waits,
}

struct PgLease {
    /// Never returned to a pool: closing it is what gives the lock back. Gone once a call over it was given up
    /// on, since nobody knows what it would answer next.
    session: Option<PgConnection>,
    timeout: Duration,
    sync: Uuid,
    table: TableName,
    log: String,
}

/// Takes the table's lease, or tells who has it.
pub(super) async fn begin(connector: &Connector, new: NewSync) -> Result<Begun, Fault> {
    let table = new.request.table.clone();
    let attempt = format!("begin a sync of {table}");
    let mut session = connector.dedicated(&format!("sluice sync {table}"), connector.timeout()).await?;
    connector
        .bounded(&attempt, async {
            let to_fault = |error| begin_fault(&attempt, &table, &error);
            if !try_lock(&mut session, &table).await.map_err(to_fault)? {
                let running = syncs::running(&mut session, &table).await.map_err(to_fault)?;
                // A courtesy to the server; if it fails the session ends all the same.
                let _ = session.close().await;
                return Ok(Begun::Busy(running.map(Box::new)));
            }
            let coverage = record(&mut session, &new).await.map_err(to_fault)?;
            let timeout = connector.timeout();
            let lease =
                PgLease { session: Some(session), timeout, sync: new.id, table: table.clone(), log: new.log };
            Ok(Begun::Started { lease: Box::new(lease), coverage })
        })
        .await
}

async fn try_lock(session: &mut PgConnection, table: &TableName) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(&format!("SELECT pg_try_advisory_lock({})", lease_lock("$1")))
        .bind(&table.0)
        .fetch_one(session)
        .await
}

/// Says in the table of syncs that this one runs, and that those still said to run don't.
async fn record(session: &mut PgConnection, new: &NewSync) -> Result<Option<Coverage>, sqlx::Error> {
    let table = &new.request.table.0;
    let mut transaction = session.begin().await?;
    sqlx::query(
        "UPDATE sluice_syncs SET state = 'interrupted', finished_at = now(), error = $2
         WHERE table_name = $1 AND state = 'running'",
    )
    .bind(table)
    .bind(INTERRUPTED)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "INSERT INTO sluice_syncs (id, table_name, log, request, state, progress, owner)
         VALUES ($1, $2, $3, $4, 'running', $5, $6)",
    )
    .bind(new.id)
    .bind(table)
    .bind(&new.log)
    .bind(Json(&new.request))
    .bind(Json(SyncProgress::default()))
    .bind(&new.owner)
    .execute(&mut *transaction)
    .await?;
    let coverage = syncs::coverage(&mut transaction, table, &new.log).await?;
    transaction.commit().await?;
    Ok(coverage)
}

#[async_trait]
impl SyncLease for PgLease {
    async fn last_appended(&mut self, entities: &[String]) -> Result<HashMap<String, Appended>, Fault> {
        let call = async {
            let mut session = self.session.take().ok_or_else(|| lost(&self.table))?;
            let outcome = last_appended(&mut session, &self.log, &self.table, entities).await;
            self.session = Some(session);
            outcome.map_err(|error| lease_fault(&self.table, &error))
        };
        bounded(self.timeout, "compare rows", call).await
    }

    async fn checkpoint(&mut self, progress: &SyncProgress, appended: &[Appended]) -> Result<Control, Fault> {
        loop {
            let call = async {
                let mut session = self.session.take().ok_or_else(|| lost(&self.table))?;
                let outcome =
                    checkpoint(&mut session, self.sync, &self.log, &self.table, progress, appended).await;
                self.session = Some(session);
                outcome.map_err(|error| lease_fault(&self.table, &error))
            };
            match bounded(self.timeout, "checkpoint a sync", call).await? {
                Written::Done(control) => return Ok(control),
                Written::NotRunning => return Err(lost(&self.table)),
                Written::Waits => tokio::time::sleep(ERASURE_PAUSE).await,
            }
        }
    }

    async fn finish(self: Box<Self>, end: SyncEnd) -> Result<(), Fault> {
        let Self { mut session, timeout, sync, table, log } = *self;
        loop {
            let call = async {
                let mut held = session.take().ok_or_else(|| lost(&table))?;
                let ended = finish(&mut held, sync, &log, &table, &end).await;
                match ended.map_err(|error| lease_fault(&table, &error))? {
                    Written::Done(()) => release(held, &table).await,
                    Written::NotRunning => return Err(lost(&table)),
                    Written::Waits => session = Some(held),
                }
                Ok::<_, Fault>(())
            };
            bounded(timeout, "finish a sync", call).await?;
            if session.is_none() {
                return Ok(());
            }
            tokio::time::sleep(ERASURE_PAUSE).await;
        }
    }
}

/// One look-up an entity, whatever the server thinks of the table: it knows nothing of one that grows under it, and
/// a join would read all that is remembered.
async fn last_appended(
    session: &mut PgConnection,
    log: &str,
    table: &TableName,
    entities: &[String],
) -> Result<HashMap<String, Appended>, sqlx::Error> {
    let known: Vec<(String, Uuid, i64, bool)> =
        sqlx::query_as(LAST_APPENDED).bind(log).bind(&table.0).bind(entities).fetch_all(session).await?;
    let appended = |(entity, event, versao, removed): (String, Uuid, i64, bool)| {
        (entity.clone(), Appended { entity, event, versao, removed })
    };
    Ok(known.into_iter().map(appended).collect())
}

async fn checkpoint(
    session: &mut PgConnection,
    sync: Uuid,
    log: &str,
    table: &TableName,
    progress: &SyncProgress,
    appended: &[Appended],
) -> Result<Written<Control>, sqlx::Error> {
    let mut transaction = session.begin().await?;
    let Some(progress) = without_erased_keys(&mut transaction, table, progress).await? else {
        return Ok(Written::Waits);
    };
    let cancel: Option<bool> = sqlx::query_scalar(
        "UPDATE sluice_syncs SET progress = $2 WHERE id = $1 AND state = 'running' RETURNING cancel_requested",
    )
    .bind(sync)
    .bind(Json(&progress))
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(cancel) = cancel else { return Ok(Written::NotRunning) };
    remember(&mut transaction, log, table, appended).await?;
    transaction.commit().await?;
    Ok(Written::Done(if cancel { Control::Cancel } else { Control::GoOn }))
}

async fn finish(
    session: &mut PgConnection,
    sync: Uuid,
    log: &str,
    table: &TableName,
    end: &SyncEnd,
) -> Result<Written<()>, sqlx::Error> {
    let mut transaction = session.begin().await?;
    let Some(progress) = without_erased_keys(&mut transaction, table, &end.progress).await? else {
        return Ok(Written::Waits);
    };
    let finished = sqlx::query(
        "UPDATE sluice_syncs SET state = $2, progress = $3, error = $4, finished_at = now()
         WHERE id = $1 AND state = 'running'",
    )
    .bind(sync)
    .bind(end.state.as_str())
    .bind(Json(&progress))
    // A text may hold anything but this.
    .bind(end.error.as_ref().map(|error| error.replace('\0', "")))
    .execute(&mut *transaction)
    .await?;
    if finished.rows_affected() == 0 {
        return Ok(Written::NotRunning);
    }
    if let Some(coverage) = end.coverage {
        cover(&mut transaction, log, table, coverage).await?;
    }
    transaction.commit().await?;
    Ok(Written::Done(()))
}

/// The end of the sync is committed: the lock is free when the session ends, whether these calls succeed or not.
async fn release(mut session: PgConnection, table: &TableName) {
    let _ = sqlx::query(&format!("SELECT pg_advisory_unlock({})", lease_lock("$1")))
        .bind(&table.0)
        .execute(&mut session)
        .await;
    let _ = session.close().await;
}

async fn remember(
    transaction: &mut PgTransaction<'_>,
    log: &str,
    table: &TableName,
    appended: &[Appended],
) -> Result<(), sqlx::Error> {
    // Sorted, and each entity once with its last event: a statement can't meet a row twice.
    let newest: BTreeMap<&str, &Appended> = appended.iter().map(|one| (one.entity.as_str(), one)).collect();
    if newest.is_empty() {
        return Ok(());
    }
    let events: Vec<Uuid> = newest.values().map(|one| one.event).collect();
    let versions: Vec<i64> = newest.values().map(|one| one.versao).collect();
    let removed: Vec<bool> = newest.values().map(|one| one.removed).collect();
    let entities: Vec<&str> = newest.into_keys().collect();
    sqlx::query(
        "INSERT INTO sluice_appended AS a (log, table_name, entity, event, versao, removed)
         SELECT $1, $2, r.* FROM unnest($3::text[], $4::uuid[], $5::int8[], $6::bool[])
             AS r(entity, event, versao, removed)
         ON CONFLICT (log, table_name, entity) DO UPDATE
         SET event = excluded.event, versao = excluded.versao, removed = excluded.removed
         WHERE (a.event, a.versao, a.removed) <> (excluded.event, excluded.versao, excluded.removed)",
    )
    .bind(log)
    .bind(&table.0)
    .bind(&entities)
    .bind(&events)
    .bind(&versions)
    .bind(&removed)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn cover(
    transaction: &mut PgTransaction<'_>,
    log: &str,
    table: &TableName,
    coverage: Coverage,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sluice_coverage (log, table_name, covered_from, covered_to) VALUES ($1, $2, $3, $4)
         ON CONFLICT (log, table_name) DO UPDATE
         SET covered_from = excluded.covered_from, covered_to = excluded.covered_to",
    )
    .bind(log)
    .bind(&table.0)
    .bind(coverage.from)
    .bind(coverage.to)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// An id that is there already is the caller's mistake; everything else is the table's to judge.
fn begin_fault(attempt: &str, table: &TableName, error: &sqlx::Error) -> Fault {
    if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) {
        return used_id(PART, table);
    }
    faults::fault(attempt, error)
}

/// Over this session a broken connection means more than elsewhere: the lock is gone with it.
fn lease_fault(table: &TableName, error: &sqlx::Error) -> Fault {
    let fault = faults::fault(&format!("sync {table}"), error);
    let session_ended = match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // Terminated, or the server is going down.
        sqlx::Error::Database(database) => database.code().is_some_and(|code| code.starts_with("57P0")),
        _ => false,
    };
    if session_ended {
        Fault { message: format!("{}; {}", lost(table).message, fault.message), ..fault }
    } else {
        fault
    }
}

fn lost(table: &TableName) -> Fault {
    lost_lease(PART, table)
}
