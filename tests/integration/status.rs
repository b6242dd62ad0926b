//! Status: each table from the source to both sinks, and "healthy" only if nothing is missing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sluice::{
    domain::TableName,
    engine::{Engine, PipelineStatus, SyncPhase},
    index::IndexName,
    store::SyncRequest,
};

use crate::support::{
    gate::Gate,
    on_each_adapter,
    place::{Embedded, Place, Real},
    request,
    rows::{lead, leads, minutes_ago},
    sync, table,
};

mod answers;

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_table_is_told_from_the_source_to_both_sinks_and_healthy_means_that_all_is_there,
    a_status_of_an_empty_setup_makes_nothing_and_names_the_first_command,
    a_status_call_asks_the_source_once_and_changes_nothing,
    a_schedule_that_nobody_runs_is_overdue,
    rows_that_a_sink_lost_are_missed,
    events_that_the_index_lost_are_missed,
}

/// What `sluice status` tells, and whether it exits with 0.
async fn told_by_command<P: Place>(place: &P) -> (bool, Value) {
    let output = place.command(&["status", "--json"]).output().await.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let status = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), status)
}

fn problems(status: &Value) -> String {
    status["problems"].to_string()
}

async fn with_leads<P: Place>(count: u128) -> (P, Arc<Engine>) {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(count));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
    (place, engine)
}

fn says(status: &PipelineStatus, problem: &str) -> bool {
    status.problems.iter().any(|remark| remark.to_string().contains(problem))
}

