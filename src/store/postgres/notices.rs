//! What is remembered of the parts around the store, in Postgres.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{PgStore, faults::PART, operations::over};
use crate::{
    domain::TableName,
    fault::Fault,
    identity::Identity,
    source::BEGINNING,
    store::{
        Notice, NoticeKind, Notices, Owed,
        notices::{INDEX, MAX_SHOWN},
    },
};

/// What is owed where a part is another than it was.
#[derive(Clone, Copy)]
enum Owing<'a> {
    /// Of a sink: the log has it.
    Nothing,
    AllOfTheLog,
    Table(&'a TableName),
}

async fn known(connection: &mut PgConnection, place: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM sluice_parts WHERE place = $1")
        .bind(place)
        .fetch_optional(connection)
        .await
}

/// One process alone learns of a change: the row is locked until its notice is committed. Without a kind none is made.
async fn meet(
    connection: &mut PgConnection,
    met: &Identity,
    kind: Option<NoticeKind>,
    owing: Owing<'_>,
) -> Result<Option<String>, sqlx::Error> {
    if known(connection, &met.place).await?.as_ref() == Some(&met.id) {
        return Ok(None);
    }
    let mut transaction = connection.begin().await?;
    sqlx::query("INSERT INTO sluice_parts (place, id) VALUES ($1, $2) ON CONFLICT (place) DO NOTHING")
        .bind(&met.place)
        .bind(&met.id)
        .execute(&mut *transaction)
        .await?;
    let before: String = sqlx::query_scalar("SELECT id FROM sluice_parts WHERE place = $1 FOR UPDATE")
        .bind(&met.place)
        .fetch_one(&mut *transaction)
        .await?;
    if before == met.id {
        transaction.commit().await?;
        return Ok(None);
    }
    sqlx::query("UPDATE sluice_parts SET id = $2, since = now() WHERE place = $1")
        .bind(&met.place)
        .bind(&met.id)
        .execute(&mut *transaction)
        .await?;
    if let Some(kind) = kind {
        if let Owing::Table(_) = owing {
            sqlx::query("DELETE FROM sluice_notices WHERE kind = $1 AND part = $2")
                .bind(kind.as_str())
                .bind(&met.place)
                .execute(&mut *transaction)
                .await?;
        }
        insert(&mut transaction, &Notice::replaced(kind, met)).await?;
    }
    match owing {
        Owing::Nothing => forget_drained(&mut transaction).await?,
        Owing::AllOfTheLog => {
            let old = Identity { place: met.place.clone(), id: before.clone() };
            owe(&mut transaction, "log", &old.to_string()).await?;
        }
        Owing::Table(table) => owe(&mut transaction, "table_name", &table.0).await?,
    }
    transaction.commit().await?;
    Ok(Some(before))
}

/// `false` when it was there.
async fn insert(connection: &mut PgConnection, notice: &Notice) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "INSERT INTO sluice_notices (kind, part, log, partition, from_offset, to_offset)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(notice.kind.as_str())
    .bind(&notice.part)
    .bind(&notice.log)
    .bind(notice.partition.unwrap_or(-1))
    .bind(notice.from)
    .bind(notice.to)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// What is covered and has this in that column; and from its beginning what nothing is covered of, though it was read as
/// tables are that don't tell of changes. What was only read by conditions is not owed: that would bring all its rows.
async fn owe(connection: &mut PgConnection, column: &str, value: &str) -> Result<(), sqlx::Error> {
    sqlx::query(&format!(
        "INSERT INTO sluice_owed AS o (table_name, owed_from)
         SELECT table_name, min(covered_from) FROM (
             SELECT table_name, covered_from FROM sluice_coverage WHERE {column} = $1
             UNION ALL
             SELECT s.table_name, $2 FROM sluice_syncs AS s
             WHERE s.{column} = $1 AND s.state = 'succeeded' AND NOT s.request ? 'since'
                 AND coalesce(jsonb_array_length(s.request -> 'conditions'), 0) = 0
                 AND NOT EXISTS (SELECT FROM sluice_coverage AS c WHERE c.log = s.log AND c.table_name = s.table_name)
         ) AS lost
         GROUP BY table_name
         ON CONFLICT (table_name) DO UPDATE
         SET owed_from = least(o.owed_from, excluded.owed_from), since = clock_timestamp()",
    ))
    .bind(value)
    .bind(BEGINNING)
    .execute(connection)
    .await?;
    Ok(())
}

/// A sink that is not what it was has nothing of what it had.
async fn forget_drained(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sluice_syncs SET drained = false WHERE drained").execute(connection).await?;
    Ok(())
}

/// A table that sluice had made is not there: the log is read again from its beginning, whoever reads it now.
pub(super) async fn table_was_dropped(connection: &mut PgConnection, table: &str) -> Result<(), sqlx::Error> {
    notice_of_table(connection, NoticeKind::SinkReplaced, table).await?;
    forget_drained(connection).await?;
    sqlx::query("UPDATE sluice_offsets SET next_offset = NULL, epoch = epoch + 1, updated_at = now()")
        .execute(connection)
        .await?;
    Ok(())
}

