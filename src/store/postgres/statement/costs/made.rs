//! What the names of a statement's own columns stand for.

use std::{collections::BTreeMap, ops::ControlFlow};

use sqlparser::ast::{
    AccessExpr, Expr, Ident, Query, Select, SelectItem, SetExpr, TableAliasColumnDef, TableFactor, Visitor,
};

use super::super::{folded, folded_names};

/// What the statement's own names stand for; nothing where that can't be told.
#[derive(Default)]
pub(super) struct Made(pub(super) BTreeMap<String, Vec<Option<Expr>>>);

impl Made {
    fn add(&mut self, name: String, expr: Option<&Expr>) {
        self.0.entry(name).or_default().push(expr.cloned());
    }

    /// The columns that a list behind an alias names, with what each SELECT of the query gives them where it is told in
    /// order; those behind it have the names of the first SELECT.
    fn rename(&mut self, columns: &[TableAliasColumnDef], query: Option<&Query>) {
        let selects = query.map_or_else(|| vec![&[][..]], |query| selects(&query.body));
        for (i, column) in columns.iter().enumerate() {
            for items in &selects {
                self.add(folded(&column.name), item_at(items, i));
            }
        }
        let [first, others @ ..] = selects.as_slice() else { return };
        for (i, item) in first.iter().enumerate().skip(columns.len()) {
            for name in names_of(item) {
                for expr in others.iter().map(|items| item_at(items, i)) {
                    if expr.and_then(column).map(folded).as_ref() != Some(&name) {
                        self.add(name.clone(), expr);
                    }
                }
            }
        }
    }
}

/// What each SELECT of a query's body answers with; of VALUES nothing is told.
pub(super) fn selects(body: &SetExpr) -> Vec<&[SelectItem]> {
    match body {
        SetExpr::Select(select) => vec![&select.projection],
        SetExpr::Query(query) => selects(&query.body),
        SetExpr::SetOperation { left, right, .. } => [selects(left), selects(right)].concat(),
        _ => vec![&[]],
    }
}

/// The expression that is the column of this number; behind a `*` no numbers are known.
fn item_at(items: &[SelectItem], i: usize) -> Option<&Expr> {
    items.iter().take(i + 1).map(expr_of).collect::<Option<Vec<_>>>()?.get(i).copied()
}

pub(super) fn expr_of(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// What the column of an item may be called; nothing where it is a `*`.
pub(super) fn names_of(item: &SelectItem) -> Vec<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => vec![folded(alias)],
        SelectItem::UnnamedExpr(expr) => default_names(expr),
        _ => Vec::new(),
    }
}

impl Visitor for Made {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.rename(&cte.alias.columns, Some(&cte.query));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            let Some(expr) = expr_of(item) else { continue };
            if matches!(item, SelectItem::UnnamedExpr(_)) && column(expr).is_some() {
                continue;
            }
            for name in names_of(item) {
                self.add(name, Some(expr));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Derived { alias, subquery, .. } => {
                let columns = alias.as_ref().map(|alias| alias.columns.as_slice()).unwrap_or_default();
                self.rename(columns, Some(subquery));
            }
            TableFactor::Table { args: Some(_), alias, name, .. }
            | TableFactor::Function { alias, name, .. } => {
                self.add(folded_names(name).pop().unwrap_or_default(), None);
                if let Some(alias) = alias {
                    self.add(folded(&alias.name), None);
                    self.rename(&alias.columns, None);
                }
            }
            TableFactor::UNNEST { alias, .. } => {
                self.add("unnest".to_owned(), None);
                if let Some(alias) = alias {
                    self.add(folded(&alias.name), None);
                    self.rename(&alias.columns, None);
                }
            }
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => self.rename(&alias.columns, None),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What Postgres may call a column that was given no name.
fn default_names(expr: &Expr) -> Vec<String> {
    if let Some(name) = column(expr) {
        return vec![folded(name)];
    }
    match expr {
        Expr::Function(call) => folded_names(&call.name).pop().into_iter().collect(),
        Expr::Cast { expr, data_type, .. } => {
            let mut names = default_names(expr);
            names.push(data_type.to_string().to_lowercase());
            names
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => default_names(inner),
        Expr::Substring { .. } => vec!["substring".to_owned()],
        Expr::Trim { .. } => ["btrim", "ltrim", "rtrim"].map(str::to_owned).into(),
        Expr::Case { else_result, .. } => {
            let mut names = else_result.as_deref().map(default_names).unwrap_or_default();
            names.push("case".to_owned());
            names
        }
        Expr::Overlay { .. } => vec!["overlay".to_owned()],
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(name)) => Some(folded(name)),
                _ => None,
            });
            field.map_or_else(|| default_names(root), |name| vec![name])
        }
        Expr::Subquery(query) => {
            selects(&query.body).first().and_then(|items| items.first()).map(names_of).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// The name of a bare column.
pub(super) fn column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        Expr::Nested(inner) => column(inner),
        _ => None,
    }
}
