//! The store in the embedded file: the same tables, transactions and guards as in Postgres, for one process.

mod alerts;
mod apply;
mod erasures;
mod forgetting;
mod lease;
mod ledger;
mod notices;
mod operations;
mod prepare;
mod query;
mod questions;
mod rows;
mod trim;

pub(crate) use notices::tables_were_dropped;
pub(crate) use query::readings;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use rusqlite::params;
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::{
    lease::{Leases, SqliteLease},
    query::QueryRunner,
};
use super::{Begun, Coverage, NewSync, Store, SyncRecord, check_spans, counted, refusals::Streaks, used_id};
use crate::{
    domain::{Catalog, Table},
    embedded::EmbeddedDb,
    fault::Fault,
    identity::Identity,
    log::{Position, StartAt},
    next_step::NextStep,
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
};

const PART: &str = "sqlite";

/// The store in an embedded file.
pub struct SqliteStore {
    sql: QueryRunner,
    db: Arc<EmbeddedDb>,
    catalog: Catalog,
    leases: Leases,
    streaks: Arc<Streaks>,
    /// Set once this process, as the one that writes, has made the tables of entities.
    prepared: OnceCell<()>,
}

impl SqliteStore {
    /// The store of these tables' entities; they are made when it is prepared.
    pub fn new(db: Arc<EmbeddedDb>, catalog: Catalog) -> Self {
        let sql = QueryRunner::new(db.clone(), catalog);
        Self {
            sql,
            db,
            catalog,
            leases: Leases::default(),
            streaks: Arc::default(),
            prepared: OnceCell::new(),
        }
    }

    async fn make_tables(&self) -> Result<(), Fault> {
        self.prepared.get_or_try_init(|| prepare::tables(&self.db, self.catalog)).await.copied()
    }

    /// The leases of this process where it is the one that writes; another process's own syncs are let be.
    fn known_leases(&self) -> Option<Leases> {
        self.db.is_writable().then(|| self.leases.clone())
    }
}

