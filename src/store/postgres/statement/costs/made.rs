//! What the names of a statement's own columns stand for.

use std::{collections::BTreeMap, ops::ControlFlow};

use sqlparser::ast::{Expr, Ident, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, Visitor};

use super::super::{folded, folded_names};

/// What the statement's own names stand for; nothing where that can't be told.
#[derive(Default)]
pub(super) struct Made(pub(super) BTreeMap<String, Vec<Option<Expr>>>);

impl Made {
    fn add(&mut self, name: String, expr: Option<&Expr>) {
        self.0.entry(name).or_default().push(expr.cloned());
    }

    /// The names behind an alias, with what the query gives them where it is told in order.
    fn rename(&mut self, alias: &TableAlias, query: Option<&Query>) {
        let items = match query.map(|query| &*query.body) {
            Some(SetExpr::Select(select)) => select.projection.as_slice(),
            _ => &[],
        };
        for (i, column) in alias.columns.iter().enumerate() {
            let expr = match items.get(i) {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => Some(expr),
                _ => None,
            };
            self.add(folded(&column.name), expr);
        }
    }
}

impl Visitor for Made {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.rename(&cte.alias, Some(&cte.query));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { expr, alias } => self.add(folded(alias), Some(expr)),
                SelectItem::UnnamedExpr(expr) if column(expr).is_none() => {
                    for name in default_names(expr) {
                        self.add(name, Some(expr));
                    }
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Derived { alias: Some(alias), subquery, .. } => self.rename(alias, Some(subquery)),
            TableFactor::Table { args: Some(_), alias, name, .. }
            | TableFactor::Function { alias, name, .. } => {
                self.add(folded_names(name).pop().unwrap_or_default(), None);
                if let Some(alias) = alias {
                    self.add(folded(&alias.name), None);
                    self.rename(alias, None);
                }
            }
            TableFactor::UNNEST { alias, .. } => {
                self.add("unnest".to_owned(), None);
                if let Some(alias) = alias {
                    self.add(folded(&alias.name), None);
                    self.rename(alias, None);
                }
            }
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => self.rename(alias, None),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What Postgres may call a column that was given no name.
fn default_names(expr: &Expr) -> Vec<String> {
    match expr {
        Expr::Function(call) => folded_names(&call.name).pop().into_iter().collect(),
        Expr::Cast { expr, data_type, .. } => {
            let mut names = column(expr).map(folded).map_or_else(|| default_names(expr), |name| vec![name]);
            names.push(data_type.to_string().to_lowercase());
            names
        }
        Expr::Nested(inner) => default_names(inner),
        Expr::Substring { .. } => vec!["substring".to_owned()],
        Expr::Trim { .. } => ["btrim", "ltrim", "rtrim"].map(str::to_owned).into(),
        Expr::Case { .. } => vec!["case".to_owned()],
        Expr::Overlay { .. } => vec!["overlay".to_owned()],
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::ExprWithAlias { alias, .. }) => vec![folded(alias)],
                Some(SelectItem::UnnamedExpr(expr)) => {
                    column(expr).map(folded).map_or_else(|| default_names(expr), |name| vec![name])
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        },
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
