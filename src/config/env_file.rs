//! Files of settings, as `.env.example` is one: a line `NAME=value` each.
//!
//! Guarantee: a value is what stands in the file. Nothing is substituted, so a file can't carry a secret of the
//! environment away in an address of its own; and what shells, Docker and other readers of such files understand
//! differently is refused instead of guessed.

use std::{iter::Peekable, str::Chars};

/// A variable as a file sets it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Why it is no value, where it is none.
    pub(super) value: Result<String, &'static str>,
    pub(super) line: usize,
}

/// Where a file stops being one of settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {problem}")]
pub struct SyntaxError {
    line: usize,
    problem: &'static str,
}

/// For values that read differently in other programs.
const AMBIGUOUS: &str = "has one of $ ` \\ ' \" in its value, which other programs read differently; put the value \
                         between single quotes, where nothing is special";

/// For values that other programs take for comments.
const COMMENT: &str =
    "begins with #, which other programs take for a comment; put the value between single quotes";

/// Reads a file. Only a line that makes the rest uncertain is an error; the values are the caller's to judge.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let mut reader = Reader { left: text.trim_start_matches('\u{feff}').chars().peekable(), line: 1 };
    let mut entries = Vec::new();
    while let Some(entry) = reader.entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

struct Reader<'a> {
    left: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn entry(&mut self) -> Result<Option<Entry>, SyntaxError> {
        loop {
            match self.left.peek() {
                None => return Ok(None),
                Some('#') => self.skip_line(),
                Some(c) if c.is_whitespace() => {
                    self.next();
                }
                Some(_) => break,
            }
        }
        let line = self.line;
        let mut name = self.name();
        if name == "export" && self.skip_blanks() && self.left.peek().is_some_and(|c| is_of_name(*c)) {
            name = self.name();
        }
        self.skip_blanks();
        if name.is_empty() || self.left.next_if_eq(&'=').is_none() {
            return Err(SyntaxError { line, problem: "is not NAME=value" });
        }
        let after_blanks = self.skip_blanks();
        let value = match self.left.peek() {
            Some(quote @ ('\'' | '"')) => {
                let quote = *quote;
                self.quoted(quote, line)?
            }
            Some('#') => {
                self.skip_line();
                if after_blanks { Ok(String::new()) } else { Err(COMMENT) }
            }
            _ => self.plain(),
        };
        Ok(Some(Entry { name, value, line }))
    }

    fn next(&mut self) -> Option<char> {
        let next = self.left.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.left.next_if(|c| is_of_name(*c)) {
            name.push(c);
        }
        name
    }

    fn skip_blanks(&mut self) -> bool {
        let mut skipped = false;
        while self.left.next_if(|c| matches!(c, ' ' | '\t')).is_some() {
            skipped = true;
        }
        skipped
    }

    /// Up to the line's end, which stays.
    fn skip_line(&mut self) {
        while self.left.next_if(|c| *c != '\n').is_some() {}
    }

    /// Up to the line's end or a comment.
    fn plain(&mut self) -> Result<String, &'static str> {
        let mut value = String::new();
        while let Some(c) = self.left.next_if(|c| *c != '\n') {
            if c == '#' && value.ends_with([' ', '\t']) {
                self.skip_line();
                break;
            }
            value.push(c);
        }
        let value = value.trim_end();
        if value.contains(['$', '`', '\\', '\'', '"']) { Err(AMBIGUOUS) } else { Ok(value.to_owned()) }
    }

    /// Up to the closing quote, over as many lines as it takes.
    fn quoted(&mut self, quote: char, line: usize) -> Result<Result<String, &'static str>, SyntaxError> {
        self.next();
        let (mut value, mut doubtful) = (String::new(), false);
        loop {
            let Some(c) = self.next() else {
                return Err(SyntaxError { line, problem: "opens a quote that nothing closes" });
            };
            match c {
                c if c == quote => break,
                '\\' if quote == '"' => match self.next() {
                    Some('n') => value.push('\n'),
                    Some(c @ ('\\' | '"' | '$' | '`')) => value.push(c),
                    _ => doubtful = true,
                },
                '$' | '`' if quote == '"' => doubtful = true,
                c => value.push(c),
            }
        }
        let after_blanks = self.skip_blanks();
        match self.left.peek() {
            None | Some('\n' | '\r') => {}
            Some('#') if after_blanks => {}
            Some(_) => doubtful = true,
        }
        self.skip_line();
        Ok(if doubtful { Err(AMBIGUOUS) } else { Ok(value) })
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let entries = parse(text).expect("a file of settings");
        entries.into_iter().map(|entry| (entry.name, entry.value.expect("a value"))).collect()
    }

    fn value(line: &str) -> Result<String, &'static str> {
        parse(line).expect("a file of settings").remove(0).value
    }

    #[test]
    fn lines_comments_quotes_and_exports_are_read() {
        let text = "\u{feff}# a comment\r\n\r\nA=1\r\nexport B = two words # why\nC='#$x \\n'\nD=\"a\\$b\\\"\\n\"\n\
                    E=\nF= # nothing\nG=a#b\n  H=\"\"\nI=x";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "#$x \\n"),
            ("D", "a$b\"\n"),
            ("E", ""),
            ("F", ""),
            ("G", "a#b"),
            ("H", ""),
            ("I", "x"),
        ];
        assert_eq!(values(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn nothing_is_substituted() {
        for line in
            ["A=$SUPABASE_KEY", "A=http://evil/${SUPABASE_KEY}", "A=\"$(id)\"", "A=`id`", "A=\"`id`\""]
        {
            assert_eq!(value(line), Err(AMBIGUOUS), "{line}");
        }
        assert_eq!(value("A='$SUPABASE_KEY'").as_deref(), Ok("$SUPABASE_KEY"));
    }

    #[test]
    fn a_password_with_special_characters_is_refused_rather_than_cut() {
        for line in ["A=se$nha", "A=se\\nha", "A=se'nha", "A=\"se\\nha\\x\"", "A='se'nha", "A='se'#nha"] {
            assert!(value(line).is_err(), "{line}");
        }
        assert!(value("A=#senha").is_err());
        assert_eq!(value("A='se#n$h\"a'").as_deref(), Ok("se#n$h\"a"));
    }

    #[test]
    fn a_quoted_value_goes_over_lines_and_hides_no_other_variable() {
        assert_eq!(values("A='x\nSUPABASE_URL=http://evil\n'\nB=1")[1], ("B".to_owned(), "1".to_owned()));
        let entries = parse("A='x\n\n'\n\nB=1").expect("a file of settings");
        assert_eq!(entries[1].line, 5);
    }

    #[test]
    fn a_line_that_is_none_is_told_by_its_number_and_never_shown() {
        for (text, line) in
            [("A=1\nsegredo", 2), ("A=1\n\n'B=segredo", 3), ("A='segredo\nB=1\n", 1), ("=segredo", 1)]
        {
            let error = parse(text).expect_err("no file of settings");
            assert_eq!(error.line, line, "{text}");
            assert!(!error.to_string().contains("segredo"));
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_between_single_quotes_is_the_value(value in "[^']*", after in "[A-Z]{1,8}") {
            let text = format!("A='{value}'\n{after}=1");
            let entries = parse(&text).expect("a file of settings");
            prop_assert_eq!(entries[0].value.as_deref(), Ok(value.as_str()));
            prop_assert_eq!(&entries[1].name, &after);
        }

        #[test]
        fn no_file_is_read_for_ever_or_by_a_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
