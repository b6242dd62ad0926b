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
    body::Bytes,
    extract::{FromRequest, Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::{StreamExt, stream};
use rmcp::{RoleServer, ServiceExt, model::ClientJsonRpcMessage, service::DynService};
use serde::Deserialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, info, warn};

use self::session::{PATIENCE, Session, open};
use super::{client::Client, guard::refusal};

/// How often a comment shows both ends that the stream is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Makes what answers one session.
pub(super) type Server = Box<dyn Fn() -> Box<dyn DynService<RoleServer>> + Send + Sync>;

/// Every open stream.
pub(super) struct Streams {
    server: Server,
    most: usize,
    /// Ends every stream.
    closing: CancellationToken,
    calls: TaskTracker,
    sessions: Mutex<HashMap<String, (Client, Session)>>,
}

impl Streams {
    /// At most `most` at once, until `closing` ends them; calls under way are counted in `calls`.
    pub(super) fn new(server: Server, most: usize, closing: CancellationToken, calls: TaskTracker) -> Self {
        Self { server, most, closing, calls, sessions: Mutex::default() }
    }

    pub(super) fn open(&self) -> usize {
        self.sessions().len()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, (Client, Session)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str, client: &Client) -> Option<Session> {
        let sessions = self.sessions();
        let (owner, session) = sessions.get(id)?;
        match (owner, client) {
            // Where nobody needs a token, knowing the id must do.
            (Client::Token(owner), Client::Token(name)) if owner != name => None,
            _ => Some(session.clone()),
        }
    }
}

/// Forgets the session when its stream is dropped, which is how a client leaves.
struct Leaving {
    streams: Arc<Streams>,
    id: String,
    ended: CancellationToken,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.streams.sessions().remove(&self.id);
        self.ended.cancel();
    }
}

/// `GET /sse`.
pub(super) async fn stream(
    State(streams): State<Arc<Streams>>,
    axum::Extension(client): axum::Extension<Client>,
) -> Response {
    let id = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let ended = streams.closing.child_token();
    let (session, transport, messages) = open(ended.clone(), streams.calls.clone(), PATIENCE);
    {
        let mut sessions = streams.sessions();
        if sessions.len() >= streams.most {
            warn!(most = streams.most, "stream refused, see SLUICE_HTTP_MAX_SESSIONS");
            return busy("as many streams are open as may be; try again later");
        }
        sessions.insert(id.clone(), (client, session));
    }
    let leaving = Leaving { streams: streams.clone(), id: id.clone(), ended: ended.clone() };
    let serving = serve(streams.clone(), id.clone(), transport, ended.clone());
    tokio::spawn(serving.instrument(Span::current()));
    let first = Event::default().event("endpoint").data(format!("/messages?session_id={id}"));
    let events = stream::once(async move { first }).chain(messages).take_until(ended.cancelled_owned()).map(
        move |event| {
            let _until_the_stream_ends = &leaving;
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
    Query(target): Query<Target>,
    axum::Extension(client): axum::Extension<Client>,
    request: Request,
) -> Response {
    let Some(session) = streams.find(&target.session_id, &client) else {
        return refusal(StatusCode::NOT_FOUND, "session_id: no stream has this id; open one with GET /sse");
    };
    let (parts, body) = request.into_parts();
    let body = match Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await {
        Ok(body) => body,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    let Ok(mut message) = serde_json::from_slice::<ClientJsonRpcMessage>(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "the body is not a JSON-RPC message");
    };
    message.insert_extension(parts);
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
