//! Indices built anew from the log while they serve, on the embedded parts and on the real ones.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use sluice::{
    config::Settings,
    domain::Catalog,
    engine::{Engine, RebuildPhase},
    index::{Index, IndexName, SearchRequest, Sort, elasticsearch::EsIndex, tantivy::TantivyIndex},
    parts,
    source::sample::{SampleServer, keys},
};

use crate::{
    mcp::{answer, call, connect_to, text},
    support::{
        Pipeline, eventually,
        folder::TestFolder,
        on_each_adapter, request,
        rows::{leads, produce, session},
        service, sync, table,
    },
};

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

/// A pipeline of a test's own, and a hand in its index.
trait Place: Sized {
    async fn new() -> Self;
    fn source(&self) -> &SampleServer;
    fn settings(&self) -> Settings;
    fn index(&self) -> Arc<dyn Index>;
    fn command(&self) -> tokio::process::Command;
    /// Deletes every document of an index behind the engine's back, while no engine runs.
    async fn delete_all(&self, index: IndexName);
    async fn clean_up(self);

    async fn engine(&self) -> Arc<Engine> {
        parts::engine(&self.settings()).await.expect("an engine")
    }
}

struct Embedded {
    folder: TestFolder,
    source: SampleServer,
}

impl Embedded {
    fn variables(&self) -> Vec<(String, String)> {
        vec![
            ("SUPABASE_URL".to_owned(), self.source.url()),
            ("SUPABASE_KEY".to_owned(), keys::SECRET.to_owned()),
            ("SLUICE_DATA_DIR".to_owned(), self.folder.path().display().to_string()),
        ]
    }

    fn index_folder(&self) -> PathBuf {
        self.folder.path().join("index")
    }
}

impl Place for Embedded {
    async fn new() -> Self {
        Self { folder: TestFolder::new(), source: SampleServer::start(0).await.expect("a free port") }
    }

    fn source(&self) -> &SampleServer {
        &self.source
    }

    fn settings(&self) -> Settings {
        Settings::load(self.variables()).expect("valid settings")
    }

    fn index(&self) -> Arc<dyn Index> {
        Arc::new(TantivyIndex::new(self.index_folder()))
    }

    fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().envs(self.variables()).current_dir(self.folder.path()).kill_on_drop(true);
        command
    }

    async fn delete_all(&self, index: IndexName) {
        let volume = self.index_folder().join(format!("{index}-000001"));
        let opened = tantivy::Index::open_in_dir(volume).expect("the volume opens");
        let mut writer = opened.writer::<tantivy::TantivyDocument>(30_000_000).expect("nobody writes");
        writer.delete_all_documents().expect("deleted");
        writer.commit().expect("committed");
    }

    async fn clean_up(self) {}
}

struct Real(Pipeline);

impl Place for Real {
    async fn new() -> Self {
        Self(Pipeline::new().await)
    }

    fn source(&self) -> &SampleServer {
        &self.0.source
    }

    fn settings(&self) -> Settings {
        self.0.settings()
    }

    fn index(&self) -> Arc<dyn Index> {
        let settings = self.settings().elasticsearch.expect("Elasticsearch is named");
        Arc::new(EsIndex::connect(&settings, Catalog::built_in()).expect("usable settings"))
    }

    fn command(&self) -> tokio::process::Command {
        self.0.command(&[])
    }

    async fn delete_all(&self, index: IndexName) {
        let alias = format!("{}{index}", self.0.variables["ELASTICSEARCH_INDEX_PREFIX"]);
        let (http, base) = (reqwest::Client::new(), service("ELASTICSEARCH_URL"));
        let all = format!("{base}/{alias}/_search?size=10000&_source=false");
        let found: serde_json::Value = http.get(all).send().await.expect("hits").json().await.expect("JSON");
        let hits = found["hits"]["hits"].as_array().expect("hits");
        let deletions = hits.iter().map(|hit| format!("{}\n", json!({"delete": {"_id": hit["_id"]}})));
        let deleted = http
            .post(format!("{base}/{alias}/_bulk?refresh=true"))
            .header("content-type", "application/x-ndjson")
            .body(deletions.collect::<String>())
            .send()
            .await
            .expect("an answer");
        assert!(!hits.is_empty() && deleted.status().is_success());
    }

    async fn clean_up(self) {
        self.0.clean_up().await;
    }
}

