//! What is left of PostgreSQL's forms when all that have a counterpart are replaced.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Distinct, Expr, GroupByExpr, Query, Select, TableFactor, Visitor};

use super::{Foreign, foreign, forms::function_name, hints, kinds::Kinds};

/// Finds what is left of PostgreSQL's and has no counterpart.
pub(super) struct Leftover<'a> {
    pub(super) kinds: Kinds<'a>,
}

impl Visitor for Leftover<'_> {
    type Break = Foreign;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Foreign> {
        self.kinds.enter_select(select);
        if matches!(select.distinct, Some(Distinct::On(_))) {
            return foreign("DISTINCT ON", hints::DISTINCT_ON);
        }
        match &select.group_by {
            GroupByExpr::Expressions(_, modifiers) if modifiers.is_empty() => ControlFlow::Continue(()),
            _ => foreign("this GROUP BY", hints::ROLLUP),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Foreign> {
        self.kinds.enter_query(query);
        if query.fetch.is_some() { foreign("FETCH FIRST", "LIMIT n") } else { ControlFlow::Continue(()) }
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Foreign> {
        self.kinds.leave_query();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Foreign> {
        match factor {
            TableFactor::Derived { lateral: true, .. } => foreign("LATERAL", hints::LATERAL),
            TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Table { alias: Some(alias), args: None, .. }
                if !alias.columns.is_empty() =>
            {
                foreign("names of columns behind a table's", "WITH t(a, b) AS (SELECT …) SELECT a FROM t")
            }
            TableFactor::UNNEST { .. } => {
                foreign("unnest with numbers", "json_each(x), whose column key is the number")
            }
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                let name = function_name(name);
                match hints::of_function(&name) {
                    Some(instead) => foreign(format!("the function {name}"), instead),
                    None => ControlFlow::Continue(()),
                }
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Foreign> {
        use BinaryOperator as Op;
        if self.kinds.difference(expr).is_some() {
            return foreign("the difference of two times as a value", hints::DIFFERENCE);
        }
        match expr {
            Expr::Interval(_) => foreign("an interval by itself", hints::INTERVAL),
            Expr::Array(_) => foreign("ARRAY[…]", "json_array('a', 'b'), or x IN ('a', 'b')"),
            Expr::CompoundFieldAccess { .. } => foreign("a list's element by its number", hints::ELEMENT),
            Expr::SimilarTo { .. } => foreign("SIMILAR TO", "x LIKE '%a%'"),
            Expr::AnyOp { .. } | Expr::AllOp { .. } => foreign("this ANY or ALL", hints::ANY),
            Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => {
                foreign("this GROUP BY", hints::ROLLUP)
            }
            Expr::Overlay { .. } => foreign("overlay", "substr(x, 1, n) || 'new' || substr(x, m)"),
            Expr::BinaryOp { op, .. } => match op {
                Op::AtArrow
                | Op::ArrowAt
                | Op::QuestionAnd
                | Op::QuestionPipe
                | Op::HashMinus
                | Op::AtQuestion => foreign(format!("the operator {op}"), hints::JSON_CONTAINS),
                Op::PGOverlap => foreign("the operator &&", hints::UNNEST),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}
