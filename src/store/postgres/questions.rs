//! Answers about events and entities.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::{Connection, PgConnection, Postgres, QueryBuilder, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    PgStore, UNBOUNDED, access,
    columns::storable,
    faults::{self, PART},
    query, readers, same_database,
    session::Session,
    statement::{self, Checked},
    stream,
};
use crate::{
    domain::{Column, ColumnKind, Json, JsonObject, KeyKind, Table, json::to_value},
    fault::Fault,
    store::{
        ArrivalCount, ArrivalsQuestion, EntityEvents, EventCursor, EventFilter, EventOrder, EventPage,
        QueryAnswer, QueryLimits, QuestionAccess, Questions, StoredChange, StoredEntity, StoredEvent,
        StreamedRows,
        arrivals::{Bound, Sql, counted},
        questions::{Operand, defined_kinds, spelled},
        refused_statement,
        tables::key_type,
    },
};

const EVENT: &str = "id, tipo_evento, usuario, evento, valor, \"timestamp\", categoria, metadata::text, dados::text, \
                     entidade_id, versao, particao, posicao, processado_em";

/// The events of the next entities by key, with the entities' versions, as [`event`] reads them; after them the key.
fn entity_events(table: Table) -> String {
    let key = &table.definition().key;
    let (column, kind) = (&key.column, key_type(key.kind));
    format!(
        "SELECT e.id, e.tipo_evento, e.usuario, e.evento, e.valor, e.\"timestamp\", e.categoria, e.metadata::text,
                e.dados::text, e.entidade_id, t.versao, e.particao, e.posicao, e.processado_em, NULL::text, NULL::text,
                t.chave::text
         FROM (
             SELECT \"{column}\" AS chave, versao, evento_id FROM \"{table}\"
             WHERE $1::text IS NULL OR \"{column}\" > $1::text::{kind} ORDER BY \"{column}\" LIMIT $2
         ) AS t
         LEFT JOIN LATERAL (SELECT * FROM eventos_raw WHERE id = t.evento_id OFFSET 0) AS e ON true
         ORDER BY t.chave"
    )
}

pub(super) async fn events_of_entities(
    connection: &mut PgConnection,
    table: Table,
    after: Option<&str>,
    limit: u32,
) -> Result<EntityEvents, sqlx::Error> {
    let statement = entity_events(table);
    let rows = sqlx::query(&statement).bind(after).bind(i64::from(limit)).fetch_all(connection).await?;
    let last = rows.last().map(|row| row.try_get(16)).transpose()?;
    let stored = rows.iter().filter(|row| !matches!(row.try_get::<Option<Uuid>, _>(0), Ok(None)));
    Ok(EntityEvents { events: stored.map(event).collect::<Result<_, _>>()?, last })
}

#[async_trait]
impl Questions for PgStore {
    async fn events(
        &self,
        filter: &EventFilter,
        order: EventOrder,
        after: Option<EventCursor>,
        limit: u32,
    ) -> Result<EventPage, Fault> {
        const ATTEMPT: &str = "read events";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = events(&mut connection, filter, order, after, limit).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await
    }

    async fn undefined_kinds(&self) -> Result<Vec<String>, Fault> {
        // Every event is looked at, which takes what it takes.
        let mut connection = self.connector.dedicated("sluice rebuild", UNBOUNDED).await?;
        let kinds = sqlx::query_scalar(
            "SELECT DISTINCT tipo_evento FROM eventos_raw WHERE tipo_evento <> ALL($1) ORDER BY 1",
        )
        .bind(defined_kinds(self.catalog))
        .fetch_all(&mut connection)
        .await
        .map_err(|error| faults::fault("look for events of tables that are not defined here", &error))?;
        let _ = connection.close().await;
        Ok(kinds)
    }

