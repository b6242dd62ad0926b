//! Where the columns of a statement's answer come from: an alias, a function or an aggregate takes a field's name
//! away, but not what is in it.
//!
//! What a masked field flows into is masked like the field: through expressions, subqueries, `WITH`, set operations
//! and JSON paths. Comparisons, counts and lengths say nothing of the value. Scopes are not told apart: a name that
//! carries a masked field anywhere carries it everywhere, so what is not understood is masked too often, not too rarely.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
};

use serde_json::Value;
use sqlparser::{
    ast::{
        AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName,
        Query, Select, SelectItem, SetExpr, Statement, Subscript, TableAlias, TableFactor, Value as Literal, Visit,
        Visitor,
    },
    dialect::{PostgreSqlDialect, SQLiteDialect},
    parser::Parser,
};

use super::{Masking, NAMED, NAMING, Rule};

/// Longer statements are not followed; what they answer is masked as a whole where they name a masked field.
const MAX_LENGTH: usize = 20_000;

/// A name is learned from the names before it; more rounds than this no statement needs that somebody wrote.
const MAX_ROUNDS: usize = 20;

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

/// How a store reads statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mcp) enum Dialect {
    Postgres,
    Sqlite,
}

/// What may be in a column, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Plain,
    /// A field that holds an address only in some rows.
    Sometimes,
    /// A whole row, or JSON: inside it names stand beside the values.
    Row,
    /// A masked field, or something made of it.
    Field,
}

impl From<Option<Rule>> for Source {
    fn from(rule: Option<Rule>) -> Self {
        match rule {
            None => Self::Plain,
            Some(Rule::IfPersonal) => Self::Sometimes,
            Some(Rule::Always) => Self::Field,
        }
    }
}

impl Masking {
    /// Masks the rows that a statement answered with; `json` names the columns of the tables that hold JSON.
    pub(in crate::mcp) fn rows(
        &self,
        sql: &str,
        dialect: Dialect,
        json: impl Iterator<Item = &'static str>,
        columns: &[String],
        rows: &mut [Vec<Value>],
    ) {
        let mut names = Names::new(self, json);
        let sources = names.sources(sql, dialect, columns);
        let learned = Self { fields: names.fields() };
        let naming: Vec<usize> = (0..columns.len()).filter(|at| NAMING.contains(&columns[*at].as_str())).collect();
        for row in rows {
            let named = naming.iter().filter_map(|at| row.get(*at)?.as_str()).map(|name| learned.rule(name)).max();
            for (at, cell) in row.iter_mut().enumerate() {
                let pair = named.filter(|_| columns.get(at).is_some_and(|name| NAMED.contains(&name.as_str())));
                let source = sources.get(at).copied().unwrap_or(Source::Field);
                learned.cell(cell, source, pair);
            }
        }
    }

    /// `pair` is what the name in the cell beside this one says, where there is such a cell.
    fn cell(&self, cell: &mut Value, source: Source, pair: Option<Option<Rule>>) {
        match (source, pair) {
            (Source::Field, _) => self.named(cell, Rule::Always),
            (_, Some(Some(rule))) => self.named(cell, rule),
            (Source::Sometimes, _) => self.named(cell, Rule::IfPersonal),
            (Source::Row, None) if is_loose_text(cell) => self.named(cell, Rule::Always),
            (Source::Row | Source::Plain, _) => self.value(cell),
        }
    }
}

/// A text of a row in which no names are left beside the values.
fn is_loose_text(cell: &Value) -> bool {
    let Value::String(text) = cell else { return false };
    !text.is_empty()
        && !matches!(serde_json::from_str::<Value>(text), Ok(Value::Object(_) | Value::Array(_)))
}

/// The names in a statement, and what each may carry.
struct Names<'a> {
    masking: &'a Masking,
    /// What columns carry.
    known: HashMap<String, Source>,
    /// Tables and what stands for them: named as a value, each is a whole row.
    relations: HashSet<String>,
    /// Something was there that is not followed.
    lost: bool,
}

impl<'a> Names<'a> {
    fn new(masking: &'a Masking, json: impl Iterator<Item = &'static str>) -> Self {
        let known = json.map(|name| (name.to_owned(), Source::Row)).collect();
        Self { masking, known, relations: HashSet::new(), lost: false }
    }

