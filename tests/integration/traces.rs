//! Traces: one from the page of the source to both sinks, and no collector that anything waits for.

use std::{collections::BTreeSet, path::Path, process::Stdio};

use chrono::Utc;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use rmcp::model::{CallToolRequestParams, RequestMetaObject};
use serde_json::json;
use sluice::{
    domain::{Event, Json, ManualEvent},
    embedded::EmbeddedDb,
    log::{Log as _, NewRecord, Record, Topic, embedded::EmbeddedLog},
    source::sample::{SampleServer, keys},
};

use crate::support::{
    Pipeline,
    cli::{Outcome, run, sluice},
    eventually,
    fake_http::{FakeHttp, Reply},
    folder::TestFolder,
    http::{HttpServer, stateless},
    rows::{id, leads},
    table,
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

async fn collector() -> FakeHttp {
    FakeHttp::start(|_, _| Reply::Answer(200, "")).await
}

/// All spans that a collector was sent.
fn spans(collector: &FakeHttp) -> Vec<Span> {
    let requests = collector.requests().into_iter().map(|request| {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
        ExportTraceServiceRequest::decode(&*request.body).expect("a request of OTLP")
    });
    let resources = requests.flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn text(span: &Span, name: &str) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name);
    match attribute.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{name} of {} is {other:?}", span.name),
    }
}

/// The spans of a sync of so many leads in pages of two, and of the sinks that they went to, are one trace.
fn assert_one_trace(spans: &[Span], leads: usize, topic: &str, sinks: [&str; 2]) {
    let [root] = named(spans, "sync leads")[..] else { panic!("one sync: {spans:?}") };
    assert!(root.parent_span_id.is_empty() && text(root, "sluice.sync.state") == "succeeded", "{root:?}");
    assert_eq!(text(root, "sluice.sync.rows_read"), leads.to_string());
    let pages = named(spans, "read leads");
    let with_rows: Vec<&Span> =
        pages.iter().copied().filter(|page| text(page, "sluice.page.rows") != "0").collect();
    assert_eq!(with_rows.len(), leads.div_ceil(100), "{pages:?}");
    for page in &pages {
        assert_eq!(page.parent_span_id, root.span_id);
        assert_eq!((page.kind(), &*text(page, "http.response.status_code")), (SpanKind::Client, "200"));
        assert!(text(page, "http.response.body.size").parse::<usize>().expect("bytes") >= 2);
    }
    let is_of_a_page = |span: &&Span| with_rows.iter().any(|page| page.span_id == span.parent_span_id);
    let sent = named(spans, &format!("send {topic}"));
    assert!(sent.len() == with_rows.len() && sent.iter().all(is_of_a_page), "{sent:?}");
    assert!(sent.iter().all(|span| span.kind() == SpanKind::Producer));
    let applied = named(spans, &format!("process {topic}"));
    assert!(applied.iter().all(is_of_a_page), "{applied:?}");
    for sink in sinks {
        let of_sink: Vec<_> = applied.iter().filter(|span| text(span, "sluice.sink") == sink).collect();
        let records = of_sink.iter().map(|span| text(span, "messaging.batch.message_count"));
        let records: usize = records.map(|count| count.parse::<usize>().expect("a number")).sum();
        assert_eq!(records, leads, "{sink}: {of_sink:?}");
        assert!(
            of_sink.iter().all(|span| span.kind() == SpanKind::Consumer && span.status.is_none_or_unset())
        );
    }
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    assert_eq!(traces.len(), 1, "{spans:?}");
}

trait Unset {
    fn is_none_or_unset(&self) -> bool;
}

impl Unset for Option<opentelemetry_proto::tonic::trace::v1::Status> {
    fn is_none_or_unset(&self) -> bool {
        self.as_ref().is_none_or(|status| status.code() == StatusCode::Unset)
    }
}

/// Nothing of a row, of its key, or of a person leaves.
fn assert_tells_of_nobody(collector: &FakeHttp) {
    for request in collector.requests() {
        let sent = String::from_utf8_lossy(&request.body).into_owned();
        for word in ["exemplo.com", "João", &id(1), "novo", "indicação", keys::SECRET] {
            assert!(!sent.contains(word), "{word} is sent: {sent}");
        }
    }
}

