//! What is remembered of the parts around the store, in the embedded file.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::{
    PART, SqliteStore,
    lease::{json, time},
    rows::instant,
    trim::COUNTED,
};
use crate::{
    domain::TableName,
    fault::Fault,
    identity::Identity,
    log::embedded::RENEW,
    source::BEGINNING,
    store::{
        Notice, NoticeKind, Notices, Owed,
        notices::{INDEX, MAX_SHOWN},
    },
};

fn known(db: &rusqlite::Connection, place: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT id FROM sluice_parts WHERE place = ?")?
        .query_row([place], |row| row.get(0))
        .optional()
}

/// What is owed where a part is another than it was.
#[derive(Clone)]
enum Owing {
    /// Of a sink: the log has it.
    Nothing,
    AllOfTheLog,
    Table(TableName),
}

/// Without a kind no notice is made.
fn meet(
    db: &Transaction<'_>,
    met: &Identity,
    kind: Option<NoticeKind>,
    owing: &Owing,
) -> rusqlite::Result<Option<String>> {
    let before = known(db, &met.place)?;
    db.execute("INSERT OR REPLACE INTO sluice_parts (place, id) VALUES (?, ?)", params![met.place, met.id])?;
    let Some(before) = before.filter(|before| *before != met.id) else { return Ok(None) };
    if let Some(kind) = kind {
        if let Owing::Table(_) = owing {
            db.execute(
                "DELETE FROM sluice_notices WHERE kind = ? AND part = ?",
                [kind.as_str(), &met.place],
            )?;
        }
        insert(db, &Notice::replaced(kind, met))?;
    }
    match owing {
        Owing::Nothing => forget_drained(db)?,
        Owing::AllOfTheLog => {
            let old = Identity { place: met.place.clone(), id: before.clone() };
            owe(db, "log", &old.to_string())?;
        }
        Owing::Table(table) => owe(db, "table_name", &table.0)?,
    }
    Ok(Some(before))
}

/// `false` when it was there.
fn insert(db: &Transaction<'_>, notice: &Notice) -> rusqlite::Result<bool> {
    let inserted = db.execute(
        "INSERT INTO sluice_notices VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        params![
            notice.kind.as_str(),
            notice.part,
            notice.log,
            notice.partition.unwrap_or(-1),
            notice.from,
            notice.to,
            instant(notice.noticed_at)
        ],
    )?;
    Ok(inserted == 1)
}

/// What is covered and has this in that column; and from its beginning what nothing is covered of, though it was read as
/// tables are that don't tell of changes. What was only read by conditions is not owed: that would bring all its rows.
fn owe(db: &Transaction<'_>, column: &str, value: &str) -> rusqlite::Result<()> {
    db.execute(
        &format!(
            "INSERT INTO sluice_owed SELECT table_name, min(covered_from), ?2 FROM (
                 SELECT table_name, covered_from FROM sluice_coverage WHERE {column} = ?1
                 UNION ALL
                 SELECT s.table_name, ?3 FROM sluice_syncs AS s
                 WHERE s.{column} = ?1 AND s.state = 'succeeded' AND json_extract(s.request, '$.since') IS NULL
                     AND coalesce(json_array_length(s.request, '$.conditions'), 0) = 0
                     AND NOT EXISTS (
                         SELECT 1 FROM sluice_coverage AS c WHERE c.log = s.log AND c.table_name = s.table_name
                     )
             ) AS lost
             GROUP BY table_name
             ON CONFLICT (table_name) DO UPDATE
             SET owed_from = min(owed_from, excluded.owed_from), since = excluded.since"
        ),
        params![value, instant(Utc::now()), instant(BEGINNING)],
    )?;
    Ok(())
}

/// Tables of sluice's own were dropped and are there again, empty.
pub(crate) fn tables_were_dropped(db: &Transaction<'_>, dropped: &[&str]) -> rusqlite::Result<()> {
    for table in dropped {
        match *table {
            "eventos_raw" => {
                // Every event that comes again is counted again, but for those that were trimmed.
                db.execute("DELETE FROM eventos_agregados", [])?;
                db.execute_batch(&add_up())?;
                table_was_dropped(db, table)?;
                continue;
            }
            "eventos_agregados" if !dropped.contains(&"eventos_raw") => db.execute_batch(&add_up())?,
            "log_records" => db.execute_batch(&format!("{RENEW} DELETE FROM log_starts;"))?,
            _ => {}
        }
        notice_of_table(db, NoticeKind::TableDropped, table)?;
    }
    if !dropped.is_empty() {
        tracing::warn!(tables = ?dropped, "tables were dropped and are made anew");
    }
    Ok(())
}

/// Fills the rollup anew.
fn add_up() -> String {
    format!(
        "INSERT INTO eventos_agregados (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
         SELECT strftime('%Y-%m-%dT%H:%M:%S.000000Z', inicio, 'unixepoch'),
                strftime('%Y-%m-%dT%H:%M:%S.000000Z', inicio + 300, 'unixepoch'), categoria, evento, sum(total), sum(soma)
         FROM (SELECT unixepoch(instante) - ((unixepoch(instante) % 300) + 300) % 300 AS inicio,
                      categoria, evento, total, soma
               FROM {COUNTED})
         GROUP BY inicio, categoria, evento"
    )
}

fn notice_of_table(db: &Transaction<'_>, kind: NoticeKind, table: &str) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO sluice_notices VALUES (?, ?, '', -1, 0, 0, ?)",
        params![kind.as_str(), format!("{PART}/{table}"), instant(Utc::now())],
    )?;
    Ok(())
}

