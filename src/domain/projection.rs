//! A row's values as the types its table defines. A value that does not fit its column is null there and told by
//! name; a problem never repeats a value, since it ends up in logs and answers and values are personal data.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Table,
    json::{self, Members},
    table::{Column, ColumnKind, KeyKind},
    time::{parse_date, parse_instant},
};

/// The longest key: the indexes of Postgres surely hold a row of it, also beside a log's and a table's name.
const MAX_KEY_BYTES: usize = 2_048;

/// One value, as its column's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    Null,
    /// A NUL in it is U+FFFD: Postgres holds none, and the sinks must not differ.
    Text(Cow<'a, str>),
    Integer(i64),
    /// The digits as they were sent; Postgres's `numeric` holds them.
    Number(&'a str),
    Boolean(bool),
    Instant(DateTime<Utc>),
    Date(NaiveDate),
    /// JSON text, as [`json::for_jsonb`] lets every sink hold it.
    Json(Cow<'a, str>),
    List(Vec<Cow<'a, str>>),
}

/// A value that is not what its column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Misfit {
    pub column: &'static str,
    pub kind: ColumnKind,
}

impl Misfit {
    /// A number that is too large for the event's `valor`, which is added up.
    pub(super) const VALOR: Self = Self { column: "valor", kind: ColumnKind::Number };

    /// What the value is not, in the plural: `whole numbers`.
    pub fn expected(self) -> &'static str {
        if self == Self::VALOR { "numbers up to 1e300, which can be added up" } else { self.kind.plural() }
    }
}

/// Why a source row can't become an event: it has no key to go by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table}.{column}: {problem}")]
pub struct RowError {
    pub table: Table,
    pub column: &'static str,
    pub problem: &'static str,
}

/// A row and the definition to read it by.
#[derive(Debug)]
pub struct Row<'a> {
    pub table: Table,
    pub members: Members<'a>,
}

impl<'a> Row<'a> {
    /// Takes a row apart; `None` where the text is no object.
    pub fn of(table: Table, row: &'a str) -> Option<Self> {
        Some(Self { table, members: Members::of(row)? })
    }

    /// The value of a column, or that it does not fit.
    ///
    /// # Errors
    /// The misfit; the column is null then.
    pub fn cell(&self, column: &'static Column) -> Result<Cell<'a>, Misfit> {
        let Some(value) = self.value(column) else { return Ok(Cell::Null) };
        cell(value, column.kind, self.table.zone()).ok_or(Misfit { column: &column.name, kind: column.kind })
    }

    /// The column's value as JSON text, in a row of old under a name that the column had then.
    pub(crate) fn value(&self, column: &Column) -> Option<&'a str> {
        let is_there = |name: &str| self.members.iter().any(|member| member.name == name);
        self.members.get(column.source_in(is_there))
    }

    /// The value of the column of that name; null where it does not fit or there is none.
    pub fn get(&self, name: &str) -> Cell<'a> {
        let column = self.table.definition().column(name);
        column.and_then(|column| self.cell(column).ok()).unwrap_or(Cell::Null)
    }

    /// Every column's value, in the definition's order; misfits are null.
    pub fn cells(&self) -> impl Iterator<Item = (&'static Column, Cell<'a>)> {
        self.table.definition().columns.iter().map(|column| (column, self.cell(column).unwrap_or(Cell::Null)))
    }

    /// The values that don't fit.
    pub fn misfits(&self) -> impl Iterator<Item = Misfit> {
        self.table.definition().columns.iter().filter_map(|column| self.cell(column).err())
    }

    /// The numbers that no double holds: each is null where the column holds doubles.
    pub fn beyond_doubles(&self) -> impl Iterator<Item = &'static str> {
        let numbers = self.cells().filter(|(_, cell)| matches!(cell, Cell::Number(_)));
        numbers.filter(|(_, cell)| cell.to_double().is_none()).map(|(column, _)| column.name.as_str())
    }

    /// The row's key in the one spelling it has everywhere.
    ///
    /// # Errors
    /// When it is missing or not of the key's type.
    pub fn key(&self) -> Result<String, RowError> {
        let key = &self.table.definition().key;
        let error = |problem| RowError { table: self.table, column: &key.column, problem };
        let value = self.members.get(self.table.definition().key_source());
        let value = value.ok_or_else(|| error("missing; a row needs its key"))?;
        let text = json::text(value).unwrap_or(Cow::Borrowed(value));
        if key.kind == KeyKind::Text && value.starts_with(['{', '[']) {
            return Err(error("expected a text, got an object or a list"));
        }
        key.kind.read(&text).map_err(error)
    }
}

