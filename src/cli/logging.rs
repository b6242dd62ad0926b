use std::io;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::mcp::ClientLog;

/// Logs go to stderr as JSON lines: stdout belongs to the protocol, or to a command's answer.
pub(super) fn start(default_level: &str) {
    let chosen = std::env::var("SLUICE_LOG").ok().filter(|text| !text.is_empty());
    let filter = chosen.as_deref().map_or_else(
        || quiet(default_level),
        |text| {
            EnvFilter::try_new(text).unwrap_or_else(|error| {
                eprintln!("SLUICE_LOG: {error}; logging at {default_level}");
                quiet(default_level)
            })
        },
    );
    let layer = fmt::layer().json().flatten_event(true).with_writer(io::stderr);
    tracing_subscriber::registry().with(filter).with(layer).with(ClientLog).init();
}

/// Libraries speak only of what goes wrong.
fn quiet(level: &str) -> EnvFilter {
    EnvFilter::new(format!("warn,sluice={level}"))
}
