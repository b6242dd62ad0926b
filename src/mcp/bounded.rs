//! Answers that fit: a client cuts what is too long, or loses it altogether.

use serde::Serialize;
use serde_json::Value;

/// Bytes of JSON one answer may have.
pub(super) const LARGEST_ANSWER: usize = 60_000;

/// What is around the rows of an answer.
pub(super) const AROUND: usize = 4_000;

/// Characters of a text, and items of a list, that are shown of a row.
const LONGEST_TEXT: usize = 1_000;
const LONGEST_LIST: usize = 50;

/// Cuts long texts and lists of a row, and says how long they are.
pub(super) fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            if length > LONGEST_TEXT {
                let begin: String = text.chars().take(LONGEST_TEXT).collect();
                *text = format!("{begin}… ({length} characters)");
            }
        }
        Value::Array(items) => {
            let length = items.len();
            if length > LONGEST_LIST {
                items.truncate(LONGEST_LIST);
                items.push(format!("… ({length} items)").into());
            }
            items.iter_mut().for_each(shorten);
        }
        Value::Object(object) => object.values_mut().for_each(shorten),
        _ => {}
    }
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
    fn long_texts_and_lists_are_cut_at_any_depth_and_say_so() {
        let mut value = json!({"a": ["á".repeat(2000)], "b": vec![1; 60], "c": "curto"});
        shorten(&mut value);
        assert!(value["a"][0].as_str().is_some_and(|text| text.ends_with("á… (2000 characters)")), "{value}");
        assert_eq!(
            (value["b"].as_array().map(Vec::len), &value["b"][50]),
            (Some(51), &json!("… (60 items)"))
        );
        assert_eq!(value["c"], "curto");
    }

    #[test]
    fn only_whole_items_are_kept_and_only_the_first() {
        let mut room = 10;
        assert_eq!(fitting(vec!["aaa", "bbbbbbbbbb", "c"], &mut room), ["aaa"]);
        assert_eq!(room, 4);
    }
}
