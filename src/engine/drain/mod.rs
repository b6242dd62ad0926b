//! The drain: reads the log and applies it to one sink, for ever.
//!
//! It promises that a record's offset moves only after the sink has made the record durable or the log has
//! acknowledged its dead letter, that a passing fault is retried without limit, and that one bad record never holds
//! up its neighbours. While a batch is applied, in as many lanes of partitions of their own as the sink takes, the next is
//! read and decoded, and the offsets of the one before are committed. Only a sink that takes batches in any order
//! begins with the next before the last one has ended, and they count in theirs. After any
//! fault the drain waits until nothing is on its way, drops what failed and what came behind it and reads that again, so there is
//! no state that could disagree with the sink's; and it waits before partitions go. Where it
//! stands in the sink is compared with the sink's own offsets every few seconds, since one that lost commits says nothing.
//!
//! Nothing of an erased entity is applied. A store sees to that within its transaction. Of a sink that can't, the drain
//! leaves such records out by the ledger as it was before the batch, removes what earlier deliveries of them brought, and
//! commits only what was applied by the ledger as it is: after an erasure, what is not committed is read again. While the
//! store does not answer, the last known ledger holds and nothing is committed.

mod apply;
mod batch;
mod erasing;
mod group;
mod parking;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{apply::Flight, batch::Batch, group::Commit};
use super::{
    erased::Erased,
    gaps,
    reading::Reading,
    stats::{DrainState, DrainStats},
};
use crate::{
    backoff::Backoff,
    domain::{Catalog, ErasureLedger},
    fault::{Fault, FaultKind},
    log::{BatchLimits, Delivery, Extent, Log, LogReader, Position, records_in},
    sink::{Sink, SinkEvent},
    store::{Notice, NoticeKind, ParkedEntity, Store},
};

/// How old the knowledge may be that log and sink are those that the drain began with, when a batch is applied; and how
/// often it is looked while nothing comes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_IDLE_EVERY: Duration = Duration::from_secs(5);

/// Fewest records a batch is cut down to while a sink keeps failing.
const MIN_BATCH: usize = 100;

/// How long a group may refuse commits: a rebalance ends within the session timeout of a member that died amid it,
/// and begins again at most a few times.
const REFUSED_FOR: Duration = Duration::from_mins(1);

/// How long partitions that go wait for what was applied of them to be committed.
const COMMITS_WITHIN: Duration = Duration::from_secs(5);

/// How long a run without a partition is taken to be still joining its group; afterwards it stands by.
const STANDS_BY_AFTER: Duration = Duration::from_secs(30);

/// How long reading a failed batch again may take: longer, and its records are gone from the log.
const READ_AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// What a drain needs.
#[derive(Clone)]
pub struct Drain {
    pub catalog: Catalog,
    pub log: Arc<dyn Log>,
    pub sink: Arc<dyn Sink>,
    /// Where it is noted which entities have open letters.
    pub store: Arc<dyn Store>,
    /// What the name of this sink's consumer group begins with; the rest says which log and which sink these are.
    pub group: String,
    pub limits: BatchLimits,
    /// First and longest pause after a fault.
    pub pauses: (Duration, Duration),
    pub stats: Arc<DrainStats>,
    /// Whether what the sink can never take becomes a dead letter. Where a record is only read again it was one
    /// before, and is passed over.
    pub parks: bool,
}

/// A partition this drain owns.
#[derive(Debug, Clone, Copy)]
struct Held {
    epoch: i64,
    /// Where the sink stands once it has what is on its way.
    next: i64,
}

