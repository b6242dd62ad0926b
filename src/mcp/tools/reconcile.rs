//! The tool that compares a whole table with both sinks, and mends what differs.

use rmcp::{RoleServer, model::JsonObject, service::RequestContext, tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    sync::{SyncAnswer, SyncBegun},
    waiting::default_wait,
};
use crate::{
    domain::TableName,
    engine::table_named,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        consent, schema,
    },
    store::Reconciliation,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReconcileArgs {
    /// A table's name, as the dashboard lists them.
    table: String,
    /// The number of gone rows that it stopped at, to have them removed.
    #[serde(default)]
    allow_deletes: Option<u64>,
    /// Go on where the last one broke off; proves the table as of then (`resumed_from`).
    #[serde(default)]
    resume: bool,
    /// Wait (20 s at most) until it has ended. Default true.
    #[serde(default = "default_wait")]
    wait: bool,
    /// The user agreed to `allow_deletes`; needed where this client can't ask.
    #[serde(default)]
    confirm: Option<bool>,
}

#[tool_router(router = reconcile_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Reconcile a table",
        description = "Proves that the sinks have what the source has: reads the whole table, appends what differs, removes \
            what is gone, compares every key, version and newest event (not contents), repairs, and reports (unexplained is 0, \
            or it failed). Follow it with get_sync. Example: {\"table\": \"leads\"}",
        input_schema = schema::input::<ReconcileArgs>(),
        output_schema = schema::output::<SyncBegun>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = true)
    )]
    async fn reconcile_table(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<SyncAnswer>, ToolError> {
        let args: ReconcileArgs = arguments(given)?;
        let table = TableName(args.table);
        let known = table_named(self.engine.catalog, &table)?;
        if let Some(rows) = args.allow_deletes {
            let what = format!(
                "removes up to {rows} rows of {known} that are gone at the source from the store and the index; their \
                 events stay"
            );
            consent::ask(&context, args.confirm, &what).await?;
        }
        let asked = Reconciliation { allow_deletes: args.allow_deletes, resume: args.resume };
        let id = self.engine.syncs.reconcile(&table, asked).await?;
        let status = self.begun(id, args.wait, &context).await?;
        Ok(self.answer(status).await)
    }
}