/// A table of sluice's own was dropped and is there again, empty.
pub(super) async fn own_table_was_dropped(
    connection: &mut PgConnection,
    table: &str,
) -> Result<(), sqlx::Error> {
    notice_of_table(connection, NoticeKind::TableDropped, table).await
}

async fn notice_of_table(
    connection: &mut PgConnection,
    kind: NoticeKind,
    table: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sluice_notices (kind, part, log, partition, from_offset, to_offset)
         VALUES ($1, $2, '', -1, 0, 0)
         ON CONFLICT (kind, part, log, partition, from_offset, to_offset) DO UPDATE SET noticed_at = now()",
    )
    .bind(kind.as_str())
    .bind(format!("{PART}/{table}"))
    .execute(connection)
    .await?;
    Ok(())
}

async fn note(connection: &mut PgConnection, notice: &Notice) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if insert(&mut transaction, notice).await? && notice.owes() {
        // The versions stay: the next ones must be larger. So does what a removal is called: no row's event is, and it is
        // appended again by that name.
        sqlx::query("UPDATE sluice_appended SET event = $2 WHERE log = $1 AND NOT removed")
            .bind(&notice.log)
            .bind(Uuid::nil())
            .execute(&mut *transaction)
            .await?;
        owe(&mut transaction, "log", &notice.log).await?;
    }
    transaction.commit().await
}

type Stored = (String, String, String, i32, i64, i64, DateTime<Utc>);

fn notice(stored: Stored) -> Option<Notice> {
    let (kind, part, log, partition, from, to, noticed_at) = stored;
    let kind = NoticeKind::from_name(&kind)?;
    let partition = Some(partition).filter(|partition| *partition >= 0);
    Some(Notice { kind, part, log, partition, from, to, noticed_at })
}

impl PgStore {
    async fn noticed(
        &self,
        kinds: &[NoticeKind],
        since: DateTime<Utc>,
        limit: Option<u32>,
    ) -> Result<Vec<Notice>, Fault> {
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let stored: Vec<Stored> = over!(self, "read the notices", connection =>
            sqlx::query_as(
                "SELECT kind, part, log, partition, from_offset, to_offset, noticed_at FROM sluice_notices
                 WHERE kind = ANY($1) AND noticed_at >= $2 ORDER BY noticed_at DESC, part, partition LIMIT $3",
            )
            .bind(&kinds)
            .bind(since)
            .bind(limit.map(i64::from))
            .fetch_all(connection))?;
        Ok(stored.into_iter().filter_map(notice).collect())
    }
}

#[async_trait]
impl Notices for PgStore {
    async fn meet_log(&self, log: &Identity) -> Result<Option<String>, Fault> {
        over!(self, "remember which log this is", connection =>
            meet(connection, log, Some(NoticeKind::LogReplaced), Owing::AllOfTheLog))
    }

    async fn meet_sink(&self, piece: &Identity) -> Result<Option<String>, Fault> {
        over!(self, "remember which sink this is", connection =>
            meet(connection, piece, Some(NoticeKind::SinkReplaced), Owing::Nothing))
    }

    async fn meet_index(&self, id: &str) -> Result<(), Fault> {
        let met = Identity { place: INDEX.to_owned(), id: id.to_owned() };
        over!(self, "remember which index is filled", connection => meet(connection, &met, None, Owing::Nothing))?;
        Ok(())
    }

    async fn met_source(&self, place: &str) -> Result<Option<String>, Fault> {
        over!(self, "read where a table was read from", connection => known(connection, place))
    }

    async fn meet_source(&self, table: &TableName, origin: &Identity) -> Result<Option<String>, Fault> {
        over!(self, "remember where a table is read from", connection =>
            meet(connection, origin, Some(NoticeKind::SourceReplaced), Owing::Table(table)))
    }

    async fn note(&self, notice: &Notice) -> Result<(), Fault> {
        over!(self, "remember a notice", connection => note(connection, notice))
    }

    async fn notices(&self, since: DateTime<Utc>) -> Result<Vec<Notice>, Fault> {
        self.noticed(&NoticeKind::ALL, since, Some(MAX_SHOWN)).await
    }

    async fn every_notice(&self, kinds: &[NoticeKind], since: DateTime<Utc>) -> Result<Vec<Notice>, Fault> {
        self.noticed(kinds, since, None).await
    }

    async fn owed(&self) -> Result<Vec<Owed>, Fault> {
        let stored: Vec<(String, DateTime<Utc>, DateTime<Utc>)> = over!(self, "read what is owed", connection =>
            sqlx::query_as("SELECT table_name, owed_from, since FROM sluice_owed ORDER BY 1").fetch_all(connection))?;
        let owed = |(table, from, since)| Owed { table: TableName(table), from, since };
        Ok(stored.into_iter().map(owed).collect())
    }

    async fn settle_owed(&self, owed: &Owed) -> Result<(), Fault> {
        over!(self, "settle what was owed", connection =>
            sqlx::query("DELETE FROM sluice_owed WHERE table_name = $1 AND since = $2")
                .bind(&owed.table.0)
                .bind(owed.since)
                .execute(connection))?;
        Ok(())
    }
}
