//! The embedded index: tantivy in a folder, answering what the search servers answer.
//!
//! # Guarantee
//!
//! The same as the Elasticsearch adapter's: an event is written once and an entity never replaced by a lower version,
//! whoever applies a batch and how often. What is there, and in which version, is asked of the index
//! itself, so it holds across restarts. [`Sink::apply`] returns when the commit is on disk and visible. Where to
//! read on is the consumer group's affair; how far the documents reach stands beside them, too, so that a folder that was
//! restored from an older copy is recognized, and filled again from there.
//!
//! # Folder
//!
//! Every index is a *generation*, a folder of tantivy's like `leads-000001`; `leads.json` names the one that serves and
//! the one that is being built to replace it. One process may write: it takes a lock with its first write. Any
//! number may read beside it.

mod counts;
mod directory;
mod error;
mod generation;
mod prepare;
mod refill;
mod schema;
mod translate;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use chrono::Utc;
use uuid::Uuid;

use self::{
    directory::{Building, Entry, Offsets},
    error::{IndexError, UP_TO_DATE},
    generation::{Generation, Rewriting},
    prepare::each,
};
use super::{
    EntityPage, Fields, FoundDocuments, Hit, Index, IndexName, Lacking, Question, Rebuild, SearchAnswer,
    SearchError, SearchRequest, Stray, Unfilled, claims, documents, fields::Indices, unknown_index,
};
use crate::{
    data_folder::DataFolder,
    domain::{Catalog, Table},
    fault::{Fault, FaultKind},
    identity::Identity,
    lock_file::Held,
    log::{Position, StartAt},
    next_step::{NextStep, SAME_DEFINITIONS},
    private_files::{self, OpenFolder},
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth, Span},
    streaming,
};

/// Documents of two indices that are compared at a time.
const COMPARED: usize = 5_000;

/// What faults call this part.
const PART: &str = "tantivy";

/// The embedded index.
#[derive(Clone)]
pub struct TantivyIndex {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    /// What the folder is in, where other parts keep their files there, too.
    data_folder: Option<Arc<DataFolder>>,
    /// Which folder that is of which something is open; nothing before it was made.
    place: Mutex<Option<OpenFolder>>,
    indices: Indices,
    /// The lock of the one who writes.
    lock: Mutex<Option<Held>>,
    open: Mutex<HashMap<String, Arc<Generation>>>,
    /// The indices were once as this process's definitions say; see [`IndexError::OtherDefinition`].
    introduced: AtomicBool,
    /// Held while it is decided which generation is written, and while it is written: a swap waits for it.
    writing: Mutex<()>,
}

impl TantivyIndex {
    /// An index in a folder, which is made by [`Sink::prepare`]; nothing is touched yet.
    pub fn new(folder: impl Into<PathBuf>, catalog: Catalog) -> Self {
        Self::open(folder.into(), None, catalog)
    }

    /// As [`TantivyIndex::new`], in the data folder; nothing is answered or written once that was replaced.
    pub fn in_folder(data_folder: Arc<DataFolder>, catalog: Catalog) -> Self {
        Self::open(data_folder.path().join("index"), Some(data_folder), catalog)
    }

    fn open(folder: PathBuf, data_folder: Option<Arc<DataFolder>>, catalog: Catalog) -> Self {
        let shared = Shared {
            folder,
            data_folder,
            place: Mutex::default(),
            indices: Indices::of(catalog),
            lock: Mutex::default(),
            open: Mutex::default(),
            introduced: AtomicBool::default(),
            writing: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The generation that a request is asked of, and what it asks.
    async fn asked(&self, request: &SearchRequest) -> Result<(Arc<Generation>, Question), SearchError> {
        if !self.shared.indices.names().any(|index| index == request.index) {
            return Err(unknown_index(request.index));
        }
        let index = request.index;
        let serving = self.blocking("searching", move |shared| {
            let generation = shared.searched(index)?;
            generation.refresh()?;
            Ok(generation)
        });
        let serving = serving.await;
        let fields = serving.as_ref().map_or_else(|_| self.shared.indices.fields(index), |open| open.fields);
        // What is wrong with a question is told whether the index answers or not.
        let question = request.question(fields)?;
        Ok((serving?, question))
    }

    /// Runs `work` where it may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, Fault> {
        let shared = self.shared.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            shared.check_place()?;
            work(&shared).map_err(|error| error.into_fault(doing, &shared.folder))
        });
        outcome.await.unwrap_or_else(|_| {
            Err(Fault::transient(
                PART,
                format!("{doing} panicked"),
                "it is tried again; report this with the log lines before it",
            ))
        })
    }
}

