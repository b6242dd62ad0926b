//! The keys and versions of a table's entities, in the order of the keys: what a reconciliation compares.

use serde::Deserialize;
use serde_json::json;

use super::{PART, client::Client, templates::Names};
use crate::{domain::Table, fault::Fault, index::IndexName};

/// Nothing of a document but its key, by which it is sorted, and its version.
const PARTS: &str = "filter_path=timed_out,hits.hits.sort,hits.hits._version,error,status";

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
    hits: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    sort: (String,),
    #[serde(rename = "_version")]
    version: i64,
}

/// Through the alias, so that what was removed is none. Keys are keywords, whose order is that of their bytes.
pub(super) async fn page(
    client: &Client,
    names: &Names,
    table: Table,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(String, i64)>, Fault> {
    const DOING: &str = "comparing documents";
    let key = &table.definition().key.column;
    let mut body = json!({
        "size": limit,
        "sort": [{ key: { "order": "asc" } }],
        "_source": false,
        "version": true,
        "track_total_hits": false,
    });
    if let Some(after) = after {
        body["search_after"] = json!([after]);
    }
    // Part of an answer would look like entities that are missing.
    let alias = names.alias(IndexName::Entities(table));
    let path = format!("{alias}/_search?allow_partial_search_results=false&{PARTS}");
    let answer = client.post_body(&path, &body, DOING).await?;
    let found: Found = client.parse(answer, DOING)?;
    if found.timed_out {
        let problem = format!("{DOING} on {}: the search was cut short", client.origin());
        return Err(Fault::transient(PART, problem, "look at the cluster's load; it is tried again"));
    }
    Ok(found.hits.hits.into_iter().map(|hit| (hit.sort.0, hit.version)).collect())
}
