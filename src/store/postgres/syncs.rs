//! What is remembered of syncs, seen from outside of them.
//!
//! Guarantee: a sync shown as running runs. Its lease is a session's advisory lock, taken before its row is
//! inserted and kept until after its row has left the state `running`; so a running row without a lock belongs to
//! a process that is gone. It is shown as interrupted, and the table's next sync writes it down: whoever only looks writes
//! nothing.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    domain::TableName,
    store::{AHEAD, Coverage, INTERRUPTED, SyncFilter, SyncProgress, SyncRecord, SyncRequest, SyncState},
};

/// The advisory lock that is a table's lease, given an expression for the table's name: one for each of the database's
/// schemas, which may each hold a store.
pub(super) fn lease_lock(table: &str) -> String {
    format!("hashtextextended('sluice sync ' || current_schema() || ' ' || {table}, 0)")
}

const RECORD: &str = "SELECT id, request, state, progress, log, owner, started_at, finished_at, error, \
                      cancel_requested, drained FROM sluice_syncs";

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
    drained: bool,
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
            drained: stored.drained,
        })
    }
}

/// As [`RECORD`], with the state of a sync that nobody holds the lease of; takes the ids of those as the first parameter.
const SHOWN: &str = "SELECT id, request, CASE WHEN state = 'running' AND id = ANY($1) THEN 'interrupted' ELSE state END AS state, \
                     progress, log, owner, started_at, finished_at, \
                     CASE WHEN state = 'running' AND id = ANY($1) THEN $2 ELSE error END AS error, cancel_requested, drained \
                     FROM sluice_syncs";

pub(super) async fn by_id(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<SyncRecord>, sqlx::Error> {
    let left = left_running(connection).await?;
    let stored: Option<Stored> = sqlx::query_as(&format!("{SHOWN} WHERE id = $3"))
        .bind(&left)
        .bind(INTERRUPTED)
        .bind(id)
        .fetch_optional(connection)
        .await?;
    stored.map(SyncRecord::try_from).transpose()
}

pub(super) async fn listed(
    connection: &mut PgConnection,
    filter: &SyncFilter,
) -> Result<Vec<SyncRecord>, sqlx::Error> {
    let left = left_running(connection).await?;
    let stored: Vec<Stored> = sqlx::query_as(&format!(
        "SELECT * FROM ({SHOWN}
         WHERE ($3::text IS NULL OR table_name = $3)
             AND ($4::uuid IS NULL
                  OR (started_at, id) < (SELECT c.started_at, c.id FROM sluice_syncs AS c WHERE c.id = $4))
             AND (NOT $5 OR request ? 'reconcile')
             AND ($8::timestamptz IS NULL OR started_at <= $8)
         ) AS s WHERE $6::text IS NULL OR state = $6
         ORDER BY started_at DESC, id DESC LIMIT $7"
    ))
    .bind(&left)
    .bind(INTERRUPTED)
    .bind(filter.table.as_ref().map(|table| &table.0))
    .bind(filter.before)
    .bind(filter.only_reconciliations)
    .bind(filter.state.map(SyncState::as_str))
    .bind(i64::from(filter.limit))
    .bind(filter.until)
    .fetch_all(connection)
    .await?;
    stored.into_iter().map(SyncRecord::try_from).collect()
}

pub(super) async fn undrained(
    connection: &mut PgConnection,
    limit: u32,
) -> Result<Vec<SyncRecord>, sqlx::Error> {
    let stored: Vec<Stored> = sqlx::query_as(&format!(
        "{RECORD} WHERE state <> 'running' AND NOT drained ORDER BY started_at DESC LIMIT $1"
    ))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    stored.into_iter().map(SyncRecord::try_from).collect()
}

pub(super) async fn latest(
    connection: &mut PgConnection,
    tables: &[&str],
) -> Result<Vec<SyncRecord>, sqlx::Error> {
    let left = left_running(connection).await?;
    let latest = |which: &str| {
        let of = |until: &str| {
            format!(
                "(SELECT id FROM sluice_syncs WHERE table_name = t.name AND {which}{until} ORDER BY started_at DESC LIMIT 1)"
            )
        };
        // In two, so that each is one look into an index.
        let past = format!(" AND started_at <= now() + interval '{} seconds'", AHEAD.num_seconds());
        format!("SELECT coalesce({}, {}) AS id", of(&past), of(""))
    };
    let [succeeded, proven, reconciled, ended] = [
        "state = 'succeeded'",
        "request ? 'reconcile' AND state = 'succeeded'",
        "request ? 'reconcile' AND (state <> 'running' OR id = ANY($1))",
        "(state <> 'running' OR id = ANY($1))",
    ]
    .map(latest);
    let stored: Vec<Stored> = sqlx::query_as(&format!(
        "{SHOWN} WHERE id IN (
             SELECT i.id FROM unnest($3::text[]) AS t(name)
             CROSS JOIN LATERAL ({succeeded} UNION {proven} UNION {reconciled} UNION {ended}) AS i
         )"
    ))
    .bind(&left)
    .bind(INTERRUPTED)
    .bind(tables)
    .fetch_all(connection)
    .await?;
    stored.into_iter().map(SyncRecord::try_from).collect()
}

/// The sync that holds a table's lease; none while it is between taking the lease and saying so, or ending.
pub(super) async fn running(
    connection: &mut PgConnection,
    table: &TableName,
) -> Result<Option<SyncRecord>, sqlx::Error> {
    let stored: Option<Stored> = sqlx::query_as(&format!(
        "{RECORD} WHERE table_name = $1 AND state = 'running' ORDER BY started_at DESC LIMIT 1"
    ))
    .bind(&table.0)
    .fetch_optional(connection)
    .await?;
    stored.map(SyncRecord::try_from).transpose()
}

pub(super) async fn request_cancel(connection: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let left = left_running(connection).await?;
    let asked = sqlx::query(
        "UPDATE sluice_syncs SET cancel_requested = true WHERE id = $1 AND state = 'running' AND NOT id = ANY($2)",
    )
            .bind(id)
            .bind(&left)
            .execute(connection)
            .await?;
    Ok(asked.rows_affected() > 0)
}

pub(super) async fn coverage(
    connection: &mut PgConnection,
    table: &str,
    log: &str,
) -> Result<Option<Coverage>, sqlx::Error> {
    let covered: Option<(DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
        "SELECT covered_from, covered_to FROM sluice_coverage WHERE log = $1 AND table_name = $2",
    )
    .bind(log)
    .bind(table)
    .fetch_optional(connection)
    .await?;
    Ok(covered.map(|(from, to)| Coverage { from, to }))
}

/// The syncs that count as running although nobody holds their lease.
///
/// The locks are read after the rows, so one that ends meanwhile may be among them: its row has left the state `running`
/// by the time it is asked for again, which whoever uses this does.
async fn left_running(connection: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    // A lock of one number stands in the server's list in two halves.
    sqlx::query_scalar(&format!(
        "SELECT s.id FROM sluice_syncs AS s
         WHERE s.state = 'running' AND NOT EXISTS (
             SELECT FROM pg_locks AS l
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND (l.classid::bigint << 32) | l.objid::bigint = {}
         )",
        lease_lock("s.table_name")
    ))
    .fetch_all(connection)
    .await
}
