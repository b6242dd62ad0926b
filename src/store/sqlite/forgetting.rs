//! Forgetting in the embedded file.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::params;
use uuid::Uuid;

use super::{SqliteStore, lease::json, rows::instant};
use crate::{
    domain::TableName,
    fault::Fault,
    log::Extent,
    store::{Forgetting, Settled, operations::MENDED_BY},
};

/// Each `EXISTS` is a look into an index, and the oldest come first.
const FORGET_SYNCS: &str = "DELETE FROM sluice_syncs WHERE id IN (
         SELECT s.id FROM sluice_syncs AS s
         WHERE s.started_at < ?1 AND s.state <> 'running'
             AND EXISTS (SELECT 1 FROM sluice_syncs AS n
                 WHERE n.table_name = s.table_name AND n.started_at > s.started_at AND n.state <> 'running')
             AND (s.state <> 'succeeded' OR EXISTS (SELECT 1 FROM sluice_syncs AS n
                 WHERE n.table_name = s.table_name AND n.started_at > s.started_at AND n.state = 'succeeded'))
             AND (json_extract(s.request, '$.reconcile') IS NULL OR (
                 EXISTS (SELECT 1 FROM sluice_syncs AS n
                     WHERE n.table_name = s.table_name AND n.started_at > s.started_at
                         AND json_extract(n.request, '$.reconcile') IS NOT NULL AND n.state <> 'running')
                 AND (s.state <> 'succeeded' OR EXISTS (SELECT 1 FROM sluice_syncs AS n
                     WHERE n.table_name = s.table_name AND n.started_at > s.started_at
                         AND json_extract(n.request, '$.reconcile') IS NOT NULL AND n.state = 'succeeded'))))
         ORDER BY s.started_at LIMIT ?2
     )";

/// Whether nobody settled the letter `p`, and the log ?1 does not hold it, of which ?2 is what [`lows`] tells.
const IS_LOST: &str = "(p.log <> ?1 OR coalesce(p.\"offset\" < ?2 ->> CAST(p.partition AS text), true))
    AND NOT EXISTS (
        SELECT 1 FROM sluice_resolved_letters AS r
        WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\" AND r.letter_id = p.letter_id
    )";

