//! Who is meant by an erasure: every entity that has a value, wherever it is known, however many there are.
//!
//! All places compare alike: without the white space around a value, and in any case. Dead letters are a place, too: of a row
//! that made no event, or one that no sink could take, they alone tell. What can't be asked is told, so that
//! an erasure that could not look everywhere never passes for a complete one. What refers to them is looked for in the same
//! places: after an erasure that could not reach the index the store knows nothing of it any more, and the index alone does.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{ErasureRequest, Erasures, Found, Namesakes, Targets};
use crate::{
    domain::{
        Cell, Column, ColumnKind, KeyKind, Row, Search, Table,
        json::{self, Token},
    },
    engine::{
        EngineError, EntityKey, dead_letters::named_in_row, lag, questions::referring_to, shared::Shared,
    },
    fault::{Fault, FaultKind},
    index::{IndexName, SEARCH_WINDOW, SearchRequest, Sort, query::quoted},
    log::Record,
    source::{BEGINNING, RowQuery, Scope},
    store::{EventFilter, EventOrder, StoredEvent},
};

/// Rows asked for by key in one request.
const KEYS: usize = 100;

/// Rows and documents read at a time while looking for a value.
const PAGE: u32 = 1_000;

/// The latest events of an entity that are looked through for what it is looked up by.
const EVENTS: u32 = 500;

/// Entities that one value may name.
const MAX_ENTITIES: usize = SEARCH_WINDOW as usize;

/// Entities that one erasure takes, with whatever refers to them.
const MAX_RELATED: usize = 100_000;

/// How long others of the same address are looked for in what was stored earlier, where a key was asked for.
const NAMESAKES_WITHIN: Duration = Duration::from_secs(10);

/// How long the store may take to apply what stood in the log, and how often it is looked.
const APPLIED_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// What entities are, or were, looked up by, by column.
pub(super) type Values = BTreeMap<&'static str, BTreeSet<String>>;

/// The keys of those who have a value.
struct Named {
    keys: BTreeSet<String>,
    source: Result<(), Fault>,
    index_unasked: Option<String>,
}

/// What the row that a dead letter holds of somebody tells: it may have made no event, or one that no sink could take, so that
/// nothing else knows of it.
struct LetterRow {
    table: Table,
    key: String,
    /// It has the value that was asked for.
    has_value: bool,
    /// The columns that refer to others, and what each holds, as it is compared.
    refers: Vec<(&'static str, String)>,
}

impl Erasures {
    /// Who is meant, wherever something is known of them.
    pub(super) async fn find(&self, request: &ErasureRequest, by: &str) -> Result<Found, EngineError> {
        let ErasureRequest { table, who, related } = request;
        let unknown = || EngineError::UnknownEntity { table: *table, key: who.clone() };
        if *related {
            self.refuse_undefined().await?;
        }
        // Before anybody is asked: what it is waited for is found.
        let unapplied = self.unapplied(request).await?;
        let in_letters = self.rows_in_letters(request).await?;
        let (mut at_source, mut index_unasked) = (None, None);
        let keys = match who {
            EntityKey::Key(key) => {
                let kind = table.key.kind;
                // Only a key that is a text may begin or end with a space.
                let spelled = kind.spelled(if kind == KeyKind::Text { key } else { key.trim() });
                // A key of before the table's key was replaced names the same entity as its spelling of now.
                let earlier = spelled.as_ref() != Some(key) && self.has_events(*table, key).await?;
                let keys: Vec<String> = spelled.into_iter().chain(earlier.then(|| key.clone())).collect();
                if keys.is_empty() {
                    let problem = format!("is no key of {table}, whose keys are of the type {kind:?}");
                    return Err(EngineError::Invalid { field: "key", problem: problem.to_lowercase() });
                }
                keys
            }
            EntityKey::Lookup { column, value } => {
                let field = if column == "email" { "email" } else { "key" };
                // Whoever asks knows the value, and not what the column is called.
                let columns = table.definition().columns.iter().filter(|column| column.lookup);
                let columns: Vec<&Column> = columns.collect();
                if columns.is_empty() {
                    let problem =
                        format!("{table} has no column that entities are looked up by; give the key");
                    return Err(EngineError::Invalid { field, problem });
                }
                let value = value.trim();
                if value.is_empty() {
                    let problem = "is empty, which names nobody".to_owned();
                    return Err(EngineError::Invalid { field, problem });
                }
                let named = self.keys_with(*table, field, &columns, value, &in_letters).await?;
                (at_source, index_unasked) = (named.source.err(), named.index_unasked);
                named.keys.into_iter().collect()
            }
        };
        let mut found = Found {
            targets: vec![(*table, keys)],
            left: 0,
            erased_before: 0,
            values: Values::new(),
            at_source: at_source.map_or(Ok(0), Err),
            referring_unasked: Vec::new(),
            index_unasked,
            unapplied,
            letters: Vec::new(),
            looked_at: Vec::new(),
        };
        self.follow(&mut found, *related, &in_letters).await?;
        if found.at_source.is_ok() {
            found.at_source = self.count_at_source(&found.targets, &mut found.values).await;
        }
        self.note_letters(request, &mut found, by).await?;
        let ledger = self.shared.erased.ledger().await?;
        let erased = |(table, keys): &(Table, Vec<String>)| {
            keys.iter().filter(|key| ledger.holds(*table, key)).count()
        };
        found.erased_before = found.targets.iter().map(erased).sum();
        // A letter without a key may still be about them.
        let is_known = !found.letters.is_empty() || found.targets.iter().any(|(_, keys)| !keys.is_empty());
        if is_known { Ok(found) } else { Err(unknown()) }
    }

