//! HTTP/1 and nothing else, read in one way only.

use serde_json::{Value, json};

use crate::support::{
    http::{HttpServer, stateless},
    raw_http::{Raw, status},
};

const TOKEN: &str = "claude:full:segredo-completo-0001";

/// Sends bytes, and returns all that comes back until the server closes the connection.
async fn exchange(server: &HttpServer, bytes: impl AsRef<[u8]>) -> String {
    Raw::sent(server, bytes).await.until_closed().await
}

fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_not_spoken_whether_known_beforehand_or_asked_for() {
    let server = HttpServer::start(&[]).await;
    let prior = exchange(&server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(prior.is_empty() || status(&prior) == 400, "{prior:?}");
    for upgrade in [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n",
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{upgrade}\r\n");
        let mut raw = Raw::sent(&server, request).await;
        let answer = raw.answer().await;
        assert_eq!(status(&answer), 200, "{answer}");
        raw.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("written");
        assert_eq!(status(&raw.answer().await), 200, "the connection is still HTTP/1");
    }
    let tunnel = exchange(&server, "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n").await;
    assert!(status(&tunnel) >= 400, "{tunnel}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_two_programs_could_end_in_two_places_ends_its_connection() {
    let server = HttpServer::start(&[]).await;
    let hidden = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for lengths in [
        // A proxy that goes by the length takes all of it for a body.
        format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", 5 + hidden.len()),
        format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n", 5 + hidden.len()),
        "transfer-encoding: chunked\r\n".to_owned(),
    ] {
        let request = format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\n{lengths}\r\n0\r\n\r\n{hidden}");
        let text = exchange(&server, request).await;
        assert_eq!(answers(&text), 1, "{lengths}: {text}");
        assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_not_http_1_as_it_is_written_is_refused() {
    let server = HttpServer::start(&[]).await;
    for wrong in [
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: 3, 4\r\n",
        "content-length: +3\r\n",
        "content-length: -3\r\n",
        "content-length: 0x3\r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding : chunked\r\n",
        "x: a\r\n b: folded\r\n",
        "x: a\0b\r\n",
        "\x01: a\r\n",
    ] {
        let text =
            exchange(&server, format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\n{wrong}\r\n{{}}")).await;
        assert_eq!((status(&text), answers(&text)), (400, 1), "{wrong:?}: {text}");
    }
    let old = "POST /mcp HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(status(&exchange(&server, old).await), 400);
    let many = "x: y\r\n".repeat(200);
    assert_eq!(
        status(&exchange(&server, format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\n{many}\r\n")).await),
        431
    );
    let long = "y".repeat(40_000);
    let text = exchange(&server, format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n")).await;
    assert_eq!(status(&text), 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_each_answered_in_their_order() {
    let server = HttpServer::start(&[]).await;
    let request = |id| {
        let body = stateless(id, "tools/list", json!({})).to_string();
        format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/list\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut raw = Raw::sent(&server, [request(1), request(2), request(3)].concat()).await;
    for id in 1..=3 {
        let answer = raw.answer().await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["id"], id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_names_a_host_is_checked_like_the_header() {
    let server = HttpServer::start(&[]).await;
    for (target, host, expected) in [
        ("http://localhost/metrics", "localhost", 200),
        ("http://127.0.0.1:8765/metrics", "localhost", 200),
        ("http://evil.example/metrics", "localhost", 403),
        ("http://localhost/metrics", "evil.example", 403),
        ("http://localhost@evil.example/metrics", "localhost", 403),
        ("http://evil@localhost/metrics", "localhost", 403),
        ("/metrics", "evil.example", 403),
        ("/metrics", "", 403),
        ("/metrics", "localhost, evil.example", 403),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let text = exchange(&server, request).await;
        assert_eq!(status(&text), expected, "{target} {host}: {text}");
    }
    let none = exchange(&server, "GET /metrics HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&none), 403, "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_counts_may_be_there_once_only() {
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKEN)]).await;
    for (name, one, other) in [
        ("host", "localhost", "evil.example"),
        ("host", "localhost", "localhost"),
        ("origin", "http://localhost:1", "https://evil.example"),
        ("authorization", "Bearer segredo-completo-0001", "Bearer wrong"),
        ("authorization", "Bearer wrong", "Bearer segredo-completo-0001"),
        ("mcp-session-id", "a", "b"),
        ("mcp-protocol-version", "2025-06-18", "2026-07-28"),
        ("content-type", "application/json", "text/plain"),
        ("last-event-id", "0", "1"),
    ] {
        let host = if name == "host" { "" } else { "host: localhost\r\n" };
        let head = format!(
            "POST /mcp HTTP/1.1\r\n{host}{name}: {one}\r\n{name}: {other}\r\nconnection: close\r\n\r\n"
        );
        let text = exchange(&server, head).await;
        assert_eq!(status(&text), 400, "{name}: {text}");
        assert!(text.contains(&format!("the header {name} is there more than once")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_paths_nobody_serves_are_refused_and_open_nothing() {
    let server = HttpServer::start(&[]).await;
    let client = reqwest::Client::new();
    let ask = async |method: &str, path: &str| {
        let method = method.parse().expect("a method");
        client.request(method, format!("{}{path}", server.url)).send().await.expect("an answer")
    };
    let mut seen = Vec::new();
    for (method, path) in [
        ("HEAD", "/mcp"),
        ("PUT", "/mcp"),
        ("PATCH", "/mcp"),
        ("TRACE", "/mcp"),
        ("HEAD", "/sse"),
        ("POST", "/sse"),
        ("GET", "/messages"),
        ("POST", "/healthz"),
        ("DELETE", "/metrics"),
    ] {
        let response = ask(method, path).await;
        seen.push((method, path, response.status().as_u16(), response.headers().contains_key("allow")));
    }
    assert!(seen.iter().all(|(_, _, status, allows)| *status == 405 && *allows), "{seen:?}");
    for path in ["/mcp/", "/MCP", "//mcp", "/.env", "/readyz/x", "/%6dcp"] {
        let response = ask("GET", path).await;
        assert_eq!(response.status(), 404, "{path}");
        let body: Value = response.json().await.expect("JSON");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains("/mcp")), "{body}");
    }
    assert_eq!(ask("HEAD", "/healthz").await.status(), 200);
    let metrics = ask("GET", "/metrics").await.text().await.expect("text");
    assert!(metrics.contains("sluice_mcp_sessions{transport=\"sse\"} 0"), "a HEAD opened none: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_url_opens_nothing_and_reaches_no_log() {
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKEN)]).await;
    let client = reqwest::Client::new();
    for path in [
        "/mcp?token=segredo-completo-0001",
        "/sse?access_token=segredo-completo-0001",
        "/messages?session_id=segredo-completo-0001",
        "/metrics?authorization=Bearer%20segredo-completo-0001",
    ] {
        let response = client.post(format!("{}{path}", server.url)).send().await.expect("an answer");
        assert!([401, 405].contains(&response.status().as_u16()), "{path}: {}", response.status());
    }
    let pasted =
        client.get(format!("{}/mcp/segredo-completo-0001", server.url)).send().await.expect("an answer");
    assert_eq!(pasted.status(), 404);
    assert!(!pasted.text().await.expect("text").contains("segredo"));
    let named = client
        .get(format!("{}/metrics", server.url))
        .header("authorization", "BEARER segredo-completo-0001")
        .send()
        .await
        .expect("an answer");
    assert_eq!(named.status(), 200, "a scheme has no case");
    crate::support::eventually("the requests are logged", async || {
        server.log().matches("request answered").count() >= 6
    })
    .await;
    assert!(!server.log().contains("segredo"), "{}", server.log());
}
