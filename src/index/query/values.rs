//! What may be asked of a field, by its kind.

use std::{
    net::{IpAddr, Ipv6Addr},
    ops::Bound,
};

use chrono::{DateTime, TimeZone as _};
use chrono_tz::Tz;

use super::{
    Part, Query, QueryError, Test, Words, dates,
    lexer::{At, Word, error, shown},
};
use crate::index::{Field, FieldKind, words};

/// Longest pattern and fuzzy word, in characters: what they are turned into grows with them, and the servers stop at
/// about twice as many.
const MAX_PATTERN: usize = 200;

/// Most `?` behind a `*`: each may double what the pattern is turned into.
const MAX_LOOSE: usize = 6;

/// Whether a bound includes its value.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub(super) value: String,
    pub(super) inclusive: bool,
}

/// A value by itself; `at` is where it stands.
pub(super) fn is(field: &'static Field, text: &str, at: At, now: DateTime<Tz>) -> Result<Test, QueryError> {
    Ok(match field.kind {
        // Any word of an address would be everybody of its provider, any of `google-ads` every kind of ads.
        FieldKind::Text => Test::Phrase(words_of(field, text, at)?, 0),
        FieldKind::Keyword => Test::Is(text.to_owned()),
        FieldKind::Boolean => match text {
            "true" => Test::Boolean(true),
            "false" => Test::Boolean(false),
            _ => return Err(unfit(field, text, at)),
        },
        FieldKind::Ip => {
            let (first, last) = addresses(text).ok_or_else(|| unfit(field, text, at))?;
            Test::Addresses(Bound::Included(first), Bound::Included(last))
        }
        _ => {
            let edge = Some(Edge { value: text.to_owned(), inclusive: true });
            let range = between(field, edge.clone(), edge, at, now)?;
            if let Test::Longs(Bound::Included(low), Bound::Included(high)) = range
                && low > high
            {
                return Err(unfit(field, text, at));
            }
            range
        }
    })
}

/// Words in their order. Of a field without words it is one value.
pub(super) fn phrase(
    field: &'static Field,
    text: &str,
    slop: u32,
    at: At,
    now: DateTime<Tz>,
) -> Result<Test, QueryError> {
    match field.kind {
        FieldKind::Text => {
            let words = words_of(field, text, at)?;
            let again = |(n, word): (usize, &String)| words.words[..n].contains(word);
            // The embedded index would take one word for both.
            if slop > 0 && words.words.iter().enumerate().any(again) {
                let problem = "a word stands twice in a phrase whose words may move";
                return Err(error(at, problem, "leave out one of them, or the ~"));
            }
            Ok(Test::Phrase(words, slop))
        }
        _ => is(field, text, at, now),
    }
}

fn words_of(field: &Field, text: &str, at: At) -> Result<Words, QueryError> {
    let words = words::of(text);
    if words.is_empty() {
        return Err(no_words(field, at));
    }
    Ok(Words { text: text.to_owned(), words })
}

/// How many comparisons of the index a test comes to, near enough.
pub(super) fn cost(test: &Test) -> usize {
    match test {
        // Each becomes a machine that reads every term.
        Test::Shape(_) | Test::Like(..) => 10,
        _ => 1,
    }
}

