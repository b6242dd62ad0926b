//! What commands print: nothing that a terminal obeys, and no panic when nobody reads it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::json;
use sluice::source::sample::{Failure, Fault, SampleServer, keys};
use tempfile::TempDir;
use tokio::process::Child;

use crate::support::{
    cli::{Outcome, run, sluice},
    eventually,
    rows::lead,
};

/// What a shell reports for a program that SIGPIPE ended.
const NOBODY_READS: i32 = 141;

/// Longest wait for a command's end; reached only when it does not end.
const PATIENCE: Duration = Duration::from_mins(1);

async fn synced() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let outcome = run(sluice(folder.path(), &["sync", "leads", "--full", "--wait"])).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    folder
}

/// The key of a lead that stands in the folder.
async fn a_lead(folder: &Path) -> String {
    let outcome = run(sluice(folder, &["sql", "SELECT id FROM leads LIMIT 1"])).await;
    outcome.stdout.lines().nth(1).expect("a lead").to_owned()
}

/// A call of each command that ends by itself, and whether it prints something in any case.
fn calls(lead: &str) -> Vec<(&'static str, Vec<&str>)> {
    vec![
        ("serve", vec!["serve", "--list-tools"]),
        ("sync", vec!["sync", "leads"]),
        ("reconcile", vec!["reconcile", "leads", "--wait"]),
        ("erase", vec!["erase", "leads", "--key", lead, "--yes"]),
        ("tables", vec!["tables"]),
        ("tables", vec!["tables", "check"]),
        ("alerts", vec!["alerts", "create", "quentes", "--where", "score_qualificacao>=80", "--try"]),
        ("status", vec!["status"]),
        ("status", vec!["status", "--json"]),
        ("doctor", vec!["doctor"]),
        ("doctor", vec!["doctor", "--json"]),
        ("demo", vec!["demo"]),
        ("report", vec!["report", "last_30_days", "--by", "origem"]),
        ("search", vec!["search", "--limit", "500"]),
        ("search", vec!["search", "--count-by", "evento"]),
        ("sql", vec!["sql", "SELECT * FROM leads"]),
        ("export", vec!["export", "leads"]),
        ("dashboards", vec!["dashboards", "grafana"]),
        ("logs", vec!["logs"]),
        ("migrate", vec!["migrate"]),
        ("trim", vec!["trim", "--dry-run"]),
        ("bench", vec!["bench", "--events", "10"]),
        ("sample", vec!["sample", "--port", "0"]),
        ("client-config", vec!["client-config", "vscode"]),
        ("docs", vec!["docs"]),
    ]
}

/// Commands whose call leaves rows in the log, or needs one without any: a folder of their own.
fn in_place_of_its_own(command: &str) -> bool {
    matches!(command, "bench" | "demo")
}

/// A folder of a kept log with one line.
fn kept_log(folder: &Path) -> PathBuf {
    let kept = folder.join("logs");
    std::fs::create_dir_all(&kept).expect("a folder");
    std::fs::write(kept.join("cli.20261126T134501.123456Z.jsonl"), "{\"message\":\"x\"}\n").expect("written");
    kept
}

/// A pipe that nobody reads any more.
fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    Stdio::from(OwnedFd::from(writer))
}

