//! The App, and who is told of it.

use rmcp::model::{ClientCapabilities, ExtensionCapabilities, ReadResourceRequestParams, ResourceContents};
use serde_json::json;

use super::{Bench, Client, Era, connect};
use crate::mcp::Offer;

const APP: &str = "ui://sluice/leads";

fn shows(types: &[&str]) -> Client {
    let settings = json!({"mimeTypes": types}).as_object().cloned().expect("an object");
    let extensions: ExtensionCapabilities =
        [("io.modelcontextprotocol/ui".to_owned(), settings)].into_iter().collect();
    let capabilities = ClientCapabilities::builder().enable_extensions_with(extensions).build();
    Client { capabilities, ..Client::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_told_of_to_clients_that_show_apps_and_to_no_others() {
    let bench = Bench::new().await;
    for (client, told) in [
        (shows(&["text/html;profile=mcp-app"]), true),
        (shows(&["text/uri-list"]), false),
        (Client::default(), false),
    ] {
        for era in [Era::Sessions, Era::Stateless] {
            let connection = connect(bench.server(&Offer::default()), client.clone(), era).await;
            let tools = connection.list_all_tools().await.expect("tools");
            let tied: Vec<&str> =
                tools.iter().filter(|tool| tool.meta.is_some()).map(|tool| &*tool.name).collect();
            let expected: &[&str] = if told { &["get_pipeline_status", "lead_report"] } else { &[] };
            assert_eq!(tied, expected);
            for meta in tools.iter().filter_map(|tool| tool.meta.as_ref()) {
                assert_eq!(meta.0["ui"], json!({"resourceUri": APP}));
            }
            let resources = connection.list_all_resources().await.expect("resources");
            let listed = resources.iter().find(|resource| resource.uri == APP);
            let kind = listed.and_then(|resource| resource.mime_type.as_deref());
            assert_eq!(kind, told.then_some("text/html;profile=mcp-app"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_one_document_that_declares_nothing_it_would_fetch() {
    let bench = Bench::new().await;
    for era in [Era::Sessions, Era::Stateless] {
        let connection = connect(bench.server(&Offer::default()), Client::default(), era).await;
        let read = connection.read_resource(ReadResourceRequestParams::new(APP)).await.expect("the App");
        let content = serde_json::to_value(&read.contents).expect("JSON");
        assert_eq!(content[0]["uri"], APP);
        assert_eq!(content[0]["mimeType"], "text/html;profile=mcp-app");
        assert!(content[0]["_meta"]["ui"].get("csp").is_none(), "{}", content[0]["_meta"]);
        let ResourceContents::TextResourceContents { text, .. } = &read.contents[0] else {
            panic!("no text")
        };
        assert!(text.starts_with("<!doctype html>") && text.contains("ui/initialize"));
    }
}
