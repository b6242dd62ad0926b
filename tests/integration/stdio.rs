//! The real program over pipes, driven by hand: what a client must never do, and what it is told when it does.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sluice::source::sample::{Fault, SampleServer, keys};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{
    folder::TestFolder,
    http::{call, initialize, initialized, stateless},
    rows::leads,
};

/// Reached only when something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a call that is under way takes.
const CALL: Duration = Duration::from_secs(4);

/// The program on embedded parts with a generated source: it needs no service.
struct Program {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    log: JoinHandle<String>,
    _folder: TestFolder,
}

impl Program {
    fn start() -> Self {
        Self::with(&[("SLUICE_SAMPLE", "true")])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.arg("serve").env_clear().env("SLUICE_TOOLS", "all").envs(settings.iter().copied());
        Self::of(command, TestFolder::new())
    }

    fn of(mut command: Command, folder: TestFolder) -> Self {
        command.current_dir(folder.path()).kill_on_drop(true);
        command.env("SLUICE_DATA_DIR", folder.path().join("data"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the program starts");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("stdout")).lines();
        let mut errors = process.stderr.take().expect("stderr");
        let log = tokio::spawn(async move {
            let mut log = String::new();
            errors.read_to_string(&mut log).await.expect("the log");
            log
        });
        Self { process, input, output, log, _folder: folder }
    }

    async fn with_session(revision: &str) -> Self {
        Self::start().in_session(revision).await
    }

    async fn in_session(self, revision: &str) -> Self {
        let mut program = self;
        program.say(&initialize(revision)).await;
        assert_eq!(program.heard().await["result"]["protocolVersion"], revision);
        program.say(&initialized()).await;
        program
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let input = self.input.as_mut().expect("an open stdin");
        input.write_all(bytes.as_ref()).await.expect("written");
        input.flush().await.expect("flushed");
    }

    async fn say(&mut self, message: &Value) {
        self.write(format!("{message}\n")).await;
    }

    async fn heard(&mut self) -> Value {
        let line = timeout(PATIENCE, self.output.next_line()).await.expect("an answer in time");
        let line = line.expect("a line").expect("an answer before the end");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    async fn answer_to(&mut self, message: &Value) -> Value {
        self.say(message).await;
        self.heard().await
    }

    /// Calls a tool; the result, which may be an error.
    async fn called(&mut self, tool: &str, arguments: Value) -> Value {
        let mut call = call(7, tool);
        call["params"]["arguments"] = arguments;
        let answer = self.answer_to(&call).await;
        assert_eq!(answer["id"], 7, "{answer}");
        answer["result"].clone()
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().expect("a running process").to_string();
        let sent = std::process::Command::new("kill").args([name, &id]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Bytes of memory that the process has had at once so far.
    fn most_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id().expect("a running process"));
        let status = std::fs::read_to_string(path).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high water mark");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Waits for a good end; what was said until then, and the log.
    async fn ended(mut self) -> (Vec<Value>, String) {
        let mut said = Vec::new();
        while let Some(line) =
            timeout(PATIENCE, self.output.next_line()).await.expect("an end in time").expect("a line")
        {
            said.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}")));
        }
        let status = timeout(PATIENCE, self.process.wait()).await.expect("an end in time").expect("an exit");
        let log = self.log.await.expect("the log");
        assert_eq!(status.code(), Some(0), "{log}");
        (said, log)
    }

    async fn hang_up(mut self) -> (Vec<Value>, String) {
        self.input = None;
        self.ended().await
    }
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_can_t_be_parsed_is_answered_and_logged_and_the_next_is_served() {
    let mut program = Program::with_session("2025-06-18").await;
    let cut = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x","arguments":{"nome":"Jos\ud83d"}},"id":31}"#;
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":32,"method":"ping","params":{{"a":{}1{}}}}}"#,
        "[".repeat(129),
        "]".repeat(129)
    );
    let latin =
        b"{\"jsonrpc\":\"2.0\",\"id\":34,\"method\":\"ping\",\"params\":{\"nome\":\"Jo\xE3o\"}}".as_slice();
    let lines: [(&[u8], i32, Value); 11] = [
        (cut.as_bytes(), -32700, json!(31)),
        (deep.as_bytes(), -32700, json!(32)),
        (br#"{"jsonrpc":"2.0","id":33,"method":"ping","params":{"a":1e999}}"#, -32700, json!(33)),
        (latin, -32700, json!(34)),
        (b"\"\\ud83d\"", -32700, Value::Null),
        (b"\0\0\0\0", -32700, Value::Null),
        (b"2026-05-01 INFO a line of somebody's log", -32700, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\"id\":35,\"method\":\"pi", -32700, Value::Null),
        (b"42", -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#, -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":36,"method":"ping","method":"tools/list"}"#, -32600, json!(36)),
    ];
    for (line, code, id) in &lines {
        program.write([line, b"\n".as_slice()].concat()).await;
        let refusal = program.heard().await;
        let shown = String::from_utf8_lossy(line);
        assert_eq!((&refusal["error"]["code"], &refusal["id"]), (&json!(code), id), "{shown}: {refusal}");
        assert!(refusal.as_object().is_some_and(|members| members.contains_key("id")), "{refusal}");
        program.write(b"\xEF\xBB\xBF\r\n\n   \n").await;
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": null});
        program.write(format!("\u{feff}{ping}\r\n")).await;
        assert_eq!(program.heard().await, json!({"jsonrpc": "2.0", "id": 1, "result": {}}), "after {shown}");
    }
    let (rest, log) = program.hang_up().await;
    assert_eq!(rest, Vec::<Value>::new());
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("is refused")).collect();
    assert_eq!(refused.len(), lines.len(), "{log}");
    assert!(!log.contains("Jos") && !log.contains("somebody"), "what was sent is not logged: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_hundred_megabytes_takes_little_memory_and_the_next_is_served() {
    let mut program = Program::with_session("2025-06-18").await;
    let before = program.most_memory();
    program.write(br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":""#).await;
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        program.write(&piece).await;
    }
    program.write(b"\"}}\n").await;
    let refusal = program.heard().await;
    assert_eq!((&refusal["error"]["code"], &refusal["id"]), (&json!(-32700), &json!(1)), "{refusal}");
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    assert_eq!(program.answer_to(&ping).await["id"], 2);
    let taken = program.most_memory().saturating_sub(before);
    assert!(taken < 40 << 20, "{} MiB", taken >> 20);
    program.hang_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_no_session_leaves_a_program_that_ends_well() {
    let requests = [
        initialized(),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
    ];
    for said in [&requests[..0], &requests[..1], &requests[..]] {
        let mut program = Program::start();
        for message in said {
            program.say(message).await;
        }
        let (answers, _) = program.hang_up().await;
        assert_eq!(answers, Vec::<Value>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_before_any_session_is_answered_and_either_kind_of_session_can_be_opened_then() {
    for revision in ["2025-11-25", "2026-07-28"] {
        let mut program = Program::start();
        program.say(&initialized()).await;
        let early = program.answer_to(&call(1, "list_syncs")).await;
        assert_eq!((&early["id"], &early["error"]["code"]), (&json!(1), &json!(-32602)), "{early}");
        assert!(
            early["error"]["message"].as_str().is_some_and(|text| text.contains("send initialize first"))
        );
        if revision == "2025-11-25" {
            assert_eq!(program.answer_to(&initialize(revision)).await["result"]["protocolVersion"], revision);
            assert_eq!(program.answer_to(&call(2, "list_syncs")).await["result"]["isError"], false);
        } else {
            let discovered = program.answer_to(&stateless(1, "server/discover", json!({}))).await;
            assert!(discovered["result"]["supportedVersions"].is_array(), "{discovered}");
            program.say(&initialized()).await;
            let listed = program.answer_to(&stateless(2, "tools/list", json!({}))).await;
            assert!(listed["result"]["tools"].is_array(), "{listed}");
        }
        program.hang_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_or_right_after_the_handshake_ends_the_program_well() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        // Right after the answer to initialize.
        let mut program = Program::start();
        assert!(program.answer_to(&initialize("2025-06-18")).await["result"].is_object());
        program.signal(signal);
        let (rest, _) = program.ended().await;
        assert_eq!(rest, Vec::<Value>::new());

        // While nothing has been said, and while half a message has.
        for said in ["", r#"{"jsonrpc":"2.0","id":1,"#] {
            let mut program = Program::start();
            let ping = json!({"jsonrpc": "2.0", "id": 0, "method": "ping"});
            assert_eq!(program.answer_to(&ping).await["id"], 0, "the program is up");
            program.write(said).await;
            program.signal(signal);
            program.ended().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_was_told_to_outlive_its_terminal_does() {
    let folder = TestFolder::new();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" serve", env!("CARGO_BIN_EXE_sluice")]);
    command.env("SLUICE_SAMPLE", "true");
    let mut program = Program::of(command, folder).in_session("2025-06-18").await;
    program.signal("-HUP");
    let ping = json!({"jsonrpc": "2.0", "id": 0, "method": "ping"});
    assert_eq!(program.answer_to(&ping).await["id"], 0);
    program.hang_up().await;
}

/// A program with a call under way, and the source that takes its time.
async fn with_a_call_under_way() -> (Program, SampleServer) {
    let source = SampleServer::start(0).await.expect("a free port");
    source.set_rows(crate::support::table("leads"), leads(3));
    source.script([Fault::Delay(CALL)]);
    let settings = [("SUPABASE_URL", source.url()), ("SUPABASE_KEY", keys::SECRET.to_owned())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut program = Program::with(&settings).in_session("2025-06-18").await;
    program.say(&call(5, "sync_leads_from_supabase")).await;
    for turn in 0..1_000 {
        assert!(turn < 999, "no sync has begun");
        let syncs = program.called("list_syncs", json!({})).await;
        if syncs["structuredContent"]["syncs"].as_array().is_some_and(|syncs| !syncs.is_empty()) {
            break;
        }
    }
    (program, source)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_when_stdin_ends_is_answered_before_the_program_ends() {
    let (program, _source) = with_a_call_under_way().await;
    let (answers, _) = program.hang_up().await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(
        (&answers[0]["id"], &answers[0]["result"]["structuredContent"]["appended"]),
        (&json!(5), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_under_way_when_a_signal_comes_is_cancelled_and_answered_before_the_program_ends() {
    let mut tried_again = false;
    loop {
        let (program, _source) = with_a_call_under_way().await;
        let asked = Instant::now();
        program.signal("-TERM");
        let (answers, _) = program.ended().await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        // Only a machine that is too busy for two seconds cuts the call, which is told; it is tried once more.
        let is_cut = answers[0]["error"]["code"] == -32000;
        if is_cut && asked.elapsed() >= Duration::from_secs(2) && !tried_again {
            tried_again = true;
            continue;
        }
        let state = &answers[0]["result"]["structuredContent"]["state"];
        assert_eq!((&answers[0]["id"], state), (&json!(5), &json!("cancelled")), "{answers:?}");
        return;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_stdout_or_never_reads_it_ends_the_program_or_lets_it_be_ended() {
    let mut program = Program::with_session("2025-06-18").await;
    let Program { mut process, input, output, log, _folder } = program;
    drop(output);
    let mut input = input.expect("an open stdin");
    input.write_all(format!("{}\n", call(1, "list_syncs")).as_bytes()).await.expect("written");
    let status = timeout(PATIENCE, process.wait()).await.expect("an end in time").expect("an exit");
    let log = log.await.expect("the log");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("the client reads no more answers"), "{log}");

    program = Program::with_session("2025-06-18").await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let mut sent = 0;
    let writing = async {
        loop {
            let mut list = list.clone();
            list["id"] = json!(sent);
            program.say(&list).await;
            sent += 1;
        }
    };
    assert!(timeout(Duration::from_secs(3), writing).await.is_err(), "the writing never ends");
    let memory = program.most_memory();
    assert!(memory < 400 << 20, "{} MiB after {sent} requests", memory >> 20);
    program.signal("-TERM");
    let status = timeout(PATIENCE, program.process.wait()).await.expect("an end in time").expect("an exit");
    assert_eq!(status.code(), Some(0), "{}", program.log.await.expect("the log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_by_a_batch_in_the_revision_that_has_them() {
    let mut program = Program::with_session("2025-03-26").await;
    let ping = |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    let answers = program.answer_to(&json!([ping(1), initialized(), call(2, "list_syncs"), 7])).await;
    let answers = answers.as_array().expect("a batch");
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers.iter().any(|answer| answer["id"] == 1 && answer["result"].is_object()));
    assert!(answers.iter().any(|answer| answer["id"] == 2 && answer["result"]["isError"] == false));
    assert!(answers.iter().any(|answer| answer["id"].is_null() && answer["error"]["code"] == -32600));
    program.say(&json!([initialized(), initialized()])).await;
    assert_eq!(program.answer_to(&ping(3)).await["id"], 3, "notifications are answered by nothing");
    program.hang_up().await;
    for revision in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mut program = Program::with_session(revision).await;
        let refusal = program.answer_to(&json!([ping(1)])).await;
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&Value::Null, &json!(-32600)), "{refusal}");
        program.hang_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_taken_in_the_forms_that_models_send_and_told_what_is_wrong_with_them() {
    let mut program = Program::with_session("2025-06-18").await;
    for arguments in [
        json!({"limit": "24"}),
        json!({"limit": 24.0}),
        json!({"limit": null, "table": null}),
        json!([]),
        Value::Null,
    ] {
        let result = program.called("list_syncs", arguments.clone()).await;
        assert_eq!(result["isError"], false, "{arguments}: {result}");
    }
    let asked = program
        .called(
            "query_raw_events",
            json!({"limit": "5", "include_dados": "true", "min_valor": "0.5", "usuario": 7}),
        )
        .await;
    assert_eq!(asked["isError"], false, "{asked}");
    for (arguments, expected) in [
        (json!("{\"limit\": 5}"), "arguments: are JSON in a text; send the object itself"),
        (json!(5), "arguments: must be an object"),
        (json!({"limite": 5}), "limite: is no argument; did you mean `limit`?"),
        (json!({"limit": "many"}), "limit: "),
        (json!({"limit": 2.5}), "limit: "),
        (json!({"limit": "0"}), "limit: 0 is out of range"),
    ] {
        let result = program.called("list_syncs", arguments.clone()).await;
        assert_eq!(result["isError"], true, "{arguments}: {result}");
        assert!(text(&result).starts_with(expected), "{arguments}: {}", text(&result));
    }
    let nothing = program.called("get_pipeline_status", json!({"sink": "sqlite"})).await;
    assert!(text(&nothing).contains("sink: is no argument"), "{nothing}");
    for (method, params) in [
        ("prompts/get", json!({"name": "daily_lead_report", "arguments": {"hours": 48.0, "origin": null}})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "daily_lead_report"}, "argument": {"name": "hours", "value": 4}}),
        ),
    ] {
        let answer =
            program.answer_to(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).await;
        assert!(answer["result"].to_string().contains("48"), "{answer}");
    }
    let unread = program
        .answer_to(&json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {}}))
        .await;
    assert_eq!(unread["error"]["code"], -32602, "{unread}");
    program.hang_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_never_masked_as_if_it_were_a_phone() {
    let mut program = Program::with_session("2025-06-18").await;
    let sql = "SELECT 11987654321 AS total, 5511987654321 AS micros, 1760000000000 AS since, 3 AS telefones, \
               11987654321.5 AS soma";
    let result = program.called("query_store", json!({"sql": sql})).await;
    let expected =
        json!([[11_987_654_321_u64, 5_511_987_654_321_u64, 1_760_000_000_000_u64, 3, 11_987_654_321.5]]);
    assert_eq!(result["structuredContent"]["rows"], expected, "{result}");
    assert!(!result["content"].to_string().contains("***"), "{result}");
    let shown = program.called("query_store", json!({"sql": "SELECT '11987654321' AS texto"})).await;
    assert_eq!(shown["structuredContent"]["rows"], json!([["***21"]]), "a text may be a phone: {shown}");
    program.hang_up().await;
}
