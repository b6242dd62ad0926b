//! Making the tables of entities from their definitions, and keeping them so.
//!
//! Guarantee: however many processes begin at once, and wherever one of them ends, each table is made once and no row
//! is lost. What a table is made with and what is remembered of it change in one transaction; columns that are filled
//! from the stored events stay marked until every row was. Locks are waited for as [`locks`] says, and whoever gave up on
//! one begins anew. See [`layout`](crate::store::layout) for what is decided.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};
use sqlx::{Acquire, Executor, PgConnection, Row as _};
use uuid::Uuid;

use super::{
    columns::{self, Values},
    faults::{self, PART},
    fitness, locks, notices,
};
use crate::{
    domain::{Catalog, Cell, Column, Row, Table},
    fault::Fault,
    store::{
        layout::{Found, Made, Plan, Types, layout, plan, report_filled},
        tables::{ENTITY_COLUMNS, StoreTable, column_type, key_type},
    },
};

const TYPES: Types = Types { key: key_type, column: column_type, has_client: true };

/// The longest name Postgres keeps whole.
const MAX_NAME: usize = 63;

/// Rows filled at a time, and bytes of their events: whichever is reached first.
const FILL_ROWS: i64 = 1_000;
const FILL_BYTES: i64 = 8 << 20;

/// What becomes of tables that are there, where they may become what their definitions say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Changed,
    Kept,
}

/// Makes every table of the catalog, for whoever has the turn.
pub(super) async fn tables(
    connection: &mut PgConnection,
    catalog: Catalog,
    existing: Existing,
) -> Result<(), Fault> {
    for table in catalog.tables() {
        let attempt = format!("make the table {table}");
        let to_fault = |error| faults::fault(&attempt, &error);
        let found = find(connection, &[table]).await.map_err(to_fault)?.remove(table.name());
        let fill = match plan(PART, table, &TYPES, found.as_ref())? {
            Plan::Make => {
                make(connection, table).await.map_err(to_fault)?;
                Vec::new()
            }
            Plan::Change { .. } if existing == Existing::Kept => continue,
            Plan::Change { add, fill } => {
                let made = found.and_then(|found| found.made);
                change(connection, table, made.as_ref(), &add, &fill).await.map_err(to_fault)?;
                fill
            }
        };
        describe(connection, table).await.map_err(to_fault)?;
        index(connection, table).await.map_err(to_fault)?;
        if !fill.is_empty() {
            fill_columns(connection, table, &fill).await.map_err(to_fault)?;
        }
    }
    Ok(())
}

/// Runs statements without parameters.
async fn run(connection: &mut PgConnection, statements: &str) -> Result<(), sqlx::Error> {
    connection.execute(statements).await.map(drop)
}

/// What each table was last made with.
pub(super) async fn layouts(connection: &mut PgConnection) -> Result<BTreeMap<String, String>, sqlx::Error> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT table_name, layout FROM sluice_tables").fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// How many tables are not yet, or not wholly, what the catalog says, and which can't become so or take no row.
pub(super) async fn pending(
    connection: &mut PgConnection,
    catalog: Catalog,
) -> Result<(usize, Vec<(&'static str, Fault)>), sqlx::Error> {
    let tables: Vec<Table> = catalog.tables().collect();
    let found = find(connection, &tables).await?;
    let (mut pending, mut refused) = (0, fitness::closed(connection, catalog).await?);
    for table in tables {
        let found = found.get(table.name());
        match plan(PART, table, &TYPES, found) {
            Err(fault) => {
                // Nobody added what an earlier definition had for a key.
                refused.retain(|(closed, _)| *closed != table.name());
                refused.push((table.name(), fault));
            }
            Ok(_) => {
                let wanted = Made { layout: layout(table), unfilled: Vec::new() };
                pending += usize::from(found.and_then(|found| found.made.as_ref()) != Some(&wanted));
            }
        }
    }
    Ok((pending, refused))
}

/// Those of the tables that are in the schema that new tables go to, as they are.
async fn find(
    connection: &mut PgConnection,
    tables: &[Table],
) -> Result<BTreeMap<String, Found>, sqlx::Error> {
    let names: Vec<&str> = tables.iter().map(|table| table.name()).collect();
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text,
                replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz')
         FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relname = ANY($1) AND c.relnamespace = current_schema()::regnamespace",
    )
    .bind(&names)
    .fetch_all(&mut *connection)
    .await?;
    let made: Vec<(String, String, Vec<String>)> =
        sqlx::query_as("SELECT table_name, layout, unfilled FROM sluice_tables WHERE table_name = ANY($1)")
            .bind(&names)
            .fetch_all(connection)
            .await?;
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for (table, column, kind) in columns {
        let found = found.entry(table).or_insert_with(|| Found { columns: BTreeMap::new(), made: None });
        found.columns.insert(column, kind);
    }
    for (table, layout, unfilled) in made {
        if let Some(found) = found.get_mut(&table) {
            found.made = Some(Made { layout, unfilled });
        }
    }
    Ok(found)
}

