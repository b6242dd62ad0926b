//! One tantivy index in a folder of its own.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use tantivy::{
    DocAddress, DocSet, Index, IndexReader, IndexWriter, Order, ReloadPolicy, Searcher, TERMINATED,
    TantivyDocument, TantivyError, Term,
    collector::{
        Count, TopDocs,
        sort_key::{SortBySimilarityScore, SortByStaticFastValue, SortByString},
    },
    directory::MmapDirectory,
    query::Query,
    schema::{IndexRecordOption, Value as _},
};
use uuid::Uuid;

use super::{
    counts::{CountAll, Counted, by_day, most_frequent},
    schema::{Layout, VERSION, WORDS},
    translate::translate,
};
use crate::{
    index::{
        Field, Hit, IndexName, SearchAnswer, SearchRequest, Sort, documents::Document, query::Query as Asked,
        words,
    },
    sink::Applied,
};

/// Most threads that build segments: each leaves a segment behind with every commit.
const THREADS: usize = 2;
/// Bytes a thread gathers before it writes a segment.
const MEMORY: usize = 32 * 1024 * 1024;

/// One tantivy index.
pub(super) struct Volume {
    layout: Layout,
    index: Index,
    reader: IndexReader,
    /// Made by the first write, so that who only reads locks nobody out.
    writer: Mutex<Option<IndexWriter>>,
}

