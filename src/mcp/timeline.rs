//! What happened to an entity, in time: its own versions, each by what it changed, and what other tables tell of it.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    bounded::{AROUND, LARGEST_ANSWER, shorten, size},
    entity::{EntityAnswer, MORE_DUPLICATES, duplicates},
    output::Outgoing,
    views::{EntityView, members},
};
use crate::{
    domain::{JsonObject, Table, parse_instant},
    engine::{EntityHistory, Related},
    store::{StoredEntity, StoredEvent},
};

/// Characters of a value.
const LONGEST: usize = 200;

/// One thing that happened. A version that changed several columns is several.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Happened {
    at: DateTime<Utc>,
    /// The event, or the entity of another table.
    what: String,
    /// The column that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    /// Absent where there was no value.
    #[serde(skip_serializing_if = "Value::is_null")]
    before: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    after: Value,
    /// Of another table: its row in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<Value>,
}

impl EntityAnswer {
    /// A history as one timeline.
    pub(super) fn in_time(history: EntityHistory, outgoing: &Outgoing) -> Self {
        let table = history.table;
        let mut timeline = changes(table, history.events, outgoing);
        let is_more_related = history.related.iter().any(|related| related.more);
        timeline.extend(history.related.into_iter().flat_map(|related| began(related, outgoing)));
        timeline.sort_by_key(|happened| happened.at);
        let duplicates = duplicates(table, &history.twins);
        let key = history.entity.key.clone();
        let entity = EntityView::new(history.entity, outgoing);
        let all = timeline.len();
        let mut room = (LARGEST_ANSWER - AROUND).saturating_sub(size(&entity) + size(&duplicates));
        // Of a history that is too long the latest part is told.
        let fits = |happened: &&Happened| {
            let taken = size(happened);
            let fits = taken <= room;
            room = room.saturating_sub(taken);
            fits
        };
        let count = timeline.iter().rev().take_while(fits).count();
        let told = timeline.split_off(all - count);
        let hints = [
            (
                history.more_events || told.len() < all,
                "the timeline begins later than the history: query_raw_events with this key as entidade_id shows all",
            ),
            (is_more_related, "query_store shows more of the related rows"),
            (history.more_twins, MORE_DUPLICATES),
        ];
        let hints: Vec<&str> = hints.into_iter().filter_map(|(holds, hint)| holds.then_some(hint)).collect();
        Self {
            table: table.name().to_owned(),
            key,
            entity,
            events: Vec::new(),
            more_events: history.more_events || told.len() < all,
            related: Vec::new(),
            timeline: told,
            duplicates,
            behind: history.trimmed.iter().map(ToString::to_string).collect(),
            hint: (!hints.is_empty()).then(|| hints.join("; ")),
        }
    }
}

/// What each version changed. Events come latest first.
fn changes(table: Table, mut events: Vec<StoredEvent>, outgoing: &Outgoing) -> Vec<Happened> {
    events.sort_by_key(|event| event.versao);
    let definition = table.definition();
    let is_time = |source: &str| {
        definition.time.modified.as_deref().is_some_and(|modified| definition.source_of(modified) == source)
    };
    let mut happened = Vec::new();
    let mut before: Option<JsonObject> = None;
    for event in events {
        let row = members(&event.dados);
        let one = |column: Option<&str>, before: Value, after: Value| {
            let [before, after] = [before, after].map(|value| masked(column, value, outgoing));
            let mut what = event.evento.clone();
            outgoing.text(&mut what);
            Happened {
                at: event.timestamp,
                what,
                column: column.map(str::to_owned),
                before,
                after,
                row: None,
            }
        };
        let already = happened.len();
        if let Some(before) = &before
            && event.evento != definition.removed_event()
        {
            let mut names: Vec<&String> = before.keys().chain(row.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names.into_iter().filter(|name| !is_time(name)) {
                let [was, is] = [before, &row].map(|row| row.get(name).cloned().unwrap_or_default());
                if was != is {
                    happened.push(one(Some(name), was, is));
                }
            }
        }
        if happened.len() == already {
            happened.push(one(None, Value::Null, Value::Null));
        }
        before = Some(row);
    }
    happened
}

/// Masked by the column it is of; half of an address does not look like one, so it is cut after that.
fn masked(column: Option<&str>, mut value: Value, outgoing: &Outgoing) -> Value {
    match column {
        Some(column) => outgoing.field(column, &mut value),
        None => outgoing.value(&mut value),
    }
    shorten(&mut value, LONGEST);
    value
}

/// When rows of another table came to be, and what they tell in short.
fn began(related: Related, outgoing: &Outgoing) -> Vec<Happened> {
    let table = related.table;
    let definition = table.definition();
    let created = definition.time.created.as_deref();
    let one = |entity: StoredEntity| {
        let at =
            created.and_then(|name| entity.row.get(name)?.as_str().and_then(|at| parse_instant(at, Tz::UTC)));
        let at = at.or_else(|| DateTime::from_timestamp_micros(entity.versao)).unwrap_or_default();
        let is_told = |name: &str| {
            name == definition.key.column || definition.column(name).is_some_and(|column| column.brief)
        };
        let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let row: JsonObject =
            entity.row.into_iter().filter(|(name, value)| is_told(name) && !is_empty(value)).collect();
        let mut row = Value::Object(row);
        outgoing.value(&mut row);
        shorten(&mut row, LONGEST);
        Happened {
            at,
            what: definition.entity.clone(),
            column: None,
            before: Value::Null,
            after: Value::Null,
            row: Some(row),
        }
    };
    related.entities.into_iter().map(one).collect()
}
