//! What must hold after every fault, whatever it was: judged from what was seen, without any I/O.

use std::collections::{BTreeMap, BTreeSet};

/// A table and a key.
pub type Key = (&'static str, String);

/// An entity as a sink has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    pub versao: i64,
    /// What tells the row's contents apart.
    pub mark: String,
}

/// A window of the rollup: its begin, categoria and evento.
pub type Window = (i64, String, String);

/// Everything there is, as it was looked at.
#[derive(Debug, Default)]
pub struct Seen {
    /// Each entity as often as it stands there.
    pub store: BTreeMap<Key, Vec<Entity>>,
    pub index: BTreeMap<Key, Vec<Entity>>,
    /// The versions that were appended last, of what was not removed.
    pub appended: BTreeMap<Key, i64>,
    /// Events by their ids, and how often each stands there.
    pub raw: BTreeMap<String, u64>,
    pub indexed: BTreeMap<String, u64>,
    /// Those of the topic, with their entities.
    pub log: BTreeMap<String, (u64, String)>,
    pub rollup: BTreeMap<Window, (i64, f64)>,
    /// The same, counted anew from the events.
    pub recount: BTreeMap<Window, (i64, f64)>,
    /// Open dead letters, each `sink key` or `row table`, by their ids: one that is parked again is the same.
    pub letters: BTreeMap<String, String>,
    /// What is under way and should not be.
    pub open: Vec<String>,
    /// Records not applied, by sink.
    pub lag: BTreeMap<&'static str, i64>,
}

/// What must be there.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// The source's rows by what tells their contents apart.
    pub rows: BTreeMap<Key, String>,
    /// Dead letters that must be open, as [`Seen::letters`] names them, and how many of each name.
    pub letters: BTreeMap<String, u64>,
    /// Entities that the store refuses.
    pub refused_by_store: BTreeSet<String>,
    /// Entities that the index refuses.
    pub refused_by_index: BTreeSet<String>,
    /// The topic lost records that the sinks had: then they hold more than it does.
    pub log_lost_records: bool,
    /// Something appends again on purpose, or the log was read back too early: then events stand twice in the topic.
    pub appends_again: bool,
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    pub lost: u64,
    pub doubled: u64,
    pub other: Vec<String>,
    /// Of what was lost and doubled.
    pub examples: Vec<String>,
}

impl Findings {
    fn lose(&mut self, what: String) {
        self.lost += 1;
        self.example(what);
    }

    fn double(&mut self, count: u64, what: String) {
        if count > 0 {
            self.doubled += count;
            self.example(what);
        }
    }

    fn example(&mut self, what: String) {
        if self.examples.len() < 5 {
            self.examples.push(what);
        }
    }

    pub fn are_none(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.other.is_empty()
    }

    pub fn add(&mut self, more: Self) {
        self.lost += more.lost;
        self.doubled += more.doubled;
        self.other.extend(more.other);
        self.examples.extend(more.examples);
        self.examples.truncate(5);
    }
}

/// Compares what is there with what must be.
pub fn judge(truth: &Truth, seen: &Seen) -> Findings {
    let mut found = Findings::default();
    entities("the store", &seen.store, &truth.refused_by_store, truth, seen, &mut found);
    entities("the index", &seen.index, &truth.refused_by_index, truth, seen, &mut found);
    events("the store", &seen.raw, &truth.refused_by_store, truth, seen, &mut found);
    events("the index", &seen.indexed, &truth.refused_by_index, truth, seen, &mut found);
    rollup(seen, &mut found);
    if !truth.appends_again {
        let twice: Vec<_> = seen.log.iter().filter(|(_, (count, _))| *count > 1).collect();
        if let Some((id, (_, entity))) = twice.first() {
            found.other.push(format!("{} events stand twice in the topic, as {id} of {entity}", twice.len()));
        }
    }
    letters(truth, seen, &mut found);
    found.other.extend(seen.open.iter().cloned());
    for (sink, lag) in seen.lag.iter().filter(|(_, lag)| **lag != 0) {
        found.other.push(format!("{sink} lags by {lag}"));
    }
    found
}

fn entities(
    place: &str,
    held: &BTreeMap<Key, Vec<Entity>>,
    refused: &BTreeSet<String>,
    truth: &Truth,
    seen: &Seen,
    found: &mut Findings,
) {
    for (key, mark) in truth.rows.iter().filter(|(key, _)| !refused.contains(&key.1)) {
        let Some(entities) = held.get(key) else {
            found.lose(format!("{place} lacks {key:?}"));
            continue;
        };
        let surplus = entities.len() as u64 - 1;
        found.double(surplus, format!("{place} holds {key:?} {} times", entities.len()));
        for entity in entities {
            if entity.mark != *mark {
                found.lose(format!("{place} holds {key:?} as {:?}, not as {mark:?}", entity.mark));
            } else if seen.appended.get(key).is_some_and(|versao| *versao != entity.versao) {
                found.other.push(format!("{place} holds {key:?} in another version than was appended"));
            }
        }
    }
    let known = |key: &&Key| !truth.rows.contains_key(key);
    for key in held.keys().filter(known) {
        found.other.push(format!("{place} holds {key:?}, which the source has not"));
    }
}

fn events(
    place: &str,
    held: &BTreeMap<String, u64>,
    refused: &BTreeSet<String>,
    truth: &Truth,
    seen: &Seen,
    found: &mut Findings,
) {
    for (id, (_, entity)) in &seen.log {
        if !held.contains_key(id) && !refused.contains(entity) {
            found.lose(format!("{place} lacks the event {id} of {entity}"));
        }
    }
    for (id, count) in held {
        found.double(count - 1, format!("{place} holds the event {id} {count} times"));
        if !truth.log_lost_records && !seen.log.contains_key(id) {
            found.other.push(format!("{place} holds the event {id}, which the topic has not"));
        }
    }
}

fn rollup(seen: &Seen, found: &mut Findings) {
    let windows: BTreeSet<&Window> = seen.rollup.keys().chain(seen.recount.keys()).collect();
    for window in windows {
        let (total, sum) = seen.rollup.get(window).copied().unwrap_or_default();
        let (counted, summed) = seen.recount.get(window).copied().unwrap_or_default();
        if total < counted {
            found.lost += total.abs_diff(counted);
            found.example(format!("the rollup counts {total} of {counted} in {window:?}"));
        }
        if total > counted {
            found.double(
                total.abs_diff(counted),
                format!("the rollup counts {total} for {counted} in {window:?}"),
            );
        }
        if total == counted && (sum - summed).abs() > 1e-6 * summed.abs().max(1.0) {
            found.other.push(format!("the rollup of {window:?} adds up to {sum}, not to {summed}"));
        }
    }
}

fn letters(truth: &Truth, seen: &Seen, found: &mut Findings) {
    let mut open: BTreeMap<&String, u64> = BTreeMap::new();
    for letter in seen.letters.values() {
        *open.entry(letter).or_default() += 1;
    }
    for (letter, count) in &truth.letters {
        for _ in open.get(letter).copied().unwrap_or_default()..*count {
            found.lose(format!("no open dead letter of {letter}"));
        }
    }
    for (letter, count) in open {
        if count > truth.letters.get(letter).copied().unwrap_or_default() {
            found.other.push(format!("{count} open dead letters of {letter}"));
        }
    }
}
