//! What is personal in a text, found by its shape, or by the name of a field that stands before it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use regex::{Captures, Regex};

use super::{Masking, masked, phone};

impl Masking {
    /// The text with what is personal in it masked; `None` when nothing is.
    pub(super) fn sentence(&self, given: &str) -> Option<String> {
        if phone::is_whole(given) {
            return Some(masked(given));
        }
        let without_emails = emails(given);
        self.others(without_emails.as_deref().unwrap_or(given)).or(without_emails)
    }

    fn others(&self, given: &str) -> Option<String> {
        let shapes = SHAPES.as_ref()?;
        let mut out = String::new();
        let mut copied = 0;
        let mut from = 0;
        while let Some(found) = shapes.captures_at(given, from) {
            let Some(whole) = found.get(0) else { break };
            match self.found(given, &found) {
                Found::Personal { start, end, mask } => {
                    out.push_str(&given[copied..start]);
                    out.push_str(&mask);
                    copied = end;
                    from = end.max(from + 1);
                }
                Found::Other { next } => from = next,
                // It only looked like one; what is to be masked may begin inside it, but not inside a number.
                Found::Nothing => {
                    let rest = &given[whole.start()..];
                    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                    from = whole.start() + digits.max(rest.chars().next().map_or(1, char::len_utf8));
                }
            }
            if from > given.len() {
                break;
            }
        }
        if copied == 0 {
            return None;
        }
        out.push_str(&given[copied..]);
        Some(out)
    }

    fn found(&self, given: &str, found: &Captures<'_>) -> Found {
        let personal =
            |start: usize, end: usize| Found::Personal { start, end, mask: masked(&given[start..end]) };
        if let Some(keep) = found.name("keep") {
            return Found::Other { next: keep.end() };
        }
        if let Some(name) = found.name("name") {
            let quoted = found.name("quoted");
            let Some(value) = quoted.or_else(|| found.name("bare")) else { return Found::Nothing };
            let (text, is_masked) = match (self.rule(name.as_str()), quoted) {
                (None, _) => ("", false),
                (Some(rule), Some(quoted)) => (quoted.as_str(), rule.applies_to(quoted.as_str())),
                // Beside a name in a sentence any word may stand, and the sentence's signs.
                (Some(_), None) => {
                    let text = value.as_str().trim_end_matches(|c: char| !c.is_alphanumeric() && c != '*');
                    (text, is_personal(text))
                }
            };
            if is_masked {
                return personal(value.start(), value.start() + text.len());
            }
            return Found::Other { next: value.start() };
        }
        if let Some(ip) = found.name("ip4") {
            let with_port = is_port(&given[ip.end()..]);
            let public = ip.as_str().parse().is_ok_and(|ip: Ipv4Addr| is_public(ip.into()));
            return if !stands_alone(given, ip.start(), ip.end()) {
                Found::Nothing
            } else if public && !with_port {
                personal(ip.start(), ip.end())
            } else {
                Found::Other { next: ip.end() }
            };
        }
        if let Some(ip) = found.name("ip6") {
            // A sentence's own sign may stand behind it.
            let text = Some(ip.as_str()).filter(|text| text.ends_with("::"));
            let text = text.unwrap_or_else(|| ip.as_str().trim_end_matches([':', '.']));
            let end = ip.start() + text.len();
            let with_port = given[end..].strip_prefix(']').is_some_and(is_port);
            let public = text.parse().is_ok_and(|ip: Ipv6Addr| is_public(ip.into()));
            let is_part = given[..ip.start()].ends_with(':');
            return if public && !with_port && !is_part && stands_alone(given, ip.start(), end) {
                personal(ip.start(), end)
            } else {
                Found::Nothing
            };
        }
        let Some(run) = found.name("run") else { return Found::Nothing };
        match phone::leading(run.as_str()) {
            Some(length) if stands_alone(given, run.start(), run.start() + length) => {
                personal(run.start(), run.start() + length)
            }
            _ => Found::Nothing,
        }
    }
}

/// The text with its e-mail addresses masked. No pattern: a long text without an address must cost one look.
fn emails(given: &str) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    for (at, _) in given.match_indices('@') {
        if at < copied {
            continue;
        }
        let local = given[copied..at]
            .chars()
            .rev()
            .take_while(|c| in_local_part(*c))
            .map(char::len_utf8)
            .sum::<usize>();
        let domain = domain(&given[at + 1..]);
        if local > 0 && domain > 0 {
            out.push_str(&given[copied..at - local]);
            copied = at + 1 + domain;
            out.push_str(&masked(&given[at - local..copied]));
        }
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&given[copied..]);
    Some(out)
}

