//! How a project's table differs from its definition.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Basis, DescribedColumn, Description, UNIQUE_KEY, names::is_secret};
use crate::domain::{Column, ColumnKind, KeyKind, Table};

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The project serves no such table.
    MissingTable,
    /// The key is not there, or of another type: no row can be read. As a hint: nothing tells that it is unique.
    Key,
    /// A column of the definition is not there: it stays empty.
    MissingColumn,
    /// A column is of another type: values that don't fit stay empty.
    Type,
    /// Nothing tells when a row was changed, or made.
    Time,
    /// Timestamps carry no zone: which one they are in is a setting.
    Zone,
    /// Rows that were changed seem not to say so.
    Trigger,
    /// A column that the definition does not list: it is kept without a type.
    Unlisted,
    /// A column that is read looks like a credential.
    Secret,
    /// A column that must never be read is not there. As a hint: no other is nearly called so.
    NeverRead,
    /// A member of `metadata` is of another type in the index of all events than in the table's own.
    Member,
    /// The store has the table otherwise, and can't make it what the definition says: no row can be synced.
    Stored,
    /// The project does not describe itself, and there is no row to look at.
    Unknown,
}

/// One difference, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    pub kind: DifferenceKind,
    /// The column's name in the project, or where it lacks there, downstream.
    pub column: Option<String>,
    pub problem: String,
    pub next_step: String,
    /// Nothing is lost by it: worth knowing, not worth an alarm.
    pub is_hint: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.next_step)
    }
}

impl Difference {
    pub(crate) fn new(
        kind: DifferenceKind,
        column: Option<&str>,
        problem: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        use DifferenceKind::{Member, MissingColumn, Unknown, Unlisted, Zone};
        let is_hint = matches!(kind, Member | MissingColumn | Unlisted | Unknown | Zone);
        let column = column.map(str::to_owned);
        Self { kind, column, problem: problem.into(), next_step: next_step.into(), is_hint }
    }
}

/// Compares a table's definition with what the project tells of it.
pub fn differences(table: Table, description: &Description) -> Vec<Difference> {
    let mut found = Vec::new();
    key(table, description, &mut found);
    columns(table, description, &mut found);
    time(table, description, &mut found);
    zone(table, description, &mut found);
    unlisted(table, description, &mut found);
    never_read(table, description, &mut found);
    found
}

fn key(table: Table, description: &Description, found: &mut Vec<Difference>) {
    let key = &table.definition().key;
    let source = table.definition().key_source();
    let Some(described) = description.column(source) else {
        let primary = description.columns.iter().find(|column| column.is_key);
        let next_step = match primary
            .map(|column| column.name.as_str())
            .or_else(|| close_to(source, description.names()))
        {
            Some(other) => format!(
                "if {other} holds the values that {source} held, name it in the definition's key: from = \"{other}\"; if they are \
                 others and the table was synced before, define {other} as the key, give the table another name in its definition, \
                 and write source = {{ table = \"{}\" }} there: rows would become versions of those that had the same value before",
                table.source_name()
            ),
            None => "name the column that tells rows apart in the definition's key".to_owned(),
        };
        let problem = format!("the project's table has no column {source}, which is the key");
        return found.push(Difference::new(DifferenceKind::Key, Some(source), problem, next_step));
    };
    let fits = match key.kind {
        KeyKind::Text => true,
        KeyKind::Bigint => described.kind.is_none_or(|kind| kind == ColumnKind::Integer),
        KeyKind::Uuid => {
            let is_told = description.basis == Basis::Described;
            described.format == "uuid"
                || described.kind.is_none()
                || (is_told && described.format.is_empty() && described.kind != Some(ColumnKind::Integer))
        }
    };
    if !fits {
        let problem = format!("the key {source} is of the type {}", described.type_name());
        let kind = match described.key_kind() {
            KeyKind::Uuid => "uuid",
            KeyKind::Bigint => "bigint",
            KeyKind::Text => "text",
        };
        let next_step = format!(
            "write type = \"{kind}\" in the definition's key; if the store has the table already, give it another name in \
             its definition, too, and write source = {{ table = \"{}\" }} there: a stored key keeps its type",
            table.source_name()
        );
        found.push(Difference::new(DifferenceKind::Key, Some(source), problem, next_step));
    }
    let others: Vec<&str> = description
        .columns
        .iter()
        .filter(|column| column.is_key && column.name != source)
        .map(|c| c.name.as_str())
        .collect();
    if !others.is_empty() && !described.is_key {
        let problem = format!("the project's primary key is {}, not {source}", others.join(", "));
        let next_step =
            format!("make sure that {source} is unique and never null, or define the other as the key");
        found.push(Difference::new(DifferenceKind::Key, Some(source), problem, next_step));
    }
    // A project that does not describe itself tells of no key: that is a hint of its own.
    if description.basis == Basis::Described
        && let Some(doubt) = description.doubt_of_key(source)
    {
        let difference = Difference::new(DifferenceKind::Key, Some(source), doubt, UNIQUE_KEY);
        found.push(Difference { is_hint: true, ..difference });
    }
}

