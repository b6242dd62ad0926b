//! Syncs as remembered, and the lease that lets one process at a time sync a table.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{PART, PgStore, faults::fault};
use crate::{
    domain::Table,
    fault::Fault,
    store::{
        Appended, Begun, Control, Coverage, NewSync, SyncEnd, SyncLease, SyncProgress, SyncRecord,
        SyncRequest, SyncState,
    },
};

/// First half of the advisory lock's key ("slui"); the second is the table. Must never change.
const LOCK_CLASS: i32 = 0x736c_7569;

/// True where somebody holds the lease of the table that row `s` is about.
const LEASE_IS_HELD: &str = "EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid::bigint = $1 AND l.objid::bigint = CASE s.table_name WHEN 'leads' THEN 1 ELSE 2 END)";

const COLUMNS: &str =
    "id, request, state, progress, log, owner, started_at, finished_at, error, cancel_requested";

fn lock_key(table: Table) -> i32 {
    match table {
        Table::Leads => 1,
        Table::ChatSessions => 2,
    }
}

impl PgStore {
    pub(super) async fn begin(&self, new: NewSync) -> Result<Begun, Fault> {
        let table = new.request.table;
        let what = format!("taking the lease of {table}");
        let options = self.options.clone().application_name(&format!("sluice sync {table}"));
        let connecting = tokio::time::timeout(self.timeout, PgConnection::connect_with(&options));
        let mut connection = connecting
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(|error| fault(&what, error))?;
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(LOCK_CLASS)
            .bind(lock_key(table))
            .fetch_one(&mut connection)
            .await
            .map_err(|error| fault(&what, error))?;
        if !taken {
            let running = self.running(table).await?;
            return Ok(Begun::Busy(running.map(Box::new)));
        }
        let mut lease = PgLease { connection, id: new.id, table, log: new.log.clone() };
        lease.register(&new).await.map_err(|error| fault(&what, error))?;
        let coverage = self.covered(table, &new.log).await?;
        Ok(Begun::Started { lease: Box::new(lease), coverage })
    }

    async fn running(&self, table: Table) -> Result<Option<SyncRecord>, Fault> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sluice_syncs WHERE table_name = $1 AND state = 'running'
             ORDER BY started_at DESC LIMIT 1"
        );
        let row = sqlx::query(&sql).bind(table.name()).fetch_optional(&self.pool).await;
        row.map_err(|error| fault("reading the running sync", error))?.map(|row| record(&row)).transpose()
    }

    pub(super) async fn sync_by_id(&self, id: Uuid) -> Result<Option<SyncRecord>, Fault> {
        let what = format!("reading sync {id}");
        self.mark_interrupted(&what).await?;
        let sql = format!("SELECT {COLUMNS} FROM sluice_syncs WHERE id = $1");
        let row = sqlx::query(&sql).bind(id).fetch_optional(&self.pool).await;
        row.map_err(|error| fault(&what, error))?.map(|row| record(&row)).transpose()
    }

    pub(super) async fn latest_syncs(&self, limit: u32) -> Result<Vec<SyncRecord>, Fault> {
        let what = "reading the latest syncs";
        self.mark_interrupted(what).await?;
        let sql = format!("SELECT {COLUMNS} FROM sluice_syncs ORDER BY started_at DESC, id DESC LIMIT $1");
        let rows = sqlx::query(&sql).bind(i64::from(limit)).fetch_all(&self.pool).await;
        rows.map_err(|error| fault(what, error))?.iter().map(record).collect()
    }

    /// A row that still says running although nobody holds its table's lease is of a process that ended. The lock
    /// is taken before the row is written and given back after it is updated, so no live sync is ever meant.
    async fn mark_interrupted(&self, what: &str) -> Result<(), Fault> {
        let sql = format!(
            "UPDATE sluice_syncs s SET state = 'interrupted', finished_at = now(),
                 error = 'its process ended before the sync did; start it again, it goes on where it was'
             WHERE s.state = 'running' AND NOT {LEASE_IS_HELD}"
        );
        sqlx::query(&sql)
            .bind(i64::from(LOCK_CLASS))
            .execute(&self.pool)
            .await
            .map_err(|error| fault(what, error))?;
        Ok(())
    }

    pub(super) async fn cancel(&self, id: Uuid) -> Result<bool, Fault> {
        let asked = sqlx::query(
            "UPDATE sluice_syncs SET cancel_requested = true WHERE id = $1 AND state = 'running'",
        )
        .bind(id)
        .execute(&self.pool)
        .await
        .map_err(|error| fault(&format!("cancelling sync {id}"), error))?;
        Ok(asked.rows_affected() == 1)
    }

    pub(super) async fn covered(&self, table: Table, log: &str) -> Result<Option<Coverage>, Fault> {
        let row = sqlx::query(
            "SELECT covered_from, covered_to FROM sluice_coverage WHERE log = $1 AND table_name = $2",
        )
        .bind(log)
        .bind(table.name())
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| fault(&format!("reading the watermark of {table}"), error))?;
        Ok(row.map(|row| Coverage { from: row.get("covered_from"), to: row.get("covered_to") }))
    }
}

