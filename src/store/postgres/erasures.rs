//! Erasing from Postgres.
//!
//! Guarantee: an erasure and a batch exclude each other. A batch holds the database's erasure lock with others, from before
//! it reads the ledger until it commits; an erasure holds it alone, and waits for those that are under way. So whatever a
//! batch brought is there to be removed, and every later batch knows of the erasure. The lock is one of the server's
//! queue: batches that keep coming don't starve an erasure.

use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    PgStore, UNBOUNDED,
    faults::{self, PART},
    ledger::key_of,
    operations::over,
    trim::{self, COUNTED},
};
use crate::{
    domain::{ErasedDigest, ErasureLedger, Table, TableName},
    fault::Fault,
    store::{ErasedRows, Erasures, FORGOTTEN, SyncProgress, not_erased},
};

/// One lock for each of the database's schemas, which may each hold a store.
pub(super) const LOCK: &str = "hashtextextended('sluice erasures ' || current_schema(), 0)";

/// The ledger as it was last: a batch reads it whole only after an erasure.
#[derive(Debug, Default)]
pub(super) struct LastLedger(Mutex<Arc<ErasureLedger>>);

impl LastLedger {
    /// The ledger that holds until the transaction ends.
    pub(super) async fn beside(
        &self,
        transaction: &mut PgConnection,
    ) -> Result<Arc<ErasureLedger>, sqlx::Error> {
        sqlx::query(&format!("SELECT pg_advisory_xact_lock_shared({LOCK})"))
            .execute(&mut *transaction)
            .await?;
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(now) = ledger(transaction, Some(last.version())).await? else { return Ok(last) };
        let now = Arc::new(now);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
        Ok(now)
    }
}

/// The ledger, where it is another than the one that is known.
async fn ledger(
    connection: &mut PgConnection,
    known: Option<Uuid>,
) -> Result<Option<ErasureLedger>, sqlx::Error> {
    // In one statement, so that version and digests are of one moment.
    let (salt, version, digests): (Vec<u8>, Uuid, Option<Vec<Vec<u8>>>) = sqlx::query_as(
        "SELECT salt, version, CASE WHEN version IS DISTINCT FROM $1 THEN ARRAY(SELECT digest FROM sluice_erased) END
         FROM sluice_erasure",
    )
    .bind(known)
    .fetch_one(connection)
    .await?;
    let digests = digests.map(|digests| digests.into_iter().filter_map(|one| one.try_into().ok()).collect());
    Ok(digests.map(|digests: HashSet<ErasedDigest>| ErasureLedger::new(version, salt, digests)))
}

/// What is written of a sync. A reconciliation names keys, and may hold some from before they were erased; no erasure comes
/// between this and the transaction's end. `None` while one is under way, which takes what it takes.
pub(super) async fn without_erased_keys(
    transaction: &mut PgConnection,
    table: &TableName,
    progress: &SyncProgress,
) -> Result<Option<SyncProgress>, sqlx::Error> {
    let mut progress = progress.clone();
    if let Some(report) = progress.reconcile.as_mut().filter(|report| !report.differences.is_empty()) {
        let is_free: bool = sqlx::query_scalar(&format!("SELECT pg_try_advisory_xact_lock_shared({LOCK})"))
            .fetch_one(&mut *transaction)
            .await?;
        if !is_free {
            return Ok(None);
        }
        let salt: Vec<u8> =
            sqlx::query_scalar("SELECT salt FROM sluice_erasure").fetch_one(&mut *transaction).await?;
        let digest = |key: &str| ErasureLedger::digest(&salt, &table.0, key).to_vec();
        let digests: Vec<Vec<u8>> = report.differences.iter().map(|one| digest(&one.key)).collect();
        let erased: HashSet<Vec<u8>> =
            sqlx::query_scalar("SELECT digest FROM sluice_erased WHERE digest = ANY($1)")
                .bind(&digests)
                .fetch_all(transaction)
                .await?
                .into_iter()
                .collect();
        report.differences.retain(|one| !erased.contains(&digest(&one.key)));
    }
    Ok(Some(progress))
}

