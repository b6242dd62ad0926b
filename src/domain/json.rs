//! JSON as text, the way a server sent it: read without turning numbers into doubles, escapes into characters or
//! nesting into recursion.
//!
//! Guarantee: nothing here changes a text unless its name says so, and no depth or size of a value overflows a stack.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Number, Value, value::RawValue};

/// What stands for a character that a text may not hold.
const REPLACEMENT: &str = "\\ufffd";

/// The most digits, written out without an exponent, that Postgres's `numeric` is sure to hold.
const MAX_NUMERIC_DIGITS: u64 = 16_000;

/// How many digits the exponents of one text's numbers may stand for: jsonb writes them out whenever it is read, and
/// what becomes too long for one text could never be read again.
const MAX_WRITTEN_OUT: u64 = 16 << 20;

/// The deepest nesting that is sent to Postgres. Its parser goes down with it until `max_stack_depth`, of which a
/// server's default allows some thousands of levels.
const MAX_JSONB_DEPTH: usize = 1_000;

/// The deepest nesting that is taken apart for showing.
const MAX_SHOWN_DEPTH: usize = 60;

/// One JSON value as text, byte for byte as it was sent. Cheap to clone; its `Debug` shows no content.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Bytes);

impl Json {
    /// An object without members.
    pub const fn empty_object() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// A value that shares the memory of the text it stands in.
    ///
    /// # Panics
    /// Never: a value that does not stand in `text` is copied.
    pub(crate) fn within(text: &Bytes, value: &RawValue) -> Self {
        let value = value.get().as_bytes();
        let range = text.as_ptr() as usize..=text.as_ptr() as usize + text.len();
        let start = value.as_ptr() as usize;
        if range.contains(&start) && range.contains(&(start + value.len())) {
            return Self(text.slice_ref(value));
        }
        Self(Bytes::copy_from_slice(value))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Every way to make one checks the text.
        std::str::from_utf8(&self.0).unwrap_or("null")
    }

    /// The members of the object this is, in its order; `None` where it is no object.
    pub fn members(&self) -> Option<Members<'_>> {
        Members::of(self.as_str())
    }
}

impl From<&RawValue> for Json {
    fn from(value: &RawValue) -> Self {
        Self(Bytes::copy_from_slice(value.get().as_bytes()))
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self(Bytes::from(value.to_string()))
    }
}

impl From<&serde_json::Map<String, Value>> for Json {
    fn from(object: &serde_json::Map<String, Value>) -> Self {
        // Every key is a string and no member can fail to serialize.
        Self(Bytes::from(serde_json::to_vec(object).unwrap_or_default()))
    }
}

impl TryFrom<Bytes> for Json {
    type Error = serde_json::Error;

    fn try_from(text: Bytes) -> Result<Self, Self::Error> {
        let value: &RawValue = serde_json::from_slice(&text)?;
        Ok(Self::within(&text, value))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_str(self.as_str()).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&*Box::<RawValue>::deserialize(deserializer)?))
    }
}

/// The members of an object, in its order. Of a name that stands twice the last member counts, as in Postgres.
#[derive(Debug, Clone, Default)]
pub struct Members<'a>(Vec<Member<'a>>);

/// A member of an object.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The name as JSON text, quotes included.
    pub raw_name: &'a str,
    /// The name; lone surrogates in it are replaced.
    pub name: Cow<'a, str>,
    /// The value as JSON text.
    pub value: &'a str,
}

impl<'a> Members<'a> {
    /// Takes an object apart; `None` where the text is no object.
    pub fn of(object: &'a str) -> Option<Self> {
        let Raw(members) = serde_json::from_str(object).ok()?;
        Some(Self(
            members
                .into_iter()
                .map(|(name, value)| Member {
                    raw_name: name.get(),
                    name: text(name.get()).unwrap_or_default(),
                    value: value.get(),
                })
                .collect(),
        ))
    }

    /// The value of that name as JSON text; null counts as missing.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let member = self.0.iter().rev().find(|member| member.name == name)?;
        (member.value != "null").then_some(member.value)
    }

    /// The members in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Member<'a>> {
        self.0.iter()
    }
}

