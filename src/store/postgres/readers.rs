//! Logins that may read the tables that questions may ask of, and nothing else.
//!
//! Guarantee: such a login is granted `CONNECT`, `USAGE` on the one schema, and `SELECT` on the readable tables; a
//! table that a later migration makes is granted by whoever runs it. Its password reaches neither the server, which
//! is given what it verifies a password by, nor any log.

use std::{fmt, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use super::{
    faults::{self, PART},
    login::{KeptLogin, Logins, database_key},
};
use crate::{
    fault::{Fault, FaultKind},
    redaction::words,
    store::Readable,
};

/// Any number that nobody else locks; two processes that grant at once would be in each other's way.
const GRANT_LOCK: i64 = 0x736c_7569_6365_0002;

/// What a name may be long.
const MAX_NAME_BYTES: usize = 63;

/// What holds for every session of such a login, whoever opens it.
const ROLE_SETTINGS: [(&str, &str); 5] = [
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "60s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("work_mem", "16MB"),
];

/// The same, where the server lets it be set: it takes a superuser, or from PostgreSQL 15 on
/// `GRANT SET ON PARAMETER temp_file_limit`.
pub(super) const TEMP_FILE_LIMIT: (&str, &str) = ("temp_file_limit", "1GB");

/// A login that questions run under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedReader {
    pub login: String,
    /// Where its password is kept.
    pub kept_in: PathBuf,
    /// What it may read.
    pub tables: Vec<String>,
    /// It was there before, and only brought up to date.
    pub existed: bool,
}

impl fmt::Display for CreatedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (login, tables) = (&self.login, self.tables.join(", "));
        let done = if self.existed { "is up to date" } else { "was made" };
        write!(
            f,
            "The login {login} {done}. It may read {tables}, and questions run under it from now on; its password is in {}.",
            self.kept_in.display()
        )
    }
}

/// The schema of sluice's tables.
pub(super) async fn schema(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'eventos_raw'::regclass",
    )
    .fetch_one(connection)
    .await
}

/// Grants every known login, and the one that is named, what it lacks.
pub(super) async fn grant_all(
    connection: &mut PgConnection,
    logins: &Logins,
    readable: &Readable,
) -> Result<(), sqlx::Error> {
    let schema = schema(connection).await?;
    let mut transaction = connection.begin().await?;
    lock(&mut transaction).await?;
    if let Some(named) = logins.named_user() {
        let own: String =
            sqlx::query_scalar("SELECT session_user::text").fetch_one(&mut *transaction).await?;
        let user = logins.own().get_username().to_owned();
        let suffix = pooler_suffix(&user, &own);
        sqlx::query(
            "INSERT INTO sluice_readers (login)
             SELECT rolname FROM pg_roles WHERE rolname = $1 AND rolname <> session_user ON CONFLICT DO NOTHING",
        )
        .bind(named.strip_suffix(suffix).unwrap_or(&named))
        .execute(&mut *transaction)
        .await?;
    }
    let logins: Vec<String> = sqlx::query_scalar(
        "SELECT login FROM sluice_readers JOIN pg_roles ON rolname = login ORDER BY login",
    )
    .fetch_all(&mut *transaction)
    .await?;
    for login in logins {
        grant(&mut transaction, &login, &schema, readable).await?;
    }
    transaction.commit().await
}

