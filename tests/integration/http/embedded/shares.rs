//! No client can take what the others need: connections, sessions, streams, calls.

use std::time::Duration;

use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use sluice::source::sample::Fault;

use super::streamable::open_for;
use crate::support::{
    eventually,
    http::{Events, HttpServer, call, initialize, stateless},
    raw_http::{Raw, status},
};

const TOKENS: &str = "claude:full:segredo-completo-0001,painel:read:segredo-de-leitura-0002";
const FULL: &str = "segredo-completo-0001";
const READ: &str = "segredo-de-leitura-0002";

async fn metric(server: &HttpServer, name: &str) -> u64 {
    let page = reqwest::Client::new().get(format!("{}/metrics", server.url)).bearer_auth(FULL);
    let page = page.send().await.expect("an answer").text().await.expect("text");
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).expect("the metric");
    line.parse().expect("a number")
}

fn listed(server: &HttpServer, token: &str) -> reqwest::RequestBuilder {
    server
        .post(&stateless(1, "tools/list", json!({})))
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/list")
        .bearer_auth(token)
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_without_a_token_keep_nobody_out_and_end_nothing() {
    let server =
        HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_HTTP_MAX_CONNECTIONS", "40")]).await;
    let client = server.connect(Some(FULL)).await;
    let mut half_open = Vec::new();
    for number in 0..300 {
        let head = if number % 2 == 0 { "POST /mcp HTTP/1.1\r\nhost: localhost\r\n" } else { "" };
        half_open.push(Raw::sent(&server, head).await);
    }
    let newcomer = server.connect_stateless(Some(READ)).await;
    for session in [&client, &newcomer] {
        let result = session.call_tool(CallToolRequestParams::new("get_supabase_dashboard")).await;
        assert_eq!(result.expect("a result").is_error, Some(false));
    }
    let open = metric(&server, "sluice_http_connections").await;
    assert!(open <= 40, "{open} connections are open");
    assert!(metric(&server, "sluice_http_connections_cut_total").await >= 260);
    assert!(server.find("more connections than may be").is_some(), "it is said, once");
    drop(half_open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_too_slowly_or_never_reads_loses_its_connection() {
    let server = HttpServer::start(&[
        ("SLUICE_HTTP_TOKENS", TOKENS),
        ("SLUICE_HTTP_IO_TIMEOUT_SECONDS", "1"),
        ("SLUICE_HTTP_REQUESTS_PER_SECOND", "0"),
    ])
    .await;
    let mut silent = Raw::connect(&server).await;
    assert_eq!(silent.until_closed().await, "");

    // One byte after another is no sign of life.
    let mut dripping = Raw::sent(&server, "POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-a: ").await;
    eventually("the head is given up", async || dripping.send("a").await.is_err()).await;

    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {FULL}\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n"
    );
    let mut endless = Raw::sent(&server, format!("{head}{{\"jsonrpc\":")).await;
    let answer = endless.until_closed().await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(answer.contains("SLUICE_HTTP_IO_TIMEOUT_SECONDS"), "{answer}");

    let body = stateless(1, "tools/list", json!({})).to_string();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {FULL}\r\ncontent-type: application/json\r\n\
         mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/list\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut deaf = Raw::connect(&server).await;
    // Their answers are more than all buffers between the two hold.
    deaf.send(request.repeat(1000)).await.expect("written");
    eventually("the connection is cut", async || metric(&server, "sluice_http_connections").await == 1).await;
    assert!(
        metric(&server, "sluice_http_connections_cut_total").await == 0,
        "for being slow, not to make room"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tokens_sessions_leave_room_for_anothers_on_both_transports() {
    let server =
        HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_HTTP_MAX_SESSIONS", "8")]).await;
    let first = open_for(&server, READ).await;
    open_for(&server, READ).await;
    let refused = server.post(&initialize("2025-06-18")).bearer_auth(READ).send().await.expect("an answer");
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    let body: Value = refused.json().await.expect("JSON");
    assert_eq!(body["id"], 1);
    assert!(body.to_string().contains("SLUICE_HTTP_MAX_SESSIONS_PER_CLIENT"), "{body}");
    open_for(&server, FULL).await;
    let client = reqwest::Client::new();
    let closing = client.delete(server.mcp()).header("mcp-session-id", first).bearer_auth(READ);
    assert_eq!(closing.send().await.expect("an answer").status(), 204);
    open_for(&server, READ).await;

    let stream = async |token| {
        client.get(format!("{}/sse", server.url)).bearer_auth(token).send().await.expect("an answer")
    };
    let held = [stream(READ).await, stream(READ).await];
    let refused = stream(READ).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.text().await.expect("text").contains("SLUICE_HTTP_MAX_SESSIONS_PER_CLIENT"));
    assert_eq!(stream(FULL).await.status(), 200);
    drop(held);
    eventually("closed streams make room", async || stream(READ).await.status() == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_opener_hangs_up_at_once_is_counted_as_its_openers() {
    let server =
        HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_HTTP_MAX_SESSIONS", "4")]).await;
    let body = initialize("2025-06-18").to_string();
    for _ in 0..20 {
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {READ}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        drop(Raw::sent(&server, request).await);
    }
    // Whatever became of those, the other token has its place.
    open_for(&server, FULL).await;
    let sessions = metric(&server, "sluice_mcp_sessions{transport=\"streamable_http\"}").await;
    assert!(sessions <= 2, "{sessions} sessions are open");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tokens_streams_leave_connections_for_another() {
    let server =
        HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_HTTP_MAX_CONNECTIONS", "16")]).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let stream = reqwest::Client::new().get(format!("{}/sse", server.url)).bearer_auth(READ);
        let mut events = Events::of(stream.send().await.expect("a stream"));
        events.next().await.expect("an endpoint");
        streams.push(events);
    }
    let refused = listed(&server, READ).send().await.expect("an answer");
    assert_eq!(refused.status(), 429);
    let reason = refused.text().await.expect("text");
    assert!(reason.contains("SLUICE_HTTP_MAX_CONNECTIONS_PER_CLIENT"), "{reason}");
    assert_eq!(listed(&server, FULL).send().await.expect("an answer").status(), 200);
    streams.pop();
    eventually("a closed stream makes room", async || {
        listed(&server, READ).send().await.expect("an answer").status() == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_nobody_waits_for_count_until_they_end_and_can_be_taken_back() {
    let server =
        HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_HTTP_MAX_CALLS_PER_CLIENT", "2")]).await;
    let session = open_for(&server, READ).await;
    let in_session = |message: &Value| {
        server
            .post(message)
            .header("mcp-session-id", &session)
            .bearer_auth(READ)
            .timeout(Duration::from_mins(1))
    };
    // A limit is no leak: each call gives back what it took.
    for number in 0..10 {
        let response =
            in_session(&call(100 + number, "get_supabase_dashboard")).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "call {number}");
        Events::of(response).message().await.expect("an answer");
    }
    server.source().script(std::iter::repeat_n(Fault::Hang, 100));
    for id in [7, 8] {
        server.source().take_requests();
        let hanging = in_session(&call(id, "get_supabase_dashboard")).send().await.expect("a stream");
        eventually("the call is under way", async || !server.source().take_requests().is_empty()).await;
        drop(hanging);
    }
    let refused = in_session(&call(9, "get_supabase_dashboard")).send().await.expect("an answer");
    assert_eq!(refused.status(), 429);
    let body: Value = refused.json().await.expect("JSON");
    assert_eq!(body["id"], 9);
    assert!(body.to_string().contains("SLUICE_HTTP_MAX_CALLS_PER_CLIENT"), "{body}");
    assert_eq!(listed(&server, FULL).send().await.expect("an answer").status(), 200, "others' calls go on");
    // Old clients have the same limit.
    let stream = reqwest::Client::new().get(format!("{}/sse", server.url)).bearer_auth(READ);
    let mut events = Events::of(stream.send().await.expect("a stream"));
    let endpoint = format!("{}{}", server.url, events.next().await.expect("an endpoint").data);
    let posted = reqwest::Client::new().post(&endpoint).bearer_auth(READ).json(&initialize("2024-11-05"));
    assert_eq!(posted.send().await.expect("an answer").status(), 429);

    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    let cancelled = tokio::time::Instant::now();
    assert_eq!(in_session(&cancel).send().await.expect("an answer").status(), 202);
    eventually("the cancelled call makes room", async || {
        in_session(&json!({"jsonrpc": "2.0", "id": 10, "method": "ping"}))
            .send()
            .await
            .expect("an answer")
            .status()
            == 200
    })
    .await;
    assert!(cancelled.elapsed() < Duration::from_secs(20), "long before the source's own limit of 30 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_and_idle_connections_do_not_hold_up_the_end() {
    let mut server = HttpServer::start(&[]).await;
    let mut held = Vec::new();
    for bytes in ["", "GET /healthz HT", "POST /mcp HTTP/1.1\r\nhost: localhost\r\n"] {
        held.push(Raw::sent(&server, bytes).await);
    }
    let mut idle = Raw::sent(&server, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&idle.answer().await), 200);
    server.terminate();
    let ended = tokio::time::timeout(Duration::from_secs(10), server.process.wait()).await;
    assert!(ended.expect("within ten seconds").expect("an exit").success());
    assert_eq!(idle.until_closed().await, "");
}
