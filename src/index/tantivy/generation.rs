//! One tantivy index in a folder of its own.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use bytes::Bytes;
use tantivy::{
    Directory, DocAddress, DocId, DocSet, Index, IndexReader, IndexSettings, IndexWriter, Order,
    ReloadPolicy, Searcher, SegmentMeta, TERMINATED, TantivyDocument, TantivyError, Term,
    collector::{
        Count, TopDocs,
        sort_key::{SortBySimilarityScore, SortByStaticFastValue, SortByString},
    },
    directory::{META_LOCK, MmapDirectory},
    index::SegmentId,
    merge_policy::NoMergePolicy,
    query::{AllQuery, BooleanQuery, EnableScoring, Occur, Query, TermQuery},
    schema::{IndexRecordOption, Value as _},
};

use super::{
    counts::{CountAll, Counted, by_day, most_frequent},
    error::IndexError,
    schema::{Fit, Layout, VERSION, WORDS, column_name, kind_in},
    translate::translate,
};
use crate::{
    domain::{Members, json},
    index::{
        Field, Fields, Hit, IndexName, REMOVED, SearchAnswer, SearchRequest, Sort,
        documents::{Document, EVENT},
        query::Query as Asked,
        words,
    },
    private_files,
    sink::Applied,
};

/// Most threads that build segments: each leaves a segment behind with every commit.
const THREADS: usize = 2;
/// Bytes a thread gathers before it writes a segment.
const MEMORY: usize = 32 * 1024 * 1024;

/// Whether what is removed leaves the disk at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewriting {
    /// With the merges to come.
    Never,
    /// Where there is something to remove.
    IfFound,
    /// Also what was removed before: by whom was killed, or met a full disk, before it had left.
    Always,
}

/// One tantivy index.
pub(super) struct Generation {
    /// What can be asked of it.
    pub(super) fields: &'static Fields,
    layout: Layout,
    folder: PathBuf,
    index: Index,
    reader: IndexReader,
    /// Made by the first write, so that who only reads locks nobody out.
    writer: Mutex<Option<IndexWriter>>,
}

impl Generation {
    /// Opens what is in the folder, made with these fields where nothing is.
    pub(super) fn make(folder: &Path, index: IndexName, fields: &'static Fields) -> Result<Self, IndexError> {
        std::fs::create_dir_all(folder)?;
        let directory = MmapDirectory::open(folder).map_err(TantivyError::from)?;
        if !Index::exists(&directory).map_err(TantivyError::from)? {
            Index::create(directory, Layout::of(fields).schema, IndexSettings::default())?;
            private_files::sync_folder(folder)?;
        }
        Self::open(folder, index, fields)
    }

    /// Opens what is in the folder. Members of `metadata` stay as it was made with them; it fails when it was made with other
    /// fields besides, or by a build that cut or kept words otherwise.
    pub(super) fn open(folder: &Path, index: IndexName, fields: &'static Fields) -> Result<Self, IndexError> {
        let made = Index::open_in_dir(folder)?;
        let schema = made.schema();
        let of_member = |path: &str| path.starts_with("metadata.").then(|| kind_in(&schema, path)).flatten();
        let fields = fields.keeping(of_member);
        let layout = Layout::of(fields);
        match layout.fit(&schema) {
            Fit::Same => {}
            Fit::Extended => {
                let (gained, is_surplus) = (layout.gained(&schema), layout.is_within(&schema));
                return Err(IndexError::Extended { index, fields, gained, is_surplus });
            }
            Fit::Changed(field) => return Err(IndexError::Outdated { index, changed: field }),
        }
        made.tokenizers().register(WORDS, words::analyzer());
        let reader: IndexReader = made.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        if schema != layout.schema || keeps_words_otherwise(&reader, &layout)? {
            return Err(IndexError::Earlier { index, fields });
        }
        let folder = folder.to_owned();
        Ok(Self { fields, layout, folder, index: made, reader, writer: Mutex::new(None) })
    }

