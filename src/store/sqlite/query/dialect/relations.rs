//! Which table or query of `WITH` a name stands for, where the two stores would not agree on it.
//!
//! In PostgreSQL the name of a query of `WITH` is known to the queries behind it and to what `WITH` belongs to; in
//! SQLite to all of them, and letters' case never tells two names apart. A name that is a table in PostgreSQL is
//! therefore written with the schema wherever SQLite would take it for a query.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SelectItemQualifiedWildcardKind, TableFactor,
    VisitorMut, With,
};

use super::{Foreign, foreign};
use crate::sql_walk::walk_mut;

/// The schema people write by habit.
const HABITUAL_SCHEMA: &str = "public";

#[derive(Default)]
pub(super) struct Relations {
    /// One for each query around the place that is looked at.
    scopes: Vec<Scope>,
}

/// A query's `WITH`, taken out of it while the rest is looked at, and which of its names are known there, and which not yet.
#[derive(Default)]
struct Scope {
    with: Option<With>,
    known: Vec<Ident>,
    later: Vec<Ident>,
}

impl Relations {
    fn relation(&self, name: &mut ObjectName) -> ControlFlow<Foreign> {
        if let [schema, _] = name.0.as_mut_slice() {
            habitual(schema);
            return ControlFlow::Continue(());
        }
        let [ObjectNamePart::Identifier(table)] = name.0.as_slice() else {
            return ControlFlow::Continue(());
        };
        // The innermost of either store: they agree if it is the same.
        let mut taken_by_sqlite = false;
        for scope in self.scopes.iter().rev() {
            if scope.known.iter().any(|known| folded(known) == folded(table)) {
                if !taken_by_sqlite {
                    return ControlFlow::Continue(());
                }
                return foreign(
                    format!("{table}, the name of two queries of WITH"),
                    "another name for one of them",
                );
            }
            taken_by_sqlite |= scope
                .known
                .iter()
                .chain(&scope.later)
                .any(|known| known.value.eq_ignore_ascii_case(&table.value));
        }
        if taken_by_sqlite {
            name.0.insert(0, ObjectNamePart::Identifier(Ident::new("main")));
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Relations {
    type Break = Foreign;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Foreign> {
        let mut with = query.with.take();
        let named: Vec<Ident> =
            with.iter().flat_map(|with| &with.cte_tables).map(|cte| cte.alias.name.clone()).collect();
        let recursive = with.as_ref().is_some_and(|with| with.recursive);
        let (known, later) = if recursive { (named, Vec::new()) } else { (Vec::new(), named) };
        self.scopes.push(Scope { with: None, known, later });
        for cte in with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            walk_mut(&mut cte.query, self)?;
            if let Some(scope) = self.scopes.last_mut()
                && !scope.later.is_empty()
            {
                let name = scope.later.remove(0);
                scope.known.push(name);
            }
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.with = with;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Foreign> {
        query.with = self.scopes.pop().and_then(|scope| scope.with);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Foreign> {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relation(name),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut sqlparser::ast::Select) -> ControlFlow<Foreign> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
                && let [schema, _] = name.0.as_slice()
                && is_habitual(schema)
            {
                // SQLite knows no schema before `.*`.
                name.0.remove(0);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Foreign> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [schema, _, _] = parts.as_mut_slice()
            && schema.value.eq_ignore_ascii_case(HABITUAL_SCHEMA)
        {
            *schema = Ident::new("main");
        }
        ControlFlow::Continue(())
    }
}

fn is_habitual(schema: &ObjectNamePart) -> bool {
    schema.as_ident().is_some_and(|schema| schema.value.eq_ignore_ascii_case(HABITUAL_SCHEMA))
}

fn habitual(schema: &mut ObjectNamePart) {
    if is_habitual(schema) {
        *schema = ObjectNamePart::Identifier(Ident::new("main"));
    }
}

/// As PostgreSQL tells names apart.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_none() { name.value.to_ascii_lowercase() } else { name.value.clone() }
}
