//! What a batch writes into an index: pure, so that two workers always write the same.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::{IndexName, metadata};
use crate::{
    domain::{ChatSession, Dados, Event, JsonObject, Lead, Table},
    log::Position,
    sink::{Rejection, SinkBatch, SinkEvent},
};

/// One document to write.
#[derive(Debug)]
pub struct Document {
    /// The event it comes from.
    pub position: Position,
    pub index: IndexName,
    /// The event's id, or the row's.
    pub id: Uuid,
    /// Of an entity: only a higher one replaces it. An event has none: it is written once.
    pub version: Option<i64>,
    /// One line of JSON.
    pub body: Bytes,
}

/// Everything a batch writes.
#[derive(Debug, Default)]
pub struct Plan {
    pub documents: Vec<Document>,
    /// Events that no index takes.
    pub refused: Vec<Rejection>,
}

/// Plans a batch: every event, and the newest version of every entity.
pub fn plan(batch: &SinkBatch) -> Plan {
    let mut plan = Plan::default();
    for item in &batch.events {
        if has_impossible_version(item) {
            let reason = "entidade.versao is negative, which no external version may be".to_owned();
            plan.refused.push(Rejection { position: item.position, reason });
            continue;
        }
        plan.documents.push(Document {
            position: item.position,
            index: IndexName::Eventos,
            id: item.event.id,
            version: None,
            body: event_body(item),
        });
    }
    for table in Table::ALL {
        let newest = batch.newest_of(table).into_iter().filter(|item| !has_impossible_version(item));
        plan.documents.extend(newest.filter_map(|item| entity(table, item)));
    }
    plan
}

fn has_impossible_version(item: &SinkEvent) -> bool {
    item.event.table().is_some() && item.event.entidade.versao < 0
}

/// The bytes of the log, unless they can't stand in a request as they are.
fn event_body(item: &SinkEvent) -> Bytes {
    if let Cow::Owned(metadata) = metadata::indexable(&item.event.metadata) {
        return Event { metadata, ..item.event.clone() }.encode();
    }
    let is_one_line = !item.raw.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    if is_one_line && !item.raw.is_empty() { item.raw.clone() } else { item.event.encode() }
}

fn entity(table: Table, item: &SinkEvent) -> Option<Document> {
    let entity = item.event.entidade;
    let row = match &item.event.dados {
        Dados::Lead(lead) => Row::Lead(lead),
        Dados::ChatSession(session) => Row::ChatSession(session),
        Dados::Manual(_) => return None,
    };
    let body = EntityBody {
        row,
        versao: entity.versao,
        evento_id: item.event.id,
        evento: &item.event.evento,
        usuario: &item.event.usuario,
        categoria: item.event.categoria.as_str(),
        valor: item.event.valor,
        timestamp: item.event.timestamp,
        metadata: metadata::indexable(&item.event.metadata),
    };
    // Every key is a string and no member can fail to serialize, so this has no error to report.
    let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default());
    Some(Document {
        position: item.position,
        index: IndexName::of(table),
        id: entity.id,
        version: Some(entity.versao),
        body,
    })
}

#[derive(Serialize)]
struct EntityBody<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    versao: i64,
    evento_id: Uuid,
    evento: &'a str,
    usuario: &'a str,
    categoria: &'a str,
    valor: f64,
    timestamp: chrono::DateTime<chrono::Utc>,
    metadata: Cow<'a, JsonObject>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Lead(&'a Lead),
    ChatSession(&'a ChatSession),
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::ManualEvent;

    fn lead(offset: i64, row: Value) -> SinkEvent {
        let row = row.as_object().cloned().expect("an object");
        let event = Event::from_row(Table::Leads, row, DateTime::UNIX_EPOCH).expect("an event");
        SinkEvent { position: Position { partition: 0, offset }, raw: event.encode(), event }
    }

    fn planned(events: Vec<SinkEvent>) -> Plan {
        plan(&SinkBatch { events, spans: Vec::new() })
    }

    fn body(document: &Document) -> Value {
        assert!(!document.body.contains(&b'\n'));
        serde_json::from_slice(&document.body).expect("JSON")
    }

    #[test]
    fn an_event_is_created_under_its_id_and_its_entity_versioned_by_its_own() {
        let id = Uuid::from_u128(9);
        let item = lead(
            4,
            json!({"id": id, "nome": "Ana", "corretor": "Bia", "updated_at": "1970-01-01T00:00:01Z"}),
        );
        let event_id = item.event.id;
        let plan = planned(vec![item]);
        let [event, entity] = &plan.documents[..] else { panic!("two documents") };
        assert_eq!((event.index, event.id, event.version), (IndexName::Eventos, event_id, None));
        assert_eq!(body(event)["dados"]["nome"], "Ana");
        assert_eq!((entity.index, entity.id, entity.version), (IndexName::Leads, id, Some(1_000_000)));
        let document = body(entity);
        assert_eq!(document["nome"], "Ana");
        assert_eq!(document["evento_id"], json!(event_id));
        assert_eq!(document["metadata"]["corretor"], "Bia");
    }

    #[test]
    fn an_envelope_of_several_lines_is_written_as_one() {
        let mut item = lead(1, json!({"id": Uuid::from_u128(9)}));
        let value: Value = serde_json::from_slice(&item.raw).expect("JSON");
        item.raw = Bytes::from(serde_json::to_vec_pretty(&value).expect("JSON"));
        assert_eq!(body(&planned(vec![item]).documents[0]), value);
    }

    #[test]
    fn a_version_before_1970_is_refused_before_it_spoils_a_request() {
        let old = lead(7, json!({"id": Uuid::from_u128(9), "updated_at": "1969-01-01T00:00:00Z"}));
        let good = lead(8, json!({"id": Uuid::from_u128(10)}));
        let plan = planned(vec![old, good]);
        assert_eq!(plan.refused.iter().map(|r| r.position.offset).collect::<Vec<_>>(), [7]);
        assert_eq!(plan.documents.len(), 2);
    }

    #[test]
    fn a_manual_event_has_no_entity() {
        let manual = ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: JsonObject::new(),
        };
        let event = Event::manual(manual, DateTime::UNIX_EPOCH);
        let item = SinkEvent { position: Position { partition: 0, offset: 0 }, raw: event.encode(), event };
        assert_eq!(planned(vec![item]).documents.len(), 1);
    }
}
