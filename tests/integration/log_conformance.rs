//! What every log promises, on each adapter: the embedded one, which needs nothing, and Kafka.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sluice::{
    fault::FaultKind,
    log::{BatchLimits, Delivery, Extent, LogReader, NewRecord, Position, Record, StartAt, Topic},
};

use crate::support::{
    logs::{Embedded, Kafka, LIMITS, LogBench, PARTITIONS, join, read, record, records},
    on_each_adapter,
};

on_each_adapter! {
    embedded: Embedded, kafka: Kafka;
    records_are_appended_in_bulk_and_each_key_keeps_its_partition_and_order,
    keys_values_and_headers_come_back_byte_by_byte,
    nothing_is_delivered_before_a_start_and_reading_begins_where_it_says,
    a_batch_holds_no_more_records_and_bytes_than_asked_for,
    going_back_drops_what_was_fetched_and_delivers_from_there_in_order,
    holding_delivers_nothing_keeps_the_partitions_and_loses_nothing,
    a_record_appended_while_a_reader_waits_is_delivered_at_once,
    what_a_reader_commits_the_log_knows_and_the_next_reader_reads_on,
    groups_know_nothing_of_each_other,
    no_partition_has_two_readers_and_one_that_leaves_is_followed_by_the_other,
    an_offset_beyond_the_end_becomes_the_first,
    everything_survives_reopening,
    dead_letters_are_counted_apart_from_events,
    what_is_removed_is_gone_and_every_other_offset_stays,
}

/// All partitions of a reader that is alone in its group.
fn everywhere(at: StartAt) -> Vec<(i32, StartAt)> {
    (0..PARTITIONS).map(|partition| (partition, at)).collect()
}

fn ends(at: i64) -> Vec<Position> {
    (0..PARTITIONS).map(|partition| Position { partition, offset: at }).collect()
}

async fn records_are_appended_in_bulk_and_each_key_keeps_its_partition_and_order<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    let empty = log.extents().await.expect("extents");
    assert_eq!(empty.len(), 3);
    assert!(empty.iter().all(|extent| (extent.low, extent.high) == (0, 0)));

    let sent: Vec<NewRecord> = (0..50_000).map(|n| record(n % 100, n)).collect();
    let positions = log.append(Topic::Events, sent).await.expect("appended");
    assert_eq!(positions.len(), 50_000);
    let mut last: HashMap<usize, Position> = HashMap::new();
    for (n, position) in positions.iter().enumerate() {
        if let Some(before) = last.insert(n % 100, *position) {
            assert_eq!(before.partition, position.partition);
            assert!(before.offset < position.offset);
        }
    }
    let extents = log.extents().await.expect("extents");
    assert_eq!(extents.iter().map(|extent| extent.high - extent.low).sum::<i64>(), 50_000);
    for extent in extents {
        let mut offsets: Vec<i64> =
            positions.iter().filter(|at| at.partition == extent.partition).map(|at| at.offset).collect();
        offsets.sort_unstable();
        assert!(offsets.into_iter().eq(extent.low..extent.high), "every offset once, without a hole");
    }
    bench.clean_up().await;
}

async fn keys_values_and_headers_come_back_byte_by_byte<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    let every_byte: Bytes = (0..=u8::MAX).collect();
    let sent = vec![
        NewRecord {
            key: every_byte.clone(),
            value: every_byte.clone(),
            headers: vec![
                ("schema", Bytes::from_static(b"1")),
                ("binary", every_byte.clone()),
                ("empty", Bytes::new()),
                ("texto", Bytes::from("São João \0 \"aspas\"")),
                ("schema", Bytes::from_static(b"again")),
            ],
        },
        NewRecord { key: Bytes::from_static(b"k"), value: Bytes::new(), headers: Vec::new() },
        NewRecord {
            key: Bytes::from_static(b"k"),
            value: Bytes::from(vec![b'x'; 500_000]),
            headers: Vec::new(),
        },
    ];
    let positions = log.append(Topic::Events, sent.clone()).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let got = read(&mut *reader, 3).await;
    for (position, sent) in positions.iter().zip(&sent) {
        let same = |at: &&Record| (at.partition, at.offset) == (position.partition, position.offset);
        let record = got.iter().find(same).expect("the record");
        assert_eq!((record.key.as_ref(), record.value.as_ref()), (Some(&sent.key), Some(&sent.value)));
        let headers: Vec<_> =
            sent.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        assert_eq!(record.headers, headers);
        assert!(record.appended_at.is_some_and(|at| (chrono::Utc::now() - at).num_seconds().abs() < 60));
    }
    reader.close().await;
    bench.clean_up().await;
}

