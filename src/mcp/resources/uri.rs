use rmcp::ErrorData;
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{Catalog, KeyKind, Table},
    engine::parse_letter_id,
    log::Position,
    mcp::{
        page,
        tools::{GROUPS, Group},
    },
    store::readable,
};

/// Address, name and meaning of each family of resources; besides, each table is one: `sluice://leads/{id}`.
pub(in crate::mcp) const TEMPLATES: &[(&str, &str, &str)] = &[
    (
        "sluice://schema/{table}",
        "Schema of a table",
        "columns, types and meaning of a table that can be queried",
    ),
    (
        "sluice://dead-letters/{id}",
        "A dead letter",
        "why it was parked, its first bytes, and what was decided; tells when it is replayed or discarded",
    ),
    (
        "sluice://exports/{id}",
        "An export",
        "the first part of a file that export made; sluice://exports/{id}/2 is the second",
    ),
    (
        "sluice://tools/{group}",
        "Tools of a group",
        "what a group of tools does, and which of them are offered here",
    ),
];

/// A resource's address, understood.
#[derive(Clone)]
pub(in crate::mcp) enum Uri {
    Status,
    /// The view that clients show.
    App,
    Alerts,
    /// A table of the store.
    Schema(&'static str),
    Entity(Table, String),
    DeadLetter(Position),
    Tools(&'static Group),
    /// A part of a file, counted from 1.
    Export(Uuid, u64),
}

impl Uri {
    /// # Errors
    /// When there is no resource of that address; says which there are.
    pub(in crate::mcp) fn parse(catalog: Catalog, address: &str) -> Result<Self, ErrorData> {
        if address == page::APP {
            return Ok(Self::App);
        }
        let path = address.strip_prefix("sluice://").unwrap_or_default();
        let found = match path.split_once('/') {
            None if path == "status" => Some(Self::Status),
            None if path == "alerts" => Some(Self::Alerts),
            Some(("schema", table)) => match readable(catalog).into_iter().find(|known| *known == table) {
                Some(table) => Some(Self::Schema(table)),
                None => return Err(unknown(address, "tables", readable(catalog).into_iter())),
            },
            Some(("dead-letters", id)) => match parse_letter_id(id) {
                Some(at) => Some(Self::DeadLetter(at)),
                None => {
                    let problem =
                        format!("{address}: a dead letter's id is its partition and offset, as in 0-17");
                    return Err(ErrorData::invalid_params(problem, None));
                }
            },
            Some(("tools", group)) => match GROUPS.iter().find(|known| known.name == group) {
                Some(group) => Some(Self::Tools(group)),
                None => return Err(unknown(address, "groups", GROUPS.iter().map(|group| group.name))),
            },
            Some(("exports", rest)) => {
                let (id, part) = rest.split_once('/').unwrap_or((rest, "1"));
                Uuid::parse_str(id).ok().zip(part.parse().ok()).map(|(id, part)| Self::Export(id, part))
            }
            Some((table, key)) => catalog
                .get(table)
                .filter(|table| !key.is_empty() || table.key.kind == KeyKind::Text)
                .map(|table| Self::Entity(table, decoded(key))),
            _ => None,
        };
        found.ok_or_else(|| {
            let families = TEMPLATES.iter().map(|(template, ..)| *template).chain(["sluice://{table}/{id}"]);
            let single = ["sluice://status", "sluice://alerts"].into_iter();
            unknown(address, "resources", single.chain(families))
        })
    }
}

impl Uri {
    /// Changes only with the program.
    pub(in crate::mcp) fn is_fixed(&self) -> bool {
        matches!(self, Self::App | Self::Schema(_) | Self::Tools(_) | Self::Export(..))
    }
}

/// A key as an address spells it: percent-encoded where it needs to be.
fn decoded(key: &str) -> String {
    percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned()
}

fn unknown(address: &str, what: &str, known: impl Iterator<Item = &'static str>) -> ErrorData {
    let known: Vec<&str> = known.collect();
    ErrorData::resource_not_found(
        format!("{address} does not exist; {what}: {}", known.join(", ")),
        Some(json!({"uri": address})),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<Uri, ErrorData> {
        Uri::parse(Catalog::built_in(), address)
    }

    #[test]
    fn what_does_not_exist_is_answered_with_what_does() {
        for (address, expected) in [
            ("sluice://schema/vendas", "eventos_agregados"),
            ("sluice://tools/all", "sync"),
            ("sluice://statuses", "sluice://status, sluice://alerts, sluice://schema/{table}"),
            ("sluice://vendas/1", "sluice://{table}/{id}"),
            ("http://status", "sluice://status"),
        ] {
            let error = parse(address).err().expect("no such resource");
            assert!(error.message.contains(expected), "{}", error.message);
        }
        assert!(matches!(parse("sluice://status"), Ok(Uri::Status)));
    }

    #[test]
    fn every_family_that_is_read_is_told_of() {
        let member = |template: &str| match template {
            "sluice://schema/{table}" => "sluice://schema/leads",
            "sluice://dead-letters/{id}" => "sluice://dead-letters/0-17",
            "sluice://tools/{group}" => "sluice://tools/sync",
            "sluice://exports/{id}" => "sluice://exports/0199b2c4-6f0e-7c3a-8d5e-2f1a4b6c8d0e/2",
            other => panic!("{other} has no member here"),
        };
        for (template, ..) in TEMPLATES {
            assert!(parse(member(template)).is_ok(), "{template}");
        }
    }

    #[test]
    fn an_entity_is_named_by_its_table_and_its_key() {
        let Ok(Uri::Entity(table, key)) = parse("sluice://leads/a%2Fb%20c") else { panic!("an entity") };
        assert_eq!((table.name(), key.as_str()), ("leads", "a/b c"));
        assert!(parse("sluice://leads/").is_err());
    }
}
