//! Sends documents in requests of bounded size, until the server has decided about each.
//!
//! Two requests are on their way at a time, of about equal size, and bodies are made while others are written, those of
//! the next batch while the last ones of this are: the server has always something to do. Documents of one batch are of
//! different ids, so their order is free.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use futures::future::join_all;

use super::{
    PART,
    backoff::Backoff,
    client::{BULKS, Client},
    operation::Operation,
    outcome::{self, BulkError, Decision, Refused, Verdict, WRITING},
    ties,
};
use crate::{
    fault::Fault,
    index::{
        IndexName,
        documents::{Plan, Planned},
    },
    log::Position,
    next_step::NextStep,
    sink::{Applied, ApplyError, Rejection},
};

/// Below the 10 MiB that small hosted servers take, and beyond the size that makes requests faster.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// What is not worth two requests.
const MIN_BODY: usize = 256 * 1024;

/// Entities whose documents are refused, with none taken beside them, that show that the index is to blame.
const MANY: usize = 8;

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct BulkOutcome {
    pub(super) applied: Applied,
    pub(super) rejected: Vec<Refused>,
    ties: Vec<Operation>,
}

impl BulkOutcome {
    /// What the sink answers; `refused` are the events that were not even sent.
    pub(super) fn outcome(self, mut refused: Vec<Rejection>) -> Result<Applied, ApplyError> {
        refused.extend(self.rejected.into_iter().map(|refused| refused.rejection));
        if refused.is_empty() {
            return Ok(self.applied);
        }
        // An event that is refused by both of its indices is still one event to park.
        refused.sort_by_key(|rejection| rejection.position);
        refused.dedup_by_key(|rejection| rejection.position);
        Err(ApplyError::Rejected(refused))
    }

    /// Why nothing of a batch is parked although the server refused some of it: an index took no document at all, and refused
    /// those of so many entities that none of them is to blame.
    pub(super) fn takes_nothing(&self, plan: &Plan<'_>) -> Option<Fault> {
        let refused: HashMap<(Position, bool), &Refused> =
            self.rejected.iter().map(|one| ((one.rejection.position, one.is_entity), one)).collect();
        let mut indices: BTreeMap<&str, Option<HashSet<&str>>> = BTreeMap::new();
        let mut reason = HashMap::new();
        for planned in &plan.documents {
            let index = planned.index.as_str();
            let entities = indices.entry(index).or_insert_with(|| Some(HashSet::new()));
            match refused.get(&(planned.position(), planned.index != IndexName::Eventos)) {
                None => *entities = None,
                Some(refused) if refused.for_content => {
                    if let Some(entities) = entities {
                        entities.insert(planned.entity());
                    }
                    reason.insert(index, &refused.rejection.reason);
                }
                Some(_) => {}
            }
        }
        let refuses_all = |entities: &HashSet<&str>| entities.len() >= MANY;
        let (index, entities) = indices
            .into_iter()
            .find_map(|(index, entities)| Some((index, entities.filter(refuses_all)?.len())))?;
        Some(Fault::misconfigured(
            PART,
            format!(
                "{WRITING}: {index} takes none of the documents of {entities} entities, so that it is to blame and not one of them: {}",
                reason.remove(index).map(String::as_str).unwrap_or_default()
            ),
            NextStep::RebuildIndex { index: index.to_owned() },
        ))
    }

    fn join(&mut self, other: Self) {
        self.absorb(other.applied, other.rejected);
        self.ties.extend(other.ties);
    }

    fn absorb(&mut self, applied: Applied, rejected: Vec<Refused>) {
        self.applied.inserted += applied.inserted;
        self.applied.duplicates += applied.duplicates;
        self.applied.entities += applied.entities;
        self.applied.stale += applied.stale;
        self.rejected.extend(rejected);
    }
}

