//! Operators that mean other things of times, intervals, lists and JSON than SQLite's of texts.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Function, InTarget, Interval, JoinConstraint, JoinOperator, Select, TableWithJoins,
    UnaryOperator, Value,
};
use uuid::Uuid;

use super::{
    Foreign, Translation, foreign,
    forms::{bind, interval_text, json_path, json_text, literal, nested, quoted, template, timed, unnested},
    hints,
    kinds::Kind,
};
use crate::store::sqlite::query::times::Moment;

const CONTINUE: ControlFlow<Foreign> = ControlFlow::Continue(());

impl Translation<'_> {
    pub(super) fn operator(
        &self,
        left: &mut Expr,
        op: &BinaryOperator,
        right: &mut Expr,
    ) -> ControlFlow<Foreign, Option<Expr>> {
        use BinaryOperator as Op;
        let (a, b) = (self.kinds.of_expr(left), self.kinds.of_expr(right));
        let made = |sql: &str, parts: &[&Expr]| ControlFlow::Continue(Some(template(sql, parts)));
        reckonable(op, (left, a), (right, b))?;
        match op {
            Op::LongArrow => return ControlFlow::Continue(Some(json_text(left, right))),
            Op::Arrow => {
                for side in [left, right] {
                    bind(side);
                }
                return ControlFlow::Continue(None);
            }
            Op::StringConcat => {
                if [a, b].iter().any(|kind| matches!(kind, Some(Kind::Json | Kind::List))) {
                    return foreign("JSON or lists put together by ||", hints::JSON_CONCAT);
                }
                for side in [left, right] {
                    self.show(side)?;
                    bind(side);
                }
                return ControlFlow::Continue(None);
            }
            Op::Modulo => return made("mod(_0, _1)", &[left, right]),
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide if is_decimal(a, b) => {
                let name = match op {
                    Op::Plus => "pg_add",
                    Op::Minus => "pg_subtract",
                    Op::Multiply => "pg_multiply",
                    _ => "pg_divide",
                };
                return made(&format!("{name}(_0, _1)"), &[left, right]);
            }
            _ => {}
        }
        if *op == Op::Divide && ![a, b].contains(&Some(Kind::Interval)) {
            // SQLite would cut what is left of two whole numbers.
            if [a, b].into_iter().flatten().any(Kind::is_fractional) {
                // Not by a cast, which would make a double of a `numeric`, whose halves are rounded otherwise.
                *left = template("(_0) * 1.0", &[left]);
            }
            // And would answer with NULL.
            if !is_other_than_zero(right) {
                *right = template("pg_nonzero(_0)", &[right]);
            }
            return ControlFlow::Continue(None);
        }
        let reckoned = |kind: &Kind| kind.is_reckoned();
        let (a, b) = (a.filter(reckoned), b.filter(reckoned));
        match (op, a, b) {
            (Op::Plus | Op::Minus, Some(time), Some(Kind::Interval)) if time.is_time() => {
                let name = if *op == Op::Plus { "pg_plus" } else { "pg_minus" };
                let Expr::Interval(interval) = unnested(right) else { return ControlFlow::Continue(None) };
                made(&format!("{name}(_0, _1)"), &[&timed(left), &interval_text(interval)])
            }
            (Op::Plus, Some(Kind::Interval), Some(time)) if time.is_time() => {
                let Expr::Interval(interval) = unnested(left) else { return ControlFlow::Continue(None) };
                made("pg_plus(_0, _1)", &[&timed(right), &interval_text(interval)])
            }
            // An interval is moved from a text or a column that nothing is known of: it must be a time.
            (Op::Plus | Op::Minus, None, Some(Kind::Interval)) => {
                let name = if *op == Op::Plus { "pg_plus" } else { "pg_minus" };
                let Expr::Interval(interval) = unnested(right) else { return ControlFlow::Continue(None) };
                made(&format!("{name}(_0, _1)"), &[left, &interval_text(interval)])
            }
            (Op::Multiply, Some(Kind::Interval), None) => scaled(left, right),
            (Op::Multiply, None, Some(Kind::Interval)) => scaled(right, left),
            (Op::Minus, Some(Kind::Day), Some(Kind::Day)) => made("pg_days_between(_0, _1)", &[left, right]),
            (Op::Plus, Some(Kind::Day), None) => made("pg_add_days(_0, _1)", &[left, right]),
            (Op::Plus, None, Some(Kind::Day)) => made("pg_add_days(_1, _0)", &[left, right]),
            (Op::Minus, Some(Kind::Day), None) => made("pg_add_days(_0, -_1)", &[left, &nested(right)]),
            (Op::Plus | Op::Minus, Some(kind), None) | (Op::Plus | Op::Minus, None, Some(kind))
                if kind.is_time() =>
            {
                foreign("a time and a number are added up or subtracted", hints::INTERVAL)
            }
            (Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq, ..) => {
                self.compare_both(left, right)?;
                ControlFlow::Continue(None)
            }
            (Op::PGRegexMatch, ..) => made("pg_regexp(_0, _1)", &[left, right]),
            (Op::PGRegexIMatch, ..) => made("pg_regexp_i(_0, _1)", &[left, right]),
            (Op::PGRegexNotMatch, ..) => made("(NOT pg_regexp(_0, _1))", &[left, right]),
            (Op::PGRegexNotIMatch, ..) => made("(NOT pg_regexp_i(_0, _1))", &[left, right]),
            (Op::PGExp, ..) => made("power(_0, _1)", &[left, right]),
            (Op::HashArrow | Op::HashLongArrow, ..) => {
                let Some(path) = literal(right).and_then(json_path) else {
                    return foreign("a path that is no list of names", hints::JSON_PATH);
                };
                let path = quoted(path);
                if *op == Op::HashArrow {
                    return made("(_0 -> _1)", &[left, &path]);
                }
                ControlFlow::Continue(Some(json_text(left, &path)))
            }
            (Op::Question, ..) if self.kinds.of_expr(left) == Some(Kind::List) => {
                foreign("? of a list", hints::LIST_HAS)
            }
            (Op::Question, ..) => match literal(right) {
                Some(_) => made("pg_json_has(_0, _1)", &[left, right]),
                None => foreign("? with something else than a text", hints::JSON_CONTAINS),
            },
            _ => ControlFlow::Continue(None),
        }
    }

    /// What tables beside one another are joined by.
    pub(super) fn joins(&self, table: &mut TableWithJoins) -> ControlFlow<Foreign> {
        for join in &mut table.joins {
            if let JoinOperator::Join(by)
            | JoinOperator::Inner(by)
            | JoinOperator::Left(by)
            | JoinOperator::LeftOuter(by)
            | JoinOperator::Right(by)
            | JoinOperator::RightOuter(by)
            | JoinOperator::FullOuter(by) = &mut join.join_operator
            {
                match by {
                    JoinConstraint::On(on) => self.condition(on)?,
                    JoinConstraint::Using(names) | JoinConstraint::UsingAlias(names, _) => {
                        self.kinds.joined_by(names)?;
                    }
                    JoinConstraint::Natural | JoinConstraint::None => {}
                }
            }
        }
        CONTINUE
    }

    /// What rows are chosen and joined by.
    pub(super) fn conditions(&self, select: &mut Select) -> ControlFlow<Foreign> {
        select.from.iter_mut().try_for_each(|table| self.joins(table))?;
        [&mut select.selection, &mut select.having]
            .into_iter()
            .flatten()
            .try_for_each(|condition| self.condition(condition))
    }

    /// The conditions that an expression itself has.
    pub(super) fn conditions_of(&self, expr: &mut Expr) -> ControlFlow<Foreign> {
        match expr {
            Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
                self.condition(left)?;
                self.condition(right)
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr }
            | Expr::IsTrue(expr)
            | Expr::IsNotTrue(expr)
            | Expr::IsFalse(expr)
            | Expr::IsNotFalse(expr) => self.condition(expr),
            Expr::Case { operand: None, conditions, .. } => {
                conditions.iter_mut().try_for_each(|when| self.condition(&mut when.condition))
            }
            Expr::Function(Function { filter: Some(filter), .. }) => self.condition(filter),
            _ => CONTINUE,
        }
    }

    /// PostgreSQL takes nothing but a boolean for a condition; SQLite takes most texts for false.
    fn condition(&self, expr: &mut Expr) -> ControlFlow<Foreign> {
        if let Some(text) = literal(expr) {
            *expr = literal_as(Kind::Boolean, text)?.unwrap_or_else(|| expr.clone());
            return CONTINUE;
        }
        match self.kinds.of_expr(expr) {
            None | Some(Kind::Boolean) => CONTINUE,
            Some(_) => foreign("a condition that is no boolean", hints::CONDITION),
        }
    }

    /// Makes both sides comparable with one another, row for row where they are rows.
    pub(super) fn compare_both(&self, left: &mut Expr, right: &mut Expr) -> ControlFlow<Foreign> {
        if let (Expr::Tuple(left), Expr::Tuple(right)) = (&mut *left, &mut *right) {
            return left.iter_mut().zip(right).try_for_each(|(left, right)| self.compare_both(left, right));
        }
        self.compare(left, right)?;
        self.compare(right, left)
    }

    /// Makes `other` comparable with `at`: a literal as the type of `at` has it, an interval in seconds, one kind of
    /// time as the other.
    pub(super) fn compare(&self, at: &mut Expr, other: &mut Expr) -> ControlFlow<Foreign> {
        let (Some(mut kind), of_other) = (self.kinds.of_expr(at), self.kinds.of_expr(other)) else {
            return CONTINUE;
        };
        if kind == Kind::Datetime && (literal(other).is_some() || of_other.is_some_and(Kind::is_time)) {
            *at = template("pg_timestamp(_0)", &[at]);
            kind = Kind::Local;
        }
        if let Some(text) = literal(other) {
            *other = literal_as(kind, text)?.unwrap_or_else(|| other.clone());
            return CONTINUE;
        }
        match (kind, of_other) {
            (Kind::Interval, Some(Kind::Interval)) => {
                for side in [at, other] {
                    if let Some((later, earlier)) = self.kinds.difference(side) {
                        *side = template("pg_part_between('epoch', _0, _1)", &[later, earlier]);
                    } else if let Expr::Interval(interval) = unnested(side) {
                        *side = template("pg_interval_seconds(_0)", &[&interval_text(interval)]);
                    }
                }
            }
            (_, Some(of_other)) => return widened(other, of_other, kind),
            _ => {}
        }
        CONTINUE
    }

    /// Makes values that become one, as those of `coalesce`, of one kind: literals of that of the others.
    pub(super) fn alike<'e>(&self, values: impl IntoIterator<Item = &'e mut Expr>) -> ControlFlow<Foreign> {
        let values: Vec<&mut Expr> = values.into_iter().collect();
        let Some(kind) = self.kinds.of_alike(values.iter().map(|value| &**value)) else { return CONTINUE };
        for value in values {
            if let Some(text) = literal(value) {
                *value = literal_as(kind, text)?.unwrap_or_else(|| value.clone());
            } else if let Some(of_value) = self.kinds.of_expr(value) {
                widened(value, of_value, kind)?;
            }
        }
        CONTINUE
    }

    /// What is looked for among other values.
    pub(super) fn among(&self, at: &mut Expr, target: &mut InTarget) -> ControlFlow<Foreign> {
        match target {
            InTarget::List(list) => list.iter_mut().try_for_each(|value| self.compare_both(at, value)),
            InTarget::Subquery(query) => {
                let (kind, of_query) = (
                    self.kinds.of_expr(at),
                    self.kinds.columns_of(query).first().and_then(|(_, kind)| *kind),
                );
                match (kind, of_query) {
                    (Some(a), Some(b)) if a != b && (a.is_reckoned() || b.is_reckoned()) => {
                        foreign("IN with values of another type", hints::SAME_CAST)
                    }
                    (Some(a), Some(b)) => comparable(a, b),
                    _ => CONTINUE,
                }
            }
            _ => CONTINUE,
        }
    }
}

