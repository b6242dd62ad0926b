//! The log in the embedded file: the same offsets, groups and promises as a topic's, for one process.

mod headers;
mod reader;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, params};
use tokio::sync::{Mutex as AsyncMutex, watch};

use self::reader::EmbeddedReader;
use super::{ERASED, Extent, Log, LogFacts, LogReader, NewRecord, Position, Record, Topic, TopicLimits};
use crate::{
    config::KafkaSettings,
    domain::Event,
    embedded::{EmbeddedDb, PART},
    fault::Fault,
    identity::Identity,
};

/// The largest record, in bytes: what the real log allows by default, so that both refuse the same rows.
const MAX_RECORD: usize = KafkaSettings::MAX_MESSAGE_BYTES;

/// As many as show everything that several partitions bring with them.
const PARTITIONS: i32 = 3;

const EVENTS: &str = "eventos";

/// What is appended from now on is another log; its groups go by the id.
pub(crate) const RENEW: &str =
    "UPDATE log_identity SET id = lower(hex(randomblob(11))); DELETE FROM log_groups;";

/// The log in an embedded file.
pub struct EmbeddedLog {
    db: Arc<EmbeddedDb>,
    /// Grows with every append, so that readers need not look again and again.
    appended: watch::Sender<u64>,
    /// A group has one member at a time: whoever holds its lock.
    groups: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

impl EmbeddedLog {
    pub fn new(db: Arc<EmbeddedDb>) -> Self {
        Self { db, appended: watch::Sender::new(0), groups: Mutex::new(HashMap::new()) }
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn name(&self) -> &'static str {
        PART
    }

    fn topic(&self) -> &str {
        EVENTS
    }

    async fn identity(&self) -> Result<Identity, Fault> {
        let id: String = self
            .db
            .read("reading the log's identity", |db| {
                db.query_row("SELECT id FROM log_identity", [], |row| row.get(0))
            })
            .await?;
        Ok(Identity { place: "embedded/eventos".to_owned(), id })
    }

    async fn dead_letters_identity(&self) -> Result<Identity, Fault> {
        Ok(Identity { place: "embedded/eventos.dlq".to_owned(), ..self.identity().await? })
    }

    async fn is_made(&self) -> Result<bool, Fault> {
        // The file is made when it is opened.
        Ok(true)
    }

    async fn ensure_topics(&self) -> Result<(), Fault> {
        // They came with the file.
        Ok(())
    }

    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, Fault> {
        let topic = number(topic);
        let positions = self
            .db
            .write("appending to the log", move |db| {
                let mut end = db.prepare_cached(
                    "SELECT coalesce((SELECT max(position) + 1 FROM log_records WHERE topic = ?1 AND partition = ?2),
                         (SELECT position FROM log_starts WHERE topic = ?1 AND partition = ?2), 0)",
                )?;
                let mut insert = db.prepare_cached(
                    "INSERT INTO log_records (topic, partition, position, key, value, headers, appended_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )?;
                let now = Utc::now().timestamp_millis();
                let mut ends: HashMap<i32, i64> = HashMap::new();
                let mut positions = Vec::with_capacity(records.len());
                for record in &records {
                    let partition = if topic == 0 { partition_of(&record.key) } else { 0 };
                    let offset = match ends.get(&partition) {
                        Some(offset) => *offset,
                        None => end.query_row(params![topic, partition], |row| row.get(0))?,
                    };
                    insert.execute(params![
                        topic,
                        partition,
                        offset,
                        record.key.as_ref(),
                        record.value.as_ref(),
                        headers::encode(&record.headers),
                        now
                    ])?;
                    ends.insert(partition, offset + 1);
                    positions.push(Position { partition, offset });
                }
                Ok(positions)
            })
            .await?;
        self.appended.send_modify(|count| *count += 1);
        Ok(positions)
    }

    async fn reader(&self, group: &str) -> Result<Box<dyn LogReader>, Fault> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let membership = groups.entry(group.to_owned()).or_default().clone();
        Ok(Box::new(EmbeddedReader::new(self.db.clone(), group, membership, self.appended.subscribe())))
    }

