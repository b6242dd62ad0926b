//! Events and entities as columns of text, the form in which both COPY and UNNEST take them: Postgres parses each
//! value itself, exactly as it would parse a literal, arrays included.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use crate::{
    domain::{ChatSession, Dados, Event, JsonObject, Lead},
    sink::SinkEvent,
};

/// A column and its type.
pub(super) type Column = (&'static str, &'static str);

/// Rows of one table, column by column.
pub(super) struct Rows {
    pub(super) columns: &'static [Column],
    pub(super) values: Vec<Vec<Option<String>>>,
}

pub(super) const EVENT_COLUMNS: &[Column] = &[
    ("id", "uuid"),
    ("tipo_evento", "text"),
    ("usuario", "text"),
    ("evento", "text"),
    ("valor", "float8"),
    ("timestamp", "timestamptz"),
    ("categoria", "text"),
    ("metadata", "jsonb"),
    ("entidade_id", "uuid"),
    ("versao", "int8"),
    ("dados", "jsonb"),
    ("particao", "int4"),
    ("posicao", "int8"),
];

pub(super) const LEAD_COLUMNS: &[Column] = &[
    ("id", "uuid"),
    ("nome", "text"),
    ("email", "text"),
    ("telefone", "text"),
    ("nome_empresa", "text"),
    ("nome_projeto", "text"),
    ("localizacao", "jsonb"),
    ("interesse", "text[]"),
    ("score_qualificacao", "int8"),
    ("status_lead", "text"),
    ("origem", "text"),
    ("utm_source", "text"),
    ("utm_medium", "text"),
    ("utm_campaign", "text"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
    ("last_interaction_at", "timestamptz"),
    ("metadata", "jsonb"),
    ("versao", "int8"),
    ("evento_id", "uuid"),
];

pub(super) const SESSION_COLUMNS: &[Column] = &[
    ("id", "uuid"),
    ("lead_id", "text"),
    ("user_agent", "text"),
    ("ip_address", "text"),
    ("total_messages", "int8"),
    ("duration_seconds", "int8"),
    ("pages_visited", "text[]"),
    ("perguntas_feitas", "text[]"),
    ("intencao_detectada", "text"),
    ("nivel_interesse", "text"),
    ("started_at", "timestamptz"),
    ("ended_at", "timestamptz"),
    ("is_active", "bool"),
    ("metadata", "jsonb"),
    ("versao", "int8"),
    ("evento_id", "uuid"),
];

impl Rows {
    fn with(columns: &'static [Column], rows: impl Iterator<Item = Vec<Option<String>>>) -> Self {
        let mut values: Vec<Vec<Option<String>>> =
            std::iter::repeat_with(Vec::new).take(columns.len()).collect();
        for row in rows {
            debug_assert_eq!(row.len(), columns.len());
            for (column, value) in values.iter_mut().zip(row) {
                column.push(value);
            }
        }
        Self { columns, values }
    }

    pub(super) fn len(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// `eventos_raw`.
    pub(super) fn of_events<'a>(events: impl Iterator<Item = &'a SinkEvent>) -> Self {
        Self::with(EVENT_COLUMNS, events.map(event_row))
    }

    /// `leads`; events of other kinds are passed over.
    pub(super) fn of_leads<'a>(events: impl Iterator<Item = &'a SinkEvent>) -> Self {
        let rows = events.filter_map(|sink| match &sink.event.dados {
            Dados::Lead(lead) => Some(lead_row(lead, &sink.event)),
            Dados::ChatSession(_) | Dados::Manual(_) => None,
        });
        Self::with(LEAD_COLUMNS, rows)
    }

    /// `chat_sessions`; events of other kinds are passed over.
    pub(super) fn of_sessions<'a>(events: impl Iterator<Item = &'a SinkEvent>) -> Self {
        let rows = events.filter_map(|sink| match &sink.event.dados {
            Dados::ChatSession(session) => Some(session_row(session, &sink.event)),
            Dados::Lead(_) | Dados::Manual(_) => None,
        });
        Self::with(SESSION_COLUMNS, rows)
    }

    /// One row in the text format of COPY, which sets columns apart by tabs and escapes with backslashes.
    /// <https://www.postgresql.org/docs/current/sql-copy.html>
    pub(super) fn copy_text(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * 512);
        for row in 0..self.len() {
            for (i, column) in self.values.iter().enumerate() {
                if i > 0 {
                    out.push(b'\t');
                }
                match &column[row] {
                    None => out.extend_from_slice(b"\\N"),
                    Some(value) => copy_value(value, &mut out),
                }
            }
            out.push(b'\n');
        }
        out
    }
}

fn copy_value(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.push(other),
        }
    }
}

