//! What questions may read.

use std::collections::BTreeMap;

use super::{READABLE, tables::StoreTable};

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

    /// The tables that sluice makes by itself.
    pub fn built_in() -> Self {
        Self::new(READABLE.iter().map(|name| {
            let columns = StoreTable::from_name(name).map_or(&[][..], |table| table.columns);
            ((*name).to_owned(), columns.iter().map(|column| column.name.to_owned()).collect())
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_readable_table_has_its_columns() {
        let readable = Readable::built_in();
        assert_eq!(readable.names(), READABLE);
        assert!(READABLE.iter().all(|table| readable.has(table)
            && readable.has_column(table, "evento") != table.starts_with(['l', 'c'])));
        assert!(!readable.has("sluice_syncs") && !readable.has_column("leads", "total"));
    }
}
