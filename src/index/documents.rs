//! What a batch writes into an index: pure, so that two workers write the same.
//!
//! An event's document is the envelope as it stands in the log, every digit of `dados` and every escape kept, and
//! when it was written. An entity's document is its row as the table's definition types it, and what the event says
//! besides. A value that its field can't hold is null in an entity's document; a member of `metadata` that would be
//! refused is kept as `coluna_<name>`. An entity that was removed leaves a document that says only that, and
//! which event said so.

use std::{borrow::Cow, collections::HashSet};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Fields, IndexName, REMOVED,
    values::{MAX_DEPTH, MAX_METADATA_DEPTH, MAX_NAME, fitting, kept, of_cell, quoted},
};
use crate::{
    domain::{Event, Json, KeyKind, Table},
    log::Position,
    sink::{Rejection, SinkBatch, SinkEvent},
};

/// The member of an entity's document that holds the id of the event which brought it.
pub(super) const EVENT: &str = "evento_id";

/// One document to write.
#[derive(Debug)]
pub(super) struct Document {
    /// The event it comes from.
    pub(super) position: Position,
    pub(super) index: IndexName,
    /// The event's id, or the row's key.
    pub(super) id: String,
    /// The id of the event it comes from: of two events with equal versions the later delivered wins, and one that was
    /// delivered before changes nothing.
    pub(super) event: Uuid,
    /// Of an entity: a lower one does not replace it. An event has none: it is written once.
    pub(super) version: Option<i64>,
    /// One line of JSON.
    pub(super) body: Bytes,
}

/// Everything a batch writes.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub(super) documents: Vec<Planned<'a>>,
    /// Events that no index takes.
    pub(super) refused: Vec<Rejection>,
    now: String,
}

/// A document that is made when it is asked for: some are on their way while others are not made yet.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    item: &'a SinkEvent,
    pub(super) index: IndexName,
    fields: &'static Fields,
}

impl Planned<'_> {
    /// Where its event stands in the log.
    pub(super) fn position(&self) -> Position {
        self.item.position
    }

    /// The key of the row that it is about.
    pub(super) fn entity(&self) -> &str {
        &self.item.event.entidade.id
    }

    /// About the bytes it takes.
    pub(super) fn size(&self) -> usize {
        self.item.raw.len()
    }
}

impl Plan<'_> {
    pub(super) fn document(&self, planned: &Planned<'_>) -> Document {
        let Planned { item, index, fields } = *planned;
        let SinkEvent { position, event, .. } = item;
        let entity = &event.entidade;
        let (id, version, body) = match index {
            IndexName::Eventos => (event.id.to_string(), None, event_body(item, fields, &self.now)),
            IndexName::Entities(table) => {
                let body = if entity.removida {
                    removed_body(item, &self.now)
                } else {
                    entity_body(table, item, fields, &self.now)
                };
                (entity.id.clone(), Some(entity.versao), body)
            }
        };
        Document { position: *position, index, id, event: event.id, version, body }
    }
}

/// Plans a batch: every event, and the newest version of every entity. `fields` are those of the indices that are
/// written; `now` is when it is written.
pub(super) fn plan(
    batch: &SinkBatch,
    fields: impl Fn(IndexName) -> &'static Fields,
    now: DateTime<Utc>,
) -> Plan<'_> {
    let now = now.to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut plan = Plan { now, ..Plan::default() };
    let events = fields(IndexName::Eventos);
    let mut tables: Vec<Table> = Vec::new();
    for item in &batch.events {
        if let Some(reason) = refusal(item) {
            plan.refused.push(Rejection { position: item.position, reason: reason.to_owned() });
            continue;
        }
        tables.extend(item.table.filter(|table| !tables.contains(table)));
        plan.documents.push(Planned { item, index: IndexName::Eventos, fields: events });
    }
    for table in tables {
        let index = IndexName::Entities(table);
        let fields = fields(index);
        let newest = batch.newest_of(table).into_iter().filter(|item| refusal(item).is_none());
        plan.documents.extend(newest.map(|item| Planned { item, index, fields }));
    }
    plan
}

