//! PostgreSQL's forms in SQLite's: people and assistants write `now() - interval '7 days'`, `ILIKE`, `x::date` and
//! `unnest(…)` whatever store they ask.
//!
//! The dialect spoken is SQLite's. A statement is parsed, the forms that only PostgreSQL has are replaced by SQLite's or by
//! calls of [`super::postgres`], and a statement that had none is sent as it came. A form without a counterpart is refused
//! with SQLite's own spelling, so nothing is answered that the two would answer differently. Nothing here decides
//! what may be read: SQLite itself asks for everything that what comes out would do, see [`super::guard`].

mod casts;
mod forms;
mod hints;
mod kinds;
mod leftover;
mod lists;
mod operators;

use std::{borrow::Cow, ops::ControlFlow};

use sqlparser::{
    ast::{
        BinaryOperator, CastKind, Expr, Function, FunctionArg, FunctionArgExpr, Ident, InTarget, ObjectName,
        ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableFactor,
        TableWithJoins, Value, Visit, VisitMut, VisitorMut, visit_expressions_mut, visit_relations_mut,
    },
    dialect::{Dialect, PostgreSqlDialect, SQLiteDialect},
    keywords::Keyword,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

use self::{
    forms::{
        any_of, column_name, function_name, is_own_type, literal, plain_arguments, quoted, take, template,
        trimmed,
    },
    kinds::Kinds,
    leftover::Leftover,
    lists::{Qualified, elements_of, is_unnest, name_element, own_name},
};
pub(super) use self::{hints::of_function as hint, kinds::Kind};
use super::Readable;

/// What a statement has that this store does not, and how SQLite spells it.
pub(super) type Foreign = (String, Cow<'static, str>);

/// The statement as SQLite reads it.
pub(super) fn translate<'a>(sql: &'a str, readable: &Readable) -> Result<Cow<'a, str>, Foreign> {
    let Some(mut statement) = parse(&PostgreSqlDialect {}, sql).or_else(|| parse(&SQLiteDialect {}, sql))
    else {
        // SQLite says what is wrong with it, or knows a form that the library does not.
        return Ok(sql.into());
    };
    let came = statement.clone();
    let kinds = Kinds::of(&statement, readable);
    let mut translation = Translation { readable, kinds, selects: Vec::new(), elements: Vec::new() };
    if let ControlFlow::Break(foreign) = VisitMut::visit(&mut statement, &mut translation) {
        return Err(foreign);
    }
    if let ControlFlow::Break(foreign) = statement.visit(&mut Leftover { kinds: &translation.kinds }) {
        return Err(foreign);
    }
    if statement == came {
        return Ok(sql.into());
    }
    let written = statement.to_string();
    match read(&PostgreSqlDialect {}, &written) {
        None => Err((
            "so deep an expression of PostgreSQL's".to_owned(),
            "a part of it in a WITH of its own".into(),
        )),
        Some(again) if again.to_string() == written => Ok(written.into()),
        // The library writes some quotes in texts and names so that the text would end earlier.
        Some(_) => Err((
            "a quote beside a backslash or another quote, in a text".to_owned(),
            "char(39) for the quote".into(),
        )),
    }
}

/// Parentheses inside one another.
const MAX_DEPTH: i32 = 24;

/// More operators and keywords are no question of people or assistants; SQLite says what it thinks of them.
const MAX_OPERATORS: usize = 1_000;

fn parse(dialect: &dyn Dialect, sql: &str) -> Option<Statement> {
    // Groups in groups take the library long, and a chain of operators is a tree as deep as the chain is long.
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
            return None;
        }
    }
    read(dialect, sql)
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
    readable: &'a Readable,
    kinds: Kinds,
    selects: Vec<Scope>,
    /// Of the SELECT that was left last, for its ORDER BY.
    elements: Vec<(String, String)>,
}

