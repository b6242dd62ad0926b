//! One SQL statement of somebody else's, checked before by [`super::statement`], in a session of [`super::session`].
//!
//! Guarantee: no more leaves the server than the limits allow. The server makes each row JSON, so that every type
//! it knows can be answered.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, value::RawValue};
use sqlx::{Column, Executor, PgConnection, Statement, TypeInfo};
use tokio::time::timeout;

use super::{
    faults::{self, PART},
    session::{MAX_QUESTIONS, Session},
    statement::Checked,
};
use crate::{
    domain::{Catalog, json::to_value},
    fault::{Fault, FaultKind},
    store::{QueryAnswer, QueryColumn, QueryLimits, refused_statement, slow_statement},
};

/// As many arguments as a function of Postgres takes.
const MAX_COLUMNS: usize = 100;

/// How long the server may take to notice that a statement's time is over.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// Answers a checked statement and ends the session it was asked in.
pub(super) async fn ask(
    mut session: Session,
    checked: &Checked,
    limits: &QueryLimits,
    catalog: Catalog,
) -> Result<QueryAnswer, Fault> {
    let warning = session.identity.warning();
    let answered = answer(session.connection(), checked, limits, catalog);
    // The session keeps its place until the server has ended it.
    let Ok(outcome) = timeout(limits.timeout + GRACE, answered).await else {
        return Err(unstoppable(limits));
    };
    // An answer that came is not withheld because the session could not be kept.
    if let Err(fault) = session.end().await {
        tracing::debug!(error = %fault, "a question's session was closed");
    }
    outcome.map(|answer| QueryAnswer { warning, ..answer })
}

async fn answer(
    connection: &mut PgConnection,
    checked: &Checked,
    limits: &QueryLimits,
    catalog: Catalog,
) -> Result<QueryAnswer, Fault> {
    let to_fault = |error: sqlx::Error| fault(&error, limits, catalog);
    let columns = columns(connection, checked, limits, catalog).await?;
    let names = names(&columns);
    let limited = format!(
        "SELECT CASE WHEN sum(octet_length(linha)) OVER (ROWS UNBOUNDED PRECEDING) <= $1 THEN linha END
         FROM (SELECT json_build_array({names})::text AS linha FROM (\n{}\n) AS q({names}) LIMIT $2) AS linhas",
        checked.sql
    );
    let asked = i64::try_from(limits.rows).unwrap_or(i64::MAX - 1) + 1;
    let lines: Vec<Option<String>> = sqlx::query_scalar(&limited)
        .bind(i64::try_from(limits.bytes).unwrap_or(i64::MAX))
        .bind(asked)
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(to_fault)?;
    let mut answer =
        QueryAnswer { columns, rows: Vec::new(), truncated: lines.len() > limits.rows, warning: None };
    for line in lines.into_iter().take(limits.rows) {
        let Some(line) = line else {
            answer.truncated = true;
            break;
        };
        answer.rows.push(values(&line, limits.verbatim));
    }
    Ok(answer)
}

/// The columns of a statement's answer, once nothing in it is found that could do more than read.
pub(super) async fn columns(
    connection: &mut PgConnection,
    checked: &Checked,
    limits: &QueryLimits,
    catalog: Catalog,
) -> Result<Vec<QueryColumn>, Fault> {
    let refused = |problem: String| refused_statement(PART, catalog, problem);
    let to_fault = |error: sqlx::Error| fault(&error, limits, catalog);
    if let Some(name) = callable(connection, &checked.attributes).await.map_err(to_fault)? {
        return Err(refused(format!(
            "nothing here is known to have a column {name}, and PostgreSQL may read .{name} as the function {name}(): check the column's name; if it \
             is one, select it without what stands before the dot, or under another name in a subquery"
        )));
    }
    // Over this protocol a text is one statement.
    let prepared = connection.prepare(&checked.sql).await.map_err(to_fault)?;
    let columns: Vec<QueryColumn> = prepared
        .columns()
        .iter()
        .map(|column| QueryColumn {
            name: column.name().to_owned(),
            kind: column.type_info().name().to_lowercase(),
        })
        .collect();
    if columns.is_empty() || columns.len() > MAX_COLUMNS {
        return Err(refused(format!("it has {} columns; select 1 to {MAX_COLUMNS}", columns.len())));
    }
    Ok(columns)
}