impl Volume {
    pub(super) fn open(folder: &Path, name: IndexName) -> tantivy::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let layout = Layout::of(name);
        let index = Index::open_or_create(MmapDirectory::open(folder)?, layout.schema.clone())?;
        index.tokenizers().register(WORDS, words::analyzer());
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { layout, index, reader, writer: Mutex::new(None) })
    }

    /// Writes documents that are newer than those that are there, and returns when they are on disk and visible.
    pub(super) fn write(&self, documents: &[Document]) -> tantivy::Result<Applied> {
        let mut held = self.lock();
        // Taken out: after a fault it is dropped, and with it whatever was not committed.
        let mut writer = match held.take() {
            Some(writer) => writer,
            None => self.new_writer()?,
        };
        let applied = self.write_with(&mut writer, documents)?;
        *held = Some(writer);
        Ok(applied)
    }

    fn new_writer(&self) -> tantivy::Result<IndexWriter> {
        let threads = available_parallelism().map_or(1, usize::from).min(THREADS);
        let writer = self.index.writer_with_num_threads(threads, threads * MEMORY)?;
        // Another process may have written since this one looked.
        self.reader.reload()?;
        Ok(writer)
    }

    fn write_with(&self, writer: &mut IndexWriter, documents: &[Document]) -> tantivy::Result<Applied> {
        let known = Known::new(&self.reader.searcher(), &self.layout)?;
        let mut applied = Applied::default();
        let mut written: HashMap<Uuid, i64> = HashMap::new();
        for document in documents {
            let term = Term::from_field_bytes(self.layout.id, document.id.as_bytes());
            let here = match written.get(&document.id) {
                Some(version) => Some(*version),
                None => known.version(&term)?,
            };
            match (document.version, here) {
                (None, Some(_)) => {
                    applied.duplicates += 1;
                    continue;
                }
                (Some(version), Some(here)) if here >= version => {
                    applied.stale += 1;
                    continue;
                }
                (Some(_), Some(_)) => {
                    writer.delete_term(term);
                }
                (_, None) => {}
            }
            let body = self.layout.document(document).ok_or_else(|| {
                TantivyError::InvalidArgument("a document's body is no JSON object".to_owned())
            })?;
            writer.add_document(body)?;
            written.insert(document.id, document.version.unwrap_or_default());
            match document.version {
                None => applied.inserted += 1,
                Some(_) => applied.entities += 1,
            }
        }
        if !written.is_empty() {
            writer.commit()?;
            self.reader.reload()?;
        }
        Ok(applied)
    }

    /// Looks again whether another process has written.
    pub(super) fn refresh(&self) -> tantivy::Result<()> {
        if self.lock().is_none() {
            self.reader.reload()?;
        }
        Ok(())
    }

    pub(super) fn count(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    /// Lets the writer go, and its lock with it.
    pub(super) fn close(&self) {
        drop(self.lock().take());
    }

    pub(super) fn search(
        &self,
        request: &SearchRequest,
        asked: &Asked,
        counted: &[&Field],
    ) -> tantivy::Result<SearchAnswer> {
        let searcher = self.reader.searcher();
        let query = translate(&self.layout, asked)?;
        let mut columns: Vec<Counted> = counted.iter().map(|field| Counted::values(field)).collect();
        if request.count_by_day {
            columns.push(Counted::days("timestamp"));
        }
        let (total, mut counts) = searcher.search(&*query, &(Count, CountAll(columns)))?;
        let days =
            if request.count_by_day { counts.pop().map(by_day).unwrap_or_default() } else { Vec::new() };
        let counts = request.count_by.iter().zip(counted).zip(counts);
        let counts = counts.map(|((path, field), counts)| most_frequent(path, field.kind, counts)).collect();
        let addresses = if request.size == 0 { Vec::new() } else { found(&searcher, &*query, request)? };
        let hits = addresses.into_iter().map(|at| self.hit(&searcher, at)).collect::<tantivy::Result<_>>()?;
        Ok(SearchAnswer { total: total as u64, hits, counts, days })
    }

    fn hit(&self, searcher: &Searcher, at: DocAddress) -> tantivy::Result<Hit> {
        let document: TantivyDocument = searcher.doc(at)?;
        let broken = || TantivyError::InternalError("a document without its JSON".to_owned());
        let source = document.get_first(self.layout.source).and_then(|value| value.as_bytes());
        let source: serde_json::Map<_, _> =
            serde_json::from_slice(source.ok_or_else(broken)?).map_err(|_| broken())?;
        let id = source.get("id").and_then(|id| Uuid::try_parse(id.as_str()?).ok()).ok_or_else(broken)?;
        Ok(Hit { id, source })
    }

    fn lock(&self) -> MutexGuard<'_, Option<IndexWriter>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hits' places, in order. Ids break ties, so that pages neither repeat nor miss a document.
fn found(
    searcher: &Searcher,
    query: &dyn Query,
    request: &SearchRequest,
) -> tantivy::Result<Vec<DocAddress>> {
    let top = TopDocs::with_limit(request.size as usize).and_offset(request.from as usize);
    let by_id = (SortByString::for_field("id"), Order::Asc);
    let by_time = |order| (SortByStaticFastValue::<i64>::for_field("timestamp"), order);
    Ok(match request.sort {
        Sort::Relevance => {
            let by_score = (SortBySimilarityScore, Order::Desc);
            let found = searcher.search(query, &top.order_by((by_score, by_id)))?;
            found.into_iter().map(|(_, at)| at).collect()
        }
        Sort::Newest => {
            let found = searcher.search(query, &top.order_by((by_time(Order::Desc), by_id)))?;
            found.into_iter().map(|(_, at)| at).collect()
        }
        Sort::Oldest => {
            let found = searcher.search(query, &top.order_by((by_time(Order::Asc), by_id)))?;
            found.into_iter().map(|(_, at)| at).collect()
        }
    })
}

/// The versions of what is there.
struct Known {
    segments: Vec<Segment>,
}

struct Segment {
    ids: std::sync::Arc<tantivy::InvertedIndexReader>,
    versions: Option<tantivy::columnar::Column<i64>>,
    alive: Option<tantivy::fastfield::AliveBitSet>,
}

impl Known {
    fn new(searcher: &Searcher, layout: &Layout) -> tantivy::Result<Self> {
        let open = |segment: &tantivy::SegmentReader| {
            Ok(Segment {
                ids: segment.inverted_index(layout.id)?,
                versions: segment.fast_fields().column_opt(VERSION)?,
                alive: segment.alive_bitset().cloned(),
            })
        };
        Ok(Self { segments: searcher.segment_readers().iter().map(open).collect::<tantivy::Result<_>>()? })
    }

    /// The version of a document that is there; zero where it has none.
    fn version(&self, id: &Term) -> tantivy::Result<Option<i64>> {
        for segment in &self.segments {
            let Some(info) = segment.ids.get_term_info(id)? else { continue };
            let mut postings = segment.ids.read_postings_from_terminfo(&info, IndexRecordOption::Basic)?;
            let mut doc = postings.doc();
            while doc != TERMINATED {
                if segment.alive.as_ref().is_none_or(|alive| alive.is_alive(doc)) {
                    let version = segment.versions.as_ref().and_then(|versions| versions.first(doc));
                    return Ok(Some(version.unwrap_or_default()));
                }
                doc = postings.advance();
            }
        }
        Ok(None)
    }
}
