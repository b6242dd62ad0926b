//! Rows as text for other programs: TSV as `COPY` writes it, CSV for spreadsheets, or a JSON object a line.
//!
//! Guarantee: a row is one record whatever its values hold, and none of them makes a terminal or a spreadsheet do
//! anything. From TSV and JSON the very values can be read back; so can they from CSV, once apostrophes are taken off
//! that stand before what a spreadsheet would compute, but for control characters, which are spelt out.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value;

use crate::text::{json_visible, on_one_line, visible};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Tsv,
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// Two columns of one name would be one member of an object, and a value would be lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "two columns are called '{0}', and a JSON object has room for one; name one of them otherwise, by AS"
)]
pub struct SameName(pub String);

/// What is the same for every row.
#[derive(Debug, Clone)]
pub struct Layout {
    format: Format,
    names: Vec<String>,
}

impl Layout {
    /// Rows of these columns.
    ///
    /// # Errors
    /// When an object can't hold them.
    pub fn new(format: Format, names: Vec<String>) -> Result<Self, SameName> {
        let twice = names.iter().enumerate().find(|(n, name)| names[..*n].contains(name));
        match twice {
            Some((_, name)) if format == Format::Ndjson => Err(SameName(name.clone())),
            _ => Ok(Self { format, names }),
        }
    }

    /// The line before the rows, with its end; empty where each row names its columns.
    pub fn header(&self) -> String {
        match self.format {
            Format::Ndjson => String::new(),
            _ => self.record(self.names.iter().map(|name| Cell::Text(name))),
        }
    }

    /// A row, with its end.
    pub fn row(&self, values: &[Value]) -> String {
        match self.format {
            Format::Ndjson => {
                // In the order of the columns, which an object of serde's would not keep.
                let members = self.names.iter().zip(values);
                let members = members.map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
                format!("{{{}}}\n", json_visible(&members.collect::<Vec<_>>().join(",")))
            }
            _ => self.record(values.iter().map(Cell::of)),
        }
    }

    fn record<'a>(&self, cells: impl Iterator<Item = Cell<'a>>) -> String {
        let (separator, write): (_, fn(&Cell) -> String) = match self.format {
            Format::Csv => (",", csv),
            _ => ("\t", tsv),
        };
        let cells: Vec<String> = cells.map(|cell| write(&cell)).collect();
        // A record of one empty cell would be an empty line, which readers of CSV skip.
        let is_blank = self.format == Format::Csv && cells.len() == 1 && cells[0].is_empty();
        format!("{}\n", if is_blank { "\"\"".to_owned() } else { cells.join(separator) })
    }
}

/// A value on one line of JSON, with its end.
pub fn json_line(value: &Value) -> String {
    format!("{}\n", json_visible(&value.to_string()))
}

enum Cell<'a> {
    Missing,
    Text(&'a str),
    /// What JSON writes: numbers, truth values, objects.
    Literal(String),
}

impl<'a> Cell<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Missing,
            Value::String(text) => Self::Text(text),
            other => Self::Literal(other.to_string()),
        }
    }
}

fn tsv(cell: &Cell) -> String {
    let escaped = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r");
        on_one_line(&text).into_owned()
    };
    match cell {
        Cell::Missing => "\\N".to_owned(),
        Cell::Text(text) => escaped(text),
        // Its own escapes stay as they are, so that it is JSON still.
        Cell::Literal(json) => json_visible(json).into_owned(),
    }
}

/// No value is an empty cell, and an empty text is a quoted one.
fn csv(cell: &Cell) -> String {
    match cell {
        Cell::Missing => String::new(),
        Cell::Text("") => "\"\"".to_owned(),
        Cell::Text(text) => quoted(&inert(&visible(&text.replace("\r\n", "\n")), CELLS_END)),
        Cell::Literal(json) => quoted(&inert_json(&json_visible(json), CELLS_END)),
    }
}

