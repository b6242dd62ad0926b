//! What a drain has on its way into a sink: one batch, or two where the sink takes them in any order.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use sluice::{
    domain::Catalog,
    embedded::EmbeddedDb,
    engine::{Drain, DrainStats},
    fault::Fault,
    identity::Identity,
    log::{
        BatchLimits, Delivery, Extent, LogReader, Position, Record, StartAt, Started, embedded::EmbeddedLog,
    },
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
    store::sqlite::SqliteStore,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{events, eventually, folder::TestFolder, logs::LIMITS, read_log::ReadLog};

/// What happened, in its order: batches by the offset of their one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Begun(i64),
    Ended(i64),
    Failed(i64),
    /// Everything before this offset.
    Committed(i64),
    /// The reader was asked for the next thing after it had reported a revocation.
    LetGo,
}
use Seen::{Begun, Committed, Ended, Failed, LetGo};

type History = Arc<watch::Sender<Vec<Seen>>>;

/// Delivers one record of partition 0 at a time.
struct OneByOne {
    history: History,
    records: Vec<Record>,
    /// The next change of the partitions, and after how many records it comes.
    changes: Vec<(usize, Delivery)>,
    next: usize,
    is_revoked: bool,
}

#[async_trait]
impl LogReader for OneByOne {
    async fn next(&mut self, limits: BatchLimits) -> Result<Delivery, Fault> {
        if std::mem::take(&mut self.is_revoked) {
            self.history.send_modify(|history| history.push(LetGo));
        }
        if let Some((_, change)) = self.changes.pop_if(|(after, _)| *after <= self.next) {
            self.is_revoked = matches!(change, Delivery::Revoked(_));
            return Ok(change);
        }
        let Some(record) = self.records.get(self.next) else {
            tokio::time::sleep(limits.wait).await;
            return Ok(Delivery::Idle);
        };
        self.next += 1;
        Ok(Delivery::Records(vec![record.clone()]))
    }
    async fn start(&mut self, at: &[(i32, StartAt)]) -> Result<Vec<Started>, Fault> {
        let committed = committed(&self.history.borrow());
        self.next = usize::try_from(committed.unwrap_or_default()).expect("an offset");
        let started = |&(partition, _): &(i32, StartAt)| Started {
            partition,
            offset: committed.unwrap_or_default(),
            asked: None,
            committed,
            extent: Extent { partition, low: 0, high: 100 },
        };
        Ok(at.iter().map(started).collect())
    }
    async fn hold(&mut self, pause: Duration) -> Result<(), Fault> {
        tokio::time::sleep(pause).await;
        Ok(())
    }
    fn commit(&self, next: &[Position]) -> BoxFuture<'static, Result<(), Fault>> {
        let next = next[0].offset;
        self.history.send_modify(|history| history.push(Committed(next)));
        ready(Ok(())).boxed()
    }
    async fn close(self: Box<Self>) {}
}

fn committed(history: &[Seen]) -> Option<i64> {
    history.iter().rev().find_map(|seen| if let Committed(offset) = seen { Some(*offset) } else { None })
}

/// A sink in which batches end when a test says so.
struct Slow {
    history: History,
    takes_any_order: bool,
    /// Batches from this one on wait.
    ends_below: watch::Sender<i64>,
    /// The one that may end although others before it wait.
    ends_early: watch::Sender<Option<i64>>,
    fails_once: Mutex<Option<i64>>,
}

impl Slow {
    fn saw(&self, seen: Seen) {
        self.history.send_modify(|history| history.push(seen));
    }
}

#[async_trait]
impl Sink for Slow {
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
        let claim = |&partition: &i32| Claim { partition, epoch: 1, start: StartAt::Committed };
        Ok(partitions.iter().map(claim).collect())
    }
    async fn apply(&self, _log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        let Some(first) = batch.events.first().map(|event| event.position.offset) else {
            return Ok(Applied::default());
        };
        self.saw(Begun(first));
        let (mut below, mut early) = (self.ends_below.subscribe(), self.ends_early.subscribe());
        tokio::select! {
            _ = below.wait_for(|below| first < *below) => {}
            _ = early.wait_for(|early| *early == Some(first)) => {}
        }
        if self.fails_once.lock().expect("a lock").take_if(|fails| *fails == first).is_some() {
            self.saw(Failed(first));
            return Err(Fault::transient("fake", "it does not answer", "wait").into());
        }
        self.saw(Ended(first));
        Ok(Applied::default())
    }
    fn takes_any_order(&self) -> bool {
        self.takes_any_order
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
        Ok(None)
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

struct Bench {
    sink: Arc<Slow>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Fault>>,
    _folder: TestFolder,
}

impl Bench {
    /// A drain of these events, each a batch; partition 0 is revoked after so many.
    async fn begin(events: Vec<SinkEvent>, takes_any_order: bool, revoked_after: Option<usize>) -> Self {
        let history = History::default();
        let record = |(offset, event): (i64, SinkEvent)| Record {
            partition: 0,
            offset,
            appended_at: None,
            key: None,
            value: Some(event.raw),
            headers: Vec::new(),
            has_unreadable_headers: false,
        };
        let records: Vec<Record> = (0..).zip(events).map(record).collect();
        let folder = TestFolder::new();
        let db = EmbeddedDb::open(folder.path(), "test").expect("an open folder");
        let store = Arc::new(SqliteStore::new(db.clone(), Catalog::built_in()));
        store.prepare().await.expect("prepared");
        let sink = Arc::new(Slow {
            history: history.clone(),
            takes_any_order,
            ends_below: watch::channel(0).0,
            ends_early: watch::channel(None).0,
            fails_once: Mutex::default(),
        });
        let drain = Drain {
            catalog: Catalog::built_in(),
            log: Arc::new(ReadLog::new(EmbeddedLog::new(db), move |_| {
                let revoked = revoked_after.map(|after| (after, Delivery::Revoked(vec![0])));
                let changes = revoked.into_iter().chain([(0, Delivery::Assigned(vec![0]))]).collect();
                let (history, records) = (history.clone(), records.clone());
                Box::new(OneByOne { history, records, changes, next: 0, is_revoked: false })
            })),
            sink: sink.clone(),
            store,
            group: "g".to_owned(),
            limits: LIMITS,
            pauses: (Duration::from_millis(10), Duration::from_millis(100)),
            stats: Arc::new(DrainStats::new("fake")),
            parks: true,
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { drain.run(&stop).await }
        });
        Self { sink, stop, running, _folder: folder }
    }

    fn history(&self) -> Vec<Seen> {
        self.sink.history.borrow().clone()
    }

    async fn saw(&self, seen: Seen) {
        eventually(&format!("{seen:?}"), async || self.history().contains(&seen)).await;
    }

    /// What the sink has done, without what the group was told.
    fn done(&self) -> Vec<Seen> {
        let mut done = self.history();
        done.retain(|seen| !matches!(seen, Committed(_)));
        done
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("a clean end");
    }
}

