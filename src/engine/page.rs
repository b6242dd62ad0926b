//! What of a page of rows is to be appended, told from what was appended before: pure, without I/O.
//!
//! An entity's version is given here: the server's time at reading, or one more than its last version if that is
//! larger. No clock that a client writes decides order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    appender::{bear, event_record},
    dead_letters,
};
use crate::{
    domain::{ErasureLedger, Json, RowError, SourceRow, Table, TableName, micros},
    log::NewRecord,
    source::Page,
    store::{Appended, ColumnMisfits, ParkedEntity},
    traces::TraceParent,
};

/// How far a clock may be from the server's: this machine's before the window is planned anew by the server's, a
/// client's before its row counts as dated ahead.
pub(super) const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(30);

/// What a number is not that no double holds.
const DOUBLES: &str = "numbers up to 1.8e308, the largest that the store holds";

/// Values that did not fit, by column and what they are not.
pub(super) type Misfits = BTreeMap<(&'static str, &'static str), u64>;

/// Rows as their table's definition reads them.
pub(super) struct Rows<'a> {
    table: Table,
    read_at: DateTime<Utc>,
    each: Vec<(Result<SourceRow, RowError>, &'a Json)>,
    /// Rows left out because their entity was erased.
    erased: u64,
}

/// The largest records that the log's topics take.
#[derive(Clone, Copy, Default)]
pub(super) struct RecordLimits {
    pub(super) event: usize,
    pub(super) letter: usize,
}

/// What is asked of a sync, as far as a page is concerned.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) sync_id: Uuid,
    /// Rows whose content was appended before are appended again.
    pub(super) reappend: bool,
    /// The most events to append.
    pub(super) events: u64,
    pub(super) limits: RecordLimits,
    /// The store holds numbers as doubles.
    pub(super) doubles: bool,
    /// The span that the page was read in, where it is to be followed.
    pub(super) parent: Option<TraceParent>,
}

/// What of a page is to be appended, in its order.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) events: Vec<NewRecord>,
    pub(super) letters: Vec<(NewRecord, Option<ParkedEntity>)>,
    /// By entity, so that of a row that a page shows twice the last content is remembered.
    pub(super) appended: HashMap<String, Appended>,
    /// Entities that an event was made of, so that their open letters are settled.
    pub(super) mended: BTreeSet<String>,
    pub(super) misfits: Misfits,
    pub(super) unchanged: u64,
    pub(super) ahead: u64,
    pub(super) erased: u64,
    /// Rows whose key an earlier row of the page has. A page is one statement's answer, so no row changed in between: the
    /// key is not unique.
    pub(super) shared_keys: u64,
    pub(super) last_modified: Option<DateTime<Utc>>,
    /// The limit was reached before the page's end.
    pub(super) cut: bool,
}

/// A row that will be appended.
struct Outgoing {
    record: NewRecord,
    /// What to remember of it.
    appended: Appended,
    modified: Option<DateTime<Utc>>,
    /// By column and what they are not.
    misfits: Vec<(&'static str, &'static str)>,
    /// The letter's id where it goes to the dead letters.
    letter: Option<Uuid>,
}

impl<'a> Rows<'a> {
    pub(super) fn read(table: Table, page: &'a Page, ledger: &ErasureLedger) -> Self {
        let is_erased = |(row, json): &(Result<SourceRow, RowError>, &Json)| match row {
            Ok(row) => ledger.holds(table, &row.key),
            // A row that is refused for something else may have a good key.
            Err(_) => dead_letters::key_as_sent(table, json)
                .and_then(|sent| table.key.kind.spelled(&sent))
                .is_some_and(|key| ledger.holds(table, &key)),
        };
        let rows = page.rows.iter().map(|json| (SourceRow::read(table, json.clone()), json));
        let each: Vec<_> = rows.filter(|row| ledger.is_empty() || !is_erased(row)).collect();
        let erased = (page.rows.len() - each.len()) as u64;
        Self { table, read_at: page.read_at, each, erased }
    }

