//! MCP_DOCUMENTATION.md, from what the server itself says of its tools, resources and prompts, and one real call of
//! each tool, kept in a file that `tools/docs` renews.

use std::{collections::BTreeMap, fmt::Write as _};

use rmcp::model::{JsonObject, Tool};
use serde::Deserialize;
use serde_json::Value;

use super::{compact::referred, page, prompts, resources, tools::GROUPS};

const INTRODUCTION: &str = include_str!("../../docs/mcp/introduction.md");
const EXAMPLES: &str = include_str!("../../docs/mcp/examples.json");

/// Members of an answer are told down to this depth.
const DEEPEST: usize = 3;

/// One call and what was answered.
#[derive(Deserialize)]
struct Example {
    arguments: Value,
    text: String,
    answer: Value,
}

/// The documentation, whole.
///
/// # Errors
/// When the examples are not what they should be.
pub fn documentation() -> Result<String, serde_json::Error> {
    let examples: BTreeMap<String, Example> = serde_json::from_str(EXAMPLES)?;
    let mut text = INTRODUCTION.trim_end().to_owned();
    text.push_str("\n\n| group | tools |\n|---|---|\n");
    for group in GROUPS {
        let tools = (group.router)().list_all();
        let names: Vec<String> = tools.iter().map(|tool| format!("[{0}](#{0})", tool.name)).collect();
        let asked = if group.on_request { " (on request)" } else { "" };
        let _ = writeln!(text, "| `{}`{asked}: {} | {} |", group.name, group.about, names.join(", "));
    }
    for group in GROUPS {
        for tool in (group.router)().list_all() {
            describe(&mut text, &tool, examples.get(&*tool.name))?;
        }
    }
    describe_resources(&mut text);
    describe_prompts(&mut text);
    Ok(text)
}

fn describe(text: &mut String, tool: &Tool, example: Option<&Example>) -> Result<(), serde_json::Error> {
    let about = tool.description.as_deref().unwrap_or_default();
    let about = about.split(" Example").next().unwrap_or(about);
    let _ = write!(
        text,
        "\n## {}\n\n**{}.** {about} {}\n",
        tool.name,
        tool.title.as_deref().unwrap_or_default(),
        effect(tool)
    );
    let arguments = rows(&tool.input_schema, 1);
    if arguments.is_empty() {
        text.push_str("\nNo arguments.\n");
    } else {
        text.push_str("\n| argument | type | meaning |\n|---|---|---|\n");
        text.extend(arguments);
    }
    if let Some(output) = &tool.output_schema {
        text.push_str("\n| in the answer | type | meaning |\n|---|---|---|\n");
        text.extend(rows(output, DEEPEST));
    }
    if let Some(example) = example {
        let arguments = serde_json::to_string(&example.arguments)?;
        let answer = serde_json::to_string_pretty(&example.answer)?;
        let _ = write!(
            text,
            "\n```jsonc\n// arguments\n{arguments}\n// structuredContent\n{answer}\n```\n\n```text\n{}\n```\n",
            example.text
        );
    }
    Ok(())
}

fn effect(tool: &Tool) -> String {
    let Some(hints) = &tool.annotations else { return String::new() };
    let mut effect = match (hints.read_only_hint, hints.destructive_hint) {
        (Some(true), _) => return "*Reads only.*".to_owned(),
        (_, Some(false)) => "*Writes".to_owned(),
        // A few rows that are gone it removes without a word.
        _ if tool.name == "reconcile_table" => "*Destroys, and asks before it removes many rows".to_owned(),
        _ => "*Destroys, and asks first".to_owned(),
    };
    if hints.idempotent_hint == Some(true) {
        effect.push_str("; repeating it changes nothing more");
    }
    effect + ".*"
}

/// A row for each member, those of nested objects after their own.
fn rows(schema: &JsonObject, deepest: usize) -> Vec<String> {
    let definitions = schema.get("$defs").and_then(Value::as_object);
    let mut rows = Vec::new();
    members(&mut rows, schema, definitions, "", deepest);
    rows
}

fn members(
    rows: &mut Vec<String>,
    schema: &JsonObject,
    definitions: Option<&JsonObject>,
    before: &str,
    deepest: usize,
) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, schema) in properties {
        let Value::Object(schema) = schema else { continue };
        let schema = &resolved(schema, definitions);
        let path = format!("{before}{name}");
        let optional = if required.contains(&name.as_str()) { "" } else { ", optional" };
        let mut about = schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
        for choice in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(value), Some(meaning)) = (
                choice.get("const").and_then(Value::as_str),
                choice.get("description").and_then(Value::as_str),
            ) {
                let _ = write!(about, " `{value}`: {meaning}");
            }
        }
        let about = about.trim().replace('\n', " ").replace('|', "\\|");
        rows.push(format!("| `{path}` | {}{optional} | {about} |\n", kind(schema, definitions)));
        if deepest > 1 {
            let items = schema.get("items").and_then(Value::as_object);
            match items {
                Some(items) => {
                    let items = resolved(items, definitions);
                    members(rows, &items, definitions, &format!("{path}[]."), deepest - 1);
                }
                None => members(rows, schema, definitions, &format!("{path}."), deepest - 1),
            }
        }
    }
}

