//! The names of the indices, and what they must look like.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use serde_json::{Map, Value, json};

use super::PART;
use crate::{
    fault::Fault,
    index::{Columns, FieldKind, Fields, IndexName, MAX_KEYWORD, REMOVED, fields::Indices},
};

const SETTINGS: &str = include_str!("settings.json");

/// The member of a mapping's `_meta` that says what the columns of the documents are made of.
pub(super) const COLUMNS: &str = "sluice_columns";

/// Fields that a server lets an index have unless told otherwise.
const DEFAULT_FIELDS: usize = 1000;

/// The aliases that are written and searched.
#[derive(Debug)]
pub(super) struct Names {
    aliases: Vec<(IndexName, String)>,
    indices: Indices,
    /// What serves, where it was made with other kinds of fields than the definitions would give it now.
    serving: RwLock<HashMap<IndexName, &'static Fields>>,
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str, indices: Indices) -> Result<Self, Fault> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
        let starts_well = !prefix.starts_with(['_', '-', '.']);
        if !prefix.chars().all(allowed) || !starts_well || prefix.len() > 180 {
            return Err(Fault::misconfigured(
                PART,
                "the index prefix is not one that names of indices may have",
                "use lower-case letters, digits, '-', '_' and '.', 180 at most, beginning with a letter or a digit",
            ));
        }
        let aliases = indices.names().map(|index| (index, format!("{prefix}{index}"))).collect();
        Ok(Self { aliases, indices, serving: RwLock::default(), prefix: prefix.to_owned() })
    }

    pub(super) fn indices(&self) -> Indices {
        self.indices
    }

    /// What can be asked of an index as it was last seen.
    pub(super) fn fields(&self, index: IndexName) -> &'static Fields {
        let serving = self.serving.read().unwrap_or_else(PoisonError::into_inner);
        serving.get(&index).copied().unwrap_or_else(|| self.indices.fields(index))
    }

    /// Remembers how the index is that serves.
    pub(super) fn found(&self, index: IndexName, made: impl Fn(&str) -> Option<FieldKind>) {
        let fields = self.indices.fields(index).keeping(made);
        self.serving.write().unwrap_or_else(PoisonError::into_inner).insert(index, fields);
    }

    pub(super) fn alias(&self, index: IndexName) -> Cow<'_, str> {
        match self.aliases.iter().find(|(known, _)| *known == index) {
            Some((_, alias)) => Cow::Borrowed(alias),
            None => Cow::Owned(format!("{}{index}", self.prefix)),
        }
    }

    pub(super) fn all(&self) -> Vec<&str> {
        self.aliases.iter().map(|(_, alias)| alias.as_str()).collect()
    }

    /// An index that is made now.
    pub(super) fn layout(&self, index: IndexName) -> Layout {
        self.layout_with(index, self.indices.fields(index))
    }

    /// The fields that the index that serves has as they are defined only once it is rebuilt; members of `metadata` are none.
    pub(super) fn kept(&self, index: IndexName) -> Vec<String> {
        self.indices.fields(index).unlike(self.fields(index)).map(str::to_owned).collect()
    }

    /// The index that serves, as it should be: what it can keep stays as it was made with it.
    pub(super) fn serving_layout(&self, index: IndexName) -> Layout {
        self.layout_with(index, self.fields(index))
    }

    fn layout_with(&self, index: IndexName, fields: &'static Fields) -> Layout {
        Layout {
            alias: self.alias(index).into_owned(),
            mappings: layout_mapping(index, fields),
            columns: index.columns(),
            hides_removed: matches!(index, IndexName::Entities(_)),
            field_limit: Some(fields.iter().count() + 100).filter(|fields| *fields > DEFAULT_FIELDS),
            // `a-leads-*` lies within `a-*`: of two prefixes' templates the longer must win.
            priority: 100 + self.prefix.len(),
        }
    }
}