struct Session<'a> {
    drain: &'a Drain,
    reading: Reading,
    /// The log's identity.
    log_id: String,
    /// When it was last looked whether `reading` still holds.
    looked: Instant,
    /// When this run began.
    opened: Instant,
    /// When it was last looked whether nothing but holes is left, and whether that was so.
    passed: Instant,
    has_all: bool,
    /// It does not: this run ends, and the next one begins anew.
    replaced: bool,
    /// When it was last looked whether the sink is as far as it was.
    compared: Instant,
    /// Pieces that the store has still to remember.
    unmet: Option<Reading>,
    reader: Box<dyn LogReader>,
    held: BTreeMap<i32, Held>,
    /// Where the sink stood in partitions of which it lost commits and that are not claimed again.
    reached: BTreeMap<i32, i64>,
    /// Assigned, but the claim failed so far.
    unclaimed: HashSet<i32>,
    /// Applied, but the group does not know yet.
    uncommitted: BTreeMap<i32, i64>,
    /// What the group was told of last, where its answer is not heard yet.
    committing: Option<Commit>,
    /// Since when the group has refused every commit.
    refused_since: Option<Instant>,
    /// Partitions whose batch failed, and since when it may be read again: that nothing comes before is no success.
    owed: Option<(HashSet<i32>, Instant)>,
    /// Records whose dead letter is acknowledged and that may be read again: their batch is not applied, or its offsets are
    /// not committed.
    parked: HashSet<Position>,
    /// Records of tables not defined here that were passed over and not yet told of.
    undefined: usize,
    /// On their way into the sink, the oldest first.
    flights: VecDeque<Flight>,
    /// Written while it could not be told who was erased, and given back.
    doubtful: HashMap<Position, SinkEvent>,
    /// Of erased entities, and maybe in the sink.
    undiscarded: Vec<SinkEvent>,
    /// Letters that are acknowledged while the store does not know of them yet.
    unnoted: Vec<ParkedEntity>,
    backoff: Backoff,
    /// What the last failure said.
    said: Option<String>,
    batch_records: usize,
    erased: Erased,
    /// The ledger that everything uncommitted was applied by; empty for a sink that obeys it by itself.
    ledger: Arc<ErasureLedger>,
}

impl Drain {
    /// Runs until `stop`.
    ///
    /// # Errors
    /// When the sink or the log can't even be prepared; the supervisor starts it again.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), Fault> {
        self.stats.set_state(DrainState::Starting);
        let Some(mut session) = stop.run_until_cancelled(self.open()).await.transpose()? else {
            return Ok(());
        };
        self.stats.set_state(DrainState::Running);
        info!(sink = self.sink.name(), group = session.reading.group, "drain started");
        while !stop.is_cancelled() && !session.replaced {
            session.step(stop).await;
        }
        // Stopping waits for what is on its way: what was applied is also committed.
        let landed = if session.replaced { Ok(()) } else { session.land_all().await };
        session.call_off().await;
        if !session.replaced {
            let landed = landed.and(session.discard_erased().await);
            if let Err(fault) = &landed {
                debug!(sink = self.sink.name(), error = %fault, "what was on its way failed while the drain was stopping");
            }
            session.hear_of_commit().await.ok();
            if session.doubtful.is_empty() && session.undiscarded.is_empty() {
                session.commit_pending().await.ok();
            }
        }
        session.hear_of_commit().await.ok();
        session.tell_undefined();
        session.reader.close().await;
        self.stats.set_partitions(Vec::new());
        self.stats.set_state(DrainState::Stopped);
        info!(sink = self.sink.name(), "drain stopped");
        Ok(())
    }

    /// Has the store remember log and sink; says so where one of them is another than it was.
    async fn meet(&self, reading: &Reading) -> Result<(), Fault> {
        self.meet_as_new(reading).await?;
        if self.store.meet_log(&reading.log).await?.is_some() {
            warn!(
                place = reading.log.place,
                id = reading.log.id,
                "the log was made anew since it was last met"
            );
        }
        for piece in &reading.sink {
            if self.store.meet_sink(piece).await?.is_some() {
                warn!(place = piece.place, id = piece.id, "it was made anew since it was last met");
            }
        }
        // The first is the index of all events, whichever tables are defined.
        if self.sink.name() != self.store.name()
            && let Some(piece) = reading.sink.first()
        {
            self.store.meet_index(&piece.id).await?;
        }
        Ok(())
    }

    /// Says so where the store knows nothing and the log does: its ledger of erasures is empty.
    async fn meet_as_new(&self, reading: &Reading) -> Result<(), Fault> {
        if self.sink.name() != self.store.name() || !self.store.recent_syncs(1).await?.is_empty() {
            return Ok(());
        }
        let applied = self.store.applied(&reading.log.to_string()).await?.unwrap_or_default();
        if !applied.is_empty() || records_in(&self.log.extents().await?) == 0 {
            return Ok(());
        }
        let notice = Notice {
            kind: NoticeKind::StoreIsNew,
            part: self.sink.name().to_owned(),
            log: reading.log.to_string(),
            partition: None,
            from: 0,
            to: 0,
            noticed_at: Utc::now(),
        };
        self.note(&notice).await
    }

    /// Has the store remember what is told to operators, before anything moves past it.
    async fn note(&self, notice: &Notice) -> Result<(), Fault> {
        warn!(sink = self.sink.name(), notice = notice.sentence(), "noticed");
        self.store.note(notice).await
    }

    /// Notes what of the offsets that are passed over was there: what is below the beginning of the log, and whatever a
    /// compaction may have taken.
    async fn note_removed(&self, log: &str, jumps: Vec<Extent>, extents: &[Extent]) -> Result<(), Fault> {
        let is_compacted = !jumps.is_empty() && self.log.is_compacted().await?;
        for gone in if is_compacted { jumps } else { gaps::removed(&jumps, extents) } {
            let notice = Notice {
                kind: NoticeKind::RecordsRemoved,
                part: self.sink.name().to_owned(),
                log: log.to_owned(),
                partition: Some(gone.partition),
                from: gone.low,
                to: gone.high,
                noticed_at: Utc::now(),
            };
            self.note(&notice).await?;
        }
        Ok(())
    }

    async fn open(&self) -> Result<Session<'_>, Fault> {
        self.sink.prepare().await?;
        self.log.ensure_topics().await?;
        let reading = Reading::of(&*self.log, &*self.sink, &self.group).await?;
        let reader = self.log.reader(&reading.group).await?;
        let erased = Erased::new(self.store.clone());
        let ledger = if self.sink.obeys_erasures() { Arc::default() } else { erased.ledger().await? };
        Ok(Session {
            erased,
            ledger,
            drain: self,
            log_id: reading.log.to_string(),
            unmet: Some(reading.clone()),
            reading,
            looked: Instant::now(),
            opened: Instant::now(),
            passed: Instant::now(),
            has_all: false,
            replaced: false,
            compared: Instant::now(),
            reader,
            held: BTreeMap::new(),
            reached: BTreeMap::new(),
            unclaimed: HashSet::new(),
            uncommitted: BTreeMap::new(),
            committing: None,
            refused_since: None,
            owed: None,
            parked: HashSet::new(),
            undefined: 0,
            flights: VecDeque::new(),
            doubtful: HashMap::new(),
            undiscarded: Vec::new(),
            unnoted: Vec::new(),
            backoff: Backoff::new(self.pauses.0, self.pauses.1),
            said: None,
            batch_records: self.limits.records,
        })
    }
}

