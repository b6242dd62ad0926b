//! Indices built anew from the log while they serve, on the embedded parts and on the real ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use sluice::{
    domain::Catalog,
    engine::{Engine, RebuildPhase},
    index::{Index, IndexName, SearchRequest, Sort, elasticsearch::EsIndex},
    source::sample::SampleColumn,
};

use crate::{
    mcp::{answer, call, connect_to, text},
    support::{
        eventually,
        folder::TestFolder,
        on_each_adapter,
        place::{Embedded, Place, Real},
        request,
        rows::{leads, produce, session},
        sync, table,
    },
};

mod from_store;

fn leads_index() -> IndexName {
    IndexName::Entities(table("leads"))
}

fn every_index() -> Vec<IndexName> {
    IndexName::all(Catalog::built_in()).collect()
}

on_each_adapter! {
    embedded: Embedded, real: Real;
    documents_deleted_by_hand_come_back_while_searches_are_answered_and_writes_go_on,
    a_rebuild_that_a_stopped_process_left_behind_is_finished_by_the_next,
    a_rebuild_left_behind_after_the_change_is_finished_with_all_that_the_log_holds,
    the_tool_rebuilds_only_when_it_is_told_to,
}

const PATIENCE: Duration = Duration::from_mins(1);

fn everything(index: IndexName) -> SearchRequest {
    SearchRequest {
        index,
        query: None,
        sort: Sort::Newest,
        from: 0,
        size: 0,
        count_by: Vec::new(),
        count_by_day: false,
        zone: chrono_tz::Tz::UTC,
    }
}

async fn total(engine: &Engine, index: IndexName) -> u64 {
    engine.questions.search(&everything(index)).await.expect("an answer").total
}

async fn done(engine: &Engine, indices: &[IndexName]) {
    let rebuilds = engine.rebuilds.wait_for(indices, PATIENCE).await;
    assert_eq!(rebuilds.len(), indices.len());
    assert!(rebuilds.iter().all(|rebuild| rebuild.phase == RebuildPhase::Done), "{rebuilds:?}");
}

/// So many leads, each with one event, and then the leads' documents are gone.
async fn with_leads_deleted<P: Place>(count: u128) -> P {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(count));
    place.source().set_rows(table("chat_sessions"), (1..=9).map(|n| session(n, 5, 4)).collect());
    let engine = place.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    sync(&engine, request(table("chat_sessions"))).await;
    engine.shut_down().await;
    drop(engine);
    place.delete_all(leads_index()).await;
    place
}

