//! The index port: a sink whose documents people search.

mod documents;
pub mod elasticsearch;
mod fields;
pub mod query;
pub mod tantivy;
mod values;
pub(crate) mod words;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

pub(crate) use self::fields::Indices;
pub use self::{
    fields::{Field, FieldKind, Fields},
    query::QueryError,
};
use crate::{
    domain::{Catalog, JsonObject, Table, json},
    fault::Fault,
    log::StartAt,
    next_step::NextStep,
    sink::{Claim, Sink},
    streaming::Streamed,
};

/// The columns that documents have otherwise than they would be made now, or not at all. Where nobody remembers what they
/// were made of, an earlier build made them, and they are taken as they are.
fn made_otherwise(made: Option<&Columns>, now: &Columns) -> Vec<String> {
    let Some(made) = made else { return Vec::new() };
    now.iter().filter(|(name, of)| made.get(*name) != Some(*of)).map(|(name, _)| name.clone()).collect()
}

/// The columns that two definitions make otherwise, or that only one of them has.
fn differing(made: Option<&Columns>, now: &Columns) -> Vec<String> {
    let gone = made.into_iter().flat_map(Columns::keys).filter(|name| !now.contains_key(*name));
    made_otherwise(made, now).into_iter().chain(gone.cloned()).collect()
}

/// What a process learns whose definition is not the one that an index's documents are made by.
pub(crate) fn another_definition(index: IndexName, columns: &[String]) -> String {
    format!(
        "the documents of {index} are made by another definition than this process has; they differ in: {}",
        columns.join(", ")
    )
}

/// Furthest a search may page, as the search servers' `index.max_result_window` has it.
pub const SEARCH_WINDOW: u32 = 10_000;

/// What the columns of an index's documents are made of, by name.
type Columns = BTreeMap<String, String>;

/// What can be searched: every event, or the newest state of a table's entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexName {
    /// Every event, as it stands in the log.
    Eventos,
    /// The newest state of every entity of a table.
    Entities(Table),
}

impl IndexName {
    /// Every index, in a fixed order: the events first.
    pub fn all(catalog: Catalog) -> impl Iterator<Item = Self> + Clone {
        std::iter::once(Self::Eventos).chain(catalog.tables().map(Self::Entities))
    }

    /// `eventos`, or the table's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eventos => "eventos",
            Self::Entities(table) => table.name(),
        }
    }

    /// The fields that tell what a document is about, in the order in which they are read.
    pub fn telling(self) -> Vec<&'static str> {
        const OF_EVENTS: [&str; 9] = [
            "id",
            "timestamp",
            "tipo_evento",
            "evento",
            "usuario",
            "valor",
            "categoria",
            "entidade",
            "metadata",
        ];
        match self {
            Self::Eventos => OF_EVENTS.to_vec(),
            Self::Entities(table) => {
                let brief = table.definition().columns.iter().filter(|column| column.brief);
                std::iter::once(table.definition().key.column.as_str())
                    .chain(brief.map(|column| column.name.as_str()))
                    .collect()
            }
        }
    }

    /// What its documents' columns are made of; of events there are none, they are as they stand in the log.
    fn columns(self) -> Columns {
        match self {
            Self::Eventos => Columns::new(),
            Self::Entities(table) => {
                let columns = table.definition().columns.iter();
                columns.map(|column| (column.name.clone(), table.made_of(column))).collect()
            }
        }
    }

    /// The index of that name.
    pub fn from_name(catalog: Catalog, name: &str) -> Option<Self> {
        Self::all(catalog).find(|index| index.as_str() == name)
    }
}

impl Ord for IndexName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for IndexName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for IndexName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The order of hits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// By `timestamp`, the latest first.
    #[default]
    Newest,
    /// By `timestamp`, the earliest first.
    Oldest,
    /// By how well they match.
    Relevance,
}

