//! What may be in the value of an expression.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName,
    Subscript, Value as Literal, Visit, Visitor,
};

use super::{Source, names::Names};

/// Functions whose results say nothing of what is in their arguments.
const TELLS_NOTHING: [&str; 26] = [
    "array_length",
    "ascii",
    "bit_length",
    "bool_and",
    "bool_or",
    "cardinality",
    "char_length",
    "character_length",
    "count",
    "every",
    "instr",
    "json_array_length",
    "json_object_keys",
    "json_type",
    "json_typeof",
    "json_valid",
    "jsonb_array_length",
    "jsonb_object_keys",
    "jsonb_typeof",
    "length",
    "octet_length",
    "pg_typeof",
    "position",
    "strpos",
    "typeof",
    "unicode",
];

/// Functions that take a value out of the JSON that is their first argument.
const JSON_PATHS: [&str; 10] = [
    "json_extract",
    "json_extract_path",
    "json_extract_path_text",
    "json_query",
    "json_value",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_path_query",
    "jsonb_path_query_array",
    "jsonb_path_query_first",
];

impl Names<'_> {
    /// What may be in the value of an expression. What stands on the left goes on in the loop: long chains lean there.
    pub(super) fn expr(&self, mut expr: &Expr) -> Source {
        let mut worst = Source::Plain;
        loop {
            expr = match expr {
                Expr::Identifier(name) => return worst.max(self.of(&name.value)),
                Expr::CompoundIdentifier(names) => {
                    return worst.max(names.last().map_or(Source::Plain, |name| self.of(&name.value)));
                }
                Expr::Cast { expr, .. }
                | Expr::Collate { expr, .. }
                | Expr::UnaryOp { expr, .. }
                | Expr::Substring { expr, .. }
                | Expr::Trim { expr, .. }
                | Expr::AtTimeZone { timestamp: expr, .. }
                | Expr::Nested(expr) => expr,
                Expr::BinaryOp { left, op, right } => match flow(op) {
                    Flow::Nothing => return worst,
                    Flow::Both => {
                        worst = worst.max(self.expr(right));
                        left
                    }
                    Flow::Path => match self.path(right) {
                        // Of a row only what the path names; JSON below it has names of its own.
                        Some(named) => return worst.max(named).max(self.unless_row(left)),
                        None => left,
                    },
                },
                Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
                    Some(AccessExpr::Dot(Expr::Identifier(name))) => return worst.max(self.of(&name.value)),
                    Some(AccessExpr::Subscript(Subscript::Index { index })) => match self.path(index) {
                        Some(named) => return worst.max(named).max(self.unless_row(root)),
                        None => root,
                    },
                    _ => root,
                },
                Expr::Case { conditions, else_result, .. } => {
                    let results = conditions.iter().map(|when| &when.result).chain(else_result.as_deref());
                    return worst.max(self.one_of(results));
                }
                Expr::Function(function) => return worst.max(self.function(function)),
                Expr::Subquery(query) => return worst.max(self.query(query).worst()),
                Expr::Value(_)
                | Expr::TypedString(_)
                | Expr::IsNull(_)
                | Expr::IsNotNull(_)
                | Expr::IsTrue(_)
                | Expr::IsNotTrue(_)
                | Expr::IsFalse(_)
                | Expr::IsNotFalse(_)
                | Expr::IsDistinctFrom(..)
                | Expr::IsNotDistinctFrom(..)
                | Expr::In { .. }
                | Expr::Between { .. }
                | Expr::Like { .. }
                | Expr::ILike { .. }
                | Expr::SimilarTo { .. }
                | Expr::AnyOp { .. }
                | Expr::AllOp { .. }
                | Expr::Exists { .. }
                | Expr::Extract { .. }
                | Expr::Position { .. } => return worst,
                other => {
                    let mut all = Everything { names: self, worst };
                    let _ = other.visit(&mut all);
                    return all.worst;
                }
            }
        }
    }

    fn unless_row(&self, expr: &Expr) -> Source {
        let source = self.expr(expr);
        if source == Source::Row { Source::Plain } else { source }
    }

    /// What a path into JSON names; `None` where it is computed.
    fn path(&self, path: &Expr) -> Option<Source> {
        let Expr::Value(literal) = path else { return None };
        Some(match &literal.value {
            Literal::SingleQuotedString(text) | Literal::EscapedStringLiteral(text) => self.in_words(text),
            _ => Source::Plain,
        })
    }

    /// One of several values as it is: what is no address among them need not be hidden.
    fn one_of<'e>(&self, results: impl Iterator<Item = &'e Expr>) -> Source {
        let sources: Vec<Source> =
            results.filter(|expr| !matches!(expr, Expr::Value(_))).map(|expr| self.expr(expr)).collect();
        let worst = sources.iter().copied().max().unwrap_or(Source::Plain);
        if worst == Source::Field && sources.contains(&Source::Plain) { Source::Sometimes } else { worst }
    }

    fn function(&self, function: &Function) -> Source {
        let arguments = match &function.args {
            FunctionArguments::List(list) => self.call(&last_name(&function.name).to_lowercase(), &list.args),
            FunctionArguments::Subquery(query) => self.query(query).worst(),
            FunctionArguments::None => Source::Plain,
        };
        // `mode() WITHIN GROUP (ORDER BY email)` answers with an address.
        let ordered = function.within_group.iter().map(|order| self.expr(&order.expr));
        ordered.max().unwrap_or(Source::Plain).max(arguments)
    }

    pub(super) fn call(&self, name: &str, list: &[FunctionArg]) -> Source {
        if TELLS_NOTHING.contains(&name) {
            return Source::Plain;
        }
        if name == "coalesce" {
            return self.one_of(list.iter().filter_map(plain_argument));
        }
        if JSON_PATHS.contains(&name)
            && let Some((json, paths)) = list.split_first()
            && let Some(json) = plain_argument(json)
            && let Some(named) =
                paths.iter().map(|path| self.path(plain_argument(path)?)).collect::<Option<Vec<_>>>()
        {
            return named.into_iter().max().unwrap_or(Source::Plain).max(self.unless_row(json));
        }
        let of = |argument: &FunctionArg| match argument {
            FunctionArg::Named { arg, .. }
            | FunctionArg::ExprNamed { arg, .. }
            | FunctionArg::Unnamed(arg) => match arg {
                FunctionArgExpr::Expr(expr) => self.expr(expr),
                _ => Source::Row,
            },
        };
        list.iter().map(of).max().unwrap_or(Source::Plain)
    }
}

