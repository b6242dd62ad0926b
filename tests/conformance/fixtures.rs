//! The server: sluice's own tools, and everything the suite names.

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams, CompleteResult,
        GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, ListPromptsResult,
        ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
        ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, RequestStateCodec,
        RequestStateError, ServerConfig, SubscriptionFilter, Tool, UpdateTaskParams,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice::mcp::SluiceServer;
use tokio::sync::broadcast;

use super::{
    input, tasks,
    tools::{self, PIXEL},
};

#[derive(Clone)]
pub struct Fixtures {
    sluice: SluiceServer,
    codec: Arc<RequestStateCodec>,
    /// Tells open subscriptions that a list has changed, as the suite asks for.
    changes: broadcast::Sender<Change>,
}

#[derive(Clone, Copy)]
enum Change {
    Tools,
    Prompts,
}

impl Fixtures {
    pub fn new(sluice: SluiceServer) -> Result<Self, RequestStateError> {
        let key: [u8; 32] = rand::random();
        Ok(Self {
            sluice,
            codec: Arc::new(RequestStateCodec::try_new(key)?),
            changes: broadcast::Sender::new(16),
        })
    }
}

/// A result of the protocol, written as the protocol writes it.
pub fn result<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// A result that needs nothing more. Where the revision knows no such word, rmcp takes it out.
pub fn complete<T: DeserializeOwned>(mut value: Value) -> Result<T, ErrorData> {
    value["resultType"] = json!("complete");
    result(value)
}

/// The tools of the suite's own.
fn tools() -> Result<Vec<Tool>, ErrorData> {
    let without_arguments =
        tools::SIMPLE.iter().chain(tasks::TOOLS).map(|name| (*name, json!({"type": "object"})));
    let schemas = without_arguments.chain(tools::with_arguments());
    let about = "Asked for by the conformance suite.";
    schemas
        .map(|(name, schema)| result(json!({"name": name, "description": about, "inputSchema": schema})))
        .collect()
}

/// Results that may be kept say for how long, in the revision that knows it.
fn cached<T: DeserializeOwned>(
    context: &RequestContext<RoleServer>,
    mut value: Value,
) -> Result<T, ErrorData> {
    if tools::is_modern(context) {
        value["ttlMs"] = json!(1000);
        value["cacheScope"] = json!("private");
    }
    complete(value)
}

