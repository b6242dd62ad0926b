//! The one way events get into the log: from syncs, from replayed letters, by hand. Measured together.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use chrono::Utc;
use serde_json::Value;
use uuid::Uuid;

use super::{
    EngineError,
    metrics::{Flow, FlowMetrics},
    shared::Shared,
};
use crate::{
    domain::{ENVELOPE_VERSION, Event, Json, MANUAL, ManualEvent, can_be_added_up, json::for_jsonb},
    fault::Fault,
    log::{NewRecord, Position, Topic},
    store::{EventFilter, EventOrder, StoredEvent},
    traces::{self, Span, SpanKind, TRACEPARENT, TraceParent},
};

/// Bytes of records appended in one go: a page of large rows goes in several.
const MAX_APPEND_BYTES: usize = 32 << 20;

/// Appends events.
pub struct Appender {
    shared: Arc<Shared>,
    flow: Flow,
}

impl Appender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, flow: Flow::new() }
    }

    /// Refuses an event whose id a stored one has that says something else: sinks take an id once, and would pass over it.
    ///
    /// # Errors
    /// That it is taken; or when the store can't be asked.
    pub async fn check_id(&self, event: &ManualEvent) -> Result<(), EngineError> {
        let filter = EventFilter { id: event.id, ..EventFilter::default() };
        let store = self.shared.ready_store().await?;
        let found = match event.id {
            Some(_) => store.events(&filter, EventOrder::Newest, None, 1).await?.events,
            None => Vec::new(),
        };
        match found.first() {
            Some(stored) if !says_the_same(stored, event) => Err(EngineError::Invalid {
                field: "id",
                problem: "is taken by an event that says something else, so no sink takes this one; give another, or none"
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Appends a hand-made event and returns where it stands in the log.
    ///
    /// # Errors
    /// When the event is out of range or the log can't be reached.
    pub async fn inject(&self, event: ManualEvent) -> Result<(Event, Position), EngineError> {
        check_manual(&event).map_err(|(field, problem)| EngineError::Invalid { field, problem })?;
        self.shared.log.ensure_topics().await?;
        let event = Event::manual(event, Utc::now());
        let mut record = record(&event);
        bear(&mut record, traces::current(), usize::MAX);
        let mut targets = Vec::new();
        self.append(vec![record], &mut targets).await?;
        let target = targets.pop().ok_or_else(|| {
            Fault::transient("log", "the log told no position of an appended event", "report this")
        })?;
        Ok((event, Position { offset: target.offset - 1, ..target }))
    }

    /// Returns once the log has acknowledged all of them; `targets` are raised to where it did so, also where it
    /// fails half-way.
    pub(super) async fn append(
        &self,
        records: Vec<NewRecord>,
        targets: &mut Vec<Position>,
    ) -> Result<(), Fault> {
        self.shared.meet_end_of_log().await?;
        let (count, begun) = (records.len() as u64, Instant::now());
        let span = Span::within(|| {
            let (builder, mut attributes) = traces::messaging("send", SpanKind::Producer, &*self.shared.log);
            attributes.push(traces::MESSAGES.counts(count));
            builder.with_attributes(attributes)
        });
        for piece in by_bytes(records) {
            let appended = self.shared.log.append(Topic::Events, piece).await;
            raise_targets(targets, &appended.inspect_err(|fault| span.fail(traces::kind_of(fault)))?);
        }
        self.flow.passed(count, begun.elapsed());
        Ok(())
    }

    pub(super) fn report(&self) -> FlowMetrics {
        self.flow.report()
    }
}

/// Records in pieces that a log takes in one go.
fn by_bytes(records: Vec<NewRecord>) -> Vec<Vec<NewRecord>> {
    let mut pieces: Vec<Vec<NewRecord>> = Vec::new();
    let mut bytes = usize::MAX;
    for record in records {
        let size = record.size();
        match pieces.last_mut() {
            Some(piece) if bytes + size <= MAX_APPEND_BYTES => {
                bytes += size;
                piece.push(record);
            }
            _ => {
                bytes = size;
                pieces.push(vec![record]);
            }
        }
    }
    pieces
}

/// The record of an event: keyed by its entity, so that one entity's events keep their order.
pub fn event_record(event: &Event, sync_id: Uuid) -> NewRecord {
    let mut record = record(event);
    record.headers.push(("sync_id", Bytes::from(sync_id.to_string())));
    record
}

fn record(event: &Event) -> NewRecord {
    NewRecord {
        key: Bytes::from(event.entidade.id.clone()),
        value: event.encode(),
        headers: vec![("schema", Bytes::from_static(ENVELOPE_VERSION.as_bytes()))],
    }
}

/// Has a record name the span that made it. None is too large for the log because it is traced.
pub(super) fn bear(record: &mut NewRecord, parent: Option<TraceParent>, max_record: usize) {
    let Some(parent) = parent else { return };
    record.headers.push((TRACEPARENT, Bytes::copy_from_slice(parent.as_bytes())));
    if record.size() > max_record {
        record.headers.pop();
    }
}

/// Moves each partition's target to the offset after what was appended to it.
fn raise_targets(targets: &mut Vec<Position>, appended: &[Position]) {
    for position in appended {
        let next = position.offset + 1;
        match targets.iter_mut().find(|target| target.partition == position.partition) {
            Some(target) => target.offset = target.offset.max(next),
            None => targets.push(Position { partition: position.partition, offset: next }),
        }
    }
    targets.sort_unstable();
}

fn says_the_same(stored: &StoredEvent, event: &ManualEvent) -> bool {
    // As every store keeps it, whatever the order of its members.
    let value = |json: &Json| serde_json::from_str::<Value>(&for_jsonb(json.as_str()).0).ok();
    let told = (&*stored.tipo_evento, &stored.usuario, &stored.evento, stored.valor);
    told == (MANUAL, &event.usuario, &event.evento, event.valor)
        && match (value(&stored.metadata), value(&event.metadata)) {
            (Some(stored), Some(given)) => is_same(&stored, &given),
            _ => false,
        }
}

/// Whether two values are one in a store that keeps numbers by their value: jsonb has 1e17 and 100000000000000000 be the same.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        _ => a == b,
    }
}

/// The limits a hand-made event must keep.
fn check_manual(event: &ManualEvent) -> Result<(), (&'static str, String)> {
    const MOST_CHARACTERS: usize = 200;
    const MOST_BYTES: usize = 16 * 1024;
    for (field, text) in [("evento", &event.evento), ("usuario", &event.usuario)] {
        let length = text.chars().count();
        if text.trim().is_empty() || length > MOST_CHARACTERS {
            let problem = format!("has {length} characters; give 1 to {MOST_CHARACTERS}, not only blanks");
            return Err((field, problem));
        }
        if text.contains('\0') {
            return Err((field, "holds a NUL character, which Postgres can't store".to_owned()));
        }
    }
    if !can_be_added_up(event.valor) {
        return Err(("valor", "is not a number that can be added up".to_owned()));
    }
    let metadata = event.metadata.as_str();
    if metadata.len() > MOST_BYTES {
        return Err(("metadata", format!("has {} bytes as JSON; give at most {MOST_BYTES}", metadata.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Json;

    fn refused(change: impl FnOnce(&mut ManualEvent)) -> &'static str {
        let mut event = ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: Json::empty_object(),
        };
        assert_eq!(check_manual(&event), Ok(()));
        change(&mut event);
        check_manual(&event).expect_err("refused").0
    }

    #[test]
    fn an_event_that_no_sink_could_take_is_refused_by_the_fields_name() {
        assert_eq!(refused(|event| event.evento = " ".into()), "evento");
        assert_eq!(refused(|event| event.evento = "a\0".into()), "evento");
        assert_eq!(refused(|event| event.usuario = "a".repeat(201)), "usuario");
        assert_eq!(refused(|event| event.valor = f64::NAN), "valor");
        let long = Json::from(&json!({"a": "a".repeat(20_000)}));
        assert_eq!(refused(|event| event.metadata = long), "metadata");
    }

    #[test]
    fn what_a_store_keeps_says_the_same_however_it_writes_numbers() {
        let is_same = |a: &str, b: &str| {
            let value = |text| serde_json::from_str::<Value>(text).expect("JSON");
            is_same(&value(a), &value(b))
        };
        for (given, kept) in [
            (r#"{"n": 1e17, "a": [{"b": -0.0}]}"#, r#"{"a": [{"b": 0.0}], "n": 100000000000000000}"#),
            ("[12345678901234567.0, -1e16]", "[12345678901234568, -10000000000000000]"),
            ("[1e20, 1.5, 7, -0]", "[100000000000000000000, 1.50, 7, 0]"),
        ] {
            assert!(is_same(given, kept) && is_same(kept, given), "{given}");
        }
        for (given, kept) in [
            (r#"{"n": 1e17}"#, r#"{"n": 100000000000000016}"#),
            ("[9007199254740993]", "[9007199254740992]"),
            ("[1]", "[1, 2]"),
            (r#"{"a": null}"#, r#"{"b": null}"#),
            ("[1]", r#"["1"]"#),
        ] {
            assert!(!is_same(given, kept) && !is_same(kept, given), "{given}");
        }
    }

    #[test]
    fn targets_are_the_next_offset_of_each_partition() {
        let mut targets = Vec::new();
        let at = |partition, offset| Position { partition, offset };
        raise_targets(&mut targets, &[at(1, 5), at(0, 2), at(1, 4)]);
        raise_targets(&mut targets, &[at(1, 6)]);
        assert_eq!(targets, [at(0, 3), at(1, 7)]);
    }

    #[test]
    fn a_record_bears_the_span_that_made_it_unless_it_would_be_too_large_then() {
        let text = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let record = NewRecord { key: Bytes::new(), value: Bytes::from_static(b"{}"), headers: Vec::new() };
        let borne = |parent, room: usize| {
            let mut record = record.clone();
            bear(&mut record, parent, room);
            record.headers
        };
        let (parent, size) = (TraceParent::parse(text), record.size());
        assert_eq!(borne(parent, usize::MAX), [(TRACEPARENT, Bytes::from_static(text))]);
        assert_eq!(borne(parent, size), []);
        assert_eq!(borne(None, usize::MAX), []);
    }

    #[test]
    fn large_records_are_appended_in_pieces() {
        let record =
            |bytes| NewRecord { key: Bytes::new(), value: Bytes::from(vec![0; bytes]), headers: Vec::new() };
        let records = vec![record(1), record(MAX_APPEND_BYTES), record(1), record(1)];
        let sizes: Vec<usize> = by_bytes(records).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 2]);
    }
}
