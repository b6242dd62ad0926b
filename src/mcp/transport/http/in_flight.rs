//! Requests of sessions that are still being answered, by their ids: rmcp answers the second of two with one id, and
//! never the first, or hands the second what the first asked for.
//!
//! A request is under way until its answer is on its way to whoever asked, however long ago that client hung up: the
//! note of it goes with the message to the session's transport, and ends there.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    http::{StatusCode, request::Parts},
    response::Response,
};
use rmcp::{
    RoleServer,
    model::{
        ClientJsonRpcMessage, ClientNotification, ErrorCode, GetExtensions, JsonRpcMessage, RequestId,
        ServerJsonRpcMessage,
    },
    transport::Transport,
};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::guard::refuse;
use crate::mcp::consent::AskedUntil;

/// Requests of a session that were taken back and are remembered: what was busy with one may still answer it, which
/// would be taken for the answer to another request of the same id.
pub(super) const MAX_TAKEN_BACK: usize = 256;

type Key = (String, RequestId);

#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashSet<Key>>);

/// A request under way, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    all: Arc<InFlight>,
    key: Key,
}

impl InFlight {
    /// Takes note of a request; `None` where another of its session has the same id. Whoever sends the request on
    /// sends this with it, among the extensions of its head.
    pub(super) fn begin(self: &Arc<Self>, session: &str, id: &RequestId) -> Option<Arc<UnderWay>> {
        let key = (session.to_owned(), id.clone());
        self.keys().insert(key.clone()).then(|| Arc::new(UnderWay { all: self.clone(), key }))
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.keys().remove(&self.key);
    }
}

/// What the second of two requests is answered.
pub(super) fn refused(id: &Value) -> Response {
    let problem = "the id is that of a request of this session that is still being answered, or was taken back; give \
                   each its own";
    refuse(StatusCode::BAD_REQUEST, ErrorCode::INVALID_REQUEST.0, id, problem)
}

/// A session's transport that keeps what is under way until it is answered, and says when the session ends.
pub(super) struct Tracked<T> {
    inner: T,
    calls: Arc<Mutex<Calls>>,
    ended: CancellationToken,
    _ends_with_this: DropGuard,
}

#[derive(Debug, Default)]
struct Calls {
    under_way: HashMap<RequestId, Arc<UnderWay>>,
    taken_back: VecDeque<Arc<UnderWay>>,
}

impl Calls {
    fn begin(&mut self, message: &mut ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(request) => {
                let head = request.request.extensions_mut().get_mut::<Parts>();
                if let Some(call) = head.and_then(|head| head.extensions.remove::<Arc<UnderWay>>()) {
                    self.under_way.insert(request.id.clone(), call);
                }
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.take_back(id);
                }
            }
            _ => {}
        }
    }

    fn take_back(&mut self, id: &RequestId) {
        let Some(call) = self.under_way.remove(id) else { return };
        if self.taken_back.len() == MAX_TAKEN_BACK {
            self.taken_back.pop_front();
        }
        self.taken_back.push_back(call);
    }
}

impl<T> Tracked<T> {
    /// `ended` is cancelled with the session, if it is not before.
    pub(super) fn new(inner: T, ended: CancellationToken) -> Self {
        Self { inner, calls: Arc::default(), ended: ended.clone(), _ends_with_this: ended.drop_guard() }
    }
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Tracked<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            _ => None,
        };
        let calls = self.calls.clone();
        let sending = self.inner.send(message);
        async move {
            let sent = sending.await;
            if let Some(id) = answered {
                lock(&calls).under_way.remove(&id);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let Some(mut message) = self.inner.receive().await else {
            self.ended.cancel();
            return None;
        };
        lock(&self.calls).begin(&mut message);
        message.insert_extension(AskedUntil(self.ended.clone()));
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
