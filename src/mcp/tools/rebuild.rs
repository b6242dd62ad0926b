//! The tool that builds indices anew.

use rmcp::{RoleServer, model::JsonObject, service::RequestContext, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::waiting::LONGEST_WAIT;
use crate::{
    engine::{RebuildPhase, RebuildStatus},
    index::IndexName,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments, index_named},
        consent, schema,
    },
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RebuildArgs {
    /// Which index: "eventos" or a table's name; default all.
    #[serde(default)]
    index: Option<String>,
    /// The user agreed; needed where this client can't ask.
    #[serde(default)]
    confirm: Option<bool>,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
struct RebuildAnswer {
    /// Every index serves anew and the old ones are gone.
    done: bool,
    rebuilds: Vec<RebuildStatus>,
    /// What to call next, if anything.
    next_step: Option<String>,
}

#[tool_router(router = rebuild_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Rebuild a search index",
        description = "Builds an index anew from log and store while the old one serves, then puts it in its place. For when documents or a \
            mapping were changed by hand. Waits 20 s at most; the rebuild goes on, and calling again tells how it ended. Example: {\"index\": \"leads\", \"confirm\": true}",
        input_schema = schema::input::<RebuildArgs>(),
        output_schema = schema::output::<RebuildAnswer>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = false, open_world_hint = false)
    )]
    async fn rebuild_index(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<RebuildAnswer>, ToolError> {
        let args: RebuildArgs = arguments(given)?;
        let catalog = self.engine.catalog;
        let indices = match args.index {
            Some(name) => vec![index_named(catalog, "index", &name)?],
            None => IndexName::all(catalog).collect(),
        };
        // Who was told to call again hears how it ended, and begins no other.
        let awaited = self.engine.rebuilds.awaited(&indices);
        let others: Vec<IndexName> =
            indices.iter().filter(|index| !awaited.contains(index)).copied().collect();
        // Following what was agreed to, here or in another process, needs no consent again.
        let under_way = self.engine.rebuilds.under_way().await?;
        if !others.iter().all(|index| under_way.contains(index)) {
            let names: Vec<&str> = others.iter().map(|index| index.as_str()).collect();
            let what = format!(
                "builds {} anew and then removes what serves now; searches go on meanwhile",
                names.join(", ")
            );
            consent::ask(&context, args.confirm, &what).await?;
        }
        if !others.is_empty() {
            self.engine.rebuilds.begin(&others).await?;
        }
        let rebuilds = self.engine.rebuilds.wait_for(&indices, LONGEST_WAIT).await;
        let done = rebuilds.iter().all(|rebuild| rebuild.phase == RebuildPhase::Done);
        let refused = rebuilds.iter().find(|rebuild| rebuild.phase == RebuildPhase::Refused);
        let next_step = refused.map(|refused| refused.last_error.clone().unwrap_or_default());
        let next_step = next_step.or_else(|| {
            let told = if !done {
                "it goes on in the background: get_pipeline_status shows how far it is, and calling rebuild_index again waits for it"
            } else if !awaited.is_empty() {
                "this is how what was begun before ended; calling rebuild_index again begins another"
            } else {
                return None;
            };
            Some(told.to_owned())
        });
        Ok(Answer(RebuildAnswer { done, rebuilds, next_step }))
    }
}
