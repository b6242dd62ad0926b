//! An erasure at the worst moment: a drain has read the ledger and not written its batch yet, and all else is removed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sluice::{
    domain::Catalog,
    embedded::EmbeddedDb,
    engine::{Drain, DrainStats, event_record},
    fault::Fault,
    identity::{Identity, group_name},
    index::{Index, IndexName, tantivy::TantivyIndex},
    log::{Log, Position, Topic, embedded::EmbeddedLog},
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
    store::{Erasures, sqlite::SqliteStore},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{events, eventually, folder::TestFolder, indices::search, logs::LIMITS, table};

/// An index into which a first batch is written just after somebody else has erased one of its leads.
struct Late {
    index: TantivyIndex,
    store: Arc<SqliteStore>,
    /// Where the log erases, too, which brokers' logs do not.
    log: Option<Arc<EmbeddedLog>>,
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
    async fn apply(&self, log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        if !batch.events.is_empty() && !self.erased.swap(true, Ordering::SeqCst) {
            let keys = [Uuid::from_u128(7).to_string()];
            self.store.erase(table("leads"), &keys, true).await?;
            if let Some(log) = &self.log {
                log.erase(&table("leads").entity, &keys, &[]).await?;
            }
            self.index.erase(table("leads"), &keys).await?;
        }
        self.index.apply(log, batch).await
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
    drain_while_somebody_is_erased(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_where_the_log_holds_nothing_of_them_any_more() {
    drain_while_somebody_is_erased(true).await;
}

async fn drain_while_somebody_is_erased(from_log: bool) {
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
    assert!(stats.report().erased > 0);
    let leads = search(&index, IndexName::Entities(table("leads")), "*").await;
    assert_eq!((leads.total, leads.hits.iter().any(|hit| hit.id.ends_with("07"))), (29, false));
    assert_eq!(search(&index, IndexName::Eventos, "*").await.total, 29);
    stop.cancel();
    running.await.expect("no panic").expect("a clean end");
}
