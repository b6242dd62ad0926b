//! What a log lost is read from the source again, without anybody asking for it.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use tracing::{info, warn};

use super::{Engine, EngineError};
use crate::{
    fault::Fault,
    store::{Notice, SyncRequest, TOLD_FOR},
};

/// How often it is looked whether something is owed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a table is left alone after its sync could not be started, or failed.
const PAUSE: Duration = Duration::from_mins(1);

/// Events appended by one sync; the next one goes on.
const LIMIT: u32 = 1_000_000;

impl Engine {
    /// What was noticed within the last week: parts that were found replaced, cut or restored.
    ///
    /// # Errors
    /// When the store can't be reached or is not migrated.
    pub async fn notices(&self) -> Result<Vec<Notice>, Fault> {
        self.store.notices(Utc::now() - TOLD_FOR).await
    }

    /// Starts a sync of each table that is owed, until the engine shuts down. Of several processes one gets the lease.
    pub(super) fn start_settling(self: &Arc<Self>) {
        let (engine, closing) = (Arc::downgrade(self), self.closing.clone());
        let settling = async move {
            loop {
                let pause = match engine.upgrade() {
                    None => return,
                    Some(engine) => engine.settle_debts().await,
                };
                tokio::time::sleep(pause).await;
            }
        };
        self.tasks.spawn(async move { closing.run_until_cancelled(settling).await });
    }

    /// Returns how long to wait until it is looked again.
    async fn settle_debts(&self) -> Duration {
        match self.settle_each().await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                warn!(%error, "what a log lost could not be read again yet");
                PAUSE
            }
        }
    }

    async fn settle_each(&self) -> Result<(), EngineError> {
        let owed = match self.store.owed().await {
            Ok(owed) => owed,
            // A store that is down, or not made yet, is told of elsewhere.
            Err(Fault { .. }) => return Ok(()),
        };
        for owed in owed {
            if self.catalog.get(&owed.table.0).is_none() {
                continue;
            }
            let request = SyncRequest {
                table: owed.table.clone(),
                // The debt says how far back it reads.
                hours_ago: 1,
                limit: LIMIT,
                conditions: Vec::new(),
                resume: true,
                full: false,
            };
            match self.start_sync(request).await {
                Ok(id) => {
                    info!(sync_id = %id, table = %owed.table, from = %owed.from, "what a log lost is read again");
                    let progress = self.lock_running().get(&id).map(|sync| sync.progress.clone());
                    if let Some(mut progress) = progress {
                        // Until the sync ends: its sender goes with it.
                        while progress.changed().await.is_ok() {}
                    }
                    let still = self.store.owed().await?.contains(&owed);
                    if still && let Some(error) = self.known_sync(id).await?.error {
                        let fault = Fault::transient(self.source.name(), error, "it is tried again");
                        return Err(fault.into());
                    }
                }
                // Whoever syncs it now settles it.
                Err(EngineError::Busy(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
