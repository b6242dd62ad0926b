//! The source port: reads rows page by page, oldest change first.
//!
//! A source promises that following [`Page::next`] from the first page until it is `None` shows every row that
//! matched the query when the reading began and was not deleted meanwhile, however few rows the server returns at
//! a time. A row that changes while it is read may be shown twice.

pub mod sample;
pub mod supabase;

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    domain::{JsonObject, Table},
    fault::Fault,
};

/// Which rows of a table to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowQuery {
    pub table: Table,
    /// Rows last written at or after this instant. For a table without a modification column: created at or after.
    pub since: DateTime<Utc>,
    /// Only leads with this `status_lead`.
    pub status: Option<String>,
    /// Only chat sessions with at least this many messages.
    pub min_messages: Option<u32>,
    /// Rows to ask for at a time; the server may return fewer.
    pub page_size: u32,
}

/// Where the next page starts. Made by the source, opaque to everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    pub(in crate::source) pass: Pass,
    /// Time and id of the last row seen in this pass, as the server spelt them; `None` at its beginning.
    pub(in crate::source) last: Option<(String, String)>,
}

/// A table is read in two passes: a NULL time never matches a time filter. Those rows come first, so that a read
/// cut short later has seen all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Pass {
    Timeless,
    Timed,
}

/// Some rows, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub rows: Vec<JsonObject>,
    /// The instant just before the server was asked.
    pub read_at: DateTime<Utc>,
    /// The modification time of the last row: every row changed before it has been shown. `None` where the table
    /// has no modification time or the page shows rows that were never modified.
    pub watermark: Option<DateTime<Utc>>,
    /// `None` after the last page.
    pub next: Option<PageToken>,
}

/// Counts for the dashboard, taken from the source itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    pub leads_total: u64,
    /// Leads with a score of at least [`crate::domain::QUALIFIED_SCORE`].
    pub leads_qualified: u64,
    pub leads_last_24h: u64,
    pub sessions_total: u64,
    pub sessions_active: u64,
    /// Leads by `status_lead`, most first; null counts as `sem_status`.
    pub by_status: Vec<(String, u64)>,
    /// Leads by `origem`, most first; null counts as `sem_origem`.
    pub by_origin: Vec<(String, u64)>,
    /// Rows behind `by_status` and `by_origin`; fewer than `leads_total` when the count was cut short.
    pub breakdown_rows: u64,
    pub newest_lead_at: Option<DateTime<Utc>>,
    pub newest_session_at: Option<DateTime<Utc>>,
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

    /// The page after `after`, or the first one.
    ///
    /// # Errors
    /// A fault of the server or of the network, after the retries the server's answers allow.
    async fn page(&self, query: &RowQuery, after: Option<&PageToken>) -> Result<Page, Fault>;

    /// Counts over the whole source.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn overview(&self) -> Result<Overview, Fault>;

    /// Asks for something small.
    ///
    /// # Errors
    /// As [`Source::page`].
    async fn health(&self) -> Result<SourceHealth, Fault>;

    /// What to tell a user whose query found no row at all, when the reason may be the key and not the data.
    fn empty_hint(&self) -> Option<SourceWarning>;
}
