//! What a tool returns: what it found, as structured content and as a text of the same, or an error that teaches.

use rmcp::{
    ErrorData,
    handler::server::tool::IntoCallToolResult,
    model::{CallToolResponse, CallToolResult, ContentBlock, JsonObject, MetaObject},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{next_step::worded, schema::without_nulls};
use crate::{
    domain::Catalog,
    engine::EngineError,
    fault::{Fault, FaultKind},
    index::IndexName,
    index::SearchError,
};

/// Where in `_meta` a failure's details are.
const DETAILS: &str = "sluice/error";

/// A tool's success. Its text is made where it leaves, from what may leave.
pub(super) struct Answer<T>(pub(super) T);

impl<T: Serialize> IntoCallToolResult for Answer<T> {
    fn into_call_tool_result(self) -> Result<CallToolResponse, ErrorData> {
        let mut structured = serde_json::to_value(&self.0)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        without_nulls(&mut structured);
        let mut result = CallToolResult::success(Vec::new());
        result.structured_content = Some(structured);
        Ok(result.into())
    }
}

/// A tool's failure: a result with `isError`, so that the model reads it and can act on it.
#[derive(Debug)]
pub(super) struct ToolError {
    text: String,
    structured: Value,
}

impl std::fmt::Display for ToolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl ToolError {
    pub(super) fn argument(field: &str, problem: impl std::fmt::Display) -> Self {
        let text = format!("{field}: {problem}");
        let structured = json!({"error": {"kind": "invalid_argument", "field": field, "message": text}});
        Self { text, structured }
    }

    /// The same error with what may be behind it.
    pub(super) fn with_causes(mut self, causes: &[String]) -> Self {
        for cause in causes {
            self.text = format!("{}; {cause}", self.text);
        }
        self.structured["error"]["message"] = Value::from(self.text.as_str());
        self
    }

    /// The same of a tool whose argument has another name.
    pub(super) fn renamed(mut self, field: &str, name: &str) -> Self {
        let error = &mut self.structured["error"];
        if error["field"] == field
            && let Some(rest) = self.text.strip_prefix(&format!("{field}: "))
        {
            self.text = format!("{name}: {rest}");
            error["field"] = name.into();
            error["message"] = self.text.as_str().into();
        }
        self
    }
}

/// The answer to a client that may not call a tool; `why` says what it, or the operator, can do.
pub(super) fn not_permitted(tool: &str, why: &str) -> CallToolResponse {
    let text = format!("{tool} {why}");
    let structured = json!({"error": {"kind": "not_permitted", "message": text}});
    failed(text, structured).into()
}

/// Reads a tool's arguments; what is wrong with them is told by the argument's name.
pub(super) fn arguments<T: DeserializeOwned>(given: JsonObject) -> Result<T, ToolError> {
    serde_path_to_error::deserialize(Value::Object(given)).map_err(|error| {
        let path = error.path().to_string();
        // A path of "." is the object itself: a member is missing or unknown, and serde names it.
        let field = if path == "." { "arguments" } else { &path };
        ToolError::argument(field, in_words(&error.inner().to_string()))
    })
}

/// A reason without the names that only this program has for types.
fn in_words(reason: &str) -> String {
    if let Some((_, why)) = reason.split_once("UUID parsing failed: ") {
        return format!("is not a UUID: {why}");
    }
    let Some((before, expected)) = reason.rsplit_once("expected ") else { return reason.to_owned() };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        other => other,
    };
    format!("{before}expected {expected}")
}

impl From<EngineError> for ToolError {
    fn from(error: EngineError) -> Self {
        let text = error.remark().worded(worded);
        let of_field = |kind| {
            let structured = json!({"error": {"kind": kind, "field": error.field(), "message": text}});
            Self { text: text.clone(), structured }
        };
        match error {
            EngineError::Fault(fault) => fault.into(),
            EngineError::Search(error) => error.into(),
            EngineError::Invalid { .. } | EngineError::Paused { .. } | EngineError::NotDrainedHere { .. } => {
                of_field("invalid_argument")
            }
            EngineError::Busy(running) => Self {
                structured: json!({"error": {
                    "kind": "busy",
                    "message": text,
                    "running_sync_id": running.map(|running| running.id),
                }}),
                text,
            },
            EngineError::UnknownSync(_)
            | EngineError::UnknownTable { .. }
            | EngineError::UnknownEntity { .. } => of_field("not_found"),
        }
    }
}

