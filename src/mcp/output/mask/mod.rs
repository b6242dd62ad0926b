//! Masks e-mail addresses, phone numbers and IP addresses: by the names of fields wherever a name stands beside a
//! value, and by their shape in every other text.
//!
//! It keeps an assistant from seeing contacts by accident; it is no access control: whoever may write SQL may also ask
//! for the letters of an address one by one. What only looks similar (ids, instants, offsets, numbers) stays as it is.

mod lineage;
mod phone;
mod text;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub(in crate::mcp) use lineage::Dialect;

/// What stands for a masked value as a whole.
const MASK: &str = "***";

/// The fields that are masked unless somebody names others.
const FIELDS: &[(&str, Rule)] = &[
    ("email", Rule::Always),
    ("emails", Rule::Always),
    ("mail", Rule::Always),
    ("telefone", Rule::Always),
    ("telefones", Rule::Always),
    ("phone", Rule::Always),
    ("phones", Rule::Always),
    ("celular", Rule::Always),
    ("celulares", Rule::Always),
    ("whatsapp", Rule::Always),
    ("fone", Rule::Always),
    ("tel", Rule::Always),
    ("ip", Rule::Always),
    ("ip_address", Rule::Always),
    // An e-mail address where there is one, else a name or an id.
    ("usuario", Rule::IfPersonal),
    ("contato", Rule::IfPersonal),
    ("contact", Rule::IfPersonal),
];

/// Members that say which field the member beside them holds a value of, as in `{"field": "telefone", "value": …}`.
const NAMING: [&str; 5] = ["field", "key", "name", "campo", "chave"];
const NAMED: [&str; 4] = ["value", "values", "valor", "valores"];

/// When the value of a field is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::mcp) enum Rule {
    /// Where it looks like an e-mail address, a phone number or an IP address.
    IfPersonal,
    /// Whatever it is.
    Always,
}

impl Rule {
    fn applies_to(self, value: &str) -> bool {
        self == Self::Always || text::is_personal(value)
    }
}

/// Which fields are masked.
#[derive(Debug)]
pub(in crate::mcp) struct Masking {
    fields: BTreeMap<String, Rule>,
}

impl Default for Masking {
    fn default() -> Self {
        Self::new(FIELDS.iter().map(|(name, rule)| ((*name).to_owned(), *rule)))
    }
}

impl Masking {
    /// Masks the fields of these names, which are in small letters, and others named after them: `email` is also
    /// `lead.email`, `contatoEmail` and `email_2`.
    pub(in crate::mcp) fn new(fields: impl IntoIterator<Item = (String, Rule)>) -> Self {
        Self { fields: fields.into_iter().collect() }
    }

    /// How a field of this name is masked.
    fn rule(&self, name: &str) -> Option<Rule> {
        if let Some(rule) = self.fields.get(&name.to_lowercase()) {
            return Some(*rule);
        }
        let words = words(name);
        let whole = words.join("_");
        let last = words.iter().rev().find(|word| !matches!(word.as_str(), "keyword" | ""));
        if let Some(rule) = self.fields.get(&whole).or_else(|| self.fields.get(last?)) {
            return Some(*rule);
        }
        // `email_status` is no address, but `email_2` may be one.
        words.iter().any(|word| self.fields.contains_key(word)).then_some(Rule::IfPersonal)
    }

    /// Masks the value of a field in place.
    pub(in crate::mcp) fn field(&self, name: &str, value: &mut Value) {
        match self.rule(name) {
            Some(rule) => self.named(value, rule),
            None => self.value(value),
        }
    }

