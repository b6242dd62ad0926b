//! The tool that builds indices anew.

use std::{fmt::Write as _, time::Duration};

use rmcp::{model::JsonObject, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{RebuildPhase, RebuildStatus},
    index::IndexName,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        schema,
    },
};

/// Below the minute after which some clients give a call up.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RebuildArgs {
    /// Which index; default all three.
    #[serde(default)]
    index: Option<IndexName>,
    /// Must be true: the index that serves now is removed when the new one has taken its place.
    #[serde(default)]
    confirm: bool,
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
        description = "Builds an index anew from the log while the old one goes on serving, lets it take the old one's place, and \
            removes the old one. For when documents were deleted or changed by hand, or a mapping changed. Searches and \
            new events are not disturbed. Waits 20 s at most; the rebuild goes on in the background, survives a restart, \
            and calling again follows it. Example: {\"index\": \"leads\", \"confirm\": true}",
        input_schema = schema::input::<RebuildArgs>(),
        output_schema = schema::output::<RebuildAnswer>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn rebuild_index(&self, given: JsonObject) -> Result<Answer<RebuildAnswer>, ToolError> {
        let args: RebuildArgs = arguments(given)?;
        if !args.confirm {
            return Err(ToolError::argument(
                "confirm",
                "must be true: the index that serves now is removed once the new one has taken its place. Ask the user, \
                 then call again with confirm: true",
            ));
        }
        let indices = args.index.map_or(IndexName::ALL.to_vec(), |index| vec![index]);
        self.engine.rebuild(&indices).await?;
        let rebuilds = self.engine.wait_for_rebuilds(&indices, PATIENCE).await;
        let done = rebuilds.iter().all(|rebuild| rebuild.phase == RebuildPhase::Done);
        let next_step = (!done).then(|| {
            "it goes on in the background: get_pipeline_status shows how far it is, and calling rebuild_index again waits for it"
                .to_owned()
        });
        let each: Vec<String> = rebuilds.iter().map(told).collect();
        Ok(Answer {
            text: format!("{}.", each.join("; ")),
            content: RebuildAnswer { done, rebuilds, next_step },
        })
    }
}

fn told(rebuild: &RebuildStatus) -> String {
    let pending = rebuild.pending.map_or_else(|| "some".to_owned(), |pending| pending.to_string());
    let mut text = match rebuild.phase {
        RebuildPhase::Building => {
            format!("{}: being built, {pending} records to read; the old index serves", rebuild.index)
        }
        RebuildPhase::Finishing => {
            format!("{}: the new index serves and reads the last {pending} records", rebuild.index)
        }
        RebuildPhase::Done => format!("{}: built anew", rebuild.index),
    };
    if let Some(error) = &rebuild.last_error {
        let _ = write!(text, " (last error: {error})");
    }
    text
}
