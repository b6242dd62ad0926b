//! The index in Elasticsearch 7.17 to 9 or OpenSearch 2: events, leads and chat sessions as documents.
//!
//! # Guarantee
//!
//! Applying a batch again changes nothing, whoever applies it: an event's document is *created* under the event's
//! id and never overwritten, an entity's document carries its `versao` as external version and is only replaced by
//! a higher one. A conflict is therefore the proof that the work was done before: it is counted, not reported.
//! [`Sink::apply`] returns `Ok` only when the server has answered for every single document, and a document is
//! acknowledged after its translog is synced. Where to read on is the consumer group's affair: a batch that is
//! delivered again is harmless.
//!
//! # Documents
//!
//! | alias | document | `_id` |
//! |---|---|---|
//! | `eventos` | the event envelope as it stands in the log | the event's id |
//! | `leads`, `chat_sessions` | the row's columns, and `versao`, `evento_id`, `evento`, `usuario`, `categoria`, `valor`, `timestamp`, `metadata` of the event that brought it | the row's id |
//!
//! The names are aliases of versioned indices (`leads` of `leads-000001`): an index whose mapping has to change is
//! built anew beside the old one and the alias moved, while readers and writers go on.
//!
//! Mappings are explicit and closed. What has no mapping stays in `_source`, so an unknown column can neither
//! clash with another nor fill the cluster's state. A member of `metadata` that could still be refused, because it
//! has a known member's name and another shape, is kept as `coluna_<name>`.
//!
//! `refresh_interval` is 5 s: refreshing each second, the default, costs a backfill dearly, and whoever can't wait
//! calls [`Sink::make_visible`].

mod backoff;
mod bulk;
mod client;
mod dsl;
mod faults;
mod operation;
mod outcome;
mod reason;
mod rebuild;
mod schema;
mod search;
mod templates;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use serde::Deserialize;

pub(crate) use self::dsl::query as query_dsl;
use self::{client::Client, operation::Operation, templates::Names};
use crate::{
    config::ElasticsearchSettings,
    fault::Fault,
    index::{Index, IndexName, Rebuild, SearchAnswer, SearchError, SearchRequest, claims, documents},
    log::Position,
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkHealth},
};

/// What faults call this part.
const PART: &str = "elasticsearch";

/// The Elasticsearch or OpenSearch index.
#[derive(Debug)]
pub struct EsIndex {
    client: Arc<Client>,
    names: Names,
    /// Remembered: whoever starts a sync prepares, and must not need the index for it each time.
    prepared: AtomicBool,
    /// An alias was missing at the last write: somebody removed it under a running drain.
    prepare_first: AtomicBool,
}

impl EsIndex {
    /// Makes the adapter; the server need not be up yet.
    ///
    /// # Errors
    /// When the settings can't be used: a prefix no index may have, a credential no header can carry.
    pub fn connect(settings: &ElasticsearchSettings) -> Result<Self, Fault> {
        Ok(Self {
            names: Names::new(&settings.index_prefix)?,
            client: Arc::new(Client::new(settings)?),
            prepared: AtomicBool::new(false),
            prepare_first: AtomicBool::new(false),
        })
    }

    async fn count(&self, alias: &str) -> Result<u64, Fault> {
        #[derive(Deserialize)]
        struct Count {
            count: u64,
        }
        let counted: Count = self.client.get(&format!("{alias}/_count"), "counting documents").await?;
        Ok(counted.count)
    }
}

#[async_trait]
impl Sink for EsIndex {
    fn name(&self) -> &'static str {
        PART
    }

    async fn prepare(&self) -> Result<(), Fault> {
        if self.prepared.load(Ordering::Relaxed) {
            return Ok(());
        }
        schema::prepare(&self.client, &self.names).await?;
        self.prepared.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn claim(&self, _log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        Ok(claims(partitions))
    }

    async fn apply(&self, _log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        if self.prepare_first.load(Ordering::Relaxed) {
            self.prepare().await?;
            self.prepare_first.store(false, Ordering::Relaxed);
        }
        let plan = documents::plan(batch);
        let operations: Vec<Operation> = plan
            .documents
            .into_iter()
            .map(|document| Operation::new(self.names.alias(document.index), document))
            .collect();
        let sent = match bulk::send(&self.client, &operations).await {
            Ok(sent) => sent,
            Err(trouble) => {
                if trouble.prepare_first {
                    self.prepared.store(false, Ordering::Relaxed);
                    self.prepare_first.store(true, Ordering::Relaxed);
                }
                return Err(trouble.fault.into());
            }
        };
        sent.outcome(plan.refused)
    }

    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(None)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        let path = format!("{}/_refresh", self.names.all().join(","));
        let refreshed: Refreshed = self.client.post(&path, "refreshing").await?;
        if refreshed.shards.failed == 0 {
            return Ok(());
        }
        Err(Fault::transient(
            PART,
            format!("refreshing on {}: {} shards failed", self.client.origin(), refreshed.shards.failed),
            "look at the cluster's health; what was applied is safe and becomes visible when its shards are back",
        ))
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        let info: Info = self.client.get("", "asking for the version").await?;
        let distribution = info.version.distribution.as_deref().unwrap_or("elasticsearch");
        let version = format!("{distribution} {}", info.version.number);
        let mut counts = Vec::new();
        for index in IndexName::ALL {
            counts.push((index.to_string(), self.count(self.names.alias(index)).await?));
        }
        Ok(SinkHealth { version, clock: None, counts })
    }
}

#[async_trait]
impl Index for EsIndex {
    async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchError> {
        search::search(&self.client, self.names.alias(request.index), request).await
    }

    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Fault> {
        rebuild::under_way(&self.client, &self.names).await
    }

    async fn begin_rebuild(&self, index: IndexName) -> Result<Rebuild, Fault> {
        self.prepare().await?;
        rebuild::begin(&self.client, &self.names, index).await
    }

    fn rebuild_sink(&self, rebuild: &Rebuild) -> Arc<dyn Sink> {
        Arc::new(rebuild::RebuildSink::new(self.client.clone(), &self.names, rebuild.index))
    }

    async fn serve_rebuilt(&self, rebuild: &Rebuild) -> Result<(), Fault> {
        rebuild::serve(&self.client, &self.names, rebuild).await
    }

    async fn end_rebuild(&self, rebuild: &Rebuild) -> Result<(), Fault> {
        rebuild::end(&self.client, &self.names, rebuild).await
    }
}

#[derive(Deserialize)]
struct Refreshed {
    #[serde(rename = "_shards")]
    shards: Shards,
}

#[derive(Deserialize)]
struct Shards {
    failed: u32,
}

#[derive(Deserialize)]
struct Info {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    distribution: Option<String>,
}
