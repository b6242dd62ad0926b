//! Dead letters: what a sink can never take, or a row that never became an event, parked with its reason.
//!
//! The original bytes are the record's value, untouched, where they fit; everything else is in headers, so that a
//! replay needs no decoding. What is too large to be copied is parked by reference: a record by its place in the log,
//! a row by its key, its size and its beginning. A letter has the same id however often it is parked.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::appender::event_record;
use crate::{
    domain::{
        Catalog, ErasureLedger, Event, Json, KeyKind, MANUAL, Members, Row, RowError, SourceRow, Table,
        canonical, json, micros,
    },
    log::{NewRecord, Position, Record},
    traces::{TRACEPARENT, TraceParent},
};

/// UUIDv5 namespace of dead letters of log records.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1d_5b3a_2f0e_5c49_9a57_51c1_ce00_0002);

/// Characters of a key that a letter shows.
const MAX_SHOWN_KEY: usize = 512;

/// UUIDv5 namespace of dead letters of rows.
const ROW_NAMESPACE: Uuid = Uuid::from_u128(0x6b1d_5b3a_2f0e_5c49_9a57_51c1_ce00_0003);

/// How much of what is too large is shown in its letter, in bytes.
const BEGINNING: usize = 1_024;

/// Headers are cut to this: a reason may hold a server's words.
const MAX_HEADER: usize = 2_000;

/// A record that one sink can't take. One that a letter of at most `limit` bytes can't hold is parked by reference.
pub fn from_record(
    record: &Record,
    log: &str,
    sink: &str,
    reason: &str,
    limit: usize,
    now: DateTime<Utc>,
) -> NewRecord {
    let place = format!("{log}/{}/{}/{sink}", record.partition, record.offset);
    let id = Uuid::new_v5(&NAMESPACE, place.as_bytes());
    let mut headers = common(id, reason, now);
    headers.push(("sink", text(sink)));
    headers.push(("log", text(log)));
    headers.push(("partition", text(record.partition)));
    headers.push(("offset", text(record.offset)));
    for (name, value) in &record.headers {
        let kept = match name.as_str() {
            "sync_id" => "sync_id",
            "schema" => "schema",
            // Anybody may have written it.
            TRACEPARENT if TraceParent::parse(value).is_some() => TRACEPARENT,
            "replayed_from" => "replayed_from",
            _ => continue,
        };
        headers.push((kept, value.slice(..value.len().min(MAX_HEADER))));
    }
    let key = record.key.clone().filter(|key| key.len() <= MAX_HEADER).unwrap_or_else(|| text(id));
    let whole = NewRecord { key, value: record.value.clone().unwrap_or_default(), headers };
    if whole.size() <= limit { whole } else { by_reference(whole) }
}

/// The same letter with its value's beginning alone, and the size that the value has.
fn by_reference(letter: NewRecord) -> NewRecord {
    let NewRecord { key, value, mut headers } = letter;
    headers.push(("size", text(value.len())));
    NewRecord { key, value: value.slice(..value.len().min(BEGINNING)), headers }
}

/// A source row that could not become an event.
pub fn from_row(
    table: Table,
    row: &Json,
    error: &RowError,
    sync_id: Uuid,
    limit: usize,
    now: DateTime<Utc>,
) -> NewRecord {
    let id = row_letter_id(table, row);
    let mut headers = common(id, &error.to_string(), now);
    headers.push(("table", text(table.name())));
    headers.push(("sync_id", text(sync_id)));
    let shown =
        |key: String| text(key.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_KEY).collect::<String>());
    headers.extend(key_as_sent(table, row).map(|key| ("entity", shown(key))));
    let value = Bytes::copy_from_slice(SourceRow::visible(table, row).as_str().as_bytes());
    let whole = NewRecord { key: text(id), value, headers };
    if whole.size() <= limit { whole } else { by_reference(whole) }
}

/// A source row whose event no record can hold.
pub fn from_large_row(
    row: &SourceRow,
    size: usize,
    limit: usize,
    sync_id: Uuid,
    now: DateTime<Utc>,
) -> NewRecord {
    let id = row_letter_id(row.table, &row.json);
    let reason = format!(
        "{}: the row {} makes a record of {size} bytes, more than the {limit} that a record may have; shorten the row, or \
         raise KAFKA_MAX_MESSAGE_BYTES and the topic's max.message.bytes",
        row.table, row.key
    );
    let mut headers = common(id, &reason, now);
    headers.push(("table", text(row.table.name())));
    headers.push(("sync_id", text(sync_id)));
    headers.push(("entity", text(&row.key)));
    let value = Bytes::copy_from_slice(row.json.as_str().as_bytes());
    by_reference(NewRecord { key: text(&row.key), value, headers })
}