async fn nothing_is_delivered_before_a_start_and_reading_begins_where_it_says<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(300)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    let mut assigned = Vec::new();
    let mut quiet = 0;
    while assigned.is_empty() || quiet < 5 {
        match reader.next(LIMITS).await.expect("a delivery") {
            Delivery::Assigned(partitions) => assigned.extend(partitions),
            Delivery::Idle => quiet += 1,
            other => panic!("before the start: {other:?}"),
        }
    }
    let extents = log.extents().await.expect("extents");
    let starts: Vec<_> =
        extents.iter().map(|extent| (extent.partition, StartAt::Offset(extent.high - 10))).collect();
    let began = reader.start(&starts).await.expect("started");
    assert_eq!(began.len(), 3);
    for record in read(&mut *reader, 30).await {
        let extent = extents.iter().find(|extent| extent.partition == record.partition).expect("its extent");
        assert!(record.offset >= extent.high - 10);
        assert_eq!(record.headers, [("schema".to_owned(), Bytes::from_static(b"1"))]);
    }
    reader.close().await;
    bench.clean_up().await;
}

async fn a_batch_holds_no_more_records_and_bytes_than_asked_for<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    let large = |n: usize| NewRecord { value: Bytes::from(vec![b'x'; 1000]), ..record(n, n) };
    log.append(Topic::Events, (0..200).map(large).collect()).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    for (limits, most) in [
        (BatchLimits { records: 7, ..LIMITS }, 7),
        // The record that crosses the line is still included.
        (BatchLimits { bytes: 2500, ..LIMITS }, 3),
        (BatchLimits { bytes: 1, ..LIMITS }, 1),
    ] {
        reader.start(&everywhere(StartAt::Beginning)).await.expect("started");
        let (mut seen, mut longest) = (BTreeSet::new(), 0);
        while seen.len() < 200 {
            if let Delivery::Records(batch) = reader.next(limits).await.expect("a delivery") {
                assert!(batch.len() <= most, "{} records under {limits:?}", batch.len());
                longest = longest.max(batch.len());
                seen.extend(batch.iter().map(|record| (record.partition, record.offset)));
            }
        }
        assert_eq!(longest, most, "batches are filled");
    }
    reader.close().await;
    bench.clean_up().await;
}

async fn going_back_drops_what_was_fetched_and_delivers_from_there_in_order<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(3000)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    read(&mut *reader, 1200).await;
    for _ in 0..5 {
        reader.start(&everywhere(StartAt::Offset(7))).await.expect("started");
        let mut next: HashMap<i32, i64> = (0..PARTITIONS).map(|partition| (partition, 7)).collect();
        for record in read(&mut *reader, 900).await {
            let next = next.get_mut(&record.partition).expect("a partition");
            assert_eq!(record.offset, *next, "no record is skipped or repeated");
            *next += 1;
        }
    }
    reader.close().await;
    bench.clean_up().await;
}

async fn holding_delivers_nothing_keeps_the_partitions_and_loses_nothing<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(2000)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let mut seen = read(&mut *reader, 100).await;
    let began = Instant::now();
    reader.hold(Duration::from_secs(1)).await.expect("held");
    assert!(began.elapsed() >= Duration::from_millis(900));
    seen.extend(read(&mut *reader, 2000 - seen.len()).await);
    let mut next: HashMap<i32, i64> = HashMap::new();
    for record in seen {
        let next = next.entry(record.partition).or_default();
        assert_eq!(record.offset, *next);
        *next += 1;
    }
    reader.close().await;
    bench.clean_up().await;
}