    /// What is masked in JSON of this statement: the fields by their names, and by those it gave them.
    fn fields(&self) -> BTreeMap<String, Rule> {
        let mut fields = self.masking.fields.clone();
        for (name, source) in &self.known {
            match source {
                Source::Field => fields.insert(name.clone(), Rule::Always),
                Source::Sometimes => fields.insert(name.clone(), Rule::IfPersonal),
                Source::Row | Source::Plain => None,
            };
        }
        fields
    }

    fn sources(&mut self, sql: &str, dialect: Dialect, columns: &[String]) -> Vec<Source> {
        let parsed = if sql.len() > MAX_LENGTH {
            None
        } else {
            match dialect {
                Dialect::Postgres => Parser::parse_sql(&PostgreSqlDialect {}, sql),
                Dialect::Sqlite => Parser::parse_sql(&SQLiteDialect {}, sql),
            }
            .ok()
        };
        let by_name = |names: &Self| columns.iter().map(|name| names.column(name)).collect::<Vec<_>>();
        let [Statement::Query(query)] = parsed.as_deref().unwrap_or_default() else {
            return self.unless_named(sql, by_name(self));
        };
        let mut rounds = 0;
        loop {
            let before = (self.known.clone(), self.relations.len());
            let _ = query.visit(self);
            if before == (self.known.clone(), self.relations.len()) {
                break;
            }
            rounds += 1;
            if rounds == MAX_ROUNDS {
                self.lost = true;
                break;
            }
        }
        if self.lost {
            return self.unless_named(sql, by_name(self));
        }
        let shape = self.query(query);
        let mut sources = by_name(self);
        for (at, source) in sources.iter_mut().enumerate() {
            *source = (*source).max(shape.at(at, columns.len()));
        }
        sources
    }

    /// Everything, where a statement that was not understood names a masked field.
    fn unless_named(&self, sql: &str, by_name: Vec<Source>) -> Vec<Source> {
        match self.in_words(sql) {
            Source::Plain => by_name,
            _ => vec![Source::Field; by_name.len()],
        }
    }

    /// The worst of the fields that a text names.
    fn in_words(&self, text: &str) -> Source {
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.map(|word| self.masking.rule(word).into()).max().unwrap_or(Source::Plain)
    }

    /// What a name among expressions stands for.
    fn of(&self, name: &str) -> Source {
        let row = if self.relations.contains(&name.to_lowercase()) { Source::Row } else { Source::Plain };
        row.max(self.column(name))
    }

    fn column(&self, name: &str) -> Source {
        let known = self.known.get(&name.to_lowercase()).copied().unwrap_or(Source::Plain);
        known.max(self.masking.rule(name).into())
    }

    fn learn(&mut self, name: &str, source: Source) {
        if source > Source::Plain {
            let known = self.known.entry(name.to_lowercase()).or_insert(source);
            *known = (*known).max(source);
        }
    }

    /// The columns of a query.
    fn query(&self, query: &Query) -> Shape {
        self.set(&query.body)
    }

    fn set(&self, set: &SetExpr) -> Shape {
        let mut rights = Vec::new();
        let mut set = set;
        // A long UNION leans to the left.
        while let SetExpr::SetOperation { left, right, .. } = set {
            rights.push(right);
            set = left;
        }
        let mut shape = match set {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::Values(values) => {
                let rows = values.rows.iter().map(|row| {
                    Shape::exactly(row.content.iter().map(|expr| (self.expr(expr), None)).collect())
                });
                rows.reduce(Shape::or).unwrap_or_else(|| Shape::exactly(Vec::new()))
            }
            _ => Shape::unknown(),
        };
        for right in rights {
            shape = shape.or(self.set(right));
        }
        shape
    }

