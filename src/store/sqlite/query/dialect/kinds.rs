//! Of what kind a value is, as far as a statement tells: SQLite itself sees texts and numbers.
//!
//! A name is resolved as both stores do: to a column of what its own `FROM` names, else of what the queries around it
//! read. What cannot be told is of no kind, and is left as SQLite has it.

use std::{ops::ControlFlow, sync::Arc};

use sqlparser::ast::{
    BinaryOperator, Cte, DataType, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins,
    TimezoneInfo, Value,
};

use super::{
    Foreign, foreign,
    forms::{column_name, function_name, literal, plain_arguments, unnested},
    hints,
    lists::{ELEMENT_COLUMNS, is_unnest},
};
use crate::store::sqlite::query::Readable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::sqlite::query) enum Kind {
    /// `timestamptz`
    Instant,
    /// `timestamp`
    Local,
    /// `timestamp` as SQLite's `datetime` writes it, which sorts before the same time as it is written elsewhere
    Datetime,
    /// `date`
    Day,
    Interval,
    Boolean,
    /// `numeric`, of which SQLite may keep a whole number
    Number,
    /// `double precision`, likewise
    Double,
    /// `bigint`, whose sum is a `numeric`
    Whole,
    /// `integer`, whose sum is a `bigint`
    Integer,
    /// `text` of which it is certain
    Text,
    /// `text[]`, kept as JSON
    List,
    Json,
    Uuid,
    /// NULL as it is written, in a branch of a set: another branch says what it is of. Elsewhere it is of no kind.
    Null,
}

impl Kind {
    /// Of a column whose type PostgreSQL spells so.
    pub(in crate::store::sqlite::query) fn of_column(spelled: &str) -> Option<Self> {
        match spelled {
            "timestamptz" => Some(Self::Instant),
            "date" => Some(Self::Day),
            "boolean" => Some(Self::Boolean),
            "numeric" => Some(Self::Number),
            "double precision" => Some(Self::Double),
            "bigint" => Some(Self::Whole),
            "text" => Some(Self::Text),
            "text[]" => Some(Self::List),
            "jsonb" => Some(Self::Json),
            "uuid" => Some(Self::Uuid),
            _ => None,
        }
    }

    pub(super) fn is_time(self) -> bool {
        matches!(self, Self::Instant | Self::Local | Self::Datetime | Self::Day)
    }

    /// What it is of once it was brought to one form with others.
    fn alike(self) -> Self {
        if self == Self::Datetime { Self::Local } else { self }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Number | Self::Double | Self::Whole | Self::Integer)
    }

    /// Whether dividing it keeps what is left.
    pub(super) fn is_fractional(self) -> bool {
        matches!(self, Self::Number | Self::Double)
    }

    /// Whether `+`, `-` and comparisons mean something else of it than SQLite's.
    pub(super) fn is_reckoned(self) -> bool {
        self.is_time() || matches!(self, Self::Interval | Self::Boolean)
    }
}

/// What SQLite answers with at most. Where each query of `WITH` takes the columns before it twice, they double.
const MAX_COLUMNS: usize = 2_000;

/// The columns of something that is read, in their order.
pub(in crate::store::sqlite::query) type Columns = Arc<Vec<(String, Option<Kind>)>>;

/// What the names mean at one place of the statement.
#[derive(Clone)]
pub(super) struct Kinds<'a> {
    readable: &'a Readable,
    /// One for each query around it.
    frames: Vec<Frame>,
}

#[derive(Clone, Default)]
struct Frame {
    /// Of `WITH`.
    queries: Vec<(String, Columns)>,
    /// Of the SELECT that was entered last.
    sources: Vec<(String, Columns)>,
    aliases: Columns,
}

impl<'a> Kinds<'a> {
    pub(super) fn new(readable: &'a Readable) -> Self {
        Self { readable, frames: Vec::new() }
    }

    pub(super) fn enter_query(&mut self, query: &Query) {
        self.frames.push(Frame::default());
        let with = query.with.iter();
        let recursive = query.with.as_ref().is_some_and(|with| with.recursive);
        for cte in with.flat_map(|with| &with.cte_tables) {
            let name = cte.alias.name.value.to_lowercase();
            if recursive && let Some(frame) = self.frames.last_mut() {
                frame.queries.push((name.clone(), Columns::default()));
            }
            let columns = if recursive { settled(self.recursive(cte)) } else { self.columns_of(&cte.query) };
            let columns = renamed(columns, Some(&cte.alias));
            if let Some(frame) = self.frames.last_mut() {
                frame.queries.retain(|(known, _)| *known != name);
                frame.queries.push((name, columns));
            }
        }
    }

