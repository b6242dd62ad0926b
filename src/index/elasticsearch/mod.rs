//! The index on Elasticsearch or OpenSearch.
//!
//! Every document has the id of its event or entity and entities an external version, so writing the same batch
//! again changes nothing; that is why the consumer group's offsets are enough here. Each item's own result is read:
//! nothing that was refused counts as applied.

mod bulk;
mod client;
mod documents;
mod faults;
mod templates;

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use elasticsearch::http::Method;
use serde::Deserialize;

use self::{client::Client, templates::INDICES};
use crate::{
    config::ElasticsearchSettings,
    fault::{Fault, FaultKind},
    log::{Position, StartAt},
    sink::{Applied, ApplyError, Claim, Rejection, Sink, SinkBatch, SinkHealth},
};

const PART: &str = "elasticsearch";

/// The index on an Elasticsearch or OpenSearch server.
pub struct EsIndex {
    client: Client,
    prefix: String,
    prepared: AtomicBool,
}

#[derive(Deserialize)]
struct Root {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    /// Only OpenSearch says this.
    #[serde(default)]
    distribution: Option<String>,
}

#[derive(Deserialize)]
struct Count {
    count: u64,
}

impl EsIndex {
    /// Makes the client; the server need not be up yet.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn connect(settings: &ElasticsearchSettings) -> Result<Self, Fault> {
        Ok(Self {
            client: Client::new(settings)?,
            prefix: settings.index_prefix.clone(),
            prepared: AtomicBool::new(false),
        })
    }

    async fn count(&self, index: &str) -> Result<(String, u64), Fault> {
        let alias = format!("{}{index}", self.prefix);
        let count: Count =
            self.client.read(&format!("counting {alias}"), &format!("/{alias}/_count")).await?;
        Ok((alias, count.count))
    }
}

#[async_trait]
impl Sink for EsIndex {
    fn name(&self) -> &'static str {
        PART
    }

    async fn prepare(&self) -> Result<(), Fault> {
        if !self.prepared.load(Ordering::Acquire) {
            templates::prepare(&self.client, &self.prefix).await?;
            self.prepared.store(true, Ordering::Release);
        }
        Ok(())
    }

    async fn claim(&self, _log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        let claim = |&partition| Claim { partition, epoch: 0, start: StartAt::Committed };
        Ok(partitions.iter().map(claim).collect())
    }

    async fn apply(&self, _log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        let rejected = unversionable(batch);
        if !rejected.is_empty() {
            return Err(ApplyError::Rejected(rejected));
        }
        self.prepare().await?;
        let documents = documents::documents(&self.prefix, batch);
        let outcome = bulk::write(&self.client, documents).await.inspect_err(|fault| {
            if fault.kind == FaultKind::Misconfigured {
                // Somebody may have deleted an index: look again before the next attempt.
                self.prepared.store(false, Ordering::Release);
            }
        })?;
        if outcome.rejected.is_empty() {
            return Ok(outcome.applied);
        }
        let mut rejected = outcome.rejected;
        // An event and its entity may both be refused.
        rejected.sort_by_key(|rejection| rejection.position);
        rejected.dedup_by_key(|rejection| rejection.position);
        Err(ApplyError::Rejected(rejected))
    }

    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(None)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        let aliases: Vec<String> = INDICES.iter().map(|(name, _)| format!("{}{name}", self.prefix)).collect();
        let path = format!("/{}/_refresh", aliases.join(","));
        self.client.call("refreshing the indices", Method::Post, &path, None).await.map(|_| ())
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        let root: Root = self.client.read("asking for the version", "/").await?;
        let counts = futures::future::try_join_all(INDICES.iter().map(|(name, _)| self.count(name))).await?;
        let product = match root.version.distribution.as_deref() {
            Some("opensearch") => "OpenSearch",
            _ => "Elasticsearch",
        };
        Ok(SinkHealth { version: format!("{product} {}", root.version.number), counts })
    }
}

/// An external version below zero fails the whole request it is in, so it never gets there.
fn unversionable(batch: &SinkBatch) -> Vec<Rejection> {
    batch
        .events
        .iter()
        .filter(|sink| sink.event.entidade.versao < 0)
        .map(|sink| Rejection {
            position: sink.position,
            reason: "entidade.versao is below zero: the row's time lies before 1970".to_owned(),
        })
        .collect()
}
