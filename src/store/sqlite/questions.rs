//! Answers about events and entities, and JSON made of rows.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{
    Connection, Params, Row, Statement, params, params_from_iter,
    types::{Value as SqlValue, ValueRef},
};
use serde_json::{Number, Value};

use super::{
    SqliteStore,
    lease::{parsed, time, unreadable},
    rows,
    rows::instant,
};
use crate::{
    domain::{Cell, Column, ColumnKind, Json, JsonObject, KeyKind, Table, json::to_value},
    fault::Fault,
    store::{
        ArrivalCount, ArrivalsQuestion, EntityEvents, EventCursor, EventFilter, EventOrder, EventPage,
        QueryAnswer, QueryLimits, Questions, StoredChange, StoredEntity, StoredEvent, StreamedRows,
        arrivals::{Bound, Sql, counted},
        questions::{Operand, defined_kinds, spelled},
    },
};

const EVENT: &str = "id, tipo_evento, usuario, evento, valor, \"timestamp\", categoria, metadata, dados, entidade_id, \
                     versao, particao, posicao, processado_em";

/// The value of a column of a row, as JSON; nothing of a row that SQLite can't read.
fn member(of: &str) -> String {
    format!("(CASE WHEN json_valid({of}.dados) THEN coalesce({of}.dados -> ?1, 'null') END)")
}