impl Shared {
    /// Refuses once the data folder was replaced, and forgets what is open of an index folder that was, so that what is
    /// answered and written is in the files that are there now.
    fn check_place(&self) -> Result<(), Fault> {
        let checked = self.data_folder.as_ref().map_or(Ok(()), |folder| folder.check_place());
        let mut place = locked(&self.place);
        let is_other = match &*place {
            Some(opened) => !opened.is_at(&self.folder).map_err(|error| {
                IndexError::from(error).into_fault("looking whether the index is in place", &self.folder)
            })?,
            None => false,
        };
        if is_other || self.data_folder.as_ref().is_some_and(|folder| folder.is_replaced()) {
            *locked(&self.lock) = None;
            locked(&self.open).clear();
            self.introduced.store(false, Ordering::Relaxed);
            *place = None;
        }
        checked?;
        if place.is_none() {
            *place = OpenFolder::open(&self.folder).ok();
        }
        Ok(())
    }

    fn entry(&self, index: IndexName) -> Result<Entry, IndexError> {
        directory::read(&self.folder, index)?.ok_or(IndexError::NotMade(index))
    }

    fn serving(&self, index: IndexName) -> Result<Arc<Generation>, IndexError> {
        let mut entry = self.entry(index)?;
        loop {
            match self.generation(index, &entry.serving) {
                // Another may have taken over between the two looks, and this one be removed while it is opened.
                Err(error) => {
                    let now = self.entry(index)?;
                    if now.serving == entry.serving {
                        return Err(error);
                    }
                    entry = now;
                }
                found => return found,
            }
        }
    }

    /// A generation that is there. Whoever only reads must not make one up that was deleted: it would be empty, and
    /// pass for the one that was filled.
    fn generation(&self, index: IndexName, name: &str) -> Result<Arc<Generation>, IndexError> {
        if !self.is_there(name) {
            return Err(IndexError::NotMade(index));
        }
        let fields = self.indices.fields(index);
        self.opened(name, |folder| Generation::open(folder, index, fields))
    }