#[async_trait]
impl Sink for SqliteStore {
    fn name(&self) -> &'static str {
        PART
    }

    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        if self.db.remade().load(Ordering::Relaxed) {
            // The drain's next run claims every partition anew, also those that nothing comes of.
            return Err(Fault::misconfigured(
                PART,
                "ask which store this is: a table was dropped and is made anew",
                "the drain begins anew by itself",
            ));
        }
        let file: String = self
            .db
            .read("asking which store this is", |db| {
                db.query_row("SELECT id FROM log_identity", [], |row| row.get(0))
            })
            .await?;
        // A copy of the folder is another store.
        let id = format!("{file}-{}", self.db.folder().display());
        Ok(vec![Identity { place: PART.to_owned(), id }])
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.db.remade().store(false, Ordering::Relaxed);
        // The file is migrated when it is opened.
        if self.db.is_writable() {
            return self.make_tables().await;
        }
        let tables: Vec<Table> = self.catalog.tables().collect();
        self.db.read("reading the tables' layouts", move |db| prepare::check(db, &tables)).await?
    }

    async fn claim(&self, log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        // No partition twice.
        let partitions: BTreeSet<i32> = partitions.iter().copied().collect();
        let log = log.to_owned();
        self.db
            .write("claiming partitions", move |db| {
                let mut statement = db.prepare_cached(
                    "INSERT INTO sluice_offsets (log, partition, epoch) VALUES (?, ?, 1)
                     ON CONFLICT (log, partition) DO UPDATE SET epoch = epoch + 1 RETURNING epoch, next_offset",
                )?;
                partitions
                    .iter()
                    .map(|&partition| {
                        statement.query_row(params![log, partition], |row| {
                            let next: Option<i64> = row.get(1)?;
                            let start = next.map_or(StartAt::Beginning, StartAt::Offset);
                            Ok(Claim { partition, epoch: row.get(0)?, start })
                        })
                    })
                    .collect()
            })
            .await
    }

    async fn apply(&self, log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        check_spans(PART, batch)?;
        // A process that took the folder over was not the one to make the tables when it began.
        self.make_tables().await?;
        let (log, batch, catalog) = (log.to_owned(), batch.clone(), self.catalog);
        let streaks = self.streaks.clone();
        let applied = self
            .db
            .write_or_abort("applying a batch", move |db| apply::apply(db, catalog, &log, &batch, &streaks))
            .await;
        if applied.as_ref().is_err_and(|fault| fault.advice == NextStep::Migrate) {
            // Somebody dropped a table of entities under this process, which alone may make it anew.
            prepare::tables(&self.db, self.catalog).await?;
            self.db.remade().store(true, Ordering::Relaxed);
        }
        applied?
    }

    fn obeys_erasures(&self) -> bool {
        true
    }

    async fn discard(&self, _: &[SinkEvent]) -> Result<(), Fault> {
        // Nothing of them gets in.
        Ok(())
    }

    async fn remove_events(&self, _: &[Uuid]) -> Result<(), Fault> {
        // What was trimmed does not get in.
        Ok(())
    }

    async fn applied(&self, log: &str) -> Result<Option<Vec<Position>>, Fault> {
        let log = log.to_owned();
        self.db
            .read("reading the offsets", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT partition, next_offset FROM sluice_offsets
                     WHERE log = ? AND next_offset IS NOT NULL ORDER BY partition",
                )?;
                let rows = statement
                    .query_map([&log], |row| Ok(Position { partition: row.get(0)?, offset: row.get(1)? }))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
            .await
            .map(Some)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        // What is committed is visible.
        Ok(())
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        let version = self
            .db
            .read("asking for the version", |db| {
                db.query_row("SELECT sqlite_version()", [], |row| row.get::<_, String>(0))
            })
            .await?;
        Ok(SinkHealth { version: format!("SQLite {version}"), clock: None })
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        let catalog = self.catalog;
        self.db
            .read("counting rows", move |db| {
                let mut counts = Vec::new();
                for table in counted(catalog) {
                    let sql = format!("SELECT count(*) FROM \"{table}\"");
                    let count: i64 = db.query_row(&sql, [], |row| row.get(0))?;
                    counts.push((table.to_owned(), u64::try_from(count).unwrap_or_default()));
                }
                Ok(counts)
            })
            .await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn holds_doubles(&self) -> bool {
        true
    }

    async fn begin_sync(&self, new: NewSync) -> Result<Begun, Fault> {
        let (table, log) = (new.request.table.clone(), new.log.clone());
        let Some(lease) = SqliteLease::take(self.db.clone(), &self.leases, &new) else {
            let running =
                self.db.read("reading the running sync", move |db| lease::running(db, &table)).await?;
            return Ok(Begun::Busy(running.map(Box::new)));
        };
        let leases = self.leases.clone();
        let registered =
            self.db.write_or_abort("starting a sync", move |db| lease::register(db, &leases, &new)).await?;
        registered.map_err(|lease::UsedId| used_id(PART, &table))?;
        let coverage =
            self.db.read("reading a table's coverage", move |db| lease::coverage(db, &table.0, &log)).await?;
        Ok(Begun::Started { lease: Box::new(lease), coverage })
    }

    async fn sync(&self, id: Uuid) -> Result<Option<SyncRecord>, Fault> {
        let leases = self.known_leases();
        self.db.read("reading a sync", move |db| lease::by_id(db, leases.as_ref(), id)).await
    }

    async fn request_cancel(&self, id: Uuid) -> Result<bool, Fault> {
        let leases = self.leases.clone();
        self.db
            .write("cancelling a sync", move |db| {
                lease::interrupt(db, &leases)?;
                let asked = db.execute(
                    "UPDATE sluice_syncs SET cancel_requested = 1 WHERE id = ? AND state = 'running'",
                    [id.to_string()],
                )?;
                Ok(asked == 1)
            })
            .await
    }

    async fn coverage(&self, table: Table, log: &str) -> Result<Option<Coverage>, Fault> {
        let log = log.to_owned();
        self.db.read("reading a table's coverage", move |db| lease::coverage(db, table.name(), &log)).await
    }
}
