//! Runs the statement and makes JSON of its rows, no more of it than fits into an answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{
    Batch, Column, Connection, Error, Row, Statement, fallible_iterator::FallibleIterator, ffi,
    types::ValueRef,
};
use serde_json::{Number, Value, value::RawValue};
use tokio::sync::oneshot;

use super::{
    Deadline, PART,
    dialect::{Kind, Translated},
    foreign,
};
use crate::{
    domain::{Catalog, json::to_value},
    fault::Fault,
    store::{
        QueryAnswer, QueryColumn, QueryLimits, StreamedValue, refused_statement, sqlite::rows::declared,
    },
    streaming::Sending,
};

/// As many as in Postgres.
const MAX_COLUMNS: usize = 100;

/// The statement, ready to run, and the columns of its answer.
fn prepared<'c>(
    connection: &'c Connection,
    catalog: Catalog,
    translated: &Translated<'_>,
    limits: &QueryLimits,
    deadline: &Deadline,
) -> rusqlite::Result<Result<(Statement<'c>, Vec<QueryColumn>), Fault>> {
    let refused = |problem: String| Ok(Err(refused_statement(PART, catalog, problem)));
    let mut statements = Batch::new(connection, &translated.sql);
    let Some(statement) = statements.next()? else { return refused("it is empty".to_owned()) };
    // Reading on also shows a second statement that is wrong.
    if !matches!(statements.next(), Ok(None)) {
        return refused("there is more than one statement".to_owned());
    }
    if statement.is_explain() != 0 {
        return refused("it asks how a statement is run".to_owned());
    }
    if !statement.readonly() || statement.column_count() == 0 {
        return refused("it does not read".to_owned());
    }
    if statement.parameter_count() > 0 {
        return refused("it has parameters; write the values into it".to_owned());
    }
    if statement.column_count() > MAX_COLUMNS {
        return refused(format!("it has {} columns; select {MAX_COLUMNS} at most", statement.column_count()));
    }
    if translated.unread {
        // Nothing tells what the two stores would answer differently.
        return Ok(Err(foreign(
            "it has a form that this store can't compare with PostgreSQL's",
            "it in plainer ones: a frame of OVER without EXCLUDE, for one",
        )));
    }
    let columns = columns(&statement, &translated.kinds);
    if size_of_names(&columns) > limits.bytes {
        return refused("the names of its columns are too long; give them short ones".to_owned());
    }
    // An interruption while it was prepared is forgotten when it begins to run.
    if deadline.is_over() {
        return Err(interrupted());
    }
    Ok(Ok((statement, columns)))
}

fn size_of_names(columns: &[QueryColumn]) -> usize {
    columns.iter().map(|column| column.name.len()).sum()
}

fn interrupted() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), None)
}

