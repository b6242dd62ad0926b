//! Trimming events in Postgres.
//!
//! Guarantee: a trimming holds the lock that batches hold with others (see [`super::erasures`]) alone, so a batch knows of
//! all that was trimmed before it. In one transaction an event is removed, its id kept, and what it gave to the rollup added
//! to the windows of the trimmed. Every statement looks up one row after the other by its key, whatever the server thinks of
//! tables it has not analyzed.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{PgStore, erasures::LOCK, ledger::key_of, operations::over};
use crate::{
    domain::{Catalog, Table},
    fault::Fault,
    store::{EventName, Housekeeping, HousekeepingPass, TrimCursor, TrimPage, housekeeping::EVENTS},
};

/// Events looked at in one question.
pub(super) const PAGE: usize = 2_000;

/// What the rollup counts: the events that are there and were never trimmed, and the windows of those that were.
pub(super) const COUNTED: &str = "(
     SELECT e.\"timestamp\" AS instante, e.categoria, e.evento, 1::int8 AS total, e.valor AS soma FROM eventos_raw AS e
     WHERE NOT EXISTS (
         SELECT FROM sluice_trimmed AS s
         WHERE s.entidade_id = e.entidade_id AND s.tipo_evento = e.tipo_evento AND s.id = e.id OFFSET 0
     )
     UNION ALL SELECT janela_inicio, categoria, evento, total, soma_valor FROM sluice_trimmed_windows
 )";

/// Something of the row that the event `p` is of, or else of its removal; `NULL` of a table without a definition here.
fn of_its_row(catalog: Catalog, of_row: &str, of_removal: &str) -> String {
    let mut tables = String::new();
    for table in catalog.tables() {
        let key = &table.definition().key;
        // Writing to a string can't fail.
        let _ = write!(
            tables,
            "WHEN '{entity}' THEN coalesce(
                 (SELECT {of_row} FROM \"{table}\" AS t WHERE t.\"{column}\" = {key_of} OFFSET 0),
                 (SELECT {of_removal} FROM sluice_removed AS r
                  WHERE r.table_name = '{table}' AND r.entity = p.entidade_id OFFSET 0)) ",
            entity = table.entity,
            column = key.column,
            key_of = key_of(key.kind, "p.entidade_id"),
        );
    }
    format!("CASE p.tipo_evento {tables} END")
}

/// Whether the event `p` may go: its row has moved on, to a version below `$1`, and has this content no more. An event of a
/// table without a definition here stays, as does what alerts still have to look at or to send.
fn may_go(catalog: Catalog) -> String {
    let has_moved_on =
        of_its_row(catalog, "t.versao > p.versao AND t.evento_id <> p.id", "r.versao > p.versao");
    format!(
        "EXISTS (
             SELECT FROM eventos_raw AS n
             WHERE n.entidade_id = p.entidade_id AND n.versao > p.versao AND n.versao < $1
                 AND n.tipo_evento = p.tipo_evento OFFSET 0
         ) AND coalesce({has_moved_on}, false)
         AND NOT EXISTS (SELECT FROM sluice_alert_queue AS q WHERE q.entity = p.entidade_id OFFSET 0)
         AND p.id NOT IN (SELECT event FROM sluice_alert_outbox WHERE due_at IS NOT NULL AND event IS NOT NULL)"
    )
}

/// The next events below version `$1`, behind version `$2` and id `$3`.
pub(super) fn page_statement(catalog: Catalog) -> String {
    format!(
        "WITH page AS MATERIALIZED (
             SELECT id, tipo_evento, entidade_id, versao FROM eventos_raw
             WHERE versao < $1 AND (versao, id) > ($2, $3) ORDER BY versao, id LIMIT {PAGE}
         )
         SELECT p.versao, p.id, {} FROM page AS p ORDER BY p.versao, p.id",
        may_go(catalog)
    )
}

