//! What is said in a folder in which nothing was synced yet: what to do first, and that nothing failed.

use super::output;
use crate::{config::Settings, engine::Engine};

/// The first command, as people are told of it.
pub(super) const EMPTY: &str =
    "empty: run `sluice sync leads --wait` (`--full` instead of the last day's rows brings all)";

/// Whether the embedded parts were made and no sync ever ran. Of parts that others share nothing is guessed.
pub(super) async fn is_empty(engine: &Engine, settings: &Settings) -> bool {
    is_embedded(settings) && engine.syncs.recent(1).await.is_ok_and(|recent| recent.is_empty())
}

pub(super) fn is_embedded(settings: &Settings) -> bool {
    settings.kafka.is_none() && settings.postgres.is_none() && settings.elasticsearch.is_none()
}

/// Says it beside an answer that has nothing to tell.
pub(super) async fn note(engine: &Engine, settings: &Settings) {
    if is_empty(engine, settings).await {
        output::note(EMPTY);
    }
}