pub(super) fn answer(
    connection: &Connection,
    catalog: Catalog,
    translated: &Translated<'_>,
    limits: &QueryLimits,
    deadline: &Deadline,
) -> rusqlite::Result<Result<QueryAnswer, Fault>> {
    let (mut statement, columns) = match prepared(connection, catalog, translated, limits, deadline)? {
        Ok(prepared) => prepared,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut bytes = size_of_names(&columns);
    let mut answer = QueryAnswer { columns, rows: Vec::new(), truncated: false, warning: None };
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next().map_err(without_value)? {
        let value = |(i, column)| value(row, i, column, limits.verbatim);
        let Some(values) = values(row, &answer.columns, limits.bytes - bytes, value)? else {
            answer.truncated = true;
            break;
        };
        bytes += serde_json::to_string(&values).map_or(0, |text| text.len());
        if answer.rows.len() == limits.rows || bytes > limits.bytes {
            answer.truncated = true;
            break;
        }
        answer.rows.push(values);
    }
    Ok(Ok(answer))
}

/// Tells the columns, then sends every row. Each row may take as long as an answer may.
pub(super) fn stream(
    connection: &Connection,
    catalog: Catalog,
    translated: &Translated<'_>,
    limits: &QueryLimits,
    deadline: &Deadline,
    begun: oneshot::Sender<Vec<QueryColumn>>,
    sending: &mut Sending<Vec<StreamedValue>>,
) -> rusqlite::Result<Result<(), Fault>> {
    let (mut statement, columns) = match prepared(connection, catalog, translated, limits, deadline)? {
        Ok(prepared) => prepared,
        Err(fault) => return Ok(Err(fault)),
    };
    if begun.send(columns.clone()).is_err() {
        return Err(interrupted());
    }
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next().map_err(without_value)? {
        let Some(values) = values(row, &columns, limits.bytes, |(i, column)| streamed(row, i, column))?
        else {
            let problem = format!("a row is larger than {} bytes; select fewer columns", limits.bytes);
            return Ok(Err(refused_statement(PART, catalog, problem)));
        };
        if sending.send_blocking(values).is_err() {
            return Err(interrupted());
        }
        deadline.begin_anew(limits.timeout);
    }
    Ok(Ok(()))
}

/// An error of a row without what it quotes: a path into JSON, say, is whatever the row has there. Before rows are read
/// SQLite knows of no value, and quotes the statement alone.
fn without_value(error: Error) -> Error {
    match error {
        Error::SqliteFailure(code, Some(words)) => {
            let end = words.find(['\'', '"']).unwrap_or(words.len());
            let words = words[..end].trim_end_matches([' ', ':', '(', '[']).to_owned();
            Error::SqliteFailure(code, (!words.is_empty()).then_some(words))
        }
        error => error,
    }
}

/// The row's values, or none if they can't fit; nothing is copied then.
fn values<'a, T>(
    row: &Row<'_>,
    columns: &'a [QueryColumn],
    room: usize,
    value: impl Fn((usize, &'a QueryColumn)) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<Vec<T>>> {
    let mut bytes = 0;
    for i in 0..columns.len() {
        bytes += match row.get_ref(i)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
            _ => 1,
        };
    }
    if bytes > room {
        return Ok(None);
    }
    columns.iter().enumerate().map(value).collect::<Result<_, _>>().map(Some)
}

/// The columns of a statement, with the types the tables declare, or what the statement makes of them.
fn columns(statement: &Statement<'_>, kinds: &[Option<Kind>]) -> Vec<QueryColumn> {
    let known = if kinds.len() == statement.column_count() { kinds } else { &[] };
    let computed = |i: usize| match known.get(i) {
        Some(Some(Kind::Json)) => "json",
        Some(Some(Kind::List)) => "list",
        Some(Some(Kind::Boolean)) => "boolean",
        Some(Some(Kind::Instant)) => "timestamptz",
        Some(Some(Kind::Local | Kind::Datetime)) => "timestamp",
        Some(Some(Kind::Day)) => "date",
        Some(Some(Kind::Text)) => "text",
        Some(Some(Kind::Uuid)) => "uuid",
        Some(Some(Kind::Number | Kind::Double)) => "number",
        Some(Some(Kind::Whole | Kind::Integer)) => "integer",
        // What is computed has the type of each value.
        _ => "any",
    };
    let of = |(i, column): (usize, Column<'_>)| QueryColumn {
        name: column.name().to_owned(),
        kind: match column.decl_type() {
            Some(kind) => declared(&kind.to_lowercase()).to_owned(),
            None => computed(i).to_owned(),
        },
    };
    statement.columns().enumerate().map(of).collect()
}

/// A value as JSON, as its column declares it.
fn value(row: &Row<'_>, i: usize, column: &QueryColumn, verbatim: bool) -> rusqlite::Result<Value> {
    Ok(match row.get_ref(i)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) if column.kind == "boolean" => Value::Bool(number != 0),
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => {
            Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
        }
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            if !verbatim && matches!(&*column.kind, "json" | "list") {
                to_value(&text)
            } else {
                Value::String(text.into_owned())
            }
        }
        ValueRef::Blob(bytes) => Value::String(STANDARD.encode(bytes)),
    })
}

/// A value, and what the row has of it.
fn streamed(row: &Row<'_>, i: usize, column: &QueryColumn) -> rusqlite::Result<StreamedValue> {
    let shown = value(row, i, column, false)?;
    let exact = match row.get_ref(i)? {
        ValueRef::Text(text) if matches!(shown, Value::Array(_) | Value::Object(_)) => {
            // On one line: a text of JSON has line breaks only between its parts.
            let text = String::from_utf8_lossy(text).replace(['\n', '\r'], " ");
            serde_json::from_str::<&RawValue>(&text).is_ok().then_some(text)
        }
        _ => None,
    };
    Ok(StreamedValue { shown, exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_to_be_an_instant_or_what_a_clock_on_the_wall_shows() {
        let connection = Connection::open_in_memory().expect("a connection");
        connection.execute_batch(r#"CREATE TABLE t (a "timestamp text", b "date text")"#).expect("a table");
        let statement = connection.prepare("SELECT a, b, 1, 2, 3, 4, 5 FROM t").expect("SQL");
        let computed = [Kind::Instant, Kind::Local, Kind::Day, Kind::Text].map(Some);
        let kinds: Vec<_> = [None, None].into_iter().chain(computed).chain([None]).collect();
        let told: Vec<String> = columns(&statement, &kinds).into_iter().map(|column| column.kind).collect();
        assert_eq!(told, ["timestamptz", "date", "timestamptz", "timestamp", "date", "text", "any"]);
    }

    #[test]
    fn an_error_of_a_row_is_told_without_what_it_quotes() {
        let connection = Connection::open_in_memory().expect("a connection");
        for (sql, told) in [
            ("SELECT json_extract('{}', ?1)", "bad JSON path"),
            ("SELECT json_set('{}', ?1, 1)", "bad JSON path"),
            ("SELECT j.value FROM json_each('{}', ?1) AS j", "bad JSON path"),
            ("SELECT json(?1)", "malformed JSON"),
        ] {
            let mut statement = connection.prepare(sql).expect("SQL");
            let mut rows = statement.query(["3123-5678"]).expect("a query");
            let error = rows.next().map(|row| row.is_some()).expect_err("an error of a row");
            match without_value(error) {
                Error::SqliteFailure(_, Some(words)) => assert_eq!(words, told, "{sql}"),
                other => panic!("{sql}: {other}"),
            }
        }
    }
}