fn columns(table: Table, description: &Description, found: &mut Vec<Difference>) {
    for column in &table.definition().columns {
        let source = column.source();
        let Some(described) = column.sources().find_map(|name| description.column(name)) else {
            let other = close_to(source, description.names()).filter(|other| !table.lists_source(other));
            let next_step = match other {
                Some(other) => {
                    format!(
                        "if it is called {other} there, write from = \"{other}\" for this column, and formerly = [\"{source}\"] \
                         if rows had it as {source} before"
                    )
                }
                None => "leave it so if the project has no such thing: it stays empty".to_owned(),
            };
            let problem = format!("the project's table has no column {source}");
            let difference = Difference::new(DifferenceKind::MissingColumn, Some(source), problem, next_step);
            // What was to be read only on request may be read without one.
            let is_hint = !(column.on_request && other.is_some());
            found.push(Difference { is_hint, ..difference });
            continue;
        };
        let Some(kind) = described.kind.filter(|kind| !holds(column.kind, *kind)) else { continue };
        let problem = format!(
            "{source} is of the type {}, the definition says {}",
            described.type_name(),
            named(column.kind)
        );
        let next_step = other_type(table, column, kind);
        found.push(Difference::new(DifferenceKind::Type, Some(source), problem, next_step));
    }
}

/// What a stored column is has to stay, so the new type goes beside it.
fn other_type(table: Table, column: &Column, kind: ColumnKind) -> String {
    let without_lookup = if column.lookup && kind != ColumnKind::Text {
        "; take lookup out of it either way: only texts are looked up by, so erase by key then"
    } else {
        ""
    };
    let (name, kind) = (&column.name, named(kind));
    let taken = |other: &String| table.definition().column(other).is_some() || table.key.column == *other;
    // Names are plain letters, and 63 of them at most.
    let stem: String = name.chars().take(40).collect();
    let mut other = format!("{stem}_{kind}");
    while taken(&other) {
        other.push_str("_2");
    }
    format!(
        "write type = \"{kind}\" for this column if {table} was never synced; else call it name = \"{other}\" with from = \
         \"{}\" and type = \"{kind}\", and write {other} wherever the definition says {name}, as a member of metadata, \
         too, since the index keeps a member's type: the store adds the column beside the old one and fills it from the \
         stored events; a rebuild of the index fills it there{without_lookup}",
        column.source()
    )
}

fn time(table: Table, description: &Description, found: &mut Vec<Difference>) {
    let definition = table.definition();
    let time = &definition.time;
    let is_there = |name: &Option<String>| {
        name.as_ref().is_some_and(|name| description.column(definition.source_of(name)).is_some())
    };
    if is_there(&time.modified) {
        return;
    }
    // A table whose rows end, or never change, may well have no such column.
    let is_hint = time.modified.is_none() && is_there(&time.created);
    if is_hint && is_there(&time.ended) {
        return;
    }
    let next_step =
        "give the project's table such a column, kept by a trigger, and name it in [time] of the definition";
    let (problem, next_step) = if is_there(&time.created) {
        (
            "no column tells when a row was changed: only new rows are found by a sync of the last hours",
            format!("{next_step}; or sync the whole table now and then"),
        )
    } else {
        (
            "no column tells when a row was made or changed: every sync reads the whole table",
            next_step.to_owned(),
        )
    };
    found.push(Difference { is_hint, ..Difference::new(DifferenceKind::Time, None, problem, next_step) });
}

