//! Whole sessions over pipes in memory.

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ElicitRequestParams,
        ElicitationSchema, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines as TokioLines, duplex},
    sync::Semaphore,
    task::JoinHandle,
};

use super::*;

/// Longer than anything here takes, where it is not waited for.
const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(200);

/// A server whose tool `wait` waits until the test lets it go, and whose tool `ask` asks the user.
#[derive(Clone)]
struct Server {
    gate: Arc<Semaphore>,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name == "wait" {
            tokio::select! {
                permit = self.gate.acquire() => permit.map(tokio::sync::SemaphorePermit::forget).expect("open"),
                () = context.ct.cancelled() => {}
            }
        }
        if request.name == "ask" {
            let asking = context.peer.create_elicitation(ElicitRequestParams::FormElicitationParams {
                meta: None,
                message: "?".to_owned(),
                requested_schema: ElicitationSchema::new([].into()),
            });
            tokio::select! {
                answer = asking => drop(answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?),
                () = context.ct.cancelled() => {}
            }
        }
        Ok(CallToolResult::success(vec![ContentBlock::text(request.name)]).into())
    }
}

struct Client {
    input: Option<DuplexStream>,
    output: TokioLines<BufReader<DuplexStream>>,
    gate: Arc<Semaphore>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), Box<ServerInitializeError>>>,
}

impl Client {
    /// A server and its client, with so much room in the pipe to the client.
    fn with(bytes: usize, grace: Grace) -> Self {
        let (input, far_input) = duplex(1 << 16);
        let (output, far_output) = duplex(bytes);
        let (gate, stop) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
        let server = Server { gate: gate.clone() };
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(serve_within(grace, server, far_input, far_output, stopped));
        Self { input: Some(input), output: BufReader::new(output).lines(), gate, stop, serving }
    }

    fn new() -> Self {
        Self::with(1 << 16, Grace { eof: LONG, stop: LONG, flush: LONG })
    }

    async fn with_session(revision: &str) -> Self {
        Self::new().in_session(revision).await
    }

    async fn in_session(self, revision: &str) -> Self {
        let mut client = self;
        assert_eq!(client.initialize(revision).await["result"]["protocolVersion"], revision);
        client
    }

    async fn initialize(&mut self, revision: &str) -> Value {
        self.say(&initialize(revision)).await;
        let answer = self.heard().await;
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        answer
    }

    async fn write(&mut self, text: impl AsRef<[u8]>) {
        self.input.as_mut().expect("open").write_all(text.as_ref()).await.expect("written");
    }

    async fn say(&mut self, message: &Value) {
        self.write(format!("{message}\n")).await;
    }

    async fn heard(&mut self) -> Value {
        let line = self.output.next_line().await.expect("a line").expect("an answer before the end");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    /// What is said from here on to the end.
    async fn rest(mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(line) = self.output.next_line().await.expect("a line") {
            rest.push(serde_json::from_str(&line).expect("JSON"));
        }
        self.serving.await.expect("no panic").expect("a good end");
        rest
    }

    fn hang_up(&mut self) {
        self.input = None;
    }
}

fn initialize(revision: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": {"protocolVersion": revision,
        "capabilities": {"elicitation": {}}, "clientInfo": {"name": "test", "version": "1"}}})
}

fn ping(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "ping"})
}

fn call(id: impl Into<Value>, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": tool}})
}

fn cancel(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id.into()}})
}

fn stateless(id: impl Into<Value>, revision: &str) -> Value {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": revision,
        "io.modelcontextprotocol/clientCapabilities": {}});
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/list", "params": {"_meta": meta}})
}

fn ids(answers: &[Value]) -> Vec<&Value> {
    answers.iter().map(|answer| &answer["id"]).collect()
}

#[tokio::test]
async fn a_session_ends_well_without_a_word_and_after_words_that_open_none() {
    for said in
        [vec![], vec![json!({"jsonrpc": "2.0", "method": "notifications/initialized"})], vec![cancel(1)]]
    {
        let mut client = Client::new();
        for message in &said {
            client.say(message).await;
        }
        client.hang_up();
        assert_eq!(client.rest().await, Vec::<Value>::new(), "{said:?}");
    }
}

