//! Alerts in Postgres. An alert is made while no batch is under way, so each batch either knows of it or is over.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, Row as _, postgres::PgRow, types::Json as PgJson};
use uuid::Uuid;

use super::{
    PgStore,
    erasures::LOCK,
    operations::{interval, over},
};
use crate::{
    domain::{Json, Table, TableName},
    fault::Fault,
    sink::SinkBatch,
    store::{
        Alert, AlertFired, AlertRule, Alerts, Attempt, Episode, EpisodeFired, MAX_WAITING, NewAlert,
        Outgoing, RowFired, TOLD_WITHIN, Version,
        alerts::{EPISODES_KEPT_FOR, SENDING_FOR},
        tables::key_type,
    },
};

/// A version and the one before it; the row of a removal is none.
const VERSION: &str = "e.dados::text, (
     SELECT p.dados::text FROM eventos_raw AS p
     WHERE p.entidade_id = q.entity AND p.tipo_evento = e.tipo_evento AND p.versao < q.versao
     ORDER BY p.versao DESC LIMIT 1
 ), e.processado_em";

/// Queues the versions of a batch that move a row on, where an alert watches its table. What was stored before is no news,
/// though its row may be gone: a table that somebody dropped is filled anew.
pub(super) async fn queue(connection: &mut PgConnection, batch: &SinkBatch) -> Result<(), sqlx::Error> {
    let watched: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT table_name FROM sluice_alerts WHERE table_name IS NOT NULL")
            .fetch_all(&mut *connection)
            .await?;
    for name in watched {
        let events =
            batch.events.iter().filter(|event| event.table.is_some_and(|table| table.name() == name));
        let events: Vec<_> =
            events.filter(|event| !event.event.entidade.removida && event.has_key()).collect();
        let Some(table) = events.first().and_then(|event| event.table) else { continue };
        let entities: Vec<&str> = events.iter().map(|event| event.event.entidade.id.as_str()).collect();
        let ids: Vec<Uuid> = events.iter().map(|event| event.event.id).collect();
        let versions: Vec<i64> = events.iter().map(|event| event.event.entidade.versao).collect();
        let (column, kind) = (&table.key.column, key_type(table.key.kind));
        let statement = format!(
            "INSERT INTO sluice_alert_queue (table_name, entity, event, versao)
             SELECT '{table}', n.entity, n.event, n.versao
             FROM unnest($1::text[], $2::uuid[], $3::int8[]) WITH ORDINALITY AS n(entity, event, versao, place)
             WHERE NOT EXISTS (
                 SELECT FROM \"{table}\" AS t WHERE t.\"{column}\" = n.entity::{kind}
                     AND (t.versao > n.versao OR (t.versao = n.versao AND t.evento_id = n.event))
             ) AND NOT EXISTS (
                 SELECT FROM sluice_removed AS r
                 WHERE r.table_name = '{table}' AND r.entity = n.entity AND r.versao > n.versao
             ) AND NOT EXISTS (SELECT FROM eventos_raw AS x WHERE x.id = n.event) AND NOT EXISTS (
                 SELECT FROM sluice_trimmed AS s
                 WHERE s.entidade_id = n.entity AND s.tipo_evento = '{kind_of_event}' AND s.id = n.event OFFSET 0
             ) ORDER BY n.place",
            kind_of_event = table.entity,
        );
        sqlx::query(&statement).bind(&entities).bind(&ids).bind(&versions).execute(&mut *connection).await?;
    }
    Ok(())
}

fn json(text: Option<String>) -> Option<Json> {
    text.and_then(|text| Json::try_from(Bytes::from(text)).ok())
}

fn version(row: &PgRow) -> Result<Version, sqlx::Error> {
    Ok(Version {
        position: row.try_get(0)?,
        table: TableName(row.try_get(1)?),
        entity: row.try_get(2)?,
        event: row.try_get(3)?,
        row: json(row.try_get(4)?),
        before: json(row.try_get(5)?),
        stored_at: row.try_get(6)?,
    })
}

fn alert(row: &PgRow) -> Result<Alert, sqlx::Error> {
    let count = |at: usize| row.try_get::<i64, _>(at).map(i64::unsigned_abs);
    Ok(Alert {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        target: row.try_get(2)?,
        rule: row.try_get::<PgJson<AlertRule>, _>(3)?.0,
        queued_from: row.try_get(4)?,
        created_by: row.try_get(5)?,
        created_at: row.try_get(6)?,
        episode: Episode { since: row.try_get(7)?, told: row.try_get(8)? },
        failing_since: row.try_get(9)?,
        last_error: row.try_get(10)?,
        fired: count(11)?,
        last_fired_at: row.try_get(12)?,
        waiting: count(13)?,
        waiting_since: row.try_get(14)?,
        lost: count(15)?,
    })
}

