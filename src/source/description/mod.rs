//! What a project tells of a table, a definition made of it, and how the two differ: pure, no I/O.

mod check;
mod discover;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// What a key must be that no primary key stands for, and what becomes of rows otherwise.
pub const UNIQUE_KEY: &str = "make sure that it is unique and never null: of rows that share a key the table keeps only one, every sync \
                              appends them again, and some may never be read";

/// What to do about rows that have no key.
pub const KEY_FOR_ALL: &str = "name a column that tells rows apart, and is never null, as the key in the table's definition, or fill it at the source";

pub use self::{
    check::{Difference, DifferenceKind, differences, hides_nothing, named_in_vain},
    discover::{DiscoverError, discover},
};
use crate::domain::{ColumnKind, Json, KeyKind, parse_date, parse_instant};

/// A table or view as the project tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The schema it is in; `None` for the usual one.
    pub schema: Option<String>,
    pub table: String,
    pub comment: Option<String>,
    pub columns: Vec<DescribedColumn>,
    pub basis: Basis,
}

/// Where a description comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The project described itself: types, keys and comments are known.
    Described,
    /// It refuses to; so many rows were looked at, and the rest is a guess.
    Rows(usize),
}

/// A column as the project tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedColumn {
    pub name: String,
    /// What sluice would take it for; `None` where only nulls were seen.
    pub kind: Option<ColumnKind>,
    /// The database's name of the type; empty where it was guessed, unless all values are uuids.
    pub format: String,
    pub is_key: bool,
    pub comment: Option<String>,
    /// The values of an enumeration.
    pub values: Vec<String>,
    /// The table whose key it holds, by its name in the project.
    pub refers_to: Option<String>,
}

impl Description {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&DescribedColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// What its columns are called.
    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// Why a column may not tell rows apart, though it is taken as the key; `None` where the project says that it does.
    pub fn doubt_of_key(&self, name: &str) -> Option<String> {
        if self.columns.iter().any(|column| column.is_key) {
            return None;
        }
        Some(match self.basis {
            Basis::Described => format!("{} has no primary key: {name} is taken as its key", self.table),
            Basis::Rows(_) => {
                format!(
                    "the project does not tell the primary key of {}: {name} is taken as its key",
                    self.table
                )
            }
        })
    }

    /// A guess from rows, where the project does not describe itself; nothing where there is no row to look at.
    pub fn of_rows(schema: Option<&str>, table: &str, rows: &[Json]) -> Option<Self> {
        let mut kinds: BTreeMap<String, Option<ColumnKind>> = BTreeMap::new();
        let mut no_uuids: BTreeSet<String> = BTreeSet::new();
        let mut order: Vec<String> = Vec::new();
        for row in rows {
            for member in &row.members()? {
                let seen = kinds.entry(member.name.clone().into_owned()).or_insert_with(|| {
                    order.push(member.name.clone().into_owned());
                    None
                });
                *seen = widened(*seen, kind_of_value(member.value));
                let text = crate::domain::json::text(member.value);
                if member.value != "null" && text.is_none_or(|text| KeyKind::Uuid.spelled(&text).is_none()) {
                    no_uuids.insert(member.name.clone().into_owned());
                }
            }
        }
        let column = |name: String| DescribedColumn {
            kind: kinds.get(&name).copied().flatten(),
            format: match kinds.get(&name) {
                Some(Some(ColumnKind::Text)) if !no_uuids.contains(&name) => "uuid".to_owned(),
                _ => String::new(),
            },
            name,
            is_key: false,
            comment: None,
            values: Vec::new(),
            refers_to: None,
        };
        let columns: Vec<_> = order.into_iter().map(column).collect();
        let (schema, table) = (schema.map(str::to_owned), table.to_owned());
        (!columns.is_empty()).then_some(Self {
            schema,
            table,
            comment: None,
            columns,
            basis: Basis::Rows(rows.len()),
        })
    }

    /// Corrects by some rows what a type's name does not tell: that its values are objects.
    pub fn correct_by(&mut self, rows: &[Json]) {
        let Some(seen) = Self::of_rows(None, "", rows) else { return };
        for column in &mut self.columns {
            let seen = seen.column(&column.name).and_then(|seen| seen.kind);
            if column.kind != Some(ColumnKind::List) && seen == Some(ColumnKind::Json) {
                column.kind = seen;
            }
        }
    }
}

impl DescribedColumn {
    /// What it would be as a key.
    pub fn key_kind(&self) -> KeyKind {
        match (self.format.as_str(), self.kind) {
            ("uuid", _) => KeyKind::Uuid,
            (_, Some(ColumnKind::Integer)) => KeyKind::Bigint,
            _ => KeyKind::Text,
        }
    }

    /// How messages call its type.
    fn type_name(&self) -> String {
        match self.kind {
            _ if !self.format.is_empty() => self.format.clone(),
            Some(kind) => kind.plural().to_owned(),
            None => "unknown".to_owned(),
        }
    }
}

/// A type of Postgres as PostgREST's description names it.
pub(super) fn kind_of_format(format: &str) -> ColumnKind {
    let (name, is_list) = match format.strip_suffix("[]") {
        Some(item) => (item, true),
        None => (format, false),
    };
    let name = name.split_once('(').map_or(name, |(name, _)| name).trim();
    let kind = match name {
        "smallint" | "integer" | "bigint" => ColumnKind::Integer,
        "numeric" | "real" | "double precision" => ColumnKind::Number,
        "boolean" => ColumnKind::Boolean,
        "timestamp with time zone" | "timestamp without time zone" => ColumnKind::Timestamp,
        "date" => ColumnKind::Date,
        "json" | "jsonb" => ColumnKind::Json,
        name if ["geometry", "geography", "hstore"]
            .iter()
            .any(|json| name.rsplit('.').next() == Some(json)) =>
        {
            ColumnKind::Json
        }
        _ => ColumnKind::Text,
    };
    match (is_list, kind) {
        (true, ColumnKind::Json) => ColumnKind::Json,
        (true, _) => ColumnKind::List,
        (false, kind) => kind,
    }
}

