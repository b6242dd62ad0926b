//! Rows as CSV or NDJSON.
//!
//! Guarantee: no value becomes a formula. What a spreadsheet would take for one is text behind an apostrophe, wherever
//! it came from; numbers of number columns stay numbers, with the digits that the row has.

use std::{fmt, str::FromStr};

use chrono::DateTime;
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    domain::parse_instant,
    store::StreamedValue,
    tabular::{CELLS_END, CELLS_END_OR_COMMA, inert, inert_json, quoted},
};

/// How rows are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// RFC 4180 in UTF-8: commas, CRLF, a line of names.
    #[default]
    Csv,
    /// The same as Excel opens it where lists have semicolons and numbers a comma, as in Brazil.
    Excel,
    /// A JSON object a line.
    Ndjson,
}

impl Format {
    /// What files of it end in.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv | Self::Excel => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    pub fn mime_type(self) -> &'static str {
        match self {
            Self::Csv | Self::Excel => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "csv",
            Self::Excel => "excel",
            Self::Ndjson => "ndjson",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Csv, Self::Excel, Self::Ndjson]
            .into_iter()
            .find(|format| format.to_string() == text)
            .ok_or_else(|| format!("there is no format '{text}'; use csv, excel or ndjson"))
    }
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub times: Times,
}

/// What texts of a column that spell a time stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    None,
    Instants,
    /// What a clock on the wall shows, wherever that is.
    Local,
    /// Instants where a zone is spelt with them: computed, so of no type.
    Zoned,
}

/// Writes rows of certain columns.
pub struct Encoder {
    format: Format,
    columns: Vec<Column>,
    zone: Tz,
}

impl Encoder {
    /// Of two columns of one name the second gets another: a line of JSON would lose one of them.
    pub fn new(format: Format, mut columns: Vec<Column>, zone: Tz) -> Self {
        for at in 1..columns.len() {
            let (before, rest) = columns.split_at_mut(at);
            let name = rest[0].name.clone();
            let mut same = 1;
            while before.iter().any(|column| column.name == rest[0].name) {
                same += 1;
                rest[0].name = format!("{name} ({same})");
            }
        }
        Self { format, columns, zone }
    }

    /// What stands before the rows.
    pub fn begin(&self, out: &mut Vec<u8>) {
        if self.format == Format::Ndjson {
            return;
        }
        if self.format == Format::Excel {
            out.extend_from_slice("\u{feff}".as_bytes());
        }
        self.line(out, self.columns.iter().map(|column| self.text_cell(&column.name)));
    }

