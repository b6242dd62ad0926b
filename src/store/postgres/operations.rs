//! What operators ask for, in Postgres. A claim is one statement, so two processes never get the same schedule.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection, postgres::types::PgInterval, types::Json};
use uuid::Uuid;

use super::{
    PgStore,
    faults::PART,
    fitness,
    migrations::{self, MIGRATOR},
    prepare, syncs,
};
use crate::{
    domain::{Table, TableName},
    fault::Fault,
    log::Extent,
    store::{
        DrainBeat, Operations, ParkedEntity, Pause, Resolution, RowColumns, Schedule, ScheduledRun, Settled,
        StoreFacts, SyncFilter, SyncRecord, SyncRequest, counted, operations::MENDED_BY,
    },
};

/// A schedule's columns. Who holds it, and how late it is, is told by the server's clock: by this machine's, one that is ahead
/// would take its own claim for lapsed.
const SCHEDULE: &str =
    "every_ms, request, created_by, created_at, next_due_at, now() AS read_at, last_run, last_success_at,
    CASE WHEN claimed_until > now() THEN claimed_by END AS claimed_by,
    CASE WHEN claimed_until > now() THEN claim END AS claim";

/// Runs one call over a connection of the pool.
macro_rules! over {
    ($store:expr, $attempt:literal, $connection:ident => $call:expr) => {{
        let call = async {
            let mut borrowed = $store.connector.acquire($attempt).await?;
            let outcome = {
                let $connection: &mut PgConnection = &mut borrowed;
                $call.await
            };
            borrowed.settle($attempt, outcome)
        };
        $store.connector.bounded($attempt, call).await
    }};
}
pub(super) use over;

#[derive(FromRow)]
struct StoredBeat {
    consumer_group: String,
    owner: String,
    state: String,
    failing_since: Option<DateTime<Utc>>,
    last_error: Option<String>,
    seen_at: DateTime<Utc>,
}

impl From<StoredBeat> for DrainBeat {
    fn from(stored: StoredBeat) -> Self {
        Self {
            consumer_group: stored.consumer_group,
            owner: stored.owner,
            state: stored.state,
            failing_since: stored.failing_since,
            last_error: stored.last_error,
            seen_at: stored.seen_at,
        }
    }
}

#[derive(FromRow)]
struct StoredSchedule {
    every_ms: i32,
    request: Json<SyncRequest>,
    created_by: String,
    created_at: DateTime<Utc>,
    next_due_at: DateTime<Utc>,
    claimed_by: Option<String>,
    claim: Option<Uuid>,
    read_at: DateTime<Utc>,
    last_run: Option<Json<ScheduledRun>>,
    last_success_at: Option<DateTime<Utc>>,
}

impl From<StoredSchedule> for Schedule {
    fn from(stored: StoredSchedule) -> Self {
        Self {
            request: stored.request.0,
            every: Duration::from_millis(stored.every_ms.unsigned_abs().into()),
            created_by: stored.created_by,
            age: stored.read_at - stored.created_at,
            next_due_at: stored.next_due_at,
            late: stored.read_at - stored.next_due_at,
            claimed_by: stored.claimed_by,
            claim: stored.claim,
            last_run: stored.last_run.map(|run| run.0),
            last_success_at: stored.last_success_at,
        }
    }
}

type StoredResolution = (i32, i64, Uuid, String, String, DateTime<Utc>);

fn resolution(stored: StoredResolution) -> Option<Resolution> {
    let (partition, offset, letter, settled, by, at) = stored;
    Some(Resolution { partition, offset, letter, settled: Settled::named(&settled)?, by, at })
}

#[async_trait]
impl Operations for PgStore {
    async fn pauses(&self) -> Result<Vec<Pause>, Fault> {
        let rows: Vec<(String, String, DateTime<Utc>)> = over!(self, "read the pauses", connection =>
            sqlx::query_as("SELECT consumer_group, paused_by, since FROM sluice_pauses ORDER BY 1")
                .fetch_all(connection))?;
        let pause = |(consumer_group, paused_by, since)| Pause { consumer_group, paused_by, since };
        Ok(rows.into_iter().map(pause).collect())
    }