/// Whether PostgreSQL reckons with both as with a `numeric`. A value that nothing is known of may be a double.
fn is_decimal(a: Option<Kind>, b: Option<Kind>) -> bool {
    let is_exact = |kind: Option<Kind>| kind.is_some_and(|kind| kind.is_number() && kind != Kind::Double);
    is_exact(a) && is_exact(b) && [a, b].contains(&Some(Kind::Number))
}

/// Breaks where PostgreSQL finds no numbers to reckon with, or no order.
fn reckonable(
    op: &BinaryOperator,
    (left, a): (&Expr, Option<Kind>),
    (right, b): (&Expr, Option<Kind>),
) -> ControlFlow<Foreign> {
    use BinaryOperator as Op;
    let is = |kind| [a, b].contains(&Some(kind));
    match op {
        Op::Minus if a == Some(Kind::Json) => foreign("JSON and what is taken from it", hints::JSON_REMOVE),
        Op::Lt | Op::LtEq | Op::Gt | Op::GtEq if is(Kind::Json) => {
            foreign("JSON that is larger or smaller", hints::JSON_VALUE)
        }
        Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => {
            let timely = is(Kind::Interval) || [a, b].into_iter().flatten().any(Kind::is_time);
            if is(Kind::Json) {
                foreign("reckoning with JSON", hints::JSON_VALUE)
            } else if is(Kind::Text) && !is(Kind::Interval)
                || !timely && (is_no_number(left) || is_no_number(right))
            {
                foreign("reckoning with a text", hints::TEXT_AS_NUMBER)
            } else {
                CONTINUE
            }
        }
        _ => CONTINUE,
    }
}

