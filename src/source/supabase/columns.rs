//! Which of a table's columns are read.
//!
//! A row's identity is its content, so what is selected must not change from one read to the next. A table without
//! columns to hide is asked for `*`. Another is asked for what the project listed last, less what must not be read;
//! a listing that fails never shortens it, and neither hides what the definition lists and the project had not then.

use std::collections::BTreeSet;

use super::{describe::properties, query::name};
use crate::domain::{Column, Definition, Json, Table};

/// A table's columns by their names in the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    table: Table,
    names: BTreeSet<String>,
    /// The project listed them; otherwise they are those of the definition, and there may be others.
    pub(super) listed: bool,
}

impl Columns {
    /// What the definition lists, where the project does not tell.
    pub(super) fn expected(table: Table) -> Self {
        let definition = table.definition();
        let columns = definition.columns.iter().map(|column| column.source().to_owned());
        let names = columns.chain([definition.key_source().to_owned()]).collect();
        Self { table, names, listed: false }
    }

    /// Reads PostgREST's OpenAPI description; nothing where it does not tell of the table.
    pub(super) fn listed(table: Table, openapi: &Json) -> Option<Self> {
        let properties = properties(openapi, table.source_name())?;
        Self::named(table, properties.iter().map(|property| property.name.clone().into_owned()).collect())
    }

    /// These, which the project listed at some time.
    pub(super) fn named(table: Table, names: Vec<String>) -> Option<Self> {
        let names: BTreeSet<String> = names.into_iter().collect();
        (!names.is_empty()).then_some(Self { table, names, listed: true })
    }

    /// These, and those of the definition that are selected: the project may have got them since it listed these. One that is
    /// hidden would never turn out to be missing.
    pub(super) fn and_expected(mut self, asked_for: &[String]) -> Self {
        let hidden = hidden(self.table, asked_for);
        let expected = Self::expected(self.table).names;
        self.names.extend(expected.into_iter().filter(|name| !hidden.contains(&name.as_str())));
        self
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    /// By its name in the project.
    pub(super) fn has(&self, source: &str) -> bool {
        self.names.contains(source)
    }

    /// `false` when it was not there either.
    pub(super) fn remove(&mut self, source: &str) -> bool {
        self.names.remove(source)
    }

    /// The name in the project of a column that the definition names, where the project has it.
    pub(super) fn source(&self, named: Option<&String>) -> Option<&'static str> {
        named_source(self.table.definition(), named).filter(|source| self.has(source))
    }

    /// The column rows are ordered and filtered by.
    pub(super) fn time(&self) -> Option<&'static str> {
        let time = &self.table.definition().time;
        self.source(time.modified.as_ref()).or_else(|| self.source(time.created.as_ref()))
    }

    /// Whether that column grows with every change, so that it can carry a watermark.
    pub(super) fn has_modification_time(&self) -> bool {
        self.source(self.table.definition().time.modified.as_ref()).is_some()
    }

    /// What to select. `asked_for` names the columns that are read only where the operator asks for them, by their
    /// names downstream.
    pub(super) fn selection(&self, asked_for: &[String]) -> String {
        let hidden = hidden(self.table, asked_for);
        if hidden.is_empty() {
            return "*".to_owned();
        }
        let wanted = self.names.iter().filter(|name| !hidden.contains(&name.as_str()));
        wanted.map(|wanted| name(wanted)).collect::<Vec<_>>().join(",")
    }
}

/// The columns of a table that must not be selected, by their names in the project.
pub(super) fn hidden(table: Table, asked_for: &[String]) -> Vec<&'static str> {
    let definition = table.definition();
    let unasked =
        definition.columns.iter().filter(|column| column.on_request && !asked_for.contains(&column.name));
    let is_taken = |name: &&str| definition.columns.iter().any(|column| column.source() == *name);
    let former = unasked.clone().flat_map(|column| &column.formerly).map(String::as_str);
    // Rows may still have a column under a name of before, unless that is another one's now.
    let former = former.filter(|name| !is_taken(name));
    definition
        .never_read
        .iter()
        .map(String::as_str)
        .chain(unasked.map(Column::source))
        .chain(former)
        .collect()
}

