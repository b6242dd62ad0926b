//! What the server's answers mean for the engine, in one table.
//!
//! Elasticsearch quotes field values in its reasons, so only the type of an error and the field's name are repeated.

use serde::Deserialize;

use super::PART;
use crate::fault::{Fault, FaultKind};

/// The part of an error object that is safe to read.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    error: ErrorBody,
}

/// What one answer, of a request or of an item in a bulk, calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server is busy: the same again, later.
    Again,
    /// The index or alias is not there: prepare, then the same again.
    Unprepared,
    /// Too much at once: the same in smaller parts.
    Smaller,
    /// This document can never be taken.
    Never,
    /// Needs a person.
    Person,
}

/// The table. `kind` is the error's type, such as `mapper_parsing_exception`.
pub(super) fn verdict(status: u16, kind: &str) -> Verdict {
    match (status, kind) {
        // A full disk or a read-only index is nobody's document's fault.
        (_, "cluster_block_exception" | "es_rejected_execution_exception" | "circuit_breaking_exception") => {
            Verdict::Again
        }
        (404, _) | (_, "index_not_found_exception") => Verdict::Unprepared,
        (401 | 403, _) => Verdict::Person,
        (413, _) => Verdict::Smaller,
        (408 | 429 | 500..=599, _) => Verdict::Again,
        _ => Verdict::Never,
    }
}

/// A refused request as a fault.
pub(super) fn refused(what: &str, host: &str, status: u16, body: &[u8]) -> Fault {
    let error = serde_json::from_slice::<Envelope>(body).map(|envelope| envelope.error).unwrap_or_default();
    let (kind, advice) = match verdict(status, &error.kind) {
        Verdict::Person => (
            FaultKind::Misconfigured,
            "check ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, or ELASTICSEARCH_API_KEY, and the user's rights",
        ),
        Verdict::Unprepared => {
            (FaultKind::Misconfigured, "an index or alias is missing; run `sluice migrate` to create it")
        }
        Verdict::Again if error.kind == "cluster_block_exception" => (
            FaultKind::Transient,
            "the index is blocked for writing, mostly because the disk is nearly full: make room",
        ),
        Verdict::Again => {
            (FaultKind::Transient, "tried again by itself; if it stays, look at the server's log")
        }
        Verdict::Smaller => (FaultKind::Misconfigured, "raise the server's http.max_content_length"),
        Verdict::Never => {
            (FaultKind::Misconfigured, "the server does not take this request; check its version")
        }
    };
    let kind_of_error = if error.kind.is_empty() { "no reason given" } else { &error.kind };
    Fault::new(PART, kind, format!("{what} on {host} failed: HTTP {status}, {kind_of_error}"), advice)
}

/// A request that got no answer.
pub(super) fn unanswered(what: &str, host: &str, error: &elasticsearch::Error) -> Fault {
    let reason = if error.is_timeout() { "no answer within the timeout" } else { "no connection" };
    Fault::transient(
        PART,
        format!("{what} on {host} failed: {reason}"),
        "check that the server in ELASTICSEARCH_URL runs and can be reached from here",
    )
}

/// Why a document was refused, without its values.
pub(super) fn safe_reason(error: &ErrorBody) -> String {
    let field = error.reason.as_deref().and_then(|reason| {
        let (_, after) = reason.split_once("field [")?;
        let (name, _) = after.split_once(']')?;
        let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
        (name.len() <= 100 && name.chars().all(plain)).then(|| name.to_owned())
    });
    match field {
        Some(field) => format!("{}: field {field}", error.kind),
        None => error.kind.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: &str, reason: &str) -> ErrorBody {
        ErrorBody { kind: kind.to_owned(), reason: Some(reason.to_owned()) }
    }

    #[test]
    fn only_a_document_s_own_fault_makes_it_a_dead_letter() {
        assert_eq!(verdict(400, "mapper_parsing_exception"), Verdict::Never);
        assert_eq!(verdict(400, "illegal_argument_exception"), Verdict::Never);
        assert_eq!(verdict(403, "cluster_block_exception"), Verdict::Again);
        assert_eq!(verdict(429, "cluster_block_exception"), Verdict::Again);
        assert_eq!(verdict(403, "security_exception"), Verdict::Person);
        assert_eq!(verdict(429, "es_rejected_execution_exception"), Verdict::Again);
        assert_eq!(verdict(503, "unavailable_shards_exception"), Verdict::Again);
        assert_eq!(verdict(404, "index_not_found_exception"), Verdict::Unprepared);
        assert_eq!(verdict(413, ""), Verdict::Smaller);
    }

    #[test]
    fn a_reason_keeps_the_field_and_drops_the_value() {
        let reason = "failed to parse field [score] of type [long] in document with id '1'. \
                      Preview of field's value: 'segredo'";
        assert_eq!(
            safe_reason(&body("mapper_parsing_exception", reason)),
            "mapper_parsing_exception: field score"
        );
        assert_eq!(safe_reason(&body("x", "For input string: \"segredo\"")), "x");
        assert_eq!(safe_reason(&body("x", "field [um segredo qualquer]")), "x");
    }

    #[test]
    fn a_refusal_names_host_and_next_step_and_survives_a_body_that_is_no_json() {
        let fault = refused("counting", "localhost:9200", 401, b"<html>segredo</html>");
        assert_eq!(fault.kind, FaultKind::Misconfigured);
        let text = fault.to_string();
        assert!(text.contains("localhost:9200") && text.contains("ELASTICSEARCH_USERNAME"), "{text}");
        assert!(!text.contains("segredo"), "{text}");
    }
}
