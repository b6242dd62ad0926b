//! A source row on its way to being an event.

use std::{borrow::Cow, fmt::Write as _};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Table,
    event::{Entidade, Event, can_be_added_up},
    identity::event_id,
    json::{self, Json, Members},
    projection::{Cell, Misfit, Row, RowError},
    table::placeholders,
};

/// A value in `metadata` is cut to this many bytes; `dados` holds it whole.
const MAX_METADATA_VALUE: usize = 1_024;

/// The longest `evento`: it is part of a key that dashboards group by.
const MAX_EVENTO: usize = 200;

/// The longest `usuario`.
const MAX_USUARIO: usize = 400;

/// A row with a key: it has an identity and can become an event.
#[derive(Debug, Clone)]
pub struct SourceRow {
    pub table: Table,
    /// Its text as it was sent, without columns that never leave the project.
    pub json: Json,
    pub key: String,
    /// The id of the event of this content.
    pub event_id: Uuid,
    /// When the row says it was last changed, where its table can be read on from there.
    pub modified: Option<DateTime<Utc>>,
}

impl SourceRow {
    /// Finds a row's key and identity.
    ///
    /// # Errors
    /// When it has no key: it then belongs in the dead letters.
    pub fn read(table: Table, json: Json) -> Result<Self, RowError> {
        let json = Self::visible(table, &json);
        let no_object =
            RowError { table, column: &table.definition().key.column, problem: "the row is no object" };
        let row = Row::of(table, json.as_str()).ok_or(no_object)?;
        let key = row.key()?;
        let event_id = event_id(table, &key, &row.members);
        let modified =
            table.definition().time.modified.as_deref().and_then(|name| row.get(name).to_instant());
        Ok(Self { table, key, event_id, modified, json: json.clone() })
    }

    /// A row's text without the columns that never leave the project, should the server have sent them.
    pub fn visible(table: Table, json: &Json) -> Json {
        without(json, &table.definition().never_read).unwrap_or_else(|| json.clone())
    }

    /// The row's event, and the values in it that don't fit their columns.
    ///
    /// `read_at` is the server's time when the row was read; `versao` orders the events of one entity.
    pub fn event(&self, read_at: DateTime<Utc>, versao: i64) -> (Event, Vec<Misfit>) {
        let definition = self.table.definition();
        let row = Row { table: self.table, members: self.json.members().unwrap_or_default() };
        let rule = &definition.event;
        let valor = rule.valor.as_deref().map_or(Cell::Null, |name| row.get(name));
        let summable = valor.to_double().filter(|valor| can_be_added_up(*valor));
        let not_summable = matches!((&valor, summable), (Cell::Integer(_) | Cell::Number(_), None));
        let event = Event {
            id: self.event_id,
            tipo_evento: definition.entity.clone(),
            usuario: usuario(&row, &self.key),
            evento: evento(&row),
            valor: summable.unwrap_or_default(),
            timestamp: timestamp(&row).unwrap_or(read_at),
            categoria: rule.categoria.clone(),
            metadata: metadata(&row),
            entidade: Entidade { id: self.key.clone(), versao, removida: false },
            dados: self.json.clone(),
        };
        (event, row.misfits().chain(not_summable.then_some(Misfit::VALOR)).collect())
    }
}

fn usuario(row: &Row<'_>, key: &str) -> String {
    let rule = &row.table.definition().event;
    let named = rule.usuario.iter().filter_map(|name| row.get(name).to_text());
    let found = named.map(|text| text.trim().to_owned()).find(|text| !text.is_empty());
    let found = found.or_else(|| rule.anonymous.clone()).unwrap_or_else(|| key.to_owned());
    storable(&found, MAX_USUARIO)
}

fn evento(row: &Row<'_>) -> String {
    let rule = &row.table.definition().event;
    let mut evento = rule.evento.clone();
    for name in placeholders(&rule.evento) {
        let value = row.get(name).to_text().unwrap_or_default();
        let value = if value.trim().is_empty() { &rule.missing } else { value.trim() };
        evento = evento.replace(&format!("{{{name}}}"), value);
    }
    storable(&evento, MAX_EVENTO)
}

fn timestamp(row: &Row<'_>) -> Option<DateTime<Utc>> {
    let definition = row.table.definition();
    let by_default = [&definition.time.modified, &definition.time.created].into_iter().flatten();
    let mut named = definition.event.timestamp.iter().chain(by_default);
    named.find_map(|name| row.get(name).to_instant())
}