/// What one value looks like; nothing of a null.
fn kind_of_value(value: &str) -> Option<ColumnKind> {
    Some(match value.as_bytes().first()? {
        b'n' => return None,
        b't' | b'f' => ColumnKind::Boolean,
        b'{' => ColumnKind::Json,
        b'[' if value.contains(['{']) || value[1..].contains('[') => ColumnKind::Json,
        b'[' => ColumnKind::List,
        b'"' => {
            let text = crate::domain::json::text(value)?;
            let digits = text.len() >= 10 && text.as_bytes()[..4].iter().all(u8::is_ascii_digit);
            if digits && text.len() == 10 && parse_date(&text).is_some() {
                ColumnKind::Date
            } else if digits && parse_instant(&text, chrono_tz::Tz::UTC).is_some() {
                ColumnKind::Timestamp
            } else {
                ColumnKind::Text
            }
        }
        _ if value.parse::<i64>().is_ok() => ColumnKind::Integer,
        _ => ColumnKind::Number,
    })
}

/// The kind that holds values of both.
fn widened(one: Option<ColumnKind>, other: Option<ColumnKind>) -> Option<ColumnKind> {
    use ColumnKind::{Date, Integer, Json, Number, Text, Timestamp};
    match (one, other) {
        (None, kind) | (kind, None) => kind,
        (Some(one), Some(other)) if one == other => Some(one),
        (Some(Integer | Number), Some(Integer | Number)) => Some(Number),
        (Some(Date | Timestamp), Some(Date | Timestamp)) => Some(Timestamp),
        (Some(Json | ColumnKind::List), _) | (_, Some(Json | ColumnKind::List)) => Some(Json),
        _ => Some(Text),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn rows(rows: &[&str]) -> Vec<Json> {
        rows.iter().map(|row| Json::try_from(Bytes::copy_from_slice(row.as_bytes())).expect("JSON")).collect()
    }

    #[test]
    fn every_type_of_postgres_has_a_kind() {
        for (format, kind) in [
            ("bigint", ColumnKind::Integer),
            ("numeric(10,2)", ColumnKind::Number),
            ("double precision", ColumnKind::Number),
            ("money", ColumnKind::Text),
            ("timestamp without time zone", ColumnKind::Timestamp),
            ("time without time zone", ColumnKind::Text),
            ("interval", ColumnKind::Text),
            ("date", ColumnKind::Date),
            ("jsonb", ColumnKind::Json),
            ("jsonb[]", ColumnKind::Json),
            ("integer[]", ColumnKind::List),
            ("public.status", ColumnKind::Text),
            ("extensions.geometry(Point,4326)", ColumnKind::Json),
            ("inet", ColumnKind::Text),
            ("bytea", ColumnKind::Text),
            ("uuid", ColumnKind::Text),
        ] {
            assert_eq!(kind_of_format(format), kind, "{format}");
        }
    }

    #[test]
    fn a_key_is_doubted_where_no_primary_key_is_told() {
        let mut description =
            Description::of_rows(None, "saldo", &rows(&[r#"{"id": 1}"#])).expect("a description");
        let doubt = description.doubt_of_key("id").expect("a doubt");
        assert!(doubt.contains("does not tell the primary key of saldo: id"), "{doubt}");
        description.basis = Basis::Described;
        let doubt = description.doubt_of_key("id").expect("a doubt");
        assert!(doubt.contains("saldo has no primary key: id"), "{doubt}");
        description.columns[0].is_key = true;
        assert_eq!(description.doubt_of_key("id"), None);
    }

    #[test]
    fn rows_tell_what_their_columns_hold() {
        let rows = rows(&[
            r#"{"id": 1, "score": 1, "dia": "2026-05-01", "quando": "2026-05-01T10:00:00+00:00", "tags": ["a"]}"#,
            r#"{"id": 2, "score": 1.5, "dia": null, "quando": "2026-05-01", "lugar": {"uf": "SP"}, "x": 1e999}"#,
            r#"{"id": 3, "score": "alto", "vazio": null, "ok": true, "grade": [[1]], "cep": "01310-100"}"#,
        ]);
        let description = Description::of_rows(None, "t", &rows).expect("a description");
        let kind = |name: &str| description.column(name).and_then(|column| column.kind);
        for (name, expected) in [
            ("id", Some(ColumnKind::Integer)),
            ("score", Some(ColumnKind::Text)),
            ("dia", Some(ColumnKind::Date)),
            ("quando", Some(ColumnKind::Timestamp)),
            ("tags", Some(ColumnKind::List)),
            ("lugar", Some(ColumnKind::Json)),
            ("x", Some(ColumnKind::Number)),
            ("vazio", None),
            ("ok", Some(ColumnKind::Boolean)),
            ("grade", Some(ColumnKind::Json)),
            ("cep", Some(ColumnKind::Text)),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
        let keys = |key: &str| {
            let rows = self::rows(&[r#"{"id": null}"#, &format!("{{\"id\": {key}}}")]);
            Description::of_rows(None, "t", &rows).expect("a description").columns[0].key_kind()
        };
        assert_eq!(keys("\"5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01\""), KeyKind::Uuid);
        assert_eq!((keys("\"a-7\""), keys("7")), (KeyKind::Text, KeyKind::Bigint));
        assert_eq!(description.basis, Basis::Rows(3));
        assert_eq!(Description::of_rows(None, "t", &[]), None);
    }
}
