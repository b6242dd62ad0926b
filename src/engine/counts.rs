//! How many rows of each table there are in each place. Counting takes the longer the more there is, so whoever asks gets
//! what was counted last, with its time, and counting goes on in the background: one at a time, and as a rule for a
//! twentieth of the time at most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{sync::watch, time::Instant as TokioInstant};

use super::{drains::Drains, shared::Shared, syncs::origin_of};
use crate::{
    deadline,
    domain::{Table, TableName},
    fault::Fault,
    index::IndexName,
    log::{Extent, records_in},
    next_step::{NextStep, Remark},
    sink::Sink,
    store::{EVENTS, Resolution, Settled, SyncRecord, SyncState, Tally},
};

/// Of rows that were appended later than this before counting began, nothing is known while others are being appended.
pub(super) const SETTLED_AFTER: TimeDelta = TimeDelta::seconds(6);

/// How long counts hold at least.
const FRESH_FOR: Duration = Duration::from_secs(5);

/// Counting rests for so many times as long as it took, but no longer than is said here: it also takes long where a part
/// is slow in passing.
const REST: u32 = 20;
const MAX_REST: Duration = Duration::from_mins(5);
/// Where something could not be counted, which is told as a problem until it is counted again. It doubles while that stays
/// so: a table may be too large to be counted in time.
const MAX_REST_AFTER_FAULT: Duration = Duration::from_secs(30);

/// How long counting a table may take.
const COUNT_TIMEOUT: Duration = Duration::from_mins(1);

/// How long whoever asks waits for a count that is under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// What takes from the index what nothing else explains or brings back.
const REMADE: &str = "make the index of the events anew: what is in neither the log nor the store is named then, and goes once \
                      you delete that index before";

/// A table as it was counted.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) at: DateTime<Utc>,
    /// `None` where the source can't count them in time.
    pub(super) source: Result<Option<u64>, Fault>,
    pub(super) store: Result<Tally, Fault>,
    pub(super) index: Result<u64, Fault>,
    /// Whether the store and the index had all of the log when counting began.
    pub(super) is_level: [bool; 2],
    /// Nothing was appended to the log while it was counted.
    pub(super) is_quiet: bool,
    /// Of the rows at the source, those that changed since the last sync that succeeded began.
    pub(super) changed_since: Option<u64>,
    /// It is read from elsewhere, or by another key, than what was read of it so far.
    pub(super) is_moved: bool,
}

impl Counted {
    /// Whether every place told.
    fn is_whole(&self) -> bool {
        self.source.is_ok() && self.store.is_ok() && self.index.is_ok()
    }
}

/// The events as they were counted while both sinks had all of the log and nothing was appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Events {
    store: u64,
    index: u64,
    /// Letters that were not replayed: what one sink refused, the other may have.
    letters: u64,
    /// Those about what the store refused that were settled without a replay, and whose topic is gone.
    gone: u64,
}

impl Events {
    /// What one of the `sinks` has and the other has not, though no letter explains it. `is_erased`: whether anybody was erased.
    pub(super) fn judge(self, sinks: &[&str; 2], is_erased: bool) -> Option<Remark> {
        let [store, index] = *sinks;
        if self.is_superseded() {
            let (surplus, gone) = (self.index - self.store - self.letters, self.gone);
            let problem = format!(
                "{index} has {surplus} events that {store} has not: {gone} dead letters that were settled without a replay went with \
                 their topic, and these are most likely the versions of rows that they were about"
            );
            let (otherwise, or_else) = if is_erased {
                ("otherwise have", format!("; where the log is younger, {REMADE}"))
            } else {
                let rows = "otherwise nothing needs to be done, since the rows as they are now are counted by themselves; to have";
                (rows, String::new())
            };
            let advice = format!(
                "where an erasure was not complete, make it again; {otherwise} these versions in {store} too, where the log is older \
                 than they are: end its drains, delete the rows of sluice_offsets and start them again, and the log is read from its \
                 beginning{or_else}"
            );
            return Some(Remark::new(problem, advice));
        }
        if self.is_surplus() {
            let surplus = self.index - self.store - self.letters - self.gone;
            let problem = format!("{index} has {surplus} events that {store} has not");
            let advice = format!(
                "where an erasure was not complete, make it again; where the store refused them once and their letters are gone, end \
                 its drains, delete the rows of sluice_offsets and start them again: the log is read from its beginning, as far as \
                 it is still there; otherwise {REMADE}"
            );
            return Some(Remark::new(problem, advice));
        }
        let lacking = self.store.checked_sub(self.index + self.letters).filter(|lacking| *lacking > 0)?;
        let problem = format!("{index} lacks {lacking} events that {store} has");
        Some(Remark::new(problem, NextStep::FillIndex { index: IndexName::Eventos.to_string() }))
    }

