//! Processes that share a group, end, and are asked to end while something hangs.

use std::{process::Stdio, sync::Arc, time::Duration};

use sluice::{
    engine::{Engine, EngineError, Selection, SyncPhase},
    store::Reconciliation,
};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::support::{
    Pipeline, connect, eventually,
    gate::Gate,
    request,
    rows::{lead, leads, session},
    servers::Servers,
    table,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_syncs_that_begin_at_once_beside_a_worker_both_end() {
    let pipeline = Pipeline::new().await;
    let mut worker = pipeline.command(&["worker"]).stderr(Stdio::null()).spawn().expect("a worker");
    for round in 0..4_u128 {
        let ids = round * 300 + 1..=round * 300 + 300;
        pipeline.source.upsert(table("leads"), ids.clone().map(|n| lead(n, 1)).collect());
        pipeline.source.upsert(table("chat_sessions"), ids.map(|n| session(n, 1, 3)).collect());
        let syncs = ["leads", "chat-sessions"].map(|table| {
            let mut command = pipeline.command(&["sync", table, "--wait"]);
            tokio::spawn(async move { command.output().await.expect("it runs") })
        });
        for sync in syncs {
            let output = tokio::time::timeout(Duration::from_mins(1), sync).await;
            let output =
                output.unwrap_or_else(|_| panic!("a sync of round {round} did not end")).expect("ended");
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && told.contains("done"), "{told}");
        }
    }
    worker.kill().await.expect("killed");
    pipeline.assert_events(2400).await;
    pipeline.clean_up().await;
}

/// What is promised, whatever hangs.
const END_WITHIN: Duration = Duration::from_secs(10);

fn with_log(mut command: tokio::process::Command) -> tokio::process::Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::piped()).spawn().expect("it runs")
}

