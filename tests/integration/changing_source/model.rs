//! What the source shows and showed, and what of it must be in the sinks: pure, but for the clock.
//!
//! # What a sync promises
//!
//! A sync that succeeds without reaching its limit promises the content of every row that stood still while it ran and that
//! bears a time (of its change, or else of its making, or none) within the hours that were asked for. One that resumes
//! promises it of those rows alone that bear no time more than the overlap before the coverage that there was when they
//! were written: what is written later than that, with an older time, only a whole reading can find. A clock of the
//! source that was put back is noticed where it still is behind the coverage, and the hours are read whole then.
//! Rows that are gone stay in the sinks, in the last content that was read. Rows without a key are read last, so one that
//! resumes behind a sync that broke off promises no letter of those that were there before.
//!
//! # What a reconciliation promises
//!
//! Both sinks hold what the source showed when its reading began and still shows, nothing else, whatever times it bears.
//! A reading that goes on with one that was left off began when that one did.
//!
//! # What every one of them promises
//!
//! No sink ever goes back to an older content of a row, or has anything that the source never showed.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sluice::domain::JsonObject;

use crate::support::rows::{id, object, spelled};

/// Keys of rows, as proptest chooses them.
pub type Key = u8;

/// What happens at the source.
#[derive(Debug, Clone)]
pub enum Change {
    /// A row is inserted, or updated where it is there.
    Write {
        key: Key,
        content: u8,
        time: Time,
    },
    /// As [`Change::Write`], in a transaction that ends later.
    Begin {
        key: Key,
        content: u8,
    },
    /// All open transactions are committed.
    Commit,
    Delete {
        key: Key,
    },
    DeleteMany {
        below: Key,
    },
    /// A row without a key is inserted.
    Keyless {
        time: Time,
    },
    /// The project shows so many rows at a time.
    Cap {
        rows: u8,
    },
    /// Time passes at the source, or its clock is put back.
    Clock {
        seconds: i32,
    },
}

/// The time that a row is written with.
#[derive(Debug, Clone)]
pub enum Time {
    Now,
    /// Nothing touches it.
    Kept,
    Null,
    Back {
        minutes: u16,
    },
    /// A client's clock is ahead.
    Ahead {
        minutes: u16,
    },
    /// The same as another row's.
    Of(Key),
}

/// A row of a key, with all that was shown of it.
#[derive(Debug)]
pub struct Entity {
    /// `None` while there is no row.
    pub shown: Vec<Option<JsonObject>>,
    /// The sinks hold this one of `shown`, or a later one.
    pub floor: usize,
    /// The number of the change that made the last one.
    changed: u64,
    /// How far coverage could reach then.
    covered: Option<DateTime<Utc>>,
}

impl Entity {
    pub fn row(&self) -> Option<&JsonObject> {
        self.shown.last().and_then(Option::as_ref)
    }
}

struct Keyless {
    row: JsonObject,
    changed: u64,
    covered: Option<DateTime<Utc>>,
}

/// The hours that a sync asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub hours: u32,
    pub resume: bool,
}

/// How a sync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It read all there was.
    Exhausted,
    /// It may have read some.
    Before,
}

pub struct Model {
    pub entities: BTreeMap<Key, Entity>,
    keyless: Vec<Keyless>,
    /// Open transactions.
    open: BTreeMap<Key, JsonObject>,
    /// Rows without a key that must be dead letters.
    pub parked: usize,
    /// How far the source's clock is ahead of this machine's.
    pub ahead: TimeDelta,
    pub cap: u8,
    /// How many rows a sync asks for at a time.
    page_size: u8,
    overlap: TimeDelta,
    changes: u64,
    /// Coverage reaches no further than this.
    covered_at_most: Option<DateTime<Utc>>,
    /// Coverage reaches as far as this at least.
    covered_at_least: Option<DateTime<Utc>>,
    /// So much had happened when a sync last broke off.
    broke_off: u64,
    /// The source's time when the sync that runs began to read.
    began: Option<DateTime<Utc>>,
    /// The number of changes when the reading began that a reconciliation left off.
    left_off: Option<u64>,
}

/// This machine's clock and a source's agree where they are no further apart.
const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(31);

impl Model {
    pub fn new(overlap: TimeDelta, ahead: TimeDelta, cap: u8, page_size: u8) -> Self {
        Self {
            entities: BTreeMap::new(),
            keyless: Vec::new(),
            open: BTreeMap::new(),
            parked: 0,
            ahead,
            cap,
            page_size,
            overlap,
            changes: 0,
            covered_at_most: None,
            covered_at_least: None,
            broke_off: 0,
            began: None,
            left_off: None,
        }
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.ahead
    }