impl Session<'_> {
    /// One delivery, dealt with; a fault is reported and waited out here, so the loop above has no error to handle.
    async fn step(&mut self, stop: &CancellationToken) {
        if let Err(fault) = self.advance(stop).await {
            // It was no fault of what is on its way; where it was, that was called off.
            self.land_all().await.ok();
            let sink = self.drain.sink.name();
            // What needs a person is said once: status goes on telling it.
            let is_known = self.backoff.failures() > 0
                && fault.kind == FaultKind::Misconfigured
                && self.said.as_ref() == Some(&fault.message);
            let pause = self.backoff.next_pause(fault.retry_after);
            self.drain.stats.failed(&fault);
            if is_known {
                debug!(sink, error = %fault, failures = self.backoff.failures(), ?pause, "drain still backs off");
            } else {
                warn!(sink, error = %fault, kind = ?fault.kind, failures = self.backoff.failures(), ?pause, "drain backs off");
            }
            self.said = Some(fault.message);
            stop.run_until_cancelled(self.wait_out(pause)).await;
            if let Some((_, since)) = &mut self.owed {
                *since = Instant::now();
            }
        }
    }

    async fn advance(&mut self, stop: &CancellationToken) -> Result<(), Fault> {
        if self.reader.is_outdated() {
            info!(sink = self.drain.sink.name(), "the log's login was changed: beginning anew");
            self.replaced = true;
            return Ok(());
        }
        self.look(LOOK_IDLE_EVERY).await?;
        if !self.replaced {
            self.look_for_lost_commits().await?;
        }
        if self.replaced {
            return Ok(());
        }
        // In this order: a sink without offsets of its own is read on from the group's.
        self.note_parked().await?;
        self.discard_erased().await?;
        self.commit_pending().await?;
        self.claim_assigned().await?;
        let wait = if self.flights.is_empty() { self.drain.limits.wait } else { Duration::ZERO };
        // Where two are on their way, they take no more memory than one does elsewhere.
        let share = self.most_in_flight();
        let (records, bytes) = (self.batch_records.div_ceil(share), self.drain.limits.bytes.div_ceil(share));
        let limits = BatchLimits { records, bytes, wait };
        match stop.run_until_cancelled(self.reader.next(limits)).await {
            None => Ok(()),
            Some(Ok(Delivery::Records(records))) => {
                let batch = Batch::begin(self.drain.catalog, records);
                let partitions = batch.partitions().clone();
                let outcome = self.take_on(batch).await;
                if outcome.is_err() {
                    self.give_back(partitions.into_iter());
                }
                outcome
            }
            Some(Ok(Delivery::Idle)) if !self.flights.is_empty() => self.land().await,
            // Before partitions go, what is on its way gets there: whoever has them next begins at once.
            Some(Ok(change)) => {
                let landed = self.land_all().await;
                if landed.is_ok() && matches!(change, Delivery::Revoked(_)) {
                    self.commit_at_once().await;
                }
                self.hear(change).await.and(landed)
            }
            Some(Err(fault)) => self.land_all().await.and(Err(fault)),
        }
    }

    fn most_in_flight(&self) -> usize {
        if self.drain.sink.takes_any_order() { 2 } else { 1 }
    }

    /// Has the sink begin with a batch once it takes one more.
    async fn take_on(&mut self, batch: Batch) -> Result<(), Fault> {
        while self.flights.len() >= self.most_in_flight() {
            self.land().await?;
        }
        self.look(LOOK_EVERY).await?;
        if self.replaced {
            return Ok(());
        }
        self.begin(batch).await
    }

    async fn hear(&mut self, change: Delivery) -> Result<(), Fault> {
        match change {
            Delivery::Assigned(partitions) => {
                debug!(sink = self.drain.sink.name(), ?partitions, "partitions assigned");
                self.unclaimed.extend(partitions);
            }
            Delivery::Revoked(partitions) => {
                debug!(sink = self.drain.sink.name(), ?partitions, "partitions revoked");
                self.forget(&partitions);
            }
            Delivery::Idle if !self.owes_a_batch() && !self.is_refused_for_long() => {
                if self.pass_holes().await? {
                    self.drain.stats.caught_up();
                }
                self.tell_undefined();
                self.succeeded();
            }
            Delivery::Idle | Delivery::Records(_) => {}
        }
        Ok(())
    }

    /// Looks whether log and sink are still those that this run began with, and has the store remember them.
    async fn look(&mut self, every: Duration) -> Result<(), Fault> {
        if let Some(reading) = self.unmet.take()
            && let Err(fault) = self.drain.meet(&reading).await
        {
            // An index is drained while the store is down.
            debug!(sink = self.drain.sink.name(), error = %fault, "the store could not be told of log and sink");
            self.unmet = Some(reading);
        }
        if self.looked.elapsed() < every {
            return Ok(());
        }
        let now = Reading::of(&*self.drain.log, &*self.drain.sink, &self.drain.group).await;
        self.looked = Instant::now();
        let now = match now {
            Ok(now) => now,
            // Something of the sink was deleted: the next run makes it anew.
            Err(fault) if fault.part == self.drain.sink.name() && fault.kind == FaultKind::Misconfigured => {
                warn!(sink = self.drain.sink.name(), error = %fault, "the sink is not what it was: beginning anew");
                self.drain.stats.failed(&fault);
                self.replaced = true;
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        for identity in now.replaced(&self.reading) {
            warn!(
                sink = self.drain.sink.name(),
                place = identity.place,
                id = identity.id,
                "what is drained, or drained into, was replaced: beginning anew"
            );
            self.replaced = true;
        }
        Ok(())
    }

    async fn wait_out(&mut self, pause: Duration) {
        if let Err(fault) = self.reader.hold(pause).await {
            debug!(sink = self.drain.sink.name(), error = %fault, "log failed while the drain was waiting");
            tokio::time::sleep(pause).await;
        }
    }

    fn tell_undefined(&mut self) {
        let records = std::mem::take(&mut self.undefined);
        if records > 0 {
            let sink = self.drain.sink.name();
            warn!(
                sink,
                records,
                "records of tables that are not defined here were passed over; once defined they are read again, as far as the log has them"
            );
        }
    }

    fn succeeded(&mut self) {
        self.owed = None;
        self.backoff.reset();
        self.drain.stats.set_state(DrainState::Running);
    }

    fn report_partitions(&self) {
        self.drain.stats.set_partitions(self.held.keys().copied().collect());
    }
}
