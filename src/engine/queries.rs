//! Questions about what the store holds.

use uuid::Uuid;

use super::{Engine, EngineError};
use crate::{
    domain::{Table, TipoEvento},
    fault::Fault,
    store::{
        EventCursor, EventFilter, EventOrder, EventPage, QueryAnswer, QueryLimits, StoredEntity, StoredEvent,
    },
};

/// The latest events of a lead that are told.
const LEAD_EVENTS: u32 = 50;

/// The latest chat sessions of a lead that are told, and the most leads of one address.
const LEAD_ENTITIES: u32 = 20;

/// How a lead is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadKey {
    Id(Uuid),
    Email(String),
}

/// A lead and what happened to it.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadHistory {
    pub id: Uuid,
    pub lead: StoredEntity,
    /// Its events, latest first.
    pub events: Vec<StoredEvent>,
    /// There are earlier events than these.
    pub more_events: bool,
    /// Its chat sessions, latest first.
    pub sessions: Vec<StoredEntity>,
    /// There are earlier sessions than these.
    pub more_sessions: bool,
    /// Further leads with the same address, where it was asked by address.
    pub others: Vec<Uuid>,
}

impl Engine {
    /// A page of the stored events.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn events(
        &self,
        filter: &EventFilter,
        order: EventOrder,
        after: Option<EventCursor>,
        limit: u32,
    ) -> Result<EventPage, Fault> {
        self.ready_store().await?.events(filter, order, after, limit).await
    }

    /// The store's name, which decides the dialect of SQL.
    pub fn store_name(&self) -> &'static str {
        self.store.name()
    }

    /// What the store answers to one SQL statement that reads, and the store's name: it decides the dialect.
    ///
    /// # Errors
    /// When the statement may not be asked, takes too long, or the store can't be reached.
    pub async fn query_store(
        &self,
        statement: &str,
        limits: QueryLimits,
    ) -> Result<(&'static str, QueryAnswer), Fault> {
        let store = self.ready_store().await?;
        Ok((store.name(), store.query(statement, limits).await?))
    }

    /// A lead with its latest events and chat sessions.
    ///
    /// # Errors
    /// When no such lead is stored, or the store can't be reached.
    pub async fn lead(&self, key: &LeadKey) -> Result<LeadHistory, EngineError> {
        let store = self.ready_store().await?;
        let mut found = match key {
            LeadKey::Id(id) => store.entity(Table::Leads, *id).await?.into_iter().collect(),
            LeadKey::Email(email) => store.leads_by_email(email, LEAD_ENTITIES).await?,
        }
        .into_iter()
        .filter_map(|lead| Some((id_of(&lead)?, lead)));
        let (id, lead) = found.next().ok_or_else(|| EngineError::UnknownLead(key.clone()))?;
        let others = found.map(|(id, _)| id).collect();

        let filter = EventFilter {
            tipo_evento: Some(TipoEvento::Lead.as_str().to_owned()),
            entidade: Some(id),
            ..EventFilter::default()
        };
        let of_lead = id.to_string();
        let (page, mut sessions) = tokio::try_join!(
            store.events(&filter, EventOrder::Newest, None, LEAD_EVENTS),
            store.sessions_of(&of_lead, LEAD_ENTITIES + 1),
        )?;
        let shown = usize::try_from(LEAD_ENTITIES).unwrap_or(usize::MAX);
        let more_sessions = sessions.len() > shown;
        sessions.truncate(shown);
        Ok(LeadHistory {
            id,
            lead,
            more_events: page.next.is_some(),
            events: page.events,
            sessions,
            more_sessions,
            others,
        })
    }
}

fn id_of(lead: &StoredEntity) -> Option<Uuid> {
    lead.row.get("id")?.as_str()?.parse().ok()
}