    /// What the rows are remembered by, each once.
    pub(super) fn entities(&self) -> Vec<String> {
        let entity = |(row, json): &(Result<SourceRow, RowError>, &Json)| match row {
            Ok(row) => row.key.clone(),
            Err(_) => dead_letters::row_letter_id(self.table, json).to_string(),
        };
        let mut entities: Vec<String> = self.each.iter().map(entity).collect();
        entities.sort_unstable();
        entities.dedup();
        entities
    }

    /// Tells what is new from what was appended `last` of each entity.
    pub(super) fn take(self, asked: Asked, mut last: HashMap<String, Appended>) -> Taken {
        let (table, read_at) = (self.table, self.read_at);
        let mut taken = Taken { erased: self.erased, ..Taken::default() };
        let mut seen: HashSet<String> = HashSet::new();
        for (row, json) in self.each {
            let key = row.as_ref().ok().map(|row| row.key.clone());
            let modified = row.as_ref().ok().and_then(|row| row.modified);
            let mut outgoing = match row {
                Ok(row) => Outgoing::event(&row, last.get(&row.key), read_at, asked),
                Err(error) => Outgoing::letter(table, json, &error, asked),
            };
            let known = last.get(&outgoing.appended.entity);
            // What counts as removed comes back, also as it was: a key's type may be put back.
            let is_known =
                known.is_some_and(|known| known.event == outgoing.appended.event && !known.removed);
            // The same row is never parked twice.
            let is_unchanged = is_known && (!asked.reappend || outgoing.letter.is_some());
            if is_unchanged {
                taken.unchanged += 1;
            } else if let Some(letter) = outgoing.letter {
                let entity = key.clone().or_else(|| dead_letters::key_as_sent(table, json));
                let parked = entity.map(|entity| ParkedEntity {
                    sink: None,
                    table: TableName::from(table),
                    entity,
                    partition: 0,
                    offset: 0,
                    letter,
                });
                taken.letters.push((outgoing.record, parked));
                taken.mended.remove(&outgoing.appended.entity);
            } else if (taken.events.len() as u64) < asked.events {
                for misfit in outgoing.misfits.drain(..) {
                    *taken.misfits.entry(misfit).or_default() += 1;
                }
                taken.events.push(outgoing.record);
                // What is appended as it was before mends no letter.
                if !is_known {
                    taken.mended.insert(outgoing.appended.entity.clone());
                }
            } else {
                taken.cut = true;
                break;
            }
            taken.shared_keys += u64::from(key.is_some_and(|key| !seen.insert(key)));
            taken.ahead += u64::from(modified.is_some_and(|at| at > read_at + TOLERATED_SKEW));
            taken.last_modified = taken.last_modified.max(outgoing.modified);
            if !is_unchanged {
                last.insert(outgoing.appended.entity.clone(), outgoing.appended.clone());
                taken.appended.insert(outgoing.appended.entity.clone(), outgoing.appended);
            }
        }
        taken
    }
}

impl Outgoing {
    fn event(row: &SourceRow, last: Option<&Appended>, read_at: DateTime<Utc>, asked: Asked) -> Self {
        let versao = last.map_or(i64::MIN, |last| last.versao.saturating_add(1)).max(micros(read_at));
        let mut appended = Appended { entity: row.key.clone(), event: row.event_id, versao, removed: false };
        let (event, misfits) = row.event(read_at, versao);
        let mut misfits: Vec<_> = misfits.iter().map(|misfit| (misfit.column, misfit.expected())).collect();
        if asked.doubles {
            misfits.extend(event.row(row.table).beyond_doubles().map(|column| (column, DOUBLES)));
        }
        let mut record = event_record(&event, asked.sync_id);
        bear(&mut record, asked.parent, asked.limits.event);
        let (size, limit) = (record.size(), asked.limits.event);
        let (record, letter) = if size > limit {
            let letter = dead_letters::from_large_row(row, size, limit, asked.sync_id, Utc::now());
            // It was not appended: once the log takes it, it is new.
            appended.event = dead_letters::row_letter_id(row.table, &row.json);
            (letter, Some(appended.event))
        } else {
            (record, None)
        };
        Self { record, appended, modified: row.modified, misfits, letter }
    }

