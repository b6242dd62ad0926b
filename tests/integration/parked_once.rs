//! A record that no sink can take is parked once, however often it is read until its batch is applied.

use std::{
    collections::VecDeque,
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
    fault::Fault,
    identity::Identity,
    log::{
        BatchLimits, Delivery, Extent, Log as _, LogReader, Position, Record, StartAt, Started,
        embedded::EmbeddedLog,
    },
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
    store::sqlite::SqliteStore,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{events, eventually, folder::TestFolder, logs::LIMITS, read_log::ReadLog};

/// A reader that delivers what a test wrote down.
struct ScriptedReader(VecDeque<Delivery>);

#[async_trait]
impl LogReader for ScriptedReader {
    async fn next(&mut self, limits: BatchLimits) -> Result<Delivery, Fault> {
        let Some(delivery) = self.0.pop_front() else {
            tokio::time::sleep(limits.wait).await;
            return Ok(Delivery::Idle);
        };
        Ok(delivery)
    }
    async fn start(&mut self, at: &[(i32, StartAt)]) -> Result<Vec<Started>, Fault> {
        let started = |&(partition, at): &(i32, StartAt)| {
            let asked = if let StartAt::Offset(offset) = at { Some(offset) } else { None };
            let extent = Extent { partition, low: 0, high: 1 };
            Started { partition, offset: asked.unwrap_or_default(), asked, committed: None, extent }
        };
        Ok(at.iter().map(started).collect())
    }
    async fn hold(&mut self, pause: Duration) -> Result<(), Fault> {
        tokio::time::sleep(pause).await;
        Ok(())
    }
    fn commit(&self, _next: &[Position]) -> BoxFuture<'static, Result<(), Fault>> {
        ready(Ok(())).boxed()
    }
    async fn close(self: Box<Self>) {}
}

/// A sink that fails once in passing, and keeps offsets and nothing else.
struct FailsOnce {
    has_failed: AtomicBool,
    next: Mutex<[Option<i64>; 2]>,
}

impl FailsOnce {
    fn positions(&self) -> Vec<Position> {
        let next = *self.next.lock().expect("a lock");
        let position =
            |(partition, offset): (i32, Option<i64>)| offset.map(|offset| Position { partition, offset });
        (0..).zip(next).filter_map(position).collect()
    }
}

#[async_trait]
impl Sink for FailsOnce {
    fn name(&self) -> &'static str {
        "fake"
    }
    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        Ok(vec![Identity { place: "fake".to_owned(), id: "1".to_owned() }])
    }
    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }
    async fn claim(&self, _log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        let stored = self.positions();
        let claim = |&partition: &i32| {
            let at = stored.iter().find(|at| at.partition == partition);
            Claim {
                partition,
                epoch: 1,
                start: at.map_or(StartAt::Beginning, |at| StartAt::Offset(at.offset)),
            }
        };
        Ok(partitions.iter().map(claim).collect())
    }
    async fn apply(&self, _log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            return Err(Fault::transient("fake", "it does not answer", "wait").into());
        }
        for span in &batch.spans {
            self.next.lock().expect("a lock")[usize::try_from(span.partition).expect("small")] =
                Some(span.next);
        }
        Ok(Applied::default())
    }
    fn obeys_erasures(&self) -> bool {
        true
    }
    async fn discard(&self, _: &[SinkEvent]) -> Result<(), Fault> {
        Ok(())
    }
    async fn remove_events(&self, _: &[Uuid]) -> Result<(), Fault> {
        Ok(())
    }
    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(Some(self.positions()))
    }
    async fn make_visible(&self) -> Result<(), Fault> {
        Ok(())
    }
    async fn health(&self) -> Result<SinkHealth, Fault> {
        Ok(SinkHealth { version: "1".to_owned(), clock: None })
    }
    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        Ok(Vec::new())
    }
}

fn record(partition: i32, value: Bytes) -> Record {
    Record {
        partition,
        offset: 0,
        appended_at: None,
        key: None,
        value: Some(value),
        headers: Vec::new(),
        has_unreadable_headers: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_batch_failed_is_parked_once_though_another_partition_s_batch_succeeds_before_it() {
    let bad = record(0, Bytes::from_static(b"{"));
    let good = record(1, events::manual(0, serde_json::json!({})).event.encode());
    let deliveries = [
        Delivery::Assigned(vec![0, 1]),
        Delivery::Records(vec![bad.clone(), good.clone()]),
        Delivery::Idle, // nothing is there behind it
        Delivery::Records(vec![good]),
        Delivery::Idle,
        Delivery::Records(vec![bad]),
    ];
    let folder = TestFolder::new();
    let db = EmbeddedDb::open(folder.path(), "test").expect("an open folder");
    let deliveries = Mutex::new(VecDeque::from(deliveries));
    let log = Arc::new(ReadLog::new(EmbeddedLog::new(db.clone()), move |_| {
        Box::new(ScriptedReader(std::mem::take(&mut *deliveries.lock().expect("a lock"))))
    }));
    let sink = Arc::new(FailsOnce { has_failed: AtomicBool::new(false), next: Mutex::default() });
    let store = Arc::new(SqliteStore::new(db, Catalog::built_in()));
    store.prepare().await.expect("prepared");
    let (stats, stop) = (Arc::new(DrainStats::new("fake")), CancellationToken::new());
    let drain = Drain {
        catalog: Catalog::built_in(),
        log: log.clone(),
        sink: sink.clone(),
        store,
        group: "g".to_owned(),
        limits: LIMITS,
        pauses: (Duration::from_millis(10), Duration::from_millis(100)),
        stats: stats.clone(),
        parks: true,
    };
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { drain.run(&stop).await }
    });
    let passed = [0, 1].map(|partition| Position { partition, offset: 1 });
    eventually("both partitions are passed", async || sink.positions() == passed).await;
    stop.cancel();
    running.await.expect("no panic").expect("a clean end");
    assert_eq!(stats.report().retries, 1, "its batch failed once");
    assert_eq!(log.dead_letter_count().await.expect("a count"), 1);
}
