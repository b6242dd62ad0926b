//! How long to wait before asking a busy server again, and when to hand the waiting over to the engine.

use std::time::Duration;

use rand::RngExt;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The engine backs off without end; in here only a hiccup is bridged, so that the log's reader stays alive.
const MAX_RETRIES: u32 = 4;
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The retries of one request.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    taken: u32,
}

impl Backoff {
    /// The pause before the next try; `None` when there is none any more, or the server asked for a longer one.
    pub(super) fn next(&mut self, asked_for: Option<Duration>) -> Option<Duration> {
        if self.taken == MAX_RETRIES || asked_for.is_some_and(|pause| pause > MAX_PAUSE) {
            return None;
        }
        let ceiling = (FIRST_PAUSE * 2_u32.pow(self.taken)).min(MAX_PAUSE);
        self.taken += 1;
        // Half fixed, half drawn: workers that were refused together do not come back together.
        let drawn = ceiling.mul_f64(rand::rng().random_range(0.5..=1.0));
        Some(asked_for.map_or(drawn, |pause| pause.max(drawn)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::default();
        for ceiling in [100, 200, 400, 800] {
            let pause = backoff.next(None).expect("a retry");
            assert!(pause <= Duration::from_millis(ceiling), "{pause:?}");
            assert!(pause >= Duration::from_millis(ceiling / 2), "{pause:?}");
        }
        assert_eq!(backoff.next(None), None);
    }

    #[test]
    fn a_pause_the_server_asks_for_is_kept_and_a_long_one_is_left_to_the_engine() {
        let asked = Duration::from_secs(1);
        assert_eq!(Backoff::default().next(Some(asked)), Some(asked));
        assert_eq!(Backoff::default().next(Some(Duration::from_secs(30))), None);
    }
}
