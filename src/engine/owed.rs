//! What a log lost is read from the source again, without anybody asking for it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tracing::{info, warn};

use super::{EngineError, shared::Shared, syncs::Syncs};
use crate::{fault::Fault, store::SyncRequest};

/// How often it is looked whether something is owed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a table is left alone after its sync could not be started, or failed.
const PAUSE: Duration = Duration::from_mins(1);

/// Events appended by one sync; the next one goes on.
const LIMIT: u32 = 1_000_000;

/// Starts a sync of each table that is owed, until the engine shuts down. Of several processes one gets the lease.
pub(super) fn keep_settling(shared: &Arc<Shared>, syncs: &Arc<Syncs>) {
    let (weak, closing) = ((Arc::downgrade(shared), Arc::downgrade(syncs)), shared.closing.clone());
    shared.tasks.spawn(async move { closing.run_until_cancelled(settle_for_ever(weak)).await });
}

async fn settle_for_ever((shared, syncs): (Weak<Shared>, Weak<Syncs>)) {
    while let (Some(shared), Some(syncs)) = (shared.upgrade(), syncs.upgrade()) {
        let pause = match settle_each(&shared, &syncs).await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                warn!(%error, "what a log lost could not be read again yet");
                PAUSE
            }
        };
        drop((shared, syncs));
        tokio::time::sleep(pause).await;
    }
}

async fn settle_each(shared: &Shared, syncs: &Syncs) -> Result<(), EngineError> {
    // A store that is down, or not made yet, is told of elsewhere.
    let Ok(owed) = shared.store.owed().await else { return Ok(()) };
    for owed in owed {
        if shared.catalog.get(&owed.table.0).is_none() {
            continue;
        }
        let request = SyncRequest {
            table: owed.table.clone(),
            // The debt says how far back it reads.
            hours_ago: 1,
            limit: LIMIT,
            conditions: Vec::new(),
            resume: true,
            reappend: false,
            reconcile: None,
            since: None,
        };
        let id = match syncs.start(request).await {
            Ok(id) => id,
            // Whoever syncs it now settles it.
            Err(EngineError::Busy(_)) => continue,
            Err(error) => return Err(error),
        };
        info!(sync_id = %id, table = %owed.table, from = %owed.from, "what a log lost is read again");
        if let Some(mut progress) = syncs.progress(id) {
            // Until the sync ends: its sender goes with it.
            while progress.changed().await.is_ok() {}
        }
        if let Some(error) = syncs.known(id).await?.error {
            return Err(Fault::transient(shared.source.name(), error, "it is tried again").into());
        }
    }
    Ok(())
}
