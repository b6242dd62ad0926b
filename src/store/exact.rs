//! Numbers and JSON as the values that clients are shown, without losing a digit.

use serde_json::{Map, Number, Value, value::RawValue};

use crate::domain::{Members, json::text};

/// Deeper values are shown as their text: whoever writes them out again would recurse as deeply.
const MAX_DEPTH: usize = 32;

/// A number as JSON: as a number where that keeps every digit, else as a text.
pub(super) fn number(digits: &str) -> Value {
    if let Ok(whole) = digits.parse::<i64>() {
        return whole.into();
    }
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.into();
    }
    double(digits).and_then(Number::from_f64).map_or_else(|| digits.into(), Value::Number)
}

/// The double that is written with exactly these digits; `None` where there is none.
pub(super) fn double(digits: &str) -> Option<f64> {
    let double: f64 = digits.parse().ok()?;
    // The shortest text that leads back to the double.
    (double.is_finite() && decimal(digits)? == decimal(&format!("{double:e}"))?).then_some(double)
}

/// JSON text as a value.
pub(super) fn json(json: &str) -> Value {
    value(json.trim(), 0)
}

fn value(json: &str, depth: usize) -> Value {
    let as_text = || Value::String(json.to_owned());
    match json.as_bytes().first() {
        Some(b'{' | b'[') if depth == MAX_DEPTH => as_text(),
        Some(b'{') => Members::of(json).map_or_else(as_text, |members| {
            let member = |name: &str, member: &str| (name.to_owned(), value(member, depth + 1));
            Value::Object(members.iter().map(|one| member(&one.name, one.value)).collect::<Map<_, _>>())
        }),
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(json)
            .map_or_else(|_| as_text(), |items| items.into_iter().map(|item| value(item.get(), depth + 1)).collect()),
        Some(b'"') => text(json).map_or_else(as_text, |text| text.into_owned().into()),
        Some(b'-' | b'0'..=b'9') => number(json),
        _ => serde_json::from_str(json).unwrap_or_else(|_| as_text()),
    }
}

/// Sign, digits without zeros around them, and the power of ten of the last digit.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let mut exponent: i64 = exponent.parse().ok()?;
    let unsigned = mantissa.trim_start_matches(['-', '+']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    exponent -= i64::try_from(fraction.len()).ok()?;
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    exponent += i64::try_from(digits.len() - trimmed.len()).ok()?;
    let trimmed = trimmed.trim_start_matches('0');
    if trimmed.is_empty() {
        return Some((false, String::new(), 0));
    }
    Some((mantissa.starts_with('-'), trimmed.to_owned(), exponent))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_one_where_no_digit_is_lost() {
        for (digits, shown) in [
            ("72.50", json!(72.5)),
            ("-0.1", json!(-0.1)),
            ("1e3", json!(1000.0)),
            ("0.000", json!(0.0)),
            ("9223372036854775807", json!(i64::MAX)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1234567890123456789012", json!("1234567890123456789012")),
            ("0.1234567890123456789", json!("0.1234567890123456789")),
            ("1e999", json!("1e999")),
            ("1e22", json!(1e22)),
        ] {
            assert_eq!(number(digits), shown, "{digits}");
        }
        assert_eq!(double("0.30000000000000004"), Some(0.1 + 0.2));
        assert_eq!(double("0.300000000000000040"), Some(0.1 + 0.2));
        assert_eq!(double("0.30000000000000003"), None);
    }

    #[test]
    fn json_is_shown_as_it_is_and_what_no_value_can_hold_as_text() {
        let shown = super::json(r#" {"a": [1.50, 1e999, "\ud800é"], "b": {"c": null, "d": true}} "#);
        assert_eq!(shown, json!({"a": [1.5, "1e999", "\u{fffd}é"], "b": {"c": null, "d": true}}));
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(super::json(&deep).to_string().len() > 4_000);
    }
}