    /// All rows that the source shows.
    pub fn rows(&self) -> Vec<JsonObject> {
        let keyed = self.entities.values().filter_map(|entity| entity.row().cloned());
        keyed.chain(self.keyless.iter().map(|one| one.row.clone())).collect()
    }

    pub fn keyless(&self) -> usize {
        self.keyless.len()
    }

    /// Of so many rows without a key, those that become dead letters: one page is shown of them.
    pub fn shown(&self, keyless: usize) -> usize {
        keyless.min(self.cap.min(self.page_size).into())
    }

    /// Rows that were shown once and are not now.
    pub fn gone(&self) -> usize {
        self.entities.values().filter(|entity| entity.row().is_none()).count()
    }

    pub fn apply(&mut self, change: &Change) {
        match *change {
            Change::Write { key, content, ref time } => {
                if !self.open.contains_key(&key) {
                    let row = self.written(key, content, time);
                    self.show(key, Some(row));
                }
            }
            Change::Begin { key, content } => {
                let row = self.written(key, content, &Time::Now);
                self.open.entry(key).or_insert(row);
            }
            Change::Commit => {
                for (key, row) in std::mem::take(&mut self.open) {
                    self.show(key, Some(row));
                }
            }
            Change::Delete { key } => self.delete(key),
            Change::DeleteMany { below } => (0..below).for_each(|key| self.delete(key)),
            Change::Keyless { ref time } => {
                let mut row = self.written(Key::MAX, 0, time);
                row.insert("id".to_owned(), Value::Null);
                row.insert("nome".to_owned(), json!(format!("sem id {}", self.keyless.len())));
                self.changes += 1;
                self.keyless.push(Keyless { row, changed: self.changes, covered: self.covered_at_most });
            }
            Change::Cap { rows } => self.cap = rows,
            Change::Clock { seconds } => self.ahead += TimeDelta::seconds(seconds.into()),
        }
    }

    fn delete(&mut self, key: Key) {
        if !self.open.contains_key(&key) && self.entities.get(&key).is_some_and(|one| one.row().is_some()) {
            self.show(key, None);
        }
    }

    fn written(&self, key: Key, content: u8, time: &Time) -> JsonObject {
        let now = self.now();
        let there = self.entities.get(&key).and_then(Entity::row);
        let of =
            |key: &Key| self.entities.get(key).and_then(Entity::row).map(|row| row["updated_at"].clone());
        let at = |at: DateTime<Utc>| json!(spelled(at));
        let updated = match time {
            Time::Now => at(now),
            Time::Kept => there.map_or_else(|| at(now), |row| row["updated_at"].clone()),
            Time::Null => Value::Null,
            Time::Back { minutes } => at(now - TimeDelta::minutes((*minutes).into())),
            Time::Ahead { minutes } => at(now + TimeDelta::minutes((*minutes).into())),
            Time::Of(other) => of(other).unwrap_or_else(|| at(now)),
        };
        let created = there.map_or_else(
            || if matches!(time, Time::Back { .. }) { updated.clone() } else { at(now) },
            |row| row["created_at"].clone(),
        );
        object(json!({
            "id": id(key.into()),
            "nome": format!("Pessoa {content}"),
            "created_at": created,
            "updated_at": updated,
        }))
    }

    fn show(&mut self, key: Key, row: Option<JsonObject>) {
        self.changes += 1;
        let (changed, covered) = (self.changes, self.covered_at_most);
        let entity = self.entities.entry(key).or_insert_with(|| Entity {
            shown: vec![None],
            floor: 0,
            changed,
            covered,
        });
        entity.shown.push(row);
        (entity.changed, entity.covered) = (changed, covered);
    }

    /// How much had happened by now.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A sync or a reconciliation asks for its first page.
    pub fn begin_reading(&mut self) {
        let now = self.now();
        self.began = Some(now);
        // Until it has ended nobody knows how far it covers.
        self.covered_at_most = self.covered_at_most.max(Some(now));
    }