/// Asks a process to end; how long that took, and what it said all its life.
async fn ended(mut process: tokio::process::Child) -> (Duration, String) {
    let id = process.id().expect("a running process").to_string();
    let begun = std::time::Instant::now();
    let told = tokio::process::Command::new("kill").args(["-TERM", &id]).status().await;
    assert!(told.expect("kill runs").success());
    let _stdin = process.stdin.take();
    let output = process.wait_with_output().await.expect("an end");
    (begun.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn with_everything_in_the_log(pipeline: &Pipeline, count: u128) -> Arc<sluice::engine::Engine> {
    pipeline.source.set_rows(table("leads"), leads(count));
    let engine = pipeline.engine().await;
    engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("everything is in the log", async || {
        // A broker that has just begun may not know yet who keeps the groups' offsets.
        let lag = engine.drains.lag().await;
        lag.is_ok_and(|lag| lag.iter().all(|lag| u128::try_from(lag.total).is_ok_and(|total| total == count)))
    })
    .await;
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asked_to_end_while_a_table_is_locked_ends_in_time_and_says_what_it_cut() {
    let pipeline = Pipeline::new().await;
    let engine = with_everything_in_the_log(&pipeline, 300).await;
    engine.prepare().await.expect("prepared");
    let mut other = connect(&pipeline.variables["DATABASE_URL"]).await;
    let mut lock = other.begin().await.expect("a transaction");
    sqlx::raw_sql("LOCK TABLE leads IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.expect("locked");
    let worker = with_log(pipeline.command(&["worker"]));
    eventually("the drain waits for the lock", async || {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
            WHERE c.relname = 'leads' AND NOT l.granted AND l.database = (
                SELECT oid FROM pg_database WHERE datname = current_database())";
        pipeline.number(waiting).await > 0
    })
    .await;
    let (took, log) = ended(worker).await;
    println!("locked: ended after {took:?}");
    assert!(took < END_WITHIN, "{took:?}\n{log}");
    assert!(log.contains("the drain into postgres is cut"), "{log}");
    lock.rollback().await.expect("given back");

    let worker = with_log(pipeline.command(&["worker"]));
    eventually("the next worker applies it", async || {
        pipeline.number("SELECT count(*) FROM eventos_raw").await == 300
    })
    .await;
    eventually("in the index as well", async || {
        pipeline.hits("leads", "*").await == 300 && pipeline.hits("eventos", "*").await == 300
    })
    .await;
    let (took, log) = ended(worker).await;
    println!("nothing hangs: ended after {took:?}");
    assert!(took < END_WITHIN && !log.contains("is cut"), "{took:?}\n{log}");
    pipeline.assert_events_in_full(300).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

/// The pipeline with its way to Postgres through a gate.
async fn through_a_gate(pipeline: &mut Pipeline) -> Gate {
    let mut url = url::Url::parse(&pipeline.variables["DATABASE_URL"]).expect("a URL");
    let target = format!("{}:{}", url.host_str().expect("a host"), url.port().expect("a port"));
    let gate = Gate::to(&target).await;
    let (host, port) = gate.address.split_once(':').expect("host and port");
    url.set_host(Some(host)).expect("a host");
    url.set_port(Some(port.parse().expect("a port"))).expect("a port");
    pipeline.set("DATABASE_URL", url.to_string());
    gate
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_asked_to_end_while_the_store_hangs_ends_in_time() {
    let mut pipeline = Pipeline::new().await;
    let engine = with_everything_in_the_log(&pipeline, 50).await;
    engine.shut_down().await;
    let slow = || sluice::source::sample::Fault::Delay(Duration::from_millis(500));
    let direct = pipeline.variables.clone();
    for arguments in
        [&["worker"][..], &["serve"], &["serve", "--http", "127.0.0.1:0"], &["sync", "leads", "--wait"]]
    {
        let gate = through_a_gate(&mut pipeline).await;
        if arguments[0] == "sync" {
            pipeline.source.set_max_rows(Some(5));
            pipeline.source.script(std::iter::repeat_with(slow).take(100));
        }
        let process = with_log(pipeline.command(arguments));
        let connected = async |name: &str| {
            let mut admin = connect(&direct["DATABASE_URL"]).await;
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name LIKE $1 AND pid <> pg_backend_pid()",
            )
            .bind(name)
            .fetch_one(&mut admin)
            .await
            .expect("a count");
            count > 0
        };
        let name = if arguments[0] == "sync" { "sluice sync%" } else { "sluice" };
        eventually("it is connected", async || connected(name).await).await;
        gate.stick();
        // Whatever it asks next gets no answer.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (took, log) = ended(process).await;
        println!("{arguments:?} on a store that hangs: ended after {took:?}");
        assert!(took < END_WITHIN, "{arguments:?}: {took:?}\n{log}");
        pipeline.variables = direct.clone();
    }
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asked_to_end_while_the_brokers_hang_ends_in_time() {
    let servers = Servers::start_some(&["kafka"]).await;
    let mut pipeline = Pipeline::new().await;
    pipeline.set("KAFKA_BOOTSTRAP_SERVERS", servers.bootstrap_servers());
    pipeline.set("KAFKA_REPLICATION_FACTOR", "1");
    let engine = with_everything_in_the_log(&pipeline, 50).await;
    engine.shut_down().await;
    let worker = with_log(pipeline.command(&["worker"]));
    eventually("it drains", async || pipeline.number("SELECT count(*) FROM eventos_raw").await == 50).await;
    servers.freeze("kafka").await;
    let (took, log) = ended(worker).await;
    servers.thaw("kafka").await;
    println!("brokers hang: ended after {took:?}");
    assert!(took < END_WITHIN, "{took:?}\n{log}");
    pipeline.clean_up_indices().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_fails_in_another_process_is_a_problem_and_no_exit_of_zero() {
    let mut pipeline = Pipeline::new().await;
    // In one batch: of a few rows each would be parked alone before it is seen that every row is refused.
    pipeline.set("KAFKA_PARTITIONS", "1");
    let engine = with_everything_in_the_log(&pipeline, 30).await;
    engine.prepare().await.expect("prepared");
    let status = engine.inspection.status().await;
    let told = |text: &str| status.problems.iter().any(|problem| problem.problem.contains(text));
    assert!(told("no process drains postgres") && told("no process drains elasticsearch"), "{status:?}");
    assert!(!status.healthy && status.drains_elsewhere.is_empty(), "{status:?}");
    pipeline
        .execute(
            "CREATE FUNCTION recusa() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'não'; END $$;
             CREATE TRIGGER recusa BEFORE INSERT ON eventos_raw FOR EACH ROW EXECUTE FUNCTION recusa()",
        )
        .await;
    let mut worker = pipeline.command(&["worker"]).stderr(Stdio::null()).spawn().expect("a worker");
    let is_told = async || {
        let status = engine.inspection.status().await;
        let told = |remark: &sluice::next_step::Remark| {
            let problem = &remark.problem;
            problem.contains("the drain into postgres on")
                && problem.contains("has failed since 20")
                && problem.contains("every row of leads is refused")
        };
        !status.healthy && status.problems.iter().any(told)
    };
    eventually("the other process's drain is a problem here", is_told).await;
    for _ in 0..5 {
        assert!(is_told().await, "and stays one while it tries again and again");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let findings = engine.doctor.examine().await;
    assert!(
        findings.iter().any(|one| one.check == "drained elsewhere" && one.part == "postgres"),
        "{findings:?}"
    );
    let output = pipeline.command(&["status"]).output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    let status = engine.inspection.status().await;
    let index =
        status.drains_elsewhere.iter().find(|drain| drain.sink == "elasticsearch").expect("its drain");
    assert_eq!((index.state.as_str(), index.failing_since), ("running", None), "{index:?}");

    pipeline.execute("DROP TRIGGER recusa ON eventos_raw").await;
    eventually("it works again, and that is told, too", async || {
        let status = engine.inspection.status().await;
        status.healthy && status.drains_elsewhere.len() == 2
    })
    .await;
    let parked = Selection::Open { sink: Some("postgres".to_owned()), from: None, limit: 30 };
    eventually("everything is applied", async || {
        // Of a few rows that were read alone there are letters.
        engine.letters.replay(&parked, "ana").await.expect("replayed");
        pipeline.number("SELECT count(*) FROM eventos_raw").await == 30
            && pipeline.hits("eventos", "*").await == 30
    })
    .await;
    pipeline.assert_events(30).await;
    let id = worker.id().expect("a running process").to_string();
    tokio::process::Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs");
    worker.wait().await.expect("an end");
    assert_eq!(pipeline.number("SELECT count(*) FROM sluice_drains").await, 0, "it took back its word");

    pipeline.execute("ALTER TABLE leads ALTER COLUMN score_qualificacao TYPE integer").await;
    let refused = "leads.score_qualificacao is integer here";
    let status = engine.inspection.status().await;
    let is_told = status.problems.iter().any(|problem| problem.to_string().contains(refused));
    assert!(is_told && !status.healthy && status.drains_elsewhere.is_empty(), "{status:?}");
    let mut worker = pipeline.command(&["worker"]).stderr(Stdio::null()).spawn().expect("a worker");
    eventually("a worker whose store refuses a table tells of its drain all the same", async || {
        let status = engine.inspection.status().await;
        status.drains_elsewhere.iter().any(|drain| {
            let error = drain.last_error.as_deref().unwrap_or_default();
            drain.sink == "postgres" && drain.failing_since.is_some() && error.contains(refused)
        })
    })
    .await;
    worker.kill().await.expect("killed");
    engine.shut_down().await;
    pipeline.clean_up().await;
}

/// The first page that a command reads is in the log, and the store does not let it be remembered; then `end` ends that.
async fn can_not_remember_its_page(
    pipeline: &Pipeline,
    command: &str,
    end: impl AsyncFnOnce(&mut tokio::process::Child),
) {
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    let mut other = connect(&pipeline.variables["DATABASE_URL"]).await;
    let mut lock = other.begin().await.expect("a transaction");
    sqlx::raw_sql("LOCK TABLE sluice_appended IN EXCLUSIVE MODE").execute(&mut *lock).await.expect("locked");
    let mut process = pipeline
        .command(&[command, "leads"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    eventually("a page is in the log", async || {
        engine.drains.lag().await.expect("the lag").iter().all(|lag| lag.total == 20)
    })
    .await;
    eventually("the store keeps it waiting", async || {
        pipeline
            .number(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name LIKE 'sluice sync%' AND wait_event_type = 'Lock'",
            )
            .await
            > 0
    })
    .await;
    end(&mut process).await;
    lock.rollback().await.expect("given back");
    process.wait().await.expect("an end");
    engine.shut_down().await;
}

/// Another one brings the rest, and no event a second time.
async fn nothing_is_appended_twice(
    pipeline: Pipeline,
    begin: impl AsyncFn(&Engine) -> Result<Uuid, EngineError>,
) {
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    // Its server sees that the session of the one before is gone.
    let mut started = None;
    eventually("the table is free", async || {
        started = begin(&engine).await.ok();
        started.is_some()
    })
    .await;
    let next = crate::support::finished(&engine, started.expect("a sync")).await;
    assert_eq!(next.state, SyncPhase::Done, "{next:?}");
    assert_eq!((next.appended, next.unchanged), (40, 20), "{next:?}");
    let records: i64 = engine
        .drains
        .lag()
        .await
        .expect("the lag")
        .iter()
        .filter(|lag| lag.sink == "postgres")
        .flat_map(|lag| &lag.partitions)
        .map(|partition| partition.log_end_offset)
        .sum();
    assert_eq!(records, 60, "each event stands once in the topic");
    pipeline.assert_events_in_full(60).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_killed_before_it_could_remember_a_page_leaves_no_event_to_be_appended_twice() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(60));
    pipeline.source.set_max_rows(Some(20));
    can_not_remember_its_page(&pipeline, "sync", async |process| killed(&pipeline, process).await).await;
    nothing_is_appended_twice(pipeline, async |engine: &Engine| sync_again(engine).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconciliation_reads_back_what_a_killed_one_could_not_remember() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(60));
    pipeline.source.set_max_rows(Some(20));
    can_not_remember_its_page(&pipeline, "reconcile", async |process| killed(&pipeline, process).await).await;
    nothing_is_appended_twice(pipeline, async |engine: &Engine| {
        engine
            .syncs
            .reconcile(
                &table("leads").into(),
                Reconciliation { allow_deletes: None, ..Reconciliation::default() },
            )
            .await
    })
    .await;
}

async fn sync_again(engine: &Engine) -> Result<Uuid, EngineError> {
    engine.syncs.start(request(table("leads"))).await
}

/// SIGKILL, and the session in the store ends with it.
async fn killed(pipeline: &Pipeline, process: &mut tokio::process::Child) {
    process.kill().await.expect("killed");
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'sluice sync%'";
    pipeline.number(ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_loses_the_store_before_it_could_remember_a_page_leaves_no_event_to_be_appended_twice() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(60));
    pipeline.source.set_max_rows(Some(20));
    can_not_remember_its_page(&pipeline, "sync", async |_| {
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'sluice sync%'";
        assert_eq!(pipeline.number(ended).await, 1);
    })
    .await;
    nothing_is_appended_twice(pipeline, async |engine: &Engine| sync_again(engine).await).await;
}
