//! Several messages in one body: the 2025-03-26 revision has such batches, and no other.

use axum::{
    Json,
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use rmcp::model::{ErrorCode, ProtocolVersion};
use serde_json::Value;

use super::accept::Readable;
use crate::mcp::transport::message::Refusal;

/// Says so where a session's revision knows no batches.
///
/// # Errors
/// When it does not.
pub(super) fn are_known(revision: Option<&ProtocolVersion>) -> Result<(), Refusal> {
    if revision == Some(&ProtocolVersion::V_2025_03_26) {
        return Ok(());
    }
    let problem = "the body is a batch, which sessions of revision 2025-03-26 alone may send; send each message by itself";
    Err(Refusal::new(ErrorCode::INVALID_REQUEST, problem))
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