/// Makes a value comparable with one of the kind: PostgreSQL makes a time of the kind of a narrower one.
fn widened(value: &mut Expr, of_value: Kind, kind: Kind) -> ControlFlow<Foreign> {
    match (kind, of_value) {
        (Kind::Instant, Kind::Local | Kind::Datetime | Kind::Day) => {
            *value = template("pg_timestamptz(_0)", &[value]);
        }
        (Kind::Local, Kind::Datetime | Kind::Day) => *value = template("pg_timestamp(_0)", &[value]),
        _ => return comparable(kind, of_value),
    }
    CONTINUE
}

/// SQLite compares any two values: each number is less than each text.
pub(super) fn comparable(a: Kind, b: Kind) -> ControlFlow<Foreign> {
    match (a, b) {
        (Kind::Json, Kind::Json) => CONTINUE,
        (Kind::Json, _) | (_, Kind::Json) => {
            foreign("JSON beside a value of another type", hints::JSON_VALUE)
        }
        (other, number) | (number, other) if number.is_number() && !other.is_number() => match other {
            Kind::Text => foreign("comparing a text with a number", hints::TEXT_AS_NUMBER),
            Kind::Uuid => foreign("comparing a uuid with a number", "the uuid in quotes"),
            Kind::List => foreign("comparing a list with a number", "json_array_length(x)"),
            time if time.is_time() => foreign("comparing a time with a number", hints::TIME),
            _ => CONTINUE,
        },
        (Kind::Text, Kind::Boolean) | (Kind::Boolean, Kind::Text) => {
            foreign("comparing a text with a boolean", hints::TEXT_AS_BOOLEAN)
        }
        _ => CONTINUE,
    }
}

