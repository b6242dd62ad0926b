//! Characters of strangers' text that must reach neither a terminal nor a reader unseen, and how they are spelt out.

use std::{borrow::Cow, fmt::Write as _};

/// Controls, direction marks and overrides, invisible separators, fillers, marks and tags.
pub(crate) fn deceives(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}'
        | '\u{34f}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'..='\u{891}'
        | '\u{8e2}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        other => other.is_control(),
    }
}

/// Joiners and variation selectors: between letters and emoji of those scripts that need them they are a part of what is
/// seen, anywhere else nobody sees them.
pub(crate) fn joins(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// The characters of a text, and of each whether it deceives where it stands.
pub(crate) fn characters(text: &str) -> impl Iterator<Item = (char, bool)> {
    let mut before = None;
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        let c = rest.next()?;
        let is_hidden = joins(c) && !is_needed(before, c, rest.peek().copied());
        before = Some(c);
        Some((c, is_hidden || deceives(c)))
    })
}

fn is_needed(before: Option<char>, c: char, after: Option<char>) -> bool {
    // Latin and its neighbours, Greek and Cyrillic need none.
    let needs = |c: char| c >= '\u{590}' && !c.is_whitespace() && !deceives(c) && !is_joiner(c);
    let is_keycap = |c: char| matches!(c, '0'..='9' | '#' | '*' | '©' | '®');
    match (before, after) {
        (Some(before), Some(after)) if is_joiner(c) => needs(before) && needs(after),
        (Some(before), _) if !is_joiner(c) => is_keycap(before) || (needs(before) && !joins(before)),
        _ => false,
    }
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// The text with everything spelt out that a terminal would obey or not show; lines stay lines.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false, |c, visible| visible.extend(c.escape_unicode()))
}

/// As [`visible`], on one line: a value can't look like the next line of a report.
pub(crate) fn on_one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n', |c, visible| visible.extend(c.escape_default()))
}

/// JSON with the same content. Its own layout has no other control characters than line breaks.
pub(crate) fn json_visible(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |_| false,
        |c, visible| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(visible, "\\u{unit:04x}");
            }
        },
    )
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let marked = || characters(text).map(|(c, deceives)| (c, deceives || is_bad(c)));
    if marked().all(|(_, is_bad)| !is_bad) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for (c, is_bad) in marked() {
        if is_bad {
            escape(c, &mut visible);
        } else {
            visible.push(c);
        }
    }
    Cow::Owned(visible)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn shown(text: &str) -> String {
        characters(text).map(|(c, deceives)| if deceives { '?' } else { c }).collect()
    }

    #[test]
    fn joiners_stay_where_a_script_or_an_emoji_needs_them() {
        for text in ["👩‍💻 ❤️‍🔥 1️⃣ ©️", "می‌خواهم", "क्‍ष", "João"]
        {
            assert_eq!(shown(text), text);
        }
        for (text, told) in [
            ("a\u{200d}na", "a?na"),
            ("ana\u{200c}", "ana?"),
            ("\u{200d}💻", "?💻"),
            ("👩\u{200d}\u{200d}💻", "👩??💻"),
            ("a\u{fe0f}", "a?"),
            ("👩\u{fe0f}\u{fe0f}", "👩\u{fe0f}?"),
        ] {
            assert_eq!(shown(text), told, "{text:?}");
        }
    }

    #[test]
    fn what_nobody_sees_deceives() {
        for c in "\u{ad}\u{34f}\u{70f}\u{8e2}\u{115f}\u{1160}\u{180e}\u{206a}\u{206f}\u{3164}\u{ffa0}\u{110bd}\u{1d173}\u{202e}\u{e0041}\u{1b}".chars() {
            assert!(deceives(c), "{c:?}");
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_spelt_out() {
        assert_eq!(
            visible("a\u{1b}[2Jb\u{9b}31m\u{202e}\r\nJoão\t1"),
            "a\\u{1b}[2Jb\\u{9b}31m\\u{202e}\\u{d}\nJoão\t1"
        );
        assert_eq!(on_one_line("ok\nFAILED\r\u{7f}"), "ok\\nFAILED\\r\\u{7f}");
        assert_eq!(visible("João 👩‍💻"), "João 👩‍💻");
        assert_eq!(visible("a\u{200d}b\u{ad}\u{3164}"), "a\\u{200d}b\\u{ad}\\u{3164}");
    }

    proptest! {
        #[test]
        fn json_keeps_its_content(text in any::<String>()) {
            let json = serde_json::to_string(&text).expect("JSON");
            let shown = json_visible(&json);
            prop_assert!(!shown.chars().any(deceives), "{}", shown);
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), Value::String(text));
        }

        #[test]
        fn no_text_holds_what_a_terminal_obeys(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(deceives));
            prop_assert!(!on_one_line(&text).chars().any(|c| c == '\n' || deceives(c)));
        }
    }
}
