//! Lines out of a stream of bytes, none longer than it may be.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Decoder};

/// Bytes a line may have, as a body over HTTP unless somebody sets another size. No broker takes a larger event, and a
/// line of this size that is made to take much memory takes some fifty times as much while it is read.
pub const MAX_LINE: usize = 1024 * 1024;

/// A line, without what ends it.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Whole(Bytes),
    /// Longer than it may be: its beginning, as long as a line may be. Bytes still to come are skipped.
    TooLong(Bytes),
}

/// Splits at line feeds. Memory is bounded whatever comes, and what follows an overlong line is read as ever.
pub struct Lines {
    codec: AnyDelimiterCodec,
    longest: usize,
}

impl Lines {
    pub fn new(longest: usize) -> Self {
        Self { codec: AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), Vec::new(), longest), longest }
    }

    /// An overlong line is no error of the stream's: a stream ends with its first.
    fn line(
        &self,
        decoded: Result<Option<Bytes>, AnyDelimiterCodecError>,
        buffer: &BytesMut,
    ) -> io::Result<Option<Line>> {
        match decoded {
            Ok(line) => Ok(line.map(Line::Whole)),
            // The codec skips the line from the next call on, and has taken nothing of it yet.
            Err(AnyDelimiterCodecError::MaxChunkLengthExceeded) => {
                let beginning = &buffer[..self.longest.min(buffer.len())];
                Ok(Some(Line::TooLong(Bytes::copy_from_slice(beginning))))
            }
            Err(AnyDelimiterCodecError::Io(error)) => Err(error),
        }
    }
}

impl Decoder for Lines {
    type Item = Line;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Line>> {
        let decoded = self.codec.decode(buffer);
        self.line(decoded, buffer)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Line>> {
        let decoded = self.codec.decode_eof(buffer);
        self.line(decoded, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of what comes in these pieces.
    fn lines(pieces: &[&[u8]]) -> Vec<Line> {
        let (mut decoder, mut buffer, mut lines) = (Lines::new(8), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(line) = decoder.decode(&mut buffer).expect("no I/O") {
                lines.push(line);
            }
            assert!(buffer.len() <= 8, "{} bytes are kept", buffer.len());
        }
        while let Some(line) = decoder.decode_eof(&mut buffer).expect("no I/O") {
            lines.push(line);
        }
        lines
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_come_and_the_last_needs_no_end() {
        let expected = [whole("a"), whole(""), whole("bc\r"), whole("12345678"), whole("d")];
        let text: &[u8] = b"a\n\nbc\r\n12345678\nd";
        assert_eq!(lines(&[text]), expected);
        assert_eq!(lines(&text.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn an_overlong_line_is_told_of_once_and_the_next_is_read() {
        let pieces: [&[u8]; 6] = [b"123456789", b"0123456789", b"01234", b"\nab", b"c\n123456789\n", b"d\n"];
        let too_long = || Line::TooLong(Bytes::from_static(b"12345678"));
        assert_eq!(lines(&pieces), [too_long(), whole("abc"), too_long(), whole("d")]);
        assert_eq!(lines(&[b"123456789", b"0"]), [too_long()]);
    }
}
