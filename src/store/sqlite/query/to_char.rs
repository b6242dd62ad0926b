//! Times as text, by PostgreSQL's patterns.

use chrono::{Datelike, Timelike};

use super::times::{Moment, TOO_FAR, Unfit};

const PATTERNS: [&str; 30] = [
    "YYYY", "IYYY", "YY", "MONTH", "Month", "month", "MON", "Mon", "mon", "MM", "MI", "MS", "DDD", "DD",
    "DAY", "Day", "day", "DY", "Dy", "dy", "D", "HH24", "HH12", "HH", "SS", "US", "IW", "ID", "Q", "FM",
];

/// As PostgreSQL's `to_char`, for the patterns people group and show times by.
pub(super) fn to_char(moment: Moment, format: &str) -> Result<String, Unfit> {
    let at = moment.local();
    let (mut written, mut rest, mut fill) = (String::new(), format, true);
    while let Some(first) = rest.chars().next() {
        let pattern = PATTERNS.into_iter().find(|pattern| {
            let names = pattern.len() > 1
                && pattern.to_uppercase().starts_with(['M', 'D'])
                && ["MONTH", "MON", "DAY", "DY"].contains(&pattern.to_uppercase().as_str());
            let head = rest.get(..pattern.len()).unwrap_or_default();
            if names { head == *pattern } else { head.eq_ignore_ascii_case(pattern) }
        });
        let Some(pattern) = pattern else {
            if first == '"' {
                let quoted = &rest[1..];
                let end = quoted.find('"').unwrap_or(quoted.len());
                written.push_str(&quoted[..end]);
                rest = quoted.get(end + 1..).unwrap_or_default();
            } else if first.is_ascii_alphabetic() || first == '\\' {
                return Err(
                    "to_char knows YYYY, MM, DD, HH24, MI, SS, Mon, Month, Day, Dy, D, DDD, IYYY, IW, ID and Q here",
                );
            } else {
                written.push(first);
                rest = &rest[first.len_utf8()..];
            }
            continue;
        };
        rest = &rest[pattern.len()..];
        if pattern == "FM" {
            fill = false;
            continue;
        }
        let name = |full: &str, width: usize| {
            let cased = if pattern.chars().all(char::is_uppercase) {
                full.to_uppercase()
            } else if pattern.starts_with(char::is_lowercase) {
                full.to_lowercase()
            } else {
                full.to_owned()
            };
            if fill { format!("{cased:<width$}") } else { cased }
        };
        let number = |number: u32, width: usize| {
            if fill { format!("{number:0width$}") } else { number.to_string() }
        };
        let year = u32::try_from(at.year()).map_err(|_| TOO_FAR)?;
        let text = match pattern {
            "YYYY" => number(year, 4),
            "YY" => number(year % 100, 2),
            "IYYY" => number(u32::try_from(at.iso_week().year()).map_err(|_| TOO_FAR)?, 4),
            "MONTH" | "Month" | "month" => name(&at.format("%B").to_string(), 9),
            "MON" | "Mon" | "mon" => name(&at.format("%b").to_string(), 3),
            "DAY" | "Day" | "day" => name(&at.format("%A").to_string(), 9),
            "DY" | "Dy" | "dy" => name(&at.format("%a").to_string(), 3),
            "MM" => number(at.month(), 2),
            "DD" => number(at.day(), 2),
            "DDD" => number(at.ordinal(), 3),
            "D" => number(at.weekday().number_from_sunday(), 1),
            "ID" => number(at.weekday().number_from_monday(), 1),
            "IW" => number(at.iso_week().week(), 2),
            "Q" => number(at.month0() / 3 + 1, 1),
            "HH24" => number(at.hour(), 2),
            "HH12" | "HH" => number((at.hour() + 11) % 12 + 1, 2),
            "MI" => number(at.minute(), 2),
            "SS" => number(at.second(), 2),
            "MS" => number(at.nanosecond() / 1_000_000, 3),
            _ => number(at.nanosecond() / 1_000, 6),
        };
        written.push_str(&text);
        fill = true;
    }
    Ok(written)
}