fn outgoing(row: &PgRow) -> Result<Outgoing, sqlx::Error> {
    Ok(Outgoing {
        id: row.try_get(0)?,
        alert: row.try_get(1)?,
        rule: row.try_get::<PgJson<AlertRule>, _>(2)?.0,
        target: row.try_get(3)?,
        is_over: row.try_get::<&str, _>(4)? == "resolved",
        table: row.try_get::<Option<String>, _>(5)?.map(TableName),
        subject: row.try_get(6)?,
        row: json(row.try_get(7)?),
        detail: row.try_get(8)?,
        fired_at: row.try_get(9)?,
        attempts: row.try_get::<i32, _>(10)?.unsigned_abs(),
    })
}

#[async_trait]
impl Alerts for PgStore {
    async fn alerts(&self, counted: bool) -> Result<Vec<Alert>, Fault> {
        let sql = format!(
                "SELECT a.id, a.name, a.target, a.rule, a.queued_from, a.created_by, a.created_at, a.holds_since, a.episode,
                        a.failing_since, a.last_error, count(o.id), max(o.fired_at),
                        count(o.id) FILTER (WHERE o.due_at IS NOT NULL), min(o.fired_at) FILTER (WHERE o.due_at IS NOT NULL),
                        count(o.id) FILTER (WHERE o.outcome = 'lost' AND o.fired_at > now() - interval '7 days')
                 FROM sluice_alerts AS a LEFT JOIN sluice_alert_outbox AS o ON {counted} AND o.alert = a.id
                 GROUP BY a.id ORDER BY a.name"
        );
        let rows = over!(self, "read the alerts", connection => sqlx::query(&sql).fetch_all(connection))?;
        let alerts: Result<Vec<Alert>, sqlx::Error> = rows.iter().map(alert).collect();
        alerts.map_err(|error| super::faults::fault("read the alerts", &error))
    }

    async fn recent_alerts(&self, limit: u32) -> Result<Vec<AlertFired>, Fault> {
        type Fired = (String, DateTime<Utc>, String, Option<String>, Option<String>, Option<String>);
        let rows: Vec<Fired> = over!(self, "read what alerts told", connection =>
            sqlx::query_as(
                "SELECT a.name, o.fired_at, o.state, o.table_name,
                        CASE WHEN o.table_name IS NOT NULL THEN o.subject END, o.detail
                 FROM sluice_alert_outbox AS o JOIN sluice_alerts AS a ON a.id = o.alert ORDER BY o.id DESC LIMIT $1",
            )
            .bind(i64::from(limit))
            .fetch_all(connection))?;
        let fired =
            |(alert, at, state, table, key, detail)| AlertFired { alert, at, state, table, key, detail };
        Ok(rows.into_iter().map(fired).collect())
    }

    async fn create_alert(&self, alert: &NewAlert) -> Result<bool, Fault> {
        over!(self, "create an alert", connection => create(connection, alert))
    }

    async fn delete_alert(&self, name: &str) -> Result<bool, Fault> {
        let gone = over!(self, "delete an alert", connection =>
            sqlx::query("DELETE FROM sluice_alerts WHERE name = $1").bind(name.replace('\0', "")).execute(connection))?;
        Ok(gone.rows_affected() > 0)
    }

    async fn hold_leases(
        &self,
        owner: &str,
        wanted: &BTreeSet<String>,
        lease: Duration,
    ) -> Result<BTreeSet<String>, Fault> {
        let wanted: Vec<&String> = wanted.iter().collect();
        let held: Vec<String> = over!(self, "hold the alerts", connection =>
            sqlx::query_scalar(
                "INSERT INTO sluice_leases AS l (name, holder, held_until)
                 SELECT name, $2, now() + $3 FROM unnest($1::text[]) WITH ORDINALITY AS w(name, place) ORDER BY place
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
                 WHERE l.holder = excluded.holder OR l.held_until < now()
                 RETURNING l.name",
            )
            .bind(wanted)
            .bind(owner)
            .bind(interval(lease))
            .fetch_all(connection))?;
        Ok(held.into_iter().collect())
    }

    async fn held_leases(&self) -> Result<BTreeSet<String>, Fault> {
        let held: Vec<String> = over!(self, "look who holds the alerts", connection =>
            sqlx::query_scalar("SELECT name FROM sluice_leases WHERE held_until > now()").fetch_all(connection))?;
        Ok(held.into_iter().collect())
    }

