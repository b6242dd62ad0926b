//! What a table is: one TOML file a table, `tables/leads.toml` for example. Nothing else names a column.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The longest name of a table or column downstream: Postgres cuts longer ones.
const MAX_NAME: usize = 63;

/// Names of entity columns that are sluice's own, in the store or in the index; then those that each row of Postgres or of
/// SQLite has besides.
const RESERVED_COLUMNS: [&str; 18] = [
    "metadata",
    "dados",
    "versao",
    "evento_id",
    "evento",
    "usuario",
    "categoria",
    "valor",
    "timestamp",
    "processado_em",
    "ctid",
    "xmin",
    "xmax",
    "cmin",
    "cmax",
    "tableoid",
    "rowid",
    "oid",
];

/// Names of tables and indices that are sluice's own, and what those of sluice or a database begin with.
const RESERVED_TABLES: [&str; 4] = ["eventos", "eventos_raw", "eventos_agregados", "manual"];
const RESERVED_PREFIXES: [&str; 3] = ["sluice_", "pg_", "sqlite_"];

/// Everything about a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What sluice calls it: the entity table, the index, the word on the command line.
    pub name: String,
    /// What its rows are, in a few words.
    pub about: String,
    /// One row of it: the `tipo_evento` of its events.
    pub entity: String,
    /// The table or view in the project, where it is not `public` and of the same name.
    #[serde(default, skip_serializing_if = "SourceTable::is_default")]
    pub source: SourceTable,
    /// Columns that never leave the project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_read: Vec<String>,
    pub key: Key,
    #[serde(default, skip_serializing_if = "Time::is_default")]
    pub time: Time,
    pub event: EventRule,
    /// Conditions with a name of their own, for commands and tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, Filter>,
    #[serde(default, skip_serializing_if = "Dashboard::is_default")]
    pub dashboard: Dashboard,
    /// Columns under the words that people use for them where they ask for a report.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
    #[serde(default)]
    pub columns: Vec<Column>,
}

/// Where the rows come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTable {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

/// The column that tells rows apart, never null and unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub column: String,
    /// The column's name in the project, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(rename = "type")]
    pub kind: KeyKind,
    #[serde(default)]
    pub meaning: String,
}

/// A key's type, kept downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    Uuid,
    Bigint,
    Text,
}

/// The columns that tell when a row came to be and changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Grows with every change: only a table with such a column can be read on from where a sync stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// Ended in the window: read again although it was created before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// A boolean: while true the row is read again however old it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    /// The zone of timestamps that carry none, by its IANA name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Tz>,
}

/// What a row's event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    pub categoria: String,
    /// `lead_{status_lead}`: a column's value may stand in braces.
    pub evento: String,
    /// What stands for a value that is missing.
    #[serde(default = "missing_value", skip_serializing_if = "is_missing_value")]
    pub missing: String,
    /// The event of a row that is gone, `<entity>_removido` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
    /// The first of these columns with a value, else `anonymous`, else the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usuario: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<String>,
    /// A number's column; 0 without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valor: Option<String>,
    /// The first of these columns with a value; the modification, then the creation where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timestamp: Vec<String>,
    /// Members of `metadata` and the columns they repeat, in this order. Columns that nothing lists come after them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A condition on a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    pub column: String,
    pub compare: Compare,
}

/// How a column's value stands to the given one; the names are PostgREST's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    Eq,
    Neq,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// What the dashboard counts at the source, besides all rows and those of the last day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// Rows by the values of each of these columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakdowns: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<NamedCount>,
}

/// Rows that meet a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedCount {
    pub name: String,
    pub column: String,
    pub compare: Compare,
    pub value: String,
}

/// A column besides the key.
// Each is a plain yes or no in the file.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name downstream.
    pub name: String,
    /// Its name in the project, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Names that it had in the project before: stored events have it under them, masked where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<String>,
    #[serde(rename = "type")]
    pub kind: ColumnKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    /// Personal: hidden from clients unless the operator reveals it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub masked: bool,
    /// Read only where the operator asks for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub on_request: bool,
    /// Shown where a row is told in short.
    #[serde(default, skip_serializing_if = "is_false")]
    pub brief: bool,
    /// Entities are looked up by it, in any case.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lookup: bool,
    /// The table whose key it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<String>,
    /// How the index searches it, where not as its type says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// A number of any size and precision; where there are doubles only, the nearest of them.
    Number,
    Boolean,
    Timestamp,
    Date,
    Json,
    /// A list of texts.
    List,
}

