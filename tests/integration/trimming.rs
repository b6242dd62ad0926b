//! The retention of events, from the log to both sinks and to what answers say.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sluice::{
    domain::{Event, micros},
    engine::{Engine, RebuildPhase, event_record},
    index::{IndexName, SearchRequest, Sort},
    log::Topic,
    parts::Parts,
    store::{EventFilter, EventOrder, QueryLimits},
};
use uuid::Uuid;

use crate::{
    mcp::{answer, connect_to},
    support::{
        eventually, on_each_adapter,
        place::{Embedded, Place, Real},
        service, stores,
    },
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    old_events_leave_both_sinks_and_nothing_that_reads_the_log_again_brings_them_back,
}

const LEADS: u128 = 5;

/// A version of a lead that was read so many days ago.
fn version(id: u128, days_ago: i64) -> Event {
    let mut event = stores::lead(id, -days_ago * 24 * 60, &format!("há {days_ago} dias"));
    event.entidade.versao = micros(Utc::now() - TimeDelta::days(days_ago));
    event
}

/// Of each lead four versions: of those older than a month two that another such one replaced.
async fn append_versions<P: Place>(place: &P) {
    let parts = Parts::open(&place.settings()).expect("the parts open");
    parts.log.ensure_topics().await.expect("the topics are there");
    for days_ago in [100, 99, 98, 1] {
        let records = (1..=LEADS).map(|id| event_record(&version(id, days_ago), Uuid::now_v7()));
        parts.log.append(Topic::Events, records.collect()).await.expect("appended");
    }
}

async fn indexed(engine: &Engine) -> u64 {
    let request = SearchRequest {
        index: IndexName::Eventos,
        query: None,
        sort: Sort::Newest,
        from: 0,
        size: 0,
        count_by: Vec::new(),
        count_by_day: false,
        zone: chrono_tz::Tz::UTC,
    };
    engine.questions.search(&request).await.map_or(0, |found| found.total)
}

async fn number(engine: &Engine, sql: &str) -> i64 {
    let limits = QueryLimits { rows: 1, bytes: 10_000, timeout: Duration::from_secs(30), verbatim: false };
    let (_, answer) =
        engine.questions.sql(sql, limits).await.unwrap_or_else(|fault| panic!("{sql}: {fault}"));
    let value = &answer.rows[0][0];
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{sql}: {value}"))
}

async fn stored(engine: &Engine) -> i64 {
    number(engine, "SELECT count(*) FROM eventos_raw").await
}

/// Until both sinks have applied all of the log, and so many events are in each.
async fn settled(engine: &Engine, events: u64) {
    eventually(&format!("{events} events are in both sinks"), async || {
        let lag = engine.drains.lag().await.unwrap_or_default();
        let is_applied = lag.len() == 2 && lag.iter().all(|sink| sink.total == 0);
        is_applied && stored(engine).await.unsigned_abs() == events && indexed(engine).await == events
    })
    .await;
    assert_eq!(number(engine, "SELECT sum(total) FROM eventos_agregados").await, 20, "each was counted once");
}

async fn old_events_leave_both_sinks_and_nothing_that_reads_the_log_again_brings_them_back<P: Place>() {
    let mut place = P::new().await;
    append_versions(&place).await;
    let engine = place.engine().await;
    engine.start_drains().await;
    settled(&engine, 20).await;
    let fault = engine.housekeeping.trim(false).await.expect_err("they are kept for ever");
    assert!(fault.to_string().contains("SLUICE_EVENTS_RETENTION_DAYS"), "{fault}");
    engine.shut_down().await;
    drop(engine);

    place.set("SLUICE_EVENTS_RETENTION_DAYS", "30");
    let told = place.command(&["trim", "--dry-run", "--json"]).output().await.expect("the program runs");
    assert!(told.status.success(), "{told:?}");
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!((&told["events"], &told["dry_run"]), (&json!(10), &json!(true)), "{told}");
    let engine = place.engine().await;
    engine.start_drains().await;
    settled(&engine, 20).await;
    place.source().set_clock(TimeDelta::days(-1));
    for dry_run in [true, false] {
        let fault = engine.housekeeping.trim(dry_run).await.expect_err("this clock may be a day ahead");
        assert!(fault.to_string().contains("minutes ahead of that of supabase"), "{fault}");
    }
    settled(&engine, 20).await;
    place.source().set_clock(TimeDelta::zero());
    assert_eq!(engine.housekeeping.trim(false).await.expect("trimmed").events, 10);
    settled(&engine, 10).await;
    assert_eq!(engine.housekeeping.trim(false).await.expect("trimmed").events, 0);
    let retention = engine.housekeeping.retention().await.expect("told");
    assert_eq!((retention.days, retention.trimmed, retention.last_error), (Some(30), 10, None));
    assert!(retention.last_success_at.is_some());
    let findings = engine.doctor.examine().await;
    let told = findings.iter().find(|finding| finding.check == "retention of events").expect("a finding");
    assert!(told.detail.starts_with("30 days, last removed at "), "{told:?}");
    answers_say_what_was_removed(&place).await;

    engine.shut_down().await;
    drop(engine);

    // Indices that are made anew, and a store that reads all again.
    place.delete_indices().await;
    place.execute("UPDATE sluice_offsets SET next_offset = NULL").await;
    let engine = place.engine().await;
    engine.start_drains().await;
    settled(&engine, 10).await;

    // An index that is built anew from the log.
    engine.rebuilds.begin(&[IndexName::Eventos]).await.expect("a rebuild");
    let rebuilt = engine.rebuilds.wait_for(&[IndexName::Eventos], Duration::from_mins(1)).await;
    assert!(rebuilt.iter().all(|rebuild| rebuild.phase == RebuildPhase::Done), "{rebuilt:?}");
    settled(&engine, 10).await;

    // A letter of long ago that is settled now, and one of an event that was trimmed.
    engine.shut_down().await;
    drop(engine);
    let parts = Parts::open(&place.settings()).expect("the parts open");
    let never_stored = event_record(&version(1, 97), Uuid::now_v7());
    let trimmed = event_record(&version(1, 100), Uuid::now_v7());
    parts.log.append(Topic::Events, vec![never_stored, trimmed]).await.expect("appended");
    drop(parts);
    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("the letters are applied", async || {
        let lag = engine.drains.lag().await.unwrap_or_default();
        lag.len() == 2 && lag.iter().all(|sink| sink.total == 0) && indexed(&engine).await == 11
    })
    .await;
    assert_eq!(stored(&engine).await, 11);
    assert_eq!(number(&engine, "SELECT sum(total) FROM eventos_agregados").await, 21);
    let page = engine.questions.events(&EventFilter::default(), EventOrder::Oldest, None, 100).await;
    let ages: Vec<i64> = page.expect("events").events.iter().map(|event| age(event.versao)).collect();
    assert!(ages.iter().all(|days| [97, 98, 1].contains(days)), "{ages:?}");
    engine.shut_down().await;
    drop(engine);
    place.clean_up().await;
}