impl KeyKind {
    /// The key that a row has by what stands in its key's column.
    ///
    /// # Errors
    /// Says why that is none.
    pub fn read(self, sent: &str) -> Result<String, &'static str> {
        match self {
            Self::Uuid => Uuid::parse_str(sent.trim())
                .map(|id| id.to_string())
                .map_err(|_| "expected a uuid; is the key's type in the table's definition right?"),
            Self::Bigint => integer(sent).map(|id| id.to_string()).ok_or(
                "expected a whole number of 64 bits; is the key's type in the table's definition right?",
            ),
            Self::Text => text_key_problem(sent).map_or_else(|| Ok(sent.to_owned()), Err),
        }
    }

    /// A text as a key in the one spelling it has everywhere; `None` where it is not of the kind.
    pub fn spelled(self, text: &str) -> Option<String> {
        match self {
            Self::Uuid => Uuid::parse_str(text).ok().map(|id| id.to_string()),
            Self::Bigint => text.parse::<i64>().ok().map(|id| id.to_string()),
            Self::Text => text_key_problem(text).is_none().then(|| text.to_owned()),
        }
    }

    /// Whether a text is a key, in the one spelling it has everywhere.
    pub fn is_key(self, text: &str) -> bool {
        self.spelled(text).is_some_and(|key| key == text)
    }

    /// What its values are called.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Uuid => "UUIDs",
            Self::Bigint => "whole numbers",
            Self::Text => "texts",
        }
    }
}

/// Why a text is no key, although it is a text.
fn text_key_problem(text: &str) -> Option<&'static str> {
    if text.len() > MAX_KEY_BYTES {
        return Some("expected a text of at most 2048 bytes, the most that every index it stands in holds");
    }
    text.contains(['\0', char::REPLACEMENT_CHARACTER]).then_some(
        "it holds a NUL, a lone surrogate, or the U+FFFD that stands for what is no text, so that other keys may look the same",
    )
}

impl Cell<'_> {
    /// The value as a text, where it is a scalar that is not null.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone().into_owned()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Number(number) => Some((*number).to_owned()),
            Self::Boolean(value) => Some(value.to_string()),
            Self::Instant(instant) => Some(instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
            Self::Date(date) => Some(date.to_string()),
            Self::Null | Self::Json(_) | Self::List(_) => None,
        }
    }

    /// The value as a double, where it is a finite number.
    #[allow(clippy::cast_precision_loss)]
    pub fn to_double(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Number(number) => number.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }

    /// The value as an instant, where it is a time; a day begins at midnight in UTC.
    pub fn to_instant(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Instant(instant) => Some(*instant),
            Self::Date(date) => Some(date.and_hms_opt(0, 0, 0)?.and_utc()),
            _ => None,
        }
    }
}

impl ColumnKind {
    /// What misfits of the kind are not, in the plural: `whole numbers`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Text => "texts",
            Self::Integer => "whole numbers",
            Self::Number => "numbers",
            Self::Boolean => "true or false",
            Self::Timestamp => "timestamps",
            Self::Date => "dates",
            Self::Json => "JSON",
            Self::List => "lists of texts",
        }
    }
}

