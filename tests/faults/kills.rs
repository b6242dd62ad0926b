//! SIGKILL at any instant.

use std::time::Duration;

use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

use crate::{
    bed::{Bed, change, checked, comes, dismiss, kill, quietly, small_batches},
    suite::{Row, Run},
    support::{
        Pipeline,
        http::HttpServer,
        place::{Embedded, Place as _, Real},
        rows::object,
    },
};

/// Leads changed before each kill.
const CHANGED: u32 = 60;

async fn applied(pipeline: &Pipeline) -> i64 {
    pipeline.try_number("SELECT count(*) FROM eventos_raw").await.unwrap_or_default()
}

/// The worker: half of the times from its start on, half amid its work.
pub async fn worker(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let mut worker = quietly(bed.command(&["worker"]));
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let before = applied(&bed.0).await;
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        let moment = dice.moment(700);
        if dice.below(2) == 0 {
            comes(Duration::from_secs(20), async || applied(&bed.0).await > before).await;
        }
        tokio::time::sleep(moment).await;
        kill(&mut worker).await;
        sync.wait().await.expect("the sync ends");
        worker = quietly(bed.command(&["worker"]));
        row.injected(checked(&bed).await);
    }
    kill(&mut worker).await;
    bed.clean_up().await;
    row
}

/// A sync, beside a worker that goes on.
pub async fn sync(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let mut worker = quietly(bed.command(&["worker"]));
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(900)).await;
        kill(&mut sync).await;
        row.injected(checked(&bed).await);
    }
    kill(&mut worker).await;
    bed.clean_up().await;
    row
}

/// The server on the real parts, while it is called.
pub async fn serve(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    for round in 0..run.injections {
        let mut server = HttpServer::of(bed.command(&["serve", "--http", "127.0.0.1:0"])).await;
        change(&bed, &mut dice, round, CHANGED);
        call_for(&server, dice.moment(4_000)).await;
        kill(&mut server.process).await;
        let helper = bed.helper();
        row.injected(checked(&bed).await);
        dismiss(helper).await;
    }
    bed.clean_up().await;
    row
}

/// The server on the embedded parts, while it is called.
pub async fn embedded(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Embedded = small_batches().await;
    for round in 0..run.injections {
        let mut server = HttpServer::of(bed.command(&["serve", "--http", "127.0.0.1:0"])).await;
        change(&bed, &mut dice, round, CHANGED);
        call_for(&server, dice.moment(900)).await;
        kill(&mut server.process).await;
        row.injected(checked(&bed).await);
    }
    row
}

/// Syncs and injects again and again until the moment comes.
async fn call_for(server: &HttpServer, moment: Duration) {
    let session = server.connect(None).await;
    let call = |tool: &'static str, arguments: Value| {
        session.call_tool(CallToolRequestParams::new(tool).with_arguments(object(arguments)))
    };
    let working = async {
        loop {
            let sync = call("sync_leads_from_supabase", json!({"hours_ago": 24}));
            let inject = call("inject_event", json!({"evento": "teste", "usuario": "ana", "valor": 1}));
            let _ = tokio::join!(sync, inject);
        }
    };
    tokio::time::timeout(moment, working).await.ok();
}