async fn a_record_appended_while_a_reader_waits_is_delivered_at_once<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    assert_eq!(reader.next(LIMITS).await.expect("a delivery"), Delivery::Idle);
    let patient = BatchLimits { wait: Duration::from_secs(30), ..LIMITS };
    let began = Instant::now();
    let (delivery, appended) = tokio::join!(reader.next(patient), async {
        // Only so that the reader waits already; whichever comes first, the outcome is the same.
        tokio::task::yield_now().await;
        log.append(Topic::Events, records(1)).await
    });
    let position = appended.expect("appended")[0];
    match delivery.expect("a delivery") {
        Delivery::Records(records) => {
            assert_eq!((records[0].partition, records[0].offset), (position.partition, position.offset));
        }
        other => panic!("instead of the record: {other:?}"),
    }
    assert!(began.elapsed() < Duration::from_secs(10), "it came after {:?}", began.elapsed());
    reader.close().await;
    bench.clean_up().await;
}

async fn what_a_reader_commits_the_log_knows_and_the_next_reader_reads_on<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(300)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    assert_eq!(log.committed("g").await.expect("offsets"), []);
    reader.commit(&ends(11)).await.expect("committed");
    reader.close().await;

    assert_eq!(log.committed("g").await.expect("offsets"), ends(11));
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Committed).await;
    let records = read(&mut *reader, 300 - 33).await;
    assert!(records.iter().all(|record| record.offset >= 11));
    reader.start(&everywhere(StartAt::Beginning)).await.expect("started");
    assert_eq!(
        read(&mut *reader, 300).await.len(),
        300,
        "the beginning is the log's, whatever was committed"
    );
    reader.close().await;
    bench.clean_up().await;
}

async fn groups_know_nothing_of_each_other<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(120)).await.expect("appended");
    let mut one = log.reader("one").await.expect("a reader");
    let mut other = log.reader("other").await.expect("a reader");
    assert_eq!(join(&mut *one, StartAt::Beginning).await.len(), 3);
    assert_eq!(
        join(&mut *other, StartAt::Committed).await.len(),
        3,
        "a group that committed nothing begins at the start"
    );
    assert_eq!(read(&mut *one, 120).await.len(), 120);
    one.commit(&ends(5)).await.expect("committed");
    assert_eq!(read(&mut *other, 120).await.len(), 120);
    assert_eq!(log.committed("other").await.expect("offsets"), []);
    one.close().await;
    other.close().await;
    bench.clean_up().await;
}

/// What a reader of a group holds now.
#[derive(Default)]
struct Held(BTreeSet<i32>);

impl Held {
    /// Hears one delivery, and begins to read what it was given.
    async fn hear(&mut self, reader: &mut dyn LogReader, delivery: Delivery) {
        match delivery {
            Delivery::Assigned(partitions) => {
                let starts: Vec<_> =
                    partitions.iter().map(|partition| (*partition, StartAt::Committed)).collect();
                reader.start(&starts).await.expect("started");
                self.0.extend(partitions);
            }
            Delivery::Revoked(partitions) => self.0.retain(|partition| !partitions.contains(partition)),
            Delivery::Records(records) => {
                assert!(
                    records.iter().all(|record| self.0.contains(&record.partition)),
                    "a record of another's"
                );
            }
            Delivery::Idle => {}
        }
    }
}

/// Both read at the same time; no partition is ever both's.
async fn hear_both(
    (first, ours): (&mut dyn LogReader, &mut Held),
    (second, theirs): (&mut dyn LogReader, &mut Held),
) {
    let (one, other) = tokio::join!(first.next(LIMITS), second.next(LIMITS));
    // In this order: what one gives up may be the other's in the same moment.
    let (one, other) = (one.expect("a delivery"), other.expect("a delivery"));
    if matches!(other, Delivery::Revoked(_)) {
        theirs.hear(second, other).await;
        ours.hear(first, one).await;
    } else {
        ours.hear(first, one).await;
        theirs.hear(second, other).await;
    }
    assert!(ours.0.is_disjoint(&theirs.0), "{:?} and {:?}", ours.0, theirs.0);
}

