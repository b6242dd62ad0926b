//! What is remembered of syncs, seen from outside of them.
//!
//! Guarantee: a sync shown as running runs. Its lease is a session's advisory lock, taken before its row is
//! inserted and kept until after its row has left the state `running`; so a running row without a lock belongs to
//! a process that is gone, and becomes interrupted.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    domain::Table,
    store::{Coverage, INTERRUPTED, SyncFilter, SyncProgress, SyncRecord, SyncRequest, SyncState},
};

/// The first half of every lease's lock: "slui". The second half is the table.
pub(super) const LEASE_CLASS: i32 = 0x736c_7569;

const RECORD: &str = "SELECT id, request, state, progress, log, owner, started_at, finished_at, error, \
                      cancel_requested FROM sluice_syncs";

/// The second half of a lease's lock.
pub(super) fn lease_key(table: Table) -> i32 {
    match table {
        Table::Leads => 1,
        Table::ChatSessions => 2,
    }
}

#[derive(FromRow)]
struct Stored {
    id: Uuid,
    request: Json<SyncRequest>,
    state: String,
    progress: Json<SyncProgress>,
    log: String,
    owner: String,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    error: Option<String>,
    cancel_requested: bool,
}

impl TryFrom<Stored> for SyncRecord {
    type Error = sqlx::Error;

    fn try_from(stored: Stored) -> Result<Self, sqlx::Error> {
        let state = SyncState::from_name(&stored.state)
            .ok_or_else(|| sqlx::Error::Decode("an unknown state of a sync".into()))?;
        Ok(Self {
            id: stored.id,
            request: stored.request.0,
            state,
            progress: stored.progress.0,
            log: stored.log,
            owner: stored.owner,
            started_at: stored.started_at,
            finished_at: stored.finished_at,
            error: stored.error,
            cancel_requested: stored.cancel_requested,
        })
    }
}

pub(super) async fn by_id(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<SyncRecord>, sqlx::Error> {
    mark_interrupted(connection).await?;
    let stored: Option<Stored> =
        sqlx::query_as(&format!("{RECORD} WHERE id = $1")).bind(id).fetch_optional(connection).await?;
    stored.map(SyncRecord::try_from).transpose()
}

pub(super) async fn listed(
    connection: &mut PgConnection,
    filter: &SyncFilter,
) -> Result<Vec<SyncRecord>, sqlx::Error> {
    mark_interrupted(connection).await?;
    let stored: Vec<Stored> = sqlx::query_as(&format!(
        "{RECORD} WHERE ($1::text IS NULL OR table_name = $1) AND ($2::text IS NULL OR state = $2)
             AND ($3::uuid IS NULL
                  OR (started_at, id) < (SELECT c.started_at, c.id FROM sluice_syncs AS c WHERE c.id = $3))
         ORDER BY started_at DESC, id DESC LIMIT $4"
    ))
    .bind(filter.table.map(Table::name))
    .bind(filter.state.map(SyncState::as_str))
    .bind(filter.before)
    .bind(i64::from(filter.limit))
    .fetch_all(connection)
    .await?;
    stored.into_iter().map(SyncRecord::try_from).collect()
}

/// The sync that holds a table's lease; none while it is between taking the lease and saying so, or ending.
pub(super) async fn running(
    connection: &mut PgConnection,
    table: Table,
) -> Result<Option<SyncRecord>, sqlx::Error> {
    let stored: Option<Stored> = sqlx::query_as(&format!(
        "{RECORD} WHERE table_name = $1 AND state = 'running' ORDER BY started_at DESC LIMIT 1"
    ))
    .bind(table.name())
    .fetch_optional(connection)
    .await?;
    stored.map(SyncRecord::try_from).transpose()
}

pub(super) async fn request_cancel(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    mark_interrupted(connection).await?;
    let asked =
        sqlx::query("UPDATE sluice_syncs SET cancel_requested = true WHERE id = $1 AND state = 'running'")
            .bind(id)
            .execute(connection)
            .await?;
    Ok(asked.rows_affected() > 0)
}

pub(super) async fn coverage(
    connection: &mut PgConnection,
    table: Table,
    log: &str,
) -> Result<Option<Coverage>, sqlx::Error> {
    let covered: Option<(DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
        "SELECT covered_from, covered_to FROM sluice_coverage WHERE log = $1 AND table_name = $2",
    )
    .bind(log)
    .bind(table.name())
    .fetch_optional(connection)
    .await?;
    Ok(covered.map(|(from, to)| Coverage { from, to }))
}

/// Marks the syncs whose lease nobody holds.
///
/// A sync that ends meanwhile is safe: the locks are read after the rows, and a row that was changed since is
/// looked at again before it is updated.
async fn mark_interrupted(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let (keys, names): (Vec<i32>, Vec<&str>) =
        Table::ALL.into_iter().map(|table| (lease_key(table), table.name())).unzip();
    sqlx::query(
        "UPDATE sluice_syncs AS s SET state = 'interrupted', finished_at = now(), error = $1
         FROM unnest($2::int4[], $3::text[]) AS leases(key, name)
         WHERE s.state = 'running' AND s.table_name = leases.name AND NOT EXISTS (
             SELECT FROM pg_locks AS l
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND l.classid = $4::int4::oid AND l.objid = leases.key::oid
         )",
    )
    .bind(INTERRUPTED)
    .bind(&keys)
    .bind(&names)
    .bind(LEASE_CLASS)
    .execute(connection)
    .await?;
    Ok(())
}
