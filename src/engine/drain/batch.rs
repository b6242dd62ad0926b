//! A batch on its way from the log to the sink: pure, but for the thread that decodes it.
//!
//! Decoding begins as soon as the records are read, beside whatever is being applied. What depends on how far the sink
//! is, on who was erased and on what was parked is decided only when the batch is applied.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{BuildHasher as _, RandomState},
    panic::resume_unwind,
    sync::LazyLock,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::task::{JoinHandle, spawn_blocking};

use super::Held;
use crate::{
    domain::{Catalog, ErasureLedger, Event},
    fault::Fault,
    log::{Position, Record},
    sink::{Rejection, SinkBatch, SinkEvent, Span},
};

/// Records in hand that are not applied yet.
pub(super) struct Batch {
    partitions: BTreeSet<i32>,
    decoding: JoinHandle<Vec<(Record, Decoded)>>,
}

/// What became of a record.
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub(super) enum Decoded {
    Event(SinkEvent),
    Undecodable(Rejection),
    /// Of a table that is not defined here.
    Undefined(Rejection),
    /// Its content was erased from the log.
    Empty,
}

impl Decoded {
    /// When its row says that it was changed, where it is of one.
    pub(super) fn changed_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Event(SinkEvent { event, table: Some(_), .. }) => Some(event.timestamp),
            Self::Event(_) | Self::Undecodable(_) | Self::Undefined(_) | Self::Empty => None,
        }
    }
}

impl Batch {
    pub(super) fn begin(catalog: Catalog, records: Vec<Record>) -> Self {
        Self {
            partitions: records.iter().map(|record| record.partition).collect(),
            decoding: spawn_blocking(move || {
                let decode = |record: Record| {
                    let decoded = decode(catalog, &record);
                    (record, decoded)
                };
                records.into_iter().map(decode).collect()
            }),
        }
    }

    pub(super) fn partitions(&self) -> &BTreeSet<i32> {
        &self.partitions
    }

    /// The records, and beside each what became of it.
    ///
    /// # Errors
    /// When the runtime is shutting down; nothing is applied then.
    pub(super) async fn decoded(self) -> Result<(Vec<Record>, Vec<Decoded>), Fault> {
        let all = self.decoding.await.map_err(|error| match error.try_into_panic() {
            // As if it had been decoded here.
            Ok(panic) => resume_unwind(panic),
            Err(error) => Fault::transient("drain", format!("decoding was cut: {error}"), "it is read again"),
        })?;
        Ok(all.into_iter().unzip())
    }
}

fn decode(catalog: Catalog, record: &Record) -> Decoded {
    if record.is_erased() {
        return Decoded::Empty;
    }
    let position = Position { partition: record.partition, offset: record.offset };
    if record.has_unreadable_headers {
        let reason = "a header of the record has a name that is not UTF-8, so its headers can't be read";
        return Decoded::Undecodable(Rejection { position, reason: reason.to_owned() });
    }
    let event = match Event::decode(record.value.as_ref()) {
        Ok(event) => event,
        Err(error) => return Decoded::Undecodable(Rejection { position, reason: error.to_string() }),
    };
    match event.table(catalog) {
        Ok(table) => {
            let raw = record.value.clone().unwrap_or_default();
            Decoded::Event(SinkEvent { position, event, table, raw })
        }
        Err(error) => Decoded::Undefined(Rejection { position, reason: error.to_string() }),
    }
}

/// Fewest records for each lane, on average: fewer are applied as one.
const MIN_LANE: usize = 5;

/// Records and what became of each, shared out over at most so many lanes, which are applied at the same time: each has
/// partitions of its own, and about as many bytes as the others.
pub(super) fn lanes(
    records: Vec<Record>,
    decoded: Vec<Decoded>,
    at_most: usize,
) -> Vec<(Vec<Record>, Vec<Decoded>)> {
    let mut bytes: BTreeMap<i32, usize> = BTreeMap::new();
    for record in &records {
        *bytes.entry(record.partition).or_default() += record.value.as_ref().map_or(0, Bytes::len);
    }
    let lanes = at_most.min(bytes.len()).min(records.len() / MIN_LANE);
    if lanes < 2 {
        return vec![(records, decoded)];
    }
    let mut largest_first: Vec<(i32, usize)> = bytes.into_iter().collect();
    largest_first.sort_unstable_by_key(|&(partition, bytes)| (Reverse(bytes), partition));
    let mut filled = vec![0; lanes];
    let mut lane_of: BTreeMap<i32, usize> = BTreeMap::new();
    for (partition, bytes) in largest_first {
        let emptiest = (0..lanes).min_by_key(|lane| filled[*lane]).unwrap_or_default();
        filled[emptiest] += bytes;
        lane_of.insert(partition, emptiest);
    }
    let mut shared: Vec<(Vec<Record>, Vec<Decoded>)> = (0..lanes).map(|_| Default::default()).collect();
    for (record, decoded) in records.into_iter().zip(decoded) {
        let lane = &mut shared[lane_of[&record.partition]];
        lane.0.push(record);
        lane.1.push(decoded);
    }
    shared
}