async fn no_partition_has_two_readers_and_one_that_leaves_is_followed_by_the_other<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(300)).await.expect("appended");
    let mut first = log.reader("g").await.expect("a reader");
    let mut second = log.reader("g").await.expect("a reader");
    let (mut ours, mut theirs) = (Held::default(), Held::default());
    // Long enough for both to be members and for every partition to have found one.
    let settled = Instant::now() + Duration::from_secs(8);
    while ours.0.len() + theirs.0.len() < 3 || Instant::now() < settled {
        hear_both((&mut *first, &mut ours), (&mut *second, &mut theirs)).await;
    }
    let committed = loop {
        let committed: Vec<Position> =
            ours.0.iter().map(|&partition| Position { partition, offset: 50 }).collect();
        if committed.is_empty() {
            break committed;
        }
        match first.commit(&committed).await {
            Ok(()) => break committed,
            // Partitions are still on the move.
            Err(fault) => assert_eq!(fault.kind, FaultKind::Fenced, "{fault}"),
        }
        hear_both((&mut *first, &mut ours), (&mut *second, &mut theirs)).await;
    };
    first.close().await;
    let mut lowest: HashMap<i32, i64> = HashMap::new();
    while theirs.0.len() < 3 || committed.iter().any(|at| !lowest.contains_key(&at.partition)) {
        let delivery = second.next(LIMITS).await.expect("a delivery");
        if let Delivery::Records(records) = &delivery {
            for record in records {
                lowest.entry(record.partition).or_insert(record.offset);
            }
        }
        theirs.hear(&mut *second, delivery).await;
    }
    for at in committed {
        assert_eq!(lowest[&at.partition], 50, "it goes on where the other had committed");
    }
    second.close().await;
    bench.clean_up().await;
}

async fn an_offset_beyond_the_end_becomes_the_first<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(300)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let high = log.extents().await.expect("extents")[2].high;
    let asked = [(1, StartAt::Offset(1_000_000)), (2, StartAt::Offset(high)), (77, StartAt::Beginning)];
    let began = reader.start(&asked).await.expect("started");
    let began: Vec<_> = began.iter().map(|at| (at.partition, at.offset)).collect();
    assert_eq!(began, [(1, 0), (2, high)]);
    reader.close().await;
    bench.clean_up().await;
}

async fn everything_survives_reopening<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    let identity = log.identity().await.expect("an identity");
    let before = log.append(Topic::Events, records(30)).await.expect("appended");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    reader.commit(&ends(2)).await.expect("committed");
    reader.close().await;
    let extents = log.extents().await.expect("extents");
    drop(log);

    let log = bench.open().await;
    assert_eq!(log.identity().await.expect("an identity"), identity);
    assert_eq!(log.extents().await.expect("extents"), extents);
    assert_eq!(log.committed("g").await.expect("offsets"), ends(2));
    let after = log.append(Topic::Events, records(30)).await.expect("appended");
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before.partition, after.partition, "a key stays where it was");
        assert!(after.offset >= extents[usize::try_from(after.partition).expect("a number")].high);
    }
    let other = B::new().await;
    assert_ne!(other.open().await.identity().await.expect("an identity"), identity, "another log is another");
    other.clean_up().await;
    bench.clean_up().await;
}

async fn dead_letters_are_counted_apart_from_events<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    assert_eq!(log.dead_letter_count().await.expect("a count"), 0);
    log.append(Topic::Events, records(9)).await.expect("appended");
    let letters = log.append(Topic::DeadLetters, records(4)).await.expect("appended");
    let expected: Vec<_> = (0..4).map(|offset| Position { partition: 0, offset }).collect();
    assert_eq!(letters, expected, "read by people, in order: one partition");
    assert_eq!(log.dead_letter_count().await.expect("a count"), 4);
    // Read back in ranges, without a group; a range without a letter has none.
    let range = |low, high| sluice::log::Extent { partition: 0, low, high };
    assert_eq!(log.dead_letter_extents().await.expect("extents"), [range(0, 4)]);
    let read_back =
        log.records(Topic::DeadLetters, &[range(3, 4), range(0, 2), range(2, 2)]).await.expect("letters");
    assert_eq!(read_back.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [3, 0, 1]);
    let sent = records(4);
    assert_eq!(read_back[0].value.as_ref(), Some(&sent[3].value));
    assert_eq!(read_back[0].headers.len(), sent[3].headers.len());
    assert!(read_back[0].appended_at.is_some());
    let facts = log.facts().await.expect("facts");
    assert_eq!((facts.events.retention, facts.under_replicated), (None, 0), "an event is kept for ever");
    assert_eq!(log.extents().await.expect("extents").iter().map(|extent| extent.high).sum::<i64>(), 9);
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    assert_eq!(read(&mut *reader, 9).await.len(), 9);
    assert_eq!(reader.next(LIMITS).await.expect("a delivery"), Delivery::Idle);
    reader.close().await;
    bench.clean_up().await;
}

