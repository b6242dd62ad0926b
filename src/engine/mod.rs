//! The engine: syncs, drains and what they report, over the ports alone.

mod appender;
mod dead_letters;
mod doctor;
mod drain;
mod drains;
mod error;
mod lag;
mod letter_pages;
mod letters;
mod metrics;
mod operations;
mod page;
mod progress;
mod project;
mod questions;
mod rebuild;
mod recent;
mod reconcile;
mod schedules;
mod shared;
mod stats;
mod status;
mod supervisor;
mod sync;
mod syncs;
mod window;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;

pub use appender::{Appender, event_record};
pub use doctor::{Doctor, Finding, Outcome};
pub use drain::Drain;
pub use drains::{Drains, SinkPause};
pub use error::{EngineError, table_named};
pub use lag::{PartitionLag, SinkLag};
pub use letter_pages::{parse_letter_id, read_cursor, write_cursor};
pub use letters::{
    LeftLetter, Letter, LetterFilter, LetterPage, LetterState, Letters, MOST_SETTLED, Selection,
    SettleOutcome,
};
pub use metrics::{EngineMetrics, FlowMetrics, SinkMetrics};
pub use progress::{SinkProgress, SyncPhase, SyncStatus, SyncWatcher};
pub use project::Project;
pub use questions::{EntityHistory, EntityKey, Questions, Related};
pub use rebuild::{RebuildPhase, RebuildStatus, Rebuilds};
pub use recent::Distribution;
pub use reconcile::{DeleteLimits, ReconcileSettings};
pub use schedules::{ScheduleStatus, Schedules};
pub use stats::{DrainReport, DrainState, DrainStats, SinkTimes};
pub use status::{Count, Inspection, PartStatus, PipelineStatus};
pub use syncs::{MAX_HOURS, Syncs};

use crate::{
    domain::Catalog,
    fault::Fault,
    index::Index,
    log::{BatchLimits, Log},
    source::Source,
    store::Store,
};
use shared::Shared;

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
    pub project: Arc<Project>,
    pub appender: Arc<Appender>,
    pub syncs: Arc<Syncs>,
    pub schedules: Arc<Schedules>,
    pub drains: Arc<Drains>,
    pub letters: Arc<Letters>,
    pub rebuilds: Arc<Rebuilds>,
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
        let shared = Arc::new(Shared::new(catalog, source, log, store, index, settings));
        let project = Arc::new(Project::new(catalog, shared.source.clone()));
        let appender = Arc::new(Appender::new(shared.log.clone()));
        let drains = Arc::new(Drains::new(shared.clone()));
        let syncs = Arc::new(Syncs::new(shared.clone(), drains.clone(), appender.clone()));
        let schedules = Arc::new(Schedules::new(shared.clone(), syncs.clone()));
        let letters = Arc::new(Letters::new(shared.clone(), appender.clone()));
        let rebuilds = Arc::new(Rebuilds::new(shared.clone()));
        Self {
            catalog,
            questions: Questions::new(shared.clone()),
            inspection: Inspection {
                shared: shared.clone(),
                appender: appender.clone(),
                syncs: syncs.clone(),
                schedules: schedules.clone(),
                drains: drains.clone(),
                letters: letters.clone(),
                rebuilds: rebuilds.clone(),
                started: Instant::now(),
            },
            doctor: Doctor {
                shared: shared.clone(),
                project: project.clone(),
                drains: drains.clone(),
                letters: letters.clone(),
            },
            project,
            appender,
            syncs,
            schedules,
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

    /// Starts the drains of this process, and goes on with rebuilds that another left behind.
    pub async fn start_drains(&self) {
        self.drains.start().await;
        self.rebuilds.resume();
    }

    /// Cancels the syncs of this process between two pages, lets the drains finish what they hold, and ends.
    pub async fn shut_down(&self) {
        self.shared.closing.cancel();
        self.syncs.cancel_all();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.drains.stop().await;
    }
}
