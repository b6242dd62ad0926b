//! Who may write a partition, and how far it is applied.
//!
//! Guarantee: offsets move only inside the transaction that writes the rows, only for the holder of the latest
//! claim, and only from the place that holder believes in. Everybody else's transaction fails as a whole.

use std::collections::BTreeSet;

use sqlx::{FromRow, PgConnection};

use crate::{
    log::{Position, StartAt},
    sink::{Claim, Span},
};

#[derive(FromRow)]
struct Claimed {
    partition: i32,
    epoch: i64,
    next_offset: Option<i64>,
}

/// Bumps the epoch of each partition, which makes earlier claims worthless. Waits for a transaction that is
/// writing one of them right now, so the offset it returns is final.
pub(super) async fn claim(
    connection: &mut PgConnection,
    log: &str,
    partitions: &[i32],
) -> Result<Vec<Claim>, sqlx::Error> {
    // One order for everybody, and no partition twice.
    let partitions: Vec<i32> = partitions.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let claimed: Vec<Claimed> = sqlx::query_as(
        "INSERT INTO sluice_offsets AS o (log, partition, epoch)
         SELECT $1, partition, 1 FROM unnest($2::int4[]) AS partition
         ON CONFLICT (log, partition) DO UPDATE SET epoch = o.epoch + 1, updated_at = now()
         RETURNING partition, epoch, next_offset",
    )
    .bind(log)
    .bind(&partitions)
    .fetch_all(connection)
    .await?;
    let to_claim = |row: Claimed| Claim {
        partition: row.partition,
        epoch: row.epoch,
        start: row.next_offset.map_or(StartAt::Beginning, StartAt::Offset),
    };
    Ok(claimed.into_iter().map(to_claim).collect())
}

/// Moves the offsets of all spans; `false` when one of them is not ours to move.
pub(super) async fn advance(
    connection: &mut PgConnection,
    log: &str,
    spans: &[Span],
) -> Result<bool, sqlx::Error> {
    let column = |of: fn(&Span) -> i64| spans.iter().map(of).collect::<Vec<i64>>();
    let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
    let moved = sqlx::query(
        "UPDATE sluice_offsets AS o SET next_offset = s.next, updated_at = now()
         FROM unnest($2::int4[], $3::int8[], $4::int8[], $5::int8[]) AS s(partition, epoch, first, next)
         WHERE o.log = $1 AND o.partition = s.partition AND o.epoch = s.epoch
           AND (o.next_offset = s.first OR o.next_offset IS NULL)",
    )
    .bind(log)
    .bind(&partitions)
    .bind(column(|span| span.epoch))
    .bind(column(|span| span.first))
    .bind(column(|span| span.next))
    .execute(connection)
    .await?;
    Ok(usize::try_from(moved.rows_affected()) == Ok(spans.len()))
}

/// The next offset of every partition of which anything was applied.
pub(super) async fn applied(connection: &mut PgConnection, log: &str) -> Result<Vec<Position>, sqlx::Error> {
    let rows: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT partition, next_offset FROM sluice_offsets
         WHERE log = $1 AND next_offset IS NOT NULL ORDER BY partition",
    )
    .bind(log)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(partition, offset)| Position { partition, offset }).collect())
}
