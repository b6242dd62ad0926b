//! What the project has, against what is defined here.

use super::{Engine, EngineError, Finding, status::within};
use crate::{
    domain::{Catalog, Definition, Table},
    fault::Fault,
    source::description::{Description, Difference, discover},
};

impl Engine {
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
        let catalog: Catalog = self.catalog;
        let definition = discover(&description, catalog)
            .map_err(|error| EngineError::Invalid { field: "table", problem: error.to_string() })?;
        Ok((definition, description))
    }

    /// How the project's table differs from its definition.
    ///
    /// # Errors
    /// When the source can't be reached or refuses.
    pub async fn check_table(&self, table: Table) -> Result<Vec<Difference>, Fault> {
        self.source.check(table).await
    }

    /// What the doctor says of a definition: each difference that is more than a hint.
    pub(super) async fn examine_definition(&self, table: Table) -> Vec<Finding> {
        let part = self.source.name();
        let check = format!("definition of {table}");
        match within(part, self.check_table(table)).await {
            Ok(differences) => {
                let mut findings: Vec<Finding> = differences
                    .into_iter()
                    .filter(|difference| !difference.is_hint)
                    .map(|one| Finding::warning(part, &check, one.problem, one.next_step))
                    .collect();
                if findings.is_empty() {
                    findings.push(Finding::ok(part, &check, "fits the project's table"));
                }
                findings
            }
            // Whatever kept the project from telling is a finding already.
            Err(_) => Vec::new(),
        }
    }
}