    /// The columns of a query that may read its own name, which PostgreSQL types by the first branch.
    fn recursive(&self, cte: &Cte) -> Columns {
        let mut inside = self.clone();
        inside.enter_query(&cte.query);
        let SetExpr::SetOperation { left, right, .. } = &*cte.query.body else {
            return inside.columns_of_body(&cte.query.body);
        };
        let left = inside.columns_of_body(left);
        if let Some(frame) = inside.frames.last_mut() {
            let own = (cte.alias.name.value.to_lowercase(), renamed(settled(left.clone()), Some(&cte.alias)));
            // Behind the queries of its own `WITH`, which are looked up before it.
            frame.queries.insert(0, own);
        }
        united(&left, &inside.columns_of_body(right))
    }

    pub(super) fn leave_query(&mut self) {
        self.frames.pop();
    }

    /// Its names stay known to the ORDER BY of its query.
    pub(super) fn enter_select(&mut self, select: &Select) {
        let aliases = settled(self.enter_branch(select));
        if let Some(frame) = self.frames.last_mut() {
            frame.aliases = aliases;
        }
    }

    /// Tells the columns of its answer.
    fn enter_branch(&mut self, select: &Select) -> Columns {
        if let Some(frame) = self.frames.last_mut() {
            frame.sources.clear();
            frame.aliases = Columns::default();
        }
        for table in &select.from {
            for source in self.sources(table) {
                if let Some(frame) = self.frames.last_mut() {
                    frame.sources.push(source);
                }
            }
        }
        self.items(select)
    }

    /// The columns a query answers with.
    pub(super) fn columns_of(&self, query: &Query) -> Columns {
        settled(self.columns_of_branch(query))
    }

    fn columns_of_branch(&self, query: &Query) -> Columns {
        let mut inside = self.clone();
        inside.enter_query(query);
        inside.columns_of_body(&query.body)
    }

    fn columns_of_body(&self, body: &SetExpr) -> Columns {
        match body {
            SetExpr::Select(select) => self.clone().enter_branch(select),
            SetExpr::Query(query) => self.columns_of_branch(query),
            SetExpr::SetOperation { left, right, .. } => {
                united(&self.columns_of_body(left), &self.columns_of_body(right))
            }
            SetExpr::Values(values) => {
                let first = values.rows.first().map(|row| row.content.iter().enumerate());
                let of =
                    |i: usize| common(values.rows.iter().map(|row| self.of_answered(row.content.get(i)?)));
                let named = first.into_iter().flatten();
                Arc::new(named.map(|(i, _)| (format!("column{}", i + 1), of(i))).collect())
            }
            _ => Columns::default(),
        }
    }

