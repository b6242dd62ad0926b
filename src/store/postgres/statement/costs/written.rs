//! What can be told of an expression from its spelling alone.

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value,
};

/// Taken for what a column puts in the place of a text.
const GROWTH_OF_A_COLUMN: f64 = 10.0;

pub(super) const fn is_like(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::PGLikeMatch
            | BinaryOperator::PGILikeMatch
            | BinaryOperator::PGNotLikeMatch
            | BinaryOperator::PGNotILikeMatch
    )
}

pub(super) fn joined<'a>(expr: &'a Expr, parts: &mut Vec<&'a Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            joined(left, parts);
            joined(right, parts);
        }
        Expr::Nested(inner) => joined(inner, parts),
        other => parts.push(other),
    }
}

/// Written in the statement, which is short as a whole.
pub(super) fn is_written(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) => true,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_written(inner),
        Expr::Array(array) => array.elem.iter().all(is_written),
        _ => false,
    }
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::UnicodeStringLiteral(text) => Some(text),
        Value::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

pub(super) fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => text(&value.value),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => literal(inner),
        _ => None,
    }
}

/// How many times as long a text may become in which one text is put in the place of another.
#[expect(clippy::cast_precision_loss, reason = "lengths of a statement's texts")]
pub(super) fn growth(old: Option<&Expr>, new: Option<&Expr>) -> f64 {
    let Some(new) = new else { return 1.0 };
    let Some(new) = literal(new) else { return GROWTH_OF_A_COLUMN };
    let old = old.and_then(literal).map_or(1, str::len).max(1);
    new.len() as f64 / old as f64
}

/// The same of what a pattern matches. A group that is put in may be the whole text.
#[expect(clippy::cast_precision_loss, reason = "lengths of a statement's texts")]
pub(super) fn growth_of_matches(new: Option<&Expr>, everywhere: bool) -> f64 {
    let Some(new) = new else { return 1.0 };
    let Some(new) = literal(new) else { return GROWTH_OF_A_COLUMN };
    let groups = new.matches('\\').count();
    (if everywhere { new.len() } else { groups }) as f64
}

/// A written number of times.
pub(super) fn times(count: Option<&Expr>) -> f64 {
    match count {
        Some(Expr::Value(value)) => match &value.value {
            Value::Number(number, _) => number.parse().unwrap_or(f64::INFINITY),
            _ => f64::INFINITY,
        },
        _ => f64::INFINITY,
    }
}

/// Whether one of the places of a pattern of `format` is filled up.
pub(super) fn has_width(pattern: &str) -> bool {
    pattern.replace("%%", "").split('%').skip(1).any(|place| {
        let behind = place.trim_start_matches(|c: char| c.is_ascii_digit());
        let kind = if behind.len() == place.len() { Some(place) } else { behind.strip_prefix('$') };
        kind.is_none_or(|kind| !kind.starts_with(['s', 'I', 'L']))
    })
}

pub(super) fn arguments(call: &Function) -> Option<Vec<&Expr>> {
    match &call.args {
        FunctionArguments::None | FunctionArguments::Subquery(_) => Some(Vec::new()),
        FunctionArguments::List(list) => by_place(&list.args),
    }
}

/// The arguments by their places; nothing where they are given otherwise.
pub(super) fn by_place(arguments: &[FunctionArg]) -> Option<Vec<&Expr>> {
    arguments
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}
