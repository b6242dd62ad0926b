//! Dead letters: what a sink can never take, or a row that never became an event, parked with its reason.
//!
//! The original bytes are the record's value, untouched; everything else is in headers, so that a replay needs no
//! decoding. A letter has the same id however often it is parked.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{JsonObject, RowError, Table, canonical_json, event_id},
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

    fn header(letter: &NewRecord, name: &str) -> Option<String> {
        let (_, value) = letter.headers.iter().find(|(key, _)| *key == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
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
}
