//! What questions may read.

use std::collections::BTreeMap;

use super::{readable, tables::StoreTable};
use crate::domain::Catalog;

/// The tables that questions may read, and the columns of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// In the order in which they are named to people.
    names: Vec<String>,
    columns: BTreeMap<String, Vec<String>>,
}

impl Readable {
    /// These tables, each with its columns.
    pub fn new(tables: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let tables: Vec<_> = tables.into_iter().collect();
        Self {
            names: tables.iter().map(|(name, _)| name.clone()).collect(),
            columns: tables.into_iter().collect(),
        }
    }

    /// The tables of events, and those of the catalog.
    pub fn of(catalog: Catalog) -> Self {
        Self::new(readable(catalog).into_iter().map(|name| {
            let columns = StoreTable::named(catalog, name).map(|table| table.columns).unwrap_or_default();
            (name.to_owned(), columns.iter().map(|column| column.name.to_owned()).collect())
        }))
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn has(&self, table: &str) -> bool {
        self.columns.contains_key(table)
    }

    pub fn columns(&self, table: &str) -> Option<&[String]> {
        self.columns.get(table).map(Vec::as_slice)
    }

    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.columns(table).is_some_and(|columns| columns.iter().any(|name| name == column))
    }

    /// Whether any of the tables has such a column.
    pub fn is_column(&self, column: &str) -> bool {
        self.columns.values().flatten().any(|name| name == column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_readable_table_has_its_columns() {
        let catalog = Catalog::built_in();
        let readable = Readable::of(catalog);
        assert_eq!(readable.names(), super::readable(catalog));
        assert!(readable.has_column("eventos_agregados", "total"));
        for table in catalog.tables() {
            assert!(readable.has_column(table.name(), &table.definition().key.column));
            assert!(readable.has_column(table.name(), "versao"));
        }
        assert!(!readable.has("sluice_syncs") && !readable.has_column("eventos_raw", "total"));
    }
}