fn zone(table: Table, description: &Description, found: &mut Vec<Difference>) {
    let without = |column: &&DescribedColumn| column.format.starts_with("timestamp without");
    let named: Vec<&str> = description
        .columns
        .iter()
        .filter(without)
        .map(|column| column.name.as_str())
        .filter(|name| table.definition().lists_source(name))
        .collect();
    if !named.is_empty() {
        let problem = format!("{} carry no zone and are read in {}", named.join(", "), table.zone());
        let next_step = "if the project's clients write another zone's time, name it in SUPABASE_TIMEZONE, or as zone in [time] of the definition";
        found.push(Difference::new(DifferenceKind::Zone, None, problem, next_step));
    }
}

fn unlisted(table: Table, description: &Description, found: &mut Vec<Difference>) {
    let definition = table.definition();
    for column in &description.columns {
        let name = column.name.as_str();
        if definition.never_read.iter().any(|hidden| hidden == name) {
            continue;
        }
        if is_secret(name, column.kind) {
            let problem = format!("{name} looks like a credential and is read");
            let next_step = format!("add \"{name}\" to never_read of the definition, unless it is none");
            found.push(Difference::new(DifferenceKind::Secret, Some(name), problem, next_step));
        }
        if !definition.lists_source(name) {
            let problem = format!(
                "{name} ({}) is not in the definition: it is kept in metadata and dados, without a type",
                column.type_name()
            );
            let next_step = "add it to [[columns]] to have a column of its own";
            found.push(Difference::new(DifferenceKind::Unlisted, Some(name), problem, next_step));
        }
    }
    if let Basis::Rows(rows) = description.basis {
        let problem = format!("the project does not describe itself to this key: {rows} rows were looked at");
        let next_step = "use a secret key in SUPABASE_KEY for certainty";
        found.push(Difference::new(DifferenceKind::Unknown, None, problem, next_step));
    }
}

fn never_read(table: Table, description: &Description, found: &mut Vec<Difference>) {
    // Rows show only what was asked for.
    if description.basis != Basis::Described {
        return;
    }
    found.extend(named_in_vain(table, &description.names()));
}

/// As [`hides_nothing`], each with what to do.
pub fn named_in_vain(table: Table, columns: &[&str]) -> Vec<Difference> {
    let difference = |(name, other): (&str, Option<&str>)| {
        let problem = format!("never_read names {name}, and the project's table has no such column");
        let next_step = match other {
            Some(other) => format!(
                "if {other} is meant, write that instead: it is read, and what was read of it stays in the topic and in \
                 both sinks; else remove the name"
            ),
            None => "remove the name if the column is gone; else write it as the project has it".to_owned(),
        };
        let difference = Difference::new(DifferenceKind::NeverRead, Some(name), problem, next_step);
        // A column that was dropped leaves a name, too, and nothing is wrong then.
        Difference { is_hint: other.is_none(), ..difference }
    };
    hides_nothing(table, columns).into_iter().map(difference).collect()
}

/// The names in `never_read` that no column has, so that they hide nothing, each with the column that is nearly called so
/// and is read.
pub fn hides_nothing<'a>(table: Table, columns: &[&'a str]) -> Vec<(&'static str, Option<&'a str>)> {
    let hidden = &table.definition().never_read;
    let is_read = |column: &&str| !hidden.iter().any(|name| name == *column);
    let named = hidden.iter().map(String::as_str).filter(|name| !columns.contains(name));
    named.map(|name| (name, close_to(name, columns.iter().copied()).filter(is_read))).collect()
}

/// Whether a column of the one kind holds what the project has.
fn holds(defined: ColumnKind, described: ColumnKind) -> bool {
    use ColumnKind::{Boolean, Date, Integer, Json, List, Number, Text, Timestamp};
    match defined {
        Json => true,
        Text => !matches!(described, Json | List),
        Number => matches!(described, Number | Integer),
        List => matches!(described, List | Text),
        Timestamp | Date => matches!(described, Timestamp | Date),
        Integer | Boolean => defined == described,
    }
}

