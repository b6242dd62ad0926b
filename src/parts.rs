//! Puts an engine together from the settings.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Settings,
    engine::{Engine, EngineSettings},
    fault::Fault,
    index::elasticsearch::EsIndex,
    log::{BatchLimits, kafka::KafkaLog},
    source::supabase::SupabaseSource,
    store::postgres::PgStore,
};

/// How long a drain waits for a record before it looks whether anything else is to be done.
const WAIT: Duration = Duration::from_millis(500);

/// Makes every part; none is asked anything yet.
///
/// # Errors
/// When a client refuses its settings.
pub fn engine(settings: &Settings) -> Result<Arc<Engine>, Fault> {
    Ok(Arc::new(Engine::new(
        Arc::new(SupabaseSource::new(&settings.supabase)?),
        Arc::new(KafkaLog::connect(&settings.kafka)?),
        Arc::new(PgStore::connect(&settings.postgres)?),
        Arc::new(EsIndex::connect(&settings.elasticsearch)?),
        EngineSettings {
            page_size: settings.supabase.page_size,
            group_prefix: settings.drain.group_prefix.clone(),
            dead_letter_topic: settings.kafka.dead_letter_topic.clone(),
            batch: BatchLimits {
                records: settings.drain.batch_records,
                bytes: settings.drain.batch_bytes,
                wait: WAIT,
            },
            pauses: EngineSettings::PAUSES,
            owner: owner(),
        },
    )))
}

/// Host and process, for whoever asks who runs a sync.
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "unknown-host".to_owned());
    format!("{host}, process {}", std::process::id())
}
