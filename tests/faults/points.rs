//! Kills between two steps: each point of `src/fail_point.rs` ends a process there, and the next one goes on.

use std::os::unix::process::ExitStatusExt as _;

use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::{
    bed::{Bed, PATIENCE, change, checked, checked_with, comes, dismiss, quietly, run_to_end, small_batches},
    check::Truth,
    suite::{Row, Run},
    support::{
        http::HttpServer,
        rows::{id, lead, minutes_ago, object},
        table,
    },
};

const CHANGED: u32 = 60;

/// Ends a process at a point, at one of its first passings.
pub struct Point {
    pub name: &'static str,
    /// The last passing that is sure to come.
    pub passings: u32,
}

pub const fn point(name: &'static str, passings: u32) -> Point {
    Point { name, passings }
}

pub static OF_SYNC: [Point; 7] = [
    point("sync.page_read", 6),
    point("sync.letters_appended", 1),
    point("sync.ends_remembered", 1),
    point("sync.appended", 3),
    point("sync.remembered", 6),
    point("sync.read", 1),
    point("sync.finished", 1),
];

pub static OF_DRAIN: [Point; 5] = [
    point("drain.claimed", 2),
    point("drain.fetched", 8),
    point("drain.letters_appended", 1),
    point("drain.applied", 8),
    point("drain.committed", 6),
];

pub static OF_RECONCILE: [Point; 8] = [
    point("sync.appended", 2),
    point("reconcile.page_read", 2),
    point("reconcile.read", 1),
    point("reconcile.gone_found", 1),
    point("reconcile.removals_appended", 1),
    point("reconcile.removals_remembered", 1),
    point("reconcile.waited", 1),
    point("reconcile.proved", 1),
];

pub static OF_REBUILD: [Point; 5] = [
    point("rebuild.begun", 1),
    point("rebuild.filled", 1),
    point("rebuild.served", 1),
    point("rebuild.caught_up", 1),
    point("rebuild.ended", 1),
];

pub static OF_REPLAY: [Point; 2] = [point("replay.appended", 1), point("replay.settled", 1)];

impl Point {
    pub fn armed(&self, injection: u32) -> String {
        format!("{}:{}", self.name, injection % self.passings + 1)
    }
}

/// Waits for the end that a point makes.
pub async fn fell(process: &mut Child, row: &mut Row, armed: &str) {
    match tokio::time::timeout(PATIENCE, process.wait()).await {
        Ok(status) => {
            let status = status.expect("an end");
            if status.signal() != Some(9) {
                row.trouble(format!("{armed} was not reached: {status}"));
            }
        }
        Err(_) => {
            row.trouble(format!("{armed} was not reached within {} s", PATIENCE.as_secs()));
            process.kill().await.expect("killed");
        }
    }
}

/// A lead that the trigger of [`Place::refuse_a_name`] keeps out of the store, so that there is a dead letter.
fn poison<B: Bed>(bed: &B, n: u128) {
    let mut row = lead(n, 0);
    row.insert("nome".to_owned(), json!("proibida"));
    bed.source().upsert(table("leads"), vec![row]);
}

/// The letter that it makes.
fn expect_letter<B: Bed>(truth: &mut Truth, n: u128) {
    truth.refused_by_store.insert(id(n));
    truth.letters.insert(format!("{} {}", B::STORE, id(n)), 1);
}

