//! MCP over HTTP: `/mcp` speaks streamable HTTP, the stateless revision and those with sessions; `/sse` and `/messages`
//! speak its predecessor; `/healthz`, `/readyz` and `/metrics` answer machinery.
//!
//! The connection itself is plain: whoever serves other machines puts a proxy in front that speaks TLS.

mod client;
mod guard;
mod metrics;
mod probes;
mod request_id;
mod sessions;
mod sse;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, Method},
    middleware::{self, Next},
    response::Response,
    routing::{any_service, get, post},
    serve::ListenerExt,
};
use futures::StreamExt;
use rmcp::{
    ServerHandler, ServiceExt,
    transport::{StreamableHttpServerConfig, StreamableHttpService},
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tracing::{info, warn};

pub(in crate::mcp) use request_id::RequestId;

use self::{guard::Guard, probes::Probes, sessions::Sessions, sse::Streams};
use crate::{config::HttpSettings, engine::Engine};

/// The method of a message of the stateless revision, which names it beside the body.
const METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// How long connections may take to close once nothing is under way on them.
const FAREWELL: Duration = Duration::from_secs(2);

/// What tells the parts of a server that it ends, one after the other.
#[derive(Default)]
struct Ending {
    /// Nobody new is let in.
    asked: CancellationToken,
    /// Calls under way.
    calls: TaskTracker,
    /// Streams are cut.
    closing: CancellationToken,
}

/// Serves until `stop` is done, each session and each request of the stateless revision by a clone of `server`; then
/// takes no new connection, lets calls under way end as long as the settings allow, and closes what is open.
///
/// # Errors
/// When the address can't be served.
pub async fn serve<H: ServerHandler + Clone>(
    engine: Arc<Engine>,
    server: H,
    settings: &HttpSettings,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::bind(settings.address).await?;
    let address = listener.local_addr()?;
    let ending = Ending::default();
    let app = router(engine, server, settings, &ending).into_make_service_with_connect_info::<SocketAddr>();
    let listener = listener.tap_io(|connection| {
        // Answers are small and awaited.
        if let Err(error) = connection.set_nodelay(true) {
            warn!(%error, "a connection will be slower than it could be");
        }
    });
    let serving = axum::serve(listener, app).with_graceful_shutdown(ending.asked.clone().cancelled_owned());
    let mut serving = tokio::spawn(serving.into_future());
    info!(%address, tokens = settings.tokens.len(), "serving MCP over HTTP at /mcp, and at /sse for old clients");
    tokio::select! {
        () = stop => {}
        ended = &mut serving => return ended.map_err(io::Error::other)?,
    }
    ending.asked.cancel();
    ending.calls.close();
    if timeout(settings.grace, ending.calls.wait()).await.is_err() {
        warn!(calls = ending.calls.len(), "calls were cut short, see SLUICE_HTTP_SHUTDOWN_SECONDS");
    }
    ending.closing.cancel();
    if timeout(FAREWELL, &mut serving).await.is_err() {
        serving.abort();
    }
    Ok(())
}

fn router<H: ServerHandler + Clone>(
    engine: Arc<Engine>,
    server: H,
    settings: &HttpSettings,
    ending: &Ending,
) -> Router {
    let guard = Arc::new(Guard::new(settings));
    let sessions = Arc::new(Sessions::new(settings));
    let made = server.clone();
    let made: sse::Server = Box::new(move || made.clone().into_dyn());
    let streams = Streams::new(made, settings.max_sessions, ending.closing.clone(), ending.calls.clone());
    let streams = Arc::new(streams);
    let probes = Arc::new(Probes {
        engine,
        guard: guard.clone(),
        sessions: sessions.clone(),
        streams: streams.clone(),
        ending: ending.asked.clone(),
        latest: tokio::sync::Mutex::default(),
    });
    // Hosts and origins are the guard's, for all paths alike.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_json_response(true)
        .with_max_request_body_bytes(settings.max_body_bytes)
        .with_cancellation_token(ending.closing.clone());
    let streamable = StreamableHttpService::new(move || Ok(server.clone()), sessions.clone(), config);
    let mcp = Router::new()
        .route("/mcp", any_service(streamable))
        .route_layer(middleware::from_fn_with_state(ending.calls.clone(), count_call))
        .route_layer(middleware::from_fn_with_state(sessions, sessions::keep_apart));
    let legacy = Router::new()
        .route("/sse", get(sse::stream))
        .route("/messages", post(sse::message))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes))
        .with_state(streams);
    let guarded = Router::new()
        .merge(mcp)
        .merge(legacy)
        .route("/metrics", get(probes::metrics).with_state(probes.clone()))
        .route_layer(middleware::from_fn_with_state(guard.clone(), guard::admit))
        .route_layer(cors(guard.clone()))
        .route_layer(middleware::from_fn_with_state(guard, guard::check_names));
    // Probes come from where no name is known and no token is held.
    Router::new()
        .route("/healthz", get(probes::alive))
        .route("/readyz", get(probes::ready).with_state(probes))
        .merge(guarded)
        .layer(middleware::from_fn(guard::name))
}

/// Lets pages of allowed origins read what they are answered.
fn cors(guard: Arc<Guard>) -> CorsLayer {
    let allowed =
        move |origin: &HeaderValue, _: &_| origin.to_str().is_ok_and(|text| guard.allows_origin(text));
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(["mcp-session-id", "x-request-id", "www-authenticate"].map(HeaderName::from_static))
}

/// Keeps a call counted until its answer has been sent to the last byte. A stream that a GET or a subscription opened
/// is none: it ends only when it is cut.
async fn count_call(State(calls): State<TaskTracker>, request: Request, next: Next) -> Response {
    let subscribes = request.headers().get(METHOD).is_some_and(|method| method == "subscriptions/listen");
    if request.method() != Method::POST || subscribes {
        return next.run(request).await;
    }
    let call = calls.token();
    let (parts, body) = next.run(request).await.into_parts();
    if axum::body::HttpBody::size_hint(&body).exact().is_some() {
        return Response::from_parts(parts, body);
    }
    let body = body.into_data_stream().map(move |chunk| {
        let _until_the_body_ends = &call;
        chunk
    });
    Response::from_parts(parts, Body::from_stream(body))
}
