//! Rows of a table by when they came to be: counted in the store, put side by side with the period before.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;

use super::{EngineError, Questions};
use crate::{
    domain::{Column, ColumnKind, Period, Table},
    store::{ArrivalCount, ArrivalsQuestion, MAX_COUNTS},
};

/// Groups that are told by themselves, unless they are days.
const MAX_SHOWN: usize = 50;

/// What is asked.
#[derive(Debug, Clone)]
pub struct ReportRequest {
    pub table: Table,
    pub period: Period,
    /// Names of columns, or words that the table's definition has for them.
    pub by: Vec<String>,
    /// Also the period before.
    pub compare: bool,
    pub zone: Tz,
}

/// Rows that arrived, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportCount {
    pub rows: u64,
    /// Those that meet each of the counts of the table's definition.
    pub met: Vec<u64>,
    /// In the period before.
    pub before: Option<u64>,
}

/// Rows with the same values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportGroup {
    /// A value for each of the report's columns; `None` of rows without one.
    pub values: Vec<Option<String>>,
    pub count: ReportCount,
}

/// What arrived in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub period: Period,
    pub zone: Tz,
    pub total: ReportCount,
    /// In the period before until the same time, where the period is not over.
    pub before_by_now: Option<u64>,
    pub columns: Vec<&'static str>,
    /// Days in their order, else the most frequent values first.
    pub groups: Vec<ReportGroup>,
    /// Values that are too rare to be among the groups; where the store counted no more, there may be others.
    pub left_out: usize,
    /// The rows of those values, and of days that this period has no like of. Of lists, whose rows are in several groups, it
    /// is not known.
    pub others: Option<ReportCount>,
    /// The names of the definition's counts, in the order of `met`.
    pub counts: Vec<&'static str>,
    /// Rows of the table that don't say when they came to be: they are in no period.
    pub undated: u64,
}

impl Questions {
    /// What arrived in a period.
    ///
    /// # Errors
    /// When a column can't be grouped by, the table does not say when rows came to be, or the store can't be reached.
    pub async fn report(&self, request: &ReportRequest) -> Result<Report, EngineError> {
        let table = request.table;
        let arrival = arrival(table)?;
        let by = request.by.iter().map(|name| group(table, name)).collect::<Result<Vec<_>, _>>()?;
        let mut spans: Vec<_> = request.period.span(request.zone).into_iter().collect();
        let now = Utc::now();
        if request.compare {
            let before = request.period.before().span(request.zone);
            spans.extend(before);
            spans.extend(before.and_then(|before| until_now(&spans, before, now)));
        }
        let mut question = ArrivalsQuestion { table, arrival, spans, by: Vec::new(), zone: request.zone };
        let store = self.shared.ready_store().await?;
        let (counts, undated): (Vec<ArrivalCount>, u64) = store.arrivals(&question).await?;
        let is_under_way = question.spans.len() == 3;
        let by_now = counts.iter().find(|count| count.span == 2).map_or(0, |count| count.rows);
        let before_by_now = is_under_way.then_some(by_now);
        let mut total = folded(&counts, &question, &request.period).into_values().next().unwrap_or_default();
        fill(&mut total, &question, request.compare);
        let mut groups = Vec::new();
        let (mut left_out, mut others) = (0, None);
        if !by.is_empty() {
            question.by = by;
            question.spans.truncate(if request.compare { 2 } else { 1 });
            let (counts, _): (Vec<ArrivalCount>, u64) = store.arrivals(&question).await?;
            groups = grouped(folded(&counts, &question, &request.period), &question, request);
            let is_by_day = question.by[0] == arrival;
            let shown = if is_by_day { groups.len() } else { groups.len().min(MAX_SHOWN) };
            let is_cut = counts.len() >= MAX_COUNTS;
            left_out = groups.len() - shown + usize::from(is_cut);
            groups.truncate(shown);
            let is_by_items = question.by.iter().any(|column| column.kind == ColumnKind::List);
            let rest = beyond(&total, &groups);
            let is_there = left_out > 0 || rest.rows > 0 || rest.before > Some(0);
            others = (is_there && !is_by_items).then_some(rest);
        }
        Ok(Report {
            period: request.period,
            zone: request.zone,
            total,
            before_by_now,
            columns: question.by.iter().map(|column| column.name.as_str()).collect(),
            groups,
            left_out,
            others,
            counts: question.counts().map(|count| count.name.as_str()).collect(),
            undated,
        })
    }
}

/// The column that says when a row came to be.
fn arrival(table: Table) -> Result<&'static Column, EngineError> {
    let definition = table.definition();
    let created = definition.time.created.as_deref().and_then(|name| definition.column(name));
    created.filter(|column| column.kind == ColumnKind::Timestamp).ok_or_else(|| EngineError::Invalid {
        field: "table",
        problem: format!("the definition of {table} names no timestamp as [time] created"),
    })
}

