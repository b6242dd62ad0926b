//! The reader of Lucene's syntax.

use std::sync::LazyLock;

use chrono::DateTime;
use chrono_tz::Tz;
use serde_json::Value;

use crate::{
    domain::Catalog,
    index::{IndexName, Indices, elasticsearch::query_dsl, query, words},
};

/// Groups in groups that the search servers take.
const MAX_GROUPS: usize = 20;

/// What was read of a query in Lucene's syntax; `None` where it was refused.
///
/// # Panics
/// When a refusal does not teach, or when a search server would be asked more than it takes.
pub fn lucene(text: &str, index: IndexName, now: DateTime<Tz>) -> Option<query::Query> {
    static INDICES: LazyLock<Indices> = LazyLock::new(|| Indices::of(Catalog::built_in()));
    match query::parse(text, INDICES.fields(index), now) {
        Ok(read) => {
            let asked = query_dsl(&read);
            assert!(groups(&asked) <= MAX_GROUPS, "{text:?} is asked as {asked}");
            Some(read)
        }
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.at), "{text:?}: {error}");
            assert!(!error.problem.is_empty() && !error.instead.is_empty(), "{text:?}: {error}");
            assert!(error.to_string().len() < 2_000, "{text:?}: {error}");
            None
        }
    }
}

/// The words that the embedded index cuts a text into.
pub fn words(text: &str) -> Vec<String> {
    words::of(text)
}

fn groups(asked: &Value) -> usize {
    match asked {
        Value::Object(members) => {
            let of = |(name, value): (&String, &Value)| {
                usize::from(matches!(name.as_str(), "bool" | "dis_max")) + groups(value)
            };
            members.iter().map(of).max().unwrap_or(0)
        }
        Value::Array(items) => items.iter().map(groups).max().unwrap_or(0),
        _ => 0,
    }
}
