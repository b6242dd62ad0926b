use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, filter::filter_fn, prelude::*};

use super::output;
use crate::{logging, mcp::ClientLog};

/// Where it is told which file gave what.
pub(super) const SETTINGS_TARGET: &str = "sluice::settings";

/// What writes its own lines and no more: sluice, and the client of Kafka whose lines it repeats.
const OWN_TARGETS: [&str; 2] = ["sluice", "librdkafka"];

/// Logs go to stderr as JSON lines, panics included: stdout belongs to the protocol, or to a command's answer.
pub(super) fn start(default_level: &str, chosen: Option<&str>) {
    logging::hear_panics();
    let events = tracing_subscriber::registry().with(filter_fn(holds_no_values));
    events.with(filter(default_level, chosen)).with(logging::lines()).with(ClientLog).init();
}

fn filter(default_level: &str, chosen: Option<&str>) -> EnvFilter {
    let Some(text) = chosen else { return quiet(default_level) };
    if text.trim().parse::<LevelFilter>().is_ok() {
        return quiet(text.trim());
    }
    EnvFilter::try_new(text).unwrap_or_else(|error| {
        output::note(format_args!("SLUICE_LOG: {error}; logging at {default_level}"));
        quiet(default_level)
    })
}

/// Libraries speak only of what goes wrong, and of no more than the program itself.
fn quiet(level: &str) -> EnvFilter {
    let libraries =
        level.parse().map_or(LevelFilter::WARN, |level: LevelFilter| level.min(LevelFilter::WARN));
    EnvFilter::new(format!("{libraries},sluice={level},{SETTINGS_TARGET}=info"))
}

/// Warns with what a client sent: the names and addresses it asked for, and its own ids of requests.
const REPEATING: &str = "rmcp";

/// Libraries print whole requests, answers and parameters of statements below `warn`, one of them in warnings too: no
/// filter lets them.
fn holds_no_values(event: &Metadata<'_>) -> bool {
    let is_of = |own: &str| {
        event.target().strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let least = if is_of(REPEATING) { Level::ERROR } else { Level::WARN };
    OWN_TARGETS.into_iter().any(is_of) || *event.level() <= least
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of lines, wherever.
    fn logged(chosen: Option<&str>) -> String {
        logging::kept_of(|lines| {
            let subscriber = tracing_subscriber::registry()
                .with(filter_fn(holds_no_values))
                .with(filter("info", chosen))
                .with(lines);
            tracing::subscriber::with_default(subscriber, || {
                tracing::debug!(target: "rmcp::service", "ana@exemplo.com.br");
                tracing::info!(target: "tokio_postgres::query", "ana@exemplo.com.br");
                tracing::trace!(target: "hyper", "ana@exemplo.com.br");
                tracing::warn!(target: "rmcp::service", "no tool ana@exemplo.com.br");
                tracing::warn!(target: "hyper", "it went wrong");
                tracing::debug!(target: "sluice::engine", "a step");
                tracing::debug!(target: "librdkafka", "a broker");
            });
        })
    }

    #[test]
    fn no_setting_lets_a_library_write_what_it_was_given() {
        for chosen in [
            None,
            Some("debug"),
            Some("TRACE"),
            Some(" trace "),
            Some("sluice=debug,rmcp=trace"),
            Some("rmcp::service=debug,info"),
        ] {
            let logged = logged(chosen);
            assert!(!logged.contains("ana@"), "{chosen:?} lets through {logged}");
            assert!(
                logged.contains("it went wrong") || chosen.is_some_and(|text| text.starts_with("sluice=")),
                "{logged}"
            );
        }
    }

    #[test]
    fn a_level_is_that_of_the_programs_own_lines_and_a_filter_names_others() {
        assert!(!logged(None).contains("a step"));
        assert!(logged(Some("debug")).contains("a step") && !logged(Some("debug")).contains("a broker"));
        assert!(logged(Some("info")).contains("it went wrong"));
        for less in ["error", "OFF"] {
            assert!(!logged(Some(less)).contains("it went wrong"), "{less}");
        }
        let named = logged(Some("sluice=debug,librdkafka=debug"));
        assert!(named.contains("a step") && named.contains("a broker"), "{named}");
        assert!(!logged(Some("not a filter!=")).contains("a step"));
    }
}
