//! What can be told of an expression by following the names that the statement gives.
//!
//! What is told of a name is settled once for all of them: following each name wherever it is read would take twice as
//! long with each that reads another twice.

use std::{collections::BTreeSet, ops::ControlFlow};

use sqlparser::ast::{BinaryOperator, DataType, Expr, Query, SelectItem, SetExpr, Visitor};

use super::{
    super::{folded, folded_names},
    made::{Made, column},
    written::{arguments, text},
};
use crate::{sql_walk::walk, store::Readable};

/// Longer texts are looked for by nobody.
pub(super) const MAX_NEEDLE_BYTES: usize = 1_000;

/// Functions whose value is no longer than what they are given.
const SHORTENING: [&str; 16] = [
    "btrim",
    "chr",
    "coalesce",
    "date_part",
    "date_trunc",
    "initcap",
    "left",
    "lower",
    "ltrim",
    "nullif",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "to_char",
    "upper",
];

/// Functions that put their arguments behind one another.
pub(super) const JOINING: [&str; 7] = [
    "array_cat",
    "concat",
    "concat_ws",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
];

/// Functions that put one of their arguments into another.
const PUTTING_IN: [&str; 9] = [
    "array_append",
    "array_prepend",
    "array_to_string",
    "format",
    "jsonb_insert",
    "jsonb_set",
    "row_to_json",
    "to_json",
    "to_jsonb",
];

/// Functions whose value is a list.
const LISTS: [&str; 10] = [
    "array",
    "array_agg",
    "array_append",
    "array_cat",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_replace",
    "regexp_split_to_array",
    "string_to_array",
];