    /// Whether what is told is a problem. Of what the index has more it is one once anybody was erased, who may be left there.
    pub(super) fn is_problem(self, is_erased: bool) -> bool {
        is_erased || !self.is_surplus()
    }

    /// Whether it is the index that has more.
    fn is_surplus(self) -> bool {
        self.index > self.store + self.letters
    }

    /// Whether what the index has more is no more than letters tell whose topic is gone.
    fn is_superseded(self) -> bool {
        self.is_surplus() && self.index <= self.store + self.letters + self.gone
    }
}

/// All tables as they were counted.
#[derive(Debug)]
struct Latest {
    at: Instant,
    /// How long it holds at least, whatever is synced meanwhile.
    rest: Duration,
    /// How many times in a row something could not be counted.
    faults: u32,
    clock: DateTime<Utc>,
    tables: Arc<HashMap<Table, Counted>>,
    events: Option<Events>,
}

/// Counts, and remembers.
pub(super) struct Counts {
    shared: Arc<Shared>,
    drains: Arc<Drains>,
    latest: watch::Sender<Option<Latest>>,
    counting: Arc<tokio::sync::Mutex<()>>,
    /// The parts that did not answer when they were asked last.
    failing: Mutex<Vec<String>>,
}

impl Counts {
    pub(super) fn new(shared: Arc<Shared>, drains: Arc<Drains>) -> Self {
        let latest = watch::Sender::new(None);
        Self { shared, drains, latest, counting: Arc::default(), failing: Mutex::default() }
    }

    /// What was counted last, counted anew where that is old, or a sync ended since. Empty where nothing was counted yet
    /// and it takes long.
    pub(super) async fn latest(
        self: &Arc<Self>,
        last_sync_ended: Option<DateTime<Utc>>,
    ) -> Arc<HashMap<Table, Counted>> {
        let mut heard = self.latest.subscribe();
        let is_old = heard.borrow_and_update().as_ref().is_none_or(|latest| {
            let is_before = last_sync_ended.is_some_and(|ended| latest.clock <= ended);
            latest.at.elapsed() > latest.rest && (is_before || latest.at.elapsed() > FRESH_FOR)
        });
        if is_old && self.shared.closing.is_cancelled() {
            // No task begins any more.
            tokio::time::timeout(deadline::cut(PATIENCE), self.count()).await.ok();
        } else if is_old {
            if let Ok(turn) = self.counting.clone().try_lock_owned() {
                let (counts, closing) = (self.clone(), self.shared.closing.clone());
                self.shared.tasks.spawn(async move {
                    closing.run_until_cancelled(counts.count()).await;
                    drop(turn);
                });
            }
            tokio::time::timeout(deadline::cut(PATIENCE), heard.changed()).await.ok();
        }
        self.latest.borrow().as_ref().map(|latest| latest.tables.clone()).unwrap_or_default()
    }

    /// The events as they were counted last, where every part told.
    pub(super) fn events(&self) -> Option<Events> {
        self.latest.borrow().as_ref().and_then(|latest| latest.events)
    }

    /// Hears which parts fail now. Where one answers again, what could not be counted is counted at the next question.
    pub(super) fn hear_failing(&self, failing: &[String]) {
        let mut before = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_back = before.iter().any(|part| !failing.contains(part));
        failing.clone_into(&mut before);
        if is_back {
            self.latest.send_if_modified(|latest| {
                for latest in latest.iter_mut().filter(|latest| latest.faults > 0) {
                    (latest.rest, latest.faults) = (Duration::ZERO, 0);
                }
                false
            });
        }
    }

    async fn count(&self) {
        let (began, clock) = (Instant::now(), Utc::now());
        let (trimmed, extents) = tokio::join!(self.trimmed(), self.extents());
        let is_level = self.is_level(extents.as_deref()).await;
        if is_level[1] {
            // What was applied a moment ago is not counted before; whoever may only read counts it some seconds later.
            self.shared.index.make_visible().await.ok();
        }
        let index = self.shared.index.counts().await;
        let events = match &index {
            Ok(index) if is_level == [true; 2] => self.count_events(index).await,
            _ => None,
        };
        // What was trimmed between the two counts is in one of them.
        let events = if trimmed == self.trimmed().await { events } else { None };
        let mut tables = HashMap::new();
        for table in self.shared.catalog.tables() {
            let of_index = index.clone().map(|counts| {
                let counted = counts.into_iter().find(|(name, _)| name == table.name());
                counted.map(|(_, count)| count).unwrap_or_default()
            });
            let counted = self.count_table(table, of_index, is_level, clock);
            tables.insert(table, deadline::by(TokioInstant::now() + COUNT_TIMEOUT, counted).await);
        }
        // What is appended meanwhile is in some of the counts.
        let is_quiet = extents.is_some() && extents == self.extents().await;
        for table in tables.values_mut() {
            table.is_quiet = is_quiet;
        }
        let events = events.filter(|_| is_quiet);
        let before = self.latest.borrow().as_ref().map_or(0, |latest| latest.faults);
        let faults = if tables.values().all(Counted::is_whole) { 0 } else { before.saturating_add(1) };
        let rest = rest(began.elapsed(), faults);
        let latest = Latest { at: Instant::now(), rest, faults, clock, tables: Arc::new(tables), events };
        self.latest.send_replace(Some(latest));
    }

