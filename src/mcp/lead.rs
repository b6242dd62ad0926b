//! A lead as the tool and the resource show it.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{
    bounded::{AROUND, LARGEST_ANSWER, fitting},
    views::{EntityView, EventView},
};
use crate::engine::LeadHistory;

/// A lead and what happened to it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LeadAnswer {
    pub lead: EntityView,
    /// Latest first, without their rows.
    pub events: Vec<EventView>,
    /// There are earlier events: ask query_raw_events with this entidade_id.
    pub more_events: bool,
    /// Latest first.
    pub chat_sessions: Vec<EntityView>,
    /// There are earlier sessions: ask query_store for chat_sessions of this lead_id.
    pub more_chat_sessions: bool,
    /// Further leads with the same address.
    pub other_lead_ids: Vec<Uuid>,
}

impl LeadAnswer {
    /// As much of a history as an answer holds.
    pub(super) fn new(history: LeadHistory) -> Self {
        let lead = EntityView::new(history.lead);
        let size = serde_json::to_string(&lead).map_or(0, |json| json.len());
        let mut room = (LARGEST_ANSWER - AROUND).saturating_sub(size);
        let (all_events, all_sessions) = (history.events.len(), history.sessions.len());
        // Half for each, and what the sessions leave goes to the events.
        let mut half = room / 2;
        let sessions = fitting(history.sessions.into_iter().map(EntityView::new).collect(), &mut half);
        room = room - room / 2 + half;
        let events = fitting(
            history.events.into_iter().map(|event| EventView::new(event, false)).collect(),
            &mut room,
        );
        Self {
            more_events: history.more_events || events.len() < all_events,
            more_chat_sessions: history.more_sessions || sessions.len() < all_sessions,
            lead,
            events,
            chat_sessions: sessions,
            other_lead_ids: history.others,
        }
    }
}