pub(super) struct Known<'a> {
    readable: &'a Readable,
    made: &'a Made,
    /// Names whose values are short for certain.
    short: BTreeSet<&'a str>,
    /// Names whose values may be lists that the statement makes.
    lists: BTreeSet<&'a str>,
    /// Names whose values are put together of others.
    joined: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    pub(super) fn of(made: &'a Made, readable: &'a Readable) -> Self {
        let all: BTreeSet<&str> = made.0.keys().map(String::as_str).collect();
        let none = BTreeSet::new();
        let mut known = Self { readable, made, short: all.clone(), lists: none.clone(), joined: none };
        let of = |name: &str| made.0.get(name).into_iter().flatten().map(Option::as_ref);
        loop {
            let is_short = |name: &&&str| of(name).all(|expr| expr.is_some_and(|expr| known.is_short(expr)));
            let short: BTreeSet<&str> = known.short.iter().filter(is_short).copied().collect();
            let is_list = |name: &&&str| of(name).flatten().any(|expr| known.is_made_list(expr));
            let lists: BTreeSet<&str> = all.iter().filter(is_list).copied().collect();
            let is_joined = |name: &&&str| of(name).flatten().any(|expr| known.is_joined(expr));
            let joined: BTreeSet<&str> = all.iter().filter(is_joined).copied().collect();
            let settled = (short.len(), lists.len(), joined.len())
                == (known.short.len(), known.lists.len(), known.joined.len());
            known = Self { short, lists, joined, ..known };
            if settled {
                return known;
            }
        }
    }

    /// Whether it is short for certain: written in the statement, kept in a table's column, or made of such without
    /// becoming longer.
    pub(super) fn is_short(&self, expr: &Expr) -> bool {
        self.is_short_of(expr, true)
    }

    /// `follow`: whether a name that the statement gives may be what is short. It may not where the value is put behind
    /// another: each name could be twice as long as the one before.
    fn is_short_of(&self, expr: &Expr, follow: bool) -> bool {
        let short = |expr: &Expr| self.is_short_of(expr, follow);
        match expr {
            Expr::Value(value) => text(&value.value).is_none_or(|text| text.len() <= MAX_NEEDLE_BYTES),
            Expr::Nested(inner)
            | Expr::Cast { expr: inner, .. }
            | Expr::Collate { expr: inner, .. }
            | Expr::UnaryOp { expr: inner, .. }
            | Expr::Extract { expr: inner, .. }
            | Expr::Substring { expr: inner, .. }
            | Expr::Trim { expr: inner, .. } => short(inner),
            Expr::Array(array) => array.elem.iter().all(short),
            Expr::BinaryOp {
                left,
                op:
                    BinaryOperator::Arrow
                    | BinaryOperator::LongArrow
                    | BinaryOperator::HashArrow
                    | BinaryOperator::HashLongArrow
                    | BinaryOperator::Plus
                    | BinaryOperator::Minus,
                right,
            } => short(left) && short(right),
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                self.is_short_of(left, false) && self.is_short_of(right, false)
            }
            Expr::Function(call) => {
                let name = folded_names(&call.name).pop().unwrap_or_default();
                (SHORTENING.contains(&name.as_str()) || name == "length")
                    && arguments(call)
                        .is_some_and(|arguments| name == "length" || arguments.into_iter().all(short))
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let Some(name) = column(expr).map(folded) else { return false };
                if self.made.0.contains_key(&name) {
                    follow && self.short.contains(name.as_str())
                } else {
                    self.readable.is_column(&name)
                }
            }
            Expr::Case { conditions, else_result, .. } => {
                conditions.iter().map(|when| &when.result).chain(else_result.as_deref()).all(short)
            }
            _ => false,
        }
    }

    /// Whether it may be a list that the statement makes.
    pub(super) fn is_made_list(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Nested(inner) => self.is_made_list(inner),
            Expr::Cast { expr: inner, data_type, .. } => {
                matches!(data_type, DataType::Array(_)) || self.is_made_list(inner)
            }
            Expr::Array(_) => true,
            Expr::Function(call) => {
                let name = folded_names(&call.name).pop().unwrap_or_default();
                let given = arguments(call).unwrap_or_default();
                LISTS.contains(&name.as_str())
                    || ["coalesce", "max", "min", "any_value"].contains(&name.as_str())
                        && given.iter().any(|expr| self.is_made_list(expr))
            }
            Expr::Subquery(query) => match &*query.body {
                SetExpr::Select(select) => select.projection.iter().any(|item| match item {
                    SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                        self.is_made_list(expr)
                    }
                    _ => false,
                }),
                _ => false,
            },
            Expr::Case { conditions, else_result, .. } => conditions
                .iter()
                .map(|when| &when.result)
                .chain(else_result.as_deref())
                .any(|expr| self.is_made_list(expr)),
            _ => column(expr).map(folded).is_some_and(|name| self.lists.contains(name.as_str())),
        }
    }

    /// Whether its value is put together of others, or one that is.
    fn is_joined(&self, expr: &Expr) -> bool {
        walk(expr, &mut Joined { known: self }).is_break()
    }

    /// Whether a query that reads itself may make a value of two that it made before, and so one that is twice as long
    /// each time. Of a path, `path || id`, only one is.
    pub(super) fn doubles(&self, query: &Query, own_name: &str) -> bool {
        walk(query, &mut Doubling { known: self, own_name }).is_break()
    }
}

fn joins(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::StringConcat, .. }
        | Expr::Array(_)
        | Expr::Overlay { .. }
        | Expr::Tuple(_) => true,
        Expr::Function(call) => {
            let name = folded_names(&call.name).pop().unwrap_or_default();
            JOINING.contains(&name.as_str()) || PUTTING_IN.contains(&name.as_str())
        }
        _ => false,
    }
}

struct Joined<'a> {
    known: &'a Known<'a>,
}

impl Visitor for Joined<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let is_known = || column(expr).is_some_and(|name| self.known.joined.contains(folded(name).as_str()));
        if joins(expr) || is_known() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

struct Doubling<'a> {
    known: &'a Known<'a>,
    own_name: &'a str,
}

impl Visitor for Doubling<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if !joins(expr) {
            return ControlFlow::Continue(());
        }
        let mut parts = Parts { known: self.known, own_name: self.own_name, joined: 0 };
        let _ = walk(expr, &mut parts);
        if parts.joined > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Counts the values in an expression that are put together of others.
struct Parts<'a> {
    known: &'a Known<'a>,
    own_name: &'a str,
    joined: usize,
}

impl Visitor for Parts<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Identifier(_) | Expr::CompoundIdentifier(_) = expr
            && let Some(name) = column(expr).map(folded)
        {
            // A whole row holds all of its columns.
            let is_row = name == self.own_name && !self.known.made.0.contains_key(&name);
            self.joined += if is_row { 2 } else { usize::from(self.known.joined.contains(name.as_str())) };
        }
        ControlFlow::Continue(())
    }
}
