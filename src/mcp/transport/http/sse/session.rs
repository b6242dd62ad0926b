//! One session: a bounded queue each way. A client that sends faster than it is served is made to wait, and one that
//! does not read what it asked for is dropped.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::response::sse::Event;
use futures::{Stream, StreamExt, stream};
use rmcp::{
    RoleServer,
    model::{
        ClientJsonRpcMessage, ClientNotification, JsonRpcMessage, JsonRpcNotification, RequestId,
        ServerJsonRpcMessage,
    },
    transport::Transport,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{error, warn};

use super::super::in_flight::MAX_TAKEN_BACK;
use crate::mcp::transport::opening::Opening;

/// Messages that may wait in each direction.
const QUEUE: usize = 64;

/// How long a message may wait for room in its queue.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

type Pending = Arc<Mutex<Requests>>;

#[derive(Default)]
struct Requests {
    /// Not answered yet; while there is one, a call is under way.
    unanswered: HashMap<RequestId, TaskTrackerToken>,
    /// What may still be answered although nobody waits, the latest last.
    taken_back: VecDeque<RequestId>,
}

impl Requests {
    fn take_back(&mut self, id: &RequestId) {
        if self.unanswered.remove(id).is_some() {
            if self.taken_back.len() == MAX_TAKEN_BACK {
                self.taken_back.pop_front();
            }
            self.taken_back.push_back(id.clone());
        }
    }
}

/// Where a client's messages go in.
#[derive(Clone)]
pub(super) struct Session {
    incoming: mpsc::Sender<ClientJsonRpcMessage>,
    pending: Pending,
    calls: TaskTracker,
    patience: Duration,
}

/// The server's end.
pub(super) struct SseTransport {
    incoming: mpsc::Receiver<ClientJsonRpcMessage>,
    outgoing: mpsc::Sender<ServerJsonRpcMessage>,
    ended: CancellationToken,
    patience: Duration,
    opening: Opening,
}

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the client has closed its stream")]
    Gone,
    #[error("the client does not read its stream")]
    Slow,
}

/// Makes a session: where messages go in, the server's end, and the events that come out.
pub(super) fn open(
    ended: CancellationToken,
    calls: TaskTracker,
    patience: Duration,
) -> (Session, SseTransport, impl Stream<Item = Event> + Send + 'static) {
    let (to_server, incoming) = mpsc::channel(QUEUE);
    let (outgoing, from_server) = mpsc::channel(QUEUE);
    let pending = Pending::default();
    let session = Session { incoming: to_server, pending: pending.clone(), calls, patience };
    let transport = SseTransport { incoming, outgoing, ended, patience, opening: Opening::default() };
    let events = stream::unfold(from_server, async |mut messages| {
        let message: ServerJsonRpcMessage = messages.recv().await?;
        Some((message, messages))
    })
    .filter_map(move |message| {
        let event = event(&message);
        answered(&pending, &message);
        async move { event }
    });
    (session, transport, events)
}

impl Session {
    /// Whether an answer to a request of this id may still come, be it to one that was taken back.
    pub(super) fn is_under_way(&self, id: &RequestId) -> bool {
        let requests = lock(&self.pending);
        requests.unanswered.contains_key(id) || requests.taken_back.contains(id)
    }

    /// Hands a message to the server; `false` when it has as many as it may, or ends.
    pub(super) async fn accept(&self, message: ClientJsonRpcMessage) -> bool {
        match &message {
            JsonRpcMessage::Request(request) => {
                lock(&self.pending).unanswered.insert(request.id.clone(), self.calls.token());
            }
            // What was taken back may never be answered.
            JsonRpcMessage::Notification(JsonRpcNotification {
                notification: ClientNotification::CancelledNotification(cancelled),
                ..
            }) => {
                if let Some(id) = &cancelled.params.request_id {
                    lock(&self.pending).take_back(id);
                }
            }
            _ => {}
        }
        match self.incoming.send_timeout(message, self.patience).await {
            Ok(()) => true,
            Err(
                mpsc::error::SendTimeoutError::Timeout(message)
                | mpsc::error::SendTimeoutError::Closed(message),
            ) => {
                if let JsonRpcMessage::Request(request) = &message {
                    lock(&self.pending).unanswered.remove(&request.id);
                }
                false
            }
        }
    }
}

