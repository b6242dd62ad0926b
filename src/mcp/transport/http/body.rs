//! Bodies: what a client sends is read within a size and a time; what it is sent keeps what it holds until the last
//! byte.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{
        DefaultBodyLimit, FromRequest, Request,
        rejection::{BytesRejection, FailedToBufferBody},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};
use rmcp::model::{ClientJsonRpcMessage, ErrorCode, JsonRpcMessage};
use serde_json::Value;
use tokio::time::timeout;
use tracing::info;

use super::guard::refusal;
use crate::mcp::transport::message::{self, Incoming, Refusal};

/// How a message may be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

/// Why a body is no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body must be JSON in UTF-8: send it with Content-Type: application/json")]
    ContentType,
    #[error("the body is compressed, which this server does not read; send it without Content-Encoding")]
    Encoded,
    #[error("the body has more than {0} bytes, see SLUICE_HTTP_MAX_BODY_KIB")]
    TooLarge(usize),
    #[error("the body did not come within {} s, see SLUICE_HTTP_IO_TIMEOUT_SECONDS", .0.as_secs())]
    Slow(Duration),
    #[error("the body broke off: {0}")]
    BrokenOff(BytesRejection),
    #[error("the body is {}", .0.problem)]
    NoMessage(Refusal),
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        info!(reason = %self, "request refused");
        let status = match &self {
            Self::NoMessage(refusal) => return refused(refusal),
            Self::ContentType | Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff(_) => StatusCode::BAD_REQUEST,
        };
        let mut response = refusal(status, &self.to_string());
        if matches!(self, Self::Encoded) {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        response
    }
}

/// A message that can't be served, as JSON-RPC says it.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::BAD_REQUEST, json, refusal.to_json()).into_response()
}

/// Reads a body as what it holds.
pub(super) async fn receive(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Incoming, BodyError> {
    let no_message = |code, problem| Err(BodyError::NoMessage(Refusal::new(code, problem)));
    match message::read(&read(headers, body, limits).await?) {
        Incoming::Blank => no_message(ErrorCode::PARSE_ERROR, "empty: send one JSON-RPC message"),
        Incoming::Useless(problem) => no_message(ErrorCode::INVALID_REQUEST, problem),
        Incoming::Refused(refusal) => Err(BodyError::NoMessage(refusal)),
        incoming => Ok(incoming),
    }
}

/// Reads a body that says it is JSON.
async fn read(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, BodyError> {
    if !is_json(headers) {
        return Err(BodyError::ContentType);
    }
    let encoded = headers.get_all(header::CONTENT_ENCODING).iter();
    if encoded.into_iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(BodyError::Encoded);
    }
    // What says that it is too long need not be read to see it.
    if body.size_hint().lower() > u64::try_from(limits.bytes).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge(limits.bytes));
    }
    let mut request = Request::new(body);
    DefaultBodyLimit::max(limits.bytes).apply(&mut request);
    match timeout(limits.time, Bytes::from_request(request, &())).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)))) => {
            Err(BodyError::TooLarge(limits.bytes))
        }
        Ok(Err(error)) => Err(BodyError::BrokenOff(error)),
        Err(_) => Err(BodyError::Slow(limits.time)),
    }
}

/// JSON is UTF-8; whoever calls it something else has not written what is read here.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            let value = value.trim_matches('"');
            !name.eq_ignore_ascii_case("charset")
                || ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
        })
}

/// The id of a request, as its answer has it.
pub(super) fn request_id(message: &ClientJsonRpcMessage) -> Option<Value> {
    match message {
        JsonRpcMessage::Request(request) => serde_json::to_value(&request.id).ok(),
        _ => None,
    }
}

/// Keeps `held` until the response has been sent to its last byte, or will not be.
pub(super) fn until_sent<T: Send + Unpin + 'static>(response: Response, held: T) -> Response {
    response.map(|inner| Body::new(Holding { inner, _held: held }))
}

struct Holding<T> {
    inner: Body,
    _held: T,
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits { bytes: 200, time: Duration::from_millis(50) };
    const PING: &str = r#"{"jsonrpc": "2.0", "id": "á", "method": "ping"}"#;

