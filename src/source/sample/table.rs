//! A table in memory, and one read of it as PostgREST would answer.
//!
//! Values are held as the JSON text that is answered: `1e999`, deep nesting and lone surrogates are none of serde's.

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::value::RawValue;

use super::{
    column::{SampleColumn, Typed},
    failure::Failure,
    filter::Filter,
};
use crate::domain::{Json, JsonObject};

/// A row: JSON text by column.
pub(super) type Row = BTreeMap<String, Json>;

/// Rows and the columns they may have.
#[derive(Debug, Clone, Default)]
pub(super) struct SampleTable {
    pub(super) columns: Vec<SampleColumn>,
    pub(super) rows: Vec<Row>,
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
    /// As JSON text.
    pub(super) rows: Vec<String>,
    /// All rows that match, whatever the limits.
    pub(super) total: usize,
}

/// A row of serde's values.
pub(super) fn row_of(object: &JsonObject) -> Row {
    object.iter().map(|(name, value)| (name.clone(), Json::from(value))).collect()
}

/// A row of JSON text.
///
/// # Errors
/// When the text is no object.
pub(super) fn row_of_text(text: &str) -> serde_json::Result<Row> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    Ok(members.into_iter().map(|(name, value)| (name, Json::from(value))).collect())
}

impl Read {
    pub(super) fn parse(parameters: &[(String, String)]) -> Result<Self, Failure> {
        let mut read = Self { select: None, order: Vec::new(), filters: Vec::new(), limit: None, offset: 0 };
        for (name, value) in parameters {
            let number = || value.parse().map_err(|_| Failure::unparsable(value));
            match name.as_str() {
                "select" => read.select = columns_of(value),
                "order" => {
                    read.order =
                        split(value, ',').iter().map(|text| order(text)).collect::<Result<_, _>>()?;
                }
                "limit" => read.limit = Some(number()?),
                "offset" => read.offset = number()?,
                _ => read.filters.push(Filter::parameter(name, value)?),
            }
        }
        Ok(read)
    }
}

impl SampleTable {
    pub(super) fn column(&self, name: &str) -> Option<&SampleColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Adds the columns that rows have and the table has not.
    pub(super) fn learn(&mut self, rows: &[Row]) {
        for name in rows.iter().flat_map(BTreeMap::keys) {
            if self.column(name).is_none() {
                self.columns.push(SampleColumn::new(name, "text"));
            }
        }
    }

    /// The table as a policy shows it that lets one row in so many through.
    pub(super) fn showing_one_in(&self, rows: usize) -> Self {
        let rows = self.rows.iter().step_by(rows.max(1)).cloned().collect();
        Self { columns: self.columns.clone(), rows }
    }

    pub(super) fn read(&self, name: &str, read: &Read, most: Option<usize>) -> Result<Found, Failure> {
        let mut named: Vec<&str> = read.order.iter().map(|order| order.column.as_str()).collect();
        read.filters.iter().for_each(|filter| filter.columns(&mut named));
        named.extend(read.select.iter().flatten().map(String::as_str));
        if let Some(unknown) = named.into_iter().find(|column| self.column(column).is_none()) {
            return Err(Failure::unknown_column(name, unknown));
        }
        let filters = read.filters.iter().map(|filter| filter.bound(self)).collect::<Result<Vec<_>, _>>()?;
        let orders: Vec<(&Order, &SampleColumn)> =
            read.order.iter().filter_map(|order| Some((order, self.column(&order.column)?))).collect();
        // Rows that no order tells apart come as they stand.
        let mut matching: Vec<(Vec<SortKey>, usize, &Row)> = self
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| filters.iter().all(|filter| filter.holds(row) == Some(true)))
            .map(|(at, row)| (orders.iter().map(|(order, column)| order.key(column, row)).collect(), at, row))
            .collect();
        let total = matching.len();
        let limit = read.limit.unwrap_or(usize::MAX).min(most.unwrap_or(usize::MAX));
        let end = read.offset.saturating_add(limit);
        let in_order = |(a, a_at, _): &(Vec<SortKey>, usize, &Row),
                        (b, b_at, _): &(Vec<SortKey>, usize, &Row)| {
            (a, a_at).cmp(&(b, b_at))
        };
        if end < total {
            matching.select_nth_unstable_by(end, in_order);
            matching.truncate(end);
        }
        matching.sort_unstable_by(in_order);
        let rows = matching.into_iter().skip(read.offset).map(|(_, _, row)| self.shown(row, read)).collect();
        Ok(Found { rows, total })
    }

    /// A row shows every column, null where it holds nothing.
    fn shown(&self, row: &Row, read: &Read) -> String {
        let names: Vec<&String> = match &read.select {
            Some(names) => names.iter().collect(),
            None => self.columns.iter().map(|column| &column.name).collect(),
        };
        let mut text = String::from("{");
        for name in names {
            if text.len() > 1 {
                text.push(',');
            }
            // A name always serializes.
            text.push_str(&serde_json::to_string(name).unwrap_or_default());
            text.push(':');
            text.push_str(row.get(name).map_or("null", Json::as_str));
        }
        text.push('}');
        text
    }
}

