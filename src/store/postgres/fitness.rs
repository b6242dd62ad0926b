//! Whether a database is fit to be sluice's, and what is made anew where somebody dropped a table.
//!
//! A migration that was run is not run again, so that a table it made stays away once it is dropped. Here those
//! migrations are run once more: they change nothing of what is there.

use sqlx::{Acquire, Executor, PgConnection};

use super::{
    faults::{self, PART},
    migrations::{tables_of, up_to},
    notices,
    trim::COUNTED,
};
use crate::{
    domain::Catalog,
    fault::Fault,
    store::tables::{StoreTable, tables},
};

/// What doctor and migrate say of a pooler.
pub(super) const POOLER: &str = "a pooler hands sessions around between here and the server (PgBouncer in transaction mode, port 6543 of Supabase): let \
     DATABASE_URL lead to the server itself, or to a pooler in session mode (port 5432 of Supabase)";

/// What of the database itself keeps sluice from working.
pub(super) async fn problem(connection: &mut PgConnection) -> Result<Option<Fault>, sqlx::Error> {
    type Told = (String, String, Option<String>, String, Option<String>, bool);
    let (database, encoding, schema, user, wanted, is_there): Told = sqlx::query_as(
        "SELECT current_database()::text, pg_encoding_to_char(encoding)::text, current_schema()::text,
                quote_ident(current_user), quote_ident(wanted.name),
                EXISTS (SELECT FROM pg_namespace WHERE nspname = wanted.name)
         FROM pg_database LEFT JOIN (
             SELECT trim(name, ' \"') AS name FROM unnest(string_to_array(current_setting('search_path'), ',')) AS name
             WHERE trim(name, ' \"') NOT IN ('$user', '') LIMIT 1
         ) AS wanted ON true
         WHERE datname = current_database()",
    )
    .fetch_one(&mut *connection)
    .await?;
    if encoding != "UTF8" {
        return Ok(Some(Fault::misconfigured(
            PART,
            format!("the database {database} is encoded in {encoding}, which can't hold every text"),
            "make one that can, CREATE DATABASE sluice ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL",
        )));
    }
    if schema.is_none() {
        let wanted = wanted.unwrap_or_else(|| "public".to_owned());
        let step = if is_there {
            format!("run GRANT USAGE, CREATE ON SCHEMA {wanted} TO {user}")
        } else {
            format!("run CREATE SCHEMA {wanted} AUTHORIZATION {user}")
        };
        return Ok(Some(Fault::misconfigured(
            PART,
            format!("there is no schema {wanted}, which the search_path names, or {user} may not use it"),
            step,
        )));
    }
    let foreign: Option<String> = sqlx::query_scalar(
        "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NOT NULL
         AND NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND starts_with(tablename, 'sluice_'))
         LIMIT 1",
    )
    .bind(up_to(1).flat_map(tables_of).collect::<Vec<_>>())
    .fetch_optional(connection)
    .await?;
    Ok(foreign.map(|table| {
        Fault::misconfigured(
            PART,
            format!("the database {database} has a table {table} that sluice did not make, the old pipeline's perhaps"),
            format!(
                "give sluice a schema of its own: run CREATE SCHEMA sluice AUTHORIZATION {user}; ALTER ROLE {user} SET \
                 search_path = 'sluice' (or name an empty database in DATABASE_URL; docs/migrating.md leads over)"
            ),
        )
    }))
}

/// The server's process behind a session.
pub(super) async fn backend(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    // A pooler knows nothing of a statement that was prepared.
    sqlx::query_scalar("SELECT pg_backend_pid()").persistent(false).fetch_one(connection).await
}

/// What two sessions mean that are the same process of the server.
pub(super) fn pooled() -> Fault {
    Fault::misconfigured(
        PART,
        "two sessions with the server are one: locks and settings would not be their own",
        POOLER,
    )
}

/// Whether nothing of sluice's was ever made here.
pub(super) async fn is_fresh(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NULL").fetch_one(connection).await
}

/// The tables that were made once and are not there; the version up to which migrations were run.
async fn missing(connection: &mut PgConnection) -> Result<(i64, Vec<String>), sqlx::Error> {
    if is_fresh(connection).await? {
        return Ok((0, Vec::new()));
    }
    let version: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut *connection)
        .await?;
    let version = version.unwrap_or_default();
    let missing = sqlx::query_scalar(
        "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NULL",
    )
    .bind(up_to(version).flat_map(tables_of).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok((version, missing))
}

/// The tables that somebody dropped, of sluice's own and of entities.
pub(super) async fn dropped(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let (_, mut dropped) = missing(connection).await?;
    if !dropped.iter().any(|table| table == "sluice_tables") && !is_fresh(connection).await? {
        let entities: Vec<String> = sqlx::query_scalar(
            "SELECT table_name FROM sluice_tables WHERE to_regclass(quote_ident(table_name)) IS NULL ORDER BY 1",
        )
        .fetch_all(connection)
        .await?;
        dropped.extend(entities);
    }
    Ok(dropped)
}

