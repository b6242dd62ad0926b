//! An erasure at the worst moment: a drain, a sync or a replay has read the ledger and not written what it has in hand yet,
//! and all else is removed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sluice::{
    domain::{Catalog, ErasureLedger},
    embedded::EmbeddedDb,
    engine::{Drain, DrainStats, Selection, event_record},
    fault::Fault,
    identity::{Identity, group_name},
    index::{Index, IndexName, tantivy::TantivyIndex},
    log::{Log, Position, Topic, embedded::EmbeddedLog},
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
    store::{Erasures, sqlite::SqliteStore},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::zuleica;
use crate::support::{
    events, eventually,
    folder::TestFolder,
    indices::search,
    logs::LIMITS,
    place::{Embedded, Place},
    request,
    rows::{id, lead, leads},
    sync, table,
};

/// An index into which a first batch is written just after somebody else has erased one of its leads.
struct Late {
    index: TantivyIndex,
    store: Arc<SqliteStore>,
    /// Where the log erases, too, which brokers' logs do not.
    log: Option<Arc<EmbeddedLog>>,
    /// Whether it then says that it failed.
    fails: bool,
    erased: AtomicBool,
}

#[async_trait]
impl Sink for Late {
    fn name(&self) -> &'static str {
        self.index.name()
    }
    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        self.index.identities().await
    }
    async fn prepare(&self) -> Result<(), Fault> {
        self.index.prepare().await
    }
    async fn claim(&self, log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        self.index.claim(log, partitions).await
    }
    async fn apply(&self, log_id: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        if !batch.events.is_empty() && !self.erased.swap(true, Ordering::SeqCst) {
            let keys = [Uuid::from_u128(7).to_string()];
            self.store.erase(table("leads"), &keys, true).await?;
            if let Some(log) = &self.log {
                log.erase(&table("leads").entity, &keys, &[]).await?;
            }
            self.index.erase(table("leads"), &keys).await?;
            if self.fails {
                self.index.apply(log_id, batch).await?;
                return Err(Fault::transient("test", "it does not answer", "wait").into());
            }
        }
        self.index.apply(log_id, batch).await
    }
    async fn remove_events(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.index.remove_events(ids).await
    }

    async fn discard(&self, events: &[SinkEvent]) -> Result<(), Fault> {
        self.index.discard(events).await
    }
    async fn applied(&self, log: &str) -> Result<Option<Vec<Position>>, Fault> {
        self.index.applied(log).await
    }
    async fn make_visible(&self) -> Result<(), Fault> {
        self.index.make_visible().await
    }
    async fn health(&self) -> Result<SinkHealth, Fault> {
        self.index.health().await
    }
    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        self.index.counts().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_written_just_after_an_erasure_nothing_stays_of_whom_was_erased() {
    drain_while_somebody_is_erased(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_where_the_log_holds_nothing_of_them_any_more() {
    drain_while_somebody_is_erased(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_where_what_was_written_passes_for_failed() {
    drain_while_somebody_is_erased(true, true).await;
}

async fn drain_while_somebody_is_erased(from_log: bool, fails: bool) {
    let folder = TestFolder::new();
    let db = EmbeddedDb::open(folder.path(), "test").expect("an open folder");
    let log = Arc::new(EmbeddedLog::new(db.clone()));
    let records = (1..=30).map(|n| {
        let event = events::lead(0, Uuid::from_u128(n), 1, serde_json::json!({})).event;
        event_record(&event, Uuid::nil())
    });
    log.append(Topic::Events, records.collect()).await.expect("appended");
    let index = TantivyIndex::new(folder.path().join("index"), Catalog::built_in());
    let store = Arc::new(SqliteStore::new(db, Catalog::built_in()));
    let stats = Arc::new(DrainStats::new("tantivy"));
    let drain = Drain {
        catalog: Catalog::built_in(),
        log: log.clone(),
        sink: Arc::new(Late {
            index: index.clone(),
            store: store.clone(),
            log: from_log.then(|| log.clone()),
            fails,
            erased: AtomicBool::new(false),
        }),
        store,
        group: "g".to_owned(),
        limits: LIMITS,
        pauses: (Duration::from_millis(10), Duration::from_millis(100)),
        stats: stats.clone(),
        parks: true,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { drain.run(&stop).await }
    });
    eventually("the group knows that everything is applied", async || {
        let Ok(ids) = index.identities().await else { return false };
        let group = group_name("g", &log.identity().await.expect("an id"), &ids);
        let committed: i64 = log.committed(&group).await.expect("offsets").iter().map(|at| at.offset).sum();
        committed == 30
    })
    .await;
    assert_eq!(stats.report().erased > 0, !fails, "what is given back is not counted");
    let leads = search(&index, IndexName::Entities(table("leads")), "*").await;
    assert_eq!((leads.total, leads.hits.iter().any(|hit| hit.id.ends_with("07"))), (29, false));
    assert_eq!(search(&index, IndexName::Eventos, "*").await.total, 29);
    stop.cancel();
    running.await.expect("no panic").expect("a clean end");
}

/// The embedded file of the place.
fn file_of(place: &Embedded) -> rusqlite::Connection {
    let path = place.settings().data_dir.join("sluice.db");
    let file = rusqlite::Connection::open(path).expect("the file opens");
    file.busy_timeout(Duration::from_secs(20)).expect("a timeout");
    file
}

/// Has leads erased, and the log emptied, just before a record of the topic comes into it.
async fn erase_before_append(place: &Embedded, topic: u8, keys: &[String]) {
    let file = file_of(place);
    let salt = file.query_row("SELECT salt FROM sluice_erasure", [], |row| row.get(0));
    let salt: Vec<u8> = salt.expect("a salt");
    let digests = keys.iter().map(|key| {
        let digest = ErasureLedger::digest(&salt, table("leads").name(), key);
        let digest = file.query_row("SELECT hex(?)", [digest.as_slice()], |row| row.get(0));
        let digest: String = digest.expect("digits");
        format!(
            "INSERT INTO sluice_erased SELECT x'{digest}', 'leads', '2026-01-01T00:00:00.000000Z'
             WHERE NOT EXISTS (SELECT 1 FROM sluice_erased WHERE digest = x'{digest}');"
        )
    });
    let digests: String = digests.collect();
    let trigger = format!(
        "CREATE TRIGGER apaga BEFORE INSERT ON log_records WHEN NEW.topic = {topic} BEGIN
             {digests} UPDATE sluice_erasure SET version = '{}'; END",
        Uuid::new_v4()
    );
    place.execute(&trigger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sync_appends_and_parks_just_after_an_erasure_does_not_stay_in_the_embedded_log() {
    let place = Embedded::new().await;
    let engine = place.engine().await;
    engine.prepare().await.expect("prepared");
    engine.start_drains().await;
    // The letter comes first.
    erase_before_append(&place, 1, &[id(700), id(701)]).await;
    let mut too_large = lead(701, 2);
    too_large.insert("utm_source".to_owned(), serde_json::json!("x".repeat(9 << 20)));
    place.source().set_rows(table("leads"), leads(3));
    place.source().upsert(table("leads"), vec![zuleica(), too_large]);
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 4);
    super::assert_nothing_of_her(&place, &engine).await;
    let dump = place.dump().await;
    assert!(!dump.contains(&id(701)) && !dump.contains("joao701@"), "her row that was parked");
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0);
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_appends_just_after_an_erasure_does_not_stay_in_the_embedded_log() {
    let place = Embedded::new().await;
    let engine = place.engine().await;
    engine.prepare().await.expect("prepared");
    place.refuse_a_name().await;
    engine.start_drains().await;
    let mut refused = zuleica();
    refused.insert("nome".to_owned(), serde_json::json!("proibida"));
    place.source().set_rows(table("leads"), vec![refused, lead(3, 0)]);
    sync(&engine, request(table("leads"))).await;
    eventually("her letter is parked", async || engine.letters.open_count().await.expect("a count") == 1)
        .await;
    erase_before_append(&place, 0, &[id(700)]).await;
    let all = Selection::Open { sink: None, from: None, limit: 10 };
    let replayed = engine.letters.replay(&all, "a test").await.expect("an outcome");
    assert_eq!(replayed.settled.len(), 1, "{replayed:?}");
    let records = "SELECT count(*) FROM log_records WHERE topic = 0 AND CAST(key AS text) = ?";
    let left: i64 = file_of(&place).query_row(records, [id(700)], |row| row.get(0)).expect("a count");
    assert_eq!(left, 0);
    engine.shut_down().await;
    place.clean_up().await;
}