    fn items(&self, select: &Select) -> Columns {
        let mut columns = Vec::new();
        let sources = || self.frames.last().map(|frame| frame.sources.as_slice()).unwrap_or_default();
        let room = |columns: &Vec<_>| MAX_COLUMNS.saturating_sub(columns.len());
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    columns.push((column_name(expr).to_lowercase(), self.of_answered(expr)));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    columns.push((alias.value.to_lowercase(), self.of_answered(expr)));
                }
                SelectItem::Wildcard(_) => {
                    let all = sources().iter().flat_map(|(_, columns)| columns.iter().cloned());
                    columns.extend(all.take(room(&columns)));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let name = function_name(name);
                    let named = sources().iter().filter(|(source, _)| *source == name);
                    let all = named.flat_map(|(_, columns)| columns.iter().cloned());
                    columns.extend(all.take(room(&columns)));
                }
                _ => {}
            }
        }
        Arc::new(columns)
    }

    pub(super) fn sources(&self, table: &TableWithJoins) -> Vec<(String, Columns)> {
        let joined = table.joins.iter().map(|join| &join.relation);
        std::iter::once(&table.relation).chain(joined).flat_map(|factor| self.source(factor)).collect()
    }

    fn source(&self, factor: &TableFactor) -> Vec<(String, Columns)> {
        let (name, alias, columns) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                (function_name(name), alias, self.table(&function_name(name), name.0.len() > 1))
            }
            TableFactor::Derived { subquery, alias, .. } => (String::new(), alias, self.columns_of(subquery)),
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.sources(table_with_joins);
            }
            TableFactor::Table { name, alias, args: Some(args), .. } => {
                let function = function_name(name);
                let columns = self.elements(&function, &args.args, alias.as_ref());
                (function, alias, columns)
            }
            TableFactor::Function { name, args, alias, .. } => {
                let function = function_name(name);
                let columns = self.elements(&function, args, alias.as_ref());
                (function, alias, columns)
            }
            TableFactor::UNNEST { array_exprs, alias, .. } => {
                let kind = array_exprs.first().and_then(|list| self.of_element("unnest", list));
                (String::new(), alias, named_element("unnest", alias.as_ref(), kind))
            }
            TableFactor::NestedJoin { alias, .. } => (String::new(), alias, Columns::default()),
            _ => return Vec::new(),
        };
        let name = alias.as_ref().map_or(name, |alias| alias.name.value.to_lowercase());
        vec![(name, renamed(columns, alias.as_ref()))]
    }

    /// The columns of what a function makes of a list.
    fn elements(&self, function: &str, args: &[FunctionArg], alias: Option<&TableAlias>) -> Columns {
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(list)), ..] = args else { return Columns::default() };
        let kind = self.of_element(function, list);
        match function {
            "json_each" => {
                let of = |name: &str| (name.to_owned(), kind.filter(|_| name == "value"));
                Arc::new(Vec::from(ELEMENT_COLUMNS.map(of)))
            }
            function if is_unnest(function) => named_element(function, alias, kind),
            _ => Columns::default(),
        }
    }

    /// Of an element of a list.
    fn of_element(&self, function: &str, list: &Expr) -> Option<Kind> {
        match (function, list) {
            ("json_array_elements" | "jsonb_array_elements", _) => Some(Kind::Json),
            ("json_array_elements_text" | "jsonb_array_elements_text", _) => Some(Kind::Text),
            (_, Expr::Function(call)) if function_name(&call.name) == "pg_json_elements" => Some(Kind::Json),
            _ => self.of_expr(list).filter(|kind| *kind == Kind::List).map(|_| Kind::Text),
        }
    }

    fn table(&self, name: &str, with_schema: bool) -> Columns {
        self.query_of_with(name, with_schema).unwrap_or_else(|| self.readable.columns(name))
    }

    fn query_of_with(&self, name: &str, with_schema: bool) -> Option<Columns> {
        let mut queries = self.frames.iter().rev().flat_map(|frame| frame.queries.iter().rev());
        let found = queries.find(|(known, _)| !with_schema && known == name);
        found.map(|(_, columns)| columns.clone())
    }

    /// The primary key of the table that a name stands for; empty where it stands for something else.
    pub(super) fn key_of(&self, name: &ObjectName) -> Vec<String> {
        let (table, with_schema) = (function_name(name), name.0.len() > 1);
        match self.query_of_with(&table, with_schema) {
            Some(_) => Vec::new(),
            None => self.readable.key(&table),
        }
    }

    /// Whether a query around the innermost may have a column of that name.
    pub(super) fn is_known_around(&self, name: &str) -> bool {
        let around = self.frames.split_last().map(|(_, around)| around).unwrap_or_default();
        let mut columns = around.iter().flat_map(|frame| &frame.sources).map(|(_, columns)| columns);
        columns.any(|columns| columns.is_empty() || columns.iter().any(|(column, _)| column == name))
    }

    /// Whether a query around the innermost reads something that is called so.
    pub(super) fn is_read_around(&self, table: &str) -> bool {
        let around = self.frames.split_last().map(|(_, around)| around).unwrap_or_default();
        around.iter().flat_map(|frame| &frame.sources).any(|(name, _)| name == table)
    }

    /// Of what an ORDER BY sorts by: a column of the answer, by its place or its name, or any value.
    pub(super) fn of_ordered(&self, expr: &Expr) -> Option<Kind> {
        let answered = self.frames.last().map(|frame| frame.aliases.as_slice()).unwrap_or_default();
        let column = match unnested(expr) {
            Expr::Value(value) => match &value.value {
                Value::Number(place, _) => {
                    place.parse().ok().and_then(|place: usize| answered.get(place.checked_sub(1)?))
                }
                _ => None,
            },
            Expr::Identifier(name) => {
                answered.iter().find(|(column, _)| column.eq_ignore_ascii_case(&name.value))
            }
            _ => None,
        };
        column.map_or_else(|| self.of_expr(expr), |(_, kind)| *kind)
    }

    fn of_name(&self, source: Option<&Ident>, name: &Ident) -> Option<Kind> {
        let name = name.value.to_lowercase();
        let of =
            |columns: &Columns| columns.iter().find(|(column, _)| *column == name).map(|(_, kind)| *kind);
        for frame in self.frames.iter().rev() {
            let mut found = frame
                .sources
                .iter()
                .filter(|(known, _)| source.is_none_or(|source| source.value.eq_ignore_ascii_case(known)))
                .filter_map(|(_, columns)| of(columns));
            if let Some(kind) = found.next() {
                // A name that means two things means nothing.
                return kind.filter(|kind| found.all(|other| other == Some(*kind)));
            }
            if source.is_none()
                && let Some(kind) = of(&frame.aliases)
            {
                return kind;
            }
        }
        None
    }

    /// Of a column of a branch's answer: a literal, elsewhere of the type that its place asks for, is a text there.
    fn of_answered(&self, expr: &Expr) -> Option<Kind> {
        match unnested(expr) {
            Expr::Value(value) if value.value == Value::Null => Some(Kind::Null),
            _ => self.of_expr(expr).or_else(|| literal(expr).map(|_| Kind::Text)),
        }
    }

    /// Of what is brought to one form and becomes one value, as the results of a CASE.
    pub(super) fn of_alike<'e>(&self, values: impl IntoIterator<Item = &'e Expr>) -> Option<Kind> {
        self.of_all(values).map(Kind::alike)
    }

    fn of_all<'e>(&self, values: impl IntoIterator<Item = &'e Expr>) -> Option<Kind> {
        common(values.into_iter().map(|value| self.of_expr(value)))
    }

    pub(super) fn of_expr(&self, expr: &Expr) -> Option<Kind> {
        match expr {
            Expr::Identifier(name) => self.of_name(None, name),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [.., source, name] => self.of_name(Some(source), name),
                _ => None,
            },
            Expr::Nested(inner) => self.of_expr(inner),
            Expr::UnaryOp { expr, .. } | Expr::Collate { expr, .. } => self.of_expr(expr),
            Expr::Cast { data_type, .. } => of_type(data_type),
            Expr::TypedString(typed) => of_type(&typed.data_type),
            Expr::Interval(_) => Some(Kind::Interval),
            Expr::AtTimeZone { timestamp, .. } => self.in_zone(timestamp),
            Expr::Extract { .. } => Some(Kind::Number),
            Expr::Ceil { expr, .. } | Expr::Floor { expr, .. } => Some(fractional(self.of_expr(expr))),
            Expr::Position { .. } => Some(Kind::Integer),
            Expr::Substring { .. } | Expr::Trim { .. } => Some(Kind::Text),
            Expr::Case { conditions, else_result, .. } => {
                self.of_alike(conditions.iter().map(|when| &when.result).chain(else_result.as_deref()))
            }
            Expr::Subquery(query) => self.columns_of(query).first().and_then(|(_, kind)| *kind),
            Expr::BinaryOp { left, op, right } => self.of_operation(left, op, right),
            Expr::Value(value) => match &value.value {
                Value::Boolean(_) => Some(Kind::Boolean),
                Value::Number(number, _) => Some(of_number(number)),
                _ => None,
            },
            Expr::Exists { .. }
            | Expr::In { .. }
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::Between { .. } => Some(Kind::Boolean),
            Expr::Function(call) => {
                let arguments = plain_arguments(&call.args);
                self.of_call(&function_name(&call.name), &arguments)
            }
            _ => None,
        }
    }

    fn of_call(&self, name: &str, arguments: &[&Expr]) -> Option<Kind> {
        let first = || self.of_expr(arguments.first()?);
        match name {
            "now"
            | "current_timestamp"
            | "transaction_timestamp"
            | "statement_timestamp"
            | "clock_timestamp"
            | "to_timestamp"
            | "pg_timestamptz" => Some(Kind::Instant),
            "localtimestamp" | "pg_timestamp" => Some(Kind::Local),
            "datetime" => Some(Kind::Datetime),
            "current_date" | "date" | "pg_date" | "pg_add_days" => Some(Kind::Day),
            "date_trunc" => match self.of_expr(arguments.get(1)?) {
                Some(Kind::Day) => Some(Kind::Instant),
                kind => kind.map(Kind::alike),
            },
            "pg_plus" | "pg_minus" => first().map(moved),
            "pg_at_time_zone" => self.in_zone(arguments.first()?),
            "pg_boolean" | "pg_json_has" | "pg_regexp" | "pg_regexp_i" | "bool_and" | "bool_or" | "every" => {
                Some(Kind::Boolean)
            }
            "count" | "row_number" | "rank" | "dense_rank" | "pg_bigint" => Some(Kind::Whole),
            "length" | "char_length" | "character_length" | "octet_length" | "instr" | "strpos"
            | "position" | "json_array_length" | "jsonb_array_length" | "ntile" | "unicode" | "unixepoch"
            | "pg_days_between" | "pg_integer" => Some(Kind::Integer),
            // Of whole numbers it is one, too, but of large ones.
            "sum" => Some(match first() {
                Some(Kind::Double) => Kind::Double,
                Some(Kind::Number | Kind::Whole) => Kind::Number,
                _ => Kind::Whole,
            }),
            "avg" => Some(if first() == Some(Kind::Double) { Kind::Double } else { Kind::Number }),
            "round" if arguments.len() > 1 => Some(Kind::Number),
            "round" | "floor" | "ceil" | "ceiling" | "trunc" | "sign" | "sqrt" | "exp" | "ln" | "log"
            | "log10" => Some(fractional(first())),
            "power" | "pow" => Some(fractional(widest(&[first(), self.of_expr(arguments.get(1)?)]))),
            "pg_add"
            | "pg_subtract"
            | "pg_multiply"
            | "pg_divide"
            | "pg_sum"
            | "pg_avg"
            | "pg_round"
            | "pg_number"
            | "pg_part"
            | "pg_part_between"
            | "pg_epoch"
            | "pg_interval_seconds" => Some(Kind::Number),
            "json_build_object" | "json_build_array" | "jsonb_build_object" | "jsonb_build_array"
            // SQLite's own.
            | "json" | "json_array" | "json_group_array" | "json_group_object" | "json_insert" | "json_object"
            | "json_patch" | "json_quote" | "json_remove" | "json_replace" | "json_set" => Some(Kind::Json),
            "pg_double" | "pg_even" | "pg_percentile" | "date_part" | "random" | "total" | "julianday"
            | "percent_rank" | "cume_dist" => Some(Kind::Double),
            "lower" | "upper" | "substr" | "substring" | "replace" | "trim" | "ltrim" | "rtrim" | "btrim"
            | "left" | "right" | "split_part" | "concat" | "concat_ws" | "string_agg" | "group_concat"
            | "to_char" | "pg_lower" | "pg_upper" | "pg_substr" | "pg_json_text" | "pg_jsonb_text"
            | "pg_number_text" | "pg_time_text" | "json_typeof" | "jsonb_typeof" | "pg_json_typeof"
            // SQLite's own.
            | "char" | "format" | "hex" | "json_pretty" | "json_type" | "printf" | "quote" | "soundex"
            | "sqlite_version" | "strftime" | "time" | "timediff" | "typeof" | "unistr" | "unistr_quote" => {
                Some(Kind::Text)
            }
            "pg_uuid" => Some(Kind::Uuid),
            "mod" => widest(&[self.of_expr(arguments.first()?), self.of_expr(arguments.get(1)?)]),
            "pg_json_texts" => Some(Kind::List),
            unnest if is_unnest(unnest) => self.of_element(unnest, arguments.first()?),
            "min" | "max" => self.of_all(arguments.iter().copied()),
            "coalesce" | "greatest" | "least" | "ifnull" => self.of_alike(arguments.iter().copied()),
            "if" | "iif" => self.of_all(arguments.iter().copied().skip(1)),
            "nullif" => first().map(Kind::alike),
            "lag" | "lead" | "first_value" | "last_value" | "nth_value" | "pg_nonzero" | "pg_only" | "abs" => {
                first()
            }
            _ => None,
        }
    }

    fn in_zone(&self, at: &Expr) -> Option<Kind> {
        let is_local = matches!(self.of_expr(at), Some(Kind::Local | Kind::Datetime));
        Some(if is_local { Kind::Instant } else { Kind::Local })
    }

    fn of_operation(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Kind> {
        use BinaryOperator as Op;
        let arithmetic = matches!(op, Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo);
        match (op, self.of_expr(left), self.of_expr(right)) {
            (Op::Plus | Op::Minus, Some(Kind::Interval), Some(Kind::Interval))
            | (Op::Multiply, Some(Kind::Interval), _)
            | (Op::Multiply, _, Some(Kind::Interval)) => Some(Kind::Interval),
            (Op::Plus | Op::Minus, Some(kind), Some(Kind::Interval))
            | (Op::Plus, Some(Kind::Interval), Some(kind))
                if kind.is_time() =>
            {
                Some(moved(kind))
            }
            (Op::Minus, Some(Kind::Day), Some(Kind::Day)) => Some(Kind::Integer),
            (Op::Minus, Some(a), Some(b)) if a.is_time() && b.is_time() => Some(Kind::Interval),
            (Op::Minus, Some(a), None) if a.is_time() && literal(right).is_some() => Some(Kind::Interval),
            (Op::Plus | Op::Minus, Some(Kind::Day), _) | (Op::Plus, _, Some(Kind::Day)) => Some(Kind::Day),
            (_, a, b) if !arithmetic => match op {
                Op::Arrow | Op::HashArrow => Some(Kind::Json),
                Op::LongArrow | Op::HashLongArrow | Op::StringConcat => Some(Kind::Text),
                Op::Eq
                | Op::NotEq
                | Op::Lt
                | Op::LtEq
                | Op::Gt
                | Op::GtEq
                | Op::And
                | Op::Or
                | Op::Question
                | Op::PGRegexMatch
                | Op::PGRegexIMatch
                | Op::PGRegexNotMatch
                | Op::PGRegexNotIMatch => Some(Kind::Boolean),
                Op::PGExp => Some(fractional(widest(&[a, b]))),
                Op::BitwiseAnd | Op::BitwiseOr | Op::PGBitwiseShiftLeft | Op::PGBitwiseShiftRight => {
                    widest(&[a, b])
                }
                _ => None,
            },
            (_, a, b) => widest(&[a, b]),
        }
    }

    /// The two times of a difference.
    pub(super) fn difference<'e>(&self, expr: &'e Expr) -> Option<(&'e Expr, &'e Expr)> {
        let Expr::BinaryOp { left, op: BinaryOperator::Minus, right } = unnested(expr) else { return None };
        let (a, b) = (self.of_expr(left)?, self.of_expr(right)?);
        let days = (a, b) == (Kind::Day, Kind::Day);
        (a.is_time() && b.is_time() && !days).then_some((left, right))
    }

    /// Breaks where the columns that USING names are of types that SQLite compares otherwise.
    pub(super) fn joined_by(&self, names: &[ObjectName]) -> ControlFlow<Foreign> {
        let sources = self.frames.last().map(|frame| frame.sources.as_slice()).unwrap_or_default();
        for name in names.iter().map(function_name) {
            let of = |columns: &Columns| columns.iter().find(|(column, _)| *column == name)?.1;
            let mut kinds: Vec<Kind> = sources.iter().filter_map(|(_, columns)| of(columns)).collect();
            // As in a set.
            kinds.retain(|kind| *kind != Kind::Text);
            let differ = kinds.iter().any(|kind| Some(kind) != kinds.first());
            if differ && kinds.into_iter().any(Kind::is_reckoned) {
                return foreign("USING with columns of different types", hints::USING);
            }
        }
        ControlFlow::Continue(())
    }

    /// Breaks where columns that are joined below one another are times of different types: PostgreSQL makes one of them.
    pub(super) fn joined(&self, body: &SetExpr) -> ControlFlow<Foreign> {
        let SetExpr::SetOperation { left, right, .. } = body else { return ControlFlow::Continue(()) };
        self.joined(left)?;
        self.joined(right)?;
        let (left, right) = (self.columns_of_body(left), self.columns_of_body(right));
        for ((_, a), (_, b)) in left.iter().zip(&**right) {
            if let (Some(a), Some(b)) = (a, b)
                && a != b
                && (a.is_time() || b.is_time())
                // A literal, say, from which a series of days begins, or NULL.
                && ![a, b].iter().any(|kind| matches!(kind, Kind::Text | Kind::Null))
            {
                return foreign("a set of times of different types", hints::SAME_CAST);
            }
        }
        ControlFlow::Continue(())
    }
}