impl From<SearchError> for ToolError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Fault(fault) => fault.into(),
            SearchError::Request { field, problem } => Self::argument(field, problem),
            SearchError::Query(error) => Self {
                structured: json!({"error": {
                    "kind": "invalid_argument", "field": "query", "at_character": error.at,
                    "message": error.problem, "next_step": error.instead,
                }}),
                text: error.to_string(),
            },
        }
    }
}

impl From<Fault> for ToolError {
    fn from(fault: Fault) -> Self {
        let kind = match fault.kind {
            FaultKind::Transient => "temporary",
            FaultKind::Misconfigured => "misconfigured",
            FaultKind::Fenced => "conflict",
            FaultKind::Invalid => "invalid_request",
        };
        Self {
            text: fault.remark().worded(worded),
            structured: json!({"error": {
                "kind": kind, "part": fault.part, "message": fault.message, "next_step": worded(&fault.advice),
            }}),
        }
    }
}

impl IntoCallToolResult for ToolError {
    fn into_call_tool_result(self) -> Result<CallToolResponse, ErrorData> {
        Ok(failed(self.text, self.structured).into())
    }
}

/// A failure's details go into `_meta`. Clients built on the first TypeScript SDK hold structured content against the
/// tool's output schema even where the result is an error, and would show that mismatch instead of the text.
fn failed(text: String, mut structured: Value) -> CallToolResult {
    without_nulls(&mut structured);
    let mut result = CallToolResult::error(vec![ContentBlock::text(text)]);
    let details = structured.get_mut("error").map(Value::take).unwrap_or_default();
    result.meta = Some(MetaObject(JsonObject::from_iter([(DETAILS.to_owned(), details)])));
    result
}

/// The index of that name.
pub(super) fn index_named(catalog: Catalog, field: &str, name: &str) -> Result<IndexName, ToolError> {
    IndexName::from_name(catalog, name).ok_or_else(|| {
        ToolError::argument(field, format!("there is no index '{name}'; use eventos, {}", catalog.names()))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        limit: u32,
    }

    fn problem(given: Value) -> String {
        let given = given.as_object().cloned().expect("an object");
        match arguments::<Sample>(given) {
            Ok(read) => panic!("{read:?} was read"),
            Err(error) => error.text,
        }
    }

    #[test]
    fn a_failure_has_no_structured_content_that_an_output_schema_could_refuse() {
        let result = ToolError::argument("limit", "is 0").into_call_tool_result().expect("a result");
        let CallToolResponse::Complete(result) = result else { panic!("{result:?} asks for more") };
        let result = serde_json::to_value(result).expect("JSON");
        assert_eq!(result["isError"], true);
        assert_eq!(result.get("structuredContent"), None);
        let details = json!({"kind": "invalid_argument", "field": "limit", "message": "limit: is 0"});
        assert_eq!(result["_meta"], json!({"sluice/error": details}));
    }

    #[test]
    fn an_argument_goes_by_the_name_that_the_tool_has_for_it() {
        let error = ToolError::argument("key", "no such lead").renamed("key", "id");
        assert_eq!(error.text, "id: no such lead");
        assert_eq!(
            (&error.structured["error"]["field"], &error.structured["error"]["message"]),
            (&json!("id"), &json!("id: no such lead"))
        );
        assert_eq!(ToolError::argument("table", "key: x").renamed("key", "id").text, "table: key: x");
    }

    #[test]
    fn a_reason_is_told_in_the_caller_s_words() {
        assert_eq!(in_words("UUID parsing failed: invalid length: 1"), "is not a UUID: invalid length: 1");
        assert_eq!(
            in_words("unknown variant `x`, expected `a` or `b`"),
            "unknown variant `x`, expected `a` or `b`"
        );
        assert_eq!(in_words("missing field `sql`"), "missing field `sql`");
    }

    #[test]
    fn a_refused_argument_is_named() {
        assert_eq!(
            problem(json!({"limit": "x"})),
            "limit: invalid type: string \"x\", expected a whole number that is not negative"
        );
        assert!(problem(json!({"limit": -1})).ends_with("expected a whole number that is not negative"));
        assert!(problem(json!({})).contains("missing field `limit`"));
        let unknown = problem(json!({"limit": 1, "limite": 2}));
        assert!(unknown.contains("limite") && unknown.contains("expected `limit`"), "{unknown}");
        assert_eq!(
            arguments::<Sample>(JsonObject::from_iter([("limit".to_owned(), json!(3))]))
                .ok()
                .map(|s| s.limit),
            Some(3)
        );
    }
}