    /// Returns when everything committed is on disk: tantivy syncs the folder before it renames the new `meta.json` into it,
    /// and not after. What says elsewhere that the documents are there (offsets, which generation serves) could otherwise
    /// outlast a power cut that takes them.
    fn sync(&self) -> tantivy::Result<()> {
        Ok(private_files::sync_folder(&self.folder)?)
    }

    /// Takes over every document of a generation that was made with other fields, under this one's, and in the place of
    /// those that `renewed` gives another of, that. Returns when they are on disk and visible.
    pub(super) fn copy_from(
        &self,
        folder: &Path,
        mut renewed: impl FnMut(&[u8]) -> tantivy::Result<Option<Bytes>>,
    ) -> Result<(), IndexError> {
        let made = Index::open_in_dir(folder)?;
        let searcher = made.reader()?.searcher();
        let (id, source) = (made.schema().get_field("_id")?, made.schema().get_field("_source")?);
        let mut held = self.lock();
        let mut writer = match held.take() {
            Some(writer) => writer,
            None => self.new_writer()?,
        };
        for segment in searcher.segment_readers() {
            let store = segment.get_store_reader(1)?;
            let versions: Option<tantivy::columnar::Column<i64>> =
                segment.fast_fields().column_opt(VERSION)?;
            for at in segment.doc_ids_alive() {
                let document: TantivyDocument = store.get(at)?;
                let bytes = |field| document.get_first(field).and_then(|value| value.as_bytes());
                let id = bytes(id).and_then(|id| std::str::from_utf8(id).ok()).ok_or_else(broken)?;
                let version = versions.as_ref().and_then(|versions| versions.first(at));
                let source = bytes(source).ok_or_else(broken)?;
                let renewed = renewed(source)?;
                let source = renewed.as_deref().unwrap_or(source);
                writer.add_document(self.layout.document(id, version, source).ok_or_else(broken)?)?;
            }
        }
        writer.commit()?;
        self.sync()?;
        self.reader.reload()?;
        *held = Some(writer);
        Ok(())
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
        // Also where nothing was written: who committed what is there may have ended, or failed, before this.
        self.sync()?;
        *held = Some(writer);
        Ok(applied)
    }

    fn new_writer(&self) -> tantivy::Result<IndexWriter> {
        let threads = available_parallelism().map_or(1, usize::from).min(THREADS);
        let writer = self.index.writer_with_num_threads(threads, threads * MEMORY)?;
        // A new writer's first operation is stamped as the last commit was. A merge of committed segments takes all
        // deletions up to that stamp for committed ones, and leaves out segments that were written under it: a first
        // deletion would be forgotten there, and a document stand in two versions. So nothing gets that stamp.
        writer.run([])?;
        // The files of a commit that was not made would be in the way of the next one.
        self.remove_leftovers()?;
        // Another process may have written since this one looked.
        self.reader.reload()?;
        Ok(writer)
    }