/// How the index searches a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// Word by word; its whole value, too.
    Text,
    /// Its whole value only.
    Keyword,
    /// As an IP address.
    Ip,
    /// Kept, not searched.
    None,
}

/// Why a definition is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error("{0}")]
    Toml(String),
    #[error("{what} '{name}': {problem}")]
    Invalid { what: &'static str, name: String, problem: String },
}

impl Definition {
    /// Reads and checks a definition.
    ///
    /// # Errors
    /// Says which line is no TOML, or which name is wrong and how.
    pub fn parse(toml: &str) -> Result<Self, DefinitionError> {
        let definition: Self = toml::from_str(toml)
            .map_err(|error| DefinitionError::Toml(error.to_string().trim().to_owned()))?;
        definition.check()?;
        Ok(definition)
    }

    /// The definition as the text of its file.
    ///
    /// # Errors
    /// When a value has no TOML spelling.
    pub fn to_toml(&self) -> Result<String, DefinitionError> {
        toml::to_string(self).map_err(|error| DefinitionError::Toml(error.to_string()))
    }

    /// The table's name in the project.
    pub fn source_name(&self) -> &str {
        self.source.table.as_deref().unwrap_or(&self.name)
    }

    /// The column of that name downstream; the key is none of them.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The key's name in the project.
    pub fn key_source(&self) -> &str {
        self.key.from.as_deref().unwrap_or(&self.key.column)
    }

    /// The name in the project of a column named downstream.
    pub fn source_of<'a>(&'a self, name: &'a str) -> &'a str {
        if name == self.key.column {
            return self.key_source();
        }
        self.column(name).map_or(name, Column::source)
    }

    /// Whether a column of the project has a type here, or had by an earlier name; the key has.
    pub fn lists_source(&self, source: &str) -> bool {
        source == self.key_source() || self.columns.iter().any(|column| column.is_source(source))
    }

    /// The columns whose values may name somebody: the key, what is personal, what entities are looked up by or their events'
    /// user is made of, and what refers to others.
    pub fn naming_columns(&self) -> impl Iterator<Item = &str> {
        let names = |column: &&Column| {
            column.masked
                || column.lookup
                || column.refers_to.is_some()
                || self.event.usuario.contains(&column.name)
        };
        let columns = self.columns.iter().filter(names).map(|column| column.name.as_str());
        iter::once(self.key.column.as_str()).chain(columns)
    }

    /// The event of a row that is gone.
    pub fn removed_event(&self) -> String {
        self.event.removed.clone().unwrap_or_else(|| format!("{}_removido", self.entity))
    }

    fn check(&self) -> Result<(), DefinitionError> {
        table_name("table", &self.name)?;
        table_name("entity", &self.entity)?;
        column_name(&self.key.column)?;
        let mut names = BTreeSet::from([self.key.column.as_str()]);
        for column in &self.columns {
            column_name(&column.name)?;
            if !names.insert(&column.name) {
                return invalid(
                    "column",
                    &column.name,
                    "stands twice; give the second another name and `from`",
                );
            }
            if self.never_read.iter().any(|hidden| column.is_source(hidden)) {
                return invalid(
                    "column",
                    &column.name,
                    "is listed although never_read hides it; keep one of the two",
                );
            }
        }
        for hidden in &self.never_read {
            if hidden == self.key_source() {
                return invalid("column", hidden, "is the key, so it must be read");
            }
        }
        for name in self.named_columns() {
            if !names.contains(name.as_str()) {
                return invalid("column", &name, "is used but not listed; add it to [[columns]]");
            }
        }
        for count in &self.dashboard.counts {
            plain_name("count", &count.name)?;
        }
        for filter in self.filters.keys() {
            plain_name("filter", filter)?;
        }
        for group in self.groups.keys() {
            plain_name("group", group)?;
        }
        for member in self.event.metadata.keys() {
            plain_name("member of metadata", member)?;
        }
        self.check_types()
    }

