//! Rows as a command prints them: a table for people, records for programs.
//!
//! Guarantee: values are cut only on a terminal, where the whole of them would be no table any more.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use clap::{Args, ValueEnum};
use console::{Alignment, measure_text_width, pad_str, truncate_str};
use serde_json::Value;

use super::{Failure, output};
use crate::{
    config::Settings,
    mcp::Masking,
    tabular::{Format, Layout},
    text::on_one_line,
};

/// A column of a table has so many places, or fewer if it needs fewer.
const MIN_COLUMN: usize = 6;

/// Between two columns.
const GAP: &str = "  ";

/// Rows written at a time.
const CHUNK: usize = 256;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowFormat {
    /// Aligned columns, cut to a terminal's width
    Table,
    /// Tabs between values, as COPY writes them: \N is no value
    Tsv,
    /// For spreadsheets: an apostrophe stands before what they would compute
    Csv,
    /// A JSON object a line
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Printing {
    /// How to print. Default: a table on a terminal, and what is named last for a pipe
    #[arg(long, value_name = "FORMAT")]
    format: Option<RowFormat>,
    /// Show e-mail addresses, phone numbers and IP addresses instead of masking them (also SLUICE_REVEAL_PII=true)
    #[arg(long)]
    reveal_pii: bool,
}

impl Printing {
    /// The format that was asked for, else the one that fits who reads.
    pub(super) fn format(&self, for_a_pipe: RowFormat) -> RowFormat {
        let usual = || if io::stdout().is_terminal() { RowFormat::Table } else { for_a_pipe };
        self.format.unwrap_or_else(usual)
    }

    /// What masks values, unless whoever asks may see them.
    pub(super) fn masking(&self, settings: &Settings) -> Option<Masking> {
        (!self.reveal_pii && !settings.mcp.reveal_pii).then(|| Masking::of(settings.catalog))
    }
}

/// Prints rows of these columns.
pub(super) fn print(format: RowFormat, names: Vec<String>, rows: &[Vec<Value>]) -> Result<(), Failure> {
    let format = match format {
        RowFormat::Table => {
            return Ok(output::styled(drawn(&names, rows, output::width()))?);
        }
        RowFormat::Tsv => Format::Tsv,
        RowFormat::Csv => Format::Csv,
        RowFormat::Json => Format::Ndjson,
    };
    let layout = Layout::new(format, names)?;
    output::styled(layout.header())?;
    for rows in rows.chunks(CHUNK) {
        output::styled(rows.iter().map(|row| layout.row(row)).collect::<String>())?;
    }
    Ok(())
}

/// A table; a list of each row's values where a terminal has no room for so many columns.
fn drawn(names: &[String], rows: &[Vec<Value>], width: Option<usize>) -> String {
    let names: Vec<String> = names.iter().map(|name| cell(&Value::from(name.as_str()))).collect();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let widest = |column: usize| {
        let cells = cells.iter().filter_map(|row| row.get(column)).chain(names.get(column));
        cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..names.len()).map(widest).collect();
    if let Some(room) = width {
        let room = room.saturating_sub(GAP.len() * names.len().saturating_sub(1));
        match cap(&widths, room) {
            Some(cap) => widths.iter_mut().for_each(|width| *width = (*width).min(cap)),
            None => return listed(&names, &cells, width),
        }
    }
    let is_number = |column: usize| {
        let mut values =
            rows.iter().filter_map(|row| row.get(column)).filter(|value| !value.is_null()).peekable();
        values.peek().is_some() && values.all(Value::is_number)
    };
    let numbers: Vec<bool> = (0..names.len()).map(is_number).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).zip(&numbers).map(|((cell, width), is_number)| {
            let side = if *is_number { Alignment::Right } else { Alignment::Left };
            pad_str(&truncate_str(cell, *width, "…"), *width, side, None).into_owned()
        });
        let line = padded.collect::<Vec<_>>().join(GAP);
        format!("{}\n", line.trim_end())
    };
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    std::iter::once(line(&names)).chain([line(&rule)]).chain(cells.iter().map(|row| line(row))).collect()
}

