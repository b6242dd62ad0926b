//! Characters of strangers' text that must reach neither a terminal nor a reader unseen.

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

#[cfg(test)]
mod tests {
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
}
