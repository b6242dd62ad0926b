//! What each Postgres error means for the engine, in one table.
//!
//! Postgres quotes row values in its messages, so only SQLSTATE, constraint and column are repeated.

use std::fmt::Write as _;

use sqlx::{Error, error::DatabaseError, postgres::PgDatabaseError};

use super::PART;
use crate::fault::{Fault, FaultKind};

/// Translates an error met while doing `what` (which names its object).
pub(super) fn fault(what: &str, error: Error) -> Fault {
    match &error {
        Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let (kind, advice) = verdict(&code);
            Fault::new(PART, kind, format!("{what} failed: {}", describe(&**database)), advice)
        }
        Error::PoolTimedOut => Fault::transient(
            PART,
            format!("{what} failed: no connection within the timeout"),
            "check that the server in DATABASE_URL runs and can be reached from here, or raise DATABASE_MAX_CONNECTIONS",
        ),
        Error::Io(io) => Fault::transient(
            PART,
            format!("{what} failed: {}", io.kind()),
            "check that the server in DATABASE_URL runs and can be reached from here",
        ),
        Error::Tls(_) => Fault::misconfigured(
            PART,
            format!("{what} failed: {error}"),
            "check sslmode and sslrootcert in DATABASE_URL",
        ),
        Error::Configuration(_) => {
            Fault::misconfigured(PART, format!("{what} failed: the address is refused"), "check DATABASE_URL")
        }
        Error::Protocol(_) | Error::WorkerCrashed | Error::PoolClosed => Fault::transient(
            PART,
            format!("{what} failed: the connection was lost"),
            "tried again by itself; if it stays, look at the server's log",
        ),
        _ => Fault::transient(
            PART,
            format!("{what} failed: {}", kind_of(&error)),
            "report this: it is a defect",
        ),
    }
}

/// The data itself is wrong: no retry can help (classes 22, data exception, and 23, integrity violation).
pub(super) fn is_bad_data(error: &Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    // 54000: a value larger than the server can index or store.
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code == "54000")
}

/// An error without the values Postgres puts into its messages.
pub(super) fn describe(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    let mut text = format!("SQLSTATE {code} ({})", meaning(&code));
    if let Some(postgres) = error.try_downcast_ref::<PgDatabaseError>() {
        for (name, value) in [
            ("table", postgres.table()),
            ("column", postgres.column()),
            ("constraint", postgres.constraint()),
        ] {
            if let Some(value) = value {
                let _ = write!(text, ", {name} {value}");
            }
        }
    }
    text
}

fn verdict(code: &str) -> (FaultKind, &'static str) {
    use FaultKind::{Misconfigured, Transient};
    match code {
        "28P01" | "28000" => (Misconfigured, "check user and password in DATABASE_URL, and pg_hba.conf"),
        "3D000" => (Misconfigured, "create the database named in DATABASE_URL"),
        "42501" => (Misconfigured, "grant this user CREATE on the schema and all rights on sluice's tables"),
        "42P01" | "42703" => (Misconfigured, "run `sluice migrate`: a table or column is missing"),
        "25006" => (Misconfigured, "this server is read-only; name the primary in DATABASE_URL"),
        "40001" | "40P01" | "55P03" => (Transient, "tried again by itself"),
        "57014" => (Transient, "the statement took too long; tried again with a smaller batch"),
        "53300" => (Transient, "raise the server's max_connections or lower DATABASE_MAX_CONNECTIONS"),
        "53100" => (Transient, "the server's disk is full: make room"),
        _ if code.starts_with("42") => {
            (Misconfigured, "the schema is not what sluice expects; run `sluice migrate`")
        }
        _ => (Transient, "tried again by itself; if it stays, look at the server's log"),
    }
}

fn meaning(code: &str) -> &'static str {
    match code {
        "22021" | "22P05" => "a character the server can't store",
        "22003" => "a number out of range",
        "22007" | "22008" => "a time out of range or badly written",
        "22P02" => "a badly written value",
        "23502" => "a value is missing",
        "23505" => "a value is there already",
        "28P01" | "28000" => "the login is refused",
        "3D000" => "no such database",
        "40001" => "a serialization failure",
        "40P01" => "a deadlock",
        "42501" => "no permission",
        "42P01" => "no such table",
        "53100" => "disk full",
        "53300" => "too many connections",
        "54000" => "a value is too large",
        "57014" => "cancelled or timed out",
        "57P01" | "57P02" | "57P03" => "the server is shutting down or starting",
        _ => "see PostgreSQL's list of error codes",
    }
}

fn kind_of(error: &Error) -> &'static str {
    match error {
        Error::RowNotFound => "a row that must exist is missing",
        Error::ColumnDecode { .. } | Error::Decode(_) => "an answer could not be read",
        Error::Encode(_) => "a value could not be sent",
        _ => "an unexpected error of the client",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_retried_and_what_needs_a_person_says_so() {
        for code in ["40001", "40P01", "57P01", "53300", "08006"] {
            assert_eq!(verdict(code).0, FaultKind::Transient, "{code}");
        }
        for code in ["28P01", "3D000", "42501", "42P01", "25006", "42883"] {
            assert_eq!(verdict(code).0, FaultKind::Misconfigured, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_transient_and_names_the_setting() {
        let fault = fault("applying a batch", Error::PoolTimedOut);
        assert_eq!(fault.kind, FaultKind::Transient);
        assert!(fault.advice.contains("DATABASE_URL"), "{fault}");
    }
}
