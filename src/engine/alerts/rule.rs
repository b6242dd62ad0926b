//! When an alert fires: pure.

use std::cmp::Ordering;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    domain::{Cell, Column, ColumnKind, Compare, Json, KeyKind, Row, Table, parse_date, parse_instant},
    engine::EngineError,
    source::Condition,
    store::{Alert, Episode, EpisodeFired},
};

/// Whether a version makes a row fire: it meets the conditions, and the version before it did not, or there is none.
pub(super) fn begins(table: Table, conditions: &[Condition], row: &Json, before: Option<&Json>) -> bool {
    holds(table, conditions, row) && !before.is_some_and(|before| holds(table, conditions, before))
}

/// Whether a row meets all conditions. As in SQL nothing is said of a value that is missing.
fn holds(table: Table, conditions: &[Condition], row: &Json) -> bool {
    let Some(row) = Row::of(table, row.as_str()) else { return false };
    conditions.iter().all(|condition| meets(&row, condition))
}

fn meets(row: &Row<'_>, condition: &Condition) -> bool {
    let table = row.table;
    let given = condition.value.as_str();
    let Some(column) = table.definition().column(&condition.column) else {
        let key = row.key().ok().filter(|_| condition.column == table.key.column);
        let ordering = key.and_then(|key| key_order(table.key.kind, key.as_str(), given));
        return ordering.is_some_and(|ordering| fits(condition.compare, ordering));
    };
    let ordering = match row.get(&column.name) {
        Cell::Null => None,
        // A list has a value when one of its items is it.
        Cell::List(items) => {
            let among = items.iter().any(|item| item == given);
            Some(if among { Ordering::Equal } else { Ordering::Less })
        }
        Cell::Integer(number) => number_order(&number.to_string(), given),
        Cell::Number(number) => number_order(number, given),
        Cell::Boolean(value) => given.parse().ok().map(|given| value.cmp(&given)),
        Cell::Instant(at) => parse_instant(given, table.zone()).map(|given| at.cmp(&given)),
        Cell::Date(date) => parse_date(given).map(|given| date.cmp(&given)),
        Cell::Text(text) | Cell::Json(text) => Some((*text).cmp(given)),
    };
    ordering.is_some_and(|ordering| fits(condition.compare, ordering))
}

/// As the database orders keys of the kind.
fn key_order(kind: KeyKind, held: &str, given: &str) -> Option<Ordering> {
    let given = kind.spelled(given)?;
    match kind {
        KeyKind::Bigint => number_order(held, &given),
        KeyKind::Uuid | KeyKind::Text => Some(held.cmp(&given)),
    }
}

/// Numbers of up to 38 digits are compared to the last one.
fn number_order(held: &str, given: &str) -> Option<Ordering> {
    match (held.parse::<i128>(), given.trim().parse::<i128>()) {
        (Ok(held), Ok(given)) => Some(held.cmp(&given)),
        _ => held.parse::<f64>().ok()?.partial_cmp(&given.trim().parse::<f64>().ok()?),
    }
}

fn fits(compare: Compare, ordering: Ordering) -> bool {
    match compare {
        Compare::Eq => ordering.is_eq(),
        Compare::Neq => ordering.is_ne(),
        Compare::Gt => ordering.is_gt(),
        Compare::Gte => ordering.is_ge(),
        Compare::Lt => ordering.is_lt(),
        Compare::Lte => ordering.is_le(),
    }
}

/// A condition that could never hold would be silent for ever.
pub(super) fn check(table: Table, condition: &Condition) -> Result<(), EngineError> {
    let Condition { column: name, compare, value } = condition;
    let invalid = |problem: String| Err(EngineError::Invalid { field: "where", problem });
    let Some(column) = table.definition().column(name) else {
        if *name == table.key.column {
            let kind = table.key.kind;
            return match kind.spelled(value) {
                Some(_) => Ok(()),
                None => invalid(format!("the value of '{name}' is none of {}", kind.plural())),
            };
        }
        let known: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        return invalid(format!("{table} has no column '{name}'; it has {}", known.join(", ")));
    };
    let is_ordered = !matches!(column.kind, ColumnKind::List | ColumnKind::Json | ColumnKind::Boolean);
    if !is_ordered && !matches!(compare, Compare::Eq | Compare::Neq) {
        return invalid(format!("'{name}' is of {}; compare by eq or neq", column.kind.plural()));
    }
    if !is_of(column, value, table) {
        return invalid(format!("the value of '{name}' is none of {}", column.kind.plural()));
    }
    Ok(())
}

