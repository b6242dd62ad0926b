//! Columns of a definition that the source had and has no more: they would be empty in both sinks without a word.
//!
//! Guarantee: where a personal column, or one that is not to be read, is gone and one that nobody knows came in its place, no
//! row is read until the definition says what became of it: under a new name nothing would mask it. That goes by the columns
//! of the rows themselves, since not every project lists them, and by those that they had beside the one that is gone: a process
//! with another definition may have read rows since.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::sync::SyncRun;
use crate::{
    domain::{Column, Json, Table},
    fault::Fault,
    next_step::Remark,
    source::{
        Page, Source,
        description::{Difference, DifferenceKind},
    },
    store::{RowColumns, Store},
};

/// The columns of a table's rows as they were last read from this project: another one may never have had them.
pub(super) async fn known(store: &dyn Store, source: &dyn Source, table: Table) -> Result<RowColumns, Fault> {
    store.row_columns(&table.into(), &project_of(source)).await
}

/// A digest, since an address is nobody's business.
fn project_of(source: &dyn Source) -> String {
    STANDARD.encode(Sha256::digest(source.project()))
}

impl SyncRun {
    /// Compares a page's columns with those of earlier rows, and remembers them. Returns those that are lost, by their names
    /// at the source.
    pub(super) async fn meet_columns(&self, page: &Page, is_first: bool) -> Result<Vec<String>, Fault> {
        let table = self.table;
        let known = known(&*self.store, &*self.source, table).await?;
        let met = met(table, &known, page, self.source.columns(table));
        if let Some(problem) = met.as_ref().and_then(|met| unmasked(table, met)) {
            return Err(Fault::misconfigured(
                self.source.name(),
                format!("reading {table}: {}", problem.problem),
                problem.next_step.unwrap_or_else(|| "put the table's definition right".into()),
            ));
        }
        let is_new = met.as_ref().is_some_and(|met| *met != known);
        let known = met.unwrap_or(known);
        // Before any of the page's rows is there, so that no sync that breaks off takes the loss for what always was.
        if is_new {
            self.store.remember_row_columns(&table.into(), &project_of(&*self.source), &known).await?;
        }
        let is_poll = self.request.since.is_some();
        if let Some(Remark { problem, next_step }) = remark(table, &known)
            && (is_new || is_first && !is_poll)
        {
            let advice = next_step.map(|step| step.to_string()).unwrap_or_default();
            warn!(sync_id = %self.id, %table, problem, advice, "rows have lost columns of the definition");
        }
        Ok(lost(table, &known).map(|column| column.source().to_owned()).collect())
    }
}

/// The columns of a page's rows beside those of earlier ones; none where the page has no rows.
fn met(table: Table, known: &RowColumns, page: &Page, listed: Option<Vec<String>>) -> Option<RowColumns> {
    let names = |row: &Json| {
        let members = row.members()?;
        Some(members.iter().map(|member| member.name.clone().into_owned()).collect::<BTreeSet<String>>())
    };
    let mut rows = page.rows.iter().filter_map(names);
    let mut now = rows.next()?;
    // Rows have these only where they are asked for, so the project tells, or nobody does.
    let on_request = table.columns.iter().filter(|column| column.on_request).flat_map(Column::sources);
    let never = table.never_read.iter().map(String::as_str);
    let is_there = |source: &&str| match &listed {
        Some(listed) => listed.iter().any(|name| name == source),
        None => known.now.contains(*source),
    };
    now.extend(on_request.chain(never).filter(is_there).map(str::to_owned));
    // All rows of an answer have the same columns, but nothing is said to be lost by what one row lacks.
    if !known.now.is_subset(&now) {
        now.extend(rows.flatten());
    }
    let mut gone = known.gone.clone();
    gone.extend(known.now.iter().map(|name| (name.clone(), known.now.clone())));
    gone.retain(|name, _| !now.contains(name));
    Some(RowColumns { now, gone })
}

