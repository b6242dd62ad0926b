//! What a log lost is read from the source again, without anybody asking for it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{EngineError, shared::Shared, syncs::Syncs};
use crate::{
    fault::Fault,
    store::{Owed, SyncRequest, SyncState},
};

/// How often it is looked whether something is owed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a debt is left alone that a sync could not settle, whatever kept it from that.
const PAUSE: Duration = Duration::from_mins(1);

/// Events appended by one sync; the next one goes on.
const LIMIT: u32 = 1_000_000;

/// Starts a sync of each table that is owed, until the engine shuts down. Of several processes one gets the lease.
pub(super) fn keep_settling(shared: &Arc<Shared>, syncs: &Arc<Syncs>) {
    let (weak, closing) = ((Arc::downgrade(shared), Arc::downgrade(syncs)), shared.closing.clone());
    shared.tasks.spawn(async move { closing.run_until_cancelled(settle_for_ever(weak)).await });
}

async fn settle_for_ever((shared, syncs): (Weak<Shared>, Weak<Syncs>)) {
    let mut left_alone = Vec::new();
    while let (Some(shared), Some(syncs)) = (shared.upgrade(), syncs.upgrade()) {
        settle_each(&shared, &syncs, &mut left_alone).await;
        drop((shared, syncs));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Settles one table after the other; what keeps one of them from that is no matter of the others.
async fn settle_each(shared: &Shared, syncs: &Syncs, left_alone: &mut Vec<(Owed, Instant)>) {
    // A store that is down, or not made yet, is told of elsewhere.
    let Ok(owed) = shared.store.owed().await else { return };
    left_alone.retain(|(_, since)| since.elapsed() < PAUSE);
    for owed in owed {
        let is_left_alone = left_alone.iter().any(|(left, _)| *left == owed);
        if is_left_alone || shared.catalog.get(&owed.table.0).is_none() {
            continue;
        }
        let goes_on = settle(shared, syncs, &owed).await.unwrap_or_else(|error| {
            warn!(table = %owed.table, %error, "what a log lost could not be read again yet");
            false
        });
        // What was settled is not there any more; what came to be owed since is another debt.
        if !goes_on {
            left_alone.push((owed, Instant::now()));
        }
    }
}

/// Whether the next look is to go on with it.
async fn settle(shared: &Shared, syncs: &Syncs, owed: &Owed) -> Result<bool, EngineError> {
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
        Err(EngineError::Busy(_)) => return Ok(true),
        Err(error) => return Err(error),
    };
    info!(sync_id = %id, table = %owed.table, from = %owed.from, "what a log lost is read again");
    syncs.ended_here(id, |_| ()).await;
    let ended = syncs.known(id).await?;
    if let Some(error) = ended.error {
        return Err(Fault::transient(shared.source.name(), error, "it is tried again").into());
    }
    Ok(ended.state == SyncState::Succeeded && ended.progress.more)
}
