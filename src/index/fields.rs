//! The fields of an index, made from the tables' definitions.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::IndexName;
use crate::domain::{Catalog, Column, ColumnKind, Search, Table};

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
    /// Holds days without a time, which are the same everywhere.
    pub is_day: bool,
}

/// The fields of one index, by path.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fields {
    by_path: BTreeMap<String, Field>,
    /// How each member of `metadata` is indexed.
    members: BTreeMap<String, FieldKind>,
    /// The field that holds the document's id, in one term.
    id: String,
}

/// Every index of a catalog with its fields. Made once by an adapter, and lives as long as definitions do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Indices(&'static [(IndexName, Fields)]);

impl Indices {
    pub(crate) fn of(catalog: Catalog) -> Self {
        let fields = |index| match index {
            IndexName::Eventos => Fields::of_events(catalog),
            IndexName::Entities(table) => Fields::of_entities(table),
        };
        let indices: Vec<_> = IndexName::all(catalog).map(|index| (index, fields(index))).collect();
        Self(Vec::leak(indices))
    }

    pub(super) fn names(self) -> impl Iterator<Item = IndexName> + Clone {
        self.0.iter().map(|(index, _)| *index)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = (IndexName, &'static Fields)> {
        self.0.iter().map(|(index, fields)| (*index, fields))
    }

    /// The fields of an index; none of one that is not of the catalog.
    pub(crate) fn fields(self, index: IndexName) -> &'static Fields {
        static NONE: Fields =
            Fields { by_path: BTreeMap::new(), members: BTreeMap::new(), id: String::new() };
        self.iter().find(|(known, _)| *known == index).map_or(&NONE, |(_, fields)| fields)
    }
}

impl Fields {
    /// Every event. In an index that is made now, a member of `metadata` is of the kind that the first table gives it; an
    /// index that is there keeps the kinds it has ([`Self::keeping`]). Values that don't fit are kept beside it.
    fn of_events(catalog: Catalog) -> Self {
        let mut fields = Self { id: "id".to_owned(), ..Self::default() };
        fields.add_whole("id", FieldKind::Keyword);
        for text in ["tipo_evento", "usuario", "evento", "categoria"] {
            fields.add_whole(text, FieldKind::Text);
        }
        fields.add("entidade.id", FieldKind::Keyword);
        fields.add("entidade.versao", FieldKind::Long);
        for (name, kind) in [
            ("valor", FieldKind::Double),
            ("timestamp", FieldKind::Date),
            ("processado_em", FieldKind::Date),
            ("dados", FieldKind::Stored),
        ] {
            fields.add(name, kind);
        }
        for table in catalog.tables() {
            fields.add_metadata(table);
        }
        fields
    }

    /// The newest state of a table's entities.
    fn of_entities(table: Table) -> Self {
        let definition = table.definition();
        let mut fields = Self { id: definition.key.column.clone(), ..Self::default() };
        fields.add_whole(&definition.key.column, FieldKind::Keyword);
        for column in &definition.columns {
            fields.add_whole(&column.name, kind_of(column));
            fields.mark_days(&column.name, column);
        }
        for text in ["usuario", "evento", "categoria"] {
            fields.add_whole(text, FieldKind::Text);
        }
        for (name, kind) in [
            ("versao", FieldKind::Long),
            ("evento_id", FieldKind::Keyword),
            ("valor", FieldKind::Double),
            ("timestamp", FieldKind::Date),
            ("processado_em", FieldKind::Date),
        ] {
            fields.add(name, kind);
        }
        fields.add_metadata(table);
        fields
    }

    fn add_metadata(&mut self, table: Table) {
        let definition = table.definition();
        for (name, column) in &definition.event.metadata {
            if !self.members.contains_key(name) {
                let column = definition.column(column);
                let kind = column.map_or(FieldKind::Keyword, kind_of);
                let path = format!("metadata.{name}");
                self.add_whole(&path, kind);
                if let Some(column) = column {
                    self.mark_days(&path, column);
                }
                self.members.insert(name.clone(), kind);
            }
        }
    }

    fn mark_days(&mut self, path: &str, column: &Column) {
        if let Some(field) = self.by_path.get_mut(path) {
            field.is_day = column.kind == ColumnKind::Date;
        }
    }

    fn add(&mut self, path: &str, kind: FieldKind) {
        let field = Field { path: path.to_owned(), source: path.to_owned(), kind, is_day: false };
        self.by_path.insert(path.to_owned(), field);
    }

    /// A field, and what holds of a text its whole values.
    fn add_whole(&mut self, path: &str, kind: FieldKind) {
        self.add(path, kind);
        if matches!(kind, FieldKind::Text | FieldKind::Keyword | FieldKind::Ip) {
            let whole = format!("{path}.keyword");
            let field = Field {
                path: whole.clone(),
                source: path.to_owned(),
                kind: FieldKind::Keyword,
                is_day: false,
            };
            self.by_path.insert(whole, field);
        }
    }

