//! Tools that start, follow and stop syncs.

use std::time::Duration;

use async_trait::async_trait;
use rmcp::{
    RoleServer,
    model::{JsonObject, ProgressNotificationParam, ProgressToken},
    service::RequestContext,
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::waiting::{LONGEST_WAIT, default_wait, patience};
use crate::{
    domain::{Compare, TableName},
    engine::{SyncPhase, SyncStatus, SyncWatcher, table_named},
    index::ValueCounts,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        next_step::worded,
        schema, tasks,
    },
    next_step::NextStep,
    source::Condition,
    store::{ReconcileReport, SyncRequest},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SyncLeadsArgs {
    /// New events to append at most. Default 100.
    #[serde(default = "default_leads")]
    #[schemars(range(min = 1, max = 1_000_000))]
    limit: u32,
    /// How far back to look for changed leads, in hours. Default 24.
    #[serde(default = "default_hours")]
    #[schemars(range(min = 1, max = 876_600))]
    hours_ago: u32,
    /// Only leads with this status_lead, for example "qualificado".
    #[serde(default)]
    status: Option<String>,
    /// Wait (20 s at most) until the leads can be queried in every sink. Default true.
    #[serde(default = "default_wait")]
    wait: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SyncSessionsArgs {
    /// New events to append at most. Default 50.
    #[serde(default = "default_sessions")]
    #[schemars(range(min = 1, max = 1_000_000))]
    limit: u32,
    /// How far back to look for sessions, in hours. Default 24.
    #[serde(default = "default_hours")]
    #[schemars(range(min = 1, max = 876_600))]
    hours_ago: u32,
    /// Only sessions with at least this many messages.
    #[serde(default)]
    min_messages: Option<u32>,
    /// Wait (20 s at most) until the sessions can be queried in every sink. Default true.
    #[serde(default = "default_wait")]
    wait: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SyncIdArgs {
    /// The id a sync tool answered with.
    #[schemars(with = "Uuid")]
    sync_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetSyncArgs {
    /// The id a sync tool answered with.
    #[schemars(with = "Uuid")]
    sync_id: String,
    /// Wait (20 s at most) until the sync is done. Default false.
    #[serde(default)]
    wait: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SyncTableArgs {
    /// A table's name, as the dashboard lists them.
    table: String,
    /// New events to append at most. Default 100.
    #[serde(default = "default_leads")]
    #[schemars(range(min = 1, max = 1_000_000))]
    limit: u32,
    /// How far back to look for changed rows, in hours. Default 24.
    #[serde(default = "default_hours")]
    #[schemars(range(min = 1, max = 876_600))]
    hours_ago: u32,
    /// Only rows that meet all of these.
    #[serde(default)]
    filter: Vec<ColumnFilter>,
    /// Wait (20 s at most) until the rows can be queried in every sink. Default true.
    #[serde(default = "default_wait")]
    wait: bool,
}

/// What a column must be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ColumnFilter {
    column: String,
    /// Default eq.
    #[serde(default = "default_compare")]
    compare: Compare,
    value: String,
}

impl From<ColumnFilter> for Condition {
    fn from(filter: ColumnFilter) -> Self {
        Self { column: filter.column, compare: filter.compare, value: filter.value }
    }
}

fn default_compare() -> Compare {
    Compare::Eq
}

fn default_leads() -> u32 {
    100
}

fn default_sessions() -> u32 {
    50
}

fn default_hours() -> u32 {
    24
}

/// A sync, and what to do next.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SyncAnswer {
    #[serde(flatten)]
    sync: SyncStatus,
    /// Why not all rows may have been read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// The values that there are instead of one that was asked for and no row has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    existing: Vec<ValueCounts>,
    /// What to call next, if anything.
    next_step: Option<String>,
}

/// What a program checks of a sync that it starts. The answer is all that get_sync declares, which needs to be listed once.
#[derive(JsonSchema)]
#[allow(dead_code)] // a schema, never a value
pub(super) struct SyncBegun {
    sync_id: Uuid,
    state: SyncPhase,
    appended: u64,
    more: bool,
    next_step: Option<String>,
}

/// What became of a request to cancel.
#[derive(Debug, Serialize, JsonSchema)]
struct CancelAnswer {
    sync_id: Uuid,
    /// The sync was running and stops before its next page.
    cancelling: bool,
    /// How the sync stands now.
    state: SyncPhase,
}

#[tool_router(router = sync_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Sync leads from Supabase",
        description = "Reads leads changed in the last `hours_ago` hours from Supabase, appends each new version once to the log, and waits until every sink has it. Safe to repeat. \
            Example: {\"hours_ago\": 48, \"limit\": 500, \"status\": \"qualificado\"}",
        input_schema = schema::input::<SyncLeadsArgs>(),
        output_schema = schema::output::<SyncBegun>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = true)
    )]
    async fn sync_leads_from_supabase(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<SyncAnswer>, ToolError> {
        let args: SyncLeadsArgs = arguments(given)?;
        let conditions = self.named_filters("leads", [("status", args.status)])?;
        let request = request("leads", args.hours_ago, args.limit, conditions);
        self.sync(request, args.wait, &context).await
    }

    #[tool(
        title = "Sync chat sessions from Supabase",
        description = "As sync_leads_from_supabase, of chat sessions started in the last `hours_ago` hours and those still active. \
            Example: {\"hours_ago\": 24, \"min_messages\": 3}",
        input_schema = schema::input::<SyncSessionsArgs>(),
        output_schema = schema::output::<SyncBegun>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = true)
    )]
    async fn sync_chat_sessions_from_supabase(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<SyncAnswer>, ToolError> {
        let args: SyncSessionsArgs = arguments(given)?;
        let least = args.min_messages.map(|least| least.to_string());
        let conditions = self.named_filters("chat_sessions", [("min_messages", least)])?;
        let request = request("chat_sessions", args.hours_ago, args.limit, conditions);
        self.sync(request, args.wait, &context).await
    }

    #[tool(
        title = "Sync any table from Supabase",
        description = "As the two tools above, for any defined table. Example: {\"table\": \"chat_messages\", \"hours_ago\": 48, \"filter\": [{\"column\": \"papel\", \"value\": \"visitante\"}]}",
        input_schema = schema::input::<SyncTableArgs>(),
        output_schema = schema::output::<SyncBegun>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = true)
    )]
    async fn sync_table(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<SyncAnswer>, ToolError> {
        let args: SyncTableArgs = arguments(given)?;
        let conditions = args.filter.into_iter().map(Condition::from).collect();
        let request = request(&args.table, args.hours_ago, args.limit, conditions);
        self.sync(request, args.wait, &context).await
    }

    #[tool(
        title = "Get a sync",
        description = "How a sync stands: rows read, events appended, and for each sink how many records are still to be applied.",
        input_schema = schema::input::<GetSyncArgs>(),
        output_schema = schema::output::<SyncAnswer>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn get_sync(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<SyncAnswer>, ToolError> {
        let args: GetSyncArgs = arguments(given)?;
        let id = sync_id(&args.sync_id)?;
        let mut progress = Progress::of(&context);
        let status = self.engine.syncs.wait_for(id, patience(args.wait), &mut progress).await?;
        Ok(self.answer(status).await)
    }

    #[tool(
        title = "Cancel a sync",
        description = "Stops a running sync before its next page; what it appended stays.",
        input_schema = schema::input::<SyncIdArgs>(),
        output_schema = schema::output::<CancelAnswer>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn cancel_sync(&self, given: JsonObject) -> Result<Answer<CancelAnswer>, ToolError> {
        let args: SyncIdArgs = arguments(given)?;
        let id = sync_id(&args.sync_id)?;
        let cancelling = self.engine.syncs.cancel(id).await?;
        let state = self.engine.syncs.status(id).await?.state;
        Ok(Answer(CancelAnswer { sync_id: id, cancelling, state }))
    }
}

fn request(table: &str, hours_ago: u32, limit: u32, conditions: Vec<Condition>) -> SyncRequest {
    let table = TableName(table.to_owned());
    SyncRequest {
        table,
        hours_ago,
        limit,
        conditions,
        resume: false,
        reappend: false,
        reconcile: None,
        since: None,
    }
}

impl SluiceServer {
    /// The conditions that a table's definition has under these names, for those that were given a value.
    pub(super) fn named_filters<const N: usize>(
        &self,
        table: &str,
        given: [(&str, Option<String>); N],
    ) -> Result<Vec<Condition>, ToolError> {
        let table = table_named(self.engine.catalog, &TableName(table.to_owned()))?;
        given
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .map(|(name, value)| match table.filters.get(name) {
                _ if value.trim().is_empty() => {
                    Err(ToolError::argument(name, "is empty; leave it out to sync every row"))
                }
                Some(filter) => {
                    Ok(Condition { column: filter.column.clone(), compare: filter.compare, value })
                }
                None => Err(ToolError::argument(
                    name,
                    format!("the definition of {table} has no such filter; leave it out, or use sync_table's filter"),
                )),
            })
            .collect()
    }

    async fn sync(
        &self,
        request: SyncRequest,
        wait: bool,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer<SyncAnswer>, ToolError> {
        let (table, conditions) = (request.table.clone(), request.conditions.clone());
        let id = self.engine.syncs.start(request).await?;
        let status = self.begun(id, wait, context).await?;
        let found_none = status.state == SyncPhase::Done && status.rows_read == 0;
        let mut answer = self.answer(status).await;
        if found_none {
            let existing = self.engine.questions.existing_beside(&table, &conditions).await;
            answer.0.existing = self.masked(existing);
        }
        Ok(answer)
    }

    /// How a sync is that a call began, once it has ended or the call waits no longer.
    pub(super) async fn begun(
        &self,
        id: Uuid,
        wait: bool,
        context: &RequestContext<RoleServer>,
    ) -> Result<SyncStatus, ToolError> {
        let syncs = &self.engine.syncs;
        let patience = if wait { tasks::patience(context, LONGEST_WAIT) } else { Duration::ZERO };
        let mut progress = Progress::of(context);
        let waiting = syncs.wait_for(id, patience, &mut progress);
        let status = match context.ct.run_until_cancelled(waiting).await {
            Some(status) => status,
            // The client took its request back: stop the work it asked for, too.
            None => match syncs.cancel(id).await {
                Ok(_) => syncs.status(id).await,
                Err(error) => Err(error),
            },
        };
        let whose = || [format!("it is about the sync {id}, which was begun: follow it with get_sync")];
        status.map_err(|error| ToolError::from(error).with_causes(&whose()))
    }

    pub(super) async fn answer(&self, sync: SyncStatus) -> Answer<SyncAnswer> {
        let mut warnings = Vec::new();
        if sync.state != SyncPhase::Running {
            let spots = self.engine.inspection.blind_spots(&sync.table).await;
            warnings.extend(spots.into_iter().map(|spot| spot.worded(worded)));
        }
        if sync.state == SyncPhase::Done {
            let lack = self.engine.inspection.unfilled(&sync).await;
            warnings.extend(lack.map(|lack| lack.worded(worded)));
        }
        if sync.state == SyncPhase::Done && sync.parked.is_none() {
            warnings.push(format!("how many rows of {} are parked could not be told", sync.table));
        }
        if let Some(parked @ 1..) = sync.parked {
            warnings.push(format!(
                "{parked} rows of {} are parked as dead letters, what a sink could not take among them",
                sync.table
            ));
        }
        if let Some(began) = sync.reconcile.as_ref().and_then(|report| report.resumed_from) {
            warnings.push(format!(
                "it went on with a reading of {}: rows inserted, changed or deleted since may be lacking; a sync brings those \
                 with a new time, a reconciliation without resume all",
                began.format("%Y-%m-%dT%H:%M:%SZ")
            ));
        }
        let next_step = self.next_step(&sync).await;
        Answer(SyncAnswer { sync, warnings, existing: Vec::new(), next_step })
    }

    async fn next_step(&self, sync: &SyncStatus) -> Option<String> {
        match sync.state {
            SyncPhase::Running => {
                Some("Call get_sync with this sync_id to follow it, or cancel_sync to stop it.".to_owned())
            }
            SyncPhase::Draining => {
                let sinks: Vec<&str> =
                    sync.sinks.iter().filter(|sink| !sink.queryable).map(|sink| sink.sink.as_str()).collect();
                let stuck = self.engine.drains.stuck(&sinks).await;
                if stuck.is_empty() {
                    return Some("Everything is in the log; call get_sync with wait=true.".to_owned());
                }
                let stuck: Vec<String> = stuck.into_iter().map(|one| one.worded(worded)).collect();
                Some(format!("Everything is in the log, and waits there: {}", stuck.join("; ")))
            }
            SyncPhase::Failed
                if let Some(gone) = sync.reconcile.as_ref().and_then(ReconcileReport::unallowed) =>
            {
                Some(format!(
                    "{gone} rows were not removed. Look at the source: a key that sees only some rows looks the same. If they are really gone, ask the user, then call reconcile_table with allow_deletes: {gone}."
                ))
            }
            SyncPhase::Done if sync.more => {
                Some("The source has more: call the same tool again to go on.".to_owned())
            }
            SyncPhase::Done if sync.parked.is_some_and(|parked| parked > 0) => {
                Some(worded(&NextStep::SettleLetters))
            }
            SyncPhase::Done => None,
            SyncPhase::Failed => Some(
                "Mend what error names; the same tool, called again, goes on from where this one stopped."
                    .to_owned(),
            ),
            SyncPhase::Cancelled | SyncPhase::Interrupted => {
                Some("Call the same tool again to go on from where it stopped.".to_owned())
            }
        }
    }
}

/// Progress notifications, where the client asked for them.
pub(super) struct Progress<'a> {
    context: &'a RequestContext<RoleServer>,
    token: Option<ProgressToken>,
    steps: f64,
}

impl<'a> Progress<'a> {
    pub(super) fn of(context: &'a RequestContext<RoleServer>) -> Self {
        Self { context, token: context.meta.get_progress_token(), steps: 0.0 }
    }
}

#[async_trait]
impl SyncWatcher for Progress<'_> {
    async fn saw(&mut self, status: &SyncStatus) {
        let pending: i64 = status.sinks.iter().filter_map(|sink| sink.pending).max().unwrap_or(0);
        let message = format!(
            "{}: {} rows read, {} new events, {pending} records to apply",
            phase(status.state),
            status.rows_read,
            status.appended
        );
        self.say(message).await;
    }
}

impl Progress<'_> {
    /// Tells how far it is.
    pub(super) async fn say(&mut self, message: String) {
        tasks::tell(self.context, &message);
        let Some(token) = self.token.clone() else { return };
        // The protocol wants a number that only grows; rows and pending records don't share one.
        self.steps += 1.0;
        let note = ProgressNotificationParam::new(token, self.steps).with_message(message);
        // A client that went away is noticed by the call itself.
        self.context.peer.notify_progress(note).await.ok();
    }
}

fn sync_id(text: &str) -> Result<Uuid, ToolError> {
    Uuid::parse_str(text.trim()).map_err(|_| {
        ToolError::argument("sync_id", "is not a UUID; give the sync_id that a sync tool answered with")
    })
}

fn phase(phase: SyncPhase) -> &'static str {
    match phase {
        SyncPhase::Running => "running",
        SyncPhase::Draining => "draining",
        SyncPhase::Done => "done",
        SyncPhase::Failed => "failed",
        SyncPhase::Cancelled => "cancelled",
        SyncPhase::Interrupted => "interrupted",
    }
}
