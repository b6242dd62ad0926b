//! Identity decides everything about deduplication: the same row content is always the same event.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Table,
    json::{Members, write_canonical},
};

/// UUIDv5 namespace of every event that comes from a source row. Changing it makes every row a new event.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1d_5b3a_2f0e_5c49_9a57_51c1_ce00_0001);

/// The event id of one version of a row: UUIDv5 of table, key and digest of the row's canonical text.
pub fn event_id(table: Table, key: &str, row: &Members<'_>) -> Uuid {
    let mut name = Vec::with_capacity(128);
    name.extend_from_slice(table.name().as_bytes());
    name.push(0);
    name.extend_from_slice(key.as_bytes());
    name.push(0);
    name.extend_from_slice(&Sha256::digest(canonical(row)));
    Uuid::new_v5(&NAMESPACE, &name)
}

/// The event id of a row's removal. `versao` is the last version the row had: finding the same row gone again, after a
/// crash for example, is the same event; a row that came back and went again is another.
pub fn removal_id(table: Table, key: &str, versao: i64) -> Uuid {
    let mut name = Vec::with_capacity(128);
    name.extend_from_slice(table.name().as_bytes());
    name.push(0);
    name.extend_from_slice(key.as_bytes());
    // Shorter than the digest that an event's name ends with, so no row's event has this id.
    name.extend_from_slice(b"\0removed\0");
    name.extend_from_slice(&versao.to_be_bytes());
    Uuid::new_v5(&NAMESPACE, &name)
}

/// A row as text that does not depend on the order of its columns, on white space or on how a character is escaped;
/// every digit of a number counts. A null column is left out, so that a column added empty, or missing on one
/// project, does not turn every row into a new version.
pub fn canonical(row: &Members<'_>) -> Vec<u8> {
    let mut members: Vec<_> = row.iter().filter(|member| member.value != "null").collect();
    // Stable: of a name that stands twice the order counts.
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for (i, member) in members.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_canonical(member.raw_name, &mut out);
        out.push(b':');
        write_canonical(member.value, &mut out);
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Catalog;

    fn id(table: &str, key: &str, row: &str) -> Uuid {
        let table = Catalog::built_in().get(table).expect("a table");
        event_id(table, key, &Members::of(row).expect("an object"))
    }

    #[test]
    fn column_order_layout_escapes_and_null_columns_do_not_change_an_event_id() {
        let a =
            id("leads", "7", r#"{"id": "x", "nome": "Jos\u00e9", "email": null, "l": {"b": 1, "a": null}}"#);
        let b = id("leads", "7", r#"{"l":{"b":1,"a":null},"nome":"José","id":"x"}"#);
        assert_eq!(a, b);
    }

    #[test]
    fn every_digit_counts() {
        let rows = [
            "0.1",
            "0.10",
            "0.1000000000000000055511151231257827",
            "1234567890123456789012",
            "1234567890123456789013",
        ];
        let ids: std::collections::HashSet<Uuid> =
            rows.iter().map(|number| id("leads", "7", &format!(r#"{{"n":{number}}}"#))).collect();
        assert_eq!(ids.len(), rows.len());
    }

    #[test]
    fn table_key_and_content_each_change_an_event_id() {
        let base = id("leads", "1", r#"{"nome":"Ana"}"#);
        assert_ne!(base, id("chat_sessions", "1", r#"{"nome":"Ana"}"#));
        assert_ne!(base, id("leads", "2", r#"{"nome":"Ana"}"#));
        assert_ne!(base, id("leads", "1", r#"{"nome":"Ana "}"#));
    }

    #[test]
    fn a_removal_is_one_event_for_each_version_that_was_removed() {
        let table = Catalog::built_in().get("leads").expect("a table");
        assert_eq!(removal_id(table, "7", 3), removal_id(table, "7", 3));
        assert_ne!(removal_id(table, "7", 3), removal_id(table, "7", 4));
        assert_ne!(removal_id(table, "7", 3), removal_id(table, "8", 3));
        assert_ne!(removal_id(table, "7", 3), id("leads", "7", r#"{"nome":"Ana"}"#));
    }

    #[test]
    fn event_ids_are_stable_across_releases() {
        let row = r#"{"id": "x", "nome": "João", "score_qualificacao": 80}"#;
        let members = Members::of(row).expect("an object");
        assert_eq!(canonical(&members), r#"{"id":"x","nome":"João","score_qualificacao":80}"#.as_bytes());
        assert_eq!(id("leads", "7", row).to_string(), "8066e8eb-f491-5023-b9a6-a94f675d9956");
    }
}