    /// One row, in the order of the columns.
    pub fn row(&self, values: &[StreamedValue], out: &mut Vec<u8>) {
        if self.format != Format::Ndjson {
            let cells = values.iter().zip(&self.columns);
            return self.line(out, cells.map(|(value, column)| self.cell(value, column)));
        }
        out.push(b'{');
        for (at, (value, column)) in values.iter().zip(&self.columns).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(Value::from(column.name.as_str()).to_string().as_bytes());
            out.push(b':');
            out.extend_from_slice(json(value).as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }

    fn line(&self, out: &mut Vec<u8>, cells: impl Iterator<Item = String>) {
        let begins = out.len();
        for (at, cell) in cells.enumerate() {
            if at > 0 {
                out.push(if self.format == Format::Excel { b';' } else { b',' });
            }
            out.extend_from_slice(cell.as_bytes());
        }
        // Readers skip an empty line.
        if out.len() == begins {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// No value is nothing at all; an empty text is `""`.
    fn cell(&self, value: &StreamedValue, column: &Column) -> String {
        let number = |digits: &str| match self.format {
            Format::Excel => digits.replace('.', ","),
            _ => digits.to_owned(),
        };
        match (&value.shown, &value.exact) {
            (Value::Null, _) => String::new(),
            (Value::Bool(boolean), _) => boolean.to_string(),
            (_, Some(exact)) if !exact.starts_with(['{', '[']) => number(exact),
            (Value::Number(digits), _) => number(&digits.to_string()),
            (Value::String(text), None) => match self.local(text, column) {
                Some(local) => local,
                None => self.text_cell(text),
            },
            _ => quoted(&inert_json(&json(value), self.cells_end())),
        }
    }

    fn text_cell(&self, text: &str) -> String {
        if text.is_empty() { "\"\"".to_owned() } else { quoted(&inert(text, self.cells_end())) }
    }

    /// What a spreadsheet may take for the end of a cell though it stands between quotes.
    fn cells_end(&self) -> &'static [char] {
        match self.format {
            Format::Excel => CELLS_END_OR_COMMA,
            Format::Csv | Format::Ndjson => CELLS_END,
        }
    }

    /// A time as a spreadsheet knows it: an instant in the user's zone, and any other as it is.
    fn local(&self, text: &str, column: &Column) -> Option<String> {
        const TIME: &str = "%Y-%m-%d %H:%M:%S";
        if self.format != Format::Excel {
            return None;
        }
        let instant = match column.times {
            Times::None => return None,
            Times::Local => return Some(parse_instant(text, Tz::UTC)?.format(TIME).to_string()),
            Times::Instants => parse_instant(text, Tz::UTC)?,
            Times::Zoned => DateTime::parse_from_rfc3339(text).ok()?.to_utc(),
        };
        Some(instant.with_timezone(&self.zone).format(TIME).to_string())
    }
}

fn json(value: &StreamedValue) -> String {
    value.exact.clone().unwrap_or_else(|| value.shown.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn column(name: &str) -> Column {
        let times = match name {
            "max" => Times::Zoned,
            "dia" => Times::Local,
            name if name.ends_with("_at") => Times::Instants,
            _ => Times::None,
        };
        Column { name: name.to_owned(), times }
    }

    fn text(text: &str) -> StreamedValue {
        StreamedValue { shown: Value::from(text), exact: None }
    }

    fn written(format: Format, names: &[&str], rows: &[Vec<StreamedValue>]) -> String {
        let zone = "America/Sao_Paulo".parse().expect("a zone");
        let encoder = Encoder::new(format, names.iter().map(|name| column(name)).collect(), zone);
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for row in rows {
            encoder.row(row, &mut out);
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_format_writes_a_row_as_its_readers_take_it() {
        let rows = [
            vec![
                text("João \"Zé\"; Souza, filho"),
                StreamedValue::of_json("-1234567890123456789012.50"),
                StreamedValue::of_json("null"),
                text(""),
                StreamedValue::of_json(r#"{"a": 1.10}"#),
                text("2026-05-02T01:30:00+00:00"),
            ],
            vec![
                text("x"),
                StreamedValue::of_json("-5"),
                StreamedValue::of_json("true"),
                text("a\r\nb"),
                StreamedValue::of_json("[]"),
                StreamedValue::of_json("null"),
            ],
        ];
        let names = ["nome", "n", "nada", "vazio", "j", "created_at"];
        assert_eq!(
            written(Format::Csv, &names, &rows),
            "nome,n,nada,vazio,j,created_at\r\n\
             \"João \"\"Zé\"\"; Souza, filho\",-1234567890123456789012.50,,\"\",\"{\"\"a\"\": 1.10}\",2026-05-02T01:30:00+00:00\r\n\
             x,-5,true,\"a\r\nb\",[],\r\n"
        );
        assert_eq!(
            written(Format::Excel, &names, &rows),
            "\u{feff}nome;n;nada;vazio;j;created_at\r\n\
             \"João \"\"Zé\"\"; Souza, filho\";-1234567890123456789012,50;;\"\";\"{\"\"a\"\": 1.10}\";2026-05-01 22:30:00\r\n\
             x;-5;true;\"a\r\nb\";[];\r\n"
        );
        assert_eq!(
            written(Format::Ndjson, &names, &rows[..1]),
            "{\"nome\":\"João \\\"Zé\\\"; Souza, filho\",\"n\":-1234567890123456789012.50,\"nada\":null,\"vazio\":\"\",\
             \"j\":{\"a\": 1.10},\"created_at\":\"2026-05-02T01:30:00+00:00\"}\n"
        );
    }

    #[test]
    fn what_a_spreadsheet_would_compute_is_text_and_a_negative_number_a_number() {
        for (formula, told) in [
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""),
            ("+5511987654321", "\"'+5511987654321\""),
            ("-2+3", "\"'-2+3\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"\t'=1\""),
            ("\r=1", "\"'\r=1\""),
            ("  =1", "\"'  =1\""),
            ("＝1", "\"'＝1\""),
            ("oi;=1", "\"oi;'=1\""),
        ] {
            let csv = written(Format::Csv, &[formula], &[vec![text(formula)]]);
            assert_eq!(csv, format!("{told}\r\n").repeat(2), "{formula:?}");
        }
        let list = StreamedValue::of_json(r#"["casa;=1+1;y", "a;\"@SUM(1)", -5, "x;-1"]"#);
        assert_eq!(
            written(Format::Csv, &["l"], &[vec![list]]),
            "l\r\n\"[\"\"casa;\\u003d1+1;y\"\", \"\"a;\\\"\"\\u0040SUM(1)\"\", -5, \"\"x;\\u002d1\"\"]\"\r\n"
        );
        let number = StreamedValue { shown: json!(-5.5), exact: None };
        assert_eq!(written(Format::Csv, &["n"], &[vec![number]]), "n\r\n-5.5\r\n");
    }

    #[test]
    fn a_comma_begins_no_formula_where_a_spreadsheet_separates_cells_by_it_and_not_by_semicolons() {
        let row = [
            text("oi,=1+1,"),
            text("a, \"@SUM(1)"),
            text("1,5"),
            StreamedValue::of_json(r#"["x","=1,+2",-5]"#),
        ];
        assert_eq!(
            written(Format::Excel, &["=a,=b", "n", "v", "l"], &[row.to_vec()]),
            "\u{feff}\"'=a,'=b\";n;v;l\r\n\
             \"oi,'=1+1,\";\"a,' \"\"@SUM(1)\";\"1,5\";\"[\"\"x\"\",\"\"\\u003d1,\\u002b2\"\",-5]\"\r\n"
        );
        assert_eq!(written(Format::Csv, &["n"], &[row[..1].to_vec()]), "n\r\n\"oi,=1+1,\"\r\n");
    }

    #[test]
    fn a_time_without_a_zone_stays_as_it_is_and_a_lone_null_is_a_row() {
        let row = ["2026-11-26T00:00:00", "2026-11-26T02:30:00.5Z", "2026-11-26T02:30:00+00:00"].map(text);
        assert_eq!(
            written(Format::Excel, &["dia", "max", "created_at"], &[row.to_vec()]),
            "\u{feff}dia;max;created_at\r\n2026-11-26 00:00:00;2026-11-25 23:30:00;2026-11-25 23:30:00\r\n"
        );
        let null = || vec![StreamedValue::of_json("null")];
        assert_eq!(written(Format::Csv, &["n"], &[null(), null()]), "n\r\n\"\"\r\n\"\"\r\n");
    }

    #[test]
    fn columns_of_one_name_are_told_apart() {
        let row = vec![text("a"), text("b"), text("c")];
        assert_eq!(
            written(Format::Ndjson, &["id", "id", "id"], &[row]),
            "{\"id\":\"a\",\"id (2)\":\"b\",\"id (3)\":\"c\"}\n"
        );
    }

    /// As RFC 4180 reads it.
    fn read(csv: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut cell, mut inside) = (Vec::new(), Vec::new(), String::new(), false);
        let mut rest = csv.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '"' if inside && rest.peek() == Some(&'"') => cell.extend(rest.next()),
                '"' => inside = !inside,
                ',' if !inside => row.push(std::mem::take(&mut cell)),
                '\r' if !inside => {}
                '\n' if !inside => {
                    row.push(std::mem::take(&mut cell));
                    rows.push(std::mem::take(&mut row));
                }
                c => cell.push(c),
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_wrote_is_one_cell_and_none_is_a_formula(texts in proptest::collection::vec(any::<String>(), 1..5)) {
            let names: Vec<String> = (0..texts.len()).map(|n| format!("c{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let row = texts.iter().map(|given| text(given)).collect();
            let rows = read(&written(Format::Csv, &names, &[row]));
            prop_assert_eq!(rows.len(), 2);
            for (cell, given) in rows[1].iter().zip(&texts) {
                prop_assert_eq!(cell, &*inert(given, CELLS_END));
            }
        }
    }
}
