//! A database of its own for each test, on the server that `DATABASE_URL` names.

use std::{
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sluice::config::PostgresSettings;
use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgRow},
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Dropped, with every connection to it, when the test ends, passed or failed.
pub struct TestDatabase {
    server: PgConnectOptions,
    name: String,
    url: String,
}

impl TestDatabase {
    /// Creates an empty database.
    ///
    /// # Panics
    /// When there is no server: a test that can't run has not passed.
    pub async fn create() -> Self {
        let base = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL must name a PostgreSQL server whose user may create databases");
        let mut url = url::Url::parse(&base).expect("DATABASE_URL must be a URL");
        let name = format!("sluice_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let server =
            PgConnectOptions::from_str(&base).expect("DATABASE_URL must be a URL of a PostgreSQL server");
        let mut connection = server.connect().await.expect("the server that DATABASE_URL names must answer");
        // A killed run leaves its databases behind, and process ids come again.
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        connection.execute(statement.as_str()).await.expect("the database of an earlier run is dropped");
        let statement = format!("CREATE DATABASE {name}");
        connection.execute(statement.as_str()).await.expect("the user may create databases");
        connection.close().await.expect("the connection closes");
        url.set_path(&name);
        Self { server, name, url: url.to_string() }
    }

    pub fn settings(&self) -> PostgresSettings {
        PostgresSettings {
            url: self.url.clone().into(),
            max_connections: 4,
            timeout: Duration::from_secs(20),
        }
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the test's database answers")
    }

    /// Runs statements.
    pub async fn execute(&self, statements: &str) {
        self.connection().await.execute(statements).await.expect("the statements run");
    }

    /// The first column of a query's only row.
    pub async fn one<T>(&self, query: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        use sqlx::Row as _;
        let row: PgRow = self.connection().await.fetch_one(query).await.expect("the query returns a row");
        row.get(0)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's own runtime can't be waited on from here.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = server.connect().await?;
                connection.execute(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)").as_str()).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) {
            eprintln!("database {} stays behind", self.name);
        }
    }
}