fn age(versao: i64) -> i64 {
    (Utc::now() - DateTime::from_timestamp_micros(versao).expect("an instant")).num_days()
}

/// Whatever reads old events tells that some are not there any more, and what does not, does not.
async fn answers_say_what_was_removed<P: Place>(place: &P) {
    let (session, _) = connect_to(place.command(&["serve", "--without-drains"])).await;
    let key = Uuid::from_u128(1).to_string();
    let since = (Utc::now() - TimeDelta::days(2)).to_rfc3339();
    let told = async |tool: &str, arguments: serde_json::Value| {
        let behind = answer(&session, tool, arguments).await["behind"].as_array().cloned();
        behind
            .unwrap_or_default()
            .iter()
            .any(|told| told.as_str().is_some_and(|told| told.contains("removed for their age")))
    };
    assert!(told("query_raw_events", json!({})).await);
    assert!(told("query_raw_events", json!({"tipo_evento": "lead", "entidade_id": key})).await);
    assert!(!told("query_raw_events", json!({"from": since})).await, "none of them was as young");
    assert!(told("query_store", json!({"sql": "SELECT count(*) FROM eventos_raw"})).await);
    assert!(!told("query_store", json!({"sql": "SELECT count(*) FROM leads"})).await);
    assert!(told("get_lead", json!({"id": key})).await);
    assert!(told("get_lead", json!({"id": key, "history": true})).await);
    assert!(told("search_elasticsearch", json!({"index": "eventos", "query": "*"})).await);
    assert!(!told("search_elasticsearch", json!({"index": "leads", "query": "*"})).await);
    session.cancel().await.expect("the program ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_trimmed_while_the_index_does_not_answer_or_another_process_is_at_it() {
    let mut place = Real::new().await;
    append_versions(&place).await;
    place.set("SLUICE_EVENTS_RETENTION_DAYS", "30");
    let engine = place.engine().await;
    engine.start_drains().await;
    settled(&engine, 20).await;
    place
        .execute("INSERT INTO sluice_leases VALUES ('housekeeping', 'outro', now() + interval '1 hour')")
        .await;
    let fault = engine.housekeeping.trim(false).await.expect_err("another is at it");
    assert!(fault.to_string().contains("another process"), "{fault}");
    place.execute("UPDATE sluice_leases SET held_until = now() - interval '1 second'").await;

    place.set("ELASTICSEARCH_URL", "http://127.0.0.1:1");
    let apart = place.engine().await;
    place.set("ELASTICSEARCH_URL", &service("ELASTICSEARCH_URL"));
    let fault = apart.housekeeping.trim(false).await.expect_err("the index does not answer");
    assert_eq!(fault.part, "elasticsearch", "{fault}");
    apart.shut_down().await;
    settled(&engine, 20).await;
    let retention = engine.housekeeping.retention().await.expect("told");
    assert!(retention.last_error.is_some_and(|error| error.contains("elasticsearch")));
    let problems = engine.inspection.status().await.problems;
    let is_told = problems.iter().any(|remark| remark.problem.starts_with("old events are not removed"));
    assert!(is_told, "{problems:?}");

    place.execute("UPDATE sluice_leases SET held_until = now() - interval '1 second'").await;
    // What the process does that runs schedules, by itself.
    place.execute("UPDATE sluice_housekeeping SET ended_at = now() - interval '2 hours'").await;
    engine.housekeeping.start();
    settled(&engine, 10).await;
    engine.shut_down().await;
    drop(engine);
    place.clean_up().await;
}
