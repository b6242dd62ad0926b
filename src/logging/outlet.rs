//! Writes what a queue holds, on a thread of its own.
//!
//! Guarantee: an outlet that fails or panics is asked again until the process ends, what it can't take is counted, and that is
//! told once an outage, to the other outlets when it begins and to all once it is over. An outlet is never handed a line about
//! its own failure, and at most one a minute about what it lost: no failure feeds on itself.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tracing::Level;

use super::{
    hub::Hub,
    line::Entry,
    panics::{expected_at, expecting_panics},
    queue::Queue,
};
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
    /// When they were not all written; the others are handed over again.
    fn write(&mut self, lines: &[Arc<str>]) -> Result<Written, Problem>;
}

/// Makes an outlet on the thread that writes to it.
pub(super) type Made = Box<dyn FnOnce() -> Box<dyn Outlet> + Send>;

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
    /// The first so many lines are written, and not handed over again.
    pub(super) written: usize,
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
pub(super) fn start(
    feed: Arc<Feed>,
    outlet: impl FnOnce() -> Box<dyn Outlet> + Send + 'static,
    hub: Arc<Hub>,
) -> std::io::Result<()> {
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
    /// Whether it was told that lines can't be written.
    told_failing: bool,
    /// Of the lost lines, those that were told of.
    told_lost: u64,
    told_at: Option<Instant>,
    why: Option<String>,
}