    async fn entity(&self, table: Table, key: &str) -> Result<Option<StoredEntity>, Fault> {
        let of = &table.definition().key;
        let Some(key) = table.key.kind.spelled(key) else { return Ok(None) };
        let mut query = QueryBuilder::new(format!("{} WHERE \"{}\" = ", select(table), of.column));
        query.push_bind(key).push(format!("::{}", key_type(of.kind)));
        Ok(self.entities("read an entity", table, query).await?.pop())
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
        let mut query = QueryBuilder::new(select(table));
        match column.kind {
            ColumnKind::Text if column.lookup => {
                query
                    .push(format!(" WHERE lower(\"{name}\") = lower("))
                    .push_bind(storable(value.into()))
                    .push(")");
            }
            ColumnKind::Integer => {
                let Ok(number) = value.parse::<i64>() else { return Ok(Vec::new()) };
                query.push(format!(" WHERE \"{name}\" = ")).push_bind(number);
            }
            ColumnKind::Text => {
                query.push(format!(" WHERE \"{name}\" = ")).push_bind(storable(value.into()));
            }
            _ => {
                query.push(format!(" WHERE \"{name}\"::text = ")).push_bind(storable(value.into()));
            }
        }
        query.push(format!(" ORDER BY versao DESC, \"{}\" LIMIT ", definition.key.column));
        query.push_bind(i64::from(limit));
        self.entities("look for entities", table, query).await
    }

    async fn arrivals(&self, question: &ArrivalsQuestion) -> Result<(Vec<ArrivalCount>, u64), Fault> {
        const ATTEMPT: &str = "count arrivals";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let outcome = arrivals(&mut connection, question).await;
            connection.settle(ATTEMPT, outcome)
        };
        self.connector.bounded(ATTEMPT, call).await
    }

    async fn query(&self, sql: &str, limits: QueryLimits) -> Result<QueryAnswer, Fault> {
        let (session, checked) = self.begin_question(sql, &limits).await?;
        query::ask(session, &checked, &limits, self.catalog).await
    }

    async fn stream(&self, sql: &str, limits: QueryLimits) -> Result<StreamedRows, Fault> {
        let (session, checked) = self.begin_question(sql, &limits).await?;
        stream::ask(session, checked, limits, self.catalog).await
    }

    async fn question_access(&self) -> Result<Option<QuestionAccess>, Fault> {
        const ATTEMPT: &str = "look at the logins";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let own = access::of_own_login(&mut connection, &self.readable).await;
            let own = connection.settle(ATTEMPT, own)?;
            let session = self.sessions.begin_as_anybody(self.connector.timeout()).await?;
            let schema = self.schema().await?;
            let session = self.in_own_database(session, schema).await?;
            access::of_questions(session, own, schema, &self.readable).await
        };
        self.connector.bounded(ATTEMPT, Box::pin(call)).await.map(Some)
    }
}

impl PgStore {
    /// Checks a statement and begins a session that it may be asked in.
    async fn begin_question(&self, sql: &str, limits: &QueryLimits) -> Result<(Session, Checked), Fault> {
        const ATTEMPT: &str = "answer a statement";
        let schema = self.connector.bounded(ATTEMPT, self.schema()).await?;
        let (given, readable, named) = (sql.to_owned(), self.readable.clone(), schema.to_owned());
        let check = move || statement::checked(&given, &readable, &named);
        let checked = tokio::task::spawn_blocking(check)
            .await
            .unwrap_or_else(|_| Err(statement::CRASHED.to_owned()))
            .map_err(|problem| refused_statement(PART, self.catalog, problem))?;
        let session = self.sessions.begin(limits.timeout).await?;
        Ok((self.in_own_database(session, schema).await?, checked))
    }

    /// The session, if it is in the database that this store fills.
    async fn in_own_database(&self, mut session: Session, schema: &str) -> Result<Session, Fault> {
        const ATTEMPT: &str = "look whether questions are asked of the same database";
        let Some(place) = self.sessions.logins().named_place() else { return Ok(session) };
        let compare = async {
            let read = same_database::marks(session.connection(), schema).await;
            let read = read.map_err(|error| faults::fault(ATTEMPT, &error))?;
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let own = same_database::marks(&mut connection, schema).await;
            same_database::check(&connection.settle(ATTEMPT, own)?, &read, &place)
        };
        match self.connector.bounded(ATTEMPT, self.is_same.get_or_try_init(|| compare)).await {
            Ok(()) => Ok(session),
            Err(fault) => {
                session.end().await?;
                Err(fault)
            }
        }
    }

