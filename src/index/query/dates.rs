//! Dates as the search servers read them: `strict_date_optional_time||epoch_millis`, and date math.

use chrono::{
    DateTime, Datelike, Days, FixedOffset, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc,
};

/// A date's first and last millisecond: `2026-11` is all of November.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// The first millisecond of a date without math, as a document spells it.
pub(in crate::index) fn instant(text: &str) -> Option<i64> {
    plain(text).map(|span| span.first)
}

/// The years a date may be in: the servers read no others.
const FIRST: i64 = -62_167_219_200_000;
const LAST: i64 = 253_402_300_799_999;

/// Reads a date, or `now` or `<date>||` with steps: `now-7d`, `now/d`, `2026-11-01||+1M/d`.
pub(super) fn span(text: &str, now: DateTime<Utc>) -> Option<Span> {
    any_span(text, now).filter(|span| FIRST <= span.first && span.last <= LAST)
}

fn any_span(text: &str, now: DateTime<Utc>) -> Option<Span> {
    let (base, steps) = match text.strip_prefix("now") {
        Some(steps) => (now, steps),
        None => match text.split_once("||") {
            Some((date, steps)) => (DateTime::from_timestamp_millis(plain(date)?.first)?, steps),
            None => return plain(text),
        },
    };
    Some(Span { first: stepped(base, steps, false)?, last: stepped(base, steps, true)? })
}

fn stepped(mut at: DateTime<Utc>, steps: &str, up: bool) -> Option<i64> {
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
            '/' if digits == 0 && up => moved(floor(at, unit)?, 1, unit)? - TimeDelta::milliseconds(1),
            '/' if digits == 0 => floor(at, unit)?,
            _ => return None,
        };
    }
    Some(at.timestamp_millis())
}

fn moved(at: DateTime<Utc>, count: i32, unit: char) -> Option<DateTime<Utc>> {
    let months = |months: u32| {
        if count < 0 {
            at.checked_sub_months(Months::new(months))
        } else {
            at.checked_add_months(Months::new(months))
        }
    };
    let delta = match unit {
        'y' => return months(count.unsigned_abs().checked_mul(12)?),
        'M' => return months(count.unsigned_abs()),
        'w' => TimeDelta::try_weeks(count.into()),
        'd' => TimeDelta::try_days(count.into()),
        'h' | 'H' => TimeDelta::try_hours(count.into()),
        'm' => TimeDelta::try_minutes(count.into()),
        's' => TimeDelta::try_seconds(count.into()),
        _ => None,
    };
    at.checked_add_signed(delta?)
}

fn floor(at: DateTime<Utc>, unit: char) -> Option<DateTime<Utc>> {
    let day = at.date_naive();
    let seconds = match unit {
        'y' => return NaiveDate::from_ymd_opt(day.year(), 1, 1).map(midnight),
        'M' => return day.with_day(1).map(midnight),
        'w' => {
            let since_monday = day.weekday().num_days_from_monday();
            return day.checked_sub_days(Days::new(since_monday.into())).map(midnight);
        }
        'd' => return Some(midnight(day)),
        'h' | 'H' => 3600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    DateTime::from_timestamp(at.timestamp().div_euclid(seconds) * seconds, 0)
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

fn plain(text: &str) -> Option<Span> {
    if !text.is_ascii() {
        return None;
    }
    calendar(text).or_else(|| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let millis = text.parse().ok().filter(|_| is_number)?;
        Some(Span { first: millis, last: millis })
    })
}

fn calendar(text: &str) -> Option<Span> {
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
        let millis = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
        return Some(Span { first: millis(first), last: millis(after) - 1 });
    };
    day?;
    let (time, zone) = zoned(time)?;
    let (time, length) = clock(time)?;
    let local = NaiveDateTime::new(first, time).and_local_timezone(zone).single()?;
    let first = local.timestamp_millis();
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

/// Takes the zone off a time of day; without one it is UTC.
fn zoned(text: &str) -> Option<(&str, FixedOffset)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, FixedOffset::east_opt(0)?));
    }
    let Some(at) = text.find(['+', '-']) else { return Some((text, FixedOffset::east_opt(0)?)) };
    let (time, zone) = text.split_at(at);
    let (sign, zone) = zone.split_at(1);
    let (hours, minutes) = match zone.len() {
        2 => (zone, "00"),
        4 => zone.split_at(2),
        5 => zone.split_once(':')?,
        _ => return None,
    };
    let seconds = number::<i32>(hours, 2)? * 3600 + number::<i32>(minutes, 2)? * 60;
    Some((time, FixedOffset::east_opt(if sign == "-" { -seconds } else { seconds })?))
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
        let now = DateTime::parse_from_rfc3339("2026-11-25T10:20:30.400Z").expect("a date").to_utc();
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
    fn what_is_no_date_is_none() {
        for text in
            ["", "ontem", "2026-13-01", "26-01-01", "2026-1-1", "now-", "now-7x", "now/3d", "2026-11T10", "é"]
        {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
