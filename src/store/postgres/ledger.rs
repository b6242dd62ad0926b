//! What was appended of every entity, beside what the store has of it. Every statement looks up one row after the other
//! by its key, whatever the server thinks of tables it has not analyzed.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Acquire, PgConnection};
use uuid::Uuid;

use super::{PgStore, operations::over, questions, trim::COUNTED};
use crate::{
    domain::{KeyKind, Table, micros},
    fault::Fault,
    log::Position,
    store::{
        Appended, EntityEvents, Entry, Ledger, ParkedLetter, Settled, Stranger, StrangerPage, Tally,
        tables::key_type,
    },
};

type StoredEntry = (String, Uuid, i64, bool, Option<i64>, bool);

type TallyRow = (i64, i64, i64, i64, i64, i64, i64, i64, i64, Option<DateTime<Utc>>);

type StoredLetter = (String, Uuid, Option<String>, i32, i64, Option<String>);

#[async_trait]
impl Ledger for PgStore {
    async fn entries(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Entry>, Fault> {
        let key = &table.definition().key;
        // The empty text is the first key there may be.
        let beyond = if after.is_some() { ">" } else { ">=" };
        let statement = format!(
            "WITH page AS MATERIALIZED (
                 SELECT entity, event, versao, removed FROM sluice_appended
                 WHERE log = $1 AND table_name = $2 AND entity {beyond} $3 AND versao > 0 ORDER BY entity LIMIT $4
             )
             SELECT p.entity, p.event, p.versao, p.removed, t.versao, e.there IS NOT NULL
             FROM page AS p
             LEFT JOIN LATERAL (
                 SELECT versao FROM \"{table}\" WHERE \"{column}\" = {key_of} OFFSET 0
             ) AS t ON true
             LEFT JOIN LATERAL (SELECT true AS there FROM eventos_raw WHERE id = p.event OFFSET 0) AS e ON true
             ORDER BY p.entity",
            column = key.column,
            key_of = key_of(key.kind, "p.entity"),
        );
        let rows: Vec<StoredEntry> = over!(self, "compare entities", connection =>
            sqlx::query_as(&statement)
                .bind(log)
                .bind(table.name())
                .bind(after.unwrap_or_default())
                .bind(i64::from(limit))
                .fetch_all(connection))?;
        let entry = |(entity, event, versao, removed, held, has_event)| Entry {
            appended: Appended { entity, event, versao, removed },
            held,
            has_event,
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    async fn tally(
        &self,
        log: &str,
        letters: &str,
        table: Table,
        sinks: [&str; 2],
        settled: DateTime<Utc>,
    ) -> Result<Tally, Fault> {
        let statement = format!(
            "SELECT (SELECT count(*) FROM \"{table}\"),
                    l.appended, l.settled, o.parked, o.refused, o.of_first, o.of_second,
                    (SELECT count(DISTINCT p.entity) FROM sluice_parked_letters AS p
                     WHERE p.log = $2 AND p.table_name = $3 AND p.sink IS NULL AND NOT EXISTS (
                         SELECT FROM sluice_resolved_letters AS r
                         WHERE r.log = p.log AND r.partition = p.partition AND r.\"offset\" = p.\"offset\"
                             AND r.letter_id = p.letter_id AND r.resolution <> 'discarded'
                     ) AND NOT EXISTS (
                         SELECT FROM sluice_appended AS a
                         WHERE a.log = $1 AND a.table_name = $3 AND a.entity = p.entity AND a.versao > 0
                     )),
                    (SELECT count(*) FROM sluice_erased WHERE table_name = $3),
                    (SELECT max(erased_at) FROM sluice_erased WHERE table_name = $3)
             FROM (
                 SELECT count(*) AS appended, count(*) FILTER (WHERE versao <= $4) AS settled FROM sluice_appended
                 WHERE log = $1 AND table_name = $3 AND versao > 0 AND NOT removed
             ) AS l, (
                 SELECT count(DISTINCT entity) FILTER (WHERE resolution IS NULL) AS parked,
                     count(DISTINCT entity) FILTER (WHERE resolution IS NULL AND sink IS NOT NULL) AS refused,
                     count(DISTINCT entity) FILTER (
                         WHERE NOT is_held AND (is_unmade OR resolution IS NULL AND sink = $5)
                     ) AS of_first,
                     count(DISTINCT entity) FILTER (WHERE is_unmade OR resolution IS NULL AND sink = $6) AS of_second
                 FROM (
                     SELECT p.entity, p.sink, r.resolution,
                         p.sink IS NULL AND (r.resolution IS NULL OR r.resolution = 'discarded') AND EXISTS (
                             SELECT FROM sluice_appended AS a
                             WHERE a.log = $1 AND a.table_name = $3 AND a.entity = p.entity AND a.event = p.letter_id
                                 AND a.versao > 0
                         ) AS is_unmade,
                         EXISTS (SELECT FROM \"{table}\" AS t WHERE t.\"{key}\" = {key_of} OFFSET 0) AS is_held
                     FROM sluice_parked_letters AS p
                     LEFT JOIN sluice_resolved_letters AS r ON r.log = p.log AND r.partition = p.partition
                         AND r.\"offset\" = p.\"offset\" AND r.letter_id = p.letter_id
                     WHERE p.log = $2 AND p.table_name = $3
                 ) AS e
             ) AS o",
            key = table.definition().key.column,
            key_of = key_of(table.definition().key.kind, "p.entity"),
        );
        let counted: TallyRow = over!(self, "count entities", connection =>
            sqlx::query_as(&statement)
                .bind(log)
                .bind(letters)
                .bind(table.name())
                .bind(micros(settled))
                .bind(sinks[0])
                .bind(sinks[1])
                .fetch_one(connection))?;
        let (entities, appended, settled, parked, refused, first, second, unusable, erased, last_erasure) =
            counted;
        let [entities, appended, settled, parked, refused, first, second, unusable, erased] =
            [entities, appended, settled, parked, refused, first, second, unusable, erased]
                .map(|count| u64::try_from(count).unwrap_or_default());
        let explained = [first, second];
        Ok(Tally { entities, appended, settled, parked, refused, explained, unusable, erased, last_erasure })
    }

    async fn entity_count(&self, table: Table) -> Result<u64, Fault> {
        let statement = format!("SELECT count(*) FROM \"{table}\"");
        let count: i64 = over!(self, "count entities", connection =>
            sqlx::query_scalar(&statement).fetch_one(connection))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn strangers(
        &self,
        log: &str,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<StrangerPage, Fault> {
        let key = &table.definition().key;
        let (column, kind) = (&key.column, key_type(key.kind));
        let statement = format!(
            "SELECT t.chave::text, t.versao, a.there IS NULL FROM (
                 SELECT \"{column}\" AS chave, versao FROM \"{table}\"
                 WHERE $4::text IS NULL OR \"{column}\" > $4::text::{kind} ORDER BY \"{column}\" LIMIT $3
             ) AS t
             LEFT JOIN LATERAL (
                 SELECT true AS there FROM sluice_appended
                 WHERE log = $1 AND table_name = $2 AND entity = t.chave::text AND versao > 0 OFFSET 0
             ) AS a ON true
             ORDER BY t.chave"
        );
        let rows: Vec<(String, i64, bool)> = over!(self, "look for entities that nobody appended", connection =>
            sqlx::query_as(&statement)
                .bind(log)
                .bind(table.name())
                .bind(i64::from(limit))
                .bind(after)
                .fetch_all(connection))?;
        let last = rows.last().map(|(key, ..)| key.clone());
        let strangers = rows.into_iter().filter(|(.., is_stranger)| *is_stranger);
        let strangers = strangers.map(|(key, versao, _)| Stranger { key, versao }).collect();
        Ok(StrangerPage { strangers, last })
    }

    async fn remove_strays(&self, table: Table, keys: &[String]) -> Result<(), Fault> {
        let statement =
            format!("DELETE FROM \"{table}\" WHERE \"{}\"::text = ANY($1)", table.definition().key.column);
        over!(self, "remove rows of no entity", connection =>
            sqlx::query(&statement).bind(keys).execute(connection))
        .map(drop)
    }

    async fn entity_events(
        &self,
        table: Table,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntityEvents, Fault> {
        over!(self, "read the events of entities", connection =>
            questions::events_of_entities(connection, table, after, limit))
    }

    async fn recount(&self, since: DateTime<Utc>) -> Result<(), Fault> {
        /// Windows counted in one transaction, which keeps every worker from applying.
        const WINDOWS: usize = 1_000;
        let windows: Vec<DateTime<Utc>> = over!(self, "look for windows to count anew", connection =>
            sqlx::query_scalar(
                "SELECT DISTINCT date_bin('5 minutes', \"timestamp\", 'epoch') FROM eventos_raw
                 WHERE processado_em >= $1",
            )
            .bind(since)
            .fetch_all(connection))?;
        for windows in windows.chunks(WINDOWS) {
            over!(self, "count windows anew", connection => recounted(connection, windows))?;
        }
        Ok(())
    }

    async fn parked(&self, log: &str, table: Table, keys: &[String]) -> Result<Vec<ParkedLetter>, Fault> {
        let parked: Vec<StoredLetter> = over!(self, "look for letters of entities", connection =>
            sqlx::query_as(
                "SELECT r.entity, l.letter_id, l.sink, l.partition, l.\"offset\", d.resolution
                 FROM unnest($3::text[]) AS r(entity) CROSS JOIN LATERAL (
                     SELECT sink, partition, \"offset\", letter_id FROM sluice_parked_letters
                     WHERE entity = r.entity AND (log, table_name) IS NOT DISTINCT FROM ($1, $2) OFFSET 0
                 ) AS l LEFT JOIN LATERAL (
                     SELECT resolution FROM sluice_resolved_letters
                     WHERE log = $1 AND partition = l.partition AND \"offset\" = l.\"offset\"
                         AND letter_id = l.letter_id OFFSET 0
                 ) AS d ON true",
            )
            .bind(log)
            .bind(table.name())
            .bind(keys)
            .fetch_all(connection))?;
        let letter = |(entity, letter, sink, partition, offset, settled): StoredLetter| ParkedLetter {
            entity,
            letter,
            sink,
            at: Position { partition, offset },
            settled: settled.as_deref().and_then(Settled::named),
        };
        Ok(parked.into_iter().map(letter).collect())
    }
}

/// An entity's name as its key's column has it; null where it is no key, on which a cast would fail for all of them.
pub(super) fn key_of(kind: KeyKind, entity: &str) -> String {
    match kind {
        KeyKind::Text => entity.to_owned(),
        KeyKind::Uuid => format!(
            "CASE WHEN {entity} ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN {entity}::uuid END"
        ),
        KeyKind::Bigint => format!(
            "CASE WHEN {entity} ~ '^(0|-?[1-9][0-9]{{0,17}})$' THEN {entity}::bigint
                  WHEN {entity} ~ '^-?[1-9][0-9]{{18}}$' THEN
                      CASE WHEN {entity}::numeric BETWEEN {least} AND {most} THEN {entity}::bigint END END",
            least = i64::MIN,
            most = i64::MAX,
        ),
    }
}

/// Counts the events of windows, while nobody adds to them.
async fn recounted(connection: &mut PgConnection, windows: &[DateTime<Utc>]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("LOCK TABLE eventos_agregados IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    let count = format!(
        "INSERT INTO eventos_agregados (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
         SELECT w.inicio, w.inicio + interval '5 minutes', e.categoria, e.evento, sum(e.total), sum(e.soma)
         FROM unnest($1::timestamptz[]) AS w(inicio) CROSS JOIN LATERAL (
             SELECT categoria, evento, total, soma FROM {COUNTED} AS c
             WHERE instante >= w.inicio AND instante < w.inicio + interval '5 minutes' OFFSET 0
         ) AS e
         GROUP BY 1, 3, 4"
    );
    for statement in ["DELETE FROM eventos_agregados WHERE janela_inicio = ANY($1::timestamptz[])", &count] {
        sqlx::query(statement).bind(windows).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}
