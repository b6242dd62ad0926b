//! Questions in Lucene's syntax, as the search servers' `query_string` has it, read into a typed tree.
//!
//! Reading is strict: what is not understood, names an unknown field or does not fit a field's kind is refused with
//! where it stands and what to write instead. So zero hits always means that nothing matches. The tree holds no
//! text that an adapter would have to parse again: dates are instants, patterns are parts, numbers are numbers.

mod dates;
mod lexer;
mod names;
mod parser;
#[cfg(test)]
mod tests;
mod values;

use std::{fmt, net::Ipv6Addr, ops::Bound};

use chrono::DateTime;
use chrono_tz::Tz;

use super::{Field, Fields};
pub(super) use dates::instant;

/// A question understood in full.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// Every document.
    All,
    /// Documents with a field that passes.
    Field(&'static Field, Test),
    /// Documents that match any of these, ranked by the best one.
    Any(Vec<Query>),
    /// All of `must`, none of `must_not`, and one of `should` where there is no `must`.
    Bool(Clauses),
    /// Counts so many times as much in the ranking.
    Boosted(Box<Query>, f32),
}

/// What of a group must, should and must not match.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clauses {
    pub must: Vec<Query>,
    pub should: Vec<Query>,
    pub must_not: Vec<Query>,
}

/// What is asked of one field.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It has a value.
    Exists,
    /// It holds these words in this order, with so many moves between them.
    Phrase(Words, u32),
    /// It is this text.
    Is(String),
    /// One of its terms has this shape.
    Shape(Vec<Part>),
    /// One of its terms is at most so many edits away.
    Like(String, u8),
    /// It lies between.
    Texts(Bound<String>, Bound<String>),
    Longs(Bound<i64>, Bound<i64>),
    Doubles(Bound<f64>, Bound<f64>),
    /// Milliseconds since the epoch.
    Dates(Bound<i64>, Bound<i64>),
    Boolean(bool),
    /// Addresses; IPv4 ones as mapped into IPv6.
    Addresses(Bound<Ipv6Addr>, Bound<Ipv6Addr>),
}

impl Query {
    /// The values of texts that a document must or may have to match, each with its field.
    pub(super) fn wanted(&self, wanted: &mut Vec<(&'static Field, String)>) {
        match self {
            Self::Field(field, Test::Phrase(words, _)) => {
                wanted.push((field, words.text.clone()));
            }
            Self::Field(field, Test::Is(text)) => wanted.push((field, text.clone())),
            Self::Bool(clauses) => {
                clauses.must.iter().chain(&clauses.should).for_each(|clause| clause.wanted(wanted));
            }
            Self::Boosted(inner, _) => inner.wanted(wanted),
            // Who names no field wants a word, wherever it is.
            Self::All | Self::Any(_) | Self::Field(..) => {}
        }
    }
}

/// Words that a text is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// As it was written: a server cuts it as it cut its documents.
    pub text: String,
    /// As the embedded index cuts it; never empty.
    pub words: Vec<String>,
}

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Text(String),
    /// `?`: one character.
    One,
    /// `*`: any characters, or none.
    Many,
}

/// What is wrong with a query, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// The character it begins at, from 1.
    pub at: usize,
    pub problem: String,
    pub instead: String,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query, at character {}: {}; {}", self.at, self.problem, self.instead)
    }
}

impl std::error::Error for QueryError {}

/// A text as one value or phrase, whatever stands in it.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Reads a query to an index with these fields. `now` is what `now` stands for, and days are those of its zone.
///
/// # Errors
/// What is wrong with it, where, and what to write instead.
pub fn parse(query: &str, fields: &'static Fields, now: DateTime<Tz>) -> Result<Query, QueryError> {
    parser::Parser::new(query, fields, now).read()
}
