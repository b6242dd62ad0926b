//! A batch is one transaction, guarded by the offset and the epoch it expects.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use rusqlite::{Transaction, params, params_from_iter};

use super::{
    PART,
    rows::{self, ENTITY_COLUMNS, EVENT_COLUMNS},
};
use crate::{
    domain::{Dados, Event, Table},
    sink::{Applied, ApplyError, Rejection, SinkBatch, Span},
    store::{can_be_added_up, fenced},
};

const WINDOW: TimeDelta = TimeDelta::minutes(5);

/// The years whose spelling sorts as text, and that SQLite's own functions know.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;

/// Applies a batch, unless it is not ours to apply or holds what can never be.
pub(super) fn apply(
    db: &Transaction<'_>,
    log: &str,
    batch: &SinkBatch,
) -> rusqlite::Result<Result<Applied, ApplyError>> {
    for span in &batch.spans {
        if !advance(db, log, span)? {
            return Ok(Err(fenced(PART, batch).into()));
        }
    }
    let rejections = rejections(batch);
    if !rejections.is_empty() {
        return Ok(Err(ApplyError::Rejected(rejections)));
    }
    let mut applied = Applied::default();
    let mut insert = db.prepare_cached(&event_insert())?;
    for sink in &batch.events {
        if insert.execute(params_from_iter(rows::event(sink)))? == 1 {
            applied.inserted += 1;
            count(db, &sink.event)?;
        } else {
            applied.duplicates += 1;
        }
    }
    for table in Table::ALL {
        let mut upsert = db.prepare_cached(&entity_upsert(table))?;
        for sink in batch.newest_of(table) {
            let values = match &sink.event.dados {
                Dados::Lead(lead) => rows::lead(lead, &sink.event),
                Dados::ChatSession(session) => rows::session(session, &sink.event),
                Dados::Manual(_) => continue,
            };
            if upsert.exists(params_from_iter(values))? { applied.entities += 1 } else { applied.stale += 1 }
        }
    }
    Ok(Ok(applied))
}

fn rejections(batch: &SinkBatch) -> Vec<Rejection> {
    let found = batch.events.iter().filter_map(|sink| {
        let reason = problem(&sink.event)?.to_owned();
        Some(Rejection { position: sink.position, reason })
    });
    found.collect()
}

fn problem(event: &Event) -> Option<&'static str> {
    if !can_be_added_up(event.valor) {
        return Some("valor is not a number that can be added up");
    }
    if event.instants().any(|instant| !YEARS.contains(&instant.year())) {
        return Some("a time lies outside the years 0 to 9999, which SQLite knows");
    }
    None
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

fn event_insert() -> String {
    format!(
        "INSERT INTO eventos_raw ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    )
}

/// Adds one event to its window.
fn count(db: &Transaction<'_>, event: &Event) -> rusqlite::Result<()> {
    let begin = window(event.timestamp);
    db.prepare_cached(
        "INSERT INTO eventos_agregados (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
         VALUES (?, ?, ?, ?, 1, ?)
         ON CONFLICT (janela_inicio, categoria, evento)
         DO UPDATE SET total = total + 1, soma_valor = soma_valor + excluded.soma_valor",
    )?
    .execute(params![
        rows::instant(begin),
        rows::instant(begin + WINDOW),
        event.categoria.as_str(),
        event.evento,
        event.valor
    ])?;
    Ok(())
}

/// The beginning of the five minutes an instant lies in, counted from the epoch in both directions.
fn window(instant: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = instant.timestamp();
    DateTime::from_timestamp(seconds - seconds.rem_euclid(WINDOW.num_seconds()), 0).unwrap_or(instant)
}

/// The statement that creates an entity or moves it forward, never back; it returns a row where it did.
fn entity_upsert(table: Table) -> String {
    let columns: Vec<&str> = table.columns().iter().copied().chain(ENTITY_COLUMNS).collect();
    let marks = vec!["?"; columns.len()].join(", ");
    let updates: Vec<String> =
        columns[1..].iter().map(|column| format!("{column} = excluded.{column}")).collect();
    format!(
        "INSERT INTO {table} ({}) VALUES ({marks})
         ON CONFLICT (id) DO UPDATE SET {}, sincronizado_em = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
         WHERE {table}.versao < excluded.versao RETURNING 1",
        columns.join(", "),
        updates.join(", ")
    )
}
