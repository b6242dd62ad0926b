//! What a batch writes: pure, so that two workers always write the same.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::{metadata, templates::Names};
use crate::{
    domain::{ChatSession, Dados, Event, JsonObject, Lead, Table},
    log::Position,
    sink::{Rejection, SinkBatch, SinkEvent},
};

/// What a document stands for, and so what a conflict about it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Immutable: a conflict is a duplicate.
    Event,
    /// The newest version counts: a conflict is a stale one.
    Entity,
}

/// One document to write.
#[derive(Debug)]
pub(super) struct Operation {
    /// The event it comes from.
    pub(super) position: Position,
    pub(super) kind: Kind,
    /// The line that says what to do.
    action: String,
    /// The line to do it with.
    document: Bytes,
}

impl Operation {
    /// What it takes in a request.
    pub(super) fn size(&self) -> usize {
        self.action.len() + self.document.len() + 2
    }

    pub(super) fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(self.action.as_bytes());
        body.push(b'\n');
        body.extend_from_slice(&self.document);
        body.push(b'\n');
    }
}

/// Everything a batch writes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) operations: Vec<Operation>,
    /// Events that no request may contain: one of them would have the whole request refused.
    pub(super) refused: Vec<Rejection>,
}

pub(super) fn plan(names: &Names, batch: &SinkBatch) -> Plan {
    let mut plan = Plan::default();
    for item in &batch.events {
        if has_impossible_version(item) {
            let reason = "entidade.versao is negative, which no external version may be".to_owned();
            plan.refused.push(Rejection { position: item.position, reason });
            continue;
        }
        plan.operations.push(event_operation(names.events(), item));
    }
    for table in Table::ALL {
        let newest = batch.newest_of(table).into_iter().filter(|item| !has_impossible_version(item));
        plan.operations.extend(newest.filter_map(|item| entity_operation(names.entities(table), item)));
    }
    plan
}

fn has_impossible_version(item: &SinkEvent) -> bool {
    item.event.table().is_some() && item.event.entidade.versao < 0
}

fn event_operation(alias: &str, item: &SinkEvent) -> Operation {
    let action = format!(r#"{{"create":{{"_index":"{alias}","_id":"{}"}}}}"#, item.event.id);
    Operation { position: item.position, kind: Kind::Event, action, document: event_document(item) }
}

/// The bytes of the log, unless they can't stand in a request as they are.
fn event_document(item: &SinkEvent) -> Bytes {
    if let Cow::Owned(metadata) = metadata::indexable(&item.event.metadata) {
        return Event { metadata, ..item.event.clone() }.encode();
    }
    let is_one_line = !item.raw.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    if is_one_line && !item.raw.is_empty() { item.raw.clone() } else { item.event.encode() }
}

fn entity_operation(alias: &str, item: &SinkEvent) -> Option<Operation> {
    let entity = item.event.entidade;
    let action = format!(
        r#"{{"index":{{"_index":"{alias}","_id":"{}","version":{},"version_type":"external"}}}}"#,
        entity.id, entity.versao
    );
    let row = match &item.event.dados {
        Dados::Lead(lead) => Row::Lead(lead),
        Dados::ChatSession(session) => Row::ChatSession(session),
        Dados::Manual(_) => return None,
    };
    let document = EntityDocument {
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
    let document = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    Some(Operation { position: item.position, kind: Kind::Entity, action, document })
}

#[derive(Serialize)]
struct EntityDocument<'a> {
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
pub(super) fn operation(offset: i64, kind: Kind, document: &str) -> Operation {
    let action = r#"{"create":{"_index":"eventos","_id":"1"}}"#.to_owned();
    let document = Bytes::copy_from_slice(document.as_bytes());
    Operation { position: Position { partition: 0, offset }, kind, action, document }
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
        plan(&Names::new("t_").expect("names"), &SinkBatch { events, spans: Vec::new() })
    }

    fn lines(operation: &Operation) -> (Value, Value) {
        let mut body = Vec::new();
        operation.write(&mut body);
        assert_eq!(body.len(), operation.size());
        let text = String::from_utf8(body).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        (serde_json::from_str(lines[0]).expect("JSON"), serde_json::from_str(lines[1]).expect("JSON"))
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
        let (action, document) = lines(&plan.operations[0]);
        assert_eq!(action, json!({"create": {"_index": "t_eventos", "_id": event_id}}));
        assert_eq!(document["dados"]["nome"], "Ana");
        let (action, document) = lines(&plan.operations[1]);
        let expected =
            json!({"_index": "t_leads", "_id": id, "version": 1_000_000, "version_type": "external"});
        assert_eq!(action, json!({ "index": expected }));
        assert_eq!(document["nome"], "Ana");
        assert_eq!(document["evento_id"], json!(event_id));
        assert_eq!(document["metadata"]["corretor"], "Bia");
    }

    #[test]
    fn an_envelope_of_several_lines_is_written_as_one() {
        let mut item = lead(1, json!({"id": Uuid::from_u128(9)}));
        let value: Value = serde_json::from_slice(&item.raw).expect("JSON");
        item.raw = Bytes::from(serde_json::to_vec_pretty(&value).expect("JSON"));
        assert_eq!(lines(&planned(vec![item]).operations[0]).1, value);
    }

    #[test]
    fn a_version_before_1970_is_refused_before_it_spoils_a_request() {
        let old = lead(7, json!({"id": Uuid::from_u128(9), "updated_at": "1969-01-01T00:00:00Z"}));
        let good = lead(8, json!({"id": Uuid::from_u128(10)}));
        let plan = planned(vec![old, good]);
        assert_eq!(plan.refused.iter().map(|r| r.position.offset).collect::<Vec<_>>(), [7]);
        assert_eq!(plan.operations.len(), 2);
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
        assert_eq!(planned(vec![item]).operations.len(), 1);
    }
}
