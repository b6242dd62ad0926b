//! Bulk writing: events with their rollup, entities under the version guard.

use std::collections::HashSet;

use sqlx::{Error, PgConnection, Row};

use super::rows::Rows;
use crate::{
    domain::Table,
    sink::{Applied, SinkBatch},
};

/// How rows get to the server.
///
/// Measured by `benches/store_write.rs`; the figures are in the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One array a column, taken apart by the server.
    Unnest,
    /// A temporary table filled by COPY.
    Copy,
}

/// Writes a batch's events, their rollup and their entities. The caller's transaction makes it all or nothing.
pub(super) async fn write(
    connection: &mut PgConnection,
    batch: &SinkBatch,
    way: Way,
) -> Result<Applied, Error> {
    // One statement can't meet the same key twice, and two workers must take their locks in the same order.
    let mut seen = HashSet::with_capacity(batch.events.len());
    let mut events: Vec<_> = batch.events.iter().filter(|sink| seen.insert(sink.event.id)).collect();
    events.sort_unstable_by_key(|sink| sink.event.id);
    let rows = Rows::of_events(events.into_iter());
    let inserted = if rows.len() == 0 { 0 } else { write_events(connection, &rows, way).await? };

    let mut applied =
        Applied { inserted, duplicates: batch.events.len() as u64 - inserted, entities: 0, stale: 0 };
    for table in Table::ALL {
        let mut newest = batch.newest_of(table);
        newest.sort_unstable_by_key(|sink| sink.event.entidade.id);
        let rows = match table {
            Table::Leads => Rows::of_leads(newest.into_iter()),
            Table::ChatSessions => Rows::of_sessions(newest.into_iter()),
        };
        if rows.len() > 0 {
            let moved = write_entities(connection, table, &rows, way).await?;
            applied.entities += moved;
            applied.stale += rows.len() as u64 - moved;
        }
    }
    Ok(applied)
}

/// Inserts events that are new and counts exactly those in the rollup. Returns how many were new.
async fn write_events(connection: &mut PgConnection, rows: &Rows, way: Way) -> Result<u64, Error> {
    let source = source(way, "eventos_raw", rows);
    let columns = names(rows);
    let sql = format!(
        r#"WITH novos AS (
               INSERT INTO eventos_raw ({columns}) {source}
               ON CONFLICT (id) DO NOTHING
               RETURNING "timestamp", categoria, evento, valor
           ), janelas AS (
               SELECT date_bin('5 minutes', "timestamp", 'epoch') AS inicio, categoria, evento,
                      count(*) AS total, sum(valor) AS soma
               FROM novos GROUP BY 1, 2, 3
           ), somados AS (
               INSERT INTO eventos_agregados AS a
                   (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
               SELECT inicio, inicio + interval '5 minutes', categoria, evento, total, soma
               FROM janelas ORDER BY inicio, categoria, evento
               ON CONFLICT (janela_inicio, categoria, evento) DO UPDATE
               SET total = a.total + excluded.total, soma_valor = a.soma_valor + excluded.soma_valor,
                   atualizado_em = now()
           )
           SELECT count(*) AS inseridos FROM novos"#
    );
    let row = send(connection, "eventos_raw", rows, way, &sql).await?.fetch_one(connection).await?;
    Ok(u64::try_from(row.get::<i64, _>("inseridos")).unwrap_or_default())
}

/// Creates entities and moves them forward, never back. Returns how many were.
async fn write_entities(
    connection: &mut PgConnection,
    table: Table,
    rows: &Rows,
    way: Way,
) -> Result<u64, Error> {
    let name = table.name();
    let source = source(way, name, rows);
    let columns = names(rows);
    let updates: Vec<String> = rows
        .columns
        .iter()
        .filter(|(column, _)| *column != "id")
        .map(|(column, _)| format!("{column} = excluded.{column}"))
        .collect();
    let sql = format!(
        "INSERT INTO {name} ({columns}) {source}
         ON CONFLICT (id) DO UPDATE SET {}, sincronizado_em = now()
         WHERE {name}.versao < excluded.versao",
        updates.join(", ")
    );
    Ok(send(connection, name, rows, way, &sql).await?.execute(connection).await?.rows_affected())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Gets the rows to the server and returns the statement that uses them.
async fn send<'q>(
    connection: &mut PgConnection,
    table: &str,
    rows: &'q Rows,
    way: Way,
    sql: &'q str,
) -> Result<Query<'q>, Error> {
    match way {
        Way::Unnest => {
            Ok(rows.values.iter().fold(sqlx::query(sql), |query, column| query.bind(column.as_slice())))
        }
        Way::Copy => {
            fill_staging(connection, table, rows).await?;
            Ok(sqlx::query(sql))
        }
    }
}

async fn fill_staging(connection: &mut PgConnection, table: &str, rows: &Rows) -> Result<(), Error> {
    let columns: Vec<String> = rows.columns.iter().map(|(name, kind)| format!("\"{name}\" {kind}")).collect();
    // A temporary table lives as long as its connection: the pool's connections make it once each.
    let create = format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS novos_{table} ({}) ON COMMIT DELETE ROWS",
        columns.join(", ")
    );
    sqlx::query(&create).execute(&mut *connection).await?;
    let copy = format!("COPY novos_{table} ({}) FROM STDIN", names(rows));
    let mut sink = connection.copy_in_raw(&copy).await?;
    sink.send(rows.copy_text()).await?;
    sink.finish().await?;
    Ok(())
}

fn source(way: Way, table: &str, rows: &Rows) -> String {
    match way {
        Way::Unnest => {
            let casts: Vec<String> =
                rows.columns.iter().map(|(name, kind)| format!("n.\"{name}\"::{kind}")).collect();
            let arrays: Vec<String> =
                (1..=rows.columns.len()).map(|number| format!("${number}::text[]")).collect();
            format!("SELECT {} FROM unnest({}) AS n({})", casts.join(", "), arrays.join(", "), names(rows))
        }
        Way::Copy => format!("SELECT {} FROM novos_{table}", names(rows)),
    }
}

fn names(rows: &Rows) -> String {
    let names: Vec<String> = rows.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    names.join(", ")
}