    async fn queued_versions(&self, tables: &[String], limit: u32) -> Result<Vec<Version>, Fault> {
        let sql = format!(
            "SELECT q.position, q.table_name, q.entity, q.event, {VERSION}
             FROM (
                 SELECT * FROM sluice_alert_queue AS q
                 WHERE q.table_name = ANY($2)
                     OR NOT EXISTS (SELECT FROM sluice_alerts AS a WHERE a.table_name = q.table_name)
                 ORDER BY position LIMIT $1
             ) AS q
             LEFT JOIN LATERAL (SELECT * FROM eventos_raw WHERE id = q.event OFFSET 0) AS e ON true
             ORDER BY q.position"
        );
        let rows = over!(self, "read the queue of alerts", connection =>
            sqlx::query(&sql).bind(i64::from(limit)).bind(tables).fetch_all(connection))?;
        let versions: Result<Vec<Version>, sqlx::Error> = rows.iter().map(version).collect();
        versions.map_err(|error| super::faults::fault("read the queue of alerts", &error))
    }

    async fn stored_versions(
        &self,
        table: Table,
        since: DateTime<Utc>,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: u32,
    ) -> Result<Vec<Version>, Fault> {
        let sql = format!(
            "SELECT (extract(epoch FROM e.processado_em) * 1000000)::int8, '{table}', q.entity, e.id, {VERSION}
             FROM (
                 SELECT *, entidade_id AS entity FROM eventos_raw
                 WHERE tipo_evento = $1 AND processado_em >= $2 AND evento <> $3
                     AND ($4::timestamptz IS NULL OR (processado_em, id) > ($4, $5))
                 ORDER BY processado_em, id LIMIT $6
             ) AS q JOIN eventos_raw AS e ON e.id = q.id
             ORDER BY e.processado_em, e.id"
        );
        let rows = over!(self, "read versions", connection =>
            sqlx::query(&sql)
                .bind(&table.entity)
                .bind(since)
                .bind(table.definition().removed_event())
                .bind(after.map(|(at, _)| at))
                .bind(after.map(|(_, id)| id))
                .bind(i64::from(limit))
                .fetch_all(connection))?;
        let versions: Result<Vec<Version>, sqlx::Error> = rows.iter().map(version).collect();
        versions.map_err(|error| super::faults::fault("read versions", &error))
    }

