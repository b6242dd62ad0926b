//! Trimming events in the embedded file. Every change is a transaction of its own, one after the other, so a trimming and a
//! batch exclude each other.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::{
    SqliteStore,
    lease::{parsed, time},
    rows::{self, instant},
};
use crate::{
    domain::{Catalog, Table},
    fault::Fault,
    store::{
        EventName, Housekeeping, HousekeepingPass, TrimCursor, TrimPage, housekeeping::EVENTS, rollup::window,
    },
};

/// Events looked at in one question.
const PAGE: usize = 500;

/// What the rollup counts: the events that are there and were never trimmed, and the windows of those that were.
pub(super) const COUNTED: &str = "(
     SELECT \"timestamp\" AS instante, categoria, evento, 1 AS total, valor AS soma FROM eventos_raw AS e
     WHERE NOT EXISTS (
         SELECT 1 FROM sluice_trimmed AS s
         WHERE s.entidade_id = e.entidade_id AND s.tipo_evento = e.tipo_evento AND s.id = e.id
     )
     UNION ALL SELECT janela_inicio, categoria, evento, total, soma_valor FROM sluice_trimmed_windows
 )";

/// Below which version a delivery of this event is of the past; `None` of one that was not trimmed.
pub(super) fn known(
    db: &Connection,
    tipo_evento: &str,
    key: &str,
    id: Uuid,
) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached(
        "SELECT below FROM sluice_trimmed WHERE entidade_id = ? AND tipo_evento = ? AND id = ?",
    )?
    .query_row(params![key, tipo_evento, id.to_string()], |row| row.get(0))
    .optional()
}

/// An event that may have to go.
struct Old {
    id: Uuid,
    tipo_evento: String,
    key: String,
    versao: i64,
}

