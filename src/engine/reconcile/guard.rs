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

/// What stops a reconciliation that found too many rows `gone`, of which so many are `removed` by now.
pub(super) fn too_many(
    part: &'static str,
    table: &str,
    (gone, removed, known): (u64, u64, u64),
    allowed: u64,
) -> Fault {
    let told = match removed {
        0 => "none was removed".to_owned(),
        removed => format!("{removed} were removed before the others were found, and no more"),
    };
    Fault::new(
        part,
        FaultKind::Invalid,
        format!(
            "{gone} of {known} rows of {table} are not at the source any more, and {allowed} may be removed without \
             asking; {told}"
        ),
        format!(
            "a key that row-level security keeps from seeing rows looks the same, so look at the source first; if they are \
             really gone, reconcile again and allow {} deletions",
            gone.saturating_sub(removed)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_before_is_told_and_is_not_to_be_allowed_again() {
        let told = |removed| too_many("supabase", "leads", (150, removed, 1_200), 105).to_string();
        let (none, some) = (told(0), told(30));
        assert!(none.contains("150 of 1200 rows of leads") && none.contains("none was removed"), "{none}");
        assert!(none.contains("allow 150 deletions"), "{none}");
        assert!(some.contains("30 were removed") && some.contains("allow 120 deletions"), "{some}");
    }

    fn allowed(allow_deletes: Option<u64>, known: u64, shown: u64) -> u64 {
        DeleteLimits { rows: 10, percent: 10 }.allowed(
            Reconciliation { allow_deletes, resume: false },
            known,
            shown,
        )
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