#[async_trait]
impl Forgetting for SqliteStore {
    async fn forget_syncs(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, Fault> {
        let forgotten = self.db.write("forgetting old syncs", move |db| {
            db.prepare_cached(FORGET_SYNCS)?.execute(params![instant(before), limit])
        });
        Ok(u64::try_from(forgotten.await?).unwrap_or(u64::MAX))
    }

    async fn forget_letters(&self, log: &str, events: &str, extent: Extent) -> Result<(), Fault> {
        let (log, events) = (log.to_owned(), events.to_owned());
        self.db
            .write("forgetting settled dead letters", move |db| {
                db.execute(
                    "DELETE FROM sluice_parked_letters AS p
                     WHERE log = ?1 AND partition = ?2 AND \"offset\" >= ?3 AND \"offset\" < ?4 AND EXISTS (
                         SELECT 1 FROM sluice_resolved_letters AS r
                         WHERE r.log = ?1 AND r.partition = ?2 AND r.\"offset\" = p.\"offset\" AND r.letter_id = p.letter_id
                             AND (p.sink IS NOT NULL OR r.resolution <> 'discarded' OR NOT EXISTS (
                                 SELECT 1 FROM sluice_appended AS a
                                 WHERE a.log = ?5 AND a.table_name = p.table_name
                                     AND a.entity IN (p.entity, p.letter_id) AND a.event = p.letter_id
                             ))
                     )",
                    params![log, extent.partition, extent.low, extent.high, events],
                )?;
                db.execute(
                    "DELETE FROM sluice_resolved_letters AS r
                     WHERE log = ?1 AND partition = ?2 AND \"offset\" >= ?3 AND \"offset\" < ?4 AND NOT EXISTS (
                         SELECT 1 FROM sluice_parked_letters AS p
                         WHERE p.log = ?1 AND p.partition = ?2 AND p.\"offset\" = r.\"offset\" AND p.letter_id = r.letter_id
                     )",
                    params![log, extent.partition, extent.low, extent.high],
                )?;
                Ok(())
            })
            .await
    }

    async fn first_open(&self, log: &str, extent: Extent) -> Result<Option<i64>, Fault> {
        let log = log.to_owned();
        let first: i64 = self
            .db
            .read("looking for the oldest open dead letter", move |db| {
                db.prepare_cached(
                    "SELECT CASE WHEN NOT EXISTS (
                         SELECT 1 FROM sluice_resolved_letters WHERE log = ?1 AND partition = ?2 AND \"offset\" = ?3
                     ) THEN ?3 ELSE (
                         SELECT r.\"offset\" + 1 FROM sluice_resolved_letters AS r
                         WHERE r.log = ?1 AND r.partition = ?2 AND r.\"offset\" >= ?3 AND NOT EXISTS (
                             SELECT 1 FROM sluice_resolved_letters AS n
                             WHERE n.log = ?1 AND n.partition = ?2 AND n.\"offset\" = r.\"offset\" + 1
                         ) ORDER BY r.\"offset\" LIMIT 1
                     ) END",
                )?
                .query_row(params![log, extent.partition, extent.low], |row| row.get(0))
            })
            .await?;
        Ok(Some(first).filter(|first| *first < extent.high))
    }

    async fn lost_letters(&self, log: &str, extents: &[Extent]) -> Result<Vec<(TableName, u64)>, Fault> {
        let (log, lows) = (log.to_owned(), lows(extents));
        self.db
            .read("counting dead letters that are gone", move |db| {
                db.prepare_cached(&format!(
                    "SELECT table_name, count(*) FROM sluice_parked_letters AS p
                     WHERE {IS_LOST} GROUP BY table_name ORDER BY 1"
                ))?
                .query_map(params![log, lows], |row| Ok((TableName(row.get(0)?), row.get(1)?)))?
                .collect()
            })
            .await
    }

    async fn forget_lost_rows(
        &self,
        log: &str,
        extents: &[Extent],
        events: &str,
        table: &TableName,
    ) -> Result<u64, Fault> {
        let (log, lows, table, events) = (log.to_owned(), lows(extents), table.0.clone(), events.to_owned());
        let forgotten = self.db.write("forgetting rows whose dead letters are gone", move |db| {
            db.prepare_cached(
                "UPDATE sluice_appended AS a SET event = ?5 FROM (
                     SELECT p.letter_id, p.entity FROM sluice_parked_letters AS p
                     LEFT JOIN sluice_resolved_letters AS r ON r.log = p.log AND r.partition = p.partition
                         AND r.\"offset\" = p.\"offset\" AND r.letter_id = p.letter_id
                     WHERE p.table_name = ?3 AND p.sink IS NULL
                     GROUP BY p.letter_id, p.entity
                     HAVING min(r.resolution IS NOT 'erased' AND (p.log <> ?1 OR r.letter_id IS NULL
                         AND coalesce(p.\"offset\" < ?2 ->> CAST(p.partition AS text), true)))
                 ) AS l
                 WHERE a.log = ?4 AND a.table_name = ?3 AND a.event = l.letter_id
                     AND a.entity IN (l.entity, l.letter_id)",
            )?
            .execute(params![log, lows, table, events, Uuid::nil().to_string()])
        });
        Ok(u64::try_from(forgotten.await?).unwrap_or(u64::MAX))
    }

    async fn settle_lost_letters(
        &self,
        log: &str,
        extents: &[Extent],
        table: &TableName,
    ) -> Result<u64, Fault> {
        let (log, lows, table) = (log.to_owned(), lows(extents), table.0.clone());
        let settled = self.db.write("settling dead letters that are gone", move |db| {
            let take = format!(
                "DELETE FROM sluice_parked_letters AS p WHERE table_name = ?3 AND {IS_LOST}
                 RETURNING log, partition, \"offset\", letter_id, sink"
            );
            let lost: Vec<(String, i32, i64, String, Option<String>)> = db
                .prepare_cached(&take)?
                .query_map(params![log, lows, table], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })?
                .collect::<rusqlite::Result<_>>()?;
            let mut settle = db.prepare_cached(
                "INSERT OR REPLACE INTO sluice_resolved_letters
                     (log, partition, \"offset\", letter_id, resolution, resolved_by, resolved_at, sink)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?;
            for (log, partition, offset, letter, sink) in &lost {
                let (how, now) = (Settled::Mended.as_str(), instant(Utc::now()));
                settle.execute(params![log, partition, offset, letter, how, MENDED_BY, now, sink])?;
            }
            Ok(lost.len())
        });
        Ok(u64::try_from(settled.await?).unwrap_or(u64::MAX))
    }
}

/// The first offset that the log holds of each partition, as an object by partition.
fn lows(extents: &[Extent]) -> String {
    let lows: BTreeMap<i32, i64> = extents.iter().map(|extent| (extent.partition, extent.low)).collect();
    json(&lows)
}
