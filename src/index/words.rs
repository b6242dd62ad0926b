//! How text is cut into words, the same for every adapter: as the search servers' `standard` tokenizer with
//! `lowercase` and `asciifolding` does it, of text whose accents are in one sign with their letters.

use std::{ops::RangeInclusive, sync::LazyLock};

use regex::Regex;
use tantivy::tokenizer::{AsciiFoldingFilter, RawTokenizer, TextAnalyzer, Token, TokenStream, Tokenizer};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::{UWordBoundIndices, UnicodeSegmentation};

/// A longer word is cut, as the servers do.
const MAX_WORD: usize = 255;

/// Accents that are signs of their own.
const ACCENTS: RangeInclusive<char> = '\u{300}'..='\u{36f}';

/// Lowers, cuts and folds.
pub(super) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(Words::default()).filter(AsciiFoldingFilter).build()
}

/// The words of a text.
pub(crate) fn of(text: &str) -> Vec<String> {
    collected(analyzer(), text)
}

/// Lower case and without accents, in one piece.
pub(super) fn folded(text: &str) -> String {
    let whole = TextAnalyzer::builder(RawTokenizer::default()).filter(AsciiFoldingFilter).build();
    collected(whole, &lowered(text)).pop().unwrap_or_default()
}

/// With every accent in one sign with its letter, where there is one: the servers fold no other.
pub(super) fn composed(text: &str) -> String {
    text.nfc().collect()
}

/// Lower case, composed, without the accents that no letter has in one sign: the dot of `İ` is one in lower case.
fn lowered(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().flat_map(char::to_lowercase).nfc().filter(|c| !ACCENTS.contains(c)).collect()
}

fn collected(mut analyzer: TextAnalyzer, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    analyzer.token_stream(text).process(&mut |token| words.push(token.text.clone()));
    words
}

/// Unicode's word boundaries (UAX #29), of which every piece with a letter, a digit or a pictograph is a word.
#[derive(Clone, Default)]
struct Words {
    /// What is cut, and what a token's offsets are in.
    lowered: String,
    token: Token,
}

struct WordStream<'a> {
    pieces: UWordBoundIndices<'a>,
    /// What is left of a word too long for one token, and where it begins.
    rest: (usize, &'a str),
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.lowered = lowered(text);
        self.token.reset();
        WordStream { pieces: self.lowered.split_word_bound_indices(), rest: (0, ""), token: &mut self.token }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        if self.rest.1.is_empty() {
            let word = self.pieces.find(|(_, piece)| is_word(piece));
            let Some(word) = word else { return false };
            self.rest = word;
        }
        let (from, word) = self.rest;
        let end = word.char_indices().nth(MAX_WORD).map_or(word.len(), |(at, _)| at);
        let (head, tail) = word.split_at(end);
        self.rest = (from + end, tail);
        self.token.position = self.token.position.wrapping_add(1);
        self.token.offset_from = from;
        self.token.offset_to = from + end;
        self.token.text.clear();
        self.token.text.push_str(head);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

fn is_word(piece: &str) -> bool {
    piece.bytes().any(|byte| byte.is_ascii_alphanumeric())
        || (!piece.is_ascii() && WORDS.as_ref().is_some_and(|words| words.is_match(piece)))
}

/// Fractions and raised numbers are no digits to the servers.
static WORDS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[\p{Alphabetic}\d\p{Extended_Pictographic}\p{Regional_Indicator}]").ok());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_standard_tokenizer_folded() {
        for (text, words) in [
            ("João Conceição", &["joao", "conceicao"][..]),
            ("lead_qualificado", &["lead_qualificado"]),
            ("joao@exemplo.com.br", &["joao", "exemplo.com.br"]),
            ("Av. Paulista, 1.000-B", &["av", "paulista", "1.000", "b"]),
            (" !?… ½ ²", &[]),
            ("oi 👍🏽 tudo❤️bem 🇧🇷", &["oi", "👍🏽", "tudo", "❤\u{fe0f}", "bem", "🇧🇷"]),
            ("٣ Ⅷ", &["٣", "ⅷ"]),
            ("Straße Ærø", &["strasse", "aero"]),
            ("Joa\u{303}o CONCEIC\u{327}A\u{303}O", &["joao", "conceicao"]),
            ("İstanbul i\u{307}stanbul", &["istanbul", "istanbul"]),
            ("\u{439} \u{438}\u{306}", &["\u{439}", "\u{439}"]),
            ("x\u{303}y \u{345}", &["xy"]),
        ] {
            assert_eq!(of(text), words, "{text}");
        }
    }

    #[test]
    fn a_word_longer_than_the_servers_take_is_cut() {
        let lengths: Vec<usize> = of(&"é".repeat(300)).iter().map(String::len).collect();
        assert_eq!(lengths, [255, 45]);
    }

    #[test]
    fn folding_keeps_a_text_in_one_piece() {
        assert_eq!(folded("São Paulo*"), "sao paulo*");
        assert_eq!(folded("Sa\u{303}o Paulo*"), "sao paulo*");
        assert_eq!(folded(""), "");
    }
}