#[async_trait]
impl Questions for SqliteStore {
    async fn events(
        &self,
        filter: &EventFilter,
        order: EventOrder,
        after: Option<EventCursor>,
        limit: u32,
    ) -> Result<EventPage, Fault> {
        let (sql, values) = event_query(filter, order, after, limit);
        let read = self.db.read("reading events", move |db| {
            let mut statement = db.prepare_cached(&sql)?;
            statement.query_map(params_from_iter(&values), event)?.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(EventPage::of(read.await?, order, limit))
    }

    async fn undefined_kinds(&self) -> Result<Vec<String>, Fault> {
        let defined = defined_kinds(self.catalog);
        let read = self.db.read("looking for events of tables that are not defined here", |db| {
            db.prepare_cached("SELECT DISTINCT tipo_evento FROM eventos_raw ORDER BY 1")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()
        });
        Ok(read.await?.into_iter().filter(|kind| !defined.contains(kind)).collect())
    }

    async fn entity(&self, table: Table, key: &str) -> Result<Option<StoredEntity>, Fault> {
        let Some(key) = table.key.kind.spelled(key) else { return Ok(None) };
        let read = self.db.read("reading an entity", move |db| {
            let sql = format!("{} WHERE \"{}\" = ?", select(table), table.definition().key.column);
            entities(table, &mut *db.prepare_cached(&sql)?, params![rows::key(table, &key)])
        });
        Ok(read.await?.pop())
    }

    async fn entities_by(
        &self,
        table: Table,
        column: &str,
        value: &str,
        limit: u32,
    ) -> Result<Vec<StoredEntity>, Fault> {
        let definition = table.definition();
        let Some(column) = definition.column(column) else { return Ok(Vec::new()) };
        let name = &column.name;
        let mut sought = SqlValue::Text(value.to_owned());
        let condition = match column.kind {
            ColumnKind::Text if column.lookup => format!("lower(\"{name}\") = lower(?)"),
            ColumnKind::Integer => {
                let Ok(number) = value.parse() else { return Ok(Vec::new()) };
                sought = SqlValue::Integer(number);
                format!("\"{name}\" = ?")
            }
            ColumnKind::Text => format!("\"{name}\" = ?"),
            _ => format!("CAST(\"{name}\" AS text) = ?"),
        };
        let key = &definition.key.column;
        let sql = format!("{} WHERE {condition} ORDER BY versao DESC, \"{key}\" LIMIT ?", select(table));
        self.db
            .read("looking for entities", move |db| {
                entities(table, &mut *db.prepare_cached(&sql)?, params![sought, limit])
            })
            .await
    }

    async fn arrivals(&self, question: &ArrivalsQuestion) -> Result<(Vec<ArrivalCount>, u64), Fault> {
        let ((sql, bound), undated) = (question.statement(Sql::Sqlite), question.undated());
        let (by, met) = (question.by.len(), question.counts().count());
        let values: Vec<SqlValue> = bound
            .into_iter()
            .map(|value| match value {
                Bound::Instant(at) => SqlValue::Text(instant(at)),
                Bound::Text(text) => SqlValue::Text(text),
                Bound::Number(number) => SqlValue::Real(number),
            })
            .collect();
        let read = self.db.read("counting arrivals", move |db| {
            let count = |row: &Row<'_>| {
                Ok(ArrivalCount {
                    span: row.get(0)?,
                    values: (1..=by).map(|i| row.get(i)).collect::<rusqlite::Result<_>>()?,
                    rows: row.get(by + 1)?,
                    met: (0..met).map(|i| row.get(by + 2 + i)).collect::<rusqlite::Result<_>>()?,
                })
            };
            let mut statement = db.prepare_cached(&sql)?;
            let counts = statement.query_map(params_from_iter(&values), count)?;
            let counts = counts.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((counted(counts), db.query_row(&undated, [], |row| row.get(0))?))
        });
        read.await
    }

    async fn query(&self, statement: &str, limits: QueryLimits) -> Result<QueryAnswer, Fault> {
        self.sql.query(statement, limits).await
    }

    async fn stream(&self, statement: &str, limits: QueryLimits) -> Result<StreamedRows, Fault> {
        self.sql.stream(statement, limits).await
    }
}

fn event_query(
    filter: &EventFilter,
    order: EventOrder,
    after: Option<EventCursor>,
    limit: u32,
) -> (String, Vec<SqlValue>) {
    let (mut wheres, mut values) = (Vec::new(), Vec::new());
    let changed = filter.changed.as_deref();
    values.extend(changed.map(|column| SqlValue::Text(format!("$.\"{column}\""))));
    for condition in filter.conditions() {
        wheres.push(format!("\"{}\" {} ?", condition.column, condition.operator));
        values.push(match condition.value {
            Operand::Text(text) => SqlValue::Text(text.to_owned()),
            Operand::Id(id) => SqlValue::Text(id.to_string()),
            Operand::Instant(at) => SqlValue::Text(instant(at)),
            Operand::Number(number) => SqlValue::Real(number),
        });
    }
    let (column, direction) = (order.column(), order.direction());
    if let Some(after) = after {
        wheres.push(format!("(\"{column}\", id) {} (?, ?)", order.beyond()));
        values.extend([SqlValue::Text(instant(after.at())), SqlValue::Text(after.id.to_string())]);
    }
    let wheres = if wheres.is_empty() { String::new() } else { format!(" WHERE {}", wheres.join(" AND ")) };
    values.push(SqlValue::Integer(i64::from(limit) + 1));
    let events = match changed {
        None => format!("SELECT {EVENT}, NULL, NULL FROM eventos_raw{wheres}"),
        Some(_) => format!(
            "SELECT * FROM (SELECT {EVENT}, (SELECT {} FROM eventos_raw AS p WHERE p.tipo_evento = e.tipo_evento \
             AND p.entidade_id = e.entidade_id AND p.versao < e.versao ORDER BY p.versao DESC LIMIT 1) AS anterior, \
             {} AS atual FROM eventos_raw AS e{wheres}) WHERE anterior <> atual",
            member("p"),
            member("e"),
        ),
    };
    (format!("{events} ORDER BY \"{column}\" {direction}, id {direction} LIMIT ?"), values)
}

/// The events of the next entities by key, with the entities' versions.
pub(super) fn events_of_entities(
    db: &Connection,
    table: Table,
    after: Option<&str>,
    limit: u32,
) -> rusqlite::Result<EntityEvents> {
    let key = &table.definition().key.column;
    let beyond =
        if after.is_some() { format!("WHERE \"{key}\" > ?1") } else { "WHERE ?1 IS NULL".to_owned() };
    let sql = format!(
        "SELECT e.id, e.tipo_evento, e.usuario, e.evento, e.valor, e.\"timestamp\", e.categoria, e.metadata, e.dados,
                e.entidade_id, t.versao, e.particao, e.posicao, e.processado_em, NULL, NULL, CAST(t.chave AS text)
         FROM (SELECT \"{key}\" AS chave, versao, evento_id FROM \"{table}\" {beyond} ORDER BY \"{key}\" LIMIT ?2) AS t
         LEFT JOIN eventos_raw AS e ON e.id = t.evento_id ORDER BY t.chave"
    );
    let mut page = EntityEvents::default();
    let mut statement = db.prepare_cached(&sql)?;
    let after = after.map_or(SqlValue::Null, |after| rows::key(table, after));
    let mut found = statement.query(params![after, limit])?;
    while let Some(row) = found.next()? {
        page.last = Some(row.get(16)?);
        if row.get::<_, Option<String>>(0)?.is_some() {
            page.events.push(event(row)?);
        }
    }
    Ok(page)
}

fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        id: parsed(row, 0)?,
        tipo_evento: row.get(1)?,
        usuario: row.get(2)?,
        evento: row.get(3)?,
        valor: row.get(4)?,
        timestamp: time(row, 5)?,
        categoria: row.get(6)?,
        metadata: json(row, 7)?,
        dados: json(row, 8)?,
        entidade_id: row.get(9)?,
        versao: row.get(10)?,
        particao: row.get(11)?,
        posicao: row.get(12)?,
        processado_em: time(row, 13)?,
        change: row
            .get::<_, Option<String>>(14)?
            .zip(row.get(15)?)
            .map(|(before, after)| StoredChange { before, after }),
    })
}

