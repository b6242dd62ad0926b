//! The statements that write a batch's rows, inside the caller's transaction.
//!
//! Guarantee: writing the same rows again changes nothing. An event is inserted once and counted once, by the
//! statement that inserted it; an entity never moves to a lower version.
//!
//! Rows travel as one array a column, taken apart by `unnest`. COPY into a temporary table was measured against it and
//! gained nothing (docs/performance.md).

use sqlx::PgConnection;

use super::{
    columns::{bind, names, select},
    events,
    rows::{Row, Rows, entity_columns},
};
use crate::{
    domain::{Catalog, Table},
    sink::{Applied, SinkBatch},
    store::tables::key_type,
};

/// Writes everything a batch becomes.
pub(super) async fn write(
    connection: &mut PgConnection,
    catalog: Catalog,
    batch: &SinkBatch,
    rows: &Rows<'_>,
) -> Result<Applied, sqlx::Error> {
    let mut applied = Applied { replaced: count(rows.replaced()), ..Applied::default() };
    for table in catalog.tables() {
        let (written, stale) = upsert_entities(connection, batch, rows, table).await?;
        applied.entities += written;
        applied.stale += stale;
    }
    // Last, because every worker writes the rollup's few newest rows and keeps them locked until it commits.
    applied.inserted = events::insert(connection, rows).await?;
    applied.duplicates = count(rows.all.len()).saturating_sub(applied.inserted);
    Ok(applied)
}

/// Creates entities or moves them forward; tells how many it did, and how many stood there already or further.
async fn upsert_entities(
    connection: &mut PgConnection,
    batch: &SinkBatch,
    rows: &Rows<'_>,
    table: Table,
) -> Result<(u64, u64), sqlx::Error> {
    let (removed, newest): (Vec<&Row<'_>>, Vec<&Row<'_>>) =
        rows.newest_of(batch, table).into_iter().partition(|row| row.source.event.entidade.removida);
    let (written, stale) = remove_entities(connection, &removed, table).await?;
    if newest.is_empty() {
        return Ok((written, stale));
    }
    let columns = entity_columns(table, &newest);
    let key = &table.definition().key.column;
    let assignments: Vec<String> = columns
        .iter()
        .filter(|column| column.name != key)
        .map(|column| format!("\"{0}\" = excluded.\"{0}\"", column.name))
        .collect();
    // Of equal versions the one that comes later stays; the same event again changes nothing.
    let statement = format!(
        "WITH sluice_escritos AS (
             INSERT INTO \"{table}\" AS t ({names}) {select}
             WHERE NOT EXISTS (
                 SELECT FROM sluice_removed AS r
                 WHERE r.table_name = '{table}' AND r.entity = novas.\"{key}\"::text AND r.versao > novas.versao
             )
             ON CONFLICT (\"{key}\") DO UPDATE
             SET {assignments}, processado_em = now()
             WHERE t.versao < excluded.versao OR (t.versao = excluded.versao AND t.evento_id <> excluded.evento_id)
             RETURNING 1
         )
         SELECT count(*) FROM sluice_escritos",
        names = names(&columns),
        select = select(&columns),
        assignments = assignments.join(", "),
    );
    let upserted: i64 = bind(sqlx::query_scalar(&statement), &columns).fetch_one(connection).await?;
    let upserted = u64::try_from(upserted).unwrap_or_default();
    Ok((written + upserted, stale + count(newest.len()).saturating_sub(upserted)))
}

/// Removes entities that are not newer, and remembers at which version each went; tells how many did, and how many are
/// newer or went at this version or a later one.
async fn remove_entities(
    connection: &mut PgConnection,
    removed: &[&Row<'_>],
    table: Table,
) -> Result<(u64, u64), sqlx::Error> {
    if removed.is_empty() {
        return Ok((0, 0));
    }
    let key = &table.definition().key;
    let entities: Vec<&str> = removed.iter().map(|row| row.source.event.entidade.id.as_str()).collect();
    let versions: Vec<i64> = removed.iter().map(|row| row.source.event.entidade.versao).collect();
    let statement = format!(
        "WITH novas AS MATERIALIZED (
             SELECT * FROM unnest($1::text[], $2::int8[]) AS n(entity, versao)
         ), apagadas AS (
             DELETE FROM \"{table}\" AS t USING novas AS n
             WHERE t.\"{column}\" = n.entity::{kind} AND t.versao <= n.versao
         ), lembradas AS (
             INSERT INTO sluice_removed AS r (table_name, entity, versao)
             SELECT '{table}', n.entity, n.versao FROM novas AS n
             WHERE NOT EXISTS (
                 SELECT FROM \"{table}\" AS t WHERE t.\"{column}\" = n.entity::{kind} AND t.versao > n.versao
             )
             ON CONFLICT (table_name, entity) DO UPDATE SET versao = excluded.versao
             WHERE r.versao < excluded.versao
             RETURNING 1
         )
         SELECT count(*) FROM lembradas",
        column = key.column,
        kind = key_type(key.kind),
    );
    let gone: i64 =
        sqlx::query_scalar(&statement).bind(&entities).bind(&versions).fetch_one(connection).await?;
    let gone = u64::try_from(gone).unwrap_or_default();
    Ok((gone, count(removed.len()).saturating_sub(gone)))
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
