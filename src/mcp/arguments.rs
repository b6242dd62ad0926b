//! Arguments as clients send them, made into what the published schema of a tool says.
//!
//! Models and the programs around them send "24" for 24, 24.0 (which JSON Schema calls an integer), "true", and null
//! for what they leave out. Where the meaning is plain it is taken, here and for every tool alike; where it is not,
//! the error says what to send. The schemas keep to the one spelling that a model should learn: they are read in every
//! conversation, and whoever validates strictly validates what it sends itself.

use rmcp::model::JsonObject;
use serde_json::{Number, Value};

use super::answer::ToolError;
use crate::domain::json;

/// From this likeness on a name is taken for a slip of another: 1 is the same.
const LIKE_ENOUGH: f64 = 0.8;

/// Doubles hold each whole number below this.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What the arguments of a call are where they are no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// JSON in a text.
    Text,
    Other,
}

impl Misplaced {
    pub(super) fn problem(self) -> &'static str {
        match self {
            Self::Text => {
                "are JSON in a text; send the object itself: \"arguments\": {\"limit\": 5}, not \"arguments\": \
                 \"{\\\"limit\\\": 5}\""
            }
            Self::Other => "must be an object with a member for each argument, such as {\"limit\": 5}",
        }
    }
}

/// The arguments as the schema has them; a schema that names none takes any.
///
/// # Errors
/// Names an argument that the schema does not know, with the one that was probably meant, or one that is JSON in a
/// text. Whatever else is wrong is left for whoever reads the arguments.
pub(super) fn coerced(schema: &JsonObject, given: JsonObject) -> Result<JsonObject, ToolError> {
    if !schema.contains_key("properties") {
        return Ok(given);
    }
    members(schema, given, "")
}

fn members(schema: &JsonObject, given: JsonObject, at: &str) -> Result<JsonObject, ToolError> {
    let known = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    let mut taken = JsonObject::new();
    for (name, value) in given {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let schema = match (known.and_then(|known| known.get(&name)), others) {
            // What is null is left out; what must not be is then missed.
            (Some(_), _) if value.is_null() => continue,
            (Some(schema), _) | (None, Some(schema)) => schema,
            (None, None) => {
                let names: Vec<&str> =
                    known.into_iter().flat_map(JsonObject::keys).map(String::as_str).collect();
                return Err(ToolError::argument(&path, unknown(&name, &names)));
            }
        };
        taken.insert(name, coerce(schema, value, &path)?);
    }
    Ok(taken)
}

fn coerce(schema: &Value, value: Value, at: &str) -> Result<Value, ToolError> {
    let Some(schema) = schema.as_object() else { return Ok(value) };
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    Ok(match (kind, value) {
        ("integer", Value::Number(number)) => whole(&number).map_or(Value::Number(number), Value::Number),
        ("integer", Value::String(text)) => {
            number(&text).and_then(|number| whole(&number)).map_or(Value::String(text), Value::Number)
        }
        ("number", Value::String(text)) => number(&text).map_or(Value::String(text), Value::Number),
        ("boolean", Value::String(text)) => match text.trim() {
            yes if yes.eq_ignore_ascii_case("true") => Value::Bool(true),
            no if no.eq_ignore_ascii_case("false") => Value::Bool(false),
            _ => Value::String(text),
        },
        ("string", Value::Number(number)) => Value::String(plain(&number)),
        ("array", Value::Array(items)) => match schema.get("items") {
            Some(schema) => {
                let each = items.into_iter().enumerate();
                each.map(|(n, item)| coerce(schema, item, &format!("{at}[{n}]"))).collect::<Result<_, _>>()?
            }
            None => Value::Array(items),
        },
        // An object that says nothing of its members takes any.
        ("object", Value::Object(given)) if schema.contains_key("properties") => {
            Value::Object(members(schema, given, at)?)
        }
        ("array", Value::String(text)) if holds(&text, '[') => {
            return Err(ToolError::argument(
                at,
                "is JSON in a text; send the list itself, without quotes around it",
            ));
        }
        ("object", Value::String(text)) if holds(&text, '{') => {
            return Err(ToolError::argument(
                at,
                "is JSON in a text; send the object itself, without quotes around it",
            ));
        }
        (_, value) => value,
    })
}