/// What somebody added to these tables that may skip or change what is written into them.
pub(super) async fn additions(
    connection: &mut PgConnection,
    tables: Vec<&str>,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH own AS (
             SELECT c.* FROM unnest($1::text[]) AS t(name) JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(t.name))
         )
         SELECT format('the trigger %I on %I', t.tgname, own.relname)
         FROM own JOIN pg_trigger AS t ON t.tgrelid = own.oid WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
         UNION SELECT format('the rule %I on %I', r.rulename, own.relname)
         FROM own JOIN pg_rewrite AS r ON r.ev_class = own.oid WHERE r.ev_enabled <> 'D'
         UNION SELECT format('row-level security on %I', own.relname)
         FROM own WHERE own.relrowsecurity AND (own.relforcerowsecurity OR NOT pg_has_role(own.relowner, 'USAGE'))
         ORDER BY 1",
    )
    .bind(tables)
    .fetch_all(connection)
    .await
}

/// Tables that take no row, because of columns that somebody added to them and that sluice knows nothing to write into.
/// Where a trigger sees each row first, it may fill them.
pub(super) async fn closed(
    connection: &mut PgConnection,
    catalog: Catalog,
) -> Result<Vec<(&'static str, Fault)>, sqlx::Error> {
    let own = tables(catalog);
    let required: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text
         FROM unnest($1::text[]) AS t(name) JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(t.name))
         JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND NOT EXISTS (
             SELECT FROM pg_trigger AS g
             WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 7 = 7
         )
         ORDER BY a.attnum",
    )
    .bind(own.iter().map(|table| table.table).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(own.iter().filter_map(|table| Some((table.table, closed_by(table, &required)?))).collect())
}

/// What is said of a table that lets no row in without a value for columns that are not sluice's.
fn closed_by(table: &StoreTable, required: &[(String, String)]) -> Option<Fault> {
    let name = table.table;
    let is_own = |column: &str| table.columns.iter().any(|own| own.name == column);
    let of_table = required.iter().filter(|(table, column)| table == name && !is_own(column));
    let foreign: Vec<&str> = of_table.map(|(_, column)| column.as_str()).collect();
    let quoted = |column: &&str| format!("ALTER COLUMN \"{}\" DROP NOT NULL", column.replace('"', "\"\""));
    let mend: Vec<String> = foreign.iter().map(quoted).collect();
    (!foreign.is_empty()).then(|| {
        Fault::misconfigured(
            PART,
            format!(
                "{name} takes no row: somebody added {} to it, NOT NULL and without a default, and sluice writes nothing there",
                foreign.join(", ")
            ),
            format!(
                "run ALTER TABLE {name} {}, or give each a default; then replay the dead letters, by their ids also those that \
                 count as mended",
                mend.join(", ")
            ),
        )
    })
}

/// Makes the dropped ones of sluice's own anew, one process at a time.
pub(super) async fn make_dropped_tables(connection: &mut PgConnection) -> Result<(), Fault> {
    let made = async {
        let mut transaction = connection.begin().await?;
        transaction
            .execute("SELECT pg_advisory_xact_lock(hashtextextended('sluice dropped tables ' || current_schema(), 0))")
            .await?;
        let (version, missing) = missing(&mut transaction).await?;
        if missing.is_empty() {
            return Ok(());
        }
        for migration in up_to(version) {
            transaction.execute(migration).await?;
        }
        let is_missing = |name: &str| missing.iter().any(|table| table == name);
        for table in missing.iter().filter(|table| *table != "eventos_raw") {
            notices::own_table_was_dropped(&mut transaction, table).await?;
        }
        if is_missing("eventos_raw") {
            // Every event that comes again is counted again, but for those that were trimmed.
            transaction.execute("TRUNCATE eventos_agregados").await?;
            transaction.execute(&*add_up()).await?;
            notices::table_was_dropped(&mut transaction, "eventos_raw").await?;
        } else if is_missing("eventos_agregados") {
            transaction.execute(&*add_up()).await?;
        }
        tracing::warn!(tables = ?missing, "tables were dropped and are made anew");
        transaction.commit().await
    };
    made.await.map_err(|error: sqlx::Error| faults::fault("make dropped tables anew", &error))
}

/// Fills the rollup anew.
fn add_up() -> String {
    format!(
        "INSERT INTO eventos_agregados (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
         SELECT inicio, inicio + interval '5 minutes', categoria, evento, sum(total), sum(soma)
         FROM (
             SELECT date_bin('5 minutes', instante, 'epoch') AS inicio, categoria, evento, total, soma FROM {COUNTED} AS c
         ) AS eventos
         GROUP BY inicio, categoria, evento"
    )
}
