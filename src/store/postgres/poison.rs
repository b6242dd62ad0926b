//! Finding the events that Postgres can never take.
//!
//! Guarantee: only an event whose own content is at fault is rejected, never one that met an outage, and no
//! reason carries a value. What can be seen is seen before anything is sent. What only the server sees is found
//! by halving the batch inside a transaction that is rolled back in the end.

use std::time::Instant;

use chrono::Datelike;
use sqlx::{Acquire, PgConnection};

use super::{
    faults,
    rows::{Row, Rows},
    write::write,
};
use crate::{
    sink::{Rejection, SinkBatch, SinkEvent},
    store::can_be_added_up,
};

/// The first year timestamptz can hold. Its last one is beyond chrono's.
const FIRST_YEAR: i32 = -4712;

/// The events whose content shows that Postgres can't take them.
pub(super) fn visible(rows: &Rows<'_>) -> Vec<Rejection> {
    rows.all
        .iter()
        .filter_map(|row| Some(Rejection { position: row.source.position, reason: problem(row)?.to_owned() }))
        .collect()
}

/// The events the server refuses, found in a transaction that must be rolled back by the caller. What it takes
/// stays written until then, so that an event that is refused only after the others is found as well.
///
/// Past `deadline` it returns what it has, as soon as that is anything: the others are found the next time.
pub(super) async fn refused(
    connection: &mut PgConnection,
    batch: &SinkBatch,
    deadline: Instant,
) -> Result<Vec<Rejection>, sqlx::Error> {
    let mut rejections = Vec::new();
    let mut open: Vec<&[SinkEvent]> = vec![&batch.events];
    while let Some(events) = open.pop() {
        if !rejections.is_empty() && Instant::now() > deadline {
            break;
        }
        let Err(error) = try_write(connection, events).await? else { continue };
        if let [event] = events {
            rejections.push(Rejection { position: event.position, reason: faults::refusal(&error) });
            continue;
        }
        let (first, second) = events.split_at(events.len() / 2);
        // The first half is tried first.
        open.extend([second, first]);
    }
    rejections.sort_unstable_by_key(|rejection| rejection.position);
    Ok(rejections)
}

/// Writes events behind a savepoint: the inner result is the server's refusal of their content.
async fn try_write(
    connection: &mut PgConnection,
    events: &[SinkEvent],
) -> Result<Result<(), sqlx::Error>, sqlx::Error> {
    let part = SinkBatch { events: events.to_vec(), spans: Vec::new() };
    let mut savepoint = connection.begin().await?;
    match write(&mut savepoint, &part, &Rows::of(&part)).await {
        Ok(_) => {
            savepoint.commit().await?;
            Ok(Ok(()))
        }
        Err(error) if faults::is_refused_content(&error) => {
            savepoint.rollback().await?;
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}

fn problem(row: &Row<'_>) -> Option<&'static str> {
    let event = &row.source.event;
    if event.usuario.contains('\0') || event.evento.contains('\0') {
        return Some("a text holds a NUL character, which Postgres can't store");
    }
    if holds_escaped_nul(&row.metadata) || holds_escaped_nul(&row.dados) {
        return Some("a text or key in metadata or dados holds a NUL character, which Postgres can't store");
    }
    if !can_be_added_up(event.valor) {
        return Some("valor is not a number that can be added up");
    }
    if event.instants().any(|instant| instant.year() < FIRST_YEAR) {
        return Some("a time lies before the first one Postgres can store");
    }
    None
}

/// Whether JSON, as serde writes it, has a NUL in any text or key, however deep: `\u0000` behind a backslash that
/// is not itself escaped.
fn holds_escaped_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let backslashes_before = json[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        backslashes_before % 2 == 0
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_nul_is_found_at_any_depth_and_in_keys() {
        for value in
            [json!({"a": "x\0"}), json!({"a": [{"b": "\0"}]}), json!({"a\0": 1}), json!({"a": "\\\0"})]
        {
            assert!(holds_escaped_nul(&value.to_string()), "{value}");
        }
    }

    #[test]
    fn text_that_only_looks_like_a_nul_is_not_one() {
        for value in
            [json!({"a": "\\u0000"}), json!({"a": "u0000"}), json!({"a": "\\\\u0000"}), json!("\u{1}")]
        {
            assert!(!holds_escaped_nul(&value.to_string()), "{value}");
        }
    }
}
