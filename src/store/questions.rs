//! What people and assistants ask of a store: events by filter and page, entities, and SQL.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{ArrivalCount, ArrivalsQuestion};
use crate::{
    domain::{Catalog, Json, JsonObject, MANUAL, Table, json::to_value},
    fault::Fault,
    streaming::Streamed,
};

/// The tables a question may read.
pub fn readable(catalog: Catalog) -> Vec<&'static str> {
    ["eventos_raw", "eventos_agregados"].into_iter().chain(catalog.tables().map(Table::name)).collect()
}

/// Which events; what is `None` is not asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFilter {
    pub id: Option<Uuid>,
    pub tipo_evento: Option<String>,
    pub evento: Option<String>,
    pub categoria: Option<String>,
    pub usuario: Option<String>,
    /// The key of an entity.
    pub entidade: Option<String>,
    /// From this instant of the events' own time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this instant.
    pub to: Option<DateTime<Utc>>,
    pub min_valor: Option<f64>,
    pub max_valor: Option<f64>,
    /// Only versions in which this column of the source's row has another value than in the version before.
    pub changed: Option<String>,
}

/// What became of a column's value from one version to the next, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredChange {
    pub before: String,
    pub after: String,
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
    pub metadata: Json,
    /// The whole source row, every digit kept.
    pub dados: Json,
    /// The row's key in its one spelling.
    pub entidade_id: String,
    pub versao: i64,
    pub particao: i32,
    pub posicao: i64,
    /// When the store took it in.
    pub processado_em: DateTime<Utc>,
    /// Where changes of a column were asked for.
    pub change: Option<StoredChange>,
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
    /// The row's key in its one spelling.
    pub key: String,
    /// The row by its columns' names in the definition, the key among them; instants as RFC 3339 in UTC, numbers that no
    /// double is to the last digit as text.
    pub row: JsonObject,
    /// The columns without a type, and what the old pipeline's queries read.
    pub metadata: Json,
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
    /// JSON as the text that the store gave, each number with its digits, not as what a value of serde's makes of it.
    pub verbatim: bool,
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

/// What a statement answers, row by row.
pub struct StreamedRows {
    pub columns: Vec<QueryColumn>,
    /// As [`QueryAnswer::warning`].
    pub warning: Option<String>,
    pub rows: Streamed<Vec<StreamedValue>>,
}

/// A value as [`QueryAnswer`] has it, and as the row has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamedValue {
    pub shown: Value,
    /// The JSON text of numbers, objects and lists, with every digit.
    pub exact: Option<String>,
}

impl StreamedValue {
    /// Of a value's JSON text.
    pub(crate) fn of_json(json: &str) -> Self {
        let is_exact = json.starts_with(|c: char| matches!(c, '{' | '[' | '-' | '0'..='9'));
        Self { shown: to_value(json), exact: is_exact.then(|| json.to_owned()) }
    }
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

    /// Which `tipo_evento` stored events have that are of none of the tables that this process has definitions of.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn undefined_kinds(&self) -> Result<Vec<String>, Fault>;

    /// The current row of an entity; `None` also where the key is not of the table's type.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn entity(&self, table: Table, key: &str) -> Result<Option<StoredEntity>, Fault>;

    /// Entities whose text column holds this value, in any case where the column is one that entities are looked up
    /// by, else exactly; the latest version first. `column` is one of the table's definition.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn entities_by(
        &self,
        table: Table,
        column: &str,
        value: &str,
        limit: u32,
    ) -> Result<Vec<StoredEntity>, Fault>;

    /// Rows by when they came to be, the most frequent values first, and how many don't tell when.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn arrivals(&self, question: &ArrivalsQuestion) -> Result<(Vec<ArrivalCount>, u64), Fault>;

    /// Under whom questions run, where the store has logins.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn question_access(&self) -> Result<Option<QuestionAccess>, Fault> {
        Ok(None)
    }

    /// Answers one SQL statement that only reads, and only the tables of [`readable`].
    ///
    /// # Errors
    /// Of kind [`crate::fault::FaultKind::Invalid`] when the statement is not one that may be asked, or takes too
    /// long; else when the store can't be reached.
    async fn query(&self, statement: &str, limits: QueryLimits) -> Result<QueryAnswer, Fault>;

    /// Answers as [`Questions::query`] does, under the same rules, but row by row and to the end. Of the limits the bytes
    /// are those of one row, and the time is that of each step from some rows to the next.
    ///
    /// # Errors
    /// As [`Questions::query`].
    async fn stream(&self, statement: &str, limits: QueryLimits) -> Result<StreamedRows, Fault>;
}

/// Which `tipo_evento` events have that a process with these definitions knows.
pub(super) fn defined_kinds(catalog: Catalog) -> Vec<String> {
    catalog.tables().map(|table| table.entity.clone()).chain([MANUAL.to_owned()]).collect()
}

/// A value a condition compares with.
pub(super) enum Operand<'a> {
    Text(&'a str),
    Id(Uuid),
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
            ("entidade_id", &self.entidade),
        ];
        let texts = texts.into_iter().map(|(column, text)| (column, "=", text.as_deref().map(Operand::Text)));
        let others = [
            ("id", "=", self.id.map(Operand::Id)),
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
            Self::LatestStored => "processado_em",
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
            EventOrder::LatestStored => event.processado_em,
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

/// An instant as clients are shown it.
pub(super) fn spelled(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
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