    fn letter(table: Table, row: &Json, error: &RowError, asked: Asked) -> Self {
        let letter = dead_letters::row_letter_id(table, row);
        Self {
            record: dead_letters::from_row(table, row, error, asked.sync_id, asked.limits.letter, Utc::now()),
            appended: Appended { entity: letter.to_string(), event: letter, versao: 0, removed: false },
            modified: None,
            misfits: Vec::new(),
            letter: Some(letter),
        }
    }
}

/// Misfits as an answer and the log name them.
pub(super) fn named(misfits: &Misfits) -> Vec<ColumnMisfits> {
    misfits
        .iter()
        .map(|((column, expected), values)| ColumnMisfits {
            column: (*column).to_owned(),
            values: *values,
            expected: (*expected).to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Catalog;

    const ASKED: Asked = Asked {
        sync_id: Uuid::nil(),
        reappend: false,
        events: 10,
        limits: RecordLimits { event: 100_000, letter: 100_000 },
        doubles: false,
        parent: None,
    };

    fn page(rows: &[serde_json::Value]) -> Page {
        let rows = rows.iter().map(Json::from).collect();
        let read_at = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        Page { rows, read_at, watermark: None, tells_changes: true, next: None, without_key: 0 }
    }

    fn taken(page: &Page, asked: Asked, last: HashMap<String, Appended>) -> Taken {
        let table = Catalog::built_in().get("leads").expect("leads");
        Rows::read(table, page, &ErasureLedger::default()).take(asked, last)
    }

    #[test]
    fn a_row_is_appended_once_and_again_only_where_all_is_asked_for() {
        let page = page(&[json!({"id": Uuid::from_u128(1), "nome": "Ana"}), json!({"nome": "sem id"})]);
        let first = taken(&page, ASKED, HashMap::new());
        assert_eq!((first.events.len(), first.letters.len(), first.unchanged), (1, 1, 0));
        let again = taken(&page, ASKED, first.appended.clone());
        assert_eq!((again.events.len(), again.letters.len(), again.unchanged), (0, 0, 2));
        let again = taken(&page, Asked { reappend: true, ..ASKED }, first.appended);
        assert_eq!((again.events.len(), again.letters.len()), (1, 0), "a letter is never parked twice");
    }

    #[test]
    fn a_row_that_counted_as_removed_is_appended_though_it_is_as_it_was() {
        let page = page(&[json!({"id": Uuid::from_u128(1), "nome": "Ana"})]);
        let mut last = taken(&page, ASKED, HashMap::new()).appended;
        for one in last.values_mut() {
            one.removed = true;
        }
        let again = taken(&page, ASKED, last);
        assert_eq!((again.events.len(), again.unchanged, again.mended.len()), (1, 0, 1));
        assert!(again.appended.values().all(|one| !one.removed));
    }

    #[test]
    fn a_row_of_an_erased_entity_is_neither_appended_nor_parked() {
        let table = Catalog::built_in().get("leads").expect("leads");
        let erased = ErasureLedger::digest(b"s", "leads", &Uuid::from_u128(1).to_string());
        let ledger = ErasureLedger::new(Uuid::nil(), b"s".to_vec(), [erased].into());
        let page = page(&[json!({"id": Uuid::from_u128(1)}), json!({"id": Uuid::from_u128(2)})]);
        let taken = Rows::read(table, &page, &ledger).take(ASKED, HashMap::new());
        assert_eq!((taken.erased, taken.events.len(), taken.letters.len()), (1, 1, 0));
        assert!(taken.appended.contains_key(&Uuid::from_u128(2).to_string()));
        let large = Asked { limits: RecordLimits::default(), ..ASKED };
        assert_eq!(Rows::read(table, &page, &ledger).take(large, HashMap::new()).letters.len(), 1);
    }

    #[test]
    fn rows_of_one_page_that_share_a_key_are_counted_whatever_they_hold() {
        let row = |id, nome| json!({"id": Uuid::from_u128(id), "nome": nome});
        let page =
            page(&[row(1, "Ana"), row(1, "Bia"), row(2, "Ana"), row(2, "Ana"), row(3, "Ana"), row(1, "Bia")]);
        let first = taken(&page, ASKED, HashMap::new());
        assert_eq!(first.shared_keys, 3);
        assert_eq!(taken(&page, ASKED, first.appended).shared_keys, 3, "at every sync");
    }

    #[test]
    fn a_number_that_no_double_holds_is_a_misfit_where_the_store_holds_doubles() {
        let row = format!(r#"{{"id":"{}","score_qualificacao":1e400}}"#, Uuid::from_u128(1));
        let page = Page { rows: vec![Json::try_from(bytes::Bytes::from(row)).expect("JSON")], ..page(&[]) };
        let named = |doubles| {
            let taken = taken(&page, Asked { doubles, ..ASKED }, HashMap::new());
            taken.misfits.into_keys().map(|(column, _)| column).collect::<Vec<_>>()
        };
        assert_eq!(named(false), ["valor"], "it can't be added up");
        assert_eq!(named(true), ["score_qualificacao", "valor"]);
    }

    #[test]
    fn a_version_grows_though_the_servers_clock_does_not() {
        let row = |nome| json!({"id": Uuid::from_u128(1), "nome": nome});
        let twice = taken(&page(&[row("Ana"), row("Bia")]), ASKED, HashMap::new());
        assert_eq!(twice.events.len(), 2);
        let [remembered] = &twice.appended.values().collect::<Vec<_>>()[..] else { panic!("one entity") };
        assert_eq!(remembered.versao, micros(DateTime::UNIX_EPOCH + TimeDelta::days(1)) + 1);
    }

    #[test]
    fn the_limit_cuts_the_page_and_a_record_too_large_is_a_letter() {
        let row = |id| json!({"id": Uuid::from_u128(id), "nome": "x".repeat(2_000)});
        let page = page(&[row(1), row(2)]);
        let cut = taken(&page, Asked { events: 1, ..ASKED }, HashMap::new());
        assert!(cut.cut && cut.events.len() == 1 && cut.appended.len() == 1);
        let small = Asked { limits: RecordLimits { event: 1_000, letter: 100_000 }, ..ASKED };
        let large = taken(&page, small, HashMap::new());
        assert_eq!((large.events.len(), large.letters.len(), large.cut), (0, 2, false));
        let again = taken(&page, small, large.appended.clone());
        assert_eq!((again.events.len(), again.letters.len(), again.unchanged), (0, 0, 2), "parked once");
        let raised = taken(&page, ASKED, large.appended);
        assert_eq!((raised.events.len(), raised.letters.len()), (2, 0), "the limit was raised, as advised");
    }

    #[test]
    fn a_row_without_a_key_is_parked_in_a_letter_that_its_own_topic_takes() {
        let page = page(&[json!({"nome": "x".repeat(10_000)})]);
        let size = |letter| {
            let limits = RecordLimits { letter, ..ASKED.limits };
            let taken = taken(&page, Asked { limits, ..ASKED }, HashMap::new());
            taken.letters.iter().map(|(letter, _)| letter.size()).sum::<usize>()
        };
        assert!(size(100_000) > 10_000, "whole, as far as its topic takes it");
        assert!((1..=5_000).contains(&size(5_000)), "however large the events may be");
    }
}
