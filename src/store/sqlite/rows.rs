//! Events and entities as SQLite values, in the order of the columns.

use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::types::Value;
use serde::Serialize;

use crate::{
    domain::{ChatSession, Dados, Event, Lead},
    sink::SinkEvent,
};

pub(super) const EVENT_COLUMNS: &str = "id, tipo_evento, usuario, evento, valor, \"timestamp\", categoria, metadata, \
     dados, entidade_id, versao, particao, posicao";

/// What an entity has beside the columns of its table, and after them.
pub(super) const ENTITY_COLUMNS: [&str; 3] = ["metadata", "versao", "evento_id"];

pub(super) fn event(sink: &SinkEvent) -> Vec<Value> {
    let event = &sink.event;
    let dados = match &event.dados {
        Dados::Lead(lead) => json(lead),
        Dados::ChatSession(session) => json(session),
        Dados::Manual(object) => json(object),
    };
    vec![
        text(event.id),
        text(event.tipo().as_str()),
        text(&event.usuario),
        text(&event.evento),
        Value::Real(event.valor),
        text(instant(event.timestamp)),
        text(event.categoria.as_str()),
        json(&event.metadata),
        dados,
        text(event.entidade.id),
        Value::Integer(event.entidade.versao),
        Value::Integer(sink.position.partition.into()),
        Value::Integer(sink.position.offset),
    ]
}

pub(super) fn lead(lead: &Lead, event: &Event) -> Vec<Value> {
    vec![
        text(lead.id),
        optional(lead.nome.as_ref()),
        optional(lead.email.as_ref()),
        optional(lead.telefone.as_ref()),
        optional(lead.nome_empresa.as_ref()),
        optional(lead.nome_projeto.as_ref()),
        optional(lead.localizacao.as_ref()),
        json(&lead.interesse),
        integer(lead.score_qualificacao),
        optional(lead.status_lead.as_ref()),
        optional(lead.origem.as_ref()),
        optional(lead.utm_source.as_ref()),
        optional(lead.utm_medium.as_ref()),
        optional(lead.utm_campaign.as_ref()),
        optional(lead.created_at.map(instant)),
        optional(lead.updated_at.map(instant)),
        optional(lead.last_interaction_at.map(instant)),
        json(&event.metadata),
        Value::Integer(event.entidade.versao),
        text(event.id),
    ]
}

pub(super) fn session(session: &ChatSession, event: &Event) -> Vec<Value> {
    vec![
        text(session.id),
        optional(session.lead_id.as_ref()),
        optional(session.user_agent.as_ref()),
        optional(session.ip_address.as_ref()),
        integer(session.total_messages),
        integer(session.duration_seconds),
        json(&session.pages_visited),
        json(&session.perguntas_feitas),
        optional(session.intencao_detectada.as_ref()),
        optional(session.nivel_interesse.as_ref()),
        optional(session.started_at.map(instant)),
        optional(session.ended_at.map(instant)),
        integer(session.is_active.map(i64::from)),
        json(&event.metadata),
        Value::Integer(event.entidade.versao),
        text(event.id),
    ]
}

/// ISO 8601 in UTC with microseconds: sorts as text.
pub(super) fn instant(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn text(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

fn optional(value: Option<impl ToString>) -> Value {
    value.map_or(Value::Null, text)
}

fn integer(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Integer)
}

fn json(value: &impl Serialize) -> Value {
    // Rows and maps with text keys always serialize.
    Value::Text(serde_json::to_string(value).unwrap_or_default())
}
