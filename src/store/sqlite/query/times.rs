//! Instants, local times, days and intervals, as PostgreSQL reckons with them in a session whose zone is UTC.
//!
//! The text of a value tells its type: with `Z` or an offset it is an instant (`timestamptz`), without one a local time
//! (`timestamp`), and ten characters are a day (`date`).

use chrono::{
    DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, SubsecRound, TimeDelta,
    TimeZone, Timelike, Utc,
};
use chrono_tz::Tz;

use crate::store::sqlite::rows;

/// What can't be answered; the words must not repeat a value.
pub(super) type Unfit = &'static str;

const NO_TIME: Unfit = "a value is no time; times look like 2026-05-01T12:00:00Z";
pub(super) const TOO_FAR: Unfit = "a time is too far away";

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Moment {
    Instant(DateTime<Utc>),
    Local(NaiveDateTime),
    Day(NaiveDate),
}

impl Moment {
    pub(super) fn parse(text: &str) -> Result<Self, Unfit> {
        let text = text.trim();
        let (day, rest) = text.split_at_checked(10).ok_or(NO_TIME)?;
        let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").map_err(|_| NO_TIME)?;
        let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
            // A day with a zone is its midnight there.
            return match offset(rest) {
                _ if rest.is_empty() => Ok(Self::Day(day)),
                Some(offset) => {
                    let utc = day.and_time(NaiveTime::MIN).checked_sub_signed(offset);
                    utc.map(|utc| Self::Instant(utc.and_utc())).ok_or(TOO_FAR)
                }
                None => Err(NO_TIME),
            };
        };
        let (clock, offset) = match rest.find(['Z', 'z', '+', '-']) {
            Some(at) => (rest[..at].trim_end(), Some(offset(&rest[at..]).ok_or(NO_TIME)?)),
            None => (rest, None),
        };
        let clock = NaiveTime::parse_from_str(clock, "%H:%M:%S%.f")
            .or_else(|_| NaiveTime::parse_from_str(clock, "%H:%M"))
            .map_err(|_| NO_TIME)?;
        let local = day.and_time(clock).round_subsecs(6);
        match offset {
            None => Ok(Self::Local(local)),
            Some(offset) => {
                local.checked_sub_signed(offset).map(|utc| Self::Instant(utc.and_utc())).ok_or(TOO_FAR)
            }
        }
    }

    pub(super) fn write(self) -> String {
        match self {
            Self::Instant(at) => rows::instant(at),
            Self::Local(at) => at.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
            Self::Day(day) => day.to_string(),
        }
    }

    /// As PostgreSQL writes it.
    pub(super) fn write_as_postgres(self) -> String {
        let written = self.local().format("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let short = written.trim_end_matches('0').trim_end_matches('.');
        match self {
            Self::Instant(_) => format!("{short}+00"),
            Self::Local(_) => short.to_owned(),
            Self::Day(day) => day.to_string(),
        }
    }

    /// In UTC, where it is an instant.
    pub(super) fn local(self) -> NaiveDateTime {
        match self {
            Self::Instant(at) => at.naive_utc(),
            Self::Local(at) => at,
            Self::Day(day) => day.and_time(NaiveTime::MIN),
        }
    }

    fn with_local(self, local: NaiveDateTime) -> Self {
        match self {
            Self::Instant(_) => Self::Instant(local.and_utc()),
            Self::Local(_) | Self::Day(_) => Self::Local(local),
        }
    }

    pub(super) fn to_instant(self) -> Self {
        Self::Instant(self.local().and_utc())
    }

    pub(super) fn to_local(self) -> Self {
        Self::Local(self.local())
    }

    pub(super) fn to_day(self) -> Self {
        Self::Day(self.local().date())
    }

    /// An instant's time in the zone, or the instant of a time in the zone.
    pub(super) fn at_time_zone(self, zone: &str) -> Result<Self, Unfit> {
        const NO_ZONE: Unfit = "a time zone is no name of the IANA; write America/Sao_Paulo, say, or UTC";
        // The short names mean other things in PostgreSQL than in the IANA's list.
        if !zone.contains('/') && !["UTC", "GMT"].contains(&zone) {
            return Err(NO_ZONE);
        }
        let zone: Tz = zone.parse().map_err(|_| NO_ZONE)?;
        let Self::Local(local) = self else {
            return Ok(Self::Local(self.local().and_utc().with_timezone(&zone).naive_local()));
        };
        let offset = zone.offset_from_local_datetime(&local);
        // A time that the clocks show twice is the later one; one that they skip counts from before the gap.
        let offset = offset.latest().or_else(|| {
            let before = local.checked_sub_signed(TimeDelta::hours(3))?;
            zone.offset_from_local_datetime(&before).latest()
        });
        let offset = offset.ok_or(TOO_FAR)?.fix().local_minus_utc();
        local
            .checked_sub_signed(TimeDelta::seconds(offset.into()))
            .map(|utc| Self::Instant(utc.and_utc()))
            .ok_or(TOO_FAR)
    }

    pub(super) fn truncate(self, unit: &str) -> Result<Self, Unfit> {
        let local = self.local();
        let (day, clock) = (local.date(), local.time());
        let midnight = |day: Option<NaiveDate>| day.map(|day| day.and_time(NaiveTime::MIN)).ok_or(TOO_FAR);
        let truncated = match unit.to_lowercase().as_str() {
            "microseconds" => local,
            "milliseconds" => local.trunc_subsecs(3),
            "second" => local.trunc_subsecs(0),
            "minute" => day.and_time(clock.with_second(0).unwrap_or(clock)).trunc_subsecs(0),
            "hour" => midnight(Some(day))? + TimeDelta::hours(clock.hour().into()),
            "day" => midnight(Some(day))?,
            "week" => midnight(day.checked_sub_days(Days::new(day.weekday().num_days_from_monday().into())))?,
            "month" => midnight(day.with_day(1))?,
            "quarter" => midnight(NaiveDate::from_ymd_opt(day.year(), day.month0() / 3 * 3 + 1, 1))?,
            "year" => midnight(NaiveDate::from_ymd_opt(day.year(), 1, 1))?,
            _ => {
                return Err(
                    "date_trunc knows the units second, minute, hour, day, week, month, quarter and year",
                );
            }
        };
        Ok(match self {
            Self::Day(_) => Self::Instant(truncated.and_utc()),
            other => other.with_local(truncated),
        })
    }

    /// A part of it, whole but for seconds.
    pub(super) fn part(self, field: &str) -> Result<f64, Unfit> {
        let at = self.local();
        let micros = f64::from(at.nanosecond() / 1_000);
        let second = f64::from(at.second());
        Ok(match field.to_lowercase().as_str() {
            "epoch" => seconds(at.and_utc().timestamp_micros()),
            "year" => at.year().into(),
            "isoyear" => at.iso_week().year().into(),
            "quarter" => (at.month0() / 3 + 1).into(),
            "month" => at.month().into(),
            "week" => at.iso_week().week().into(),
            "day" => at.day().into(),
            "dow" => at.weekday().num_days_from_sunday().into(),
            "isodow" => at.weekday().number_from_monday().into(),
            "doy" => at.ordinal().into(),
            "hour" => at.hour().into(),
            "minute" => at.minute().into(),
            "second" => second + micros / 1e6,
            "milliseconds" => second * 1e3 + micros / 1e3,
            "microseconds" => second * 1e6 + micros,
            _ => {
                return Err(
                    "extract knows epoch, year, quarter, month, week, day, dow, isodow, doy, hour, minute and second",
                );
            }
        })
    }

    pub(super) fn plus(self, interval: Interval) -> Result<Self, Unfit> {
        let months = Months::new(interval.months.unsigned_abs());
        let local = self.local();
        let moved = if interval.months < 0 {
            local.checked_sub_months(months)
        } else {
            local.checked_add_months(months)
        };
        let moved = moved
            .and_then(|at| at.checked_add_signed(TimeDelta::try_days(interval.days)?))
            .and_then(|at| at.checked_add_signed(TimeDelta::microseconds(interval.micros)))
            .ok_or(TOO_FAR)?;
        Ok(self.with_local(moved))
    }

    pub(super) fn plus_days(self, days: i64) -> Result<Self, Unfit> {
        let moved = TimeDelta::try_days(days).and_then(|days| self.local().checked_add_signed(days));
        moved.map(|at| Self::Day(at.date())).ok_or(TOO_FAR)
    }

    pub(super) fn days_since(self, other: Self) -> i64 {
        (self.local().date() - other.local().date()).num_days()
    }

    /// A part of the time from `other` to this: PostgreSQL makes days of it and what is left of one.
    pub(super) fn part_since(self, other: Self, field: &str) -> Result<f64, Unfit> {
        let micros = (self.local() - other.local()).num_microseconds().ok_or(TOO_FAR)?;
        let clock = micros % MICROS_A_DAY;
        Ok(match field.to_lowercase().as_str() {
            "epoch" => seconds(micros),
            "day" => whole(micros / MICROS_A_DAY),
            "hour" => whole(clock / 3_600_000_000),
            "minute" => whole(clock / 60_000_000 % 60),
            "second" => seconds(clock % 60_000_000),
            "year" | "month" => 0.0,
            _ => return Err("of a difference extract knows epoch, day, hour, minute and second"),
        })
    }
}

