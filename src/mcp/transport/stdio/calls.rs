//! What is under way between a client and the server on one stream: whose requests are still to be answered, which of
//! their answers belong to one batch, and what the session has agreed on. It does no I/O.

use std::collections::{HashMap, VecDeque};

use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientNotification, ErrorCode, GetExtensions, JsonRpcMessage, ProtocolVersion,
        RequestId, ServerJsonRpcMessage, ServerNotification, ServerResult,
    },
    service::OriginatingRequestId,
};

use crate::mcp::transport::{message::Refusal, opening::Opening};

/// Requests that may be under way at once.
pub(super) const MAX_IN_FLIGHT: usize = 128;

/// Subscriptions, which end only when they are taken back, that may be.
const MAX_SUBSCRIPTIONS: usize = 64;

/// Ids of requests taken back that are remembered.
const MAX_TAKEN_BACK: usize = 256;

const METHOD_SUBSCRIBE: &str = "subscriptions/listen";

/// The code that a server uses for what only it knows.
const SERVER_ERROR: ErrorCode = ErrorCode(-32000);

#[derive(Default)]
pub(super) struct Calls {
    opening: Opening,
    /// What `initialize` agreed on.
    revision: Option<ProtocolVersion>,
    in_flight: HashMap<RequestId, Call>,
    /// What the server has asked the client and not been told yet, each with the request that waits for it. A question
    /// goes with its request: whoever waits for an answer that nobody needs any more waits for ever.
    asked: HashMap<RequestId, RequestId>,
    /// Ids of requests that the client took back, the latest last. What was busy with one may still have an answer to
    /// it, which would be taken for that to another request of the same id.
    taken_back: VecDeque<RequestId>,
    batches: HashMap<u64, Batch>,
    next_batch: u64,
}

/// What a message leads to.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// For the server; none where it means nothing to it.
    pub(super) message: Option<ClientJsonRpcMessage>,
    /// To be written at once.
    pub(super) line: Option<String>,
}

struct Call {
    batch: Option<u64>,
    subscription: bool,
}

/// A batch of which not all is answered.
#[derive(Default)]
struct Batch {
    unanswered: usize,
    answers: Vec<String>,
}

impl Calls {
    /// Takes a message in.
    ///
    /// # Errors
    /// When it is a request that can't be served.
    pub(super) fn admit(&mut self, message: ClientJsonRpcMessage) -> Result<Admitted, Refusal> {
        self.admit_into(message, None)
    }

