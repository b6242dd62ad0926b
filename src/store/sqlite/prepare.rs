//! Making the tables of entities from their definitions, and keeping them so.
//!
//! Guarantee: what a table is made with and what is remembered of it change in one transaction; columns that are filled
//! from the stored events stay marked until every row was. See [`layout`](crate::store::layout) for what is decided.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Transaction, params, params_from_iter, types::Value};

use super::{PART, notices, rows};
use crate::{
    domain::{Catalog, Column, Row, Table},
    embedded::EmbeddedDb,
    fault::Fault,
    store::layout::{Found, Made, Plan, Types, check_layout, layout, plan, report_filled},
};

const TYPES: Types = Types { key: rows::key_type, column: rows::column_type, has_client: false };

/// Rows filled in one transaction: others wait for it.
const FILL_ROWS: u32 = 500;

/// Makes every table of the catalog.
pub(super) async fn tables(db: &Arc<EmbeddedDb>, catalog: Catalog) -> Result<(), Fault> {
    for table in catalog.tables() {
        let made =
            db.write_or_abort("making the tables of entities", move |db| make_or_change(db, table)).await?;
        let fill = made?;
        if !fill.is_empty() {
            fill_columns(db, table, fill).await?;
        }
    }
    Ok(())
}

/// Whether tables were last made from the definitions that this process has.
pub(super) fn check(db: &Connection, tables: &[Table]) -> rusqlite::Result<Result<(), Fault>> {
    let layouts = layouts(db)?;
    let made_with = |table: Table| layouts.get(table.name()).map(|(layout, _)| layout.as_str());
    Ok(tables.iter().try_for_each(|table| check_layout(PART, *table, made_with(*table))))
}

/// How many tables are not yet, or not wholly, what the catalog says, and which can't become so.
pub(super) fn pending(
    db: &Connection,
    catalog: Catalog,
) -> rusqlite::Result<(usize, Vec<(&'static str, Fault)>)> {
    let made = layouts(db)?;
    let (mut pending, mut refused) = (0, Vec::new());
    for table in catalog.tables() {
        let is_made = made.get(table.name()) == Some(&(layout(table), String::new()));
        match plan(PART, table, &TYPES, find(db, table)?.as_ref()) {
            Err(fault) => refused.push((table.name(), fault)),
            Ok(_) => pending += usize::from(!is_made),
        }
    }
    Ok((pending, refused))
}

/// The tables that somebody dropped, of sluice's own and of entities.
pub(super) fn dropped(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut dropped: Vec<String> = crate::embedded::dropped(db)?.into_iter().map(str::to_owned).collect();
    if !dropped.iter().any(|table| table == "sluice_tables") {
        let mut entities = db.prepare(
            "SELECT table_name FROM sluice_tables
             WHERE table_name NOT IN (SELECT name FROM sqlite_schema WHERE type = 'table') ORDER BY 1",
        )?;
        let entities =
            entities.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        dropped.extend(entities);
    }
    Ok(dropped)
}

/// What each table was last made with, and which columns are not filled yet.
fn layouts(db: &Connection) -> rusqlite::Result<BTreeMap<String, (String, String)>> {
    db.prepare("SELECT table_name, layout, unfilled FROM sluice_tables")?
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect()
}

/// Returns the columns that are to be filled.
fn make_or_change(
    db: &Transaction<'_>,
    table: Table,
) -> rusqlite::Result<Result<Vec<&'static Column>, Fault>> {
    let found = find(db, table)?;
    let fill = match plan(PART, table, &TYPES, found.as_ref()) {
        Err(fault) => return Ok(Err(fault)),
        Ok(Plan::Make) => {
            if layouts(db)?.contains_key(table.name()) {
                notices::table_was_dropped(db, table.name())?;
            }
            make(db, table)?;
            Vec::new()
        }
        Ok(Plan::Change { add, fill }) => {
            for column in add {
                let (name, kind) = (&column.name, rows::column_type(column.kind));
                db.execute_batch(&format!("ALTER TABLE \"{table}\" ADD COLUMN \"{name}\" \"{kind}\""))?;
            }
            fill
        }
    };
    for column in &table.definition().columns {
        let name = &column.name;
        let of = match (column.lookup, &column.refers_to) {
            (true, _) => format!("lower(\"{name}\")"),
            (false, Some(_)) => format!("\"{name}\""),
            _ => continue,
        };
        // No table and no other index can have such a name: those of definitions hold no dot.
        db.execute_batch(&format!("CREATE INDEX IF NOT EXISTS \"{table}.{name}\" ON \"{table}\" ({of})"))?;
    }
    let unfilled: Vec<&str> = fill.iter().map(|column| column.name.as_str()).collect();
    db.execute(
        "INSERT INTO sluice_tables (table_name, layout, unfilled) VALUES (?, ?, ?)
         ON CONFLICT (table_name) DO UPDATE SET layout = excluded.layout, unfilled = excluded.unfilled",
        params![table.name(), layout(table), unfilled.join(" ")],
    )?;
    Ok(Ok(fill))
}

