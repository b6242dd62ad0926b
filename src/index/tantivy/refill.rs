//! Entities' documents made anew from their events, where a definition gained columns or makes them of something else.

use std::sync::Arc;

use bytes::Bytes;

use super::generation::Generation;
use crate::{
    domain::{Event, Json, Members, Table, json},
    index::{Fields, REMOVED, documents},
    log::Position,
    sink::SinkEvent,
};

/// Makes documents of one table anew. The events' own index holds each row as it was read, so neither the log nor the
/// store is asked.
pub(super) struct Refill {
    table: Table,
    events: Arc<Generation>,
    fields: &'static Fields,
    /// Documents whose event is not there: they stay as they were made.
    pub(super) lacking: u64,
}

impl Refill {
    pub(super) fn new(table: Table, events: Arc<Generation>, fields: &'static Fields) -> Self {
        Self { table, events, fields, lacking: 0 }
    }

    /// The document as its event makes it now; `None` where it stays as it is.
    pub(super) fn document(&mut self, document: &[u8]) -> tantivy::Result<Option<Bytes>> {
        let Some(members) = std::str::from_utf8(document).ok().and_then(Members::of) else { return Ok(None) };
        let value = |name: &str| members.iter().find(|member| member.name == name).map(|member| member.value);
        if value(REMOVED).is_some() {
            return Ok(None);
        }
        let id = value("evento_id").and_then(json::text);
        let event = match &id {
            Some(id) => self.events.source(id)?,
            None => None,
        };
        let Some(mut event) = event.as_deref().and_then(event_of) else {
            self.lacking += 1;
            return Ok(None);
        };
        // The events' index may have put members aside that fit here.
        if let Some(metadata) = value("metadata")
            && let Ok(metadata) = Json::try_from(Bytes::copy_from_slice(metadata.as_bytes()))
        {
            event.metadata = metadata;
        }
        let written_at = value("processado_em").and_then(json::text).unwrap_or_default();
        let item = SinkEvent {
            position: Position { partition: 0, offset: 0 },
            raw: Bytes::new(),
            event,
            table: Some(self.table),
        };
        Ok(Some(documents::entity_body(self.table, &item, self.fields, &written_at)))
    }
}

/// An event as its document has it, in which a row that no server takes as JSON is a text.
fn event_of(document: &[u8]) -> Option<Event> {
    let members = Members::of(std::str::from_utf8(document).ok()?)?;
    let mut envelope = String::with_capacity(document.len());
    for member in &members {
        envelope.push(if envelope.is_empty() { '{' } else { ',' });
        envelope.push_str(&serde_json::to_string(&*member.name).ok()?);
        envelope.push(':');
        let is_text = member.name == "dados" && member.value.starts_with('"');
        match json::text(member.value).filter(|_| is_text) {
            Some(row) => envelope.push_str(&row),
            None => envelope.push_str(member.value),
        }
    }
    envelope.push('}');
    Event::decode(Some(&Bytes::from(envelope))).ok()
}
