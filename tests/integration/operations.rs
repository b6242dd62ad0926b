//! What an operator does to a pipeline that runs: measures, pauses, restarts, injects, lists.

use serde_json::{Value, json};
use sluice::engine::{DrainState, Engine};

use crate::support::table;
use crate::support::{
    Pipeline,
    client::Client,
    eventually, request,
    rows::{id, lead, leads},
    sync,
};

fn state(engine: &Engine, sink: &str) -> DrainState {
    engine.drains.reports().into_iter().find(|report| report.sink == sink).expect("a drain").state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sink_stands_still_in_every_process_while_the_other_goes_on() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(20));
    let (engine, other) = (pipeline.engine().await, pipeline.engine().await);
    engine.start_drains().await;
    other.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    let pause = engine.drains.pause("elasticsearch", "ana").await.expect("paused");
    assert!(pause.paused_by.starts_with("ana on "), "{pause:?}");
    assert_eq!(state(&engine, "elasticsearch"), DrainState::Paused, "here when the call returns");
    eventually("the other process heeds it", async || state(&other, "elasticsearch") == DrainState::Paused)
        .await;

    pipeline.source.upsert(table("leads"), (101..=130).map(|n| lead(n, 1)).collect());
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("the store has everything", async || {
        pipeline.number("SELECT count(*) FROM eventos_raw").await == 50
    })
    .await;
    assert_eq!(pipeline.hits("eventos", "*").await, 20, "nothing came to the paused one");
    let status = other.inspection.status().await;
    assert!(!status.healthy, "thirty records wait: {status:?}");
    let told = "30 records of the log are not in elasticsearch yet: elasticsearch is paused by ana";
    assert!(status.problems.iter().any(|problem| problem.problem.starts_with(told)), "{:?}", status.problems);
    let lag = status.lag.iter().find(|lag| lag.sink == "elasticsearch").expect("its lag");
    assert_eq!(lag.total, Some(30), "lag is told all the same");

    // A process that starts now finds the pause.
    let late = pipeline.engine().await;
    late.start_drains().await;
    eventually("it heeds it, too", async || state(&late, "elasticsearch") == DrainState::Paused).await;

    // Whoever resumes it, all of them go on.
    assert!(other.drains.resume("elasticsearch").await.expect("resumed"));
    assert!(!other.drains.resume("elasticsearch").await.expect("an answer"), "only once");
    crate::support::finished(&engine, id).await;
    pipeline.assert_events(50).await;
    eventually("each drains again", async || {
        [&engine, &other, &late].iter().all(|engine| state(engine, "elasticsearch") == DrainState::Running)
    })
    .await;

    for engine in [engine, other, late] {
        engine.shut_down().await;
    }
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_worker_goes_on_where_it_was() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(20));
    let engine = pipeline.engine().await;
    let refused = engine.drains.restart("postgres").await.expect_err("no drains here");
    assert!(refused.to_string().contains("service: is not drained by this process"), "{refused}");
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    assert!(engine.drains.restart("postgres").await.expect("restarted"));
    let report =
        engine.drains.reports().into_iter().find(|report| report.sink == "postgres").expect("a drain");
    assert_eq!(report.restarts, 1);
    pipeline.source.upsert(table("leads"), (101..=110).map(|n| lead(n, 1)).collect());
    sync(&engine, request(table("leads"))).await;
    pipeline.assert_events(30).await;

    engine.drains.pause("postgres", "ana").await.expect("paused");
    let refused = engine.drains.restart("postgres").await.expect_err("it is paused");
    assert!(refused.to_string().contains("is paused"), "{refused}");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_measured_on_every_side() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(120));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    let metrics = engine.inspection.metrics();
    assert_eq!((metrics.source.items, metrics.log.items), (120, 120));
    assert!(metrics.source.call_ms.p50 > 0.0 && metrics.log.call_ms.p50 > 0.0, "{metrics:?}");
    assert!(metrics.source.items_per_second > 0.0 && metrics.log.items_per_second > 0.0, "{metrics:?}");
    for sink in &metrics.sinks {
        let (drain, times) = (&sink.drain, &sink.times);
        assert_eq!(drain.inserted, 120, "{}", drain.sink);
        assert_eq!(times.batch_records.count, drain.batches);
        assert_eq!(times.apply_ms.count, drain.batches);
        assert_eq!(times.end_to_end_ms.count, 120);
        let ordered = times.end_to_end_ms;
        assert!(ordered.p50 <= ordered.p95 && ordered.p95 <= ordered.p99 && ordered.p99 <= ordered.max);
        assert!(times.end_to_end_ms.max >= times.apply_ms.p50, "{times:?}");
        assert!(drain.events_per_second > 0.0, "{drain:?}");
    }
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_injects_pauses_restarts_and_measures_through_the_tools() {
    let pipeline = Pipeline::new().await;
    let client = Client::of(&pipeline).await;

    let event = json!({"evento": "teste_manual", "usuario": "ana", "valor": 1.5, "metadata": {"origem": "chamado"},
                       "id": id(1)});
    let injected = client.answer("inject_event", event.clone()).await;
    assert_eq!((&injected["id"], &injected["queryable"]), (&json!(id(1)), &json!(true)), "{injected}");
    let again = client.answer("inject_event", event).await;
    assert_eq!(again["queryable"], true);
    pipeline.assert_events(1).await;
    let stored = pipeline.text("SELECT usuario || ' ' || (metadata->>'origem') FROM eventos_raw").await;
    assert_eq!(stored, "ana chamado");
    for (arguments, problem) in [
        (json!({"evento": " "}), "evento: has 1 characters; give 1 to 200"),
        (json!({"evento": "a", "id": "x"}), "id"),
        (json!({}), "missing field `evento`"),
    ] {
        let refusal = client.refusal("inject_event", arguments).await;
        assert!(refusal.contains(problem), "{refusal}");
    }

    let paused = client.answer("pause_sink", json!({"sink": "postgres"})).await;
    assert_eq!(paused["changed"], true, "{paused}");
    let status = client.answer("get_pipeline_status", json!({})).await;
    assert_eq!((&status["healthy"], &status["paused"][0]["sink"]), (&json!(true), &json!("postgres")));
    assert_eq!(status["drains"][0]["state"], "paused");
    assert!(client.refusal("restart_service", json!({"service": "postgres"})).await.contains("resume_sink"));
    let resumed = client.answer("resume_sink", json!({"sink": "postgres"})).await;
    assert_eq!(resumed["changed"], true);
    let restarted = client.answer("restart_service", json!({"service": "elasticsearch"})).await;
    assert_eq!(restarted["restarted"], true);
    let refusal = client.refusal("pause_sink", json!({"sink": "spark"})).await;
    assert!(refusal.contains("give postgres or elasticsearch"), "{refusal}");

    let metrics = client.answer("get_engine_metrics", json!({})).await;
    assert_eq!(metrics["log"]["items"], 2, "{metrics}");
    assert_eq!(metrics["sinks"][1]["restarts"], 1);
    assert!(metrics["sinks"][0]["apply_ms"]["p99"].is_number());

    let doctor = client.answer("run_doctor", json!({})).await;
    assert_eq!(doctor["fit"], true, "{doctor}");
    let checks: Vec<&Value> =
        doctor["findings"].as_array().expect("findings").iter().map(|f| &f["check"]).collect();
    for check in ["writable", "migrated", "retention", "dead letters", "clock"] {
        assert!(checks.contains(&&json!(check)), "{check} in {checks:?}");
    }
    client.close().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_are_listed_page_by_page_and_by_table_and_state() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(3));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    for table in [table("leads"), table("chat_sessions"), table("leads"), table("leads")] {
        sync(&engine, request(table)).await;
    }
    let client = Client::of(&pipeline).await;

    let first = client.answer("list_syncs", json!({"table": "leads", "limit": 2})).await;
    assert_eq!(first["syncs"].as_array().map(Vec::len), Some(2), "{first}");
    let rest = client
        .answer("list_syncs", json!({"table": "leads", "limit": 2, "cursor": first["next_cursor"]}))
        .await;
    assert_eq!(rest["syncs"][0]["appended"], 3, "the oldest comes last: {rest}");
    assert!(rest["syncs"].as_array().map(Vec::len) == Some(1) && rest.get("next_cursor").is_none(), "{rest}");
    let failed = client.answer("list_syncs", json!({"state": "failed"})).await;
    assert_eq!(failed["syncs"], json!([]));
    assert!(client.refusal("list_syncs", json!({"limit": 0})).await.contains("limit: 0 is out of range"));
    assert!(client.refusal("list_syncs", json!({"cursor": id(1)})).await.contains("cursor: is of no sync"));

    client.close().await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_question_to_parts_that_nobody_prepared_is_answered() {
    let pipeline = Pipeline::new().await;
    for tool in ["check_kafka_lag", "list_dead_letters", "list_syncs", "query_raw_events"] {
        // Each is the first in turn, or what it made would be there for the next.
        let fresh = Pipeline::new().await;
        let client = Client::starting(fresh.command(&["serve", "--without-drains"])).await;
        client.answer(tool, json!({})).await;
        client.close().await;
        fresh.clean_up().await;
    }
    // Whoever only examines makes nothing.
    pipeline.command(&["status"]).output().await.expect("it runs");
    let examined = pipeline.command(&["doctor"]).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&examined.stdout).into_owned();
    assert!(examined.status.success() && said.contains("sluice migrate"), "{said}");
    pipeline.clean_up().await;
}
