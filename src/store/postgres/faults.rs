//! The one table that turns Postgres' errors into faults.
//!
//! Guarantee: no fault made here carries a row's values or the password. Postgres quotes values in the messages
//! and details of data errors, so only the messages of classes that speak of the server itself are repeated.

use sqlx::{error::DatabaseError, postgres::PgDatabaseError};
use sqlx_core::migrate::MigrateError;

use super::fitness::POOLER;
use crate::{
    fault::{Fault, FaultKind},
    next_step::NextStep,
    redaction::words,
};

/// The part every fault of this adapter names.
pub(super) const PART: &str = "postgres";

/// What an error code means for the engine and for the operator.
struct Meaning {
    /// A whole SQLSTATE, or the two characters of its class.
    code: &'static str,
    kind: FaultKind,
    advice: &'static str,
}

const fn transient(code: &'static str, advice: &'static str) -> Meaning {
    Meaning { code, kind: FaultKind::Transient, advice }
}

const fn misconfigured(code: &'static str, advice: &'static str) -> Meaning {
    Meaning { code, kind: FaultKind::Misconfigured, advice }
}

/// Whole codes stand before their class: the first match counts.
const MEANINGS: &[Meaning] = &[
    misconfigured("26000", POOLER),
    misconfigured("42P05", POOLER),
    transient("08", "the connection broke; it is made again"),
    misconfigured(
        "0A",
        "the server lacks a feature; use PostgreSQL 14 or later, without a transaction pooler",
    ),
    transient(
        READ_ONLY,
        "the server is a standby or read-only, as during a failover: let DATABASE_URL lead to the primary, or where there is \
         none any more run SELECT pg_promote() here as a superuser; nothing is lost, and it is tried again by itself",
    ),
    transient("25P03", "a transaction was left idle for too long; it is repeated"),
    misconfigured("28", "check user and password in DATABASE_URL and the server's pg_hba.conf"),
    misconfigured("3D", "create the database that DATABASE_URL names"),
    misconfigured("3F", "create the schema that the user's search_path names"),
    transient("40", "another transaction was in the way; it is repeated"),
    misconfigured("42501", "grant the user the missing permission"),
    misconfigured("42703", "a column is missing; run `sluice migrate`"),
    misconfigured(
        "42P07",
        "a table of that name is there already; give sluice a database or schema of its own",
    ),
    misconfigured("42883", "the server lacks a function; use PostgreSQL 14 or later"),
    misconfigured("42", "the tables are not what sluice expects; run `sluice migrate`"),
    transient(
        "53100",
        "the server's disk is full; free some space on it; nothing is lost: a server goes on by itself, and a command or call \
         that failed is to be made again",
    ),
    transient("53300", "the server has no connection left; lower the pool's size or raise max_connections"),
    transient("53", "the server is short of something; it is tried again"),
    transient("55", "another session holds a lock; it is tried again"),
    transient(
        "57014",
        "the statement took too long; if it keeps happening raise the timeout or look for locks",
    ),
    transient("57", "the server is starting, stopping or was told to end the session; it is tried again"),
    transient("58", "the server has trouble with its system; look at its log"),
    misconfigured("P0", "a trigger refused the write; look at the triggers on sluice's tables"),
    transient("XX", "the server reports an internal error; look at its log"),
];

/// Classes whose messages speak of the server, not of rows.
const SPEAKING_CLASSES: &[&str] = &["08", "28", "3D", "3F", "40", "42", "53", "55", "57"];

/// What the server answers to a write where it is a standby, or read-only.
pub(super) const READ_ONLY: &str = "25006";

/// What the server answers where a lock was waited for as long as `lock_timeout` allows.
pub(super) const LOCK_TIMEOUT: &str = "55P03";

/// The SQLSTATE that a fault made here tells of, where it is the server's.
pub(super) fn sqlstate(fault: &Fault) -> Option<&str> {
    let (_, code) = fault.message.strip_suffix(')')?.rsplit_once("(SQLSTATE ")?;
    Some(code).filter(|code| code.len() == 5)
}

/// Whether the server took the login, or its password, for none.
pub(super) fn is_refused_login(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code.starts_with("28"))
}

