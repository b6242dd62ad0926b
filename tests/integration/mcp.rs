//! The server as a client meets it: the real program over stdio, driven by a real MCP client.

use std::sync::{Arc, Mutex};

use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResult, NumberOrString, ProgressNotificationParam, ProgressToken,
        RequestMetaObject,
    },
    service::{NotificationContext, RunningService},
    transport::TokioChildProcess,
};
use serde_json::{Value, json};
use sluice::source::sample::Fault;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::support::table;
use crate::support::{
    Pipeline, eventually,
    rows::{id, leads, object, session},
};

/// Remembers the progress it hears of.
#[derive(Clone, Default)]
pub struct Client {
    progress: Arc<Mutex<Vec<ProgressNotificationParam>>>,
}

impl ClientHandler for Client {
    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().expect("no poison").push(params);
    }
}

pub type Session = RunningService<RoleClient, Client>;

pub async fn connect(pipeline: &Pipeline) -> (Session, Client) {
    connect_to(pipeline.command(&[])).await
}

pub async fn connect_to(command: tokio::process::Command) -> (Session, Client) {
    let client = Client::default();
    let process = TokioChildProcess::new(command).expect("the program starts");
    let session = client.clone().serve(process).await.expect("the session opens");
    (session, client)
}

pub async fn call(session: &Session, tool: &str, arguments: Value) -> CallToolResult {
    let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(object(arguments));
    session.call_tool(request).await.expect("a result")
}

/// The structured content of a success.
pub async fn answer(session: &Session, tool: &str, arguments: Value) -> Value {
    let result = call(session, tool, arguments).await;
    assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
    result.structured_content.expect("structured content")
}

