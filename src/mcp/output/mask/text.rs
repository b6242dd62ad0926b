//! What is personal in a text, found by its shape, or by the name of a field that stands before it.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv6Addr},
    ops::Range,
    sync::LazyLock,
};

use regex::{Captures, Regex};

use super::{Masking, fold::Folded, masked, phone};

/// Characters of a local part in quotes, and bytes of an address in brackets, that are looked at.
const MAX_QUOTED: usize = 64;
const MAX_LITERAL: usize = 46;

/// A part of a text and what stands for it.
type Edit = (Range<usize>, String);

impl Masking {
    /// The text with what is personal in it masked; `None` when nothing is.
    pub(super) fn sentence(&self, given: &str) -> Option<String> {
        let folded = Folded::of(given);
        if phone::is_whole(&folded.text) {
            return Some(masked(&folded.text));
        }
        let mut edits = emails(&folded.text);
        self.others(&folded.text, &mut edits);
        // The longer of two that begin together: a named value is masked as a whole.
        edits.sort_by_key(|(part, _)| (part.start, Reverse(part.end)));
        let mut out = String::new();
        let mut copied = 0;
        for (part, mask) in edits {
            let part = folded.origin(&part);
            if part.start < copied {
                copied = copied.max(part.end);
                continue;
            }
            out.push_str(&given[copied..part.start]);
            out.push_str(&mask);
            copied = part.end;
        }
        if copied == 0 {
            return None;
        }
        out.push_str(&given[copied..]);
        Some(out)
    }