/// What the old pipeline's queries read, and the columns that nothing lists.
fn metadata(row: &Row<'_>) -> Json {
    let definition = row.table.definition();
    let mut out = String::from("{");
    for (name, column) in &definition.event.metadata {
        if let Some(value) = row.members.get(definition.source_of(column)) {
            // A definition's names need no escapes.
            push_member(&mut out, &format!("\"{name}\""), value);
        }
    }
    for member in &row.members {
        let listed = definition.lists_source(&member.name);
        if listed
            || member.value == "null"
            || definition.never_read.iter().any(|hidden| *hidden == *member.name)
        {
            continue;
        }
        if definition.event.metadata.contains_key(&*member.name) {
            push_member(&mut out, &format!("\"coluna_{}", &member.raw_name[1..]), member.value);
        } else {
            push_member(&mut out, member.raw_name, member.value);
        }
    }
    out.push('}');
    Json::try_from(bytes::Bytes::from(out)).unwrap_or_else(|_| Json::empty_object())
}

fn push_member(out: &mut String, raw_name: &str, value: &str) {
    let value = shortened(value);
    let comma = if out.len() > 1 { "," } else { "" };
    // Writing to a string can't fail.
    let _ = write!(out, "{comma}{raw_name}:{value}");
}

/// A long text is cut, any other long value is told by its size alone.
fn shortened(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_METADATA_VALUE {
        return Cow::Borrowed(value);
    }
    let short = match json::text(value) {
        Some(text) => format!("{}…", cut(&text, MAX_METADATA_VALUE)),
        None => format!("({} bytes, see dados)", value.len()),
    };
    // A string always serializes.
    Cow::Owned(serde_json::to_string(&short).unwrap_or_default())
}

