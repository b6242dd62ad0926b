//! The engine: syncs, drains and what they report, over the ports alone.

mod alerts;
mod appender;
mod columns;
mod counts;
mod dead_letters;
mod doctor;
mod drain;
mod drained;
mod drains;
mod erased;
mod erasure;
mod error;
mod exports;
mod forget;
mod gaps;
mod heartbeat;
mod histogram;
mod housekeeping;
mod lag;
mod letter_pages;
mod letters;
mod metrics;
mod operations;
mod owed;
mod page;
mod pages;
mod patience;
mod polling;
mod progress;
mod project;
mod questions;
mod read_back;
mod reading;
mod rebuild;
mod recent;
mod reconcile;
mod renamed_key;
mod report;
mod report_titles;
mod schedules;
mod shared;
mod standing;
mod stats;
mod status;
mod supervisor;
mod sync;
mod syncs;
mod tables;
mod trim;
mod window;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use chrono_tz::Tz;

pub use alerts::{AlertRequest, AlertStatus, AlertTerms, Alerts, Channel, Delivery, Trial, TrialFired, When};
pub use appender::{Appender, event_record};
pub use doctor::{Doctor, Finding, Outcome};
pub use drain::Drain;
pub use drains::{Drains, SinkPause};
pub use erasure::{ErasurePreview, ErasureReport, ErasureRequest, Erasures, Remainder, RemovedFrom};
pub use error::{EngineError, table_named};
pub use exports::{
    ExportMask, ExportOf, ExportRequest, ExportSettings, ExportState, ExportWatcher, Exports, WrittenExport,
};
pub use heartbeat::DrainElsewhere;
pub use histogram::Histogram;
pub use housekeeping::{Housekeeping, Retention, Trimmed};
pub use lag::{PartitionLag, SinkLag};
pub use letter_pages::{parse_letter_id, read_cursor, write_cursor};
pub use letters::{
    LeftLetter, Letter, LetterFilter, LetterPage, LetterState, Letters, MOST_SETTLED, Selection,
    SettleOutcome,
};
pub use metrics::{EngineMetrics, FlowMetrics, SinkMetrics};
pub use progress::{SinkProgress, SyncPhase, SyncStatus, SyncWatcher};
pub use project::Project;
pub use questions::{EntityHistory, EntityKey, Questions, Related, Twin};
pub use rebuild::{RebuildPhase, RebuildStatus, Rebuilds};
pub use recent::Distribution;
pub use reconcile::{DeleteLimits, ReconcileSettings};
pub use report::{Report, ReportCount, ReportGroup, ReportRequest};
pub use report_titles::{ReportTitles, count_title};
pub use schedules::{ScheduleStatus, Schedules};
pub use standing::LagSummary;
pub use stats::{DrainReport, DrainState, DrainStats, SinkTimes};
pub use status::{Count, Inspection, PartStatus, PipelineStatus, RecentSync};
pub use syncs::{MAX_HOURS, Syncs};
pub use tables::{LastReconciliation, TableStatus};

use crate::{
    domain::Catalog,
    fault::Fault,
    index::Index,
    language::Language,
    log::{BatchLimits, Log},
    source::Source,
    store::{Notice, Store, TOLD_FOR},
};
use counts::Counts;
use shared::Shared;

/// How long ending may take: what is under way then is cut.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);

/// How long what was cut may take to give back what it holds, so that the next process need not wait until it lapses.
const GIVE_BACK: Duration = Duration::from_millis(500);

/// How the engine is to work.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Rows to ask the source for at a time.
    pub page_size: u32,
    /// Consumer groups are named `<prefix>.<sink>`.
    pub group_prefix: String,
    pub dead_letter_topic: String,
    pub batch: BatchLimits,
    /// First and longest pause after a fault.
    pub pauses: (Duration, Duration),
    /// How far behind its coverage a sync that resumes reads again.
    pub overlap: TimeDelta,
    pub reconcile: ReconcileSettings,
    pub exports: ExportSettings,
    /// How long events are kept whose rows have moved on; `None` for ever.
    pub events_retention: Option<TimeDelta>,
    /// How long letters are kept after they were settled; `None` for ever.
    pub letters_retention: Option<TimeDelta>,
    /// How long it is remembered what became of a sync; `None` for ever.
    pub syncs_retention: Option<TimeDelta>,
    /// How long a log that forgets nothing by itself keeps what every sink has applied; `None` for ever.
    pub log_retention: Option<TimeDelta>,
    /// Whose days count.
    pub zone: Tz,
    /// The names of the webhooks that alerts may go to.
    pub alert_targets: Vec<String>,
    /// In which titles are.
    pub language: Language,
    /// The file of settings, where it holds a secret and others may read or change it.
    pub open_file: Option<PathBuf>,
    /// Names this process to others: host and process id.
    pub owner: String,
}

impl EngineSettings {
    /// First and longest pause of a failing drain.
    pub const PAUSES: (Duration, Duration) = supervisor::PAUSES;
}

