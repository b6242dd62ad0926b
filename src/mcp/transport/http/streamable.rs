//! `/mcp`: what rmcp's transport leaves to its surroundings. Clients read one JSON answer or a stream, whichever they
//! can; sessions are their openers'; nobody has more calls under way than a client may; every refusal says what to do.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use rmcp::{
    ServerHandler,
    model::{ClientJsonRpcMessage, ClientRequest, JsonRpcMessage, ProtocolVersion},
    transport::{StreamableHttpServerConfig, StreamableHttpService},
};
use serde_json::Value;
use sse_stream::SseStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use super::{
    accept::{BOTH, Readable},
    batch,
    body::{BodyLimits, receive, refused, request_id, until_sent},
    guard::{refusal, refuse},
    in_flight::{self, InFlight},
    sessions::{NoRoom, Sessions},
};
use crate::mcp::{
    principal::Principal,
    quota::Quota,
    requests,
    transport::message::{Incoming, Refusal},
};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const REVISION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Requests whose answer is a stream without an end.
const SUBSCRIBES: &str = "subscriptions/listen";

/// How long a client should wait for another's session to end, in seconds.
const FULL_FOR_SECONDS: u16 = 10;

/// How each message of a batch is answered.
const JSON_ALONE: Readable = Readable { json: true, events: false };

/// JSON-RPC's code for what the server alone can define.
const SERVER_ERROR: i32 = -32_000;

/// What answers `/mcp`.
pub(super) struct Streamable<H> {
    /// Answers with JSON where one answer is all there is.
    json: StreamableHttpService<H, Sessions>,
    /// Always answers with events.
    events: StreamableHttpService<H, Sessions>,
    sessions: Arc<Sessions>,
    calls: Arc<Quota>,
    in_flight: Arc<InFlight>,
    /// Calls whose answer has not been sent to the last byte.
    unanswered: TaskTracker,
    body: BodyLimits,
}

impl<H: ServerHandler + Clone> Streamable<H> {
    /// Each session, and each request of the stateless revision, is served by a clone of `server`, until `closing`.
    pub(super) fn new(
        server: &H,
        sessions: Arc<Sessions>,
        calls: Arc<Quota>,
        body: BodyLimits,
        unanswered: TaskTracker,
        closing: &CancellationToken,
    ) -> Self {
        let answering = |json| {
            // Hosts and origins are the guard's, for all paths alike.
            let config = StreamableHttpServerConfig::default()
                .disable_allowed_hosts()
                .disable_allowed_origins()
                .with_json_response(json)
                .with_max_request_body_bytes(body.bytes)
                .with_cancellation_token(closing.clone());
            let server = server.clone();
            StreamableHttpService::new(move || Ok(server.clone()), sessions.clone(), config)
        };
        Self {
            json: answering(true),
            events: answering(false),
            sessions,
            calls,
            in_flight: Arc::default(),
            unanswered,
            body,
        }
    }

    async fn post(&self, principal: &Principal, request: Request) -> Response {
        let readable = Readable::by(request.headers());
        if !readable.json && !readable.events {
            return unreadable(
                "answers are application/json or text/event-stream; send an Accept that has either",
            );
        }
        let (parts, body) = request.into_parts();
        match receive(&parts.headers, body, self.body).await {
            Ok(Incoming::Message(message)) => self.answer(principal, parts, *message, readable).await,
            Ok(Incoming::Batch(messages)) => self.batch(principal, parts, messages, readable).await,
            Ok(_) => StatusCode::ACCEPTED.into_response(),
            Err(error) => error.into_response(),
        }
    }

