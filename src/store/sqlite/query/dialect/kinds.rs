//! Which expressions are times, as far as a statement tells: SQLite itself sees texts.
//!
//! A name is what the readable tables' columns of that name are, or what the statement's own queries call by it.

use std::{collections::HashMap, ops::ControlFlow};

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Query, Select, SelectItem, SetExpr, Statement, TimezoneInfo, Visit,
    Visitor,
};

use super::forms::{function_name, literal, plain_arguments, unnested};
use crate::store::sqlite::query::Readable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::sqlite::query) enum Kind {
    /// `timestamptz`
    Instant,
    /// `timestamp`
    Local,
    /// `date`
    Day,
    Interval,
    Boolean,
    /// `numeric`, of which SQLite may keep a whole number
    Number,
}

impl Kind {
    /// Of a column whose type PostgreSQL spells so.
    pub(in crate::store::sqlite::query) fn of_column(spelled: &str) -> Option<Self> {
        match spelled {
            "timestamptz" => Some(Self::Instant),
            "date" => Some(Self::Day),
            "boolean" => Some(Self::Boolean),
            "numeric" => Some(Self::Number),
            _ => None,
        }
    }

    pub(super) fn is_time(self) -> bool {
        matches!(self, Self::Instant | Self::Local | Self::Day)
    }
}

/// What the statement's names stand for.
pub(super) struct Kinds {
    names: HashMap<String, Kind>,
}

impl Kinds {
    pub(super) fn of(statement: &Statement, readable: &Readable) -> Self {
        let mut kinds = Self { names: readable.kinds.clone() };
        // A query may use the names of one that stands behind it.
        for _ in 0..2 {
            let _ = statement.visit(&mut kinds);
        }
        kinds
    }

    fn name(&mut self, name: &str, expr: &Expr) {
        if let Some(kind) = self.of_expr(expr) {
            self.names.insert(name.to_lowercase(), kind);
        }
    }

    pub(super) fn of_expr(&self, expr: &Expr) -> Option<Kind> {
        match expr {
            Expr::Identifier(name) => self.names.get(&name.value.to_lowercase()).copied(),
            Expr::CompoundIdentifier(parts) => self.names.get(&parts.last()?.value.to_lowercase()).copied(),
            Expr::Nested(inner) => self.of_expr(inner),
            Expr::Cast { data_type, .. } => of_type(data_type),
            Expr::TypedString(typed) => of_type(&typed.data_type),
            Expr::Interval(_) => Some(Kind::Interval),
            Expr::AtTimeZone { timestamp, .. } => self.in_zone(timestamp),
            Expr::Case { conditions, else_result, .. } => {
                let mut results = conditions.iter().map(|when| &when.result).chain(else_result.as_deref());
                results.find_map(|result| self.of_expr(result))
            }
            Expr::Subquery(query) => match &*query.body {
                SetExpr::Select(select) => match select.projection.first()? {
                    SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                        self.of_expr(expr)
                    }
                    _ => None,
                },
                _ => None,
            },
            Expr::BinaryOp { left, op, right } => self.of_operation(left, op, right),
            Expr::Function(call) => {
                let arguments = plain_arguments(&call.args);
                let first = || arguments.iter().find_map(|argument| self.of_expr(argument));
                match function_name(&call.name).as_str() {
                    "now"
                    | "current_timestamp"
                    | "transaction_timestamp"
                    | "statement_timestamp"
                    | "clock_timestamp"
                    | "to_timestamp"
                    | "pg_timestamptz" => Some(Kind::Instant),
                    "localtimestamp" | "pg_timestamp" | "datetime" => Some(Kind::Local),
                    "current_date" | "date" | "pg_date" | "pg_add_days" => Some(Kind::Day),
                    "date_trunc" => match self.of_expr(arguments.get(1)?) {
                        Some(Kind::Day) => Some(Kind::Instant),
                        kind => kind,
                    },
                    "pg_plus" | "pg_minus" => match self.of_expr(arguments.first()?) {
                        Some(Kind::Day) => Some(Kind::Local),
                        kind => kind,
                    },
                    "pg_at_time_zone" => self.in_zone(arguments.first()?),
                    "pg_boolean" => Some(Kind::Boolean),
                    // Sums of whole numbers are `numeric`, too.
                    "sum" | "avg" | "round" | "pg_number" => Some(Kind::Number),
                    "min" | "max" | "coalesce" | "nullif" | "greatest" | "least" | "lag" | "lead"
                    | "first_value" | "last_value" | "nth_value" | "ifnull" => first(),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn in_zone(&self, at: &Expr) -> Option<Kind> {
        Some(if self.of_expr(at) == Some(Kind::Local) { Kind::Instant } else { Kind::Local })
    }

    fn of_operation(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Kind> {
        use BinaryOperator as Op;
        let moved = |kind| if kind == Kind::Day { Kind::Local } else { kind };
        match (op, self.of_expr(left), self.of_expr(right)) {
            (Op::Plus | Op::Minus, Some(Kind::Interval), Some(Kind::Interval))
            | (Op::Multiply, Some(Kind::Interval), None)
            | (Op::Multiply, None, Some(Kind::Interval)) => Some(Kind::Interval),
            (Op::Plus | Op::Minus, Some(kind), Some(Kind::Interval))
            | (Op::Plus, Some(Kind::Interval), Some(kind)) => Some(moved(kind)),
            (Op::Minus, Some(Kind::Day), Some(Kind::Day)) => None,
            (Op::Minus, Some(a), Some(b)) if a.is_time() && b.is_time() => Some(Kind::Interval),
            (Op::Minus, Some(a), None) if a.is_time() && literal(right).is_some() => Some(Kind::Interval),
            (Op::Plus | Op::Minus, Some(Kind::Day), None) => Some(Kind::Day),
            (Op::Plus | Op::Minus | Op::Multiply | Op::Divide, Some(Kind::Number), _)
            | (Op::Plus | Op::Minus | Op::Multiply | Op::Divide, _, Some(Kind::Number)) => Some(Kind::Number),
            _ => None,
        }
    }

    /// The two times of a difference.
    pub(super) fn difference<'a>(&self, expr: &'a Expr) -> Option<(&'a Expr, &'a Expr)> {
        let Expr::BinaryOp { left, op: BinaryOperator::Minus, right } = unnested(expr) else { return None };
        let (a, b) = (self.of_expr(left)?, self.of_expr(right)?);
        let days = (a, b) == (Kind::Day, Kind::Day);
        (a.is_time() && b.is_time() && !days).then_some((left, right))
    }
}

impl Visitor for Kinds {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            if let SetExpr::Select(select) = &*cte.query.body {
                for (column, item) in cte.alias.columns.iter().zip(&select.projection) {
                    if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                        self.name(&column.name.value, expr);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { expr, alias } => self.name(&alias.value, expr),
                // PostgreSQL calls the column as what was cast, and a call by the function's name.
                SelectItem::UnnamedExpr(Expr::Function(call)) => {
                    self.name(&function_name(&call.name), &Expr::Function(call.clone()));
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

fn of_type(data_type: &DataType) -> Option<Kind> {
    match data_type {
        DataType::Date => Some(Kind::Day),
        DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Some(Kind::Local),
        DataType::Timestamp(_, _) => Some(Kind::Instant),
        DataType::Interval { .. } => Some(Kind::Interval),
        DataType::Boolean | DataType::Bool => Some(Kind::Boolean),
        _ => None,
    }
}
