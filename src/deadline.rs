//! When whoever asks stops listening. A part that is asked under a deadline gives up in time to say why it could not
//! answer: cut off from outside, all that is known is that no answer came, and not from which part.
//!
//! It is the task's: a task that is spawned has none, and works with the timeouts that are set.

use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Asks under a deadline, or under the one that holds already where that is earlier.
pub(crate) async fn by<T>(deadline: Instant, asked: impl Future<Output = T>) -> T {
    DEADLINE.scope(earlier(deadline), asked).await
}

/// As [`by`], on a thread that blocks.
pub(crate) fn blocking_by<T>(deadline: Option<Instant>, work: impl FnOnce() -> T) -> T {
    match deadline {
        Some(deadline) => DEADLINE.sync_scope(deadline, work),
        None => work(),
    }
}

/// The deadline that holds here.
pub(crate) fn current() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}

/// A deadline, or the one that holds here where that is earlier.
pub(crate) fn earlier(deadline: Instant) -> Instant {
    current().map_or(deadline, |current| current.min(deadline))
}

/// A timeout, or what is left until the deadline where that is shorter.
pub(crate) fn cut(timeout: Duration) -> Duration {
    let left = current().map(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.map_or(timeout, |left| left.min(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_timeout_is_cut_to_what_is_left_and_an_inner_deadline_never_moves_the_outer_one() {
        assert_eq!(cut(HOUR), HOUR, "nobody asks in a hurry");
        by(Instant::now() + MINUTE, async {
            assert!(cut(HOUR) <= MINUTE && cut(HOUR) > Duration::ZERO);
            by(Instant::now() + HOUR, async { assert!(cut(HOUR) <= MINUTE) }).await;
            by(Instant::now(), async { assert_eq!(cut(HOUR), Duration::ZERO) }).await;
            let held = current();
            assert_eq!(std::thread::spawn(move || blocking_by(held, current)).join().expect("it ends"), held);
        })
        .await;
        assert_eq!(current(), None);
    }
}