pub async fn sync<B: Bed>(run: Run, point: &Point) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    let helper = bed.helper();
    for injection in 0..run.injections {
        change(&bed, &mut dice, injection, CHANGED);
        let mut broken = lead(1, 0);
        broken.insert("id".to_owned(), Value::Null);
        broken.insert("nome".to_owned(), json!(format!("sem id {injection}")));
        bed.source().upsert(table("leads"), vec![broken]);
        let armed = point.armed(injection);
        let mut process = bed.command(&[&["sync", "leads"], B::DRAINING].concat());
        process.env("SLUICE_FAIL_POINT", &armed);
        fell(&mut quietly(process), &mut row, &armed).await;
        let letters = u64::from(injection) + 1;
        let parked = |truth: &mut Truth| {
            truth.letters.insert("row leads".to_owned(), letters);
        };
        row.injected(checked_with(&bed, parked).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

/// A sync is killed with a page that it could not remember, and the one that reads it back is killed, too.
pub async fn read_back<B: Bed>(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    let helper = bed.helper();
    for injection in 0..run.injections {
        change(&bed, &mut dice, injection, CHANGED);
        for armed in ["sync.appended:2", "sync.read_back:1"] {
            // Until the server has seen that the sync before is gone, the table is not free.
            let is_free = comes(PATIENCE, async || {
                let mut process = bed.command(&[&["sync", "leads"], B::DRAINING].concat());
                process.env("SLUICE_FAIL_POINT", armed);
                let ended = quietly(process).wait().await.expect("an end");
                ended.signal() == Some(9)
            });
            if !is_free.await {
                row.trouble(format!("{armed} was not reached"));
            }
        }
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

pub async fn drain<B: Bed>(run: Run, point: &Point) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    bed.engine().await.prepare().await.expect("the tables are made");
    bed.refuse_a_name().await;
    for injection in 0..run.injections {
        change(&bed, &mut dice, injection, CHANGED);
        poison(&bed, 5_000 + u128::from(injection));
        let armed = point.armed(injection);
        let process = if B::DRAINING.is_empty() {
            row.found.other.extend(run_to_end(bed.command(&["sync", "leads"]), "the sync").await);
            bed.command(&["worker"])
        } else {
            bed.command(&["sync", "leads", "--wait"])
        };
        let mut process = process;
        process.env("SLUICE_FAIL_POINT", &armed);
        fell(&mut quietly(process), &mut row, &armed).await;
        let helper = bed.helper();
        let poisoned = |truth: &mut Truth| {
            (0..=injection).for_each(|n| expect_letter::<B>(truth, 5_000 + u128::from(n)));
        };
        row.injected(checked_with(&bed, poisoned).await);
        dismiss(helper).await;
    }
    bed.clean_up().await;
    row
}

pub async fn reconcile<B: Bed>(run: Run, point: &Point) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    let helper = bed.helper();
    change(&bed, &mut dice, 0, 150);
    row.found.add(checked(&bed).await);
    let arguments: Vec<&str> = [&["reconcile", "leads", "--allow-deletes", "1000"], B::DRAINING].concat();
    for injection in 0..run.injections {
        change(&bed, &mut dice, injection + 1, CHANGED);
        let mut rows = bed.source().rows(table("leads"));
        rows.drain(..5);
        // Changed without saying so, at both ends of the table.
        let last = rows.len() - 1;
        for n in [0, last] {
            rows[n].insert("nome".to_owned(), json!(format!("calada {injection}")));
            rows[n].insert("updated_at".to_owned(), json!(minutes_ago(5_000)));
        }
        bed.source().set_rows(table("leads"), rows);
        let armed = point.armed(injection);
        let mut process = bed.command(&arguments);
        process.env("SLUICE_FAIL_POINT", &armed);
        fell(&mut quietly(process), &mut row, &armed).await;
        // What goes on proves the table as it was before, and nothing changes at the source meanwhile.
        let resume: &[&str] = if injection % 2 == 1 { &["--resume"] } else { &[] };
        let next = [&arguments, resume].concat();
        let mut trouble = Some(String::new());
        comes(PATIENCE, async || {
            trouble = run_to_end(bed.command(&next), "the next reconciliation").await;
            !trouble.as_ref().is_some_and(|text| text.contains("runs already"))
        })
        .await;
        row.found.other.extend(trouble);
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

/// Has a server do something that ends it.
async fn falls_at<B: Bed>(bed: &B, row: &mut Row, armed: &str, tool: &'static str, arguments: Value) {
    let mut command = bed.command(&["serve", "--http", "127.0.0.1:0"]);
    command.env("SLUICE_FAIL_POINT", armed);
    let mut server = HttpServer::of(command).await;
    let session = server.connect(None).await;
    let request = CallToolRequestParams::new(tool).with_arguments(object(arguments));
    tokio::select! {
        () = fell(&mut server.process, row, armed) => {}
        () = async {
            session.call_tool(request).await.ok();
            std::future::pending::<()>().await;
        } => {}
    }
}

/// Has a server do something, as often as it says that it is not done.
async fn done<B: Bed>(
    bed: &B,
    tool: &'static str,
    arguments: Value,
    is_done: impl Fn(&Value) -> bool,
) -> Option<String> {
    let mut server = HttpServer::of(bed.command(&["serve", "--http", "127.0.0.1:0"])).await;
    let session = server.connect(None).await;
    let mut last = Value::Null;
    let came = comes(PATIENCE, async || {
        let request = CallToolRequestParams::new(tool).with_arguments(object(arguments.clone()));
        last = match session.call_tool(request).await {
            Ok(result) => result.structured_content.unwrap_or_default(),
            Err(error) => json!(error.to_string()),
        };
        is_done(&last)
    })
    .await;
    drop(session);
    server.terminate();
    server.process.wait().await.expect("an end");
    (!came).then(|| format!("{tool} did not come to its end: {last}"))
}

pub async fn rebuild<B: Bed>(run: Run, point: &Point) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    for injection in 0..run.injections {
        change(&bed, &mut dice, injection, CHANGED);
        let helper = bed.helper();
        row.found.add(checked(&bed).await);
        dismiss(helper).await;
        change(&bed, &mut dice, injection, CHANGED);
        let index = ["leads", "eventos"][injection as usize % 2];
        let arguments = json!({"index": index, "confirm": true});
        falls_at(&bed, &mut row, &point.armed(injection), "rebuild_index", arguments.clone()).await;
        let ended = done(&bed, "rebuild_index", arguments, |answer| answer["done"] == true).await;
        row.found.other.extend(ended);
        let helper = bed.helper();
        row.injected(checked(&bed).await);
        dismiss(helper).await;
    }
    bed.clean_up().await;
    row
}

pub async fn replay<B: Bed>(run: Run, point: &Point) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    bed.engine().await.prepare().await.expect("the tables are made");
    for injection in 0..run.injections {
        change(&bed, &mut dice, injection, CHANGED);
        let refused = 7_000 + u128::from(injection);
        bed.refuse_a_name().await;
        poison(&bed, refused);
        let again = |truth: &mut Truth| truth.appends_again = true;
        let helper = bed.helper();
        let before = checked_with(&bed, |truth| {
            again(truth);
            expect_letter::<B>(truth, refused);
        });
        row.found.add(before.await);
        dismiss(helper).await;
        bed.execute(B::DROP_TRIGGER).await;
        let all = json!({"all_matching": true, "limit": 100});
        falls_at(&bed, &mut row, &point.armed(injection), "replay_dead_letters", all.clone()).await;
        row.found.other.extend(done(&bed, "replay_dead_letters", all, |answer| answer["open"] == 0).await);
        let helper = bed.helper();
        row.injected(checked_with(&bed, again).await);
        dismiss(helper).await;
    }
    bed.clean_up().await;
    row
}
