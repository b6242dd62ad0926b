//! A name for every request, so that all that was logged for it can be found.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use rmcp::model::Extensions;
use uuid::Uuid;

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The sender's own, where it can be trusted not to spoil a log, else one made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mcp) struct RequestId(Arc<str>);

impl RequestId {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok()).filter(|id| is_sane(id));
        Self(given.map_or_else(|| Uuid::now_v7().to_string().into(), Arc::from))
    }

    /// The request behind a call, where it came over HTTP.
    pub(in crate::mcp) fn behind(extensions: &Extensions) -> Option<&str> {
        extensions.get::<Parts>()?.extensions.get::<Self>().map(Self::as_str)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

fn is_sane(id: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    (1..=64).contains(&id.len()) && id.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &str) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(given).expect("a header"));
        RequestId::of(&headers)
    }

    #[test]
    fn an_id_that_could_spoil_a_log_is_replaced() {
        assert_eq!(of("proxy-7.a_b").as_str(), "proxy-7.a_b");
        for wrong in ["", "a b", "\"}{", &"x".repeat(65)] {
            assert_ne!(of(wrong).as_str(), wrong);
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }
}
