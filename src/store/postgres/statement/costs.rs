//! What a question may make the server do in one step.
//!
//! A statement timeout, a cancellation and an asker who has gone are looked at between steps. Some functions go
//! through one text once for each character of another, and some operators through one list once for each element of
//! another, in a single step: the second must be one that is written in the statement or kept in a table. Texts
//! that are made longer and longer, and lists gathered by the dozen, would take the server's memory: both are bounded.
//! These are bounds for what people write, not a proof; [`super::super::session`] keeps the place of a question that the
//! server goes on with.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, Value, Visit, Visitor,
};

use super::{folded, folded_names, refuse};
use crate::store::Readable;

type Flow = ControlFlow<String>;

const FINE: Flow = ControlFlow::Continue(());

/// Longer texts are looked for by nobody.
const MAX_NEEDLE_BYTES: usize = 1_000;

/// How many times as long as what is stored all of a statement's calls together may make a text.
const MAX_GROWTH: f64 = 100.0;

/// Taken for what a column puts in the place of a text.
const GROWTH_OF_A_COLUMN: f64 = 10.0;

/// The length that a text may be filled up to.
const MAX_FILLED: f64 = 1_000.0;

/// Calls that gather rows into one value.
const MAX_GATHERED: usize = 4;

/// Which arguments of a function must be short, because the first is gone through once for each of their characters,
/// or because they are put into it many times.
const NEEDLES: [(&str, &[usize]); 19] = [
    ("array_to_string", &[1, 2]),
    ("btrim", &[1]),
    ("concat_ws", &[0]),
    ("format", &[0]),
    ("lpad", &[1, 2]),
    ("ltrim", &[1]),
    ("position", &[0, 1]),
    ("regexp_match", &[1]),
    ("regexp_matches", &[1]),
    ("regexp_replace", &[1, 2]),
    ("repeat", &[1]),
    ("replace", &[1, 2]),
    ("rpad", &[1, 2]),
    ("rtrim", &[1]),
    ("split_part", &[1]),
    ("string_to_array", &[1]),
    ("string_to_table", &[1]),
    ("strpos", &[1]),
    ("translate", &[1, 2]),
];

