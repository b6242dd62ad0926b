//! Alerts in the embedded file. Every change is a transaction of its own, one after the other.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, Row, Transaction, params};
use uuid::Uuid;

use super::{
    SqliteStore,
    lease::{from_json, json, parsed, time},
    rows::{self, instant},
};
use crate::{
    domain::{Json, Table, TableName},
    fault::Fault,
    sink::SinkBatch,
    store::{
        Alert, AlertFired, Alerts, Attempt, Episode, EpisodeFired, MAX_WAITING, NewAlert, Outgoing, RowFired,
        TOLD_WITHIN, Version,
        alerts::{EPISODES_KEPT_FOR, SENDING_FOR},
    },
};

/// Every alert, with what it told where that is to be counted.
fn every_alert(counted: bool) -> String {
    format!(
        "SELECT a.id, a.name, a.target, a.rule, a.queued_from, a.created_by, a.created_at, a.holds_since, a.episode,
             a.failing_since, a.last_error, count(o.id), max(o.fired_at), count(o.due_at),
             min(CASE WHEN o.due_at IS NOT NULL THEN o.fired_at END),
             count(CASE WHEN o.outcome = 'lost' AND o.fired_at > ? THEN 1 END)
         FROM sluice_alerts AS a LEFT JOIN sluice_alert_outbox AS o ON {counted} AND o.alert = a.id
         GROUP BY a.id ORDER BY a.name"
    )
}

/// A version and the one before it.
const VERSION: &str = "e.dados, (
     SELECT p.dados FROM eventos_raw AS p
     WHERE p.entidade_id = q.entity AND p.tipo_evento = e.tipo_evento AND p.versao < q.versao
     ORDER BY p.versao DESC LIMIT 1
 ), e.processado_em";

/// Queues the versions of a batch that move a row on, where an alert watches its table. What was stored before is no news,
/// though its row may be gone: a table that somebody dropped is filled anew.
pub(super) fn queue(db: &Transaction<'_>, batch: &SinkBatch) -> rusqlite::Result<()> {
    let watched: Vec<String> = db
        .prepare_cached("SELECT DISTINCT table_name FROM sluice_alerts WHERE table_name IS NOT NULL")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for event in batch.events.iter().filter(|event| !event.event.entidade.removida && event.has_key()) {
        let Some(table) = event.table.filter(|table| watched.iter().any(|name| name == table.name())) else {
            continue;
        };
        let entity = &event.event.entidade;
        db.prepare_cached(&format!(
            "INSERT INTO sluice_alert_queue (table_name, entity, event, versao)
             SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (
                 SELECT 1 FROM \"{table}\" WHERE \"{}\" = ?5 AND (versao > ?4 OR (versao = ?4 AND evento_id = ?3))
             ) AND NOT EXISTS (SELECT 1 FROM sluice_removed WHERE table_name = ?1 AND entity = ?2 AND versao > ?4)
             AND NOT EXISTS (SELECT 1 FROM eventos_raw WHERE id = ?3)
             AND NOT EXISTS (SELECT 1 FROM sluice_trimmed WHERE entidade_id = ?2 AND tipo_evento = ?6 AND id = ?3)",
            table.key.column
        ))?
        .execute(params![
            table.name(),
            entity.id,
            event.event.id.to_string(),
            entity.versao,
            rows::key(table, &entity.id),
            table.entity
        ])?;
    }
    Ok(())
}

fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let text: Option<String> = row.get(column)?;
    text.map(|_| time(row, column)).transpose()
}

fn optional_json(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Json>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| Json::try_from(Bytes::from(text)).ok()))
}

fn version(row: &Row<'_>) -> rusqlite::Result<Version> {
    Ok(Version {
        position: row.get(0)?,
        table: TableName(row.get(1)?),
        entity: row.get(2)?,
        event: parsed(row, 3)?,
        row: optional_json(row, 4)?,
        before: optional_json(row, 5)?,
        stored_at: optional_time(row, 6)?,
    })
}

fn alert(row: &Row<'_>) -> rusqlite::Result<Alert> {
    let told: Option<String> = row.get(8)?;
    let episode = Episode { since: optional_time(row, 7)?, told: told.map(|_| parsed(row, 8)).transpose()? };
    Ok(Alert {
        id: parsed(row, 0)?,
        name: row.get(1)?,
        target: row.get(2)?,
        rule: from_json(row, 3)?,
        queued_from: row.get(4)?,
        created_by: row.get(5)?,
        created_at: time(row, 6)?,
        episode,
        failing_since: optional_time(row, 9)?,
        last_error: row.get(10)?,
        fired: row.get(11)?,
        last_fired_at: optional_time(row, 12)?,
        waiting: row.get(13)?,
        waiting_since: optional_time(row, 14)?,
        lost: row.get(15)?,
    })
}

