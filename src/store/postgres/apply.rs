//! Applying a batch: offsets, entities, events and rollups in one transaction.
//!
//! Guarantee: either everything of the batch is committed, its offsets included, or nothing is. A worker whose
//! claim was lost changes nothing, not even the dead letters: it learns that first. Nor does one whose definition of a
//! table is not the one the table was last made from.

use std::time::{Duration, Instant};

use sqlx::{Acquire, PgConnection};

use super::{
    alerts,
    erasures::LastLedger,
    faults::{self, PART},
    offsets,
    poison::{self, Refused},
    prepare,
    rows::Rows,
    write::{self, Unwritten},
};
use crate::{
    domain::Catalog,
    fault::Fault,
    sink::{Applied, ApplyError, SinkBatch},
    store::{
        check_spans,
        erasures::without_erased,
        fenced,
        layout::check_layout,
        refusals::{Outcome, Streaks},
        refuses_everything, table_of,
    },
};

/// What a batch is applied with.
pub(super) struct Knows<'a> {
    pub(super) catalog: Catalog,
    pub(super) streaks: &'a Streaks,
    pub(super) erasures: &'a LastLedger,
    /// About as long it is looked for the events at fault when the server refuses a batch.
    pub(super) search_for: Duration,
}

/// Applies a batch, but for what is about erased entities.
pub(super) async fn apply(
    connection: &mut PgConnection,
    log: &str,
    batch: &SinkBatch,
    knows: &Knows<'_>,
) -> Result<Applied, ApplyError> {
    let Knows { catalog, streaks, erasures, search_for } = *knows;
    check_spans(PART, batch)?;
    let mut transaction = connection.begin().await.map_err(|error| apply_fault(&error))?;
    let ours =
        offsets::advance(&mut transaction, log, &batch.spans).await.map_err(|error| apply_fault(&error))?;
    if !ours {
        transaction.rollback().await.map_err(|error| apply_fault(&error))?;
        return Err(fenced(PART, batch).into());
    }
    let ledger = erasures.beside(&mut transaction).await.map_err(|error| apply_fault(&error))?;
    let events = batch.events.len();
    let kept = without_erased(batch, &ledger);
    let batch = &*kept;
    let rows = Rows::of(batch);
    let rejections = poison::visible(&rows);
    if !rejections.is_empty() {
        transaction.rollback().await.map_err(|error| apply_fault(&error))?;
        return Err(ApplyError::Rejected(rejections));
    }
    // Before the rows are written: only a version that moves one on is news.
    let written = match alerts::queue(&mut transaction, batch).await {
        Ok(()) => write::write(&mut transaction, catalog, batch, &rows).await,
        Err(error) => Err(error.into()),
    };
    let written = match written {
        Ok(applied) => {
            // After the writing, which keeps everybody from changing the tables until the transaction ends.
            let layouts = prepare::layouts(&mut transaction).await.map_err(|error| apply_fault(&error))?;
            let written =
                catalog.tables().filter(|table| batch.events.iter().any(|event| event.table == Some(*table)));
            for table in written {
                check_layout(PART, table, layouts.get(table.name()).map(String::as_str))?;
            }
            // Deferred constraints refuse here.
            transaction.commit().await.map(|()| applied).map_err(Unwritten::from)
        }
        // It is rolled back as it is dropped; after most of these the connection is gone anyway.
        Err(Unwritten::Sql(error)) if !faults::is_refused_content(&error) => {
            drop(transaction);
            Err(Unwritten::Sql(error))
        }
        Err(refused) => {
            transaction.rollback().await.map_err(|error| apply_fault(&error))?;
            Err(refused)
        }
    };
    match written {
        Ok(applied) => {
            let taken = batch.events.iter().map(table_of).collect();
            streaks.judge(&Outcome { taken, ..Outcome::default() });
            let erased = u64::try_from(events - batch.events.len()).unwrap_or(u64::MAX);
            Ok(Applied { erased, ..applied })
        }
        Err(Unwritten::Sql(error)) if !faults::is_refused_content(&error) => Err(apply_fault(&error).into()),
        Err(_) => {
            Err(find_refused(connection, catalog, log, batch, streaks, Instant::now() + search_for).await)
        }
    }
}

/// Looks for the events a refused batch has to do without, in a transaction that is rolled back.
async fn find_refused(
    connection: &mut PgConnection,
    catalog: Catalog,
    log: &str,
    batch: &SinkBatch,
    streaks: &Streaks,
    deadline: Instant,
) -> ApplyError {
    let search = async {
        let mut transaction = connection.begin().await?;
        if !offsets::advance(&mut transaction, log, &batch.spans).await? {
            return Ok(Err(fenced(PART, batch)));
        }
        let refused = poison::refused(&mut transaction, catalog, batch, streaks, deadline).await?;
        transaction.rollback().await?;
        Ok(Ok(refused))
    };
    match search.await {
        Ok(Ok(Refused::Events(rejections))) if rejections.is_empty() => Fault::transient(
            PART,
            "apply: the batch was refused as a whole but each of its events is taken",
            "it is tried again; if it persists look at constraints and triggers on sluice's tables",
        )
        .into(),
        Ok(Ok(Refused::Events(rejections))) => ApplyError::Rejected(rejections),
        Ok(Ok(Refused::Everything(table, rows, reason))) => {
            refuses_everything(PART, table, rows, &reason).into()
        }
        Ok(Err(fenced)) => fenced.into(),
        Err(error) => apply_fault(&error).into(),
    }
}

fn apply_fault(error: &sqlx::Error) -> Fault {
    faults::fault("apply", error)
}
