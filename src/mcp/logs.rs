//! Log events for clients that asked for them: `logging/setLevel` of the older revisions. They are the program's own
//! lines, which carry no personal data; a client gets none that the operator's SLUICE_LOG leaves out.
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
};
use tracing_subscriber::{Layer, layer::Context};

use super::output::Outgoing;

/// Events kept for a client that reads slowly; it misses the oldest of more.
const KEPT: usize = 256;

static EVENTS: LazyLock<broadcast::Sender<Arc<LogEvent>>> = LazyLock::new(|| broadcast::Sender::new(KEPT));

struct LogEvent {
    level: Level,
    target: &'static str,
    data: Value,
}

/// Takes note of the program's log events for clients.
pub struct ClientLog;

impl<S: Subscriber> Layer<S> for ClientLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // What libraries say of a connection would answer itself, one notification for another.
        if EVENTS.receiver_count() == 0 || !metadata.target().starts_with("sluice") {
            return;
        }
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let noted =
            LogEvent { level: *metadata.level(), target: metadata.target(), data: Value::Object(fields.0) };
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

/// Sends a client events of at least `least`, until it is gone.
pub(super) async fn forward(peer: Peer<RoleServer>, least: LoggingLevel, outgoing: Outgoing) {
    let mut events = EVENTS.subscribe();
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let level = protocol_level(event.level);
        if severity(level) < severity(least) {
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
