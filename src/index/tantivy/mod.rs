//! The embedded index: tantivy in a folder, answering what the search servers answer.
//!
//! # Guarantee
//!
//! The same as the Elasticsearch adapter's: an event is written once and an entity only replaced by a higher
//! version, whoever applies a batch and how often. What is there, and in which version, is asked of the index
//! itself, so it holds across restarts. [`Sink::apply`] returns when the commit is on disk and visible. Where to
//! read on is the consumer group's affair.
//!
//! # Folder
//!
//! Every index is a *volume*, a folder of tantivy's like `leads-000001`; `leads.json` names the one that serves and
//! the one that is being built to replace it. One process may write: it takes a lock with its first write. Any
//! number may read beside it.

mod counts;
mod schema;
mod shelf;
mod translate;
mod trouble;
mod volume;

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::Utc;
use uuid::Uuid;

use self::{
    shelf::{Building, Entry},
    trouble::Trouble,
    volume::Volume,
};
use super::{Index, IndexName, Rebuild, SearchAnswer, SearchError, SearchRequest, claims, documents};
use crate::{
    fault::Fault,
    log::Position,
    private_files,
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkHealth},
};

/// What faults call this part.
const PART: &str = "tantivy";

/// The embedded index.
#[derive(Clone)]
pub struct TantivyIndex {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    /// The lock of the one who writes.
    lock: Mutex<Option<File>>,
    open: Mutex<HashMap<String, Arc<Volume>>>,
    /// Held while it is decided which volume is written, and while it is written: a swap waits for it.
    writing: Mutex<()>,
}

impl TantivyIndex {
    /// An index in a folder, which is made by [`Sink::prepare`]; nothing is touched yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let shared = Shared {
            folder: folder.into(),
            lock: Mutex::default(),
            open: Mutex::default(),
            writing: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs `work` where it may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Fault> {
        let shared = self.shared.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            work(&shared).map_err(|trouble| trouble.into_fault(doing, &shared.folder))
        });
        outcome.await.unwrap_or_else(|panic| {
            Err(Fault::transient(
                PART,
                format!("{doing} panicked: {panic}"),
                "it is tried again; report this",
            ))
        })
    }
}

impl Shared {
    fn entry(&self, index: IndexName) -> Result<Entry, Trouble> {
        shelf::read(&self.folder, index)?.ok_or(Trouble::NotMade(index))
    }

    fn serving(&self, index: IndexName) -> Result<Arc<Volume>, Trouble> {
        let entry = self.entry(index)?;
        self.volume(index, &entry.serving)
    }

    fn volume(&self, index: IndexName, name: &str) -> Result<Arc<Volume>, Trouble> {
        let mut open = locked(&self.open);
        if let Some(volume) = open.get(name) {
            return Ok(volume.clone());
        }
        let volume = Arc::new(Volume::open(&self.folder.join(name), index)?);
        open.insert(name.to_owned(), volume.clone());
        Ok(volume)
    }

    /// Takes the right to write, for as long as this process lives.
    fn hold(&self) -> Result<(), Trouble> {
        let mut lock = locked(&self.lock);
        if lock.is_none() {
            private_files::folder(&self.folder)?;
            *lock = Some(shelf::hold(&self.folder)?.map_err(Trouble::Held)?);
        }
        Ok(())
    }

    fn prepare(&self) -> Result<(), Trouble> {
        for index in IndexName::ALL {
            if shelf::read(&self.folder, index)?.is_none() {
                self.hold()?;
                let entry = Entry::first(index);
                self.volume(index, &entry.serving)?;
                shelf::write(&self.folder, index, &entry)?;
            }
        }
        Ok(())
    }

    /// Writes documents into the serving volumes, or all into the one of a rebuild.
    fn write(
        &self,
        mut documents: Vec<documents::Document>,
        only: Option<&Rebuild>,
    ) -> Result<Applied, Trouble> {
        self.hold()?;
        let _writing = locked(&self.writing);
        let mut applied = Applied::default();
        for index in IndexName::ALL {
            let volume = match only {
                Some(rebuild) if rebuild.index == index => self.building(rebuild)?,
                Some(_) => continue,
                None => self.serving(index)?,
            };
            let of_index: Vec<_> = documents.extract_if(.., |document| document.index == index).collect();
            let more = if of_index.is_empty() { Applied::default() } else { volume.write(&of_index)? };
            applied.inserted += more.inserted;
            applied.duplicates += more.duplicates;
            applied.entities += more.entities;
            applied.stale += more.stale;
        }
        Ok(applied)
    }

    fn building(&self, rebuild: &Rebuild) -> Result<Arc<Volume>, Trouble> {
        let building = self.entry(rebuild.index)?.building.filter(|building| building.id == rebuild.id);
        self.volume(rebuild.index, &building.ok_or(Trouble::NoRebuild(rebuild.id))?.volume)
    }

    fn begin_rebuild(&self, index: IndexName) -> Result<Rebuild, Trouble> {
        self.hold()?;
        let _writing = locked(&self.writing);
        let mut entry = self.entry(index)?;
        let building = if let Some(building) = &entry.building {
            building.clone()
        } else {
            shelf::tidy(&self.folder, index, &entry)?;
            let building =
                Building { id: Uuid::now_v7(), volume: entry.next_volume(index), started_at: Utc::now() };
            self.volume(index, &building.volume)?;
            entry.building = Some(building.clone());
            shelf::write(&self.folder, index, &entry)?;
            building
        };
        Ok(rebuild_of(index, &entry, &building))
    }

