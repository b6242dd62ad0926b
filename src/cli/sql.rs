use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde_json::{Number, Value};

use super::{
    Failure, empty,
    next_step::worded,
    output,
    rows::{self, Printing, RowFormat},
};
use crate::{
    config::Settings,
    parts,
    store::{QueryAnswer, QueryLimits},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// One SELECT over eventos_raw, leads, chat_sessions and eventos_agregados
    statement: String,
    /// Rows to print at most; assistants get 100 unless they ask for more, as they read them all
    #[arg(long, default_value_t = 1000)]
    rows: usize,
    #[command(flatten)]
    printing: Printing,
}

/// Asks the store and prints the rows.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let format = options.printing.format(RowFormat::Tsv);
    let limits = QueryLimits {
        rows: options.rows,
        bytes: 64 * 1024 * 1024,
        timeout: Duration::from_mins(1),
        // An object of JSON holds values, and the others their text.
        verbatim: format != RowFormat::Json,
    };
    let engine = parts::engine(settings).await?;
    let (store, mut answer) = engine.questions.sql(&options.statement, limits).await?;
    numbers(&mut answer);
    if let Some(masking) = options.printing.masking(settings) {
        masking.answer(settings.catalog, store, &options.statement, &mut answer);
    }
    let names = answer.columns.iter().map(|column| column.name.clone()).collect();
    rows::print(format, names, &answer.rows)?;
    if let Some(warning) = &answer.warning {
        output::note(format_args!("warning: {warning}"));
    }
    let trimmed = engine.questions.trimmed_in(&options.statement).await;
    for lack in engine.questions.store_lacks().await.into_iter().chain(trimmed) {
        output::note(format_args!("warning: {}", lack.worded(worded)));
    }
    if answer.truncated {
        output::note("there are more rows; raise --rows or narrow the statement");
    }
    empty::note(&engine, settings).await;
    Ok(ExitCode::SUCCESS)
}

/// Makes numbers of texts that are nothing else, digit for digit: a long one must not be taken for a phone's.
fn numbers(answer: &mut QueryAnswer) {
    let kinds = ["int2", "int4", "int8", "numeric", "float4", "float8"];
    for (n, _) in answer.columns.iter().enumerate().filter(|(_, column)| kinds.contains(&&*column.kind)) {
        for value in answer.rows.iter_mut().filter_map(|row| row.get_mut(n)) {
            if let Value::String(text) = value
                && let Ok(number) = serde_json::from_str::<Number>(text)
                && number.to_string() == *text
            {
                *value = Value::Number(number);
            }
        }
    }
}