fn is_of(column: &Column, value: &str, table: Table) -> bool {
    match column.kind {
        ColumnKind::Integer | ColumnKind::Number => value.trim().parse::<f64>().is_ok_and(f64::is_finite),
        ColumnKind::Boolean => value.parse::<bool>().is_ok(),
        ColumnKind::Timestamp => parse_instant(value, table.zone()).is_some(),
        ColumnKind::Date => parse_date(value).is_some(),
        ColumnKind::Text | ColumnKind::Json | ColumnKind::List => !value.trim().is_empty(),
    }
}

/// What is to be made of an alert on no row, given what is wrong now; nothing where all stays as it is.
pub(super) fn advance(
    alert: &Alert,
    minutes: u32,
    wrong: Option<&str>,
    now: DateTime<Utc>,
) -> Option<(Episode, Option<EpisodeFired>)> {
    let Episode { since, told } = alert.episode;
    let fired = |subject, is_over, detail: &str| EpisodeFired {
        id: Uuid::now_v7(),
        subject,
        is_over,
        detail: detail.to_owned(),
    };
    match (wrong, told) {
        (Some(_), Some(_)) => None,
        (Some(wrong), None) => {
            let began = since.unwrap_or(now);
            if now - began < TimeDelta::minutes(minutes.into()) {
                return since.is_none().then_some((Episode { since: Some(now), told: None }, None));
            }
            let subject = Uuid::now_v7();
            let to = Episode { since: Some(began), told: Some(subject) };
            Some((to, Some(fired(subject, false, wrong))))
        }
        (None, Some(subject)) => Some((Episode::default(), Some(fired(subject, true, "all is well again")))),
        (None, None) => since.map(|_| (Episode::default(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Catalog, store::AlertRule};

    fn leads() -> Table {
        Catalog::built_in().get("leads").expect("leads")
    }

    fn row(json: &str) -> Json {
        Json::try_from(bytes::Bytes::from(json.to_owned())).expect("JSON")
    }

    fn condition(column: &str, compare: Compare, value: &str) -> Condition {
        Condition { column: column.to_owned(), compare, value: value.to_owned() }
    }

    #[test]
    fn a_row_begins_to_fire_when_it_comes_to_meet_what_the_version_before_did_not() {
        let least = [condition("score_qualificacao", Compare::Gte, "80")];
        let (low, high) = (row(r#"{"score_qualificacao": 79.99}"#), row(r#"{"score_qualificacao": 80}"#));
        for (now, before, fires) in [
            (&high, None, true),
            (&low, None, false),
            (&high, Some(&low), true),
            (&high, Some(&high), false),
            (&low, Some(&high), false),
        ] {
            assert_eq!(begins(leads(), &least, now, before), fires, "{now:?} after {before:?}");
        }
        assert!(begins(leads(), &[], &low, None) && !begins(leads(), &[], &high, Some(&low)), "a new row");
    }

    #[test]
    fn each_kind_of_column_is_compared_as_what_it_is_and_nothing_is_said_of_what_is_missing() {
        let lead = row(
            r#"{"status_lead": "novo", "interesse": ["casa", "lote"], "created_at": "2026-11-01T12:00:00Z",
                "score_qualificacao": 9, "origem": null}"#,
        );
        for (column, compare, value, is_met) in [
            ("status_lead", Compare::Eq, "novo", true),
            ("status_lead", Compare::Neq, "novo", false),
            ("interesse", Compare::Eq, "lote", true),
            ("interesse", Compare::Neq, "sala", true),
            ("created_at", Compare::Lt, "2026-11-01T09:30:00-03:00", true),
            ("score_qualificacao", Compare::Lt, "10", true),
            ("score_qualificacao", Compare::Gt, "8.5", true),
            ("origem", Compare::Neq, "google", false),
        ] {
            let asked = [condition(column, compare, value)];
            assert_eq!(holds(leads(), &asked, &lead), is_met, "{asked:?}");
        }
    }

    #[test]
    fn keys_are_compared_as_the_database_orders_them() {
        for (kind, held, given, expected) in [
            (KeyKind::Bigint, "99", "100", Some(Ordering::Less)),
            (KeyKind::Bigint, "9007199254740993", "9007199254740992", Some(Ordering::Greater)),
            (KeyKind::Bigint, "7", "007", Some(Ordering::Equal)),
            (KeyKind::Bigint, "7", "abc", None),
            (
                KeyKind::Uuid,
                "0199aaaa-0000-7000-8000-000000000001",
                "0199AAAA-0000-7000-8000-000000000001",
                Some(Ordering::Equal),
            ),
            (KeyKind::Text, "99", "100", Some(Ordering::Greater)),
        ] {
            assert_eq!(key_order(kind, held, given), expected, "{held} and {given}");
        }
    }

    #[test]
    fn a_condition_that_could_never_hold_is_refused() {
        for (column, compare, value, told) in [
            ("nota", Compare::Eq, "1", "no column 'nota'; it has nome"),
            ("score_qualificacao", Compare::Gte, "alto", "none of numbers"),
            ("created_at", Compare::Gte, "ontem", "none of timestamps"),
            ("interesse", Compare::Gt, "casa", "eq or neq"),
            ("origem", Compare::Eq, " ", "none of texts"),
            ("id", Compare::Eq, "7", "none of UUIDs"),
        ] {
            let error = check(leads(), &condition(column, compare, value)).expect_err("refused").to_string();
            assert!(error.contains(told), "{error}");
        }
        assert!(check(leads(), &condition("score_qualificacao", Compare::Gte, "80")).is_ok());
    }

    #[test]
    fn an_episode_is_told_once_it_lasts_and_again_only_when_it_is_over() {
        let began = Utc::now();
        let mut alert = Alert {
            id: Uuid::now_v7(),
            name: "atraso".to_owned(),
            target: None,
            rule: AlertRule::Lag { records: 0, minutes: 5 },
            queued_from: 0,
            created_by: "ana".to_owned(),
            created_at: began,
            episode: Episode::default(),
            failing_since: None,
            last_error: None,
            fired: 0,
            last_fired_at: None,
            waiting: 0,
            waiting_since: None,
            lost: 0,
        };
        let mut told = Vec::new();
        for (minute, wrong) in [
            (0, None),
            // Over before it has lasted.
            (1, Some("1 behind")),
            (5, Some("2 behind")),
            (6, None),
            (7, Some("3 behind")),
            (11, Some("4 behind")),
            (12, Some("5 behind")),
            (13, Some("6 behind")),
            (14, None),
            (15, None),
            (16, Some("7 behind")),
            (21, Some("8 behind")),
        ] {
            let now = began + TimeDelta::minutes(minute);
            let Some((to, fired)) = advance(&alert, 5, wrong, now) else { continue };
            assert_ne!(to, alert.episode, "what does not move is not written: minute {minute}");
            alert.episode = to;
            told.extend(fired.map(|fired| (minute, fired.subject, fired.is_over, fired.detail)));
        }
        let seen: Vec<_> =
            told.iter().map(|(at, _, is_over, detail)| (*at, *is_over, detail.as_str())).collect();
        assert_eq!(seen, [(12, false, "5 behind"), (14, true, "all is well again"), (21, false, "8 behind")]);
        assert!(
            told[0].1 == told[1].1 && told[1].1 != told[2].1,
            "each episode has a name of its own: {told:?}"
        );
    }
}
