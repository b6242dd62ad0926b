//! The store on PostgreSQL.
//!
//! Rows, rollups and the consumed offsets commit in one transaction, guarded by the offset and the epoch it
//! expects: a worker that lost its partition aborts instead of repeating.

mod apply;
mod faults;
mod rows;
mod syncs;
mod write;

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use sqlx::{
    PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::faults::fault;
pub use self::write::Way;
use super::{Begun, Coverage, NewSync, Store, SyncRecord};
use crate::{
    config::PostgresSettings,
    domain::Table,
    fault::Fault,
    log::{Position, StartAt},
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkHealth},
};

const PART: &str = "postgres";

/// The store on a PostgreSQL server.
pub struct PgStore {
    pool: PgPool,
    options: PgConnectOptions,
    timeout: Duration,
    way: Way,
    migrated: OnceCell<()>,
}

impl PgStore {
    /// Makes the pool; the server need not be up yet.
    ///
    /// # Errors
    /// When the address can't be understood.
    pub fn connect(settings: &PostgresSettings) -> Result<Self, Fault> {
        let options = PgConnectOptions::from_str(settings.url.expose_secret())
            .map_err(|error| fault("reading DATABASE_URL", error))?
            .application_name("sluice")
            .options([("statement_timeout", settings.timeout.as_millis().to_string())]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.timeout.min(Duration::from_secs(10)))
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, timeout: settings.timeout, way: Way::Unnest, migrated: OnceCell::new() })
    }

    /// The same store, writing in another way: for the benchmark that chooses between them.
    #[must_use]
    pub fn writing_by(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    async fn migrate(&self) -> Result<(), Fault> {
        let what = "migrating the tables";
        sqlx::migrate!("migrations/postgres").run(&self.pool).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error)
            | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => fault(what, error),
            other => Fault::misconfigured(
                PART,
                format!("{what} failed: {other}"),
                "the database was migrated by another version of sluice; run the newest one",
            ),
        })
    }
}

#[async_trait]
impl Sink for PgStore {
    fn name(&self) -> &'static str {
        PART
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.migrated.get_or_try_init(|| self.migrate()).await.copied()
    }

    async fn claim(&self, log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        // In order, so that two workers that claim the same partitions don't deadlock.
        let mut partitions = partitions.to_vec();
        partitions.sort_unstable();
        let rows = sqlx::query(
            "INSERT INTO sluice_offsets AS o (log, partition, epoch)
             SELECT $1, p, 1 FROM unnest($2::int[]) AS p
             ON CONFLICT (log, partition) DO UPDATE SET epoch = o.epoch + 1, updated_at = now()
             RETURNING partition, epoch, next_offset",
        )
        .bind(log)
        .bind(partitions)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| fault("claiming partitions", error))?;
        let claims = rows.iter().map(|row| Claim {
            partition: row.get("partition"),
            epoch: row.get("epoch"),
            start: row.get::<Option<i64>, _>("next_offset").map_or(StartAt::Beginning, StartAt::Offset),
        });
        Ok(claims.collect())
    }

    async fn apply(&self, log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        self.apply_batch(log, batch).await
    }

    async fn applied(&self, log: &str) -> Result<Option<Vec<Position>>, Fault> {
        let rows = sqlx::query(
            "SELECT partition, next_offset FROM sluice_offsets
             WHERE log = $1 AND next_offset IS NOT NULL ORDER BY partition",
        )
        .bind(log)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| fault("reading the offsets", error))?;
        let positions = rows
            .iter()
            .map(|row| Position { partition: row.get("partition"), offset: row.get("next_offset") });
        Ok(Some(positions.collect()))
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        // What is committed is visible.
        Ok(())
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        let row = sqlx::query(
            "SELECT current_setting('server_version') AS version,
                    (SELECT count(*) FROM eventos_raw) AS eventos_raw,
                    (SELECT count(*) FROM leads) AS leads,
                    (SELECT count(*) FROM chat_sessions) AS chat_sessions",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| fault("counting rows", error))?;
        let counts = ["eventos_raw", "leads", "chat_sessions"]
            .map(|table| (table.to_owned(), u64::try_from(row.get::<i64, _>(table)).unwrap_or_default()));
        Ok(SinkHealth {
            version: format!("PostgreSQL {}", row.get::<&str, _>("version")),
            counts: counts.into(),
        })
    }
}

#[async_trait]
impl Store for PgStore {
    async fn begin_sync(&self, new: NewSync) -> Result<Begun, Fault> {
        self.begin(new).await
    }

    async fn sync(&self, id: Uuid) -> Result<Option<SyncRecord>, Fault> {
        self.sync_by_id(id).await
    }

    async fn recent_syncs(&self, limit: u32) -> Result<Vec<SyncRecord>, Fault> {
        self.latest_syncs(limit).await
    }

    async fn request_cancel(&self, id: Uuid) -> Result<bool, Fault> {
        self.cancel(id).await
    }

    async fn coverage(&self, table: Table, log: &str) -> Result<Option<Coverage>, Fault> {
        self.covered(table, log).await
    }
}
