//! The adapters of the index port, and what tests of indices do to any of them.

use std::sync::Arc;

use sluice::{
    domain::Catalog,
    index::{Index, IndexName, SearchAnswer, SearchRequest, Sort, tantivy::TantivyIndex},
};

use super::{elasticsearch::Corner, folder::TestFolder, table};

/// An index of a test's own, on one adapter.
pub trait IndexBench: Sized {
    fn new() -> Self;

    /// A handle, as a process with these tables has it. One at a time writes.
    fn open_with(&self, catalog: Catalog) -> Arc<dyn Index>;

    fn open(&self) -> Arc<dyn Index> {
        self.open_with(Catalog::built_in())
    }

    /// A handle to an index that is made.
    async fn prepared(&self) -> Arc<dyn Index> {
        self.prepared_with(Catalog::built_in()).await
    }

    async fn prepared_with(&self, catalog: Catalog) -> Arc<dyn Index> {
        let index = self.open_with(catalog);
        index.prepare().await.expect("prepared");
        index
    }

    /// What the adapter's own query language finds, where it has one.
    async fn asked_itself(&self, index: IndexName, query: &str) -> Option<u64>;
}

/// The index in a temporary folder.
pub struct Embedded(pub TestFolder);

impl IndexBench for Embedded {
    fn new() -> Self {
        Self(TestFolder::new())
    }

    fn open_with(&self, catalog: Catalog) -> Arc<dyn Index> {
        Arc::new(TantivyIndex::new(self.0.path().join("index"), catalog))
    }

    async fn asked_itself(&self, _: IndexName, _: &str) -> Option<u64> {
        None
    }
}

/// The index on the server that `ELASTICSEARCH_URL` names.
impl IndexBench for Corner {
    fn new() -> Self {
        Self::new()
    }

    fn open_with(&self, catalog: Catalog) -> Arc<dyn Index> {
        Arc::new(self.index_of(catalog))
    }

    async fn asked_itself(&self, index: IndexName, query: &str) -> Option<u64> {
        Some(self.search(index.as_str(), query).await.len() as u64)
    }
}

/// The index of the entities of a table in the binary.
pub fn entities(name: &str) -> IndexName {
    IndexName::Entities(table(name))
}

/// Everything that matches, oldest first.
pub fn request(index: IndexName, query: &str) -> SearchRequest {
    SearchRequest {
        index,
        query: Some(query.to_owned()),
        sort: Sort::Oldest,
        from: 0,
        size: 100,
        count_by: Vec::new(),
        count_by_day: false,
        zone: chrono_tz::Tz::UTC,
    }
}

pub async fn search(index: &dyn Index, of: IndexName, query: &str) -> SearchAnswer {
    index.search(&request(of, query)).await.unwrap_or_else(|error| panic!("{of}: {query}: {error}"))
}
