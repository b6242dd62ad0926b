//! Puts an engine together from the settings: each part the real one where it is named, else the embedded one.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    config::{Settings, SupabaseSettings},
    data_folder::DataFolder,
    embedded::EmbeddedDb,
    engine::{DeleteLimits, Engine, EngineSettings, ExportSettings, ReconcileSettings},
    fault::{Fault, FaultKind},
    index::{Index, elasticsearch::EsIndex, tantivy::TantivyIndex},
    log::{BatchLimits, Log, embedded::EmbeddedLog, kafka::KafkaLog},
    source::{Source, sample::SampleSource, supabase::SupabaseSource},
    store::{
        Store,
        postgres::{CreatedReader, PgStore},
        sqlite::SqliteStore,
    },
};

/// How long a drain waits for a record, or a change of its partitions, before it looks whether anything else is to be done.
const WAIT: Duration = Duration::from_secs(2);

/// Where dead letters are, for whoever is told to look there.
const EMBEDDED_DEAD_LETTERS: &str = "eventos.dlq";

/// The parts that hold events and what is known of them.
pub struct Parts {
    pub log: Arc<dyn Log>,
    pub store: Arc<dyn Store>,
    pub index: Arc<dyn Index>,
}

impl Parts {
    /// Opens the embedded parts and makes clients for the real ones; these are asked nothing yet.
    ///
    /// # Errors
    /// When a client refuses its settings or the data folder can't be used.
    pub fn open(settings: &Settings) -> Result<Self, Fault> {
        Self::beside(&mut Embedded::of(settings))
    }

    fn beside(embedded: &mut Embedded<'_>) -> Result<Self, Fault> {
        let settings = embedded.settings;
        Ok(Self {
            log: match &settings.kafka {
                Some(kafka) => Arc::new(KafkaLog::connect(kafka)?),
                None => Arc::new(EmbeddedLog::new(embedded.db()?)),
            },
            store: match &settings.postgres {
                Some(postgres) => Arc::new(PgStore::connect(postgres, settings.catalog)?),
                None => Arc::new(SqliteStore::new(embedded.db()?, settings.catalog)),
            },
            index: match &settings.elasticsearch {
                Some(elasticsearch) => Arc::new(EsIndex::connect(elasticsearch, settings.catalog)?),
                None => Arc::new(TantivyIndex::in_folder(embedded.folder()?, settings.catalog)),
            },
        })
    }
}

/// Whether any part is embedded, and keeps its files in the data folder.
pub fn use_folder(settings: &Settings) -> bool {
    let Settings { supabase, kafka, postgres, elasticsearch, .. } = settings;
    supabase.is_none() || kafka.is_none() || postgres.is_none() || elasticsearch.is_none()
}

/// What the embedded parts share: the folder, and log and store one file in it. Opened once, where needed.
struct Embedded<'a> {
    settings: &'a Settings,
    folder: Option<Arc<DataFolder>>,
    db: Option<Arc<EmbeddedDb>>,
}

impl<'a> Embedded<'a> {
    fn of(settings: &'a Settings) -> Self {
        Self { settings, folder: None, db: None }
    }

    fn folder(&mut self) -> Result<Arc<DataFolder>, Fault> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let folder = DataFolder::open(&self.settings.data_dir, &owner())?;
        if self.settings.supabase.is_some() {
            folder.keep_from_demonstrations()?;
        }
        Ok(self.folder.insert(folder).clone())
    }

    fn db(&mut self) -> Result<Arc<EmbeddedDb>, Fault> {
        if let Some(db) = &self.db {
            return Ok(db.clone());
        }
        let db = EmbeddedDb::in_folder(self.folder()?)?;
        Ok(self.db.insert(db).clone())
    }
}