/// An element by the name of its table, and by the one that it has where PostgreSQL's function gives one.
fn named_element(function: &str, alias: Option<&TableAlias>, kind: Option<Kind>) -> Columns {
    let own = alias.map_or_else(|| function.to_owned(), |alias| alias.name.value.to_lowercase());
    Arc::new(vec![(own, kind), ("value".to_owned(), kind)])
}

/// Of a time that an interval was added to.
fn moved(kind: Kind) -> Kind {
    if kind == Kind::Day { Kind::Local } else { kind.alike() }
}

/// The columns of two branches below one another.
fn united(left: &Columns, right: &Columns) -> Columns {
    let both = left.iter().enumerate().map(|(i, (name, kind))| {
        let kind = match (*kind, right.get(i).and_then(|(_, kind)| *kind)) {
            (Some(Kind::Null), other) | (other, Some(Kind::Null)) => other,
            (a, b) if a == b => a,
            (Some(a), Some(b)) if a.is_number() && b.is_number() => widest(&[Some(a), Some(b)]),
            _ => None,
        };
        (name.clone(), kind)
    });
    Arc::new(both.collect())
}

/// The columns outside of the set of branches that they are of.
fn settled(columns: Columns) -> Columns {
    let is_null = |kind: &Option<Kind>| *kind == Some(Kind::Null);
    if !columns.iter().any(|(_, kind)| is_null(kind)) {
        return columns;
    }
    let settled = columns.iter().map(|(name, kind)| (name.clone(), kind.filter(|kind| *kind != Kind::Null)));
    Arc::new(settled.collect())
}

