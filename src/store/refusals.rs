//! Tells rows that somebody's rule refuses from a rule that refuses every row.
//!
//! A trigger or a constraint that an operator added may object to a row: the row is parked, its neighbours go on. One
//! that objects to whatever it is given would park the whole log, a batch after the other. So of a table's rows that
//! are refused in sequence, with none taken in between, fewer than [`MANY`] are parked; from then on it is the rule
//! that is at fault, until a row is taken.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use crate::log::Position;

/// Rows refused in sequence that show that no single row is to blame.
pub(super) const MANY: usize = 8;

/// What became of a batch's rows, by their tables.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Tables of which a row was taken.
    pub(super) taken: HashSet<&'static str>,
    /// Rows that a rule refused.
    pub(super) refused: BTreeMap<&'static str, HashSet<Position>>,
}

/// The rows of each table that were refused since one was taken. By their places, since a batch comes again.
#[derive(Debug, Default)]
pub(super) struct Streaks(Mutex<HashMap<&'static str, HashSet<Position>>>);

impl Streaks {
    /// The table whose rule refuses everything, and how many rows showed it.
    pub(super) fn judge(&self, outcome: &Outcome) -> Option<(&'static str, usize)> {
        let mut streaks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streaks.retain(|table, _| !outcome.taken.contains(table));
        let suspects = outcome.refused.iter().filter(|(table, _)| !outcome.taken.contains(*table));
        let joined: Vec<(&'static str, HashSet<Position>)> = suspects
            .map(|(table, refused)| {
                let before = streaks.get(table).into_iter().flatten();
                (*table, before.chain(refused).copied().collect())
            })
            .collect();
        if let Some((table, refused)) = joined.iter().find(|(_, refused)| refused.len() >= MANY) {
            return Some((table, refused.len()));
        }
        streaks.extend(joined);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(taken: &[&'static str], refused: &[(&'static str, std::ops::Range<i64>)]) -> Outcome {
        let places = |offsets: std::ops::Range<i64>| {
            offsets.map(|offset| Position { partition: 0, offset }).collect::<HashSet<_>>()
        };
        Outcome {
            taken: taken.iter().copied().collect(),
            refused: refused.iter().map(|(table, offsets)| (*table, places(offsets.clone()))).collect(),
        }
    }

    #[test]
    fn a_rule_that_refuses_everything_is_told_for_its_table_whatever_others_take() {
        let streaks = Streaks::default();
        assert_eq!(streaks.judge(&outcome(&["chat_sessions"], &[("leads", 0..20)])), Some(("leads", 20)));
        assert_eq!(streaks.judge(&outcome(&["leads"], &[("leads", 0..20)])), None, "one was taken");
    }

    #[test]
    fn rows_refused_one_batch_after_the_other_add_up_until_one_is_taken() {
        let streaks = Streaks::default();
        for offset in 0..7 {
            assert_eq!(streaks.judge(&outcome(&[], &[("leads", offset..offset + 1)])), None);
            assert_eq!(streaks.judge(&outcome(&[], &[("leads", offset..offset + 1)])), None, "again");
        }
        assert_eq!(streaks.judge(&outcome(&[], &[("leads", 7..8)])), Some(("leads", 8)));
        assert_eq!(
            streaks.judge(&outcome(&[], &[("leads", 7..8)])),
            Some(("leads", 8)),
            "until one is taken"
        );
        assert_eq!(streaks.judge(&outcome(&["leads"], &[])), None);
        assert_eq!(streaks.judge(&outcome(&[], &[("leads", 9..10)])), None);
    }
}
