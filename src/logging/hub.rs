//! Where every line comes by: it is written once, and handed to whoever keeps it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use tracing::Level;

use super::{
    line::{self, Entry},
    outlet::{self, Feed, Made, Outlet, Problem, Written},
    queue::Queue,
    vocabulary::{HOST, PID, ROLE, SEQUENCE, SERVICE, VERSION},
};

/// Bytes that wait for an outlet at most.
const MAX_WAITING: usize = 8 << 20;

/// As much waits for a reader of stderr.
const MAX_WAITING_FOR_STDERR: usize = 1 << 20;

/// Lines that are kept until it is known where to.
const MAX_EARLY: usize = 64;

/// What lines are handed to.
#[derive(Debug)]
pub(super) struct Hub {
    /// Lines from before it was known where to, while it is not.
    early: Mutex<Option<Vec<String>>>,
    outlets: OnceLock<Outlets>,
    /// Where stderr is not written by whoever says something.
    stderr: OnceLock<Arc<Feed>>,
    sequence: AtomicU64,
}

#[derive(Debug)]
struct Outlets {
    /// What every line of this process ends with, but for its number.
    ending: String,
    feeds: Vec<Arc<Feed>>,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            early: Mutex::new(Some(Vec::new())),
            outlets: OnceLock::new(),
            stderr: OnceLock::new(),
            sequence: AtomicU64::new(0),
        }
    }

    /// Takes what somebody says, for all outlets but that one.
    pub(super) fn hear(&self, entry: Entry, except: Option<&str>) {
        // One at a time, so that lines are kept in the order of their times and numbers. Nothing is written meanwhile.
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        let line = entry.open_line(Utc::now());
        match &mut *early {
            Some(early) if early.len() < MAX_EARLY => early.push(line.clone()),
            Some(_) => {}
            None => self.hand_over(&line, except),
        }
        drop(early);
        if except != Some(STDERR) {
            self.show(&line);
        }
    }

    fn hand_over(&self, line: &str, except: Option<&str>) {
        let Some(Outlets { ending, feeds }) = self.outlets.get() else { return };
        if feeds.is_empty() {
            return;
        }
        let number = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let line: Arc<str> = format!("{line}{ending}{number}}}").into();
        for feed in feeds.iter().filter(|feed| except != Some(feed.name)) {
            feed.queue.push(line.clone());
        }
    }

    fn show(&self, line: &str) {
        let line = format!("{line}}}\n");
        let waits = self.stderr.get().is_some_and(|feed| feed.queue.is_open());
        match self.stderr.get().filter(|_| waits) {
            Some(feed) => _ = feed.queue.push(line.into()),
            None => _ = io::stderr().lock().write_all(line.as_bytes()),
        }
    }

    /// Has stderr be written by a thread of its own: whoever started this process may not read it.
    pub(super) fn leave_stderr(self: &Arc<Self>) -> io::Result<()> {
        let feed = Arc::new(Feed { name: STDERR, queue: Queue::new(MAX_WAITING_FOR_STDERR) });
        outlet::start(feed.clone(), || Box::new(Stderr { to: io::stderr(), is_cut: false }), self.clone())?;
        self.stderr.set(feed).ok();
        Ok(())
    }

    /// Has lines kept by these outlets from now on, those from before it included.
    pub(super) fn keep(
        self: &Arc<Self>,
        role: &str,
        host: &str,
        outlets: Vec<(&'static str, Made)>,
    ) -> io::Result<()> {
        let mut feeds = Vec::new();
        for (name, outlet) in outlets {
            let feed = Arc::new(Feed { name, queue: Queue::new(MAX_WAITING) });
            outlet::start(feed.clone(), outlet, self.clone())?;
            feeds.push(feed);
        }
        let mut ending = String::new();
        line::add(&mut ending, SERVICE, &"sluice".into());
        line::add(&mut ending, VERSION, &env!("CARGO_PKG_VERSION").into());
        line::add(&mut ending, ROLE, &role.into());
        line::add(&mut ending, HOST, &host.into());
        line::add(&mut ending, PID, &std::process::id().into());
        let _ = write!(ending, ",\"{SEQUENCE}\":");
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        self.outlets.set(Outlets { ending, feeds }).ok();
        for line in early.take().into_iter().flatten() {
            self.hand_over(&line, None);
        }
        Ok(())
    }

    fn feeds(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.outlets.get().into_iter().flat_map(|outlets| &outlets.feeds)
    }

    /// How many lines each outlet lost.
    pub(super) fn lost(&self) -> Vec<(&'static str, u64)> {
        self.feeds().chain(self.stderr.get()).map(|feed| (feed.name, feed.queue.lost())).collect()
    }

    /// Has what waits be written, as far as that takes no longer; what is left is told on stderr.
    pub(super) fn finish(&self, within: Duration) {
        let until = Instant::now() + within;
        for feed in self.feeds() {
            feed.queue.close();
        }
        for feed in self.feeds() {
            let left = feed.queue.drained(until);
            if left > 0 {
                feed.queue.lose(left as u64);
            }
        }
        for (outlet, lines) in self.lost().into_iter().filter(|(name, lines)| *lines > 0 && *name != STDERR) {
            let entry =
                Entry::own(Level::WARN, "the process ends, and so many lines of its log were lost in all");
            self.show(&entry.with("outlet", outlet).with("lines", lines).open_line(Utc::now()));
        }
        if let Some(feed) = self.stderr.get() {
            feed.queue.close();
            feed.queue.drained(until.max(Instant::now() + within / 4));
        }
    }
}

