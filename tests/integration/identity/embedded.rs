//! The same on the embedded parts: files of the folder deleted or restored while nothing runs.

use std::path::Path;

use serde_json::json;
use sluice::{
    config::Settings,
    domain::JsonObject,
    engine::{Engine, SyncPhase},
    index::{IndexName, SearchRequest, Sort},
    parts,
    source::sample::{SampleServer, keys},
    store::NoticeKind,
};

use super::{after_its_own, told};
use crate::support::{
    eventually,
    folder::{TestFolder, copy_folder},
    place::value,
    postgres::TestDatabase,
    request,
    rows::leads,
    sync, table,
};

async fn engine(source: &SampleServer, folder: &Path) -> std::sync::Arc<Engine> {
    let engine = idle_engine(source, folder, None).await;
    engine.start_drains().await;
    engine
}

/// Without drains; its store is in the database, if one is given.
async fn idle_engine(
    source: &SampleServer,
    folder: &Path,
    database: Option<&TestDatabase>,
) -> std::sync::Arc<Engine> {
    let variables = [
        ("SUPABASE_URL", source.url()),
        ("SUPABASE_KEY", keys::SECRET.to_owned()),
        ("SLUICE_DATA_DIR", folder.display().to_string()),
    ];
    let database = database.map(|database| ("DATABASE_URL", database.url().to_owned()));
    let variables = variables.into_iter().chain(database).map(|(name, value)| (name.to_owned(), value));
    parts::engine(&Settings::load(variables).expect("settings")).await.expect("an engine")
}

/// Everything the source has is in both sinks, once, and nothing is left to apply.
async fn healed(engine: &Engine, rows: u64) {
    let found = async |index| {
        let request = SearchRequest {
            index,
            query: None,
            sort: Sort::Newest,
            from: 0,
            size: 0,
            count_by: Vec::new(),
            count_by_day: false,
            zone: chrono_tz::Tz::UTC,
        };
        engine.questions.search(&request).await.map(|answer| answer.total).ok()
    };
    eventually("both sinks hold all rows", async || {
        let counts = (found(IndexName::Entities(table("leads"))).await, found(IndexName::Eventos).await);
        let lag = engine.drains.lag().await;
        let is_healed = counts == (Some(rows), Some(rows))
            && lag.as_ref().is_ok_and(|lag| lag.iter().all(|lag| lag.total == 0));
        if !is_healed {
            eprintln!("{counts:?} {lag:?} {:?}", engine.drains.reports());
        }
        is_healed
    })
    .await;
    for counted in ["count(*) FROM leads", "count(*) FROM eventos_raw", "sum(total) FROM eventos_agregados"] {
        assert_eq!(value(engine, &format!("SELECT {counted}")).await, json!(rows), "{counted}");
    }
}

/// The folder, with so many of the rows in it, and nobody at work.
async fn filled(source: &SampleServer, rows: &[JsonObject]) -> TestFolder {
    let folder = TestFolder::new();
    add(source, folder.path(), rows).await;
    folder
}

async fn add(source: &SampleServer, folder: &Path, rows: &[JsonObject]) {
    source.set_rows(table("leads"), rows.to_vec());
    let engine = engine(source, folder).await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
    engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_folder_that_was_deleted_is_made_anew_with_all_documents() {
    let source = SampleServer::start(0).await.expect("a free port");
    for deleted in ["index", "index/leads-000001", "index/leads.json"] {
        let folder = filled(&source, &leads(60)).await;
        let path = folder.path().join(deleted);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
            .expect("deleted");
        let engine = engine(&source, folder.path()).await;
        healed(&engine, 60).await;
        told(&engine, NoticeKind::SinkReplaced).await;
        engine.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_log_and_store_that_was_deleted_is_filled_by_the_next_sync_and_the_index_agrees() {
    let source = SampleServer::start(0).await.expect("a free port");
    let rows = leads(90);
    let folder = filled(&source, &rows[..60]).await;
    for file in ["sluice.db", "sluice.db-wal", "sluice.db-shm"] {
        std::fs::remove_file(folder.path().join(file)).ok();
    }
    source.set_rows(table("leads"), rows);
    let engine = engine(&source, folder.path()).await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 90);
    healed(&engine, 90).await;
    engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_log_and_store_restored_from_an_older_copy_is_filled_by_the_next_sync() {
    let source = SampleServer::start(0).await.expect("a free port");
    let rows = leads(150);
    let folder = filled(&source, &rows[..50]).await;
    let copy = TestFolder::new();
    for file in ["sluice.db", "sluice.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).ok();
    }
    add(&source, folder.path(), &rows[..100]).await;
    for file in ["sluice.db", "sluice.db-wal", "sluice.db-shm"] {
        std::fs::remove_file(folder.path().join(file)).ok();
        std::fs::copy(copy.path().join(file), folder.path().join(file)).ok();
    }
    source.set_rows(table("leads"), rows);
    let engine = engine(&source, folder.path()).await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 100, "what the copy does not know");
    healed(&engine, 150).await;
    engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_restored_from_an_older_copy_gives_the_database_all_that_it_appends_from_then_on() {
    let source = SampleServer::start(0).await.expect("a free port");
    let (database, rows) = (TestDatabase::create().await, leads(250));
    let (folder, copy) = (TestFolder::new(), TestFolder::new());
    for so_many in [50, 100] {
        source.set_rows(table("leads"), rows[..so_many].to_vec());
        let engine = idle_engine(&source, folder.path(), Some(&database)).await;
        engine.start_drains().await;
        assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
        engine.shut_down().await;
        drop(engine);
        for file in ["sluice.db", "sluice.db-wal"] {
            if so_many == 50 {
                std::fs::copy(folder.path().join(file), copy.path().join(file)).ok();
            } else {
                std::fs::remove_file(folder.path().join(file)).ok();
                std::fs::copy(copy.path().join(file), folder.path().join(file)).ok();
            }
        }
    }

    // It outgrows what the database has of it before anything reads it.
    source.set_rows(table("leads"), rows);
    let appending = idle_engine(&source, folder.path(), Some(&database)).await;
    let id = appending.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("all is appended", async || {
        appending.syncs.status(id).await.expect("a status").state == SyncPhase::Draining
    })
    .await;
    appending.shut_down().await;
    drop(appending);

    let engine = idle_engine(&source, folder.path(), Some(&database)).await;
    engine.start_drains().await;
    eventually("nothing is left to apply", async || {
        engine.drains.lag().await.is_ok_and(|lag| lag.iter().all(|lag| lag.total == 0))
    })
    .await;
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, json!(250));
    assert_eq!(value(&engine, "SELECT count(*) FROM eventos_raw").await, json!(250));
    told(&engine, NoticeKind::LogReplaced).await;
    let again = after_its_own(&engine, async || engine.syncs.start(request(table("leads"))).await).await;
    assert_eq!((again.state, again.appended), (SyncPhase::Done, 0), "{again:?}");
    engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_folder_restored_from_an_older_copy_is_told_of_and_filled_again() {
    let source = SampleServer::start(0).await.expect("a free port");
    let rows = leads(100);
    let folder = filled(&source, &rows[..50]).await;
    let copy = TestFolder::new();
    let index = folder.path().join("index");
    copy_folder(&index, &copy.path().join("index"));
    add(&source, folder.path(), &rows).await;
    std::fs::remove_dir_all(&index).expect("removed");
    copy_folder(&copy.path().join("index"), &index);

    let engine = engine(&source, folder.path()).await;
    told(&engine, NoticeKind::StoreWentBack).await;
    healed(&engine, 100).await;
    engine.shut_down().await;
}
