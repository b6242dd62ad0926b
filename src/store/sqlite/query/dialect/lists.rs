//! Lists made rows: `unnest` and its like are `json_each`, whose rows have more columns than one.

use std::ops::ControlFlow;

use sqlparser::{
    ast::{
        Expr, Ident, Query, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor,
        VisitorMut,
    },
    dialect::PostgreSqlDialect,
};

use super::{
    forms::{function_name, template},
    parse,
};
use crate::sql_walk::change_expressions;

pub(super) fn is_unnest(function: &str) -> bool {
    [
        "unnest",
        "json_array_elements",
        "json_array_elements_text",
        "jsonb_array_elements",
        "jsonb_array_elements_text",
    ]
    .contains(&function)
}

/// The list of which `json_each` makes what the function makes of `list`: elements of JSON keep the types that they have
/// in it, where PostgreSQL has JSON or texts of all.
pub(super) fn list_of(function: &str, list: &Expr) -> Expr {
    match function {
        "json_array_elements" | "jsonb_array_elements" => template("pg_json_elements(_0)", &[list]),
        "json_array_elements_text" | "jsonb_array_elements_text" => template("pg_json_texts(_0)", &[list]),
        _ => list.clone(),
    }
}

/// `json_each(list) AS alias`.
pub(super) fn elements_of(list: Expr, alias: &str) -> TableFactor {
    let sql = format!("SELECT 1 FROM json_each(x) AS \"{}\"", alias.replace('"', ""));
    let made = parse(&PostgreSqlDialect {}, &sql).and_then(|statement| {
        let Statement::Query(query) = statement else { return None };
        let SetExpr::Select(mut select) = *query.body else { return None };
        Some(select.from.pop()?.relation)
    });
    let mut factor = made.unwrap_or_else(|| TableFactor::TableFunction { expr: list.clone(), alias: None });
    change_expressions(&mut factor, |expr| {
        if matches!(expr, Expr::Identifier(_)) {
            *expr = list.clone();
        }
    });
    factor
}

/// An element by the name it was given is the table's `value`.
pub(super) fn name_element(expr: &mut Expr, elements: &[(String, String)]) {
    let same = |name: &Ident, other: &str| name.value.eq_ignore_ascii_case(other);
    let table = match &*expr {
        Expr::Identifier(name) => elements.iter().find(|(_, element)| same(name, element)),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, name] => elements
                .iter()
                .find(|(alias, element)| same(table, alias) && (same(name, element) || same(name, alias))),
            _ => None,
        },
        _ => None,
    };
    if let Some((alias, _)) = table {
        *expr = Expr::CompoundIdentifier(vec![Ident::with_quote('"', alias), Ident::new("value")]);
    }
}

/// Whether it stands for all columns of a list's elements, of which `json_each` has eight.
pub(super) fn takes_elements(item: &SelectItem, elements: &[(String, String)]) -> bool {
    match item {
        SelectItem::Wildcard(_) => true,
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            let name = function_name(name);
            elements.iter().any(|(alias, _)| alias.eq_ignore_ascii_case(&name))
        }
        _ => false,
    }
}

/// The name by which a table's columns are told from those of others.
pub(super) fn own_name(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), args: None, .. }
        | TableFactor::Derived { alias: Some(alias), .. } => Some(alias.name.clone()),
        TableFactor::Table { name, alias: None, args: None, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

/// The columns of `json_each`; a table's own of such a name must be told apart from them.
pub(super) const ELEMENT_COLUMNS: [&str; 8] =
    ["key", "value", "type", "atom", "id", "parent", "fullkey", "path"];

/// Names the table of bare columns that `json_each` has, too.
pub(super) struct Qualified<'a> {
    pub(super) by: Ident,
    pub(super) elements: &'a [(String, String)],
    /// Queries inside have tables of their own.
    pub(super) depth: usize,
}

impl VisitorMut for Qualified<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && self.depth == 0
            && ELEMENT_COLUMNS.contains(&name.value.to_lowercase().as_str())
            && !self.elements.iter().any(|(_, element)| element.eq_ignore_ascii_case(&name.value))
        {
            *expr = Expr::CompoundIdentifier(vec![self.by.clone(), name.clone()]);
        }
        ControlFlow::Continue(())
    }
}
