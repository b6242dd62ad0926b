//! Writes a file's rows and proves, before it is anybody's, that they are all in it.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
};

use super::{Encoder, Format};
use crate::store::StreamedValue;

/// A file on its way.
pub(crate) struct Writer {
    file: BufWriter<File>,
    format: Format,
    encoder: Encoder,
    buffer: Vec<u8>,
    max_bytes: u64,
    bytes: u64,
    rows: u64,
}

/// Why a file is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the file can't be written: {0}")]
    Disk(#[from] io::Error),
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the file has {found} rows and {bytes} bytes where {rows} rows were written")]
    Differs { rows: u64, found: u64, bytes: u64 },
}

impl Writer {
    /// Begins an empty file.
    pub(crate) fn begin(
        file: File,
        format: Format,
        encoder: Encoder,
        max_bytes: u64,
    ) -> Result<Self, WriteError> {
        let file = BufWriter::new(file);
        let mut writer = Self { file, format, encoder, buffer: Vec::new(), max_bytes, bytes: 0, rows: 0 };
        writer.encoder.begin(&mut writer.buffer);
        writer.put()?;
        Ok(writer)
    }

    pub(crate) fn row(&mut self, values: &[StreamedValue]) -> Result<(), WriteError> {
        self.encoder.row(values, &mut self.buffer);
        self.rows += 1;
        self.put()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    fn put(&mut self) -> Result<(), WriteError> {
        self.bytes += self.buffer.len() as u64;
        if self.bytes > self.max_bytes {
            return Err(WriteError::TooLarge(self.max_bytes));
        }
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// On disk, and counted again there: the file, its rows and its bytes.
    pub(crate) fn finish(self) -> Result<(File, u64, u64), WriteError> {
        let Self { file, format, bytes, rows, .. } = self;
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let (found, length) = count(&mut file, format)?;
        if (found, length) != (rows, bytes) {
            return Err(WriteError::Differs { rows, found, bytes: length });
        }
        Ok((file, rows, bytes))
    }
}

/// Rows and bytes of a file.
fn count(file: &mut File, format: Format) -> io::Result<(u64, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(64 << 10, &mut *file);
    let (mut lines, mut bytes, mut is_quoted) = (0, 0, false);
    let mut part = [0; 8 << 10];
    loop {
        let read = reader.read(&mut part)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        for byte in &part[..read] {
            match byte {
                b'"' if format != Format::Ndjson => is_quoted = !is_quoted,
                b'\n' if !is_quoted => lines += 1,
                _ => {}
            }
        }
    }
    file.seek(SeekFrom::Start(0))?;
    let names = u64::from(format != Format::Ndjson);
    Ok((lines.max(names) - names, bytes))
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;
    use crate::export::{Column, Times};

    fn writer(file: File, format: Format, max_bytes: u64) -> Result<Writer, WriteError> {
        let columns = vec![Column { name: "a".to_owned(), times: Times::None }];
        Writer::begin(file, format, Encoder::new(format, columns, Tz::UTC), max_bytes)
    }

    fn text(text: &str) -> Vec<StreamedValue> {
        vec![StreamedValue { shown: text.into(), exact: None }]
    }

    #[test]
    fn a_file_is_whole_when_it_holds_what_was_written_and_nothing_else() {
        for format in [Format::Csv, Format::Excel, Format::Ndjson] {
            let file = tempfile::tempfile().expect("a file");
            let mut meddling = file.try_clone().expect("the file");
            let mut whole = writer(file, format, 1000).expect("begun");
            for row in ["um\n\"dois\"", "", "três"] {
                whole.row(&text(row)).expect("written");
            }
            let (file, rows, bytes) = whole.finish().expect("whole");
            assert_eq!((rows, bytes), (3, file.metadata().expect("a file").len()), "{format}");

            let mut cut = writer(file, format, 1000).expect("begun");
            cut.row(&text("a")).expect("written");
            meddling.write_all(b"b\n").expect("written");
            assert!(matches!(cut.finish(), Err(WriteError::Differs { .. })), "{format}");
        }
    }

    #[test]
    fn a_file_that_grows_too_large_is_told_so() {
        let mut writer = writer(tempfile::tempfile().expect("a file"), Format::Csv, 10).expect("begun");
        writer.row(&text("a")).expect("written");
        assert!(matches!(writer.row(&text("bcdefghijk")), Err(WriteError::TooLarge(10))));
    }
}
