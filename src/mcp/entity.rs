//! An entity as tools and resources show it.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    bounded::{AROUND, LARGEST_ANSWER, fitting},
    views::{EntityView, EventView},
};
use crate::engine::{EntityHistory, Related};

/// An entity and what happened to it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EntityAnswer {
    pub table: String,
    pub key: String,
    pub entity: EntityView,
    /// Latest first, without their rows.
    pub events: Vec<EventView>,
    /// There are earlier events: ask query_raw_events with this key as entidade_id.
    pub more_events: bool,
    /// Entities of other tables that refer to this one, the chat sessions of a lead for example.
    pub related: Vec<RelatedView>,
    /// Keys of further entities with the same value, where one was looked up by it.
    pub other_keys: Vec<String>,
}

/// Entities of one table that refer to another's.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RelatedView {
    pub table: String,
    /// Latest first.
    pub entities: Vec<EntityView>,
    /// There are more: ask query_store.
    pub more: bool,
}

impl EntityAnswer {
    /// As much of a history as an answer holds.
    pub(super) fn new(history: EntityHistory) -> Self {
        let key = history.entity.key.clone();
        let entity = EntityView::new(history.entity);
        let size = serde_json::to_string(&entity).map_or(0, |json| json.len());
        let mut room = (LARGEST_ANSWER - AROUND).saturating_sub(size);
        // Half for each, and what the related leave goes to the events.
        let mut half = room / 2;
        let related = history.related.into_iter().map(|related| related_view(related, &mut half)).collect();
        room = room - room / 2 + half;
        let all_events = history.events.len();
        let views = history.events.into_iter().map(|event| EventView::new(event, false)).collect();
        let events = fitting(views, &mut room);
        Self {
            table: history.table.name().to_owned(),
            key,
            more_events: history.more_events || events.len() < all_events,
            entity,
            events,
            related,
            other_keys: history.others,
        }
    }

    /// The answer in a sentence.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} {}: {} events", self.table, self.key, self.events.len());
        for related in &self.related {
            text.push_str(&format!(", {} {}", related.entities.len(), related.table));
        }
        if self.more_events || self.related.iter().any(|related| related.more) {
            text.push_str(", the latest; there are more");
        }
        text.push('.');
        text
    }
}

fn related_view(related: Related, room: &mut usize) -> RelatedView {
    let all = related.entities.len();
    let entities = fitting(related.entities.into_iter().map(EntityView::new).collect(), room);
    RelatedView {
        table: related.table.name().to_owned(),
        more: related.more || entities.len() < all,
        entities,
    }
}
