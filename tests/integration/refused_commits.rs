//! A drain whose group refuses commits, as groups do while partitions move, or answers none for long; or whose index is put
//! back while it has committed more.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use sluice::{
    domain::Catalog,
    embedded::EmbeddedDb,
    engine::{Drain, DrainStats},
    fault::{Fault, FaultKind},
    identity::group_name,
    index::tantivy::TantivyIndex,
    log::{
        BatchLimits, Delivery, Log as _, LogReader, NewRecord, Position, StartAt, Started, Topic,
        embedded::EmbeddedLog,
    },
    sink::Sink,
    store::{Erasures as _, sqlite::SqliteStore},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    events, eventually,
    folder::{TestFolder, copy_folder},
    logs::LIMITS,
    read_log::ReadLog,
    table,
};

/// A reader of a group that refuses commits while partitions move, or lets them hang.
struct RebalancingReader {
    reader: Box<dyn LogReader>,
    group: Arc<Group>,
}

struct Group {
    refuses: AtomicBool,
    /// Whether commits wait, and are not made until it is over.
    hangs: watch::Sender<bool>,
    /// Whom somebody erases while the first batch of several partitions is on its way, and from which store.
    erases: Mutex<Option<(Arc<SqliteStore>, Uuid)>>,
}

#[async_trait]
impl LogReader for RebalancingReader {
    async fn next(&mut self, limits: BatchLimits) -> Result<Delivery, Fault> {
        let delivery = self.reader.next(limits).await?;
        let is_mixed = matches!(&delivery, Delivery::Records(records)
            if records.iter().any(|record| record.partition != records[0].partition));
        let erased = if is_mixed { self.group.erases.lock().expect("a lock").take() } else { None };
        if let Some((store, id)) = erased {
            store.erase(table("leads"), &[id.to_string()], true).await?;
        }
        Ok(delivery)
    }
    async fn start(&mut self, at: &[(i32, StartAt)]) -> Result<Vec<Started>, Fault> {
        self.reader.start(at).await
    }
    async fn hold(&mut self, pause: Duration) -> Result<(), Fault> {
        self.reader.hold(pause).await
    }
    fn commit(&self, next: &[Position]) -> BoxFuture<'static, Result<(), Fault>> {
        if self.group.refuses.load(Ordering::Relaxed) {
            let refused = Fault::new("test", FaultKind::Fenced, "a rebalance is in progress", "wait");
            return ready(Err(refused)).boxed();
        }
        let mut hangs = self.group.hangs.subscribe();
        let commit = self.reader.commit(next);
        async move {
            hangs.wait_for(|hangs| !hangs).await.expect("the test goes on");
            commit.await
        }
        .boxed()
    }
    async fn close(self: Box<Self>) {
        self.reader.close().await;
    }
}

/// A drain of an embedded log into an index, in a group that refuses commits.
struct Bench {
    log: Arc<ReadLog>,
    group: Arc<Group>,
    index: TantivyIndex,
    store: Arc<SqliteStore>,
    stats: Arc<DrainStats>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), Fault>>,
    folder: TestFolder,
}

impl Bench {
    fn begin(limits: BatchLimits) -> Self {
        let folder = TestFolder::new();
        let db = EmbeddedDb::open(folder.path(), "test").expect("an open folder");
        let group = Arc::new(Group {
            refuses: AtomicBool::new(true),
            hangs: watch::channel(false).0,
            erases: Mutex::default(),
        });
        let log = Arc::new(ReadLog::new(EmbeddedLog::new(db.clone()), {
            let group = group.clone();
            move |reader| Box::new(RebalancingReader { reader, group: group.clone() })
        }));
        let index = TantivyIndex::new(folder.path().join("index"), Catalog::built_in());
        let store = Arc::new(SqliteStore::new(db, Catalog::built_in()));
        let stats = Arc::new(DrainStats::new("tantivy"));
        let stop = CancellationToken::new();
        let drain = Drain {
            catalog: Catalog::built_in(),
            log: log.clone(),
            sink: Arc::new(index.clone()),
            store: store.clone(),
            group: "g".to_owned(),
            limits,
            pauses: (Duration::from_millis(10), Duration::from_millis(100)),
            stats: stats.clone(),
            parks: true,
        };
        let running = tokio::spawn({
            let stop = stop.clone();
            async move {
                // As whoever supervises it does.
                while !stop.is_cancelled() {
                    drain.run(&stop).await?;
                }
                Ok(())
            }
        });
        Self { log, group, index, store, stats, stop, running, folder }
    }

    /// A drain of the same log into the store, which is its own truth of what was applied.
    fn drain_into_store(&self) -> tokio::task::JoinHandle<Result<(), Fault>> {
        let drain = Drain {
            catalog: Catalog::built_in(),
            log: self.log.clone(),
            sink: self.store.clone(),
            store: self.store.clone(),
            group: "g".to_owned(),
            limits: LIMITS,
            pauses: (Duration::from_millis(10), Duration::from_millis(100)),
            stats: Arc::new(DrainStats::new("sqlite")),
            parks: true,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { drain.run(&stop).await })
    }

    async fn append(&self, ids: &[u128]) -> Vec<i32> {
        let records = ids.iter().map(|n| {
            let event = events::lead(0, Uuid::from_u128(*n), 1, serde_json::json!({})).event;
            sluice::engine::event_record(&event, Uuid::nil())
        });
        let positions = self.log.append(Topic::Events, records.collect()).await.expect("appended");
        positions.iter().map(|position| position.partition).collect()
    }