/// Reads, logs, drains and answers: the few things that do so, over the same parts.
pub struct Engine {
    pub catalog: Catalog,
    /// Whose days count.
    pub zone: Tz,
    /// In which titles are.
    pub language: Language,
    pub project: Arc<Project>,
    pub appender: Arc<Appender>,
    pub syncs: Arc<Syncs>,
    pub schedules: Arc<Schedules>,
    pub alerts: Arc<Alerts>,
    pub drains: Arc<Drains>,
    pub letters: Arc<Letters>,
    pub rebuilds: Arc<Rebuilds>,
    pub erasures: Erasures,
    pub exports: Arc<Exports>,
    pub housekeeping: Arc<Housekeeping>,
    pub questions: Questions,
    pub inspection: Inspection,
    pub doctor: Doctor,
    shared: Arc<Shared>,
}

impl Engine {
    /// Puts the parts together; starts nothing.
    pub fn new(
        catalog: Catalog,
        source: Arc<dyn Source>,
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        index: Arc<dyn Index>,
        settings: EngineSettings,
    ) -> Self {
        let (zone, language) = (settings.zone, settings.language);
        let shared = Arc::new(Shared::new(catalog, source, log, store, index, settings));
        let project = Arc::new(Project::new(
            catalog,
            shared.source.clone(),
            shared.index.clone(),
            shared.store.clone(),
        ));
        let appender = Arc::new(Appender::new(shared.clone()));
        let drains = Arc::new(Drains::new(shared.clone()));
        let syncs = Arc::new(Syncs::new(shared.clone(), drains.clone(), appender.clone()));
        let schedules = Arc::new(Schedules::new(shared.clone(), syncs.clone()));
        let letters = Arc::new(Letters::new(shared.clone(), appender.clone()));
        let alerts = Alerts::new(shared.clone(), drains.clone(), schedules.clone(), letters.clone());
        let alerts = Arc::new(alerts);
        let rebuilds = Arc::new(Rebuilds::new(shared.clone()));
        let counts = Arc::new(Counts::new(shared.clone(), drains.clone()));
        Self {
            catalog,
            zone,
            language,
            questions: Questions::new(shared.clone(), drains.clone()),
            erasures: Erasures::new(shared.clone()),
            exports: Arc::new(Exports::new(shared.clone())),
            housekeeping: Arc::new(Housekeeping::new(shared.clone())),
            inspection: Inspection {
                shared: shared.clone(),
                appender: appender.clone(),
                syncs: syncs.clone(),
                schedules: schedules.clone(),
                alerts: alerts.clone(),
                drains: drains.clone(),
                letters: letters.clone(),
                rebuilds: rebuilds.clone(),
                counts: counts.clone(),
                started: Instant::now(),
                started_at: Utc::now(),
            },
            doctor: Doctor {
                shared: shared.clone(),
                project: project.clone(),
                drains: drains.clone(),
                rebuilds: rebuilds.clone(),
                letters: letters.clone(),
                schedules: schedules.clone(),
                alerts: alerts.clone(),
                counts,
            },
            project,
            appender,
            syncs,
            schedules,
            alerts,
            drains,
            letters,
            rebuilds,
            shared,
        }
    }

    /// Brings tables, templates and topics up to date.
    ///
    /// # Errors
    /// When a part can't be reached or refuses.
    pub async fn prepare(&self) -> Result<(), Fault> {
        self.shared.prepare().await
    }

    /// What was noticed within the last week: parts that were found replaced, cut or restored.
    ///
    /// # Errors
    /// When the store can't be reached or is not migrated.
    pub async fn notices(&self) -> Result<Vec<Notice>, Fault> {
        self.shared.store.notices(Utc::now() - TOLD_FOR).await
    }

    /// Starts the drains of this process, and goes on with rebuilds that another left behind.
    pub async fn start_drains(&self) {
        self.drains.start().await;
        self.drains.start_heartbeat();
        self.rebuilds.resume();
        owed::keep_settling(&self.shared, &self.syncs);
        drained::keep_noting(&self.drains);
    }

    /// Ends soon after [`SHUTDOWN_TIMEOUT`] at the latest; see [`Engine::shut_down_by`].
    pub async fn shut_down(&self) {
        self.shut_down_by(tokio::time::Instant::now() + SHUTDOWN_TIMEOUT).await;
    }

    /// Asks syncs to end between two pages and drains after the batch in hand; [`Engine::shut_down_by`] waits for it.
    pub fn begin_shut_down(&self) {
        self.shared.closing.cancel();
        self.drains.begin_stop();
    }

    /// Cancels the syncs of this process between two pages, lets the drains finish what they hold, and ends. What
    /// has not ended by `deadline` is cut, and has [`GIVE_BACK`] to give back what it holds. Returns what that left behind, for people.
    pub async fn shut_down_by(&self, deadline: tokio::time::Instant) -> Vec<String> {
        self.begin_shut_down();
        self.shared.tasks.close();
        let ended = async { tokio::join!(self.shared.tasks.wait(), self.drains.stopped()) };
        if tokio::time::timeout_at(deadline, ended).await.is_ok() {
            return Vec::new();
        }
        let syncs = self.syncs.running_here().into_iter().map(|id| {
            format!("sync {id} is cut where a part does not answer: it shows as interrupted, and the next one reads on from its last page")
        });
        let mut left: Vec<String> = syncs.collect();
        self.shared.abandoned.cancel();
        left.extend(self.drains.cut());
        if left.is_empty() {
            left.push(
                "something in the background had not ended and is cut; it is taken up again by the next process".to_owned(),
            );
        }
        tokio::time::timeout(GIVE_BACK, self.shared.tasks.wait()).await.ok();
        left
    }
}
