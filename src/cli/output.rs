//! What commands print.
//!
//! Guarantee: no character of somebody else's text makes a terminal do anything, a reader who goes away (`| head -1`)
//! ends the command quietly, and output that can't be written is an error.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
    fs::File,
    io::{self, Write as _},
};

use serde::Serialize;

use super::Failure;
use crate::text::characters;

/// What a shell reports for a program that ended because nobody read on: 128 and the number of SIGPIPE.
pub(super) const NOBODY_READS: u8 = 141;

/// Why something could not be printed.
#[derive(Debug, thiserror::Error)]
#[error("writing the output failed: {0}")]
pub(super) struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether the reader went away.
    pub(super) fn nobody_reads(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints one line, whatever the text holds.
pub(super) fn line(text: impl Display) -> Result<(), OutputError> {
    print(&format!("{}\n", on_one_line(&text.to_string())))
}

/// Prints lines.
pub(super) fn lines(text: impl Display) -> Result<(), OutputError> {
    print(&visible(&text.to_string()))
}

/// Prints a value as JSON on one line.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)?;
    Ok(print(&format!("{}\n", json_visible(&text)))?)
}

/// Prints a value as JSON for people.
pub(super) fn pretty_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(print(&format!("{}\n", json_visible(&text)))?)
}

/// Prints lines with colours of ours in them; whatever else goes into them has been made [`visible`].
pub(super) fn styled(text: impl Display) -> Result<(), OutputError> {
    print(&text.to_string())
}

/// Tells a person something apart from the output. Nothing depends on it being read.
pub(super) fn note(text: impl Display) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{}", visible(&text.to_string()));
}

/// Hands a file on as it is: its reader is a program, which wants every byte.
pub(super) fn file(file: &mut File) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    io::copy(file, &mut stdout)?;
    Ok(stdout.flush()?)
}

fn print(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The text with everything spelt out that a terminal would obey or not show; lines stay lines.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false, |c, visible| visible.extend(c.escape_unicode()))
}

/// As [`visible`], on one line: a value can't look like the next line of a report.
pub(super) fn on_one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n', |c, visible| visible.extend(c.escape_default()))
}

/// JSON with the same content. Its own layout has no other control characters than line breaks.
pub(super) fn json_visible(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |_| false,
        |c, visible| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(visible, "\\u{unit:04x}");
            }
        },
    )
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let characters = || characters(text).map(|(c, deceives)| (c, deceives || is_bad(c)));
    if characters().all(|(_, is_bad)| !is_bad) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for (c, is_bad) in characters() {
        if is_bad {
            escape(c, &mut visible);
        } else {
            visible.push(c);
        }
    }
    Cow::Owned(visible)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::text::deceives;

    #[test]
    fn what_a_terminal_obeys_is_spelt_out() {
        assert_eq!(
            visible("a\u{1b}[2Jb\u{9b}31m\u{202e}\r\nJoão\t1"),
            "a\\u{1b}[2Jb\\u{9b}31m\\u{202e}\\u{d}\nJoão\t1"
        );
        assert_eq!(on_one_line("ok\nFAILED\r\u{7f}"), "ok\\nFAILED\\r\\u{7f}");
        assert_eq!(visible("João 👩‍💻"), "João 👩‍💻");
        assert_eq!(visible("a\u{200d}b\u{ad}\u{3164}"), "a\\u{200d}b\\u{ad}\\u{3164}");
    }

    proptest! {
        #[test]
        fn json_keeps_its_content(text in any::<String>()) {
            let json = serde_json::to_string(&text).expect("JSON");
            let shown = json_visible(&json);
            prop_assert!(!shown.chars().any(deceives), "{}", shown);
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), Value::String(text));
        }

        #[test]
        fn no_text_holds_what_a_terminal_obeys(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(deceives));
            prop_assert!(!on_one_line(&text).chars().any(|c| c == '\n' || deceives(c)));
        }
    }
}