impl Writer {
    fn new(feed: Arc<Feed>, hub: Arc<Hub>) -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        Self { feed, hub, backoff, told_failing: false, told_lost: 0, told_at: None, why: None }
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
    fn write(&mut self, outlet: &mut dyn Outlet, mut lines: &[Arc<str>]) {
        loop {
            // The line that tells of any other panic would be handed to this outlet, too, at each try.
            let outcome = expecting_panics(|| outlet.write(lines)).unwrap_or_else(|| {
                let place = expected_at().unwrap_or_default();
                Err(Problem { text: format!("it panicked at {place}; report this"), written: 0, pause: None })
            });
            match outcome {
                Ok(Written { refused }) => {
                    self.backoff.reset();
                    self.told_failing = false;
                    if let Some((count, why)) = refused {
                        self.feed.queue.lose(count);
                        self.why = Some(why);
                    }
                    return;
                }
                Err(Problem { text, written, pause }) => {
                    lines = &lines[written..];
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
        // Where something else was told just before, it is told at a later try.
        if !self.told_failing && self.may_tell() {
            self.told_failing = true;
            let entry = Entry::own(
                Level::WARN,
                "lines of the log can't be written there now; it is tried again, and what finds no room until then is counted",
            );
            let entry = entry.with("outlet", self.feed.name).with("error", why.clone());
            self.hub.hear(entry, Some(self.feed.name));
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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Writes as it is told, once each; then always.
    struct Scripted {
        script: Vec<Result<Written, Problem>>,
        wrote: Arc<Mutex<Vec<String>>>,
    }

    impl Outlet for Scripted {
        fn write(&mut self, lines: &[Arc<str>]) -> Result<Written, Problem> {
            if let Some(next) = self.script.pop() {
                return next;
            }
            self.wrote.lock().expect("no poison").extend(lines.iter().map(ToString::to_string));
            Ok(Written::default())
        }
    }

    fn scripted(script: Vec<Result<Written, Problem>>) -> (Made, Arc<Mutex<Vec<String>>>) {
        let wrote = Arc::new(Mutex::new(Vec::new()));
        let outlet = Scripted { script, wrote: wrote.clone() };
        (Box::new(|| Box::new(outlet)), wrote)
    }

    fn failing() -> Result<Written, Problem> {
        Err(Problem { text: "no room".to_owned(), written: 0, pause: None })
    }

    fn say(hub: &Hub, text: &str) {
        hub.hear(Entry::own(Level::INFO, text), None);
    }

    #[test]
    fn an_outlet_that_failed_gets_every_line_and_the_others_are_told_once() {
        let hub = Arc::new(Hub::new());
        let (one, failed) = scripted(vec![failing(), failing()]);
        let (other, works) = scripted(Vec::new());
        say(&hub, "early");
        hub.keep("worker", "um", vec![("elasticsearch", one), ("files", other)]).expect("threads");
        say(&hub, "late");
        while failed.lock().expect("no poison").len() < 2 {
            thread::yield_now();
        }
        hub.finish(Duration::from_mins(1));
        let (failed, works) = (failed.lock().expect("no poison"), works.lock().expect("no poison"));
        assert!(failed[0].contains("early") && failed[1].contains("late") && failed.len() == 2, "{failed:?}");
        let told: Vec<_> = works.iter().filter(|line| line.contains("can't be written there now")).collect();
        assert_eq!(told.len(), 1, "{works:?}");
        assert!(told[0].contains("no room") && told[0].contains("\"outlet\":\"elasticsearch\""), "{told:?}");
        assert_eq!(hub.lost(), [("elasticsearch", 0), ("files", 0)]);
    }

    #[test]
    fn an_outlet_that_panics_is_one_that_failed() {
        struct Panics;

        impl Outlet for Panics {
            fn write(&mut self, _: &[Arc<str>]) -> Result<Written, Problem> {
                panic!("as the test wants it")
            }
        }

        let hub = Arc::new(Hub::new());
        let (other, told) = scripted(Vec::new());
        hub.keep("worker", "um", vec![("files", other)]).expect("a thread");
        let feed = Arc::new(Feed { name: "elasticsearch", queue: Queue::new(1) });
        // What is closed is not tried again.
        feed.queue.close();
        Writer::new(feed.clone(), hub.clone()).write(&mut Panics, &["first".into()]);
        hub.finish(Duration::from_mins(1));
        let told = told.lock().expect("no poison");
        assert!(told.len() == 1 && told[0].contains("it panicked at"), "{told:?}");
        assert_eq!(feed.queue.lost(), 1);
    }

    #[test]
    fn lines_that_are_refused_are_counted_and_told_and_what_is_told_feeds_on_no_failure() {
        let hub = Arc::new(Hub::new());
        let refused = || Ok(Written { refused: Some((1, "mapping".to_owned())) });
        let (outlet, wrote) = scripted(vec![refused(), refused()]);
        hub.keep("worker", "um", vec![("elasticsearch", outlet)]).expect("a thread");
        say(&hub, "first");
        // It is told of once: the line that tells is refused, too, and nothing is said of that.
        while hub.lost() != [("elasticsearch", 2)] {
            thread::yield_now();
        }
        say(&hub, "last");
        hub.finish(Duration::from_mins(1));
        let wrote = wrote.lock().expect("no poison");
        assert!(wrote.len() == 1 && wrote[0].contains("last"), "{wrote:?}");
    }

    #[test]
    fn an_outage_that_begins_soon_after_a_notice_is_told_once_something_may_be_told_again() {
        let hub = Arc::new(Hub::new());
        let (other, wrote) = scripted(Vec::new());
        hub.keep("worker", "um", vec![("files", other)]).expect("a thread");
        let feed = Arc::new(Feed { name: "elasticsearch", queue: Queue::new(1) });
        let mut writer = Writer::new(feed, hub.clone());
        writer.told_at = Some(Instant::now());
        writer.tell_failing("too soon".to_owned());
        for _ in 0..2 {
            writer.told_at = None;
            writer.tell_failing("no room".to_owned());
        }
        hub.finish(Duration::from_mins(1));
        let wrote = wrote.lock().expect("no poison");
        assert!(wrote.len() == 1 && wrote[0].contains("no room"), "{wrote:?}");
    }

    #[test]
    fn who_says_something_never_waits_for_an_outlet_that_hangs() {
        struct Hangs(mpsc::Receiver<()>);

        impl Outlet for Hangs {
            fn write(&mut self, _: &[Arc<str>]) -> Result<Written, Problem> {
                self.0.recv().ok();
                Ok(Written::default())
            }
        }

        let hub = Arc::new(Hub::new());
        let (let_go, hangs) = mpsc::channel();
        hub.keep("worker", "um", vec![("elasticsearch", Box::new(|| Box::new(Hangs(hangs))))])
            .expect("a thread");
        let text = "x".repeat(8000);
        // More than there is room for.
        for _ in 0..1500 {
            say(&hub, &text);
        }
        let (_, lost) = hub.lost()[0];
        assert!((300..700).contains(&lost), "{lost}");
        hub.finish(Duration::from_millis(50));
        assert_eq!(hub.lost(), [("elasticsearch", 1500)], "what was not written by the end is lost, too");
        drop(let_go);
    }
}