    async fn count_events(&self, index: &[(String, u64)]) -> Option<Events> {
        let of = |counts: &[(String, u64)], name: &str| {
            counts.iter().find(|(counted, _)| counted == name).map(|(_, count)| *count)
        };
        let stored = self.shared.store.counts().await.ok()?;
        let (store, index) = (of(&stored, "eventos_raw")?, of(index, IndexName::Eventos.as_str())?);
        let (letters, gone) = if store == index { (0, 0) } else { self.unreplayed().await.ok()? };
        Some(Events { store, index, letters, gone })
    }

    /// The letters that were not replayed: those of the topic that is there, and those of topics that are gone which were
    /// about what the store refused.
    async fn unreplayed(&self) -> Result<(u64, u64), Fault> {
        let Shared { log, store, .. } = &*self.shared;
        let (identity, extents) = tokio::try_join!(log.dead_letters_identity(), log.dead_letter_extents())?;
        let gone = store.settled_elsewhere(&identity.to_string(), store.name()).await?;
        let mut letters = 0;
        for extent in extents {
            let ever = Extent { low: 0, ..extent };
            letters += unreplayed(ever, &store.settled(&identity.to_string(), ever).await?);
        }
        Ok((letters, gone))
    }

    async fn extents(&self) -> Option<Vec<Extent>> {
        self.shared.log.extents().await.ok()
    }

    /// Whether each sink has all that the log holds in these offsets.
    async fn is_level(&self, extents: Option<&[Extent]>) -> [bool; 2] {
        let Some(extents) = extents else { return [false; 2] };
        let is_level = async |sink: &Arc<dyn Sink>| {
            self.drains.lag_into(&**sink, extents).await.is_ok_and(|lag| lag.total == 0)
        };
        let [store, index] = &self.shared.sinks;
        tokio::join!(is_level(store), is_level(index)).into()
    }

    /// How many events were trimmed so far; `None` where that can't be told.
    async fn trimmed(&self) -> Option<u64> {
        let passes = self.shared.store.passes().await.ok()?;
        Some(passes.iter().find(|pass| pass.task == EVENTS).map_or(0, |pass| pass.removed_in_all))
    }

    /// `at`: when the index was counted, and before that `is_level` found out.
    async fn count_table(
        &self,
        table: Table,
        index: Result<u64, Fault>,
        is_level: [bool; 2],
        at: DateTime<Utc>,
    ) -> Counted {
        let Shared { source, store, .. } = &*self.shared;
        let (source_rows, tally) = tokio::join!(source.row_count(table), self.tally(table, at));
        let is_more = matches!((&source_rows, &tally), (Ok(Some(rows)), Ok(tally)) if *rows > tally.appended);
        let changed_since = if is_more {
            let latest = store.latest_syncs(&[TableName::from(table)]).await.unwrap_or_default();
            match latest_success(latest.iter()) {
                Some(sync) => source.rows_since(table, sync.started_at).await.ok().flatten(),
                None => None,
            }
        } else {
            None
        };
        let origin = origin_of(&**source, table);
        let met = store.met_source(&origin.place).await.ok().flatten();
        let is_moved = met.is_some_and(|met| met != origin.id);
        let is_quiet = false;
        Counted { at, source: source_rows, store: tally, index, is_level, is_quiet, changed_since, is_moved }
    }

    async fn tally(&self, table: Table, at: DateTime<Utc>) -> Result<Tally, Fault> {
        let Shared { log, store, .. } = &*self.shared;
        let (events, letters) = tokio::try_join!(log.identity(), log.dead_letters_identity())?;
        let sinks = self.shared.sink_names();
        store.tally(&events.to_string(), &letters.to_string(), table, sinks, at - SETTLED_AFTER).await
    }
}

/// Letters there were in these offsets, also those that were removed since, but for those that are known to have been
/// replayed: one that was refused again is another letter.
fn unreplayed(extent: Extent, settled: &[Resolution]) -> u64 {
    let replayed = settled.iter().filter(|letter| letter.settled == Settled::Replayed).count() as u64;
    records_in(&[extent]).saturating_sub(replayed)
}