    /// Whether nothing at all is known of whom was found: a key that is well spelled may be nobody's.
    pub(super) async fn is_unknown(&self, found: &Found) -> Result<bool, Fault> {
        if found.is_known() {
            return Ok(false);
        }
        for (table, keys) in &found.targets {
            for key in keys {
                let is_stored = self.has_events(*table, key).await?
                    || (table.key.kind.is_key(key) && self.shared.store.entity(*table, key).await?.is_some());
                if is_stored {
                    return Ok(false);
                }
            }
        }
        // What the store has not applied yet may be of them.
        Ok(self.wait_until_applied().await?.is_none())
    }

    /// Whether events are stored under a key exactly as it is given, or were until they were erased: they may be of before the
    /// table had keys of the type it has now.
    async fn has_events(&self, table: Table, key: &str) -> Result<bool, Fault> {
        if !KeyKind::Text.is_key(key) {
            return Ok(false);
        }
        let is_erased = self.shared.erased.ledger().await?.holds(table, key);
        Ok(is_erased || !self.events_of(table, key, 1).await?.is_empty())
    }

    async fn events_of(&self, table: Table, key: &str, limit: u32) -> Result<Vec<StoredEvent>, Fault> {
        let filter = EventFilter {
            tipo_evento: Some(table.entity.clone()),
            entidade: Some(key.to_owned()),
            ..EventFilter::default()
        };
        Ok(self.shared.store.events(&filter, EventOrder::Newest, None, limit).await?.events)
    }

    /// Others who have or had a value of these that the store's events, too, tell of. They may be the same person, as where the
    /// table's key was replaced since.
    pub(super) async fn namesakes(&self, table: Table, found: &Found) -> Namesakes {
        let (targets, mut values) = (&found.targets, found.values.clone());
        let mut namesakes = Namesakes::default();
        if looked_up_by(table).next().is_none() {
            return namesakes;
        }
        let store = &self.shared.store;
        for key in targets.first().into_iter().flat_map(|(_, keys)| keys) {
            match self.events_of(table, key, EVENTS).await {
                Ok(events) => {
                    let rows = events.iter().filter_map(|event| Row::of(table, event.dados.as_str()));
                    rows.for_each(|row| note_values(&row, &mut values));
                }
                Err(fault) => namesakes.unasked = Some(fault),
            }
        }
        let is_meant = |key: &String| targets.iter().any(|(of, keys)| *of == table && keys.contains(key));
        let until = Instant::now() + NAMESAKES_WITHIN;
        for (column, values) in values {
            let mut others = BTreeSet::new();
            let values: Vec<String> = values.into_iter().collect();
            // Of what is there now an index tells, however many events there are.
            let asked = async {
                for value in &values {
                    let found = store.entities_by(table, column, value, PAGE).await?;
                    others.extend(found.into_iter().map(|entity| entity.key));
                }
                let left = until.saturating_duration_since(Instant::now());
                others.extend(store.keys_with(table, column, &values, Some(left)).await?);
                Ok::<(), Fault>(())
            };
            if let Err(fault) = asked.await {
                namesakes.unasked = Some(fault);
            }
            others.retain(|key| !is_meant(key));
            if !others.is_empty() {
                namesakes.found.push((column, others.len() as u64));
            }
        }
        namesakes
    }