#[tokio::test]
async fn what_comes_before_initialize_is_answered_and_a_session_opened_all_the_same() {
    let mut client = Client::new();
    client.write("hello\n").await;
    assert_eq!(client.heard().await["error"]["code"], -32700);
    for message in [
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        cancel(7),
        json!({"jsonrpc": "2.0", "id": 7, "result": {}}),
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "?"}}),
    ] {
        client.say(&message).await;
    }
    client.say(&ping(1)).await;
    assert_eq!(client.heard().await, json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    client.say(&call(2, "quick")).await;
    let early = client.heard().await;
    assert_eq!((&early["id"], &early["error"]["code"]), (&json!(2), &json!(-32602)));
    assert!(early["error"]["message"].as_str().is_some_and(|text| text.contains("send initialize first")));
    client.say(&json!({"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": {}})).await;
    let bare = client.heard().await;
    assert_eq!((&bare["id"], &bare["error"]["code"]), (&json!(3), &json!(-32602)));
    assert!(bare["error"]["message"].as_str().is_some_and(|text| text.contains("protocolVersion")), "{bare}");
    client.say(&json!([ping(4)])).await;
    assert_eq!(client.heard().await["error"]["code"], -32600);
    assert_eq!(client.initialize("2025-11-25").await["id"], "open");
    client.say(&call(5, "quick")).await;
    assert_eq!(client.heard().await["result"]["content"][0]["text"], "quick");
}

#[tokio::test]
async fn a_request_of_the_stateless_revision_opens_its_session_and_one_of_no_revision_does_not() {
    let mut client = Client::new();
    client.say(&stateless(1, "2099-01-01")).await;
    let unknown = client.heard().await;
    assert!(unknown["id"] == 1 && unknown["error"].is_object(), "{unknown}");
    client.say(&cancel(1)).await;
    client.say(&stateless(2, "2026-07-28")).await;
    let listed = client.heard().await;
    assert!(listed["id"] == 2 && listed["result"]["tools"].is_array(), "{listed}");
    client.say(&cancel(2)).await;
    client.say(&stateless(3, "2026-07-28")).await;
    assert_eq!(client.heard().await["id"], 3, "a notification is one of an open session now");
}

