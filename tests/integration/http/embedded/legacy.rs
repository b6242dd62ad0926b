//! The HTTP+SSE pair of 2024-11-05, driven by hand.

use serde_json::{Value, json};

use crate::support::{
    eventually,
    http::{Events, HttpServer, call, initialize, initialized},
};

/// An open stream, and where its messages are posted.
async fn open(server: &HttpServer) -> (Events, String) {
    let response = reqwest::get(format!("{}/sse", server.url)).await.expect("an answer");
    let mut events = Events::of(response);
    let first = events.next().await.expect("a first event");
    assert_eq!(first.name, "endpoint");
    assert!(first.data.starts_with("/messages?session_id="), "{first:?}");
    (events, format!("{}{}", server.url, first.data))
}

async fn post(endpoint: &str, message: &Value) -> reqwest::StatusCode {
    reqwest::Client::new().post(endpoint).json(message).send().await.expect("an answer").status()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_initializes_lists_and_calls() {
    let server = HttpServer::start(&[]).await;
    let (mut events, endpoint) = open(&server).await;
    assert_eq!(post(&endpoint, &initialize("2024-11-05")).await, 202);
    let answer = events.next().await.expect("an answer");
    assert_eq!(answer.name, "message");
    assert_eq!(answer.json()["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(post(&endpoint, &initialized()).await, 202);
    assert_eq!(post(&endpoint, &json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})).await, 202);
    let tools = events.next().await.expect("an answer").json();
    assert!(tools["result"]["tools"].as_array().is_some_and(|tools| tools.len() > 5), "{tools}");
    assert_eq!(post(&endpoint, &call(3, "get_supabase_dashboard")).await, 202);
    let called = events.next().await.expect("an answer").json();
    assert_eq!(called["result"]["structuredContent"]["tables"][0]["total"], 0, "{called}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_do_not_hear_of_each_other_and_a_session_ends_with_its_stream() {
    let server = HttpServer::start(&[]).await;
    let (mut one, to_one) = open(&server).await;
    let (mut other, to_other) = open(&server).await;
    assert_ne!(to_one, to_other);
    post(&to_one, &initialize("2024-11-05")).await;
    post(&to_other, &initialize("2024-11-05")).await;
    assert_eq!(one.next().await.expect("an answer").json()["id"], 1);
    assert_eq!(other.next().await.expect("an answer").json()["id"], 1);
    drop(one);
    eventually("the session has ended", async || post(&to_one, &initialized()).await == 404).await;
    assert_eq!(post(&to_other, &initialized()).await, 202, "the other lives on");
    assert_eq!(post(&to_other, &json!({"jsonrpc": "2.0", "id": 2, "method": "ping"})).await, 202);
    assert_eq!(other.next().await.expect("an answer").json()["id"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_or_for_no_session_is_refused_and_the_session_goes_on() {
    let server = HttpServer::start(&[("SLUICE_HTTP_MAX_BODY_KIB", "8")]).await;
    let (mut events, endpoint) = open(&server).await;
    assert_eq!(post(&format!("{}/messages?session_id=guessed", server.url), &initialized()).await, 404);
    assert_eq!(post(&format!("{}/messages", server.url), &initialized()).await, 400);
    assert_eq!(post(&endpoint, &json!("nada")).await, 400);
    assert_eq!(post(&endpoint, &json!({"jsonrpc": "2.0", "method": "x".repeat(10_000)})).await, 413);
    assert_eq!(post(&endpoint, &initialize("2024-11-05")).await, 202);
    assert_eq!(events.next().await.expect("an answer").json()["id"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cannot_post_into_another_tokens_session() {
    const TOKENS: &str = "dono:full:segredo-do-dono-123456,outro:full:segredo-do-outro-12345";
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS)]).await;
    let client = reqwest::Client::new();
    let stream = client.get(format!("{}/sse", server.url)).bearer_auth("segredo-do-dono-123456");
    let mut events = Events::of(stream.send().await.expect("a stream"));
    let endpoint = format!("{}{}", server.url, events.next().await.expect("an event").data);
    for (token, status) in [("segredo-do-outro-12345", 404), ("segredo-do-dono-123456", 202)] {
        let request = client.post(&endpoint).bearer_auth(token).json(&initialize("2024-11-05"));
        assert_eq!(request.send().await.expect("an answer").status(), status, "{token}");
    }
    assert_eq!(events.next().await.expect("an answer").json()["id"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_path_the_endpoint_is_where_clients_find_it_and_served_with_and_without_the_path() {
    const TOKENS: &str = "dono:full:segredo-do-dono-123456";
    let server = HttpServer::start(&[
        ("SLUICE_HTTP_PUBLIC_URL", "https://tools.example.com/sluice/"),
        ("SLUICE_HTTP_TOKENS", TOKENS),
    ])
    .await;
    let client = reqwest::Client::new();
    for prefix in ["", "/sluice"] {
        let stream = client
            .get(format!("{}{prefix}/sse", server.url))
            .bearer_auth("segredo-do-dono-123456")
            .header("host", "tools.example.com");
        let mut events = Events::of(stream.send().await.expect("a stream"));
        let endpoint = events.next().await.expect("an event").data;
        assert!(endpoint.starts_with("/sluice/messages?session_id="), "{endpoint}");
        // A proxy that takes the path away leaves the rest.
        let arrives = endpoint.strip_prefix("/sluice").expect("the path").to_owned();
        for (path, message) in [(endpoint, initialize("2024-11-05")), (arrives, initialized())] {
            let posted = client.post(format!("{}{path}", server.url)).bearer_auth("segredo-do-dono-123456");
            assert_eq!(posted.json(&message).send().await.expect("an answer").status(), 202, "{path}");
        }
        assert_eq!(events.next().await.expect("an answer").json()["id"], 1);
    }
    let listed = client.post(format!("{}/sluice/mcp", server.url)).json(&initialize("2025-06-18"));
    assert_eq!(listed.send().await.expect("an answer").status(), 401, "it asks for a token there, too");
    let alive = client.get(format!("{}/sluice/healthz", server.url)).send().await.expect("an answer");
    assert_eq!(alive.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_initialize_ends_no_stream_and_an_id_in_use_is_refused() {
    let server = HttpServer::start(&[]).await;
    let (mut events, endpoint) = open(&server).await;
    assert_eq!(post(&endpoint, &initialized()).await, 202);
    assert_eq!(post(&endpoint, &call(1, "list_syncs")).await, 202);
    let early = events.next().await.expect("an answer").json();
    assert_eq!((&early["id"], &early["error"]["code"]), (&json!(1), &json!(-32602)), "{early}");
    assert_eq!(post(&endpoint, &initialize("2024-11-05")).await, 202);
    assert_eq!(events.next().await.expect("an answer").json()["result"]["protocolVersion"], "2024-11-05");
    server.source().script([sluice::source::sample::Fault::Delay(std::time::Duration::from_secs(3))]);
    assert_eq!(post(&endpoint, &call(5, "get_supabase_dashboard")).await, 202);
    assert_eq!(post(&endpoint, &json!({"jsonrpc": "2.0", "id": 5, "method": "ping"})).await, 400);
    let answer = events.next().await.expect("an answer").json();
    assert_eq!(answer["result"]["structuredContent"]["tables"][0]["table"], "leads", "{answer}");
}
