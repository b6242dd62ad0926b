//! Days that are reported on together, as people name them.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};
use chrono_tz::Tz;

use super::day_start;

/// Whole days, from one on and before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub first: NaiveDate,
    /// The day after the last.
    pub end: NaiveDate,
    /// Counted in months, so that the one before it is, too.
    months: bool,
}

/// The most days of `last_N_days`, and of any period.
const MAX_DAYS: u64 = 3_660;

impl Period {
    /// The names of periods, for messages.
    pub const NAMES: &str =
        "today, yesterday, this_week, last_week, this_month, last_month or last_N_days such as last_30_days";

    /// The period that somebody names on a day. Weeks begin on Monday; `last_7_days` ends with the day itself.
    pub fn named(name: &str, today: NaiveDate) -> Option<Self> {
        let name = name.trim().to_lowercase().replace(['-', ' '], "_");
        let days = |first: NaiveDate, days: u64| {
            let end = first.checked_add_days(Days::new(days))?;
            Some(Self { first, end, months: false })
        };
        let month = |first: NaiveDate| {
            Some(Self { first, end: first.checked_add_months(Months::new(1))?, months: true })
        };
        let back = |count: u64| today.checked_sub_days(Days::new(count));
        let monday = back(today.weekday().num_days_from_monday().into())?;
        match name.as_str() {
            "today" => days(today, 1),
            "yesterday" => days(back(1)?, 1),
            "this_week" => days(monday, 7),
            "last_week" => days(monday.checked_sub_days(Days::new(7))?, 7),
            "this_month" => month(today.with_day(1)?),
            "last_month" => month(today.with_day(1)?.checked_sub_months(Months::new(1))?),
            other => {
                let count = other.strip_prefix("last_")?.strip_suffix("_days")?.parse().ok()?;
                if !(1..=MAX_DAYS).contains(&count) {
                    return None;
                }
                days(back(count - 1)?, count)
            }
        }
    }

    pub fn of_day(day: NaiveDate) -> Self {
        Self { first: day, end: day.succ_opt().unwrap_or(day), months: false }
    }

    /// From a day to another, both included; `None` where they are the wrong way round or too far apart.
    pub fn between(first: NaiveDate, last: NaiveDate) -> Option<Self> {
        let end = last.succ_opt()?;
        let days = u64::try_from((end - first).num_days()).ok()?;
        (1..=MAX_DAYS).contains(&days).then_some(Self { first, end, months: false })
    }

    /// The period just before, of the same length.
    #[must_use]
    pub fn before(self) -> Self {
        let first = if self.months {
            self.first.checked_sub_months(Months::new(1))
        } else {
            self.first.checked_sub_days(Days::new(self.days()))
        };
        Self { first: first.unwrap_or(self.first), end: self.first, ..self }
    }

    pub fn days(self) -> u64 {
        (self.end - self.first).num_days().unsigned_abs()
    }

    pub fn last(self) -> NaiveDate {
        self.end.pred_opt().unwrap_or(self.first)
    }

    /// Its first instant, and the one after its last.
    pub fn span(self, zone: Tz) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        Some((day_start(self.first, zone)?, day_start(self.end, zone)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    #[test]
    fn a_period_is_the_days_its_name_says_and_is_compared_with_as_many_before() {
        for (name, first, last, before) in [
            ("today", "2026-03-04", "2026-03-04", "2026-03-03"),
            ("yesterday", "2026-03-03", "2026-03-03", "2026-03-02"),
            ("this_week", "2026-03-02", "2026-03-08", "2026-02-23"),
            ("Last week", "2026-02-23", "2026-03-01", "2026-02-16"),
            ("this_month", "2026-03-01", "2026-03-31", "2026-02-01"),
            ("last-month", "2026-02-01", "2026-02-28", "2026-01-01"),
            ("last_7_days", "2026-02-26", "2026-03-04", "2026-02-19"),
        ] {
            // A Wednesday.
            let period = Period::named(name, day("2026-03-04")).expect(name);
            let found = (period.first, period.last(), period.before().first, period.before().end);
            assert_eq!(found, (day(first), day(last), day(before), day(first)), "{name}");
        }
        for name in ["", "tomorrow", "last_0_days", "last_-1_days", "last_99999_days", "last_days"] {
            assert_eq!(Period::named(name, day("2026-03-04")), None, "{name}");
        }
        assert_eq!(Period::between(day("2026-03-04"), day("2026-03-03")), None);
    }

    #[test]
    fn a_day_is_the_day_of_its_zone() {
        let today = Period::between(day("2026-11-25"), day("2026-11-25")).expect("a day");
        let (from, to) = today.span(Tz::America__Sao_Paulo).expect("instants");
        assert_eq!(
            (from.to_rfc3339(), to.to_rfc3339()),
            ("2026-11-25T03:00:00+00:00".to_owned(), "2026-11-26T03:00:00+00:00".to_owned())
        );
    }
}