    /// These fields as an index has them that was made with other definitions: a member of `metadata` stays of the kind
    /// it was `made` with, because the tables that share it can't agree on another while their events are in there; so does
    /// another field, where what it was made as takes every value of its kind.
    /// Equal fields are made once, however often an index is looked at.
    pub(super) fn keeping(&'static self, made: impl Fn(&str) -> Option<FieldKind>) -> &'static Self {
        static KEPT: Mutex<Vec<&'static Fields>> = Mutex::new(Vec::new());
        let mut fields = Self::clone(self);
        for (name, kind) in &self.members {
            let path = format!("metadata.{name}");
            if let Some(made) = made(&path).filter(|made| made != kind) {
                fields.by_path.remove(&format!("{path}.keyword"));
                fields.add_whole(&path, made);
                fields.members.insert(name.clone(), made);
            }
        }
        for (path, made) in self.kept_beside_members(made) {
            fields.add_whole(path, made);
            if path == self.id && made == FieldKind::Text {
                fields.id = format!("{path}.keyword");
            }
        }
        if fields == *self {
            return self;
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = kept.iter().find(|same| ***same == fields) {
            return same;
        }
        let fields = Box::leak(Box::new(fields));
        kept.push(fields);
        fields
    }

    /// The fields that stay as they were `made`, but for members of `metadata`, and what that is.
    fn kept_beside_members(
        &self,
        made: impl Fn(&str) -> Option<FieldKind>,
    ) -> impl Iterator<Item = (&str, FieldKind)> {
        use FieldKind::{Keyword, Long, Text};
        self.beside_members().filter_map(move |field| {
            let made = made(&field.path)?;
            let takes_all = matches!((made, field.kind), (Text, Keyword) | (Keyword, Text | Long));
            takes_all.then_some((field.path.as_str(), made))
        })
    }

    /// The fields that are of another kind in `other`, but for members of `metadata`.
    pub(super) fn unlike<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let is_unlike = |field: &&Field| other.get(&field.path).is_some_and(|there| there.kind != field.kind);
        self.beside_members().filter(is_unlike).map(|field| field.path.as_str())
    }

    fn beside_members(&self) -> impl Iterator<Item = &Field> {
        self.iter().filter(|field| field.path == field.source && !field.path.starts_with("metadata."))
    }

    /// The field of that path.
    pub fn get(&self, path: &str) -> Option<&Field> {
        self.by_path.get(path)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.by_path.values()
    }

    /// The path of the field that holds the document's id, in one term.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How a member of `metadata` is indexed; `None` of one that is only kept.
    pub(super) fn member(&self, name: &str) -> Option<FieldKind> {
        self.members.get(name).copied()
    }

    /// The members of `metadata` that are of another kind in `other`: their names, and the kinds here and there.
    pub(crate) fn members_unlike<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a str, FieldKind, FieldKind)> {
        self.members.iter().filter_map(|(name, kind)| {
            let there = other.member(name).filter(|there| there != kind)?;
            Some((name.as_str(), *kind, there))
        })
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
        let mut close: Vec<(usize, bool, &str)> = self
            .iter()
            .filter(|field| field.path == field.source && field.kind != FieldKind::Stored)
            .filter_map(|field| {
                let last = field.path.rsplit('.').next().unwrap_or(&field.path);
                let distance = strsim::damerau_levenshtein(&name, &field.path.to_lowercase())
                    .min(strsim::damerau_levenshtein(&name, last));
                // Short names are part of many others by chance: `id` of `cidade`.
                let contains =
                    (name.len() >= 4 && last.contains(&name)) || (last.len() >= 4 && name.contains(last));
                (distance <= 2.min(name.len() / 2) || contains).then_some((
                    distance,
                    field.path.contains('.'),
                    field.path.as_str(),
                ))
            })
            .collect();
        close.sort_unstable();
        close.into_iter().take(most).map(|(.., path)| path).collect()
    }

