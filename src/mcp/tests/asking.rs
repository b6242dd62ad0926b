//! Consent, from the tool that asks to the user who answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::{
    handler::server::{
        router::tool::ToolRoute,
        tool::{IntoCallToolResult, ToolCallContext},
    },
    model::{
        CallToolResponse, CallToolResult, ContentBlock, ElicitationAction, ElicitationCapability,
        FormElicitationCapability, InputResponses, Tool,
    },
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::mcp::consent;

/// A server with one more tool, `forget`, which needs consent and counts what it does.
fn forgetful(bench: &Bench) -> (SluiceServer, Arc<AtomicUsize>) {
    let mut server = bench.server(&Offer::default());
    let forgotten = Arc::new(AtomicUsize::new(0));
    let counter = forgotten.clone();
    let tool = Tool::new("forget", "forgets", Arc::new(serde_json::Map::new()));
    let route = ToolRoute::new_dyn(tool, move |call: ToolCallContext<'_, SluiceServer>| {
        let counter = counter.clone();
        Box::pin(async move {
            let given = call.arguments.clone().unwrap_or_default();
            let confirm = given.get("confirm").and_then(Value::as_bool);
            let what = given.get("what").and_then(Value::as_str).unwrap_or("forgets everything");
            if let Err(error) = consent::ask(&call.request_context, confirm, what).await {
                return error.into_call_tool_result();
            }
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(CallToolResult::success(vec![ContentBlock::text("forgotten")]).into())
        })
    });
    Arc::get_mut(&mut server.toolbox).expect("a new server").router.add_route(route);
    (server, forgotten)
}

pub(super) fn able(answers: impl IntoIterator<Item = ElicitResult>) -> Client {
    let mut capabilities = ClientCapabilities::default();
    capabilities.elicitation =
        Some(ElicitationCapability::new().with_form(FormElicitationCapability::default()));
    Client { capabilities, answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Client::default() }
}

pub(super) fn yes() -> ElicitResult {
    ElicitResult::new(ElicitationAction::Accept).with_content(json!({"confirm": true}))
}

fn no() -> [ElicitResult; 3] {
    [
        ElicitResult::new(ElicitationAction::Decline),
        ElicitResult::new(ElicitationAction::Cancel),
        ElicitResult::new(ElicitationAction::Accept).with_content(json!({"confirm": false})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_can_be_asked_is_asked_in_both_eras_and_only_a_yes_counts() {
    let bench = Bench::new().await;
    for era in [Era::Sessions, Era::Stateless] {
        let (server, forgotten) = forgetful(&bench);
        let client = able(no().into_iter().chain([yes()]));
        let connection = connect(server, client.clone(), era).await;
        for _ in 0..3 {
            // What the model says for itself does not replace the user's word.
            let refused = call(&connection, "forget", json!({"confirm": true})).await;
            assert_eq!(refused.is_error, Some(true));
            assert!(text(&refused).contains("the user said no; nothing was done"), "{}", text(&refused));
        }
        assert_eq!(forgotten.load(Ordering::SeqCst), 0);
        assert_eq!(text(&call(&connection, "forget", json!({})).await), "forgotten");
        assert_eq!(forgotten.load(Ordering::SeqCst), 1);
        let questions = client.questions.lock().expect("no poison").clone();
        assert_eq!(questions.len(), 4);
        assert!(questions[0].contains("this forgets everything"), "{questions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_can_not_ask_says_confirm() {
    let bench = Bench::new().await;
    for era in [Era::Sessions, Era::Stateless] {
        let (server, forgotten) = forgetful(&bench);
        let connection = connect(server, Client::default(), era).await;
        for arguments in [json!({}), json!({"confirm": false})] {
            let refused = call(&connection, "forget", arguments).await;
            assert_eq!(refused.is_error, Some(true));
            let text = text(&refused);
            assert!(text.contains("this forgets everything") && text.contains("confirm: true"), "{text}");
        }
        assert_eq!(forgotten.load(Ordering::SeqCst), 0);
        assert_eq!(text(&call(&connection, "forget", json!({"confirm": true})).await), "forgotten");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_good_for_the_same_call_and_consequence_only() {
    let bench = Bench::new().await;
    let (server, forgotten) = forgetful(&bench);
    let connection = connect(server, able([]), Era::Stateless).await;
    let request = |what: &str| {
        CallToolRequestParams::new("forget")
            .with_arguments(json!({"what": what}).as_object().cloned().expect("an object"))
    };
    let asked = |response: CallToolResponse| match response {
        CallToolResponse::InputRequired(required) => required,
        other => panic!("{other:?}"),
    };
    let first = asked(connection.call_tool_once(request("forgets 12 letters")).await.expect("a question"));
    let note = first.request_state.expect("a note");
    let answers = || {
        let word = serde_json::to_value(yes()).expect("JSON");
        InputResponses::from([("consent".to_owned(), word)])
    };
    let mut forged = note.clone();
    forged.push('A');
    for (what, note) in [("forgets 13 letters", note.clone()), ("forgets 12 letters", forged)] {
        let again = request(what).with_input_responses(answers()).with_request_state(note);
        asked(connection.call_tool_once(again).await.expect("another question"));
    }
    assert_eq!(forgotten.load(Ordering::SeqCst), 0);
    let again = request("forgets 12 letters").with_input_responses(answers()).with_request_state(note);
    match connection.call_tool_once(again).await.expect("an answer") {
        CallToolResponse::Complete(result) => assert_eq!(text(&result), "forgotten"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_taken_back_while_its_question_waits_changes_nothing_whatever_is_answered_late() {
    let bench = Bench::new().await;
    let (server, forgotten) = forgetful(&bench);
    let (near, far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        if let Ok(running) = server.serve(far).await {
            running.waiting().await.ok();
        }
    });
    let (output, mut input) = tokio::io::split(near);
    let mut output = BufReader::new(output).lines();
    let mut say = async |message: Value| {
        input.write_all(format!("{message}\n").as_bytes()).await.expect("written");
    };
    let mut heard = async || -> Value {
        let line = tokio::time::timeout(Duration::from_secs(30), output.next_line()).await;
        let line = line.expect("a line in time").expect("a line").expect("no end");
        serde_json::from_str(&line).expect("JSON")
    };
    say(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "test", "version": "1"}}}))
    .await;
    assert_eq!(heard().await["id"], 1);
    say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    say(json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "forget"}})).await;
    let question = heard().await;
    assert_eq!(question["method"], "elicitation/create", "{question}");
    say(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}})).await;
    let withdrawn = heard().await;
    assert_eq!(
        (&withdrawn["method"], &withdrawn["params"]["requestId"]),
        (&json!("notifications/cancelled"), &question["id"])
    );
    say(json!({"jsonrpc": "2.0", "id": question["id"], "result": yes()})).await;
    say(json!({"jsonrpc": "2.0", "id": 6, "method": "ping"})).await;
    assert_eq!(heard().await["id"], 6);
    assert_eq!(forgotten.load(Ordering::SeqCst), 0);
}
