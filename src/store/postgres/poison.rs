//! Finding the events that Postgres can never take.
//!
//! Guarantee: only an event whose own content is at fault is rejected, never one that met an outage, and no
//! reason carries a value. What can be seen is seen before anything is sent: envelopes that sluice never writes. What only
//! the server sees is found by halving the batch inside a transaction that is rolled back in the end.

use std::{collections::HashMap, time::Instant};

use chrono::Datelike;
use sqlx::{Acquire, PgConnection};

use super::{
    faults,
    rows::{Row, Rows},
    write::{Unwritten, write},
};
use crate::{
    domain::Catalog,
    sink::{Rejection, SinkBatch, SinkEvent},
    store::{
        envelope_problem,
        refusals::{Outcome, Streaks},
        table_of,
    },
};

/// The first year timestamptz can hold. Its last one is beyond chrono's.
const FIRST_YEAR: i32 = -4712;

/// What the server refuses of a batch.
pub(super) enum Refused {
    Events(Vec<Rejection>),
    /// A rule refuses every row of a table: which, how many showed it, and why.
    Everything(&'static str, usize, String),
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
    streaks: &Streaks,
    deadline: Instant,
) -> Result<Refused, sqlx::Error> {
    let mut rejections: Vec<Rejection> = Vec::new();
    let mut outcome = Outcome::default();
    let mut reasons: HashMap<&'static str, String> = HashMap::new();
    let mut open: Vec<&[SinkEvent]> = vec![&batch.events];
    while let Some(events) = open.pop() {
        if !rejections.is_empty() && Instant::now() > deadline {
            break;
        }
        let Err(error) = try_write(connection, catalog, events).await? else {
            outcome.taken.extend(events.iter().map(table_of));
            continue;
        };
        if let [event] = events {
            let reason = error.refusal();
            if error.is_rule() {
                outcome.refused.entry(table_of(event)).or_default().insert(event.position);
                reasons.insert(table_of(event), reason.clone());
            }
            rejections.push(Rejection { position: event.position, reason });
            continue;
        }
        let (first, second) = events.split_at(events.len() / 2);
        // The first half is tried first.
        open.extend([second, first]);
    }
    if let Some((table, rows)) = streaks.judge(&outcome) {
        return Ok(Refused::Everything(table, rows, reasons.remove(table).unwrap_or_default()));
    }
    rejections.sort_unstable_by_key(|rejection| rejection.position);
    Ok(Refused::Events(rejections))
}

/// Writes events behind a savepoint: the inner result is the server's refusal of their content.
async fn try_write(
    connection: &mut PgConnection,
    catalog: Catalog,
    events: &[SinkEvent],
) -> Result<Result<(), Unwritten>, sqlx::Error> {
    let part = SinkBatch { events: events.to_vec(), spans: Vec::new() };
    let mut savepoint = connection.begin().await?;
    let written = match write(&mut savepoint, catalog, &part, &Rows::of(&part)).await {
        Ok(_) => check_deferred(&mut savepoint).await.map_err(Unwritten::from),
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => {
            savepoint.commit().await?;
            Ok(Ok(()))
        }
        Err(Unwritten::Sql(error)) if !faults::is_refused_content(&error) => Err(error),
        Err(refused) => {
            savepoint.rollback().await?;
            Ok(Err(refused))
        }
    }
}

/// Fails where a deferred constraint refuses what was written, which would otherwise be seen with the commit alone. Rolled
/// back, so that what is written next may again wait for what comes after it.
async fn check_deferred(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut look = connection.begin().await?;
    sqlx::query("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *look).await?;
    look.rollback().await
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
