//! The index in Elasticsearch 7.17 to 9 or OpenSearch 2: every event, and the newest state of every entity.
//!
//! # Guarantee
//!
//! Applying a batch again changes nothing, whoever applies it: an event's document is *created* under the event's
//! id and never overwritten, an entity's document carries its `versao` as external version and is never replaced by
//! a lower one, nor by an equal one of the same event. A conflict is therefore the proof that the work was done before: it
//! is counted, not reported. Only where versions are equal it is first looked which event the document is of.
//! [`Sink::apply`] returns `Ok` only when the server has answered for every single document, and a document is
//! acknowledged after its translog is synced. Where to read on is the consumer group's affair: a batch that is
//! delivered again is harmless.
//!
//! # Documents
//!
//! | alias | document | `_id` |
//! |---|---|---|
//! | `eventos` | the event envelope as it stands in the log, and `processado_em` | the event's id |
//! | each table's name | the row's columns, and `versao`, `evento_id`, `evento`, `usuario`, `categoria`, `valor`, `timestamp`, `metadata` of the event that brought it, and `processado_em` | the row's key, or its digest where no server takes it as an id |
//!
//! The names are aliases of versioned indices (`leads` of `leads-000001`): an index whose mapping has to change is
//! built anew beside the old one and the alias moved, while readers and writers go on.
//!
//! Mappings are made from the tables' definitions, explicit and closed. What has no mapping stays in `_source`, so an
//! unknown column can neither clash with another nor fill the cluster's state. A column that is added to a definition
//! is added to the index, and the documents there are have no value in it until the index is rebuilt, as they have an earlier
//! one in a column that is read otherwise since (another `from` or `formerly`, another zone): its mapping's `_meta`
//! remembers what columns are made of, and which of them documents have otherwise. One whose type changed is refused until then,
//! but for a text that becomes the key, or a key that becomes a column: the index keeps it as words, or as one term, until it is
//! rebuilt. A process
//! with other definitions than an index was last prepared with writes nothing into it. A member of `metadata`, which
//! tables share, keeps its type.
//!
//! `refresh_interval` is 5 s: refreshing each second, the default, costs a backfill dearly, and whoever can't wait
//! calls [`Sink::make_visible`].

mod backoff;
mod bulk;
mod client;
mod dsl;
mod erase;
mod faults;
mod identity;
mod log_stream;
mod operation;
mod outcome;
mod reason;
mod rebuild;
mod scan;
mod schema;
mod search;
mod templates;
mod ties;
mod versions;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use chrono::Utc;
use futures::future::try_join_all;
use serde::Deserialize;
use uuid::Uuid;

use self::{client::Client, operation::Operation, templates::Names};
pub(crate) use self::{dsl::query as query_dsl, log_stream::LogStream};
use crate::{
    config::ElasticsearchSettings,
    domain::{Catalog, Table},
    fault::{Fault, FaultKind},
    identity::Identity,
    index::{
        EntityPage, Fields, FoundDocuments, Index, IndexName, Lacking, Rebuild, SearchAnswer, SearchError,
        SearchRequest, Stray, Unfilled, claims,
        documents::{self, Planned},
        fields::Indices,
        unknown_index,
    },
    log::Position,
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
};

/// What faults call this part.
const PART: &str = "elasticsearch";

/// The Elasticsearch or OpenSearch index.
#[derive(Debug)]
pub struct EsIndex {
    client: Arc<Client>,
    names: Arc<Names>,
    /// Remembered: whoever starts a sync prepares, and must not need the index for it each time.
    prepared: AtomicBool,
    /// The indices were once as this process's definitions say. Where one no longer is, a process with others has prepared it
    /// since, and this one writes no more.
    introduced: AtomicBool,
    /// The indices as they were asked for last: others are not prepared.
    met: Mutex<Option<Vec<Identity>>>,
    /// An alias was missing at the last write, or other indices were met: somebody changed them under a running drain.
    prepare_first: AtomicBool,
}

impl EsIndex {
    /// Makes the adapter; the server need not be up yet.
    ///
    /// # Errors
    /// When the settings can't be used: a prefix no index may have, a credential no header can carry.
    pub fn connect(settings: &ElasticsearchSettings, catalog: Catalog) -> Result<Self, Fault> {
        Ok(Self {
            names: Arc::new(Names::new(&settings.index_prefix, Indices::of(catalog))?),
            client: Arc::new(Client::new(settings)?),
            prepared: AtomicBool::new(false),
            introduced: AtomicBool::new(false),
            met: Mutex::default(),
            prepare_first: AtomicBool::new(false),
        })
    }

