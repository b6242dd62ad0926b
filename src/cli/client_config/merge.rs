//! Puts one server into the text of a configuration file and leaves every other byte as it was.

use jsonc_parser::{
    ParseOptions,
    cst::{CstInputValue, CstObject, CstRootNode},
};
use serde_json::Value;

use super::clients::Configuration;

/// What became of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// The server is there already, just so.
    Unchanged,
    Changed(String),
}

/// Why a text is left alone. The text itself may hold secrets of others and is never quoted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MergeError {
    #[error("is not JSON: {problem} at line {line}, column {column}; mend it and try again")]
    Syntax { problem: String, line: usize, column: usize },
    #[error("is not TOML at line {line}, column {column}; mend it and try again")]
    Toml { line: usize, column: usize },
    #[error("{0} is no {1}, so nothing can be added to it")]
    Shape(&'static str, &'static str),
    #[error("has another server named '{0}'; replace it with --force, or choose another name with --name")]
    Taken(String),
    #[error("names '{0}' more than once, so it is unclear which one counts; remove the others")]
    Ambiguous(String),
}

/// JSON, and the comments and trailing commas that editors allow; nothing looser.
const DIALECT: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The text with the server in it; an empty text is a file to be made.
///
/// # Errors
/// When the text can't be understood, or has another server of that name and `force` is not set.
pub(super) fn merge(
    text: &str,
    configuration: &Configuration,
    name: &str,
    force: bool,
) -> Result<Merged, MergeError> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let root = CstRootNode::parse(body, &DIALECT).map_err(|error| MergeError::Syntax {
        problem: error.kind().to_string(),
        line: error.line_display(),
        column: error.column_display(),
    })?;
    let file = root.object_value_or_create().ok_or(MergeError::Shape("the file", "object"))?;
    unique(&file, configuration.section)?;
    let servers = file
        .object_value_or_create(configuration.section)
        .ok_or(MergeError::Shape(configuration.section, "object"))?;
    unique(&servers, name)?;

    let mut changed = false;
    match servers.get(name) {
        None => {
            servers.append(name, input(&configuration.entry));
            changed = true;
        }
        Some(there) => {
            let same =
                there.value().and_then(|value| value.to_serde_value()).as_ref() == Some(&configuration.entry);
            if !same && !force {
                return Err(MergeError::Taken(name.to_owned()));
            }
            if !same {
                there.set_value(input(&configuration.entry));
                changed = true;
            }
        }
    }
    changed |= add_inputs(&file, &configuration.inputs)?;
    if !changed {
        return Ok(Merged::Unchanged);
    }
    Ok(Merged::Changed(format!("{mark}{root}")))
}

/// Adds the questions that are not asked yet.
fn add_inputs(file: &CstObject, inputs: &[Value]) -> Result<bool, MergeError> {
    if inputs.is_empty() {
        return Ok(false);
    }
    unique(file, "inputs")?;
    let asked = file.array_value_or_create("inputs").ok_or(MergeError::Shape("inputs", "array"))?;
    let known: Vec<Value> =
        asked.elements().iter().filter_map(|element| element.to_serde_value()?.get("id").cloned()).collect();
    let missing: Vec<&Value> = inputs.iter().filter(|question| !known.contains(&question["id"])).collect();
    for question in &missing {
        asked.append(input(question));
    }
    Ok(!missing.is_empty())
}

