//! A table in memory, and one read of it as PostgREST would answer.

use std::{cmp::Reverse, collections::BTreeSet};

use serde_json::Value;

use super::{failure::Failure, filter::Filter};
use crate::domain::{JsonObject, parse_instant};

/// Rows and the columns they may have.
#[derive(Debug, Clone, Default)]
pub(super) struct SampleTable {
    pub(super) columns: BTreeSet<String>,
    pub(super) rows: Vec<JsonObject>,
}

/// One read.
#[derive(Debug)]
pub(super) struct Read {
    select: Option<Vec<String>>,
    order: Vec<Order>,
    filters: Vec<Filter>,
    pub(super) limit: Option<usize>,
    pub(super) offset: usize,
}

#[derive(Debug)]
struct Order {
    column: String,
    descending: bool,
    nulls_first: bool,
}

/// What a read came to.
pub(super) struct Found {
    pub(super) rows: Vec<JsonObject>,
    /// All rows that match, whatever the limits.
    pub(super) total: usize,
}

impl Read {
    pub(super) fn parse(parameters: &[(String, String)]) -> Result<Self, Failure> {
        let mut read = Self { select: None, order: Vec::new(), filters: Vec::new(), limit: None, offset: 0 };
        for (name, value) in parameters {
            let number = || value.parse().map_err(|_| Failure::unparsable(value));
            match name.as_str() {
                "select" => read.select = columns_of(value),
                "order" => read.order = value.split(',').map(order).collect::<Result<_, _>>()?,
                "limit" => read.limit = Some(number()?),
                "offset" => read.offset = number()?,
                _ => read.filters.push(Filter::parameter(name, value)?),
            }
        }
        Ok(read)
    }
}

impl SampleTable {
    pub(super) fn read(&self, name: &str, read: &Read, most: Option<usize>) -> Result<Found, Failure> {
        let mut named: Vec<&str> = read.order.iter().map(|order| order.column.as_str()).collect();
        read.filters.iter().for_each(|filter| filter.columns(&mut named));
        named.extend(read.select.iter().flatten().map(String::as_str));
        if let Some(unknown) = named.into_iter().find(|column| !self.columns.contains(*column)) {
            return Err(Failure::unknown_column(name, unknown));
        }
        let mut matching: Vec<&JsonObject> = self
            .rows
            .iter()
            .filter(|row| read.filters.iter().all(|filter| filter.holds(row) == Some(true)))
            .collect();
        matching.sort_by_cached_key(|row| read.order.iter().map(|order| order.key(row)).collect::<Vec<_>>());
        let total = matching.len();
        let limit = read.limit.unwrap_or(usize::MAX).min(most.unwrap_or(usize::MAX));
        let rows =
            matching.into_iter().skip(read.offset).take(limit).map(|row| self.selected(row, read)).collect();
        Ok(Found { rows, total })
    }

    /// A row shows every column, null where it holds nothing.
    fn selected(&self, row: &JsonObject, read: &Read) -> JsonObject {
        let names: Vec<&String> = match &read.select {
            Some(names) => names.iter().collect(),
            None => self.columns.iter().collect(),
        };
        names.into_iter().map(|name| (name.clone(), row.get(name).cloned().unwrap_or(Value::Null))).collect()
    }
}

impl Order {
    /// What a row is sorted by: instants and numbers as what they are, all else as text.
    fn key(&self, row: &JsonObject) -> SortKey {
        let value = match row.get(&self.column) {
            None | Some(Value::Null) => {
                return SortKey { null: if self.nulls_first { 0 } else { 2 }, value: None };
            }
            Some(Value::String(text)) => match parse_instant(text) {
                Some(instant) => SortValue::Number(instant.timestamp_micros()),
                None => SortValue::Text(text.clone()),
            },
            Some(Value::Number(number)) if number.is_i64() => {
                SortValue::Number(number.as_i64().unwrap_or_default())
            }
            Some(other) => SortValue::Text(other.to_string()),
        };
        let value =
            if self.descending { Directed::Descending(Reverse(value)) } else { Directed::Ascending(value) };
        SortKey { null: 1, value: Some(value) }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SortKey {
    null: u8,
    value: Option<Directed>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Directed {
    Ascending(SortValue),
    Descending(Reverse<SortValue>),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortValue {
    Number(i64),
    Text(String),
}

fn columns_of(select: &str) -> Option<Vec<String>> {
    (select != "*").then(|| select.split(',').map(|name| name.trim_matches('"').to_owned()).collect())
}

fn order(text: &str) -> Result<Order, Failure> {
    let mut words = text.split('.');
    let column = words.next().unwrap_or_default().to_owned();
    let mut order = Order { column, descending: false, nulls_first: false };
    let mut nulls = None;
    for word in words {
        match word {
            "asc" => order.descending = false,
            "desc" => order.descending = true,
            "nullsfirst" => nulls = Some(true),
            "nullslast" => nulls = Some(false),
            _ => return Err(Failure::unparsable(text)),
        }
    }
    // Postgres takes null for the largest value.
    order.nulls_first = nulls.unwrap_or(order.descending);
    Ok(order)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> SampleTable {
        let rows = json!([{"id": 1, "a": "x"}, {"id": 2, "a": null}, {"id": 3, "a": "b"}]);
        SampleTable {
            columns: ["id", "a"].map(str::to_owned).into(),
            rows: rows.as_array().into_iter().flatten().filter_map(|row| row.as_object().cloned()).collect(),
        }
    }

    fn ids(parameters: &[(&str, &str)], most: Option<usize>) -> Vec<i64> {
        let parameters: Vec<_> = parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let read = Read::parse(&parameters).expect("a query");
        let found = table().read("t", &read, most).expect("rows");
        found.rows.iter().filter_map(|row| row["id"].as_i64()).collect()
    }

    #[test]
    fn order_limit_and_offset_are_postgrest_s() {
        assert_eq!(ids(&[("order", "a.asc")], None), [3, 1, 2]);
        assert_eq!(ids(&[("order", "a.desc")], None), [2, 1, 3]);
        assert_eq!(ids(&[("order", "a.desc.nullslast"), ("limit", "1"), ("offset", "1")], None), [3]);
        assert_eq!(ids(&[("order", "id.asc")], Some(2)), [1, 2], "the cap is silent");
    }

    #[test]
    fn an_unknown_column_is_an_error_wherever_it_is_named() {
        for (name, value) in
            [("select", "id,z"), ("order", "z.asc"), ("z", "eq.1"), ("or", "(id.eq.1,z.eq.1)")]
        {
            let read = Read::parse(&[(name.to_owned(), value.to_owned())]).expect("a query");
            let failure = table().read("t", &read, None).err().expect("a refusal");
            assert!(failure.body.contains("column t.z does not exist"), "{}", failure.body);
        }
    }
}
