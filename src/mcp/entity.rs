//! An entity as tools and resources show it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    bounded::{AROUND, CUT, LARGEST_ANSWER, fitting, size},
    output::Outgoing,
    timeline::Happened,
    views::{EntityView, EventView},
};
use crate::{
    domain::Table,
    engine::{EntityHistory, Related, Twin},
};

/// Said where not every duplicate is told.
pub(super) const MORE_DUPLICATES: &str = "there are more duplicates: query_store counts them";

/// An entity and what happened to it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EntityAnswer {
    pub table: String,
    pub key: String,
    pub entity: EntityView,
    /// Latest first, without their rows; their metadata says only what the entity's row does not.
    pub events: Vec<EventView>,
    /// There are earlier events: ask query_raw_events with this key as entidade_id.
    pub more_events: bool,
    /// Entities of other tables that refer to this one, the chat sessions of a lead for example.
    pub related: Vec<RelatedView>,
    /// With history: what happened, in order, instead of events and related.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Happened>,
    /// Further rows of the table that seem to be the same: why it shows more than once.
    pub duplicates: Vec<Duplicate>,
    /// What this may lack and why; absent where the store has all of the log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<String>,
    /// How to see what is not shown.
    pub hint: Option<String>,
}

/// Another row with the same value in a column that rows are looked up by.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Duplicate {
    pub key: String,
    /// The columns whose values are the same.
    pub same: String,
    /// When it arrived.
    pub created: Value,
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
    pub(super) fn new(history: EntityHistory, outgoing: &Outgoing) -> Self {
        let key = history.entity.key.clone();
        let row = history.entity.row.clone();
        let entity = EntityView::new(history.entity, outgoing);
        let duplicates = duplicates(history.table, &history.twins);
        let mut room = (LARGEST_ANSWER - AROUND).saturating_sub(size(&entity));
        // Half for each, and what the related leave goes to the events.
        let mut half = room / 2;
        let related: Vec<RelatedView> =
            history.related.into_iter().map(|related| related_view(related, outgoing, &mut half)).collect();
        room = room - room / 2 + half;
        let all_events = history.events.len();
        let views =
            history.events.into_iter().map(|event| EventView::beside(event, false, &row, outgoing)).collect();
        let events = fitting(views, &mut room);
        let more_events = history.more_events || events.len() < all_events;
        let is_cut = entity.is_cut
            || events.iter().any(|event| event.is_cut)
            || related.iter().flat_map(|related| &related.entities).any(|one| one.is_cut);
        let hints = [
            (more_events, "query_raw_events with this key as entidade_id shows earlier events"),
            (related.iter().any(|related| related.more), "query_store shows more of the related rows"),
            (history.more_twins, MORE_DUPLICATES),
            (is_cut, CUT),
        ];
        let hints: Vec<&str> = hints.into_iter().filter_map(|(holds, hint)| holds.then_some(hint)).collect();
        Self {
            hint: (!hints.is_empty()).then(|| hints.join("; ")),
            table: history.table.name().to_owned(),
            key,
            more_events,
            entity,
            events,
            related,
            behind: history.trimmed.iter().map(ToString::to_string).collect(),
            timeline: Vec::new(),
            duplicates,
        }
    }
}

/// The rows that share something with this one.
pub(super) fn duplicates(table: Table, twins: &[Twin]) -> Vec<Duplicate> {
    let created = table.definition().time.created.as_deref();
    let duplicate = |twin: &Twin| Duplicate {
        key: twin.entity.key.clone(),
        same: twin.same.join(", "),
        created: created.and_then(|name| twin.entity.row.get(name)).cloned().unwrap_or_default(),
    };
    twins.iter().map(duplicate).collect()
}

fn related_view(related: Related, outgoing: &Outgoing, room: &mut usize) -> RelatedView {
    let all = related.entities.len();
    let views = related.entities.into_iter().map(|entity| EntityView::new(entity, outgoing)).collect();
    let entities = fitting(views, room);
    RelatedView {
        table: related.table.name().to_owned(),
        more: related.more || entities.len() < all,
        entities,
    }
}