    fn select(&self, select: &Select) -> Shape {
        let mut shape = Shape::exactly(Vec::new());
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => shape.push(self.expr(expr), implied_name(expr)),
                SelectItem::ExprWithAlias { expr, alias } => shape.push(self.expr(expr), Some(alias.value.clone())),
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => shape.star(),
                SelectItem::ExprWithAliases { .. } => return Shape::unknown(),
            }
        }
        shape
    }

    /// Takes the names that a list after a table's alias gives to the columns of `shape`.
    fn rename(&mut self, alias: Option<&TableAlias>, shape: &Shape) {
        let columns = alias.map(|alias| alias.columns.as_slice()).unwrap_or_default();
        for (at, column) in columns.iter().enumerate() {
            self.learn(&column.name.value, shape.at(at, columns.len()));
        }
    }

    /// A function in FROM: its column has the alias's name, and JSON is taken apart into keys and values.
    fn table_function(&mut self, name: Option<&str>, alias: Option<&TableAlias>, source: Source) {
        let shape = Shape { star: Some(source), ..Shape::exactly(Vec::new()) };
        for name in ["value", "atom"] {
            self.learn(name, source);
        }
        if let Some(name) = alias.map(|alias| alias.name.value.as_str()).or(name) {
            self.learn(name, source);
        }
        let columns = alias.map(|alias| alias.columns.as_slice()).unwrap_or_default();
        if !columns.iter().any(|column| NAMING.contains(&column.name.value.to_lowercase().as_str())) {
            self.rename(alias, &shape);
        }
    }

    /// What may be in the value of an expression. What stands on the left goes on in the loop: long chains lean there.
    fn expr(&self, mut expr: &Expr) -> Source {
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
                Expr::CompoundFieldAccess { root, access_chain } => {
                    match access_chain.last() {
                        Some(AccessExpr::Dot(Expr::Identifier(name))) => return worst.max(self.of(&name.value)),
                        Some(AccessExpr::Subscript(Subscript::Index { index })) => match self.path(index) {
                            Some(named) => return worst.max(named).max(self.unless_row(root)),
                            None => root,
                        },
                        _ => root,
                    }
                }
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

    fn call(&self, name: &str, list: &[FunctionArg]) -> Source {
        if TELLS_NOTHING.contains(&name) {
            return Source::Plain;
        }
        if name == "coalesce" {
            return self.one_of(list.iter().filter_map(plain_argument));
        }
        if JSON_PATHS.contains(&name)
            && let Some((json, paths)) = list.split_first()
            && let Some(json) = plain_argument(json)
            && let Some(named) = paths.iter().map(|path| self.path(plain_argument(path)?)).collect::<Option<Vec<_>>>()
        {
            return named.into_iter().max().unwrap_or(Source::Plain).max(self.unless_row(json));
        }
        let of = |argument: &FunctionArg| match argument {
            FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } | FunctionArg::Unnamed(arg) => {
                match arg {
                    FunctionArgExpr::Expr(expr) => self.expr(expr),
                    _ => Source::Row,
                }
            }
        };
        list.iter().map(of).max().unwrap_or(Source::Plain)
    }
}

/// A name without what stands before it, and without quotes.
fn last_name(name: &ObjectName) -> String {
    let last = name.0.last();
    last.map(|part| part.as_ident().map_or_else(|| part.to_string(), |ident| ident.value.clone())).unwrap_or_default()
}

