//! Removing the documents of erased entities.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PART, client::Client, operation::server_id, rebuild, templates::Names};
use crate::{
    domain::Table,
    fault::Fault,
    index::{IndexName, documents, values::quoted},
    sink::SinkEvent,
};

/// Keys in one question.
const KEYS: usize = 1_000;

/// Documents that change while they are removed are found by the next pass.
const PASSES: usize = 10;

#[derive(Deserialize)]
struct Removed {
    deleted: u64,
    version_conflicts: u64,
    #[serde(default)]
    timed_out: bool,
}

/// From every index of the alias, also those that are being built. What was written before is found: each is refreshed
/// first.
pub(super) async fn erase(
    client: &Client,
    names: &Names,
    table: Table,
    keys: &[String],
) -> Result<u64, Fault> {
    let mut erased = 0;
    for index in [IndexName::Eventos, IndexName::Entities(table)] {
        for name in rebuild::names_of(client, &names.alias(index)).await? {
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
                erased += erase_found(client, &name, &json!({ "query": query })).await?;
            }
        }
    }
    Ok(erased)
}

async fn erase_found(client: &Client, index: &str, query: &Value) -> Result<u64, Fault> {
    let doing = format!("erasing documents of {index}");
    let mut erased = 0;
    for _ in 0..PASSES {
        client.post::<Value>(&format!("{index}/_refresh"), &doing).await?;
        let path = format!(
            "{index}/_delete_by_query?conflicts=proceed&refresh=true&filter_path=deleted,version_conflicts,timed_out,error,status"
        );
        let answer = client.post_body(&path, query, &doing).await?;
        let removed: Removed = client.parse(answer, &doing)?;
        erased += removed.deleted;
        if removed.version_conflicts == 0 && !removed.timed_out {
            return Ok(erased);
        }
    }
    let problem = format!("{doing} on {}: they change as fast as they are removed", client.origin());
    Err(Fault::transient(PART, problem, "erase again"))
}

/// Removes the documents that events brought, by their ids: no refresh is waited for. `target` is where those of an index
/// are written; what is nowhere is left out.
pub(super) async fn discard(
    client: &Client,
    events: &[SinkEvent],
    target: impl Fn(IndexName) -> Option<String>,
) -> Result<(), Fault> {
    const DOING: &str = "discarding documents";
    #[derive(Deserialize)]
    struct Answered {
        #[serde(default)]
        items: Vec<BTreeMap<String, Item>>,
    }
    #[derive(Deserialize)]
    struct Item {
        status: u16,
    }
    let mut body = String::new();
    for (index, id) in documents::brought_by(events) {
        if let Some(alias) = target(index) {
            body.push_str(&format!(
                "{{\"delete\":{{\"_index\":\"{alias}\",\"_id\":{}}}}}\n",
                quoted(&server_id(&id))
            ));
        }
    }
    if body.is_empty() {
        return Ok(());
    }
    let answer = client.bulk(Bytes::from(body), DOING).await?;
    let answered: Answered = client.parse(answer, DOING)?;
    let left = answered.items.iter().flat_map(BTreeMap::values).map(|item| item.status);
    match left.into_iter().find(|status| !matches!(status, 200 | 404)) {
        None => Ok(()),
        Some(status) => Err(Fault::transient(
            PART,
            format!("{DOING} on {}: not all were removed (HTTP {status})", client.origin()),
            "it is tried again; look at the cluster's health",
        )),
    }
}