fn named_source(definition: &'static Definition, named: Option<&String>) -> Option<&'static str> {
    let column = definition.column(named?)?;
    Some(column.source())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Catalog;

    fn table(name: &str) -> Table {
        Catalog::built_in().get(name).expect("a table")
    }

    #[test]
    fn what_must_not_be_read_is_never_selected_and_other_columns_only_on_request() {
        let openapi = json!({"definitions": {"chat_sessions": {"properties":
            {"id": {}, "session_token": {}, "ip_address": {}, "canal": {}, "com espaco": {}}}}});
        let columns = Columns::listed(table("chat_sessions"), &Json::from(&openapi)).expect("columns");
        assert_eq!(columns.selection(&[]), "canal,\"com espaco\",id");
        assert_eq!(columns.selection(&["ip_address".to_owned()]), "canal,\"com espaco\",id,ip_address");
        let expected = Columns::expected(table("chat_sessions")).selection(&[]);
        assert!(
            !expected.contains('*')
                && !expected.contains("session_token")
                && !expected.contains("ip_address")
        );
    }

    #[test]
    fn what_is_hidden_does_not_count_as_listed_because_the_definition_has_it() {
        let listed = ["id", "canal"].map(str::to_owned).to_vec();
        let columns = Columns::named(table("chat_sessions"), listed).expect("columns");
        let unasked = columns.clone().and_expected(&[]);
        assert!(unasked.has("lead_id") && !unasked.has("ip_address"));
        assert!(columns.and_expected(&["ip_address".to_owned()]).has("ip_address"), "it is selected");
    }

    #[test]
    fn a_column_to_be_read_on_request_is_not_selected_under_a_former_name_either() {
        let toml = r#"
            name = "pess"
            about = "people"
            entity = "pessoa"
            key = { column = "id", type = "bigint" }
            event = { categoria = "x", evento = "pessoa" }
            columns = [
                { name = "ip", from = "ip_novo", formerly = ["ip", "canal"], type = "text", on_request = true },
                { name = "canal", type = "text" },
            ]"#;
        let definition = Definition::parse(toml).expect("a definition");
        let pess = Catalog::of(vec![definition], chrono_tz::Tz::UTC).get("pess").expect("pess");
        let names = ["id", "ip", "canal", "cor"].map(str::to_owned);
        let columns = Columns::named(pess, names.to_vec()).expect("columns");
        assert_eq!(columns.selection(&[]), "canal,cor,id", "what has the name now is read");
        assert_eq!(columns.selection(&["ip".to_owned()]), "*", "nothing is hidden where it is asked for");
    }

    #[test]
    fn a_table_without_columns_to_hide_is_read_whole_whether_the_project_tells_or_not() {
        let openapi = json!({"definitions": {"leads": {"properties": {"id": {}, "nome": {}}}}});
        let listed = Columns::listed(table("leads"), &Json::from(&openapi)).expect("columns");
        assert_eq!(
            (listed.selection(&[]), Columns::expected(table("leads")).selection(&[])),
            ("*".into(), "*".into())
        );
    }

    #[test]
    fn a_table_without_modification_time_is_read_by_its_creation() {
        let mut columns = Columns::expected(table("leads"));
        assert_eq!((columns.time(), columns.has_modification_time()), (Some("updated_at"), true));
        columns.remove("updated_at");
        assert_eq!((columns.time(), columns.has_modification_time()), (Some("created_at"), false));
        columns.remove("created_at");
        assert_eq!(columns.time(), None);
    }

    #[test]
    fn a_description_of_other_tables_says_nothing() {
        for openapi in
            [json!({"definitions": {}}), json!("x"), json!({"definitions": {"leads": {"properties": {}}}})]
        {
            assert_eq!(Columns::listed(table("leads"), &Json::from(&openapi)), None);
        }
    }
}
