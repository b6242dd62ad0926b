//! Keeps one drain per sink running: whatever ends one, an error or a panic, it is started again and the reason kept.
//!
//! A sink that an operator paused runs nowhere: every process asks the store every few seconds and ends the drain's
//! run, which leaves its group. So a pause costs nothing and needs neither the log nor the sink to answer, and a
//! process that starts under a pause leaves the sink alone. Kafka forgets the offsets of a group that nobody is in
//! after `offsets.retention.minutes` (a week, as delivered): an index then reads the topic again, which changes
//! nothing in it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::{
    drain::Drain,
    stats::{DrainState, DrainStats},
};
use crate::{backoff::Backoff, fault::Fault, store::Pause};

/// How often the store is asked which sinks are paused.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How long a drain waits at its start for the store to tell whether it is paused: sinks are independent, so one
/// doesn't wait for the store for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// First and longest pause between attempts, unless a test wants others.
pub const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// The drains of this process.
pub struct Supervisor {
    workers: Vec<Arc<Worker>>,
    stop: CancellationToken,
    /// Cancelled when runs that do not end are given up on.
    cut: CancellationToken,
    started: AtomicBool,
    ask: Arc<Notify>,
    tasks: AsyncMutex<Vec<JoinHandle<()>>>,
}

/// A drain and what is wanted of it.
struct Worker {
    drain: Drain,
    wanted: watch::Sender<Wanted>,
    standing: watch::Sender<Standing>,
    /// Ends the run that goes on.
    end: Mutex<CancellationToken>,
    /// Ends it wherever it is.
    cut: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Nobody could be asked yet.
    Unknown,
    Running,
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Between two runs.
    Ended,
    /// Stands still until the pause ends, and says so.
    Paused,
    /// In the run of this number.
    Runs(u64),
}

/// What came of asking for a drain's restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    Restarted,
    /// It ends once its sink has answered for the batch in hand.
    Ending,
    Paused,
    /// This process has no drains.
    NotHere,
}

impl Supervisor {
    pub fn new(drains: Vec<Drain>) -> Self {
        let cut = CancellationToken::new();
        Self {
            workers: drains
                .into_iter()
                .map(|drain| Worker::new(drain, Wanted::Unknown, cut.clone()))
                .collect(),
            stop: CancellationToken::new(),
            cut,
            started: AtomicBool::new(false),
            ask: Arc::new(Notify::new()),
            tasks: AsyncMutex::new(Vec::new()),
        }
    }

    /// Starts every drain; does nothing when they run already. `pauses` asks which sinks are paused.
    pub async fn start<F, P>(&self, pauses: F)
    where
        F: Fn() -> P + Send + 'static,
        P: Future<Output = Result<Vec<Pause>, Fault>> + Send,
    {
        let mut tasks = self.tasks.lock().await;
        self.started.store(true, Ordering::Relaxed);
        if tasks.is_empty() {
            tasks.extend(
                self.workers
                    .iter()
                    .map(|worker| tokio::spawn(keep_running(worker.clone(), self.stop.clone()))),
            );
            let (workers, stop, ask) = (self.workers.clone(), self.stop.clone(), self.ask.clone());
            tasks.push(tokio::spawn(async move {
                let watching = watch_pauses(&workers, pauses, &ask);
                stop.run_until_cancelled(watching).await;
            }));
        }
    }

    /// Tells every drain to finish the batch in hand, leave its group and end.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Returns when every drain that was told to stop has ended.
    pub async fn stopped(&self) {
        let mut tasks = self.tasks.lock().await;
        while let Some(task) = tasks.last_mut() {
            if task.await.is_err() {
                error!("a drain's supervisor ended badly");
            }
            tasks.pop();
        }
    }

    /// Gives up on the drains that have not ended; returns what that leaves behind, for people.
    pub fn cut(&self) -> Vec<String> {
        self.cut.cancel();
        let running =
            self.workers.iter().filter(|worker| matches!(*worker.standing.borrow(), Standing::Runs(_)));
        running
            .map(|worker| {
                let sink = worker.drain.sink.name();
                format!(
                    "the drain into {sink} is cut where a part does not answer: of its batch in hand nothing counts \
                     that was not committed, and the next worker reads it again"
                )
            })
            .collect()
    }

    /// Whether this process drains at all.
    pub fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// What each drain measured, in a fixed order.
    pub fn stats(&self) -> impl Iterator<Item = &DrainStats> {
        self.workers.iter().map(|worker| &*worker.drain.stats)
    }

    /// Asks the store at once, and waits until a sink's drain here is as wanted, but no longer than `patience`.
    pub async fn apply_pause(&self, sink: &str, runs: bool, patience: Duration) {
        if !self.started() {
            return;
        }
        self.ask.notify_one();
        if let Some(worker) = self.worker(sink) {
            let mut standing = worker.standing.subscribe();
            let heeded = standing.wait_for(|standing| match standing {
                Standing::Ended => false,
                Standing::Paused => !runs,
                Standing::Runs(_) => runs,
            });
            tokio::time::timeout(patience, heeded).await.ok();
        }
    }

