//! A JSON text in pieces, none of them changed.

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
