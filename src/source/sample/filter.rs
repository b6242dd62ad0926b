//! PostgREST's filters, parsed and evaluated. What is not understood is an error, never ignored.
//!
//! Grammar: <https://docs.postgrest.org/en/stable/references/api/tables_views.html#horizontal-filtering>.

use std::cmp::Ordering;

use serde_json::Value;

use super::failure::Failure;
use crate::domain::{JsonObject, parse_instant};

/// A condition on a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    Compare { column: String, operator: Operator, value: String },
    In { column: String, values: Vec<String> },
    Not(Box<Filter>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Eq,
    Neq,
    Gt,
    Gte,
    Lt,
    Lte,
    Is,
    Like,
    Ilike,
}

impl Filter {
    /// Reads one query parameter: `score=gte.50`, `or=(a.eq.1,b.is.null)`.
    pub(super) fn parameter(name: &str, value: &str) -> Result<Self, Failure> {
        let mut parser = Parser { rest: value };
        let filter = match name {
            "and" => Self::All(parser.list()?),
            "or" => Self::Any(parser.list()?),
            "not.and" => Self::Not(Box::new(Self::All(parser.list()?))),
            "not.or" => Self::Not(Box::new(Self::Any(parser.list()?))),
            column => return top_level(column, value),
        };
        if parser.rest.is_empty() { Ok(filter) } else { Err(Failure::unparsable(value)) }
    }

    /// Every column the filter names.
    pub(super) fn columns<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::Compare { column, .. } | Self::In { column, .. } => into.push(column),
            Self::Not(inner) => inner.columns(into),
            Self::All(filters) | Self::Any(filters) => filters.iter().for_each(|filter| filter.columns(into)),
        }
    }

    /// SQL's three values: `None` is unknown, as a comparison with null is.
    pub(super) fn holds(&self, row: &JsonObject) -> Option<bool> {
        match self {
            Self::Compare { column, operator, value } => {
                compare(row.get(column).unwrap_or(&Value::Null), *operator, value)
            }
            Self::In { column, values } => {
                let held = row.get(column).filter(|held| !held.is_null())?;
                Some(values.iter().any(|value| order(held, value) == Some(Ordering::Equal)))
            }
            Self::Not(inner) => inner.holds(row).map(|holds| !holds),
            Self::All(filters) => fold(filters.iter().map(|filter| filter.holds(row)), false),
            Self::Any(filters) => fold(filters.iter().map(|filter| filter.holds(row)), true),
        }
    }
}

