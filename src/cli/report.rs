use std::process::ExitCode;

use chrono::{NaiveDate, Utc};
use chrono_tz::Tz;
use clap::Args;
use serde_json::Value;

use super::{
    Failure, empty,
    next_step::worded,
    output,
    rows::{self, Printing, RowFormat},
};
use crate::{
    config::Settings,
    domain::{Period, TableName},
    engine::{ReportCount, ReportRequest, ReportTitles, count_title, table_named},
    parts,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// today, yesterday, this_week (from Monday), last_week, this_month, last_month, or last_N_days up to today
    #[arg(default_value = "today", conflicts_with_all = ["from", "to"])]
    period: String,
    /// From this day on, instead of a period
    #[arg(long, value_name = "DAY")]
    from: Option<NaiveDate>,
    /// To this day, included; today if left out
    #[arg(long, value_name = "DAY", requires = "from")]
    to: Option<NaiveDate>,
    /// Count by day, origin, campaign, status or any column; may be given twice
    #[arg(long, value_name = "COLUMN")]
    by: Vec<String>,
    /// Leave the period before out
    #[arg(long)]
    no_compare: bool,
    /// Whose days, by the zone's IANA name (also SLUICE_TIMEZONE)
    #[arg(long, value_name = "ZONE")]
    timezone: Option<Tz>,
    /// The table whose rows arrived
    #[arg(long, default_value = "leads")]
    table: String,
    #[command(flatten)]
    printing: Printing,
}

/// Counts what arrived, and prints a sentence and, where it is asked by something, a table.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let zone = options.timezone.unwrap_or(settings.zone);
    let today = Utc::now().with_timezone(&zone).date_naive();
    let period = match options.from {
        Some(from) => Period::between(from, options.to.unwrap_or(today))
            .ok_or_else(|| format!("--from {from}: is after --to, or more than ten years before it"))?,
        None => Period::named(&options.period, today)
            .ok_or_else(|| format!("'{}' is no period; there are {}", options.period, Period::NAMES))?,
    };
    let table = table_named(settings.catalog, &TableName(options.table.replace('-', "_")))?;
    let request = ReportRequest { table, period, by: options.by.clone(), compare: !options.no_compare, zone };
    let engine = parts::engine(settings).await?;
    let report = engine.questions.report(&request).await?;
    let (titles, format) = (ReportTitles::of(settings.language), options.printing.format(RowFormat::Tsv));
    // Records are for programs; the sentence is for people.
    match format {
        RowFormat::Csv | RowFormat::Json => output::note(report.summary(table, settings.language)),
        _ => output::line(report.summary(table, settings.language))?,
    }
    let mut names: Vec<String> =
        report.columns.iter().chain([&table.name()]).map(|name| (*name).to_owned()).collect();
    names.extend(request.compare.then(|| titles.before.to_owned()));
    names.extend(report.counts.iter().map(|name| count_title(name, settings.language).to_owned()));
    let masking = options.printing.masking(settings);
    let shown = |(name, value): (&&'static str, Option<String>)| match value {
        Some(value) => {
            let mut value = value.into();
            if let Some(masking) = &masking {
                masking.field(name, &mut value);
            }
            value
        }
        None => Value::from(titles.missing),
    };
    let counted = |mut cells: Vec<Value>, count: &ReportCount| {
        cells.extend(
            [count.rows].into_iter().chain(count.before).chain(count.met.iter().copied()).map(Value::from),
        );
        cells
    };
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for group in &report.groups {
        let values = report.columns.iter().zip(group.values.clone()).map(shown);
        rows.push(counted(values.collect(), &group.count));
    }
    if let Some(others) = &report.others {
        let mut cells = vec![Value::from(titles.others)];
        cells.resize(report.columns.len(), "".into());
        rows.push(counted(cells, others));
    }
    if !rows.is_empty() {
        rows::print(format, names, &rows)?;
    }
    if report.left_out > 0 {
        output::note(format_args!("{} rarer values or more are not listed", report.left_out));
    }
    for lack in engine.questions.store_lacks().await {
        output::note(format_args!("warning: {}", lack.worded(worded)));
    }
    empty::note(&engine, settings).await;
    Ok(ExitCode::SUCCESS)
}
