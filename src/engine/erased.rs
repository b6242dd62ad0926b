//! The ledger of erasures as this process knows it: asked for its version each time, read whole after an erasure.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;

use crate::{
    domain::{ErasureLedger, Table},
    fault::{Fault, FaultKind},
    log::{Log, Position},
    store::{ParkedEntity, Resolution, Settled, Store},
};

/// Who was erased.
pub(super) struct Erased {
    store: Arc<dyn Store>,
    last: Mutex<Option<Arc<ErasureLedger>>>,
}

impl Erased {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, last: Mutex::default() }
    }

    /// The ledger as it is now.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub(super) async fn ledger(&self) -> Result<Arc<ErasureLedger>, Fault> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = last.as_ref().map(|last| last.version());
        let now = match self.store.erasures(known).await {
            // The first question to a new store may come before anybody has made its tables.
            Err(fault) if fault.kind == FaultKind::Misconfigured && last.is_none() => {
                self.store.make_missing().await?;
                self.store.erasures(known).await?
            }
            now => now?,
        };
        Ok(match (now, last) {
            (None, Some(last)) => last,
            (now, _) => {
                let now = Arc::new(now.unwrap_or_default());
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.clone());
                now
            }
        })
    }
}

/// Empties the log of what was appended while those it is about were erased, which found none of it, where the log can.
///
/// # Errors
/// When store or log can't be reached, or something of it may still be in their files.
pub(super) async fn empty_appended(
    store: &dyn Store,
    log: &dyn Log,
    table: Table,
    keys: &[String],
) -> Result<(), Fault> {
    if keys.is_empty() {
        return Ok(());
    }
    log.erase(&table.entity, keys, &[]).await?;
    store.forget_erased().await
}

/// Settles letters that were parked while those they are about were erased, which found none of them, and empties them where
/// the log can.
///
/// # Errors
/// When store or log can't be reached.
pub(super) async fn settle_parked(
    store: &dyn Store,
    log: &dyn Log,
    parked: &[ParkedEntity],
    by: &str,
) -> Result<(), Fault> {
    if parked.is_empty() {
        return Ok(());
    }
    let settled = |one: &ParkedEntity| Resolution {
        partition: one.partition,
        offset: one.offset,
        letter: one.letter,
        settled: Settled::Erased,
        by: by.to_owned(),
        at: Utc::now(),
    };
    let resolutions: Vec<Resolution> = parked.iter().map(settled).collect();
    store.settle(&log.dead_letters_identity().await?.to_string(), &resolutions).await?;
    let at = |one: &ParkedEntity| Position { partition: one.partition, offset: one.offset };
    let letters: Vec<Position> = parked.iter().map(at).collect();
    log.erase("", &[], &letters).await.map(drop)
}
