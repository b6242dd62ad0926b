//! Sinks that differ from what was appended: found, named, mended, or told.

use serde_json::json;
use sluice::{
    engine::{Engine, EngineError, SyncPhase},
    index::IndexName,
    source::sample::{Failure, Fault},
    store::{DifferenceKind, Reconciliation, SyncState},
};

use super::{found, is_proven, leads_index, name_of, reconcile, report, stored, with_leads};
use crate::support::{
    eventually, finished, on_each_adapter,
    place::{Embedded, Place, Real, documents},
    request,
    rows::{id, lead, leads, minutes_ago},
    sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    documents_that_an_index_lost_are_appended_again,
    rows_of_the_store_that_somebody_changed_are_mended,
    what_a_sink_can_t_take_is_told_and_not_appended_again_and_again,
    newest_events_that_an_index_lost_are_appended_again,
    events_that_the_store_lost_are_counted_once_though_they_are_appended_again,
    a_sink_that_applies_nothing_is_never_called_proven,
    a_reconciliation_runs_alone_is_told_of_by_name_and_can_be_cancelled,
}

async fn documents_that_an_index_lost_are_appended_again<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(130)).await;
    engine.shut_down().await;
    drop(engine);
    place.delete_all(leads_index()).await;
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(found(&engine, "*").await, 0);
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    let index = engine.inspection.status().await.sinks[1].name.clone();
    assert_eq!((report(&status).repaired, report(&status).deleted), (130, 0));
    let named = &report(&status).differences;
    assert_eq!(named.len(), 20, "the first are named");
    assert!(named.iter().all(|one| one.sink == index && one.problem == DifferenceKind::Missing), "{named:?}");
    assert!(named.iter().all(|one| one.mended));
    assert_eq!(found(&engine, "*").await, 130);
    assert_eq!(stored(&engine, "SELECT count(*) FROM eventos_raw").await, 130, "each event once");
    assert_eq!(stored(&engine, "SELECT sum(total) FROM eventos_agregados").await, 130);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn rows_of_the_store_that_somebody_changed_are_mended<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(40)).await;
    let stranger = "5f0c2f6e-0000-4f7a-9a55-0d3b8f6f1a01";
    place
        .execute(&format!(
            "DELETE FROM leads WHERE id = '{}'; UPDATE leads SET versao = 1 WHERE id = '{}'; \
             UPDATE leads SET versao = versao + 3600000000 WHERE id = '{}'; DELETE FROM eventos_raw WHERE entidade_id = '{}'; \
             INSERT INTO leads (id, nome, metadata, versao, evento_id) VALUES ('{stranger}', 'Ninguém', '{{}}', 5, '{stranger}')",
            id(1), id(2), id(3), id(4)
        ))
        .await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((report(&status).repaired, report(&status).deleted), (4, 1), "{status:?}");
    let problem = |key: &str| {
        report(&status)
            .differences
            .iter()
            .filter(|one| one.key == key)
            .map(|one| one.problem)
            .collect::<Vec<_>>()
    };
    assert_eq!(problem(&id(1)), [DifferenceKind::Missing]);
    assert_eq!(problem(&id(2)), [DifferenceKind::OtherVersion]);
    assert_eq!(problem(&id(3)), [DifferenceKind::OtherVersion]);
    assert_eq!(problem(&id(4)), [DifferenceKind::WithoutEvent]);
    assert_eq!(problem(stranger), [DifferenceKind::Surplus]);
    assert_eq!((stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await), (40, 40));
    assert_eq!(name_of(&engine, 1).await, json!("João 1"));
    let events = "SELECT count(*) FROM eventos_raw WHERE evento <> 'lead_removido'";
    assert_eq!(stored(&engine, events).await, 40);
    let again = reconcile(&engine).await;
    assert!(is_proven(&again) && again.appended == 0, "{again:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn what_a_sink_can_t_take_is_told_and_not_appended_again_and_again<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(5)).await;
    place.refuse_a_name().await;
    let mut refused = lead(9, 2);
    refused.insert("nome".to_owned(), json!("proibida"));
    place.source().upsert(table("leads"), vec![refused]);
    let synced = sync(&engine, request(table("leads"))).await;
    assert_eq!(synced.appended, 1);
    for _ in 0..2 {
        let status = reconcile(&engine).await;
        assert!(is_proven(&status), "{status:?}");
        assert_eq!((report(&status).parked, status.appended), (1, 0), "{status:?}");
    }
    assert_eq!((stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await), (5, 6));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn newest_events_that_an_index_lost_are_appended_again<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(30)).await;
    let rows = place.source().rows(table("leads"));
    place.source().set_rows(table("leads"), rows[..28].to_vec());
    assert_eq!(report(&reconcile(&engine).await).deleted, 2);
    engine.shut_down().await;
    drop(engine);
    place.delete_all(IndexName::Eventos).await;
    let engine = place.engine().await;
    engine.start_drains().await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!(report(&status).repaired, 30);
    let index = engine.inspection.status().await.sinks[1].name.clone();
    let named = &report(&status).differences;
    assert!(
        named
            .iter()
            .all(|one| one.sink == index && one.problem == DifferenceKind::WithoutEvent && one.mended),
        "{named:?}"
    );
    assert_eq!(documents(&engine, IndexName::Eventos, None).await.len(), 30, "28 rows and two removals");
    assert_eq!(stored(&engine, "SELECT sum(total) FROM eventos_agregados").await, 32, "the store had them");
    let again = reconcile(&engine).await;
    assert!(is_proven(&again) && again.appended == 0, "{again:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn events_that_the_store_lost_are_counted_once_though_they_are_appended_again<P: Place>() {
    let mut rows = leads(30);
    rows[3].insert("updated_at".to_owned(), json!(minutes_ago(60 * 5)));
    let (place, engine) = with_leads::<P>(rows).await;
    place.execute(&format!("DELETE FROM eventos_raw WHERE entidade_id <> '{}'", id(1))).await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!(report(&status).repaired, 29);
    assert!(report(&status).differences.iter().all(|one| one.problem == DifferenceKind::WithoutEvent));
    assert_eq!(stored(&engine, "SELECT count(*) FROM eventos_raw").await, 30);
    assert_eq!(stored(&engine, "SELECT sum(total) FROM eventos_agregados").await, 30);
    assert_eq!(stored(&engine, "SELECT count(DISTINCT evento) FROM eventos_agregados").await, 2);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_sink_that_applies_nothing_is_never_called_proven<P: Place>() {
    let mut place = P::new().await;
    place.set("SLUICE_RECONCILE_PATIENCE_SECONDS", "2");
    place.source().set_rows(table("leads"), leads(4));
    // Nobody drains.
    let engine = place.engine().await;
    let started =
        engine.syncs.reconcile(&table("leads").into(), Reconciliation::default()).await.expect("started");
    eventually("it gives up", async || {
        engine.syncs.status(started).await.expect("a status").state == SyncPhase::Failed
    })
    .await;
    let status = engine.syncs.status(started).await.expect("a status");
    let error = status.error.clone().unwrap_or_default();
    assert!(error.contains("4 records are still to be applied here and none was for 2 s"), "{error}");
    assert_eq!(status.appended, 4, "what it appended stays");
    assert!(report(&status).sinks.is_empty());
    engine.start_drains().await;
    // The index may not be there before.
    eventually("it is applied", async || {
        engine.drains.lag().await.is_ok_and(|lags| lags.iter().all(|lag| lag.total == 0))
    })
    .await;
    eventually("it is found", async || {
        stored(&engine, "SELECT count(*) FROM leads").await == 4 && found(&engine, "*").await == 4
    })
    .await;
    let again = reconcile(&engine).await;
    assert!(is_proven(&again), "{again:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_reconciliation_runs_alone_is_told_of_by_name_and_can_be_cancelled<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(4)).await;
    place.source().take_requests();
    place.source().script([Fault::Delay(std::time::Duration::ZERO), Fault::Hang]);
    let started = begun(&engine).await;
    let mut asked = 0;
    eventually("the source hangs", async || {
        asked += place.source().take_requests().len();
        asked >= 2
    })
    .await;
    let busy = engine.syncs.start(request(table("leads"))).await.expect_err("one at a time");
    assert!(matches!(&busy, EngineError::Busy(Some(record)) if record.id == started));
    assert!(busy.to_string().contains("a reconciliation of leads runs already"), "{busy}");
    engine.syncs.cancel(started).await.expect("cancelled");
    let status = finished(&engine, started).await;
    assert_eq!(status.state, SyncPhase::Cancelled);
    let last = async |engine: &Engine| {
        let status = engine.inspection.status().await;
        assert!(status.warnings.iter().any(|one| one.problem.contains("last reconciliation")), "{status:?}");
        status.tables[0].reconciled.clone().expect("a reconciliation")
    };
    let cancelled = last(&engine).await;
    assert_eq!(
        (cancelled.outcome, cancelled.unexplained),
        (SyncState::Cancelled, None),
        "nothing was compared"
    );

    // One that ends with its process was not decided against.
    place.source().take_requests();
    place.source().script([Fault::Delay(std::time::Duration::ZERO), Fault::Hang]);
    let cut = begun(&engine).await;
    let mut asked = 0;
    eventually("the source hangs again", async || {
        asked += place.source().take_requests().len();
        asked >= 2
    })
    .await;
    engine.shut_down().await;
    drop(engine);
    let engine = place.engine().await;
    let interrupted = last(&engine).await;
    assert_eq!((interrupted.outcome, interrupted.unexplained), (SyncState::Interrupted, None));
    assert_eq!(interrupted.succeeded_seconds_ago, None);
    let told = engine.syncs.status(cut).await.expect("a status");
    assert!(told.error.is_some_and(|error| error.contains("its process ended")));
    engine.start_drains().await;

    let again = reconcile(&engine).await;
    assert!(is_proven(&again), "{again:?}");
    let last = engine.syncs.last_reconciliation(&table("leads").into()).await.expect("an answer");
    assert_eq!(last.map(|last| last.id), Some(again.sync_id));
    engine.shut_down().await;
    place.clean_up().await;
}

fn well() -> Fault {
    Fault::Delay(std::time::Duration::ZERO)
}

async fn begun(engine: &Engine) -> uuid::Uuid {
    let started =
        engine.syncs.reconcile(&table("leads").into(), Reconciliation::default()).await.expect("started");
    eventually("it runs", async || engine.syncs.status(started).await.is_ok()).await;
    started
}

mod reading {
    use super::*;

    on_each_adapter! {
        embedded: Embedded, real: Real;
        a_table_whose_reading_was_broken_off_is_read_whole_so_that_what_changed_before_is_found,
        keys_are_asked_for_in_shorter_requests_where_one_is_too_long,
        equal_tables_cost_a_question_a_range_and_nothing_is_asked_for_by_key,
    }
}

async fn a_table_whose_reading_was_broken_off_is_read_whole_so_that_what_changed_before_is_found<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(60)).await;
    place.source().set_max_rows(Some(10));
    // The count, three pages, and then a refusal.
    let refusal = Failure { status: 401, headers: Vec::new(), body: "{}".to_owned() };
    place.source().script([well(), well(), well(), well(), Fault::Refuse(refusal)]);
    let broken = reconcile(&engine).await;
    assert_eq!((broken.state, broken.rows_read), (SyncPhase::Failed, 30), "{broken:?}");

    // Of the rows that were shown one is deleted, and one changes and says nothing of it; two others are deleted.
    let mut rows = place.source().rows(table("leads"));
    rows.retain(|row| ![id(5), id(45), id(55)].iter().any(|gone| row["id"] == json!(gone)));
    rows[0].insert("nome".to_owned(), json!("Outra Pessoa"));
    place.source().set_rows(table("leads"), rows);
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!(
        (report(&status).source_rows, report(&status).deleted, status.appended),
        (57, 3, 1 + 3),
        "{status:?}"
    );
    assert_eq!((stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await), (57, 57));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn keys_are_asked_for_in_shorter_requests_where_one_is_too_long<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(20)).await;
    let too_long = || Fault::Refuse(Failure { status: 414, headers: Vec::new(), body: String::new() });
    // Two counts, a page and its end, and rows without a key: then the rows are asked for by key.
    let whole = || std::iter::repeat_with(well).take(5);
    place.execute("DELETE FROM leads").await;
    place.source().script(whole().chain(std::iter::repeat_with(too_long).take(5)));
    let refused = reconcile(&engine).await;
    let error = refused.error.clone().unwrap_or_default();
    assert!(refused.state == SyncPhase::Failed && error.contains("the request is too long"), "{error}");
    let named = &report(&refused).differences;
    assert!(named.len() == 20 && named.iter().all(|one| !one.mended), "nothing was done: {named:?}");
    assert_eq!(report(&refused).repaired, 0);

    place.source().script(whole().chain(std::iter::repeat_with(too_long).take(2)));
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!(report(&status).repaired, 20);
    assert_eq!(stored(&engine, "SELECT count(*) FROM leads").await, 20);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn equal_tables_cost_a_question_a_range_and_nothing_is_asked_for_by_key<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(250)).await;
    place.source().set_max_rows(Some(100));
    place.source().take_requests();
    let status = reconcile(&engine).await;
    assert!(is_proven(&status) && status.appended == 0, "{status:?}");
    let asked = place.source().take_requests();
    assert_eq!(
        asked.len(),
        2 + 4 + 1,
        "two counts, three pages and their end, and rows without a key: {asked:?}"
    );
    let rows = place.source().rows(table("leads"));
    place.source().set_rows(table("leads"), rows.into_iter().skip(3).collect());
    place.source().take_requests();
    let status = reconcile(&engine).await;
    assert_eq!(report(&status).deleted, 3);
    let asked = place.source().take_requests();
    assert!(asked.len() <= 2 + 4 + 1 + 4, "and those that lack are asked for, twice: {}", asked.len());
    engine.shut_down().await;
    place.clean_up().await;
}