    async fn take_versions(&self, positions: &[i64], fired: &[RowFired]) -> Result<(), Fault> {
        let ids: Vec<Uuid> = fired.iter().map(|one| one.id).collect();
        let alerts: Vec<Uuid> = fired.iter().map(|one| one.alert).collect();
        let at: Vec<i64> = fired.iter().map(|one| one.position).collect();
        over!(self, "put into the outbox", connection =>
            sqlx::query(
                "WITH taken AS (
                     DELETE FROM sluice_alert_queue WHERE position = ANY($1) RETURNING position, table_name, entity, event
                 ), new AS (
                     SELECT f.id, f.alert, t.entity, t.table_name, t.event, a.target,
                            row_number() OVER (PARTITION BY f.alert ORDER BY f.position, f.id) + (
                                SELECT count(*) FROM sluice_alert_outbox AS w WHERE w.alert = f.alert AND w.due_at IS NOT NULL
                            ) > $5 AS is_lost
                     FROM unnest($2::uuid[], $3::uuid[], $4::int8[]) AS f(id, alert, position)
                     JOIN taken AS t USING (position) JOIN sluice_alerts AS a ON a.id = f.alert
                     WHERE NOT EXISTS (
                         SELECT FROM sluice_alert_outbox AS o
                         WHERE o.alert = f.alert AND o.subject = t.entity AND o.state = 'fired'
                     )
                 )
                 INSERT INTO sluice_alert_outbox (id, alert, subject, state, table_name, event, due_at, outcome)
                 SELECT id, alert, entity, 'fired', table_name, event,
                        CASE WHEN target IS NOT NULL AND NOT is_lost THEN now() END,
                        CASE WHEN target IS NULL THEN 'kept' WHEN is_lost THEN 'lost' END
                 FROM new ORDER BY id
                 ON CONFLICT (alert, subject, state) DO NOTHING",
            )
            .bind(positions)
            .bind(&ids)
            .bind(&alerts)
            .bind(&at)
            .bind(MAX_WAITING)
            .execute(connection))?;
        Ok(())
    }

    async fn move_episode(
        &self,
        alert: &Alert,
        to: Episode,
        fired: Option<&EpisodeFired>,
    ) -> Result<bool, Fault> {
        over!(self, "move an alert on", connection => move_episode(connection, alert, to, fired))
    }

    async fn take_outgoing(&self, target: &str) -> Result<Option<Outgoing>, Fault> {
        let row = over!(self, "take what is to be sent", connection =>
            sqlx::query(
                "WITH next AS (
                     SELECT o.id, o.due_at, a.name, a.rule, a.target
                     FROM sluice_alert_outbox AS o JOIN sluice_alerts AS a ON a.id = o.alert
                     WHERE o.due_at IS NOT NULL AND a.target = $1 ORDER BY o.id LIMIT 1
                 ), taken AS (
                     UPDATE sluice_alert_outbox AS o SET attempts = o.attempts + 1, due_at = now() + $2
                     FROM next WHERE o.id = next.id AND o.due_at = next.due_at AND next.due_at <= now()
                     RETURNING o.*, next.name, next.rule, next.target
                 )
                 SELECT t.id, t.name, t.rule, t.target, t.state, t.table_name, t.subject, e.dados::text, t.detail, t.fired_at,
                        t.attempts
                 FROM taken AS t LEFT JOIN eventos_raw AS e ON e.id = t.event",
            )
            .bind(target)
            .bind(interval(SENDING_FOR))
            .fetch_optional(connection))?;
        let taken = row.as_ref().map(outgoing).transpose();
        taken.map_err(|error| super::faults::fault("take what is to be sent", &error))
    }

    async fn sent(&self, outgoing: &Outgoing, attempt: &Attempt) -> Result<(), Fault> {
        let (outcome, again, error) = match attempt {
            Attempt::Delivered => (Some("delivered"), None, None),
            Attempt::Refused { error } => (Some("lost"), None, Some(error)),
            Attempt::Failed { error, again_in } => (None, Some(interval(*again_in)), Some(error)),
        };
        over!(self, "keep what was sent", connection =>
            sqlx::query(
                "WITH sent AS (
                     UPDATE sluice_alert_outbox SET outcome = $2, due_at = now() + $3 WHERE id = $1 RETURNING alert
                 )
                 UPDATE sluice_alerts
                 SET failing_since = CASE WHEN $3 IS NOT NULL THEN coalesce(failing_since, now()) END,
                     last_error = CASE WHEN $3 IS NOT NULL OR id IN (SELECT alert FROM sent) THEN $4 END
                 WHERE target = $5 AND ($4::text IS NOT NULL OR last_error IS NOT NULL)",
            )
            .bind(outgoing.id)
            .bind(outcome)
            .bind(again)
            .bind(error.map(|error| error.replace('\0', "")))
            .bind(&outgoing.target)
            .execute(connection))?;
        Ok(())
    }

    async fn tidy_outbox(&self) -> Result<(), Fault> {
        over!(self, "tidy the outbox", connection =>
            sqlx::query(
                "WITH old AS (DELETE FROM sluice_alert_outbox
                     WHERE table_name IS NULL AND due_at IS NULL AND fired_at < now() - $2)
                 UPDATE sluice_alert_outbox SET due_at = NULL, outcome = 'lost'
                 WHERE due_at IS NOT NULL AND fired_at < now() - $1",
            )
            .bind(interval(TOLD_WITHIN))
            .bind(interval(EPISODES_KEPT_FOR))
            .execute(connection))?;
        Ok(())
    }
}

async fn create(connection: &mut PgConnection, alert: &NewAlert) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(&format!("SELECT pg_advisory_xact_lock({LOCK})")).execute(&mut *transaction).await?;
    let made = sqlx::query(
        "INSERT INTO sluice_alerts (id, name, target, rule, table_name, created_by, queued_from)
         SELECT $1, $2, $3, $4, $5, $6, coalesce(max(position), 0) FROM sluice_alert_queue
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(Uuid::now_v7())
    .bind(&alert.name)
    .bind(&alert.target)
    .bind(PgJson(&alert.rule))
    .bind(alert.rule.table().map(|table| &table.0))
    .bind(&alert.by)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(made.rows_affected() > 0)
}

async fn move_episode(
    connection: &mut PgConnection,
    alert: &Alert,
    to: Episode,
    fired: Option<&EpisodeFired>,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let moved = sqlx::query(
        "UPDATE sluice_alerts SET holds_since = $4, episode = $5
         WHERE id = $1 AND holds_since IS NOT DISTINCT FROM $2 AND episode IS NOT DISTINCT FROM $3",
    )
    .bind(alert.id)
    .bind(alert.episode.since)
    .bind(alert.episode.told)
    .bind(to.since)
    .bind(to.told)
    .execute(&mut *transaction)
    .await?
    .rows_affected()
        > 0;
    if let Some(fired) = fired.filter(|_| moved) {
        sqlx::query(
            "INSERT INTO sluice_alert_outbox (id, alert, subject, state, detail, due_at, outcome)
             VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN now() END, CASE WHEN NOT $6 THEN 'kept' END)",
        )
        .bind(fired.id)
        .bind(alert.id)
        .bind(fired.subject.to_string())
        .bind(if fired.is_over { "resolved" } else { "fired" })
        .bind(fired.detail.replace('\0', ""))
        .bind(alert.target.is_some())
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(moved)
}
