//! Several workers in one group: they come, leave, are killed, and are stopped for longer than their session lasts.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Child;

use crate::{
    bed::{
        PATIENCE, change, checked, checked_with, comes, dismiss, documents_of, quietly, run_to_end, signal,
        small_batches,
    },
    check::Truth,
    suite::{Row, Run},
    support::{
        connect,
        place::{Place as _, Real},
    },
};

const CHANGED: u32 = 60;

/// Longer than the ten seconds that a member's session lasts without a sign of life.
const PAST_THE_SESSION: Duration = Duration::from_secs(13);

/// At most four workers; at each injection one comes, leaves or is killed, amid their work.
pub async fn coming_and_going(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let mut workers: Vec<Child> = vec![quietly(bed.command(&["worker"]))];
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(2_500)).await;
        let comes_in = workers.len() < 2 || (workers.len() < 4 && dice.below(2) == 0);
        if comes_in {
            workers.push(quietly(bed.command(&["worker"])));
        } else {
            let place = usize::try_from(dice.below(workers.len() as u64)).expect("few workers");
            let mut leaving = workers.swap_remove(place);
            let is_killed = dice.below(2) == 0;
            signal(&leaving, if is_killed { Signal::KILL } else { Signal::TERM });
            leaving.wait().await.expect("an end");
        }
        sync.wait().await.expect("the sync ends");
        row.injected(checked(&bed).await);
    }
    for worker in workers {
        dismiss(Some(worker)).await;
    }
    bed.clean_up().await;
    row
}

/// Everything a sink holds, down to which write it was.
async fn print(bed: &Real) -> (String, Vec<Value>) {
    let tables = bed.0.text(
        "SELECT md5(concat(
            (SELECT string_agg(concat(t.xmin, t), '' ORDER BY t.id) FROM eventos_raw t),
            (SELECT string_agg(concat(t.xmin, t), '' ORDER BY t.id) FROM leads t),
            (SELECT string_agg(concat(t.xmin, t), '' ORDER BY t.janela_inicio, t.evento) FROM eventos_agregados t)))",
    );
    let mut writes = Vec::new();
    for index in ["eventos", "leads"] {
        let documents = documents_of(&bed.0, index, &["versao"]).await;
        writes.extend(documents.into_iter().map(|hit| hit["_seq_no"].clone()));
    }
    (tables.await, writes)
}

/// A worker is stopped with a batch in hand, another takes over, and the first wakes.
async fn zombie(run: Run, points: &[&str]) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        row.found.other.extend(run_to_end(bed.command(&["sync", "leads"]), "the sync").await);
        let point = points[round as usize % points.len()];
        let armed = format!("{point}:{}:stop", dice.below(5) + 1);
        let mut command = bed.command(&["worker"]);
        command.env("SLUICE_FAIL_POINT", &armed);
        let zombie = quietly(command);
        if !comes(PATIENCE, async || is_stopped(&zombie)).await {
            row.trouble(format!("{armed} was not reached"));
        }
        let heir = quietly(bed.command(&["worker"]));
        row.found.add(checked(&bed).await);
        // The session of the stopped one is over when another holds its partitions, which the check above waited for.
        let before = print(&bed).await;
        let woken = bed.0.text("SELECT now()::text").await;
        signal(&zombie, Signal::CONT);
        let owner = format!("%process {} (%", zombie.id().expect("it runs"));
        let said = format!(
            "SELECT count(*) FROM sluice_drains WHERE owner LIKE '{owner}' AND seen_at > '{woken}' AND state = 'running'"
        );
        if !comes(PATIENCE, async || bed.0.number(&said).await == 2).await {
            row.trouble("the worker that woke did not come back to its work");
        }
        let after = print(&bed).await;
        let mut found = checked(&bed).await;
        if before != after {
            found.other.push("the worker that woke wrote".to_owned());
        }
        row.injected(found);
        dismiss(Some(heir)).await;
        dismiss(Some(zombie)).await;
    }
    bed.clean_up().await;
    row
}

pub async fn zombie_before_it_writes(run: Run) -> Row {
    zombie(run, &["drain.fetched"]).await
}

pub async fn zombie_before_it_commits(run: Run) -> Row {
    zombie(run, &["drain.applied"]).await
}

/// Whether every thread of a process is stopped.
fn is_stopped(process: &Child) -> bool {
    let Some(id) = process.id() else { return false };
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains("(stopped)"))
}

/// Any worker is stopped at any instant, past its session, while others work on.
pub async fn stopped(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let workers = [quietly(bed.command(&["worker"])), quietly(bed.command(&["worker"]))];
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(1_500)).await;
        let asleep = &workers[round as usize % 2];
        signal(asleep, Signal::STOP);
        sync.wait().await.expect("the sync ends");
        tokio::time::sleep(PAST_THE_SESSION).await;
        signal(asleep, Signal::CONT);
        row.injected(checked(&bed).await);
    }
    for worker in workers {
        dismiss(Some(worker)).await;
    }
    bed.clean_up().await;
    row
}

/// A sync is stopped, loses its session in the store, and wakes after another sync has read the table.
pub async fn stopped_sync(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let helper = quietly(bed.command(&["worker"]));
    let points = ["sync.page_read:2", "sync.ends_remembered:1", "sync.appended:2", "sync.remembered:2"];
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let armed = format!("{}:stop", points[round as usize % points.len()]);
        let mut command = bed.command(&["sync", "leads"]);
        command.env("SLUICE_FAIL_POINT", &armed);
        let mut zombie = quietly(command);
        if !comes(PATIENCE, async || is_stopped(&zombie)).await {
            row.trouble(format!("{armed} was not reached"));
        }
        bed.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'sluice sync%'",
        )
        .await;
        change(&bed, &mut dice, round, CHANGED);
        // What it had in hand it may append once more: the topic has no lock, and the sinks know each event.
        let again = |truth: &mut Truth| truth.appends_again = true;
        row.found.add(checked_with(&bed, again).await);
        signal(&zombie, Signal::CONT);
        if tokio::time::timeout(PATIENCE, zombie.wait()).await.is_err() {
            row.trouble("the sync that woke did not end");
        }
        row.injected(checked_with(&bed, again).await);
    }
    dismiss(Some(helper)).await;
    bed.clean_up().await;
    row
}

/// Claims fail for longer than a session lasts, while workers come and one is killed.
pub async fn failing_claims(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let mut bed: Real = small_batches().await;
    bed.set("DATABASE_TIMEOUT_SECONDS", "2");
    bed.engine().await.prepare().await.expect("the tables are made");
    for round in 0..run.injections {
        let first = quietly(bed.command(&["worker"]));
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(2_000)).await;
        let mut keeper = connect(&bed.0.variables["DATABASE_URL"]).await;
        sqlx::raw_sql("BEGIN; LOCK TABLE sluice_offsets IN ACCESS EXCLUSIVE MODE")
            .execute(&mut keeper)
            .await
            .expect("locked");
        let mut second = quietly(bed.command(&["worker"]));
        tokio::time::sleep(dice.moment(3_000)).await;
        let third = quietly(bed.command(&["worker"]));
        second.kill().await.expect("killed");
        tokio::time::sleep(PAST_THE_SESSION).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut keeper).await.expect("given back");
        sync.wait().await.expect("the sync ends");
        row.injected(checked(&bed).await);
        dismiss(Some(first)).await;
        dismiss(Some(third)).await;
    }
    bed.clean_up().await;
    row
}
