//! sluice's own log: kept in files and in a data stream, read by `sluice logs`, and never waited for.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::{
    cli::{Outcome, run, sluice},
    elasticsearch::Corner,
    eventually,
    fake_http::{FakeHttp, Reply},
    folder::TestFolder,
};

/// Reached only when something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

fn with_files(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = sluice(folder, arguments);
    command.env("SLUICE_LOG_DIR", folder.join("logs"));
    command
}

/// All that the files hold.
fn kept(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder.join("logs")) else { return String::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.map(|path| fs::read_to_string(path).expect("text")).collect()
}

async fn asked_to_end(mut process: Child) -> bool {
    let id = process.id().expect("a running process").to_string();
    Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs");
    let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
    ended.expect("it ends in time").expect("it ran").success()
}

fn objects(outcome: &Outcome) -> Vec<Value> {
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_killed_worker_are_kept_and_who_follows_sees_those_of_the_next() {
    let folder = TestFolder::new();
    let worker = || {
        let mut command = with_files(folder.path(), &["worker"]);
        command.stderr(Stdio::null()).stdin(Stdio::null()).spawn().expect("it runs")
    };
    let mut first = worker();
    eventually("the first drains", async || kept(folder.path()).matches("\"drain started\"").count() == 2)
        .await;
    first.kill().await.expect("killed");
    let before = kept(folder.path());
    // What a killed process or a stranger may leave.
    let path = fs::read_dir(folder.path().join("logs")).expect("files").find_map(|entry| {
        let path = entry.expect("an entry").path();
        path.extension().is_some_and(|extension| extension == "jsonl").then_some(path)
    });
    let mut file = fs::OpenOptions::new().append(true).open(path.expect("a file")).expect("opened");
    file.write_all(b"\x1b[2J gone\n{\"@timestamp\":\"2026").expect("written");

    let mut follower =
        with_files(folder.path(), &["logs", "--follow", "--format", "json", "--where", "sink=sqlite"]);
    let mut follower = follower.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("it runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("stdout")).lines();
    let second = worker();
    let pid = second.id().expect("a process");
    let following = async {
        loop {
            let line = lines.next_line().await.expect("a line").expect("it goes on");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if line["process.pid"] == pid && line["message"] == "drain started" {
                return line;
            }
        }
    };
    let line = tokio::time::timeout(PATIENCE, following).await.expect("the second drains");
    assert_eq!((&line["sink"], &line["service.node.role"]), (&json!("sqlite"), &json!("worker")), "{line}");
    // A drain that did not start yet when its worker is asked to end says nothing of itself.
    eventually("both of its drains", async || kept(folder.path()).matches("\"drain started\"").count() == 4)
        .await;
    assert!(asked_to_end(second).await);

    let all = objects(&run(with_files(folder.path(), &["logs", "--since", "1h", "--format", "json"])).await);
    let times: Vec<&str> = all.iter().filter_map(|line| line["@timestamp"].as_str()).collect();
    assert!(times.is_sorted(), "{times:?}");
    // Two strangers, and of the second worker two drains that start and stop.
    assert!(all.len() >= before.lines().count() + 2 + 4, "{all:?}");
    let stopped = run(with_files(folder.path(), &["logs", "--grep", "DRAIN STOPPED", "-n", "1"])).await;
    assert!(stopped.stdout.contains("INFO  worker@") && stopped.stdout.lines().count() == 1, "{stopped:?}");
    let shown = run(with_files(folder.path(), &["logs"])).await;
    assert!(shown.stdout.contains("? \\u{1b}[2J gone\n? {\"@timestamp\":\"2026\n"), "{}", shown.stdout);
    let loud =
        objects(&run(with_files(folder.path(), &["logs", "--level", "error", "--format", "json"])).await);
    assert!(loud.is_empty(), "{loud:?}");
}

#[tokio::test]
async fn a_log_that_is_kept_nowhere_or_cannot_be_kept_is_told_with_what_to_set() {
    let folder = TestFolder::new();
    let nowhere = run(sluice(folder.path(), &["logs"])).await;
    assert_eq!(nowhere.code, Some(1));
    assert!(
        nowhere.stderr.contains("set SLUICE_LOG_DIR to a folder, or SLUICE_LOG_ELASTICSEARCH=true"),
        "{nowhere:?}"
    );

    let mut without_server = sluice(folder.path(), &["worker"]);
    without_server.env("SLUICE_LOG_ELASTICSEARCH", "true");
    let refused = run(without_server).await;
    assert!(
        refused.stderr.contains("SLUICE_LOG_ELASTICSEARCH: needs a server: set ELASTICSEARCH_URL"),
        "{refused:?}"
    );

    fs::write(folder.path().join("file"), "").expect("written");
    fs::create_dir(folder.path().join("theirs")).expect("a folder");
    fs::write(folder.path().join("theirs/syslog"), "").expect("written");
    for (place, why) in [("file/logs", "Not a directory"), ("theirs", "it holds other files, such as syslog")]
    {
        let command = |arguments: &[&str]| {
            let mut command = sluice(folder.path(), arguments);
            command.env("SLUICE_LOG_DIR", folder.path().join(place));
            command
        };
        let refused = run(command(&["worker"])).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for part in ["SLUICE_LOG_DIR", why, "set SLUICE_LOG_DIR to another"] {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
        let told = run(command(&["tables"])).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(told.stderr.contains("not kept in files") && told.stderr.contains(why), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stderr_holds_up_nothing() {
    let folder = TestFolder::new();
    let (_reader, mut full) = std::io::pipe().expect("a pipe");
    let filled = full.try_clone().expect("a handle");
    // Blocks once the pipe is full, as whoever writes there next would.
    std::thread::spawn(move || while full.write_all(&[b'\n'; 4096]).is_ok() {});
    let mut worker = with_files(folder.path(), &["worker"]);
    let worker = worker.stderr(filled).stdin(Stdio::null()).spawn().expect("it runs");
    eventually("it drains", async || kept(folder.path()).matches("\"drain started\"").count() == 2).await;
    assert!(asked_to_end(worker).await);
    assert_eq!(kept(folder.path()).matches("\"drain stopped\"").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_stream_is_told_of_an_outage_and_sees_what_was_written_meanwhile() {
    const NOTHING: &str = r#"{"hits":{"hits":[]}}"#;
    let at = chrono::Utc::now() - chrono::TimeDelta::minutes(5);
    let line = json!({"@timestamp": at.to_rfc3339(), "message": "late", "log.level": "info"});
    let late = &*json!({"hits": {"hits": [{"_id": "1", "_source": line, "sort": [1]}]}}).to_string().leak();
    let server = FakeHttp::start(move |number, request| match number {
        0 => Reply::Answer(200, NOTHING),
        1 => Reply::Answer(503, "{}"),
        _ if String::from_utf8_lossy(&request.body).contains("search_after") => Reply::Answer(200, NOTHING),
        _ => Reply::Answer(200, late),
    })
    .await;
    let folder = TestFolder::new();
    let mut follower = sluice(folder.path(), &["logs", "--follow", "--format", "json"]);
    follower.env("SLUICE_LOG_ELASTICSEARCH", "true").env("ELASTICSEARCH_URL", server.url.as_str());
    follower.env("SLUICE_SAMPLE", "true");
    follower.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    let mut follower = follower.spawn().expect("it runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("stdout")).lines();
    let mut notes = BufReader::new(follower.stderr.take().expect("stderr")).lines();
    let following = async {
        let mut note = String::new();
        while !note.contains("it is asked again") {
            note = notes.next_line().await.expect("a note").expect("it goes on");
        }
        (note, lines.next_line().await.expect("a line").expect("it goes on"))
    };
    let (note, line) = tokio::time::timeout(PATIENCE, following).await.expect("both come");
    assert!(note.contains("503"), "{note}");
    assert!(line.contains("\"late\""), "{line}");
}

/// A command whose index and log stream are in a corner of the real server, and all else embedded.
fn with_stream(folder: &Path, corner: &Corner, url: &str, arguments: &[&str]) -> Command {
    let mut command = sluice(folder, arguments);
    command.envs([
        ("SLUICE_SAMPLE", "true"),
        ("SLUICE_LOG", "info"),
        ("SLUICE_LOG_ELASTICSEARCH", "true"),
        ("ELASTICSEARCH_URL", url),
        ("ELASTICSEARCH_INDEX_PREFIX", &corner.prefix),
        ("ELASTICSEARCH_TIMEOUT_SECONDS", "3600"),
    ]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_has_every_line_once_closed_to_other_fields_and_without_what_is_too_old() {
    let (folder, corner) = (TestFolder::new(), Corner::new());
    let url = corner.url.to_string();
    let synced = run(with_stream(folder.path(), &corner, &url, &["sync", "leads", "--wait"])).await;
    assert_eq!(synced.code, Some(0), "{synced:?}");
    let name = format!("{}sluice-logs", corner.prefix);
    assert_eq!(corner.ask("POST", &format!("{name}/_refresh"), None).await.0, 200);
    let read = run(with_stream(
        folder.path(),
        &corner,
        &url,
        &["logs", "--where", "table=leads", "--format", "json"],
    ))
    .await;
    let lines = objects(&read);
    let ended: Vec<_> = lines.iter().filter(|line| line["message"] == "sync ended").collect();
    assert_eq!(ended.len(), 1, "{}", read.stdout);
    assert!(ended[0]["appended"].is_u64() && ended[0]["service.node.role"] == "sync", "{}", ended[0]);
    let (_, mapping) = corner.ask("GET", &format!("{name}/_mapping"), None).await;
    let mappings = &mapping.as_object().and_then(|all| all.values().next()).expect("an index")["mappings"];
    assert_eq!(mappings["dynamic"], "false", "{mappings}");

    // An index that is followed by one that is itself older than the retention is deleted by the next that writes.
    let (_, rolled) = corner.ask("POST", &format!("{name}/_rollover"), None).await;
    let (old, new) =
        (rolled["old_index"].as_str().expect("an index"), rolled["new_index"].as_str().expect("another"));
    let ages = json!({
        old: { "settings": { "index": { "creation_date": "1" } } },
        new: { "settings": { "index": { "creation_date": "2" } } },
    });
    let (ages, server) = (&*ages.to_string().leak(), corner.url.clone());
    let between = FakeHttp::start(move |_, request| {
        if request.path.contains("creation_date") {
            return Reply::Answer(200, ages);
        }
        Reply::Forward(server.clone())
    })
    .await;
    let url = between.url.to_string();
    let synced = run(with_stream(folder.path(), &corner, &url, &["sync", "leads", "--wait"])).await;
    assert_eq!(synced.code, Some(0), "{synced:?}");
    assert_eq!(corner.ask("GET", old, None).await.0, 404, "{old} is gone");
    assert_eq!(corner.ask("GET", new, None).await.0, 200, "{new} is written");
    assert_eq!(corner.ask("POST", &format!("{name}/_refresh"), None).await.0, 200);
    let read =
        run(with_stream(folder.path(), &corner, &url, &["logs", "--since", "1h", "--grep", "sync ended"]))
            .await;
    assert_eq!(read.stdout.lines().count(), 1, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_refuses_lines_holds_up_no_sync_and_what_was_lost_is_told() {
    const REFUSED: &str = r#"{"error":{"type":"security_exception","reason":"não"},"status":403}"#;
    const BUSY: &str =
        r#"{"error":{"type":"es_rejected_execution_exception","reason":"cheio"},"status":429}"#;
    const CONFLICT: &str = r#"{"errors":true,"items":[{"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"não"}}}]}"#;
    let (folder, corner) = (TestFolder::new(), Corner::new());
    for (reply, why) in [
        (Reply::Hang, "lost in all"),
        (Reply::Answer(403, REFUSED), "403"),
        (Reply::Answer(429, BUSY), "429"),
        (Reply::Answer(200, CONFLICT), "mapper_parsing_exception: não"),
    ] {
        let (real, scripted) = (corner.url.clone(), reply.clone());
        let server = FakeHttp::start(move |_, request| {
            // Where each line is refused, all that comes before is granted.
            let is_granted = matches!(scripted, Reply::Answer(200, _)) && !request.path.contains("_bulk");
            if !request.path.contains("sluice-logs") || is_granted {
                return Reply::Forward(real.clone());
            }
            scripted.clone()
        })
        .await;
        let begun = Instant::now();
        let url = server.url.to_string();
        let synced = run(with_stream(folder.path(), &corner, &url, &["sync", "leads", "--wait"])).await;
        assert_eq!(synced.code, Some(0), "{synced:?}");
        assert!(begun.elapsed() < PATIENCE, "{reply:?} held it up for {:?}", begun.elapsed());
        for part in [why, "lost in all", "\"outlet\":\"elasticsearch\""] {
            assert!(synced.stderr.contains(part), "{reply:?}: {part} is not in {}", synced.stderr);
        }
        let told = synced.stderr.matches("can't be written there now").count();
        assert!(told <= 1, "{}", synced.stderr);
        let about = server.requests().iter().filter(|request| request.path.contains("sluice-logs")).count();
        assert!((1..20).contains(&about), "{about} requests");
    }
}
