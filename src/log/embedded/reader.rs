//! A member of a consumer group of the embedded log.

use std::{collections::BTreeMap, future::ready, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::{FutureExt, future::BoxFuture};
use rusqlite::params;
use tokio::{
    sync::{Mutex, OwnedMutexGuard, watch},
    time::timeout,
};

use super::{PARTITIONS, committed, extents, headers};
use crate::{
    embedded::{EmbeddedDb, PART},
    fault::{Fault, FaultKind},
    log::{BatchLimits, Delivery, LogReader, Position, Record, StartAt, Started, Topic},
};

pub(super) struct EmbeddedReader {
    db: Arc<EmbeddedDb>,
    group: String,
    membership: Arc<Mutex<()>>,
    /// Held while this reader is the group's member.
    member: Option<OwnedMutexGuard<()>>,
    appended: watch::Receiver<u64>,
    /// The next offset of each started partition.
    next: BTreeMap<i32, i64>,
    /// Grows with every batch.
    turn: usize,
}

impl EmbeddedReader {
    pub(super) fn new(
        db: Arc<EmbeddedDb>,
        group: &str,
        membership: Arc<Mutex<()>>,
        appended: watch::Receiver<u64>,
    ) -> Self {
        Self {
            db,
            group: group.to_owned(),
            membership,
            member: None,
            appended,
            next: BTreeMap::new(),
            turn: 0,
        }
    }

    async fn fetch(&mut self, limits: BatchLimits) -> Result<Vec<Record>, Fault> {
        // The partition that came first last time comes last, so that a long one keeps none of the others waiting.
        let mut next: Vec<(i32, i64)> =
            self.next.iter().map(|(partition, offset)| (*partition, *offset)).collect();
        let turns = next.len().max(1);
        next.rotate_left(self.turn % turns);
        let records = self
            .db
            .read("reading the log", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT partition, position, key, value, headers, appended_at FROM log_records
                     WHERE topic = 0 AND partition = ? AND position >= ? ORDER BY position LIMIT ?",
                )?;
                let (mut records, mut bytes) = (Vec::new(), 0);
                for (partition, from) in &next {
                    let left = limits.records.saturating_sub(records.len());
                    if left == 0 || bytes >= limits.bytes {
                        break;
                    }
                    let mut rows = statement.query(params![partition, from, left])?;
                    while bytes < limits.bytes
                        && let Some(row) = rows.next()?
                    {
                        let record = record(row)?;
                        bytes += size(&record);
                        records.push(record);
                    }
                }
                Ok(records)
            })
            .await?;
        if !records.is_empty() {
            self.turn = self.turn.wrapping_add(1);
        }
        for record in &records {
            self.next.insert(record.partition, record.offset + 1);
        }
        Ok(records)
    }
}

#[async_trait]
impl LogReader for EmbeddedReader {
    async fn next(&mut self, limits: BatchLimits) -> Result<Delivery, Fault> {
        if self.member.is_none() {
            let Ok(member) = timeout(limits.wait, self.membership.clone().lock_owned()).await else {
                return Ok(Delivery::Idle);
            };
            self.member = Some(member);
            return Ok(Delivery::Assigned((0..PARTITIONS).collect()));
        }
        // Marked before looking, so that nothing appended in between is waited past.
        self.appended.mark_unchanged();
        let records = self.fetch(limits).await?;
        if !records.is_empty() {
            return Ok(Delivery::Records(records));
        }
        match timeout(limits.wait, self.appended.changed()).await {
            Ok(Ok(())) => {
                let records = self.fetch(limits).await?;
                Ok(if records.is_empty() { Delivery::Idle } else { Delivery::Records(records) })
            }
            _ => Ok(Delivery::Idle),
        }
    }

    async fn start(&mut self, at: &[(i32, StartAt)]) -> Result<Vec<Started>, Fault> {
        if self.member.is_none() {
            return Ok(Vec::new());
        }
        let group = self.group.clone();
        let (committed, extents) = self
            .db
            .read("reading the log's extent", move |db| {
                Ok((committed(db, &group)?, extents(db, Topic::Events)?))
            })
            .await?;
        let mut began = Vec::with_capacity(at.len());
        for &(partition, start) in at {
            let Some(&extent) = extents.iter().find(|extent| extent.partition == partition) else { continue };
            let committed = committed.iter().find(|at| at.partition == partition).map(|at| at.offset);
            let started = Started::resolve(start, committed, extent, false);
            self.next.insert(partition, started.offset);
            began.push(started);
        }
        Ok(began)
    }

    async fn hold(&mut self, pause: Duration) -> Result<(), Fault> {
        // Nobody can take the partitions away.
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn commit(&self, next: &[Position]) -> BoxFuture<'static, Result<(), Fault>> {
        if self.member.is_none() {
            let refused = Fault::new(
                PART,
                FaultKind::Fenced,
                format!("committing offsets of group {} failed: this reader is not its member", self.group),
                "another reader of the group has the partitions; nothing to do",
            );
            return ready(Err(refused)).boxed();
        }
        let (group, next, db) = (self.group.clone(), next.to_vec(), self.db.clone());
        let commit = async move {
            db.write("committing offsets", move |db| {
                let mut statement = db.prepare_cached(
                    "INSERT INTO log_groups (group_name, partition, next_offset) VALUES (?, ?, ?)
                     ON CONFLICT (group_name, partition) DO UPDATE SET next_offset = excluded.next_offset",
                )?;
                for at in &next {
                    statement.execute(params![group, at.partition, at.offset])?;
                }
                Ok(())
            })
            .await
        };
        commit.boxed()
    }

    async fn close(self: Box<Self>) {}
}

pub(super) fn record(row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    let headers: String = row.get(4)?;
    Ok(Record {
        partition: row.get(0)?,
        offset: row.get(1)?,
        key: row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from),
        value: row.get::<_, Option<Vec<u8>>>(3)?.map(Bytes::from),
        headers: headers::decode(&headers),
        has_unreadable_headers: false,
        appended_at: DateTime::from_timestamp_millis(row.get(5)?),
    })
}

fn size(record: &Record) -> usize {
    record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len)
}
