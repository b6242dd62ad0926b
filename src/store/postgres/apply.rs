//! A batch is one transaction: the offsets it expects, the rows, the rollup, the new offsets.

use futures::future::BoxFuture;
use sqlx::{Connection, Error, PgConnection, Postgres, Transaction};

use super::{
    PART, PgStore,
    faults::{describe, fault, is_bad_data},
    rows::unstorable,
    write::write,
};
use crate::{
    fault::{Fault, FaultKind},
    sink::{Applied, ApplyError, Rejection, SinkBatch, SinkEvent, Span},
};

enum Failed {
    Fenced(Span),
    Sql(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl PgStore {
    pub(super) async fn apply_batch(&self, log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        let rejected = unstorable_in(batch);
        if !rejected.is_empty() {
            return Err(ApplyError::Rejected(rejected));
        }
        let what = || format!("applying {} events", batch.events.len());
        match self.try_apply(log, batch).await {
            Ok(applied) => Ok(applied),
            Err(Failed::Fenced(span)) => Err(fenced(span).into()),
            Err(Failed::Sql(error)) if is_bad_data(&error) => {
                let offenders = self.offenders(batch).await.map_err(|error| fault(&what(), error))?;
                if offenders.is_empty() {
                    // Nothing is wrong event by event: the server changed its mind, so try again.
                    return Err(Fault { kind: FaultKind::Transient, ..fault(&what(), error) }.into());
                }
                Err(ApplyError::Rejected(offenders))
            }
            Err(Failed::Sql(error)) => Err(fault(&what(), error).into()),
        }
    }

    async fn try_apply(&self, log: &str, batch: &SinkBatch) -> Result<Applied, Failed> {
        let mut transaction = self.pool.begin().await?;
        // First, so that a worker that lost its claim does no work and takes no other lock.
        move_offsets(&mut transaction, log, &batch.spans).await?;
        let applied = write(&mut transaction, batch, self.way).await?;
        transaction.commit().await?;
        Ok(applied)
    }

    /// The events the server refuses, found by halving in transactions that are rolled back.
    async fn offenders(&self, batch: &SinkBatch) -> Result<Vec<Rejection>, Error> {
        let mut connection = self.pool.acquire().await?;
        let mut found = Vec::new();
        self.halve(&mut connection, &batch.events, &mut found).await?;
        Ok(found)
    }

    fn halve<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [SinkEvent],
        found: &'a mut Vec<Rejection>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let Err(error) = self.rehearse(connection, events).await else { return Ok(()) };
            if !is_bad_data(&error) {
                return Err(error);
            }
            if let [only] = events {
                let reason = error.as_database_error().map_or_else(String::new, describe);
                found.push(Rejection { position: only.position, reason });
                return Ok(());
            }
            let (left, right) = events.split_at(events.len() / 2);
            self.halve(connection, left, found).await?;
            self.halve(connection, right, found).await
        })
    }

    async fn rehearse(&self, connection: &mut PgConnection, events: &[SinkEvent]) -> Result<(), Error> {
        let transaction = connection.begin().await?;
        let batch = SinkBatch { events: events.to_vec(), spans: Vec::new() };
        rehearse_in(transaction, &batch, self.way).await
    }
}

async fn rehearse_in(
    mut transaction: Transaction<'_, Postgres>,
    batch: &SinkBatch,
    way: super::Way,
) -> Result<(), Error> {
    let outcome = write(&mut transaction, batch, way).await;
    transaction.rollback().await?;
    outcome.map(|_| ())
}

async fn move_offsets(connection: &mut PgConnection, log: &str, spans: &[Span]) -> Result<(), Failed> {
    for span in spans {
        let moved = sqlx::query(
            "UPDATE sluice_offsets SET next_offset = $5, updated_at = now()
             WHERE log = $1 AND partition = $2 AND epoch = $3 AND (next_offset = $4 OR next_offset IS NULL)",
        )
        .bind(log)
        .bind(span.partition)
        .bind(span.epoch)
        .bind(span.first)
        .bind(span.next)
        .execute(&mut *connection)
        .await?;
        if moved.rows_affected() != 1 {
            return Err(Failed::Fenced(*span));
        }
    }
    Ok(())
}

fn fenced(span: Span) -> Fault {
    Fault::new(
        PART,
        FaultKind::Fenced,
        format!(
            "partition {} is not at offset {} under epoch {} any more",
            span.partition, span.first, span.epoch
        ),
        "another worker has taken the partition over; nothing was written, and this one claims it again if it is still its own",
    )
}

fn unstorable_in(batch: &SinkBatch) -> Vec<Rejection> {
    batch
        .events
        .iter()
        .filter_map(|sink| {
            unstorable(&sink.event)
                .map(|reason| Rejection { position: sink.position, reason: reason.to_owned() })
        })
        .collect()
}