fn plain_argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// Learns what the statement's own names carry.
impl Visitor for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let shape = self.query(&cte.query);
            self.rename(Some(&cte.alias), &shape);
            self.relations.insert(cte.alias.name.value.to_lowercase());
        }
        // What a query's columns carry is theirs by whatever name the query gives them.
        for (source, name) in self.query(query).named() {
            match name {
                Some(name) => self.learn(&name, source),
                None => self.lost |= source > Source::Plain,
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { name, alias, args, .. } => {
                let name = last_name(name);
                if let Some(arguments) = args {
                    let source = self.call(&name.to_lowercase(), &arguments.args);
                    self.table_function(Some(&name), alias.as_ref(), source);
                } else {
                    self.relations.insert(name.to_lowercase());
                    // The columns of a table by other names: which is which is not known here.
                    self.rename(alias.as_ref(), &Shape::unknown());
                }
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let shape = self.query(subquery);
                self.rename(alias.as_ref(), &shape);
            }
            TableFactor::Function { name, args, alias, .. } => {
                let name = last_name(name);
                let source = self.call(&name.to_lowercase(), args);
                self.table_function(Some(&name), alias.as_ref(), source);
            }
            TableFactor::TableFunction { expr, alias } => {
                let source = self.expr(expr);
                self.table_function(None, alias.as_ref(), source);
            }
            TableFactor::UNNEST { array_exprs, alias, .. } => {
                let source = array_exprs.iter().map(|expr| self.expr(expr)).max().unwrap_or(Source::Plain);
                self.table_function(Some("unnest"), alias.as_ref(), source);
            }
            TableFactor::NestedJoin { .. } => {}
            _ => self.lost = true,
        }
        if let TableFactor::Table { alias: Some(alias), args: None, .. }
        | TableFactor::Derived { alias: Some(alias), .. } = table
        {
            self.relations.insert(alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }
}

/// The worst of all names in an expression that is not followed more closely.
struct Everything<'a> {
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
        Op::Plus
        | Op::Minus
        | Op::Multiply
        | Op::Divide
        | Op::Modulo
        | Op::StringConcat
        | Op::HashMinus
        | Op::BitwiseOr
        | Op::BitwiseAnd
        | Op::BitwiseXor
        | Op::PGBitwiseXor => Flow::Both,
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
fn implied_name(expr: &Expr) -> Option<String> {
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

/// The columns of a query as far as the statement tells: those before the first `*` and those behind the last one.
struct Shape {
    head: Vec<(Source, Option<String>)>,
    /// Between two stars: known by their names.
    middle: Vec<(Source, Option<String>)>,
    tail: Vec<(Source, Option<String>)>,
    /// What the columns between them may carry beside what their names say; `None` where there are none.
    star: Option<Source>,
}

impl Shape {
    fn exactly(columns: Vec<(Source, Option<String>)>) -> Self {
        Self { head: columns, middle: Vec::new(), tail: Vec::new(), star: None }
    }

    fn unknown() -> Self {
        Self { star: Some(Source::Field), ..Self::exactly(Vec::new()) }
    }

    fn push(&mut self, source: Source, name: Option<String>) {
        if self.star.is_some() { &mut self.tail } else { &mut self.head }.push((source, name));
    }

    fn star(&mut self) {
        self.middle.append(&mut self.tail);
        self.star = self.star.max(Some(Source::Plain));
    }

    fn at(&self, at: usize, columns: usize) -> Source {
        let from_end = (at + self.tail.len()).checked_sub(columns);
        match (self.head.get(at), from_end.and_then(|at| self.tail.get(at)), self.star) {
            (Some((source, _)), ..) | (None, Some((source, _)), _) => *source,
            (None, None, star) => star.unwrap_or(Source::Plain),
        }
    }

    fn worst(&self) -> Source {
        let columns = self.columns();
        // A `*` in one value's place is a row.
        columns.chain(self.star.map(|star| star.max(Source::Row))).max().unwrap_or(Source::Plain)
    }

    fn named(self) -> impl Iterator<Item = (Source, Option<String>)> {
        self.head.into_iter().chain(self.middle).chain(self.tail).chain(self.star.map(|star| (star, None)))
    }

    fn columns(&self) -> impl Iterator<Item = Source> {
        self.head.iter().chain(&self.middle).chain(&self.tail).map(|(source, _)| *source)
    }

    /// Rows of this query or of another; the names are this one's.
    fn or(mut self, other: Self) -> Self {
        if self.star.is_none() && other.star.is_none() {
            for (mine, theirs) in self.head.iter_mut().zip(other.head) {
                mine.0 = mine.0.max(theirs.0);
            }
            return self;
        }
        // Which columns of the two meet is not known where one has a `*`.
        let worst = other.columns().chain(other.star).max().unwrap_or(Source::Plain);
        for (source, _) in self.head.iter_mut().chain(&mut self.middle).chain(&mut self.tail) {
            *source = (*source).max(worst);
        }
        self.star = self.star.map(|star| star.max(worst));
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a row of these columns and cells is after the statement.
    fn masked(sql: &str, columns: &[&str], cells: Value) -> Value {
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let cells = cells.as_array().cloned().expect("cells");
        let of = |dialect| {
            let mut rows = [cells.clone()];
            Masking::default().rows(sql, dialect, ["metadata", "dados", "localizacao"].into_iter(), &columns, &mut rows);
            json!(rows[0])
        };
        let postgres = of(Dialect::Postgres);
        if !sql.contains("::") && !sql.contains("LATERAL") && !sql.contains("unnest") && !sql.contains("WITHIN") {
            assert_eq!(of(Dialect::Sqlite), postgres, "{sql}");
        }
        postgres
    }

    /// A statement of one column whose value is hidden whatever it looks like.
    fn hides(sql: &str, column: &str) {
        assert_eq!(masked(sql, &[column], json!(["so secreto"])), json!(["***"]), "{sql}");
    }

    #[test]
    fn a_field_is_masked_by_whatever_name_it_has() {
        for (sql, column) in [
            ("SELECT email AS x FROM leads", "x"),
            ("SELECT l.email x FROM leads l", "x"),
            ("SELECT lower(email) FROM leads", "lower"),
            ("SELECT split_part(email, '@', 1) AS a FROM leads", "a"),
            ("SELECT substring(email from 1 for 3) AS a FROM leads", "a"),
            ("SELECT 'tel: ' || telefone || '.' AS a FROM leads", "a"),
            ("SELECT string_agg(email, ', ' ORDER BY nome) AS a FROM leads", "a"),
            ("SELECT max(telefone) FILTER (WHERE origem = 'x') AS a FROM leads", "a"),
            ("SELECT first_value(email) OVER (PARTITION BY origem) AS a FROM leads", "a"),
            ("SELECT mode() WITHIN GROUP (ORDER BY telefone) AS a FROM leads", "a"),
            ("SELECT x AS y FROM (SELECT email AS x FROM leads) t", "y"),
            ("SELECT y FROM (SELECT x AS y FROM (SELECT email AS x FROM leads) t) u", "y"),
            ("SELECT * FROM (SELECT email AS x FROM leads) t", "x"),
            ("SELECT t.* FROM (SELECT upper(email) FROM leads) t", "upper"),
            ("WITH t AS (SELECT email AS x FROM leads) SELECT x FROM t", "x"),
            ("WITH t(a) AS (SELECT email FROM leads) SELECT a FROM t", "a"),
            ("WITH u AS (SELECT b FROM t), t AS (SELECT email AS b FROM leads) SELECT b FROM u", "b"),
            ("SELECT nome AS n FROM leads UNION ALL SELECT email FROM leads", "n"),
            ("SELECT n FROM (SELECT nome AS n FROM leads UNION SELECT telefone FROM leads) t", "n"),
            ("SELECT (SELECT email FROM leads LIMIT 1) AS a", "a"),
            ("SELECT coalesce(email, telefone) AS a FROM leads", "a"),
            ("SELECT CASE WHEN true THEN email END AS a FROM leads", "a"),
            ("SELECT CAST(telefone AS text) AS a FROM leads", "a"),
            ("SELECT telefone::text::varchar AS a FROM leads", "a"),
            ("SELECT metadata->>'telefone' AS a FROM leads", "a"),
            ("SELECT dados #>> '{contato,telefone}' AS a FROM eventos_raw", "a"),
            ("SELECT json_extract(dados, '$.contato.telefone') AS a FROM eventos_raw", "a"),
            ("SELECT x.v AS a FROM leads, LATERAL (SELECT email AS v) x", "a"),
            ("SELECT e FROM leads, unnest(ARRAY[email]) AS e", "e"),
            ("SELECT p FROM leads, LATERAL regexp_split_to_table(email, '@') AS p", "p"),
            ("SELECT a FROM (VALUES (1)) v, LATERAL (VALUES ((SELECT email FROM leads LIMIT 1))) w(a)", "a"),
            ("SELECT b FROM leads AS l(a, b)", "b"),
            ("SELECT leads::text AS a FROM leads", "a"),
            ("SELECT substr(metadata::text, 3, 9) AS a FROM leads", "a"),
            ("SELECT metadata->>lower('TELEFONE') AS a FROM leads", "a"),
        ] {
            hides(sql, column);
        }
    }

    #[test]
    fn what_says_nothing_of_a_field_is_left_alone() {
        for (sql, column) in [
            ("SELECT nome AS x FROM leads", "x"),
            ("SELECT CASE WHEN email IS NULL THEN 'a' ELSE 'b' END AS tem FROM leads", "tem"),
            ("SELECT nome AS n FROM leads WHERE email LIKE '%x' ORDER BY telefone", "n"),
            ("SELECT string_agg(nome, ',' ORDER BY email) AS n FROM leads", "n"),
            ("SELECT metadata->>'origem' AS o FROM leads", "o"),
            ("SELECT localizacao->'pais'->>'nome' AS o FROM leads", "o"),
            ("SELECT json_extract(metadata, '$.origem') AS o FROM leads", "o"),
            ("SELECT to_char(created_at, 'YYYY') AS ano FROM leads", "ano"),
            ("SELECT 'email' AS canal", "canal"),
            ("SELECT leads.nome FROM leads JOIN chat_sessions c ON c.lead_id = leads.id::text", "nome"),
            ("SELECT k FROM leads, LATERAL jsonb_object_keys(metadata) AS k", "k"),
        ] {
            assert_eq!(masked(sql, &[column], json!(["so secreto"])), json!(["so secreto"]), "{sql}");
        }
        let counted = "SELECT email, count(*) AS email_n, length(telefone) AS t, count(DISTINCT email) FROM leads GROUP BY 1";
        let row = json!(["ana@x.com", 3, 11, 2]);
        assert_eq!(
            masked(counted, &["email", "email_n", "t", "count"], row),
            json!(["a***@***", 3, 11, 2])
        );
    }

    #[test]
    fn columns_are_told_apart_by_their_places_before_and_behind_a_star() {
        let sql = "SELECT lower(telefone), leads.*, upper(email) FROM leads";
        let columns = ["lower", "id", "nome", "upper"];
        let row = masked(sql, &columns, json!(["a", "b", "c", "d"]));
        assert_eq!(row, json!(["***", "b", "c", "***"]));
        let one_of = "SELECT coalesce(email, nome) AS quem FROM leads";
        assert_eq!(masked(one_of, &["quem"], json!(["Ana Souza"])), json!(["Ana Souza"]));
        assert_eq!(masked(one_of, &["quem"], json!(["ana@localhost"])), json!(["a***@***"]));
    }

    #[test]
    fn json_made_of_rows_is_masked_by_its_names_old_and_new() {
        let rows = "SELECT row_to_json(l) AS j FROM leads l";
        let lead = json!([{"nome": "Ana", "telefone": "3123-5678"}]);
        assert_eq!(masked(rows, &["j"], lead), json!([{"nome": "Ana", "telefone": "***78"}]));
        let renamed = "SELECT row_to_json(t) AS j FROM (SELECT nome, telefone AS x FROM leads) t";
        assert_eq!(masked(renamed, &["j"], json!([{"nome": "Ana", "x": "3123-5678"}])), json!([{"nome": "Ana", "x": "***78"}]));
        let pairs = "SELECT key, value FROM leads, LATERAL jsonb_each_text(metadata)";
        assert_eq!(masked(pairs, &["key", "value"], json!(["telefone", "3123-5678"])), json!(["telefone", "***78"]));
        assert_eq!(masked(pairs, &["key", "value"], json!(["origem", "site"])), json!(["origem", "site"]));
        let values = "SELECT value FROM leads, LATERAL jsonb_each_text(metadata)";
        assert_eq!(masked(values, &["value"], json!(["site"])), json!(["***"]), "the name is lost");
    }

    #[test]
    fn a_statement_that_is_not_understood_is_masked_as_a_whole_where_it_names_a_field() {
        let odd = "SELECT email AS x FROM leads WHERE ((((";
        assert_eq!(masked(odd, &["x", "n"], json!(["a", "b"])), json!(["***", "***"]));
        assert_eq!(masked("SELECT nome AS x FROM leads WHERE ((((", &["x"], json!(["a"])), json!(["a"]));
        let long = format!("SELECT email AS x FROM leads -- {}", "x".repeat(MAX_LENGTH));
        hides(&long, "x");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_longest_statements_do_not_exhaust_a_worker_s_stack() {
        // On a worker, whose stack is what a server has.
        let done = tokio::spawn(async {
            for piece in ["||email", "+1", "::text", " UNION SELECT 1", ",email", "->'a'", " AND true", " COLLATE x", "[1]"] {
                let sql = format!("SELECT email{}", piece.repeat((MAX_LENGTH - 20) / piece.len()));
                masked(&sql, &["x"], json!(["a"]));
            }
            for (open, close) in [("(", ")"), ("lower(", ")"), ("(SELECT ", ")"), ("NOT ", ""), ("- ", ""), ("CASE WHEN ", "")] {
                let deep = MAX_LENGTH / (open.len() + close.len() + 1);
                masked(&format!("SELECT {}email{}", open.repeat(deep), close.repeat(deep)), &["x"], json!(["a"]));
            }
        });
        done.await.expect("no panic");
    }
}