/// The columns of the definition that rows had and have no more under any name, but for those of which the definition says so.
fn lost(table: Table, known: &RowColumns) -> impl Iterator<Item = &'static Column> {
    let is_lost = |column: &&Column| {
        let is_gone = column.sources().any(|name| known.gone.contains_key(name));
        is_gone && !is_given_up(column) && !is_there(column, known)
    };
    table.definition().columns.iter().filter(is_lost)
}

/// Whether rows have the column: where they lack its name, what they have under a former one is read.
fn is_there(column: &Column, known: &RowColumns) -> bool {
    column.sources().any(|name| known.now.contains(name))
}

/// Whether the definition says that the project has the column no more.
fn is_given_up(column: &Column) -> bool {
    column.formerly.iter().any(|former| former == column.source())
}

/// The columns of rows that the definition does not know.
fn unlisted(table: Table, known: &RowColumns) -> impl Iterator<Item = &str> {
    let is_named =
        move |name: &&str| table.lists_source(name) || table.never_read.iter().any(|hidden| hidden == name);
    known.now.iter().map(String::as_str).filter(move |name| !is_named(name))
}

/// Why rows may not be read: what is personal in them may stand under a name that nothing masks.
fn unmasked(table: Table, known: &RowColumns) -> Option<Remark> {
    let of_columns = lost(table, known).filter(|column| column.masked || column.on_request);
    let of_columns = of_columns.map(|column| (column.source(), column.sources().collect::<Vec<_>>()));
    let unread = table.definition().never_read.iter().filter(|name| known.gone.contains_key(*name));
    let unread = unread.map(|name| (name.as_str(), vec![name.as_str()]));
    let (mut hidden, mut new) = (Vec::new(), BTreeSet::new());
    for (name, sources) in of_columns.chain(unread) {
        let beside: Vec<&BTreeSet<String>> =
            sources.iter().filter_map(|source| known.gone.get(*source)).collect();
        let mut came = unlisted(table, known)
            .filter(|name| !beside.iter().any(|columns| columns.contains(*name)))
            .peekable();
        if came.peek().is_some() {
            hidden.push(name);
            new.extend(came);
        }
    }
    if hidden.is_empty() {
        return None;
    }
    let (hidden, new) = (hidden.join(", "), new.into_iter().collect::<Vec<_>>().join(", "));
    let problem = format!(
        "rows have no {hidden} any more, which is personal or not to be read, and have {new}, which the definition does \
         not know: under a new name it would be shown to everybody, so nothing was read"
    );
    let next_step = format!(
        "if it is the same, write from = \"its new name\" and formerly = [\"its old name\"] for the column in the table's \
         definition; else define {new}, with masked = true where it is personal, or name it in never_read; then sync again"
    );
    Some(Remark::new(problem, next_step))
}

/// What is to be said where columns are lost.
pub(super) fn remark(table: Table, known: &RowColumns) -> Option<Remark> {
    let lost: Vec<&str> = lost(table, known).map(Column::source).collect();
    (!lost.is_empty()).then(|| {
        let problem = format!(
            "the rows of {table} have no {} any more: what is read now is empty there in both sinks",
            lost.join(", ")
        );
        Remark::new(problem, remedy(table, known))
    })
}

/// A column that the project's table lacks is more than a hint where rows had it.
pub(super) fn judge(table: Table, known: &RowColumns, difference: &mut Difference) {
    let of_column = |column: &&Column| difference.column.as_deref() == Some(column.source());
    let Some(column) = table.definition().columns.iter().find(of_column) else { return };
    let is_known = known.had(column.source()) || column.formerly.iter().any(|former| known.had(former));
    let is_former = column.formerly.iter().any(|former| known.now.contains(former));
    if difference.kind == DifferenceKind::MissingColumn && is_known && !is_former && !is_given_up(column) {
        difference.is_hint = false;
        difference.problem = format!(
            "the project's table has no column {} any more, and rows had it: what is read now is empty there in both sinks",
            column.source()
        );
        difference.next_step = remedy(table, known);
    }
}

