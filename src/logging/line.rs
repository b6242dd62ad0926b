//! How an event becomes a line: one JSON object of flat names, bounded in size, with nothing in it that a terminal would obey.

use std::{fmt, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{
    hub::Hub,
    vocabulary::{ERROR, LABELS, LEVEL, LOGGER, MESSAGE, TIMESTAMP, name_of},
};
use crate::{redaction, text::json_visible};

/// The longest text of a field, in bytes: an error may quote an answer, and a line has to fit what reads it.
const MAX_TEXT: usize = 8 * 1024;

/// The most fields of a line; a span of a library may have any number.
const MAX_FIELDS: usize = 64;

/// What somebody says, before it is a line.
#[derive(Debug)]
pub(super) struct Entry {
    level: Level,
    logger: String,
    fields: Fields,
}

/// Fields by the names they have in lines.
#[derive(Debug, Default, Clone)]
struct Fields(Vec<(String, Value)>);

impl Entry {
    /// Something that this module says of itself, past `tracing`.
    pub(super) fn own(level: Level, message: &str) -> Self {
        let entry = Self { level, logger: super::TARGET.to_owned(), fields: Fields::default() };
        entry.with("message", message)
    }

    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.add(field, value.into());
        self
    }

    /// The line without its last brace: what is the same in all lines of a process may follow.
    pub(super) fn open_line(mut self, at: DateTime<Utc>) -> String {
        let mut line = String::with_capacity(256);
        line.push('{');
        add(&mut line, TIMESTAMP, &at.to_rfc3339_opts(SecondsFormat::Micros, true).into());
        add(&mut line, LEVEL, &level_name(self.level).into());
        let message = self.fields.0.iter().position(|(name, _)| name == MESSAGE);
        let message = message.map(|at| self.fields.0.remove(at).1);
        add(&mut line, MESSAGE, &message.unwrap_or_else(|| "".into()));
        for (name, value) in &self.fields.0 {
            add(&mut line, name, value);
        }
        add(&mut line, LOGGER, &self.logger.into());
        json_visible(&line).into_owned()
    }
}

pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Adds a member to an object that is being written.
pub(super) fn add(line: &mut String, name: &str, value: &Value) {
    if !line.ends_with('{') {
        line.push(',');
    }
    line.push_str(&Value::from(name).to_string());
    line.push(':');
    line.push_str(&value.to_string());
}

impl Fields {
    /// Adds a field, or has it say something else.
    fn add(&mut self, field: &str, value: Value) {
        let name = name_of(field).map_or_else(|| format!("{LABELS}.{field}"), str::to_owned);
        let value = match value {
            Value::String(text) => Value::String(bounded(redaction::words(&text))),
            other => other,
        };
        self.set(name, value);
    }

    fn set(&mut self, name: String, value: Value) {
        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| *known == name) {
            *known = value;
        } else if self.0.len() < MAX_FIELDS || [MESSAGE, ERROR].contains(&&*name) {
            self.0.push((name, value));
        }
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field.name(), value.to_string().into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }
}

/// Hands every event to the hub.
pub(crate) struct Lines(pub(super) Arc<Hub>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in
            context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(around) = span.extensions().get::<Fields>() {
                around.0.iter().for_each(|(name, value)| fields.set(name.clone(), value.clone()));
            }
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        self.0.hear(Entry { level: *metadata.level(), logger: metadata.target().to_owned(), fields }, None);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;

    fn lines(say: impl FnOnce()) -> Vec<serde_json::Map<String, Value>> {
        let kept = super::super::kept_of(|lines| {
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), say);
        });
        assert!(!kept.chars().any(|c| c != '\n' && crate::text::deceives(c)), "{kept:?}");
        kept.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn a_line_has_the_fields_of_its_event_of_the_spans_around_it_and_of_its_process() {
        let lines = lines(|| {
            let request =
                tracing::info_span!("request", request_id = "outer", client = tracing::field::Empty);
            request.record("client", "ana");
            let call = request.in_scope(|| tracing::info_span!("call", request_id = "inner"));
            call.in_scope(
                || tracing::warn!(table = "leads", offset = 7, error = %"no room", "it broke {}", 1),
            );
            tracing::info!("again");
        });
        let [line, again] = &*lines else { panic!("{lines:?}") };
        for (name, value) in [
            (LEVEL, Value::from("warn")),
            (MESSAGE, "it broke 1".into()),
            (ERROR, "no room".into()),
            ("table", "leads".into()),
            ("offset", 7.into()),
            ("request_id", "inner".into()),
            ("client", "ana".into()),
            ("service.node.role", "worker".into()),
            ("host.name", "um".into()),
            ("event.sequence", 1.into()),
        ] {
            assert_eq!(line[name], value, "{name}");
        }
        assert!(line[LOGGER].as_str().is_some_and(|logger| logger.starts_with("sluice::logging")));
        assert!(line[TIMESTAMP].as_str().is_some_and(|at| at.parse::<DateTime<Utc>>().is_ok()));
        assert_eq!(again["event.sequence"], 2);
        assert!(!again.contains_key("client"), "{again:?}");
    }

    #[test]
    fn hostile_values_are_values_bounded_and_visible_and_secrets_are_left_out() {
        redaction::keep("segredo-dos-logs");
        let lines = lines(|| {
            let long = "é".repeat(MAX_TEXT);
            tracing::warn!(error = %long, file = "\u{1b}[2J\u{202e}\"}\n{", stranger = "x", "with segredo-dos-logs");
        });
        let [line] = &*lines else { panic!("{lines:?}") };
        assert_eq!(line["file"], "\u{1b}[2J\u{202e}\"}\n{");
        assert_eq!(line["labels.stranger"], "x");
        assert_eq!(line[MESSAGE], "with ***");
        assert!(line[ERROR].as_str().is_some_and(|text| text.len() < MAX_TEXT + 8), "{line:?}");
    }
}