/// A text that every sink can hold, of at most `max` bytes.
fn storable(text: &str, max: usize) -> String {
    cut(&text.replace('\0', "\u{fffd}"), max).to_owned()
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The object without the members of these names; `None` where it has none of them.
fn without(json: &Json, names: &[String]) -> Option<Json> {
    let members: Members<'_> = json.members()?;
    let hidden = |name: &str| names.iter().any(|hidden| hidden == name);
    if names.is_empty() || !members.iter().any(|member| hidden(&member.name)) {
        return None;
    }
    let kept: Vec<String> = members
        .iter()
        .filter(|member| !hidden(&member.name))
        .map(|member| format!("{}:{}", member.raw_name, member.value))
        .collect();
    Json::try_from(bytes::Bytes::from(format!("{{{}}}", kept.join(",")))).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Catalog, ColumnKind};

    const LEAD: &str = "5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01";

    fn read_at() -> DateTime<Utc> {
        DateTime::from_timestamp_micros(1_780_000_000_000_000).expect("an instant")
    }

    fn read(table: &str, row: &Value) -> Result<SourceRow, RowError> {
        SourceRow::read(Catalog::built_in().get(table).expect("a table"), Json::from(row))
    }

    fn event(table: &str, row: &Value) -> (Event, Vec<Misfit>) {
        read(table, row).expect("a row").event(read_at(), 7)
    }

    fn value(json: &Json) -> Value {
        serde_json::from_str(json.as_str()).expect("JSON")
    }

    #[test]
    fn a_lead_becomes_the_event_the_old_queries_know() {
        let (event, misfits) = event(
            "leads",
            &json!({
                "id": LEAD, "nome": "Ana Conceição", "email": "ana@exemplo.com.br",
                "nome_empresa": "Padaria São João", "interesse": ["apartamento"], "telefone": null,
                "score_qualificacao": 72.5, "status_lead": " qualificado ", "origem": "google",
                "updated_at": "2026-05-01T12:00:00.000001+00:00", "corretor": "Bia", "empresa": "outra"
            }),
        );
        assert!(misfits.is_empty(), "{misfits:?}");
        assert_eq!((event.tipo_evento.as_str(), event.evento.as_str()), ("lead", "lead_qualificado"));
        assert_eq!((event.usuario.as_str(), event.categoria.as_str()), ("ana@exemplo.com.br", "vendas"));
        assert!((event.valor - 72.5).abs() < f64::EPSILON);
        assert_eq!(event.timestamp.timestamp_micros(), 1_777_636_800_000_001);
        assert_eq!(event.entidade, Entidade { id: LEAD.to_owned(), versao: 7, removida: false });
        assert_eq!(
            value(&event.metadata),
            json!({
                "nome": "Ana Conceição", "empresa": "Padaria São João", "interesses": ["apartamento"],
                "origem": "google", "status_lead": " qualificado ", "corretor": "Bia", "coluna_empresa": "outra"
            })
        );
    }

    #[test]
    fn a_row_that_tells_little_is_an_event_all_the_same() {
        let (lead, _) = event("leads", &json!({"id": LEAD}));
        assert_eq!((lead.evento.as_str(), lead.usuario.as_str()), ("lead_sem_status", LEAD));
        assert_eq!(lead.timestamp, read_at());
        let (session, _) = event("chat_sessions", &json!({"id": LEAD, "started_at": "2026-05-01T12:00:00Z"}));
        assert_eq!((session.evento.as_str(), session.usuario.as_str()), ("chat_session", "anonimo"));
    }

    #[test]
    fn the_text_that_was_sent_is_the_text_that_is_kept() {
        let sent = format!(r#"{{ "id" : "{LEAD}", "x":1e999, "y": [0.10,"\ud800"] }}"#);
        let json = Json::try_from(bytes::Bytes::from(sent.clone())).expect("JSON");
        let row = SourceRow::read(Catalog::built_in().get("leads").expect("leads"), json).expect("a row");
        let (event, _) = row.event(read_at(), 1);
        assert_eq!(event.dados.as_str(), sent);
        assert!(event.metadata.as_str().contains(r#""x":1e999"#), "{}", event.metadata.as_str());
    }

    #[test]
    fn a_column_that_must_not_be_read_is_gone_before_anything_sees_it() {
        let row = read("chat_sessions", &json!({"id": LEAD, "session_token": "segredo", "canal": "site"}))
            .expect("a row");
        let same = read("chat_sessions", &json!({"id": LEAD, "canal": "site"})).expect("a row");
        assert_eq!(row.event_id, same.event_id);
        let (event, _) = row.event(read_at(), 1);
        assert!(!event.dados.as_str().contains("segredo") && !event.metadata.as_str().contains("segredo"));
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_and_the_row_goes_on() {
        let (event, misfits) = event(
            "leads",
            &json!({"id": LEAD, "score_qualificacao": "alto", "created_at": "ontem", "nome": {"a": 1}}),
        );
        let named: Vec<_> = misfits.iter().map(|misfit| (misfit.column, misfit.kind)).collect();
        assert_eq!(
            named,
            [
                ("nome", ColumnKind::Text),
                ("score_qualificacao", ColumnKind::Number),
                ("created_at", ColumnKind::Timestamp)
            ]
        );
        assert!(event.valor.abs() < f64::EPSILON);
        assert_eq!(value(&event.dados)["score_qualificacao"], "alto");
    }

    #[test]
    fn a_valor_that_no_sum_can_hold_is_left_out_and_named() {
        for (score, valor, named) in
            [("1e300", 1e300, 0), ("1.797e308", 0.0, 1), ("1e999", 0.0, 1), ("0", 0.0, 0)]
        {
            let row = format!(r#"{{"id":"{LEAD}","score_qualificacao":{score}}}"#);
            let row = Json::try_from(bytes::Bytes::from(row)).expect("JSON");
            let row = SourceRow::read(Catalog::built_in().get("leads").expect("leads"), row).expect("a row");
            let (event, misfits) = row.event(read_at(), 1);
            assert!((event.valor - valor).abs() <= f64::EPSILON, "{score}: {}", event.valor);
            assert_eq!(misfits, vec![Misfit::VALOR; named], "{score}");
        }
    }

    #[test]
    fn long_and_odd_values_are_cut_where_they_only_describe() {
        let long = "é".repeat(5_000);
        let (event, _) = event(
            "leads",
            &json!({"id": LEAD, "status_lead": format!("a\0{long}"), "email": long, "nota": long, "lista": [long]}),
        );
        assert!(
            event.evento.len() <= MAX_EVENTO && event.evento.starts_with("lead_a\u{fffd}é"),
            "{}",
            event.evento
        );
        assert!(event.usuario.len() <= MAX_USUARIO);
        let metadata = value(&event.metadata);
        assert!(metadata["nota"].as_str().expect("text").len() <= MAX_METADATA_VALUE + "…".len());
        assert!(metadata["lista"].as_str().expect("text").contains("see dados"));
        assert_eq!(value(&event.dados)["nota"], json!(long));
    }

    #[test]
    fn a_row_without_a_key_is_none() {
        let error = read("leads", &json!({"nome": "Ana"})).expect_err("no key");
        assert_eq!(error.to_string(), "leads.id: missing; a row needs its key");
        assert!(read("leads", &json!([1])).is_err());
    }
}
