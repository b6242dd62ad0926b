//! Several messages in one body: the 2025-03-26 revision has such batches, and no other.

use axum::{
    Json,
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use rmcp::model::{ClientRequest, ErrorCode, JsonRpcMessage, ProtocolVersion};
use serde_json::{Value, json, value::RawValue};
use tracing::info;

use super::{
    accept::Readable,
    body::{BodyError, Received, parse},
    guard::refuse,
};

/// Messages a batch may have: each may be a call, and all of them count as one request.
const MAX_MESSAGES: usize = 50;

/// Why a batch is not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(
        "the body is a batch, which sessions of revision 2025-03-26 alone may send; send its messages one by one"
    )]
    OtherRevision,
    #[error("the batch is empty; send at least one message")]
    Empty,
    #[error("the batch has more than {MAX_MESSAGES} messages; send them in several")]
    TooMany,
}

impl IntoResponse for BatchError {
    fn into_response(self) -> Response {
        if let Self::Body(error) = self {
            return error.into_response();
        }
        info!(reason = %self, "request refused");
        refuse(StatusCode::BAD_REQUEST, ErrorCode::INVALID_REQUEST.0, &Value::Null, &self.to_string())
    }
}

/// Whether a body is a batch, as far as its first character tells.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"[")
}

/// The messages of a batch; one that is none is the error it is answered with.
pub(super) fn split(
    bytes: &Bytes,
    version: Option<&ProtocolVersion>,
) -> Result<Vec<Result<Received, Value>>, BatchError> {
    // What RawValue lets pass in a text is no JSON yet.
    let _: Vec<Value> = serde_json::from_slice(bytes).map_err(BodyError::NotJson)?;
    let messages: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(BodyError::NotJson)?;
    if version != Some(&ProtocolVersion::V_2025_03_26) {
        return Err(BatchError::OtherRevision);
    }
    match messages.len() {
        0 => Err(BatchError::Empty),
        1..=MAX_MESSAGES => {
            Ok(messages.into_iter().map(|raw| message(bytes.slice_ref(raw.get().as_bytes()))).collect())
        }
        _ => Err(BatchError::TooMany),
    }
}

fn message(bytes: Bytes) -> Result<Received, Value> {
    let received = parse(bytes).map_err(|error| {
        let id = if let BodyError::NoMessage { id } = &error { id.clone() } else { Value::Null };
        failure(&id, &error.to_string())
    })?;
    match &received.message {
        JsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::InitializeRequest(_)) =>
        {
            let id = serde_json::to_value(&request.id).unwrap_or_default();
            Err(failure(&id, "initialize can't be part of a batch; send it alone"))
        }
        _ => Ok(received),
    }
}

fn failure(id: &Value, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": ErrorCode::INVALID_REQUEST.0, "message": message}})
}

/// What a message of a batch was answered; a notification is answered nothing.
pub(super) async fn answer_in(response: Response) -> Option<Value> {
    // It was made here, and is as large as one answer may be.
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// All the answers at once, in the order of their messages.
pub(super) fn response(answers: Vec<Value>, readable: Readable) -> Response {
    if answers.is_empty() {
        return StatusCode::ACCEPTED.into_response();
    }
    if readable.json {
        return Json(answers).into_response();
    }
    let event = format!("data: {}\n\n", Value::from(answers));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from(event)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVISION: &ProtocolVersion = &ProtocolVersion::V_2025_03_26;

    fn ids(batch: &'static str) -> Vec<Value> {
        let messages = split(&Bytes::from_static(batch.as_bytes()), Some(REVISION)).expect("a batch");
        let id = |message: Result<Received, Value>| match message {
            Ok(received) => super::super::body::request_id(&received.message).unwrap_or("none".into()),
            Err(refusal) => json!({"refused": refusal["id"]}),
        };
        messages.into_iter().map(id).collect()
    }

    #[test]
    fn each_message_is_its_own_and_what_is_none_is_refused_alone() {
        let batch = r#" [{"jsonrpc": "2.0", "id": 1, "method": "ping"},
            {"jsonrpc": "2.0", "method": "notifications/initialized"}, 7, {"id": "a", "method": "ping"},
            {"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {"protocolVersion": "2025-03-26",
             "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}}]"#;
        assert!(is_one(batch.as_bytes()) && !is_one(b" {}"));
        let refused = |id: Value| json!({"refused": id});
        let seen = [json!(1), json!("none"), refused(Value::Null), refused(json!("a")), refused(json!(2))];
        assert_eq!(ids(batch), seen);
    }

    #[test]
    fn other_revisions_empty_and_endless_batches_have_none() {
        let split =
            |batch: &str, version| split(&Bytes::copy_from_slice(batch.as_bytes()), version).map(|_| ());
        let ping = r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#;
        let one = format!("[{ping}]");
        assert!(split(&one, Some(REVISION)).is_ok());
        for version in [None, Some(&ProtocolVersion::V_2025_06_18)] {
            assert!(matches!(split(&one, version), Err(BatchError::OtherRevision)));
        }
        assert!(matches!(split("[]", Some(REVISION)), Err(BatchError::Empty)));
        let many = format!("[{}]", vec![ping; MAX_MESSAGES + 1].join(","));
        assert!(matches!(split(&many, Some(REVISION)), Err(BatchError::TooMany)));
        for broken in ["[1,", "[\"\\ud83d\"]", "[1e999]"] {
            let error = split(broken, Some(REVISION));
            assert!(matches!(error, Err(BatchError::Body(BodyError::NotJson(_)))), "{broken}");
        }
    }
}