/// Room for updates in place. Neither e-mail addresses nor anything else but the key is unique downstream.
async fn make(connection: &mut PgConnection, table: Table) -> Result<(), sqlx::Error> {
    let key = &table.definition().key.column;
    let own = |name: &str| ENTITY_COLUMNS.iter().any(|column| column.name == name);
    let columns: Vec<String> = StoreTable::of(table)
        .columns
        .iter()
        .map(|column| {
            let constraint = match column.name {
                name if name == key => " PRIMARY KEY",
                "processado_em" => " NOT NULL DEFAULT now()",
                name if own(name) => " NOT NULL",
                _ => "",
            };
            format!("\"{}\" {}{constraint}", column.name, column.kind)
        })
        .collect();
    let mut transaction = connection.begin().await?;
    let was_made: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM sluice_tables WHERE table_name = $1)")
            .bind(table.name())
            .fetch_one(&mut *transaction)
            .await?;
    if was_made {
        notices::table_was_dropped(&mut transaction, table.name()).await?;
    }
    run(
        &mut transaction,
        &format!("CREATE TABLE \"{table}\" ({}) WITH (fillfactor = 85)", columns.join(", ")),
    )
    .await?;
    remember(&mut transaction, table, &[]).await?;
    transaction.commit().await
}

/// Adds columns, and says of those to fill that they are not.
async fn change(
    connection: &mut PgConnection,
    table: Table,
    made: Option<&Made>,
    add: &[&'static Column],
    fill: &[&'static Column],
) -> Result<(), sqlx::Error> {
    let unfilled: Vec<String> = fill.iter().map(|column| column.name.clone()).collect();
    if made == Some(&Made { layout: layout(table), unfilled: unfilled.clone() }) && add.is_empty() {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    // Whoever writes the table with another layout is done before this goes on, and sees it afterwards.
    run(&mut transaction, &format!("LOCK TABLE \"{table}\" IN SHARE ROW EXCLUSIVE MODE")).await?;
    for column in add {
        let (name, kind) = (&column.name, column_type(column.kind));
        run(&mut transaction, &format!("ALTER TABLE \"{table}\" ADD COLUMN \"{name}\" {kind}")).await?;
    }
    let kept: Vec<&str> = StoreTable::of(table).columns.iter().map(|column| column.name).collect();
    let made_with = made.map(|made| made.layout.as_str()).unwrap_or_default();
    let mut left_out: Vec<&str> = made_with.lines().filter_map(|line| line.split(' ').next()).collect();
    left_out.retain(|name| !kept.contains(name));
    for name in left_out {
        let left =
            "'Not in the table''s definition any more: holds what it held then, and is written no more'";
        // Somebody may have dropped it.
        let there: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(quote_ident($1)) AND attname = $2)",
        )
        .bind(table.name())
        .bind(name)
        .fetch_one(&mut *transaction)
        .await?;
        if there {
            run(&mut transaction, &format!("COMMENT ON COLUMN \"{table}\".\"{name}\" IS {left}")).await?;
        }
    }
    remember(&mut transaction, table, &unfilled).await?;
    transaction.commit().await
}

async fn remember(
    connection: &mut PgConnection,
    table: Table,
    unfilled: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sluice_tables (table_name, layout, unfilled) VALUES ($1, $2, $3)
         ON CONFLICT (table_name) DO UPDATE SET layout = excluded.layout, unfilled = excluded.unfilled",
    )
    .bind(table.name())
    .bind(layout(table))
    .bind(unfilled)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the comments that are not there, or not as the definition says.
async fn describe(connection: &mut PgConnection, table: Table) -> Result<(), sqlx::Error> {
    let there: Vec<(String, String)> = sqlx::query_as(
        "SELECT coalesce(a.attname, '')::text, d.description
         FROM pg_description AS d LEFT JOIN pg_attribute AS a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND a.attnum > 0
         WHERE d.classoid = 'pg_class'::regclass AND d.objoid = to_regclass(quote_ident($1))",
    )
    .bind(table.name())
    .fetch_all(&mut *connection)
    .await?;
    let there: BTreeMap<String, String> = there.into_iter().collect();
    let described = StoreTable::of(table);
    let mut meanings = vec![("", described.about)];
    meanings.extend(described.columns.iter().map(|column| (column.name, column.meaning)));
    for (name, meaning) in meanings {
        if meaning.is_empty() || there.get(name).is_some_and(|text| text == meaning) {
            continue;
        }
        let of = if name.is_empty() {
            format!("TABLE \"{table}\"")
        } else {
            format!("COLUMN \"{table}\".\"{name}\"")
        };
        // Utility statements take no parameters.
        let quoted: String = sqlx::query_scalar("SELECT quote_literal($1)")
            .bind(meaning.replace('\0', ""))
            .fetch_one(&mut *connection)
            .await?;
        run(connection, &format!("COMMENT ON {of} IS {quoted}")).await?;
    }
    Ok(())
}

/// Makes the indexes that are not there: for time ranges, on a column that never changes, so that an update touches
/// none; and for what entities are looked up by. Those take values of any length.
async fn index(connection: &mut PgConnection, table: Table) -> Result<(), sqlx::Error> {
    let definition = table.definition();
    let mut wanted = Vec::new();
    if let Some(created) = &definition.time.created {
        wanted.push((index_name(table, created), format!("(\"{created}\")")));
    }
    for column in &definition.columns {
        let name = &column.name;
        let of = match (column.lookup, &column.refers_to) {
            (true, _) => format!("lower(\"{name}\")"),
            (false, Some(_)) => format!("\"{name}\""),
            _ => continue,
        };
        wanted.push((index_name(table, name), format!("USING hash ({of})")));
    }
    let there: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
         WHERE i.indrelid = to_regclass(quote_ident($1))",
    )
    .bind(table.name())
    .fetch_all(&mut *connection)
    .await?;
    let there: HashSet<String> = there.into_iter().collect();
    for (name, how) in wanted {
        if !there.contains(&name) {
            run(connection, &format!("CREATE INDEX \"{name}\" ON \"{table}\" {how}")).await?;
        }
    }
    Ok(())
}