pub(crate) fn quoted(text: &str) -> String {
    let needs = |c: char| matches!(c, ',' | ';' | '"' | '\'') || c.is_whitespace();
    if text.contains(needs) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// What ends a cell where a spreadsheet separates them otherwise than by the commas of CSV.
pub(crate) const CELLS_END: &[char] = &[';', '\t', '\n'];

/// The same of cells that are separated by semicolons.
pub(crate) const CELLS_END_OR_COMMA: &[char] = &[',', ';', '\t', '\n'];

/// What formulas begin with.
const FORMULAS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// The text with an apostrophe before whatever a spreadsheet would compute. A spreadsheet of another country separates
/// cells otherwise and ends rows at line breaks though they stand between quotes, so a cell may begin behind each of
/// `cells_end`.
pub(crate) fn inert<'a>(text: &'a str, cells_end: &[char]) -> Cow<'a, str> {
    let pieces = || text.split_inclusive(cells_end);
    if !pieces().any(computes) {
        return Cow::Borrowed(text);
    }
    pieces().flat_map(|piece| [if computes(piece) { "'" } else { "" }, piece]).collect()
}

/// The same of JSON, which stays what it says: escapes stand for the characters that would begin a formula.
pub(crate) fn inert_json(json: &str, cells_end: &[char]) -> String {
    let mut inert = String::with_capacity(json.len());
    let (mut in_text, mut escaped, mut begins) = (false, false, false);
    for c in json.chars() {
        match c {
            c if in_text && begins && !escaped && FORMULAS.contains(&c) => {
                // Writing to a string can't fail.
                let _ = write!(inert, "\\u{:04x}", u32::from(c));
            }
            // Between values any blank is like another, and a space ends no cell.
            '\t' | '\n' | '\r' if !in_text => inert.push(' '),
            c => inert.push(c),
        }
        begins = cells_end.contains(&c) || (begins && (is_left_out(c) || c == '\\'));
        in_text ^= c == '"' && !escaped;
        escaped = in_text && c == '\\' && !escaped;
    }
    inert
}

/// Whether a cell that begins so is a formula, behind what some readers leave out; with its own apostrophe, too, so that
/// who takes one off has the text again.
fn computes(cell: &str) -> bool {
    cell.trim_start_matches(is_left_out).starts_with(FORMULAS) && !is_negative_number(cell)
}

fn is_left_out(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\'' | '"')
}

