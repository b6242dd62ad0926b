//! The page at `/`: what it is made of. It holds nothing that a token would have to guard; what it shows, it asks of
//! `/mcp` and `/lag` with the token that was typed into it.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    middleware::map_response,
    response::{Html, Response},
    routing::get,
};

use crate::{language::Language, mcp::page};

/// The page's own script and style, requests to this server, and nothing else: neither what stands in the page, nor what
/// a script could make of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    // A new version of the program brings a new page.
    (header::CACHE_CONTROL, "no-cache"),
];

/// The page and its parts; `base` is the path that a proxy serves it by.
pub(super) fn routes(base: &str, language: Language) -> Router {
    let text = |kind: &'static str, text: &'static str| async move { ([(header::CONTENT_TYPE, kind)], text) };
    let parts = Router::new()
        .route("/page.css", get(move || text("text/css; charset=utf-8", page::STYLE)))
        .route("/page.js", get(move || text("text/javascript; charset=utf-8", page::PAGE_SCRIPT)))
        .layer(map_response(guarded));
    at("/", base, language).merge(parts)
}

/// The page itself at a path.
pub(super) fn at(path: &str, base: &str, language: Language) -> Router {
    let document: Arc<str> = page::page(base, language).into();
    Router::new()
        .route(path, get(move || async move { Html(document.to_string()) }))
        .layer(map_response(guarded))
}

async fn guarded(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