    /// The schema that sluice's tables are in.
    async fn schema(&self) -> Result<&str, Fault> {
        const ATTEMPT: &str = "look for the tables";
        let find = || async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let found = readers::schema(&mut connection).await;
            connection.settle(ATTEMPT, found)
        };
        self.schema.get_or_try_init(find).await.map(String::as_str)
    }

    async fn entities(
        &self,
        attempt: &str,
        table: Table,
        mut query: QueryBuilder<'_, Postgres>,
    ) -> Result<Vec<StoredEntity>, Fault> {
        let call = async {
            let mut connection = self.connector.acquire(attempt).await?;
            let outcome = query.build().fetch_all(&mut *connection).await;
            let entities = outcome.and_then(|rows| rows.iter().map(|row| entity(table, row)).collect());
            connection.settle(attempt, entities)
        };
        self.connector.bounded(attempt, call).await
    }
}

/// An entity's columns in the order of [`entity`].
fn select(table: Table) -> String {
    let definition = table.definition();
    let listed = definition.columns.iter().map(|column| {
        // What a double or a value of serde's would change is read as text.
        let is_text = matches!(column.kind, ColumnKind::Number | ColumnKind::Json);
        format!("\"{}\"{}", column.name, if is_text { "::text" } else { "" })
    });
    let key = format!("\"{}\"::text", definition.key.column);
    let columns: Vec<String> = std::iter::once(key).chain(listed).collect();
    format!("SELECT {}, metadata::text, versao, evento_id FROM \"{table}\"", columns.join(", "))
}

fn entity(table: Table, row: &PgRow) -> Result<StoredEntity, sqlx::Error> {
    let definition = table.definition();
    let key: String = row.try_get(0)?;
    let shown_key = match definition.key.kind {
        KeyKind::Bigint => to_value(&key),
        KeyKind::Uuid | KeyKind::Text => Value::String(key.clone()),
    };
    let mut columns = JsonObject::new();
    columns.insert(definition.key.column.clone(), shown_key);
    for (i, column) in definition.columns.iter().enumerate() {
        columns.insert(column.name.clone(), value(row, i + 1, column)?);
    }
    let next = definition.columns.len() + 1;
    Ok(StoredEntity {
        key,
        row: columns,
        metadata: json(row, next)?,
        versao: row.try_get(next + 1)?,
        evento_id: row.try_get(next + 2)?,
    })
}

/// A column's value as clients are shown it.
fn value(row: &PgRow, i: usize, column: &Column) -> Result<Value, sqlx::Error> {
    Ok(match column.kind {
        ColumnKind::Text => row.try_get::<Option<String>, _>(i)?.into(),
        ColumnKind::Integer => row.try_get::<Option<i64>, _>(i)?.into(),
        ColumnKind::Boolean => row.try_get::<Option<bool>, _>(i)?.into(),
        ColumnKind::Timestamp => row.try_get::<Option<DateTime<Utc>>, _>(i)?.map(spelled).into(),
        ColumnKind::Date => row.try_get::<Option<NaiveDate>, _>(i)?.map(|date| date.to_string()).into(),
        ColumnKind::Number | ColumnKind::Json => row.try_get::<Option<&str>, _>(i)?.map(to_value).into(),
        ColumnKind::List => row.try_get::<Option<Vec<String>>, _>(i)?.into(),
    })
}

fn json(row: &PgRow, i: usize) -> Result<Json, sqlx::Error> {
    let text: String = row.try_get(i)?;
    Json::try_from(Bytes::from(text)).map_err(|error| sqlx::Error::Decode(error.into()))
}

