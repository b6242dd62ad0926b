//! What the answer to a bulk request says about each of its documents: pure, so that every outcome can be tried
//! with a canned body.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    PART,
    client::Answer,
    faults::{self, Cause, Reaction},
    operation::{Kind, Operation},
    reason,
};
use crate::{
    fault::{Fault, FaultKind},
    sink::{Applied, Rejection},
};

/// What faults say was attempted.
pub(super) const WRITING: &str = "writing documents";

/// A fault that ends a batch.
#[derive(Debug)]
pub(super) struct BulkError {
    pub(super) fault: Fault,
    /// Indices or aliases are missing.
    pub(super) prepare_first: bool,
}

impl From<Fault> for BulkError {
    fn from(fault: Fault) -> Self {
        Self { fault, prepare_first: false }
    }
}

/// What to do after an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The server has decided about every document.
    Decided(Decision),
    /// The request was too large as a whole.
    Split,
    /// Nothing was done; soon again.
    Again(Fault),
    Stop(BulkError),
}

/// What became of the documents of a request.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) applied: Applied,
    pub(super) rejected: Vec<Refused>,
    /// Indices of the operations to send again.
    pub(super) again: Vec<usize>,
    /// Indices of the entities whose documents are of the same version, of this event or of another.
    pub(super) ties: Vec<usize>,
    /// Set when some document met what no retry mends.
    pub(super) error: Option<BulkError>,
}

impl Decision {
    fn written(&mut self, kind: Kind) {
        match kind {
            Kind::Event => self.applied.inserted += 1,
            Kind::Entity { .. } => self.applied.entities += 1,
        }
    }

    fn already_there(&mut self, kind: Kind) {
        match kind {
            Kind::Event => self.applied.duplicates += 1,
            Kind::Entity { .. } => self.applied.stale += 1,
        }
    }
}

/// A document that the server does not take.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) rejection: Rejection,
    pub(super) is_entity: bool,
    /// Whatever it held: the index itself may be what is wrong.
    pub(super) for_content: bool,
}

impl Refused {
    fn new(operation: &Operation, reason: String) -> Self {
        Self {
            rejection: Rejection { position: operation.position, reason },
            is_entity: matches!(operation.kind, Kind::Entity { .. }),
            for_content: true,
        }
    }
}

/// What the server says when it has no room for a document.
pub(super) fn too_large(operation: &Operation) -> Refused {
    let reason =
        format!("document of {} bytes is larger than the server takes in a request", operation.size());
    Refused { for_content: false, ..Refused::new(operation, reason) }
}

pub(super) fn judge(origin: &str, operations: &[&Operation], answer: &Answer) -> Verdict {
    if answer.is_success() {
        return match decide(origin, operations, answer) {
            Ok(decision) => Verdict::Decided(decision),
            Err(fault) => Verdict::Stop(fault.into()),
        };
    }
    let cause = faults::cause_of(&answer.body);
    let fault = faults::fault_from_response(origin, WRITING, answer, false);
    match faults::reaction(answer.status, &cause.kind, cause.reason.as_deref().unwrap_or_default()) {
        Reaction::TooLarge => Verdict::Split,
        Reaction::Again => Verdict::Again(fault),
        Reaction::Prepare => Verdict::Stop(BulkError { fault, prepare_first: true }),
        Reaction::AlreadyThere | Reaction::Refused | Reaction::Stop(..) => Verdict::Stop(fault.into()),
    }
}

#[derive(Deserialize)]
struct BulkAnswer<'a> {
    errors: bool,
    /// Left unread unless there is an error in it.
    #[serde(borrow)]
    items: Option<&'a RawValue>,
}

/// What the server calls the result of writing a document that an ingest pipeline dropped, beside a status of success. No
/// operation of ours is called so for another reason: only updates are.
const DROPPED: &str = "noop";

/// One item, whose only key is the kind of operation.
#[derive(Deserialize)]
enum Item {
    #[serde(rename = "create", alias = "index")]
    Written(ItemResult),
}

#[derive(Deserialize)]
struct ItemResult {
    status: u16,
    result: Option<String>,
    error: Option<Cause>,
}

