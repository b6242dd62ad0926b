//! Masks e-mail addresses, phone numbers and IP addresses, by the name of a member and by their shape in free text.
//!
//! It keeps an assistant from seeing contacts by accident; it is no access control: whoever may write SQL may also
//! take a column apart. What only looks similar (ids, instants, offsets, numbers) stays as it is.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use regex::{Captures, Regex};
use serde_json::Value;

/// What stands for a masked value as a whole.
const MASK: &str = "***";

/// Digits of a phone number without its area code.
const SHORTEST_PHONE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Email,
    Phone,
    Ip,
}

/// What a member of this name holds.
fn kind(name: &str) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    let last = name.rsplit(['.', '_', '-', ' ']).next().unwrap_or(&name);
    match last {
        "email" | "emails" | "mail" => Some(Kind::Email),
        "telefone" | "telefones" | "phone" | "phones" | "celular" | "whatsapp" | "fone" => Some(Kind::Phone),
        "ip" => Some(Kind::Ip),
        _ if name == "ip_address" => Some(Kind::Ip),
        _ => None,
    }
}

/// Masks a value in place, at any depth.
pub(super) fn value(value: &mut Value) {
    match value {
        Value::String(given) => {
            if let Some(masked) = text(given) {
                *given = masked;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(self::value),
        Value::Object(members) => {
            table(members);
            for (name, member) in members {
                match kind(name) {
                    Some(kind) => named(member, kind),
                    None => self::value(member),
                }
            }
        }
        _ => {}
    }
}

/// A table as `columns` and `rows` keeps the names apart from the values.
fn table(members: &mut serde_json::Map<String, Value>) {
    let Some(Value::Array(columns)) = members.get("columns") else { return };
    let kinds: Vec<Option<Kind>> = columns
        .iter()
        .map(|column| column.as_str().or_else(|| column.get("name").and_then(Value::as_str)).and_then(kind))
        .collect();
    let Some(Value::Array(rows)) = members.get_mut("rows") else { return };
    for row in rows.iter_mut().filter_map(Value::as_array_mut) {
        for (cell, kind) in row.iter_mut().zip(&kinds) {
            if let Some(kind) = kind {
                named(cell, *kind);
            }
        }
    }
}

/// Masks a value whose name says what it is.
fn named(value: &mut Value, kind: Kind) {
    match value {
        Value::String(given) => *given = masked(given, kind),
        // A phone number kept as a number. Others count something: `"email": 12` is no address, `"phones": 3` no phone.
        Value::Number(number) if kind == Kind::Phone && number.to_string().len() >= SHORTEST_PHONE => {
            *value = Value::String(masked(&number.to_string(), kind));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| named(item, kind)),
        Value::Object(_) => self::value(value),
        _ => {}
    }
}

/// Enough of a value is left to tell two of them apart.
fn masked(given: &str, kind: Kind) -> String {
    match kind {
        Kind::Email => {
            let first = given.chars().next().filter(|c| c.is_alphanumeric());
            match (first, given.contains('@')) {
                (Some(first), true) => format!("{first}{MASK}@{MASK}"),
                _ => MASK.to_owned(),
            }
        }
        Kind::Phone => {
            let digits: Vec<char> = given.chars().filter(char::is_ascii_digit).collect();
            match digits.as_slice() {
                [.., a, b] if digits.len() >= SHORTEST_PHONE => format!("{MASK}{a}{b}"),
                _ => MASK.to_owned(),
            }
        }
        Kind::Ip => MASK.to_owned(),
    }
}

/// The text with what is personal masked; `None` when nothing is.
pub(super) fn text(given: &str) -> Option<String> {
    if given.trim_start().starts_with(['{', '['])
        && let Ok(mut inner) = serde_json::from_str::<Value>(given)
    {
        let before = inner.clone();
        value(&mut inner);
        return (inner != before).then(|| inner.to_string());
    }
    if is_phone_of_digits(given) {
        return Some(masked(given, Kind::Phone));
    }
    if given.contains(':') && given.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() && is_public(ip)) {
        return Some(MASK.to_owned());
    }
    let shapes = SHAPES.as_ref()?;
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(found) = shapes.captures_at(given, from) {
        let Some(whole) = found.get(0) else { break };
        from = whole.end();
        if let Some(replacement) = replacement(given, &found) {
            out.push_str(&given[copied..whole.start()]);
            out.push_str(&replacement);
            copied = whole.end();
        } else if found.name("keep").is_none() {
            // It only looked like one; what is to be masked may begin inside it.
            from = whole.start() + given[whole.start()..].chars().next().map_or(1, char::len_utf8);
        }
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&given[copied..]);
    Some(out)
}

fn replacement(given: &str, found: &Captures<'_>) -> Option<String> {
    if let Some(email) = found.name("email") {
        return Some(masked(email.as_str(), Kind::Email));
    }
    if let (Some(name), Some(value)) = (found.name("name"), found.name("value")) {
        let kind = kind(name.as_str())?;
        let label = &given[name.start()..value.start()];
        return Some(format!("{label}{}", masked(value.as_str(), kind)));
    }
    if let Some(phone) = found.name("phone") {
        return stands_alone(given, phone.start(), phone.end()).then(|| masked(phone.as_str(), Kind::Phone));
    }
    let ip = found.name("ip")?;
    let with_port = given[ip.end()..]
        .strip_prefix(':')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let public = ip.as_str().parse().is_ok_and(|ip: Ipv4Addr| is_public(ip.into()));
    (public && !with_port && stands_alone(given, ip.start(), ip.end())).then(|| MASK.to_owned())
}

/// Not a part of a longer id, number or version.
fn stands_alone(given: &str, start: usize, end: usize) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    let before = given[..start].chars().next_back();
    let mut after = given[end..].chars();
    let next = after.next();
    let joined_after = match next {
        Some('-' | '.') => after.next().is_some_and(|c| c.is_ascii_digit()),
        Some(c) => joins(c),
        None => false,
    };
    !before.is_some_and(|c| joins(c) || matches!(c, '-' | '.' | '/' | '+')) && !joined_after
}

