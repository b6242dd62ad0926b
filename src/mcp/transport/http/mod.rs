//! MCP over HTTP: `/mcp` speaks streamable HTTP, the stateless revision and those with sessions; `/sse` and `/messages`
//! speak its predecessor; `/exports/{id}` gives files that clients had made; `/healthz`, `/readyz` and
//! `/metrics` answer machinery, and are all that a worker serves; `/` is a page for people, which asks `/mcp` and `/lag`.
//!
//! The connection itself is plain: whoever serves other machines puts a proxy in front that speaks TLS.

mod accept;
mod authenticator;
mod batch;
mod body;
mod connections;
mod exports;
mod guard;
mod in_flight;
mod lag;
mod listener;
mod metrics;
mod page;
mod probes;
mod request_id;
mod sessions;
mod sse;
mod streamable;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, StatusCode},
    middleware,
    response::Response,
    routing::{any, get, post},
};
use rmcp::{ServerHandler, ServiceExt};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tracing::{info, warn};

pub(crate) use metrics::documentation as metrics_documentation;
pub(in crate::mcp) use request_id::RequestId;

use self::{
    body::BodyLimits,
    connections::Connections,
    exports::Downloads,
    guard::{Guard, refusal},
    listener::{Listener, allow_files},
    probes::Probes,
    sessions::Sessions,
    sse::Streams,
    streamable::Streamable,
};
use super::super::{Reveals, quota::Quota};
use crate::{
    config::{HttpSettings, PublicUrl},
    engine::Engine,
};

/// Everything that is served.
const PATHS: [&str; 10] =
    ["/mcp", "/sse", "/messages", "/healthz", "/readyz", "/metrics", "/lag", "/page.css", "/page.js", "/"];

/// How long connections may take to close once nothing is under way on them.
const FAREWELL: Duration = Duration::from_secs(1);

/// What tells the parts of a server that it ends, one after the other.
#[derive(Default)]
struct Shutdown {
    /// Nobody new is let in.
    asked: CancellationToken,
    /// Calls whose answer has not left.
    unanswered: TaskTracker,
    /// Streams are cut.
    closing: CancellationToken,
}

/// Serves until `stop` is done, each session and each request of the stateless revision by a clone of `server`; then
/// takes no new connection, lets calls under way end as long as the settings allow, and closes what is open.
///
/// # Errors
/// When the address can't be served.
pub async fn serve<H: ServerHandler + Reveals + Clone>(
    engine: Arc<Engine>,
    server: H,
    settings: &HttpSettings,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let port = Port::open(settings).await?;
    let history = Arc::<lag::History>::default();
    tokio::spawn(lag::measure(engine.clone(), history.clone(), port.shutdown.asked.clone()));
    let app = router(engine, server, settings, &port, history);
    let (address, tokens) = (port.address, settings.tokens.len());
    info!(%address, tokens, "serving MCP over HTTP at /mcp, and at /sse for old clients");
    port.serve(app, settings, stop).await
}

/// Serves `/healthz`, `/readyz` and `/metrics` of a process without MCP until `stop` is done.
///
/// # Errors
/// When the address can't be served.
pub async fn serve_probes(
    engine: Arc<Engine>,
    settings: &HttpSettings,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let port = Port::open(settings).await?;
    let guard = port.guard(settings);
    let probes = Arc::new(Probes::new(engine, guard.clone(), None, &port));
    let numbers = Router::new().route("/metrics", get(probes::metrics).with_state(probes.clone()));
    let app = probes::unguarded(probes).merge(guarded(numbers, &guard)).fallback(async || {
        refusal(
            StatusCode::NOT_FOUND,
            "nothing is served at this path; a worker answers /healthz, /readyz and /metrics",
        )
    });
    info!(address = %port.address, tokens = settings.tokens.len(), "serving /healthz, /readyz and /metrics");
    port.serve(app.layer(middleware::from_fn(guard::name)), settings, stop).await
}

/// An address that is listened at.
struct Port {
    socket: TcpListener,
    address: SocketAddr,
    connections: Arc<Connections>,
    shutdown: Shutdown,
}

