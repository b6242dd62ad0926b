//! Questions about what the store and the index hold.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use chrono_tz::Tz;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{EngineError, drains::Drains, shared::Shared, status::within};
use crate::{
    domain::{Catalog, Column, Compare, Table, TableName},
    fault::{Fault, FaultKind},
    index::{
        Fields, Index, IndexName, SearchAnswer, SearchRequest, Sort, Unfilled, ValueCounts, query::quoted,
    },
    next_step::{NextStep, Remark},
    source::Condition,
    store::{
        EventCursor, EventFilter, EventOrder, EventPage, QueryAnswer, QueryLimits, StoredEntity, StoredEvent,
    },
};

/// The latest events of an entity that are told.
const ENTITY_EVENTS: u32 = 50;

/// The events of an entity's whole history; few have so many.
const HISTORY_EVENTS: u32 = 500;

/// The most entities that are told of each table that refers to one, and of one looked-up value.
const MAX_ENTITIES: u32 = 20;

/// How an entity is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityKey {
    /// By its key.
    Key(String),
    /// By the value of a column that entities are looked up by.
    Lookup { column: String, value: String },
}

/// An entity and what happened to it.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityHistory {
    pub table: Table,
    pub entity: StoredEntity,
    /// Its events, latest first.
    pub events: Vec<StoredEvent>,
    /// There are earlier events than these.
    pub more_events: bool,
    /// What is not there any more of what happened to it.
    pub trimmed: Option<Remark>,
    /// Entities of other tables that refer to it.
    pub related: Vec<Related>,
    /// Further entities that have the same value in a column that entities are looked up by.
    pub twins: Vec<Twin>,
    /// There are more of them.
    pub more_twins: bool,
}

/// Another entity that seems to be the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Twin {
    pub entity: StoredEntity,
    /// The columns whose values are the same.
    pub same: Vec<&'static str>,
}

/// Entities of one table that refer to another's.
#[derive(Debug, Clone, PartialEq)]
pub struct Related {
    pub table: Table,
    /// The latest first.
    pub entities: Vec<StoredEntity>,
    pub more: bool,
}

/// What each index lacks.
type Lacks = Vec<(IndexName, Remark)>;

/// Values that are looked for one by one where a search finds nothing.
const MAX_WANTED: usize = 5;

/// How long what an index lacks is remembered for answers.
const RECENT: Duration = Duration::from_secs(5);

/// Answers from the store and the index; changes neither.
pub struct Questions {
    pub(super) shared: Arc<Shared>,
    drains: Arc<Drains>,
    /// What was found out last of how the index is built.
    built: Mutex<Option<(Instant, Lacks)>>,
}

impl Questions {
    pub(super) fn new(shared: Arc<Shared>, drains: Arc<Drains>) -> Self {
        Self { shared, drains, built: Mutex::default() }
    }

    /// What answers from the store lack just now, and why.
    pub async fn store_lacks(&self) -> Vec<Remark> {
        self.drains.behind(self.shared.store.name()).await.into_iter().collect()
    }

    /// What neither store nor index have of a table, because it is parked.
    pub async fn parked(&self, table: Option<&str>) -> Option<Remark> {
        let table = self.shared.catalog.get(table?)?;
        let Shared { log, store, .. } = &*self.shared;
        let told = async {
            let (events, letters) = tokio::try_join!(log.identity(), log.dead_letters_identity())?;
            let sinks = self.shared.sink_names();
            store.tally(&events.to_string(), &letters.to_string(), table, sinks, Utc::now()).await
        };
        match told.await {
            Ok(tally) if tally.parked == 0 => None,
            Ok(tally) => Some(Remark::new(
                format!(
                    "rows of {table} that are parked as dead letters are not in it, or as they were before: {}",
                    tally.parked
                ),
                NextStep::SettleLetters,
            )),
            Err(fault) => Some(Remark::new(
                format!("whether rows of {table} are parked could not be told: {fault}"),
                NextStep::ListLetters,
            )),
        }
    }

    /// What answers from an index lack just now, and why.
    pub async fn index_lacks(&self, index: IndexName) -> Vec<Remark> {
        let (behind, mut built) =
            tokio::join!(self.drains.behind(self.shared.index.name()), self.built.lock());
        if built.as_ref().is_none_or(|(at, _)| at.elapsed() > RECENT) {
            let lacks = within(self.shared.index.name(), index_lacks(&*self.shared.index)).await;
            // An index that does not answer is told of by whoever asks it something.
            let lacks = lacks.unwrap_or_else(|fault| {
                let is_ill = fault.kind == FaultKind::Misconfigured;
                is_ill.then(|| (index, fault.remark())).into_iter().collect()
            });
            *built = Some((Instant::now(), lacks));
        }
        let of_index = built.iter().flat_map(|(_, lacks)| lacks).filter(|(of, _)| *of == index);
        let lacks: Vec<Remark> = behind.into_iter().chain(of_index.map(|(_, lack)| lack.clone())).collect();
        drop(built);
        let trimmed = match index {
            IndexName::Eventos => self.trimmed_between(None, None).await,
            IndexName::Entities(_) => None,
        };
        lacks.into_iter().chain(trimmed).collect()
    }

