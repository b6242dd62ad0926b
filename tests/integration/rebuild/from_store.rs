//! Rebuilds of a log that has lost its beginning: what it lacks comes from the store.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice::{
    domain::{Json, ManualEvent, TableName},
    engine::{EntityKey, ErasureRequest, SyncPhase},
    store::Reconciliation,
};
use uuid::Uuid;

use super::*;
use crate::support::{
    finished,
    place::documents,
    rows::{id, lead},
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    an_index_rebuilt_from_a_log_that_lost_its_beginning_is_as_it_was,
    a_half_filled_rebuild_is_begun_anew_where_somebody_was_erased_since,
    a_rebuild_that_would_lose_documents_is_refused_and_the_index_stays,
    what_else_the_log_holds_and_the_store_has_not_read_is_no_proof_that_a_document_can_be_made,
    a_refusal_names_the_dead_letters_where_the_store_parked_the_rows,
}

/// Begins a rebuild that is refused; returns why.
async fn refused(engine: &Engine, index: IndexName) -> String {
    engine.rebuilds.begin(&[index]).await.expect("it is begun");
    let mut ended = engine.rebuilds.wait_for(&[index], PATIENCE).await;
    let ended = ended.pop().expect("a rebuild");
    assert_eq!(ended.phase, RebuildPhase::Refused, "{ended:?}");
    let problems = engine.inspection.status().await.problems;
    let refusal = ended.last_error.expect("a reason");
    assert!(problems.iter().any(|problem| problem.to_string().contains(&refusal)), "{problems:?}");
    refusal
}

async fn what_else_the_log_holds_and_the_store_has_not_read_is_no_proof_that_a_document_can_be_made<
    P: Place,