/// One alias with the index behind it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) alias: String,
    pub(super) mappings: Value,
    pub(super) columns: Columns,
    /// Where a server's own limit is too low for the tables there are.
    pub(super) field_limit: Option<usize>,
    priority: usize,
    /// Whether the alias shows only what was not removed.
    hides_removed: bool,
}

impl Layout {
    /// What the alias is, besides its name.
    pub(super) fn alias_properties(&self) -> Value {
        let mut properties = json!({ "is_write_index": true });
        if self.hides_removed {
            properties["filter"] = json!({ "bool": { "must_not": { "term": { REMOVED: true } } } });
        }
        properties
    }

    /// Whether an alias must have a filter.
    pub(super) fn is_filtered(&self) -> bool {
        self.hides_removed
    }

    /// The first index behind the alias. A rebuild makes `-000002` and moves the alias.
    pub(super) fn first_index(&self) -> String {
        format!("{}-000001", self.alias)
    }

    /// The composable template: what a later `-000002` is made of.
    pub(super) fn template(&self) -> Value {
        json!({
            "index_patterns": [format!("{}-*", self.alias)],
            "priority": self.priority,
            "template": { "settings": self.settings(), "mappings": self.mappings },
            "_meta": { "managed_by": "sluice" },
        })
    }

    /// The first index. It spells its mapping out: somebody else's template of a higher priority must not win.
    pub(super) fn index(&self) -> Value {
        let alias = &self.alias;
        let mut mappings = self.mappings.clone();
        mappings["_meta"] = json!({ COLUMNS: self.columns });
        json!({
            "aliases": { alias: self.alias_properties() },
            "settings": self.settings(),
            "mappings": mappings,
        })
    }

    /// The alias that an index being rebuilt is written through.
    pub(super) fn rebuild_alias(&self) -> String {
        format!("{}-rebuild", self.alias)
    }

    /// An index that is being rebuilt: not behind its own alias yet, and with what it has to remember.
    pub(super) fn rebuilt_index(&self, meta: &Value) -> Value {
        let mut mappings = self.mappings.clone();
        mappings["_meta"] = meta.clone();
        json!({
            "aliases": { self.rebuild_alias(): {} },
            "settings": self.settings(),
            "mappings": mappings,
        })
    }

    fn settings(&self) -> Value {
        // The file is part of the binary and a test reads it: an empty object is never seen.
        let mut settings: Value = serde_json::from_str(SETTINGS).unwrap_or_else(|_| json!({}));
        if let Some(limit) = self.field_limit {
            settings["index"]["mapping"]["total_fields"] = json!({ "limit": limit });
        }
        settings
    }
}

/// As [`mapping`], with what marks an entity that was removed.
fn layout_mapping(index: IndexName, fields: &Fields) -> Value {
    let mut mapping = mapping(fields);
    if matches!(index, IndexName::Entities(_)) {
        mapping["properties"][REMOVED] = json!({ "type": "boolean" });
    }
    mapping
}

/// The mapping of an index with these fields, closed to all others.
fn mapping(fields: &Fields) -> Value {
    let mut properties = Map::new();
    properties.insert("metadata".to_owned(), closed(Map::new()));
    for field in fields.iter().filter(|field| field.path == field.source) {
        let mut mapping = json!({ "type": type_of(field.kind) });
        match field.kind {
            FieldKind::Keyword => mapping["ignore_above"] = json!(MAX_KEYWORD),
            FieldKind::Stored => mapping["enabled"] = json!(false),
            _ => {}
        }
        if fields.get(&format!("{}.keyword", field.path)).is_some() {
            mapping["fields"] = json!({ "keyword": { "type": "keyword", "ignore_above": MAX_KEYWORD } });
        }
        match field.path.split_once('.') {
            None => _ = properties.insert(field.path.clone(), mapping),
            Some((object, name)) => {
                let object = properties.entry(object).or_insert_with(|| closed(Map::new()));
                object["properties"][name] = mapping;
            }
        }
    }
    let mut mapping = closed(properties);
    if let Some(mapping) = mapping.as_object_mut() {
        mapping.remove("type");
    }
    mapping
}

fn closed(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "dynamic": false, "properties": properties })
}

