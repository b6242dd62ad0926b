//! The engine: syncs, drains and what they report, over the ports alone.

mod control;
mod dead_letters;
mod doctor;
mod drain;
mod lag;
mod letter_pages;
mod letters;
mod metrics;
mod operations;
mod progress;
mod project;
mod queries;
mod rebuild;
mod recent;
mod reconcile;
mod scheduler;
mod stats;
mod status;
mod supervisor;
mod sync;
mod window;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use futures::{FutureExt as _, future::try_join_all};
use tokio::sync::{OnceCell, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, error};
use uuid::Uuid;

pub use control::SinkPause;
pub use doctor::{Finding, Outcome};
pub use drain::Drain;
pub use lag::{PartitionLag, SinkLag};
pub use letter_pages::{parse_letter_id, read_cursor, write_cursor};
pub use letters::{
    LeftLetter, Letter, LetterFilter, LetterPage, LetterState, MOST_SETTLED, Selection, SettleOutcome,
};
pub use metrics::{EngineMetrics, FlowMetrics, SinkMetrics};
pub use progress::{SinkProgress, SyncPhase, SyncStatus, SyncWatcher};
pub use queries::{EntityHistory, EntityKey, Related};
pub use rebuild::{RebuildPhase, RebuildStatus};
pub use recent::Distribution;
pub use reconcile::{DeleteLimits, ReconcileSettings};
pub use scheduler::ScheduleStatus;
pub use stats::{DrainReport, DrainState, DrainStats, SinkTimes};
pub use status::{Count, PartStatus, PipelineStatus};
pub use sync::{MAX_HOURS, event_record};

use crate::{
    domain::{Catalog, Table, TableName},
    fault::Fault,
    index::{Fields, Index, IndexName, SearchAnswer, SearchError, SearchRequest},
    log::{BatchLimits, Log},
    sink::Sink,
    source::{Source, SourceHealth, TableOverview},
    store::{Begun, NewSync, Store, SyncProgress, SyncRecord, SyncRequest},
};
use metrics::Flow;
use supervisor::Supervisor;

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

/// Why a request to the engine came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error("{}", busy_message(.0.as_deref()))]
    Busy(Option<Box<SyncRecord>>),
    #[error("sync_id: no sync {0} is known; list the latest with get_pipeline_status")]
    UnknownSync(Uuid),
    #[error("{}", unknown_table(.name, *.catalog))]
    UnknownTable { name: TableName, catalog: Catalog },
    #[error("{}", unknown_entity(*.table, .key))]
    UnknownEntity { table: Table, key: EntityKey },
}

fn busy_message(running: Option<&SyncRecord>) -> String {
    match running {
        Some(running) => format!(
            "a {} of {} runs already: {} since {} on {}; wait for it with get_sync or stop it with cancel_sync",
            if running.request.reconcile.is_some() { "reconciliation" } else { "sync" },
            running.request.table,
            running.id,
            running.started_at.format("%Y-%m-%dT%H:%M:%SZ"),
            running.owner
        ),
        None => "another sync of this table is just ending; try again".to_owned(),
    }
}

fn unknown_table(name: &TableName, catalog: Catalog) -> String {
    let close =
        catalog.tables().map(Table::name).filter(|known| strsim::damerau_levenshtein(known, &name.0) <= 3);
    let meant = close.map(|known| format!("; did you mean {known}?")).next().unwrap_or_default();
    format!(
        "table: no table '{name}' is defined; there are {}{meant}; `sluice tables discover {name}` defines another",
        catalog.names()
    )
}

fn unknown_entity(table: Table, key: &EntityKey) -> String {
    let (field, next) = match key {
        EntityKey::Key(_) => ("key", "check it, or find it with query_store"),
        EntityKey::Lookup { column, .. } => (column.as_str(), "check it, or find it with query_store"),
    };
    format!(
        "{field}: no such {} is stored; {next}, or bring in what is new with a sync of {table}",
        table.entity
    )
}

