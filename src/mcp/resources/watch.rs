//! Looks at resources that clients subscribed to: one look for all of them, and none when nobody asks.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rmcp::ErrorData;
use tokio::sync::watch;

use super::Uri;
use crate::{
    engine::{Engine, EngineError, EntityKey},
    mcp::{
        principal::Principal,
        quota::{Quota, Share},
    },
};

/// How often a watched resource is looked at.
const EVERY: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// Resources looked at for all clients together: each look is a question to a part.
const MOST: usize = if cfg!(test) { 3 } else { 500 };

/// Subscriptions of one client.
const MOST_PER_CLIENT: usize = if cfg!(test) { 2 } else { 100 };

/// The resources being watched.
pub(in crate::mcp) struct Watches {
    engine: Arc<Engine>,
    every: Duration,
    quota: Arc<Quota>,
    watched: Mutex<HashMap<String, watch::Sender<Option<u64>>>>,
}

/// One subscription of a client's.
pub(in crate::mcp) struct Watched {
    pub(in crate::mcp) changes: watch::Receiver<Option<u64>>,
    _share: Option<Share>,
}

impl Watched {
    /// Returns when the resource has changed.
    ///
    /// # Errors
    /// When it will never change again.
    pub(in crate::mcp) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.changes.changed().await
    }
}

impl Watches {
    pub(in crate::mcp) fn new(engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self { engine, every: EVERY, quota: Quota::new(MOST_PER_CLIENT), watched: Mutex::default() })
    }

    /// Hears of every change from now on. What never changes is never heard of.
    ///
    /// # Errors
    /// When this client, or all of them, watch as many resources as may be.
    pub(in crate::mcp) fn watch(
        self: &Arc<Self>,
        principal: &Principal,
        address: &str,
        uri: Uri,
    ) -> Result<Watched, ErrorData> {
        let share = self.quota.take(principal);
        // Over stdio there is no other client to leave any to.
        if share.is_none() && *principal != Principal::Process {
            let problem = format!(
                "{address}: this client has {MOST_PER_CLIENT} subscriptions already; unsubscribe from some, or read it"
            );
            return Err(ErrorData::invalid_request(problem, None));
        }
        let mut watched = self.lock();
        if let Some(sender) = watched.get(address) {
            return Ok(Watched { changes: sender.subscribe(), _share: share });
        }
        let (sender, receiver) = watch::channel(None);
        if !uri.is_fixed() {
            if watched.len() >= MOST {
                let problem = format!(
                    "{address}: {MOST} resources are watched already; unsubscribe from some, or read it"
                );
                return Err(ErrorData::invalid_request(problem, None));
            }
            watched.insert(address.to_owned(), sender.clone());
            tokio::spawn(self.clone().look(address.to_owned(), uri, sender));
        }
        Ok(Watched { changes: receiver, _share: share })
    }

    async fn look(self: Arc<Self>, address: String, uri: Uri, sender: watch::Sender<Option<u64>>) {
        loop {
            if let Some(seen) = self.digest(&uri).await {
                // The first look is what later ones are compared with.
                let known = *sender.borrow();
                if known.is_none() {
                    sender.send_if_modified(|value| {
                        *value = Some(seen);
                        false
                    });
                } else if known != Some(seen) {
                    sender.send_replace(Some(seen));
                }
            }
            tokio::time::sleep(self.every).await;
            let mut watched = self.lock();
            if sender.receiver_count() == 0 {
                watched.remove(&address);
                return;
            }
        }
    }

    /// A digest of what counts as a change; `None` when it could not be read just now.
    async fn digest(&self, uri: &Uri) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        match uri {
            Uri::Status => {
                let status = self.engine.inspection.status().await;
                (status.healthy, status.problems.len()).hash(&mut hasher);
                for part in [&status.source, &status.log].into_iter().chain(&status.sinks) {
                    (&part.name, part.ok).hash(&mut hasher);
                }
            }
            Uri::Alerts => {
                for alert in self.engine.alerts.list().await.ok()? {
                    (alert.name, alert.fired, alert.going_on, alert.problem.is_some()).hash(&mut hasher);
                }
            }
            Uri::Entity(table, key) => {
                match self.engine.questions.entity(*table, &EntityKey::Key(key.clone())).await {
                    Ok(history) => (history.entity.versao, history.entity.evento_id).hash(&mut hasher),
                    // One that is not stored yet may come.
                    Err(EngineError::UnknownEntity { .. }) => {}
                    Err(_) => return None,
                }
            }
            Uri::DeadLetter(at) => {
                let letter = self.engine.letters.get(*at).await.ok()?;
                letter.map(|letter| letter.state() as u8).hash(&mut hasher);
            }
            Uri::App | Uri::Schema(_) | Uri::Tools(_) | Uri::Export(..) => return None,
        }
        Some(hasher.finish())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Option<u64>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