    /// Searches the index.
    ///
    /// # Errors
    /// When the request has no meaning, or the index can't be reached.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, EngineError> {
        Ok(self.shared.index.search(request).await?)
    }

    /// The values that fields have for which a search that found nothing asked others, which no document has.
    ///
    /// # Errors
    /// When the index can't be reached.
    pub async fn existing(&self, request: &SearchRequest) -> Result<Vec<ValueCounts>, EngineError> {
        let fields = self.search_fields(request.index).await;
        let mut existing: Vec<ValueCounts> = Vec::new();
        for (field, value) in request.wanted(fields).into_iter().take(MAX_WANTED) {
            if fields.countable(&field.path).is_none()
                || existing.iter().any(|known| known.field == field.path)
            {
                continue;
            }
            let alone = |query: Option<String>, count_by: Vec<String>| SearchRequest {
                query,
                size: 0,
                from: 0,
                count_by,
                count_by_day: false,
                ..request.clone()
            };
            let of_value = alone(Some(format!("{}:{}", field.path, quoted(&value))), Vec::new());
            if self.search(&of_value).await?.total == 0 {
                existing.extend(self.search(&alone(None, vec![field.path.clone()])).await?.counts);
            }
        }
        Ok(existing)
    }

    /// As [`Questions::existing`], of fields that are to have exactly these values. Nothing where the index can't tell.
    pub async fn existing_instead(&self, index: IndexName, wanted: &[(&str, &str)]) -> Vec<ValueCounts> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let clauses = wanted.iter().map(|(field, value)| format!("+{field}.keyword:{}", quoted(value)));
        let request = SearchRequest {
            index,
            query: Some(clauses.collect::<Vec<_>>().join(" ")),
            sort: Sort::Newest,
            from: 0,
            size: 0,
            count_by: Vec::new(),
            count_by_day: false,
            zone: Tz::UTC,
        };
        self.existing(&request).await.unwrap_or_default()
    }

    /// The values that columns of a table have, where nobody has the one that a condition asks for: it may be misspelt.
    pub async fn existing_beside(&self, table: &TableName, conditions: &[Condition]) -> Vec<ValueCounts> {
        let Some(table) = self.shared.catalog.get(&table.0) else { return Vec::new() };
        let wanted = conditions.iter().filter(|condition| condition.compare == Compare::Eq);
        let wanted: Vec<_> = wanted.map(|one| (one.column.as_str(), one.value.as_str())).collect();
        self.existing_instead(IndexName::Entities(table), &wanted).await
    }

    /// The fields that can be searched in an index.
    pub async fn search_fields(&self, index: IndexName) -> &'static Fields {
        self.shared.index.fields(index).await
    }

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
        self.shared.ready_store().await?.events(filter, order, after, limit).await
    }

    /// The store's name, which decides the dialect of SQL.
    pub fn store_name(&self) -> &'static str {
        self.shared.store.name()
    }

    /// What the store answers to one SQL statement that reads, and the store's name: it decides the dialect.
    ///
    /// # Errors
    /// When the statement may not be asked, takes too long, or the store can't be reached.
    pub async fn sql(
        &self,
        statement: &str,
        limits: QueryLimits,
    ) -> Result<(&'static str, QueryAnswer), Fault> {
        let store = self.shared.ready_store().await?;
        Ok((store.name(), store.query(statement, limits).await?))
    }

    /// An entity with its latest events and what refers to it.
    ///
    /// # Errors
    /// When no such entity is stored, or the store can't be reached.
    pub async fn entity(&self, table: Table, key: &EntityKey) -> Result<EntityHistory, EngineError> {
        self.entity_with(table, key, ENTITY_EVENTS).await
    }

    /// As [`Questions::entity`], with so many of its events that they are all there are, but for very long histories.
    ///
    /// # Errors
    /// As [`Questions::entity`].
    pub async fn whole_entity(&self, table: Table, key: &EntityKey) -> Result<EntityHistory, EngineError> {
        self.entity_with(table, key, HISTORY_EVENTS).await
    }

    async fn entity_with(
        &self,
        table: Table,
        key: &EntityKey,
        events: u32,
    ) -> Result<EntityHistory, EngineError> {
        let store = self.shared.ready_store().await?;
        let mut found = match key {
            EntityKey::Key(key) => store.entity(table, key).await?.into_iter().collect(),
            EntityKey::Lookup { column, value } => store.entities_by(table, column, value, 1).await?,
        }
        .into_iter();
        let unknown = || EngineError::UnknownEntity { table, key: key.clone() };
        let entity: StoredEntity = found.next().ok_or_else(unknown)?;
        let filter = EventFilter {
            tipo_evento: Some(table.entity.clone()),
            entidade: Some(entity.key.clone()),
            ..EventFilter::default()
        };
        let related = futures::future::try_join_all(
            referring_to(self.shared.catalog, table)
                .map(|(other, column)| self.related(other, column, &entity.key)),
        );
        let page = store.events(&filter, EventOrder::Newest, None, events);
        let trimmed = async { Ok(self.trimmed_of(table, &entity.key).await) };
        let (page, related, (twins, more_twins), trimmed) =
            tokio::try_join!(page, related, self.twins(table, &entity), trimmed)?;
        Ok(EntityHistory {
            table,
            more_events: page.next.is_some(),
            events: page.events,
            trimmed,
            related: by_table(related),
            entity,
            twins,
            more_twins,
        })
    }

    /// Entities that share with this one what entities are looked up by.
    async fn twins(&self, table: Table, of: &StoredEntity) -> Result<(Vec<Twin>, bool), Fault> {
        let (mut twins, mut more): (Vec<Twin>, bool) = (Vec::new(), false);
        for column in table.definition().columns.iter().filter(|column| column.lookup) {
            let Some(value) = of.row.get(&column.name).and_then(Value::as_str) else { continue };
            let found = self.shared.store.entities_by(table, &column.name, value, MAX_ENTITIES + 1).await?;
            more |= found.len() > usize::try_from(MAX_ENTITIES).unwrap_or(usize::MAX);
            for entity in found.into_iter().filter(|found| found.key != of.key) {
                match twins.iter_mut().find(|twin| twin.entity.key == entity.key) {
                    Some(twin) => twin.same.push(&column.name),
                    None => twins.push(Twin { entity, same: vec![&column.name] }),
                }
            }
        }
        Ok((twins, more))
    }

    async fn related(&self, table: Table, column: &str, key: &str) -> Result<Related, Fault> {
        let shown = usize::try_from(MAX_ENTITIES).unwrap_or(usize::MAX);
        let mut entities = self.shared.store.entities_by(table, column, key, MAX_ENTITIES + 1).await?;
        let more = entities.len() > shown;
        entities.truncate(shown);
        Ok(Related { table, entities, more })
    }
}

