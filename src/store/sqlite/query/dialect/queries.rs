//! Queries inside of others, where SQLite reads them otherwise: the branches of sets, and those that stand for one value.

use sqlparser::{
    ast::{
        BinaryOperator, Expr, InTarget, LimitClause, Query, SetExpr, Statement, TableFactor, TableWithJoins,
        Value,
    },
    dialect::PostgreSqlDialect,
};

use super::{
    forms::{take, template, unnested},
    grouping,
    kinds::Kinds,
    parse,
};

/// Makes a SELECT of each branch that is a set itself or stands in parentheses: SQLite reads sets from left to right,
/// where PostgreSQL reads INTERSECT first, and has no parentheses around branches.
pub(super) fn set_apart(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            set_apart(left);
            match **right {
                SetExpr::SetOperation { .. } => select_from(right),
                _ => set_apart(right),
            }
        }
        // A query that reads itself can't from inside of another one in FROM.
        SetExpr::Query(query) if is_select(query) => {
            *body = (*query.body).clone();
            set_apart(body);
        }
        SetExpr::Query(_) => select_from(body),
        _ => {}
    }
}

/// Whether there is nothing but a SELECT between the parentheses.
fn is_select(query: &Query) -> bool {
    let has_select = match &*query.body {
        SetExpr::Select(_) => true,
        SetExpr::Query(inner) => is_select(inner),
        _ => false,
    };
    has_select && query.to_string() == query.body.to_string()
}

/// `SELECT * FROM (body)`.
fn select_from(body: &mut SetExpr) {
    let Some(Statement::Query(mut made)) = parse(&PostgreSqlDialect {}, "SELECT * FROM (SELECT 1)") else {
        return;
    };
    if let SetExpr::Select(select) = &mut *made.body
        && let [TableWithJoins { relation: TableFactor::Derived { subquery, .. }, .. }] =
            select.from.as_mut_slice()
    {
        match body.clone() {
            SetExpr::Query(query) => *subquery = query,
            set => *subquery.body = set,
        }
        *body = *made.body;
    }
}

/// Writes a query among whose rows a value is looked for as IN has it, so that it stands for no value.
pub(super) fn look_among(expr: &mut Expr) {
    let (at, rows, negated) = match expr {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
        Expr::In { target, .. } => {
            if let InTarget::List(list) = target
                && let [only] = list.as_slice()
                && let Expr::Subquery(query) = unnested(only)
            {
                *target = InTarget::Subquery(query.clone());
            }
            return;
        }
        _ => return,
    };
    if let Expr::Subquery(query) = unnested(rows) {
        let target = InTarget::Subquery(query.clone());
        let at = Box::new(take(at));
        *expr = Expr::In { expr: at, target, negated, global: false };
    }
}

/// The query in the place of a value so that a second row fails, as in PostgreSQL: SQLite takes the first. Nothing
/// where there can't be a second.
pub(super) fn only_row(kinds: &Kinds<'_>, query: &Query) -> Option<Expr> {
    if has_one_row(kinds, query) {
        return None;
    }
    // There are several where rows are compared.
    let names: Vec<String> =
        (0..kinds.columns_of(query).len().max(1)).map(|i| format!("pg_value{i}")).collect();
    let values: Vec<String> = names.iter().map(|name| format!("pg_only({name})")).collect();
    let (names, values) = (names.join(", "), values.join(", "));
    let mut made =
        template(&format!("(WITH pg_rows({names}) AS (SELECT 1) SELECT {values} FROM pg_rows)"), &[]);
    if let Expr::Subquery(outer) = &mut made {
        for cte in outer.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            *cte.query = query.clone();
        }
    }
    Some(made)
}

fn has_one_row(kinds: &Kinds<'_>, query: &Query) -> bool {
    let is_limited = match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit: Some(Expr::Value(limit)), .. }) => {
            matches!(&limit.value, Value::Number(limit, _) if limit == "0" || limit == "1")
        }
        _ => false,
    };
    is_limited
        || matches!(&*query.body, SetExpr::Select(select)
            if select.from.is_empty() || grouping::has_one_row(kinds, select))
}
