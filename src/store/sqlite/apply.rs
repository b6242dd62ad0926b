//! A batch is one transaction, guarded by the offset and the epoch it expects.

use std::collections::HashSet;

use chrono::Datelike;
use rusqlite::{ErrorCode, OptionalExtension, Transaction, params, params_from_iter};

use super::{
    PART, alerts, erasures, prepare,
    rows::{self, EVENT_COLUMNS},
    trim,
};
use crate::{
    domain::{Catalog, Event, Table},
    fault::Fault,
    log::Position,
    sink::{Applied, ApplyError, Rejection, SinkBatch, SinkEvent, Span},
    store::{
        envelope_problem,
        erasures::without_erased,
        fenced, kept_out,
        refusals::{Outcome, Streaks},
        refuses_everything,
        rollup::{Rollup, WINDOW},
        table_of,
    },
};

/// The years whose spelling sorts as text, and that SQLite's own functions know.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;

/// Applies a batch, unless it is not ours to apply or holds what can never be.
pub(super) fn apply(
    db: &Transaction<'_>,
    catalog: Catalog,
    log: &str,
    batch: &SinkBatch,
    streaks: &Streaks,
) -> rusqlite::Result<Result<Applied, ApplyError>> {
    for span in &batch.spans {
        if !advance(db, log, span)? {
            return Ok(Err(fenced(PART, batch).into()));
        }
    }
    let written: Vec<Table> = catalog
        .tables()
        .filter(|table| batch.events.iter().any(|event| event.table == Some(*table)))
        .collect();
    if let Err(fault) = prepare::check(db, &written)? {
        return Ok(Err(fault.into()));
    }
    let events = batch.events.len();
    let kept = without_erased(batch, &erasures::ledger(db, None)?.unwrap_or_default());
    let batch = &*kept;
    let mut rejections: Vec<Rejection> =
        batch.events.iter().filter_map(|sink| Some(rejection(sink, problem(sink)?))).collect();
    if !rejections.is_empty() {
        return Ok(Err(ApplyError::Rejected(rejections)));
    }
    let erased = u64::try_from(events - batch.events.len()).unwrap_or(u64::MAX);
    let mut applied = Applied { erased, ..Applied::default() };
    // Before the rows are written: only a version that moves one on is news.
    alerts::queue(db, batch)?;
    let mut insert = db.prepare_cached(&event_insert())?;
    let mut rollup = Rollup::default();
    for sink in &batch.events {
        let event = &sink.event;
        let trimmed = trim::known(db, &event.tipo_evento, &event.entidade.id, event.id)?;
        if trimmed.is_some_and(|below| event.entidade.versao < below) {
            applied.duplicates += 1;
            continue;
        }
        match accepted(insert.execute(params_from_iter(rows::event(sink))))? {
            Some(1) => {
                applied.inserted += 1;
                // What was trimmed was counted.
                if trimmed.is_none() {
                    rollup.add(event);
                }
            }
            Some(_) if is_there(db, event)? => applied.duplicates += 1,
            Some(_) => rejections.push(rejection(sink, &kept_out("eventos_raw"))),
            None => rejections.push(rejection(sink, REFUSED)),
        }
    }
    if !count(db, &rollup)? {
        let fault = Fault::misconfigured(
            PART,
            "apply: a trigger that somebody added keeps windows out of eventos_agregados and says nothing",
            "remove the trigger; nothing is lost, the batch is applied then",
        );
        return Ok(Err(fault.into()));
    }
    for table in written {
        let mut upsert = db.prepare_cached(&entity_upsert(table))?;
        for sink in batch.newest_of(table) {
            let written = if sink.event.entidade.removida {
                remove(db, table, &sink.event)
            } else if is_removed(db, table, &sink.event)? {
                Ok(false)
            } else {
                upsert.exists(params_from_iter(rows::entity(table, sink)))
            };
            match accepted(written)? {
                Some(true) => applied.entities += 1,
                Some(false) if stands(db, table, &sink.event)? => applied.stale += 1,
                Some(false) => rejections.push(rejection(sink, &kept_out(table.name()))),
                None => rejections.push(rejection(sink, REFUSED)),
            }
        }
    }
    let refused: HashSet<Position> = rejections.iter().map(|rejection| rejection.position).collect();
    let mut outcome = Outcome::default();
    for sink in &batch.events {
        if refused.contains(&sink.position) {
            outcome.refused.entry(table_of(sink)).or_default().insert(sink.position);
        } else {
            outcome.taken.insert(table_of(sink));
        }
    }
    if let Some((table, rows)) = streaks.judge(&outcome) {
        let reason = rejections.iter().find(|rejection| outcome.refused[table].contains(&rejection.position));
        let reason = reason.map_or(REFUSED, |rejection| &rejection.reason);
        return Ok(Err(refuses_everything(PART, table, rows, reason).into()));
    }
    if rejections.is_empty() {
        return Ok(Ok(applied));
    }
    rejections.sort_unstable_by_key(|rejection| rejection.position);
    rejections.dedup_by_key(|rejection| rejection.position);
    Ok(Err(ApplyError::Rejected(rejections)))
}

/// Nothing of sluice's own refuses a row.
const REFUSED: &str = "a constraint or a trigger that somebody added to the table refuses it";

