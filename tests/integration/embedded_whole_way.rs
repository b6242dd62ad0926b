//! The whole way on nothing but the binary: no server, no configuration but a folder.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{client::Client, eventually};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn sluice(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).env_clear().env("SLUICE_DATA_DIR", folder.path());
    // Away from any .env of the developer's.
    command.current_dir(folder.path()).kill_on_drop(true);
    command
}

async fn serve(folder: &TempDir) -> Client {
    Client::starting(sluice(folder, &[])).await
}

async fn output(folder: &TempDir, arguments: &[&str]) -> (bool, String, String) {
    let output = sluice(folder, arguments).output().await.expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_serve_syncs_the_sample_project_and_answers_from_store_and_index() {
    let folder = folder();
    let session = serve(&folder).await;

    let synced = session.answer("sync_leads_from_supabase", json!({"limit": 1000, "hours_ago": 2400})).await;
    assert_eq!((&synced["state"], &synced["appended"]), (&json!("done"), &json!(500)), "{synced}");
    let again = session.answer("sync_leads_from_supabase", json!({"limit": 1000, "hours_ago": 2400})).await;
    assert_eq!(again["appended"], 0, "nothing twice: {again}");
    let status = session.answer("get_pipeline_status", json!({})).await;
    assert_eq!(status["healthy"], true, "{status}");
    let sinks: Vec<&Value> =
        status["sinks"].as_array().into_iter().flatten().map(|sink| &sink["name"]).collect();
    assert_eq!(sinks, ["sqlite", "tantivy"]);

    let sql = "SELECT count(*) AS leads, count(DISTINCT id) AS ids FROM leads";
    let counted = session.answer("query_store", json!({ "sql": sql })).await;
    assert!(counted["rows"].to_string().contains("500"), "{counted}");
    let rolled_up = "SELECT sum(total) AS total FROM eventos_agregados";
    let rolled_up = session.answer("query_store", json!({ "sql": rolled_up })).await;
    assert!(rolled_up["rows"].to_string().contains("500"), "{rolled_up}");
    let found = session
        .answer(
            "search_elasticsearch",
            json!({"index": "eventos", "query": "categoria:vendas AND valor:>50", "count_by": ["evento"]}),
        )
        .await;
    let total = found["total"].as_u64().expect("a total");
    assert!(total > 100 && total < 400, "{found}");
    let refused = session.call("search_elasticsearch", json!({"query": "categorias:vendas"})).await;
    assert_eq!(refused.is_error, Some(true), "an unknown field is no empty answer: {refused:?}");

    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_synced_is_there_after_a_restart_and_is_not_appended_again() {
    let folder = folder();
    let (done, first, errors) = output(&folder, &["sync", "leads", "--hours", "2400", "--wait"]).await;
    assert!(done && first.contains("500 new events"), "{first}{errors}");
    let (done, again, errors) = output(&folder, &["sync", "leads", "--hours", "2400", "--wait"]).await;
    assert!(done && again.contains(" 0 new events"), "{again}{errors}");

    let (done, counted, errors) = output(&folder, &["sql", "SELECT count(*) AS n FROM eventos_raw"]).await;
    assert!(done, "{errors}");
    assert_eq!(counted, "n\n500\n");
    let (done, found, errors) =
        output(&folder, &["search", "--index", "eventos", "tipo_evento:lead", "--limit", "2"]).await;
    assert!(done && errors.contains("2 of 500"), "{errors}");
    assert_eq!(found.lines().count(), 2);
    let (done, examined, errors) = output(&folder, &["doctor"]).await;
    assert!(done && !examined.contains("FAILED"), "{examined}{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_reads_is_told_who_writes_and_takes_over_when_the_first_has_ended() {
    let folder = folder();
    let first = serve(&folder).await;
    first.answer("sync_leads_from_supabase", json!({"limit": 1000, "hours_ago": 2400})).await;

    let second = serve(&folder).await;
    let counted = second.answer("query_store", json!({"sql": "SELECT count(*) AS n FROM leads"})).await;
    assert!(counted["rows"].to_string().contains("500"), "{counted}");
    let refused = second.call("sync_chat_sessions_from_supabase", json!({})).await;
    let text = format!("{refused:?}");
    assert!(
        refused.is_error == Some(true) && text.contains("is held by") && text.contains("process"),
        "{text}"
    );

    first.close().await;
    eventually("the second takes over", async || {
        let synced =
            second.call("sync_chat_sessions_from_supabase", json!({"limit": 1000, "hours_ago": 2400})).await;
        synced.structured_content.is_some_and(|sync| sync["appended"] == 200)
    })
    .await;
    eventually("both sinks have everything", async || {
        let lag = second.answer("check_kafka_lag", json!({})).await;
        lag["total"] == 0
    })
    .await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_shows_the_whole_way_and_can_be_repeated() {
    let folder = folder();
    let place = folder.path().join("demo");
    let arguments = ["demo", "--folder", place.to_str().expect("text")];
    for _ in 0..2 {
        let (done, shown, errors) = output(&folder, &arguments).await;
        assert!(done, "{shown}{errors}");
        for part in ["500 new events", " 0 new events", "by status", "search '", "sql '", "\"mcpServers\""] {
            assert!(shown.contains(part), "{part} is missing in {shown}");
        }
    }
    // As a command with a project of somebody's leaves it.
    std::fs::remove_file(place.join("demonstration")).expect("the mark");
    let (done, _, errors) = output(&folder, &arguments).await;
    assert!(!done && errors.contains("which no demonstration made"), "{errors}");
    assert!(place.join("sluice.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_part_that_does_not_answer_is_an_error_and_no_fallback() {
    let folder = folder();
    let mut command = sluice(&folder, &["sync", "leads"]);
    // Nobody listens on the discard port here.
    command.env("DATABASE_URL", "postgres://sluice@127.0.0.1:9/sluice").env("DATABASE_TIMEOUT_SECONDS", "2");
    command.env("SLUICE_SAMPLE", "true");
    let output = command.output().await.expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    assert!(errors.contains("postgres") && errors.contains("127.0.0.1:9"), "{errors}");
}
