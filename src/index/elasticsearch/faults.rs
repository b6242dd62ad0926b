//! What an answer or a broken connection means, in one table.
//!
//! A dead letter must never be the price of an outage: only a status and a type that speak of the document itself
//! count against the document.

use serde::Deserialize;

use super::{PART, client::Answer};
use crate::{
    fault::{Fault, FaultKind},
    next_step::NextStep,
};

/// What to do about an answer that is not a success, be it to a request or to one document of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// The document is there in this version or a later one.
    AlreadyThere,
    /// The document, or the request, is wrong and stays so.
    Refused,
    /// More than the server takes at once.
    TooLarge,
    /// Overloaded or electing: soon again.
    Again,
    /// An index or alias is missing: prepare, then again.
    Prepare,
    /// No use in asking again right now.
    Stop(FaultKind, &'static str),
}

/// The table.
pub(super) fn reaction(status: u16, kind: &str, reason: &str) -> Reaction {
    use FaultKind::{Misconfigured, Transient};
    use Reaction::{Again, AlreadyThere, Prepare, Refused, Stop, TooLarge};
    match (status, kind) {
        (409, "version_conflict_engine_exception") => AlreadyThere,
        (_, "cluster_block_exception") => match status {
            429 => Stop(
                Transient,
                "free disk space or raise the flood-stage watermark: the index is read-only until then",
            ),
            403 => {
                Stop(Misconfigured, "remove the block from the index (index.blocks.*) to let writes through")
            }
            _ => Stop(Transient, "wait for the cluster to elect a master, or look at its health"),
        },
        (_, "index_closed_exception") => Stop(Misconfigured, "open the index again"),
        (_, "index_not_found_exception" | "aliases_not_found_exception") => Prepare,
        (_, "invalid_alias_name_exception") => Stop(
            Misconfigured,
            "an index has the name that sluice needs for an alias: reindex it under another name and delete it, \
             or set an index prefix",
        ),
        (400, "illegal_argument_exception") if reason.starts_with("no write index is defined for alias") => {
            Stop(Misconfigured, "make one index of the alias its write index (is_write_index)")
        }
        (400, "illegal_argument_exception") if reason.starts_with("pipeline with id [") => Stop(
            Misconfigured,
            "create the ingest pipeline that the index names, or remove it from the index's settings",
        ),
        // The number of shards that a cluster may have is no document's fault, and goes by this type alone: a reason may
        // quote a row.
        (400, "validation_exception") if reason.contains("shards open") => Stop(
            Misconfigured,
            "the cluster has as many shards as it may: delete indices that nobody needs, add a node, or raise \
             cluster.max_shards_per_node; it is tried again by itself",
        ),
        (401, _) => Stop(
            Misconfigured,
            "check ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, or ELASTICSEARCH_API_KEY",
        ),
        (403, _) => Stop(
            Misconfigured,
            "grant the user monitor and manage_index_templates on the cluster, and manage, write and read on the indices",
        ),
        (413, _) => TooLarge,
        (400, _) => Refused,
        (408 | 425 | 429 | 500..=599, _) => Again,
        _ => Stop(
            Misconfigured,
            "check that ELASTICSEARCH_URL is that of an Elasticsearch 7.17+ or OpenSearch 2+ server",
        ),
    }
}

/// An error as the server describes it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Cause {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(super) reason: Option<String>,
    caused_by: Option<Box<Cause>>,
}

impl Cause {
    /// The cause at the bottom, where there is one.
    pub(super) fn innermost(&self) -> Option<&Self> {
        let mut at = self.caused_by.as_deref()?;
        while let Some(deeper) = at.caused_by.as_deref() {
            at = deeper;
        }
        Some(at)
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorText,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorText {
    Described(Cause),
    Plain(String),
}

/// The error in an answer's body; an empty one where a proxy answered in the server's place.
pub(super) fn cause_of(body: &[u8]) -> Cause {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error: ErrorText::Described(cause) }) => cause,
        Ok(ErrorBody { error: ErrorText::Plain(reason) }) => {
            Cause { reason: Some(reason), ..Cause::default() }
        }
        Err(_) => Cause::default(),
    }
}

/// Turns an answer that is not a success into a fault. `tell_reason` only where the request held no row.
pub(super) fn fault_from_response(origin: &str, doing: &str, answer: &Answer, tell_reason: bool) -> Fault {
    let cause = cause_of(&answer.body);
    let reason = cause.reason.as_deref().unwrap_or_default();
    let (kind, advice) = match reaction(answer.status, &cause.kind, reason) {
        Reaction::Stop(kind, advice) => (kind, NextStep::from(advice)),
        Reaction::Again => {
            (FaultKind::Transient, "the server is overloaded or electing a master: it is asked again".into())
        }
        // A drain makes it before its next write.
        Reaction::Prepare => (FaultKind::Transient, NextStep::Migrate),
        Reaction::AlreadyThere | Reaction::Refused | Reaction::TooLarge => (
            FaultKind::Misconfigured,
            "look at the server's log: it refuses what Elasticsearch 7.17+ and OpenSearch 2+ take".into(),
        ),
    };
    let mut message = format!("{doing} on {origin}: answered {}", answer.status);
    for part in [cause.kind.as_str(), if tell_reason { reason } else { "" }] {
        if !part.is_empty() {
            message.push_str(": ");
            message.extend(part.chars().take(300));
        }
    }
    Fault::new(PART, kind, message, advice).with_retry_after(answer.retry_after)
}

