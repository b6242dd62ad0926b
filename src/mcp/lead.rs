//! A lead as the tool and the resource show it.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{
    bounded::{AROUND, CUT, LARGEST_ANSWER, fitting},
    output::Outgoing,
    views::{EntityView, EventView},
};
use crate::engine::LeadHistory;

/// A lead and what happened to it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LeadAnswer {
    pub lead: EntityView,
    /// Latest first, without their rows; their metadata says only what the lead's row does not.
    pub events: Vec<EventView>,
    /// There are earlier events: ask query_raw_events with this entidade_id.
    pub more_events: bool,
    /// Latest first.
    pub chat_sessions: Vec<EntityView>,
    /// There are earlier sessions: ask query_store for chat_sessions of this lead_id.
    pub more_chat_sessions: bool,
    /// Further leads with the same address.
    pub other_lead_ids: Vec<Uuid>,
    /// How to see what is not shown.
    pub hint: Option<String>,
}

impl LeadAnswer {
    /// As much of a history as an answer holds.
    pub(super) fn new(history: LeadHistory, outgoing: &Outgoing) -> Self {
        let row = history.lead.row.clone();
        let lead = EntityView::new(history.lead, outgoing);
        let size = serde_json::to_string(&lead).map_or(0, |json| json.len());
        let mut room = (LARGEST_ANSWER - AROUND).saturating_sub(size);
        let (all_events, all_sessions) = (history.events.len(), history.sessions.len());
        // Half for each, and what the sessions leave goes to the events.
        let mut half = room / 2;
        let sessions = history.sessions.into_iter().map(|session| EntityView::new(session, outgoing));
        let sessions = fitting(sessions.collect(), &mut half);
        room = room - room / 2 + half;
        let events = fitting(
            history.events.into_iter().map(|event| EventView::beside(event, false, &row, outgoing)).collect(),
            &mut room,
        );
        let more_events = history.more_events || events.len() < all_events;
        let more_chat_sessions = history.more_sessions || sessions.len() < all_sessions;
        let is_cut =
            lead.is_cut || events.iter().any(|event| event.is_cut) || sessions.iter().any(|one| one.is_cut);
        let hints = [
            (more_events, "query_raw_events with this entidade_id shows earlier events"),
            (more_chat_sessions, "query_store shows earlier chat_sessions of this lead_id"),
            (is_cut, CUT),
        ];
        let hints: Vec<&str> = hints.into_iter().filter_map(|(holds, hint)| holds.then_some(hint)).collect();
        Self {
            hint: (!hints.is_empty()).then(|| hints.join("; ")),
            more_events,
            more_chat_sessions,
            lead,
            events,
            chat_sessions: sessions,
            other_lead_ids: history.others,
        }
    }
}
