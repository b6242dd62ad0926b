//! Events and entities as SQLite values, in the order of the columns.

use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::types::Value;

use crate::{
    domain::{Cell, ColumnKind, KeyKind, Table},
    sink::SinkEvent,
};

pub(super) const EVENT_COLUMNS: &str = "id, tipo_evento, usuario, evento, valor, \"timestamp\", categoria, metadata, \
     dados, entidade_id, versao, particao, posicao";

/// A key's declared type. The last word decides how SQLite stores a value, the first what it is.
pub(super) fn key_type(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Uuid => "uuid text",
        KeyKind::Bigint => "integer",
        KeyKind::Text => "text",
    }
}

/// A column's declared type.
pub(super) fn column_type(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Text => "text",
        ColumnKind::Integer => "integer",
        // SQLite leaves such a value as it is; as a number's type it would make doubles of texts and lose digits.
        ColumnKind::Number => "number blob",
        ColumnKind::Boolean => "boolean",
        ColumnKind::Timestamp => "timestamp text",
        ColumnKind::Date => "date text",
        ColumnKind::Json => "json text",
        ColumnKind::List => "list text",
    }
}

/// What a declared type says a value is.
pub(super) fn declared(column_type: &str) -> &str {
    let kind = column_type
        .strip_suffix(" text")
        .or_else(|| column_type.strip_suffix(" blob"))
        .unwrap_or(column_type);
    // Of PostgreSQL's two the one that has a zone.
    if kind == "timestamp" { "timestamptz" } else { kind }
}

pub(super) fn event(sink: &SinkEvent) -> [Value; 13] {
    let event = &sink.event;
    [
        text(event.id),
        text(&event.tipo_evento),
        text(&event.usuario),
        text(&event.evento),
        Value::Real(event.valor),
        text(instant(event.timestamp)),
        text(&event.categoria),
        text(event.metadata.as_str()),
        text(event.dados.as_str()),
        text(&event.entidade.id),
        Value::Integer(event.entidade.versao),
        Value::Integer(sink.position.partition.into()),
        Value::Integer(sink.position.offset),
    ]
}

/// The values of [`entity_columns`].
pub(super) fn entity(table: Table, sink: &SinkEvent) -> Vec<Value> {
    let event = &sink.event;
    let mut values = vec![key(table, &event.entidade.id)];
    values.extend(event.row(table).cells().map(|(_, cell)| value(cell)));
    values.extend([text(event.metadata.as_str()), Value::Integer(event.entidade.versao), text(event.id)]);
    values
}

/// The columns of an entity's table that are written, the key first.
pub(super) fn entity_columns(table: Table) -> Vec<&'static str> {
    let definition = table.definition();
    let mut columns = vec![definition.key.column.as_str()];
    columns.extend(definition.columns.iter().map(|column| column.name.as_str()));
    columns.extend(["metadata", "versao", "evento_id"]);
    columns
}

/// A key as its column has it; null where it is none, which might be another's as a number.
pub(super) fn key(table: Table, key: &str) -> Value {
    match table.definition().key.kind {
        KeyKind::Bigint if !KeyKind::Bigint.is_key(key) => Value::Null,
        KeyKind::Bigint => key.parse().map_or(Value::Null, Value::Integer),
        KeyKind::Uuid | KeyKind::Text => text(key),
    }
}

pub(super) fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(value) => Value::Text(value.into_owned()),
        Cell::Integer(number) => Value::Integer(number),
        Cell::Number(digits) => number(digits),
        Cell::Boolean(value) => Value::Integer(value.into()),
        Cell::Instant(at) => text(instant(at)),
        Cell::Date(date) => text(date),
        Cell::Json(json) => text(json),
        // Texts always serialize.
        Cell::List(items) => Value::Text(serde_json::to_string(&items).unwrap_or_default()),
    }
}

/// A number as SQLite compares, sums and orders it: the nearest that it has, null where it has none. Every digit is in the
/// event's `dados`.
fn number(digits: &str) -> Value {
    if let Ok(whole) = digits.parse() {
        return Value::Integer(whole);
    }
    Cell::Number(digits).to_double().map_or(Value::Null, Value::Real)
}

/// ISO 8601 in UTC with microseconds: sorts as text.
pub(super) fn instant(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn text(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_whatever_its_digits() {
        assert_eq!(number("9223372036854775807"), Value::Integer(i64::MAX));
        assert_eq!(number("72.50"), Value::Real(72.5));
        for (digits, nearest) in [
            ("1234567890123456789012", 1_234_567_890_123_456_789_012.0),
            ("-7.6666666666666667", -23.0 / 3.0),
        ] {
            assert_eq!(number(digits), Value::Real(nearest));
        }
        assert_eq!(number("1e400"), Value::Null);
    }
}