    /// Adds what refers to the targets, what refers to that, and so on; where it is not to be erased, nor was before, it is
    /// counted.
    async fn follow(
        &self,
        found: &mut Found,
        related: bool,
        in_letters: &[LetterRow],
    ) -> Result<(), EngineError> {
        let ledger = self.shared.erased.ledger().await?;
        let of = |(table, keys): &(Table, Vec<String>)| {
            keys.iter().map(|key| (*table, key.clone())).collect::<Vec<_>>()
        };
        let mut known: HashSet<(Table, String)> = found.targets.iter().flat_map(of).collect();
        let mut followed = 0;
        while let Some((to, keys)) = found.targets.get(followed).cloned().filter(|(_, keys)| !keys.is_empty())
        {
            followed += 1;
            let sought = folded(&keys);
            for (other, column) in referring_to(self.shared.catalog, to) {
                let mut referring: BTreeSet<String> =
                    self.shared.store.keys_with(other, column, &keys, None).await?.into_iter().collect();
                let refers = |row: &&LetterRow| {
                    let mut refers = row.refers.iter();
                    row.table == other && refers.any(|(by, held)| *by == column && sought.contains(held))
                };
                referring.extend(in_letters.iter().filter(refers).map(|row| row.key.clone()));
                if related {
                    self.look_elsewhere(found, (to, &keys), (other, column), &mut referring).await;
                }
                referring.retain(|key| known.insert((other, key.clone())));
                if known.len() > MAX_RELATED {
                    let problem = format!(
                        "leads from {to} to more than {MAX_RELATED} entities, and no more are erased at once: nothing was \
                         erased; erase those of {other} by key first"
                    );
                    return Err(EngineError::Invalid { field: "related", problem });
                }
                if !related {
                    found.left += referring.iter().filter(|key| !ledger.holds(other, key)).count() as u64;
                } else if !referring.is_empty() {
                    found.targets.push((other, referring.into_iter().collect()));
                }
            }
        }
        Ok(())
    }

