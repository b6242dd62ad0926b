//! How the store is, and what it holds.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{domain::Catalog, sink::SinkHealth, store::counted};

pub(super) async fn health(connection: &mut PgConnection) -> Result<SinkHealth, sqlx::Error> {
    let (version, clock): (String, DateTime<Utc>) =
        sqlx::query_as("SELECT current_setting('server_version'), clock_timestamp()")
            .fetch_one(connection)
            .await?;
    Ok(SinkHealth { version, clock: Some(clock) })
}

pub(super) async fn counts(
    connection: &mut PgConnection,
    catalog: Catalog,
) -> Result<Vec<(String, u64)>, sqlx::Error> {
    let mut counts = Vec::new();
    for table in counted(catalog) {
        let rows: i64 = sqlx::query_scalar(&format!("SELECT count(*) FROM \"{table}\""))
            .fetch_one(&mut *connection)
            .await?;
        counts.push((table.to_owned(), u64::try_from(rows).unwrap_or_default()));
    }
    Ok(counts)
}