fn holds(text: &str, first: char) -> bool {
    text.trim_start().starts_with(first) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The number that a text spells as JSON does, unless reading it would change it.
fn number(text: &str) -> Option<Number> {
    serde_json::from_str::<Number>(text.trim()).ok()?;
    match json::to_value(text) {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

/// A whole number, however it is written.
fn whole(number: &Number) -> Option<Number> {
    if !number.is_f64() {
        return Some(number.clone());
    }
    let double = number.as_f64().filter(|double| double.fract() == 0.0 && double.abs() < EXACT)?;
    #[allow(clippy::cast_possible_truncation)] // it is whole and exact
    let whole = double as i64;
    Some(whole.into())
}

/// A number as text: 24 and 24.0 are the same number.
pub(super) fn plain(number: &Number) -> String {
    whole(number).unwrap_or_else(|| number.clone()).to_string()
}

/// What to say of an argument that nobody knows.
pub(super) fn unknown(name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return "is no argument; leave it out, none is taken".to_owned();
    }
    let meant = nearest(name, known.iter().copied()).map(|meant| format!("did you mean `{meant}`? "));
    format!("is no argument; {}there are {}", meant.unwrap_or_default(), known.join(", "))
}

/// The name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (likeness(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// A name cut short is likelier than a misspelt one.
fn likeness(name: &str, known: &str) -> f64 {
    strsim::jaro_winkler(name, known) + f64::from(u8::from(name.len() > 2 && known.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::{Access, Offer, offer::Toolbox};

    fn schema() -> JsonObject {
        let schema = json!({"type": "object", "properties": {
            "limit": {"type": "integer"}, "share": {"type": "number"}, "wait": {"type": "boolean"},
            "status": {"type": "string"}, "ids": {"type": "array", "items": {"type": "integer"}},
            "filter": {"type": "object", "properties": {"field": {"type": "string"}, "most": {"type": "integer"}}},
            "dados": {"type": "object"}, "value": {"description": "Of any kind."},
        }});
        schema.as_object().cloned().expect("an object")
    }

    fn read(given: Value) -> Result<Value, String> {
        let given = given.as_object().cloned().expect("an object");
        coerced(&schema(), given).map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn what_plainly_means_something_is_taken_for_that() {
        for (given, expected) in [
            (json!({"limit": "24"}), json!({"limit": 24})),
            (json!({"limit": " 24.0 "}), json!({"limit": 24})),
            (json!({"limit": 24.0}), json!({"limit": 24})),
            (json!({"limit": -3e2}), json!({"limit": -300})),
            (json!({"share": "0.5"}), json!({"share": 0.5})),
            (json!({"share": "12345678901234567890123"}), json!({"share": "12345678901234567890123"})),
            (json!({"wait": "False"}), json!({"wait": false})),
            (json!({"status": 24}), json!({"status": "24"})),
            (json!({"status": 24.0}), json!({"status": "24"})),
            (json!({"status": 5_511_987_654_321_u64}), json!({"status": "5511987654321"})),
            (json!({"status": null, "limit": null}), json!({})),
            (json!({"ids": ["1", 2.0, 3]}), json!({"ids": [1, 2, 3]})),
            (json!({"filter": {"most": "3", "field": null}}), json!({"filter": {"most": 3}})),
        ] {
            assert_eq!(read(given.clone()), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_for_whoever_reads_it() {
        for given in [
            json!({"limit": "many"}),
            json!({"limit": ""}),
            json!({"limit": "1,000"}),
            json!({"limit": 24.5}),
            json!({"limit": 1e300}),
            json!({"limit": true}),
            json!({"limit": [24]}),
            json!({"wait": "yes"}),
            json!({"wait": 1}),
            json!({"status": true}),
            json!({"ids": "[sic]"}),
            json!({"dados": {"limit": "24", "null": null, "unknown": 24.0}}),
            json!({"value": "24"}),
            json!({"value": 24.0}),
        ] {
            assert_eq!(read(given.clone()), Ok(given.clone()), "{given}");
        }
    }

    #[test]
    fn json_in_a_text_is_told_apart_from_the_list_or_object_it_holds() {
        for (given, expected) in [
            (json!({"ids": "[1, 2]"}), "ids: is JSON in a text; send the list itself"),
            (json!({"filter": "{\"field\": \"x\"}"}), "filter: is JSON in a text; send the object itself"),
            (json!({"dados": "{}"}), "dados: is JSON in a text"),
        ] {
            let error = read(given).expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn an_unknown_argument_gets_the_name_that_was_meant() {
        for (given, expected) in [
            (json!({"limite": 5}), "limite: is no argument; did you mean `limit`? there are "),
            (json!({"Limit": 5}), "did you mean `limit`?"),
            (json!({"xyz": null}), "xyz: is no argument; there are "),
            (json!({"filter": {"feld": "x"}}), "filter.feld: is no argument; did you mean `field`?"),
        ] {
            let error = read(given).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let none = JsonObject::from_iter([("properties".to_owned(), json!({}))]);
        let nothing = coerced(&none, JsonObject::from_iter([("x".to_owned(), json!(1))]));
        assert_eq!(
            nothing.expect_err("no argument").to_string(),
            "x: is no argument; leave it out, none is taken"
        );
    }

    /// A value of a schema's kind, and the forms in which clients send it.
    fn forms(schema: &Value) -> Option<(Value, Vec<Value>)> {
        let choices = schema["enum"].as_array();
        Some(match schema["type"].as_str()? {
            "integer" => (json!(24), vec![json!("24"), json!(24.0), json!("24.0")]),
            "number" => (json!(0.5), vec![json!("0.5")]),
            "boolean" => (json!(true), vec![json!("true"), json!("True")]),
            "string" if choices.is_some() => (choices?[0].clone(), vec![]),
            "string" => (json!("24"), vec![json!(24), json!(24.0)]),
            _ => return None,
        })
    }

    #[test]
    fn every_tool_takes_what_its_published_schema_says_in_the_forms_that_clients_send() {
        let mut tried = 0;
        for tool in Toolbox::new(&Offer::default()).list(Access::Full) {
            let properties = tool.input_schema.get("properties").and_then(Value::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                let given = |value: Value| JsonObject::from_iter([(name.clone(), value)]);
                let read = |value: Value| coerced(&tool.input_schema, given(value)).expect("known");
                assert_eq!(read(Value::Null), JsonObject::new(), "{}: {name}", tool.name);
                let Some((value, forms)) = forms(schema) else { continue };
                assert_eq!(read(value.clone()), given(value.clone()), "{}: {name}", tool.name);
                for form in forms {
                    assert_eq!(read(form.clone()), given(value.clone()), "{}: {name}: {form}", tool.name);
                    tried += 1;
                }
            }
            let unknown =
                coerced(&tool.input_schema, JsonObject::from_iter([("x_y_z".to_owned(), json!(1))]));
            assert!(unknown.is_err(), "{} takes anything", tool.name);
        }
        assert!(tried > 50, "{tried}");
    }
}