    /// What can be asked of an index as it is; before it is made, what its definition says.
    fn fields(&self, index: IndexName) -> &'static Fields {
        self.serving(index).map_or_else(|_| self.indices.fields(index), |generation| generation.fields)
    }

    /// The fields that documents are written into.
    fn written(&self, index: IndexName, only: Option<&Rebuild>) -> &'static Fields {
        match only.filter(|rebuild| rebuild.index == index) {
            Some(rebuild) => self
                .building(rebuild)
                .map_or_else(|_| self.indices.fields(index), |generation| generation.fields),
            None => self.fields(index),
        }
    }

    fn is_there(&self, generation: &str) -> bool {
        self.folder.join(generation).join("meta.json").is_file()
    }

    /// A generation, made with these fields where it is missing.
    fn make(
        &self,
        index: IndexName,
        name: &str,
        fields: &'static Fields,
    ) -> Result<Arc<Generation>, IndexError> {
        self.opened(name, |folder| Generation::make(folder, index, fields))
    }

    fn opened(
        &self,
        name: &str,
        opening: impl FnOnce(&Path) -> Result<Generation, IndexError>,
    ) -> Result<Arc<Generation>, IndexError> {
        let mut open = locked(&self.open);
        if let Some(generation) = open.get(name) {
            return Ok(generation.clone());
        }
        let generation = Arc::new(opening(&self.folder.join(name))?);
        open.insert(name.to_owned(), generation.clone());
        Ok(generation)
    }

    /// Of every index; a copy of the folder is another.
    fn identities(&self) -> Result<Vec<Identity>, IndexError> {
        let identity = |index| {
            let entry = self.entry(index)?;
            if !self.is_there(&entry.serving) {
                return Err(IndexError::NotMade(index));
            }
            let place = self.folder.join(index.as_str()).display().to_string();
            Ok(Identity { place, id: entry.id.to_string() })
        };
        self.indices.names().map(identity).collect()
    }

    /// The ids of every index; one of them is another where that index was made anew.
    fn ids(&self) -> Result<Vec<Uuid>, IndexError> {
        self.indices.names().map(|index| Ok(self.entry(index)?.id)).collect()
    }

    /// Where these indices stand in a log; nothing where they were never filled from it.
    fn reached(&self, log: &str) -> Result<Vec<Position>, IndexError> {
        let Some(offsets) = directory::offsets(&self.folder)?.filter(|offsets| offsets.log == log) else {
            return Ok(Vec::new());
        };
        Ok(if offsets.indices == self.ids()? { offsets.next } else { Vec::new() })
    }

    /// Remembers where the indices stand, once the documents are on disk.
    fn advance(&self, log: &str, spans: &[Span]) -> Result<(), IndexError> {
        let mut next = self.reached(log)?;
        let is_prepared = self.introduced.load(Ordering::Relaxed);
        for span in spans {
            // An older copy that was put back under this process lacks what is before: the next run reads that again.
            let ends_before = |at: &Position| at.partition == span.partition && at.offset < span.first;
            if !is_prepared && next.iter().any(ends_before) {
                continue;
            }
            next.retain(|at| at.partition != span.partition);
            next.push(Position { partition: span.partition, offset: span.next });
        }
        next.sort_unstable();
        let offsets = Offsets { log: log.to_owned(), indices: self.ids()?, next };
        Ok(directory::keep_offsets(&self.folder, &offsets)?)
    }

    /// Takes the right to write, and keeps the other threads of this process from writing: them first, so that a search that
    /// gives the right back takes it from none that writes.
    fn write_lock(&self) -> Result<MutexGuard<'_, ()>, IndexError> {
        let writing = locked(&self.writing);
        self.hold()?;
        Ok(writing)
    }

    /// Takes the right to write, for as long as this process lives.
    fn hold(&self) -> Result<(), IndexError> {
        let mut lock = locked(&self.lock);
        if lock.is_none() {
            private_files::folder(&self.folder)?;
            *lock = Some(directory::hold(&self.folder)?.map_err(IndexError::Held)?);
            drop(lock);
            // Not with the lock in hand: who looks at the place takes them in the other order.
            let mut place = locked(&self.place);
            if place.is_none() {
                *place = Some(OpenFolder::open(&self.folder)?);
            }
        }
        Ok(())
    }

    /// Forgets and removes the generations that nothing names.
    fn tidy(&self, index: IndexName, entry: &Entry) -> Result<(), IndexError> {
        let prefix = format!("{index}-");
        locked(&self.open).retain(|name, generation| {
            let stays = !name.starts_with(&prefix) || entry.names(name);
            if !stays {
                generation.close();
            }
            stays
        });
        Ok(directory::tidy(&self.folder, index, entry)?)
    }

    /// Writes documents into the serving generations, or all into the one of a rebuild.
    fn write(
        &self,
        mut documents: Vec<documents::Document>,
        only: Option<&Rebuild>,
    ) -> Result<Applied, IndexError> {
        let _writing = self.write_lock()?;
        let mut indices: Vec<IndexName> = match only {
            Some(rebuild) => vec![rebuild.index],
            None => documents.iter().map(|document| document.index).collect(),
        };
        indices.sort_unstable();
        indices.dedup();
        let mut applied = Applied::default();
        for index in indices {
            let generation = match only {
                Some(rebuild) => self.building(rebuild)?,
                None => {
                    // What was put back under this process may be of another definition, or an earlier build.
                    if !self.introduced.load(Ordering::Relaxed) {
                        // Its documents are made anew from the events.
                        each([IndexName::Eventos, index], |index| self.bring_up_to_date(index))?;
                    }
                    self.check_definition(index, &self.entry(index)?)?;
                    self.serving(index)?
                }
            };
            let of_index: Vec<_> = documents.extract_if(.., |document| document.index == index).collect();
            let more = if of_index.is_empty() { Applied::default() } else { generation.write(&of_index)? };
            applied.inserted += more.inserted;
            applied.duplicates += more.duplicates;
            applied.entities += more.entities;
            applied.stale += more.stale;
        }
        Ok(applied)
    }

    /// Removes what a process left that was killed as it wrote: somebody who is erased may be in it. Not where one writes, which
    /// does so itself.
    fn remove_leftovers(&self) -> Result<(), IndexError> {
        let _writing = locked(&self.writing);
        if locked(&self.lock).is_some() {
            return Ok(());
        }
        for index in self.indices.names() {
            let entry = self.entry(index)?;
            for name in entry.generations() {
                let generation = self.generation(index, name)?;
                if generation.leftovers()?.is_empty() {
                    continue;
                }
                match self.hold() {
                    Err(IndexError::Held(_)) => return Ok(()),
                    held => held?,
                }
                let removed = generation.remove_leftovers();
                // Given back: whoever only prepares keeps nobody from writing.
                *locked(&self.lock) = None;
                removed?;
            }
        }
        Ok(())
    }

    /// Removes what these queries find from every generation, or from the one of a rebuild; see [`Generation::remove`].
    /// Entities stay until their events are gone: nothing else tells whose those are. What is not up to date is brought there
    /// first, because nobody may have drained or searched since, and all of it while the events are there that it is made of.
    fn remove(
        &self,
        only: Option<&Rebuild>,
        rewriting: Rewriting,
        queries: impl Fn(IndexName, &Generation) -> tantivy::Result<Vec<Box<dyn tantivy::query::Query>>>,
    ) -> Result<u64, IndexError> {
        let _writing = self.write_lock()?;
        let outdated = match only {
            // The generations that can be opened are looked at all the same.
            None => each(self.indices.names(), |index| self.bring_up_to_date(index)).err(),
            Some(_) => None,
        };
        let (mut removed, mut failed) = (0, None);
        for index in self.indices.names() {
            let generations = match only {
                Some(rebuild) if rebuild.index == index => vec![self.building(rebuild)],
                Some(_) => Vec::new(),
                None => match self.entry(index) {
                    Ok(entry) => {
                        // Of a rebuild that was killed as it ended, which everybody may be in.
                        if rewriting == Rewriting::Always
                            && let Err(error) = self.tidy(index, &entry)
                        {
                            failed = failed.or(Some(error));
                        }
                        entry.generations().map(|name| self.generation(index, name)).collect()
                    }
                    Err(error) => vec![Err(error)],
                },
            };
            let remove =
                |generation: Arc<Generation>| Ok(generation.remove(queries(index, &generation)?, rewriting)?);
            for generation in generations {
                match generation.and_then(remove) {
                    Ok(count) => removed += count,
                    // It keeps none of the others from being looked at.
                    Err(error) => _ = failed.get_or_insert(error),
                }
            }
            if index == IndexName::Eventos && failed.is_some() {
                break;
            }
        }
        outdated.or(failed).map_or(Ok(removed), Err)
    }

    fn building(&self, rebuild: &Rebuild) -> Result<Arc<Generation>, IndexError> {
        let building = self.entry(rebuild.index)?.building.filter(|building| building.id == rebuild.id);
        self.generation(rebuild.index, &building.ok_or(IndexError::NoRebuild(rebuild.id))?.generation)
    }

    /// Refuses where a process with another definition has made the documents anew since this one prepared the index.
    fn check_definition(&self, index: IndexName, entry: &Entry) -> Result<(), IndexError> {
        let columns = entry.made_otherwise(index, &entry.serving);
        if columns.is_empty() || !self.introduced.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(IndexError::OtherDefinition { index, columns })
    }

    fn begin_rebuild(&self, index: IndexName, erasures: Uuid) -> Result<Rebuild, IndexError> {
        let _writing = self.write_lock()?;
        let mut entry = self.entry(index)?;
        self.check_definition(index, &entry)?;
        let building = match entry.building.clone() {
            Some(building) if self.goes_on(index, &entry, &building.generation) => building,
            _ => self.begin_anew(index, &mut entry, erasures)?,
        };
        Ok(rebuild_of(index, &entry, &building))
    }

    /// Whether a rebuild into this generation can be joined. What another definition began has columns that this one would
    /// fill otherwise, or could not write at all.
    fn goes_on(&self, index: IndexName, entry: &Entry, generation: &str) -> bool {
        generation == entry.serving
            || (entry.made_otherwise(index, generation).is_empty()
                && self.generation(index, generation).is_ok())
    }

    /// Begins to build an index by this process's definition; what was being built is removed.
    fn begin_anew(
        &self,
        index: IndexName,
        entry: &mut Entry,
        erasures: Uuid,
    ) -> Result<Building, IndexError> {
        // What was left before it was named, by a process that ended or a disk that was full, is no beginning.
        self.tidy(index, entry)?;
        let building = Building {
            id: Uuid::now_v7(),
            generation: entry.next_generation(index),
            started_at: Utc::now(),
            erasures,
            columns: Some(index.columns()),
        };
        self.make(index, &building.generation, self.indices.fields(index))?;
        entry.building = Some(building.clone());
        directory::write(&self.folder, index, entry)?;
        self.tidy(index, entry)?;
        Ok(building)
    }

    fn unfilled(&self) -> Result<Vec<Unfilled>, IndexError> {
        let mut unfilled = Vec::new();
        for index in self.indices.names() {
            let Some(entry) = directory::read(&self.folder, index)? else { continue };
            // Whoever prepares the index fills these, which takes a while where it is big.
            let columns = entry.made_otherwise(index, &entry.serving);
            let next_step = if self.introduced.load(Ordering::Relaxed) {
                SAME_DEFINITIONS.into()
            } else {
                format!("{UP_TO_DATE}; one that was just started is at it").into()
            };
            unfilled.push(Unfilled::until_rebuilt(index, entry.unfilled));
            unfilled.push(Unfilled { index, columns, next_step });
        }
        unfilled.retain(|lack| !lack.columns.is_empty());
        Ok(unfilled)
    }

    fn rebuilds(&self) -> Result<Vec<Rebuild>, IndexError> {
        let mut rebuilds = Vec::new();
        for index in self.indices.names() {
            if let Some(entry) = directory::read(&self.folder, index)? {
                rebuilds.extend(rebuild_in(index, &entry));
            }
        }
        Ok(rebuilds)
    }

    fn lacking_in(&self, rebuild: &Rebuild, after: Option<&str>) -> Result<Lacking, IndexError> {
        let built = self.building(rebuild)?;
        let serving = match self.serving(rebuild.index) {
            Err(IndexError::Outdated { .. } | IndexError::NotMade(_)) => return Ok(Lacking::default()),
            serving => serving?,
        };
        serving.refresh()?;
        built.refresh()?;
        let page = serving.versions(after, COMPARED)?;
        let next = page.last().filter(|_| page.len() == COMPARED).map(|(id, _)| id.clone());
        let mut documents = Vec::new();
        for id in built.lacking(page.into_iter().map(|(id, _)| id).collect())? {
            // Whoever removed it meanwhile had it lost by nobody.
            if let Some(source) = serving.source(&id)? {
                let source = serde_json::from_slice(&source).map_err(std::io::Error::from)?;
                documents.extend(Hit::of(id, source));
            }
        }
        Ok(Lacking { documents, next })
    }

    fn serve_rebuilt(&self, rebuild: &Rebuild) -> Result<(), IndexError> {
        // Before it is asked who may write: to somebody who only looks on, a rebuild that is over is over.
        self.building(rebuild)?;
        let _writing = self.write_lock()?;
        let mut entry = self.entry(rebuild.index)?;
        let building = entry.building.clone().filter(|building| building.id == rebuild.id);
        let building = building.ok_or(IndexError::NoRebuild(rebuild.id))?;
        self.check_definition(rebuild.index, &entry)?;
        entry.serving = building.generation;
        entry.columns = building.columns;
        entry.unfilled.clear();
        directory::write(&self.folder, rebuild.index, &entry)?;
        Ok(())
    }

    fn serves_what_was_built(&self, rebuild: &Rebuild) -> Result<bool, IndexError> {
        let entry = self.entry(rebuild.index)?;
        let is_served =
            rebuild_in(rebuild.index, &entry).is_some_and(|one| one.id == rebuild.id && one.serves);
        Ok(is_served || entry.rebuilt_by == Some(rebuild.id))
    }

    /// Forgets a rebuild and removes what does not serve.
    fn end_rebuild(&self, rebuild: &Rebuild) -> Result<(), IndexError> {
        let is_over =
            |entry: &Entry| entry.building.as_ref().is_none_or(|building| building.id != rebuild.id);
        if is_over(&self.entry(rebuild.index)?) {
            return Ok(());
        }
        let _writing = self.write_lock()?;
        let mut entry = self.entry(rebuild.index)?;
        if is_over(&entry) {
            return Ok(());
        }
        if rebuild_in(rebuild.index, &entry).is_some_and(|rebuild| rebuild.serves) {
            entry.rebuilt_by = Some(rebuild.id);
        }
        entry.building = None;
        directory::write(&self.folder, rebuild.index, &entry)?;
        self.tidy(rebuild.index, &entry)
    }
}

