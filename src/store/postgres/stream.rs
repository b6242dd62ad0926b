//! One SQL statement of somebody else's, answered to the end: by a cursor in the session that answers are asked in.
//!
//! Guarantee: whatever holds for an answer holds here, too, but that the rows are as many as there are. Each step of the
//! cursor may take as long as an answer may, so that the whole is bounded by whoever takes the rows.

use futures::TryStreamExt as _;
use serde_json::value::RawValue;
use sqlx::{Executor as _, PgConnection};
use tokio::time::timeout;

use super::{
    faults::PART,
    query::{self, GRACE},
    session::Session,
    statement::Checked,
};
use crate::{
    domain::Catalog,
    fault::{Fault, FaultKind},
    store::{QueryColumn, QueryLimits, StreamedRows, StreamedValue},
    streaming::{self, Sending},
};

/// Rows of a step.
const STEP: usize = 500;

/// Who takes the rows may be slower than who asks, and the plan is made for all of the rows.
const SETTINGS: &str =
    "SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL cursor_tuple_fraction = 1";

/// Begins to answer a checked statement.
pub(super) async fn ask(
    mut session: Session,
    checked: Checked,
    limits: QueryLimits,
    catalog: Catalog,
) -> Result<StreamedRows, Fault> {
    let warning = session.identity.warning();
    let begun = begin(session.connection(), &checked, &limits, catalog);
    let Ok(begun) = timeout(limits.timeout + GRACE, begun).await else {
        return Err(query::unstoppable(&limits));
    };
    let columns = match begun {
        Ok(columns) => columns,
        Err(fault) => {
            end(session).await;
            return Err(fault);
        }
    };
    let (mut sending, rows) = streaming::stream(PART);
    tokio::spawn(async move {
        match send(session.connection(), &mut sending, &limits, catalog).await {
            // The session's place is given back when the server has ended it.
            None => drop(session),
            Some(outcome) => {
                end(session).await;
                sending.finish(outcome).await;
            }
        }
    });
    Ok(StreamedRows { columns, warning, rows })
}

async fn begin(
    connection: &mut PgConnection,
    checked: &Checked,
    limits: &QueryLimits,
    catalog: Catalog,
) -> Result<Vec<QueryColumn>, Fault> {
    let to_fault = |error: sqlx::Error| query::fault(&error, limits, catalog);
    let columns = query::columns(connection, checked, limits, catalog).await?;
    let names = query::names(&columns);
    // Without OFFSET each row would be made twice.
    let cursor = format!(
        "DECLARE saida NO SCROLL CURSOR FOR SELECT CASE WHEN octet_length(linha) <= {} THEN linha END
         FROM (SELECT json_build_array({names})::text AS linha FROM (\n{}\n) AS q({names}) OFFSET 0) AS linhas",
        limits.bytes, checked.sql
    );
    connection.execute(sqlx::raw_sql(SETTINGS)).await.map_err(to_fault)?;
    // Over this protocol a text is one statement.
    sqlx::query(&cursor).persistent(false).execute(connection).await.map_err(to_fault)?;
    Ok(columns)
}

/// Sends every row; `None` where nobody takes them any more.
async fn send(
    connection: &mut PgConnection,
    sending: &mut Sending<Vec<StreamedValue>>,
    limits: &QueryLimits,
    catalog: Catalog,
) -> Option<Result<(), Fault>> {
    let step = format!("FETCH FORWARD {STEP} FROM saida");
    loop {
        let mut lines =
            sqlx::query_scalar::<_, Option<String>>(&step).persistent(false).fetch(&mut *connection);
        let mut fetched = 0;
        loop {
            let line = match timeout(limits.timeout + GRACE, lines.try_next()).await {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Some(Err(query::fault(&error, limits, catalog))),
                Err(_) => return Some(Err(query::unstoppable(limits))),
            };
            let Some(line) = line else { return Some(Err(too_large(limits))) };
            fetched += 1;
            sending.send(values(&line)).await.ok()?;
        }
        if fetched < STEP {
            return Some(Ok(()));
        }
    }
}

fn values(line: &str) -> Vec<StreamedValue> {
    let values: Vec<&RawValue> = serde_json::from_str(line).unwrap_or_default();
    values.into_iter().map(|value| StreamedValue::of_json(value.get())).collect()
}

fn too_large(limits: &QueryLimits) -> Fault {
    Fault::new(
        PART,
        FaultKind::Invalid,
        format!("sql: a row is larger than {} bytes", limits.bytes),
        "select fewer columns, or parts of them",
    )
}

async fn end(session: Session) {
    // Rows that came are not withheld because the session could not be kept.
    if let Err(fault) = session.end().await {
        tracing::debug!(error = %fault, "a question's session was closed");
    }
}
