//! Reconciliations: rows that are gone, changed or late are found and mended, and both sinks are proven.

use serde_json::{Value, json};
use sluice::{
    domain::{JsonObject, TableName},
    engine::{Engine, SyncPhase, SyncStatus},
    index::IndexName,
    store::{ReconcileReport, Reconciliation},
};

use crate::support::{
    finished, on_each_adapter,
    place::{Embedded, Place, Real, value},
    request,
    rows::{id, lead, leads, minutes_ago},
    sync, table,
};

mod breaking_off;
mod counting;
mod deletes;
mod letters;
mod proving;
mod strays;
mod surface;

on_each_adapter! {
    embedded: Embedded, real: Real;
    rows_that_are_gone_changed_or_late_are_found_and_mended_and_nothing_else_is_appended,
}

/// Runs a reconciliation of the leads to its end.
async fn reconcile(engine: &Engine) -> SyncStatus {
    reconcile_with(engine, Reconciliation::default()).await
}

async fn reconcile_with(engine: &Engine, asked: Reconciliation) -> SyncStatus {
    let id = engine.syncs.reconcile(&TableName("leads".to_owned()), asked).await.expect("a reconciliation");
    finished(engine, id).await
}

fn report(status: &SyncStatus) -> &ReconcileReport {
    status.reconcile.as_ref().unwrap_or_else(|| panic!("no report in {status:?}"))
}

fn is_proven(status: &SyncStatus) -> bool {
    let report = report(status);
    status.state == SyncPhase::Done
        && report.unexplained == 0
        && report.sinks.len() == 2
        && report.sinks.iter().all(|sink| sink.proven)
}

fn leads_index() -> IndexName {
    IndexName::Entities(table("leads"))
}

async fn stored(engine: &Engine, sql: &str) -> i64 {
    value(engine, sql).await.as_i64().unwrap_or_else(|| panic!("{sql}: no number"))
}

/// How many leads match in the index.
async fn found(engine: &Engine, query: &str) -> u64 {
    use sluice::index::{SearchRequest, Sort};
    let request = SearchRequest {
        index: leads_index(),
        query: Some(query.to_owned()),
        sort: Sort::Newest,
        from: 0,
        size: 0,
        count_by: Vec::new(),
        count_by_day: false,
        zone: chrono_tz::Tz::UTC,
    };
    engine.questions.search(&request).await.expect("an answer").total
}

/// As many leads, synced into both sinks.
async fn with_leads<P: Place>(rows: Vec<JsonObject>) -> (P, std::sync::Arc<Engine>) {
    let place = P::new().await;
    place.source().set_rows(table("leads"), rows);
    let engine = place.engine().await;
    engine.start_drains().await;
    let synced = sync(&engine, request(table("leads"))).await;
    assert_eq!(synced.state, SyncPhase::Done);
    (place, engine)
}

async fn rows_that_are_gone_changed_or_late_are_found_and_mended_and_nothing_else_is_appended<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(120)).await;
    let mut rows: Vec<JsonObject> = place.source().rows(table("leads"));
    // Five are deleted, three change and say nothing of it, one comes with a time long ago.
    rows.retain(|row| ![id(10), id(20), id(30), id(40), id(50)].iter().any(|gone| row["id"] == json!(gone)));
    for row in rows.iter_mut().take(3) {
        row.insert("nome".to_owned(), json!("Outra Pessoa"));
    }
    let mut late = lead(500, 5);
    late.insert("updated_at".to_owned(), json!(minutes_ago(60 * 24 * 90)));
    rows.push(late);
    place.source().set_rows(table("leads"), rows);
    let blind = sync(&engine, request(table("leads"))).await;
    assert_eq!(blind.appended, 3, "a sync of a day sees neither the late row nor those that are gone");

    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    let found_out = report(&status);
    assert_eq!(
        (found_out.source_rows, found_out.gone, found_out.deleted, found_out.repaired),
        (116, 5, 5, 0)
    );
    assert_eq!(status.appended, 1 + 5, "the late row and five removals");
    assert_eq!(stored(&engine, "SELECT count(*) FROM leads").await, 116);
    assert_eq!(found(&engine, "*").await, 116);
    assert_eq!(found(&engine, &format!("id:\"{}\"", id(10))).await, 0);
    assert_eq!(stored(&engine, "SELECT count(*) FROM eventos_raw WHERE evento = 'lead_removido'").await, 5);
    let history = format!("SELECT count(*) FROM eventos_raw WHERE entidade_id = '{}'", id(10));
    assert_eq!(stored(&engine, &history).await, 2, "its history stays");

    let again = reconcile(&engine).await;
    assert!(is_proven(&again), "{again:?}");
    assert_eq!((again.appended, report(&again).gone, report(&again).deleted), (0, 0, 0), "{again:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

/// What a lead is called in the store.
async fn name_of(engine: &Engine, n: u128) -> Value {
    value(engine, &format!("SELECT nome FROM leads WHERE id = '{}'", id(n))).await
}
