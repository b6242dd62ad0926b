//! The source port: reads rows page by page, oldest change first.
//!
//! A source promises that following [`Page::next`] from the first page until it is `None` shows every row that
//! matched the query when the reading began and was not deleted meanwhile, however few rows the server returns at
//! a time. A row that changes while it is read may be shown twice, and rows without a key are counted.

pub mod description;
pub mod sample;
pub mod supabase;

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use self::description::{Description, Difference};
use crate::{
    domain::{Compare, Json, Table},
    fault::Fault,
};

/// No row was written before this in earnest. Who asks for rows from here on, or from before, asks for all of them, whatever
/// they are dated: `0001-01-01`, `-infinity`.
pub const BEGINNING: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// Which rows of a table to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowQuery {
    pub table: Table,
    pub scope: Scope,
    /// Rows last written at or after this instant. For a table without a modification column: created at or after. Only
    /// where the scope is [`Scope::Changed`].
    pub since: DateTime<Utc>,
    /// Of rows that don't tell when they were last written: created at or after this instant, or else `since`.
    pub created_since: Option<DateTime<Utc>>,
    /// All of these must hold.
    pub conditions: Vec<Condition>,
    /// Rows to ask for at a time; the server may return fewer.
    pub page_size: u32,
}

/// Which rows a read is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those that changed since, the oldest change first.
    #[default]
    Changed,
    /// Every row, in the order of keys: a row that changes while it is read keeps its place.
    Whole,
    /// The rows of these keys, at most a hundred.
    Keys(Vec<String>),
    /// Rows whose column, by its name downstream, holds this text somewhere, in whatever case, in the order of keys. Others
    /// may be among them: whoever asks compares.
    Holding { column: String, text: String },
    /// Rows whose column, by its name downstream, has one of these values, at most a hundred, in the order of keys.
    Having { column: String, values: Vec<String> },
}

/// What a row's column must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Condition {
    /// The column's name downstream.
    pub column: String,
    pub compare: Compare,
    pub value: String,
}

impl Condition {
    /// Reads a column, a sign and a value: `origem=google`.
    pub fn parse(text: &str) -> Option<Self> {
        const SIGNS: [(&str, Compare); 8] = [
            (">=", Compare::Gte),
            ("<=", Compare::Lte),
            ("!=", Compare::Neq),
            ("<>", Compare::Neq),
            ("==", Compare::Eq),
            (">", Compare::Gt),
            ("<", Compare::Lt),
            ("=", Compare::Eq),
        ];
        let at = text.find(['>', '<', '!', '='])?;
        let (column, rest) = text.split_at(at);
        let (sign, compare) = SIGNS.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
        let value = rest[sign.len()..].trim();
        let column = column.trim();
        // The rest of a sign that is none, as in `=>` or `=~`, is no value: none would ever be met.
        let is_value = !value.is_empty() && !value.starts_with(['=', '<', '>', '!', '~']);
        (!column.is_empty() && is_value).then(|| Self {
            column: column.to_owned(),
            compare,
            value: value.to_owned(),
        })
    }
}

/// Where the next page starts. Made by the source, opaque to everybody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageToken {
    pub(in crate::source) pass: Pass,
    /// Where the last row seen in this pass stands; `None` at its beginning.
    pub(in crate::source) last: Option<Place>,
}

/// A place among the rows of a pass: time and key of a row, as the server spelt them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::source) struct Place {
    pub(in crate::source) at: String,
    pub(in crate::source) key: String,
}

/// A table is read in passes. A NULL time never matches a time filter: those rows come first, so that a read cut short
/// later has seen all of them. Nor does a NULL key match one: nothing tells those rows apart, so that no pages of them
/// can be told apart either. They make no event; some are shown last, and all are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::source) enum Pass {
    Timeless,
    Timed,
    Keyless,
}

/// Some rows, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Each as the server sent it, byte for byte.
    pub rows: Vec<Json>,
    /// The server's time when it was asked, or this machine's just before where it does not tell.
    pub read_at: DateTime<Utc>,
    /// The modification time of the last row: every row changed before it has been shown. `None` where the table
    /// has no modification time or the page shows rows that were never modified.
    pub watermark: Option<DateTime<Utc>>,
    /// Whether the project tells when rows were modified: otherwise what was read before may have been changed since.
    pub tells_changes: bool,
    /// `None` after the last page.
    pub next: Option<PageToken>,
    /// On the last page: how many rows have no key. Only some of them are shown.
    pub without_key: u64,
}

/// Counts of one table for the dashboard, taken from the source itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableOverview {
    /// The table's name.
    pub table: String,
    /// `None` where the project has no such table, or it can't be counted: see `problem`.
    pub total: Option<u64>,
    /// Rows created in the last 24 hours, where the table has a creation time.
    pub last_24h: Option<u64>,
    /// What the table's definition counts, by name; without those whose column the project lacks.
    pub counts: Vec<(String, u64)>,
    pub breakdowns: Vec<Breakdown>,
    pub newest_at: Option<DateTime<Utc>>,
    /// What is missing and what to do.
    pub problem: Option<String>,
}

