//! How large a statement becomes once the names in it are written out.
//!
//! PostgreSQL puts what a query of `WITH` or in FROM computes in the place of every name that reads it, before it runs
//! anything: where each of thirty names reads the one before twice, the last is a thousand million expressions, made in
//! memory that has no bound and in a time that no timeout ends.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
};

use sqlparser::ast::{
    Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, Visit, Visitor,
};

use super::{
    super::{folded, folded_names, is_allowed_function, is_allowed_type, refuse},
    Flow,
    made::{column, expr_of, names_of, selects},
};
use crate::{sql_walk::walk, store::Readable};

/// Names and values, once all names are written out. No statement of people or assistants comes near it.
const MAX_WRITTEN_OUT: u64 = 100_000;

/// Breaks with a statement that the names in it make too large.
pub(super) fn bounded(statement: &impl Visit, readable: &Readable) -> Flow {
    let mut sizes = Sizes {
        readable,
        columns: BTreeMap::new(),
        rows: BTreeMap::new(),
        other: 1,
        least: 1,
        queries: Vec::new(),
    };
    let _ = walk(statement, &mut sizes);
    if sizes.of(statement) <= MAX_WRITTEN_OUT {
        return ControlFlow::Continue(());
    }
    refuse(format!(
        "it would be more than {MAX_WRITTEN_OUT} names and values once PostgreSQL has written out what each name stands for; read a computed \
         name fewer times, or compute it in fewer steps"
    ))
}

/// How large what each name stands for is, the largest of the same name. What a query names is looked at behind all that
/// it reads, so a name that is read is known by then.
struct Sizes<'a> {
    readable: &'a Readable,
    columns: BTreeMap<String, u64>,
    /// Tables, and what stands for them: as a value, each is all of its columns.
    rows: BTreeMap<String, u64>,
    /// The largest that was given no name: Postgres gives it one that is not told here.
    other: u64,
    /// What any name may stand for, where it is not told which columns meet in a UNION.
    least: u64,
    /// One for each query around the place that is looked at.
    queries: Vec<Around>,
}

/// A query on the way through it.
struct Around {
    /// What it is called, if `WITH` names it.
    alias: Option<TableAlias>,
    /// What the next queries in it are called: those of its own `WITH` come before all others.
    next: VecDeque<TableAlias>,
}

impl Sizes<'_> {
    fn of(&self, part: &impl Visit) -> u64 {
        let mut names = WrittenOut { sizes: self, total: 0 };
        let _ = walk(part, &mut names);
        names.total
    }

    fn of_name(&self, name: &str) -> u64 {
        let known = self.columns.get(name).max(self.rows.get(name)).copied();
        let unknown = if is_implied(name) && !self.readable.is_column(name) { self.other } else { 1 };
        known.unwrap_or(unknown).max(self.least)
    }

    fn of_row(&self, table: &ObjectName) -> u64 {
        let name = folded_names(table).pop();
        name.and_then(|name| self.rows.get(&name)).copied().unwrap_or(1)
    }

    /// What each SELECT of a body answers with.
    fn answers(&self, body: &SetExpr) -> Vec<Answer> {
        match body {
            SetExpr::Select(select) => vec![self.answer(select)],
            SetExpr::Values(values) => {
                let answer = |row: &[Expr]| Answer {
                    columns: row.iter().map(|expr| Some(self.of(expr))).collect(),
                    star: 0,
                };
                values.rows.iter().map(|row| answer(&row.content)).collect()
            }
            SetExpr::Query(query) => self.answers(&query.body),
            SetExpr::SetOperation { left, right, .. } => {
                let mut answers = self.answers(left);
                answers.extend(self.answers(right));
                answers
            }
            _ => Vec::new(),
        }
    }

    fn answer(&self, select: &Select) -> Answer {
        let columns: Vec<_> =
            select.projection.iter().map(|item| expr_of(item).map(|expr| self.of(expr))).collect();
        let star = if columns.contains(&None) { self.of(&select.from) } else { 0 };
        Answer { columns, star }
    }

    fn learn(&mut self, name: String, size: u64) {
        let known = self.columns.entry(name).or_insert(1);
        *known = size.max(*known);
    }

    fn learn_row(&mut self, name: &Ident, size: u64) {
        let known = self.rows.entry(folded(name)).or_insert(1);
        *known = size.max(*known);
    }

    /// Learns the names of a query's columns, and those that an alias gives them.
    fn learn_query(&mut self, query: &Query, alias: Option<&TableAlias>) {
        let selects = selects(&query.body);
        let first = selects.first().copied().unwrap_or_default();
        let has_star = first.iter().any(|item| expr_of(item).is_none());
        for (at, answer) in self.answers(&query.body).iter().enumerate() {
            for (i, item) in first.iter().enumerate().filter(|(_, item)| expr_of(item).is_some()) {
                let size = match answer.columns.get(i) {
                    Some(Some(size)) if at == 0 => *size,
                    _ if has_star => answer.whole(),
                    _ => answer.at(i),
                };
                if matches!(item, SelectItem::UnnamedExpr(expr) if column(expr).is_none()) {
                    self.other = self.other.max(size);
                }
                for name in names_of(item) {
                    self.learn(name, size);
                }
            }
            if first.is_empty() {
                self.other = self.other.max(answer.whole());
            }
            // Which names its columns have is not known.
            if at > 0 && has_star {
                let largest = self.columns.values().copied().max();
                let columns = answer.columns.iter().filter_map(|column| column.or(largest));
                self.least = columns.fold(self.least, u64::max);
            }
            let Some(alias) = alias else { continue };
            for (i, column) in alias.columns.iter().enumerate() {
                self.learn(folded(&column.name), answer.at(i));
            }
            self.learn_row(&alias.name, answer.whole());
        }
    }
}

