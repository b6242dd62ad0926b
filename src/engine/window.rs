//! Which part of a table a sync must read, and what the table's coverage is afterwards: an algebra of intervals,
//! without I/O.
//!
//! Coverage says "every row last written in `from..=to` is in the log". It only ever claims what was read without a
//! gap; where two intervals don't touch, the newer one is kept, since re-reading costs time and a gap costs rows.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::{Coverage, SyncRequest};

/// How far behind the watermark reading starts again: `updated_at` is assigned before its transaction commits, so
/// a row can appear behind rows that were already read.
pub const OVERLAP: TimeDelta = TimeDelta::minutes(2);

/// What one sync is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How far back the caller wants to look.
    start: DateTime<Utc>,
    /// Read rows last written at or after this.
    pub since: DateTime<Utc>,
    before: Option<Coverage>,
    /// A filtered read sees only some of the rows and proves nothing about the others.
    counts: bool,
}

impl Window {
    /// Plans a sync. `coverage` is what earlier syncs left behind.
    pub fn plan(now: DateTime<Utc>, request: &SyncRequest, coverage: Option<Coverage>) -> Self {
        let start = now
            .checked_sub_signed(TimeDelta::hours(i64::from(request.hours_ago)))
            .unwrap_or(DateTime::UNIX_EPOCH);
        let filtered = request.status.is_some() || request.min_messages.is_some();
        let resumable = request.table.modified_column().is_some() && !request.full && !filtered;
        let since = match coverage {
            Some(known) if resumable && known.from <= start => start.max(known.to - OVERLAP),
            _ => start,
        };
        Self { start, since, before: coverage, counts: !filtered }
    }

    /// The coverage after everything from `since` up to `read_up_to` was appended; `None` leaves it as it was.
    pub fn covered(&self, read_up_to: Option<DateTime<Utc>>) -> Option<Coverage> {
        let to = read_up_to.filter(|_| self.counts)?;
        let mut after = Coverage { from: self.start, to };
        if let Some(before) = self.before {
            let touches = self.since <= before.to && to >= before.from;
            if touches {
                after.from = after.from.min(before.from);
                after.to = after.to.max(before.to);
            }
        }
        Some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Table;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn request(hours_ago: u32) -> SyncRequest {
        SyncRequest {
            table: Table::Leads,
            hours_ago,
            limit: 100,
            status: None,
            min_messages: None,
            full: false,
        }
    }

    fn covered(from: i64, to: i64) -> Option<Coverage> {
        Some(Coverage { from: at(from), to: at(to) })
    }

    #[test]
    fn a_first_sync_reads_the_whole_window() {
        let window = Window::plan(at(100), &request(24), None);
        assert_eq!(window.since, at(76));
        assert_eq!(window.covered(Some(at(99))), covered(76, 99));
    }

    #[test]
    fn the_next_sync_resumes_behind_the_watermark_with_overlap() {
        let window = Window::plan(at(101), &request(24), covered(76, 99));
        assert_eq!(window.since, at(99) - OVERLAP);
        assert_eq!(window.covered(Some(at(101))), covered(76, 101));
    }

    #[test]
    fn looking_further_back_than_ever_reads_all_of_it() {
        let window = Window::plan(at(101), &request(48), covered(76, 99));
        assert_eq!(window.since, at(53));
        assert_eq!(window.covered(Some(at(100))), covered(53, 100));
        assert_eq!(window.covered(Some(at(80))), covered(53, 99), "cut short inside what was known");
        assert_eq!(window.covered(Some(at(60))), covered(53, 60), "a gap is never claimed");
    }

    #[test]
    fn a_window_after_the_coverage_does_not_claim_the_gap() {
        let window = Window::plan(at(200), &request(24), covered(76, 99));
        assert_eq!(window.since, at(176));
        assert_eq!(window.covered(Some(at(199))), covered(176, 199));
    }

    #[test]
    fn a_filtered_sync_neither_uses_nor_moves_the_coverage() {
        let filtered = SyncRequest { status: Some("novo".into()), ..request(24) };
        let window = Window::plan(at(101), &filtered, covered(76, 99));
        assert_eq!(window.since, at(77));
        assert_eq!(window.covered(Some(at(101))), None);
    }

    #[test]
    fn a_table_without_modification_times_is_always_read_whole() {
        let sessions = SyncRequest { table: Table::ChatSessions, ..request(24) };
        assert_eq!(Window::plan(at(101), &sessions, covered(76, 99)).since, at(77));
    }

    #[test]
    fn nothing_read_moves_nothing_and_an_absurd_reach_is_the_epoch() {
        let window = Window::plan(at(100), &request(u32::MAX), None);
        assert_eq!(window.covered(None), None);
        assert!(window.since <= DateTime::UNIX_EPOCH);
    }

    #[test]
    fn the_watermark_never_goes_back() {
        let window = Window::plan(at(101), &request(24), covered(76, 99));
        assert_eq!(window.covered(Some(at(98))), covered(76, 99));
    }
}
