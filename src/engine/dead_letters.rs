//! Dead letters: what a sink can never take, or a row that never became an event, parked with its reason.
//!
//! The original bytes are the record's value, untouched; everything else is in headers, so that a replay needs no
//! decoding. A letter has the same id however often it is parked.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::sync::event_record;
use crate::{
    domain::{Event, JsonObject, RowError, Table, canonical_json, event_id},
    log::{NewRecord, Record},
};

/// UUIDv5 namespace of dead letters of log records.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1d_5b3a_2f0e_5c49_9a57_51c1_ce00_0002);

/// A record that one sink can't take.
pub fn from_record(record: &Record, log: &str, sink: &str, reason: &str, now: DateTime<Utc>) -> NewRecord {
    let place = format!("{log}/{}/{}/{sink}", record.partition, record.offset);
    let id = Uuid::new_v5(&NAMESPACE, place.as_bytes());
    let mut headers = common(id, reason, now);
    headers.push(("sink", text(sink)));
    headers.push(("log", text(log)));
    headers.push(("partition", text(record.partition)));
    headers.push(("offset", text(record.offset)));
    for (name, value) in &record.headers {
        match name.as_str() {
            "sync_id" => headers.push(("sync_id", value.clone())),
            "schema" => headers.push(("schema", value.clone())),
            "traceparent" => headers.push(("traceparent", value.clone())),
            "replayed_from" => headers.push(("replayed_from", value.clone())),
            _ => {}
        }
    }
    NewRecord {
        key: record.key.clone().unwrap_or_else(|| text(id)),
        value: record.value.clone().unwrap_or_default(),
        headers,
    }
}

/// A source row that could not become an event, and the id it is parked under.
pub fn from_row(
    table: Table,
    row: &JsonObject,
    error: &RowError,
    sync_id: Uuid,
    now: DateTime<Utc>,
) -> NewRecord {
    let id = row_letter_id(table, row);
    let mut headers = common(id, &error.to_string(), now);
    headers.push(("table", text(table.name())));
    headers.push(("sync_id", text(sync_id)));
    let mut row = row.clone();
    for column in table.forbidden_columns() {
        row.remove(*column);
    }
    NewRecord { key: text(id), value: Bytes::from(canonical_json(&row)), headers }
}

/// The id of the dead letter of a row: the same content is the same letter, so it is parked once.
pub fn row_letter_id(table: Table, row: &JsonObject) -> Uuid {
    event_id(table, Uuid::nil(), row)
}

/// The record that gives a letter's event to the log again, or why there still is none.
///
/// A parked record is appended as it was; a row becomes its event anew, as of when it was parked, so that replaying
/// it twice makes one event.
pub fn replay(letter: &Record, id: &str, now: DateTime<Utc>) -> Result<NewRecord, String> {
    let mut record = match header(letter, "table") {
        Some(table) => from_parked_row(letter, &table, now)?,
        None => {
            Event::decode(letter.value.as_deref())
                .map_err(|error| format!("it still is no event: {error}"))?;
            let kept = ["schema", "sync_id", "traceparent"].into_iter().filter_map(|name| {
                let (_, value) = letter.headers.iter().find(|(key, _)| key == name)?;
                Some((name, value.clone()))
            });
            NewRecord {
                key: letter.key.clone().unwrap_or_default(),
                value: letter.value.clone().unwrap_or_default(),
                headers: kept.collect(),
            }
        }
    };
    record.headers.push(("replayed_from", text(id)));
    record.headers.push(("replayed_at", text(now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))));
    Ok(record)
}

fn from_parked_row(letter: &Record, table: &str, now: DateTime<Utc>) -> Result<NewRecord, String> {
    let table = Table::ALL
        .into_iter()
        .find(|known| known.name() == table)
        .ok_or_else(|| "its table is unknown to this release".to_owned())?;
    let row: JsonObject = serde_json::from_slice(letter.value.as_deref().unwrap_or_default())
        .map_err(|_| "it holds no row any more".to_owned())?;
    let parked_at = header(letter, "parked_at").and_then(|at| DateTime::parse_from_rfc3339(&at).ok());
    let read_at = parked_at.map(|at| at.to_utc()).or(letter.appended_at).unwrap_or(now);
    let event =
        Event::from_row(table, row, read_at).map_err(|error| format!("the row still is bad: {error}"))?;
    let sync_id = header(letter, "sync_id").and_then(|id| Uuid::parse_str(&id).ok());
    Ok(event_record(&event, sync_id.unwrap_or_default()))
}

