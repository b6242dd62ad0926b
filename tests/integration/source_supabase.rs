//! The source's promises, against a server that speaks PostgREST's language. Needs no service.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use sluice::{
    config::SupabaseSettings,
    domain::{JsonObject, Table},
    fault::{Fault as PartFault, FaultKind},
    source::{
        RowQuery, Source,
        sample::{Failure, Fault, SampleServer, keys},
        supabase::SupabaseSource,
    },
};

use crate::support::rows::{id, lead, leads, minutes_ago, object, session, spelled};

async fn server() -> SampleServer {
    SampleServer::start(0).await.expect("a free port")
}

fn settings(server: &SampleServer, key: &str) -> SupabaseSettings {
    SupabaseSettings {
        url: server.url().parse::<url::Url>().expect("a URL").into(),
        key: key.into(),
        schema: "public".to_owned(),
        page_size: 1000,
        timeout: Duration::from_secs(5),
        retry_for: Duration::from_secs(5),
        include_ip_address: false,
    }
}

fn source(server: &SampleServer) -> SupabaseSource {
    SupabaseSource::new(&settings(server, keys::SECRET)).expect("a source")
}

fn query(table: Table, page_size: u32) -> RowQuery {
    let since = Utc::now() - TimeDelta::hours(24);
    RowQuery { table, since, status: None, min_messages: None, page_size }
}

async fn read(source: &SupabaseSource, query: &RowQuery) -> Result<Vec<JsonObject>, PartFault> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = source.page(query, after.as_ref()).await?;
        rows.extend(page.rows);
        let Some(next) = page.next else { return Ok(rows) };
        after = Some(next);
    }
}

