use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use super::output;
use crate::mcp::ClientLog;

/// Where it is told which file gave what.
pub(super) const SETTINGS_TARGET: &str = "sluice::settings";

/// Logs go to stderr as JSON lines: stdout belongs to the protocol, or to a command's answer.
pub(super) fn start(default_level: &str, chosen: Option<&str>) {
    let filter = chosen.map_or_else(
        || quiet(default_level),
        |text| {
            EnvFilter::try_new(text).unwrap_or_else(|error| {
                output::note(format_args!("SLUICE_LOG: {error}; logging at {default_level}"));
                quiet(default_level)
            })
        },
    );
    // A log that can't be written must not be told of on the same stderr.
    let layer = fmt::layer().json().flatten_event(true).with_writer(|| Terminal).log_internal_errors(false);
    tracing_subscriber::registry().with(filter).with(layer).with(ClientLog).init();
}

/// Libraries speak only of what goes wrong.
fn quiet(level: &str) -> EnvFilter {
    EnvFilter::new(format!("warn,sluice={level},{SETTINGS_TARGET}=info"))
}

/// stderr, which may be a terminal or gone. An event is written at once, so each text is whole.
struct Terminal;

impl Write for Terminal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let _ = io::stderr().lock().write_all(output::json_visible(&text).as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
