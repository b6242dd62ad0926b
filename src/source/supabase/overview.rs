//! Counts for the dashboard. Aggregates are off by default on Supabase, so breakdowns are counted here.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    SupabaseSource,
    http::{Refusal, Reply, Request, Unreadable},
    is_of_the_table,
    query::{Parameters, condition, name, parameter, quoted, spelled},
    told,
};
use crate::{
    domain::{Json, Members, Table, json, parse_instant},
    fault::Fault,
    source::{Breakdown, Condition, TableOverview},
};

/// Rows the breakdowns read at most.
const MAX_ROWS: u64 = 50_000;
const PAGE: u32 = 1000;

impl SupabaseSource {
    /// Counts what is there; what is missing is told, and left out.
    pub(super) async fn overview_of(&self, table: Table) -> Result<TableOverview, Fault> {
        let mut overview = TableOverview { table: table.name().to_owned(), ..TableOverview::default() };
        let total = self.counted(table, None).await;
        overview.total = self.unless_missing(table, &mut overview.problem, total)?.map(|(_, total)| total);
        if overview.total.is_none() {
            return Ok(overview);
        }
        let definition = table.definition();
        if let Some(created) = &definition.time.created {
            let column = definition.source_of(created);
            let yesterday = quoted(&spelled(Utc::now() - TimeDelta::hours(24), table));
            let counted = self.counted(table, Some(format!("{}.gte.{yesterday}", name(column)))).await;
            overview.last_24h =
                self.unless_missing(table, &mut overview.problem, counted)?.map(|(_, count)| count);
            if overview.last_24h.is_some() {
                let newest = self.newest(table, column, None).await.map(|(_, newest)| newest);
                overview.newest_at = self.unless_missing(table, &mut overview.problem, newest)?.flatten();
            }
        }
        for count in &definition.dashboard.counts {
            let asked = Condition {
                column: count.column.clone(),
                compare: count.compare,
                value: count.value.clone(),
            };
            let counted = self.counted(table, Some(condition(table, &asked))).await;
            if let Some((_, counted)) = self.unless_missing(table, &mut overview.problem, counted)? {
                overview.counts.push((count.name.clone(), counted));
            }
        }
        let mut columns: Vec<&str> = definition.dashboard.breakdowns.iter().map(String::as_str).collect();
        while !columns.is_empty() {
            let counted = self.breakdowns(table, &columns).await;
            let missing = match &counted {
                Err(Refusal::Answer { error, .. }) => {
                    error.missing_column(table.source_name()).map(str::to_owned)
                }
                _ => None,
            };
            let asked = columns.len();
            columns.retain(|column| Some(definition.source_of(column)) != missing.as_deref());
            let breakdowns = self.unless_missing(table, &mut overview.problem, counted)?;
            if columns.len() == asked {
                overview.breakdowns = breakdowns.unwrap_or_default();
                break;
            }
        }
        Ok(overview)
    }

    /// What was found, or nothing and a word in `problem` where the table, a column of it or the time for it lacks.
    fn unless_missing<T>(
        &self,
        table: Table,
        problem: &mut Option<String>,
        outcome: Result<T, Refusal>,
    ) -> Result<Option<T>, Fault> {
        let what = format!("counting {table}");
        match outcome {
            Ok(found) => Ok(Some(found)),
            Err(refusal) if is_of_the_table(&refusal) => {
                let missing = match &refusal {
                    Refusal::Answer { error, .. } => {
                        error.missing_column(table.source_name()).map(str::to_owned)
                    }
                    _ => None,
                };
                note(
                    problem,
                    match missing {
                        Some(column) => format!("the project's table has no column {column}"),
                        None => told(&self.http.fault(&what, refusal)),
                    },
                );
                Ok(None)
            }
            Err(refusal) => Err(self.http.fault(&what, refusal)),
        }
    }

    /// Counts rows exactly, under a condition of a logic tree.
    pub(super) async fn counted(
        &self,
        table: Table,
        condition: Option<String>,
    ) -> Result<(Reply, u64), Refusal> {
        let definition = table.definition();
        let mut query: Parameters =
            vec![parameter("select", name(definition.key_source())), parameter("limit", 1)];
        query.extend(condition.map(|condition| parameter("and", format!("({condition})"))));
        let asked = Request {
            what: &format!("counting {table}"),
            path: definition.source_name(),
            schema: definition.source.schema.as_deref(),
            query: &query,
            prefer: "count=exact",
            accept: "application/json",
        };
        let total = |reply: &Reply| total(reply).ok_or(Unreadable::Not("a page with its Content-Range"));
        self.http.get(&asked, total).await
    }