/// The widest that columns may be for all to fit; none where that is too little to read.
fn cap(widths: &[usize], room: usize) -> Option<usize> {
    let taken = |cap: usize| widths.iter().map(|width| (*width).min(cap)).sum::<usize>();
    let widest = widths.iter().copied().max().unwrap_or(0);
    (MIN_COLUMN.min(widest)..=widest.min(room)).rev().find(|cap| taken(*cap) <= room)
}

fn listed(names: &[String], rows: &[Vec<String>], width: Option<usize>) -> String {
    let longest = names
        .iter()
        .map(|name| measure_text_width(name))
        .max()
        .unwrap_or(0)
        .min(width.map_or(30, |width| width / 2));
    let mut text = String::new();
    for (n, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "── {} ──", n + 1);
        for (name, value) in names.iter().zip(row) {
            let name =
                pad_str(&truncate_str(name, longest, "…"), longest, Alignment::Left, None).into_owned();
            let room = width.map_or(usize::MAX, |width| width.saturating_sub(longest + GAP.len()));
            text.push_str(format!("{name}{GAP}{}", truncate_str(value, room, "…")).trim_end());
            text.push('\n');
        }
    }
    text
}

/// A value as people read it; no value is nothing.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => on_one_line(text).into_owned(),
        other => on_one_line(&other.to_string()).into_owned(),
    };
    text.replace('\t', " ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::text::deceives;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let rows = vec![
            vec![json!("São Paulo"), json!(5)],
            vec![json!(null), json!(1200)],
            vec![json!("日本"), json!(null)],
        ];
        let table = drawn(&names(&["cidade", "leads"]), &rows, None);
        assert_eq!(table, "cidade     leads\n─────────  ─────\nSão Paulo      5\n            1200\n日本\n");
    }

    #[test]
    fn the_widest_columns_are_cut_first_and_only_on_a_terminal() {
        let rows = vec![vec![json!("a".repeat(200)), json!("novo"), json!("b".repeat(50))]];
        let columns = names(&["mensagem", "status", "origem"]);
        let table = drawn(&columns, &rows, Some(40));
        assert!(table.lines().all(|line| measure_text_width(line) <= 40), "{table}");
        assert!(table.contains("novo") && table.matches('…').count() == 2, "{table}");
        let whole = drawn(&columns, &rows, None);
        assert!(whole.contains(&"a".repeat(200)) && !whole.contains('…'), "{whole}");
    }

    #[test]
    fn more_columns_than_a_terminal_has_room_for_are_listed_one_a_line() {
        let columns: Vec<String> = (0..30).map(|n| format!("coluna_{n}")).collect();
        let row: Vec<Value> = (0..30).map(|n| json!(format!("valor {n} {}", "x".repeat(90)))).collect();
        let list = drawn(&columns, &[row], Some(80));
        assert_eq!(list.lines().count(), 31);
        assert!(list.lines().all(|line| measure_text_width(line) <= 80), "{list}");
        assert!(list.contains("coluna_7   valor 7 xxx"), "{list}");
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_line_or_the_terminals_width(
            texts in prop::collection::vec(prop_oneof![any::<String>(), "[日é\\u{1b}\\t\\n\\[2J]{0,60}"], 1..12),
            width in 20_usize..100,
        ) {
            let columns: Vec<String> = (0..texts.len()).map(|n| format!("c{n}")).collect();
            let row: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
            let drawn = drawn(&columns, &[row], Some(width));
            prop_assert!(!drawn.chars().any(|c| c == '\t' || deceives(c)));
            let lines = drawn.lines().count();
            prop_assert!(lines == 3 || lines == texts.len() + 1, "{}", drawn);
            prop_assert!(drawn.lines().all(|line| measure_text_width(line) <= width), "{}", drawn);
        }
    }
}
