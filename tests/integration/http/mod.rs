//! The server over HTTP: the real program, real clients, and requests no client would send.

mod embedded;

use rmcp::model::CallToolRequestParams;

use crate::support::table;
use crate::support::{Pipeline, http::HttpServer, rows::leads};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_parts_are_up_is_ready_and_drains_while_it_serves() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(30));
    let server = HttpServer::of(pipeline.command(&["serve", "--http", "127.0.0.1:0"])).await;
    let client = server.connect_stateless(None).await;
    let request = CallToolRequestParams::new("sync_leads_from_supabase");
    let synced = client.call_tool(request).await.expect("a result").structured_content.expect("content");
    assert_eq!((&synced["state"], &synced["appended"]), (&"done".into(), &30.into()), "{synced}");
    let ready = reqwest::get(format!("{}/readyz", server.url)).await.expect("an answer");
    assert_eq!(ready.status(), 200, "{}", ready.text().await.expect("text"));
    let metrics = reqwest::get(format!("{}/metrics", server.url)).await.expect("an answer").text().await;
    let metrics = metrics.expect("text");
    assert!(metrics.contains("sluice_drain_inserted_total{sink=\"postgres\"} 30"), "{metrics}");
    assert!(metrics.contains("sluice_sink_lag_records{sink=\"elasticsearch\"} 0"), "{metrics}");
    pipeline.assert_events(30).await;
    drop(client);
    drop(server);
    pipeline.clean_up().await;
}
