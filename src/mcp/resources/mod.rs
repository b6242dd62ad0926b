//! Resources: what a client may read, and be told of when it changes, without calling a tool.

mod uri;
mod watch;

use rmcp::{
    ErrorData,
    model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate},
};
use serde_json::{Value, json};

pub(super) use uri::{TEMPLATES, Uri};
pub(super) use watch::{Watched, Watches};

use super::{
    SluiceServer,
    access::Access,
    entity::EntityAnswer,
    next_step::worded,
    page,
    tools::{alerts, dead_letters},
};
use crate::{
    domain::Catalog,
    engine::{EngineError, EntityKey},
    store::tables::{StoreTable, tables},
};

const JSON: &str = "application/json";

/// Resources that have an address of their own.
pub(super) fn list(catalog: Catalog) -> Vec<Resource> {
    let status = Resource::new("sluice://status", "status")
        .with_title("Pipeline status")
        .with_description(
            "every part, lag, dead letters and the latest syncs, asked now; tells when health changes",
        )
        .with_mime_type(JSON);
    let alerts = Resource::new("sluice://alerts", "alerts")
        .with_title("Alerts")
        .with_description("every alert and what was told last; tells when one fires or does not get through")
        .with_mime_type(JSON);
    let schemas = tables(catalog).into_iter().map(|table| {
        Resource::new(format!("sluice://schema/{}", table.table), format!("schema of {}", table.table))
            .with_title(format!("Schema of {}", table.table))
            .with_description(format!("columns, types and meaning: {}", table.about))
            .with_mime_type(JSON)
    });
    [status, alerts].into_iter().chain(schemas).collect()
}

/// Families of resources.
pub(super) fn templates(catalog: Catalog) -> Vec<ResourceTemplate> {
    let template = |address: &str, name: &str, about: &str| {
        ResourceTemplate::new(address, name).with_title(name).with_description(about).with_mime_type(JSON)
    };
    let entities = catalog.tables().map(|table| {
        let about = format!(
            "the current row of a {}, its latest events and what refers to it; tells when a new version is stored",
            table.entity
        );
        template(&format!("sluice://{table}/{{id}}"), &format!("A {}", table.entity.replace('_', " ")), &about)
    });
    TEMPLATES.iter().map(|(address, name, about)| template(address, name, about)).chain(entities).collect()
}

impl SluiceServer {
    /// A resource's content now, for a client with these rights.
    ///
    /// # Errors
    /// When there is no such resource, or it can't be read now.
    pub(super) async fn read(
        &self,
        address: &str,
        uri: &Uri,
        access: Access,
    ) -> Result<ReadResourceResult, ErrorData> {
        if matches!(uri, Uri::App) {
            return Ok(page::content(self.engine.language));
        }
        let content = self.content(uri, access).await?;
        let mut content = content.ok_or_else(|| {
            ErrorData::resource_not_found(format!("{address} does not exist"), Some(json!({"uri": address})))
        })?;
        super::schema::without_nulls(&mut content);
        // What tools are for is the program's own text, examples of addresses included.
        if !matches!(uri, Uri::Tools(_)) {
            self.outgoing.value(&mut content);
        }
        Ok(ReadResourceResult::new(vec![
            ResourceContents::text(content.to_string(), address).with_mime_type(JSON),
        ]))
    }

    async fn content(&self, uri: &Uri, access: Access) -> Result<Option<Value>, ErrorData> {
        match uri {
            Uri::Status => as_json(&self.engine.inspection.status().await.worded(worded)).map(Some),
            Uri::Alerts => match alerts::listed(&self.engine.alerts).await {
                Ok(listed) => as_json(&listed).map(Some),
                Err(fault) => Err(ErrorData::internal_error(fault.remark().worded(worded), None)),
            },
            Uri::Schema(table) => as_json(&StoreTable::named(self.engine.catalog, table)).map(Some),
            Uri::Entity(table, key) => {
                match self.engine.questions.entity(*table, &EntityKey::Key(key.clone())).await {
                    Ok(history) => as_json(&EntityAnswer::new(history, &self.outgoing)).map(Some),
                    Err(EngineError::UnknownEntity { .. }) => Ok(None),
                    Err(error) => Err(ErrorData::internal_error(error.remark().worded(worded), None)),
                }
            }
            Uri::DeadLetter(at) => match self.engine.letters.get(*at).await {
                Ok(letter) => letter
                    .map(|letter| as_json(&dead_letters::view(&letter, self.engine.catalog, &self.outgoing)))
                    .transpose(),
                Err(fault) => Err(ErrorData::internal_error(fault.remark().worded(worded), None)),
            },
            // A file is read in parts, and the App is a page.
            Uri::Export(..) | Uri::App => Ok(None),
            Uri::Tools(group) => {
                let tools = (group.router)().list_all();
                let tools: Vec<Value> = tools
                    .iter()
                    .map(|tool| {
                        json!({
                            "name": tool.name, "title": tool.title, "description": tool.description,
                            "offered": self.toolbox.offers(&tool.name, access),
                        })
                    })
                    .collect();
                Ok(Some(json!({"group": group.name, "about": group.about, "tools": tools})))
            }
        }
    }
}

fn as_json(value: &impl serde::Serialize) -> Result<Value, ErrorData> {
    serde_json::to_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}