/// A header's text.
pub fn header(record: &Record, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().find(|(key, _)| key == name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A letter's own id; the nil UUID where somebody else wrote the letter.
pub fn letter_id(letter: &Record) -> Uuid {
    header(letter, "dead_letter_id").and_then(|id| Uuid::parse_str(&id).ok()).unwrap_or_default()
}

fn common(id: Uuid, reason: &str, now: DateTime<Utc>) -> Vec<(&'static str, Bytes)> {
    vec![
        ("dead_letter_id", text(id)),
        ("error", text(reason)),
        ("parked_at", text(now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))),
    ]
}

fn text(value: impl ToString) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parked(letter: NewRecord) -> Record {
        Record {
            partition: 0,
            offset: 7,
            appended_at: None,
            key: Some(letter.key),
            value: Some(letter.value),
            headers: letter.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    fn header(letter: &NewRecord, name: &str) -> Option<String> {
        super::header(&parked(letter.clone()), name)
    }

    #[test]
    fn a_parked_record_keeps_its_bytes_and_tells_where_it_came_from() {
        let record = Record {
            partition: 2,
            offset: 41,
            appended_at: None,
            key: None,
            value: Some(Bytes::from_static(b"{broken")),
            headers: vec![("sync_id".into(), Bytes::from_static(b"s"))],
        };
        let letter = from_record(&record, "c/eventos", "postgres", "value is not JSON", Utc::now());
        assert_eq!(&letter.value[..], b"{broken");
        for (name, value) in [
            ("sink", "postgres"),
            ("log", "c/eventos"),
            ("partition", "2"),
            ("offset", "41"),
            ("error", "value is not JSON"),
            ("sync_id", "s"),
        ] {
            assert_eq!(header(&letter, name).as_deref(), Some(value), "{name}");
        }
        let again = from_record(&record, "c/eventos", "postgres", "other", Utc::now());
        assert_eq!(header(&letter, "dead_letter_id"), header(&again, "dead_letter_id"));
        let elsewhere = from_record(&record, "c/eventos", "elasticsearch", "other", Utc::now());
        assert_ne!(header(&letter, "dead_letter_id"), header(&elsewhere, "dead_letter_id"));
    }

    #[test]
    fn a_parked_row_never_carries_a_session_token() {
        let row = json!({"session_token": "segredo", "total_messages": "muitas"})
            .as_object()
            .cloned()
            .expect("an object");
        let error = RowError { table: Table::ChatSessions, field: "id", problem: "missing".into() };
        let letter = from_row(Table::ChatSessions, &row, &error, Uuid::nil(), Utc::now());
        assert!(!String::from_utf8_lossy(&letter.value).contains("segredo"));
        assert_eq!(header(&letter, "error").as_deref(), Some("chat_sessions.id: missing"));
    }

    #[test]
    fn a_parked_record_is_replayed_as_it_was_and_one_that_is_no_event_is_not() {
        let event = crate::domain::ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: JsonObject::new(),
        };
        let value = Event::manual(event, Utc::now()).encode();
        let mut record = Record {
            partition: 2,
            offset: 41,
            appended_at: None,
            key: Some(Bytes::from_static(b"k")),
            value: Some(value.clone()),
            headers: vec![("schema".into(), Bytes::from_static(b"1"))],
        };
        let letter = parked(from_record(&record, "c/eventos", "postgres", "refused", Utc::now()));
        let again = replay(&letter, "0-7", Utc::now()).expect("an event");
        assert_eq!((&again.value, &again.key[..]), (&value, &b"k"[..]));
        assert_eq!(header(&again, "replayed_from").as_deref(), Some("0-7"));
        assert_eq!(header(&again, "schema").as_deref(), Some("1"));
        assert_eq!(header(&again, "error"), None, "it is an event again, not a letter");

        record.value = Some(Bytes::from_static(b"{segredo"));
        let letter = parked(from_record(&record, "c/eventos", "postgres", "refused", Utc::now()));
        let reason = replay(&letter, "0-7", Utc::now()).expect_err("no event");
        assert!(reason.contains("not JSON") && !reason.contains("segredo"), "{reason}");
    }

    #[test]
    fn a_parked_row_becomes_the_same_event_however_often_it_is_replayed() {
        let error = RowError { table: Table::ChatSessions, field: "id", problem: "missing".into() };
        let row = |value: serde_json::Value| value.as_object().cloned().expect("an object");
        let parked_row =
            |value| parked(from_row(Table::ChatSessions, &row(value), &error, Uuid::nil(), Utc::now()));
        let letter = parked_row(json!({"id": Uuid::from_u128(7), "total_messages": 3}));
        let (first, second) = (replay(&letter, "0-7", Utc::now()), replay(&letter, "0-7", Utc::now()));
        let (first, second) = (first.expect("an event"), second.expect("an event"));
        assert_eq!(first.value, second.value);
        assert!(Event::decode(Some(&first.value)).is_ok());

        let bad = replay(&parked_row(json!({"total_messages": 3})), "0-7", Utc::now()).expect_err("no id");
        assert!(bad.contains("chat_sessions.id"), "{bad}");
    }
}