    async fn extents(&self) -> Result<Vec<Extent>, Fault> {
        self.db.read("reading the log's extent", |db| extents(db, Topic::Events)).await
    }

    async fn committed(&self, group: &str) -> Result<Vec<Position>, Fault> {
        let group = group.to_owned();
        self.db.read("reading a group's offsets", move |db| committed(db, &group)).await
    }

    async fn max_record(&self, _: Topic) -> Result<usize, Fault> {
        Ok(MAX_RECORD)
    }

    async fn records(&self, topic: Topic, ranges: &[Extent]) -> Result<Vec<Record>, Fault> {
        let ranges = ranges.to_vec();
        self.db
            .read("reading records", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT partition, position, key, value, headers, appended_at FROM log_records
                     WHERE topic = ? AND partition = ? AND position >= ? AND position < ? ORDER BY position",
                )?;
                let mut records = Vec::new();
                for range in &ranges {
                    let place = params![number(topic), range.partition, range.low, range.high];
                    for record in statement.query_map(place, reader::record)? {
                        records.push(record?);
                    }
                }
                Ok(records)
            })
            .await
    }

    async fn holds_none(&self, range: Extent) -> Result<bool, Fault> {
        self.db
            .read("looking for records", move |db| {
                db.prepare_cached(
                    "SELECT NOT EXISTS (SELECT 1 FROM log_records
                     WHERE topic = 0 AND partition = ? AND position >= ? AND position < ?)",
                )?
                .query_row(params![range.partition, range.low, range.high], |row| row.get(0))
            })
            .await
    }

    async fn dead_letter_extents(&self) -> Result<Vec<Extent>, Fault> {
        let mut extents = self.db.read("counting dead letters", |db| extents(db, Topic::DeadLetters)).await?;
        // All of them are in the first partition.
        extents.truncate(1);
        Ok(extents)
    }

    async fn erase(
        &self,
        tipo_evento: &str,
        keys: &[String],
        letters: &[Position],
    ) -> Result<Option<u64>, Fault> {
        let (tipo_evento, keys, letters) = (tipo_evento.to_owned(), keys.to_vec(), letters.to_vec());
        let erased = self.db.write("erasing records", move |db| {
            let mut of_key =
                db.prepare_cached("SELECT partition, position, value FROM log_records WHERE topic = 0 AND partition = ? AND key = ?")?;
            let mut records: Vec<(i32, Position)> =
                letters.iter().map(|at| (number(Topic::DeadLetters), *at)).collect();
            for key in keys.iter().map(String::as_bytes) {
                let mut rows = of_key.query(params![partition_of(key), key])?;
                while let Some(row) = rows.next()? {
                    let value: Option<Vec<u8>> = row.get(2)?;
                    // Another table's row may have the same key.
                    let event = Event::decode(value.map(Bytes::from).as_ref());
                    if event.is_ok_and(|event| event.tipo_evento == tipo_evento) {
                        let at = Position { partition: row.get(0)?, offset: row.get(1)? };
                        records.push((number(Topic::Events), at));
                    }
                }
            }
            let mut empty = db.prepare_cached(
                "UPDATE log_records SET key = NULL, value = NULL, headers = ?
                 WHERE topic = ? AND partition = ? AND position = ? AND value IS NOT NULL",
            )?;
            let headers = headers::encode(&[(ERASED, Bytes::new())]);
            let mut erased = 0;
            for (topic, at) in records {
                erased += empty.execute(params![headers, topic, at.partition, at.offset])?;
            }
            Ok(u64::try_from(erased).unwrap_or(u64::MAX))
        });
        let erased = erased.await?;
        self.db.forget_old_pages().await?;
        Ok(Some(erased))
    }

    async fn older(&self, before: DateTime<Utc>) -> Result<Vec<Position>, Fault> {
        self.db
            .read("looking for old records", move |db| {
                // They stand in the order they came, whatever the clock did meanwhile.
                let mut first = db.prepare_cached(
                    "SELECT position FROM log_records
                     WHERE topic = 0 AND partition = ? AND appended_at >= ? ORDER BY position LIMIT 1",
                )?;
                let mut older = Vec::new();
                for Extent { partition, high, .. } in extents(db, Topic::Events)? {
                    let kept = params![partition, before.timestamp_millis()];
                    let offset = first.query_row(kept, |row| row.get(0)).optional()?.unwrap_or(high);
                    older.push(Position { partition, offset });
                }
                Ok(older)
            })
            .await
    }

    async fn remove(&self, topic: Topic, below: Position) -> Result<(), Fault> {
        self.db
            .write("removing old records", move |db| {
                let place = params![number(topic), below.partition, below.offset];
                db.execute("DELETE FROM log_records WHERE topic = ? AND partition = ? AND position < ?", place)?;
                db.execute(
                    "INSERT INTO log_starts (topic, partition, position) VALUES (?, ?, ?)
                     ON CONFLICT (topic, partition) DO UPDATE SET position = max(position, excluded.position)",
                    place,
                )?;
                Ok(())
            })
            .await?;
        self.db.forget_old_pages().await
    }

    fn can_erase(&self) -> bool {
        true
    }

    fn may_go_back(&self) -> bool {
        true
    }

    fn shortage(&self) -> Option<Fault> {
        self.db.shortage()
    }

    async fn renew(&self) -> Result<(), Fault> {
        self.db.write("giving the log another id", |db| db.execute_batch(RENEW)).await
    }

    async fn facts(&self) -> Result<LogFacts, Fault> {
        let partitions = usize::try_from(PARTITIONS).unwrap_or_default();
        Ok(LogFacts {
            partitions,
            replicas: None,
            under_replicated: 0,
            events: TopicLimits::default(),
            letters: TopicLimits::default(),
        })
    }
}