#[tokio::test]
async fn a_reader_that_waits_for_the_embedded_group_can_commit_nothing() {
    let bench = Embedded::new().await;
    let log = bench.open().await;
    let mut member = log.reader("g").await.expect("a reader");
    join(&mut *member, StartAt::Beginning).await;
    let mut waiting = log.reader("g").await.expect("a reader");
    assert_eq!(waiting.next(LIMITS).await.expect("a delivery"), Delivery::Idle);
    let fault = waiting.commit(&ends(9)).await.expect_err("it is no member");
    assert_eq!(fault.kind, FaultKind::Fenced, "{fault}");
    assert_eq!(log.committed("g").await.expect("offsets"), []);
}

async fn what_is_removed_is_gone_and_every_other_offset_stays<B: LogBench>() {
    let bench = B::new().await;
    let log = bench.open().await;
    log.append(Topic::Events, records(90)).await.expect("appended");
    log.append(Topic::DeadLetters, records(4)).await.expect("appended");
    let before = log.extents().await.expect("extents");
    let [cut, emptied] = [before[0], before[1]];
    let remove = async |topic, partition, offset| {
        log.remove(topic, Position { partition, offset }).await.expect("removed");
    };
    remove(Topic::Events, 0, cut.low + 5).await;
    remove(Topic::Events, 0, cut.low + 2).await;
    remove(Topic::Events, 1, emptied.high).await;
    remove(Topic::DeadLetters, 0, 3).await;
    let after = log.extents().await.expect("extents");
    assert_eq!((after[0].low, after[0].high), (cut.low + 5, cut.high), "none comes back");
    assert_eq!(
        (after[1].low, after[1].high),
        (emptied.high, emptied.high),
        "an empty one ends where it ended"
    );
    assert_eq!(after[2], before[2]);
    assert_eq!(log.dead_letter_count().await.expect("a count"), 1);
    let left = log.records(Topic::Events, &[Extent { low: cut.low + 5, high: cut.low + 7, ..cut }]).await;
    let offsets = |records: Vec<Record>| records.iter().map(|record| record.offset).collect::<Vec<i64>>();
    assert_eq!(offsets(left.expect("records")), [cut.low + 5, cut.low + 6]);
    // As who asked how far it reaches before that: what comes after is there all the same.
    let as_it_was = Extent { high: cut.low + 7, ..cut };
    let left = log.records(Topic::Events, &[as_it_was, Extent { high: 2, ..before[2] }]).await;
    assert_eq!(offsets(left.expect("records")), [cut.low + 5, cut.low + 6, 0, 1]);
    assert!(!log.holds_none(as_it_was).await.expect("an answer"));
    assert!(log.holds_none(Extent { high: cut.low + 5, ..cut }).await.expect("an answer"));
    assert!(log.holds_none(emptied).await.expect("an answer"), "all of it went");
    drop(log);

    let log = bench.open().await;
    assert_eq!(log.extents().await.expect("extents"), after, "it survives reopening");
    let appended = log.append(Topic::Events, records(90)).await.expect("appended");
    let first = appended.iter().filter(|at| at.partition == 1).map(|at| at.offset).min();
    assert_eq!(first, Some(emptied.high), "no offset is given twice");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Committed).await;
    let read = read(&mut *reader, 180 - 5 - usize::try_from(emptied.high).expect("a number")).await;
    assert!(read.iter().all(|record| record.partition != 0 || record.offset >= cut.low + 5));
    reader.close().await;
    bench.clean_up().await;
}
