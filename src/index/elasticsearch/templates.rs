//! The names of the indices, and what they must look like.

use serde_json::{Value, json};

use super::PART;
use crate::{domain::Table, fault::Fault};

/// The events and the two tables, in the order of [`Names::all`].
pub(super) const TABLES: [&str; 3] = ["eventos", "leads", "chat_sessions"];

const SETTINGS: &str = include_str!("templates/settings.json");
const MAPPINGS: [&str; 3] = [
    include_str!("templates/eventos.json"),
    include_str!("templates/leads.json"),
    include_str!("templates/chat_sessions.json"),
];

/// The aliases that are written and searched.
#[derive(Debug)]
pub(super) struct Names {
    aliases: [String; 3],
    prefix_length: usize,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, Fault> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
        let starts_well = !prefix.starts_with(['_', '-', '.']);
        if !prefix.chars().all(allowed) || !starts_well || prefix.len() > 200 {
            return Err(Fault::misconfigured(
                PART,
                "the index prefix is not one that names of indices may have",
                "use lower-case letters, digits, '-', '_' and '.', beginning with a letter or a digit",
            ));
        }
        let aliases = TABLES.map(|table| format!("{prefix}{table}"));
        Ok(Self { aliases, prefix_length: prefix.len() })
    }

    pub(super) fn events(&self) -> &str {
        &self.aliases[0]
    }

    pub(super) fn entities(&self, table: Table) -> &str {
        match table {
            Table::Leads => &self.aliases[1],
            Table::ChatSessions => &self.aliases[2],
        }
    }

    pub(super) fn all(&self) -> [&str; 3] {
        [&self.aliases[0], &self.aliases[1], &self.aliases[2]]
    }

    /// What must be there for every alias.
    pub(super) fn layouts(&self) -> Vec<Layout<'_>> {
        let layout = |(alias, mappings)| Layout {
            alias,
            mappings: parse(mappings),
            // `a-leads-*` lies within `a-*`: of two prefixes' templates the longer must win.
            priority: 100 + self.prefix_length,
        };
        self.aliases.iter().map(String::as_str).zip(MAPPINGS).map(layout).collect()
    }
}

/// One alias with the index behind it.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) alias: &'a str,
    pub(super) mappings: Value,
    priority: usize,
}

impl Layout<'_> {
    /// The first index behind the alias. A rebuild makes `-000002` and moves the alias.
    pub(super) fn first_index(&self) -> String {
        format!("{}-000001", self.alias)
    }

    /// The composable template: what a later `-000002` is made of.
    pub(super) fn template(&self) -> Value {
        json!({
            "index_patterns": [format!("{}-*", self.alias)],
            "priority": self.priority,
            "template": { "settings": parse(SETTINGS), "mappings": self.mappings },
            "_meta": { "managed_by": "sluice" },
        })
    }

    /// The first index. It spells its mapping out: somebody else's template of a higher priority must not win.
    pub(super) fn index(&self) -> Value {
        json!({
            "aliases": { self.alias: { "is_write_index": true } },
            "settings": parse(SETTINGS),
            "mappings": self.mappings,
        })
    }
}

/// The files are part of the binary and a test reads each: an empty object is never seen.
fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_file_is_json_and_closed_to_unknown_fields() {
        assert!(serde_json::from_str::<Value>(SETTINGS).is_ok());
        for mapping in MAPPINGS {
            let mapping: Value = serde_json::from_str(mapping).expect("JSON");
            assert_eq!(mapping["dynamic"], false);
            assert_eq!(mapping["properties"]["metadata"]["dynamic"], false);
        }
    }

    #[test]
    fn every_typed_column_has_a_mapping() {
        let names = Names::new("").expect("names");
        for (table, layout) in Table::ALL.into_iter().zip(names.layouts().into_iter().skip(1)) {
            assert_eq!(layout.alias, table.name());
            for column in table.columns() {
                assert!(layout.mappings["properties"].get(column).is_some(), "{table}.{column}");
            }
        }
    }

    #[test]
    fn a_prefix_that_no_index_may_have_is_refused() {
        for prefix in ["Loja_", "_a", "-a", "a,b", "a b", "a*", "a/", "ção"] {
            assert!(Names::new(prefix).is_err(), "{prefix}");
        }
        assert_eq!(Names::new("loja-1_").expect("names").events(), "loja-1_eventos");
    }
}
