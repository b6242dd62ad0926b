//! Schemas as they are listed. A client reads the list in every conversation, so it says what a model needs to call a
//! tool and what a program needs to check an answer, and no more; the documentation has all of it.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

/// Depth at which a schema that contains itself is cut off.
const DEEPEST: usize = 6;

/// Members of answers that a model reads and no program does.
const FOR_THE_MODEL: [&str; 2] = ["hint", "next_step"];

/// Makes a tool's schemas compact, and leaves out hints that are the protocol's defaults. Whatever was valid stays so.
pub(super) fn tool(tool: &mut Tool) {
    tool.input_schema = compacted(&tool.input_schema, Rules::Arguments);
    if let Some(output) = &tool.output_schema {
        tool.output_schema = Some(compacted(output, Rules::Answer));
    }
    if let Some(hints) = &mut tool.annotations {
        hints.read_only_hint = hints.read_only_hint.filter(|reads| *reads);
        hints.destructive_hint = hints.destructive_hint.filter(|destroys| !destroys);
        hints.idempotent_hint = hints.idempotent_hint.filter(|idempotent| *idempotent);
        hints.open_world_hint = hints.open_world_hint.filter(|open| !open);
    }
}

/// What a schema is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// A model fills it: what it means stays. Defaults are told in words, and what is unknown is refused in words.
    Arguments,
    /// A program checks it: the members' types, without those of nested objects and lists.
    Answer,
}

