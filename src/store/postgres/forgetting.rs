//! Forgetting in Postgres.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{PgStore, operations::over};
use crate::{
    domain::TableName,
    fault::Fault,
    log::Extent,
    store::{Forgetting, Settled, operations::MENDED_BY},
};

/// Each `EXISTS` is a look at the end of an index, and the oldest come first.
const FORGET_SYNCS: &str = "DELETE FROM sluice_syncs WHERE id = ANY (ARRAY(
         SELECT s.id FROM sluice_syncs AS s
         WHERE s.started_at < $1 AND s.state <> 'running'
             AND EXISTS (SELECT FROM sluice_syncs AS n
                 WHERE n.table_name = s.table_name AND n.started_at > s.started_at AND n.state <> 'running')
             AND (s.state <> 'succeeded' OR EXISTS (SELECT FROM sluice_syncs AS n
                 WHERE n.table_name = s.table_name AND n.started_at > s.started_at AND n.state = 'succeeded'))
             AND (NOT s.request ? 'reconcile' OR (
                 EXISTS (SELECT FROM sluice_syncs AS n
                     WHERE n.table_name = s.table_name AND n.started_at > s.started_at AND n.request ? 'reconcile'
                         AND n.state <> 'running')
                 AND (s.state <> 'succeeded' OR EXISTS (SELECT FROM sluice_syncs AS n
                     WHERE n.table_name = s.table_name AND n.started_at > s.started_at AND n.request ? 'reconcile'
                         AND n.state = 'succeeded'))))
         ORDER BY s.started_at LIMIT $2
     ))";

/// Letters that nobody settled and that the log $1 does not hold, of which $2 and $3 are what [`lows`] tells.
const LOST_LETTERS: &str = "sluice_parked_letters AS p
    LEFT JOIN unnest($2::int4[], $3::int8[]) AS e(partition, low) ON p.log = $1 AND e.partition = p.partition
    WHERE (e.low IS NULL OR p.\"offset\" < e.low) AND NOT EXISTS (
        SELECT FROM sluice_resolved_letters AS r
        WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\" AND r.letter_id = p.letter_id
    )";

#[async_trait]
impl Forgetting for PgStore {
    async fn forget_syncs(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, Fault> {
        let forgotten = over!(self, "forget old syncs", connection =>
            sqlx::query(FORGET_SYNCS).bind(before).bind(i64::from(limit)).execute(connection))?;
        Ok(forgotten.rows_affected())
    }

    async fn forget_letters(&self, log: &str, events: &str, extent: Extent) -> Result<(), Fault> {
        over!(self, "forget settled dead letters", connection =>
            sqlx::query(
                "WITH settled AS (
                     DELETE FROM sluice_resolved_letters AS r
                     WHERE r.log = $1 AND r.partition = $2 AND r.\"offset\" >= $3 AND r.\"offset\" < $4
                         AND (r.resolution <> 'discarded' OR NOT EXISTS (
                             SELECT FROM sluice_parked_letters AS p
                             JOIN sluice_appended AS a ON a.log = $5 AND a.table_name = p.table_name
                                 AND a.entity = ANY (ARRAY[p.entity, p.letter_id::text]) AND a.event = p.letter_id
                             WHERE p.log = r.log AND p.partition = r.partition AND p.\"offset\" = r.\"offset\"
                                 AND p.letter_id = r.letter_id AND p.sink IS NULL
                         ))
                     RETURNING r.\"offset\", r.letter_id
                 )
                 DELETE FROM sluice_parked_letters AS p USING settled AS s
                 WHERE p.log = $1 AND p.partition = $2 AND p.\"offset\" = s.\"offset\" AND p.letter_id = s.letter_id",
            )
            .bind(log)
            .bind(extent.partition)
            .bind(extent.low)
            .bind(extent.high)
            .bind(events)
            .execute(connection))?;
        Ok(())
    }

