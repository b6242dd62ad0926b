//! Syncs that run by themselves.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sluice::{
    engine::{Engine, ScheduleStatus},
    source::sample::{Failure, Fault, SeenRequest},
    store::{RunOutcome, ScheduledRun, SyncRequest},
};

use crate::support::table;
use crate::support::{
    Pipeline,
    client::Client,
    condition, connect, eventually, request,
    rows::{lead, leads},
};

async fn schedule(engine: &Engine) -> ScheduleStatus {
    engine.schedules.list().await.expect("the schedules").remove(0)
}

async fn last_run(engine: &Engine) -> ScheduledRun {
    schedule(engine).await.last_run.expect("a run")
}

fn is_poll(request: &SeenRequest) -> bool {
    request.query.iter().any(|(name, value)| name == "order" && value == "updated_at.desc.nullslast")
}

/// Three leads, polled four times a second.
async fn polled() -> (Pipeline, Arc<Engine>) {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(3));
    let engine = pipeline.engine().await;
    engine.schedules.put(&request(table("leads")), 0.25, "ana").await.expect("scheduled");
    engine.schedules.start();
    eventually("it is polled", async || pipeline.source.take_requests().iter().any(is_poll)).await;
    (pipeline, engine)
}

/// As if so many runs of ten minutes had been missed.
async fn make_due(pipeline: &Pipeline) {
    pipeline.execute("UPDATE sluice_schedules SET next_due_at = now() - interval '65 minutes'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_sync_runs_at_once_and_makes_up_for_missed_runs_by_one_in_one_process() {
    let pipeline = Pipeline::new().await;
    // Spread over hours, so that reading on from the last run is not reading all of it.
    pipeline
        .source
        .set_rows(table("leads"), (1..=20_u8).map(|n| lead(n.into(), 10 * i64::from(n))).collect());
    let engine = pipeline.engine().await;
    engine.schedules.put(&request(table("leads")), 600.0, "ana").await.expect("scheduled");
    let runs = async || pipeline.number("SELECT count(*) FROM sluice_syncs").await;
    assert_eq!(runs().await, 0, "nobody schedules yet");

    let other = pipeline.engine().await;
    engine.schedules.start();
    other.schedules.start();
    engine.start_drains().await;
    eventually("the first run ended", async || schedule(&engine).await.last_run.is_some()).await;
    let first = last_run(&engine).await;
    assert_eq!((first.outcome, first.more), (RunOutcome::Succeeded, false), "{first:?}");
    assert!(schedule(&engine).await.next_due_at > first.ended_at);

    pipeline.source.upsert(table("leads"), (101..=105).map(|n| lead(n, 1)).collect());
    make_due(&pipeline).await;
    eventually("the missed runs are made up for", async || last_run(&engine).await != first).await;
    let status = schedule(&engine).await;
    assert!(status.next_due_at > chrono::Utc::now(), "{status:?}");
    assert_eq!(runs().await, 2, "six were missed, one made up for them, in one of the two processes");
    let second = last_run(&engine).await;
    let sync = engine.syncs.status(second.sync_id.expect("a sync")).await.expect("a status");
    assert!(sync.appended == 5 && sync.rows_read < 25, "it went on where the first stopped: {sync:?}");

    assert!(engine.schedules.remove(&table("leads").into()).await.expect("removed"));
    assert_eq!(engine.schedules.list().await.expect("the schedules"), []);
    engine.shut_down().await;
    other.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_would_overlap_another_is_skipped_and_says_so() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(3));
    pipeline.source.script([sluice::source::sample::Fault::Hang]);
    let engine = pipeline.engine().await;
    let by_hand = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    engine.schedules.put(&request(table("leads")), 600.0, "ana").await.expect("scheduled");
    engine.schedules.start();

    eventually("the run is over", async || schedule(&engine).await.last_run.is_some()).await;
    let run = last_run(&engine).await;
    assert_eq!((run.outcome, run.sync_id), (RunOutcome::Skipped, Some(by_hand)), "{run:?}");
    assert!(run.error.is_some_and(|error| error.contains("another sync")));
    engine.syncs.cancel(by_hand).await.expect("cancelled");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_told_with_its_reason_and_a_claim_that_was_left_behind_runs_again() {
    let mut pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(3));
    let good = pipeline.variables["SUPABASE_KEY"].clone();
    pipeline.set("SUPABASE_KEY", "sb_secret_errada");
    let engine = pipeline.engine().await;
    engine.schedules.put(&request(table("leads")), 600.0, "ana").await.expect("scheduled");
    engine.schedules.start();
    eventually("the run is over", async || schedule(&engine).await.last_run.is_some()).await;
    assert_eq!(last_run(&engine).await.outcome, RunOutcome::Failed);
    let status = engine.inspection.status().await;
    let told =
        status.problems.iter().any(|problem| problem.problem.contains("the scheduled sync of leads failed"));
    assert!(told && !status.healthy, "{status:?}");
    let findings = engine.doctor.examine().await;
    assert!(
        findings.iter().any(|f| f.part == "schedules" && f.detail.contains("SUPABASE_KEY")),
        "{findings:?}"
    );
    engine.shut_down().await;

    // A process claimed it and died.
    make_due(&pipeline).await;
    pipeline
        .execute(
            "UPDATE sluice_schedules SET claimed_by = 'gone', claimed_until = now() + interval '3 seconds'",
        )
        .await;
    pipeline.set("SUPABASE_KEY", good);
    let engine = pipeline.engine().await;
    engine.schedules.start();
    eventually("another process runs it", async || last_run(&engine).await.outcome == RunOutcome::Succeeded)
        .await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_longer_to_begin_than_a_claim_holds_is_still_one_run_and_its_failure_is_told() {
    let mut pipeline = Pipeline::new().await;
    pipeline.set("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
    pipeline.set("KAFKA_TIMEOUT_SECONDS", "24");
    let engine = pipeline.engine().await;
    engine.schedules.put(&request(table("leads")), 600.0, "ana").await.expect("scheduled");
    engine.schedules.start();
    eventually("it is held", async || schedule(&engine).await.running_on.is_some()).await;
    let claim = || pipeline.text("SELECT coalesce(claim::text, '') FROM sluice_schedules");
    let first = claim().await;
    let mut claims = vec![first.clone()];
    eventually("its failure is told", async || {
        if schedule(&engine).await.running_on.is_some() {
            claims.push(claim().await);
        }
        schedule(&engine).await.last_run.is_some_and(|run| run.outcome == RunOutcome::Failed)
    })
    .await;
    assert!(claims.iter().all(|claim| *claim == first || claim.is_empty()), "{claims:?}");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_schedules_lists_and_removes_and_the_schedule_outlives_the_server() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(4));
    let client = Client::of(&pipeline).await;
    let made = client
        .answer("schedule_sync", json!({"table": "leads", "every_seconds": 900, "hours_ago": 48}))
        .await;
    assert_eq!(made["schedules"][0]["every_seconds"], 900.0, "{made}");
    eventually("it ran", async || {
        let status = client.answer("get_pipeline_status", json!({})).await;
        status["schedules"][0]["last_run"]["outcome"] == "succeeded"
    })
    .await;
    client.close().await;

    let client = Client::of(&pipeline).await;
    let status = client.answer("get_pipeline_status", json!({})).await;
    assert_eq!(status["schedules"][0]["table"], "leads", "{status}");
    for (arguments, problem) in [
        (json!({"table": "leads", "every_seconds": 700_000}), "every_seconds: 700000 is out of range"),
        (
            json!({"table": "leads", "every_seconds": 5, "min_messages": 2}),
            "min_messages: the definition of leads has no such filter",
        ),
        (json!({"table": "clientes", "every_seconds": 5}), "table"),
    ] {
        let refusal = client.refusal("schedule_sync", arguments).await;
        assert!(refusal.contains(problem), "{refusal}");
    }
    let removed = client.answer("schedule_sync", json!({"table": "leads", "every_seconds": 0})).await;
    assert_eq!((&removed["outcome"], &removed["schedules"]), (&json!("removed"), &json!([])));
    let again = client.answer("schedule_sync", json!({"table": "leads", "every_seconds": 0})).await;
    assert_eq!(again["outcome"], "unchanged");
    client.close().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_before_or_amid_a_run_leaves_neither_a_claim_nor_an_interrupted_sync() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(2000));
    for wait in [0, 5, 10, 20, 30, 50, 80, 120, 200] {
        let client = Client::of(&pipeline).await;
        client.answer("schedule_sync", json!({"table": "leads", "every_seconds": 2})).await;
        // Whichever step of the run the end meets.
        tokio::time::sleep(Duration::from_millis(wait)).await;
        client.close().await;
        let claims =
            pipeline.number("SELECT count(*) FROM sluice_schedules WHERE claimed_until > now()").await;
        assert_eq!(claims, 0, "ended {wait} ms after the call");
        let due = pipeline
            .number("SELECT count(*) FROM sluice_schedules WHERE next_due_at < now() + interval '6 s'")
            .await;
        assert_eq!(due, 1, "ended {wait} ms after the call");
    }
    let left =
        pipeline.number("SELECT count(*) FROM sluice_syncs WHERE state IN ('running', 'interrupted')").await;
    assert_eq!(left, 0);
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_of_seconds_reads_a_change_at_once_and_leaves_the_overlap_to_the_runs() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), (1..=3_u8).map(|n| lead(n.into(), 30)).collect());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    engine.schedules.put(&request(table("leads")), 0.25, "ana").await.expect("scheduled");
    engine.schedules.start();
    let stored = async || pipeline.number("SELECT count(*) FROM leads").await;
    eventually("the first run's rows are there", async || stored().await == 3).await;
    let covered = "SELECT count(*) FROM sluice_coverage";
    let runs = "SELECT count(*) FROM sluice_syncs WHERE NOT request ? 'since'";
    eventually("the first run ended", async || pipeline.number(covered).await == 1).await;

    // Whole runs come a minute apart.
    pipeline.source.upsert(table("leads"), vec![lead(4, 0)]);
    eventually("a new row is there", async || stored().await == 4).await;
    let mut changed = lead(4, 0);
    changed.insert("nome".to_owned(), json!("Joana"));
    pipeline.source.upsert(table("leads"), vec![changed]);
    let named = "SELECT count(*) FROM leads WHERE nome = 'Joana'";
    eventually("its change is there", async || pipeline.number(named).await == 1).await;
    let polls = "SELECT count(*) FROM sluice_syncs WHERE request ? 'since'";
    assert!(pipeline.number(polls).await >= 2 || pipeline.number(runs).await > 1, "nobody polled");

    // Committed now, by its own word minutes ago: polls don't see it, and must not have covered it either.
    pipeline.source.upsert(table("leads"), vec![lead(5, 5)]);
    engine.shut_down().await;
    let status = schedule(&engine).await;
    assert_eq!(status.running_on, None, "another process may go on at once: {status:?}");
    let other = pipeline.engine().await;
    other.start_drains().await;
    other.schedules.start();
    eventually("the next run finds it", async || stored().await == 5).await;
    assert!(other.schedules.remove(&table("leads").into()).await.expect("removed"));
    other.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_finds_nothing_is_one_small_question() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), (1..=3_u8).map(|n| lead(n.into(), 30)).collect());
    let engine = pipeline.engine().await;
    engine.schedules.put(&request(table("leads")), 0.25, "ana").await.expect("scheduled");
    engine.schedules.start();
    eventually("it is polled", async || pipeline.source.take_requests().iter().any(is_poll)).await;
    let mut seen = Vec::new();
    eventually("it was polled ten times", async || {
        seen.extend(pipeline.source.take_requests());
        seen.len() >= 10
    })
    .await;
    // A whole run may come in between, where the machine is slow.
    let polls = seen.iter().filter(|request| is_poll(request)).count();
    assert!(polls * 2 > seen.len(), "{seen:?}");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_replaced_while_a_poll_waits_for_its_answer_runs_at_once_and_alone() {
    let (pipeline, engine) = polled().await;
    pipeline.source.script([Fault::Hang]);
    pipeline.source.take_requests();
    eventually("a poll hangs", async || pipeline.source.take_requests().iter().any(is_poll)).await;

    engine.schedules.put(&request(table("leads")), 3_600.0, "bia").await.expect("replaced");
    let next_hour = chrono::Utc::now() + chrono::TimeDelta::minutes(50);
    eventually("the new one ran", async || schedule(&engine).await.next_due_at > next_hour).await;
    let status = schedule(&engine).await;
    assert_eq!(last_run(&engine).await.outcome, RunOutcome::Succeeded, "{status:?}");
    assert_eq!(status.running_on, None, "the poll that was given up holds nothing");
    assert!(!pipeline.source.take_requests().iter().any(is_poll), "nobody polls any more");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_a_person_asks_for_while_a_poll_reads_waits_for_it_and_is_not_refused() {
    let (pipeline, engine) = polled().await;

    // The question, and the page that the poll reads.
    pipeline
        .source
        .script([Fault::Delay(Duration::from_millis(700)), Fault::Delay(Duration::from_millis(700))]);
    pipeline.source.upsert(table("leads"), vec![lead(4, 0)]);
    let polls = "SELECT count(*) FROM sluice_syncs WHERE state = 'running' AND request ? 'since'";
    eventually("a poll reads", async || pipeline.number(polls).await > 0).await;
    let asked = engine.syncs.start(request(table("leads"))).await.expect("it waits for the poll's end");
    eventually("it is done", async || engine.syncs.status(asked).await.is_ok_and(|sync| sync.rows_read == 4))
        .await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_of_seconds_keeps_away_as_long_as_it_is_asked_to_and_tells_at_once_that_all_is_well() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(3));
    let engine = pipeline.engine().await;
    let asked = Failure::new(429, "", "slow down", None).with_header("Retry-After", "600");
    pipeline.source.script([Fault::Refuse(asked)]);
    engine.schedules.put(&request(table("leads")), 1.0, "ana").await.expect("scheduled");
    engine.schedules.start();
    let ran = async |outcome| schedule(&engine).await.last_run.is_some_and(|run| run.outcome == outcome);
    eventually("it was refused", async || ran(RunOutcome::Failed).await).await;
    let waits = schedule(&engine).await.next_due_at - last_run(&engine).await.ended_at;
    assert!((595..=600).contains(&waits.num_seconds()), "{waits}");

    pipeline.execute("UPDATE sluice_schedules SET next_due_at = now()").await;
    eventually("it works again", async || ran(RunOutcome::Succeeded).await).await;
    let run = last_run(&engine).await;
    assert!((run.ended_at - run.began_at).num_seconds() < 50, "it is not told when the polls end: {run:?}");
    let status = schedule(&engine).await;
    assert!(
        status.next_due_at > run.began_at - chrono::TimeDelta::seconds(20),
        "nobody calls it overdue since it was made: {status:?}"
    );
    eventually("and is polled", async || pipeline.source.take_requests().iter().any(is_poll)).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_schedule_is_reconciled_once_after_the_hour_of_the_night() {
    let mut pipeline = Pipeline::new().await;
    // The night's hour is this one.
    pipeline.set("SLUICE_RECONCILE_HOUR", chrono::Timelike::hour(&chrono::Utc::now()).to_string());
    pipeline.source.set_rows(table("leads"), leads(20));
    let engine = pipeline.engine().await;
    engine.schedules.put(&request(table("leads")), 600.0, "ana").await.expect("scheduled");
    engine.start_drains().await;
    engine.schedules.start();
    eventually("the first run ended", async || schedule(&engine).await.last_run.is_some()).await;
    let name = table("leads").into();
    let last = async || engine.syncs.last_reconciliation(&name).await.expect("an answer");
    assert_eq!(last().await, None, "what has just been synced for the first time can wait for the night");

    pipeline.source.set_rows(table("leads"), leads(18));
    pipeline
        .execute(
            "UPDATE sluice_schedules SET last_success_at = now() - interval '25 hours', next_due_at = now() - interval '1 minute'",
        )
        .await;
    eventually("the night's reconciliation ended", async || {
        last().await.is_some_and(|one| one.state == sluice::store::SyncState::Succeeded)
    })
    .await;
    assert_eq!(pipeline.number("SELECT count(*) FROM leads").await, 18);
    let first = last_run(&engine).await;
    eventually("its run is over", async || last_run(&engine).await.outcome == RunOutcome::Succeeded).await;
    make_due(&pipeline).await;
    eventually("another run ended", async || last_run(&engine).await != first).await;
    let reconciliations = "SELECT count(*) FROM sluice_syncs WHERE request ? 'reconcile'";
    assert_eq!(pipeline.number(reconciliations).await, 1, "once a night");
    pipeline.execute("UPDATE sluice_syncs SET state = 'interrupted' WHERE request ? 'reconcile'").await;
    make_due(&pipeline).await;
    eventually("one that its process did not outlive is made up for", async || {
        pipeline.number(reconciliations).await == 2
            && last().await.is_some_and(|one| one.state == sluice::store::SyncState::Succeeded)
    })
    .await;

    // A schedule of some rows is to bring no others.
    eventually("nothing runs", async || schedule(&engine).await.running_on.is_none()).await;
    let before = last_run(&engine).await;
    let some = SyncRequest {
        conditions: vec![condition(table("leads"), "status", "novo")],
        ..request(table("leads"))
    };
    engine.schedules.put(&some, 600.0, "ana").await.expect("scheduled");
    eventually("it ran", async || last_run(&engine).await != before).await;
    let before = last_run(&engine).await;
    pipeline
        .execute(
            "UPDATE sluice_syncs SET started_at = now() - interval '25 hours' WHERE request ? 'reconcile';
             UPDATE sluice_schedules SET last_success_at = now() - interval '25 hours', next_due_at = now() - interval '1 minute'",
        )
        .await;
    eventually("it ran again", async || last_run(&engine).await != before).await;
    assert_eq!(last_run(&engine).await.outcome, RunOutcome::Succeeded);
    assert_eq!(pipeline.number(reconciliations).await, 2, "none was due");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nightly_reconciliation_that_another_sync_is_in_the_way_of_is_tried_again_soon() {
    let mut pipeline = Pipeline::new().await;
    pipeline.set("SLUICE_RECONCILE_HOUR", chrono::Timelike::hour(&chrono::Utc::now()).to_string());
    pipeline.source.set_rows(table("leads"), leads(3));
    let engine = pipeline.engine().await;
    engine.schedules.put(&request(table("leads")), 86_400.0, "ana").await.expect("scheduled");
    engine.start_drains().await;
    engine.schedules.start();
    eventually("the first run ended", async || schedule(&engine).await.last_run.is_some()).await;

    // Another session stands in line for the table's lease while the night's sync has it, and so gets it next.
    let url = &pipeline.variables["DATABASE_URL"];
    let (mut holding, mut other) = (connect(url).await, connect(url).await);
    let locked = "BEGIN; LOCK TABLE sluice_appended IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(locked).execute(&mut holding).await.expect("locked");
    pipeline
        .execute(
            "UPDATE sluice_schedules SET last_success_at = now() - interval '25 hours', next_due_at = now() - interval '1 minute'",
        )
        .await;
    let running = "SELECT count(*) FROM sluice_syncs WHERE state = 'running'";
    eventually("the sync runs", async || pipeline.number(running).await == 1).await;
    let lease = "hashtextextended('sluice sync ' || current_schema() || ' leads', 0)";
    let waiting = tokio::spawn(async move {
        let lock = format!("SELECT pg_advisory_lock({lease})");
        sqlx::query(&lock).execute(&mut other).await.expect("locked");
        other
    });
    let in_line = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("it stands in line", async || pipeline.number(in_line).await == 1).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holding).await.expect("unlocked");

    let run = async || last_run(&engine).await;
    eventually("the run is skipped", async || run().await.outcome == RunOutcome::Skipped).await;
    let name = table("leads").into();
    let last = async || engine.syncs.last_reconciliation(&name).await.expect("an answer");
    assert_eq!(last().await, None);
    let waits = schedule(&engine).await.next_due_at - run().await.ended_at;
    assert!(waits.num_seconds() <= 15, "{waits}");
    sqlx::Connection::close(waiting.await.expect("it has the lease")).await.expect("closed");
    pipeline.execute("UPDATE sluice_schedules SET next_due_at = now()").await;
    eventually("it is reconciled", async || {
        last().await.is_some_and(|one| one.state == sluice::store::SyncState::Succeeded)
    })
    .await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}
