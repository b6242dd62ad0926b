//! What may be in the value of an expression.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName,
    Subscript, Value as Literal, Visit, Visitor,
};

use super::{Source, functions, names::Names};

impl Names<'_> {
    /// What may be in the value of an expression. What stands on the left goes on in the loop: long chains lean there.
    pub(super) fn expr(&self, mut expr: &Expr) -> Source {
        let mut worst = Source::Plain;
        // Whether a path has named what is taken of the rest: JSON below it has names of its own.
        let mut by_name = false;
        loop {
            let of = |source| if by_name { named_in(source) } else { source };
            expr = match expr {
                Expr::Identifier(name) => return worst.max(of(self.of(&name.value))),
                Expr::CompoundIdentifier(names) => {
                    return worst.max(of(names.last().map_or(Source::Plain, |name| self.of(&name.value))));
                }
                Expr::Cast { expr, .. }
                | Expr::Collate { expr, .. }
                | Expr::UnaryOp { expr, .. }
                | Expr::AtTimeZone { timestamp: expr, .. }
                | Expr::Nested(expr) => expr,
                Expr::BinaryOp { left, op, right } => match flow(op) {
                    Flow::Nothing => return worst,
                    Flow::Both => {
                        worst = worst.max(of(self.expr(right)));
                        left
                    }
                    Flow::Path => {
                        if let Some(named) = self.path(right) {
                            worst = worst.max(named);
                            by_name = true;
                        }
                        left
                    }
                },
                Expr::Substring { expr, .. } => {
                    return worst.max(of(functions::result("substring", 2, self.expr(expr))));
                }
                Expr::Trim { expr, trim_what, .. } => {
                    let arguments = 1 + usize::from(trim_what.is_some());
                    return worst.max(of(functions::result("trim", arguments, self.expr(expr))));
                }
                Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => return worst.max(of(Source::Row)),
                Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
                    // A column of a row, or a function of a value.
                    Some(AccessExpr::Dot(Expr::Identifier(name))) => {
                        worst = worst.max(of(self.of(&name.value)));
                        by_name = true;
                        root
                    }
                    Some(AccessExpr::Subscript(Subscript::Index { index })) => {
                        if let Some(named) = self.path(index) {
                            worst = worst.max(named);
                            by_name = true;
                        }
                        root
                    }
                    _ => root,
                },
                Expr::Case { conditions, else_result, .. } => {
                    let results = conditions.iter().map(|when| &when.result).chain(else_result.as_deref());
                    return worst.max(of(self.one_of(results)));
                }
                Expr::Function(function) => return worst.max(of(self.function(function))),
                Expr::Subquery(query) => return worst.max(of(self.query(query).worst())),
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
                    let mut all = Everything { names: self, worst: Source::Plain };
                    let _ = other.visit(&mut all);
                    return worst.max(of(all.worst));
                }
            }
        }
    }

    /// What a path into JSON names; `None` where it is computed.
    fn path(&self, path: &Expr) -> Option<Source> {
        let Expr::Value(literal) = path else { return None };
        Some(match &literal.value {
            Literal::SingleQuotedString(text) | Literal::EscapedStringLiteral(text) => {
                // Every member whatever its name, or a name that is not spelled out.
                if text.contains(".*") || text.contains('\\') { Source::Field } else { self.in_words(text) }
            }
            _ => Source::Plain,
        })
    }

    /// One of several values: where a field as it is stands beside what is no address, only addresses need be hidden.
    fn one_of<'e>(&self, results: impl Iterator<Item = &'e Expr>) -> Source {
        let sources: Vec<(Source, bool)> = results
            .filter(|expr| !matches!(expr, Expr::Value(_)))
            .map(|expr| (self.expr(expr), matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))))
            .collect();
        let worst = sources.iter().map(|(source, _)| *source).max().unwrap_or(Source::Plain);
        let is_plain = |(source, _): &(Source, bool)| *source == Source::Plain;
        let is_as_it_was = |(source, bare): &(Source, bool)| *source < Source::Field || *bare;
        if worst == Source::Field && sources.iter().any(is_plain) && sources.iter().all(is_as_it_was) {
            Source::Sometimes
        } else {
            worst
        }
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
        if functions::tells_nothing(name) {
            return Source::Plain;
        }
        if name == "coalesce" {
            return self.one_of(list.iter().filter_map(plain_argument));
        }
        if functions::is_path(name)
            && let Some((json, paths)) = list.split_first()
            && let Some(json) = plain_argument(json)
            && let Some(named) =
                paths.iter().map(|path| self.path(plain_argument(path)?)).collect::<Option<Vec<_>>>()
        {
            return named.into_iter().max().unwrap_or(Source::Plain).max(named_in(self.expr(json)));
        }
        let of = |argument: &FunctionArg| match argument {
            FunctionArg::Named { arg, .. }
            | FunctionArg::ExprNamed { arg, .. }
            | FunctionArg::Unnamed(arg) => match arg {
                FunctionArgExpr::Expr(expr) => self.expr(expr),
                _ => Source::Row,
            },
        };
        let worst = list.iter().map(of).max().unwrap_or(Source::Plain);
        functions::result(name, list.len(), worst)
    }
}

/// What a path that names it takes of a value.
const fn named_in(source: Source) -> Source {
    if matches!(source, Source::Row | Source::Values) { Source::Plain } else { source }
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
        if let Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..) = expr
        {
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
