//! PostgreSQL's forms in SQLite's: people and assistants write `now() - interval '7 days'`, `ILIKE`, `x::date` and
//! `unnest(…)` whatever store they ask.
//!
//! The dialect spoken is SQLite's. A statement is parsed, the forms that only PostgreSQL has are replaced by SQLite's or by
//! calls of [`super::postgres`], and a statement that had none is sent as it came. A form without a counterpart is refused
//! with SQLite's own spelling, so nothing is answered that the two would answer differently, but for the last digits of
//! what is reckoned with quotients, see [`super::decimals`]. Nothing here decides what may be read: SQLite itself asks
//! for everything that what comes out would do, see [`super::guard`].

mod casts;
mod forms;
mod grouping;
mod hints;
mod kinds;
mod leftover;
mod lists;
mod operators;
mod queries;
mod relations;

use std::{borrow::Cow, ops::ControlFlow};

use sqlparser::{
    ast::{
        BinaryOperator, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
        FunctionArguments, Ident, ObjectName, OrderByExpr, OrderBySort, Query, Select, SelectItem, SetExpr,
        Statement, TableAlias, TableFactor, TableWithJoins, UnaryOperator, Value, VisitorMut,
    },
    dialect::{Dialect, PostgreSqlDialect, SQLiteDialect},
    keywords::Keyword,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

use self::{
    forms::{
        any_of, column_name, function_name, literal, nested, plain_arguments, quoted, take, template, trimmed,
    },
    kinds::Kinds,
    leftover::Leftover,
    lists::{Qualified, elements_of, is_unnest, list_of, name_element, own_name, takes_elements},
    operators::comparable,
    relations::Relations,
};
pub(super) use self::{
    hints::{ONE_ROW, of_function as hint},
    kinds::{Columns, Kind},
};
use super::{Readable, times::Moment};
use crate::sql_walk::{change_expressions, walk, walk_mut};

/// What a statement has that this store does not, and how SQLite spells it.
pub(super) type Foreign = (String, Cow<'static, str>);

/// A statement as SQLite reads it, and of what kind its columns are where that is known.
pub(super) struct Translated<'a> {
    pub(super) sql: Cow<'a, str>,
    pub(super) kinds: Vec<Option<Kind>>,
    /// It could not be read here, and came as it is.
    pub(super) unread: bool,
}

/// The statement as SQLite reads it.
pub(super) fn translate<'a>(sql: &'a str, readable: &Readable) -> Result<Translated<'a>, Foreign> {
    let Some(mut statement) = parsed(sql).next().map(Statement::Query) else {
        // Nothing would tell what the two stores answer differently.
        if is_readable(&PostgreSqlDialect {}, sql) == Some(false) {
            return Err((
                "so deep or wide a statement".to_owned(),
                "a part of it in a WITH of its own, or fewer operators".into(),
            ));
        }
        // SQLite says what is wrong with it.
        return Ok(Translated { sql: sql.into(), kinds: Vec::new(), unread: true });
    };
    let came = statement.clone();
    let kinds = match rewrite(&mut statement, readable) {
        ControlFlow::Continue(kinds) => kinds,
        ControlFlow::Break(foreign) => return Err(foreign),
    };
    // SQLite would end a comment that has another one inside at the end of that.
    let comments = sql.matches("/*").count() > 1 && parse(&PostgreSqlDialect {}, sql).is_some();
    if statement == came && !comments {
        return Ok(Translated { sql: sql.into(), kinds, unread: false });
    }
    let written = statement.to_string();
    match read(&PostgreSqlDialect {}, &written) {
        None => Err((
            "so deep an expression of PostgreSQL's".to_owned(),
            "a part of it in a WITH of its own".into(),
        )),
        Some(again) if again.to_string() == written => {
            Ok(Translated { sql: written.into(), kinds, unread: false })
        }
        // The library writes some quotes in texts and names so that the text would end earlier.
        Some(_) => Err((
            "a quote beside a backslash or another quote, in a text".to_owned(),
            "char(39) for the quote".into(),
        )),
    }
}