fn number(topic: Topic) -> i32 {
    match topic {
        Topic::Events => 0,
        Topic::DeadLetters => 1,
    }
}

/// First offset and end of every partition.
fn extents(db: &rusqlite::Connection, topic: Topic) -> rusqlite::Result<Vec<Extent>> {
    // Both in one query would read the whole partition; each alone is a look at an end of the index.
    let mut statement = db.prepare_cached(
        "SELECT coalesce((SELECT min(position) FROM log_records WHERE topic = ?1 AND partition = ?2), start, 0),
                coalesce((SELECT max(position) + 1 FROM log_records WHERE topic = ?1 AND partition = ?2), start, 0)
         FROM (SELECT (SELECT position FROM log_starts WHERE topic = ?1 AND partition = ?2) AS start)",
    )?;
    (0..PARTITIONS)
        .map(|partition| {
            statement.query_row(params![number(topic), partition], |row| {
                Ok(Extent { partition, low: row.get(0)?, high: row.get(1)? })
            })
        })
        .collect()
}

fn committed(db: &rusqlite::Connection, group: &str) -> rusqlite::Result<Vec<Position>> {
    let mut statement = db.prepare_cached(
        "SELECT partition, next_offset FROM log_groups WHERE group_name = ? ORDER BY partition",
    )?;
    let rows =
        statement.query_map([group], |row| Ok(Position { partition: row.get(0)?, offset: row.get(1)? }))?;
    rows.collect()
}

/// FNV-1a: the same key always hits the same partition, in every release.
/// <http://www.isthe.com/chongo/tech/comp/fnv/>
fn partition_of(key: &[u8]) -> i32 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i32::try_from(hash % u64::from(PARTITIONS.unsigned_abs())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_all_partitions_and_stay_where_they_are() {
        let partitions: Vec<i32> = (0..100).map(|n| partition_of(format!("k{n}").as_bytes())).collect();
        assert!((0..PARTITIONS).all(|partition| partitions.iter().filter(|p| **p == partition).count() > 10));
        assert_eq!(partition_of(b"5f0c2f6e"), partition_of(b"5f0c2f6e"));
    }
}
