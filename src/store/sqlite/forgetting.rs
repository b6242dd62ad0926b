//! Forgetting in the embedded file.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::params;

use super::{SqliteStore, rows::instant};
use crate::{
    fault::Fault,
    log::{Extent, Position},
    store::Forgetting,
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

#[async_trait]
impl Forgetting for SqliteStore {
    async fn forget_syncs(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, Fault> {
        let forgotten = self.db.write("forgetting old syncs", move |db| {
            db.prepare_cached(FORGET_SYNCS)?.execute(params![instant(before), limit])
        });
        Ok(u64::try_from(forgotten.await?).unwrap_or(u64::MAX))
    }

    async fn forget_letters(&self, log: &str, below: Position) -> Result<(), Fault> {
        let log = log.to_owned();
        self.db
            .write("forgetting settled dead letters", move |db| {
                let place = params![log, below.partition, below.offset];
                db.execute(
                    "DELETE FROM sluice_parked_letters AS p
                     WHERE log = ?1 AND partition = ?2 AND \"offset\" < ?3 AND EXISTS (
                         SELECT 1 FROM sluice_resolved_letters AS r
                         WHERE r.log = ?1 AND r.partition = ?2 AND r.\"offset\" = p.\"offset\" AND r.letter_id = p.letter_id
                     )",
                    place,
                )?;
                db.execute(
                    "DELETE FROM sluice_resolved_letters WHERE log = ?1 AND partition = ?2 AND \"offset\" < ?3",
                    place,
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
}