impl VisitorMut for Translation<'_> {
    type Break = Foreign;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Foreign> {
        for cte in query.with.iter_mut().filter(|with| !with.recursive).flat_map(|with| &mut with.cte_tables)
        {
            // In SQLite the name stands for the query itself even here.
            let name = cte.alias.name.value.to_lowercase();
            if self.readable.has(&name) {
                let _ = visit_relations_mut(&mut cte.query, |relation| {
                    if relation.0.len() == 1 && function_name(relation) == name {
                        relation.0.insert(0, ObjectNamePart::Identifier(Ident::new("main")));
                    }
                    ControlFlow::<()>::Continue(())
                });
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Foreign> {
        if let [schema, _] = relation.0.as_slice()
            && schema.as_ident().is_some_and(|schema| schema.value.eq_ignore_ascii_case("public"))
        {
            relation.0.remove(0);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Foreign> {
        self.selects.push(Scope { came: select.projection.clone(), ..Scope::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Foreign> {
        let Some(scope) = self.selects.pop() else { return ControlFlow::Continue(()) };
        let lists = scope.unnested.is_some() || !scope.elements.is_empty();
        if lists && let Some(first) = select.from.first().and_then(|from| own_name(&from.relation)) {
            let _ =
                VisitMut::visit(select, &mut Qualified { by: first, elements: &scope.elements, depth: 0 });
        }
        if let Some(list) = scope.unnested {
            select.from.push(TableWithJoins { relation: elements_of(list, "unnested"), joins: Vec::new() });
        }
        let _ = visit_expressions_mut(select, |expr| {
            name_element(expr, &scope.elements);
            ControlFlow::<()>::Continue(())
        });
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
        if matches!(*query.body, SetExpr::Select(_)) {
            let _ = visit_expressions_mut(&mut query.order_by, |expr| {
                name_element(expr, &self.elements);
                ControlFlow::<()>::Continue(())
            });
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Foreign> {
        let (list, alias) = match factor {
            TableFactor::UNNEST {
                alias, array_exprs, with_offset: false, with_ordinality: false, ..
            } => (array_exprs.as_slice(), alias),
            TableFactor::Table { name, alias, args: Some(args), .. } if is_unnest(&function_name(name)) => {
                return match args.args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(list))] => {
                        let (list, alias) = (list.clone(), alias.clone());
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
                        let (list, alias) = (list.clone(), alias.clone());
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

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Foreign> {
        match expr {
            Expr::Cast {
                kind: kind @ (CastKind::Cast | CastKind::DoubleColon),
                expr: inner,
                data_type,
                ..
            } => {
                let own = *kind == CastKind::Cast && is_own_type(data_type);
                if let Some(made) = (!own).then(|| self.cast(inner, data_type)).transpose_flow()? {
                    *expr = made;
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
                if literal(pattern).is_some_and(|pattern| pattern.contains('\\')) =>
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
                *expr = self.part(&field, of);
            }
            Expr::Position { expr: part, r#in } => *expr = template("instr(_1, _0)", &[part, r#in]),
            Expr::Substring { special, .. } => *special = true,
            Expr::Trim { trim_where, trim_what, expr: of, trim_characters } => {
                let what = trim_what.as_deref().or_else(|| trim_characters.as_ref()?.first());
                *expr = trimmed(of, what, trim_where.as_ref());
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                *expr = any_of(left, right, false);
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                *expr = any_of(left, right, true);
            }
            Expr::BinaryOp { left, op, right } => {
                if let Some(made) = self.operator(left, op, right)? {
                    *expr = made;
                }
            }
            Expr::Between { expr: at, low, high, .. } => {
                self.compare(at, low);
                self.compare(at, high);
            }
            Expr::In { expr: at, target: InTarget::List(list), .. } => {
                for value in list {
                    self.compare(at, value);
                }
            }
            Expr::Function(_) => return self.function(expr),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `Option<ControlFlow<B, T>>` the other way round.
trait TransposeFlow<B, T> {
    fn transpose_flow(self) -> ControlFlow<B, Option<T>>;
}

impl<B, T> TransposeFlow<B, T> for Option<ControlFlow<B, T>> {
    fn transpose_flow(self) -> ControlFlow<B, Option<T>> {
        match self {
            None => ControlFlow::Continue(None),
            Some(ControlFlow::Continue(value)) => ControlFlow::Continue(Some(value)),
            Some(ControlFlow::Break(stop)) => ControlFlow::Break(stop),
        }
    }
}

impl Translation<'_> {
    fn function(&mut self, expr: &mut Expr) -> ControlFlow<Foreign> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let name = function_name(&call.name);
        if !call.within_group.is_empty() {
            return foreign(format!("{name} WITHIN GROUP"), hints::PERCENTILE);
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
            ("strpos", [_, _]) => renamed(call, "instr"),
            ("btrim", [of]) => *expr = trimmed(of, None, None),
            ("btrim", [of, what]) => *expr = trimmed(of, Some(what), None),
            ("jsonb_array_length", [_]) => renamed(call, "json_array_length"),
            ("jsonb_build_object" | "json_build_object", _) => renamed(call, "json_object"),
            ("jsonb_build_array" | "json_build_array", _) => renamed(call, "json_array"),
            ("date_part", [field, of]) => {
                if let Some(field) = literal(field) {
                    *expr = self.part(field, of);
                }
            }
            ("date_trunc", [_, of] | [_, of, _]) if self.kinds.of_expr(of) == Some(Kind::Interval) => {
                return foreign("date_trunc of an interval", hints::INTERVAL);
            }
            (unnest, [list]) if is_unnest(unnest) && call.over.is_none() => {
                let list = (*list).clone();
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
