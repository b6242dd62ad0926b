//! What syncs, answers and waits say where something is behind, unseen, or in the way.

use serde_json::{Value, json};
use sluice::{
    engine::SyncPhase,
    source::sample::keys,
    store::{Reconciliation, SyncState},
};
use tokio::net::TcpListener;
use url::Url;

use super::{problems, told_by_command, with_leads};
use crate::{
    mcp::{answer, connect_to},
    support::{
        Pipeline, eventually,
        fake_http::{FakeHttp, Reply},
        finished, on_each_adapter,
        place::{Embedded, Place, Real},
        rows::{lead, leads},
        table,
    },
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    answers_and_syncs_tell_that_a_sink_is_behind_and_why,
    waiting_for_a_paused_sink_fails_with_what_to_do,
    a_key_that_sees_a_part_says_so_in_sync_status_and_doctor,
    status_and_doctor_tell_of_the_last_reconciliation,
}

async fn output<P: Place>(place: &P, arguments: &[&str]) -> (bool, String) {
    let output = place.command(arguments).output().await.expect("it runs");
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), told)
}

fn behind(answer: &Value) -> String {
    answer["behind"].as_array().map(|lacks| Value::from(lacks.clone()).to_string()).unwrap_or_default()
}

async fn answers_and_syncs_tell_that_a_sink_is_behind_and_why<P: Place>() {
    let (place, engine) = with_leads::<P>(4).await;
    let sink = place.index().name();
    engine.shut_down().await;
    drop(engine);
    let (client, _) = connect_to(place.command(&[])).await;
    let search = json!({"index": "leads", "limit": 0});
    let found = answer(&client, "search_elasticsearch", search.clone()).await;
    assert_eq!((&found["total"], behind(&found).as_str()), (&json!(4), ""), "{found}");

    answer(&client, "pause_sink", json!({"sink": sink})).await;
    place.source().upsert(table("leads"), (101..=103).map(|n| lead(n, 1)).collect());
    let synced = answer(&client, "sync_leads_from_supabase", json!({"wait": false})).await;
    let followed = async || answer(&client, "get_sync", json!({"sync_id": synced["sync_id"]})).await;
    eventually("the sync waits for the paused one alone", async || {
        let sync = followed().await;
        let next_step = sync["next_step"].to_string();
        sync["state"] == "draining" && next_step.contains("is paused by") && next_step.contains("resume_sink")
    })
    .await;
    eventually("a search says what is missing", async || {
        let found = answer(&client, "search_elasticsearch", search.clone()).await;
        let told = behind(&found);
        found["total"] == 4 && told.contains("3 records of the log are not in") && told.contains("paused by")
    })
    .await;
    let dashboard = answer(&client, "get_supabase_dashboard", json!({})).await;
    assert_eq!(dashboard["tables"][0]["total"], 7);
    assert!(behind(&dashboard).contains("3 records of the log are not in"), "{dashboard}");
    eventually("the store has everything, and says nothing", async || {
        let counted = answer(&client, "query_store", json!({"sql": "SELECT count(*) FROM leads"})).await;
        counted["rows"].to_string().contains('7') && behind(&counted).is_empty()
    })
    .await;

    answer(&client, "resume_sink", json!({"sink": sink})).await;
    eventually("all is there, and nothing is said", async || {
        let found = answer(&client, "search_elasticsearch", search.clone()).await;
        found["total"] == 7 && behind(&found).is_empty()
    })
    .await;
    client.cancel().await.expect("the session closes");
    place.clean_up().await;
}

async fn waiting_for_a_paused_sink_fails_with_what_to_do<P: Place>() {
    let (place, engine) = with_leads::<P>(2).await;
    let sink = place.index().name();
    engine.drains.pause(sink, "ana").await.expect("paused");
    engine.shut_down().await;
    drop(engine);
    place.source().upsert(table("leads"), vec![lead(9, 1)]);
    let (succeeded, told) = output(&place, &["sync", "leads", "--wait"]).await;
    assert!(!succeeded && told.contains("waiting is no use"), "{told}");
    assert!(told.contains(&format!("{sink} is paused by ana")) && told.contains("resume"), "{told}");
    let (healthy, status) = told_by_command(&place).await;
    assert!(!healthy && problems(&status).contains("1 records of the log are not in"), "{status}");
    place.clean_up().await;
}

