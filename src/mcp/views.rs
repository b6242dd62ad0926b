//! Stored events and entities as tools show them: no text or list longer than an answer bears.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

use super::{
    bounded::{LONGEST_TEXT, shorten, shorten_to, without_repeats},
    output::Outgoing,
};
use crate::{
    domain::{Json, JsonObject, Members, json},
    store::{StoredEntity, StoredEvent},
};

/// A value nested deeper is told by its text: no client draws it, and some can't read it.
const MAX_DEPTH: usize = 32;

/// Bytes of JSON that a row may have, and what is told beside it: one of each fits into any answer.
const ROOM_OF_ROW: usize = 14_000;
const ROOM_BESIDE: usize = 6_000;

/// The most digits that every double keeps.
const MAX_DIGITS: usize = 15;

/// One version of a source row, as stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EventView {
    id: Uuid,
    tipo_evento: String,
    evento: String,
    categoria: String,
    usuario: String,
    /// What the table's definition counts: a lead's score, a session's messages.
    valor: f64,
    timestamp: DateTime<Utc>,
    entidade_id: String,
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
    processado_em: DateTime<Utc>,
    /// What became of the column whose changes were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<ChangeView>,
    /// Something was too long.
    #[serde(skip)]
    pub(super) is_cut: bool,
}

/// A column's value in one version and the next; absent where it had none.
#[derive(Debug, Serialize, JsonSchema)]
struct ChangeView {
    before: Value,
    after: Value,
}

impl EventView {
    /// What of an event may leave.
    pub(super) fn new(event: StoredEvent, with_row: bool, outgoing: &Outgoing) -> Self {
        let no_row = JsonObject::new();
        Self::beside(event, with_row, &no_row, outgoing)
    }

    /// An event, and what became of `column` in it, as the project names it, where its changes were asked for.
    pub(super) fn changed(
        mut event: StoredEvent,
        column: Option<&str>,
        with_row: bool,
        outgoing: &Outgoing,
    ) -> Self {
        let change = event.change.take().zip(column).map(|(change, column)| ChangeView {
            before: shown(column, &change.before, outgoing),
            after: shown(column, &change.after, outgoing),
        });
        Self { change, ..Self::new(event, with_row, outgoing) }
    }

    /// An event beside a row: its metadata says only what that row does not.
    pub(super) fn beside(event: StoredEvent, with_row: bool, row: &JsonObject, outgoing: &Outgoing) -> Self {
        let mut metadata = members(&event.metadata);
        let dados = with_row.then(|| members(&event.dados));
        without_repeats(&mut metadata, row);
        if let Some(dados) = &dados {
            without_repeats(&mut metadata, dados);
        }
        if !with_row {
            point_to_dados(&mut metadata);
        }
        let mut is_cut = false;
        let metadata = (!metadata.is_empty()).then(|| object(metadata, ROOM_BESIDE, outgoing, &mut is_cut));
        let dados = dados.map(|dados| object(dados, ROOM_OF_ROW, outgoing, &mut is_cut));
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
            processado_em: event.processado_em,
            change: None,
            is_cut,
        }
    }
}

/// The current state of an entity.
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
    pub(super) fn new(entity: StoredEntity, outgoing: &Outgoing) -> Self {
        let mut metadata = members(&entity.metadata);
        without_repeats(&mut metadata, &entity.row);
        point_to_dados(&mut metadata);
        let mut is_cut = false;
        Self {
            row: object(entity.row, ROOM_OF_ROW, outgoing, &mut is_cut),
            metadata: (!metadata.is_empty()).then(|| object(metadata, ROOM_BESIDE, outgoing, &mut is_cut)),
            versao: entity.versao,
            evento_id: entity.evento_id,
            is_cut,
        }
    }
}

/// Says where the whole of a value is, of which metadata keeps the size, beside no row.
fn point_to_dados(metadata: &mut JsonObject) {
    for value in metadata.values_mut() {
        if let Value::String(text) = value
            && let Some(size) =
                text.strip_prefix('(').and_then(|text| text.strip_suffix(" bytes, see dados)"))
        {
            *text = format!("({size} bytes: query_raw_events with include_dados shows it)");
        }
    }
}

/// Masked first: half of an address does not look like one.
fn object(object: JsonObject, room: usize, outgoing: &Outgoing, is_cut: &mut bool) -> Value {
    let mut value = Value::Object(object);
    outgoing.value(&mut value);
    *is_cut |= shorten_to(&mut value, LONGEST_TEXT, room);
    value
}

/// A value of a column as it may stand in a line: no name stands beside it, so it is masked by its column's.
fn shown(column: &str, json: &str, outgoing: &Outgoing) -> Value {
    let mut value = value_of(json, 0);
    outgoing.field(column, &mut value);
    shorten(&mut value, LONGEST_TEXT);
    value
}

/// The members of a row as JSON libraries read them.
pub(super) fn members(row: &Json) -> JsonObject {
    match value_of(row.as_str(), 0) {
        Value::Object(members) => members,
        _ => JsonObject::new(),
    }
}

/// A value that JSON libraries read without loss: a number of more digits than a double keeps becomes a text.
fn value_of(value: &str, depth: usize) -> Value {
    match value.as_bytes().first() {
        Some(b'{' | b'[') if depth == MAX_DEPTH => Value::String(value.to_owned()),
        Some(b'{') => {
            let members = Members::of(value).unwrap_or_default();
            let member = |member: &json::Member<'_>| {
                (member.name.clone().into_owned(), value_of(member.value, depth + 1))
            };
            Value::Object(members.iter().map(member).collect::<Map<_, _>>())
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(value).unwrap_or_default();
            Value::Array(items.into_iter().map(|item| value_of(item.get(), depth + 1)).collect())
        }
        Some(b'"') => Value::String(json::text(value).unwrap_or_default().into_owned()),
        Some(b't' | b'f' | b'n') => serde_json::from_str(value).unwrap_or_default(),
        _ => {
            let digits = value.split(['e', 'E']).next().unwrap_or_default();
            let digits = digits.bytes().filter(u8::is_ascii_digit).count();
            let exact = if digits <= MAX_DIGITS {
                serde_json::from_str(value).ok()
            } else {
                value.parse().ok().map(|whole: i64| Value::from(whole))
            };
            exact.unwrap_or_else(|| Value::String(value.to_owned()))
        }
    }
}

fn text(mut text: String, outgoing: &Outgoing, is_cut: &mut bool) -> String {
    outgoing.text(&mut text);
    let mut value = Value::String(text);
    *is_cut |= shorten(&mut value, LONGEST_TEXT);
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_a_double_would_change_is_shown_as_text() {
        let shown = value_of(
            r#"{"a": 72.50, "b": 1234567890123456789012, "c": 1e999, "d": 9007199254740993, "e": 0.1000000000000000055}"#,
            0,
        );
        assert_eq!(
            shown,
            json!({"a": 72.5, "b": "1234567890123456789012", "c": "1e999", "d": 9_007_199_254_740_993_i64, "e": "0.1000000000000000055"})
        );
    }

    #[test]
    fn depth_and_odd_escapes_are_shown_all_the_same() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        assert!(value_of(&deep, 0).to_string().contains("[[[["));
        assert_eq!(value_of(r#"["\ud800", true, null]"#, 0), json!(["\u{fffd}", true, null]));
    }
}
