//! What operators ask for, in the embedded file.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use uuid::Uuid;

use super::{
    PART, SqliteStore, lease,
    lease::{from_json, json, parsed, time, unreadable},
    prepare,
    rows::instant,
};
use crate::{
    domain::{Table, TableName},
    fault::Fault,
    log::Extent,
    store::{
        DrainBeat, Operations, ParkedEntity, Pause, Resolution, RowColumns, Schedule, ScheduledRun, Settled,
        StoreFacts, SyncFilter, SyncRecord, SyncRequest, operations::MENDED_BY,
    },
};

const SCHEDULE: &str = "every_ms, request, created_by, next_due_at, claimed_by, claimed_until, last_run, last_success_at, claim, created_at";

/// The first word about a letter stays; another letter at its place is of a new topic. Its sink is ?8, or else as it was noted.
const SETTLE: &str = "INSERT INTO sluice_resolved_letters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, coalesce(?8, (
        SELECT sink FROM sluice_parked_letters
        WHERE log = ?1 AND partition = ?2 AND \"offset\" = ?3 AND letter_id = ?4
    )))
    ON CONFLICT (log, partition, \"offset\") DO UPDATE
    SET letter_id = excluded.letter_id, resolution = excluded.resolution,
        resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at,
        sink = coalesce(excluded.sink, sink)
    WHERE letter_id <> excluded.letter_id OR excluded.resolution = 'erased' OR resolution = 'mended'";

#[async_trait]
impl Operations for SqliteStore {
    async fn pauses(&self) -> Result<Vec<Pause>, Fault> {
        self.db
            .read("reading the pauses", |db| {
                db.prepare_cached("SELECT consumer_group, paused_by, since FROM sluice_pauses ORDER BY 1")?
                    .query_map([], pause)?
                    .collect()
            })
            .await
    }

    async fn pause(&self, group: &str, by: &str) -> Result<Pause, Fault> {
        let (group, by) = (group.to_owned(), by.to_owned());
        self.db
            .write("pausing a sink", move |db| {
                db.execute(
                    "INSERT INTO sluice_pauses VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    params![group, by, instant(Utc::now())],
                )?;
                db.query_row(
                    "SELECT consumer_group, paused_by, since FROM sluice_pauses WHERE consumer_group = ?",
                    [&group],
                    pause,
                )
            })
            .await
    }

    async fn resume(&self, group: &str) -> Result<bool, Fault> {
        let group = group.to_owned();
        self.db
            .write("resuming a sink", move |db| {
                Ok(db.execute("DELETE FROM sluice_pauses WHERE consumer_group = ?", [&group])? == 1)
            })
            .await
    }

    async fn report_drains(&self, beats: &[DrainBeat]) -> Result<(), Fault> {
        let beats = beats.to_vec();
        self.db
            .write("telling of the drains", move |db| {
                let now = Utc::now();
                db.execute(
                    "DELETE FROM sluice_drains WHERE seen_at < ?",
                    [instant(now - TimeDelta::days(1))],
                )?;
                let mut statement =
                    db.prepare_cached("INSERT OR REPLACE INTO sluice_drains VALUES (?, ?, ?, ?, ?, ?)")?;
                for beat in &beats {
                    statement.execute(params![
                        beat.consumer_group,
                        beat.owner,
                        beat.state,
                        beat.failing_since.map(instant),
                        beat.last_error,
                        instant(now)
                    ])?;
                }
                Ok(())
            })
            .await
    }

    async fn forget_drains(&self, owner: &str) -> Result<(), Fault> {
        let owner = owner.to_owned();
        self.db
            .write("telling of the drains", move |db| {
                db.execute("DELETE FROM sluice_drains WHERE owner = ?", [&owner])
            })
            .await?;
        Ok(())
    }

    async fn drain_beats(&self, within: Duration) -> Result<Vec<DrainBeat>, Fault> {
        let since = Utc::now() - TimeDelta::from_std(within).unwrap_or(TimeDelta::MAX);
        self.db
            .read("reading of the drains", move |db| {
                db.prepare_cached(
                    "SELECT consumer_group, owner, state, failing_since, last_error, seen_at FROM sluice_drains
                     WHERE seen_at > ? AND seen_at < ? ORDER BY consumer_group, owner",
                )?
                .query_map([instant(since), instant(Utc::now() + TimeDelta::minutes(1))], beat)?
                .collect()
            })
            .await
    }

    async fn settle(&self, log: &str, letters: &[Resolution]) -> Result<(), Fault> {
        let (log, letters) = (log.to_owned(), letters.to_vec());
        self.db
            .write("settling dead letters", move |db| {
                let mut statement = db.prepare_cached(SETTLE)?;
                for letter in &letters {
                    statement.execute(params![
                        log,
                        letter.partition,
                        letter.offset,
                        letter.letter.to_string(),
                        letter.settled.as_str(),
                        letter.by,
                        instant(letter.at),
                        None::<&str>
                    ])?;
                }
                Ok(())
            })
            .await
    }

    async fn settled(&self, log: &str, extent: Extent) -> Result<Vec<Resolution>, Fault> {
        let log = log.to_owned();
        self.db
            .read("reading settled dead letters", move |db| {
                db.prepare_cached(
                    "SELECT partition, \"offset\", letter_id, resolution, resolved_by, resolved_at
                     FROM sluice_resolved_letters
                     WHERE log = ? AND partition = ? AND \"offset\" >= ? AND \"offset\" < ?",
                )?
                .query_map(params![log, extent.partition, extent.low, extent.high], resolution)?
                .collect()
            })
            .await
    }

    async fn settled_count(&self, log: &str, extents: &[Extent]) -> Result<u64, Fault> {
        let (log, extents) = (log.to_owned(), extents.to_vec());
        self.db
            .read("counting settled dead letters", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT count(*) FROM sluice_resolved_letters
                     WHERE log = ? AND partition = ? AND \"offset\" >= ? AND \"offset\" < ?",
                )?;
                let mut sum = 0;
                for extent in &extents {
                    let count: i64 = statement
                        .query_row(params![log, extent.partition, extent.low, extent.high], |row| {
                            row.get(0)
                        })?;
                    sum += u64::try_from(count).unwrap_or_default();
                }
                Ok(sum)
            })
            .await
    }

    async fn settled_elsewhere(&self, log: &str, sink: &str) -> Result<u64, Fault> {
        let (log, sink) = (log.to_owned(), sink.to_owned());
        self.db
            .read("counting settled dead letters", move |db| {
                db.prepare_cached(
                    "SELECT count(*) FROM sluice_resolved_letters
                     WHERE log <> ? AND sink = ? AND resolution IN ('discarded', 'mended')",
                )?
                .query_row([&log, &sink], |row| row.get(0))
            })
            .await
    }

    async fn note_parked(&self, log: &str, letters: &[ParkedEntity]) -> Result<(), Fault> {
        let (log, letters) = (log.to_owned(), letters.to_vec());
        self.db
            .write("noting parked rows", move |db| {
                let mut statement = db.prepare_cached(
                    "INSERT INTO sluice_parked_letters (log, partition, \"offset\", letter_id, table_name, entity, sink)
                     VALUES (?, ?, ?, ?, ?, ?, ?)
                     ON CONFLICT (log, partition, \"offset\") DO UPDATE
                     SET letter_id = excluded.letter_id, table_name = excluded.table_name, entity = excluded.entity,
                         sink = excluded.sink",
                )?;
                for letter in &letters {
                    statement.execute(params![
                        log,
                        letter.partition,
                        letter.offset,
                        letter.letter.to_string(),
                        letter.table.0,
                        letter.entity,
                        letter.sink
                    ])?;
                }
                Ok(())
            })
            .await
    }

    async fn settle_mended(&self, log: &str, table: &TableName, entities: &[String]) -> Result<u64, Fault> {
        let (log, table, entities) = (log.to_owned(), table.clone(), entities.to_vec());
        // Looking costs no write, and most often there is none.
        let sought = (log.clone(), table.clone(), entities);
        let parked = self.db.read("looking for letters of mended rows", move |db| {
            let (log, table, entities) = &sought;
            let mut statement = db.prepare_cached(
                "SELECT 1 FROM sluice_parked_letters WHERE log = ? AND table_name = ? AND entity = ?",
            )?;
            let mut parked = Vec::new();
            for entity in entities {
                if statement.exists(params![log, table.0, entity])? {
                    parked.push(entity.clone());
                }
            }
            Ok(parked)
        });
        let parked = parked.await?;
        if parked.is_empty() {
            return Ok(0);
        }
        self.db
            .write("settling letters of mended rows", move |db| {
                let mut take = db.prepare_cached(
                    "DELETE FROM sluice_parked_letters WHERE log = ? AND table_name = ? AND entity = ?
                     RETURNING partition, \"offset\", letter_id, sink",
                )?;
                let mut settle = db.prepare_cached(SETTLE)?;
                let mut settled = 0;
                for entity in &parked {
                    let letters: Vec<(i32, i64, String, Option<String>)> = take
                        .query_map(params![log, table.0, entity], |row| {
                            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                        })?
                        .collect::<rusqlite::Result<_>>()?;
                    for (partition, offset, letter, sink) in letters {
                        let (how, now) = (Settled::Mended.as_str(), instant(Utc::now()));
                        settled += settle
                            .execute(params![log, partition, offset, letter, how, MENDED_BY, now, sink])?;
                    }
                }
                Ok(u64::try_from(settled).unwrap_or_default())
            })
            .await
    }

    async fn entities_with_letters(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Fault> {
        let (log, after) = (log.to_owned(), after.map(str::to_owned));
        self.db
            .read("looking for entities with letters", move |db| {
                db.prepare_cached(
                    "SELECT DISTINCT p.entity FROM sluice_parked_letters AS p
                     WHERE p.log = ?1 AND p.table_name = ?2 AND (?3 IS NULL OR p.entity > ?3) AND NOT EXISTS (
                         SELECT 1 FROM sluice_resolved_letters AS r
                         WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                             AND r.letter_id = p.letter_id AND (p.sink IS NOT NULL OR r.resolution <> 'discarded')
                     ) ORDER BY p.entity LIMIT ?4",
                )?
                .query_map(params![log, table.name(), after, limit], |row| row.get(0))?
                .collect()
            })
            .await
    }

    async fn parked_count(&self, log: &str, table: &TableName) -> Result<u64, Fault> {
        let (log, table) = (log.to_owned(), table.0.clone());
        self.db
            .read("counting parked rows", move |db| {
                db.prepare_cached(
                    "SELECT count(DISTINCT p.entity) FROM sluice_parked_letters AS p
                     WHERE p.log = ?1 AND p.table_name = ?2 AND NOT EXISTS (
                         SELECT 1 FROM sluice_resolved_letters AS r
                         WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                             AND r.letter_id = p.letter_id
                     )",
                )?
                .query_row(params![log, table], |row| row.get(0))
            })
            .await
    }

    async fn open_by_sink(&self, log: &str, extents: &[Extent]) -> Result<Vec<(Option<String>, u64)>, Fault> {
        let (log, extents) = (log.to_owned(), extents.to_vec());
        self.db
            .read("counting open letters", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT p.sink, count(*) FROM sluice_parked_letters AS p
                     WHERE p.log = ?1 AND p.partition = ?2 AND p.\"offset\" >= ?3 AND NOT EXISTS (
                         SELECT 1 FROM sluice_resolved_letters AS r
                         WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                             AND r.letter_id = p.letter_id
                     ) GROUP BY p.sink",
                )?;
                let mut open: BTreeMap<Option<String>, u64> = BTreeMap::new();
                for extent in &extents {
                    let mut found = statement.query(params![log, extent.partition, extent.low])?;
                    while let Some(row) = found.next()? {
                        *open.entry(row.get(0)?).or_default() += row.get::<_, u64>(1)?;
                    }
                }
                Ok(open.into_iter().collect())
            })
            .await
    }

    async fn known_columns(&self, table: &TableName) -> Result<Option<Vec<String>>, Fault> {
        let table = table.clone();
        self.db
            .read("reading a table's columns", move |db| {
                db.prepare_cached("SELECT columns FROM sluice_source_columns WHERE table_name = ?")?
                    .query_row([&table.0], |row| from_json(row, 0))
                    .optional()
            })
            .await
    }

    async fn remember_columns(&self, table: &TableName, columns: &[String]) -> Result<(), Fault> {
        let (table, columns) = (table.clone(), json(&columns));
        self.db
            .write("remembering a table's columns", move |db| {
                db.execute(
                    "INSERT INTO sluice_source_columns (table_name, columns) VALUES (?, ?)
                     ON CONFLICT (table_name) DO UPDATE SET columns = excluded.columns",
                    params![table.0, columns],
                )?;
                Ok(())
            })
            .await
    }

    async fn row_columns(&self, table: &TableName, project: &str) -> Result<RowColumns, Fault> {
        let (table, project) = (table.clone(), project.to_owned());
        self.db
            .read("reading the columns of a table's rows", move |db| {
                db.prepare_cached(
                    "SELECT columns, gone FROM sluice_row_columns WHERE table_name = ? AND project = ?",
                )?
                .query_row([&table.0, &project], |row| {
                    Ok(RowColumns { now: from_json(row, 0)?, gone: from_json(row, 1)? })
                })
                .optional()
            })
            .await
            .map(Option::unwrap_or_default)
    }

    async fn remember_row_columns(
        &self,
        table: &TableName,
        project: &str,
        columns: &RowColumns,
    ) -> Result<(), Fault> {
        let (table, project) = (table.clone(), project.to_owned());
        let (now, gone) = (json(&columns.now), json(&columns.gone));
        self.db
            .write("remembering the columns of a table's rows", move |db| {
                db.execute(
                    "INSERT INTO sluice_row_columns (table_name, project, columns, gone) VALUES (?, ?, ?, ?)
                     ON CONFLICT (table_name, project) DO UPDATE SET columns = excluded.columns, gone = excluded.gone",
                    params![table.0, project, now, gone],
                )?;
                Ok(())
            })
            .await
    }

    async fn kept_reading(&self, table: &TableName) -> Result<Option<String>, Fault> {
        let table = table.clone();
        self.db
            .read("looking for the reading of a table", move |db| {
                db.prepare_cached("SELECT reading FROM sluice_readings WHERE table_name = ?")?
                    .query_row([&table.0], |row| row.get(0))
                    .optional()
            })
            .await
    }

    async fn keep_reading(&self, table: &TableName, reading: Option<String>) -> Result<(), Fault> {
        let table = table.clone();
        self.db
            .write("keeping the reading of a table", move |db| {
                match &reading {
                    Some(reading) => db.execute(
                        "INSERT INTO sluice_readings (table_name, reading) VALUES (?, ?)
                         ON CONFLICT (table_name) DO UPDATE SET reading = excluded.reading",
                        params![table.0, reading],
                    )?,
                    None => db.execute("DELETE FROM sluice_readings WHERE table_name = ?", [&table.0])?,
                };
                Ok(())
            })
            .await
    }

    async fn syncs(&self, filter: &SyncFilter) -> Result<Vec<SyncRecord>, Fault> {
        let (leases, filter) = (self.known_leases(), filter.clone());
        self.db.read("listing syncs", move |db| lease::listed(db, leases.as_ref(), &filter)).await
    }

    async fn undrained_syncs(&self, limit: u32) -> Result<Vec<SyncRecord>, Fault> {
        self.db.read("looking for syncs on their way", move |db| lease::undrained(db, limit)).await
    }

    async fn note_drained(&self, syncs: &[Uuid]) -> Result<(), Fault> {
        let syncs = json(&syncs);
        self.db
            .write("noting which syncs are in every sink", move |db| {
                db.execute(
                    "UPDATE sluice_syncs SET drained = 1 WHERE id IN (SELECT value FROM json_each(?))",
                    [&syncs],
                )
            })
            .await?;
        Ok(())
    }

    async fn latest_syncs(&self, tables: &[TableName]) -> Result<Vec<SyncRecord>, Fault> {
        let (leases, tables) = (self.known_leases(), tables.to_vec());
        self.db
            .read("looking for the latest syncs", move |db| lease::latest(db, leases.as_ref(), &tables))
            .await
    }

    async fn schedules(&self) -> Result<Vec<Schedule>, Fault> {
        self.db
            .read("reading the schedules", |db| {
                db.prepare_cached(&format!("SELECT {SCHEDULE} FROM sluice_schedules ORDER BY table_name"))?
                    .query_map([], schedule)?
                    .collect()
            })
            .await
    }

    async fn put_schedule(&self, request: &SyncRequest, every: Duration, by: &str) -> Result<(), Fault> {
        let (request, by) = (request.clone(), by.to_owned());
        let every_ms = u32::try_from(every.as_millis()).unwrap_or(u32::MAX);
        self.db
            .write("writing a schedule", move |db| {
                db.execute(
                    "INSERT INTO sluice_schedules (table_name, every_ms, request, created_by, created_at, next_due_at, decided_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?5)
                     ON CONFLICT (table_name) DO UPDATE
                     SET every_ms = excluded.every_ms, request = excluded.request,
                         created_by = excluded.created_by, created_at = excluded.created_at,
                         next_due_at = excluded.next_due_at, decided_at = excluded.decided_at,
                         claimed_by = NULL, claim = NULL, claimed_until = NULL",
                    params![request.table.0, every_ms, json(&request), by, instant(Utc::now())],
                )?;
                Ok(())
            })
            .await
    }

    async fn remove_schedule(&self, table: &TableName) -> Result<bool, Fault> {
        let table = table.clone();
        self.db
            .write("removing a schedule", move |db| {
                Ok(db.execute("DELETE FROM sluice_schedules WHERE table_name = ?", [&table.0])? == 1)
            })
            .await
    }

    async fn claim_schedule(&self, owner: &str, lease: Duration) -> Result<Option<Schedule>, Fault> {
        let owner = owner.to_owned();
        let defined = json(&self.catalog.tables().map(Table::name).collect::<Vec<_>>());
        // Looking costs no write.
        let sought = defined.clone();
        if !self.db.read("looking for due schedules", move |db| due(db, &sought)).await? {
            return Ok(None);
        }
        self.db
            .write("claiming a schedule", move |db| {
                let (now, claim) = (Utc::now(), Uuid::now_v7());
                db.query_row(
                    &format!(
                        "UPDATE sluice_schedules SET claimed_by = ?5, claimed_until = ?6, claim = ?7
                         WHERE table_name = (
                             SELECT table_name FROM sluice_schedules
                             WHERE {DUE}
                             ORDER BY next_due_at LIMIT 1
                         ) RETURNING {SCHEDULE}"
                    ),
                    params![
                        instant(now),
                        instant(now + TimeDelta::minutes(1)),
                        instant(now + MAX_LEASE),
                        defined,
                        owner,
                        instant(now + length(lease)),
                        claim.to_string()
                    ],
                    // Whatever has become of it since, this is what it is held by.
                    |row| Ok(Schedule { claim: Some(claim), ..schedule(row)? }),
                )
                .optional()
            })
            .await
    }

    async fn renew_schedule(&self, claimed: &Schedule, lease: Duration) -> Result<bool, Fault> {
        let claimed = claimed.clone();
        self.db
            .write("renewing a schedule", move |db| {
                let renewed = db.execute(
                    "UPDATE sluice_schedules SET claimed_until = ? WHERE table_name = ? AND claim = ?",
                    params![
                        instant(Utc::now() + length(lease)),
                        claimed.request.table.0,
                        claimed.claim.map(|claim| claim.to_string())
                    ],
                )?;
                Ok(renewed == 1)
            })
            .await
    }

    async fn finish_schedule(
        &self,
        claimed: &Schedule,
        run: &ScheduledRun,
        next_in: Duration,
    ) -> Result<bool, Fault> {
        let (claimed, run) = (claimed.clone(), run.clone());
        self.db
            .write("finishing a scheduled run", move |db| {
                let now = Utc::now();
                let finished = db.execute(
                    "UPDATE sluice_schedules
                     SET claimed_by = NULL, claim = NULL, claimed_until = NULL, last_run = ?3,
                         last_success_at = coalesce(?4, last_success_at), next_due_at = ?5, decided_at = ?6
                     WHERE table_name = ?1 AND claim = ?2",
                    params![
                        claimed.request.table.0,
                        claimed.claim.map(|claim| claim.to_string()),
                        json(&run),
                        run.success_at().map(instant),
                        instant(now + length(next_in)),
                        instant(now)
                    ],
                )?;
                Ok(finished == 1)
            })
            .await
    }

    async fn forget_polls(&self, table: &TableName) -> Result<(), Fault> {
        let table = table.clone();
        self.db
            .write("forgetting polls", move |db| {
                db.execute(
                    "DELETE FROM sluice_syncs
                     WHERE table_name = ? AND json_extract(request, '$.since') IS NOT NULL AND state = 'succeeded'
                         AND started_at < ?",
                    params![table.0, instant(Utc::now() - TimeDelta::hours(1))],
                )?;
                Ok(())
            })
            .await
    }

    fn shortage(&self) -> Option<Fault> {
        self.db.shortage()
    }

    async fn refused_tables(&self) -> Result<Vec<(&'static str, Fault)>, Fault> {
        let catalog = self.catalog;
        let pending =
            self.db.read("reading the tables' layouts", move |db| prepare::pending(db, catalog)).await?;
        Ok(pending.1)
    }

    async fn facts(&self) -> Result<StoreFacts, Fault> {
        if let Err(fault) = self.db.check_place() {
            return Ok(StoreFacts { unfit: Some(fault), ..StoreFacts::default() });
        }
        let unfit = (!self.db.is_writable()).then(|| {
            Fault::misconfigured(
                PART,
                "another process holds the data folder",
                "stop that process, use its tools, or set SLUICE_DATA_DIR to another folder",
            )
        });
        let unfit = unfit.or_else(|| self.db.shortage());
        let catalog = self.catalog;
        let facts = self.db.read("looking for tables", move |db| {
            let dropped = prepare::dropped(db)?;
            // The file is migrated when it is opened.
            let (pending_migrations, refused) =
                if dropped.is_empty() { prepare::pending(db, catalog)? } else { (0, Vec::new()) };
            let mut triggers = db.prepare(
                "SELECT 'the trigger ' || name || ' on ' || tbl_name FROM sqlite_master WHERE type = 'trigger' ORDER BY 1",
            )?;
            let additions = triggers.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(StoreFacts { dropped, pending_migrations, refused, additions, ..StoreFacts::default() })
        });
        Ok(StoreFacts { unfit, ..facts.await? })
    }
}

