//! Functions that PostgreSQL has and SQLite has not, under PostgreSQL's names where a statement may call them as it is,
//! under `pg_…` where [`super::dialect`] makes the call of an operator or a cast.
//!
//! Each answers as PostgreSQL does, or with an error; a test of both stores compares them.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use rusqlite::{
    functions::Context,
    types::{Value, ValueRef},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    decimals,
    functions::{text, unfit},
    times::{Interval, Moment, Unfit},
    to_char::to_char,
};

/// Larger patterns take long over a long text.
const MAX_REGEX: usize = 1 << 20;

type Call = fn(&Context<'_>) -> rusqlite::Result<Value>;

/// Name, number of arguments and what it does.
pub(super) const FUNCTIONS: [(&str, i32, Call); 62] = [
    ("ceil", 1, |context| number(context, f64::ceil)),
    ("ceiling", 1, |context| number(context, f64::ceil)),
    ("date_part", 2, |context| of_time(context, 1, |at| at.part(&argument(context, 0)?).map(Short))),
    ("date_trunc", 2, |context| of_time(context, 1, |at| at.truncate(&argument(context, 0)?))),
    ("date_trunc", 3, |context| of_time(context, 1, |at| truncate_in_zone(context, at))),
    ("exp", 1, |context| number(context, f64::exp)),
    ("floor", 1, |context| number(context, f64::floor)),
    ("greatest", -1, |context| extreme(context, Ordering::Greater)),
    ("least", -1, |context| extreme(context, Ordering::Less)),
    ("left", 2, |context| cut(context, false)),
    ("ln", 1, |context| number(context, f64::ln)),
    ("log", 1, |context| number(context, f64::log10)),
    ("log10", 1, |context| number(context, f64::log10)),
    ("pg_add", 2, |context| reckon(context, i64::checked_add, decimals::add)),
    ("pg_add_days", 2, |context| of_time(context, 0, |at| at.plus_days(integer(context, 1)?))),
    ("pg_at_time_zone", 2, |context| of_time(context, 0, |at| at.at_time_zone(&argument(context, 1)?))),
    ("pg_bigint", 1, whole),
    ("pg_boolean", 1, boolean),
    ("pg_date", 1, |context| of_time(context, 0, |at| Ok(at.to_day()))),
    ("pg_days_between", 2, |context| of_times(context, 0, |a, b| Ok(a.days_since(b)))),
    ("pg_divide", 2, divide),
    ("pg_double", 1, |context| of_text(context, |_| real(context, 0))),
    ("pg_epoch", 1, |context| of_interval(context, |interval| Ok(interval.seconds(true)))),
    ("pg_even", 1, |context| of_text(context, |_| Ok(real(context, 0)?.round_ties_even()))),
    ("pg_integer", 1, whole),
    ("pg_interval_seconds", 1, |context| of_interval(context, |interval| Ok(interval.seconds(false)))),
    ("pg_interval_times", 2, |context| {
        of_interval(context, |interval| Ok(interval.times(real(context, 1)?)?.write()))
    }),
    ("pg_json_elements", 1, |context| json_elements(context, true)),
    ("pg_json_has", 2, json_has),
    ("pg_json_text", 1, |context| json(context, false)),
    ("pg_json_texts", 1, |context| json_elements(context, false)),
    ("pg_json_typeof", 1, json_typeof),
    ("pg_jsonb_text", 1, |context| json(context, true)),
    ("pg_lower", 1, |context| of_text(context, |text| Ok(text.to_lowercase()))),
    ("pg_minus", 2, |context| of_time(context, 0, |at| at.plus(interval(context, 1)?.times(-1.0)?))),
    ("pg_multiply", 2, |context| reckon(context, i64::checked_mul, decimals::multiply)),
    ("pg_nonzero", 1, nonzero),
    ("pg_number", 1, |context| of_text(context, |_| real(context, 0))),
    ("pg_number_text", 1, |context| of_text(context, |_| Ok(real(context, 0)?.to_string()))),
    ("pg_part", 2, |context| of_time(context, 1, |at| at.part(&argument(context, 0)?).map(Short))),
    ("pg_part_between", 3, |context| of_times(context, 1, |a, b| a.part_since(b, &argument(context, 0)?))),
    ("pg_plus", 2, |context| of_time(context, 0, |at| at.plus(interval(context, 1)?))),
    ("pg_regexp", 2, |context| matches(context, false)),
    ("pg_regexp_i", 2, |context| matches(context, true)),
    ("pg_round", 2, round),
    ("pg_substr", 2, substr),
    ("pg_substr", 3, substr),
    ("pg_subtract", 2, |context| reckon(context, i64::checked_sub, decimals::subtract)),
    ("pg_time_text", 1, |context| of_time(context, 0, |at| Ok(at.write_as_postgres()))),
    ("pg_timestamp", 1, |context| of_time(context, 0, |at| Ok(at.to_local()))),
    ("pg_timestamptz", 1, |context| of_time(context, 0, |at| Ok(at.to_instant()))),
    ("pg_upper", 1, |context| of_text(context, |text| Ok(text.to_uppercase()))),
    ("pg_uuid", 1, |context| of_text(context, uuid)),
    ("pow", 2, power),
    ("power", 2, power),
    ("right", 2, |context| cut(context, true)),
    ("split_part", 3, split_part),
    ("sqrt", 1, |context| number(context, f64::sqrt)),
    ("to_char", 2, |context| of_time(context, 0, |at| to_char(at, &argument(context, 1)?))),
    ("to_timestamp", 1, |context| {
        of_text(context, |_| {
            let since = Interval::parse(&format!("{} seconds", real(context, 0)?))?;
            Moment::parse("1970-01-01T00:00:00Z")?.plus(since)
        })
    }),
    ("trunc", 1, |context| number(context, f64::trunc)),
    ("mod", 2, modulo),
];

/// What a function answers with.
trait Answer {
    fn value(self) -> Value;
}

impl Answer for Moment {
    fn value(self) -> Value {
        Value::Text(self.write())
    }
}

impl Answer for String {
    fn value(self) -> Value {
        Value::Text(self)
    }
}

impl Answer for f64 {
    fn value(self) -> Value {
        Value::Real(self)
    }
}

/// A number that is a whole one where it has no fraction, as PostgreSQL writes it.
struct Short(f64);

impl Answer for Short {
    #[expect(clippy::cast_possible_truncation, reason = "far inside of the type")]
    fn value(self) -> Value {
        if self.0.fract() == 0.0 && self.0.abs() < 9.0e15 {
            Value::Integer(self.0 as i64)
        } else {
            Value::Real(self.0)
        }
    }
}

impl Answer for Value {
    fn value(self) -> Value {
        self
    }
}

impl Answer for i64 {
    fn value(self) -> Value {
        Value::Integer(self)
    }
}

/// NULL for NULL, as of every function here but two.
fn strict<A: Answer>(
    context: &Context<'_>,
    call: impl FnOnce() -> Result<A, Unfit>,
) -> rusqlite::Result<Value> {
    if (0..context.len()).any(|i| context.get_raw(i) == ValueRef::Null) {
        return Ok(Value::Null);
    }
    call().map(Answer::value).map_err(unfit)
}

fn argument(context: &Context<'_>, i: usize) -> Result<String, Unfit> {
    text(context, i).ok().flatten().map(std::borrow::Cow::into_owned).ok_or("a value is no text")
}

fn of_text<A: Answer>(
    context: &Context<'_>,
    call: impl FnOnce(&str) -> Result<A, Unfit>,
) -> rusqlite::Result<Value> {
    strict(context, || call(&argument(context, 0)?))
}

fn of_time<A: Answer>(
    context: &Context<'_>,
    i: usize,
    call: impl FnOnce(Moment) -> Result<A, Unfit>,
) -> rusqlite::Result<Value> {
    strict(context, || call(Moment::parse(&argument(context, i)?)?))
}

fn of_times<A: Answer>(
    context: &Context<'_>,
    i: usize,
    call: impl FnOnce(Moment, Moment) -> Result<A, Unfit>,
) -> rusqlite::Result<Value> {
    strict(context, || {
        call(Moment::parse(&argument(context, i)?)?, Moment::parse(&argument(context, i + 1)?)?)
    })
}

fn of_interval<A: Answer>(
    context: &Context<'_>,
    call: impl FnOnce(Interval) -> Result<A, Unfit>,
) -> rusqlite::Result<Value> {
    strict(context, || call(interval(context, 0)?))
}

fn interval(context: &Context<'_>, i: usize) -> Result<Interval, Unfit> {
    Interval::parse(&argument(context, i)?)
}

/// In the zone's own days and hours.
fn truncate_in_zone(context: &Context<'_>, at: Moment) -> Result<Moment, Unfit> {
    let zone = argument(context, 2)?;
    at.to_instant().at_time_zone(&zone)?.truncate(&argument(context, 0)?)?.at_time_zone(&zone)
}

#[expect(clippy::cast_precision_loss, reason = "the nearest double, as of SQLite's own cast")]
pub(super) fn real(context: &Context<'_>, i: usize) -> Result<f64, Unfit> {
    let number = match context.get_raw(i) {
        ValueRef::Integer(number) => Some(number as f64),
        ValueRef::Real(number) => Some(number),
        _ => argument(context, i)?.trim().parse().ok(),
    };
    number.filter(|number| number.is_finite()).ok_or("a value is no number")
}

fn integer(context: &Context<'_>, i: usize) -> Result<i64, Unfit> {
    match context.get_raw(i) {
        ValueRef::Integer(number) => Ok(number),
        _ => Err("a value is no whole number"),
    }
}

fn number(context: &Context<'_>, call: fn(f64) -> f64) -> rusqlite::Result<Value> {
    strict(context, || {
        let number = call(real(context, 0)?);
        if number.is_finite() { Ok(Short(number)) } else { Err("a number is out of the function's range") }
    })
}

fn power(context: &Context<'_>) -> rusqlite::Result<Value> {
    strict(context, || {
        let number = real(context, 0)?.powf(real(context, 1)?);
        if number.is_finite() { Ok(number) } else { Err("a number is out of the function's range") }
    })
}

/// Of two whole numbers a whole one, of others what their digits make.
fn reckon(
    context: &Context<'_>,
    whole: fn(i64, i64) -> Option<i64>,
    decimal: fn(f64, f64) -> f64,
) -> rusqlite::Result<Value> {
    strict(context, || {
        if let (ValueRef::Integer(a), ValueRef::Integer(b)) = (context.get_raw(0), context.get_raw(1))
            && let Some(number) = whole(a, b)
        {
            return Ok(Value::Integer(number));
        }
        let number = decimal(real(context, 0)?, real(context, 1)?);
        if number.is_finite() { Ok(Value::Real(number)) } else { Err("a number is too large") }
    })
}

fn divide(context: &Context<'_>) -> rusqlite::Result<Value> {
    strict(context, || match real(context, 1)? {
        0.0 => Err(ZERO),
        divisor => Ok(decimals::divide(real(context, 0)?, divisor)),
    })
}

const ZERO: Unfit = "it divides by zero; use nullif(divisor, 0)";

/// What a division leaves of whole numbers, or of decimal ones: of doubles, `1 % 0.1` would leave nearly 0.1.
fn modulo(context: &Context<'_>) -> rusqlite::Result<Value> {
    strict(context, || {
        if let (ValueRef::Integer(a), ValueRef::Integer(b)) = (context.get_raw(0), context.get_raw(1)) {
            return if b == 0 { Err(ZERO) } else { Ok(Value::Integer(a.wrapping_rem(b))) };
        }
        let (a, b) = (real(context, 0)?, real(context, 1)?);
        if b == 0.0 {
            return Err(ZERO);
        }
        let places = places(a).max(places(b));
        moved(moved(a, places)? % moved(b, places)?, -places).map(Value::Real)
    })
}

/// To so many places, or to tens and hundreds where they are fewer than none; a half goes away from zero.
fn round(context: &Context<'_>) -> rusqlite::Result<Value> {
    strict(context, || {
        // No double has a digit further from its point.
        let (number, places) = (real(context, 0)?, integer(context, 1)?.clamp(-400, 400));
        let whole = moved(number, places)?;
        // Minus zero is zero.
        if whole.is_finite() { Ok(moved(whole.round(), -places)? + 0.0) } else { Ok(number) }
    })
}

/// The number with its point further right, its digits the same: 2.345 times 100 is 234.49999999999997.
fn moved(number: f64, places: i64) -> Result<f64, Unfit> {
    format!("{number}e{places}").parse().map_err(|_| "a number is out of the function's range")
}

/// How many digits stand behind the point.
fn places(number: f64) -> i64 {
    let digits = number.to_string();
    let behind = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    i64::try_from(behind).unwrap_or(i64::MAX)
}

/// A divisor.
fn nonzero(context: &Context<'_>) -> rusqlite::Result<Value> {
    match context.get_raw(0) {
        ValueRef::Integer(0) | ValueRef::Real(0.0) => Err(unfit(ZERO)),
        _ => context.get(0),
    }
}

fn json(context: &Context<'_>, whole: bool) -> rusqlite::Result<Value> {
    of_text(context, |text| Ok(json_text(text, whole)?.map_or(Value::Null, Value::Text)))
}

/// JSON as text: what stands inside of a text, unless it is wanted whole, else as PostgreSQL writes it.
fn json_text(text: &str, whole: bool) -> Result<Option<String>, Unfit> {
    // A number keeps its digits.
    if !text.starts_with(['{', '[', '"', 'n']) {
        return Ok(Some(text.to_owned()));
    }
    Ok(match serde_json::from_str(text).map_err(|_| "a value is no JSON")? {
        serde_json::Value::Null if !whole => None,
        serde_json::Value::String(text) if !whole => Some(text),
        value => {
            let mut written = String::new();
            write_jsonb(&value, &mut written);
            Some(written)
        }
    })
}

/// The elements of a list of JSON as texts, in a list.
fn json_elements(context: &Context<'_>, whole: bool) -> rusqlite::Result<Value> {
    of_text(context, |text| {
        let elements: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|_| "a value is no list to take apart; json_each(x) takes any JSON")?;
        let texts: Vec<Option<String>> =
            elements.into_iter().map(|element| json_text(element.get(), whole)).collect::<Result<_, _>>()?;
        Ok(serde_json::Value::from(texts).to_string())
    })
}

