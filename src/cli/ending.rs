//! How a process that serves, drains or syncs ends: within ten seconds of being asked, whatever hangs.
//!
//! What is under way is finished where that takes no longer; then it is cut, and what that leaves behind is said.
//! Nothing is lost by a cut: an offset, a mark or a coverage moves only with what it stands for. A thread of its own
//! ends the process should even the cutting hang, as a client of a broker that went silent may.

use std::{
    process,
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::output;
use crate::engine::Engine;

/// From being asked to the end of the process: what supervisors of processes wait before they kill.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Of that, what remains for cutting what hangs, and for saying so.
const CUTTING: Duration = Duration::from_secs(2);

/// How long connections may take to close after calls under way have ended.
const CLOSING: Duration = Duration::from_secs(1);

/// What the last thread keeps of it for itself.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The one deadline of a process.
#[derive(Clone)]
pub(super) struct Ending {
    within: Duration,
    asked: CancellationToken,
    begun: Arc<OnceLock<Instant>>,
    /// Whether what was asked for failed, once that was said.
    told: Arc<OnceLock<bool>>,
}

impl Ending {
    /// Sees to it that the process ends once `signals` is done.
    pub(super) fn new(signals: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::after(Duration::ZERO, signals)
    }

    /// As [`Ending::new`], where calls under way may take so long by their settings.
    pub(super) fn after(grace: Duration, signals: impl Future<Output = ()> + Send + 'static) -> Self {
        let ending = Self {
            within: END_WITHIN.max(grace + CUTTING + CLOSING),
            asked: CancellationToken::new(),
            begun: Arc::default(),
            told: Arc::default(),
        };
        let heard = ending.clone();
        tokio::spawn(async move {
            signals.await;
            heard.begin();
            heard.asked.cancel();
        });
        ending
    }

    /// Done when the process is asked to end.
    pub(super) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Ends the engine, and says what had to be cut.
    pub(super) async fn shut_down(&self, engine: &Engine) {
        for left in engine.shut_down_by(self.begin() + self.within - CUTTING).await {
            warn!("{left}");
        }
    }

    /// What `question` comes to, unless the time is over before.
    pub(super) async fn in_time<T>(&self, question: impl Future<Output = T>) -> Option<T> {
        let until = self.begin() + self.within - 2 * LAST_WORD;
        tokio::time::timeout_at(until, question).await.ok()
    }

    /// All is done and said: what still takes its time, as files that are closed on a busy disk, changes nothing of it.
    pub(super) fn told(&self, failed: bool) {
        self.told.set(failed).ok();
    }

    /// When the end began; from now on it is certain.
    fn begin(&self) -> Instant {
        *self.begun.get_or_init(|| {
            let (within, told) = (self.within, self.told.clone());
            let last = thread::Builder::new().name("ending".to_owned()).spawn(move || {
                thread::sleep(within.saturating_sub(LAST_WORD));
                let (note, code) = last_word(told.get().copied(), within);
                if let Some(note) = note {
                    crate::logging::keep_failure(&note);
                    at_most(LAST_WORD / 2, move || output::note(note));
                }
                at_most(LAST_WORD / 2, || crate::logging::finish_within(LAST_WORD / 2));
                process::exit(code);
            });
            if let Err(error) = last {
                error!(%error, "no thread for the end of the process: what hangs holds it up");
            }
            Instant::now()
        })
    }
}

/// Does what may have to wait for a reader of stderr, and leaves it to itself after that time.
fn at_most(time: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        work();
        done.send(()).ok();
    });
    if started.is_ok() {
        is_done.recv_timeout(time).ok();
    }
}

/// What is said, and how the process ends, when something outlasts its time.
fn last_word(told: Option<bool>, within: Duration) -> (Option<String>, i32) {
    match told {
        Some(failed) => (None, i32::from(failed)),
        None => {
            let note = format!(
                "error: something still hangs {} s after this process was asked to end, so it ends as it is; what was not \
                 committed is read again",
                within.as_secs()
            );
            (Some(note), 1)
        }
    }
}

/// Done when the process is asked to end, from this call on: who asks before the future is polled is heard, too.
pub(super) fn signals() -> impl Future<Output = ()> + Send + 'static {
    #[cfg(unix)]
    let (mut interrupts, mut terminations, mut hangups) = {
        use tokio::signal::unix::{SignalKind, signal};
        let hangups = (!ignores_hangups()).then(|| signal(SignalKind::hangup()).ok()).flatten();
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), hangups)
    };
    async move {
        #[cfg(unix)]
        if let (Ok(interrupts), Ok(terminations)) = (&mut interrupts, &mut terminations) {
            let hung_up = async {
                match &mut hangups {
                    Some(hangups) => hangups.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
                _ = hung_up => {}
            }
            return;
        }
        tokio::signal::ctrl_c().await.ok();
    }
}

/// Whether the process was started so that it outlives its terminal, as `nohup` starts it. A handler would undo that.
#[cfg(unix)]
fn ignores_hangups() -> bool {
    const HANGUP: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANGUP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_word_that_nobody_reads_is_waited_for_no_longer_than_that() {
        let (reader, unread) = mpsc::channel::<()>();
        at_most(Duration::from_millis(1), move || _ = unread.recv());
        let (said, heard) = mpsc::channel();
        at_most(Duration::from_mins(1), move || said.send(()).expect("heard"));
        assert_eq!(heard.try_recv(), Ok(()));
        drop(reader);
    }

    #[test]
    fn what_closes_slowly_after_all_was_said_changes_nothing_of_how_it_ended() {
        assert_eq!(last_word(Some(false), END_WITHIN), (None, 0));
        assert_eq!(last_word(Some(true), END_WITHIN), (None, 1));
        let (note, code) = last_word(None, END_WITHIN);
        assert!(note.is_some_and(|note| note.contains("something still hangs 10 s")) && code == 1);
    }
}
