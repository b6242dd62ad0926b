//! The one error that crosses a port: what failed, on what, and what to do next.
//!
//! Adapters translate their clients' errors into a [`Fault`] in one table each; the engine decides from
//! [`FaultKind`] alone, so whether something is retried never depends on who reported it.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::next_step::{NextStep, Remark};

/// What the engine may do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Passes by itself (timeout, 429, 5xx, leader change, serialization failure): try again with backoff.
    Transient,
    /// Needs a person (wrong key, missing permission, missing table): a sync fails at once, a drain keeps trying
    /// slowly and reports it.
    Misconfigured,
    /// Another worker owns the partition now: drop what is held and claim again.
    Fenced,
    /// The request itself is wrong (a filter the source refuses, an unknown id): the caller must change it.
    Invalid,
}

/// A failed operation on an outside part.
///
/// Neither text may carry a secret or a row's values: both reach logs and tool answers.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// The part that failed: `supabase`, `kafka`, `postgres`, `elasticsearch`, or of the embedded ones `sample`,
    /// `embedded` (the log), `sqlite`, `tantivy`.
    pub part: &'static str,
    /// What was attempted and on what, then why it failed.
    pub message: String,
    /// What the operator should do next.
    pub advice: NextStep,
    /// Decides the engine's reaction.
    pub kind: FaultKind,
    /// How long the part asked to be left alone, if it said so.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault of any kind, without a requested pause.
    pub fn new(
        part: &'static str,
        kind: FaultKind,
        message: impl Into<String>,
        advice: impl Into<NextStep>,
    ) -> Self {
        Self { part, message: message.into(), advice: advice.into(), kind, retry_after: None }
    }

    /// A fault that passes by itself.
    pub fn transient(part: &'static str, message: impl Into<String>, advice: impl Into<NextStep>) -> Self {
        Self::new(part, FaultKind::Transient, message, advice)
    }

    /// A fault that needs a person.
    pub fn misconfigured(
        part: &'static str,
        message: impl Into<String>,
        advice: impl Into<NextStep>,
    ) -> Self {
        Self::new(part, FaultKind::Misconfigured, message, advice)
    }

    /// What is to be said about it.
    pub fn remark(&self) -> Remark {
        Remark::new(format!("{}: {}", self.part, self.message), self.advice.clone())
    }

    /// Sets the pause the part asked for.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Option<Duration>) -> Self {
        self.retry_after = pause;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remark().fmt(f)
    }
}

impl std::error::Error for Fault {}