/// What PostgreSQL reads a literal as beside a value of the kind; nothing where it stays as it is.
fn literal_as(kind: Kind, text: &str) -> ControlFlow<Foreign, Option<Expr>> {
    let made = |expr| ControlFlow::Continue(Some(expr));
    match kind {
        Kind::Boolean => match text.trim().to_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => made(Expr::Value(Value::Boolean(true).into())),
            "f" | "false" | "n" | "no" | "off" | "0" => made(Expr::Value(Value::Boolean(false).into())),
            _ => foreign("a text that is neither true nor false beside a boolean", "true or false"),
        },
        Kind::Number | Kind::Double | Kind::Whole | Kind::Integer => {
            let text = text.trim();
            if text.parse::<i64>().is_ok() {
                return made(Expr::Value(
                    Value::Number(text.trim_start_matches('+').to_owned(), false).into(),
                ));
            }
            match text.parse::<f64>() {
                Ok(number) if number.is_finite() && kind.is_fractional() => {
                    made(template("pg_number(_0)", &[&quoted(text)]))
                }
                _ => foreign("a text that is no number beside one", "the number without quotes"),
            }
        }
        Kind::Instant | Kind::Local | Kind::Datetime | Kind::Day => {
            let Ok(moment) = Moment::parse(text) else {
                return foreign("a time that is written so", hints::TIME);
            };
            made(quoted(
                match kind {
                    Kind::Instant => moment.to_instant(),
                    Kind::Local | Kind::Datetime => moment.to_local(),
                    _ => moment.to_day(),
                }
                .write(),
            ))
        }
        Kind::List if text == "{}" => made(quoted("[]")),
        Kind::List => foreign("a list written as a text", hints::UNNEST),
        Kind::Json if ["{}", "[]"].contains(&text) => ControlFlow::Continue(None),
        Kind::Json => foreign("JSON compared with a written one", hints::JSON_CONTAINS),
        Kind::Uuid => match Uuid::parse_str(text.trim()) {
            Ok(uuid) => made(quoted(uuid.to_string())),
            Err(_) => foreign("a text that is no uuid beside one", hints::UUID),
        },
        Kind::Text | Kind::Interval | Kind::Null => ControlFlow::Continue(None),
    }
}

