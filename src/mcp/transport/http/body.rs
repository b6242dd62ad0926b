//! Bodies: what a client sends is read as one JSON-RPC message, within a size and a time; what it is sent keeps what
//! it holds until the last byte.

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

use super::guard::{refusal, refuse};

/// Some write it before UTF-8 although JSON has none.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How a message may be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

/// A message, and the bytes it was read from.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    pub(super) message: ClientJsonRpcMessage,
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
    #[error("the body is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error(
        "the body is JSON, but not a message of JSON-RPC 2.0: an object with \"jsonrpc\": \"2.0\", a \"method\", and for \
         a request an \"id\" that is a string or a whole number"
    )]
    NoMessage { id: Value },
}

impl BodyError {
    /// The code of JSON-RPC, where it has one for this.
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::NotJson(_) => Some(ErrorCode::PARSE_ERROR),
            Self::NoMessage { .. } => Some(ErrorCode::INVALID_REQUEST),
            _ => None,
        }
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        info!(reason = %self, "request refused");
        let message = self.to_string();
        if let Some(code) = self.code() {
            let id = if let Self::NoMessage { id } = self { id } else { Value::Null };
            return refuse(StatusCode::BAD_REQUEST, code.0, &id, &message);
        }
        let status = match self {
            Self::ContentType | Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut response = refusal(status, &message);
        if matches!(self, Self::Encoded) {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        response
    }
}

/// Reads a body as one message.
pub(super) async fn receive(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Received, BodyError> {
    parse(read(headers, body, limits).await?)
}

/// Reads a body that says it is JSON.
pub(super) async fn read(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, BodyError> {
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
    let bytes = match timeout(limits.time, Bytes::from_request(request, &())).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)))) => {
            return Err(BodyError::TooLarge(limits.bytes));
        }
        Ok(Err(error)) => return Err(BodyError::BrokenOff(error)),
        Err(_) => return Err(BodyError::Slow(limits.time)),
    };
    Ok(if bytes.starts_with(BYTE_ORDER_MARK) { bytes.slice(BYTE_ORDER_MARK.len()..) } else { bytes })
}

/// Reads bytes as one message.
pub(super) fn parse(bytes: Bytes) -> Result<Received, BodyError> {
    match serde_json::from_slice(&bytes) {
        Ok(message) => Ok(Received { bytes, message }),
        Err(_) => {
            let value: Value = serde_json::from_slice(&bytes).map_err(BodyError::NotJson)?;
            // An id that can't be one of a request's would only be misread.
            let id = value.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64());
            Err(BodyError::NoMessage { id: id.cloned().unwrap_or_default() })
        }
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
    ) -> Result<Received, BodyError> {
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
            assert_eq!(request_id(&received.message), Some("á".into()), "{kind}");
        }
        let marked = [BYTE_ORDER_MARK, PING.as_bytes()].concat();
        let received = sent(&[("content-type", "application/json")], marked).await.expect("a message");
        assert_eq!(received.bytes, PING.as_bytes());
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
        assert_eq!(
            (response.status(), &response.headers()["accept-encoding"]),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, &"identity".parse().expect("a header"))
        );
    }

    #[tokio::test]
    async fn broken_json_is_a_parse_error_and_other_json_no_request() {
        let deep = "[".repeat(200);
        for broken in [
            "".as_bytes(),
            b"{",
            b"nada",
            b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"\\ud83d\"}",
            b"{\"jsonrpc\": \"2.0\", \"id\": 1e999, \"method\": \"ping\"}",
            b"{\"jsonrpc\": \"2.0\", \"id\": \"\xff\", \"method\": \"ping\"}",
            deep.leak().as_bytes(),
        ] {
            let (status, body) = refused(broken).await;
            assert_eq!(
                (status.as_u16(), &body["error"]["code"], &body["id"]),
                (400, &(-32_700).into(), &Value::Null),
                "{body}"
            );
        }
        for (other, id) in [
            ("\"nada\"", Value::Null),
            ("{}", Value::Null),
            ("{\"id\": 7, \"method\": \"ping\"}", 7.into()),
            ("{\"jsonrpc\": \"1.0\", \"id\": \"a\", \"method\": \"ping\"}", "a".into()),
            ("{\"jsonrpc\": \"2.0\", \"id\": {}, \"method\": \"ping\"}", Value::Null),
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