/// A question to one index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchRequest {
    pub index: IndexName,
    /// In Lucene's syntax; `None` for everything.
    pub query: Option<String>,
    pub sort: Sort,
    /// Hits to pass over; with `size` at most [`SEARCH_WINDOW`].
    pub from: u32,
    pub size: u32,
    /// Counts by the most frequent values of these fields.
    pub count_by: Vec<String>,
    /// Counts by day of `timestamp`.
    pub count_by_day: bool,
    /// Whose days are meant, in the query and in the counts.
    pub zone: Tz,
}

/// A request found to make sense.
#[derive(Debug)]
struct Question {
    query: query::Query,
    /// What is counted for each of `count_by`.
    counted: Vec<&'static Field>,
}

impl SearchRequest {
    /// The values that its query wants in fields of texts, each in its field.
    pub fn wanted(&self, fields: &'static Fields) -> Vec<(&'static Field, String)> {
        let query = self
            .query
            .as_deref()
            .map(|text| query::parse(text, fields, Utc::now().with_timezone(&self.zone)));
        let mut wanted = Vec::new();
        if let Some(Ok(query)) = query {
            query.wanted(&mut wanted);
        }
        wanted
    }

    /// Checks a request and reads its query. `fields` are those of its index.
    fn question(&self, fields: &'static Fields) -> Result<Question, SearchError> {
        if self.from.saturating_add(self.size) > SEARCH_WINDOW {
            return Err(SearchError::Request {
                field: "from",
                problem: format!(
                    "only the first {SEARCH_WINDOW} hits can be paged through; narrow the query, by a range of timestamp for example"
                ),
            });
        }
        let query = match &self.query {
            Some(text) => query::parse(text, fields, Utc::now().with_timezone(&self.zone))?,
            None => query::Query::All,
        };
        let counted = self.count_by.iter().map(|path| {
            fields.countable(path).ok_or_else(|| {
                let close = fields.close_to(path, 3);
                let instead = if close.is_empty() { fields.known() } else { close.join(" or ") };
                SearchError::Request {
                    field: "count_by",
                    problem: format!("{} has no countable field `{path}`; use {instead}", self.index),
                }
            })
        });
        Ok(Question { query, counted: counted.collect::<Result<_, _>>()? })
    }
}

/// A document that matches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// The document's id: an event's, or an entity's key.
    pub id: String,
    /// The document, for showing: see [`json::to_value`].
    pub source: JsonObject,
}

impl Hit {
    /// `source` is the document as the index holds it; `None` where it is no object.
    fn of(id: String, source: &RawValue) -> Option<Self> {
        let Value::Object(mut source) = json::to_value(source.get()) else { return None };
        // A row that no server takes as JSON is held as its text.
        if let Some(Value::String(dados)) = source.get("dados") {
            let row = json::to_value(dados);
            source.insert("dados".to_owned(), row);
        }
        Some(Self { id, source })
    }
}

/// Counts of one field's values, the most frequent first.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ValueCounts {
    pub field: String,
    pub values: Vec<ValueCount>,
    /// Documents with a value that is not listed.
    pub others: u64,
    /// Documents without a value.
    pub missing: u64,
}

/// How often a value occurs.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ValueCount {
    pub value: Value,
    pub count: u64,
}

/// A day's count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DayCount {
    /// `2026-11-24`, in the request's zone.
    pub day: String,
    pub count: u64,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SearchAnswer {
    /// All that match, not only those in `hits`.
    pub total: u64,
    pub hits: Vec<Hit>,
    pub counts: Vec<ValueCounts>,
    /// Days with at least one document, in order.
    pub days: Vec<DayCount>,
}

/// Every document that a search finds.
pub struct FoundDocuments {
    pub total: u64,
    /// Each as the index holds it.
    pub documents: Streamed<String>,
}

/// The longest value that is found as a whole, in UTF-16 units: the `ignore_above` of keywords.
/// Every key has fewer.
const MAX_KEYWORD: usize = 2_048;