/// Turns an error into a fault. `attempt` says what was attempted, on what.
pub(super) fn fault(attempt: &str, error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(database) => from_database(attempt, database.as_ref()),
        sqlx::Error::Io(io) => Fault::transient(
            PART,
            format!("{attempt}: {}", words(&io.to_string())),
            "check that the server runs and can be reached",
        ),
        sqlx::Error::PoolTimedOut => Fault::transient(
            PART,
            format!("{attempt}: no connection became free in time"),
            "check that the server runs and can be reached, and that it is not overloaded",
        ),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Fault::transient(PART, format!("{attempt}: the connections are closed"), "it is tried again")
        }
        sqlx::Error::Tls(tls) => Fault::misconfigured(
            PART,
            format!("{attempt}: no TLS connection: {}", words(&tls.to_string())),
            "check sslmode and sslrootcert in DATABASE_URL",
        ),
        sqlx::Error::Configuration(_) => Fault::misconfigured(
            PART,
            format!("{attempt}: the connection is configured wrongly"),
            "check DATABASE_URL",
        ),
        sqlx::Error::Migrate(migrate) => from_migration(migrate),
        // A reply out of order: the connection is unusable, the next one will do.
        sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => Fault::transient(
            PART,
            format!("{attempt}: the server's reply made no sense"),
            "check that DATABASE_URL names a PostgreSQL server",
        ),
        // Decoding and column errors quote values.
        _ => Fault::misconfigured(
            PART,
            format!("{attempt}: a stored row is not what sluice expects"),
            "run `sluice migrate`; if it persists the tables were changed by hand",
        ),
    }
}

/// Turns a failed migration into a fault.
pub(super) fn from_migration(error: &MigrateError) -> Fault {
    match error {
        MigrateError::Execute(error) => fault("migrate", error),
        MigrateError::ExecuteMigration(error, version) => fault(&format!("migration {version}"), error),
        MigrateError::VersionMismatch(version) => Fault::misconfigured(
            PART,
            format!("migration {version} was applied with another content"),
            "use the release that applied it or a later one, or give sluice a database of its own",
        ),
        other => {
            Fault::misconfigured(PART, format!("migrate: {other}"), "look at the table _sqlx_migrations")
        }
    }
}

/// Whether one row's content made the server refuse, so that the same row is refused every time.
pub(super) fn is_refused_content(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| refuses_content(&code))
}

/// Whether a trigger or a constraint refused, which may refuse every row alike.
pub(super) fn is_rule(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| breaks_a_rule(&code))
}

/// Data exceptions, content beyond a limit (an index entry, a json string, nesting), and what a rule objects to.
fn refuses_content(code: &str) -> bool {
    code.starts_with("22") || matches!(code, "54000" | "54001") || breaks_a_rule(code)
}

/// Broken constraints, and what a trigger raises: under the code of PL/pgSQL, of a class meant for triggers and
/// their routines, or of one that the server does not know, which somebody made up for the purpose.
fn breaks_a_rule(code: &str) -> bool {
    const RULES: &[&str] = &["09", "20", "21", "23", "27", "38", "39", "44", "P0"];
    const THE_SERVERS_OWN: &[&str] = &[
        "00", "01", "02", "03", "08", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "22", "24", "25", "26", "28",
        "2B", "2D", "2F", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "72", "F0", "HV",
        "XX",
    ];
    let class = code.get(..2).unwrap_or_default();
    code.len() == 5 && (RULES.contains(&class) || !THE_SERVERS_OWN.contains(&class))
}

/// Why the server refused a row, without anything of the row.
pub(super) fn refusal(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else {
        return "postgres refuses the row".to_owned();
    };
    let code = database.code().unwrap_or_default();
    let what = match &*code {
        "22001" => "a value is too long for its column",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a time is out of range",
        "22P02" | "22P05" | "22021" => "a text can't be stored",
        "54000" => "a value is too large for an index or a json document",
        "54001" => "a json document is nested too deeply",
        code if code.starts_with("23") || code.starts_with("44") => "a constraint is violated",
        code if breaks_a_rule(code) => "a trigger refuses it",
        _ => "a value can't be stored",
    };
    let column = database.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::column);
    let on = place(database.table(), column, database.constraint());
    format!("{what} (SQLSTATE {code}{on})")
}

/// Where a row was refused, as far as the server names it.
fn place(table: Option<&str>, column: Option<&str>, constraint: Option<&str>) -> String {
    match (constraint.map(|name| ("constraint", name)).or(column.map(|name| ("column", name))), table) {
        (Some((what, name)), Some(table)) => format!(", {what} {name} of {table}"),
        (Some((what, name)), None) => format!(", {what} {name}"),
        (None, Some(table)) => format!(", table {table}"),
        (None, None) => String::new(),
    }
}

