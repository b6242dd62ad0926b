//! Casts, and parts of times.

use std::ops::ControlFlow;

use sqlparser::ast::{CharacterLength, DataType, ExactNumberInfo, Expr, Interval, TimezoneInfo};

use super::{
    Foreign, Translation, foreign,
    forms::{interval_text, json_text, literal, nested, quoted, template, unnested},
    hints,
    kinds::Kind,
};

impl Translation<'_> {
    pub(super) fn cast(&self, inner: &Expr, to: &DataType) -> ControlFlow<Foreign, Expr> {
        let made = |sql: &str| ControlFlow::Continue(template(sql, &[inner]));
        match to {
            DataType::Text | DataType::Uuid => ControlFlow::Continue(self.as_text(inner)),
            DataType::Varchar(length)
            | DataType::CharacterVarying(length)
            | DataType::CharVarying(length) => {
                let text = self.as_text(inner);
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
            | DataType::Integer(_)
            | DataType::BigInt(_)
            | DataType::Int8(_) => made("pg_integer(_0)"),
            DataType::Numeric(info) | DataType::Decimal(info) => match info {
                ExactNumberInfo::None => made("pg_number(_0)"),
                ExactNumberInfo::Precision(_) => made("round(pg_number(_0))"),
                ExactNumberInfo::PrecisionAndScale(_, scale) => {
                    made(&format!("round(pg_number(_0), {scale})"))
                }
            },
            DataType::Real
            | DataType::Float(_)
            | DataType::Float4
            | DataType::Float8
            | DataType::Double(_)
            | DataType::DoublePrecision => made("pg_number(_0)"),
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
            other => foreign(format!("nothing can be turned into {other}"), hints::CAST),
        }
    }

    /// As PostgreSQL makes text of it.
    fn as_text(&self, expr: &Expr) -> Expr {
        match self.kinds.of_expr(expr) {
            Some(Kind::Instant | Kind::Local) => template("pg_time_text(_0)", &[expr]),
            Some(Kind::Boolean) => {
                template("CASE WHEN _0 THEN 'true' WHEN NOT _0 THEN 'false' END", &[&nested(expr)])
            }
            _ => template("CAST(_0 AS TEXT)", &[&json_text(expr).unwrap_or_else(|| expr.clone())]),
        }
    }

    /// A part of a time, or of the time between two.
    pub(super) fn part(&self, field: &str, of: &Expr) -> Expr {
        let field = quoted(field);
        if let Some((later, earlier)) = self.kinds.difference(of) {
            return template("pg_part_between(_0, _1, _2)", &[&field, later, earlier]);
        }
        match unnested(of) {
            Expr::Interval(interval) if literal(&field) == Some("epoch") => {
                template("pg_epoch(_0)", &[&interval_text(interval)])
            }
            _ => template("date_part(_0, _1)", &[&field, of]),
        }
    }
}
