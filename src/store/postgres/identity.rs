//! Which store this is: a database of the same name that was emptied, restored elsewhere or copied is another.

use sqlx::PgConnection;

use super::faults::PART;
use crate::{
    domain::{Catalog, Table},
    fault::Fault,
    identity::Identity,
    next_step::NextStep,
};

/// The server's own id, the database's and that of the table that holds the offsets; `None` before it was made,
/// and while a table of entities that was made is missing. A dump
/// that is restored has others, and so has a table that was dropped and made anew.
pub(super) async fn of(
    connection: &mut PgConnection,
    catalog: Catalog,
) -> Result<Option<Identity>, sqlx::Error> {
    let (schema, database, offsets, may_ask): (Option<String>, i64, Option<i64>, bool) = sqlx::query_as(
        "SELECT current_schema()::text, (SELECT oid::int8 FROM pg_database WHERE datname = current_database()),
                CASE WHEN EXISTS (
                    SELECT FROM sluice_tables
                    WHERE table_name = ANY($1) AND to_regclass(quote_ident(table_name)) IS NULL
                ) THEN NULL ELSE to_regclass('sluice_offsets')::oid::int8 END, has_function_privilege('pg_control_system()', 'EXECUTE')",
    )
    .bind(catalog.tables().map(Table::name).collect::<Vec<_>>())
    .fetch_one(&mut *connection)
    .await?;
    let Some(offsets) = offsets else { return Ok(None) };
    // Where an operator took the permission away, the other two must do.
    let server: i64 = if may_ask {
        sqlx::query_scalar("SELECT system_identifier FROM pg_control_system()").fetch_one(connection).await?
    } else {
        0
    };
    let place = format!("{PART}/{}", schema.unwrap_or_default());
    Ok(Some(Identity { place, id: format!("{server}-{database}-{offsets}") }))
}

pub(super) fn not_prepared() -> Fault {
    Fault::misconfigured(PART, "ask which store this is: a table is missing", NextStep::Migrate)
}
