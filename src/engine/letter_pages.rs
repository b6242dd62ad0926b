//! Dead letters page by page, from the end of the log: places, ranges and cursors, without I/O.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use super::letters::Letter;
use crate::log::{Extent, Position};

/// Letters read from the log at a time.
const CHUNK: i64 = 64;

/// Reads the id of a letter: `<partition>-<offset>`.
pub fn parse_letter_id(text: &str) -> Option<Position> {
    let (partition, offset) = text.trim().split_once('-')?;
    let at = Position { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
    (at.partition >= 0 && at.offset >= 0).then_some(at)
}

/// Joins neighbouring ranges, which are sorted.
pub(super) fn joined(ranges: &[Extent]) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.partition == range.partition && last.high == range.low => {
                last.high = range.high;
            }
            _ => joined.push(*range),
        }
    }
    joined
}

/// One partition of letters, read from its end.
pub(super) struct Backwards {
    extent: Extent,
    /// Everything below is still to be read.
    unread: i64,
    /// Read, the newest first.
    held: VecDeque<Letter>,
}

impl Backwards {
    pub(super) fn new(extent: Extent, from: i64) -> Self {
        Self { extent, unread: from.clamp(extent.low, extent.high), held: VecDeque::new() }
    }

    /// What to read next; nothing while something is held.
    pub(super) fn wanted(&self) -> Option<Extent> {
        (self.held.is_empty() && self.unread > self.extent.low).then(|| Extent {
            low: (self.unread - CHUNK).max(self.extent.low),
            high: self.unread,
            ..self.extent
        })
    }

    pub(super) fn take(&mut self, range: Extent, letters: Vec<Letter>) {
        self.unread = range.low;
        self.held.extend(letters.into_iter().rev());
    }

    pub(super) fn newest(&self) -> Option<(Option<DateTime<Utc>>, i64)> {
        self.held.front().map(|letter| (letter.record.appended_at, letter.record.offset))
    }

    pub(super) fn pop(&mut self) -> Option<Letter> {
        self.held.pop_front()
    }

    pub(super) fn is_over(&self) -> bool {
        self.held.is_empty() && self.unread <= self.extent.low
    }

    /// The offset that everything below is still to be seen of.
    pub(super) fn position(&self) -> Position {
        let offset = self.held.front().map_or(self.unread, |letter| letter.record.offset + 1);
        Position { partition: self.extent.partition, offset }
    }
}

/// Reads what [`write_cursor`] wrote.
pub fn read_cursor(text: &str) -> Option<Vec<Position>> {
    text.split('.').map(parse_letter_id).collect()
}

/// A page's end as one word.
pub fn write_cursor(positions: &[Position]) -> String {
    let each: Vec<String> = positions.iter().map(|at| format!("{}-{}", at.partition, at.offset)).collect();
    each.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: i64) -> Position {
        Position { partition, offset }
    }

    #[test]
    fn a_letters_id_and_a_cursor_are_read_as_they_were_written() {
        assert_eq!(parse_letter_id(" 0-17"), Some(at(0, 17)));
        for wrong in ["", "0", "0-", "-1-2", "a-1", "0-1-2"] {
            assert_eq!(parse_letter_id(wrong), None, "{wrong}");
        }
        let positions = [at(0, 4), at(1, 0)];
        assert_eq!(read_cursor(&write_cursor(&positions)).as_deref(), Some(&positions[..]));
        assert_eq!(read_cursor("0-4.x"), None);
    }

    #[test]
    fn a_partition_is_read_from_its_end_in_chunks_to_its_first_letter() {
        let extent = Extent { partition: 0, low: 10, high: 10 + CHUNK + 5 };
        let mut partition = Backwards::new(extent, i64::MAX);
        let first = partition.wanted().expect("something");
        assert_eq!((first.low, first.high), (15, extent.high));
        partition.take(first, Vec::new());
        let second = partition.wanted().expect("the rest");
        assert_eq!((second.low, second.high), (10, 15));
        partition.take(second, Vec::new());
        assert!(partition.is_over() && partition.wanted().is_none());
    }

    #[test]
    fn neighbouring_letters_are_read_in_one_go() {
        let one = |partition, offset| Extent { partition, low: offset, high: offset + 1 };
        let ranges = joined(&[one(0, 1), one(0, 2), one(0, 5), one(1, 6)]);
        assert_eq!(ranges, [Extent { partition: 0, low: 1, high: 3 }, one(0, 5), one(1, 6)]);
    }
}