    /// Refuses where documents of these indices are made by the definitions of another process that began later.
    async fn check_columns(&self, indices: impl IntoIterator<Item = IndexName>) -> Result<(), Fault> {
        if self.introduced.load(Ordering::Relaxed) {
            for index in indices {
                schema::check_columns(&self.client, &self.names, index, &self.names.alias(index)).await?;
            }
        }
        Ok(())
    }

    /// What is put back may be of before a column was defined: it is prepared before it is written, and nobody with another
    /// definition has prepared it since.
    fn prepare_anew(&self) {
        self.prepared.store(false, Ordering::Relaxed);
        self.introduced.store(false, Ordering::Relaxed);
        self.prepare_first.store(true, Ordering::Relaxed);
    }

    async fn count(&self, index: IndexName) -> Result<(String, u64), Fault> {
        #[derive(Deserialize)]
        struct Count {
            count: u64,
        }
        let path = format!("{}/_count", self.names.alias(index));
        let counted: Count = self.client.get(&path, "counting documents").await?;
        Ok((index.to_string(), counted.count))
    }
}

#[async_trait]
impl Sink for EsIndex {
    fn name(&self) -> &'static str {
        PART
    }

    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        let Some(found) = identity::of(&self.client, &self.names).await? else {
            // Whoever asked begins anew, and makes what is missing.
            self.prepare_anew();
            return Err(identity::missing(self.client.origin()));
        };
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner).replace(found.clone());
        if met.is_some_and(|met| met != found) {
            self.prepare_anew();
        }
        Ok(found)
    }

    async fn prepare(&self) -> Result<(), Fault> {
        if self.prepared.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.check_columns(self.names.indices().names()).await?;
        schema::prepare(&self.client, &self.names).await?;
        self.introduced.store(true, Ordering::Relaxed);
        self.prepared.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn claim(&self, log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        identity::claim(&self.client, &self.names, log).await?;
        Ok(claims(partitions))
    }

    async fn apply(&self, _log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        if self.prepare_first.load(Ordering::Relaxed) {
            self.prepare().await?;
            self.prepare_first.store(false, Ordering::Relaxed);
        }
        let plan = documents::plan(batch, |index| self.names.fields(index), Utc::now());
        let all: Vec<_> = plan.documents.iter().collect();
        let written: BTreeSet<IndexName> = all.iter().map(|planned| planned.index).collect();
        self.check_columns(written).await?;
        let operation =
            |planned: &Planned<'_>| Operation::new(&self.names.alias(planned.index), plan.document(planned));
        let sent = match bulk::send(&self.client, &all, operation).await {
            Ok(sent) => sent,
            Err(error) => {
                if error.prepare_first {
                    self.prepared.store(false, Ordering::Relaxed);
                    self.prepare_first.store(true, Ordering::Relaxed);
                }
                return Err(error.fault.into());
            }
        };
        match sent.takes_nothing(&plan) {
            Some(fault) => Err(fault.into()),
            None => sent.outcome(plan.refused),
        }
    }

    fn takes_any_order(&self) -> bool {
        true
    }

    fn left_behind(&self) -> Option<&'static str> {
        Some("deleted documents, in the index's files until the server merges them away")
    }

    async fn discard(&self, events: &[SinkEvent]) -> Result<(), Fault> {
        erase::discard(&self.client, events, |index| Some(self.names.alias(index).into_owned())).await
    }

    async fn remove_events(&self, ids: &[Uuid]) -> Result<(), Fault> {
        erase::remove_events(&self.client, &self.names, ids).await
    }

    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(None)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        // A server takes 4 KiB of address.
        for aliases in self.names.all().chunks(20) {
            let path = format!("{}/_refresh", aliases.join(","));
            let refreshed: Refreshed = self.client.post(&path, "refreshing").await?;
            if refreshed.shards.failed > 0 {
                return Err(Fault::transient(
                    PART,
                    format!(
                        "refreshing on {}: {} shards failed",
                        self.client.origin(),
                        refreshed.shards.failed
                    ),
                    "look at the cluster's health; what was applied is safe and becomes visible when its shards are back",
                ));
            }
        }
        Ok(())
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        let info: Info = self.client.get("", "asking for the version").await?;
        let distribution = info.version.distribution.as_deref().unwrap_or("elasticsearch");
        let version = format!("{distribution} {}", info.version.number);
        Ok(SinkHealth { version, clock: None })
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        try_join_all(self.names.indices().names().map(|index| self.count(index))).await
    }
}