/// The documents that events become, by index and id.
pub(super) fn brought_by(events: &[SinkEvent]) -> impl Iterator<Item = (IndexName, String)> {
    events.iter().flat_map(|item| {
        let event = (IndexName::Eventos, item.event.id.to_string());
        let entity = item.table.map(|table| (IndexName::Entities(table), item.event.entidade.id.clone()));
        std::iter::once(event).chain(entity)
    })
}

/// What would spoil a whole request, or what the stores refuse, too.
fn refusal(item: &SinkEvent) -> Option<&'static str> {
    item.table?;
    if item.event.entidade.versao < 0 {
        return Some("entidade.versao is negative, which no external version may be");
    }
    item.key_problem()
}

fn event_body(item: &SinkEvent, fields: &Fields, now: &str) -> Bytes {
    let event = &item.event;
    let mut body = Body::with_capacity(512 + event.metadata.size() + event.dados.size());
    body.value("id", &event.id);
    body.value("tipo_evento", &event.tipo_evento);
    body.said(event);
    body.value("entidade", &event.entidade);
    body.json("metadata", &metadata(&event.metadata, fields, zone(item)));
    body.json("dados", &kept(event.dados.as_str(), MAX_DEPTH));
    body.value("processado_em", now);
    body.end()
}

pub(super) fn entity_body(table: Table, item: &SinkEvent, fields: &Fields, now: &str) -> Bytes {
    let event = &item.event;
    let key = &table.definition().key;
    let mut body = Body::with_capacity(1024 + event.dados.size());
    match key.kind {
        KeyKind::Bigint => body.json(&key.column, &event.entidade.id),
        KeyKind::Uuid | KeyKind::Text => body.value(&key.column, &event.entidade.id),
    }
    for (column, cell) in event.row(table).cells() {
        let kind = fields.get(&column.name).map_or(super::FieldKind::Stored, |field| field.kind);
        body.json(&column.name, &of_cell(&cell, kind));
    }
    body.value("versao", &event.entidade.versao);
    body.value(EVENT, &event.id);
    body.said(event);
    body.json("metadata", &metadata(&event.metadata, fields, zone(item)));
    body.value("processado_em", now);
    body.end()
}

fn removed_body(item: &SinkEvent, now: &str) -> Bytes {
    let mut body = Body::with_capacity(128);
    body.value(REMOVED, &true);
    body.value("versao", &item.event.entidade.versao);
    body.value(EVENT, &item.event.id);
    body.value("processado_em", now);
    body.end()
}

fn zone(item: &SinkEvent) -> Tz {
    item.table.map_or(Tz::UTC, Table::zone)
}

/// The same object with every member under a name, and in a shape, that no server refuses.
fn metadata<'m>(metadata: &'m Json, fields: &Fields, zone: Tz) -> Cow<'m, str> {
    let members = metadata.members().unwrap_or_default();
    let members: Vec<_> = members.iter().map(|member| (&*member.name, member.value)).collect();
    if is_taken_as_it_is(&members, fields, zone) {
        return Cow::Borrowed(metadata.as_str());
    }
    let mut written: Vec<Option<(Cow<'_, str>, Cow<'_, str>)>> = vec![None; members.len()];
    let mut names: HashSet<String> = HashSet::with_capacity(members.len());
    // From the end: of a name that stands twice the last member is the one that counts.
    for (at, (name, value)) in members.iter().enumerate().rev() {
        let value = match fields.member(name) {
            Some(kind) => fitting(value, kind, zone),
            None if is_refused(name) => None,
            None => Some(kept(value, MAX_METADATA_DEPTH)),
        };
        if let Some(value) = value
            && names.insert((*name).to_owned())
        {
            written[at] = Some((Cow::Borrowed(name), value));
        }
    }
    for (at, (name, value)) in members.iter().enumerate() {
        if written[at].is_none() {
            let short: String = name.chars().take(200).collect();
            let mut renamed = format!("coluna_{}", short.replace('.', "_"));
            while fields.member(&renamed).is_some() || !names.insert(renamed.clone()) {
                renamed.push('_');
            }
            written[at] = Some((Cow::Owned(renamed), kept(value, MAX_METADATA_DEPTH)));
        }
    }
    let mut out = String::with_capacity(metadata.size() + 2);
    out.push('{');
    for (name, value) in written.into_iter().flatten() {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&quoted(&name));
        out.push(':');
        out.push_str(&value);
    }
    out.push('}');
    Cow::Owned(out)
}