    fn check_types(&self) -> Result<(), DefinitionError> {
        let wants = |name: &Option<String>, kinds: &[ColumnKind], what: &str| {
            let column = name.as_deref().and_then(|name| self.column(name));
            match column {
                Some(column) if !kinds.contains(&column.kind) => {
                    invalid("column", &column.name, &format!("is used as {what}, which its type is not"))
                }
                _ => Ok(()),
            }
        };
        let instants = [ColumnKind::Timestamp, ColumnKind::Date];
        wants(&self.time.created, &instants, "the creation time")?;
        wants(&self.time.modified, &instants, "the modification time")?;
        wants(&self.time.ended, &instants, "the end")?;
        wants(&self.time.active, &[ColumnKind::Boolean], "whether a row is active")?;
        wants(&self.event.valor, &[ColumnKind::Integer, ColumnKind::Number], "valor")?;
        for name in &self.event.timestamp {
            wants(&Some(name.clone()), &instants, "the event's timestamp")?;
        }
        let no_text = |column: &&Column| column.lookup && column.kind != ColumnKind::Text;
        if let Some(column) = self.columns.iter().find(no_text) {
            let problem = "has lookup, which only a column of the type text can have; take lookup out of it";
            return invalid("column", &column.name, problem);
        }
        self.check_masks()
    }

    /// What of an event is shown to whoever may ask must not be made of what is masked.
    fn check_masks(&self) -> Result<(), DefinitionError> {
        let times = [&self.time.created, &self.time.modified].into_iter().flatten();
        let times = times.chain(&self.event.timestamp).map(|name| (name.as_str(), "timestamp"));
        let shown = placeholders(&self.event.evento).map(|name| (name, "evento")).chain(times);
        for (name, part) in shown {
            if self.column(name).is_some_and(|column| column.masked) {
                let problem = format!(
                    "is masked and makes the event's {part}, which is shown as it is; use another column there, or none"
                );
                return invalid("column", name, &problem);
            }
        }
        Ok(())
    }

    /// Every column that a rule names.
    fn named_columns(&self) -> Vec<String> {
        let time = [&self.time.created, &self.time.modified, &self.time.ended, &self.time.active];
        let mut names: Vec<String> = time.into_iter().flatten().cloned().collect();
        names.extend(self.event.valor.clone());
        names.extend(self.event.usuario.iter().chain(&self.event.timestamp).cloned());
        names.extend(self.event.metadata.values().cloned());
        names.extend(self.filters.values().map(|filter| filter.column.clone()));
        names.extend(self.dashboard.breakdowns.iter().cloned());
        names.extend(self.groups.values().cloned());
        names.extend(self.dashboard.counts.iter().map(|count| count.column.clone()));
        names.extend(placeholders(&self.event.evento).map(str::to_owned));
        names
    }
}

impl SourceTable {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Time {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Dashboard {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Column {
    /// Its name in the project.
    pub fn source(&self) -> &str {
        self.from.as_deref().unwrap_or(&self.name)
    }

    /// Its names in the project, the one of now first.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.source()).chain(self.formerly.iter().map(String::as_str))
    }

    /// Its name in a row, which in one of old is the one that it had then.
    pub fn source_in(&self, is_there: impl Fn(&str) -> bool) -> &str {
        match self.formerly.iter().find(|former| is_there(former)) {
            Some(former) if !is_there(self.source()) => former,
            _ => self.source(),
        }
    }

    /// Whether that is its name in the project, or was.
    pub fn is_source(&self, name: &str) -> bool {
        self.sources().any(|source| source == name)
    }

    /// How the index searches it.
    pub fn search(&self) -> Search {
        self.search.unwrap_or(if self.kind == ColumnKind::Json { Search::None } else { Search::Text })
    }
}

impl Compare {
    /// PostgREST's operator.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Neq => "neq",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::Lt => "lt",
            Self::Lte => "lte",
        }
    }
}

impl Compare {
    /// As SQL and people write it.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Neq => "<>",
            Self::Gt => ">",
            Self::Gte => ">=",
            Self::Lt => "<",
            Self::Lte => "<=",
        }
    }
}

/// The columns that stand in braces in a template.
pub(in crate::domain) fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name)
}

fn missing_value() -> String {
    "sem_status".to_owned()
}

fn is_missing_value(value: &str) -> bool {
    value == "sem_status"
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

fn invalid<T>(what: &'static str, name: &str, problem: &str) -> Result<T, DefinitionError> {
    Err(DefinitionError::Invalid { what, name: name.to_owned(), problem: problem.to_owned() })
}

/// A name that needs no quotes anywhere it is written: in SQL, in an index, in a query, in a resource.
fn plain_name(what: &'static str, name: &str) -> Result<(), DefinitionError> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !plain || !begins || name.len() > MAX_NAME {
        return invalid(
            what,
            name,
            "a name is a letter and then letters, digits and _, lower case, 63 at most",
        );
    }
    Ok(())
}

