//! The store in Postgres.
//!
//! Guarantee: rows, rollups and consumed offsets commit in one transaction that only the holder of the latest
//! claim can make, so however often a batch is delivered, and by however many workers, it counts once. See
//! [`offsets`] for the claim, [`write`] for why writing again changes nothing, [`poison`] for what is rejected,
//! [`prepare`] for the tables of entities and [`lease`] for why one sync of a table runs at a time. [`statement`],
//! [`session`] and [`readers`] are the three walls between the questions of others and the server.

mod access;
mod address;
mod alerts;
mod apply;
mod columns;
mod connection;
mod copying;
mod erasures;
mod events;
mod faults;
mod fitness;
mod forgetting;
mod health;
mod identity;
mod lease;
mod ledger;
mod locks;
mod login;
mod migrations;
mod notices;
mod offsets;
mod operations;
mod poison;
mod prepare;
mod query;
mod questions;
mod readers;
mod rows;
mod same_database;
mod session;
mod statement;
mod stream;
mod syncs;
mod trim;
mod write;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

pub use self::readers::CreatedReader;
pub(crate) use self::statement::{checked, is_allowed_function, is_allowed_type};
use self::{
    connection::Connector, erasures::LastLedger, login::Logins, migrations::MIGRATOR,
    session::QuestionSessions,
};
use crate::{
    config::PostgresSettings,
    domain::{Catalog, Table},
    fault::Fault,
    identity::Identity,
    log::Position,
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
    store::{Begun, Coverage, NewSync, PoolUse, Readable, Store, SyncRecord, refusals::Streaks},
};

/// Building an index on a full table takes what it takes.
const UNBOUNDED: Duration = Duration::ZERO;

/// A Postgres database as sluice's store.
#[derive(Clone)]
pub struct PgStore {
    connector: Connector,
    catalog: Catalog,
    sessions: QuestionSessions,
    readable: Arc<Readable>,
    streaks: Arc<Streaks>,
    /// The ledger as it was at the last batch.
    erasures: Arc<LastLedger>,
    /// Where the tables are, once known.
    schema: Arc<OnceCell<String>>,
    /// Set once questions were found to be asked of the database that this store fills.
    is_same: Arc<OnceCell<()>>,
}

impl PgStore {
    /// Prepares the way to the server without going it: a drain starts while Postgres is down. Entities of these tables
    /// are kept.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the URL is not one of a PostgreSQL server.
    pub fn connect(settings: &PostgresSettings, catalog: Catalog) -> Result<Self, Fault> {
        let connector = Connector::new(settings)?;
        let logins = Logins::new(settings, connector.clone())?;
        Ok(Self {
            connector,
            catalog,
            sessions: QuestionSessions::new(logins),
            readable: Arc::new(Readable::of(catalog)),
            streaks: Arc::default(),
            erasures: Arc::default(),
            schema: Arc::default(),
            is_same: Arc::default(),
        })
    }

    /// Closes the pools' connections once the calls that use them are done. Leases keep theirs.
    pub async fn close(&self) {
        self.connector.close().await;
        self.sessions.close().await;
    }

    /// Makes the login that questions run under from then on, or brings it up to date.
    ///
    /// # Errors
    /// When it may not be made, with the statements for somebody who may; when it was made elsewhere and
    /// `new_password` does not allow to change its password.
    pub async fn create_reader(&self, new_password: bool) -> Result<CreatedReader, Fault> {
        let mut connection = self.connector.dedicated(locks::PREPARING, self.connector.timeout()).await?;
        let logins = self.sessions.logins();
        let created = readers::create(&mut connection, logins, &self.readable, new_password).await?;
        let _ = connection.close().await;
        // Made is not yet usable: the server may let it in from nowhere.
        self.sessions.begin(self.connector.timeout()).await?.end().await?;
        Ok(created)
    }

    async fn prepare_tables(&self, of_entities: prepare::Existing) -> Result<(), Fault> {
        let mut connection = self.connector.dedicated(locks::PREPARING, UNBOUNDED).await?;
        if let Some(problem) = self.unfitness(&mut connection).await? {
            return Err(problem);
        }
        let to_fault = |error| faults::fault("prepare the tables", &error);
        let process = fitness::backend(&mut connection).await.map_err(to_fault)?;
        let making = self.make_tables(&mut connection, of_entities);
        locks::watched(&self.connector, process, making).await?;
        // A courtesy to the server.
        let _ = connection.close().await;
        Ok(())
    }