fn ids(rows: &[JsonObject]) -> BTreeSet<String> {
    rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

fn refusal(status: u16, code: &str) -> Fault {
    Fault::Refuse(Failure::new(status, code, "scripted", None))
}

#[tokio::test]
async fn no_page_cap_loses_a_row_even_where_times_are_equal() {
    let server = server().await;
    let mut rows = leads(60);
    let same = minutes_ago(30);
    for row in &mut rows[10..40] {
        row.insert("updated_at".to_owned(), json!(same));
    }
    for row in &mut rows[40..47] {
        row.insert("updated_at".to_owned(), Value::Null);
    }
    server.set_rows(Table::Leads, rows);
    let source = source(&server);
    for (cap, page) in [(1, 10), (3, 10), (7, 100), (59, 60), (60, 60), (1000, 5), (1000, 1000)] {
        server.set_max_rows(Some(cap));
        let read = read(&source, &query(Table::Leads, page)).await.expect("rows");
        assert_eq!(ids(&read).len(), 60, "cap {cap}, page {page}");
        assert_eq!(read.len(), 60, "no row twice: cap {cap}, page {page}");
    }
}

#[tokio::test]
async fn the_window_and_the_filters_hold() {
    let server = server().await;
    let mut odd = lead(5, 10);
    odd.insert("status_lead".to_owned(), json!("a,b.(\"c\")+d"));
    server.set_rows(Table::Leads, vec![lead(1, 10), lead(2, 60 * 25), lead(4, 10), odd]);
    let source = source(&server);
    assert_eq!(
        ids(&read(&source, &query(Table::Leads, 10)).await.expect("rows")),
        [id(1), id(4), id(5)].into()
    );
    let filtered = RowQuery { status: Some("a,b.(\"c\")+d".to_owned()), ..query(Table::Leads, 10) };
    assert_eq!(ids(&read(&source, &filtered).await.expect("rows")), [id(5)].into());

    let mut long_ago = session(2, 60 * 30, 9);
    long_ago.insert("is_active".to_owned(), json!(false));
    let mut just_ended = session(3, 60 * 30, 9);
    just_ended.extend(object(json!({"is_active": false, "ended_at": minutes_ago(5)})));
    server.set_rows(
        Table::ChatSessions,
        vec![session(1, 60 * 30, 9), long_ago, just_ended, session(4, 5, 9), session(5, 5, 2)],
    );
    let talkative = RowQuery { min_messages: Some(3), ..query(Table::ChatSessions, 2) };
    let seen = ids(&read(&source, &talkative).await.expect("rows"));
    assert_eq!(seen, [id(1), id(3), id(4)].into(), "still active, just ended, or new");
}

#[tokio::test]
async fn rows_that_change_while_they_are_read_are_not_lost() {
    let server = server().await;
    server.set_rows(Table::Leads, leads(20));
    let source = source(&server);
    let query = query(Table::Leads, 4);
    let (mut seen, mut after) = (BTreeSet::new(), None);
    let mut step: u128 = 0;
    loop {
        let page = source.page(&query, after.as_ref()).await.expect("a page");
        seen.extend(page.rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page.next else { break };
        after = Some(next);
        step += 1;
        if step <= 5 {
            server.change(Table::Leads, &json!(id(21 - step)), json!({"nome": "mudou"}));
        }
    }
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn session_tokens_are_never_asked_for_and_addresses_only_on_request() {
    let server = server().await;
    server.set_rows(Table::ChatSessions, vec![session(1, 5, 3)]);
    for openapi in [true, false] {
        server.set_openapi(openapi);
        let rows = read(&source(&server), &query(Table::ChatSessions, 10)).await.expect("rows");
        assert!(!rows[0].contains_key("session_token") && !rows[0].contains_key("ip_address"), "{rows:?}");
        for request in server.take_requests() {
            let select =
                request.query.iter().find(|(name, _)| name == "select").map(|(_, value)| value.clone());
            let select = select.unwrap_or_default();
            assert!(!select.contains('*') && !select.contains("session_token"), "{select}");
        }
    }
    let with_address = SupabaseSettings { include_ip_address: true, ..settings(&server, keys::SECRET) };
    let source = SupabaseSource::new(&with_address).expect("a source");
    let rows = read(&source, &query(Table::ChatSessions, 10)).await.expect("rows");
    assert_eq!(rows[0]["ip_address"], "203.0.113.7");
}

#[tokio::test]
async fn a_project_may_lack_columns_and_have_others() {
    for openapi in [true, false] {
        let server = server().await;
        server.set_openapi(openapi);
        let mut row = lead(1, 5);
        row.insert("corretor".to_owned(), json!("Bia"));
        let mut chat = session(1, 5, 3);
        chat.insert("canal".to_owned(), json!("site"));
        server.set_rows(Table::Leads, vec![row]);
        server.set_rows(Table::ChatSessions, vec![chat]);
        for column in ["updated_at", "utm_medium"] {
            server.drop_column(Table::Leads, column);
        }
        for column in ["ended_at", "is_active", "user_agent"] {
            server.drop_column(Table::ChatSessions, column);
        }
        let source = source(&server);
        let rows = read(&source, &query(Table::Leads, 10)).await.expect("rows");
        assert_eq!(rows[0]["corretor"], "Bia", "an unknown column is read");
        let sessions = read(&source, &query(Table::ChatSessions, 10)).await.expect("rows");
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].contains_key("canal"), openapi, "known only where the project tells");
    }
}

#[tokio::test]
async fn keys_go_where_they_belong_and_the_client_is_no_browser() {
    let server = server().await;
    server.set_rows(Table::Leads, vec![lead(1, 5)]);
    for (key, headers) in [
        (keys::SECRET, vec!["apikey"]),
        (keys::SERVICE_ROLE, vec!["apikey", "authorization"]),
        (keys::ANON, vec!["apikey", "authorization"]),
    ] {
        let source = SupabaseSource::new(&settings(&server, key)).expect("a source");
        assert_eq!(read(&source, &query(Table::Leads, 10)).await.expect("rows").len(), 1, "{key}");
        for request in server.take_requests() {
            assert_eq!(request.key_headers, headers);
            assert!(request.user_agent.starts_with("sluice/"));
            assert!(request.accept_encoding.contains("gzip"));
        }
    }
}

#[tokio::test]
async fn a_wrong_key_and_a_key_that_sees_nothing_are_told_apart() {
    let server = server().await;
    server.set_rows(Table::Leads, vec![lead(1, 5)]);
    server.set_row_level_security(true);
    let wrong = SupabaseSource::new(&settings(&server, "sb_secret_errada")).expect("a source");
    let fault = read(&wrong, &query(Table::Leads, 10)).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.advice.contains("SUPABASE_KEY") && !fault.to_string().contains("errada"), "{fault}");

    let blind = SupabaseSource::new(&settings(&server, keys::PUBLISHABLE)).expect("a source");
    assert!(read(&blind, &query(Table::Leads, 10)).await.expect("no rows").is_empty());
    assert!(blind.empty_hint().is_some_and(|hint| hint.problem.contains("row-level security")));
    assert_eq!(blind.health().await.expect("health").warnings.len(), 1);
    let seeing = source(&server);
    assert!(seeing.empty_hint().is_none() && seeing.health().await.expect("health").warnings.is_empty());
}

