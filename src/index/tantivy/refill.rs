//! Entities' documents made anew from their events, where a definition gained columns or makes them of something else.

use std::sync::Arc;

use bytes::Bytes;

use super::generation::Generation;
use crate::{
    domain::{Event, Members, Table, json},
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
        let Some(mut event) = event.as_deref().and_then(|event| event_of(event, &members)) else {
            self.lacking += 1;
            return Ok(None);
        };
        if let Some(versao) = value("versao").and_then(|versao| versao.parse().ok()) {
            event.entidade.versao = versao;
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

/// What an entity's document has of the event besides its row. It may be of a later one: a row that is again as it was has
/// the id of its first event, which the events' index holds alone. That may also have put members of `metadata` aside that
/// fit here.
const OF_EVENT: [&str; 6] = ["usuario", "evento", "valor", "timestamp", "categoria", "metadata"];

/// The event of an entity's document as its own document has it, in which a row that no server takes as JSON is a text.
fn event_of(document: &[u8], entity: &Members<'_>) -> Option<Event> {
    let members = Members::of(std::str::from_utf8(document).ok()?)?;
    let mut envelope = String::with_capacity(document.len());
    for member in &members {
        envelope.push(if envelope.is_empty() { '{' } else { ',' });
        envelope.push_str(&serde_json::to_string(&*member.name).ok()?);
        envelope.push(':');
        let is_text = member.name == "dados" && member.value.starts_with('"');
        let value = entity.get(&member.name).filter(|_| OF_EVENT.contains(&&*member.name));
        match json::text(member.value).filter(|_| is_text) {
            Some(row) => envelope.push_str(&row),
            None => envelope.push_str(value.unwrap_or(member.value)),
        }
    }
    envelope.push('}');
    Event::decode(Some(&Bytes::from(envelope))).ok()
}