/// `None` where the value does not fit the kind.
fn cell(value: &str, kind: ColumnKind, zone: Tz) -> Option<Cell<'_>> {
    Some(match kind {
        ColumnKind::Text => Cell::Text(scalar(value)?),
        ColumnKind::Integer => Cell::Integer(integer(unquoted(value)?)?),
        ColumnKind::Number => Cell::Number(number(unquoted(value)?)?),
        ColumnKind::Boolean => Cell::Boolean(unquoted(value)?.parse().ok()?),
        ColumnKind::Timestamp => Cell::Instant(parse_instant(&json::text(value)?, zone)?),
        ColumnKind::Date => Cell::Date(parse_date(&json::text(value)?)?),
        ColumnKind::Json => Cell::Json(json::for_jsonb(value).0),
        ColumnKind::List => Cell::List(list(value)?),
    })
}

/// A text, or a number or boolean by its JSON spelling, as some projects keep phones in a bigint.
fn scalar(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first()? {
        b'"' => json::text(value).map(without_nul),
        b'{' | b'[' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

fn without_nul(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text }
}

/// A number or word, also where it was sent as a text.
fn unquoted(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value).trim();
    (!inner.contains('\\')).then_some(inner)
}

/// A whole number of 64 bits, also where it is spelt with a fraction of zeros or an exponent: told by its digits.
fn integer(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number = number(text)?;
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let point = i64::try_from(whole.len()).ok()? + exponent.parse::<i64>().ok()?;
    if significant.trim_start_matches('0').is_empty() {
        return Some(0);
    }
    let zeros = usize::try_from(point).ok()?.checked_sub(significant.len())?;
    (zeros <= 20).then(|| format!("{sign}{significant}{}", "0".repeat(zeros)).parse().ok())?
}

/// The digits of a number that `numeric` holds.
fn number(text: &str) -> Option<&str> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
    (plain && json::fits_numeric(text) && text.parse::<f64>().is_ok()).then_some(text)
}

