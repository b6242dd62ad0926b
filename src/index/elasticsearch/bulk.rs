//! Sends documents in requests of bounded size, until the server has decided about each.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    backoff::Backoff,
    client::Client,
    operation::Operation,
    outcome::{self, BulkError, Decision, Verdict, WRITING},
};
use crate::sink::{Applied, ApplyError, Rejection};

/// Below the 10 MiB that small hosted servers take, and beyond the size that makes requests faster.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct BulkOutcome {
    pub(super) applied: Applied,
    pub(super) rejected: Vec<Rejection>,
}

impl BulkOutcome {
    /// What the sink answers; `refused` are the events that were not even sent.
    pub(super) fn outcome(mut self, refused: Vec<Rejection>) -> Result<Applied, ApplyError> {
        self.rejected.extend(refused);
        if self.rejected.is_empty() {
            return Ok(self.applied);
        }
        // An event that is refused by both of its indices is still one event to park.
        self.rejected.sort_by_key(|rejection| rejection.position);
        self.rejected.dedup_by_key(|rejection| rejection.position);
        Err(ApplyError::Rejected(self.rejected))
    }

    fn absorb(&mut self, applied: Applied, rejected: Vec<Rejection>) {
        self.applied.inserted += applied.inserted;
        self.applied.duplicates += applied.duplicates;
        self.applied.entities += applied.entities;
        self.applied.stale += applied.stale;
        self.rejected.extend(rejected);
    }
}

/// Sends all; a poisoned document does not keep the others from being written.
pub(super) async fn send(client: &Client, operations: &[Operation]) -> Result<BulkOutcome, BulkError> {
    let mut sent = BulkOutcome::default();
    let mut requests: VecDeque<Vec<&Operation>> = requests(operations, MAX_BODY).into();
    while let Some(request) = requests.pop_front() {
        let Some(too_large) = send_request(client, request, &mut sent).await? else { continue };
        if let [operation] = too_large[..] {
            sent.rejected.push(outcome::too_large(operation));
            continue;
        }
        let (first, second) = too_large.split_at(too_large.len() / 2);
        requests.push_front(second.to_vec());
        requests.push_front(first.to_vec());
    }
    Ok(sent)
}

/// Sends one request and again what of it was refused for overload; hands back what is too large to be sent.
async fn send_request<'a>(
    client: &Client,
    mut pending: Vec<&'a Operation>,
    sent: &mut BulkOutcome,
) -> Result<Option<Vec<&'a Operation>>, BulkError> {
    let mut backoff = Backoff::default();
    loop {
        let answer = client.bulk(body(&pending), WRITING).await?;
        let fault = match outcome::judge(client.origin(), &pending, &answer) {
            Verdict::Split => return Ok(Some(pending)),
            Verdict::Stop(error) => return Err(error),
            Verdict::Again(fault) => fault,
            Verdict::Decided(Decision { applied, rejected, again, error }) => {
                sent.absorb(applied, rejected);
                if let Some(error) = error {
                    return Err(error);
                }
                if again.is_empty() {
                    return Ok(None);
                }
                pending = again.into_iter().map(|i| pending[i]).collect();
                outcome::still_busy(client.origin(), pending.len(), answer.retry_after)
            }
        };
        let Some(pause) = backoff.next(answer.retry_after) else {
            return Err(fault.into());
        };
        tracing::debug!(documents = pending.len(), ?pause, status = answer.status, "index is busy");
        tokio::time::sleep(pause).await;
    }
}

/// Cuts operations into requests of at most `limit` bytes; one that is larger goes alone.
fn requests(operations: &[Operation], limit: usize) -> Vec<Vec<&Operation>> {
    let mut requests = Vec::new();
    let mut request = Vec::new();
    let mut size = 0;
    for operation in operations {
        if size + operation.size() > limit && !request.is_empty() {
            requests.push(std::mem::take(&mut request));
            size = 0;
        }
        size += operation.size();
        request.push(operation);
    }
    if !request.is_empty() {
        requests.push(request);
    }
    requests
}

fn body(operations: &[&Operation]) -> Bytes {
    let mut body = Vec::with_capacity(operations.iter().map(|operation| operation.size()).sum());
    for operation in operations {
        operation.write(&mut body);
    }
    Bytes::from(body)
}

#[cfg(test)]
mod tests {
    use super::{
        super::operation::{Kind, operation},
        *,
    };

    #[test]
    fn requests_stay_below_the_limit_and_keep_the_order() {
        let large = "x".repeat(300);
        let documents = ["a", "b", large.as_str(), "c", "d"];
        let operations: Vec<_> =
            documents.iter().zip(0..).map(|(text, i)| operation(i, Kind::Event, text)).collect();
        let limit = operations[0].size() * 2;
        let cut: Vec<Vec<i64>> = requests(&operations, limit)
            .iter()
            .map(|request| request.iter().map(|operation| operation.position.offset).collect())
            .collect();
        assert_eq!(cut, [vec![0, 1], vec![2], vec![3, 4]]);
        assert!(requests(&[], limit).is_empty());
    }
}
