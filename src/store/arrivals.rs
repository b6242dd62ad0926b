//! How many rows of a table came to be within spans of time, by the values of some columns: one statement that both stores
//! answer, made of the table's definition.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::domain::{Column, ColumnKind, NamedCount, Table};

/// Counts that an answer may have; the rarest values beyond are left out. Ten years of days are 7,300 in two spans.
pub const MAX_COUNTS: usize = 10_000;

/// What is counted.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrivalsQuestion {
    pub table: Table,
    /// The column that says when a row came to be.
    pub arrival: &'static Column,
    /// From an instant on and before another. They may overlap.
    pub spans: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    /// Counted for each value of these columns; instants by their day in the zone, lists by each of their items.
    pub by: Vec<&'static Column>,
    pub zone: Tz,
}

/// The rows of one span that have the same values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivalCount {
    pub span: usize,
    /// The value of each of the columns; `None` of rows that have none.
    pub values: Vec<Option<String>>,
    pub rows: u64,
    /// Of these rows, those that meet each of the counts of the table's definition.
    pub met: Vec<u64>,
}

/// A value of a statement, in the order of its placeholders.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Bound {
    Instant(DateTime<Utc>),
    Text(String),
    Number(f64),
}

/// Where the stores' SQL differs.
#[derive(Clone, Copy)]
pub(super) enum Sql {
    Postgres,
    Sqlite,
}

impl ArrivalsQuestion {
    /// The counts of the table's definition that a store can count.
    pub fn counts(&self) -> impl Iterator<Item = &'static NamedCount> {
        self.table.definition().dashboard.counts.iter()
    }

    /// The statement; its columns are the span's number, the values, the rows, and the rows that meet each count.
    pub(super) fn statement(&self, sql: Sql) -> (String, Vec<Bound>) {
        let mut bound = Vec::new();
        let mut next = |value: Bound| {
            let (sign, cast) = match (sql, &value) {
                (Sql::Sqlite, _) => ('?', ""),
                (Sql::Postgres, Bound::Instant(_)) => ('$', "::timestamptz"),
                (Sql::Postgres, Bound::Text(_)) => ('$', "::text"),
                (Sql::Postgres, Bound::Number(_)) => ('$', "::double precision"),
            };
            bound.push(value);
            format!("{sign}{}{cast}", bound.len())
        };
        let (table, key) = (self.table.name(), &self.table.key.column);
        let spans: Vec<String> = (0..)
            .zip(&self.spans)
            .map(|(n, (low, high))| {
                format!("({n}, {}, {})", next(Bound::Instant(*low)), next(Bound::Instant(*high)))
            })
            .collect();
        let (mut values, mut joins) = (String::new(), String::new());
        for (i, column) in self.by.iter().enumerate() {
            let name = format!("t.\"{}\"", column.name);
            let value = match (column.kind, sql) {
                (ColumnKind::Text, _) => name,
                (ColumnKind::Timestamp, Sql::Postgres) => {
                    format!(
                        "(({name} AT TIME ZONE {})::date)::text",
                        next(Bound::Text(self.zone.name().into()))
                    )
                }
                (ColumnKind::Timestamp, Sql::Sqlite) => {
                    format!("local_day({name}, {})", next(Bound::Text(self.zone.name().into())))
                }
                (ColumnKind::List, Sql::Postgres) => {
                    let _ = write!(joins, " LEFT JOIN LATERAL unnest({name}) AS items{i}(value) ON true");
                    format!("items{i}.value")
                }
                (ColumnKind::List, Sql::Sqlite) => {
                    let _ = write!(joins, " LEFT JOIN json_each({name}) AS items{i}");
                    format!("items{i}.value")
                }
                // 50 and 50.0 are one number.
                (ColumnKind::Number, Sql::Postgres) => format!("trim_scale({name})::text"),
                (ColumnKind::Number, Sql::Sqlite) => format!(
                    "CAST(CASE WHEN {name} = CAST({name} AS integer) THEN CAST({name} AS integer) ELSE {name} END AS text)"
                ),
                (_, Sql::Postgres) => format!("{name}::text"),
                (ColumnKind::Boolean, Sql::Sqlite) => {
                    format!("CASE {name} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END")
                }
                (_, Sql::Sqlite) => format!("CAST({name} AS text)"),
            };
            let _ = write!(values, ", {value} AS v{i}");
        }
        let mut met = String::new();
        for (i, count) in self.counts().enumerate() {
            let condition = self.condition(count, &mut next);
            let _ = write!(met, ", count(DISTINCT t.\"{key}\") FILTER (WHERE {condition}) AS m{i}");
        }
        let ordinals: Vec<String> = (1..=self.by.len() + 1).map(|n| n.to_string()).collect();
        let arrival = format!("t.\"{}\"", self.arrival.name);
        let names: Vec<String> = (0..self.by.len()).map(|i| format!("v{i}")).collect();
        let of_values =
            if names.is_empty() { String::new() } else { format!("PARTITION BY {}", names.join(", ")) };
        // The spans of a value stand together, so that none is cut off from the others. Of a span without rows there is one
        // that counts none.
        let text = format!(
            "WITH spans(n, low, high) AS (VALUES {}), counted AS (\
             SELECT n{values}, count(DISTINCT t.\"{key}\") AS arrived{met} FROM spans \
             LEFT JOIN \"{table}\" AS t ON {arrival} >= low AND {arrival} < high{joins} GROUP BY {}) \
             SELECT * FROM counted ORDER BY sum(arrived) OVER ({of_values}) DESC, {} LIMIT {MAX_COUNTS}",
            spans.join(", "),
            ordinals.join(", "),
            names.iter().map(String::as_str).chain(["n"]).collect::<Vec<_>>().join(", "),
        );
        (text, bound)
    }

    fn condition(&self, count: &NamedCount, next: &mut impl FnMut(Bound) -> String) -> String {
        let operator = count.compare.sign();
        let kind = self.table.definition().column(&count.column).map(|column| column.kind);
        let value = match (kind, count.value.parse()) {
            (Some(ColumnKind::Integer | ColumnKind::Number), Ok(number)) => next(Bound::Number(number)),
            (Some(ColumnKind::Boolean), _) => (count.value == "true").to_string(),
            _ => next(Bound::Text(count.value.clone())),
        };
        format!("t.\"{}\" {operator} {value}", count.column)
    }

    /// How many rows say nothing of when they came to be.
    pub(super) fn undated(&self) -> String {
        format!("SELECT count(*) FROM \"{}\" WHERE \"{}\" IS NULL", self.table, self.arrival.name)
    }
}

/// Without the spans that have no rows.
pub(super) fn counted(counts: Vec<ArrivalCount>) -> Vec<ArrivalCount> {
    counts.into_iter().filter(|count| count.rows > 0).collect()
}