fn outgoing(row: &Row<'_>) -> rusqlite::Result<Outgoing> {
    Ok(Outgoing {
        id: parsed(row, 0)?,
        alert: row.get(1)?,
        rule: from_json(row, 2)?,
        target: row.get(3)?,
        is_over: row.get::<_, String>(4)? == "resolved",
        table: row.get::<_, Option<String>>(5)?.map(TableName),
        subject: row.get(6)?,
        row: optional_json(row, 7)?,
        detail: row.get(8)?,
        fired_at: time(row, 9)?,
        attempts: row.get(10)?,
    })
}

fn ago(length: Duration) -> String {
    instant(Utc::now() - TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX))
}

fn ahead(length: Duration) -> String {
    instant(Utc::now() + TimeDelta::from_std(length).unwrap_or_default())
}

#[async_trait]
impl Alerts for SqliteStore {
    async fn alerts(&self, counted: bool) -> Result<Vec<Alert>, Fault> {
        let (sql, week_ago) = (every_alert(counted), ago(Duration::from_hours(7 * 24)));
        self.db
            .read("reading the alerts", move |db| {
                db.prepare_cached(&sql)?.query_map([&week_ago], alert)?.collect()
            })
            .await
    }

    async fn recent_alerts(&self, limit: u32) -> Result<Vec<AlertFired>, Fault> {
        self.db
            .read("reading what alerts told", move |db| {
                db.prepare_cached(
                    "SELECT a.name, o.fired_at, o.state, o.table_name,
                            CASE WHEN o.table_name IS NOT NULL THEN o.subject END, o.detail
                     FROM sluice_alert_outbox AS o JOIN sluice_alerts AS a ON a.id = o.alert ORDER BY o.id DESC LIMIT ?",
                )?
                .query_map([limit], |row| {
                    Ok(AlertFired {
                        alert: row.get(0)?,
                        at: time(row, 1)?,
                        state: row.get(2)?,
                        table: row.get(3)?,
                        key: row.get(4)?,
                        detail: row.get(5)?,
                    })
                })?
                .collect()
            })
            .await
    }

    async fn create_alert(&self, alert: &NewAlert) -> Result<bool, Fault> {
        let alert = alert.clone();
        self.db
            .write("creating an alert", move |db| {
                let made = db.execute(
                    "INSERT INTO sluice_alerts (id, name, target, rule, table_name, created_by, created_at, queued_from)
                     SELECT ?, ?, ?, ?, ?, ?, ?, coalesce(max(position), 0) FROM sluice_alert_queue WHERE true
                     ON CONFLICT (name) DO NOTHING",
                    params![
                        Uuid::now_v7().to_string(),
                        alert.name,
                        alert.target,
                        json(&alert.rule),
                        alert.rule.table().map(|table| &table.0),
                        alert.by,
                        instant(Utc::now())
                    ],
                )?;
                Ok(made == 1)
            })
            .await
    }

    async fn delete_alert(&self, name: &str) -> Result<bool, Fault> {
        let name = name.to_owned();
        self.db
            .write("deleting an alert", move |db| {
                db.execute(
                    "DELETE FROM sluice_alert_outbox WHERE alert IN (SELECT id FROM sluice_alerts WHERE name = ?)",
                    [&name],
                )?;
                Ok(db.execute("DELETE FROM sluice_alerts WHERE name = ?", [&name])? == 1)
            })
            .await
    }

    async fn hold_leases(
        &self,
        owner: &str,
        wanted: &BTreeSet<String>,
        lease: Duration,
    ) -> Result<BTreeSet<String>, Fault> {
        if !self.db.is_writable() {
            return Ok(BTreeSet::new());
        }
        // Whoever held them before does not write the file any more.
        let (owner, until, wanted) = (owner.to_owned(), ahead(lease), wanted.clone());
        self.db
            .write("holding the alerts", move |db| {
                let mut hold = db.prepare_cached("INSERT OR REPLACE INTO sluice_leases VALUES (?, ?, ?)")?;
                wanted.iter().try_for_each(|name| hold.execute([name, &owner, &until]).map(|_| ()))?;
                Ok(wanted.clone())
            })
            .await
    }