/// Whether no member has to be changed, renamed or left out, which is so of nearly every event.
fn is_taken_as_it_is(members: &[(&str, &str)], fields: &Fields, zone: Tz) -> bool {
    /// Beyond this, comparing each name with all before it takes longer than doing without.
    const FEW: usize = 40;
    members.len() <= FEW
        && members.iter().enumerate().all(|(at, (name, value))| {
            let fits = match fields.member(name) {
                Some(kind) => fitting(value, kind, zone),
                None if is_refused(name) => None,
                None => Some(kept(value, MAX_METADATA_DEPTH)),
            };
            // What stands for a surrogate alone is written as it is read.
            fits.is_some_and(|fits| fits == *value)
                && !name.contains('\u{fffd}')
                && members[..at].iter().all(|(before, _)| before != name)
        })
}

/// Older servers refuse names of white space, and all read a meaning into dots.
fn is_refused(name: &str) -> bool {
    name.trim().is_empty() || name.contains('.') || name.len() > MAX_NAME
}

/// A document being written.
struct Body(Vec<u8>);

impl Body {
    fn with_capacity(bytes: usize) -> Self {
        let mut body = Vec::with_capacity(bytes);
        body.push(b'{');
        Self(body)
    }

    /// What an event says, the same in both kinds of documents.
    fn said(&mut self, event: &Event) {
        self.value("usuario", &event.usuario);
        self.value("evento", &event.evento);
        self.value("valor", &event.valor);
        self.value("timestamp", &event.timestamp);
        self.value("categoria", &event.categoria);
    }