/// The member that marks the place of an entity that was removed. The place is kept, so that no older version that is
/// delivered again brings the entity back: a search server forgets the version of what was deleted within a minute. No
/// search shows it, and no column can have the name.
const REMOVED: &str = "_removida";

/// Most values a count lists.
pub const COUNTED_VALUES: u32 = 20;

/// Why a search has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SearchError {
    /// Nobody was asked: the question has no meaning here.
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{field}: {problem}")]
    Request { field: &'static str, problem: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What an index calls itself whose name leads nowhere.
fn unknown_index(index: IndexName) -> SearchError {
    SearchError::Request { field: "index", problem: format!("there is no index {index} here") }
}

/// Claims on partitions of which the consumer group keeps where to read on. There is nothing to fence: a worker that
/// lost a partition can only write what is there already.
fn claims(partitions: &[i32]) -> Vec<Claim> {
    let claim = |&partition| Claim { partition, epoch: 0, start: StartAt::Committed };
    partitions.iter().map(claim).collect()
}

/// A rebuild under way: a new index is filled from the log while the old one serves.
///
/// The new index itself remembers it, so any process can take it up. Once it serves, what was read from the log
/// before the change may still be on its way into the old index: a rebuild ends only when all of that is in the new
/// one too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuild {
    pub id: Uuid,
    pub index: IndexName,
    pub started_at: DateTime<Utc>,
    /// The new index serves already.
    pub serves: bool,
    /// The version of the ledger of erasures when it was begun.
    #[serde(skip)]
    pub erasures: Uuid,
    /// The columns in which the definition that it was begun by differs from this process's; none where the index brings what is
    /// built up to date itself.
    #[serde(skip)]
    pub differing: Vec<String>,
}

/// Columns in which documents have no value, or an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfilled {
    pub index: IndexName,
    pub columns: Vec<String>,
    /// What fills them.
    pub next_step: NextStep,
}

impl Unfilled {
    fn until_rebuilt(index: IndexName, columns: Vec<String>) -> Self {
        Self { index, columns, next_step: NextStep::FillIndex { index: index.to_string() } }
    }
}

/// Documents of the index that serves which the one that is built has not.
#[derive(Debug, Default)]
pub struct Lacking {
    /// An entity's by its key, and without its content.
    pub documents: Vec<Hit>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// Some of the documents of a table's entities, looked through.
#[derive(Debug, Default)]
pub struct EntityPage {
    /// By key and version, in the order of the bytes of their keys.
    pub entities: Vec<(String, i64)>,
    pub strays: Vec<Stray>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// A document that stands where no entity of its table does: without a key, with one that is none of its table, or under
/// another id than its key's. No event brought it, and none could replace or remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    pub id: String,
    /// What somebody had it placed by instead of its id.
    pub routing: Option<String>,
}

/// The index port.
#[async_trait]
pub trait Index: Sink {
    /// Answers a question from what is visible. A query that can't be understood in full is refused: zero hits
    /// always means that nothing matches.
    ///
    /// # Errors
    /// [`SearchError::Query`] and [`SearchError::Request`] tell what is wrong with the question; otherwise the index
    /// could not answer.
    async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchError>;

    /// Every document that a search finds, of one state of the index and however many there are, the latest or the
    /// earliest first; by how well they match none is first. Paging and counts are not looked at.
    ///
    /// # Errors
    /// As [`Index::search`].
    async fn scan(&self, request: &SearchRequest) -> Result<FoundDocuments, SearchError>;

    /// The fields that can be asked for in the index as it is: what [`query::parse`] reads a query by. None where the
    /// index is of another catalog; what its definition says where the index does not answer.
    async fn fields(&self, index: IndexName) -> &'static Fields;

    /// The next `limit` documents of a table's entities that are visible: one question a range, whether it is as it should
    /// be or not.
    ///
    /// # Errors
    /// When the index can't be reached.
    async fn versions(&self, table: Table, after: Option<&str>, limit: u32) -> Result<EntityPage, Fault>;

