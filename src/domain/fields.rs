//! Reads typed columns out of a row, naming the field when it can't. A reason never repeats a value: it ends up in
//! logs and dead letters, and values are personal data.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{JsonObject, Table};

/// Why a source row can't become an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table}.{field}: {problem}")]
pub struct RowError {
    pub table: Table,
    pub field: &'static str,
    pub problem: String,
}

/// A row being taken apart: what is left at the end are the columns nobody asked for.
pub(super) struct Fields {
    table: Table,
    row: JsonObject,
}

impl Fields {
    pub(super) fn new(table: Table, row: JsonObject) -> Self {
        Self { table, row }
    }

    /// The columns not taken, without nulls and without what must not leave the source.
    pub(super) fn rest(mut self) -> JsonObject {
        for column in self.table.forbidden_columns() {
            self.row.remove(*column);
        }
        self.row.retain(|_, value| !value.is_null());
        self.row
    }

    pub(super) fn id(&mut self) -> Result<Uuid, RowError> {
        self.optional_uuid("id")?.ok_or_else(|| self.error("id", "missing; a row needs its id"))
    }

    pub(super) fn optional_uuid(&mut self, field: &'static str) -> Result<Option<Uuid>, RowError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Uuid::parse_str(text.trim())
                .map(Some)
                .map_err(|_| self.error(field, "expected a uuid, got other text")),
            Some(other) => Err(self.mismatch(field, "a uuid", &other)),
        }
    }

    /// Text; numbers and booleans are taken by their JSON spelling, as some projects keep phones in a bigint.
    pub(super) fn text(&mut self, field: &'static str) -> Result<Option<String>, RowError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(scalar @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(scalar.to_string())),
            Some(other) => Err(self.mismatch(field, "text", &other)),
        }
    }

    pub(super) fn integer(&mut self, field: &'static str) -> Result<Option<i64>, RowError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Number(number)) => number
                .as_i64()
                .or_else(|| number.as_f64().and_then(whole))
                .map(Some)
                .ok_or_else(|| self.error(field, "expected a whole number, got a fraction")),
            Some(other) => Err(self.mismatch(field, "a whole number", &other)),
        }
    }

    pub(super) fn boolean(&mut self, field: &'static str) -> Result<Option<bool>, RowError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(self.mismatch(field, "true or false", &other)),
        }
    }

    pub(super) fn json(&mut self, field: &'static str) -> Option<Value> {
        self.take(field)
    }

    /// A list of text; a lone text counts as a list of one, nulls inside are dropped.
    pub(super) fn list(&mut self, field: &'static str) -> Result<Vec<String>, RowError> {
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(items)) => items
                .into_iter()
                .filter(|item| !item.is_null())
                .map(|item| match item {
                    Value::String(text) => Ok(text),
                    scalar @ (Value::Number(_) | Value::Bool(_)) => Ok(scalar.to_string()),
                    other => Err(self.mismatch(field, "a list of text", &other)),
                })
                .collect(),
            Some(other) => Err(self.mismatch(field, "a list of text", &other)),
        }
    }

    pub(super) fn instant(&mut self, field: &'static str) -> Result<Option<DateTime<Utc>>, RowError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => parse_instant(&text)
                .map(Some)
                .ok_or_else(|| self.error(field, "expected an ISO 8601 timestamp, got other text")),
            Some(other) => Err(self.mismatch(field, "a timestamp", &other)),
        }
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.row.remove(field).filter(|value| !value.is_null())
    }

    fn mismatch(&self, field: &'static str, expected: &str, got: &Value) -> RowError {
        self.error(field, format!("expected {expected}, got {}", kind(got)))
    }

    fn error(&self, field: &'static str, problem: impl Into<String>) -> RowError {
        RowError { table: self.table, field, problem: problem.into() }
    }
}

/// Reads a timestamp with or without a zone; without one it is UTC (`timestamp` columns carry none).
pub fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Some(zoned.to_utc());
    }
    // Postgres's own spelling: a blank for the T, and hours alone for the zone.
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
        if let Ok(zoned) = DateTime::parse_from_str(text, format) {
            return Some(zoned.to_utc());
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(naive) = NaiveDateTime::parse_from_str(text, format) {
            return Some(naive.and_utc());
        }
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|day| day.and_utc())
}

/// A float that is a whole number small enough to be exact.
#[allow(clippy::cast_possible_truncation)]
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(row: Value) -> Fields {
        Fields::new(Table::Leads, row.as_object().cloned().expect("an object"))
    }

    #[test]
    fn timestamps_are_read_with_and_without_a_zone() {
        let expected = parse_instant("2026-05-01T12:30:00Z").expect("a timestamp");
        for text in [
            "2026-05-01T12:30:00",
            "2026-05-01 12:30:00",
            "2026-05-01T09:30:00-03:00",
            "2026-05-01 09:30:00-03",
            "2026-05-01T12:30:00.000000+00:00",
        ] {
            assert_eq!(parse_instant(text), Some(expected), "{text}");
        }
        assert_eq!(parse_instant("ontem"), None);
    }

    #[test]
    fn an_error_names_the_field_and_hides_the_value() {
        let error = fields(json!({"score_qualificacao": "segredo"}))
            .integer("score_qualificacao")
            .expect_err("text is no number");
        assert_eq!(error.to_string(), "leads.score_qualificacao: expected a whole number, got text");
    }

    #[test]
    fn whole_floats_are_integers_and_fractions_are_not() {
        assert_eq!(fields(json!({"s": 80.0})).integer("s"), Ok(Some(80)));
        assert!(fields(json!({"s": 80.5})).integer("s").is_err());
        assert!(fields(json!({"s": 1e300})).integer("s").is_err());
    }

    #[test]
    fn a_lone_text_is_a_list_of_one_and_nulls_are_dropped() {
        assert_eq!(fields(json!({"l": "casa"})).list("l"), Ok(vec!["casa".into()]));
        assert_eq!(fields(json!({"l": ["a", null, 3]})).list("l"), Ok(vec!["a".into(), "3".into()]));
        assert!(fields(json!({"l": [{"a": 1}]})).list("l").is_err());
    }
}