const MICROS_A_DAY: i64 = 86_400_000_000;

#[expect(clippy::cast_precision_loss, reason = "counts of microseconds stay far below 2^53 for 280 years")]
fn whole(number: i64) -> f64 {
    number as f64
}

fn seconds(micros: i64) -> f64 {
    whole(micros) / 1e6
}

/// `Z`, `+00`, `-03:00` or `-0300`.
fn offset(text: &str) -> Option<TimeDelta> {
    if text.eq_ignore_ascii_case("z") {
        return Some(TimeDelta::zero());
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+')?),
    };
    let digits = digits.replace(':', "");
    if ![2, 4].contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i64 = digits[..2].parse().ok()?;
    let minutes: i64 = digits[2..].parse().unwrap_or(0);
    Some(TimeDelta::minutes(sign * (hours * 60 + minutes)))
}

/// A length of time as PostgreSQL keeps it: months and days have no fixed length.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Interval {
    pub(super) months: i32,
    pub(super) days: i64,
    pub(super) micros: i64,
}

impl Interval {
    /// `7 days`, `1 month 2 hours`, `01:30:00`, `1 day ago`.
    pub(super) fn parse(text: &str) -> Result<Self, Unfit> {
        const NO_INTERVAL: Unfit = "a value is no interval; write '7 days' or '1 month 2 hours'";
        let text = text.trim().to_lowercase();
        let (text, sign) = text.strip_suffix(" ago").map_or((text.as_str(), 1.0), |rest| (rest, -1.0));
        let mut sum = Self::default();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(NO_INTERVAL);
        }
        while !rest.is_empty() {
            let end =
                rest.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-' | ':')).unwrap_or(rest.len());
            let number = &rest[..end];
            let after = rest[end..].trim_start();
            if number.contains(':') {
                sum.micros += clock(number).ok_or(NO_INTERVAL)?;
                rest = after;
                continue;
            }
            let number: f64 = number.parse().map_err(|_| NO_INTERVAL)?;
            let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            sum = sum.plus(Self::of(number, &after[..unit_end]).ok_or(NO_INTERVAL)?).ok_or(TOO_FAR)?;
            rest = after[unit_end..].trim_start();
        }
        sum.times(sign)
    }

    fn of(number: f64, unit: &str) -> Option<Self> {
        let singular = if unit.len() > 2 { unit.trim_end_matches('s') } else { unit };
        Some(match singular {
            "microsecond" => Self::fraction(0.0, 0.0, number),
            "millisecond" => Self::fraction(0.0, 0.0, number * 1e3),
            "second" | "sec" | "s" => Self::fraction(0.0, 0.0, number * 1e6),
            "minute" | "min" | "m" => Self::fraction(0.0, 0.0, number * 6e7),
            "hour" | "hr" | "h" => Self::fraction(0.0, 0.0, number * 3.6e9),
            "day" | "d" => Self::fraction(0.0, number, 0.0),
            "week" | "w" => Self::fraction(0.0, number * 7.0, 0.0),
            "month" | "mon" => Self::fraction(number, 0.0, 0.0),
            "year" | "yr" | "y" => Self::fraction(number * 12.0, 0.0, 0.0),
            _ => return None,
        })
    }

    /// What is no whole month becomes days, of thirty to a month, and what is no whole day time.
    #[expect(clippy::cast_possible_truncation, reason = "casts of doubles stop at the ends of the type")]
    fn fraction(months: f64, days: f64, micros: f64) -> Self {
        let days = days + months.fract() * 30.0;
        let micros = micros + (days.fract() * whole(MICROS_A_DAY)).round();
        Self { months: months.trunc() as i32, days: days.trunc() as i64, micros: micros.round() as i64 }
    }

    fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            micros: self.micros.checked_add(other.micros)?,
        })
    }

    pub(super) fn times(self, factor: f64) -> Result<Self, Unfit> {
        if !factor.is_finite() || factor.abs() > 1e9 {
            return Err(TOO_FAR);
        }
        Ok(Self::fraction(
            f64::from(self.months) * factor,
            whole(self.days) * factor,
            whole(self.micros) * factor,
        ))
    }

    /// As PostgreSQL compares intervals, with months of thirty days; and years of 365.25 for `extract(epoch …)`.
    pub(super) fn seconds(self, exact_years: bool) -> f64 {
        let years = if exact_years {
            f64::from(self.months / 12) * 365.25
        } else {
            f64::from(self.months / 12) * 360.0
        };
        let days = years + f64::from(self.months % 12) * 30.0 + whole(self.days);
        days * 86_400.0 + seconds(self.micros)
    }

    pub(super) fn write(self) -> String {
        format!("{} months {} days {} microseconds", self.months, self.days, self.micros)
    }
}

/// `01:30`, `-01:30:15.5` in microseconds.
fn clock(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut parts = text.trim_start_matches('+').split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().unwrap_or("0").parse().ok()?;
    if hours > 1_000_000 || minutes > 59 || !(0.0..60.0).contains(&seconds) || parts.next().is_some() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than a minute")]
    let micros = (seconds * 1e6).round() as i64;
    Some(sign * ((hours * 60 + minutes) * 60_000_000 + micros))
}
