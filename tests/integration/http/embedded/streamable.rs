//! `/mcp`, in both eras.

use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use serde_json::{Value, json};

use crate::support::http::{Events, HttpServer, call, initialize, initialized, stateless};

/// An open session's id.
async fn open(server: &HttpServer) -> String {
    open_for(server, "none-is-needed").await
}

/// The id of a session that a token opened.
pub async fn open_for(server: &HttpServer, token: &str) -> String {
    let opening = server.post(&initialize("2025-06-18")).bearer_auth(token);
    let response = opening.send().await.expect("an answer");
    let session = response.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    let answer = Events::of(response).message().await.expect("an answer").json();
    assert_eq!(answer["result"]["protocolVersion"], "2025-06-18");
    let told = server.post(&initialized()).header("mcp-session-id", &session).bearer_auth(token);
    assert_eq!(told.send().await.expect("an answer").status(), 202);
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_each_era_lists_and_calls_tools() {
    let server = HttpServer::start(&[]).await;
    for (session, version) in [
        (server.connect(None).await, ProtocolVersion::V_2025_11_25),
        (server.connect_stateless(None).await, ProtocolVersion::V_2026_07_28),
    ] {
        let info = session.peer_info().expect("the server's account of itself");
        assert_eq!(info.protocol_version, version);
        let tools = session.list_all_tools().await.expect("the tools");
        assert!(tools.iter().any(|tool| tool.name == "sync_leads_from_supabase"), "{version}");
        let request = CallToolRequestParams::new("get_supabase_dashboard");
        let result = session.call_tool(request).await.expect("a result");
        assert_eq!(result.structured_content.expect("content")["tables"][0]["total"], 0, "{version}");
        session.cancel().await.expect("the session closes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_older_revision_is_answered_in_its_own() {
    let server = HttpServer::start(&[]).await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let response = server.post(&initialize(version)).send().await.expect("an answer");
        assert!(response.headers().contains_key("mcp-session-id"), "{version}");
        let answer = Events::of(response).message().await.expect("an answer").json();
        assert_eq!(answer["result"]["protocolVersion"], version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_at_once_are_each_answered_their_own() {
    let server = HttpServer::start(&[("SLUICE_HTTP_REQUESTS_PER_SECOND", "0")]).await;
    let clients = (0..50).map(|number| {
        let server = &server;
        async move {
            let session = if number % 2 == 0 {
                server.connect(None).await
            } else {
                server.connect_stateless(None).await
            };
            for _ in 0..4 {
                assert!(session.list_all_tools().await.expect("the tools").len() > 5);
                let sync = format!("no-uuid-{number}");
                let arguments = json!({"sync_id": sync}).as_object().expect("an object").clone();
                let request = CallToolRequestParams::new("get_sync").with_arguments(arguments);
                let result = session.call_tool(request).await.expect("a result");
                assert_eq!(result.is_error, Some(true), "{number}");
            }
            session.cancel().await.expect("the session closes");
        }
    });
    futures::future::join_all(clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lost_with_its_connection_is_read_by_resuming_the_session() {
    let server = HttpServer::start(&[]).await;
    let session = open(&server).await;
    server.source().script([sluice::source::sample::Fault::Delay(std::time::Duration::from_millis(800))]);
    let request = server.post(&call(7, "get_supabase_dashboard")).header("mcp-session-id", &session);
    let mut stream = Events::of(request.send().await.expect("a stream"));
    let first = stream.next().await.expect("the event that says where the stream is");
    assert!(!first.id.is_empty() && first.data.is_empty(), "{first:?}");
    drop(stream);

    let resume = reqwest::Client::new()
        .get(server.mcp())
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &session)
        .header("last-event-id", first.id);
    let mut resumed = Events::of(resume.send().await.expect("a stream"));
    let answer = resumed.message().await.expect("the answer").json();
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(7), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_closed_or_never_was_is_not_found() {
    let server = HttpServer::start(&[]).await;
    let session = open(&server).await;
    let client = reqwest::Client::new();
    let closed =
        client.delete(server.mcp()).header("mcp-session-id", &session).send().await.expect("an answer");
    assert_eq!(closed.status(), 204);
    for id in [session.as_str(), "0b0e7e0a-0000-4000-8000-000000000000"] {
        let request = server.post(&call(1, "get_supabase_dashboard")).header("mcp-session-id", id);
        assert_eq!(request.send().await.expect("an answer").status(), 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_sessions_open_than_may_and_a_closed_one_makes_room() {
    let server = HttpServer::start(&[("SLUICE_HTTP_MAX_SESSIONS", "1")]).await;
    let session = open(&server).await;
    let refused = server.post(&initialize("2025-06-18")).send().await.expect("an answer");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.expect("text").contains("SLUICE_HTTP_MAX_SESSIONS"));
    let client = reqwest::Client::new();
    client.delete(server.mcp()).header("mcp-session-id", &session).send().await.expect("an answer");
    open(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateless_call_is_one_json_answer_without_a_session() {
    let server = HttpServer::start(&[]).await;
    let message = stateless(1, "tools/list", json!({}));
    let request =
        server.post(&message).header("mcp-protocol-version", "2026-07-28").header("mcp-method", "tools/list");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("mcp-session-id"));
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(answer["result"]["resultType"], "complete");
    assert_eq!(answer["result"]["cacheScope"], "private");
    assert!(answer["result"]["ttlMs"].as_u64().is_some_and(|ttl| ttl > 0), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_given_to_two_requests_at_once_is_refused_for_the_second_and_the_first_is_answered() {
    let server = HttpServer::start(&[]).await;
    let session = open(&server).await;
    server.source().script([sluice::source::sample::Fault::Delay(std::time::Duration::from_secs(3))]);
    let slow = server.post(&call(5, "get_supabase_dashboard")).header("mcp-session-id", &session);
    let mut first = Events::of(slow.send().await.expect("an answer"));
    let ping = json!({"jsonrpc": "2.0", "id": 5, "method": "ping"});
    let second = server.post(&ping).header("mcp-session-id", &session).send().await.expect("an answer");
    assert_eq!(second.status(), 400);
    let refusal: Value = second.json().await.expect("JSON");
    assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!(5), &json!(-32600)), "{refusal}");
    let answer = tokio::time::timeout(std::time::Duration::from_mins(1), first.message());
    let answer = answer.await.expect("the first is answered").expect("an answer").json();
    assert_eq!(answer["result"]["structuredContent"]["tables"][0]["table"], "leads", "{answer}");
    drop(first);
    let again = server.post(&ping).header("mcp-session-id", &session).send().await.expect("an answer");
    assert_eq!(again.status(), 200, "the id is free again");
}
