//! The event envelope: the value of a log record, immutable, one version of one source row.

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Catalog, Json, KeyKind, Row, Table, micros};

/// The envelope's version, in every record's `schema` header.
pub const ENVELOPE_VERSION: &str = "2";

/// The `tipo_evento` of an event made by hand.
pub const MANUAL: &str = "manual";

/// The `categoria` of an event made by hand.
const MANUAL_CATEGORY: &str = "teste_manual";

/// Beyond this a rollup would lose what it had added up, or overflow.
const MAX_VALOR: f64 = 1e300;

/// The entity an event belongs to, and the event's place in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entidade {
    /// The row's key in its one spelling.
    pub id: String,
    /// Given when the event is appended; a sink never replaces an entity with a lower one.
    pub versao: i64,
    /// The row is gone at the source: sinks remove the entity and keep its history. No name of an `evento` says so, since
    /// `lead_removido` may as well be a lead whose status is `removido`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub removida: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

/// One version of a source row, or a manual event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// UUIDv5 of table, key and row content: the same content is always the same event.
    pub id: Uuid,
    /// `lead`, `chat_session`, another table's entity, or [`MANUAL`].
    pub tipo_evento: String,
    pub usuario: String,
    /// `lead_<status_lead>`, `chat_session`, what another table's definition says, or free text.
    pub evento: String,
    /// The column that the definition names, or 0.
    pub valor: f64,
    pub timestamp: DateTime<Utc>,
    pub categoria: String,
    /// What the old pipeline's queries read, and the columns that no definition lists. An object.
    pub metadata: Json,
    pub entidade: Entidade,
    /// The row as the server sent it. An object.
    pub dados: Json,
}

/// A hand-made event, before it has an identity.
#[derive(Debug, Clone, PartialEq)]
pub struct ManualEvent {
    /// Given to make a repeated injection harmless; else a UUIDv7.
    pub id: Option<Uuid>,
    pub usuario: String,
    pub evento: String,
    pub valor: f64,
    pub metadata: Json,
}

/// Why the bytes of a record are not an event. Never repeats the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("record has no value")]
    Empty,
    #[error("value is not JSON: stops making sense at line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("value is not an event envelope: {0}")]
    NotAnEnvelope(String),
}

impl Event {
    /// Gives a hand-made event its identity; it is an entity of its own.
    pub fn manual(event: ManualEvent, now: DateTime<Utc>) -> Self {
        let id = event.id.unwrap_or_else(Uuid::now_v7);
        Self {
            id,
            tipo_evento: MANUAL.to_owned(),
            usuario: event.usuario,
            evento: event.evento,
            valor: event.valor,
            timestamp: now,
            categoria: MANUAL_CATEGORY.to_owned(),
            metadata: event.metadata,
            entidade: Entidade { id: id.to_string(), versao: micros(now), removida: false },
            dados: Json::empty_object(),
        }
    }

    /// A row of this key is gone. `id` is that of [`removal_id`](super::removal_id), `versao` orders it after the versions
    /// that were there.
    pub fn removal(table: Table, key: &str, id: Uuid, found_at: DateTime<Utc>, versao: i64) -> Self {
        Self {
            id,
            tipo_evento: table.entity.clone(),
            // Nothing of the person but what names the row.
            usuario: key.to_owned(),
            evento: table.removed_event(),
            valor: 0.0,
            timestamp: found_at,
            categoria: table.event.categoria.clone(),
            metadata: Json::empty_object(),
            entidade: Entidade { id: key.to_owned(), versao, removida: true },
            dados: Json::empty_object(),
        }
    }

    /// The table whose entity this event carries; a manual event carries none.
    ///
    /// # Errors
    /// When no table of the catalog has such entities.
    pub fn table(&self, catalog: Catalog) -> Result<Option<Table>, UnknownEntity> {
        if self.tipo_evento == MANUAL {
            return Ok(None);
        }
        catalog.of_entity(&self.tipo_evento).map(Some).ok_or(UnknownEntity)
    }

    /// Whether its id is one that sluice gives to a row's event, whichever name the table, and type its key had then. It is not
    /// reckoned again: the name went into it, and so did the digits of numbers, which PostgreSQL writes otherwise.
    pub fn is_of_row(&self) -> bool {
        self.id.get_version_num() == 5 && KeyKind::Text.is_key(&self.entidade.id)
    }

