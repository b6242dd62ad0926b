//! Parts that go away and come back, and data that no sink can take.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::engine::{DrainState, Engine};

use crate::support::table;
use crate::support::{
    Pipeline,
    events::only_an_index_takes,
    eventually,
    gate::Gate,
    request,
    rows::{id, lead, leads, produce},
    sync,
};

fn drain<'a>(reports: &'a [sluice::engine::DrainReport], sink: &str) -> &'a sluice::engine::DrainReport {
    reports.iter().find(|report| report.sink == sink).expect("a drain of that name")
}

async fn lag(engine: &Engine, sink: &str) -> i64 {
    let lag = engine.drains.lag().await.expect("the lag");
    lag.iter().find(|lag| lag.sink == sink).expect("a sink of that name").total
}

fn authority(url: &str) -> String {
    let url = url::Url::parse(url).expect("a URL");
    format!("{}:{}", url.host_str().expect("a host"), url.port().expect("a port"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_down_catches_up_while_the_store_goes_on() {
    let mut pipeline = Pipeline::new().await;
    let gate = Gate::to(&authority(&pipeline.variables["ELASTICSEARCH_URL"])).await;
    pipeline.set("ELASTICSEARCH_URL", format!("http://{}", gate.address));
    pipeline.source.set_rows(table("leads"), leads(20));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    gate.shut();
    pipeline.source.upsert(table("leads"), (101..=140).map(|n| lead(n, 1)).collect());
    // Not even a process that starts now needs the index to take in rows.
    let syncing = pipeline.engine().await;
    let id = syncing.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("the store has everything", async || {
        pipeline.number("SELECT count(*) FROM eventos_raw").await == 60
    })
    .await;
    eventually("the drain reports itself", async || {
        drain(&engine.drains.reports(), "elasticsearch").state == DrainState::BackingOff
    })
    .await;
    let reports = engine.drains.reports();
    let error = drain(&reports, "elasticsearch").last_error.clone().expect("an error");
    assert!(error.contains("no connection") && error.contains("ELASTICSEARCH_URL"), "{error}");
    assert_eq!(drain(&reports, "postgres").state, DrainState::Running);
    assert_eq!(lag(&engine, "elasticsearch").await, 40);
    let status = engine.inspection.status().await;
    assert!(
        !status.healthy && status.problems.iter().any(|problem| problem.problem.contains("elasticsearch"))
    );

    gate.open();
    let done = crate::support::finished(&engine, id).await;
    assert!(done.sinks.iter().all(|sink| sink.queryable));
    pipeline.assert_events(60).await;
    assert_eq!(pipeline.number("SELECT count(*) FROM sluice_offsets WHERE next_offset IS NOT NULL").await, 3);

    syncing.shut_down().await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_cut_off_repeats_nothing_when_it_is_back() {
    let mut pipeline = Pipeline::new().await;
    let direct = pipeline.variables["DATABASE_URL"].clone();
    let gate = Gate::to(&authority(&direct)).await;
    pipeline.set("SLUICE_BATCH_RECORDS", "40");
    pipeline.source.set_rows(table("leads"), leads(2000));
    let syncing = pipeline.engine().await;
    let id = syncing.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("everything is in the log", async || lag(&syncing, "postgres").await == 2000).await;

    // The drain's way to the store is cut again and again in the middle of its work.
    let mut url = url::Url::parse(&direct).expect("a URL");
    let (host, port) = gate.address.split_once(':').expect("host and port");
    url.set_host(Some(host)).expect("a host");
    url.set_port(Some(port.parse().expect("a port"))).expect("a port");
    let variables = std::mem::take(&mut pipeline.variables);
    let mut cut = variables.clone();
    cut.insert("DATABASE_URL".to_owned(), url.to_string());
    pipeline.variables = cut;
    let engine = pipeline.engine().await;
    pipeline.variables = variables;
    engine.start_drains().await;
    for step in 1..=6 {
        eventually("some more is applied", async || {
            pipeline.number("SELECT count(*) FROM eventos_raw").await >= step * 120
        })
        .await;
        gate.shut();
        tokio::time::sleep(Duration::from_millis(50)).await;
        gate.open();
    }
    crate::support::finished(&syncing, id).await;
    pipeline.assert_events(2000).await;
    assert!(drain(&engine.drains.reports(), "postgres").retries > 0, "the cuts were felt");

    engine.shut_down().await;
    syncing.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_no_sink_can_take_are_parked_with_their_reason_and_their_neighbours_applied() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), vec![lead(1, 5), lead(4, 5)]);
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    let topic = &pipeline.variables["KAFKA_TOPIC"];
    produce(topic, "estranho", b"{isto nao e json").await;
    produce(topic, "estranho", br#"{"id": "nem isto e um evento"}"#).await;
    produce(topic, "estranho", only_an_index_takes().as_bytes()).await;
    engine.start_drains().await;

    sync(&engine, request(table("leads"))).await;
    eventually("the foreign records are parked, too", async || {
        engine.inspection.status().await.dead_letters == Some(5)
    })
    .await;
    assert_eq!(pipeline.number("SELECT count(*) FROM eventos_raw").await, 2, "without the poison");
    assert_eq!(pipeline.number("SELECT coalesce(sum(total), 0)::bigint FROM eventos_agregados").await, 2);
    assert_eq!(pipeline.hits("eventos", "*").await, 3, "the index has it");
    assert_eq!(lag(&engine, "postgres").await, 0);
    assert_eq!(lag(&engine, "elasticsearch").await, 0);

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_only_the_server_finds_bad_is_found_and_parked() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(50));
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    // A rule of the operator's own that three of the rows break.
    pipeline.execute("ALTER TABLE leads ADD CONSTRAINT sem_sete CHECK (nome !~ ' (7|17|27)$')").await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    assert_eq!(pipeline.number("SELECT count(*) FROM eventos_raw").await, 47);
    assert_eq!(pipeline.number("SELECT count(*) FROM leads").await, 47);
    assert_eq!(engine.inspection.status().await.dead_letters, Some(3));
    assert_eq!(pipeline.hits("leads", "*").await, 50);

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_deleted_is_made_again_with_its_mapping() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(10));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    let prefix = &pipeline.variables["ELASTICSEARCH_INDEX_PREFIX"];
    let base = &pipeline.variables["ELASTICSEARCH_URL"];
    let client = reqwest::Client::new();
    let deleted = client.delete(format!("{base}/{prefix}leads-000001")).send().await.expect("an answer");
    assert!(deleted.status().is_success());
    pipeline.source.change(table("leads"), &json!(id(1)), json!({"status_lead": "convertido"}));
    sync(&engine, request(table("leads"))).await;

    let mapping: Value = reqwest::get(format!("{base}/{prefix}leads/_mapping"))
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let dynamic = mapping.pointer(&format!("/{prefix}leads-000001/mappings/dynamic"));
    assert_eq!(dynamic, Some(&json!("false")), "{mapping}");
    assert_eq!(pipeline.hits("leads", "status_lead.keyword:convertido").await, 1);
    assert_eq!(engine.inspection.status().await.dead_letters, Some(0));

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_down_are_reported_each_with_what_to_do() {
    let mut pipeline = Pipeline::new().await;
    let closed = Gate::to("127.0.0.1:9").await;
    closed.shut();
    let good = pipeline.variables.clone();
    pipeline.set("SUPABASE_URL", format!("http://{}", closed.address));
    pipeline.set("KAFKA_BOOTSTRAP_SERVERS", &closed.address);
    pipeline.set("DATABASE_URL", format!("postgres://u:senha@{}/d", closed.address));
    pipeline.set("ELASTICSEARCH_URL", format!("http://{}", closed.address));
    let output = pipeline.command(&["status"]).output().await.expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stdout);
    for part in ["supabase", "kafka", "postgres", "elasticsearch"] {
        assert!(
            shown.lines().any(|line| line.starts_with("problem") && line.contains(part)),
            "{part} in {shown}"
        );
    }
    assert!(!shown.contains("senha"));
    pipeline.variables = good;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_record_too_large_to_be_copied_is_parked_by_reference_and_holds_nothing_up() {
    let mut pipeline = Pipeline::new().await;
    // As the brokers allow where nobody told them otherwise.
    pipeline.set("KAFKA_MAX_MESSAGE_BYTES", "1048588");
    pipeline.source.set_rows(table("leads"), leads(5));
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    let topic = &pipeline.variables["KAFKA_TOPIC"];
    produce(topic, "estranho", &vec![b'x'; 1_048_300]).await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    eventually("each sink has parked it", async || engine.inspection.status().await.dead_letters == Some(2))
        .await;
    pipeline.assert_events(5).await;
    let page =
        engine.letters.page(&sluice::engine::LetterFilter::default(), None, 10).await.expect("letters");
    for letter in &page.letters {
        assert_eq!(letter.header("size").as_deref(), Some("1048300"));
    }
    let replayed = engine
        .letters
        .replay(&sluice::engine::Selection::Open { sink: None, from: None, limit: 10 }, "teste")
        .await
        .expect("an outcome");
    assert!(replayed.left.iter().all(|left| left.reason.problem.contains("no event")), "{replayed:?}");
    engine.shut_down().await;
    pipeline.clean_up().await;
}
