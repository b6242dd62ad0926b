//! Operators that mean other things of times, intervals, lists and JSON than SQLite's of texts.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Interval};

use super::{
    Foreign, Translation, foreign,
    forms::{
        interval_text, json_key, json_path, json_text, literal, nested, quoted, template, timed, unnested,
    },
    hints,
    kinds::Kind,
};
use crate::store::sqlite::query::times::Moment;

impl Translation<'_> {
    pub(super) fn operator(
        &self,
        left: &mut Expr,
        op: &BinaryOperator,
        right: &mut Expr,
    ) -> ControlFlow<Foreign, Option<Expr>> {
        use BinaryOperator as Op;
        let (a, b) = (self.kinds.of_expr(left), self.kinds.of_expr(right));
        if *op == Op::Divide && [a, b].contains(&Some(Kind::Number)) {
            // SQLite would cut what is left of two whole numbers.
            *left = template("CAST(_0 AS REAL)", &[left]);
        }
        let other_than_number = |kind: &Kind| *kind != Kind::Number;
        let (a, b) = (a.filter(other_than_number), b.filter(other_than_number));
        let made = |sql: &str, parts: &[&Expr]| ControlFlow::Continue(Some(template(sql, parts)));
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
                self.compare(left, right);
                self.compare(right, left);
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
                let arrow = if *op == Op::HashArrow { "->" } else { "->>" };
                made(&format!("(_0 {arrow} _1)"), &[left, &quoted(path)])
            }
            (Op::Question, ..) => match literal(right) {
                Some(key) => made("(json_type(_0, _1) IS NOT NULL)", &[left, &quoted(json_key(key))]),
                None => foreign("? with something else than a text", hints::JSON_CONTAINS),
            },
            _ => ControlFlow::Continue(None),
        }
    }

    /// Makes `other` comparable with `at`: a text in the form that times have, an interval in seconds, and JSON as text
    /// where it is compared with text.
    pub(super) fn compare(&self, at: &mut Expr, other: &mut Expr) {
        if let (Some(Kind::Interval), Some(Kind::Interval)) =
            (self.kinds.of_expr(at), self.kinds.of_expr(other))
        {
            for side in [at, other] {
                if let Some((later, earlier)) = self.kinds.difference(side) {
                    *side = template("pg_part_between('epoch', _0, _1)", &[later, earlier]);
                } else if let Expr::Interval(interval) = unnested(side) {
                    *side = template("pg_interval_seconds(_0)", &[&interval_text(interval)]);
                }
            }
            return;
        }
        if literal(other).is_some()
            && let Some(text) = json_text(at)
        {
            *at = text;
            return;
        }
        let (Some(kind), of_other) = (self.kinds.of_expr(at), self.kinds.of_expr(other)) else { return };
        if let Some(text) = literal(other) {
            if kind == Kind::Number && text.trim().parse::<f64>().is_ok_and(f64::is_finite) {
                *other = template("pg_number(_0)", &[other]);
            }
            let Some(text) = literal(other) else { return };
            // What is no time, or only its beginning, is compared as text.
            let moment = Moment::parse(text).ok();
            let moment = moment.and_then(|moment| match kind {
                Kind::Instant => Some(moment.to_instant()),
                Kind::Local => Some(moment.to_local()),
                Kind::Day => Some(moment.to_day()),
                _ => None,
            });
            if let Some(moment) = moment {
                *other = quoted(moment.write());
            }
            return;
        }
        match (kind, of_other) {
            (Kind::Instant, Some(Kind::Local | Kind::Day)) => {
                *other = template("pg_timestamptz(_0)", &[other]);
            }
            (Kind::Local, Some(Kind::Day)) => *other = template("pg_timestamp(_0)", &[other]),
            _ => {}
        }
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
