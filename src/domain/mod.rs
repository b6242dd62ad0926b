//! Tables as data, rows as they are, and the events they become: pure, no I/O.

mod erasure;
mod event;
mod identity;
pub mod json;
mod period;
mod projection;
mod source_row;
mod table;
mod time;

use chrono::{DateTime, Utc};

pub use erasure::{ErasedDigest, ErasureLedger};
pub use event::{
    DecodeError, ENVELOPE_VERSION, Entidade, Event, MANUAL, ManualEvent, UnknownEntity, can_be_added_up,
};
pub use identity::{canonical, event_id, removal_id};
pub use json::{Json, Members};
pub use period::Period;
pub use projection::{Cell, Misfit, Row, RowError};
pub use source_row::SourceRow;
pub use table::{
    Catalog, CatalogError, Column, ColumnKind, Compare, Dashboard, Definition, DefinitionError, EventRule,
    Filter, Key, KeyKind, NamedCount, Search, SourceTable, Table, TableName, Time, is_reserved_column,
    is_reserved_table,
};
pub use time::{day_start, in_zone, parse_date, parse_instant};

/// A JSON object that sluice itself writes or shows; rows are never turned into one.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// Microseconds since the Unix epoch: the unit of an entity's `versao`.
pub fn micros(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_micros()
}