    async fn await_leads(&self, count: u64) {
        eventually("everything is applied", async || {
            let counts = self.index.counts().await.unwrap_or_default();
            counts.iter().any(|(name, found)| name == "leads" && *found == count)
        })
        .await;
    }

    async fn committed(&self) -> i64 {
        self.committed_for(&self.index).await
    }

    async fn committed_for(&self, sink: &dyn Sink) -> i64 {
        let ids = sink.identities().await.expect("ids");
        let group = group_name("g", &self.log.identity().await.expect("an id"), &ids);
        self.log.committed(&group).await.expect("offsets").iter().map(|at| at.offset).sum()
    }

    async fn await_commits(&self, count: i64) {
        self.group.refuses.store(false, Ordering::Relaxed);
        eventually("the group knows how far the sink is", async || self.committed().await == count).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_refused_while_partitions_move_is_made_afterwards_for_those_that_stay() {
    let bench = Bench::begin(LIMITS);
    bench.append(&(1..=30).collect::<Vec<_>>()).await;
    bench.await_leads(30).await;
    assert_eq!(bench.committed().await, 0, "the group refused them");
    // Not one more record comes.
    bench.await_commits(30).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_while_commits_are_refused_loses_no_record_of_a_partition_with_nothing_to_commit() {
    for records in [LIMITS.records, 4] {
        let bench = Bench::begin(BatchLimits { records, ..LIMITS });
        let first = bench.append(&[1]).await[0];
        bench.await_leads(1).await;
        // What is on its way is of the partition that is not committed, and of others that have nothing to commit.
        *bench.group.erases.lock().expect("a lock") = Some((bench.store.clone(), Uuid::from_u128(2)));
        let partitions = bench.append(&(2..=40).collect::<Vec<_>>()).await;
        assert!(partitions.contains(&first) && partitions.iter().any(|partition| *partition != first));
        bench.await_leads(39).await;
        bench.await_commits(40).await;
        assert!(bench.group.erases.lock().expect("a lock").is_none(), "somebody was erased");
        assert!(bench.stats.report().erased > 0);
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_read_again_after_an_erasure_is_not_parked_again() {
    let bench = Bench::begin(LIMITS);
    let bad =
        NewRecord { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"{"), headers: Vec::new() };
    bench.log.append(Topic::Events, vec![bad]).await.expect("appended");
    bench.append(&(1..=20).collect::<Vec<_>>()).await;
    bench.await_leads(20).await;
    eventually("it is parked", async || bench.log.dead_letter_count().await.is_ok_and(|count| count == 1))
        .await;
    bench.store.erase(table("leads"), &[Uuid::from_u128(1).to_string()], true).await.expect("erased");
    // None of it is committed, so that all of it is read again.
    bench.await_leads(19).await;
    bench.await_commits(21).await;
    assert_eq!(bench.log.dead_letter_count().await.expect("a count"), 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_hangs_holds_up_no_batch_and_what_came_meanwhile_is_committed_after_it() {
    let bench = Bench::begin(BatchLimits { records: 4, ..LIMITS });
    bench.group.refuses.store(false, Ordering::Relaxed);
    bench.group.hangs.send_replace(true);
    bench.append(&(1..=40).collect::<Vec<_>>()).await;
    bench.await_leads(40).await;
    // Nor does it hold up what comes when there was nothing to do.
    bench.append(&(41..=50).collect::<Vec<_>>()).await;
    bench.await_leads(50).await;
    assert_eq!(bench.committed().await, 0, "none was made");
    bench.group.hangs.send_replace(false);
    bench.await_commits(50).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_and_not_committed_when_a_drain_ended_is_committed_by_the_next_though_nothing_comes()
{
    let bench = Bench::begin(LIMITS);
    bench.append(&(1..=30).collect::<Vec<_>>()).await;
    let killed = bench.drain_into_store();
    eventually("the store has it", async || {
        let counts = bench.store.counts().await.unwrap_or_default();
        counts.iter().any(|(name, found)| name == "leads" && *found == 30)
    })
    .await;
    killed.abort();
    assert!(killed.await.is_err_and(|ended| ended.is_cancelled()));
    assert_eq!(bench.committed_for(&*bench.store).await, 0, "the group refused it");

    bench.group.refuses.store(false, Ordering::Relaxed);
    let next = bench.drain_into_store();
    eventually("the group knows how far the store is", async || {
        bench.committed_for(&*bench.store).await == 30
    })
    .await;
    bench.end().await;
    next.await.expect("no panic").expect("a clean end");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_index_put_back_under_a_running_drain_is_filled_from_where_it_stands() {
    let bench = Bench::begin(LIMITS);
    bench.append(&(1..=10).collect::<Vec<_>>()).await;
    bench.await_leads(10).await;
    bench.await_commits(10).await;
    let (folder, copy) = (bench.folder.path().join("index"), bench.folder.path().join("copy"));
    copy_folder(&folder, &copy);
    bench.append(&(11..=30).collect::<Vec<_>>()).await;
    bench.await_leads(30).await;
    bench.await_commits(30).await;

    std::fs::rename(&folder, folder.with_extension("moved")).expect("moved away");
    std::fs::rename(&copy, &folder).expect("put back");
    // Not one more record comes.
    bench.await_leads(30).await;
    bench.end().await;
}