/// Whether JSON is an object with the key, a list with the text, or the text itself.
fn json_has(context: &Context<'_>) -> rusqlite::Result<Value> {
    of_text(context, |text| {
        let key = argument(context, 1)?;
        let is_key = |value: &serde_json::Value| value.as_str() == Some(key.as_str());
        Ok(i64::from(match serde_json::from_str(text).map_err(|_| "a value is no JSON")? {
            serde_json::Value::Object(fields) => fields.contains_key(&key),
            serde_json::Value::Array(values) => values.iter().any(is_key),
            value => is_key(&value),
        }))
    })
}

/// Of which of its types JSON is.
fn json_typeof(context: &Context<'_>) -> rusqlite::Result<Value> {
    of_text(context, |text| {
        let json: &RawValue = serde_json::from_str(text).map_err(|_| "a value is no JSON")?;
        Ok(match json.get().as_bytes().first() {
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b'"') => "string",
            Some(b't' | b'f') => "boolean",
            Some(b'n') => "null",
            _ => "number",
        }
        .to_owned())
    })
}

/// As it is stored, however it is spelled.
fn uuid(text: &str) -> Result<String, Unfit> {
    let uuid = Uuid::parse_str(text.trim()).map_err(|_| "a value is no uuid")?;
    Ok(uuid.to_string())
}