    /// The row, to be read by its table's definition.
    pub fn row(&self, table: Table) -> Row<'_> {
        Row { table, members: self.dados.members().unwrap_or_default() }
    }

    /// The record's value: the envelope as JSON, in which `metadata` and `dados` stand as they are.
    pub fn encode(&self) -> Bytes {
        let head = Head {
            id: self.id,
            tipo_evento: &self.tipo_evento,
            usuario: &self.usuario,
            evento: &self.evento,
            valor: self.valor,
            // What every store keeps: an index filled from one is as one filled from the log.
            timestamp: self.timestamp.trunc_subsecs(6),
            categoria: &self.categoria,
            entidade: &self.entidade,
        };
        let (metadata, dados) = (self.metadata.as_str(), self.dados.as_str());
        let mut out = Vec::with_capacity(512 + metadata.len() + dados.len());
        // Every key is a string and no member can fail to serialize, so this has no error to report.
        let _ = serde_json::to_writer(&mut out, &head);
        out.pop();
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(metadata.as_bytes());
        out.extend_from_slice(b",\"dados\":");
        out.extend_from_slice(dados.as_bytes());
        out.push(b'}');
        Bytes::from(out)
    }

    /// Reads a record's value. `metadata` and `dados` share its memory.
    ///
    /// # Errors
    /// When the bytes are missing, not JSON, or not an envelope; the record then belongs in the dead letters.
    pub fn decode(value: Option<&Bytes>) -> Result<Self, DecodeError> {
        let value = value.filter(|bytes| !bytes.is_empty()).ok_or(DecodeError::Empty)?;
        let envelope: Envelope<'_> = serde_json::from_slice(value).map_err(|error| decode_error(&error))?;
        let object = |name: &str, raw: Option<&RawValue>| match raw {
            None => Ok(Json::empty_object()),
            Some(raw) if raw.get().starts_with('{') => Ok(Json::within(value, raw)),
            Some(_) => Err(DecodeError::NotAnEnvelope(format!("{name} is no object"))),
        };
        Ok(Self {
            metadata: object("metadata", envelope.metadata)?,
            dados: object("dados", Some(envelope.dados))?,
            id: envelope.id,
            tipo_evento: envelope.tipo_evento,
            usuario: envelope.usuario,
            evento: envelope.evento,
            valor: envelope.valor,
            timestamp: envelope.timestamp,
            categoria: envelope.categoria,
            entidade: envelope.entidade,
        })
    }
}

/// An event of a table that this process has no definition of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no table defined here has entities of its tipo_evento; give this process the table's definition, then replay"
)]
pub struct UnknownEntity;

/// Whether a rollup can take the value.
pub fn can_be_added_up(valor: f64) -> bool {
    valor.is_finite() && valor.abs() <= MAX_VALOR
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: Uuid,
    tipo_evento: String,
    usuario: String,
    evento: String,
    valor: f64,
    timestamp: DateTime<Utc>,
    categoria: String,
    #[serde(default, borrow)]
    metadata: Option<&'a RawValue>,
    entidade: Entidade,
    #[serde(borrow)]
    dados: &'a RawValue,
}

/// The envelope's members before the two that stand as they are.
#[derive(Serialize)]
struct Head<'a> {
    id: Uuid,
    tipo_evento: &'a str,
    usuario: &'a str,
    evento: &'a str,
    valor: f64,
    timestamp: DateTime<Utc>,
    categoria: &'a str,
    entidade: &'a Entidade,
}

