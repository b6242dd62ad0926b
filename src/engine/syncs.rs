//! Syncs as a user meets them: started, followed, listed, cancelled.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{FutureExt as _, future::join_all};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, warn};
use uuid::Uuid;

use super::{
    EngineError, SyncPhase, SyncStatus, SyncWatcher,
    appender::Appender,
    drains::{Drains, LOOK_EVERY},
    error::table_named,
    metrics::{Flow, FlowMetrics},
    progress::SinkProgress,
    read_back,
    reconcile::Reconcile,
    renamed_key,
    shared::Shared,
    sync::SyncRun,
};
use crate::{
    domain::{Table, TableName},
    fault::Fault,
    identity::Identity,
    source::Source,
    store::{Begun, NewSync, SyncFilter, SyncProgress, SyncRecord, SyncRequest, SyncState},
    traces::{self, Span, SpanBuilder},
};

/// A poll of a schedule takes moments, and the next one comes soon: whoever asks for a sync waits this long for its end.
const POLLS_END_WITHIN: Duration = Duration::from_secs(5);
const ASK_AGAIN_EVERY: Duration = Duration::from_millis(20);

/// The furthest a sync may look back.
pub const MAX_HOURS: u32 = 876_600;

/// The syncs of every process; those that run here can be watched closely.
pub struct Syncs {
    pub(super) shared: Arc<Shared>,
    drains: Arc<Drains>,
    appender: Arc<Appender>,
    running: Arc<Mutex<HashMap<Uuid, RunningSync>>>,
    /// What syncs read.
    reads: Arc<Flow>,
}

struct RunningSync {
    cancel: CancellationToken,
    progress: watch::Receiver<SyncProgress>,
    retry_after: Arc<OnceLock<Duration>>,
}

impl Syncs {
    pub(super) fn new(shared: Arc<Shared>, drains: Arc<Drains>, appender: Arc<Appender>) -> Self {
        Self { shared, drains, appender, running: Arc::default(), reads: Arc::new(Flow::new()) }
    }

