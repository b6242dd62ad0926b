//! Requests whose parameters are not what their method takes. rmcp hands them on as requests of somebody else's method,
//! and by itself would answer that it does not know `tools/call`.
#![allow(deprecated)] // older clients subscribe and set levels

use rmcp::model::{
    CallToolRequestParams, CancelTaskParams, ClientRequest, CompleteRequestParams, CustomRequest, ErrorCode,
    ErrorData, GetPromptRequestParams, GetTaskParams, InitializeRequestParams, JsonObject,
    PaginatedRequestParams, ReadResourceRequestParams, SetLevelRequestParams, SubscribeRequestParams,
    SubscriptionsListenRequestParams, UnsubscribeRequestParams, UpdateTaskParams,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::arguments::{Misplaced, plain};

/// What a request turns out to be when it is read with more leniency.
pub(super) enum Reread {
    As(ClientRequest),
    /// A call of a tool, without its arguments: they are no object.
    Misplaced(ClientRequest, Misplaced),
    Refused(ErrorData),
}

/// Reads a request again that is of no method as it stands.
pub(super) fn reread(request: &CustomRequest) -> Reread {
    let mut params = request.params.clone().unwrap_or_else(|| json!({}));
    let misplaced = params.as_object_mut().and_then(|params| mend(&request.method, params));
    match serde_json::from_value(json!({"method": request.method, "params": params})) {
        Ok(ClientRequest::CustomRequest(_)) | Err(_) => Reread::Refused(refusal(request)),
        Ok(request) => match misplaced {
            Some(misplaced) => Reread::Misplaced(request, misplaced),
            None => Reread::As(request),
        },
    }
}

/// What is wrong with such a request.
pub(super) fn refusal(request: &CustomRequest) -> ErrorData {
    let method = &request.method;
    let params = request.params.clone().unwrap_or_else(|| json!({}));
    match problem(method, params) {
        Some(problem) => ErrorData::invalid_params(format!("{method}: {problem}"), None),
        None => ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("there is no method `{method}`"), None),
    }
}

/// Takes what plainly means something for that; tells of a tool's arguments that do not.
fn mend(method: &str, params: &mut JsonObject) -> Option<Misplaced> {
    match method {
        "tools/call" | "prompts/get" => {
            let misplaced = match params.get("arguments")? {
                Value::Object(_) => return None,
                // Some languages have one literal for an empty list and an empty object.
                Value::Array(items) if items.is_empty() => None,
                Value::String(text) if text.trim_start().starts_with('{') => Some(Misplaced::Text),
                _ => Some(Misplaced::Other),
            };
            if misplaced.is_none() || method == "tools/call" {
                params.remove("arguments");
            }
            misplaced
        }
        "completion/complete" => {
            if let Some(Value::Object(argument)) = params.get_mut("argument") {
                argument.values_mut().for_each(spell_out);
            }
            if let Some(Value::Object(others)) =
                params.get_mut("context").and_then(|context| context.get_mut("arguments"))
            {
                others.values_mut().for_each(spell_out);
            }
            None
        }
        _ => None,
    }
}

/// The arguments of prompts and addresses are texts.
fn spell_out(value: &mut Value) {
    if let Value::Number(number) = value {
        *value = Value::String(plain(number));
    }
}

/// Why parameters are not those of a method; `None` where there is no such method.
fn problem(method: &str, params: Value) -> Option<String> {
    Some(match method {
        "initialize" => unreadable::<InitializeRequestParams>(params),
        "completion/complete" => unreadable::<CompleteRequestParams>(params),
        "logging/setLevel" => unreadable::<SetLevelRequestParams>(params),
        "prompts/get" => unreadable::<GetPromptRequestParams>(params),
        "prompts/list" | "resources/list" | "resources/templates/list" | "tools/list" => {
            unreadable::<PaginatedRequestParams>(params)
        }
        "resources/read" => unreadable::<ReadResourceRequestParams>(params),
        "resources/subscribe" => unreadable::<SubscribeRequestParams>(params),
        "resources/unsubscribe" => unreadable::<UnsubscribeRequestParams>(params),
        "subscriptions/listen" => unreadable::<SubscriptionsListenRequestParams>(params),
        "tasks/get" => unreadable::<GetTaskParams>(params),
        "tasks/update" => unreadable::<UpdateTaskParams>(params),
        "tasks/cancel" => unreadable::<CancelTaskParams>(params),
        "tools/call" => unreadable::<CallToolRequestParams>(params),
        "ping" | "server/discover" => "params must be an object".to_owned(),
        _ => return None,
    })
}

