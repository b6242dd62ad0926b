//! Applying a batch: offsets, entities, events and rollups in one transaction.
//!
//! Guarantee: either everything of the batch is committed, its offsets included, or nothing is. A worker whose
//! claim was lost changes nothing, not even the dead letters: it learns that first.

use std::time::{Duration, Instant};

use sqlx::{Acquire, PgConnection};

use super::{
    faults::{self, PART},
    offsets, poison,
    rows::Rows,
    write,
};
use crate::{
    fault::Fault,
    sink::{Applied, ApplyError, SinkBatch},
    store::{check_spans, fenced},
};

/// Applies a batch. When the server refuses it, looks about as long as `search_for` for the events at fault.
pub(super) async fn apply(
    connection: &mut PgConnection,
    log: &str,
    batch: &SinkBatch,
    search_for: Duration,
) -> Result<Applied, ApplyError> {
    check_spans(PART, batch)?;
    let rows = Rows::of(batch);

    let mut transaction = connection.begin().await.map_err(|error| apply_fault(&error))?;
    let ours =
        offsets::advance(&mut transaction, log, &batch.spans).await.map_err(|error| apply_fault(&error))?;
    if !ours {
        transaction.rollback().await.map_err(|error| apply_fault(&error))?;
        return Err(fenced(PART, batch).into());
    }
    let rejections = poison::visible(&rows);
    if !rejections.is_empty() {
        transaction.rollback().await.map_err(|error| apply_fault(&error))?;
        return Err(ApplyError::Rejected(rejections));
    }
    match write::write(&mut transaction, batch, &rows).await {
        Ok(applied) => {
            transaction.commit().await.map_err(|error| apply_fault(&error))?;
            Ok(applied)
        }
        Err(error) if faults::is_refused_content(&error) => {
            transaction.rollback().await.map_err(|error| apply_fault(&error))?;
            Err(find_refused(connection, log, batch, Instant::now() + search_for).await)
        }
        // The transaction is rolled back as it is dropped; after most of these the connection is gone anyway.
        Err(error) => Err(apply_fault(&error).into()),
    }
}

/// Looks for the events a refused batch has to do without, in a transaction that is rolled back.
async fn find_refused(
    connection: &mut PgConnection,
    log: &str,
    batch: &SinkBatch,
    deadline: Instant,
) -> ApplyError {
    let search = async {
        let mut transaction = connection.begin().await?;
        if !offsets::advance(&mut transaction, log, &batch.spans).await? {
            return Ok(Err(fenced(PART, batch)));
        }
        let rejections = poison::refused(&mut transaction, batch, deadline).await?;
        transaction.rollback().await?;
        Ok(Ok(rejections))
    };
    match search.await {
        Ok(Ok(rejections)) if rejections.is_empty() => Fault::transient(
            PART,
            "apply: the batch was refused as a whole but each of its events is taken",
            "it is tried again; if it persists look at constraints and triggers on sluice's tables",
        )
        .into(),
        Ok(Ok(rejections)) => ApplyError::Rejected(rejections),
        Ok(Err(fenced)) => fenced.into(),
        Err(error) => apply_fault(&error).into(),
    }
}

fn apply_fault(error: &sqlx::Error) -> Fault {
    faults::fault("apply", error)
}