    fn value<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.name(name);
        // Texts and numbers always serialize.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    fn json(&mut self, name: &str, json: &str) {
        self.name(name);
        let json = json.as_bytes();
        // Looked for one after the other, each many bytes at a time.
        if json.contains(&b'\n') || json.contains(&b'\r') {
            // Within a text they are escaped, so these only lay it out.
            self.0.extend(json.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        } else {
            self.0.extend_from_slice(json);
        }
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        // The names of fields need no escapes.
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn end(mut self) -> Bytes {
        self.0.push(b'}');
        Bytes::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        domain::{Catalog, ManualEvent, SourceRow},
        index::fields::{Indices, tests::of},
    };

    fn lead(offset: i64, row: &str, versao: i64) -> SinkEvent {
        let table = Catalog::built_in().get("leads").expect("leads");
        let row = Json::try_from(Bytes::copy_from_slice(row.as_bytes())).expect("JSON");
        let row = SourceRow::read(table, row).expect("a row");
        let (event, _) = row.event(DateTime::UNIX_EPOCH, versao);
        SinkEvent {
            position: Position { partition: 0, offset },
            raw: event.encode(),
            event,
            table: Some(table),
        }
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    struct Made {
        documents: Vec<Document>,
        refused: Vec<Rejection>,
    }

    fn planned(events: Vec<SinkEvent>) -> Made {
        let indices = Indices::of(Catalog::built_in());
        let batch = SinkBatch { events, spans: Vec::new() };
        let plan = plan(&batch, |index| indices.fields(index), DateTime::UNIX_EPOCH);
        let documents = plan.documents.iter().map(|planned| plan.document(planned)).collect();
        Made { documents, refused: plan.refused }
    }

    fn text(document: &Document) -> &str {
        std::str::from_utf8(&document.body).expect("text")
    }

    fn body(document: &Document) -> Value {
        serde_json::from_slice(&document.body).expect("JSON")
    }

    fn manual(metadata: &str) -> SinkEvent {
        let manual = ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: Json::try_from(Bytes::copy_from_slice(metadata.as_bytes())).expect("JSON"),
        };
        let event = Event::manual(manual, DateTime::UNIX_EPOCH);
        SinkEvent { position: Position { partition: 0, offset: 0 }, raw: event.encode(), event, table: None }
    }

    #[test]
    fn an_event_is_written_under_its_id_and_its_entity_versioned_by_its_own() {
        let row = format!(r#"{{"id":"{}","nome":"Ana","score_qualificacao":72.50,"corretor":"Bia"}}"#, id(9));
        let item = lead(4, &row, 1_000_000);
        let event_id = item.event.id;
        let plan = planned(vec![item]);
        let [event, entity] = &plan.documents[..] else { panic!("two documents") };
        assert_eq!(
            (event.index, &event.id, event.version),
            (IndexName::Eventos, &event_id.to_string(), None)
        );
        assert_eq!((entity.index.as_str(), &entity.id), ("leads", &id(9).to_string()));
        assert_eq!(entity.version, Some(1_000_000));
        assert!(text(event).contains(&format!(r#""dados":{row}"#)), "{}", text(event));
        let document = body(entity);
        assert_eq!(document["nome"], "Ana");
        assert_eq!(document["evento_id"], json!(event_id));
        assert_eq!(document["metadata"]["corretor"], "Bia");
        assert_eq!(document["email"], Value::Null);
        assert!(text(entity).contains(r#""score_qualificacao":72.50,"#), "{}", text(entity));
        for document in [event, entity] {
            assert_eq!(body(document)["processado_em"], "1970-01-01T00:00:00.000000Z");
        }
    }

    #[test]
    fn no_row_is_changed_or_refused_for_what_its_values_are() {
        let row = format!(
            "{{\"id\":\"{}\",\n \"nome\":{{\"a\":1}}, \"email\":\"\\ud800\\u0000\", \"score_qualificacao\":1e999,\r\n\
             \"localizacao\":{{\"a\":1,\"a\":2}}, \"x\":{{\"a\":1,\"a\":2}}, \"\":1, \"n\":12345678901234567890.10}}",
            id(9)
        );
        let plan = planned(vec![lead(1, &row, 1)]);
        assert!(plan.refused.is_empty());
        let [event, entity] = &plan.documents[..] else { panic!("two documents") };
        for document in [event, entity] {
            assert!(!document.body.contains(&b'\n') && !document.body.contains(&b'\r'));
        }
        // The text of what servers refuse, whole.
        let told = body(event);
        let kept = told["dados"].as_str().expect("a text");
        assert_eq!(kept, row);
        assert_eq!(told["metadata"]["coluna_nome"], json!({"a": 1}));
        assert_eq!(told["metadata"]["x"], r#"{"a":1,"a":2}"#);
        assert_eq!(told["metadata"]["coluna_"], 1);
        let told = body(entity);
        assert_eq!((&told["nome"], &told["score_qualificacao"]), (&Value::Null, &Value::Null));
        assert_eq!(told["email"], "\u{fffd}\u{fffd}", "as Postgres has it, which takes no NUL");
        assert_eq!(told["localizacao"], r#"{"a":1,"a":2}"#);
    }

    #[test]
    fn an_envelope_of_several_lines_is_written_as_one() {
        let row = format!("{{\n  \"id\": \"{}\",\n  \"notas\": [1,\n 2]\n}}", id(9));
        let plan = planned(vec![lead(1, &row, 1)]);
        assert_eq!(body(&plan.documents[0])["dados"]["notas"], json!([1, 2]));
        assert!(plan.documents.iter().all(|document| !document.body.contains(&b'\n')));
    }

    #[test]
    fn what_would_spoil_a_whole_request_is_refused_before_it_is_sent() {
        let row = |n| format!(r#"{{"id":"{}"}}"#, id(n));
        let negative = lead(7, &row(9), -1);
        let mut unnamed = lead(8, &row(10), 1);
        (unnamed.event.id, unnamed.event.entidade.id) = (id(10), String::new());
        let mut long = lead(9, &row(11), 1);
        (long.event.id, long.event.entidade.id) = (id(11), id(11).simple().to_string());
        let plan = planned(vec![negative, unnamed, long, lead(10, &row(12), 1)]);
        assert_eq!(plan.refused.iter().map(|r| r.position.offset).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(plan.documents.len(), 2);
    }

    #[test]
    fn an_event_of_before_the_table_had_another_key_or_name_makes_no_entity() {
        let before = "name = \"contatos\"\nabout = \"x\"\nentity = \"lead\"\nkey = { column = \"numero\", type = \"bigint\" }\n\
                      event = { categoria = \"c\", evento = \"e\" }\n";
        let before = Table::new(crate::domain::Definition::parse(before).expect("a definition"));
        let now = Catalog::built_in().get("leads").expect("leads");
        let row = Json::from(&json!({ "numero": 7, "nome": "Ana", "nota": 1e-5 }));
        let (event, _) = SourceRow::read(before, row).expect("a row").event(DateTime::UNIX_EPOCH, 1);
        let removal =
            Event::removal(before, "7", crate::domain::removal_id(before, "7", 1), DateTime::UNIX_EPOCH, 2);
        // As PostgreSQL gives it back.
        let mut rewritten = event.clone();
        let rewritten_row = Bytes::from_static(br#"{"nome": "Ana", "nota": 0.00001, "numero": 7}"#);
        rewritten.dados = Json::try_from(rewritten_row).expect("JSON");
        let mut foreign = event.clone();
        foreign.id = id(8);
        let item = |(offset, event): (i64, Event)| SinkEvent {
            position: Position { partition: 0, offset },
            raw: event.encode(),
            event,
            table: Some(now),
        };
        let plan = planned((0..).zip([event, removal, rewritten, foreign]).map(item).collect());
        let written: Vec<IndexName> = plan.documents.iter().map(|document| document.index).collect();
        assert_eq!(written, [IndexName::Eventos; 3]);
        let refused: Vec<i64> = plan.refused.iter().map(|refused| refused.position.offset).collect();
        assert_eq!(refused, [3], "nothing says that a row had this key");
    }

    #[test]
    fn a_removed_entity_leaves_its_place_and_its_version_and_nothing_of_its_row() {
        let mut item = lead(4, &format!(r#"{{"id":"{}","nome":"Ana"}}"#, id(9)), 7);
        let table = item.table.expect("a table");
        item.event = Event::removal(table, &id(9).to_string(), id(3), DateTime::UNIX_EPOCH, 8);
        let removal = item.event.id;
        let plan = planned(vec![item]);
        let [event, entity] = &plan.documents[..] else { panic!("two documents") };
        assert_eq!(body(event)["evento"], "lead_removido");
        assert_eq!((entity.version, &entity.id), (Some(8), &id(9).to_string()));
        let expected = json!({
            "_removida": true, "versao": 8, "evento_id": removal, "processado_em": "1970-01-01T00:00:00.000000Z"
        });
        assert_eq!(body(entity), expected);
    }

    #[test]
    fn a_manual_event_has_no_entity() {
        assert_eq!(planned(vec![manual("{}")]).documents.len(), 1);
    }

    fn indexable(object: &Value) -> Value {
        let object = Json::from(object);
        serde_json::from_str(&metadata(&object, of("eventos"), Tz::UTC)).expect("JSON")
    }

    #[test]
    fn the_metadata_of_every_ordinary_event_is_left_alone() {
        let ordinary = json!({
            "nome": "Ana", "interesses": ["casa", null], "localizacao": {"uf": "SP"}, "total_messages": 3,
            "is_active": true, "corretor": {"nome": "Bia", "": 1}, "empresa": null
        });
        assert_eq!(indexable(&ordinary), ordinary);
        assert!(matches!(metadata(&Json::from(&ordinary), of("eventos"), Tz::UTC), Cow::Borrowed(_)));
    }

    #[test]
    fn a_member_that_would_be_refused_is_kept_under_another_name() {
        let odd = json!({
            "nome": {"primeiro": "Ana"}, "coluna_nome": 1, "interesses": [["casa", {"a": 1}]], "is_active": "sim",
            "": 1, "a.b": 2, "..": 3, "total_messages": "muitas", "telefone": 5
        });
        let expected = json!({
            "coluna_nome": 1, "coluna_nome_": {"primeiro": "Ana"}, "coluna_interesses": [["casa", {"a": 1}]],
            "coluna_is_active": "sim", "coluna_": 1, "coluna_a_b": 2, "coluna___": 3,
            "coluna_total_messages": "muitas", "telefone": 5
        });
        assert_eq!(indexable(&odd), expected);
        let twice =
            Json::try_from(Bytes::from_static(br#"{"a":1,"a":2,"a\ud800":3,"a\ud801":4}"#)).expect("JSON");
        assert_eq!(
            metadata(&twice, of("eventos"), Tz::UTC),
            "{\"coluna_a\":1,\"a\":2,\"coluna_a\u{fffd}\":3,\"a\u{fffd}\":4}"
        );
    }
}
