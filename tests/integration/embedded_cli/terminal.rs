//! What a person sees at a terminal of 80 columns.

use std::process::Stdio;

use serde_json::json;
use sluice::source::sample::{SampleServer, keys};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{
    cli::{run, sluice},
    rows::lead,
    table,
    terminal::watched,
};

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_a_terminal_are_a_table_of_its_width_whatever_strangers_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = SampleServer::start(0).await.expect("a free port");
    let mut hostile = lead(1, 5);
    hostile.insert("nome".to_owned(), json!("Ana\u{1b}[2J\u{9b}31m\u{202e}\u{7}\r\nforjada\t日本"));
    hostile.insert("interesse".to_owned(), json!(["longo ".repeat(60)]));
    source.set_rows(table("leads"), vec![hostile, lead(2, 6)]);
    let sluice = |arguments: &[&str]| {
        let mut command = sluice(folder.path(), arguments);
        command.envs([("SUPABASE_URL", source.url().as_str()), ("SUPABASE_KEY", keys::SECRET)]);
        command
    };
    let outcome = run(sluice(&["sync", "leads", "--full", "--wait"])).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");

    let calls: [&[&str]; 6] = [
        &["sql", "SELECT nome, interesse, status_lead, score_qualificacao FROM leads"],
        &["sql", "SELECT * FROM leads"],
        &["search"],
        &["search", "--index", "eventos", "--count-by", "evento"],
        &["report", "last_30_days", "--by", "origem"],
        &["status"],
    ];
    for arguments in calls {
        let seen = watched(sluice(arguments)).await.stderr;
        let wide = seen.lines().find(|line| console::measure_text_width(line) > 80);
        assert_eq!(wide, None, "{arguments:?}");
        let obeyed = seen.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(obeyed, None, "{arguments:?}: {seen:?}");
    }
    let seen = watched(sluice(calls[0])).await.stderr;
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].starts_with("nome ") && lines[1].starts_with("────"), "{seen}");
    assert!(seen.contains('…') && seen.contains("Ana\\u{1b}[2J"), "{seen}");
    // A program is given all of it.
    let whole = run(sluice(calls[0])).await.stdout;
    assert!(whole.contains("longo ".repeat(60).trim_end()), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_person_starts_says_what_it_waits_for_and_to_a_program_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [[].as_slice(), &["serve"]] {
        let seen = watched(sluice(folder.path(), arguments)).await;
        assert!(seen.stderr.contains("sluice waits for an MCP client"), "{seen:?}");
        let piped = run(sluice(folder.path(), arguments)).await;
        assert!(!piped.all().contains("waits for an MCP client"), "{piped:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_says_once_that_it_only_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = || {
        let mut command = sluice(folder.path(), &["serve"]);
        command.env("SLUICE_LOG", "debug");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let mut first = start();
    let mut lines = BufReader::new(first.stderr.take().expect("a log")).lines();
    while !lines.next_line().await.expect("a line").expect("the first drains").contains("partitions assigned")
    {
    }
    let mut second = start();
    let mut lines = BufReader::new(second.stderr.take().expect("a log")).lines();
    let (mut told, mut again) = (0, 0);
    while again < 4 {
        let line = lines.next_line().await.expect("a line").expect("the second goes on");
        let is_loud = line.contains("\"log.level\":\"warn\"");
        told += u32::from(is_loud && line.contains("this one only reads until then"));
        assert!(!is_loud || !line.contains("backs off") || told <= 1, "{line}");
        again += u32::from(line.contains("drain still backs off"));
    }
    assert_eq!(told, 1);
}
