//! Bulk writing: bounded requests, every item's own result read, what failed in passing sent again.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use super::{
    PART,
    client::{Answer, Client},
    documents::Document,
    faults::{ErrorBody, Verdict, refused, safe_reason, verdict},
};
use crate::{
    backoff::Backoff,
    fault::Fault,
    sink::{Applied, Rejection},
};

/// Bytes of one request at most, but for a single document that is larger.
const BODY_BYTES: usize = 8 * 1024 * 1024;

/// How often items that were refused in passing are sent again before the whole batch is given back.
const ATTEMPTS: u32 = 6;

/// What became of a batch's documents.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) applied: Applied,
    pub(super) rejected: Vec<Rejection>,
}

#[derive(Debug, Deserialize)]
struct BulkAnswer {
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(alias = "create")]
    index: ItemResult,
}

#[derive(Debug, Deserialize)]
struct ItemResult {
    status: u16,
    #[serde(default)]
    error: Option<ErrorBody>,
}

/// Writes every document or tells which can never be written.
pub(super) async fn write(client: &Client, documents: Vec<Document>) -> Result<Outcome, Fault> {
    let mut outcome = Outcome::default();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
    let mut waiting = documents;
    loop {
        let mut again = Vec::new();
        let mut requests = chunks(waiting);
        while let Some(request) = requests.pop() {
            let answer = send(client, &request).await?;
            match whole_request(client, &answer, request.len())? {
                Whole::Items => again.extend(read_items(client, &answer, request, &mut outcome)?),
                Whole::Again => again.extend(request),
                Whole::Halve => {
                    let mut left = request;
                    let right = left.split_off(left.len() / 2);
                    requests.extend([left, right]);
                }
                Whole::Never(reason) => {
                    let document = request.into_iter().next();
                    outcome.rejected.extend(document.map(|d| Rejection { position: d.position, reason }));
                }
            }
        }
        if again.is_empty() {
            return Ok(outcome);
        }
        if backoff.failures() + 1 >= ATTEMPTS {
            return Err(Fault::transient(
                PART,
                format!(
                    "{} documents were refused {ATTEMPTS} times by {}: it is overloaded or blocked",
                    again.len(),
                    client.host
                ),
                "tried again by itself; if it stays, check the cluster's load, queues and disk",
            ));
        }
        tokio::time::sleep(backoff.next_pause(None)).await;
        waiting = again;
    }
}

async fn send(client: &Client, request: &[Document]) -> Result<Answer, Fault> {
    let mut body = BytesMut::with_capacity(request.iter().map(|document| document.lines.len()).sum());
    for document in request {
        body.extend_from_slice(&document.lines);
    }
    let what = format!("writing {} documents", request.len());
    // An alias that is missing must be an error, never an index with a guessed mapping.
    let path = "/_bulk?require_alias=true&filter_path=items.*.status,items.*.error.type,items.*.error.reason";
    client.bulk(&what, path, body.freeze()).await
}

/// What the status of the request itself calls for.
#[derive(Debug, PartialEq, Eq)]
enum Whole {
    Items,
    Again,
    Halve,
    Never(String),
}

fn whole_request(client: &Client, answer: &Answer, documents: usize) -> Result<Whole, Fault> {
    if answer.status == 200 {
        return Ok(Whole::Items);
    }
    let what = format!("writing {documents} documents");
    let error: ErrorBody = error_of(&answer.body);
    match verdict(answer.status, &error.kind) {
        Verdict::Again => Ok(Whole::Again),
        // A request is refused as a whole for one document in it, too.
        Verdict::Smaller | Verdict::Never if documents > 1 => Ok(Whole::Halve),
        Verdict::Smaller => Ok(Whole::Never("the document is larger than the server takes".to_owned())),
        Verdict::Never => Ok(Whole::Never(safe_reason(&error))),
        Verdict::Person | Verdict::Unprepared => {
            Err(refused(&what, &client.host, answer.status, &answer.body))
        }
    }
}

fn error_of(body: &[u8]) -> ErrorBody {
    #[derive(Deserialize)]
    struct Envelope {
        error: ErrorBody,
    }
    serde_json::from_slice::<Envelope>(body).map(|envelope| envelope.error).unwrap_or_default()
}

/// Counts what was done and returns what has to be sent again.
fn read_items(
    client: &Client,
    answer: &Answer,
    request: Vec<Document>,
    outcome: &mut Outcome,
) -> Result<Vec<Document>, Fault> {
    let items =
        serde_json::from_slice::<BulkAnswer>(&answer.body).map(|answer| answer.items).unwrap_or_default();
    if items.len() != request.len() {
        return Err(Fault::transient(
            PART,
            format!(
                "{} answered {} of {} documents of a bulk request",
                client.host,
                items.len(),
                request.len()
            ),
            "check that ELASTICSEARCH_URL leads to Elasticsearch or OpenSearch, with no proxy that cuts answers",
        ));
    }
    let mut again = Vec::new();
    for (document, Item { index: result }) in request.into_iter().zip(items) {
        match (result.status, document.entity) {
            (200..=299, false) => outcome.applied.inserted += 1,
            (200..=299, true) => outcome.applied.entities += 1,
            // Not a failure: this version, or a later one, is there.
            (409, false) => outcome.applied.duplicates += 1,
            (409, true) => outcome.applied.stale += 1,
            (status, _) => {
                let error = result.error.unwrap_or_default();
                match verdict(status, &error.kind) {
                    Verdict::Again => again.push(document),
                    Verdict::Never | Verdict::Smaller => outcome
                        .rejected
                        .push(Rejection { position: document.position, reason: safe_reason(&error) }),
                    Verdict::Unprepared | Verdict::Person => {
                        let body = format!(r#"{{"error":{{"type":"{}"}}}}"#, error.kind);
                        return Err(refused("writing a document", &client.host, status, body.as_bytes()));
                    }
                }
            }
        }
    }
    Ok(again)
}

/// Requests of at most [`BODY_BYTES`].
fn chunks(documents: Vec<Document>) -> Vec<Vec<Document>> {
    let mut chunks: Vec<Vec<Document>> = Vec::new();
    let mut size = BODY_BYTES;
    for document in documents {
        let bytes = Bytes::len(&document.lines);
        if size + bytes > BODY_BYTES {
            chunks.push(Vec::new());
            size = 0;
        }
        size += bytes;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(document);
        }
    }
    // They are taken from the end: keep the order of the log.
    chunks.reverse();
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Position;

    fn document(offset: i64, bytes: usize) -> Document {
        Document {
            position: Position { partition: 0, offset },
            entity: false,
            lines: Bytes::from(vec![b'x'; bytes]),
        }
    }

    #[test]
    fn requests_are_bounded_and_keep_the_order_of_the_log() {
        let mut chunks = chunks(vec![
            document(1, BODY_BYTES / 2),
            document(2, BODY_BYTES / 2),
            document(3, BODY_BYTES * 2),
            document(4, 1),
        ]);
        let mut offsets = Vec::new();
        while let Some(chunk) = chunks.pop() {
            offsets.push(chunk.iter().map(|document| document.position.offset).collect::<Vec<_>>());
        }
        assert_eq!(offsets, [vec![1, 2], vec![3], vec![4]]);
    }
}