#[tokio::test]
async fn lines_that_are_no_messages_are_answered_one_by_one_and_the_next_is_served() {
    let mut client = Client::with_session("2025-06-18").await;
    client.write(format!("{}\n", "x".repeat(MAX_LINE + 7))).await;
    client.write(format!(r#"{{"id":9,"params":{{"a":"{}"}}}}"#, "x".repeat(MAX_LINE)) + "\n").await;
    client.write(b"\n\r\n\xEF\xBB\xBF\n").await;
    client.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"a\":\"\xFF\"}}\n").await;
    client.write("{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\",\"params\":{\"a\":\"\\ud83d\"}}\n").await;
    client.write("{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}\n").await;
    client.write("7\n").await;
    client.write(format!("{}", ping(3))).await;
    client.hang_up();
    let answers = client.rest().await;
    assert_eq!(
        ids(&answers),
        [&json!(null), &json!(9), &json!(1), &json!(2), &json!(1.5), &json!(null), &json!(3)]
    );
    let codes: Vec<_> = answers.iter().map(|answer| answer["error"]["code"].clone()).collect();
    assert_eq!(
        codes,
        [
            json!(-32700),
            json!(-32700),
            json!(-32700),
            json!(-32700),
            json!(-32600),
            json!(-32600),
            json!(null)
        ]
    );
}

#[tokio::test]
async fn a_call_under_way_is_answered_although_the_input_has_ended_or_the_server_is_to_stop() {
    for by_signal in [false, true] {
        let mut client = Client::with_session("2025-06-18").await;
        client.say(&call(1, "wait")).await;
        client.say(&ping(2)).await;
        assert_eq!(client.heard().await["id"], 2, "the call before is under way");
        if by_signal {
            client.stop.cancel();
        } else {
            client.hang_up();
        }
        // There is nothing to see of a server that waits as it should.
        assert!(timeout(SHORT, client.output.next_line()).await.is_err(), "the call is not waited for");
        client.gate.add_permits(1);
        let answers = client.rest().await;
        assert_eq!((answers.len(), &answers[0]["result"]["content"][0]["text"]), (1, &json!("wait")));
    }
}

#[tokio::test]
async fn a_call_that_outlasts_the_session_is_answered_by_an_error() {
    for by_signal in [false, true] {
        let grace = Grace { eof: SHORT, stop: SHORT, flush: LONG };
        let mut client = Client::with(1 << 16, grace).in_session("2025-06-18").await;
        client.say(&call(1, "wait")).await;
        if by_signal {
            client.say(&ping(2)).await;
            assert_eq!(client.heard().await["id"], 2, "the call before is under way");
            client.stop.cancel();
        } else {
            client.hang_up();
        }
        let answers = client.rest().await;
        assert_eq!((ids(&answers), &answers[0]["error"]["code"]), (vec![&json!(1)], &json!(-32000)));
    }
}

#[tokio::test]
async fn whoever_asks_to_stop_after_the_input_has_ended_need_not_wait_any_longer() {
    let grace = Grace { eof: LONG, stop: SHORT, flush: LONG };
    let mut client = Client::with(1 << 16, grace).in_session("2025-06-18").await;
    client.say(&call(1, "wait")).await;
    client.hang_up();
    assert!(timeout(SHORT, client.output.next_line()).await.is_err(), "the call is not waited for");
    let began = Instant::now();
    client.stop.cancel();
    assert_eq!(client.rest().await.len(), 1);
    assert!(began.elapsed() < LONG / 2);
}

#[tokio::test]
async fn stopping_at_any_moment_of_the_handshake_ends_well_and_loses_no_answer() {
    let client = Client::new();
    client.stop.cancel();
    assert_eq!(client.rest().await, Vec::<Value>::new(), "nothing was asked");

    let mut client = Client::new();
    client.say(&initialize("2025-06-18")).await;
    tokio::task::yield_now().await;
    client.stop.cancel();
    let answers = client.rest().await;
    assert!(answers.len() <= 1 && answers.iter().all(|answer| answer["result"].is_object()), "{answers:?}");

    let mut client = Client::with_session("2025-06-18").await;
    client.stop.cancel();
    tokio::task::yield_now().await;
    assert_eq!(client.output.next_line().await.expect("a line"), None);
}

#[tokio::test]
async fn an_id_given_to_two_requests_at_once_is_refused_for_the_second_and_free_again_later() {
    let mut client = Client::with_session("2025-06-18").await;
    client.say(&call(1, "wait")).await;
    client.say(&call(1, "quick")).await;
    let second = client.heard().await;
    assert_eq!((&second["id"], &second["error"]["code"]), (&json!(1), &json!(-32600)));
    client.gate.add_permits(1);
    assert_eq!(client.heard().await["result"]["content"][0]["text"], "wait");
    client.say(&call(1, "quick")).await;
    assert_eq!(client.heard().await["result"]["content"][0]["text"], "quick");
    client.say(&call(2, "wait")).await;
    client.say(&cancel(2)).await;
    client.say(&call(2, "quick")).await;
    let reused = client.heard().await;
    // What the call taken back still answers would be taken for the answer to this one.
    assert_eq!((&reused["id"], &reused["error"]["code"]), (&json!(2), &json!(-32600)));
}

#[tokio::test]
async fn a_batch_of_the_one_revision_that_has_them_is_answered_by_a_batch() {
    let grace = Grace { eof: SHORT, stop: LONG, flush: LONG };
    let mut client = Client::with(1 << 16, grace).in_session("2025-03-26").await;
    client
        .say(&json!([call(1, "wait"), ping("two"), cancel(9), 7, call(1, "quick"), initialize("2025-03-26")]))
        .await;
    client.say(&ping(3)).await;
    assert_eq!(client.heard().await["id"], 3, "a batch holds up nobody else");
    client.gate.add_permits(1);
    let answers = client.heard().await;
    let answers = answers.as_array().expect("a batch");
    let told = |id: Value| {
        let told: Vec<_> = answers.iter().filter(|answer| answer["id"] == id).collect();
        told
    };
    assert_eq!(answers.len(), 5, "{answers:?}");
    assert!(told(json!("two"))[0]["result"].is_object());
    assert_eq!(told(json!(null))[0]["error"]["code"], -32600);
    assert_eq!(told(json!("open"))[0]["error"]["code"], -32600, "initialize goes alone");
    assert!(told(json!(1)).iter().any(|answer| answer["result"]["content"][0]["text"] == "wait"));
    assert!(told(json!(1)).iter().any(|answer| answer["error"]["code"] == -32600), "an id given twice");

    client.say(&json!([cancel(9), cancel(10)])).await;
    client.say(&json!([7])).await;
    assert_eq!(
        client.heard().await[0]["error"]["code"],
        -32600,
        "notifications alone are answered by nothing"
    );
    client.say(&json!([call(4, "wait"), ping(5)])).await;
    client.say(&cancel(4)).await;
    assert_eq!(ids(client.heard().await.as_array().expect("a batch")), [&json!(5)]);
    client.say(&json!([])).await;
    assert_eq!(client.heard().await["error"]["code"], -32600);
    client.say(&json!([call(6, "wait")])).await;
    client.hang_up();
    assert_eq!(client.rest().await[0][0]["error"]["code"], -32000, "what is abandoned is in its batch, too");
}

#[tokio::test]
async fn a_batch_is_refused_where_the_revision_has_none() {
    for revision in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mut client = Client::with_session(revision).await;
        client.say(&json!([ping(1)])).await;
        let refusal = client.heard().await;
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&Value::Null, &json!(-32600)));
        assert!(
            refusal["error"]["message"].as_str().is_some_and(|text| text.contains(revision)),
            "{refusal}"
        );
        client.say(&ping(1)).await;
        assert_eq!(client.heard().await["id"], 1);
    }
}

