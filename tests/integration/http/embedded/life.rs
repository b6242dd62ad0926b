//! Probes, numbers, and the end.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::Value;
use sluice::source::sample::Fault;

use crate::support::{
    eventually,
    http::{Events, HttpServer, call, initialize, initialized},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_parts_are_down_is_alive_but_not_ready_and_names_them() {
    let server = HttpServer::start(&[]).await;
    let get = async |path: &str| reqwest::get(format!("{}{path}", server.url)).await.expect("an answer");
    assert_eq!(get("/healthz").await.status(), 200);
    let ready = get("/readyz").await;
    assert_eq!(ready.status(), 503);
    let body: Value = ready.json().await.expect("JSON");
    assert_eq!(body["failing"], serde_json::json!(["kafka", "postgres", "elasticsearch"]), "{body}");
    assert!(body["problems"].as_array().is_some_and(|problems| problems.len() >= 3), "{body}");
    let rebound = reqwest::Client::new().get(format!("{}/readyz", server.url)).header("host", "evil.example");
    let rebound: Value = rebound.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(
        rebound,
        serde_json::json!({"ready": false}),
        "a page behind a name of its own learns no more"
    );
    let metrics = get("/metrics").await.text().await.expect("text");
    for line in [
        "sluice_part_up{part=\"supabase\"} 1",
        "sluice_part_up{part=\"kafka\"} 0",
        "sluice_drain_inserted_total{sink=\"postgres\"} 0",
        "sluice_mcp_sessions{transport=\"sse\"} 0",
    ] {
        assert!(metrics.lines().any(|written| written == line), "{line} in {metrics}");
    }
    // Whenever within a second it is asked.
    let mut began = HashSet::new();
    for _ in 0..10 {
        let metrics = get("/metrics").await.text().await.expect("text");
        began.extend(
            metrics.lines().find(|line| line.starts_with("process_start_time_seconds ")).map(str::to_owned),
        );
        tokio::time::sleep(Duration::from_millis(110)).await;
    }
    assert_eq!(began.len(), 1, "{began:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_at_once_ask_the_parts_once() {
    let server = HttpServer::start(&[]).await;
    let url = format!("{}/readyz", server.url);
    futures::future::join_all((0..20).map(|_| reqwest::get(&url))).await;
    let mut asked: HashMap<_, usize> = HashMap::new();
    for request in server.source().take_requests() {
        *asked.entry((request.path, request.query)).or_default() += 1;
    }
    // By now the answer may be old, and one more probe asks anew.
    let answer: Value = reqwest::get(&url).await.expect("an answer").json().await.expect("JSON");
    assert!(answer["checked_at"].is_string());
    eventually("an old answer is asked for anew", async || {
        reqwest::get(&url).await.expect("an answer");
        !server.source().take_requests().is_empty()
    })
    .await;
    // Whether it answers, and how many rows each table has.
    assert!(!asked.is_empty() && asked.values().all(|times| *times <= 2), "for 20 probes: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_answered_before_the_server_ends_and_streams_are_closed() {
    let mut server = HttpServer::start(&[]).await;
    let mut stream = Events::of(reqwest::get(format!("{}/sse", server.url)).await.expect("a stream"));
    stream.next().await.expect("an endpoint");
    let opened = server.post(&initialize("2025-06-18")).send().await.expect("an answer");
    let session = opened.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    server.source().script([Fault::Delay(Duration::from_secs(2))]);
    let call = server.post(&call(2, "get_supabase_dashboard")).header("mcp-session-id", &session);
    let mut answer = Events::of(call.send().await.expect("a stream"));
    eventually("the call is under way", async || !server.source().take_requests().is_empty()).await;
    server.terminate();
    let answer = answer.message().await.expect("the answer").json();
    assert_eq!(answer["result"]["structuredContent"]["tables"][0]["total"], 0, "{answer}");
    assert!(stream.next().await.is_none(), "the stream ends");
    assert!(server.process.wait().await.expect("an exit").success());
    assert!(server.find("cut short").is_none());
    assert!(reqwest::get(format!("{}/healthz", server.url)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_an_old_client_is_answered_before_its_stream_is_closed() {
    let mut server = HttpServer::start(&[]).await;
    let mut stream = Events::of(reqwest::get(format!("{}/sse", server.url)).await.expect("a stream"));
    let endpoint = format!("{}{}", server.url, stream.next().await.expect("an endpoint").data);
    let client = reqwest::Client::new();
    client.post(&endpoint).json(&initialize("2024-11-05")).send().await.expect("an answer");
    stream.next().await.expect("an answer");
    client.post(&endpoint).json(&initialized()).send().await.expect("an answer");
    server.source().script([Fault::Delay(Duration::from_secs(2))]);
    client.post(&endpoint).json(&call(2, "get_supabase_dashboard")).send().await.expect("an answer");
    eventually("the call is under way", async || !server.source().take_requests().is_empty()).await;
    server.terminate();
    let answer = stream.next().await.expect("the answer").json();
    assert_eq!(answer["result"]["structuredContent"]["tables"][0]["total"], 0, "{answer}");
    assert!(stream.next().await.is_none(), "the stream ends");
    assert!(server.process.wait().await.expect("an exit").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_end_does_not_keep_the_server_from_ending() {
    let mut server = HttpServer::start(&[("SLUICE_HTTP_SHUTDOWN_SECONDS", "1")]).await;
    server.source().script([Fault::Hang]);
    let opened = server.post(&initialize("2025-06-18")).send().await.expect("an answer");
    let session = opened.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    let call = server.post(&call(2, "get_supabase_dashboard")).header("mcp-session-id", &session);
    let _answer = call.send().await.expect("a stream");
    eventually("the call is under way", async || !server.source().take_requests().is_empty()).await;
    server.terminate();
    assert!(server.process.wait().await.expect("an exit").success());
    eventually("it is told", async || server.find("cut short").is_some()).await;
}
