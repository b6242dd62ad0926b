//! Answers that fit: a client cuts what is too long, or loses it altogether.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// Bytes of JSON one answer may have. With its text, which is no longer, it stays below the 25,000 tokens at which
/// clients cut.
pub(super) const LARGEST_ANSWER: usize = 40_000;

/// What is around the rows of an answer.
pub(super) const AROUND: usize = 4_000;

/// Characters of a text, and items of a list, that are shown of a row.
pub(super) const LONGEST_TEXT: usize = 1_000;
const LONGEST_LIST: usize = 50;

/// Characters of a value that stands for all rows with it.
pub(super) const LONGEST_VALUE: usize = 200;

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

/// As [`shorten`], and the more the less room there is: what it leaves has no more bytes of JSON than that.
pub(super) fn shorten_to(value: &mut Value, mut longest: usize, room: usize) -> bool {
    let whole = value.clone();
    let mut cut = shorten(value, longest);
    while size(value) > room && longest > 1 {
        longest /= 4;
        *value = whole.clone();
        cut = shorten(value, longest);
    }
    // Many small values in many others: each is told by its size.
    if size(value) > room
        && let Value::Object(members) = value
    {
        let share = room / (members.len() + 1);
        cut = true;
        for (name, member) in members.iter_mut().filter(|(name, member)| size(member) + name.len() > share) {
            let bytes = whole.get(name).map_or(0, size);
            *member = format!("… ({bytes} bytes)").into();
        }
        if size(value) > room {
            *value = json!({"…": format!("({} bytes)", size(&whole))});
        }
    }
    cut
}

/// Bytes of a value as JSON.
pub(super) fn size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |bytes| bytes.len())
}

/// Takes out of `members` what `row` has already, be it by another name, or has the whole of.
pub(super) fn without_repeats(members: &mut Map<String, Value>, row: &Map<String, Value>) {
    members.retain(|name, value| {
        let is_there = row.get(name).is_some_and(|whole| whole == value || is_rest_of(value, whole));
        // Numbers and truth values are equal by chance.
        let is_there_by_another_name = || {
            matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_))
                && row.values().any(|other| other == value)
        };
        !is_there && !is_there_by_another_name()
    });
}

/// Whether a value is what an event's metadata keeps of one too long for it: its beginning, or its size.
fn is_rest_of(value: &Value, whole: &Value) -> bool {
    let Value::String(value) = value else { return false };
    match whole {
        Value::String(whole) => value.strip_suffix('…').is_some_and(|begin| whole.starts_with(begin)),
        _ => value.starts_with('(') && value.ends_with(" bytes, see dados)"),
    }
}

/// As many of the first items as fit into what is left of the answer.
pub(super) fn fitting<T: Serialize>(items: Vec<T>, room: &mut usize) -> Vec<T> {
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        let Some(left) = room.checked_sub(size(&item) + 1) else { break };
        *room = left;
        kept.push(item);
    }
    kept
}

#[cfg(test)]
mod tests {
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
    fn whatever_a_value_holds_it_is_cut_to_the_room_there_is() {
        let many: Map<String, Value> =
            (0..3000).map(|n| (format!("m{n:04}"), json!("x".repeat(300)))).collect();
        let deep: Value = (0..40)
            .map(|_| (0..40).map(|_| json!([many.len(), [1, 2, 3], {"a": "b"}])).collect::<Value>())
            .collect();
        for whole in [
            json!({"nome": "á".repeat(60_007), "localizacao": many}),
            json!({"a": deep, "b": deep, "c": 1}),
            json!({"n": 1}),
        ] {
            let mut value = whole.clone();
            let cut = shorten_to(&mut value, LONGEST_TEXT, 5_000);
            assert!(size(&value) <= 5_000, "{} bytes", size(&value));
            assert_eq!(cut, value != whole);
        }
    }

    #[test]
    fn what_metadata_keeps_of_a_long_value_is_not_told_beside_the_value() {
        let row = json!({"nome": "abcdef", "interesses": ["a", "b"], "origem": "xyz"});
        let mut metadata =
            json!({"nome": "abc…", "interesses": "(25890 bytes, see dados)", "origem": "abc…"});
        let (Value::Object(row), Value::Object(members)) = (row, &mut metadata) else { panic!("objects") };
        without_repeats(members, &row);
        assert_eq!(metadata, json!({"origem": "abc…"}));
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
