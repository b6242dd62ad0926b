//! A client of the stateless revision takes a request back by hanging up.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::source::sample::{Fault, SampleServer, keys};
use tokio::process::Command;

use crate::support::table;
use crate::support::{
    eventually,
    http::{HttpServer, Session, stateless},
    rows::leads,
};

async fn last_sync(session: &Session) -> Value {
    let request = rmcp::model::CallToolRequestParams::new("list_syncs");
    let result = session.call_tool(request).await.expect("a result");
    result.structured_content.expect("structured content")["syncs"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateless_client_that_hangs_up_stops_the_sync_it_waited_for() {
    let source = SampleServer::start(0).await.expect("a free port");
    source.set_rows(table("leads"), leads(100));
    source.set_max_rows(Some(2));
    source.script(std::iter::repeat_with(|| Fault::Delay(Duration::from_millis(300))).take(200));
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command
        .args(["serve", "--http", "127.0.0.1:0"])
        .env_clear()
        .env("SLUICE_TOOLS", "all")
        .current_dir(folder.path())
        .kill_on_drop(true);
    command.env("SLUICE_DATA_DIR", folder.path());
    command.env("SUPABASE_URL", source.url()).env("SUPABASE_KEY", keys::SECRET);
    let server = HttpServer::of(command).await;
    let watching = server.connect(None).await;

    let params = json!({"name": "sync_leads_from_supabase", "arguments": {}});
    let request = server
        .post(&stateless(1, "tools/call", params))
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "sync_leads_from_supabase");
    let asking = tokio::spawn(request.send());
    eventually("rows are read", async || last_sync(&watching).await["rows_read"].as_u64() > Some(0)).await;
    assert!(!asking.is_finished(), "the client is still waiting");
    asking.abort();
    eventually("the sync ends", async || last_sync(&watching).await["state"] != "running").await;
    let ended = last_sync(&watching).await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert!(ended["rows_read"].as_u64().is_some_and(|rows| rows < 100), "before it was through: {ended}");
    watching.cancel().await.expect("the session closes");
}
