//! Jittered exponential backoff: how long to leave a failing part alone.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Pauses that double from `first` to `longest`, each drawn from the upper half of its range so that several
/// processes do not return at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The pause after one more failure; `requested` is what the failing part asked for, and is a lower bound.
    pub fn next_pause(&mut self, requested: Option<Duration>) -> Duration {
        let full = self.first.saturating_mul(2_u32.saturating_pow(self.failures.min(30))).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let drawn = full.mul_f64(rand::random_range(0.5..=1.0));
        requested.map_or(drawn, |pause| drawn.max(pause))
    }

    /// Forgets the failures: something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// No server means more: a clock can't be moved on by an age of the universe.
const MAX_PAUSE: Duration = Duration::from_hours(365 * 24);

/// How long `Retry-After` asks to wait: seconds, or a date. RFC 9110, section 10.2.3.
pub(crate) fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(MAX_PAUSE, |seconds| Duration::from_secs(seconds).min(MAX_PAUSE)));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    (date.to_utc() - now).to_std().ok().map(|pause| pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next_pause(None);
            assert!(pause >= Duration::from_millis(full / 2) && pause <= Duration::from_millis(full));
        }
        backoff.reset();
        assert!(backoff.next_pause(None) <= Duration::from_millis(100));
    }

    #[test]
    fn a_requested_pause_is_never_cut_short() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
        assert_eq!(backoff.next_pause(Some(Duration::from_secs(9))), Duration::from_secs(9));
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for _ in 0..1000 {
            assert!(backoff.next_pause(None) <= Duration::from_secs(30));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc2822("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date").to_utc();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:27 GMT", now), None);
        assert_eq!(retry_after("amanhã", now), None);
        assert_eq!(retry_after("18446744073709551615", now), Some(MAX_PAUSE));
        assert_eq!(retry_after("99999999999999999999999", now), Some(MAX_PAUSE));
        assert_eq!(retry_after("", now), None);
    }
}
