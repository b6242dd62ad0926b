//! The tool that lets syncs run by themselves.

use rmcp::{RoleServer, model::JsonObject, service::RequestContext, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operate::operator;
use crate::{
    domain::TableName,
    engine::ScheduleStatus,
    index::ValueCounts,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        schema,
    },
    store::SyncRequest,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleArgs {
    /// A table's name.
    table: String,
    /// Seconds between two runs, 0.25 to 604,800; 0 removes the schedule.
    #[schemars(range(min = 0, max = 604_800))]
    every_seconds: f64,
    /// How far back the first run looks, in hours. Default 24.
    #[serde(default = "default_hours")]
    #[schemars(range(min = 1, max = 876_600))]
    hours_ago: u32,
    /// New events a run appends at most. Default 1,000,000.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 1_000_000))]
    limit: u32,
    /// Only leads with this status_lead.
    #[serde(default)]
    status: Option<String>,
    /// Only chat sessions with at least this many messages.
    #[serde(default)]
    min_messages: Option<u32>,
}

fn default_hours() -> u32 {
    24
}

fn default_limit() -> u32 {
    1_000_000
}

/// The schedules as they are now.
#[derive(Debug, Serialize, JsonSchema)]
struct ScheduleAnswer {
    /// created_or_replaced, removed, or unchanged where there was none to remove.
    outcome: &'static str,
    /// Every schedule, by table.
    schedules: Option<Vec<ScheduleStatus>>,
    /// Values there are, where no row has the one that is asked for: check the spelling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    existing: Vec<ValueCounts>,
}

#[tool_router(router = schedule_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Schedule a sync",
        description = "Has a table's sync run every N seconds, in any serving or worker process, each run going on where the last stopped; replaces or (0) removes the table's schedule. One run makes up for missed ones. \
            Without conditions the table is also reconciled each night. \
            Example: {\"table\": \"leads\", \"every_seconds\": 900}",
        input_schema = schema::input::<ScheduleArgs>(),
        output_schema = schema::output::<ScheduleAnswer>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = true)
    )]
    async fn schedule_sync(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<ScheduleAnswer>, ToolError> {
        let args: ScheduleArgs = arguments(given)?;
        let (table, every) = (TableName(args.table), args.every_seconds);
        let mut existing = Vec::new();
        let outcome = if every == 0.0 {
            if self.engine.schedules.remove(&table).await? { "removed" } else { "unchanged" }
        } else {
            let least = args.min_messages.map(|least| least.to_string());
            let conditions =
                self.named_filters(&table.0, [("status", args.status), ("min_messages", least)])?;
            let (hours_ago, limit) = (args.hours_ago, args.limit);
            let request = SyncRequest {
                table: table.clone(),
                hours_ago,
                limit,
                conditions,
                resume: true,
                reappend: false,
                reconcile: None,
                since: None,
            };
            self.engine.schedules.put(&request, every, &operator(&context)).await?;
            existing = self.masked(self.engine.questions.existing_beside(&table, &request.conditions).await);
            "created_or_replaced"
        };
        let schedules = self.engine.schedules.list().await.ok();
        Ok(Answer(ScheduleAnswer { outcome, schedules, existing }))
    }
}
