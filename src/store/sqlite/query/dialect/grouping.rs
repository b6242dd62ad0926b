//! Columns beside aggregates: PostgreSQL refuses one whose value differs among the rows of a group, SQLite takes that of
//! some row.
//!
//! What is refused here, PostgreSQL refuses, too; a form that can't be told is left to SQLite.

use std::ops::ControlFlow;

use sqlparser::ast::{
    CastKind, Expr, GroupByExpr, Ident, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableFactor, TableWithJoins, Value, Visit, Visitor,
};

use super::{
    Foreign, foreign,
    forms::{function_name, plain_arguments, take, template, unnested},
    hints,
    kinds::{Columns, Kinds},
    lists::{is_unnest, own_name},
};
use crate::sql_walk::{change_expressions, walk};

const CONTINUE: ControlFlow<Foreign> = ControlFlow::Continue(());

/// Functions that make one value of the rows of a group.
const AGGREGATES: [&str; 15] = [
    "avg",
    "count",
    "group_concat",
    "json_group_array",
    "json_group_object",
    "jsonb_group_array",
    "jsonb_group_object",
    "max",
    "min",
    "pg_avg",
    "pg_percentile",
    "pg_sum",
    "string_agg",
    "sum",
    "total",
];

/// Breaks where a SELECT of the query, which was entered, answers with or sorts by a column that is neither grouped nor
/// aggregated.
pub(super) fn check(kinds: &Kinds<'_>, query: &Query) -> ControlFlow<Foreign> {
    let order = match &query.order_by {
        Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) => order.as_slice(),
        _ => &[],
    };
    check_body(kinds, &query.body, order)
}

fn check_body(kinds: &Kinds<'_>, body: &SetExpr, order: &[OrderByExpr]) -> ControlFlow<Foreign> {
    match body {
        SetExpr::Select(select) => check_select(kinds, select, order),
        SetExpr::SetOperation { left, right, .. } => {
            check_body(kinds, left, &[])?;
            check_body(kinds, right, &[])
        }
        // A query inside is visited by itself.
        _ => CONTINUE,
    }
}

fn check_select(kinds: &Kinds<'_>, select: &Select, order: &[OrderByExpr]) -> ControlFlow<Foreign> {
    if has_aggregate_around(kinds, select) {
        return foreign("an aggregate of a query around, inside of another one", hints::OUTER_AGGREGATE);
    }
    let GroupByExpr::Expressions(by, _) = &select.group_by else { return CONTINUE };
    // PostgreSQL takes lists apart behind the windows, SQLite before them.
    if by.is_empty()
        && has(&select.projection, &is_unnested)
        && (has(&select.projection, &is_windowed) || order.iter().any(|by| has(by, &is_windowed)))
    {
        return foreign("a window function beside unnest", hints::UNNEST_WINDOW);
    }
    let is_grouped = !by.is_empty()
        || select.having.is_some()
        || has(&select.projection, &is_aggregate)
        || order.iter().any(|by| has(by, &is_aggregate));
    let Some(mut group) = is_grouped.then(|| Group::of(kinds, select, by)).flatten() else {
        return CONTINUE;
    };
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                walk(expr, &mut group)?;
            }
            SelectItem::Wildcard(_) => group.all_columns(None)?,
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                group.all_columns(Some(&function_name(name)))?;
            }
            _ => {}
        }
    }
    walk(&select.having, &mut group)?;
    walk(&select.named_window, &mut group)?;
    for by in order {
        // A column of the answer by its name.
        let named =
            matches!(&by.expr, Expr::Identifier(name) if group.given.contains(&name.value.to_lowercase()));
        if !named {
            walk(&by.expr, &mut group)?;
        }
    }
    CONTINUE
}

/// Whether the SELECT makes one row of all that it reads. An aggregate of nothing but columns of queries around it is
/// one of theirs.
pub(super) fn has_one_row(kinds: &Kinds<'_>, select: &Select) -> bool {
    let sources: Vec<_> = select.from.iter().flat_map(|table| kinds.sources(table)).collect();
    let is_own = |expr: &Expr| {
        column(expr).is_some_and(|(table, name)| {
            sources.iter().any(|(source, columns)| match &table {
                Some(table) => table == source,
                None => columns.iter().any(|(column, _)| *column == name),
            })
        })
    };
    let makes_one = |expr: &Expr| {
        is_aggregate(expr) && (has(expr, &is_own) || !has(expr, &|inner| column(inner).is_some()))
    };
    matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty())
        && has(&select.projection, &makes_one)
}

