//! Dates as the search servers read them: `strict_date_optional_time||epoch_millis`, and date math.

use chrono::{
    DateTime, Datelike, Days, FixedOffset, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset as _,
    TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;

use crate::domain::{day_start, in_zone};

/// A date's first and last millisecond: `2026-11` is all of November.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// The first millisecond of a date without math, as a document spells it: in UTC where it names no zone.
pub(in crate::index) fn instant(text: &str) -> Option<i64> {
    plain(text, Tz::UTC).map(|span| span.first)
}

/// The years a date may be in: the servers read no others.
const FIRST: i64 = -62_167_219_200_000;
const LAST: i64 = 253_402_300_799_999;

/// Reads a date, or `now` or `<date>||` with steps: `now-7d`, `now/d`, `2026-11-01||+1M/d`. Days, and times without a
/// zone, are those of the zone of `now`.
pub(super) fn span(text: &str, now: DateTime<Tz>) -> Option<Span> {
    any_span(text, now).filter(|span| FIRST <= span.first && span.last <= LAST)
}

fn any_span(text: &str, now: DateTime<Tz>) -> Option<Span> {
    let zone = now.timezone();
    let (base, steps) = match text.strip_prefix("now") {
        Some(steps) => (now, steps),
        None => match text.split_once("||") {
            Some((date, steps)) => (zone.timestamp_millis_opt(plain(date, zone)?.first).single()?, steps),
            None => return plain(text, zone),
        },
    };
    Some(Span { first: stepped(base, steps, false)?, last: stepped(base, steps, true)? })
}

fn stepped(mut at: DateTime<Tz>, steps: &str, up: bool) -> Option<i64> {
    let mut rest = steps;
    while let Some(sign) = rest.chars().next() {
        rest = &rest[sign.len_utf8()..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count = if digits == 0 { 1 } else { rest[..digits].parse::<i32>().ok()? };
        rest = &rest[digits..];
        let unit = rest.chars().next()?;
        rest = &rest[unit.len_utf8()..];
        at = match sign {
            '+' => moved(at, count, unit)?,
            '-' => moved(at, -count, unit)?,
            // A day that has no midnight begins later, and the next one does not.
            '/' if digits == 0 && up => {
                floor(moved(floor(at, unit)?, 1, unit)?, unit)? - TimeDelta::milliseconds(1)
            }
            '/' if digits == 0 => floor(at, unit)?,
            _ => return None,
        };
    }
    Some(at.timestamp_millis())
}

/// A day later is the same time of day, whatever its clock did meanwhile; an hour later is an hour later.
fn moved(at: DateTime<Tz>, count: i32, unit: char) -> Option<DateTime<Tz>> {
    let local = at.naive_local();
    let months = |months: u32| {
        if count < 0 {
            local.checked_sub_months(Months::new(months))
        } else {
            local.checked_add_months(Months::new(months))
        }
    };
    let local = match unit {
        'y' => months(count.unsigned_abs().checked_mul(12)?),
        'M' => months(count.unsigned_abs()),
        'w' => local.checked_add_signed(TimeDelta::try_weeks(count.into())?),
        'd' => local.checked_add_signed(TimeDelta::try_days(count.into())?),
        'h' | 'H' => return at.checked_add_signed(TimeDelta::try_hours(count.into())?),
        'm' => return at.checked_add_signed(TimeDelta::try_minutes(count.into())?),
        's' => return at.checked_add_signed(TimeDelta::try_seconds(count.into())?),
        _ => None,
    };
    Some(in_zone(local?, at.timezone())?.with_timezone(&at.timezone()))
}

fn floor(at: DateTime<Tz>, unit: char) -> Option<DateTime<Tz>> {
    let day = at.date_naive();
    let midnight = |day| Some(day_start(day, at.timezone())?.with_timezone(&at.timezone()));
    let seconds = match unit {
        'y' => return NaiveDate::from_ymd_opt(day.year(), 1, 1).and_then(midnight),
        'M' => return day.with_day(1).and_then(midnight),
        'w' => {
            let since_monday = day.weekday().num_days_from_monday();
            return day.checked_sub_days(Days::new(since_monday.into())).and_then(midnight);
        }
        'd' => return midnight(day),
        'h' | 'H' => 3600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    let offset = i64::from(at.offset().fix().local_minus_utc());
    let seconds = (at.timestamp() + offset).div_euclid(seconds) * seconds - offset;
    at.timezone().timestamp_opt(seconds, 0).single()
}

fn plain(text: &str, zone: Tz) -> Option<Span> {
    if !text.is_ascii() {
        return None;
    }
    calendar(text, zone).or_else(|| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let millis = text.parse().ok().filter(|_| is_number)?;
        Some(Span { first: millis, last: millis })
    })
}

fn calendar(text: &str, zone: Tz) -> Option<Span> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year: i32 = number(parts.next()?, 4)?;
    let month = parts.next().map(|month| number(month, 2));
    let day = parts.next().map(|day| number(day, 2));
    if parts.next().is_some() || month == Some(None) || day == Some(None) {
        return None;
    }
    let (month, day) = (month.flatten(), day.flatten());
    let first = NaiveDate::from_ymd_opt(year, month.unwrap_or(1), day.unwrap_or(1))?;
    let Some(time) = time.filter(|time| !time.is_empty()) else {
        let after = match (month, day) {
            (None, _) => first.checked_add_months(Months::new(12))?,
            (_, None) => first.checked_add_months(Months::new(1))?,
            _ => first.succ_opt()?,
        };
        let millis = |day| Some(day_start(day, zone)?.timestamp_millis());
        return Some(Span { first: millis(first)?, last: millis(after)? - 1 });
    };
    day?;
    let (time, offset) = zoned(time)?;
    let (time, length) = clock(time)?;
    let local = NaiveDateTime::new(first, time);
    let first: DateTime<Utc> = match offset {
        Some(offset) => local.and_local_timezone(offset).single()?.to_utc(),
        None => in_zone(local, zone)?,
    };
    let first = first.timestamp_millis();
    Some(Span { first, last: first + length - 1 })
}

/// A time of day, and the milliseconds it lasts.
fn clock(text: &str) -> Option<(NaiveTime, i64)> {
    let (whole, fraction) = match text.split_once(['.', ',']) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let parts: Vec<u32> = whole.split(':').map(|part| number(part, 2)).collect::<Option<_>>()?;
    let (hour, minute, second, length) = match parts[..] {
        [hour] => (hour, 0, 0, 3_600_000),
        [hour, minute] => (hour, minute, 0, 60_000),
        [hour, minute, second] => (hour, minute, second, 1000),
        _ => return None,
    };
    let Some(fraction) = fraction else {
        return Some((NaiveTime::from_hms_opt(hour, minute, second)?, length));
    };
    if parts.len() != 3 || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let nanos: u32 =
        number::<u32>(fraction, fraction.len())? * 10_u32.pow(9 - u32::try_from(fraction.len()).ok()?);
    let length = 10_i64.pow(3_u32.saturating_sub(u32::try_from(fraction.len()).ok()?));
    Some((NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?, length))
}

/// Takes the zone off a time of day, where it has one.
fn zoned(text: &str) -> Option<(&str, Option<FixedOffset>)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, FixedOffset::east_opt(0)));
    }
    let Some(at) = text.find(['+', '-']) else { return Some((text, None)) };
    let (time, zone) = text.split_at(at);
    let (sign, zone) = zone.split_at(1);
    let (hours, minutes) = match zone.len() {
        2 => (zone, "00"),
        4 => zone.split_at(2),
        5 => zone.split_once(':')?,
        _ => return None,
    };
    let seconds = number::<i32>(hours, 2)? * 3600 + number::<i32>(minutes, 2)? * 60;
    Some((time, Some(FixedOffset::east_opt(if sign == "-" { -seconds } else { seconds })?)))
}

