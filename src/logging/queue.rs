//! Lines on their way to an outlet. Whoever says something waits for nobody: where there is no room, a line is lost, and counted.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What an outlet is handed at once, in bytes; some proxies take no request larger than a MiB.
const BATCH: usize = 512 * 1024;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max_bytes: usize,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Arc<str>>,
    /// Of the lines here, and of those in the outlet's hand.
    bytes: usize,
    in_hand: (usize, usize),
    closed: bool,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), max_bytes, lost: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, or counts it as lost; whether it was taken.
    pub(super) fn push(&self, line: Arc<str>) -> bool {
        let mut state = self.lock();
        if state.closed || state.bytes + line.len() > self.max_bytes {
            drop(state);
            self.lose(1);
            return false;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// The next lines, which are the outlet's until it is [`Self::done`]; none where none came within that time. `None` when
    /// there will be none any more.
    pub(super) fn take(&self, within: Option<Duration>) -> Option<Vec<Arc<str>>> {
        let until = within.map(|within| Instant::now() + within);
        let mut state = self.lock();
        while state.lines.is_empty() && !state.closed {
            state = match until {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let Some(left) = until.checked_duration_since(Instant::now()) else {
                        return Some(Vec::new());
                    };
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        if state.lines.is_empty() {
            return None;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(line) = state.lines.pop_front_if(|line| bytes == 0 || bytes + line.len() <= BATCH) {
            bytes += line.len();
            batch.push(line);
        }
        state.in_hand = (batch.len(), bytes);
        Some(batch)
    }

    /// The lines that were taken are written, or given up.
    pub(super) fn done(&self) {
        let mut state = self.lock();
        state.bytes -= std::mem::take(&mut state.in_hand).1;
        drop(state);
        self.changed.notify_all();
    }

    /// Counts lines that were not written.
    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits before something is tried again; whether the queue was closed.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.closed
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.closed
    }

    pub(super) fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// Takes no more lines; what is here is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until all is written, at most until then; how many lines are left.
    pub(super) fn drained(&self, until: Instant) -> usize {
        let mut state = self.lock();
        loop {
            let left = state.lines.len() + state.in_hand.0;
            match until.checked_duration_since(Instant::now()) {
                Some(wait) if left > 0 => {
                    state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
                _ => return left,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_lines_and_counts_them_and_takes_more_once_lines_are_written() {
        let queue = Queue::new(10);
        assert!(queue.push("12345".into()) && queue.push("12345".into()));
        assert!(!queue.push("1".into()));
        assert_eq!(queue.take(None).expect("lines").len(), 2);
        assert!(!queue.push("1".into()), "what is in hand is not written yet");
        queue.done();
        assert!(queue.push("1".into()));
        assert_eq!(queue.lost(), 2);
    }

    #[test]
    fn a_batch_is_bounded_and_a_closed_queue_is_emptied() {
        let queue = Queue::new(4 * BATCH);
        for _ in 0..3 {
            assert!(queue.push("x".repeat(BATCH / 2 + 1).into()));
        }
        queue.close();
        assert!(!queue.push("late".into()));
        for left in [3, 2, 1] {
            assert_eq!(queue.drained(Instant::now()), left);
            assert_eq!(queue.take(None).expect("a line").len(), 1);
            assert!(queue.pause(Duration::from_hours(1)), "nobody waits for what is to end");
            queue.done();
        }
        assert!(queue.take(None).is_none());
        assert_eq!(queue.drained(Instant::now() + Duration::from_hours(1)), 0);
    }
}
