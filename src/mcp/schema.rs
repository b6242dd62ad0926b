//! JSON schemas as strict clients want them.
//!
//! schemars describes an `Option` as "or null" and an integer by its Rust width. Neither is JSON Schema's own
//! vocabulary for what we mean: a member that may be missing, and a number. Answers leave nulls out accordingly.

use std::{any::Any, sync::Arc};

use rmcp::{
    handler::server::tool::{schema_for_input, schema_for_output},
    model::JsonObject,
};
use schemars::JsonSchema;
use serde_json::Value;

/// The schema of a tool's arguments.
pub(super) fn input<T: JsonSchema + Any>() -> Arc<JsonObject> {
    // An argument type that is no object is a defect every test of the tool list would show.
    let schema = schema_for_input::<T>().unwrap_or_default();
    tidied(&schema)
}

/// The schema of a tool's structured answer.
pub(super) fn output<T: JsonSchema + Any>() -> Arc<JsonObject> {
    tidied(&schema_for_output::<T>())
}

fn tidied(schema: &JsonObject) -> Arc<JsonObject> {
    let mut value = Value::Object(schema.clone());
    tidy(&mut value);
    match value {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            require_only_what_is_never_null(object);
            spell_out_anything(object);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type") != Some(&Value::from("null")));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            if object
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| !matches!(format, "uuid" | "date-time" | "date" | "uri"))
            {
                object.remove("format");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// JSON Schema lets `true` stand for a schema that takes any value; some clients want an object there.
fn spell_out_anything(object: &mut JsonObject) {
    let spell = |schema: &mut Value| {
        if *schema == Value::Bool(true) {
            *schema = Value::Object(JsonObject::new());
        }
    };
    if let Some(items) = object.get_mut("items") {
        spell(items);
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(spell);
    }
}

fn require_only_what_is_never_null(object: &mut JsonObject) {
    let Some(Value::Object(properties)) = object.get("properties") else { return };
    let nullable: Vec<String> =
        properties.iter().filter(|(_, schema)| allows_null(schema)).map(|(name, _)| name.clone()).collect();
    if let Some(Value::Array(required)) = object.get_mut("required") {
        required.retain(|name| !nullable.iter().any(|nullable| name == nullable));
    }
}

fn allows_null(schema: &Value) -> bool {
    let lists_null =
        |kinds: &Value| kinds.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"));
    schema.get("type").is_some_and(lists_null)
        || schema.get("anyOf").and_then(Value::as_array).is_some_and(|choices| {
            choices.iter().any(|choice| choice.get("type") == Some(&Value::from("null")))
        })
}

/// Members that hold what strangers wrote: a column without a value is missing there, too, but inside a value null stays.
const ROWS: [&str; 5] = ["row", "rows", "metadata", "dados", "hits"];

/// Takes the nulls out, so that a missing member is missing.
pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, member| !member.is_null());
            for (name, member) in object {
                match member {
                    member if !ROWS.contains(&name.as_str()) => without_nulls(member),
                    Value::Object(row) => row.retain(|_, column| !column.is_null()),
                    Value::Array(rows) => {
                        rows.iter_mut()
                            .filter_map(Value::as_object_mut)
                            .for_each(|row| row.retain(|_, column| !column.is_null()));
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Sample {
        count: u64,
        rate: f64,
        maybe: Option<u32>,
        nested: Option<Nested>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Nested {
        name: Option<String>,
        rows: Vec<Vec<Value>>,
        value: Value,
    }

    #[test]
    fn schemas_know_neither_null_nor_rust_widths() {
        let text = serde_json::to_string(&*output::<Sample>()).expect("a schema");
        for word in ["null", "uint64", "uint32", "double", "true"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
        assert!(text.contains("\"required\":[\"count\",\"rate\"]"), "{text}");
    }

    #[test]
    fn nulls_are_left_out_at_any_depth() {
        let mut value = json!({"a": null, "b": [{"c": null, "d": 1}]});
        without_nulls(&mut value);
        assert_eq!(value, json!({"b": [{"d": 1}]}));
    }
}
