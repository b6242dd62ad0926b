//! Leads, chat sessions and the events they become: pure, no I/O.

mod chat_session;
mod event;
mod fields;
mod identity;
mod lead;
mod table;

pub use chat_session::ChatSession;
pub use event::{Categoria, Dados, DecodeError, ENVELOPE_VERSION, Entidade, Event, ManualEvent, TipoEvento};
pub use fields::{RowError, parse_instant};
pub use identity::{canonical_json, event_id, micros};
pub use lead::{Lead, QUALIFIED_SCORE};
pub use table::Table;

/// A JSON object as PostgREST returns a row.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;