/// Whether Postgres may call a column so that was given no name.
fn is_implied(name: &str) -> bool {
    ["?column?", "array", "case", "exists", "overlay", "row"].contains(&name)
        || name.starts_with("column")
        || is_allowed_function(name)
        || is_allowed_type(name)
}

/// The sizes of the columns that a SELECT answers with, none of a `*`, which is as large as `star`.
struct Answer {
    columns: Vec<Option<u64>>,
    star: u64,
}

impl Answer {
    fn whole(&self) -> u64 {
        self.columns.iter().fold(0, |sum, column| sum.saturating_add(column.unwrap_or(self.star)))
    }

    /// The column of this number; beside a `*` it may be any.
    fn at(&self, i: usize) -> u64 {
        let is_known = !self.columns.contains(&None);
        self.columns.get(i).copied().flatten().filter(|_| is_known).unwrap_or_else(|| self.whole())
    }
}

impl Visitor for Sizes<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let alias = self.queries.last_mut().and_then(|around| around.next.pop_front());
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        self.queries.push(Around { alias, next: named.map(|cte| cte.alias.clone()).collect() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let alias = self.queries.pop().and_then(|around| around.alias);
        self.learn_query(query, alias.as_ref());
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let (alias, size) = match factor {
            TableFactor::Derived { subquery, alias, .. } => {
                self.learn_query(subquery, alias.as_ref());
                return ControlFlow::Continue(());
            }
            TableFactor::Table { name, alias, args: None, .. } => (alias, self.of_row(name)),
            TableFactor::NestedJoin { table_with_joins, alias } => (alias, self.of(table_with_joins)),
            TableFactor::Table { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => (alias, 1),
            _ => return ControlFlow::Continue(()),
        };
        if let Some(alias) = alias {
            for column in &alias.columns {
                self.learn(folded(&column.name), size);
            }
            self.learn_row(&alias.name, size);
        }
        ControlFlow::Continue(())
    }
}

/// Counts the names and values of a part once all names in it are written out.
struct WrittenOut<'a> {
    sizes: &'a Sizes<'a>,
    total: u64,
}

impl Visitor for WrittenOut<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let size = match expr {
            Expr::Identifier(name) => self.sizes.of_name(&folded(name)),
            Expr::CompoundIdentifier(parts) => {
                parts.last().map_or(1, |name| self.sizes.of_name(&folded(name)))
            }
            Expr::QualifiedWildcard(name, _) => self.sizes.of_row(name),
            Expr::Value(_) => 1,
            _ => 0,
        };
        self.total = self.total.saturating_add(size);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor {
            self.total = self.total.saturating_add(self.sizes.of_row(name));
        }
        ControlFlow::Continue(())
    }
}