/// A name without what stands before it, and without quotes.
pub(super) fn last_name(name: &ObjectName) -> String {
    let last = name.0.last();
    last.map(|part| part.as_ident().map_or_else(|| part.to_string(), |ident| ident.value.clone()))
        .unwrap_or_default()
}

fn plain_argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// The worst of all names in an expression that is not followed more closely.
pub(super) struct Everything<'a> {
    names: &'a Names<'a>,
    worst: Source,
}

impl Visitor for Everything<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Identifier(_) | Expr::CompoundIdentifier(_) = expr {
            self.worst = self.worst.max(self.names.expr(expr));
        }
        ControlFlow::Continue(())
    }
}

enum Flow {
    Nothing,
    Both,
    Path,
}

/// What of its operands an operator's value carries.
fn flow(op: &BinaryOperator) -> Flow {
    use BinaryOperator as Op;
    match op {
        Op::Arrow | Op::LongArrow | Op::HashArrow | Op::HashLongArrow => Flow::Path,
        Op::Gt
        | Op::Lt
        | Op::GtEq
        | Op::LtEq
        | Op::Eq
        | Op::NotEq
        | Op::And
        | Op::Or
        | Op::PGLikeMatch
        | Op::PGILikeMatch
        | Op::PGNotLikeMatch
        | Op::PGNotILikeMatch
        | Op::PGRegexMatch
        | Op::PGRegexIMatch
        | Op::PGRegexNotMatch
        | Op::PGRegexNotIMatch
        | Op::AtArrow
        | Op::ArrowAt
        | Op::Question
        | Op::QuestionAnd
        | Op::QuestionPipe
        | Op::AtAt => Flow::Nothing,
        _ => Flow::Both,
    }
}

/// The name that a column has where the statement gives it none, as Postgres does it.
pub(super) fn implied_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
        Expr::Function(function) => Some(last_name(&function.name).to_lowercase()),
        Expr::Cast { expr, .. } | Expr::Collate { expr, .. } => match &**expr {
            // One level is enough: what lies deeper is named after the type, or not at all.
            Expr::Identifier(name) => Some(name.value.clone()),
            Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
            _ => Some("?column?".to_owned()),
        },
        Expr::Case { .. } => Some("case".to_owned()),
        _ => Some("?column?".to_owned()),
    }
}