/// The names by which columns are spoken of: their own may be there twice.
pub(super) fn names(columns: &[QueryColumn]) -> String {
    (0..columns.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ")
}

/// The values of a row that the server made JSON.
fn values(line: &str, verbatim: bool) -> Vec<Value> {
    let values: Vec<&RawValue> = serde_json::from_str(line).unwrap_or_default();
    let value = |value: &RawValue| match value.get() {
        text if verbatim && text.starts_with(|c: char| matches!(c, '{' | '[' | '-' | '0'..='9')) => {
            Value::from(text)
        }
        text => to_value(text),
    };
    values.into_iter().map(value).collect()
}

/// One of the names that Postgres could call behind a dot: a type, or a function that one argument is enough for.
/// Where functions are found in `pg_catalog` alone, those that are immutable only compute.
async fn callable(
    connection: &mut PgConnection,
    names: &BTreeSet<String>,
) -> Result<Option<String>, sqlx::Error> {
    if names.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    sqlx::query_scalar(
        "SELECT name FROM unnest($1::text[]) AS name
         WHERE EXISTS (SELECT FROM pg_type WHERE typname = name AND typnamespace = 'pg_catalog'::regnamespace)
            OR EXISTS (
                SELECT FROM pg_proc
                WHERE proname = name AND pronamespace = 'pg_catalog'::regnamespace AND provolatile <> 'i'
                  AND pronargs >= 1 AND (pronargs - pronargdefaults <= 1 OR provariadic <> 0)
            )
         LIMIT 1",
    )
    .bind(names)
    .persistent(false)
    .fetch_optional(connection)
    .await
}

/// What a caller learns whose statement the server goes on with.
pub(super) fn unstoppable(limits: &QueryLimits) -> Fault {
    Fault::new(
        PART,
        FaultKind::Invalid,
        format!(
            "sql: it took longer than {} s and the server could not stop it: until it ends there, it keeps one of the {MAX_QUESTIONS} \
             places of questions",
            limits.timeout.as_secs_f32()
        ),
        "narrow it: shorter texts and lists in what goes through them, fewer rows; if other questions get no answer either, check that \
         the server can be reached",
    )
}

/// What went wrong, without a value: the server's words are repeated only where they speak of the statement.
pub(super) fn fault(error: &sqlx::Error, limits: &QueryLimits, catalog: Catalog) -> Fault {
    let Some(database) = error.as_database_error() else { return faults::fault("sql", error) };
    let code = database.code().unwrap_or_default();
    let refused = |problem: String| refused_statement(PART, catalog, problem);
    let words = || {
        let hint =
            database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().and_then(|error| error.hint());
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}{hint}", database.message())
    };
    match &*code {
        "42501" => Fault::misconfigured(
            PART,
            format!("sql: {}", database.message()),
            "run `sluice migrate`: it grants the login that questions run under what it lacks",
        ),
        "53400" | "53200" => Fault::new(
            PART,
            FaultKind::Invalid,
            "sql: it needs more temporary space or memory than it may take".to_owned(),
            "narrow it: filter, aggregate fewer rows, or sort and join less",
        ),
        "57014" | "55P03" => slow_statement(PART, limits),
        "22012" => refused("it divides by zero; use nullif(divisor, 0)".to_owned()),
        code if code.starts_with("42") || code.starts_with("0A") => refused(words()),
        code if code.starts_with("54") => refused(format!(
            "the statement is too deep or too wide for PostgreSQL (SQLSTATE {code}): write fewer operators in one another, fewer columns, \
             fewer subscripts"
        )),
        code if code.starts_with("22") || code.starts_with("21") => {
            refused(format!("a value in it, or in a row it reads, does not fit (SQLSTATE {code})"))
        }
        "25006" => refused("it would change something".to_owned()),
        _ => faults::fault("sql", error),
    }
}
