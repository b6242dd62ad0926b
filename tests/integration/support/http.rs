//! The real program, serving HTTP on a port of its own with every part of the pipeline down but the sample source.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use rmcp::{
    RoleClient, ServiceExt,
    model::ProtocolVersion,
    service::{ClientLifecycleMode, ClientServiceExt, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};
use sluice::source::sample::{SampleServer, keys};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::{PATIENCE, eventually};

pub type Session = RunningService<RoleClient, ()>;

/// A running server; killed when dropped.
pub struct HttpServer {
    source: Option<SampleServer>,
    pub url: String,
    pub process: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// The program with these arguments, settings that lead to closed ports, and these settings besides.
pub fn command(source: &SampleServer, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command
        .args(arguments)
        .env_clear()
        .env("SLUICE_TOOLS", "all")
        .current_dir(std::env::temp_dir())
        .kill_on_drop(true);
    command.env("SUPABASE_URL", source.url()).env("SUPABASE_KEY", keys::SECRET);
    command.envs([
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("KAFKA_TIMEOUT_SECONDS", "1"),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing"),
        ("DATABASE_TIMEOUT_SECONDS", "1"),
        ("ELASTICSEARCH_URL", "http://127.0.0.1:1"),
        ("ELASTICSEARCH_TIMEOUT_SECONDS", "1"),
        ("SLUICE_LOG", "warn,sluice=debug"),
    ]);
    command.envs(settings.iter().copied());
    command
}

impl HttpServer {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let source = SampleServer::start(0).await.expect("a free port");
        let command = command(&source, &["serve", "--without-drains", "--http", "127.0.0.1:0"], settings);
        Self { source: Some(source), ..Self::of(command).await }
    }

    /// The program as it is to be run.
    pub async fn of(mut command: Command) -> Self {
        let mut process =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(process.stderr.take().expect("stderr")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                written.lock().expect("no poison").push(line);
            }
        });
        let mut server = Self { source: None, url: String::new(), process, log };
        let serving =
            || ["serving MCP over HTTP", "serving /healthz"].iter().find_map(|said| server.find(said));
        eventually("the server serves", async || serving().is_some()).await;
        let line = serving().expect("just seen");
        server.url = format!("http://{}", line["address"].as_str().expect("an address"));
        server
    }

    /// The source behind a server that [`HttpServer::start`] started.
    pub fn source(&self) -> &SampleServer {
        self.source.as_ref().expect("a source of its own")
    }

    /// The first line of the log that says this.
    pub fn find(&self, message: &str) -> Option<Value> {
        let log = self.log.lock().expect("no poison");
        let mut lines = log
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
        lines.find(|line| line["message"].as_str().is_some_and(|text| text.contains(message)))
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no poison").join("\n")
    }

    pub fn mcp(&self) -> String {
        format!("{}/mcp", self.url)
    }

    /// A real client that says initialize.
    pub async fn connect(&self, token: Option<&str>) -> Session {
        ().serve(self.transport(token)).await.expect("the session opens")
    }

    /// A real client of the stateless revision.
    pub async fn connect_stateless(&self, token: Option<&str>) -> Session {
        let lifecycle =
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
        ().serve_with_lifecycle(self.transport(token), lifecycle).await.expect("the server is discovered")
    }

    fn transport(&self, token: Option<&str>) -> StreamableHttpClientTransport<reqwest::Client> {
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.mcp());
        if let Some(token) = token {
            config = config.auth_header(token);
        }
        StreamableHttpClientTransport::from_config(config)
    }

    /// A message posted to `/mcp` by hand, to be changed and sent.
    pub fn post(&self, message: &Value) -> reqwest::RequestBuilder {
        reqwest::Client::new()
            .post(self.mcp())
            .header("accept", "application/json, text/event-stream")
            .json(message)
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        let id = self.process.id().expect("a running process").to_string();
        let ended = std::process::Command::new("kill").args(["-TERM", &id]).status();
        assert!(ended.expect("kill runs").success());
    }
}

/// What a client of an older revision says first.
pub fn initialize(version: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "script", "version": "1"}}})
}

/// A request of the stateless revision, which says with each who asks.
pub fn stateless(id: u32, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "script", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

pub fn call(id: u32, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
}

/// Server-sent events, as they come in.
pub struct Events {
    response: reqwest::Response,
    received: String,
}

#[derive(Debug, Default)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Events {
    pub fn of(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, received: String::new() }
    }

    /// The next event; `None` once the stream has ended. It panics if nothing comes in time: a stream would be waited
    /// for without end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.received.find("\n\n") {
                let text: String = self.received.drain(..end + 2).collect();
                let mut event = Event::default();
                for (field, value) in text.lines().filter_map(|line| line.split_once(':')) {
                    let value = value.trim_start();
                    match field {
                        "event" => value.clone_into(&mut event.name),
                        "id" => value.clone_into(&mut event.id),
                        "data" => event.data.push_str(value),
                        _ => {}
                    }
                }
                return Some(event);
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("no event within {} s", PATIENCE.as_secs()));
            let chunk = chunk.ok().flatten()?;
            self.received.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The next event that carries a message.
    pub async fn message(&mut self) -> Option<Event> {
        loop {
            let event = self.next().await?;
            if !event.data.is_empty() {
                return Some(event);
            }
        }
    }
}
