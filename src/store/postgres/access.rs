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
    Ok(judge(&identity, &own, &found, readable))
}

#[derive(sqlx::FromRow)]
struct Found {
    /// The login, the database and the schema, as statements write them.
    login: String,
    database: String,
    schema: String,
    /// Relations, `schema.name`, that the login itself may read besides the readable ones, and those that everybody may.
    other_tables: Vec<String>,
    others_of_public: Vec<String>,
    /// Relations that can be written, likewise.
    writable: Vec<String>,
    writable_of_public: Vec<String>,
    /// Roles it was given itself; what these give, goes with them.
    roles: Vec<String>,
    creates: bool,
    temporary: bool,
    temp_file_limit: String,
}

async fn look(
    connection: &mut PgConnection,
    schema: &str,
    readable: &Readable,
) -> Result<Found, sqlx::Error> {
    sqlx::query_as(
        "WITH me AS (SELECT oid, rolname FROM pg_roles WHERE rolname = session_user),
         relations AS (
             SELECT c.oid, format('%I.%I', nspname, relname) AS name, nspname = $1 AND relname = ANY($2) AS readable,
                    coalesce(relacl, acldefault('r', relowner)) AS acl
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
             WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND has_schema_privilege(n.oid, 'USAGE')
               AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_%'
         ), rights AS (
             SELECT name, readable, (aclexplode(acl)).* FROM relations
             UNION ALL
             SELECT name, readable, (aclexplode(attacl)).* FROM relations JOIN pg_attribute ON attrelid = oid
             WHERE attacl IS NOT NULL
         ), found AS (
             SELECT DISTINCT name, readable, grantee = 0 AS of_public, privilege_type <> 'SELECT' AS writes
             FROM rights WHERE grantee IN (0, (SELECT oid FROM me))
               AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
         )
         SELECT format('%I', rolname) AS login, format('%I', current_database()) AS database, format('%I', $1::text) AS schema,
                ARRAY(SELECT name FROM found WHERE NOT writes AND NOT readable AND NOT of_public ORDER BY name) AS other_tables,
                ARRAY(SELECT name FROM found WHERE NOT writes AND NOT readable AND of_public ORDER BY name) AS others_of_public,
                ARRAY(SELECT name FROM found WHERE writes AND NOT of_public ORDER BY name) AS writable,
                ARRAY(SELECT name FROM found WHERE writes AND of_public ORDER BY name) AS writable_of_public,
                ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = me.oid ORDER BY 1) AS roles,
                has_schema_privilege($1, 'CREATE') AS creates,
                has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
                current_setting('temp_file_limit') AS temp_file_limit
         FROM me",
    )
    .bind(schema)
    .bind(readable.names())
    .persistent(false)
    .fetch_one(connection)
    .await
}

fn judge(identity: &Identity, own: &OwnLogin, found: &Found, readable: &Readable) -> QuestionAccess {
    let login = &identity.login;
    let mut warnings = Vec::new();
    let mut warn = |about, problem: String, next_step: String| {
        warnings.push(AccessWarning { about, problem, next_step });
    };
    if own.superuser {
        warn(
            "own login",
            format!("sluice connects as {}, a superuser: a mistake or an intruder reaches the whole server", own.name),
            "let DATABASE_URL name a login that owns sluice's tables and nothing else; docs/postgres-logins.md has the statements".to_owned(),
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
        for (problem, next_step) in excess(found) {
            warn("questions", format!("{login}, the login of questions, {problem}"), next_step);
        }
    }
    if refused.is_none() && found.temp_file_limit == "-1" {
        let ((name, value), role) = (TEMP_FILE_LIMIT, &found.login);
        warn(
            "questions",
            format!("the temporary files of a question of {login} are not bounded"),
            format!("let a superuser run ALTER ROLE {role} SET {name} = '{value}'"),
        );
    }
    let tables = readable.names().join(", ");
    QuestionAccess { summary: format!("run as {login}, over {tables}"), refused, warnings }
}

/// What the login of questions may do that it need not, and the statement that ends it. Roles come first: a table that
/// one of them gives can't be taken from the login.
fn excess(found: &Found) -> Vec<(String, String)> {
    let Found { login, database, schema, .. } = found;
    let mut excess = Vec::new();
    if !found.roles.is_empty() {
        let roles = &found.roles;
        excess.push((
            format!("has the roles {}, and may do what they may", listed(roles)),
            format!("REVOKE {} FROM {login}", roles.join(", ")),
        ));
    }
    let by_grantee = |own: &'_ [String], public: &'_ [String], may: &str, rights: &str| {
        [(own, login.as_str(), ""), (public, "PUBLIC", ", as everybody may")]
            .into_iter()
            .filter(|(tables, ..)| !tables.is_empty())
            .map(|(tables, grantee, as_who)| {
                (
                    format!("{may} {}{as_who}", listed(tables)),
                    format!("REVOKE {rights} ON {} FROM {grantee}", tables.join(", ")),
                )
            })
            .collect::<Vec<_>>()
    };
    excess.extend(by_grantee(
        &found.writable,
        &found.writable_of_public,
        "may write",
        "INSERT, UPDATE, DELETE, TRUNCATE",
    ));
    excess.extend(by_grantee(&found.other_tables, &found.others_of_public, "may also read", "SELECT"));
    if found.creates {
        excess.push((
            format!("may create tables in the schema {schema}"),
            format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {login}"),
        ));
    }
    if found.temporary {
        excess.push((
            format!("may create temporary tables in {database}, though not by a question"),
            format!("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, {login}"),
        ));
    }
    excess
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES {
        text = format!("{text} and {} more", names.len() - MAX_NAMES);
    }
    text
}
