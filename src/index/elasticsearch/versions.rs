//! The keys and versions of a table's entities, in the order of the keys, and which events are there: what a
//! reconciliation compares.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{PART, client::Client, operation::server_id, templates::Names};
use crate::{
    domain::{JsonObject, Table},
    fault::Fault,
    index::{EntityPage, Fields, Hit, IndexName, Lacking, Rebuild, Stray, documents::EVENT},
};

/// Documents of two indices that are compared at a time.
const COMPARED: usize = 5_000;

/// Part of an answer would look like documents that are missing, so there is none. Nothing of a document but its place, what
/// it is sorted by, its version, and the parts that are asked for.
const PARTS: &str = "filter_path=timed_out,hits.hits._id,hits.hits._routing,hits.hits.sort,hits.hits._version,hits.hits._source,error,status";

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    timed_out: bool,
    #[serde(default)]
    hits: FoundHits,
}

#[derive(Default, Deserialize)]
struct FoundHits {
    #[serde(default)]
    hits: Vec<FoundHit>,
}

#[derive(Deserialize)]
struct FoundHit {
    #[serde(rename = "_id")]
    id: String,
    /// Of a document that somebody placed otherwise than by its id.
    #[serde(default, rename = "_routing")]
    routing: Option<String>,
    /// What it was sorted by: its key first, or `null` where it has none, of a table's page.
    #[serde(default)]
    sort: Vec<Value>,
    #[serde(rename = "_version")]
    version: i64,
    #[serde(default, rename = "_source")]
    source: JsonObject,
}

impl FoundHit {
    /// What its document has as its key.
    fn key(&self) -> Option<&str> {
        self.sort.first()?.as_str()
    }

    /// As a document of a table's: by its key, or by its id where it has none. `None` where it was made when the table had
    /// another key: no row is its any more.
    fn entity(self, table: Table) -> Option<Hit> {
        let key = match self.source.get(&table.definition().key.column) {
            Some(Value::String(key)) => Some(key.clone()),
            Some(Value::Number(key)) => Some(key.to_string()),
            _ => None,
        };
        let is_under_key = key.as_deref().is_some_and(|key| server_id(key) == self.id);
        // What somebody else put there bears no event.
        let is_of_another_key = !is_under_key && self.routing.is_none() && self.source.contains_key(EVENT);
        (!is_of_another_key).then(|| Hit { id: key.unwrap_or(self.id), source: JsonObject::new() })
    }
}

/// Through the alias, so that what was removed is none. Keys are keywords, whose order is that of their bytes.
pub(super) async fn page(
    client: &Client,
    names: &Names,
    table: Table,
    fields: &Fields,
    after: Option<&str>,
    limit: u32,
) -> Result<EntityPage, Fault> {
    let index = IndexName::Entities(table);
    let by_key = next(fields.id(), after, limit as usize)?;
    let found = search(client, &names.alias(index), &by_key).await?;
    let mut page = EntityPage { next: behind(&found, limit as usize), ..EntityPage::default() };
    for hit in found {
        let is_entity = |key: &&str| {
            hit.routing.is_none() && server_id(key) == hit.id && table.definition().key.kind.is_key(key)
        };
        match hit.key().filter(is_entity) {
            Some(key) => page.entities.push((key.to_owned(), hit.version)),
            None => page.strays.push(Stray { id: hit.id, routing: hit.routing }),
        }
    }
    Ok(page)
}

/// Where to go on behind a page that was filled.
fn behind(found: &[FoundHit], limit: usize) -> Option<String> {
    found.last().filter(|_| found.len() >= limit).map(|last| json!(last.sort).to_string())
}

/// Asks for the next documents of an index, in the order of a field. Those of one value are told apart by when they were
/// written, so that a page that ends between them leaves none out; those without one come last.
fn next(field: &str, after: Option<&str>, limit: usize) -> Result<Value, Fault> {
    let mut body = json!({
        "size": limit,
        "sort": [{ field: { "order": "asc" } }, { "_seq_no": { "order": "asc" } }],
        "_source": false,
        "version": true,
        "track_total_hits": false,
    });
    if let Some(after) = after {
        body["search_after"] = serde_json::from_str(after).map_err(|_| {
            Fault::transient(PART, "comparing documents: no page ends there", "begin with the first page")
        })?;
    }
    Ok(body)
}

/// Of the next documents that are found through the alias, those that are not in the index that is built; there, the
/// place of a removed one counts.
pub(super) async fn lacking_in(
    client: &Client,
    names: &Names,
    rebuild: &Rebuild,
    after: Option<&str>,
) -> Result<Lacking, Fault> {
    let (index, alias) = (rebuild.index, names.alias(rebuild.index));
    // Not by the key: the index that serves may have been made when the table had another.
    let (order, parts) = match index {
        IndexName::Eventos => ("id", json!(["tipo_evento", "entidade.id"])),
        IndexName::Entities(table) => (EVENT, json!([table.definition().key.column, EVENT])),
    };
    let mut ordered = next(order, after, COMPARED)?;
    // Nor was an index that somebody else made ever prepared, where its types are others.
    ordered["sort"][0][order]["unmapped_type"] = json!("keyword");
    let mut found = search(client, &alias, &ordered).await?;
    let next = behind(&found, COMPARED);
    let by_id = |found: &[FoundHit], source: Value| {
        let ids: Vec<&str> = found.iter().map(|hit| hit.id.as_str()).collect();
        json!({
            "size": ids.len(),
            "query": { "ids": { "values": ids } },
            "_source": source,
            "version": true,
            "track_total_hits": false,
        })
    };
    if !found.is_empty() {
        let built = names.layout(index).rebuild_alias();
        let there = search(client, &built, &by_id(&found, json!(false))).await?;
        let there: HashSet<String> = there.into_iter().map(|hit| hit.id).collect();
        found.retain(|hit| !there.contains(&hit.id));
    }
    if !found.is_empty() {
        // Whose they are.
        found = search(client, &alias, &by_id(&found, parts)).await?;
    }
    let documents = found.into_iter().filter_map(|hit| match index {
        IndexName::Eventos => Some(Hit { id: hit.id, source: hit.source }),
        IndexName::Entities(table) => hit.entity(table),
    });
    let documents = documents.collect();
    Ok(Lacking { documents, next })
}

/// Those of these events that are no documents.
pub(super) async fn lacking_events(
    client: &Client,
    names: &Names,
    ids: &[Uuid],
) -> Result<HashSet<Uuid>, Fault> {
    let mut lacking: HashSet<Uuid> = ids.iter().copied().collect();
    if lacking.is_empty() {
        return Ok(lacking);
    }
    let body = json!({
        "size": ids.len(),
        "query": { "ids": { "values": ids } },
        "_source": false,
        "version": true,
        "track_total_hits": false,
    });
    for found in search(client, &names.alias(IndexName::Eventos), &body).await? {
        if let Ok(id) = Uuid::parse_str(&found.id) {
            lacking.remove(&id);
        }
    }
    Ok(lacking)
}

async fn search(client: &Client, alias: &str, body: &Value) -> Result<Vec<FoundHit>, Fault> {
    const DOING: &str = "comparing documents";
    let path = format!("{alias}/_search?allow_partial_search_results=false&{PARTS}");
    let answer = client.post_body(&path, body, DOING).await?;
    let found: Found = client.parse(answer, DOING)?;
    if found.timed_out {
        let problem = format!("{DOING} on {}: the search was cut short", client.origin());
        return Err(Fault::transient(PART, problem, "look at the cluster's load; it is tried again"));
    }
    Ok(found.hits.hits)
}