impl Transport<RoleServer> for SseTransport {
    type Error = SendError;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let (outgoing, ended, patience) = (self.outgoing.clone(), self.ended.clone(), self.patience);
        async move {
            match timeout(patience, outgoing.send(message)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(SendError::Gone),
                Err(_) => {
                    warn!(waiting = QUEUE, "the client does not read its stream, dropping it");
                    ended.cancel();
                    Err(SendError::Slow)
                }
            }
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let message = self.incoming.recv().await?;
            match self.opening.lets_through(&message) {
                Ok(true) => return Some(message),
                Ok(false) => {}
                // Nothing may be awaited here with a message in hand: who receives may give up at any time.
                Err(error) => drop(tokio::spawn(self.send(JsonRpcMessage::Error(error)))),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.incoming.close();
        Ok(())
    }
}

fn event(message: &ServerJsonRpcMessage) -> Option<Event> {
    let text = serde_json::to_string(message);
    text.map(|text| Event::default().event("message").data(text))
        .inspect_err(|error| error!(%error, "a message could not be written as JSON"))
        .ok()
}

fn answered(pending: &Pending, message: &ServerJsonRpcMessage) {
    let id = match message {
        JsonRpcMessage::Response(response) => Some(&response.id),
        JsonRpcMessage::Error(error) => error.id.as_ref(),
        _ => None,
    };
    if let Some(id) = id {
        lock(pending).unanswered.remove(id);
    }
}

fn lock(pending: &Pending) -> std::sync::MutexGuard<'_, Requests> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn request(id: u32) -> ClientJsonRpcMessage {
        serde_json::from_value(json!({"jsonrpc": "2.0", "id": id, "method": "ping"})).expect("a request")
    }

    fn response(id: u32) -> ServerJsonRpcMessage {
        serde_json::from_value(json!({"jsonrpc": "2.0", "id": id, "result": {}})).expect("a response")
    }

    #[tokio::test]
    async fn a_call_is_under_way_until_its_answer_has_left() {
        let calls = TaskTracker::new();
        let (session, mut transport, events) = open(CancellationToken::new(), calls.clone(), SHORT);
        let mut events = std::pin::pin!(events);
        assert!(session.accept(request(7)).await && session.accept(request(8)).await);
        assert!(transport.receive().await.is_some());
        transport.send(response(7)).await.expect("room");
        assert_eq!(calls.len(), 2, "the answer still waits to be read");
        assert!(events.next().await.is_some());
        assert_eq!(calls.len(), 1);
        drop(session);
        drop(transport);
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn a_request_that_was_taken_back_is_waited_for_no_longer() {
        let calls = TaskTracker::new();
        let (session, _transport, _events) = open(CancellationToken::new(), calls.clone(), SHORT);
        assert!(session.accept(request(7)).await && session.accept(request(8)).await);
        let cancelled =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
        assert!(session.accept(serde_json::from_value(cancelled).expect("a notification")).await);
        assert_eq!(calls.len(), 1);
        assert!(session.is_under_way(&RequestId::Number(7)), "its answer would be taken for another's");
        assert!(!session.is_under_way(&RequestId::Number(9)));
    }

    #[tokio::test]
    async fn what_comes_before_initialize_is_ignored_or_refused_and_ends_nothing() {
        let (session, mut transport, events) = open(CancellationToken::new(), TaskTracker::new(), SHORT);
        let mut events = std::pin::pin!(events);
        let early = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"});
        for message in [early, call] {
            assert!(session.accept(serde_json::from_value(message).expect("a message")).await);
        }
        assert!(session.accept(request(8)).await);
        match transport.receive().await {
            Some(JsonRpcMessage::Request(request)) => assert_eq!(request.id, RequestId::Number(8)),
            other => panic!("{other:?}"),
        }
        let refusal = format!("{:?}", events.next().await.expect("an event"));
        assert!(refusal.contains("send initialize first"), "{refusal}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_dropped_once_its_queue_is_full() {
        let ended = CancellationToken::new();
        let (_session, mut transport, _events) = open(ended.clone(), TaskTracker::new(), SHORT);
        for id in 0..64 {
            transport.send(response(id)).await.expect("room");
        }
        assert!(!ended.is_cancelled());
        assert!(matches!(transport.send(response(64)).await, Err(SendError::Slow)));
        assert!(ended.is_cancelled());
    }

    #[tokio::test]
    async fn a_client_that_sends_too_much_is_told_so_and_nothing_is_left_pending() {
        let calls = TaskTracker::new();
        let (session, transport, _events) = open(CancellationToken::new(), calls.clone(), SHORT);
        for id in 0..64 {
            assert!(session.accept(request(id)).await);
        }
        assert!(!session.accept(request(64)).await, "nobody takes them");
        assert_eq!(calls.len(), 64);
        drop(transport);
        assert!(!session.accept(request(65)).await, "the server has gone");
    }
}