    async fn sent(
        headers: &[(&'static str, &'static str)],
        body: impl Into<Body>,
    ) -> Result<Incoming, BodyError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        receive(&map, body.into(), LIMITS).await
    }

    async fn refused(body: &'static [u8]) -> (StatusCode, Value) {
        let error = sent(&[("content-type", "application/json")], body).await.expect_err("no message");
        let response = error.into_response();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    fn id(incoming: Incoming) -> Option<Value> {
        match incoming {
            Incoming::Message(message) => request_id(&message),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn json_is_read_however_it_is_announced() {
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json; charset=utf8; x=y",
        ] {
            let received = sent(&[("content-type", kind)], PING).await.expect(kind);
            assert_eq!(id(received), Some("á".into()), "{kind}");
        }
        let identity = [("content-type", "application/json"), ("content-encoding", "identity")];
        assert!(sent(&identity, PING).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_announced_as_something_else_is_refused_unread() {
        for kind in ["text/plain", "application/json; charset=iso-8859-1", "application/jsonl", "", "json"] {
            let error = sent(&[("content-type", kind)], PING).await.expect_err(kind);
            assert!(matches!(error, BodyError::ContentType), "{kind}");
        }
        assert!(matches!(sent(&[], PING).await, Err(BodyError::ContentType)));
        let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
        let response = sent(&gzip, PING).await.expect_err("compressed").into_response();
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(response.headers()["accept-encoding"], "identity");
    }

    #[tokio::test]
    async fn broken_json_is_a_parse_error_and_other_json_no_request() {
        let deep = "[".repeat(200);
        for (broken, id) in [
            ("".as_bytes(), Value::Null),
            (b" \n", Value::Null),
            (b"{", Value::Null),
            (b"nada", Value::Null),
            (b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"\\ud83d\"}", 1.into()),
            (b"{\"jsonrpc\": \"2.0\", \"id\": 1e999, \"method\": \"ping\"}", Value::Null),
            (b"{\"jsonrpc\": \"2.0\", \"id\": \"\xff\", \"method\": \"ping\"}", Value::Null),
            (deep.leak().as_bytes(), Value::Null),
        ] {
            let (status, body) = refused(broken).await;
            assert_eq!(
                (status.as_u16(), &body["error"]["code"], &body["id"]),
                (400, &(-32_700).into(), &id),
                "{body}"
            );
        }
        for (other, id) in [
            ("\"nada\"", Value::Null),
            ("{}", Value::Null),
            ("{\"id\": 7, \"method\": \"ping\"}", 7.into()),
            ("{\"jsonrpc\": \"1.0\", \"id\": \"a\", \"method\": \"ping\"}", "a".into()),
            ("{\"jsonrpc\": \"2.0\", \"id\": {}, \"method\": \"ping\"}", Value::Null),
            ("{\"jsonrpc\": \"2.0\", \"id\": 1, \"id\": 2, \"method\": \"ping\"}", Value::Null),
            ("{\"jsonrpc\": \"2.0\", \"result\": 7}", Value::Null),
        ] {
            let (status, body) = refused(other.as_bytes()).await;
            assert_eq!(
                (status.as_u16(), &body["error"]["code"], &body["id"]),
                (400, &(-32_600).into(), &id),
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_or_never_ends_is_given_up() {
        let json = [("content-type", "application/json")];
        let long = format!("{PING}{}", " ".repeat(200));
        assert!(matches!(sent(&json, long.clone()).await, Err(BodyError::TooLarge(200))));
        let pieces = futures::stream::iter(
            long.into_bytes()
                .chunks(50)
                .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
                .collect::<Vec<_>>(),
        );
        let streamed = sent(&json, Body::from_stream(pieces)).await;
        assert!(matches!(streamed, Err(BodyError::TooLarge(200))), "{streamed:?}");
        let endless = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let slow = sent(&json, endless).await.expect_err("slow");
        assert_eq!(slow.into_response().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
