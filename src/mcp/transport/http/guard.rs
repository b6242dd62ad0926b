//! What a request passes before it reaches MCP: it is named, its host and origin are checked, its sender is made out
//! and kept from sending too much.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock};
use serde_json::json;
use tracing::{Instrument, Span, debug, field::Empty, info, info_span};

use super::{
    client::{Client, Doorman, Unknown},
    request_id::{self, RequestId},
};
use crate::{config::HttpSettings, mcp::Access};

/// A client may send so many seconds' worth of requests at once.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);

/// Clients remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 10_000;

/// Decides who gets through.
pub(super) struct Guard {
    settings: HttpSettings,
    doorman: Doorman,
    limiter: Option<DefaultKeyedRateLimiter<Client>>,
}

/// Why a request was turned away.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the host this request is addressed to is not allowed; add it to SLUICE_HTTP_ALLOWED_HOSTS")]
    Host,
    #[error("the origin of this request is not allowed; add it to SLUICE_HTTP_ALLOWED_ORIGINS")]
    Origin,
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error("too many requests; try again in {} s", .0.as_secs())]
    TooMany(Duration),
    #[error("the body has more than {0} bytes, see SLUICE_HTTP_MAX_BODY_KIB")]
    TooLarge(usize),
}

impl Guard {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let limiter = settings.requests_per_second.map(|rate| {
            let burst = rate.saturating_mul(BURST_SECONDS);
            DefaultKeyedRateLimiter::hashmap(Quota::per_second(rate).allow_burst(burst))
        });
        Self { settings: settings.clone(), doorman: Doorman::new(&settings.tokens), limiter }
    }

    /// The sender and its rights; counts the request, let through or not.
    fn admit(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(Client, Access), Refusal> {
        let admitted = self.doorman.admit(headers, peer);
        // Guessing tokens is limited, too.
        let sender = admitted.as_ref().map_or(Client::Peer(peer), |(client, _)| client.clone());
        self.count(&sender)?;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let admitted = admitted?;
        if length.is_some_and(|length: usize| length > self.settings.max_body_bytes) {
            return Err(Refusal::TooLarge(self.settings.max_body_bytes));
        }
        Ok(admitted)
    }

    /// Whether a request would be let through, without counting it.
    pub(super) fn trusts(&self, uri: &Uri, headers: &HeaderMap, peer: IpAddr) -> bool {
        self.check_names(uri, headers).is_ok() && self.doorman.admit(headers, peer).is_ok()
    }

    fn count(&self, client: &Client) -> Result<(), Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() > REMEMBERED {
            limiter.retain_recent();
        }
        limiter.check_key(client).map_err(|early| {
            let wait = early.wait_time_from(limiter.clock().now());
            Refusal::TooMany(Duration::from_secs(wait.as_secs() + 1))
        })
    }

    fn check_names(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
        let host = text(header::HOST).or_else(|| uri.authority().map(Authority::as_str));
        let host = host.ok_or(Refusal::Host)?;
        if !self.settings.allowed_hosts.iter().any(|allowed| allowed.matches(host)) {
            return Err(Refusal::Host);
        }
        match text(header::ORIGIN) {
            Some(origin) if !self.allows_origin(origin) => Err(Refusal::Origin),
            _ => Ok(()),
        }
    }

    pub(super) fn allows_origin(&self, origin: &str) -> bool {
        self.settings.allowed_origins.iter().any(|allowed| allowed.matches(origin))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // The path, the sender and the request's id are in the span.
        info!(reason = %self, "request refused");
        let status = match self {
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Unknown(_) => StatusCode::UNAUTHORIZED,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let mut response = refusal(status, &self.to_string());
        match self {
            Self::Unknown(unknown) => {
                let challenge = match unknown {
                    Unknown::NoToken => r#"Bearer realm="sluice""#,
                    Unknown::WrongToken => r#"Bearer realm="sluice", error="invalid_token""#,
                };
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Self::TooMany(wait) => {
                response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().into());
            }
            Self::Host | Self::Origin | Self::TooLarge(_) => {}
        }
        response
    }
}

/// A refusal as clients of MCP read it: an error that answers no request in particular.
pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    let body = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32_000, "message": message}});
    (status, Json(body)).into_response()
}

/// Names every request, and logs how it ended.
pub(super) async fn name(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(request.headers());
    let span = info_span!(
        "request",
        request_id = id.as_str(),
        method = %request.method(),
        path = request.uri().path(),
        peer = %peer.ip(),
        client = Empty,
    );
    request.extensions_mut().insert(id.clone());
    let begun = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    span.in_scope(|| {
        debug!(status = response.status().as_u16(), elapsed = ?begun.elapsed(), "request answered");
    });
    if let Some(id) = id.header() {
        response.headers_mut().insert(request_id::HEADER, id);
    }
    response
}

/// Turns away what a page on another site may have made a browser send.
pub(super) async fn check_names(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check_names(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Lets in whom the tokens let in, and hands on who it is and what it may do.
pub(super) async fn admit(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    match guard.admit(request.headers(), peer.ip()) {
        Ok((client, access)) => {
            Span::current().record("client", tracing::field::display(&client));
            request.extensions_mut().insert(client);
            request.extensions_mut().insert(access);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}