/// Where an event's row stands now, if it may go: its row has moved on, to a version below `below`, and has this content no
/// more. An event of a table without a definition here stays, as does what alerts still have to look at or to send.
fn may_go(db: &Connection, catalog: Catalog, old: &Old, below: i64) -> rusqlite::Result<Option<i64>> {
    let Some(table) = catalog.of_entity(&old.tipo_evento) else { return Ok(None) };
    let id = old.id.to_string();
    let is_superseded = db
        .prepare_cached(
            "SELECT 1 FROM eventos_raw
             WHERE entidade_id = ? AND versao > ? AND versao < ? AND tipo_evento = ? LIMIT 1",
        )?
        .exists(params![old.key, old.versao, below, old.tipo_evento])?;
    if !is_superseded {
        return Ok(None);
    }
    let row: Option<(i64, String)> = db
        .prepare_cached(&format!(
            "SELECT versao, evento_id FROM \"{table}\" WHERE \"{}\" = ?1",
            table.key.column
        ))?
        .query_row(params![rows::key(table, &old.key)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let stands_at = match row {
        Some((versao, event)) => Some(versao).filter(|_| event != id),
        None => db
            .prepare_cached("SELECT versao FROM sluice_removed WHERE table_name = ? AND entity = ?")?
            .query_row(params![table.name(), old.key], |row| row.get(0))
            .optional()?,
    };
    let Some(stands_at) = stands_at.filter(|versao| *versao > old.versao) else { return Ok(None) };
    let awaited = db
        .prepare_cached(
            "SELECT 1 FROM sluice_alert_queue WHERE table_name = ?1 AND entity = ?2
             UNION ALL SELECT 1 FROM sluice_alert_outbox WHERE due_at IS NOT NULL AND event = ?3",
        )?
        .exists(params![table.name(), old.key, id])?;
    Ok(Some(stands_at).filter(|_| !awaited))
}

#[async_trait]
impl Housekeeping for SqliteStore {
    async fn passes(&self) -> Result<Vec<HousekeepingPass>, Fault> {
        self.db
            .read("reading what housekeeping did", |db| {
                let optional = |row: &rusqlite::Row<'_>, column| {
                    row.get::<_, Option<String>>(column)?.map(|_| time(row, column)).transpose()
                };
                db.prepare_cached(
                    "SELECT task, ended_at, succeeded_at, removed, removed_in_all, error FROM sluice_housekeeping ORDER BY 1",
                )?
                .query_map([], |row| {
                    Ok(HousekeepingPass {
                        task: row.get(0)?,
                        ended_at: optional(row, 1)?,
                        succeeded_at: optional(row, 2)?,
                        removed: row.get(3)?,
                        removed_in_all: row.get(4)?,
                        error: row.get(5)?,
                    })
                })?
                .collect()
            })
            .await
    }

    async fn keep_pass(&self, task: &str, removed: u64, error: Option<&str>) -> Result<(), Fault> {
        let (task, error) = (task.to_owned(), error.map(str::to_owned));
        self.db
            .write("keeping what housekeeping did", move |db| {
                let (now, added) = (instant(Utc::now()), if task == EVENTS { 0 } else { removed });
                db.execute(
                    "INSERT INTO sluice_housekeeping VALUES (?1, ?2, CASE WHEN ?5 IS NULL THEN ?2 END, ?3, ?4, ?5)
                     ON CONFLICT (task) DO UPDATE
                     SET ended_at = ?2, succeeded_at = coalesce(excluded.succeeded_at, succeeded_at), removed = ?3,
                         removed_in_all = removed_in_all + ?4, error = ?5",
                    params![task, now, removed, added, error],
                )?;
                Ok(())
            })
            .await
    }

    async fn trimmable(&self, below: i64, after: Option<TrimCursor>) -> Result<TrimPage, Fault> {
        let (catalog, after) = (self.catalog, after.unwrap_or((i64::MIN, Uuid::nil())));
        self.db
            .read("looking for old events", move |db| {
                let page: Vec<Old> = db
                    .prepare_cached(
                        "SELECT id, tipo_evento, entidade_id, versao FROM eventos_raw
                         WHERE versao < ? AND (versao, id) > (?, ?) ORDER BY versao, id LIMIT ?",
                    )?
                    .query_map(params![below, after.0, after.1.to_string(), PAGE], |row| {
                        Ok(Old {
                            id: parsed(row, 0)?,
                            tipo_evento: row.get(1)?,
                            key: row.get(2)?,
                            versao: row.get(3)?,
                        })
                    })?
                    .collect::<rusqlite::Result<_>>()?;
                let next = page.last().filter(|_| page.len() == PAGE).map(|last| (last.versao, last.id));
                let mut events = Vec::new();
                for old in page {
                    if may_go(db, catalog, &old, below)?.is_some() {
                        events.push(old.id);
                    }
                }
                Ok(TrimPage { events, next })
            })
            .await
    }

    async fn trim(&self, events: &[Uuid], below: i64) -> Result<u64, Fault> {
        let (catalog, events) = (self.catalog, events.to_vec());
        self.db
            .write("trimming events", move |db| {
                let mut trimmed = 0;
                for id in &events {
                    trimmed += u64::from(trim(db, catalog, *id, below)?);
                }
                db.execute(
                    "INSERT INTO sluice_housekeeping (task, removed_in_all) VALUES (?1, ?2)
                     ON CONFLICT (task) DO UPDATE SET removed_in_all = removed_in_all + ?2",
                    params![EVENTS, trimmed],
                )?;
                Ok(trimmed)
            })
            .await
    }

    async fn trimmed(&self, events: &[EventName]) -> Result<HashMap<Uuid, i64>, Fault> {
        let events = events.to_vec();
        self.db
            .read("looking for trimmed events", move |db| {
                let mut trimmed = HashMap::new();
                if !db.prepare_cached("SELECT 1 FROM sluice_trimmed LIMIT 1")?.exists([])? {
                    return Ok(trimmed);
                }
                let mut stored = db.prepare_cached("SELECT 1 FROM eventos_raw WHERE id = ?")?;
                for event in &events {
                    let below = known(db, &event.tipo_evento, &event.entidade, event.id)?;
                    if let Some(below) = below
                        && !stored.exists([event.id.to_string()])?
                    {
                        trimmed.insert(event.id, below);
                    }
                }
                Ok(trimmed)
            })
            .await
    }

    async fn trimmed_between(
        &self,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<bool, Fault> {
        let (from, to) = (from.map(window).map(instant), to.map(instant));
        self.db
            .read("looking for windows of trimmed events", move |db| {
                db.prepare_cached(
                    "SELECT 1 FROM sluice_trimmed_windows
                     WHERE janela_inicio >= coalesce(?1, '') AND janela_inicio < coalesce(?2, '~') LIMIT 1",
                )?
                .exists(params![from, to])
            })
            .await
    }

    async fn trimmed_of(&self, table: Table, key: &str) -> Result<u64, Fault> {
        let key = key.to_owned();
        self.db
            .read("counting an entity's trimmed events", move |db| {
                db.query_row(
                    "SELECT count(*) FROM sluice_trimmed WHERE entidade_id = ? AND tipo_evento = ?",
                    params![key, table.entity],
                    |row| row.get(0),
                )
            })
            .await
    }
}

/// Whether the event was trimmed: it was there and may go.
fn trim(db: &Transaction<'_>, catalog: Catalog, id: Uuid, below: i64) -> rusqlite::Result<bool> {
    let found = db
        .prepare_cached(
            "SELECT id, tipo_evento, entidade_id, versao, \"timestamp\", categoria, evento, valor FROM eventos_raw
             WHERE id = ? AND versao < ?",
        )?
        .query_row(params![id.to_string(), below], |row| {
            let old =
                Old { id, tipo_evento: row.get(1)?, key: row.get(2)?, versao: row.get(3)? };
            Ok((old, time(row, 4)?, row.get::<_, String>(5)?, row.get::<_, String>(6)?, row.get::<_, f64>(7)?))
        })
        .optional()?;
    let Some((old, at, categoria, evento, valor)) = found else { return Ok(false) };
    let Some(stands_at) = may_go(db, catalog, &old, below)? else { return Ok(false) };
    db.prepare_cached("DELETE FROM eventos_raw WHERE id = ?")?.execute([id.to_string()])?;
    if known(db, &old.tipo_evento, &old.key, id)?.is_none() {
        db.prepare_cached(
            "INSERT INTO sluice_trimmed_windows VALUES (?, ?, ?, 1, ?)
             ON CONFLICT (janela_inicio, categoria, evento)
             DO UPDATE SET total = total + 1, soma_valor = soma_valor + excluded.soma_valor",
        )?
        .execute(params![instant(window(at)), categoria, evento, valor])?;
    }
    db.prepare_cached(
        "INSERT INTO sluice_trimmed VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (entidade_id, tipo_evento, id) DO UPDATE SET below = excluded.below",
    )?
    .execute(params![
        old.key,
        old.tipo_evento,
        id.to_string(),
        // A later delivery of that version or beyond says that the row has this content again.
        stands_at,
        instant(window(at)),
        categoria,
        evento,
        valor
    ])?;
    Ok(true)
}

/// What was trimmed of an entity is taken from what the trimmed gave, too. Tells the window of each event.
pub(super) fn forget(
    db: &Transaction<'_>,
    table: Table,
    key: &str,
) -> rusqlite::Result<Vec<(DateTime<Utc>, String, String)>> {
    let mut gone = db.prepare_cached(
        "DELETE FROM sluice_trimmed WHERE tipo_evento = ? AND entidade_id = ?
         RETURNING janela_inicio, categoria, evento",
    )?;
    let gone: Vec<(DateTime<Utc>, String, String)> = gone
        .query_map(params![table.entity, key], |row| Ok((time(row, 0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    // Added up anew: what is taken away from a sum of doubles leaves something of itself behind.
    let mut anew = db.prepare_cached(
        "UPDATE sluice_trimmed_windows SET (total, soma_valor) = (
             SELECT count(*), coalesce(sum(valor), 0.0) FROM sluice_trimmed AS s
             WHERE s.janela_inicio = ?1 AND s.categoria = ?2 AND s.evento = ?3)
         WHERE janela_inicio = ?1 AND categoria = ?2 AND evento = ?3",
    )?;
    for (begin, categoria, evento) in gone.iter().collect::<BTreeSet<_>>() {
        anew.execute(params![instant(*begin), categoria, evento])?;
    }
    db.execute("DELETE FROM sluice_trimmed_windows WHERE total <= 0", [])?;
    Ok(gone)
}