/// Keys by length and then by their bytes, and a space behind each comma and colon.
fn write_jsonb(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_jsonb(value, out);
            }
            out.push(']');
        }
        serde_json::Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| (key.len(), key.as_str()));
            out.push('{');
            for (i, (key, value)) in fields.into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push_str(": ");
                write_jsonb(value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Characters by their places, which may begin before the first.
fn substr(context: &Context<'_>) -> rusqlite::Result<Value> {
    of_text(context, |text| {
        let from = integer(context, 1)?;
        let end = match context.len() {
            3 => match integer(context, 2)? {
                length if length < 0 => return Err("substring of a negative length"),
                length => from.saturating_add(length),
            },
            _ => i64::MAX,
        };
        let place = |place: i64| usize::try_from(place.max(1) - 1).unwrap_or(usize::MAX);
        let (first, behind) = (place(from), place(end));
        Ok(text.chars().skip(first).take(behind.saturating_sub(first)).collect::<String>())
    })
}

/// The nearest whole number, as of a `numeric`; SQLite's own cast cuts.
#[expect(clippy::cast_possible_truncation, reason = "checked before")]
fn whole(context: &Context<'_>) -> rusqlite::Result<Value> {
    strict(context, || match context.get_raw(0) {
        ValueRef::Integer(number) => Ok(number),
        ValueRef::Real(number) if number.abs() < 9.0e18 => Ok(number.round() as i64),
        ValueRef::Text(_) => argument(context, 0)?.trim().parse().map_err(|_| "a value is no whole number"),
        _ => Err("a value is no whole number"),
    })
}

fn boolean(context: &Context<'_>) -> rusqlite::Result<Value> {
    strict(context, || match argument(context, 0)?.trim().to_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Ok(1),
        "0" | "f" | "false" | "n" | "no" | "off" => Ok(0),
        _ => match context.get_raw(0) {
            ValueRef::Integer(_) => Ok(1),
            _ => Err("a value is neither true nor false"),
        },
    })
}