impl Order {
    fn key(&self, column: &SampleColumn, row: &Row) -> SortKey {
        match column.held(row.get(&self.column)) {
            None => SortKey { null: if self.nulls_first { 0 } else { 2 }, value: None },
            Some(value) if self.descending => {
                SortKey { null: 1, value: Some(Directed::Descending(Reverse(value))) }
            }
            Some(value) => SortKey { null: 1, value: Some(Directed::Ascending(value)) },
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SortKey {
    null: u8,
    value: Option<Directed>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Directed {
    Ascending(Typed),
    Descending(Reverse<Typed>),
}

fn columns_of(select: &str) -> Option<Vec<String>> {
    (select != "*").then(|| split(select, ',').iter().map(|name| unquoted(name)).collect())
}

/// The pieces between signs that stand in no quotes.
pub(super) fn split(text: &str, sign: char) -> Vec<&str> {
    let (mut pieces, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == sign && !quoted => {
                pieces.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    pieces.push(&text[from..]);
    pieces
}

/// A name without its quotes.
pub(super) fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(name) => name.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => name.to_owned(),
    }
}

fn order(text: &str) -> Result<Order, Failure> {
    let words = split(text, '.');
    let (column, words) = words.split_first().ok_or_else(|| Failure::unparsable(text))?;
    let mut order = Order { column: unquoted(column), descending: false, nulls_first: false };
    let mut nulls = None;
    for word in words {
        match *word {
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
    use super::*;

    fn table() -> SampleTable {
        let rows =
            [r#"{"id": 1, "a": "x"}"#, r#"{"id": 2, "a": null}"#, r#"{"id": 10, "a": "b", "b c": 1e999}"#];
        SampleTable {
            columns: vec![
                SampleColumn::key("id", "bigint"),
                SampleColumn::new("a", "text"),
                SampleColumn::new("b c", "numeric"),
            ],
            rows: rows.iter().map(|row| row_of_text(row).expect("a row")).collect(),
        }
    }

    fn read(parameters: &[(&str, &str)], most: Option<usize>) -> Result<Vec<String>, Failure> {
        let parameters: Vec<_> = parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Ok(table().read("t", &Read::parse(&parameters)?, most)?.rows)
    }

    fn ids(parameters: &[(&str, &str)], most: Option<usize>) -> Vec<String> {
        let parameters: Vec<_> = parameters.iter().copied().chain([("select", "id")]).collect();
        read(&parameters, most).expect("rows")
    }

    #[test]
    fn order_limit_and_offset_are_postgrest_s() {
        let [one, two, ten] = ["{\"id\":1}", "{\"id\":2}", "{\"id\":10}"].map(str::to_owned);
        assert_eq!(ids(&[("order", "a.asc")], None), [ten.clone(), one.clone(), two.clone()]);
        assert_eq!(ids(&[("order", "a.desc")], None), [two.clone(), one.clone(), ten.clone()]);
        assert_eq!(ids(&[("order", "id.desc")], None), [ten.clone(), two.clone(), one.clone()], "as numbers");
        assert_eq!(ids(&[("order", "a.desc.nullslast"), ("limit", "1"), ("offset", "1")], None), [ten]);
        assert_eq!(ids(&[("order", "id.asc")], Some(2)), [one, two], "the cap is silent");
    }

    #[test]
    fn rows_are_answered_as_they_are_held() {
        let rows =
            read(&[("select", "\"b c\",id"), ("order", "\"b c\".asc"), ("limit", "1")], None).expect("rows");
        assert_eq!(rows, [r#"{"b c":1e999,"id":10}"#]);
        let all = read(&[("id", "eq.1")], None).expect("rows");
        assert_eq!(all, [r#"{"id":1,"a":"x","b c":null}"#], "every column, in the table's order");
    }

    #[test]
    fn an_unknown_column_is_an_error_wherever_it_is_named() {
        for (name, value) in
            [("select", "id,z"), ("order", "z.asc"), ("z", "eq.1"), ("or", "(id.eq.1,z.eq.1)")]
        {
            let failure = read(&[(name, value)], None).expect_err("a refusal");
            assert!(failure.body.contains("column t.z does not exist"), "{}", failure.body);
        }
    }

    #[test]
    fn times_without_end_lie_before_and_after_all_others() {
        let columns =
            vec![SampleColumn::key("id", "bigint"), SampleColumn::new("at", "timestamp with time zone")];
        let times = ["\"infinity\"", "\"0001-01-01T00:00:00+00:00\"", "\"-infinity\""];
        let rows = times.iter().zip(1..).map(|(at, id)| format!(r#"{{"id": {id}, "at": {at}}}"#));
        let table =
            SampleTable { columns, rows: rows.map(|row| row_of_text(&row).expect("a row")).collect() };
        let found = |parameters: &[(&str, &str)]| {
            let parameters: Vec<_> = [("select", "id"), ("order", "at.asc")]
                .iter()
                .chain(parameters)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            table.read("t", &Read::parse(&parameters).expect("readable"), None).expect("rows").rows
        };
        assert_eq!(found(&[]), [r#"{"id":3}"#, r#"{"id":2}"#, r#"{"id":1}"#]);
        assert_eq!(found(&[("at", "gt.-infinity")]), [r#"{"id":2}"#, r#"{"id":1}"#]);
        assert_eq!(found(&[("at", "gte.infinity")]), [r#"{"id":1}"#]);
    }

    #[test]
    fn a_value_that_is_none_of_the_columns_type_is_refused() {
        let failure = read(&[("id", "gt.abc")], None).expect_err("a refusal");
        assert!(failure.body.contains("22P02"), "{}", failure.body);
    }
}
