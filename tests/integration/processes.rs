//! Processes that share a group, end, and are asked to end while something hangs.

use std::{
    process::Stdio,
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
    engine::{Drain, DrainStats},
    fault::{Fault, FaultKind},
    index::tantivy::TantivyIndex,
    log::{
        BatchLimits, Delivery, Extent, Log, LogFacts, LogReader, NewRecord, Position, Record, StartAt, Topic,
        embedded::EmbeddedLog,
    },
    sink::Sink,
    store::sqlite::SqliteStore,
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    Pipeline, events, eventually,
    folder::TestFolder,
    logs::LIMITS,
    rows::{lead, leads, session},
    table,
};

/// A log whose group refuses commits while partitions move.
struct Rebalancing {
    log: EmbeddedLog,
    refuses: Arc<AtomicBool>,
}

struct RebalancingReader {
    reader: Box<dyn LogReader>,
    refuses: Arc<AtomicBool>,
}

#[async_trait]
impl Log for Rebalancing {
    fn name(&self) -> &'static str {
        self.log.name()
    }
    async fn identity(&self) -> Result<String, Fault> {
        self.log.identity().await
    }
    async fn ensure_topics(&self) -> Result<(), Fault> {
        self.log.ensure_topics().await
    }
    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, Fault> {
        self.log.append(topic, records).await
    }
    async fn reader(&self, group: &str) -> Result<Box<dyn LogReader>, Fault> {
        let reader = self.log.reader(group).await?;
        Ok(Box::new(RebalancingReader { reader, refuses: self.refuses.clone() }))
    }
    async fn extents(&self) -> Result<Vec<Extent>, Fault> {
        self.log.extents().await
    }
    async fn committed(&self, group: &str) -> Result<Vec<Position>, Fault> {
        self.log.committed(group).await
    }
    async fn max_record(&self, topic: Topic) -> Result<usize, Fault> {
        self.log.max_record(topic).await
    }
    async fn records(&self, topic: Topic, ranges: &[Extent]) -> Result<Vec<Record>, Fault> {
        self.log.records(topic, ranges).await
    }
    async fn dead_letter_extents(&self) -> Result<Vec<Extent>, Fault> {
        self.log.dead_letter_extents().await
    }
    async fn facts(&self) -> Result<LogFacts, Fault> {
        self.log.facts().await
    }
}

#[async_trait]
impl LogReader for RebalancingReader {
    async fn next(&mut self, limits: BatchLimits) -> Result<Delivery, Fault> {
        self.reader.next(limits).await
    }
    async fn start(&mut self, at: &[(i32, StartAt)]) -> Result<Vec<Position>, Fault> {
        self.reader.start(at).await
    }
    async fn hold(&mut self, pause: Duration) -> Result<(), Fault> {
        self.reader.hold(pause).await
    }
    async fn commit(&mut self, next: &[Position]) -> Result<(), Fault> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Fault::new("test", FaultKind::Fenced, "a rebalance is in progress", "wait"));
        }
        self.reader.commit(next).await
    }
    async fn close(self: Box<Self>) {
        self.reader.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_refused_while_partitions_move_is_made_afterwards_for_those_that_stay() {
    let folder = TestFolder::new();
    let db = EmbeddedDb::open(folder.path(), "test").expect("an open folder");
    let refuses = Arc::new(AtomicBool::new(true));
    let log = Arc::new(Rebalancing { log: EmbeddedLog::new(db.clone()), refuses: refuses.clone() });
    let records = (1..=30).map(|n| {
        let event = events::lead(0, uuid::Uuid::from_u128(n), 1, serde_json::json!({})).event;
        sluice::engine::event_record(&event, uuid::Uuid::nil())
    });
    log.append(Topic::Events, records.collect()).await.expect("appended");
    let index = Arc::new(TantivyIndex::new(folder.path().join("index"), Catalog::built_in()));
    let drain = Drain {
        catalog: Catalog::built_in(),
        log: log.clone(),
        sink: index.clone(),
        store: Arc::new(SqliteStore::new(db, Catalog::built_in())),
        group: "g".to_owned(),
        limits: LIMITS,
        pauses: (Duration::from_millis(10), Duration::from_millis(100)),
        stats: Arc::new(DrainStats::new("tantivy")),
        parks: true,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { drain.run(&stop).await }
    });
    eventually("everything is applied", async || {
        index
            .health()
            .await
            .is_ok_and(|health| health.counts.iter().any(|(name, n)| name == "leads" && *n == 30))
    })
    .await;
    assert_eq!(log.committed("g").await.expect("offsets"), [], "the group refused them");

    refuses.store(false, Ordering::Relaxed);
    // Not one more record comes.
    eventually("the group knows how far the sink is", async || {
        let committed: i64 = log.committed("g").await.expect("offsets").iter().map(|at| at.offset).sum();
        committed == 30
    })
    .await;
    stop.cancel();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_syncs_that_begin_at_once_beside_a_worker_both_end() {
    let pipeline = Pipeline::new().await;
    let mut worker = pipeline.command(&["worker"]).stderr(Stdio::null()).spawn().expect("a worker");
    for round in 0..4_u128 {
        let ids = round * 300 + 1..=round * 300 + 300;
        pipeline.source.upsert(table("leads"), ids.clone().map(|n| lead(n, 1)).collect());
        pipeline.source.upsert(table("chat_sessions"), ids.map(|n| session(n, 1, 3)).collect());
        let syncs = ["leads", "chat-sessions"].map(|table| {
            let mut command = pipeline.command(&["sync", table, "--wait"]);
            tokio::spawn(async move { command.output().await.expect("it runs") })
        });
        for sync in syncs {
            let output = tokio::time::timeout(Duration::from_secs(60), sync).await;
            let output =
                output.unwrap_or_else(|_| panic!("a sync of round {round} did not end")).expect("ended");
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && told.contains("done"), "{told}");
        }
    }
    worker.kill().await.expect("killed");
    pipeline.assert_events(2400).await;
    pipeline.clean_up().await;
}