/// Of what is reckoned of numbers of these kinds.
fn widest(kinds: &[Option<Kind>]) -> Option<Kind> {
    [Kind::Double, Kind::Number, Kind::Whole, Kind::Integer]
        .into_iter()
        .find(|kind| kinds.contains(&Some(*kind)))
}

/// Of a column or a value that all of these become.
fn common(kinds: impl IntoIterator<Item = Option<Kind>>) -> Option<Kind> {
    let both = |a: Kind, b| match a {
        Kind::Null => b,
        _ if a.is_number() => widest(&[Some(a), Some(b)]).unwrap_or(a),
        _ if a.is_time() => {
            let wider = [Kind::Instant, Kind::Datetime, Kind::Local];
            wider.into_iter().find(|kind| [a, b].contains(kind)).unwrap_or(a)
        }
        _ => a,
    };
    kinds.into_iter().flatten().reduce(both)
}

/// Of what rounds a number, or takes its root: PostgreSQL makes a double of a whole one before.
fn fractional(kind: Option<Kind>) -> Kind {
    match kind {
        Some(Kind::Double | Kind::Whole | Kind::Integer) => Kind::Double,
        _ => Kind::Number,
    }
}

/// As PostgreSQL types a number by how it is written.
fn of_number(written: &str) -> Kind {
    if written.parse::<i32>().is_ok() {
        Kind::Integer
    } else if written.parse::<i64>().is_ok() {
        Kind::Whole
    } else {
        Kind::Number
    }
}