/// The id of the dead letter of a row: the same content is the same letter, so it is parked once.
pub fn row_letter_id(table: Table, row: &Json) -> Uuid {
    let row = SourceRow::visible(table, row);
    let content = row.members().map_or_else(|| row.as_str().as_bytes().to_vec(), |row| canonical(&row));
    let name = [table.name().as_bytes(), b"\0", &content].concat();
    Uuid::new_v5(&ROW_NAMESPACE, &name)
}

/// A row's key in whatever spelling it was sent, where it has one.
pub fn key_as_sent(table: Table, row: &Json) -> Option<String> {
    let members = row.members()?;
    let key = members.get(table.key_source())?;
    Some(json::text(key).map_or_else(|| key.to_owned(), std::borrow::Cow::into_owned))
}

/// What a replay appends.
#[derive(Debug)]
pub enum Replay {
    Record(NewRecord),
    /// The letter holds only its beginning: the record is still in the log, at this place.
    FromLog(Position),
}

/// What gives a letter's event to the log again, or why there still is none.
///
/// A parked record is appended as it was; a row becomes its event anew, as of when it was parked, so that replaying
/// it twice makes one event.
pub fn replay(catalog: Catalog, letter: &Record, now: DateTime<Utc>) -> Result<Replay, String> {
    let is_cut = header(letter, "size").is_some();
    if let Some(table) = header(letter, "table") {
        if is_cut {
            return Err(
                "the letter holds only the row's beginning; shorten the row at the source, or raise \
                        KAFKA_MAX_MESSAGE_BYTES, and sync it"
                    .to_owned(),
            );
        }
        return from_parked_row(catalog, letter, &table, now).map(Replay::Record);
    }
    if is_cut {
        let number = |name| header(letter, name).and_then(|text| text.parse::<i64>().ok());
        let place = number("partition").zip(number("offset"));
        let place = place.and_then(|(partition, offset)| Some((i32::try_from(partition).ok()?, offset)));
        let (partition, offset) = place.ok_or("it does not tell where its record is")?;
        return Ok(Replay::FromLog(Position { partition, offset }));
    }
    let record = NewRecord {
        key: letter.key.clone().unwrap_or_default(),
        value: letter.value.clone().unwrap_or_default(),
        headers: Vec::new(),
    };
    as_event(catalog, record, letter).map(Replay::Record)
}

/// A parked record to be appended as it was.
pub fn as_event(catalog: Catalog, mut record: NewRecord, letter: &Record) -> Result<NewRecord, String> {
    let event =
        Event::decode(Some(&record.value)).map_err(|error| format!("it still is no event: {error}"))?;
    event.table(catalog).map_err(|error| error.to_string())?;
    let kept = ["schema", "sync_id", TRACEPARENT].into_iter().filter_map(|name| {
        let (_, value) = letter.headers.iter().find(|(key, _)| key == name)?;
        let is_good = name != TRACEPARENT || TraceParent::parse(value).is_some();
        is_good.then(|| (name, value.clone()))
    });
    record.headers.extend(kept);
    Ok(record)
}

/// Marks a record as the replay of a letter.
pub fn mark_replayed(record: &mut NewRecord, id: &str, now: DateTime<Utc>) {
    record.headers.push(("replayed_from", text(id)));
    record.headers.push(("replayed_at", text(now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))));
}

fn from_parked_row(
    catalog: Catalog,
    letter: &Record,
    table: &str,
    now: DateTime<Utc>,
) -> Result<NewRecord, String> {
    let table = catalog.get(table).ok_or_else(|| {
        format!("its table is not defined here; give this process the definition of {table}")
    })?;
    let row = Json::try_from(letter.value.clone().unwrap_or_default())
        .map_err(|_| "it holds no row any more".to_owned())?;
    let row = SourceRow::read(table, row).map_err(|error| format!("the row still is bad: {error}"))?;
    let parked_at = header(letter, "parked_at").and_then(|at| DateTime::parse_from_rfc3339(&at).ok());
    let read_at = parked_at.map(|at| at.to_utc()).or(letter.appended_at).unwrap_or(now);
    let (event, _) = row.event(read_at, micros(read_at));
    let sync_id = header(letter, "sync_id").and_then(|id| Uuid::parse_str(&id).ok());
    Ok(event_record(&event, sync_id.unwrap_or_default()))
}

