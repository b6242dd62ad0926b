//! A text as a reader sees it: what shapes are looked for in, with the way back to the text itself.
//!
//! Signs of another width or script that mean the same are one sign here, those nobody sees are left out, and the few
//! that addresses and numbers are made of are decoded from HTML and from URLs.

use std::{borrow::Cow, ops::Range};

use unicode_normalization::char::{decompose_canonical, decompose_compatible};

use crate::text::{deceives, joins};

/// The zeros of the scripts whose digits Unicode does not make ours.
const ZEROS: [char; 15] = [
    '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{e50}', '\u{ed0}', '\u{f20}',
];

/// The longest code of a sign: `&#x00002e;`.
const MAX_CODE: usize = 12;

pub(super) struct Folded<'a> {
    pub(super) text: Cow<'a, str>,
    /// Where each byte comes from; empty where every byte is its own.
    origins: Vec<usize>,
    length: usize,
}

impl<'a> Folded<'a> {
    pub(super) fn of(given: &'a str) -> Self {
        let as_it_is = Self { text: given.into(), origins: Vec::new(), length: given.len() };
        if given.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b'&' | b'%')) {
            return as_it_is;
        }
        let mut text = String::with_capacity(given.len());
        let mut origins = Vec::with_capacity(given.len());
        let mut at = 0;
        while let Some(c) = given[at..].chars().next() {
            let (length, decoded) = coded(&given[at..]).unwrap_or((c.len_utf8(), c));
            fold(decoded, &mut text);
            origins.resize(text.len(), at);
            at += length;
        }
        if text == given { as_it_is } else { Self { text: text.into(), origins, length: given.len() } }
    }

    /// Where in the text given a part of the folded one stands.
    pub(super) fn origin(&self, part: &Range<usize>) -> Range<usize> {
        let at = |at: usize| {
            if self.origins.is_empty() { at } else { self.origins.get(at).copied().unwrap_or(self.length) }
        };
        let start = at(part.start);
        // The last sign is taken whole, with what nobody sees behind it.
        let mut end = part.end;
        while self
            .origins
            .get(end)
            .is_some_and(|origin| Some(origin) == self.origins.get(end.wrapping_sub(1)))
        {
            end += 1;
        }
        start..at(end)
    }
}

fn fold(c: char, out: &mut String) {
    if c.is_ascii() {
        out.push(c);
        return;
    }
    // What deceived was replaced before.
    if deceives(c) || joins(c) || c == char::REPLACEMENT_CHARACTER {
        return;
    }
    if let Some(digit) =
        ZEROS.iter().filter_map(|zero| (c as u32).checked_sub(*zero as u32)).find(|digit| *digit < 10)
    {
        out.extend(char::from_digit(digit, 10));
        return;
    }
    let mut same = String::new();
    let mut compatible = String::new();
    decompose_canonical(c, |part| same.push(part));
    decompose_compatible(c, |part| compatible.push(part));
    // Letters keep their accents.
    if same == compatible { out.push(c) } else { out.push_str(&compatible) }
}

/// A sign that stands in another's spelling at the beginning of a text, and the length of that.
fn coded(text: &str) -> Option<(usize, char)> {
    if let Some(rest) = text.strip_prefix('%') {
        let code = u8::from_str_radix(rest.get(..2)?, 16).ok()?;
        return matches!(code, b'@' | b'+' | b'(' | b')' | b'-' | b'.').then_some((3, char::from(code)));
    }
    let rest = text.strip_prefix('&')?;
    let end = rest.bytes().take(MAX_CODE).position(|byte| byte == b';')?;
    let decoded = match &rest[..end] {
        "commat" => '@',
        "period" => '.',
        "nbsp" => ' ',
        "plus" => '+',
        code => {
            let code = code.strip_prefix('#')?;
            let hexadecimal = code.strip_prefix(['x', 'X']).map(|code| u32::from_str_radix(code, 16));
            char::from_u32(hexadecimal.unwrap_or_else(|| code.parse()).ok()?)?
        }
    };
    Some((end + 2, decoded))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signs_that_mean_the_same_are_one() {
        for (given, folded) in [
            ("ana＠b﹒co", "ana@b.co"),
            ("ana&#64;b&#x2e;co &commat; %40 100% &x;", "ana@b.co @ @ 100% &x;"),
            ("１１ ٩١٢٣ 𝟗 ９\u{200b}8\u{ad}7\u{200d}6\u{fffd}5", "11 9123 9 98765"),
            ("João, às 10h … ã", "João, às 10h ... ã"),
        ] {
            assert_eq!(Folded::of(given).text, folded);
        }
    }

    proptest! {
        #[test]
        fn every_part_leads_back_to_a_part_of_the_text(given in any::<String>(), start in 0usize..40, length in 0usize..40) {
            let folded = Folded::of(&given);
            let end = (start + length).min(folded.text.len());
            prop_assume!(start <= end && folded.text.is_char_boundary(start) && folded.text.is_char_boundary(end));
            let origin = folded.origin(&(start..end));
            prop_assert!(given.get(origin).is_some());
            prop_assert_eq!(folded.origin(&(0..folded.text.len())).end, given.len());
        }
    }
}