    /// When the server was asked, and the newest of a column, where it is asked after an instant and up to another.
    pub(super) async fn newest(
        &self,
        table: Table,
        column: &str,
        within: Option<(DateTime<Utc>, DateTime<Utc>)>,
    ) -> Result<(DateTime<Utc>, Option<DateTime<Utc>>), Refusal> {
        let named = name(column);
        let mut query = vec![
            parameter("select", &named),
            parameter("order", format!("{named}.desc.nullslast")),
            parameter("limit", 1),
        ];
        query.extend(within.map(|(after, before)| {
            let [after, before] = [after, before].map(|at| quoted(&spelled(at, table)));
            parameter("and", format!("({named}.gt.{after},{named}.lte.{before})"))
        }));
        let schema = table.definition().source.schema.as_deref();
        let what = format!("looking for the newest of {table}");
        let (reply, rows) = self.rows(&what, table.source_name(), schema, &query).await?;
        let newest = rows.first().and_then(Json::members).and_then(|row| {
            let text = json::text(row.get(column)?)?;
            parse_instant(&text, table.zone())
        });
        Ok((reply.asked_at, newest))
    }

    /// Rows by the values of each of these columns.
    async fn breakdowns(&self, table: Table, columns: &[&str]) -> Result<Vec<Breakdown>, Refusal> {
        let definition = table.definition();
        let what = format!("counting {table} by {}", columns.join(" and "));
        let sources: Vec<&str> = columns.iter().map(|column| definition.source_of(column)).collect();
        let key = definition.key_source();
        let named = name(key);
        let select =
            std::iter::once(&key).chain(&sources).map(|source| name(source)).collect::<Vec<_>>().join(",");
        let mut counts: Vec<HashMap<String, u64>> = vec![HashMap::new(); columns.len()];
        let mut seen = 0;
        let mut last: Option<String> = None;
        while seen < MAX_ROWS {
            let mut query = vec![
                parameter("select", &select),
                parameter("order", format!("{named}.asc")),
                parameter("limit", PAGE),
            ];
            query
                .extend(last.as_ref().map(|last| parameter("and", format!("({named}.gt.{})", quoted(last)))));
            let schema = definition.source.schema.as_deref();
            let (_, rows) = self.rows(&what, table.source_name(), schema, &query).await?;
            let rows: Vec<Members<'_>> = rows.iter().filter_map(Json::members).collect();
            let next = rows.iter().rev().find_map(|row| row.get(key).map(spelt));
            if next.is_none() || next == last {
                break;
            }
            last = next;
            for row in &rows {
                seen += 1;
                for ((counts, column), source) in counts.iter_mut().zip(columns).zip(&sources) {
                    let value = row.get(source).map_or_else(|| format!("sem_{column}"), spelt);
                    *counts.entry(value).or_default() += 1;
                }
            }
        }
        let breakdown = |(column, counts): (&&str, _)| Breakdown {
            column: (*column).to_owned(),
            values: most_first(counts),
            rows: seen,
        };
        Ok(columns.iter().zip(counts).map(breakdown).collect())
    }
}

/// A value as its text, or as the server spelt it.
fn spelt(value: &str) -> String {
    json::text(value).map_or_else(|| value.to_owned(), std::borrow::Cow::into_owned)
}

fn note(problem: &mut Option<String>, said: String) {
    match problem {
        Some(problem) if problem.contains(&said) => {}
        Some(problem) => {
            problem.push_str("; ");
            problem.push_str(&said);
        }
        None => *problem = Some(said),
    }
}

fn most_first(counts: HashMap<String, u64>) -> Vec<(String, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

/// The total behind the slash: `0-0/42`, `*/0`.
pub(super) fn total(reply: &Reply) -> Option<u64> {
    reply.headers.get("content-range")?.to_str().ok()?.rsplit('/').next()?.parse().ok()
}
