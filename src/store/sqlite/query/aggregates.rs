//! `sum` and `avg` as PostgreSQL has them of a `numeric`, see [`decimals`]. [`super::dialect`] calls them where a value is known
//! to be one.

use rusqlite::{
    Connection, Result,
    functions::{Aggregate, Context, FunctionFlags, WindowAggregate},
    types::{Value, ValueRef},
};

use super::{
    decimals::{self, Sum},
    functions::unfit,
    postgres::real,
};

type Of = fn(&Rows) -> Value;

/// Name, and what it makes of the rows.
pub(super) const AGGREGATES: [(&str, Of); 2] = [
    ("pg_avg", |rows| Value::Real(decimals::divide(rows.sum.total(), rows.count))),
    ("pg_sum", |rows| rows.sum.whole().map_or_else(|| Value::Real(rows.sum.total()), Value::Integer)),
];

/// The rows of a group or of a window's frame, without those that are NULL.
#[derive(Default)]
pub(super) struct Rows {
    sum: Sum,
    count: f64,
}

impl Rows {
    /// Takes a row in, or out again where the sign is less than zero.
    fn add(&mut self, context: &Context<'_>, sign: i8) -> Result<()> {
        match context.get_raw(0) {
            ValueRef::Null => return Ok(()),
            ValueRef::Integer(number) => self.sum.add_whole(i128::from(number) * i128::from(sign)),
            _ => self.sum.add(real(context, 0).map_err(unfit)? * f64::from(sign)),
        }
        self.count += f64::from(sign);
        Ok(())
    }
}

struct OfRows(Of);

impl Aggregate<Rows, Value> for OfRows {
    fn init(&self, _: &mut Context<'_>) -> Result<Rows> {
        Ok(Rows::default())
    }

    fn step(&self, context: &mut Context<'_>, rows: &mut Rows) -> Result<()> {
        rows.add(context, 1)
    }

    fn finalize(&self, _: &mut Context<'_>, mut rows: Option<Rows>) -> Result<Value> {
        self.value(rows.as_mut())
    }
}

impl WindowAggregate<Rows, Value> for OfRows {
    fn value(&self, rows: Option<&mut Rows>) -> Result<Value> {
        match rows.filter(|rows| rows.count > 0.0).map(|rows| (self.0)(rows)) {
            None => Ok(Value::Null),
            Some(Value::Real(number)) if !number.is_finite() => Err(unfit("a number is too large")),
            Some(value) => Ok(value),
        }
    }

    fn inverse(&self, context: &mut Context<'_>, rows: &mut Rows) -> Result<()> {
        rows.add(context, -1)
    }
}

pub(super) fn register(connection: &Connection, flags: FunctionFlags) -> Result<()> {
    AGGREGATES
        .into_iter()
        .try_for_each(|(name, of)| connection.create_window_function(name, 1, flags, OfRows(of)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::query::functions;

    #[test]
    fn decimals_are_added_up_by_their_digits_also_in_windows() {
        let connection = Connection::open_in_memory().expect("a connection");
        functions::register(&connection).expect("functions");
        let rows = "(VALUES (1, 0.1), (2, 0.2), (3, NULL), (4, 5), (5, 7), (6, NULL), (7, NULL))";
        let rows = format!("(SELECT column1 AS i, column2 AS n FROM {rows})");
        let all = |sql: &str| -> Vec<Value> {
            let mut statement = connection.prepare(sql).expect(sql);
            let values = statement.query_map([], |row| row.get(0)).expect(sql);
            values.collect::<Result<_>>().expect(sql)
        };
        let real = Value::Real;
        for (sql, values) in [
            ("SELECT pg_sum(n) FROM t WHERE i < 3", vec![real(0.3)]),
            ("SELECT pg_avg(n) FROM t WHERE i < 4", vec![real(0.15)]),
            ("SELECT pg_sum(n) FROM t WHERE i > 3", vec![Value::Integer(12)]),
            ("SELECT pg_sum(n) FROM t WHERE i > 5", vec![Value::Null]),
            ("SELECT pg_avg(n) FROM t WHERE i > 9", vec![Value::Null]),
            (
                "SELECT pg_sum(DISTINCT n) FILTER (WHERE i < 3) FROM (SELECT * FROM t UNION ALL SELECT * FROM t)",
                vec![real(0.3)],
            ),
            (
                "SELECT pg_sum(n) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
                vec![real(0.1), real(0.3), real(0.2), real(5.0), real(12.0), real(7.0), Value::Null],
            ),
            (
                "SELECT pg_avg(n) OVER (ORDER BY i ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING) FROM t WHERE i < 5",
                vec![real(0.2), real(5.0), real(5.0), Value::Null],
            ),
        ] {
            assert_eq!(all(&format!("WITH t AS {rows} {sql}")), values, "{sql}");
        }
        let text = connection.query_row("SELECT pg_sum('x')", [], |row| row.get::<_, Value>(0));
        assert!(text.is_err());
    }
}