/// Removes those of the events `$2` that may go. Of each it is kept where its row stands now: a later delivery of that version
/// or beyond says that the row has this content again.
pub(super) fn trim_statement(catalog: Catalog) -> String {
    format!(
        "WITH idos AS (
             DELETE FROM eventos_raw AS p WHERE p.id = ANY($2::uuid[]) AND p.versao < $1 AND {}
             RETURNING p.id, p.tipo_evento, p.entidade_id, p.categoria, p.evento, p.valor,
                 date_bin('5 minutes', p.\"timestamp\", 'epoch') AS janela_inicio, {row_stands_at} AS below
         ), lembrados AS (
             INSERT INTO sluice_trimmed (entidade_id, tipo_evento, id, below, janela_inicio, categoria, evento, valor)
             SELECT entidade_id, tipo_evento, id, below, janela_inicio, categoria, evento, valor FROM idos ORDER BY 1, 2, 3
             ON CONFLICT (entidade_id, tipo_evento, id) DO UPDATE SET below = excluded.below
         ), janelas AS (
             INSERT INTO sluice_trimmed_windows AS a (janela_inicio, categoria, evento, total, soma_valor)
             SELECT i.janela_inicio, i.categoria, i.evento, count(*), sum(i.valor) FROM idos AS i
             WHERE NOT EXISTS (
                 SELECT FROM sluice_trimmed AS s
                 WHERE s.entidade_id = i.entidade_id AND s.tipo_evento = i.tipo_evento AND s.id = i.id OFFSET 0
             )
             GROUP BY i.janela_inicio, i.categoria, i.evento
             ON CONFLICT (janela_inicio, categoria, evento) DO UPDATE
             SET total = a.total + excluded.total, soma_valor = a.soma_valor + excluded.soma_valor
         )
         SELECT count(*) FROM idos",
        may_go(catalog),
        row_stands_at = of_its_row(catalog, "t.versao", "r.versao"),
    )
}

#[async_trait]
impl Housekeeping for PgStore {
    async fn passes(&self) -> Result<Vec<HousekeepingPass>, Fault> {
        type Stored = (String, Option<DateTime<Utc>>, Option<DateTime<Utc>>, i64, i64, Option<String>);
        let rows: Vec<Stored> = over!(self, "read what housekeeping did", connection =>
            sqlx::query_as(
                "SELECT task, ended_at, succeeded_at, removed, removed_in_all, error FROM sluice_housekeeping ORDER BY 1",
            )
            .fetch_all(connection))?;
        let pass = |(task, ended_at, succeeded_at, removed, in_all, error): Stored| HousekeepingPass {
            task,
            ended_at,
            succeeded_at,
            removed: removed.unsigned_abs(),
            removed_in_all: in_all.unsigned_abs(),
            error,
        };
        Ok(rows.into_iter().map(pass).collect())
    }

    async fn keep_pass(&self, task: &str, removed: u64, error: Option<&str>) -> Result<(), Fault> {
        let removed = i64::try_from(removed).unwrap_or(i64::MAX);
        over!(self, "keep what housekeeping did", connection =>
            sqlx::query(
                "INSERT INTO sluice_housekeeping AS h (task, ended_at, succeeded_at, removed, removed_in_all, error)
                 VALUES ($1, now(), CASE WHEN $3::text IS NULL THEN now() END, $2, $4, $3)
                 ON CONFLICT (task) DO UPDATE
                 SET ended_at = now(), succeeded_at = coalesce(excluded.succeeded_at, h.succeeded_at), removed = $2,
                     removed_in_all = h.removed_in_all + $4, error = $3",
            )
            .bind(task)
            .bind(removed)
            .bind(error.map(|error| error.replace('\0', "")))
            .bind(if task == EVENTS { 0 } else { removed })
            .execute(connection))?;
        Ok(())
    }

    async fn trimmable(&self, below: i64, after: Option<TrimCursor>) -> Result<TrimPage, Fault> {
        let (versao, id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let statement = page_statement(self.catalog);
        let rows: Vec<(i64, Uuid, bool)> = over!(self, "look for old events", connection =>
            sqlx::query_as(&statement).bind(below).bind(versao).bind(id).fetch_all(connection))?;
        let next = rows.last().filter(|_| rows.len() == PAGE).map(|(versao, id, _)| (*versao, *id));
        let events = rows.into_iter().filter_map(|(_, id, may_go)| may_go.then_some(id)).collect();
        Ok(TrimPage { events, next })
    }

    async fn trim(&self, events: &[Uuid], below: i64) -> Result<u64, Fault> {
        let statement = trim_statement(self.catalog);
        let trimmed = over!(self, "trim events", connection => trim(connection, &statement, events, below))?;
        Ok(trimmed.unsigned_abs())
    }

    async fn trimmed(&self, events: &[EventName]) -> Result<HashMap<Uuid, i64>, Fault> {
        // Nothing with such a character was ever stored.
        let can_be = |event: &&EventName| {
            ![&event.entidade, &event.tipo_evento].iter().any(|text| text.contains('\0'))
        };
        let events = events.iter().filter(can_be);
        let events: Vec<_> = events.map(|event| (&*event.entidade, &*event.tipo_evento, event.id)).collect();
        over!(self, "look for trimmed events", connection => gone(connection, events))
    }

    async fn trimmed_between(
        &self,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<bool, Fault> {
        over!(self, "look for windows of trimmed events", connection =>
            sqlx::query_scalar(
                "SELECT EXISTS (
                     SELECT FROM sluice_trimmed_windows
                     WHERE janela_inicio > coalesce($1::timestamptz - interval '5 minutes', '-infinity')
                         AND janela_inicio < coalesce($2::timestamptz, 'infinity')
                 )",
            )
            .bind(from)
            .bind(to)
            .fetch_one(connection))
    }

    async fn trimmed_of(&self, table: Table, key: &str) -> Result<u64, Fault> {
        let count: i64 = over!(self, "count an entity's trimmed events", connection =>
            sqlx::query_scalar("SELECT count(*) FROM sluice_trimmed WHERE entidade_id = $1 AND tipo_evento = $2")
                .bind(key.replace('\0', ""))
                .bind(&table.entity)
                .fetch_one(connection))?;
        Ok(count.unsigned_abs())
    }
}

async fn trim(
    connection: &mut PgConnection,
    statement: &str,
    events: &[Uuid],
    below: i64,
) -> Result<i64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(&format!("SELECT pg_advisory_xact_lock({LOCK})")).execute(&mut *transaction).await?;
    let trimmed: i64 =
        sqlx::query_scalar(statement).bind(below).bind(events).fetch_one(&mut *transaction).await?;
    sqlx::query(
        "INSERT INTO sluice_housekeeping AS h (task, removed_in_all) VALUES ($1, $2)
         ON CONFLICT (task) DO UPDATE SET removed_in_all = h.removed_in_all + $2",
    )
    .bind(EVENTS)
    .bind(trimmed)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(trimmed)
}

