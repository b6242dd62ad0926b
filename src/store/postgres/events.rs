//! Inserting a batch's events, and adding those that are new to the rollup.
//!
//! Guarantee: an event is inserted once and counted once, as it was inserted, whoever else writes it at the same time and
//! whatever triggers make of it.
//!
//! Which events are there already is asked by their ids first, so that of what is delivered again nothing but the ids is
//! sent. The others are copied in binary, which is the fastest there is (docs/performance.md), but tells nothing of what
//! became of a row, fills a column whose type somebody changed with the bytes of another, and knows no conflicts. So events
//! are copied only while the table is as sluice made it, which nobody can change before the transaction ends; where it is
//! not, and where the server refuses the copy, one statement inserts and counts what it inserted.

use std::collections::{HashMap, HashSet};

use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{
    columns::{bind, names, select},
    copying::Copying,
    faults,
    rows::{Row, Rows, event_columns},
    trim,
    write::Unwritten,
};
use crate::store::rollup::{Rollup, WINDOW};

/// Fewest events worth the further questions that a copy takes.
const WORTH_A_COPY: usize = 256;

/// The columns that are written, and the types that a copy has them in.
const COLUMNS: [(&str, &str); 13] = [
    ("id", "uuid"),
    ("tipo_evento", "text"),
    ("usuario", "text"),
    ("evento", "text"),
    ("valor", "double precision"),
    ("timestamp", "timestamp with time zone"),
    ("categoria", "text"),
    ("metadata", "jsonb"),
    ("dados", "jsonb"),
    ("entidade_id", "text"),
    ("versao", "bigint"),
    ("particao", "integer"),
    ("posicao", "bigint"),
];

/// What the database has of new events.
struct Written {
    inserted: u64,
    /// Windows of the rollup that did not take what is added to them.
    uncounted: u64,
}

/// Inserts the events that are not there and tells how many. What was trimmed was counted.
///
/// # Errors
/// [`Unwritten::KeptOut`] where an event is not there afterwards, or not counted.
pub(super) async fn insert(connection: &mut PgConnection, rows: &Rows<'_>) -> Result<u64, Unwritten> {
    if rows.all.is_empty() {
        return Ok(0);
    }
    let events = rows.all.iter().map(|row| &row.source.event);
    let keys = events.map(|event| (&*event.entidade.id, &*event.tipo_evento, event.id));
    let trimmed = trim::known(connection, keys).await?;
    let mut news = rows.not_of_the_past(&trimmed);
    let there_before = present(connection, &news).await?;
    news.retain(|row| !there_before.contains(&row.source.event.id));
    if news.is_empty() {
        return Ok(0);
    }
    let copied = if news.len() < WORTH_A_COPY { None } else { copy(connection, &news, &trimmed).await? };
    let Written { inserted, uncounted } = match copied {
        Some(written) => written,
        None => insert_and_count(connection, &news, trimmed).await?,
    };
    // Somebody else may have inserted some since they were asked for, or a trigger kept some out.
    if usize::try_from(inserted).is_ok_and(|inserted| inserted < news.len()) {
        let present = present(connection, &news).await?;
        if !news.iter().all(|row| present.contains(&row.source.event.id)) {
            return Err(Unwritten::KeptOut("eventos_raw"));
        }
    }
    if uncounted > 0 {
        return Err(Unwritten::KeptOut("eventos_agregados"));
    }
    Ok(inserted)
}

