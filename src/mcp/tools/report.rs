//! The report of arrivals.

use chrono::{NaiveDate, Utc};
use chrono_tz::Tz;
use rmcp::{model::JsonObject, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    domain::{Period, Table, TableName},
    engine::{Report, ReportCount, ReportGroup, ReportRequest, table_named},
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        bounded::{AROUND, LARGEST_ANSWER, LONGEST_VALUE, fitting, shorten},
        output::Outgoing,
        schema,
    },
};

/// What stands for a value that is missing, unless it is of a column that is masked: of those it would look like a value.
const MISSING: &str = "(missing)";

/// More columns make more groups than anybody reads.
const MAX_COLUMNS: usize = 2;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReportArgs {
    /// today (default), yesterday, this_week (from Monday), last_week, this_month, last_month, or last_N_days with today.
    #[serde(default)]
    period: Option<String>,
    /// First day, 2026-05-01, instead of period.
    #[serde(default)]
    from: Option<String>,
    /// Last day, included; default today.
    #[serde(default)]
    to: Option<String>,
    /// Up to 2 of day, origin, campaign, status or any column of leads.
    #[serde(default)]
    group_by: Vec<String>,
    /// With the period before. Default true.
    #[serde(default = "yes")]
    compare: bool,
    /// Whose days: IANA name. Default the server's.
    #[serde(default)]
    timezone: Option<String>,
}

fn yes() -> bool {
    true
}

/// What arrived.
#[derive(Debug, Serialize, JsonSchema)]
struct ReportAnswer {
    summary: String,
    from: NaiveDate,
    to: NaiveDate,
    timezone: &'static str,
    /// The period before.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared_from: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared_to: Option<NaiveDate>,
    total: JsonObject,
    /// Days in order, else the most first.
    groups: Vec<JsonObject>,
    /// All rarer groups together.
    others: Option<JsonObject>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    behind: Vec<String>,
    hint: Option<String>,
}

#[tool_router(router = report_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Report of leads",
        description = "How many leads arrived (by created_at) in a period, and how many of them are qualified, against the period \
            before: use it for daily and weekly reports and conversion. For status by campaign group by both. \
            Example: {\"period\": \"last_week\", \"group_by\": [\"origin\"]}",
        input_schema = schema::input::<ReportArgs>(),
        output_schema = schema::output::<ReportAnswer>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn lead_report(&self, given: JsonObject) -> Result<Answer<ReportAnswer>, ToolError> {
        let args: ReportArgs = arguments(given)?;
        let zone = args.timezone.as_deref().map(zone).transpose()?.unwrap_or(self.engine.zone);
        let period = period(args.period.as_deref(), args.from.as_deref(), args.to.as_deref(), zone)?;
        if args.group_by.len() > MAX_COLUMNS {
            return Err(ToolError::argument("group_by", format!("at most {MAX_COLUMNS} columns")));
        }
        let table = table_named(self.engine.catalog, &TableName("leads".to_owned()))?;
        let request = ReportRequest {
            table,
            period: period.unwrap_or_else(|| today(zone)),
            by: args.group_by,
            compare: args.compare,
            zone,
        };
        let report = self.engine.questions.report(&request).await?;
        let groups = groups(&report, table, &self.outgoing);
        let before = request.compare.then(|| report.period.before());
        let mut hints = Vec::new();
        if groups.len() < report.groups.len() {
            hints.push(format!(
                "only {} of {} groups fit, of days the latest: ask for a shorter period or fewer columns, or query_store for all",
                groups.len(),
                report.groups.len()
            ));
        }
        if report.left_out > 0 {
            let told = if report.others.is_some() { "are in others" } else { "are left out" };
            hints.push(format!(
                "{} rarer values or more {told}: group by another column, or ask query_store for all",
                report.left_out
            ));
        }
        if report.columns.iter().any(|name| is_masked(table, name)) {
            hints.push("null is missing; values that are masked may look alike".to_owned());
        }
        Ok(Answer(ReportAnswer {
            summary: report.summary(table, self.engine.language),
            from: report.period.first,
            to: report.period.last(),
            timezone: zone.name(),
            compared_from: before.map(|before| before.first),
            compared_to: before.map(Period::last),
            total: counted(&report, &report.total).collect(),
            groups,
            others: report.others.as_ref().map(|others| counted(&report, others).collect()),
            behind: self.store_lacks().await,
            hint: (!hints.is_empty()).then(|| hints.join(". ")),
        }))
    }
}

/// As many groups as fit; of days the latest.
fn groups(report: &Report, table: Table, outgoing: &Outgoing) -> Vec<JsonObject> {
    let are_days = report.columns.first().copied() == table.time.created.as_deref();
    let group = |group: &ReportGroup| {
        let named = report.columns.iter().zip(&group.values).map(|(name, value)| {
            let mut value = match value {
                Some(value) => value.as_str().into(),
                None if is_masked(table, name) => Value::Null,
                None => MISSING.into(),
            };
            // What is to be masked is found only where it is whole.
            outgoing.field(name, &mut value);
            shorten(&mut value, LONGEST_VALUE);
            ((*name).to_owned(), value)
        });
        named.chain(counted(report, &group.count)).collect()
    };
    let mut groups: Vec<JsonObject> = report.groups.iter().map(group).collect();
    if are_days {
        groups.reverse();
    }
    let mut shown = fitting(groups, &mut (LARGEST_ANSWER - AROUND));
    if are_days {
        shown.reverse();
    }
    shown
}

