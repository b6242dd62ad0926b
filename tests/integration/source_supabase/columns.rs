//! Which columns are selected, and that it does not change from one read to the next.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use sluice::{
    config::SupabaseSettings,
    domain::{JsonObject, SourceRow},
    fault::FaultKind,
    source::{
        Source,
        sample::{Fault, keys},
        supabase::SupabaseSource,
    },
};

use super::{query, read, refusal, selections, server, settings, source, source_with, texts};
use crate::support::{
    rows::{lead, session},
    table,
};

#[tokio::test]
async fn session_tokens_are_never_asked_for_and_addresses_only_on_request() {
    let server = server().await;
    let sessions = table("chat_sessions");
    server.set_rows(sessions, vec![session(1, 5, 3)]);
    for openapi in [true, false] {
        server.set_openapi(openapi);
        let rows = read(&source(&server), &query(sessions, 10)).await.expect("rows");
        assert!(!rows[0].contains_key("session_token") && !rows[0].contains_key("ip_address"), "{rows:?}");
        for select in selections(&server) {
            assert!(!select.contains('*') && !select.contains("session_token"), "{select}");
        }
    }
    let with_address = SupabaseSettings {
        include_columns: vec!["ip_address".to_owned()],
        ..settings(&server.url(), keys::SECRET)
    };
    let rows = read(&source_with(&with_address), &query(sessions, 10)).await.expect("rows");
    assert_eq!(rows[0]["ip_address"], "203.0.113.7");
}

#[tokio::test]
async fn what_is_selected_does_not_follow_a_project_that_tells_now_and_then() {
    let server = server().await;
    let sessions = table("chat_sessions");
    let mut rows: Vec<JsonObject> = (1..=5).map(|n| session(n, 5, 3)).collect();
    for row in &mut rows {
        row.insert("canal".to_owned(), json!("site"));
    }
    server.set_rows(sessions, rows);
    let events = async |source: &SupabaseSource| {
        let rows = texts(source, &query(sessions, 10)).await.expect("rows");
        rows.into_iter()
            .map(|row| SourceRow::read(sessions, row).expect("a row").event_id)
            .collect::<BTreeSet<_>>()
    };
    let one = source(&server);
    assert_eq!(one.columns(sessions), None, "nothing was told yet");
    let told = events(&one).await;
    let listed = one.columns(sessions).expect("columns");
    assert!(listed.contains(&"canal".to_owned()), "{listed:?}");

    let forbidden = || refusal(403, "42501");
    for _ in 0..3 {
        server.script_openapi([forbidden()]);
        assert_eq!(events(&one).await, told, "refused");
        assert_eq!(events(&one).await, told, "told again");
    }
    server.script_openapi(std::iter::repeat_with(|| Fault::CutOff).take(100));
    let impatient =
        SupabaseSettings { retry_for: Duration::from_millis(1), ..settings(&server.url(), keys::SECRET) };
    let fault = texts(&source_with(&impatient), &query(sessions, 10)).await.expect_err("nothing is known");
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(fault.message.contains("listing columns"), "{fault}");

    // Another process is reminded, and then neither a refusal nor silence changes what it reads.
    for fault in [forbidden(), Fault::CutOff] {
        server.script_openapi([fault]);
        let other = source_with(&impatient);
        other.seed_columns(sessions, listed.clone());
        assert_eq!(events(&other).await, told);
        assert_eq!(other.columns(sessions), Some(listed.clone()));
    }
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
        server.set_rows(table("leads"), vec![row]);
        server.set_rows(table("chat_sessions"), vec![chat]);
        for column in ["updated_at", "utm_medium"] {
            server.drop_column(table("leads"), column);
        }
        for column in ["ended_at", "is_active", "user_agent"] {
            server.drop_column(table("chat_sessions"), column);
        }
        let source = source(&server);
        let rows = read(&source, &query(table("leads"), 10)).await.expect("rows");
        assert_eq!(rows[0]["corretor"], "Bia", "an unknown column is read");
        let sessions = read(&source, &query(table("chat_sessions"), 10)).await.expect("rows");
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].contains_key("canal"), openapi, "known only where the project tells");
    }
}

#[tokio::test]
async fn a_column_that_was_added_since_the_project_told_of_its_columns_is_read() {
    let server = server().await;
    let (leads, sessions) = (table("leads"), table("chat_sessions"));
    let mut chat = session(1, 5, 3);
    chat.insert("canal".to_owned(), json!("site"));
    server.set_rows(leads, vec![lead(1, 5)]);
    server.set_rows(sessions, vec![chat]);
    server.drop_column(sessions, "user_agent");
    server.set_openapi(false);
    let source = source(&server);
    let told = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    source.seed_columns(leads, told(&["id", "nome", "created_at"]));
    let page = source.page(&query(leads, 10), None).await.expect("a page");
    assert!(page.tells_changes, "nothing is hidden, and updated_at is there");

    source.seed_columns(sessions, told(&["id", "started_at", "canal"]));
    let rows = read(&source, &query(sessions, 10)).await.expect("rows");
    assert_eq!((&rows[0]["canal"], &rows[0]["total_messages"]), (&json!("site"), &json!(3)));
    assert!(!rows[0].contains_key("session_token") && !rows[0].contains_key("ip_address"), "{rows:?}");
    let listed = source.columns(sessions).expect("columns");
    assert!(!listed.contains(&"user_agent".to_owned()), "it is not there: {listed:?}");
}
