//! Answers about events and entities, and JSON made of rows.

use async_trait::async_trait;
use rusqlite::{Row, Statement, params, params_from_iter, types::Value as SqlValue};
use serde_json::Value;
use uuid::Uuid;

use super::{
    SqliteStore,
    lease::{parsed, time},
    query,
    rows::instant,
};
use crate::{
    domain::{JsonObject, Table},
    fault::Fault,
    store::{
        EventCursor, EventFilter, EventOrder, EventPage, QueryAnswer, QueryLimits, Questions, StoredEntity,
        StoredEvent, questions::Operand,
    },
};

const EVENT: &str = "SELECT id, tipo_evento, usuario, evento, valor, \"timestamp\", categoria, metadata, dados, \
                     entidade_id, versao, particao, posicao, ingerido_em FROM eventos_raw";

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

    async fn entity(&self, table: Table, id: Uuid) -> Result<Option<StoredEntity>, Fault> {
        let read = self.db.read("reading an entity", move |db| {
            let mut statement = db.prepare_cached(&format!("SELECT * FROM {table} WHERE id = ?"))?;
            entities(table, &mut statement, params![id.to_string()])
        });
        Ok(read.await?.pop())
    }

    async fn leads_by_email(&self, email: &str, limit: u32) -> Result<Vec<StoredEntity>, Fault> {
        let email = email.to_owned();
        self.db
            .read("looking for leads", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT * FROM leads WHERE lower(email) = lower(?) ORDER BY versao DESC, id LIMIT ?",
                )?;
                entities(Table::Leads, &mut statement, params![email, limit])
            })
            .await
    }

    async fn sessions_of(&self, lead_id: &str, limit: u32) -> Result<Vec<StoredEntity>, Fault> {
        let lead_id = lead_id.to_owned();
        self.db
            .read("reading a lead's sessions", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT * FROM chat_sessions WHERE lead_id = ? ORDER BY started_at DESC NULLS LAST, id LIMIT ?",
                )?;
                entities(Table::ChatSessions, &mut statement, params![lead_id, limit])
            })
            .await
    }

    async fn query(&self, statement: &str, limits: QueryLimits) -> Result<QueryAnswer, Fault> {
        self.sql.query(statement, limits).await
    }
}

fn event_query(
    filter: &EventFilter,
    order: EventOrder,
    after: Option<EventCursor>,
    limit: u32,
) -> (String, Vec<SqlValue>) {
    let (mut wheres, mut values) = (Vec::new(), Vec::new());
    for condition in filter.conditions() {
        wheres.push(format!("\"{}\" {} ?", condition.column, condition.operator));
        values.push(match condition.value {
            Operand::Text(text) => SqlValue::Text(text.to_owned()),
            Operand::Uuid(id) => SqlValue::Text(id.to_string()),
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
    (format!("{EVENT}{wheres} ORDER BY \"{column}\" {direction}, id {direction} LIMIT ?"), values)
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
        metadata: object(&row.get::<_, String>(7)?),
        dados: object(&row.get::<_, String>(8)?),
        entidade_id: parsed(row, 9)?,
        versao: row.get(10)?,
        particao: row.get(11)?,
        posicao: row.get(12)?,
        ingerido_em: time(row, 13)?,
    })
}

fn object(text: &str) -> JsonObject {
    serde_json::from_str(text).unwrap_or_default()
}

fn entities(
    table: Table,
    statement: &mut Statement<'_>,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<StoredEntity>> {
    let columns = query::columns(statement);
    let rows = statement.query_map(values, |row| {
        columns
            .iter()
            .enumerate()
            .map(|(i, column)| Ok((column.name.clone(), query::value(row, i, column)?)))
            .collect::<rusqlite::Result<serde_json::Map<String, Value>>>()
    })?;
    let mut found = Vec::new();
    for row in rows {
        found.extend(StoredEntity::of(table, row?));
    }
    Ok(found)
}
