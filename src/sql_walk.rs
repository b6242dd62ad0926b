//! Walks over parsed SQL.
//!
//! sqlparser's own `visit` is compiled anew, for all types of its tree, with each visitor. With thirty visitors that was a third
//! of what the compiler had to do; here there is one that passes everything on to whichever visits.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, GroupByExpr, Ident, ObjectName, OrderBy, OrderByExpr, Query, Select, Statement, TableFactor,
    ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};

/// Has `visitor` see a part of a statement; what it broke off with.
pub(crate) fn walk<V: Visitor>(part: &impl Visit, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut kept = Kept { visitor, broke: None };
    let _ = part.visit(&mut Any(&mut kept));
    kept.broke.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

/// As [`walk`], of a visitor that changes what it sees.
pub(crate) fn walk_mut<V: VisitorMut>(part: &mut impl VisitMut, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut kept = Kept { visitor, broke: None };
    let _ = part.visit(&mut AnyMut(&mut kept));
    kept.broke.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

/// Changes each expression, those inside of another before it.
pub(crate) fn change_expressions(part: &mut impl VisitMut, change: impl FnMut(&mut Expr)) {
    struct Change<F>(F);
    impl<F: FnMut(&mut Expr)> VisitorMut for Change<F> {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            self.0(expr);
            ControlFlow::Continue(())
        }
    }
    let _ = walk_mut(part, &mut Change(change));
}

/// A visitor, and what it broke off with.
struct Kept<'a, V, B> {
    visitor: &'a mut V,
    broke: Option<B>,
}

impl<V, B> Kept<'_, V, B> {
    fn note(&mut self, flow: ControlFlow<B>) -> ControlFlow<()> {
        flow.map_break(|broke| self.broke = Some(broke))
    }
}

struct Any<'a>(&'a mut dyn Visitor<Break = ()>);

struct AnyMut<'a>(&'a mut dyn VisitorMut<Break = ()>);

macro_rules! pass_on {
    ($($method:ident: $node:ident),* $(,)?) => {
        impl<V: Visitor> Visitor for Kept<'_, V, V::Break> {
            type Break = ();
            $(fn $method(&mut self, node: &$node) -> ControlFlow<()> {
                let flow = self.visitor.$method(node);
                self.note(flow)
            })*
        }

        impl<V: VisitorMut> VisitorMut for Kept<'_, V, V::Break> {
            type Break = ();
            $(fn $method(&mut self, node: &mut $node) -> ControlFlow<()> {
                let flow = self.visitor.$method(node);
                self.note(flow)
            })*
        }

        impl Visitor for Any<'_> {
            type Break = ();
            $(fn $method(&mut self, node: &$node) -> ControlFlow<()> {
                self.0.$method(node)
            })*
        }

        impl VisitorMut for AnyMut<'_> {
            type Break = ();
            $(fn $method(&mut self, node: &mut $node) -> ControlFlow<()> {
                self.0.$method(node)
            })*
        }
    };
}

// All that the two traits have: what is missing here would be seen by no visitor.
pass_on! {
    pre_visit_query: Query, post_visit_query: Query,
    pre_visit_select: Select, post_visit_select: Select,
    pre_visit_relation: ObjectName, post_visit_relation: ObjectName,
    pre_visit_table_factor: TableFactor, post_visit_table_factor: TableFactor,
    pre_visit_expr: Expr, post_visit_expr: Expr,
    pre_visit_statement: Statement, post_visit_statement: Statement,
    pre_visit_value: ValueWithSpan, post_visit_value: ValueWithSpan,
    pre_visit_ident: Ident, post_visit_ident: Ident,
    pre_visit_order_by: OrderBy, post_visit_order_by: OrderBy,
    pre_visit_order_by_expr: OrderByExpr, post_visit_order_by_expr: OrderByExpr,
    pre_visit_group_by: GroupByExpr, post_visit_group_by: GroupByExpr,
}
