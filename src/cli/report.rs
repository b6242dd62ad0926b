use std::process::ExitCode;

use chrono::{NaiveDate, Utc};
use chrono_tz::Tz;
use clap::Args;

use super::{Failure, next_step::worded, output};
use crate::{
    config::Settings,
    domain::{Period, TableName},
    engine::{ReportRequest, table_named},
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
}

/// Counts what arrived, and prints a sentence and, where it is asked by something, a table separated by tabs.
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
    output::line(report.summary(table))?;
    let mut names: Vec<&str> = report.columns.iter().copied().chain([table.name()]).collect();
    names.extend(request.compare.then_some("before"));
    names.extend(&report.counts);
    let others = report.others.as_ref().map(|others| (vec![Some("(others)".to_owned())], others));
    let groups = report.groups.iter().map(|group| (group.values.clone(), &group.count));
    for (n, (values, count)) in groups.chain(others).enumerate() {
        if n == 0 {
            output::line(names.join("\t"))?;
        }
        let values = values.into_iter().map(|value| value.unwrap_or_else(|| "(missing)".to_owned()));
        let mut cells: Vec<String> = values.collect();
        cells.resize(report.columns.len(), String::new());
        cells.push(count.rows.to_string());
        cells.extend(count.before.map(|before| before.to_string()));
        cells.extend(count.met.iter().map(u64::to_string));
        output::line(cells.join("\t"))?;
    }
    if report.left_out > 0 {
        output::note(format_args!("{} rarer values or more are not listed", report.left_out));
    }
    for lack in engine.questions.store_lacks().await {
        output::note(format_args!("warning: {}", lack.worded(worded)));
    }
    Ok(ExitCode::SUCCESS)
}
