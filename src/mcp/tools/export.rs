//! The tool that makes files of any number of rows.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rmcp::{RoleServer, model::JsonObject, service::RequestContext, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{query::LONGEST_STATEMENT, sync::Progress, waiting::LONGEST_WAIT};
use crate::{
    engine::{ExportOf, ExportRequest, ExportState, ExportWatcher},
    export::{Format, KeptExport, Reader},
    index::{SearchRequest, Sort, ValueCounts},
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments, index_named},
        export,
        principal::Principal,
        schema, tasks,
    },
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExportArgs {
    /// Instead of table.
    #[serde(default)]
    sql: Option<String>,
    #[serde(default)]
    table: Option<String>,
    /// Of table, as in search_elasticsearch.
    #[serde(default)]
    query: Option<String>,
    /// Default csv; excel: for Excel in Brazil.
    #[serde(default)]
    #[schemars(schema_with = "format_schema")]
    format: Format,
    /// Alone: waits for one that runs.
    #[serde(default)]
    id: Option<String>,
}

/// In one line: the formats explain themselves.
fn format_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "enum": ["csv", "excel", "ndjson"]})
}

/// What a program checks of an export.
#[derive(JsonSchema)]
#[allow(dead_code)] // a schema, never a value
struct ExportTold {
    complete: bool,
    uri: String,
}

/// An export, whole or still being made.
#[derive(Debug, Serialize)]
struct ExportAnswer {
    id: Uuid,
    /// Every row is in the file.
    complete: bool,
    rows: u64,
    bytes: Option<u64>,
    format: Option<Format>,
    /// Where clients read it, a part after the other.
    uri: String,
    /// Where it lies, over stdio.
    path: Option<String>,
    /// Where it is fetched, over HTTP, with the same token.
    link: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    /// The values that a field has instead of one that was asked for and nobody has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    existing: Vec<ValueCounts>,
    /// What the rows may lack and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    behind: Vec<String>,
    next_step: Option<&'static str>,
}

#[tool_router(router = export_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Export to a file",
        description = "All rows of a table, SQL or search in a file; give the user its path or link. Example: {\"table\": \"leads\", \"format\": \"excel\"}",
        input_schema = schema::input::<ExportArgs>(),
        output_schema = schema::output::<ExportTold>(),
        // It writes only a file of its own, that expires.
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn export(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<ExportAnswer>, ToolError> {
        let args: ExportArgs = arguments(given)?;
        let principal = Principal::of(&context.extensions);
        let reader = export::reader(&principal, self.outgoing.sees_contacts());
        let id = match &args.id {
            Some(_) if args.sql.is_some() || args.table.is_some() || args.query.is_some() => {
                return Err(ToolError::argument("id", "stands alone: it is of an export that was begun"));
            }
            Some(id) => export_id(id)?,
            None => {
                let (of, name) = self.export_of(&args)?;
                let mask = Arc::new(self.outgoing.clone());
                let request = ExportRequest { of, format: args.format, mask, step: LONGEST_STATEMENT };
                self.engine.exports.start(request, &reader.owner, &name, args.table)
            }
        };
        let asked = self.engine.exports.asked(id, &reader.owner);
        let (of, table) = asked.map_or((None, None), |(of, table)| (Some(of), table));
        // Whoever takes the call back, or is gone, wants no file.
        let token = if args.id.is_none() { self.engine.exports.cancellation(id) } else { None };
        let guard = token.map(CancellationToken::drop_guard);
        let waited = context
            .ct
            .run_until_cancelled(self.export_state(id, &reader, &context))
            .await
            .unwrap_or_else(|| Err(ToolError::argument("id", tasks::TAKEN_BACK)))?;
        if let Some(guard) = guard {
            guard.disarm();
        }
        let mut behind: Vec<String> = match &of {
            Some(ExportOf::Search(search)) => {
                let lacks = self.engine.questions.index_lacks(search.index).await;
                lacks.into_iter().map(|lack| lack.worded(crate::mcp::next_step::worded)).collect()
            }
            Some(ExportOf::Sql(statement)) => {
                let trimmed = self.engine.questions.trimmed_in(statement).await;
                let trimmed = trimmed.map(|lack| lack.worded(crate::mcp::next_step::worded));
                self.store_lacks().await.into_iter().chain(trimmed).collect()
            }
            None => Vec::new(),
        };
        let parked = self.engine.questions.parked(table.as_deref()).await;
        behind.extend(parked.map(|parked| parked.worded(crate::mcp::next_step::worded)));
        Ok(Answer(match waited {
            ExportState::Running(rows) => ExportAnswer {
                id,
                complete: false,
                rows,
                bytes: None,
                format: None,
                uri: uri(id),
                path: None,
                link: None,
                expires_at: None,
                existing: Vec::new(),
                behind,
                next_step: Some("It is not complete: call export with this id until it is."),
            },
            ExportState::Done(kept) => {
                let existing = match &of {
                    // The file is there whether or not the index still answers.
                    Some(ExportOf::Search(search)) if kept.rows == 0 => {
                        self.engine.questions.existing(search).await.unwrap_or_default()
                    }
                    _ => Vec::new(),
                };
                ExportAnswer { existing: self.masked(existing), ..self.told(&kept, behind, &context) }
            }
        }))
    }
}