fn record(row: &PgRow) -> Result<SyncRecord, Fault> {
    let unreadable = |error| fault("reading a sync", error);
    let Json(request): Json<SyncRequest> = row.try_get("request").map_err(unreadable)?;
    let Json(progress): Json<SyncProgress> = row.try_get("progress").map_err(unreadable)?;
    let state = match row.get::<&str, _>("state") {
        "running" => SyncState::Running,
        "succeeded" => SyncState::Succeeded,
        "failed" => SyncState::Failed,
        "cancelled" => SyncState::Cancelled,
        _ => SyncState::Interrupted,
    };
    Ok(SyncRecord {
        id: row.get("id"),
        request,
        state,
        progress,
        log: row.get("log"),
        owner: row.get("owner"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        error: row.get("error"),
        cancel_requested: row.get("cancel_requested"),
    })
}

fn state_name(state: SyncState) -> &'static str {
    match state {
        SyncState::Running => "running",
        SyncState::Succeeded => "succeeded",
        SyncState::Failed => "failed",
        SyncState::Cancelled => "cancelled",
        SyncState::Interrupted => "interrupted",
    }
}

/// Holds the advisory lock by its connection: dropping it closes the connection, and the server frees the lock.
struct PgLease {
    connection: PgConnection,
    id: Uuid,
    table: Table,
    log: String,
}

impl PgLease {
    async fn register(&mut self, new: &NewSync) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        sqlx::query(
            "UPDATE sluice_syncs SET state = 'interrupted', finished_at = now(),
                 error = 'its process ended before the sync did; a later sync took over'
             WHERE table_name = $1 AND state = 'running'",
        )
        .bind(self.table.name())
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO sluice_syncs (id, table_name, request, state, progress, log, owner)
             VALUES ($1, $2, $3, 'running', $4, $5, $6)",
        )
        .bind(new.id)
        .bind(self.table.name())
        .bind(Json(&new.request))
        .bind(Json(SyncProgress::default()))
        .bind(&new.log)
        .bind(&new.owner)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    fn lost(&self, error: sqlx::Error) -> Fault {
        let inner = fault(&format!("writing the progress of sync {}", self.id), error);
        Fault::new(
            PART,
            inner.kind,
            inner.message,
            "the lease of the table is lost with the connection; start the sync again, it goes on where it was",
        )
    }
}

#[async_trait]
impl SyncLease for PgLease {
    async fn unchanged(&mut self, rows: &[Appended]) -> Result<HashSet<Appended>, Fault> {
        let (entities, events): (Vec<Uuid>, Vec<Uuid>) =
            rows.iter().map(|row| (row.entity, row.event)).unzip();
        let known = sqlx::query(
            "SELECT a.entity, a.event
             FROM unnest($3::uuid[], $4::uuid[]) AS r(entity, event)
             JOIN sluice_appended a ON a.entity = r.entity AND a.event = r.event
             WHERE a.log = $1 AND a.table_name = $2",
        )
        .bind(&self.log)
        .bind(self.table.name())
        .bind(entities)
        .bind(events)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|error| self.lost(error))?;
        Ok(known.iter().map(|row| Appended { entity: row.get("entity"), event: row.get("event") }).collect())
    }

    async fn checkpoint(&mut self, progress: &SyncProgress, appended: &[Appended]) -> Result<Control, Fault> {
        let outcome = self.write_checkpoint(progress, appended).await;
        let cancel = outcome.map_err(|error| self.lost(error))?;
        Ok(if cancel { Control::Cancel } else { Control::GoOn })
    }

    async fn finish(mut self: Box<Self>, end: SyncEnd) -> Result<(), Fault> {
        let outcome = self.write_end(&end).await;
        outcome.map_err(|error| self.lost(error))?;
        // Closing ends the session, and with it the lock; what was written is committed already.
        self.connection.close().await.ok();
        Ok(())
    }
}

impl PgLease {
    async fn write_checkpoint(
        &mut self,
        progress: &SyncProgress,
        appended: &[Appended],
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        if !appended.is_empty() {
            let (entities, events): (Vec<Uuid>, Vec<Uuid>) =
                appended.iter().map(|row| (row.entity, row.event)).unzip();
            sqlx::query(
                "INSERT INTO sluice_appended (log, table_name, entity, event)
                 SELECT $1, $2, r.entity, r.event FROM unnest($3::uuid[], $4::uuid[]) AS r(entity, event)
                 ON CONFLICT (log, table_name, entity) DO UPDATE SET event = excluded.event",
            )
            .bind(&self.log)
            .bind(self.table.name())
            .bind(entities)
            .bind(events)
            .execute(&mut *transaction)
            .await?;
        }
        let cancel: bool = sqlx::query_scalar(
            "UPDATE sluice_syncs SET progress = $2 WHERE id = $1 RETURNING cancel_requested",
        )
        .bind(self.id)
        .bind(Json(progress))
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(cancel)
    }

    async fn write_end(&mut self, end: &SyncEnd) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        sqlx::query(
            "UPDATE sluice_syncs SET state = $2, progress = $3, error = $4, finished_at = now() WHERE id = $1",
        )
        .bind(self.id)
        .bind(state_name(end.state))
        .bind(Json(&end.progress))
        .bind(&end.error)
        .execute(&mut *transaction)
        .await?;
        if let Some(coverage) = end.coverage {
            sqlx::query(
                "INSERT INTO sluice_coverage (log, table_name, covered_from, covered_to) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (log, table_name)
                 DO UPDATE SET covered_from = excluded.covered_from, covered_to = excluded.covered_to",
            )
            .bind(&self.log)
            .bind(self.table.name())
            .bind(coverage.from)
            .bind(coverage.to)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }
}
