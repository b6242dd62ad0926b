//! The tools that answer at once, or after asking the client in the way of the older revisions.

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{CallToolRequestParams, CallToolResponse, ClientCapabilities, ProtocolVersion},
    service::{RequestContext, ServiceError},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fixtures::{complete, result};

/// A picture of one dot.
pub const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// No sound at all.
const SILENCE: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

pub const SCHEMA_TOOL: &str = "json_schema_2020_12_tool";

/// The suite wants notifications apart, so that it can tell them from a batch.
const APART: Duration = Duration::from_millis(50);

/// Tools without arguments.
pub const SIMPLE: &[&str] = &[
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_tool_with_logging",
    "test_logging_tool",
    "test_error_handling",
    "test_tool_with_progress",
    "test_missing_capability",
    "test_trigger_tool_change",
    "test_trigger_prompt_change",
    "test_streaming_elicitation",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
];

/// Tools with arguments, and their schemas.
pub fn with_arguments() -> Vec<(&'static str, Value)> {
    let text =
        |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]});
    let full = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {
            "street": {"type": "string"}, "city": {"type": "string"},
        }}},
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false,
    });
    let mirrored = json!({"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
    }});
    vec![
        ("test_sampling", text("prompt")),
        ("test_elicitation", text("message")),
        ("test_mirrored_argument", mirrored),
        ("greet", text("name")),
        (SCHEMA_TOOL, full),
    ]
}

pub fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

fn text(text: impl Into<String>) -> Value {
    json!({"type": "text", "text": text.into()})
}

fn resource(uri: &str, kind: &str, content: &str) -> Value {
    json!({"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": content}})
}

/// Answers a tool by its name.
pub async fn call(
    name: &str,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let image = json!({"type": "image", "data": PIXEL, "mimeType": "image/png"});
    let blocks = match name {
        "test_simple_text" => vec![text("This is a simple text response for testing.")],
        "test_image_content" => vec![image],
        "test_audio_content" => vec![json!({"type": "audio", "data": SILENCE, "mimeType": "audio/wav"})],
        "test_embedded_resource" => {
            vec![resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")]
        }
        "test_multiple_content_types" => vec![
            text("Multiple content types test:"),
            image,
            resource(
                "test://mixed-content-resource",
                "application/json",
                "{\"test\":\"data\",\"value\":123}",
            ),
        ],
        "test_error_handling" => {
            let failed = [text("This tool intentionally returns an error for testing")];
            return Ok(CallToolResponse::Complete(complete(json!({"content": failed, "isError": true}))?));
        }
        "test_tool_with_logging" | "test_logging_tool" => {
            log(&context).await?;
            vec![text("Logged three times")]
        }
        "test_tool_with_progress" => {
            progress(&context).await?;
            vec![text("Told the progress three times")]
        }
        "test_missing_capability" => {
            let needed: ClientCapabilities = result(json!({"sampling": {}}))?;
            if context.client_capabilities().is_none_or(|has| has.sampling.is_none()) {
                return Err(ErrorData::missing_required_client_capability(needed));
            }
            vec![text("The client can sample")]
        }
        "test_sampling" => vec![text(sample(&request, &context).await?)],
        "test_elicitation" => {
            let schema = json!({"username": {"type": "string"}, "email": {"type": "string"}});
            let message = argument(&request, "message");
            vec![text(elicit(&context, message, schema, &["username", "email"], "User response").await?)]
        }
        "test_elicitation_sep1034_defaults" => {
            vec![text(elicit(&context, "Defaults", defaults(), &[], "Elicitation completed").await?)]
        }
        "test_elicitation_sep1330_enums" => {
            vec![text(elicit(&context, "Choices", choices(), &[], "Elicitation completed").await?)]
        }
        "test_trigger_tool_change" | "test_trigger_prompt_change" => vec![text("Told whoever listens")],
        "test_mirrored_argument" => vec![text(argument(&request, "region"))],
        "greet" => vec![text(format!("Hello, {}!", argument(&request, "name")))],
        SCHEMA_TOOL => vec![text("Valid")],
        unknown => return Err(ErrorData::invalid_params(format!("no tool is named {unknown}"), None)),
    };
    Ok(CallToolResponse::Complete(complete(json!({"content": blocks}))?))
}

fn argument<'a>(request: &'a CallToolRequestParams, name: &str) -> &'a str {
    request.arguments.as_ref().and_then(|given| given.get(name)).and_then(Value::as_str).unwrap_or_default()
}

fn failed(error: ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

#[expect(deprecated, reason = "older revisions have logging")]
async fn log(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    if is_modern(context) {
        // Whoever wants logs says so with the request, and the suite's client did not.
        return Ok(());
    }
    for data in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        let note = result(json!({"level": "info", "data": data}))?;
        context.peer.notify_logging_message(note).await.map_err(failed)?;
        sleep(APART).await;
    }
    Ok(())
}

async fn progress(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    let Some(token) = context.meta.get_progress_token() else { return Ok(()) };
    for step in [0, 50, 100] {
        let note = result(json!({"progressToken": token, "progress": step, "total": 100}))?;
        context.peer.notify_progress(note).await.map_err(failed)?;
        sleep(APART).await;
    }
    Ok(())
}

#[expect(deprecated, reason = "older revisions have sampling")]
async fn sample(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<String, ErrorData> {
    let message = json!({"role": "user", "content": text(argument(request, "prompt"))});
    let asked = result(json!({"messages": [message], "maxTokens": 100}))?;
    let answer = context.peer.create_message(asked).await.map_err(failed)?;
    let answer =
        serde_json::to_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    Ok(format!("LLM response: {}", answer["content"]["text"].as_str().unwrap_or_default()))
}

async fn elicit(
    context: &RequestContext<RoleServer>,
    message: &str,
    properties: Value,
    required: &[&str],
    said: &str,
) -> Result<String, ErrorData> {
    let schema = json!({"type": "object", "properties": properties, "required": required});
    let asked = result(json!({"mode": "form", "message": message, "requestedSchema": schema}))?;
    let answer = context.peer.create_elicitation(asked).await.map_err(failed)?;
    let answer =
        serde_json::to_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let action = answer["action"].as_str().unwrap_or_default();
    Ok(format!("{said}: action={action}, content={}", answer["content"]))
}

fn defaults() -> Value {
    json!({
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": true},
    })
}

fn choices() -> Value {
    let options = json!(["option1", "option2", "option3"]);
    let titled = |titles: [&str; 3]| -> Value {
        let entries =
            titles.iter().zip(1..).map(|(title, n)| json!({"const": format!("value{n}"), "title": title}));
        entries.collect()
    };
    json!({
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled(["First Option", "Second Option", "Third Option"])},
        "legacyEnum": {
            "type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {
            "type": "array", "items": {"anyOf": titled(["First Choice", "Second Choice", "Third Choice"])},
        },
    })
}
