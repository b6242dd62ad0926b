//! The HTTP+SSE pair of the 2024-11-05 revision, for clients that know no other: `GET /sse` opens a stream whose first
//! event tells where to post, `POST /messages` takes messages, and what they lead to comes out of the stream. A session
//! lives as long as its stream.

mod session;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, Method, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::{StreamExt, stream};
use rmcp::{RoleServer, ServiceExt, model::JsonRpcMessage, service::DynService};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, info, warn};

use self::session::{PATIENCE, Session, open};
use super::{
    Shutdown,
    body::{BodyLimits, receive, request_id},
    guard::refusal,
    in_flight,
    sessions::{NoRoom, Room},
    streamable::{full, too_many_calls},
};
use crate::{
    config::HttpSettings,
    mcp::{
        consent::AskedUntil,
        principal::Principal,
        quota::{Quota, Share},
        transport::message::Incoming,
    },
};

/// How often a comment shows both ends that the stream is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Makes what answers one session.
pub(super) type Server = Box<dyn Fn() -> Box<dyn DynService<RoleServer>> + Send + Sync>;

/// Every open stream.
pub(super) struct Streams {
    server: Server,
    room: Room,
    calls: Arc<Quota>,
    body: BodyLimits,
    /// What stands before `/messages` where clients see it.
    prefix: String,
    /// The server ends: nobody is asked anything any more.
    asked: CancellationToken,
    /// Ends every stream.
    closing: CancellationToken,
    unanswered: TaskTracker,
    sessions: Mutex<HashMap<String, (Share, Session)>>,
}

impl Streams {
    /// Streams until `shutdown` ends them; calls under way are counted in `calls`.
    pub(super) fn new(
        server: Server,
        settings: &HttpSettings,
        calls: Arc<Quota>,
        shutdown: &Shutdown,
    ) -> Self {
        let limits = &settings.limits;
        Self {
            server,
            room: Room::new(limits),
            calls,
            body: BodyLimits { bytes: limits.body_bytes, time: limits.io_timeout },
            prefix: settings.public_url.as_ref().map(|url| url.path().to_owned()).unwrap_or_default(),
            asked: shutdown.asked.clone(),
            closing: shutdown.closing.clone(),
            unanswered: shutdown.unanswered.clone(),
            sessions: Mutex::default(),
        }
    }

    pub(super) fn open(&self) -> usize {
        self.sessions().len()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, (Share, Session)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another's session is as unknown as one that does not exist.
    fn find(&self, id: &str, principal: &Principal) -> Option<Session> {
        let sessions = self.sessions();
        let (share, session) = sessions.get(id)?;
        (share.principal() == principal).then(|| session.clone())
    }

    /// Keeps a session for a client, if there is room for one more.
    fn keep(&self, id: &str, principal: &Principal, session: Session) -> Result<(), NoRoom> {
        let mut sessions = self.sessions();
        let share = self.room.take(principal, sessions.len())?;
        sessions.insert(id.to_owned(), (share, session));
        Ok(())
    }
}

/// Forgets the session when its stream is dropped, which is how a client leaves.
struct OpenStream {
    streams: Arc<Streams>,
    id: String,
    ended: CancellationToken,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.sessions().remove(&self.id);
        self.ended.cancel();
    }
}

/// `GET /sse`.
pub(super) async fn stream(
    State(streams): State<Arc<Streams>>,
    Extension(principal): Extension<Principal>,
    method: Method,
) -> Response {
    // Who only wants the head would open a session to close it.
    if method != Method::GET {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "a stream is opened by GET");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let id = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let ended = streams.closing.child_token();
    let (session, transport, messages) = open(ended.clone(), streams.unanswered.clone(), PATIENCE);
    if let Err(no_room) = streams.keep(&id, &principal, session) {
        return full(no_room, &Value::Null);
    }
    let open_stream = OpenStream { streams: streams.clone(), id: id.clone(), ended: ended.clone() };
    let serving = serve(streams.clone(), id.clone(), transport, ended.clone());
    tokio::spawn(serving.instrument(Span::current()));
    let first =
        Event::default().event("endpoint").data(format!("{}/messages?session_id={id}", streams.prefix));
    let events = stream::once(async move { first }).chain(messages).take_until(ended.cancelled_owned()).map(
        move |event| {
            let _until_the_stream_ends = &open_stream;
            Ok::<_, Infallible>(event)
        },
    );
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn serve(
    streams: Arc<Streams>,
    id: String,
    transport: session::SseTransport,
    ended: CancellationToken,
) {
    info!("stream opened");
    match (streams.server)().serve_with_ct(transport, ended.clone()).await {
        Ok(running) => {
            running.waiting().await.ok();
        }
        Err(_) if ended.is_cancelled() => {}
        Err(error) => warn!(%error, "the session of a stream could not be opened"),
    }
    streams.sessions().remove(&id);
    ended.cancel();
    info!("stream closed");
}

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    session_id: String,
}

/// `POST /messages?session_id=…`.
pub(super) async fn message(
    State(streams): State<Arc<Streams>>,
    Extension(principal): Extension<Principal>,
    target: Result<Query<Target>, QueryRejection>,
    request: Request,
) -> Response {
    let Ok(Query(target)) = target else {
        return refusal(StatusCode::BAD_REQUEST, "session_id: is missing; post to what GET /sse names first");
    };
    let Some(session) = streams.find(&target.session_id, &principal) else {
        return refusal(StatusCode::NOT_FOUND, "session_id: no stream has this id; open one with GET /sse");
    };
    let (mut parts, body) = request.into_parts();
    let mut message = match receive(&parts.headers, body, streams.body).await {
        Ok(Incoming::Message(message)) => *message,
        // Its answers would have to come out of the stream together.
        Ok(_) => {
            return refusal(
                StatusCode::BAD_REQUEST,
                "batches are not taken here; send each message by itself",
            );
        }
        Err(error) => return error.into_response(),
    };
    if let Some(id) = request_id(&message) {
        if matches!(&message, JsonRpcMessage::Request(request) if session.is_under_way(&request.id)) {
            return in_flight::refused(&id);
        }
        let Some(call) = streams.calls.take(&principal) else {
            return too_many_calls(streams.calls.most(), &id);
        };
        parts.extensions.insert(Arc::new(call));
    }
    message.insert_extension(parts);
    message.insert_extension(AskedUntil(streams.asked.clone()));
    if session.accept(message).await {
        (StatusCode::ACCEPTED, "Accepted").into_response()
    } else {
        busy("this session has more messages waiting than it may; read the stream and try again")
    }
}

fn busy(message: &str) -> Response {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
