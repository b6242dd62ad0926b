//! What everything in the engine works with: the parts, how to work, and what is known to be ready.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::try_join_all;
use tokio::sync::OnceCell;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{EngineError, EngineSettings, erased::Erased, reading::Reading};
use crate::{
    domain::Catalog,
    export::KeptExports,
    fault::{Fault, FaultKind},
    identity::group_name,
    index::Index,
    log::{Log, Position},
    next_step::NextStep,
    sink::Sink,
    source::Source,
    store::Store,
};

/// One of each part, and the tasks that work with them.
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    pub(super) source: Arc<dyn Source>,
    pub(super) log: Arc<dyn Log>,
    pub(super) store: Arc<dyn Store>,
    pub(super) index: Arc<dyn Index>,
    /// Store and index.
    pub(super) sinks: [Arc<dyn Sink>; 2],
    pub(super) erased: Arc<Erased>,
    pub(super) exports: KeptExports,
    pub(super) settings: EngineSettings,
    pub(super) tasks: TaskTracker,
    /// Cancelled when the engine shuts down.
    pub(super) closing: CancellationToken,
    /// Cancelled when what is still under way then is given up on.
    pub(super) abandoned: CancellationToken,
    store_ready: OnceCell<()>,
    log_ready: OnceCell<()>,
    /// Set once the log was seen to have all that the store has of it.
    log_goes_on: OnceCell<()>,
    /// Each sink's reading as it was last.
    met: Mutex<HashMap<&'static str, Reading>>,
}

impl Shared {
    pub(super) fn new(
        catalog: Catalog,
        source: Arc<dyn Source>,
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        index: Arc<dyn Index>,
        settings: EngineSettings,
    ) -> Self {
        Self {
            catalog,
            source,
            log,
            sinks: [store.clone(), index.clone()],
            erased: Arc::new(Erased::new(store.clone())),
            store,
            index,
            exports: settings.exports.kept(),
            settings,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            store_ready: OnceCell::new(),
            log_ready: OnceCell::new(),
            log_goes_on: OnceCell::new(),
            met: Mutex::default(),
        }
    }

    /// Brings tables, templates and topics up to date.
    pub(super) async fn prepare(&self) -> Result<(), Fault> {
        tokio::try_join!(
            self.log.ensure_topics(),
            try_join_all(self.sinks.iter().map(|sink| sink.prepare()))
        )?;
        Ok(())
    }

    /// The first question to a new log may come before a drain has made its topics. One that was deleted since is no
    /// such log: that is told, not mended.
    pub(super) async fn ready_log(&self) -> Result<&dyn Log, Fault> {
        self.log_ready.get_or_try_init(|| self.log.ensure_topics()).await?;
        Ok(&*self.log)
    }

    /// The first question to a new database may come before a drain has made its tables. Those that are there stay as they
    /// are: only who writes them makes them as its definitions say.
    pub(super) async fn ready_store(&self) -> Result<&dyn Store, Fault> {
        self.store_ready.get_or_try_init(|| self.store.make_missing()).await?;
        Ok(&*self.store)
    }

    /// Before this process appends anything: a log that was restored from an older copy would give out offsets again that the
    /// store has, and the store would pass over what gets them. Where the log ends before the store, it becomes another.
    pub(super) async fn meet_end_of_log(&self) -> Result<(), Fault> {
        if !self.log.may_go_back() {
            return Ok(());
        }
        let met = self.log_goes_on.get_or_try_init(async || {
            let log = self.log.identity().await?;
            let applied = self.ready_store().await?.applied(&log.to_string()).await?.unwrap_or_default();
            let extents = self.log.extents().await?;
            let is_beyond = |at: &&Position| {
                extents.iter().any(|extent| extent.partition == at.partition && extent.high < at.offset)
            };
            if let Some(at) = applied.iter().find(is_beyond) {
                warn!(
                    place = log.place,
                    id = log.id,
                    partition = at.partition,
                    offset = at.offset,
                    "the log ends before what the store has of it: it was restored from an older copy, and is another log from now on"
                );
                self.log.renew().await?;
            }
            Ok(())
        });
        met.await.copied()
    }

    /// Why nothing can be written although every part answers, where that can be told without writing.
    pub(super) fn shortage(&self) -> Option<Fault> {
        self.store.shortage().or_else(|| self.log.shortage())
    }

    /// A sink by its name, which `field` of a request gave.
    pub(super) fn sink(&self, field: &'static str, name: &str) -> Result<&dyn Sink, EngineError> {
        self.sinks.iter().map(|sink| &**sink).find(|sink| sink.name() == name).ok_or_else(|| {
            let names = self.sink_names();
            EngineError::Invalid {
                field,
                problem: format!("{name:?} is no sink; give {}", names.join(" or ")),
            }
        })
    }

    /// Which log a sink is drained from now, and which sink it is. Of one that does not answer, as it was last; one that
    /// is still to be made has read nothing, and one that needs a person says what it needs.
    pub(super) async fn reading(&self, sink: &dyn Sink) -> Result<Reading, Fault> {
        let now = Reading::of(&*self.log, sink, &self.group_of(sink)).await;
        let fault = match now {
            Ok(reading) => {
                self.lock_met().insert(sink.name(), reading.clone());
                return Ok(reading);
            }
            Err(fault) if fault.part == sink.name() => fault,
            Err(fault) => return Err(fault),
        };
        if fault.kind == FaultKind::Misconfigured && fault.advice == NextStep::Migrate {
            let log = self.log.identity().await?;
            return Ok(Reading { group: group_name(&self.group_of(sink), &log, &[]), log, sink: Vec::new() });
        }
        let met = self.lock_met().get(sink.name()).cloned();
        met.filter(|_| fault.kind != FaultKind::Misconfigured).ok_or(fault)
    }

    fn lock_met(&self) -> MutexGuard<'_, HashMap<&'static str, Reading>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the store and of the index.
    pub(super) fn sink_names(&self) -> [&'static str; 2] {
        self.sinks.each_ref().map(|sink| sink.name())
    }

    /// What the names of a sink's consumer groups begin with: its pauses hold for all of them.
    pub(super) fn group_of(&self, sink: &dyn Sink) -> String {
        format!("{}.{}", self.settings.group_prefix, sink.name())
    }
}
