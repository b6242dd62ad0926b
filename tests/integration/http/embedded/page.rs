//! The page at `/`, as far as it can be held to without a browser; `tools/page` opens it in one.

use serde_json::{Value, json};

use crate::support::http::{HttpServer, stateless};

const TOKENS: &str = "claude:full:segredo-completo-0001,painel:read:segredo-de-leitura-0002";
const READ: &str = "segredo-de-leitura-0002";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_comes_to_everybody_under_a_strict_policy_and_what_it_shows_only_with_a_token() {
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS)]).await;
    let client = reqwest::Client::new();
    for (path, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let answer = client.get(format!("{}{path}", server.url)).send().await.expect("an answer");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(header("content-type").starts_with(kind), "{path}");
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("require-trusted-types-for"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(answer.headers().get("set-cookie").is_none(), "nothing goes out by itself");
    }
    let lag = format!("{}/lag", server.url);
    assert_eq!(client.get(&lag).send().await.expect("an answer").status(), 401);
    assert_eq!(
        client.get(&lag).bearer_auth("segredo-errado-0003").send().await.expect("an answer").status(),
        401
    );
    let history = client.get(&lag).bearer_auth(READ).send().await.expect("an answer");
    let history: Value = history.json().await.expect("JSON");
    assert_eq!(history["columns"][0], "at", "{history}");
    // A link on another site may lead here; what it would ask for stays closed to that site.
    let from_elsewhere = |path: &str| {
        client
            .get(format!("{}{path}", server.url))
            .header("sec-fetch-site", "cross-site")
            .bearer_auth(READ)
            .send()
    };
    assert_eq!(from_elsewhere("/").await.expect("an answer").status(), 200);
    assert_eq!(from_elsewhere("/lag").await.expect("an answer").status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_page_may_ask_it_by_whatever_name_it_is_reached() {
    let settings = [
        ("SLUICE_HTTP_TOKENS", TOKENS),
        ("SLUICE_HTTP_ALLOWED_HOSTS", "sluice.example.com"),
        ("SLUICE_HTTP_PUBLIC_URL", "https://tools.example.com/sluice"),
    ];
    let server = HttpServer::start(&settings).await;
    let asked = stateless(1, "tools/call", json!({"name": "check_kafka_lag", "arguments": {}}));
    let status = async |host: &str, origin: &str| {
        let request = server.post(&asked).bearer_auth(READ).header("host", host).header("origin", origin);
        let request = request.header("mcp-protocol-version", "2026-07-28").header("mcp-method", "tools/call");
        request.header("mcp-name", "check_kafka_lag").send().await.expect("an answer").status().as_u16()
    };
    for (host, origin, expected) in [
        ("sluice.example.com:8765", "http://sluice.example.com:8765", 200),
        ("sluice.example.com", "https://sluice.example.com", 200),
        ("127.0.0.1", "https://tools.example.com", 200),
        ("sluice.example.com:8765", "http://sluice.example.com:9000", 403),
        ("sluice.example.com", "https://elsewhere.example", 403),
        ("elsewhere.example", "http://elsewhere.example", 403),
        ("sluice.example.com", "null", 403),
    ] {
        assert_eq!(status(host, origin).await, expected, "{origin} at {host}");
    }
    // Whether the proxy takes its path away or not, and with its last slash or without.
    for path in ["/", "/sluice", "/sluice/"] {
        let answer = reqwest::get(format!("{}{path}", server.url)).await.expect("an answer");
        let page = answer.text().await.expect("text");
        assert!(page.contains(r#"src="/sluice/page.js""#), "{path}: {page}");
    }
    let script = reqwest::get(format!("{}/sluice/page.js", server.url)).await.expect("an answer");
    assert_eq!(script.status(), 200);
}