#[async_trait]
impl Erasures for PgStore {
    async fn erasures(&self, known: Option<Uuid>) -> Result<Option<ErasureLedger>, Fault> {
        over!(self, "read the ledger of erasures", connection => ledger(connection, known))
    }

    async fn keys_with(
        &self,
        table: Table,
        column: &str,
        values: &[String],
        limit: Option<Duration>,
    ) -> Result<Vec<String>, Fault> {
        let definition = table.definition();
        let Some(column) = definition.column(column) else { return Ok(Vec::new()) };
        // Who is looked up by it is also found by it in a list; what refers to an entity holds its key alone.
        let held = if column.lookup { "$.**" } else { "$" };
        let statement = format!(
            r#"WITH wanted AS MATERIALIZED (SELECT lower(v) AS v FROM unnest($1::text[]) AS v)
             SELECT "{key}"::text FROM "{table}"
             WHERE lower(btrim("{name}"::text, E' \t\n\r')) IN (SELECT v FROM wanted)
             UNION
             SELECT entidade_id FROM eventos_raw, jsonb_path_query(dados -> (
                 SELECT n FROM unnest($3::text[]) WITH ORDINALITY AS u(n, i) WHERE dados ? n ORDER BY i LIMIT 1
             ), '{held}') AS held
             WHERE tipo_evento = $2 AND lower(btrim(held #>> '{{}}', E' \t\n\r')) IN (SELECT v FROM wanted)"#,
            key = definition.key.column,
            name = column.name,
        );
        // For the server, no time at all is no limit.
        let limit = limit.map_or(UNBOUNDED, |limit| limit.max(Duration::from_millis(1)));
        let mut connection = self.connector.dedicated("sluice erase", limit).await?;
        let keys = sqlx::query_scalar(&statement)
            .bind(values.iter().map(|value| value.trim().replace('\0', "")).collect::<Vec<_>>())
            .bind(&table.entity)
            .bind(column.sources().collect::<Vec<_>>())
            .fetch_all(&mut connection)
            .await
            .map_err(|error| faults::fault("look for whom to erase", &error))?;
        let _ = connection.close().await;
        Ok(keys)
    }

    async fn erase(
        &self,
        table: Table,
        keys: &[String],
        elsewhere: bool,
    ) -> Result<Option<ErasedRows>, Fault> {
        let mut connection = self.connector.dedicated("sluice erase", UNBOUNDED).await?;
        let erased = erase(&mut connection, table, keys, elsewhere).await;
        let erased = erased.map_err(|error| faults::fault("erase", &error))?;
        let _ = connection.close().await;
        erased.map_err(|place| not_erased(PART, &place))
    }
}

/// Erases all of it, or nothing where a table is not as it was left: then it is named.
async fn erase(
    connection: &mut PgConnection,
    table: Table,
    keys: &[String],
    elsewhere: bool,
) -> Result<Result<Option<ErasedRows>, String>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(&format!("SELECT pg_advisory_xact_lock({LOCK})")).execute(&mut *transaction).await?;
    let salt: Vec<u8> =
        sqlx::query_scalar("SELECT salt FROM sluice_erasure").fetch_one(&mut *transaction).await?;
    let digests: Vec<Vec<u8>> =
        keys.iter().map(|key| ErasureLedger::digest(&salt, table.name(), key).to_vec()).collect();
    let new = sqlx::query(
        "INSERT INTO sluice_erased (digest, table_name) SELECT DISTINCT d, $2 FROM unnest($1::bytea[]) AS d
         ON CONFLICT DO NOTHING",
    )
    .bind(&digests)
    .bind(table.name())
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    if new > 0 {
        sqlx::query("UPDATE sluice_erasure SET version = gen_random_uuid()")
            .execute(&mut *transaction)
            .await?;
    }
    let (events, trimmed) = erase_events(&mut transaction, table, keys).await?;
    let key = &table.definition().key;
    // Some may be of a type that the table's keys had earlier.
    let entities = format!(
        "DELETE FROM \"{table}\" WHERE \"{column}\" IN (SELECT {key_of} FROM unnest($1::text[]) AS k)",
        column = key.column,
        key_of = key_of(key.kind, "k"),
    );
    let entities = sqlx::query(&entities).bind(keys).execute(&mut *transaction).await?.rows_affected();
    let mut marks = trimmed;
    // The history of syncs comes before the marks, as in a checkpoint: neither waits for what the other has locked.
    forget_conditions(&mut transaction, table).await?;
    for statement in [
        // What reconciliations found different is told by key.
        "UPDATE sluice_syncs SET progress = jsonb_set(progress, '{reconcile,differences}', coalesce((
             SELECT jsonb_agg(d) FROM jsonb_array_elements(progress #> '{reconcile,differences}') AS d
             WHERE NOT d ->> 'key' = ANY($2)), '[]'))
         WHERE table_name = $1 AND EXISTS (
             SELECT FROM jsonb_array_elements(progress #> '{reconcile,differences}') AS d WHERE d ->> 'key' = ANY($2))",
        "DELETE FROM sluice_appended WHERE table_name = $1 AND entity = ANY($2)",
        "DELETE FROM sluice_removed WHERE table_name = $1 AND entity = ANY($2)",
        "DELETE FROM sluice_parked_letters WHERE table_name = $1 AND entity = ANY($2)",
        "DELETE FROM sluice_alert_queue WHERE table_name = $1 AND entity = ANY($2)",
        "DELETE FROM sluice_alert_outbox WHERE table_name = $1 AND subject = ANY($2)",
    ] {
        let gone = sqlx::query(statement).bind(table.name()).bind(keys).execute(&mut *transaction).await?;
        marks += gone.rows_affected();
    }
    let erased = ErasedRows { entities, events, marks, new };
    if !elsewhere && erased.are_strangers(keys.len()) {
        transaction.rollback().await?;
        return Ok(Ok(None));
    }
    if let Some(place) = left_over(&mut transaction, table, keys, &digests).await? {
        transaction.rollback().await?;
        return Ok(Err(place));
    }
    transaction.commit().await?;
    Ok(Ok(Some(erased)))
}

/// What syncs were asked for by columns that may name somebody: whom a pattern means is not known, so it goes for all.
async fn forget_conditions(transaction: &mut PgConnection, table: Table) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE sluice_syncs SET request = jsonb_set(request, '{conditions}', (
             SELECT jsonb_agg(CASE
                 WHEN c ->> 'column' = ANY($2) THEN jsonb_set(c, '{value}', to_jsonb($3::text)) ELSE c END ORDER BY n)
             FROM jsonb_array_elements(request -> 'conditions') WITH ORDINALITY AS e(c, n)))
         WHERE table_name = $1 AND EXISTS (
             SELECT FROM jsonb_array_elements(request -> 'conditions') AS c WHERE c ->> 'column' = ANY($2))",
    )
    .bind(table.name())
    .bind(table.definition().naming_columns().collect::<Vec<_>>())
    .bind(FORGOTTEN)
    .execute(transaction)
    .await?;
    Ok(())
}