    /// The paths that may be asked for, sub-fields left out, for those who named another.
    pub fn known(&self) -> String {
        let paths = self.iter().filter(|field| field.path == field.source && field.kind != FieldKind::Stored);
        paths.map(|field| field.path.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// By its type; of texts and lists as the definition says.
fn kind_of(column: &Column) -> FieldKind {
    match (column.kind, column.search()) {
        (ColumnKind::Json, _) | (_, Search::None) => FieldKind::Stored,
        (ColumnKind::Text | ColumnKind::List, Search::Keyword) => FieldKind::Keyword,
        (ColumnKind::Text | ColumnKind::List, Search::Ip) => FieldKind::Ip,
        (ColumnKind::Text | ColumnKind::List, Search::Text) => FieldKind::Text,
        (ColumnKind::Integer, _) => FieldKind::Long,
        (ColumnKind::Number, _) => FieldKind::Double,
        (ColumnKind::Boolean, _) => FieldKind::Boolean,
        (ColumnKind::Timestamp | ColumnKind::Date, _) => FieldKind::Date,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use chrono_tz::Tz;

    use super::*;
    use crate::domain::Definition;

    /// Fields of the built-in tables.
    pub(in crate::index) fn of(name: &str) -> &'static Fields {
        static BUILT_IN: LazyLock<Indices> = LazyLock::new(|| Indices::of(Catalog::built_in()));
        BUILT_IN.fields(IndexName::from_name(Catalog::built_in(), name).expect("an index"))
    }

    #[test]
    fn every_column_has_a_field_of_its_kind() {
        let fields = of("chat_sessions");
        for (path, kind) in [
            ("id", FieldKind::Keyword),
            ("lead_id", FieldKind::Keyword),
            ("lead_id.keyword", FieldKind::Keyword),
            ("ip_address", FieldKind::Ip),
            ("ip_address.keyword", FieldKind::Keyword),
            ("total_messages", FieldKind::Long),
            ("duration_seconds", FieldKind::Double),
            ("pages_visited", FieldKind::Text),
            ("started_at", FieldKind::Date),
            ("is_active", FieldKind::Boolean),
            ("processado_em", FieldKind::Date),
            ("metadata.total_messages", FieldKind::Long),
        ] {
            assert_eq!(fields.get(path).map(|field| field.kind), Some(kind), "{path}");
        }
        assert_eq!(of("leads").get("localizacao").map(|field| field.kind), Some(FieldKind::Stored));
        for index in ["leads", "chat_sessions"] {
            let table = Catalog::built_in().get(index).expect("a table");
            for column in &table.columns {
                assert!(of(index).get(&column.name).is_some(), "{index}.{}", column.name);
            }
        }
    }

    #[test]
    fn of_two_tables_the_first_says_what_a_member_of_metadata_is() {
        let table = |name: &str, kind: &str| {
            let toml = format!(
                "name = \"{name}\"\nabout = \"x\"\nentity = \"e_{name}\"\nkey = {{ column = \"codigo\", type = \"bigint\" }}\n\
                 columns = [{{ name = \"total\", type = \"{kind}\" }}]\n[event]\ncategoria = \"c\"\nevento = \"e\"\n\
                 metadata = {{ total = \"total\" }}\n"
            );
            Definition::parse(&toml).expect("a definition")
        };
        let catalog = Catalog::of(vec![table("a", "integer"), table("b", "text")], Tz::UTC);
        let indices = Indices::of(catalog);
        let kind = |index: &str| {
            let index = IndexName::from_name(catalog, index).expect("an index");
            indices.fields(index).get("metadata.total").map(|field| field.kind)
        };
        assert_eq!(kind("eventos"), Some(FieldKind::Long));
        assert_eq!(kind("b"), Some(FieldKind::Text));
        assert_eq!(indices.fields(IndexName::from_name(catalog, "b").expect("b")).id(), "codigo");
        let other = IndexName::from_name(Catalog::built_in(), "leads").expect("leads");
        assert_eq!(indices.fields(other).iter().count(), 0, "an index of another catalog has no fields here");
    }

    #[test]
    fn a_field_stays_as_it_was_made_where_it_takes_every_value_that_it_may_hold_now() {
        let leads = of("leads");
        let made = |path: &str| match path {
            "id" | "score_qualificacao" => Some(FieldKind::Text),
            "nome" => Some(FieldKind::Keyword),
            "email" => Some(FieldKind::Long),
            _ => None,
        };
        let kept = leads.keeping(made);
        for (path, kind) in [
            ("id", FieldKind::Text),
            ("nome", FieldKind::Keyword),
            ("nome.keyword", FieldKind::Keyword),
            ("score_qualificacao", FieldKind::Double),
            ("email", FieldKind::Text),
        ] {
            assert_eq!(kept.get(path).map(|field| field.kind), Some(kind), "{path}");
        }
        assert_eq!((leads.id(), kept.id()), ("id", "id.keyword"), "words have no order");
        assert_eq!(leads.unlike(kept).collect::<Vec<_>>(), ["id", "nome"]);
        assert!(std::ptr::eq(leads, leads.keeping(|_| None)));
    }

    #[test]
    fn what_is_offered_instead_is_like_what_was_written() {
        let fields = of("leads");
        assert_eq!(fields.close_to("status", 3), ["status_lead", "metadata.status_lead"]);
        assert_eq!(fields.close_to("scor_qualificacao", 1), ["score_qualificacao"]);
        assert!(!fields.close_to("cidade", 3).contains(&"id"));
    }

    #[test]
    fn paths_lead_to_members_and_sub_fields() {
        let fields = of("eventos");
        assert_eq!(fields.get("metadata.origem").map(|f| f.kind), Some(FieldKind::Text));
        assert_eq!(fields.get("metadata.status_lead.keyword").map(|f| f.kind), Some(FieldKind::Keyword));
        assert_eq!(fields.get("categoria.keyword").map(|f| f.source.as_str()), Some("categoria"));
        assert_eq!(fields.countable("categoria").map(|f| f.path.as_str()), Some("categoria.keyword"));
        assert_eq!(fields.get("dados").map(|f| f.kind), Some(FieldKind::Stored));
        assert!(fields.countable("dados").is_none());
    }
}