/// Exactly so many digits.
fn number<N: std::str::FromStr>(text: &str, digits: usize) -> Option<N> {
    let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<(String, String)> {
        shown_in(text, "2026-11-25T10:20:30.400Z", Tz::UTC)
    }

    fn shown_in(text: &str, now: &str, zone: Tz) -> Option<(String, String)> {
        let now = DateTime::parse_from_rfc3339(now).expect("a date").with_timezone(&zone);
        let shown = |millis| {
            DateTime::from_timestamp_millis(millis).expect("in range").format("%FT%T%.3f").to_string()
        };
        span(text, now).map(|span| (shown(span.first), shown(span.last)))
    }

    #[test]
    fn a_date_lasts_as_long_as_it_is_exact() {
        for (text, first, last) in [
            ("2026", "2026-01-01T00:00:00.000", "2026-12-31T23:59:59.999"),
            ("2026-02", "2026-02-01T00:00:00.000", "2026-02-28T23:59:59.999"),
            ("2026-11-24", "2026-11-24T00:00:00.000", "2026-11-24T23:59:59.999"),
            ("2026-11-24T10", "2026-11-24T10:00:00.000", "2026-11-24T10:59:59.999"),
            ("2026-11-24T10:20-03:00", "2026-11-24T13:20:00.000", "2026-11-24T13:20:59.999"),
            ("2026-11-24T10:20:30.5Z", "2026-11-24T10:20:30.500", "2026-11-24T10:20:30.599"),
            ("2026-11-24T10:20:30.123456Z", "2026-11-24T10:20:30.123", "2026-11-24T10:20:30.123"),
            ("1767225600000", "2026-01-01T00:00:00.000", "2026-01-01T00:00:00.000"),
        ] {
            assert_eq!(shown(text), Some((first.into(), last.into())), "{text}");
        }
    }

    #[test]
    fn math_moves_and_rounds() {
        for (text, first, last) in [
            ("now", "2026-11-25T10:20:30.400", "2026-11-25T10:20:30.400"),
            ("now-7d", "2026-11-18T10:20:30.400", "2026-11-18T10:20:30.400"),
            ("now-1M/M", "2026-10-01T00:00:00.000", "2026-10-31T23:59:59.999"),
            ("now/w", "2026-11-23T00:00:00.000", "2026-11-29T23:59:59.999"),
            ("now/h", "2026-11-25T10:00:00.000", "2026-11-25T10:59:59.999"),
            ("2026-01-31||+1M", "2026-02-28T00:00:00.000", "2026-02-28T00:00:00.000"),
        ] {
            assert_eq!(shown(text), Some((first.into(), last.into())), "{text}");
        }
    }

    #[test]
    fn days_are_those_of_the_zone_and_a_day_without_midnight_begins_all_the_same() {
        // 22:00 in São Paulo is tomorrow in UTC.
        let in_sao_paulo = |text| shown_in(text, "2026-11-26T01:00:00Z", Tz::America__Sao_Paulo);
        for (text, first, last) in [
            ("now/d", "2026-11-25T03:00:00.000", "2026-11-26T02:59:59.999"),
            ("now/w", "2026-11-23T03:00:00.000", "2026-11-30T02:59:59.999"),
            ("now-1d/d", "2026-11-24T03:00:00.000", "2026-11-25T02:59:59.999"),
            ("2026-11-25", "2026-11-25T03:00:00.000", "2026-11-26T02:59:59.999"),
            ("2026-11-25T22:00", "2026-11-26T01:00:00.000", "2026-11-26T01:00:59.999"),
            ("2026-11-25T22:00Z", "2026-11-25T22:00:00.000", "2026-11-25T22:00:59.999"),
            // Clocks were put forward at midnight that day.
            ("2018-11-04", "2018-11-04T03:00:00.000", "2018-11-05T01:59:59.999"),
            ("2018-11-03||+1d/d", "2018-11-04T03:00:00.000", "2018-11-05T01:59:59.999"),
        ] {
            assert_eq!(in_sao_paulo(text), Some((first.into(), last.into())), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in
            ["", "ontem", "2026-13-01", "26-01-01", "2026-1-1", "now-", "now-7x", "now/3d", "2026-11T10", "é"]
        {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
