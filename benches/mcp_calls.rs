//! How fast MCP itself is: `cargo bench --bench mcp_calls -- CALLS CLIENTS SECONDS URL PID COMMAND...`
//!
//! A call that does next to nothing over stdio (the program COMMAND) and over HTTP (the server at URL, whose process
//! is PID), then CLIENTS clients at once for SECONDS, in both eras of the protocol. `tools/bench-mcp` starts what
//! this needs.

#![allow(clippy::expect_used)]

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rmcp::{
    ClientServiceExt, RoleClient, ServiceExt,
    model::{CallToolRequestParams, ProtocolVersion},
    service::{ClientLifecycleMode, RunningService},
    transport::{StreamableHttpClientTransport, TokioChildProcess},
};
use serde_json::json;
use tokio::{process::Command, task::JoinSet};

const USAGE: &str = "CALLS CLIENTS SECONDS URL PID COMMAND...";

type Client = RunningService<RoleClient, ()>;

#[tokio::main]
async fn main() {
    // Cargo adds a flag of its own.
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [calls, clients, seconds, url, pid, program, arguments @ ..] = given.as_slice() else {
        panic!("{USAGE}")
    };
    let [calls, clients, seconds]: [u32; 3] =
        [calls, clients, seconds].map(|number| number.parse().expect("a number"));

    let mut command = Command::new(program);
    command.args(arguments);
    let stdio =
        ().serve(TokioChildProcess::new(command).expect("the program starts")).await.expect("a session");
    alone("a no-op call over stdio", &stdio, calls).await;
    stdio.cancel().await.expect("the session closes");
    for era in [Era::Sessions, Era::Stateless] {
        let http = era.over_http(url).await;
        alone(&format!("a no-op call over HTTP, {era}"), &http, calls).await;
        http.cancel().await.expect("the session closes");
    }
    for era in [Era::Sessions, Era::Stateless] {
        let before = resident_mib(pid);
        let (times, took) = crowd(era, url, clients, Duration::from_secs(seconds.into())).await;
        report(&format!("{clients} clients at once over HTTP, {era}"), &times);
        row("", &format!("{:.0} calls/s for {} s", rate(&times, took), took.as_secs()));
        row("memory of the server, before and after", &format!("{before} MiB, {} MiB", resident_mib(pid)));
    }
}

/// How a client begins.
#[derive(Clone, Copy)]
enum Era {
    /// It says initialize, as all revisions before 2026-07-28 do.
    Sessions,
    /// Each request stands for itself, as 2026-07-28 has it.
    Stateless,
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sessions => "sessions",
            Self::Stateless => "stateless",
        })
    }
}

impl Era {
    async fn over_http(self, url: &str) -> Client {
        let transport = StreamableHttpClientTransport::from_uri(url);
        match self {
            Self::Sessions => ().serve(transport).await.expect("a session"),
            Self::Stateless => {
                let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
                let lifecycle = ClientLifecycleMode::Discover { preferred_versions };
                ().serve_with_lifecycle(transport, lifecycle).await.expect("an answer to server/discover")
            }
        }
    }
}

/// The times of every call of many clients, and how long it all took.
async fn crowd(era: Era, url: &str, clients: u32, period: Duration) -> (Histogram<u64>, Duration) {
    let began = Instant::now();
    let mut crowd = JoinSet::new();
    for _ in 0..clients {
        let url = url.to_owned();
        crowd.spawn(async move {
            let client = era.over_http(&url).await;
            let mut times = histogram();
            while began.elapsed() < period {
                times.record(timed(&client).await).expect("a time that fits");
            }
            client.cancel().await.expect("the session closes");
            times
        });
    }
    let mut times = histogram();
    for one in crowd.join_all().await {
        times.add(one).expect("times of one kind");
    }
    (times, began.elapsed())
}

async fn alone(name: &str, client: &Client, calls: u32) {
    timed(client).await;
    let mut times = histogram();
    for _ in 0..calls {
        times.record(timed(client).await).expect("a time that fits");
    }
    report(name, &times);
}

/// Microseconds of a whole way through the server that ends at one look-up: the sync of an id that nobody has.
async fn timed(client: &Client) -> u64 {
    let arguments = json!({"sync_id": "00000000-0000-7000-8000-000000000000"});
    let arguments = arguments.as_object().expect("an object").clone();
    let began = Instant::now();
    let result = client
        .call_tool(CallToolRequestParams::new("get_sync").with_arguments(arguments))
        .await
        .expect("a result");
    let took = began.elapsed();
    let meta = result.meta.as_ref().and_then(|meta| meta.get("sluice/error"));
    assert_eq!(meta.map(|error| &error["kind"]), Some(&json!("not_found")), "{result:?}");
    u64::try_from(took.as_micros()).expect("a time that fits")
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

#[allow(clippy::cast_precision_loss)] // Both are far below 2^52.
fn rate(times: &Histogram<u64>, took: Duration) -> f64 {
    times.len() as f64 / took.as_secs_f64()
}

fn report(name: &str, times: &Histogram<u64>) {
    let milliseconds =
        |quantile| Duration::from_micros(times.value_at_quantile(quantile)).as_secs_f64() * 1000.0;
    let (p50, p99) = (milliseconds(0.5), milliseconds(0.99));
    row(name, &format!("p50 {p50:.2} ms, p99 {p99:.2} ms ({} calls)", times.len()));
}

fn row(name: &str, value: &str) {
    println!("{name:44} {value}");
}

fn resident_mib(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process on Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB");
    kib / 1024
}