/// Makes the login of this database, or brings it up to date, and keeps its password.
pub(super) async fn create(
    connection: &mut PgConnection,
    logins: &Logins,
    readable: &Readable,
    new_password: bool,
) -> Result<CreatedReader, Fault> {
    let to_fault = |error: sqlx::Error| faults::fault("make a login for questions", &error);
    if logins.named_user().is_some() {
        return Err(Fault::new(
            PART,
            FaultKind::Invalid,
            "DATABASE_READ_URL names a login for questions already",
            "keep it, or remove the setting and run this again",
        ));
    }
    let target = Target::find(connection, logins).await.map_err(to_fault)?;
    let kept_logins = logins.kept();
    let kept = kept_logins.find(&target.key)?.filter(|kept| target.exists && kept.login == target.user);
    if target.exists && kept.is_none() && !new_password {
        return Err(Fault::new(
            PART,
            FaultKind::Invalid,
            format!(
                "the login {} exists already, and its password is not in {}",
                target.login,
                kept_logins.path().display()
            ),
            "copy that file from where the login was made, or run `sluice migrate --create-reader --new-password`, \
             which shuts out whoever uses the old password",
        ));
    }
    let password = match kept {
        Some(kept) if !new_password => kept.password,
        _ => URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()),
    };
    let mut transaction = connection.begin().await.map_err(to_fault)?;
    target
        .make(&mut transaction, &password, readable)
        .await
        .map_err(|error| target.refused(readable, &error))?;
    // Before the commit: a login without its password is of no use to anybody.
    kept_logins.keep(&target.key, KeptLogin { login: target.user.clone(), password })?;
    transaction.commit().await.map_err(to_fault)?;
    // Only some may; doctor says where nobody did.
    let (name, value) = TEMP_FILE_LIMIT;
    let _ = run(connection, "ALTER ROLE %I SET %I = %L", &[&target.login, name, value]).await;
    Ok(CreatedReader {
        login: target.login,
        kept_in: kept_logins.path(),
        tables: readable.names().to_vec(),
        existed: target.exists,
    })
}

/// The login to be made, and where.
struct Target {
    login: String,
    /// The login as a connection names it: some poolers want more behind it.
    user: String,
    exists: bool,
    database: String,
    schema: String,
    /// Names the database among the kept logins.
    key: String,
    /// Where it is reached.
    address: String,
}

impl Target {
    async fn find(connection: &mut PgConnection, logins: &Logins) -> Result<Self, sqlx::Error> {
        let schema = schema(connection).await?;
        let (database, session_user): (String, String) =
            sqlx::query_as("SELECT current_database()::text, session_user::text")
                .fetch_one(&mut *connection)
                .await?;
        let login = login_name(&database);
        let exists = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(&login)
            .fetch_one(connection)
            .await?;
        let own = logins.own();
        Ok(Self {
            user: format!("{login}{}", pooler_suffix(own.get_username(), &session_user)),
            login,
            exists,
            database,
            schema,
            key: database_key(&own),
            address: format!("{}:{}", own.get_host(), own.get_port()),
        })
    }

