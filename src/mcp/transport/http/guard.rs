//! What a request passes before it reaches MCP: it is named, its headers, host and origin are checked, its sender is
//! made out and kept from sending too much and from holding too many connections.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock};
use serde_json::{Value, json};
use tracing::{Instrument, Span, debug, field::Empty, info, info_span};

use super::{
    PATHS,
    authenticator::{Authenticator, SEC_FETCH_SITE, Unknown},
    body::until_sent,
    connections::{Link, TooManyOpen},
    request_id::{self, RequestId},
};
use crate::{
    config::{HttpSettings, is_address},
    mcp::{
        Access,
        export::PublicBase,
        principal::{Principal, canonical},
    },
};

/// Headers whose second value would be read by one program and not by the next.
const SINGLE: [HeaderName; 10] = [
    header::HOST,
    header::ORIGIN,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    SEC_FETCH_SITE,
    HeaderName::from_static("mcp-session-id"),
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("mcp-method"),
    HeaderName::from_static("mcp-name"),
    HeaderName::from_static("last-event-id"),
];

/// A client may send so many seconds' worth of requests at once.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);

/// JSON-RPC's code for what the server alone can define.
const SERVER_ERROR: i32 = -32_000;

/// Clients remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 10_000;

/// Decides who gets through.
pub(super) struct Guard {
    settings: HttpSettings,
    authenticator: Authenticator,
    limiter: Option<DefaultKeyedRateLimiter<Principal>>,
    base: Option<PublicBase>,
}

/// Why a request was turned away.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the header {0} is there more than once; send it once")]
    Ambiguous(HeaderName),
    #[error("the host this request is addressed to is not allowed; add it to SLUICE_HTTP_ALLOWED_HOSTS")]
    Host,
    #[error("the origin of this request is not allowed; add it to SLUICE_HTTP_ALLOWED_ORIGINS")]
    Origin,
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error("too many requests; try again in {} s", .0.as_secs())]
    TooMany(Duration),
    #[error(transparent)]
    TooManyOpen(#[from] TooManyOpen),
}

impl Guard {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let limiter = settings.limits.requests_per_second.map(|rate| {
            let burst = rate.saturating_mul(BURST_SECONDS);
            DefaultKeyedRateLimiter::hashmap(Quota::per_second(rate).allow_burst(burst))
        });
        let base = settings.public_url.as_ref().map(|url| PublicBase(url.base().into()));
        Self { settings: settings.clone(), authenticator: Authenticator::new(settings), limiter, base }
    }

    pub(super) async fn follow_tokens(&self) {
        self.authenticator.follow_file().await;
    }

    /// The sender and its rights; counts the request, let through or not.
    fn admit(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(Principal, Access), Refusal> {
        let admitted = self.authenticator.authenticate(headers, peer);
        // Guessing tokens is limited, too.
        let stranger = || Principal::Peer(canonical(peer));
        let sender = admitted.as_ref().map_or_else(|_| stranger(), |(principal, _)| principal.clone());
        self.count(&sender)?;
        Ok(admitted?)
    }

    /// Whether a request would be let through, without counting it.
    pub(super) fn trusts(&self, uri: &Uri, headers: &HeaderMap, peer: IpAddr) -> bool {
        self.check_names(uri, headers).is_ok() && self.authenticator.authenticate(headers, peer).is_ok()
    }

    fn count(&self, principal: &Principal) -> Result<(), Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() > REMEMBERED {
            limiter.retain_recent();
        }
        limiter.check_key(principal).map_err(|early| {
            let wait = early.wait_time_from(limiter.clock().now());
            Refusal::TooMany(Duration::from_secs(wait.as_secs() + 1))
        })
    }

    fn check_names(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        for name in SINGLE {
            if headers.get_all(&name).iter().nth(1).is_some() {
                return Err(Refusal::Ambiguous(name));
            }
        }
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
        // A target may name a host, too, and that is the one a proxy goes by: whichever are there must be ours.
        let named = [text(header::HOST), uri.authority().map(Authority::as_str)];
        let mut named = named.into_iter().flatten().peekable();
        if named.peek().is_none() || !named.all(|host| self.allows_host(host)) {
            return Err(Refusal::Host);
        }
        match text(header::ORIGIN) {
            Some(origin)
                if self.allows_origin(origin)
                    || text(header::HOST).is_some_and(|host| is_at(origin, host)) =>
            {
                Ok(())
            }
            Some(_) => Err(Refusal::Origin),
            // A page need not say where it comes from to make a browser send a GET.
            None => match text(SEC_FETCH_SITE) {
                None | Some("none" | "same-origin") => Ok(()),
                Some(_) => Err(Refusal::Origin),
            },
        }
    }

    fn allows_host(&self, host: &str) -> bool {
        is_address(host) || self.settings.allowed_hosts.iter().any(|allowed| allowed.matches(host))
    }

    pub(super) fn allows_origin(&self, origin: &str) -> bool {
        self.settings.allowed_origins.iter().any(|allowed| allowed.matches(origin))
    }
}

