//! Columns of values on their way into a statement: one array parameter a column, taken apart by `unnest`.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sqlx::{Postgres, postgres::PgArguments, query::QueryScalar};
use uuid::Uuid;

/// The values of one column, in the order of the rows.
pub(super) enum Values<'a> {
    Uuid(Vec<Uuid>),
    Text(Vec<Option<&'a str>>),
    /// JSON as text, parsed by the server alone.
    Json(Vec<Option<&'a str>>),
    /// `text[]` in the server's own notation: an array of arrays can't be taken apart by `unnest`.
    List(Vec<String>),
    Bigint(Vec<Option<i64>>),
    Integer(Vec<i32>),
    Double(Vec<f64>),
    Boolean(Vec<Option<bool>>),
    Instant(Vec<Option<DateTime<Utc>>>),
}

/// A column and its values.
pub(super) struct Column<'a> {
    pub(super) name: &'static str,
    pub(super) values: Values<'a>,
}

impl<'a> Column<'a> {
    pub(super) fn new(name: &'static str, values: Values<'a>) -> Self {
        Self { name, values }
    }
}

impl Values<'_> {
    /// The type the parameter is sent as.
    fn sent_as(&self) -> &'static str {
        match self {
            Self::Uuid(_) => "uuid[]",
            Self::Text(_) | Self::Json(_) | Self::List(_) => "text[]",
            Self::Bigint(_) => "int8[]",
            Self::Integer(_) => "int4[]",
            Self::Double(_) => "float8[]",
            Self::Boolean(_) => "bool[]",
            Self::Instant(_) => "timestamptz[]",
        }
    }

    /// What turns the sent value into the column's.
    fn cast(&self) -> &'static str {
        match self {
            Self::Json(_) => "::jsonb",
            Self::List(_) => "::text[]",
            _ => "",
        }
    }
}

/// A quoted list of the columns' names: some are words of SQL.
pub(super) fn names(columns: &[Column<'_>]) -> String {
    joined(columns, |out, _, column| write!(out, "\"{}\"", column.name))
}

/// A query of the columns' rows, whose parameters start at `$1`.
pub(super) fn select(columns: &[Column<'_>]) -> String {
    let values = joined(columns, |out, _, column| write!(out, "\"{}\"{}", column.name, column.values.cast()));
    let arrays = joined(columns, |out, i, column| write!(out, "${}::{}", i + 1, column.values.sent_as()));
    format!("SELECT {values} FROM unnest({arrays}) AS novas({})", names(columns))
}

/// Binds the columns' values, in order.
pub(super) fn bind<'q, O>(
    mut query: QueryScalar<'q, Postgres, O, PgArguments>,
    columns: &'q [Column<'q>],
) -> QueryScalar<'q, Postgres, O, PgArguments> {
    for column in columns {
        query = match &column.values {
            Values::Uuid(values) => query.bind(values),
            Values::Text(values) | Values::Json(values) => query.bind(values),
            Values::List(values) => query.bind(values),
            Values::Bigint(values) => query.bind(values),
            Values::Integer(values) => query.bind(values),
            Values::Double(values) => query.bind(values),
            Values::Boolean(values) => query.bind(values),
            Values::Instant(values) => query.bind(values),
        };
    }
    query
}

/// A `text[]` as Postgres writes it. Every element is quoted, so that `NULL`, blanks and commas stand for themselves.
pub(super) fn list_literal(items: &[String]) -> String {
    let mut literal = String::with_capacity(2 + items.iter().map(|item| item.len() + 3).sum::<usize>());
    literal.push('{');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            literal.push(',');
        }
        literal.push('"');
        for character in item.chars() {
            if matches!(character, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(character);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

fn joined(
    columns: &[Column<'_>],
    write_one: impl Fn(&mut String, usize, &Column<'_>) -> std::fmt::Result,
) -> String {
    let mut out = String::new();
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        // Writing to a string can't fail.
        let _ = write_one(&mut out, i, column);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_literals_quote_every_element() {
        let items = ["a,b", "", "NULL", r#"c"d\e"#, "{ç}"].map(str::to_owned);
        assert_eq!(list_literal(&items), r#"{"a,b","","NULL","c\"d\\e","{ç}"}"#);
        assert_eq!(list_literal(&[]), "{}");
    }

    #[test]
    fn a_select_names_types_and_casts_every_column() {
        let columns =
            [Column::new("id", Values::Uuid(Vec::new())), Column::new("metadata", Values::Json(Vec::new()))];
        assert_eq!(
            select(&columns),
            r#"SELECT "id", "metadata"::jsonb FROM unnest($1::uuid[], $2::text[]) AS novas("id", "metadata")"#
        );
    }
}
