//! The names of the indices, and what they must look like.

use serde_json::{Value, json};

use super::PART;
use crate::{fault::Fault, index::IndexName};

const SETTINGS: &str = include_str!("settings.json");

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
        let aliases = IndexName::ALL.map(|index| format!("{prefix}{index}"));
        Ok(Self { aliases, prefix_length: prefix.len() })
    }

    pub(super) fn alias(&self, index: IndexName) -> &str {
        match index {
            IndexName::Eventos => &self.aliases[0],
            IndexName::Leads => &self.aliases[1],
            IndexName::ChatSessions => &self.aliases[2],
        }
    }

    pub(super) fn all(&self) -> [&str; 3] {
        [&self.aliases[0], &self.aliases[1], &self.aliases[2]]
    }

    /// What must be there for every alias.
    pub(super) fn layouts(&self) -> Vec<Layout<'_>> {
        IndexName::ALL.map(|index| self.layout(index)).into()
    }

    /// What must be there for one alias.
    pub(super) fn layout(&self, index: IndexName) -> Layout<'_> {
        Layout {
            alias: self.alias(index),
            mappings: parse(index.mapping()),
            // `a-leads-*` lies within `a-*`: of two prefixes' templates the longer must win.
            priority: 100 + self.prefix_length,
        }
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

    /// The alias that an index being rebuilt is written through.
    pub(super) fn rebuild_alias(&self) -> String {
        format!("{}-rebuild", self.alias)
    }

    /// An index that is being rebuilt: not behind its own alias yet, and with what it has to remember.
    pub(super) fn rebuilt_index(&self, meta: &Value) -> Value {
        let mut mappings = self.mappings.clone();
        mappings["_meta"] = meta.clone();
        json!({
            "aliases": { self.rebuild_alias(): {} },
            "settings": parse(SETTINGS),
            "mappings": mappings,
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
    fn the_settings_are_json() {
        assert!(serde_json::from_str::<Value>(SETTINGS).is_ok());
    }

    #[test]
    fn a_prefix_that_no_index_may_have_is_refused() {
        for prefix in ["Loja_", "_a", "-a", "a,b", "a b", "a*", "a/", "ção"] {
            assert!(Names::new(prefix).is_err(), "{prefix}");
        }
        assert_eq!(Names::new("loja-1_").expect("names").alias(IndexName::Eventos), "loja-1_eventos");
    }
}