    /// Answers one message.
    async fn answer(
        &self,
        principal: &Principal,
        mut parts: Parts,
        message: ClientJsonRpcMessage,
        readable: Readable,
    ) -> Response {
        let id = request_id(&message);
        let subscribes = method(&message) == Some(SUBSCRIBES);
        if subscribes && !readable.events {
            return unreadable("a subscription is a stream; send an Accept that has text/event-stream");
        }
        if let Some(refusal) = opens_nothing(&parts.headers, &message) {
            return refused(&refusal);
        }
        // As it was understood: what is behind reads it once more, and must not read anything else.
        let Ok(bytes) = serde_json::to_vec(&message) else {
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, "the message can't be handed on");
        };
        let under_way = match (session_of(&parts.headers), &message) {
            (Some(session), JsonRpcMessage::Request(request)) => {
                let Some(under_way) = self.in_flight.begin(session, &request.id) else {
                    return in_flight::refused(&id.unwrap_or_default());
                };
                Some(under_way)
            }
            _ => None,
        };
        // What answers or ends a call must get through for calls to end at all.
        if let Some(id) = &id {
            let Some(call) = self.calls.take(principal) else {
                return too_many_calls(self.calls.most(), id);
            };
            parts.extensions.insert(Arc::new(call));
        }
        let unanswered = (id.is_some() && !subscribes).then(|| self.unanswered.token());
        parts.headers.insert(header::ACCEPT, BOTH);
        let service = if readable.json { &self.json } else { &self.events };
        let answering = service.handle(Request::from_parts(parts, Body::from(bytes)));
        let (response, no_room) = Sessions::opened_by(principal, answering).await;
        if let Some(no_room) = no_room {
            return full(no_room, &id.unwrap_or_default());
        }
        let response = in_json_where_it_failed(response.map(Body::new), id.as_ref()).await;
        let response = match id {
            Some(id) if !readable.events && is_stream(&response) => only_answer(response, &id).await,
            _ => response,
        };
        until_sent(response, (unanswered, under_way))
    }

    /// Answers the messages of a batch, where the session's revision has any.
    async fn batch(
        &self,
        principal: &Principal,
        parts: Parts,
        messages: Vec<Result<ClientJsonRpcMessage, Refusal>>,
        readable: Readable,
    ) -> Response {
        let revision = match session_of(&parts.headers) {
            Some(session) => self.sessions.version(session).await,
            None => None,
        };
        if let Err(refusal) = batch::are_known(revision.as_ref()) {
            info!(reason = %refusal.problem, "request refused");
            return refused(&refusal);
        }
        let answers = messages.into_iter().map(async |message| match message {
            Ok(message) => {
                let response = self.answer(principal, parts.clone(), message, JSON_ALONE).await;
                batch::answer_in(response).await
            }
            Err(refusal) => serde_json::from_str(&refusal.to_json()).ok(),
        });
        let answers = futures::future::join_all(answers).await.into_iter().flatten().collect();
        batch::response(answers, readable)
    }

    async fn get(&self, mut request: Request) -> Response {
        if !Readable::by(request.headers()).events {
            return unreadable("what a GET opens is a stream; send an Accept that has text/event-stream");
        }
        request.headers_mut().insert(header::ACCEPT, BOTH);
        in_json_where_it_failed(self.events.handle(request).await.map(Body::new), None).await
    }

    async fn delete(&self, session: Option<&str>, request: Request) -> Response {
        if let Some(session) = session
            && self.sessions.owner(session).await.is_none()
        {
            return unknown_session();
        }
        let response = self.events.handle(request).await.map(Body::new);
        let mut response = in_json_where_it_failed(response, None).await;
        // rmcp says that it will close the session; it has, and clients complain of anything but a success.
        if response.status() == StatusCode::ACCEPTED {
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        response
    }
}

/// Answers whatever is sent to `/mcp`.
pub(super) async fn serve<H: ServerHandler + Clone>(
    State(mcp): State<Arc<Streamable<H>>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    let session = session_of(request.headers()).map(str::to_owned);
    if let Some(session) = &session
        && let Some(owner) = mcp.sessions.owner(session).await
        && owner != principal
    {
        info!("request refused: the session is another client's");
        return unknown_session();
    }
    match *request.method() {
        Method::POST => mcp.post(&principal, request).await,
        Method::GET => mcp.get(request).await,
        Method::DELETE => mcp.delete(session.as_deref(), request).await,
        _ => {
            let mut response =
                refusal(StatusCode::METHOD_NOT_ALLOWED, "MCP is spoken by POST, GET and DELETE");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
            response
        }
    }
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
}