pub(super) const STDERR: &str = "stderr";

/// stderr, which may be a terminal, a file, or gone: that nobody reads it is no failure.
struct Stderr<W> {
    to: W,
    /// Whether a line was begun and not ended.
    is_cut: bool,
}

impl<W: io::Write> Stderr<W> {
    fn write_whole(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            match self.to.write(text) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    text = &text[taken..];
                    self.is_cut = !text.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a line, behind the end of one that was cut.
    fn write_line(&mut self, line: &str) -> io::Result<()> {
        if self.is_cut {
            self.write_whole(b"\n")?;
        }
        self.write_whole(line.as_bytes())
    }
}

impl<W: io::Write + Send + 'static> Outlet for Stderr<W> {
    fn write(&mut self, lines: &[Arc<str>]) -> Result<Written, Problem> {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WouldBlock};
        for (written, line) in lines.iter().enumerate() {
            match self.write_line(line) {
                // There may be room later.
                Err(error)
                    if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | WouldBlock) =>
                {
                    let text = format!("stderr can't be written: {error}; make room where it goes to");
                    return Err(Problem { text, written, pause: None });
                }
                Err(_) => break,
                Ok(()) => {}
            }
        }
        Ok(Written::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has room for so many bytes.
    struct Disk {
        room: usize,
        full: io::ErrorKind,
        taken: String,
    }

    impl io::Write for Disk {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let taken = text.len().min(self.room);
            if taken == 0 {
                return Err(self.full.into());
            }
            self.room -= taken;
            self.taken.push_str(std::str::from_utf8(&text[..taken]).expect("text"));
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn stderr_on_a_full_disk_gets_every_line_once_there_is_room_and_one_that_nobody_reads_does_not_fail() {
        let lines: Vec<Arc<str>> = ["first\n", "second\n", "third\n"].map(Into::into).to_vec();
        let disk = Disk { room: 9, full: io::ErrorKind::StorageFull, taken: String::new() };
        let mut stderr = Stderr { to: disk, is_cut: false };
        let problem = stderr.write(&lines).expect_err("no room");
        assert_eq!((problem.written, &*stderr.to.taken), (1, "first\nsec"));
        assert_eq!(stderr.write(&lines[1..]).expect_err("no room").written, 0);
        stderr.to.room = 100;
        stderr.write(&lines[1..]).expect("written");
        assert_eq!(stderr.to.taken, "first\nsec\nsecond\nthird\n");
        (stderr.to.room, stderr.to.full) = (0, io::ErrorKind::BrokenPipe);
        stderr.write(&lines).expect("nobody reads it");
    }
}
