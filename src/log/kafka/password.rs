//! The password that clients log in with, read again from where it stands once the brokers refuse it.
//!
//! librdkafka can be given another while a client runs; its binding for Rust hands that call out to nobody. So whoever holds a
//! client that was made with an earlier one makes it anew. A client that the brokers let in before goes on until they end its
//! connection.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use secrecy::ExposeSecret;
use tracing::{info, warn};

use crate::{config::Secret, redaction};

#[derive(Debug, Default)]
pub(super) struct Password {
    current: RwLock<(Version, Option<Secret>)>,
    /// Somebody reads: a command may ask a person.
    is_being_read: AtomicBool,
}

/// Tells clients made with one password from those made with a later one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(u32);

impl Password {
    pub(super) fn new(secret: Option<Secret>) -> Self {
        keep(secret.as_ref());
        Self { current: RwLock::new((Version(0), secret)), is_being_read: AtomicBool::new(false) }
    }

    pub(super) fn version(&self) -> Version {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn current(&self) -> Option<Secret> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Reads again, on a thread of its own: whoever hears of a refusal is a client's thread.
    pub(super) fn was_refused(self: &Arc<Self>) {
        if self.current().is_none() || self.is_being_read.swap(true, Ordering::AcqRel) {
            return;
        }
        let password = self.clone();
        let started = thread::Builder::new().name("sluice-password".to_owned()).spawn(move || {
            password.renew();
            password.is_being_read.store(false, Ordering::Release);
        });
        if let Err(error) = started {
            warn!(%error, "no thread to read KAFKA_SASL_PASSWORD again");
            self.is_being_read.store(false, Ordering::Release);
        }
    }

    fn renew(&self) {
        match self.current().map(|secret| secret.reread()).transpose() {
            Ok(Some(Some(renewed))) => {
                keep(Some(&renewed));
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = (Version(current.0.0.wrapping_add(1)), Some(renewed));
                info!(
                    "the brokers refused the password, and clients are made anew with the one that stands in its place"
                );
            }
            Ok(_) => {}
            Err(problem) => {
                warn!(problem, "the brokers refuse the password, and there is no other in its place");
            }
        }
    }
}

fn keep(secret: Option<&Secret>) {
    if let Some(secret) = secret {
        redaction::keep(secret.value().expose_secret());
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_refused_password_is_read_again_and_one_that_is_the_same_outdates_no_client() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let password = Arc::new(Password::new(Some(Secret::in_file("um", &path))));
        let first = password.version();
        let refuse_until = |is_so: &dyn Fn() -> bool| {
            let until = Instant::now() + Duration::from_secs(30);
            while !is_so() {
                assert!(Instant::now() < until, "it is not read again");
                password.was_refused();
                thread::yield_now();
            }
        };
        let is_idle = || !password.is_being_read.load(Ordering::Acquire);
        for same in [None, Some("um")] {
            if let Some(text) = same {
                crate::private_files::replace(&path, text.as_bytes()).expect("written");
            }
            password.was_refused();
            while !is_idle() {
                thread::yield_now();
            }
            assert_eq!(password.version(), first, "{same:?}");
        }
        crate::private_files::replace(&path, "dois".as_bytes()).expect("written");
        refuse_until(&|| password.version() != first);
        assert_eq!(password.current().expect("one").value().expose_secret(), "dois");
    }
}