fn method(message: &ClientJsonRpcMessage) -> Option<&str> {
    match message {
        JsonRpcMessage::Request(request) => Some(ClientRequest::method(&request.request)),
        _ => None,
    }
}

/// Why a request that should open a session can't: rmcp would ask it for the session's id. The stateless revision has
/// no such request.
fn opens_nothing(headers: &HeaderMap, message: &ClientJsonRpcMessage) -> Option<Refusal> {
    let JsonRpcMessage::Request(request) = message else { return None };
    let stateless = ProtocolVersion::V_2026_07_28;
    if headers.get(REVISION).is_some_and(|revision| revision.as_bytes() >= stateless.as_str().as_bytes()) {
        return None;
    }
    match &request.request {
        ClientRequest::CustomRequest(custom) if custom.method == "initialize" => {
            let error = requests::refusal(custom);
            Some(Refusal::of(&request.id, error.code, error.message))
        }
        _ => None,
    }
}

/// Another's session is answered as if it did not exist.
fn unknown_session() -> Response {
    refusal(StatusCode::NOT_FOUND, "the session is unknown or has ended; send initialize to open a new one")
}

fn unreadable(message: &str) -> Response {
    refusal(StatusCode::NOT_ACCEPTABLE, message)
}

/// One client's calls have used up its share.
pub(super) fn too_many_calls(most: usize, id: &Value) -> Response {
    info!(most, "request refused: the client has as many calls under way as it may");
    let message = format!(
        "{most} calls of this client are under way, see SLUICE_HTTP_MAX_CALLS_PER_CLIENT; wait for one to end, or cancel \
         one"
    );
    let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, SERVER_ERROR, id, &message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// rmcp takes every reason to open no session for a fault of the server's; having no room is none.
pub(super) fn full(no_room: NoRoom, id: &Value) -> Response {
    info!(reason = %no_room, "request refused");
    let status = match no_room {
        NoRoom::ForAnybody(_) => StatusCode::SERVICE_UNAVAILABLE,
        NoRoom::ForThisClient(_) => StatusCode::TOO_MANY_REQUESTS,
    };
    let mut response = refuse(status, SERVER_ERROR, id, &no_room.to_string());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(FULL_FOR_SECONDS));
    response
}

fn has_type(response: &Response, essence: &str) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with(essence))
}

fn is_stream(response: &Response) -> bool {
    has_type(response, "text/event-stream")
}

/// rmcp says in plain text what is wrong with a request; clients read JSON-RPC.
async fn in_json_where_it_failed(response: Response, id: Option<&Value>) -> Response {
    /// Longer ones are none.
    const MAX_REASON_BYTES: usize = 10_000;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || has_type(&response, "application/json") {
        return response;
    }
    let (parts, body) = response.into_parts();
    if status == StatusCode::NOT_FOUND {
        return unknown_session();
    }
    let reason = axum::body::to_bytes(body, MAX_REASON_BYTES).await.unwrap_or_default();
    let reason = String::from_utf8_lossy(&reason);
    let reason = if reason.contains("Session ID is required") {
        "the header Mcp-Session-Id is missing: send initialize first, and with every other request the id that its \
         answer's header has"
    } else {
        &reason
    };
    let mut response = refuse(status, SERVER_ERROR, id.unwrap_or(&Value::Null), reason);
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    response
}

/// The one message of a stream that answers a request, for a client that reads no streams.
async fn only_answer(response: Response, id: &Value) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut events = SseStream::new(body);
    while let Some(Ok(event)) = events.next().await {
        let Some(data) = event.data else { continue };
        let answers = serde_json::from_str::<Value>(&data)
            .is_ok_and(|message| message.get("id") == Some(id) && message.get("method").is_none());
        if answers {
            parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            parts.headers.remove("x-accel-buffering");
            return Response::from_parts(parts, Body::from(data));
        }
    }
    refuse(
        StatusCode::SERVICE_UNAVAILABLE,
        SERVER_ERROR,
        id,
        "the server ends before the call does; try again",
    )
}