/// Sends all; a poisoned document does not keep the others from being written.
pub(super) async fn send(
    client: &Client,
    planned: &[&Planned<'_>],
    operation: impl Fn(&Planned<'_>) -> Operation + Sync,
) -> Result<BulkOutcome, BulkError> {
    let sizes: Vec<usize> = planned.iter().map(|planned| planned.size()).collect();
    let mut rest = planned;
    let requests = cut(&sizes).into_iter().filter_map(|length| rest.split_off(..length));
    let requests = Mutex::new(requests.collect::<VecDeque<_>>());
    let sending = (0..BULKS).map(|_| send_some(client, &requests, &operation));
    let mut sent = BulkOutcome::default();
    for outcome in join_all(sending).await {
        sent.join(outcome?);
    }
    let ties = std::mem::take(&mut sent.ties);
    let replacing = ties::replacing(client, &ties).await?;
    sent.applied.stale += (ties.len() - replacing.len()) as u64;
    if !replacing.is_empty() {
        let body = body(replacing.iter());
        send_operations(client, &replacing, body, &mut sent).await?;
    }
    Ok(sent)
}

/// Sends requests until none is left. What is on its way when one fails is waited for: nothing of a batch is written after
/// its successor has begun.
async fn send_some(
    client: &Client,
    requests: &Mutex<VecDeque<&[&Planned<'_>]>>,
    operation: &(impl Fn(&Planned<'_>) -> Operation + Sync),
) -> Result<BulkOutcome, BulkError> {
    let requests = || requests.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sent = BulkOutcome::default();
    loop {
        let Some(request) = requests().pop_front() else { return Ok(sent) };
        let (operations, body) = made(request, operation);
        if let Err(error) = send_operations(client, &operations, body, &mut sent).await {
            requests().clear();
            return Err(error);
        }
    }
}

/// A request's operations and its body, in which their documents stand.
fn made(request: &[&Planned<'_>], operation: impl Fn(&Planned<'_>) -> Operation) -> (Vec<Operation>, Bytes) {
    let mut body = Vec::with_capacity(request.iter().map(|planned| planned.size() * 5 / 4).sum());
    let written: Vec<_> = request.iter().map(|planned| operation(planned).written(&mut body)).collect();
    let body = Bytes::from(body);
    let operations = written.into_iter().map(|(operation, at)| operation.standing_in(&body, at));
    (operations.collect(), body)
}

/// How many documents of these sizes go into each request: about equally large ones, as many as are in flight at a time
/// or twice as many, and so on.
fn cut(sizes: &[usize]) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    let requests = if total <= MIN_BODY { 1 } else { BULKS * total.div_ceil(BULKS * MAX_BODY) };
    let mut lengths = vec![0; requests];
    let mut before = 0;
    for size in sizes {
        // By where its middle lies.
        lengths[((before + size / 2) * requests / total.max(1)).min(requests - 1)] += 1;
        before += size;
    }
    lengths.retain(|length| *length > 0);
    lengths
}

/// Sends these as one request, or as several where that is too large for the server.
async fn send_operations(
    client: &Client,
    operations: &[Operation],
    whole: Bytes,
    sent: &mut BulkOutcome,
) -> Result<(), BulkError> {
    let mut requests = vec![(operations.iter().collect::<Vec<_>>(), whole)];
    while let Some((request, whole)) = requests.pop() {
        let Some(too_large) = send_request(client, request, whole, sent).await? else { continue };
        if let [operation] = too_large[..] {
            sent.rejected.push(outcome::too_large(operation));
            continue;
        }
        let (first, second) = too_large.split_at(too_large.len() / 2);
        for half in [second, first] {
            requests.push((half.to_vec(), body(half.iter().copied())));
        }
    }
    Ok(())
}

/// Sends one request and again what of it was refused for overload; hands back what is too large to be sent.
async fn send_request<'a>(
    client: &Client,
    mut pending: Vec<&'a Operation>,
    mut whole: Bytes,
    sent: &mut BulkOutcome,
) -> Result<Option<Vec<&'a Operation>>, BulkError> {
    let mut backoff = Backoff::default();
    loop {
        // A search that sees the document which an equal version has replaced would take that for the one that is there.
        let at_once = pending.iter().any(|operation| operation.replaces_equal());
        let answer = client.bulk(whole.clone(), at_once, WRITING).await?;
        let fault = match outcome::judge(client.origin(), &pending, &answer) {
            Verdict::Split => return Ok(Some(pending)),
            Verdict::Stop(error) => return Err(error),
            Verdict::Again(fault) => fault,
            Verdict::Decided(Decision { applied, rejected, again, ties, error }) => {
                sent.absorb(applied, rejected);
                sent.ties.extend(ties.into_iter().map(|i| pending[i].clone()));
                if let Some(error) = error {
                    return Err(error);
                }
                if again.is_empty() {
                    return Ok(None);
                }
                pending = again.into_iter().map(|i| pending[i]).collect();
                whole = body(pending.iter().copied());
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

fn body<'a>(operations: impl Iterator<Item = &'a Operation> + Clone) -> Bytes {
    let mut body = Vec::with_capacity(operations.clone().map(Operation::size).sum());
    for operation in operations {
        operation.write(&mut body);
    }
    Bytes::from(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_of_about_equal_size_and_hold_every_document() {
        let small = vec![1_000; 100];
        assert_eq!(cut(&small), [100]);
        let large = vec![1_000; 10_001];
        assert_eq!(cut(&large), [2_500, 2_500, 2_501, 2_500]);
        let mixed: Vec<usize> = (0..4_000).map(|i| if i < 2_000 { 3_000 } else { 1_000 }).collect();
        assert_eq!(cut(&mixed), [1_333, 2_667]);
        let lone = [10, 9 << 20, 10, 0];
        assert_eq!(cut(&lone).iter().sum::<usize>(), lone.len());
        assert!(cut(&[]).is_empty());
        assert_eq!(cut(&[0, 0]), [2]);
    }
}
