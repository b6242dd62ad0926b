//! Characters of strangers' text that must reach neither a terminal nor a reader unseen.

/// Controls, direction marks and overrides, invisible separators and tags. Joiners stay: scripts and emoji need them.
pub(crate) fn deceives(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => true,
        other => other.is_control(),
    }
}
