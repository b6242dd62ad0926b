//! One SQL statement of somebody else's.
//!
//! Guarantee: it reads, and only the tables it may. It runs on a connection of its own that was opened for reading;
//! SQLite asks an authorizer for every table and every other thing the statement would do; a handler ends it when
//! its time is up; and no value can outgrow what fits into an answer.

use std::{sync::Arc, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{
    Batch, Connection, Error, ErrorCode, Row, Statement,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
    types::ValueRef,
};
use serde_json::{Number, Value};

use crate::{
    domain::{Catalog, json::to_value},
    embedded::EmbeddedDb,
    fault::Fault,
    store::{QueryAnswer, QueryColumn, QueryLimits, readable, refused_statement, slow_statement},
};

use super::{PART, rows::declared};

/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 10_000;

/// The longest text a statement may make or read: as long as the longest row worth reading.
const LONGEST_VALUE: i32 = 4 << 20;

/// Tables without rows of their own, made from a value.
const TABLE_FUNCTIONS: [&str; 2] = ["json_each", "json_tree"];

pub(super) async fn query(
    db: Arc<EmbeddedDb>,
    catalog: Catalog,
    statement: String,
    limits: QueryLimits,
) -> Result<QueryAnswer, Fault> {
    let answered = tokio::task::spawn_blocking(move || {
        let connection = db.reader().map_err(|error| fault(&error, catalog, &limits))?;
        answer(&connection, catalog, &statement, &limits)
    });
    answered
        .await
        .map_err(|error| Fault::transient(PART, format!("sql: it ended badly: {error}"), "report this"))?
}

fn answer(
    connection: &Connection,
    catalog: Catalog,
    sql: &str,
    limits: &QueryLimits,
) -> Result<QueryAnswer, Fault> {
    let to_fault = |error: Error| fault(&error, catalog, limits);
    let until = Instant::now() + limits.timeout;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE);
    connection.progress_handler(STEPS, Some(move || Instant::now() > until));
    let readable = readable(catalog);
    connection.authorizer(Some(move |context: AuthContext<'_>| authorize(&readable, context)));
    let mut statements = Batch::new(connection, sql);
    let Some(mut statement) = statements.next().map_err(to_fault)? else {
        return Err(refused_statement(PART, catalog, "it is empty"));
    };
    // Reading on also shows a second statement that is wrong.
    if !matches!(statements.next(), Ok(None)) {
        return Err(refused_statement(PART, catalog, "there is more than one statement"));
    }
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(refused_statement(PART, catalog, "it does not read"));
    }
    if statement.parameter_count() > 0 {
        return Err(refused_statement(PART, catalog, "it has parameters; write the values into it"));
    }
    let columns = columns(&statement);
    let mut answer = QueryAnswer { columns, rows: Vec::new(), truncated: false };
    let mut bytes = 0;
    let mut rows = statement.query([]).map_err(to_fault)?;
    while let Some(row) = rows.next().map_err(to_fault)? {
        let values: Vec<Value> = answer
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| value(row, i, column))
            .collect::<rusqlite::Result<_>>()
            .map_err(to_fault)?;
        bytes += serde_json::to_string(&values).map_or(0, |text| text.len());
        if answer.rows.len() == limits.rows || bytes > limits.bytes {
            answer.truncated = true;
            break;
        }
        answer.rows.push(values);
    }
    Ok(answer)
}

fn authorize(readable: &[&str], context: AuthContext<'_>) -> Authorization {
    let allowed = match context.action {
        AuthAction::Select | AuthAction::Recursive => true,
        // A subquery's own columns bear no table's name.
        AuthAction::Read { table_name, .. } => {
            readable.iter().chain(&TABLE_FUNCTIONS).any(|name| table_name.eq_ignore_ascii_case(name))
        }
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

/// The columns of a statement, with the types the tables declare.
fn columns(statement: &Statement<'_>) -> Vec<QueryColumn> {
    let of = |column: rusqlite::Column<'_>| QueryColumn {
        name: column.name().to_owned(),
        // What is computed has the type of each value.
        kind: declared(&column.decl_type().unwrap_or("any").to_lowercase()).to_owned(),
    };
    statement.columns().into_iter().map(of).collect()
}

/// A value as JSON, as its column declares it.
fn value(row: &Row<'_>, i: usize, column: &QueryColumn) -> rusqlite::Result<Value> {
    Ok(match row.get_ref(i)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) if column.kind == "boolean" => Value::Bool(number != 0),
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => {
            Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
        }
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            if matches!(&*column.kind, "json" | "list") {
                to_value(&text)
            } else {
                Value::String(text.into_owned())
            }
        }
        ValueRef::Blob(bytes) => Value::String(STANDARD.encode(bytes)),
    })
}

/// What went wrong, without a value: SQLite's own words name the statement's parts and the tables' columns.
fn fault(error: &Error, catalog: Catalog, limits: &QueryLimits) -> Fault {
    let (code, words) = match error {
        Error::SqlInputError { error, msg, .. } => (Some(error.code), msg.as_str()),
        Error::SqliteFailure(error, words) => {
            (Some(error.code), words.as_deref().unwrap_or("SQLite can't answer it"))
        }
        _ => (None, ""),
    };
    match code {
        Some(ErrorCode::OperationInterrupted) => slow_statement(PART, limits),
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            refused_statement(PART, catalog, "it would read another table, or do something else than read")
        }
        Some(ErrorCode::TooBig) => refused_statement(PART, catalog, "it makes a value that is too large"),
        Some(ErrorCode::Unknown) => refused_statement(PART, catalog, words),
        _ => Fault::transient(
            PART,
            "sql: sluice.db can't be read just now",
            "try again; look at get_pipeline_status",
        ),
    }
}