    async fn held_leases(&self) -> Result<BTreeSet<String>, Fault> {
        let now = instant(Utc::now());
        self.db
            .read("looking who holds the alerts", move |db| {
                db.prepare_cached("SELECT name FROM sluice_leases WHERE held_until > ?")?
                    .query_map([&now], |row| row.get(0))?
                    .collect()
            })
            .await
    }

    async fn queued_versions(&self, tables: &[String], limit: u32) -> Result<Vec<Version>, Fault> {
        let tables = json(&tables);
        self.db
            .read("reading the queue of alerts", move |db| {
                db.prepare_cached(&format!(
                    "SELECT q.position, q.table_name, q.entity, q.event, {VERSION}
                     FROM sluice_alert_queue AS q LEFT JOIN eventos_raw AS e ON e.id = q.event
                     WHERE q.table_name IN (SELECT value FROM json_each(?))
                         OR NOT EXISTS (SELECT 1 FROM sluice_alerts AS a WHERE a.table_name = q.table_name)
                     ORDER BY q.position LIMIT ?"
                ))?
                .query_map(params![tables, limit], version)?
                .collect()
            })
            .await
    }

    async fn stored_versions(
        &self,
        table: Table,
        since: DateTime<Utc>,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: u32,
    ) -> Result<Vec<Version>, Fault> {
        let (at, id) =
            after.map_or_else(|| (instant(since), String::new()), |(at, id)| (instant(at), id.to_string()));
        self.db
            .read("reading versions", move |db| {
                db.prepare_cached(&format!(
                    "SELECT 0, '{table}', q.entity, e.id, {VERSION}
                     FROM (
                         SELECT *, entidade_id AS entity FROM eventos_raw
                         WHERE tipo_evento = ? AND evento <> ? AND (processado_em, id) > (?, ?)
                         ORDER BY processado_em, id LIMIT ?
                     ) AS q JOIN eventos_raw AS e ON e.id = q.id
                     ORDER BY e.processado_em, e.id"
                ))?
                .query_map(params![table.entity, table.definition().removed_event(), at, id, limit], version)?
                .collect()
            })
            .await
    }

    async fn take_versions(&self, positions: &[i64], fired: &[RowFired]) -> Result<(), Fault> {
        let (positions, fired) = (positions.to_vec(), fired.to_vec());
        self.db
            .write("putting into the outbox", move |db| {
                for one in &fired {
                    put(db, one)?;
                }
                let mut take = db.prepare_cached("DELETE FROM sluice_alert_queue WHERE position = ?")?;
                positions.iter().try_for_each(|position| take.execute([position]).map(|_| ()))
            })
            .await
    }

    async fn move_episode(
        &self,
        alert: &Alert,
        to: Episode,
        fired: Option<&EpisodeFired>,
    ) -> Result<bool, Fault> {
        let (alert, fired) = (alert.clone(), fired.cloned());
        self.db.write("moving an alert on", move |db| move_episode(db, &alert, to, fired.as_ref())).await
    }

    async fn take_outgoing(&self, target: &str) -> Result<Option<Outgoing>, Fault> {
        let target = target.to_owned();
        // Looking costs no write.
        let due = self.db.read("looking for what is to be sent", move |db| due(db, &target)).await?;
        let Some(due) = due.filter(|_| self.db.is_writable()) else { return Ok(None) };
        self.db
            .write("taking what is to be sent", move |db| {
                db.execute(
                    "UPDATE sluice_alert_outbox SET attempts = attempts + 1, due_at = ? WHERE id = ?",
                    params![ahead(SENDING_FOR), due],
                )?;
                db.prepare_cached(
                    "SELECT o.id, a.name, a.rule, a.target, o.state, o.table_name, o.subject, e.dados, o.detail,
                            o.fired_at, o.attempts
                     FROM sluice_alert_outbox AS o JOIN sluice_alerts AS a ON a.id = o.alert
                     LEFT JOIN eventos_raw AS e ON e.id = o.event
                     WHERE o.id = ?",
                )?
                .query_map([&due], outgoing)?
                .next()
                .transpose()
            })
            .await
    }