fn is_negative_number(cell: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    cell.strip_prefix('-').is_some_and(|number| match number.split_once('.') {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(number),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::text::deceives;

    fn row(format: Format, values: &[Value]) -> String {
        let names = (0..values.len()).map(|n| format!("c{n}")).collect();
        Layout::new(format, names).expect("columns").row(values)
    }

    #[test]
    fn a_cell_of_tsv_tells_its_value_from_any_other() {
        for (value, told) in [
            (json!(null), r"\N"),
            (json!(""), ""),
            (json!(r"\N"), r"\\N"),
            (json!("a\tb\nc\r"), r"a\tb\nc\r"),
            (json!(r"a\tb"), r"a\\tb"),
            (json!({"a": "\n"}), r#"{"a":"\n"}"#),
        ] {
            assert_eq!(row(Format::Tsv, &[value]), format!("{told}\n"));
        }
    }

    #[test]
    fn a_cell_of_csv_is_quoted_where_it_must_be_and_tells_none_from_empty() {
        let values =
            [json!(null), json!(""), json!(-1.5), json!(true), json!("a,\"b\"\r\nc"), json!({"a": 1})];
        assert_eq!(row(Format::Csv, &values), ",\"\",-1.5,true,\"a,\"\"b\"\"\nc\",\"{\"\"a\"\":1}\"\n");
        assert_eq!(row(Format::Csv, &[Value::Null]), "\"\"\n");
    }

    #[test]
    fn csv_holds_nothing_that_a_spreadsheet_of_any_country_computes() {
        for (text, told) in [
            ("=1+1", "'=1+1"),
            ("+55 11 99999", "'+55 11 99999"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
            ("-5", "-5"),
            ("-5.25", "-5.25"),
            ("a-b=c", "a-b=c"),
            (" =1", "' =1"),
            ("＝1", "'＝1"),
            ("oi;=1", "oi;'=1"),
            ("oi\n=1", "oi\n'=1"),
            ("oi;\"=1\"", "oi;'\"=1\""),
            ("'=1", "''=1"),
            // Spelt out, it is no sign any more.
            ("\u{feff}=1", "\\u{feff}=1"),
        ] {
            let cell = row(Format::Csv, &[json!(text)]);
            assert!(
                cell == format!("{told}\n") || cell == format!("\"{}\"\n", told.replace('"', "\"\"")),
                "{cell:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn json_without_formulas_says_the_same(text in r#"[;=+@"'\\ \t\na-]{0,12}"#) {
            let value = json!({"k": [text.clone(), -5], text: null});
            let spaced = serde_json::to_string_pretty(&value).expect("JSON");
            let inert = inert_json(&spaced, CELLS_END);
            prop_assert_eq!(serde_json::from_str::<Value>(&inert).expect("JSON"), value);
            prop_assert!(!inert.split([';', '\n', '\t']).skip(1).any(computes), "{}", inert);
        }
    }

    #[test]
    fn an_object_has_room_for_one_column_of_a_name() {
        let names = || vec!["n".to_owned(), "n".to_owned()];
        assert_eq!(Layout::new(Format::Ndjson, names()).err(), Some(SameName("n".to_owned())));
        assert_eq!(Layout::new(Format::Csv, names()).expect("columns").header(), "n,n\n");
        let layout = Layout::new(Format::Ndjson, vec!["b".to_owned(), "a\"".to_owned()]).expect("columns");
        assert_eq!(layout.row(&[json!(1), json!(null)]), "{\"b\":1,\"a\\\"\":null}\n");
    }

    /// What `COPY` reads from a cell, and the characters that are spelt out.
    fn from_tsv(cell: &str) -> Option<String> {
        if cell == "\\N" {
            return None;
        }
        let mut text = String::new();
        let mut rest = cell.chars();
        while let Some(c) = rest.next() {
            text.push(match (c, c == '\\') {
                (_, true) => match rest.next().expect("an escape") {
                    't' => '\t',
                    'n' => '\n',
                    'r' => '\r',
                    'u' => {
                        let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                        u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).expect("a character")
                    }
                    c => c,
                },
                (c, false) => c,
            });
        }
        Some(text)
    }

    /// The cells of one record, as RFC 4180 has them, without the apostrophes.
    fn from_csv(record: &str) -> Vec<String> {
        let mut cells = vec![String::new()];
        let mut is_quoted = false;
        let mut rest = record.strip_suffix('\n').expect("an end").chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '"' if is_quoted && rest.peek() == Some(&'"') => {
                    rest.next();
                    cells.last_mut().expect("a cell").push('"');
                }
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => cells.push(String::new()),
                '\n' if !is_quoted => panic!("two records: {record:?}"),
                c => cells.last_mut().expect("a cell").push(c),
            }
        }
        assert!(!is_quoted, "{record:?}");
        let plain = |piece: &str| match piece.strip_prefix('\'') {
            Some(rest) if computes(rest) => rest.to_owned(),
            _ => piece.to_owned(),
        };
        cells.iter().map(|cell| cell.split_inclusive(CELLS_END).map(plain).collect()).collect()
    }

    proptest! {
        #[test]
        fn every_text_can_be_read_back(texts in prop::collection::vec(prop_oneof![
            any::<String>(), "[\u{1b}\u{202e}a=+@;,\"' \\t\\r\\n\\\\N{}u1-]{0,12}"
        ], 1..4)) {
            let values: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
            let tsv = row(Format::Tsv, &values);
            prop_assert!(!tsv.chars().any(deceives) && tsv.matches('\n').count() == 1);
            let read: Vec<_> = tsv.strip_suffix('\n').expect("an end").split('\t').map(from_tsv).collect();
            prop_assert_eq!(read, texts.iter().cloned().map(Some).collect::<Vec<_>>());

            let ndjson = row(Format::Ndjson, &values);
            prop_assert!(!ndjson.chars().any(deceives) && ndjson.matches('\n').count() == 1);
            let read: Value = serde_json::from_str(&ndjson).expect("JSON");
            let same = texts.iter().zip(0..).all(|(text, n)| read[format!("c{n}")] == **text);
            prop_assert!(same);

            let csv = row(Format::Csv, &values);
            prop_assert!(!csv.chars().any(deceives));
            let spelt = texts.iter().map(|text| visible(&text.replace("\r\n", "\n")).into_owned());
            prop_assert_eq!(from_csv(&csv), spelt.collect::<Vec<_>>());
        }
    }
}