fn unreadable<T: DeserializeOwned>(params: Value) -> String {
    match serde_path_to_error::deserialize::<_, T>(params) {
        Ok(_) => "params are not what it takes".to_owned(),
        Err(error) => {
            let path = error.path().to_string();
            let at = if path == "." { "params".to_owned() } else { format!("params.{path}") };
            format!("{at}: {}", without_values(&error.inner().to_string()))
        }
    }
}

/// A reason that does not repeat what was given: it is logged.
fn without_values(reason: &str) -> String {
    match reason.rsplit_once("expected ") {
        Some((before, expected)) if before.starts_with("invalid ") || before.starts_with("unknown ") => {
            format!("must be {expected}")
        }
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, params: Value) -> Reread {
        reread(&CustomRequest::new(method, Some(params)))
    }

    fn message(method: &str, params: Value) -> (i32, String) {
        match read(method, params) {
            Reread::Refused(error) => (error.code.0, error.message.into_owned()),
            Reread::As(request) | Reread::Misplaced(request, _) => panic!("{request:?}"),
        }
    }

    #[test]
    fn a_method_that_exists_is_told_what_its_parameters_lack() {
        for (method, params, expected) in [
            ("initialize", json!({"protocolVersion": "2025-06-18"}), "params: missing field `capabilities`"),
            ("tools/call", json!({}), "params: missing field `name`"),
            ("tools/call", json!({"name": 7}), "params.name: must be a string"),
            ("prompts/get", json!({"name": "p", "arguments": "{}"}), "params.arguments: must be a map"),
            ("resources/read", json!({}), "params: missing field `uri`"),
            ("logging/setLevel", json!({"level": "loud"}), "params.level: must be one of `debug`"),
            ("completion/complete", json!({"ref": {"type": "ref/tool"}}), "params"),
            ("tasks/get", json!({}), "params: missing field `taskId`"),
        ] {
            let (code, text) = message(method, params.clone());
            assert!(code == -32602 && text.starts_with(&format!("{method}: {expected}")), "{params}: {text}");
        }
        assert_eq!(message("tools/run", json!({})), (-32601, "there is no method `tools/run`".to_owned()));
    }

    #[test]
    fn an_empty_list_is_no_arguments_and_a_text_is_none_at_all() {
        for method in ["tools/call", "prompts/get"] {
            let request = read(method, json!({"name": "x", "arguments": []}));
            assert!(matches!(request, Reread::As(request) if request.method() == method));
        }
        for (arguments, expected) in [
            (json!("{\"limit\": 5}"), Misplaced::Text),
            (json!("limit"), Misplaced::Other),
            (json!([5]), Misplaced::Other),
            (json!(5), Misplaced::Other),
        ] {
            match read("tools/call", json!({"name": "x", "arguments": arguments})) {
                Reread::Misplaced(ClientRequest::CallToolRequest(call), misplaced) => {
                    assert_eq!((misplaced, call.params.arguments), (expected, None), "{arguments}");
                }
                _ => panic!("{arguments} was taken"),
            }
        }
    }

    #[test]
    fn numbers_to_be_completed_are_texts() {
        let params = json!({
            "ref": {"type": "ref/prompt", "name": "daily_lead_report"},
            "argument": {"name": "hours", "value": 2.0},
            "context": {"arguments": {"status": 7}},
        });
        match read("completion/complete", params) {
            Reread::As(ClientRequest::CompleteRequest(request)) => {
                assert_eq!(request.params.argument.value, "2");
            }
            _ => panic!("a number was not taken"),
        }
    }
}