/// Rows by the values of one column, most first; null counts as `sem_<column>`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Breakdown {
    pub column: String,
    pub values: Vec<(String, u64)>,
    /// Rows behind the values; fewer than the table has when the count was cut short.
    pub rows: u64,
}

/// The newest of the rows that were asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatestChange {
    pub at: Option<DateTime<Utc>>,
    /// The server's time when it was asked.
    pub asked_at: DateTime<Utc>,
}

/// How the source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceHealth {
    /// The project's host name.
    pub host: String,
    /// The kind of key in use: `secret`, `publishable`, `service_role`, `anon`, `authenticated`, `unknown`.
    pub key: &'static str,
    /// The server's time, as far as it told.
    pub clock: Option<DateTime<Utc>>,
    /// What an operator should know although nothing failed, such as a key that row-level security may blind.
    pub warnings: Vec<SourceWarning>,
}

/// Nothing failed, but somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceWarning {
    /// What it is about, in a word or two.
    pub about: &'static str,
    pub problem: String,
    pub next_step: &'static str,
}

impl fmt::Display for SourceWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem, self.next_step)
    }
}

/// The source port.
#[async_trait]
pub trait Source: Send + Sync {
    /// `supabase`, `sample`: what status and faults call it.
    fn name(&self) -> &'static str;

    /// The project that is read, whichever table, key or columns of it. For comparing only.
    fn project(&self) -> String;

    /// Where a table's rows come from, and as whom and with which columns they are read: of another place, or to somebody
    /// else, they may be others. Holds no key, and is for comparing only.
    fn origin(&self, table: Table) -> String;

    /// Begins what the first request would wait for, and returns at once.
    fn get_ready(&self) {}

    /// The page after `after`, or the first one.
    ///
    /// # Errors
    /// A fault of the server or of the network, after the retries the server's answers allow.
    async fn page(&self, query: &RowQuery, after: Option<&PageToken>) -> Result<Page, Fault>;

    /// Counts over a whole table. A table or column that is missing is told in the answer, not by an error.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn overview(&self, table: Table) -> Result<TableOverview, Fault>;

    /// How many rows the source counts; `None` where it can't count them in time.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn row_count(&self, table: Table) -> Result<Option<u64>, Fault>;

    /// A table's columns by their names in the project, as it told them last; `None` before it did. What is selected
    /// follows from them where a column must not be read, and what is selected decides a row's identity: keep them
    /// across processes, and hand them to [`Source::seed_columns`].
    fn columns(&self, table: Table) -> Option<Vec<String>>;

    /// Reminds the source of what the project told an earlier process. What it has been told itself counts more.
    fn seed_columns(&self, table: Table, columns: Vec<String>);

    /// The tables and views that the project serves in a schema, `None` for its usual one; nothing where it does not
    /// tell.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn served(&self, schema: Option<&str>) -> Result<Option<Vec<String>>, Fault>;

    /// What the project tells of a table or view; nothing where it has none of that name.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn describe(&self, schema: Option<&str>, table: &str) -> Result<Option<Description>, Fault>;

    /// How the project's table differs from its definition.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn check(&self, table: Table) -> Result<Vec<Difference>, Fault>;

    /// How many rows of the table say that they were changed later than `at`, or created where it has no time of change;
    /// `None` where it has neither.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn rows_since(&self, table: Table, at: DateTime<Utc>) -> Result<Option<u64>, Fault>;

    /// When a row was changed last (or created, where the table has no time of change) of those that say it was later
    /// than `after`, up to `before`; `None` where it has neither. One small question.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn latest_change(
        &self,
        table: Table,
        after: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> Result<Option<LatestChange>, Fault>;

    /// Asks for something small.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn health(&self) -> Result<SourceHealth, Fault>;

    /// What to tell a user whose key may be shown only some of the rows, or none, whatever there is.
    fn blind_spot(&self) -> Option<SourceWarning>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_a_column_a_sign_and_a_value() {
        let read = |text| Condition::parse(text).map(|one| (one.column, one.compare, one.value));
        let expected =
            |column: &str, compare, value: &str| Some((column.to_owned(), compare, value.to_owned()));
        assert_eq!(read("score_qualificacao>=50"), expected("score_qualificacao", Compare::Gte, "50"));
        assert_eq!(read("origem = a=b"), expected("origem", Compare::Eq, "a=b"));
        for other in ["origem!=google", "origem<>google", "origem <> google"] {
            assert_eq!(read(other), expected("origem", Compare::Neq, "google"), "{other}");
        }
        assert_eq!(read("score==80"), expected("score", Compare::Eq, "80"));
        assert_eq!(read("score<-1"), expected("score", Compare::Lt, "-1"));
        for none in ["origem", "=google", "origem=", "origem!google", ""] {
            assert_eq!(read(none), None, "{none}");
        }
        for none in
            ["score=>80", "score=<80", "score > = 80", "score<=>80", "score===80", "origem=~go", "origem~go"]
        {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
