//! Which syncs are in every sink is remembered soon after they are: once their log is gone, nobody can tell any more.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tracing::debug;
use uuid::Uuid;

use super::drains::{Drains, removes};
use crate::{
    fault::Fault,
    store::{Notice, NoticeKind, SyncRecord},
};

/// How often it is looked whether a sync arrived.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Syncs that are looked at each time.
const MAX_SYNCS: u32 = 200;

/// Remembers it of syncs of any process, until the engine shuts down.
pub(super) fn keep_noting(drains: &Arc<Drains>) {
    let (weak, closing) = (Arc::downgrade(drains), drains.shared.closing.clone());
    drains.shared.tasks.spawn(async move { closing.run_until_cancelled(note_for_ever(weak)).await });
}

async fn note_for_ever(drains: Weak<Drains>) {
    while let Some(drains) = drains.upgrade() {
        // A part that is down, or not made yet, is told of elsewhere.
        if let Err(fault) = note(&drains).await {
            debug!(error = %fault, "which syncs are in every sink could not be remembered");
        }
        drop(drains);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn note(drains: &Drains) -> Result<(), Fault> {
    let store = &drains.shared.store;
    let mut syncs = store.undrained_syncs(MAX_SYNCS).await?;
    if syncs.is_empty() {
        return Ok(());
    }
    let log = drains.shared.log.identity().await?.to_string();
    syncs.retain(|sync| sync.log == log);
    let Some(first) = syncs.iter().map(|sync| sync.started_at).min() else { return Ok(()) };
    // What a sink will never have is not waited for.
    let notices = store.every_notice(&[NoticeKind::RecordsRemoved], first).await?;
    syncs.retain(|sync| !is_lost(drains, sync, &notices));
    if syncs.is_empty() {
        return Ok(());
    }
    let lags = drains.lag_as_it_is().await?;
    // Read after the lags: a sink tells of what it passes over before it does.
    let notices = store.every_notice(&[NoticeKind::RecordsRemoved], first).await?;
    let is_drained = |sync: &&SyncRecord| {
        let has_it = lags.iter().all(|lag| lag.log == log && lag.pending(&sync.progress.targets) == 0);
        has_it && !is_lost(drains, sync, &notices)
    };
    let drained: Vec<Uuid> = syncs.iter().filter(is_drained).map(|sync| sync.id).collect();
    if drained.is_empty() { Ok(()) } else { store.note_drained(&drained).await }
}

/// Whether records of a sync were removed from the log before a sink had them.
fn is_lost(drains: &Drains, sync: &SyncRecord, notices: &[Notice]) -> bool {
    let mut since = notices.iter().filter(|notice| notice.noticed_at >= sync.started_at);
    let sinks = drains.shared.sink_names();
    since.any(|notice| sinks.iter().any(|sink| removes(notice, sink, &sync.log, &sync.progress.targets)))
}