async fn a_key_that_sees_a_part_says_so_in_sync_status_and_doctor<P: Place>() {
    let (mut place, engine) = with_leads::<P>(40).await;
    engine.shut_down().await;
    drop(engine);
    place.set("SUPABASE_KEY", keys::ANON);
    for (one_in, shown) in [(4, 10), (0, 0)] {
        place.source().show_one_in(one_in);
        let fewer = format!("the source shows {shown} rows of leads, and 40 were read from it before");
        let (_, told) = output(&place, &["sync", "leads", "--wait"]).await;
        assert!(told.contains(&fewer) && told.contains("this key (anon) sees only the rows"), "{told}");
        let (healthy, status) = told_by_command(&place).await;
        assert!(!healthy && problems(&status).contains(&fewer), "{status}");
        assert_eq!(
            (&status["tables"][0]["source"], &status["tables"][0]["store"]),
            (&json!(shown), &json!(40))
        );
        let (fit, told) = output(&place, &["doctor"]).await;
        assert!(!fit && told.contains(&fewer), "{told}");
    }
    let (client, _) = connect_to(place.command(&[])).await;
    let synced = answer(&client, "sync_leads_from_supabase", json!({})).await;
    assert!(synced["warnings"].to_string().contains("the source shows 0 rows of leads"), "{synced}");
    client.cancel().await.expect("the session closes");
    place.clean_up().await;
}

async fn status_and_doctor_tell_of_the_last_reconciliation<P: Place>() {
    let (place, engine) = with_leads::<P>(5).await;
    let told = async || {
        let findings = engine.doctor.examine().await;
        findings.into_iter().find(|one| one.check == "leads reconciled").expect("a finding").detail
    };
    assert!(told().await.starts_with("never"), "{}", told().await);
    let id =
        engine.syncs.reconcile(&table("leads").into(), Reconciliation::default()).await.expect("it begins");
    assert_eq!(finished(&engine, id).await.state, SyncPhase::Done);
    assert!(told().await.ends_with("succeeded, 0 unexplained"), "{}", told().await);
    let status = engine.inspection.status().await;
    let last = status.tables[0].reconciled.clone().expect("a reconciliation");
    assert_eq!((last.outcome, last.unexplained), (SyncState::Succeeded, Some(0)));

    // Too many rows are gone for it to believe: nothing is removed, and that is no success.
    place.source().set_rows(table("leads"), Vec::new());
    let id =
        engine.syncs.reconcile(&table("leads").into(), Reconciliation::default()).await.expect("it begins");
    assert_eq!(finished(&engine, id).await.state, SyncPhase::Failed);
    let status = engine.inspection.status().await;
    assert!(!status.healthy && super::says(&status, "the last reconciliation of leads failed"), "{status:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_named_and_no_part_that_answers() {
    let mut pipeline = Pipeline::new().await;
    let made = pipeline.command(&["migrate"]).output().await.expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut url = Url::parse(&pipeline.variables["DATABASE_URL"]).expect("a URL");
    url.set_host(Some("127.0.0.1")).expect("a host");
    url.set_port(Some(silent.local_addr().expect("an address").port())).expect("a port");
    pipeline.set("DATABASE_URL", url);
    let engine = pipeline.engine().await;
    let status = engine.inspection.status().await;
    assert!(status.log.ok && !status.sinks[0].ok && status.sinks[1].ok, "{status:?}");
    assert_eq!(status.dead_letters, None);
    let of_others = ["kafka", "elasticsearch", "supabase"];
    let wrongly =
        status.problems.iter().find(|one| of_others.iter().any(|part| one.problem.starts_with(part)));
    assert!(wrongly.is_none(), "{wrongly:?} of {:?}", status.problems);
    assert!(status.problems.iter().any(|one| one.problem.starts_with("postgres: ")), "{status:?}");
    drop(engine);
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_an_index_that_refuses_this_process_fails_with_what_to_do() {
    let refusing = FakeHttp::start(|_, _| Reply::Answer(401, "{}")).await;
    let mut pipeline = Pipeline::new().await;
    pipeline.set("ELASTICSEARCH_URL", refusing.url.to_string());
    pipeline.source.set_rows(table("leads"), leads(3));
    let waited = pipeline.command(&["sync", "leads", "--wait"]).output().await.expect("it runs");
    let told = String::from_utf8_lossy(&waited.stderr);
    assert!(!waited.status.success() && told.contains("waiting is no use"), "{told}");
    assert!(told.contains("the drain into elasticsearch is"), "{told}");
    assert_eq!(pipeline.number("SELECT count(*) FROM leads").await, 3, "the store has them");
    pipeline.clean_up().await;
}
