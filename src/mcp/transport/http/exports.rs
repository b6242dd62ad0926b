//! Files that clients had made, for whoever had them made.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use tokio::{fs::File, io::AsyncReadExt as _};
use uuid::Uuid;

use super::{authenticator::SEC_FETCH_SITE, guard::refusal};
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

/// Who opens a link by hand, where nobody needs a token, is whoever had the file made at this address: no page sends
/// such a request.
fn opened_by(principal: Principal, headers: &HeaderMap) -> Principal {
    let is_by_hand = headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "none")
        && !headers.contains_key(header::ORIGIN);
    match principal {
        Principal::Page(address) if is_by_hand => Principal::Peer(address),
        other => other,
    }
}

/// One file, as it lies on the disk.
pub(super) async fn download(
    State(downloads): State<Arc<Downloads>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let principal = opened_by(principal, &headers);
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
    let described: [(HeaderName, HeaderValue); 5] = [
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
    (described, Body::from_stream(chunks)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opened_by_hand_is_its_maker_s_and_one_that_a_page_follows_is_not() {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let opened = |headers: &[(HeaderName, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            opened_by(Principal::Page(address), &headers.collect())
        };
        assert_eq!(opened(&[(SEC_FETCH_SITE, "none")]), Principal::Peer(address));
        for headers in [
            [(SEC_FETCH_SITE, "same-origin")].as_slice(),
            &[(header::ORIGIN, "http://localhost:5173")],
            &[(SEC_FETCH_SITE, "none"), (header::ORIGIN, "http://localhost:5173")],
        ] {
            assert_eq!(opened(headers), Principal::Page(address), "{headers:?}");
        }
        let token = Principal::Token("vendas".into());
        assert_eq!(opened_by(token.clone(), &HeaderMap::new()), token);
    }
}
