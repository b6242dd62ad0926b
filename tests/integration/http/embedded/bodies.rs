//! What is sent and what can be read: content types, encodings, broken JSON, and every `Accept` there is.

use serde_json::{Value, json};

use crate::support::http::{Events, HttpServer, call, initialize, initialized, stateless};

/// The answer's content type and its message.
async fn message(response: reqwest::Response) -> (String, Value) {
    assert_eq!(response.status(), 200);
    let content_type = response.headers()["content-type"].to_str().expect("text").to_owned();
    if content_type.starts_with("text/event-stream") {
        return (content_type, Events::of(response).message().await.expect("an answer").json());
    }
    (content_type, response.json().await.expect("JSON"))
}

fn post(server: &HttpServer, accept: Option<&str>, body: &Value) -> reqwest::RequestBuilder {
    let request = reqwest::Client::new().post(server.mcp()).json(body);
    match accept {
        Some(accept) => request.header("accept", accept),
        // reqwest says */* unless told otherwise.
        None => request.header("accept", ""),
    }
}

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_accepts_of_the_two_types_it_is_answered_in_it() {
    let server = HttpServer::start(&[]).await;
    for (accept, in_session, without) in [
        (Some("application/json, text/event-stream"), EVENTS, JSON),
        (Some("*/*"), EVENTS, JSON),
        (None, EVENTS, JSON),
        (Some("application/json"), JSON, JSON),
        (Some("application/*;q=0.5"), JSON, JSON),
        (Some("text/event-stream"), EVENTS, EVENTS),
    ] {
        let opened = post(&server, accept, &initialize("2025-06-18")).send().await.expect("an answer");
        let session = opened.headers()["mcp-session-id"].to_str().expect("text").to_owned();
        let (content_type, answer) = message(opened).await;
        assert_eq!((content_type.as_str(), &answer["id"]), (in_session, &json!(1)), "{accept:?}");
        assert_eq!(answer["result"]["protocolVersion"], "2025-06-18");
        let told = post(&server, accept, &initialized()).header("mcp-session-id", &session);
        assert_eq!(told.send().await.expect("an answer").status(), 202);
        let called =
            post(&server, accept, &call(2, "get_supabase_dashboard")).header("mcp-session-id", &session);
        let (content_type, answer) = message(called.send().await.expect("an answer")).await;
        assert_eq!(content_type, in_session, "{accept:?}");
        assert_eq!(answer["result"]["structuredContent"]["leads_total"], 0, "{answer}");

        let params = json!({"name": "get_supabase_dashboard", "arguments": {}});
        let request = post(&server, accept, &stateless(3, "tools/call", params))
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "get_supabase_dashboard");
        let (content_type, answer) = message(request.send().await.expect("an answer")).await;
        assert_eq!((content_type.as_str(), &answer["id"]), (without, &json!(3)), "{accept:?}");
        assert_eq!(answer["result"]["structuredContent"]["leads_total"], 0, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_can_read_none_of_it_is_told_what_there_is() {
    let server = HttpServer::start(&[]).await;
    for accept in ["text/html", "application/json;q=0", "image/*"] {
        let refused = post(&server, Some(accept), &initialize("2025-06-18")).send().await.expect("an answer");
        assert_eq!(refused.status(), 406, "{accept}");
        assert!(refused.text().await.expect("text").contains("application/json"));
    }
    let listen = stateless(1, "subscriptions/listen", json!({"notifications": {}}));
    let listen = post(&server, Some(JSON), &listen)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen");
    assert_eq!(listen.send().await.expect("an answer").status(), 406, "it would never end");
    let opened = server.post(&initialize("2025-06-18")).send().await.expect("an answer");
    let session = opened.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    for (accept, expected) in [(JSON, 406), ("*/*", 200), (EVENTS, 200)] {
        let get = reqwest::Client::new().get(server.mcp()).header("accept", accept);
        let got = get.header("mcp-session-id", &session).send().await.expect("an answer");
        assert_eq!(got.status(), expected, "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_message_is_refused_with_its_code_on_both_transports() {
    let server = HttpServer::start(&[]).await;
    let mut stream = Events::of(reqwest::get(format!("{}/sse", server.url)).await.expect("a stream"));
    let legacy = format!("{}{}", server.url, stream.next().await.expect("an endpoint").data);
    let client = reqwest::Client::new();
    for url in [server.mcp(), legacy] {
        let send = async |body: Vec<u8>, headers: &[(&str, &str)]| {
            let mut request = client.post(&url).body(body);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.send().await.expect("an answer")
        };
        let json = [("content-type", "application/json")];
        for (body, code) in [
            (&b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"meth"[..], -32_700),
            (b"", -32_700),
            (b"\xff\xfe{", -32_700),
            (b"{\"jsonrpc\": \"2.0\", \"id\": 1e999, \"method\": \"ping\"}", -32_700),
            (b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"\\ud83d\"}", -32_700),
            (b"\"nada\"", -32_600),
            (b"{\"method\": \"ping\"}", -32_600),
        ] {
            let response = send(body.to_vec(), &json).await;
            assert_eq!(response.status(), 400, "{body:?}");
            assert_eq!(response.headers()["content-type"], "application/json");
            let answer: Value = response.json().await.expect("JSON");
            assert_eq!(
                (&answer["error"]["code"], &answer["jsonrpc"]),
                (&json!(code), &json!("2.0")),
                "{answer}"
            );
        }
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string().into_bytes();
        for headers in [
            &[("content-type", "text/plain")][..],
            &[],
            &[("content-type", "application/json; charset=utf-16")],
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            &[("content-type", "multipart/form-data; boundary=x")],
        ] {
            let response = send(ping.clone(), headers).await;
            assert_eq!(response.status(), 415, "{url} {headers:?}");
            let answer: Value = response.json().await.expect("JSON");
            assert!(
                answer["error"]["message"].as_str().is_some_and(|text| text.contains("body")),
                "{answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_json_that_says_what_to_do() {
    let server = HttpServer::start(&[]).await;
    let refused = server.post(&call(5, "get_supabase_dashboard")).send().await.expect("an answer");
    assert_eq!(refused.status(), 400);
    let answer: Value = refused.json().await.expect("JSON");
    assert_eq!(answer["id"], 5);
    assert!(
        answer["error"]["message"].as_str().is_some_and(|text| text.contains("send initialize first")),
        "{answer}"
    );
    let unknown =
        server.post(&call(6, "x")).header("mcp-session-id", "nada").send().await.expect("an answer");
    assert_eq!(unknown.status(), 404);
    let answer: Value = unknown.json().await.expect("JSON");
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("initialize")), "{answer}");
    let version = server.post(&call(7, "x")).header("mcp-protocol-version", "1999-01-01");
    let version = version.send().await.expect("an answer");
    assert_eq!(version.status(), 400);
    let answer: Value = version.json().await.expect("JSON");
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("1999-01-01")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_the_revision_that_has_them_and_in_no_other() {
    let server = HttpServer::start(&[]).await;
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
        call(2, "get_supabase_dashboard"),
        {"id": 3}
    ]);
    for version in ["2025-03-26", "2025-06-18"] {
        let opened = server.post(&initialize(version)).send().await.expect("an answer");
        let session = opened.headers()["mcp-session-id"].to_str().expect("text").to_owned();
        let send = async |message: &Value| {
            server.post(message).header("mcp-session-id", &session).send().await.expect("an answer")
        };
        send(&initialized()).await;
        let response = send(&batch).await;
        if version != "2025-03-26" {
            assert_eq!(response.status(), 400);
            let refused: Value = response.json().await.expect("JSON");
            assert_eq!(refused["error"]["code"], -32_600, "{refused}");
            continue;
        }
        let (content_type, answers) = message(response).await;
        assert_eq!(content_type, JSON);
        let answers = answers.as_array().expect("an array");
        let ids: Vec<&Value> = answers.iter().map(|answer| &answer["id"]).collect();
        assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
        assert_eq!(answers[1]["result"]["structuredContent"]["leads_total"], 0, "{answers:?}");
        assert_eq!(answers[2]["error"]["code"], -32_600);
        let told = send(&json!([initialized(), initialized()])).await;
        assert_eq!((told.status().as_u16(), told.text().await.expect("text")), (202, String::new()));
    }
}