/// The table and the entity that a letter of a record is about, where its event is of a table known here.
pub fn entity_of(catalog: Catalog, record: &Record) -> Option<(Table, String)> {
    entity_in(catalog, record.value.as_ref())
}

/// As [`entity_of`], of a record's value.
pub fn entity_in(catalog: Catalog, value: Option<&Bytes>) -> Option<(Table, String)> {
    let event = Event::decode(value).ok().filter(|event| event.tipo_evento != MANUAL)?;
    Some((catalog.of_entity(&event.tipo_evento)?, event.entidade.id))
}

/// Whether a letter tells that it is about an erased entity.
pub fn is_about_erased(catalog: Catalog, letter: &Record, ledger: &ErasureLedger) -> bool {
    !ledger.is_empty()
        && matches!(about(catalog, letter), Some((table, Some(key))) if ledger.holds(table, &key))
}

/// Leaves of a letter what tells nothing of whom it was about.
pub fn empty(letter: &mut Record) {
    const KEPT: [&str; 8] =
        ["dead_letter_id", "parked_at", "sink", "log", "partition", "offset", "table", "sync_id"];
    letter.key = None;
    letter.value = None;
    letter.headers.retain(|(name, _)| KEPT.contains(&name.as_str()));
    letter.headers.push(("erased".to_owned(), Bytes::new()));
    letter.headers.push(("error".to_owned(), text("what it was about was erased")));
}

/// The table that a letter is about, where it tells one that is known here, and the entity's key in its one spelling, where
/// it has one.
pub fn about(catalog: Catalog, letter: &Record) -> Option<(Table, Option<String>)> {
    if let Some(table) = header(letter, "table") {
        let table = catalog.get(&table)?;
        let key = header(letter, "entity").and_then(|sent| table.key.kind.spelled(&sent));
        return Some((table, key));
    }
    let (table, key) = entity_of(catalog, letter)?;
    // Anybody may have made the event, with an id that no store can hold.
    Some((table, Some(key).filter(|key| KeyKind::Text.is_key(key))))
}

