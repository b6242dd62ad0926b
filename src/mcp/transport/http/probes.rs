//! What an operator's machinery asks: whether the process lives, whether the pipeline is well, and numbers to draw.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Port, connections::Connections, guard::Guard, metrics, sessions::Sessions, sse::Streams};
use crate::{
    engine::{Engine, PipelineStatus},
    mcp::next_step::worded,
};

/// However often it is asked, the parts are asked once in this time.
const FRESH: Duration = Duration::from_secs(1);

/// Everything probes are answered from.
pub(super) struct Probes {
    engine: Arc<Engine>,
    guard: Arc<Guard>,
    /// Where MCP is spoken.
    mcp: Option<(Arc<Sessions>, Arc<Streams>)>,
    connections: Arc<Connections>,
    /// Cancelled once the server is asked to end.
    ending: CancellationToken,
    latest: Mutex<Option<(Instant, Arc<PipelineStatus>)>>,
}

/// What is answered to anybody: probes come from where no name is known and no token is held.
pub(super) fn unguarded(probes: Arc<Probes>) -> Router {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready).with_state(probes))
}

impl Probes {
    pub(super) fn new(
        engine: Arc<Engine>,
        guard: Arc<Guard>,
        mcp: Option<(Arc<Sessions>, Arc<Streams>)>,
        port: &Port,
    ) -> Self {
        let (connections, ending) = (port.connections.clone(), port.shutdown.asked.clone());
        Self { engine, guard, mcp, connections, ending, latest: Mutex::default() }
    }

    async fn status(&self) -> Arc<PipelineStatus> {
        // Whoever asks meanwhile waits for the same answer.
        let mut latest = self.latest.lock().await;
        match &*latest {
            Some((at, status)) if at.elapsed() < FRESH => status.clone(),
            _ => {
                let status = Arc::new(self.engine.inspection.status().await.worded(worded));
                *latest = Some((Instant::now(), status.clone()));
                status
            }
        }
    }
}

/// As [`Probes::status`], in a task of its own: a probe that gives up must not throw away the answer the next one needs.
async fn status_of(probes: &Arc<Probes>) -> Option<Arc<PipelineStatus>> {
    let probes = probes.clone();
    tokio::spawn(async move { probes.status().await }).await.ok()
}

/// The process runs and answers.
async fn alive() -> &'static str {
    "ok\n"
}

/// Every part answers and every drain runs. What exactly is wrong, and that there are parts at all, is told only to
/// those who may know.
async fn ready(
    State(probes): State<Arc<Probes>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if probes.ending.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "ending": true})))
            .into_response();
    }
    let Some(status) = status_of(&probes).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({"ready": status.ready});
    if probes.guard.trusts(&uri, &headers, peer.ip()) {
        let failing: Vec<&str> =
            status.parts().filter(|part| !part.ok).map(|part| part.name.as_str()).collect();
        body["failing"] = json!(failing);
        body["checked_at"] = json!(status.checked_at);
        body["problems"] = json!(status.problems);
    }
    (code, Json(body)).into_response()
}

/// Numbers in Prometheus' text format.
pub(super) async fn metrics(State(probes): State<Arc<Probes>>) -> Response {
    let Some(status) = status_of(&probes).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // What this process counts costs nothing and is never old.
    let (measured, pool) = (probes.engine.inspection.metrics(), probes.engine.inspection.pool());
    let sessions = match &probes.mcp {
        Some((sessions, streams)) => {
            vec![("streamable_http", sessions.open().await), ("sse", streams.open())]
        }
        None => Vec::new(),
    };
    let text = metrics::text(&status, &measured, pool, &sessions, &probes.connections);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