fn resolved(schema: &JsonObject, definitions: Option<&JsonObject>) -> JsonObject {
    match referred(schema, definitions) {
        Some(Value::Object(schema)) => schema,
        _ => schema.clone(),
    }
}

/// A type in words, with its range or its choices.
fn kind(schema: &JsonObject, definitions: Option<&JsonObject>) -> String {
    let choices: Vec<String> = schema
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .cloned()
        .chain(schema.get("oneOf").and_then(Value::as_array).into_iter().flatten().flat_map(|choice| match (
            choice.get("const"),
            choice.get("enum").and_then(Value::as_array),
        ) {
            (Some(value), _) => vec![value.clone()],
            (None, Some(several)) => several.clone(),
            (None, None) => Vec::new(),
        }))
        .map(|value| format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    if !choices.is_empty() {
        return choices.join(", ");
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        _ => "any",
    };
    let number = |keyword: &str| schema.get(keyword).and_then(Value::as_f64).filter(|number| *number != 0.0);
    match (name, schema.get("items"), schema.get("format").and_then(Value::as_str)) {
        ("array", Some(Value::Object(items)), _) => {
            let items = resolved(items, definitions);
            format!("list of {}", kind(&items, definitions))
        }
        ("string", _, Some(format)) => format.to_owned(),
        _ => match (number("minimum"), number("maximum")) {
            (Some(low), Some(high)) => format!("{name}, {low} to {high}"),
            (Some(low), None) => format!("{name}, at least {low}"),
            (None, Some(high)) => format!("{name}, at most {high}"),
            (None, None) => name.to_owned(),
        },
    }
}

fn describe_resources(text: &mut String) {
    text.push_str(
        "\n## Resources\n\nAll but the App, which is HTML, are JSON. `resources/subscribe`, or `subscriptions/listen` in 2026-07-28, tells of changes.\n\n\
         | resource | holds |\n|---|---|\n",
    );
    let listed = resources::list(crate::domain::Catalog::built_in());
    for resource in listed.into_iter().chain([page::resource()]) {
        let _ = writeln!(text, "| `{}` | {} |", resource.uri, resource.description.unwrap_or_default());
    }
    for template in resources::templates(crate::domain::Catalog::built_in()) {
        let _ =
            writeln!(text, "| `{}` | {} |", template.uri_template, template.description.unwrap_or_default());
    }
}

fn describe_prompts(text: &mut String) {
    text.push_str("\n## Prompts\n\nTheir arguments, and those of resources, are completed.\n\n| prompt | arguments | |\n|---|---|---|\n");
    for prompt in prompts::list() {
        let arguments: Vec<String> = prompt
            .arguments
            .into_iter()
            .flatten()
            .map(|argument| {
                let optional = if argument.required == Some(true) { "" } else { ", optional" };
                format!("`{}`{optional}: {}", argument.name, argument.description.unwrap_or_default())
            })
            .collect();
        let about = prompt.description.unwrap_or_default();
        let _ = writeln!(text, "| `{}` | {} | {about} |", prompt.name, arguments.join("<br>"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_what_the_server_says_of_itself() {
        let documented = include_str!("../../MCP_DOCUMENTATION.md");
        let said = documentation().expect("examples");
        let differing = documented.lines().zip(said.lines()).find(|(a, b)| a != b);
        assert!(
            documented == said,
            "MCP_DOCUMENTATION.md is stale, run tools/docs; first difference: {differing:?}"
        );
    }

    #[test]
    fn every_tool_has_a_real_call_and_none_is_kept_for_a_tool_that_is_gone() {
        let examples: BTreeMap<String, Example> = serde_json::from_str(EXAMPLES).expect("examples");
        let tools: Vec<String> = GROUPS
            .iter()
            .flat_map(|group| (group.router)().list_all())
            .map(|tool| tool.name.into_owned())
            .collect();
        for tool in &tools {
            let example =
                examples.get(tool).unwrap_or_else(|| panic!("{tool} has no example; run tools/docs"));
            assert!(example.answer.is_object() && !example.text.is_empty(), "{tool}");
        }
        for name in examples.keys() {
            assert!(tools.contains(name), "{name} is gone; run tools/docs");
        }
    }
}
