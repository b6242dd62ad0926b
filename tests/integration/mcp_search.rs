//! The search tool, through a real client, on both indices.

use serde_json::{Value, json};

use crate::support::table;
use crate::{
    mcp::{Session, answer, call, connect, text},
    support::{
        Pipeline,
        rows::{id, leads, session},
    },
};

async fn refused(client: &Session, arguments: Value) -> String {
    let result = call(client, "search_elasticsearch", arguments.clone()).await;
    assert_eq!(result.is_error, Some(true), "{arguments}: {result:?}");
    text(&result)
}

/// What holds on any index.
async fn errors_teach(client: &Session) {
    for (arguments, told) in [
        (json!({"index": "eventos", "query": "origem:site"}), "metadata.origem"),
        (json!({"query": "usuario:\"ana"}), "never closed"),
        (json!({"index": "leads", "query": "a and b"}), "AND"),
        (
            json!({"filters": [{"field": "valor", "op": "gt", "value": "muito"}]}),
            "filters[0]: `muito` does not fit",
        ),
        (json!({"limit": 101}), "0 to 100"),
        (json!({"count_by": ["dados"]}), "count_by"),
        (json!({"index": "lead"}), "index: there is no index 'lead'"),
        (json!({"cursor": "x"}), "cursor: is none of ours"),
        (json!({"q": "x"}), "q: is no argument; there are"),
    ] {
        let text = refused(client, arguments.clone()).await;
        assert!(text.contains(told), "{arguments}: {text}");
    }
}

/// Every id, page by page.
async fn all_ids(client: &Session, mut arguments: Value) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = answer(client, "search_elasticsearch", arguments.clone()).await;
        let hits = page["hits"].as_array().expect("hits");
        ids.extend(hits.iter().map(|hit| hit["id"].as_str().expect("an id").to_owned()));
        match page.get("next_cursor") {
            Some(cursor) => arguments["cursor"] = cursor.clone(),
            None => return ids,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_leads_and_sessions_are_found_counted_and_paged() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(80));
    pipeline.source.set_rows(table("chat_sessions"), (1..=9).map(|n| session(n, 5, 4)).collect());
    let (client, _) = connect(&pipeline).await;
    answer(&client, "sync_leads_from_supabase", json!({"limit": 500})).await;
    answer(&client, "sync_chat_sessions_from_supabase", json!({})).await;

    let found = answer(
        &client,
        "search_elasticsearch",
        json!({"index": "eventos", "query": "categoria:vendas AND valor:>50", "limit": 3, "count_by": ["evento"], "count_by_day": true}),
    )
    .await;
    assert_eq!(found["total"], 30);
    assert_eq!(found["hits"].as_array().map(Vec::len), Some(3));
    assert!(found["hits"][0].get("dados").is_none(), "concise");
    assert_eq!(found["counts"][0]["values"][0], json!({"value": "lead_novo", "count": 15}));
    let days = found["days"].as_array().expect("days");
    assert_eq!(days.iter().filter_map(|day| day["count"].as_u64()).sum::<u64>(), 30);

    let one = json!({
        "index": "leads", "query": "nome:JOAO", "detail": "detailed",
        "filters": [{"field": "score_qualificacao", "op": "in", "value": [77, 200]},
                    {"field": "telefone", "op": "missing"}],
    });
    let found = answer(&client, "search_elasticsearch", one).await;
    assert_eq!((&found["total"], &found["hits"][0]["id"]), (&json!(1), &json!(id(77))));
    assert_eq!(found["hits"][0]["localizacao"]["cidade"], "São Paulo", "detailed");
    let sessions =
        answer(&client, "search_elasticsearch", json!({"index": "chat_sessions", "limit": 0})).await;
    assert_eq!((&sessions["total"], &sessions["hits"]), (&json!(9), &json!([])));

    let mut ids = all_ids(&client, json!({"index": "leads", "limit": 33, "sort": "oldest"})).await;
    assert_eq!(ids.len(), 80);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 80);
    let page = answer(&client, "search_elasticsearch", json!({"index": "leads", "limit": 5})).await;
    let other = json!({"index": "leads", "limit": 5, "query": "nome:joao", "cursor": page["next_cursor"]});
    assert!(refused(&client, other).await.contains("another question"));
    errors_teach(&client).await;
    client.cancel().await.expect("the session closes");
    pipeline.clean_up().await;
}

mod embedded {
    use super::*;
    use crate::{mcp::connect_to, support::folder::TestFolder};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_sample_project_is_searched_with_nothing_but_the_program() {
        let folder = TestFolder::new();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
        command
            .env_clear()
            .env("SLUICE_DATA_DIR", folder.path())
            .current_dir(folder.path())
            .kill_on_drop(true);
        let (client, _) = connect_to(command).await;
        let synced =
            answer(&client, "sync_leads_from_supabase", json!({"limit": 1000, "hours_ago": 720})).await;
        let events = synced["appended"].as_u64().expect("a count");
        assert!(events > 0 && synced["state"] == "done", "{synced}");
        let found = json!({"index": "eventos", "query": "tipo_evento:lead", "limit": 5, "count_by": ["evento"], "count_by_day": true});
        let found = answer(&client, "search_elasticsearch", found).await;
        assert_eq!(found["total"], events);
        assert_eq!(found["hits"].as_array().map(Vec::len), Some(5));
        let counts = found["counts"][0]["values"].as_array().expect("counts");
        assert_eq!(counts.iter().filter_map(|value| value["count"].as_u64()).sum::<u64>(), events);
        let mut ids = all_ids(&client, json!({"index": "leads", "limit": 100})).await;
        let leads = ids.len();
        ids.sort();
        ids.dedup();
        assert!(leads > 0 && ids.len() == leads);
        errors_teach(&client).await;
        client.cancel().await.expect("the session closes");
    }
}