/// Turns a request that got no answer into a fault.
pub(super) fn fault_from_transport(
    origin: &str,
    doing: &str,
    error: &(dyn std::error::Error + 'static),
    timed_out: bool,
) -> Fault {
    if timed_out {
        return Fault::transient(
            PART,
            format!("{doing} on {origin}: no answer in time"),
            "look at the server's load, or allow more time",
        );
    }
    // Only the bottom of the chain says what happened, and only the top repeats the URL.
    let mut root = error;
    let mut chain = error.to_string();
    while let Some(deeper) = root.source() {
        root = deeper;
        chain.push_str(&deeper.to_string());
    }
    let message = format!("{doing} on {origin}: no connection: {root}");
    if chain.contains("certificate") {
        return Fault::misconfigured(
            PART,
            message,
            "if ELASTICSEARCH_URL is right, name the file of the authority that signed it in ELASTICSEARCH_SSL_CA_LOCATION",
        );
    }
    Fault::transient(
        PART,
        message,
        "check that the server in ELASTICSEARCH_URL runs and can be reached from here",
    )
}

/// An answer that is a success and yet makes no sense.
pub(super) fn fault_from_malformed(origin: &str, doing: &str, error: &serde_json::Error) -> Fault {
    if error.is_eof() {
        let message = format!("{doing} on {origin}: the answer is cut off");
        return Fault::transient(PART, message, "it is asked again; a proxy between may limit answers");
    }
    Fault::misconfigured(
        PART,
        format!("{doing} on {origin}: the answer is not one of Elasticsearch"),
        "check that ELASTICSEARCH_URL is that of an Elasticsearch 7.17+ or OpenSearch 2+ server",
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn only_what_speaks_of_the_document_counts_against_it() {
        use Reaction::{Again, AlreadyThere, Prepare, Refused, TooLarge};
        for (status, kind, expected) in [
            (409, "version_conflict_engine_exception", AlreadyThere),
            (400, "mapper_parsing_exception", Refused),
            (400, "document_parsing_exception", Refused),
            (400, "strict_dynamic_mapping_exception", Refused),
            (400, "illegal_argument_exception", Refused),
            (400, "validation_exception", Refused),
            (413, "", TooLarge),
            (429, "es_rejected_execution_exception", Again),
            (429, "circuit_breaking_exception", Again),
            (500, "", Again),
            (503, "unavailable_shards_exception", Again),
            (404, "index_not_found_exception", Prepare),
        ] {
            assert_eq!(reaction(status, kind, ""), expected, "{status} {kind}");
        }
    }

    #[test]
    fn what_a_person_must_mend_is_never_the_documents_fault() {
        for (status, kind, reason, expected) in [
            (403, "cluster_block_exception", "", FaultKind::Misconfigured),
            (429, "cluster_block_exception", "", FaultKind::Transient),
            (503, "cluster_block_exception", "", FaultKind::Transient),
            (400, "index_closed_exception", "closed", FaultKind::Misconfigured),
            (
                400,
                "illegal_argument_exception",
                "no write index is defined for alias [leads].",
                FaultKind::Misconfigured,
            ),
            (
                400,
                "illegal_argument_exception",
                "pipeline with id [x] does not exist",
                FaultKind::Misconfigured,
            ),
            (
                400,
                "validation_exception",
                "Validation Failed: 1: this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum normal shards open;",
                FaultKind::Misconfigured,
            ),
            (
                400,
                "validation_exception",
                "Validation Failed: 1: this action would add [2] total shards, but this cluster currently has [1000]/[1000] maximum shards open;",
                FaultKind::Misconfigured,
            ),
            (401, "", "", FaultKind::Misconfigured),
            (403, "security_exception", "", FaultKind::Misconfigured),
            (405, "", "", FaultKind::Misconfigured),
            (406, "", "", FaultKind::Misconfigured),
        ] {
            let Reaction::Stop(kind_of_fault, _) = reaction(status, kind, reason) else {
                panic!("{status} {kind} must stop");
            };
            assert_eq!(kind_of_fault, expected, "{status} {kind}");
        }
    }

    #[test]
    fn a_fault_tells_type_and_origin_and_keeps_a_rows_values_out() {
        let body = br#"{"error":{"type":"illegal_argument_exception","reason":"segredo"},"status":400}"#;
        let answer = Answer { status: 400, retry_after: None, body: Bytes::from_static(body) };
        let fault = fault_from_response("http://es:9200", "writing", &answer, false);
        assert_eq!(fault.message, "writing on http://es:9200: answered 400: illegal_argument_exception");
        assert!(
            fault_from_response("http://es:9200", "creating", &answer, true).message.ends_with(": segredo")
        );
        let page = Answer { status: 502, retry_after: None, body: Bytes::from_static(b"<html>") };
        assert_eq!(fault_from_response("o", "writing", &page, true).kind, FaultKind::Transient);
    }

    #[test]
    fn errors_are_read_as_objects_and_as_plain_text() {
        assert_eq!(
            cause_of(br#"{"error":"alias [x] missing","status":404}"#).reason.as_deref(),
            Some("alias [x] missing")
        );
        assert_eq!(
            cause_of(
                br#"{"error":{"type":"a","reason":null,"caused_by":{"type":"b","caused_by":{"type":"c"}}}}"#
            )
            .innermost()
            .map(|c| c.kind.as_str()),
            Some("c")
        );
        assert_eq!(cause_of(b"").kind, "");
    }
}
