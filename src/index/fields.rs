//! The fields of an index, read from its mapping.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

use super::IndexName;

/// How a field is indexed, and so what may be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Cut into words, lower case, without accents.
    Text,
    /// One term, as it is.
    Keyword,
    Long,
    Double,
    Boolean,
    Date,
    /// An IP address.
    Ip,
    /// Kept in the document, not searchable.
    Stored,
}

/// A field of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// `metadata.origem`, `nome.keyword`.
    pub path: String,
    /// Where in the document its values are: the path without a sub-field's name.
    pub source: String,
    pub kind: FieldKind,
}

/// The fields of one index, by path.
#[derive(Debug)]
pub struct Fields(BTreeMap<String, Field>);

impl Fields {
    /// The fields of an index.
    pub fn of(index: IndexName) -> &'static Self {
        static ALL: LazyLock<[Fields; 3]> = LazyLock::new(|| IndexName::ALL.map(Fields::read));
        match index {
            IndexName::Eventos => &ALL[0],
            IndexName::Leads => &ALL[1],
            IndexName::ChatSessions => &ALL[2],
        }
    }

    fn read(index: IndexName) -> Self {
        // The files are part of the binary and a test reads each.
        let mapping: Value = serde_json::from_str(index.mapping()).unwrap_or_default();
        let mut fields = BTreeMap::new();
        collect("", &mapping["properties"], &mut fields);
        Self(fields)
    }

    /// The field of that path.
    pub fn get(&self, path: &str) -> Option<&Field> {
        self.0.get(path)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.values()
    }

    /// What a count by this field counts: a text's words say nothing, its whole values do.
    pub fn countable(&self, path: &str) -> Option<&Field> {
        let field = self.get(path)?;
        match field.kind {
            FieldKind::Text | FieldKind::Ip => self.get(&format!("{path}.keyword")),
            FieldKind::Stored => None,
            _ => Some(field),
        }
    }

    /// What a term is looked for in where it names no field: every text and every id.
    pub fn searched_by_default(&self) -> impl Iterator<Item = &Field> {
        let holds_text = |field: &&Field| matches!(field.kind, FieldKind::Text | FieldKind::Keyword);
        self.iter().filter(holds_text).filter(|field| field.path == field.source)
    }

    /// At most `most` paths that somebody who wrote `name` may have meant, the likeliest first.
    pub fn close_to(&self, name: &str, most: usize) -> Vec<&str> {
        let name = name.to_lowercase();
        let mut close: Vec<(usize, &str)> = self
            .iter()
            .filter(|field| field.path == field.source && field.kind != FieldKind::Stored)
            .filter_map(|field| {
                let last = field.path.rsplit('.').next().unwrap_or(&field.path);
                let distance = strsim::damerau_levenshtein(&name, &field.path.to_lowercase())
                    .min(strsim::damerau_levenshtein(&name, last));
                // Short names are part of many others by chance: `id` of `cidade`.
                let contains =
                    (name.len() >= 4 && last.contains(&name)) || (last.len() >= 4 && name.contains(last));
                (distance <= 2.min(name.len() / 2) || contains).then_some((distance, field.path.as_str()))
            })
            .collect();
        close.sort_unstable();
        close.into_iter().take(most).map(|(_, path)| path).collect()
    }

    /// The paths that may be asked for, sub-fields left out, for those who named another.
    pub fn known(&self) -> String {
        let paths = self.iter().filter(|field| field.path == field.source && field.kind != FieldKind::Stored);
        paths.map(|field| field.path.as_str()).collect::<Vec<_>>().join(", ")
    }
}

fn collect(prefix: &str, properties: &Value, into: &mut BTreeMap<String, Field>) {
    for (name, mapping) in properties.as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let kind = match mapping["type"].as_str() {
            Some("text") => FieldKind::Text,
            Some("keyword") => FieldKind::Keyword,
            Some("long") => FieldKind::Long,
            Some("double") => FieldKind::Double,
            Some("boolean") => FieldKind::Boolean,
            Some("date") => FieldKind::Date,
            Some("ip") => FieldKind::Ip,
            _ if mapping["enabled"] == false => FieldKind::Stored,
            _ => {
                collect(&format!("{path}."), &mapping["properties"], into);
                continue;
            }
        };
        for (sub, _) in mapping["fields"].as_object().into_iter().flatten() {
            let sub = format!("{path}.{sub}");
            into.insert(sub.clone(), Field { path: sub, source: path.clone(), kind: FieldKind::Keyword });
        }
        into.insert(path.clone(), Field { source: path.clone(), path, kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_is_json_closed_to_unknown_fields_and_of_known_types() {
        for index in IndexName::ALL {
            let mapping: Value = serde_json::from_str(index.mapping()).expect("JSON");
            assert_eq!(mapping["dynamic"], false);
            assert_eq!(mapping["properties"]["metadata"]["dynamic"], false);
            assert!(Fields::of(index).iter().count() > 20);
        }
    }

    #[test]
    fn every_typed_column_has_a_field() {
        for table in crate::domain::Table::ALL {
            for column in table.columns() {
                assert!(Fields::of(IndexName::of(table)).get(column).is_some(), "{table}.{column}");
            }
        }
    }

    #[test]
    fn a_path_means_the_same_kind_in_every_index() {
        for index in IndexName::ALL {
            for field in Fields::of(index).iter() {
                for other in IndexName::ALL {
                    if let Some(twin) = Fields::of(other).get(&field.path) {
                        assert_eq!(twin.kind, field.kind, "{}", field.path);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_offered_instead_is_like_what_was_written() {
        let fields = Fields::of(IndexName::Leads);
        assert_eq!(fields.close_to("status", 3), ["status_lead"]);
        assert_eq!(fields.close_to("scor_qualificacao", 1), ["score_qualificacao"]);
        assert!(!fields.close_to("cidade", 3).contains(&"id"));
    }

    #[test]
    fn paths_lead_to_members_and_sub_fields() {
        let fields = Fields::of(IndexName::Eventos);
        assert_eq!(fields.get("metadata.origem").map(|f| f.kind), Some(FieldKind::Text));
        assert_eq!(fields.get("categoria.keyword").map(|f| f.source.as_str()), Some("categoria"));
        assert_eq!(fields.countable("categoria").map(|f| f.path.as_str()), Some("categoria.keyword"));
        assert_eq!(fields.get("dados").map(|f| f.kind), Some(FieldKind::Stored));
        assert!(fields.countable("dados").is_none());
    }
}