/// Whether a table can't have this name downstream.
pub fn is_reserved_table(name: &str) -> bool {
    RESERVED_TABLES.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a column can't have this name downstream.
pub fn is_reserved_column(name: &str) -> bool {
    RESERVED_COLUMNS.contains(&name)
}

fn table_name(what: &'static str, name: &str) -> Result<(), DefinitionError> {
    plain_name(what, name)?;
    if is_reserved_table(name) {
        return invalid(
            what,
            name,
            "is a name of sluice's own, of Postgres or of SQLite; choose another and set source.table",
        );
    }
    Ok(())
}

fn column_name(name: &str) -> Result<(), DefinitionError> {
    plain_name("column", name)?;
    if is_reserved_column(name) {
        return invalid(
            "column",
            name,
            "is a name of sluice's own, of Postgres or of SQLite; give the column another and keep this one as `from`",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        name = "mensagens"
        about = "messages of a chat"
        entity = "mensagem"
        key = { column = "id", type = "bigint" }
        event = { categoria = "engajamento", evento = "mensagem_{papel}" }
        columns = [{ name = "papel", type = "text" }, { name = "quando", from = "timestamp", type = "timestamp" }]
    "#;

    fn problem(changed: (&str, &str)) -> String {
        assert!(SMALL.contains(changed.0), "{}", changed.0);
        Definition::parse(&SMALL.replace(changed.0, changed.1)).expect_err("a problem").to_string()
    }

    #[test]
    fn a_definition_survives_being_written_and_read_again() {
        for text in [
            SMALL,
            include_str!("../../../tables/leads.toml"),
            include_str!("../../../tables/chat_sessions.toml"),
        ] {
            let definition = Definition::parse(text).expect("a definition");
            let again = Definition::parse(&definition.to_toml().expect("TOML")).expect("a definition");
            assert_eq!(definition, again);
        }
    }

    #[test]
    fn a_column_knows_its_name_in_the_project() {
        let definition = Definition::parse(SMALL).expect("a definition");
        assert_eq!(definition.source_of("quando"), "timestamp");
        assert_eq!(definition.source_of("id"), "id");
        assert!(definition.lists_source("timestamp") && !definition.lists_source("quando"));
    }

    #[test]
    fn a_masked_column_makes_no_time_that_is_shown() {
        let masked = SMALL.replace("type = \"timestamp\"", "type = \"timestamp\", masked = true");
        Definition::parse(&masked).expect("it makes none");
        for rule in [
            "time = { created = \"quando\" }",
            "time = { modified = \"quando\" }",
            "event = { categoria = \"x\", evento = \"x\", timestamp = [\"quando\"] }",
        ] {
            let text = match rule.strip_prefix("event") {
                Some(_) => masked
                    .replace("event = { categoria = \"engajamento\", evento = \"mensagem_{papel}\" }", rule),
                None => format!("{rule}\n{masked}"),
            };
            let problem = Definition::parse(&text).expect_err("a problem").to_string();
            assert!(
                problem.contains("'quando': is masked and makes the event's timestamp"),
                "{rule}: {problem}"
            );
        }
    }

    #[test]
    fn a_wrong_definition_is_told_by_the_name_at_fault() {
        for (change, told) in [
            (("name = \"mensagens\"", "name = \"sluice_x\""), "'sluice_x'"),
            (("name = \"mensagens\"", "name = \"sqlite_x\""), "'sqlite_x'"),
            (("name = \"mensagens\"", "name = \"Mensagens\""), "'Mensagens'"),
            (("name = \"quando\"", "name = \"ctid\""), "'ctid': is a name of sluice's own, of Postgres"),
            (("column = \"id\"", "column = \"rowid\""), "'rowid': is a name"),
            (("{papel}", "{papeis}"), "'papeis': is used but not listed"),
            (("name = \"quando\"", "name = \"timestamp\""), "'timestamp': is a name of sluice's own"),
            (("name = \"quando\"", "name = \"papel\""), "'papel': stands twice"),
            (("about =", "abuot ="), "abuot"),
            (("type = \"bigint\"", "type = \"int\""), "int"),
            (
                ("type = \"text\"", "type = \"text\", masked = true"),
                "'papel': is masked and makes the event's evento",
            ),
            (("type = \"timestamp\"", "type = \"list\", lookup = true"), "'quando': has lookup, which only"),
        ] {
            let problem = problem(change);
            assert!(problem.contains(told), "{change:?}: {problem}");
        }
    }
}
