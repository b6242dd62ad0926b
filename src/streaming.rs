//! Rows on their way from a part to whoever takes them one by one.
//!
//! Guarantee: a stream that broke off is never taken for one that ended, whatever broke it: the end is sent like an
//! item, with the number of those before it, and who takes them has counted the same.

use std::any::Any;

use tokio::sync::mpsc;

use crate::fault::Fault;

/// Items that wait to be taken: a part that is faster than the disk waits, and memory does not grow.
const WAITING: usize = 16;

enum Sent<T> {
    One(T),
    End(u64),
}

/// Nobody takes the items any more.
#[derive(Debug)]
pub(crate) struct NobodyTakes;

/// The end of a stream at which items are put in.
pub(crate) struct Sending<T> {
    items: mpsc::Sender<Result<Sent<T>, Fault>>,
    sent: u64,
}

/// A stream of items whose end is certain.
pub struct Streamed<T> {
    items: mpsc::Receiver<Result<Sent<T>, Fault>>,
    part: &'static str,
    taken: u64,
    ended: bool,
    /// Ends the work behind the stream when this is dropped.
    guard: Option<Box<dyn Any + Send + Sync>>,
}

/// Both ends of a stream that a part fills.
pub(crate) fn stream<T>(part: &'static str) -> (Sending<T>, Streamed<T>) {
    let (sender, items) = mpsc::channel(WAITING);
    (Sending { items: sender, sent: 0 }, Streamed { items, part, taken: 0, ended: false, guard: None })
}

impl<T> Sending<T> {
    pub(crate) async fn send(&mut self, item: T) -> Result<(), NobodyTakes> {
        self.sent += 1;
        self.items.send(Ok(Sent::One(item))).await.map_err(|_| NobodyTakes)
    }

    /// As [`Sending::send`], on a thread that may wait.
    pub(crate) fn send_blocking(&mut self, item: T) -> Result<(), NobodyTakes> {
        self.sent += 1;
        self.items.blocking_send(Ok(Sent::One(item))).map_err(|_| NobodyTakes)
    }

    /// Says that these were all, or why there are no more.
    pub(crate) async fn finish(self, outcome: Result<(), Fault>) {
        self.items.send(outcome.map(|()| Sent::End(self.sent))).await.ok();
    }

    /// As [`Sending::finish`], on a thread that may wait.
    pub(crate) fn finish_blocking(self, outcome: Result<(), Fault>) {
        self.items.blocking_send(outcome.map(|()| Sent::End(self.sent))).ok();
    }
}

impl<T> Streamed<T> {
    pub(crate) fn guarded(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// The next item; `None` once all were taken.
    ///
    /// # Errors
    /// The part's own, and where the stream broke off.
    pub async fn next(&mut self) -> Result<Option<T>, Fault> {
        if self.ended {
            return Ok(None);
        }
        match self.items.recv().await {
            Some(Ok(Sent::One(item))) => {
                self.taken += 1;
                Ok(Some(item))
            }
            Some(Ok(Sent::End(sent))) if sent == self.taken => {
                self.ended = true;
                Ok(None)
            }
            Some(Err(fault)) => Err(fault),
            Some(Ok(Sent::End(_))) | None => Err(Fault::transient(
                self.part,
                format!("the rows broke off after {}", self.taken),
                "try again; if it happens again report this",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_ends_only_where_its_end_was_sent() {
        let (mut sending, mut whole) = stream("part");
        sending.send(1).await.expect("taken");
        sending.finish(Ok(())).await;
        assert_eq!(whole.next().await.expect("an item"), Some(1));
        assert_eq!(whole.next().await.expect("the end"), None);
        assert_eq!(whole.next().await.expect("still the end"), None);

        let (mut sending, mut broken) = stream("part");
        sending.send(1).await.expect("taken");
        drop(sending);
        assert_eq!(broken.next().await.expect("an item"), Some(1));
        let fault = broken.next().await.expect_err("it broke off");
        assert!(fault.to_string().contains("broke off after 1"), "{fault}");
    }
}
