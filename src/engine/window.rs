//! Which part of a table a sync must read, and what the table's coverage is afterwards: an algebra of intervals,
//! without I/O.
//!
//! Coverage says "every row that said, before `to`, that it was last written in `from..=to` is in the log". It only
//! ever claims what was read without a gap, and nothing beyond the time when reading began, by the server's clock or by
//! this machine's, whichever is behind, whatever the rows say; where two intervals don't touch, the newer one is kept,
//! since re-reading costs time and a gap costs rows.

use chrono::{DateTime, TimeDelta, Utc};

use super::page::TOLERATED_SKEW;
use crate::{
    domain::Table,
    source::BEGINNING,
    store::{Coverage, SyncRequest},
};

/// What one sync is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When reading began, by the clock that is behind: one that is ahead would claim rows that are still to be written.
    began: DateTime<Utc>,
    /// How far back the caller wants to look.
    start: DateTime<Utc>,
    /// Read rows last written at or after this.
    pub since: DateTime<Utc>,
    before: Option<Coverage>,
    /// A filtered read sees only some of the rows and proves nothing about the others; and where rows don't tell when
    /// they were modified there is nothing to read on from.
    counts: bool,
    /// It begins where what is owed begins, or before.
    owed: bool,
    polls: bool,
}

impl Window {
    /// Plans a sync. `now` is the server's time, `local` this machine's, `coverage` what earlier syncs left behind,
    /// `overlap` how far behind it reading starts again, since rows are committed after the time they bear; what is `owed`
    /// since then is read again whatever was covered.
    pub fn plan(
        now: DateTime<Utc>,
        local: DateTime<Utc>,
        table: Table,
        request: &SyncRequest,
        coverage: Option<Coverage>,
        owed: Option<DateTime<Utc>>,
        overlap: TimeDelta,
    ) -> Self {
        let start =
            now.checked_sub_signed(TimeDelta::hours(i64::from(request.hours_ago))).unwrap_or(BEGINNING);
        // Where a clock was ahead, nobody knows when the earlier sync read: its coverage proves where to begin, no more.
        let is_ahead = |known: &Coverage| known.to > now + TOLERATED_SKEW;
        let is_reread = coverage.as_ref().is_some_and(is_ahead);
        let to = |known: &Coverage| if is_ahead(known) { known.from.min(now) } else { known.to.min(now) };
        let before = coverage.map(|known| Coverage { from: known.from.min(now), to: to(&known) });
        let is_whole = request.conditions.is_empty() && request.since.is_none();
        let tells_changes = table.time.modified.is_some();
        let counts = is_whole && tells_changes;
        // Where rows don't tell when they were modified, what is owed is somewhere in the whole table.
        let owed = owed.filter(|_| is_whole).map(|from| if tells_changes { from } else { BEGINNING });
        let since = match before {
            _ if let Some(since) = request.since => since,
            _ if owed.is_some() => owed.unwrap_or(start).min(start),
            Some(known) if counts && is_reread && !request.reappend => start.min(known.from),
            Some(known) if counts && request.resume && !request.reappend && known.from <= start => {
                start.max(known.to.checked_sub_signed(overlap).unwrap_or(known.to))
            }
            _ => start,
        };
        Self {
            began: now.min(local),
            start,
            since,
            before,
            counts,
            owed: owed.is_some(),
            polls: request.since.is_some(),
        }
    }

    /// Reading began here, by another clock: nothing is claimed of what comes before.
    pub fn read_since(&mut self, since: DateTime<Utc>) {
        self.since = self.since.max(since);
    }

    /// The project, unlike the definition, has no column that tells when rows were modified: what was covered does not say where
    /// to read on, nothing is covered, and what is owed is somewhere in the whole table.
    pub fn read_by_creation(&mut self) {
        (self.counts, self.before) = (false, None);
        if !self.polls {
            self.since = if self.owed { BEGINNING } else { self.since.min(self.start) };
        }
    }

    /// From when on rows are read again each time that don't tell when they were last written; a poll leaves them to the runs.
    pub fn created_since(&self) -> Option<DateTime<Utc>> {
        (!self.polls).then(|| self.start.min(self.since))
    }

    /// Whether reading to the end settles what was owed.
    pub fn reaches_owed(&self) -> bool {
        self.owed
    }

