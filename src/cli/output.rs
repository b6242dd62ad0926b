//! What commands print.
//!
//! Guarantee: no character of somebody else's text makes a terminal do anything, a reader who goes away (`| head -1`)
//! ends the command quietly, and output that can't be written is an error.

use std::{
    fmt::Display,
    fs::File,
    io::{self, IsTerminal as _, Write as _},
};

use console::{Term, measure_text_width};
use serde::Serialize;

use super::Failure;
use crate::text::{json_visible, on_one_line, visible};

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

/// A narrower terminal is written to as if it had so many columns.
const MIN_WIDTH: usize = 20;

/// Columns of a terminal that does not tell how many it has.
const USUAL_WIDTH: usize = 80;

/// How many columns the terminal has that the output goes to; none where it goes to a program.
pub(super) fn width() -> Option<usize> {
    io::stdout().is_terminal().then(|| columns(&Term::stdout()))
}

fn columns(terminal: &Term) -> usize {
    terminal.size_checked().map_or(USUAL_WIDTH, |(_, columns)| usize::from(columns).max(MIN_WIDTH))
}

/// Prints one line, whatever the text holds.
pub(super) fn line(text: impl Display) -> Result<(), OutputError> {
    entry(text, 2)
}

/// As [`line`]; on a terminal that is too narrow for it, it goes on below, so far to the right.
pub(super) fn entry(text: impl Display, indent: usize) -> Result<(), OutputError> {
    let text = text.to_string();
    let text = on_one_line(&text);
    match width() {
        Some(width) => print(&wrapped(&text, width, indent)),
        None => print(&format!("{text}\n")),
    }
}

/// The line, broken between words where it must be.
fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut lines = String::new();
    let mut taken = 0;
    for word in text.split_inclusive(' ') {
        let needs = measure_text_width(word.trim_end());
        if taken > indent && taken + needs > width {
            lines.truncate(lines.trim_end().len());
            lines.extend(["\n", &" ".repeat(indent)]);
            taken = indent;
        }
        lines.push_str(word);
        taken += measure_text_width(word);
    }
    lines.push('\n');
    lines
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
    let text = text.to_string();
    let text = visible(&text);
    if stderr.is_terminal() {
        let width = columns(&Term::stderr());
        let _ = text.lines().try_for_each(|line| stderr.write_all(wrapped(line, width, 2).as_bytes()));
    } else {
        let _ = writeln!(stderr, "{text}");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_below_where_a_terminal_ends() {
        let text = "problem        the sink postgres is paused; resume it once it may be drained again";
        assert_eq!(
            wrapped(text, 40, 15),
            "problem        the sink postgres is\n               paused; resume it once it\n               may be drained \
             again\n"
        );
        assert_eq!(wrapped("short", 40, 15), "short\n");
        // A word is never cut, so that a path can be copied.
        assert_eq!(
            wrapped("in /a/very/long/path/of/a/folder now", 20, 2),
            "in\n  /a/very/long/path/of/a/folder\n  now\n"
        );
    }
}
