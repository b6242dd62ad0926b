//! Stored events and entities as tools show them: no text or list longer than an answer bears.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    bounded::{LONGEST_TEXT, shorten, without_repeats},
    output::Outgoing,
};
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
    /// Of this only what dados does not have, where dados is shown.
    #[schemars(with = "Option<JsonObject>")]
    metadata: Option<Value>,
    /// The whole source row.
    #[schemars(with = "Option<JsonObject>")]
    dados: Option<Value>,
    particao: i32,
    posicao: i64,
    /// When the store took it in.
    ingerido_em: DateTime<Utc>,
    /// Something was too long.
    #[serde(skip)]
    pub(super) is_cut: bool,
}

impl EventView {
    /// What of an event may leave.
    pub(super) fn new(event: StoredEvent, with_row: bool, outgoing: &Outgoing) -> Self {
        let no_row = JsonObject::new();
        Self::beside(event, with_row, &no_row, outgoing)
    }

    /// An event beside a row: its metadata says only what that row does not.
    pub(super) fn beside(
        mut event: StoredEvent,
        with_row: bool,
        row: &JsonObject,
        outgoing: &Outgoing,
    ) -> Self {
        without_repeats(&mut event.metadata, row);
        if with_row {
            without_repeats(&mut event.metadata, &event.dados);
        }
        let mut is_cut = false;
        let metadata = (!event.metadata.is_empty()).then(|| object(event.metadata, outgoing, &mut is_cut));
        let dados = with_row.then(|| object(event.dados, outgoing, &mut is_cut));
        Self {
            id: event.id,
            tipo_evento: event.tipo_evento,
            evento: text(event.evento, outgoing, &mut is_cut),
            categoria: event.categoria,
            usuario: text(event.usuario, outgoing, &mut is_cut),
            valor: event.valor,
            timestamp: event.timestamp,
            entidade_id: event.entidade_id,
            versao: event.versao,
            metadata,
            dados,
            particao: event.particao,
            posicao: event.posicao,
            ingerido_em: event.ingerido_em,
            is_cut,
        }
    }
}

/// The current state of a lead or a chat session.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EntityView {
    /// The row, column by column.
    #[schemars(with = "JsonObject")]
    row: Value,
    /// Columns that sluice has no type for.
    #[schemars(with = "Option<JsonObject>")]
    metadata: Option<Value>,
    versao: i64,
    /// The event that carries this state.
    evento_id: Uuid,
    /// Something was too long.
    #[serde(skip)]
    pub(super) is_cut: bool,
}

impl EntityView {
    /// What of an entity may leave.
    pub(super) fn new(mut entity: StoredEntity, outgoing: &Outgoing) -> Self {
        without_repeats(&mut entity.metadata, &entity.row);
        let mut is_cut = false;
        Self {
            row: object(entity.row, outgoing, &mut is_cut),
            metadata: (!entity.metadata.is_empty()).then(|| object(entity.metadata, outgoing, &mut is_cut)),
            versao: entity.versao,
            evento_id: entity.evento_id,
            is_cut,
        }
    }
}

/// Masked first: half of an address does not look like one.
fn object(object: JsonObject, outgoing: &Outgoing, is_cut: &mut bool) -> Value {
    let mut value = Value::Object(object);
    outgoing.value(&mut value);
    *is_cut |= shorten(&mut value, LONGEST_TEXT);
    value
}

fn text(mut text: String, outgoing: &Outgoing, is_cut: &mut bool) -> String {
    outgoing.text(&mut text);
    let mut value = Value::String(text);
    *is_cut |= shorten(&mut value, LONGEST_TEXT);
    value.as_str().unwrap_or_default().to_owned()
}
