//! Writes what a queue holds, on a thread of its own.
//!
//! Guarantee: an outlet that fails is asked again until the process ends, what it can't take is counted, and that is told once
//! an outage, to the other outlets when it begins and to all once it is over. An outlet is never handed a line about its own
//! failure, and at most one a minute about what it lost: no failure feeds on itself.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use chrono::{SecondsFormat, Utc};
use tracing::Level;

use super::{hub::Hub, line::Entry, queue::Queue};
use crate::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How often something is told of one outlet at most.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Where lines go.
pub(super) trait Outlet: Send + 'static {
    /// Writes all of them, but for those that are refused for good.
    ///
    /// # Errors
    /// When none was written; they are handed over again.
    fn write(&mut self, lines: &[Arc<str>]) -> Result<Written, Problem>;
}

/// What became of lines.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Lines that are never taken, and why the first of them is not.
    pub(super) refused: Option<(u64, String)>,
}

/// Why lines could not be written, and what to do about it.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) text: String,
    /// How long the outlet asked to be left alone.
    pub(super) pause: Option<Duration>,
}

/// An outlet that is written to.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) name: &'static str,
    pub(super) queue: Queue,
}

/// Has a thread write what comes.
///
/// # Errors
/// When there can't be another thread.
pub(super) fn start(feed: Arc<Feed>, outlet: impl FnOnce() -> Box<dyn Outlet> + Send + 'static, hub: Arc<Hub>) -> std::io::Result<()> {
    let name = format!("log-{}", feed.name);
    thread::Builder::new().name(name).spawn(move || {
        // What libraries say of this thread's requests is no part of the log that it writes.
        let silence = tracing::subscriber::NoSubscriber::default();
        tracing::subscriber::with_default(silence, || Writer::new(feed, hub).run(&mut *outlet()));
    })?;
    Ok(())
}

struct Writer {
    feed: Arc<Feed>,
    hub: Arc<Hub>,
    backoff: Backoff,
    /// When lines could first not be written.
    failing_since: Option<String>,
    /// Of the lost lines, those that were told of.
    told_lost: u64,
    told_at: Option<Instant>,
    why: Option<String>,
}

impl Writer {
    fn new(feed: Arc<Feed>, hub: Arc<Hub>) -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        Self { feed, hub, backoff, failing_since: None, told_lost: 0, told_at: None, why: None }
    }

    fn run(mut self, outlet: &mut dyn Outlet) {
        let feed = self.feed.clone();
        loop {
            let untold = feed.queue.lost() > self.told_lost;
            let Some(lines) = feed.queue.take(untold.then_some(TELL_EVERY)) else { return };
            if !lines.is_empty() {
                self.write(outlet, &lines);
                feed.queue.done();
            }
            self.tell_lost();
        }
    }

    /// Writes the lines, however long that takes; gives them up only where the process ends.
    fn write(&mut self, outlet: &mut dyn Outlet, lines: &[Arc<str>]) {
        loop {
            match outlet.write(lines) {
                Ok(Written { refused }) => {
                    self.backoff.reset();
                    self.failing_since = None;
                    if let Some((count, why)) = refused {
                        self.feed.queue.lose(count);
                        self.why = Some(why);
                    }
                    return;
                }
                Err(Problem { text, pause }) => {
                    self.tell_failing(text);
                    if self.feed.queue.pause(self.backoff.next_pause(pause)) {
                        self.feed.queue.lose(lines.len() as u64);
                        return;
                    }
                }
            }
        }
    }

    fn may_tell(&mut self) -> bool {
        let may = self.told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        if may {
            self.told_at = Some(Instant::now());
        }
        may
    }

    fn tell_failing(&mut self, why: String) {
        if self.failing_since.is_none() {
            self.failing_since = Some(Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true));
            if self.may_tell() {
                let entry = Entry::own(Level::WARN, "lines of the log can't be written there now; it is tried again, and what finds no room until then is counted");
                let entry = entry.with("outlet", self.feed.name).with("error", why.clone());
                self.hub.hear(entry, Some(self.feed.name));
            }
        }
        self.why = Some(why);
    }

    /// Once it works, or where it does and something was refused or found no room.
    fn tell_lost(&mut self) {
        let lost = self.feed.queue.lost();
        if lost == self.told_lost || !self.may_tell() {
            return;
        }
        let mut entry = Entry::own(Level::WARN, "lines of the log were lost")
            .with("outlet", self.feed.name)
            .with("lines", lost - self.told_lost);
        if let Some(why) = self.why.take() {
            entry = entry.with("error", why);
        }
        self.told_lost = lost;
        self.hub.hear(entry, None);
    }
}
