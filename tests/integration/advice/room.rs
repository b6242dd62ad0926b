//! The disk under the embedded folder is full, and a table is dropped under the process that holds it: what is said leads
//! out, nothing is lost, and the process goes on by itself.

use std::{collections::BTreeMap, fs::File, io::Write as _, path::Path, process::Command, sync::Arc};

use rusqlite::ffi;
use sluice::{
    config::Settings,
    embedded::EmbeddedDb,
    engine::{self, Engine},
    index::tantivy::TantivyIndex,
    log::embedded::EmbeddedLog,
    parts,
    source::{
        sample::{SampleServer, keys},
        supabase::SupabaseSource,
    },
};

use super::*;
use crate::support::{eventually, folder::TestFolder};

/// A disk of a few megabytes, where this user may mount one.
struct SmallDisk(TestFolder);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TestFolder::new();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m,mode=0700", "sluice-test"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(folder))
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file");
        for piece in [64 << 10, 4 << 10, 1] {
            while ballast.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("removed");
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

fn variables(source: &SampleServer, data: &Path) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("SUPABASE_URL".to_owned(), source.url()),
        ("SUPABASE_KEY".to_owned(), keys::SECRET.to_owned()),
        ("SLUICE_DATA_DIR".to_owned(), data.display().to_string()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_embedded_folder_is_told_loses_nothing_and_passes_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return without_a_disk_of_its_own().await };
    let source = SampleServer::start(0).await.expect("a free port");
    source.set_rows(table("leads"), rows::leads(200));
    let settings = Settings::load(variables(&source, &disk.0.path().join("data"))).expect("settings");
    let engine = parts::engine(&settings).await.expect("an engine");
    // In the log, and in no sink.
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("all is in the log", async || {
        let status = engine.syncs.status(id).await.expect("a status");
        (status.state, status.appended) == (SyncPhase::Draining, 200)
    })
    .await;

    disk.fill();
    let said = format!("{:?}", engine.doctor.examine().await);
    assert!(said.contains("is full") && said.contains("free some room"), "doctor: {said}");
    let status = engine.inspection.status().await;
    let said = format!("{:?}", status.problems);
    assert!(!status.healthy && !status.ready && said.contains("is full"), "status: {said}");
    source.upsert(table("leads"), (501..=700).map(|n| rows::lead(n, 0)).collect());
    let refused = match engine.syncs.start(request(table("leads"))).await {
        Ok(id) => crate::support::finished(&engine, id).await.error.unwrap_or_default(),
        Err(error) => error.to_string(),
    };
    assert!(refused.contains("free some room"), "sync: {refused}");
    engine.start_drains().await;
    eventually("both drains say what they lack", async || {
        let reports = engine.inspection.status().await.drains;
        reports.len() == 2
            && reports.iter().all(|report| {
                report.last_error.as_ref().is_some_and(|error| error.contains("free some room"))
            })
    })
    .await;

    disk.free();
    eventually("both go on by themselves", async || {
        engine.drains.lag().await.is_ok_and(|lag| lag.iter().all(|sink| sink.total == 0))
    })
    .await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
    let status = engine.inspection.status().await;
    assert!(status.ready && !format!("{:?}", status.problems).contains("is full"), "{status:?}");
    for count in ["SELECT count(*) FROM leads", "SELECT count(*) FROM eventos_raw"] {
        assert_eq!(value(&engine, count).await, 400, "{count}");
    }
    let search = sluice::index::SearchRequest {
        index: IndexName::Entities(table("leads")),
        query: None,
        sort: sluice::index::Sort::Newest,
        from: 0,
        size: 0,
        count_by: Vec::new(),
        count_by_day: false,
        zone: chrono_tz::Tz::UTC,
    };
    assert_eq!(engine.questions.search(&search).await.expect("an answer").total, 400);
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0, "nothing is parked for it");
    engine.shut_down().await;
}

/// Where no disk can be mounted, a limit on the size of files stands for a full one.
async fn without_a_disk_of_its_own() {
    let (folder, source) = (TestFolder::new(), SampleServer::start(0).await.expect("a free port"));
    source.set_rows(table("leads"), rows::leads(2_000));
    let data = folder.path().join("data");
    let sluice = |limit: &str| {
        let mut command = tokio::process::Command::new("sh");
        let script = format!("trap '' XFSZ; {limit} exec \"$0\" sync leads --wait");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_sluice")]);
        command.env_clear().envs(variables(&source, &data)).kill_on_drop(true);
        command
    };
    let refused = run(sluice("ulimit -f 800;")).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.all().contains("room"), "{refused:?}");
    let done = run(sluice("")).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let settings = Settings::load(variables(&source, &data)).expect("settings");
    let engine = parts::engine(&settings).await.expect("an engine");
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_refuses_what_is_appended_is_told_beside_a_store_on_a_server() {
    let (folder, database) = (TestFolder::new(), TestDatabase::create().await);
    let source = SampleServer::start(0).await.expect("a free port");
    let settings = Settings::load(variables(&source, folder.path())).expect("settings");
    let supabase = settings.supabase.as_ref().expect("Supabase is named");
    let db = EmbeddedDb::open(&folder.path().join("log"), "test").expect("an open folder");
    let engine = Engine::new(
        settings.catalog,
        Arc::new(SupabaseSource::new(supabase, settings.catalog).expect("a source")),
        Arc::new(EmbeddedLog::new(db.clone())),
        Arc::new(PgStore::connect(&database.settings(), settings.catalog).expect("a store")),
        Arc::new(TantivyIndex::new(folder.path().join("index"), settings.catalog)),
        parts::engine_settings(&settings),
    );
    engine.prepare().await.expect("prepared");
    let status = engine.inspection.status().await;
    assert!(status.ready, "{status:?}");
    let full = || rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None);
    db.write("appending to the log", move |_| Err::<(), _>(full())).await.expect_err("refused");
    let status = engine.inspection.status().await;
    let said = format!("{:?}", status.problems);
    assert!(!status.healthy && !status.ready && said.contains("free some room"), "status: {said}");
    let findings = engine.doctor.examine().await;
    let is_told = |finding: &engine::Finding| {
        finding.outcome == engine::Outcome::Failed
            && finding.part == "embedded"
            && finding.check == "writable"
    };
    assert!(findings.iter().any(is_told), "doctor: {findings:?}");
    engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_dropped_under_the_process_that_holds_the_embedded_folder_is_made_anew_by_it() {
    let place = Embedded::new().await;
    place.source().set_rows(table("leads"), rows::leads(20));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
    for (i, dropped) in ["leads", "sluice_offsets", "eventos_raw", "sluice_appended", "sluice_source_columns"]
        .into_iter()
        .enumerate()
    {
        place.execute(&format!("DROP TABLE {dropped}")).await;
        let new = 900 + u128::try_from(i).expect("a small number");
        place.source().upsert(table("leads"), vec![rows::lead(new, 0)]);
        let again = sync(&engine, request(table("leads"))).await;
        assert_eq!(again.state, SyncPhase::Done, "{dropped}: {again:?}");
        let expected = 21 + i;
        eventually("everything is there again", async || {
            value(&engine, "SELECT count(*) FROM leads").await == expected
                && value(&engine, "SELECT count(*) FROM eventos_raw").await == expected
        })
        .await;
        let told = engine.notices().await.expect("the notices");
        assert!(told.iter().any(|notice| notice.part.ends_with(dropped)), "{dropped}: {told:?}");
    }
    engine.shut_down().await;
    place.clean_up().await;
}
