//! Keys, refusals and silence.

use std::time::{Duration, Instant};

use sluice::{
    config::SupabaseSettings,
    fault::FaultKind,
    source::{
        Source,
        sample::{Failure, Fault, keys},
    },
};

use super::{query, read, refusal, server, settings, source, source_with};
use crate::support::{
    rows::{lead, leads},
    table,
};

#[tokio::test]
async fn keys_go_where_they_belong_and_the_client_is_no_browser() {
    let server = server().await;
    server.set_rows(table("leads"), vec![lead(1, 5)]);
    for (key, headers) in [
        (keys::SECRET, vec!["apikey"]),
        (keys::SERVICE_ROLE, vec!["apikey", "authorization"]),
        (keys::ANON, vec!["apikey", "authorization"]),
    ] {
        let source = source_with(&settings(&server.url(), key));
        assert_eq!(read(&source, &query(table("leads"), 10)).await.expect("rows").len(), 1, "{key}");
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
    server.set_rows(table("leads"), vec![lead(1, 5)]);
    server.set_row_level_security(true);
    let wrong = source_with(&settings(&server.url(), "sb_secret_errada"));
    let fault = read(&wrong, &query(table("leads"), 10)).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(
        fault.advice.to_string().contains("SUPABASE_KEY") && !fault.to_string().contains("errada"),
        "{fault}"
    );

    let blind = source_with(&settings(&server.url(), keys::PUBLISHABLE));
    assert!(read(&blind, &query(table("leads"), 10)).await.expect("no rows").is_empty());
    assert!(blind.blind_spot().is_some_and(|hint| hint.problem.contains("row-level security")));
    assert_eq!(blind.health().await.expect("health").warnings.len(), 1);
    let seeing = source(&server);
    assert!(seeing.blind_spot().is_none() && seeing.health().await.expect("health").warnings.is_empty());
}

#[tokio::test]
async fn a_gateway_that_repeats_the_key_does_not_have_it_told() {
    let key = "sb_secret_4QmV0c3RhLWVoLXVtYS1jaGF2ZQ";
    let server = server().await;
    for (status, code) in [(401, "PGRST301"), (503, "PGRST000")] {
        let told = format!("bad key {key}, Bearer {key}, {}…", &key[..20]);
        let refusal = || Fault::Refuse(Failure::new(status, code, &told, Some(&told)));
        server.script(std::iter::repeat_with(refusal).take(100));
        let impatient =
            SupabaseSettings { retry_for: Duration::from_millis(100), ..settings(&server.url(), key) };
        let source = source_with(&impatient);
        let fault = read(&source, &query(table("leads"), 10)).await.expect_err("refused");
        let health = source.health().await.expect_err("refused");
        for fault in [fault, health] {
            let text = format!("{fault} {fault:?}");
            assert!(text.contains("bad key ***") && !text.contains(&key[..16]), "{text}");
        }
    }
}

#[tokio::test]
async fn passing_refusals_are_asked_again_and_a_requested_pause_is_kept() {
    let server = server().await;
    server.set_rows(table("leads"), vec![lead(1, 5)]);
    let html = Failure { status: 502, headers: Vec::new(), body: "<html>Bad gateway</html>".to_owned() };
    let limited = Failure::new(429, "", "slow down", None).with_header("Retry-After", "1");
    server.script([refusal(503, "PGRST000"), Fault::Refuse(html), Fault::Refuse(limited)]);
    let began = Instant::now();
    assert_eq!(read(&source(&server), &query(table("leads"), 10)).await.expect("rows").len(), 1);
    assert!(began.elapsed() >= Duration::from_secs(1), "Retry-After is respected");
    let seen = server.take_requests();
    assert!(seen[3].at - seen[2].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_pause_too_long_to_wait_out_is_named_at_once_with_when_to_come_again() {
    let server = server().await;
    for (asked, named) in [("3600", "3600 s, until 20"), ("18446744073709551615", "31536000 s, until 20")] {
        let limited = Failure::new(429, "", "slow down", None).with_header("Retry-After", asked);
        server.script([Fault::Refuse(limited)]);
        let began = Instant::now();
        let fault = read(&source(&server), &query(table("leads"), 10)).await.expect_err("refused");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(fault.kind, FaultKind::Transient);
        assert!(fault.message.contains("HTTP 429") && fault.message.contains(named), "{fault}");
        assert!(
            fault.to_string().contains("after that") && fault.to_string().contains("SUPABASE_RETRY_SECONDS"),
            "{fault}"
        );
    }
}

#[tokio::test]
async fn retries_end_and_the_last_refusal_is_told() {
    let server = server().await;
    server.script(std::iter::repeat_with(|| refusal(503, "PGRST002")).take(100));
    let impatient =
        SupabaseSettings { retry_for: Duration::from_millis(700), ..settings(&server.url(), keys::SECRET) };
    let fault = read(&source_with(&impatient), &query(table("leads"), 10)).await.expect_err("refused");
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
        ..settings(&server.url(), keys::SECRET)
    };
    let fault = read(&source_with(&impatient), &query(table("leads"), 10)).await.expect_err("no answer");
    assert!(fault.message.contains("no answer within the timeout"), "{fault}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_asked_for_less() {
    let server = server().await;
    server.set_rows(table("leads"), leads(30));
    server.script([refusal(500, "57014"), refusal(500, "57014")]);
    let rows = read(&source(&server), &query(table("leads"), 100)).await.expect("rows");
    assert_eq!(rows.len(), 30);
    let limits: Vec<String> = server
        .take_requests()
        .iter()
        .filter_map(|request| request.query.iter().find(|(name, _)| name == "limit"))
        .map(|(_, value)| value.clone())
        .collect();
    assert_eq!(limits[..4], ["100", "50", "25", "50"], "and for more again when it could");
}

#[tokio::test]
async fn postgrest_s_own_words_reach_the_user() {
    let server = server().await;
    server.drop_table(table("leads"));
    let fault = read(&source(&server), &query(table("leads"), 10)).await.expect_err("no table");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(
        fault.message.contains("PGRST205") && fault.message.contains("hint: Perhaps you meant"),
        "{fault}"
    );
}
