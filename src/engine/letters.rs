//! Dead letters as an operator meets them: listed newest first, replayed, discarded.
//!
//! A letter stays in the log for good; what was decided about it is in the store. A replay appends first and settles
//! afterwards: interrupted in between, the letter is still open, and replaying it once more adds nothing to a sink,
//! since the event is the same event.

use std::{collections::HashMap, sync::Arc};

use chrono::Utc;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    EngineError,
    appender::Appender,
    dead_letters::{self, Replay},
    erased,
    letter_pages::{Backwards, joined},
    shared::Shared,
};
use crate::{
    domain::{Catalog, Table, TableName},
    fail_point,
    fault::Fault,
    log::{Extent, NewRecord, Position, Record, Topic, records_in},
    next_step::{NextStep, Remark},
    store::{Resolution, Settled},
};

/// Letters looked at in one call: a filter that fits none of them must end.
const MOST_LOOKED_AT: usize = if cfg!(test) { 20 } else { 2_000 };

/// Letters settled by one call: all of them are held at once.
pub const MOST_SETTLED: usize = 200;

/// Letters that one call passes by since they can't be replayed: each is told.
const MOST_PASSED: usize = 100;

/// A dead letter with what was decided about it.
#[derive(Debug, Clone)]
pub struct Letter {
    pub record: Record,
    pub resolution: Option<Resolution>,
}

/// Whether a letter still needs somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    Open,
    Replayed,
    Discarded,
    /// The row came again with other content, and was taken.
    Mended,
    /// Whom it was about was erased: nothing of it is shown.
    Erased,
}

/// Which letters are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Only those of this sink; those of rows that never became an event have none.
    pub sink: Option<String>,
    /// `None` for all.
    pub state: Option<LetterState>,
}

/// A page of letters, newest first.
#[derive(Debug, Clone)]
pub struct LetterPage {
    pub letters: Vec<Letter>,
    /// Where to go on; `None` at the end.
    pub next: Option<Vec<Position>>,
}

/// Which letters to settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    These(Vec<Position>),
    /// The newest open ones, from the end of the log or from where a call before stopped.
    Open {
        sink: Option<String>,
        from: Option<Vec<Position>>,
        limit: usize,
    },
}

/// Why a letter was left as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftLetter {
    pub id: String,
    #[schemars(with = "String")]
    pub reason: Remark,
}

/// What settling came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettleOutcome {
    /// Ids of the letters that are settled now.
    pub settled: Vec<String>,
    pub left: Vec<LeftLetter>,
    /// The offsets after the appended events.
    pub targets: Vec<Position>,
    /// Where to go on, where more letters fit the selection, or may.
    pub next: Option<Vec<Position>>,
}

impl Letter {
    /// The table and the key of the row that it is about, where that can be told.
    pub fn about(&self, catalog: Catalog) -> Option<(Table, Option<String>)> {
        dead_letters::about(catalog, &self.record)
    }

    /// Its place in the dead letters' topic.
    pub fn id(&self) -> String {
        format!("{}-{}", self.record.partition, self.record.offset)
    }

    pub fn state(&self) -> LetterState {
        match self.resolution.as_ref().map(|resolution| resolution.settled) {
            None => LetterState::Open,
            Some(Settled::Replayed) => LetterState::Replayed,
            Some(Settled::Discarded) => LetterState::Discarded,
            Some(Settled::Mended) => LetterState::Mended,
            Some(Settled::Erased) => LetterState::Erased,
        }
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<String> {
        dead_letters::header(&self.record, name)
    }

    fn fits(&self, filter: &LetterFilter) -> bool {
        filter.state.is_none_or(|state| state == self.state())
            && filter.sink.as_ref().is_none_or(|sink| self.header("sink").as_ref() == Some(sink))
    }

    fn settled(&self, settled: Settled, by: &str) -> Resolution {
        Resolution {
            partition: self.record.partition,
            offset: self.record.offset,
            letter: dead_letters::letter_id(&self.record),
            settled,
            by: by.to_owned(),
            at: Utc::now(),
        }
    }
}

/// The dead letters' topic, and what the store knows of each letter.
pub struct Letters {
    shared: Arc<Shared>,
    appender: Arc<Appender>,
}

impl Letters {
    pub(super) fn new(shared: Arc<Shared>, appender: Arc<Appender>) -> Self {
        Self { shared, appender }
    }