    /// The coverage after everything from `since` on was appended up to the row that was last written at `read_up_to`,
    /// or to the end where `exhausted`; `None` leaves it as it was.
    pub fn covered(&self, read_up_to: Option<DateTime<Utc>>, exhausted: bool) -> Option<Coverage> {
        if !self.counts {
            return None;
        }
        let to = if exhausted { self.began } else { read_up_to?.min(self.began) };
        let mut after = Coverage { from: self.since, to };
        if let Some(before) = self.before {
            let touches = self.since <= before.to && to >= before.from;
            if touches {
                after.from = after.from.min(before.from);
                after.to = after.to.max(before.to);
            }
        }
        (after.from <= after.to).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Catalog, Compare},
        source::Condition,
    };

    const OVERLAP: TimeDelta = TimeDelta::minutes(10);

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn request(hours_ago: u32) -> SyncRequest {
        let table = crate::domain::TableName("leads".to_owned());
        SyncRequest {
            table,
            hours_ago,
            limit: 100,
            conditions: Vec::new(),
            resume: true,
            reappend: false,
            reconcile: None,
            since: None,
        }
    }

    fn covered(from: i64, to: i64) -> Option<Coverage> {
        Some(Coverage { from: at(from), to: at(to) })
    }

    fn plan_of(table: &str, now: i64, request: &SyncRequest, coverage: Option<Coverage>) -> Window {
        let table = Catalog::built_in().get(table).expect("a table");
        Window::plan(at(now), at(now), table, request, coverage, None, OVERLAP)
    }

    fn plan(now: i64, request: &SyncRequest, coverage: Option<Coverage>) -> Window {
        plan_of("leads", now, request, coverage)
    }

    #[test]
    fn rows_without_a_time_are_looked_for_as_far_back_as_was_asked_but_by_polls() {
        let window = plan(100, &request(24), covered(70, 99));
        assert_eq!((window.created_since(), window.since > at(98)), (Some(at(76)), true));
        let poll = SyncRequest { since: Some(at(99)), ..request(24) };
        assert_eq!(plan(100, &poll, covered(70, 99)).created_since(), None);
    }

    #[test]
    fn a_first_sync_reads_the_whole_window_and_covers_it_up_to_the_servers_time() {
        let window = plan(100, &request(24), None);
        assert_eq!(window.since, at(76));
        assert_eq!(window.covered(Some(at(99)), true), covered(76, 100));
        assert_eq!(window.covered(None, true), covered(76, 100), "nothing there is known, too");
        assert_eq!(window.covered(Some(at(99)), false), covered(76, 99));
        assert_eq!(window.covered(None, false), None, "cut short before it read anything");
    }

    #[test]
    fn a_row_dated_ahead_moves_the_coverage_no_further_than_the_servers_time() {
        let window = plan(100, &request(24), None);
        assert_eq!(window.covered(Some(at(900_000)), true), covered(76, 100));
        assert_eq!(window.covered(Some(at(900_000)), false), covered(76, 100));
    }

    #[test]
    fn a_stored_coverage_that_ends_in_the_future_is_read_again_from_its_beginning() {
        let window = plan(101, &request(24), covered(50, 900_000));
        assert_eq!(window.since, at(50));
        assert_eq!(window.covered(None, true), covered(50, 101));
        assert_eq!(
            window.covered(Some(at(60)), false),
            covered(50, 60),
            "a part is proven as far as it was read"
        );
    }

    #[test]
    fn where_the_project_does_not_tell_changes_all_that_was_asked_for_is_read_and_nothing_covered() {
        let resumed = SyncRequest { resume: true, ..request(24) };
        let mut window = plan(100, &resumed, covered(10, 99));
        assert!(window.since > at(98));
        window.read_by_creation();
        assert_eq!((window.since, window.covered(None, true)), (at(76), None));
        let leads = Catalog::built_in().get("leads").expect("leads");
        let mut owing =
            Window::plan(at(100), at(100), leads, &resumed, covered(10, 99), Some(at(50)), OVERLAP);
        owing.read_by_creation();
        assert_eq!((owing.since, owing.reaches_owed()), (BEGINNING, true));
        let mut poll = plan(100, &SyncRequest { since: Some(at(99)), ..request(24) }, None);
        poll.read_by_creation();
        assert_eq!(poll.since, at(99));
    }

    #[test]
    fn a_servers_clock_that_is_ahead_proves_nothing_beyond_this_machines() {
        let leads = Catalog::built_in().get("leads").expect("leads");
        let window = Window::plan(at(101), at(100), leads, &request(24), None, None, OVERLAP);
        assert_eq!(window.covered(None, true), covered(77, 100));
        assert_eq!(window.covered(Some(at(101)), false), covered(77, 100));
        let behind = Window::plan(at(99), at(100), leads, &request(24), None, None, OVERLAP);
        assert_eq!(behind.covered(None, true), covered(75, 99));
    }

    #[test]
    fn nothing_is_claimed_of_what_comes_before_the_first_row_that_was_asked_for() {
        let mut window = plan(100, &request(24), None);
        let by_another_clock = at(76) + TimeDelta::seconds(20);
        window.read_since(by_another_clock);
        assert_eq!(window.covered(None, true), Some(Coverage { from: by_another_clock, to: at(100) }));
        window.read_since(at(70));
        assert_eq!(window.since, by_another_clock, "what was read besides was not asked for");
    }

    #[test]
    fn the_next_sync_resumes_behind_the_coverage_with_overlap() {
        let window = plan(101, &request(24), covered(76, 99));
        assert_eq!(window.since, at(99) - OVERLAP);
        assert_eq!(window.covered(Some(at(100)), true), covered(76, 101));
    }

    #[test]
    fn a_sync_that_does_not_resume_reads_what_was_asked_for() {
        let asked = SyncRequest { resume: false, ..request(24) };
        assert_eq!(plan(101, &asked, covered(10, 100)).since, at(77));
        let again = SyncRequest { reappend: true, ..request(24) };
        assert_eq!(plan(101, &again, covered(10, 100)).since, at(77));
    }

    #[test]
    fn looking_further_back_than_ever_reads_all_of_it() {
        let window = plan(101, &request(48), covered(76, 99));
        assert_eq!(window.since, at(53));
        assert_eq!(window.covered(Some(at(100)), false), covered(53, 100));
        assert_eq!(window.covered(Some(at(80)), false), covered(53, 99), "cut short inside what was known");
        assert_eq!(window.covered(Some(at(60)), false), covered(53, 60), "a gap is never claimed");
    }

    #[test]
    fn a_window_after_the_coverage_does_not_claim_the_gap() {
        let window = plan(200, &request(24), covered(76, 99));
        assert_eq!(window.since, at(176));
        assert_eq!(window.covered(Some(at(199)), true), covered(176, 200));
    }

    #[test]
    fn a_filtered_sync_neither_uses_nor_moves_the_coverage() {
        let condition =
            Condition { column: "status_lead".into(), compare: Compare::Eq, value: "novo".into() };
        let filtered = SyncRequest { conditions: vec![condition], ..request(24) };
        let window = plan(101, &filtered, covered(76, 99));
        assert_eq!(window.since, at(77));
        assert_eq!(window.covered(Some(at(101)), true), None);
    }

    #[test]
    fn a_table_without_modification_times_is_always_read_whole() {
        let window = plan_of("chat_sessions", 101, &request(24), covered(76, 99));
        assert_eq!(window.since, at(77));
        assert_eq!(window.covered(None, true), None);
    }

    #[test]
    fn what_is_owed_of_a_table_without_modification_times_is_read_and_settled_by_reading_all_of_it() {
        let table = Catalog::built_in().get("chat_sessions").expect("a table");
        let plan = |request: &SyncRequest| {
            Window::plan(at(101), at(101), table, request, covered(76, 99), Some(at(50)), OVERLAP)
        };
        let window = plan(&request(24));
        assert_eq!((window.since, window.created_since()), (BEGINNING, Some(BEGINNING)));
        assert_eq!((window.reaches_owed(), window.covered(None, true)), (true, None));
        let condition =
            Condition { column: "total_messages".into(), compare: Compare::Eq, value: "2".into() };
        let filtered = plan(&SyncRequest { conditions: vec![condition], ..request(24) });
        assert_eq!((filtered.since, filtered.reaches_owed()), (at(77), false));
        let poll = plan(&SyncRequest { since: Some(at(100)), ..request(24) });
        assert_eq!((poll.since, poll.reaches_owed()), (at(100), false));
    }

    #[test]
    fn an_absurd_reach_is_the_epoch() {
        assert!(plan(100, &request(u32::MAX), None).since <= DateTime::UNIX_EPOCH);
    }

    #[test]
    fn the_coverage_never_goes_back() {
        let window = plan(101, &request(24), covered(76, 99));
        assert_eq!(window.covered(Some(at(98)), false), covered(76, 99));
    }
}