async fn events(
    connection: &mut PgConnection,
    filter: &EventFilter,
    order: EventOrder,
    after: Option<EventCursor>,
    limit: u32,
) -> Result<EventPage, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT ");
    match &filter.changed {
        None => {
            query.push(format!("{EVENT}, NULL::text, NULL::text FROM eventos_raw WHERE true"));
        }
        Some(column) => {
            query.push(format!("* FROM (SELECT {EVENT}, (SELECT coalesce(p.dados -> ")).push_bind(column);
            query.push(
                "::text, 'null')::text FROM eventos_raw AS p WHERE p.tipo_evento = e.tipo_evento \
                 AND p.entidade_id = e.entidade_id AND p.versao < e.versao ORDER BY p.versao DESC LIMIT 1) \
                 AS anterior, coalesce(e.dados -> ",
            );
            query.push_bind(column).push("::text, 'null')::text AS atual FROM eventos_raw AS e WHERE true");
        }
    }
    for condition in filter.conditions() {
        query.push(format!(" AND \"{}\" {} ", condition.column, condition.operator));
        match condition.value {
            // No stored text holds a NUL.
            Operand::Text(text) if text.contains('\0') => query.push("NULL"),
            Operand::Text(text) => query.push_bind(text),
            Operand::Id(id) => query.push_bind(id),
            Operand::Instant(at) => query.push_bind(at),
            Operand::Number(number) => query.push_bind(number),
        };
    }
    let (column, direction) = (order.column(), order.direction());
    if let Some(after) = after {
        query.push(format!(" AND (\"{column}\", id) {} (", order.beyond()));
        query.push_bind(after.at()).push(", ").push_bind(after.id).push(")");
    }
    if filter.changed.is_some() {
        query.push(") AS e WHERE anterior <> atual");
    }
    query.push(format!(" ORDER BY \"{column}\" {direction}, id {direction} LIMIT "));
    query.push_bind(i64::from(limit) + 1);
    let rows = query.build().fetch_all(connection).await?;
    let events = rows.iter().map(event).collect::<Result<_, _>>()?;
    Ok(EventPage::of(events, order, limit))
}

async fn arrivals(
    connection: &mut PgConnection,
    question: &ArrivalsQuestion,
) -> Result<(Vec<ArrivalCount>, u64), sqlx::Error> {
    let (sql, bound) = question.statement(Sql::Postgres);
    let mut query = sqlx::query(&sql);
    for value in bound {
        query = match value {
            Bound::Instant(at) => query.bind(at),
            Bound::Text(text) => query.bind(text),
            Bound::Number(number) => query.bind(number),
        };
    }
    let whole = |row: &PgRow, i: usize| row.try_get::<i64, _>(i).map(i64::unsigned_abs);
    let (by, met) = (question.by.len(), question.counts().count());
    let count = |row: &PgRow| {
        Ok(ArrivalCount {
            span: usize::try_from(row.try_get::<i32, _>(0)?).unwrap_or_default(),
            values: (1..=by).map(|i| row.try_get(i)).collect::<Result<_, sqlx::Error>>()?,
            rows: whole(row, by + 1)?,
            met: (0..met).map(|i| whole(row, by + 2 + i)).collect::<Result<_, sqlx::Error>>()?,
        })
    };
    let counts = query.fetch_all(&mut *connection).await?;
    let counts = counts.iter().map(count).collect::<Result<_, sqlx::Error>>()?;
    let undated = sqlx::query(&question.undated()).fetch_one(&mut *connection).await?;
    Ok((counted(counts), whole(&undated, 0)?))
}

fn event(row: &PgRow) -> Result<StoredEvent, sqlx::Error> {
    Ok(StoredEvent {
        id: row.try_get(0)?,
        tipo_evento: row.try_get(1)?,
        usuario: row.try_get(2)?,
        evento: row.try_get(3)?,
        valor: row.try_get(4)?,
        timestamp: row.try_get(5)?,
        categoria: row.try_get(6)?,
        metadata: json(row, 7)?,
        dados: json(row, 8)?,
        entidade_id: row.try_get(9)?,
        versao: row.try_get(10)?,
        particao: row.try_get(11)?,
        posicao: row.try_get(12)?,
        processado_em: row.try_get(13)?,
        change: row
            .try_get::<Option<String>, _>(14)?
            .zip(row.try_get(15)?)
            .map(|(before, after)| StoredChange { before, after }),
    })
}