fn remedy(table: Table, known: &RowColumns) -> String {
    let unlisted = unlisted(table, known).collect::<Vec<_>>().join(", ");
    let others = if unlisted.is_empty() {
        String::new()
    } else {
        format!(" (it does not know {unlisted}, which rows have)")
    };
    format!(
        "where a column has another name there now, write from = \"its new name\" and formerly = [\"its old name\"] for it in \
         the table's definition{others}, then sync the whole table; where it is gone for good, copy elsewhere what is needed \
         of it, since the next reading of the whole table empties it, then write its name as formerly: nobody is told of it any \
         more, and in older events it stays masked where it is"
    )
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Catalog, Definition};

    fn pess(segredo: &str) -> Table {
        let toml = format!(
            r#"
            name = "pess"
            about = "people"
            entity = "pessoa"
            never_read = ["senha"]
            key = {{ column = "id", type = "bigint" }}
            event = {{ categoria = "x", evento = "pessoa" }}
            columns = [
                {{ name = "obs", type = "text" }},
                {{ name = "segredo", type = "text", masked = true, {segredo} }},
                {{ name = "ip", type = "text", on_request = true }},
                {{ name = "nunca", type = "text" }},
            ]"#
        );
        let definition = Definition::parse(&toml).expect("a definition");
        Catalog::of(vec![definition], chrono_tz::Tz::UTC).get("pess").expect("pess")
    }

    fn page(row: &Value) -> Page {
        Page {
            rows: vec![Json::from(row)],
            read_at: DateTime::UNIX_EPOCH,
            watermark: None,
            tells_changes: true,
            next: None,
            without_key: 0,
        }
    }

    /// What becomes known, or the columns that may not be read.
    fn meet(table: Table, known: &RowColumns, row: &Value) -> Result<RowColumns, String> {
        let met = met(table, known, &page(row), None).expect("a row");
        unmasked(table, &met).map_or(Ok(met), |refused| Err(refused.to_string()))
    }

    fn named(table: Table, known: &RowColumns) -> Vec<&'static str> {
        lost(table, known).map(Column::source).collect()
    }

    #[test]
    fn a_column_that_rows_had_is_lost_and_one_that_they_never_had_is_not() {
        let table = pess(r#"from = "X1""#);
        let known = meet(table, &RowColumns::default(), &json!({"id": 1, "obs": null, "X1": "a"}));
        let known = known.expect("nothing is lost");
        assert_eq!((named(table, &known), remark(table, &known)), (vec![], None));
        let renamed = meet(table, &known, &json!({"id": 1, "observacao": null, "X1": "a", "senha": "x"}));
        let renamed = renamed.expect("it is not personal");
        assert_eq!(named(table, &renamed), ["obs"]);
        let told = remark(table, &renamed).expect("told").to_string();
        for part in ["no obs any more", "does not know observacao, which", "empties it"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let again = meet(table, &renamed, &json!({"id": 1, "observacao": null, "X1": "a"})).expect("read");
        assert_eq!(again, renamed, "it is told until the definition is put right");
        let back = meet(table, &again, &json!({"id": 1, "obs": null, "X1": "a"})).expect("read");
        assert_eq!(named(table, &back), [""; 0]);
    }

    #[test]
    fn a_personal_column_that_may_have_another_name_is_not_read_until_the_definition_says_what_it_is() {
        let table = pess(r#"from = "X1""#);
        let known = meet(table, &RowColumns::default(), &json!({"id": 1, "X1": "a", "cor": "azul"}));
        let known = known.expect("nothing is lost");
        let row = json!({"id": 1, "documento": "a", "cor": "azul"});
        let refused = meet(table, &known, &row).expect_err("refused");
        assert!(refused.contains("no X1 any more") && refused.contains("have documento,"), "{refused}");
        for right in [
            r#"from = "documento""#,
            r#"from = "documento", formerly = ["X1"]"#,
            r#"from = "X1", formerly = ["X1", "documento"]"#,
        ] {
            let read = meet(pess(right), &known, &row).expect(right);
            assert_eq!(named(pess(right), &read), [""; 0], "{right}");
            let elsewhere = meet(table, &read, &row).expect_err("refused");
            assert!(
                elsewhere.contains("have documento,"),
                "by a process with the old definition: {elsewhere}"
            );
        }
        let misspelt = pess(r#"from = "docmento", formerly = ["X1"]"#);
        assert!(meet(misspelt, &known, &row).is_err(), "it has still no name");
        let dropped = meet(table, &known, &json!({"id": 1, "cor": "azul"})).expect("nothing came for it");
        assert_eq!(named(table, &dropped), ["X1"]);
        assert!(meet(table, &dropped, &row).is_err(), "also where it comes later");
    }

    #[test]
    fn a_column_that_rows_have_under_a_former_name_is_not_lost_and_a_rename_that_was_undone_is_no_excuse() {
        let (old, mended) = (pess(r#"from = "X1""#), pess(r#"from = "documento", formerly = ["X1"]"#));
        let [before, after] = ["X1", "documento"].map(|name| json!({"id": 1, name: "a"}));
        let known = meet(mended, &RowColumns::default(), &before).expect("it is prepared");
        assert_eq!(named(mended, &known), [""; 0]);
        let renamed = meet(mended, &known, &after).expect("it is known");
        let undone = meet(mended, &renamed, &before).expect("it has the former name");
        assert_eq!((named(mended, &undone), remark(mended, &undone)), (vec![], None));
        let undone = meet(old, &undone, &before).expect("as it was");
        assert!(meet(old, &undone, &after).is_err(), "rows had documento once, but not beside X1");
    }

    #[test]
    fn a_column_that_came_before_another_went_is_not_taken_for_it() {
        let table = pess(r#"from = "X1""#);
        let mut known = RowColumns::default();
        for row in [json!({"id": 1, "obs": "a", "X1": "a"}), json!({"id": 1, "X1": "a", "cor": "azul"})] {
            known = meet(table, &known, &row).expect("X1 is there");
        }
        let known = meet(table, &known, &json!({"id": 1, "cor": "azul"})).expect("nothing came for X1");
        assert_eq!(named(table, &known), ["obs", "X1"]);
    }

    #[test]
    fn a_column_that_is_read_on_request_or_never_is_lost_where_the_project_lists_it_no_more() {
        let table = pess(r#"meaning = "x""#);
        let listed = |name: &str| Some(vec!["id".to_owned(), name.to_owned()]);
        let row = page(&json!({"id": 1}));
        let known = met(table, &RowColumns::default(), &row, listed("ip")).expect("a row");
        for still in [listed("ip"), None] {
            assert_eq!(met(table, &known, &row, still), Some(known.clone()));
        }
        for (before, after) in [("ip", "ip_novo"), ("senha", "senha_nova")] {
            let known = met(table, &RowColumns::default(), &row, listed(before)).expect("a row");
            let row = page(&json!({"id": 1, after: "x"}));
            let renamed = met(table, &known, &row, listed(after)).expect("a row");
            let refused = unmasked(table, &renamed).expect("refused").to_string();
            assert!(refused.contains(&format!("no {before} any more")), "{refused}");
        }
    }

    #[test]
    fn a_missing_column_is_more_than_a_hint_where_rows_had_it() {
        let had = RowColumns { now: ["X1", "cor"].map(str::to_owned).into(), ..RowColumns::default() };
        let told = |table: Table, column: &str| {
            let mut difference =
                Difference::new(DifferenceKind::MissingColumn, Some(column), "missing", "leave it so");
            judge(table, &had, &mut difference);
            difference
        };
        let table = pess(r#"from = "X1""#);
        let lost = told(table, "X1");
        assert!(!lost.is_hint && lost.next_step.contains("does not know cor"), "{lost}");
        assert!(told(table, "nunca").is_hint, "it never was there");
        assert!(
            told(pess(r#"from = "documento", formerly = ["X1"]"#), "documento").is_hint,
            "it is read from X1"
        );
        assert!(told(pess(r#"from = "X1", formerly = ["X1"]"#), "X1").is_hint, "it is known to be gone");
    }
}
