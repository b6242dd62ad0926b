//! Who is let in, and what each may do.

use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

use crate::support::{
    eventually,
    http::{Events, HttpServer, call, command, initialize, stateless},
};
use sluice::source::sample::SampleServer;

const TOKENS: &str = "claude:full:segredo-completo-0001,painel:read:segredo-de-leitura-0002";
const FULL: &str = "segredo-completo-0001";
const READ: &str = "segredo-de-leitura-0002";

#[tokio::test(flavor = "multi_thread")]
async fn without_its_token_nothing_but_the_probes_answers() {
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS)]).await;
    let client = reqwest::Client::new();
    for path in ["/mcp", "/sse", "/metrics", "/lag"] {
        let url = format!("{}{path}", server.url);
        let none = client.get(&url).send().await.expect("an answer");
        assert_eq!(
            (none.status().as_u16(), &none.headers()["www-authenticate"]),
            (401, &r#"Bearer realm="sluice""#.parse().expect("a header"))
        );
        let wrong = client.get(&url).bearer_auth("segredo-completo-0009").send().await.expect("an answer");
        assert_eq!(wrong.status(), 401);
        assert!(wrong.headers()["www-authenticate"].to_str().expect("text").contains("invalid_token"));
    }
    let alive = client.get(format!("{}/healthz", server.url)).send().await.expect("an answer");
    assert_eq!(alive.status(), 200);
    let body = client.get(format!("{}/readyz", server.url)).send().await.expect("an answer").text().await;
    assert!(!body.expect("a body").contains("problems"), "an unknown caller is told no details");
    let log = server.log();
    assert!(log.contains("request refused") && !log.contains("segredo"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_tokens_that_changes_holds_while_the_server_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    let write = |tokens: &str| {
        std::fs::write(&path, tokens).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("closed");
        }
    };
    write(&format!("claude:full:{FULL}\n"));
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS_FILE", path.to_str().expect("text"))]).await;
    let answered = async |token: &str| {
        let asked = reqwest::Client::new().get(format!("{}/lag", server.url)).bearer_auth(token);
        asked.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!((answered(FULL).await, answered(READ).await), (200, 401));
    write(&format!("painel:read:{READ}\n"));
    eventually("the new token is let in", async || answered(READ).await == 200).await;
    assert_eq!(answered(FULL).await, 401, "the old one is not");
    write("painel");
    eventually("it is told", async || server.find("the tokens before hold on").is_some()).await;
    assert_eq!(answered(READ).await, 200);
    assert!(!server.log().contains("segredo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_reads_sees_and_calls_only_what_changes_nothing_in_both_eras() {
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS)]).await;
    for (full, reader) in [
        (server.connect(Some(FULL)).await, server.connect(Some(READ)).await),
        (server.connect_stateless(Some(FULL)).await, server.connect_stateless(Some(READ)).await),
    ] {
        let all = full.list_all_tools().await.expect("the tools");
        let seen = reader.list_all_tools().await.expect("the tools");
        let reads = |tool: &rmcp::model::Tool| {
            tool.annotations.as_ref().and_then(|annotations| annotations.read_only_hint) == Some(true)
        };
        assert!(seen.len() < all.len() && seen.iter().all(reads));
        assert_eq!(seen.len(), all.iter().filter(|tool| reads(tool)).count());

        let dashboard = CallToolRequestParams::new("get_supabase_dashboard");
        assert_ne!(reader.call_tool(dashboard).await.expect("a result").is_error, Some(true));
        let refused = reader.call_tool(CallToolRequestParams::new("sync_leads_from_supabase")).await;
        let details = refused.expect("a result").meta.expect("details").0;
        assert_eq!(details["sluice/error"]["kind"], "not_permitted");
        let allowed = full.call_tool(CallToolRequestParams::new("sync_leads_from_supabase")).await;
        let details = allowed.expect("a result").meta.expect("details").0;
        assert_ne!(
            details["sluice/error"]["kind"], "not_permitted",
            "it fails for another reason: {details:?}"
        );
        full.cancel().await.expect("the session closes");
        reader.cancel().await.expect("the session closes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_the_rights_of_who_uses_it_and_is_its_openers_alone() {
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS)]).await;
    let opened = server.post(&initialize("2025-06-18")).bearer_auth(FULL).send().await.expect("an answer");
    let session = opened.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    Events::of(opened).message().await.expect("an answer");
    for (token, status) in [(READ, 404), (FULL, 200)] {
        let request = server.post(&call(2, "get_supabase_dashboard")).bearer_auth(token);
        let response = request.header("mcp-session-id", &session).send().await.expect("an answer");
        assert_eq!(response.status(), status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_other_hosts_and_from_other_sites_are_refused_until_allowed() {
    let closed = HttpServer::start(&[]).await;
    let open = HttpServer::start(&[
        ("SLUICE_HTTP_ALLOWED_HOSTS", "sluice.example"),
        ("SLUICE_HTTP_ALLOWED_ORIGINS", "https://app.example"),
    ])
    .await;
    for (header, value, setting) in [
        ("host", "sluice.example", "SLUICE_HTTP_ALLOWED_HOSTS"),
        ("origin", "https://app.example", "SLUICE_HTTP_ALLOWED_ORIGINS"),
    ] {
        let refused =
            closed.post(&initialize("2025-06-18")).header(header, value).send().await.expect("an answer");
        assert_eq!(refused.status(), 403);
        assert!(refused.text().await.expect("text").contains(setting));
        let sse = reqwest::Client::new().get(format!("{}/sse", closed.url)).header(header, value);
        assert_eq!(sse.send().await.expect("an answer").status(), 403);
        let allowed =
            open.post(&initialize("2025-06-18")).header(header, value).send().await.expect("an answer");
        assert_eq!(allowed.status(), 200, "{header}");
    }
    let local = closed.post(&initialize("2025-06-18")).header("origin", "http://localhost:6274");
    let local = local.send().await.expect("an answer");
    assert_eq!(local.headers()["access-control-allow-origin"], "http://localhost:6274");
    let null =
        closed.post(&initialize("2025-06-18")).header("origin", "null").send().await.expect("an answer");
    assert_eq!(null.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_a_token_may_only_read_unless_the_operator_allows_more() {
    let page = ("origin", "http://localhost:5173");
    let sync = async |server: &HttpServer, token: &str| {
        let request = server.post(&stateless(1, "tools/call", json!({"name": "sync_leads_from_supabase"})));
        let request = request
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "sync_leads_from_supabase")
            .header(page.0, page.1)
            .bearer_auth(token);
        request.send().await.expect("an answer").json::<Value>().await.expect("JSON")
    };
    let closed = HttpServer::start(&[]).await;
    let refused = sync(&closed, "none").await;
    assert_eq!(refused["result"]["_meta"]["sluice/error"]["kind"], "not_permitted", "{refused}");
    assert!(refused.to_string().contains("SLUICE_HTTP_PAGES_MAY_WRITE"), "{refused}");
    let listed = closed
        .post(&stateless(2, "tools/list", json!({})))
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/list")
        .header(page.0, page.1);
    let listed: Value = listed.send().await.expect("an answer").json().await.expect("JSON");
    let tools = listed["result"]["tools"].as_array().expect("tools");
    assert!(
        tools.len() > 3 && tools.iter().all(|tool| tool["annotations"]["readOnlyHint"] == true),
        "{listed}"
    );

    let allowed = HttpServer::start(&[("SLUICE_HTTP_PAGES_MAY_WRITE", "true")]).await;
    let holder = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS)]).await;
    for (server, token) in [(&allowed, "none"), (&holder, FULL)] {
        let answer = sync(server, token).await;
        assert_eq!(answer["result"]["isError"], true, "its parts are down: {answer}");
        assert_ne!(answer["result"]["_meta"]["sluice/error"]["kind"], "not_permitted", "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_that_hides_its_origin_opens_no_stream() {
    let server = HttpServer::start(&[("SLUICE_HTTP_MAX_SESSIONS", "8")]).await;
    let get = async |site: Option<&str>, origin: Option<&str>| {
        let mut request = reqwest::Client::new().get(format!("{}/sse", server.url));
        for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.send().await.expect("an answer")
    };
    for site in ["cross-site", "same-site", "nonsense"] {
        assert_eq!(get(Some(site), None).await.status(), 403, "{site}");
    }
    let allowed = Some("http://localhost:5173");
    // A page that may connect has a share of its own: the programs of this machine keep theirs.
    let held = [get(Some("cross-site"), allowed).await, get(Some("cross-site"), allowed).await];
    assert!(held.iter().all(|stream| stream.status() == 200));
    assert_eq!(get(Some("cross-site"), allowed).await.status(), 429);
    assert_eq!(get(None, None).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_tell_a_stranger_whether_and_nothing_else() {
    let server = HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS)]).await;
    let client = reqwest::Client::new();
    let ready = client.get(format!("{}/readyz", server.url)).send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.json::<Value>().await.expect("JSON"), json!({"ready": false}));
    let known =
        client.get(format!("{}/readyz", server.url)).bearer_auth(READ).send().await.expect("an answer");
    let known: Value = known.json().await.expect("JSON");
    assert_eq!(known["failing"], json!(["kafka", "postgres", "elasticsearch"]), "{known}");
    let alive = client.get(format!("{}/healthz", server.url)).send().await.expect("an answer");
    let headers: Vec<String> = alive.headers().keys().map(ToString::to_string).collect();
    assert!(!headers.contains(&"server".to_owned()), "{headers:?}");
    assert_eq!(alive.text().await.expect("text"), "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_with_and_without_a_length() {
    let server = HttpServer::start(&[("SLUICE_HTTP_MAX_BODY_KIB", "16")]).await;
    let large = json!({"jsonrpc": "2.0", "id": 1, "method": "x".repeat(20_000)});
    assert_eq!(server.post(&large).send().await.expect("an answer").status(), 413);
    let chunks = large.to_string().into_bytes().chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let status = chunked(&server, &chunks).await;
    assert!(status.contains(" 413 "), "{status}");
}

/// Posts a body in chunks, and returns the status line.
async fn chunked(server: &HttpServer, chunks: &[Vec<u8>]) -> String {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let address = server.url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    for chunk in chunks {
        let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        // The server may stop reading before the end.
        if stream.write_all(&bytes).await.is_err() {
            break;
        }
    }
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.expect("a status line");
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_too_often_is_told_when_to_return_and_others_are_not_held_up() {
    let server =
        HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_HTTP_REQUESTS_PER_SECOND", "1")]).await;
    let mut refused = None;
    for _ in 0..10 {
        let response = server.post(&call(1, "x")).bearer_auth(FULL).send().await.expect("an answer");
        if response.status() == 429 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("the burst is used up");
    let wait: u64 = refused.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=5).contains(&wait));
    let other = server.post(&initialize("2025-06-18")).bearer_auth(READ).send().await.expect("an answer");
    assert_eq!(other.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_fill_no_log_however_fast_they_are_refused() {
    let server =
        HttpServer::start(&[("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_HTTP_REQUESTS_PER_SECOND", "1")]).await;
    let client = reqwest::Client::new();
    for (name, value) in [("host", "evil.example"), ("authorization", "Bearer guessed")] {
        let mut statuses = Vec::new();
        for _ in 0..100 {
            let request = client.get(format!("{}/metrics", server.url)).header(name, value);
            statuses.push(request.send().await.expect("an answer").status().as_u16());
        }
        assert!(statuses.iter().filter(|status| **status == 429).count() > 50, "{name}: {statuses:?}");
    }
    let told = |line: &&str| line.contains("request refused") && line.contains("\"info\"");
    let told = server.log().lines().filter(told).count();
    assert!((2..100).contains(&told), "{told} lines for 200 requests");
    let known = server.post(&initialize("2025-06-18")).bearer_auth(READ).send().await.expect("an answer");
    assert_eq!(known.status(), 200, "who holds a token is not held up by them");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_other_machines_is_not_served_without_a_token() {
    let source = SampleServer::start(0).await.expect("a free port");
    let refused =
        command(&source, &["serve", "--http", "0.0.0.0:0"], &[]).output().await.expect("the program runs");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && errors.contains("SLUICE_HTTP_TOKENS:"), "{errors}");
    assert!(!errors.contains("serving"), "nothing starts: {errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_its_name_in_the_answer_and_in_every_line_about_it() {
    let server = HttpServer::start(&[]).await;
    let request = server.post(&initialize("2025-06-18")).header("x-request-id", "proxy-42");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["x-request-id"], "proxy-42");
    let made = server
        .post(&initialize("2025-06-18"))
        .header("x-request-id", "a b\"c")
        .send()
        .await
        .expect("an answer");
    let id = made.headers()["x-request-id"].to_str().expect("text").to_owned();
    assert_eq!(id.len(), 36, "a UUID of the server's own: {id}");
    crate::support::eventually("the requests are logged", async || server.log().contains(&id)).await;
    let named = |line: &&str| line.contains("\"request answered\"");
    for line in server.log().lines().filter(named) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!(line["request_id"].is_string(), "{line}");
    }
    assert!(!server.log().contains("a b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_see_contacts_sees_them_and_no_other_does() {
    let settings = [("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_REVEAL_PII_TO", "token:painel")];
    let server = HttpServer::start(&settings).await;
    for (full, reader) in [
        (server.connect(Some(FULL)).await, server.connect(Some(READ)).await),
        (server.connect_stateless(Some(FULL)).await, server.connect_stateless(Some(READ)).await),
    ] {
        for (client, sees) in [(full, false), (reader, true)] {
            let arguments = json!({"index": "ana@exemplo.com.br"}).as_object().cloned().expect("an object");
            let asked = CallToolRequestParams::new("search_elasticsearch").with_arguments(arguments);
            let refused = client.call_tool(asked).await.expect("a result");
            let told = serde_json::to_string(&refused).expect("JSON");
            assert_eq!(told.contains("ana@exemplo.com.br"), sees, "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_shown_to_no_token_and_by_no_tool_that_does_not_exist() {
    let source = SampleServer::start(0).await.expect("a source");
    for (named, told) in [("token:ninguem", "the token 'ninguem'"), ("get_leads", "no tool 'get_leads'")] {
        let settings = [("SLUICE_HTTP_TOKENS", TOKENS), ("SLUICE_REVEAL_PII_TO", named)];
        let ended = command(&source, &["serve", "--http", "127.0.0.1:0"], &settings).output().await;
        let ended = ended.expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains(told), "{said}");
    }
}
