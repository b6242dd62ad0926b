//! Erasing from the embedded file. Every change is a transaction of its own, one after the other, so an erasure and a
//! batch exclude each other.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, ToSql, Transaction, ffi, functions::FunctionFlags, params, types::ValueRef};
use serde_json::json;
use uuid::Uuid;

use super::{
    PART, SqliteStore,
    lease::{parsed, time},
    rows,
    trim::{self, COUNTED},
};
use crate::{
    domain::{ErasedDigest, ErasureLedger, Table},
    fault::Fault,
    store::{
        ErasedRows, Erasures, FORGOTTEN, not_erased,
        rollup::{WINDOW, window},
    },
};

/// The ledger, where it is another than the one that is known.
pub(super) fn ledger(db: &Connection, known: Option<Uuid>) -> rusqlite::Result<Option<ErasureLedger>> {
    let (salt, version): (Vec<u8>, Uuid) = db
        .prepare_cached("SELECT salt, version FROM sluice_erasure")?
        .query_row([], |row| Ok((row.get(0)?, parsed(row, 1)?)))?;
    if known == Some(version) {
        return Ok(None);
    }
    let digests: HashSet<ErasedDigest> = db
        .prepare_cached("SELECT digest FROM sluice_erased")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(ErasureLedger::new(version, salt, digests)))
}

#[async_trait]
impl Erasures for SqliteStore {
    async fn erasures(&self, known: Option<Uuid>) -> Result<Option<ErasureLedger>, Fault> {
        self.db.read("reading the ledger of erasures", move |db| ledger(db, known)).await
    }

    async fn keys_with(
        &self,
        table: Table,
        column: &str,
        values: &[String],
        limit: Option<Duration>,
    ) -> Result<Vec<String>, Fault> {
        let definition = table.definition();
        let Some(column) = definition.column(column) else { return Ok(Vec::new()) };
        let paths: Vec<String> = column.sources().map(|source| format!("$.\"{source}\"")).collect();
        let paths = json!(paths).to_string();
        let values = json!(values.iter().map(|value| folded(value)).collect::<Vec<_>>()).to_string();
        let path = "(
            SELECT n.value FROM json_each(?3) AS n WHERE json_type(dados, n.value) IS NOT NULL ORDER BY n.key LIMIT 1
        )";
        // Who is looked up by it is also found by it in a list; what refers to an entity holds its key alone.
        let held = if column.lookup {
            format!("json_tree(dados, {path})")
        } else {
            format!("(SELECT json_extract(dados, {path}) AS value)")
        };
        let sql = format!(
            "SELECT CAST(\"{key}\" AS text) FROM \"{table}\" WHERE folded(\"{name}\") IN (SELECT value FROM json_each(?1))
             UNION
             SELECT entidade_id FROM eventos_raw WHERE tipo_evento = ?2 AND
                 CASE WHEN json_valid(dados) THEN EXISTS (
                     SELECT 1 FROM {held} AS held WHERE folded(held.value) IN (SELECT value FROM json_each(?1))
                 ) END",
            key = definition.key.column,
            name = column.name,
        );
        self.db
            .read("looking for whom to erase", move |db| {
                let began = Instant::now();
                // SQLite's own functions know the case of ASCII only.
                db.create_scalar_function("folded", 1, FunctionFlags::SQLITE_UTF8, move |context| {
                    if limit.is_some_and(|limit| began.elapsed() >= limit) {
                        let interrupted = ffi::Error::new(ffi::SQLITE_INTERRUPT);
                        let told = "it took longer than it may".to_owned();
                        return Err(rusqlite::Error::SqliteFailure(interrupted, Some(told)));
                    }
                    Ok(match context.get_raw(0) {
                        ValueRef::Text(text) => Some(folded(&String::from_utf8_lossy(text))),
                        ValueRef::Integer(number) => Some(number.to_string()),
                        _ => None,
                    })
                })?;
                db.prepare_cached(&sql)?
                    .query_map(params![values, table.entity, paths], |row| row.get(0))?
                    .collect()
            })
            .await
    }

    async fn erase(
        &self,
        table: Table,
        keys: &[String],
        elsewhere: bool,
    ) -> Result<Option<ErasedRows>, Fault> {
        let keys = keys.to_vec();
        self.make_tables().await?;
        let erased = self.db.write_or_abort("erasing", move |db| {
            let erased = erase(db, table, &keys)?;
            if !elsewhere && erased.are_strangers(keys.len()) {
                return Ok(Err(None));
            }
            Ok(left_over(db, table, &keys)?.map_or(Ok(erased), |place| Err(Some(place))))
        });
        match erased.await? {
            Ok(erased) => Ok(Some(erased)),
            Err(None) => Ok(None),
            Err(Some(place)) => Err(not_erased(PART, place)),
        }
    }

    async fn forget_erased(&self) -> Result<(), Fault> {
        self.db.forget_old_pages().await
    }
}

fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}