/// Whom a letter names, with what `told` takes of the row that it holds of them; of a row that was too large, its beginning is
/// looked at.
pub fn named_in_row<T>(
    catalog: Catalog,
    letter: &Record,
    told: impl FnOnce(&Row<'_>) -> Option<T>,
) -> Option<(Table, String, T)> {
    if header(letter, "table").is_some() {
        let (table, Some(key)) = about(catalog, letter)? else { return None };
        let text = String::from_utf8_lossy(letter.value.as_deref()?);
        let told = told(&Row { table, members: Members::of_beginning(&text) })?;
        return Some((table, key, told));
    }
    let event = Event::decode(letter.value.as_ref()).ok()?;
    let table = event.table(catalog).ok()??;
    let told = told(&event.row(table))?;
    KeyKind::Text.is_key(&event.entidade.id).then_some((table, event.entidade.id, told))
}

/// A header's text.
pub fn header(record: &Record, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().find(|(key, _)| key == name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A letter's own id; the nil UUID where somebody else wrote the letter.
pub fn letter_id(letter: &Record) -> Uuid {
    header(letter, "dead_letter_id").and_then(|id| Uuid::parse_str(&id).ok()).unwrap_or_default()
}

/// The id of a letter that is about to be parked.
pub fn new_letter_id(letter: &NewRecord) -> Uuid {
    let id = letter.headers.iter().find(|(name, _)| *name == "dead_letter_id");
    id.and_then(|(_, id)| Uuid::try_parse_ascii(id).ok()).unwrap_or_default()
}

fn common(id: Uuid, reason: &str, now: DateTime<Utc>) -> Vec<(&'static str, Bytes)> {
    let mut end = reason.len().min(MAX_HEADER);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    vec![
        ("dead_letter_id", text(id)),
        ("error", text(&reason[..end])),
        ("parked_at", text(now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))),
    ]
}

fn text(value: impl ToString) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ManualEvent;

    const LIMIT: usize = 100_000;

    fn sessions() -> Table {
        Catalog::built_in().get("chat_sessions").expect("chat_sessions")
    }

    fn parked(letter: NewRecord) -> Record {
        Record {
            partition: 0,
            offset: 7,
            appended_at: None,
            key: Some(letter.key),
            value: Some(letter.value),
            headers: letter.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            has_unreadable_headers: false,
        }
    }

    fn header(letter: &NewRecord, name: &str) -> Option<String> {
        super::header(&parked(letter.clone()), name)
    }

    fn record(value: &[u8]) -> Record {
        Record {
            partition: 2,
            offset: 41,
            appended_at: None,
            key: None,
            value: Some(Bytes::copy_from_slice(value)),
            headers: vec![("sync_id".into(), Bytes::from_static(b"s"))],
            has_unreadable_headers: false,
        }
    }

    fn row_letter(row: &serde_json::Value) -> NewRecord {
        let error = RowError { table: sessions(), column: "id", problem: "missing" };
        from_row(sessions(), &Json::from(row), &error, Uuid::nil(), LIMIT, Utc::now())
    }

    fn replayed(letter: &Record) -> Result<NewRecord, String> {
        match replay(Catalog::built_in(), letter, Utc::now())? {
            Replay::Record(record) => Ok(record),
            Replay::FromLog(position) => Err(format!("{position:?}")),
        }
    }

    #[test]
    fn a_letter_names_whom_its_row_tells_of_also_by_the_beginning_of_one_that_was_too_large() {
        let id = |n| Uuid::from_u128(n).to_string();
        let named = |letter| {
            let is_sought = |row: &Row<'_>| (row.get("lead_id").to_text() == Some(id(7))).then_some(());
            named_in_row(Catalog::built_in(), &parked(letter), is_sought).map(|(table, key, ())| (table, key))
        };
        let row = |lead: String, agent: String| {
            let row = json!({"id": id(1), "lead_id": lead, "user_agent": agent});
            SourceRow::read(sessions(), Json::from(&row)).expect("a row")
        };
        let large = |row| from_large_row(&row, 5_000, 1_000, Uuid::nil(), Utc::now());
        let whom = Some((sessions(), id(1)));
        assert_eq!(named(large(row(id(7), "x".repeat(5_000)))), whom);
        assert_eq!(named(large(row(id(8), id(7).repeat(100)))), None, "another column mentions it");
        let (event, _) = row(id(7), String::new()).event(Utc::now(), 1);
        let of = record(&event.encode());
        assert_eq!(named(from_record(&of, "c/eventos", "postgres", "refused", LIMIT, Utc::now())), whom);
        assert_eq!(named(row_letter(&json!({"lead_id": id(7)}))), None, "it names nobody");
        let (mut event, _) = row(id(7), String::new()).event(Utc::now(), 1);
        event.entidade.id = "7\0".to_owned();
        let letter =
            from_record(&record(&event.encode()), "c/eventos", "postgres", "no key", LIMIT, Utc::now());
        assert_eq!(about(Catalog::built_in(), &parked(letter.clone())), Some((sessions(), None)));
        assert_eq!(named(letter), None, "what no key can be names nobody");
    }

    #[test]
    fn a_letter_and_its_replay_keep_the_span_of_a_record_where_it_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let event = ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: Json::empty_object(),
        };
        let value = Event::manual(event, Utc::now()).encode();
        for (borne, kept) in
            [(good.to_owned(), Some(good)), ("x".repeat(1 << 20), None), ("00-".into(), None)]
        {
            let mut of = record(&value);
            of.headers.push((TRACEPARENT.to_owned(), Bytes::from(borne)));
            let letter = from_record(&of, "c/eventos", "postgres", "refused", LIMIT, Utc::now());
            assert_eq!(header(&letter, TRACEPARENT).as_deref(), kept);
            let replay = replayed(&parked(letter.clone())).expect("an event");
            assert_eq!(header(&replay, TRACEPARENT).as_deref(), kept);
            // A letter that a stranger wrote.
            let mut strange = parked(letter);
            strange.headers.retain(|(name, _)| name != TRACEPARENT);
            strange.headers.extend(of.headers.pop());
            assert_eq!(header(&replayed(&strange).expect("an event"), TRACEPARENT).as_deref(), kept);
        }
    }

    #[test]
    fn a_parked_record_keeps_its_bytes_and_tells_where_it_came_from() {
        let letter =
            from_record(&record(b"{broken"), "c/eventos", "postgres", "value is not JSON", LIMIT, Utc::now());
        assert_eq!(&letter.value[..], b"{broken");
        for (name, value) in [
            ("sink", "postgres"),
            ("log", "c/eventos"),
            ("partition", "2"),
            ("offset", "41"),
            ("error", "value is not JSON"),
            ("sync_id", "s"),
        ] {
            assert_eq!(header(&letter, name).as_deref(), Some(value), "{name}");
        }
        let of = |sink| {
            header(&from_record(&record(b"{"), "c/eventos", sink, "x", LIMIT, Utc::now()), "dead_letter_id")
        };
        assert_eq!(header(&letter, "dead_letter_id"), of("postgres"));
        assert_ne!(header(&letter, "dead_letter_id"), of("elasticsearch"));
    }

    #[test]
    fn a_record_too_large_to_be_copied_is_parked_by_reference_and_replayed_from_the_log() {
        let letter = from_record(
            &record("x".repeat(LIMIT).as_bytes()),
            "c/eventos",
            "postgres",
            "x",
            LIMIT,
            Utc::now(),
        );
        assert!(letter.size() < 5_000, "{}", letter.size());
        assert_eq!(header(&letter, "size").as_deref(), Some("100000"));
        let replay = replay(Catalog::built_in(), &parked(letter), Utc::now()).expect("a place");
        assert!(matches!(replay, Replay::FromLog(Position { partition: 2, offset: 41 })), "{replay:?}");
    }

    #[test]
    fn a_row_too_large_for_a_record_is_named_by_its_key_its_size_and_its_beginning() {
        let json = Json::from(&json!({"id": Uuid::from_u128(7), "user_agent": "x".repeat(LIMIT)}));
        let row = SourceRow::read(sessions(), json).expect("a row");
        let letter = from_large_row(&row, 200_000, LIMIT, Uuid::nil(), Utc::now());
        assert!(letter.size() < 5_000, "{}", letter.size());
        assert_eq!(header(&letter, "entity"), Some(row.key));
        assert!(
            header(&letter, "size").is_some_and(|size| size.parse::<usize>().is_ok_and(|size| size > LIMIT))
        );
        assert!(header(&letter, "error").is_some_and(|error| error.contains("200000 bytes")));
    }

    #[test]
    fn a_parked_row_never_carries_a_session_token() {
        let letter = row_letter(&json!({"session_token": "segredo", "total_messages": "muitas"}));
        assert!(!String::from_utf8_lossy(&letter.value).contains("segredo"));
        assert_eq!(header(&letter, "error").as_deref(), Some("chat_sessions.id: missing"));
        let other_token = row_letter(&json!({"session_token": "outro", "total_messages": "muitas"}));
        assert_eq!(header(&letter, "dead_letter_id"), header(&other_token, "dead_letter_id"));
    }

    #[test]
    fn a_parked_record_is_replayed_as_it_was_and_one_that_is_no_event_is_not() {
        let event = crate::domain::ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: Json::empty_object(),
        };
        let value = Event::manual(event, Utc::now()).encode();
        let mut record = record(&value);
        record.key = Some(Bytes::from_static(b"k"));
        record.headers = vec![("schema".into(), Bytes::from_static(b"2"))];
        let letter = parked(from_record(&record, "c/eventos", "postgres", "refused", LIMIT, Utc::now()));
        let mut again = replayed(&letter).expect("an event");
        mark_replayed(&mut again, "0-7", Utc::now());
        assert_eq!((&again.value, &again.key[..]), (&value, &b"k"[..]));
        assert_eq!(header(&again, "replayed_from").as_deref(), Some("0-7"));
        assert_eq!(header(&again, "schema").as_deref(), Some("2"));
        assert_eq!(header(&again, "error"), None, "it is an event again, not a letter");

        record.value = Some(Bytes::from_static(b"{segredo"));
        let letter = parked(from_record(&record, "c/eventos", "postgres", "refused", LIMIT, Utc::now()));
        let reason = replayed(&letter).expect_err("no event");
        assert!(reason.contains("not JSON") && !reason.contains("segredo"), "{reason}");
    }

    #[test]
    fn a_parked_row_becomes_the_same_event_however_often_it_is_replayed() {
        let letter = parked(row_letter(&json!({"id": Uuid::from_u128(7), "total_messages": 3})));
        let (first, second) = (replayed(&letter).expect("an event"), replayed(&letter).expect("an event"));
        assert_eq!(first.value, second.value);
        assert!(Event::decode(Some(&first.value)).is_ok());

        let bad = replayed(&parked(row_letter(&json!({"total_messages": 3})))).expect_err("no id");
        assert!(bad.contains("chat_sessions.id"), "{bad}");
    }
}
