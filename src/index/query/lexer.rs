//! Lucene's words and signs: where a term ends, what is escaped, what an operator is.

use super::{Part, QueryError};

/// A place in a query, in characters from its beginning.
pub(super) type At = usize;

/// A word as it was written: what was escaped stands for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word(Vec<(char, bool)>);

impl Word {
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(c, _)| *c).collect()
    }

    /// Written just so, with nothing escaped.
    pub(super) fn is(&self, text: &str) -> bool {
        self.0.iter().all(|(_, escaped)| !escaped) && self.text() == text
    }

    pub(super) fn is_pattern(&self) -> bool {
        self.0.iter().any(|(c, escaped)| !escaped && matches!(c, '*' | '?'))
    }

    /// Its pieces. Runs of `*` are one, and come behind every `?` beside them: `*?` is what `?*` is.
    pub(super) fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for &(c, escaped) in &self.0 {
            match (c, escaped, parts.last_mut()) {
                ('*', false, Some(Part::Many)) => {}
                ('*', false, _) => parts.push(Part::Many),
                ('?', false, Some(many @ Part::Many)) => {
                    *many = Part::One;
                    parts.push(Part::Many);
                }
                ('?', false, _) => parts.push(Part::One),
                (c, _, Some(Part::Text(text))) => text.push(c),
                (c, _, _) => parts.push(Part::Text(c.to_string())),
            }
        }
        parts
    }
}

/// Walks over a query.
#[derive(Debug)]
pub(super) struct Lexer {
    chars: Vec<char>,
    at: At,
}

impl Lexer {
    pub(super) fn new(query: &str) -> Self {
        Self { chars: query.chars().collect(), at: 0 }
    }

    pub(super) fn at(&self) -> At {
        self.at
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    pub(super) fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Takes `text` where it stands next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let length = text.chars().count();
        let stands = self.chars[self.at..].iter().copied().take(length).eq(text.chars());
        if stands {
            self.at += length;
        }
        stands
    }

    /// Takes a word like `AND` where it stands next as a whole.
    pub(super) fn take_operator(&mut self, word: &str) -> bool {
        let from = self.at;
        if self.take(word) && self.peek().is_none_or(|c| !is_term(c)) {
            return true;
        }
        self.at = from;
        false
    }

    /// Whether a field's name and its colon stand next.
    pub(super) fn is_before_field(&self) -> bool {
        let mut rest = self.chars[self.at..].iter().skip_while(|c| c.is_whitespace() || **c == '(');
        rest.by_ref().find(|c| !is_term(**c)) == Some(&':')
    }

    /// Takes a colon, with space before it or not.
    pub(super) fn take_colon(&mut self) -> bool {
        let from = self.at;
        self.skip_space();
        if self.take(":") {
            self.skip_space();
            return true;
        }
        self.at = from;
        false
    }

    /// A term, up to the first sign that is not escaped.
    pub(super) fn term(&mut self) -> Result<Word, QueryError> {
        self.word(|c| is_term(c) || matches!(c, '+' | '-'))
    }

    /// A bound of a range or a comparison: only space and brackets end it.
    pub(super) fn bound(&mut self) -> Result<Word, QueryError> {
        self.word(|c| !c.is_whitespace() && !matches!(c, '[' | ']' | '{' | '}' | '(' | ')' | '"' | '^'))
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> Result<Word, QueryError> {
        let mut word = Word::default();
        while let Some(c) = self.peek() {
            if c == '\\' {
                word.0.push((self.escaped()?, true));
            } else if belongs(c) {
                word.0.push((c, false));
                self.at += 1;
            } else {
                break;
            }
        }
        Ok(word)
    }

    /// The text between quotes; the first one is next.
    pub(super) fn quoted(&mut self) -> Result<String, QueryError> {
        let from = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(text);
                }
                '\\' => text.push(self.escaped()?),
                _ => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        Err(error(
            from,
            "the quote is never closed",
            "put a \" after the phrase, or \\\" for the sign itself",
        ))
    }

    fn escaped(&mut self) -> Result<char, QueryError> {
        let from = self.at;
        self.at += 1;
        let Some(c) = self.peek() else {
            return Err(error(from, "nothing follows the backslash", "write \\\\ for the sign itself"));
        };
        self.at += 1;
        if c != 'u' {
            return Ok(c);
        }
        let digits: String = self.chars[self.at..].iter().take(4).collect();
        let code =
            u32::from_str_radix(&digits, 16).ok().filter(|_| digits.chars().all(|c| c.is_ascii_hexdigit()));
        let c = code.filter(|_| digits.len() == 4).and_then(char::from_u32);
        self.at += digits.chars().count();
        c.ok_or_else(|| {
            error(from, "\\u wants the four hexadecimal digits of a character", "write the character itself")
        })
    }

    /// The number right here, as after `~` or `^`; empty where there is none.
    pub(super) fn number(&mut self) -> String {
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit() || c == '.') {
            self.at += 1;
        }
        self.chars[from..self.at].iter().collect()
    }
}

/// May stand in a term. `+` and `-` may too, but don't begin one.
fn is_term(c: char) -> bool {
    !c.is_whitespace()
        && !matches!(
            c,
            '+' | '-' | '!' | '(' | ')' | ':' | '^' | '[' | ']' | '"' | '{' | '}' | '~' | '/' | '\\'
        )
}

/// The beginning of what was written, for an error to repeat.
pub(super) fn shown(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

pub(super) fn error(at: At, problem: impl Into<String>, instead: impl Into<String>) -> QueryError {
    QueryError { at: at + 1, problem: problem.into(), instead: instead.into() }
}