/// Which of the events are there.
async fn present(connection: &mut PgConnection, rows: &[&Row<'_>]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.source.event.id).collect();
    // One look-up an id, whatever the server thinks of a table it has not analyzed.
    let present: Vec<Uuid> = sqlx::query_scalar(
        "SELECT e.id FROM unnest($1::uuid[]) AS n(id)
         CROSS JOIN LATERAL (SELECT id FROM eventos_raw WHERE id = n.id OFFSET 0) AS e",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(present.into_iter().collect())
}

/// Copies events and counts them; `None`, and nothing done, where the table may make something else of them or the server
/// refuses them as they are.
async fn copy(
    connection: &mut PgConnection,
    rows: &[&Row<'_>],
    trimmed: &HashMap<Uuid, i64>,
) -> Result<Option<Written>, sqlx::Error> {
    // Nobody adds a trigger or changes a column while this is held.
    connection.execute("LOCK TABLE eventos_raw IN ROW EXCLUSIVE MODE").await?;
    if !takes_copies(connection).await? {
        return Ok(None);
    }
    let mut savepoint = connection.begin().await?;
    let inserted = match send(&mut savepoint, rows).await {
        Ok(inserted) => inserted,
        Err(error) if faults::is_refused_content(&error) => {
            savepoint.rollback().await?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    savepoint.commit().await?;
    let mut rollup = Rollup::default();
    rows.iter()
        .map(|row| &row.source.event)
        .filter(|event| !trimmed.contains_key(&event.id))
        .for_each(|event| rollup.add(event));
    Ok(Some(Written { inserted, uncounted: add_up(connection, &rollup).await? }))
}

/// Whether the table is as sluice made it: columns of these types, and nothing that may skip or change a row.
async fn takes_copies(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let (names, types): (Vec<&str>, Vec<&str>) = COLUMNS.into_iter().unzip();
    sqlx::query_scalar(
        "SELECT c.relkind = 'r' AND NOT c.relrowsecurity
             AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
             AND NOT EXISTS (SELECT FROM pg_rewrite AS r WHERE r.ev_class = c.oid)
             AND NOT EXISTS (
                 SELECT FROM unnest($1::text[], $2::text[]) AS n(name, type)
                 WHERE NOT EXISTS (
                     SELECT FROM pg_attribute AS a
                     WHERE a.attrelid = c.oid AND a.attname = n.name AND format_type(a.atttypid, a.atttypmod) = n.type
                         AND a.attgenerated = ''
                 )
             )
         FROM pg_class AS c WHERE c.oid = to_regclass('eventos_raw')",
    )
    .bind(names)
    .bind(types)
    .fetch_one(connection)
    .await
}

/// Sends events, and tells how many the server took.
async fn send(connection: &mut PgConnection, rows: &[&Row<'_>]) -> Result<u64, sqlx::Error> {
    let names = COLUMNS.map(|(name, _)| format!("\"{name}\"")).join(", ");
    let statement = format!("COPY eventos_raw ({names}) FROM STDIN (FORMAT binary)");
    let mut copying = Copying::begin(connection, &statement).await?;
    for row in rows {
        let (event, at) = (&row.source.event, row.source.position);
        let mut tuple = copying.tuple(13);
        tuple.uuid(event.id);
        tuple.text(&event.tipo_evento);
        tuple.text(&event.usuario);
        tuple.text(&event.evento);
        tuple.double(event.valor);
        tuple.instant(event.timestamp);
        tuple.text(&event.categoria);
        tuple.json(&row.metadata);
        tuple.json(&row.dados);
        tuple.text(&event.entidade.id);
        tuple.bigint(event.entidade.versao);
        tuple.integer(at.partition);
        tuple.bigint(at.offset);
        copying.pass_on().await?;
    }
    copying.finish().await
}

/// Adds to the windows of the rollup, and tells how many did not take it.
async fn add_up(connection: &mut PgConnection, rollup: &Rollup<'_>) -> Result<u64, sqlx::Error> {
    let added = rollup.added();
    let taken: i64 = sqlx::query_scalar(
        "WITH agregados AS (
             INSERT INTO eventos_agregados AS a (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
             SELECT * FROM unnest($1::timestamptz[], $2::timestamptz[], $3::text[], $4::text[], $5::int8[], $6::float8[])
             ON CONFLICT (janela_inicio, categoria, evento) DO UPDATE
             SET total = a.total + excluded.total, soma_valor = a.soma_valor + excluded.soma_valor
             RETURNING 1
         )
         SELECT count(*) FROM agregados",
    )
    .bind(added.clone().map(|added| added.begin).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.begin + WINDOW).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.categoria).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.evento).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.total).collect::<Vec<_>>())
    .bind(added.clone().map(|added| added.soma).collect::<Vec<_>>())
    .fetch_one(connection)
    .await?;
    Ok((added.count() as u64).saturating_sub(u64::try_from(taken).unwrap_or_default()))
}

/// Inserts events and counts those that it inserted, in one statement.
async fn insert_and_count(
    connection: &mut PgConnection,
    rows: &[&Row<'_>],
    trimmed: HashMap<Uuid, i64>,
) -> Result<Written, sqlx::Error> {
    let columns = event_columns(rows);
    let statement = format!(
        "WITH inseridos AS (
             INSERT INTO eventos_raw ({names}) {select}
             ON CONFLICT (id) DO NOTHING
             RETURNING id, \"timestamp\", categoria, evento, valor
         ), somados AS MATERIALIZED (
             SELECT inicio, categoria, evento, count(*) AS total, sum(valor) AS soma_valor
             FROM (
                 SELECT date_bin('5 minutes', \"timestamp\", 'epoch') AS inicio, categoria, evento, valor
                 FROM inseridos WHERE id <> ALL(${counted_before}::uuid[])
             ) AS eventos
             GROUP BY inicio, categoria, evento
         ), agregados AS (
             INSERT INTO eventos_agregados AS a (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
             SELECT inicio, inicio + interval '5 minutes', categoria, evento, total, soma_valor
             FROM somados
             ORDER BY inicio, categoria COLLATE \"C\", evento COLLATE \"C\"
             ON CONFLICT (janela_inicio, categoria, evento) DO UPDATE
             SET total = a.total + excluded.total, soma_valor = a.soma_valor + excluded.soma_valor
             RETURNING 1
         )
         SELECT ARRAY[
             (SELECT count(*) FROM inseridos),
             (SELECT count(*) FROM somados) - (SELECT count(*) FROM agregados)
         ]",
        names = names(&columns),
        select = select(&columns),
        counted_before = columns.len() + 1,
    );
    let counted_before: Vec<Uuid> = trimmed.into_keys().collect();
    let [inserted, uncounted]: [i64; 2] =
        bind(sqlx::query_scalar(&statement), &columns).bind(counted_before).fetch_one(connection).await?;
    let count = |counted: i64| u64::try_from(counted).unwrap_or_default();
    Ok(Written { inserted: count(inserted), uncounted: count(uncounted) })
}