#[expect(deprecated, reason = "older revisions have logging levels and subscriptions")]
impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let mut info = self.sluice.get_info();
        let capabilities = json!({
            "tools": {"listChanged": true}, "prompts": {"listChanged": true}, "resources": {"subscribe": true}, "completions": {}, "logging": {},
            "extensions": info.capabilities.extensions,
        });
        info.capabilities = serde_json::from_value(capabilities).unwrap_or_default();
        info
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut list = self.sluice.list_tools(request, context).await?;
        list.tools.extend(tools()?);
        Ok(list)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let own = tools().ok()?.into_iter().find(|tool| tool.name == name);
        own.or_else(|| self.sluice.get_tool(name))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.to_string();
        let change = match name.as_str() {
            "test_trigger_tool_change" => Some(Change::Tools),
            "test_trigger_prompt_change" => Some(Change::Prompts),
            _ => None,
        };
        if let Some(change) = change {
            // Nobody may be listening.
            self.changes.send(change).ok();
        }
        if name.starts_with("test_input_required_result_") || name == "test_streaming_elicitation" {
            return input::call(&self.codec, &name, request, &context);
        }
        if tasks::TOOLS.contains(&name.as_str()) {
            return tasks::call(&self.sluice.tasks(&context), &name, request, &context).await;
        }
        if name.starts_with("test_") || name == "greet" || name == tools::SCHEMA_TOOL {
            return tools::call(&name, request, context).await;
        }
        self.sluice.call_tool(request, context).await
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.sluice.get_task(request, context).await
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.sluice.update_task(request, context).await
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.sluice.cancel_task(request, context).await
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.subscribe();
        loop {
            let change = tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            // What the subscription did not ask for is refused by its own sink.
            match change {
                Ok(Change::Tools) => context.sink().notify_tool_list_changed().await.ok(),
                Ok(Change::Prompts) => context.sink().notify_prompt_list_changed().await.ok(),
                Err(_) => return Ok(()),
            };
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let resources = ["static-text", "static-binary", "watched-resource"].map(
            |name| json!({"uri": format!("test://{name}"), "name": name, "description": "For the suite."}),
        );
        cached(&context, json!({"resources": resources}))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = json!({"uriTemplate": "test://template/{id}/data", "name": "template"});
        cached(&context, json!({"resourceTemplates": [template]}))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let found = match uri {
            "test://static-text" | "test://watched-resource" => {
                json!({"uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource."})
            }
            "test://static-binary" => json!({"uri": uri, "mimeType": "image/png", "blob": PIXEL}),
            _ => {
                let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
                let unknown = || {
                    ErrorData::resource_not_found("no resource has this address", Some(json!({"uri": uri})))
                };
                let id = id.ok_or_else(unknown)?;
                let text =
                    json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")}).to_string();
                json!({"uri": uri, "mimeType": "application/json", "text": text})
            }
        };
        let read: ReadResourceResult = cached(&context, json!({"contents": [found]}))?;
        Ok(read.into())
    }

    async fn subscribe(
        &self,
        _: rmcp::model::SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _: rmcp::model::UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn set_level(
        &self,
        _: rmcp::model::SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let argument = |name: &str| json!({"name": name, "description": "For the suite.", "required": true});
        let prompt = |name: &str, arguments: &[&str]| {
            let arguments: Vec<Value> = arguments.iter().map(|name| argument(name)).collect();
            json!({"name": name, "description": "Asked for by the conformance suite.", "arguments": arguments})
        };
        let prompts = [
            prompt("test_simple_prompt", &[]),
            prompt("test_prompt_with_arguments", &["arg1", "arg2"]),
            prompt("test_prompt_with_embedded_resource", &["resourceUri"]),
            prompt("test_prompt_with_image", &[]),
            prompt("test_input_required_result_prompt", &[]),
        ];
        cached(&context, json!({"prompts": prompts}))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let given = |name: &str| {
            request
                .arguments
                .as_ref()
                .and_then(|given| given.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let text = |text: String| json!({"type": "text", "text": text});
        let contents = match request.name.as_str() {
            "test_simple_prompt" => vec![text("This is a simple prompt for testing.".to_owned())],
            "test_prompt_with_arguments" => {
                let (first, second) = (given("arg1"), given("arg2"));
                vec![text(format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))]
            }
            "test_prompt_with_embedded_resource" => vec![
                json!({"type": "resource", "resource": {
                    "uri": given("resourceUri"), "mimeType": "text/plain", "text": "Embedded resource content for testing.",
                }}),
                text("Please process the embedded resource above.".to_owned()),
            ],
            "test_prompt_with_image" => vec![
                json!({"type": "image", "data": PIXEL, "mimeType": "image/png"}),
                text("Please analyze the image above.".to_owned()),
            ],
            "test_input_required_result_prompt" => match input::prompt(&request)? {
                Ok(context) => vec![text(format!("The context is {context}."))],
                Err(asking) => return Ok(asking.into()),
            },
            unknown => return Err(ErrorData::invalid_params(format!("no prompt is named {unknown}"), None)),
        };
        let messages: Vec<Value> =
            contents.into_iter().map(|content| json!({"role": "user", "content": content})).collect();
        Ok(GetPromptResponse::Complete(complete(json!({"messages": messages}))?))
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        complete(json!({"completion": {"values": ["paris", "park", "party"], "total": 3, "hasMore": false}}))
    }
}
