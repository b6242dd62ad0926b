//! What a connected client of the older revisions asked to be told of. It ends with the session.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rmcp::{Peer, RoleServer, model::ResourceUpdatedNotificationParam};
use tokio_util::task::AbortOnDropHandle;

use super::resources::Watched;

/// The tasks that tell one client.
pub(super) struct Session {
    /// No other session of this process has it.
    id: u64,
    tasks: Mutex<HashMap<Told, AbortOnDropHandle<()>>>,
}

impl Default for Session {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), tasks: Mutex::default() }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Told {
    Log,
    Resource(String),
}

impl Session {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Tells the client of log events by `forwarding`, in place of what it was told before.
    pub(super) fn tell_log(&self, forwarding: impl Future<Output = ()> + Send + 'static) {
        self.lock().insert(Told::Log, AbortOnDropHandle::new(tokio::spawn(forwarding)));
    }

    /// Tells the client whenever the resource changes.
    pub(super) fn subscribe(&self, uri: String, mut changes: Watched, peer: Peer<RoleServer>) {
        let address = uri.clone();
        let telling = async move {
            while changes.changed().await.is_ok() {
                let note = ResourceUpdatedNotificationParam::new(address.clone());
                if peer.notify_resource_updated(note).await.is_err() {
                    return;
                }
            }
        };
        self.lock().insert(Told::Resource(uri), AbortOnDropHandle::new(tokio::spawn(telling)));
    }

    /// Stops telling; a resource that was not subscribed to is none to speak of.
    pub(super) fn unsubscribe(&self, uri: String) {
        self.lock().remove(&Told::Resource(uri));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Told, AbortOnDropHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