    /// A sync that began after so many changes has ended.
    pub fn synced(&mut self, asked: Asked, since: u64, ended: Ended, covered_before: Coverage) {
        let Some(began) = self.began.take() else { return };
        // Coverage that lies in the future was left by a clock that has been put back since.
        let was_put_back = covered_before.at_least.is_some_and(|to| to > began + TOLERATED_SKEW);
        if ended == Ended::Exhausted {
            self.promise(asked, since, began, was_put_back);
        }
        if ended == Ended::Exhausted && was_put_back {
            self.covered_at_most = Some(began);
        }
        if ended == Ended::Before {
            self.broke_off = self.changes;
        }
        self.covered_at_least = match ended {
            Ended::Exhausted if was_put_back => Some(began - TimeDelta::seconds(2)),
            Ended::Exhausted => covered_before.at_least.max(Some(began - TimeDelta::seconds(2))),
            Ended::Before => None,
        };
    }

    pub fn coverage(&self) -> Coverage {
        Coverage { at_least: self.covered_at_least }
    }

    fn promise(&mut self, asked: Asked, since: u64, began: DateTime<Utc>, was_put_back: bool) {
        let (local, now) = (Utc::now(), self.now());
        let by_which_clock = if (began - local).abs() <= TOLERATED_SKEW * 2 { local } else { began };
        let start = began.max(now).max(by_which_clock) - TimeDelta::hours(asked.hours.into());
        let overlap = self.overlap;
        let is_promised = |row: &JsonObject, covered: Option<DateTime<Utc>>| {
            let Some(bears) = bears(row) else { return true };
            let resumed = asked.resume && !was_put_back;
            bears >= start && (!resumed || covered.is_none_or(|to| bears >= to - overlap))
        };
        for entity in self.entities.values_mut().filter(|entity| entity.changed <= since) {
            if entity.row().is_some_and(|row| is_promised(row, entity.covered)) {
                entity.floor = entity.shown.len() - 1;
            }
        }
        let is_read = |one: &Keyless| !asked.resume || was_put_back || one.changed > self.broke_off;
        let promised =
            |one: &&Keyless| one.changed <= since && is_read(one) && is_promised(&one.row, one.covered);
        let promised = self.keyless.iter().filter(promised).count();
        self.parked = self.parked.max(self.shown(promised));
    }

    /// A reconciliation that began after so many changes has succeeded.
    pub fn reconciled(&mut self, since: u64) {
        let Some(began) = self.began.take() else { return };
        let left_off = self.left_off.take();
        let since = left_off.map_or(since, |earlier| earlier.min(since));
        for entity in self.entities.values_mut().filter(|entity| entity.changed <= since) {
            entity.floor = entity.shown.len() - 1;
        }
        let promised = self.keyless.iter().filter(|one| one.changed <= since).count();
        self.parked = self.parked.max(self.shown(promised));
        let is_whole = left_off.is_none();
        self.covered_at_least = is_whole.then(|| began - TimeDelta::seconds(2));
    }

    /// A reconciliation that began after so many changes ended before it had read the whole table, or after.
    pub fn not_reconciled(&mut self, since: u64, had_read: bool) {
        self.began = None;
        self.covered_at_least = None;
        self.left_off = (!had_read).then(|| self.left_off.map_or(since, |earlier| earlier.min(since)));
    }

    /// Holds what a sink has against what it may have: the first thing that is wrong.
    pub fn judge(&mut self, sink: &str, held: &BTreeMap<String, Value>) -> Result<(), String> {
        let known: Vec<String> = self.entities.keys().map(|key| id((*key).into())).collect();
        if let Some(stranger) = held.keys().find(|key| !known.contains(key)) {
            return Err(format!("{sink} has {stranger}, which never was at the source"));
        }
        for (key, entity) in &mut self.entities {
            let held = held.get(&id((*key).into()));
            let is_held = |shown: &Option<JsonObject>| match (shown, held) {
                (None, None) => true,
                (Some(row), Some(held)) => row.iter().all(|(name, value)| held.get(name) == Some(value)),
                _ => false,
            };
            let Some(further) = entity.shown[entity.floor..].iter().position(is_held) else {
                return Err(format!(
                    "{sink} has of row {key}:\n  {}\nit must be one of {:#?}",
                    held.map_or_else(|| "nothing".to_owned(), Value::to_string),
                    &entity.shown[entity.floor..]
                ));
            };
            entity.floor += further;
        }
        Ok(())
    }
}

/// How far coverage reached, as far as one can tell.
#[derive(Debug, Clone, Copy)]
pub struct Coverage {
    at_least: Option<DateTime<Utc>>,
}

/// The time by which a row is found.
fn bears(row: &JsonObject) -> Option<DateTime<Utc>> {
    let instant = |name: &str| row[name].as_str().map(|text| text.parse().expect("an instant"));
    instant("updated_at").or_else(|| instant("created_at"))
}
