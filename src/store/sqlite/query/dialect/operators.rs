//! Operators that mean other things of times, intervals, lists and JSON than SQLite's of texts.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, InTarget, Interval, Value};

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
            _ => {}
        }
        if *op == Op::Divide && ![a, b].contains(&Some(Kind::Interval)) {
            // SQLite would cut what is left of two whole numbers.
            if [a, b].into_iter().flatten().any(Kind::is_fractional) {
                *left = template("CAST(_0 AS REAL)", &[left]);
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
        let (Some(kind), of_other) = (self.kinds.of_expr(at), self.kinds.of_expr(other)) else {
            return CONTINUE;
        };
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
            (Kind::Instant, Some(Kind::Local | Kind::Day)) => {
                *other = template("pg_timestamptz(_0)", &[other]);
            }
            (Kind::Local, Some(Kind::Day)) => *other = template("pg_timestamp(_0)", &[other]),
            (_, Some(of_other)) => return comparable(kind, of_other),
            _ => {}
        }
        CONTINUE
    }

    /// Makes the literals among values that become one, as those of `coalesce`, of the kind of the others.
    pub(super) fn alike<'e>(&self, values: impl IntoIterator<Item = &'e mut Expr>) -> ControlFlow<Foreign> {
        let values: Vec<&mut Expr> = values.into_iter().collect();
        let Some(kind) = self.kinds.of_all(values.iter().map(|value| &**value)) else { return CONTINUE };
        for value in values {
            if let Some(text) = literal(value) {
                *value = literal_as(kind, text)?.unwrap_or_else(|| value.clone());
            } else if let Some(of_value) = self.kinds.of_expr(value) {
                comparable(kind, of_value)?;
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
        Kind::Instant | Kind::Local | Kind::Day => {
            let Ok(moment) = Moment::parse(text) else {
                // The beginning of a time is no time to PostgreSQL, and here stands before all that begin so.
                if is_beginning(text) {
                    return ControlFlow::Continue(None);
                }
                return foreign("a time that is written so", hints::TIME);
            };
            made(quoted(
                match kind {
                    Kind::Instant => moment.to_instant(),
                    Kind::Local => moment.to_local(),
                    _ => moment.to_day(),
                }
                .write(),
            ))
        }
        Kind::List if text == "{}" => made(quoted("[]")),
        Kind::List => foreign("a list written as a text", hints::UNNEST),
        Kind::Json if ["{}", "[]"].contains(&text) => ControlFlow::Continue(None),
        Kind::Json => foreign("JSON compared with a written one", hints::JSON_CONTAINS),
        Kind::Text | Kind::Interval | Kind::Uuid => ControlFlow::Continue(None),
    }
}

/// A year, or a year and a month.
fn is_beginning(text: &str) -> bool {
    let digits =
        |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('-') {
        None => digits(text, 4),
        Some((year, month)) => digits(year, 4) && digits(month, 2),
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