/// The largest or smallest of what is not NULL.
fn extreme(context: &Context<'_>, side: Ordering) -> rusqlite::Result<Value> {
    let mut best: Option<Value> = None;
    for i in 0..context.len() {
        let value: Value = context.get(i)?;
        let better = match (&best, &value) {
            (_, Value::Null) => false,
            (None, _) => true,
            (Some(Value::Text(best)), Value::Text(value)) => value.cmp(best) == side,
            (Some(Value::Integer(best)), Value::Integer(value)) => value.cmp(best) == side,
            (Some(Value::Integer(_) | Value::Real(_)), Value::Integer(_) | Value::Real(_)) => {
                let of = |value: &Value| match value {
                    #[expect(
                        clippy::cast_precision_loss,
                        reason = "as SQLite compares them, but for huge ones"
                    )]
                    Value::Integer(number) => *number as f64,
                    Value::Real(number) => *number,
                    _ => f64::NAN,
                };
                best.as_ref().and_then(|best| of(&value).partial_cmp(&of(best))) == Some(side)
            }
            _ => return Err(unfit("greatest and least compare values of one type")),
        };
        if better {
            best = Some(value);
        }
    }
    Ok(best.unwrap_or(Value::Null))
}

/// The first or last characters; a negative number leaves so many out at the other end.
fn cut(context: &Context<'_>, from_end: bool) -> rusqlite::Result<Value> {
    of_text(context, |text| {
        let count = integer(context, 1)?;
        let length = text.chars().count();
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let wanted = if count < 0 { length.saturating_sub(wanted) } else { wanted.min(length) };
        Ok(if from_end {
            text.chars().skip(length - wanted).collect::<String>()
        } else {
            text.chars().take(wanted).collect()
        })
    })
}