/// A text in which PostgreSQL finds no number; SQLite takes it for zero.
fn is_no_number(expr: &Expr) -> bool {
    literal(expr).is_some_and(|text| text.trim().parse::<f64>().is_err())
}

fn is_other_than_zero(expr: &Expr) -> bool {
    match unnested(expr) {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse().is_ok_and(|number: f64| number != 0.0),
            _ => false,
        },
        _ => false,
    }
}

fn scaled(interval: &Expr, factor: &Expr) -> ControlFlow<Foreign, Option<Expr>> {
    let Expr::Interval(of) = unnested(interval) else { return ControlFlow::Continue(None) };
    let text = template("pg_interval_times(_0, _1)", &[&interval_text(of), factor]);
    ControlFlow::Continue(Some(Expr::Interval(Interval {
        value: Box::new(text),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rusqlite::{Connection, types::Value};

    use crate::store::sqlite::query::{
        Readable,
        dialect::{Columns, Kind, translate},
        functions,
    };

    fn readable() -> Readable {
        let columns = [
            ("id", "uuid"),
            ("moment", "timestamptz"),
            ("origem", "text"),
            ("score", "numeric"),
            ("ativo", "boolean"),
            ("tags", "text[]"),
        ];
        let columns = columns.map(|(name, kind)| (name.to_owned(), Kind::of_column(kind)));
        Readable {
            tables: vec!["leads"],
            columns: HashMap::from([("leads", Columns::new(columns.to_vec()))]),
        }
    }

    /// What a statement answers with over one lead.
    fn answered(sql: &str) -> Value {
        asked(sql).expect(sql)
    }

    fn asked(sql: &str) -> rusqlite::Result<Value> {
        let readable = readable();
        let translated = translate(sql, &readable).map_err(|(what, _)| what).expect(sql);
        let connection = Connection::open_in_memory().expect("a connection");
        functions::register(&connection).expect("functions");
        connection
            .execute_batch(
                "CREATE TABLE leads (id TEXT, moment TEXT, origem TEXT, score REAL, ativo INTEGER, tags TEXT);
                 INSERT INTO leads VALUES
                     ('0e984725-c51c-4bf4-9960-e1c80e27aba0', '2026-11-28T00:00:00Z', 'meta', 50, 1, '[\"casa\"]')",
            )
            .expect("a table");
        connection.query_row(&translated.sql, [], |row| row.get(0))
    }

    #[test]
    fn times_are_compared_in_one_form_however_sqlite_writes_them() {
        for condition in [
            "datetime(moment, '+7 hours') >= '2026-11-28 00:00:00'",
            "datetime(moment) >= date(moment)",
            "date(moment) <= datetime(moment)",
            "datetime(moment) = '2026-11-28'",
            "NOT datetime(moment) < '2026-11-28'",
            "datetime(moment) BETWEEN '2026-11-28' AND '2026-11-28 00:00'",
            "datetime(moment) IN ('2026-11-28 00:00:00')",
            "datetime(moment) = moment::timestamp",
            "moment AT TIME ZONE 'UTC' = datetime(moment)",
            "(SELECT em >= '2026-11-28' FROM (SELECT datetime(moment) AS em FROM leads) AS t)",
            "CASE datetime(moment) WHEN '2026-11-28' THEN true END",
            "coalesce(datetime(moment), '2026-01-01') = moment::timestamp",
            "greatest(datetime(moment), date(moment)) = '2026-11-28'",
            "CASE WHEN ativo THEN date(moment) ELSE moment END = '2026-11-28 00:00'",
            // As a text it is as SQLite writes it.
            "datetime(moment) LIKE '2026-11-28 00:%'",
            "datetime(moment) || '' = '2026-11-28 00:00:00'",
            "(WITH RECURSIVE h(t) AS (SELECT '2026-11-28 00:00:00' UNION ALL \
              SELECT datetime(t, '+1 hour') FROM h WHERE t < '2026-11-28 05:00:00') SELECT count(*) = 6 FROM h)",
        ] {
            assert_eq!(answered(&format!("SELECT {condition} FROM leads")), Value::Integer(1), "{condition}");
        }
        for sql in [
            "SELECT datetime(moment) FROM leads UNION SELECT moment::timestamp FROM leads",
            "SELECT 1 FROM leads WHERE datetime(moment) IN (SELECT moment::timestamp FROM leads)",
            "SELECT 1 FROM (SELECT datetime(moment) AS m FROM leads) AS a JOIN (SELECT date(moment) AS m FROM leads) AS b USING (m)",
            "SELECT nullif(date(moment), moment) FROM leads",
        ] {
            assert!(translate(sql, &readable()).is_err(), "{sql}");
        }
    }

    #[test]
    fn a_text_of_a_time_is_no_number_until_it_is_cast() {
        for sql in [
            "SELECT 1 FROM leads WHERE strftime('%w', moment) IN (0, 6)",
            "SELECT sum(strftime('%H', moment)) FROM leads",
            "SELECT strftime('%Y', moment) / 2 FROM leads",
            "SELECT strftime('%s', moment) - strftime('%s', moment) FROM leads",
        ] {
            assert!(translate(sql, &readable()).is_err(), "{sql}");
        }
        for condition in [
            "strftime('%H', moment)::numeric < 18",
            "strftime('%w', moment)::numeric IN (0, 6)",
            "strftime('%Y', moment) = '2026'",
            "strftime('%s', moment)::numeric - strftime('%s', moment)::numeric = 0",
        ] {
            assert_eq!(answered(&format!("SELECT {condition} FROM leads")), Value::Integer(1), "{condition}");
        }
    }

    #[test]
    fn a_text_cast_to_a_uuid_is_spelled_as_the_stored_one() {
        for uuid in [
            "'0E984725-C51C-4BF4-9960-E1C80E27ABA0'::uuid",
            "'{0e984725-c51c-4bf4-9960-e1c80e27aba0}'::uuid",
            "uuid '0e984725c51c4bf49960e1c80e27aba0'",
            "CAST(upper(id::text) AS uuid)",
            "id::uuid",
        ] {
            for condition in [format!("id = {uuid}"), format!("id IN ({uuid})"), format!("{uuid} = id")] {
                let sql = format!("SELECT {condition} FROM leads");
                assert_eq!(answered(&sql), Value::Integer(1), "{condition}");
            }
        }
        assert!(asked("SELECT id = 'x'::uuid FROM leads").is_err());
        assert!(asked("SELECT origem::uuid FROM leads").is_err());
        assert_eq!(answered("SELECT NULL::uuid FROM leads"), Value::Null);
    }

    #[test]
    fn types_and_texts_of_json_are_as_postgresql_names_them() {
        for (json, name) in [
            ("\"x\"", "string"),
            ("85", "number"),
            ("-1e400", "number"),
            ("true", "boolean"),
            ("null", "null"),
            ("[1]", "array"),
            ("{}", "object"),
        ] {
            for function in ["jsonb_typeof", "json_typeof"] {
                let sql = format!("SELECT {function}('{{\"a\": {json}}}'::jsonb -> 'a') FROM leads");
                assert_eq!(answered(&sql), Value::Text(name.to_owned()), "{sql}");
            }
        }
        assert_eq!(answered("SELECT jsonb_typeof('{}'::jsonb -> 'a') FROM leads"), Value::Null);
        assert!(translate("SELECT jsonb_typeof('{}'::jsonb ->> 'a')", &readable()).is_err());
        // As what is written in the place of jsonb_each_text.
        for (value, values) in
            [("x ->> e.fullkey", "85,true,1.50"), ("jsonb_typeof(x -> e.fullkey)", "number,boolean,number")]
        {
            let sql = format!(
                "SELECT string_agg({value}, ',' ORDER BY e.key) \
                 FROM (SELECT '{{\"$a\": 85, \"2024\": true, \"c\": 1.50}}' AS x) AS t, json_each(x) AS e"
            );
            assert_eq!(answered(&sql), Value::Text(values.to_owned()), "{sql}");
        }
        for sql in [
            "SELECT jsonb_typeof(e.value) FROM json_each('{\"a\": true}') AS e",
            "SELECT jsonb_typeof(json_extract('{\"a\": true}', '$.a'))",
        ] {
            assert!(translate(sql, &readable()).is_err(), "{sql}");
        }
        let sql = "SELECT string_agg(i #>> '{}', ',' ORDER BY i #>> '{}') \
                   FROM jsonb_array_elements('[\"b\", \"a\", 1, null]') AS i";
        assert_eq!(answered(sql), Value::Text("1,a,b".to_owned()));
    }

    #[test]
    fn a_half_goes_to_the_even_number_of_doubles_alone() {
        for (half, rounded) in [
            ("score / 20", 3.0),
            ("-score / 20", -3.0),
            ("5 / 2.0", 3.0),
            ("5::numeric / 2", 3.0),
            ("('{\"a\": 5}' ->> 'a')::numeric / 2", 3.0),
            ("score / 50 + 1.5", 3.0),
            ("score * 0.05", 3.0),
            ("avg(score) / 20", 3.0),
            ("5::float8 / 2", 2.0),
            ("score / 20::float8", 2.0),
            ("score * 0.05::float8", 2.0),
            ("power(2, -1) * 5", 2.0),
            ("floor(5) / 2", 2.0),
            ("floor(5.0) / 2", 3.0),
        ] {
            for call in [
                format!("round({half})"),
                format!("({half})::int"),
                format!("cast({half} AS integer)"),
                format!("({half})::bigint"),
            ] {
                let number = match answered(&format!("SELECT {call} FROM leads")) {
                    Value::Integer(number) => number.to_string().parse().ok(),
                    Value::Real(number) => Some(number),
                    _ => None,
                };
                assert_eq!(number, Some(rounded), "{call}");
            }
        }
    }

    #[test]
    fn decimals_are_compared_and_rounded_by_their_digits() {
        for condition in [
            "0.1 + 0.2 = 0.3",
            "0.3 - 0.1 = 0.2",
            "score * 0.006 = 0.3",
            "0.3 / 0.1 = 3",
            "round(1.255 * 100) / 100 = 1.26",
            "round((score - 47) * 1.005, 2) = 3.02",
            "floor(score / 10) * 10 = 50",
            "2 / 3.0 * 3 = 2",
            "NOT 0.1::float8 + 0.2::float8 = 0.3::float8",
            "(SELECT sum(n) = 0.3 AND avg(n) = 0.15 FROM (SELECT 0.1 AS n UNION ALL SELECT 0.2) AS t)",
            "(SELECT sum(n) - 0.3 = 0 FROM (SELECT 0.1 AS n UNION ALL SELECT 0.2) AS t HAVING sum(n) = 0.3)",
        ] {
            assert_eq!(answered(&format!("SELECT {condition} FROM leads")), Value::Integer(1), "{condition}");
        }
    }

    #[test]
    fn truths_lists_and_json_are_themselves_inside_of_json() {
        for (sql, json) in [
            (
                "SELECT json_build_object('a', ativo, 'b', score > 60, 'c', NULL::boolean) FROM leads",
                r#"{"a":true,"b":false,"c":null}"#,
            ),
            ("SELECT jsonb_build_array(NOT ativo, tags, 1, 'x') FROM leads", r#"[false,["casa"],1,"x"]"#),
            (
                "SELECT json_build_object('a', json_build_object('b', ativo)) FROM leads",
                r#"{"a":{"b":true}}"#,
            ),
            (
                "SELECT json_build_object('a', j) FROM (SELECT json_build_array(ativo) AS j FROM leads) AS t",
                r#"{"a":[true]}"#,
            ),
            ("SELECT json_group_array(ativo) FROM leads", "[true]"),
            (
                "SELECT json_build_object('a', (SELECT CASE WHEN ativo THEN json_build_object('b', origem) END FROM leads))",
                r#"{"a":{"b":"meta"}}"#,
            ),
            (
                "SELECT json_build_array((SELECT coalesce(json_build_array(ativo), '[]') FROM leads))",
                "[[true]]",
            ),
            (
                "SELECT json_build_array((SELECT json_build_array(1) UNION SELECT json_build_array(1)))",
                "[[1]]",
            ),
            (
                "SELECT json_set('{}', '$.k', (SELECT '{\"a\": [1]}'::jsonb -> 'a' FROM leads), '$.l', ativo) FROM leads",
                r#"{"k":[1],"l":true}"#,
            ),
        ] {
            assert_eq!(answered(sql), Value::Text(json.to_owned()), "{sql}");
        }
    }

    #[test]
    fn what_is_taken_apart_or_grouped_elsewhere_than_in_postgresql_is_refused() {
        for sql in [
            "SELECT origem, unnest(tags), count(*) FROM leads GROUP BY origem, tags",
            "SELECT id, unnest(tags) AS t, count(*) FROM leads GROUP BY id, tags ORDER BY t",
            "SELECT max(score), unnest('[1, 2]')",
            "SELECT * FROM leads, unnest(tags) AS i",
            "SELECT i.* FROM leads, unnest(tags) AS i",
            "SELECT *, unnest(tags) FROM leads",
            "SELECT origem, (SELECT max(score)) FROM leads",
            "SELECT origem, (SELECT count(l.id) FROM (SELECT 1 AS x) AS t LIMIT 1) FROM leads AS l",
            "(SELECT origem, count(*) FROM leads)",
        ] {
            assert!(translate(sql, &readable()).is_err(), "{sql}");
        }
        for (sql, number) in [
            (
                "SELECT count(*) FROM (SELECT upper(unnest(tags)) AS t, count(*) FROM leads GROUP BY 1) AS x",
                1,
            ),
            (
                "SELECT count(*) FROM (WITH t AS (SELECT tags, count(*) AS n FROM leads GROUP BY tags) SELECT n, unnest(tags) FROM t) AS x",
                1,
            ),
            (
                "WITH t AS (SELECT leads.*, i FROM leads, unnest(tags) AS i) SELECT count(*) FROM t WHERE i = 'casa'",
                1,
            ),
            ("SELECT (SELECT count(b.id) FROM leads AS b WHERE b.id = l.id) FROM leads AS l", 1),
            (
                "WITH RECURSIVE t(n) AS ((SELECT 1) UNION ALL ((SELECT n + 1 FROM t WHERE n < 5))) SELECT count(*) FROM t",
                5,
            ),
        ] {
            assert_eq!(answered(sql), Value::Integer(number), "{sql}");
        }
    }

    #[test]
    fn a_condition_is_a_boolean() {
        for condition in [
            "'true'",
            "ativo",
            "NOT 'f'",
            "score > 5 AND ('t' OR ativo)",
            "coalesce(ativo, false)",
            "CASE WHEN 'yes' THEN true END",
            "id = '0E984725-C51C-4BF4-9960-E1C80E27ABA0'",
        ] {
            let sql = format!("SELECT count(*) FROM leads WHERE {condition}");
            assert_eq!(answered(&sql), Value::Integer(1), "{condition}");
        }
        for sql in [
            "SELECT 1 FROM leads WHERE origem",
            "SELECT 1 FROM leads WHERE score",
            "SELECT 1 FROM leads WHERE NOT origem",
            "SELECT 1 FROM leads WHERE ativo AND score",
            "SELECT 1 FROM leads WHERE 'talvez'",
            "SELECT 1 FROM leads WHERE 1",
            "SELECT 1 FROM leads WHERE origem IS TRUE",
            "SELECT 1 FROM leads GROUP BY origem HAVING count(*)",
            "SELECT 1 FROM leads AS a JOIN leads AS b ON a.score",
            "SELECT 1 FROM leads AS a LEFT JOIN (leads AS b JOIN leads AS c ON b.origem) ON a.id = b.id",
            "SELECT 1 FROM (leads AS a JOIN (leads AS b JOIN leads AS c ON c.score) ON a.id = b.id)",
            "SELECT count(*) FILTER (WHERE origem) FROM leads",
            "SELECT CASE WHEN score THEN 1 END FROM leads",
            "SELECT 1 FROM leads WHERE moment >= '2026-11'",
            "SELECT 1 FROM leads WHERE moment >= '2026'",
            "SELECT 1 FROM leads WHERE id = 'x'",
            "SELECT max(tags) FROM leads",
            "SELECT origem FROM leads ORDER BY tags",
        ] {
            assert!(translate(sql, &readable()).is_err(), "{sql}");
        }
    }
}