#[tokio::test]
async fn passing_refusals_are_asked_again_and_a_requested_pause_is_kept() {
    let server = server().await;
    server.set_rows(Table::Leads, vec![lead(1, 5)]);
    let html = Failure { status: 502, headers: Vec::new(), body: "<html>Bad gateway</html>".to_owned() };
    let limited = Failure::new(429, "", "slow down", None).with_header("Retry-After", "1");
    server.script([refusal(503, "PGRST000"), Fault::Refuse(html), Fault::Refuse(limited)]);
    let began = Instant::now();
    assert_eq!(read(&source(&server), &query(Table::Leads, 10)).await.expect("rows").len(), 1);
    assert!(began.elapsed() >= Duration::from_secs(1), "Retry-After is respected");
    let seen = server.take_requests();
    assert!(seen[3].at - seen[2].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn retries_end_and_the_last_refusal_is_told() {
    let server = server().await;
    server.script(std::iter::repeat_with(|| refusal(503, "PGRST002")).take(100));
    let impatient =
        SupabaseSettings { retry_for: Duration::from_millis(700), ..settings(&server, keys::SECRET) };
    let source = SupabaseSource::new(&impatient).expect("a source");
    let fault = read(&source, &query(Table::Leads, 10)).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(fault.message.contains("HTTP 503, PGRST002, scripted"), "{fault}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_on() {
    let server = server().await;
    server.script([Fault::Hang, Fault::Hang]);
    let impatient = SupabaseSettings {
        timeout: Duration::from_millis(300),
        retry_for: Duration::from_millis(1),
        ..settings(&server, keys::SECRET)
    };
    let source = SupabaseSource::new(&impatient).expect("a source");
    let fault = read(&source, &query(Table::Leads, 10)).await.expect_err("no answer");
    assert!(fault.message.contains("no answer within the timeout"), "{fault}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_asked_for_less() {
    let server = server().await;
    server.set_rows(Table::Leads, leads(30));
    server.script([refusal(500, "57014"), refusal(500, "57014")]);
    let rows = read(&source(&server), &query(Table::Leads, 100)).await.expect("rows");
    assert_eq!(rows.len(), 30);
    let limits: Vec<String> = server
        .take_requests()
        .iter()
        .filter_map(|request| request.query.iter().find(|(name, _)| name == "limit"))
        .map(|(_, value)| value.clone())
        .collect();
    assert_eq!(limits[..3], ["100", "50", "25"]);
}

#[tokio::test]
async fn postgrest_s_own_words_reach_the_user() {
    let server = server().await;
    server.drop_table(Table::Leads);
    let fault = read(&source(&server), &query(Table::Leads, 10)).await.expect_err("no table");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(
        fault.message.contains("PGRST205") && fault.message.contains("hint: Perhaps you meant"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_row_without_an_id_does_not_end_the_reading() {
    let server = server().await;
    let mut rows = leads(9);
    rows.insert(
        4,
        object(json!({"nome": "sem id", "updated_at": spelled(Utc::now() - TimeDelta::seconds(305))})),
    );
    server.set_rows(Table::Leads, rows);
    server.set_max_rows(Some(3));
    let read = read(&source(&server), &query(Table::Leads, 10)).await.expect("rows");
    let with_id: BTreeSet<&str> = read.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(with_id.len(), 9);
}

#[tokio::test]
async fn the_overview_counts_what_is_there() {
    let server = server().await;
    server.set_rows(Table::Leads, leads(120));
    let mut ended = session(2, 5, 1);
    ended.insert("is_active".to_owned(), json!(false));
    server.set_rows(Table::ChatSessions, vec![session(1, 5, 1), ended]);
    server.set_max_rows(Some(50));
    let overview = source(&server).overview().await.expect("an overview");
    assert_eq!((overview.leads_total, overview.leads_last_24h), (120, 120));
    assert_eq!(overview.leads_qualified, 50);
    assert_eq!((overview.sessions_total, overview.sessions_active), (2, 1));
    assert_eq!(overview.by_status, [("novo".to_owned(), 60), ("qualificado".to_owned(), 60)]);
    assert_eq!(overview.breakdown_rows, 120);
    assert!(overview.newest_lead_at.is_some() && overview.newest_session_at.is_some());
}
