//! No row is so large that an answer grows too long, or that a client can't get past it.

use rmcp::model::{CompletionContext, ReadResourceRequestParams};
use serde_json::json;

use super::{facts::beside, *};
use crate::{
    mcp::bounded::LARGEST_ANSWER,
    source::sample::{Beginning, SampleProject},
};

fn id(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn huge(n: u32) -> serde_json::Map<String, Value> {
    let members: serde_json::Map<String, Value> =
        (0..3000).map(|n| (format!("m{n:04}"), json!("x".repeat(20)))).collect();
    let lead = json!({
        "id": id(n), "nome": "á".repeat(60_007), "localizacao": members, "interesse": vec!["casa na praia"; 2000],
        "origem": "google", "status_lead": "novo", "updated_at": chrono::Utc::now().to_rfc3339(),
    });
    lead.as_object().cloned().expect("an object")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_row_is_cut_to_an_answer_and_paged_past() {
    let (bench, _source) = beside((1..=3).map(huge).collect()).await;
    let connection = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    call(&connection, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 1000})).await;

    let result = call(&connection, "get_lead", json!({"id": id(1)})).await;
    let lead = result.structured_content.as_ref().expect("a lead");
    assert!(lead.to_string().len() < LARGEST_ANSWER, "{} bytes", lead.to_string().len());
    assert!(text(&result).len() < LARGEST_ANSWER, "{} bytes of text", text(&result).len());
    let row = &lead["entity"]["row"];
    assert!(row["nome"].as_str().is_some_and(|nome| nome.ends_with("(60007 characters)")), "{row}");
    assert_eq!(lead["entity"]["metadata"].get("nome"), None, "{lead}");
    assert!(!lead.to_string().contains("see dados"), "{lead}");
    let read = connection
        .read_resource(ReadResourceRequestParams::new(format!("sluice://leads/{}", id(1))))
        .await
        .expect("a lead");
    let size = serde_json::to_string(&read.contents).expect("JSON").len();
    assert!(size < LARGEST_ANSWER + LARGEST_ANSWER / 4, "{size} bytes with the quotes escaped");

    let mut seen = 0;
    let mut cursor = Value::Null;
    loop {
        let mut arguments = json!({"tipo_evento": "lead", "include_dados": true, "limit": 200});
        if !cursor.is_null() {
            arguments["cursor"] = cursor;
        }
        let result = call(&connection, "query_raw_events", arguments).await;
        let page = result.structured_content.clone().unwrap_or_else(|| panic!("{}", text(&result)));
        let events = page["events"].as_array().expect("events");
        assert!(!events.is_empty() && page.to_string().len() < LARGEST_ANSWER);
        seen += events.len();
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let all = call(
        &connection,
        "query_store",
        json!({"sql": "SELECT count(*) FROM eventos_raw WHERE tipo_evento = 'lead'"}),
    )
    .await;
    assert_eq!(all.structured_content.expect("rows")["rows"][0][0], seen);
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaying_all_letters_goes_past_the_settled_and_the_hopeless_and_ends() {
    let (bench, source) = beside(Vec::new()).await;
    source.set_project(SampleProject::new(Beginning::now(1, 60, 20).with_broken(25)));
    let connection = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    call(&connection, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 1000})).await;
    let calls = async |expected: &str| {
        let (mut calls, mut left, mut cursor) = (0, Vec::new(), Value::Null);
        loop {
            let arguments = json!({"all_matching": true, "limit": 1, "cursor": cursor});
            let result = call(&connection, "replay_dead_letters", arguments).await;
            let answer = result.structured_content.clone().unwrap_or_else(|| panic!("{}", text(&result)));
            assert_eq!(answer["replayed"], json!([]), "{answer}");
            assert_eq!(answer["more"], answer["next_cursor"].is_string(), "{answer}");
            left.extend(answer["left"].as_array().expect("left").iter().map(|one| one["id"].clone()));
            calls += 1;
            cursor = answer["next_cursor"].clone();
            if cursor.is_null() {
                return (calls, left);
            }
            assert!(calls < 10, "{expected}");
        }
    };
    // More than one call looks at.
    let (first, left) = calls("rows without a key make no event").await;
    assert_eq!((first, left.len()), (2, 25), "{left:?}");
    let discarded = call(&connection, "discard_dead_letters", json!({"ids": left, "confirm": true})).await;
    assert_eq!(discarded.structured_content.expect("an answer")["open"], 0);
    assert_eq!(calls("all are settled").await, (2, Vec::new()));
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_can_be_asked_for_and_what_is_unknown_goes_by_its_argument() {
    let lead = |n: u32, origin: &str| {
        let mut lead = huge(n);
        lead.retain(|name, _| ["id", "origem", "status_lead", "updated_at"].contains(&name.as_str()));
        lead.insert("origem".to_owned(), origin.into());
        lead
    };
    let (bench, _source) =
        beside(vec![lead(1, "11 98765-4321"), lead(2, "zap\u{202e}"), lead(3, "zona sul")]).await;
    let connection = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    call(&connection, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 1000})).await;
    let offered = connection
        .complete_prompt_argument("daily_lead_report", "origin", "", None::<CompletionContext>)
        .await
        .expect("values")
        .values;
    assert!(offered.iter().any(|origin| origin == "zona sul"), "{offered:?}");
    assert!(!offered.iter().any(|origin| origin.contains(['*', '\u{fffd}'])), "{offered:?}");

    let unknown = text(&call(&connection, "get_lead", json!({"id": id(99)})).await);
    assert!(unknown.starts_with("id: "), "{unknown}");
    let unknown = text(&call(&connection, "get_entity", json!({"table": "leads", "key": id(99)})).await);
    assert!(unknown.starts_with("key: "), "{unknown}");
    let given = r#"{"n":1234567890123456789012, "z":0.1000,"email":"ana@b.co","id":1,"id":2}"#;
    let told = call(&connection, "query_store", json!({"sql": format!("SELECT '{given}' AS x")})).await;
    assert_eq!(told.structured_content.expect("rows")["rows"][0][0], given.replace("ana@b.co", "a***@***"));
    let tools = connection.read_resource(ReadResourceRequestParams::new("sluice://tools/query")).await;
    assert!(
        serde_json::to_string(&tools.expect("tools").contents).expect("JSON").contains("ana@exemplo.com.br")
    );
    bench.engine.shut_down().await;
}