/// A name that no table and no other index can have: names of definitions hold no dot.
fn index_name(table: Table, column: &str) -> String {
    let name = format!("{table}.{column}");
    if name.len() <= MAX_NAME {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let short = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    format!("{}.{short:08x}", &name[..MAX_NAME - 9])
}

/// Projects the stored events again, batch by batch, into columns that their rows lack. A row that is written meanwhile
/// is written whole, and then left alone.
async fn fill_columns(
    connection: &mut PgConnection,
    table: Table,
    fill: &[&'static Column],
) -> Result<(), sqlx::Error> {
    // Only rows are locked, which keeps nobody from reading, and to begin anew costs more than to wait.
    locks::wait_at_most(connection, locks::TURN_TIMEOUT).await?;
    // Nothing is known yet of a table that is filled, and every statement goes by keys.
    run(connection, "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
        .await?;
    let (mut after, mut filled, mut without_event) = (None, 0, 0);
    loop {
        let page = page(connection, table, after.as_deref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        let with_event: Vec<&Entity> = page.iter().filter(|entity| entity.dados.is_some()).collect();
        filled += with_event.len() as u64;
        without_event += (page.len() - with_event.len()) as u64;
        if !with_event.is_empty() {
            fill_page(connection, table, fill, &with_event).await?;
        }
    }
    sqlx::query("UPDATE sluice_tables SET unfilled = '{}' WHERE table_name = $1 AND layout = $2")
        .bind(table.name())
        .bind(layout(table))
        .execute(&mut *connection)
        .await?;
    run(connection, "RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin").await?;
    locks::wait_at_most(connection, locks::TABLE_TIMEOUT).await?;
    report_filled(PART, table, fill, filled, without_event);
    Ok(())
}

struct Entity {
    key: String,
    evento_id: Uuid,
    /// `None` where its event is not stored any more.
    dados: Option<String>,
}

/// The next entities by key, and their events' rows.
async fn page(
    connection: &mut PgConnection,
    table: Table,
    after: Option<&str>,
) -> Result<Vec<Entity>, sqlx::Error> {
    let key = &table.definition().key;
    let (column, kind) = (&key.column, key_type(key.kind));
    let beyond = if after.is_some() { format!("WHERE \"{column}\" > $3::{kind}") } else { String::new() };
    let statement = format!(
        "SELECT chave::text, evento_id, dados FROM (
             SELECT r.chave, r.evento_id, e.dados,
                    sum(coalesce(octet_length(e.dados), 0)) OVER (ORDER BY r.chave ROWS UNBOUNDED PRECEDING)
                        - coalesce(octet_length(e.dados), 0) AS antes
             FROM (SELECT \"{column}\" AS chave, evento_id FROM \"{table}\" {beyond} ORDER BY \"{column}\" LIMIT $1) AS r
             LEFT JOIN LATERAL (SELECT dados::text FROM eventos_raw WHERE id = r.evento_id OFFSET 0) AS e ON true
         ) AS linhas WHERE antes <= $2 ORDER BY linhas.chave"
    );
    let mut query = sqlx::query(&statement).bind(FILL_ROWS).bind(FILL_BYTES);
    if let Some(after) = after {
        query = query.bind(after);
    }
    let rows = query.fetch_all(connection).await?;
    let entity = |row: sqlx::postgres::PgRow| {
        Ok(Entity { key: row.try_get(0)?, evento_id: row.try_get(1)?, dados: row.try_get(2)? })
    };
    rows.into_iter().map(entity).collect()
}

async fn fill_page(
    connection: &mut PgConnection,
    table: Table,
    fill: &[&'static Column],
    entities: &[&Entity],
) -> Result<(), sqlx::Error> {
    let key = &table.definition().key;
    let mut columns = vec![
        columns::Column::new(
            "Key",
            Values::keys(key.kind, entities.iter().map(|entity| entity.key.as_str())),
        ),
        columns::Column::new(
            "Event",
            Values::Uuid(entities.iter().map(|entity| Some(entity.evento_id)).collect()),
        ),
    ];
    columns
        .extend(fill.iter().map(|column| columns::Column::new(&column.name, Values::of_kind(column.kind))));
    for entity in entities {
        let row = Row::of(table, entity.dados.as_deref().unwrap_or("{}"));
        for (to_fill, column) in fill.iter().zip(&mut columns[2..]) {
            column.values.push(row.as_ref().and_then(|row| row.cell(to_fill).ok()).unwrap_or(Cell::Null));
        }
    }
    let assignments: Vec<String> =
        fill.iter().map(|column| format!("\"{0}\" = n.\"{0}\"", column.name)).collect();
    let statement = format!(
        "WITH sluice_escritos AS (
             UPDATE \"{table}\" AS t SET {assignments} FROM ({select}) AS n
             WHERE t.\"{key}\" = n.\"Key\" AND t.evento_id = n.\"Event\" RETURNING 1
         )
         SELECT count(*) FROM sluice_escritos",
        assignments = assignments.join(", "),
        select = columns::select(&columns),
        key = key.column,
    );
    let _: i64 = columns::bind(sqlx::query_scalar(&statement), &columns).fetch_one(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Definition;

    #[test]
    fn an_index_has_a_name_of_its_own_that_fits() {
        let leads = Catalog::built_in().get("leads").expect("leads");
        assert_eq!(index_name(leads, "email"), "leads.email");
        let mut definition: Definition = leads.definition().clone();
        definition.name = "l".repeat(63);
        let long = Table::new(definition);
        let (one, two) = (index_name(long, "email"), index_name(long, "origem"));
        assert!(one != two && one.len() == MAX_NAME, "{one} {two}");
    }
}
