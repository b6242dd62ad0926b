use rmcp::ErrorData;
use serde_json::json;
use uuid::Uuid;

use crate::{
    engine::parse_letter_id,
    log::Position,
    mcp::tools::{GROUPS, Group},
    store::tables::{StoreTable, TABLES},
};

/// Address, name and meaning of each family of resources.
pub(in crate::mcp) const TEMPLATES: &[(&str, &str, &str)] = &[
    (
        "sluice://schema/{table}",
        "Schema of a table",
        "columns, types and meaning of a table that can be queried",
    ),
    (
        "sluice://leads/{id}",
        "A lead",
        "a lead's current row, its latest events and chat sessions; tells when a new version is stored",
    ),
    (
        "sluice://dead-letters/{id}",
        "A dead letter",
        "why it was parked, its first bytes, and what was decided; tells when it is replayed or discarded",
    ),
    (
        "sluice://tools/{group}",
        "Tools of a group",
        "what a group of tools does, and which of them are offered here",
    ),
];

/// A resource's address, understood.
#[derive(Clone, Copy)]
pub(in crate::mcp) enum Uri {
    Status,
    Schema(&'static StoreTable),
    Lead(Uuid),
    DeadLetter(Position),
    Tools(&'static Group),
}

impl Uri {
    /// # Errors
    /// When there is no resource of that address; says which there are.
    pub(in crate::mcp) fn parse(address: &str) -> Result<Self, ErrorData> {
        let path = address.strip_prefix("sluice://").unwrap_or_default();
        let found = match path.split_once('/') {
            None if path == "status" => Some(Self::Status),
            Some(("schema", table)) => match StoreTable::from_name(table) {
                Some(table) => Some(Self::Schema(table)),
                None => return Err(unknown(address, "tables", TABLES.iter().map(|table| table.table))),
            },
            Some(("leads", id)) => match Uuid::parse_str(id) {
                Ok(id) => Some(Self::Lead(id)),
                Err(_) => {
                    return Err(ErrorData::invalid_params(format!("{address}: a lead's id is a UUID"), None));
                }
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
            _ => None,
        };
        found.ok_or_else(|| {
            let families = TEMPLATES.iter().map(|(template, ..)| *template);
            unknown(address, "resources", std::iter::once("sluice://status").chain(families))
        })
    }
}

impl Uri {
    /// Changes only with the program.
    pub(in crate::mcp) fn is_fixed(self) -> bool {
        matches!(self, Self::Schema(_) | Self::Tools(_))
    }
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

    #[test]
    fn what_does_not_exist_is_answered_with_what_does() {
        for (address, expected) in [
            ("sluice://schema/vendas", "eventos_agregados"),
            ("sluice://tools/all", "sync"),
            ("sluice://statuses", "sluice://status, sluice://schema/{table}"),
            ("http://status", "sluice://status"),
        ] {
            let error = Uri::parse(address).err().expect("no such resource");
            assert!(error.message.contains(expected), "{}", error.message);
        }
        assert!(matches!(Uri::parse("sluice://status"), Ok(Uri::Status)));
    }

    #[test]
    fn every_family_that_is_read_is_told_of() {
        let member = |template: &str| match template {
            "sluice://schema/{table}" => "sluice://schema/leads",
            "sluice://leads/{id}" => "sluice://leads/01a20fb4-72ff-7785-8adf-2d35fc925ee9",
            "sluice://dead-letters/{id}" => "sluice://dead-letters/0-17",
            "sluice://tools/{group}" => "sluice://tools/sync",
            other => panic!("{other} has no member here"),
        };
        let told: Vec<_> = TEMPLATES
            .iter()
            .map(|(template, ..)| std::mem::discriminant(&Uri::parse(member(template)).expect("a resource")))
            .collect();
        // Every kind but the status, which is one resource and no family.
        for kind in [
            Uri::Schema(&TABLES[0]),
            Uri::Lead(Uuid::nil()),
            Uri::DeadLetter(Position { partition: 0, offset: 0 }),
            Uri::Tools(&GROUPS[0]),
        ] {
            assert!(told.contains(&std::mem::discriminant(&kind)));
        }
    }
}
