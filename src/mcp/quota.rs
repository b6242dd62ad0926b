//! So many of something at once for each client, so that none can take what all need.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::request::Parts;
use rmcp::model::Extensions;

use super::principal::Principal;

/// How many of something each client may hold, and how many it holds.
#[derive(Debug)]
pub(super) struct Quota {
    most: usize,
    held: Mutex<HashMap<Principal, usize>>,
}

impl Quota {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// One more for a client; `None` when it holds as many as it may.
    pub(super) fn take(self: &Arc<Self>, principal: &Principal) -> Option<Share> {
        let mut held = self.lock();
        let count = held.entry(principal.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { quota: self.clone(), principal: principal.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Principal, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of what a client holds, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    quota: Arc<Quota>,
    principal: Principal,
}

impl Share {
    /// What the transport counted a request by; kept by whatever works on longer than the request's context lasts.
    pub(super) fn of(extensions: &Extensions) -> Option<Arc<Self>> {
        extensions.get::<Parts>()?.extensions.get::<Arc<Self>>().cloned()
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.quota.lock();
        if let Some(count) = held.get_mut(&self.principal) {
            *count = count.saturating_sub(1);
            // Addresses come and go; none is remembered that holds nothing.
            if *count == 0 {
                held.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_at_its_limit_gets_no_more_while_another_does() {
        let quota = Quota::new(2);
        let (one, other) = (Principal::Token("one".into()), Principal::Token("other".into()));
        let held = [quota.take(&one), quota.take(&one)];
        assert!(held.iter().all(Option::is_some) && quota.take(&one).is_none());
        assert!(quota.take(&other).is_some());
        drop(held);
        assert!(quota.take(&one).is_some());
        assert!(quota.lock().is_empty(), "who holds nothing is forgotten");
    }
}