/// What is due of the schedules, by the time now, that in a minute and that in [`MAX_LEASE`]: also what was decided, or claimed,
/// while the clock was ahead. Only of the tables that are named last.
const DUE: &str = "(next_due_at <= ?1 OR decided_at > ?2)
    AND (claimed_until IS NULL OR claimed_until < ?1 OR claimed_until > ?3)
    AND table_name IN (SELECT value FROM json_each(?4))";

/// No claim is held longer.
const MAX_LEASE: TimeDelta = TimeDelta::minutes(5);

fn due(db: &Connection, defined: &str) -> rusqlite::Result<bool> {
    let now = Utc::now();
    db.prepare_cached(&format!("SELECT 1 FROM sluice_schedules WHERE {DUE}"))?.exists(params![
        instant(now),
        instant(now + TimeDelta::minutes(1)),
        instant(now + MAX_LEASE),
        defined
    ])
}

fn length(lease: Duration) -> TimeDelta {
    TimeDelta::from_std(lease).unwrap_or(TimeDelta::MAX)
}

fn beat(row: &Row<'_>) -> rusqlite::Result<DrainBeat> {
    let is_failing = row.get::<_, Option<String>>(3)?.is_some();
    Ok(DrainBeat {
        consumer_group: row.get(0)?,
        owner: row.get(1)?,
        state: row.get(2)?,
        failing_since: if is_failing { Some(time(row, 3)?) } else { None },
        last_error: row.get(4)?,
        seen_at: time(row, 5)?,
    })
}