    /// Makes every table, one process at a time.
    async fn make_tables(
        &self,
        connection: &mut PgConnection,
        of_entities: prepare::Existing,
    ) -> Result<(), Fault> {
        locks::take_turn(connection).await?;
        fitness::make_dropped_tables(connection).await?;
        MIGRATOR.run_direct(&mut *connection).await.map_err(|error| faults::from_migration(&error))?;
        prepare::tables(connection, self.catalog, of_entities).await?;
        let logins = self.sessions.logins();
        if let Err(error) = readers::grant_all(connection, logins, &self.readable).await {
            // Only questions miss it, and they say so.
            let fault = faults::fault("grant the logins for questions what they may read", &error);
            tracing::warn!(error = %fault, "a login for questions may lack a table");
        }
        Ok(())
    }

    /// What of the database, or of the way to it, keeps sluice from working. `session` is one of its own.
    async fn unfitness(&self, session: &mut PgConnection) -> Result<Option<Fault>, Fault> {
        const ATTEMPT: &str = "examine the database";
        let to_fault = |error| faults::fault(ATTEMPT, &error);
        let mut other = self.connector.dedicated("sluice", self.connector.timeout()).await?;
        let one = fitness::backend(session).await.map_err(to_fault)?;
        let is_pooled = fitness::backend(&mut other).await.map_err(to_fault)? == one;
        let _ = other.close().await;
        if is_pooled {
            return Ok(Some(fitness::pooled()));
        }
        fitness::problem(session).await.map_err(to_fault)
    }
}

#[async_trait]
impl Sink for PgStore {
    fn name(&self) -> &'static str {
        faults::PART
    }

    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        const ATTEMPT: &str = "ask which store this is";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = identity::of(&mut connection, self.catalog).await;
            connection.settle(ATTEMPT, outcome)
        };
        let identity = self.connector.bounded(ATTEMPT, call).await?;
        identity.map(|identity| vec![identity]).ok_or_else(identity::not_prepared)
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.prepare_tables(prepare::Existing::Changed).await
    }

    async fn claim(&self, log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        const ATTEMPT: &str = "claim partitions";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = offsets::claim(&mut connection, log, partitions).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await
    }

    async fn apply(&self, log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        const ATTEMPT: &str = "apply";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let knows = apply::Knows {
                catalog: self.catalog,
                streaks: &self.streaks,
                erasures: &self.erasures,
                search_for: self.connector.timeout(),
            };
            let outcome = apply::apply(&mut connection, log, batch, &knows).await;
            match &outcome {
                Err(ApplyError::Fault(fault)) => connection.settled_after(fault),
                Ok(_) | Err(ApplyError::Rejected(_)) => connection.settled(),
            }
            outcome
        };
        self.connector.bounded(ATTEMPT, call).await
    }

    fn lanes(&self) -> usize {
        // While one transaction's rows are put together, the server writes those of the other.
        2
    }

    fn obeys_erasures(&self) -> bool {
        true
    }

    fn left_behind(&self) -> Option<&'static str> {
        Some(
            "deleted rows, in the database's files until a vacuum, and in archived WAL and replicas' archives as long as you \
             keep them",
        )
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
        const ATTEMPT: &str = "read offsets";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = offsets::applied(&mut connection, log).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await.map(Some)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        // What is committed is visible.
        Ok(())
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        const ATTEMPT: &str = "ask for health";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = health::health(&mut connection).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        const ATTEMPT: &str = "count rows";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = health::counts(&mut connection, self.catalog).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await
    }
}

#[async_trait]
impl Store for PgStore {
    async fn make_missing(&self) -> Result<(), Fault> {
        self.prepare_tables(prepare::Existing::Kept).await
    }

    fn pool(&self) -> Option<PoolUse> {
        Some(self.connector.pool_use())
    }

    async fn begin_sync(&self, new: NewSync) -> Result<Begun, Fault> {
        lease::begin(&self.connector, new).await
    }

    async fn sync(&self, id: Uuid) -> Result<Option<SyncRecord>, Fault> {
        const ATTEMPT: &str = "look up a sync";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = syncs::by_id(&mut connection, id).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await
    }

    async fn request_cancel(&self, id: Uuid) -> Result<bool, Fault> {
        const ATTEMPT: &str = "cancel a sync";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = syncs::request_cancel(&mut connection, id).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await
    }

    async fn coverage(&self, table: Table, log: &str) -> Result<Option<Coverage>, Fault> {
        const ATTEMPT: &str = "read a table's coverage";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = syncs::coverage(&mut connection, table.name(), log).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await
    }
}