    fn rebuilds(&self) -> Result<Vec<Rebuild>, Trouble> {
        let mut rebuilds = Vec::new();
        for index in IndexName::ALL {
            if let Some(entry) = shelf::read(&self.folder, index)?
                && let Some(building) = &entry.building
            {
                rebuilds.push(rebuild_of(index, &entry, building));
            }
        }
        Ok(rebuilds)
    }

    fn serve_rebuilt(&self, rebuild: &Rebuild) -> Result<(), Trouble> {
        // Before it is asked who may write: to somebody who only looks on, a rebuild that is over is over.
        self.building(rebuild)?;
        self.hold()?;
        let _writing = locked(&self.writing);
        let mut entry = self.entry(rebuild.index)?;
        let building = entry.building.clone().filter(|building| building.id == rebuild.id);
        entry.serving = building.ok_or(Trouble::NoRebuild(rebuild.id))?.volume;
        shelf::write(&self.folder, rebuild.index, &entry)?;
        Ok(())
    }

    /// Forgets a rebuild and removes what does not serve.
    fn end_rebuild(&self, rebuild: &Rebuild) -> Result<(), Trouble> {
        let is_over =
            |entry: &Entry| entry.building.as_ref().is_none_or(|building| building.id != rebuild.id);
        if is_over(&self.entry(rebuild.index)?) {
            return Ok(());
        }
        self.hold()?;
        let _writing = locked(&self.writing);
        let mut entry = self.entry(rebuild.index)?;
        if is_over(&entry) {
            return Ok(());
        }
        entry.building = None;
        shelf::write(&self.folder, rebuild.index, &entry)?;
        let prefix = format!("{}-", rebuild.index);
        locked(&self.open).retain(|name, volume| {
            let stays = !name.starts_with(&prefix) || *name == entry.serving;
            if !stays {
                volume.close();
            }
            stays
        });
        shelf::tidy(&self.folder, rebuild.index, &entry)?;
        Ok(())
    }
}

fn rebuild_of(index: IndexName, entry: &Entry, building: &Building) -> Rebuild {
    Rebuild {
        id: building.id,
        index,
        started_at: building.started_at,
        serves: entry.serving == building.volume,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever a holder that panicked has left is on disk as a whole or not at all.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for TantivyIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TantivyIndex").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

async fn apply(
    index: &TantivyIndex,
    batch: &SinkBatch,
    only: Option<Rebuild>,
) -> Result<Applied, ApplyError> {
    let plan = documents::plan(batch);
    let applied = index
        .blocking("writing documents", move |shared| shared.write(plan.documents, only.as_ref()))
        .await?;
    if plan.refused.is_empty() { Ok(applied) } else { Err(ApplyError::Rejected(plan.refused)) }
}

#[async_trait]
impl Sink for TantivyIndex {
    fn name(&self) -> &'static str {
        PART
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.blocking("preparing the index", Shared::prepare).await
    }

    async fn claim(&self, _log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        Ok(claims(partitions))
    }

    async fn apply(&self, _log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        apply(self, batch, None).await
    }

    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(None)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        self.blocking("refreshing the index", |shared| {
            for index in IndexName::ALL {
                shared.serving(index)?.refresh()?;
            }
            Ok(())
        })
        .await
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        let counts = self.blocking("counting documents", |shared| {
            let mut counts = Vec::new();
            for index in IndexName::ALL {
                let volume = shared.serving(index)?;
                volume.refresh()?;
                counts.push((index.to_string(), volume.count()));
            }
            Ok(counts)
        });
        let version = format!("tantivy in {}", self.shared.folder.display());
        Ok(SinkHealth { version, clock: None, counts: counts.await? })
    }
}

#[async_trait]
impl Index for TantivyIndex {
    async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchError> {
        let question = request.question(Utc::now())?;
        let request = request.clone();
        let answer = self.blocking("searching", move |shared| {
            let volume = shared.serving(request.index)?;
            volume.refresh()?;
            Ok(volume.search(&request, &question.query, &question.counted)?)
        });
        Ok(answer.await?)
    }

    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Fault> {
        self.blocking("looking for rebuilds", Shared::rebuilds).await
    }

    async fn begin_rebuild(&self, index: IndexName) -> Result<Rebuild, Fault> {
        self.blocking("beginning a rebuild", move |shared| shared.begin_rebuild(index)).await
    }

    fn rebuild_sink(&self, rebuild: &Rebuild) -> Arc<dyn Sink> {
        Arc::new(RebuildSink { index: self.clone(), rebuild: rebuild.clone() })
    }

    async fn serve_rebuilt(&self, rebuild: &Rebuild) -> Result<(), Fault> {
        let rebuild = rebuild.clone();
        self.blocking("letting the new index serve", move |shared| shared.serve_rebuilt(&rebuild)).await
    }

    async fn end_rebuild(&self, rebuild: &Rebuild) -> Result<(), Fault> {
        let rebuild = rebuild.clone();
        self.blocking("ending a rebuild", move |shared| shared.end_rebuild(&rebuild)).await
    }
}

/// Writes into the volume that is being built.
struct RebuildSink {
    index: TantivyIndex,
    rebuild: Rebuild,
}

#[async_trait]
impl Sink for RebuildSink {
    fn name(&self) -> &'static str {
        PART
    }

    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn claim(&self, _log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        Ok(claims(partitions))
    }

    async fn apply(&self, _log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        apply(&self.index, batch, Some(self.rebuild.clone())).await
    }

    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(None)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        self.index.health().await
    }
}