/// Those of these events that were trimmed and are not stored again.
async fn gone(
    connection: &mut PgConnection,
    events: Vec<(&str, &str, Uuid)>,
) -> Result<HashMap<Uuid, i64>, sqlx::Error> {
    let mut known = known(connection, events.into_iter()).await?;
    if !known.is_empty() {
        let ids: Vec<Uuid> = known.keys().copied().collect();
        let stored: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM eventos_raw WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(connection)
            .await?;
        for id in &stored {
            known.remove(id);
        }
    }
    Ok(known)
}

/// Which of these events, each by its entity, the entity's kind and its id, were trimmed, and below which version.
pub(super) async fn known<'e>(
    connection: &mut PgConnection,
    events: impl Iterator<Item = (&'e str, &'e str, Uuid)>,
) -> Result<HashMap<Uuid, i64>, sqlx::Error> {
    // Where nothing was trimmed, a batch need not be sent a second time to be asked about.
    let any: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM sluice_trimmed)").fetch_one(&mut *connection).await?;
    if !any {
        return Ok(HashMap::new());
    }
    let (mut entities, mut kinds, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for (entity, kind, id) in events {
        entities.push(entity);
        kinds.push(kind);
        ids.push(id);
    }
    let known: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT s.id, s.below FROM unnest($1::text[], $2::text[], $3::uuid[]) AS n(entidade_id, tipo_evento, id)
         CROSS JOIN LATERAL (
             SELECT id, below FROM sluice_trimmed
             WHERE entidade_id = n.entidade_id AND tipo_evento = n.tipo_evento AND id = n.id OFFSET 0
         ) AS s",
    )
    .bind(entities)
    .bind(kinds)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(known.into_iter().collect())
}

/// What was trimmed of entities is taken from what the trimmed gave, too. Tells how many events that were, and of which
/// windows.
pub(super) async fn forget(
    transaction: &mut PgConnection,
    table: Table,
    keys: &[String],
) -> Result<(u64, Vec<(DateTime<Utc>, String, String)>), sqlx::Error> {
    let gone: Vec<(DateTime<Utc>, String, String)> = sqlx::query_as(
        "DELETE FROM sluice_trimmed WHERE tipo_evento = $1 AND entidade_id = ANY($2)
         RETURNING janela_inicio, categoria, evento",
    )
    .bind(&table.entity)
    .bind(keys)
    .fetch_all(&mut *transaction)
    .await?;
    let events = gone.len() as u64;
    let windows: Vec<_> = gone.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    // Added up anew: what is taken away from a sum of doubles leaves something of itself behind.
    for (begin, categoria, evento) in &windows {
        sqlx::query(
            "WITH resto AS (
                 SELECT count(*) AS total, coalesce(sum(valor), 0) AS soma FROM sluice_trimmed
                 WHERE janela_inicio = $1 AND categoria = $2 AND evento = $3
             ), vazia AS (
                 DELETE FROM sluice_trimmed_windows
                 WHERE janela_inicio = $1 AND categoria = $2 AND evento = $3 AND (SELECT total FROM resto) = 0
             )
             UPDATE sluice_trimmed_windows AS w SET total = r.total, soma_valor = r.soma FROM resto AS r
             WHERE w.janela_inicio = $1 AND w.categoria = $2 AND w.evento = $3 AND r.total > 0",
        )
        .bind(begin)
        .bind(categoria)
        .bind(evento)
        .execute(&mut *transaction)
        .await?;
    }
    Ok((events, windows))
}