    /// Removes stray documents from the index that serves; those that are not there are none.
    ///
    /// # Errors
    /// When the index can't be reached or refuses.
    async fn remove_strays(&self, table: Table, strays: &[Stray]) -> Result<(), Fault>;

    /// Those of these events, at most [`SEARCH_WINDOW`], that are not among the visible ones.
    ///
    /// # Errors
    /// When the index can't be reached.
    async fn lacking_events(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, Fault>;

    /// Removes every document of these entities and of their events, the places of removed ones too, from the indices that
    /// serve and from those that are being built. Returns how many there were.
    ///
    /// # Errors
    /// When the index can't be reached or refuses.
    async fn erase(&self, table: Table, keys: &[String]) -> Result<u64, Fault>;

    /// What documents of each index lack because they were in it before columns came or were defined otherwise.
    ///
    /// # Errors
    /// When the index can't be reached.
    async fn unfilled(&self) -> Result<Vec<Unfilled>, Fault>;

    /// The rebuilds that were begun and not ended, by whatever process.
    ///
    /// # Errors
    /// When the index can't be reached.
    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Fault>;

    /// Makes an empty index beside the one that serves, or joins the rebuild that is under way; one that was begun by another
    /// definition is begun anew. `erasures` is the version of the ledger of erasures.
    ///
    /// # Errors
    /// When the index can't be reached or refuses, or a process with another definition has prepared it since this one did.
    async fn begin_rebuild(&self, index: IndexName, erasures: Uuid) -> Result<Rebuild, Fault>;

    /// What writes into the index that is being built, shows and counts what is in it, and touches nothing else.
    fn rebuild_sink(&self, rebuild: &Rebuild) -> Arc<dyn Sink>;

    /// What is visible in the index that serves and not in the one that is built, of the next documents behind `after`;
    /// nothing where what serves can't be read.
    ///
    /// # Errors
    /// When the index can't be reached, or the rebuild is over.
    async fn lacking_in(&self, rebuild: &Rebuild, after: Option<&str>) -> Result<Lacking, Fault>;

    /// Lets the new index serve in place of the old one, in one step. Repeating it changes nothing.
    ///
    /// # Errors
    /// When the index can't be reached or refuses.
    async fn serve_rebuilt(&self, rebuild: &Rebuild) -> Result<(), Fault>;

    /// Whether the index that serves is the one that this rebuild built, also once the rebuild is over.
    ///
    /// # Errors
    /// When the index can't be reached.
    async fn serves_what_was_built(&self, rebuild: &Rebuild) -> Result<bool, Fault>;

    /// Removes the index that does not serve, the old one or one half-built, and forgets the rebuild, but for which of them
    /// built what serves. Repeating it changes nothing.
    ///
    /// # Errors
    /// When the index can't be reached or refuses.
    async fn end_rebuild(&self, rebuild: &Rebuild) -> Result<(), Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_an_earlier_build_are_taken_as_they_are_and_others_as_they_were_made() {
        let of = |columns: &[(&str, &str)]| -> Columns {
            columns.iter().map(|(name, of)| ((*name).to_owned(), (*of).to_owned())).collect()
        };
        let now = of(&[("cor", "Text tom, cor"), ("nota", "Text nota"), ("peso", "Number peso")]);
        assert!(made_otherwise(None, &now).is_empty());
        assert!(made_otherwise(Some(&now), &now).is_empty());
        let made = of(&[("cor", "Text tom"), ("nota", "Text nota"), ("mais", "Text mais")]);
        assert_eq!(made_otherwise(Some(&made), &now), ["cor", "peso"]);
        assert!(differing(None, &now).is_empty() && differing(Some(&now), &now).is_empty());
        assert_eq!(differing(Some(&made), &now), ["cor", "peso", "mais"], "it would be written without that");
    }
}
