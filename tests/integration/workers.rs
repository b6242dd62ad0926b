//! Several processes at once, and processes that are killed.

use std::process::Stdio;

use sluice::engine::SyncPhase;

use crate::support::table;
use crate::support::{
    Pipeline, eventually, finished,
    http::HttpServer,
    request,
    rows::{lead, leads},
    servers::Servers,
    sync,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_again_and_again_loses_nothing_and_repeats_nothing() {
    const EVENTS: i64 = 6_000;
    let mut pipeline = Pipeline::new().await;
    pipeline.set("SLUICE_BATCH_RECORDS", "100");
    pipeline.source.set_rows(table("leads"), (1..=EVENTS as u128).map(|n| lead(n, 5)).collect());
    let engine = pipeline.engine().await;
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("everything is in the log", async || {
        engine.drains.lag().await.expect("the lag").iter().all(|lag| lag.total == EVENTS)
    })
    .await;

    for _ in 0..4 {
        let mut worker = pipeline.command(&["worker"]).stderr(Stdio::null()).spawn().expect("a worker");
        let before = pipeline.number("SELECT count(*) FROM eventos_raw").await;
        eventually("the worker is in the middle of it", async || {
            pipeline.number("SELECT count(*) FROM eventos_raw").await > before + 300
        })
        .await;
        // SIGKILL: no goodbye to the group, no commit.
        worker.kill().await.expect("killed");
    }
    let between = pipeline.number("SELECT count(*) FROM eventos_raw").await;
    assert!(between < EVENTS, "the kills came before the end: {between}");
    let mut worker = pipeline.command(&["worker"]).stderr(Stdio::null()).spawn().expect("a worker");
    let status = finished(&engine, id).await;
    assert_eq!(status.state, SyncPhase::Done);
    worker.kill().await.expect("killed");

    pipeline.assert_events_in_full(EVENTS).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_its_own_numbers_and_nothing_else() {
    let pipeline = Pipeline::new().await;
    let worker = HttpServer::of(pipeline.command(&["worker", "--http", "127.0.0.1:0"])).await;
    pipeline.source.set_rows(table("leads"), leads(30));
    let engine = pipeline.engine().await;
    sync(&engine, request(table("leads"))).await;
    let ask = async |path: &str| reqwest::get(format!("{}{path}", worker.url)).await.expect("an answer");
    let metrics = ask("/metrics").await.text().await.expect("text");
    for sink in ["postgres", "elasticsearch"] {
        for told in [
            format!(r#"sluice_drain_inserted_total{{sink="{sink}"}} 30"#),
            format!(r#"sluice_changed_to_applied_seconds_count{{sink="{sink}"}} 30"#),
        ] {
            assert!(metrics.lines().any(|line| line == told), "no {told} in {metrics}");
        }
    }
    assert!(!metrics.contains("sluice_mcp_sessions{"), "{metrics}");
    assert_eq!(ask("/healthz").await.text().await.expect("text"), "ok\n");
    assert_eq!(ask("/readyz").await.status(), 200);
    for path in ["/", "/mcp", "/exports/1"] {
        let answer = ask(path).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert!(answer.text().await.expect("text").contains("a worker answers /healthz"), "{path}");
    }
    let renamed =
        reqwest::Client::new().get(format!("{}/metrics", worker.url)).header("host", "evil.example");
    assert_eq!(renamed.send().await.expect("an answer").status(), 403);
    engine.shut_down().await;
    drop(worker);
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_partitions_and_hand_them_over_without_loss() {
    let pipeline = Pipeline::new().await;
    let (first, second) = (pipeline.engine().await, pipeline.engine().await);
    first.start_drains().await;
    pipeline.source.set_rows(table("leads"), leads(500));
    sync(&first, request(table("leads"))).await;

    second.start_drains().await;
    eventually("both have partitions of both sinks", async || {
        [&first, &second]
            .iter()
            .all(|engine| engine.drains.reports().iter().all(|report| !report.partitions.is_empty()))
    })
    .await;
    pipeline.source.upsert(table("leads"), (1001..=1500).map(|n| lead(n, 1)).collect());
    sync(&second, request(table("leads"))).await;
    pipeline.assert_events(1000).await;

    first.shut_down().await;
    eventually("the second has all of them", async || {
        second.drains.reports().iter().all(|report| report.partitions.len() == 3)
    })
    .await;
    pipeline.source.upsert(table("leads"), (2001..=2300).map(|n| lead(n, 1)).collect());
    sync(&second, request(table("leads"))).await;
    pipeline.assert_events(1300).await;

    second.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sync_shows_as_interrupted_and_the_next_one_goes_on() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(40));
    pipeline.source.set_max_rows(Some(5));
    let slow = || sluice::source::sample::Fault::Delay(std::time::Duration::from_millis(300));
    pipeline.source.script(std::iter::repeat_with(slow).take(100));
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    let mut process = pipeline.command(&["sync", "leads"]).stderr(Stdio::null()).spawn().expect("a sync");
    eventually("it has appended something", async || {
        let syncs = engine.syncs.recent(1).await.expect("the syncs");
        syncs.first().is_some_and(|sync| sync.appended > 0)
    })
    .await;
    process.kill().await.expect("killed");
    eventually("it shows as interrupted", async || {
        engine.syncs.recent(1).await.expect("the syncs")[0].state == SyncPhase::Interrupted
    })
    .await;

    engine.start_drains().await;
    let next = sync(&engine, request(table("leads"))).await;
    assert_eq!(next.state, SyncPhase::Done);
    assert!(next.unchanged > 0 && next.appended < 40, "{next:?}");
    pipeline.assert_events(40).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_and_a_store_that_are_killed_under_way_lose_nothing_and_repeat_nothing() {
    const EVENTS: i64 = 8_000;
    let servers = Servers::start().await;
    let mut pipeline = Pipeline::on(&servers.admin_url(), &servers.database_url()).await;
    pipeline.set("KAFKA_BOOTSTRAP_SERVERS", servers.bootstrap_servers());
    pipeline.set("KAFKA_REPLICATION_FACTOR", "1");
    pipeline.set("SLUICE_BATCH_RECORDS", "100");
    pipeline.source.set_rows(table("leads"), (1..=EVENTS as u128).map(|n| lead(n, 5)).collect());
    let engine = pipeline.engine().await;
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("everything is in the log", async || {
        engine.drains.lag().await.is_ok_and(|lag| lag.iter().all(|lag| lag.total == EVENTS))
    })
    .await;

    engine.start_drains().await;
    let applied = async || pipeline.number("SELECT count(*) FROM eventos_raw").await;
    eventually("the drain is under way", async || applied().await > 300).await;
    servers.kill("kafka").await;
    servers.restart("kafka").await;
    eventually("it goes on after the broker is back", async || applied().await > 1_500).await;
    servers.kill("postgres").await;
    eventually("the drain reports the store", async || {
        let reports = engine.drains.reports();
        let store = reports.iter().find(|report| report.sink == "postgres").expect("a drain");
        store.last_error.as_deref().is_some_and(|error| error.contains("postgres"))
    })
    .await;
    servers.restart("postgres").await;
    assert!(applied().await < EVENTS, "the kills came before the end");

    assert_eq!(finished(&engine, id).await.state, SyncPhase::Done);
    pipeline.assert_events_in_full(EVENTS).await;
    engine.shut_down().await;
    pipeline.clean_up_indices().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_fails_beside_others_of_its_batch_is_written_once_like_them() {
    const EVENTS: i64 = 1_500;
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), (1..=EVENTS as u128).map(|n| lead(n, 5)).collect());
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    // A fault that passes, as a deadlock does; a rule of a column leaves the table one that is copied into.
    pipeline
        .execute(
            "CREATE TABLE falha (particao integer);
             CREATE FUNCTION passa(p integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                 IF EXISTS (SELECT FROM falha WHERE particao = p) THEN
                     RAISE EXCEPTION 'agora não' USING ERRCODE = 'deadlock_detected';
                 END IF;
                 RETURN true;
             END $$;
             INSERT INTO falha VALUES (1);
             ALTER TABLE eventos_raw ADD CHECK (passa(particao))",
        )
        .await;
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("everything is in the log", async || {
        engine.drains.lag().await.expect("the lag").iter().all(|lag| lag.total == EVENTS)
    })
    .await;
    engine.start_drains().await;
    let of_partition = async |is_one: bool| {
        let is = if is_one { "=" } else { "<>" };
        pipeline.number(&format!("SELECT count(*) FROM eventos_raw WHERE particao {is} 1")).await
    };
    eventually("the others are written, and it was tried more than once", async || {
        let report = engine.drains.reports().into_iter().find(|drain| drain.sink == "postgres");
        report.is_some_and(|report| report.retries >= 2) && of_partition(false).await > 256
    })
    .await;
    assert_eq!(of_partition(true).await, 0);
    assert!(!engine.inspection.status().await.healthy);

    pipeline.execute("DELETE FROM falha").await;
    assert_eq!(finished(&engine, id).await.state, SyncPhase::Done);
    pipeline.assert_events_in_full(EVENTS).await;
    assert!(of_partition(true).await > 256, "it was copied, too");
    engine.shut_down().await;
    pipeline.clean_up().await;
}
