use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde_json::Value;

use super::{Failure, next_step::worded, output};
use crate::{config::Settings, parts, store::QueryLimits};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// One SELECT over eventos_raw, leads, chat_sessions and eventos_agregados
    statement: String,
    /// Rows to print at most
    #[arg(long, default_value_t = 1000)]
    rows: usize,
}

/// Asks the store and prints the columns' names and the rows, separated by tabs, as `COPY` writes them.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let limits = QueryLimits {
        rows: options.rows,
        bytes: 64 * 1024 * 1024,
        timeout: Duration::from_mins(1),
        verbatim: true,
    };
    let engine = parts::engine(settings).await?;
    let (_, answer) = engine.questions.sql(&options.statement, limits).await?;
    let names: Vec<String> = answer.columns.iter().map(|column| cell(&column.name)).collect();
    output::line(names.join("\t"))?;
    for row in &answer.rows {
        let values: Vec<String> = row.iter().map(shown).collect();
        output::line(values.join("\t"))?;
    }
    if let Some(warning) = &answer.warning {
        output::note(format_args!("warning: {warning}"));
    }
    for lack in engine.questions.store_lacks().await {
        output::note(format_args!("warning: {}", lack.worded(worded)));
    }
    if answer.truncated {
        output::note("there are more rows; raise --rows or narrow the statement");
    }
    Ok(ExitCode::SUCCESS)
}

/// Text but for what would break the table, and all else as JSON; `\N` stands for no value.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "\\N".to_owned(),
        Value::String(text) => cell(text),
        other => other.to_string(),
    }
}

fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cell_tells_its_value_from_any_other() {
        for (value, told) in [
            (json!(null), r"\N"),
            (json!(""), ""),
            (json!(r"\N"), r"\\N"),
            (json!("a\tb\nc\r"), r"a\tb\nc\r"),
            (json!(r"a\tb"), r"a\\tb"),
            (json!({"a": "\n"}), r#"{"a":"\n"}"#),
        ] {
            assert_eq!(shown(&value), told);
        }
    }
}
