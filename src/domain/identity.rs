//! Identity decides everything about deduplication: the same row content is always the same event.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{JsonObject, Table};

/// UUIDv5 namespace of every event that comes from a source row. Changing it makes every row a new event.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1d_5b3a_2f0e_5c49_9a57_51c1_ce00_0001);

/// The event id of one version of a row: UUIDv5 of table, row id and digest of the canonical JSON.
pub fn event_id(table: Table, row_id: Uuid, row: &JsonObject) -> Uuid {
    let mut name = Vec::with_capacity(96);
    name.extend_from_slice(table.name().as_bytes());
    name.push(0);
    name.extend_from_slice(row_id.as_bytes());
    name.push(0);
    name.extend_from_slice(&Sha256::digest(canonical_json(row)));
    Uuid::new_v5(&NAMESPACE, &name)
}

/// A row as bytes that do not depend on key order. A null column is left out, so that a column added empty, or
/// missing on one project, does not turn every row into a new version.
pub fn canonical_json(row: &JsonObject) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write_object(row, true, &mut out);
    out
}

/// Microseconds since the Unix epoch: the unit of an entity's `versao`.
pub fn micros(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_micros()
}

fn write_object(object: &JsonObject, skip_nulls: bool, out: &mut Vec<u8>) {
    // serde_json's map keeps insertion order as soon as any dependency asks for it: sort here, always.
    let mut members: Vec<_> = object.iter().filter(|(_, value)| !(skip_nulls && value.is_null())).collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    out.push(b'{');
    for (i, (key, value)) in members.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_scalar(&Value::String(key.clone()), out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(object) => write_object(object, false, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(value.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> JsonObject {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn key_order_and_null_columns_do_not_change_an_event_id() {
        let id = Uuid::from_u128(7);
        let a = object(json!({"id": "x", "nome": "Ana", "email": null, "l": {"b": 1, "a": null}}));
        let b = object(json!({"l": {"a": null, "b": 1}, "nome": "Ana", "id": "x"}));
        assert_eq!(event_id(Table::Leads, id, &a), event_id(Table::Leads, id, &b));
    }

    #[test]
    fn event_ids_are_stable_across_releases() {
        let row = object(json!({"id": "x", "nome": "João", "score_qualificacao": 80}));
        assert_eq!(canonical_json(&row), r#"{"id":"x","nome":"João","score_qualificacao":80}"#.as_bytes());
        assert_eq!(
            event_id(Table::Leads, Uuid::from_u128(7), &row).to_string(),
            "4aedaea6-bbd5-53e3-bd11-09070ec4de27"
        );
    }

    #[test]
    fn table_row_and_content_each_change_an_event_id() {
        let row = object(json!({"id": "x", "nome": "Ana"}));
        let other = object(json!({"id": "x", "nome": "Ana "}));
        let base = event_id(Table::Leads, Uuid::from_u128(1), &row);
        assert_ne!(base, event_id(Table::ChatSessions, Uuid::from_u128(1), &row));
        assert_ne!(base, event_id(Table::Leads, Uuid::from_u128(2), &row));
        assert_ne!(base, event_id(Table::Leads, Uuid::from_u128(1), &other));
    }

    proptest! {
        #[test]
        fn canonical_json_is_json_and_ignores_insertion_order(
            members in proptest::collection::btree_map("[a-z\"\\\\é]{1,6}", any::<i64>(), 0..8)
        ) {
            let forward: JsonObject = members.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            let backward: JsonObject =
                members.iter().rev().map(|(k, v)| (k.clone(), json!(v))).collect();
            prop_assert_eq!(canonical_json(&forward), canonical_json(&backward));
            let parsed: Value = serde_json::from_slice(&canonical_json(&forward)).expect("valid");
            prop_assert_eq!(parsed, Value::Object(forward));
        }
    }
}
