//! What may be in the value of an expression.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, ObjectName, Subscript, Value as Literal, Visitor,
};

use super::{Source, functions, names::Names};
use crate::sql_walk::walk;

/// What is taken of the value that stands left in a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Whole,
    /// Values whose names are not known.
    Values,
    /// A column of a row.
    Column,
    /// What a path names: JSON below it has names of its own.
    Named,
}

impl Taken {
    const fn of(self, source: Source) -> Source {
        match (self, source) {
            (Self::Values, Source::Row) => Source::Values,
            (Self::Column, Source::Row) | (Self::Named, Source::Row | Source::Values) => Source::Plain,
            (_, source) => source,
        }
    }
}

/// What a path into JSON tells of what it takes.
enum Path {
    Named(Source),
    /// A place in a list, or the whole: neither has a name.
    Unnamed,
    Computed,
}

impl Names<'_> {
    /// What may be in the value of an expression. What stands on the left goes on in the loop: long chains lean there.
    pub(super) fn expr(&self, mut expr: &Expr) -> Source {
        let mut worst = Source::Plain;
        let mut taken = Taken::Whole;
        // Whether it is read as JSON, be it text that somebody put together.
        let mut is_json = false;
        loop {
            let of = move |source| if is_json { as_keys(taken.of(source)) } else { taken.of(source) };
            expr = match expr {
                Expr::Identifier(name) => return worst.max(of(self.of(&name.value))),
                Expr::CompoundIdentifier(names) => {
                    return worst.max(of(names.last().map_or(Source::Plain, |name| self.of(&name.value))));
                }
                Expr::Cast { expr, data_type, .. } => {
                    is_json |= matches!(data_type, DataType::JSON | DataType::JSONB);
                    expr
                }
                Expr::Collate { expr, .. }
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
                        is_json = true;
                        self.follow(right, &mut taken, &mut worst);
                        left
                    }
                },
                Expr::Substring { expr, .. } => {
                    return worst.max(of(self.result("substring", 2, self.expr(expr))));
                }
                Expr::Trim { expr, trim_what, .. } => {
                    let arguments = 1 + usize::from(trim_what.is_some());
                    return worst.max(of(self.result("trim", arguments, self.expr(expr))));
                }
                Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => return worst.max(of(Source::Row)),
                Expr::CompoundFieldAccess { root, access_chain } => {
                    for access in access_chain.iter().rev() {
                        match access {
                            // A column of a row, or a function of a value.
                            AccessExpr::Dot(Expr::Identifier(name)) => {
                                worst = worst.max(taken.of(self.of(&name.value)));
                                taken = taken.max_of(Taken::Column);
                            }
                            AccessExpr::Subscript(Subscript::Index { index }) => {
                                self.follow(index, &mut taken, &mut worst);
                            }
                            _ => {}
                        }
                    }
                    root
                }
                Expr::Case { conditions, else_result, .. } => {
                    let results = conditions.iter().map(|when| &when.result).chain(else_result.as_deref());
                    return worst.max(of(self.one_of(results)));
                }
                Expr::Function(function) if builds_json(function) => {
                    return worst.max(taken.of(self.function(function)));
                }
                Expr::Function(function) => return worst.max(of(self.function(function))),
                Expr::Array(Array { elem: parts, .. }) | Expr::Tuple(parts) => {
                    let parts = parts.iter().map(|part| self.expr(part));
                    return worst.max(of(parts.max().unwrap_or(Source::Plain)));
                }
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
                    let _ = walk(other, &mut all);
                    return worst.max(of(all.worst));
                }
            }
        }
    }

    /// Goes along a path: what it names counts, and of what stands left of it only that is taken.
    fn follow(&self, path: &Expr, taken: &mut Taken, worst: &mut Source) {
        match self.path(path) {
            Path::Named(named) => {
                *worst = named.max(*worst);
                *taken = Taken::Named;
            }
            Path::Unnamed | Path::Computed => *taken = taken.max_of(Taken::Values),
        }
    }

    /// What a path into JSON names, whichever way its text is written.
    fn path(&self, path: &Expr) -> Path {
        let Expr::Value(literal) = path else { return Path::Computed };
        let text = match &literal.value {
            Literal::SingleQuotedString(text)
            | Literal::EscapedStringLiteral(text)
            | Literal::UnicodeStringLiteral(text)
            | Literal::NationalStringLiteral(text) => text,
            Literal::DollarQuotedString(text) => &text.value,
            Literal::Number(..) => return Path::Unnamed,
            _ => return Path::Computed,
        };
        if takes_every_member(text) {
            return Path::Named(self.anything());
        }
        if text.contains(char::is_alphabetic) { Path::Named(self.in_words(text)) } else { Path::Unnamed }
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
            FunctionArguments::List(list) => self.call(&last_name(&function.name), &list.args),
            FunctionArguments::Subquery(query) => self.query(query).worst(),
            FunctionArguments::None => Source::Plain,
        };
        // `mode() WITHIN GROUP (ORDER BY email)` answers with an address.
        let ordered = function.within_group.iter().map(|order| self.expr(&order.expr));
        ordered.max().unwrap_or(Source::Plain).max(arguments)
    }

    pub(super) fn call(&self, name: &str, list: &[FunctionArg]) -> Source {
        let name = &*name.to_lowercase();
        if functions::tells_nothing(name) {
            return Source::Plain;
        }
        if name == "coalesce" {
            return self.one_of(list.iter().filter_map(plain_argument));
        }
        // Each is looked at once: calls inside one another would double it with each level.
        let of = |(at, argument): (usize, &FunctionArg)| match plain_argument(argument) {
            Some(expr) if at == 0 && functions::reads_json(name) => self.json(expr),
            _ => self.argument(argument),
        };
        let sources: Vec<Source> = list.iter().enumerate().map(of).collect();
        if functions::is_path(name)
            && let Some(taken) = self.taken_by_path(name, list, &sources)
        {
            return taken;
        }
        let is_name = |at: usize, argument: &FunctionArg, source: Source| match argument {
            FunctionArg::Named { name: key, .. } => {
                functions::makes_objects(name).then(|| self.of(&key.value))
            }
            FunctionArg::ExprNamed { name: key, .. } => {
                functions::makes_objects(name).then(|| self.expr(key))
            }
            FunctionArg::Unnamed(_) => functions::is_name(name, at).then_some(source),
        };
        let names = list.iter().zip(&sources).enumerate();
        let names = names.filter_map(|(at, (argument, source))| is_name(at, argument, *source)).max();
        if names >= Some(Source::Row) {
            return Source::Keys;
        }
        let worst = sources.into_iter().max().unwrap_or(Source::Plain);
        if functions::tells_names(name) {
            return if worst == Source::Keys { Source::Keys } else { Source::Plain };
        }
        self.result(name, list.len(), worst)
    }

    /// What a function takes of the JSON that is its first argument; `None` where a path is computed.
    fn taken_by_path(&self, name: &str, list: &[FunctionArg], sources: &[Source]) -> Option<Source> {
        let ([json, paths @ ..], [of_json, beside @ ..]) = (list, sources) else { return None };
        plain_argument(json)?;
        // Of a query the one path is followed by values for its variables.
        let count = if name.contains("_path_query") { 1 } else { paths.len() };
        let (mut taken, mut worst) = (Taken::Whole, Source::Plain);
        for path in paths.iter().take(count) {
            let path = plain_argument(path)?;
            if matches!(self.path(path), Path::Computed) {
                return None;
            }
            self.follow(path, &mut taken, &mut worst);
        }
        let beside = beside.iter().skip(count).copied().max().unwrap_or(Source::Plain);
        Some(worst.max(beside).max(taken.of(*of_json)))
    }

    fn argument(&self, argument: &FunctionArg) -> Source {
        match argument {
            FunctionArg::Named { arg, .. }
            | FunctionArg::ExprNamed { arg, .. }
            | FunctionArg::Unnamed(arg) => match arg {
                FunctionArgExpr::Expr(expr) => self.expr(expr),
                _ => Source::Row,
            },
        }
    }

    /// What is in a value that is read as JSON: text that holds a field may have been put together with it as a name.
    fn json(&self, expr: &Expr) -> Source {
        let source = self.expr(expr);
        match expr {
            Expr::Function(function) if builds_json(function) => source,
            _ => as_keys(source),
        }
    }

    /// What a function's result may carry. Of what was a row, or values out of one, nobody knows which it was.
    fn result(&self, name: &str, arguments: usize, worst: Source) -> Source {
        match functions::result(name, arguments, worst) {
            Source::Field if matches!(worst, Source::Row | Source::Values) => self.anything(),
            source => source,
        }
    }
}

impl Taken {
    /// What is named further right counts.
    fn max_of(self, left: Self) -> Self {
        if self == Self::Named { self } else { left }
    }
}

/// Whether a path may take a member whatever its name, or one whose name is not spelled out.
fn takes_every_member(path: &str) -> bool {
    let path: String = path.chars().filter(|character| !character.is_whitespace()).collect();
    path.contains('\\') || path.to_lowercase().contains("keyvalue") || path.replace("[*]", "").contains('*')
}

fn builds_json(function: &Function) -> bool {
    functions::builds_json(&last_name(&function.name).to_lowercase())
}

fn as_keys(source: Source) -> Source {
    if source >= Source::Field { Source::Keys } else { source }
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