#[tokio::test]
async fn a_client_that_only_writes_is_not_read_any_more_and_all_is_answered_once_it_reads() {
    let mut client = Client::with(256, Grace { eof: LONG, stop: LONG, flush: LONG });
    client.initialize("2025-06-18").await;
    let mut sent: u64 = 0;
    // While what is written is read, there is room for more.
    while timeout(Duration::from_secs(1), client.say(&ping(sent))).await.is_ok() {
        sent += 1;
        assert!(sent < 100_000, "everything is read, and nobody takes in the answers");
    }
    client.hang_up();
    let answers = client.rest().await;
    assert!(answers.len() as u64 >= sent, "{} of {sent}", answers.len());
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_keep_the_server_from_stopping() {
    let mut client = Client::with(64, Grace { eof: LONG, stop: SHORT, flush: SHORT });
    client.say(&initialize("2025-06-18")).await;
    for id in 0..200 {
        client.say(&ping(id)).await;
    }
    client.stop.cancel();
    timeout(LONG, client.serving).await.expect("an end").expect("no panic").expect("a good end");
}

#[tokio::test]
async fn a_client_that_closes_its_end_ends_the_session_at_the_next_answer() {
    let mut client = Client::with_session("2025-06-18").await;
    let Client { output, serving, mut input, .. } = client;
    drop(output);
    let input = input.as_mut().expect("open");
    input.write_all(format!("{}\n", ping(1)).as_bytes()).await.expect("written");
    serving.await.expect("no panic").expect("a good end");
    client = Client::new();
    drop(client.output);
    client
        .input
        .as_mut()
        .expect("open")
        .write_all(format!("{}\n", initialize("x")).as_bytes())
        .await
        .expect("written");
    client.serving.await.expect("no panic").expect("a good end");
}

#[tokio::test]
async fn more_requests_than_may_be_under_way_wait_for_those_before_them() {
    let mut client = Client::with_session("2025-06-18").await;
    let most = calls::MAX_IN_FLIGHT;
    for id in 0..most * 2 {
        client.say(&call(id, "wait")).await;
    }
    client.gate.add_permits(most * 2);
    client.hang_up();
    let answers = client.rest().await;
    assert_eq!(answers.len(), most * 2);
    assert!(answers.iter().all(|answer| answer["result"].is_object()), "{answers:?}");
}

#[tokio::test]
async fn a_call_whose_question_is_never_answered_is_told_that_the_session_ends() {
    for by_signal in [false, true] {
        let mut client = Client::with_session("2025-06-18").await;
        client.say(&call(1, "ask")).await;
        assert_eq!(client.heard().await["method"], "elicitation/create");
        if by_signal {
            client.stop.cancel();
        } else {
            client.hang_up();
        }
        let answers = client.rest().await;
        assert_eq!((ids(&answers), &answers[0]["error"]["code"]), (vec![&json!(1)], &json!(-32000)));
    }
}

#[tokio::test]
async fn a_question_goes_with_its_request_and_hides_no_other_call() {
    let mut client = Client::with_session("2025-06-18").await;
    client.say(&call(1, "ask")).await;
    assert_eq!(client.heard().await["method"], "elicitation/create");
    client.say(&cancel(1)).await;
    client.say(&call(2, "wait")).await;
    client.hang_up();
    // There is nothing to see of a server that waits as it should.
    assert!(timeout(SHORT, client.output.next_line()).await.is_err(), "the call is not waited for");
    client.gate.add_permits(1);
    let answers = client.rest().await;
    assert_eq!(
        (ids(&answers), &answers[0]["result"]["content"][0]["text"]),
        (vec![&json!(2)], &json!("wait"))
    );
}

#[tokio::test]
async fn a_question_that_went_with_its_request_lets_further_requests_wait_for_room() {
    let mut client = Client::with_session("2025-06-18").await;
    client.say(&call("asked", "ask")).await;
    assert_eq!(client.heard().await["method"], "elicitation/create");
    client.say(&cancel("asked")).await;
    let most = calls::MAX_IN_FLIGHT;
    for id in 0..most * 2 {
        client.say(&call(id, "wait")).await;
    }
    client.gate.add_permits(most * 2);
    client.hang_up();
    let answers = client.rest().await;
    assert_eq!(answers.len(), most * 2);
    assert!(answers.iter().all(|answer| answer["result"].is_object()), "{answers:?}");
}