/// A text that is nothing but a Brazilian number with its area code, as forms and bigint columns give it.
fn is_phone_of_digits(given: &str) -> bool {
    let given = given.trim();
    if !given.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let national = match given.len() {
        12 | 13 => given.strip_prefix("55"),
        10 | 11 => Some(given),
        _ => None,
    };
    national.is_some_and(|national| match national.as_bytes() {
        // Mobile numbers have a nine before them, the others begin with 2 to 5.
        [a, b, first, ..] => {
            let kind = if national.len() == 11 { *first == b'9' } else { (b'2'..=b'5').contains(first) };
            *a != b'0' && *b != b'0' && kind
        }
        _ => false,
    })
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local()),
    }
}

/// What may be personal, and first what is not although it looks alike.
static SHAPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?x)
        (?P<email> [\w.%+'*\#$&!?/=^`{|}~-]+ @ [\w-]+ (?: \.[\w-]+ )+ )
      | (?P<keep>
            [0-9A-Fa-f]{8} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{12}
          | \d{4}-\d{2}-\d{2} (?: [T\ ] \d{2}:\d{2} (?: :\d{2} (?: \.\d+ )? )? (?: Z | [+-]\d{2}:?\d{2} )? )? )
      | (?i: (?P<name> \b(?: telefone | celular | whatsapp | phone | ip_address ) )
            "? \s* [:=] \s* "? (?P<value> [+(]? [0-9A-Fa-f][0-9A-Fa-f().:\ /-]{3,40} ) )
      | (?P<phone>
            \+ \d{1,3} [\ .-]? \(?\d{2,3}\)? [\ .-]? \d{4,5} [\ .-]? \d{4}
          | \(0?\d{2}\) [\ .-]? 9? [\ .-]? \d{4} [\ .-]? \d{4}
          | (?: 55[\ .-]? )? [1-9]{2} [\ .-] 9? [\ .-]? \d{4} [\ .-] \d{4}
          | [1-9]{2} [\ .-] 9\d{8}
          | 9\d{4}-\d{4}
          | (?: 55 )? [1-9]{2} 9\d{8} )
      | (?P<ip> \d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3} )
        "#,
    )
    .ok()
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(given: &str) -> String {
        text(given).unwrap_or_else(|| given.to_owned())
    }

    #[test]
    fn the_shapes_compile() {
        assert!(SHAPES.is_some());
    }

    #[test]
    fn members_are_masked_by_their_names() {
        let mut given = json!({
            "email": "maria@exemplo.com.br", "lead": {"telefone": 11_987_654_321_u64, "contato_email": "sem arroba"},
            "ip_address": "fe80::1", "by_email": 12, "emails": ["a@b.co"], "nome": "Maria",
        });
        value(&mut given);
        assert_eq!(
            given,
            json!({
                "email": "m***@***", "lead": {"telefone": "***21", "contato_email": "***"},
                "ip_address": "***", "by_email": 12, "emails": ["a***@***"], "nome": "Maria",
            })
        );
    }

    #[test]
    fn cells_are_masked_by_their_columns() {
        let mut given =
            json!({"columns": ["id", {"name": "telefone"}], "rows": [[1, "32211234"], [2, null]]});
        value(&mut given);
        assert_eq!(given["rows"], json!([[1, "***34"], [2, null]]));
    }

    #[test]
    fn brazilian_phones_are_found_in_free_text() {
        for phone in [
            "+55 11 912345678",
            "+55 (11) 91234-5678",
            "+5511912345678",
            "(11) 91234-5678",
            "(11)3123-5678",
            "(011) 3123 5678",
            "11 91234-5678",
            "11 91234 5678",
            "11 912345678",
            "91234-5678",
            "55 11 91234-5678",
            "11912345678",
            "5511912345678",
        ] {
            assert_eq!(of(phone), "***78", "{phone}");
            assert_eq!(of(&format!("ligar para {phone}, hoje")), "ligar para ***78, hoje", "{phone}");
        }
        assert_eq!(of("telefone=3123 5678"), "telefone=***78");
    }

    #[test]
    fn payloads_are_masked_inside_even_where_they_are_cut_off() {
        assert_eq!(of(r#"{"telefone":"31235678","n":1}"#), r#"{"n":1,"telefone":"***78"}"#);
        assert_eq!(of(r#"{"telefone":"31235678","n":"#), r#"{"telefone":"***78","n":"#);
        assert_eq!(of(r#"{"a": 1}"#), r#"{"a": 1}"#);
    }

    #[test]
    fn visitors_addresses_are_masked_and_servers_are_not() {
        assert_eq!(of("from 203.0.113.9"), "from ***");
        assert_eq!(of("2001:db8::7"), "***");
        for kept in ["127.0.0.1:9092", "10.0.0.7", "203.0.113.9:9092", "version 1.2.3.4.5", "::1"] {
            assert_eq!(of(kept), kept);
        }
    }

    #[test]
    fn what_only_looks_alike_is_kept() {
        for kept in [
            "12345678-1234-1234-1234-123456789012",
            "00-11111111111191234567899999999999-1191234567890123-01",
            "offset 1191234567, 1795551234567 ms, versao 1795551234567890",
            "2026-07-28 11:12:13.123456-03:00",
            "localhost:8765",
            "rows 1000-2000 of 40000",
            "01310-100",
            "@decorator",
        ] {
            assert_eq!(of(kept), kept);
        }
    }

    /// What a mail server would take, and a little more.
    fn email() -> impl Strategy<Value = String> {
        "[A-Za-z0-9éãç_%+-]{1,12}(\\.[a-z0-9]{1,5}){0,2}@[a-z0-9ç-]{1,12}(\\.[a-z]{2,6}){1,3}"
    }

    proptest! {
        #[test]
        fn no_email_survives(before in "[ -~]{0,20}", email in email(), after in "[ -~]{0,20}") {
            let masked = of(&format!("{before} {email} {after}"));
            prop_assert!(!masked.contains(&email), "{}", masked);
            let mut nested = json!({"a": [{"texto": format!("{before}<{email}>{after}")}]});
            value(&mut nested);
            prop_assert!(!nested.to_string().contains(&email), "{}", nested);
        }

        #[test]
        fn ids_instants_and_numbers_are_untouched(id in any::<u128>(), seconds in 0i64..4_000_000_000, micros in 0u32..1_000_000, count in 0u64..1_000_000_000) {
            let id = uuid::Uuid::from_u128(id).to_string();
            let at = chrono::DateTime::from_timestamp(seconds, micros * 1000).expect("an instant");
            for kept in [id.clone(), at.to_rfc3339(), at.to_string(), format!("{id} at {} of {count}", at.format("%Y-%m-%dT%H:%M:%S%.6fZ")), at.timestamp_micros().to_string()] {
                prop_assert_eq!(of(&kept), kept);
            }
            let mut numbers = json!({"offset": count, "versao": at.timestamp_micros(), "id": id, "score": 11_987_654_321_u64});
            let before = numbers.clone();
            value(&mut numbers);
            prop_assert_eq!(numbers, before);
        }

        #[test]
        fn masking_twice_is_masking_once(given in any::<String>()) {
            let once = of(&given);
            prop_assert_eq!(of(&once), once);
        }
    }
}
