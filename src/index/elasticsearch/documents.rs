//! What is written: events as they stand in the log, entities under their version.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{Dados, JsonObject, Table},
    log::Position,
    sink::{SinkBatch, SinkEvent},
};

/// One document of a bulk request.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// The place of the event it was made of.
    pub(super) position: Position,
    /// An entity, rather than an event.
    pub(super) entity: bool,
    /// Action and source, each ended by a line break.
    pub(super) lines: Bytes,
}

#[derive(Serialize)]
struct Entity<'a, T> {
    #[serde(flatten)]
    row: &'a T,
    metadata: &'a JsonObject,
    versao: i64,
    evento_id: Uuid,
}

/// The documents of a batch: its events, then the newest version of each of its entities.
pub(super) fn documents(prefix: &str, batch: &SinkBatch) -> Vec<Document> {
    let events = batch.events.iter().map(|sink| event(prefix, sink));
    let entities = Table::ALL.into_iter().flat_map(|table| {
        batch.newest_of(table).into_iter().filter_map(move |sink| entity(prefix, table, sink))
    });
    events.chain(entities).collect()
}

/// An event never changes: it is created, or it is there already.
fn event(prefix: &str, sink: &SinkEvent) -> Document {
    let action = json!({"create": {"_index": format!("{prefix}eventos"), "_id": sink.event.id}});
    // Other producers may write JSON over several lines; a bulk body may not.
    let source = if sink.raw.contains(&b'\n') { sink.event.encode() } else { sink.raw.clone() };
    Document { position: sink.position, entity: false, lines: lines(&action, &source) }
}

/// An entity is replaced by a higher version only.
fn entity(prefix: &str, table: Table, sink: &SinkEvent) -> Option<Document> {
    let event = &sink.event;
    let source = match &event.dados {
        Dados::Lead(lead) => source(&**lead, sink),
        Dados::ChatSession(session) => source(&**session, sink),
        Dados::Manual(_) => return None,
    };
    let action = json!({"index": {
        "_index": format!("{prefix}{table}"),
        "_id": event.entidade.id,
        "version": event.entidade.versao,
        "version_type": "external"
    }});
    Some(Document { position: sink.position, entity: true, lines: lines(&action, &source) })
}

fn source<T: Serialize>(row: &T, sink: &SinkEvent) -> Bytes {
    let entity = Entity {
        row,
        metadata: &sink.event.metadata,
        versao: sink.event.entidade.versao,
        evento_id: sink.event.id,
    };
    // Text keys and plain values always serialize.
    Bytes::from(serde_json::to_vec(&entity).unwrap_or_default())
}

fn lines(action: &serde_json::Value, source: &[u8]) -> Bytes {
    let action = action.to_string();
    let mut lines = BytesMut::with_capacity(action.len() + source.len() + 2);
    lines.put_slice(action.as_bytes());
    lines.put_u8(b'\n');
    lines.put_slice(source);
    lines.put_u8(b'\n');
    lines.freeze()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::Value;

    use super::*;
    use crate::domain::Event;

    fn sink_event(raw: impl FnOnce(&Event) -> Bytes) -> SinkEvent {
        let row = json!({"id": Uuid::from_u128(1), "nome": "João", "updated_at": "1970-01-01T00:00:01Z"});
        let row = row.as_object().cloned().expect("an object");
        let event = Event::from_row(Table::Leads, row, DateTime::UNIX_EPOCH).expect("an event");
        SinkEvent { position: Position { partition: 0, offset: 3 }, raw: raw(&event), event }
    }

    #[test]
    fn a_batch_becomes_its_events_and_its_newest_entities() {
        let batch = SinkBatch {
            events: vec![sink_event(Event::encode), sink_event(Event::encode)],
            spans: Vec::new(),
        };
        let documents = documents("t-", &batch);
        assert_eq!(documents.iter().map(|d| d.entity).collect::<Vec<_>>(), [false, false, true]);
        let lines: Vec<Value> = documents[2]
            .lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("a line of JSON"))
            .collect();
        assert_eq!(lines[0]["index"]["_index"], "t-leads");
        assert_eq!(lines[0]["index"]["version"], 1_000_000);
        assert_eq!(lines[1]["nome"], "João");
        assert_eq!(lines[1]["versao"], 1_000_000);
    }

    #[test]
    fn an_event_written_over_several_lines_is_put_on_one() {
        let spread = sink_event(|event| {
            let value: Value = serde_json::from_slice(&event.encode()).expect("JSON");
            Bytes::from(serde_json::to_vec_pretty(&value).expect("JSON"))
        });
        let batch = SinkBatch { events: vec![spread], spans: Vec::new() };
        assert_eq!(
            documents("", &batch)[0].lines.split(|byte| *byte == b'\n').count(),
            3,
            "two lines, each ended"
        );
    }
}
