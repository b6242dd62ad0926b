//! A row's whole way, and what a second look at it does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use sluice::{
    domain::Catalog,
    engine::{Engine, EngineError, MAX_HOURS, SyncPhase, SyncStatus},
    index::IndexName,
    source::sample::{Fault, SampleServer},
    store::SyncRequest,
};

use crate::support::{
    Deaf, Pipeline, condition, eventually,
    fake_http::{FakeHttp, Reply},
    finished, on_each_adapter,
    place::{Embedded, Place, Real, documents, value},
    request,
    rows::{id, lead, leads, minutes_ago, object, session},
    sync, table,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_brings_every_row_to_both_sinks_once() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(250));
    pipeline.source.set_rows(table("chat_sessions"), (1..=40).map(|n| session(n, 5, 3)).collect());
    let engine = pipeline.engine().await;
    engine.start_drains().await;

    let leads = sync(&engine, request(table("leads"))).await;
    let sessions = sync(&engine, request(table("chat_sessions"))).await;

    assert_eq!((leads.state, leads.appended, leads.rows_read), (SyncPhase::Done, 250, 250));
    assert_eq!((sessions.state, sessions.appended), (SyncPhase::Done, 40));
    pipeline.assert_events(290).await;
    assert_eq!(pipeline.number("SELECT count(*) FROM leads").await, 250);
    assert_eq!(pipeline.number("SELECT count(*) FROM chat_sessions").await, 40);
    assert_eq!(pipeline.hits("leads", "*").await, 250);
    assert_eq!(pipeline.hits("chat_sessions", "*").await, 40);
    // As the old dashboards ask.
    assert_eq!(pipeline.hits("eventos", "categoria:vendas AND valor:>50").await, 98);
    assert_eq!(pipeline.hits("leads", "status_lead.keyword:qualificado").await, 125);
    let typed = "SELECT count(*) FROM leads WHERE interesse[2] = 'casa \"nova\", com {chaves}'
                 AND localizacao->>'cidade' = 'São Paulo' AND metadata->>'origem' = 'indicação'";
    assert_eq!(pipeline.number(typed).await, 250);

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_everything_reads_rows_of_any_date() {
    let pipeline = Pipeline::new().await;
    let mut rows = leads(10);
    let dates = ["-infinity", "0001-01-01T00:00:00+00:00", "1883-11-18T12:03:58+00:00", "infinity"];
    for (row, date) in rows.iter_mut().zip(dates) {
        row.insert("updated_at".to_owned(), json!(date));
    }
    pipeline.source.set_rows(table("leads"), rows);
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    let everything = SyncRequest { hours_ago: MAX_HOURS, resume: false, ..request(table("leads")) };
    let read = sync(&engine, everything.clone()).await;
    assert_eq!((read.state, read.rows_read), (SyncPhase::Done, 10), "{read:?}");
    assert_eq!(pipeline.number("SELECT count(*) FROM leads").await, 10);
    assert_eq!(pipeline.hits("leads", "*").await, 10);
    assert_eq!(sync(&engine, everything).await.appended, 0);
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sync_of_the_same_rows_appends_nothing() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(60));
    pipeline.source.set_rows(table("chat_sessions"), (1..=20).map(|n| session(n, 5, 3)).collect());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    for table in Catalog::built_in().tables() {
        sync(&engine, request(table)).await;
    }
    for table in Catalog::built_in().tables() {
        let again = sync(&engine, request(table)).await;
        assert_eq!((again.state, again.appended), (SyncPhase::Done, 0), "{table}");
    }
    // Even when told to append everything again, nothing is there twice.
    for table in Catalog::built_in().tables() {
        let again = sync(&engine, SyncRequest { reappend: true, ..request(table) }).await;
        assert_eq!(again.appended, if table.name() == "leads" { 60 } else { 20 }, "{table}");
    }
    pipeline.assert_events(80).await;
    assert_eq!(pipeline.number("SELECT count(*) FROM leads").await, 60);

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_is_a_new_event_and_moves_its_entity_forward() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(30));
    pipeline.source.set_rows(table("chat_sessions"), vec![session(7, 5, 3)]);
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    for table in Catalog::built_in().tables() {
        sync(&engine, request(table)).await;
    }

    pipeline.source.change(
        table("leads"),
        &json!(id(3)),
        json!({"status_lead": "convertido", "score_qualificacao": 99}),
    );
    pipeline.source.change(
        table("chat_sessions"),
        &json!(id(7)),
        json!({"total_messages": 8, "is_active": false}),
    );
    let leads = sync(&engine, request(table("leads"))).await;
    let sessions = sync(&engine, request(table("chat_sessions"))).await;

    assert_eq!((leads.appended, sessions.appended), (1, 1));
    pipeline.assert_events(33).await;
    let status = format!("SELECT status_lead FROM leads WHERE id = '{}'", id(3));
    assert_eq!(pipeline.text(&status).await, "convertido");
    let messages = format!("SELECT total_messages FROM chat_sessions WHERE id = '{}'", id(7));
    assert_eq!(pipeline.number(&messages).await, 8);
    let document = pipeline.document("leads", &id(3)).await;
    assert_eq!(document["_source"]["status_lead"], "convertido");
    assert_eq!(pipeline.hits("eventos", "evento.keyword:lead_convertido").await, 1);

    // Back to what it was: the content is known, but it is the newest again.
    pipeline.source.change(
        table("chat_sessions"),
        &json!(id(7)),
        json!({"total_messages": 3, "is_active": true}),
    );
    sync(&engine, request(table("chat_sessions"))).await;
    assert_eq!(pipeline.number(&messages).await, 3);
    pipeline.assert_events(33).await;

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_that_was_read_last_is_the_entity_whatever_its_own_clock_says() {
    let pipeline = Pipeline::new().await;
    let mut newer = lead(1, 10);
    newer.insert("status_lead".to_owned(), json!("convertido"));
    pipeline.source.set_rows(table("leads"), vec![newer]);
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    // Another client sets the time of change an hour back.
    pipeline.source.set_rows(table("leads"), vec![lead(1, 70)]);
    let back_dated = sync(&engine, request(table("leads"))).await;
    assert_eq!(back_dated.appended, 1);

    pipeline.assert_events(2).await;
    assert_eq!(pipeline.text("SELECT status_lead FROM leads").await, "qualificado");
    let document = pipeline.document("leads", &id(1)).await;
    assert_eq!(document["_source"]["status_lead"], "qualificado");

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_parked_once_and_its_neighbours_are_applied() {
    let pipeline = Pipeline::new().await;
    let mut rows = leads(5);
    rows.push(object(json!({"nome": "sem id", "updated_at": minutes_ago(4)})));
    rows.push(object(json!({"id": "sem uuid", "nome": "chave errada", "updated_at": minutes_ago(4)})));
    pipeline.source.set_rows(table("leads"), rows);
    let engine = pipeline.engine().await;
    engine.start_drains().await;

    let first = sync(&engine, request(table("leads"))).await;
    assert_eq!((first.state, first.appended, first.dead_letters), (SyncPhase::Done, 5, 2));
    pipeline.assert_events(5).await;
    let again = sync(&engine, request(table("leads"))).await;
    assert_eq!((again.appended, again.dead_letters), (0, 0), "parked once");
    assert_eq!(engine.inspection.status().await.dead_letters, Some(2));

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_changes_from_page_to_page_is_of_another_version_each_time() {
    const TIMES: usize = 12;
    let mut pipeline = Pipeline::new().await;
    pipeline.set("SUPABASE_PAGE_SIZE", "1");
    let leads = table("leads");
    let source = Arc::new(SampleServer::start(0).await.expect("a free port"));
    pipeline.set("SUPABASE_URL", source.url());
    source.set_rows(leads, vec![lead(1, 1)]);
    let (changing, asked) = (Arc::downgrade(&source), AtomicUsize::new(0));
    source.before_each_answer(move |request| {
        let is_timed =
            request.query.iter().any(|(name, value)| name == "order" && value.contains("updated_at"));
        let time = asked.fetch_add(usize::from(is_timed), Ordering::Relaxed);
        if let Some(source) = changing.upgrade()
            && is_timed
            && (1..TIMES).contains(&time)
        {
            source.change(leads, &json!(id(1)), json!({"nome": format!("Ana {time}")}));
        }
    });
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    let read = sync(&engine, request(leads)).await;
    assert_eq!((read.state, read.appended), (SyncPhase::Done, TIMES as u64), "{read:?}");
    // Pages of one second of the server's clock, which tells full ones, are among them.
    let versions = "SELECT count(DISTINCT versao) FROM eventos_raw";
    assert_eq!(usize::try_from(pipeline.number(versions).await), Ok(TIMES));
    assert_eq!(pipeline.text("SELECT nome FROM leads").await, format!("Ana {}", TIMES - 1));
    let again = sync(&engine, request(leads)).await;
    assert_eq!((again.appended, again.unchanged), (0, 1), "the last one is remembered");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_by_creation_covers_no_changes() {
    let pipeline = Pipeline::new().await;
    let leads = table("leads");
    let named = |nome: &str| {
        let mut row = lead(1, 60);
        row.insert("nome".to_owned(), json!(nome));
        row
    };
    pipeline.source.set_rows(leads, vec![named("Ana")]);
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    let resumed = SyncRequest { resume: true, ..request(leads) };
    let read = async |nome: &str, has_times: bool| {
        pipeline.source.set_rows(leads, vec![named(nome)]);
        if !has_times {
            pipeline.source.drop_column(leads, "updated_at");
        }
        sync(&engine, resumed.clone()).await.appended
    };
    // The project has got no column of changes yet; then it gets one, with the time of each change so far.
    assert_eq!(read("Ana", false).await, 1);
    assert_eq!(read("Bia", false).await, 1, "an hour after it was created");
    let coverage = "SELECT count(*) FROM sluice_coverage";
    assert_eq!(pipeline.number(coverage).await, 0);
    assert_eq!(read("Cida", true).await, 1, "changed an hour ago");
    assert_eq!(pipeline.number(coverage).await, 1);
    // And it goes again.
    assert_eq!(read("Dora", false).await, 1);
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_with_a_limit_go_on_where_the_last_one_stopped() {
    let mut pipeline = Pipeline::new().await;
    pipeline.set("SUPABASE_PAGE_SIZE", "7");
    pipeline.source.set_max_rows(Some(5));
    let mut rows = leads(43);
    for row in &mut rows[..10] {
        row.insert("updated_at".to_owned(), Value::Null);
    }
    pipeline.source.set_rows(table("leads"), rows);
    let engine = pipeline.engine().await;
    engine.start_drains().await;

    let limited = SyncRequest { limit: 20, ..request(table("leads")) };
    let mut appended = Vec::new();
    loop {
        let status = sync(&engine, limited.clone()).await;
        appended.push(status.appended);
        if !status.more {
            break;
        }
    }
    assert_eq!(appended, [20, 20, 3]);
    pipeline.assert_events(43).await;

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_take_what_they_name_and_leave_the_watermark_alone() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(20));
    pipeline.source.set_rows(table("chat_sessions"), (1..=10_u32).map(|n| session(n.into(), 5, n)).collect());
    let engine = pipeline.engine().await;
    engine.start_drains().await;

    let qualified = condition(table("leads"), "status", "qualificado");
    let qualified = SyncRequest { conditions: vec![qualified], ..request(table("leads")) };
    assert_eq!(sync(&engine, qualified).await.appended, 10);
    let talkative = condition(table("chat_sessions"), "min_messages", "8");
    let talkative = SyncRequest { conditions: vec![talkative], ..request(table("chat_sessions")) };
    assert_eq!(sync(&engine, talkative).await.appended, 3);
    let rest = sync(&engine, request(table("leads"))).await;
    assert_eq!((rest.appended, rest.unchanged), (10, 10), "the others are still found");
    pipeline.assert_events(23).await;

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sync_of_a_table_runs_at_a_time_and_the_second_caller_is_told_who_runs() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(3));
    pipeline.source.script([Fault::Hang]);
    let (engine, other) = (pipeline.engine().await, pipeline.engine().await);
    let running = engine.syncs.start(request(table("leads"))).await.expect("a sync");

    let refused = other.syncs.start(request(table("leads"))).await.expect_err("one at a time");
    assert!(matches!(&refused, EngineError::Busy(Some(record)) if record.id == running), "{refused}");
    assert!(refused.to_string().contains(&running.to_string()) && refused.to_string().contains("process"));
    other.syncs.start(request(table("chat_sessions"))).await.expect("another table is free");

    // Whoever asks may stop it, from any process.
    assert!(other.syncs.cancel(running).await.expect("an answer"));
    engine.syncs.cancel(running).await.expect("an answer");
    engine.start_drains().await;
    let status = crate::support::finished(&engine, running).await;
    assert_eq!(status.state, SyncPhase::Cancelled);

    engine.shut_down().await;
    other.shut_down().await;
    pipeline.clean_up().await;
}

on_each_adapter! {
    on_embedded_parts: Embedded, on_real_parts: Real;
    a_sync_of_unchanged_rows_is_done_only_when_both_sinks_have_them,
    a_sync_of_unchanged_rows_waits_for_an_index_that_was_deleted,
    a_server_whose_clock_was_ahead_costs_no_row,
    a_reconciliation_by_a_clock_that_is_ahead_costs_no_row,
}

/// Starts a sync of leads, waits until it has read all, and tells how it then is, drained or not.
async fn read(engine: &Engine) -> SyncStatus {
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("all is read", async || {
        engine.syncs.status(id).await.expect("a status").state != SyncPhase::Running
    })
    .await;
    engine.syncs.wait_for(id, Duration::ZERO, &mut Deaf).await.expect("a status")
}

fn pending(status: &SyncStatus) -> Vec<(Option<i64>, bool)> {
    status.sinks.iter().map(|sink| (sink.pending, sink.queryable)).collect()
}

async fn a_sync_of_unchanged_rows_is_done_only_when_both_sinks_have_them<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(30));
    let engine = place.engine().await;
    // It is listened to before it has read anything.
    place.source().script([Fault::Delay(Duration::from_millis(200))]);
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    let mut heard = Vec::new();
    let ended = engine.syncs.ended(id, |progress| heard.push((progress.rows_read, progress.appended))).await;
    let ended = ended.expect("a status");
    assert_eq!((ended.state, heard.last()), (SyncPhase::Draining, Some(&(30, 30))));

    let again = read(&engine).await;
    assert_eq!((again.state, again.unchanged), (SyncPhase::Draining, 30));
    let behind = pending(&again);
    // What an index that nobody has made yet lacks may be unknown.
    assert!(behind[0] == (Some(30), false) && !behind[1].1, "both sinks are named as behind: {behind:?}");

    engine.start_drains().await;
    let done = finished(&engine, again.sync_id).await;
    assert_eq!((done.state, pending(&done)), (SyncPhase::Done, vec![(Some(0), true); 2]));
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, json!(30));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_sync_of_unchanged_rows_waits_for_an_index_that_was_deleted<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(30));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 30);
    engine.shut_down().await;
    drop(engine);
    place.delete_indices().await;

    let engine = place.engine().await;
    let again = read(&engine).await;
    assert_eq!((again.state, again.unchanged), (SyncPhase::Draining, 30));
    let queryable: Vec<bool> = again.sinks.iter().map(|sink| sink.queryable).collect();
    assert_eq!(queryable, [true, false], "only the index is behind: {again:?}");
    engine.start_drains().await;
    assert_eq!(finished(&engine, again.sync_id).await.state, SyncPhase::Done);
    assert_eq!(documents(&engine, IndexName::Entities(table("leads")), None).await.len(), 30);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_reconciliation_by_a_clock_that_is_ahead_costs_no_row<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(10));
    let engine = place.engine().await;
    engine.start_drains().await;
    place.source().set_clock(TimeDelta::hours(1));
    let leads = sluice::domain::TableName("leads".to_owned());
    let id = engine.syncs.reconcile(&leads, sluice::store::Reconciliation::default()).await.expect("started");
    assert_eq!(finished(&engine, id).await.state, SyncPhase::Done);
    // By a clock that is right, after the reconciliation.
    place.source().upsert(table("leads"), vec![lead(900, 0)]);
    let resumed = SyncRequest { resume: true, ..request(table("leads")) };
    assert_eq!(sync(&engine, resumed).await.appended, 1);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_server_whose_clock_was_ahead_costs_no_row<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(10));
    let engine = place.engine().await;
    engine.start_drains().await;
    place.source().set_clock(TimeDelta::hours(1));
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 10);

    place.source().set_clock(TimeDelta::zero());
    place.source().upsert(table("leads"), vec![lead(900, 0)]);
    let resumed = SyncRequest { resume: true, ..request(table("leads")) };
    assert_eq!(sync(&engine, resumed.clone()).await.appended, 1, "written after the first sync");

    // As an earlier release left it, or a machine whose own clock was ahead, too.
    let ahead = Utc::now() + TimeDelta::hours(1);
    let ahead = ahead.to_rfc3339_opts(SecondsFormat::Micros, true);
    place.execute(&format!("UPDATE sluice_coverage SET covered_to = '{ahead}'")).await;
    place.source().upsert(table("leads"), vec![lead(901, 20)]);
    assert_eq!(sync(&engine, resumed).await.appended, 1, "written since, by a clock that was right");

    // This machine's clock is three hours ahead of the server's, by which the row is half an hour old.
    place.source().set_clock(-TimeDelta::hours(3));
    let mut never_modified = lead(902, 210);
    never_modified.insert("updated_at".to_owned(), Value::Null);
    place.source().upsert(table("leads"), vec![never_modified]);
    let recent = SyncRequest { hours_ago: 1, ..request(table("leads")) };
    assert_eq!(
        sync(&engine, recent).await.appended,
        1,
        "what was never modified is looked for by the same clock"
    );
    engine.shut_down().await;
    place.clean_up().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_ended_while_it_is_waited_for_did_not_bring_what_it_was_to_bring() {
    let mut pipeline = Pipeline::new().await;
    let server: url::Url = pipeline.variables["ELASTICSEARCH_URL"].parse().expect("a URL");
    // Whatever is written there gets no answer.
    let index = FakeHttp::start(move |_, request| {
        if request.path.starts_with("/_bulk") { Reply::Hang } else { Reply::Forward(server.clone()) }
    })
    .await;
    pipeline.set("ELASTICSEARCH_URL", index.url.as_str());
    pipeline.source.set_rows(table("leads"), leads(10));
    let mut command = pipeline.command(&["sync", "leads", "--wait"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let process = command.spawn().expect("it runs");
    eventually("all is in the log, and the index is being written", async || {
        let read = "SELECT count(*) FROM sluice_syncs WHERE state = 'succeeded'";
        pipeline.try_number(read).await == Some(1)
            && index.requests().iter().any(|request| request.path.starts_with("/_bulk"))
    })
    .await;
    let id = rustix::process::Pid::from_raw(process.id().expect("it runs").cast_signed()).expect("an id");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("told to end");
    let output = process.wait_with_output().await.expect("it ends");
    let told =
        [output.stdout, output.stderr].map(|told| String::from_utf8_lossy(&told).into_owned()).concat();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("is in the log and not in both sinks yet"), "{told}");
    pipeline.clean_up().await;
}
