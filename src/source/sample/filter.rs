//! PostgREST's filters, parsed and evaluated. What is not understood is an error, never ignored.
//!
//! Grammar: <https://docs.postgrest.org/en/stable/references/api/tables_views.html#horizontal-filtering>.

use super::{
    column::{SampleColumn, Typed},
    failure::Failure,
    table::{Row, SampleTable, unquoted},
};
use crate::domain::{Json, json};

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
            column => return top_level(&unquoted(column), value),
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

    /// With every value read as its column's type.
    pub(super) fn bound<'a>(&'a self, table: &'a SampleTable) -> Result<Bound<'a>, Failure> {
        let column = |name: &str| table.column(name).ok_or_else(|| Failure::unknown_column("", name));
        Ok(match self {
            Self::Compare { column: name, operator, value } => {
                let column = column(name)?;
                let is_typed = !matches!(operator, Operator::Is | Operator::Like | Operator::Ilike);
                let value = if is_typed { column.given(value)? } else { Typed::Text(value.clone()) };
                Bound::Compare { column, operator: *operator, value }
            }
            Self::In { column: name, values } => {
                let column = column(name)?;
                let values = values.iter().map(|value| column.given(value)).collect::<Result<_, _>>()?;
                Bound::In { column, values }
            }
            Self::Not(inner) => Bound::Not(Box::new(inner.bound(table)?)),
            Self::All(filters) => {
                Bound::All(filters.iter().map(|filter| filter.bound(table)).collect::<Result<_, _>>()?)
            }
            Self::Any(filters) => {
                Bound::Any(filters.iter().map(|filter| filter.bound(table)).collect::<Result<_, _>>()?)
            }
        })
    }
}