/// The column that somebody means.
fn group(table: Table, name: &str) -> Result<&'static Column, EngineError> {
    let definition = table.definition();
    let known = definition.groups.get(name).map_or(name, String::as_str);
    definition.column(known).ok_or_else(|| {
        let words = definition.groups.keys().map(String::as_str);
        let columns = definition.columns.iter().map(|column| column.name.as_str());
        let known: Vec<&str> = words.chain(columns).collect();
        EngineError::Invalid {
            field: "group_by",
            problem: format!("{table} has no '{name}'; use one of {}", known.join(", ")),
        }
    })
}

/// The part of the period before that is as long as the period has lasted, where it is not over.
fn until_now(
    spans: &[(DateTime<Utc>, DateTime<Utc>)],
    before: (DateTime<Utc>, DateTime<Utc>),
    now: DateTime<Utc>,
) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let (first, end) = *spans.first()?;
    (first <= now && now < end).then(|| (before.0, (before.0 + (now - first)).min(before.1)))
}

type Groups = BTreeMap<Vec<Option<String>>, ReportCount>;

/// The counts of the period and of the one before, side by side. Of days the one before is as many days earlier.
fn folded(counts: &[ArrivalCount], question: &ArrivalsQuestion, period: &Period) -> Groups {
    let mut groups = Groups::new();
    let later = |day: &str| {
        let day: NaiveDate = day.parse().ok()?;
        let later = period.first + (day - period.before().first);
        (later < period.end).then(|| later.to_string())
    };
    'counts: for count in counts.iter().filter(|count| count.span < 2) {
        let mut values = count.values.clone();
        for (value, column) in values.iter_mut().zip(&question.by) {
            match value {
                Some(day) if *column == question.arrival && count.span == 1 => match later(day) {
                    Some(later) => *day = later,
                    // Of a longer month there is no such day in this one.
                    None => continue 'counts,
                },
                Some(json) if column.kind == ColumnKind::Json => {
                    *json = serde_json::from_str::<serde_json::Value>(json)
                        .map_or_else(|_| json.clone(), |value| value.to_string());
                }
                _ => {}
            }
        }
        let group = groups.entry(values).or_default();
        if count.span == 0 {
            group.rows += count.rows;
            group.met.resize(count.met.len(), 0);
            for (met, more) in group.met.iter_mut().zip(&count.met) {
                *met += more;
            }
        } else {
            *group.before.get_or_insert_default() += count.rows;
        }
    }
    groups
}

fn fill(count: &mut ReportCount, question: &ArrivalsQuestion, compare: bool) {
    count.met.resize(question.counts().count(), 0);
    if compare {
        count.before.get_or_insert_default();
    }
}

/// What of the total no group has.
fn beyond(total: &ReportCount, groups: &[ReportGroup]) -> ReportCount {
    let less = |whole: u64, of: &dyn Fn(&ReportCount) -> u64| {
        whole.saturating_sub(groups.iter().map(|group| of(&group.count)).sum())
    };
    ReportCount {
        rows: less(total.rows, &|count| count.rows),
        met: (0..)
            .zip(&total.met)
            .map(|(i, met)| less(*met, &|count| count.met.get(i).copied().unwrap_or(0)))
            .collect(),
        before: total.before.map(|before| less(before, &|count| count.before.unwrap_or(0))),
    }
}

/// The groups in the order in which they are read; of days none is left out.
fn grouped(mut found: Groups, question: &ArrivalsQuestion, request: &ReportRequest) -> Vec<ReportGroup> {
    let is_by_day = question.by[0] == question.arrival;
    if is_by_day && question.by.len() == 1 {
        let today = Utc::now().with_timezone(&request.zone).date_naive();
        let days =
            (0..request.period.days()).map_while(|n| request.period.first.checked_add_days(Days::new(n)));
        for day in days.take_while(|day| *day <= today) {
            found.entry(vec![Some(day.to_string())]).or_default();
        }
    }
    let mut groups: Vec<ReportGroup> = found
        .into_iter()
        .map(|(values, mut count)| {
            fill(&mut count, question, request.compare);
            ReportGroup { values, count }
        })
        .collect();
    if !is_by_day {
        groups.sort_by_key(|group| std::cmp::Reverse((group.count.rows, group.count.before)));
    }
    groups
}

impl ReportCount {
    /// Each of the definition's counts: its name, the rows that meet it, and what percentage of all that is.
    pub fn shares<'a>(
        &'a self,
        names: &'a [&'static str],
    ) -> impl Iterator<Item = (&'static str, u64, f64)> + 'a {
        names.iter().zip(&self.met).map(|(name, met)| (*name, *met, percent(*met, self.rows)))
    }

    /// How many more than in the period before.
    pub fn difference(&self) -> Option<i64> {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.before.map(|before| signed(self.rows) - signed(before))
    }
}

/// To one decimal; 0 of nothing.
#[allow(clippy::cast_precision_loss)]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1000.0 / whole as f64).round() / 10.0 }
}