    async fn sent(&self, outgoing: &Outgoing, attempt: &Attempt) -> Result<(), Fault> {
        let (outgoing, attempt) = (outgoing.clone(), attempt.clone());
        self.db
            .write("keeping what was sent", move |db| {
                let (outcome, again, error) = match &attempt {
                    Attempt::Delivered => (Some("delivered"), None, None),
                    Attempt::Refused { error } => (Some("lost"), None, Some(error)),
                    Attempt::Failed { error, again_in } => (None, Some(ahead(*again_in)), Some(error)),
                };
                db.execute(
                    "UPDATE sluice_alert_outbox SET outcome = ?, due_at = ? WHERE id = ?",
                    params![outcome, again, outgoing.id.to_string()],
                )?;
                db.execute(
                    "UPDATE sluice_alerts
                     SET failing_since = CASE WHEN ?2 IS NOT NULL THEN coalesce(failing_since, ?3) END,
                         last_error = CASE WHEN ?2 IS NOT NULL OR name = ?5 THEN ?1 END
                     WHERE target = ?4",
                    params![error, again, instant(Utc::now()), outgoing.target, outgoing.alert],
                )?;
                Ok(())
            })
            .await
    }

    async fn tidy_outbox(&self) -> Result<(), Fault> {
        let (given_up, old) = (ago(TOLD_WITHIN), ago(EPISODES_KEPT_FOR));
        self.db
            .write("tidying the outbox", move |db| {
                db.execute(
                    "DELETE FROM sluice_alert_outbox WHERE table_name IS NULL AND due_at IS NULL AND fired_at < ?",
                    [&old],
                )?;
                db.execute(
                    "UPDATE sluice_alert_outbox SET due_at = NULL, outcome = 'lost'
                     WHERE due_at IS NOT NULL AND fired_at < ?",
                    [&given_up],
                )?;
                Ok(())
            })
            .await
    }
}

/// The oldest of what waits for a target, where it is due.
fn due(db: &Connection, target: &str) -> rusqlite::Result<Option<String>> {
    let mut oldest = db.prepare_cached(
        "SELECT o.id, o.due_at FROM sluice_alert_outbox AS o JOIN sluice_alerts AS a ON a.id = o.alert
         WHERE o.due_at IS NOT NULL AND a.target = ? ORDER BY o.id LIMIT 1",
    )?;
    let now = instant(Utc::now());
    let first = oldest.query_map([target], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?.next();
    Ok(first.transpose()?.filter(|(_, at)| *at <= now).map(|(id, _)| id))
}

/// Puts what a version fired into the outbox, unless the version is not in the queue any more.
fn put(db: &Transaction<'_>, fired: &RowFired) -> rusqlite::Result<()> {
    let waiting: i64 = db
        .prepare_cached("SELECT count(*) FROM sluice_alert_outbox WHERE alert = ? AND due_at IS NOT NULL")?
        .query_row([fired.alert.to_string()], |row| row.get(0))?;
    let now = instant(Utc::now());
    db.prepare_cached(
        "INSERT INTO sluice_alert_outbox (id, alert, subject, state, table_name, event, fired_at, due_at, outcome)
         SELECT ?1, a.id, q.entity, 'fired', q.table_name, q.event, ?4,
                CASE WHEN a.target IS NOT NULL AND NOT ?5 THEN ?4 END,
                CASE WHEN a.target IS NULL THEN 'kept' WHEN ?5 THEN 'lost' END
         FROM sluice_alert_queue AS q JOIN sluice_alerts AS a ON a.id = ?2 WHERE q.position = ?3
         ON CONFLICT (alert, subject, state) DO NOTHING",
    )?
    .execute(params![fired.id.to_string(), fired.alert.to_string(), fired.position, now, waiting >= MAX_WAITING])?;
    Ok(())
}

fn move_episode(
    db: &Transaction<'_>,
    alert: &Alert,
    to: Episode,
    fired: Option<&EpisodeFired>,
) -> rusqlite::Result<bool> {
    let text = |id: Option<Uuid>| id.map(|id| id.to_string());
    let moved = db.execute(
        "UPDATE sluice_alerts SET holds_since = ?4, episode = ?5 WHERE id = ?1 AND holds_since IS ?2 AND episode IS ?3",
        params![
            alert.id.to_string(),
            alert.episode.since.map(instant),
            text(alert.episode.told),
            to.since.map(instant),
            text(to.told)
        ],
    )? == 1;
    if let Some(fired) = fired.filter(|_| moved) {
        let now = instant(Utc::now());
        db.execute(
            "INSERT INTO sluice_alert_outbox (id, alert, subject, state, detail, fired_at, due_at, outcome)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                fired.id.to_string(),
                alert.id.to_string(),
                fired.subject.to_string(),
                if fired.is_over { "resolved" } else { "fired" },
                fired.detail,
                now,
                alert.target.as_ref().map(|_| &now),
                alert.target.is_none().then_some("kept")
            ],
        )?;
    }
    Ok(moved)
}