/// A filter on a table's columns.
#[derive(Debug)]
pub(super) enum Bound<'a> {
    Compare { column: &'a SampleColumn, operator: Operator, value: Typed },
    In { column: &'a SampleColumn, values: Vec<Typed> },
    Not(Box<Bound<'a>>),
    All(Vec<Bound<'a>>),
    Any(Vec<Bound<'a>>),
}

impl Bound<'_> {
    /// SQL's three values: `None` is unknown, as a comparison with null is.
    pub(super) fn holds(&self, row: &Row) -> Option<bool> {
        match self {
            Self::Compare { column, operator, value } => {
                compare(column, row.get(&column.name), *operator, value)
            }
            Self::In { column, values } => Some(values.contains(&column.held(row.get(&column.name))?)),
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

fn compare(column: &SampleColumn, held: Option<&Json>, operator: Operator, value: &Typed) -> Option<bool> {
    let held_text = held.map_or("null", Json::as_str);
    if let (Operator::Is, Typed::Text(value)) = (operator, value) {
        return Some(match value.as_str() {
            "null" => held_text == "null",
            "not_null" => held_text != "null",
            word => held_text == word,
        });
    }
    let typed = column.held(held)?;
    if let (Operator::Like | Operator::Ilike, Typed::Text(pattern)) = (operator, value) {
        let text = json::text(held_text).map_or_else(|| held_text.to_owned(), std::borrow::Cow::into_owned);
        return Some(match operator {
            Operator::Like => like(&text, pattern),
            _ => like(&text.to_lowercase(), &pattern.to_lowercase()),
        });
    }
    let ordering = typed.cmp(value);
    Some(match operator {
        Operator::Eq => ordering.is_eq(),
        Operator::Neq => ordering.is_ne(),
        Operator::Gt => ordering.is_gt(),
        Operator::Gte => ordering.is_ge(),
        Operator::Lt => ordering.is_lt(),
        _ => ordering.is_le(),
    })
}

/// `*` and `%` stand for anything, `_` for any one character; a backslash takes the meaning of what follows it.
fn like(text: &str, pattern: &str) -> bool {
    enum Piece {
        One(char),
        Any,
        Rest,
    }
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' | '%' => Piece::Rest,
            '_' => Piece::Any,
            '\\' => Piece::One(chars.next().unwrap_or(c)),
            c => Piece::One(c),
        });
    }
    // Whether the pieces before each one match the text so far.
    let mut matched = vec![false; pieces.len() + 1];
    matched[0] = true;
    let pass_rests = |matched: &mut Vec<bool>| {
        for (i, piece) in pieces.iter().enumerate() {
            matched[i + 1] |= matched[i] && matches!(piece, Piece::Rest);
        }
    };
    pass_rests(&mut matched);
    for c in text.chars() {
        let mut next = vec![false; pieces.len() + 1];
        for (i, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::One(one) => next[i + 1] = matched[i] && *one == c,
                Piece::Any => next[i + 1] = matched[i],
                Piece::Rest => next[i] |= matched[i],
            }
        }
        pass_rests(&mut next);
        matched = next;
    }
    matched.last().copied().unwrap_or_default()
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
        let column = self.column()?;
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

    fn column(&mut self) -> Result<String, Failure> {
        if !self.rest.starts_with('"') {
            return self.until_dot();
        }
        let column = self.value()?;
        self.expect('.')?;
        Ok(column)
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
    use super::{super::table::row_of_text, *};

    /// Whether a filter holds of a row with a number `n`, an instant `t`, a clock's face `w`, and texts.
    fn holds(name: &str, value: &str, row: &str) -> Option<bool> {
        let row = row_of_text(row).expect("an object");
        let column = |name: &String| match name.as_str() {
            "n" => SampleColumn::new(name, "bigint"),
            "t" => SampleColumn::new(name, "timestamp with time zone"),
            "w" => SampleColumn::new(name, "timestamp without time zone"),
            _ => SampleColumn::new(name, "text"),
        };
        let table = SampleTable { columns: row.keys().map(column).collect(), rows: Vec::new() };
        let filter = Filter::parameter(name, value).expect("a filter");
        filter.bound(&table).expect("values of the types").holds(&row)
    }

    #[test]
    fn times_numbers_and_texts_are_compared_as_what_they_are() {
        let row = r#"{"n": 9007199254740993, "t": "2026-05-01T12:00:00+00:00", "w": "2026-05-01T12:00:00", "s": "a"}"#;
        assert_eq!(holds("n", "gt.9007199254740992", row), Some(true));
        assert_eq!(holds("t", "eq.2026-05-01T09:00:00-03:00", row), Some(true));
        assert_eq!(holds("w", "eq.2026-05-01T12:00:00-03:00", row), Some(true), "the zone is passed over");
        assert_eq!(holds("s", "gt.b", row), Some(false));
        assert_eq!(holds("n", "in.(1,9007199254740993)", row), Some(true));
    }

    #[test]
    fn null_matches_nothing_but_is_null() {
        let row = r#"{"a": null}"#;
        assert_eq!(holds("a", "gt.1", row), None);
        assert_eq!(holds("a", "not.eq.1", row), None);
        assert_eq!(holds("a", "is.null", row), Some(true));
        assert_eq!(holds("or", "(a.eq.1,a.is.null)", row), Some(true));
        assert_eq!(holds("and", "(a.eq.1,a.is.null)", row), None);
    }

    #[test]
    fn patterns_match_what_postgres_would() {
        for (text, pattern, matches) in [
            ("ana@x.example", "*@X.*", true),
            ("ana@x.example", "an_@x%", true),
            ("ana@x.example", "ana@x.exampl", false),
            ("ana@x", "an\\_@x", false),
            ("an_%@x", "*an\\_\\%@x*", true),
            ("", "%", true),
        ] {
            let row = format!("{{\"s\": \"{text}\"}}");
            assert_eq!(holds("s", &format!("ilike.{pattern}"), &row), Some(matches), "{text} {pattern}");
        }
    }

    #[test]
    fn nested_trees_quoted_names_and_quoted_values_are_understood() {
        let row = r#"{"o outro": "x,y(\"z\")", "n": 3}"#;
        let filter = r#"("o outro".gt."zzz",and("o outro".eq."x,y(\"z\")",n.gt.2))"#;
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