fn compacted(schema: &JsonObject, rules: Rules) -> Arc<JsonObject> {
    let definitions = schema.get("$defs").and_then(Value::as_object);
    match part(&Value::Object(schema.clone()), definitions, rules, 0) {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

fn part(schema: &Value, definitions: Option<&JsonObject>, rules: Rules, depth: usize) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    if let Some(named) = referred(schema, definitions) {
        return part(&named, definitions, rules, depth);
    }
    if let Some(choice) = enumeration(schema) {
        return part(&choice, definitions, rules, depth);
    }
    let too_deep = depth >= if rules == Rules::Answer { 1 } else { DEEPEST };
    let mut compact = JsonObject::new();
    for (keyword, value) in schema {
        let value = match keyword.as_str() {
            "$schema" | "$defs" | "default" => continue,
            "additionalProperties" if value == &Value::Bool(false) => continue,
            "properties" | "required" | "items" | "additionalProperties" | "allOf" | "anyOf" | "oneOf"
                if too_deep =>
            {
                continue;
            }
            "description" | "minimum" | "required" | "enum" | "format" if rules == Rules::Answer => continue,
            // What anybody would guess, and what nobody reaches by accident: the error tells the range.
            "minimum" if value == 0 || value == 1 => continue,
            "maximum" if value.as_u64().is_some_and(|most| most > 5_000) => continue,
            "properties" => members(value, definitions, rules, depth + 1),
            "items" | "additionalProperties" => part(value, definitions, rules, depth),
            "anyOf" | "oneOf" | "allOf" => match value {
                Value::Array(choices) => {
                    choices.iter().map(|choice| part(choice, definitions, rules, depth)).collect()
                }
                other => other.clone(),
            },
            _ => value.clone(),
        };
        // A choice between mere types, of which one takes anything, says nothing that a description does not.
        if keyword == "anyOf" && says_nothing(&value) {
            continue;
        }
        compact.insert(keyword.clone(), value);
    }
    Value::Object(compact)
}

fn members(value: &Value, definitions: Option<&JsonObject>, rules: Rules, depth: usize) -> Value {
    let Value::Object(members) = value else { return value.clone() };
    let is_listed = |name: &str| rules == Rules::Arguments || !FOR_THE_MODEL.contains(&name);
    let compact = members
        .iter()
        .filter(|(name, _)| is_listed(name))
        .map(|(name, schema)| (name.clone(), part(schema, definitions, rules, depth)));
    Value::Object(compact.collect())
}

fn says_nothing(choices: &Value) -> bool {
    let is_bare = |choice: &Value| {
        choice.as_object().is_some_and(|choice| choice.keys().all(|keyword| keyword == "type"))
    };
    choices.as_array().is_some_and(|choices| {
        choices.iter().all(is_bare) || choices.iter().any(|choice| choice == &json!({}))
    })
}

/// The schema that a reference means, with what stands beside the reference.
pub(super) fn referred(schema: &JsonObject, definitions: Option<&JsonObject>) -> Option<Value> {
    let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
    let mut named = definitions?.get(name)?.as_object()?.clone();
    named
        .extend(schema.iter().filter(|(keyword, _)| *keyword != "$ref").map(|(k, v)| (k.clone(), v.clone())));
    Some(Value::Object(named))
}

/// Constants, each with a description, as plain values.
fn enumeration(schema: &JsonObject) -> Option<Value> {
    let choices = schema.get("oneOf")?.as_array()?;
    let mut values = Vec::new();
    for choice in choices {
        match (choice.get("const"), choice.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => values.push(value.clone()),
            (None, Some(several)) => values.extend(several.iter().cloned()),
            (None, None) => return None,
        }
    }
    let mut plain = schema.clone();
    plain.remove("oneOf");
    plain.insert("type".to_owned(), json!("string"));
    plain.insert("enum".to_owned(), Value::Array(values));
    Some(Value::Object(plain))
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;

    use super::*;
    use crate::mcp::schema;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Sample {
        /// Told to models.
        state: State,
        parts: Vec<Part>,
        /// The same again.
        other: Option<State>,
        description: u32,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum State {
        /// It runs.
        Running,
        /// It does not.
        Stopped,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Part {
        /// Its name.
        name: String,
        inner: Option<Box<Part>>,
    }

    fn listed(schema: &JsonObject, rules: Rules) -> Value {
        Value::Object((*compacted(schema, rules)).clone())
    }

    #[test]
    fn arguments_keep_their_descriptions_and_choices_become_plain_values() {
        let compact = listed(&schema::input::<Sample>(), Rules::Arguments);
        let state =
            json!({"type": "string", "enum": ["running", "stopped"], "description": "Told to models."});
        assert_eq!(compact["properties"]["state"], state);
        assert_eq!(compact["properties"]["parts"]["items"]["properties"]["name"]["description"], "Its name.");
        assert_eq!(compact["required"], json!(["state", "parts", "description"]));
        assert!(compact.get("$defs").is_none() && !compact.to_string().contains("$ref"), "{compact}");
    }

    #[test]
    fn answers_keep_their_members_and_types() {
        let compact = listed(&schema::output::<Sample>(), Rules::Answer);
        let members = json!({
            "state": {"type": "string"}, "parts": {"type": "array"}, "other": {"type": "string"},
            "description": {"type": "integer"},
        });
        assert_eq!(compact, json!({"type": "object", "properties": members}));
    }

    #[test]
    fn a_value_of_any_type_is_listed_by_its_description() {
        let scalar = json!({"anyOf": [{"type": "boolean"}, {"type": "number"}, {"type": "string"}]});
        let value = json!({"description": "Any.", "anyOf": [scalar, {"type": "array", "items": scalar}]});
        assert_eq!(part(&value, None, Rules::Arguments, 1), json!({"description": "Any."}));
    }

    #[test]
    fn only_hints_that_say_something_are_listed() {
        let mut writes = Tool::new("t", "d", Arc::default());
        let hints = rmcp::model::ToolAnnotations::new();
        writes.annotations =
            Some(hints.read_only(false).destructive(true).idempotent(true).open_world(false));
        tool(&mut writes);
        assert_eq!(
            serde_json::to_value(writes.annotations).expect("JSON"),
            json!({"idempotentHint": true, "openWorldHint": false})
        );
    }
}