/// Replaces what only PostgreSQL has, and tells the kinds of the columns.
fn rewrite(statement: &mut Statement, readable: &Readable) -> ControlFlow<Foreign, Vec<Option<Kind>>> {
    walk_mut(statement, &mut Relations::default())?;
    let kinds = Kinds::new(readable);
    let answered = match &*statement {
        Statement::Query(query) => kinds.columns_of(query).iter().map(|(_, kind)| *kind).collect(),
        _ => Vec::new(),
    };
    let mut translation =
        Translation { kinds: kinds.clone(), selects: Vec::new(), elements: Vec::new(), first: None };
    walk_mut(statement, &mut translation)?;
    walk(statement, &mut Leftover { kinds })?;
    ControlFlow::Continue(answered)
}

/// `-2 ^ 2` is four: PostgreSQL reads the sign first, the library the power.
fn sign_first(expr: &mut Expr) {
    let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = expr else { return };
    if !matches!(&**inner, Expr::BinaryOp { op: BinaryOperator::PGExp, .. }) {
        return;
    }
    let mut power = take(inner);
    let mut base = &mut power;
    while let Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } = base {
        base = left;
    }
    let signed = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(take(base)) };
    *base = Expr::Nested(Box::new(signed));
    *expr = power;
}

/// Parentheses inside one another.
const MAX_DEPTH: i32 = 24;

/// More operators and keywords are no question of people or assistants.
const MAX_OPERATORS: usize = 1_000;

/// The statement in each way that the library reads it, the one that is translated first. Where that has nothing to
/// replace, SQLite reads the text by itself: a comment inside a comment ends elsewhere then.
fn parsed(sql: &str) -> impl Iterator<Item = Box<Query>> {
    let dialects: [&dyn Dialect; 2] = [&PostgreSqlDialect {}, &SQLiteDialect {}];
    dialects.into_iter().filter_map(move |dialect| match parse(dialect, sql)? {
        Statement::Query(query) => Some(query),
        _ => None,
    })
}

/// See [`parsed`].
pub(crate) fn readings(sql: &str) -> Vec<Query> {
    parsed(sql).map(|query| *query).collect()
}

fn parse(dialect: &dyn Dialect, sql: &str) -> Option<Statement> {
    if is_readable(dialect, sql)? { read(dialect, sql) } else { None }
}

/// Whether it is neither too deep nor too wide; nothing where it has no tokens of the dialect. Groups in groups take
/// the library long, and a chain of operators is a tree as deep as the chain is long.
fn is_readable(dialect: &dyn Dialect, sql: &str) -> Option<bool> {
    let (mut depth, mut operators) = (0_i32, 0);
    for token in Tokenizer::new(dialect, sql).tokenize().ok()? {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {}
            Token::Whitespace(_)
            | Token::Comma
            | Token::Period
            | Token::Number(..)
            | Token::SingleQuotedString(_) => {}
            _ => operators += 1,
        }
        if depth > MAX_DEPTH || operators > MAX_OPERATORS {
            return Some(false);
        }
    }
    Some(true)
}

fn read(dialect: &dyn Dialect, sql: &str) -> Option<Statement> {
    let mut statements = Parser::parse_sql(dialect, sql).ok()?;
    let statement = statements.pop().filter(|_| statements.is_empty())?;
    matches!(statement, Statement::Query(_)).then_some(statement)
}

fn foreign<T>(what: impl Into<String>, instead: impl Into<Cow<'static, str>>) -> ControlFlow<Foreign, T> {
    ControlFlow::Break((what.into(), instead.into()))
}

/// What is known of a SELECT on the way through it.
#[derive(Default)]
struct Scope {
    came: Vec<SelectItem>,
    /// The list whose elements it selects.
    unnested: Option<Expr>,
    /// Names of lists' elements, by the names of their tables.
    elements: Vec<(String, String)>,
}

struct Translation<'a> {
    kinds: Kinds<'a>,
    selects: Vec<Scope>,
    /// Of the SELECT that was left last, for its ORDER BY: elements, and names that its columns were given.
    elements: Vec<(String, String)>,
    /// The table whose columns must be told from those of elements there.
    first: Option<Ident>,
}

