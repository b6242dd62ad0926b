//! Events at their places in a log, and a sink to apply them to.

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};
use sluice::{
    domain::{Catalog, Event, Json, ManualEvent, SourceRow, Table},
    fault::Fault,
    log::Position,
    sink::{Applied, ApplyError, Sink, SinkBatch, SinkEvent},
};
use uuid::Uuid;

use super::table;

pub const LOG: &str = "cluster/eventos";

pub fn item(offset: i64, event: Event) -> SinkEvent {
    let table = event.table(Catalog::built_in()).expect("a table that is known");
    SinkEvent { position: Position { partition: 0, offset }, raw: event.encode(), event, table }
}

/// A lead whose version is `versao`.
pub fn lead(offset: i64, id: Uuid, versao: i64, more: Value) -> SinkEvent {
    let mut row = more.as_object().cloned().expect("an object");
    row.insert("id".into(), json!(id));
    let updated_at = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_000_000 + versao);
    row.insert("updated_at".into(), json!(updated_at));
    item(offset, event(table("leads"), &Json::from(&row), versao))
}

pub fn session(offset: i64, row: Value) -> SinkEvent {
    item(offset, event(table("chat_sessions"), &Json::from(&row), 0))
}

/// A row's event, of this version.
pub fn event(table: Table, row: &Json, versao: i64) -> Event {
    SourceRow::read(table, row.clone()).expect("a row").event(DateTime::UNIX_EPOCH, versao).0
}

pub fn manual(offset: i64, metadata: Value) -> SinkEvent {
    let event = ManualEvent {
        id: None,
        usuario: "ana".into(),
        evento: "teste".into(),
        valor: 1.0,
        metadata: Json::from(&metadata),
    };
    item(offset, Event::manual(event, DateTime::UNIX_EPOCH))
}

pub fn batch(events: Vec<SinkEvent>) -> SinkBatch {
    SinkBatch { events, spans: Vec::new() }
}

pub async fn applied(sink: &dyn Sink, events: Vec<SinkEvent>) -> Applied {
    sink.apply(LOG, &batch(events)).await.expect("applied")
}

pub async fn fault(sink: &dyn Sink, events: Vec<SinkEvent>) -> Fault {
    match sink.apply(LOG, &batch(events)).await {
        Err(ApplyError::Fault(fault)) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

/// An envelope that every index takes and Postgres never does.
pub fn only_an_index_takes() -> String {
    let mut event = manual(0, json!({})).event;
    event.usuario = "nulo\0".to_owned();
    String::from_utf8(event.encode().to_vec()).expect("text")
}
