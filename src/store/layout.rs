//! What must be done so that the table of an entity is as its definition says.
//!
//! Guarantee: nothing that is there is dropped, emptied or given another type. What a definition gained is added and
//! filled from the stored events; what can't be reconciled is refused with what to do. Each store remembers the layout
//! it made a table with, and a process whose definition says another one writes nothing: two processes with different
//! definitions can't leave columns behind that hold a row's older values.

use std::collections::BTreeMap;

use crate::{
    domain::{Column, ColumnKind, KeyKind, Table},
    fault::{Fault, FaultKind},
    next_step::{NextStep, SAME_DEFINITIONS},
    store::tables::ENTITY_COLUMNS,
};

/// A table as it is there.
pub(super) struct Found {
    /// Names and types, as the server tells them.
    pub(super) columns: BTreeMap<String, String>,
    /// What is remembered of it; `None` when sluice did not make it.
    pub(super) made: Option<Made>,
}

/// What is remembered of a table that sluice made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) layout: String,
    /// Columns that the rows from before them still lack.
    pub(super) unfilled: Vec<String>,
}

/// What to do about a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Make,
    Change {
        add: Vec<&'static Column>,
        /// Columns to be filled anew in every row; those to add are among them.
        fill: Vec<&'static Column>,
    },
}

/// The types a store gives to keys and columns.
pub(super) struct Types {
    pub(super) key: fn(KeyKind) -> &'static str,
    pub(super) column: fn(ColumnKind) -> &'static str,
    /// Operators have a client of their own to change tables with.
    pub(super) has_client: bool,
}

/// Begins the line that tells whose events fill the table; no column can have such a name.
const ENTITY: &str = "(entity)";

/// A line a column: its name and what its values are made of. The key is the first, the entity the last. A column's names
/// at the source are kept as they are written, because rows may have `createdAt` and no `createdat`; how the key is called
/// there changes no stored key and is left out.
pub(super) fn layout(table: Table) -> String {
    let definition = table.definition();
    let key = format!("{} {:?}", definition.key.column, definition.key.kind);
    let listed = definition.columns.iter().map(|column| {
        let (kind, names, zone) = table.parts_of(column);
        format!("{} {} {names}{}", column.name, kind.to_lowercase(), zone.to_lowercase())
    });
    let entity = format!("{ENTITY} {}", definition.entity);
    std::iter::once(key.to_lowercase()).chain(listed).chain([entity]).collect::<Vec<_>>().join("\n")
}

/// Decides what to do about a table.
///
/// # Errors
/// When what is there can't become what the definition says.
pub(super) fn plan(
    part: &'static str,
    table: Table,
    types: &Types,
    found: Option<&Found>,
) -> Result<Plan, Fault> {
    let Some(found) = found else { return Ok(Plan::Make) };
    let (definition, wanted) = (table.definition(), layout(table));
    let forgotten;
    let made = match &found.made {
        Some(made) => made,
        // Somebody dropped the table in which it was remembered: with what every column holds.
        None if ENTITY_COLUMNS.iter().all(|own| found.columns.contains_key(own.name)) => {
            let unfilled = definition.columns.iter().map(|column| column.name.clone()).collect();
            forgotten = Made { layout: wanted.clone(), unfilled };
            &forgotten
        }
        None => return Err(not_ours(part, table)),
    };
    let (wanted, made_with) = (lines(&wanted), lines(&made.layout));
    let key = definition.key.column.as_str();
    let is_key = found.columns.get(key).is_some_and(|kind| kind == (types.key)(definition.key.kind));
    if !is_key || made_with.get(key) != wanted.get(key) {
        let had = key_of(&made.layout).unwrap_or_default();
        return Err(other_key(part, table, had, types.has_client));
    }
    // Where none is remembered, an earlier build made the table.
    if let Some(had) = made_with.get(ENTITY).filter(|had| **had != definition.entity) {
        return Err(other_entity(part, table, had));
    }
    let (mut add, mut fill) = (Vec::new(), Vec::new());
    for column in &definition.columns {
        let name = column.name.as_str();
        match found.columns.get(name) {
            None => add.push(column),
            Some(kind) if kind != (types.column)(column.kind) => {
                return Err(other_type(part, table, column, kind, types.has_client));
            }
            Some(_) => {}
        }
        let is_new = !found.columns.contains_key(name) || made_with.get(name) != wanted.get(name);
        if is_new || made.unfilled.iter().any(|unfilled| unfilled == name) {
            fill.push(column);
        }
    }
    Ok(Plan::Change { add, fill })
}