/// Whether it answers with an aggregate of nothing but columns of queries around it: PostgreSQL makes groups of their
/// rows then.
fn has_aggregate_around(kinds: &Kinds<'_>, select: &Select) -> bool {
    let sources: Vec<_> = select.from.iter().flat_map(|table| kinds.sources(table)).collect();
    let may_be_own = |(table, name): &Column| {
        sources.iter().any(|(source, columns)| match table {
            Some(table) => table == source,
            None => columns.is_empty() || name == source || columns.iter().any(|(column, _)| column == name),
        })
    };
    let is_around = |expr: &Expr| {
        column(expr).is_some_and(|column| {
            !may_be_own(&column)
                && match &column {
                    (Some(table), _) => kinds.is_read_around(table),
                    (None, name) => kinds.is_known_around(name),
                }
        })
    };
    let is_own = |expr: &Expr| column(expr).is_some_and(|column| may_be_own(&column));
    has(&select.projection, &|expr| is_aggregate(expr) && has(expr, &is_around) && !has(expr, &is_own))
}

/// A column's name, and that of its table where it was written.
type Column = (Option<String>, String);

fn column(expr: &Expr) -> Option<Column> {
    match unnested(expr) {
        Expr::Identifier(name) => Some((None, name.value.to_lowercase())),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., table, name] => Some((Some(table.value.to_lowercase()), name.value.to_lowercase())),
            _ => None,
        },
        _ => None,
    }
}

/// What has one value in all the rows of a group.
struct Group<'a> {
    kinds: &'a Kinds<'a>,
    sources: Vec<(String, Columns)>,
    /// Names that the SELECT gives.
    given: Vec<String>,
    columns: Vec<Column>,
    /// Other grouped values, see [`Self::spelled`].
    values: Vec<String>,
    /// Tables whose primary keys are grouped.
    whole: Vec<String>,
    /// How many expressions around have one value.
    inside: usize,
    /// The tables of the queries inside the SELECT that are being looked at.
    inner: Vec<Vec<String>>,
}

impl<'a> Group<'a> {
    /// None where it can't be told what is grouped.
    fn of(kinds: &'a Kinds<'a>, select: &Select, by: &[Expr]) -> Option<Self> {
        let given = select.projection.iter().filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.to_lowercase()),
            _ => None,
        });
        let mut group = Self {
            kinds,
            sources: select.from.iter().flat_map(|table| kinds.sources(table)).collect(),
            given: given.collect(),
            columns: Vec::new(),
            values: Vec::new(),
            whole: Vec::new(),
            inside: 0,
            inner: Vec::new(),
        };
        for expr in by {
            group.add(select, expr)?;
        }
        for table in select.from.iter().flat_map(factors) {
            if let (TableFactor::Table { name, args: None, .. }, Some(own)) = (table, own_name(table)) {
                let (own, key) = (own.value.to_lowercase(), kinds.key_of(name));
                if !key.is_empty() && key.into_iter().all(|name| group.has_column(&(Some(own.clone()), name)))
                {
                    group.whole.push(own);
                }
            }
        }
        Some(group)
    }

    fn add(&mut self, select: &Select, by: &Expr) -> Option<()> {
        match unnested(by) {
            Expr::Tuple(parts) => return parts.iter().try_for_each(|part| self.add(select, part)),
            Expr::Value(value) => {
                let Value::Number(place, _) = &value.value else { return Some(()) };
                let before = select.projection.get(..place.parse().ok()?)?;
                let is_plain = |item: &SelectItem| {
                    matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
                };
                if !before.iter().all(is_plain) {
                    return None;
                }
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } =
                    before.last()?
                {
                    self.add_value(expr);
                }
            }
            Expr::Identifier(name) => {
                self.add_value(by);
                if !self.is_of_sources(&name.value.to_lowercase()) {
                    for item in &select.projection {
                        if let SelectItem::ExprWithAlias { expr, alias } = item
                            && alias.value.eq_ignore_ascii_case(&name.value)
                        {
                            self.add_value(expr);
                        }
                    }
                }
            }
            Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => return None,
            expr => self.add_value(expr),
        }
        Some(())
    }

    fn add_value(&mut self, expr: &Expr) {
        match column(expr) {
            Some(column) => self.columns.push(column),
            None => self.values.push(self.spelled(expr)),
        }
    }

    fn is_of_sources(&self, name: &str) -> bool {
        self.sources.iter().any(|(_, columns)| columns.iter().any(|(column, _)| column == name))
    }

    /// A table that was not written may be any.
    fn has_column(&self, (table, name): &Column) -> bool {
        self.columns
            .iter()
            .any(|(other, column)| column == name && (table.is_none() || other.is_none() || other == table))
    }

    fn is_one(&self, column: &Column) -> bool {
        let (table, name) = column;
        self.has_column(column)
            || self.whole.iter().any(|whole| match table {
                Some(table) => whole == table,
                None => self.sources.iter().any(|(source, columns)| {
                    source == whole && columns.iter().any(|(column, _)| column == name)
                }),
            })
    }

    /// Whether the expression has one value, whatever it is made of.
    fn covers(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Function(call) if hints::of_function(&function_name(&call.name)).is_some() => true,
            expr if is_aggregate(expr) => true,
            expr => match column(expr) {
                Some(column) => self.is_one(&column),
                None => !self.values.is_empty() && self.values.contains(&self.spelled(expr)),
            },
        }
    }

    /// One text for what PostgreSQL reads as the same value.
    fn spelled(&self, expr: &Expr) -> String {
        let mut expr = expr.clone();
        change_expressions(&mut expr, |expr| match expr {
            Expr::Nested(inner) => *expr = take(inner),
            Expr::Identifier(name) => name.quote_style = None,
            Expr::CompoundIdentifier(parts) => {
                if let Some(name) = parts.last().map(|name| name.value.clone())
                    && self.is_of_one_source(&name)
                {
                    *expr = Expr::Identifier(Ident::new(name));
                }
            }
            Expr::Cast { kind, .. } => *kind = CastKind::Cast,
            Expr::Function(call) if function_name(&call.name) == "date" => {
                if let [of] = plain_arguments(&call.args).as_slice() {
                    *expr = template("CAST(_0 AS date)", &[of]);
                }
            }
            _ => {}
        });
        expr.to_string().to_lowercase()
    }

    fn is_of_one_source(&self, name: &str) -> bool {
        let has = |columns: &Columns| columns.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
        self.sources.iter().filter(|(_, columns)| has(columns)).count() < 2
    }

    /// Whether it is a column of what the SELECT reads, and not of a query around it or inside.
    fn is_own(&self, (table, name): &Column) -> bool {
        match table {
            Some(table) => {
                self.sources.iter().any(|(source, _)| source == table)
                    && !self.inner.iter().flatten().any(|inner| inner == table)
            }
            None if !self.inner.is_empty() => false,
            None => {
                self.is_of_sources(name) || !(self.given.contains(name) || self.kinds.is_known_around(name))
            }
        }
    }

    fn all_columns(&self, of: Option<&str>) -> ControlFlow<Foreign> {
        let sources = self.sources.iter().filter(|(source, _)| of.is_none_or(|of| of == source));
        for (source, columns) in sources {
            for (name, _) in columns.iter() {
                if !self.is_one(&(Some(source.clone()), name.clone())) {
                    return bare(name);
                }
            }
        }
        CONTINUE
    }
}