>() {
    let (place, engine) = with_history::<P>().await;
    engine.shut_down().await;
    drop(engine);
    place.cut_log().await;
    let engine = place.engine().await;
    engine.start_drains().await;
    let store = engine.drains.reports().remove(0).sink;
    engine.drains.pause(&store, "a test").await.expect("paused");
    place.execute("DELETE FROM leads WHERE nome IN ('Nova', 'João 7')").await;
    for valor in 0..30 {
        let manual = ManualEvent {
            id: None,
            usuario: "ana".to_owned(),
            evento: "outro".to_owned(),
            valor: f64::from(valor),
            metadata: Json::empty_object(),
        };
        engine.appender.inject(manual).await.expect("injected");
    }
    let before = total(&engine, leads_index()).await;
    let refusal = refused(&engine, leads_index()).await;
    assert!(refusal.contains(" documents of leads would be lost"), "{refusal}");
    assert_eq!(total(&engine, leads_index()).await, before);
    // Of the events, the log and the store have all.
    engine.rebuilds.begin(&[IndexName::Eventos]).await.expect("a rebuild");
    done(&engine, &[IndexName::Eventos]).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_refusal_names_the_dead_letters_where_the_store_parked_the_rows<P: Place>() {
    let place = P::new().await;
    let engine = place.engine().await;
    engine.prepare().await.expect("prepared");
    place.refuse_a_name().await;
    engine.start_drains().await;
    let mut parked = lead(900, 0);
    parked.insert("nome".to_owned(), json!("proibida"));
    place.source().set_rows(table("leads"), vec![parked]);
    sync(&engine, request(table("leads"))).await;
    place.source().upsert(table("leads"), leads(40));
    sync(&engine, request(table("leads"))).await;
    eventually("all are searchable", async || total(&engine, leads_index()).await == 41).await;
    engine.shut_down().await;
    drop(engine);
    place.cut_log().await;
    let engine = place.engine().await;
    engine.start_drains().await;
    let refusal = refused(&engine, leads_index()).await;
    assert!(refusal.contains("1 documents of leads would be lost"), "{refusal}");
    assert!(refusal.contains("dead letters") && !refusal.contains("reconcile"), "{refusal}");
    // What it says helps.
    place.refuse_no_name().await;
    let all = sluice::engine::Selection::Open { sink: None, from: None, limit: 10 };
    let outcome = engine.letters.replay(&all, "a test").await.expect("replayed");
    assert_eq!(outcome.settled.len(), 1, "{outcome:?}");
    engine.drains.wait_for(&outcome.targets, PATIENCE).await.expect("drained");
    engine.rebuilds.begin(&[leads_index()]).await.expect("a rebuild");
    done(&engine, &[leads_index()]).await;
    assert_eq!(total(&engine, leads_index()).await, 41);
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_rebuilt_from_a_topic_made_anew_keeps_what_only_the_store_has() {
    let pipeline = crate::support::Pipeline::new().await;
    let topic = &pipeline.variables["KAFKA_TOPIC"];
    let renamed = |name: &str| {
        let mut rows = leads(20);
        for row in &mut rows {
            row.insert("nome".to_owned(), json!(name));
        }
        rows
    };
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    for name in ["primeira", "segunda"] {
        pipeline.source.set_rows(table("leads"), renamed(name));
        assert_eq!(sync(&engine, request(table("leads"))).await.appended, 20);
    }
    engine.shut_down().await;
    drop(engine);
    crate::support::rows::delete_topics_for_good(&[topic]).await;

    let engine = pipeline.engine().await;
    engine.start_drains().await;
    let lag = async || engine.drains.lag().await.expect("the lag");
    eventually("the new topic is filled and drained", async || {
        lag()
            .await
            .iter()
            .all(|lag| lag.total == 0 && lag.partitions.iter().map(|of| of.log_end_offset).sum::<i64>() == 20)
    })
    .await;
    engine.drains.pause("postgres", "a test").await.expect("paused");
    pipeline.source.set_rows(table("leads"), renamed("terceira"));
    engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("all are searchable", async || total(&engine, IndexName::Eventos).await == 60).await;
    // As many in the new topic as in the store, and not the same.
    engine.rebuilds.begin(&[IndexName::Eventos]).await.expect("a rebuild");
    done(&engine, &[IndexName::Eventos]).await;
    assert_eq!(total(&engine, IndexName::Eventos).await, 60);
    engine.shut_down().await;
    pipeline.clean_up().await;
}

/// Every document by its id, but for when it was written.
async fn all(engine: &Engine) -> BTreeMap<(String, String), Value> {
    let mut all = BTreeMap::new();
    for index in every_index() {
        for mut document in documents(engine, index, None).await {
            document.as_object_mut().expect("an object").remove("processado_em");
            let id = document["id"].as_str().expect("an id").to_owned();
            all.insert((index.to_string(), id), document);
        }
    }
    all
}

/// Leads with a history: one changed, one changed back, one gone, one erased; sessions; a manual event.
async fn with_history<P: Place>() -> (P, Arc<Engine>) {
    let place = P::new().await;
    let mut rows = leads(12);
    place.source().set_rows(table("leads"), rows.clone());
    place.source().set_rows(table("chat_sessions"), (1..=9).map(|n| session(n, 5, 4)).collect());
    let engine = place.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    sync(&engine, request(table("chat_sessions"))).await;
    for name in ["Outra", "João 3"] {
        for changed in [2, 3] {
            rows[changed].insert("nome".to_owned(), json!(if changed == 2 { name } else { "Nova" }));
        }
        place.source().set_rows(table("leads"), rows.clone());
        sync(&engine, request(table("leads"))).await;
    }
    rows.remove(5);
    place.source().set_rows(table("leads"), rows);
    let leads = TableName("leads".to_owned());
    let gone = engine.syncs.reconcile(&leads, Reconciliation::default()).await.expect("started");
    assert_eq!(finished(&engine, gone).await.state, SyncPhase::Done);
    let erased = ErasureRequest { table: table("leads"), who: EntityKey::Key(id(9)), related: false };
    engine.erasures.erase(&erased, "a test").await.expect("erased");
    let manual = ManualEvent {
        id: None,
        usuario: "ana".to_owned(),
        evento: "teste".to_owned(),
        valor: 1.5,
        metadata: Json::empty_object(),
    };
    engine.appender.inject(manual).await.expect("injected");
    eventually("both sinks have everything", async || {
        engine.drains.lag().await.expect("the lag").iter().all(|lag| lag.total == 0)
            && all(&engine).await.values().any(|document| document["evento"] == "teste")
    })
    .await;
    (place, engine)
}

async fn an_index_rebuilt_from_a_log_that_lost_its_beginning_is_as_it_was<P: Place>() {
    let (place, engine) = with_history::<P>().await;
    let before = all(&engine).await;
    assert_eq!(before.keys().filter(|(index, _)| index == "leads").count(), 10);
    let versions = engine_versions(&place).await;
    engine.shut_down().await;
    drop(engine);
    place.cut_log().await;
    place.delete_all(leads_index()).await;

    let engine = place.engine().await;
    engine.start_drains().await;
    engine.rebuilds.begin(&every_index()).await.expect("a rebuild");
    done(&engine, &every_index()).await;
    assert_eq!(all(&engine).await, before);
    assert_eq!(engine_versions(&place).await, versions);
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    let told: Vec<_> = engine.inspection.status().await.notices;
    assert!(told.is_empty(), "nothing was lost to a sink: {told:?}");
    // It is read on from where it begins, and no older version of what was removed comes back.
    place.source().upsert(table("leads"), vec![lead(50, 0)]);
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    eventually("the new lead is found", async || total(&engine, leads_index()).await == 11).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn engine_versions<P: Place>(place: &P) -> Vec<(String, i64)> {
    let index = place.index();
    index.make_visible().await.expect("visible");
    index.versions(table("leads"), None, 1_000).await.expect("versions").entities
}

async fn a_half_filled_rebuild_is_begun_anew_where_somebody_was_erased_since<P: Place>() {
    let (place, engine) = with_history::<P>().await;
    let before = all(&engine).await;
    engine.shut_down().await;
    drop(engine);
    place.cut_log().await;
    // The process that began it wrote of somebody who was erased then, and is gone.
    let index = place.index();
    let begun = index.begin_rebuild(leads_index(), Uuid::new_v4()).await.expect("a rebuild");
    let late = crate::support::events::lead(1, Uuid::parse_str(&id(9)).expect("a key"), 7, json!({}));
    crate::support::events::applied(&*index.rebuild_sink(&begun), vec![late]).await;
    drop(index);

    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("another is begun, and done", async || {
        let latest = engine.rebuilds.latest();
        latest.iter().any(|rebuild| rebuild.id != begun.id && rebuild.phase == RebuildPhase::Done)
    })
    .await;
    assert_eq!(all(&engine).await, before, "nothing of whom was erased");
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_rebuild_that_would_lose_documents_is_refused_and_the_index_stays<P: Place>() {
    let (place, engine) = with_history::<P>().await;
    let before = all(&engine).await;
    engine.shut_down().await;
    drop(engine);
    place.cut_log().await;
    place.execute("DELETE FROM leads").await;
    let engine = place.engine().await;
    engine.start_drains().await;
    let refusal = refused(&engine, leads_index()).await;
    assert!(refusal.contains(" documents of leads would be lost"), "{refusal}");
    assert_eq!(all(&engine).await, before);
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    // What it says helps.
    let leads = TableName("leads".to_owned());
    let mended = engine.syncs.reconcile(&leads, Reconciliation::default()).await.expect("started");
    assert_eq!(finished(&engine, mended).await.state, SyncPhase::Done);
    engine.rebuilds.begin(&[leads_index()]).await.expect("a rebuild");
    done(&engine, &[leads_index()]).await;
    assert_eq!(total(&engine, leads_index()).await, 10);
    engine.shut_down().await;
    place.clean_up().await;
}
