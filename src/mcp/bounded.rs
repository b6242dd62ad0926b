//! Answers that fit: a client cuts what is too long, or loses it altogether.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

/// Bytes of JSON one answer may have. With its text, which is no longer, it stays below the 25,000 tokens at which
/// clients cut.
pub(super) const LARGEST_ANSWER: usize = 40_000;

/// What is around the rows of an answer.
pub(super) const AROUND: usize = 4_000;

/// Characters of a text, and items of a list, that are shown of a row.
pub(super) const LONGEST_TEXT: usize = 1_000;
const LONGEST_LIST: usize = 50;

/// How to see what [`shorten`] cut.
pub(super) const CUT: &str =
    "long texts and lists are cut where their length stands behind them; query_store reads them in parts";

/// Cuts texts to so many characters, and lists and objects to as many items at most; each says how long it is. Whether
/// anything was cut.
pub(super) fn shorten(value: &mut Value, longest: usize) -> bool {
    let most = longest.min(LONGEST_LIST);
    match value {
        Value::String(text) => {
            let Some((at, _)) = text.char_indices().nth(longest) else { return false };
            let length = text.chars().count();
            text.truncate(at);
            // A String takes whatever is written to it.
            let _ = write!(text, "… ({length} characters)");
            true
        }
        Value::Array(items) => {
            let length = items.len();
            items.truncate(most);
            let cut = items.iter_mut().fold(false, |cut, item| shorten(item, longest) | cut);
            if length > most {
                items.push(format!("… ({length} items)").into());
            }
            cut || length > most
        }
        Value::Object(members) => shorten_members(members, longest),
        _ => false,
    }
}

/// Objects keep more of their members than lists of their items: a row is an object.
fn shorten_members(members: &mut Map<String, Value>, longest: usize) -> bool {
    let (length, most) = (members.len(), longest.max(LONGEST_LIST));
    let cut = members.values_mut().fold(false, |cut, member| shorten(member, longest) | cut);
    if length <= most {
        return cut;
    }
    let beyond: Vec<String> = members.keys().skip(most).cloned().collect();
    for name in beyond {
        members.remove(&name);
    }
    members.insert("…".to_owned(), format!("({length} members)").into());
    true
}

/// Takes out of `members` what `row` has already, be it by another name.
pub(super) fn without_repeats(members: &mut Map<String, Value>, row: &Map<String, Value>) {
    members.retain(|name, value| {
        let is_there = row.get(name) == Some(value);
        // Numbers and truth values are equal by chance.
        let is_there_by_another_name = || {
            matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_))
                && row.values().any(|other| other == value)
        };
        !is_there && !is_there_by_another_name()
    });
}

/// As many of the first items as fit into what is left of the answer.
pub(super) fn fitting<T: Serialize>(items: Vec<T>, room: &mut usize) -> Vec<T> {
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        let size = serde_json::to_string(&item).map_or(0, |json| json.len() + 1);
        let Some(left) = room.checked_sub(size) else { break };
        *room = left;
        kept.push(item);
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_texts_lists_and_objects_are_cut_at_any_depth_and_say_so() {
        let many: Map<String, Value> = (0..1200).map(|n| (format!("m{n:04}"), json!(n))).collect();
        let mut value = json!({"a": ["á".repeat(2000)], "b": vec![1; 60], "c": "curto", "d": many});
        assert!(shorten(&mut value, LONGEST_TEXT));
        assert!(value["a"][0].as_str().is_some_and(|text| text.ends_with("á… (2000 characters)")), "{value}");
        assert_eq!(
            (value["b"].as_array().map(Vec::len), &value["b"][50]),
            (Some(51), &json!("… (60 items)"))
        );
        assert_eq!(value["c"], "curto");
        assert_eq!(value["d"]["…"], "(1200 members)");
        assert!(!shorten(&mut json!({"a": ["curto"], "b": [1]}), LONGEST_TEXT));
    }

    #[test]
    fn only_what_a_row_does_not_have_is_left_beside_it() {
        let row =
            json!({"nome_projeto": "Sol", "is_active": true, "n": 3, "interesse": ["casa"], "vazio": ""});
        let mut metadata = json!({
            "projeto": "Sol", "is_active": true, "ativo": true, "n": 4, "interesses": ["casa"], "cargo": "diretora",
        });
        let (Value::Object(row), Value::Object(members)) = (row, &mut metadata) else { panic!("objects") };
        without_repeats(members, &row);
        assert_eq!(metadata, json!({"ativo": true, "n": 4, "cargo": "diretora"}));
    }

    #[test]
    fn only_whole_items_are_kept_and_only_the_first() {
        let mut room = 10;
        assert_eq!(fitting(vec!["aaa", "bbbbbbbbbb", "c"], &mut room), ["aaa"]);
        assert_eq!(room, 4);
    }
}
