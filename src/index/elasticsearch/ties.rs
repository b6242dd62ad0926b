//! Entities whose documents are there in the very version that is written: delivered before, or of another event.
//!
//! Of equal versions the later offset wins. A document names the event that brought it, so one that is delivered again is
//! left as it is, whose rewriting would cost the server as much as a new one, and any other is replaced.

use bytes::Bytes;
use serde::Deserialize;
use uuid::Uuid;

use super::{
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

/// Those that are of another event than their documents, as they replace these.
pub(super) async fn replacing(client: &Client, ties: &[Operation]) -> Result<Vec<Operation>, Fault> {
    let mut replacing = Vec::new();
    for ties in ties.chunks(DOCUMENTS) {
        let places: Vec<String> = ties.iter().map(|operation| format!("{{{}}}", operation.place)).collect();
        let body = format!("{{\"docs\":[{}]}}", places.join(","));
        // What was written a moment ago is found, refreshed or not.
        let path = format!(
            "_mget?_source_includes={EVENT}&filter_path=docs._version,docs._source,docs._id,error,status"
        );
        let answer = client.post_json(&path, Bytes::from(body), DOING).await?;
        let answered: Answered = client.parse(answer, DOING)?;
        let mut found = answered.docs.into_iter();
        for operation in ties {
            if !found.next().unwrap_or_default().holds(operation) {
                replacing.push(operation.replacing_equal());
            }
        }
    }
    Ok(replacing)
}