/// Whether an origin is the very host that a request is addressed to: the server's own page.
fn is_at(origin: &str, host: &str) -> bool {
    let (scheme, authority) = origin.split_once("://").unwrap_or_default();
    ["http", "https"].contains(&scheme) && authority.eq_ignore_ascii_case(host)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // The path, the sender and the request's id are in the span.
        match self {
            // Somebody who sends too much must not fill the log with it.
            Self::TooMany(_) => debug!(reason = %self, "request refused"),
            _ => info!(reason = %self, "request refused"),
        }
        let status = match self {
            Self::Ambiguous(_) => StatusCode::BAD_REQUEST,
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Unknown(_) => StatusCode::UNAUTHORIZED,
            Self::TooMany(_) | Self::TooManyOpen(_) => StatusCode::TOO_MANY_REQUESTS,
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
            Self::TooManyOpen(_) => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Ambiguous(_) | Self::Host | Self::Origin => {}
        }
        response
    }
}

/// A refusal as clients of MCP read it: an error that answers no request in particular.
pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    refuse(status, SERVER_ERROR, &Value::Null, message)
}

/// A refusal with a code of JSON-RPC, of one request where it is known.
pub(super) fn refuse(status: StatusCode, code: i32, id: &Value, message: &str) -> Response {
    let body = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}});
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
        path = known_path(request.uri().path()),
        peer = %peer.ip(),
        client = Empty,
    );
    request.extensions_mut().insert(id.clone());
    let begun = Instant::now();
    let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = next.run(request).instrument(span.clone()).await;
    span.in_scope(|| {
        debug!(status = response.status().as_u16(), elapsed = ?begun.elapsed(), "request answered");
    });
    if let Some(id) = id.header() {
        response.headers_mut().insert(request_id::HEADER, id);
    }
    // Such a request may have had a length besides, which something in front may have believed; what that took for its
    // body is no next request here.
    if is_chunked {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A path that can be logged. People paste tokens into the strangest places.
fn known_path(path: &str) -> &'static str {
    if path.contains("/exports/") {
        return "/exports";
    }
    PATHS.into_iter().find(|known| path.ends_with(known)).unwrap_or("another")
}

/// Turns away what a page on another site may have made a browser send, and what two programs could read in two ways.
pub(super) async fn check_names(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let Err(refusal) = guard.check_names(request.uri(), request.headers()) else {
        return next.run(request).await;
    };
    // Each is logged, so they must not come as fast as somebody likes.
    let counted = guard.count(&Principal::Peer(canonical(peer.ip())));
    counted.err().unwrap_or(refusal).into_response()
}

/// Lets in whom the tokens let in, as long as it holds no more connections than it may, and hands on who it is and
/// what it may do.
pub(super) async fn admit(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let (principal, access) = match guard.admit(request.headers(), peer.ip()) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    Span::current().record("client", tracing::field::display(&principal));
    let link = request.extensions_mut().remove::<Link>();
    let at_work = match link.map(|link| link.admit(&principal)).transpose() {
        Ok(at_work) => at_work,
        Err(error) => return Refusal::from(error).into_response(),
    };
    if let Some(base) = &guard.base {
        request.extensions_mut().insert(base.clone());
    }
    request.extensions_mut().insert(principal);
    request.extensions_mut().insert(access);
    until_sent(next.run(request).await, at_work)
}