    /// Dead letters that fit, newest first, from the end of the log or from where a page before stopped.
    ///
    /// # Errors
    /// When the sink is unknown, or log or store can't be reached.
    pub async fn page(
        &self,
        filter: &LetterFilter,
        from: Option<&[Position]>,
        limit: usize,
    ) -> Result<LetterPage, EngineError> {
        let mut walk = self.walk(filter, from).await?;
        let mut letters = Vec::new();
        while letters.len() < limit
            && let Some(letter) = self.next(&mut walk, filter).await?
        {
            letters.push(letter);
        }
        Ok(LetterPage { letters, next: walk.place() })
    }

    async fn walk(&self, filter: &LetterFilter, from: Option<&[Position]>) -> Result<Walk, EngineError> {
        if let Some(sink) = &filter.sink {
            self.shared.sink("sink", sink)?;
        }
        self.shared.ready_log().await?;
        let log = self.shared.log.dead_letters_identity().await?.to_string();
        let extents = self.shared.log.dead_letter_extents().await?;
        let partitions = extents.into_iter().map(|extent| {
            let from = from.into_iter().flatten().find(|at| at.partition == extent.partition);
            Backwards::new(extent, from.map_or(extent.high, |at| at.offset))
        });
        Ok(Walk { log, partitions: partitions.collect(), looks: MOST_LOOKED_AT })
    }

