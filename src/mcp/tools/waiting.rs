//! How long a call may wait for what it started.

use std::time::Duration;

/// The longest a call waits: clients give up at about 60 s, so what takes longer is followed by another call.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Calls wait unless they say otherwise.
pub(super) fn default_wait() -> bool {
    true
}

/// How long a call waits that was asked to, or not.
pub(super) fn patience(wait: bool) -> Duration {
    if wait { LONGEST_WAIT } else { Duration::ZERO }
}
