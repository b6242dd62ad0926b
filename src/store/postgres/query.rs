//! One SQL statement of somebody else's, checked before by [`super::statement`].
//!
//! Guarantee: whatever the role may do, the statement runs in a transaction that only reads and is rolled back, for
//! no longer than its timeout, and no more leaves the server than the limits allow. The server makes each row JSON,
//! so that every type it knows can be answered.

use sqlx::{Column, Connection, Executor, PgConnection, Statement, TypeInfo};

use super::faults::{self, PART};
use crate::{
    domain::{Catalog, json::to_value},
    fault::Fault,
    store::{QueryAnswer, QueryColumn, QueryLimits, refused_statement, slow_statement},
};

/// As many arguments as a function of Postgres takes.
const MOST_COLUMNS: usize = 100;

pub(super) async fn query(
    connection: &mut PgConnection,
    catalog: Catalog,
    checked: &str,
    limits: &QueryLimits,
) -> Result<QueryAnswer, Fault> {
    let to_fault = |error: sqlx::Error| fault(&error, catalog, limits);
    let mut transaction = connection.begin_with("BEGIN READ ONLY").await.map_err(to_fault)?;
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true),
                set_config('timezone', 'UTC', true), set_config('standard_conforming_strings', 'on', true)",
    )
    .bind(limits.timeout.as_millis().to_string())
    .execute(&mut *transaction)
    .await
    .map_err(to_fault)?;
    // Over this protocol a text is one statement.
    let prepared = (&mut *transaction).prepare(checked).await.map_err(to_fault)?;
    let columns: Vec<QueryColumn> = prepared
        .columns()
        .iter()
        .map(|column| QueryColumn {
            name: column.name().to_owned(),
            kind: column.type_info().name().to_lowercase(),
        })
        .collect();
    if columns.is_empty() || columns.len() > MOST_COLUMNS {
        return Err(refused_statement(
            PART,
            catalog,
            format!("it has {} columns; select 1 to {MOST_COLUMNS}", columns.len()),
        ));
    }
    let names: Vec<String> = (0..columns.len()).map(|i| format!("c{i}")).collect();
    let names = names.join(", ");
    let limited = format!(
        "SELECT CASE WHEN sum(octet_length(linha)) OVER (ROWS UNBOUNDED PRECEDING) <= $1 THEN linha END
         FROM (SELECT json_build_array({names})::text AS linha FROM (\n{checked}\n) AS q({names}) LIMIT $2) AS linhas"
    );
    let asked = i64::try_from(limits.rows).unwrap_or(i64::MAX - 1) + 1;
    let lines: Vec<Option<String>> = sqlx::query_scalar(&limited)
        .bind(i64::try_from(limits.bytes).unwrap_or(i64::MAX))
        .bind(asked)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await
        .map_err(to_fault)?;
    transaction.rollback().await.map_err(to_fault)?;
    let mut answer = QueryAnswer { columns, rows: Vec::new(), truncated: lines.len() > limits.rows };
    for line in lines.into_iter().take(limits.rows) {
        let Some(serde_json::Value::Array(row)) = line.as_deref().map(to_value) else {
            answer.truncated = true;
            break;
        };
        answer.rows.push(row);
    }
    Ok(answer)
}

/// What went wrong, without a value: the server's words are repeated only where they speak of the statement.
fn fault(error: &sqlx::Error, catalog: Catalog, limits: &QueryLimits) -> Fault {
    let Some(database) = error.as_database_error() else { return faults::fault("sql", error) };
    let code = database.code().unwrap_or_default();
    let words = || {
        let hint =
            database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().and_then(|error| error.hint());
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}{hint}", database.message())
    };
    match &*code {
        "57014" | "55P03" => slow_statement(PART, limits),
        "22012" => refused_statement(PART, catalog, "it divides by zero; use nullif(divisor, 0)"),
        code if code.starts_with("42") || code.starts_with("0A") => refused_statement(PART, catalog, words()),
        code if code.starts_with("22") || code.starts_with("21") || code.starts_with("54") => {
            refused_statement(
                PART,
                catalog,
                format!("a value in it, or in a row it reads, does not fit (SQLSTATE {code})"),
            )
        }
        "25006" => refused_statement(PART, catalog, "it would change something"),
        _ => faults::fault("sql", error),
    }
}