/// Functions that gather rows into one value.
const GATHERING: [&str; 7] =
    ["array", "array_agg", "json_agg", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "string_agg"];

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
const JOINING: [&str; 7] = [
    "array_cat",
    "concat",
    "concat_ws",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
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

/// Breaks with what would take the server too long in one step, or too much of its memory.
pub(super) fn bounded(statement: &impl Visit, readable: &Readable) -> Flow {
    let mut made = Made::default();
    let _ = statement.visit(&mut made);
    statement.visit(&mut Costs { readable, made: &made, growth: 1.0, gathered: 0 })
}

/// What the statement's own names stand for; nothing where that can't be told.
#[derive(Default)]
struct Made(BTreeMap<String, Vec<Option<Expr>>>);

impl Made {
    fn add(&mut self, name: String, expr: Option<&Expr>) {
        self.0.entry(name).or_default().push(expr.cloned());
    }

    /// The names behind an alias, with what the query gives them where it is told in order.
    fn rename(&mut self, alias: &TableAlias, query: Option<&Query>) {
        let items = match query.map(|query| &*query.body) {
            Some(SetExpr::Select(select)) => select.projection.as_slice(),
            _ => &[],
        };
        for (i, column) in alias.columns.iter().enumerate() {
            let expr = match items.get(i) {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => Some(expr),
                _ => None,
            };
            self.add(folded(&column.name), expr);
        }
    }
}

impl Visitor for Made {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.rename(&cte.alias, Some(&cte.query));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { expr, alias } => self.add(folded(alias), Some(expr)),
                SelectItem::UnnamedExpr(expr) if column(expr).is_none() => {
                    for name in default_names(expr) {
                        self.add(name, Some(expr));
                    }
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Derived { alias: Some(alias), subquery, .. } => self.rename(alias, Some(subquery)),
            TableFactor::Table { args: Some(_), alias, name, .. }
            | TableFactor::Function { alias, name, .. } => {
                self.add(folded_names(name).pop().unwrap_or_default(), None);
                if let Some(alias) = alias {
                    self.add(folded(&alias.name), None);
                    self.rename(alias, None);
                }
            }
            TableFactor::UNNEST { alias, .. } => {
                self.add("unnest".to_owned(), None);
                if let Some(alias) = alias {
                    self.add(folded(&alias.name), None);
                    self.rename(alias, None);
                }
            }
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => self.rename(alias, None),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What Postgres may call a column that was given no name.
fn default_names(expr: &Expr) -> Vec<String> {
    match expr {
        Expr::Function(call) => folded_names(&call.name).pop().into_iter().collect(),
        Expr::Cast { expr, data_type, .. } => {
            let mut names = column(expr).map(folded).map_or_else(|| default_names(expr), |name| vec![name]);
            names.push(data_type.to_string().to_lowercase());
            names
        }
        Expr::Nested(inner) => default_names(inner),
        Expr::Substring { .. } => vec!["substring".to_owned()],
        Expr::Trim { .. } => ["btrim", "ltrim", "rtrim"].map(str::to_owned).into(),
        Expr::Case { .. } => vec!["case".to_owned()],
        Expr::Overlay { .. } => vec!["overlay".to_owned()],
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::ExprWithAlias { alias, .. }) => vec![folded(alias)],
                Some(SelectItem::UnnamedExpr(expr)) => {
                    column(expr).map(folded).map_or_else(|| default_names(expr), |name| vec![name])
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The name of a bare column.
fn column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        Expr::Nested(inner) => column(inner),
        _ => None,
    }
}

struct Costs<'a> {
    readable: &'a Readable,
    made: &'a Made,
    growth: f64,
    gathered: usize,
}

impl Costs<'_> {
    /// Whether it is short for certain: written in the statement, kept in a table's column, or made of such without
    /// becoming longer.
    fn is_short(&self, expr: &Expr) -> bool {
        self.is_short_of(expr, &BTreeSet::new(), true)
    }

    /// `follow`: whether a name that the statement gives may be what is short. It may not where the value is put behind
    /// another: each name could be twice as long as the one before.
    fn is_short_of(&self, expr: &Expr, seen: &BTreeSet<String>, follow: bool) -> bool {
        let short = |expr: &Expr| self.is_short_of(expr, seen, follow);
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
                self.is_short_of(left, seen, false) && self.is_short_of(right, seen, false)
            }
            Expr::Function(call) => {
                let name = folded_names(&call.name).pop().unwrap_or_default();
                (SHORTENING.contains(&name.as_str()) || name == "length")
                    && arguments(call)
                        .is_some_and(|arguments| name == "length" || arguments.into_iter().all(short))
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let Some(name) = column(expr).map(folded) else { return false };
                match self.made.0.get(&name) {
                    Some(made) if !seen.contains(&name) => {
                        let mut seen = seen.clone();
                        seen.insert(name);
                        follow
                            && made.iter().all(|expr| {
                                expr.as_ref().is_some_and(|expr| self.is_short_of(expr, &seen, follow))
                            })
                    }
                    _ => self.readable.is_column(&name),
                }
            }
            _ => false,
        }
    }

    /// Whether it may be a list that the statement makes.
    fn is_made_list(&self, expr: &Expr, seen: &BTreeSet<String>) -> bool {
        match expr {
            Expr::Nested(inner) => self.is_made_list(inner, seen),
            Expr::Cast { expr: inner, data_type, .. } => {
                matches!(data_type, DataType::Array(_)) || self.is_made_list(inner, seen)
            }
            Expr::Array(_) => true,
            Expr::Function(call) => {
                let name = folded_names(&call.name).pop().unwrap_or_default();
                let given = arguments(call).unwrap_or_default();
                LISTS.contains(&name.as_str())
                    || ["coalesce", "max", "min", "any_value"].contains(&name.as_str())
                        && given.iter().any(|expr| self.is_made_list(expr, seen))
            }
            Expr::Subquery(query) => match &*query.body {
                SetExpr::Select(select) => select.projection.iter().any(|item| match item {
                    SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                        self.is_made_list(expr, seen)
                    }
                    _ => false,
                }),
                _ => false,
            },
            Expr::Case { conditions, else_result, .. } => conditions
                .iter()
                .map(|when| &when.result)
                .chain(else_result.as_deref())
                .any(|expr| self.is_made_list(expr, seen)),
            _ => column(expr).map(folded).is_some_and(|name| {
                let made = self.made.0.get(&name).filter(|_| !seen.contains(&name));
                let mut seen = seen.clone();
                seen.insert(name);
                made.is_some_and(|made| made.iter().flatten().any(|expr| self.is_made_list(expr, &seen)))
            }),
        }
    }

    fn grow(&mut self, factor: f64) -> Flow {
        self.growth *= factor.max(1.0);
        if self.growth <= MAX_GROWTH {
            return FINE;
        }
        refuse(format!(
            "its calls would together make texts more than {MAX_GROWTH:.0} times as long; replace by shorter texts, or in fewer steps"
        ))
    }

    /// A call, in an expression or in FROM; the arguments by their places, or nothing where they are given otherwise.
    fn call(&mut self, name: &ObjectName, arguments: Option<Vec<&Expr>>) -> Flow {
        let name = folded_names(name).pop().unwrap_or_default();
        if GATHERING.contains(&name.as_str()) {
            self.gathered += 1;
            if self.gathered > MAX_GATHERED {
                return refuse(format!(
                    "it gathers rows into one value ({name}) more than {MAX_GATHERED} times; ask for some of them in another statement"
                ));
            }
        }
        let needles = NEEDLES.iter().find(|(function, _)| *function == name).map(|(_, needles)| *needles);
        let joining = JOINING.contains(&name.as_str());
        if needles.is_none() && !joining && name != "string_agg" {
            return FINE;
        }
        let Some(arguments) = arguments else {
            return refuse(format!(
                "{name} is called in a way that can't be checked; give its arguments by place"
            ));
        };
        let needle = |i: usize| arguments.get(i).copied();
        for needle in needles.unwrap_or_default().iter().filter_map(|i| needle(*i)) {
            self.needle(&name, needle)?;
        }
        match name.as_str() {
            "string_agg" => needle(1).map_or(FINE, |separator| self.needle(&name, separator)),
            "replace" => self.grow(growth(needle(1), needle(2))),
            "regexp_replace" => {
                let everywhere =
                    needle(3).is_some_and(|flags| literal(flags).is_none_or(|flags| flags.contains('g')));
                self.grow(growth_of_matches(needle(2), everywhere))
            }
            "repeat" => self.grow(times(needle(1))),
            "lpad" | "rpad" if times(needle(1)) > MAX_FILLED => {
                refuse(format!("{name} fills up to a written length, {MAX_FILLED:.0} at most"))
            }
            "format" => match needle(0).and_then(literal) {
                Some(pattern) if !has_width(pattern) =>
                {
                    #[expect(clippy::cast_precision_loss, reason = "a handful")]
                    self.grow(pattern.matches('$').count() as f64)
                }
                _ => refuse("format takes a written pattern of %s, %I and %L without widths"),
            },
            _ if joining => self.join(&arguments),
            _ => FINE,
        }
    }

    fn needle(&self, what: &str, needle: &Expr) -> Flow {
        if self.is_short(needle) {
            return FINE;
        }
        refuse(format!(
            "what {what} looks for or puts in must be a short text (up to {MAX_NEEDLE_BYTES} bytes) or a table's own column: PostgreSQL \
             can't stop it while it goes through a long one"
        ))
    }

    /// What is put behind itself.
    fn join(&mut self, parts: &[&Expr]) -> Flow {
        let mut most = 1_u32;
        for part in parts.iter().filter(|part| literal(part).is_none()) {
            let same = parts.iter().filter(|other| *other == part).count();
            most = most.max(u32::try_from(same).unwrap_or(u32::MAX));
        }
        self.grow(most.into())
    }
}