/// Reads, logs, drains and answers.
pub struct Engine {
    catalog: Catalog,
    source: Arc<dyn Source>,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    index: Arc<dyn Index>,
    sinks: Vec<Arc<dyn Sink>>,
    store_ready: Arc<OnceCell<()>>,
    log_ready: OnceCell<()>,
    supervisor: Supervisor,
    settings: EngineSettings,
    running: Arc<Mutex<HashMap<Uuid, RunningSync>>>,
    /// The latest of each index.
    rebuilds: Mutex<HashMap<IndexName, watch::Receiver<RebuildStatus>>>,
    tasks: TaskTracker,
    /// Cancelled when the engine shuts down.
    closing: CancellationToken,
    started: Instant,
    /// What syncs read.
    reads: Arc<Flow>,
    /// What was appended to the log.
    appends: Arc<Flow>,
}

struct RunningSync {
    cancel: CancellationToken,
    progress: watch::Receiver<SyncProgress>,
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
        let sinks: Vec<Arc<dyn Sink>> = vec![store.clone(), index.clone()];
        let drains = sinks
            .iter()
            .map(|sink| Drain {
                catalog,
                log: log.clone(),
                sink: sink.clone(),
                store: store.clone(),
                group: group_of(&settings, &**sink),
                limits: settings.batch,
                pauses: settings.pauses,
                stats: Arc::new(DrainStats::new(sink.name())),
                parks: true,
            })
            .collect();
        Self {
            catalog,
            source,
            log,
            store,
            index,
            sinks,
            store_ready: Arc::default(),
            log_ready: OnceCell::new(),
            supervisor: Supervisor::new(drains),
            settings,
            running: Arc::default(),
            rebuilds: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            started: Instant::now(),
            reads: Arc::new(Flow::new()),
            appends: Arc::new(Flow::new()),
        }
    }

    /// Brings tables, templates and topics up to date.
    ///
    /// # Errors
    /// When a part can't be reached or refuses.
    pub async fn prepare(&self) -> Result<(), Fault> {
        tokio::try_join!(
            self.log.ensure_topics(),
            try_join_all(self.sinks.iter().map(|sink| sink.prepare()))
        )?;
        Ok(())
    }

    /// Starts the drains of this process, and goes on with rebuilds that another left behind.
    pub async fn start_drains(self: &Arc<Self>) {
        let (store, ready) = (self.store.clone(), self.store_ready.clone());
        self.supervisor
            .start(move || {
                let (store, ready) = (store.clone(), ready.clone());
                async move {
                    ready.get_or_try_init(|| store.prepare()).await?;
                    store.pauses().await
                }
            })
            .await;
        self.resume_rebuilds();
    }

    /// Cancels the syncs of this process between two pages, lets the drains finish what they hold, and ends.
    pub async fn shut_down(&self) {
        self.closing.cancel();
        for sync in self.lock_running().values() {
            sync.cancel.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.supervisor.stop().await;
    }

    /// Starts a sync in the background.
    ///
    /// # Errors
    /// When the request is out of range, another sync of the table runs, or a part can't be reached.
    pub async fn start_sync(&self, request: SyncRequest) -> Result<Uuid, EngineError> {
        let table = self.table(&request.table)?;
        sync::check(table, &request).map_err(|(field, problem)| EngineError::Invalid { field, problem })?;
        // What a sync needs; an index that is down catches up later.
        self.log.ensure_topics().await?;
        self.ready_store().await?;
        let log = self.log.identity().await?;
        let id = Uuid::now_v7();
        let new = NewSync { id, request: request.clone(), log, owner: self.settings.owner.clone() };
        let log_id = new.log.clone();
        let (lease, coverage) = match self.store.begin_sync(new).await? {
            Begun::Started { lease, coverage } => (lease, coverage),
            Begun::Busy(running) => return Err(EngineError::Busy(running)),
        };
        let cancel = CancellationToken::new();
        let (sender, receiver) = watch::channel(SyncProgress::default());
        let run = sync::SyncRun {
            id,
            table,
            request,
            source: self.source.clone(),
            log: self.log.clone(),
            log_id,
            store: self.store.clone(),
            coverage,
            page_size: self.settings.page_size,
            overlap: self.settings.overlap,
            cancel: cancel.clone(),
            progress: sender,
            reads: self.reads.clone(),
            appends: self.appends.clone(),
            newer_than: HashMap::new(),
        };
        self.lock_running().insert(id, RunningSync { cancel, progress: receiver });
        let running = self.running.clone();
        let asked = run.request.reconcile;
        let outcome = match asked {
            Some(asked) => self.reconciliation(run, asked).run(lease).boxed(),
            None => run.run(lease).boxed(),
        };
        let work = async move {
            if let Err(fault) = outcome.await {
                error!(sync_id = %id, error = %fault, "the end of a sync could not be recorded");
            }
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        };
        // What it logs belongs to the call that asked for it.
        self.tasks.spawn(work.in_current_span());
        Ok(id)
    }

    /// Asks a sync to stop before its next page, whichever process runs it. `false` when it does not run any more.
    ///
    /// # Errors
    /// When the sync is unknown or the store can't be reached.
    pub async fn cancel_sync(&self, id: Uuid) -> Result<bool, EngineError> {
        self.known_sync(id).await?;
        let asked = self.store.request_cancel(id).await?;
        if let Some(sync) = self.lock_running().get(&id) {
            sync.cancel.cancel();
        }
        Ok(asked)
    }

    /// Searches the index.
    ///
    /// # Errors
    /// When the request has no meaning, or the index can't be reached.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, EngineError> {
        Ok(self.index.search(request).await?)
    }

    /// The fields that can be searched in an index.
    pub fn search_fields(&self, index: IndexName) -> &'static Fields {
        self.index.fields(index)
    }

    /// Every sink's lag.
    ///
    /// # Errors
    /// When the log or a sink can't be reached.
    pub async fn lag(&self) -> Result<Vec<SinkLag>, Fault> {
        self.ready_log().await?;
        self.lag_as_it_is().await
    }

    /// As [`Engine::lag`], of topics that may not be there: whoever examines must not change.
    async fn lag_as_it_is(&self) -> Result<Vec<SinkLag>, Fault> {
        let log_id = self.log.identity().await?;
        let extents = self.log.extents().await?;
        try_join_all(self.sinks.iter().map(|sink| async {
            let group = group_of(&self.settings, &**sink);
            let standing = lag::standing(&*self.log, &log_id, &**sink, &group).await?;
            Ok(lag::lag_of(sink.name(), &group, &standing, &extents))
        }))
        .await
    }

    /// Counts over every table of the source; what the project lacks is told of its table.
    ///
    /// # Errors
    /// When the source can't be reached or refuses.
    pub async fn overview(&self) -> Result<(SourceHealth, Vec<TableOverview>), Fault> {
        let tables = try_join_all(self.catalog.tables().map(|table| self.source.overview(table)));
        tokio::try_join!(self.source.health(), tables)
    }

    /// Every table this process knows.
    pub fn catalog(&self) -> Catalog {
        self.catalog
    }

    /// The table of that name.
    ///
    /// # Errors
    /// When none is defined: the error names those that are.
    pub fn table(&self, name: &TableName) -> Result<Table, EngineError> {
        let unknown = || EngineError::UnknownTable { name: name.clone(), catalog: self.catalog };
        self.catalog.get(&name.0).ok_or_else(unknown)
    }

    /// What to tell a user whose sync found no row, when the key may be the reason.
    pub fn empty_hint(&self) -> Option<String> {
        self.source.empty_hint().map(|hint| hint.to_string())
    }

    /// The drains of this process.
    pub fn drain_reports(&self) -> Vec<DrainReport> {
        self.supervisor.reports()
    }

    /// The first question to a new log may come before a drain has made its topics. One that was deleted since is no
    /// such log: that is told, not mended.
    async fn ready_log(&self) -> Result<(), Fault> {
        self.log_ready.get_or_try_init(|| self.log.ensure_topics()).await?;
        Ok(())
    }

    /// The first question to a new database may come before a drain has made its tables.
    async fn ready_store(&self) -> Result<&dyn Store, Fault> {
        self.store_ready.get_or_try_init(|| self.store.prepare()).await?;
        Ok(&*self.store)
    }

    fn drains_here(&self) -> bool {
        self.supervisor.started()
    }

    fn sinks(&self) -> &[Arc<dyn Sink>] {
        &self.sinks
    }

    fn dead_letter_topic(&self) -> &str {
        &self.settings.dead_letter_topic
    }

    fn lock_rebuilds(&self) -> MutexGuard<'_, HashMap<IndexName, watch::Receiver<RebuildStatus>>> {
        self.rebuilds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_running(&self) -> MutexGuard<'_, HashMap<Uuid, RunningSync>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn group_of(settings: &EngineSettings, sink: &dyn Sink) -> String {
    format!("{}.{}", settings.group_prefix, sink.name())
}
