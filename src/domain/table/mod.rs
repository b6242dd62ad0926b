//! The tables sluice moves, as data.

mod definition;

use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use tracing::warn;

pub(super) use definition::placeholders;
pub use definition::{
    Column, ColumnKind, Compare, Dashboard, Definition, DefinitionError, EventRule, Filter, Key, KeyKind,
    NamedCount, Search, SourceTable, Time, is_reserved_column, is_reserved_table,
};

/// The definitions in the binary.
const BUILT_IN: [(&str, &str); 2] = [
    ("leads.toml", include_str!("../../../tables/leads.toml")),
    ("chat_sessions.toml", include_str!("../../../tables/chat_sessions.toml")),
];

/// A defined table. A handle: definitions are read once, when the process starts, and live as long as it does.
#[derive(Clone, Copy)]
pub struct Table(&'static Definition);

impl Table {
    /// Keeps a definition for the rest of the process.
    pub fn new(definition: Definition) -> Self {
        Self(Box::leak(Box::new(definition)))
    }

    /// The table's name, in the store, in the index and on the command line.
    pub fn name(self) -> &'static str {
        &self.0.name
    }

    /// The table's definition.
    pub fn definition(self) -> &'static Definition {
        self.0
    }

    /// The zone of timestamps that carry none.
    pub fn zone(self) -> Tz {
        self.0.time.zone.unwrap_or(Tz::UTC)
    }

    /// What the values of a column are made of: its type, the names that rows have it under, the first that is there, and
    /// the zone. Where that changes, what was made before may hold others.
    pub fn made_of(self, column: &Column) -> String {
        let (kind, names, zone) = self.parts_of(column);
        format!("{kind} {names}{zone}")
    }

    /// As [`Table::made_of`]: the type, the names and the zone, which is empty or begins with a space.
    pub fn parts_of(self, column: &Column) -> (String, String, String) {
        let former = column.formerly.iter().map(String::as_str).filter(|former| *former != column.source());
        let names: Vec<&str> = std::iter::once(column.source()).chain(former).collect();
        let zone =
            if column.kind == ColumnKind::Timestamp { format!(" {}", self.zone()) } else { String::new() };
        (format!("{:?}", column.kind), names.join(", "), zone)
    }
}

impl Deref for Table {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        self.0
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Table {}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({})", self.name())
    }
}

impl Serialize for Table {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A table's name as it is written down: in a stored request, in an argument. Looked up in the [`Catalog`].
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct TableName(pub String);

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Table> for TableName {
    fn from(table: Table) -> Self {
        Self(table.name().to_owned())
    }
}

/// Every table this process knows, in a fixed order: the built-in ones first, then the user's by name.
#[derive(Debug, Clone, Copy)]
pub struct Catalog(&'static [Table]);

/// Why the tables can't be known.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The folder of the user's definitions can't be listed.
    #[error("{}: {error}", folder.display())]
    NoFolder { folder: PathBuf, error: std::io::Error },
    #[error("{}: {error}", file.display())]
    Unreadable { file: PathBuf, error: std::io::Error },
    #[error("{}: {error}", file.display())]
    Invalid { file: PathBuf, error: DefinitionError },
    #[error("{}: {problem}", file.display())]
    Clash { file: PathBuf, problem: String },
}

impl Catalog {
    /// The tables in the binary alone, with timestamps in UTC.
    pub fn built_in() -> Self {
        static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
            // The files are part of the binary and a test reads each.
            let definitions = BUILT_IN.iter().filter_map(|(_, toml)| Definition::parse(toml).ok());
            Catalog::of(definitions.collect(), Tz::UTC)
        });
        *CATALOG
    }

    /// The tables in the binary and those of the user's folder: a file there replaces the built-in table of its name
    /// or adds another. Timestamps without a zone are in `zone` unless a table says otherwise.
    ///
    /// # Errors
    /// Names the file at fault: unreadable, no definition, or one that clashes with another.
    pub fn load(folder: Option<&Path>, zone: Tz) -> Result<Self, CatalogError> {
        let mut definitions = Vec::new();
        for (file, toml) in BUILT_IN {
            let error = |error| CatalogError::Invalid { file: PathBuf::from(file), error };
            definitions.push(Definition::parse(toml).map_err(error)?);
        }
        let mut own: BTreeMap<String, PathBuf> = BTreeMap::new();
        let (files, overlooked) = folder.map(toml_files).transpose()?.unwrap_or_default();
        for file in overlooked {
            warn!(
                file = %file.display(),
                "a file of the tables' folder is not read, as its name does not end in .toml: rename it, or move it away"
            );
        }
        for file in files {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| CatalogError::Unreadable { file: file.clone(), error })?;
            let definition = Definition::parse(&text)
                .map_err(|error| CatalogError::Invalid { file: file.clone(), error })?;
            if own.insert(definition.name.clone(), file.clone()).is_some() {
                let problem = format!("another file defines the table '{}', too", definition.name);
                return Err(CatalogError::Clash { file, problem });
            }
            let clash =
                |known: &&Definition| known.entity == definition.entity && known.name != definition.name;
            if let Some(known) = definitions.iter().find(clash) {
                let problem = format!("its entity '{}' is that of the table '{}'", known.entity, known.name);
                return Err(CatalogError::Clash { file, problem });
            }
            match definitions.iter_mut().find(|known| known.name == definition.name) {
                Some(known) => *known = definition,
                None => definitions.push(definition),
            }
        }
        let is_defined = |name: &String| definitions.iter().any(|known| known.name == *name);
        for definition in &definitions {
            let leads_nowhere =
                |column: &&Column| column.refers_to.as_ref().is_some_and(|to| !is_defined(to));
            if let Some(column) = definition.columns.iter().find(leads_nowhere) {
                let problem = format!(
                    "its column '{}' refers_to '{}', and no table has that name here; give the name of the one whose key it \
                     holds, or leave refers_to out",
                    column.name,
                    column.refers_to.as_deref().unwrap_or_default()
                );
                // Tables of the binary refer to each other only.
                let file = own.remove(&definition.name).unwrap_or_default();
                return Err(CatalogError::Clash { file, problem });
            }
        }
        Ok(Self::of(definitions, zone))
    }

    /// Exactly these tables.
    pub fn of(definitions: Vec<Definition>, zone: Tz) -> Self {
        let with_zone = |mut definition: Definition| {
            definition.time.zone.get_or_insert(zone);
            Table::new(definition)
        };
        let tables: Vec<Table> = definitions.into_iter().map(with_zone).collect();
        Self(Vec::leak(tables))
    }

    /// The tables, in their order.
    pub fn tables(self) -> impl Iterator<Item = Table> + Clone {
        self.0.iter().copied()
    }

    /// The table of that name.
    pub fn get(self, name: &str) -> Option<Table> {
        self.tables().find(|table| table.name() == name)
    }

    /// The table whose events bear this `tipo_evento`.
    pub fn of_entity(self, entity: &str) -> Option<Table> {
        self.tables().find(|table| table.entity == entity)
    }

    /// The names of the tables, for messages: `leads, chat_sessions`.
    pub fn names(self) -> String {
        self.tables().map(Table::name).collect::<Vec<_>>().join(", ")
    }
}