impl VisitorMut for Translation<'_> {
    type Break = Foreign;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Foreign> {
        self.kinds.enter_query(query);
        self.kinds.joined(&query.body)?;
        queries::set_apart(&mut query.body);
        grouping::check(&self.kinds, query)
    }

    /// In PostgreSQL NULL is larger than everything else, in SQLite smaller.
    fn pre_visit_order_by_expr(&mut self, order: &mut OrderByExpr) -> ControlFlow<Foreign> {
        match self.kinds.of_ordered(&order.expr) {
            Some(Kind::Json) => return foreign("an order by JSON", hints::JSON_ORDER),
            Some(Kind::List) => return foreign("an order by lists", hints::LIST_ORDER),
            _ => {}
        }
        let descending = order.options.sort == Some(OrderBySort::Desc);
        order.options.nulls_first.get_or_insert(descending);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Foreign> {
        self.kinds.enter_select(select);
        self.selects.push(Scope { came: select.projection.clone(), ..Scope::default() });
        self.conditions(select)
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Foreign> {
        let Some(scope) = self.selects.pop() else { return ControlFlow::Continue(()) };
        let lists = scope.unnested.is_some() || !scope.elements.is_empty();
        if lists && select.projection.iter().any(|item| takes_elements(item, &scope.elements)) {
            return foreign("* beside the elements of a list", hints::UNNEST_ALL);
        }
        self.first = None;
        if lists && let Some(first) = select.from.first().and_then(|from| own_name(&from.relation)) {
            let _ =
                walk_mut(select, &mut Qualified { by: first.clone(), elements: &scope.elements, depth: 0 });
            self.first = Some(first);
        }
        if let Some(list) = scope.unnested {
            select.from.push(TableWithJoins { relation: elements_of(list, "unnested"), joins: Vec::new() });
        }
        change_expressions(select, |expr| name_element(expr, &scope.elements));
        for (item, came) in select.projection.iter_mut().zip(&scope.came) {
            if let (SelectItem::UnnamedExpr(expr), SelectItem::UnnamedExpr(before)) = (&mut *item, came)
                && expr != before
            {
                let alias = Ident::with_quote('"', column_name(before));
                *item = SelectItem::ExprWithAlias { expr: take(expr), alias };
            }
        }
        self.elements = scope.elements;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Foreign> {
        self.kinds.leave_query();
        if let SetExpr::Select(select) = &*query.body {
            if let Some(by) = self.first.take() {
                let named = select.projection.iter().filter_map(|item| match item {
                    SelectItem::ExprWithAlias { alias, .. } => Some((String::new(), alias.value.clone())),
                    _ => None,
                });
                let elements: Vec<_> = self.elements.iter().cloned().chain(named).collect();
                let mut qualified = Qualified { by, elements: &elements, depth: 0 };
                let _ = walk_mut(&mut query.order_by, &mut qualified);
            }
            change_expressions(&mut query.order_by, |expr| name_element(expr, &self.elements));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Foreign> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => self.joins(table_with_joins),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Foreign> {
        let (list, alias) = match factor {
            TableFactor::UNNEST {
                alias, array_exprs, with_offset: false, with_ordinality: false, ..
            } => (array_exprs.as_slice(), alias),
            TableFactor::Table { name, alias, args: Some(args), .. } if is_unnest(&function_name(name)) => {
                return match args.args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(list))] => {
                        let (list, alias) = (list_of(&function_name(name), list), alias.clone());
                        self.elements(factor, list, alias)
                    }
                    _ => foreign("unnest of several lists", hints::UNNEST),
                };
            }
            TableFactor::Function { name, args, alias, with_ordinality: false, .. }
                if is_unnest(&function_name(name)) =>
            {
                return match args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(list))] => {
                        let (list, alias) = (list_of(&function_name(name), list), alias.clone());
                        self.elements(factor, list, alias)
                    }
                    _ => foreign("unnest of several lists", hints::UNNEST),
                };
            }
            _ => return ControlFlow::Continue(()),
        };
        let [list] = list else { return foreign("unnest of several lists", hints::UNNEST) };
        let (list, alias) = (list.clone(), alias.clone());
        self.elements(factor, list, alias)
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Foreign> {
        sign_first(expr);
        queries::look_among(expr);
        self.conditions_of(expr)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Foreign> {
        match expr {
            Expr::Cast {
                kind: kind @ (CastKind::Cast | CastKind::DoubleColon),
                expr: inner,
                data_type,
                ..
            } => {
                // SQLite's own, which no other store has.
                let own = *kind == CastKind::Cast && matches!(data_type, DataType::Blob(None));
                if !own {
                    *expr = self.cast(inner, data_type)?;
                }
            }
            Expr::TypedString(typed) => {
                let Value::SingleQuotedString(text) = &typed.value.value else {
                    return ControlFlow::Continue(());
                };
                let text = quoted(text);
                *expr = self.cast(&text, &typed.data_type)?;
            }
            Expr::Value(value) => match &value.value {
                Value::EscapedStringLiteral(text) => *expr = quoted(text),
                Value::DollarQuotedString(text) => *expr = quoted(&text.value),
                _ => {}
            },
            Expr::ILike { any: false, negated, expr: left, pattern, escape_char } => {
                *expr = Expr::Like {
                    negated: *negated,
                    any: false,
                    expr: Box::new(template("pg_lower(_0)", &[left])),
                    pattern: Box::new(template("pg_lower(_0)", &[pattern])),
                    escape_char: escape_char.take().or_else(|| Some(Box::new(quoted("\\")))),
                };
            }
            Expr::Like { any: false, pattern, escape_char: escape @ None, .. }
                if literal(pattern).is_none_or(|pattern| pattern.contains('\\')) =>
            {
                *escape = Some(Box::new(quoted("\\")));
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                let at = match literal(timestamp) {
                    // PostgreSQL takes a bare text for an instant.
                    Some(_) => template("pg_timestamptz(_0)", &[timestamp]),
                    None => take(timestamp),
                };
                *expr = template("pg_at_time_zone(_0, _1)", &[&at, time_zone]);
            }
            Expr::Extract { field, expr: of, .. } => {
                let field = field.to_string().to_lowercase();
                *expr = self.part("pg_part", &field, of);
            }
            Expr::Position { expr: part, r#in } => *expr = template("instr(_1, _0)", &[part, r#in]),
            Expr::Substring { expr: of, substring_from: from, substring_for: length, .. } => {
                let one = Expr::Value(Value::Number("1".to_owned(), false).into());
                *expr = self.substring(of, from.as_deref().unwrap_or(&one), length.as_deref())?;
            }
            Expr::Trim { trim_where, trim_what, expr: of, trim_characters } => {
                let what = trim_what.as_deref().or_else(|| trim_characters.as_ref()?.first());
                *expr = trimmed(of, what, trim_where.as_ref());
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                *expr = self.any(left, right, false)?;
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                *expr = self.any(left, right, true)?;
            }
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                return self.compare_both(left, right);
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                if let Some(operand) = operand {
                    conditions
                        .iter_mut()
                        .try_for_each(|when| self.compare_both(operand, &mut when.condition))?;
                }
                let results = conditions.iter_mut().map(|when| &mut when.result);
                return self.alike(results.chain(else_result.as_deref_mut()));
            }
            Expr::BinaryOp { left, op, right } => {
                if let Some(made) = self.operator(left, op, right)? {
                    *expr = made;
                }
            }
            Expr::Between { expr: at, low, high, .. } => {
                self.compare_both(at, low)?;
                self.compare_both(at, high)?;
            }
            Expr::In { expr: at, target, .. } => return self.among(at, target),
            Expr::Function(_) => return self.function(expr),
            Expr::Subquery(query) => {
                if let Some(made) = queries::only_row(&self.kinds, query) {
                    *expr = made;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Translation<'_> {
    /// What a call is given, as the function of either store reads it.
    fn arguments(&self, call: &mut Function, name: &str) -> ControlFlow<Foreign> {
        match name {
            "nullif" => {
                // It stays of the type of the first.
                let kinds = plain_arguments(&call.args).into_iter().filter_map(|of| self.kinds.of_expr(of));
                if let [a, b] = kinds.collect::<Vec<_>>()[..]
                    && a != b
                    && a.is_time()
                    && b.is_time()
                {
                    return foreign("nullif of times of different types", hints::SAME_CAST);
                }
                self.alike(arguments_mut(call))?;
            }
            "coalesce" | "greatest" | "least" | "ifnull" => self.alike(arguments_mut(call))?,
            "concat" | "concat_ws" => {
                for argument in arguments_mut(call) {
                    if self.kinds.of_expr(argument) == Some(Kind::Boolean) {
                        // Not as the same value's text: by the first letter.
                        *argument =
                            template("CASE WHEN _0 THEN 't' WHEN NOT _0 THEN 'f' END", &[&nested(argument)]);
                    }
                    self.show(argument)?;
                }
            }
            "json_build_object" | "json_build_array" | "jsonb_build_object" | "jsonb_build_array"
            | "json_object" | "json_array" | "json_group_object" | "json_group_array" | "json_quote"
            | "json_set" | "json_insert" | "json_replace" => {
                arguments_mut(call).for_each(|argument| self.embed(argument));
            }
            "sum" | "avg" | "min" | "max" => {
                for argument in plain_arguments(&call.args) {
                    match self.kinds.of_expr(argument) {
                        Some(Kind::Json) => {
                            return foreign(format!("{name} of JSON"), hints::JSON_VALUE);
                        }
                        Some(Kind::List) => return foreign(format!("{name} of lists"), hints::LIST_ORDER),
                        Some(Kind::Text) if matches!(name, "sum" | "avg") => {
                            return foreign(format!("{name} of a text"), hints::TEXT_AS_NUMBER);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn function(&mut self, expr: &mut Expr) -> ControlFlow<Foreign> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let name = function_name(&call.name);
        self.arguments(call, &name)?;
        if !call.within_group.is_empty() {
            return self.within_group(call, &name);
        }
        let arguments = plain_arguments(&call.args);
        let renamed = |call: &mut Function, to: &str| call.name = ObjectName::from(vec![Ident::new(to)]);
        match (name.as_str(), arguments.as_slice()) {
            (
                "current_timestamp" | "transaction_timestamp" | "statement_timestamp" | "clock_timestamp",
                [],
            ) => {
                *expr = template("now()", &[]);
            }
            ("localtimestamp", []) => *expr = template("pg_timestamp(now())", &[]),
            ("lower", [_]) => renamed(call, "pg_lower"),
            ("upper", [_]) => renamed(call, "pg_upper"),
            ("char_length" | "character_length", [_]) => renamed(call, "length"),
            // A half goes to the even number.
            ("round", [of]) if self.kinds.of_expr(of) == Some(Kind::Double) => renamed(call, "pg_even"),
            ("round", [_, _]) => renamed(call, "pg_round"),
            ("sum", [of]) if self.kinds.of_expr(of) == Some(Kind::Number) => renamed(call, "pg_sum"),
            ("avg", [of]) if self.kinds.of_expr(of) == Some(Kind::Number) => renamed(call, "pg_avg"),
            ("strpos", [_, _]) => renamed(call, "instr"),
            ("btrim", [of]) => *expr = trimmed(of, None, None),
            ("btrim", [of, what]) => *expr = trimmed(of, Some(what), None),
            ("substr" | "substring", [of, from]) => *expr = self.substring(of, from, None)?,
            ("substr" | "substring", [of, from, length]) => {
                *expr = self.substring(of, from, Some(length))?;
            }
            ("log", [_, _]) => return foreign("log of two numbers", "ln(x) / ln(2)"),
            ("trunc", [_, _]) => {
                return foreign("trunc to so many places", "trunc(x * 100) / 100.0 for two places");
            }
            ("string_agg" | "group_concat", [_, _]) if is_distinct(call) => {
                return foreign(format!("{name}(DISTINCT …) with a separator"), hints::DISTINCT_TEXTS);
            }
            ("jsonb_array_length", [_]) => renamed(call, "json_array_length"),
            // What json_each and json_extract make of JSON is of SQLite's types.
            ("json_typeof" | "jsonb_typeof", [of]) => {
                if self.kinds.of_expr(of) != Some(Kind::Json) && literal(of).is_none() {
                    return foreign(format!("{name} of what is no JSON"), hints::JSON_ITSELF);
                }
                renamed(call, "pg_json_typeof");
            }
            ("jsonb_build_object" | "json_build_object", _) => renamed(call, "json_object"),
            ("jsonb_build_array" | "json_build_array", _) => renamed(call, "json_array"),
            ("date_part", [field, of]) => {
                if let Some(field) = literal(field) {
                    *expr = self.part("date_part", field, of);
                }
            }
            // SQLite makes nothing of a text that it can't read, and says nothing.
            ("date" | "datetime" | "julianday" | "unixepoch", [of, ..])
                if literal(of).is_some_and(|text| text != "now" && Moment::parse(text).is_err()) =>
            {
                return foreign("a time that is written so", hints::TIME);
            }
            ("date_trunc", [_, of] | [_, of, _]) if self.kinds.of_expr(of) == Some(Kind::Interval) => {
                return foreign("date_trunc of an interval", hints::INTERVAL);
            }
            (unnest, [list]) if is_unnest(unnest) && call.over.is_none() => {
                let list = list_of(unnest, list);
                let Some(scope) = self.selects.last_mut() else { return ControlFlow::Continue(()) };
                if scope.unnested.replace(list).is_some() {
                    return foreign("unnest twice in one SELECT", hints::UNNEST);
                }
                *expr = template("unnested.value", &[]);
            }
            (name, _) => {
                if let Some(instead) = hints::of_function(name) {
                    return foreign(format!("the function {name}"), instead);
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// `percentile_cont(p) WITHIN GROUP (ORDER BY x)`, as an aggregate of both.
    fn within_group(&self, call: &mut Function, name: &str) -> ControlFlow<Foreign> {
        let what = || format!("{name} WITHIN GROUP");
        if name == "mode" {
            return foreign(what(), hints::MODE);
        }
        let [order] = call.within_group.as_slice() else { return foreign(what(), hints::PERCENTILE) };
        let is_ascending = order.options.sort.as_ref().is_none_or(|sort| *sort == OrderBySort::Asc);
        let is_number = self.kinds.of_expr(&order.expr).is_none_or(Kind::is_number);
        let takes_one = plain_arguments(&call.args).len() == 1;
        let FunctionArguments::List(list) = &mut call.args else {
            return foreign(what(), hints::PERCENTILE);
        };
        if name != "percentile_cont" || !is_ascending || !is_number || !takes_one || call.over.is_some() {
            return foreign(what(), hints::PERCENTILE);
        }
        list.args.insert(0, FunctionArg::Unnamed(FunctionArgExpr::Expr(order.expr.clone())));
        call.within_group.clear();
        call.name = ObjectName::from(vec![Ident::new("pg_percentile")]);
        ControlFlow::Continue(())
    }

    /// A part of a text by its place: SQLite counts from the end where PostgreSQL goes on before the beginning.
    fn substring(&self, of: &Expr, from: &Expr, length: Option<&Expr>) -> ControlFlow<Foreign, Expr> {
        if literal(from).is_some() || self.kinds.of_expr(from) == Some(Kind::Text) {
            return foreign("substring by a pattern", hints::SUBSTRING);
        }
        ControlFlow::Continue(match length {
            None => template("pg_substr(_0, _1)", &[of, from]),
            Some(length) => template("pg_substr(_0, _1, _2)", &[of, from, length]),
        })
    }

    /// `x = ANY(…)`, or `x <> ALL(…)`.
    fn any(&self, left: &Expr, right: &Expr, negated: bool) -> ControlFlow<Foreign, Expr> {
        if let (Some(kind), Some(Kind::List)) = (self.kinds.of_expr(left), self.kinds.of_expr(right)) {
            comparable(kind, Kind::Text)?;
        }
        let mut made = any_of(left, right, negated);
        if let Expr::In { expr: at, target, .. } = &mut made {
            self.among(at, target)?;
        }
        ControlFlow::Continue(made)
    }

    /// A table of a list's elements, and what they are called.
    fn elements(
        &mut self,
        factor: &mut TableFactor,
        list: Expr,
        alias: Option<TableAlias>,
    ) -> ControlFlow<Foreign> {
        let alias_name = alias.as_ref().map_or_else(|| "unnest".to_owned(), |alias| alias.name.value.clone());
        let element = alias.and_then(|alias| alias.columns.first().map(|column| column.name.value.clone()));
        if let Some(scope) = self.selects.last_mut() {
            scope.elements.push((alias_name.clone(), element.unwrap_or_else(|| alias_name.clone())));
        }
        *factor = elements_of(list, &alias_name);
        ControlFlow::Continue(())
    }
}

fn is_distinct(call: &Function) -> bool {
    let FunctionArguments::List(list) = &call.args else { return false };
    list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
}

/// The arguments of a call that are plain.
fn arguments_mut(call: &mut Function) -> impl Iterator<Item = &mut Expr> {
    let list = match &mut call.args {
        FunctionArguments::List(list) => list.args.as_mut_slice(),
        _ => &mut [],
    };
    list.iter_mut().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    })
}
