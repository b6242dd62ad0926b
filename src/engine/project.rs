//! What the project has, against what is defined here.

use std::sync::Arc;

use futures::future::try_join_all;

use super::{EngineError, columns, tables::has_read_whole};
use crate::{
    domain::{Catalog, Definition, Table},
    fault::Fault,
    index::{Index, IndexName},
    source::{
        Source, SourceHealth, TableOverview,
        description::{Description, Difference, DifferenceKind, UNIQUE_KEY, discover},
    },
    store::Store,
};

/// The project that is read, and the tables of it that are defined.
pub struct Project {
    catalog: Catalog,
    source: Arc<dyn Source>,
    index: Arc<dyn Index>,
    store: Arc<dyn Store>,
}

impl Project {
    pub(super) fn new(
        catalog: Catalog,
        source: Arc<dyn Source>,
        index: Arc<dyn Index>,
        store: Arc<dyn Store>,
    ) -> Self {
        Self { catalog, source, index, store }
    }

    /// Counts over every table; what the project lacks is told of its table.
    ///
    /// # Errors
    /// When the source can't be reached or refuses.
    pub async fn overview(&self) -> Result<(SourceHealth, Vec<TableOverview>), Fault> {
        let tables = try_join_all(self.catalog.tables().map(|table| self.source.overview(table)));
        tokio::try_join!(self.source.health(), tables)
    }

    /// The tables and views of the project that no definition reads, `None` where it does not tell which it has.
    ///
    /// # Errors
    /// When the source can't be reached or refuses.
    pub async fn undefined_tables(&self, schema: Option<&str>) -> Result<Option<Vec<String>>, Fault> {
        let served = self.source.served(schema).await?;
        let is_defined = |name: &String| {
            let same = |table: Table| table.source_name() == name && table.source.schema.as_deref() == schema;
            self.catalog.tables().any(same)
        };
        Ok(served.map(|names| names.into_iter().filter(|name| !is_defined(name)).collect()))
    }

    /// A definition made of what the project tells of a table or view, and what it told.
    ///
    /// # Errors
    /// When the project has no such table, none can be made of it, or the source can't be reached.
    pub async fn discover(
        &self,
        schema: Option<&str>,
        table: &str,
    ) -> Result<(Definition, Description), EngineError> {
        let Some(description) = self.source.describe(schema, table).await? else {
            let served = self.source.served(schema).await?.unwrap_or_default();
            let problem = if served.is_empty() {
                format!(
                    "the project serves no table or view '{table}' with a row to look at, and does not tell which it has"
                )
            } else {
                format!("the project serves no table or view '{table}'; it serves {}", served.join(", "))
            };
            return Err(EngineError::Invalid { field: "table", problem });
        };
        let definition = discover(&description, self.catalog)
            .map_err(|error| EngineError::Invalid { field: "table", problem: error.to_string() })?;
        Ok((definition, description))
    }

    /// How project and store differ from a table's definition, and what of it the index of all events has otherwise.
    ///
    /// # Errors
    /// When the source can't be reached or refuses.
    pub async fn check(&self, table: Table) -> Result<Vec<Difference>, Fault> {
        let mut found = self.differences(table).await?;
        let told = |kind, fault: Fault| Difference::new(kind, None, fault.message, fault.advice.to_string());
        match self.store.facts().await {
            Ok(facts) => {
                let refused = facts.refused.into_iter().filter(|(refused, _)| *refused == table.name());
                found.extend(refused.map(|(_, fault)| told(DifferenceKind::Stored, fault)));
            }
            // The source's part of the answer is good without it.
            Err(mut fault) => {
                fault.message = format!("whether the store can take it could not be told: {}", fault.message);
                found.push(told(DifferenceKind::Unknown, fault));
            }
        }
        // A store that does not answer is told of already.
        let runs = self.store.latest_syncs(&[table.into()]).await.unwrap_or_default();
        // What was counted before the whole table was read may have been mended since.
        let whole = runs.iter().filter(|sync| has_read_whole(sync)).map(|sync| sync.started_at).max();
        let since = runs.iter().filter(|sync| Some(sync.started_at) >= whole);
        let shared = since.map(|sync| sync.progress.shared_keys).max().unwrap_or_default();
        if shared > 0 {
            let key = table.key_source();
            let problem = format!("{shared} rows had the {key} of another row when the table was read last");
            let difference = Difference::new(DifferenceKind::Key, Some(key), problem, UNIQUE_KEY);
            found.push(Difference { is_hint: true, ..difference });
        }
        Ok(found)
    }

    /// As [`Project::check`], without what the store has otherwise.
    pub(super) async fn differences(&self, table: Table) -> Result<Vec<Difference>, Fault> {
        let mut found = self.source.check(table).await?;
        // A store that does not answer is told of already.
        if let Ok(known) = columns::known(&*self.store, &*self.source, table).await {
            for difference in &mut found {
                columns::judge(table, &known, difference);
            }
        }
        let events = self.index.fields(IndexName::Eventos).await;
        let own = self.index.fields(IndexName::Entities(table)).await;
        found.extend(own.members_unlike(events).map(|(name, here, there)| {
            let [here, there] = [here, there].map(|kind| format!("{kind:?}").to_lowercase());
            let problem = format!(
                "metadata.{name} is of the type {here} in the index {table} and {there} in the index eventos, which all \
                 tables share: values that don't fit are kept there as metadata.coluna_{name}"
            );
            let next_step = format!(
                "search it in the index {table}, or give the member another name in the definition's [event]; the index \
                 eventos keeps its type until it is rebuilt, and then takes that of the first table that has the member"
            );
            Difference::new(DifferenceKind::Member, Some(name), problem, next_step)
        }));
        Ok(found)
    }
}
