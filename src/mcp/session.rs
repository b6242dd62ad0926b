//! What a connected client of the older revisions asked to be told of. It ends with the session.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rmcp::{Peer, RoleServer, model::ResourceUpdatedNotificationParam};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The tasks that tell one client.
#[derive(Default)]
pub(super) struct Session {
    tasks: Mutex<HashMap<Told, AbortOnDropHandle<()>>>,
}

#[derive(PartialEq, Eq, Hash)]
enum Told {
    Log,
    Resource(String),
}

impl Session {
    /// Tells the client of log events by `forwarding`, in place of what it was told before.
    pub(super) fn tell_log(&self, forwarding: impl Future<Output = ()> + Send + 'static) {
        self.lock().insert(Told::Log, AbortOnDropHandle::new(tokio::spawn(forwarding)));
    }

    /// Tells the client whenever the resource changes.
    pub(super) fn subscribe(
        &self,
        uri: String,
        mut changes: watch::Receiver<Option<u64>>,
        peer: Peer<RoleServer>,
    ) {
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
