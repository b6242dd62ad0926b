//! Removing the documents of erased entities.
//!
//! They are found and deleted by their ids: a server need not have the module that deletes by query.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{PART, client::Client, operation::server_id, rebuild, templates::Names};
use crate::{
    domain::Table,
    fault::Fault,
    index::{IndexName, Stray, documents, values::quoted},
    sink::SinkEvent,
};

/// Keys in one question.
const KEYS: usize = 1_000;

/// Documents found, and deleted, at a time.
const DOCUMENTS: u32 = 1_000;

/// From every index of the aliases, also those that are being built. What was written before is found: each is refreshed
/// first. What fails keeps none of the others of its alias from being erased, but the entities stay until their events are
/// gone: nothing else tells whose those are.
pub(super) async fn erase(
    client: &Client,
    names: &Names,
    table: Table,
    keys: &[String],
) -> Result<u64, Fault> {
    let (mut erased, mut failed) = (0, None);
    for index in [IndexName::Eventos, IndexName::Entities(table)] {
        if failed.is_some() {
            break;
        }
        let alias = names.alias(index);
        let mut done = HashSet::new();
        // A rebuild makes and removes indices meanwhile: until there is none that was not looked at.
        loop {
            let listed = match rebuild::names_of(client, &alias).await {
                Ok(listed) => listed,
                Err(fault) => {
                    failed.get_or_insert(fault);
                    break;
                }
            };
            let new: Vec<String> = listed.into_iter().filter(|name| done.insert(name.clone())).collect();
            if new.is_empty() {
                break;
            }
            for name in new {
                match erase_in(client, &name, index, table, keys).await {
                    Ok(count) => erased += count,
                    Err(fault) => {
                        // With an index that is gone, all that was in it is.
                        let is_there =
                            rebuild::names_of(client, &alias).await.map(|names| names.contains(&name));
                        if is_there.unwrap_or(true) {
                            failed.get_or_insert(fault);
                        }
                    }
                }
            }
        }
    }
    failed.map_or(Ok(erased), Err)
}

async fn erase_in(
    client: &Client,
    name: &str,
    index: IndexName,
    table: Table,
    keys: &[String],
) -> Result<u64, Fault> {
    let mut erased = 0;
    for keys in keys.chunks(KEYS) {
        let query = match index {
            IndexName::Eventos => json!({ "bool": { "filter": [
                { "term": { "tipo_evento.keyword": table.entity } },
                { "terms": { "entidade.id": keys } },
            ]}}),
            IndexName::Entities(_) => {
                let ids: Vec<_> = keys.iter().map(|key| server_id(key)).collect();
                json!({ "ids": { "values": ids } })
            }
        };
        erased += erase_found(client, name, &query).await?;
    }
    Ok(erased)
}

/// Until nothing is found any more: what is written meanwhile is removed, too.
async fn erase_found(client: &Client, index: &str, query: &Value) -> Result<u64, Fault> {
    #[derive(Deserialize)]
    struct Found {
        hits: Hits,
    }
    #[derive(Deserialize)]
    struct Hits {
        hits: Vec<Hit>,
    }
    #[derive(Deserialize)]
    struct Hit {
        #[serde(rename = "_id")]
        id: String,
        #[serde(default, rename = "_routing")]
        routing: Option<String>,
    }
    let doing = format!("erasing documents of {index}");
    let search = json!({ "size": DOCUMENTS, "_source": false, "track_total_hits": false, "query": query });
    let mut erased = 0;
    loop {
        client.post::<Value>(&format!("{index}/_refresh"), &doing).await?;
        // Part of an answer would leave something behind.
        let path = format!("{index}/_search?allow_partial_search_results=false");
        let answer = client.post_body(&path, &search, &doing).await?;
        let found: Found = client.parse(answer, &doing)?;
        if found.hits.hits.is_empty() {
            return Ok(erased);
        }
        let documents = found.hits.hits.into_iter().map(|hit| (index.to_owned(), hit.id, hit.routing));
        erased += delete(client, documents, false, &doing).await?;
    }
}

/// Removes the documents that events brought, by their ids: no refresh is waited for. `target` is where those of an index
/// are written; what is nowhere is left out.
pub(super) async fn discard(
    client: &Client,
    events: &[SinkEvent],
    target: impl Fn(IndexName) -> Option<String>,
) -> Result<(), Fault> {
    let documents = documents::brought_by(events)
        .filter_map(|(index, id)| Some((target(index)?, server_id(&id).into_owned(), None)));
    delete(client, documents, false, "discarding documents").await.map(drop)
}

/// Deletes events by their ids from whatever index stands behind the alias or is being built.
pub(super) async fn remove_events(client: &Client, names: &Names, ids: &[Uuid]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    let alias = names.alias(IndexName::Eventos);
    let indices = rebuild::names_of(client, &alias).await?;
    for index in indices {
        let documents: Vec<_> = ids.iter().map(|id| (index.clone(), id.to_string(), None)).collect();
        delete(client, documents.into_iter(), true, "removing old events").await?;
    }
    Ok(())
}

/// Removes stray documents from the index that serves.
pub(super) async fn strays(
    client: &Client,
    names: &Names,
    table: Table,
    strays: &[Stray],
) -> Result<(), Fault> {
    let alias = names.alias(IndexName::Entities(table));
    for strays in strays.chunks(KEYS) {
        let documents = strays.iter().map(|one| (alias.to_string(), one.id.clone(), one.routing.clone()));
        delete(client, documents, false, &format!("removing stray documents of {alias}")).await?;
    }
    Ok(())
}

/// Deletes documents, each of an index or alias, by its id and by what it was placed by if that is not its id; those that are
/// not there are not counted. No refresh is waited for unless it is to be visible `at_once`.
async fn delete(
    client: &Client,
    documents: impl Iterator<Item = (String, String, Option<String>)>,
    at_once: bool,
    doing: &str,
) -> Result<u64, Fault> {
    #[derive(Deserialize)]
    struct Answered {
        #[serde(default)]
        items: Vec<BTreeMap<String, Item>>,
    }
    #[derive(Deserialize)]
    struct Item {
        status: u16,
    }
    let line = |(index, id, routing): (String, String, Option<String>)| {
        let routing = routing.map(|routing| format!(",\"routing\":{}", quoted(&routing))).unwrap_or_default();
        format!("{{\"delete\":{{\"_index\":\"{index}\",\"_id\":{}{routing}}}}}\n", quoted(&id))
    };
    let body: String = documents.map(line).collect();
    if body.is_empty() {
        return Ok(0);
    }
    let answer = client.bulk(Bytes::from(body), at_once, doing).await?;
    let answered: Answered = client.parse(answer, doing)?;
    let statuses: Vec<u16> =
        answered.items.iter().flat_map(BTreeMap::values).map(|item| item.status).collect();
    match statuses.iter().find(|status| !matches!(status, 200 | 404)) {
        None => Ok(statuses.iter().filter(|status| **status == 200).count() as u64),
        Some(status) => Err(Fault::transient(
            PART,
            format!("{doing} on {}: not all were removed (HTTP {status})", client.origin()),
            "it is tried again; look at the cluster's health",
        )),
    }
}