    fn write_with(&self, writer: &mut IndexWriter, documents: &[Document]) -> tantivy::Result<Applied> {
        let known = Known::new(&self.reader.searcher(), &self.layout)?;
        let mut applied = Applied::default();
        let mut written: HashMap<&str, i64> = HashMap::new();
        for document in documents {
            let term = Term::from_field_bytes(self.layout.id, document.id.as_bytes());
            let here = match written.get(document.id.as_str()) {
                Some(version) => Some(*version),
                None => known.version(&term)?,
            };
            match (document.version, here) {
                (None, Some(_)) => {
                    applied.duplicates += 1;
                    continue;
                }
                // Each entity is written once in a batch, so what is there was committed, and is found.
                (Some(version), Some(here))
                    if here > version || (here == version && self.came_from(document)?) =>
                {
                    applied.stale += 1;
                    continue;
                }
                (Some(_), Some(_)) => {
                    writer.delete_term(term);
                }
                (_, None) => {}
            }
            let body = self.layout.document(&document.id, document.version, &document.body);
            writer.add_document(body.ok_or_else(|| {
                TantivyError::InvalidArgument("a document's body is no JSON object".to_owned())
            })?)?;
            written.insert(&document.id, document.version.unwrap_or_default());
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

    /// Whether the document that is there came from the same event.
    fn came_from(&self, document: &Document) -> tantivy::Result<bool> {
        let source = self.source(&document.id)?;
        let members = source.as_deref().and_then(|source| Members::of(std::str::from_utf8(source).ok()?));
        let event = members.as_ref().and_then(|members| members.iter().find(|member| member.name == EVENT));
        Ok(event
            .and_then(|event| json::text(event.value))
            .is_some_and(|id| *id == *document.event.to_string()))
    }

    /// The document of this id.
    pub(super) fn of_id(&self, id: &str) -> Box<dyn Query> {
        let term = Term::from_field_bytes(self.layout.id, id.as_bytes());
        Box::new(TermQuery::new(term, IndexRecordOption::Basic))
    }

    /// The events of an entity.
    pub(super) fn of_entity(&self, tipo_evento: &str, key: &str) -> tantivy::Result<Box<dyn Query>> {
        let is = |path, text| {
            let column = self.layout.schema.get_field(&column_name(path))?;
            let query = TermQuery::new(Term::from_field_text(column, text), IndexRecordOption::Basic);
            Ok::<_, TantivyError>((Occur::Must, Box::new(query) as Box<dyn Query>))
        };
        let both = vec![is("tipo_evento.keyword", tipo_evento)?, is("entidade.id", key)?];
        Ok(Box::new(BooleanQuery::new(both)))
    }

    /// Removes what any of these queries finds; where the segments that was in are rewritten, nothing of it is left on the
    /// disk. Returns how many documents there were.
    pub(super) fn remove(&self, queries: Vec<Box<dyn Query>>, rewriting: Rewriting) -> tantivy::Result<u64> {
        if queries.is_empty() {
            return Ok(0);
        }
        let mut held = self.lock();
        if rewriting == Rewriting::IfFound {
            self.reader.reload()?;
            let searcher = self.reader.searcher();
            let found = queries.iter().map(|query| query.count(&searcher));
            if found.sum::<tantivy::Result<usize>>()? == 0 {
                return Ok(0);
            }
        }
        let mut writer = match held.take() {
            Some(writer) if rewriting == Rewriting::Never => writer,
            Some(writer) => {
                finish_merges(writer);
                self.new_writer()?
            }
            None => self.new_writer()?,
        };
        if rewriting != Rewriting::Never {
            // A merge beside those below would fail, and leave what it had written, or bring what is removed into a segment
            // that none of them is of.
            writer.set_merge_policy(Box::new(NoMergePolicy));
        }
        let before = self.reader.searcher().num_docs();
        for query in queries {
            writer.delete_query(query)?;
        }
        writer.commit()?;
        self.sync()?;
        self.reader.reload()?;
        let removed = before.saturating_sub(self.reader.searcher().num_docs());
        if rewriting == Rewriting::Never {
            *held = Some(writer);
            return Ok(removed);
        }
        let segments = self.index.searchable_segment_metas()?;
        let outdated = segments.iter().filter(|segment| segment.has_deletes());
        for segment in outdated.map(SegmentMeta::id).collect::<Vec<SegmentId>>() {
            writer.merge(&[segment]).wait()?;
        }
        // The next one merges again.
        drop(writer);
        self.reader.reload()?;
        // Erased is what is gone from the disk.
        self.remove_leftovers()?;
        Ok(removed)
    }

    /// Files of segments that the last commit has not: what a merge that failed, or a process that was killed, left.
    pub(super) fn leftovers(&self) -> tantivy::Result<Vec<PathBuf>> {
        let segments = self.index.searchable_segment_metas()?;
        let is_named = |id: SegmentId, kind: &str| {
            segments.iter().filter(|segment| segment.id() == id).any(|segment| {
                match kind.strip_suffix(".del") {
                    Some(opstamp) => segment.delete_opstamp().is_some_and(|at| at.to_string() == opstamp),
                    None => kind != "store.temp",
                }
            })
        };
        let mut leftovers = Vec::new();
        for found in fs::read_dir(&self.folder)? {
            let found = found?;
            let name = found.file_name();
            let of_segment = name.to_str().and_then(|name| {
                let (id, kind) = name.split_once('.')?;
                Some((SegmentId::from_uuid_string(id).ok()?, kind))
            });
            if of_segment.is_some_and(|(id, kind)| !is_named(id, kind)) {
                leftovers.push(found.path());
            }
        }
        Ok(leftovers)
    }

    /// For who alone writes, while no document waits for a commit and nothing is merged. They are gone when it returns.
    pub(super) fn remove_leftovers(&self) -> tantivy::Result<()> {
        // Whoever opens the segments of an earlier commit has them open first.
        let _opening = self.index.directory().acquire_lock(&META_LOCK)?;
        for leftover in self.leftovers()? {
            fs::remove_file(leftover)?;
        }
        self.sync()
    }

    /// Looks again whether another process has written.
    pub(super) fn refresh(&self) -> tantivy::Result<()> {
        if self.lock().is_none() {
            self.reader.reload()?;
        }
        Ok(())
    }

    /// A document as it was written; `None` where there is none of that id.
    pub(super) fn source(&self, id: &str) -> tantivy::Result<Option<Vec<u8>>> {
        let searcher = self.reader.searcher();
        let term = Term::from_field_bytes(self.layout.id, id.as_bytes());
        let found = searcher.search(
            &TermQuery::new(term, IndexRecordOption::Basic),
            &TopDocs::with_limit(1).order_by_score(),
        )?;
        let Some((_, at)) = found.first() else { return Ok(None) };
        let document: TantivyDocument = searcher.doc(*at)?;
        let source = document.get_first(self.layout.source).and_then(|value| value.as_bytes());
        Ok(source.map(<[u8]>::to_vec))
    }

    /// Documents that a search can find.
    pub(super) fn count(&self) -> tantivy::Result<u64> {
        Ok(self.reader.searcher().search(&*self.shown(Box::new(AllQuery)), &Count)? as u64)
    }

    /// What a query finds of what was not removed.
    fn shown(&self, query: Box<dyn Query>) -> Box<dyn Query> {
        let removed = TermQuery::new(self.removed(), IndexRecordOption::Basic);
        Box::new(BooleanQuery::new(vec![(Occur::Must, query), (Occur::MustNot, Box::new(removed))]))
    }

    /// What the places of removed entities have.
    fn removed(&self) -> Term {
        Term::from_field_text(self.layout.present, REMOVED)
    }

    /// The next ids behind `after` and their versions, in the order of their bytes.
    pub(super) fn versions(&self, after: Option<&str>, limit: usize) -> tantivy::Result<Vec<(String, i64)>> {
        let searcher = self.reader.searcher();
        let mut found: Vec<(String, i64)> = Vec::new();
        for segment in searcher.segment_readers() {
            let ids = segment.inverted_index(self.layout.id)?;
            let versions: Option<tantivy::columnar::Column<i64>> =
                segment.fast_fields().column_opt(VERSION)?;
            let removed = postings(&*segment.inverted_index(self.layout.present)?, &self.removed())?;
            let alive = segment.alive_bitset();
            let behind = ids.terms().range();
            let behind = if let Some(after) = after { behind.gt(after) } else { behind };
            let mut terms = behind.into_stream()?;
            let mut taken = 0;
            while taken < limit && terms.advance() {
                let mut postings =
                    ids.read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
                let mut doc = postings.doc();
                while doc != TERMINATED {
                    let is_shown = alive.is_none_or(|alive| alive.is_alive(doc)) && !removed.contains(&doc);
                    if is_shown {
                        let id = String::from_utf8(terms.key().to_vec()).map_err(|_| broken())?;
                        let version = versions.as_ref().and_then(|versions| versions.first(doc));
                        found.push((id, version.unwrap_or_default()));
                        taken += 1;
                    }
                    doc = postings.advance();
                }
            }
        }
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    /// Those of these ids that no document has.
    pub(super) fn lacking(&self, mut lacking: HashSet<String>) -> tantivy::Result<HashSet<String>> {
        let searcher = self.reader.searcher();
        for segment in searcher.segment_readers() {
            let index = segment.inverted_index(self.layout.id)?;
            let alive = segment.alive_bitset();
            for id in lacking.clone() {
                let found = postings(&index, &Term::from_field_text(self.layout.id, &id))?;
                if found.iter().any(|doc| alive.is_none_or(|alive| alive.is_alive(*doc))) {
                    lacking.remove(&id);
                }
            }
        }
        Ok(lacking)
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
        let query = self.shown(translate(&self.layout, asked)?);
        let mut columns: Vec<Counted> = counted.iter().map(|field| Counted::values(field)).collect();
        if request.count_by_day {
            columns.push(Counted::days("timestamp", request.zone));
        }
        let (total, mut counts) = searcher.search(&*query, &(Count, CountAll(columns)))?;
        let days =
            if request.count_by_day { counts.pop().map(by_day).unwrap_or_default() } else { Vec::new() };
        let counts = request.count_by.iter().zip(counted).zip(counts);
        let counts = counts.map(|((path, field), counts)| most_frequent(path, field.kind, counts)).collect();
        let addresses = if request.size == 0 {
            Vec::new()
        } else {
            found(&searcher, &*query, request, &self.layout.id_order)?
        };
        let hits = addresses.into_iter().map(|at| self.hit(&searcher, at)).collect::<tantivy::Result<_>>()?;
        Ok(SearchAnswer { total: total as u64, hits, counts, days })
    }

    /// Every document that a search finds, as of now: their places in order, 16 bytes each.
    pub(super) fn places(&self, sort: Sort, asked: &Asked) -> tantivy::Result<(Searcher, Vec<DocAddress>)> {
        let searcher = self.reader.searcher();
        let query = self.shown(translate(&self.layout, asked)?);
        let weight = query.weight(EnableScoring::disabled_from_searcher(&searcher))?;
        let mut places: Vec<(i64, DocAddress)> = Vec::new();
        for (segment_ord, segment) in (0..).zip(searcher.segment_readers()) {
            let times: Option<tantivy::columnar::Column<i64>> =
                segment.fast_fields().column_opt("timestamp")?;
            let alive = segment.alive_bitset();
            weight.for_each_no_score(segment, &mut |docs| {
                for &doc_id in docs {
                    if alive.is_none_or(|alive| alive.is_alive(doc_id)) {
                        let time = times.as_ref().and_then(|times| times.first(doc_id));
                        places.push((time.unwrap_or(i64::MIN), DocAddress { segment_ord, doc_id }));
                    }
                }
            })?;
        }
        match sort {
            Sort::Oldest => places.sort_unstable(),
            Sort::Newest | Sort::Relevance => places.sort_unstable_by_key(|&(time, at)| (Reverse(time), at)),
        }
        Ok((searcher, places.into_iter().map(|(_, at)| at).collect()))
    }

    /// A document as it was written.
    pub(super) fn text(&self, searcher: &Searcher, at: DocAddress) -> tantivy::Result<String> {
        let document: TantivyDocument = searcher.doc(at)?;
        let source = document.get_first(self.layout.source).and_then(|value| value.as_bytes());
        source.and_then(|source| String::from_utf8(source.to_vec()).ok()).ok_or_else(broken)
    }

    fn hit(&self, searcher: &Searcher, at: DocAddress) -> tantivy::Result<Hit> {
        let document: TantivyDocument = searcher.doc(at)?;
        let bytes = |field| document.get_first(field).and_then(|value| value.as_bytes());
        let id = bytes(self.layout.id).and_then(|id| String::from_utf8(id.to_vec()).ok());
        let source = bytes(self.layout.source).and_then(|source| serde_json::from_slice(source).ok());
        id.zip(source).and_then(|(id, source)| Hit::of(id, source)).ok_or_else(broken)
    }

    fn lock(&self) -> MutexGuard<'_, Option<IndexWriter>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a writer go once it writes no file any more.
fn finish_merges(writer: IndexWriter) {
    writer.set_merge_policy(Box::new(NoMergePolicy));
    if let Err(error) = writer.wait_merging_threads() {
        // Everything was committed before.
        tracing::debug!(%error, "a writer ended with an error");
    }
}

/// The documents of a segment that have a term.
fn postings(index: &tantivy::InvertedIndexReader, term: &Term) -> tantivy::Result<HashSet<DocId>> {
    let mut documents = HashSet::new();
    if let Some(mut postings) = index.read_postings(term, IndexRecordOption::Basic)? {
        let mut doc = postings.doc();
        while doc != TERMINATED {
            documents.insert(doc);
            doc = postings.advance();
        }
    }
    Ok(documents)
}

fn broken() -> TantivyError {
    TantivyError::InternalError("a document without its id or its JSON".to_owned())
}

/// The hits' places, in order. Ids break ties, so that pages neither repeat nor miss a document.
fn found(
    searcher: &Searcher,
    query: &dyn Query,
    request: &SearchRequest,
    id_order: &str,
) -> tantivy::Result<Vec<DocAddress>> {
    let top = TopDocs::with_limit(request.size as usize).and_offset(request.from as usize);
    let by_id = (SortByString::for_field(id_order), Order::Asc);
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

/// Whether the words are kept as this build can't read them: as automata, which earlier ones made.
fn keeps_words_otherwise(reader: &IndexReader, layout: &Layout) -> tantivy::Result<bool> {
    for segment in reader.searcher().segment_readers() {
        match segment.inverted_index(layout.id) {
            // What the system refuses is of another kind.
            Err(TantivyError::IoError(error)) if error.kind() == ErrorKind::Other => return Ok(true),
            read => read.map(drop)?,
        }
    }
    Ok(false)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Catalog, index::fields::Indices, log::Position};

    fn lead(id: &str, version: i64) -> Document {
        Document {
            position: Position { partition: 0, offset: version },
            index: leads(),
            id: id.to_owned(),
            event: uuid::Uuid::nil(),
            version: Some(version),
            body: Bytes::from_static(br#"{"nome": "Ana"}"#),
        }
    }

    fn leads() -> IndexName {
        IndexName::Entities(Catalog::built_in().get("leads").expect("leads"))
    }

    /// What a process leaves that was killed while segments were merged: as many as are merged at once, the
    /// smallest of them with a deletion of the last commit, the largest without.
    fn leave_unmerged(folder: &Path, layout: &Layout) {
        let index = Index::open_in_dir(folder).expect("an index");
        index.tokenizers().register(WORDS, words::analyzer());
        let mut writer: IndexWriter = index.writer_with_num_threads(1, MEMORY).expect("a writer");
        writer.set_merge_policy(Box::new(NoMergePolicy));
        for segment in 0..8 {
            let mut ids: Vec<String> = (0..20 - segment).map(|n| format!("{segment}-{n}")).collect();
            if segment == 7 {
                ids.push("changed".to_owned());
            }
            for id in ids {
                let document = layout.document(&id, Some(1), b"{}").expect("a document");
                writer.add_document(document).expect("added");
            }
            writer.commit().expect("committed");
        }
        writer.delete_term(Term::from_field_bytes(layout.id, b"7-0"));
        writer.commit().expect("committed");
    }

    #[test]
    fn an_index_whose_words_an_earlier_build_cut_is_to_be_brought_up_to_date() {
        let folder = std::env::temp_dir().join(format!("sluice-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let fields = Indices::of(Catalog::built_in()).fields(leads());
        let schema = serde_json::to_string(&Layout::of(fields).schema).expect("JSON");
        let earlier = schema.replace(&format!("\"{WORDS}\""), "\"words\"");
        assert_ne!(earlier, schema);
        let earlier = serde_json::from_str(&earlier).expect("a schema");
        Index::create_in_dir(&folder, earlier).expect("an index");
        match Generation::open(&folder, leads(), fields) {
            Err(IndexError::Earlier { fields: kept, .. }) => assert_eq!(kept, fields),
            other => panic!("{:?}", other.map(drop)),
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_document_replaced_first_after_a_kill_amid_a_merge_stands_once() {
        let folder = std::env::temp_dir().join(format!("sluice-{}", uuid::Uuid::new_v4().simple()));
        let fields = Indices::of(Catalog::built_in()).fields(leads());
        leave_unmerged(&folder, &Generation::make(&folder, leads(), fields).expect("an index").layout);

        let generation = Generation::open(&folder, leads(), fields).expect("an index");
        generation.write(&[lead("changed", 2)]).expect("written");
        let writer = generation.lock().take().expect("a writer");
        writer.wait_merging_threads().expect("merged");
        generation.reader.reload().expect("reloaded");
        let searcher = generation.reader.searcher();
        assert!(searcher.segment_readers().len() < 8, "the segments were merged");
        let id = Term::from_field_bytes(generation.layout.id, b"changed");
        let query = tantivy::query::TermQuery::new(id, IndexRecordOption::Basic);
        assert_eq!(searcher.search(&query, &Count).expect("an answer"), 1);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    /// Whether a segment that `meta.json` names has deleted documents, and the files of those that it does not.
    fn left_behind(folder: &Path) -> (bool, Vec<String>) {
        let index = Index::open_in_dir(folder).expect("an index");
        let segments = index.searchable_segment_metas().expect("the segments");
        let named: Vec<String> = segments.iter().map(|segment| segment.id().uuid_string()).collect();
        let files =
            std::fs::read_dir(folder).expect("a folder").map(|found| found.expect("a file").file_name());
        let files = files.map(|name| name.into_string().expect("a name"));
        let is_left = |name: &String| {
            name.split_once('.').is_some_and(|(id, _)| id.len() == 32 && !named.contains(&id.to_owned()))
        };
        (segments.iter().any(SegmentMeta::has_deletes), files.filter(is_left).collect())
    }

    #[test]
    fn an_erasure_leaves_nothing_of_what_merges_and_killed_processes_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let fields = Indices::of(Catalog::built_in()).fields(leads());
        leave_unmerged(folder, &Generation::make(folder, leads(), fields).expect("an index").layout);
        let generation = Generation::open(folder, leads(), fields).expect("an index");
        let erase = |id: &str, rewriting| {
            let removed = generation.remove(vec![generation.of_id(id)], rewriting).expect("removed");
            assert_eq!(generation.of_id(id).count(&generation.reader.searcher()).expect("a count"), 0);
            removed
        };
        // A merge that was never ended, and the commit of an erasure that was killed before it was made.
        let segments = generation.index.searchable_segment_metas().expect("the segments");
        std::fs::write(folder.join(format!("{}.store", uuid::Uuid::new_v4().simple())), "Zuleica")
            .expect("written");
        for (segment, opstamp) in segments.iter().flat_map(|segment| (0..400).map(move |at| (segment, at))) {
            let unmade = folder.join(format!("{}.{opstamp}.del", segment.id().uuid_string()));
            if !unmade.exists() {
                std::fs::write(unmade, "").expect("written");
            }
        }
        assert_eq!(erase("1-1", Rewriting::Always), 1);
        assert_eq!(left_behind(folder), (false, Vec::new()));

        // One that ended between its commit and the rewriting.
        let mut writer = generation.new_writer().expect("a writer");
        writer.set_merge_policy(Box::new(NoMergePolicy));
        writer.delete_query(generation.of_id("2-1")).expect("deleted");
        writer.commit().expect("committed");
        drop(writer);
        assert_eq!(erase("2-1", Rewriting::IfFound), 0);
        assert!(left_behind(folder).0, "nothing was to be removed");
        assert_eq!(erase("2-1", Rewriting::Always), 0);
        assert_eq!(left_behind(folder), (false, Vec::new()));

        // Beside the merges of a writer that goes on.
        for version in 2..12 {
            let ids = [format!("3-{version}"), format!("4-{version}")];
            generation.write(&ids.map(|id| lead(&id, version))).expect("written");
        }
        assert_eq!(erase("3-2", Rewriting::Always), 1);
        assert_eq!(erase("4-2", Rewriting::IfFound), 1);
        assert_eq!(left_behind(folder), (false, Vec::new()));
        generation.write(&[lead("3-2", 20)]).expect("written");
        assert_eq!(generation.of_id("3-2").count(&generation.reader.searcher()).expect("a count"), 1);
    }
}
