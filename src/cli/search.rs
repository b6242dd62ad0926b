use std::{collections::BTreeSet, process::ExitCode};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    Failure, empty,
    next_step::worded,
    output,
    rows::{self, Printing, RowFormat},
};
use crate::{
    config::Settings,
    index::{IndexName, SearchAnswer, SearchRequest, Sort, ValueCounts},
    parts,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to look for, in Lucene's syntax: status_lead:novo AND valor:>50. Without it everything
    query: Option<String>,
    /// Where to look: a table as `sluice tables` lists them, or eventos for every version of every row
    #[arg(long, default_value = "leads")]
    index: String,
    /// Documents to print at most, 0 to 1000
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    limit: u32,
    /// Which come first
    #[arg(long, value_enum, default_value = "newest")]
    sort: Order,
    /// Count by the values of a field; may be given several times. Programs get the counts instead of documents
    #[arg(long, value_name = "FIELD")]
    count_by: Vec<String>,
    /// Print these fields, separated by commas. Default: the telling ones in a table, all for programs
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    columns: Vec<String>,
    #[command(flatten)]
    printing: Printing,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    /// The latest timestamp
    Newest,
    /// The earliest timestamp
    Oldest,
    /// What matches best
    Relevance,
}

/// Searches the index and prints documents, then counts.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let catalog = settings.catalog;
    let index = IndexName::from_name(catalog, &options.index.replace('-', "_"))
        .ok_or_else(|| format!("--index {}: there are eventos, {}", options.index, catalog.names()))?;
    let format = options.printing.format(RowFormat::Json);
    let request = SearchRequest {
        index,
        query: options.query.clone(),
        sort: match options.sort {
            Order::Newest => Sort::Newest,
            Order::Oldest => Sort::Oldest,
            Order::Relevance => Sort::Relevance,
        },
        from: 0,
        size: options.limit,
        count_by: options.count_by.clone(),
        count_by_day: false,
        zone: settings.zone,
    };
    let engine = parts::engine(settings).await?;
    let mut answer = match engine.questions.search(&request).await {
        // There is no index before the first sync.
        Err(_) if empty::is_empty(&engine, settings).await => {
            output::note(empty::EMPTY);
            return Ok(ExitCode::SUCCESS);
        }
        answer => answer?,
    };
    mask(&mut answer, settings, options);
    let documents: Vec<Value> = answer.hits.into_iter().map(|hit| Value::Object(hit.source)).collect();
    let found = documents.len();
    let prints_documents = options.count_by.is_empty() || format == RowFormat::Table;
    if prints_documents && options.limit > 0 {
        print_documents(format, index, options, documents)?;
    }
    if !answer.counts.is_empty() {
        let names = ["field", "value", "count"].map(str::to_owned).to_vec();
        rows::print(format, names, &answer.counts.iter().flat_map(counted).collect::<Vec<_>>())?;
    }
    for lack in engine.questions.index_lacks(index).await {
        output::note(format_args!("warning: {}", lack.worded(worded)));
    }
    // Apart from the documents, so that a script reads only those.
    let shown = if prints_documents { found } else { 0 };
    output::note(format_args!("{shown} of {} that match", answer.total));
    empty::note(&engine, settings).await;
    Ok(ExitCode::SUCCESS)
}

fn mask(answer: &mut SearchAnswer, settings: &Settings, options: &Options) {
    let Some(masking) = options.printing.masking(settings) else { return };
    for hit in &mut answer.hits {
        let mut document = Value::Object(std::mem::take(&mut hit.source));
        masking.value(&mut document);
        if let Value::Object(document) = document {
            hit.source = document;
        }
    }
    for counts in &mut answer.counts {
        counts.values.iter_mut().for_each(|value| masking.field(&counts.field, &mut value.value));
    }
}

fn print_documents(
    format: RowFormat,
    index: IndexName,
    options: &Options,
    documents: Vec<Value>,
) -> Result<(), Failure> {
    let there: BTreeSet<&str> = documents
        .iter()
        .filter_map(Value::as_object)
        .flat_map(|document| document.keys().map(String::as_str))
        .collect();
    if let Some(unknown) =
        options.columns.iter().find(|name| !there.contains(name.as_str())).filter(|_| !documents.is_empty())
    {
        let there: Vec<&str> = there.into_iter().collect();
        return Err(format!(
            "--columns {unknown}: none of these documents has it; they have {}",
            there.join(", ")
        )
        .into());
    }
    let columns: Vec<String> = match (&options.columns, format) {
        (named, _) if !named.is_empty() => named.clone(),
        // As they are: a document has only the fields that it has.
        (_, RowFormat::Json) => {
            documents.iter().try_for_each(output::json)?;
            return Ok(());
        }
        (_, RowFormat::Table) => {
            index.telling().into_iter().filter(|name| there.contains(name)).map(str::to_owned).collect()
        }
        _ => there.into_iter().map(str::to_owned).collect(),
    };
    let row = |document: &Value| columns.iter().map(|name| document[name.as_str()].clone()).collect();
    rows::print(format, columns.clone(), &documents.iter().map(row).collect::<Vec<_>>())
}

/// A field's counts as rows, what is not listed and what has no value behind the others.
fn counted(counts: &ValueCounts) -> impl Iterator<Item = Vec<Value>> + '_ {
    let row = |value: Value, count: u64| vec![json!(counts.field), value, json!(count)];
    let rest = [(counts.others, "(other values)"), (counts.missing, "(no value)")];
    let rest =
        rest.into_iter().filter(|(count, _)| *count > 0).map(move |(count, what)| row(json!(what), count));
    counts.values.iter().map(move |value| row(value.value.clone(), value.count)).chain(rest)
}