/// The latest of these syncs that read all it was to read.
pub(super) fn latest_success<'a>(syncs: impl Iterator<Item = &'a SyncRecord>) -> Option<&'a SyncRecord> {
    syncs.filter(|sync| sync.state == SyncState::Succeeded).max_by_key(|sync| sync.started_at)
}

/// How long to leave the parts alone after counting.
fn rest(took: Duration, faults: u32) -> Duration {
    let longest = match faults {
        0 => MAX_REST,
        faults => MAX_REST_AFTER_FAULT.saturating_mul(2_u32.saturating_pow(faults - 1)).min(MAX_REST),
    };
    longest.min(took * REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_one_sink_lacks_are_told_unless_letters_explain_them() {
        let told = |store, index, letters| {
            let events = Events { store, index, letters, gone: 0 };
            events.judge(&["postgres", "elasticsearch"], true).map(|remark| remark.problem)
        };
        assert_eq!(told(100, 40, 0).as_deref(), Some("elasticsearch lacks 60 events that postgres has"));
        assert_eq!(told(100, 40, 59).as_deref(), Some("elasticsearch lacks 1 events that postgres has"));
        assert_eq!(told(40, 100, 0).as_deref(), Some("elasticsearch has 60 events that postgres has not"));
        for (store, index, letters) in [(40, 40, 0), (40, 100, 60), (100, 40, 60)] {
            assert_eq!(told(store, index, letters), None, "{store} {index} {letters}");
        }
    }

    #[test]
    fn events_of_letters_that_went_with_their_topic_are_told_apart_from_those_that_nothing_explains() {
        let told = |index, gone| {
            let events = Events { store: 40, index, letters: 2, gone };
            let told = events.judge(&["postgres", "elasticsearch"], false).map(|remark| remark.to_string());
            (told.unwrap_or_default(), events.is_superseded())
        };
        let (superseded, is_superseded) = told(46, 4);
        assert!(superseded.starts_with("elasticsearch has 4 events that postgres has not: 4 dead letters"));
        assert!(is_superseded && superseded.contains("otherwise nothing needs to be done"), "{superseded}");
        assert!(!superseded.contains(REMADE), "{superseded}");
        let (more, is_superseded) = told(47, 4);
        assert!(more.starts_with("elasticsearch has 1 events that postgres has not; "), "{more}");
        assert!(!is_superseded);
        assert_eq!(told(42, 4), (String::new(), false));
    }

    #[test]
    fn events_that_only_the_index_has_are_a_problem_once_somebody_was_erased_whatever_letters_went() {
        let events = |store, index, gone| Events { store, index, letters: 0, gone };
        for (surplus, is_superseded) in [(events(40, 44, 4), true), (events(40, 45, 4), false)] {
            assert_eq!(surplus.is_superseded(), is_superseded);
            assert!(!surplus.is_problem(false) && surplus.is_problem(true));
        }
        assert!(events(44, 40, 4).is_problem(false), "the index lacks some");
        let told =
            events(40, 44, 4).judge(&["postgres", "elasticsearch"], true).map(|remark| remark.to_string());
        let told = told.unwrap_or_default();
        assert!(told.contains("not complete, make it again; otherwise have these versions"), "{told}");
        assert!(told.ends_with(REMADE), "the log may be younger than they are: {told}");
    }

    #[test]
    fn letters_that_were_removed_since_explain_what_they_did_and_replayed_ones_nothing() {
        let settled = |offset, settled| Resolution {
            partition: 0,
            offset,
            letter: uuid::Uuid::from_u128(1),
            settled,
            by: "ana".to_owned(),
            at: Utc::now(),
        };
        let extent = Extent { partition: 0, low: 0, high: 45 };
        let known = [settled(42, Settled::Discarded), settled(43, Settled::Replayed)];
        assert_eq!(unreplayed(extent, &known), 44);
    }

    #[test]
    fn counting_is_no_lasting_load_and_a_fault_is_looked_at_again_soon() {
        let seconds = Duration::from_secs;
        assert_eq!(rest(seconds(3), 0), seconds(60), "a twentieth of the time");
        assert_eq!(rest(seconds(75), 0), seconds(300), "a part was slow for once");
        assert_eq!(rest(seconds(75), 1), seconds(30), "the outage may be over");
        assert_eq!(rest(seconds(1), 1), seconds(20), "what fails is not asked all the time");
        assert_eq!(rest(seconds(30), 9), seconds(300), "the table is too large");
        assert_eq!(rest(seconds(30), u32::MAX), seconds(300));
    }
}
