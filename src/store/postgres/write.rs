//! The statements that write a batch's rows, inside the caller's transaction.
//!
//! Guarantee: writing the same rows again changes nothing. An event is inserted once and counted once, by the
//! statement that inserted it; an entity never moves to a lower version.
//!
//! Entities travel as one array a column, taken apart by `unnest`. COPY into a temporary table was measured against it and
//! gained nothing (docs/performance.md). How events do, [`events`] tells.

use sqlx::PgConnection;

use super::{
    columns::{bind, names, select},
    events, faults,
    rows::{Row, Rows, entity_columns},
};
use crate::{
    domain::{Catalog, Table},
    sink::{Applied, SinkBatch},
    store::{kept_out, tables::key_type},
};

/// Why rows are not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    Sql(sqlx::Error),
    /// The server took the statement, and yet rows are not in this table.
    KeptOut(&'static str),
}

impl From<sqlx::Error> for Unwritten {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Unwritten {
    /// Whether somebody's rule is at fault, which may be against every row.
    pub(super) fn is_rule(&self) -> bool {
        match self {
            Self::Sql(error) => faults::is_rule(error),
            Self::KeptOut(_) => true,
        }
    }

    /// Why, without anything of the row.
    pub(super) fn refusal(&self) -> String {
        match self {
            Self::Sql(error) => faults::refusal(error),
            Self::KeptOut(table) => kept_out(table),
        }
    }
}

/// Writes everything a batch becomes, and makes sure that it is there: a trigger may keep a row out without a word.
pub(super) async fn write(
    connection: &mut PgConnection,
    catalog: Catalog,
    batch: &SinkBatch,
    rows: &Rows<'_>,
) -> Result<Applied, Unwritten> {
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
) -> Result<(u64, u64), Unwritten> {
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
    let upserted: i64 = bind(sqlx::query_scalar(&statement), &columns).fetch_one(&mut *connection).await?;
    let upserted = u64::try_from(upserted).unwrap_or_default();
    let not_written = count(newest.len()).saturating_sub(upserted);
    if not_written > 0 {
        let lacks = "coalesce(t.versao < n.versao, true) AND coalesce(r.versao <= n.versao, true)";
        check(connection, &newest, table, lacks).await?;
    }
    Ok((written + upserted, stale + not_written))
}

/// Fails if the table lacks something of these rows. `lacks` tells so of a row `n`, of the entity `t` that stands in the
/// table and of its removal `r`, both null where there is none.
async fn check(
    connection: &mut PgConnection,
    rows: &[&Row<'_>],
    table: Table,
    lacks: &str,
) -> Result<(), Unwritten> {
    let (entities, versions) = keys(rows);
    let key = &table.definition().key;
    // One look-up a row, whatever the server thinks of tables it has not analyzed.
    let statement = format!(
        "SELECT EXISTS (
             SELECT FROM unnest($1::text[], $2::int8[]) AS n(entity, versao)
             LEFT JOIN LATERAL (
                 SELECT versao FROM \"{table}\" WHERE \"{column}\" = n.entity::{kind} OFFSET 0
             ) AS t ON true
             LEFT JOIN LATERAL (
                 SELECT versao FROM sluice_removed WHERE table_name = '{table}' AND entity = n.entity OFFSET 0
             ) AS r ON true
             WHERE {lacks}
         )",
        column = key.column,
        kind = key_type(key.kind),
    );
    let is_lacking: bool =
        sqlx::query_scalar(&statement).bind(entities).bind(versions).fetch_one(connection).await?;
    if is_lacking { Err(Unwritten::KeptOut(table.name())) } else { Ok(()) }
}

/// The entities of these rows, and their versions.
fn keys<'r>(rows: &[&'r Row<'_>]) -> (Vec<&'r str>, Vec<i64>) {
    rows.iter()
        .map(|row| &row.source.event.entidade)
        .map(|entity| (entity.id.as_str(), entity.versao))
        .unzip()
}

/// Removes entities that are not newer, and remembers at which version each went; tells how many did, and how many are
/// newer or went at this version or a later one.
async fn remove_entities(
    connection: &mut PgConnection,
    removed: &[&Row<'_>],
    table: Table,
) -> Result<(u64, u64), Unwritten> {
    if removed.is_empty() {
        return Ok((0, 0));
    }
    let key = &table.definition().key;
    let (entities, versions) = keys(removed);
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
        sqlx::query_scalar(&statement).bind(entities).bind(versions).fetch_one(&mut *connection).await?;
    let lacks = "t.versao <= n.versao OR (t.versao IS NULL AND coalesce(r.versao < n.versao, true))";
    check(connection, removed, table, lacks).await?;
    let gone = u64::try_from(gone).unwrap_or_default();
    Ok((gone, count(removed.len()).saturating_sub(gone)))
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