#[async_trait]
impl Index for EsIndex {
    async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchError> {
        if !self.names.indices().names().any(|index| index == request.index) {
            return Err(unknown_index(request.index));
        }
        let fields = self.fields(request.index).await;
        search::search(&self.client, &self.names, request, fields).await
    }

    async fn scan(&self, request: &SearchRequest) -> Result<FoundDocuments, SearchError> {
        if !self.names.indices().names().any(|index| index == request.index) {
            return Err(unknown_index(request.index));
        }
        let fields = self.fields(request.index).await;
        scan::scan(&self.client, &self.names, request, fields).await
    }

    async fn fields(&self, index: IndexName) -> &'static Fields {
        // Another process may have rebuilt it since. A server that does not answer is told of by whatever is asked next.
        if let Err(fault) = schema::look_at(&self.client, &self.names, index).await {
            tracing::debug!(error = %fault, %index, "the mapping is not known");
        }
        self.names.fields(index)
    }

    async fn versions(&self, table: Table, after: Option<&str>, limit: u32) -> Result<EntityPage, Fault> {
        let fields = self.fields(IndexName::Entities(table)).await;
        versions::page(&self.client, &self.names, table, fields, after, limit).await
    }

    async fn remove_strays(&self, table: Table, strays: &[Stray]) -> Result<(), Fault> {
        erase::strays(&self.client, &self.names, table, strays).await
    }

    async fn lacking_events(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, Fault> {
        versions::lacking_events(&self.client, &self.names, ids).await
    }

    async fn erase(&self, table: Table, keys: &[String]) -> Result<u64, Fault> {
        erase::erase(&self.client, &self.names, table, keys).await
    }

    async fn unfilled(&self) -> Result<Vec<Unfilled>, Fault> {
        let of_index = self.names.indices().names().map(async |index| {
            let made = schema::look_at(&self.client, &self.names, index).await?;
            let columns = made.unfilled(&self.names.layout(index).columns);
            Ok::<_, Fault>(Unfilled::until_rebuilt(index, columns))
        });
        let found = try_join_all(of_index).await?;
        Ok(found.into_iter().filter(|lack| !lack.columns.is_empty()).collect())
    }

    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Fault> {
        rebuild::under_way(&self.client, &self.names).await
    }

    async fn begin_rebuild(&self, index: IndexName, erasures: Uuid) -> Result<Rebuild, Fault> {
        self.check_columns([index]).await?;
        // Not prepared as a whole: an index whose columns' types have changed can't be, and is rebuilt for that.
        schema::ensure(&self.client, &self.names.layout(index)).await?;
        rebuild::begin(&self.client, &self.names, index, erasures).await
    }

    fn rebuild_sink(&self, rebuild: &Rebuild) -> Arc<dyn Sink> {
        Arc::new(rebuild::RebuildSink::new(self.client.clone(), self.names.clone(), rebuild.index))
    }

    async fn lacking_in(&self, rebuild: &Rebuild, after: Option<&str>) -> Result<Lacking, Fault> {
        versions::lacking_in(&self.client, &self.names, rebuild, after).await
    }

    async fn serve_rebuilt(&self, rebuild: &Rebuild) -> Result<(), Fault> {
        self.check_columns([rebuild.index]).await?;
        rebuild::serve(&self.client, &self.names, rebuild).await?;
        // How columns are searched may be defined otherwise than when it was begun.
        match schema::prepare_index(&self.client, &self.names, rebuild.index).await {
            // It serves all the same, and is refused by whoever prepares next.
            Err(fault) if fault.kind == FaultKind::Misconfigured => {
                tracing::warn!(index = %rebuild.index, error = %fault, "the index that was made anew is not as it is defined now");
                self.prepared.store(false, Ordering::Relaxed);
                Ok(())
            }
            prepared => prepared,
        }
    }

    async fn serves_what_was_built(&self, rebuild: &Rebuild) -> Result<bool, Fault> {
        rebuild::serves_what_was_built(&self.client, &self.names, rebuild).await
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