/// A range; an absent edge is open.
pub(super) fn between(
    field: &'static Field,
    low: Option<Edge>,
    high: Option<Edge>,
    at: At,
    now: DateTime<Tz>,
) -> Result<Test, QueryError> {
    Ok(match field.kind {
        FieldKind::Long => Test::Longs(long(field, low, true, at)?, long(field, high, false, at)?),
        FieldKind::Double => {
            let read = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
            // The indices hold that -0 is less than 0.
            let zero =
                |bound: Bound<f64>, zero: f64| bound.map(|number| if number == 0.0 { zero } else { number });
            let (low, high) = (bound(field, low, at, read)?, bound(field, high, at, read)?);
            let low_zero = if matches!(low, Bound::Excluded(_)) { 0.0 } else { -0.0 };
            let high_zero = if matches!(high, Bound::Excluded(_)) { -0.0 } else { 0.0 };
            Test::Doubles(zero(low, low_zero), zero(high, high_zero))
        }
        FieldKind::Date => {
            // What is only a day is kept as its midnight in UTC, wherever it was one.
            let now = if field.is_day { Tz::UTC.from_utc_datetime(&now.naive_local()) } else { now };
            let span =
                |edge: &Edge| dates::span(&edge.value, now).ok_or_else(|| unfit(field, &edge.value, at));
            // `> 2026-11-24` begins on the 25th, and `<= 2026-11-24` ends with the 24th.
            let low = match low {
                None => Bound::Unbounded,
                Some(edge) if edge.inclusive => Bound::Included(span(&edge)?.first),
                Some(edge) => Bound::Excluded(span(&edge)?.last),
            };
            let high = match high {
                None => Bound::Unbounded,
                Some(edge) if edge.inclusive => Bound::Included(span(&edge)?.last),
                Some(edge) => Bound::Excluded(span(&edge)?.first),
            };
            Test::Dates(low, high)
        }
        FieldKind::Keyword => {
            let read = |text: &str| Some(text.to_owned());
            Test::Texts(bound(field, low, at, read)?, bound(field, high, at, read)?)
        }
        FieldKind::Ip => {
            let read = |text: &str| text.parse().ok().map(mapped);
            Test::Addresses(bound(field, low, at, read)?, bound(field, high, at, read)?)
        }
        FieldKind::Text => {
            return Err(error(
                at,
                format!("`{}` is cut into words, which have no order", field.path),
                format!("compare whole values: {}.keyword", field.path),
            ));
        }
        FieldKind::Boolean | FieldKind::Stored => {
            return Err(error(
                at,
                format!("`{}` has no order", field.path),
                format!("write {}:true or {}:false", field.path, field.path),
            ));
        }
    })
}

/// A pattern with `*` and `?`.
pub(super) fn shape(field: &'static Field, word: &Word, at: At) -> Result<Test, QueryError> {
    let parts = word.parts();
    if parts == [Part::Many] {
        return Ok(Test::Exists);
    }
    let length: usize = parts.iter().map(|part| text_of(part).map_or(1, |text| text.chars().count())).sum();
    let behind = parts.iter().skip_while(|part| **part != Part::Many);
    if length > MAX_PATTERN || behind.filter(|part| **part == Part::One).count() > MAX_LOOSE {
        return Err(error(
            at,
            format!("the pattern is too long, or more than {MAX_LOOSE} ? stand behind a *"),
            format!("write at most {MAX_PATTERN} characters and fewer ?"),
        ));
    }
    match field.kind {
        FieldKind::Keyword => Ok(Test::Shape(parts)),
        FieldKind::Text => {
            let one_word = ["a", "0"].into_iter().any(|filling| {
                let filled: String = parts.iter().map(|part| text_of(part).unwrap_or(filling)).collect();
                words::of(&filled) == [words::folded(&filled)]
            });
            if !one_word {
                return Err(many_words(field, at));
            }
            let folded = |part| match part {
                Part::Text(text) => Part::Text(words::folded(&text)),
                other => other,
            };
            Ok(Test::Shape(parts.into_iter().map(folded).collect()))
        }
        _ => Err(error(
            at,
            format!("`{}` is {}: only text has patterns", field.path, named(field.kind)),
            format!("write a range like {}:[{} TO *]", field.path, example(field.kind)),
        )),
    }
}

fn text_of(part: &Part) -> Option<&str> {
    match part {
        Part::Text(text) => Some(text),
        Part::One | Part::Many => None,
    }
}

/// A word and those like it. `edits` is absent where the query leaves it to the word's length.
pub(super) fn like(field: &'static Field, text: &str, edits: Option<u8>, at: At) -> Result<Test, QueryError> {
    let term = match field.kind {
        FieldKind::Keyword => text.to_owned(),
        FieldKind::Text => {
            let folded = words::folded(text);
            if words::of(text) != [folded.as_str()] {
                return Err(many_words(field, at));
            }
            folded
        }
        _ => {
            return Err(error(
                at,
                format!("`{}` is {}: only text has words like another", field.path, named(field.kind)),
                format!("write a range like {}:[{} TO *]", field.path, example(field.kind)),
            ));
        }
    };
    if term.chars().count() > MAX_PATTERN {
        return Err(error(
            at,
            format!("a word of more than {MAX_PATTERN} characters can't be fuzzy"),
            "leave out the ~, or write a part of it with *",
        ));
    }
    let edits = edits.unwrap_or(match term.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    });
    Ok(Test::Like(term, edits))
}