/// Parsers disagree on which of two members of one name counts.
fn unique(object: &CstObject, name: &str) -> Result<(), MergeError> {
    let named =
        object.properties().iter().filter(|member| member.decoded_name().as_deref() == Some(name)).count();
    if named > 1 { Err(MergeError::Ambiguous(name.to_owned())) } else { Ok(()) }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(flag) => CstInputValue::Bool(*flag),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(members) => {
            CstInputValue::Object(members.iter().map(|(name, value)| (name.clone(), input(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration(entry: Value) -> Configuration {
        Configuration { section: "mcpServers", entry, inputs: Vec::new(), unfilled: Vec::new() }
    }

    fn sluice() -> Configuration {
        configuration(json!({"command": "/opt/sluice", "args": ["serve"], "env": {"A": "C:\\x \"y\"\n"}}))
    }

    fn merged(text: &str) -> String {
        match merge(text, &sluice(), "sluice", false).expect("a merge") {
            Merged::Changed(text) => text,
            Merged::Unchanged => panic!("nothing was changed"),
        }
    }

    fn refused(text: &str) -> MergeError {
        merge(text, &sluice(), "sluice", false).expect_err("a text to leave alone")
    }

    #[test]
    fn an_empty_file_becomes_one_with_the_server() {
        for empty in ["", "{}", "{\n}\n"] {
            let value: Value = serde_json::from_str(&merged(empty)).expect("JSON");
            assert_eq!(value, json!({"mcpServers": {"sluice": sluice().entry}}), "{empty:?}");
        }
        assert!(merged("").ends_with("  }\n}\n"));
    }

    #[test]
    fn everything_else_stays_to_the_byte() {
        let text = "{\n    // chosen by hand\n    \"theme\":   \"dark\",\n    \"mcpServers\": {\n        \
                    \"other\": { \"command\": \"x\" }, // keep\n    },\n    \"n\": 1.50\n}\n";
        let after = merged(text);
        let added = after.find("\"sluice\"").expect("the server");
        let kept = text.find(" // keep").expect("the comment");
        assert_eq!(after[..kept], text[..kept]);
        assert!(after.ends_with("\n    },\n    \"n\": 1.50\n}\n") && added > kept, "{after}");
        assert!(after.contains("// keep"), "{after}");
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_stay() {
        let after = merged("\u{feff}{\r\n  \"a\": 1\r\n}\r\n");
        assert!(after.starts_with("\u{feff}{\r\n") && !after.replace("\r\n", "").contains('\n'), "{after:?}");
    }

    #[test]
    fn merging_twice_changes_nothing() {
        let once = merged("{\"mcpServers\": {}}");
        assert_eq!(merge(&once, &sluice(), "sluice", false), Ok(Merged::Unchanged));
        assert_eq!(merge(&once, &sluice(), "sluice", true), Ok(Merged::Unchanged));
    }

    #[test]
    fn another_server_of_that_name_is_replaced_only_by_force() {
        let text = "{\"mcpServers\": {\"sluice\": {\"command\": \"mine\"}, \"b\": {}}}";
        assert_eq!(refused(text), MergeError::Taken("sluice".into()));
        let Ok(Merged::Changed(after)) = merge(text, &sluice(), "sluice", true) else {
            panic!("not replaced")
        };
        let value: Value = serde_json::from_str(&after).expect("JSON");
        assert_eq!(value, json!({"mcpServers": {"sluice": sluice().entry, "b": {}}}));
        let Ok(Merged::Changed(after)) = merge(text, &sluice(), "sluice-2", false) else {
            panic!("not added")
        };
        assert!(after.contains("\"mine\"") && after.contains("sluice-2"), "{after}");
    }

    #[test]
    fn what_is_not_understood_is_refused_without_being_quoted() {
        for text in ["{\"key\": \"segredo\" \"b\": 1}", "{'segredo': 1}", "segredo", "{\"segredo\": [1,}"] {
            let error = refused(text);
            assert!(matches!(error, MergeError::Syntax { .. }), "{error:?}");
            assert!(!error.to_string().contains("segredo"), "{error}");
        }
        assert_eq!(refused("[]"), MergeError::Shape("the file", "object"));
        assert_eq!(refused("{\"mcpServers\": []}"), MergeError::Shape("mcpServers", "object"));
        assert_eq!(
            refused("{\"mcpServers\": {}, \"mcpServers\": {}}"),
            MergeError::Ambiguous("mcpServers".into())
        );
    }

    #[test]
    fn questions_are_added_once() {
        let question = |id: &str| json!({"id": id, "type": "promptString"});
        let asking = Configuration { inputs: vec![question("a"), question("b")], ..sluice() };
        let text = "{\"inputs\": [{\"id\": \"a\", \"description\": \"mine\"}]}";
        let Ok(Merged::Changed(after)) = merge(text, &asking, "sluice", false) else { panic!("not added") };
        let value: Value = serde_json::from_str(&after).expect("JSON");
        assert_eq!(value["inputs"], json!([{"id": "a", "description": "mine"}, question("b")]));
        assert_eq!(merge(&after, &asking, "sluice", false), Ok(Merged::Unchanged));
    }
}
