//! A key that is called otherwise at the source than it was: its new column must hold the values that it had.

use std::collections::HashMap;

use tracing::warn;

use super::{
    reconcile::{in_halves, key_requests},
    shared::Shared,
};
use crate::{
    domain::{Row, Table},
    fault::Fault,
    source::{BEGINNING, RowQuery, Scope, Source},
    store::{EventFilter, EventOrder, StoredEvent, SyncRequest},
};

/// Stored rows that are looked for at a time.
const SAMPLED: u32 = 100;

/// How often rows are taken from the beginning of the keys, where the newest ones are not found.
const SAMPLES: u32 = 5;

/// What is at the source under keys that are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    OtherRows,
    SameRow,
}

/// Refuses another column as the key's where none of some stored rows is found by it: those rows would become versions of
/// entities that are others. Where nothing at all is there under their keys, they may have been deleted, which whoever
/// allows removals says.
pub(super) async fn check(shared: &Shared, request: &SyncRequest, table: Table) -> Result<(), Fault> {
    let Shared { source, store, .. } = shared;
    let filter = EventFilter { tipo_evento: Some(table.entity.clone()), ..EventFilter::default() };
    let newest = store.events(&filter, EventOrder::Newest, None, SAMPLED).await?.events;
    let mut found = find(&**source, table, &rows_by_key(table, &newest)).await?;
    // The newest rows may all have been deleted since, or their events be removals.
    let (mut sampled, mut after, mut has_rows) = (0, None, false);
    while found < Found::SameRow && sampled < SAMPLES {
        let page = store.entity_events(table, after.as_deref(), SAMPLED).await?;
        if page.last.is_none() {
            break;
        }
        let stored = rows_by_key(table, &page.events);
        has_rows |= !stored.is_empty();
        found = found.max(find(&**source, table, &stored).await?);
        (sampled, after) = (sampled + 1, page.last);
    }
    let allows_deletes = request.reconcile.is_some_and(|asked| asked.allow_deletes.is_some());
    let key = table.definition().key_source();
    let reason = match found {
        Found::SameRow => return Ok(()),
        Found::Nothing if !has_rows => return Ok(()),
        Found::Nothing if allows_deletes => {
            warn!(%table, key, "none of the stored rows that were looked for is found by the key's new name: they count as deleted");
            return Ok(());
        }
        Found::Nothing => "it holds other values than the key did, or those rows were all deleted there",
        Found::OtherRows => "it holds other values than the key did",
    };
    let deleted = match found {
        Found::Nothing => format!(
            "; if they were deleted, `sluice reconcile {table} --allow-deletes N` takes the new name, and removes up to N rows"
        ),
        _ => String::new(),
    };
    Err(Fault::misconfigured(
        source.name(),
        format!(
            "{table}: its key is read from {key} now, and none of the stored rows that were looked for is found by it: {reason}"
        ),
        format!(
            "undo that in the definition, or give the table another name there and write source = {{ table = \"{}\" }}{deleted}",
            table.source_name()
        ),
    ))
}

/// The rows that events carry. A removal's says nothing, and is gone.
fn rows_by_key(table: Table, events: &[StoredEvent]) -> HashMap<&str, Row<'_>> {
    events
        .iter()
        .filter(|event| table.key.kind.is_key(&event.entidade_id) && event.dados.as_str() != "{}")
        .filter_map(|event| Some((event.entidade_id.as_str(), Row::of(table, event.dados.as_str())?)))
        .collect()
}

async fn find(source: &dyn Source, table: Table, stored: &HashMap<&str, Row<'_>>) -> Result<Found, Fault> {
    let mut found = Found::Nothing;
    let mut requests = key_requests(stored.keys().map(|&key| key.to_owned()).collect());
    while let Some(keys) = requests.pop() {
        let query = RowQuery {
            table,
            scope: Scope::Keys(keys.clone()),
            since: BEGINNING,
            created_since: None,
            conditions: Vec::new(),
            page_size: SAMPLED,
        };
        match source.page(&query, None).await {
            Ok(page) => {
                for row in page.rows.iter().filter_map(|row| Row::of(table, row.as_str())) {
                    let key = row.key().ok();
                    match key.and_then(|key| stored.get(key.as_str())) {
                        Some(before) if is_same_row(before, &row) => return Ok(Found::SameRow),
                        Some(_) => found = Found::OtherRows,
                        None => {}
                    }
                }
            }
            Err(fault) => in_halves(&mut requests, keys, fault)?,
        }
    }
    Ok(found)
}

/// Whether a row at the source is the one that was stored under the same key: as far as the table tells, it was made at the
/// same time.
fn is_same_row(stored: &Row<'_>, row: &Row<'_>) -> bool {
    let created = |row: &Row<'_>| row.table.time.created.as_deref().and_then(|name| row.get(name).to_text());
    created(stored).zip(created(row)).is_none_or(|(stored, now)| stored == now)
}
