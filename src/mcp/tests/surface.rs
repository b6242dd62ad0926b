//! Everything beside the tools themselves.

use rmcp::model::{
    CallToolRequest, CallToolResponse, ClientRequest, CompletionContext, GetPromptRequestParams,
    GetTaskParams, ReadResourceRequestParams, ServerNotification, SubscriptionFilter, TaskStatus,
};
use rmcp::service::PeerRequestOptions;
use serde_json::json;

use super::*;
use crate::{
    domain::Catalog,
    engine::RebuildPhase,
    index::IndexName,
    mcp::{
        ClientLog, answer::ToolError, output::BREAKS_MASKING, principal::Principal, resources::Uri,
        tasks::TAKEN_BACK,
    },
};

async fn read(connection: &Connection, uri: &str) -> Value {
    let result = connection.read_resource(ReadResourceRequestParams::new(uri)).await.expect("a resource");
    let contents = serde_json::to_value(&result.contents[0]).expect("JSON");
    serde_json::from_str(contents["text"].as_str().expect("text")).expect("JSON inside")
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_may_be_kept_by_stateless_clients_and_read_only_servers_have_no_tool_that_writes() {
    let bench = Bench::new().await;
    let read_only = Offer { read_only: true, ..Offer::default() };
    let connection = connect(bench.server(&read_only), Client::default(), Era::Stateless).await;
    let tools = connection.list_tools(None).await.expect("tools");
    assert_eq!(tools.ttl_ms, Some(300_000));
    assert_eq!(serde_json::to_value(tools.cache_scope).expect("JSON"), "private");
    assert!(
        tools.tools.iter().all(|tool| tool.annotations.as_ref().and_then(|a| a.read_only_hint) == Some(true))
    );
    let refused = call(&connection, "sync_leads_from_supabase", json!({})).await;
    assert!(refused.is_error == Some(true) && text(&refused).contains("--read-only"), "{}", text(&refused));
    let unknown = connection.call_tool(CallToolRequestParams::new("drop_everything")).await;
    assert!(unknown.is_err(), "an unknown tool is the protocol's error");
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_listed_read_and_described_from_one_source() {
    let bench = Bench::new().await;
    for era in [Era::Sessions, Era::Stateless] {
        let connection = connect(bench.server(&Offer::default()), Client::default(), era).await;
        for resource in connection.list_all_resources().await.expect("resources") {
            assert!(read(&connection, &resource.uri).await.is_object(), "{}", resource.uri);
        }
        let schema = read(&connection, "sluice://schema/leads").await;
        assert_eq!(
            schema["columns"][0],
            json!({"name": "id", "type": "uuid", "meaning": "the lead's id, as in Supabase"})
        );
        let status = read(&connection, "sluice://status").await;
        assert_eq!(status["healthy"], false, "nobody serves the index: {status}");
        let tools = read(&connection, "sluice://tools/sync").await;
        assert_eq!(tools["tools"][0]["offered"], true);
        let missing =
            connection.read_resource(ReadResourceRequestParams::new("sluice://schema/vendas")).await;
        assert!(missing.expect_err("no such table").to_string().contains("eventos_agregados"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(deprecated)]
async fn a_change_of_health_is_told_to_subscribers_of_both_eras() {
    let bench = Bench::new().await;
    let server = bench.server(&Offer::default());
    let client = Client::default();
    let session = connect(server.clone(), client.clone(), Era::Sessions).await;
    session.subscribe(rmcp::model::SubscribeRequestParams::new("sluice://status")).await.expect("subscribed");
    let stateless = connect(server.clone(), Client::default(), Era::Stateless).await;
    let filter =
        SubscriptionFilter::builder().resource_subscriptions(["sluice://status", "sluice://nothing"]).build();
    let mut subscription = stateless.listen(filter).await.expect("a subscription");
    assert_eq!(
        subscription.acknowledged().resource_subscriptions,
        Some(vec!["sluice://status".to_owned()]),
        "what does not exist is not subscribed to"
    );
    let looked = server.watches.watch(&Principal::Process, "sluice://status", Uri::Status).expect("room");
    eventually("a first look, to compare others with", || looked.changes.borrow().is_some()).await;
    // Drains into an index that nobody serves are another problem.
    bench.engine.start_drains().await;
    match subscription.next().await.expect("a notification") {
        Some(ServerNotification::ResourceUpdatedNotification(note)) => {
            assert_eq!(note.params.uri, "sluice://status");
        }
        other => panic!("{other:?}"),
    }
    let updated = client.updated.clone();
    eventually("the session is told, too", || !updated.lock().expect("no poison").is_empty()).await;
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
#[allow(deprecated)]
async fn an_alert_that_fires_is_told_to_subscribers_without_any_webhook() {
    let (bench, _source) = super::facts::beside(Vec::new()).await;
    let server = bench.server(&Offer::default());
    let client = Client::default();
    let session = connect(server.clone(), client.clone(), Era::Sessions).await;
    call(&session, "create_alert", json!({"name": "novos", "when": "row"})).await;
    session.subscribe(rmcp::model::SubscribeRequestParams::new("sluice://alerts")).await.expect("subscribed");
    let looked = server.watches.watch(&Principal::Process, "sluice://alerts", Uri::Alerts).expect("room");
    eventually("a first look, to compare others with", || looked.changes.borrow().is_some()).await;
    let settings = crate::config::Settings::load(std::iter::empty::<(String, String)>()).expect("settings");
    let webhooks = crate::mcp::Webhooks::new(&settings);
    bench.engine.alerts.start(std::sync::Arc::new(webhooks));
    call(&session, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 5})).await;
    let updated = client.updated.clone();
    eventually("the session is told", || !updated.lock().expect("no poison").is_empty()).await;
    let told = read(&session, "sluice://alerts").await;
    let recent = told["recent"].as_array().expect("what was told");
    assert!(
        !recent.is_empty() && recent.iter().all(|one| one["alert"] == "novos" && one["table"] == "leads"),
        "{told}"
    );
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
#[allow(deprecated)]
async fn no_more_resources_are_watched_than_may_be_and_one_given_up_makes_room() {
    let bench = Bench::new().await;
    let session = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    let uri = |n: u32| format!("sluice://dead-letters/0-{n}");
    for n in 0..3 {
        session.subscribe(rmcp::model::SubscribeRequestParams::new(uri(n))).await.expect("subscribed");
    }
    let one_more = async || session.subscribe(rmcp::model::SubscribeRequestParams::new(uri(3))).await;
    let refusal = one_more().await.expect_err("too many").to_string();
    assert!(refusal.contains("unsubscribe"), "{refusal}");
    let fixed = rmcp::model::SubscribeRequestParams::new("sluice://schema/leads");
    session.subscribe(fixed).await.expect("what never changes costs nothing");
    session.unsubscribe(rmcp::model::UnsubscribeRequestParams::new(uri(0))).await.expect("unsubscribed");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while one_more().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "no room came free");
        tokio::task::yield_now().await;
    }
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_take_every_subscription() {
    let bench = Bench::new().await;
    let server = bench.server(&Offer::default());
    let watch = |name: &str, n: u32| {
        let address = format!("sluice://dead-letters/0-{n}");
        let uri = Uri::parse(bench.engine.catalog, &address).expect("an address");
        server.watches.watch(&Principal::Token(name.into()), &address, uri)
    };
    let held = [watch("greedy", 0).expect("room"), watch("greedy", 1).expect("room")];
    let refusal = watch("greedy", 2).err().expect("its share is used up");
    assert!(refusal.message.contains("this client has 2 subscriptions"), "{refusal}");
    assert!(watch("other", 2).is_ok());
    drop(held);
    assert!(watch("greedy", 0).is_ok(), "what was given up makes room");
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_and_their_arguments_are_completed() {
    let bench = Bench::new().await;
    let connection = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    let prompts = connection.list_all_prompts().await.expect("prompts");
    assert_eq!(
        prompts.iter().map(|prompt| prompt.name.as_str()).collect::<Vec<_>>(),
        ["daily_lead_report", "diagnose_pipeline", "investigate_lead"]
    );
    let prompt =
        connection.get_prompt(GetPromptRequestParams::new("daily_lead_report")).await.expect("a prompt");
    assert_eq!(prompt.messages.len(), 1);
    let statuses = async || {
        let found = connection.complete_prompt_argument(
            "daily_lead_report",
            "status",
            "Nov",
            None::<CompletionContext>,
        );
        found.await.expect("values").values
    };
    assert_eq!(statuses().await, [""; 0], "the source is not asked while somebody types");
    first_leads(&bench, &connection).await;
    let stored = async {
        while statuses().await != ["novo"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), stored).await.expect("those of the leads in the store");
    let tables =
        connection.complete_resource_simple("sluice://schema/{table}", "table", "eve").await.expect("values");
    assert_eq!(tables, ["eventos_raw", "eventos_agregados"]);
    let groups =
        connection.complete_resource_simple("sluice://tools/{group}", "group", "").await.expect("values");
    assert!(groups.contains(&"sync".to_owned()));
    for (prompt, argument) in [("nope", "lead_id"), ("daily_lead_report", "lead_id")] {
        let refused =
            connection.complete_prompt_argument(prompt, argument, "", None::<CompletionContext>).await;
        let told = refused.expect_err("there is none").to_string();
        assert!(told.contains(prompt) || told.contains(argument), "{told}");
    }
    connection.complete_resource_simple("sluice://nope/{id}", "id", "").await.expect_err("there is none");
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_that_destroys_asks_first() {
    let (bench, source) = super::facts::beside(Vec::new()).await;
    let connection = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    call(&connection, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 10})).await;
    let mut asking = Vec::new();
    for tool in connection.list_all_tools().await.expect("tools") {
        let hints = tool.annotations.unwrap_or_default();
        if hints.read_only_hint == Some(true) || hints.destructive_hint == Some(false) {
            continue;
        }
        let arguments = match &*tool.name {
            "delete_alert" => json!({"name": "quentes"}),
            "discard_dead_letters" => json!({"ids": ["0-0"]}),
            "erase_entity" => {
                json!({"table": "leads", "key": source.rows(Catalog::built_in().get("leads").expect("leads"))[0]["id"]})
            }
            "rebuild_index" => json!({"index": "leads"}),
            "reconcile_table" => json!({"table": "leads", "allow_deletes": 1}),
            other => panic!("what does {other} ask?"),
        };
        let refused = call(&connection, &tool.name, arguments).await;
        let told = text(&refused);
        assert_eq!(refused.is_error, Some(true), "{}: {told}", tool.name);
        assert!(told.starts_with("confirm: this "), "{}: {told}", tool.name);
        asking.push(tool.name);
    }
    assert_eq!(asking.len(), 5, "{asking:?}");
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_may_be_in_the_log_is_told_by_the_id_that_makes_repeating_harmless() {
    let bench = Bench::new().await;
    let connection = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    let event = json!({"evento": "teste", "wait": false});
    let injected = call(&connection, "inject_event", event.clone()).await;
    assert_ne!(injected.is_error, Some(true), "{}", text(&injected));
    // What follows can't be written any more.
    std::fs::remove_dir_all(bench.folder.path()).expect("deleted");
    let failed = text(&call(&connection, "inject_event", event).await);
    assert!(failed.contains("give id ") && failed.contains("when you call again"), "{failed}");
    let repeated = json!({"evento": "teste", "wait": false, "id": uuid::Uuid::now_v7()});
    let unknown = text(&call(&connection, "inject_event", repeated).await);
    assert!(unknown.contains("nothing was appended"), "{unknown}");
    let export = text(&call(&connection, "export", json!({"table": "leads"})).await);
    assert!(export.contains("was deleted or replaced"), "{export}");
    assert!(!bench.folder.path().exists(), "nothing was made in its place");
    let invalid = text(&call(&connection, "inject_event", json!({"evento": ""})).await);
    assert!(!invalid.contains("give id "), "{invalid}");
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_taken_is_refused_to_an_event_that_says_something_else() {
    let (bench, _source) = super::facts::beside(Vec::new()).await;
    let connection = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    call(&connection, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 10})).await;
    let page = call(&connection, "query_raw_events", json!({"limit": 1})).await;
    let of_lead = page.structured_content.expect("events")["events"][0]["id"].take();
    let [known, on_its_way] = [1, 2].map(|n| json!(uuid::Uuid::from_u128(n)));
    let event = |evento: &str, id: &Value, wait: bool| json!({"evento": evento, "valor": 1.5, "metadata": {"b": [1, 2.5], "a": "x"}, "id": id, "wait": wait});
    for _ in 0..2 {
        let injected = call(&connection, "inject_event", event("um", &known, true)).await;
        let told = text(&injected);
        assert_eq!(injected.structured_content.expect("an answer")["queryable"], true, "{told}");
    }
    for (evento, id) in [("dois", &known), ("um", &of_lead)] {
        let refused = call(&connection, "inject_event", event(evento, id, true)).await;
        assert_eq!(refused.is_error, Some(true), "{evento}");
        assert!(text(&refused).starts_with("id: is taken"), "{}", text(&refused));
    }

    // The first of them is not in the store yet when the second is given.
    call(&connection, "pause_sink", json!({"sink": "sqlite"})).await;
    let first = call(&connection, "inject_event", event("um", &on_its_way, false)).await;
    assert_ne!(first.is_error, Some(true), "{}", text(&first));
    let (second, _) = tokio::join!(
        call(&connection, "inject_event", event("dois", &on_its_way, true)),
        call(&connection, "resume_sink", json!({"sink": "sqlite"})),
    );
    assert!(text(&second).starts_with("id: is taken"), "{}", text(&second));
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_rebuild_hears_how_it_ended_and_begins_no_other() {
    let (bench, _source) = super::facts::beside(Vec::new()).await;
    let connection = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    call(&connection, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 1000})).await;
    let leads = [IndexName::Entities(bench.engine.catalog.get("leads").expect("leads"))];
    let rebuilds = &bench.engine.rebuilds;
    let begun = rebuilds.begin(&leads).await.expect("begun")[0].id;
    let waited = rebuilds.wait_for(&leads, Duration::ZERO).await;
    assert_eq!(waited[0].phase, RebuildPhase::Building, "a call that waited no longer");
    eventually("it is done", || rebuilds.latest()[0].phase == RebuildPhase::Done).await;
    let followed = call(&connection, "rebuild_index", json!({"index": "leads"})).await;
    let told = followed.structured_content.clone().unwrap_or_else(|| panic!("{}", text(&followed)));
    assert_eq!((&told["done"], &told["rebuilds"][0]["id"]), (&json!(true), &json!(begun)), "{told}");
    let another = call(&connection, "rebuild_index", json!({"index": "leads"})).await;
    assert!(text(&another).starts_with("confirm: this builds leads anew"), "{}", text(&another));
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
#[allow(deprecated)]
async fn log_events_above_the_level_reach_the_client_that_asked_and_are_masked() {
    use rmcp::model::{LoggingLevel, SetLevelRequestParams};
    use tracing_subscriber::layer::SubscriberExt;

    let bench = Bench::new().await;
    let client = Client::default();
    let connection = connect(bench.server(&Offer::default()), client.clone(), Era::Sessions).await;
    connection.set_level(SetLevelRequestParams::new(LoggingLevel::Warning)).await.expect("set");
    let logged = client.logged.clone();
    let heard = || !logged.lock().expect("no poison").is_empty();
    // The listener takes its place in its own time: say it until it is heard.
    let saying = async {
        while !heard() {
            tracing::subscriber::with_default(tracing_subscriber::registry().with(ClientLog), || {
                tracing::info!("not asked for");
                tracing::warn!(sink = "index", "could not write to maria@exemplo.com.br");
            });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), saying).await.expect("an event is heard of");
    let events = client.logged.lock().expect("no poison").clone();
    assert!(events.iter().all(|event| event["level"] == "warning"), "{events:?}");
    assert_eq!(events[0]["data"], json!({"sink": "index", "message": "could not write to m***@***"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_is_a_task_for_clients_that_know_them_and_cancelling_it_ends_the_work() {
    let bench = Bench::new().await;
    let client =
        Client { capabilities: ClientCapabilities::builder().enable_tasks().build(), ..Client::default() };
    let connection = connect(bench.server(&Offer::default()), client, Era::Stateless).await;
    // The index is down, so a sync can be waited for, but never seen done.
    let task = match connection.call_tool_once(CallToolRequestParams::new("sync_leads_from_supabase")).await {
        Ok(CallToolResponse::Task(created)) => created.task,
        other => panic!("{other:?}"),
    };
    let state = async || {
        connection.get_task(GetTaskParams::new(task.task_id.clone())).await.expect("a task").task.task
    };
    let told = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let now = state().await;
            assert_eq!(now.status, TaskStatus::Working);
            if now.status_message.is_some_and(|message| message.contains("rows read")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    told.await.expect("progress shows in the task");
    connection
        .cancel_task(rmcp::model::CancelTaskParams::new(task.task_id.clone()))
        .await
        .expect("cancelled");
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        while state().await.status == TaskStatus::Working {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("the task ends");
    assert_eq!(state().await.status, TaskStatus::Cancelled);
    let generic = CallToolRequestParams::new("sync_table")
        .with_arguments(json!({"table": "leads"}).as_object().cloned().expect("an object"));
    match connection.call_tool_once(generic).await {
        Ok(CallToolResponse::Task(created)) => {
            let cancel = rmcp::model::CancelTaskParams::new(created.task.task_id);
            connection.cancel_task(cancel).await.expect("cancelled");
        }
        other => panic!("{other:?}"),
    }
    // Not waited for, it is no task.
    let quick = call(&connection, "sync_chat_sessions_from_supabase", json!({"wait": false})).await;
    assert_eq!(quick.is_error, Some(false), "{}", text(&quick));
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_told_as_cancelled_only_where_its_work_was_and_as_failed_where_it_panicked() {
    use rmcp::handler::server::{
        router::tool::ToolRoute,
        tool::{IntoCallToolResult, ToolCallContext},
    };

    let bench = Bench::new().await;
    for (answered, expected) in [
        (Some("the store does not answer"), TaskStatus::Completed),
        (Some(TAKEN_BACK), TaskStatus::Cancelled),
        (Some(BREAKS_MASKING), TaskStatus::Failed),
        (None, TaskStatus::Failed),
    ] {
        let mut server = bench.server(&Offer::default());
        let tool = rmcp::model::Tool::new("sync_table", "syncs", Arc::default());
        let route = ToolRoute::new_dyn(tool, move |call: ToolCallContext<'_, SluiceServer>| {
            Box::pin(async move {
                call.request_context.ct.cancelled().await;
                let answered = answered.expect("the tool panics");
                ToolError::argument("table", answered).into_call_tool_result()
            })
        });
        Arc::get_mut(&mut server.toolbox).expect("a new server").router.add_route(route);
        let client = Client {
            capabilities: ClientCapabilities::builder().enable_tasks().build(),
            ..Client::default()
        };
        let connection = connect(server, client, Era::Stateless).await;
        let task = match connection.call_tool_once(CallToolRequestParams::new("sync_table")).await {
            Ok(CallToolResponse::Task(created)) => created.task,
            other => panic!("{other:?}"),
        };
        let cancel = rmcp::model::CancelTaskParams::new(task.task_id.clone());
        connection.cancel_task(cancel).await.expect("asked for");
        let ended = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let task =
                    connection.get_task(GetTaskParams::new(task.task_id.clone())).await.expect("a task");
                match task.task.task.status {
                    TaskStatus::Working => tokio::time::sleep(Duration::from_millis(20)).await,
                    status => return status,
                }
            }
        });
        assert_eq!(ended.await.expect("the task ends"), expected, "{answered:?}");
    }
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_and_a_request_taken_back_ends_its_work_in_both_eras() {
    for era in [Era::Sessions, Era::Stateless] {
        let bench = Bench::new().await;
        let client = Client::default();
        let connection = connect(bench.server(&Offer::default()), client.clone(), era).await;
        let request = CallToolRequestParams::new("sync_leads_from_supabase");
        // The index is down, so the call waits for it; the client gives every request a token.
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(request));
        let waiting = connection
            .send_cancellable_request(request, PeerRequestOptions::no_options())
            .await
            .expect("the request is sent");
        let progress = client.progress.clone();
        eventually("progress is heard of", || !progress.lock().expect("no poison").is_empty()).await;
        waiting.cancel(Some("enough".to_owned())).await.expect("taken back");
        // Nothing is left that would hold up the end.
        tokio::time::timeout(Duration::from_secs(10), bench.engine.shut_down())
            .await
            .expect("the engine ends");
        assert!(progress.lock().expect("no poison").is_sorted());
    }
}

/// Syncs the sample project's leads into the embedded store, where its first event then is.
async fn first_leads(bench: &Bench, connection: &Connection) -> Vec<String> {
    bench.engine.start_drains().await;
    let synced = call(connection, "sync_leads_from_supabase", json!({"limit": 500, "wait": false})).await;
    assert_eq!(synced.is_error, Some(false), "{}", text(&synced));
    loop {
        let page = call(connection, "query_raw_events", json!({"limit": 200, "order": "oldest"})).await;
        let events = page.structured_content.expect("events")["events"].take();
        let ids = events.as_array().into_iter().flatten().filter_map(|event| event["entidade_id"].as_str());
        let ids: Vec<String> = ids.map(str::to_owned).collect();
        if !ids.is_empty() {
            return ids;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(deprecated)]
async fn a_lead_is_read_masked_and_its_coming_is_told() {
    // The sample project is the same everywhere: the first one tells whom to expect in the second.
    let known = Bench::new().await;
    let revealing = Offer { reveal_pii: true, ..Offer::default() };
    let connection = connect(known.server(&revealing), Client::default(), Era::Stateless).await;
    let mut leads = first_leads(&known, &connection).await.into_iter();
    // Not every lead of the sample project has a contact.
    let (id, uri) = loop {
        let id = leads.next().expect("there is something to mask");
        let uri = format!("sluice://leads/{id}");
        let plain = read(&connection, &uri).await.to_string();
        if plain.contains("exemplo.com.br") || plain.contains("+55") {
            break (id, uri);
        }
    };
    known.engine.shut_down().await;

    let bench = Bench::new().await;
    let server = bench.server(&Offer::default());
    let client = Client::default();
    let session = connect(server.clone(), client.clone(), Era::Sessions).await;
    assert!(session.read_resource(ReadResourceRequestParams::new(&uri)).await.is_err(), "not stored yet");
    session.subscribe(rmcp::model::SubscribeRequestParams::new(&uri)).await.expect("subscribed");
    let address = Uri::parse(bench.engine.catalog, &uri).expect("an address");
    let looked = server.watches.watch(&Principal::Process, &uri, address).expect("room");
    eventually("a first look, to compare others with", || looked.changes.borrow().is_some()).await;
    first_leads(&bench, &session).await;
    let updated = client.updated.clone();
    eventually("the lead's coming is told", || updated.lock().expect("no poison").contains(&uri)).await;
    let lead = read(&session, &uri).await;
    assert_eq!(lead["entity"]["row"]["id"], json!(id));
    assert!(!lead.to_string().contains('@') || lead.to_string().contains("***@***"), "{lead}");
    assert!(!lead.to_string().contains("exemplo.com.br") && !lead.to_string().contains("+55"), "{lead}");
    let ids = session.complete_resource_simple("sluice://leads/{id}", "id", &id[..8]).await.expect("values");
    assert!(ids.iter().all(|found| found.starts_with(&id[..8])));
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_panics_is_answered_by_an_error_and_the_next_one_is_served() {
    use rmcp::handler::server::{router::tool::ToolRoute, tool::ToolCallContext};

    let bench = Bench::new().await;
    let mut server = bench.server(&Offer::default());
    let tool = rmcp::model::Tool::new("break", "breaks", Arc::default());
    let route = ToolRoute::new_dyn(tool, |_: ToolCallContext<'_, SluiceServer>| {
        Box::pin(async { panic!("as this test wants it") })
    });
    Arc::get_mut(&mut server.toolbox).expect("a new server").router.add_route(route);
    for era in [Era::Sessions, Era::Stateless] {
        let connection = connect(server.clone(), Client::default(), era).await;
        let query = |field: &str| {
            let arguments = json!({ field: BREAKS_MASKING }).as_object().cloned().expect("an object");
            CallToolRequestParams::new("query_raw_events").with_arguments(arguments)
        };
        let broken = async {
            [
                connection.call_tool(CallToolRequestParams::new("break")).await.err(),
                connection.call_tool(CallToolRequestParams::new(BREAKS_MASKING)).await.err(),
                // The tool refuses it, or it is refused before, with a text that can't be masked.
                connection.call_tool(query("tipo_evento")).await.err(),
                connection.call_tool(query(BREAKS_MASKING)).await.err(),
                connection.read_resource(ReadResourceRequestParams::new(BREAKS_MASKING)).await.err(),
                connection.get_prompt(GetPromptRequestParams::new(BREAKS_MASKING)).await.err(),
                connection
                    .complete_prompt_argument(BREAKS_MASKING, "hours", "", None::<CompletionContext>)
                    .await
                    .err(),
            ]
        };
        let broken = tokio::time::timeout(Duration::from_secs(30), broken).await.expect("answers");
        for error in broken {
            let error = error.expect("an error").to_string();
            assert!(error.contains("broke off") && !error.contains("test wants"), "{error}");
        }
        assert_ne!(call(&connection, "list_syncs", json!({})).await.is_error, Some(true));
    }
}
