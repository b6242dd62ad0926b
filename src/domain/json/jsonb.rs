//! What Postgres's `jsonb` can hold of a text.

use std::borrow::Cow;

use super::{
    escapes::replace_unstorable,
    tokens::{Token, tokens},
};

/// The most digits, written out without an exponent, that Postgres's `numeric` is sure to hold.
const MAX_NUMERIC_DIGITS: u64 = 16_000;

/// How many digits the exponents of one text's numbers may stand for: jsonb writes them out whenever it is read, and
/// what becomes too long for one text could never be read again.
const MAX_WRITTEN_OUT: u64 = 16 << 20;

/// The deepest nesting that is sent to Postgres. Its parser goes down with it until `max_stack_depth`, of which a
/// server's default allows some thousands of levels.
pub(super) const MAX_JSONB_DEPTH: usize = 1_000;

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