impl Visitor for Costs<'_> {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        for cte in query.with.iter().filter(|with| with.recursive).flat_map(|with| &with.cte_tables) {
            let mut inside = Costs { readable: self.readable, made: self.made, growth: 1.0, gathered: 0 };
            cte.query.visit(&mut inside)?;
            if inside.growth > 1.0 {
                return refuse(format!(
                    "the query {} of WITH RECURSIVE makes texts longer each time it is repeated; do that in the SELECT that reads it",
                    cte.alias.name
                ));
            }
        }
        FINE
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::Table { name, args: Some(given), .. } => self.call(name, by_place(&given.args)),
            TableFactor::Function { name, args, .. } => self.call(name, by_place(args)),
            _ => FINE,
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(call) => self.call(&call.name, arguments(call)),
            Expr::Position { expr: needle, .. } => self.needle("position", needle),
            Expr::Trim { trim_what: Some(characters), .. } => self.needle("trim", characters),
            Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => self.needle("LIKE", pattern),
            Expr::BinaryOp { op, right: pattern, .. }
            | Expr::AnyOp { compare_op: op, right: pattern, .. }
            | Expr::AllOp { compare_op: op, right: pattern, .. }
                if is_like(op) =>
            {
                self.needle("LIKE", pattern)
            }
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                let mut parts = Vec::new();
                joined(left, &mut parts);
                joined(right, &mut parts);
                self.join(&parts)
            }
            Expr::BinaryOp { left, op, right } => {
                let each_with_each = match op {
                    BinaryOperator::PGOverlap
                    | BinaryOperator::AtArrow
                    | BinaryOperator::ArrowAt
                    | BinaryOperator::QuestionAnd
                    | BinaryOperator::QuestionPipe => true,
                    BinaryOperator::Minus => self.is_made_list(right, &BTreeSet::new()),
                    _ => false,
                };
                let fine = !each_with_each
                    || is_written(left)
                    || is_written(right)
                    || self.is_short(left) && self.is_short(right);
                if fine {
                    return FINE;
                }
                refuse(format!(
                    "one side of {op} must be written in the statement, or both be a table's own columns: PostgreSQL can't stop it while it \
                     compares long lists; use EXISTS with unnest(…), or a join"
                ))
            }
            _ => FINE,
        }
    }
}

