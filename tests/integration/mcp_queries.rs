//! The tools that ask what is stored, as a client meets them.

use crate::support::table;
use serde_json::{Value, json};

use crate::{
    mcp::{answer, call, connect, text},
    support::{
        Pipeline,
        rows::{id, leads, session},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_synced_is_found_by_filter_by_sql_and_by_lead() {
    let pipeline = Pipeline::new().await;
    let mut rows = leads(45);
    rows[6].insert("nome".to_owned(), json!("x".repeat(100_000)));
    pipeline.source.set_rows(table("leads"), rows);
    pipeline.source.set_rows(table("chat_sessions"), (1..=3).map(|n| session(n, 5, 4)).collect());
    let (session, _) = connect(&pipeline).await;
    answer(&session, "sync_leads_from_supabase", json!({})).await;
    answer(&session, "sync_chat_sessions_from_supabase", json!({})).await;

    // Pages, to the end.
    let (mut seen, mut arguments) =
        (Vec::new(), json!({"evento": "lead_novo", "limit": 9, "include_dados": true}));
    loop {
        let page = answer(&session, "query_raw_events", arguments.clone()).await;
        assert!(page.to_string().len() < 60_000);
        let events = page["events"].as_array().expect("events");
        assert!(
            events
                .iter()
                .all(|event| event["evento"] == "lead_novo" && event["dados"]["origem"] == "indicação")
        );
        seen.extend(events.iter().map(|event| event["entidade_id"].clone()));
        let Some(next) = page.get("next_cursor") else { break };
        arguments["cursor"] = next.clone();
    }
    let newest_first: Vec<Value> = (1..=22).rev().map(|n| json!(id(n * 2))).collect();
    assert_eq!(seen, newest_first);
    let default = answer(&session, "query_raw_events", json!({})).await;
    assert_eq!(default["events"].as_array().map(Vec::len), Some(20));
    assert!(default["events"][0].get("dados").is_none());
    let of_one =
        answer(&session, "query_raw_events", json!({"entidade_id": id(3), "tipo_evento": "lead"})).await;
    assert_eq!(of_one["events"][0]["valor"], 3.0);

    let sql = "SELECT status_lead, count(*) AS n FROM leads GROUP BY status_lead ORDER BY n";
    let counted = answer(&session, "query_store", json!({"sql": sql})).await;
    assert_eq!(counted["rows"], json!([["novo", 22], ["qualificado", 23]]));
    assert_eq!(counted["columns"][1], json!({"name": "n", "type": "int8"}));
    assert_eq!((&counted["store"], &counted["truncated"]), (&json!("postgres"), &json!(false)));
    let cut = answer(&session, "query_store", json!({"sql": "SELECT id FROM leads", "max_rows": 4})).await;
    assert_eq!((cut["rows"].as_array().map(Vec::len), &cut["truncated"]), (Some(4), &json!(true)));
    let large =
        answer(&session, "query_store", json!({"sql": "SELECT nome FROM leads ORDER BY length(nome) DESC"}))
            .await;
    assert_eq!((&large["rows"], &large["truncated"]), (&json!([]), &json!(true)));

    let by_id = answer(&session, "get_lead", json!({"id": id(2)})).await;
    assert_eq!(by_id["lead"]["row"]["email"], "j***@***", "masked unless asked for otherwise");
    assert_eq!(by_id["events"][0]["id"], by_id["lead"]["evento_id"]);
    assert_eq!(by_id["chat_sessions"][0]["row"]["id"], id(2));
    assert_eq!((&by_id["more_events"], &by_id["more_chat_sessions"]), (&json!(false), &json!(false)));
    assert!(!by_id.to_string().contains("segredo-do-visitante"));
    let by_email = answer(&session, "get_lead", json!({"email": "JOAO2@exemplo.com.br"})).await;
    assert_eq!(by_email, by_id);
    let long = answer(&session, "get_lead", json!({"id": id(7)})).await;
    let nome = long["lead"]["row"]["nome"].as_str().expect("a name");
    assert!(nome.ends_with("… (100000 characters)") && long.to_string().len() < 60_000);

    session.cancel().await.expect("the session closes");
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_asked_is_a_tool_error_that_says_what_can() {
    let pipeline = Pipeline::new().await;
    let (session, _) = connect(&pipeline).await;
    let wrong_order = answer(&session, "query_raw_events", json!({})).await;
    assert_eq!(wrong_order["events"], json!([]), "a new database has tables");
    for (tool, arguments, expected) in [
        ("query_raw_events", json!({"limit": 201}), "limit: 201 is out of range"),
        ("query_raw_events", json!({"tipo_evento": "venda"}), "tipo_evento"),
        ("query_raw_events", json!({"from": "ontem"}), "from: is not a time"),
        ("query_raw_events", json!({"entidade_id": "7"}), "entidade_id: is not a UUID"),
        ("query_raw_events", json!({"cursor": "x"}), "cursor: is not the next_cursor"),
        ("query_store", json!({}), "sql"),
        ("query_store", json!({"sql": "SELECT 1", "max_rows": 0}), "max_rows: 0 is out of range"),
        ("query_store", json!({"sql": "DELETE FROM leads"}), "it does not begin with SELECT"),
        (
            "query_store",
            json!({"sql": "SELECT * FROM pg_shadow"}),
            "eventos_raw, leads, chat_sessions, eventos_agregados",
        ),
        ("query_store", json!({"sql": "SELECT pg_read_file('/etc/passwd')"}), "pg_read_file is not among"),
        ("query_store", json!({"sql": "SELECT nme FROM leads"}), "leads.nome"),
        ("get_lead", json!({}), "give either"),
        ("get_lead", json!({"id": id(1), "email": "a@b"}), "give either"),
        ("get_lead", json!({"id": id(1)}), "no such lead is stored"),
        ("get_lead", json!({"email": "ninguem@exemplo.com.br"}), "no such lead is stored"),
    ] {
        let result = call(&session, tool, arguments.clone()).await;
        assert_eq!(result.is_error, Some(true), "{tool} {arguments}: {result:?}");
        assert!(text(&result).contains(expected), "{tool} {arguments}: {}", text(&result));
    }
    session.cancel().await.expect("the session closes");
    pipeline.clean_up().await;
}
