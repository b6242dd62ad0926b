//! What people and assistants ask of a store: events by filter and page, entities, and SQL.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    domain::{ChatSession, JsonObject, Lead, Table},
    fault::Fault,
};

/// The tables a question may read.
pub const READABLE: [&str; 4] = ["eventos_raw", "leads", "chat_sessions", "eventos_agregados"];

/// Which events; what is `None` is not asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFilter {
    pub tipo_evento: Option<String>,
    pub evento: Option<String>,
    pub categoria: Option<String>,
    pub usuario: Option<String>,
    pub entidade: Option<Uuid>,
    /// From this instant of the events' own time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this instant.
    pub to: Option<DateTime<Utc>>,
    pub min_valor: Option<f64>,
    pub max_valor: Option<f64>,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventOrder {
    /// By the events' own time, latest first.
    Newest,
    /// By the events' own time, earliest first.
    Oldest,
    /// By the time the store took them in, latest first.
    LatestStored,
}

/// The place after which a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCursor {
    #[serde(rename = "o")]
    pub order: EventOrder,
    /// The instant that orders, in microseconds since the Unix epoch: what both stores keep.
    #[serde(rename = "t")]
    micros: i64,
    #[serde(rename = "i")]
    pub id: Uuid,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredEvent {
    pub id: Uuid,
    pub tipo_evento: String,
    pub usuario: String,
    pub evento: String,
    pub valor: f64,
    pub timestamp: DateTime<Utc>,
    pub categoria: String,
    pub metadata: JsonObject,
    /// The whole source row.
    pub dados: JsonObject,
    pub entidade_id: Uuid,
    pub versao: i64,
    pub particao: i32,
    pub posicao: i64,
    pub ingerido_em: DateTime<Utc>,
}

/// Some events, and where the next ones begin.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    /// `None` when these were the last.
    pub next: Option<EventCursor>,
}

/// An entity's current state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredEntity {
    /// The row, column by column.
    pub row: JsonObject,
    /// The columns without a type, and what the old pipeline's queries read.
    pub metadata: JsonObject,
    pub versao: i64,
    /// The event that carries this state.
    pub evento_id: Uuid,
}

/// How much one statement may answer, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    pub rows: usize,
    /// Bytes of the rows as JSON.
    pub bytes: usize,
    pub timeout: Duration,
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueryColumn {
    pub name: String,
    /// The store's own name of the type.
    pub kind: String,
}

/// What a statement answered.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryAnswer {
    pub columns: Vec<QueryColumn>,
    pub rows: Vec<Vec<Value>>,
    /// There are more rows than the limits allow.
    pub truncated: bool,
    /// What the operator should mend, although the statement was answered.
    pub warning: Option<String>,
}

/// Under whom questions run.
#[derive(Debug, Clone)]
pub struct QuestionAccess {
    /// The login, and what it may read.
    pub summary: String,
    /// Why questions are refused, if they are.
    pub refused: Option<Fault>,
    /// What somebody should know.
    pub warnings: Vec<AccessWarning>,
}

/// A login may do more than it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessWarning {
    pub about: &'static str,
    pub problem: String,
    pub next_step: String,
}

/// What a store answers. Nothing here changes anything.
#[async_trait]
pub trait Questions: Send + Sync {
    /// Events that match, in order, after the cursor, `limit` of them at most.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn events(
        &self,
        filter: &EventFilter,
        order: EventOrder,
        after: Option<EventCursor>,
        limit: u32,
    ) -> Result<EventPage, Fault>;

    /// The current row of a lead or a chat session.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn entity(&self, table: Table, id: Uuid) -> Result<Option<StoredEntity>, Fault>;

    /// Leads with this address, in whatever case it is written, the latest changed first. It need not be unique.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn leads_by_email(&self, email: &str, limit: u32) -> Result<Vec<StoredEntity>, Fault>;

    /// A lead's chat sessions, the latest started first.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn sessions_of(&self, lead_id: &str, limit: u32) -> Result<Vec<StoredEntity>, Fault>;

    /// Under whom questions run, where the store has logins.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn question_access(&self) -> Result<Option<QuestionAccess>, Fault> {
        Ok(None)
    }

    /// Answers one SQL statement that only reads, and only the tables of [`READABLE`].
    ///
    /// # Errors
    /// Of kind [`crate::fault::FaultKind::Invalid`] when the statement is not one that may be asked, or takes too
    /// long; else when the store can't be reached.
    async fn query(&self, statement: &str, limits: QueryLimits) -> Result<QueryAnswer, Fault>;
}