    /// What the rows that dead letters hold tell of who is meant and of what refers to them. All of it is kept, since with Kafka
    /// it takes long to read the letters once more for each table.
    async fn rows_in_letters(&self, request: &ErasureRequest) -> Result<Vec<LetterRow>, Fault> {
        let catalog = self.shared.catalog;
        let sought = request.value().map(str::to_lowercase);
        let mut rows = Vec::new();
        if sought.is_none() && referring_to(catalog, request.table).next().is_none() {
            return Ok(rows);
        }
        let told = |row: &Row<'_>| {
            let columns = &row.table.definition().columns;
            let is_sought = |column: &Column| {
                let held = row.value(column).zip(sought.as_deref());
                column.lookup && held.is_some_and(|(json, sought)| holds(json, sought))
            };
            let has_value = row.table == request.table && columns.iter().any(is_sought);
            let refers = |column: &'static Column| {
                column.refers_to.as_ref()?;
                Some((column.name.as_str(), row.get(&column.name).to_text()?.trim().to_lowercase()))
            };
            let refers: Vec<_> = columns.iter().filter_map(refers).collect();
            (has_value || !refers.is_empty()).then_some((has_value, refers))
        };
        let each = |letter: &Record| {
            let row = named_in_row(catalog, letter, told);
            rows.extend(row.map(|(table, key, (has_value, refers))| LetterRow {
                table,
                key,
                has_value,
                refers,
            }));
        };
        self.walk_letters(&[], each).await?;
        Ok(rows)
    }

    /// Adds the keys of what refers to entities in the index and at the source, and notes which of them could not be asked.
    async fn look_elsewhere(
        &self,
        found: &mut Found,
        (to, keys): (Table, &[String]),
        (other, column): (Table, &'static str),
        referring: &mut BTreeSet<String>,
    ) {
        if let Err(problem) = self.documents_referring(to, keys, other, column, referring).await {
            found.index_unasked.get_or_insert_with(|| {
                format!("it could not be asked what of {other} refers to them ({problem}); erase again")
            });
        }
        let asked = match &found.at_source {
            Err(fault) => Err(fault.clone()),
            Ok(_) => self.rows_referring((to, keys), (other, column), referring).await,
        };
        if let Err(fault) = asked {
            if fault.kind == FaultKind::Transient {
                // It is not waited for once more.
                found.at_source = Err(fault.clone());
            }
            if found.referring_unasked.iter().all(|(of, _)| *of != other) {
                found.referring_unasked.push((other, fault));
            }
        }
    }

    /// What refers to somebody is known by the definitions of its tables alone. Without one, what that refers through would be
    /// erased, and it could be found by nobody any more.
    async fn refuse_undefined(&self) -> Result<(), Fault> {
        let store = &self.shared.store;
        let undefined = store.undefined_kinds().await?;
        if undefined.is_empty() {
            return Ok(());
        }
        Err(Fault::misconfigured(
            store.name(),
            format!(
                "erasing what refers to them: it has events of tables that are not defined here, which may: {}",
                undefined.join(", ")
            ),
            "nothing was erased; erase with a process that has the definitions of all tables (SLUICE_TABLES_DIR)",
        ))
    }

    /// What the store lacks of the log, though it was waited for, where that may tell who is meant.
    async fn unapplied(&self, request: &ErasureRequest) -> Result<Option<String>, Fault> {
        let is_sought = matches!(request.who, EntityKey::Lookup { .. })
            || (request.related && referring_to(self.shared.catalog, request.table).next().is_some());
        if is_sought { self.wait_until_applied().await } else { Ok(None) }
    }

    /// What the store lacks of the log, though it was waited for.
    async fn wait_until_applied(&self) -> Result<Option<String>, Fault> {
        let Shared { log, store, .. } = &*self.shared;
        let (log_id, group) = (log.identity().await?.to_string(), self.shared.group_of(&**store));
        let (extents, until) = (log.extents().await?, Instant::now() + APPLIED_WITHIN);
        loop {
            let standing = lag::standing(&**log, &log_id, &**store, &group).await?;
            let left = lag::lag_of(store.name(), &log_id, &group, &standing, &extents).total;
            if left == 0 {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Ok(Some(format!(
                    "{left} records that it has not applied yet may tell of more that is to be erased; erase again once it has"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Adds the keys of rows at the source that refer to these entities.
    async fn rows_referring(
        &self,
        (to, keys): (Table, &[String]),
        (other, column): (Table, &str),
        referring: &mut BTreeSet<String>,
    ) -> Result<(), Fault> {
        let sought = folded(keys);
        let (keys, earlier): (Vec<&String>, Vec<&String>) =
            keys.iter().partition(|key| to.key.kind.is_key(key));
        let requests = keys.chunks(KEYS).map(|values| (values, false));
        // One by one: none is too long for a request, so what is refused is the value.
        for (values, are_earlier) in requests.chain(earlier.chunks(1).map(|values| (values, true))) {
            let values = values.iter().map(|value| (*value).clone()).collect();
            let scope = Scope::Having { column: column.to_owned(), values };
            let asked = self.rows(other, scope, PAGE, |row| {
                let text = row.get(column).to_text();
                if text.is_some_and(|text| sought.contains(&text.trim().to_lowercase())) {
                    referring.extend(row.key().ok());
                }
                true
            });
            match asked.await {
                // Its column has the type that keys have now, and nothing in it is of another.
                Err(fault) if are_earlier && fault.kind == FaultKind::Invalid => {}
                asked => asked?,
            }
        }
        Ok(())
    }

    /// Adds the keys of documents that refer to these entities: of what is there, and where they were erased before also of
    /// what was removed meanwhile, whose events alone tell.
    async fn documents_referring(
        &self,
        table: Table,
        keys: &[String],
        other: Table,
        column: &str,
        referring: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        let sought = folded(keys);
        let ledger = self.shared.erased.ledger().await.map_err(|fault| fault.to_string())?;
        let definition = other.definition();
        let is_sought =
            |value: &Value| text_of(value).is_some_and(|text| sought.contains(&text.trim().to_lowercase()));
        let defined = definition.column(column);
        let is_searched = defined.is_some_and(|column| column.search() != Search::None);
        // A column of numbers can't be asked for the texts that keys were earlier.
        let is_number = defined.is_some_and(|column| column.kind == ColumnKind::Integer);
        let is_held = |key: &&String| !is_number || KeyKind::Bigint.is_key(key);
        let queries: Vec<Option<String>> = if is_searched {
            keys.iter().filter(is_held).map(|key| Some(format!("{column}:{}", quoted(key)))).collect()
        } else {
            vec![None]
        };
        self.shared.index.make_visible().await.map_err(|fault| fault.to_string())?;
        for query in queries {
            let entity = |document: &Value| {
                text_of(&document[&definition.key.column]).filter(|_| is_sought(&document[column]))
            };
            self.scan(IndexName::Entities(other), query, entity, referring).await?;
        }
        if keys.iter().any(|key| ledger.holds(table, key)) {
            let query = format!("tipo_evento.keyword:{}", quoted(&other.entity));
            let entity = |document: &Value| {
                // A row that no server takes as JSON is held as its text.
                let of_text = document["dados"].as_str().map(json::to_value);
                let row = of_text.as_ref().unwrap_or(&document["dados"]);
                let source =
                    defined.map_or(column, |column| column.source_in(|name| row.get(name).is_some()));
                text_of(&document["entidade"]["id"]).filter(|_| is_sought(&row[source]))
            };
            self.scan(IndexName::Eventos, Some(query), entity, referring).await?;
        }
        Ok(())
    }

    /// Adds what `key` takes of each document that a search finds.
    async fn scan(
        &self,
        index: IndexName,
        query: Option<String>,
        key: impl Fn(&Value) -> Option<String>,
        keys: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        let request = self.everything(index, query);
        let mut found = self.shared.index.scan(&request).await.map_err(|error| error.to_string())?.documents;
        while let Some(document) = found.next().await.map_err(|fault| fault.to_string())? {
            keys.extend(key(&json::to_value(&document)));
        }
        Ok(())
    }

    /// A search for whatever matches.
    fn everything(&self, index: IndexName, query: Option<String>) -> SearchRequest {
        SearchRequest {
            index,
            query,
            sort: Sort::Newest,
            from: 0,
            size: PAGE,
            count_by: Vec::new(),
            count_by_day: false,
            zone: self.shared.settings.zone,
        }
    }

    /// The keys of entities that have this value in one of the columns, in dead letters, in the store, in the index and at the
    /// source.
    async fn keys_with(
        &self,
        table: Table,
        field: &'static str,
        columns: &[&Column],
        value: &str,
        in_letters: &[LetterRow],
    ) -> Result<Named, EngineError> {
        let too_many = |count: String| EngineError::Invalid {
            field,
            problem: format!(
                "names {count} entities of {table}, and no more than {MAX_ENTITIES} are erased at once: nothing was \
                 erased; erase them by key"
            ),
        };
        let sought = value.to_lowercase();
        let in_letters = in_letters.iter().filter(|row| row.has_value).map(|row| row.key.clone());
        let mut named = Named { keys: in_letters.collect(), source: Ok(()), index_unasked: None };
        for column in columns {
            let Named { keys, source, index_unasked } = &mut named;
            keys.extend(self.shared.store.keys_with(table, &column.name, &[value.to_owned()], None).await?);
            // What is down is not waited for once more.
            if index_unasked.is_none() {
                // What an erasure left that could not reach the index.
                match self.documents_with(table, column, value, keys).await {
                    Ok(total) if total > u64::from(SEARCH_WINDOW) => return Err(too_many(total.to_string())),
                    Ok(_) => {}
                    Err(problem) => {
                        *index_unasked =
                            Some(format!("it could not be asked who is meant ({problem}); erase again"));
                    }
                }
            }
            if source.is_ok() {
                let scope = Scope::Holding { column: column.name.clone(), text: value.to_owned() };
                let asked = self.rows(table, scope, PAGE, |row| {
                    if is_value(&row.get(&column.name), &sought) {
                        keys.extend(row.key().ok());
                    }
                    keys.len() <= MAX_ENTITIES
                });
                *source = asked.await;
            }
            if keys.len() > MAX_ENTITIES {
                return Err(too_many(format!("at least {}", keys.len())));
            }
        }
        Ok(named)
    }

    /// Adds the keys of documents that have the value. How many may have it; none was added where they are too many.
    async fn documents_with(
        &self,
        table: Table,
        column: &Column,
        value: &str,
        keys: &mut BTreeSet<String>,
    ) -> Result<u64, String> {
        let (name, sought) = (column.name.as_str(), value.to_lowercase());
        let is_value = |held: Option<&Value>| {
            held.and_then(Value::as_str).is_some_and(|held| held.trim().to_lowercase() == sought)
        };
        // What was appended to the index and is not visible yet counts as well.
        self.shared.index.make_visible().await.map_err(|fault| fault.to_string())?;
        if column.search() != Search::Text {
            // It is searched as it is written, or not at all.
            let key = table.definition().key.column.as_str();
            let entity = |document: &Value| text_of(&document[key]).filter(|_| is_value(document.get(name)));
            self.scan(IndexName::Entities(table), None, entity, keys).await?;
            return Ok(0);
        }
        // By its words, which have no case; whether it is the whole value is compared here.
        let query = format!("{name}:{}", quoted(value));
        let mut request = self.everything(IndexName::Entities(table), Some(query));
        loop {
            let answer = self.shared.index.search(&request).await.map_err(|error| error.to_string())?;
            request.from += PAGE;
            let is_last = answer.hits.is_empty() || u64::from(request.from) >= answer.total;
            if answer.total > u64::from(SEARCH_WINDOW) {
                return Ok(answer.total);
            }
            let hits = answer.hits.into_iter().filter(|hit| is_value(hit.source.get(name)));
            keys.extend(hits.map(|hit| hit.id));
            if is_last {
                return Ok(answer.total);
            }
        }
    }

    /// How many of their rows still stand at the source. Those of whom was asked for tell what they are looked up by, also where
    /// an earlier erasure left nothing else of them.
    async fn count_at_source(&self, targets: &Targets, values: &mut Values) -> Result<u64, Fault> {
        let mut count = 0;
        for (at, (table, keys)) in targets.iter().enumerate() {
            // No row has a key of a type that the table's keys had earlier.
            let keys: Vec<String> = keys.iter().filter(|key| table.key.kind.is_key(key)).cloned().collect();
            for keys in keys.chunks(KEYS) {
                let page_size = u32::try_from(KEYS).unwrap_or(u32::MAX);
                let counted = self.rows(*table, Scope::Keys(keys.to_vec()), page_size, |row| {
                    count += 1;
                    if at == 0 {
                        note_values(row, values);
                    }
                    true
                });
                counted.await?;
            }
        }
        Ok(count)
    }

    /// Reads rows of the source, page by page, as long as `each` goes on.
    async fn rows(
        &self,
        table: Table,
        scope: Scope,
        page_size: u32,
        mut each: impl FnMut(&Row<'_>) -> bool,
    ) -> Result<(), Fault> {
        let query = RowQuery {
            table,
            scope,
            since: BEGINNING,
            created_since: None,
            conditions: Vec::new(),
            page_size,
        };
        let mut after = None;
        loop {
            let page = self.shared.source.page(&query, after.as_ref()).await?;
            for row in page.rows.iter().filter_map(|row| Row::of(table, row.as_str())) {
                if !each(&row) {
                    return Ok(());
                }
            }
            let Some(next) = page.next else { return Ok(()) };
            after = Some(next);
        }
    }
}

fn looked_up_by(table: Table) -> impl Iterator<Item = &'static str> {
    let columns = table.definition().columns.iter().filter(|column| column.lookup);
    columns.map(|column| column.name.as_str())
}

/// Adds what the row is looked up by.
fn note_values(row: &Row<'_>, values: &mut Values) {
    for column in looked_up_by(row.table) {
        let value = row.get(column).to_text().filter(|value| !value.trim().is_empty());
        if let Some(value) = value {
            values.entry(column).or_default().insert(value);
        }
    }
}

/// As they are compared.
fn folded(keys: &[String]) -> HashSet<String> {
    keys.iter().map(|key| key.trim().to_lowercase()).collect()
}

/// A key as a document has it.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether the text, which is in lower case without white space around it, is what JSON holds or stands within it.
fn holds(json: &str, sought: &str) -> bool {
    json::tokens(json).any(|token| match token {
        Token::Text(held) => json::text(held).is_some_and(|held| held.trim().to_lowercase() == sought),
        Token::Number(held) => held == sought,
        Token::Other(_) => false,
    })
}

/// Whether a cell is the text, which is in lower case without white space around it.
fn is_value(cell: &Cell<'_>, sought: &str) -> bool {
    matches!(cell, Cell::Text(text) if text.trim().to_lowercase() == sought)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_held_alone_or_within_a_list_and_not_as_a_part_of_another() {
        let address = "ana@x.example";
        for json in [r#"" Ana@X.example\t""#, r#"["b", {"e": "ana@x.\u0065xample"}]"#] {
            assert!(holds(json, address), "{json}");
        }
        for json in [r#""diana@x.example""#, r#""de ana@x.example""#, "null", "{}"] {
            assert!(!holds(json, address), "{json}");
        }
        assert!(holds("71", "71") && !holds("[710]", "71"));
    }
}
