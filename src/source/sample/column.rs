//! Columns of a sample table, and values compared as their type in Postgres would.

use std::cmp::Ordering;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime};
use chrono_tz::Tz;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::domain::{ColumnKind, Json, KeyKind, Table, json as text_of_json, parse_date, parse_instant};

/// A column as `CREATE TABLE` would make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleColumn {
    pub name: String,
    /// Postgres's name of its type: `bigint`, `timestamp without time zone`, `text[]`.
    pub format: String,
    pub is_key: bool,
    pub comment: Option<String>,
    /// The table whose key it holds.
    pub refers_to: Option<String>,
    /// The values of an enumeration.
    pub values: Vec<String>,
}

impl SampleColumn {
    pub fn new(name: impl Into<String>, format: impl Into<String>) -> Self {
        let (name, format) = (name.into(), format.into());
        Self { name, format, is_key: false, comment: None, refers_to: None, values: Vec::new() }
    }

    /// A primary key.
    pub fn key(name: impl Into<String>, format: impl Into<String>) -> Self {
        Self { is_key: true, ..Self::new(name, format) }
    }

    #[must_use]
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }

    #[must_use]
    pub fn refers_to(self, table: impl Into<String>) -> Self {
        Self { refers_to: Some(table.into()), ..self }
    }

    #[must_use]
    pub fn one_of(self, values: &[&str]) -> Self {
        Self { values: values.iter().map(|value| (*value).to_owned()).collect(), ..self }
    }

    /// The columns that a definition expects of the project, and those that it never reads.
    pub fn of(table: Table) -> Vec<Self> {
        let definition = table.definition();
        let key = match definition.key.kind {
            KeyKind::Uuid => "uuid",
            KeyKind::Bigint => "bigint",
            KeyKind::Text => "text",
        };
        let mut columns = vec![Self::key(definition.key_source(), key)];
        columns.extend(definition.columns.iter().map(|column| {
            let format = match column.kind {
                ColumnKind::Text => "text",
                ColumnKind::Integer => "integer",
                ColumnKind::Number => "numeric",
                ColumnKind::Boolean => "boolean",
                ColumnKind::Timestamp => "timestamp with time zone",
                ColumnKind::Date => "date",
                ColumnKind::Json => "jsonb",
                ColumnKind::List => "text[]",
            };
            Self::new(column.source(), format)
        }));
        columns.extend(definition.never_read.iter().map(|name| Self::new(name, "text")));
        columns
    }

    /// As PostgREST's OpenAPI description has it.
    pub(super) fn described(&self) -> Value {
        let base = self.format.trim_end_matches("[]");
        let kind = match base {
            "smallint" | "integer" | "bigint" => Some("integer"),
            "numeric" | "real" | "double precision" => Some("number"),
            "boolean" => Some("boolean"),
            "json" | "jsonb" => None,
            _ => Some("string"),
        };
        let mut property = json!({ "format": self.format });
        if base != self.format {
            property["type"] = json!("array");
            property["items"] = json!({ "type": kind.unwrap_or("object") });
        } else if let Some(kind) = kind {
            property["type"] = json!(kind);
        }
        if !self.values.is_empty() {
            property["enum"] = json!(self.values);
        }
        let note = if self.is_key {
            Some("Note:\nThis is a Primary Key.<pk/>".to_owned())
        } else {
            let reference = |table: &String| {
                format!("Note:\nThis is a Foreign Key to `{table}.id`.<fk table='{table}' column='id'/>")
            };
            self.refers_to.as_ref().map(reference)
        };
        let description: Vec<String> = self.comment.clone().into_iter().chain(note).collect();
        if !description.is_empty() {
            property["description"] = json!(description.join("\n\n"));
        }
        property
    }

    /// A value of this type to compare with others; `None` of what is none of its type.
    pub(super) fn typed(&self, text: &str) -> Option<Typed> {
        let is_of_time = self.format.starts_with("timestamp") || self.format == "date";
        // https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES
        match text.trim() {
            "-infinity" if is_of_time => return Some(Typed::Whole(i128::MIN)),
            "infinity" if is_of_time => return Some(Typed::Whole(i128::MAX)),
            _ => {}
        }
        Some(match self.format.as_str() {
            "smallint" | "integer" | "bigint" => Typed::Whole(text.trim().parse().ok()?),
            "numeric" | "real" | "double precision" => Typed::Number(text.trim().parse().ok()?),
            "boolean" => Typed::Whole(i128::from(text.parse::<bool>().ok()?)),
            "timestamp with time zone" => {
                Typed::Whole(parse_instant(text, Tz::UTC)?.timestamp_micros().into())
            }
            // As Postgres reads it: a zone that stands there is passed over.
            "timestamp without time zone" => Typed::Whole(face(text)?.and_utc().timestamp_micros().into()),
            "date" => Typed::Whole(parse_date(text)?.num_days_from_ce().into()),
            "uuid" => Typed::Text(text.to_lowercase()),
            _ => Typed::Text(text.to_owned()),
        })
    }

    /// A row's value to compare with others; `None` of null.
    pub(super) fn held(&self, value: Option<&Json>) -> Option<Typed> {
        let value = value?.as_str();
        if value == "null" {
            return None;
        }
        let text = text_of_json::text(value).map_or_else(|| value.to_owned(), std::borrow::Cow::into_owned);
        Some(self.typed(&text).unwrap_or(Typed::Text(text)))
    }

    /// A filter's value.
    pub(super) fn given(&self, text: &str) -> Result<Typed, Failure> {
        self.typed(text).ok_or_else(|| {
            let message = format!("invalid input syntax for type {}: \"{text}\"", self.format);
            Failure::new(400, "22P02", &message, None)
        })
    }
}

/// What the clock showed, wherever it hung.
fn face(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim().replacen(' ', "T", 1);
    if let Ok(zoned) = DateTime::<FixedOffset>::parse_from_rfc3339(&text) {
        return Some(zoned.naive_local());
    }
    NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f")
        .ok()
        .or_else(|| parse_date(&text)?.and_hms_opt(0, 0, 0))
}

/// A value in the order of its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Typed {
    Whole(i128),
    Number(f64),
    Text(String),
}

impl Eq for Typed {}

impl PartialOrd for Typed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Typed {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => one.cmp(other),
            (Self::Number(one), Self::Number(other)) => one.total_cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            // Odd values among those of the type: after them all.
            (Self::Text(_), _) | (Self::Number(_), Self::Whole(_)) => Ordering::Greater,
            (_, Self::Text(_)) | (Self::Whole(_), Self::Number(_)) => Ordering::Less,
        }
    }
}