fn split_part(context: &Context<'_>) -> rusqlite::Result<Value> {
    of_text(context, |text| {
        let (separator, n) = (argument(context, 1)?, integer(context, 2)?);
        let at = |n: i64| usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX).saturating_sub(1);
        let part = match (separator.is_empty(), n) {
            (_, 0) => return Err("split_part counts from 1"),
            (true, 1 | -1) => Some(text),
            (true, _) => None,
            (false, 1..) => text.split(&*separator).nth(at(n)),
            (false, _) => text.rsplit(&*separator).nth(at(n)),
        };
        Ok(part.unwrap_or_default().to_owned())
    })
}

fn matches(context: &Context<'_>, ignore_case: bool) -> rusqlite::Result<Value> {
    if context.len() == 2 && (0..2).any(|i| context.get_raw(i) == ValueRef::Null) {
        return Ok(Value::Null);
    }
    let regex = context.get_or_create_aux(1, |pattern| -> Result<Regex, &'static str> {
        let pattern = pattern.as_str().map_err(|_| "a pattern is no text")?;
        if pattern.contains("\\b") || pattern.contains("\\B") {
            return Err("in a pattern \\b is no border of a word; leave it out");
        }
        RegexBuilder::new(&with_letters(pattern))
            .case_insensitive(ignore_case)
            .dot_matches_new_line(true)
            .size_limit(MAX_REGEX)
            .build()
            .map_err(|_| "a pattern is not one this store can match, or too large")
    })?;
    strict(context, || Ok(i64::from(regex.is_match(&argument(context, 0)?))))
}

/// Classes of letters mean those of every alphabet.
fn with_letters(pattern: &str) -> String {
    [
        ("[:alpha:]", r"\p{Alphabetic}"),
        ("[:upper:]", r"\p{Uppercase}"),
        ("[:lower:]", r"\p{Lowercase}"),
        ("[:alnum:]", r"\p{Alphabetic}\p{Nd}"),
    ]
    .into_iter()
    .fold(pattern.to_owned(), |pattern, (class, letters)| pattern.replace(class, letters))
}