/// `decisive` is the value that settles an `and` (false) or an `or` (true).
fn fold(values: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut unknown = false;
    for value in values {
        match value {
            Some(value) if value == decisive => return Some(decisive),
            Some(_) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(!decisive)
}

fn compare(held: &Value, operator: Operator, value: &str) -> Option<bool> {
    if operator == Operator::Is {
        return Some(match value {
            "null" => held.is_null(),
            "not_null" => !held.is_null(),
            "true" => *held == Value::Bool(true),
            _ => *held == Value::Bool(false),
        });
    }
    if held.is_null() {
        return None;
    }
    if let Operator::Like | Operator::Ilike = operator {
        let text = held.as_str().map_or_else(|| held.to_string(), str::to_owned);
        return Some(match operator {
            Operator::Like => like(&text, value),
            _ => like(&text.to_lowercase(), &value.to_lowercase()),
        });
    }
    let ordering = order(held, value)?;
    Some(match operator {
        Operator::Eq => ordering.is_eq(),
        Operator::Neq => ordering.is_ne(),
        Operator::Gt => ordering.is_gt(),
        Operator::Gte => ordering.is_ge(),
        Operator::Lt => ordering.is_lt(),
        _ => ordering.is_le(),
    })
}

/// Compares as the column's type would: numbers, booleans, instants, else text.
fn order(held: &Value, value: &str) -> Option<Ordering> {
    match held {
        Value::Number(number) => number.as_f64()?.partial_cmp(&value.parse().ok()?),
        Value::Bool(flag) => Some(flag.cmp(&value.parse().ok()?)),
        Value::String(text) => match (parse_instant(text), parse_instant(value)) {
            (Some(held), Some(value)) => Some(held.cmp(&value)),
            _ => Some(text.as_str().cmp(value)),
        },
        _ => None,
    }
}

/// `*` and `%` stand for anything.
fn like(text: &str, pattern: &str) -> bool {
    let pattern = pattern.replace('*', "%");
    let mut parts = pattern.split('%');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut tail: Vec<&str> = parts.collect();
    let Some(last) = tail.pop() else { return rest.is_empty() };
    for part in tail {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "eq" => Operator::Eq,
        "neq" => Operator::Neq,
        "gt" => Operator::Gt,
        "gte" => Operator::Gte,
        "lt" => Operator::Lt,
        "lte" => Operator::Lte,
        "is" => Operator::Is,
        "like" => Operator::Like,
        "ilike" => Operator::Ilike,
        _ => return None,
    })
}

/// At the top level a value reaches to the end and quotes are part of it.
fn top_level(column: &str, text: &str) -> Result<Filter, Failure> {
    let (name, value) = text.split_once('.').ok_or_else(|| Failure::unparsable(text))?;
    if name == "not" {
        return Ok(Filter::Not(Box::new(top_level(column, value)?)));
    }
    if name == "in" {
        let mut parser = Parser { rest: value };
        let values = parser.values()?;
        return Ok(Filter::In { column: column.to_owned(), values });
    }
    let operator = operator(name).ok_or_else(|| Failure::unparsable(text))?;
    checked(column.to_owned(), operator, value.to_owned(), text)
}

fn checked(column: String, operator: Operator, value: String, text: &str) -> Result<Filter, Failure> {
    if operator == Operator::Is && !matches!(value.as_str(), "null" | "not_null" | "true" | "false") {
        return Err(Failure::unparsable(text));
    }
    Ok(Filter::Compare { column, operator, value })
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// `(filter,filter,…)`
    fn list(&mut self) -> Result<Vec<Filter>, Failure> {
        self.expect('(')?;
        let mut filters = vec![self.filter()?];
        while self.take(',') {
            filters.push(self.filter()?);
        }
        self.expect(')')?;
        Ok(filters)
    }

    fn filter(&mut self) -> Result<Filter, Failure> {
        for (prefix, any, negated) in
            [("and", false, false), ("or", true, false), ("not.and", false, true), ("not.or", true, true)]
        {
            let Some(rest) = self.rest.strip_prefix(prefix).filter(|rest| rest.starts_with('(')) else {
                continue;
            };
            self.rest = rest;
            let filters = self.list()?;
            let filter = if any { Filter::Any(filters) } else { Filter::All(filters) };
            return Ok(if negated { Filter::Not(Box::new(filter)) } else { filter });
        }
        let column = self.until_dot()?;
        let mut name = self.until_dot()?;
        let negated = name == "not";
        if negated {
            name = self.until_dot()?;
        }
        let filter = if name == "in" {
            Filter::In { column, values: self.values()? }
        } else {
            let operator = operator(&name).ok_or_else(|| Failure::unparsable(&name))?;
            let value = self.value()?;
            checked(column, operator, value, &name)?
        };
        Ok(if negated { Filter::Not(Box::new(filter)) } else { filter })
    }

    /// `(value,value,…)`
    fn values(&mut self) -> Result<Vec<String>, Failure> {
        self.expect('(')?;
        let mut values = vec![self.value()?];
        while self.take(',') {
            values.push(self.value()?);
        }
        self.expect(')')?;
        Ok(values)
    }

    fn value(&mut self) -> Result<String, Failure> {
        if !self.take('"') {
            let end = self.rest.find([',', ')']).unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Ok(value.to_owned());
        }
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(value);
                }
                '\\' => value.extend(chars.next().map(|(_, c)| c)),
                other => value.push(other),
            }
        }
        Err(Failure::unparsable(self.rest))
    }

    fn until_dot(&mut self) -> Result<String, Failure> {
        let (word, rest) = self.rest.split_once('.').ok_or_else(|| Failure::unparsable(self.rest))?;
        self.rest = rest;
        Ok(word.to_owned())
    }

    fn take(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), Failure> {
        if self.take(c) { Ok(()) } else { Err(Failure::unparsable(self.rest)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(name: &str, value: &str, row: Value) -> Option<bool> {
        let row = row.as_object().cloned().expect("an object");
        Filter::parameter(name, value).expect("a filter").holds(&row)
    }

    #[test]
    fn times_numbers_and_texts_are_compared_as_what_they_are() {
        let row = json!({"n": 9, "t": "2026-05-01T12:00:00+00:00", "s": "a"});
        assert_eq!(holds("n", "lt.10", row.clone()), Some(true));
        assert_eq!(holds("t", "eq.2026-05-01T09:00:00-03:00", row.clone()), Some(true));
        assert_eq!(holds("s", "gt.b", row.clone()), Some(false));
        assert_eq!(holds("n", "in.(1,9)", row), Some(true));
    }

    #[test]
    fn null_matches_nothing_but_is_null() {
        let row = json!({"a": null});
        assert_eq!(holds("a", "gt.1", row.clone()), None);
        assert_eq!(holds("a", "not.eq.1", row.clone()), None);
        assert_eq!(holds("a", "is.null", row.clone()), Some(true));
        assert_eq!(holds("or", "(a.eq.1,a.is.null)", row.clone()), Some(true));
        assert_eq!(holds("and", "(a.eq.1,a.is.null)", row), None);
    }

    #[test]
    fn nested_trees_and_quoted_values_are_understood() {
        let row = json!({"t": "x,y(\"z\")", "id": 3});
        let filter = r#"(t.gt."zzz",and(t.eq."x,y(\"z\")",id.gt.2))"#;
        assert_eq!(holds("or", filter, row), Some(true));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (name, value) in
            [("a", "near.1"), ("or", "(a.eq.1"), ("a", "5"), ("a", "is.maybe"), ("or", "(a.eq.1)x")]
        {
            assert!(Filter::parameter(name, value).is_err(), "{name}={value}");
        }
    }
}