impl<'m, 'a> IntoIterator for &'m Members<'a> {
    type Item = &'m Member<'a>;
    type IntoIter = std::slice::Iter<'m, Member<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Names and values as they stand in the text: a name is read as raw text, too, since one with a lone surrogate is
/// no Rust string.
struct Raw<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::with_capacity(24);
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Raw(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The characters of a JSON string, lone surrogates replaced; `None` where the text is no string.
pub fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    if let Ok(text) = serde_json::from_str::<String>(json) {
        return Some(Cow::Owned(text));
    }
    serde_json::from_str(&replace_lone_surrogates(json).0).ok().map(Cow::Owned)
}

/// The same value as `jsonb` can hold it, and how many pieces had to be replaced: NUL characters and lone surrogates
/// by U+FFFD, numbers beyond `numeric` and whatever lies deeper than [`MAX_JSONB_DEPTH`] by their text.
pub fn for_jsonb(json: &str) -> (Cow<'_, str>, usize) {
    let mut fits = numbers_that_fit();
    let mut nesting = Nesting::default();
    let suspicious = json.contains("\\u")
        || tokens(json).any(|token| {
            nesting.pass(token) > MAX_JSONB_DEPTH || matches!(token, Token::Number(number) if !fits(number))
        });
    if !suspicious {
        return (Cow::Borrowed(json), 0);
    }
    let mut fits = numbers_that_fit();
    let mut nesting = Nesting::default();
    let mut out = String::with_capacity(json.len());
    let mut replaced = 0;
    let mut too_deep = String::new();
    for token in tokens(json) {
        if nesting.pass(token) > MAX_JSONB_DEPTH {
            let (Token::Text(part) | Token::Number(part) | Token::Other(part)) = token;
            too_deep.push_str(part);
            continue;
        }
        if !too_deep.is_empty() {
            // A text always serializes.
            out.push_str(&serde_json::to_string(&too_deep).unwrap_or_default());
            too_deep.clear();
            replaced += 1;
        }
        match token {
            Token::Text(text) => {
                let (clean, count) = replace_unstorable(text);
                out.push_str(&clean);
                replaced += count;
            }
            Token::Number(number) if !fits(number) => {
                out.push('"');
                out.push_str(number);
                out.push('"');
                replaced += 1;
            }
            Token::Number(other) | Token::Other(other) => out.push_str(other),
        }
    }
    if replaced == 0 { (Cow::Borrowed(json), 0) } else { (Cow::Owned(out), replaced) }
}

/// How deep the pieces of a text stand, told one after the other.
#[derive(Default)]
struct Nesting(usize);

impl Nesting {
    /// In how many objects and lists the piece stands; a bracket stands in what it opens or closes.
    fn pass(&mut self, token: Token<'_>) -> usize {
        match token {
            Token::Other("{" | "[") => {
                self.0 += 1;
                self.0
            }
            Token::Other("}" | "]") => {
                self.0 = self.0.saturating_sub(1);
                self.0 + 1
            }
            _ => self.0,
        }
    }
}

/// Tells of one text's numbers, in their order, which jsonb holds.
fn numbers_that_fit() -> impl FnMut(&str) -> bool {
    let mut room = MAX_WRITTEN_OUT;
    move |number| {
        let digits = number.split_once(['e', 'E']).map_or(0, |(_, exponent)| magnitude(exponent));
        let fits = fits_numeric(number) && digits <= room;
        room -= if fits { digits } else { 0 };
        fits
    }
}

/// Whether Postgres's `numeric` holds the number.
pub fn fits_numeric(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    magnitude(exponent).saturating_add(digits.len() as u64) <= MAX_NUMERIC_DIGITS
}

fn magnitude(exponent: &str) -> u64 {
    exponent.parse::<i64>().unwrap_or(i64::MAX).unsigned_abs()
}

/// A value's text without white space between its parts and with one spelling of every string; numbers keep every
/// digit.
pub(super) fn write_canonical(json: &str, out: &mut Vec<u8>) {
    for token in tokens(json) {
        match token {
            Token::Text(string) if string.contains('\\') => match serde_json::from_str::<String>(string) {
                // A string always serializes.
                Ok(plain) => out.extend(serde_json::to_vec(&plain).unwrap_or_default()),
                Err(_) => out.extend_from_slice(string.as_bytes()),
            },
            Token::Text(part) | Token::Number(part) | Token::Other(part) => {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
}

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

/// A piece of valid JSON text. White space is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A string or a name, quotes included.
    Text(&'a str),
    Number(&'a str),
    /// A bracket, a comma, a colon, or one of the three words.
    Other(&'a str),
}

/// The pieces of a valid JSON text, in their order.
pub(crate) fn tokens<'a>(json: &'a str) -> impl Iterator<Item = Token<'a>> {
    let mut rest = json;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let bytes = rest.as_bytes();
        let (length, token): (usize, fn(&'a str) -> Token<'a>) = match bytes.first()? {
            b'"' => (string_length(bytes), Token::Text),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                (bytes.iter().position(|byte| !is_part(byte)).unwrap_or(bytes.len()), Token::Number)
            }
            b'a'..=b'z' => {
                let end = bytes.iter().position(|byte| !byte.is_ascii_lowercase());
                (end.unwrap_or(bytes.len()), Token::Other)
            }
            _ => (1, Token::Other),
        };
        let (token_text, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(token(token_text))
    })
}

fn string_length(bytes: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

fn replace_unstorable(string: &str) -> (Cow<'_, str>, usize) {
    let (surrogates, lone) = replace_lone_surrogates(string);
    let (both, nuls) = replace_escapes(&surrogates, |unit, _| (unit == 0).then_some(1));
    match both {
        Some(both) => (Cow::Owned(both), lone + nuls),
        None => (surrogates, lone),
    }
}

fn replace_lone_surrogates(string: &str) -> (Cow<'_, str>, usize) {
    let is_lone = |unit: u16, next: Option<u16>| match (unit, next) {
        (0xD800..=0xDBFF, Some(0xDC00..=0xDFFF)) => Some(2),
        (0xD800..=0xDFFF, _) => Some(1),
        _ => None,
    };
    let (replaced, count) =
        replace_escapes(string, |unit, next| is_lone(unit, next).filter(|units| *units == 1));
    (replaced.map_or(Cow::Borrowed(string), Cow::Owned), count)
}

/// Replaces the `\uXXXX` for which `bad` says so. It is asked with the unit that directly follows, if there is one;
/// of a pair of surrogates only the first is asked about.
fn replace_escapes(string: &str, bad: impl Fn(u16, Option<u16>) -> Option<usize>) -> (Option<String>, usize) {
    if !string.contains("\\u") {
        return (None, 0);
    }
    let mut out = String::with_capacity(string.len());
    let (mut rest, mut count) = (string, 0);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let unit = unit_at(escape);
        let next = escape.get(6..).and_then(unit_at);
        let length = match unit {
            None => escape.len().min(2),
            Some(unit) if bad(unit, next).is_some() => {
                out.push_str(REPLACEMENT);
                count += 1;
                rest = &escape[6..];
                continue;
            }
            Some(0xD800..=0xDBFF) if matches!(next, Some(0xDC00..=0xDFFF)) => 12,
            Some(_) => 6,
        };
        let (kept, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        out.push_str(kept);
        rest = after;
    }
    out.push_str(rest);
    ((count > 0).then_some(out), count)
}

/// The unit of a `\uXXXX` at the text's beginning.
fn unit_at(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(json: &str) -> String {
        let mut out = Vec::new();
        write_canonical(json, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn members_are_found_whatever_their_values_and_names_hold() {
        let object = r#" {"a": 1e999, "b\u00e9": "\ud800", "\ud800": 1, "n": null, "a": 2.50 } "#;
        let members = Members::of(object).expect("an object");
        assert_eq!(members.get("a"), Some("2.50"), "the last of a name counts");
        assert_eq!(members.get("bé"), Some(r#""\ud800""#));
        assert_eq!(members.get("\u{fffd}"), Some("1"));
        assert_eq!(members.get("n"), None);
        assert!(Members::of("[1]").is_none());
    }

    #[test]
    fn depth_is_no_problem() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(Members::of(&deep).expect("an object").iter().count(), 1);
        assert_eq!(canonical(&deep), deep);
    }

    #[test]
    fn text_replaces_lone_surrogates_and_keeps_pairs() {
        assert_eq!(text(r#""a\ud83d\ude00b""#).as_deref(), Some("a😀b"));
        assert_eq!(text(r#""a\ud83db""#).as_deref(), Some("a\u{fffd}b"));
        assert_eq!(text(r#""\ude00\\ud83d""#).as_deref(), Some("\u{fffd}\\ud83d"));
        assert_eq!(text("1"), None);
    }

    #[test]
    fn jsonb_gets_what_it_can_hold_and_the_rest_is_counted() {
        let (clean, replaced) =
            for_jsonb(r#"{"a":"x\u0000","b\u0000":"\ud800","c":"\\u0000","d":"\ud83d\ude00"}"#);
        assert_eq!(clean, r#"{"a":"x\ufffd","b\ufffd":"\ufffd","c":"\\u0000","d":"\ud83d\ude00"}"#);
        assert_eq!(replaced, 3);
        let (clean, replaced) = for_jsonb(r#"{"a":1e999,"b":1e200000,"c":-1E-99999}"#);
        assert_eq!((&*clean, replaced), (r#"{"a":1e999,"b":"1e200000","c":"-1E-99999"}"#, 2));
        assert!(matches!(for_jsonb(r#"{"a": "\u00e9"}"#), (Cow::Borrowed(_), 0)));
        // Each side of the point counts: numeric holds 16,383 digits behind it.
        assert!(fits_numeric("1.5e-15000") && !fits_numeric(&format!("0.{}e-9000", "1".repeat(9_000))));
        let many = format!("[{}0]", "1e9999,".repeat(2_000));
        let (clean, replaced) = for_jsonb(&many);
        assert_eq!(replaced, 323, "not more than what can be read again");
        assert!(clean.starts_with("[1e9999,") && clean.ends_with("\"1e9999\",0]"), "the first ones fit");
    }

    #[test]
    fn nesting_deeper_than_postgres_takes_stands_there_as_text() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(matches!(for_jsonb(&nested(MAX_JSONB_DEPTH)), (Cow::Borrowed(_), 0)));
        for depth in [MAX_JSONB_DEPTH + 1, 20_000, 1_000_000] {
            let deep = nested(depth);
            let (clean, replaced) = for_jsonb(&deep);
            assert_eq!(replaced, 1, "{depth}");
            assert!(matches!(for_jsonb(&clean), (Cow::Borrowed(_), 0)), "{depth}");
            let rest = depth - MAX_JSONB_DEPTH;
            let text = format!("\"{}1{}\"", "[".repeat(rest), "]".repeat(rest));
            assert!(clean.contains(&text), "{depth}");
        }
        let two =
            format!("{}[\"x\\u0000\"],2,{{}}{}", "[".repeat(MAX_JSONB_DEPTH), "]".repeat(MAX_JSONB_DEPTH));
        let (clean, replaced) = for_jsonb(&two);
        assert_eq!(replaced, 2);
        assert!(clean.contains(r#"["[\"x\\u0000\"]",2,"{}"]"#), "{clean}");
    }

    #[test]
    fn what_is_shown_loses_no_digit_and_no_depth() {
        let value = to_value(
            r#"{"a": 72.50, "b": 0.1, "c": 1e999, "d": 1234567890123456789012, "e": 0.10000000000000000555,
                "f": -0.0, "g": 18446744073709551615, "h": "a\ud800", "i": [1e2, null, true], "j": 1, "j": 2}"#,
        );
        let expected = serde_json::json!({
            "a": 72.5, "b": 0.1, "c": "1e999", "d": "1234567890123456789012", "e": "0.10000000000000000555",
            "f": -0.0, "g": u64::MAX, "h": "a\u{fffd}", "i": [100.0, null, true], "j": 2
        });
        assert_eq!(value, expected);
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        let shown = to_value(&deep).to_string();
        assert_eq!(shown.len(), deep.len() + 2, "the rest stands in quotes");
    }

    #[test]
    fn canonical_text_has_one_spelling_of_strings_and_every_digit() {
        assert_eq!(canonical(r#"{ "a" : [ 1.50 , "\u00e9\/" ] }"#), r#"{"a":[1.50,"é/"]}"#);
        assert_eq!(canonical(r#""\ud800""#), r#""\ud800""#);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_means_the_same_however_it_was_laid_out(value in any_json()) {
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            let compact = serde_json::to_string(&value).expect("JSON");
            prop_assert_eq!(canonical(&pretty), canonical(&compact));
            let tokens_back: serde_json::Value = serde_json::from_str(&canonical(&pretty)).expect("JSON");
            prop_assert!(!tokens_back.to_string().is_empty());
        }

        #[test]
        fn what_a_value_holds_is_shown_as_it_is(value in any_json()) {
            prop_assert_eq!(to_value(&value.to_string()), value);
        }

        #[test]
        fn a_text_that_jsonb_holds_is_not_touched(text in "[^\u{0}]*") {
            let json = serde_json::to_string(&text).expect("JSON");
            prop_assert_eq!(for_jsonb(&json), (Cow::Borrowed(json.as_str()), 0));
            let read = super::text(&json);
            prop_assert_eq!(read.as_deref(), Some(text.as_str()));
        }
    }
}