/// A list of texts; a lone text is a list of one, nulls in it are dropped.
fn list(value: &str) -> Option<Vec<Cow<'_, str>>> {
    if !value.starts_with('[') {
        return Some(vec![scalar(value)?]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(value).ok()?;
    items.into_iter().map(RawValue::get).filter(|item| *item != "null").map(scalar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str, kind: ColumnKind) -> Option<Cell<'_>> {
        cell(value, kind, Tz::UTC)
    }

    #[test]
    fn numbers_keep_their_digits_and_whole_ones_are_integers() {
        assert_eq!(read("72.50", ColumnKind::Number), Some(Cell::Number("72.50")));
        assert_eq!(
            read("1234567890123456789012", ColumnKind::Number),
            Some(Cell::Number("1234567890123456789012"))
        );
        assert_eq!(read("\"12.5\"", ColumnKind::Number), Some(Cell::Number("12.5")));
        for none in ["\"NaN\"", "\"Infinity\"", "1e200000", "true", "[1]", "\"\"", "\"1,5\""] {
            assert_eq!(read(none, ColumnKind::Number), None, "{none}");
        }
        assert_eq!(read("80.0", ColumnKind::Integer), Some(Cell::Integer(80)));
        assert_eq!(read("9223372036854775807", ColumnKind::Integer), Some(Cell::Integer(i64::MAX)));
        for (whole, number) in [
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("-1.5e1", -15),
            ("0.00", 0),
            ("12e3", 12_000),
            ("100.0e-2", 1),
        ] {
            assert_eq!(read(whole, ColumnKind::Integer), Some(Cell::Integer(number)), "{whole}");
        }
        for none in [
            "80.5",
            "9223372036854775808",
            "1e300",
            "\"oitenta\"",
            "9007199254740992.9",
            "0.99999999999999999999",
            "1.00000000000000000001",
            "15e-1",
        ] {
            assert_eq!(read(none, ColumnKind::Integer), None, "{none}");
        }
    }

    #[test]
    fn texts_take_scalars_and_lists_take_a_lone_one() {
        assert_eq!(read("5511987654321", ColumnKind::Text), Some(Cell::Text("5511987654321".into())));
        assert_eq!(read(r#"{"a":1}"#, ColumnKind::Text), None);
        assert_eq!(read("\"casa\"", ColumnKind::List), Some(Cell::List(vec!["casa".into()])));
        assert_eq!(
            read("[\"a\", null, 3]", ColumnKind::List),
            Some(Cell::List(vec!["a".into(), "3".into()]))
        );
        assert_eq!(read("[{}]", ColumnKind::List), None);
    }

    #[test]
    fn a_nul_is_replaced_for_every_sink() {
        assert_eq!(read(r#""a\u0000b""#, ColumnKind::Text), Some(Cell::Text("a\u{fffd}b".into())));
        assert_eq!(read(r#"["\u0000"]"#, ColumnKind::List), Some(Cell::List(vec!["\u{fffd}".into()])));
        let json = read(r#"{"a":"\u0000"}"#, ColumnKind::Json);
        assert!(matches!(json, Some(Cell::Json(json)) if !json.contains("u0000")));
    }

    #[test]
    fn times_and_booleans_are_read_and_others_refused() {
        assert!(matches!(read("\"2026-05-01 12:00:00-03\"", ColumnKind::Timestamp), Some(Cell::Instant(_))));
        assert_eq!(read("\"infinity\"", ColumnKind::Timestamp), None);
        assert_eq!(read("1767225600", ColumnKind::Timestamp), None);
        assert_eq!(read("\"true\"", ColumnKind::Boolean), Some(Cell::Boolean(true)));
        assert_eq!(read("1", ColumnKind::Boolean), None);
    }

    fn key(kind: KeyKind, row: &str) -> Result<String, RowError> {
        let mut definition =
            crate::domain::Catalog::built_in().get("leads").expect("leads").definition().clone();
        definition.key.kind = kind;
        Row::of(Table::new(definition), row).expect("an object").key()
    }

    #[test]
    fn a_key_has_one_spelling_and_its_own_type() {
        let uuid = "5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01";
        let upper = format!(r#"{{"id":"{}"}}"#, uuid.to_uppercase());
        assert_eq!(key(KeyKind::Uuid, &upper).as_deref(), Ok(uuid));
        assert_eq!(key(KeyKind::Bigint, r#"{"id":9007199254740993}"#).as_deref(), Ok("9007199254740993"));
        assert_eq!(key(KeyKind::Bigint, r#"{"id":"007"}"#).as_deref(), Ok("7"));
        let long = "é".repeat(MAX_KEY_BYTES / 2);
        for text in ["ção/1", "", " a\tb\n", "a\u{7f}\u{1}", "\"'\\,%2F", &*long] {
            let row = serde_json::json!({ "id": text }).to_string();
            assert_eq!(key(KeyKind::Text, &row).as_deref(), Ok(text));
            assert_eq!(KeyKind::Text.spelled(text).as_deref(), Some(text));
        }
        assert_eq!(KeyKind::Uuid.spelled(&uuid.to_uppercase()).as_deref(), Some(uuid));
        assert_eq!(KeyKind::Bigint.spelled("007").as_deref(), Some("7"));
        for (kind, text) in [
            (KeyKind::Uuid, "7"),
            (KeyKind::Bigint, "9223372036854775808"),
            (KeyKind::Text, "a\0"),
            (KeyKind::Text, &*format!("{long}a")),
        ] {
            assert_eq!(kind.spelled(text), None, "{kind:?} {text}");
        }
        for (kind, row) in [
            (KeyKind::Uuid, r#"{"id":7}"#),
            (KeyKind::Uuid, r#"{"id":null}"#),
            (KeyKind::Uuid, "{}"),
            (KeyKind::Bigint, r#"{"id":1.5}"#),
            (KeyKind::Bigint, r#"{"id":9223372036854775808}"#),
            (KeyKind::Text, &*format!(r#"{{"id":"{long}a"}}"#)),
            (KeyKind::Text, r#"{"id":"a\ufffd"}"#),
            (KeyKind::Text, r#"{"id":"a\u0000"}"#),
            (KeyKind::Text, r#"{"id":"\ud800"}"#),
            (KeyKind::Text, r#"{"id":["a"]}"#),
        ] {
            assert!(key(kind, row).is_err(), "{kind:?} {row}");
        }
    }
}