fn from_database(attempt: &str, error: &dyn DatabaseError) -> Fault {
    let code = error.code().unwrap_or_default();
    let (kind, advice) = match &*code {
        // What a pooler says of settings that a session begins with.
        "08P01" if error.message().contains("startup parameter") => (FaultKind::Misconfigured, POOLER.into()),
        "42P01" => (FaultKind::Misconfigured, NextStep::Migrate),
        code => {
            let (kind, advice) = meaning(code);
            (kind, advice.into())
        }
    };
    let speaks = SPEAKING_CLASSES.iter().any(|class| code.starts_with(class));
    let message = if speaks { words(error.message()) } else { "the server reports an error".to_owned() };
    Fault::new(PART, kind, format!("{attempt}: {message} (SQLSTATE {code})"), advice)
}

/// An unknown code passes by itself: waiting loses nothing, and it is reported all the while.
fn meaning(code: &str) -> (FaultKind, &'static str) {
    MEANINGS
        .iter()
        .find(|meaning| code.starts_with(meaning.code))
        .map_or((FaultKind::Transient, "look at the server's log"), |meaning| (meaning.kind, meaning.advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_retried() {
        for code in ["40001", "40P01", "57P01", "57P03", "53300", "53100", "57014", "08006", "55P03", "25006"]
        {
            assert_eq!(meaning(code).0, FaultKind::Transient, "{code}");
        }
    }

    #[test]
    fn what_needs_a_person_is_misconfigured() {
        for code in ["28P01", "28000", "42501", "3D000", "42P01", "42703", "42P07", "42601", "P0001"] {
            assert_eq!(meaning(code).0, FaultKind::Misconfigured, "{code}");
        }
    }

    #[test]
    fn only_content_is_refused_for_good() {
        for code in [
            "22003", "22P05", "23502", "23514", "44000", "54000", "54001", "P0001", "P0004", "45000", "LD001",
        ] {
            assert!(refuses_content(code), "{code}");
        }
        for code in ["40001", "53100", "42P01", "57014", "54023", "XX000", "25006", "28000", ""] {
            assert!(!refuses_content(code), "{code}");
        }
    }

    #[test]
    fn a_refusal_names_the_constraint_or_the_column_that_is_at_fault() {
        let (leads, column) = (Some("leads"), Some("fk_dba"));
        assert_eq!(place(leads, column, None), ", column fk_dba of leads");
        assert_eq!(place(leads, column, Some("dba")), ", constraint dba of leads");
        assert_eq!(
            (place(leads, None, None), place(None, None, None)),
            (", table leads".into(), String::new())
        );
    }

    #[test]
    fn every_whole_code_stands_before_its_class() {
        for (i, meaning) in MEANINGS.iter().enumerate() {
            let shadowed = MEANINGS[..i].iter().any(|earlier| meaning.code.starts_with(earlier.code));
            assert!(!shadowed, "{} is never reached", meaning.code);
        }
    }

    #[test]
    fn a_lost_connection_is_transient_and_a_broken_row_is_not() {
        let lost = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(fault("apply", &lost).kind, FaultKind::Transient);
        let broken = sqlx::Error::ColumnDecode { index: "0".into(), source: "segredo".into() };
        let fault = fault("sync", &broken);
        assert_eq!(fault.kind, FaultKind::Misconfigured);
        assert!(!fault.to_string().contains("segredo"), "{fault}");
    }

    #[test]
    fn a_fault_tells_the_code_it_was_made_from() {
        let refused = sqlx::Error::Database(Box::new(Told("unsupported startup parameter (SQLSTATE 55P03)")));
        assert_eq!(sqlstate(&fault("apply", &refused)), Some("08P01"));
        let lost = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(sqlstate(&fault("apply", &lost)), None);
    }

    #[derive(Debug)]
    struct Told(&'static str);

    impl std::fmt::Display for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Told {}

    impl DatabaseError for Told {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some("08P01".into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    #[test]
    fn a_server_that_quotes_the_password_is_not_repeated() {
        let url = secrecy::SecretString::from("postgres://ana:senha%40do-banco@localhost/x");
        super::super::connection::parsed_url("DATABASE_URL", &url).expect("a URL");
        let quoted = sqlx::Error::Database(Box::new(Told("no route for ana:senha@do-banco")));
        let told = fault("apply", &quoted).to_string();
        assert!(told.contains("ana:***") && !told.contains("senha"), "{told}");
    }
}