fn bare(name: &str) -> ControlFlow<Foreign> {
    foreign(format!("the column {name}, neither grouped nor aggregated"), hints::BARE_COLUMN)
}

impl Visitor for Group<'_> {
    type Break = Foreign;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Foreign> {
        let mut tables = Vec::new();
        name_tables(self.kinds, &query.body, &mut tables);
        self.inner.push(tables);
        CONTINUE
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Foreign> {
        self.inner.pop();
        CONTINUE
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Foreign> {
        if self.covers(expr) {
            self.inside += 1;
        } else if self.inside == 0 && self.inner.is_empty() && is_unnested(expr) {
            // PostgreSQL takes lists apart behind the groups, SQLite before them.
            return foreign("unnest of a list beside groups", hints::UNNEST_GROUPS);
        } else if self.inside == 0
            && let Some(column) = column(expr)
            && self.is_own(&column)
        {
            return bare(&column.1);
        }
        CONTINUE
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Foreign> {
        if self.covers(expr) {
            self.inside -= 1;
        }
        CONTINUE
    }
}

/// The names of the tables that a query itself reads.
fn name_tables(kinds: &Kinds<'_>, body: &SetExpr, tables: &mut Vec<String>) {
    match body {
        SetExpr::Select(select) => {
            let sources = select.from.iter().flat_map(|table| kinds.sources(table));
            tables.extend(sources.map(|(name, _)| name));
        }
        SetExpr::SetOperation { left, right, .. } => {
            name_tables(kinds, left, tables);
            name_tables(kinds, right, tables);
        }
        _ => {}
    }
}

fn factors(table: &TableWithJoins) -> Vec<&TableFactor> {
    let joined = table.joins.iter().map(|join| &join.relation);
    let all = std::iter::once(&table.relation).chain(joined);
    all.flat_map(|factor| match factor {
        TableFactor::NestedJoin { table_with_joins, alias: None } => factors(table_with_joins),
        factor => vec![factor],
    })
    .collect()
}

fn is_aggregate(expr: &Expr) -> bool {
    let Expr::Function(call) = expr else { return false };
    let name = function_name(&call.name);
    // Of several values, SQLite's `max` is a function like others.
    let of_rows = !matches!(name.as_str(), "max" | "min") || plain_arguments(&call.args).len() < 2;
    call.over.is_none() && (!call.within_group.is_empty() || of_rows && AGGREGATES.contains(&name.as_str()))
}

fn is_windowed(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if call.over.is_some())
}

fn is_unnested(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if is_unnest(&function_name(&call.name)))
}

/// Whether there is such an expression, but for those of queries inside.
fn has(node: &impl Visit, is_it: &dyn Fn(&Expr) -> bool) -> bool {
    walk(node, &mut Finder { is_it, depth: 0 }).is_break()
}

struct Finder<'a> {
    is_it: &'a dyn Fn(&Expr) -> bool,
    depth: usize,
}

impl Visitor for Finder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth == 0 && (self.is_it)(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
