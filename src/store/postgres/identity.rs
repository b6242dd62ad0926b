//! Which store this is: a database of the same name that was emptied, restored elsewhere or copied is another.

use sqlx::PgConnection;

use super::faults::PART;
use crate::{fault::Fault, identity::Identity};

/// The server's own id, the database's and that of the table that holds the offsets; `None` before it was made. A dump
/// that is restored has others, and so has a table that was dropped and made anew.
pub(super) async fn of(connection: &mut PgConnection) -> Result<Option<Identity>, sqlx::Error> {
    let (schema, database, offsets, may_ask): (Option<String>, i64, Option<i64>, bool) = sqlx::query_as(
        "SELECT current_schema()::text, (SELECT oid::int8 FROM pg_database WHERE datname = current_database()),
                to_regclass('sluice_offsets')::oid::int8, has_function_privilege('pg_control_system()', 'EXECUTE')",
    )
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
    Fault::misconfigured(PART, "ask which store this is: its tables are not made yet", "run `sluice migrate`")
}