/// The bytes of the host's name that a text begins with: at least two labels.
fn domain(text: &str) -> usize {
    let mut end = 0;
    for (label, part) in text.split('.').enumerate() {
        let length: usize = part.chars().take_while(|c| in_name(*c)).map(char::len_utf8).sum();
        if length == 0 {
            break;
        }
        end += length + usize::from(label > 0);
        if length < part.len() {
            return if label > 0 { end } else { 0 };
        }
    }
    if text[..end].contains('.') { end } else { 0 }
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '\u{300}'..='\u{36f}')
}

fn in_local_part(c: char) -> bool {
    in_name(c) || ".%+'*#$&!?/=^`{|}~".contains(c)
}

enum Found {
    Personal {
        start: usize,
        end: usize,
        mask: String,
    },
    /// Something that is not personal, as a whole: what comes behind it is looked at from `next` on.
    Other {
        next: usize,
    },
    Nothing,
}

/// Whether a value by itself is an e-mail address, a phone number or an IP address.
pub(super) fn is_personal(value: &str) -> bool {
    let is_date = || INSTANT.as_ref().is_some_and(|instant| instant.is_match(value));
    value.contains('@') || value.parse::<IpAddr>().is_ok() || (phone::looks_like(value) && !is_date())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Not a part of a longer id, number or version.
fn stands_alone(given: &str, start: usize, end: usize) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    let before = given[..start].chars().next_back();
    let mut after = given[end..].chars();
    let joined_after = match after.next() {
        Some('-' | '.') => after.next().is_some_and(|c| c.is_ascii_digit()),
        Some(c) => joins(c),
        None => false,
    };
    !before.is_some_and(|c| joins(c) || matches!(c, '-' | '.' | '/' | '+')) && !joined_after
}

/// Addresses of the world: those of a host or a network of its own say nothing of a person.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}

/// What may be personal, and first what is not although it looks alike. Everything repeated is bounded, so that the
/// time grows with the text and no faster.
static SHAPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?x)
        (?P<keep>
            [0-9A-Fa-f]{8} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{12}
          | [0-9]{4}-[0-9]{2}-[0-9]{2}
            (?: [T\ ] [0-9]{2}:[0-9]{2} (?: :[0-9]{2} (?: \.[0-9]{1,9} )? )? (?: Z | [+-][0-9]{2}:?[0-9]{2} )? )?
          | [0-9]{1,2}/[0-9]{1,2}/[0-9]{4} (?: \ [0-9]{1,2}:[0-9]{2} (?: :[0-9]{2} )? )? )
      | (?-u:\b) (?P<name> [A-Za-z_\u{c0}-\u{24f}] [A-Za-z0-9_.\u{c0}-\u{24f}-]{0,60} ) [\\"')\]]{0,3} [\ \t]{0,3} [:=] [\ \t]{0,3} (?:
            \\? " (?P<quoted> [^"\\]{1,300} )
          | [('\[]{0,2} (?P<bare> [^\s"',;|()\[\]{}<>«»“”]{1,80} (?: [\ ().-]{1,3} [0-9] [0-9().\ -]{0,30} )?
                        | \( [0-9] [0-9().\ -]{3,40} ) )
      | (?P<ip4> [0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3} )
      | (?P<ip6> [0-9A-Fa-f]{0,4} : [0-9A-Fa-f:.]{0,41} [0-9A-Fa-f:] )
      | (?P<run> \(? \+? \(? [0-9] (?: [\ \t.()\-\u{a0}\u{202f}\u{2010}-\u{2015}]{0,3} [0-9] ){6,19} )
        "#,
    )
    .ok()
});

/// A date, or an instant.
static INSTANT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{4})(?:$|[T ])").ok()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_compile() {
        assert!(SHAPES.is_some() && INSTANT.is_some());
    }

    #[test]
    fn a_hostile_text_is_read_in_time_that_grows_with_it() {
        let masking = Masking::default();
        for piece in
            ["1", "a", "f:", "1 ", "a=", "email:", "+1", "(", "1.1.1.1.", "@", "a@a", "\u{a0}1", "2001:"]
        {
            let text = piece.repeat(60_000 / piece.len());
            let began = std::time::Instant::now();
            masking.sentence(&text);
            assert!(began.elapsed().as_secs() < 10, "{piece:?} took {:?}", began.elapsed());
        }
    }
}
