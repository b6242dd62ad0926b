//! Every document that a search finds, a page after the other, of one point in time: what is written meanwhile neither
//! comes twice nor is missed.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{PART, client::Client, dsl, search, templates::Names};
use crate::{
    fault::Fault,
    index::{Fields, FoundDocuments, SearchError, SearchRequest, Sort},
    streaming::{self, Sending},
};

const DOING: &str = "reading what a search found";

/// How long the server keeps the point in time after each page.
const KEPT: &str = "2m";

/// Documents of a page, and about how many bytes.
const MAX_PAGE: usize = 1_000;
const FIRST_PAGE: usize = 100;
const PAGE_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
struct Opened {
    #[serde(alias = "pit_id")]
    id: String,
}

/// The two servers name it differently.
struct PointInTime {
    id: String,
    is_opensearch: bool,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    timed_out: bool,
    /// The point in time may go by another id from here on.
    pit_id: Option<String>,
    hits: PageHits,
}

#[derive(Deserialize)]
struct PageHits {
    total: Option<Total>,
    hits: Vec<PageHit>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct PageHit {
    #[serde(rename = "_source")]
    source: Box<RawValue>,
    /// As it was sent: a double would lose digits of an instant.
    sort: Box<RawValue>,
}

pub(super) async fn scan(
    client: &Arc<Client>,
    names: &Names,
    request: &SearchRequest,
    fields: &'static Fields,
) -> Result<FoundDocuments, SearchError> {
    let question = request.question(fields)?;
    let order = if request.sort == Sort::Oldest { Sort::Oldest } else { Sort::Newest };
    let body = json!({ "query": dsl::query(&question.query), "sort": search::sort(order, fields.id()) });
    let mut at = PointInTime::open(client, &names.alias(request.index)).await?;
    let first = match at.page(client, &body, None, FIRST_PAGE).await {
        Ok(page) => page,
        Err(fault) => {
            at.close(client).await;
            return Err(fault.into());
        }
    };
    let total = first.hits.total.as_ref().map_or(0, |total| total.value);
    let (mut sending, documents) = streaming::stream(PART);
    let client = client.clone();
    tokio::spawn(async move {
        let outcome = at.send(&client, &body, first, &mut sending).await;
        at.close(&client).await;
        if let Some(outcome) = outcome {
            sending.finish(outcome).await;
        }
    });
    Ok(FoundDocuments { total, documents })
}

impl PointInTime {
    async fn open(client: &Client, alias: &str) -> Result<Self, Fault> {
        let answer = client.post_nothing(&format!("{alias}/_pit?keep_alive={KEPT}"), DOING).await?;
        // OpenSearch knows no such path.
        let is_opensearch = answer.status == 405 || (answer.status == 400 && is_unknown_path(&answer.body));
        let answer = if is_opensearch {
            let path = format!("{alias}/_search/point_in_time?keep_alive={KEPT}");
            client.post_nothing(&path, DOING).await?
        } else {
            answer
        };
        let Opened { id } = client.parse(answer, DOING)?;
        Ok(Self { id, is_opensearch })
    }

    async fn page(
        &mut self,
        client: &Client,
        body: &Value,
        after: Option<&RawValue>,
        size: usize,
    ) -> Result<Page, Fault> {
        let mut body = body.clone();
        body["size"] = size.into();
        body["pit"] = json!({ "id": self.id, "keep_alive": KEPT });
        body["track_total_hits"] = after.is_none().into();
        let mut text = body.to_string();
        if let Some(after) = after {
            text.truncate(text.len() - 1);
            text.extend([",\"search_after\":", after.get(), "}"]);
        }
        let answer =
            client.post_json("_search?allow_partial_search_results=false", text.into(), DOING).await?;
        let page: Page = client.parse(answer, DOING)?;
        if page.timed_out {
            let problem = format!("{DOING} on {}: the search was cut short", client.origin());
            return Err(Fault::transient(PART, problem, "look at the cluster's load, and try again"));
        }
        if let Some(id) = &page.pit_id {
            self.id.clone_from(id);
        }
        Ok(page)
    }

    /// Sends every document; `None` where nobody takes them any more.
    async fn send(
        &mut self,
        client: &Client,
        body: &Value,
        mut page: Page,
        sending: &mut Sending<String>,
    ) -> Option<Result<(), Fault>> {
        loop {
            let mut largest = 1;
            let mut last = None;
            for hit in page.hits.hits {
                largest = largest.max(hit.source.get().len());
                last = Some(hit.sort);
                sending.send(hit.source.get().to_owned()).await.ok()?;
            }
            let Some(last) = last else { return Some(Ok(())) };
            let size = (PAGE_BYTES / largest).clamp(1, MAX_PAGE);
            page = match self.page(client, body, Some(&last), size).await {
                Ok(page) => page,
                Err(fault) => return Some(Err(fault)),
            };
        }
    }

    /// Lets the server forget it, which it does by itself later.
    async fn close(&self, client: &Client) {
        let closed = if self.is_opensearch {
            client.delete_body("_search/point_in_time", &json!({ "pit_id": [self.id] }), DOING).await
        } else {
            client.delete_body("_pit", &json!({ "id": self.id }), DOING).await
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "a point in time is left to the server to forget");
        }
    }
}

fn is_unknown_path(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("no handler found")
}