/// The rebuild that is under way.
fn rebuild_in(index: IndexName, entry: &Entry) -> Option<Rebuild> {
    Some(rebuild_of(index, entry, entry.building.as_ref()?))
}

fn rebuild_of(index: IndexName, entry: &Entry, building: &Building) -> Rebuild {
    Rebuild {
        id: building.id,
        index,
        started_at: building.started_at,
        serves: entry.serving == building.generation,
        erasures: building.erasures,
        differing: Vec::new(),
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
    let plan = documents::plan(batch, |name| index.shared.written(name, only.as_ref()), Utc::now());
    let documents = plan.documents.iter().map(|planned| plan.document(planned)).collect();
    let applied =
        index.blocking("writing documents", move |shared| shared.write(documents, only.as_ref())).await?;
    if plan.refused.is_empty() { Ok(applied) } else { Err(ApplyError::Rejected(plan.refused)) }
}

async fn discard(index: &TantivyIndex, events: &[SinkEvent], only: Option<Rebuild>) -> Result<(), Fault> {
    let documents: Vec<(IndexName, String)> = documents::brought_by(events).collect();
    // Once an entity is gone nothing tells whose its other events are: an erasure that was interrupted would leave them for ever.
    let of_entities: Vec<(String, String)> = events
        .iter()
        .filter(|item| item.table.is_some())
        .map(|item| (item.event.tipo_evento.clone(), item.event.entidade.id.clone()))
        .collect();
    index
        .blocking("discarding documents", move |shared| {
            shared.remove(only.as_ref(), Rewriting::IfFound, |index, generation| {
                let ids = documents.iter().filter(|(of, _)| *of == index).map(|(_, id)| id.as_str());
                let of_entities = of_entities.iter().filter(|_| index == IndexName::Eventos);
                let of_entities = of_entities.map(|(kind, key)| generation.of_entity(kind, key));
                ids.map(|id| Ok(generation.of_id(id))).chain(of_entities).collect()
            })
        })
        .await
        .map(drop)
}

async fn remove_events(index: &TantivyIndex, ids: &[Uuid]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let removed = index.blocking("removing old events", move |shared| {
        shared.remove(None, Rewriting::Never, |index, generation| {
            let ids = ids.iter().filter(|_| index == IndexName::Eventos);
            Ok(ids.map(|id| generation.of_id(id)).collect())
        })
    });
    removed.await.map(drop)
}

#[async_trait]
impl Sink for TantivyIndex {
    fn name(&self) -> &'static str {
        PART
    }

    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        let found = self.blocking("asking which indices these are", Shared::identities).await;
        // Whoever drains begins anew where one is missing, which makes it.
        found.map_err(|fault| match fault.advice {
            NextStep::Migrate => Fault { kind: FaultKind::Misconfigured, ..fault },
            _ => fault,
        })
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.blocking("preparing the index", |shared| {
            shared.prepare()?;
            if let Err(error) = shared.remove_leftovers() {
                // The next erasure tells whether they are gone.
                let error = error.into_fault("removing files that no commit has", &shared.folder);
                tracing::warn!(%error, "files that a killed process left in the index could not be removed");
            }
            Ok(())
        })
        .await
    }

    async fn claim(&self, log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        let reached = self.reached(log).await?;
        let mut claims = claims(partitions);
        for claim in &mut claims {
            if let Some(at) = reached.iter().find(|at| at.partition == claim.partition) {
                claim.start = StartAt::NotBeyond(at.offset);
            }
        }
        Ok(claims)
    }

    async fn apply(&self, log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        let applied = apply(self, batch, None).await?;
        let (log, spans) = (log.to_owned(), batch.spans.clone());
        self.blocking("remembering what is applied", move |shared| shared.advance(&log, &spans)).await?;
        Ok(applied)
    }

    async fn discard(&self, events: &[SinkEvent]) -> Result<(), Fault> {
        discard(self, events, None).await
    }

    async fn remove_events(&self, ids: &[Uuid]) -> Result<(), Fault> {
        remove_events(self, ids).await
    }

    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(None)
    }

    async fn reached(&self, log: &str) -> Result<Vec<Position>, Fault> {
        let log = log.to_owned();
        self.blocking("asking what is applied", move |shared| shared.reached(&log)).await
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        self.blocking("refreshing the index", |shared| {
            for index in shared.indices.names() {
                shared.serving(index)?.refresh()?;
            }
            Ok(())
        })
        .await
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        self.blocking("looking whether the index is in place", |_| Ok(())).await?;
        let version = format!("tantivy in {}", self.shared.folder.display());
        Ok(SinkHealth { version, clock: None })
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        self.blocking("counting documents", |shared| {
            let mut counts = Vec::new();
            for index in shared.indices.names() {
                let generation = shared.serving(index)?;
                generation.refresh()?;
                counts.push((index.to_string(), generation.count()?));
            }
            Ok(counts)
        })
        .await
    }
}