fn named(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Text => "text",
        ColumnKind::Integer => "integer",
        ColumnKind::Number => "number",
        ColumnKind::Boolean => "boolean",
        ColumnKind::Timestamp => "timestamp",
        ColumnKind::Date => "date",
        ColumnKind::Json => "json",
        ColumnKind::List => "list",
    }
}

fn close_to<'a>(name: &str, columns: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |column: &&str| strsim::damerau_levenshtein(&name.to_lowercase(), &column.to_lowercase());
    columns.into_iter().min_by_key(distance).filter(|closest| distance(closest) <= 2.max(name.len() / 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Catalog, source::description::kind_of_format};

    fn described(columns: &[(&str, &str)]) -> Description {
        let column = |(name, format): &(&str, &str)| DescribedColumn {
            name: (*name).to_owned(),
            kind: Some(kind_of_format(format)),
            format: (*format).to_owned(),
            is_key: *name == "id",
            comment: None,
            values: Vec::new(),
            refers_to: None,
        };
        Description {
            schema: None,
            table: "leads".to_owned(),
            comment: None,
            columns: columns.iter().map(column).collect(),
            basis: Basis::Described,
        }
    }

    fn leads() -> Table {
        Catalog::built_in().get("leads").expect("leads")
    }

    fn found(columns: &[(&str, &str)]) -> Vec<(DifferenceKind, Option<String>)> {
        let found = differences(leads(), &described(columns)).into_iter();
        found.map(|difference| (difference.kind, difference.column)).collect()
    }

    fn of(kind: DifferenceKind, column: &str) -> (DifferenceKind, Option<String>) {
        (kind, Some(column.to_owned()))
    }

    #[test]
    fn a_project_as_it_is_defined_differs_in_nothing() {
        let mut columns = vec![("id", "uuid")];
        columns.extend(leads().definition().columns.iter().map(|column| {
            let format = match column.kind {
                ColumnKind::Text => "text",
                ColumnKind::Number => "numeric",
                ColumnKind::List => "text[]",
                ColumnKind::Json => "jsonb",
                _ => "timestamp with time zone",
            };
            (column.name.as_str(), format)
        }));
        assert_eq!(found(&columns), []);
    }

    #[test]
    fn a_name_in_never_read_that_hides_nothing_is_told_and_is_a_hint_where_no_column_is_nearly_called_so() {
        let sessions = Catalog::built_in().get("chat_sessions").expect("chat_sessions");
        let told = |columns: &[(&str, &str)]| {
            let of_hidden = |difference: &Difference| difference.kind == DifferenceKind::NeverRead;
            differences(sessions, &described(columns)).into_iter().find(of_hidden)
        };
        assert_eq!(told(&[("id", "uuid"), ("session_token", "text")]), None);
        let gone = told(&[("id", "uuid"), ("canal", "text")]).expect("told");
        assert!(gone.is_hint && gone.next_step.contains("if the column is gone"), "{gone}");
        let misspelt = told(&[("id", "uuid"), ("Session_Token", "text")]).expect("told");
        assert!(!misspelt.is_hint && misspelt.next_step.contains("if Session_Token is meant"), "{misspelt}");
        let seen = Description { basis: Basis::Rows(1), ..described(&[("id", "uuid")]) };
        let kinds: Vec<_> = differences(sessions, &seen).iter().map(|difference| difference.kind).collect();
        assert!(!kinds.contains(&DifferenceKind::NeverRead), "rows do not show it: {kinds:?}");
    }

    #[test]
    fn a_column_to_be_read_on_request_that_may_have_another_name_is_no_hint() {
        let sessions = Catalog::built_in().get("chat_sessions").expect("chat_sessions");
        for (column, is_hint) in [("ip_addres", false), ("canal", true)] {
            let told = differences(sessions, &described(&[("id", "uuid"), (column, "text")]));
            let address =
                told.iter().find(|told| told.column.as_deref() == Some("ip_address")).expect("told");
            assert_eq!(address.is_hint, is_hint, "{address}");
        }
    }

    #[test]
    fn a_column_that_the_project_has_under_a_former_name_is_not_missing() {
        let toml = r#"
            name = "pess"
            about = "people"
            entity = "pessoa"
            key = { column = "id", type = "uuid" }
            event = { categoria = "x", evento = "pessoa" }
            columns = [{ name = "segredo", from = "documento", formerly = ["X1"], type = "text", masked = true }]"#;
        let definition = crate::domain::Definition::parse(toml).expect("a definition");
        let pess = Catalog::of(vec![definition], chrono_tz::Tz::UTC).get("pess").expect("pess");
        for (name, is_missing) in [("documento", false), ("X1", false), ("cor", true)] {
            let told = differences(pess, &described(&[("id", "uuid"), (name, "text")]));
            let missing = told.iter().find(|told| told.kind == DifferenceKind::MissingColumn);
            assert_eq!(missing.is_some(), is_missing, "{name}");
        }
    }

    #[test]
    fn another_type_is_offered_beside_a_column_that_the_store_has() {
        let columns = [("id", "uuid"), ("nome", "text"), ("interesse", "bigint")];
        let told = differences(leads(), &described(&columns));
        let interesse = told.iter().find(|told| told.kind == DifferenceKind::Type).expect("told");
        for part in ["if leads was never synced", "name = \"interesse_integer\"", "from = \"interesse\""] {
            assert!(interesse.next_step.contains(part), "{part}: {interesse}");
        }
        assert!(!interesse.next_step.contains("lookup"), "{interesse}");
        let told = differences(leads(), &described(&[("id", "uuid"), ("email", "text[]")]));
        let email = told.iter().find(|told| told.kind == DifferenceKind::Type).expect("told");
        for part in ["name = \"email_list\"", "take lookup out of it"] {
            assert!(email.next_step.contains(part), "{part}: {email}");
        }
        let told = differences(leads(), &described(&[("id", "bigint")]));
        let key = told.iter().find(|told| told.kind == DifferenceKind::Key).expect("told");
        assert!(key.next_step.contains("source = { table = \"leads\" }"), "{key}");
    }

    #[test]
    fn a_table_without_a_primary_key_is_told_as_a_hint() {
        let mut description = described(&[("id", "uuid")]);
        let of_key = |description: &Description| {
            let mut told = differences(leads(), description).into_iter();
            told.find(|told| told.kind == DifferenceKind::Key)
        };
        assert_eq!(of_key(&description), None);
        let renamed = of_key(&described(&[("codigo", "uuid")])).expect("told");
        assert!(!renamed.next_step.contains("from ="), "nothing is like it: {renamed}");
        let mut of_another = described(&[("codigo", "uuid")]);
        of_another.columns[0].is_key = true;
        let renamed = of_key(&of_another).expect("told");
        for part in ["if codigo holds the values", "from = \"codigo\"", "source = { table = \"leads\" }"] {
            assert!(renamed.next_step.contains(part), "{part}: {renamed}");
        }
        description.columns[0].is_key = false;
        let told = of_key(&description).expect("told");
        assert!(
            told.is_hint && told.problem.contains("no primary key") && told.next_step.contains("unique"),
            "{told}"
        );
    }

    #[test]
    fn wrong_names_types_and_times_are_each_told() {
        let found = found(&[
            ("id", "bigint"),
            ("nome", "jsonb"),
            ("emails", "text"),
            ("score_qualificacao", "integer"),
            ("created_at", "timestamp without time zone"),
            ("corretor", "text"),
            ("reset_token", "text"),
        ]);
        for expected in [
            of(DifferenceKind::Key, "id"),
            of(DifferenceKind::Type, "nome"),
            of(DifferenceKind::MissingColumn, "email"),
            of(DifferenceKind::MissingColumn, "updated_at"),
            (DifferenceKind::Time, None),
            (DifferenceKind::Zone, None),
            of(DifferenceKind::Unlisted, "corretor"),
            of(DifferenceKind::Secret, "reset_token"),
        ] {
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        }
        assert!(
            !found.contains(&of(DifferenceKind::Type, "score_qualificacao")),
            "a whole number is a number"
        );
        let told = differences(leads(), &described(&[("id", "uuid"), ("emails", "text")]));
        let email = told.iter().find(|told| told.column.as_deref() == Some("email")).expect("told");
        assert!(email.next_step.contains("from = \"emails\""), "{email}");
    }
}
