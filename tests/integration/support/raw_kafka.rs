//! What no client of ours would send: records whose headers have names of any bytes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::service;

/// Puts a record with one header into partition 0 of a topic, by the wire protocol (Produce, version 3).
pub async fn produce_with_header(topic: &str, value: &[u8], name: &[u8], header: Option<&[u8]>) {
    let topic_name = [&length(topic.len())[2..], topic.as_bytes()].concat();
    let batch = batch(value, name, header);
    let body = [
        &[0xff, 0xff, 0xff, 0xff][..], // no transaction; acknowledged by all
        &30_000_i32.to_be_bytes(),
        &length(1),
        &topic_name,
        &length(1),
        &0_i32.to_be_bytes(),
        &length(batch.len()),
        &batch,
    ]
    .concat();
    // Produce, its version, a number to know the answer by, and a client without a name.
    let head = [&[0, 0, 0, 3][..], &7_i32.to_be_bytes(), &[0xff, 0xff]].concat();
    let request = [&length(head.len() + body.len())[..], &head, &body].concat();
    let sent = async {
        let mut stream = TcpStream::connect(service("KAFKA_BOOTSTRAP_SERVERS")).await.expect("a broker");
        stream.write_all(&request).await.expect("sent");
        let size = stream.read_u32().await.expect("an answer");
        let mut answer = vec![0; size as usize];
        stream.read_exact(&mut answer).await.expect("a whole answer");
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), sent).await.expect("in time");
    // Behind our number, a topic with its name, and a partition with its number.
    let at = 4 + 4 + topic_name.len() + 4 + 4;
    assert_eq!(answer[at..at + 2], [0, 0], "the broker took it: {answer:?}");
}

fn batch(value: &[u8], name: &[u8], header: Option<&[u8]>) -> Vec<u8> {
    let header = header.map_or_else(|| varint(-1), |header| [sized(header.len()), header.to_vec()].concat());
    let record = [
        vec![0, 0, 0], // attributes, and no distance from the batch's time and offset
        varint(-1),    // no key
        sized(value.len()),
        value.to_vec(),
        varint(1),
        sized(name.len()),
        name.to_vec(),
        header,
    ]
    .concat();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
    let now = u64::try_from(now).expect("this age").to_be_bytes();
    let checked = [
        &[0; 6][..], // attributes, and the last record's distance
        &now,
        &now,
        &[0xff; 14], // no producer that repeats
        &length(1),
        &sized(record.len()),
        &record,
    ]
    .concat();
    let tail = [&[0xff, 0xff, 0xff, 0xff, 2][..], &crc32c(&checked).to_be_bytes(), &checked].concat();
    [&[0; 8][..], &length(tail.len()), &tail].concat()
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("little").to_be_bytes()
}

fn sized(length: usize) -> Vec<u8> {
    varint(i32::try_from(length).expect("little"))
}

fn varint(number: i32) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 31)).cast_unsigned();
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left.to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    bytes.push(left.to_le_bytes()[0]);
    bytes
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)))
    })
}