/// An engine on the parts that the settings name; nothing runs yet but the sample project's server.
///
/// # Errors
/// As [`Parts::open`], and when the sample project can't be served.
pub async fn engine(settings: &Settings) -> Result<Arc<Engine>, Fault> {
    let source: Arc<dyn Source> = match &settings.supabase {
        Some(supabase) => Arc::new(SupabaseSource::new(supabase, settings.catalog)?),
        None => {
            let folder = DataFolder::open(&settings.data_dir, &owner())?;
            Arc::new(SampleSource::start(folder.path(), settings.catalog).await?)
        }
    };
    let mut embedded = Embedded::of(settings);
    let parts = Parts::beside(&mut embedded)?;
    let mut working = engine_settings(settings);
    working.exports.data_folder = embedded.folder;
    Ok(Arc::new(Engine::new(settings.catalog, source, parts.log, parts.store, parts.index, working)))
}

/// Makes the login that questions to Postgres run under.
///
/// # Errors
/// As [`PgStore::create_reader`]; and where the store is the embedded one, which has no logins.
pub async fn create_reader(settings: &Settings, new_password: bool) -> Result<CreatedReader, Fault> {
    let Some(postgres) = &settings.postgres else {
        return Err(Fault::new(
            "sqlite",
            FaultKind::Invalid,
            "the embedded store has no logins; questions to it can't write",
            "leave out --create-reader, or set DATABASE_URL",
        ));
    };
    PgStore::connect(postgres, settings.catalog)?.create_reader(new_password).await
}

/// How an engine with these settings works.
pub fn engine_settings(settings: &Settings) -> EngineSettings {
    EngineSettings {
        page_size: settings
            .supabase
            .as_ref()
            .map_or(SupabaseSettings::PAGE_SIZE, |supabase| supabase.page_size),
        group_prefix: settings.drain.group_prefix.clone(),
        dead_letter_topic: settings
            .kafka
            .as_ref()
            .map_or_else(|| EMBEDDED_DEAD_LETTERS.to_owned(), |kafka| kafka.dead_letter_topic.clone()),
        batch: BatchLimits {
            records: settings.drain.batch_records,
            bytes: settings.drain.batch_bytes,
            wait: WAIT,
        },
        pauses: EngineSettings::PAUSES,
        overlap: settings.overlap,
        reconcile: ReconcileSettings {
            deletes: DeleteLimits {
                rows: settings.reconcile.delete_rows,
                percent: settings.reconcile.delete_percent,
            },
            rows_per_second: settings.reconcile.rows_per_second,
            stalled_after: settings.reconcile.patience,
            hour: settings.reconcile.hour,
        },
        exports: ExportSettings {
            folder: settings.data_dir.join("exports"),
            data_folder: None,
            lifetime: settings.exports.lifetime,
            max_bytes: settings.exports.max_bytes,
        },
        events_retention: in_days(settings.events_retention_days),
        letters_retention: in_days(settings.letters_retention_days),
        syncs_retention: in_days(settings.syncs_retention_days),
        log_retention: in_days(settings.embedded_log_retention_days),
        zone: settings.zone,
        alert_targets: settings.alerts.targets.keys().cloned().collect(),
        language: settings.language,
        open_file: settings.open_file.clone(),
        owner: owner(),
    }
}

fn in_days(days: Option<u32>) -> Option<TimeDelta> {
    days.map(|days| TimeDelta::days(days.into()))
}

/// Host and process, for whoever asks who runs a sync; and a little of chance, since containers that are called the same
/// have the same processes.
fn owner() -> String {
    static CHANCE: LazyLock<[u8; 16]> = LazyLock::new(|| Uuid::now_v7().into_bytes());
    let [.., first, second] = *CHANCE;
    format!("{}, process {} ({first:02x}{second:02x})", host(), std::process::id())
}

/// What this machine is called.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "unknown-host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_name_which_another_of_its_host_and_number_has_not() {
        let name = owner();
        assert_eq!(name, owner());
        let (_, chance) = name.split_once(&format!(", process {} (", std::process::id())).expect("a number");
        let chance = chance.strip_suffix(')').expect("an end");
        assert!(chance.len() == 4 && chance.chars().all(|one| one.is_ascii_hexdigit()), "{name}");
    }
}