    /// Ends a drain's run cleanly and starts it anew; waits for that no longer than `patience`.
    pub async fn restart(&self, sink: &str, patience: Duration) -> Restart {
        let Some(worker) = self.worker(sink).filter(|_| self.started()) else { return Restart::NotHere };
        if *worker.wanted.borrow() == Wanted::Paused {
            return Restart::Paused;
        }
        let mut standing = worker.standing.subscribe();
        let before = *standing.borrow_and_update();
        worker.drain.stats.restarted();
        worker.end().cancel();
        info!(sink, "drain is restarted on request");
        let anew = standing.wait_for(|now| matches!(now, Standing::Runs(_)) && *now != before);
        match tokio::time::timeout(patience, anew).await {
            Ok(_) => Restart::Restarted,
            Err(_) => Restart::Ending,
        }
    }

    fn worker(&self, sink: &str) -> Option<&Arc<Worker>> {
        self.workers.iter().find(|worker| worker.drain.sink.name() == sink)
    }
}

impl Worker {
    fn new(drain: Drain, wanted: Wanted, cut: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            drain,
            wanted: watch::Sender::new(wanted),
            standing: watch::Sender::new(Standing::Ended),
            end: Mutex::new(CancellationToken::new()),
            cut,
        })
    }

    fn end(&self) -> CancellationToken {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns once it may run.
    async fn allowed(&self) {
        let mut wanted = self.wanted.subscribe();
        let told = wanted.wait_for(|wanted| *wanted != Wanted::Unknown);
        let told = tokio::time::timeout(PATIENCE, told).await.is_ok();
        if !told {
            debug!(sink = self.drain.sink.name(), "the store does not tell whether the sink is paused");
        }
        if *self.wanted.borrow() == Wanted::Paused {
            info!(sink = self.drain.sink.name(), "sink is paused");
            self.drain.stats.set_state(DrainState::Paused);
            self.standing.send_replace(Standing::Paused);
            // The sender lives as long as this worker.
            wanted.wait_for(|wanted| *wanted != Wanted::Paused).await.ok();
        }
    }

    async fn paused(&self) {
        self.wanted.subscribe().wait_for(|wanted| *wanted == Wanted::Paused).await.ok();
    }

    /// One run, to its end: its own, or because it is to stop, to pause or to start anew.
    async fn run(self: &Arc<Self>, number: u64, end: &CancellationToken) -> Result<(), Fault> {
        self.standing.send_replace(Standing::Runs(number));
        // A task of its own, so that a panic ends one run and not the supervision.
        let mut run = tokio::spawn({
            let (worker, end) = (self.clone(), end.clone());
            async move { worker.drain.run(&end).await }
        });
        let abort = run.abort_handle();
        let ended = async {
            tokio::select! {
                outcome = &mut run => outcome,
                () = self.paused() => {
                    end.cancel();
                    run.await
                }
            }
        };
        let outcome = self.cut.run_until_cancelled(ended).await;
        self.standing.send_replace(Standing::Ended);
        let Some(outcome) = outcome else {
            // Not awaited: what it holds may not even let itself be dropped.
            abort.abort();
            return Ok(());
        };
        let sink = self.drain.sink.name();
        outcome.unwrap_or_else(|_| {
            Err(Fault::transient(
                sink,
                format!("the drain of {sink} panicked"),
                "it was restarted; report this with the log lines before it",
            ))
        })
    }
}

/// Runs a drain that no operator pauses until `stop`, again after whatever ended it.
pub(super) async fn keep_draining(drain: Drain, stop: CancellationToken) {
    keep_running(Worker::new(drain, Wanted::Running, CancellationToken::new()), stop).await;
}

async fn keep_running(worker: Arc<Worker>, stop: CancellationToken) {
    let drain = &worker.drain;
    let mut backoff = Backoff::new(drain.pauses.0, drain.pauses.1);
    let mut number = 0;
    while stop.run_until_cancelled(worker.allowed()).await.is_some() {
        let end = stop.child_token();
        *worker.end.lock().unwrap_or_else(PoisonError::into_inner) = end.clone();
        number += 1;
        let Err(fault) = worker.run(number, &end).await else { continue };
        drain.stats.failed(&fault);
        drain.stats.restarted();
        let pause = backoff.next_pause(fault.retry_after);
        error!(sink = drain.sink.name(), error = %fault, ?pause, "drain ended, starting it again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Whoever asks for a restart or a pause need not wait.
            () = end.cancelled() => {}
            () = worker.paused() => {}
        }
    }
    drain.stats.set_state(DrainState::Stopped);
}

/// Keeps every worker told; what the store said last holds while it can't be asked.
async fn watch_pauses<F, P>(workers: &[Arc<Worker>], pauses: F, ask: &Notify)
where
    F: Fn() -> P,
    P: Future<Output = Result<Vec<Pause>, Fault>>,
{
    loop {
        match pauses().await {
            Ok(known) => {
                for worker in workers {
                    let is_paused = known.iter().any(|pause| pause.consumer_group == worker.drain.group);
                    let wanted = if is_paused { Wanted::Paused } else { Wanted::Running };
                    worker.wanted.send_if_modified(|held| std::mem::replace(held, wanted) != wanted);
                }
            }
            Err(fault) => debug!(error = %fault, "the store does not tell which sinks are paused"),
        }
        tokio::time::timeout(ASK_EVERY, ask.notified()).await.ok();
    }
}
