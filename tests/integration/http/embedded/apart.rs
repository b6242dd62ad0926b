//! What is one client's is no other's: tasks, sessions, streams, log events.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::source::sample::{Failure, Fault, SampleServer, keys};
use tokio::process::Command;

use super::streamable::open_for;
use crate::support::{
    eventually,
    http::{Events, HttpServer, call, initialize, stateless},
    rows::leads,
};

const TOKENS: &str = "dono:full:segredo-do-dono-123456,outro:full:segredo-do-outro-12345";
const OWNER: &str = "segredo-do-dono-123456";
const OTHER: &str = "segredo-do-outro-12345";

/// A stateless request of a client that knows tasks.
async fn ask(server: &HttpServer, token: &str, method: &str, params: Value) -> Value {
    let name = params.get("name").or(params.get("taskId")).and_then(Value::as_str).map(str::to_owned);
    let mut message = stateless(1, method, params);
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let mut request = server.post(&message).bearer_auth(token);
    request = request.header("mcp-protocol-version", "2026-07-28").header("mcp-method", method);
    if let Some(name) = name {
        request = request.header("mcp-name", name);
    }
    request.send().await.expect("an answer").json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_known_to_the_token_that_made_it_and_to_no_other() {
    let source = SampleServer::start(0).await.expect("a free port");
    source.set_rows(crate::support::table("leads"), leads(100));
    source.set_max_rows(Some(2));
    source.script(std::iter::repeat_with(|| Fault::Delay(Duration::from_millis(300))).take(200));
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command
        .args(["serve", "--http", "127.0.0.1:0"])
        .env_clear()
        .env("SLUICE_TOOLS", "all")
        .current_dir(folder.path())
        .kill_on_drop(true);
    command.env("SLUICE_DATA_DIR", folder.path()).env("SLUICE_HTTP_TOKENS", TOKENS);
    command.env("SUPABASE_URL", source.url()).env("SUPABASE_KEY", keys::SECRET);
    let server = HttpServer::of(command).await;

    let sync = json!({"name": "sync_leads_from_supabase", "arguments": {}});
    let made = ask(&server, OWNER, "tools/call", sync).await;
    let task = made["result"]["taskId"].as_str().unwrap_or_else(|| panic!("no task: {made}")).to_owned();
    let named = json!({"taskId": task});
    let state = async || ask(&server, OWNER, "tasks/get", named.clone()).await["result"]["status"].clone();
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        let mut params = named.clone();
        params["inputResponses"] = json!({});
        let answer = ask(&server, OTHER, method, params).await;
        assert_eq!(answer["error"]["code"], -32_602, "{method}: {answer}");
        assert!(
            answer["error"]["message"].as_str().is_some_and(|text| text.contains("unknown task")),
            "{answer}"
        );
    }
    assert_eq!(state().await, "working", "the other's cancel changed nothing");
    ask(&server, OWNER, "tasks/cancel", named.clone()).await;
    eventually("its owner cancels it", async || state().await == "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_ends_or_resumes_anothers_session() {
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS)]).await;
    let session = open_for(&server, OWNER).await;
    let own = open_for(&server, OTHER).await;
    let client = reqwest::Client::new();
    let as_other = |request: reqwest::RequestBuilder, session: &str| {
        request.bearer_auth(OTHER).header("mcp-session-id", session).header("accept", "*/*")
    };
    // Another's session is as unknown as one that does not exist.
    for session in [session.as_str(), "0b0e7e0a-0000-4000-8000-000000000000"] {
        let mut texts = Vec::new();
        for request in [
            client.get(server.mcp()),
            client.get(server.mcp()).header("last-event-id", "0/0"),
            client.delete(server.mcp()),
            client.post(server.mcp()).json(&call(1, "get_supabase_dashboard")),
            // Whoever names a session before it exists does not get it.
            client.post(server.mcp()).json(&initialize("2025-06-18")),
        ] {
            let response = as_other(request, session).send().await.expect("an answer");
            assert_eq!(response.status(), 404);
            assert!(!response.headers().contains_key("mcp-session-id"));
            texts.push(response.text().await.expect("text"));
        }
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    }

    // An event's name in one session leads to nothing in another.
    server.source().script([Fault::Delay(Duration::from_millis(500))]);
    let asked = server.post(&call(7, "get_supabase_dashboard")).bearer_auth(OWNER);
    let asked = asked.header("mcp-session-id", &session).send().await.expect("a stream");
    let mut stream = Events::of(asked);
    let event = stream.next().await.expect("an event that says where the stream is").id;
    let resumed = client.get(server.mcp()).header("last-event-id", &event);
    let resumed = as_other(resumed, &own).send().await.expect("an answer");
    assert_eq!(resumed.status(), 400);
    assert!(resumed.text().await.expect("text").contains("nothing is kept of the stream"));
    assert_eq!(stream.message().await.expect("the owner's answer").json()["id"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_of_its_own_calls_and_of_nobody_elses() {
    let server = HttpServer::start(&[("SLUICE_LOG", "debug")]).await;
    // Two programs on one machine, without a token: nothing but their sessions tells them apart.
    let (session, other) = (open_for(&server, "none").await, open_for(&server, "none").await);
    let ask = async |session: &str, message: Value| {
        let response =
            server.post(&message).header("mcp-session-id", session).send().await.expect("an answer");
        Events::of(response).message().await.expect("an answer").json()
    };
    let mut heard = Vec::new();
    for session in [&session, &other] {
        let level =
            json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}});
        assert!(ask(session, level).await["result"].is_object());
        let stream = reqwest::Client::new().get(server.mcp()).header("mcp-session-id", session.as_str());
        heard.push(Events::of(stream.header("accept", "text/event-stream").send().await.expect("a stream")));
    }
    let refused = |code| Fault::Refuse(Failure::new(503, code, "scripted", None));
    // Whatever other clients do meanwhile is logged, too.
    for _ in 0..3 {
        ask(&other, call(2, "list_syncs")).await;
        reqwest::get(format!("{}/metrics", server.url)).await.expect("an answer");
    }
    // What the metrics count at the source would take a fault that is meant for a call.
    eventually("the rows are counted", async || {
        let metrics = reqwest::get(format!("{}/metrics", server.url)).await.expect("an answer");
        metrics.text().await.expect("text").contains("sluice_table_source_rows{table=\"chat_sessions\"}")
    })
    .await;
    server.source().script([refused("PGRST000")]);
    ask(&session, call(3, "get_supabase_dashboard")).await;
    server.source().script([refused("PGRST001")]);
    ask(&other, call(4, "get_supabase_dashboard")).await;
    for (stream, session) in heard.iter_mut().zip([&session, &other]) {
        let event = stream.message().await.expect("an event").json();
        assert_eq!(event["method"], "notifications/message", "{event}");
        let message = event["params"]["data"]["message"].as_str().expect("a message");
        assert!(message.contains("supabase refused in passing"), "{event}");
        // Its own next event is the next it hears of.
        server.source().script([refused("PGRST000")]);
        ask(session, call(5, "get_supabase_dashboard")).await;
        let next = stream.message().await.expect("an event").json();
        assert_eq!(next["params"]["data"]["message"], event["params"]["data"]["message"], "{next}");
    }
    assert!(server.log().matches("request answered").count() > 8, "there was something else to hear of");
}