fn erase(db: &Transaction<'_>, table: Table, keys: &[String]) -> rusqlite::Result<ErasedRows> {
    let salt: Vec<u8> = db.query_row("SELECT salt FROM sluice_erasure", [], |row| row.get(0))?;
    let now = rows::instant(Utc::now());
    let mut erased = ErasedRows::default();
    let mut windows = BTreeSet::new();
    let entity = format!("DELETE FROM \"{table}\" WHERE \"{}\" = ?", table.definition().key.column);
    for key in keys {
        let digest = ErasureLedger::digest(&salt, table.name(), key);
        erased.new += changed(db.execute(
            "INSERT INTO sluice_erased VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            params![digest, table.name(), now],
        )?);
        let mut events = db.prepare_cached(
            "DELETE FROM eventos_raw WHERE tipo_evento = ? AND entidade_id = ?
             RETURNING \"timestamp\", categoria, evento",
        )?;
        let gone = events.query_map(params![table.entity, key], |row| {
            Ok((window(time(row, 0)?), row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })?;
        for one in gone {
            windows.insert(one?);
            erased.events += 1;
        }
        for window in trim::forget(db, table, key)? {
            windows.insert(window);
            erased.marks += 1;
        }
        erased.entities += changed(db.execute(&entity, [rows::key(table, key)])?);
        for statement in [
            "DELETE FROM sluice_appended WHERE table_name = ? AND entity = ?",
            "DELETE FROM sluice_removed WHERE table_name = ? AND entity = ?",
            "DELETE FROM sluice_parked_letters WHERE table_name = ? AND entity = ?",
            "DELETE FROM sluice_alert_queue WHERE table_name = ? AND entity = ?",
            "DELETE FROM sluice_alert_outbox WHERE table_name = ? AND subject = ?",
            // What reconciliations found different is told by key.
            "UPDATE sluice_syncs SET progress = json_set(progress, '$.reconcile.differences', json((
                 SELECT json_group_array(json(d.value)) FROM json_each(progress, '$.reconcile.differences') AS d
                 WHERE json_extract(d.value, '$.key') <> ?2)))
             WHERE table_name = ?1 AND EXISTS (
                 SELECT 1 FROM json_each(progress, '$.reconcile.differences') AS d
                 WHERE json_extract(d.value, '$.key') = ?2)",
        ] {
            erased.marks += changed(db.execute(statement, params![table.name(), key])?);
        }
    }
    if erased.new > 0 {
        db.execute("UPDATE sluice_erasure SET version = ?", [Uuid::new_v4().to_string()])?;
    }
    forget_conditions(db, table)?;
    for (begin, categoria, evento) in windows {
        recount(db, begin, &categoria, &evento)?;
    }
    Ok(erased)
}

/// What syncs were asked for by columns that may name somebody: whom a pattern means is not known, so it goes for all.
fn forget_conditions(db: &Transaction<'_>, table: Table) -> rusqlite::Result<()> {
    let columns = json!(table.definition().naming_columns().collect::<Vec<_>>()).to_string();
    db.execute(
        "UPDATE sluice_syncs SET request = json_set(request, '$.conditions', json((
             SELECT json_group_array(json(CASE
                 WHEN json_extract(c.value, '$.column') IN (SELECT value FROM json_each(?2))
                 THEN json_set(c.value, '$.value', ?3) ELSE c.value END))
             FROM json_each(request, '$.conditions') AS c)))
         WHERE table_name = ?1 AND EXISTS (
             SELECT 1 FROM json_each(request, '$.conditions') AS c
             WHERE json_extract(c.value, '$.column') IN (SELECT value FROM json_each(?2)))",
        params![table.name(), columns, FORGOTTEN],
    )?;
    Ok(())
}

/// A table that still holds something of these, or not the mark that they are erased.
fn left_over(db: &Transaction<'_>, table: Table, keys: &[String]) -> rusqlite::Result<Option<&'static str>> {
    let salt: Vec<u8> = db.query_row("SELECT salt FROM sluice_erasure", [], |row| row.get(0))?;
    let holds = |sql: &str, first: &dyn ToSql, second: &dyn ToSql| {
        db.prepare_cached(&format!("SELECT 1 FROM {sql}"))?.exists([first, second])
    };
    let entity = format!("\"{table}\" WHERE \"{}\" = ? AND ? IS NOT NULL", table.definition().key.column);
    let marked = "sluice_erased WHERE digest = ? AND table_name = ?";
    for key in keys {
        if holds("eventos_raw WHERE tipo_evento = ? AND entidade_id = ?", &table.entity, key)? {
            return Ok(Some("eventos_raw"));
        }
        if holds(&entity, &rows::key(table, key), key)? {
            return Ok(Some(table.name()));
        }
        if !holds(marked, &ErasureLedger::digest(&salt, table.name(), key), &table.name())? {
            return Ok(Some("sluice_erased"));
        }
        for (of_marks, entity) in [
            ("sluice_appended", "entity"),
            ("sluice_parked_letters", "entity"),
            ("sluice_alert_queue", "entity"),
            ("sluice_alert_outbox", "subject"),
        ] {
            if holds(&format!("{of_marks} WHERE table_name = ? AND {entity} = ?"), &table.name(), key)? {
                return Ok(Some(of_marks));
            }
        }
    }
    Ok(None)
}

/// Counts a window anew: the rollup equals a recount before and after.
fn recount(
    db: &Transaction<'_>,
    begin: DateTime<Utc>,
    categoria: &str,
    evento: &str,
) -> rusqlite::Result<()> {
    let (from, to) = (rows::instant(begin), rows::instant(begin + WINDOW));
    let (total, sum): (i64, f64) = db
        .prepare_cached(&format!(
            "SELECT coalesce(sum(total), 0), coalesce(sum(soma), 0.0) FROM {COUNTED}
             WHERE instante >= ? AND instante < ? AND categoria = ? AND evento = ?"
        ))?
        .query_row(params![from, to, categoria, evento], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let place = "janela_inicio = ?1 AND categoria = ?2 AND evento = ?3";
    if total == 0 {
        let empty = format!("DELETE FROM eventos_agregados WHERE {place}");
        db.execute(&empty, params![from, categoria, evento])?;
    } else {
        let counted = format!("UPDATE eventos_agregados SET total = ?4, soma_valor = ?5 WHERE {place}");
        db.execute(&counted, params![from, categoria, evento, total, sum])?;
    }
    Ok(())
}

fn changed(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