fn decide(origin: &str, operations: &[&Operation], answer: &Answer) -> Result<Decision, Fault> {
    let malformed = |error: serde_json::Error| faults::fault_from_malformed(origin, WRITING, &error);
    let bulk: BulkAnswer<'_> = serde_json::from_slice(&answer.body).map_err(malformed)?;
    let mut decision = Decision::default();
    let items = bulk.items.map_or("[]", RawValue::get);
    if !bulk.errors && !items.contains(DROPPED) {
        for operation in operations {
            decision.written(operation.kind);
        }
        return Ok(decision);
    }
    let items: Vec<Item> = serde_json::from_str(items).map_err(malformed)?;
    if items.len() != operations.len() {
        return Err(Fault::transient(
            PART,
            format!(
                "{WRITING} on {origin}: {} documents sent, {} answered for",
                operations.len(),
                items.len()
            ),
            "it is asked again; a proxy between may cut answers",
        ));
    }
    for (i, (Item::Written(item), operation)) in items.into_iter().zip(operations).enumerate() {
        match item.error {
            None if item.result.as_deref() == Some(DROPPED) => {
                let reason = "an ingest pipeline of the index drops the document".to_owned();
                decision.rejected.push(Refused::new(operation, reason));
            }
            None if (200..300).contains(&item.status) => decision.written(operation.kind),
            error => decide_one(origin, &mut decision, i, operation, item.status, &error.unwrap_or_default()),
        }
    }
    Ok(decision)
}

fn decide_one(
    origin: &str,
    decision: &mut Decision,
    i: usize,
    operation: &Operation,
    status: u16,
    cause: &Cause,
) {
    let stopped = |kind: FaultKind, advice: &str| {
        let message = format!("{WRITING} on {origin}: {}", reason::of(status, cause));
        Fault::new(PART, kind, message, advice)
    };
    let error = match faults::reaction(status, &cause.kind, cause.reason.as_deref().unwrap_or_default()) {
        Reaction::AlreadyThere if may_tie(operation.kind, cause) => return decision.ties.push(i),
        Reaction::AlreadyThere => return decision.already_there(operation.kind),
        Reaction::Again => return decision.again.push(i),
        Reaction::Refused => {
            let reason = reason::of(status, cause);
            return decision.rejected.push(Refused::new(operation, reason));
        }
        Reaction::TooLarge => return decision.rejected.push(too_large(operation)),
        Reaction::Prepare => BulkError {
            fault: stopped(
                FaultKind::Transient,
                "an index or alias was removed: it is created again before the next write; documents that went with it \
                 come back when the consumer group is reset",
            ),
            prepare_first: true,
        },
        Reaction::Stop(kind, advice) => stopped(kind, advice).into(),
    };
    // The first is told; that an alias is missing is never forgotten over another.
    match &mut decision.error {
        Some(held) => held.prepare_first |= error.prepare_first,
        none => *none = Some(error),
    }
}

/// Whether the document that is there may be of the same version: it is what the server says, or else not known.
fn may_tie(kind: Kind, cause: &Cause) -> bool {
    let Kind::Entity { version, replaces_equal: false } = kind else { return false };
    let reason = cause.reason.as_deref().unwrap_or_default();
    let current = reason.split_once("current version [").and_then(|(_, rest)| rest.split(']').next());
    current.and_then(|current| current.parse::<i64>().ok()).is_none_or(|current| current <= version)
}