/// The names behind an alias in the place of the first own ones.
fn renamed(columns: Columns, alias: Option<&TableAlias>) -> Columns {
    let names = alias.map(|alias| alias.columns.as_slice()).unwrap_or_default();
    if names.is_empty() {
        return columns;
    }
    let given = names
        .iter()
        .enumerate()
        .map(|(i, column)| (column.name.value.to_lowercase(), columns.get(i).and_then(|(_, kind)| *kind)));
    Arc::new(given.chain(columns.iter().skip(names.len()).cloned()).collect())
}

fn of_type(data_type: &DataType) -> Option<Kind> {
    match data_type {
        DataType::Date => Some(Kind::Day),
        DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Some(Kind::Local),
        DataType::Timestamp(_, _) => Some(Kind::Instant),
        DataType::Interval { .. } => Some(Kind::Interval),
        DataType::Boolean | DataType::Bool => Some(Kind::Boolean),
        DataType::Numeric(_) | DataType::Decimal(_) => Some(Kind::Number),
        DataType::Real
        | DataType::Float(_)
        | DataType::Float4
        | DataType::Float8
        | DataType::Double(_)
        | DataType::DoublePrecision => Some(Kind::Double),
        DataType::BigInt(_) | DataType::Int8(_) => Some(Kind::Whole),
        DataType::SmallInt(_)
        | DataType::Int2(_)
        | DataType::Int(_)
        | DataType::Int4(_)
        | DataType::Integer(_) => Some(Kind::Integer),
        DataType::Uuid => Some(Kind::Uuid),
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) | DataType::CharVarying(_) => {
            Some(Kind::Text)
        }
        DataType::JSON | DataType::JSONB => Some(Kind::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{super::translate, *};

    /// Over a table with a uuid, a time, a list and a number.
    fn translated(sql: &str) -> Result<(String, Vec<Option<Kind>>), String> {
        let columns = [("id", "uuid"), ("moment", "timestamptz"), ("tags", "text[]"), ("score", "numeric")];
        let columns = columns.map(|(name, kind)| (name.to_owned(), Kind::of_column(kind)));
        let columns = HashMap::from([("leads", Columns::new(columns.to_vec()))]);
        let readable = Readable { tables: vec!["leads"], columns };
        let translated = translate(sql, &readable).map_err(|(what, _)| what)?;
        Ok((translated.sql.into_owned(), translated.kinds))
    }

    #[test]
    fn a_text_beside_a_computed_number_is_read_as_a_number() {
        for number in [
            "5",
            "-5",
            "length('a')",
            "char_length('a')",
            "octet_length('a')",
            "strpos('a', 'a')",
            "position('a' IN 'a')",
            "jsonb_array_length('[]')",
            "floor(score / 10)",
            "ceil(score)",
            "sign(score)",
            "score::int",
            "score ^ 2",
            "coalesce(length('a'), 0)",
            "coalesce(0, score)",
            "max(length('a'))",
            "CASE WHEN score > 1 THEN 1 ELSE 0 END",
            "moment::date - moment::date",
            "(SELECT length('a'))",
            "(SELECT 1 UNION SELECT 2.5)",
            "(SELECT column1 FROM (VALUES (1), (2.5)) AS t)",
        ] {
            let (sql, _) = translated(&format!("SELECT {number} = '7' FROM leads")).expect(number);
            assert!(sql.contains("= 7 AS"), "{number}: {sql}");
            let refused = translated(&format!("SELECT {number} = 'x' FROM leads")).expect_err(number);
            assert!(refused.contains("no number"), "{number}: {refused}");
        }
    }

    #[test]
    fn a_number_beside_what_is_none_is_refused() {
        for other in [
            "id",
            "moment",
            "moment::date",
            "tags",
            "to_char(moment, 'MM')",
            "left('a', 1)",
            "(SELECT '5')",
            "trim('5')",
            "strftime('%H', moment)",
            "time(moment)",
            "typeof(score)",
            "json_type('1')",
            "printf('%d', score)",
            "hex('a')",
            "quote(score)",
            "char(65)",
        ] {
            let refused = translated(&format!("SELECT {other} > 5 FROM leads")).expect_err(other);
            assert!(refused.contains("with a number"), "{other}: {refused}");
        }
    }

    #[test]
    fn tests_answer_with_booleans() {
        for test in
            ["1 = ANY(ARRAY[1, 2])", "'a' <> ALL(tags)", "'a' ~ 'a'", "'a' !~* 'a'", "1 IS DISTINCT FROM 2"]
        {
            let (_, kinds) = translated(&format!("SELECT {test} FROM leads")).expect(test);
            assert_eq!(kinds, [Some(Kind::Boolean)], "{test}");
        }
    }

    #[test]
    fn a_series_is_of_the_kind_of_its_first_branch() {
        for (series, kind) in [
            ("SELECT date '2026-05-01' UNION ALL SELECT v + 1 FROM d WHERE v < date '2026-05-31'", Kind::Day),
            (
                "SELECT timestamp '2026-05-01' UNION ALL SELECT v + interval '1 day' FROM d WHERE v < '2026-05-31'",
                Kind::Local,
            ),
            ("SELECT 1 UNION ALL SELECT v + 1 FROM d WHERE v < 5", Kind::Integer),
        ] {
            let (sql, kinds) =
                translated(&format!("WITH RECURSIVE d(v) AS ({series}) SELECT v FROM d")).expect(series);
            assert_eq!(kinds, [Some(kind)], "{sql}");
        }
    }

    #[test]
    fn a_branch_of_null_leaves_a_column_its_kind() {
        for (sql, kinds) in [
            ("SELECT score FROM leads UNION ALL SELECT NULL", vec![Some(Kind::Number)]),
            ("SELECT (NULL) UNION ALL (SELECT score FROM leads LIMIT 1)", vec![Some(Kind::Number)]),
            ("SELECT 1 UNION ALL (SELECT NULL) UNION ALL SELECT 2.5", vec![Some(Kind::Number)]),
            (
                "SELECT NULL UNION ALL SELECT NULL UNION ALL SELECT moment FROM leads",
                vec![Some(Kind::Instant)],
            ),
            (
                "VALUES (1, NULL) UNION ALL SELECT score, tags FROM leads",
                vec![Some(Kind::Number), Some(Kind::List)],
            ),
            (
                "SELECT *, NULL FROM (SELECT id FROM leads) AS t UNION ALL SELECT NULL, score FROM leads",
                vec![Some(Kind::Uuid), Some(Kind::Number)],
            ),
            ("SELECT NULL UNION SELECT NULL", vec![None]),
            ("SELECT json_extract('{}', '$.a') UNION SELECT NULL UNION SELECT 1", vec![None]),
            ("SELECT x FROM (SELECT NULL AS x) AS t UNION ALL SELECT score FROM leads", vec![None]),
        ] {
            assert_eq!(translated(sql).expect(sql).1, kinds, "{sql}");
        }
        let nulls = "SELECT moment AS m, score AS s FROM leads UNION ALL SELECT NULL, NULL";
        for (asked, made) in [
            ("m < '2026-10-01 12:00'", "m < '2026-10-01T12:00:00.000000Z'"),
            ("s / 20 > 4", "pg_divide(s, 20) > 4"),
        ] {
            let (sql, _) = translated(&format!("WITH t AS ({nulls}) SELECT count(*) FROM t WHERE {asked}"))
                .expect(asked);
            assert!(sql.contains(made), "{sql}");
        }
    }

    #[test]
    fn a_comment_inside_a_comment_ends_where_postgresql_ends_it() {
        let (sql, _) = translated("SELECT 1 /* a /* nested */ b */").expect("a statement");
        assert_eq!(sql, "SELECT 1");
    }

    #[test]
    fn columns_that_double_with_each_step_are_not_all_kept() {
        let steps: Vec<String> =
            (1..=12).map(|i| format!(", a{i} AS (SELECT *, * FROM a{})", i - 1)).collect();
        let sql = format!("WITH a0 AS (SELECT 1 AS n){} SELECT * FROM a12", steps.concat());
        let readable = Readable { tables: Vec::new(), columns: HashMap::new() };
        let kinds = translate(&sql, &readable).ok().map(|translated| translated.kinds.len());
        assert_eq!(kinds, Some(MAX_COLUMNS));
    }
}