/// serde's message quotes the offending value; only the shape of the complaint may be kept.
fn decode_error(error: &serde_json::Error) -> DecodeError {
    if error.is_syntax() || error.is_eof() {
        return DecodeError::NotJson { line: error.line(), column: error.column() };
    }
    let message = error.to_string();
    let safe = if message.starts_with("missing field") {
        message.split(" at line").next().unwrap_or_default().to_owned()
    } else {
        format!("a member has the wrong type at line {}, column {}", error.line(), error.column())
    };
    DecodeError::NotAnEnvelope(safe)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Event {
        let metadata = Json::try_from(Bytes::from_static(br#"{"a": 1.50}"#)).expect("JSON");
        let dados = Json::try_from(Bytes::from_static(br#"{ "x" : 1e999, "s": "\ud800" }"#)).expect("JSON");
        Event {
            id: Uuid::from_u128(1),
            tipo_evento: "lead".into(),
            usuario: "ana \"x\"".into(),
            evento: "lead_novo".into(),
            valor: 72.5,
            timestamp: DateTime::UNIX_EPOCH,
            categoria: "vendas".into(),
            metadata,
            entidade: Entidade { id: "9007199254740993".into(), versao: i64::MAX, removida: false },
            dados,
        }
    }

    #[test]
    fn an_event_survives_the_log_byte_for_byte() {
        let encoded = event().encode();
        let decoded = Event::decode(Some(&encoded)).expect("an event");
        assert_eq!(decoded, event());
        assert_eq!(decoded.encode(), encoded);
        assert_eq!(decoded.dados.as_str(), r#"{ "x" : 1e999, "s": "\ud800" }"#);
    }

    #[test]
    fn a_removal_says_so_apart_from_its_name_and_survives_the_log() {
        let leads = Catalog::built_in().get("leads").expect("leads");
        let removal = Event::removal(leads, "7", Uuid::from_u128(2), DateTime::UNIX_EPOCH, 9);
        assert_eq!((removal.evento.as_str(), removal.tipo_evento.as_str()), ("lead_removido", "lead"));
        assert_eq!(Event::decode(Some(&removal.encode())), Ok(removal));
        let ordinary = event().encode();
        assert!(
            !String::from_utf8_lossy(&ordinary).contains("removida"),
            "nothing is said of rows that are there"
        );
    }

    #[test]
    fn the_entity_leads_to_its_table_or_to_a_reason() {
        let catalog = Catalog::built_in();
        let mut event = event();
        assert_eq!(event.table(catalog), Ok(catalog.get("leads")));
        event.tipo_evento = MANUAL.into();
        assert_eq!(event.table(catalog), Ok(None));
        event.tipo_evento = "pedido".into();
        assert_eq!(event.table(catalog), Err(UnknownEntity));
    }

    #[test]
    fn bytes_that_are_no_event_are_told_apart_without_being_quoted() {
        let decode = |text: &'static str| Event::decode(Some(&Bytes::from_static(text.as_bytes())));
        assert_eq!(Event::decode(None), Err(DecodeError::Empty));
        assert_eq!(decode(""), Err(DecodeError::Empty));
        assert!(matches!(decode("segredo"), Err(DecodeError::NotJson { .. })));
        let missing = decode("{}").expect_err("nothing in it").to_string();
        assert!(missing.contains("missing field"), "{missing}");
        let mut value: serde_json::Value =
            serde_json::from_slice(&event().encode()[..].replace_surrogates()).expect("JSON");
        value["valor"] = json!("segredo");
        let bytes = Bytes::from(value.to_string());
        let wrong = Event::decode(Some(&bytes)).expect_err("a wrong type").to_string();
        assert!(wrong.contains("wrong type") && !wrong.contains("segredo"), "{wrong}");
        value["valor"] = json!(1);
        value["dados"] = json!([1]);
        let bytes = Bytes::from(value.to_string());
        assert!(Event::decode(Some(&bytes)).expect_err("a list").to_string().contains("dados is no object"));
    }

    /// serde's own value holds neither 1e999 nor a lone surrogate.
    trait Plain {
        fn replace_surrogates(&self) -> Vec<u8>;
    }

    impl Plain for [u8] {
        fn replace_surrogates(&self) -> Vec<u8> {
            String::from_utf8_lossy(self).replace("1e999", "1").replace("\\ud800", "").into_bytes()
        }
    }

    #[test]
    fn a_manual_event_is_an_entity_of_its_own() {
        let manual = ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: Json::empty_object(),
        };
        let event = Event::manual(manual, DateTime::UNIX_EPOCH);
        assert_eq!(event.entidade.id, event.id.to_string());
        assert_eq!((event.tipo_evento.as_str(), event.categoria.as_str()), ("manual", "teste_manual"));
    }
}
