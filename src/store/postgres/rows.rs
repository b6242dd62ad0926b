//! A batch as the rows it becomes: which events, which entities, in which order, column by column.
//!
//! Guarantee: rows are unique and sorted by their key, so that a statement never meets a row twice and two
//! workers never wait for each other in a circle.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::columns::{Column, Values, list_literal};
use crate::{
    domain::{ChatSession, Dados, Lead, Table},
    log::Position,
    sink::{SinkBatch, SinkEvent},
};

/// An event and its JSON members as text: the server parses them, so they are written once and never read here.
pub(super) struct Row<'a> {
    pub(super) source: &'a SinkEvent,
    pub(super) metadata: String,
    pub(super) dados: String,
    localizacao: Option<String>,
}

/// What a batch becomes.
pub(super) struct Rows<'a> {
    /// Every event of the batch, in its order.
    pub(super) all: Vec<Row<'a>>,
    /// Where in `all` each different event stands, sorted by its id.
    distinct: Vec<usize>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(batch: &'a SinkBatch) -> Self {
        let all: Vec<Row<'a>> = batch.events.iter().map(Row::of).collect();
        let mut distinct: Vec<usize> = (0..all.len()).collect();
        // Stable: of equal ids the first stays, as it would event by event.
        distinct.sort_by_key(|i| all[*i].source.event.id);
        distinct.dedup_by_key(|i| all[*i].source.event.id);
        Self { all, distinct }
    }

    /// The columns of `eventos_raw`.
    pub(super) fn event_columns(&self) -> Vec<Column<'_>> {
        let rows: Vec<&Row<'_>> = self.distinct.iter().map(|i| &self.all[*i]).collect();
        let text =
            |of: fn(&SinkEvent) -> &str| Values::Text(rows.iter().map(|row| Some(of(row.source))).collect());
        vec![
            Column::new("id", Values::Uuid(rows.iter().map(|row| row.source.event.id).collect())),
            Column::new("tipo_evento", text(|source| source.event.tipo().as_str())),
            Column::new("usuario", text(|source| &source.event.usuario)),
            Column::new("evento", text(|source| &source.event.evento)),
            Column::new("valor", Values::Double(rows.iter().map(|row| row.source.event.valor).collect())),
            Column::new(
                "timestamp",
                Values::Instant(rows.iter().map(|row| Some(row.source.event.timestamp)).collect()),
            ),
            Column::new("categoria", text(|source| source.event.categoria.as_str())),
            Column::new(
                "metadata",
                Values::Json(rows.iter().map(|row| Some(row.metadata.as_str())).collect()),
            ),
            Column::new("dados", Values::Json(rows.iter().map(|row| Some(row.dados.as_str())).collect())),
            Column::new(
                "entidade_id",
                Values::Uuid(rows.iter().map(|row| row.source.event.entidade.id).collect()),
            ),
            Column::new(
                "versao",
                Values::Bigint(rows.iter().map(|row| Some(row.source.event.entidade.versao)).collect()),
            ),
            Column::new(
                "particao",
                Values::Integer(rows.iter().map(|row| row.source.position.partition).collect()),
            ),
            Column::new(
                "posicao",
                Values::Bigint(rows.iter().map(|row| Some(row.source.position.offset)).collect()),
            ),
        ]
    }

    /// The newest row of each entity of a table, sorted by the entity.
    pub(super) fn newest_of(&self, batch: &SinkBatch, table: Table) -> Vec<&Row<'a>> {
        let at: HashMap<Position, usize> =
            self.all.iter().enumerate().map(|(i, row)| (row.source.position, i)).collect();
        let mut newest: Vec<&Row<'a>> = batch
            .newest_of(table)
            .into_iter()
            .filter_map(|source| at.get(&source.position))
            .map(|i| &self.all[*i])
            .collect();
        newest.sort_unstable_by_key(|row| row.source.event.entidade.id);
        newest
    }
}

impl<'a> Row<'a> {
    fn of(source: &'a SinkEvent) -> Self {
        // Every key is a string and no member can fail to serialize: there is no error to report.
        let (dados, localizacao) = match &source.event.dados {
            Dados::Lead(lead) => (serde_json::to_string(lead), lead.localizacao.as_ref()),
            Dados::ChatSession(session) => (serde_json::to_string(session), None),
            Dados::Manual(object) => (serde_json::to_string(object), None),
        };
        Self {
            source,
            metadata: serde_json::to_string(&source.event.metadata).unwrap_or_default(),
            dados: dados.unwrap_or_default(),
            localizacao: localizacao.map(ToString::to_string),
        }
    }
}

