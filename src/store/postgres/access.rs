//! What the logins may do that they need not: for doctor.

use sqlx::PgConnection;

use super::{
    faults,
    login::Origin,
    readers::TEMP_FILE_LIMIT,
    session::{Identity, Session},
};
use crate::{
    fault::Fault,
    store::{AccessWarning, QuestionAccess, Readable},
};

/// Names told of a longer list.
const MAX_NAMES: usize = 5;

/// Roles of Supabase that anybody on the internet has; by default they are granted every new table of `public`.
const EVERYBODY: [&str; 2] = ["anon", "authenticated"];

/// The login sluice itself uses, and who else was let in to its tables.
pub(super) struct OwnLogin {
    name: String,
    superuser: bool,
    /// Tables that everybody may read, `schema.name`, and who that is.
    open_tables: Vec<String>,
    open_to: Vec<String>,
}

pub(super) async fn of_own_login(
    connection: &mut PgConnection,
    readable: &Readable,
) -> Result<OwnLogin, sqlx::Error> {
    let (name, superuser, open_tables, open_to) = sqlx::query_as(
        "WITH open AS (
             SELECT format('%s.%I', relnamespace::regnamespace, relname) AS name,
                    coalesce((SELECT rolname::text FROM pg_roles WHERE oid = grantee), 'PUBLIC') AS grantee
             FROM pg_class, aclexplode(relacl)
             WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'eventos_raw'::regclass)
               AND relkind = 'r' AND privilege_type = 'SELECT' AND (relname = ANY($1) OR relname LIKE 'sluice\\_%')
         ), everybody AS (SELECT * FROM open WHERE grantee = 'PUBLIC' OR grantee = ANY($2))
         SELECT session_user::text, (SELECT rolsuper FROM pg_roles WHERE rolname = session_user),
                ARRAY(SELECT DISTINCT name FROM everybody ORDER BY name),
                ARRAY(SELECT DISTINCT grantee FROM everybody ORDER BY grantee)",
    )
    .bind(readable.names())
    .bind(EVERYBODY.as_slice())
    .fetch_one(connection)
    .await?;
    Ok(OwnLogin { name, superuser, open_tables, open_to })
}

/// What the login of questions may do, asked as this login.
pub(super) async fn of_questions(
    mut session: Session,
    own: OwnLogin,
    schema: &str,
    readable: &Readable,
) -> Result<QuestionAccess, Fault> {
    let found = look(session.connection(), schema, readable).await;
    let identity = session.identity.clone();
    session.end().await?;
    let found = found.map_err(|error| faults::fault("look at what questions may reach", &error))?;
    Ok(judge(&identity, &own, found, schema, readable))
}

#[derive(sqlx::FromRow)]
struct Found {
    /// Relations, `schema.name`, that can be read besides the readable ones.
    other_tables: Vec<String>,
    /// Relations that can be written.
    writable: Vec<String>,
    roles: Vec<String>,
    creates: bool,
    temp_file_limit: String,
}

async fn look(
    connection: &mut PgConnection,
    schema: &str,
    readable: &Readable,
) -> Result<Found, sqlx::Error> {
    sqlx::query_as(
        "WITH reachable AS (
             SELECT format('%I.%I', nspname, relname) AS name, nspname = $1 AND relname = ANY($2) AS readable,
                    has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT') AS can_read,
                    has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                        OR has_any_column_privilege(c.oid, 'INSERT, UPDATE') AS can_write
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
             WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND has_schema_privilege(n.oid, 'USAGE')
               AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_%'
         )
         SELECT ARRAY(SELECT name FROM reachable WHERE can_read AND NOT readable ORDER BY name) AS other_tables,
                ARRAY(SELECT name FROM reachable WHERE can_write ORDER BY name) AS writable,
                ARRAY(SELECT rolname::text FROM pg_roles
                      WHERE rolname <> session_user AND pg_has_role(session_user, oid, 'MEMBER') ORDER BY 1) AS roles,
                has_schema_privilege($1, 'CREATE') AS creates,
                current_setting('temp_file_limit') AS temp_file_limit",
    )
    .bind(schema)
    .bind(readable.names())
    .persistent(false)
    .fetch_one(connection)
    .await
}

fn judge(
    identity: &Identity,
    own: &OwnLogin,
    found: Found,
    schema: &str,
    readable: &Readable,
) -> QuestionAccess {
    let login = &identity.login;
    let mut warnings = Vec::new();
    let mut warn = |about, problem: String, next_step: String| {
        warnings.push(AccessWarning { about, problem, next_step });
    };
    if own.superuser {
        warn(
            "own login",
            format!("sluice connects as {}, a superuser: a mistake or an intruder reaches the whole server", own.name),
            "let DATABASE_URL name a login that owns sluice's tables and nothing else; the README has the statements".to_owned(),
        );
    }
    if !own.open_tables.is_empty() {
        let (tables, everybody) = (listed(&own.open_tables), own.open_to.join(", "));
        warn(
            "others",
            format!("{tables} can be read by {everybody}"),
            format!("REVOKE ALL ON {} FROM {everybody}", own.open_tables.join(", ")),
        );
    }
    let refused = identity.refusal();
    let own_login = identity.origin == Origin::Own;
    if own_login && refused.is_none() {
        warn(
            "questions",
            format!("questions run under sluice's own login, {login}, which may also write"),
            "run `sluice migrate --create-reader`, or let DATABASE_READ_URL name a login that may only read"
                .to_owned(),
        );
    }
    // Sluice's own login may write and has what roles it has: one warning says it all.
    if !own_login && refused.is_none() {
        if !found.writable.is_empty() {
            let tables = listed(&found.writable);
            warn(
                "questions",
                format!("{login}, the login of questions, may write {tables}"),
                format!("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {tables} FROM {login} (or from PUBLIC)"),
            );
        }
        if !found.other_tables.is_empty() {
            let tables = listed(&found.other_tables);
            warn(
                "questions",
                format!("{login}, the login of questions, may also read {tables}"),
                format!("REVOKE SELECT ON {tables} FROM {login} (or from PUBLIC), unless it is meant to"),
            );
        }
        if !found.roles.is_empty() {
            let roles = listed(&found.roles);
            warn(
                "questions",
                format!("{login}, the login of questions, has the roles {roles}"),
                format!("REVOKE {roles} FROM {login}"),
            );
        }
        if found.creates {
            warn(
                "questions",
                format!("{login}, the login of questions, may create tables in the schema {schema}"),
                format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"),
            );
        }
        if found.temp_file_limit == "-1" {
            let (name, value) = TEMP_FILE_LIMIT;
            warn(
                "questions",
                format!("the temporary files of a question of {login} are not bounded"),
                format!("let a superuser run ALTER ROLE {login} SET {name} = '{value}'"),
            );
        }
    }
    let tables = readable.names().join(", ");
    QuestionAccess { summary: format!("run as {login}, over {tables}"), refused, warnings }
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES {
        text = format!("{text} and {} more", names.len() - MAX_NAMES);
    }
    text
}
