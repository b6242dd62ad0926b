//! Who is meant by an erasure: every entity that has a value, wherever it is known, however many there are.
//!
//! All places compare alike: without the white space around a value, and in any case. What can't be asked is told, so that
//! an erasure that could not look everywhere never passes for a complete one.

use std::collections::BTreeSet;

use super::{ErasureRequest, Erasures, Found, Targets};
use crate::{
    domain::{Cell, Row, Table},
    engine::{EngineError, EntityKey, questions::referring_to},
    fault::Fault,
    index::{IndexName, SEARCH_WINDOW, SearchRequest, Sort},
    source::{BEGINNING, RowQuery, Scope},
};

/// Rows asked for by key in one request.
const KEYS: usize = 100;

/// Rows and documents read at a time while looking for a value.
const PAGE: u32 = 1_000;

/// Entities that one value may name.
const MAX_ENTITIES: usize = SEARCH_WINDOW as usize;

/// The keys of those who have a value.
struct Named {
    keys: BTreeSet<String>,
    source: Result<(), Fault>,
    index_unasked: Option<String>,
}

impl Erasures {
    /// Who is meant, wherever something is known of them.
    pub(super) async fn find(&self, request: &ErasureRequest, by: &str) -> Result<Found, EngineError> {
        let ErasureRequest { table, who, related } = request;
        let unknown = || EngineError::UnknownEntity { table: *table, key: who.clone() };
        let (mut at_source, mut index_unasked) = (None, None);
        let (keys, value) = match who {
            EntityKey::Key(key) => {
                let key = table.key.kind.spelled(key).ok_or_else(|| EngineError::Invalid {
                    field: "key",
                    problem: format!("is no key of {table}, whose keys are of the type {:?}", table.key.kind)
                        .to_lowercase(),
                })?;
                (vec![key], None)
            }
            EntityKey::Lookup { column, value } => {
                let field = if column == "email" { "email" } else { "key" };
                let known = table.definition().column(column).filter(|column| column.lookup);
                let Some(column) = known else {
                    let problem = format!(
                        "{table} has no column {column} that entities are looked up by; give the key"
                    );
                    return Err(EngineError::Invalid { field, problem });
                };
                let value = value.trim();
                if value.is_empty() {
                    let problem = "is empty, which names nobody".to_owned();
                    return Err(EngineError::Invalid { field, problem });
                }
                let named = self.keys_with(*table, field, &column.name, value).await?;
                (at_source, index_unasked) = (named.source.err(), named.index_unasked);
                (named.keys.into_iter().collect(), Some(value))
            }
        };
        if keys.is_empty() {
            // A letter without a key may still be about them.
            let letters = self.letters_about(&[(*table, Vec::new())], value, by).await?;
            if letters.is_empty() {
                return Err(unknown());
            }
            let at_source = at_source.map_or(Ok(0), Err);
            return Ok(Found { targets: vec![(*table, keys)], left: 0, at_source, index_unasked, letters });
        }
        let (mut targets, mut left) = (vec![(*table, keys.clone())], 0);
        for (other, column) in referring_to(self.shared.catalog, *table) {
            let mut referring = BTreeSet::new();
            for key in &keys {
                referring.extend(self.shared.store.keys_with(other, column, key).await?);
            }
            if *related && !referring.is_empty() {
                targets.push((other, referring.into_iter().collect()));
            } else {
                left += referring.len() as u64;
            }
        }
        let at_source = match at_source {
            Some(fault) => Err(fault),
            None => self.count_at_source(&targets).await,
        };
        let letters = self.letters_about(&targets, value, by).await?;
        Ok(Found { targets, left, at_source, index_unasked, letters })
    }

    /// The keys of entities that have this value in a column, in the store, in the index and at the source.
    async fn keys_with(
        &self,
        table: Table,
        field: &'static str,
        column: &str,
        value: &str,
    ) -> Result<Named, EngineError> {
        let mut keys: BTreeSet<String> =
            self.shared.store.keys_with(table, column, value).await?.into_iter().collect();
        let too_many = |count: String| EngineError::Invalid {
            field,
            problem: format!(
                "names {count} entities of {table}, and no more than {MAX_ENTITIES} are erased at once: nothing was \
                 erased; erase them by key"
            ),
        };
        // What an erasure left that could not reach the index.
        let index_unasked = match self.documents_with(table, column, value, &mut keys).await {
            Ok(total) if total > u64::from(SEARCH_WINDOW) => return Err(too_many(total.to_string())),
            Ok(_) => None,
            Err(problem) => Some(format!("it could not be asked who is meant ({problem}); erase again")),
        };
        let scope = Scope::Holding { column: column.to_owned(), text: value.to_owned() };
        let sought = value.to_lowercase();
        let source = self.rows(table, scope, PAGE, |row| {
            if is_value(&row.get(column), &sought) {
                keys.extend(row.key().ok());
            }
            keys.len() <= MAX_ENTITIES
        });
        let source = source.await;
        if keys.len() > MAX_ENTITIES {
            return Err(too_many(format!("at least {}", keys.len())));
        }
        Ok(Named { keys, source, index_unasked })
    }

    /// Adds the keys of documents that have the value. How many may have it; none was added where they are too many.
    async fn documents_with(
        &self,
        table: Table,
        column: &str,
        value: &str,
        keys: &mut BTreeSet<String>,
    ) -> Result<u64, String> {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        let sought = value.to_lowercase();
        let mut request = SearchRequest {
            index: IndexName::Entities(table),
            // By its words, which have no case; whether it is the whole value is compared here.
            query: Some(format!("{column}:\"{escaped}\"")),
            sort: Sort::Newest,
            from: 0,
            size: PAGE,
            count_by: Vec::new(),
            count_by_day: false,
            zone: self.shared.settings.zone,
        };
        // What was appended to the index and is not visible yet counts as well.
        self.shared.index.make_visible().await.map_err(|fault| fault.to_string())?;
        loop {
            let answer = self.shared.index.search(&request).await.map_err(|error| error.to_string())?;
            request.from += PAGE;
            let is_last = answer.hits.is_empty() || u64::from(request.from) >= answer.total;
            if answer.total > u64::from(SEARCH_WINDOW) {
                return Ok(answer.total);
            }
            keys.extend(answer.hits.into_iter().filter_map(|hit| {
                let held = hit.source.get(column)?.as_str()?;
                (held.trim().to_lowercase() == sought).then_some(hit.id)
            }));
            if is_last {
                return Ok(answer.total);
            }
        }
    }

    async fn count_at_source(&self, targets: &Targets) -> Result<u64, Fault> {
        let mut count = 0;
        for (table, keys) in targets {
            for keys in keys.chunks(KEYS) {
                let page_size = u32::try_from(KEYS).unwrap_or(u32::MAX);
                let counted = self.rows(*table, Scope::Keys(keys.to_vec()), page_size, |_| {
                    count += 1;
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

/// Whether a cell is the text, which is in lower case without white space around it.
fn is_value(cell: &Cell<'_>, sought: &str) -> bool {
    matches!(cell, Cell::Text(text) if text.trim().to_lowercase() == sought)
}
