//! The tools that need the client's input in the way of the stateless revision: the answer is what is asked, and what the
//! server must remember travels with it, sealed.

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, GetPromptRequestParams, InputRequiredResult,
        RequestStateCodec,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use super::fixtures::{complete, result};

pub fn question(message: &str, property: &str, kind: &str) -> Value {
    let schema = json!({"type": "object", "properties": {property: {"type": kind}}, "required": [property]});
    json!({"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}})
}

fn sampling(prompt: &str, tokens: u32) -> Value {
    let message = json!({"role": "user", "content": {"type": "text", "text": prompt}});
    json!({"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": tokens}})
}

fn roots() -> Value {
    json!({"method": "roots/list"})
}

fn asking(requests: Value, state: Option<String>) -> Result<InputRequiredResult, ErrorData> {
    result(json!({"resultType": "input_required", "inputRequests": requests, "requestState": state}))
}

/// Answers a tool: with what is asked for as long as something is missing, then with the end.
pub fn call(
    codec: &RequestStateCodec,
    name: &str,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    // What was tampered with is refused before anything else is looked at.
    let opened = request.request_state.as_deref().map(|sealed| codec.open(sealed)).transpose();
    let state = opened.map_err(|_| ErrorData::invalid_params("the request state was not made here", None))?;
    let given = request.input_responses.unwrap_or_default();
    let has = |key: &str| given.get(key).is_some_and(Value::is_object);
    let sealed = |step: &str| Some(codec.seal(format!("{name}/{step}").as_bytes()));
    let at = |step: &str| state.as_deref() == Some(format!("{name}/{step}").as_bytes());
    let ask = |requests: Value, state: Option<String>| Ok(asking(requests, state)?.into());

    let name_question = question("What is your name?", "name", "string");
    let text = match name.trim_start_matches("test_input_required_result_") {
        "elicitation" | "test_streaming_elicitation" => {
            match given.get("user_name").and_then(|answer| answer["content"]["name"].as_str()) {
                Some(name) => format!("Hello, {name}!"),
                None => return ask(json!({"user_name": name_question}), None),
            }
        }
        "sampling" if has("capital_question") => {
            format!("The model said {}", given["capital_question"]["content"])
        }
        "sampling" => {
            return ask(json!({"capital_question": sampling("What is the capital of France?", 100)}), None);
        }
        "list_roots" if has("client_roots") => format!("The roots are {}", given["client_roots"]["roots"]),
        "list_roots" => return ask(json!({"client_roots": roots()}), None),
        "request_state" | "tampered_state" if has("confirm") && at("asked") => "state-ok".to_owned(),
        "request_state" | "tampered_state" => {
            return ask(json!({"confirm": question("Please confirm", "ok", "boolean")}), sealed("asked"));
        }
        "multiple_inputs"
            if at("asked") && ["user_name", "greeting", "client_roots"].iter().all(|key| has(key)) =>
        {
            "Everything is there".to_owned()
        }
        "multiple_inputs" => {
            let greeting = sampling("Generate a greeting", 50);
            let requests = json!({"user_name": name_question, "greeting": greeting, "client_roots": roots()});
            return ask(requests, sealed("asked"));
        }
        "multi_round" if at("second") && has("step2") => "Both are there".to_owned(),
        "multi_round" if at("first") && has("step1") => {
            let second = question("Step 2: What is your favorite color?", "color", "string");
            return ask(json!({"step2": second}), sealed("second"));
        }
        "multi_round" => {
            let first = question("Step 1: What is your name?", "name", "string");
            return ask(json!({"step1": first}), sealed("first"));
        }
        "capabilities" => return ask(what_the_client_can(context), None),
        unknown => return Err(ErrorData::invalid_params(format!("no tool is named {unknown}"), None)),
    };
    Ok(CallToolResponse::Complete(complete(json!({"content": [{"type": "text", "text": text}]}))?))
}

fn what_the_client_can(context: &RequestContext<RoleServer>) -> Value {
    let can = context.client_capabilities().unwrap_or_default();
    let mut requests = serde_json::Map::new();
    if can.elicitation.is_some() {
        requests.insert("user_name".to_owned(), question("What is your name?", "name", "string"));
    }
    if can.sampling.is_some() {
        requests.insert("greeting".to_owned(), sampling("Generate a greeting", 50));
    }
    Value::Object(requests)
}

/// The context a prompt needs, or the question for it.
pub fn prompt(request: &GetPromptRequestParams) -> Result<Result<String, InputRequiredResult>, ErrorData> {
    let answer = request.input_responses.as_ref().and_then(|given| given.get("user_context"));
    match answer.and_then(|answer| answer["content"]["context"].as_str()) {
        Some(context) => Ok(Ok(context.to_owned())),
        None => {
            let question = question("What context should the prompt use?", "context", "string");
            Ok(Err(asking(json!({"user_context": question}), None)?))
        }
    }
}