async fn documents_deleted_by_hand_come_back_while_searches_are_answered_and_writes_go_on<P: Place>() {
    let place: P = with_leads_deleted(400).await;
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(total(&engine, leads_index()).await, 0);

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let searching = tokio::spawn({
        let (engine, stop, answered) = (engine.clone(), stop.clone(), answered.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let events = total(&engine, IndexName::Eventos).await;
                assert!(events >= 409, "{events} events: fewer than there were");
                total(&engine, leads_index()).await;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    engine.rebuilds.begin(&every_index()).await.expect("a rebuild");
    let again = engine.rebuilds.begin(&[leads_index()]).await.expect("the same");
    assert_eq!(
        again[0].id,
        engine.rebuilds.latest().iter().find(|r| r.index == leads_index()).expect("leads").id
    );
    // Written while the new indices are filled and take over.
    place.source().set_rows(table("leads"), leads(450));
    sync(&engine, request(table("leads"))).await;
    done(&engine, &every_index()).await;
    stop.store(true, Ordering::Relaxed);
    searching.await.expect("every search was answered");
    assert!(answered.load(Ordering::Relaxed) > 0);

    let leads = engine.questions.search(&everything(leads_index())).await.expect("an answer").total;
    assert_eq!(leads, 450);
    assert!(total(&engine, IndexName::Eventos).await >= 459);
    assert_eq!(total(&engine, IndexName::Entities(table("chat_sessions"))).await, 9);
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    let status = engine.inspection.status().await;
    assert_eq!((status.dead_letters, status.rebuilds.len()), (Some(0), 3));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_rebuild_that_a_stopped_process_left_behind_is_finished_by_the_next<P: Place>() {
    let place: P = with_leads_deleted(100).await;
    let begun = place.index().begin_rebuild(leads_index(), uuid::Uuid::nil()).await.expect("a rebuild");
    let engine = place.engine().await;
    assert_eq!(total(&engine, leads_index()).await, 0, "the half-built one does not serve");
    engine.start_drains().await;
    eventually("the rebuild is taken up", async || engine.rebuilds.latest().iter().any(|r| r.id == begun.id))
        .await;
    done(&engine, &[leads_index()]).await;
    assert_eq!(total(&engine, leads_index()).await, 100);
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_rebuild_left_behind_after_the_change_is_finished_with_all_that_the_log_holds<P: Place>() {
    let place: P = with_leads_deleted(100).await;
    let index = place.index();
    let begun = index.begin_rebuild(leads_index(), uuid::Uuid::nil()).await.expect("a rebuild");
    index.serve_rebuilt(&begun).await.expect("changed");
    drop(index);
    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("the rebuild is taken up", async || engine.rebuilds.latest().iter().any(|r| r.id == begun.id))
        .await;
    done(&engine, &[leads_index()]).await;
    assert_eq!(total(&engine, leads_index()).await, 100, "what is done is visible");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn the_tool_rebuilds_only_when_it_is_told_to<P: Place>() {
    let place: P = with_leads_deleted(60).await;
    let (client, _) = connect_to(place.command(&[])).await;
    let result = call(&client, "rebuild_index", json!({"index": "leads"})).await;
    assert_eq!(result.is_error, Some(true));
    assert!(text(&result).contains("confirm: this builds leads anew"), "{}", text(&result));
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);

    let arguments = json!({"index": "leads", "confirm": true});
    eventually("the rebuild is done", async || {
        answer(&client, "rebuild_index", arguments.clone()).await["done"] == true
    })
    .await;
    let found = answer(&client, "search_elasticsearch", json!({"index": "leads", "limit": 1})).await;
    assert_eq!(found["total"], 60);
    client.cancel().await.expect("the session closes");
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_the_rebuild_of_another_process_needs_no_consent_again() {
    let place: Real = with_leads_deleted(20).await;
    let (client, _) = connect_to(place.command(&[])).await;
    // That process said yes, and left the rest to whoever comes.
    let begun = place.index().begin_rebuild(leads_index(), uuid::Uuid::nil()).await.expect("a rebuild");
    let followed = answer(&client, "rebuild_index", json!({"index": "leads"})).await;
    assert_eq!(followed["rebuilds"][0]["id"], json!(begun.id), "{followed}");
    eventually("it is finished", async || place.index().rebuilds().await.expect("rebuilds").is_empty()).await;
    let both = call(&client, "rebuild_index", json!({})).await;
    assert_eq!(both.is_error, Some(true), "what nobody agreed to is asked for");
    client.cancel().await.expect("the session closes");
    place.clean_up().await;
}

/// A rebuild of the leads that a process has taken up and can't go on with, as nothing can be written into what it builds;
/// and a hand in it, as of another process that runs it, too.
async fn with_a_rebuild_held_up() -> (Real, Arc<Engine>, Arc<dyn sluice::index::Index>, sluice::index::Rebuild)
{
    let place: Real = with_leads_deleted(20).await;
    let index = place.index();
    let begun = index.begin_rebuild(leads_index(), uuid::Uuid::nil()).await.expect("a rebuild");
    set_built(&place, "leads", json!({"index.blocks.write": true})).await;
    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("it is taken up, and held up", async || {
        let latest = engine.rebuilds.latest();
        latest.iter().any(|status| status.id == begun.id && status.failing_since.is_some())
    })
    .await;
    (place, engine, index, begun)
}

/// Changes the settings of the index that is built, or was, first.
async fn set_built(place: &Real, table: &str, settings: serde_json::Value) {
    let url = format!(
        "{}/{}{table}-000002/_settings",
        crate::support::service("ELASTICSEARCH_URL"),
        place.0.variables["ELASTICSEARCH_INDEX_PREFIX"]
    );
    let answer = reqwest::Client::new().put(url).json(&settings).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_another_process_gave_up_ends_and_does_not_pass_for_done() {
    let (place, engine, index, begun) = with_a_rebuild_held_up().await;
    index.end_rebuild(&begun).await.expect("given up");
    let ended = engine.rebuilds.wait_for(&[leads_index()], PATIENCE).await.pop().expect("a rebuild");
    assert_eq!((ended.phase, ended.failing_since), (RebuildPhase::Refused, None), "{ended:?}");
    let told = ended.last_error.expect("why");
    assert!(told.contains("another process ended the rebuild") && told.contains("say why"), "{told}");
    let problems = engine.inspection.status().await.problems;
    assert!(problems.iter().any(|problem| problem.to_string().contains(&told)), "{problems:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_another_process_finished_ends_as_done_with_no_word_of_failure() {
    let (place, engine, index, begun) = with_a_rebuild_held_up().await;
    index.serve_rebuilt(&begun).await.expect("changed");
    index.end_rebuild(&begun).await.expect("ended");
    set_built(&place, "leads", json!({"index.blocks.write": null})).await;
    let ended = engine.rebuilds.wait_for(&[leads_index()], PATIENCE).await.pop().expect("a rebuild");
    assert_eq!((ended.phase, ended.failing_since), (RebuildPhase::Done, None), "{ended:?}");
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_another_process_begins_anew_is_gone_on_with() {
    let (place, engine, index, begun) = with_a_rebuild_held_up().await;
    index.end_rebuild(&begun).await.expect("given up");
    let anew = index.begin_rebuild(leads_index(), uuid::Uuid::nil()).await.expect("another");
    assert_ne!(anew.id, begun.id);
    eventually("the other is done", async || {
        let latest = engine.rebuilds.latest();
        latest.iter().any(|status| status.id == anew.id && status.phase == RebuildPhase::Done)
    })
    .await;
    assert_eq!(total(&engine, leads_index()).await, 20);
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_another_definition_is_left_by_who_runs_an_earlier_one_and_begun_anew_by_who_starts() {
    let mut place = Real::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let define = |columns: &[&str]| {
        let columns: Vec<_> =
            columns.iter().map(|name| format!("{{ name = '{name}', type = 'text' }}")).collect();
        let definition = format!(
            "name = 'mov'\nabout = 'x'\nentity = 'mov'\nkey = {{ column = 'id', type = 'bigint' }}\n\
             event = {{ categoria = 'c', evento = 'e' }}\ncolumns = [{}]\n",
            columns.join(", ")
        );
        std::fs::write(tables.path().join("mov.toml"), definition).expect("written");
    };
    let of = |engine: &Engine| IndexName::Entities(engine.catalog.get("mov").expect("mov"));
    // A hand in the index, as of another process with the definitions of this one.
    let index_of = |engine: &Engine| {
        let settings = place.settings().elasticsearch.expect("Elasticsearch is named");
        EsIndex::connect(&settings, engine.catalog).expect("usable settings")
    };
    let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("cor", "text")];
    place.source().create_table("public", "mov", columns, &[r#"{"id": 1, "cor": "azul"}"#]).expect("rows");

    define(&["cor"]);
    let first = place.engine().await;
    first.start_drains().await;
    sync(&first, request(first.catalog.get("mov").expect("mov"))).await;
    let begun = index_of(&first).begin_rebuild(of(&first), uuid::Uuid::nil()).await.expect("a rebuild");
    set_built(&place, "mov", json!({"index.blocks.write": true})).await;
    first.rebuilds.begin(&[of(&first)]).await.expect("joined");
    eventually("it is held up", async || {
        let latest = first.rebuilds.latest();
        latest.iter().any(|status| status.id == begun.id && status.failing_since.is_some())
    })
    .await;

    define(&["cor", "tom"]);
    let second = place.engine().await;
    let anew = index_of(&second).begin_rebuild(of(&second), uuid::Uuid::nil()).await.expect("another");
    assert_ne!(anew.id, begun.id);
    let left = first.rebuilds.wait_for(&[of(&first)], PATIENCE).await.pop().expect("a rebuild");
    assert_eq!((left.id, left.phase), (begun.id, RebuildPhase::Refused), "{left:?}");
    let told = left.last_error.expect("why");
    for part in ["began it anew", "differ in: tom", "the same table definitions"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(index_of(&second).rebuilds().await.expect("rebuilds"), std::slice::from_ref(&anew));
    first.shut_down().await;

    define(&["cor", "tom", "luz"]);
    let third = place.engine().await;
    third.start_drains().await;
    eventually("it is begun anew, and done", async || {
        let latest = third.rebuilds.latest();
        latest.iter().any(|status| status.id != anew.id && status.phase == RebuildPhase::Done)
    })
    .await;
    assert_eq!(total(&third, of(&third)).await, 1);
    let index = index_of(&third);
    assert_eq!(index.rebuilds().await.expect("rebuilds"), []);
    assert_eq!(index.unfilled().await.expect("an answer"), [], "it was made by the definition that serves");
    third.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_record_is_passed_over_and_not_parked_twice() {
    let place: Real = with_leads_deleted(10).await;
    produce(&place.0.variables["KAFKA_TOPIC"], "veneno", b"nada").await;
    let engine = place.engine().await;
    engine.start_drains().await;
    // Each sink parks it once.
    eventually("it is parked", async || engine.inspection.status().await.dead_letters == Some(2)).await;
    engine.rebuilds.begin(&[leads_index()]).await.expect("a rebuild");
    done(&engine, &[leads_index()]).await;
    assert_eq!(engine.inspection.status().await.dead_letters, Some(2));
    assert_eq!(total(&engine, leads_index()).await, 10);
    engine.shut_down().await;
    place.clean_up().await;
}
