//! Values as every search server takes them.
//!
//! # Guarantee
//!
//! What leaves here is refused by no server, whatever a project's columns or a hand-made event hold. Elasticsearch
//! and OpenSearch refuse a name that stands twice in an object, however deep; numbers of more than 1,000 characters;
//! names of more than 50,000; lists within lists beyond 20 (OpenSearch) or anything beyond 1,000 levels; and in a
//! field with a type whatever is not of it. They take numbers of any exponent where nothing is indexed, lone
//! surrogates and NULs.

use std::borrow::Cow;

use chrono::{NaiveDate, SecondsFormat};
use chrono_tz::Tz;
use serde_json::value::RawValue;

use super::FieldKind;
use crate::domain::{
    Cell,
    json::{self, Token, tokens},
    parse_instant,
};

/// Nesting that is taken in `dados` and in columns that are only kept.
pub(super) const MAX_DEPTH: usize = 500;
/// Nesting that is taken in `metadata`, where servers look at each list.
pub(super) const MAX_METADATA_DEPTH: usize = 15;
/// Characters of a number.
const MAX_NUMBER: usize = 800;
/// Bytes of a name.
pub(super) const MAX_NAME: usize = 30_000;
/// Whole numbers up to here are exact doubles.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The value as it is where it is only kept, or its text in quotes where some server would refuse it.
pub(super) fn kept(json: &str, max_depth: usize) -> Cow<'_, str> {
    if is_taken(json, max_depth) { Cow::Borrowed(json) } else { Cow::Owned(quoted(json)) }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    // A text always serializes.
    serde_json::to_string(text).unwrap_or_default()
}

fn is_taken(json: &str, max_depth: usize) -> bool {
    if !json.starts_with(['{', '[']) && json.len() <= MAX_NUMBER {
        return true;
    }
    // The names of each object that is open; `None` for a list.
    let mut open: Vec<Option<Vec<Cow<'_, str>>>> = Vec::new();
    let mut previous = "";
    for token in tokens(json) {
        match token {
            Token::Number(number) if number.len() > MAX_NUMBER => return false,
            Token::Text(text) if matches!(previous, "{" | ",") => {
                if let Some(Some(names)) = open.last_mut() {
                    if text.len() > MAX_NAME {
                        return false;
                    }
                    names.extend(json::text(text));
                }
            }
            Token::Other(bracket @ ("{" | "[")) => {
                if open.len() == max_depth {
                    return false;
                }
                open.push((bracket == "{").then(Vec::new));
            }
            Token::Other("}" | "]") => {
                if let Some(Some(mut names)) = open.pop() {
                    names.sort_unstable();
                    if names.windows(2).any(|pair| pair[0] == pair[1]) {
                        return false;
                    }
                }
            }
            _ => {}
        }
        previous = match token {
            Token::Other(sign) => sign,
            Token::Text(_) | Token::Number(_) => "",
        };
    }
    true
}

/// A column's value in its field, as JSON; what the field can't hold is null.
pub(super) fn of_cell(cell: &Cell<'_>, kind: FieldKind) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Text(text) => quoted(text),
        Cell::Integer(number) => number.to_string(),
        Cell::Number(digits) if kind == FieldKind::Double => {
            double(digits).map_or("null".to_owned(), Cow::into_owned)
        }
        Cell::Number(digits) => kept_number(digits).into_owned(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Instant(instant) => quoted(&instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        Cell::Date(date) => quoted(&date.to_string()),
        Cell::Json(json) => kept(json, MAX_DEPTH).into_owned(),
        // Texts always serialize.
        Cell::List(items) => serde_json::to_string(items).unwrap_or_default(),
    }
}

/// A value that a field of this kind takes, or `None` where it takes no such value.
pub(super) fn fitting(json: &str, kind: FieldKind, zone: Tz) -> Option<Cow<'_, str>> {
    if kind == FieldKind::Stored {
        return Some(kept(json, MAX_METADATA_DEPTH));
    }
    if !json.starts_with('[') {
        return scalar(json, kind, zone);
    }
    let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    let items = items.into_iter().map(|item| scalar(item.get(), kind, zone));
    Some(Cow::Owned(format!("[{}]", items.collect::<Option<Vec<_>>>()?.join(","))))
}

fn scalar(json: &str, kind: FieldKind, zone: Tz) -> Option<Cow<'_, str>> {
    if json == "null" {
        return Some(Cow::Borrowed(json));
    }
    if json.starts_with(['{', '[']) {
        return None;
    }
    let plain = || json::text(json).map_or(Cow::Borrowed(json), |text| Cow::Owned(text.trim().to_owned()));
    Some(match kind {
        FieldKind::Text | FieldKind::Keyword | FieldKind::Ip | FieldKind::Stored => {
            if json.starts_with('"') {
                Cow::Borrowed(json)
            } else {
                kept_number(json)
            }
        }
        FieldKind::Long => Cow::Owned(long(&plain())?.to_string()),
        FieldKind::Double => Cow::Owned(double(&plain())?.into_owned()),
        FieldKind::Boolean => Cow::Owned(plain().parse::<bool>().ok()?.to_string()),
        FieldKind::Date => {
            let text = json::text(json)?;
            if NaiveDate::parse_from_str(&text, "%Y-%m-%d").is_ok() {
                return Some(Cow::Borrowed(json));
            }
            let instant = parse_instant(&text, zone)?;
            Cow::Owned(quoted(&instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
        }
    })
}

#[allow(clippy::cast_possible_truncation)]
fn long(text: &str) -> Option<i64> {
    if let Ok(long) = text.parse() {
        return Some(long);
    }
    let double: f64 = text.parse().ok()?;
    (double.fract() == 0.0 && double.abs() <= MAX_EXACT).then_some(double as i64)
}

/// The digits of a number that a double can stand for.
fn double(digits: &str) -> Option<Cow<'_, str>> {
    digits.parse::<f64>().ok().filter(|double| double.is_finite())?;
    Some(kept_number(digits))
}