const fn is_like(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::PGLikeMatch
            | BinaryOperator::PGILikeMatch
            | BinaryOperator::PGNotLikeMatch
            | BinaryOperator::PGNotILikeMatch
    )
}

fn joined<'a>(expr: &'a Expr, parts: &mut Vec<&'a Expr>) {
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
fn is_written(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) => true,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_written(inner),
        Expr::Array(array) => array.elem.iter().all(is_written),
        _ => false,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::UnicodeStringLiteral(text) => Some(text),
        Value::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => text(&value.value),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => literal(inner),
        _ => None,
    }
}

/// How many times as long a text may become in which one text is put in the place of another.
#[expect(clippy::cast_precision_loss, reason = "lengths of a statement's texts")]
fn growth(old: Option<&Expr>, new: Option<&Expr>) -> f64 {
    let Some(new) = new else { return 1.0 };
    let Some(new) = literal(new) else { return GROWTH_OF_A_COLUMN };
    let old = old.and_then(literal).map_or(1, str::len).max(1);
    new.len() as f64 / old as f64
}

/// The same of what a pattern matches. A group that is put in may be the whole text.
#[expect(clippy::cast_precision_loss, reason = "lengths of a statement's texts")]
fn growth_of_matches(new: Option<&Expr>, everywhere: bool) -> f64 {
    let Some(new) = new else { return 1.0 };
    let Some(new) = literal(new) else { return GROWTH_OF_A_COLUMN };
    let groups = new.matches('\\').count();
    (if everywhere { new.len() } else { groups }) as f64
}

/// A written number of times.
fn times(count: Option<&Expr>) -> f64 {
    match count {
        Some(Expr::Value(value)) => match &value.value {
            Value::Number(number, _) => number.parse().unwrap_or(f64::INFINITY),
            _ => f64::INFINITY,
        },
        _ => f64::INFINITY,
    }
}