/// A value a condition compares with.
pub(super) enum Operand<'a> {
    Text(&'a str),
    Uuid(Uuid),
    Instant(DateTime<Utc>),
    Number(f64),
}

/// `column operator value`.
pub(super) struct Condition<'a> {
    pub(super) column: &'static str,
    pub(super) operator: &'static str,
    pub(super) value: Operand<'a>,
}

impl EventFilter {
    pub(super) fn conditions(&self) -> Vec<Condition<'_>> {
        let texts = [
            ("tipo_evento", &self.tipo_evento),
            ("evento", &self.evento),
            ("categoria", &self.categoria),
            ("usuario", &self.usuario),
        ];
        let texts = texts.into_iter().map(|(column, text)| (column, "=", text.as_deref().map(Operand::Text)));
        let others = [
            ("entidade_id", "=", self.entidade.map(Operand::Uuid)),
            ("timestamp", ">=", self.from.map(Operand::Instant)),
            ("timestamp", "<", self.to.map(Operand::Instant)),
            ("valor", ">=", self.min_valor.map(Operand::Number)),
            ("valor", "<=", self.max_valor.map(Operand::Number)),
        ];
        texts
            .chain(others)
            .filter_map(|(column, operator, value)| Some(Condition { column, operator, value: value? }))
            .collect()
    }
}

impl EventOrder {
    /// The column that orders; ties are ordered by `id`, the same way round.
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::Newest | Self::Oldest => "timestamp",
            Self::LatestStored => "ingerido_em",
        }
    }

    pub(super) fn direction(self) -> &'static str {
        if self == Self::Oldest { "ASC" } else { "DESC" }
    }

    /// What lies after a cursor.
    pub(super) fn beyond(self) -> &'static str {
        if self == Self::Oldest { ">" } else { "<" }
    }
}

impl EventCursor {
    /// The place after an event.
    pub fn of(event: &StoredEvent, order: EventOrder) -> Self {
        let at = match order {
            EventOrder::Newest | EventOrder::Oldest => event.timestamp,
            EventOrder::LatestStored => event.ingerido_em,
        };
        Self { order, micros: at.timestamp_micros(), id: event.id }
    }

    pub(super) fn at(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros).unwrap_or_default()
    }

    /// The cursor as a text without meaning to anybody else.
    pub fn encode(self) -> String {
        // Two numbers and a name always serialize.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&self).unwrap_or_default())
    }

    /// Reads what [`EventCursor::encode`] wrote; `None` for any other text.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

impl EventPage {
    /// Of one event more than was asked for, where there are more.
    pub(super) fn of(mut events: Vec<StoredEvent>, order: EventOrder, limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| more).map(|last| EventCursor::of(last, order));
        Self { events, next }
    }
}

impl StoredEntity {
    /// Takes a row of an entity's table apart; `None` when it is not one.
    pub(super) fn of(table: Table, mut row: JsonObject) -> Option<Self> {
        let metadata = match row.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => JsonObject::new(),
        };
        let versao = row.remove("versao")?.as_i64()?;
        let evento_id = Uuid::parse_str(row.remove("evento_id")?.as_str()?).ok()?;
        row.remove("sincronizado_em");
        // Both stores spell instants in their own way; a row that can't be typed stays as the store spells it.
        let row = match table {
            Table::Leads => spelled::<Lead>(row),
            Table::ChatSessions => spelled::<ChatSession>(row),
        };
        Some(Self { row, metadata, versao, evento_id })
    }
}

/// The row as the domain spells it.
fn spelled<T: Serialize + DeserializeOwned>(row: JsonObject) -> JsonObject {
    let typed = serde_json::from_value::<T>(Value::Object(row.clone()));
    match typed.and_then(serde_json::to_value) {
        Ok(Value::Object(spelled)) => spelled,
        _ => row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_what_it_wrote_and_nothing_else() {
        let cursor = EventCursor { order: EventOrder::Oldest, micros: -5, id: Uuid::from_u128(7) };
        assert_eq!(EventCursor::decode(&cursor.encode()), Some(cursor));
        for text in ["", "x", "e30", "nada disso"] {
            assert_eq!(EventCursor::decode(text), None, "{text}");
        }
    }
}