/// What a process learns whose definition of a table is not the one it was last made from.
pub(super) fn check_layout(part: &'static str, table: Table, made_with: Option<&str>) -> Result<(), Fault> {
    let wanted = layout(table);
    let Some(made_with) = made_with else {
        return Err(Fault::misconfigured(
            part,
            format!("{table}: its table is not made yet"),
            NextStep::Migrate,
        ));
    };
    let (wanted, mut made_with) = (lines(&wanted), lines(made_with));
    // An earlier build remembers none.
    made_with.entry(ENTITY).or_insert(&table.definition().entity);
    let mut differing: Vec<&str> = wanted
        .iter()
        .filter(|(name, rest)| made_with.get(*name) != Some(rest))
        .map(|(name, _)| *name)
        .collect();
    differing.extend(made_with.keys().filter(|name| !wanted.contains_key(*name)));
    if differing.is_empty() {
        return Ok(());
    }
    differing.truncate(10);
    Err(Fault::misconfigured(
        part,
        format!(
            "{table} was made from another definition than this process has; they differ in: {}",
            differing.join(", ")
        ),
        SAME_DEFINITIONS,
    ))
}

/// Logs what a table lacks after it was filled.
pub(super) fn report_filled(
    part: &'static str,
    table: Table,
    fill: &[&'static Column],
    filled: u64,
    without_event: u64,
) {
    let columns: Vec<&str> = fill.iter().map(|column| column.name.as_str()).collect();
    let columns = columns.join(", ");
    tracing::info!(store = part, %table, columns, rows = filled, "columns filled from the stored events");
    if without_event > 0 {
        tracing::warn!(
            store = part, %table, columns, rows = without_event,
            "rows whose event is not stored any more lack these columns; sync the whole table again"
        );
    }
}

fn lines(layout: &str) -> BTreeMap<&str, &str> {
    let columns = layout.lines().skip(1).filter_map(|line| line.split_once(' '));
    key_of(layout).into_iter().chain(columns).collect()
}

/// The key's column and type; an earlier build also remembered how it is called at the source.
fn key_of(layout: &str) -> Option<(&str, &str)> {
    let mut words = layout.lines().next()?.split(' ');
    Some((words.next()?, words.next()?))
}

fn not_ours(part: &'static str, table: Table) -> Fault {
    Fault::misconfigured(
        part,
        format!("{table}: a table or view of that name is there, and sluice did not make it"),
        format!(
            "give the table another name in its definition and write source = {{ table = \"{}\" }} there, or give sluice a \
             database or schema of its own",
            table.definition().source_name()
        ),
    )
}

fn other_key(part: &'static str, table: Table, had: (&str, &str), has_client: bool) -> Fault {
    let key = &table.definition().key;
    let anew = if has_client {
        format!(
            "; to begin anew run DROP TABLE {table} and `sluice migrate`, then sync the whole of it and run `sluice reconcile {table} \
             --allow-deletes N` for as many as it asks, since what was read by the former key may stay beside it"
        )
    } else {
        String::new()
    };
    Fault::new(
        part,
        FaultKind::Misconfigured,
        format!(
            "{table}: it was made with the key '{} {}' and its definition now says '{} {:?}'",
            had.0, had.1, key.column, key.kind
        )
        .to_lowercase(),
        format!(
            "undo that in the definition, or give the table another name there and write source = {{ table = \"{}\" }}{anew}",
            table.source_name()
        ),
    )
}

fn other_entity(part: &'static str, table: Table, had: &str) -> Fault {
    Fault::misconfigured(
        part,
        format!(
            "{table}: its stored events are those of the entity '{had}', and its definition now says '{}'",
            table.entity
        ),
        format!(
            "undo that in the definition, or give the table another name there and write source = {{ table = \"{}\" }}",
            table.source_name()
        ),
    )
}

fn other_type(part: &'static str, table: Table, column: &Column, there: &str, has_client: bool) -> Fault {
    let name = &column.name;
    let anew = if has_client {
        format!(
            "; or run ALTER TABLE {table} DROP COLUMN {name} (its index first, if it has one) and `sluice migrate`, which \
             makes it anew from the stored events"
        )
    } else {
        String::new()
    };
    Fault::new(
        part,
        FaultKind::Misconfigured,
        format!("{table}.{name} is {there} here, which is not what its definition says ({:?})", column.kind)
            .to_lowercase(),
        format!(
            "undo that in the definition; or give the column another name there, with from = \"{}\", and it is added beside \
             the old one{anew}",
            column.source()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::Definition,
        store::tables::{column_type, key_type},
    };

    const TYPES: Types = Types { key: key_type, column: column_type, has_client: true };

    fn table(columns: &str) -> Table {
        Table::new(
            Definition::parse(&format!(
                "name = 'pedidos'\nabout = 'x'\nentity = 'pedido'\nkey = {{ column = 'id', type = 'bigint' }}\n\
                 event = {{ categoria = 'c', evento = 'e' }}\ncolumns = [{columns}]"
            ))
            .expect("a definition"),
        )
    }

    fn found(columns: &[(&str, &str)], made_with: Option<Table>) -> Found {
        Found {
            columns: columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect(),
            made: made_with.map(|table| Made { layout: layout(table), unfilled: Vec::new() }),
        }
    }

    fn changed(table: Table, found: &Found) -> (Vec<&'static str>, Vec<&'static str>) {
        match plan("postgres", table, &TYPES, Some(found)).expect("a plan") {
            Plan::Make => panic!("it is there"),
            Plan::Change { add, fill } => {
                let names = |columns: Vec<&'static Column>| {
                    columns.iter().map(|column| column.name.as_str()).collect()
                };
                (names(add), names(fill))
            }
        }
    }

    #[test]
    fn a_layout_tells_every_column_its_type_and_where_it_is_read_from() {
        let text = layout(table(
            "{ name = 'nome', type = 'text', from = 'name', formerly = ['Nom', 'name'] }, { name = 'em', type = 'timestamp' }",
        ));
        assert_eq!(text, "id bigint\nnome text name, Nom\nem timestamp em utc\n(entity) pedido");
    }

    #[test]
    fn a_column_is_added_when_it_lacks_and_filled_when_it_would_be_read_otherwise() {
        let old = table("{ name = 'nome', type = 'text' }, { name = 'nota', type = 'text' }");
        let there = [("id", "bigint"), ("nome", "text"), ("nota", "text")];
        assert_eq!(changed(old, &found(&there, Some(old))), (vec![], vec![]));
        let gained = table("{ name = 'nome', type = 'text' }, { name = 'preco', type = 'number' }");
        assert_eq!(changed(gained, &found(&there, Some(old))), (vec!["preco"], vec!["preco"]));
        let moved = table("{ name = 'nome', type = 'text', from = 'name' }");
        assert_eq!(changed(moved, &found(&there, Some(old))), (vec![], vec!["nome"]));
        let formerly = table("{ name = 'nome', type = 'text', from = 'name', formerly = ['nome'] }");
        assert_eq!(changed(formerly, &found(&there, Some(moved))), (vec![], vec!["nome"]));
        let in_capitals = table("{ name = 'nome', type = 'text', from = 'Name' }");
        assert_eq!(changed(in_capitals, &found(&there, Some(moved))), (vec![], vec!["nome"]));
        assert!(check_layout("postgres", in_capitals, Some(&layout(moved))).is_err());
        // Left out for a while, its values are old.
        assert_eq!(changed(old, &found(&there, Some(moved))), (vec![], vec!["nome", "nota"]));
        let mut half = found(&there, Some(old));
        half.made.as_mut().expect("it was made").unfilled = vec!["nota".to_owned()];
        assert_eq!(changed(old, &half), (vec![], vec!["nota"]));
    }

    #[test]
    fn what_can_t_be_reconciled_is_refused_with_what_to_do() {
        let old = table("{ name = 'nota', type = 'integer' }");
        let refused = |table: Table, found: &Found| {
            let fault = plan("postgres", table, &TYPES, Some(found)).expect_err("refused");
            assert_eq!(fault.kind, FaultKind::Misconfigured);
            fault.to_string()
        };
        let text = refused(
            table("{ name = 'nota', type = 'text' }"),
            &found(&[("id", "bigint"), ("nota", "bigint")], Some(old)),
        );
        assert!(text.contains("pedidos.nota is bigint here") && text.contains("DROP COLUMN nota"), "{text}");
        let text = refused(old, &found(&[("id", "uuid"), ("nota", "bigint")], Some(old)));
        assert!(text.contains("the key 'id bigint' and") && text.contains("DROP TABLE pedidos"), "{text}");
        assert!(text.contains("`sluice reconcile pedidos --allow-deletes N`"), "{text}");
        let mut renamed = old.definition().clone();
        renamed.entity = "encomenda".to_owned();
        let text = refused(Table::new(renamed), &found(&[("id", "bigint"), ("nota", "bigint")], Some(old)));
        assert!(text.contains("entity 'pedido'") && text.contains("says 'encomenda'"), "{text}");
        let text = refused(old, &found(&[("id", "bigint"), ("nota", "bigint")], None));
        assert!(
            text.contains("sluice did not make it") && text.contains("source = { table = \"pedidos\" }"),
            "{text}"
        );
    }

    #[test]
    fn a_process_with_another_definition_is_told_in_which_columns() {
        let (one, two) = (table("{ name = 'a', type = 'text' }"), table("{ name = 'b', type = 'text' }"));
        assert!(check_layout("postgres", one, Some(&layout(one))).is_ok());
        let fault = check_layout("postgres", one, Some(&layout(two))).expect_err("another").to_string();
        assert!(fault.contains("differ in: a, b;"), "{fault}");
        assert!(check_layout("postgres", one, None).is_err());
        let renamed = layout(one).replace("(entity) pedido", "(entity) encomenda");
        let fault = check_layout("postgres", one, Some(&renamed)).expect_err("another").to_string();
        assert!(fault.contains("differ in: (entity);"), "{fault}");
    }

    #[test]
    fn a_key_that_is_called_otherwise_at_the_source_is_the_same_key() {
        let one = table("{ name = 'a', type = 'text' }");
        let mut renamed = one.definition().clone();
        renamed.key.from = Some("pedido_id".to_owned());
        let renamed = Table::new(renamed);
        let there = [("id", "bigint"), ("a", "text")];
        assert_eq!(changed(renamed, &found(&there, Some(one))), (vec![], vec![]));
        assert!(check_layout("postgres", renamed, Some(&layout(one))).is_ok());
        let earlier = layout(one).replace("id bigint", "id bigint id");
        assert!(check_layout("postgres", renamed, Some(&earlier)).is_ok());
        let mut made = found(&there, Some(one));
        made.made.as_mut().expect("it was made").layout = earlier;
        assert_eq!(changed(renamed, &made), (vec![], vec![]));
    }

    #[test]
    fn a_table_whose_entity_an_earlier_build_did_not_remember_is_taken_as_it_is_defined() {
        let one = table("{ name = 'a', type = 'text' }");
        let earlier = layout(one).replace("\n(entity) pedido", "");
        assert!(check_layout("postgres", one, Some(&earlier)).is_ok());
        let mut there = found(&[("id", "bigint"), ("a", "text")], Some(one));
        there.made.as_mut().expect("it was made").layout = earlier;
        assert_eq!(changed(one, &there), (vec![], vec![]));
    }
}