/// The header that each record of the embedded log bears.
async fn parents(folder: &Path) -> Vec<Option<String>> {
    let db = EmbeddedDb::open(&folder.join("data"), "test").expect("an open folder");
    let log = EmbeddedLog::new(db);
    let extents = log.extents().await.expect("extents");
    let records = log.records(Topic::Events, &extents).await.expect("records");
    let parent = |record: &Record| {
        let (_, value) = record.headers.iter().find(|(name, _)| name == "traceparent")?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    records.iter().map(parent).collect()
}

/// `sync leads --wait` on the embedded parts, of a source with so many leads.
async fn sync_of(folder: &Path, count: u128, settings: &[(&str, &str)]) -> Outcome {
    let source = SampleServer::start(0).await.expect("a free port");
    source.set_rows(table("leads"), leads(count));
    let mut command = sluice(folder, &["sync", "leads", "--wait"]);
    command.env("SUPABASE_URL", source.url()).env("SUPABASE_KEY", keys::SECRET);
    command.env("SUPABASE_PAGE_SIZE", "100").envs(settings.iter().copied());
    let outcome = run(command).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_a_page_of_the_source_to_both_embedded_sinks() {
    let (collector, folder) = (collector().await, TestFolder::new());
    let endpoint = (ENDPOINT, collector.url.as_str());
    sync_of(folder.path(), 250, &[endpoint, (HEADERS, "x-key=chave%20nunca")]).await;
    let spans = spans(&collector);
    assert_one_trace(&spans, 250, "eventos", ["sqlite", "tantivy"]);
    assert_tells_of_nobody(&collector);
    assert!(collector.requests().iter().all(|request| request.head.contains("x-key: chave nunca")));
    let borne: BTreeSet<_> =
        parents(folder.path()).await.into_iter().map(|parent| parent.expect("one")).collect();
    assert_eq!(borne.len(), 3, "one a page: {borne:?}");
    for page in named(&spans, "read leads").iter().filter(|page| text(page, "sluice.page.rows") != "0") {
        let trace = u128::from_be_bytes(page.trace_id.clone().try_into().expect("16 bytes"));
        let span = u64::from_be_bytes(page.span_id.clone().try_into().expect("8 bytes"));
        let parent = format!("00-{trace:032x}-{span:016x}-01");
        assert!(borne.contains(&parent), "{parent} is not among {borne:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_and_records_bear_nothing_where_traces_are_off_or_not_sampled() {
    let collector = collector().await;
    let endpoint = (ENDPOINT, collector.url.as_str());
    for settings in [
        &[][..],
        &[endpoint, ("OTEL_TRACES_SAMPLER", "always_off")],
        &[endpoint, ("OTEL_SDK_DISABLED", "true")],
        // Another program's, handed down.
        &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
    ] {
        let folder = TestFolder::new();
        let outcome = sync_of(folder.path(), 3, settings).await;
        assert_eq!(parents(folder.path()).await, [None, None, None], "{settings:?}");
        let is_told = outcome.stderr.contains("traces are off: a setting of OpenTelemetry's can't be used");
        assert_eq!(is_told, settings.len() == 2 && settings[1].1 == "grpc", "{settings:?}: {outcome:?}");
    }
    assert!(collector.requests().is_empty(), "{:?}", collector.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_through_kafka_to_the_sinks_of_another_process() {
    let collector = collector().await;
    let mut pipeline = Pipeline::new().await;
    pipeline.set(ENDPOINT, collector.url.as_str());
    pipeline.set("SUPABASE_PAGE_SIZE", "100");
    pipeline.source.set_rows(table("leads"), leads(250));
    let mut worker = pipeline.command(&["worker"]).stderr(Stdio::null()).spawn().expect("a worker");
    let synced = pipeline.command(&["sync", "leads"]).output().await.expect("it runs");
    assert!(synced.status.success(), "{synced:?}");
    let topic = pipeline.variables["KAFKA_TOPIC"].clone();
    let sinks = ["postgres", "elasticsearch"];
    eventually("the spans of both sinks are there", async || {
        let spans = spans(&collector);
        let applied = named(&spans, &format!("process {topic}"));
        let of = |sink: &str| -> usize {
            let of_sink = applied.iter().filter(|span| text(span, "sluice.sink") == sink);
            of_sink
                .map(|span| text(span, "messaging.batch.message_count").parse::<usize>().expect("a count"))
                .sum()
        };
        sinks.iter().all(|sink| of(sink) == 250)
    })
    .await;
    assert_one_trace(&spans(&collector), 250, &topic, sinks);
    assert_tells_of_nobody(&collector);
    eventually("the index shows all", async || pipeline.hits("eventos", "*").await == 250).await;
    worker.kill().await.expect("killed");
    pipeline.assert_events(250).await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_hangs_refuses_or_rejects_costs_spans_alone_and_that_is_told() {
    let hanging = FakeHttp::start(|_, _| Reply::Hang).await;
    let refusing = FakeHttp::start(|_, _| Reply::Answer(401, "chave-nunca")).await;
    // What says that one span is rejected, and why.
    let rejecting = FakeHttp::start(|_, _| Reply::Answer(200, "\n\t\u{8}\u{1}\u{12}\u{5}cheio")).await;
    for (endpoint, told) in [
        ("http://127.0.0.1:9", "127.0.0.1:9 "),
        (hanging.url.as_str(), "the process ends, and"),
        (refusing.url.as_str(), "answers 401 Unauthorized; look at OTEL_EXPORTER_OTLP_HEADERS"),
        (rejecting.url.as_str(), "rejects them: cheio"),
    ] {
        let folder = TestFolder::new();
        let outcome = sync_of(folder.path(), 250, &[(ENDPOINT, endpoint), (HEADERS, "k=chave-nunca")]).await;
        let lines: Vec<_> =
            outcome.stderr.lines().filter(|line| line.contains("spans of traces are lost")).collect();
        assert!(lines.iter().any(|line| line.contains(told)) && lines.len() <= 2, "{told}: {outcome:?}");
        assert!(!outcome.all().contains("chave-nunca"), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_whether_a_collector_takes_spans() {
    let (taking, refusing) = (collector().await, FakeHttp::start(|_, _| Reply::Answer(404, "")).await);
    let hint = "look at OTEL_EXPORTER_OTLP_ENDPOINT";
    for (settings, told) in [
        (&[(ENDPOINT, taking.url.as_str())][..], "takes spans"),
        (&[(ENDPOINT, refusing.url.as_str())], hint),
        (&[(ENDPOINT, "http://127.0.0.1:9")], "http://127.0.0.1:9 can't be connected to"),
        (
            &[(ENDPOINT, taking.url.as_str()), ("OTEL_TRACES_SAMPLER", "xray")],
            "traces are off: OTEL_TRACES_SAMPLER: ",
        ),
    ] {
        let folder = TestFolder::new();
        let mut command = sluice(folder.path(), &["doctor"]);
        command.envs(settings.iter().copied());
        let outcome = run(command).await;
        assert!(outcome.stdout.contains(told), "{told}: {outcome:?}");
    }
    assert!(
        taking.requests().iter().all(|request| request.body.is_empty()),
        "nothing is made to be examined"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_a_stranger_wrote_make_few_spans_and_no_harm() {
    let (collector, folder) = (collector().await, TestFolder::new());
    let event = || {
        let (usuario, evento, metadata) = ("ana".into(), "teste".into(), Json::empty_object());
        Event::manual(ManualEvent { id: None, usuario, evento, valor: 1.0, metadata }, Utc::now())
    };
    let hostile = |n: usize| match n {
        0 => "x".repeat(1 << 20),
        1 => String::from("00-\u{0}"),
        n if n.is_multiple_of(2) => format!("00-{n:032x}-{n:016x}-01"),
        n => format!("00-{n}"),
    };
    let record = |n: usize| {
        let event = event();
        let headers = vec![("traceparent", hostile(n).into())];
        NewRecord { key: event.entidade.id.clone().into(), value: event.encode(), headers }
    };
    {
        let db = EmbeddedDb::open(&folder.path().join("data"), "test").expect("an open folder");
        let log = EmbeddedLog::new(db);
        log.append(Topic::Events, (0..1000).map(record).collect()).await.expect("appended");
    }
    let outcome = sync_of(folder.path(), 1, &[(ENDPOINT, collector.url.as_str())]).await;
    assert!(outcome.stderr.contains("of more pages than spans are made for"), "{outcome:?}");
    let spans = spans(&collector);
    let applied = named(&spans, "process eventos");
    assert!((2..=2 * (128 + 1)).contains(&applied.len()), "{} spans", applied.len());
    let counted = run(sluice(folder.path(), &["sql", "SELECT count(*) AS n FROM eventos_raw"])).await;
    assert!(counted.stdout.contains("1001"), "{counted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_tool_is_a_span_below_the_clients_own_and_above_the_sync_that_it_starts() {
    let (collector, folder) = (collector().await, TestFolder::new());
    let mut command = sluice(folder.path(), &["serve", "--http", "127.0.0.1:0"]);
    command.env(ENDPOINT, collector.url.as_str());
    let server = HttpServer::of(command).await;
    let session = server.connect(None).await;
    let mut request = CallToolRequestParams::new("sync_leads_from_supabase");
    let mut meta = RequestMetaObject::new();
    meta.set_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    request.meta = Some(meta);
    session.call_tool(request).await.expect("an answer");
    let name = "tools/call sync_leads_from_supabase";
    eventually("the call and its sync were sent", async || {
        let spans = spans(&collector);
        !named(&spans, name).is_empty() && !named(&spans, "sync leads").is_empty()
    })
    .await;
    let spans = spans(&collector);
    let (call, sync) = (named(&spans, name)[0], named(&spans, "sync leads")[0]);
    assert_eq!(call.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!((call.kind(), text(call, "mcp.method.name")), (SpanKind::Server, "tools/call".to_owned()));
    assert_eq!((&sync.parent_span_id, &sync.trace_id), (&call.span_id, &call.trace_id));
    assert_eq!(call.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    // One that is answered with a task is traced as any other.
    let mut failing = stateless(1, "tools/call", json!({"name": "export", "arguments": {}}));
    failing["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let request = server.post(&failing).header("mcp-protocol-version", "2026-07-28");
    let request = request.header("mcp-method", "tools/call").header("mcp-name", "export");
    let answer = request.send().await.expect("an answer").text().await.expect("text");
    assert!(answer.contains("taskId"), "{answer}");
    eventually("the task was sent", async || {
        !named(&self::spans(&collector), "tools/call export").is_empty()
    })
    .await;
    let spans = self::spans(&collector);
    assert_eq!(text(named(&spans, "tools/call export")[0], "error.type"), "tool_error");
    let metrics =
        reqwest::get(format!("{}/metrics", server.url)).await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("sluice_trace_spans_dropped_total{reason=\"full\"} 0"), "{metrics}");
}