impl SluiceServer {
    fn export_of(&self, args: &ExportArgs) -> Result<(ExportOf, String), ToolError> {
        let query = args.query.as_deref().filter(|query| !query.trim().is_empty());
        match (&args.sql, &args.table, query) {
            (Some(sql), None, None) => Ok((ExportOf::Sql(sql.clone()), "consulta".to_owned())),
            (None, table, Some(query)) => {
                let index = index_named(self.engine.catalog, "table", table.as_deref().unwrap_or("leads"))?;
                let search = SearchRequest {
                    index,
                    query: Some(query.to_owned()),
                    sort: Sort::Newest,
                    from: 0,
                    size: 0,
                    count_by: Vec::new(),
                    count_by_day: false,
                    zone: self.engine.zone,
                };
                Ok((ExportOf::Search(search), index.as_str().to_owned()))
            }
            (None, Some(table), None) => Ok((self.engine.exports.of_table(table)?, table.clone())),
            _ => Err(ToolError::argument("table", "give a table, a table and a query, or sql alone")),
        }
    }

    async fn export_state(
        &self,
        id: Uuid,
        reader: &Reader,
        context: &RequestContext<RoleServer>,
    ) -> Result<ExportState, ToolError> {
        let patience: Duration = tasks::patience(context, LONGEST_WAIT);
        let mut progress = Progress::of(context);
        let found = self.engine.exports.wait_for(id, reader, patience, &mut progress).await?;
        found.ok_or_else(|| {
            ToolError::argument(
                "id",
                "there is no such export: it has expired, a person was erased since, or it is another client's; export again",
            )
        })
    }

    fn told(
        &self,
        kept: &KeptExport,
        behind: Vec<String>,
        context: &RequestContext<RoleServer>,
    ) -> ExportAnswer {
        ExportAnswer {
            id: kept.id,
            complete: true,
            rows: kept.rows,
            bytes: Some(kept.bytes),
            format: Some(kept.format),
            uri: uri(kept.id),
            path: self.export_path(kept, &context.extensions),
            link: export::link(&context.extensions, kept.id),
            expires_at: Some(kept.expires_at),
            existing: Vec::new(),
            behind,
            next_step: matches!(Principal::of(&context.extensions), Principal::Token(_)).then_some(
                "The link answers to this client's token alone, as a Bearer header; whoever has none reads uri.",
            ),
        }
    }
}

#[async_trait]
impl ExportWatcher for Progress<'_> {
    async fn saw(&mut self, rows: u64) {
        self.say(format!("{rows} rows written")).await;
    }
}

fn uri(id: Uuid) -> String {
    format!("sluice://exports/{id}")
}

fn export_id(text: &str) -> Result<Uuid, ToolError> {
    Uuid::parse_str(text.trim())
        .map_err(|_| ToolError::argument("id", "is not a UUID; give the id that export answered with"))
}
