//! How many rows may be taken for deleted without asking anybody: pure.
//!
//! A key that row-level security blinds, a view that lost its rows and a restored project look as if rows had been
//! deleted. So a large part of a table is never removed on the source's word alone.

use crate::{
    fault::{Fault, FaultKind},
    store::Reconciliation,
};

/// What may be removed without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteLimits {
    /// So many rows are removed, however small the table.
    pub rows: u64,
    /// So large a part of the rows that were appended is removed, in percent.
    pub percent: u32,
}

impl DeleteLimits {
    /// How many removals are allowed of `known` rows, where the source shows `shown`.
    pub(in crate::engine) fn allowed(self, asked: Reconciliation, known: u64, shown: u64) -> u64 {
        match asked.allow_deletes {
            Some(agreed) => agreed,
            // No table is emptied on the word of a source that shows nothing.
            None if shown == 0 => 0,
            None => self.rows.max(known.saturating_mul(u64::from(self.percent)) / 100),
        }
    }
}

/// What stops a reconciliation that found too many rows gone.
pub(super) fn too_many(part: &'static str, table: &str, gone: u64, known: u64, allowed: u64) -> Fault {
    Fault::new(
        part,
        FaultKind::Invalid,
        format!(
            "{gone} of {known} rows of {table} are not at the source any more, and {allowed} may be removed without \
             asking; none was removed"
        ),
        format!(
            "a key that row-level security keeps from seeing rows looks the same, so look at the source first; if they are \
             really gone, reconcile again and allow {gone} deletions"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(allow_deletes: Option<u64>, known: u64, shown: u64) -> u64 {
        DeleteLimits { rows: 10, percent: 10 }.allowed(Reconciliation { allow_deletes }, known, shown)
    }

    #[test]
    fn a_few_rows_or_a_small_part_may_go_and_more_only_by_their_number() {
        assert_eq!(allowed(None, 20, 15), 10, "of a small table a few");
        assert_eq!(allowed(None, 20_000, 19_900), 2_000, "of a large one a part");
        assert_eq!(allowed(Some(15_000), 20_000, 5_000), 15_000);
        assert_eq!(allowed(Some(0), 20_000, 5_000), 0);
    }

    #[test]
    fn a_source_that_shows_nothing_empties_no_table() {
        assert_eq!(allowed(None, 3, 0), 0);
        assert_eq!(allowed(Some(3), 3, 0), 3, "unless somebody says so");
    }
}