    async fn pause(&self, group: &str, by: &str) -> Result<Pause, Fault> {
        let (paused_by, since): (String, DateTime<Utc>) = over!(self, "pause a sink", connection =>
            // The update that changes nothing lets the row be returned.
            sqlx::query_as(
                "INSERT INTO sluice_pauses AS p (consumer_group, paused_by) VALUES ($1, $2)
                 ON CONFLICT (consumer_group) DO UPDATE SET paused_by = p.paused_by
                 RETURNING paused_by, since",
            )
            .bind(group)
            .bind(by)
            .fetch_one(connection))?;
        Ok(Pause { consumer_group: group.to_owned(), paused_by, since })
    }

    async fn resume(&self, group: &str) -> Result<bool, Fault> {
        let removed = over!(self, "resume a sink", connection =>
            sqlx::query("DELETE FROM sluice_pauses WHERE consumer_group = $1").bind(group).execute(connection))?;
        Ok(removed.rows_affected() > 0)
    }

    async fn report_drains(&self, beats: &[DrainBeat]) -> Result<(), Fault> {
        let column = |of: fn(&DrainBeat) -> &str| beats.iter().map(of).collect::<Vec<_>>();
        let since: Vec<Option<DateTime<Utc>>> = beats.iter().map(|beat| beat.failing_since).collect();
        // A text may hold anything but this.
        let errors: Vec<Option<String>> =
            beats.iter().map(|beat| beat.last_error.as_ref().map(|error| error.replace('\0', ""))).collect();
        over!(self, "tell of the drains", connection =>
            sqlx::query(
                "WITH gone AS (DELETE FROM sluice_drains WHERE seen_at < now() - interval '1 day')
                 INSERT INTO sluice_drains (consumer_group, owner, state, failing_since, last_error)
                 SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[])
                 ON CONFLICT (consumer_group, owner) DO UPDATE
                 SET state = excluded.state, failing_since = excluded.failing_since,
                     last_error = excluded.last_error, seen_at = excluded.seen_at",
            )
            .bind(column(|beat| &beat.consumer_group))
            .bind(column(|beat| &beat.owner))
            .bind(column(|beat| &beat.state))
            .bind(since)
            .bind(errors)
            .execute(connection))?;
        Ok(())
    }

    async fn forget_drains(&self, owner: &str) -> Result<(), Fault> {
        over!(self, "tell of the drains", connection =>
            sqlx::query("DELETE FROM sluice_drains WHERE owner = $1").bind(owner).execute(connection))?;
        Ok(())
    }

    async fn drain_beats(&self, within: Duration) -> Result<Vec<DrainBeat>, Fault> {
        let beats: Vec<StoredBeat> = over!(self, "read of the drains", connection =>
            sqlx::query_as(
                "SELECT consumer_group, owner, state, failing_since, last_error, seen_at FROM sluice_drains
                 WHERE seen_at > now() - $1 AND seen_at < now() + interval '1 minute' ORDER BY consumer_group, owner",
            )
            .bind(interval(within))
            .fetch_all(connection))?;
        Ok(beats.into_iter().map(DrainBeat::from).collect())
    }

    async fn settle(&self, log: &str, letters: &[Resolution]) -> Result<(), Fault> {
        let partitions: Vec<i32> = letters.iter().map(|letter| letter.partition).collect();
        let offsets: Vec<i64> = letters.iter().map(|letter| letter.offset).collect();
        let ids: Vec<Uuid> = letters.iter().map(|letter| letter.letter).collect();
        let settled: Vec<&str> = letters.iter().map(|letter| letter.settled.as_str()).collect();
        let by: Vec<&str> = letters.iter().map(|letter| letter.by.as_str()).collect();
        let at: Vec<DateTime<Utc>> = letters.iter().map(|letter| letter.at).collect();
        over!(self, "settle dead letters", connection =>
            sqlx::query(
                "INSERT INTO sluice_resolved_letters AS l
                     (log, partition, \"offset\", letter_id, resolution, resolved_by, resolved_at, sink)
                 SELECT DISTINCT ON (2, 3) $1, n.*, (
                     SELECT sink FROM sluice_parked_letters
                     WHERE log = $1 AND partition = n.partition AND \"offset\" = n.\"offset\" AND letter_id = n.letter_id
                 )
                 FROM unnest($2::int4[], $3::int8[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[])
                     AS n(partition, \"offset\", letter_id, resolution, resolved_by, resolved_at)
                 ON CONFLICT (log, partition, \"offset\") DO UPDATE
                 SET letter_id = excluded.letter_id, resolution = excluded.resolution,
                     resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at,
                     sink = coalesce(excluded.sink, l.sink)
                 WHERE l.letter_id <> excluded.letter_id OR excluded.resolution = 'erased' OR l.resolution = 'mended'",
            )
            .bind(log)
            .bind(&partitions)
            .bind(&offsets)
            .bind(&ids)
            .bind(&settled)
            .bind(&by)
            .bind(&at)
            .execute(connection))?;
        Ok(())
    }

    async fn settled(&self, log: &str, extent: Extent) -> Result<Vec<Resolution>, Fault> {
        let rows: Vec<StoredResolution> = over!(self, "read settled dead letters", connection =>
            sqlx::query_as(
                "SELECT partition, \"offset\", letter_id, resolution, resolved_by, resolved_at
                 FROM sluice_resolved_letters
                 WHERE log = $1 AND partition = $2 AND \"offset\" >= $3 AND \"offset\" < $4",
            )
            .bind(log)
            .bind(extent.partition)
            .bind(extent.low)
            .bind(extent.high)
            .fetch_all(connection))?;
        Ok(rows.into_iter().filter_map(resolution).collect())
    }

    async fn settled_count(&self, log: &str, extents: &[Extent]) -> Result<u64, Fault> {
        let column = |of: fn(&Extent) -> i64| extents.iter().map(of).collect::<Vec<i64>>();
        let partitions: Vec<i32> = extents.iter().map(|extent| extent.partition).collect();
        let count: i64 = over!(self, "count settled dead letters", connection =>
            sqlx::query_scalar(
                "SELECT coalesce(sum(l.letters), 0)::int8
                 FROM unnest($2::int4[], $3::int8[], $4::int8[]) AS e(partition, low, high)
                 CROSS JOIN LATERAL (
                     SELECT count(*) AS letters FROM sluice_resolved_letters
                     WHERE log = $1 AND partition = e.partition AND \"offset\" >= e.low AND \"offset\" < e.high
                 ) AS l",
            )
            .bind(log)
            .bind(&partitions)
            .bind(column(|extent| extent.low))
            .bind(column(|extent| extent.high))
            .fetch_one(connection))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn settled_elsewhere(&self, log: &str, sink: &str) -> Result<u64, Fault> {
        let count: i64 = over!(self, "count settled dead letters", connection =>
            sqlx::query_scalar(
                "SELECT count(*) FROM sluice_resolved_letters
                 WHERE log <> $1 AND sink = $2 AND resolution IN ('discarded', 'mended')",
            )
            .bind(log)
            .bind(sink)
            .fetch_one(connection))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn note_parked(&self, log: &str, letters: &[ParkedEntity]) -> Result<(), Fault> {
        // No row comes with such a key.
        let letters: Vec<&ParkedEntity> = letters
            .iter()
            .filter(|letter| !letter.entity.contains('\0') && !letter.table.0.contains('\0'))
            .collect();
        let partitions: Vec<i32> = letters.iter().map(|letter| letter.partition).collect();
        let offsets: Vec<i64> = letters.iter().map(|letter| letter.offset).collect();
        let ids: Vec<Uuid> = letters.iter().map(|letter| letter.letter).collect();
        let tables: Vec<&str> = letters.iter().map(|letter| letter.table.0.as_str()).collect();
        let entities: Vec<&str> = letters.iter().map(|letter| letter.entity.as_str()).collect();
        let sinks: Vec<Option<&str>> = letters.iter().map(|letter| letter.sink.as_deref()).collect();
        over!(self, "note parked rows", connection =>
            sqlx::query(
                "INSERT INTO sluice_parked_letters (log, partition, \"offset\", letter_id, table_name, entity, sink)
                 SELECT DISTINCT ON (2, 3) $1, *
                 FROM unnest($2::int4[], $3::int8[], $4::uuid[], $5::text[], $6::text[], $7::text[])
                 ON CONFLICT (log, partition, \"offset\") DO UPDATE
                 SET letter_id = excluded.letter_id, table_name = excluded.table_name, entity = excluded.entity,
                     sink = excluded.sink",
            )
            .bind(log)
            .bind(&partitions)
            .bind(&offsets)
            .bind(&ids)
            .bind(&tables)
            .bind(&entities)
            .bind(&sinks)
            .execute(connection))?;
        Ok(())
    }

    async fn settle_mended(&self, log: &str, table: &TableName, entities: &[String]) -> Result<u64, Fault> {
        let settled: i64 = over!(self, "settle letters of mended rows", connection =>
            // One look-up an entity, whatever the server thinks of the table; by no index of the log, which holds them all.
            sqlx::query_scalar(
                "WITH mended AS (
                     DELETE FROM sluice_parked_letters AS p WHERE p.ctid = ANY (ARRAY(
                         SELECT l.place FROM unnest($3::text[]) AS r(entity) CROSS JOIN LATERAL (
                             SELECT ctid AS place FROM sluice_parked_letters
                             WHERE entity = r.entity AND (log, table_name) IS NOT DISTINCT FROM ($1, $2) OFFSET 0
                         ) AS l
                     )) RETURNING p.log, p.partition, p.\"offset\", p.letter_id, p.sink
                 ), settled AS (
                     INSERT INTO sluice_resolved_letters AS l
                         (log, partition, \"offset\", letter_id, resolution, resolved_by, sink)
                     SELECT log, partition, \"offset\", letter_id, $4, $5, sink FROM mended
                     ON CONFLICT (log, partition, \"offset\") DO UPDATE
                     SET letter_id = excluded.letter_id, resolution = excluded.resolution,
                         resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at, sink = excluded.sink
                     WHERE l.letter_id <> excluded.letter_id
                     RETURNING 1
                 )
                 SELECT count(*) FROM settled",
            )
            .bind(log)
            .bind(&table.0)
            .bind(entities)
            .bind(Settled::Mended.as_str())
            .bind(MENDED_BY)
            .fetch_one(connection))?;
        Ok(u64::try_from(settled).unwrap_or_default())
    }

    async fn entities_with_letters(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Fault> {
        over!(self, "look for entities with letters", connection =>
            sqlx::query_scalar(
                "SELECT DISTINCT p.entity FROM sluice_parked_letters AS p
                 WHERE p.log = $1 AND p.table_name = $2 AND ($3::text IS NULL OR p.entity > $3) AND NOT EXISTS (
                     SELECT FROM sluice_resolved_letters AS r
                     WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                         AND r.letter_id = p.letter_id AND (p.sink IS NOT NULL OR r.resolution <> 'discarded')
                 ) ORDER BY p.entity LIMIT $4",
            )
            .bind(log)
            .bind(table.name())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(connection))
    }

    async fn parked_count(&self, log: &str, table: &TableName) -> Result<u64, Fault> {
        let count: i64 = over!(self, "count parked rows", connection =>
            sqlx::query_scalar(
                "SELECT count(DISTINCT p.entity) FROM sluice_parked_letters AS p
                 WHERE p.log = $1 AND p.table_name = $2 AND NOT EXISTS (
                     SELECT FROM sluice_resolved_letters AS r
                     WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                         AND r.letter_id = p.letter_id
                 )",
            )
            .bind(log)
            .bind(&table.0)
            .fetch_one(connection))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn open_by_sink(&self, log: &str, extents: &[Extent]) -> Result<Vec<(Option<String>, u64)>, Fault> {
        let partitions: Vec<i32> = extents.iter().map(|extent| extent.partition).collect();
        let lows: Vec<i64> = extents.iter().map(|extent| extent.low).collect();
        let counted: Vec<(Option<String>, i64)> = over!(self, "count open letters", connection =>
            sqlx::query_as(
                "SELECT p.sink, count(*)
                 FROM sluice_parked_letters AS p JOIN unnest($2::int4[], $3::int8[]) AS e(partition, low)
                     ON e.partition = p.partition AND p.\"offset\" >= e.low
                 WHERE p.log = $1 AND NOT EXISTS (
                     SELECT FROM sluice_resolved_letters AS r
                     WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                         AND r.letter_id = p.letter_id
                 ) GROUP BY p.sink ORDER BY p.sink",
            )
            .bind(log)
            .bind(&partitions)
            .bind(&lows)
            .fetch_all(connection))?;
        Ok(counted
            .into_iter()
            .map(|(sink, count)| (sink, u64::try_from(count).unwrap_or_default()))
            .collect())
    }

    async fn known_columns(&self, table: &TableName) -> Result<Option<Vec<String>>, Fault> {
        over!(self, "read a table's columns", connection =>
            sqlx::query_scalar("SELECT columns FROM sluice_source_columns WHERE table_name = $1")
                .bind(&table.0)
                .fetch_optional(connection))
    }

    async fn remember_columns(&self, table: &TableName, columns: &[String]) -> Result<(), Fault> {
        over!(self, "remember a table's columns", connection =>
            sqlx::query(
                "INSERT INTO sluice_source_columns (table_name, columns) VALUES ($1, $2)
                 ON CONFLICT (table_name) DO UPDATE SET columns = excluded.columns, told_at = now()",
            )
            .bind(&table.0)
            .bind(columns)
            .execute(connection))?;
        Ok(())
    }

    async fn row_columns(&self, table: &TableName, project: &str) -> Result<RowColumns, Fault> {
        let row: Option<(Vec<String>, Json<_>)> = over!(self, "read the columns of a table's rows", connection =>
            sqlx::query_as("SELECT columns, gone FROM sluice_row_columns WHERE table_name = $1 AND project = $2")
                .bind(&table.0)
                .bind(project)
                .fetch_optional(connection))?;
        let (now, Json(gone)) = row.unwrap_or_default();
        Ok(RowColumns { now: now.into_iter().collect(), gone })
    }

    async fn remember_row_columns(
        &self,
        table: &TableName,
        project: &str,
        columns: &RowColumns,
    ) -> Result<(), Fault> {
        let now: Vec<&str> = columns.now.iter().map(String::as_str).collect();
        over!(self, "remember the columns of a table's rows", connection =>
            sqlx::query(
                "INSERT INTO sluice_row_columns (table_name, project, columns, gone) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (table_name, project) DO UPDATE SET columns = excluded.columns, gone = excluded.gone",
            )
            .bind(&table.0)
            .bind(project)
            .bind(&now)
            .bind(Json(&columns.gone))
            .execute(connection))?;
        Ok(())
    }

    async fn kept_reading(&self, table: &TableName) -> Result<Option<String>, Fault> {
        over!(self, "look for the reading of a table", connection =>
            sqlx::query_scalar("SELECT reading FROM sluice_readings WHERE table_name = $1")
                .bind(&table.0)
                .fetch_optional(connection))
    }

    async fn keep_reading(&self, table: &TableName, reading: Option<String>) -> Result<(), Fault> {
        let sql = match reading {
            Some(_) => {
                "INSERT INTO sluice_readings (table_name, reading) VALUES ($1, $2)
                 ON CONFLICT (table_name) DO UPDATE SET reading = excluded.reading, kept_at = now()"
            }
            None => "DELETE FROM sluice_readings WHERE table_name = $1 AND $2::text IS NULL",
        };
        over!(self, "keep the reading of a table", connection =>
            sqlx::query(sql).bind(&table.0).bind(&reading).execute(connection))?;
        Ok(())
    }

    async fn syncs(&self, filter: &SyncFilter) -> Result<Vec<SyncRecord>, Fault> {
        over!(self, "list syncs", connection => syncs::listed(connection, filter))
    }

    async fn undrained_syncs(&self, limit: u32) -> Result<Vec<SyncRecord>, Fault> {
        over!(self, "look for syncs on their way", connection => syncs::undrained(connection, limit))
    }

    async fn note_drained(&self, syncs: &[Uuid]) -> Result<(), Fault> {
        over!(self, "note which syncs are in every sink", connection =>
            sqlx::query("UPDATE sluice_syncs SET drained = true WHERE id = ANY($1)").bind(syncs).execute(connection))?;
        Ok(())
    }

    async fn latest_syncs(&self, tables: &[TableName]) -> Result<Vec<SyncRecord>, Fault> {
        let tables: Vec<&str> = tables.iter().map(|table| table.0.as_str()).collect();
        over!(self, "look for the latest syncs", connection => syncs::latest(connection, &tables))
    }

    async fn schedules(&self) -> Result<Vec<Schedule>, Fault> {
        let sql = format!("SELECT {SCHEDULE} FROM sluice_schedules ORDER BY table_name");
        let rows: Vec<StoredSchedule> = over!(self, "read the schedules", connection =>
            sqlx::query_as(&sql).fetch_all(connection))?;
        Ok(rows.into_iter().map(Schedule::from).collect())
    }

    async fn put_schedule(&self, request: &SyncRequest, every: Duration, by: &str) -> Result<(), Fault> {
        over!(self, "write a schedule", connection =>
            sqlx::query(
                "INSERT INTO sluice_schedules (table_name, every_ms, request, created_by) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (table_name) DO UPDATE
                 SET every_ms = excluded.every_ms, request = excluded.request,
                     created_by = excluded.created_by, created_at = excluded.created_at,
                     next_due_at = excluded.next_due_at, decided_at = now(),
                     claimed_by = NULL, claim = NULL, claimed_until = NULL",
            )
            .bind(&request.table.0)
            .bind(i32::try_from(every.as_millis()).unwrap_or(i32::MAX))
            .bind(Json(request))
            .bind(by)
            .execute(connection))?;
        Ok(())
    }

    async fn remove_schedule(&self, table: &TableName) -> Result<bool, Fault> {
        let removed = over!(self, "remove a schedule", connection =>
            sqlx::query("DELETE FROM sluice_schedules WHERE table_name = $1").bind(&table.0).execute(connection))?;
        Ok(removed.rows_affected() > 0)
    }

    async fn claim_schedule(&self, owner: &str, lease: Duration) -> Result<Option<Schedule>, Fault> {
        let sql = format!(
            "UPDATE sluice_schedules SET claimed_by = $1, claim = $3, claimed_until = now() + $2
             WHERE table_name = (
                 SELECT table_name FROM sluice_schedules
                 WHERE (next_due_at <= now() OR decided_at > now() + interval '1 minute')
                     AND (claimed_until IS NULL OR claimed_until < now() OR claimed_until > now() + $2 + interval '1 minute')
                     AND table_name = ANY($4)
                 ORDER BY next_due_at LIMIT 1 FOR UPDATE SKIP LOCKED
             ) RETURNING {SCHEDULE}"
        );
        let claim = Uuid::now_v7();
        let defined: Vec<&str> = self.catalog.tables().map(Table::name).collect();
        let claimed: Option<StoredSchedule> = over!(self, "claim a schedule", connection =>
            sqlx::query_as(&sql)
                .bind(owner)
                .bind(interval(lease))
                .bind(claim)
                .bind(&defined)
                .fetch_optional(connection))?;
        // Whatever has become of it since, this is what it is held by.
        Ok(claimed.map(|claimed| Schedule { claim: Some(claim), ..Schedule::from(claimed) }))
    }

    async fn renew_schedule(&self, claimed: &Schedule, lease: Duration) -> Result<bool, Fault> {
        let renewed = over!(self, "renew a schedule", connection =>
            sqlx::query(
                "UPDATE sluice_schedules SET claimed_until = now() + $3 WHERE table_name = $1 AND claim = $2",
            )
            .bind(&claimed.request.table.0)
            .bind(claimed.claim)
            .bind(interval(lease))
            .execute(connection))?;
        Ok(renewed.rows_affected() > 0)
    }

    async fn finish_schedule(
        &self,
        claimed: &Schedule,
        run: &ScheduledRun,
        next_in: Duration,
    ) -> Result<bool, Fault> {
        let finished = over!(self, "finish a scheduled run", connection =>
            sqlx::query(
                "UPDATE sluice_schedules
                 SET claimed_by = NULL, claim = NULL, claimed_until = NULL, last_run = $3,
                     last_success_at = coalesce($4, last_success_at), next_due_at = now() + $5, decided_at = now()
                 WHERE table_name = $1 AND claim = $2",
            )
            .bind(&claimed.request.table.0)
            .bind(claimed.claim)
            .bind(Json(run))
            .bind(run.success_at())
            .bind(interval(next_in))
            .execute(connection))?;
        Ok(finished.rows_affected() > 0)
    }

    async fn forget_polls(&self, table: &TableName) -> Result<(), Fault> {
        over!(self, "forget polls", connection =>
            sqlx::query(
                "DELETE FROM sluice_syncs
                 WHERE table_name = $1 AND request ? 'since' AND state = 'succeeded'
                     AND started_at < now() - interval '1 hour'",
            )
            .bind(&table.0)
            .execute(connection))?;
        Ok(())
    }

    async fn refused_tables(&self) -> Result<Vec<(&'static str, Fault)>, Fault> {
        let (_, refused) = over!(self, "read the tables' layouts", connection => prepare::pending(connection, self.catalog))?;
        Ok(refused)
    }

    async fn facts(&self) -> Result<StoreFacts, Fault> {
        let mut session = self.connector.dedicated("sluice", self.connector.timeout()).await?;
        let unfit = self.unfitness(&mut session).await?;
        let _ = session.close().await;
        if unfit.is_some() {
            return Ok(StoreFacts { unfit, ..StoreFacts::default() });
        }
        if let Some(unfit) = self.unwritable().await? {
            return Ok(StoreFacts { unfit: Some(unfit), ..StoreFacts::default() });
        }
        let is_fresh = over!(self, "look for tables", connection => fitness::is_fresh(connection))?;
        if is_fresh {
            return Ok(StoreFacts { is_fresh, ..StoreFacts::default() });
        }
        let dropped = over!(self, "look for tables", connection => fitness::dropped(connection))?;
        if !dropped.is_empty() {
            return Ok(StoreFacts { dropped, ..StoreFacts::default() });
        }
        let done: Vec<i64> = over!(self, "read the migrations", connection =>
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(connection))?;
        let migrations = MIGRATOR.iter().filter(|one| !done.contains(&one.version)).count();
        let (tables, refused) = over!(self, "read the tables' layouts", connection => prepare::pending(connection, self.catalog))?;
        let additions = over!(self, "look for what was added to the tables",
            connection => fitness::additions(connection, self.own_tables()))?;
        Ok(StoreFacts {
            pending_migrations: migrations + tables,
            refused,
            additions,
            ..StoreFacts::default()
        })
    }
}

impl PgStore {
    /// Those of entities, and its own.
    fn own_tables(&self) -> Vec<&'static str> {
        counted(self.catalog).chain(migrations::up_to(i64::MAX).flat_map(migrations::tables_of)).collect()
    }

    /// Why this user can't write here, and what gives it what it lacks.
    async fn unwritable(&self) -> Result<Option<Fault>, Fault> {
        let tables: Vec<&str> = self.own_tables().into_iter().chain(["_sqlx_migrations"]).collect();
        let found: (bool, bool, String, String, Option<String>, Option<String>) = over!(self, "examine the store", connection =>
            sqlx::query_as(
                "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', quote_ident(current_user),
                        quote_ident(current_database()),
                        (SELECT string_agg(DISTINCT quote_ident(c.relname), ', ')
                         FROM unnest($1::text[]) AS t(name) JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(t.name))
                         WHERE NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                                    AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))),
                        CASE WHEN to_regclass('sluice_offsets') IS NULL AND NOT has_schema_privilege(current_schema(), 'CREATE')
                             THEN quote_ident(current_schema()) END",
            )
            .bind(&tables)
            .fetch_one(connection))?;
        let (is_standby, is_read_only, user, database, lacking, closed) = found;
        let told = |problem: String, step: String| Some(Fault::misconfigured(PART, problem, step));
        Ok(if is_standby {
            told(
                "the server is a standby: it is in recovery and takes no write".to_owned(),
                "let DATABASE_URL lead to the primary; if there is none any more, as a superuser here run SELECT pg_promote()"
                    .to_owned(),
            )
        } else if is_read_only {
            told(
                "transactions are read-only".to_owned(),
                format!(
                    "run ALTER ROLE {user} SET default_transaction_read_only = off (or ALTER DATABASE {database} RESET \
                     default_transaction_read_only), then start sluice again"
                ),
            )
        } else if let Some(lacking) = lacking {
            told(
                format!("the user {user} may not write {lacking}"),
                format!("as their owner run GRANT SELECT, INSERT, UPDATE, DELETE ON {lacking} TO {user}"),
            )
        } else {
            closed.and_then(|schema| {
                told(
                    format!("the user {user} may make no tables in the schema {schema}"),
                    format!("as its owner run GRANT CREATE ON SCHEMA {schema} TO {user}"),
                )
            })
        })
    }
}

pub(super) fn interval(length: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(length.as_micros()).unwrap_or(i64::MAX) }
}