    async fn make(
        &self,
        connection: &mut PgConnection,
        password: &str,
        readable: &Readable,
    ) -> Result<(), sqlx::Error> {
        lock(connection).await?;
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let verb = if self.exists { "ALTER" } else { "CREATE" };
        run(connection, &format!("{verb} ROLE %I LOGIN PASSWORD %L"), &[&self.login, &verifier]).await?;
        for (name, value) in ROLE_SETTINGS {
            run(connection, "ALTER ROLE %I SET %I = %L", &[&self.login, name, value]).await?;
        }
        sqlx::query("INSERT INTO sluice_readers (login) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(&self.login)
            .execute(&mut *connection)
            .await?;
        grant(connection, &self.login, &self.schema, readable).await
    }

    /// What to tell who may not make it: the statements for somebody who may.
    fn refused(&self, readable: &Readable, error: &sqlx::Error) -> Fault {
        let Some(database) = error.as_database_error() else {
            return faults::fault("make a login for questions", error);
        };
        let message = format!("make the login {}: {}", self.login, words(database.message()));
        Fault::new(PART, FaultKind::Misconfigured, message, self.advice(readable))
    }

    fn advice(&self, readable: &Readable) -> String {
        let (login, schema) = (quoted(&self.login), quoted(&self.schema));
        let (limit, size) = TEMP_FILE_LIMIT;
        let settings: Vec<String> = ROLE_SETTINGS
            .iter()
            .map(|(name, value)| format!("ALTER ROLE {login} SET {name} = '{value}'"))
            .collect();
        let tables: Vec<String> =
            readable.names().iter().map(|table| format!("{schema}.{}", quoted(table))).collect();
        format!(
            "let somebody who may create logins run: CREATE ROLE {login} LOGIN PASSWORD 'a password'; {}; \
             GRANT CONNECT ON DATABASE {} TO {login}; GRANT USAGE ON SCHEMA {schema} TO {login}; \
             GRANT SELECT ON {} TO {login}; a superuser also: ALTER ROLE {login} SET {limit} = '{size}'; \
             then set DATABASE_READ_URL=postgres://{}:PASSWORD@{}/{}",
            settings.join("; "),
            quoted(&self.database),
            tables.join(", "),
            self.user,
            self.address,
            self.database,
        )
    }
}

/// What is granted already is left alone: granting again would write, and disturb who grants at the same time.
async fn grant(
    connection: &mut PgConnection,
    login: &str,
    schema: &str,
    readable: &Readable,
) -> Result<(), sqlx::Error> {
    let database = database(connection).await?;
    let lacking = sqlx::query(
        "SELECT NOT has_database_privilege($1, $2, 'CONNECT') AS connect,
                NOT has_schema_privilege($1, $3, 'USAGE') AS usage,
                ARRAY(
                    SELECT relname::text FROM pg_class
                    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $3) AND relname = ANY($4)
                      AND NOT has_table_privilege($1, oid, 'SELECT')
                ) AS tables",
    )
    .bind(login)
    .bind(&database)
    .bind(schema)
    .bind(readable.names())
    .fetch_one(&mut *connection)
    .await?;
    if lacking.try_get("connect")? {
        run(connection, "GRANT CONNECT ON DATABASE %I TO %I", &[&database, login]).await?;
    }
    if lacking.try_get("usage")? {
        run(connection, "GRANT USAGE ON SCHEMA %I TO %I", &[schema, login]).await?;
    }
    for table in lacking.try_get::<Vec<String>, _>("tables")? {
        run(connection, "GRANT SELECT ON %I.%I TO %I", &[schema, &table, login]).await?;
    }
    Ok(())
}

/// Runs a statement that takes no parameters; the server itself quotes what is put into it.
async fn run(connection: &mut PgConnection, template: &str, values: &[&str]) -> Result<(), sqlx::Error> {
    let statement: String = sqlx::query_scalar("SELECT format($1, VARIADIC $2::text[])")
        .bind(template)
        .bind(values)
        .fetch_one(&mut *connection)
        .await?;
    connection.execute(sqlx::raw_sql(&statement)).await?;
    Ok(())
}

async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(GRANT_LOCK).execute(connection).await?;
    Ok(())
}

async fn database(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT current_database()::text").fetch_one(connection).await
}

/// One login a database: roles are the whole server's.
fn login_name(database: &str) -> String {
    let name = format!("sluice_reader_{database}");
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    format!("sluice_reader_{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, database.as_bytes()).simple())
}

/// What a pooler such as Supabase's wants behind a login: `postgres.abcdef` connects as `postgres`.
fn pooler_suffix<'a>(user: &'a str, session_user: &str) -> &'a str {
    user.strip_prefix(session_user).filter(|suffix| suffix.starts_with('.')).unwrap_or_default()
}

fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_s_name_tells_the_database_and_fits() {
        assert_eq!(login_name("sluice"), "sluice_reader_sluice");
        let long = "d".repeat(60);
        let name = login_name(&long);
        assert_eq!(name.len(), "sluice_reader_".len() + 32);
        assert_ne!(name, login_name(&"e".repeat(60)));
    }

    #[test]
    fn a_pooler_s_suffix_is_what_it_wants_behind_the_login() {
        assert_eq!(pooler_suffix("postgres.abcdef", "postgres"), ".abcdef");
        assert_eq!(pooler_suffix("postgres", "postgres"), "");
        assert_eq!(pooler_suffix("postgres2", "postgres"), "");
        assert_eq!(pooler_suffix("x.abcdef", "postgres"), "");
    }

    #[test]
    fn only_plain_names_go_without_quotes() {
        assert_eq!(quoted("sluice_reader_1"), "sluice_reader_1");
        assert_eq!(quoted("Meus \"Leads\""), "\"Meus \"\"Leads\"\"\"");
    }
}
