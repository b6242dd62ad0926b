//! Instants as Postgres and people write them.

use chrono::{
    DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;

/// In a second.
const NANOSECONDS: u32 = 1_000_000_000;

/// Reads a timestamp with or without a zone; without one it is in `zone`. Years outside 1 to 9999 are none: no sink
/// can hold all of them. A leap second is the second after it, as every sink has it.
pub fn parse_instant(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let instant = zoned(text).or_else(|| naive(text).and_then(|naive| in_zone(naive, zone)))?;
    let nanoseconds = instant.timestamp_subsec_nanos();
    let seconds = instant.timestamp() + i64::from(nanoseconds / NANOSECONDS);
    let instant = DateTime::from_timestamp(seconds, nanoseconds % NANOSECONDS)?;
    (1..=9999).contains(&instant.year()).then_some(instant)
}

/// Reads a day: of a timestamp the day it is written with.
pub fn parse_date(text: &str) -> Option<NaiveDate> {
    let day = NaiveDate::parse_from_str(text.trim().get(..10)?, "%Y-%m-%d").ok()?;
    let rest = &text.trim()[10..];
    (rest.is_empty() || zoned(text.trim()).is_some() || naive(text.trim()).is_some()).then_some(day)
}

fn zoned(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Some(zoned.to_utc());
    }
    // Postgres's own spelling: a blank for the T, and hours alone for the zone.
    ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"]
        .iter()
        .find_map(|format| DateTime::parse_from_str(text, format).ok())
        .map(|zoned| zoned.to_utc())
}

fn naive(text: &str) -> Option<NaiveDateTime> {
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

/// The first instant of a day; `None` beyond what an instant can be.
pub fn day_start(day: NaiveDate, zone: Tz) -> Option<DateTime<Utc>> {
    in_zone(day.and_time(NaiveTime::MIN), zone)
}

/// Of an hour that a clock change repeats the first counts; one that it skips is read as if it had not changed.
pub fn in_zone(naive: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&naive) {
        LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => Some(instant.to_utc()),
        LocalResult::None => {
            let before =
                zone.from_local_datetime(&naive.checked_sub_signed(TimeDelta::hours(3))?).earliest()?;
            Some(before.to_utc() + TimeDelta::hours(3))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_with_and_without_a_zone() {
        let expected = parse_instant("2026-05-01T12:30:00Z", Tz::UTC).expect("a timestamp");
        for text in [
            "2026-05-01T12:30:00",
            "2026-05-01 12:30:00",
            "2026-05-01T09:30:00-03:00",
            "2026-05-01 09:30:00-03",
            "2026-05-01T12:30:00.000000+00:00",
        ] {
            assert_eq!(parse_instant(text, Tz::UTC), Some(expected), "{text}");
        }
        assert_eq!(parse_instant("2026-05-01T09:30:00", Tz::America__Sao_Paulo), Some(expected));
        for nothing in ["ontem", "infinity", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", ""] {
            assert_eq!(parse_instant(nothing, Tz::UTC), None, "{nothing}");
        }
    }

    #[test]
    fn a_leap_second_is_the_one_after_it() {
        let next = parse_instant("2017-01-01T00:00:00.25Z", Tz::UTC);
        assert_eq!(parse_instant("2016-12-31T23:59:60.25Z", Tz::UTC), next);
        assert_eq!(
            next.map(|instant| instant.to_rfc3339()).as_deref(),
            Some("2017-01-01T00:00:00.250+00:00")
        );
    }

    #[test]
    fn an_hour_that_a_clock_change_skips_or_repeats_is_an_instant_all_the_same() {
        // Clocks in São Paulo went from 23:59 to 01:00 on 2018-11-04, and back at midnight on 2018-02-18.
        let skipped = parse_instant("2018-11-04T00:30:00", Tz::America__Sao_Paulo).expect("an instant");
        assert_eq!(skipped.to_rfc3339(), "2018-11-04T03:30:00+00:00");
        let repeated = parse_instant("2018-02-17T23:30:00", Tz::America__Sao_Paulo).expect("an instant");
        assert_eq!(repeated.to_rfc3339(), "2018-02-18T01:30:00+00:00");
    }

    #[test]
    fn a_day_is_the_one_that_is_written() {
        let day = NaiveDate::from_ymd_opt(2026, 5, 1);
        assert_eq!(parse_date("2026-05-01"), day);
        assert_eq!(parse_date("2026-05-01T23:30:00-03:00"), day);
        assert_eq!(parse_date("2026-05-01 e depois"), None);
        assert_eq!(parse_date("é026-05-01"), None);
    }
}
