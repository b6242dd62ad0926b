//! Which columns a table has, as far as the project tells.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::Table;

/// A table's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    table: Table,
    names: BTreeSet<String>,
    /// The project listed them; otherwise they are those sluice knows, and there may be others.
    listed: bool,
}

impl Columns {
    /// What sluice expects, where the project does not tell.
    pub(super) fn expected(table: Table) -> Self {
        let names = table.columns().iter().map(|name| (*name).to_owned()).collect();
        Self { table, names, listed: false }
    }

    /// Reads PostgREST's OpenAPI description.
    pub(super) fn listed(table: Table, openapi: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(openapi).ok()?;
        let properties = document.get("definitions")?.get(table.name())?.get("properties")?.as_object()?;
        let names: BTreeSet<String> = properties.keys().cloned().collect();
        (!names.is_empty()).then_some(Self { table, names, listed: true })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// `false` when it was not there either.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.names.remove(name)
    }

    /// The column rows are ordered and filtered by.
    pub(super) fn time(&self) -> Option<&'static str> {
        let candidates = [self.table.modified_column(), Some(self.table.created_column())];
        candidates.into_iter().flatten().find(|name| self.has(name))
    }

    /// Whether that column grows with every change, so that it can carry a watermark.
    pub(super) fn has_modification_time(&self) -> bool {
        self.table.modified_column().is_some_and(|name| self.has(name))
    }

    /// What to select. A table with columns that must not leave the project is never asked for `*`.
    pub(super) fn selection(&self, include_ip_address: bool) -> String {
        if self.table.forbidden_columns().is_empty() && !self.listed {
            return "*".to_owned();
        }
        let forbidden = self.table.forbidden_columns();
        let wanted = |name: &&String| {
            !forbidden.contains(&name.as_str()) && (include_ip_address || *name != "ip_address")
        };
        let names: Vec<String> = self.names.iter().filter(wanted).map(|name| quoted(name)).collect();
        names.join(",")
    }
}

/// A column's name as `select` takes it.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_token_is_never_selected_and_an_address_only_on_request() {
        let openapi = br#"{"definitions": {"chat_sessions": {"properties":
            {"id": {}, "session_token": {}, "ip_address": {}, "canal": {}, "com espaco": {}}}}}"#;
        let columns = Columns::listed(Table::ChatSessions, openapi).expect("columns");
        assert_eq!(columns.selection(false), "canal,\"com espaco\",id");
        assert_eq!(columns.selection(true), "canal,\"com espaco\",id,ip_address");
        let expected = Columns::expected(Table::ChatSessions).selection(false);
        assert!(
            !expected.contains('*')
                && !expected.contains("session_token")
                && !expected.contains("ip_address")
        );
    }

    #[test]
    fn a_table_without_updated_at_is_read_by_its_creation() {
        let mut columns = Columns::expected(Table::Leads);
        assert_eq!((columns.time(), columns.has_modification_time()), (Some("updated_at"), true));
        columns.remove("updated_at");
        assert_eq!((columns.time(), columns.has_modification_time()), (Some("created_at"), false));
        columns.remove("created_at");
        assert_eq!(columns.time(), None);
    }

    #[test]
    fn a_description_of_other_tables_says_nothing() {
        assert_eq!(Columns::listed(Table::Leads, br#"{"definitions": {}}"#), None);
        assert_eq!(Columns::listed(Table::Leads, b"<html>"), None);
    }
}
