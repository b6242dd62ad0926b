//! Columns of values on their way into a statement: one array parameter a column, taken apart by `unnest`.

use std::{borrow::Cow, fmt::Write as _};

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Postgres, postgres::PgArguments, query::QueryScalar};
use uuid::Uuid;

use crate::domain::{Cell, ColumnKind, KeyKind};

/// The values of one column, in the order of the rows.
pub(super) enum Values<'a> {
    Uuid(Vec<Option<Uuid>>),
    Text(Vec<Option<Cow<'a, str>>>),
    /// JSON as text, parsed by the server alone.
    Json(Vec<Option<Cow<'a, str>>>),
    /// Numbers by their digits, which a double would lose.
    Number(Vec<Option<&'a str>>),
    /// `text[]` in the server's own notation: an array of arrays can't be taken apart by `unnest`.
    List(Vec<Option<String>>),
    Bigint(Vec<Option<i64>>),
    Integer(Vec<i32>),
    Double(Vec<f64>),
    Boolean(Vec<Option<bool>>),
    Instant(Vec<Option<DateTime<Utc>>>),
    Date(Vec<Option<NaiveDate>>),
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

impl<'a> Values<'a> {
    /// No values yet, of a definition's column.
    pub(super) fn of_kind(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Text => Self::Text(Vec::new()),
            ColumnKind::Integer => Self::Bigint(Vec::new()),
            ColumnKind::Number => Self::Number(Vec::new()),
            ColumnKind::Boolean => Self::Boolean(Vec::new()),
            ColumnKind::Timestamp => Self::Instant(Vec::new()),
            ColumnKind::Date => Self::Date(Vec::new()),
            ColumnKind::Json => Self::Json(Vec::new()),
            ColumnKind::List => Self::List(Vec::new()),
        }
    }

    /// Keys as their column has them; one that is not of its type is null, which no key may be.
    pub(super) fn keys(kind: KeyKind, keys: impl Iterator<Item = &'a str>) -> Self {
        match kind {
            KeyKind::Uuid => Self::Uuid(keys.map(|key| Uuid::parse_str(key).ok()).collect()),
            KeyKind::Bigint => Self::Bigint(keys.map(|key| key.parse().ok()).collect()),
            KeyKind::Text => Self::Text(keys.map(|key| Some(storable(Cow::Borrowed(key)))).collect()),
        }
    }

    /// Adds a value as the server can hold it; one of another kind is null.
    pub(super) fn push(&mut self, cell: Cell<'a>) {
        match (self, cell) {
            (Self::Text(values), Cell::Text(text)) => values.push(Some(text)),
            (Self::Json(values), Cell::Json(json)) => values.push(Some(json)),
            (Self::Number(values), Cell::Number(number)) => values.push(Some(number)),
            (Self::List(values), Cell::List(items)) => values.push(Some(list_literal(&items))),
            (Self::Bigint(values), Cell::Integer(number)) => values.push(Some(number)),
            (Self::Boolean(values), Cell::Boolean(value)) => values.push(Some(value)),
            (Self::Instant(values), Cell::Instant(instant)) => values.push(Some(instant)),
            (Self::Date(values), Cell::Date(date)) => values.push(Some(date)),
            (Self::Text(values) | Self::Json(values), _) => values.push(None),
            (Self::Number(values), _) => values.push(None),
            (Self::List(values), _) => values.push(None),
            (Self::Bigint(values), _) => values.push(None),
            (Self::Boolean(values), _) => values.push(None),
            (Self::Instant(values), _) => values.push(None),
            (Self::Date(values), _) => values.push(None),
            (Self::Uuid(values), _) => values.push(None),
            // No column of a definition is one of these.
            (Self::Integer(_) | Self::Double(_), _) => {}
        }
    }

    /// The type the parameter is sent as.
    fn sent_as(&self) -> &'static str {
        match self {
            Self::Uuid(_) => "uuid[]",
            Self::Text(_) | Self::Json(_) | Self::Number(_) | Self::List(_) => "text[]",
            Self::Bigint(_) => "int8[]",
            Self::Integer(_) => "int4[]",
            Self::Double(_) => "float8[]",
            Self::Boolean(_) => "bool[]",
            Self::Instant(_) => "timestamptz[]",
            Self::Date(_) => "date[]",
        }
    }

    /// What turns the sent value into the column's.
    fn cast(&self) -> &'static str {
        match self {
            Self::Json(_) => "::jsonb",
            Self::Number(_) => "::numeric",
            Self::List(_) => "::text[]",
            _ => "",
        }
    }
}

/// A text as Postgres can hold it: a NUL is replaced, as it is in jsonb.
pub(super) fn storable(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text }
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
            Values::Number(values) => query.bind(values),
            Values::List(values) => query.bind(values),
            Values::Bigint(values) => query.bind(values),
            Values::Integer(values) => query.bind(values),
            Values::Double(values) => query.bind(values),
            Values::Boolean(values) => query.bind(values),
            Values::Instant(values) => query.bind(values),
            Values::Date(values) => query.bind(values),
        };
    }
    query
}

/// A `text[]` as Postgres writes it. Every element is quoted, so that `NULL`, blanks and commas stand for themselves.
fn list_literal(items: &[Cow<'_, str>]) -> String {
    let mut literal = String::with_capacity(2 + items.iter().map(|item| item.len() + 3).sum::<usize>());
    literal.push('{');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            literal.push(',');
        }
        literal.push('"');
        for character in item.chars() {
            match character {
                '"' | '\\' => literal.extend(['\\', character]),
                '\0' => literal.push('\u{fffd}'),
                _ => literal.push(character),
            }
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
        let items = ["a,b", "", "NULL", r#"c"d\e"#, "{ç}", "a\0b"].map(Cow::Borrowed);
        assert_eq!(list_literal(&items), "{\"a,b\",\"\",\"NULL\",\"c\\\"d\\\\e\",\"{ç}\",\"a\u{fffd}b\"}");
        assert_eq!(list_literal(&[]), "{}");
    }

    #[test]
    fn a_select_names_types_and_casts_every_column() {
        let columns = [
            Column::new("id", Values::Uuid(Vec::new())),
            Column::new("metadata", Values::Json(Vec::new())),
            Column::new("order", Values::of_kind(ColumnKind::Number)),
        ];
        assert_eq!(
            select(&columns),
            r#"SELECT "id", "metadata"::jsonb, "order"::numeric FROM unnest($1::uuid[], $2::text[], $3::text[]) AS novas("id", "metadata", "order")"#
        );
    }

    #[test]
    fn a_value_of_another_kind_is_null() {
        let mut texts = Values::of_kind(ColumnKind::Text);
        texts.push(Cell::Text("ab".into()));
        texts.push(Cell::Integer(1));
        assert!(matches!(texts, Values::Text(values) if values == [Some("ab".into()), None]));
        let keys = Values::keys(KeyKind::Bigint, ["7", "x"].into_iter());
        assert!(matches!(keys, Values::Bigint(values) if values == [Some(7), None]));
    }
}
