//! A text taken apart for showing, without losing a digit.

use std::borrow::Cow;

use serde_json::{Number, Value, value::RawValue};

use super::{
    Member, Members, text,
    tokens::{Token, tokens},
};

/// The deepest nesting that is taken apart for showing.
const MAX_SHOWN_DEPTH: usize = 60;

/// The value for showing. What serde's own value would change is text there: numbers that a double doesn't hold to
/// the last digit, and whatever lies deeper than [`MAX_SHOWN_DEPTH`]. Lone surrogates are replaced; of a name that
/// stands twice the last member counts.
pub fn to_value(json: &str) -> Value {
    shown(json.trim(), MAX_SHOWN_DEPTH)
}

fn shown(json: &str, depth: usize) -> Value {
    match json.as_bytes().first() {
        Some(b'{' | b'[') if depth == 0 => Value::from(json),
        Some(b'{') => {
            let members = Members::of(json).unwrap_or_default();
            let shown =
                |member: &Member<'_>| (member.name.clone().into_owned(), shown(member.value, depth - 1));
            Value::Object(members.iter().map(shown).collect())
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            items.into_iter().map(|item| shown(item.get(), depth - 1)).collect()
        }
        Some(b'"') => text(json).map_or(Value::Null, |text| Value::from(&*text)),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'-' | b'0'..=b'9') => exact_number(json).map_or_else(|| Value::from(json), Value::Number),
        _ => Value::Null,
    }
}

/// The same JSON with those numbers as texts that serde's own value would change; the others stay as they are written.
pub(crate) fn with_exact_numbers(json: &str) -> Cow<'_, str> {
    let changes = |token: &Token<'_>| matches!(token, Token::Number(number) if exact_number(number).is_none() && number.parse().is_ok_and(f64::is_finite));
    if !tokens(json).any(|token| changes(&token)) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for token in tokens(json) {
        let (Token::Text(text) | Token::Number(text) | Token::Other(text)) = token;
        if changes(&token) {
            out.extend(["\"", text, "\""]);
        } else {
            out.push_str(text);
        }
    }
    Cow::Owned(out)
}

/// `None` where no number of serde's is the same to the last digit.
fn exact_number(digits: &str) -> Option<Number> {
    if let Ok(number) = digits.parse::<i64>() {
        return Some(number.into());
    }
    if let Ok(number) = digits.parse::<u64>() {
        return Some(number.into());
    }
    let double: f64 = digits.parse().ok()?;
    let number = Number::from_f64(double)?;
    (decimal(digits)? == decimal(&number.to_string())?).then_some(number)
}

/// A number's sign, its digits without the zeros around them, and the power of ten of the last one.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (sign, unsigned) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (digits, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    let power = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let power = power.checked_add(i64::try_from(all.len() - significant.len()).ok()?)?;
    let significant = significant.trim_start_matches('0');
    Some(if significant.is_empty() {
        (sign, String::new(), 0)
    } else {
        (sign, significant.to_owned(), power)
    })
}