/// The definitions of a folder, and what looks like one and is not read: some editors and browsers put `.txt` behind the
/// name that was typed.
fn toml_files(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CatalogError> {
    let error = |error| CatalogError::NoFolder { folder: folder.to_owned(), error };
    let (mut files, mut overlooked) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
            files.push(path);
        } else if name.contains(".toml") {
            overlooked.push(path);
        }
    }
    files.sort();
    Ok((files, overlooked))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;

    fn own(entity: &str, name: &str) -> String {
        format!(
            "name = \"{name}\"\nabout = \"x\"\nentity = \"{entity}\"\nkey = {{ column = \"id\", type = \"bigint\" }}\n\
             event = {{ categoria = \"c\", evento = \"e\" }}\n"
        )
    }

    #[test]
    fn every_built_in_definition_is_one() {
        assert_eq!(Catalog::built_in().names(), "leads, chat_sessions");
        assert_eq!(Catalog::built_in().of_entity("chat_session").map(Table::name), Some("chat_sessions"));
    }

    #[test]
    fn a_file_of_the_user_adds_a_table_or_replaces_a_built_in_one() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("m.toml"), own("mensagem", "mensagens")).expect("a file");
        std::fs::write(folder.path().join("l.toml"), own("lead", "leads")).expect("a file");
        let catalog = Catalog::load(Some(folder.path()), Tz::America__Sao_Paulo).expect("a catalog");
        assert_eq!(catalog.names(), "leads, chat_sessions, mensagens");
        let leads = catalog.get("leads").expect("leads");
        assert_eq!((leads.key.kind, leads.zone()), (KeyKind::Bigint, Tz::America__Sao_Paulo));
    }

    #[test]
    fn a_file_whose_name_almost_ends_in_toml_is_read_or_told_of() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in
            [("a.TOML", own("a", "aves")), ("b.toml.txt", own("b", "bois")), ("c.md", own("c", "cs"))]
        {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let told = crate::logging::kept_of(|lines| {
            let subscriber = tracing_subscriber::Registry::default().with(lines);
            tracing::subscriber::with_default(subscriber, || {
                let catalog = Catalog::load(Some(folder.path()), Tz::UTC).expect("a catalog");
                assert_eq!(catalog.names(), "leads, chat_sessions, aves");
            });
        });
        assert!(told.contains("b.toml.txt") && told.contains("is not read"), "{told}");
        assert!(!told.contains("a.TOML") && !told.contains("c.md"), "{told}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_file_at_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Catalog::load(Some(&folder.path().join("nada")), Tz::UTC).expect_err("no folder");
        assert!(matches!(error, CatalogError::NoFolder { .. }), "{error}");
    }

    #[test]
    fn files_that_clash_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a.toml"), own("lead", "pessoas")).expect("a file");
        let error =
            Catalog::load(Some(folder.path()), Tz::UTC).expect_err("one entity, two tables").to_string();
        assert!(error.contains("a.toml") && error.contains("'lead'"), "{error}");
    }

    #[test]
    fn a_column_that_refers_to_no_table_is_refused_by_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let refers_to = |table: &str| {
            let column = format!("columns = [{{ name = 'de', type = 'integer', refers_to = '{table}' }}]\n");
            std::fs::write(folder.path().join("a.toml"), own("a", "aves") + &column).expect("a file");
            Catalog::load(Some(folder.path()), Tz::UTC)
        };
        let error = refers_to("lead").expect_err("the entity is no table").to_string();
        assert!(error.contains("a.toml") && error.contains("'de' refers_to 'lead'"), "{error}");
        // Also one that is read later, and itself.
        std::fs::write(folder.path().join("b.toml"), own("b", "bois")).expect("a file");
        for table in ["leads", "bois", "aves"] {
            refers_to(table).expect("a catalog");
        }
    }
}