impl Port {
    async fn open(settings: &HttpSettings) -> io::Result<Self> {
        let socket = TcpListener::bind(settings.address).await?;
        let address = socket.local_addr()?;
        let limits = &settings.limits;
        let possible = allow_files(limits.connections);
        let share = (limits.connections_per_client * possible / limits.connections).max(1);
        let connections = Connections::new(possible, share);
        Ok(Self { socket, address, connections, shutdown: Shutdown::default() })
    }

    /// Who gets through, as long as this is listened at.
    fn guard(&self, settings: &HttpSettings) -> Arc<Guard> {
        let guard = Arc::new(Guard::new(settings));
        let (following, asked) = (guard.clone(), self.shutdown.asked.clone());
        tokio::spawn(async move { asked.run_until_cancelled(following.follow_tokens()).await });
        guard
    }

    async fn serve(
        self,
        app: Router,
        settings: &HttpSettings,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let Self { socket, connections, shutdown, .. } = self;
        let (io_timeout, asked) = (settings.limits.io_timeout, shutdown.asked.clone());
        let listener = Listener { socket, connections, app, io_timeout, asked };
        let listening = tokio::spawn(listener.run(shutdown.closing.clone(), FAREWELL));
        stop.await;
        shutdown.asked.cancel();
        shutdown.unanswered.close();
        if timeout(settings.grace, shutdown.unanswered.wait()).await.is_err() {
            warn!(
                calls = shutdown.unanswered.len(),
                "calls were cut short, see SLUICE_HTTP_SHUTDOWN_SECONDS"
            );
        }
        shutdown.closing.cancel();
        listening.await.map_err(io::Error::other)
    }
}

fn router<H: ServerHandler + Reveals + Clone>(
    engine: Arc<Engine>,
    server: H,
    settings: &HttpSettings,
    port: &Port,
    history: Arc<lag::History>,
) -> Router {
    let (limits, language) = (&settings.limits, engine.language);
    let guard = port.guard(settings);
    let Shutdown { asked, unanswered, closing } = &port.shutdown;
    let sessions = Arc::new(Sessions::new(settings, asked.clone()));
    let calls = Quota::new(limits.calls_per_client);
    let body = BodyLimits { bytes: limits.body_bytes, time: limits.io_timeout };
    let streamable =
        Streamable::new(&server, sessions.clone(), calls.clone(), body, unanswered.clone(), closing);
    let downloads = Downloads { engine: engine.clone(), reveals: Box::new(server.clone()) };
    let made: sse::Server = Box::new(move || server.clone().into_dyn());
    let streams = Arc::new(Streams::new(made, settings, calls, &port.shutdown));
    let probes = Arc::new(Probes::new(engine, guard.clone(), Some((sessions, streams.clone())), port));
    let routes = Router::new()
        .route("/mcp", any(streamable::serve::<H>).with_state(Arc::new(streamable)))
        .route("/sse", get(sse::stream).with_state(streams.clone()))
        .route("/messages", post(sse::message).with_state(streams))
        .route("/exports/{id}", get(exports::download).with_state(Arc::new(downloads)))
        .route("/metrics", get(probes::metrics).with_state(probes.clone()))
        .route("/lag", get(lag::lag).with_state(history));
    let paths = probes::unguarded(probes).merge(guarded(routes, &guard));
    // A proxy may take away the path it serves this by, or leave it.
    let prefix = settings.public_url.as_ref().map(PublicUrl::path).unwrap_or_default();
    let paths = paths.merge(page::routes(prefix, language));
    let app = if prefix.is_empty() {
        paths
    } else {
        let with_slash = page::at(&format!("{prefix}/"), prefix, language);
        Router::new().nest(prefix, paths.clone()).merge(with_slash).merge(paths)
    };
    app.fallback(nothing_here).layer(middleware::from_fn(guard::name))
}

/// Routes that only those reach whom the guard admits.
fn guarded(routes: Router, guard: &Arc<Guard>) -> Router {
    routes
        .route_layer(middleware::from_fn_with_state(guard.clone(), guard::admit))
        .route_layer(cors(guard.clone()))
        .route_layer(middleware::from_fn_with_state(guard.clone(), guard::check_names))
}

async fn nothing_here() -> Response {
    refusal(
        StatusCode::NOT_FOUND,
        "nothing is served at this path; MCP is at /mcp, and at /sse for old clients, and a page for people at /",
    )
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
