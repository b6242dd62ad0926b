//! Nothing is broken: everything works for an hour. Rows are counted at the end, and what the processes hold must not
//! have grown.

use std::time::{Duration, Instant};

use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::{
    bed::{Bed, change, checked, dismiss, signal, small_batches},
    suite::{Row, Run},
    support::{
        http::{HttpServer, Session},
        rows::object,
    },
};

/// Leads changed in each round.
const CHANGED: u32 = 100;

/// How often: what leaks, leaks by the call, and an hour must leave the machine to others.
const ROUND: Duration = Duration::from_secs(3);

/// Fewer minutes say nothing of growth: caches and pools fill first.
const MINUTES_TO_JUDGE: usize = 12;

/// What a process holds, and how much more of it is no growth.
const MEMBERS: [(&str, u64); 3] = [("KiB resident", 8 << 10), ("open files", 4), ("threads", 4)];

/// How much of each a process holds.
#[derive(Debug, Clone, Copy)]
struct Held([u64; 3]);

impl Held {
    fn of(process: &Child) -> Self {
        let id = process.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
        let member = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a member");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("its files").count() as u64;
        Self([member("VmRSS:"), files, member("Threads:")])
    }
}

/// Each injection is a minute of syncs, reconciliations, injected events, searches and questions.
pub async fn minutes<B: Bed>(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    let server = HttpServer::of(bed.command(&["serve", "--http", "127.0.0.1:0"])).await;
    let worker = bed.helper();
    let session = server.connect(None).await;
    let (mut of_server, mut of_worker) = (Vec::new(), Vec::new());
    for minute in 0..run.injections {
        let ends = Instant::now() + Duration::from_mins(1);
        let mut round = 0;
        while Instant::now() < ends {
            // Other contents of the same rows: the source must not grow.
            let next = Instant::now() + ROUND;
            change(&bed, &mut dice, (minute * 20 + round) % 100, CHANGED);
            row.found.other.extend(work(&session, round, minute).await);
            round += 1;
            tokio::time::sleep_until(next.into()).await;
        }
        of_server.push(Held::of(&server.process));
        of_worker.extend(worker.as_ref().map(Held::of));
        row.injected(crate::check::Findings::default());
    }
    for (what, held) in [("serve", of_server), ("the worker", of_worker)] {
        row.found.other.extend(growth(what, &held));
    }
    drop(session);
    signal(&server.process, rustix::process::Signal::TERM);
    dismiss(Some(server.process)).await;
    let found = checked(&bed).await;
    row.found.add(found);
    dismiss(worker).await;
    bed.clean_up().await;
    row
}

/// What a round's work is, and what went wrong with it.
async fn work(session: &Session, round: u32, minute: u32) -> Vec<String> {
    let mut calls: Vec<(&'static str, Value)> = vec![
        ("sync_leads_from_supabase", json!({"hours_ago": 1})),
        ("inject_event", json!({"evento": "teste", "usuario": "ana", "valor": 1})),
    ];
    match round % 6 {
        0 => calls.push(("sync_chat_sessions_from_supabase", json!({"hours_ago": 1}))),
        1 => calls.push(("search_elasticsearch", json!({"query": "Ana"}))),
        2 => calls.push(("query_store", json!({"sql": "SELECT count(*) FROM leads"}))),
        3 => calls.push(("get_pipeline_status", json!({}))),
        _ => {}
    }
    if round == 10 && minute.is_multiple_of(5) {
        calls.push(("reconcile_table", json!({"table": "leads"})));
    }
    let mut troubles = Vec::new();
    for (tool, arguments) in calls {
        let request = CallToolRequestParams::new(tool).with_arguments(object(arguments));
        match session.call_tool(request).await {
            Ok(answer) if answer.is_error != Some(true) => {}
            // One table is read by one at a time.
            Ok(answer) if format!("{answer:?}").contains("runs already") => {}
            Ok(answer) => troubles.push(format!("{tool}: {:?}", answer.content)),
            Err(error) => troubles.push(format!("{tool}: {error}")),
        }
    }
    troubles
}

/// Compares the last quarter with the second one; the medians are printed.
fn growth(what: &str, held: &[Held]) -> Vec<String> {
    if held.len() < MINUTES_TO_JUDGE {
        return Vec::new();
    }
    let quarter = held.len() / 4;
    let (early, late) = (&held[quarter..2 * quarter], &held[held.len() - quarter..]);
    let median = |held: &[Held], member: usize| {
        let mut values: Vec<u64> = held.iter().map(|held| held.0[member]).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let mut troubles = Vec::new();
    for (member, (name, slack)) in MEMBERS.into_iter().enumerate() {
        let (before, after) = (median(early, member), median(late, member));
        println!("  {what}: {before}, then {after} {name}");
        if after > before + before / 10 + slack {
            troubles.push(format!("{what} grew from {before} to {after} {name}"));
        }
    }
    troubles
}
