//! Tools that tell how the source and the pipeline are.

use chrono::{DateTime, Utc};
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    engine::{Count, PipelineStatus, SinkLag},
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError},
        schema,
    },
    source::Overview,
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
    leads_total: u64,
    /// Leads with a score of at least 50.
    leads_qualified: u64,
    /// Qualified leads in percent of all leads, one decimal.
    qualification_rate: f64,
    /// Leads created in the last 24 hours.
    leads_last_24h: u64,
    sessions_total: u64,
    sessions_active: u64,
    /// Leads by status_lead, most first.
    by_status: Vec<Count>,
    /// Leads by origem, most first.
    by_origin: Vec<Count>,
    /// True when by_status and by_origin cover only a part of a very large table.
    breakdown_partial: bool,
    newest_lead_at: Option<DateTime<Utc>>,
    newest_session_at: Option<DateTime<Utc>>,
    /// When these numbers were taken.
    checked_at: DateTime<Utc>,
    warnings: Vec<String>,
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
        description = "Counts from Supabase itself, now: leads, qualified ones (score of at least 50), those of the last 24 hours, active chat sessions, leads by status and by origin, and how fresh the data is.",
        output_schema = schema::output::<Dashboard>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn get_supabase_dashboard(&self) -> Result<Answer<Dashboard>, ToolError> {
        let (health, overview) = self.engine.overview().await?;
        let warnings = health.warnings.iter().map(ToString::to_string).collect();
        let dashboard = dashboard(health.host, health.key, warnings, overview);
        Ok(Answer(dashboard))
    }

    #[tool(
        title = "Pipeline status",
        description = "Whether everything runs: Supabase, Kafka, Postgres and Elasticsearch each asked now, the drains of this server, \
            lag, dead letters and the latest syncs, with every problem and what to do about it.",
        output_schema = schema::output::<PipelineStatus>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn get_pipeline_status(&self) -> Result<Answer<PipelineStatus>, ToolError> {
        Ok(Answer(self.engine.status().await))
    }

    #[tool(
        title = "Kafka lag",
        description = "Records of the topic that each sink has still to apply, per partition, from the offsets it committed.",
        output_schema = schema::output::<LagAnswer>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn check_kafka_lag(&self) -> Result<Answer<LagAnswer>, ToolError> {
        let sinks = self.engine.lag().await?;
        let total = sinks.iter().map(|sink| sink.total).sum();
        Ok(Answer(LagAnswer { total, sinks }))
    }
}

#[allow(clippy::cast_precision_loss)]
fn dashboard(project: String, key: &str, warnings: Vec<String>, overview: Overview) -> Dashboard {
    let total = overview.leads_total;
    let rate = if total == 0 { 0.0 } else { overview.leads_qualified as f64 * 100.0 / total as f64 };
    Dashboard {
        project,
        key: key.to_owned(),
        leads_total: total,
        leads_qualified: overview.leads_qualified,
        qualification_rate: (rate * 10.0).round() / 10.0,
        leads_last_24h: overview.leads_last_24h,
        sessions_total: overview.sessions_total,
        sessions_active: overview.sessions_active,
        by_status: shortened(overview.by_status),
        by_origin: shortened(overview.by_origin),
        breakdown_partial: overview.breakdown_rows < total,
        newest_lead_at: overview.newest_lead_at,
        newest_session_at: overview.newest_session_at,
        checked_at: Utc::now(),
        warnings,
    }
}

fn shortened(counts: Vec<(String, u64)>) -> Vec<Count> {
    let rest: u64 = counts.iter().skip(SHOWN).map(|(_, count)| count).sum();
    let mut shown: Vec<Count> =
        counts.into_iter().take(SHOWN).map(|(name, count)| Count { name, count }).collect();
    if rest > 0 {
        shown.push(Count { name: "(outros)".to_owned(), count: rest });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_project_has_a_rate_of_zero_and_a_long_tail_is_summed_up() {
        let overview = Overview {
            leads_total: 0,
            leads_qualified: 0,
            leads_last_24h: 0,
            sessions_total: 0,
            sessions_active: 0,
            by_status: (0..25).map(|i| (format!("s{i}"), 2)).collect(),
            by_origin: Vec::new(),
            breakdown_rows: 0,
            newest_lead_at: None,
            newest_session_at: None,
        };
        let dashboard = dashboard("p".into(), "secret", Vec::new(), overview);
        assert!(dashboard.qualification_rate.abs() < f64::EPSILON && !dashboard.breakdown_partial);
        assert_eq!(dashboard.by_status.len(), 21);
        assert_eq!(dashboard.by_status[20], Count { name: "(outros)".into(), count: 10 });
    }
}
