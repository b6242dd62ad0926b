//! What is written to is replaced, cut or restored under the same name: recognized, told, and made up for from what is
//! still there, without anybody's doing. Rows are counted against the source's.

mod embedded;
mod log;
mod owed;
mod sinks;
mod sources;

use sluice::{
    engine::{Engine, EngineError, SyncStatus},
    store::NoticeKind,
};
use uuid::Uuid;

use crate::support::{Pipeline, eventually, finished};

/// Everything the source has is in both sinks, once, and nothing is left to apply.
async fn healed(pipeline: &Pipeline, engine: &Engine, rows: i64) {
    eventually("both sinks hold all rows", async || {
        pipeline.try_number("SELECT count(*) FROM leads").await == Some(rows)
            && pipeline.try_hits("leads", "*").await == Some(rows)
            && pipeline.try_hits("eventos", "*").await == Some(rows)
            && engine.drains.lag().await.is_ok_and(|lag| lag.iter().all(|lag| lag.total == 0))
    })
    .await;
    pipeline.assert_events_in_full(rows).await;
}

/// Status tells of it, doctor too.
async fn told(engine: &Engine, kind: NoticeKind) {
    eventually("status tells of it", async || {
        let status = engine.inspection.status().await;
        status.notices.iter().any(|notice| {
            notice.kind == kind
                && status.warnings.iter().any(|warning| warning.to_string() == notice.sentence())
        })
    })
    .await;
    let check = kind.as_str().replace('_', " ");
    assert!(engine.doctor.examine().await.iter().any(|finding| finding.check == check), "doctor tells of it");
}

/// Runs a sync as soon as the pipeline's own, which reads again what was lost, leaves the table.
async fn after_its_own(engine: &Engine, begin: impl AsyncFn() -> Result<Uuid, EngineError>) -> SyncStatus {
    let mut id = None;
    eventually("the table is left", async || {
        id = match begin().await {
            Err(EngineError::Busy(_)) => None,
            other => Some(other.expect("a sync")),
        };
        id.is_some()
    })
    .await;
    finished(engine, id.expect("it began")).await
}