/// Whether one of the places of a pattern of `format` is filled up.
fn has_width(pattern: &str) -> bool {
    pattern.replace("%%", "").split('%').skip(1).any(|place| {
        let behind = place.trim_start_matches(|c: char| c.is_ascii_digit());
        let kind = if behind.len() == place.len() { Some(place) } else { behind.strip_prefix('$') };
        kind.is_none_or(|kind| !kind.starts_with(['s', 'I', 'L']))
    })
}

fn arguments(call: &Function) -> Option<Vec<&Expr>> {
    match &call.args {
        FunctionArguments::None | FunctionArguments::Subquery(_) => Some(Vec::new()),
        FunctionArguments::List(list) => by_place(&list.args),
    }
}

/// The arguments by their places; nothing where they are given otherwise.
fn by_place(arguments: &[FunctionArg]) -> Option<Vec<&Expr>> {
    arguments
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Catalog;
    use crate::store::postgres::statement::checked;

    fn problem(sql: &str) -> Option<String> {
        checked(sql, &Readable::of(Catalog::built_in()), "public").err()
    }

    #[test]
    fn a_text_that_is_made_is_not_looked_for_in_another() {
        let long = "(SELECT string_agg('a', '') FROM generate_series(1, 1000000))";
        for sql in [
            format!("SELECT strpos({long}, 'b' || left({long}, 180000))"),
            format!("SELECT position({long} IN nome) FROM leads"),
            format!("SELECT translate({long}, replace(left({long}, 15000), 'a', 'b'), 'c')"),
            format!("SELECT translate({long}, 'a', {long})"),
            format!("SELECT btrim({long}, {long}), 1"),
            format!("SELECT trim(both {long} FROM {long})"),
            format!("SELECT ltrim('a', {long})"),
            format!("SELECT {long} LIKE '%' || left({long}, 100000) || 'b%'"),
            format!("WITH x AS MATERIALIZED (SELECT {long} AS t) SELECT t NOT ILIKE substr(t, 1, 100000) FROM x"),
            format!("SELECT {long} ~~* {long}, 1"),
            format!("SELECT nome !~~ ALL (ARRAY['a%', {long}]) FROM leads"),
            format!("SELECT nome LIKE ANY (ARRAY['a%', {long}]) FROM leads"),
            format!("SELECT split_part({long}, {long}, 1)"),
            format!("SELECT string_to_array({long}, {long})"),
            format!("SELECT * FROM string_to_table({long}, {long})"),
            format!("SELECT replace({long}, {long}, '')"),
            format!("SELECT replace({long}, 'a', {long})"),
            format!("WITH x AS (SELECT {long} AS t) SELECT strpos(t, t) FROM x"),
            format!("WITH x(t) AS (SELECT {long}) SELECT strpos(t, lower(t)) FROM x"),
            format!("WITH x AS (SELECT {long} AS nome) SELECT strpos(nome, nome) FROM x"),
            format!("WITH x AS (SELECT left({long}, 9)) SELECT strpos(\"left\", \"left\") FROM x"),
            format!("SELECT strpos(t.t, t.t) FROM (SELECT {long}) AS t(t)"),
            "SELECT strpos('a', v) FROM jsonb_array_elements_text('[]') AS v".to_owned(),
            format!("SELECT strpos(nome, '{}') FROM leads", "a".repeat(MAX_NEEDLE_BYTES + 1)),
            "WITH x AS (SELECT nome || nome AS a FROM leads), y AS (SELECT a || a AS b FROM x) SELECT strpos(b, b) FROM y".to_owned(),
            "SELECT array(SELECT generate_series(1, 60000)) && array(SELECT generate_series(60001, 120000))".to_owned(),
            "WITH x AS (SELECT array_agg(i) AS v FROM generate_series(1, 60000) AS i) SELECT v @> v FROM x".to_owned(),
            "WITH x AS (SELECT jsonb_object_agg(i, i) AS v, array_agg(i::text) AS k FROM generate_series(1, 60000) AS i)
             SELECT v - k FROM x".to_owned(),
            "SELECT metadata - array(SELECT nome FROM leads) FROM leads".to_owned(),
        ] {
            assert!(problem(&sql).is_some_and(|problem| problem.contains("can't stop it")), "{sql}: {:?}", problem(&sql));
        }
    }

    #[test]
    fn what_people_look_for_is_short() {
        for sql in [
            "SELECT strpos(lower(nome), lower('Ana')), position('@' IN email), split_part(email, '@', 2) FROM leads",
            "SELECT replace(replace(replace(telefone, '(', ''), ')', ''), '-', '') FROM leads",
            "SELECT replace(nome, origem, ''), strpos(email, split_part(nome, ' ', 1)) FROM leads",
            "SELECT regexp_replace(telefone, '(\\d{2})(\\d{5})(\\d{4})', '(\\1) \\2-\\3'),
                    regexp_replace(telefone, '\\D', '', 'g'), translate(nome, 'áéí', 'aei') FROM leads",
            "SELECT interesse && ARRAY['casa'], interesse @> '{lote}', metadata @> '{\"a\": 1}', metadata - 'a' FROM leads",
            "SELECT array_agg(nome) && ARRAY['Ana', 'Bia'] FROM leads",
            "SELECT l.interesse && m.interesse FROM leads l, leads m",
            "WITH x AS (SELECT nome AS name, email FROM leads) SELECT strpos(email, name), max(versao) - min(versao) FROM x, leads GROUP BY 1",
            "SELECT string_agg(nome, ', ' ORDER BY nome), array_agg(DISTINCT origem) FROM leads",
            "SELECT string_to_array(nome, ' '), array_to_string(interesse, ', '), concat_ws(' ', nome, email) FROM leads",
            "SELECT max(x.n) - min(x.n) FROM (SELECT count(*) AS n FROM leads GROUP BY origem) AS x",
            "WITH RECURSIVE d(n, p) AS (SELECT 1, 'a' UNION ALL SELECT n + 1, p || '/' || n FROM d WHERE n < 7) SELECT p FROM d",
            "SELECT nome LIKE '%a%', email ILIKE '%' || nome || '%', nome NOT LIKE lower(origem) || '%' FROM leads",
            "SELECT nome LIKE ANY (ARRAY['a%', 'b%']), nome ~~ ANY ('{a%,b%}'), nome ~~ 'a%' FROM leads",
            "SELECT lpad(nome, 10, '.'), repeat('-', 20), format('%s: %s', nome, email) FROM leads",
        ] {
            assert_eq!(problem(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_grows_without_bound_or_is_gathered_by_the_dozen_is_refused() {
        let ten =
            (0..5).fold("'aaaaaaaaaa'".to_owned(), |text, _| format!("replace({text}, 'a', 'aaaaaaaaaa')"));
        for sql in [
            format!("SELECT length({ten})"),
            "WITH a AS (SELECT replace('aaaaaaaaaa', 'a', 'aaaaaaaaaa') AS t), b AS (SELECT replace(t, 'a', 'aaaaaaaaaa') AS t FROM a)
             SELECT replace(t, 'a', 'aaaaaaaaaa') FROM b".to_owned(),
            "SELECT regexp_replace(regexp_replace(nome, '.', '12345678901', 'g'), '.', '12345678901', 'g') FROM leads".to_owned(),
            "SELECT repeat(nome, 1000000000) FROM leads".to_owned(),
            "SELECT repeat(nome, score_qualificacao::int) FROM leads".to_owned(),
            "SELECT lpad(nome, 100000000) FROM leads".to_owned(),
            "SELECT format('%1000000000s', nome) FROM leads".to_owned(),
            "WITH RECURSIVE d(t) AS (SELECT 'x' UNION ALL SELECT t || t FROM d) SELECT max(length(t)) FROM d".to_owned(),
            "WITH RECURSIVE d(t) AS (SELECT 'x' UNION ALL SELECT replace(t, 'x', 'xx') FROM d) SELECT max(length(t)) FROM d".to_owned(),
            format!("SELECT {}", ["length(string_agg(nome, 'a'))"; 5].join(", ")) + " FROM leads",
        ] {
            assert!(problem(&sql).is_some(), "{sql}");
        }
    }
}
