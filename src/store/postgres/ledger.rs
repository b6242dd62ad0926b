//! What was appended of every entity, beside what the store has of it. Every statement looks up one row after the other
//! by its key, whatever the server thinks of tables it has not analyzed.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{PgStore, operations::over};
use crate::{
    domain::Table,
    fault::Fault,
    store::{Appended, Entry, Ledger, SavedReading, Stranger, StrangerPage, Tally, tables::key_type},
};

type StoredEntry = (String, Uuid, i64, bool, Option<i64>, bool);

#[async_trait]
impl Ledger for PgStore {
    async fn entries(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Entry>, Fault> {
        let key = &table.definition().key;
        // The empty text is the first key there may be.
        let beyond = if after.is_some() { ">" } else { ">=" };
        let statement = format!(
            "WITH page AS MATERIALIZED (
                 SELECT entity, event, versao, removed FROM sluice_appended
                 WHERE log = $1 AND table_name = $2 AND entity {beyond} $3 AND versao > 0 ORDER BY entity LIMIT $4
             )
             SELECT p.entity, p.event, p.versao, p.removed, t.versao, e.there IS NOT NULL
             FROM page AS p
             LEFT JOIN LATERAL (
                 SELECT versao FROM \"{table}\" WHERE \"{column}\" = p.entity::{kind} OFFSET 0
             ) AS t ON true
             LEFT JOIN LATERAL (SELECT true AS there FROM eventos_raw WHERE id = p.event OFFSET 0) AS e ON true
             ORDER BY p.entity",
            column = key.column,
            kind = key_type(key.kind),
        );
        let rows: Vec<StoredEntry> = over!(self, "compare entities", connection =>
            sqlx::query_as(&statement)
                .bind(log)
                .bind(table.name())
                .bind(after.unwrap_or_default())
                .bind(i64::from(limit))
                .fetch_all(connection))?;
        let entry = |(entity, event, versao, removed, held, has_event)| Entry {
            appended: Appended { entity, event, versao, removed },
            held,
            has_event,
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    async fn tally(&self, log: &str, letters: &str, table: Table) -> Result<Tally, Fault> {
        let statement = format!(
            "SELECT (SELECT count(*) FROM \"{table}\"),
                    (SELECT count(*) FROM sluice_appended
                     WHERE log = $1 AND table_name = $3 AND versao > 0 AND NOT removed),
                    (SELECT count(DISTINCT p.entity) FROM sluice_parked_letters AS p
                     WHERE p.log = $2 AND p.table_name = $3 AND NOT EXISTS (
                         SELECT FROM sluice_resolved_letters AS r
                         WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                             AND r.letter_id = p.letter_id
                     ))"
        );
        let (entities, appended, parked): (i64, i64, i64) = over!(self, "count entities", connection =>
            sqlx::query_as(&statement).bind(log).bind(letters).bind(table.name()).fetch_one(connection))?;
        let [entities, appended, parked] =
            [entities, appended, parked].map(|count| u64::try_from(count).unwrap_or_default());
        Ok(Tally { entities, appended, parked })
    }

    async fn entity_count(&self, table: Table) -> Result<u64, Fault> {
        let statement = format!("SELECT count(*) FROM \"{table}\"");
        let count: i64 = over!(self, "count entities", connection =>
            sqlx::query_scalar(&statement).fetch_one(connection))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn strangers(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<StrangerPage, Fault> {
        let key = &table.definition().key;
        let (column, kind) = (&key.column, key_type(key.kind));
        let statement = format!(
            "SELECT t.chave::text, t.versao, a.there IS NULL FROM (
                 SELECT \"{column}\" AS chave, versao FROM \"{table}\"
                 WHERE $4::text IS NULL OR \"{column}\" > $4::text::{kind} ORDER BY \"{column}\" LIMIT $3
             ) AS t
             LEFT JOIN LATERAL (
                 SELECT true AS there FROM sluice_appended
                 WHERE log = $1 AND table_name = $2 AND entity = t.chave::text AND versao > 0 OFFSET 0
             ) AS a ON true
             ORDER BY t.chave"
        );
        let rows: Vec<(String, i64, bool)> = over!(self, "look for entities that nobody appended", connection =>
            sqlx::query_as(&statement)
                .bind(log)
                .bind(table.name())
                .bind(i64::from(limit))
                .bind(after)
                .fetch_all(connection))?;
        let last = rows.last().map(|(key, ..)| key.clone());
        let strangers = rows.into_iter().filter(|(.., is_stranger)| *is_stranger);
        let strangers = strangers.map(|(key, versao, _)| Stranger { key, versao }).collect();
        Ok(StrangerPage { strangers, last })
    }

    async fn saved_reading(&self, log: &str, table: Table) -> Result<Option<SavedReading>, Fault> {
        let saved: Option<(DateTime<Utc>, String, Vec<u8>, i64, i64)> = over!(self, "look for a reading to go on with", connection =>
            sqlx::query_as(
                "SELECT began_at, after_key, keys, unkeyed, erased FROM sluice_readings WHERE log = $1 AND table_name = $2",
            )
            .bind(log)
            .bind(table.name())
            .fetch_optional(connection))?;
        let reading = |(began_at, after, keys, unkeyed, erased): (_, _, _, i64, i64)| SavedReading {
            began_at,
            after,
            keys,
            unkeyed: u64::try_from(unkeyed).unwrap_or_default(),
            erased: u64::try_from(erased).unwrap_or_default(),
        };
        Ok(saved.map(reading))
    }

    async fn save_reading(
        &self,
        log: &str,
        table: Table,
        reading: Option<&SavedReading>,
    ) -> Result<(), Fault> {
        let Some(reading) = reading else {
            over!(self, "forget a reading", connection =>
                sqlx::query("DELETE FROM sluice_readings WHERE log = $1 AND table_name = $2")
                    .bind(log)
                    .bind(table.name())
                    .execute(connection))?;
            return Ok(());
        };
        over!(self, "keep how far a reading is", connection =>
            sqlx::query(
                "INSERT INTO sluice_readings (log, table_name, began_at, after_key, keys, unkeyed, erased)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (log, table_name) DO UPDATE
                 SET began_at = excluded.began_at, after_key = excluded.after_key, keys = excluded.keys,
                     unkeyed = excluded.unkeyed, erased = excluded.erased",
            )
            .bind(log)
            .bind(table.name())
            .bind(reading.began_at)
            .bind(&reading.after)
            .bind(&reading.keys)
            .bind(i64::try_from(reading.unkeyed).unwrap_or(i64::MAX))
            .bind(i64::try_from(reading.erased).unwrap_or(i64::MAX))
            .execute(connection))?;
        Ok(())
    }

    async fn parked(&self, log: &str, table: Table, keys: &[String]) -> Result<HashSet<String>, Fault> {
        let parked: Vec<String> = over!(self, "look for open letters", connection =>
            sqlx::query_scalar(
                "SELECT DISTINCT r.entity FROM unnest($3::text[]) AS r(entity) CROSS JOIN LATERAL (
                     SELECT FROM sluice_parked_letters
                     WHERE log = $1 AND table_name = $2 AND entity = r.entity OFFSET 0
                 ) AS l",
            )
            .bind(log)
            .bind(table.name())
            .bind(keys)
            .fetch_all(connection))?;
        Ok(parked.into_iter().collect())
    }
}