    fn admit_into(&mut self, message: ClientJsonRpcMessage, batch: Option<u64>) -> Result<Admitted, Refusal> {
        if !self.opening.lets_through(&message)? {
            return Ok(Admitted::default());
        }
        let mut line = None;
        match &message {
            JsonRpcMessage::Request(request) => {
                self.begin(&request.id, request.request.method() == METHOD_SUBSCRIBE, batch)?;
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    line = self.take_back(id);
                }
            }
            JsonRpcMessage::Response(response) => {
                self.asked.remove(&response.id);
            }
            JsonRpcMessage::Error(error) => {
                if let Some(id) = &error.id {
                    self.asked.remove(id);
                }
            }
        }
        Ok(Admitted { message: Some(message), line })
    }

    fn begin(&mut self, id: &RequestId, subscription: bool, batch: Option<u64>) -> Result<(), Refusal> {
        if self.in_flight.contains_key(id) || self.taken_back.contains(id) {
            let problem = "the id is that of a request that is still being answered, or was taken back; give each \
                           request its own";
            return Err(Refusal::of(id, ErrorCode::INVALID_REQUEST, problem));
        }
        let subscriptions = self.in_flight.values().filter(|call| call.subscription).count();
        let full = if subscription {
            subscriptions >= MAX_SUBSCRIPTIONS
        } else {
            self.in_flight.len() - subscriptions >= MAX_IN_FLIGHT
        };
        if full {
            let problem = "as many requests are under way as may be; wait for an answer, then ask again";
            return Err(Refusal::of(id, SERVER_ERROR, problem));
        }
        if let Some(batch) = batch.and_then(|key| self.batches.get_mut(&key)) {
            batch.unanswered += 1;
        }
        self.in_flight.insert(id.clone(), Call { batch, subscription });
        Ok(())
    }

    fn batches_are_known(&self) -> Result<(), Refusal> {
        let problem = match &self.revision {
            Some(revision) if *revision == ProtocolVersion::V_2025_03_26 => return Ok(()),
            Some(revision) => format!(
                "batches belong to revision 2025-03-26, and this session speaks {revision}; send each message by itself"
            ),
            None => {
                "batches belong to sessions of revision 2025-03-26; send each message by itself".to_owned()
            }
        };
        Err(Refusal::new(ErrorCode::INVALID_REQUEST, problem))
    }

    /// Takes a batch in.
    ///
    /// # Errors
    /// When the session's revision knows none.
    pub(super) fn admit_batch(
        &mut self,
        items: Vec<Result<ClientJsonRpcMessage, Refusal>>,
    ) -> Result<Vec<Admitted>, Refusal> {
        self.batches_are_known()?;
        let key = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(key, Batch::default());
        let mut admitted = Vec::new();
        let mut refused = Vec::new();
        for item in items {
            match item.and_then(|message| self.admit_into(message, Some(key))) {
                Ok(one) => admitted.push(one),
                Err(refusal) => refused.push(refusal.to_json()),
            }
        }
        if let Some(batch) = self.batches.get_mut(&key) {
            batch.answers.extend(refused);
        }
        admitted.push(Admitted { message: None, line: self.complete(key) });
        Ok(admitted)
    }

    /// The line with which a batch is answered, once all of it is.
    fn complete(&mut self, key: u64) -> Option<String> {
        if self.batches.get(&key)?.unanswered > 0 {
            return None;
        }
        let answers = self.batches.remove(&key)?.answers;
        // Notifications alone are answered by nothing at all.
        (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
    }

    /// A request is answered or will not be.
    fn end(&mut self, id: &RequestId) -> Option<Call> {
        self.asked.retain(|_, waiting| waiting != id);
        self.in_flight.remove(id)
    }

    /// A request is no longer to be answered; returns what that completes.
    fn take_back(&mut self, id: &RequestId) -> Option<String> {
        let call = self.end(id)?;
        if self.taken_back.len() == MAX_TAKEN_BACK {
            self.taken_back.pop_front();
        }
        self.taken_back.push_back(id.clone());
        let key = call.batch?;
        self.batches.get_mut(&key)?.unanswered -= 1;
        self.complete(key)
    }

    /// The line to write for a message of the server's, if there is one to write.
    pub(super) fn dispatch(&mut self, message: &ServerJsonRpcMessage) -> Option<String> {
        let json = serde_json::to_string(message).ok()?;
        let id = match message {
            JsonRpcMessage::Request(request) => {
                if let Some(origin) = request.request.extensions().get::<OriginatingRequestId>()
                    && self.in_flight.contains_key(&origin.0)
                {
                    self.asked.insert(request.id.clone(), origin.0.clone());
                }
                return Some(json);
            }
            JsonRpcMessage::Notification(notification) => {
                if let ServerNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.asked.remove(id);
                }
                return Some(json);
            }
            JsonRpcMessage::Response(response) => {
                if let ServerResult::InitializeResult(result) = &response.result {
                    self.revision = Some(result.protocol_version.clone());
                }
                Some(&response.id)
            }
            JsonRpcMessage::Error(error) => error.id.as_ref(),
        };
        let Some(id) = id else { return Some(json) };
        self.answer(id, json)
    }

    fn answer(&mut self, id: &RequestId, json: String) -> Option<String> {
        let Some(key) = self.end(id)?.batch else { return Some(json) };
        let batch = self.batches.get_mut(&key)?;
        batch.unanswered -= 1;
        batch.answers.push(json);
        self.complete(key)
    }

    /// Whether as many requests are under way as may be, and each can go on by itself: where the server waits for the
    /// client's word, the client must be listened to.
    pub(super) fn is_full(&self) -> bool {
        self.asked.is_empty()
            && self.in_flight.values().filter(|call| !call.subscription).count() >= MAX_IN_FLIGHT
    }

    /// Whether no more answers are to be expected from a client that says nothing any more.
    pub(super) fn is_idle(&self) -> bool {
        let mut calls = self.in_flight.iter().filter(|(_, call)| !call.subscription);
        calls.all(|(id, _)| self.asked.values().any(|waiting| waiting == id))
    }

    /// Answers in the server's place what it can't answer any more.
    pub(super) fn abandon(&mut self, problem: &'static str) -> Vec<String> {
        let ids: Vec<RequestId> =
            self.in_flight.iter().filter(|(_, call)| !call.subscription).map(|(id, _)| id.clone()).collect();
        let answer = |id: &RequestId| {
            let error = Refusal::of(id, SERVER_ERROR, problem).to_json();
            self.answer(id, error)
        };
        ids.iter().filter_map(answer).collect()
    }
}