/// A table that still holds something of these, or not the mark that they are erased.
async fn left_over(
    connection: &mut PgConnection,
    table: Table,
    keys: &[String],
    digests: &[Vec<u8>],
) -> Result<Option<String>, sqlx::Error> {
    let key = &table.definition().key;
    let mut places = format!(
        "SELECT 'eventos_raw' AS place
         WHERE EXISTS (SELECT FROM eventos_raw WHERE tipo_evento = $1 AND entidade_id = ANY($2))
         UNION ALL SELECT '{table}'
         WHERE EXISTS (SELECT FROM \"{table}\" WHERE \"{column}\" IN (SELECT {key_of} FROM unnest($2) AS k))
         UNION ALL SELECT 'sluice_erased'
         WHERE EXISTS (
             SELECT FROM unnest($4::bytea[]) AS d WHERE NOT EXISTS (SELECT FROM sluice_erased WHERE digest = d)
         )",
        column = key.column,
        key_of = key_of(key.kind, "k"),
    );
    for (of_marks, entity) in [
        ("sluice_appended", "entity"),
        ("sluice_parked_letters", "entity"),
        ("sluice_alert_queue", "entity"),
        ("sluice_alert_outbox", "subject"),
    ] {
        // Writing to a string can't fail.
        let _ = write!(
            places,
            " UNION ALL SELECT '{of_marks}'
             WHERE EXISTS (SELECT FROM {of_marks} WHERE table_name = $3 AND {entity} = ANY($2))"
        );
    }
    sqlx::query_scalar(&format!("{places} LIMIT 1"))
        .bind(&table.entity)
        .bind(keys)
        .bind(table.name())
        .bind(digests)
        .fetch_optional(connection)
        .await
}

/// Removes events, and what is remembered of those that were trimmed, and counts the windows they were in anew: the rollup
/// equals a recount before and after.
async fn erase_events(
    transaction: &mut PgConnection,
    table: Table,
    keys: &[String],
) -> Result<(u64, u64), sqlx::Error> {
    let gone: Vec<(DateTime<Utc>, String, String)> = sqlx::query_as(
        "DELETE FROM eventos_raw WHERE tipo_evento = $1 AND entidade_id = ANY($2)
         RETURNING date_bin('5 minutes', \"timestamp\", 'epoch'), categoria, evento",
    )
    .bind(&table.entity)
    .bind(keys)
    .fetch_all(&mut *transaction)
    .await?;
    let (trimmed, of_trimmed) = trim::forget(transaction, table, keys).await?;
    let events = u64::try_from(gone.len()).unwrap_or(u64::MAX);
    let windows: BTreeSet<_> = gone.into_iter().chain(of_trimmed).collect();
    let begins: Vec<DateTime<Utc>> = windows.iter().map(|(begin, ..)| *begin).collect();
    let categories: Vec<&str> = windows.iter().map(|(_, categoria, _)| categoria.as_str()).collect();
    let kinds: Vec<&str> = windows.iter().map(|(.., evento)| evento.as_str()).collect();
    sqlx::query(&format!(
        "WITH contadas AS MATERIALIZED (
             SELECT j.inicio, j.categoria, j.evento, e.total, e.soma
             FROM unnest($1::timestamptz[], $2::text[], $3::text[]) AS j(inicio, categoria, evento)
             CROSS JOIN LATERAL (
                 SELECT coalesce(sum(total), 0) AS total, coalesce(sum(soma), 0) AS soma FROM {COUNTED} AS r
                 WHERE r.instante >= j.inicio AND r.instante < j.inicio + interval '5 minutes'
                   AND r.categoria = j.categoria AND r.evento = j.evento
             ) AS e
         ), vazias AS (
             DELETE FROM eventos_agregados AS a USING contadas AS c
             WHERE (a.janela_inicio, a.categoria, a.evento) = (c.inicio, c.categoria, c.evento) AND c.total = 0
         )
         UPDATE eventos_agregados AS a SET total = c.total, soma_valor = c.soma FROM contadas AS c
         WHERE (a.janela_inicio, a.categoria, a.evento) = (c.inicio, c.categoria, c.evento) AND c.total > 0"
    ))
    .bind(&begins)
    .bind(&categories)
    .bind(&kinds)
    .execute(transaction)
    .await?;
    Ok((events, trimmed))
}