async fn a_table_is_told_from_the_source_to_both_sinks_and_healthy_means_that_all_is_there<P: Place>() {
    let (place, engine) = with_leads::<P>(30).await;
    let (healthy, status) = told_by_command(&place).await;
    assert!(healthy && status["healthy"] == true, "{status}");
    let told = &status["tables"][0];
    assert_eq!(
        [&told["table"], &told["source"], &told["store"], &told["index"], &told["parked"], &told["unread"]],
        [&json!("leads"), &json!(30), &json!(30), &json!(30), &json!(0), &json!(0)],
        "{status}"
    );
    assert!(told["synced_seconds_ago"].as_i64().is_some_and(|seconds| seconds < 600), "{told}");
    assert!(told["counted_seconds_ago"].is_number() && told["reconciled"].is_null(), "{told}");

    // Rows that came since are to be read, and nothing is wrong yet.
    place.source().upsert(table("leads"), (101..=105).map(|n| lead(n, 0)).collect());
    let (healthy, status) = told_by_command(&place).await;
    assert!(healthy && status["tables"][0]["unread"] == 5, "{status}");
    assert!(status["warnings"].to_string().contains("5 rows of leads came since its last sync"), "{status}");

    // Rows that no sync of the last hours ever sees are missing.
    let late = (201..=203).map(|n| {
        let mut row = lead(n, 5);
        row.insert("updated_at".to_owned(), json!(minutes_ago(60 * 24 * 90)));
        row
    });
    place.source().upsert(table("leads"), late.collect());
    let (healthy, status) = told_by_command(&place).await;
    assert!(!healthy && status["tables"][0]["unread"] == 8, "{status}");
    let problems = problems(&status);
    assert!(problems.contains("3 of 38 rows of leads at the source were read by no sync"), "{status}");
    assert!(problems.contains("sluice sync leads --full"), "{status}");
    let whole = SyncRequest { hours_ago: sluice::engine::MAX_HOURS, ..request(table("leads")) };
    sync(&engine, whole).await;
    let (healthy, status) = told_by_command(&place).await;
    assert!(healthy && status["tables"][0]["unread"] == 0, "{status}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_status_of_an_empty_setup_makes_nothing_and_names_the_first_command<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(3));
    let engine = place.engine().await;
    let before = place.contents().await;
    let status = engine.inspection.status().await;
    assert!(!status.healthy && status.problems.len() == 1, "{status:?}");
    assert!(says(&status, "nothing was synced here yet"), "{status:?}");
    assert_eq!(place.contents().await, before);
    drop(engine);
    // An empty folder is nothing that a script need be told of by an exit code; an empty setup on servers is.
    let (_, status) = told_by_command(&place).await;
    assert_eq!(status["healthy"], false, "{status}");
    assert!(problems(&status).contains("sluice sync leads --full --wait"), "{status}");
    assert_eq!(place.contents().await, before);

    let first = place.command(&["sync", "leads", "--full", "--wait"]).output().await.expect("it runs");
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let (healthy, status) = told_by_command(&place).await;
    assert!(healthy, "{status}");
    place.clean_up().await;
}

async fn a_status_call_asks_the_source_once_and_changes_nothing<P: Place>() {
    let (place, engine) = with_leads::<P>(30).await;
    engine.shut_down().await;
    drop(engine);
    let engine = place.engine().await;
    let before = place.contents().await;
    place.source().take_requests();
    let first = engine.inspection.status().await;
    assert!(first.healthy, "{first:?}");
    let asked = place.source().take_requests().len();
    assert_eq!(asked, 1 + 2, "something small, and the rows of each table");
    let again = engine.inspection.status().await;
    assert_eq!(again.tables[0].source, Some(30), "{again:?}");
    assert_eq!(place.source().take_requests().len(), 1, "what was counted holds for a while");
    assert_eq!(place.contents().await, before);
    drop(engine);
    place.clean_up().await;
}

async fn a_schedule_that_nobody_runs_is_overdue<P: Place>() {
    let (place, engine) = with_leads::<P>(3).await;
    engine.schedules.put(&request(table("leads")), 600.0, "ana").await.expect("scheduled");
    let status = engine.inspection.status().await;
    assert!(status.healthy, "{status:?}");
    place.execute("UPDATE sluice_schedules SET next_due_at = '2020-01-01T00:00:00.000000Z'").await;
    let status = engine.inspection.status().await;
    assert!(!status.healthy && says(&status, "the scheduled sync of leads is overdue by"), "{status:?}");
    let findings = engine.doctor.examine().await;
    assert!(
        findings.iter().any(|one| one.part == "schedules" && one.detail.contains("is overdue")),
        "{findings:?}"
    );
    let foreign = SyncRequest { table: TableName("pedidos".to_owned()), ..request(table("leads")) };
    let foreign = serde_json::to_string(&foreign).expect("JSON");
    place
        .execute(&format!("UPDATE sluice_schedules SET table_name = 'pedidos', request = '{foreign}'"))
        .await;
    let status = engine.inspection.status().await;
    assert!(says(&status, "minutes: this process has no definition of pedidos; start"), "{status:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn rows_that_a_sink_lost_are_missed<P: Place>() {
    let (place, engine) = with_leads::<P>(12).await;
    place.execute("DELETE FROM leads").await;
    crate::support::eventually("the store's loss is told", async || {
        let status = engine.inspection.status().await;
        !status.healthy && says(&status, "has 0 of the 12 rows of leads that were read; reconcile")
    })
    .await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn events_that_the_index_lost_are_missed<P: Place>() {
    let (place, engine) = with_leads::<P>(12).await;
    engine.shut_down().await;
    drop(engine);
    place.delete_all(IndexName::Eventos).await;
    let engine = place.engine().await;
    engine.start_drains().await;
    crate::support::eventually("the index's loss is told", async || {
        let status = engine.inspection.status().await;
        !status.healthy && says(&status, "lacks 12 events that")
    })
    .await;
    engine.rebuilds.begin(&[IndexName::Eventos]).await.expect("as it is advised");
    crate::support::eventually("nothing is lacking", async || engine.inspection.status().await.healthy).await;
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_is_over_is_soon_no_longer_told() {
    let mut place = Embedded::new().await;
    place.source().set_rows(table("leads"), leads(3));
    let url = place.source().url();
    let gate = Gate::to(url.trim_start_matches("http://").trim_end_matches('/')).await;
    place.set("SUPABASE_URL", &format!("http://{}", gate.address));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
    gate.shut();
    crate::support::eventually("the rows can't be counted", async || {
        let status = engine.inspection.status().await;
        let leads = &status.tables[0];
        !status.source.ok && leads.counted_seconds_ago.is_some() && leads.source.is_none()
    })
    .await;
    gate.open();
    let over = Instant::now();
    crate::support::eventually("all is well again", async || engine.inspection.status().await.healthy).await;
    // What can't be counted takes seconds for each table, and twenty times that is minutes.
    assert!(over.elapsed() < Duration::from_secs(45), "{:?}", over.elapsed());
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_an_empty_folder_makes_no_file_and_no_folder() {
    let folder = crate::support::folder::TestFolder::new();
    for (arguments, first) in [
        (&["status"][..], "empty: run `sluice sync leads --wait`"),
        (&["status", "--json"], "nothing was synced here yet"),
    ] {
        let told = crate::support::cli::run(crate::support::cli::sluice(folder.path(), arguments)).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(told.stdout.contains(first), "{told:?}");
        assert!(told.stdout.contains(&folder.path().join("data").display().to_string()), "{told:?}");
        assert!(!told.all().contains("sluice-status-"), "{told:?}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing was made");
    }
}