fn event_row(sink: &SinkEvent) -> Vec<Option<String>> {
    let event = &sink.event;
    vec![
        text(event.id),
        text(event.tipo().as_str()),
        text(&event.usuario),
        text(&event.evento),
        text(event.valor),
        text(time(event.timestamp)),
        text(event.categoria.as_str()),
        text(json(&event.metadata)),
        text(event.entidade.id),
        text(event.entidade.versao),
        text(dados(&event.dados)),
        text(sink.position.partition),
        text(sink.position.offset),
    ]
}

fn lead_row(lead: &Lead, event: &Event) -> Vec<Option<String>> {
    vec![
        text(lead.id),
        lead.nome.clone(),
        lead.email.clone(),
        lead.telefone.clone(),
        lead.nome_empresa.clone(),
        lead.nome_projeto.clone(),
        lead.localizacao.as_ref().map(Value::to_string),
        text(array(&lead.interesse)),
        lead.score_qualificacao.map(|score| score.to_string()),
        lead.status_lead.clone(),
        lead.origem.clone(),
        lead.utm_source.clone(),
        lead.utm_medium.clone(),
        lead.utm_campaign.clone(),
        lead.created_at.map(time),
        lead.updated_at.map(time),
        lead.last_interaction_at.map(time),
        text(json(&event.metadata)),
        text(event.entidade.versao),
        text(event.id),
    ]
}

fn session_row(session: &ChatSession, event: &Event) -> Vec<Option<String>> {
    vec![
        text(session.id),
        session.lead_id.clone(),
        session.user_agent.clone(),
        session.ip_address.clone(),
        session.total_messages.map(|count| count.to_string()),
        session.duration_seconds.map(|seconds| seconds.to_string()),
        text(array(&session.pages_visited)),
        text(array(&session.perguntas_feitas)),
        session.intencao_detectada.clone(),
        session.nivel_interesse.clone(),
        session.started_at.map(time),
        session.ended_at.map(time),
        session.is_active.map(|active| active.to_string()),
        text(json(&event.metadata)),
        text(event.entidade.versao),
        text(event.id),
    ]
}

fn text(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn time(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn json(object: &JsonObject) -> String {
    // A map with text keys always serializes.
    serde_json::to_string(object).unwrap_or_default()
}

fn dados(dados: &Dados) -> String {
    let json = match dados {
        Dados::Lead(lead) => serde_json::to_string(lead),
        Dados::ChatSession(session) => serde_json::to_string(session),
        Dados::Manual(object) => serde_json::to_string(object),
    };
    json.unwrap_or_default()
}

/// An array literal with every element quoted.
/// <https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>
fn array(items: &[String]) -> String {
    let mut out = String::from("{");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        for c in item.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

/// The first member of an event that Postgres can't store, so that the server need not be asked.
pub(super) fn unstorable(event: &Event) -> Option<&'static str> {
    if !event.valor.is_finite() {
        return Some("valor is not a finite number");
    }
    // The envelope holds every text there is, as dados and metadata.
    let has_nul = |text: &str| text.contains('\0');
    let dados = match &event.dados {
        Dados::Manual(object) => holds_nul(&Value::Object(object.clone())),
        other => dados(other).contains("\\u0000") && typed_holds_nul(other),
    };
    let metadata = event.metadata.iter().any(|(key, value)| has_nul(key) || holds_nul(value));
    (dados || metadata || has_nul(&event.usuario) || has_nul(&event.evento))
        .then_some("a text holds the character U+0000, which Postgres can't store")
}

fn typed_holds_nul(data: &Dados) -> bool {
    serde_json::from_str::<Value>(&dados(data)).is_ok_and(|value| holds_nul(&value))
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(object) => object.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Table;

    #[test]
    fn array_elements_are_quoted_and_escaped() {
        let items = ["a".to_owned(), "b,\"c\"\\".to_owned(), String::new(), "NULL".to_owned()];
        assert_eq!(array(&items), r#"{"a","b,\"c\"\\","","NULL"}"#);
        assert_eq!(array(&[]), "{}");
    }

    #[test]
    fn copy_escapes_what_sets_columns_and_rows_apart() {
        let rows = Rows {
            columns: &[("a", "text"), ("b", "text")],
            values: vec![vec![Some("x\ty\\\n".to_owned())], vec![None]],
        };
        assert_eq!(rows.copy_text(), b"x\\ty\\\\\\n\t\\N\n");
    }

    #[test]
    fn a_nul_is_found_at_any_depth_and_an_escaped_one_is_not_mistaken_for_it() {
        let event = |row: Value| {
            let row = row.as_object().cloned().expect("an object");
            Event::from_row(Table::Leads, row, DateTime::UNIX_EPOCH).expect("an event")
        };
        let id = "5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01";
        assert!(unstorable(&event(json!({"id": id, "nome": "a\0b"}))).is_some());
        assert!(unstorable(&event(json!({"id": id, "localizacao": {"c": ["\0"]}}))).is_some());
        assert!(unstorable(&event(json!({"id": id, "outra": {"\0": 1}}))).is_some());
        assert!(unstorable(&event(json!({"id": id, "nome": "a\\u0000b"}))).is_none());
    }
}
