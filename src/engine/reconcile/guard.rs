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

    /// As [`DeleteLimits::allowed`], where a reading was ended by a count, and may be one that was gone on with.
    ///
    /// Rows that an earlier run was shown tell nothing of what the source shows now, so of those that lack only as large a
    /// part may go as of what this run asked for. And where the source counts fewer rows at the end than it may lack, it
    /// stopped showing them meanwhile.
    pub(super) fn allowed_by(self, asked: Reconciliation, shown: Shown) -> u64 {
        let Shown { known, rows: shown, earlier, counted } = shown;
        let whole = self.allowed(asked, known, shown);
        if asked.allow_deletes.is_some() {
            return whole;
        }
        match counted {
            Some(counted)
                if known.saturating_sub(counted) > self.allowed(asked, known, shown.min(counted)) =>
            {
                0
            }
            None if earlier.is_some() => 0,
            _ => match earlier.filter(|_| shown < known) {
                Some(earlier) => {
                    let part =
                        self.allowed(asked, known.saturating_sub(earlier), shown.saturating_sub(earlier));
                    whole.min(part)
                }
                None => whole,
            },
        }
    }
}

/// What a source showed of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Rows that were appended at some time and not removed since.
    pub(super) known: u64,
    /// Rows with a key that the reading showed.
    pub(super) rows: u64,
    /// Those of them that an earlier run was shown, where its reading was gone on with.
    pub(super) earlier: Option<u64>,
    /// Rows with a key that the source counted after the reading; `None` where it could not.
    pub(super) counted: Option<u64>,
}

/// What stops a reconciliation that found too many rows `gone`, of which so many are `removed` by now.
pub(super) fn too_many(
    part: &'static str,
    table: &str,
    (gone, removed, known): (u64, u64, u64),
    allowed: u64,
    is_resumed: bool,
) -> Fault {
    if is_resumed {
        return Fault::new(
            part,
            FaultKind::Invalid,
            format!(
                "{gone} of {known} rows of {table}, or more, are not at the source any more, and {allowed} may be removed \
                 without asking, since another run read most of the table; {removed} were removed"
            ),
            "reconcile again without going on: that reads the whole table anew, and tells how many are gone",
        );
    }
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
        let told = |removed| too_many("supabase", "leads", (150, removed, 1_200), 105, false).to_string();
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

    #[test]
    fn a_reading_that_was_gone_on_with_is_judged_by_what_this_run_was_shown() {
        let allowed = |known, shown, earlier, counted| {
            let asked = Reconciliation { resume: true, ..Reconciliation::default() };
            DeleteLimits { rows: 10, percent: 10 }
                .allowed_by(asked, Shown { known, rows: shown, earlier, counted })
        };
        assert_eq!(allowed(1_000, 950, Some(950), Some(0)), 0, "it shows nothing now");
        assert_eq!(allowed(1_000, 975, Some(950), Some(500)), 0, "it counts half of them now");
        assert_eq!(allowed(1_000, 950, Some(950), Some(950)), 0, "of what was asked for it showed nothing");
        assert_eq!(allowed(1_000, 995, Some(950), Some(995)), 10);
        assert_eq!(allowed(1_000, 995, Some(500), Some(995)), 50, "a part of what was asked for");
        assert_eq!(allowed(1_000, 995, Some(500), None), 0, "nobody knows what it has now");
        assert_eq!(allowed(1_000, 1_000, Some(1_000), Some(1_000)), 100, "nothing lacks");
        // One that began anew may be blinded on the way, too.
        assert_eq!(allowed(1_000, 950, None, Some(0)), 0);
        assert_eq!(allowed(1_000, 950, None, Some(500)), 0);
        assert_eq!(allowed(1_000, 950, None, Some(950)), 100);
        assert_eq!(allowed(1_000, 950, None, None), 100, "it was shown all of them itself");
    }

    #[test]
    fn what_somebody_agreed_to_is_allowed_whatever_was_shown() {
        let asked = Reconciliation { allow_deletes: Some(8), resume: true };
        let shown = Shown { known: 18, rows: 10, earlier: Some(10), counted: Some(0) };
        assert_eq!(DeleteLimits { rows: 10, percent: 10 }.allowed_by(asked, shown), 8);
        let told = too_many("supabase", "leads", (8, 0, 18), 0, true).to_string();
        assert!(
            told.contains("8 of 18 rows of leads, or more") && told.contains("without going on"),
            "{told}"
        );
    }
}