/// The fault of a server that stays busy.
pub(super) fn still_busy(origin: &str, documents: usize, pause: Option<Duration>) -> Fault {
    Fault::transient(
        PART,
        format!(
            "{WRITING} on {origin}: {documents} documents still refused for overload after several tries"
        ),
        "they are tried again after a pause; if it lasts, look at the cluster's write queue and disks",
    )
    .with_retry_after(pause)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::operation::operation, *};

    const ENTITY: Kind = Kind::Entity { version: 10, replaces_equal: false };

    fn judged(kinds: &[Kind], status: u16, body: &str) -> Verdict {
        let operations: Vec<_> =
            kinds.iter().zip(10..).map(|(kind, offset)| operation(offset, *kind, "{}")).collect();
        let answer = Answer { status, retry_after: None, body: Bytes::copy_from_slice(body.as_bytes()) };
        judge("http://es:9200", &operations.iter().collect::<Vec<_>>(), &answer)
    }

    fn decided(kinds: &[Kind], body: &str) -> Decision {
        match judged(kinds, 200, body) {
            Verdict::Decided(decision) => decision,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_errors_everything_is_written_and_the_items_are_not_read() {
        let decision = decided(&[Kind::Event, ENTITY], r#"{"errors":false,"items":[{"x":1}]}"#);
        assert_eq!(decision.applied, Applied { inserted: 1, entities: 1, ..Applied::default() });
    }

    #[test]
    fn what_a_pipeline_drops_is_not_written() {
        let body = r#"{"errors":false,"items":[{"create":{"result":"created","status":201}},
            {"create":{"result":"noop","status":200}},{"index":{"result":"noop","status":200}}]}"#;
        let decision = decided(&[Kind::Event, Kind::Event, ENTITY], body);
        assert_eq!(decision.applied, Applied { inserted: 1, ..Applied::default() });
        let rejected: Vec<i64> =
            decision.rejected.iter().map(|refused| refused.rejection.position.offset).collect();
        assert_eq!(rejected, [11, 12]);
    }

    #[test]
    fn every_item_is_read_on_its_own() {
        let body = r#"{"errors":true,"items":[
            {"create":{"status":201}},
            {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[1]: version conflict, document already exists (current version [1])"}}},
            {"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [valor] of type [double] in document with id '3'. Preview of field's value: 'segredo'","caused_by":{"type":"number_format_exception","reason":"For input string: \"segredo\""}}}},
            {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of coordinating operation"}}},
            {"index":{"status":200}},
            {"index":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[16]: version conflict, current version [11] is higher or equal to the one provided [10]"}}},
            {"index":{"status":503,"error":{"type":"unavailable_shards_exception","reason":"primary shard is not active"}}}
        ]}"#;
        let kinds = [Kind::Event, Kind::Event, Kind::Event, Kind::Event, ENTITY, ENTITY, ENTITY];
        let decision = decided(&kinds, body);
        assert_eq!(
            decision.applied,
            Applied { inserted: 1, duplicates: 1, entities: 1, stale: 1, ..Applied::default() }
        );
        assert_eq!(decision.again, [3, 6]);
        assert_eq!(decision.rejected.len(), 1);
        assert_eq!(decision.rejected[0].rejection.position.offset, 12);
        assert!(!decision.rejected[0].rejection.reason.contains("segredo"));
        assert!(decision.error.is_none());
    }

    #[test]
    fn only_a_document_that_may_be_of_the_same_version_is_a_tie() {
        let conflict = |reason: &str| {
            let error = format!(r#"{{"type":"version_conflict_engine_exception","reason":"{reason}"}}"#);
            format!(r#"{{"index":{{"status":409,"error":{error}}}}}"#)
        };
        let told = |current| {
            conflict(&format!(
                "[16]: version conflict, current version [{current}] is higher or equal to the one provided [10]"
            ))
        };
        let items = [told("11"), told("10"), told("2147483648000"), conflict("conflito"), told("10")];
        let body = format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(","));
        let replacing = Kind::Entity { version: 10, replaces_equal: true };
        let decision = decided(&[ENTITY, ENTITY, ENTITY, ENTITY, replacing], &body);
        assert_eq!((decision.ties, decision.applied.stale), (vec![1, 3], 3));
    }

    #[test]
    fn a_block_or_a_missing_alias_is_trouble_and_not_poison() {
        let body = r#"{"errors":true,"items":[
            {"create":{"status":429,"error":{"type":"cluster_block_exception","reason":"index [eventos-000001] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];"}}},
            {"index":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index [leads] and [require_alias] request flag is [true] and [leads] is not an alias"}}}
        ]}"#;
        let decision = decided(&[Kind::Event, ENTITY], body);
        assert!(decision.rejected.is_empty());
        let error = decision.error.expect("error");
        assert!(error.prepare_first);
        assert_eq!(error.fault.kind, FaultKind::Transient);
        assert!(error.fault.advice.to_string().contains("disk"), "{}", error.fault);
    }

    #[test]
    fn an_answer_that_misses_an_item_is_no_success() {
        let verdict = judged(
            &[Kind::Event, Kind::Event],
            200,
            r#"{"errors":true,"items":[{"create":{"status":201}}]}"#,
        );
        assert!(
            matches!(verdict, Verdict::Stop(BulkError { fault, .. }) if fault.kind == FaultKind::Transient)
        );
        let verdict = judged(&[Kind::Event], 200, r#"{"errors":true,"items":[{"crea"#);
        assert!(
            matches!(verdict, Verdict::Stop(BulkError { fault, .. }) if fault.kind == FaultKind::Transient)
        );
        let verdict = judged(&[Kind::Event], 200, "<html>");
        assert!(
            matches!(verdict, Verdict::Stop(BulkError { fault, .. }) if fault.kind == FaultKind::Misconfigured)
        );
    }

    #[test]
    fn whole_answers_split_wait_or_stop() {
        assert!(matches!(judged(&[Kind::Event], 413, ""), Verdict::Split));
        for status in [429, 500, 502, 503, 504] {
            assert!(matches!(judged(&[Kind::Event], status, "<html>"), Verdict::Again(_)), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 406] {
            assert!(matches!(judged(&[Kind::Event], status, ""), Verdict::Stop(_)), "{status}");
        }
    }
}