fn leads(count: u128) -> Vec<SinkEvent> {
    (1..=count).map(|n| events::lead(0, Uuid::from_u128(n), 1, serde_json::json!({}))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_any_order_will_do_a_second_batch_is_begun_with_and_committed_after_the_first() {
    let bench = Bench::begin(leads(4), true, None).await;
    bench.saw(Begun(0)).await;
    bench.saw(Begun(1)).await;
    bench.sink.ends_early.send_replace(Some(1));
    bench.saw(Ended(1)).await;
    let history = bench.history();
    let is_more = |seen: &Seen| !matches!(seen, Begun(0 | 1) | Ended(1));
    assert!(!history.iter().any(is_more), "neither a third nor a commit: {history:?}");
    bench.sink.ends_below.send_replace(100);
    bench.saw(Committed(4)).await;
    assert!(bench.history().iter().position(|seen| *seen == Ended(0)) < first_commit(&bench.history()));
    bench.end().await;
}

fn first_commit(history: &[Seen]) -> Option<usize> {
    history.iter().position(|seen| matches!(seen, Committed(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_will_not_do_one_batch_ends_before_the_next_is_begun_with() {
    let bench = Bench::begin(leads(3), false, None).await;
    bench.sink.ends_below.send_replace(100);
    bench.saw(Committed(3)).await;
    assert_eq!(bench.done(), [Begun(0), Ended(0), Begun(1), Ended(1), Begun(2), Ended(2)]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_with_equal_versions_of_one_entity_or_the_same_event_are_applied_in_their_order() {
    let id = Uuid::from_u128(1);
    let named = |name: &str| events::lead(0, id, 7, serde_json::json!({ "nome": name }));
    let other = events::lead(0, Uuid::from_u128(2), 7, serde_json::json!({}));
    for (first, second) in [(named("a"), named("b")), (other.clone(), other)] {
        let bench = Bench::begin(vec![first, second], true, None).await;
        bench.saw(Begun(0)).await;
        // Longer than a drain takes to begin with what it has.
        let begun = timeout(Duration::from_millis(500), bench.saw(Begun(1))).await;
        assert!(begun.is_err(), "{:?}", bench.history());
        bench.sink.ends_below.send_replace(100);
        bench.saw(Committed(2)).await;
        assert_eq!(bench.done(), [Begun(0), Ended(0), Begun(1), Ended(1)]);
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_batch_that_failed_is_applied_again_and_not_committed_before_it() {
    let bench = Bench::begin(leads(3), true, None).await;
    *bench.sink.fails_once.lock().expect("a lock") = Some(0);
    bench.saw(Begun(1)).await;
    bench.sink.ends_early.send_replace(Some(1));
    bench.saw(Ended(1)).await;
    bench.sink.ends_below.send_replace(100);
    bench.saw(Committed(3)).await;
    let history = bench.history();
    let failed = history.iter().position(|seen| *seen == Failed(0)).expect("it failed");
    let again = history[failed..].iter().position(|seen| *seen == Ended(0)).expect("again") + failed;
    assert!(first_commit(&history).is_some_and(|commit| commit > again), "{history:?}");
    assert!(history[failed..].contains(&Ended(1)), "{history:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_let_go_once_what_is_on_its_way_has_ended() {
    for takes_any_order in [true, false] {
        let bench = Bench::begin(leads(2), takes_any_order, Some(2)).await;
        bench.saw(Begun(0)).await;
        let let_go = timeout(Duration::from_millis(300), bench.saw(LetGo)).await;
        assert!(let_go.is_err(), "{:?}", bench.history());
        bench.sink.ends_below.send_replace(100);
        bench.saw(LetGo).await;
        assert!(bench.history().ends_with(&[Committed(2), LetGo]), "{:?}", bench.history());
        assert!(bench.done().contains(&Ended(0)) && bench.done().contains(&Ended(1)));
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_stopped_commits_what_was_on_its_way() {
    let bench = Bench::begin(leads(2), true, None).await;
    bench.saw(Begun(1)).await;
    bench.stop.cancel();
    bench.sink.ends_below.send_replace(100);
    let (sink, running) = (bench.sink.clone(), bench.running);
    running.await.expect("no panic").expect("a clean end");
    assert_eq!(committed(&sink.history.borrow()), Some(2), "{:?}", sink.history.borrow());
}