/// The statement's outcome; `None` where the row itself is refused, which undoes no other statement.
fn accepted<T>(outcome: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match outcome {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(None),
        other => other.map(Some),
    }
}

fn rejection(sink: &SinkEvent, reason: &str) -> Rejection {
    Rejection { position: sink.position, reason: reason.to_owned() }
}

fn problem(sink: &SinkEvent) -> Option<&'static str> {
    if !YEARS.contains(&sink.event.timestamp.year()) {
        return Some("timestamp lies outside the years 0 to 9999, which SQLite knows");
    }
    envelope_problem(sink)
}

fn advance(db: &Transaction<'_>, log: &str, span: &Span) -> rusqlite::Result<bool> {
    let moved = db
        .prepare_cached(
            "UPDATE sluice_offsets SET next_offset = ?5
             WHERE log = ?1 AND partition = ?2 AND epoch = ?3 AND (next_offset = ?4 OR next_offset IS NULL)",
        )?
        .execute(params![log, span.partition, span.epoch, span.first, span.next])?;
    Ok(moved == 1)
}

fn is_there(db: &Transaction<'_>, event: &Event) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM eventos_raw WHERE id = ?")?.exists([event.id.to_string()])
}

fn event_insert() -> String {
    format!(
        "INSERT INTO eventos_raw ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO NOTHING"
    )
}

/// Whether the entity was removed at a later version.
fn is_removed(db: &Transaction<'_>, table: Table, event: &Event) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM sluice_removed WHERE table_name = ? AND entity = ? AND versao > ?")?
        .exists(params![table.name(), event.entidade.id, event.entidade.versao])
}

/// Whether the table holds what this event makes of its entity, or something later.
fn stands(db: &Transaction<'_>, table: Table, event: &Event) -> rusqlite::Result<bool> {
    let (entity, versao) = (&event.entidade.id, event.entidade.versao);
    let key = &table.definition().key.column;
    let held: Option<i64> = db
        .prepare_cached(&format!("SELECT versao FROM \"{table}\" WHERE \"{key}\" = ?"))?
        .query_row([rows::key(table, entity)], |row| row.get(0))
        .optional()?;
    let gone: Option<i64> = db
        .prepare_cached("SELECT versao FROM sluice_removed WHERE table_name = ? AND entity = ?")?
        .query_row(params![table.name(), entity], |row| row.get(0))
        .optional()?;
    Ok(if event.entidade.removida {
        held.map_or_else(|| gone.is_some_and(|gone| gone >= versao), |held| held > versao)
    } else {
        held.is_some_and(|held| held >= versao) || gone.is_some_and(|gone| gone > versao)
    })
}

/// Removes an entity that is not newer, and remembers at which version it went. `false` when it is newer, or went at
/// this version or a later one.
fn remove(db: &Transaction<'_>, table: Table, event: &Event) -> rusqlite::Result<bool> {
    let key = &table.definition().key.column;
    let (entity, versao) = (&event.entidade.id, event.entidade.versao);
    db.prepare_cached(&format!("DELETE FROM \"{table}\" WHERE \"{key}\" = ? AND versao <= ?"))?
        .execute(params![rows::key(table, entity), versao])?;
    if db
        .prepare_cached(&format!("SELECT 1 FROM \"{table}\" WHERE \"{key}\" = ?"))?
        .exists([rows::key(table, entity)])?
    {
        return Ok(false);
    }
    let kept = db
        .prepare_cached(
            "INSERT INTO sluice_removed (table_name, entity, versao) VALUES (?, ?, ?)
             ON CONFLICT (table_name, entity) DO UPDATE SET versao = excluded.versao WHERE versao < excluded.versao",
        )?
        .execute(params![table.name(), entity, versao])?;
    Ok(kept == 1)
}

/// Adds new events to their windows; tells whether every window took them.
fn count(db: &Transaction<'_>, rollup: &Rollup<'_>) -> rusqlite::Result<bool> {
    let mut add = db.prepare_cached(
        "INSERT INTO eventos_agregados (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
         VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (janela_inicio, categoria, evento)
         DO UPDATE SET total = total + excluded.total, soma_valor = soma_valor + excluded.soma_valor",
    )?;
    let mut taken = true;
    for added in rollup.added() {
        let (begin, end) = (rows::instant(added.begin), rows::instant(added.begin + WINDOW));
        taken &=
            add.execute(params![begin, end, added.categoria, added.evento, added.total, added.soma])? == 1;
    }
    Ok(taken)
}

/// The statement that creates an entity or moves it forward, never back; it returns a row where it did. Of equal
/// versions the one that comes later stays; the same event again changes nothing.
fn entity_upsert(table: Table) -> String {
    let columns = rows::entity_columns(table);
    let marks = vec!["?"; columns.len()].join(", ");
    let updates: Vec<String> =
        columns[1..].iter().map(|column| format!("\"{column}\" = excluded.\"{column}\"")).collect();
    let columns: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    format!(
        "INSERT INTO \"{table}\" AS t ({}) VALUES ({marks})
         ON CONFLICT ({}) DO UPDATE SET {}, processado_em = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
         WHERE t.versao < excluded.versao OR (t.versao = excluded.versao AND t.evento_id <> excluded.evento_id)
         RETURNING 1",
        columns.join(", "),
        columns[0],
        updates.join(", ")
    )
}