fn pause(row: &Row<'_>) -> rusqlite::Result<Pause> {
    Ok(Pause { consumer_group: row.get(0)?, paused_by: row.get(1)?, since: time(row, 2)? })
}

fn resolution(row: &Row<'_>) -> rusqlite::Result<Resolution> {
    let settled: String = row.get(3)?;
    let settled = Settled::named(&settled).ok_or(rusqlite::Error::InvalidColumnType(
        3,
        "resolution".to_owned(),
        Type::Text,
    ))?;
    Ok(Resolution {
        partition: row.get(0)?,
        offset: row.get(1)?,
        letter: parsed(row, 2)?,
        settled,
        by: row.get(4)?,
        at: time(row, 5)?,
    })
}

fn schedule(row: &Row<'_>) -> rusqlite::Result<Schedule> {
    let at = |column| -> rusqlite::Result<Option<DateTime<Utc>>> {
        let text: Option<String> = row.get(column)?;
        text.map(|_| time(row, column)).transpose()
    };
    let (now, next_due_at) = (Utc::now(), time(row, 3)?);
    let held = at(5)?.is_some_and(|until| until > now);
    let claimed_by: Option<String> = row.get(4)?;
    let last_run: Option<String> = row.get(6)?;
    let claim = row.get::<_, Option<String>>(8)?.map(|_| parsed(row, 8)).transpose()?;
    Ok(Schedule {
        every: Duration::from_millis(row.get::<_, u32>(0)?.into()),
        request: from_json(row, 1)?,
        created_by: row.get(2)?,
        age: now - time(row, 9)?,
        next_due_at,
        late: now - next_due_at,
        claimed_by: claimed_by.filter(|_| held),
        claim: claim.filter(|_| held),
        last_run: last_run
            .map(|text| serde_json::from_str(&text).map_err(|error| unreadable(6, error)))
            .transpose()?,
        last_success_at: at(7)?,
    })
}