    /// Masks a value in place, at any depth.
    pub(in crate::mcp) fn value(&self, value: &mut Value) {
        match value {
            Value::String(given) => {
                if let Some(masked) = self.text(given) {
                    *given = masked;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => self.members(members),
            _ => {}
        }
    }

    fn members(&self, members: &mut Map<String, Value>) {
        super::rename_keys(members, |name| self.text(name));
        self.table(members);
        let named = NAMING.iter().find_map(|name| self.rule(members.get(*name)?.as_str()?));
        for (name, member) in members {
            match named.filter(|_| NAMED.contains(&name.as_str())) {
                Some(rule) => self.named(member, rule.max(self.rule(name).unwrap_or(rule))),
                None => self.field(name, member),
            }
        }
    }

    /// A table as `columns` and `rows` keeps the names apart from the values.
    fn table(&self, members: &mut Map<String, Value>) {
        let Some(Value::Array(columns)) = members.get("columns") else { return };
        let names: Vec<String> = columns
            .iter()
            .map(|column| column.as_str().or_else(|| column.get("name").and_then(Value::as_str)))
            .map(|name| name.unwrap_or_default().to_owned())
            .collect();
        let Some(Value::Array(rows)) = members.get_mut("rows") else { return };
        for row in rows.iter_mut().filter_map(Value::as_array_mut) {
            let naming = names.iter().zip(&*row).filter(|(name, _)| NAMING.contains(&name.as_str()));
            let named = naming.filter_map(|(_, cell)| self.rule(cell.as_str()?)).max();
            for (cell, name) in row.iter_mut().zip(&names) {
                if let Some(rule) = self.rule(name).max(named.filter(|_| NAMED.contains(&name.as_str()))) {
                    self.named(cell, rule);
                }
            }
        }
    }

    /// Masks a value whose name says what it is, and everything in it.
    fn named(&self, value: &mut Value, rule: Rule) {
        match value {
            Value::String(given) if rule.applies_to(given) => *given = masked(given),
            Value::String(_) => self.value(value),
            // A phone number kept as a number. Others count something: `"email": 12` is no address.
            Value::Number(number) if phone::is_whole(&number.to_string()) => {
                *value = Value::String(masked(&number.to_string()));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.named(item, rule)),
            Value::Object(members) => {
                super::rename_keys(members, |name| self.text(name));
                members.values_mut().for_each(|member| self.named(member, rule));
            }
            _ => {}
        }
    }

    /// The text with what is personal in it masked; `None` when nothing is.
    pub(in crate::mcp) fn text(&self, given: &str) -> Option<String> {
        if given.trim_start().starts_with(['{', '['])
            && let Ok(mut inner) = serde_json::from_str::<Value>(given)
        {
            let before = inner.clone();
            self.value(&mut inner);
            return (inner != before).then(|| inner.to_string());
        }
        self.sentence(given)
    }
}

/// The words of a name: `contatoEmail`, `contato_email` and `contato.e-mail2` have the same last one, near enough.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in name.chars() {
        let begins = c.is_uppercase() && was_small;
        was_small = c.is_lowercase();
        if begins || !c.is_alphabetic() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphabetic(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What stands for a value: enough is left of an address or a number to tell two of them apart.
fn masked(given: &str) -> String {
    if is_masked(given) {
        return given.to_owned();
    }
    let given = given.trim();
    if given.contains('@') {
        return match given.chars().next().filter(|c| c.is_alphanumeric()) {
            Some(first) => format!("{first}{MASK}@{MASK}"),
            None => MASK.to_owned(),
        };
    }
    let digits: Vec<char> = given.chars().filter(char::is_ascii_digit).collect();
    match digits.as_slice() {
        [.., a, b] if digits.len() >= 8 && phone::looks_like(given) && given.parse::<std::net::IpAddr>().is_err() => {
            format!("{MASK}{a}{b}")
        }
        _ => MASK.to_owned(),
    }
}

/// What was masked before stays as it is: a value may pass here twice.
fn is_masked(given: &str) -> bool {
    match given.split_once(MASK) {
        Some(("", rest)) => rest.is_empty() || (rest.len() == 2 && rest.bytes().all(|byte| byte.is_ascii_digit())),
        Some((first, rest)) => first.chars().count() == 1 && rest == "@***",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(given: &str) -> String {
        Masking::default().text(given).unwrap_or_else(|| given.to_owned())
    }

    fn value(given: &mut Value) {
        Masking::default().value(given);
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