async fn ended(process: &mut Child, what: &str) -> Option<i32> {
    let status = tokio::time::timeout(PATIENCE, process.wait()).await;
    status.unwrap_or_else(|_| panic!("{what} does not end")).expect("a status").code()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_quietly_when_nobody_reads_its_output() {
    let synced = synced().await;
    let empty = tempfile::tempdir().expect("a folder");
    let lead = a_lead(synced.path()).await;
    for (name, arguments) in calls(&lead) {
        let place = if in_place_of_its_own(name) { &empty } else { &synced };
        let mut command = sluice(place.path(), &arguments);
        command.stdin(Stdio::null()).stdout(broken_pipe()).stderr(Stdio::piped());
        command.env("SLUICE_LOG_DIR", kept_log(place.path())).env("SLUICE_EVENTS_RETENTION_DAYS", "30");
        let mut process = command.spawn().expect("the program starts");
        let code = ended(&mut process, name).await;
        let told = process.wait_with_output().await.expect("its output").stderr;
        let told = String::from_utf8_lossy(&told);
        assert_eq!(code, Some(NOBODY_READS), "{arguments:?}: {told}");
        assert!(!told.contains("panicked") && !told.contains("error"), "{arguments:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_does_its_work_when_nobody_reads_its_errors() {
    let synced = synced().await;
    let empty = tempfile::tempdir().expect("a folder");
    let lead = a_lead(synced.path()).await;
    for (name, arguments) in calls(&lead).into_iter().filter(|(name, _)| *name != "sample") {
        let place = if in_place_of_its_own(name) { &empty } else { &synced };
        let mut command = sluice(place.path(), &arguments);
        command.env("SLUICE_LOG", "debug").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(broken_pipe());
        command.env("SLUICE_LOG_DIR", kept_log(place.path())).env("SLUICE_EVENTS_RETENTION_DAYS", "30");
        let output =
            tokio::time::timeout(PATIENCE, command.output()).await.expect("an end").expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    // Nor does a failure become a panic.
    for arguments in [["sql", "SELECT"], ["search", "nada:nada"], ["status", "--nada"]] {
        let mut command = sluice(synced.path(), &arguments);
        command.stdin(Stdio::null()).stdout(broken_pipe()).stderr(broken_pipe());
        let code = ended(&mut command.spawn().expect("it starts"), "a failure").await;
        assert!(matches!(code, Some(1 | 2)), "{arguments:?}: {code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_go_on_when_nobody_reads_their_log() {
    for arguments in [["worker"].as_slice(), &["serve", "--http", "127.0.0.1:0"]] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = sluice(folder.path(), arguments);
        command.env("SLUICE_LOG", "debug").stdin(Stdio::null()).stdout(broken_pipe()).stderr(broken_pipe());
        let mut process = command.spawn().expect("it starts");
        eventually("both drains have made their parts", async || is_made(folder.path())).await;
        assert_eq!(process.try_wait().expect("a status"), None, "{arguments:?}");
        let id = process.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())).expect("an id");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("told to end");
        assert_eq!(ended(&mut process, "a server").await, Some(0), "{arguments:?}");
    }
    // A client that is gone is the end of the session, not of the log.
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = sluice(folder.path(), &["serve"]);
    command.stdin(Stdio::null()).stdout(broken_pipe()).stderr(Stdio::piped());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("an end").expect("it runs");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
}

fn is_made(folder: &Path) -> bool {
    folder.join("data/index/leads.json").exists() && folder.join("data/sluice.db").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_a_call_here_and_a_help_of_80_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let help = run(sluice(folder.path(), &["--help"])).await.stdout;
    let commands = help.split("Commands:\n").nth(1).expect("commands");
    for line in commands.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("    "))
    {
        let name = line.split_whitespace().next().expect("a name");
        let called = calls("").iter().any(|(called, _)| *called == name) || matches!(name, "worker" | "help");
        assert!(called, "{name} is tried by no test of its output");
        let help = run(sluice(folder.path(), &[name, "--help"])).await.stdout;
        let wide = help.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{name} --help");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_is_there_before_the_reader_leaves() {
    let folder = synced().await;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let many =
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200000) SELECT n FROM n";
    let mut command = sluice(folder.path(), &["sql", many, "--rows", "200000"]);
    command.stdin(Stdio::null()).stdout(Stdio::from(OwnedFd::from(writer))).stderr(Stdio::piped());
    let mut process = command.spawn().expect("it starts");
    drop(command);
    let first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).map(|_| line)
    });
    assert_eq!(first.await.expect("no panic").expect("a line"), "n\n");
    assert_eq!(ended(&mut process, "sql").await, Some(NOBODY_READS));
    let mut told = String::new();
    let errors = process.stderr.take().expect("stderr").into_owned_fd().expect("a pipe");
    std::fs::File::from(errors).read_to_string(&mut told).expect("text");
    assert_eq!(told, "");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn output_that_can_not_be_written_is_an_error() {
    let folder = synced().await;
    for arguments in [["sql", "SELECT 1 AS n"].as_slice(), &["status"], &["client-config", "gemini"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
        let mut command = sluice(folder.path(), arguments);
        command.stdin(Stdio::null()).stdout(Stdio::from(full)).stderr(Stdio::piped());
        let output = command.spawn().expect("it starts").wait_with_output().await.expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("error: writing the output failed") && !told.contains("panicked"), "{told}");
    }
}

/// What makes a terminal do something, or shows a reader something else than is there.
const HOSTILE: &str = "Ana\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\u{8}\rok\u{2066}\u{85}";

fn assert_harmless(what: &str, outcome: &Outcome) {
    for text in [&outcome.stdout, &outcome.stderr] {
        let bad = |c: &char| {
            c.is_control() && !matches!(c, '\n' | '\t')
                || ('\u{2028}'..='\u{202e}').contains(c)
                || *c == '\u{2066}'
        };
        assert_eq!(text.chars().find(bad), None, "{what}: {text:?}");
    }
    assert!(outcome.all().contains("Ana"), "{what} shows the name: {outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_strangers_wrote_reaches_the_terminal_as_a_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = SampleServer::start(0).await.expect("a free port");
    let mut row = lead(1, 5);
    for column in ["nome", "status_lead", "origem", "email"] {
        row.insert(column.to_owned(), json!(HOSTILE));
    }
    source.set_rows(crate::support::table("leads"), vec![row]);
    let sluice = |arguments: &[&str]| {
        let mut command = sluice(folder.path(), arguments);
        command.envs([("SUPABASE_URL", source.url().as_str()), ("SUPABASE_KEY", keys::SECRET)]);
        command.envs([("SLUICE_LOG", "debug"), ("SUPABASE_RETRY_SECONDS", "1")]);
        command
    };
    let outcome = run(sluice(&["sync", "leads", "--full", "--wait"])).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for arguments in [
        ["sql", "SELECT nome, status_lead FROM leads"].as_slice(),
        &["sql", "SELECT metadata FROM eventos_raw"],
        &["sql", "SELECT 'Ana\u{1b}[2J\u{9b}m' AS \"Ana\u{1b}[2J\u{9b}31m\""],
        &["search", "--index", "leads"],
        &["search", "--limit", "0", "--count-by", "evento"],
        &["search", "Ana\u{1b}\u{9b}31m:x"],
    ] {
        assert_harmless(arguments[0], &run(sluice(arguments)).await);
    }
    // What is left of the text is the same.
    let found = run(sluice(&["search", "--index", "leads"])).await.stdout;
    let document: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(document["nome"], HOSTILE, "{found}");

    // Servers have their say in errors, and whoever signs a lock in what is told of it.
    let message = format!("{HOSTILE}\nerror: forged");
    let refusal = || Fault::Refuse(Failure::new(400, "42883", &message, Some(HOSTILE)));
    for arguments in
        [["sync", "leads"].as_slice(), &["status"], &["status", "--json"], &["doctor"], &["doctor", "--json"]]
    {
        source.script(std::iter::repeat_with(refusal).take(8));
        assert_harmless(arguments[0], &run(sluice(arguments)).await);
        source.script([]);
    }
}
