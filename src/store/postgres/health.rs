//! How the store is: cheap enough to be asked every few seconds, whatever the tables hold.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{domain::Catalog, sink::SinkHealth, store::counted};

/// Beyond this many rows the planner's estimate is told instead of a count that reads the whole table.
const COUNTED_EXACTLY: i64 = 1_000_000;

pub(super) async fn health(
    connection: &mut PgConnection,
    catalog: Catalog,
) -> Result<SinkHealth, sqlx::Error> {
    let (version, clock): (String, DateTime<Utc>) =
        sqlx::query_as("SELECT current_setting('server_version'), clock_timestamp()")
            .fetch_one(&mut *connection)
            .await?;
    let mut counts = Vec::new();
    for table in counted(catalog) {
        let rows: i64 = sqlx::query_scalar(&format!(
            "SELECT CASE WHEN reltuples > $1 THEN reltuples::int8 ELSE (SELECT count(*) FROM \"{table}\") END
             FROM pg_class WHERE oid = '\"{table}\"'::regclass"
        ))
        .bind(COUNTED_EXACTLY)
        .fetch_one(&mut *connection)
        .await?;
        counts.push((table.to_owned(), u64::try_from(rows).unwrap_or_default()));
    }
    Ok(SinkHealth { version, clock: Some(clock), counts })
}