/// Any of several fields, for a term that names none.
pub(super) fn any(tests: Vec<(&'static Field, Test)>) -> Query {
    Query::Any(tests.into_iter().map(|(field, test)| Query::Field(field, test)).collect())
}

fn bound<T>(
    field: &Field,
    edge: Option<Edge>,
    at: At,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Bound<T>, QueryError> {
    let Some(edge) = edge else { return Ok(Bound::Unbounded) };
    let value = read(&edge.value).ok_or_else(|| unfit(field, &edge.value, at))?;
    Ok(if edge.inclusive { Bound::Included(value) } else { Bound::Excluded(value) })
}

/// A bound of whole numbers; a fraction is moved to the next one inside.
#[allow(clippy::cast_possible_truncation)]
fn long(field: &Field, edge: Option<Edge>, lower: bool, at: At) -> Result<Bound<i64>, QueryError> {
    let Some(edge) = edge else { return Ok(Bound::Unbounded) };
    if let Ok(whole) = edge.value.parse::<i64>() {
        return Ok(if edge.inclusive { Bound::Included(whole) } else { Bound::Excluded(whole) });
    }
    let number = edge.value.parse::<f64>().ok().filter(|number| number.abs() < 9e15);
    let number = number.ok_or_else(|| unfit(field, &edge.value, at))?;
    let inside = if lower { number.ceil() } else { number.floor() };
    let is_whole = number.fract() == 0.0;
    Ok(if is_whole && !edge.inclusive {
        Bound::Excluded(inside as i64)
    } else {
        Bound::Included(inside as i64)
    })
}

/// An address, or the first and last of a network like `10.0.0.0/8`.
fn addresses(text: &str) -> Option<(Ipv6Addr, Ipv6Addr)> {
    let Some((base, length)) = text.split_once('/') else {
        let address = mapped(text.parse().ok()?);
        return Some((address, address));
    };
    let base: IpAddr = base.parse().ok()?;
    let length: u32 = length.parse().ok()?;
    let hosts = (if base.is_ipv4() { 32_u32 } else { 128 }).checked_sub(length)?;
    let mask = if hosts == 128 { u128::MAX } else { (1_u128 << hosts) - 1 };
    let base = u128::from(mapped(base));
    Some((Ipv6Addr::from(base & !mask), Ipv6Addr::from(base | mask)))
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn unfit(field: &Field, text: &str, at: At) -> QueryError {
    let shown = shown(text);
    error(
        at,
        format!("`{shown}` does not fit `{}`, which is {}", field.path, named(field.kind)),
        format!("write {}:{}", field.path, example(field.kind)),
    )
}

fn no_words(field: &Field, at: At) -> QueryError {
    error(
        at,
        format!("no word of `{}` can match: there is no letter or digit in it", field.path),
        format!("for signs look at whole values: {}.keyword:\"…\"", field.path),
    )
}

fn many_words(field: &Field, at: At) -> QueryError {
    error(
        at,
        format!("`{}` is cut into words, and no single word can look like this", field.path),
        format!("look at whole values with {}.keyword, or at one word", field.path),
    )
}

fn named(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text => "text",
        FieldKind::Keyword => "an exact value",
        FieldKind::Long => "a whole number",
        FieldKind::Double => "a number",
        FieldKind::Boolean => "true or false",
        FieldKind::Date => "a date",
        FieldKind::Ip => "an IP address",
        FieldKind::Stored => "not searchable",
    }
}

fn example(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text | FieldKind::Keyword | FieldKind::Stored => "\"a text\"",
        FieldKind::Long => "50",
        FieldKind::Double => "50.5",
        FieldKind::Boolean => "true",
        FieldKind::Date => "2026-11-24 (or \"2026-11-24T10:30:00Z\", or now-7d)",
        FieldKind::Ip => "10.1.2.3 (or a network, \"10.0.0.0/8\")",
    }
}
