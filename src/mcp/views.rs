//! Stored events and entities as tools show them: no text or list longer than an answer bears.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::bounded::shorten;
use crate::{
    domain::JsonObject,
    store::{StoredEntity, StoredEvent},
};

/// One version of a source row, as stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EventView {
    id: Uuid,
    tipo_evento: String,
    evento: String,
    categoria: String,
    usuario: String,
    /// The lead's score or the session's message count.
    valor: f64,
    timestamp: DateTime<Utc>,
    entidade_id: Uuid,
    /// Orders the events of one entity: microseconds since the Unix epoch.
    versao: i64,
    #[schemars(with = "JsonObject")]
    metadata: Value,
    /// The whole source row.
    #[schemars(with = "Option<JsonObject>")]
    dados: Option<Value>,
    particao: i32,
    posicao: i64,
    /// When the store took it in.
    ingerido_em: DateTime<Utc>,
}

impl EventView {
    pub(super) fn new(event: StoredEvent, with_row: bool) -> Self {
        Self {
            id: event.id,
            tipo_evento: event.tipo_evento,
            evento: text(event.evento),
            categoria: event.categoria,
            usuario: text(event.usuario),
            valor: event.valor,
            timestamp: event.timestamp,
            entidade_id: event.entidade_id,
            versao: event.versao,
            metadata: object(event.metadata),
            dados: with_row.then(|| object(event.dados)),
            particao: event.particao,
            posicao: event.posicao,
            ingerido_em: event.ingerido_em,
        }
    }
}

/// The current state of a lead or a chat session.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EntityView {
    /// The row, column by column.
    #[schemars(with = "JsonObject")]
    row: Value,
    #[schemars(with = "JsonObject")]
    metadata: Value,
    versao: i64,
    /// The event that carries this state.
    evento_id: Uuid,
}

impl EntityView {
    pub(super) fn new(entity: StoredEntity) -> Self {
        Self {
            row: object(entity.row),
            metadata: object(entity.metadata),
            versao: entity.versao,
            evento_id: entity.evento_id,
        }
    }
}

fn object(object: JsonObject) -> Value {
    let mut value = Value::Object(object);
    shorten(&mut value);
    value
}

fn text(text: String) -> String {
    let mut value = Value::String(text);
    shorten(&mut value);
    value.as_str().unwrap_or_default().to_owned()
}