/// The columns of a table of entities.
pub(super) fn entity_columns<'c>(table: Table, rows: &[&'c Row<'_>]) -> Vec<Column<'c>> {
    let mut columns = match table {
        Table::Leads => lead_columns(rows),
        Table::ChatSessions => session_columns(rows),
    };
    let events = || rows.iter().map(|row| &row.source.event);
    columns.extend([
        Column::new("id", Values::Uuid(events().map(|event| event.entidade.id).collect())),
        Column::new("metadata", Values::Json(rows.iter().map(|row| Some(row.metadata.as_str())).collect())),
        Column::new("versao", Values::Bigint(events().map(|event| Some(event.entidade.versao)).collect())),
        Column::new("evento_id", Values::Uuid(events().map(|event| event.id).collect())),
    ]);
    columns
}

fn lead_columns<'c>(rows: &[&'c Row<'_>]) -> Vec<Column<'c>> {
    let leads: Vec<&'c Lead> = rows
        .iter()
        .filter_map(|row| match &row.source.event.dados {
            Dados::Lead(lead) => Some(lead.as_ref()),
            _ => None,
        })
        .collect();
    let text = |of: fn(&Lead) -> Option<&str>| Values::Text(leads.iter().map(|lead| of(lead)).collect());
    let instant =
        |of: fn(&Lead) -> Option<DateTime<Utc>>| Values::Instant(leads.iter().map(|lead| of(lead)).collect());
    vec![
        Column::new("nome", text(|lead| lead.nome.as_deref())),
        Column::new("email", text(|lead| lead.email.as_deref())),
        Column::new("telefone", text(|lead| lead.telefone.as_deref())),
        Column::new("nome_empresa", text(|lead| lead.nome_empresa.as_deref())),
        Column::new("nome_projeto", text(|lead| lead.nome_projeto.as_deref())),
        Column::new("localizacao", Values::Json(rows.iter().map(|row| row.localizacao.as_deref()).collect())),
        Column::new(
            "interesse",
            Values::List(leads.iter().map(|lead| list_literal(&lead.interesse)).collect()),
        ),
        Column::new(
            "score_qualificacao",
            Values::Bigint(leads.iter().map(|lead| lead.score_qualificacao).collect()),
        ),
        Column::new("status_lead", text(|lead| lead.status_lead.as_deref())),
        Column::new("origem", text(|lead| lead.origem.as_deref())),
        Column::new("utm_source", text(|lead| lead.utm_source.as_deref())),
        Column::new("utm_medium", text(|lead| lead.utm_medium.as_deref())),
        Column::new("utm_campaign", text(|lead| lead.utm_campaign.as_deref())),
        Column::new("created_at", instant(|lead| lead.created_at)),
        Column::new("updated_at", instant(|lead| lead.updated_at)),
        Column::new("last_interaction_at", instant(|lead| lead.last_interaction_at)),
    ]
}

fn session_columns<'c>(rows: &[&'c Row<'_>]) -> Vec<Column<'c>> {
    let sessions: Vec<&'c ChatSession> = rows
        .iter()
        .filter_map(|row| match &row.source.event.dados {
            Dados::ChatSession(session) => Some(session.as_ref()),
            _ => None,
        })
        .collect();
    let text =
        |of: fn(&ChatSession) -> Option<&str>| Values::Text(sessions.iter().map(|row| of(row)).collect());
    let bigint =
        |of: fn(&ChatSession) -> Option<i64>| Values::Bigint(sessions.iter().map(|row| of(row)).collect());
    let list = |of: fn(&ChatSession) -> &[String]| {
        Values::List(sessions.iter().map(|row| list_literal(of(row))).collect())
    };
    let instant = |of: fn(&ChatSession) -> Option<DateTime<Utc>>| {
        Values::Instant(sessions.iter().map(|row| of(row)).collect())
    };
    vec![
        Column::new("lead_id", text(|row| row.lead_id.as_deref())),
        Column::new("user_agent", text(|row| row.user_agent.as_deref())),
        Column::new("ip_address", text(|row| row.ip_address.as_deref())),
        Column::new("total_messages", bigint(|row| row.total_messages)),
        Column::new("duration_seconds", bigint(|row| row.duration_seconds)),
        Column::new("pages_visited", list(|row| &row.pages_visited)),
        Column::new("perguntas_feitas", list(|row| &row.perguntas_feitas)),
        Column::new("intencao_detectada", text(|row| row.intencao_detectada.as_deref())),
        Column::new("nivel_interesse", text(|row| row.nivel_interesse.as_deref())),
        Column::new("started_at", instant(|row| row.started_at)),
        Column::new("ended_at", instant(|row| row.ended_at)),
        Column::new("is_active", Values::Boolean(sessions.iter().map(|row| row.is_active).collect())),
    ]
}
