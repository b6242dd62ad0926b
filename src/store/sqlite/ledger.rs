//! What was appended of every entity, beside what the embedded store has of it.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params, types::Value};

use super::{
    SqliteStore,
    lease::{parsed, time},
    rows,
};
use crate::{
    domain::{KeyKind, Table},
    fault::Fault,
    store::{Appended, Entry, Ledger, SavedReading, Stranger, StrangerPage, Tally},
};

#[async_trait]
impl Ledger for SqliteStore {
    async fn entries(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Entry>, Fault> {
        // The empty text is the first key there may be.
        let beyond = if after.is_some() { ">" } else { ">=" };
        let (log, after) = (log.to_owned(), after.unwrap_or_default().to_owned());
        let key = &table.definition().key.column;
        let sql = format!(
            "SELECT a.entity, a.event, a.versao, a.removed, t.versao, e.id IS NOT NULL
             FROM (SELECT entity, event, versao, removed FROM sluice_appended
                   WHERE log = ?1 AND table_name = ?2 AND entity {beyond} ?3 AND versao > 0 ORDER BY entity LIMIT ?4) AS a
             LEFT JOIN \"{table}\" AS t ON t.\"{key}\" = {key_of}
             LEFT JOIN eventos_raw AS e ON e.id = a.event
             ORDER BY a.entity",
            key_of = key_of(table, "a.entity"),
        );
        self.db
            .read("comparing entities", move |db| {
                db.prepare_cached(&sql)?
                    .query_map(params![log, table.name(), after, limit], |row| {
                        Ok(Entry {
                            appended: Appended {
                                entity: row.get(0)?,
                                event: parsed(row, 1)?,
                                versao: row.get(2)?,
                                removed: row.get(3)?,
                            },
                            held: row.get(4)?,
                            has_event: row.get(5)?,
                        })
                    })?
                    .collect()
            })
            .await
    }

    async fn tally(&self, log: &str, letters: &str, table: Table) -> Result<Tally, Fault> {
        let (log, letters) = (log.to_owned(), letters.to_owned());
        let sql = format!(
            "SELECT (SELECT count(*) FROM \"{table}\"),
                    (SELECT count(*) FROM sluice_appended
                     WHERE log = ?1 AND table_name = ?3 AND versao > 0 AND NOT removed),
                    (SELECT count(DISTINCT p.entity) FROM sluice_parked_letters AS p
                     WHERE p.log = ?2 AND p.table_name = ?3 AND NOT EXISTS (
                         SELECT 1 FROM sluice_resolved_letters AS r
                         WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                             AND r.letter_id = p.letter_id
                     ))"
        );
        let counted = self.db.read("counting entities", move |db| {
            db.query_row(&sql, params![log, letters, table.name()], |row| {
                Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?])
            })
        });
        let [entities, appended, parked] =
            counted.await?.map(|count| u64::try_from(count).unwrap_or_default());
        Ok(Tally { entities, appended, parked })
    }

    async fn entity_count(&self, table: Table) -> Result<u64, Fault> {
        let sql = format!("SELECT count(*) FROM \"{table}\"");
        let count: i64 =
            self.db.read("counting entities", move |db| db.query_row(&sql, [], |row| row.get(0))).await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn strangers(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<StrangerPage, Fault> {
        let log = log.to_owned();
        let key = &table.definition().key.column;
        let beyond =
            if after.is_some() { format!("WHERE \"{key}\" > ?4") } else { "WHERE ?4 IS NULL".to_owned() };
        let after = after.map_or(Value::Null, |after| rows::key(table, after));
        let sql = format!(
            "SELECT CAST(t.chave AS text), t.versao, a.entity IS NULL
             FROM (SELECT \"{key}\" AS chave, versao FROM \"{table}\" {beyond} ORDER BY \"{key}\" LIMIT ?3) AS t
             LEFT JOIN sluice_appended AS a
                 ON a.log = ?1 AND a.table_name = ?2 AND a.entity = CAST(t.chave AS text) AND a.versao > 0
             ORDER BY t.chave"
        );
        self.db
            .read("looking for entities that nobody appended", move |db| {
                let mut page = StrangerPage::default();
                let mut statement = db.prepare_cached(&sql)?;
                let mut found = statement.query(params![log, table.name(), limit, after])?;
                while let Some(row) = found.next()? {
                    let key: String = row.get(0)?;
                    if row.get(2)? {
                        page.strangers.push(Stranger { key: key.clone(), versao: row.get(1)? });
                    }
                    page.last = Some(key);
                }
                Ok(page)
            })
            .await
    }

    async fn saved_reading(&self, log: &str, table: Table) -> Result<Option<SavedReading>, Fault> {
        let log = log.to_owned();
        self.db
            .read("looking for a reading to go on with", move |db| {
                db.query_row(
                    "SELECT began_at, after_key, keys, unkeyed, erased FROM sluice_readings WHERE log = ? AND table_name = ?",
                    params![log, table.name()],
                    |row| {
                        let (unkeyed, erased): (i64, i64) = (row.get(3)?, row.get(4)?);
                        Ok(SavedReading {
                            began_at: time(row, 0)?,
                            after: row.get(1)?,
                            keys: row.get(2)?,
                            unkeyed: u64::try_from(unkeyed).unwrap_or_default(),
                            erased: u64::try_from(erased).unwrap_or_default(),
                        })
                    },
                )
                .optional()
            })
            .await
    }

    async fn save_reading(
        &self,
        log: &str,
        table: Table,
        reading: Option<&SavedReading>,
    ) -> Result<(), Fault> {
        let (log, reading) = (log.to_owned(), reading.cloned());
        self.db
            .write("keeping how far a reading is", move |db| match &reading {
                None => db.execute(
                    "DELETE FROM sluice_readings WHERE log = ? AND table_name = ?",
                    params![log, table.name()],
                ),
                Some(reading) => db.execute(
                    "INSERT OR REPLACE INTO sluice_readings (log, table_name, began_at, after_key, keys, unkeyed, erased)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                    params![
                        log,
                        table.name(),
                        rows::instant(reading.began_at),
                        reading.after,
                        reading.keys,
                        i64::try_from(reading.unkeyed).unwrap_or(i64::MAX),
                        i64::try_from(reading.erased).unwrap_or(i64::MAX)
                    ],
                ),
            })
            .await?;
        Ok(())
    }

    async fn parked(&self, log: &str, table: Table, keys: &[String]) -> Result<HashSet<String>, Fault> {
        let (log, keys) = (log.to_owned(), keys.to_vec());
        self.db
            .read("looking for open letters", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT 1 FROM sluice_parked_letters WHERE log = ? AND table_name = ? AND entity = ?",
                )?;
                let mut parked = HashSet::new();
                for key in &keys {
                    if statement.exists(params![log, table.name(), key])? {
                        parked.insert(key.clone());
                    }
                }
                Ok(parked)
            })
            .await
    }
}

/// An entity's name as its key's column has it.
fn key_of(table: Table, entity: &str) -> String {
    match table.definition().key.kind {
        KeyKind::Bigint => format!("CAST({entity} AS integer)"),
        KeyKind::Uuid | KeyKind::Text => entity.to_owned(),
    }
}
