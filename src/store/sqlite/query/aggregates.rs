//! `sum` and `avg` as PostgreSQL has them of a `numeric`, see [`decimals`]. [`super::dialect`] calls them where a value is known
//! to be one. And `percentile_cont`, which SQLite has not, and what takes the place of a query that may have one row only.

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

pub(super) const PERCENTILE: &str = "pg_percentile";
pub(super) const ONLY: &str = "pg_only";

/// What went wrong where a query in the place of a value has a second row.
pub(super) const SEVERAL_ROWS: &str = "a query in the place of one value found several rows";

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

/// `pg_percentile(x, p)`: what stands at that part of the way through the numbers in their order, between two of them in
/// proportion, as PostgreSQL's `percentile_cont`.
struct Percentile;

impl Aggregate<(Vec<f64>, f64), Option<f64>> for Percentile {
    fn init(&self, _: &mut Context<'_>) -> Result<(Vec<f64>, f64)> {
        Ok((Vec::new(), 0.0))
    }

    fn step(&self, context: &mut Context<'_>, (numbers, part): &mut (Vec<f64>, f64)) -> Result<()> {
        if context.get_raw(0) != ValueRef::Null {
            numbers.push(real(context, 0).map_err(unfit)?);
            *part = real(context, 1).map_err(unfit)?;
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, rows: Option<(Vec<f64>, f64)>) -> Result<Option<f64>> {
        let Some((mut numbers, part)) = rows.filter(|(numbers, _)| !numbers.is_empty()) else {
            return Ok(None);
        };
        if !(0.0..=1.0).contains(&part) {
            return Err(unfit("a percentile is not between 0 and 1"));
        }
        numbers.sort_by(f64::total_cmp);
        #[allow(clippy::cast_precision_loss)] // there are fewer rows than a double counts
        let place = part * (numbers.len() - 1) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a place among them
        let (low, high) = (numbers[place.floor() as usize], numbers[place.ceil() as usize]);
        Ok(Some(low + place.fract() * (high - low)))
    }
}

/// `pg_only(x)`: of the only row; NULL where there is none.
struct Only;

impl Aggregate<Option<Value>, Value> for Only {
    fn init(&self, _: &mut Context<'_>) -> Result<Option<Value>> {
        Ok(None)
    }

    fn step(&self, context: &mut Context<'_>, row: &mut Option<Value>) -> Result<()> {
        if row.is_some() {
            return Err(unfit(SEVERAL_ROWS));
        }
        *row = Some(context.get(0)?);
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, row: Option<Option<Value>>) -> Result<Value> {
        Ok(row.flatten().unwrap_or(Value::Null))
    }
}

pub(super) fn register(connection: &Connection, flags: FunctionFlags) -> Result<()> {
    connection.create_aggregate_function(ONLY, 1, flags, Only)?;
    connection.create_aggregate_function(PERCENTILE, 2, flags, Percentile)?;
    AGGREGATES
        .into_iter()
        .try_for_each(|(name, of)| connection.create_window_function(name, 1, flags, OfRows(of)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::query::functions;

    #[test]
    fn aggregates_take_the_rows_of_groups_and_windows() {
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
        for (sql, values) in [
            ("SELECT pg_percentile(n, 0.5) FROM t", vec![real(2.6)]),
            ("SELECT pg_percentile(n, 0.5) FILTER (WHERE i <> 5) FROM t", vec![real(0.2)]),
            ("SELECT pg_percentile(n, 0) FROM t", vec![real(0.1)]),
            ("SELECT pg_percentile(n, 1) FROM t", vec![real(7.0)]),
            ("SELECT pg_percentile(n, 0.5) FROM t WHERE n IS NULL", vec![Value::Null]),
        ] {
            assert_eq!(all(&format!("WITH t AS {rows} {sql}")), values, "{sql}");
        }
        for (sql, values) in [
            ("SELECT pg_only(n) FROM t WHERE i = 4", vec![Value::Integer(5)]),
            ("SELECT pg_only(n) FROM t WHERE i = 3", vec![Value::Null]),
            ("SELECT pg_only(n) FROM t WHERE i = 9", vec![Value::Null]),
        ] {
            assert_eq!(all(&format!("WITH t AS {rows} {sql}")), values, "{sql}");
        }
        let several = format!("WITH t AS {rows} SELECT pg_only(n) FROM t WHERE i IN (3, 6)");
        let several = connection.query_row(&several, [], |row| row.get::<_, Value>(0));
        assert!(several.expect_err("two rows").to_string().contains(SEVERAL_ROWS));
        let wrong = connection.query_row("SELECT pg_percentile(1, 90)", [], |row| row.get::<_, Value>(0));
        assert!(wrong.is_err());
        let text = connection.query_row("SELECT pg_sum('x')", [], |row| row.get::<_, Value>(0));
        assert!(text.is_err());
    }
}
