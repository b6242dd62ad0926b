//! COPY in PostgreSQL's binary format, a piece at a time.
//!
//! The format: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format". Values are as each type's send
//! function writes them: numbers big-endian, instants in microseconds since 2000, jsonb as a version and its text.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, postgres::PgCopyIn};
use uuid::Uuid;

/// Bytes that are collected before they are sent.
const PIECE: usize = 64 << 10;

/// The signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What stands where a further tuple would begin.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Microseconds from 1970 to 2000, from which the server counts.
const ITS_EPOCH: i64 = 946_684_800_000_000;

/// A version of jsonb's text: the only one there is.
const JSONB_VERSION: u8 = 1;

/// A COPY under way. Dropped before its end, it leaves the transaction failed.
pub(super) struct Copying<'c> {
    into: PgCopyIn<&'c mut PgConnection>,
    piece: Vec<u8>,
}

impl<'c> Copying<'c> {
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        statement: &str,
    ) -> Result<Self, sqlx::Error> {
        let into = connection.copy_in_raw(statement).await?;
        let mut piece = Vec::with_capacity(2 * PIECE);
        piece.extend_from_slice(HEADER);
        Ok(Self { into, piece })
    }

    /// A further tuple, of so many values.
    pub(super) fn tuple(&mut self, values: i16) -> Tuple<'_> {
        self.piece.extend(values.to_be_bytes());
        Tuple(&mut self.piece)
    }

    /// Sends what there is, if that is enough.
    pub(super) async fn pass_on(&mut self) -> Result<(), sqlx::Error> {
        if self.piece.len() >= PIECE {
            self.into.send(self.piece.as_slice()).await?;
            self.piece.clear();
        }
        Ok(())
    }

    /// How many tuples the server took.
    pub(super) async fn finish(mut self) -> Result<u64, sqlx::Error> {
        self.piece.extend(TRAILER);
        self.into.send(self.piece.as_slice()).await?;
        self.into.finish().await
    }
}

/// A tuple whose values are written one after the other.
pub(super) struct Tuple<'p>(&'p mut Vec<u8>);

impl Tuple<'_> {
    pub(super) fn uuid(&mut self, value: Uuid) {
        self.value(value.as_bytes());
    }

    pub(super) fn text(&mut self, value: &str) {
        self.value(value.as_bytes());
    }

    pub(super) fn json(&mut self, value: &str) {
        self.length(value.len() + 1);
        self.0.push(JSONB_VERSION);
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(super) fn double(&mut self, value: f64) {
        self.value(&value.to_be_bytes());
    }

    pub(super) fn bigint(&mut self, value: i64) {
        self.value(&value.to_be_bytes());
    }

    pub(super) fn integer(&mut self, value: i32) {
        self.value(&value.to_be_bytes());
    }

    pub(super) fn instant(&mut self, value: DateTime<Utc>) {
        self.bigint(value.timestamp_micros() - ITS_EPOCH);
    }

    fn value(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// No value of a record's, which the log bounds, is as long as a length can't tell.
    fn length(&mut self, bytes: usize) {
        self.0.extend(i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_the_server_sends_them() {
        let mut written = Vec::new();
        let mut tuple = Tuple(&mut written);
        tuple.text("é");
        tuple.json("{}");
        tuple.integer(-2);
        tuple.instant("2000-01-01T00:00:00.000001Z".parse().expect("an instant"));
        tuple.instant("1999-12-31T23:59:59Z".parse().expect("an instant"));
        let expected: &[&[u8]] = &[
            &[0, 0, 0, 2, 0xc3, 0xa9],
            &[0, 0, 0, 3, 1, b'{', b'}'],
            &[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0, 0xbd, 0xc0],
        ];
        assert_eq!(written, expected.concat());
    }
}