#[async_trait]
impl Index for TantivyIndex {
    async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchError> {
        let (generation, question) = self.asked(request).await?;
        let request = request.clone();
        let answer = self.blocking("searching", move |_| {
            Ok(generation.search(&request, &question.query, &question.counted)?)
        });
        Ok(answer.await?)
    }

    async fn scan(&self, request: &SearchRequest) -> Result<FoundDocuments, SearchError> {
        const DOING: &str = "reading what a search found";
        let (generation, question) = self.asked(request).await?;
        let sort = request.sort;
        let found = self.blocking(DOING, move |_| {
            let (searcher, places) = generation.places(sort, &question.query)?;
            Ok((generation, searcher, places))
        });
        let (generation, searcher, places) = found.await?;
        let (mut sending, documents) = streaming::stream(PART);
        let (total, shared) = (places.len() as u64, self.shared.clone());
        tokio::task::spawn_blocking(move || {
            for at in places {
                match generation.text(&searcher, at) {
                    Ok(document) => {
                        if sending.send_blocking(document).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        let fault = IndexError::from(error).into_fault(DOING, &shared.folder);
                        return sending.finish_blocking(Err(fault));
                    }
                }
            }
            sending.finish_blocking(Ok(()));
        });
        Ok(FoundDocuments { total, documents })
    }

