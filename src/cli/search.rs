use std::process::ExitCode;

use clap::Args;

use super::{Failure, next_step::worded, output};
use crate::{
    config::Settings,
    index::{IndexName, SearchRequest, Sort},
    parts,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to look for, in Lucene's syntax: status_lead:novo AND valor:>50. Without it everything
    query: Option<String>,
    /// Where to look: a table as `sluice tables` lists them, or eventos for every version of every row
    #[arg(long, default_value = "leads")]
    index: String,
    /// Documents to print at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    limit: u32,
    /// Count by the values of a field; may be given several times
    #[arg(long, value_name = "FIELD")]
    count_by: Vec<String>,
}

/// Searches the index and prints a JSON document a line, then the counts.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let catalog = settings.catalog;
    let index = IndexName::from_name(catalog, &options.index.replace('-', "_"))
        .ok_or_else(|| format!("--index {}: there are eventos, {}", options.index, catalog.names()))?;
    let request = SearchRequest {
        index,
        query: options.query.clone(),
        sort: Sort::Newest,
        from: 0,
        size: options.limit,
        count_by: options.count_by.clone(),
        count_by_day: false,
        zone: settings.zone,
    };
    let engine = parts::engine(settings).await?;
    let answer = engine.questions.search(&request).await?;
    for hit in &answer.hits {
        output::json(&hit.source)?;
    }
    for counts in &answer.counts {
        for value in &counts.values {
            output::line(format_args!("{:>8} {} {}", value.count, counts.field, value.value))?;
        }
        for (count, what) in [(counts.others, "other values"), (counts.missing, "no value")] {
            if count > 0 {
                output::line(format_args!("{count:>8} {} ({what})", counts.field))?;
            }
        }
    }
    for lack in engine.questions.index_lacks(index).await {
        output::note(format_args!("warning: {}", lack.worded(worded)));
    }
    // Apart from the documents, so that a script reads only those.
    output::note(format_args!("{} of {} that match", answer.hits.len(), answer.total));
    Ok(ExitCode::SUCCESS)
}