fn json(row: &Row<'_>, i: usize) -> rusqlite::Result<Json> {
    let text: String = row.get(i)?;
    Json::try_from(Bytes::from(text)).map_err(|error| unreadable(i, error))
}

/// An entity's columns in the order of [`entity`].
fn select(table: Table) -> String {
    let columns: Vec<String> =
        rows::entity_columns(table).into_iter().map(|column| format!("\"{column}\"")).collect();
    // The digits that a double has not are in the event that brought the row.
    format!(
        "SELECT {}, (SELECT dados FROM eventos_raw WHERE id = \"{table}\".evento_id) FROM \"{table}\"",
        columns.join(", ")
    )
}

fn entities(
    table: Table,
    statement: &mut Statement<'_>,
    values: impl Params,
) -> rusqlite::Result<Vec<StoredEntity>> {
    statement.query_map(values, |row| entity(table, row))?.collect()
}

fn entity(table: Table, row: &Row<'_>) -> rusqlite::Result<StoredEntity> {
    let definition = table.definition();
    let (key, shown_key) = match definition.key.kind {
        KeyKind::Bigint => {
            let key: i64 = row.get(0)?;
            (key.to_string(), Value::from(key))
        }
        KeyKind::Uuid | KeyKind::Text => {
            let key: String = row.get(0)?;
            (key.clone(), Value::String(key))
        }
    };
    let mut columns = JsonObject::new();
    columns.insert(definition.key.column.clone(), shown_key);
    let next = definition.columns.len() + 1;
    let dados: Option<String> = row.get(next + 3)?;
    let sent = dados.as_deref().and_then(|dados| crate::domain::Row::of(table, dados));
    for (i, column) in definition.columns.iter().enumerate() {
        let digits = match sent.as_ref().map(|sent| sent.get(&column.name)) {
            Some(cell @ Cell::Number(digits)) if cell.to_double().is_some() => Some(to_value(digits)),
            _ => None,
        };
        columns.insert(column.name.clone(), digits.map_or_else(|| value(row, i + 1, column), Ok)?);
    }
    Ok(StoredEntity {
        key,
        row: columns,
        metadata: json(row, next)?,
        versao: row.get(next + 1)?,
        evento_id: parsed(row, next + 2)?,
    })
}

/// A column's value as clients are shown it.
fn value(row: &Row<'_>, i: usize, column: &Column) -> rusqlite::Result<Value> {
    let text = || row.get::<_, Option<String>>(i);
    Ok(match column.kind {
        ColumnKind::Text | ColumnKind::Date => text()?.into(),
        ColumnKind::Integer => row.get::<_, Option<i64>>(i)?.into(),
        ColumnKind::Number => match row.get_ref(i)? {
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => Number::from_f64(number).into(),
            ValueRef::Text(_) => text()?.into(),
            ValueRef::Null | ValueRef::Blob(_) => Value::Null,
        },
        ColumnKind::Boolean => row.get::<_, Option<bool>>(i)?.into(),
        ColumnKind::Timestamp => match text()? {
            Some(_) => spelled(time(row, i)?).into(),
            None => Value::Null,
        },
        ColumnKind::Json | ColumnKind::List => text()?.map(|text| to_value(&text)).into(),
    })
}