    fn others(&self, given: &str, edits: &mut Vec<Edit>) {
        let Some(shapes) = SHAPES.as_ref() else { return };
        let mut from = 0;
        while from <= given.len()
            && let Some(found) = shapes.captures_at(given, from)
            && let Some(whole) = found.get(0)
        {
            match self.found(given, &found) {
                Found::Personal { start, end, mask } => {
                    edits.push((start..end, mask));
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
        }
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
        if let Some(beside) = found.name("beside") {
            let (start, text) = (beside.start(), beside.as_str());
            return match phone::of_a_phone(text).filter(|length| is_personal(&text[..*length])) {
                Some(length) => personal(start, start + length),
                None => Found::Other { next: start },
            };
        }
        if let Some(ip) = found.name("ip4") {
            let with_port = is_port(&given[ip.end()..]);
            return if !stands_alone(given, ip.start(), ip.end()) {
                Found::Nothing
            } else if with_port
                || is_version(&given[..ip.start()])
                || !self::ip(ip.as_str()).is_some_and(is_public)
            {
                Found::Other { next: ip.end() }
            } else {
                personal(ip.start(), ip.end())
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

/// The e-mail addresses of a text. No pattern: a long text without an address must cost one look.
fn emails(given: &str) -> Vec<Edit> {
    let mut found: Vec<Edit> = Vec::new();
    let mut copied = 0;
    for (at, _) in given.match_indices('@') {
        if at < copied {
            continue;
        }
        let local = local_part(&given[copied..at]);
        let domain = domain(&given[at + 1..]);
        if local > 0 && domain > 0 && !is_login(&given[copied..at]) {
            copied = at + 1 + domain;
            let part = at - local..copied;
            found.push((part.clone(), masked(given[part].trim_start_matches('"'))));
        }
    }
    found
}

/// The bytes of what may stand before an address's `@`, at the end of a text.
fn local_part(text: &str) -> usize {
    if let Some(quoted) = text.strip_suffix('"') {
        let is_inner = |c: &char| c.is_alphanumeric() || " ._-+".contains(*c);
        let inner: usize =
            quoted.chars().rev().take(MAX_QUOTED).take_while(is_inner).map(char::len_utf8).sum();
        let begins = quoted[..quoted.len() - inner].ends_with('"');
        return if begins && inner > 0 { inner + 2 } else { 0 };
    }
    text.chars().rev().take_while(|c| in_local_part(*c)).map(char::len_utf8).sum()
}

/// Whether what stands before an `@` belongs to a server's address: `postgres://user:secret`.
fn is_login(text: &str) -> bool {
    text.trim_end_matches(|c| in_local_part(c) || c == ':').ends_with("//")
}

/// The bytes of the host's name that a text begins with: at least two labels, the last of which is no number, or an
/// address in brackets.
fn domain(text: &str) -> usize {
    if let Some(rest) = text.strip_prefix('[') {
        let literal = rest.bytes().take(MAX_LITERAL).position(|byte| byte == b']').map(|end| &rest[..end]);
        let ip = literal.map(|literal| literal.strip_prefix("IPv6:").unwrap_or(literal));
        let is_ip = ip.is_some_and(|ip| self::ip(ip).is_some());
        return literal.filter(|_| is_ip).map_or(0, |literal| literal.len() + 2);
    }
    let end: usize = text.chars().take_while(|c| in_name(*c) || *c == '.').map(char::len_utf8).sum();
    let name = text[..end].split("..").next().unwrap_or_default();
    let is_numbered = |label: &str| label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit());
    let mut name = name;
    // A version has numbers only.
    while let Some((first, last)) = name.rsplit_once('.') {
        if !is_numbered(last) {
            return if first.is_empty() { 0 } else { name.len() };
        }
        name = first;
    }
    0
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '\u{300}'..='\u{36f}')
}

fn in_local_part(c: char) -> bool {
    in_name(c) || ".%+'*#$!^{}~".contains(c)
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
    let folded = Folded::of(value);
    let value = &*folded.text;
    let is_date = || INSTANT.as_ref().is_some_and(|instant| instant.is_match(value));
    let is_inside =
        |at: usize| value[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '"' | '*'));
    value.match_indices('@').any(|(at, _)| is_inside(at))
        || ip(value).is_some()
        || (phone::looks_like(value) && !is_date())
}

/// The IP address that a text is. Zeros before a number are no sign of another base to whoever wrote them.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    let four = || -> Option<[u8; 4]> {
        let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    text.parse().ok().or_else(|| four().map(IpAddr::from))
}

/// Whether the text before four numbers says that they are a version's.
fn is_version(before: &str) -> bool {
    let before = before.trim_end_matches([' ', ':', '=']);
    let word = before.rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or_default().to_lowercase();
    ["v", "version", "versao", "versão", "release"].contains(&word.as_str())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Not a part of a longer id, number or version.
fn stands_alone(given: &str, start: usize, end: usize) -> bool {
    let before = given[..start].chars().next_back();
    let mut after = given[end..].chars();
    let joined_after = match after.next() {
        Some('-' | '.') => after.next().is_some_and(|c| c.is_ascii_digit()),
        Some(c) => c.is_alphanumeric() || c == '_',
        None => false,
    };
    let joined_before = match before {
        // Behind a slash stands the number of something, unless it is a link that calls or writes to it.
        Some('/') => !given[start..].starts_with('+') && !is_link(&given[..start]),
        // Not behind an underscore: what is put together of words may end in a number.
        Some(c) => c.is_alphanumeric() || matches!(c, '-' | '.' | '+'),
        None => false,
    };
    !joined_before && !joined_after
}

fn is_link(before: &str) -> bool {
    ["wa.me/", "t.me/", "whatsapp.com/"].iter().any(|link| before.ends_with(link))
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
      | (?-u:\b) (?i: telefones? | tel | fone | celular | cel | whats (?:app)? | zap | phone )
            \.? (?: \ (?: é | eh | is | e | para | pro? | no | n[º°o]?\.? ) ){0,2} \ {1,2} (?P<beside> \(? \+? [0-9] [0-9().\ -]{5,24} [0-9] )
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

    fn of(given: &str) -> String {
        Masking::default().text(given).unwrap_or_else(|| given.to_owned())
    }

    #[test]
    fn contacts_are_found_however_their_signs_are_spelled() {
        for (given, told) in [
            ("de fulano＠exemplo.com.br, hoje", "de f***@***, hoje"),
            ("beto&#64;exemplo.com.br", "b***@***"),
            ("beto%40exemplo．com", "b***@***"),
            ("be\u{200d}to&commat;exem\u{ad}plo.com!", "b***@***!"),
            ("\"zeca pires\"@exemplo.com", "z***@***"),
            ("zeca@[192.168.1.20]", "z***@***"),
            ("tel １１ ９８７６５-４３２１", "tel ***21"),
            ("ligue ١١ ٩٨٧٦٥ ٤٣٢١", "ligue ***21"),
            ("11\u{200b}98765\u{ad}-4321", "***21"),
            ("https://wa.me/5511987654321", "https://wa.me/***21"),
            ("https://t.me/+5511987654321", "https://t.me/***21"),
            ("lead_11987654321 lead_200.147.3.157", "lead_***21 lead_***"),
            ("de 200.147.003.157", "de ***"),
            ("ligue no telefone 3123-4567 2 vezes", "ligue no telefone ***67 2 vezes"),
            ("Tel. 3123-4567", "Tel. ***67"),
            ("fone 31234567", "fone ***67"),
            ("meu zap é 987654321", "meu zap é ***21"),
        ] {
            assert_eq!(of(given), told, "{given}");
        }
    }

    #[test]
    fn only_the_address_is_masked_and_what_is_none_is_seen() {
        let url = "https://loja.com/p/apto?utm=1&e=ana@x.com";
        assert_eq!(of(url), "https://loja.com/p/apto?utm=1&e=a***@***");
        assert_eq!(of("sluice://leads/ana@x.com"), "sluice://leads/a***@***");
        for kept in [
            "https://maps.google.com/@-23.5505,-46.6333",
            "postgres://u@db.local/x",
            "postgres://u:p@db.local/x",
            "react@18.2.0, react@18.2.0-rc.1",
            "version 1.2.3.4, v1.2.3.4, versão: 10.20.30.40",
            "/pedidos/11987654321",
            "tel 2026-11-24 e celular 12",
        ] {
            assert_eq!(of(kept), kept);
        }
    }

    #[test]
    fn a_hostile_text_is_read_in_time_that_grows_with_it() {
        let masking = Masking::default();
        for piece in [
            "@[", "a.", "\"@", "tel 1", "&#64;", "＠a.", "%40", "/a@b.c", "1", "a", "f:", "1 ", "a=",
            "email:", "+1", "(", "1.1.1.1.", "@", "a@a", "\u{a0}1", "2001:",
        ] {
            let text = piece.repeat(60_000 / piece.len());
            let began = std::time::Instant::now();
            masking.sentence(&text);
            assert!(began.elapsed().as_secs() < 10, "{piece:?} took {:?}", began.elapsed());
        }
    }
}
