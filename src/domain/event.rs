//! The event envelope: the value of a log record, immutable, one version of one source row.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{ChatSession, JsonObject, Lead, RowError, Table, event_id, micros};

/// The envelope's version, in every record's `schema` header.
pub const ENVELOPE_VERSION: &str = "1";

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TipoEvento {
    Lead,
    ChatSession,
    Manual,
}

impl TipoEvento {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lead => "lead",
            Self::ChatSession => "chat_session",
            Self::Manual => "manual",
        }
    }
}

/// The business area an event counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Categoria {
    Vendas,
    Engajamento,
    TesteManual,
}

impl Categoria {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vendas => "vendas",
            Self::Engajamento => "engajamento",
            Self::TesteManual => "teste_manual",
        }
    }
}

/// The entity an event belongs to, and the event's place in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entidade {
    pub id: Uuid,
    /// Microseconds since the Unix epoch; a sink never replaces an entity with a lower one.
    pub versao: i64,
}

/// The whole row an event was made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Dados {
    Lead(Box<Lead>),
    ChatSession(Box<ChatSession>),
    Manual(JsonObject),
}

/// One version of a source row, or a manual event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// UUIDv5 of table, row id and row content: the same content is always the same event.
    pub id: Uuid,
    pub usuario: String,
    /// `lead_<status_lead>`, `chat_session`, or free text for a manual event.
    pub evento: String,
    /// The lead's score or the session's message count.
    pub valor: f64,
    pub timestamp: DateTime<Utc>,
    pub categoria: Categoria,
    /// What the old pipeline's queries read, and the columns sluice has no type for.
    pub metadata: JsonObject,
    pub entidade: Entidade,
    pub dados: Dados,
}

/// A hand-made event, before it has an identity.
#[derive(Debug, Clone, PartialEq)]
pub struct ManualEvent {
    /// Given to make a repeated injection harmless; else a UUIDv7.
    pub id: Option<Uuid>,
    pub usuario: String,
    pub evento: String,
    pub valor: f64,
    pub metadata: JsonObject,
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
    /// Turns a source row into its event.
    ///
    /// `read_at` is the instant the row was read: it orders the events of tables without `updated_at`.
    ///
    /// # Errors
    /// When the row has no id or a column of the wrong type; the row then belongs in the dead letters.
    pub fn from_row(table: Table, row: JsonObject, read_at: DateTime<Utc>) -> Result<Self, RowError> {
        let digest_of = without_forbidden(table, &row);
        match table {
            Table::Leads => {
                let (lead, rest) = Lead::from_row(row)?;
                Ok(Self {
                    id: event_id(table, lead.id, &digest_of),
                    usuario: lead.usuario(),
                    evento: lead.evento(),
                    valor: as_double(lead.score_qualificacao),
                    timestamp: lead.changed_at().unwrap_or(read_at),
                    categoria: Categoria::Vendas,
                    metadata: with_rest(lead.metadata(), rest),
                    entidade: Entidade { id: lead.id, versao: micros(lead.updated_at.unwrap_or(read_at)) },
                    dados: Dados::Lead(Box::new(lead)),
                })
            }
            Table::ChatSessions => {
                let (session, rest) = ChatSession::from_row(row)?;
                Ok(Self {
                    id: event_id(table, session.id, &digest_of),
                    usuario: session.usuario(),
                    evento: "chat_session".to_owned(),
                    valor: as_double(session.total_messages),
                    timestamp: session.started_at.unwrap_or(read_at),
                    categoria: Categoria::Engajamento,
                    metadata: with_rest(session.metadata(), rest),
                    entidade: Entidade { id: session.id, versao: micros(read_at) },
                    dados: Dados::ChatSession(Box::new(session)),
                })
            }
        }
    }

    /// Gives a hand-made event its identity; it is an entity of its own.
    pub fn manual(event: ManualEvent, now: DateTime<Utc>) -> Self {
        let id = event.id.unwrap_or_else(Uuid::now_v7);
        Self {
            id,
            usuario: event.usuario,
            evento: event.evento,
            valor: event.valor,
            timestamp: now,
            categoria: Categoria::TesteManual,
            metadata: event.metadata,
            entidade: Entidade { id, versao: micros(now) },
            dados: Dados::Manual(JsonObject::new()),
        }
    }

