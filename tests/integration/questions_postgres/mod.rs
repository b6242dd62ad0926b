//! Questions to Postgres: what stands between them and the server, and whose login they run under.

mod command;
mod logins;
mod names;
mod reach;
mod sessions;

use std::time::Duration;

use sluice::{
    domain::Catalog,
    sink::Sink,
    store::{QueryLimits, Questions, postgres::PgStore},
};

use crate::support::postgres::TestDatabase;

const LIMITS: QueryLimits =
    QueryLimits { rows: 100, bytes: 100_000, timeout: Duration::from_secs(10), verbatim: false };

/// A database with its tables, and the store on it as its owner.
async fn migrated() -> (TestDatabase, PgStore) {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
    store.prepare().await.expect("migrations run");
    // Before PostgreSQL 15 everybody may create tables there, and doctor warns of it.
    let owner = url::Url::parse(database.url()).expect("a URL").username().to_owned();
    let as_in_15 =
        format!("REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO {owner}");
    database.execute_as_admin(&as_in_15).await;
    // Everybody may create temporary tables until somebody takes that away, and doctor warns of it.
    let temporary = "DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$";
    database.execute_as_admin(temporary).await;
    (database, store)
}

/// Opens a hole in the check: an allowed name that runs any statement with the rights of whoever asks.
async fn breach(database: &TestDatabase) {
    database
        .execute_as_admin(
            "CREATE FUNCTION pg_catalog.initcap(statement text, hole int) RETURNS text LANGUAGE plpgsql AS $$
             DECLARE answer text;
             BEGIN
                 IF statement ~* '^(select|with|show|table)' THEN EXECUTE statement INTO answer; ELSE EXECUTE statement; END IF;
                 RETURN coalesce(answer, 'nothing');
             END $$",
        )
        .await;
}

/// What a statement past the check answers, or why it does not.
async fn through_the_breach(store: &PgStore, statement: &str) -> Result<String, String> {
    let sql = format!("SELECT initcap('{}', 1)", statement.replace('\'', "''"));
    match store.query(&sql, LIMITS).await {
        Ok(answer) => Ok(answer.rows[0][0].as_str().unwrap_or_default().to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}