/// A sink that is not what it was has nothing of what it had.
fn forget_drained(db: &Transaction<'_>) -> rusqlite::Result<()> {
    db.execute("UPDATE sluice_syncs SET drained = 0 WHERE drained", [])?;
    Ok(())
}

/// A table that sluice had made is not there: the log is read again from its beginning, whoever reads it now.
pub(super) fn table_was_dropped(db: &Transaction<'_>, table: &str) -> rusqlite::Result<()> {
    notice_of_table(db, NoticeKind::SinkReplaced, table)?;
    forget_drained(db)?;
    db.execute("UPDATE sluice_offsets SET next_offset = NULL, epoch = epoch + 1", [])?;
    Ok(())
}

fn notice(row: &Row<'_>) -> rusqlite::Result<Option<Notice>> {
    let Some(kind) = NoticeKind::from_name(&row.get::<_, String>(0)?) else { return Ok(None) };
    let partition: i32 = row.get(3)?;
    Ok(Some(Notice {
        kind,
        part: row.get(1)?,
        log: row.get(2)?,
        partition: Some(partition).filter(|partition| *partition >= 0),
        from: row.get(4)?,
        to: row.get(5)?,
        noticed_at: time(row, 6)?,
    }))
}

impl SqliteStore {
    async fn meet(
        &self,
        met: &Identity,
        kind: Option<NoticeKind>,
        owing: Owing,
    ) -> Result<Option<String>, Fault> {
        let place = met.place.clone();
        let before = self.db.read("reading which part this is", move |db| known(db, &place)).await?;
        if before.as_ref() == Some(&met.id) {
            return Ok(None);
        }
        let met = met.clone();
        self.db.write("remembering which part this is", move |db| meet(db, &met, kind, &owing)).await
    }

    async fn noticed(
        &self,
        kinds: &[NoticeKind],
        since: DateTime<Utc>,
        limit: Option<u32>,
    ) -> Result<Vec<Notice>, Fault> {
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let kinds = json(&kinds);
        self.db
            .read("reading the notices", move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT kind, part, log, partition, from_offset, to_offset, noticed_at FROM sluice_notices
                     WHERE kind IN (SELECT value FROM json_each(?)) AND noticed_at >= ?
                     ORDER BY noticed_at DESC, part, partition LIMIT ?",
                )?;
                let limit = limit.map_or(-1, i64::from);
                let mut notices = Vec::new();
                for found in statement.query_map(params![kinds, instant(since), limit], notice)? {
                    notices.extend(found?);
                }
                Ok(notices)
            })
            .await
    }
}

#[async_trait]
impl Notices for SqliteStore {
    async fn meet_log(&self, log: &Identity) -> Result<Option<String>, Fault> {
        self.meet(log, Some(NoticeKind::LogReplaced), Owing::AllOfTheLog).await
    }

    async fn meet_sink(&self, piece: &Identity) -> Result<Option<String>, Fault> {
        self.meet(piece, Some(NoticeKind::SinkReplaced), Owing::Nothing).await
    }

    async fn meet_index(&self, id: &str) -> Result<(), Fault> {
        let met = Identity { place: INDEX.to_owned(), id: id.to_owned() };
        self.meet(&met, None, Owing::Nothing).await.map(drop)
    }

    async fn met_source(&self, place: &str) -> Result<Option<String>, Fault> {
        let place = place.to_owned();
        self.db.read("reading where a table was read from", move |db| known(db, &place)).await
    }

    async fn meet_source(&self, table: &TableName, origin: &Identity) -> Result<Option<String>, Fault> {
        self.meet(origin, Some(NoticeKind::SourceReplaced), Owing::Table(table.clone())).await
    }

    async fn note(&self, notice: &Notice) -> Result<(), Fault> {
        let notice = notice.clone();
        self.db
            .write("remembering a notice", move |db| {
                if insert(db, &notice)? && notice.owes() {
                    // The versions stay: the next ones must be larger. So does what a removal is called: no row's event is, and
                    // it is appended again by that name.
                    db.execute(
                        "UPDATE sluice_appended SET event = ?2 WHERE log = ?1 AND NOT removed",
                        params![notice.log, Uuid::nil().to_string()],
                    )?;
                    owe(db, "log", &notice.log)?;
                }
                Ok(())
            })
            .await
    }

    async fn notices(&self, since: DateTime<Utc>) -> Result<Vec<Notice>, Fault> {
        self.noticed(&NoticeKind::ALL, since, Some(MAX_SHOWN)).await
    }

    async fn every_notice(&self, kinds: &[NoticeKind], since: DateTime<Utc>) -> Result<Vec<Notice>, Fault> {
        self.noticed(kinds, since, None).await
    }

    async fn owed(&self) -> Result<Vec<Owed>, Fault> {
        self.db
            .read("reading what is owed", |db| {
                db.prepare_cached("SELECT table_name, owed_from, since FROM sluice_owed ORDER BY 1")?
                    .query_map([], |row| {
                        Ok(Owed { table: TableName(row.get(0)?), from: time(row, 1)?, since: time(row, 2)? })
                    })?
                    .collect()
            })
            .await
    }

    async fn settle_owed(&self, owed: &Owed) -> Result<(), Fault> {
        let owed = owed.clone();
        self.db
            .write("settling what was owed", move |db| {
                db.execute(
                    "DELETE FROM sluice_owed WHERE table_name = ? AND since = ?",
                    params![owed.table.0, instant(owed.since)],
                )?;
                Ok(())
            })
            .await
    }
}
