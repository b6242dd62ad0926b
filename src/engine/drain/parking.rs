//! What becomes of records that no sink can take.

use std::collections::HashMap;

use chrono::Utc;
use tracing::warn;
use uuid::Uuid;

use super::Session;
use crate::{
    domain::TableName,
    engine::{dead_letters, erased},
    fail_point,
    fault::Fault,
    log::{Position, Record, Topic},
    sink::Rejection,
    store::ParkedEntity,
};

impl Session<'_> {
    /// Returns once the log has acknowledged every letter.
    pub(super) async fn park(&mut self, records: &[Record], rejections: Vec<Rejection>) -> Result<(), Fault> {
        if rejections.is_empty() {
            return Ok(());
        }
        if !self.drain.parks {
            self.parked.extend(rejections.into_iter().map(|rejection| rejection.position));
            return Ok(());
        }
        let sink = self.drain.sink.name();
        let now = Utc::now();
        let limit = self.drain.log.max_record(Topic::DeadLetters).await?;
        let by_position: HashMap<Position, &Record> = records
            .iter()
            .map(|record| (Position { partition: record.partition, offset: record.offset }, record))
            .collect();
        let (mut letters, mut entities) = (Vec::with_capacity(rejections.len()), Vec::new());
        for rejection in &rejections {
            if let Some(record) = by_position.get(&rejection.position) {
                let log = &self.log_id;
                letters.push(dead_letters::from_record(record, log, sink, &rejection.reason, limit, now));
                entities.push(dead_letters::entity_of(self.drain.catalog, record));
            }
        }
        let ids: Vec<Uuid> = letters.iter().map(dead_letters::new_letter_id).collect();
        let count = letters.len() as u64;
        let positions = self.drain.log.append(Topic::DeadLetters, letters).await?;
        fail_point::pass("drain.letters_appended");
        for rejection in &rejections {
            let Position { partition, offset } = rejection.position;
            warn!(sink, partition, offset, error = rejection.reason, "record parked as a dead letter");
        }
        for ((entity, letter), at) in entities.into_iter().zip(ids).zip(positions) {
            self.unnoted.extend(entity.map(|(table, entity)| ParkedEntity {
                sink: Some(sink.to_owned()),
                table: TableName::from(table),
                entity,
                partition: at.partition,
                offset: at.offset,
                letter,
            }));
        }
        self.parked.extend(rejections.into_iter().map(|rejection| rejection.position));
        self.drain.stats.parked(count);
        self.note_parked().await
    }

    /// Tells the store which entities have open letters; what it could not be told is told before anything else.
    pub(super) async fn note_parked(&mut self) -> Result<(), Fault> {
        if !self.unnoted.is_empty() {
            // An erasure that was made meanwhile found none of their letters, and their keys are not to be kept.
            let (catalog, ledger) = (self.drain.catalog, self.erased.ledger().await?);
            let is_erased = |one: &ParkedEntity| {
                catalog.get(&one.table.0).is_some_and(|table| ledger.holds(table, &one.entity))
            };
            let erased: Vec<ParkedEntity> =
                self.unnoted.iter().filter(|one| is_erased(one)).cloned().collect();
            let (store, log) = (&*self.drain.store, &*self.drain.log);
            if !erased.is_empty() {
                let by = format!("drain into {}", self.drain.sink.name());
                erased::settle_parked(store, log, &erased, &by).await?;
                store.forget_erased().await?;
            }
            self.unnoted.retain(|one| !is_erased(one));
            let letters = self.drain.log.dead_letters_identity().await?.to_string();
            self.drain.store.note_parked(&letters, &self.unnoted).await?;
            self.unnoted.clear();
        }
        Ok(())
    }
}
