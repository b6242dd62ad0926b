//! Where the columns of a statement's answer come from: an alias, a function or an aggregate takes a field's name
//! away, but not what is in it.
//!
//! What a masked field flows into is masked like the field: through expressions, subqueries, `WITH`, set operations
//! and JSON paths. Comparisons, counts and lengths say nothing of the value. Scopes are not told apart: a name that
//! carries a masked field anywhere carries it everywhere, so what is not understood is masked too often, not too rarely.

mod expressions;
mod functions;
mod names;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::Value;

use self::names::Names;
use super::{MASK, Masking, Rule, Tree, fields};
use crate::store::tables::StoreTable;

/// How a store reads statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

/// What may be in a column, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Plain,
    /// A field that holds an address only in some rows.
    Sometimes,
    /// JSON: inside it names stand beside the values.
    Json,
    /// A whole row: as JSON it has names, as text it has none.
    Row,
    /// Values out of a list, or out of JSON that no field's name stands above: JSON in them has names of its own.
    Items,
    /// Values out of JSON whose names stand elsewhere, if anywhere: a field's name may stand above JSON in them, too.
    Values,
    /// A masked field, or something made of it.
    Field,
    /// One whose looks don't tell it apart from what is none.
    Declared,
    /// One of which numbers are masked, too.
    Hidden,
    /// Any of these, or JSON that has them for names of its members.
    Keys,
}

impl Source {
    /// A row, JSON, or something out of it: which fields are in it is not known here.
    const fn is_mixed(self) -> bool {
        matches!(self, Self::Json | Self::Row | Self::Items | Self::Values)
    }
}

impl From<Option<Rule>> for Source {
    fn from(rule: Option<Rule>) -> Self {
        match rule {
            None => Self::Plain,
            Some(Rule::IfPersonal) => Self::Sometimes,
            Some(Rule::Always) => Self::Field,
            Some(Rule::Declared) => Self::Declared,
            Some(Rule::Hidden) => Self::Hidden,
        }
    }
}

impl Masking {
    /// How a value of such a column is masked; `None` where the value or the names in it tell.
    fn rule_of(&self, source: Source) -> Option<Rule> {
        match source {
            Source::Plain | Source::Json | Source::Row | Source::Items | Source::Values => None,
            Source::Sometimes => Some(Rule::IfPersonal),
            Source::Field => Some(Rule::Always),
            Source::Declared => Some(Rule::Declared),
            Source::Hidden => Some(Rule::Hidden),
            Source::Keys => Some(self.strictest()),
        }
    }
}

impl Masking {
    /// Masks the rows that a statement answered with; `tables` are those that it may read.
    pub(super) fn rows(
        &self,
        sql: &str,
        dialect: Dialect,
        tables: &[StoreTable],
        columns: &[String],
        rows: &mut [Vec<Value>],
    ) {
        let mut names = Names::new(self, tables, dialect);
        let sources = names.sources(sql, columns);
        let learned = Self { fields: names.fields() };
        let pairs = names.pairs();
        let naming: Vec<usize> =
            (0..columns.len()).filter(|at| fields::names_another(&columns[*at])).collect();
        for row in rows {
            let name_in = |at: &usize| Some(learned.rule(row.get(*at)?.as_str()?));
            let tells = naming.iter().filter_map(name_in).max();
            let is_key = |keys: &HashSet<String>, at: &usize| {
                fields::is_key(&columns[*at]) && keys.contains(&columns[*at]) && name_in(at).is_some()
            };
            let keyed: Vec<&HashSet<String>> = pairs
                .iter()
                .filter(|(keys, _)| naming.iter().any(|at| is_key(keys, at)))
                .map(|(_, values)| values)
                .collect();
            let is_keyed = |name: &String| keyed.iter().any(|values| values.contains(name));
            for (at, cell) in row.iter_mut().enumerate() {
                let source = sources.get(at).copied().unwrap_or(Source::Keys);
                match tells.filter(|_| columns.get(at).is_some_and(|name| fields::is_named_by_another(name)))
                {
                    // The name of JSON's member stands in the cell beside its value.
                    Some(rule) if source <= Source::Values && is_keyed(&columns[at]) => {
                        learned.by_rule(cell, rule);
                    }
                    // It may be the name of something else.
                    Some(Some(rule)) if source <= Source::Values => {
                        learned.by_source(cell, source);
                        learned.by_rule(cell, Some(rule));
                    }
                    _ => learned.by_source(cell, source),
                }
            }
        }
    }

    fn by_source(&self, cell: &mut Value, source: Source) {
        match source {
            Source::Keys if matches!(cell, Value::Object(_) | Value::Array(_)) => *cell = MASK.into(),
            source if source.is_mixed() && self.is_loose(cell, source) => {
                self.by_rule(cell, Some(self.strictest()));
            }
            source => self.by_rule(cell, self.rule_of(source)),
        }
    }

    /// A text of a row, or texts in a list, beside which no names are left. Out of JSON numbers may be personal, too, and
    /// JSON of its own where the name above it is gone.
    fn is_loose(&self, cell: &Value, source: Source) -> bool {
        let is_nameless = source == Source::Values;
        match cell {
            Value::String(text) => match Tree::read(text).and_then(|_| serde_json::from_str(text).ok()) {
                Some(list @ Value::Array(_)) => self.is_loose(&list, source),
                Some(_) => is_nameless,
                None => !text.is_empty() && (is_nameless || !Tree::is_json(text)),
            },
            Value::Array(items) => items.iter().any(|item| self.is_loose(item, source)),
            Value::Number(_) | Value::Bool(_) => source >= Source::Items && self.strictest() == Rule::Hidden,
            Value::Object(_) => is_nameless,
            Value::Null => false,
        }
    }
}
