//! What was appended of every entity, beside what the embedded store has of it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{params, types::Value};

use super::{
    SqliteStore,
    lease::{parsed, time},
    questions, rows,
    trim::COUNTED,
};
use crate::{
    domain::{KeyKind, Table, micros},
    fault::Fault,
    log::Position,
    store::{
        Appended, EntityEvents, Entry, Ledger, ParkedLetter, Settled, Stranger, StrangerPage, Tally,
        rollup::{WINDOW, window},
    },
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

    async fn tally(
        &self,
        log: &str,
        letters: &str,
        table: Table,
        sinks: [&str; 2],
        settled: DateTime<Utc>,
    ) -> Result<Tally, Fault> {
        let (log, letters, sinks) = (log.to_owned(), letters.to_owned(), sinks.map(str::to_owned));
        let sql = format!(
            "SELECT (SELECT count(*) FROM \"{table}\"),
                    l.appended, l.settled, o.parked, o.refused, o.of_first, o.of_second,
                    (SELECT count(DISTINCT p.entity) FROM sluice_parked_letters AS p
                     WHERE p.log = ?2 AND p.table_name = ?3 AND p.sink IS NULL AND NOT EXISTS (
                         SELECT 1 FROM sluice_resolved_letters AS r
                         WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                             AND r.letter_id = p.letter_id AND r.resolution <> 'discarded'
                     ) AND NOT EXISTS (
                         SELECT 1 FROM sluice_appended AS a
                         WHERE a.log = ?1 AND a.table_name = ?3 AND a.entity = p.entity AND a.versao > 0
                     )),
                    (SELECT count(*) FROM sluice_erased WHERE table_name = ?3),
                    (SELECT max(erased_at) FROM sluice_erased WHERE table_name = ?3)
             FROM (
                 SELECT count(*) AS appended, count(*) FILTER (WHERE versao <= ?4) AS settled FROM sluice_appended
                 WHERE log = ?1 AND table_name = ?3 AND versao > 0 AND NOT removed
             ) AS l, (
                 SELECT count(DISTINCT entity) FILTER (WHERE resolution IS NULL) AS parked,
                     count(DISTINCT entity) FILTER (WHERE resolution IS NULL AND sink IS NOT NULL) AS refused,
                     count(DISTINCT entity) FILTER (
                         WHERE NOT is_held AND (is_unmade OR resolution IS NULL AND sink = ?5)
                     ) AS of_first,
                     count(DISTINCT entity) FILTER (WHERE is_unmade OR resolution IS NULL AND sink = ?6) AS of_second
                 FROM (
                     SELECT p.entity, p.sink, r.resolution,
                         p.sink IS NULL AND (r.resolution IS NULL OR r.resolution = 'discarded') AND EXISTS (
                             SELECT 1 FROM sluice_appended AS a
                             WHERE a.log = ?1 AND a.table_name = ?3 AND a.entity = p.entity AND a.event = p.letter_id
                                 AND a.versao > 0
                         ) AS is_unmade,
                         EXISTS (SELECT 1 FROM \"{table}\" AS t WHERE t.\"{key}\" = {key_of}) AS is_held
                     FROM sluice_parked_letters AS p
                     LEFT JOIN sluice_resolved_letters AS r ON r.log = p.log AND r.partition = p.partition
                         AND r.\"offset\" = p.\"offset\" AND r.letter_id = p.letter_id
                     WHERE p.log = ?2 AND p.table_name = ?3
                 ) AS e
             ) AS o",
            key = table.definition().key.column,
            key_of = key_of(table, "p.entity"),
        );
        let counted = self.db.read("counting entities", move |db| {
            let [first, second] = &sinks;
            let params = params![log, letters, table.name(), micros(settled), first, second];
            db.query_row(&sql, params, |row| {
                let mut counts = [0_i64; 9];
                for (column, count) in counts.iter_mut().enumerate() {
                    *count = row.get(column)?;
                }
                let last_erasure = row.get::<_, Option<String>>(9)?.map(|_| time(row, 9)).transpose()?;
                Ok((counts, last_erasure))
            })
        });
        let (counts, last_erasure) = counted.await?;
        let [entities, appended, settled, parked, refused, first, second, unusable, erased] =
            counts.map(|count| u64::try_from(count).unwrap_or_default());
        let explained = [first, second];
        Ok(Tally { entities, appended, settled, parked, refused, explained, unusable, erased, last_erasure })
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

    async fn remove_strays(&self, table: Table, keys: &[String]) -> Result<(), Fault> {
        let keys = keys.to_vec();
        let sql =
            format!("DELETE FROM \"{table}\" WHERE CAST(\"{}\" AS text) = ?", table.definition().key.column);
        self.db
            .write("removing rows of no entity", move |db| {
                let mut remove = db.prepare_cached(&sql)?;
                keys.iter().try_for_each(|key| remove.execute([key]).map(drop))
            })
            .await
    }

    async fn entity_events(
        &self,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntityEvents, Fault> {
        let after = after.map(str::to_owned);
        self.db
            .read("reading the events of entities", move |db| {
                questions::events_of_entities(db, table, after.as_deref(), limit)
            })
            .await
    }

    async fn recount(&self, since: DateTime<Utc>) -> Result<(), Fault> {
        self.db
            .write("counting windows anew", move |db| {
                let times: Vec<DateTime<Utc>> = db
                    .prepare_cached("SELECT DISTINCT \"timestamp\" FROM eventos_raw WHERE processado_em >= ?")?
                    .query_map([rows::instant(since)], |row| time(row, 0))?
                    .collect::<rusqlite::Result<_>>()?;
                let windows: BTreeSet<DateTime<Utc>> = times.into_iter().map(window).collect();
                let mut forget = db.prepare_cached("DELETE FROM eventos_agregados WHERE janela_inicio = ?")?;
                let mut count = db.prepare_cached(&format!(
                    "INSERT INTO eventos_agregados (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
                     SELECT ?1, ?2, categoria, evento, sum(total), sum(soma) FROM {COUNTED}
                     WHERE instante >= ?1 AND instante < ?2 GROUP BY categoria, evento"
                ))?;
                for begin in windows {
                    let (begin, end) = (rows::instant(begin), rows::instant(begin + WINDOW));
                    forget.execute([&begin])?;
                    count.execute([&begin, &end])?;
                }
                Ok(())
            })
            .await
    }

    async fn parked(&self, log: &str, table: Table, keys: &[String]) -> Result<Vec<ParkedLetter>, Fault> {
        let (log, keys) = (log.to_owned(), keys.to_vec());
        self.db
            .read("looking for letters of entities", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT l.sink, l.partition, l.\"offset\", d.resolution, l.letter_id FROM sluice_parked_letters AS l
                     LEFT JOIN sluice_resolved_letters AS d
                         ON d.log = l.log AND d.partition = l.partition AND d.\"offset\" = l.\"offset\"
                         AND d.letter_id = l.letter_id
                     WHERE l.log = ? AND l.table_name = ? AND l.entity = ?",
                )?;
                let mut parked = Vec::new();
                for key in &keys {
                    let mut found = statement.query(params![log, table.name(), key])?;
                    while let Some(row) = found.next()? {
                        let settled: Option<String> = row.get(3)?;
                        parked.push(ParkedLetter {
                            entity: key.clone(),
                            letter: parsed(row, 4)?,
                            sink: row.get(0)?,
                            at: Position { partition: row.get(1)?, offset: row.get(2)? },
                            settled: settled.as_deref().and_then(Settled::named),
                        });
                    }
                }
                Ok(parked)
            })
            .await
    }
}

/// An entity's name as its key's column has it; null where it is no key, of which a cast would make the number 0.
fn key_of(table: Table, entity: &str) -> String {
    match table.definition().key.kind {
        KeyKind::Bigint => {
            let number = format!("CAST({entity} AS integer)");
            format!("CASE WHEN CAST({number} AS text) = {entity} THEN {number} END")
        }
        KeyKind::Uuid | KeyKind::Text => entity.to_owned(),
    }
}
