//! What functions make of what they are given, by their names.

use super::Source;

/// Functions whose results say nothing of what is in their arguments.
const TELLS_NOTHING: [&str; 24] = [
    "array_length",
    "ascii",
    "bit_length",
    "bool_and",
    "bool_or",
    "cardinality",
    "char_length",
    "character_length",
    "count",
    "every",
    "instr",
    "json_array_length",
    "json_type",
    "json_typeof",
    "json_valid",
    "jsonb_array_length",
    "jsonb_typeof",
    "length",
    "octet_length",
    "pg_typeof",
    "position",
    "strpos",
    "typeof",
    "unicode",
];

/// Functions that take a value out of the JSON that is their first argument.
const PATHS: [&str; 11] = [
    "json_extract",
    "json_extract_path",
    "json_extract_path_text",
    "json_query",
    "json_value",
    "jsonb_extract",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_path_query",
    "jsonb_path_query_array",
    "jsonb_path_query_first",
];

/// Functions whose result is one of their arguments, or has its looks: an address stays one.
const KEEPS_LOOKS: [&str; 19] = [
    "any_value",
    "coalesce",
    "first_value",
    "greatest",
    "iif",
    "ifnull",
    "initcap",
    "lag",
    "last_value",
    "lead",
    "least",
    "lower",
    "max",
    "min",
    "mode",
    "nth_value",
    "nullif",
    "unnest",
    "upper",
];

/// Functions whose result holds their arguments as they are, JSON with the names in it.
const KEEPS_WHOLE: [&str; 33] = [
    "array_agg",
    "array_to_json",
    "concat",
    "concat_ws",
    "group_concat",
    "json",
    "json_agg",
    "json_array",
    "json_array_elements",
    "json_array_elements_text",
    "json_build_array",
    "json_build_object",
    "json_group_array",
    "json_insert",
    "json_object",
    "json_patch",
    "json_remove",
    "json_replace",
    "json_set",
    "json_strip_nulls",
    "jsonb",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_insert",
    "jsonb_pretty",
    "jsonb_set",
    "jsonb_strip_nulls",
    "row_to_json",
    "string_agg",
    "to_json",
];

/// Of these, those that put texts together into one, whose looks none of them keeps.
const JOINS: [&str; 4] = ["concat", "concat_ws", "group_concat", "string_agg"];

/// Functions that take JSON apart into names and values.
const TAKES_APART: [&str; 6] =
    ["json_each", "json_each_text", "json_tree", "jsonb_each", "jsonb_each_text", "jsonb_tree"];

/// Functions that read their first argument as JSON, be it text.
const READS_JSON: [&str; 20] = [
    "json",
    "json_array_elements",
    "json_array_elements_text",
    "json_array_insert",
    "json_insert",
    "json_object_keys",
    "json_patch",
    "json_pretty",
    "json_remove",
    "json_replace",
    "json_set",
    "jsonb",
    "jsonb_array_insert",
    "jsonb_insert",
    "jsonb_object_keys",
    "jsonb_patch",
    "jsonb_pretty",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
];

/// Functions that put a value where a path says, and make the members that it names.
const PUTS: [&str; 7] = [
    "json_insert",
    "json_replace",
    "json_set",
    "jsonb_insert",
    "jsonb_replace",
    "jsonb_set",
    "jsonb_set_lax",
];

/// Whether the function reads its first argument as JSON.
pub(super) fn reads_json(name: &str) -> bool {
    READS_JSON.contains(&name) || is_path(name) || takes_apart(name)
}

/// Whether the function makes JSON of values, so that no text of its arguments is read as JSON.
pub(super) fn builds_json(name: &str) -> bool {
    name.starts_with("json") || ["to_json", "to_jsonb", "row_to_json", "array_to_json"].contains(&name)
}

pub(super) fn takes_apart(name: &str) -> bool {
    TAKES_APART.contains(&name)
}

/// Whether the function answers with the names of members and nothing else.
pub(super) fn tells_names(name: &str) -> bool {
    ["json_object_keys", "jsonb_object_keys"].contains(&name)
}

/// Whether the function makes objects of names and values: `json_object`, `jsonb_object_agg` and all others that are
/// called so.
pub(super) fn makes_objects(name: &str) -> bool {
    name.contains("object") && !tells_names(name)
}

/// Whether the argument at this place becomes the name of a member.
pub(super) fn is_name(name: &str, at: usize) -> bool {
    if makes_objects(name) { at.is_multiple_of(2) } else { PUTS.contains(&name) && !at.is_multiple_of(2) }
}

pub(super) fn tells_nothing(name: &str) -> bool {
    TELLS_NOTHING.contains(&name)
}

pub(super) fn is_path(name: &str) -> bool {
    PATHS.contains(&name)
}

/// What a function's result may carry whose worst argument carries `worst`. Looks and names may be gone from it.
pub(super) fn result(name: &str, arguments: usize, worst: Source) -> Source {
    let trims = ["trim", "btrim", "ltrim", "rtrim"].contains(&name) && arguments == 1;
    let keeps_looks = trims || KEEPS_LOOKS.contains(&name);
    let keeps_whole = KEEPS_WHOLE.contains(&name) || name == "to_jsonb";
    match worst {
        Source::Json | Source::Row | Source::Items if TAKES_APART.contains(&name) => Source::Values,
        Source::Items | Source::Values if !keeps_looks && !TAKES_APART.contains(&name) => Source::Field,
        Source::Row if builds_json(name) => Source::Json,
        Source::Sometimes | Source::Row if JOINS.contains(&name) => Source::Field,
        Source::Sometimes | Source::Json | Source::Row if !keeps_looks && !keeps_whole => Source::Field,
        worst => worst,
    }
}
