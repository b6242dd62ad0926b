//! Inserting a batch's events, and adding those that are new to the rollup.
//!
//! Guarantee: an event is inserted once and counted once, whoever else writes it at the same time.
//!
//! Which events are there already is asked by their ids, so that of what is delivered again nothing but the ids is sent.
//! The others are copied in binary, a piece at a time: the server parses no literal, checks for conflicts nowhere, and no
//! batch stands in memory a second time. `benches/store_write.rs` has what that takes beside INSERT.

use std::collections::{HashMap, HashSet};

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    copying::Copying,
    rows::{Row, Rows},
    trim,
};
use crate::store::rollup::{Rollup, WINDOW};

/// How often somebody else may insert one of the events between the question for them and their insertion.
const TRIES: usize = 5;

const COPY: &str = "COPY eventos_raw (id, tipo_evento, usuario, evento, valor, \"timestamp\", categoria, metadata, dados, \
                    entidade_id, versao, particao, posicao) FROM STDIN (FORMAT binary)";

/// Inserts the events that are not there and tells how many. What was trimmed was counted.
pub(super) async fn insert(connection: &mut PgConnection, rows: &Rows<'_>) -> Result<usize, sqlx::Error> {
    if rows.all.is_empty() {
        return Ok(0);
    }
    let events = rows.all.iter().map(|row| &row.source.event);
    let keys = events.map(|event| (&*event.entidade.id, &*event.tipo_evento, event.id));
    let trimmed = trim::known(connection, keys).await?;
    let mut news = rows.not_of_the_past(&trimmed);
    for tried in 1.. {
        let present = present(connection, &news).await?;
        news.retain(|row| !present.contains(&row.source.event.id));
        if news.is_empty() {
            return Ok(0);
        }
        let mut savepoint = connection.begin().await?;
        match copy(&mut savepoint, &news).await {
            Ok(()) => {
                savepoint.commit().await?;
                break;
            }
            Err(error) if is_there_by_now(&error) && tried < TRIES => savepoint.rollback().await?,
            Err(error) => return Err(error),
        }
    }
    add_up(connection, &news, &trimmed).await?;
    Ok(news.len())
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

async fn copy(connection: &mut PgConnection, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
    let mut copying = Copying::begin(connection, COPY).await?;
    for row in rows {
        let (event, at) = (&row.source.event, row.source.position);
        let mut tuple = copying.tuple(13);
        tuple.uuid(event.id);
        tuple.text(&event.tipo_evento);
        tuple.text(&event.usuario);
        tuple.text(&event.evento);
        tuple.double(event.valor);
        tuple.instant(event.timestamp);
        tuple.text(&event.categoria);
        tuple.json(&row.metadata);
        tuple.json(&row.dados);
        tuple.text(&event.entidade.id);
        tuple.bigint(event.entidade.versao);
        tuple.integer(at.partition);
        tuple.bigint(at.offset);
        copying.pass_on().await?;
    }
    copying.finish().await
}

/// Whether another transaction inserted one of the events after it was asked for them.
fn is_there_by_now(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("23505") && error.constraint() == Some("eventos_raw_pkey")
    })
}

/// Adds events to the windows they lie in, but those that were counted before they were trimmed.
async fn add_up(
    connection: &mut PgConnection,
    rows: &[&Row<'_>],
    trimmed: &HashMap<Uuid, i64>,
) -> Result<(), sqlx::Error> {
    let mut rollup = Rollup::default();
    rows.iter()
        .map(|row| &row.source.event)
        .filter(|event| !trimmed.contains_key(&event.id))
        .for_each(|event| rollup.add(event));
    let added = rollup.added();
    sqlx::query(
        "INSERT INTO eventos_agregados AS a (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
         SELECT * FROM unnest($1::timestamptz[], $2::timestamptz[], $3::text[], $4::text[], $5::int8[], $6::float8[])
         ON CONFLICT (janela_inicio, categoria, evento) DO UPDATE
         SET total = a.total + excluded.total, soma_valor = a.soma_valor + excluded.soma_valor",
    )
    .bind(added.clone().map(|added| added.begin).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.begin + WINDOW).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.categoria).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.evento).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.total).collect::<Vec<_>>())
    .bind(added.map(|added| added.soma).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