pub fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leads_are_synced_followed_and_counted_through_the_tools() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(80));
    pipeline.source.set_rows(table("chat_sessions"), (1..=9).map(|n| session(n, 5, 4)).collect());
    let (session, _) = connect(&pipeline).await;

    let synced = answer(&session, "sync_leads_from_supabase", json!({"limit": 500})).await;
    assert_eq!((&synced["state"], &synced["appended"]), (&json!("done"), &json!(80)));
    let chats = answer(&session, "sync_chat_sessions_from_supabase", json!({"min_messages": 2})).await;
    assert_eq!(chats["appended"], 9);
    let again = answer(&session, "get_sync", json!({"sync_id": synced["sync_id"]})).await;
    assert_eq!(again["state"], "done");

    let dashboard = answer(&session, "get_supabase_dashboard", json!({})).await;
    assert_eq!(dashboard["tables"][0]["total"], 80);
    let qualified = json!({"name": "qualified", "count": 31, "percent": 38.8});
    assert_eq!(dashboard["tables"][0]["counts"][0], qualified, "scores 50 to 80");
    assert_eq!(dashboard["tables"][0]["last_24h"], 80);
    assert_eq!(dashboard["tables"][1]["counts"][0]["count"], 9);
    assert_eq!(dashboard["tables"][0]["breakdowns"][0]["values"][0], json!({"name": "novo", "count": 40}));
    assert_eq!(
        dashboard["tables"][0]["breakdowns"][1]["values"][0],
        json!({"name": "indicação", "count": 80})
    );
    assert!(dashboard["tables"][0]["newest_at"].is_string());

    let lag = answer(&session, "check_kafka_lag", json!({})).await;
    assert_eq!(lag["total"], 0);
    assert_eq!(lag["sinks"][0]["offsets_from"], "store");
    let ends = |sink: &Value| -> i64 {
        sink["partitions"].as_array().into_iter().flatten().filter_map(|p| p["log_end_offset"].as_i64()).sum()
    };
    assert_eq!(ends(&lag["sinks"][0]), 89);

    let status = answer(&session, "get_pipeline_status", json!({})).await;
    assert_eq!(status["healthy"], true, "{status}");
    assert_eq!(status["drains"][0]["state"], "running");
    assert_eq!(status["recent_syncs"][0]["table"], "chat_sessions");
    pipeline.assert_events(89).await;

    session.cancel().await.expect("the session closes");
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_has_titles_schemas_and_annotations() {
    let pipeline = Pipeline::new().await;
    let (session, _) = connect(&pipeline).await;
    let tools = session.list_all_tools().await.expect("the tools");
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(
        names,
        [
            "cancel_sync",
            "check_kafka_lag",
            "create_alert",
            "delete_alert",
            "discard_dead_letters",
            "erase_entity",
            "export",
            "get_engine_metrics",
            "get_entity",
            "get_lead",
            "get_pipeline_status",
            "get_supabase_dashboard",
            "get_sync",
            "inject_event",
            "lead_report",
            "list_alerts",
            "list_dead_letters",
            "list_syncs",
            "pause_sink",
            "query_raw_events",
            "query_store",
            "rebuild_index",
            "reconcile_table",
            "replay_dead_letters",
            "restart_service",
            "resume_sink",
            "run_doctor",
            "schedule_sync",
            "search_elasticsearch",
            "sync_chat_sessions_from_supabase",
            "sync_leads_from_supabase",
            "sync_table",
        ]
    );
    for tool in &tools {
        let name = &tool.name;
        assert!(tool.title.is_some() && tool.description.is_some() && tool.annotations.is_some(), "{name}");
        let output = tool.output_schema.as_ref().expect("an output schema");
        assert_eq!(output["type"], "object", "{name}");
        assert_eq!(tool.input_schema["type"], "object", "{name}");
        let text = serde_json::to_string(&(&tool.input_schema, output)).expect("JSON");
        assert!(!text.contains("\"null\"") && !text.contains("uint"), "{name}: {text}");
    }
    session.cancel().await.expect("the session closes");
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_tool_errors_that_name_what_is_wrong_and_what_to_do() {
    let mut pipeline = Pipeline::new().await;
    pipeline.set("SUPABASE_KEY", "sb_secret_errada");
    let (session, _) = connect(&pipeline).await;
    for (tool, arguments, expected) in [
        ("sync_leads_from_supabase", json!({"limit": 0}), "limit: 0 is out of range"),
        ("sync_leads_from_supabase", json!({"hours_ago": 0}), "hours_ago: 0 is out of range"),
        ("sync_leads_from_supabase", json!({"limite": 5}), "limite"),
        ("sync_leads_from_supabase", json!({"limit": "many"}), "limit"),
        ("sync_leads_from_supabase", json!({"status": " "}), "status: is empty"),
        ("get_sync", json!({"sync_id": "nada"}), "sync_id: is not a UUID"),
        ("get_sync", json!({"sync_id": id(1)}), "no sync"),
        ("cancel_sync", json!({"sync_id": id(1)}), "no sync"),
        ("get_supabase_dashboard", json!({}), "SUPABASE_KEY"),
    ] {
        let result = call(&session, tool, arguments.clone()).await;
        assert_eq!(result.is_error, Some(true), "{tool} {arguments}");
        assert!(text(&result).contains(expected), "{tool} {arguments}: {}", text(&result));
        assert!(!text(&result).contains("sb_secret_errada"));
    }
    // The sync itself ran, and says why it failed.
    let failed = answer(&session, "sync_leads_from_supabase", json!({})).await;
    assert_eq!(failed["state"], "failed");
    let error = failed["error"].as_str().expect("an error");
    assert!(error.contains("HTTP 401") && error.contains("SUPABASE_KEY"), "{error}");
    session.cancel().await.expect("the session closes");
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_sync_reports_progress_and_can_be_followed_and_cancelled() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(10));
    pipeline.source.set_max_rows(Some(2));
    let slow = || Fault::Delay(std::time::Duration::from_millis(700));
    pipeline.source.script(std::iter::repeat_with(slow).take(60));
    let (session, client) = connect(&pipeline).await;

    let started = answer(&session, "sync_leads_from_supabase", json!({"wait": false})).await;
    assert_eq!(started["state"], "running");
    assert!(started["next_step"].as_str().is_some_and(|step| step.contains("get_sync")));

    let mut request = CallToolRequestParams::new("get_sync")
        .with_arguments(object(json!({"sync_id": started["sync_id"], "wait": true})));
    let mut meta = RequestMetaObject::new();
    meta.set_progress_token(ProgressToken(NumberOrString::String("p".into())));
    request.meta = Some(meta);
    let following = session.call_tool(request);
    let heard =
        eventually("progress is heard of", async || client.progress.lock().expect("no poison").len() >= 3);
    let (followed, ()) = tokio::join!(async { following.await.expect("a result") }, async {
        heard.await;
        let cancelled = answer(&session, "cancel_sync", json!({"sync_id": started["sync_id"]})).await;
        assert_eq!(cancelled["cancelling"], true);
    });
    assert_eq!(followed.structured_content.expect("content")["state"], "cancelled");
    let steps: Vec<f64> = client.progress.lock().expect("no poison").iter().map(|p| p.progress).collect();
    assert!(steps.is_sorted(), "{steps:?}");

    session.cancel().await.expect("the session closes");
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stdout_carries_only_json_rpc_and_stderr_only_json_lines_without_personal_data() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(5));
    let mut command = pipeline.command(&["serve"]);
    command.stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut process = command.spawn().expect("the program starts");
    let mut input = process.stdin.take().expect("stdin");
    let mut output = BufReader::new(process.stdout.take().expect("stdout")).lines();
    let mut errors = process.stderr.take().expect("stderr");
    for message in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
               "capabilities": {}, "clientInfo": {"name": "script", "version": "1"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
               "params": {"name": "sync_leads_from_supabase", "arguments": {}}}),
    ] {
        input.write_all(format!("{message}\n").as_bytes()).await.expect("written");
    }
    let mut answered = 0;
    while answered < 2 {
        let line = output.next_line().await.expect("a line").expect("an answer before the end");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        answered += i32::from(message.get("id").is_some());
    }
    // Closing stdin ends the server.
    drop(input);
    let mut log = String::new();
    errors.read_to_string(&mut log).await.expect("the log");
    assert!(process.wait().await.expect("an exit").success());
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    }
    for secret in ["sb_secret_sample", "exemplo.com.br", "João", "São Paulo"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_listed_all_at_once_and_nothing_starts() {
    let mut pipeline = Pipeline::new().await;
    pipeline.set("SUPABASE_URL", "nada");
    pipeline.set("KAFKA_PARTITIONS", "-3");
    let output = pipeline.command(&["serve"]).output().await.expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(errors.contains("SUPABASE_URL:") && errors.contains("KAFKA_PARTITIONS:"), "{errors}");
    pipeline.clean_up().await;
}
