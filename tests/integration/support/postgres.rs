//! A database of its own for each test, owned by the login of `DATABASE_URL` and made by that of `DATABASE_ADMIN_URL`: sluice
//! runs as in real life, as nobody's superuser.

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
use uuid::Uuid;

use super::{eventually, folder::TestFolder, service};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Dropped, with every connection to it, when the test ends, passed or failed.
pub struct TestDatabase {
    server: PgConnectOptions,
    name: String,
    url: String,
    admin_url: String,
    /// Where logins for questions are kept.
    data_dir: TestFolder,
}

impl TestDatabase {
    /// Creates an empty database.
    ///
    /// # Panics
    /// When there is no server: a test that can't run has not passed.
    pub async fn create() -> Self {
        let admin = service("DATABASE_ADMIN_URL");
        let own = service("DATABASE_URL");
        let name = format!("sluice_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let server =
            PgConnectOptions::from_str(&admin).expect("DATABASE_ADMIN_URL must be a URL of a server");
        let mut connection =
            server.connect().await.expect("the server that DATABASE_ADMIN_URL names must answer");
        // A killed run leaves its databases behind, and process ids come again.
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        connection.execute(statement.as_str()).await.expect("the database of an earlier run is dropped");
        connection.execute(owned_database(&name, &own).as_str()).await.expect("a new database");
        connection.close().await.expect("the connection closes");
        let (url, admin_url) = (on_database(&own, &name), on_database(&admin, &name));
        Self { server, name, url, admin_url, data_dir: TestFolder::new() }
    }

    /// The database's, as its owner.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same as a superuser.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    pub fn settings(&self) -> PostgresSettings {
        PostgresSettings {
            url: self.url.clone().into(),
            read_url: None,
            data_dir: self.data_dir.path().to_owned(),
            max_connections: 4,
            timeout: Duration::from_secs(20),
        }
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the test's database answers")
    }

    /// A connection that has inserted an event of this id, and has not committed.
    pub async fn inserting(&self, event: Uuid) -> PgConnection {
        let mut connection = self.connection().await;
        let insertion = format!(
            "BEGIN;
             INSERT INTO eventos_raw (id, tipo_evento, usuario, evento, valor, \"timestamp\", categoria, metadata, dados,
                                      entidade_id, versao, particao, posicao)
             VALUES ('{event}', 'lead', 'x', 'x', 0, now(), 'x', '{{}}', '{{}}', '1', 1, 9, 9)"
        );
        connection.execute(sqlx::raw_sql(&insertion)).await.expect("inserted, and not committed");
        connection
    }

    /// Returns once a statement that is like this waits for another transaction.
    pub async fn waits_with(&self, statement: &str) {
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND query LIKE '{statement}'"
        );
        eventually("a statement waits for another transaction", || async {
            self.one::<i64>(&waiting).await == 1
        })
        .await;
    }

    /// Settings of another login for the same database.
    pub fn settings_of(&self, login: &str) -> PostgresSettings {
        let mut url = url::Url::parse(&self.url).expect("a URL");
        url.set_username(login).expect("a user");
        PostgresSettings { url: url.to_string().into(), ..self.settings() }
    }

    /// Makes a login that ends with the database.
    pub async fn create_login(&self, prefix: &str, options: &str) -> String {
        let login = self.login(prefix);
        self.execute_as_admin(&format!("CREATE ROLE {login} LOGIN {options}")).await;
        login
    }

    /// What a login of this database is called that ends with it.
    pub fn login(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.name)
    }

    /// Runs statements as a superuser.
    pub async fn execute_as_admin(&self, statements: &str) {
        let mut connection =
            PgConnection::connect(&self.admin_url).await.expect("the test's database answers");
        connection.execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
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

/// Logins that tests make, or have sluice make: roles are the whole server's.
const LOGINS: [&str; 3] = ["sluice_reader", "maker", "named"];

/// The URL with another database in it.
pub fn on_database(url: &str, name: &str) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_path(name);
    url.to_string()
}

/// The statement that makes a database for the user of a URL.
pub fn owned_database(name: &str, owner_url: &str) -> String {
    let owner = url::Url::parse(owner_url).expect("a URL").username().to_owned();
    format!("CREATE DATABASE {name} OWNER \"{owner}\"")
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
                for login in LOGINS {
                    connection.execute(format!("DROP ROLE IF EXISTS {login}_{name}").as_str()).await?;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) {
            eprintln!("database {} stays behind", self.name);
        }
    }
}
