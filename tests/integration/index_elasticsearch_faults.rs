//! The Elasticsearch index against a server that misbehaves on cue.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::json;
use sluice::{
    domain::Catalog,
    fault::FaultKind,
    index::{Index, elasticsearch::EsIndex},
    log::StartAt,
    sink::{Applied, ApplyError, Sink, SinkBatch},
};
use uuid::Uuid;

use crate::support::{
    elasticsearch::{Corner, settings},
    events::{LOG, applied, batch, fault, lead, manual},
    fake_http::{FakeHttp, Reply, Request},
};

const ALL_WRITTEN: &str = r#"{"errors":false,"items":[]}"#;
const BUSY_ITEM: &str =
    r#"{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"busy"}}"#;

async fn scripted(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> (FakeHttp, EsIndex) {
    let server = FakeHttp::start(move |number, _| script(number)).await;
    let index = EsIndex::connect(&settings(&server.url, ""), Catalog::built_in()).expect("settings");
    (server, index)
}

#[tokio::test]
async fn an_empty_batch_asks_nothing_of_the_server() {
    let server = FakeHttp::start(|_, _| Reply::Hang).await;
    let index = EsIndex::connect(&settings(&server.url, ""), Catalog::built_in()).expect("settings");
    assert_eq!(applied(&index, Vec::new()).await, Applied::default());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_claim_reads_on_from_the_groups_offsets() {
    let server = FakeHttp::start(|_, _| Reply::Answer(200, "{}")).await;
    let index = EsIndex::connect(&settings(&server.url, ""), Catalog::built_in()).expect("settings");
    let claims = index.claim(LOG, &[3, 5]).await.expect("claims");
    assert_eq!(claims.iter().map(|claim| claim.partition).collect::<Vec<_>>(), [3, 5]);
    assert!(claims.iter().all(|claim| claim.start == StartAt::Committed));
    assert_eq!(index.applied(LOG).await.expect("nothing kept"), None);
}

#[tokio::test]
async fn what_an_index_remembers_is_written_where_it_was_read_though_the_alias_may_move_meanwhile() {
    let server = FakeHttp::start(|_, request| {
        let alias = |path: &str| path.split(['/', '?']).next().unwrap_or_default().to_owned();
        let answer = match (request.method.as_str(), request.path.trim_start_matches('/')) {
            ("GET", path) if path.starts_with("_alias/") => {
                let alias = alias(&path["_alias/".len()..]);
                json!({ format!("{alias}-000001"): { "aliases": { alias: { "filter": {} } } } })
            }
            ("GET", path) if path.contains("/_mapping") => {
                json!({ format!("{}-000001", alias(path)): { "mappings": { "_meta": {} } } })
            }
            ("GET", path) if path.contains("/_count") => json!({ "count": 0 }),
            _ => json!({}),
        };
        Reply::Answer(200, answer.to_string().leak())
    })
    .await;
    let index = EsIndex::connect(&settings(&server.url, ""), Catalog::built_in()).expect("settings");
    index.prepare().await.expect("prepared");
    index.claim(LOG, &[0]).await.expect("claims");
    let written = server.requests().into_iter().filter(|request| request.method == "PUT");
    let mut written: Vec<String> =
        written.map(|request| request.path).filter(|path| path.contains("/_mapping")).collect();
    written.sort();
    let of = |alias: &str| vec![format!("/{alias}-000001/_mapping"); 2];
    assert_eq!(written, ["chat_sessions", "eventos", "leads"].map(of).concat());
}

#[tokio::test]
async fn a_busy_item_is_sent_again_alone() {
    let answer =
        format!(r#"{{"errors":true,"items":[{{"create":{{"status":201}}}},{{"create":{BUSY_ITEM}}}]}}"#);
    let answer: &'static str = answer.leak();
    let (server, index) =
        scripted(move |number| Reply::Answer(200, if number == 0 { answer } else { ALL_WRITTEN })).await;
    let events = vec![manual(1, json!({})), manual(2, json!({}))];
    assert_eq!(applied(&index, events.clone()).await.inserted, 2);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let lines = requests[1].lines();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains(&events[1].event.id.to_string()), "{lines:?}");
}

#[tokio::test]
async fn a_server_that_stays_busy_is_a_passing_fault() {
    let (server, index) = scripted(|_| Reply::Answer(429, "")).await;
    assert_eq!(fault(&index, vec![manual(1, json!({}))]).await.kind, FaultKind::Transient);
    assert_eq!(server.requests().len(), 5, "one try and four more");
}

#[tokio::test]
async fn a_long_pause_that_the_server_asks_for_is_handed_to_the_engine() {
    let (server, index) = scripted(|_| Reply::AnswerWith(429, "retry-after: 30", "")).await;
    let told = fault(&index, vec![manual(1, json!({}))]).await;
    assert_eq!((told.kind, told.retry_after), (FaultKind::Transient, Some(Duration::from_secs(30))));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_unavailable_server_is_asked_again_and_then_answers() {
    let (server, index) = scripted(|number| match number {
        0 => Reply::Answer(503, "<html>no backend</html>"),
        _ => Reply::Answer(200, ALL_WRITTEN),
    })
    .await;
    assert_eq!(applied(&index, vec![manual(1, json!({}))]).await.inserted, 1);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_halved_until_only_the_large_document_is_left() {
    let large = 5_000;
    let server = FakeHttp::start(move |_, request| match request.body.len() {
        size if size > large => Reply::Answer(413, ""),
        _ => Reply::Answer(200, ALL_WRITTEN),
    })
    .await;
    let index = EsIndex::connect(&settings(&server.url, ""), Catalog::built_in()).expect("settings");
    let mut events: Vec<_> = (0..20).map(|i| manual(i, json!({"texto": "x".repeat(100)}))).collect();
    events[13] = manual(13, json!({"texto": "x".repeat(6_000)}));
    let Err(ApplyError::Rejected(rejections)) = index.apply(LOG, &batch(events)).await else {
        panic!("no rejection");
    };
    assert_eq!(rejections.iter().map(|r| r.position.offset).collect::<Vec<_>>(), [13]);
    assert!(rejections[0].reason.contains("larger than the server takes"));
    let taken: usize = server
        .requests()
        .iter()
        .filter(|request| request.body.len() <= large)
        .map(|request| request.lines().len() / 2)
        .sum();
    assert_eq!(taken, 19);
}

#[tokio::test]
async fn refused_credentials_are_a_matter_for_a_person_and_are_not_told() {
    let server =
        FakeHttp::start(|_, _| Reply::Answer(401, r#"{"error":{"type":"security_exception"}}"#)).await;
    let mut settings = settings(&server.url, "");
    settings.username = Some("ana".into());
    settings.password = Some("segredo".into());
    let index = EsIndex::connect(&settings, Catalog::built_in()).expect("settings");
    let told = fault(&index, vec![manual(1, json!({}))]).await;
    assert_eq!(told.kind, FaultKind::Misconfigured);
    assert!(told.message.contains(server.url.host_str().expect("a host")), "{told}");
    assert!(!format!("{told:?}{index:?}").contains("segredo"), "{told:?}");
    assert!(server.requests()[0].head.contains("authorization: basic"));
    assert_eq!(server.requests().len(), 1, "asking again would lock the account");
}

#[tokio::test]
async fn a_gateway_that_repeats_the_credentials_does_not_have_them_told() {
    for pair in [true, false] {
        // Base64 of ana:segredo.
        let server = FakeHttp::start(|_, _| {
            Reply::Answer(
                401,
                r#"{"error":{"type":"security_exception","reason":"no: Basic YW5hOnNlZ3JlZG8=, ApiKey YW5hOnNlZ3JlZG8, segredo"}}"#,
            )
        })
        .await;
        let mut settings = settings(&server.url, "");
        if pair {
            settings.username = Some("ana".into());
            settings.password = Some("segredo".into());
        } else {
            settings.api_key = Some("YW5hOnNlZ3JlZG8=".into());
        }
        let index = EsIndex::connect(&settings, Catalog::built_in()).expect("settings");
        for told in [index.health().await.expect_err("refused"), index.prepare().await.expect_err("refused")]
        {
            let text = format!("{told} {told:?}");
            assert!(text.contains("no: Basic ***"), "{text}");
            assert!(!text.contains("segredo") && !text.contains("YW5hOnNlZ3JlZG8"), "{text}");
        }
    }
}

#[tokio::test]
async fn every_server_understands_the_content_types() {
    let (server, index) = scripted(|_| Reply::Answer(200, ALL_WRITTEN)).await;
    applied(&index, vec![manual(1, json!({}))]).await;
    let head = &server.requests()[0].head;
    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
    assert!(head.contains("accept: application/json"), "{head}");
    assert!(!head.contains("vnd.elasticsearch"), "{head}");
    assert!(head.contains("require_alias=true"), "{head}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_on_in_time() {
    let server = FakeHttp::start(|_, _| Reply::Hang).await;
    let mut settings = settings(&server.url, "");
    settings.timeout = Duration::from_millis(300);
    let index = EsIndex::connect(&settings, Catalog::built_in()).expect("settings");
    let told = fault(&index, vec![manual(1, json!({}))]).await;
    assert_eq!(told.kind, FaultKind::Transient);
    assert!(told.message.contains("no answer in time"), "{told}");
    let told = index.health().await.expect_err("it hangs");
    assert_eq!(told.kind, FaultKind::Transient);
}

#[tokio::test]
async fn a_server_that_is_down_does_not_keep_the_adapter_from_being_made() {
    let unused =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let url = format!("http://{unused}").parse().expect("a URL");
    let index = EsIndex::connect(&settings(&url, ""), Catalog::built_in()).expect("settings");
    let told = index.prepare().await.expect_err("nobody there");
    assert_eq!(told.kind, FaultKind::Transient);
    assert!(told.message.contains("refused"), "{told}");
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_write_costs_nothing_but_a_repetition() {
    let (corner, _) = Corner::prepared().await;
    let real = corner.url.clone();
    let proxy = FakeHttp::start(move |number, _| match number {
        0 => Reply::ForwardAndLose(real.clone()),
        _ => Reply::Forward(real.clone()),
    })
    .await;
    let index = corner.index_at(&proxy.url);
    let events = vec![lead(1, Uuid::new_v4(), 1, json!({})), manual(2, json!({}))];
    assert_eq!(fault(&index, events.clone()).await.kind, FaultKind::Transient);
    let outcome = applied(&index, events).await;
    assert_eq!(outcome, Applied { duplicates: 2, stale: 1, ..Applied::default() });
}

#[tokio::test]
async fn an_index_that_goes_while_somebody_is_erased_keeps_none_of_the_others_from_being_erased() {
    const FOUND: &str = r#"{"hits":{"hits":[{"_id":"7"}]}}"#;
    const NONE: &str = r#"{"hits":{"hits":[]}}"#;
    const DELETED: &str = r#"{"errors":false,"items":[{"delete":{"status":200}}]}"#;
    let old = r#"{"eventos-000001":{"aliases":{"eventos":{}},"settings":{"index":{"uuid":"a"}}}}"#;
    let new = r#"{"eventos-000002":{"aliases":{"eventos":{}},"settings":{"index":{"uuid":"b"}}}}"#;
    let leads = r#"{"leads-000001":{"aliases":{"leads":{}},"settings":{"index":{"uuid":"c"}}}}"#;
    let deleted = std::sync::Mutex::new(Vec::<String>::new());
    let listed = std::sync::atomic::AtomicUsize::new(0);
    let server = FakeHttp::start(move |_, request| {
        let mut deleted = deleted.lock().expect("no panic");
        let name = request.path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
        if request.path.starts_with("/eventos-*") {
            // A rebuild ends between the first two looks.
            let looks = listed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Reply::Answer(200, if looks == 0 { old } else { new });
        }
        match name {
            "leads-*" => Reply::Answer(200, leads),
            "eventos-000001" => Reply::Answer(404, r#"{"error":{"type":"index_not_found_exception"}}"#),
            "_bulk" => {
                deleted.push(String::from_utf8_lossy(&request.body).into_owned());
                Reply::Answer(200, DELETED)
            }
            _ if request.path.contains("_search") => {
                let is_gone = deleted.iter().any(|body| body.contains(name));
                Reply::Answer(200, if is_gone { NONE } else { FOUND })
            }
            _ => Reply::Answer(200, "{}"),
        }
    })
    .await;
    let index = EsIndex::connect(&settings(&server.url, ""), Catalog::built_in()).expect("settings");
    let leads = Catalog::built_in().get("leads").expect("leads");
    assert_eq!(
        index.erase(leads, &["7".to_owned()]).await.expect("erased"),
        2,
        "the new events' and the lead's"
    );
    let bodies: String =
        server.requests().iter().flat_map(crate::support::fake_http::Request::lines).collect();
    assert!(bodies.contains("eventos-000002") && bodies.contains("leads-000001"), "{bodies}");
}

#[tokio::test]
async fn indices_that_were_put_back_are_prepared_again() {
    static RESTORED: AtomicBool = AtomicBool::new(false);
    static MISSING: AtomicBool = AtomicBool::new(false);
    let server = FakeHttp::start(|_, request| {
        if MISSING.load(Ordering::Relaxed) {
            return Reply::Answer(200, "{}");
        }
        let (uuid, meta) = if RESTORED.load(Ordering::Relaxed) {
            // Of before columns were defined.
            ("b", json!({ "sluice_columns": { "nome": "Text nome_de_antes" } }))
        } else {
            ("a", json!({}))
        };
        let of = |alias: &str| format!("{alias}-000001");
        let alias = |path: &str| path.split(['/', '?']).next().unwrap_or_default().to_owned();
        let answer = match (request.method.as_str(), request.path.trim_start_matches('/')) {
            ("GET", path) if path.contains("settings.index.uuid") => ["eventos", "leads", "chat_sessions"]
                .map(|alias| {
                    let index =
                        json!({ "aliases": { alias: {} }, "settings": { "index": { "uuid": uuid } } });
                    (of(alias), index)
                })
                .into_iter()
                .collect(),
            ("GET", path) if path.starts_with("_alias/") => {
                let alias = alias(&path["_alias/".len()..]);
                json!({ of(&alias): { "aliases": { alias: { "filter": {} } } } })
            }
            ("GET", path) if path.contains("/_mapping") => {
                json!({ of(&alias(path)): { "mappings": { "_meta": meta } } })
            }
            ("GET", path) if path.contains("/_count") => json!({ "count": 0 }),
            _ => json!({}),
        };
        Reply::Answer(200, answer.to_string().leak())
    })
    .await;
    let index = EsIndex::connect(&settings(&server.url, ""), Catalog::built_in()).expect("settings");
    let mapped = || {
        let is_mapping = |request: &Request| request.method == "PUT" && request.path.contains("/_mapping");
        server.requests().iter().filter(|request| is_mapping(request)).count()
    };
    for (restored, expected) in [(false, 3), (true, 6)] {
        RESTORED.store(restored, Ordering::Relaxed);
        for _ in 0..2 {
            index.identities().await.expect("identities");
            index.prepare().await.expect("prepared");
            assert_eq!(mapped(), expected, "once for each index");
        }
    }
    MISSING.store(true, Ordering::Relaxed);
    index.identities().await.expect_err("aliases that lead nowhere");
    MISSING.store(false, Ordering::Relaxed);
    let nothing = SinkBatch { events: Vec::new(), spans: Vec::new() };
    index.apply("log", &nothing).await.expect("prepared before it is written");
    assert_eq!(mapped(), 9, "whatever they were prepared by before they were away");
}
