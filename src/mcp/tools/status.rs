//! Tools that tell how the source and the pipeline are.

use chrono::{DateTime, Utc};
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    engine::{Count, PipelineStatus, SinkLag},
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError},
        bounded::{LONGEST_VALUE, shorten},
        next_step::worded,
        output::Outgoing,
        schema,
    },
    source::{Breakdown, TableOverview},
};

/// Statuses and origins shown, most first; the rest is summed up.
const SHOWN: usize = 20;

/// The source at a glance.
#[derive(Debug, Serialize, JsonSchema)]
struct Dashboard {
    /// The Supabase project's host.
    project: String,
    /// The kind of key in use.
    key: String,
    tables: Vec<TableCounts>,
    /// When these numbers were taken.
    checked_at: DateTime<Utc>,
    /// What of the log is not in the store or the index yet, and why: what is counted here may not be found there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    behind: Vec<String>,
    warnings: Vec<String>,
}

/// One table at a glance.
#[derive(Debug, Serialize, JsonSchema)]
struct TableCounts {
    table: String,
    /// Absent where the table can't be counted.
    total: Option<u64>,
    /// Rows created in the last 24 hours.
    last_24h: Option<u64>,
    /// What the table's definition counts, such as qualified leads, and what percentage of all rows that is.
    counts: Vec<NamedCount>,
    /// Rows by the values of a column, most first.
    breakdowns: Vec<ColumnCounts>,
    newest_at: Option<DateTime<Utc>>,
    /// What is missing and what to do.
    problem: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct NamedCount {
    name: String,
    count: u64,
    /// One decimal.
    percent: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ColumnCounts {
    column: String,
    values: Vec<Count>,
    /// True when they cover only a part of a very large table.
    partial: bool,
}

/// Every sink's lag.
#[derive(Debug, Serialize, JsonSchema)]
struct LagAnswer {
    /// Records still to be applied, over all sinks.
    total: i64,
    sinks: Vec<SinkLag>,
}

#[tool_router(router = status_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Supabase dashboard",
        description = "Counts from Supabase itself, now: rows of each table, those of the last 24 hours, qualified leads, active sessions, leads by status and origin, and how fresh it is.",
        output_schema = schema::output::<Dashboard>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn get_supabase_dashboard(&self) -> Result<Answer<Dashboard>, ToolError> {
        let (health, overview) = self.engine.project.overview().await?;
        let warnings = health.warnings.iter().map(ToString::to_string).collect();
        let dashboard = Dashboard {
            project: health.host,
            key: health.key.to_owned(),
            tables: overview.into_iter().map(|table| table_counts(table, &self.outgoing)).collect(),
            checked_at: Utc::now(),
            behind: self
                .engine
                .drains
                .all_behind()
                .await
                .into_iter()
                .map(|lack| lack.worded(worded))
                .collect(),
            warnings,
        };
        Ok(Answer(dashboard))
    }

    #[tool(
        title = "Pipeline status",
        description = "Whether everything runs and all is there: every part asked now, each table's rows at the source, in store and \
            index, parked and not read yet, lag, drains, schedules, dead letters and the latest syncs, with every problem and what to do.",
        output_schema = schema::output::<PipelineStatus>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn get_pipeline_status(&self) -> Result<Answer<PipelineStatus>, ToolError> {
        Ok(Answer(self.engine.inspection.status().await.worded(worded)))
    }

    #[tool(
        title = "Kafka lag",
        description = "Records of the topic that each sink has still to apply, per partition, from the offsets it committed.",
        output_schema = schema::output::<LagAnswer>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn check_kafka_lag(&self) -> Result<Answer<LagAnswer>, ToolError> {
        let sinks = self.engine.drains.lag().await?;
        let total = sinks.iter().map(|sink| sink.total).sum();
        Ok(Answer(LagAnswer { total, sinks }))
    }
}

fn table_counts(overview: TableOverview, outgoing: &Outgoing) -> TableCounts {
    let total = overview.total;
    let named =
        |(name, count)| NamedCount { name, count, percent: percent(count, total.unwrap_or_default()) };
    let column = |breakdown: Breakdown| ColumnCounts {
        partial: total.is_some_and(|total| breakdown.rows < total),
        values: shortened(&breakdown.column, breakdown.values, outgoing),
        column: breakdown.column,
    };
    TableCounts {
        table: overview.table,
        total,
        last_24h: overview.last_24h,
        counts: overview.counts.into_iter().map(named).collect(),
        breakdowns: overview.breakdowns.into_iter().map(column).collect(),
        newest_at: overview.newest_at,
        problem: overview.problem,
    }
}

#[allow(clippy::cast_precision_loss)]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1000.0 / whole as f64).round() / 10.0 }
}

fn shortened(column: &str, counts: Vec<(String, u64)>, outgoing: &Outgoing) -> Vec<Count> {
    let rest: u64 = counts.iter().skip(SHOWN).map(|(_, count)| count).sum();
    let shown = counts.into_iter().take(SHOWN).map(|(name, count)| {
        let mut value = Value::from(name);
        // What is to be masked is found only where it is whole.
        outgoing.field(column, &mut value);
        shorten(&mut value, LONGEST_VALUE);
        Count { name: value.as_str().unwrap_or_default().to_owned(), count }
    });
    let mut shown: Vec<Count> = shown.collect();
    if rest > 0 {
        shown.push(Count { name: "(outros)".to_owned(), count: rest });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Catalog, mcp::output::Masking};

    fn told(overview: TableOverview) -> TableCounts {
        let catalog = Catalog::built_in();
        table_counts(overview, &Outgoing::new(Some(Masking::of(catalog)), catalog))
    }

    #[test]
    fn a_long_value_is_masked_and_cut() {
        let long = format!("{} ana@exemplo.com.br {}", "é".repeat(LONGEST_VALUE - 8), "é".repeat(60_000));
        let breakdown = Breakdown { column: "origem".into(), values: vec![(long, 2)], rows: 2 };
        let counts = told(TableOverview { breakdowns: vec![breakdown], ..TableOverview::default() });
        let name = &counts.breakdowns[0].values[0].name;
        assert!(name.ends_with(" characters)") && !name.contains("ana@"), "{name}");
        assert!(name.len() < 3 * LONGEST_VALUE, "{} bytes", name.len());
    }

    #[test]
    fn an_empty_table_has_a_rate_of_zero_and_a_long_tail_is_summed_up() {
        let overview = TableOverview {
            table: "leads".into(),
            total: Some(0),
            counts: vec![("qualified".into(), 0)],
            breakdowns: vec![Breakdown {
                column: "status_lead".into(),
                values: (0..25).map(|i| (format!("s{i}"), 2)).collect(),
                rows: 0,
            }],
            ..TableOverview::default()
        };
        let counts = told(overview);
        assert!(counts.counts[0].percent.abs() < f64::EPSILON && !counts.breakdowns[0].partial);
        let values = &counts.breakdowns[0].values;
        assert_eq!(values.len(), 21);
        assert_eq!(values[20], Count { name: "(outros)".into(), count: 10 });
    }
}