/// A number as it is. One that is no JSON, or longer than servers take, is in quotes: they read it all the same.
fn kept_number(digits: &str) -> Cow<'_, str> {
    let is_json = digits.len() <= MAX_NUMBER && serde_json::from_str::<&RawValue>(digits).is_ok();
    if is_json { Cow::Borrowed(digits) } else { Cow::Owned(quoted(digits)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_server_takes_is_left_as_it_is() {
        let deep = format!("{}1{}", "[".repeat(499), "]".repeat(499));
        for json in [
            r#"{"a": 1e999, "b": {"a": "\ud800"}, "c\u0000": [{"a": 1}, {"a": 2}], "d": "a", "e": ["d", "d"]}"#,
            "12345678901234567890123",
            &deep,
        ] {
            assert!(matches!(kept(json, MAX_DEPTH), Cow::Borrowed(_)), "{json}");
        }
    }

    #[test]
    fn what_some_server_refuses_is_kept_as_its_text() {
        let long = format!("[{}]", "1".repeat(1_001));
        let deep = format!("{}1{}", "[".repeat(501), "]".repeat(501));
        let named = format!(r#"{{"{}": 1}}"#, "n".repeat(60_000));
        for json in [
            r#"{"a":1,"a":2}"#,
            r#"{"x": [{"a": {}, "b": 1, "\u0061": 2}]}"#,
            long.as_str(),
            deep.as_str(),
            named.as_str(),
        ] {
            let kept = kept(json, MAX_DEPTH);
            assert_eq!(serde_json::from_str::<String>(&kept).expect("a text"), json);
        }
    }

    #[test]
    fn a_columns_value_keeps_its_digits_and_what_the_field_cannot_hold_is_null() {
        let instant = parse_instant("2026-05-01T09:00:00.000001-03:00", Tz::UTC).expect("an instant");
        let digits = "9".repeat(900);
        let in_quotes = format!("\"0.{}\"", "9".repeat(900));
        let long_fraction = format!("0.{}", "9".repeat(900));
        for (cell, kind, expected) in [
            (Cell::Number("72.50"), FieldKind::Double, "72.50"),
            (
                Cell::Number("123456789012345678901234567890"),
                FieldKind::Double,
                "123456789012345678901234567890",
            ),
            (Cell::Number("007.5"), FieldKind::Double, "\"007.5\""),
            (Cell::Number("1e999"), FieldKind::Double, "null"),
            (Cell::Number(&digits), FieldKind::Double, "null"),
            (Cell::Number(&long_fraction), FieldKind::Double, in_quotes.as_str()),
            (Cell::Number("1e999"), FieldKind::Stored, "1e999"),
            (Cell::Integer(i64::MIN), FieldKind::Long, "-9223372036854775808"),
            (Cell::Text("a\u{0}\"".into()), FieldKind::Text, r#""a\u0000\"""#),
            (Cell::Instant(instant), FieldKind::Date, "\"2026-05-01T12:00:00.000001Z\""),
            (Cell::Json(r#"{"a":1,"a":2}"#.into()), FieldKind::Stored, r#""{\"a\":1,\"a\":2}""#),
            (Cell::List(vec!["a".into(), "b".into()]), FieldKind::Text, r#"["a","b"]"#),
            (Cell::Null, FieldKind::Text, "null"),
        ] {
            assert_eq!(of_cell(&cell, kind), expected, "{cell:?}");
        }
    }

    #[test]
    fn a_member_of_metadata_fits_its_field_or_is_none_of_it() {
        use FieldKind::{Boolean, Date, Double, Keyword, Long, Stored, Text};
        for (json, kind, expected) in [
            ("\"a\"", Text, Some("\"a\"")),
            ("1e999", Text, Some("1e999")),
            ("[\"a\", null, 5]", Text, Some("[\"a\",null,5]")),
            ("{\"a\":1}", Text, None),
            ("[[\"a\"]]", Keyword, None),
            ("\" 7 \"", Long, Some("7")),
            ("80.0", Long, Some("80")),
            ("80.5", Long, None),
            ("123456789012345678901234567890", Long, None),
            ("\"muitas\"", Long, None),
            ("\"12.50\"", Double, Some("12.50")),
            ("1e999", Double, None),
            ("\"NaN\"", Double, None),
            ("\"true\"", Boolean, Some("true")),
            ("\"sim\"", Boolean, None),
            ("1", Boolean, None),
            ("\"2026-05-01\"", Date, Some("\"2026-05-01\"")),
            ("\"2026-05-01 09:00:00-03\"", Date, Some("\"2026-05-01T12:00:00Z\"")),
            ("\"2026-05-01T09:00:00\"", Date, Some("\"2026-05-01T12:00:00Z\"")),
            ("\"ontem\"", Date, None),
            ("1767225600", Date, None),
            ("null", Double, Some("null")),
            ("{\"uf\":\"SP\"}", Stored, Some("{\"uf\":\"SP\"}")),
        ] {
            assert_eq!(fitting(json, kind, Tz::America__Sao_Paulo).as_deref(), expected, "{json} {kind:?}");
        }
        let deep = format!("{}{}", "[".repeat(16), "]".repeat(16));
        assert_eq!(fitting(&deep, Stored, Tz::UTC).as_deref(), Some(quoted(&deep).as_str()));
    }
}
