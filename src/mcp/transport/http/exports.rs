//! Files that clients had made, for whoever had them made.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use tokio::{fs::File, io::AsyncReadExt as _};
use uuid::Uuid;

use super::guard::refusal;
use crate::{
    engine::Engine,
    export::file_name,
    mcp::{Reveals, export::reader, next_step::worded, principal::Principal},
};

/// Bytes read of a file at a time.
const CHUNK: usize = 64 << 10;

/// What files are given by.
pub(super) struct Downloads {
    pub(super) engine: Arc<Engine>,
    pub(super) reveals: Box<dyn Reveals>,
}

/// One file, as it lies on the disk.
pub(super) async fn download(
    State(downloads): State<Arc<Downloads>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Response {
    let reader = reader(&principal, downloads.reveals.reveals_exports_to(&principal));
    let found = match Uuid::parse_str(&id) {
        Ok(id) => downloads.engine.exports.open(id, &reader).await,
        Err(_) => Ok(None),
    };
    let (kept, file) = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            return refusal(
                StatusCode::NOT_FOUND,
                "there is no such export: it has expired, a person was erased since, or it is another client's",
            );
        }
        Err(error) => {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &error.remark().worded(worded));
        }
    };
    // The name is of this program's words and digits.
    let disposition = format!("attachment; filename=\"{}\"", file_name(&kept));
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kept.format.mime_type())),
        (
            header::CONTENT_DISPOSITION,
            disposition.parse().unwrap_or_else(|_| HeaderValue::from_static("attachment")),
        ),
        (header::CONTENT_LENGTH, kept.bytes.into()),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let chunks = futures::stream::try_unfold(File::from_std(file), async |mut file| {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = file.read_buf(&mut chunk).await?;
        Ok::<_, std::io::Error>((read > 0).then(|| (chunk.freeze(), file)))
    });
    (headers, Body::from_stream(chunks)).into_response()
}
