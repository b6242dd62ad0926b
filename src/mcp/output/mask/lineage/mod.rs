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

use serde_json::Value;

use self::names::Names;
use super::{MASK, Masking, Rule, Tree, fields};
use crate::store::tables::Column;

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
    /// A whole row, or JSON: inside it names stand beside the values.
    Row,
    /// Values out of JSON whose names stand elsewhere, if anywhere.
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
            Source::Plain | Source::Row | Source::Values => None,
            Source::Sometimes => Some(Rule::IfPersonal),
            Source::Field => Some(Rule::Always),
            Source::Declared => Some(Rule::Declared),
            Source::Hidden => Some(Rule::Hidden),
            Source::Keys => Some(self.strictest()),
        }
    }
}

impl Masking {
    /// Masks the rows that a statement answered with; `stored` are the columns of the tables.
    pub(super) fn rows(
        &self,
        sql: &str,
        dialect: Dialect,
        stored: impl Iterator<Item = Column>,
        columns: &[String],
        rows: &mut [Vec<Value>],
    ) {
        let mut names = Names::new(self, stored);
        let sources = names.sources(sql, dialect, columns);
        let learned = Self { fields: names.fields() };
        let keys = names.keys();
        let naming: Vec<usize> =
            (0..columns.len()).filter(|at| fields::names_another(&columns[*at])).collect();
        for row in rows {
            let name_in = |at: &usize| Some(learned.rule(row.get(*at)?.as_str()?));
            let tells = naming.iter().filter_map(name_in).max();
            let is_key = naming.iter().any(|at| {
                fields::is_key(&columns[*at]) && keys.contains(&columns[*at]) && name_in(at).is_some()
            });
            for (at, cell) in row.iter_mut().enumerate() {
                let source = sources.get(at).copied().unwrap_or(Source::Keys);
                match tells.filter(|_| columns.get(at).is_some_and(|name| fields::is_named_by_another(name)))
                {
                    // The name of JSON's member stands in the cell beside its value.
                    Some(rule) if source <= Source::Values && is_key => learned.by_rule(cell, rule),
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
            Source::Row if is_loose(cell, false) => self.by_rule(cell, Some(self.strictest())),
            Source::Values if is_loose(cell, self.strictest() == Rule::Hidden) => {
                self.by_rule(cell, Some(self.strictest()));
            }
            source => self.by_rule(cell, self.rule_of(source)),
        }
    }
}

/// A text of a row, or texts in a list, beside which no names are left; where `numbers` may be personal, these, too.
fn is_loose(cell: &Value, numbers: bool) -> bool {
    match cell {
        Value::String(text) => match Tree::read(text).and_then(|_| serde_json::from_str(text).ok()) {
            Some(list @ Value::Array(_)) => is_loose(&list, numbers),
            Some(_) => false,
            None => !text.is_empty() && !Tree::is_json(text),
        },
        Value::Array(items) => items.iter().any(|item| is_loose(item, numbers)),
        Value::Number(_) | Value::Bool(_) => numbers,
        _ => false,
    }
}
