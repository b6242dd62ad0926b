//! Answers about events and entities.

use async_trait::async_trait;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{PgStore, access, faults::PART, query, readers, statement};
use crate::{
    domain::{JsonObject, Table},
    fault::Fault,
    store::{
        EventCursor, EventFilter, EventOrder, EventPage, QueryAnswer, QueryLimits, QuestionAccess, Questions,
        StoredEntity, StoredEvent, questions::Operand, refused_question,
    },
};

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

    async fn entity(&self, table: Table, id: Uuid) -> Result<Option<StoredEntity>, Fault> {
        let mut query = QueryBuilder::new(format!("SELECT to_jsonb(t) FROM {table} AS t WHERE id = "));
        query.push_bind(id);
        Ok(self.entities("read an entity", table, query).await?.pop())
    }

    async fn leads_by_email(&self, email: &str, limit: u32) -> Result<Vec<StoredEntity>, Fault> {
        let mut query = QueryBuilder::new("SELECT to_jsonb(t) FROM leads AS t WHERE lower(email) = lower(");
        query.push_bind(email.replace('\0', "")).push(") ORDER BY versao DESC, id LIMIT ");
        query.push_bind(i64::from(limit));
        self.entities("look for leads", Table::Leads, query).await
    }

    async fn sessions_of(&self, lead_id: &str, limit: u32) -> Result<Vec<StoredEntity>, Fault> {
        let mut query = QueryBuilder::new("SELECT to_jsonb(t) FROM chat_sessions AS t WHERE lead_id = ");
        query.push_bind(lead_id.replace('\0', "")).push(" ORDER BY started_at DESC NULLS LAST, id LIMIT ");
        query.push_bind(i64::from(limit));
        self.entities("read a lead's sessions", Table::ChatSessions, query).await
    }

    async fn query(&self, sql: &str, limits: QueryLimits) -> Result<QueryAnswer, Fault> {
        const ATTEMPT: &str = "answer a statement";
        let call = async {
            let checked = statement::checked(sql, &self.readable, self.schema().await?)
                .map_err(|problem| refused_question(PART, problem, &self.readable))?;
            let session = self.sessions.begin(limits.timeout).await?;
            query::ask(session, &checked, &limits, &self.readable).await
        };
        self.connector.bounded(ATTEMPT, call).await
    }

    async fn question_access(&self) -> Result<Option<QuestionAccess>, Fault> {
        const ATTEMPT: &str = "look at the logins";
        let call = async {
            let mut connection = self.connector.acquire(ATTEMPT).await?;
            let own = access::of_own_login(&mut connection, &self.readable).await;
            let own = connection.settle(ATTEMPT, own)?;
            let session = self.sessions.begin_as_anybody(self.connector.timeout()).await?;
            access::of_questions(session, own, self.schema().await?, &self.readable).await
        };
        self.connector.bounded(ATTEMPT, call).await.map(Some)
    }
}

impl PgStore {
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
            let outcome = query.build_query_scalar::<Json<JsonObject>>().fetch_all(&mut *connection).await;
            connection.settle(attempt, outcome)
        };
        let rows = self.connector.bounded(attempt, call).await?;
        Ok(rows.into_iter().filter_map(|row| StoredEntity::of(table, row.0)).collect())
    }
}

async fn events(
    connection: &mut PgConnection,
    filter: &EventFilter,
    order: EventOrder,
    after: Option<EventCursor>,
    limit: u32,
) -> Result<EventPage, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT * FROM eventos_raw WHERE true");
    for condition in filter.conditions() {
        query.push(format!(" AND \"{}\" {} ", condition.column, condition.operator));
        match condition.value {
            // No stored text holds a NUL.
            Operand::Text(text) if text.contains('\0') => query.push("NULL"),
            Operand::Text(text) => query.push_bind(text),
            Operand::Uuid(id) => query.push_bind(id),
            Operand::Instant(at) => query.push_bind(at),
            Operand::Number(number) => query.push_bind(number),
        };
    }
    let (column, direction) = (order.column(), order.direction());
    if let Some(after) = after {
        query.push(format!(" AND (\"{column}\", id) {} (", order.beyond()));
        query.push_bind(after.at()).push(", ").push_bind(after.id).push(")");
    }
    query.push(format!(" ORDER BY \"{column}\" {direction}, id {direction} LIMIT "));
    query.push_bind(i64::from(limit) + 1);
    let rows = query.build().fetch_all(connection).await?;
    let events = rows.iter().map(event).collect::<Result<_, _>>()?;
    Ok(EventPage::of(events, order, limit))
}

fn event(row: &PgRow) -> Result<StoredEvent, sqlx::Error> {
    Ok(StoredEvent {
        id: row.try_get("id")?,
        tipo_evento: row.try_get("tipo_evento")?,
        usuario: row.try_get("usuario")?,
        evento: row.try_get("evento")?,
        valor: row.try_get("valor")?,
        timestamp: row.try_get("timestamp")?,
        categoria: row.try_get("categoria")?,
        metadata: row.try_get::<Json<JsonObject>, _>("metadata")?.0,
        dados: row.try_get::<Json<JsonObject>, _>("dados")?.0,
        entidade_id: row.try_get("entidade_id")?,
        versao: row.try_get("versao")?,
        particao: row.try_get("particao")?,
        posicao: row.try_get("posicao")?,
        ingerido_em: row.try_get("ingerido_em")?,
    })
}
