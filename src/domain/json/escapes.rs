//! Escapes of characters that a text may not hold.

use std::borrow::Cow;

/// What stands for a character that a text may not hold.
const REPLACEMENT: &str = "\\ufffd";

/// NUL characters and lone surrogates replaced, and how many.
pub(super) fn replace_unstorable(string: &str) -> (Cow<'_, str>, usize) {
    let (surrogates, lone) = replace_lone_surrogates(string);
    let (both, nuls) = replace_escapes(&surrogates, |unit, _| (unit == 0).then_some(1));
    match both {
        Some(both) => (Cow::Owned(both), lone + nuls),
        None => (surrogates, lone),
    }
}

/// Lone surrogates replaced, and how many.
pub(super) fn replace_lone_surrogates(string: &str) -> (Cow<'_, str>, usize) {
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
