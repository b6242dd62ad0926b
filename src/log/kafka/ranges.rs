//! Reading a topic back without a consumer group: assign, seek, read up to a known end.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    PART, admin,
    client::{Config, QuietContext},
    faults::fault,
    reader,
};
use crate::{
    fault::{Fault, FaultKind},
    log::{Extent, Record},
};

/// Required by the library, joined by nobody.
const GROUP: &str = "sluice.query";

/// Reads the records of these offsets. Blocks.
pub(super) fn read(
    config: Config,
    topic: &str,
    ranges: &[Extent],
    timeout: Duration,
) -> Result<Vec<Record>, Fault> {
    let mut records = Vec::new();
    each(config, topic, ranges, timeout, |record| {
        records.push(record);
        ControlFlow::Continue(())
    })?;
    Ok(records)
}

/// Hands the records of these offsets over, one by one, until it is told to stop. Blocks.
pub(super) fn each(
    mut config: Config,
    topic: &str,
    ranges: &[Extent],
    timeout: Duration,
    mut take: impl FnMut(Record) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let what = || format!("reading {topic}");
    let mut copies = reader::Copies::default();
    config
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        // Tells where a partition ends, when the last offsets hold no record.
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50");
    let consumer: BaseConsumer<QuietContext> = config
        .create_with_context(config.quiet())
        .map_err(|error| fault("making a client that reads records", &error))?;
    let until = Instant::now() + timeout;
    let mut passing = None;
    let begin = |partition, offset| {
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .and_then(|()| consumer.assign(&place))
            .map_err(|error| fault(&what(), &error))
    };
    for range in ranges.iter().filter(|range| range.low < range.high) {
        let mut next = range.low;
        begin(range.partition, next)?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(passing.unwrap_or_else(|| {
                    Fault::transient(
                        PART,
                        format!("{topic} was not read within {} s", timeout.as_secs()),
                        "ask for fewer at a time, or check that the brokers answer",
                    )
                }));
            }
            match consumer.poll(left) {
                // Of the range before: it was fetched before the assignment changed.
                Some(Ok(message)) if message.partition() != range.partition || message.offset() < next => {}
                Some(Ok(message)) if message.offset() >= range.high => break,
                Some(Ok(message)) => {
                    next = message.offset() + 1;
                    if take(reader::record_of(&message, &mut copies)).is_break() {
                        return Ok(());
                    }
                    if next == range.high {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == range.partition => break,
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                // There is no such offset: retention may take the oldest between two questions, and what comes after them is
                // there all the same.
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    let left = until.saturating_duration_since(Instant::now());
                    let there = admin::extents(&consumer, topic, &[range.partition], left)?;
                    let Some(there) = there.first().filter(|there| next < there.high) else { break };
                    next = next.max(there.low);
                    if next >= range.high {
                        break;
                    }
                    begin(range.partition, next)?;
                }
                // The client finds another broker by itself: what lasts is told when the time is over.
                Some(Err(error)) => match fault(&what(), &error) {
                    fault if fault.kind == FaultKind::Transient => passing = Some(fault),
                    fault => return Err(fault),
                },
            }
        }
    }
    Ok(())
}