fn is_masked(table: Table, name: &str) -> bool {
    table.definition().column(name).is_some_and(|column| column.masked)
}

/// A count's members, by their names.
fn counted<'a>(report: &'a Report, count: &'a ReportCount) -> impl Iterator<Item = (String, Value)> + 'a {
    let rows = [("leads".to_owned(), count.rows.into())];
    let compared =
        [("before", count.before.map(Value::from)), ("difference", count.difference().map(Value::from))];
    let compared = compared.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let shares = count.shares(&report.counts).flat_map(|(name, met, percent)| {
        [(name.to_owned(), met.into()), (format!("{name}_percent"), percent.into())]
    });
    rows.into_iter().chain(compared).chain(shares)
}

fn today(zone: Tz) -> Period {
    let today = Utc::now().with_timezone(&zone).date_naive();
    Period::of_day(today)
}

fn zone(name: &str) -> Result<Tz, ToolError> {
    name.trim()
        .parse()
        .map_err(|_| ToolError::argument("timezone", "is no time zone's name; for example America/Sao_Paulo"))
}

/// The days that are asked for; `None` where nothing was said.
pub(super) fn period(
    named: Option<&str>,
    from: Option<&str>,
    to: Option<&str>,
    zone: Tz,
) -> Result<Option<Period>, ToolError> {
    let today = Utc::now().with_timezone(&zone).date_naive();
    let day = |field: &str, text: &str| {
        let wrong = |_| ToolError::argument(field, "is no day; write it as 2026-05-01");
        text.trim().parse::<NaiveDate>().map_err(wrong)
    };
    match (named, from, to) {
        (None, None, None) => Ok(None),
        (Some(name), None, None) => match Period::named(name, today) {
            Some(period) => Ok(Some(period)),
            None => {
                Err(ToolError::argument("period", format!("is none; use {}, or from and to", Period::NAMES)))
            }
        },
        (None, Some(from), to) => {
            let (first, last) = (day("from", from)?, to.map_or(Ok(today), |to| day("to", to))?);
            let period = Period::between(first, last);
            period
                .map(Some)
                .ok_or_else(|| ToolError::argument("to", "is before from, or more than ten years later"))
        }
        (None, None, Some(_)) => Err(ToolError::argument("from", "is missing beside to")),
        (Some(_), ..) => Err(ToolError::argument("period", "give period, or from and to, not both")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::Catalog,
        mcp::{bounded::size, output::Masking},
    };

    fn shown(columns: &[&'static str], values: impl Iterator<Item = Vec<String>>) -> Vec<JsonObject> {
        let catalog = Catalog::built_in();
        let group = |values: Vec<String>| ReportGroup {
            values: values.into_iter().map(Some).collect(),
            count: ReportCount { rows: 1, met: vec![1], before: Some(1) },
        };
        let report = Report {
            period: today(Tz::UTC),
            zone: Tz::UTC,
            total: ReportCount::default(),
            before_by_now: None,
            columns: columns.to_vec(),
            groups: values.map(group).collect(),
            left_out: 0,
            others: None,
            counts: vec!["qualified"],
            undated: 0,
        };
        let outgoing = Outgoing::new(Some(Masking::of(catalog)), catalog);
        groups(&report, catalog.get("leads").expect("leads"), &outgoing)
    }

    #[test]
    fn of_more_days_than_fit_the_latest_are_told_in_their_order() {
        let day = |n: u64| (NaiveDate::MIN + chrono::Days::new(n)).to_string();
        let days = (0..3_650).flat_map(|n| ["google", "site"].map(|origin| vec![day(n), origin.to_owned()]));
        let groups = shown(&["created_at", "origem"], days);
        assert!(size(&groups) < LARGEST_ANSWER && groups.len() > 100, "{} groups", groups.len());
        let told = |group: &JsonObject| (group["created_at"].clone(), group["origem"].clone());
        assert_eq!(groups.last().map(told), Some((day(3_649).into(), "site".into())));
        let next_to_last = &groups[groups.len() - 2];
        assert_eq!(told(next_to_last), (day(3_649).into(), "google".into()));
    }

    #[test]
    fn long_values_are_masked_and_cut_and_the_most_frequent_are_told() {
        let values = (0..50).map(|n| {
            let long =
                format!("{n} {} ana@exemplo.com.br {}", "é".repeat(LONGEST_VALUE - 8), "é".repeat(1_000));
            vec![long.clone(), long]
        });
        let groups = shown(&["origem", "utm_campaign"], values);
        assert!(size(&groups) < LARGEST_ANSWER, "{} bytes", size(&groups));
        let first = groups[0]["origem"].as_str().expect("a value");
        assert!(first.starts_with("0 ") && first.ends_with(" characters)"), "{first}");
        assert!(groups.iter().all(|group| !group["origem"].to_string().contains("ana@")), "{first}");
    }
}
