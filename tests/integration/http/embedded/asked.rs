//! Calls that wait for a user's word, and clients that take them back, hang up, or can't be asked.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::source::sample::Fault;

use crate::support::{
    eventually,
    http::{Events, HttpServer, call, initialize, initialized},
};

/// A client whose user can be asked, with a session of its own.
struct Asker<'a> {
    server: &'a HttpServer,
    session: String,
}

impl<'a> Asker<'a> {
    async fn new(server: &'a HttpServer, revision: &str) -> Self {
        let mut opening = initialize(revision);
        opening["params"]["capabilities"] = json!({"elicitation": {}});
        let response = server.post(&opening).send().await.expect("an answer");
        let session = response.headers()["mcp-session-id"].to_str().expect("text").to_owned();
        Events::of(response).message().await.expect("an answer");
        let client = Self { server, session };
        assert_eq!(client.post(&initialized()).send().await.expect("an answer").status(), 202);
        client
    }

    fn post(&self, message: &Value) -> reqwest::RequestBuilder {
        self.server.post(message).header("mcp-session-id", &self.session).timeout(Duration::from_mins(1))
    }

    /// Calls a tool that asks first; the stream, and the question on it.
    async fn asked(&self, id: u32) -> (Events, Value) {
        let mut events = Events::of(self.post(&forget(id)).send().await.expect("an answer"));
        let question = events.message().await.expect("a question").json();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        (events, question)
    }

    async fn cancel(&self, id: u32) {
        let cancelled =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        assert_eq!(self.post(&cancelled).send().await.expect("an answer").status(), 202);
    }

    async fn has_room(&self) -> bool {
        let ping = json!({"jsonrpc": "2.0", "id": "room", "method": "ping"});
        self.post(&ping).send().await.expect("an answer").status() == 200
    }

    async fn close(&self) {
        let closing =
            reqwest::Client::new().delete(self.server.mcp()).header("mcp-session-id", &self.session);
        assert_eq!(closing.send().await.expect("an answer").status(), 204);
    }
}

fn forget(id: u32) -> Value {
    let mut message = call(id, "discard_dead_letters");
    message["params"]["arguments"] = json!({"ids": ["0-1"]});
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_nobody_waits_for_end_with_their_calls_and_with_their_session() {
    let mut server = HttpServer::start(&[("SLUICE_HTTP_MAX_CALLS_PER_CLIENT", "2")]).await;
    let client = Asker::new(&server, "2025-11-25").await;
    for id in [11, 12] {
        drop(client.asked(id).await);
    }
    assert!(!client.has_room().await, "both calls still wait");
    for id in [11, 12] {
        client.cancel(id).await;
    }
    eventually("calls taken back make room", async || client.has_room().await).await;

    for id in [13, 14] {
        drop(client.asked(id).await);
    }
    let other = Asker { session: String::new(), ..client };
    let closed = tokio::time::Instant::now();
    client.close().await;
    // Whoever has no session is refused with 404 where there is room, and with 429 where there is none.
    eventually("a session that ends makes room", async || {
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        let unknown = other.server.post(&ping).header("mcp-session-id", &client.session);
        unknown.send().await.expect("an answer").status() == 404
    })
    .await;
    assert!(closed.elapsed() < Duration::from_secs(3), "{:?}", closed.elapsed());

    let last = Asker::new(&server, "2025-11-25").await;
    drop(last.asked(15).await);
    let (mut events, _) = last.asked(16).await;
    server.terminate();
    let answer = loop {
        let message = events.message().await.expect("an answer before the end").json();
        if message["id"] == 16 {
            break message;
        }
    };
    let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
    assert!(text.contains("the session ended before an answer came; nothing was done"), "{answer}");
    drop(events);
    let ended = tokio::time::timeout(Duration::from_secs(5), server.process.wait()).await;
    assert!(ended.expect("an end that waits for no user").expect("an exit").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_events_is_told_to_confirm() {
    let server = HttpServer::start(&[]).await;
    let is_told = |answer: &Value| {
        let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
        assert!(text.contains("call again with the same arguments and confirm: true"), "{answer}");
    };
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let client = Asker::new(&server, revision).await;
        let alone = client.post(&forget(7)).header("accept", "application/json");
        // What is added to a header is read after what is there.
        let mut alone = alone.build().expect("a request");
        alone.headers_mut().insert("accept", "application/json".parse().expect("a value"));
        let answer = reqwest::Client::new().execute(alone).await.expect("an answer");
        is_told(&answer.json().await.expect("JSON"));
    }
    let client = Asker::new(&server, "2025-03-26").await;
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    let answers = client.post(&json!([forget(1), ping])).send().await.expect("an answer");
    let answers: Value = answers.json().await.expect("JSON");
    is_told(&answers[0]);
    assert_eq!(answers[1]["id"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_not_free_while_a_call_that_was_hung_up_or_taken_back_may_still_be_answered() {
    let server = HttpServer::start(&[]).await;
    let client = Asker::new(&server, "2025-11-25").await;
    let is_refused = async |message: &Value| {
        let second = client.post(message).send().await.expect("an answer");
        assert_eq!(second.status(), 400);
        let refusal: Value = second.json().await.expect("JSON");
        assert_eq!(
            (&refusal["id"], &refusal["error"]["code"]),
            (&message["id"], &json!(-32600)),
            "{refusal}"
        );
    };
    server.source().script([Fault::Delay(Duration::from_secs(3))]);
    server.source().take_requests();
    let first = client.post(&call(99, "get_supabase_dashboard")).send().await.expect("a stream");
    eventually("the call is under way", async || !server.source().take_requests().is_empty()).await;
    drop(first);
    let second = call(99, "list_syncs");
    is_refused(&second).await;
    eventually("the id is free once the first is answered", async || {
        client.post(&second).send().await.expect("an answer").status() == 200
    })
    .await;

    drop(client.asked(100).await);
    client.cancel(100).await;
    is_refused(&call(100, "list_syncs")).await;
}
