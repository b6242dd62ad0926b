//! What may be in the value of an expression.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Interval, ObjectName, Query, SelectItem, SetExpr, Subscript, Value as Literal,
    Visitor,
};

use super::{
    Source, fields, functions,
    names::{Names, is_between_words},
    shape::Name,
};
use crate::sql_walk::walk;

/// What is taken of the value that stands left in a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Whole,
    /// Values out of a list.
    Items,
    /// Values whose names are not known.
    Values,
    /// A column of a row.
    Column,
    /// What a function makes of it.
    Result,
    /// What a path names: JSON below it has names of its own.
    Named,
}

impl Taken {
    fn of(self, source: Source) -> Source {
        match (self, source) {
            (Self::Items, Source::Json | Source::Row) => Source::Items,
            (Self::Values, Source::Json | Source::Row | Source::Items) => Source::Values,
            (Self::Column, Source::Json | Source::Row)
            | (Self::Named, Source::Json | Source::Row | Source::Items) => Source::Plain,
            (Self::Result, source) if source > Source::Plain && source < Source::Field => Source::Keys,
            (_, source) => source,
        }
    }
}

/// What a path into JSON tells of what it takes.
enum Path {
    /// What it names. Whether that is a value that a neighbour names, in a list or out of one.
    Named(Source, bool),
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
        // Whether it is put together with something, which takes an address's looks away.
        let mut is_joined = false;
        // Whether a row would be made text of.
        let mut is_text = false;
        // Whether a value is taken that a neighbour names: beside it stands what a list's item may have, if it is taken
        // of anything but a column.
        let mut is_named_beside = false;
        loop {
            if is_named_beside && !goes_on(expr) {
                if !bare(expr).is_some_and(|name| self.is_stored_json(&name)) {
                    worst = worst.max(Source::Values);
                }
                is_named_beside = false;
            }
            is_text = makes_text(expr).unwrap_or(is_text);
            let of = move |source| match taken.of(source) {
                Source::Sometimes if is_joined => Source::Field,
                Source::Row if is_text => self.anything(),
                source if is_json => as_keys(source),
                source => source,
            };
            expr = match expr {
                Expr::Identifier(name) => return worst.max(of(self.of(&name.value))),
                Expr::CompoundIdentifier(names) => {
                    return worst.max(of(match names.as_slice() {
                        [.., source, name] => self.attribute(Some(&source.value), &name.value),
                        [name] => self.of(&name.value),
                        [] => Source::Plain,
                    }));
                }
                Expr::Cast { expr, data_type, .. } => {
                    is_json |= matches!(data_type, DataType::JSON | DataType::JSONB);
                    expr
                }
                Expr::Collate { expr, .. }
                | Expr::UnaryOp { expr, .. }
                | Expr::AtTimeZone { timestamp: expr, .. }
                // Parts of a date make the date, and a number's whole part all but the number.
                | Expr::Extract { expr, .. }
                | Expr::Ceil { expr, .. }
                | Expr::Floor { expr, .. }
                | Expr::Convert { expr, .. }
                | Expr::Prefixed { value: expr, .. }
                | Expr::Named { expr, .. }
                | Expr::Interval(Interval { value: expr, .. })
                | Expr::OuterJoin(expr)
                | Expr::Prior(expr)
                | Expr::Nested(expr) => expr,
                Expr::BinaryOp { left, op, right } => match flow(op) {
                    Flow::Nothing => return worst,
                    Flow::Both => {
                        let source = of(self.expr(right));
                        // JSON that is put into other JSON keeps its values as they are.
                        let is_built = matches!(&**right, Expr::Function(right) if builds_json(right));
                        worst = worst.max(if is_built { source } else { joined(source) });
                        is_joined = true;
                        left
                    }
                    Flow::Path => {
                        is_json = true;
                        self.follow(right, &mut taken, &mut worst, &mut is_named_beside);
                        if is_joined {
                            worst = joined(worst);
                        }
                        left
                    }
                },
                Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => return worst.max(of(Source::Row)),
                Expr::CompoundFieldAccess { root, access_chain } => {
                    for (at, access) in access_chain.iter().enumerate().rev() {
                        match access {
                            // A column of a row, or a function of a value.
                            AccessExpr::Dot(Expr::Identifier(name)) => {
                                if is_named_beside && !self.is_stored_json(&name.value) {
                                    worst = worst.max(Source::Values);
                                }
                                is_named_beside = false;
                                worst = worst.max(taken.of(self.attribute(None, &name.value)));
                                let source = match &**root {
                                    Expr::Identifier(root) if at == 0 => Some(root.value.as_str()),
                                    _ => None,
                                };
                                let may_call = self.may_call(source, &name.value);
                                if may_call && functions::tells_nothing(&name.value.to_lowercase()) {
                                    return worst;
                                }
                                taken = taken.max_of(if may_call { Taken::Result } else { Taken::Column });
                            }
                            AccessExpr::Subscript(Subscript::Index { index }) => {
                                self.follow(index, &mut taken, &mut worst, &mut is_named_beside);
                            }
                            _ => {}
                        }
                    }
                    root
                }
                Expr::Function(function) if builds_json(function) => {
                    return worst.max(taken.of(self.function(function)));
                }
                Expr::Function(function) => return worst.max(of(self.function(function))),
                other => return worst.max(of(self.end(other))),
            }
        }
    }

    /// What may be in the value of an expression with which a chain ends.
    fn end(&self, expr: &Expr) -> Source {
        match expr {
            Expr::Substring { expr, .. } => self.result("substring", 2, self.expr(expr)),
            Expr::Trim { expr, trim_what, .. } => {
                self.result("trim", 1 + usize::from(trim_what.is_some()), self.expr(expr))
            }
            Expr::Overlay { expr, overlay_what, .. } => {
                self.result("overlay", 2, self.expr(expr).max(self.expr(overlay_what)))
            }
            Expr::Case { conditions, else_result, .. } => {
                self.one_of(conditions.iter().map(|when| &when.result).chain(else_result.as_deref()))
            }
            Expr::Tuple(parts) => {
                let worst = parts.iter().map(|part| self.expr(part)).max().unwrap_or(Source::Plain);
                self.result("row", parts.len(), worst)
            }
            Expr::Array(Array { elem: parts, .. }) | Expr::Struct { values: parts, .. } => {
                parts.iter().map(|part| self.expr(part)).max().unwrap_or(Source::Plain)
            }
            Expr::Subquery(query) => self.query(query).worst(),
            Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsJson { .. }
            | Expr::IsNormalized { .. }
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::In { .. }
            | Expr::Between { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::RLike { .. }
            | Expr::MatchAgainst { .. }
            | Expr::MemberOf(_)
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::Exists { .. }
            | Expr::Position { .. } => Source::Plain,
            // What neither store has, or no value is: JSON by Snowflake's paths, maps, lambdas, sets of groups.
            other => {
                let mut all = Everything { names: self, worst: Source::Plain };
                let _ = walk(other, &mut all);
                self.result("", 1, all.worst)
            }
        }
    }

    /// Goes along a path: what it names counts, and of what stands left of it only that is taken.
    fn follow(&self, path: &Expr, taken: &mut Taken, worst: &mut Source, is_named_beside: &mut bool) {
        match self.path(path) {
            Path::Named(named, is_value) => {
                *worst = named.max(*worst);
                *is_named_beside = is_value && *taken != Taken::Named;
                *taken = Taken::Named;
            }
            place => {
                if std::mem::take(is_named_beside) {
                    *worst = Source::Values.max(*worst);
                }
                *taken =
                    taken.max_of(if matches!(place, Path::Unnamed) { Taken::Items } else { Taken::Values });
            }
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
            return Path::Named(self.anything(), false);
        }
        if !text.contains(char::is_alphabetic) {
            return Path::Unnamed;
        }
        let small = text.to_lowercase();
        let is_step = |step: &&str| !["", "lax", "strict"].contains(step);
        let steps: Vec<&str> = small.split(is_between_words).filter(is_step).collect();
        let is_listed = text.contains('[') || steps.iter().any(|step| step.parse::<u32>().is_ok());
        let named = self.in_path(text);
        if is_listed && steps.iter().any(|step| fields::is_named_by_another(step)) {
            return Path::Named(named.max(Source::Values), false);
        }
        Path::Named(named, steps.first().is_some_and(|first| fields::is_named_by_another(first)))
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
        let takes_apart = functions::takes_apart(name);
        if functions::is_path(name)
            && let Some(taken) = self.taken_by_path(name, list, &sources)
        {
            return taken;
        }
        if takes_apart
            && let [_, path] = list
            && plain_argument(path).is_some_and(|path| matches!(self.path(path), Path::Named(..)))
            && let Some(taken) = self.taken_by_path(name, list, &sources)
        {
            return taken.max(Source::Items);
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
        if names >= Some(Source::Json) {
            return Source::Keys;
        }
        let worst = sources.into_iter().max().unwrap_or(Source::Plain);
        if functions::tells_names(name) {
            return if worst == Source::Keys { Source::Keys } else { Source::Plain };
        }
        let result = self.result(name, list.len(), worst);
        // In SQLite they also take lists apart.
        if takes_apart && self.is_postgres() { result.max(Source::Items) } else { result }
    }

    /// What a function in a column's place makes of what stands before its dot.
    pub(super) fn called_of(&self, name: &str, source: Source) -> Source {
        let name = &*name.to_lowercase();
        if functions::tells_nothing(name) {
            return Source::Plain;
        }
        self.result(name, 1, if functions::reads_json(name) { as_keys(source) } else { source })
    }

    /// What a function takes of the JSON that is its first argument; `None` where a path is computed.
    fn taken_by_path(&self, name: &str, list: &[FunctionArg], sources: &[Source]) -> Option<Source> {
        let ([json, paths @ ..], [of_json, beside @ ..]) = (list, sources) else { return None };
        plain_argument(json)?;
        // Of a query the one path is followed by values for its variables.
        let count = if name.contains("_path_query") { 1 } else { paths.len() };
        // One path step by step, or several paths from the same place.
        let is_stepwise = name.contains("_extract_path");
        let (mut taken, mut worst, mut is_named_beside) = (Taken::Whole, Source::Plain, false);
        for path in paths.iter().take(count).rev() {
            let path = plain_argument(path)?;
            let told = self.path(path);
            if matches!(told, Path::Computed) {
                return None;
            }
            let was_named_beside = is_named_beside || matches!(told, Path::Named(_, true));
            self.follow(path, &mut taken, &mut worst, &mut is_named_beside);
            is_named_beside |= was_named_beside && !is_stepwise;
        }
        if is_named_beside && !bare(plain_argument(json)?).is_some_and(|name| self.is_stored_json(&name)) {
            worst = worst.max(Source::Values);
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
            Source::Field if worst.is_mixed() => self.anything(),
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

/// What is put together with something has its looks no more.
fn joined(source: Source) -> Source {
    if source == Source::Sometimes { Source::Field } else { source }
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

    /// A `*` among its columns is no expression.
    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.worst = self.worst.max(self.names.query(query).worst());
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

/// Whether text is made of a row that stands in it; `None` where the row stays what it is. Numbers, times and truths are
/// never made of one, so a name that is reckoned with is that of a column, though a table is called so, too.
fn makes_text(expr: &Expr) -> Option<bool> {
    use BinaryOperator as Op;
    match expr {
        Expr::Cast { data_type, .. } => Some(!is_reckoned_with(data_type)),
        Expr::BinaryOp { op, .. } if matches!(flow(op), Flow::Both) => {
            Some(!matches!(op, Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo | Op::PGExp))
        }
        _ => None,
    }
}

/// Numbers, times and truths.
fn is_reckoned_with(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Numeric(_)
            | DataType::Decimal(_)
            | DataType::Dec(_)
            | DataType::Float(_)
            | DataType::Float4
            | DataType::Float8
            | DataType::Real
            | DataType::Double(_)
            | DataType::DoublePrecision
            | DataType::SmallInt(_)
            | DataType::Int2(_)
            | DataType::Int(_)
            | DataType::Int4(_)
            | DataType::Integer(_)
            | DataType::BigInt(_)
            | DataType::Int8(_)
            | DataType::Bool
            | DataType::Boolean
            | DataType::Date
            | DataType::Time(..)
            | DataType::Timestamp(..)
            | DataType::Interval { .. }
    )
}

/// Types as statements write them, and as Postgres names a column after them.
const TYPES: [(&str, &str); 18] = [
    ("bigint", "int8"),
    ("boolean", "bool"),
    ("char", "bpchar"),
    ("character", "bpchar"),
    ("character varying", "varchar"),
    ("dec", "numeric"),
    ("decimal", "numeric"),
    ("double precision", "float8"),
    ("float", "float8"),
    // With few digits.
    ("float", "float4"),
    ("int", "int4"),
    ("integer", "int4"),
    ("real", "float4"),
    ("smallint", "int2"),
    ("time with time zone", "timetz"),
    ("time without time zone", "time"),
    ("timestamp with time zone", "timestamptz"),
    ("timestamp without time zone", "timestamp"),
];

/// What a column is called where the statement gives it no name. A column's own name and a function's both stores take;
/// what else they make of an expression depends on the store, and on what the embedded one rewrites.
pub(super) fn implied_name(expr: &Expr) -> Name {
    match expr {
        Expr::Function(function) => Name::Known(last_name(&function.name).to_lowercase()),
        expr => bare(expr)
            .map_or_else(|| Name::Implied { names: implied_names(expr), is_whole: true }, Name::Same),
    }
}

/// The name of a column that stands alone.
fn bare(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
        _ => None,
    }
}

/// The names that Postgres may make. One that is missing here is masked behind a `*` all the same, unless something else
/// is called so.
fn implied_names(mut expr: &Expr) -> Vec<String> {
    let mut names = Vec::new();
    let mut type_name = None;
    let found: &[&str] = loop {
        expr = match expr {
            Expr::Cast { expr, data_type, .. } => {
                type_name.get_or_insert(data_type);
                expr
            }
            Expr::Nested(expr) | Expr::Collate { expr, .. } => expr,
            Expr::Case { else_result, .. } => {
                names.push("case".to_owned());
                let Some(result) = else_result else { break &[] };
                result
            }
            Expr::Subquery(query) => match first_column(query) {
                Some(SelectItem::UnnamedExpr(expr)) => expr,
                Some(SelectItem::ExprWithAlias { alias, .. }) => {
                    names.push(alias.value.clone());
                    return names;
                }
                _ => break &[],
            },
            Expr::CompoundFieldAccess { root, access_chain } => {
                let field = access_chain.iter().rev().find_map(|access| match access {
                    AccessExpr::Dot(Expr::Identifier(name)) => Some(name.value.clone()),
                    _ => None,
                });
                if let Some(field) = field {
                    names.push(field);
                    return names;
                }
                root
            }
            Expr::Function(function) => {
                names.push(last_name(&function.name).to_lowercase());
                return names;
            }
            Expr::Substring { .. } => break &["substring", "substr"],
            Expr::Trim { .. } => break &["btrim", "ltrim", "rtrim"],
            Expr::Overlay { .. } => break &["overlay"],
            Expr::Extract { .. } => break &["extract"],
            Expr::AtTimeZone { .. } => break &["timezone"],
            Expr::Ceil { .. } => break &["ceil", "ceiling"],
            Expr::Floor { .. } => break &["floor"],
            Expr::Array(_) => break &["array"],
            Expr::Tuple(_) => break &["row"],
            other => match bare(other) {
                Some(name) => {
                    names.push(name);
                    return names;
                }
                None => break &[],
            },
        }
    };
    if found.is_empty()
        && let Some(data_type) = type_name
    {
        let written = data_type.to_string().to_lowercase();
        let written = written.split('[').next().unwrap_or_default();
        // Digits may stand amid the words: `timestamp(3) with time zone`.
        let (before, behind) = written.split_once('(').unwrap_or((written, ""));
        let behind = behind.split_once(')').map_or("", |(_, behind)| behind);
        let name = format!("{before}{behind}").trim().to_owned();
        let made = TYPES.iter().filter(|(type_name, _)| *type_name == name);
        names.extend(made.map(|(_, is)| (*is).to_owned()));
        names.push(name);
    }
    names.extend(found.iter().chain(&["?column?"]).map(|name| (*name).to_owned()));
    names
}

/// The first column of a query, after which it is called in a value's place.
fn first_column(query: &Query) -> Option<&SelectItem> {
    let mut set = &*query.body;
    loop {
        set = match set {
            SetExpr::Select(select) => return select.projection.first(),
            SetExpr::Query(query) => &query.body,
            SetExpr::SetOperation { left, .. } => left,
            _ => return None,
        }
    }
}

/// The name of a column that is answered as it is, or as another type.
pub(super) fn unchanged(expr: &Expr) -> Option<String> {
    let expr = inside(expr);
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::HashLongArrow, right } if text(right) == Some("{}") => {
            bare(inside(left))
        }
        expr => bare(expr),
    }
}

/// The member of a column's JSON that is answered as it is: `x->>'campo'` is `x->campo`.
pub(super) fn member(expr: &Expr) -> Option<String> {
    let (json, path) = match inside(expr) {
        Expr::BinaryOp { left, op: BinaryOperator::Arrow | BinaryOperator::LongArrow, right } => {
            (&**left, &**right)
        }
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
            if last_name(name).eq_ignore_ascii_case("json_extract") =>
        {
            let [json, path] = list.args.as_slice() else { return None };
            (plain_argument(json)?, plain_argument(path)?)
        }
        _ => return None,
    };
    let name = text(path)?;
    Some(format!("{}->{}", bare(inside(json))?, name.strip_prefix("$.").unwrap_or(name)))
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(literal) => match &literal.value {
            Literal::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// An expression without brackets and casts around it.
fn inside(mut expr: &Expr) -> &Expr {
    while let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// Whether what JSON is taken of stands further left.
fn goes_on(expr: &Expr) -> bool {
    match expr {
        Expr::Cast { .. } | Expr::Nested(_) | Expr::Collate { .. } | Expr::CompoundFieldAccess { .. } => true,
        Expr::BinaryOp { op, .. } => matches!(flow(op), Flow::Path),
        _ => false,
    }
}
