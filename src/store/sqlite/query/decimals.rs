//! Sums, products and quotients, also over many rows, as PostgreSQL's `numeric` has them: of the decimal digits of both numbers, where those of
//! SQLite's doubles make 0.30000000000000004 of 0.1 and 0.2. What comes out is the nearest double again.

/// So many digits come back from a double as they were written. A number of more is what a quotient or a root left of
/// itself: by its digits, three thirds would be less than one.
const MAX_DIGITS: usize = 15;

/// Up to here every whole number is a double.
const MAX_WHOLE: u64 = 1 << 53;

/// Of a sum over rows no more digits stand behind the point, so that it has room for as many before it.
const MAX_PLACES: i32 = 20;

/// A number without its point, and how many digits stand behind that.
#[derive(Clone, Copy, Default)]
struct Decimal {
    digits: i128,
    places: i32,
}

impl Decimal {
    /// None where the number has more digits than a double keeps.
    fn of(number: f64) -> Option<Self> {
        let written = format!("{number:e}");
        let (digits, exponent) = written.split_once('e')?;
        let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let digits = digits.replace('.', "");
        if digits.trim_start_matches('-').len() > MAX_DIGITS {
            return None;
        }
        let places = i32::try_from(fraction).ok()? - exponent.parse::<i32>().ok()?;
        Some(Self { digits: digits.parse().ok()?, places })
    }

    fn plus(self, other: Self) -> Option<Self> {
        let (a, b, places) = aligned(self, other)?;
        Some(Self { digits: a.checked_add(b)?, places })
    }

    fn nearest(self) -> Option<f64> {
        format!("{}e{}", self.digits, -self.places).parse().ok()
    }
}

/// The digits of both with as many places, and how many those are.
fn aligned(a: Decimal, b: Decimal) -> Option<(i128, i128, i32)> {
    let places = a.places.max(b.places);
    let digits = |of: Decimal| {
        let factor = 10_i128.checked_pow(u32::try_from(places - of.places).ok()?)?;
        of.digits.checked_mul(factor)
    };
    Some((digits(a)?, digits(b)?, places))
}

pub(super) fn add(a: f64, b: f64) -> f64 {
    by_digits(a, b, a + b, |a, b| a.plus(b)?.nearest())
}

pub(super) fn subtract(a: f64, b: f64) -> f64 {
    add(a, -b)
}

pub(super) fn multiply(a: f64, b: f64) -> f64 {
    by_digits(a, b, a * b, |a, b| {
        Decimal { digits: a.digits.checked_mul(b.digits)?, places: a.places + b.places }.nearest()
    })
}

pub(super) fn divide(a: f64, b: f64) -> f64 {
    by_digits(a, b, a / b, |a, b| {
        let (a, b, _) = aligned(a, b)?;
        Some(whole(a)? / whole(b)?)
    })
}

#[expect(clippy::cast_precision_loss, reason = "checked before")]
fn whole(digits: i128) -> Option<f64> {
    let digits = i64::try_from(digits).ok()?;
    (digits.unsigned_abs() <= MAX_WHOLE).then_some(digits as f64)
}

/// What is reckoned of the digits, or what is `nearest` as of doubles: those of whole numbers have the same digits.
fn by_digits(a: f64, b: f64, nearest: f64, of: impl FnOnce(Decimal, Decimal) -> Option<f64>) -> f64 {
    let decimal = || of(Decimal::of(a)?, Decimal::of(b)?);
    let made = if a.fract() == 0.0 && b.fract() == 0.0 { nearest } else { decimal().unwrap_or(nearest) };
    // Minus zero is zero.
    made + 0.0
}

/// A sum over rows. What is added with the other sign is taken from it again.
#[derive(Default)]
pub(super) struct Sum {
    exact: Decimal,
    /// The sum of the doubles that have too many digits, and what rounding has lost of it.
    rest: f64,
    lost: f64,
}

impl Sum {
    pub(super) fn add(&mut self, number: f64) {
        match Decimal::of(number).filter(|decimal| decimal.places <= MAX_PLACES) {
            Some(decimal) => self.add_decimal(decimal),
            None => self.add_rest(number),
        }
    }

    pub(super) fn add_whole(&mut self, number: i128) {
        self.add_decimal(Decimal { digits: number, places: 0 });
    }

    fn add_decimal(&mut self, decimal: Decimal) {
        match self.exact.plus(decimal) {
            Some(exact) => self.exact = exact,
            None => self.add_rest(decimal.nearest().unwrap_or(f64::NAN)),
        }
    }

    fn add_rest(&mut self, number: f64) {
        let sum = self.rest + number;
        let (larger, smaller) =
            if self.rest.abs() >= number.abs() { (self.rest, number) } else { (number, self.rest) };
        self.lost += (larger - sum) + smaller;
        self.rest = sum;
    }

    /// Of whole numbers alone.
    pub(super) fn whole(&self) -> Option<i64> {
        let is_whole = self.exact.places == 0 && self.rest == 0.0 && self.lost == 0.0;
        i64::try_from(self.exact.digits).ok().filter(|_| is_whole)
    }

    pub(super) fn total(&self) -> f64 {
        add(self.exact.nearest().unwrap_or(f64::NAN), self.rest + self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the very doubles are meant")]
    fn numbers_are_reckoned_with_by_their_decimal_digits() {
        assert_eq!(add(0.1, 0.2), 0.3);
        assert_eq!(subtract(0.3, 0.1), 0.2);
        assert_eq!(multiply(3.0, 0.1), 0.3);
        assert_eq!(multiply(1.255, 100.0), 125.5);
        assert_eq!(multiply(3.0, 1.005), 3.015);
        assert_eq!(divide(0.3, 0.1), 3.0);
        assert_eq!(divide(50.0, 20.0), 2.5);
        assert_eq!(add(1e300, 0.5), 1e300);
        assert_eq!(multiply(1e-300, 1.5), 1.5e-300);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "the very doubles are meant")]
    fn what_is_left_of_a_quotient_is_reckoned_with_as_a_double() {
        assert_eq!(multiply(divide(2.0, 3.0), 3.0), 2.0);
        assert_eq!(add(divide(1.0, 3.0), divide(2.0, 3.0)), 1.0);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "the very doubles are meant")]
    fn a_sum_over_rows_has_the_digits_of_all_that_are_in_it() {
        let total = |numbers: &[f64]| {
            let mut sum = Sum::default();
            for number in numbers {
                sum.add(*number);
            }
            sum.total()
        };
        assert_eq!(total(&[]), 0.0);
        assert_eq!(total(&[0.1; 10]), 1.0);
        assert_eq!(total(&[1e15, 0.1, 0.2, -1e15]), 0.3);
        assert_eq!(total(&[0.1, 0.7, -0.7, 0.2]), 0.3);
        assert_eq!(total(&[1.0 / 3.0, 2.0 / 3.0, 0.5]), 1.5);
        assert_eq!(total(&[0.1, 1e300, 0.2]), 1e300);
        assert_eq!(total(&[1e-300, 1e-300]), 2e-300);
        assert_eq!(total(&[1e38, 0.5, -1e38]), 0.5);
        let mut whole = Sum::default();
        whole.add_whole(i128::from(i64::MAX) - 1);
        whole.add_whole(1);
        assert_eq!(whole.whole(), Some(i64::MAX));
        whole.add(0.5);
        assert_eq!(whole.whole(), None);
    }
}
