//! Entities whose documents are there in the very version that is written: delivered before, or of another event.
//!
//! Of equal versions the later offset wins. A document names the event that brought it, so one that is delivered again is
//! left as it is, whose rewriting would cost the server as much as a new one, and any other is replaced.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    Shards,
    client::Client,
    operation::{Kind, Operation},
};
use crate::{fault::Fault, index::documents::EVENT};

const DOING: &str = "comparing documents of equal versions";

/// Documents asked for at a time.
const DOCUMENTS: usize = 2_500;

#[derive(Deserialize)]
struct Answered {
    docs: Vec<Found>,
}

/// Where the document can't be got, it holds nothing.
#[derive(Default, Deserialize)]
struct Found {
    #[serde(rename = "_version")]
    version: Option<i64>,
    #[serde(rename = "_source", default)]
    source: Source,
}

#[derive(Default, Deserialize)]
struct Source {
    evento_id: Option<Uuid>,
}

impl Found {
    /// Whether the document came from this event, or is of a later version by now.
    fn holds(&self, operation: &Operation) -> bool {
        let Kind::Entity { version, .. } = operation.kind else { return true };
        self.version.is_some_and(|found| {
            found > version || (found == version && self.source.evento_id == Some(operation.event))
        })
    }
}

#[derive(Deserialize)]
struct Counted {
    count: usize,
    #[serde(rename = "_shards")]
    shards: Shards,
}

/// Those that are of another event than their documents, as they replace these.
pub(super) async fn replacing(client: &Client, ties: &[Operation]) -> Result<Vec<Operation>, Fault> {
    let mut by_index: HashMap<&str, Vec<&Operation>> = HashMap::new();
    for operation in ties {
        by_index.entry(operation.index()).or_default().push(operation);
    }
    let mut replacing = Vec::new();
    for (index, ties) in by_index {
        for ties in ties.chunks(DOCUMENTS) {
            if !all_held(client, index, ties).await? {
                replacing.extend(others(client, ties).await?);
            }
        }
    }
    Ok(replacing)
}

/// Whether each event has its document, as far as searches see: the inverted index alone tells, and no document is read. What
/// they don't see yet counts as missing; that they never see a document that an equal version has replaced is why requests
/// that replace some make it visible (see [`super::bulk`]).
async fn all_held(client: &Client, index: &str, ties: &[&Operation]) -> Result<bool, Fault> {
    let events: Vec<Uuid> = ties.iter().map(|operation| operation.event).collect();
    let question = json!({ "query": { "terms": { EVENT: events } } });
    let answer = client.post_body(&format!("{index}/_count"), &question, DOING).await?;
    let counted: Counted = client.parse(answer, DOING)?;
    Ok(counted.shards.failed == 0 && counted.count == ties.len())
}

async fn others(client: &Client, ties: &[&Operation]) -> Result<Vec<Operation>, Fault> {
    let places: Vec<String> = ties.iter().map(|operation| format!("{{{}}}", operation.place)).collect();
    let body = format!("{{\"docs\":[{}]}}", places.join(","));
    // What was written a moment ago is found, refreshed or not.
    let path = format!(
        "_mget?_source_includes={EVENT}&filter_path=docs._version,docs._source,docs._id,error,status"
    );
    let answer = client.post_json(&path, Bytes::from(body), DOING).await?;
    let answered: Answered = client.parse(answer, DOING)?;
    let mut found = answered.docs.into_iter();
    let others = ties.iter().filter(|operation| !found.next().unwrap_or_default().holds(operation));
    Ok(others.map(|operation| operation.replacing_equal()).collect())
}
