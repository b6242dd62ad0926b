//! Named places between two steps of what the engine does, where the fault suite ends or stops the process.
//!
//! Only with the feature `fail-points`, which nothing but that suite turns on; without it a place is nothing. `SLUICE_FAIL_POINT`
//! names one place, and after colons at which passing of it (the first unless said) and, with `stop`, that the process is to be
//! stopped instead of killed: `drain.applied:3:stop`. No library does that: those made for it return, panic, sleep or print, and
//! what is to be shown here is an end after which nothing runs any more, no destructor either.

/// A place is passed.
#[cfg(not(feature = "fail-points"))]
#[inline]
pub(crate) const fn pass(_: &str) {}

#[cfg(feature = "fail-points")]
pub(crate) use armed::pass;

#[cfg(feature = "fail-points")]
mod armed {
    use std::{
        sync::{
            LazyLock,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use rustix::process::{Signal, getpid, kill_process};

    static NAMED: LazyLock<String> = LazyLock::new(|| std::env::var("SLUICE_FAIL_POINT").unwrap_or_default());
    static PASSED: AtomicU32 = AtomicU32::new(0);

    /// A place is passed: nothing comes after, where it is the one that was named.
    pub(crate) fn pass(name: &str) {
        let mut named = NAMED.split(':');
        if named.next() != Some(name) {
            return;
        }
        let at = named.next().and_then(|at| at.parse().ok()).unwrap_or(1);
        if PASSED.fetch_add(1, Ordering::Relaxed) + 1 != at {
            return;
        }
        let signal = if named.next() == Some("stop") { Signal::STOP } else { Signal::KILL };
        tracing::warn!(name, ?signal, "fail point");
        kill_process(getpid(), signal).ok();
        // Whichever thread the signal reaches first, this one does not go on before the process has stopped.
        std::thread::sleep(Duration::from_millis(100));
    }
}
