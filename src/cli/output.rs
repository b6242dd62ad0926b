//! What commands print.
//!
//! Guarantee: no character of somebody else's text makes a terminal do anything, a reader who goes away (`| head -1`)
//! ends the command quietly, and output that can't be written is an error.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

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

fn print(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}
