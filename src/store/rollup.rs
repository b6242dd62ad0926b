//! What new events give to the windows of `eventos_agregados`: pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::Event;

/// What the rollup counts together.
pub(super) const WINDOW: TimeDelta = TimeDelta::minutes(5);

/// The beginning of the window an instant lies in, counted from the epoch in both directions.
pub(super) fn window(instant: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = instant.timestamp();
    DateTime::from_timestamp(seconds - seconds.rem_euclid(WINDOW.num_seconds()), 0).unwrap_or(instant)
}

/// What is added to the windows, in the order of their key, in which every worker locks them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rollup<'a>(BTreeMap<(DateTime<Utc>, &'a str, &'a str), (i64, f64)>);

/// What is added to one window.
#[derive(Debug, PartialEq)]
pub(super) struct Added<'a> {
    pub(super) begin: DateTime<Utc>,
    pub(super) categoria: &'a str,
    pub(super) evento: &'a str,
    pub(super) total: i64,
    pub(super) soma: f64,
}

impl<'a> Rollup<'a> {
    pub(super) fn add(&mut self, event: &'a Event) {
        let key = (window(event.timestamp), event.categoria.as_str(), event.evento.as_str());
        let (total, soma) = self.0.entry(key).or_default();
        *total += 1;
        *soma += event.valor;
    }

    pub(super) fn added(&self) -> impl Iterator<Item = Added<'a>> + Clone + '_ {
        self.0.iter().map(|(&(begin, categoria, evento), &(total, soma))| Added {
            begin,
            categoria,
            evento,
            total,
            soma,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, ManualEvent};

    fn event(at: &str, evento: &str, valor: f64) -> Event {
        let manual = ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: evento.into(),
            valor,
            metadata: Json::empty_object(),
        };
        Event::manual(manual, at.parse().expect("an instant"))
    }

    #[test]
    fn events_of_one_window_and_name_are_added_up_in_the_order_of_the_windows() {
        let events = [
            event("2026-05-01T10:05:00Z", "b", 1.0),
            event("2026-05-01T10:04:59.999999Z", "b", 2.0),
            event("2026-05-01T10:09:59Z", "b", 4.0),
            event("2026-05-01T10:05:01Z", "a", 8.0),
            event("1969-12-31T23:59:59Z", "b", 16.0),
        ];
        let mut rollup = Rollup::default();
        for event in &events {
            rollup.add(event);
        }
        let told: Vec<(String, &str, i64, f64)> = rollup
            .added()
            .map(|added| (added.begin.to_rfc3339(), added.evento, added.total, added.soma))
            .collect();
        assert_eq!(
            told,
            [
                ("1969-12-31T23:55:00+00:00".to_owned(), "b", 1, 16.0),
                ("2026-05-01T10:00:00+00:00".to_owned(), "b", 1, 2.0),
                ("2026-05-01T10:05:00+00:00".to_owned(), "a", 1, 8.0),
                ("2026-05-01T10:05:00+00:00".to_owned(), "b", 2, 5.0),
            ]
        );
    }
}