fn find(db: &Connection, table: Table) -> rusqlite::Result<Option<Found>> {
    let columns: BTreeMap<String, String> = db
        .prepare("SELECT name, lower(type) FROM pragma_table_info(?)")?
        .query_map([table.name()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if columns.is_empty() {
        return Ok(None);
    }
    let made = layouts(db)?.remove(table.name()).map(|(layout, unfilled)| Made {
        layout,
        unfilled: unfilled.split_whitespace().map(str::to_owned).collect(),
    });
    Ok(Some(Found { columns, made }))
}

fn make(db: &Connection, table: Table) -> rusqlite::Result<()> {
    let definition = table.definition();
    let key = format!(
        "\"{}\" {} PRIMARY KEY NOT NULL",
        definition.key.column,
        declaration(rows::key_type(definition.key.kind))
    );
    let listed = definition
        .columns
        .iter()
        .map(|column| format!("\"{}\" {}", column.name, declaration(rows::column_type(column.kind))));
    let columns: Vec<String> = std::iter::once(key).chain(listed).collect();
    db.execute_batch(&format!(
        "CREATE TABLE \"{table}\" (
             {},
             metadata \"json text\" NOT NULL,
             versao integer NOT NULL,
             evento_id \"uuid text\" NOT NULL,
             processado_em \"timestamp text\" NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
         )",
        columns.join(", ")
    ))
}

/// Quoted where it is two words.
fn declaration(column_type: &str) -> String {
    if column_type.contains(' ') { format!("\"{column_type}\"") } else { column_type.to_owned() }
}

/// Projects the stored events again, batch by batch, into columns that their rows lack.
async fn fill_columns(db: &Arc<EmbeddedDb>, table: Table, fill: Vec<&'static Column>) -> Result<(), Fault> {
    let (mut after, mut filled, mut without_event) = (None, 0, 0);
    loop {
        let columns = fill.clone();
        let page =
            db.write("filling new columns", move |db| fill_page(db, table, &columns, after.as_ref())).await?;
        filled += page.filled;
        without_event += page.without_event;
        after = page.last;
        if after.is_none() {
            break;
        }
    }
    db.write("filling new columns", move |db| {
        db.execute("UPDATE sluice_tables SET unfilled = '' WHERE table_name = ?", [table.name()])
    })
    .await?;
    report_filled(PART, table, &fill, filled, without_event);
    Ok(())
}

#[derive(Default)]
struct Page {
    /// The last entity's key; `None` behind the last one.
    last: Option<Value>,
    filled: u64,
    without_event: u64,
}

fn fill_page(
    db: &Transaction<'_>,
    table: Table,
    fill: &[&'static Column],
    after: Option<&Value>,
) -> rusqlite::Result<Page> {
    let key = &table.definition().key.column;
    let beyond = if after.is_some() { format!("WHERE \"{key}\" > ?2") } else { String::new() };
    let sql = format!("SELECT \"{key}\", evento_id FROM \"{table}\" {beyond} ORDER BY \"{key}\" LIMIT ?1");
    let values = std::iter::once(Value::Integer(FILL_ROWS.into())).chain(after.cloned());
    let entities: Vec<(Value, String)> = db
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let assignments: Vec<String> = fill.iter().map(|column| format!("\"{}\" = ?", column.name)).collect();
    let mut update =
        db.prepare_cached(&format!("UPDATE \"{table}\" SET {} WHERE \"{key}\" = ?", assignments.join(", ")))?;
    let mut stored = db.prepare_cached("SELECT dados FROM eventos_raw WHERE id = ?")?;
    let mut page = Page::default();
    for (key, event) in entities {
        // One at a time: a row may be large.
        let dados: Option<String> = stored.query_row([event], |row| row.get(0)).optional()?;
        match dados.as_deref().and_then(|dados| Row::of(table, dados)) {
            Some(row) => {
                let cells = fill.iter().map(|column| row.cell(column).map_or(Value::Null, rows::value));
                update.execute(params_from_iter(cells.chain([key.clone()])))?;
                page.filled += 1;
            }
            None => page.without_event += 1,
        }
        page.last = Some(key);
    }
    Ok(page)
}
