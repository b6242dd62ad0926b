//! Stores and indices: made anew, emptied, restored, two of a name.

use sluice::{
    engine::{Engine, Finding, SyncPhase},
    store::{NoticeKind, Reconciliation},
};

use super::{after_its_own, healed, log::remove_everything, told};
use crate::support::{
    Pipeline, connect, eventually, finished,
    place::{Place, Real},
    request,
    rows::leads,
    service, sync, table,
};

async fn delete_index(pipeline: &Pipeline, index: &str) {
    let name = format!("{}{index}-000001", pipeline.variables["ELASTICSEARCH_INDEX_PREFIX"]);
    let url = format!("{}/{name}", service("ELASTICSEARCH_URL"));
    let answer = reqwest::Client::new().delete(url).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_deleted_under_a_live_drain_is_made_anew_with_all_of_its_documents() {
    let pipeline = Pipeline::new().await;
    let rows = leads(65);
    pipeline.source.set_rows(table("leads"), rows[..60].to_vec());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    delete_index(&pipeline, "leads").await;
    pipeline.source.set_rows(table("leads"), rows);
    sync(&engine, request(table("leads"))).await;
    healed(&pipeline, &engine, 65).await;
    told(&engine, NoticeKind::SinkReplaced).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_deleted_while_nothing_runs_is_made_anew_with_all_of_its_documents() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(60));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    engine.shut_down().await;
    drop(engine);

    delete_index(&pipeline, "leads").await;
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    healed(&pipeline, &engine, 60).await;
    told(&engine, NoticeKind::SinkReplaced).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_takes_no_identity_away() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(20));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    let group = async || engine.drains.lag().await.expect("the lag")[1].consumer_group.clone();
    let before = group().await;
    let index = sluice::index::IndexName::Entities(table("leads"));
    for _ in 0..2 {
        engine.rebuilds.begin(&[index]).await.expect("a rebuild");
        engine.rebuilds.wait_for(&[index], std::time::Duration::from_mins(1)).await;
        assert_eq!(group().await, before, "the topic is not read again");
    }
    healed(&pipeline, &engine, 20).await;
    assert!(engine.inspection.status().await.notices.is_empty());
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_filled_from_another_log_is_not_written_into_and_that_is_told() {
    let first = Pipeline::new().await;
    let mut second = Pipeline::new().await;
    second.set("ELASTICSEARCH_INDEX_PREFIX", first.variables["ELASTICSEARCH_INDEX_PREFIX"].clone());
    first.source.set_rows(table("leads"), leads(20));
    second.source.set_rows(table("leads"), leads(30));
    let one = first.engine().await;
    one.start_drains().await;
    sync(&one, request(table("leads"))).await;
    let index = sluice::index::IndexName::Entities(table("leads"));
    for _ in 0..2 {
        let two = second.engine().await;
        two.start_drains().await;
        two.syncs.start(request(table("leads"))).await.expect("a sync");
        eventually("it is told", async || {
            let problems = two.inspection.status().await.problems;
            let told = |problem: &str| {
                problem.contains("is filled from the log") && problem.contains("INDEX_PREFIX")
            };
            problems.iter().any(|problem| told(&problem.to_string()))
        })
        .await;
        eventually("doctor tells it, too", async || {
            let is_told =
                |one: &Finding| one.check == "drained here" && one.detail.contains("is filled from the log");
            two.doctor.examine().await.iter().any(is_told)
        })
        .await;
        two.shut_down().await;
        assert_eq!(first.hits("leads", "*").await, 20);
        // An index that took its place is no other setup's either.
        one.rebuilds.begin(&[index]).await.expect("a rebuild");
        one.rebuilds.wait_for(&[index], std::time::Duration::from_mins(1)).await;
    }
    one.shut_down().await;
    second.clean_up().await;
    first.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_under_one_group_prefix_each_hold_everything() {
    let first = Pipeline::new().await;
    let mut second = Pipeline::new().await;
    for name in ["KAFKA_TOPIC", "SLUICE_GROUP_PREFIX"] {
        second.set(name, first.variables[name].clone());
    }
    first.source.set_rows(table("leads"), leads(200));
    let (one, two) = (first.engine().await, second.engine().await);
    one.start_drains().await;
    two.start_drains().await;
    sync(&one, request(table("leads"))).await;
    healed(&first, &one, 200).await;
    healed(&second, &two, 200).await;
    one.shut_down().await;
    two.shut_down().await;
    second.clean_up().await;
    first.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_dropped_under_a_live_drain_is_made_anew_with_all_of_its_rows() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(40));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    pipeline.execute("DROP TABLE leads").await;
    healed(&pipeline, &engine, 40).await;
    told(&engine, NoticeKind::SinkReplaced).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_unchanged_rows_waits_for_a_table_that_was_dropped() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(40));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    engine.shut_down().await;
    drop(engine);

    let engine = pipeline.engine().await;
    engine.inspection.status().await;
    pipeline.execute("DROP TABLE leads").await;
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("all is read", async || {
        engine.syncs.status(id).await.expect("a status").state != SyncPhase::Running
    })
    .await;
    let again = engine.syncs.status(id).await.expect("a status");
    assert_eq!((again.state, again.unchanged), (SyncPhase::Draining, 40), "{again:?}");
    engine.start_drains().await;
    assert_eq!(finished(&engine, id).await.state, SyncPhase::Done);
    assert_eq!(pipeline.number("SELECT count(*) FROM leads").await, 40);
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn indices_made_anew_after_retention_took_their_records_are_filled_from_the_source() {
    let place = Real::new().await;
    place.source().set_rows(table("leads"), leads(60));
    let engine = place.engine().await;
    engine.start_drains().await;
    let before = sync(&engine, request(table("leads"))).await;
    assert_eq!(before.state, SyncPhase::Done);
    engine.shut_down().await;
    drop(engine);
    remove_everything(&place.0.variables["KAFKA_TOPIC"], 3).await;
    place.delete_indices().await;

    let engine = place.engine().await;
    engine.start_drains().await;
    told(&engine, NoticeKind::RecordsRemoved).await;
    healed(&place.0, &engine, 60).await;
    let lost = engine.syncs.status(before.sync_id).await.expect("a status");
    assert_eq!(lost.state, SyncPhase::Failed, "it was in the indices that are gone: {lost:?}");
    assert!(lost.error.is_some_and(|error| error.contains("removed from the log before elasticsearch")));
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removals_whose_records_retention_took_are_appended_again_each_as_the_event_it_was() {
    let place = Real::new().await;
    place.source().set_rows(table("leads"), leads(20));
    let engine = place.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    let reconcile = async |engine: &Engine| {
        let leads = table("leads").into();
        let begin = async || engine.syncs.reconcile(&leads, Reconciliation::default()).await;
        assert_eq!(after_its_own(engine, begin).await.state, SyncPhase::Done);
    };
    place.source().set_rows(table("leads"), leads(17));
    reconcile(&engine).await;
    engine.shut_down().await;
    drop(engine);
    remove_everything(&place.0.variables["KAFKA_TOPIC"], 3).await;
    place.delete_indices().await;

    let engine = place.engine().await;
    engine.start_drains().await;
    told(&engine, NoticeKind::RecordsRemoved).await;
    reconcile(&engine).await;
    let removals = "SELECT count(*) FROM eventos_raw WHERE evento = 'lead_removido'";
    assert_eq!(place.0.number(removals).await, 3);
    assert_eq!(place.0.hits("eventos", "evento:lead_removido").await, 3);
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_makes_a_dropped_table_anew_says_so_and_the_next_drain_fills_it() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(40));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    engine.shut_down().await;
    drop(engine);
    pipeline.execute("DROP TABLE leads").await;

    let migrated = pipeline.command(&["migrate"]).output().await.expect("it runs");
    let text = String::from_utf8_lossy(&migrated.stdout);
    assert!(migrated.status.success() && text.contains("postgres/leads is another than it was"), "{text}");
    assert_eq!(pipeline.number("SELECT count(*) FROM sluice_syncs WHERE drained").await, 0);
    let again = pipeline.command(&["migrate"]).output().await.expect("it runs");
    assert!(!String::from_utf8_lossy(&again.stdout).contains("postgres/leads"), "it is told once");
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    healed(&pipeline, &engine, 40).await;
    let known = "SELECT count(*) FROM sluice_parts WHERE place = 'the index'";
    assert_eq!(pipeline.number(known).await, 1, "one at another place would be known as another");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_emptied_under_a_live_drain_is_filled_again() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(80));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    pipeline.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    healed(&pipeline, &engine, 80).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_restored_from_an_older_copy_is_told_of_and_filled_again() {
    let pipeline = Pipeline::new().await;
    let rows = leads(150);
    pipeline.source.set_rows(table("leads"), rows[..50].to_vec());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    engine.shut_down().await;
    drop(engine);
    let name = url::Url::parse(&pipeline.variables["DATABASE_URL"]).expect("a URL").path()[1..].to_owned();
    let mut admin = connect(&service("DATABASE_ADMIN_URL")).await;
    let mut run = async |statement: String| {
        sqlx::raw_sql(&statement)
            .execute(&mut admin)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    };
    run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    run(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")).await;
    run(format!("CREATE DATABASE {name}_old TEMPLATE {name} OWNER sluice")).await;
    run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;

    pipeline.source.set_rows(table("leads"), rows);
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    engine.shut_down().await;
    drop(engine);
    run(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    run(format!("ALTER DATABASE {name}_old RENAME TO {name}")).await;

    let engine = pipeline.engine().await;
    engine.start_drains().await;
    healed(&pipeline, &engine, 150).await;
    told(&engine, NoticeKind::SinkReplaced).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_set_back_in_a_store_are_told_of_and_everything_counts_once() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(60));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    engine.shut_down().await;
    drop(engine);
    pipeline.execute("UPDATE sluice_offsets SET next_offset = 1 WHERE next_offset > 1").await;
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    healed(&pipeline, &engine, 60).await;
    told(&engine, NoticeKind::StoreWentBack).await;
    let notices = engine.notices().await.expect("the notices");
    let went_back = notices.iter().find(|notice| notice.kind == NoticeKind::StoreWentBack).expect("told");
    assert!(went_back.sentence().contains("ledger of erasures may lack those made since"), "{went_back:?}");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_a_store_loses_under_an_idle_drain_are_told_of_and_made_again_though_nothing_comes() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(60));
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    healed(&pipeline, &engine, 60).await;
    // As a standby that was behind has it, or a server that lost its last commits in a crash.
    pipeline
        .execute(
            "BEGIN;
             DELETE FROM leads WHERE id IN (SELECT entidade_id::uuid FROM eventos_raw WHERE posicao > 1);
             DELETE FROM eventos_agregados;
             INSERT INTO eventos_agregados (janela_inicio, janela_fim, categoria, evento, total, soma_valor)
             SELECT inicio, inicio + interval '5 minutes', categoria, evento, count(*), sum(valor)
             FROM (SELECT date_bin('5 minutes', \"timestamp\", 'epoch') AS inicio, * FROM eventos_raw WHERE posicao <= 1) AS e
             GROUP BY inicio, categoria, evento;
             DELETE FROM eventos_raw WHERE posicao > 1;
             UPDATE sluice_offsets SET next_offset = 2 WHERE next_offset > 2;
             COMMIT",
        )
        .await;
    healed(&pipeline, &engine, 60).await;
    told(&engine, NoticeKind::StoreWentBack).await;
    let lost = engine.notices().await.expect("the notices");
    assert!(lost.iter().all(|notice| notice.kind == NoticeKind::StoreWentBack && notice.to == 2), "{lost:?}");
    engine.shut_down().await;
    pipeline.clean_up().await;
}
