//! Keeps a `metadata` object from being refused, whatever a project's columns or a hand-made event put into it.
//!
//! Mapped members only take their own shape, and the server reads meaning into dots. A member that would be
//! refused is renamed, so that its value is kept in the document beside the others.

use std::borrow::Cow;

use serde_json::Value;

use crate::domain::JsonObject;

#[derive(Clone, Copy)]
enum Mapped {
    /// Text and numbers take any scalar, alone or in lists; numbers leave out what is none.
    Scalars,
    Boolean,
    /// Kept as it is, not indexed.
    Anything,
}

fn mapped(name: &str) -> Option<Mapped> {
    match name {
        "nome" | "telefone" | "empresa" | "projeto" | "interesses" | "origem" | "utm_source"
        | "utm_medium" | "utm_campaign" | "nivel_interesse" | "intencao_detectada" | "total_messages"
        | "duration_seconds" => Some(Mapped::Scalars),
        "is_active" => Some(Mapped::Boolean),
        "localizacao" => Some(Mapped::Anything),
        _ => None,
    }
}

/// The same object where every member is safe, else a copy with the others renamed.
pub(super) fn indexable(metadata: &JsonObject) -> Cow<'_, JsonObject> {
    if metadata.iter().all(|(name, value)| is_safe(name, value)) {
        return Cow::Borrowed(metadata);
    }
    let (safe, unsafe_): (Vec<_>, Vec<_>) = metadata.iter().partition(|(name, value)| is_safe(name, value));
    let mut out: JsonObject = safe.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in unsafe_ {
        let mut renamed = format!("coluna_{}", name.replace('.', "_"));
        while out.contains_key(&renamed) {
            renamed.push('_');
        }
        out.insert(renamed, value.clone());
    }
    Cow::Owned(out)
}

fn is_safe(name: &str, value: &Value) -> bool {
    match mapped(name) {
        Some(Mapped::Scalars) => holds_no_object(value),
        Some(Mapped::Boolean) => value.is_boolean() || value.is_null(),
        Some(Mapped::Anything) => true,
        // Older servers refuse names of white space too.
        None => !name.trim().is_empty() && !name.contains('.'),
    }
}

fn holds_no_object(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => items.iter().all(holds_no_object),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::IndexName, *};

    fn object(value: Value) -> JsonObject {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn the_metadata_of_every_ordinary_event_is_left_alone() {
        let ordinary = object(json!({
            "nome": "Ana", "interesses": ["casa", null], "localizacao": {"uf": "SP"}, "total_messages": 3,
            "is_active": true, "corretor": {"nome": "Bia", "": 1}, "empresa": null
        }));
        assert!(matches!(indexable(&ordinary), Cow::Borrowed(_)));
    }

    #[test]
    fn a_member_that_would_be_refused_is_kept_under_another_name() {
        let odd = object(json!({
            "nome": {"primeiro": "Ana"}, "coluna_nome": 1, "interesses": [["casa", {"a": 1}]], "is_active": "sim",
            "": 1, "a.b": 2, "..": 3, "total_messages": "muitas", "telefone": 5
        }));
        let expected = object(json!({
            "coluna_nome": 1, "coluna_nome_": {"primeiro": "Ana"}, "coluna_interesses": [["casa", {"a": 1}]],
            "coluna_is_active": "sim", "coluna_": 1, "coluna_a_b": 2, "coluna___": 3,
            "total_messages": "muitas", "telefone": 5
        }));
        assert_eq!(*indexable(&odd), expected);
    }

    #[test]
    fn the_mapped_members_here_are_those_of_the_mapping() {
        for index in IndexName::ALL {
            let mapping: Value = serde_json::from_str(index.mapping()).expect("JSON");
            let members = &mapping["properties"]["metadata"]["properties"];
            for (name, mapping) in members.as_object().expect("members") {
                let fits = match mapped(name) {
                    Some(Mapped::Scalars) => mapping["type"] == "text" || mapping["type"] == "long",
                    Some(Mapped::Boolean) => mapping["type"] == "boolean",
                    Some(Mapped::Anything) => mapping["enabled"] == false,
                    None => false,
                };
                assert!(fits, "{name}");
            }
            assert_eq!(members.as_object().expect("members").len(), 15);
        }
    }
}
