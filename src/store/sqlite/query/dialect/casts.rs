//! Casts, and parts of times.

use std::ops::ControlFlow;

use sqlparser::ast::{CharacterLength, DataType, ExactNumberInfo, Expr, Interval, TimezoneInfo, Value};

use super::{
    Foreign, Translation, foreign,
    forms::{function_name, interval_text, literal, nested, plain_arguments, quoted, template, unnested},
    hints,
    kinds::Kind,
};

impl Translation<'_> {
    pub(super) fn cast(&self, inner: &Expr, to: &DataType) -> ControlFlow<Foreign, Expr> {
        let made = |sql: &str| ControlFlow::Continue(template(sql, &[inner]));
        match to {
            DataType::Text => self.as_text(inner),
            DataType::Uuid if self.kinds.of_expr(inner) == Some(Kind::Uuid) => {
                ControlFlow::Continue(inner.clone())
            }
            DataType::Uuid => made("pg_uuid(_0)"),
            DataType::Varchar(length)
            | DataType::CharacterVarying(length)
            | DataType::CharVarying(length) => {
                let text = self.as_text(inner)?;
                ControlFlow::Continue(match length {
                    Some(CharacterLength::IntegerLength { length, .. }) => {
                        template(&format!("substr(_0, 1, {length})"), &[&text])
                    }
                    _ => text,
                })
            }
            DataType::SmallInt(_)
            | DataType::Int2(_)
            | DataType::Int(_)
            | DataType::Int4(_)
            | DataType::Integer(_) => made(self.whole("pg_integer", inner)),
            DataType::BigInt(_) | DataType::Int8(_) => made(self.whole("pg_bigint", inner)),
            DataType::Numeric(info) | DataType::Decimal(info) => match info {
                ExactNumberInfo::None => made("pg_number(_0)"),
                ExactNumberInfo::Precision(_) => made("round(pg_number(_0))"),
                ExactNumberInfo::PrecisionAndScale(_, scale) => {
                    made(&format!("pg_round(pg_number(_0), {scale})"))
                }
            },
            DataType::Real
            | DataType::Float(_)
            | DataType::Float4
            | DataType::Float8
            | DataType::Double(_)
            | DataType::DoublePrecision => made("pg_double(_0)"),
            DataType::Boolean | DataType::Bool => made("pg_boolean(_0)"),
            DataType::Date => made("pg_date(_0)"),
            DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                made("pg_timestamp(_0)")
            }
            DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
                made("pg_timestamptz(_0)")
            }
            DataType::Interval { .. } => ControlFlow::Continue(Expr::Interval(Interval {
                value: Box::new(inner.clone()),
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            })),
            // JSON is text.
            DataType::JSON | DataType::JSONB => ControlFlow::Continue(inner.clone()),
            other => foreign(format!("a cast to {other}"), hints::CAST),
        }
    }

    /// A half goes to the even number where it is of a `double precision`.
    fn whole(&self, function: &'static str, inner: &Expr) -> &'static str {
        match (function, self.kinds.of_expr(inner)) {
            ("pg_bigint", Some(Kind::Double)) => "pg_bigint(pg_even(_0))",
            ("pg_bigint", _) => "pg_bigint(_0)",
            (_, Some(Kind::Double)) => "pg_integer(pg_even(_0))",
            _ => "pg_integer(_0)",
        }
    }

    /// As PostgreSQL makes text of it.
    fn as_text(&self, expr: &Expr) -> ControlFlow<Foreign, Expr> {
        let kind = self.kinds.of_expr(expr);
        if kind.is_some_and(Kind::is_fractional) && !is_plain_number(expr) {
            // The two write other digits of it.
            return foreign("the text of a computed number", hints::NUMBER_AS_TEXT);
        }
        ControlFlow::Continue(match kind {
            Some(Kind::Instant | Kind::Local | Kind::Datetime) => template("pg_time_text(_0)", &[expr]),
            Some(Kind::Boolean) => {
                template("CASE WHEN _0 THEN 'true' WHEN NOT _0 THEN 'false' END", &[&nested(expr)])
            }
            Some(Kind::Number | Kind::Double) => template("pg_number_text(_0)", &[expr]),
            Some(Kind::Json) => template("pg_jsonb_text(_0)", &[expr]),
            Some(Kind::List) => return foreign("the text of a list", hints::LIST_AS_TEXT),
            Some(Kind::Text) => expr.clone(),
            _ => template("CAST(_0 AS TEXT)", &[expr]),
        })
    }

    /// Where a value becomes a part of a text, what SQLite would write otherwise.
    pub(super) fn show(&self, expr: &mut Expr) -> ControlFlow<Foreign> {
        match self.kinds.of_expr(expr) {
            None
            | Some(Kind::Text | Kind::Whole | Kind::Integer | Kind::Day | Kind::Interval | Kind::Uuid) => {}
            Some(_) => *expr = self.as_text(expr)?,
        }
        ControlFlow::Continue(())
    }

    /// Where a value becomes a part of JSON, what SQLite would write as a number or as a text.
    pub(super) fn embed(&self, expr: &mut Expr) {
        match self.kinds.of_expr(expr) {
            Some(Kind::Boolean) => {
                let of = nested(expr);
                *expr = template("json(CASE WHEN _0 THEN 'true' WHEN NOT _0 THEN 'false' END)", &[&of]);
            }
            Some(Kind::Json | Kind::List) => *expr = template("json(_0)", &[expr]),
            _ => {}
        }
    }

    /// A part of a time, or of the time between two: a `numeric` by `pg_part`, a `double precision` by `date_part`.
    pub(super) fn part(&self, function: &str, field: &str, of: &Expr) -> Expr {
        let field = quoted(field);
        if let Some((later, earlier)) = self.kinds.difference(of) {
            return template("pg_part_between(_0, _1, _2)", &[&field, later, earlier]);
        }
        match unnested(of) {
            Expr::Interval(interval) if literal(&field) == Some("epoch") => {
                template("pg_epoch(_0)", &[&interval_text(interval)])
            }
            _ => template(&format!("{function}(_0, _1)"), &[&field, of]),
        }
    }
}

/// A column, a number that is whole, or one that is written as both write it.
fn is_plain_number(expr: &Expr) -> bool {
    match unnested(expr) {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Ceil { .. } | Expr::Floor { .. } => true,
        Expr::UnaryOp { expr, .. } => is_plain_number(expr),
        Expr::Value(value) => match &value.value {
            Value::Number(written, _) => {
                written.parse().is_ok_and(|number: f64| number.to_string() == *written)
            }
            _ => false,
        },
        Expr::Function(call) => match function_name(&call.name).as_str() {
            "floor" | "ceil" | "ceiling" | "sign" | "pg_even" => true,
            "round" | "trunc" => plain_arguments(&call.args).len() == 1,
            "date_part" | "pg_part" => plain_arguments(&call.args)
                .first()
                .and_then(|field| literal(field))
                .is_some_and(|field| !["epoch", "second", "milliseconds"].contains(&field)),
            _ => false,
        },
        _ => false,
    }
}