    /// The newest letter that fits and was not met yet; nothing at the end, or where enough was looked at.
    async fn next(&self, walk: &mut Walk, filter: &LetterFilter) -> Result<Option<Letter>, Fault> {
        while walk.looks > 0 {
            for partition in &mut walk.partitions {
                while let Some(range) = partition.wanted() {
                    let read = read(&self.shared, &walk.log, &[range]).await?;
                    partition.take(range, read);
                }
            }
            let newest = walk.partitions.iter_mut().max_by_key(|partition| partition.newest());
            let Some(letter) = newest.and_then(Backwards::pop) else { break };
            walk.looks -= 1;
            if letter.fits(filter) {
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }

    /// One dead letter, where there is one at that place.
    ///
    /// # Errors
    /// When log or store can't be reached.
    pub async fn get(&self, at: Position) -> Result<Option<Letter>, Fault> {
        Ok(self.letters_at(&[at]).await?.remove(&at))
    }

    /// How many dead letters still need somebody.
    ///
    /// # Errors
    /// When log or store can't be reached.
    pub async fn open_count(&self) -> Result<u64, Fault> {
        self.shared.ready_store().await?;
        self.open_count_as_it_is().await
    }

    /// As [`Letters::open_count`], on a store that may not be migrated yet.
    pub(super) async fn open_count_as_it_is(&self) -> Result<u64, Fault> {
        let log = self.shared.log.dead_letters_identity().await?.to_string();
        let extents = self.shared.log.dead_letter_extents().await?;
        let settled = self.shared.store.settled_count(&log, &extents).await?;
        Ok(records_in(&extents).saturating_sub(settled))
    }

    /// Which sinks could not take the letters that are open; nothing of those that name no entity.
    pub(super) async fn refusers(&self) -> Result<String, Fault> {
        let log = self.shared.log.dead_letters_identity().await?.to_string();
        let extents = self.shared.log.dead_letter_extents().await?;
        let open = self.shared.store.open_by_sink(&log, &extents).await?;
        let told = open.into_iter().map(|(sink, count)| match sink {
            Some(sink) => format!("{sink} could not take {count}"),
            None => format!("{count} are of rows that made no event"),
        });
        Ok(told.collect::<Vec<_>>().join(", "))
    }

    /// What to say of letters that were open and that their topic does not hold any more.
    pub(super) async fn lost(&self) -> Result<Vec<Remark>, Fault> {
        let log = &self.shared.log;
        let (log, extents) = match tokio::try_join!(log.dead_letters_identity(), log.dead_letter_extents()) {
            Ok((identity, extents)) => (identity.to_string(), extents),
            // There is no topic now.
            Err(fault) if fault.advice == NextStep::Migrate => (String::new(), Vec::new()),
            Err(fault) => return Err(fault),
        };
        let lost = self.shared.store.lost_letters(&log, &extents).await?;
        let topic = &self.shared.settings.dead_letter_topic;
        let remark = |(table, count): (TableName, u64)| {
            let problem = format!(
                "{count} dead letters of {table} were open and are not in {topic} any more, which was deleted, made anew or cut, or \
                 is another topic now: a sink lacks what they were about unless it came since, and nobody can replay them"
            );
            let is_defined = self.shared.catalog.get(&table.0).is_some();
            let name = table.0;
            Remark::new(
                problem,
                if is_defined { NextStep::Reconcile { table: name } } else { NextStep::DefineTable { name } },
            )
        };
        Ok(lost.into_iter().map(remark).collect())
    }

    /// Appends the events of dead letters again and settles the letters. One that still makes no event stays open; of open
    /// ones it takes no other's place.
    ///
    /// # Errors
    /// When the selection is out of range, or log or store can't be reached; what was appended by then may be
    /// replayed again without harm.
    pub async fn replay(&self, selection: &Selection, by: &str) -> Result<SettleOutcome, EngineError> {
        check_count(selection)?;
        let mut outcome = SettleOutcome::default();
        let taken = match selection {
            Selection::These(ids) => self.replayable_of(ids, &mut outcome).await?,
            Selection::Open { sink, from, limit } => {
                let filter = LetterFilter { sink: sink.clone(), state: Some(LetterState::Open) };
                let walk = self.walk(&filter, from.as_deref()).await?;
                self.replayable(walk, &filter, *limit, &mut outcome).await?
            }
        };
        let (good, records): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        if !records.is_empty() {
            self.shared.log.ensure_topics().await?;
            let entities = records
                .iter()
                .filter_map(|record| dead_letters::entity_in(self.shared.catalog, Some(&record.value)));
            let entities: Vec<(Table, String)> = entities.collect();
            let appended = self.appender.append(records, &mut outcome.targets).await;
            self.empty_erased(entities).await?;
            appended?;
            fail_point::pass("replay.appended");
        }
        self.settle(good, Settled::Replayed, by, &mut outcome).await?;
        fail_point::pass("replay.settled");
        Ok(outcome)
    }

    /// An erasure that was made while these were appended did not find them in the log.
    async fn empty_erased(&self, appended: Vec<(Table, String)>) -> Result<(), Fault> {
        let ledger = self.shared.erased.ledger().await?;
        for (table, key) in appended.into_iter().filter(|(table, key)| ledger.holds(*table, key)) {
            erased::empty_appended(&*self.shared.store, &*self.shared.log, table, &[key]).await?;
        }
        Ok(())
    }

    /// Those of the letters that can be replayed, with their records; the others are left.
    async fn replayable_of(
        &self,
        ids: &[Position],
        outcome: &mut SettleOutcome,
    ) -> Result<Vec<(Letter, NewRecord)>, Fault> {
        let mut taken = Vec::new();
        // What one sink could not take of a row that came again is still not there: its history lacks it.
        for letter in self.unsettled(ids, &[Settled::Mended], outcome).await? {
            match self.replay_of(&letter).await? {
                Ok(record) => taken.push((letter, record)),
                Err(left) => outcome.left.push(left),
            }
        }
        Ok(taken)
    }

    /// So many letters that can be replayed, with their records. Those that can't are passed by, or whoever calls again would
    /// come no further.
    async fn replayable(
        &self,
        mut walk: Walk,
        filter: &LetterFilter,
        limit: usize,
        outcome: &mut SettleOutcome,
    ) -> Result<Vec<(Letter, NewRecord)>, Fault> {
        let mut taken = Vec::new();
        while outcome.left.len() < MOST_PASSED {
            let place = walk.place();
            let Some(letter) = self.next(&mut walk, filter).await? else { break };
            match self.replay_of(&letter).await? {
                Ok(_) if taken.len() == limit => {
                    outcome.next = place;
                    return Ok(taken);
                }
                Ok(record) => taken.push((letter, record)),
                Err(left) => outcome.left.push(left),
            }
        }
        outcome.next = walk.place();
        Ok(taken)
    }

    /// The record that gives a letter's event to the log again, or why there is none.
    async fn replay_of(&self, letter: &Letter) -> Result<Result<NewRecord, LeftLetter>, Fault> {
        let left = |reason: String| LeftLetter { id: letter.id(), reason: reason.into() };
        let record = self.unmarked_replay_of(letter).await?.map_err(left);
        Ok(record.map(|mut record| {
            dead_letters::mark_replayed(&mut record, &letter.id(), Utc::now());
            record
        }))
    }

    async fn unmarked_replay_of(&self, letter: &Letter) -> Result<Result<NewRecord, String>, Fault> {
        const ERASED: &str = "what it was about was erased";
        if letter.record.is_erased() {
            return Ok(Err(ERASED.to_owned()));
        }
        let record = self.record_of(letter).await?;
        let ledger = self.shared.erased.ledger().await?;
        let catalog = self.shared.catalog;
        Ok(record.and_then(|record| {
            let entity = dead_letters::entity_in(catalog, Some(&record.value));
            let is_erased = entity.is_some_and(|(table, key)| ledger.holds(table, &key));
            if is_erased { Err(ERASED.to_owned()) } else { Ok(record) }
        }))
    }

    async fn record_of(&self, letter: &Letter) -> Result<Result<NewRecord, String>, Fault> {
        let at = match dead_letters::replay(self.shared.catalog, &letter.record, Utc::now()) {
            Ok(Replay::Record(record)) => return Ok(Ok(record)),
            Ok(Replay::FromLog(at)) => at,
            Err(reason) => return Ok(Err(reason)),
        };
        if letter.header("log") != Some(self.shared.log.identity().await?.to_string()) {
            return Ok(Err("its record is in another log, or in one that is gone".to_owned()));
        }
        let range = Extent { partition: at.partition, low: at.offset, high: at.offset + 1 };
        let Some(record) = self.shared.log.records(Topic::Events, &[range]).await?.pop() else {
            return Ok(Err("the log does not hold its record any more; sync the row again".to_owned()));
        };
        let record = NewRecord {
            key: record.key.unwrap_or_default(),
            value: record.value.unwrap_or_default(),
            headers: Vec::new(),
        };
        Ok(dead_letters::as_event(self.shared.catalog, record, &letter.record))
    }

    /// Settles dead letters without their events; the letters stay in the log.
    ///
    /// # Errors
    /// When the selection is out of range, or log or store can't be reached.
    pub async fn discard(&self, selection: &Selection, by: &str) -> Result<SettleOutcome, EngineError> {
        check_count(selection)?;
        let mut outcome = SettleOutcome::default();
        let letters = match selection {
            Selection::These(ids) => self.unsettled(ids, &[], &mut outcome).await?,
            Selection::Open { sink, from, limit } => {
                let filter = LetterFilter { sink: sink.clone(), state: Some(LetterState::Open) };
                let page = self.page(&filter, from.as_deref(), *limit).await?;
                outcome.next = page.next;
                page.letters
            }
        };
        self.settle(letters, Settled::Discarded, by, &mut outcome).await?;
        Ok(outcome)
    }

    async fn settle(
        &self,
        letters: Vec<Letter>,
        settled: Settled,
        by: &str,
        outcome: &mut SettleOutcome,
    ) -> Result<(), Fault> {
        if letters.is_empty() {
            return Ok(());
        }
        let by = format!("{by} on {}", self.shared.settings.owner);
        let log = self.shared.log.dead_letters_identity().await?.to_string();
        let resolutions: Vec<Resolution> =
            letters.iter().map(|letter| letter.settled(settled, &by)).collect();
        self.shared.ready_store().await?.settle(&log, &resolutions).await?;
        outcome.settled = letters.iter().map(Letter::id).collect();
        Ok(())
    }

    /// Those of the letters that are open, or were settled in one of these ways. The others are left.
    async fn unsettled(
        &self,
        ids: &[Position],
        besides: &[Settled],
        outcome: &mut SettleOutcome,
    ) -> Result<Vec<Letter>, Fault> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut found = self.letters_at(&ids).await?;
        let mut open = Vec::new();
        for id in ids {
            let name = format!("{}-{}", id.partition, id.offset);
            let left = |reason: Remark| LeftLetter { id: name.clone(), reason };
            match found.remove(&id) {
                None => {
                    outcome.left.push(left(Remark::new("there is no such letter", NextStep::ListLetters)));
                }
                Some(letter) => match &letter.resolution {
                    None => open.push(letter),
                    Some(done) if besides.contains(&done.settled) => open.push(letter),
                    Some(done) => outcome.left.push(left(
                        format!(
                            "was {} by {} at {}",
                            done.settled.as_str(),
                            done.by,
                            done.at.format("%Y-%m-%dT%H:%M:%SZ")
                        )
                        .into(),
                    )),
                },
            }
        }
        Ok(open)
    }

    async fn letters_at(&self, ids: &[Position]) -> Result<HashMap<Position, Letter>, Fault> {
        self.shared.ready_log().await?;
        let log = self.shared.log.dead_letters_identity().await?.to_string();
        let extents = self.shared.log.dead_letter_extents().await?;
        let exists = |at: &Position| {
            extents.iter().any(|e| e.partition == at.partition && at.offset >= e.low && at.offset < e.high)
        };
        let ranges: Vec<Extent> = ids
            .iter()
            .filter(|at| exists(at))
            .map(|at| Extent { partition: at.partition, low: at.offset, high: at.offset + 1 })
            .collect();
        let letters = read(&self.shared, &log, &joined(&ranges)).await?;
        let placed = letters.into_iter().map(|letter| {
            (Position { partition: letter.record.partition, offset: letter.record.offset }, letter)
        });
        Ok(placed.collect())
    }
}

/// A way through the letters, from the newest on.
struct Walk {
    log: String,
    partitions: Vec<Backwards>,
    /// Letters that may still be looked at.
    looks: usize,
}

impl Walk {
    /// Where to go on; `None` at the end.
    fn place(&self) -> Option<Vec<Position>> {
        let is_over = self.partitions.iter().all(Backwards::is_over);
        (!is_over).then(|| self.partitions.iter().map(Backwards::position).collect())
    }
}

fn check_count(selection: &Selection) -> Result<(), EngineError> {
    let (field, count) = match selection {
        Selection::These(ids) => ("ids", ids.len()),
        Selection::Open { limit, .. } => ("limit", *limit),
    };
    if count == 0 || count > MOST_SETTLED {
        let problem = format!("{count} is out of range; give 1 to {MOST_SETTLED} letters at a time");
        return Err(EngineError::Invalid { field, problem });
    }
    Ok(())
}

/// The letters of these places, with what was decided about each.
pub(super) async fn read(shared: &Shared, log: &str, ranges: &[Extent]) -> Result<Vec<Letter>, Fault> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let records = shared.log.records(Topic::DeadLetters, ranges).await?;
    let store = shared.ready_store().await?;
    let mut settled: HashMap<(i32, i64), Resolution> = HashMap::new();
    for range in ranges {
        let known = store.settled(log, *range).await?;
        settled.extend(known.into_iter().map(|one| ((one.partition, one.offset), one)));
    }
    let ledger = shared.erased.ledger().await?;
    let letter = |mut record: Record| {
        let id = dead_letters::letter_id(&record);
        let known = settled.remove(&(record.partition, record.offset));
        // Another letter at that place is of a topic that is gone. One that was emptied has lost its id.
        let resolution = known.filter(|known| record.is_erased() || known.letter == id);
        let is_erased = resolution.as_ref().is_some_and(|known| known.settled == Settled::Erased);
        if is_erased || dead_letters::is_about_erased(shared.catalog, &record, &ledger) {
            dead_letters::empty(&mut record);
        }
        Letter { record, resolution }
    };
    Ok(records.into_iter().map(letter).collect())
}
