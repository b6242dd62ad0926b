use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde_json::Value;

use super::{Failure, output};
use crate::{config::Settings, parts, store::QueryLimits};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// One SELECT over eventos_raw, leads, chat_sessions and eventos_agregados
    statement: String,
    /// Rows to print at most
    #[arg(long, default_value_t = 1000)]
    rows: usize,
}

/// Asks the store and prints the columns' names and the rows, separated by tabs.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let limits = QueryLimits { rows: options.rows, bytes: 64 * 1024 * 1024, timeout: Duration::from_mins(1) };
    let (_, answer) = parts::engine(settings).await?.questions.sql(&options.statement, limits).await?;
    let names: Vec<String> = answer.columns.iter().map(|column| cell(&column.name)).collect();
    output::line(names.join("\t"))?;
    for row in &answer.rows {
        let values: Vec<String> = row.iter().map(shown).collect();
        output::line(values.join("\t"))?;
    }
    if let Some(warning) = &answer.warning {
        output::note(format_args!("warning: {warning}"));
    }
    if answer.truncated {
        output::note("there are more rows; raise --rows or narrow the statement");
    }
    Ok(ExitCode::SUCCESS)
}

/// Text as it is but for what would break the table, all else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        other => other.to_string(),
    }
}

fn cell(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}