/// What is indexed by this part of a mapping; `None` of what is never made here.
pub(super) fn kind_of(mapping: &Value) -> Option<FieldKind> {
    Some(match mapping["type"].as_str()? {
        "text" => FieldKind::Text,
        "keyword" => FieldKind::Keyword,
        "long" => FieldKind::Long,
        "double" => FieldKind::Double,
        "boolean" => FieldKind::Boolean,
        "date" => FieldKind::Date,
        "ip" => FieldKind::Ip,
        "object" if mapping["enabled"] == json!(false) => FieldKind::Stored,
        _ => return None,
    })
}

fn type_of(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text => "text",
        FieldKind::Keyword => "keyword",
        FieldKind::Long => "long",
        FieldKind::Double => "double",
        FieldKind::Boolean => "boolean",
        FieldKind::Date => "date",
        FieldKind::Ip => "ip",
        FieldKind::Stored => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Catalog, Definition},
        index::fields::tests::of,
    };

    fn names(prefix: &str) -> Result<Names, Fault> {
        Names::new(prefix, Indices::of(Catalog::built_in()))
    }

    #[test]
    fn the_settings_are_json() {
        assert!(serde_json::from_str::<Value>(SETTINGS).is_ok());
    }

    #[test]
    fn a_prefix_that_no_index_may_have_is_refused() {
        for prefix in ["Loja_", "_a", "-a", "a,b", "a b", "a*", "a/", "ção"] {
            assert!(names(prefix).is_err(), "{prefix}");
        }
        assert_eq!(names("loja-1_").expect("names").alias(IndexName::Eventos), "loja-1_eventos");
    }

    #[test]
    fn a_mapping_is_closed_and_types_what_the_definition_types() {
        let leads = mapping(of("leads"));
        assert_eq!(
            (&leads["dynamic"], &leads["properties"]["metadata"]["dynamic"]),
            (&json!(false), &json!(false))
        );
        let whole = json!({ "keyword": { "type": "keyword", "ignore_above": MAX_KEYWORD } });
        assert_eq!(leads["properties"]["nome"], json!({ "type": "text", "fields": whole }));
        assert_eq!(
            leads["properties"]["id"],
            json!({ "type": "keyword", "ignore_above": MAX_KEYWORD, "fields": whole })
        );
        assert_eq!(leads["properties"]["score_qualificacao"], json!({ "type": "double" }));
        assert_eq!(leads["properties"]["localizacao"], json!({ "type": "object", "enabled": false }));
        let members = &leads["properties"]["metadata"]["properties"];
        assert_eq!(members["origem"], json!({ "type": "text", "fields": whole }));
        let events = mapping(of("eventos"));
        assert_eq!(events["properties"]["entidade"]["properties"]["versao"], json!({ "type": "long" }));
        assert_eq!(events["properties"]["metadata"]["properties"].as_object().map(Map::len), Some(16));
    }

    #[test]
    fn a_table_wider_than_the_servers_limit_raises_it() {
        let columns: Vec<String> =
            (0..600).map(|n| format!("{{ name = \"c{n}\", type = \"text\" }}")).collect();
        let toml = format!(
            "name = \"larga\"\nabout = \"x\"\nentity = \"linha\"\nkey = {{ column = \"id\", type = \"bigint\" }}\n\
             event = {{ categoria = \"c\", evento = \"e\" }}\ncolumns = [{}]\n",
            columns.join(", ")
        );
        let catalog = Catalog::of(vec![Definition::parse(&toml).expect("a definition")], chrono_tz::Tz::UTC);
        let names = Names::new("", Indices::of(catalog)).expect("names");
        let layouts: Vec<Layout> = names.indices().names().map(|index| names.layout(index)).collect();
        assert_eq!(layouts[0].field_limit, None);
        let limit = layouts[1].index()["settings"]["index"]["mapping"]["total_fields"]["limit"].as_u64();
        assert!(limit.is_some_and(|limit| limit > 1200), "{limit:?}");
    }
}
