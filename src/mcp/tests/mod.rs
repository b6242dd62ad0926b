//! The server as a client meets it, in one process: embedded parts, and an index that nobody serves.

mod app;
mod asking;
mod facts;
mod masking;
mod readers;
mod sizes;
mod surface;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ElicitRequestParams,
        ElicitResult, Implementation, ProtocolVersion, ResourceUpdatedNotificationParam,
    },
    service::{NotificationContext, RequestContext, RunningService},
};
use serde_json::Value;

use super::{Offer, SluiceServer};
use crate::{config::Settings, engine::Engine, parts};

/// A folder and an engine on it; the folder goes with it.
struct Bench {
    engine: Arc<Engine>,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let settings = [("ELASTICSEARCH_URL", "http://127.0.0.1:1"), ("SLUICE_SAMPLE", "true")];
        Self::with(settings.map(|(name, value)| (name.to_owned(), value.to_owned()))).await
    }

    async fn with(settings: impl IntoIterator<Item = (String, String)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = ("SLUICE_DATA_DIR".to_owned(), folder.path().display().to_string());
        let variables = settings.into_iter().chain([data]);
        let settings = Settings::load(variables).expect("settings");
        Self { engine: parts::engine(&settings).await.expect("an engine"), folder }
    }

    fn server(&self, offer: &Offer) -> SluiceServer {
        SluiceServer::new(self.engine.clone(), offer)
    }
}

/// How a client connects.
#[derive(Clone, Copy, PartialEq)]
enum Era {
    Sessions,
    Stateless,
}

/// A client that answers questions as it was told to, and remembers what it hears.
#[derive(Clone, Default)]
struct Client {
    capabilities: ClientCapabilities,
    answers: Arc<Mutex<VecDeque<ElicitResult>>>,
    questions: Arc<Mutex<Vec<String>>>,
    updated: Arc<Mutex<Vec<String>>>,
    progress: Arc<Mutex<Vec<f64>>>,
    logged: Arc<Mutex<Vec<Value>>>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(self.capabilities.clone(), Implementation::new("test", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        if let ElicitRequestParams::FormElicitationParams { message, .. } = request {
            self.questions.lock().expect("no poison").push(message);
        }
        let answer = self.answers.lock().expect("no poison").pop_front();
        answer.ok_or_else(|| ErrorData::internal_error("no answer was prepared", None))
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.updated.lock().expect("no poison").push(params.uri);
    }

    async fn on_progress(
        &self,
        params: rmcp::model::ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.progress.lock().expect("no poison").push(params.progress);
    }

    #[allow(deprecated)]
    async fn on_logging_message(
        &self,
        params: rmcp::model::LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.logged.lock().expect("no poison").push(serde_json::to_value(params).expect("JSON"));
    }
}

type Connection = RunningService<RoleClient, Client>;

/// Connects; the server runs until its client is gone.
async fn connect(server: SluiceServer, client: Client, era: Era) -> Connection {
    let (near, far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        if let Ok(running) = server.serve(far).await {
            running.waiting().await.ok();
        }
    });
    match era {
        Era::Sessions => client.serve(near).await.expect("a session"),
        Era::Stateless => {
            let lifecycle =
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
            client.serve_with_lifecycle(near, lifecycle).await.expect("an answer to discover")
        }
    }
}

async fn call(connection: &Connection, tool: &str, arguments: Value) -> CallToolResult {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    connection
        .call_tool(CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments))
        .await
        .expect("a result")
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str()).collect()
}

/// Waits until something is so; panics when it does not come to be.
async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}