    /// Starts a sync in the background.
    ///
    /// # Errors
    /// When the request is out of range, another sync of the table runs, or a part can't be reached.
    pub async fn start(&self, request: SyncRequest) -> Result<Uuid, EngineError> {
        let until = Instant::now() + POLLS_END_WITHIN;
        loop {
            match self.begin(request.clone()).await {
                Err(EngineError::Busy(running))
                    if request.since.is_none()
                        && running.as_ref().is_none_or(|running| running.request.since.is_some())
                        && Instant::now() < until =>
                {
                    tokio::time::sleep(ASK_AGAIN_EVERY).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn begin(&self, request: SyncRequest) -> Result<Uuid, EngineError> {
        let table = check(&self.shared, &request)?;
        let Shared { source, log, store, settings, .. } = &*self.shared;
        source.get_ready();
        // What a sync needs; an index that is down catches up later.
        if request.since.is_none() {
            // A poll follows a run that made sure of them.
            log.ensure_topics().await?;
        }
        self.shared.ready_store().await?;
        self.shared.meet_end_of_log().await?;
        let identity = log.identity().await?;
        store.meet_log(&identity).await?;
        // Before the lease, and the debt, are taken. What is there must answer: a mistyped address is no other project.
        let origin = origin_of(&**source, table);
        if let Some(met) = store.met_source(&origin.place).await?.filter(|met| *met != origin.id) {
            source.row_count(table).await?;
            if place_of(&met) == place_of(&origin.id) {
                renamed_key::check(&self.shared, &request, table).await?;
            }
        }
        if store.meet_source(&request.table, &origin).await?.is_some() {
            warn!(%table, "the table is read from elsewhere than before: it is read again from where earlier syncs began");
        }
        let letters = log.dead_letters_identity().await?.to_string();
        let log_id = identity.to_string();
        let id = Uuid::now_v7();
        let new =
            NewSync { id, request: request.clone(), log: log_id.clone(), owner: settings.owner.clone() };
        let (lease, coverage) = match store.begin_sync(new).await? {
            Begun::Started { lease, coverage } => (lease, coverage),
            Begun::Busy(running) => return Err(EngineError::Busy(running)),
        };
        let owed = store.owed().await?.into_iter().find(|owed| owed.table == request.table);
        let earlier = SyncFilter {
            table: Some(request.table.clone()),
            before: Some(id),
            limit: read_back::LOOK_BACK,
            ..SyncFilter::default()
        };
        // Dropped on a fault, the lease is given back.
        let unremembered = read_back::unremembered(&store.syncs(&earlier).await?, &log_id);
        // Also of a sync that begins while the process ends.
        let cancel = self.shared.closing.child_token();
        let (sender, receiver) = watch::channel(SyncProgress::default());
        let reached = receiver.clone();
        let run = SyncRun {
            id,
            table,
            request,
            source: source.clone(),
            log: log.clone(),
            log_id,
            letters,
            store: store.clone(),
            appender: self.appender.clone(),
            erased: self.shared.erased.clone(),
            coverage,
            owed,
            unremembered,
            page_size: settings.page_size,
            overlap: settings.overlap,
            cancel: cancel.clone(),
            progress: sender,
            reads: self.reads.clone(),
            newer_than: HashMap::new(),
            retry_after: Arc::default(),
        };
        let retry_after = run.retry_after.clone();
        self.lock_running().insert(id, RunningSync { cancel, progress: receiver, retry_after });
        let (running, abandoned) = (self.running.clone(), self.shared.abandoned.clone());
        let asked = run.request.reconcile;
        let outcome = match asked {
            Some(asked) => Reconcile::new(&self.shared, run, asked).run(lease).boxed(),
            None => run.run(lease).boxed(),
        };
        let span = Span::begin(|| {
            let name = if asked.is_some() { "reconcile" } else { "sync" };
            let attributes = [traces::TABLE.is(table.to_string()), traces::SYNC.is(id.to_string())];
            SpanBuilder::from_name(format!("{name} {table}")).with_attributes(attributes)
        });
        let work = async move {
            // Cut, it drops the lease: the sync shows as interrupted.
            let ended = abandoned.run_until_cancelled(span.around(outcome)).await;
            let state = match &ended {
                Some(Ok(state)) => *state,
                None | Some(Err(_)) => SyncState::Interrupted,
            };
            let reached = reached.borrow().clone();
            span.note(traces::SYNC_STATE.is(state.as_str()));
            span.note(traces::ROWS_READ.counts(reached.rows_read));
            span.note(traces::APPENDED.counts(reached.appended));
            if state == SyncState::Failed {
                span.fail("sync");
            }
            if let Some(Err(fault)) = ended {
                error!(sync_id = %id, error = %fault, "the end of a sync could not be recorded");
            }
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        };
        // What it logs belongs to the call that asked for it.
        self.shared.tasks.spawn(work.in_current_span());
        Ok(id)
    }

    /// Asks a sync to stop before its next page, whichever process runs it. `false` when it does not run any more.
    ///
    /// # Errors
    /// When the sync is unknown or the store can't be reached.
    pub async fn cancel(&self, id: Uuid) -> Result<bool, EngineError> {
        // What runs here stops also where the store does not answer.
        let ran_here = self.lock_running().get(&id).map(|sync| sync.cancel.cancel()).is_some();
        self.known(id).await?;
        Ok(self.shared.store.request_cancel(id).await? || ran_here)
    }

    /// The syncs of this process that have not ended.
    pub(super) fn running_here(&self) -> Vec<Uuid> {
        self.lock_running().keys().copied().collect()
    }

    /// How a sync is.
    ///
    /// # Errors
    /// When it is unknown or the store can't be reached.
    pub async fn status(&self, id: Uuid) -> Result<SyncStatus, EngineError> {
        let record = self.known(id).await?;
        // One that runs may go on to append.
        let is_to_be_noted = !record.drained && record.state != SyncState::Running;
        let mut status = self.status_of(record).await;
        let is_drained = status.sinks.iter().all(|sink| sink.queryable);
        if is_drained
            && is_to_be_noted
            && let Err(fault) = self.shared.store.note_drained(&[id]).await
        {
            debug!(error = %fault, "that a sync is in every sink could not be remembered");
        }
        if status.state == SyncPhase::Done {
            // A sink parks what it can't take before it counts it as applied.
            status.parked = self.parked(&status.table).await.ok();
        }
        Ok(status)
    }

    async fn parked(&self, table: &str) -> Result<u64, Fault> {
        let log = self.shared.log.dead_letters_identity().await?.to_string();
        self.shared.store.parked_count(&log, &TableName(table.to_owned())).await
    }

    /// The latest syncs, newest first.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn recent(&self, limit: u32) -> Result<Vec<SyncStatus>, Fault> {
        let records = self.shared.ready_store().await?.recent_syncs(limit).await?;
        Ok(join_all(records.into_iter().map(|record| self.status_of(record))).await)
    }

    /// Syncs, newest first, and the id to go on from when there are more.
    ///
    /// # Errors
    /// When the limit is out of range, `before` is unknown, or the store can't be reached.
    pub async fn list(&self, filter: SyncFilter) -> Result<(Vec<SyncStatus>, Option<Uuid>), EngineError> {
        const MOST: u32 = 100;
        if filter.limit == 0 || filter.limit > MOST {
            let problem = format!("{} is out of range; give 1 to {MOST} syncs", filter.limit);
            return Err(EngineError::Invalid { field: "limit", problem });
        }
        let store = self.shared.ready_store().await?;
        if let Some(before) = filter.before
            && store.sync(before).await?.is_none()
        {
            let problem = "is of no sync; give the next_cursor of the call before".to_owned();
            return Err(EngineError::Invalid { field: "cursor", problem });
        }
        let limit = filter.limit as usize;
        let mut records = store.syncs(&SyncFilter { limit: filter.limit + 1, ..filter }).await?;
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|record| record.id);
        let listed = join_all(records.into_iter().map(|record| self.status_of(record))).await;
        Ok((listed, next))
    }

    /// Waits until everything the sync appended is queryable in every sink, but no longer than `patience`, and
    /// returns how it then is. `watcher` hears of every step.
    ///
    /// # Errors
    /// When the sync is unknown or the store can't be reached.
    pub async fn wait_for(
        &self,
        id: Uuid,
        patience: Duration,
        watcher: &mut dyn SyncWatcher,
    ) -> Result<SyncStatus, EngineError> {
        let until = tokio::time::Instant::now() + patience;
        let mut last: Option<SyncStatus> = None;
        loop {
            let status = self.status(id).await?;
            if last.as_ref() != Some(&status) {
                watcher.saw(&status).await;
            }
            if status.is_final() || tokio::time::Instant::now() + LOOK_EVERY > until {
                return Ok(status);
            }
            last = Some(status);
            self.look_again(id).await;
        }
    }

    /// How a sync of this process ended, once it has; `hear` is told of its progress until then. No sink is asked where it
    /// appended something: that counts as not drained yet. Of one that does not run here, as [`Syncs::status`].
    ///
    /// # Errors
    /// When it is unknown or the store can't be reached.
    pub async fn ended(
        &self,
        id: Uuid,
        hear: impl FnMut(&SyncProgress) + Send,
    ) -> Result<SyncStatus, EngineError> {
        self.ended_here(id, hear).await;
        let record = self.known(id).await?;
        if record.progress.appended == 0 || record.state == SyncState::Running {
            return self.status(id).await;
        }
        let sinks = self.shared.sinks.iter().map(|sink| SinkProgress::unasked(sink.name()));
        Ok(SyncStatus::new(record, sinks.collect()))
    }

    /// Returns once a sync of this process has ended, whatever is still to be drained; at once where none such runs.
    pub(super) async fn ended_here(&self, id: Uuid, mut hear: impl FnMut(&SyncProgress) + Send) {
        if let Some(mut progress) = self.progress(id) {
            // Its sender goes with it.
            while progress.changed().await.is_ok() {
                hear(&progress.borrow_and_update());
            }
        }
    }

    pub(super) async fn known(&self, id: Uuid) -> Result<SyncRecord, EngineError> {
        self.shared.ready_store().await?.sync(id).await?.ok_or(EngineError::UnknownSync(id))
    }

    /// Hears of the progress of a sync that runs here.
    pub(super) fn progress(&self, id: Uuid) -> Option<watch::Receiver<SyncProgress>> {
        self.lock_running().get(&id).map(|sync| sync.progress.clone())
    }

    /// How long the source asked to be left alone, where a sync that runs here fails for that.
    pub(super) fn retry_after(&self, id: Uuid) -> Option<Arc<OnceLock<Duration>>> {
        self.lock_running().get(&id).map(|sync| sync.retry_after.clone())
    }

    /// What syncs of this process read.
    pub(super) fn reads(&self) -> FlowMetrics {
        self.reads.report()
    }

    /// Returns when a sync of this process has progressed, or after a moment.
    async fn look_again(&self, id: Uuid) {
        match self.progress(id) {
            Some(mut progress) => {
                progress.mark_unchanged();
                tokio::time::timeout(LOOK_EVERY, progress.changed()).await.ok();
            }
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }

    async fn status_of(&self, record: SyncRecord) -> SyncStatus {
        let has_ended = record.state != SyncState::Running;
        let SyncRecord { log, progress, started_at, drained, .. } = &record;
        let sinks = self.drains.progress_to(log, &progress.targets, *started_at, has_ended, *drained).await;
        SyncStatus::new(record, sinks)
    }

    fn lock_running(&self) -> MutexGuard<'_, HashMap<Uuid, RunningSync>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table that a request is about, where the request keeps its limits.
pub(super) fn check(shared: &Shared, request: &SyncRequest) -> Result<Table, EngineError> {
    let table = table_named(shared.catalog, &request.table)?;
    check_limits(table, request).map_err(|(field, problem)| EngineError::Invalid { field, problem })?;
    Ok(table)
}

/// Where a table is read from and by which times: of anything else its coverage says nothing. A digest, since an origin
/// may name what is nobody's business; behind it stands what the key is called there, where that is not what it is called here.
pub(super) fn origin_of(source: &dyn Source, table: Table) -> Identity {
    let mut digest = Sha256::new();
    digest.update(source.origin(table));
    for time in [&table.time.modified, &table.time.created] {
        digest.update([0]);
        digest.update(time.as_deref().unwrap_or_default());
    }
    let mut id = STANDARD.encode(digest.finalize());
    let key = table.definition().key_source();
    if key != table.key.column {
        id = format!("{id} {key}");
    }
    Identity { place: format!("{table} at the source"), id }
}

/// What tells in an id of [`origin_of`] where a table is read from, whatever its key is called there.
fn place_of(id: &str) -> &str {
    id.split_once(' ').map_or(id, |(place, _)| place)
}

/// The limits a request must keep.
fn check_limits(table: Table, request: &SyncRequest) -> Result<(), (&'static str, String)> {
    const MAX_EVENTS: u32 = 1_000_000;
    if request.hours_ago == 0 || request.hours_ago > MAX_HOURS {
        return Err((
            "hours_ago",
            format!("{} is out of range; give 1 to {MAX_HOURS} hours", request.hours_ago),
        ));
    }
    if request.limit == 0 || request.limit > MAX_EVENTS && request.limit != SyncRequest::NO_LIMIT {
        return Err(("limit", format!("{} is out of range; give 1 to {MAX_EVENTS} events", request.limit)));
    }
    for condition in &request.conditions {
        let column = table.definition().column(&condition.column);
        if column.is_none() && condition.column != table.key.column {
            let known: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            return Err((
                "filter",
                format!("{table} has no column '{}'; it has {}", condition.column, known.join(", ")),
            ));
        }
        if condition.value.trim().is_empty() {
            return Err(("filter", format!("the value of '{}' is empty; leave it out", condition.column)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Catalog;

    #[test]
    fn a_request_out_of_range_names_the_field_and_the_range() {
        let leads = Catalog::built_in().get("leads").expect("leads");
        let mut request = SyncRequest {
            table: leads.into(),
            hours_ago: 0,
            limit: 1,
            conditions: Vec::new(),
            resume: false,
            reappend: false,
            reconcile: None,
            since: None,
        };
        let (field, problem) = check_limits(leads, &request).expect_err("zero hours");
        assert_eq!(field, "hours_ago");
        assert!(problem.contains("1 to"), "{problem}");
        request.hours_ago = 1;
        for (limit, is_fine) in
            [(0, false), (1_000_000, true), (1_000_001, false), (SyncRequest::NO_LIMIT, true)]
        {
            request.limit = limit;
            assert_eq!(check_limits(leads, &request).is_ok(), is_fine, "{limit}");
        }
        request.conditions.push(crate::source::Condition {
            column: "statuss".into(),
            compare: crate::domain::Compare::Eq,
            value: "novo".into(),
        });
        let (field, problem) = check_limits(leads, &request).expect_err("no such column");
        assert!(field == "filter" && problem.contains("'statuss'"), "{problem}");
    }
}
