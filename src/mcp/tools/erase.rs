//! The tool that erases a person.

use std::time::{Duration, Instant};

use rmcp::{RoleServer, model::JsonObject, service::RequestContext, tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

use super::operate::operator;
use crate::{
    domain::TableName,
    engine::{EntityKey, ErasureReport, ErasureRequest, table_named},
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        consent, schema,
    },
};

/// Whoever agrees faster had agreed before the call.
const AT_ONCE: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EraseArgs {
    /// A table's name, for example "leads".
    table: String,
    /// The row's key. Give this or email.
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    email: Option<String>,
    /// Also what refers to it: a lead's chat sessions.
    #[serde(default)]
    related: bool,
    /// The user agreed; needed where this client can't ask.
    #[serde(default)]
    confirm: Option<bool>,
}

#[tool_router(router = erase_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Erase a person",
        description = "For LGPD requests: removes an entity and its events from store, index and dead letters for good; nothing \
            brings it back. Tells what remains where. Example: {\"table\": \"leads\", \"email\": \"ana@exemplo.com.br\", \"related\": true}",
        input_schema = schema::input::<EraseArgs>(),
        output_schema = schema::output::<ErasureReport>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = true)
    )]
    async fn erase_entity(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<ErasureReport>, ToolError> {
        let args: EraseArgs = arguments(given)?;
        let table = table_named(self.engine.catalog, &TableName(args.table))?;
        let who = match (args.key, args.email) {
            (Some(key), None) => EntityKey::Key(key),
            (None, Some(email)) if !email.trim().is_empty() => {
                EntityKey::Lookup { column: "email".to_owned(), value: email.trim().to_owned() }
            }
            _ => return Err(ToolError::argument("key", "give either the row's key or its email")),
        };
        let request = ErasureRequest { table, who, related: args.related };
        let erasures = &self.engine.erasures;
        let by = operator(&context);
        let preview = erasures.preview(&request, &by).await?;
        let mut what = preview.to_string();
        // A key may be an address.
        self.outgoing.text(&mut what);
        let began = Instant::now();
        consent::ask(&context, args.confirm, &what).await?;
        let was_asked = began.elapsed() > AT_ONCE;
        Ok(Answer(erasures.erase_previewed(&request, &by, preview, was_asked).await?))
    }
}