    async fn fields(&self, index: IndexName) -> &'static Fields {
        let serving = self.blocking("looking at an index", move |shared| shared.searched(index)).await;
        serving.map_or_else(|_| self.shared.indices.fields(index), |generation| generation.fields)
    }

    async fn versions(&self, table: Table, after: Option<&str>, limit: u32) -> Result<EntityPage, Fault> {
        let after = after.map(str::to_owned);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.blocking("comparing documents", move |shared| {
            let generation = shared.serving(IndexName::Entities(table))?;
            generation.refresh()?;
            Ok(generation.versions(after.as_deref(), limit)?)
        });
        let found = found.await?;
        let next = found.last().filter(|_| found.len() >= limit).map(|(id, _)| id.clone());
        let (entities, strays): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(id, _)| table.key.kind.is_key(id));
        let strays = strays.into_iter().map(|(id, _)| Stray { id, routing: None }).collect();
        Ok(EntityPage { entities, strays, next })
    }

    async fn remove_strays(&self, table: Table, strays: &[Stray]) -> Result<(), Fault> {
        let strays = strays.to_vec();
        let removed = self.blocking("removing stray documents", move |shared| {
            shared.remove(None, Rewriting::Never, |index, generation| match index {
                IndexName::Entities(of) if of == table => {
                    Ok(strays.iter().map(|stray| generation.of_id(&stray.id)).collect())
                }
                _ => Ok(Vec::new()),
            })
        });
        removed.await.map(drop)
    }

    async fn lacking_events(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, Fault> {
        let ids: HashSet<String> = ids.iter().map(Uuid::to_string).collect();
        let lacking = self.blocking("comparing events", move |shared| {
            let generation = shared.serving(IndexName::Eventos)?;
            generation.refresh()?;
            Ok(generation.lacking(ids)?)
        });
        Ok(lacking.await?.iter().filter_map(|id| Uuid::parse_str(id).ok()).collect())
    }

    async fn erase(&self, table: Table, keys: &[String]) -> Result<u64, Fault> {
        let keys = keys.to_vec();
        self.blocking("erasing documents", move |shared| {
            shared.remove(None, Rewriting::Always, |index, generation| match index {
                IndexName::Eventos => {
                    keys.iter().map(|key| generation.of_entity(&table.entity, key)).collect()
                }
                IndexName::Entities(of) if of == table => {
                    Ok(keys.iter().map(|key| generation.of_id(key)).collect())
                }
                IndexName::Entities(_) => Ok(Vec::new()),
            })
        })
        .await
    }

    async fn unfilled(&self) -> Result<Vec<Unfilled>, Fault> {
        self.blocking("looking for columns to fill", Shared::unfilled).await
    }

    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Fault> {
        self.blocking("looking for rebuilds", Shared::rebuilds).await
    }

    async fn begin_rebuild(&self, index: IndexName, erasures: Uuid) -> Result<Rebuild, Fault> {
        self.blocking("beginning a rebuild", move |shared| shared.begin_rebuild(index, erasures)).await
    }

    fn rebuild_sink(&self, rebuild: &Rebuild) -> Arc<dyn Sink> {
        Arc::new(RebuildSink { index: self.clone(), rebuild: rebuild.clone() })
    }

    async fn lacking_in(&self, rebuild: &Rebuild, after: Option<&str>) -> Result<Lacking, Fault> {
        let (rebuild, after) = (rebuild.clone(), after.map(str::to_owned));
        self.blocking("comparing documents with those of a rebuild", move |shared| {
            shared.lacking_in(&rebuild, after.as_deref())
        })
        .await
    }

    async fn serve_rebuilt(&self, rebuild: &Rebuild) -> Result<(), Fault> {
        let rebuild = rebuild.clone();
        self.blocking("letting the new index serve", move |shared| shared.serve_rebuilt(&rebuild)).await
    }

    async fn serves_what_was_built(&self, rebuild: &Rebuild) -> Result<bool, Fault> {
        let rebuild = rebuild.clone();
        self.blocking("asking what a rebuild built", move |shared| shared.serves_what_was_built(&rebuild))
            .await
    }

    async fn end_rebuild(&self, rebuild: &Rebuild) -> Result<(), Fault> {
        let rebuild = rebuild.clone();
        self.blocking("ending a rebuild", move |shared| shared.end_rebuild(&rebuild)).await
    }
}

/// Writes into the generation that is being built.
struct RebuildSink {
    index: TantivyIndex,
    rebuild: Rebuild,
}

#[async_trait]
impl Sink for RebuildSink {
    fn name(&self) -> &'static str {
        PART
    }

    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        // Its group bears the id of the rebuild.
        Ok(Vec::new())
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

    async fn discard(&self, events: &[SinkEvent]) -> Result<(), Fault> {
        discard(&self.index, events, Some(self.rebuild.clone())).await
    }

    async fn remove_events(&self, ids: &[Uuid]) -> Result<(), Fault> {
        remove_events(&self.index, ids).await
    }

    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(None)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        let rebuild = self.rebuild.clone();
        let refresh = move |shared: &Shared| Ok(shared.building(&rebuild)?.refresh()?);
        self.index.blocking("refreshing the index that is built", refresh).await
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        self.index.health().await
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        let rebuild = self.rebuild.clone();
        let count =
            move |shared: &Shared| Ok(vec![(rebuild.index.to_string(), shared.building(&rebuild)?.count()?)]);
        self.index.blocking("counting documents of the index that is built", count).await
    }
}
