//! Finding the events that Postgres can never take.
//!
//! Guarantee: only an event whose own content is at fault is rejected, never one that met an outage, and no
//! reason carries a value. What can be seen is seen before anything is sent: envelopes that sluice never writes. What only
//! the server sees is found by halving the batch inside a transaction that is rolled back in the end.

use std::time::Instant;

use chrono::Datelike;
use sqlx::{Acquire, PgConnection};

use super::{
    faults,
    rows::{Row, Rows},
    write::write,
};
use crate::{
    domain::Catalog,
    sink::{Rejection, SinkBatch, SinkEvent},
    store::envelope_problem,
};

/// The first year timestamptz can hold. Its last one is beyond chrono's.
const FIRST_YEAR: i32 = -4712;

/// When a trigger refuses all of a batch, and that is so many, it is not the events that are at fault.
const MANY: usize = 8;

/// What the server refuses of a batch.
pub(super) enum Refused {
    Events(Vec<Rejection>),
    /// A trigger refuses whatever it is given.
    Everything,
}

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
    catalog: Catalog,
    batch: &SinkBatch,
    deadline: Instant,
) -> Result<Refused, sqlx::Error> {
    let mut rejections = Vec::new();
    let mut only_triggers = true;
    let mut open: Vec<&[SinkEvent]> = vec![&batch.events];
    while let Some(events) = open.pop() {
        if !rejections.is_empty() && Instant::now() > deadline {
            break;
        }
        let Err(error) = try_write(connection, catalog, events).await? else {
            only_triggers = false;
            continue;
        };
        if let [event] = events {
            only_triggers &= faults::is_raised(&error);
            rejections.push(Rejection { position: event.position, reason: faults::refusal(&error) });
            continue;
        }
        let (first, second) = events.split_at(events.len() / 2);
        // The first half is tried first.
        open.extend([second, first]);
    }
    if only_triggers && rejections.len() >= MANY && rejections.len() == batch.events.len() {
        return Ok(Refused::Everything);
    }
    rejections.sort_unstable_by_key(|rejection| rejection.position);
    Ok(Refused::Events(rejections))
}

/// Writes events behind a savepoint: the inner result is the server's refusal of their content.
async fn try_write(
    connection: &mut PgConnection,
    catalog: Catalog,
    events: &[SinkEvent],
) -> Result<Result<(), sqlx::Error>, sqlx::Error> {
    let part = SinkBatch { events: events.to_vec(), spans: Vec::new() };
    let mut savepoint = connection.begin().await?;
    match write(&mut savepoint, catalog, &part, &Rows::of(&part)).await {
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
    let texts = [&event.tipo_evento, &event.usuario, &event.evento, &event.categoria, &event.entidade.id];
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Some("a text of the envelope holds a NUL character, which Postgres can't store");
    }
    if event.timestamp.year() < FIRST_YEAR {
        return Some("timestamp lies before the first one Postgres can store");
    }
    envelope_problem(row.source)
}
