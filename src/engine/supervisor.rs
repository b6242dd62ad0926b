//! Keeps one drain per sink running: whatever ends one, an error or a panic, it is started again and the reason kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{
    drain::Drain,
    stats::{DrainReport, DrainState},
};
use crate::{backoff::Backoff, fault::Fault};

/// The drains of this process.
pub struct Supervisor {
    drains: Vec<Drain>,
    stop: CancellationToken,
    started: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Supervisor {
    pub fn new(drains: Vec<Drain>) -> Self {
        Self {
            drains,
            stop: CancellationToken::new(),
            started: AtomicBool::new(false),
            tasks: Mutex::new(Vec::new()),
        }
    }

    /// Starts every drain; does nothing when they run already.
    pub async fn start(&self) {
        let mut tasks = self.tasks.lock().await;
        self.started.store(true, Ordering::Relaxed);
        if tasks.is_empty() {
            tasks.extend(
                self.drains.iter().map(|drain| tokio::spawn(keep_running(drain.clone(), self.stop.clone()))),
            );
        }
    }

    /// Lets every drain finish the batch in hand, leave its group and end.
    pub async fn stop(&self) {
        self.stop.cancel();
        for task in self.tasks.lock().await.drain(..) {
            if let Err(error) = task.await {
                error!(%error, "a drain's supervisor ended badly");
            }
        }
    }

    /// Whether this process drains at all.
    pub fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// How each drain is, in a fixed order.
    pub fn reports(&self) -> Vec<DrainReport> {
        self.drains.iter().map(|drain| drain.stats.report()).collect()
    }
}

/// Runs a drain until `stop`, again after whatever ended it.
pub(super) async fn keep_running(drain: Drain, stop: CancellationToken) {
    let mut backoff = Backoff::new(drain.pauses.0, drain.pauses.1);
    let drain = Arc::new(drain);
    while !stop.is_cancelled() {
        // A task of its own, so that a panic ends one run and not the supervision.
        let run = tokio::spawn({
            let (drain, stop) = (drain.clone(), stop.clone());
            async move { drain.run(&stop).await }
        });
        let fault = match run.await {
            Ok(Ok(())) => continue,
            Ok(Err(fault)) => fault,
            Err(panic) => Fault::transient(
                drain.sink.name(),
                format!("the drain of {} panicked: {panic}", drain.sink.name()),
                "it was restarted; report this with the log lines before it",
            ),
        };
        drain.stats.failed(&fault);
        drain.stats.restarted();
        let pause = backoff.next_pause(fault.retry_after);
        error!(sink = drain.sink.name(), error = %fault, ?pause, "drain ended, starting it again");
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    drain.stats.set_state(DrainState::Stopped);
}

/// First and longest pause between attempts, unless a test wants others.
pub const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
