//! Log events for clients that asked for them: `logging/setLevel` of the older revisions. They are the program's own
//! lines, which carry no personal data; a client gets none that the operator's SLUICE_LOG leaves out.
//!
//! Over stdio, where whoever started the process listens alone, these are all. Over HTTP a client hears of its own
//! session's calls, and of the syncs they started, only: what others ask for, and when, is not its business.
#![allow(deprecated)] // of interest to older clients only

use std::sync::{Arc, LazyLock};

use rmcp::{
    Peer, RoleServer,
    model::{LoggingLevel, LoggingMessageNotificationParam},
};
use serde_json::{Map, Value};
use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::output::Outgoing;

/// Events kept for a client that reads slowly; it misses the oldest of more.
const KEPT: usize = 256;

/// The span of a tool's call; its field `session` says of which session.
pub(super) const CALL: &str = "call";
const SESSION: &str = "session";

static EVENTS: LazyLock<broadcast::Sender<Arc<LogEvent>>> = LazyLock::new(|| broadcast::Sender::new(KEPT));

/// Which events a client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Everything,
    CallsOf(u64),
}

/// The session a call is of, beside its span.
struct CallOf(u64);

struct LogEvent {
    /// The session whose call it happened in.
    session: Option<u64>,
    level: Level,
    target: &'static str,
    data: Value,
}

/// Takes note of the program's log events for clients.
pub struct ClientLog;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ClientLog {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        if metadata.name() != CALL || !metadata.target().starts_with("sluice") {
            return;
        }
        let mut session = SessionField(None);
        attributes.record(&mut session);
        if let (Some(session), Some(span)) = (session.0, context.span(id)) {
            span.extensions_mut().insert(CallOf(session));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        // What libraries say of a connection would answer itself, one notification for another.
        if EVENTS.receiver_count() == 0 || !metadata.target().starts_with("sluice") {
            return;
        }
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut around = context.event_scope(event).into_iter().flatten();
        let noted = LogEvent {
            session: around.find_map(|span| span.extensions().get::<CallOf>().map(|call| call.0)),
            level: *metadata.level(),
            target: metadata.target(),
            data: Value::Object(fields.0),
        };
        // Nobody listening any more is no failure.
        EVENTS.send(Arc::new(noted)).ok();
    }
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

/// Reads the one field that says whose call a span is.
struct SessionField(Option<u64>);

impl Visit for SessionField {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == SESSION {
            self.0 = Some(value);
        }
    }
}

/// Sends a client events of at least `least`, from now on, until it is gone.
pub(super) fn forward(
    peer: Peer<RoleServer>,
    heard: Heard,
    least: LoggingLevel,
    outgoing: Outgoing,
) -> impl Future<Output = ()> {
    // Not when the task is first run: the client may count on it once it was answered.
    forward_from(EVENTS.subscribe(), peer, heard, least, outgoing)
}

async fn forward_from(
    mut events: broadcast::Receiver<Arc<LogEvent>>,
    peer: Peer<RoleServer>,
    heard: Heard,
    least: LoggingLevel,
    outgoing: Outgoing,
) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let is_heard = match heard {
            Heard::Everything => true,
            Heard::CallsOf(session) => event.session == Some(session),
        };
        let level = protocol_level(event.level);
        if !is_heard || severity(level) < severity(least) {
            continue;
        }
        let mut data = event.data.clone();
        outgoing.value(&mut data);
        let note = LoggingMessageNotificationParam::new(level, data).with_logger(event.target);
        if peer.notify_logging_message(note).await.is_err() {
            return;
        }
    }
}

fn protocol_level(level: Level) -> LoggingLevel {
    match level {
        Level::ERROR => LoggingLevel::Error,
        Level::WARN => LoggingLevel::Warning,
        Level::INFO => LoggingLevel::Info,
        _ => LoggingLevel::Debug,
    }
}

fn severity(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}