/// What refers by several columns of a table as one, each entity once.
fn by_table(found: Vec<Related>) -> Vec<Related> {
    let mut related: Vec<Related> = Vec::new();
    for one in found {
        let Some(known) = related.iter_mut().find(|known| known.table == one.table) else {
            related.push(one);
            continue;
        };
        known.more |= one.more;
        let entities = one.entities.into_iter();
        let new: Vec<_> =
            entities.filter(|new| known.entities.iter().all(|had| had.key != new.key)).collect();
        known.entities.extend(new);
        known.entities.sort_by_key(|entity| std::cmp::Reverse(entity.versao));
    }
    related
}

/// The tables with columns that hold keys of this one, and each such column.
pub(super) fn referring_to(catalog: Catalog, table: Table) -> impl Iterator<Item = (Table, &'static str)> {
    catalog.tables().flat_map(move |other| {
        let refers = move |column: &&Column| column.refers_to.as_deref() == Some(table.name());
        let referring = other.definition().columns.iter().filter(refers);
        referring.map(move |column| (other, column.name.as_str()))
    })
}

/// What documents of each index lack because they were there before columns were defined as they are.
pub(super) async fn unfilled(index: &dyn Index) -> Result<Lacks, Fault> {
    let unfilled = index.unfilled().await?.into_iter().map(|Unfilled { index, columns, next_step }| {
        let problem = format!(
            "documents that were in the index {index} before its columns {} were defined as they are have no value in them, or an \
             earlier one, or are searched by them as before",
            columns.join(", ")
        );
        (index, Remark::new(problem, next_step))
    });
    Ok(unfilled.collect())
}

/// What each index lacks because of how it was built: columns that were defined later, and what a rebuild will change.
pub(super) async fn index_lacks(index: &dyn Index) -> Result<Lacks, Fault> {
    let (unfilled, rebuilds) = tokio::try_join!(unfilled(index), index.rebuilds())?;
    let rebuilds = rebuilds.into_iter().filter(|rebuild| !rebuild.serves).map(|rebuild| {
        let problem =
            format!("the index {} is being rebuilt; the one before it answers until then", rebuild.index);
        (rebuild.index, problem.into())
    });
    Ok(unfilled.into_iter().chain(rebuilds).collect())
}