/// What makes the order of two batches matter where both have it: an event, of which the first one stays, and a version of
/// an entity, of which the last one does.
pub(super) fn marks<'e>(events: impl Iterator<Item = &'e SinkEvent>) -> HashSet<u64> {
    // Two that are taken for one only have to wait for each other.
    static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let of = |SinkEvent { event, table, .. }: &SinkEvent| {
        let (id, entity) = (event.id, &event.entidade);
        let version = table.map(|table| HASHES.hash_one((table.name(), &entity.id, entity.versao)));
        std::iter::once(HASHES.hash_one(id)).chain(version)
    };
    events.flat_map(of).collect()
}

/// What a batch is made of.
#[derive(Default)]
pub(super) struct Read {
    pub(super) batch: SinkBatch,
    pub(super) undecodable: Vec<Rejection>,
    /// Of tables that are not defined here.
    pub(super) undefined: Vec<Rejection>,
    /// Of erased entities.
    pub(super) erased: Vec<SinkEvent>,
}

/// What there is to apply, by where the sink stands now; `parked` is passed over.
pub(super) fn assemble(
    records: &[Record],
    decoded: Vec<Decoded>,
    held: &BTreeMap<i32, Held>,
    parked: &HashSet<Position>,
    ledger: &ErasureLedger,
) -> Read {
    let mut read = Read::default();
    let mut spans: BTreeMap<i32, Span> = BTreeMap::new();
    for (record, decoded) in records.iter().zip(decoded) {
        let (partition, offset) = (record.partition, record.offset);
        let Some(&Held { epoch, next }) = held.get(&partition) else { continue };
        spans.entry(partition).or_insert(Span { partition, epoch, first: next, next }).next = offset + 1;
        if parked.contains(&Position { partition, offset }) {
            continue;
        }
        match decoded {
            Decoded::Event(event) if event.is_erased(ledger) => read.erased.push(event),
            Decoded::Event(event) => read.batch.events.push(event),
            Decoded::Undecodable(rejection) => read.undecodable.push(rejection),
            Decoded::Undefined(rejection) => read.undefined.push(rejection),
            Decoded::Empty => {}
        }
    }
    read.batch.spans = spans.into_values().collect();
    read
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::{Json, ManualEvent};

    fn record(partition: i32, offset: i64, value: &[u8]) -> Record {
        Record {
            partition,
            offset,
            appended_at: None,
            key: None,
            value: Some(Bytes::copy_from_slice(value)),
            headers: Vec::new(),
            has_unreadable_headers: false,
        }
    }

    fn event() -> Bytes {
        let manual = ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: Json::from(&serde_json::json!({})),
        };
        Event::manual(manual, DateTime::UNIX_EPOCH).encode()
    }

    async fn read(records: Vec<Record>, parked: &[Position]) -> Read {
        let batch = Batch::begin(Catalog::built_in(), records);
        let (records, decoded) = batch.decoded().await.expect("decoded");
        let held = (0..3).map(|partition| (partition, Held { epoch: 7, next: 3 })).collect();
        let parked = parked.iter().copied().collect();
        assemble(&records, decoded, &held, &parked, &ErasureLedger::default())
    }

    fn span(partition: i32, next: i64) -> Span {
        Span { partition, epoch: 7, first: 3, next }
    }

    #[tokio::test]
    async fn a_batch_covers_holes_letters_and_poison_from_where_the_sink_stands() {
        let event = event();
        let records =
            vec![record(0, 3, &event), record(1, 5, b"{"), record(0, 9, &event), record(2, 4, b"?")];
        let parked = [Position { partition: 2, offset: 4 }];
        let read = read(records, &parked).await;
        assert_eq!(read.batch.spans, [span(0, 10), span(1, 6), span(2, 5)]);
        let offsets: Vec<i64> = read.batch.events.iter().map(|event| event.position.offset).collect();
        assert_eq!(offsets, [3, 9]);
        let refused: Vec<Position> = read.undecodable.iter().map(|refused| refused.position).collect();
        assert_eq!(refused, [Position { partition: 1, offset: 5 }]);
    }

    #[test]
    fn lanes_have_partitions_of_their_own_in_order_and_about_as_many_bytes() {
        let value = event();
        // Half of all is of partition 0.
        let of = |i: i64| if i % 2 == 0 { 0 } else { i32::try_from(1 + i % 3).expect("small") };
        let records = || (0..2_000).map(|i| record(of(i), i, &value)).collect::<Vec<_>>();
        let decoded = || (0..2_000).map(|_| Decoded::Empty).collect::<Vec<_>>();
        let shared = lanes(records(), decoded(), 2);
        let sizes: Vec<usize> = shared.iter().map(|(records, _)| records.len()).collect();
        assert_eq!(sizes, [1_000, 1_000]);
        for (records, decoded) in &shared {
            assert_eq!(records.len(), decoded.len());
            assert!(records.is_sorted_by_key(|record| record.offset));
        }
        let partitions: Vec<BTreeSet<i32>> = shared
            .iter()
            .map(|(records, _)| records.iter().map(|record| record.partition).collect())
            .collect();
        assert_eq!(partitions, [BTreeSet::from([0]), BTreeSet::from([1, 2, 3])]);
        assert_eq!(lanes(records(), decoded(), 1).len(), 1);
        let few = records().into_iter().take(2 * MIN_LANE - 1).collect();
        assert_eq!(lanes(few, decoded(), 2).len(), 1, "it is not worth it");
        let one = (0..2_000).map(|i| record(7, i, &value)).collect();
        assert_eq!(lanes(one, decoded(), 2).len(), 1, "a partition is never cut");
    }
}
