//! SIGTERM amid everything, and two of what should be one.

use std::time::{Duration, Instant};

use rmcp::model::CallToolRequestParams;
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Child;

use crate::{
    bed::{Bed, PATIENCE, change, checked, comes, dismiss, kill, quietly, run_to_end, signal, small_batches},
    suite::{Row, Run},
    support::{
        http::HttpServer,
        place::{Embedded, Place as _, Real},
        rows::object,
    },
};

const CHANGED: u32 = 60;

/// What is promised, whatever is under way.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Asks a process to end; a trouble if it takes longer than promised.
async fn ends(mut process: Child, what: &str) -> Option<String> {
    let began = Instant::now();
    signal(&process, Signal::TERM);
    let ended = tokio::time::timeout(END_WITHIN * 6, process.wait()).await;
    let took = began.elapsed();
    if ended.is_err() {
        kill(&mut process).await;
    }
    (took > END_WITHIN).then(|| format!("{what} took {took:?} to end"))
}

/// A worker, a server, a sync and a reconciliation are asked to end at any instant.
pub async fn terminated<B: Bed>(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    let kinds: [&[&str]; 4] = [
        &["worker"],
        &["sync", "leads", "--wait"],
        &["reconcile", "leads", "--wait"],
        &["serve", "--http", "127.0.0.1:0"],
    ];
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let arguments = kinds[round as usize % kinds.len()];
        let beside = (arguments[0] == "worker")
            .then(|| bed.helper().map(|_| bed.command(&["sync", "leads"])))
            .flatten();
        let beside = beside.map(quietly);
        let process = quietly(bed.command(arguments));
        tokio::time::sleep(dice.moment(3_000)).await;
        row.found.other.extend(ends(process, &arguments.join(" ")).await);
        if let Some(mut sync) = beside {
            sync.wait().await.expect("the sync ends");
        }
        let helper = bed.helper();
        row.injected(checked(&bed).await);
        dismiss(helper).await;
    }
    bed.clean_up().await;
    row
}

/// Two servers are asked for the same table, again and again, and one of them is killed.
pub async fn two_servers(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    for round in 0..run.injections {
        let serve = || bed.command(&["serve", "--http", "127.0.0.1:0"]);
        let (mut one, other) = tokio::join!(HttpServer::of(serve()), HttpServer::of(serve()));
        change(&bed, &mut dice, round, CHANGED);
        let syncing = async |server: &HttpServer| {
            let session = server.connect(None).await;
            loop {
                let arguments = object(json!({"hours_ago": 24}));
                let request =
                    CallToolRequestParams::new("sync_leads_from_supabase").with_arguments(arguments);
                session.call_tool(request).await.ok();
            }
        };
        let both = async { tokio::join!(syncing(&one), syncing(&other)) };
        let _: Result<((), ()), _> = tokio::time::timeout(dice.moment(4_000), both).await;
        kill(&mut one.process).await;
        row.injected(checked(&bed).await);
        row.found.other.extend(ends(other.process, "serve").await);
    }
    bed.clean_up().await;
    row
}

/// While a server has a folder, a sync on it is refused and a worker waits; the server is killed, and the worker takes over.
pub async fn two_on_a_folder(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Embedded = small_batches().await;
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut server = HttpServer::of(bed.command(&["serve", "--http", "127.0.0.1:0"])).await;
        let worker = quietly(bed.command(&["worker"]));
        tokio::time::sleep(dice.moment(1_500)).await;
        let held_by = async |process: &Child| {
            let holder = format!("process {} (", process.id().expect("it runs"));
            let refused = run_to_end(bed.command(&["sync", "leads", "--wait"]), "a sync").await;
            refused.is_some_and(|text| text.contains(&holder))
        };
        if !held_by(&server.process).await {
            row.trouble("a second process on the folder was not refused");
        }
        kill(&mut server.process).await;
        if !comes(PATIENCE, async || held_by(&worker).await).await {
            row.trouble("the worker that waited did not take the folder over");
        }
        dismiss(Some(worker)).await;
        row.injected(checked(&bed).await);
    }
    bed.clean_up().await;
    row
}