    async fn first_open(&self, log: &str, extent: Extent) -> Result<Option<i64>, Fault> {
        let first: i64 = over!(self, "look for the oldest open dead letter", connection =>
            sqlx::query_scalar(
                "SELECT CASE WHEN NOT EXISTS (
                     SELECT FROM sluice_resolved_letters WHERE log = $1 AND partition = $2 AND \"offset\" = $3
                 ) THEN $3 ELSE (
                     SELECT r.\"offset\" + 1 FROM sluice_resolved_letters AS r
                     WHERE r.log = $1 AND r.partition = $2 AND r.\"offset\" >= $3 AND NOT EXISTS (
                         SELECT FROM sluice_resolved_letters AS n
                         WHERE n.log = $1 AND n.partition = $2 AND n.\"offset\" = r.\"offset\" + 1
                     ) ORDER BY r.\"offset\" LIMIT 1
                 ) END",
            )
            .bind(log)
            .bind(extent.partition)
            .bind(extent.low)
            .fetch_one(connection))?;
        Ok(Some(first).filter(|first| *first < extent.high))
    }

    async fn lost_letters(&self, log: &str, extents: &[Extent]) -> Result<Vec<(TableName, u64)>, Fault> {
        let (partitions, lows) = lows(extents);
        let statement =
            format!("SELECT p.table_name, count(*) FROM {LOST_LETTERS} GROUP BY p.table_name ORDER BY 1");
        let lost: Vec<(String, i64)> = over!(self, "count dead letters that are gone", connection =>
            sqlx::query_as(&statement).bind(log).bind(&partitions).bind(&lows).fetch_all(connection))?;
        let counted = |(table, count)| (TableName(table), u64::try_from(count).unwrap_or_default());
        Ok(lost.into_iter().map(counted).collect())
    }

    async fn forget_lost_rows(
        &self,
        log: &str,
        extents: &[Extent],
        events: &str,
        table: &TableName,
    ) -> Result<u64, Fault> {
        let is_any: bool = over!(self, "look for dead letters of rows that made no event", connection =>
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM sluice_parked_letters WHERE table_name = $1 AND sink IS NULL)")
                .bind(&table.0)
                .fetch_one(connection))?;
        // The update waits for whoever has locked the table, though there is nothing to forget.
        if !is_any {
            return Ok(0);
        }
        let (partitions, lows) = lows(extents);
        let forgotten = over!(self, "forget rows whose dead letters are gone", connection =>
            sqlx::query(
                "UPDATE sluice_appended AS a SET event = $6 FROM (
                     SELECT p.letter_id, p.entity FROM sluice_parked_letters AS p
                     LEFT JOIN unnest($2::int4[], $3::int8[]) AS e(partition, low)
                         ON p.log = $1 AND e.partition = p.partition
                     LEFT JOIN sluice_resolved_letters AS r ON r.log = p.log AND r.partition = p.partition
                         AND r.\"offset\" = p.\"offset\" AND r.letter_id = p.letter_id
                     WHERE p.table_name = $4 AND p.sink IS NULL
                     GROUP BY p.letter_id, p.entity
                     HAVING bool_and(r.resolution IS DISTINCT FROM 'erased' AND (p.log <> $1
                         OR r.letter_id IS NULL AND (e.low IS NULL OR p.\"offset\" < e.low)))
                 ) AS l
                 WHERE a.log = $5 AND a.table_name = $4 AND a.event = l.letter_id
                     AND a.entity = ANY (ARRAY[l.entity, l.letter_id::text])",
            )
            .bind(log)
            .bind(&partitions)
            .bind(&lows)
            .bind(&table.0)
            .bind(events)
            .bind(Uuid::nil())
            .execute(connection))?;
        Ok(forgotten.rows_affected())
    }

    async fn settle_lost_letters(
        &self,
        log: &str,
        extents: &[Extent],
        table: &TableName,
    ) -> Result<u64, Fault> {
        let (partitions, lows) = lows(extents);
        let statement = format!(
            "WITH lost AS (
                 DELETE FROM sluice_parked_letters AS l WHERE l.ctid = ANY (ARRAY(
                     SELECT p.ctid FROM {LOST_LETTERS} AND p.table_name = $4
                 )) RETURNING l.log, l.partition, l.\"offset\", l.letter_id, l.sink
             )
             INSERT INTO sluice_resolved_letters AS l
                 (log, partition, \"offset\", letter_id, resolution, resolved_by, sink)
             SELECT log, partition, \"offset\", letter_id, $5, $6, sink FROM lost
             ON CONFLICT (log, partition, \"offset\") DO UPDATE
             SET letter_id = excluded.letter_id, resolution = excluded.resolution,
                 resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at, sink = excluded.sink"
        );
        let settled = over!(self, "settle dead letters that are gone", connection =>
            sqlx::query(&statement).bind(log).bind(&partitions).bind(&lows).bind(&table.0)
                .bind(Settled::Mended.as_str()).bind(MENDED_BY).execute(connection))?;
        Ok(settled.rows_affected())
    }
}

/// The partitions of a log, and the first offset that it holds of each.
fn lows(extents: &[Extent]) -> (Vec<i32>, Vec<i64>) {
    extents.iter().map(|extent| (extent.partition, extent.low)).unzip()
}
