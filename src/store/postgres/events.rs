//! Inserting a batch's events, and adding those that are new to the rollup.
//!
//! Guarantee: an event is inserted once and counted once, by the statement that inserted it and as it was inserted, whoever
//! else writes it at the same time and whatever triggers make of it.
//!
//! Which events are there already is asked by their ids first, so that of what is delivered again nothing but the ids is
//! sent. COPY in binary would be faster still (docs/performance.md), but tells nothing of what it inserted: a trigger
//! that skips or changes a row would leave the rollup untrue, and a column whose type somebody changed would be
//! filled with the bytes of another.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    columns::{bind, names, select},
    rows::{Row, Rows, event_columns},
    trim,
    write::Unwritten,
};

/// Inserts the events that are not there and tells how many. What was trimmed was counted.
///
/// # Errors
/// [`Unwritten::KeptOut`] where an event is not there afterwards, or not counted.
pub(super) async fn insert(connection: &mut PgConnection, rows: &Rows<'_>) -> Result<u64, Unwritten> {
    if rows.all.is_empty() {
        return Ok(0);
    }
    let events = rows.all.iter().map(|row| &row.source.event);
    let keys = events.map(|event| (&*event.entidade.id, &*event.tipo_evento, event.id));
    let trimmed = trim::known(connection, keys).await?;
    let mut news = rows.not_of_the_past(&trimmed);
    let there_before = present(connection, &news).await?;
    news.retain(|row| !there_before.contains(&row.source.event.id));
    if news.is_empty() {
        return Ok(0);
    }
    let (inserted, uncounted) = insert_and_count(connection, &news, trimmed).await?;
    // Somebody else may have inserted some since they were asked for, or a trigger kept some out.
    if usize::try_from(inserted).is_ok_and(|inserted| inserted < news.len()) {
        let present = present(connection, &news).await?;
        if !news.iter().all(|row| present.contains(&row.source.event.id)) {
            return Err(Unwritten::KeptOut("eventos_raw"));
        }
    }
    if uncounted {
        return Err(Unwritten::KeptOut("eventos_agregados"));
    }
    Ok(inserted)
}

/// Which of the events are there.
async fn present(connection: &mut PgConnection, rows: &[&Row<'_>]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.source.event.id).collect();
    // One look-up an id, whatever the server thinks of a table it has not analyzed.
    let present: Vec<Uuid> = sqlx::query_scalar(
        "SELECT e.id FROM unnest($1::uuid[]) AS n(id)
         CROSS JOIN LATERAL (SELECT id FROM eventos_raw WHERE id = n.id OFFSET 0) AS e",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(present.into_iter().collect())
}

/// In one statement. Tells how many were inserted, and whether the rollup did not take some of them.
async fn insert_and_count(
    connection: &mut PgConnection,
    rows: &[&Row<'_>],
    trimmed: HashMap<Uuid, i64>,
) -> Result<(u64, bool), sqlx::Error> {
    let columns = event_columns(rows);
    let statement = format!(
        "WITH inseridos AS (
             INSERT INTO eventos_raw ({names}) {select}
             ON CONFLICT (id) DO NOTHING
             RETURNING id, \"timestamp\", categoria, evento, valor
         ), somados AS MATERIALIZED (
             SELECT inicio, categoria, evento, count(*) AS total, sum(valor) AS soma_valor
             FROM (
                 SELECT date_bin('5 minutes', \"timestamp\", 'epoch') AS inicio, categoria, evento, valor
                 FROM inseridos WHERE id <> ALL(${counted_before}::uuid[])
             ) AS eventos
             GROUP BY inicio, categoria, evento
         ), agregados AS (
             INSERT INTO eventos_agregados AS a (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
             SELECT inicio, inicio + interval '5 minutes', categoria, evento, total, soma_valor
             FROM somados
             ORDER BY inicio, categoria, evento
             ON CONFLICT (janela_inicio, categoria, evento) DO UPDATE
             SET total = a.total + excluded.total, soma_valor = a.soma_valor + excluded.soma_valor
             RETURNING 1
         )
         SELECT ARRAY[
             (SELECT count(*) FROM inseridos),
             (SELECT count(*) FROM somados) - (SELECT count(*) FROM agregados)
         ]",
        names = names(&columns),
        select = select(&columns),
        counted_before = columns.len() + 1,
    );
    let counted_before: Vec<Uuid> = trimmed.into_keys().collect();
    let [inserted, uncounted]: [i64; 2] =
        bind(sqlx::query_scalar(&statement), &columns).bind(counted_before).fetch_one(connection).await?;
    Ok((u64::try_from(inserted).unwrap_or_default(), uncounted != 0))
}
