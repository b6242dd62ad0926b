//! The view of leads and the pipeline: an MCP App that clients show beside an answer, and the page at `/` of the HTTP
//! port. Both are the same code, told by another: the App by the client it stands in, the page by this server.
//!
//! What is shown comes from leads, so it becomes text and nothing else: `draw.js` alone makes elements, and sets no
//! attribute that could run or fetch anything.

use rmcp::{
    RoleServer,
    model::{JsonObject, MetaObject, ReadResourceResult, Resource, ResourceContents, Tool},
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::language::Language;

/// Where clients read the App.
pub(super) const APP: &str = "ui://sluice/leads";

/// A document that a client shows in a sandbox of its own.
const APP_TYPE: &str = "text/html;profile=mcp-app";

/// The extension by which clients say that they show Apps (SEP-1865).
const EXTENSION: &str = "io.modelcontextprotocol/ui";

/// The tools beside whose answers the App is shown.
const TOOLS: [&str; 2] = ["lead_report", "get_pipeline_status"];

macro_rules! script {
    ($told_by:literal) => {
        concat!(
            include_str!("words.js"),
            include_str!("draw.js"),
            include_str!("answer.js"),
            include_str!("view.js"),
            include_str!($told_by)
        )
    };
}

pub(super) const STYLE: &str = include_str!("view.css");
pub(super) const PAGE_SCRIPT: &str = script!("page.js");
const APP_SCRIPT: &str = script!("app.js");

/// The page at `/`; what it loads stands under `base`, which is empty or the path that a proxy serves this by.
pub(super) fn page(base: &str, language: Language) -> String {
    let loads = format!(
        r#"<link rel="icon" href="data:,"><link rel="stylesheet" href="{base}/page.css"><script type="module" src="{base}/page.js"></script>"#
    );
    let without = "<noscript>This page is drawn by a script of this server; let it run.</noscript>";
    document(language, &loads, without)
}

/// The App: all in one, as it can fetch nothing.
pub(super) fn app(language: Language) -> String {
    let script = format!(r#"<script type="module">{APP_SCRIPT}</script>"#);
    document(language, &format!("<style>{STYLE}</style>"), &script)
}

/// Who set no language reads the one of their browser or client.
fn document(language: Language, head: &str, body: &str) -> String {
    let named = language.choose("", language.tag());
    format!(
        r#"<!doctype html><html lang="en" data-language="{named}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>sluice</title>{head}</head><body>{body}</body></html>"#
    )
}

/// Whether the client of a request shows Apps.
pub(super) fn is_shown_by(context: &RequestContext<RoleServer>) -> bool {
    let extensions = context.client_capabilities().and_then(|client| client.extensions);
    let settings = extensions.as_ref().and_then(|extensions| extensions.get(EXTENSION));
    let types = settings.and_then(|settings| settings.get("mimeTypes")).and_then(Value::as_array);
    types.is_some_and(|types| types.iter().any(|shown| shown == APP_TYPE))
}

/// Names the App to tools that it is shown beside.
pub(super) fn tie(tools: &mut [Tool]) {
    for tool in tools.iter_mut().filter(|tool| TOOLS.contains(&&*tool.name)) {
        let mut meta = tool.meta.take().unwrap_or_default();
        meta.0.insert("ui".to_owned(), json!({"resourceUri": APP}));
        tool.meta = Some(meta);
    }
}

/// The App as a resource.
pub(super) fn resource() -> Resource {
    Resource::new(APP, "leads")
        .with_title("Leads")
        .with_description("leads a day, funnel, origins and the pipeline's health, drawn")
        .with_mime_type(APP_TYPE)
}

pub(super) fn content(language: Language) -> ReadResourceResult {
    let ui: JsonObject = [("ui".to_owned(), json!({"prefersBorder": false}))].into_iter().collect();
    let content =
        ResourceContents::text(app(language), APP).with_mime_type(APP_TYPE).with_meta(MetaObject(ui));
    ReadResourceResult::new(vec![content])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_view_ends_a_script_early_or_comes_from_elsewhere() {
        for text in [STYLE, PAGE_SCRIPT, APP_SCRIPT] {
            let lower = text.to_ascii_lowercase();
            for refused in [
                "</script",
                "</style",
                "<!--",
                "@import",
                "innerhtml",
                "outerhtml",
                "insertadjacent",
                "document.write",
                "eval(",
                "new function",
                "localstorage",
                "document.cookie",
            ] {
                assert!(!lower.contains(refused), "{refused}");
            }
            assert!(!text.contains("url("), "something is fetched");
            let addresses = lower.matches("://").count();
            assert_eq!(addresses, lower.matches("\"http://www.w3.org/").count(), "an address of elsewhere");
        }
    }

    #[test]
    fn the_page_loads_its_parts_from_where_a_proxy_serves_it() {
        let (english, app) = (page("", Language::English), app(Language::Portuguese));
        assert!(english.contains(r#"src="/page.js""#) && english.contains(r#"data-language="""#));
        assert!(page("/sluice", Language::English).contains(r#"href="/sluice/page.css""#));
        assert!(!english.contains("<style") && !english.contains("onload"), "a page with a strict policy");
        assert!(app.contains("<style>") && app.contains(r#"data-language="pt-BR""#));
    }

    #[test]
    fn both_languages_say_the_same() {
        let words = include_str!("words.js");
        let (english, portuguese) = words.split_once("const PT").expect("two dictionaries");
        let keys = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with("    ") && line.ends_with("\","));
            lines.filter_map(|line| Some(line.trim().split_once(": \"")?.0.to_owned())).collect()
        };
        assert_eq!(keys(english), keys(portuguese));
        assert!(keys(english).len() > 80);
    }
}