fn everything(index: IndexName) -> SearchRequest {
    SearchRequest {
        index,
        query: None,
        sort: Sort::Newest,
        from: 0,
        size: 0,
        count_by: Vec::new(),
        count_by_day: false,
    }
}

async fn total(engine: &Engine, index: IndexName) -> u64 {
    engine.search(&everything(index)).await.expect("an answer").total
}

async fn done(engine: &Engine, indices: &[IndexName]) {
    let rebuilds = engine.wait_for_rebuilds(indices, PATIENCE).await;
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
    engine.rebuild(&every_index()).await.expect("a rebuild");
    let again = engine.rebuild(&[leads_index()]).await.expect("the same");
    assert_eq!(
        again[0].id,
        engine.rebuilds().iter().find(|r| r.index == leads_index()).expect("leads").id
    );
    // Written while the new indices are filled and take over.
    place.source().set_rows(table("leads"), leads(450));
    sync(&engine, request(table("leads"))).await;
    done(&engine, &every_index()).await;
    stop.store(true, Ordering::Relaxed);
    searching.await.expect("every search was answered");
    assert!(answered.load(Ordering::Relaxed) > 0);

    let leads = engine.search(&everything(leads_index())).await.expect("an answer").total;
    assert_eq!(leads, 450);
    assert!(total(&engine, IndexName::Eventos).await >= 459);
    assert_eq!(total(&engine, IndexName::Entities(table("chat_sessions"))).await, 9);
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    let status = engine.status().await;
    assert_eq!((status.dead_letters, status.rebuilds.len()), (Some(0), 3));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_rebuild_that_a_stopped_process_left_behind_is_finished_by_the_next<P: Place>() {
    let place: P = with_leads_deleted(100).await;
    let begun = place.index().begin_rebuild(leads_index()).await.expect("a rebuild");
    let engine = place.engine().await;
    assert_eq!(total(&engine, leads_index()).await, 0, "the half-built one does not serve");
    engine.start_drains().await;
    eventually("the rebuild is taken up", async || engine.rebuilds().iter().any(|r| r.id == begun.id)).await;
    done(&engine, &[leads_index()]).await;
    assert_eq!(total(&engine, leads_index()).await, 100);
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_rebuild_left_behind_after_the_change_is_finished_with_all_that_the_log_holds<P: Place>() {
    let place: P = with_leads_deleted(100).await;
    let index = place.index();
    let begun = index.begin_rebuild(leads_index()).await.expect("a rebuild");
    index.serve_rebuilt(&begun).await.expect("changed");
    drop(index);
    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("the rebuild is taken up", async || engine.rebuilds().iter().any(|r| r.id == begun.id)).await;
    done(&engine, &[leads_index()]).await;
    eventually("all documents are visible", async || total(&engine, leads_index()).await == 100).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn the_tool_rebuilds_only_when_it_is_told_to<P: Place>() {
    let place: P = with_leads_deleted(60).await;
    let (client, _) = connect_to(place.command()).await;
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
    let (client, _) = connect_to(place.command()).await;
    // That process said yes, and left the rest to whoever comes.
    let begun = place.index().begin_rebuild(leads_index()).await.expect("a rebuild");
    let followed = answer(&client, "rebuild_index", json!({"index": "leads"})).await;
    assert_eq!(followed["rebuilds"][0]["id"], json!(begun.id), "{followed}");
    eventually("it is finished", async || place.index().rebuilds().await.expect("rebuilds").is_empty()).await;
    let both = call(&client, "rebuild_index", json!({})).await;
    assert_eq!(both.is_error, Some(true), "what nobody agreed to is asked for");
    client.cancel().await.expect("the session closes");
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_record_is_passed_over_and_not_parked_twice() {
    let place: Real = with_leads_deleted(10).await;
    produce(&place.0.variables["KAFKA_TOPIC"], "veneno", b"nada").await;
    let engine = place.engine().await;
    engine.start_drains().await;
    // Each sink parks it once.
    eventually("it is parked", async || engine.status().await.dead_letters == Some(2)).await;
    engine.rebuild(&[leads_index()]).await.expect("a rebuild");
    done(&engine, &[leads_index()]).await;
    assert_eq!(engine.status().await.dead_letters, Some(2));
    assert_eq!(total(&engine, leads_index()).await, 10);
    engine.shut_down().await;
    place.clean_up().await;
}