    /// What the event is about.
    pub fn tipo(&self) -> TipoEvento {
        match self.dados {
            Dados::Lead(_) => TipoEvento::Lead,
            Dados::ChatSession(_) => TipoEvento::ChatSession,
            Dados::Manual(_) => TipoEvento::Manual,
        }
    }

    /// The table whose entity this event carries; a manual event carries none.
    pub fn table(&self) -> Option<Table> {
        match self.dados {
            Dados::Lead(_) => Some(Table::Leads),
            Dados::ChatSession(_) => Some(Table::ChatSessions),
            Dados::Manual(_) => None,
        }
    }

    /// Every instant the event carries in a column of its own.
    pub fn instants(&self) -> impl Iterator<Item = DateTime<Utc>> {
        let row = match &self.dados {
            Dados::Lead(lead) => [lead.created_at, lead.updated_at, lead.last_interaction_at],
            Dados::ChatSession(session) => [session.started_at, session.ended_at, None],
            Dados::Manual(_) => [None, None, None],
        };
        std::iter::once(self.timestamp).chain(row.into_iter().flatten())
    }

    /// The record's value: the envelope as compact JSON, without a line break.
    pub fn encode(&self) -> Bytes {
        let dados = match &self.dados {
            Dados::Lead(lead) => DadosRef::Lead(lead),
            Dados::ChatSession(session) => DadosRef::ChatSession(session),
            Dados::Manual(object) => DadosRef::Manual(object),
        };
        let envelope = EnvelopeRef {
            id: self.id,
            tipo_evento: self.tipo(),
            usuario: &self.usuario,
            evento: &self.evento,
            valor: self.valor,
            timestamp: self.timestamp,
            categoria: self.categoria,
            metadata: &self.metadata,
            entidade: self.entidade,
            dados,
        };
        // Every key is a string and no member can fail to serialize, so this has no error to report.
        Bytes::from(serde_json::to_vec(&envelope).unwrap_or_default())
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// When the bytes are missing, not JSON, or not an envelope; the record then belongs in the dead letters.
    pub fn decode(value: Option<&[u8]>) -> Result<Self, DecodeError> {
        let value = value.filter(|bytes| !bytes.is_empty()).ok_or(DecodeError::Empty)?;
        let envelope: Envelope<'_> = serde_json::from_slice(value).map_err(|e| decode_error(&e))?;
        let raw = envelope.dados.get();
        let parse_error = |e: serde_json::Error| decode_error(&e);
        let dados = match envelope.tipo_evento {
            TipoEvento::Lead => Dados::Lead(serde_json::from_str(raw).map_err(parse_error)?),
            TipoEvento::ChatSession => Dados::ChatSession(serde_json::from_str(raw).map_err(parse_error)?),
            TipoEvento::Manual => Dados::Manual(serde_json::from_str(raw).map_err(parse_error)?),
        };
        Ok(Self {
            id: envelope.id,
            usuario: envelope.usuario,
            evento: envelope.evento,
            valor: envelope.valor,
            timestamp: envelope.timestamp,
            categoria: envelope.categoria,
            metadata: envelope.metadata,
            entidade: envelope.entidade,
            dados,
        })
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: Uuid,
    tipo_evento: TipoEvento,
    usuario: String,
    evento: String,
    valor: f64,
    timestamp: DateTime<Utc>,
    categoria: Categoria,
    #[serde(default)]
    metadata: JsonObject,
    entidade: Entidade,
    #[serde(borrow)]
    dados: &'a RawValue,
}

#[derive(Serialize)]
struct EnvelopeRef<'a> {
    id: Uuid,
    tipo_evento: TipoEvento,
    usuario: &'a str,
    evento: &'a str,
    valor: f64,
    timestamp: DateTime<Utc>,
    categoria: Categoria,
    metadata: &'a JsonObject,
    entidade: Entidade,
    dados: DadosRef<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DadosRef<'a> {
    Lead(&'a Lead),
    ChatSession(&'a ChatSession),
    Manual(&'a JsonObject),
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

fn without_forbidden(table: Table, row: &JsonObject) -> JsonObject {
    let forbidden = table.forbidden_columns();
    row.iter()
        .filter(|(key, _)| !forbidden.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

pub(super) fn without_nulls(value: Value) -> JsonObject {
    match value {
        Value::Object(mut object) => {
            object.retain(|_, member| !member.is_null());
            object
        }
        _ => JsonObject::new(),
    }
}

/// Adds the unknown columns; one that bears a known member's name keeps its value under `coluna_<name>`.
fn with_rest(mut metadata: JsonObject, rest: JsonObject) -> JsonObject {
    for (key, value) in rest {
        let key = if metadata.contains_key(&key) { format!("coluna_{key}") } else { key };
        metadata.insert(key, value);
    }
    metadata
}

#[allow(clippy::cast_precision_loss)]
fn as_double(number: Option<i64>) -> f64 {
    number.unwrap_or_default() as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LEAD: &str = "5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01";

    fn object(value: Value) -> JsonObject {
        value.as_object().cloned().expect("an object")
    }

    fn read_at() -> DateTime<Utc> {
        DateTime::from_timestamp_micros(1_780_000_000_000_000).expect("an instant")
    }

    fn lead_event(row: Value) -> Event {
        Event::from_row(Table::Leads, object(row), read_at()).expect("an event")
    }

    #[test]
    fn a_lead_becomes_the_event_the_old_queries_know() {
        let event = lead_event(json!({
            "id": LEAD, "nome": "Ana Conceição", "email": "ana@exemplo.com.br",
            "nome_empresa": "Padaria São João", "interesse": ["apartamento"],
            "score_qualificacao": 85, "status_lead": "qualificado", "origem": "google",
            "updated_at": "2026-05-01T12:00:00.000001+00:00", "corretor": "Bia", "empresa": "outra"
        }));
        assert_eq!(event.evento, "lead_qualificado");
        assert_eq!(event.usuario, "ana@exemplo.com.br");
        assert!((event.valor - 85.0).abs() < f64::EPSILON);
        assert_eq!(event.categoria, Categoria::Vendas);
        assert_eq!(event.metadata["empresa"], "Padaria São João");
        assert_eq!(event.metadata["corretor"], "Bia", "an unknown column is kept");
        assert_eq!(event.metadata["coluna_empresa"], "outra", "even one that clashes");
        assert_eq!(event.entidade.versao, 1_777_636_800_000_001);
    }

    #[test]
    fn an_encoded_event_decodes_to_itself() {
        let lead = lead_event(json!({"id": LEAD, "nome": "Zé\n\"aspas\"", "localizacao": {"uf": "SP"}}));
        let session = Event::from_row(
            Table::ChatSessions,
            object(json!({"id": LEAD, "total_messages": 3, "pages_visited": ["/a"]})),
            read_at(),
        )
        .expect("an event");
        for event in [lead, session] {
            let bytes = event.encode();
            assert!(!bytes.contains(&b'\n'), "an envelope is one line");
            assert_eq!(Event::decode(Some(&bytes)), Ok(event));
        }
    }

    #[test]
    fn a_session_token_leaves_no_trace_even_when_the_source_sends_it() {
        let row = json!({"id": LEAD, "session_token": "segredo", "total_messages": 1});
        let event = Event::from_row(Table::ChatSessions, object(row), read_at()).expect("an event");
        assert!(!String::from_utf8_lossy(&event.encode()).contains("segredo"));
        let bare = json!({"id": LEAD, "total_messages": 1});
        let same = Event::from_row(Table::ChatSessions, object(bare), read_at()).expect("an event");
        assert_eq!(event.id, same.id, "the token is no part of the identity");
    }

    #[test]
    fn a_changed_row_is_a_new_event_of_the_same_entity() {
        let before = lead_event(json!({"id": LEAD, "score_qualificacao": 10}));
        let after = lead_event(json!({"id": LEAD, "score_qualificacao": 20}));
        assert_ne!(before.id, after.id);
        assert_eq!(before.entidade.id, after.entidade.id);
    }

    #[test]
    fn a_row_without_id_is_refused_by_name() {
        let error =
            Event::from_row(Table::Leads, object(json!({"nome": "Ana"})), read_at()).expect_err("no id");
        assert_eq!(error.field, "id");
    }

    #[test]
    fn decoding_tells_what_is_wrong_without_repeating_the_bytes() {
        assert_eq!(Event::decode(None), Err(DecodeError::Empty));
        assert!(matches!(Event::decode(Some(b"{nope")), Err(DecodeError::NotJson { .. })));
        let error = Event::decode(Some(br#"{"id":"segredo"}"#)).expect_err("no envelope");
        assert!(!error.to_string().contains("segredo"), "{error}");
        let error = Event::decode(Some(b"{}")).expect_err("no envelope");
        assert_eq!(error.to_string(), "value is not an event envelope: missing field `id`");
    }
}
